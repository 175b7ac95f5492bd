//! The policies and their quorums: which code, which prepare quorum, what is refused (DESIGN 3.1).
//!
//! A policy picks code and assignment for each value. It has no rule of its own for when a value is
//! chosen: that follows from the prepare quorum Q1 and k, for all of them alike. Source: RS-Paxos
//! (HPDC'14), CRaft (FAST'20), Crossword (NSDI'26).

use super::ConfigError;
use crate::types::Code;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The rule that picks code and assignment for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Full copies, majorities.
    Replicate,
    /// One shard per node, a larger prepare quorum, tolerates floor((N-k)/2).
    RsPaxos,
    /// One shard per node, majority prepare quorum, full copies when too few nodes are alive.
    Craft,
    /// k = F + 1, majority prepare quorum, c consecutive shards per node: c for each value from its
    /// size and the measured links, more when nodes fail.
    Crossword,
    /// Full copies of values below a size, else as `craft`.
    Hybrid,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Replicate, Self::RsPaxos, Self::Craft, Self::Crossword, Self::Hybrid];

    /// Its name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Replicate => "replicate",
            Self::RsPaxos => "rs-paxos",
            Self::Craft => "craft",
            Self::Crossword => "crossword",
            Self::Hybrid => "hybrid",
        }
    }

    /// May a node be sent more than its home shard, so that fewer nodes suffice?
    #[must_use]
    pub const fn grows_assignments(self) -> bool {
        match self {
            Self::Craft | Self::Crossword | Self::Hybrid => true,
            Self::Replicate | Self::RsPaxos => false,
        }
    }

    /// The largest k that this policy can work with in a cluster of `nodes`, and a good default.
    #[must_use]
    pub const fn default_k(self, nodes: u32) -> u32 {
        match self {
            Self::Replicate => 1,
            Self::RsPaxos | Self::Craft | Self::Crossword | Self::Hybrid => failures(nodes) + 1,
        }
    }
}

/// The code that a cluster of `nodes` gets when nobody asks for one: k stays if the policy can have
/// it, so that old values and new ones need as many nodes.
///
/// # Errors
/// [`ConfigError`] when there is none.
pub fn default_code(policy: Policy, k: u8, nodes: u8) -> Result<Code, ConfigError> {
    let largest = u8::try_from(policy.default_k(u32::from(nodes))).unwrap_or(u8::MAX);
    let k = match policy {
        Policy::Replicate => 1,
        Policy::Crossword => largest,
        Policy::RsPaxos => k.min(nodes),
        Policy::Craft | Policy::Hybrid => k.min(largest),
    };
    Code::new(k, nodes.saturating_sub(k))
        .map_err(|error| ConfigError::Value { key: "code", problem: error.to_string() })
}

/// F: the failures that majorities tolerate.
const fn failures(nodes: u32) -> u32 {
    nodes.saturating_sub(1) / 2
}

/// Sizes of the quorums of a configuration epoch (DESIGN 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quorums {
    /// Nodes, N.
    pub nodes: u32,
    /// Prepare quorum, Q1.
    pub prepare: u32,
    /// Acks of single shards that choose a value.
    pub accept: u32,
    /// Nodes that must be alive to make progress, in the policy's best fallback.
    pub working: u32,
    /// Failures tolerated.
    pub tolerated: u32,
}

impl Quorums {
    /// Of `policy` with `code` in a cluster of `nodes`.
    #[must_use]
    pub fn of(policy: Policy, code: Code, nodes: u32) -> Self {
        let majority = nodes / 2 + 1;
        let k = u32::from(code.k());
        let prepare = match policy {
            Policy::Replicate | Policy::Craft | Policy::Crossword | Policy::Hybrid => majority,
            Policy::RsPaxos => (nodes + k).div_ceil(2),
        };
        // After any N - Q1 of the acceptors are gone, k single shards are left.
        let accept = k + nodes.saturating_sub(prepare);
        let working = if policy.grows_assignments() { majority } else { prepare.max(accept) };
        Self { nodes, prepare, accept, working, tolerated: nodes.saturating_sub(working) }
    }

    /// Acknowledgements that choose a value of `k` when every node is sent `c` consecutive shards
    /// from its home: any a of them cover at least a + c - 1, and N - Q1 may be taken away.
    #[must_use]
    pub const fn acks_needed(&self, k: u32, c: u32) -> u32 {
        self.nodes - self.prepare + 1 + k.saturating_sub(c)
    }
}

/// Refuses what cannot be met safely, with the inequality that fails.
pub(super) fn check(policy: Policy, code: Code, nodes: u32) -> Result<(), ConfigError> {
    let (k, q) = (u32::from(code.k()), Quorums::of(policy, code, nodes));
    let f = failures(nodes);
    let unsafe_because =
        |inequality: String, advice: String| Err(ConfigError::Unsafe { inequality, advice });
    match policy {
        Policy::Replicate => Ok(()),
        Policy::RsPaxos if q.prepare + q.accept < q.nodes + k || q.accept > q.nodes => {
            unsafe_because(
                format!("Q1 + Q2 - N >= k fails: {} + {} - {nodes} < {k}", q.prepare, q.accept),
                "use a smaller k".to_owned(),
            )
        }
        Policy::Craft | Policy::Hybrid if k > f + 1 => unsafe_because(
            format!("{policy} needs k <= F + 1: {k} > {f} + 1 with N = {nodes}"),
            format!("use k = {} or the policy rs-paxos", f + 1),
        ),
        Policy::Crossword if k != f + 1 => unsafe_because(
            format!("crossword needs k = F + 1: {k} is not {f} + 1 with N = {nodes}"),
            format!("use the code {}+{} or the policy craft", f + 1, nodes - f - 1),
        ),
        Policy::RsPaxos | Policy::Craft | Policy::Crossword | Policy::Hybrid => Ok(()),
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            ConfigError::Value { key: "policy", problem: format!("'{text}' is none of {names}") }
        })
    }
}
