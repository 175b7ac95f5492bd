//! Durability `memory`: values in memory, nothing on a disk, nothing after a restart.
//!
//! Every start is the start of a new node (rule 12): boot 1, the incarnation that was offered.

use super::error::LogError;
use super::log::LogUsage;
use super::stored::StoredValue;
use crate::types::{Bytes, Record, Shard, ShardSet, Slot};
use std::collections::BTreeMap;

/// Values by slot, bounded in bytes of payload.
#[derive(Debug)]
pub(super) struct MemoryLog {
    values: BTreeMap<Slot, StoredValue>,
    /// The latest index snapshot, and its parts so far.
    index: (Slot, Vec<Bytes>),
    payload_bytes: u64,
    max_bytes: u64,
}

impl MemoryLog {
    pub(super) const fn new(max_bytes: u64) -> Self {
        let index = (Slot::ZERO, Vec::new());
        Self { values: BTreeMap::new(), index, payload_bytes: 0, max_bytes }
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        let added: u64 = records.iter().map(payload_bytes).sum();
        if self.payload_bytes + added > self.max_bytes {
            let bytes = self.payload_bytes + added;
            return Err(LogError::MemoryFull { bytes, max: self.max_bytes });
        }
        for record in records {
            match record {
                Record::Accept { ballot, meta, shards } => {
                    let value = StoredValue {
                        ballot: *ballot,
                        meta: meta.clone(),
                        shards: shards.clone(),
                        damaged: ShardSet::EMPTY,
                    };
                    self.accept(value);
                }
                Record::Index { slot, part, bytes, .. } => {
                    if *part == 0 {
                        self.index = (*slot, Vec::new());
                    }
                    self.index.1.push(bytes.clone());
                }
                Record::Promise { .. }
                | Record::Chosen { .. }
                | Record::Floor { .. }
                | Record::Peer { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn read(&self, slot: Slot) -> Option<StoredValue> {
        self.values.get(&slot).cloned()
    }

    pub(super) fn read_image_part(&self, slot: Slot, part: u32) -> Option<(u32, Bytes)> {
        let (latest, parts) = &self.index;
        let count = u32::try_from(parts.len()).ok()?;
        (*latest == slot).then_some((count, parts.get(part as usize)?.clone()))
    }

    pub(super) fn reclaim(&mut self, slots: &[Slot]) {
        for slot in slots {
            if let Some(value) = self.values.remove(slot) {
                self.payload_bytes -= bytes_of(&value.shards);
            }
        }
    }

    pub(super) fn usage(&self) -> LogUsage {
        let (payload_bytes, slots) = (self.payload_bytes, self.values.len() as u64);
        LogUsage { payload_bytes, slots, ..LogUsage::default() }
    }

    fn accept(&mut self, mut value: StoredValue) {
        let slot = value.meta.slot();
        if let Some(old) = self.values.remove(&slot) {
            self.payload_bytes -= bytes_of(&old.shards);
            if old.meta.id == value.meta.id {
                value.ballot = value.ballot.max(old.ballot);
                let mut union: BTreeMap<u8, Shard> =
                    old.shards.into_iter().map(|shard| (shard.index, shard)).collect();
                union.extend(value.shards.into_iter().map(|shard| (shard.index, shard)));
                value.shards = union.into_values().collect();
            } else if value.ballot < old.ballot {
                value = old;
            }
        }
        value.shards.sort_by_key(|shard| shard.index);
        self.payload_bytes += bytes_of(&value.shards);
        self.values.insert(slot, value);
    }
}

fn bytes_of(shards: &[Shard]) -> u64 {
    shards.iter().map(|shard| shard.bytes.len() as u64).sum()
}

fn payload_bytes(record: &Record) -> u64 {
    match record {
        Record::Accept { shards, .. } => bytes_of(shards),
        Record::Promise { .. }
        | Record::Chosen { .. }
        | Record::Floor { .. }
        | Record::Peer { .. }
        | Record::Index { .. } => 0,
    }
}
