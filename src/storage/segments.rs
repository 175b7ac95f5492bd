//! The log on a disk: appends to one segment file at a time, knows where every slot's records are.
//!
//! Invariants: every segment but the last is wholly durable; a segment is written by one start of
//! the node; each opens with two copies of all that older segments may no longer say; `synced <=
//! written <= cursor`. After a failed write or sync nothing is answered any more.

use super::disk::{Disk, DiskError};
use super::error::LogError;
use super::index::{Entry, Part, Place, SlotIndex};
use super::log::LogUsage;
use super::options::LogOptions;
use super::record::{
    AcceptHead, Binding, Kind, Laid, PREFIX_BYTES, Parts, Prefix, Said, ShardInfo, Snapshot,
    decode_head,
};
use super::stored::{Durability, StoredValue};
use crate::types::{Bytes, Record, Shard, ShardSet, Slot};
use std::collections::BTreeMap;

/// A log on a disk.
#[derive(Debug)]
pub(super) struct SegmentLog<D> {
    pub disk: D,
    pub options: LogOptions,
    pub binding: Binding,
    /// What each new segment repeats; its list of segments is made when it is written.
    pub snapshot: Snapshot,
    pub segments: BTreeMap<u32, Segment>,
    pub index: SlotIndex,
    /// The segment that is written; 0 before the first.
    pub current: u32,
    /// Where the next record goes.
    cursor: u32,
    /// Up to where it was handed to the disk.
    written: u32,
    /// Up to where it counts as durable.
    synced: u32,
    /// Length of the current segment.
    capacity: u32,
    parts: Parts,
    has_failed: bool,
    pub bytes_written: u64,
    pub syncs: u64,
}

/// One segment file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where its records end, once another one is current.
    pub end: u32,
    /// Length of its file.
    pub allocated_bytes: u64,
    /// Records that slots still need.
    pub records: u64,
    pub record_bytes: u64,
    pub payload_bytes: u64,
    /// Damage was met in it: what it stands for is not forgotten.
    pub is_damaged: bool,
}

impl Segment {
    pub(super) fn add(&mut self, part: &Part) {
        self.records += 1;
        self.record_bytes += u64::from(part.place.bytes);
        self.payload_bytes += u64::from(part.payload_bytes);
    }

    fn remove(&mut self, part: &Part) {
        self.records = self.records.saturating_sub(1);
        self.record_bytes = self.record_bytes.saturating_sub(u64::from(part.place.bytes));
        self.payload_bytes = self.payload_bytes.saturating_sub(u64::from(part.payload_bytes));
    }
}

impl<D: Disk> SegmentLog<D> {
    /// A log without a segment; [`Self::open_segment`] must follow.
    pub(super) fn new(disk: D, options: LogOptions, binding: Binding) -> Self {
        Self {
            disk,
            options,
            binding,
            snapshot: Snapshot::default(),
            segments: BTreeMap::new(),
            index: SlotIndex::default(),
            current: 0,
            cursor: 0,
            written: 0,
            synced: 0,
            capacity: 0,
            parts: Parts::default(),
            has_failed: false,
            bytes_written: 0,
            syncs: 0,
        }
    }

    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        self.check_alive()?;
        for record in records {
            self.check_length(record)?;
        }
        for record in records {
            let result = self.append_one(record);
            if result.is_err() {
                self.has_failed = true;
                return result;
            }
        }
        Ok(())
    }

    pub(super) fn flush_alive(&mut self) -> Result<(), LogError> {
        self.check_alive()?;
        self.flush()
    }

    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        self.check_alive()?;
        let result = self.flush().and_then(|()| {
            if self.synced == self.cursor {
                return Ok(());
            }
            self.harden()
        });
        self.has_failed |= result.is_err();
        result
    }

    pub(super) fn read(&mut self, slot: Slot) -> Result<Option<StoredValue>, LogError> {
        self.check_alive()?;
        let places = self.index.places(slot).to_vec();
        let mut merged: Option<StoredValue> = None;
        let mut shards: BTreeMap<u8, Shard> = BTreeMap::new();
        let mut damaged = ShardSet::EMPTY;
        for place in places {
            let Some((head, body)) = self.load(place)? else { continue };
            let (intact, bad) = head.cut(&body);
            damaged = damaged.union(bad);
            for shard in intact {
                shards.entry(shard.index).or_insert(shard);
            }
            let ballot = merged.as_ref().map_or(head.ballot, |m| m.ballot.max(head.ballot));
            let (meta, shards) = (head.meta, Vec::new());
            merged = Some(StoredValue { ballot, meta, shards, damaged: ShardSet::EMPTY });
        }
        Ok(merged.map(|mut value| {
            value.damaged = damaged.without(shards.keys().copied().collect());
            value.shards = shards.into_values().collect();
            value
        }))
    }

    pub(super) fn usage(&self) -> LogUsage {
        let sum = |of: fn(&Segment) -> u64| self.segments.values().map(of).sum::<u64>();
        let record_bytes = sum(|segment| segment.record_bytes);
        let all = sum(|segment| segment.end.into()) + u64::from(self.cursor);
        LogUsage {
            payload_bytes: sum(|segment| segment.payload_bytes),
            record_bytes,
            dead_bytes: all.saturating_sub(record_bytes),
            allocated_bytes: sum(|segment| segment.allocated_bytes),
            segments: self.segments.len() as u64,
            slots: self.index.slots() as u64,
            index_bytes: self.index.memory_bytes() as u64,
            bytes_written: self.bytes_written,
            syncs: self.syncs,
        }
    }

    pub(super) fn check_invariants(&self) {
        assert!(
            self.synced <= self.written && self.written <= self.cursor,
            "synced {} <= written {} <= cursor {}",
            self.synced,
            self.written,
            self.cursor
        );
        assert!(self.cursor <= self.capacity, "{} <= {}", self.cursor, self.capacity);
        assert_eq!(
            self.parts.bytes(),
            (self.cursor - self.written) as usize,
            "what is kept back lies between written and cursor"
        );
        assert!(self.segments.contains_key(&self.current), "the current segment is known");
    }

    /// Starts the next segment with room for a record of `record_bytes`; deletes segments that
    /// nobody needs. What the segment before holds must be durable.
    pub(super) fn open_segment(&mut self, record_bytes: u64) -> Result<(), LogError> {
        let is_dead = |segment: &Segment| segment.records == 0 && !segment.is_damaged;
        let dead: Vec<u32> =
            self.segments.iter().filter(|(_, s)| is_dead(s)).map(|(number, _)| *number).collect();
        self.segments.retain(|_, segment| !is_dead(segment));
        self.snapshot.segments = self.segments.iter().map(|(n, s)| (*n, s.end)).collect();
        let opening = Laid::snapshot(&self.snapshot, true);
        let copies = [opening.clone(), Laid::filler(), opening];
        self.snapshot.segments.clear();
        let head_bytes: u64 = copies.iter().map(Laid::record_bytes).sum();
        let bytes = u64::from(self.options.segment_bytes).max(head_bytes + record_bytes);
        self.capacity = u32::try_from(bytes).map_err(|_| LogError::RecordTooLong {
            slot: Slot::ZERO,
            bytes,
            max: self.options.record_bytes_max,
        })?;
        self.current += 1;
        (self.cursor, self.written, self.synced) = (0, 0, 0);
        self.disk.create(&file_name(self.current), bytes)?;
        let segment = Segment { allocated_bytes: bytes, ..Segment::default() };
        self.segments.insert(self.current, segment);
        for laid in &copies {
            self.put(laid);
        }
        self.flush()?;
        self.sync_file()?;
        self.synced = self.cursor;
        for number in dead {
            self.disk.delete(&file_name(number))?;
        }
        Ok(())
    }

    /// Reads a record as it stands on the disk; `None` when it is damaged.
    pub(super) fn load(&mut self, place: Place) -> Result<Option<(AcceptHead, Bytes)>, LogError> {
        if place.segment == self.current && place.offset + place.bytes > self.written {
            self.flush()?;
        }
        let name = file_name(place.segment);
        let record = match self.disk.read_at(&name, place.offset.into(), place.bytes as usize) {
            Err(DiskError::Missing { .. }) => return Ok(None),
            read => read?,
        };
        let checksum = self.binding.place(place.segment, place.offset);
        let Some(prefix) = Prefix::decode(&record, checksum) else { return Ok(None) };
        let head_end = PREFIX_BYTES + prefix.head_bytes as usize;
        if head_end > record.len() || !prefix.matches(&record[PREFIX_BYTES..head_end]) {
            return Ok(None);
        }
        match decode_head(&prefix, record.slice(PREFIX_BYTES..head_end)) {
            Ok(Said::Accept(head)) => Ok(Some((head, record.slice(head_end..)))),
            Ok(
                Said::Snapshot(_)
                | Said::Promise(_)
                | Said::Chosen(_)
                | Said::Peer(..)
                | Said::Filler,
            )
            | Err(_) => Ok(None),
        }
    }

    fn append_one(&mut self, record: &Record) -> Result<(), LogError> {
        match record {
            Record::Promise { ballot } => {
                self.snapshot.promised = self.snapshot.promised.max(*ballot);
                self.append_twice(record)
            }
            Record::Peer { node, incarnation } => {
                self.snapshot.peers.insert(*node, *incarnation);
                self.append_twice(record)
            }
            Record::Chosen { slot } => {
                self.snapshot.chosen = self.snapshot.chosen.max(*slot);
                self.place(&Laid::new(record)).map(drop)
            }
            Record::Accept { ballot, meta, shards } => {
                self.snapshot.promised = self.snapshot.promised.max(*ballot);
                let old = self.entry(meta.slot())?;
                let laid = Laid::new(record);
                let place = self.place(&laid)?;
                let set = shards.iter().map(|shard| shard.index).collect();
                let payload_bytes = u32::try_from(laid.body_bytes).expect("checked before");
                let part = Part { place, ballot: *ballot, shards: set, payload_bytes };
                self.note(part);
                let Some(old) = old else {
                    self.index.set(meta.slot(), &[part]);
                    return Ok(());
                };
                let head =
                    AcceptHead { ballot: *ballot, meta: meta.clone(), shards: shard_list(shards) };
                let (entry, dropped) = Entry::joined(Some(old), &head, part);
                for part in &dropped {
                    if let Some(segment) = self.segments.get_mut(&part.place.segment) {
                        segment.remove(part);
                    }
                }
                self.index.set(meta.slot(), &entry.parts);
                Ok(())
            }
        }
    }

    fn note(&mut self, part: Part) {
        let segment = self.segments.get_mut(&part.place.segment);
        segment.expect("records are placed in known segments").add(&part);
    }

    /// The record, and further on everything that must not be lost with it.
    fn append_twice(&mut self, record: &Record) -> Result<(), LogError> {
        self.place(&Laid::new(record))?;
        self.place(&Laid::filler())?;
        self.place(&Laid::snapshot(&self.snapshot, false)).map(drop)
    }

    /// What the records of a slot say, without those that are damaged.
    fn entry(&mut self, slot: Slot) -> Result<Option<Entry>, LogError> {
        if self.index.places(slot).is_empty() {
            return Ok(None);
        }
        let mut entry = None;
        for place in self.index.places(slot).to_vec() {
            let Some((head, _)) = self.load(place)? else { continue };
            let payload_bytes = head.shards.iter().map(|shard| shard.bytes).sum();
            let (ballot, shards) = (head.ballot, head.shard_set());
            let part = Part { place, ballot, shards, payload_bytes };
            entry = Some(Entry::joined(entry, &head, part).0);
        }
        Ok(entry)
    }

    fn place(&mut self, laid: &Laid) -> Result<Place, LogError> {
        let bytes = laid.record_bytes();
        if u64::from(self.cursor) + bytes > u64::from(self.capacity) {
            self.flush()?;
            self.sync_file()?;
            if let Some(segment) = self.segments.get_mut(&self.current) {
                segment.end = self.cursor;
            }
            self.open_segment(bytes)?;
        }
        let place = self.put(laid);
        if self.parts.bytes() >= self.options.write_buffer_bytes {
            self.flush()?;
        }
        Ok(place)
    }

    fn put(&mut self, laid: &Laid) -> Place {
        let bytes = u32::try_from(laid.record_bytes()).expect("checked against the capacity");
        let place = Place { segment: self.current, offset: self.cursor, bytes };
        laid.put(&mut self.parts, self.synced, self.binding.place(place.segment, place.offset));
        self.cursor += bytes;
        place
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.parts.bytes() == 0 {
            return Ok(());
        }
        self.bytes_written += self.parts.bytes() as u64;
        let parts = self.parts.take();
        let result = self.disk.write_at(&file_name(self.current), self.written.into(), &parts);
        self.has_failed |= result.is_err();
        self.written = self.cursor;
        Ok(result?)
    }

    /// Makes what was written durable, as far as the mode asks for it.
    fn harden(&mut self) -> Result<(), LogError> {
        match self.options.durability {
            Durability::Sync => self.sync_file()?,
            Durability::Os | Durability::Memory => {}
        }
        self.synced = self.written;
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), LogError> {
        self.disk.sync(&file_name(self.current))?;
        self.syncs += 1;
        Ok(())
    }

    fn check_alive(&self) -> Result<(), LogError> {
        if self.has_failed { Err(LogError::Poisoned) } else { Ok(()) }
    }

    fn check_length(&self, record: &Record) -> Result<(), LogError> {
        let Record::Accept { meta, shards, .. } = record else { return Ok(()) };
        let body: u64 = shards.iter().map(|shard| shard.bytes.len() as u64).sum();
        let bytes = body + meta.header.len() as u64 + ACCEPT_HEAD_BYTES_MAX;
        let max = self.options.record_bytes_max;
        if bytes > u64::from(max) {
            return Err(LogError::RecordTooLong { slot: meta.slot(), bytes, max });
        }
        Ok(())
    }
}

fn shard_list(shards: &[Shard]) -> Vec<ShardInfo> {
    let info = |shard: &Shard| ShardInfo {
        index: shard.index,
        digest: shard.digest,
        bytes: u32::try_from(shard.bytes.len()).expect("bounded by record_bytes_max"),
    };
    shards.iter().map(info).collect()
}

/// The file of a segment.
pub(super) fn file_name(segment: u32) -> String {
    format!("log-{segment:010}.seg")
}

/// The segment of a file, where it is one.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    name.strip_prefix("log-")?.strip_suffix(".seg")?.parse().ok()
}

/// Above every accept head without its value's header: 32 shards, and the prefix.
const ACCEPT_HEAD_BYTES_MAX: u64 = 1024;
const _: () = assert!(Kind::Accept as u8 == 3, "kinds are part of the format");
