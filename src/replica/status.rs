//! A replica's account of itself.

use super::Replica;
use crate::kv::{NodeStatus, PeerStatus, Role};
use crate::paxos::RoleName;
use crate::time::Instant;

impl Replica {
    /// The node's account of itself.
    #[must_use]
    pub fn status(&self, _now: Instant) -> NodeStatus {
        let members = &self.config.cluster.members;
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
                    node: members[usize::from(peer.rank)].id.0,
                    alive: peer.is_alive,
                    applied: peer.applied,
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
            storage: self.storage_status(),
        }
    }

    /// Does it take itself for the leader?
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.paxos.role() == RoleName::Leader
    }
}
