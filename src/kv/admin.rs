//! What an operator may ask of the leader while the cluster runs.

use crate::config::Policy;
use crate::types::Code;
use serde::{Deserialize, Serialize};

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admin {
    /// A new configuration epoch with this policy and code (rule 11): answered when it is in force
    /// on the leader. Values written before keep their codes.
    Policy {
        /// The policy of new values.
        policy: Policy,
        /// Their data shards.
        k: u8,
        /// Their parity shards.
        m: u8,
        /// `hybrid` sends full copies of values shorter than this; none leaves it as it is.
        hybrid_bytes: Option<u32>,
    },
    /// Hand the leadership over: answered when it is under way.
    Transfer {
        /// The node that is to lead.
        to: u8,
    },
}

impl Admin {
    /// The code asked for, if it can be.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Policy { k, m, .. } => Code::new(*k, *m).ok(),
            Self::Transfer { .. } => None,
        }
    }
}
