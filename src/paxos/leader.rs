//! The proposer while it leads: slots in flight, who holds what of them, commits, confirmations.
//!
//! The policy picks code and assignment; an assignment grows while a value is in flight when too few
//! nodes are alive for it (rule 7). That steers what is sent, never what counts (rule 8):
//! [`super::choice::is_chosen`] alone decides, by the Q1 of the epoch that the leader proposes in.
//! After a configuration nothing is proposed before it is applied (rule 11).

use super::acceptor::is_near;
use super::choice::is_chosen;
use super::closing::{Closing, PAST_PARTS, Past};
use super::lease::Sent;
use super::links::Links;
use super::message::{Ack, ShardedValue};
use super::policy::{View, grown};
use super::promise::Recovered;
use super::sending::Again;
use super::{Paxos, PeerView, Role};
use crate::config::{Configuration, EpochConfig, Epochs, Seat};
use crate::mutant::{Mutant, breaks, is_any};
use crate::time::{Duration, Instant};
use crate::types::{Ballot, Epoch, NodeSet, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

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
    /// By id: members and newcomer.
    pub(super) peers: BTreeMap<u8, Peer>,
    /// Of the last heartbeat sent.
    pub(super) sequence: u64,
    pub(super) is_heartbeat_due: bool,
    pub(super) heartbeat_at: Instant,
    /// When those are told of the commit who have not heard of it with an Accept.
    pub(super) tell_at: Option<Instant>,
    /// In force for what is proposed.
    pub(super) configuration: Configuration,
    /// A configuration in flight: nothing is proposed before it is applied.
    pub(super) barrier: Option<Slot>,
    /// Decided by phase 1 for the slots from `next_slot` on, and behind the barrier.
    pub(super) recovered: VecDeque<Recovered>,
    pub(super) links: Links,
    /// Being handed over to this node, until then.
    pub(super) transfer: Option<(u8, Instant)>,
    pub(super) closing: Closing,
    pub(super) past: Past,
    /// When the configuration in force, with the change under way, came into force here.
    pub(super) entered_at: Instant,
    pub(super) sent: Sent,
    /// Since when it has applied this much alone, though more is chosen and nobody heard has it.
    pub(super) lacking_since: Option<(Slot, Instant)>,
}

/// What the leader knows of one node. Of itself it is there too: alive, and what it has applied.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// When it was last heard, or this leadership began.
    pub(super) heard: Instant,
    /// It has promised, or said something to this leadership.
    pub(super) has_spoken: bool,
    /// It has spoken, and within the election timeout.
    pub(super) is_alive: bool,
    /// So far behind that it refuses what is proposed (`accept_ahead_slots`).
    pub(super) is_behind: bool,
    pub(super) applied: Slot,
    /// Its shards of everything up to here are durable.
    pub(super) durable: Slot,
    pub(super) is_low: bool,
    pub(super) confirmed: u64,
    /// The commit that it was sent.
    pub(super) told: Slot,
    /// Accept entries that wait to be sent, and their bytes.
    pub(super) outgoing: Vec<ShardedValue>,
    /// When the oldest was sent of what is still on its way to it.
    pub(super) under_way_since: Option<Instant>,
}

/// One proposed slot.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) meta: ValueMeta,
    pub(super) shards: Vec<Shard>,
    /// By id: durable shards.
    pub(super) acks: [ShardSet; 32],
    /// The members that a configuration starts and their Q1, when they are others: it is chosen when
    /// it is so among both.
    pub(super) also: Option<(Arc<[Seat]>, u32)>,
    /// Shards that each node is sent; it only grows.
    pub(super) c: u8,
    /// When it was sent last,
    pub(super) sent_at: Instant,
    /// and when it is sent again to whoever has not acknowledged it.
    pub(super) send_again_at: Instant,
    /// How often that has happened.
    pub(super) tries: u32,
    pub(super) is_chosen: bool,
}

impl Proposal {
    /// For a mutant alone: has every node that seems alive acknowledged it?
    fn is_everywhere(&self, peers: &BTreeMap<u8, Peer>) -> bool {
        let has = |node: u8| !self.acks[usize::from(node)].is_empty();
        peers.iter().all(|(node, peer)| has(*node) || !peer.is_alive)
    }
}

impl Leader {
    /// Has nobody heard had what is chosen and not `applied` here, for so long?
    fn is_lacking(&mut self, now: Instant, own: u8, applied: Slot, patience: Duration) -> bool {
        let mut others = self.peers.iter().filter(|(node, _)| **node != own);
        let is_there = others.any(|(_, peer)| peer.is_alive && peer.applied > applied);
        if applied >= self.commit || is_there {
            self.lacking_since = None;
            return false;
        }
        match self.lacking_since {
            Some((at, since)) if at == applied => {
                now.since(since) >= patience && !breaks(Mutant::StaysLacking)
            }
            Some(_) | None => {
                self.lacking_since = Some((applied, now));
                false
            }
        }
    }

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
    fn confirmed(&self, own: u8, away: u32) -> u64 {
        let others = self.voters().filter(|(node, _)| *node != own);
        let mut others: Vec<u64> = others.map(|(_, peer)| peer.confirmed).collect();
        if away == 0 {
            return self.sequence;
        }
        others.sort_unstable_by(|a, b| b.cmp(a));
        others.get(away as usize - 1).copied().unwrap_or(0)
    }

    /// May anything new be proposed: nothing recovered waits, no configuration is in flight, the
    /// leadership is not being handed over?
    pub(super) fn is_open(&self) -> bool {
        self.barrier.is_none()
            && self.recovered.is_empty()
            && self.transfer.is_none()
            && !matches!(self.closing, Closing::Quiet { .. })
    }

    /// Policy, code and N in force for what is proposed.
    pub(super) fn rules(&self) -> &EpochConfig {
        &self.configuration.rules
    }

    /// The members: those who count.
    pub(super) fn voters(&self) -> impl Iterator<Item = (u8, &Peer)> {
        let peers = self.peers.iter().map(|(node, peer)| (*node, peer));
        peers.filter(|(node, _)| self.configuration.is_member(*node))
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
        let able = self.voters().filter(|(_, peer)| peer.is_able());
        View {
            epoch: self.rules(),
            quorums: self.rules().quorums(),
            alive: able.map(|(node, _)| node).collect(),
            in_flight_bytes: self.in_flight_bytes,
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

impl Peer {
    /// Can it accept what is proposed? Only such nodes are sent it and counted on (rule 8).
    pub(super) fn is_able(&self) -> bool {
        self.is_alive && !self.is_behind
    }

    /// Whether it is too far behind to accept the first slot that is not chosen, once it has answered
    /// a heartbeat. One that was is counted on again when half of the distance is left, so that it
    /// does not fall out at once. What is chosen can be fetched: nobody stays behind for want of this.
    fn update_behind(&mut self, commit: Slot, accept_ahead_slots: u64) {
        let ahead = accept_ahead_slots >> u32::from(self.is_behind);
        self.is_behind = self.confirmed > 0 && !is_near(self.applied, commit.next(), ahead);
    }

    /// A node that is taken as alive until it is silent for too long, or, when it `has_spoken` not
    /// yet, from when it does: after a leader's death the dead one must not be counted on.
    pub(super) fn new(now: Instant, applied: Slot, has_spoken: bool) -> Self {
        Self {
            heard: now,
            has_spoken,
            is_alive: has_spoken,
            is_behind: false,
            applied,
            durable: Slot::ZERO,
            is_low: false,
            confirmed: 0,
            told: Slot::ZERO,
            outgoing: Vec::new(),
            under_way_since: None,
        }
    }
}

impl Proposal {
    /// Is it chosen, among the members in force and among those that it starts?
    pub(super) fn is_chosen_in(&self, configuration: &Configuration) -> bool {
        let k = u32::from(self.meta.code.k());
        let is_chosen_among = |members: &[Seat], prepare: u32| {
            let mut acks = [ShardSet::EMPTY; 32];
            for (ack, seat) in acks.iter_mut().zip(members) {
                *ack = self.acks[usize::from(seat.id.0)];
            }
            is_chosen(&acks[..members.len()], prepare, k)
        };
        let of_old = is_chosen_among(&configuration.members, configuration.rules.quorums().prepare);
        let Some((members, q1)) = &self.also else { return of_old };
        match (of_old, is_chosen_among(members, *q1)) {
            (true, true) => true,
            (true, false) => breaks(Mutant::ClosesByOldAlone),
            (false, true) => breaks(Mutant::ClosesByNewAlone),
            (false, false) => false,
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
        let own = self.own;
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot && (ballot > leader.ballot || !breaks(Mutant::CountsOldAcks)) {
            return;
        }
        let Leader { configuration, peers, in_flight, links, .. } = &mut **leader;
        let Some(peer) = peers.get_mut(&from) else { return };
        let is_first = !std::mem::replace(&mut peer.has_spoken, true);
        (peer.heard, peer.is_alive) = (now, peer.is_alive || is_first);
        if from != own && applied > peer.applied {
            if is_first {
                // It is sent everything, below.
                peer.applied = applied;
            }
            // Chosen, but perhaps another value than this ballot's: it is fetched (rule 10).
            self.acceptor.commit = self.acceptor.commit.max(applied);
            if is_any() {
                for (_, proposal) in in_flight.range_mut(..=applied) {
                    proposal.is_chosen = proposal.is_chosen || breaks(Mutant::TrustsApplied);
                }
            }
        }
        for ack in acks {
            if from != own {
                links.handle_acknowledged(now, ack.slot(), from);
            }
            let Some(proposal) = in_flight.get_mut(&ack.slot()) else { continue };
            if proposal.meta.id != ack.id || proposal.is_chosen {
                continue;
            }
            let held = &mut proposal.acks[usize::from(from)];
            *held = held.union(ack.held);
            proposal.is_chosen = proposal.is_chosen_in(configuration)
                || proposal.is_everywhere(peers) && breaks(Mutant::DetectorChooses);
        }
        self.advance_commit();
        if from != own {
            self.come_nearer(now, from, applied);
        }
        if is_first {
            self.send_again_to(now, from);
        }
    }

    /// A promise that came after the decision: a sign of life, nothing else (rule 6).
    pub(super) fn hear_late_promise(&mut self, now: Instant, from: u8, ballot: Ballot) {
        if self.leader == Some(ballot) {
            self.handle_accepted(now, from, ballot, Slot::ZERO, &[]);
        }
    }

    /// `id` is chosen. Is it another value than is in flight for its slot, or a slot that this
    /// leadership has not come to?
    pub(super) fn is_overtaken(&self, id: ValueId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let next = leader.next_slot.0 + leader.recovered.len() as u64;
        leader.in_flight.get(&id.slot).is_some_and(|proposal| proposal.meta.id != id)
            || id.slot.0 >= next && !breaks(Mutant::LeadsOvertaken)
    }

    /// Moves the commit over what is chosen and next.
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        // What was gathered meanwhile is the value in flight, or this node would not lead
        // ([`Self::is_overtaken`]).
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
            leader.links.handle_chosen(slot);
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

    /// The newest heartbeat confirmed by more than N - Q1 nodes; 0 when this node does not lead. Nor
    /// does it for readers behind a configuration that it has applied and does not go by yet:
    /// others may have decided there already.
    #[must_use]
    pub fn confirmed_sequence(&self) -> u64 {
        let is_over =
            |leader: &Leader| leader.barrier.is_some_and(|at| at <= self.acceptor.applied);
        match &self.role {
            Role::Leader(leader) if is_over(leader) && !breaks(Mutant::ConfirmsBehindMembers) => 0,
            Role::Leader(leader) => {
                let quorums = leader.rules().quorums();
                leader.confirmed(self.own, quorums.nodes - quorums.prepare)
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
        (applied, durable, is_low): (Slot, Slot, bool),
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if ballot != leader.ballot || sequence > leader.sequence {
            return;
        }
        let Some(peer) = leader.peers.get_mut(&from) else { return };
        // It may be less than before: the disk may have lost what it held.
        if sequence >= peer.confirmed {
            peer.durable = durable;
        }
        peer.confirmed = peer.confirmed.max(sequence);
        if breaks(Mutant::LeaseFromReply) {
            leader.sent.touch(now);
        }
        peer.is_low = is_low;
        self.handle_accepted(now, from, ballot, applied, &[]);
    }

    /// What a leader knows of the others.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        match &self.role {
            Role::Leader(leader) => leader
                .peers
                .iter()
                .filter(|(node, _)| **node != self.own)
                .map(|(node, peer)| PeerView {
                    node: *node,
                    is_alive: peer.is_alive,
                    applied: peer.applied,
                    durable: peer.durable,
                    is_low: peer.is_low,
                })
                .collect(),
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => Vec::new(),
        }
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
        let mut back = NodeSet::EMPTY;
        let own = self.own;
        let ahead_slots = self.config.limits.accept_ahead_slots;
        let is_heard =
            |node: u8, peer: &Peer| node == own || now.since(peer.heard) < timing.election();
        let commit = leader.commit;
        leader.past.note(now, commit, timing.election() / PAST_PARTS);
        for (node, peer) in &mut leader.peers {
            let was_able = peer.is_able();
            peer.is_alive = is_heard(*node, peer) && peer.has_spoken;
            if *node != own {
                peer.update_behind(commit, ahead_slots);
            }
            if peer.is_able() && !was_able {
                back.insert(*node);
            }
        }
        // Who has not spoken yet has one election timeout to do so.
        let heard_count = leader.voters().filter(|(node, peer)| is_heard(*node, peer)).count();
        let is_alone = heard_count < leader.rules().quorums().working as usize;
        if is_alone && !breaks(Mutant::NeverStepsDown) {
            self.step_down(now, "too few nodes are heard");
            return;
        }
        if leader.is_lacking(now, own, self.acceptor.applied, timing.election()) {
            // Whoever had applied it promised, and is gone: its promise stands in the way of asking the
            // others what they have accepted there.
            let ballot = leader.ballot;
            self.step_down(now, "nobody has what was chosen before it led");
            self.campaign_again(ballot, ballot);
            return;
        }
        let is_change = leader.grow_assignments();
        self.send_again(now, if is_change { Again::Everything } else { Again::To(back) });
        self.send_again(now, Again::Overdue);
        self.mark_durable();
    }

    /// When [`Self::tick_leader`] is due.
    pub(super) fn leader_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => {
                Some(leader.tell_at.map_or(leader.heartbeat_at, |at| at.min(leader.heartbeat_at)))
            }
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => None,
        }
    }
}

/// The place of `node` for a value of `epoch` (rule 4): what was recovered may be of an earlier list
/// than the leader's.
pub(super) fn place_of(now: &Configuration, epochs: &Epochs, epoch: Epoch, node: u8) -> u8 {
    let earlier = (epoch < now.rules.epoch).then(|| epochs.known_home(epoch, node)).flatten();
    earlier.or_else(|| now.place(node)).unwrap_or(node)
}

/// The home of the node of `rank` within an epoch (rule 4): its rank, whoever leads.
pub(super) fn home_of(ballot: Ballot, rank: u8) -> u8 {
    let shift = u8::try_from(ballot.round % 32).unwrap_or(0);
    if shift > 0 && breaks(Mutant::MovesHomes) { rank + shift } else { rank }
}

pub(super) fn cut(shards: &[Shard], wanted: ShardSet) -> Vec<Shard> {
    shards.iter().filter(|shard| wanted.contains(shard.index)).cloned().collect()
}
