//! Experiments: their files, their expansion to trials, and the runner.
//!
//! Does not start a cluster (that is a [`trial::TrialLauncher`]) and draws nothing (that is
//! [`crate::report`]).

mod bed;
pub mod calibrate;
mod capacity;
pub mod codec;
mod external;
pub mod failover;
pub mod faults;
pub mod guard;
pub mod launch;
mod loads;
mod measured;
mod plain;
mod processes;
mod progress;
pub mod provenance;
mod repair;
pub mod runner;
mod simulated;
pub mod source;
pub mod spec;
pub mod stores;
pub mod trial;

pub use spec::{Experiment, SpecError};
pub use stores::{ExternalStore, StoreError, StoreKind};
pub use trial::{
    CancelFlag, Trial, TrialConfig, TrialError, TrialKind, TrialLauncher, TrialOutcome,
};
