//! The proposer while it leads: slots in flight, who holds what of them, commits, confirmations.
//!
//! The policy picks code and assignment; an assignment grows while a value is in flight when too few
//! nodes are alive for it (rule 7). That steers what is sent, never what counts (rule 8):
//! [`super::choice::is_chosen`] alone decides, by the Q1 of the epoch that the leader proposes in.
//! After a configuration nothing is proposed before it is applied (rule 11).

use super::choice::is_chosen;
use super::lease::Sent;
use super::links::Links;
use super::message::{Ack, Message, ShardedValue};
use super::policy::{View, grown, wanted};
use super::promise::Recovered;
use super::{Paxos, Role};
use crate::config::EpochConfig;
use crate::mutant::{Mutant, breaks, is_any};
use crate::time::Instant;
use crate::types::{Ballot, NodeSet, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::collections::{BTreeMap, VecDeque};

/// A leadership.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) ballot: Ballot,
    pub(super) next_slot: Slot,
    /// Every slot up to here is chosen.
    pub(super) commit: Slot,
    /// Proposed slots above `commit`.
    pub(super) in_flight: BTreeMap<Slot, Proposal>,
    pub(super) in_flight_bytes: usize,
    /// No read is served before this slot is applied (3.4).
    pub(super) recovered_until: Slot,
    pub(super) peers: Vec<Peer>,
    /// Of the last heartbeat sent.
    pub(super) sequence: u64,
    pub(super) is_heartbeat_due: bool,
    pub(super) heartbeat_at: Instant,
    /// In force for what is proposed.
    pub(super) epoch: EpochConfig,
    /// A configuration in flight: nothing is proposed before it is applied.
    pub(super) barrier: Option<Slot>,
    /// Decided by phase 1 for the slots from `next_slot` on, and behind the barrier.
    pub(super) recovered: VecDeque<Recovered>,
    pub(super) links: Links,
    /// Being handed over to this rank, until then.
    pub(super) transfer: Option<(u8, Instant)>,
    pub(super) sent: Sent,
}

/// What the leader knows of one node; its own place is there too and unused.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) heard: Instant,
    pub(super) is_alive: bool,
    pub(super) applied: Slot,
    pub(super) is_low: bool,
    pub(super) confirmed: u64,
    /// Accept entries that wait to be sent, and their bytes.
    pub(super) outgoing: Vec<ShardedValue>,
}

/// One proposed slot.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) meta: ValueMeta,
    pub(super) shards: Vec<Shard>,
    /// By rank: durable shards.
    pub(super) acks: Vec<ShardSet>,
    /// Shards that each node is sent; it only grows.
    pub(super) c: u8,
    pub(super) proposed_at: Instant,
    /// When it is sent again to whoever has not acknowledged it.
    pub(super) send_again_at: Instant,
    /// How often that has happened.
    pub(super) tries: u32,
    pub(super) is_chosen: bool,
}

/// What is sent again, and to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// What is overdue, to all.
    Overdue,
    /// Everything, to all: the assignment has changed.
    Everything,
    /// Everything, to these ranks: they were dead, or run anew.
    To(NodeSet),
}

impl Proposal {
    /// For a mutant alone: has every node that seems alive acknowledged it?
    fn is_everywhere(&self, peers: &[Peer]) -> bool {
        let mut acks = self.acks.iter().zip(peers);
        acks.all(|(held, peer)| !held.is_empty() || !peer.is_alive)
    }
}

impl Leader {
    pub(super) fn is_in_flight_full(
        &self,
        slots_max: usize,
        bytes_max: usize,
        bytes: usize,
    ) -> bool {
        self.in_flight.len() >= slots_max
            || (!self.in_flight.is_empty() && self.in_flight_bytes + bytes > bytes_max)
    }

    /// The newest heartbeat that more than `away` = N - Q1 nodes, itself included, have answered.
    fn confirmed(&self, rank: u8, away: u32) -> u64 {
        let mut others: Vec<u64> = self
            .peers
            .iter()
            .zip(0_u8..)
            .filter(|(_, of)| *of != rank)
            .map(|(peer, _)| peer.confirmed)
            .collect();
        if away == 0 {
            return self.sequence;
        }
        others.sort_unstable_by(|a, b| b.cmp(a));
        others.get(away as usize - 1).copied().unwrap_or(0)
    }

    /// May anything new be proposed: nothing recovered waits, no configuration is in flight, the
    /// leadership is not being handed over?
    pub(super) fn is_open(&self) -> bool {
        self.barrier.is_none() && self.recovered.is_empty() && self.transfer.is_none()
    }

    /// Gives what is in flight the assignment that the nodes alive need. True when any has grown.
    fn grow_assignments(&mut self) -> bool {
        let view = self.view();
        let grown: Vec<(Slot, u8)> = self
            .in_flight
            .iter()
            .filter(|(_, proposal)| !proposal.is_chosen)
            .map(|(slot, p)| (*slot, p.c, grown(&view, p.meta.code, p.c)))
            .filter(|(_, c, grown)| grown > c)
            .map(|(slot, _, grown)| (slot, grown))
            .collect();
        for (slot, c) in &grown {
            if let Some(proposal) = self.in_flight.get_mut(slot) {
                proposal.c = *c;
                // Rule 7: earlier acknowledgements go on counting as what they named.
                let copy = ShardSet::first(u32::from(proposal.meta.code.k()));
                for held in proposal.acks.iter_mut().filter(|held| !held.is_empty()) {
                    if !held.contains_all(copy) && breaks(Mutant::CountsSinglesAsCopies) {
                        *held = copy;
                    }
                }
            }
        }
        !grown.is_empty()
    }

    /// What the policy may look at.
    pub(super) fn view(&self) -> View<'_> {
        let alive = self.peers.iter().zip(0_u8..).filter(|(peer, _)| peer.is_alive);
        View {
            epoch: &self.epoch,
            quorums: self.epoch.quorums(),
            alive: alive.map(|(_, rank)| rank).collect(),
            links: &self.links,
        }
    }

    pub(super) fn check_invariants(&self) {
        if let Some(barrier) = self.barrier {
            assert_eq!(self.next_slot, barrier.next(), "proposed behind a configuration");
        }
        let bytes: usize = self.in_flight.values().map(|p| p.meta.payload_bytes as usize).sum();
        assert_eq!(bytes, self.in_flight_bytes, "bytes in flight");
        for (slot, proposal) in &self.in_flight {
            assert!(*slot > self.commit && *slot < self.next_slot, "{slot} out of its window");
            assert_eq!(*slot, proposal.meta.slot(), "misfiled proposal");
        }
    }
}

impl Paxos {
    pub(super) fn handle_accepted(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        applied: Slot,
        acks: &[Ack],
    ) {
        let rank = self.rank;
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot && (ballot > leader.ballot || !breaks(Mutant::CountsOldAcks)) {
            return;
        }
        let prepare = leader.epoch.quorums().prepare;
        let peer = &mut leader.peers[usize::from(from)];
        peer.heard = now;
        if from != rank && applied > peer.applied {
            // Chosen, but perhaps another value than this ballot's: it is fetched (rule 10).
            peer.applied = applied;
            self.acceptor.commit = self.acceptor.commit.max(applied);
            if is_any() {
                for (_, proposal) in leader.in_flight.range_mut(..=applied) {
                    proposal.is_chosen |= breaks(Mutant::TrustsApplied);
                }
            }
        }
        for ack in acks {
            let Some(proposal) = leader.in_flight.get_mut(&ack.slot()) else { continue };
            if proposal.meta.id != ack.id || proposal.is_chosen {
                continue;
            }
            let held = &mut proposal.acks[usize::from(from)];
            if held.is_empty() && proposal.tries == 0 && from != rank {
                let shard_bytes = proposal.shards.first().map_or(0, |shard| shard.bytes.len());
                let bytes = shard_bytes * ack.held.count() as usize;
                leader.links.sample(from, bytes, now.since(proposal.proposed_at));
            }
            *held = held.union(ack.held);
            let k = u32::from(proposal.meta.code.k());
            proposal.is_chosen = is_chosen(&proposal.acks, prepare, k)
                || proposal.is_everywhere(&leader.peers) && breaks(Mutant::DetectorChooses);
        }
        self.advance_commit();
    }

    /// Is another value in flight for the slot of `id`?
    pub(super) fn proposes_other(&self, id: ValueId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.in_flight.get(&id.slot).is_some_and(|proposal| proposal.meta.id != id)
    }

    /// Moves the commit over what is chosen and next.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        // What was gathered meanwhile is the value in flight, or this node would not lead.
        for (_, proposal) in leader.in_flight.range_mut(..=self.acceptor.applied) {
            proposal.is_chosen = true;
        }
        let before = leader.commit;
        while let Some(first) = leader.in_flight.first_entry() {
            if !first.get().is_chosen {
                break;
            }
            let (slot, proposal) = first.remove_entry();
            leader.commit = slot;
            leader.in_flight_bytes -= proposal.meta.payload_bytes as usize;
        }
        if leader.commit > before {
            let (ballot, commit) = (leader.ballot, leader.commit);
            self.acceptor.learn_commit(ballot, commit);
        }
    }

    /// A point that a linearizable read must wait for: the heartbeat that confirms this leadership
    /// (compare [`Self::confirmed_sequence`]) and the slot to be applied. `None`: not the leader.
    pub fn read_point(&mut self) -> Option<(u64, Slot)> {
        let Role::Leader(leader) = &mut self.role else { return None };
        leader.is_heartbeat_due = true;
        let is_read_early = leader.commit < leader.recovered_until;
        let slot = if is_read_early && breaks(Mutant::ReadsBeforeRecovered) {
            leader.commit
        } else {
            leader.commit.max(leader.recovered_until)
        };
        let is_next = leader.sequence == 0 || !breaks(Mutant::ConfirmsWithOlder);
        Some((leader.sequence + u64::from(is_next), slot))
    }

    /// The newest heartbeat confirmed by more than N - Q1 nodes; 0 when this node does not lead.
    #[must_use]
    pub fn confirmed_sequence(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => {
                let quorums = leader.epoch.quorums();
                leader.confirmed(self.rank, quorums.nodes - quorums.prepare)
            }
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => 0,
        }
    }

    pub(super) fn handle_heartbeat_reply(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        sequence: u64,
        applied: Slot,
        is_low: bool,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot || sequence > leader.sequence {
            return;
        }
        let peer = &mut leader.peers[usize::from(from)];
        peer.confirmed = peer.confirmed.max(sequence);
        if breaks(Mutant::LeaseFromReply) {
            leader.sent.touch(now);
        }
        peer.is_low = is_low;
        self.handle_accepted(now, from, ballot, applied, &[]);
    }

    /// A leader's periodic work: heartbeat, who is alive, step-down, what must be sent again.
    pub(super) fn tick_leader(&mut self, now: Instant) {
        let timing = self.config.timing.clone();
        let Role::Leader(leader) = &mut self.role else { return };
        if now < leader.heartbeat_at {
            return;
        }
        leader.heartbeat_at = now + timing.heartbeat();
        leader.is_heartbeat_due = true;
        let mut alive_count = 0;
        let mut back = NodeSet::EMPTY;
        for (peer, rank) in leader.peers.iter_mut().zip(0_u8..) {
            let is_alive = rank == self.rank || now.since(peer.heard) < timing.election();
            if is_alive && !peer.is_alive {
                back.insert(rank);
            }
            peer.is_alive = is_alive;
            alive_count += u32::from(is_alive);
        }
        let is_alone = alive_count < leader.epoch.quorums().working;
        if is_alone && !breaks(Mutant::NeverStepsDown) {
            self.step_down(now, "too few nodes are heard");
            return;
        }
        let is_change = leader.grow_assignments();
        self.send_again(now, if is_change { Again::Everything } else { Again::To(back) });
        self.send_again(now, Again::Overdue);
    }

    /// A peer runs anew, or a message to it was not taken by a full queue.
    pub(super) fn send_again_to(&mut self, now: Instant, rank: u8) {
        self.send_again(now, Again::To(NodeSet::one(rank)));
    }

    /// Sends what is in flight again. The transport is reliable while both sides live, so that time
    /// alone is a weak reason: a slow link would only get slower. Each time waits twice as long.
    fn send_again(&mut self, now: Instant, again: Again) {
        let patience = self.config.timing.resend() * PATIENCE_RESENDS;
        let rank = self.rank;
        let Role::Leader(leader) = &mut self.role else { return };
        let mut own = Vec::new();
        for proposal in leader.in_flight.values_mut().filter(|proposal| !proposal.is_chosen) {
            let to_whom = match again {
                Again::Overdue if now < proposal.send_again_at => continue,
                Again::Overdue => {
                    proposal.tries = (proposal.tries + 1).min(PATIENCE_DOUBLINGS_MAX);
                    proposal.send_again_at = now + patience * (1 << proposal.tries);
                    NodeSet(u32::MAX)
                }
                Again::Everything => NodeSet(u32::MAX),
                Again::To(ranks) => ranks,
            };
            let code = proposal.meta.code;
            for (peer, to) in leader.peers.iter_mut().zip(0_u8..) {
                let wanted = wanted(code, home_of(leader.ballot, to), proposal.c);
                let missing = wanted.without(proposal.acks[usize::from(to)]);
                if missing.is_empty() || !peer.is_alive || !to_whom.contains(to) {
                    continue;
                }
                let shards = cut(&proposal.shards, missing);
                let value = ShardedValue { meta: proposal.meta.clone(), shards };
                if to == rank {
                    own.push(value);
                } else {
                    peer.outgoing.push(value);
                }
            }
        }
        let ballot = leader.ballot;
        for value in own {
            self.accept_own(ballot, value);
        }
    }

    /// Turns what has gathered since the last drain into messages, few per peer.
    pub(super) fn flush_leader(&mut self, now: Instant) {
        let lease = self.config.timing.lease();
        let page_bytes = self.limits().page_bytes;
        let rank = self.rank;
        let Role::Leader(leader) = &mut self.role else { return };
        let (ballot, commit) = (leader.ballot, leader.commit);
        let mut messages = Vec::new();
        for (peer, to) in leader.peers.iter_mut().zip(0_u8..) {
            if peer.outgoing.is_empty() {
                continue;
            }
            let mut entries = Vec::new();
            let mut bytes = 0;
            for value in std::mem::take(&mut peer.outgoing) {
                let value_bytes = value.wire_bytes();
                if bytes + value_bytes > page_bytes && !entries.is_empty() {
                    let entries = std::mem::take(&mut entries);
                    messages.push((to, Message::Accept { ballot, commit, entries }));
                    bytes = 0;
                }
                bytes += value_bytes;
                entries.push(value);
            }
            messages.push((to, Message::Accept { ballot, commit, entries }));
        }
        if leader.is_heartbeat_due {
            leader.is_heartbeat_due = false;
            leader.sequence += 1;
            let sequence = leader.sequence;
            leader.sent.push(sequence, now, lease);
            let others = (0_u8..).take(leader.peers.len()).filter(|to| *to != rank);
            messages.extend(others.map(|to| (to, Message::Heartbeat { ballot, sequence, commit })));
        }
        self.effects.ready.extend(messages);
    }

    /// When [`Self::tick_leader`] is due.
    pub(super) fn leader_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => Some(leader.heartbeat_at),
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => None,
        }
    }
}

/// The home of the node of `rank` within an epoch (rule 4): its rank, whoever leads.
pub(super) fn home_of(ballot: Ballot, rank: u8) -> u8 {
    let shift = u8::try_from(ballot.round % 32).unwrap_or(0);
    if shift > 0 && breaks(Mutant::MovesHomes) { rank + shift } else { rank }
}

/// An unacknowledged proposal is sent again after this many resend times, then after twice that, …
pub(super) const PATIENCE_RESENDS: u32 = 8;
const PATIENCE_DOUBLINGS_MAX: u32 = 5;

pub(super) fn cut(shards: &[Shard], wanted: ShardSet) -> Vec<Shard> {
    shards.iter().filter(|shard| wanted.contains(shard.index)).cloned().collect()
}
