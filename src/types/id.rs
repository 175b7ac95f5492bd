//! Ids: nodes, ballots, slots, value ids and configuration epochs.

use super::{DecodeError, Reader, Writer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A replica process, 0..32. Its place in the sorted membership is the home of its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u8);

/// (round, node), totally ordered; names one leadership. `Ballot::ZERO` is below all real ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Rises with every candidacy.
    pub round: u64,
    /// The candidate, which makes equal rounds distinct.
    pub node: u8,
}

impl Ballot {
    /// Below every ballot that a candidate uses.
    pub const ZERO: Self = Self { round: 0, node: 0 };

    /// The candidate whose ballot it is.
    #[must_use]
    pub const fn owner(self) -> NodeId {
        NodeId(self.node)
    }

    /// Its encoding, the same on the wire and on disk.
    pub fn write(self, to: &mut Writer) {
        to.u64(self.round);
        to.u8(self.node);
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or the node is 32 or more.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let round = from.counter("ballot round")?;
        let node = from.u8("ballot node")?;
        if node >= 32 || round == u64::MAX {
            return Err(DecodeError::Invalid { field: "ballot", value: u64::from(node) });
        }
        Ok(Self { round, node })
    }

    /// The lowest ballot of `node` above `self`.
    #[must_use]
    pub const fn next_for(self, node: NodeId) -> Self {
        Self { round: self.round + 1, node: node.0 }
    }
}

/// Index of a log position, from 1. Slot 0 is "before the log".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

impl Slot {
    /// Before the log.
    pub const ZERO: Self = Self(0);

    /// The slot after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Identity of a proposed value; it never changes when a later leader re-proposes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueId {
    /// The ballot that first proposed it.
    pub origin: Ballot,
    /// The slot it was proposed for.
    pub slot: Slot,
}

/// Configuration epoch: policy, code, Q1 and membership belong to it (rule 11).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl ValueId {
    /// Its encoding, the same on the wire and on disk.
    pub fn write(self, to: &mut Writer) {
        self.origin.write(to);
        to.u64(self.slot.0);
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or cannot be.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { origin: Ballot::read(from)?, slot: Slot(from.counter("slot")?) })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.n{}", self.round, self.node)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.slot, self.origin)
    }
}
