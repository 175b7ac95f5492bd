//! The cluster's configuration: who the nodes are, the code, the policy and every bound.
//!
//! Parsed once from TOML into a [`ClusterConfig`] that cannot be unsafe: duplicate ids or addresses,
//! a code that does not fit N, a quorum inequality that fails and unknown keys are refused with a
//! text that says what to change. It knows no protocol beyond the quorum arithmetic of DESIGN 3.1.

mod cluster;
mod epoch;
mod epochs;
mod error;
mod limits;
mod membership;
mod policy;

pub use cluster::{ClusterConfig, Member};
pub use epoch::EpochConfig;
pub use epochs::Epochs;
pub use error::ConfigError;
pub use limits::{Limits, Timing};
pub use membership::{Change, ChangeError, Configuration, Seat};
pub use policy::{Policy, Quorums, default_code};
