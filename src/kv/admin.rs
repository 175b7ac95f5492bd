//! What an operator may ask of the leader while the cluster runs.

use crate::config::Policy;
use crate::types::Code;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

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
    /// A change of the members: answered when the newcomer is known to the log. It ends by itself when
    /// the newcomer has learnt everything; `NodeStatus` says when that is.
    Change {
        /// The newcomer: its id and address.
        joins: Option<(u8, SocketAddr)>,
        /// The member that is to go.
        leaves: Option<u8>,
        /// Data shards of new values after it.
        k: u8,
        /// Their parity shards.
        m: u8,
    },
    /// Give the change of members under way up.
    CancelChange,
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
            Self::Policy { k, m, .. } | Self::Change { k, m, .. } => Code::new(*k, *m).ok(),
            Self::Transfer { .. } | Self::CancelChange => None,
        }
    }
}
