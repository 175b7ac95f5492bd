//! kv: to come.
