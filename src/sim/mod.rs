//! Whole clusters in virtual time, from one seed: the same replicas, clients, logs and transport as
//! in real processes, over an emulated network and a disk that can lose what was not synced.
//!
//! A seed draws a scenario (cluster, load, network, faults), runs it, ends all faults, lets every
//! client finish, reads every key, and checks the whole history from outside: agreement on every
//! slot, nothing acknowledged lost, linearizability, exactly-once, progress after healing. The same
//! seed gives the same trace hash. Source: FoundationDB's and TigerBeetle's simulators; DESIGN 6.

mod faults;
mod node;
mod operator;
mod scenario;
#[cfg(test)]
mod tests;
mod totals;
mod world;

pub use scenario::{Fault, Plant, Scenario};
pub use totals::Totals;
pub use world::{Failure, TraceSink, run, run_scenario};
