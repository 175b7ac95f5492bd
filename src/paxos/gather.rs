//! Gathering: k shards of a chosen value from those who have applied it.
//!
//! One mechanism for three needs: a node that missed slots gets its own shard (decoded and coded
//! anew), a new leader fills what others applied, a read without the value at hand. Only applied
//! slots are served, so what is gathered is chosen. Every shard is verified by its digest, the whole
//! after decoding.

use super::acceptor::{Entry, is_sound};
use super::message::{Message, ShardedValue, Want};
use super::patience::Patience;
use super::policy::wanted;
use super::{Paxos, ReadPurpose, Role};
use crate::mutant::{Mutant, breaks};
use crate::storage::StoredValue;
use crate::time::Instant;
use crate::types::{Bytes, Digest, Epoch, NodeSet, Record, Shard, ShardSet, Slot, ValueMeta};
use std::collections::BTreeMap;

/// One value on its way here.
#[derive(Debug)]
pub(super) struct Gather {
    /// A read waits for its payload.
    wants_payload: bool,
    /// An applied value of which this node lacks shards.
    repair: Option<Repair>,
    meta: Option<ValueMeta>,
    shards: BTreeMap<u8, Shard>,
    /// By id.
    asked: NodeSet,
    /// Of those, who has said anything.
    answered: NodeSet,
    /// Who has given shards of it, and may have more; and whether they were asked for these.
    givers: NodeSet,
    has_asked_givers: bool,
    pub(super) patience: Patience,
    try_again_at: Instant,
    /// It was asked for again so often: each time waits longer, for a slow link would only get slower.
    tries: u32,
    /// The own log is read first.
    is_local: bool,
}

/// What is recorded anew of an applied value, beside this node's home shard.
#[derive(Clone, Copy, Debug)]
struct Repair {
    damaged: ShardSet,
    /// Its record is damaged: it may have answered for as many as k.
    is_unknown: bool,
}

/// The end of a gather for a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The slot.
    pub slot: Slot,
    /// Its payload.
    pub payload: Bytes,
}

impl Paxos {
    /// Starts to gather the payload of an applied slot; the end comes from [`Self::poll_gathered`].
    /// False when too many are under way: ask again later.
    pub fn gather_payload(&mut self, now: Instant, slot: Slot) -> bool {
        assert!(slot <= self.acceptor.applied, "{slot} is not applied");
        let is_full = self.gathers_for_applied() >= self.limits().gathers;
        if let Some(gather) = self.gathers.get_mut(&slot) {
            // One that caught up with this slot takes another place from now on.
            let has_place = !is_full || gather.is_for_applied();
            gather.wants_payload |= has_place;
            return has_place;
        }
        if is_full {
            return false;
        }
        self.gathers.insert(slot, Gather::new(now, true));
        self.read(slot, ReadPurpose::Gather);
        true
    }

    /// A read gives up on `slot`.
    pub fn cancel_gather(&mut self, slot: Slot) {
        if slot <= self.acceptor.applied
            && let Some(gather) = self.gathers.get_mut(&slot)
        {
            gather.wants_payload = false;
            if gather.repair.is_none() {
                self.gathers.remove(&slot);
            }
        }
    }

    /// Does `stored`, read from the own log, hold the shard that this node is home to, and no damage?
    #[must_use]
    pub fn is_whole(&self, stored: &StoredValue) -> bool {
        let held: ShardSet = stored.shards.iter().map(|shard| shard.index).collect();
        let Some(home) = self.home(stored.meta.epoch) else { return false };
        stored.damaged.is_empty() && held.contains_all(wanted(stored.meta.code, home, 1))
    }

    /// Gathers an applied value anew and records the shards of it that this node lacks, given what
    /// its log holds; `is_unknown`: a record that is gone may have answered for k shards. The end
    /// comes from [`Self::poll_repaired`]. False when too many gathers are under way, or this node does
    /// not know its place yet.
    pub fn repair(
        &mut self,
        now: Instant,
        slot: Slot,
        stored: Option<StoredValue>,
        is_unknown: bool,
    ) -> bool {
        assert!(slot <= self.acceptor.applied, "{slot} is not applied");
        if self.home(Epoch(0)).is_none() {
            return false;
        }
        let damaged = stored.as_ref().map_or(ShardSet::EMPTY, |stored| stored.damaged);
        let repair = Some(Repair { damaged, is_unknown });
        let is_full = self.gathers_for_applied() >= self.limits().gathers;
        if let Some(gather) = self.gathers.get_mut(&slot) {
            if is_full && !gather.is_for_applied() {
                return false;
            }
            gather.repair = repair;
            return true;
        }
        // Repair may use some of the places: reads come first.
        let repairs = self.gathers.values().filter(|gather| gather.repair.is_some()).count();
        if is_full || repairs >= (self.limits().gathers / 4).max(1) {
            return false;
        }
        let mut gather = Gather::new(now, false);
        gather.repair = repair;
        self.gathers.insert(slot, gather);
        self.continue_gather(now, slot, stored);
        true
    }

    /// The next slot whose shards were recorded anew.
    pub fn poll_repaired(&mut self) -> Option<Slot> {
        self.repaired.pop_front()
    }

    /// Nobody needs the shards of `slot` any more: its value is superseded.
    pub fn cancel_repair(&mut self, slot: Slot) {
        if let Some(gather) = self.gathers.get_mut(&slot) {
            gather.repair = None;
            if !gather.wants_payload {
                self.gathers.remove(&slot);
            }
        }
    }

    /// The next payload gathered.
    pub fn poll_gathered(&mut self) -> Option<Gathered> {
        self.gathered.pop_front()
    }

    /// The own log has answered for a payload.
    pub(super) fn continue_gather(
        &mut self,
        now: Instant,
        slot: Slot,
        stored: Option<StoredValue>,
    ) {
        let Some(gather) = self.gathers.get_mut(&slot) else { return };
        gather.is_local = false;
        if let Some(stored) = stored {
            gather.meta = Some(stored.meta);
            gather.shards = stored.shards.into_iter().map(|s| (s.index, s)).collect();
        }
        if !self.try_finish(now, slot) {
            self.ask(now, slot, false);
        }
    }

    /// Gathers that reads or repairs wait for.
    pub(super) fn gathers_for_applied(&self) -> usize {
        self.gathers.values().filter(|gather| gather.is_for_applied()).count()
    }

    /// Ends what has waited for a configuration to be applied.
    pub(super) fn finish_complete(&mut self, now: Instant) {
        if self.home(Epoch(0)).is_none() {
            return;
        }
        let rules = self.acceptor.rules();
        let is_known =
            |gather: &Gather| gather.meta.as_ref().is_some_and(|meta| meta.epoch <= rules.epoch);
        let complete = self.gathers.iter().filter(|(_, g)| !g.is_local && g.has_all());
        let complete = complete.filter(|(_, gather)| is_known(gather));
        let complete: Vec<Slot> = complete.map(|(slot, _)| *slot).collect();
        for slot in complete {
            self.try_finish(now, slot);
        }
    }

    /// Has anything been chosen for a while that is not applied here? Then fetch it.
    pub(super) fn tick_gather(&mut self, now: Instant) {
        if now < self.catching_up.at {
            return;
        }
        let applied = self.acceptor.applied;
        let is_behind = self.acceptor.commit > applied;
        let has_place = self.home(Epoch(0)).is_some();
        let is_idle = self.gathers.is_empty() && !self.is_restoring();
        if self.catching_up.is_new && !is_behind && has_place && is_idle {
            return;
        }
        self.catching_up.at = now + self.config.timing.resend();
        let is_stuck = self.catching_up.is_new || applied == self.catching_up.applied_at_tick;
        if is_behind && is_stuck {
            self.catching_up.until = self.missed_until();
        }
        self.catching_up.is_new &= !is_behind;
        self.catching_up.applied_at_tick = applied;
        // Applied in the meantime by the usual way: nobody waits for these any more.
        self.gathers.retain(|slot, gather| gather.is_for_applied() || *slot > applied);
        self.tick_restore(now);
        if self.home(Epoch(0)).is_none() {
            self.probe();
        }
        let overdue: Vec<Slot> = self
            .gathers
            .iter()
            .filter(|(_, gather)| !gather.is_local && gather.try_again_at <= now)
            .filter(|(_, gather)| !gather.has_all())
            .map(|(slot, _)| *slot)
            .collect();
        for slot in overdue {
            let gather = self.gathers.get(&slot);
            let unanswered = gather.map(Gather::unanswered);
            self.silent = self.silent.union(unanswered.unwrap_or_default());
            self.ask(now, slot, true);
        }
        self.catch_up(now);
    }

    /// Asks as many peers as shards of `slot` are missing for one each, who were not asked before;
    /// where fewer than that answer at all, for all they have; when nobody is left those again who
    /// gave some. When too few have answered in time it `is_repeated`, and in the end all are asked for
    /// all they have.
    pub(super) fn ask(&mut self, now: Instant, slot: Slot, is_repeated: bool) {
        let contacts = self.contacts();
        let held = self.acceptor.entries.get(&slot).filter(|entry| self.holds_own(entry));
        let held = held.map(|entry| entry.meta.id).filter(|_| !self.acceptor.is_faulty(slot));
        let dead: NodeSet = match &self.role {
            Role::Leader(leader) => {
                leader.peers.iter().filter(|(_, peer)| !peer.is_alive).map(|(id, _)| *id).collect()
            }
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => NodeSet::EMPTY,
        };
        let k = usize::from(self.acceptor.rules().code.k());
        let Some(gather) = self.gathers.get_mut(&slot) else { return };
        let needed = gather.meta.as_ref().map_or(k, |meta| usize::from(meta.code.k()));
        let mut missing = needed.saturating_sub(gather.shards.len()).max(1);
        gather.tries = (gather.tries + u32::from(is_repeated)).min(DOUBLINGS_MAX);
        let is_nobody_left = contacts.without(gather.asked).is_empty();
        let is_everybody = is_repeated && (gather.tries > 1 || is_nobody_left);
        if is_everybody {
            (gather.asked, gather.answered) = (NodeSet::EMPTY, NodeSet::EMPTY);
            missing = usize::MAX;
        }
        gather.try_again_at = now + self.config.timing.resend() * (1 << gather.tries);
        // The leader first: it has applied most. Then the ids after the own, which spreads load. Who
        // let a request wait last: each value would wait as long again.
        let leader = self.leader.map(|ballot| ballot.owner().0).filter(|id| contacts.contains(*id));
        let others = (1..32).map(|step| (self.own + step) % 32);
        let others = others.filter(|id| contacts.contains(*id) && Some(*id) != leader);
        let mut order: Vec<u8> = leader.into_iter().chain(others).collect();
        order.sort_by_key(|id| self.silent.contains(*id));
        let is_left = |id: &&u8| !gather.asked.contains(**id) && !dead.contains(**id);
        let left = order.iter().filter(is_left).filter(|id| !self.silent.contains(**id)).count();
        let is_all = is_everybody || left < missing;
        if left == 0 && !is_everybody && !gather.has_asked_givers {
            // Nobody is left who answers: who gave one shard may have more. Once: then time decides.
            gather.has_asked_givers = !gather.givers.is_empty();
            gather.asked = gather.asked.without(gather.givers);
        }
        let held = if gather.is_for_applied() { None } else { held };
        let mut asked = Vec::new();
        for id in order {
            let is_dead = dead.contains(id);
            if missing == 0 || gather.asked.contains(id) || (is_dead && !is_everybody) {
                continue;
            }
            gather.asked.insert(id);
            missing -= 1;
            asked.push(id);
        }
        if !asked.is_empty() {
            gather.patience.note_asked(now);
        }
        for id in asked {
            self.wants.entry(id).or_default().push(Want { slot, is_all, held });
        }
    }

    /// Requests that have gathered since the last drain, one message per peer.
    pub(super) fn flush_gathers(&mut self) {
        while let Some((to, wants)) = self.wants.pop_first() {
            self.send(to, Message::Fetch { wants });
        }
    }

    pub(super) fn handle_shards(
        &mut self,
        now: Instant,
        from: u8,
        (applied, floor): (Slot, Slot),
        missing: &[Slot],
        entries: Vec<ShardedValue>,
    ) {
        // A peer that applied more than this node has heard of: it is behind.
        self.acceptor.commit = self.acceptor.commit.max(applied);
        self.silent.remove(from);
        let sent = entries.iter().map(|value| (value.meta.slot(), true));
        let told = sent.chain(missing.iter().map(|slot| (*slot, false)));
        let least = self.least_patience();
        for (slot, has_shards) in told {
            if let Some(gather) = self.gathers.get_mut(&slot) {
                gather.answered.insert(from);
                if has_shards {
                    gather.patience.note_answered(now, least);
                }
            }
        }
        for value in entries {
            self.take_shards(now, from, value);
        }
        let next = self.acceptor.applied.next();
        if floor >= next && missing.contains(&next) {
            self.start_restore(now, from);
        }
        for slot in missing {
            if self.gathers.contains_key(slot) {
                self.ask(now, *slot, false);
            }
        }
        self.catch_up(now);
    }

    fn take_shards(&mut self, now: Instant, from: u8, value: ShardedValue) {
        let slot = value.meta.slot();
        let Some(gather) = self.gathers.get_mut(&slot) else { return };
        if gather.is_local {
            return;
        }
        if let Some(known) = &gather.meta {
            // Applied on both sides, hence the same value; anything else is a broken cluster.
            assert_eq!(known.id, value.meta.id, "two values chosen for {slot}");
        }
        if !is_sound(&value.meta, &value.shards) {
            self.trace(|| format!("{slot} from n{from}: damaged shards"));
            self.ask(now, slot, false);
            return;
        }
        gather.givers.insert(from);
        gather.meta = Some(value.meta);
        // Two nodes may have the same shard of a value that is older than one of them.
        let known_count = gather.shards.len();
        for shard in value.shards {
            gather.shards.insert(shard.index, shard);
        }
        let is_empty_handed = gather.shards.len() == known_count;
        let still_asked = gather.unanswered().without(self.silent);
        let is_in_vain = is_empty_handed || still_asked.is_empty();
        if !self.try_finish(now, slot) && is_in_vain {
            self.ask(now, slot, false);
        }
    }

    /// Ends the gather of `slot` if that is possible now.
    fn try_finish(&mut self, now: Instant, slot: Slot) -> bool {
        let Some(gather) = self.gathers.get(&slot) else { return true };
        let Some(meta) = gather.meta.clone() else { return false };
        if self.is_overtaken(meta.id) {
            // A later ballot has chosen here. What this one proposed at an applied slot would count as
            // chosen at once (rule 10).
            self.step_down(now, "another ballot has chosen");
        }
        let Some(gather) = self.gathers.get(&slot) else { return true };
        let is_held = self
            .acceptor
            .entries
            .get(&slot)
            .filter(|entry| entry.meta.id == meta.id || breaks(Mutant::GathersAnyId))
            .is_some_and(|entry| !self.acceptor.is_faulty(slot) && self.holds_own(entry));
        let (wants_payload, repair) = (gather.wants_payload, gather.repair);
        // Where the own shard has its home is known when every configuration before is applied, and to
        // a newcomer when it has heard its place.
        let is_ahead = slot > self.acceptor.applied && meta.epoch > self.acceptor.rules().epoch;
        if !is_held && (is_ahead || self.home(meta.epoch).is_none()) {
            return false;
        }
        if is_held && !wants_payload && repair.is_none() {
            self.gathers.remove(&slot);
            self.mark_chosen(slot);
            return true;
        }
        if gather.shards.len() < usize::from(meta.code.k()) && meta.payload_bytes > 0 {
            return false;
        }
        let shards: Vec<Shard> = gather.shards.values().cloned().collect();
        let payload = if meta.payload_bytes == 0 {
            Ok(Bytes::new())
        } else {
            self.coders.decode(meta.code, meta.payload_bytes as usize, &shards)
        };
        let payload = payload.ok().filter(|payload| Digest::of(payload) == meta.digest);
        let Some(payload) = payload else {
            // Shards that match their own digests and not the whole: drop all, ask everybody.
            if let Some(gather) = self.gathers.get_mut(&slot) {
                gather.shards.clear();
                gather.asked = NodeSet::EMPTY;
            }
            self.trace(|| format!("{slot}: decoded bytes do not match the value's digest"));
            return false;
        };
        self.gathers.remove(&slot);
        self.rebuilt_count += u64::from(!is_local_copy(&shards, meta.code.k()));
        if slot > self.acceptor.applied {
            self.keep(meta, &payload);
        } else if let Some(repair) = repair {
            self.record_again(meta, &payload, repair);
        }
        if wants_payload {
            self.gathered.push_back(Gathered { slot, payload });
        }
        true
    }

    /// Stores the own shard of a chosen value that was missed. Where a record was damaged, k shards:
    /// it may have answered for as many, and a promise must not say less (rule 13).
    fn keep(&mut self, meta: ValueMeta, payload: &Bytes) {
        let slot = meta.slot();
        let is_short = !self.acceptor.is_faulty(slot) || breaks(Mutant::RepairsWithHome);
        let c = if is_short { 1 } else { meta.code.k() };
        let Some(home) = self.home(meta.epoch) else { return };
        let held = wanted(meta.code, home, c);
        let shards = self.coders.encode_some(meta.code, payload, held);
        // Chosen: no ballot can decide otherwise, so it may stand at the promised one.
        let ballot = self.acceptor.promised;
        let is_same = |entry: &&Entry| entry.meta.id == meta.id && is_short;
        let before = self.acceptor.entries.get(&slot).filter(is_same).map(|entry| entry.held);
        let held = before.unwrap_or(ShardSet::EMPTY).union(held);
        let entry = Entry { ballot, meta: meta.clone(), held, is_chosen: true };
        self.acceptor.entries.insert(slot, entry);
        self.acceptor.faulty.remove(&slot);
        self.effects.persist(Record::Accept { ballot, meta, shards });
        self.acceptor.apply_known();
        self.advance_commit();
    }

    /// Records shards of an applied value that this node should hold. No promise speaks of it any
    /// more; the promised ballot makes it replace whatever else the log has for the slot.
    fn record_again(&mut self, meta: ValueMeta, payload: &Bytes, repair: Repair) {
        let (slot, ballot) = (meta.slot(), self.acceptor.promised);
        let c = if repair.is_unknown { meta.code.k() } else { 1 };
        let Some(home) = self.home(meta.epoch) else { return };
        let held = wanted(meta.code, home, c).union(repair.damaged);
        let shards = self.coders.encode_some(meta.code, payload, held);
        self.effects.persist(Record::Accept { ballot, meta, shards });
        self.repaired.push_back(slot);
    }

    /// Has it the shard that it should hold, as far as its place is known? The bytes of one that it
    /// accepted may have been found damaged since.
    fn holds_own(&self, entry: &Entry) -> bool {
        let is_ahead = entry.meta.epoch > self.acceptor.rules().epoch;
        let home = self.home(entry.meta.epoch).filter(|_| !is_ahead);
        home.is_none_or(|home| entry.held.contains_all(wanted(entry.meta.code, home, 1)))
    }

    fn mark_chosen(&mut self, slot: Slot) {
        if let Some(entry) = self.acceptor.entries.get_mut(&slot) {
            entry.is_chosen = true;
        }
        self.acceptor.apply_known();
        self.advance_commit();
    }
}

impl Gather {
    /// Does anybody wait for it although its slot is applied?
    pub(super) const fn is_for_applied(&self) -> bool {
        self.wants_payload || self.repair.is_some()
    }

    /// Who was asked and has said nothing.
    pub(super) fn unanswered(&self) -> NodeSet {
        self.asked.without(self.answered)
    }

    /// When those who have said nothing are waited for no longer.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        let is_waiting = !self.is_local && !self.unanswered().is_empty() && !self.has_all();
        self.patience.until.filter(|_| is_waiting)
    }

    /// Is all there, and only this node's place, or a configuration before it, not known yet?
    fn has_all(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| {
            meta.payload_bytes == 0 || self.shards.len() >= usize::from(meta.code.k())
        })
    }

    pub(super) fn new(now: Instant, wants_payload: bool) -> Self {
        Self {
            wants_payload,
            repair: None,
            meta: None,
            shards: BTreeMap::new(),
            asked: NodeSet::EMPTY,
            answered: NodeSet::EMPTY,
            givers: NodeSet::EMPTY,
            has_asked_givers: false,
            patience: Patience::new(now),
            try_again_at: now,
            tries: 0,
            is_local: wants_payload,
        }
    }
}

/// With k = 1 the own shard is the value: nothing was rebuilt.
fn is_local_copy(shards: &[Shard], k: u8) -> bool {
    k == 1 && shards.len() == 1
}

/// A gather asks everybody again after a resend time, then after twice that, …
const DOUBLINGS_MAX: u32 = 5;
