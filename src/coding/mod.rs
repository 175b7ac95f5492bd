//! coding: to come.
