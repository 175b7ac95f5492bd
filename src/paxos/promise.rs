//! Phase 1, both sides: an acceptor reads back what it accepted and sends it in pages; a candidate
//! collects whole promises and decides, per slot, what to propose (rules 1, 5, 6, 13).
//!
//! [`decide`] is a pure function of the promises: it is tested by itself.

use super::acceptor::{configuration, is_sound};
use super::message::{Message, Promise, PromiseEntry, ShardedValue};
use super::{Paxos, ReadPurpose, Role};
use crate::config::{Configuration, EpochConfig};
use crate::mutant::{Mutant, breaks, is_any};
use crate::storage::StoredValue;
use crate::time::Instant;
use crate::types::{Ballot, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::collections::{BTreeMap, VecDeque};

/// An acceptor's promise on its way: slots are read back one after the other.
#[derive(Debug)]
pub(super) struct PromiseJob {
    /// Tells its reads from those of jobs that it has replaced.
    id: u64,
    pub(super) to: u8,
    pub(super) ballot: Ballot,
    attempt: u64,
    page: u32,
    applied: Slot,
    configuration: Configuration,
    /// Still to be read.
    slots: VecDeque<Slot>,
    entries: Vec<PromiseEntry>,
    entries_bytes: usize,
}

/// What a candidate has been promised.
#[derive(Debug)]
pub(super) struct Candidacy {
    pub(super) ballot: Ballot,
    pub(super) attempt: u64,
    /// Its ballot is stored, and the others were asked.
    pub(super) is_asking: bool,
    /// The leader of this ballot has given its lease up.
    pub(super) released: Ballot,
    /// By id.
    pub(super) promises: BTreeMap<u8, Collected>,
}

/// The pages of one acceptor's promise.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    attempt: u64,
    pages: BTreeMap<u32, Vec<PromiseEntry>>,
    page_count: Option<u32>,
    applied: Slot,
    /// In force after `applied`; none before the first page.
    configuration: Option<Configuration>,
}

/// What a new leader does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Not enough is known yet.
    Wait,
    /// Propose these, slots ascending, from the slot after `applied` on.
    Lead {
        /// Everything up to here is chosen.
        applied: Slot,
        /// In force after it.
        configuration: Box<Configuration>,
        /// What to propose for each slot after it, up to one that starts other members: what follows
        /// is theirs to decide.
        proposals: Vec<Recovered>,
    },
}

/// What to propose for one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    /// This value may have been chosen: at least k distinct shards of it.
    Value {
        /// The value.
        meta: ValueMeta,
        /// Its shards, indexes distinct.
        shards: Vec<Shard>,
    },
    /// Nothing was chosen.
    NoOp,
}

impl Collected {
    fn is_complete(&self) -> bool {
        self.page_count.is_some_and(|count| self.pages.len() == count as usize)
    }

    /// Has it pages, and is that enough for a mutant?
    fn is_taken_in_part(&self) -> bool {
        !self.pages.is_empty() && breaks(Mutant::CountsPartialPromises)
    }

    fn entries(&self) -> impl Iterator<Item = &PromiseEntry> {
        self.pages.values().flatten()
    }

    /// A complete promise of `entries`.
    #[cfg(test)]
    pub(super) fn whole(applied: Slot, of: Configuration, entries: Vec<PromiseEntry>) -> Self {
        let (pages, configuration) = ([(0, entries)].into(), Some(of));
        Self { attempt: 0, pages, page_count: Some(1), applied, configuration }
    }
}

/// Everything the complete promises say of one slot.
#[derive(Default)]
struct SlotEvidence<'a> {
    /// Of promises that are sound elsewhere.
    faulty_count: u32,
    accepted: Vec<Told<'a>>,
}

/// What one promise says of it.
struct Told<'a> {
    ballot: Ballot,
    claimed: ShardSet,
    value: &'a ShardedValue,
    /// The promise counts for no slot.
    is_blind: bool,
}

/// What the owner of a ballot proposes, given the promises so far: a full prepare quorum of every
/// configuration epoch that they tell of must be whole (rules 5 and 11).
///
/// The epoch in force after the highest applied slot is known from whoever applied it; only its
/// members count. A later one is among the open slots, or it is not chosen: any Q1 of its predecessor
/// shows it. Where it has other members this ballot ends (`Paxos::enter_configuration`).
pub(super) fn decide(promises: &BTreeMap<u8, Collected>) -> Decision {
    let is_whole = |promise: &Collected| promise.is_complete() || promise.is_taken_in_part();
    let whole = || promises.iter().filter(|(_, promise)| is_whole(promise));
    // At or below the highest applied slot everything is chosen: nothing is proposed there.
    let furthest = whole().filter_map(|(_, p)| Some((p.applied, p.configuration.as_ref()?)));
    let Some((applied, first)) = furthest.max_by_key(|(applied, of)| (*applied, of.rules.epoch))
    else {
        return Decision::Wait;
    };
    let counts = |node: u8| first.is_member(node) || breaks(Mutant::CountsStrangers);
    let whole: Vec<&Collected> =
        whole().filter(|(node, _)| counts(**node)).map(|(_, promise)| promise).collect();
    let whole_count = u32::try_from(whole.len()).unwrap_or(u32::MAX);
    let mut epoch = first.rules;
    let mut prepare = epoch.quorums().prepare;
    prepare = newest_prepare(&whole, epoch).unwrap_or(prepare);
    let mut evidence: BTreeMap<Slot, SlotEvidence<'_>> = BTreeMap::new();
    let mut sound_count = whole_count;
    for promise in &whole {
        // A promise without any trustworthy slot counts for none above what it applied.
        let is_blind = promise.entries().any(|entry| matches!(entry, PromiseEntry::AllFaulty));
        sound_count -= u32::from(is_blind);
        for entry in promise.entries() {
            match entry {
                PromiseEntry::Accepted { ballot, claimed, value } => {
                    let of_slot = evidence.entry(value.meta.slot()).or_default();
                    let (ballot, claimed) = (*ballot, *claimed);
                    of_slot.accepted.push(Told { ballot, claimed, value, is_blind });
                }
                PromiseEntry::Faulty { slot } => {
                    evidence.entry(*slot).or_default().faulty_count += u32::from(!is_blind);
                }
                PromiseEntry::AllFaulty => {}
            }
        }
    }
    if sound_count < prepare {
        if sound_count + 1 < prepare || !breaks(Mutant::DecidesWithFewer) {
            return Decision::Wait;
        }
        prepare = sound_count;
    }
    let last = evidence.keys().next_back().copied().unwrap_or_default();
    let mut proposals = Vec::new();
    for slot in (applied.0 + 1..=last.0).map(Slot) {
        let mut of_slot = evidence.remove(&slot).unwrap_or_default();
        // Rule 11: behind the entry that starts an epoch nothing of an older one was ever chosen.
        let is_of_now =
            |of: &ValueMeta| of.epoch >= epoch.epoch || breaks(Mutant::OldEpochOvertakes);
        of_slot.accepted.retain(|told| is_of_now(&told.value.meta));
        // Rule 13: a faulty promise does not count towards Q1 for that slot.
        if sound_count < prepare + of_slot.faulty_count && !breaks(Mutant::CountsDamaged) {
            return Decision::Wait;
        }
        let spare = sound_count.saturating_sub(prepare + of_slot.faulty_count);
        let Some(proposal) = decide_slot(&of_slot, spare) else { return Decision::Wait };
        if let Recovered::Value { meta, .. } = &proposal
            && let Some(next) = configuration(meta).filter(|next| next.rules.epoch > epoch.epoch)
        {
            if next.members != first.members {
                proposals.push(proposal);
                break;
            }
            epoch = next.rules;
            prepare = epoch.quorums().prepare;
            if sound_count < prepare {
                return Decision::Wait;
            }
        }
        proposals.push(proposal);
    }
    Decision::Lead { applied, configuration: Box::new(first.clone()), proposals }
}

/// `spare`: promises beyond Q1. `None`: shards are claimed whose bytes are not here, or a later ballot
/// has chosen: wait.
fn decide_slot(evidence: &SlotEvidence<'_>, spare: u32) -> Option<Recovered> {
    let highest = evidence.accepted.iter().max_by_key(|told| {
        let origin = told.value.meta.id.origin;
        if told.ballot != origin && breaks(Mutant::OriginWins) { origin } else { told.ballot }
    });
    let Some(Told { ballot, value, .. }) = highest else {
        return Some(Recovered::NoOp);
    };
    let id: ValueId = value.meta.id;
    let k = u32::from(value.meta.code.k());
    let (mut claimed_all, mut claimed_soundly) = (ShardSet::EMPTY, ShardSet::EMPTY);
    let mut damaged_count = 0;
    let mut shards: BTreeMap<u8, Shard> = BTreeMap::new();
    // Rule 1: shards count by value id, over all ballots.
    for told in &evidence.accepted {
        let (claimed, other) = (told.claimed, told.value);
        if other.meta.id != id {
            if told.ballot == *ballot {
                // A gathered value stands at its node's promised ballot, which may be below the one
                // that chose it. Then this candidate is overtaken: it cannot lead.
                return None;
            }
            continue;
        }
        if told.ballot != *ballot && breaks(Mutant::CountsHighestBallotOnly) {
            continue;
        }
        claimed_all = claimed_all.union(claimed);
        let intact: ShardSet = other.shards.iter().map(|shard| shard.index).collect();
        if intact.contains_all(claimed) {
            claimed_soundly = claimed_soundly.union(claimed);
        } else {
            damaged_count += u32::from(!told.is_blind);
        }
        for shard in &other.shards {
            shards.entry(shard.index).or_insert_with(|| shard.clone());
        }
    }
    if shards.len() >= k as usize {
        let shards = shards.into_values().collect();
        return Some(Recovered::Value { meta: value.meta.clone(), shards });
    }
    // Rule 13: damaged promises are faulty ones here. Is there a Q1 without them, they are not needed.
    let is_open_without = damaged_count <= spare && claimed_soundly.count() < k;
    let is_open = claimed_all.count() < k || is_open_without || breaks(Mutant::IgnoresClaims);
    is_open.then_some(Recovered::NoOp)
}

/// For a mutant alone: the prepare quorum of the newest epoch that the promises tell of.
fn newest_prepare(promises: &[&Collected], epoch: EpochConfig) -> Option<u32> {
    if !is_any() {
        return None;
    }
    let newer = |entry: &PromiseEntry| match entry {
        PromiseEntry::Accepted { value, .. } => {
            configuration(&value.meta).filter(|next| next.rules.epoch > epoch.epoch)
        }
        PromiseEntry::Faulty { .. } | PromiseEntry::AllFaulty => None,
    };
    let newest = promises.iter().flat_map(|promise| promise.entries()).filter_map(newer);
    let newest = newest.max_by_key(|next| next.rules.epoch)?;
    breaks(Mutant::ForgetsOldEpoch).then(|| newest.rules.quorums().prepare)
}

impl Paxos {
    pub(super) fn handle_prepare(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        attempt: u64,
        released: Ballot,
    ) {
        if self.is_turned_away(from) {
            return;
        }
        let promised = self.acceptor.promised;
        if ballot < promised || ballot.owner().0 != from {
            self.send(from, Message::Nack { promised });
            return;
        }
        if self.acceptor.is_stateless() {
            self.trace(|| format!("its state is lost: no promise for {ballot}"));
            return;
        }
        if ballot > promised && self.granted.binds(now, released) {
            self.trace(|| format!("bound by a lease: no promise for {ballot}"));
            return;
        }
        if ballot > promised {
            self.promise(ballot);
            self.step_down(now, "a higher ballot asks");
            self.leader = None;
            self.reset_election(now);
        }
        self.effects.hold(super::effects::Effect::Promise { to: from, ballot, attempt });
    }

    /// The promise is durable: read back what was accepted, then answer.
    pub(super) fn start_promise(&mut self, now: Instant, to: u8, ballot: Ballot, attempt: u64) {
        // One answer to an attempt, also when it was asked twice: pages of two do not fit together.
        if ballot != self.acceptor.promised || (ballot, attempt) <= self.promised_attempt {
            return;
        }
        self.promised_attempt = (ballot, attempt);
        let mut entries = Vec::new();
        if self.acceptor.all_faulty_until.is_some() && !breaks(Mutant::HidesDamage) {
            entries.push(PromiseEntry::AllFaulty);
        }
        let faulty = self.acceptor.faulty.range(self.acceptor.applied.next()..);
        let faulty = faulty.filter(|_| !breaks(Mutant::HidesDamage));
        entries.extend(faulty.map(|slot| PromiseEntry::Faulty { slot: *slot }));
        self.promise_jobs += 1;
        let applied = self.acceptor.applied;
        let is_told = to == self.own || applied == Slot::ZERO || !breaks(Mutant::HidesApplied);
        let job = PromiseJob {
            id: self.promise_jobs,
            to,
            ballot,
            attempt,
            page: 0,
            applied: if is_told { applied } else { Slot::ZERO },
            configuration: self.acceptor.epochs.current.clone(),
            slots: self
                .acceptor
                .entries
                .keys()
                .filter(|slot| !self.acceptor.faulty.contains(slot))
                .copied()
                .collect(),
            entries_bytes: entries.len() * 16,
            entries,
        };
        // Only the latest promise is worth sending.
        self.promise_job = None;
        self.advance_promise(now, job);
    }

    fn advance_promise(&mut self, now: Instant, mut job: PromiseJob) {
        match job.slots.pop_front() {
            Some(slot) => {
                let purpose = ReadPurpose::Promise { job: job.id };
                self.promise_job = Some(job);
                self.read(slot, purpose);
            }
            None => self.send_page(now, &mut job, true),
        }
    }

    /// One slot of a promise was read.
    pub(super) fn continue_promise(
        &mut self,
        now: Instant,
        id: u64,
        slot: Slot,
        stored: Option<StoredValue>,
    ) {
        // The next attempt starts anew while the job before still reads: its answer counts for
        // nothing, or it would stand for a slot that this job has yet to read.
        let Some(mut job) = self.promise_job.take_if(|job| job.id == id) else { return };
        let claimed_by = |stored: &StoredValue| {
            let intact: ShardSet = stored.shards.iter().map(|shard| shard.index).collect();
            intact.union(stored.damaged)
        };
        // A slot may rest in several records. One that is gone leaves an older answer (rule 13).
        let entry = self.acceptor.entries.get(&slot);
        let entry = entry.filter(|of| !of.is_chosen || !breaks(Mutant::AnswersOlderOfChosen));
        let stored = stored.filter(|stored| {
            let is_newest = entry.is_none_or(|entry| {
                stored.ballot >= entry.ballot && claimed_by(stored).contains_all(entry.held)
            });
            is_newest || breaks(Mutant::AnswersOlderRecord)
        });
        let entry = match stored {
            Some(stored) => {
                // Claimed, since it may have counted; not held, so that it is taken again.
                if let Some(entry) = self.acceptor.entries.get_mut(&slot) {
                    entry.held = entry.held.without(stored.damaged);
                }
                let claimed = claimed_by(&stored);
                let value = ShardedValue { meta: stored.meta, shards: stored.shards };
                job.entries_bytes += value.wire_bytes();
                PromiseEntry::Accepted { ballot: stored.ballot, claimed, value }
            }
            None => {
                self.acceptor.lose(slot);
                PromiseEntry::Faulty { slot }
            }
        };
        job.entries.push(entry);
        if job.entries_bytes >= self.limits().page_bytes && !job.slots.is_empty() {
            self.send_page(now, &mut job, false);
        }
        self.advance_promise(now, job);
    }

    fn send_page(&mut self, now: Instant, job: &mut PromiseJob, is_last: bool) {
        let promise = Promise {
            ballot: job.ballot,
            attempt: job.attempt,
            page: job.page,
            is_last,
            applied: job.applied,
            configuration: job.configuration.clone(),
            entries: std::mem::take(&mut job.entries),
        };
        job.page += 1;
        job.entries_bytes = 0;
        if job.to == self.own {
            let own = self.own;
            self.handle_promise(now, own, promise);
        } else {
            self.send(job.to, Message::Promise(promise));
        }
    }

    pub(super) fn handle_promise(&mut self, now: Instant, from: u8, promise: Promise) {
        let limit = self.limits().accept_ahead_slots;
        let Role::Candidate(candidacy) = &mut self.role else {
            // Rule 6: a late promise changes nothing that is decided.
            self.hear_late_promise(now, from, promise.ballot);
            if is_any() {
                self.decide_again(now, promise);
            }
            return;
        };
        if promise.ballot != candidacy.ballot || promise.attempt > candidacy.attempt {
            return;
        }
        let collected = candidacy.promises.entry(from).or_default();
        if promise.attempt < collected.attempt || collected.is_complete() {
            return;
        }
        if promise.attempt > collected.attempt {
            *collected = Collected { attempt: promise.attempt, ..Collected::default() };
        }
        // An honest page holds at least one entry, or is the last.
        if u64::from(promise.page) > limit {
            return;
        }
        collected.applied = promise.applied;
        collected.configuration = Some(promise.configuration.clone());
        if promise.is_last {
            collected.page_count = Some(promise.page + 1);
        }
        let mut entries = promise.entries;
        for entry in &mut entries {
            if let PromiseEntry::Accepted { value: ShardedValue { meta, shards }, .. } = entry {
                // A shard damaged on its way stays a claim: wait for it, never a no-op.
                shards.retain(|shard| is_sound(meta, std::slice::from_ref(shard)));
            }
        }
        collected.pages.insert(promise.page, entries);
        let is_complete = collected.is_complete() || collected.is_taken_in_part();
        // It may tell of members that this node has not asked: then it must apply that first.
        self.handle_members(now, promise.applied, promise.configuration, None);
        if is_complete {
            self.try_lead(now);
        }
    }

    fn try_lead(&mut self, now: Instant) {
        let Role::Candidate(candidacy) = &self.role else { return };
        let ballot = candidacy.ballot;
        match decide(&candidacy.promises) {
            Decision::Wait => {
                self.trace(|| format!("candidate {ballot}: promises do not decide yet"));
            }
            Decision::Lead { applied, configuration, mut proposals } => {
                // What was gathered meanwhile is chosen: nothing is proposed there (rule 5).
                let gathered = self.acceptor.applied.0.saturating_sub(applied.0);
                let gathered = usize::try_from(gathered).unwrap_or(usize::MAX);
                proposals.drain(..gathered.min(proposals.len()));
                if self.acceptor.rules().epoch > configuration.rules.epoch {
                    // A configuration was gathered: who counts behind it was not asked for that.
                    let released = candidacy.released;
                    return self.campaign_again(ballot, released);
                }
                if !configuration.is_member(self.own) {
                    return self.step_down(now, "is no member any more");
                }
                let applied = applied.max(self.acceptor.applied);
                let applied_by =
                    candidacy.promises.iter().map(|(node, promise)| (*node, promise.applied));
                let applied_by = applied_by.collect();
                self.lead(now, ballot, (applied, *configuration), proposals, &applied_by);
            }
        }
    }
}
