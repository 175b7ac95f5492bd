//! netem: to come.
