//! The log on a disk: appends to one segment file at a time, knows where every slot's records are.
//!
//! Invariants: every segment but the last is wholly durable; a segment is written by one start of
//! the node; each opens with two copies of all that older segments may no longer say; `synced <=
//! written <= cursor`. After a failed write or sync nothing is answered any more.

use super::disk::{Disk, DiskError};
use super::error::LogError;
use super::images::Images;
use super::index::{Entry, Part, Place, SlotIndex};
use super::log::LogUsage;
use super::options::LogOptions;
use super::reclaim::Emptying;
use super::record::{
    AcceptHead, Binding, IndexHead, Kind, Laid, PREFIX_BYTES, Parts, Prefix, Said, ShardInfo,
    Snapshot, decode_head,
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
    pub images: Images,
    pub emptying: Option<Emptying>,
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
    pub has_failed: bool,
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
    /// Of parts of index snapshots that are needed.
    pub image_bytes: u64,
    /// The highest slot of any of its records.
    pub last_slot: Slot,
    /// Damage was met in it: what it stands for is not forgotten.
    pub is_damaged: bool,
}

impl Segment {
    pub(super) fn add(&mut self, slot: Slot, place: Place) {
        self.records += 1;
        self.record_bytes += u64::from(place.bytes);
        self.payload_bytes += u64::from(place.body_bytes);
        self.last_slot = self.last_slot.max(slot);
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.records = self.records.saturating_sub(1);
        self.record_bytes = self.record_bytes.saturating_sub(u64::from(place.bytes));
        self.payload_bytes = self.payload_bytes.saturating_sub(u64::from(place.body_bytes));
    }

    /// Does nobody need anything of it?
    pub(super) const fn is_dead(&self) -> bool {
        self.records == 0 && self.image_bytes == 0 && !self.is_damaged
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
            images: Images::default(),
            emptying: None,
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
        let snapshot_bytes = sum(|segment| segment.image_bytes);
        let all = sum(|segment| segment.end.into()) + u64::from(self.cursor);
        LogUsage {
            payload_bytes: sum(|segment| segment.payload_bytes),
            record_bytes,
            snapshot_bytes,
            dead_bytes: all.saturating_sub(record_bytes + snapshot_bytes),
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
        let held: u64 = self.images.places().map(|place| u64::from(place.bytes)).sum();
        let counted: u64 = self.segments.values().map(|segment| segment.image_bytes).sum();
        assert_eq!(held, counted, "bytes of index snapshots");
    }

    /// Starts the next segment with room for a record of `record_bytes`; deletes segments that
    /// nobody needs. What the segment before holds must be durable.
    pub(super) fn open_segment(&mut self, record_bytes: u64) -> Result<(), LogError> {
        let dead = self.segments.iter().filter(|(_, segment)| segment.is_dead());
        let dead: Vec<u32> = dead.map(|(number, _)| *number).collect();
        self.segments.retain(|_, segment| !segment.is_dead());
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

    /// Reads a value's record as it stands on the disk; `None` when it is damaged.
    pub(super) fn load(&mut self, place: Place) -> Result<Option<(AcceptHead, Bytes)>, LogError> {
        match self.record(place)? {
            Some((Said::Accept(head), body)) => Ok(Some((head, body))),
            Some((
                Said::Snapshot(_)
                | Said::Promise(_)
                | Said::Chosen(_)
                | Said::Floor(_)
                | Said::Peer(..)
                | Said::Filler
                | Said::Index(_),
                _,
            ))
            | None => Ok(None),
        }
    }

    /// Reads a record, its body with the padding; `None` when prefix or head is damaged.
    fn record(&mut self, place: Place) -> Result<Option<(Said, Bytes)>, LogError> {
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
        let said = decode_head(&prefix, record.slice(PREFIX_BYTES..head_end)).ok();
        Ok(said.map(|said| (said, record.slice(head_end..))))
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
            Record::Floor { slot } => {
                self.snapshot.floor = self.snapshot.floor.max(*slot);
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
                let part = Part { place, ballot: *ballot, shards: set };
                self.note(meta.slot(), place);
                let Some(old) = old else {
                    self.index.set(meta.slot(), &[part]);
                    return Ok(());
                };
                let head =
                    AcceptHead { ballot: *ballot, meta: meta.clone(), shards: shard_list(shards) };
                let (entry, dropped) = Entry::joined(Some(old), &head, part);
                for part in &dropped {
                    if let Some(segment) = self.segments.get_mut(&part.place.segment) {
                        segment.remove(part.place);
                    }
                }
                self.index.set(meta.slot(), &entry.parts);
                Ok(())
            }
            Record::Index { slot, part, parts, bytes } => {
                let place = self.place(&Laid::new(record))?;
                let digest = xxhash_rust::xxh3::xxh3_64(bytes);
                let head = IndexHead { slot: *slot, part: *part, parts: *parts, digest };
                self.keep_image_part(&head, place);
                Ok(())
            }
        }
    }

    /// A value's record was written.
    pub(super) fn note(&mut self, slot: Slot, place: Place) {
        let segment = self.segments.get_mut(&place.segment);
        segment.expect("records are placed in known segments").add(slot, place);
    }

    /// A part of an index snapshot is there; what it makes superfluous goes.
    pub(super) fn keep_image_part(&mut self, head: &IndexHead, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.image_bytes += u64::from(place.bytes);
        }
        for gone in self.images.add(head, place) {
            if let Some(segment) = self.segments.get_mut(&gone.segment) {
                segment.image_bytes -= u64::from(gone.bytes);
            }
        }
    }

    /// One part of the latest whole index snapshot, if that is of `slot`, and how many it has; `None`
    /// when it is another one, or the part is damaged.
    pub(super) fn read_image_part(
        &mut self,
        slot: Slot,
        part: u32,
    ) -> Result<Option<(u32, Bytes)>, LogError> {
        self.check_alive()?;
        let Some((_, places)) = self.images.latest().filter(|(latest, _)| *latest == slot) else {
            return Ok(None);
        };
        let count = u32::try_from(places.len()).expect("parts are counted in 32 bits");
        let Some(place) = places.get(part as usize).copied() else { return Ok(None) };
        let Some((Said::Index(head), body)) = self.record(place)? else { return Ok(None) };
        let body = body.slice(..body.len().min(place.body_bytes as usize));
        let is_intact = xxhash_rust::xxh3::xxh3_64(&body) == head.digest;
        Ok((is_intact && head.part == part).then_some((count, body)))
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
            let (ballot, shards) = (head.ballot, head.shard_set());
            let part = Part { place, ballot, shards };
            entry = Some(Entry::joined(entry, &head, part).0);
        }
        Ok(entry)
    }

    pub(super) fn place(&mut self, laid: &Laid) -> Result<Place, LogError> {
        let bytes = laid.record_bytes();
        if u64::from(self.cursor) + bytes > u64::from(self.capacity) {
            self.seal()?;
            self.open_segment(bytes)?;
        }
        let place = self.put(laid);
        if self.parts.bytes() >= self.options.write_buffer_bytes {
            self.flush()?;
        }
        Ok(place)
    }

    /// Ends the current segment: all of it is durable, and what it did not use is given back.
    pub(super) fn seal(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.sync_file()?;
        let (current, end) = (self.current, self.cursor);
        let Some(segment) = self.segments.get_mut(&current) else { return Ok(()) };
        segment.end = end;
        if segment.allocated_bytes > u64::from(end) + GIVEN_BACK_BYTES_MIN {
            segment.allocated_bytes = u64::from(end);
            self.disk.truncate(&file_name(current), end.into())?;
        }
        Ok(())
    }

    fn put(&mut self, laid: &Laid) -> Place {
        let bytes = u32::try_from(laid.record_bytes()).expect("checked against the capacity");
        let body_bytes = u32::try_from(laid.body_bytes).expect("a part of the record");
        let place = Place { segment: self.current, offset: self.cursor, bytes, body_bytes };
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

    pub(super) fn check_alive(&self) -> Result<(), LogError> {
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
/// Less than this is not worth a call.
const GIVEN_BACK_BYTES_MIN: u64 = 64 << 10;
const _: () = assert!(Kind::Accept as u8 == 3, "kinds are part of the format");
