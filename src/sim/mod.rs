//! Whole clusters in virtual time, from one seed: the same replicas, clients, logs and transport as
//! in real processes, over an emulated network and a disk that can lose what was not synced.
//!
//! A seed draws a scenario (cluster, load, network, clocks, faults), runs it, ends all faults, lets
//! every client finish, reads every key, and checks the whole history from outside: agreement on
//! every slot, nothing acknowledged lost, linearizability, exactly-once, progress after healing. The
//! same seed gives the same trace hash. Source: FoundationDB's and TigerBeetle's simulators; DESIGN
//! 6; `docs/simulator.md`.

mod agreed;
mod checks;
mod claims;
mod clock;
mod draw;
mod fault;
mod faults;
mod load;
mod lost;
mod members;
mod moments;
mod node;
mod operator;
mod rot;
mod scenario;
mod shrink;
mod stage;
#[cfg(test)]
mod tests;
pub mod timed;
mod totals;
mod widen;
mod world;

pub use clock::ClockSetting;
pub use fault::{Act, Damage, Fault, Moment, Shape};
pub use scenario::{Plant, Scenario, ScenarioError, ScenarioFile};
pub use shrink::{Shrunk, failure_kind, shrink};
pub use stage::{Missing, Way};
pub use totals::Totals;
pub use world::{run, run_scenario};

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
}

/// Takes the lines of a readable trace, as they happen.
pub type TraceSink = Box<dyn FnMut(&str)>;
