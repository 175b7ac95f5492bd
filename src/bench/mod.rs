//! bench: to come.
