//! The acceptor: promises and accepted shards, and what of them is known to be chosen.
//!
//! In memory are only the slots above the last applied one, without their shards' bytes: those rest
//! in the log. Invariants: no entry's ballot is above the promise; no entry is at or below `applied`.

use super::effects::Effect;
use super::message::{Ack, Message, ShardedValue};
use super::{Output, Paxos, Role};
use crate::config::{Configuration, EpochConfig, Epochs};
use crate::mutant::{Mutant, breaks};
use crate::storage::Recovered;
use crate::time::Instant;
use crate::types::{Ballot, Content, Record, Shard, ShardSet, Slot, ValueMeta};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What this node has accepted.
#[derive(Debug)]
pub(super) struct Acceptor {
    pub(super) promised: Ballot,
    /// Accepted, above `applied`.
    pub(super) entries: BTreeMap<Slot, Entry>,
    /// Accepted, faulty (rule 13), above `applied`.
    pub(super) faulty: BTreeSet<Slot>,
    /// Every slot above `applied` may be faulty, until the slots of that time are applied.
    pub(super) all_faulty_until: Option<Slot>,
    pub(super) applied: Slot,
    /// Up to here the log may lack what is superseded and hold what was never chosen: nothing is
    /// promised or believed of these slots but that they are chosen (rule 14).
    pub(super) floor: Slot,
    /// Every slot up to here is known to be chosen, though perhaps not held.
    pub(super) commit: Slot,
    /// What the latest leader said of it: covers what was accepted at that ballot (rule 10).
    pub(super) commit_mark: (Ballot, Slot),
    /// In force after `applied`, and before (rule 11).
    pub(super) epochs: Epochs,
    /// Applied values that the replica has not taken yet.
    pub(super) chosen: VecDeque<ValueMeta>,
}

/// One accepted slot.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Of acceptance.
    pub(super) ballot: Ballot,
    pub(super) meta: ValueMeta,
    /// Shards recorded, durable or on their way.
    pub(super) held: ShardSet,
    pub(super) is_chosen: bool,
}

impl Acceptor {
    /// What the log recovered. `base` is applied already and the last of `epochs` in force after it;
    /// the entries from there up to `recovered.chosen` are handed out again as chosen.
    /// `accept_ahead_slots` bounds which slot a lost record can have been of.
    pub(super) fn new(
        recovered: Recovered,
        accept_ahead_slots: u64,
        (base, epochs): (Slot, Epochs),
    ) -> Self {
        let floor = recovered.floor;
        let settled = base.max(floor);
        let mut acceptor = Self {
            promised: recovered.promised,
            entries: BTreeMap::new(),
            faulty: recovered.faulty.into_iter().filter(|slot| *slot > settled).collect(),
            all_faulty_until: None,
            applied: base,
            floor,
            commit: recovered.chosen.max(settled),
            commit_mark: (Ballot::ZERO, Slot::ZERO),
            epochs,
            chosen: VecDeque::new(),
        };
        for entry in recovered.entries {
            acceptor.promised = acceptor.promised.max(entry.ballot);
            let slot = entry.meta.slot();
            if slot <= settled {
                continue;
            }
            let entry = Entry {
                ballot: entry.ballot,
                meta: entry.meta,
                held: entry.shards,
                is_chosen: slot <= recovered.chosen,
            };
            acceptor.entries.insert(slot, entry);
        }
        // A damaged slot is chosen or not whatever its record says: it is fetched, not read.
        for slot in &acceptor.faulty {
            if let Some(entry) = acceptor.entries.get_mut(slot) {
                entry.is_chosen = false;
            }
        }
        // A record is missing, nobody can say which: nothing above what is chosen can be trusted
        // to be all there was (3.6).
        if recovered.unknown_damage {
            let last = acceptor.entries.last_key_value().map_or(Slot::ZERO, |(slot, _)| *slot);
            let last = last.max(acceptor.commit);
            acceptor.all_faulty_until = Some(Slot(last.0 + 1 + accept_ahead_slots));
        }
        acceptor.apply_known();
        acceptor
    }

    /// Takes in that every slot up to `commit` is chosen, by the leader of `ballot`. Covers what was
    /// accepted at that ballot (rule 10).
    pub(super) fn learn_commit(&mut self, ballot: Ballot, commit: Slot) {
        if (ballot, commit) <= self.commit_mark {
            // An Accept that came after its commit has nothing else to wait for.
            return self.apply_known();
        }
        for (_, entry) in self.entries.range_mut(..=commit) {
            entry.is_chosen |= entry.ballot == ballot || breaks(Mutant::CommitsAnyBallot);
        }
        self.commit_mark = (ballot, commit);
        self.commit = self.commit.max(commit);
        self.apply_known();
    }

    /// Hands out what is chosen, held and next.
    pub(super) fn apply_known(&mut self) {
        while let Some(entry) = self.entries.first_entry() {
            if *entry.key() != self.applied.next() || !entry.get().is_chosen {
                break;
            }
            let (slot, entry) = entry.remove_entry();
            self.applied = slot;
            self.faulty.remove(&slot);
            if let Some(next) = configuration(&entry.meta) {
                self.epochs.enter(slot, next);
            } else if entry.meta.payload_bytes > 0 {
                self.epochs.note(entry.meta.epoch, entry.meta.code);
            }
            self.chosen.push_back(entry.meta);
        }
        self.commit = self.commit.max(self.applied);
        if self.all_faulty_until.is_some_and(|until| self.applied >= until) {
            self.all_faulty_until = None;
        }
    }

    /// Policy, code and N after what is applied.
    pub(super) fn rules(&self) -> &EpochConfig {
        &self.epochs.current.rules
    }

    /// A record of `slot` cannot be read. What it held must be recorded anew before it counts.
    pub(super) fn lose(&mut self, slot: Slot) {
        if slot > self.applied {
            self.faulty.insert(slot);
        }
        if let Some(entry) = self.entries.get_mut(&slot) {
            entry.held = ShardSet::EMPTY;
        }
    }

    /// Its state is lost and only its promises are left: it does not know what is in force after
    /// what it has answered for. It is silent in elections until it has caught up.
    pub(super) fn is_stateless(&self) -> bool {
        self.applied < self.floor
    }

    /// Is no accepted slot in doubt?
    pub(super) fn is_sound(&self) -> bool {
        self.faulty.is_empty() && self.all_faulty_until.is_none()
    }

    /// An index snapshot stands for every slot up to `slot`. What the log holds there may be what was
    /// never chosen.
    pub(super) fn install(&mut self, slot: Slot, epochs: Epochs) {
        assert!(slot > self.applied, "{slot} is applied ({})", self.applied);
        assert!(self.chosen.is_empty(), "applied values wait while a snapshot is taken in");
        self.entries = self.entries.split_off(&slot.next());
        self.faulty = self.faulty.split_off(&slot.next());
        self.applied = slot;
        self.floor = self.floor.max(slot);
        self.epochs = epochs;
        self.apply_known();
    }

    /// Is nothing certain about `slot` (rule 13)?
    pub(super) fn is_faulty(&self, slot: Slot) -> bool {
        self.faulty.contains(&slot) || self.all_faulty_until.is_some()
    }

    pub(super) fn check_invariants(&self) {
        for (slot, entry) in &self.entries {
            assert_eq!(*slot, entry.meta.slot(), "misfiled entry");
            assert!(*slot > self.applied, "{slot} is applied ({})", self.applied);
            assert!(
                entry.ballot <= self.promised,
                "{slot} accepted at {} above the promise {}",
                entry.ballot,
                self.promised
            );
        }
        assert!(self.applied <= self.commit, "{} > {}", self.applied, self.commit);
    }
}

/// Does a node that has applied up to `applied` take `slot`? What is further ahead it refuses.
pub(super) fn is_near(applied: Slot, slot: Slot, ahead_slots: u64) -> bool {
    slot.0 <= applied.0.saturating_add(ahead_slots) || breaks(Mutant::AcceptsFarAhead)
}

impl Paxos {
    /// Raises the promise; durable before anything that speaks of it.
    pub(super) fn promise(&mut self, ballot: Ballot) {
        assert!(ballot > self.acceptor.promised, "{ballot} <= {}", self.acceptor.promised);
        self.acceptor.promised = ballot;
        // A promise still on its way to a lower candidate would mix in what is accepted from now on.
        self.promise_job = None;
        self.effects.persist(Record::Promise { ballot });
    }

    pub(super) fn handle_accept(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        commit: Slot,
        values: Vec<ShardedValue>,
    ) {
        if !self.follow(now, from, ballot) {
            return;
        }
        let mut is_stale = false;
        for value in values {
            let is_applied = value.meta.slot() <= self.acceptor.applied;
            if is_applied && !breaks(Mutant::AcceptsApplied) {
                is_stale = true;
                continue;
            }
            if let Some(ack) = self.accept(ballot, value) {
                self.effects.hold(Effect::Ack { to: from, ballot, ack });
            }
        }
        self.acceptor.learn_commit(ballot, commit);
        // An Accept may come after the commit that covers it: nothing else would apply it then.
        self.acceptor.apply_known();
        if is_stale {
            // An Accept for an applied slot is answered "chosen" (rule 10): `applied` says so.
            let applied = self.acceptor.applied;
            self.send(from, Message::Accepted { ballot, applied, acks: Vec::new() });
        }
    }

    /// Records a value at the promised ballot; the acknowledgement to hold, or `None` if refused.
    pub(super) fn accept(&mut self, ballot: Ballot, value: ShardedValue) -> Option<Ack> {
        assert_eq!(ballot, self.acceptor.promised, "accepting at another ballot");
        let ShardedValue { meta, mut shards } = value;
        let slot = meta.slot();
        let applied = self.acceptor.applied;
        if !is_near(applied, slot, self.limits().accept_ahead_slots) {
            self.trace(|| format!("refuse {slot}: too far above {applied}"));
            return None;
        }
        if !is_sound(&meta, &shards) {
            self.trace(|| format!("refuse {}: header or shards that are not of its code", meta.id));
            return None;
        }
        // Rule 11: who proposed it did not know of the entry that ended its epoch, and that lies before
        // this slot. It must not take the place of what is proposed behind that entry.
        let of_slot = self.acceptor.entries.get(&slot).map(|entry| entry.meta.epoch);
        let latest = self.acceptor.rules().epoch.max(of_slot.unwrap_or_default());
        if meta.epoch < latest && !breaks(Mutant::OldEpochOvertakes) {
            self.trace(|| format!("refuse {}: of an epoch that ended before it", meta.id));
            return None;
        }
        let acceptor = &mut self.acceptor;
        let is_chosen = (ballot, slot) <= acceptor.commit_mark && ballot == acceptor.commit_mark.0;
        let mut held = ShardSet::EMPTY;
        if let Some(entry) = acceptor.entries.get_mut(&slot).filter(|e| e.meta.id == meta.id) {
            if entry.meta != meta && !breaks(Mutant::IgnoresDigest) {
                // Same id, other bytes: an id was used twice (rule 9). Never mixed, never accepted.
                self.trace(|| format!("refuse {}: another value of the same id", meta.id));
                return None;
            }
            let is_less = !shards.iter().all(|shard| entry.held.contains(shard.index));
            held = if is_less && breaks(Mutant::ReplacesShards) {
                ShardSet::EMPTY
            } else {
                entry.held
            };
            shards.retain(|shard| !held.contains(shard.index));
            if entry.ballot == ballot && shards.is_empty() {
                return Some(Ack { id: meta.id, held });
            }
        }
        // Rule 2: the union of what it had and what it gets.
        for shard in &shards {
            held.insert(shard.index);
        }
        let id = meta.id;
        // Shards recorded again count as held anew: the record that was damaged is superseded.
        if acceptor.faulty.contains(&slot) && held.count() >= u32::from(meta.code.k()) {
            acceptor.faulty.remove(&slot);
        }
        let entry = Entry { ballot, meta: meta.clone(), held, is_chosen };
        acceptor.entries.insert(slot, entry);
        self.effects.persist(Record::Accept { ballot, meta, shards });
        Some(Ack { id, held })
    }

    /// Takes the sender of a leader's message as leader, or answers that it is deposed.
    pub(super) fn follow(&mut self, now: Instant, from: u8, ballot: Ballot) -> bool {
        if ballot < self.acceptor.promised {
            let promised = self.acceptor.promised;
            self.send(from, Message::Nack { promised });
            return false;
        }
        if ballot.owner().0 != from || from == self.own {
            self.trace(|| format!("refuse {ballot} from n{from}: not its owner"));
            return false;
        }
        if ballot > self.acceptor.promised {
            self.promise(ballot);
        }
        if !matches!(self.role, Role::Follower) {
            self.step_down(now, "another leads");
        }
        self.leader = Some(ballot);
        self.leader_heard = Some(now);
        self.vain_campaigns = 0;
        self.reset_election(now);
        true
    }

    /// What is durable is told: acknowledgements of one leader go in one message.
    pub(super) fn release_durable(&mut self, now: Instant) {
        let mut acks: Vec<(u8, Ballot, Vec<Ack>)> = Vec::new();
        while let Some(effect) = self.effects.pop_durable() {
            match effect {
                Effect::Ack { to, ballot, ack } => match acks.last_mut() {
                    Some((t, b, list)) if *t == to && *b == ballot => list.push(ack),
                    Some(_) | None => acks.push((to, ballot, vec![ack])),
                },
                Effect::AckSelf { ballot, ack } => {
                    let own = self.own;
                    self.handle_accepted(now, own, ballot, Slot::ZERO, &[ack]);
                }
                Effect::Prepare { ballot } => self.start_prepare(now, ballot),
                Effect::Promise { to, ballot, attempt } => {
                    self.start_promise(now, to, ballot, attempt);
                }
                Effect::Repaired => self.finish_repair(),
                Effect::Indexed { slot } => {
                    self.effects.handle_indexed(slot);
                    self.restoring.stored = self.restoring.stored.max(slot);
                }
            }
        }
        let applied = self.acceptor.applied;
        for (to, ballot, acks) in acks {
            self.send(to, Message::Accepted { ballot, applied, acks });
        }
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.outputs.push_back(Output::Trace(line()));
        }
    }
}

/// The configuration that a value starts, if it is one.
pub(super) fn configuration(meta: &ValueMeta) -> Option<Configuration> {
    match meta.content() {
        Content::Configuration => Configuration::decode(meta.header.clone()).ok(),
        Content::NoOp | Content::Command => None,
    }
}

/// Do the shards belong to the value: indexes, lengths, digests? Is a configuration one?
pub(super) fn is_sound(meta: &ValueMeta, shards: &[Shard]) -> bool {
    if meta.content() == Content::Configuration && configuration(meta).is_none() {
        return false;
    }
    let shard_bytes = meta.code.shard_bytes(meta.payload_bytes as usize);
    let mut seen = ShardSet::EMPTY;
    shards.iter().all(|shard| {
        let is_new = !seen.contains(shard.index);
        seen.insert(shard.index);
        is_new
            && shard.index < meta.code.n()
            && shard.bytes.len() == shard_bytes
            && shard.is_intact()
    })
}
