//! A real node: the replica machine under tokio, with its socket and disk; and clusters of them.
//!
//! [`run`] is one process's loop, [`launcher`] starts several on this machine. What a node decides is
//! in [`crate::replica`]; here are only the socket, the log, the clock and the signals.

pub mod clock;
pub mod control;
pub mod launcher;
mod log;
pub mod process;
mod report;
mod server;
pub mod socket;
pub mod tables;
pub mod timer;

pub use log::{LogFailure, LogReport};
pub use report::{NodeReport, REPORT_FILE, ReportError};
pub use server::{NodeError, NodeOptions, run};
