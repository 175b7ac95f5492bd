//! Where each slot's records are: 16 bytes a slot in pages of 256, more only for slots whose value
//! is spread over several records.
//!
//! Knows places, not contents. Which record belongs to a slot's value is decided in [`Entry`], the
//! same way when appending and when replaying: the same value id joins (rule 2), another one at a
//! ballot not lower replaces.

use super::record::AcceptHead;
use crate::types::{Ballot, ShardSet, Slot, ValueMeta};
use std::collections::BTreeMap;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u32,
    pub offset: u32,
    /// Of the whole record.
    pub bytes: u32,
    /// Of its body: a value's shards.
    pub body_bytes: u32,
}

/// A record of a slot's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub place: Place,
    pub ballot: Ballot,
    pub shards: ShardSet,
}

/// A slot's value with the records that hold it, oldest first; never without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub ballot: Ballot,
    pub meta: ValueMeta,
    pub parts: Vec<Part>,
}

impl Entry {
    /// The entry after one more record, and the records that nobody needs any more.
    pub(super) fn joined(old: Option<Self>, head: &AcceptHead, part: Part) -> (Self, Vec<Part>) {
        let fresh = || Self { ballot: head.ballot, meta: head.meta.clone(), parts: vec![part] };
        let Some(mut entry) = old else { return (fresh(), Vec::new()) };
        if entry.meta.id != head.meta.id {
            // The order of ballots is the order of writing; an older one can only be a stray.
            if head.ballot < entry.ballot {
                return (entry, vec![part]);
            }
            let dropped = std::mem::take(&mut entry.parts);
            return (fresh(), dropped);
        }
        entry.ballot = entry.ballot.max(head.ballot);
        entry.parts.push(part);
        let (mut kept, mut dropped) = (Vec::with_capacity(entry.parts.len()), Vec::new());
        let mut later = ShardSet::EMPTY;
        for part in entry.parts.into_iter().rev() {
            let is_covered = later.contains_all(part.shards)
                && kept.iter().any(|k: &Part| k.ballot >= part.ballot);
            if is_covered {
                dropped.push(part);
            } else {
                later = later.union(part.shards);
                kept.push(part);
            }
        }
        kept.reverse();
        entry.parts = kept;
        (entry, dropped)
    }

    /// Shards named by its records.
    pub(super) fn shards(&self) -> ShardSet {
        self.parts.iter().fold(ShardSet::EMPTY, |set, part| set.union(part.shards))
    }
}

/// Slot to places.
#[derive(Debug, Default)]
pub(super) struct SlotIndex {
    pages: BTreeMap<u64, Box<Page>>,
    spread: BTreeMap<Slot, Vec<Place>>,
    slots: usize,
}

type Page = [Place; PAGE_SLOTS];

impl SlotIndex {
    /// The places of a slot, oldest first; empty when it has none.
    pub(super) fn places(&self, slot: Slot) -> &[Place] {
        let (page, at) = position(slot);
        match self.pages.get(&page).map(|page| &page[at]) {
            None | Some(&NONE) => &[],
            Some(&SPREAD) => self.spread.get(&slot).map_or(&[], Vec::as_slice),
            Some(place) => std::slice::from_ref(place),
        }
    }

    /// Sets the places of a slot.
    pub(super) fn set(&mut self, slot: Slot, parts: &[Part]) {
        let (page, at) = position(slot);
        let page = self.pages.entry(page).or_insert_with(|| Box::new([NONE; PAGE_SLOTS]));
        let old = page[at];
        page[at] = match parts {
            [] => NONE,
            [one] => one.place,
            [..] => SPREAD,
        };
        self.slots += usize::from(page[at] != NONE);
        self.slots -= usize::from(old != NONE);
        if parts.len() > 1 {
            self.spread.insert(slot, parts.iter().map(|part| part.place).collect());
        } else if old == SPREAD {
            self.spread.remove(&slot);
        }
    }

    /// A record was copied to another place.
    pub(super) fn replace(&mut self, slot: Slot, from: Place, to: Place) {
        let (page, at) = position(slot);
        let Some(page) = self.pages.get_mut(&page) else { return };
        if page[at] == from {
            page[at] = to;
        } else if let Some(places) = self.spread.get_mut(&slot) {
            for place in places.iter_mut().filter(|place| **place == from) {
                *place = to;
            }
        }
    }

    /// Pages of slots below this one that hold nothing take no memory any more.
    pub(super) fn trim(&mut self, floor: Slot) {
        let (end, _) = position(floor);
        let is_empty = |page: &Page| page.iter().all(|place| *place == NONE);
        let empty: Vec<u64> = self
            .pages
            .range(..end)
            .filter(|(_, page)| is_empty(page))
            .map(|(number, _)| *number)
            .collect();
        for number in empty {
            self.pages.remove(&number);
        }
    }

    /// Slots that have a value.
    pub(super) const fn slots(&self) -> usize {
        self.slots
    }

    /// Bytes of memory, calculated: pages, their nodes in the tree, and the spread slots.
    pub(super) fn memory_bytes(&self) -> usize {
        let spread: usize =
            self.spread.values().map(|places| 48 + places.capacity() * size_of::<Place>()).sum();
        self.pages.len() * (size_of::<Page>() + 24) + spread
    }
}

fn position(slot: Slot) -> (u64, usize) {
    let at = usize::try_from(slot.0 % PAGE_SLOTS as u64).expect("below PAGE_SLOTS");
    (slot.0 / PAGE_SLOTS as u64, at)
}

const PAGE_SLOTS: usize = 256;
/// Segments are numbered from 1, so neither of these is a place.
const NONE: Place = Place { segment: 0, offset: 0, bytes: 0, body_bytes: 0 };
const SPREAD: Place = Place { segment: 0, offset: 1, bytes: 0, body_bytes: 0 };
