//! Damage at rest, with the books on what it may take.
//!
//! Rule: for every slot at least a largest prepare quorum of nodes stays whole. Any such set holds k
//! distinct shards of whatever was chosen (DESIGN 3.1), so everything can be rebuilt and every
//! election can end. A record without its start puts all slots in doubt that were not known to be
//! chosen before it, at every start to come; such a node counts as lost for all of these. What the
//! log keeps twice is damaged once per segment at most; a repaired slot still counts as damaged.

use super::fault::Damage;
use super::node::SimNode;
use crate::rng::Rng;
use crate::storage::{Resting, survey};
use std::collections::{BTreeMap, BTreeSet};

/// What was damaged so far in a run.
#[derive(Debug)]
pub(super) struct RotBooks {
    /// Nodes that may be lost for one slot.
    tolerated: u32,
    /// Nodes whose record of a slot was damaged, as bits.
    lost: BTreeMap<u64, u32>,
    /// The lowest slot that may be in doubt, per node.
    doubt_from: BTreeMap<usize, u64>,
    /// Segments that have lost one of two copies.
    spares: BTreeSet<(usize, u32)>,
}

/// What one damage would take from a node.
#[derive(Debug, Default)]
struct Toll {
    slots: BTreeSet<u64>,
    doubt_from: Option<u64>,
    spares: Vec<u32>,
}

impl RotBooks {
    pub(super) fn new(tolerated: u32) -> Self {
        Self {
            tolerated,
            lost: BTreeMap::new(),
            doubt_from: BTreeMap::new(),
            spares: BTreeSet::new(),
        }
    }

    /// One node more is gone for good.
    pub(super) fn tolerate_one_less(&mut self) {
        self.tolerated = self.tolerated.saturating_sub(1);
    }

    /// Nodes that the cluster can do without for a slot of which nothing is damaged.
    pub(super) fn tolerated(&self) -> usize {
        self.tolerated as usize
    }

    /// Is nothing damaged yet?
    pub(super) fn is_untouched(&self) -> bool {
        self.lost.is_empty() && self.doubt_from.is_empty()
    }

    /// Can the cluster do without these nodes, with all that is damaged?
    pub(super) fn can_do_without(&self, ranks: &[usize]) -> bool {
        let bit = |rank: usize| u32::try_from(rank).map_or(0, |rank| 1 << rank);
        let missing = ranks.iter().fold(0, |all, rank| all | bit(*rank));
        let turns = self.doubt_from.values().copied();
        let slots = self.lost.keys().copied().chain(turns).chain([0]);
        slots.into_iter().all(|slot| {
            let mut nodes = missing | self.lost.get(&slot).copied().unwrap_or(0);
            for (other, from) in &self.doubt_from {
                if *from <= slot {
                    nodes |= bit(*other);
                }
            }
            nodes.count_ones() <= self.tolerated
        })
    }

    /// Damages a node's disk. False when there is nothing that may be.
    pub(super) fn damage(
        &mut self,
        node: &mut SimNode,
        rank: usize,
        damage: Damage,
        seed: u64,
    ) -> bool {
        let mut rng = Rng::new(seed);
        if damage == Damage::Identity {
            // Always the same copy of a node: both would be its end.
            let file = if rank.is_multiple_of(2) { "identity" } else { "identity.copy" };
            return node.disk.corrupt_at(file, rng.below(40), 1 << rng.below(8));
        }
        let records = survey(&node.disk, &node.log_options());
        (0..ATTEMPTS).any(|_| self.attempt(node, rank, damage, &records, &mut rng))
    }

    fn attempt(
        &mut self,
        node: &mut SimNode,
        rank: usize,
        damage: Damage,
        records: &[Resting],
        rng: &mut Rng,
    ) -> bool {
        let Some((at, record)) = pick(records, rng) else { return false };
        match damage {
            Damage::Flip => {
                let bound = if rng.chance(0.3) { Resting::START_BYTES } else { record.bytes };
                let offset = record.offset + rng.below(bound.min(record.bytes));
                let toll = Toll::of(records, &record.file, offset, offset + 1);
                self.take(rank, toll)
                    && node.disk.corrupt_at(&record.file, offset, 1 << rng.below(8))
            }
            Damage::Lost => {
                let last = (at + index(rng.below(3))).min(records.len() - 1);
                let last = if records[last].file == record.file { &records[last] } else { record };
                let (from, to) = (record.offset, last.offset + last.bytes);
                let is_taken = self.take(rank, Toll::of(records, &record.file, from, to));
                if is_taken {
                    node.disk.lose(&record.file, from, index(to - from));
                }
                is_taken
            }
            Damage::Misdirected => {
                let Some((_, source)) = pick(records, rng) else { return false };
                if source.file != record.file || source.offset == record.offset {
                    return false;
                }
                let same_file = records.iter().filter(|other| other.file == record.file);
                let end = same_file.map(|other| other.offset + other.bytes).max().unwrap_or(0);
                let bytes = source.bytes.min(end - record.offset);
                let (from, to) = (record.offset, record.offset + bytes);
                let mut toll = Toll::of(records, &record.file, from, to);
                let is_moved = rng.chance(0.5);
                let source_end = source.offset + source.bytes;
                if is_moved {
                    toll.join(Toll::of(records, &source.file, source.offset, source_end));
                }
                let is_taken = self.take(rank, toll);
                if is_taken {
                    node.disk.misdirect(&record.file, source.offset, from, index(bytes));
                    // What lay where both meet is the victim's, that is how it was booked.
                    if is_moved && (source_end <= from || to <= source.offset) {
                        node.disk.lose(&source.file, source.offset, index(source.bytes));
                    }
                }
                is_taken
            }
            Damage::Identity => false,
        }
    }

    /// Books a toll, if enough is left.
    fn take(&mut self, rank: usize, toll: Toll) -> bool {
        let Some(bit) = u32::try_from(rank).ok().and_then(|rank| 1_u32.checked_shl(rank)) else {
            return false;
        };
        let spares: BTreeSet<u32> = toll.spares.iter().copied().collect();
        let is_spare_left = spares.len() == toll.spares.len()
            && spares.iter().all(|segment| !self.spares.contains(&(rank, *segment)));
        let doubt_from = match (toll.doubt_from, self.doubt_from.get(&rank)) {
            (Some(new), Some(old)) => Some(new.min(*old)),
            (new, old) => new.or(old.copied()),
        };
        let is_enough_left = |slot: u64| {
            let mut nodes = self.lost.get(&slot).copied().unwrap_or(0) | bit;
            for (other, from) in &self.doubt_from {
                if *from <= slot {
                    nodes |= u32::try_from(*other).map_or(0, |other| 1 << other);
                }
            }
            nodes.count_ones() <= self.tolerated
        };
        let in_doubt = doubt_from.into_iter().flat_map(|from| {
            let known = self.lost.range(from..).map(|(slot, _)| *slot);
            let turns = self.doubt_from.values().copied().filter(move |other| *other >= from);
            known.chain(turns).chain([from])
        });
        if !is_spare_left || !toll.slots.iter().copied().chain(in_doubt).all(is_enough_left) {
            return false;
        }
        for slot in toll.slots {
            *self.lost.entry(slot).or_default() |= bit;
        }
        if let Some(from) = doubt_from {
            self.doubt_from.insert(rank, from);
        }
        self.spares.extend(spares.into_iter().map(|segment| (rank, segment)));
        true
    }
}

impl Toll {
    /// Of damage to `[from, to)` of a file.
    fn of(records: &[Resting], file: &str, from: u64, to: u64) -> Self {
        let mut toll = Self::default();
        for record in records.iter().filter(|record| record.file == file) {
            if record.offset >= to || record.offset + record.bytes <= from {
                continue;
            }
            match record.slot {
                Some(slot) => drop(toll.slots.insert(slot.0)),
                // Without its state a node says nothing of any slot until it has another's.
                None if record.is_index => toll.doubt(1),
                None => toll.spares.push(record.segment),
            }
            if from < record.offset + Resting::START_BYTES {
                toll.doubt(record.chosen_before.0 + 1);
            }
        }
        toll
    }

    fn doubt(&mut self, from: u64) {
        self.doubt_from = Some(self.doubt_from.map_or(from, |other| other.min(from)));
    }

    fn join(&mut self, other: Self) {
        self.slots.extend(other.slots);
        self.spares.extend(other.spares);
        if let Some(from) = other.doubt_from {
            self.doubt(from);
        }
    }
}

fn pick<'a>(records: &'a [Resting], rng: &mut Rng) -> Option<(usize, &'a Resting)> {
    if records.is_empty() {
        return None;
    }
    let at = index(rng.below(records.len() as u64));
    Some((at, &records[at]))
}

fn index(of: u64) -> usize {
    usize::try_from(of).unwrap_or(usize::MAX)
}

/// Places tried until one may be damaged.
const ATTEMPTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn toll(slots: &[u64], doubt_from: Option<u64>) -> Toll {
        Toll { slots: slots.iter().copied().collect(), doubt_from, spares: Vec::new() }
    }

    #[test]
    fn no_slot_loses_more_nodes_than_are_tolerated() {
        let mut books = RotBooks::new(1);
        assert!(books.take(0, toll(&[5], None)));
        assert!(!books.take(1, toll(&[5], None)));
        assert!(books.take(1, toll(&[6], None)));
        // Node 2 in doubt from 6 on would be the second one there.
        assert!(!books.take(2, toll(&[], Some(6))));
        assert!(books.take(2, toll(&[], Some(7))));
        assert!(!books.take(1, toll(&[9], None)));
        assert!(books.take(2, toll(&[9], None)));
    }

    #[test]
    fn nodes_that_are_missing_count_as_damaged() {
        let mut books = RotBooks::new(2);
        assert!(books.can_do_without(&[3, 4]));
        assert!(!books.can_do_without(&[2, 3, 4]));
        assert!(books.take(0, toll(&[5], None)));
        assert!(!books.can_do_without(&[3, 4]) && books.can_do_without(&[0, 4]));
        assert!(books.take(1, toll(&[], Some(9))));
        assert!(!books.can_do_without(&[0, 4]) && books.can_do_without(&[0, 1]));
    }

    #[test]
    fn of_two_copies_one_is_left() {
        let mut books = RotBooks::new(1);
        let spare = |segments: &[u32]| Toll { spares: segments.to_vec(), ..Toll::default() };
        assert!(!books.take(0, spare(&[3, 3])));
        assert!(books.take(0, spare(&[3])));
        assert!(!books.take(0, spare(&[3])));
        assert!(books.take(0, spare(&[4])));
    }
}
