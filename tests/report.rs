//! Figures and the report, from results that this test makes up; nothing is run.
//!
//! `DISTKV_KEEP_FIGURES=DIR cargo test --test report` leaves what was drawn in DIR, to be looked at.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::disallowed_methods)]

#[path = "report/browser.rs"]
mod browser;
#[path = "report/figures.rs"]
mod figures;
#[path = "report/hlog.rs"]
mod hlog;
#[path = "report/latex.rs"]
mod latex;
#[path = "report/synthetic.rs"]
mod synthetic;
