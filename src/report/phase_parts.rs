//! Smaller parts of a phase's result. All but events are optional in files: older results lack them.

use serde::{Deserialize, Serialize};

/// Who led, and in which round of ballots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leadership {
    /// The node.
    pub node: u32,
    /// The round of its ballot: another one is another election.
    pub round: u64,
}

/// One load that a search for a capacity offered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What was offered.
    pub load_ops_per_s: f64,
    /// Did it hold the objective?
    pub held: bool,
    /// Why not; empty when it did.
    pub reason: String,
    /// 99th percentile from due time, of the slowest kind of operation.
    pub p99_us: u64,
}

/// One kind of operation in one interval of a time line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineKind {
    /// Operations that failed or timed out.
    pub errors: u64,
    /// Median latency, 0 when none succeeded.
    pub p50_us: u64,
    /// 99th percentile, 0 when none succeeded.
    pub p99_us: u64,
}

/// Something done to the cluster during a phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineEvent {
    /// When, since the phase's start.
    pub at_ms: u64,
    /// What: `kill leader`, `restart n2`, `rate 50 Mbit/s`, `heal`.
    pub name: String,
}

/// Left out of files, so that they are as before there was such a count.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}
