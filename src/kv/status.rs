//! A node's account of itself.

use crate::types::{Ballot, Slot};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for promises.
    Candidate,
    /// Proposes.
    Leader,
}

/// A node's account of itself, for `distkv status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node asked.
    pub node: u8,
    /// Its role.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<u8>,
    /// The highest ballot it promised.
    pub ballot: Ballot,
    /// Every slot up to here is known to be chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The last slot with an accepted value.
    pub last: Slot,
    /// Keys it holds.
    pub keys: u64,
    /// Sessions it holds.
    pub sessions: u64,
    /// Bytes of live user data (keys and values).
    pub live_bytes: u64,
    /// Restarts of this data directory.
    pub boot: u64,
    /// What a leader knows of its peers.
    pub peers: Vec<PeerStatus>,
    /// Values rebuilt for reads or catch-up since start.
    pub rebuilt_count: u64,
    /// Datagrams that were no messages since start.
    pub garbage_count: u64,
    /// Elections that this node has won since start.
    pub elections_won: u64,
    /// Campaigns that it has started since start: many more than are won is a ballot race.
    pub campaigns: u64,
    /// Free space is below the reserve.
    pub disk_full: bool,
    /// The configuration epoch in force.
    pub epoch: u64,
    /// Its policy.
    pub policy: String,
    /// The code of its values.
    pub code: String,
    /// `hybrid` sends full copies of values shorter than this.
    pub hybrid_bytes: u32,
    /// The members in force, in the order of their shards' homes.
    pub members: Vec<MemberStatus>,
    /// The change of members under way.
    pub change: Option<ChangeStatus>,
    /// A leader: any prepare quorum has a node that knows durably who the members are.
    pub settled: bool,
    /// What the node is to the cluster.
    pub standing: Standing,
    /// Nodes that refuse this one: its id belongs to another data directory.
    pub refused_by: Vec<u8>,
    /// Its index snapshots, and what it does for its shards.
    pub storage: StorageStatus,
}

/// A member, or a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its id.
    pub node: u8,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A change of members under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStatus {
    /// The newcomer, which learns.
    pub joins: Option<MemberStatus>,
    /// Who is to go.
    pub leaves: Option<u8>,
    /// The code of new values after it.
    pub code: String,
}

/// What a node is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has a vote.
    Member,
    /// It learns, to be a member.
    Newcomer,
    /// The log does not name it yet.
    Unknown,
    /// It left, or was given up: its id is refused for ever.
    Removed,
}

/// A node's account of its index snapshots and of the shards that it looks after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Its latest durable index snapshot is of this slot; zero for none.
    pub snapshot: Slot,
    /// Slots up to here may be reclaimed.
    pub floor: Slot,
    /// Slots forgotten since start.
    pub reclaimed_count: u64,
    /// Index snapshots taken in from peers since start.
    pub restored_count: u64,
    /// An index snapshot that it fetches: parts received, and how many there are (0: not known yet).
    pub restoring: Option<(u32, u32)>,
    /// Shards recorded anew after an index snapshot: keys looked at, and how many there are.
    pub repairing: Option<(u64, u64)>,
    /// Whole passes of the scrub over all keys since start.
    pub scrub_passes: u64,
    /// Values whose shards were read and verified since start.
    pub scrubbed_count: u64,
    /// Values whose shards were recorded anew since start.
    pub repaired_count: u64,
    /// Values whose shards the last pass could not record anew: too few nodes had any, or answered.
    pub unrebuilt_count: u64,
    /// The first of their keys, escaped.
    pub unrebuilt_keys: Vec<String>,
}

/// What a leader knows of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub node: u8,
    /// Heard from within the failure timeout.
    pub alive: bool,
    /// The last slot it said it applied.
    pub applied: Slot,
    /// It said that its shards of everything up to here are durable; told while members change.
    pub durable: Slot,
}
