//! Index snapshots of this node: taken, written in parts, taken in from peers; and rule 14.
//!
//! A slot is garbage when it was applied here and its value is no key's current one: superseded, or
//! it never was one (a no-op, a failed compare-and-set, a repeated request, a delete). Garbage at or
//! below the floor is given to the log to forget; the floor is never above the slot of a snapshot that
//! is durable here. A snapshot holds the configuration in force and the whole state, never shards.

use super::image::{IndexImage, encode_index};
use super::{Output, Replica, ReplicaError};
use crate::config::Epochs;
use crate::kv::{Applied, Entry, Execution, State, StorageStatus};
use crate::mutant::{Mutant, breaks, is_any};
use crate::paxos::Paxos;
use crate::storage::{IndexSnapshot, Recovered, RecoveredEntry};
use crate::time::Instant;
use crate::types::{DecodeError, Record, Slot, ValueMeta};
use std::collections::{BTreeSet, VecDeque};

/// Snapshots and garbage of one node.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// The latest that is durable here and whose garbage was looked at.
    durable: Slot,
    /// Of the last one begun.
    begun: Slot,
    /// Parts that wait to be persisted.
    parts: VecDeque<Record>,
    /// Slots that nobody needs, not yet forgotten.
    garbage: Vec<Slot>,
    /// About what they take.
    garbage_bytes: u64,
    /// Given to the log.
    reclaims: VecDeque<(Slot, Vec<Slot>)>,
    reclaimed_count: u64,
    restored_count: u64,
    /// Slots that a snapshot from a peer stands for: from after the first up to the second. Shards of
    /// values that live there may never have been held here.
    pub(super) skipped: Option<(Slot, Slot)>,
    /// Slots of current values whose records were lost here, and not recorded anew yet.
    pub(super) lost: BTreeSet<Slot>,
    /// The latest one taken in from a peer: to be stored as this node's own.
    installed: Slot,
}

/// What a log gives to start from.
pub(super) struct Restored {
    pub(super) state: State,
    /// The slot of its snapshot, and the epochs up to it.
    pub(super) base: Option<(Slot, Epochs)>,
    pub(super) snapshots: Snapshots,
}

impl Restored {
    /// `kept_slots` before the snapshot are kept, as while it ran.
    pub(super) fn new(recovered: &Recovered, kept_slots: u64) -> Result<Self, ReplicaError> {
        let mut snapshots = Snapshots::default();
        let (mut state, mut base) = (State::new(), None);
        if let Some(index) = &recovered.index {
            let image =
                decode(index).map_err(|error| ReplicaError::Index { slot: index.slot, error })?;
            base = Some((index.slot, image.epochs));
            state = image.state;
            (snapshots.durable, snapshots.begun) = (index.slot, index.slot);
            snapshots.skipped = image.skipped;
        }
        // What the state does not know as current is garbage, or was never chosen. (A node that has
        // lost its state has applied nothing and cannot tell: it keeps all.)
        let covered = state.applied();
        let is_other = |entry: &&RecoveredEntry| {
            entry.meta.slot() <= covered && !state.is_current(&entry.meta)
        };
        let others = recovered.entries.iter().filter(is_other).map(|entry| entry.meta.slot());
        // Where another value is current the slot stays: it is recorded anew.
        let current: BTreeSet<Slot> = state.after(None).map(|(_, entry)| entry.version).collect();
        snapshots.garbage.extend(others.filter(|slot| !current.contains(slot)));
        let is_faulty = |slot: &Slot| recovered.faulty.contains(slot);
        let is_found = |entry: &&RecoveredEntry| state.is_current(&entry.meta);
        let found = recovered.entries.iter().filter(is_found).map(|entry| entry.meta.slot());
        snapshots.lost = current;
        // Where one record of a slot is damaged another may be there, with fewer shards.
        for slot in found.filter(|slot| !is_faulty(slot)) {
            snapshots.lost.remove(&slot);
        }
        // The log's floor lags: it becomes durable with the next segment. The snapshot is durable.
        let floor = recovered.floor.max(Slot(covered.0.saturating_sub(kept_slots)));
        snapshots.forget(floor.min(covered));
        Ok(Self { state, base, snapshots })
    }
}

impl Snapshots {
    /// May shards be missing that this node should hold?
    pub(super) fn is_repair_outstanding(&self) -> bool {
        self.skipped.is_some() || !self.lost.is_empty()
    }
}

impl Replica {
    /// Notes what `meta`, just applied, leaves behind.
    pub(super) fn note_garbage(&mut self, meta: &ValueMeta, execution: Option<Execution>) {
        let k = u64::from(self.paxos.epoch().code.k());
        let snapshots = &mut self.snapshots;
        if !execution.is_some_and(|execution| execution.is_current) {
            snapshots.garbage.push(meta.slot());
            snapshots.garbage_bytes += disk_bytes(meta.payload_bytes, k);
        }
        if let Some(Entry { version, payload_bytes, .. }) =
            execution.and_then(|execution| execution.superseded)
        {
            snapshots.garbage.push(version);
            snapshots.garbage_bytes += disk_bytes(payload_bytes, k);
        }
        if let Some(Applied::Mismatch { current }) = execution.map(|execution| execution.applied)
            && current > 0
            && breaks(Mutant::ForgetsMet)
        {
            snapshots.garbage.push(Slot(current));
        }
    }

    /// Takes note of a snapshot that has become durable; begins one when it is time.
    pub(super) fn advance_snapshots(&mut self, now: Instant) {
        let stored = self.paxos.stored_index();
        let is_uncovered = is_any() && self.forgets_uncovered(stored);
        if stored > self.snapshots.durable || is_uncovered {
            self.snapshots.durable = stored;
            // With a disk that is nearly full space is worth more than catching up slot by slot.
            let kept = if self.is_low { 0 } else { self.config.cluster.limits.kept_slots };
            let applied = self.state.applied();
            let covered = if is_uncovered { applied } else { stored };
            let floor = Slot(applied.0.saturating_sub(kept)).min(covered);
            self.snapshots.forget(floor);
        }
        if self.is_snapshot_due(now) {
            self.begin_snapshot();
        }
    }

    /// For a mutant alone: is it time to forget what no durable snapshot covers?
    fn forgets_uncovered(&self, stored: Slot) -> bool {
        self.state.applied() > stored
            && self.snapshots.garbage.len() >= 8
            && breaks(Mutant::ForgetsUncovered)
    }

    fn is_snapshot_due(&self, now: Instant) -> bool {
        let (snapshots, limits) = (&self.snapshots, &self.config.cluster.limits);
        let applied = self.state.applied();
        if snapshots.installed > snapshots.begun {
            return true;
        }
        if snapshots.begun > snapshots.durable {
            return false;
        }
        let since = applied.0 - snapshots.begun.0;
        let k = u64::from(self.paxos.epoch().code.k());
        let keys = self.state.key_count();
        let live_bytes = self.state.live_bytes() / k + keys * RECORD_BYTES;
        let garbage_max = limits.garbage_bytes.max(live_bytes);
        let is_wanted = since >= limits.snapshot_slots.max(keys / 2)
            || (since >= SLOTS_MIN && snapshots.garbage_bytes >= garbage_max)
            || (since >= SLOTS_MIN && self.is_low && !snapshots.garbage.is_empty());
        is_wanted && !self.paxos.is_serving_index(now)
    }

    /// Lays the state out in parts; they are persisted a few at a time.
    fn begin_snapshot(&mut self) {
        let epochs = self.paxos.applied_epochs();
        let bytes = encode_index(epochs, self.snapshots.skipped, &self.state);
        let slot = self.state.applied();
        let part_bytes = self.config.cluster.limits.page_bytes.max(PART_BYTES_MIN);
        let parts = u32::try_from(bytes.len().div_ceil(part_bytes)).unwrap_or(u32::MAX);
        self.snapshots.begun = slot;
        self.snapshots.garbage_bytes = 0;
        self.snapshots.parts = (0..parts)
            .map(|part| {
                let from = part as usize * part_bytes;
                let bytes = bytes.slice(from..bytes.len().min(from + part_bytes));
                Record::Index { slot, part, parts, bytes }
            })
            .collect();
        self.trace(|| format!("index snapshot of {slot}: {parts} parts"));
        self.persist_parts();
    }

    /// The next parts: few at once, so that a large snapshot holds nothing up for long.
    pub(super) fn persist_parts(&mut self) {
        let parts = &mut self.snapshots.parts;
        if parts.is_empty() {
            return;
        }
        let records: Vec<Record> = parts.drain(..parts.len().min(PARTS_AT_ONCE)).collect();
        let is_last = parts.is_empty();
        self.paxos.persist_index(self.snapshots.begun, records, is_last);
    }

    /// Takes in an index snapshot that came from a peer.
    pub(super) fn take_in_restored(&mut self, now: Instant) {
        let Some(index) = self.paxos.poll_restored() else { return };
        let image = match decode(&index) {
            Ok(image) => image,
            Err(error) => {
                self.trace(|| format!("the index snapshot of {} is none: {error}", index.slot));
                return;
            }
        };
        let (before, last) = (self.state.applied(), self.paxos.last());
        if !self.paxos.install(now, index.slot, image.epochs) {
            return;
        }
        let old = std::mem::replace(&mut self.state, image.state);
        let snapshots = &mut self.snapshots;
        // Own parts under way are of an older state: it begins anew, at once.
        snapshots.parts.clear();
        snapshots.restored_count += 1;
        snapshots.installed = index.slot;
        let low = snapshots.skipped.map_or(before, |(low, _)| low.min(before));
        snapshots.skipped = Some((low, index.slot));
        // Whatever the log holds of these slots may be of no use, and what was current before may have
        // been superseded since; what is current is kept.
        let held = (before.0 + 1..=last.0.min(index.slot.0)).map(Slot);
        let held = held.chain(old.after(None).map(|(_, entry)| entry.version));
        let current: BTreeSet<Slot> =
            self.state.after(None).map(|(_, entry)| entry.version).collect();
        let is_kept = |slot: &Slot| *slot <= before && breaks(Mutant::KeepsReplaced);
        let garbage = held.filter(|slot| !current.contains(slot) && !is_kept(slot));
        snapshots.garbage.extend(garbage);
        snapshots.garbage.retain(|slot| !current.contains(slot));
        self.scrub.begin_repair(now);
        self.apply_chosen(now);
    }

    /// Index snapshots that it has taken in from peers since its start.
    #[must_use]
    pub const fn restored_count(&self) -> u64 {
        self.snapshots.restored_count
    }

    /// The slot of the index snapshot that is on its way to the own disk.
    #[must_use]
    pub fn snapshot_under_way(&self) -> Option<Slot> {
        let (begun, durable) = (self.snapshots.begun, self.snapshots.durable);
        (begun > durable).then_some(begun)
    }

    pub(super) fn storage_status(&self) -> StorageStatus {
        let mut status = StorageStatus {
            snapshot: self.paxos.stored_index(),
            floor: self.paxos.floor(),
            reclaimed_count: self.snapshots.reclaimed_count,
            restored_count: self.snapshots.restored_count,
            restoring: self.paxos.restore_progress(),
            ..StorageStatus::default()
        };
        let is_repair = self.snapshots.is_repair_outstanding();
        self.scrub.report(&mut status, is_repair.then(|| self.state.key_count()));
        status
    }
}

impl Snapshots {
    /// Garbage up to `floor` goes to the log.
    fn forget(&mut self, floor: Slot) {
        let (gone, kept): (Vec<Slot>, Vec<Slot>) =
            std::mem::take(&mut self.garbage).into_iter().partition(|slot| *slot <= floor);
        self.garbage = kept;
        if floor > Slot::ZERO {
            self.reclaims.push_back((floor, gone));
        }
    }

    pub(super) fn poll_reclaim(&mut self, paxos: &mut Paxos) -> Option<Output> {
        let (floor, mut slots) = self.reclaims.pop_front()?;
        paxos.raise_floor(floor);
        if !slots.is_empty() && breaks(Mutant::NeverFrees) {
            slots.clear();
        }
        self.reclaimed_count += slots.len() as u64;
        Some(Output::Reclaim { floor, slots, is_sound: paxos.is_sound() })
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.durable <= self.begun, "{} > {}", self.durable, self.begun);
        assert!(self.parts.is_empty() || self.begun > self.durable, "parts of a durable snapshot");
    }
}

/// What an index snapshot says, if it is of the slot that it was kept under.
fn decode(index: &IndexSnapshot) -> Result<IndexImage, DecodeError> {
    let image = IndexImage::decode(&index.bytes)?;
    let applied = image.state.applied();
    if applied != index.slot {
        return Err(DecodeError::Invalid { field: "index slot", value: applied.0 });
    }
    Ok(image)
}

/// About what a value of `payload_bytes` takes of one node's log.
const fn disk_bytes(payload_bytes: u32, k: u64) -> u64 {
    payload_bytes as u64 / k + RECORD_BYTES
}

/// What a record takes beside its shard.
const RECORD_BYTES: u64 = 200;
/// So many slots at least lie between two snapshots.
const SLOTS_MIN: u64 = 16;
/// Smaller parts would cost more for their records than they hold.
const PART_BYTES_MIN: usize = 1024;
const PARTS_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::{first_of_three, put_values, value_of};
    use crate::types::{Ballot, ShardSet};

    #[test]
    fn a_current_value_whose_record_is_gone_is_a_loss() {
        let mut replica = first_of_three();
        put_values(&mut replica, 3, 100);
        let code = replica.paxos.epoch().code;
        let bytes = encode_index(replica.paxos.applied_epochs(), None, &replica.state);
        let restored = |slots: &[u64]| {
            let entry = |slot: &u64| RecoveredEntry {
                ballot: Ballot { round: 1, node: 0 },
                meta: value_of(*slot, code, 100),
                shards: ShardSet::one(0),
            };
            let recovered = Recovered {
                index: Some(IndexSnapshot { slot: Slot(3), bytes: bytes.clone() }),
                entries: slots.iter().map(entry).collect(),
                ..Recovered::default()
            };
            Restored::new(&recovered, 0).expect("a state").snapshots.is_repair_outstanding()
        };
        assert!(!restored(&[2, 3]), "the session needs no record");
        assert!(restored(&[3]) && restored(&[]));
    }
}
