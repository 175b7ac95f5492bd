//! Serving: what others gather, read from this node's log page by page.
//!
//! Only applied slots are served, so what is served is chosen. What is wanted and not applied yet is
//! said to be missing, and served unasked when it is applied soon: nodes that catch up side by side,
//! each with a shard that the other lacks, would wait for each other's clocks slot by slot.

use super::message::{Message, ShardedValue, Want};
use super::{Paxos, ReadPurpose};
use crate::storage::StoredValue;
use crate::time::Instant;
use crate::types::Slot;
use std::collections::{BTreeMap, VecDeque};

/// Slots that a peer wants.
#[derive(Debug)]
pub(super) struct Serving {
    to: u8,
    wants: VecDeque<Want>,
    missing: Vec<Slot>,
    entries: Vec<ShardedValue>,
    entries_bytes: usize,
}

/// What was wanted before it was applied here: by whom, and until when they may wait for it.
pub(super) type Owed = BTreeMap<(Slot, u8), (Instant, Want)>;

impl Paxos {
    pub(super) fn handle_fetch(&mut self, now: Instant, from: u8, mut wants: Vec<Want>) {
        // Nobody gathers as many: a larger request would hold memory here, as long as it is served.
        wants.truncate(self.wants_max());
        if self.serving.len() >= self.limits().gathers * 2 {
            // Busy, not without them: no reason to ask for a snapshot, hence no floor.
            let (applied, floor) = (self.acceptor.applied, Slot::ZERO);
            let missing = wants.iter().map(|want| want.slot).collect();
            self.send(from, Message::Shards { applied, floor, missing, entries: Vec::new() });
            return;
        }
        self.owe(now, from, &wants);
        self.begin_serving(from, wants.into());
    }

    fn begin_serving(&mut self, to: u8, wants: VecDeque<Want>) {
        let (missing, entries) = (Vec::new(), Vec::new());
        self.serving.push_back(Serving { to, wants, missing, entries, entries_bytes: 0 });
        if self.serving.len() == 1 {
            self.advance_serving();
        }
    }

    fn owe(&mut self, now: Instant, to: u8, wants: &[Want]) {
        let until = now + self.config.timing.resend() * 2;
        for want in wants.iter().filter(|want| want.slot > self.acceptor.applied) {
            let is_full = self.owed.len() >= self.owed_max();
            if !is_full || self.owed.contains_key(&(want.slot, to)) {
                self.owed.insert((want.slot, to), (until, *want));
            }
        }
    }

    /// Slots that one request may name. (A peer's cluster file may have more `gathers` than this one.)
    pub(super) fn wants_max(&self) -> usize {
        self.config.limits.gathers * 8
    }

    /// Requests that may wait to be served, of all peers.
    pub(super) fn owed_max(&self) -> usize {
        self.config.limits.gathers * 4
    }

    /// Serves what was wanted before and has been applied since.
    pub(super) fn serve_owed(&mut self, now: Instant) {
        let applied = self.acceptor.applied;
        if self.owed.first_key_value().is_none_or(|((slot, _), _)| *slot > applied) {
            return;
        }
        let later = self.owed.split_off(&(applied.next(), 0));
        let mut due: BTreeMap<u8, VecDeque<Want>> = BTreeMap::new();
        for ((_, to), (until, want)) in std::mem::replace(&mut self.owed, later) {
            // Whoever waited longer has asked again.
            if now <= until {
                due.entry(to).or_default().push_back(want);
            }
        }
        self.owed.retain(|_, (until, _)| now <= *until);
        for (to, wants) in due {
            if self.serving.len() < self.limits().gathers * 2 {
                self.begin_serving(to, wants);
            }
        }
    }

    /// Reads the next slot of the first request; sends when a page is full or all are read.
    fn advance_serving(&mut self) {
        while let Some(serving) = self.serving.front_mut() {
            let (applied, floor) = (self.acceptor.applied, self.acceptor.floor);
            let page_bytes = self.config.limits.page_bytes;
            while serving.wants.front().is_some_and(|want| want.slot > applied) {
                serving.missing.extend(serving.wants.pop_front().map(|want| want.slot));
            }
            let is_done = serving.wants.is_empty();
            if is_done || serving.entries_bytes >= page_bytes {
                serving.entries_bytes = 0;
                let missing = std::mem::take(&mut serving.missing);
                let entries = std::mem::take(&mut serving.entries);
                let to = serving.to;
                self.send(to, Message::Shards { applied, floor, missing, entries });
                if is_done {
                    self.serving.pop_front();
                }
                continue;
            }
            let slot = serving.wants[0].slot;
            self.read(slot, ReadPurpose::Serve);
            return;
        }
    }

    /// The log has answered for a slot that a peer wants.
    pub(super) fn continue_serving(&mut self, slot: Slot, stored: Option<StoredValue>) {
        if let Some(serving) = self.serving.front_mut()
            && let Some(want) = serving.wants.pop_front()
        {
            assert_eq!(want.slot, slot, "reads are answered in order");
            match stored {
                Some(StoredValue { meta, mut shards, .. }) => {
                    let home = self.acceptor.epochs.home(meta.epoch, self.own) % meta.code.n();
                    if want.held == Some(meta.id) {
                        shards.clear();
                    } else if !want.is_all && shards.iter().any(|shard| shard.index == home) {
                        shards.retain(|shard| shard.index == home);
                    }
                    let value = ShardedValue { meta, shards };
                    serving.entries_bytes += value.wire_bytes();
                    serving.entries.push(value);
                }
                None => serving.missing.push(slot),
            }
        }
        self.advance_serving();
    }
}
