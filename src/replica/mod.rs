//! replica: to come.
