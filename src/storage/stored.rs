//! What the log gives back: at start-up ([`Recovered`]) and when read ([`StoredValue`]).

use crate::types::{Ballot, Bytes, NodeId, Shard, ShardSet, Slot, ValueMeta};
use std::collections::BTreeMap;

/// Everything that a node's log still says at start-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Starts of this data directory, this one included: from 1.
    pub boot: u64,
    /// Random name given to the data directory at its creation (rule 12).
    pub incarnation: u64,
    /// The highest ballot promised.
    pub promised: Ballot,
    /// Every slot up to here is chosen and stored here as chosen, or covered by `index`.
    pub chosen: Slot,
    /// Records of slots up to here may be gone, and older ones of other values may be left.
    pub floor: Slot,
    /// The latest index snapshot, when it is whole and not below `floor`. With a floor and without
    /// one this node's state is lost; its promises and its accepted slots above the floor are not.
    pub index: Option<IndexSnapshot>,
    /// The latest value per slot, slots ascending.
    pub entries: Vec<RecoveredEntry>,
    /// Slots whose record was damaged: "accepted, faulty" (rule 13).
    pub faulty: Vec<Slot>,
    /// A damaged record whose slot cannot be read: every slot above `chosen` is faulty.
    pub unknown_damage: bool,
    /// Incarnations first met per peer.
    pub peers: BTreeMap<NodeId, u64>,
}

/// An index snapshot as it was given to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSnapshot {
    /// Of the last command in it.
    pub slot: Slot,
    /// Its parts, one after the other.
    pub bytes: Bytes,
}

/// One slot at start-up, without its shards' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredEntry {
    /// The ballot of acceptance.
    pub ballot: Ballot,
    /// The value.
    pub meta: ValueMeta,
    /// The shards recorded (their bytes are verified when they are read).
    pub shards: ShardSet,
}

/// One slot as read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// The ballot of acceptance.
    pub ballot: Ballot,
    /// The value.
    pub meta: ValueMeta,
    /// Shards whose digests match, index ascending.
    pub shards: Vec<Shard>,
    /// Shards that were recorded and whose bytes are damaged or gone.
    pub damaged: ShardSet,
}

/// When an append counts as durable. Named in every result.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Answered only after fdatasync.
    #[default]
    Sync,
    /// Answered when the operating system has it: survives a process crash, not a power loss.
    Os,
    /// Nothing is kept over a restart.
    Memory,
}
