//! What a node knows of all configurations (rules 4 and 11; `docs/membership.md`).
//!
//! The one in force, the member lists before it (a value's home is its place in the list of its own
//! epoch), and the codes that values have.
//!
//! Invariant: a list, once known, stays; so the home of a value never changes.

use super::membership::{Configuration, Seat, invalid, read_seats};
use crate::types::{Code, DecodeError, Epoch, Reader, Slot, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything that a node knows of configurations: what it needs beside its log, and what a snapshot
/// must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// In force after what is applied.
    pub current: Configuration,
    /// The slot that started it; zero for the cluster file's.
    pub since: Slot,
    /// Every list of members, by the first epoch that had it. Ids are used once, so it stays short.
    lists: BTreeMap<Epoch, Arc<[Seat]>>,
    /// Codes of the values with a payload, by the first epoch of their list.
    shapes: BTreeSet<(Epoch, Code)>,
}

impl Epochs {
    /// Before the first change.
    #[must_use]
    pub fn new(first: Configuration) -> Self {
        let lists = [(first.rules.epoch, Arc::clone(&first.members))].into();
        Self { current: first, since: Slot::ZERO, lists, shapes: BTreeSet::new() }
    }

    /// The configuration of `slot` is applied. False when it is not newer: it changes nothing.
    pub fn enter(&mut self, slot: Slot, next: Configuration) -> bool {
        if next.rules.epoch <= self.current.rules.epoch {
            return false;
        }
        if next.members != self.current.members {
            self.lists.insert(next.rules.epoch, Arc::clone(&next.members));
        }
        self.current = next;
        self.since = slot;
        true
    }

    /// A value of `epoch` with a payload in `code` is applied.
    pub fn note(&mut self, epoch: Epoch, code: Code) {
        let list = self.lists.range(..=epoch).next_back().map_or(epoch, |(first, _)| *first);
        self.shapes.insert((list, code));
    }

    /// Codes of the values with a payload, by the first epoch of their list.
    pub fn shapes(&self) -> impl Iterator<Item = (Epoch, Code)> {
        self.shapes.iter().copied()
    }

    /// The place of `id` for values of `epoch`: in that epoch's list, else the first place that it
    /// ever had, which is the newcomer's. It never changes: what is stored under it stays right.
    #[must_use]
    pub fn home(&self, epoch: Epoch, id: u8) -> u8 {
        self.known_home(epoch, id).unwrap_or(id)
    }

    /// The same, when any of these lists has `id`.
    #[must_use]
    pub fn known_home(&self, epoch: Epoch, id: u8) -> Option<u8> {
        let of_epoch = self.lists.range(..=epoch).next_back();
        of_epoch.and_then(|(_, list)| place_in(list, id)).or_else(|| self.first_place(id))
    }

    /// The first place that `id` ever had: a newcomer's future one is it, too.
    #[must_use]
    pub fn first_place(&self, id: u8) -> Option<u8> {
        let of_list = self.lists.values().find_map(|list| place_in(list, id));
        of_list.or_else(|| self.current.place(id))
    }

    /// Was it a member from the beginning, named by the cluster file?
    #[must_use]
    pub fn is_founder(&self, id: u8) -> bool {
        let first = self.lists.values().next();
        first.is_some_and(|list| list.iter().any(|seat| seat.id.0 == id))
    }

    /// Where `id` listens, or did.
    #[must_use]
    pub fn address(&self, id: u8) -> Option<SocketAddr> {
        let mut known = self.current.seats().chain(self.lists.values().flat_map(|l| l.iter()));
        known.find(|seat| seat.id.0 == id).map(|seat| seat.address)
    }

    /// Its encoding.
    pub fn write(&self, to: &mut Writer) {
        self.current.write(to);
        to.u64(self.since.0);
        to.u32(u32::try_from(self.lists.len()).unwrap_or(u32::MAX));
        for (epoch, list) in &self.lists {
            to.u64(epoch.0);
            to.u8(u8::try_from(list.len()).unwrap_or(u8::MAX));
            for seat in list.iter() {
                seat.write(to);
            }
        }
        to.u32(u32::try_from(self.shapes.len()).unwrap_or(u32::MAX));
        for (epoch, code) in &self.shapes {
            to.u64(epoch.0);
            to.u8(code.k());
            to.u8(code.m());
        }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or nothing that could be.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let current = Configuration::read(from)?;
        let since = Slot(from.counter("since")?);
        let mut lists = BTreeMap::new();
        for _ in 0..from.count("lists", 9)? {
            let epoch = Epoch(from.counter("epoch")?);
            let count = from.u8("members")?;
            // In order, each once, as they are written: one image has one form.
            if lists.range(epoch..).next().is_some() {
                return Err(invalid("lists", count));
            }
            lists.insert(epoch, read_seats(from, count)?);
        }
        let mut shapes = BTreeSet::new();
        for _ in 0..from.count("shapes", 10)? {
            let epoch = Epoch(from.counter("epoch")?);
            let (k, m) = (from.u8("k")?, from.u8("m")?);
            let shape = (epoch, Code::new(k, m).map_err(|_| invalid("code", k))?);
            if shapes.range(shape..).next().is_some() {
                return Err(invalid("shapes", k));
            }
            shapes.insert(shape);
        }
        Ok(Self { current, since, lists, shapes })
    }
}

fn place_in(list: &[Seat], id: u8) -> Option<u8> {
    let place = list.iter().position(|seat| seat.id.0 == id)?;
    u8::try_from(place).ok()
}
