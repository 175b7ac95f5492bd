//! The proposer while it leads: slots in flight, who holds what of them, commits, confirmations.
//!
//! A value's shards go to their homes; when too few nodes are alive for single shards to choose it
//! (craft), full copies go to those that are (rule 7). That steers what is sent, never what counts
//! (rule 8): [`super::choice::is_chosen`] alone decides.

use super::choice::is_chosen;
use super::effects::Effect;
use super::message::{Ack, Message, ShardedValue};
use super::promise::Recovered;
use super::{Paxos, Role};
use crate::config::Policy;
use crate::time::Instant;
use crate::types::{
    Ballot, Bytes, Code, Digest, Epoch, NodeSet, Shard, ShardSet, Slot, ValueId, ValueMeta,
};
use std::collections::BTreeMap;

/// A leadership.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) ballot: Ballot,
    next_slot: Slot,
    /// Every slot up to here is chosen.
    pub(super) commit: Slot,
    /// Proposed slots above `commit`.
    in_flight: BTreeMap<Slot, Proposal>,
    in_flight_bytes: usize,
    /// No read is served before this slot is applied (3.4).
    pub(super) recovered_until: Slot,
    pub(super) peers: Vec<Peer>,
    /// Of the last heartbeat sent.
    sequence: u64,
    is_heartbeat_due: bool,
    heartbeat_at: Instant,
    /// Whole copies are sent: fewer are alive than single shards need.
    is_full: bool,
}

/// What the leader knows of one node; its own place is there too and unused.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) heard: Instant,
    pub(super) is_alive: bool,
    pub(super) applied: Slot,
    pub(super) is_low: bool,
    confirmed: u64,
    /// Accept entries that wait to be sent, and their bytes.
    outgoing: Vec<ShardedValue>,
}

/// One proposed slot.
#[derive(Debug)]
struct Proposal {
    meta: ValueMeta,
    shards: Vec<Shard>,
    /// By rank: durable shards.
    acks: Vec<ShardSet>,
    /// When it is sent again to whoever has not acknowledged it.
    send_again_at: Instant,
    /// How often that has happened.
    tries: u32,
    is_chosen: bool,
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

impl Leader {
    fn is_in_flight_full(&self, slots_max: usize, bytes_max: usize, bytes: usize) -> bool {
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

    pub(super) fn check_invariants(&self) {
        let bytes: usize = self.in_flight.values().map(|p| p.meta.payload_bytes as usize).sum();
        assert_eq!(bytes, self.in_flight_bytes, "bytes in flight");
        for (slot, proposal) in &self.in_flight {
            assert!(*slot > self.commit && *slot < self.next_slot, "{slot} out of its window");
            assert_eq!(*slot, proposal.meta.slot(), "misfiled proposal");
        }
    }
}

impl Paxos {
    /// Phase 1 has decided: lead, re-propose what may have been chosen under the same value ids.
    pub(super) fn lead(
        &mut self,
        now: Instant,
        ballot: Ballot,
        applied: Slot,
        proposals: Vec<Recovered>,
        applied_by: Vec<Slot>,
    ) {
        let count = proposals.len();
        let peers = applied_by
            .into_iter()
            .map(|applied| Peer {
                heard: now,
                is_alive: true,
                applied,
                is_low: false,
                confirmed: 0,
                outgoing: Vec::new(),
            })
            .collect();
        let next_slot = Slot(applied.0 + 1 + count as u64);
        self.acceptor.commit = self.acceptor.commit.max(applied);
        self.leader = Some(ballot);
        self.role = Role::Leader(Box::new(Leader {
            ballot,
            next_slot: applied.next(),
            commit: applied,
            in_flight: BTreeMap::new(),
            in_flight_bytes: 0,
            recovered_until: Slot(next_slot.0 - 1),
            peers,
            sequence: 0,
            is_heartbeat_due: true,
            heartbeat_at: now,
            is_full: false,
        }));
        self.elections_won += 1;
        self.trace(|| format!("leads at {ballot}: applied {applied}, {count} recovered"));
        for (slot, proposal) in (applied.0 + 1..).map(Slot).zip(proposals) {
            match proposal {
                Recovered::Value { meta, shards } => self.re_propose(now, meta, &shards),
                Recovered::NoOp => self.propose_at(now, slot, Bytes::new(), &Bytes::new()),
            }
        }
        self.acceptor.apply_known();
    }

    /// May a value of `payload_bytes` be proposed now?
    #[must_use]
    pub fn can_propose(&self, payload_bytes: usize) -> bool {
        let limits = self.limits();
        match &self.role {
            Role::Leader(leader) => !leader.is_in_flight_full(
                limits.in_flight_slots,
                limits.in_flight_bytes,
                payload_bytes,
            ),
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => false,
        }
    }

    /// Proposes a value for the next slot. `None` when this node does not lead.
    pub fn propose(&mut self, now: Instant, header: Bytes, payload: &Bytes) -> Option<ValueId> {
        let Role::Leader(leader) = &self.role else { return None };
        let (slot, origin) = (leader.next_slot, leader.ballot);
        self.propose_at(now, slot, header, payload);
        Some(ValueId { origin, slot })
    }

    fn propose_at(&mut self, now: Instant, slot: Slot, header: Bytes, payload: &Bytes) {
        let Role::Leader(leader) = &self.role else { return };
        let meta = ValueMeta {
            id: ValueId { origin: leader.ballot, slot },
            epoch: Epoch(0),
            code: self.config.code,
            payload_bytes: u32::try_from(payload.len()).expect("values are at most 16 MiB"),
            digest: Digest::of(payload),
            header,
        };
        let shards = self.coder(meta.code).encode(payload);
        self.start(now, meta, shards);
    }

    /// Rule 3: the value id and the code stay.
    fn re_propose(&mut self, now: Instant, meta: ValueMeta, known: &[Shard]) {
        let payload = self.coder(meta.code).decode(meta.payload_bytes as usize, known);
        let payload = payload.ok().filter(|payload| Digest::of(payload) == meta.digest);
        let Some(payload) = payload else {
            // Every shard matched its own digest and the whole does not: a forged or mixed value.
            // Nothing may be proposed in its place, so this node cannot lead.
            let id = meta.id;
            self.trace(|| format!("cannot rebuild {id}: its digest does not match"));
            self.step_down(now, "a recovered value does not match its digest");
            return;
        };
        let shards = self.coder(meta.code).encode(&payload);
        self.start(now, meta, shards);
    }

    fn start(&mut self, now: Instant, meta: ValueMeta, shards: Vec<Shard>) {
        let nodes = self.quorums.nodes as usize;
        let rank = self.rank;
        let patience = self.config.timing.resend() * PATIENCE_RESENDS;
        let Role::Leader(leader) = &mut self.role else { return };
        let slot = meta.slot();
        assert_eq!(slot, leader.next_slot, "slots are proposed in order");
        leader.next_slot = slot.next();
        leader.in_flight_bytes += meta.payload_bytes as usize;
        let is_full = leader.is_full;
        for (peer, to) in leader.peers.iter_mut().zip(0_u8..) {
            if to != rank && peer.is_alive {
                let shards = pick(&shards, wanted(meta.code, to, is_full));
                peer.outgoing.push(ShardedValue { meta: meta.clone(), shards });
            }
        }
        let own = pick(&shards, wanted(meta.code, rank, is_full));
        let ballot = leader.ballot;
        let proposal = Proposal {
            meta: meta.clone(),
            shards,
            acks: vec![ShardSet::EMPTY; nodes],
            send_again_at: now + patience,
            tries: 0,
            is_chosen: false,
        };
        leader.in_flight.insert(slot, proposal);
        self.accept_own(ballot, ShardedValue { meta, shards: own });
    }

    fn accept_own(&mut self, ballot: Ballot, value: ShardedValue) {
        if value.meta.slot() <= self.acceptor.applied {
            return;
        }
        if let Some(ack) = self.accept(ballot, value) {
            self.effects.hold(Effect::AckSelf { ballot, ack });
        }
    }

    pub(super) fn handle_accepted(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        applied: Slot,
        acks: &[Ack],
    ) {
        let (prepare, rank) = (self.quorums.prepare, self.rank);
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot {
            return;
        }
        let peer = &mut leader.peers[usize::from(from)];
        peer.heard = now;
        if from != rank && applied > peer.applied {
            // Chosen, but perhaps another value than this ballot's: it is fetched (rule 10).
            peer.applied = applied;
            self.acceptor.commit = self.acceptor.commit.max(applied);
        }
        for ack in acks {
            let Some(proposal) = leader.in_flight.get_mut(&ack.slot()) else { continue };
            if proposal.meta.id != ack.id || proposal.is_chosen {
                continue;
            }
            let held = &mut proposal.acks[usize::from(from)];
            *held = held.union(ack.held);
            let k = u32::from(proposal.meta.code.k());
            proposal.is_chosen = is_chosen(&proposal.acks, prepare, k);
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
        Some((leader.sequence + 1, leader.commit.max(leader.recovered_until)))
    }

    /// The newest heartbeat confirmed by more than N - Q1 nodes; 0 when this node does not lead.
    #[must_use]
    pub fn confirmed_sequence(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => {
                leader.confirmed(self.rank, self.quorums.nodes - self.quorums.prepare)
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
        if alive_count < self.quorums.working {
            self.step_down(now, "too few nodes are heard");
            return;
        }
        // Craft alone falls back: its Q1 is a majority, so copies at a majority are enough (3.1).
        let is_full = match self.config.policy {
            Policy::Craft => alive_count < self.quorums.accept,
            Policy::Replicate | Policy::RsPaxos => false,
        };
        let is_change = is_full != leader.is_full;
        leader.is_full = is_full;
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
                let missing =
                    wanted(code, to, leader.is_full).without(proposal.acks[usize::from(to)]);
                if missing.is_empty() || !peer.is_alive || !to_whom.contains(to) {
                    continue;
                }
                let shards = pick(&proposal.shards, missing);
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
    pub(super) fn flush_leader(&mut self) {
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

/// What the node of `rank` is sent: its home shard, or with that all data shards (a full copy).
pub(super) fn wanted(code: Code, rank: u8, is_full: bool) -> ShardSet {
    let home = ShardSet::one(rank);
    if is_full { home.union(ShardSet::first(u32::from(code.k()))) } else { home }
}

/// An unacknowledged proposal is sent again after this many resend times, then after twice that, …
const PATIENCE_RESENDS: u32 = 8;
const PATIENCE_DOUBLINGS_MAX: u32 = 5;

fn pick(shards: &[Shard], wanted: ShardSet) -> Vec<Shard> {
    shards.iter().filter(|shard| wanted.contains(shard.index)).cloned().collect()
}
