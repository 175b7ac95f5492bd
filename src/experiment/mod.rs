//! experiment: to come.
