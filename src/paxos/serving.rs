//! Serving: what others gather, read from this node's log page by page.
//!
//! Only applied slots are served, so what is served is chosen.

use super::message::{Message, ShardedValue, Want};
use super::{Paxos, ReadPurpose};
use crate::storage::StoredValue;
use crate::types::Slot;
use std::collections::VecDeque;

/// Slots that a peer wants.
#[derive(Debug)]
pub(super) struct Serving {
    to: u8,
    wants: VecDeque<Want>,
    missing: Vec<Slot>,
    entries: Vec<ShardedValue>,
    entries_bytes: usize,
}

impl Paxos {
    pub(super) fn handle_fetch(&mut self, from: u8, wants: Vec<Want>) {
        if self.serving.len() >= self.limits().gathers * 2 {
            // Busy, not without them: no reason to ask for a snapshot, hence no floor.
            let (applied, floor) = (self.acceptor.applied, Slot::ZERO);
            let missing = wants.iter().map(|want| want.slot).collect();
            self.send(from, Message::Shards { applied, floor, missing, entries: Vec::new() });
            return;
        }
        self.serving.push_back(Serving {
            to: from,
            wants: wants.into(),
            missing: Vec::new(),
            entries: Vec::new(),
            entries_bytes: 0,
        });
        if self.serving.len() == 1 {
            self.advance_serving();
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
