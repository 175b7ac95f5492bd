//! A replica's account of itself.

use super::{CodingTimes, Replica, StageTimes, Stopwatch};
use crate::config::{Configuration, Seat};
use crate::kv::{ChangeStatus, MemberStatus, NodeStatus, PeerStatus, Role, Standing};
use crate::paxos::{self, RoleName};
use crate::time::Instant;
use crate::transport::TransportStats;
use crate::types::{Ballot, NodeId, Slot, Writer};

impl Replica {
    /// Counters of the transport.
    #[must_use]
    pub fn transport_stats(&self) -> TransportStats {
        self.transport.stats()
    }

    /// Hits and misses of the cache of decoded values.
    #[must_use]
    pub const fn cache_counts(&self) -> (u64, u64) {
        self.cache.counts()
    }

    /// Measures where the time of writes goes, by `stopwatch` and the driver's `now`.
    pub fn measure_stages(&mut self, stopwatch: Stopwatch) {
        self.stages.stopwatch = Some(stopwatch);
        self.paxos.set_stopwatch(stopwatch);
    }

    /// Where the time of the writes went that this node answered; zero unless it is measured.
    #[must_use]
    pub const fn stage_times(&self) -> StageTimes {
        self.stages.times()
    }

    /// Work of the coders; the times are zero unless stages are measured.
    #[must_use]
    pub const fn coding_times(&self) -> CodingTimes {
        self.paxos.coding_times()
    }

    /// Does a peer fetch this node's index snapshot? No other is taken meanwhile.
    #[must_use]
    pub fn is_serving_index(&self, now: Instant) -> bool {
        self.paxos.is_serving_index(now)
    }

    /// Elections that this node has won since its start.
    #[must_use]
    pub fn elections_won(&self) -> u64 {
        self.paxos.elections_won()
    }

    /// A digest of all that was applied (slots, commands, their results), equal on all nodes that
    /// have applied the same slots; with the last of them.
    #[must_use]
    pub const fn state_digest(&self) -> (Slot, u64) {
        (self.state.applied(), self.state.digest())
    }

    /// All that was applied as bytes, equal on all nodes that have applied the same slots.
    #[must_use]
    pub fn state_image(&self) -> Vec<u8> {
        let mut to = Writer::new();
        self.state.write_image(&mut to);
        to.finish().concat()
    }

    /// Every slot up to here is chosen, as far as it knows.
    #[must_use]
    pub fn commit(&self) -> Slot {
        self.paxos.commit()
    }

    /// The node's account of itself.
    #[must_use]
    pub fn status(&self, _now: Instant) -> NodeStatus {
        let configuration = self.paxos.configuration();
        let member = |seat: &Seat| MemberStatus { node: seat.id.0, address: seat.address };
        let epoch = self.paxos.epoch();
        NodeStatus {
            node: self.config.node.0,
            role: match self.paxos.role() {
                RoleName::Follower => Role::Follower,
                RoleName::Candidate => Role::Candidate,
                RoleName::Leader => Role::Leader,
            },
            leader: self.paxos.leader().map(|node| node.0),
            ballot: self.paxos.promised(),
            chosen: self.paxos.commit(),
            applied: self.state.applied(),
            last: self.paxos.last(),
            keys: self.state.key_count(),
            sessions: self.state.session_count(),
            live_bytes: self.state.live_bytes(),
            boot: self.boot,
            peers: self
                .paxos
                .peers()
                .into_iter()
                .map(|peer| PeerStatus {
                    node: peer.node,
                    alive: peer.is_alive,
                    applied: peer.applied,
                    durable: peer.durable,
                })
                .collect(),
            rebuilt_count: self.paxos.rebuilt_count(),
            garbage_count: self.garbage_count + self.transport.stats().garbage_datagrams,
            elections_won: self.paxos.elections_won(),
            campaigns: self.paxos.campaigns(),
            disk_full: self.is_low,
            epoch: epoch.epoch.0,
            policy: epoch.policy.to_string(),
            code: epoch.code.to_string(),
            hybrid_bytes: epoch.hybrid_bytes,
            members: configuration.members.iter().map(member).collect(),
            change: configuration.change.map(|change| ChangeStatus {
                joins: change.joins.as_ref().map(member),
                leaves: change.leaves.map(|node| node.0),
                code: change.code.to_string(),
            }),
            settled: self.paxos.is_settled(),
            standing: match self.paxos.standing() {
                paxos::Standing::Member => Standing::Member,
                paxos::Standing::Newcomer => Standing::Newcomer,
                paxos::Standing::Unknown => Standing::Unknown,
                paxos::Standing::Removed => Standing::Removed,
            },
            refused_by: self
                .refused_by
                .iter()
                .filter_map(|(node, is_last)| is_last.then_some(*node))
                .collect(),
            storage: self.storage_status(),
        }
    }

    /// The members that it goes by, with the change under way.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.paxos.configuration()
    }

    /// A leader: does any prepare quorum have a node that knows durably who the members are?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.paxos.is_settled()
    }

    /// What it is to the cluster.
    #[must_use]
    pub fn standing(&self) -> paxos::Standing {
        self.paxos.standing()
    }

    /// The highest ballot it promised.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.paxos.promised()
    }

    /// Does it take itself for the leader?
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.paxos.role() == RoleName::Leader
    }

    /// Does it know the data directory of `node`, so that it refuses another one?
    #[must_use]
    pub fn has_met(&self, node: NodeId) -> bool {
        self.paxos.incarnation(node).is_some()
    }

    /// Does the entry by which it became a member name the data directory of `node`? Then it has no
    /// vote while it does not know that directory.
    #[must_use]
    pub fn joined_knowing(&self, node: NodeId) -> bool {
        self.paxos.joined_knowing(node)
    }

    /// See [`paxos::Paxos::reach`].
    #[must_use]
    pub fn reach(&self) -> paxos::Reach {
        self.paxos.reach()
    }

    /// See [`paxos::Paxos::counts`].
    #[must_use]
    pub fn counts(&self, node: NodeId, reach: paxos::Reach) -> bool {
        self.paxos.counts(node.0, reach)
    }
}
