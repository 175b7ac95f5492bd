//! Proposing: what phase 1 recovered, new values, configurations.
//!
//! Slots are proposed in order, each once per ballot (rule 6). Behind a configuration nothing is
//! proposed before it is applied (rule 11).

use super::acceptor::configuration;
use super::effects::Effect;
use super::leader::{Leader, PATIENCE_RESENDS, Peer, Proposal, cut};
use super::lease::Sent;
use super::links::Links;
use super::message::ShardedValue;
use super::policy::{Pick, grown, pick, wanted};
use super::promise::Recovered;
use super::{Paxos, Role};
use crate::config::EpochConfig;
use crate::time::Instant;
use crate::types::{Ballot, Bytes, Digest, Epoch, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::collections::BTreeMap;

impl Paxos {
    /// Phase 1 has decided: lead, re-propose what may have been chosen under the same value ids.
    pub(super) fn lead(
        &mut self,
        now: Instant,
        ballot: Ballot,
        (applied, epoch): (Slot, EpochConfig),
        proposals: Vec<Recovered>,
        applied_by: Vec<Slot>,
    ) {
        let count = proposals.len();
        let links = Links::new(applied_by.len());
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
            epoch,
            barrier: None,
            recovered: proposals.into(),
            links,
            transfer: None,
            sent: Sent::default(),
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
        let epoch = self.acceptor.epoch;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.barrier.is_none_or(|barrier| barrier > applied) {
            return;
        }
        leader.barrier = None;
        leader.epoch = epoch;
        self.trace(|| format!("in force: {epoch:?}"));
        self.propose_recovered(now);
        if let Role::Leader(leader) = &self.role
            && leader.next_slot <= applied
        {
            self.step_down(now, "later slots are chosen already");
        }
    }

    /// Proposes a configuration epoch like `wanted`, numbered after the one in force. `None` when
    /// this node does not lead, or another one is in flight.
    pub fn propose_epoch(&mut self, now: Instant, wanted: EpochConfig) -> Option<ValueId> {
        let Role::Leader(leader) = &self.role else { return None };
        if !leader.is_open() {
            return None;
        }
        let epoch = Epoch(leader.epoch.epoch.0 + 1);
        self.propose(now, EpochConfig { epoch, ..wanted }.encode(), &Bytes::new())
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

    fn propose_next(&mut self, now: Instant, header: Bytes, payload: &Bytes) {
        let Role::Leader(leader) = &self.role else { return };
        let Pick { code, c } = pick(&leader.view(), payload.len());
        let meta = ValueMeta {
            id: ValueId { origin: leader.ballot, slot: leader.next_slot },
            epoch: leader.epoch.epoch,
            code,
            payload_bytes: u32::try_from(payload.len()).expect("values are at most 16 MiB"),
            digest: Digest::of(payload),
            header,
        };
        let shards = self.coder(meta.code).encode(payload);
        self.start(now, meta, shards, c);
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
        let Role::Leader(leader) = &self.role else { return };
        let c = grown(&leader.view(), meta.code, 1);
        self.start(now, meta, shards, c);
    }

    fn start(&mut self, now: Instant, meta: ValueMeta, shards: Vec<Shard>, c: u8) {
        let nodes = usize::from(self.nodes);
        let rank = self.rank;
        let patience = self.config.timing.resend() * PATIENCE_RESENDS;
        let Role::Leader(leader) = &mut self.role else { return };
        let slot = meta.slot();
        assert_eq!(slot, leader.next_slot, "slots are proposed in order");
        leader.next_slot = slot.next();
        if configuration(&meta).is_some_and(|next| next.epoch > leader.epoch.epoch) {
            leader.barrier = Some(slot);
        }
        leader.in_flight_bytes += meta.payload_bytes as usize;
        for (peer, to) in leader.peers.iter_mut().zip(0_u8..) {
            if to != rank && peer.is_alive {
                let shards = cut(&shards, wanted(meta.code, to, c));
                peer.outgoing.push(ShardedValue { meta: meta.clone(), shards });
            }
        }
        let own = cut(&shards, wanted(meta.code, rank, c));
        let ballot = leader.ballot;
        let proposal = Proposal {
            meta: meta.clone(),
            shards,
            acks: vec![ShardSet::EMPTY; nodes],
            c,
            proposed_at: now,
            send_again_at: now + patience,
            tries: 0,
            is_chosen: false,
        };
        leader.in_flight.insert(slot, proposal);
        self.accept_own(ballot, ShardedValue { meta, shards: own });
        self.advance_commit();
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
