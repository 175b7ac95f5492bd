//! storage: to come.
