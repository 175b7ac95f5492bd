//! client: to come.
