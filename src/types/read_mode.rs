//! What a read promises.

use serde::{Deserialize, Serialize};

/// What a read promises (DESIGN 3.4).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReadMode {
    /// By the leader, once more than N - Q1 nodes have confirmed it.
    #[default]
    Linearizable,
    /// By the leader alone while it holds a lease; otherwise as linearizable.
    Lease,
    /// By any node from what it has applied; monotonic for each client.
    Eventual,
}

impl ReadMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linearizable, Self::Lease, Self::Eventual];

    /// Its name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Lease => "lease",
            Self::Eventual => "eventual",
        }
    }
}

impl std::str::FromStr for ReadMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("read mode '{text}' is none of {names}")
        })
    }
}

impl std::fmt::Display for ReadMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
