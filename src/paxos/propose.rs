//! Proposing: what phase 1 recovered, new values, configurations.
//!
//! Slots are proposed in order, each once per ballot (rule 6). Behind a configuration nothing is
//! proposed before it is applied (rule 11).

use super::acceptor::{configuration, is_near};
use super::closing::{Closing, Past};
use super::effects::Effect;
use super::leader::{Leader, Peer, Proposal, cut, home_of, place_of};
use super::lease::Sent;
use super::links::Links;
use super::message::{Promise, PromiseEntry, ShardedValue};
use super::policy::{Pick, grown, pick, wanted};
use super::promise::Recovered;
use super::sending::PATIENCE_RESENDS;
use super::{Paxos, Role};
use crate::config::{Configuration, EpochConfig, Policy};
use crate::mutant::{Mutant, breaks};
use crate::time::Instant;
use crate::types::{Ballot, Bytes, Digest, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::collections::BTreeMap;

impl Paxos {
    /// Phase 1 has decided: lead, re-propose what may have been chosen under the same value ids.
    pub(super) fn lead(
        &mut self,
        now: Instant,
        ballot: Ballot,
        (applied, configuration): (Slot, Configuration),
        proposals: Vec<Recovered>,
        applied_by: &BTreeMap<u8, Slot>,
    ) {
        let own = self.own;
        let count = proposals.len();
        let peers = configuration.seats().map(|seat| {
            let applied = applied_by.get(&seat.id.0).copied().unwrap_or_default();
            let has_spoken = seat.id.0 == own || applied_by.contains_key(&seat.id.0);
            (seat.id.0, Peer::new(now, applied, has_spoken))
        });
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
            peers: peers.collect(),
            sequence: 0,
            is_heartbeat_due: true,
            heartbeat_at: now,
            tell_at: None,
            configuration,
            barrier: None,
            recovered: proposals.into(),
            links: Links::new(32),
            transfer: None,
            closing: Closing::NotBefore(now),
            past: Past::new(now, applied),
            entered_at: now,
            sent: Sent::default(),
            lacking_since: None,
        }));
        self.elections_won += 1;
        self.vain_campaigns = 0;
        self.trace(|| format!("leads at {ballot}: applied {applied}, {count} recovered"));
        self.propose_recovered(now);
        self.acceptor.apply_known();
    }

    /// Proposes what phase 1 decided, up to a configuration; the rest when that is applied.
    fn propose_recovered(&mut self, now: Instant) {
        let applied = self.acceptor.applied;
        while let Role::Leader(leader) = &mut self.role
            && leader.barrier.is_none()
            && let Some(proposal) = leader.recovered.pop_front()
        {
            if leader.next_slot <= applied {
                // Gathered behind the configuration: chosen, so nothing is proposed (rule 5).
                leader.commit = leader.commit.max(leader.next_slot);
                leader.next_slot = leader.next_slot.next();
                continue;
            }
            match proposal {
                Recovered::Value { meta, shards } => self.re_propose(now, meta, &shards),
                Recovered::NoOp => self.propose_next(now, Bytes::new(), &Bytes::new()),
            }
        }
    }

    /// Is the configuration in flight applied? Then it is in force.
    pub(super) fn pass_barrier(&mut self, now: Instant) {
        let applied = self.acceptor.applied;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.barrier.is_none_or(|barrier| barrier > applied) {
            return;
        }
        leader.barrier = None;
        let next = self.acceptor.epochs.current.clone();
        self.trace(|| format!("in force: {next:?}"));
        if !self.enter_configuration(now, next) {
            return;
        }
        self.propose_recovered(now);
        if let Role::Leader(leader) = &self.role
            && leader.next_slot <= applied
        {
            self.step_down(now, "later slots are chosen already");
        }
    }

    /// Proposes a configuration epoch like `wanted`, numbered after the one in force. `None` when
    /// this node does not lead, or another one is in flight, or a change of members under way.
    pub fn propose_epoch(&mut self, now: Instant, wanted: EpochConfig) -> Option<ValueId> {
        let Role::Leader(leader) = &self.role else { return None };
        if !leader.is_open() {
            return None;
        }
        if leader.configuration.change.is_some() {
            return None;
        }
        let next = leader.configuration.with_rules(wanted);
        self.propose(now, next.encode(), &Bytes::new())
    }

    /// May a value of `payload_bytes` be proposed now?
    #[must_use]
    pub fn can_propose(&self, payload_bytes: usize) -> bool {
        let limits = self.limits();
        match &self.role {
            Role::Leader(leader) => {
                leader.is_open()
                    && !leader.is_in_flight_full(
                        limits.in_flight_slots,
                        limits.in_flight_bytes,
                        payload_bytes,
                    )
            }
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => false,
        }
    }

    /// Proposes a value for the next slot. `None` when this node does not lead, or a configuration
    /// is in flight ([`Self::can_propose`]).
    pub fn propose(&mut self, now: Instant, header: Bytes, payload: &Bytes) -> Option<ValueId> {
        let Role::Leader(leader) = &self.role else { return None };
        if !leader.is_open() {
            return None;
        }
        let (slot, origin) = (leader.next_slot, leader.ballot);
        self.propose_next(now, header, payload);
        Some(ValueId { origin, slot })
    }

    pub(super) fn propose_next(&mut self, now: Instant, header: Bytes, payload: &Bytes) {
        let Role::Leader(leader) = &self.role else { return };
        let Pick { code, c } = pick(&leader.view(), payload.len());
        let meta = ValueMeta {
            id: ValueId { origin: leader.ballot, slot: leader.next_slot },
            epoch: leader.rules().epoch,
            code,
            payload_bytes: u32::try_from(payload.len()).expect("values are at most 16 MiB"),
            digest: Digest::of(payload),
            header,
        };
        let shards = self.coders.encode(meta.code, payload);
        self.start(now, meta, shards, c);
    }

    /// Rule 3: the value id and the code stay.
    fn re_propose(&mut self, now: Instant, mut meta: ValueMeta, known: &[Shard]) {
        let payload = self.coders.decode(meta.code, meta.payload_bytes as usize, known);
        let payload = payload.ok().filter(|payload| Digest::of(payload) == meta.digest);
        let Some(payload) = payload else {
            // Every shard matched its own digest and the whole does not: a forged or mixed value.
            // Nothing may be proposed in its place, so this node cannot lead.
            let id = meta.id;
            self.trace(|| format!("cannot rebuild {id}: its digest does not match"));
            self.step_down(now, "a recovered value does not match its digest");
            return;
        };
        let Role::Leader(leader) = &self.role else { return };
        if breaks(Mutant::RenamesValue) {
            meta.id.origin = leader.ballot;
        }
        if meta.code.k() > 1 && breaks(Mutant::RecodesValue) {
            meta.code = leader.rules().copies();
        }
        let shards = self.coders.encode(meta.code, &payload);
        let Role::Leader(leader) = &self.role else { return };
        let c = grown(&leader.view(), meta.code, 1);
        self.start(now, meta, shards, c);
    }

    fn start(&mut self, now: Instant, meta: ValueMeta, shards: Vec<Shard>, c: u8) {
        let (own, ahead_slots) = (self.own, self.limits().accept_ahead_slots);
        let patience = self.config.timing.resend() * PATIENCE_RESENDS;
        let Role::Leader(leader) = &mut self.role else { return };
        let slot = meta.slot();
        assert_eq!(slot, leader.next_slot, "slots are proposed in order");
        leader.next_slot = slot.next();
        let mut also = None;
        if let Some(next) = configuration(&meta)
            && next.rules.epoch > leader.rules().epoch
        {
            leader.barrier = Some(slot);
            if next.members != leader.configuration.members {
                also = Some((next.members.clone(), next.rules.quorums().prepare));
            }
            if breaks(Mutant::EpochBeforeApplied) {
                (leader.barrier, leader.configuration) = (None, next);
            }
        }
        leader.in_flight_bytes += meta.payload_bytes as usize;
        let Leader { configuration, peers, ballot, links, .. } = &mut **leader;
        let ballot = *ballot;
        let epochs = &self.acceptor.epochs;
        let of = |node: u8| {
            let place = place_of(configuration, epochs, meta.epoch, node);
            wanted(meta.code, home_of(ballot, place), c)
        };
        let is_able =
            |peer: &Peer| peer.is_able() && is_near(peer.applied, meta.slot(), ahead_slots);
        for (to, peer) in peers.iter_mut().filter(|(to, peer)| **to != own && is_able(peer)) {
            let shards = cut(&shards, of(*to));
            peer.outgoing.push(ShardedValue { meta: meta.clone(), shards });
        }
        if configuration.rules.policy == Policy::Crossword {
            let shard_bytes = shards.first().map_or(0, |shard| shard.bytes.len());
            links.handle_proposed(now, slot, shard_bytes * usize::from(c));
        }
        let own = cut(&shards, of(own));
        let proposal = Proposal {
            meta: meta.clone(),
            shards,
            acks: [ShardSet::EMPTY; 32],
            also,
            c,
            sent_at: now,
            send_again_at: now + patience,
            tries: 0,
            is_chosen: false,
        };
        leader.in_flight.insert(slot, proposal);
        self.accept_own(ballot, ShardedValue { meta, shards: own });
        self.advance_commit();
    }

    /// For a mutant alone: the leader turns to a value that a late promise tells of (rule 6).
    pub(super) fn decide_again(&mut self, now: Instant, promise: Promise) {
        for entry in promise.entries {
            let PromiseEntry::Accepted { value: ShardedValue { meta, shards }, .. } = entry else {
                continue;
            };
            let Role::Leader(leader) = &mut self.role else { return };
            let is_led =
                promise.ballot == leader.ballot && shards.len() >= usize::from(meta.code.k());
            let in_flight = leader.in_flight.get(&meta.slot()).filter(|p| !p.is_chosen);
            let is_other = in_flight.is_some_and(|p| p.meta.id != meta.id);
            if !is_led || !is_other || !breaks(Mutant::DecidesAgain) {
                continue;
            }
            let next_slot = leader.next_slot;
            if let Some(old) = leader.in_flight.remove(&meta.slot()) {
                leader.in_flight_bytes -= old.meta.payload_bytes as usize;
            }
            leader.next_slot = meta.slot();
            self.re_propose(now, meta, &shards);
            if let Role::Leader(leader) = &mut self.role {
                leader.next_slot = next_slot;
            }
        }
    }

    pub(super) fn accept_own(&mut self, ballot: Ballot, value: ShardedValue) {
        if value.meta.slot() <= self.acceptor.applied {
            return;
        }
        if let Some(ack) = self.accept(ballot, value) {
            self.effects.hold(Effect::AckSelf { ballot, ack });
        }
    }
}
