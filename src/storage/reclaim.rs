//! Space given back: slots forgotten, dead segments deleted, live records moved out of the emptiest.
//!
//! Rule 14 is the caller's: it names only slots up to a floor that a durable index snapshot covers.
//! Invariants: the floor is durable before a segment goes that it emptied; a record is copied whole,
//! with its ballot and damage, and only when it is not above the floor, so that the order of records
//! of an open slot is never changed; a segment goes only when all that was copied out of it is durable.

use super::disk::Disk;
use super::error::LogError;
use super::index::Place;
use super::record::{Kind, Laid, PREFIX_BYTES, Prefix, Said};
use super::scan::{Found, Scanner};
use super::segments::{Segment, SegmentLog, file_name};
use crate::types::Slot;
use bytes::BytesMut;

/// A segment that is being emptied, and how far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emptying {
    segment: u32,
    at: u32,
}

impl<D: Disk> SegmentLog<D> {
    /// Forgets `slots`, all at or below `floor`. `is_sound`: no accepted slot of this node is in
    /// doubt, so that damage met in older segments is of no meaning any more.
    pub(super) fn reclaim(
        &mut self,
        floor: Slot,
        slots: &[Slot],
        is_sound: bool,
    ) -> Result<(), LogError> {
        self.check_alive()?;
        for slot in slots {
            assert!(*slot <= floor, "{slot} is above the floor {floor}");
            for place in self.index.places(*slot).to_vec() {
                if let Some(segment) = self.segments.get_mut(&place.segment) {
                    segment.remove(place);
                }
            }
            self.index.set(*slot, &[]);
        }
        self.index.trim(floor);
        self.snapshot.floor = self.snapshot.floor.max(floor);
        if is_sound {
            for segment in self.segments.values_mut() {
                segment.is_damaged = false;
            }
        }
        let result = self.roll_when_worth_it();
        self.has_failed |= result.is_err();
        result
    }

    /// Starts a new segment when at least two could be deleted for it: a disk that is full gets
    /// room although nothing is written.
    fn roll_when_worth_it(&mut self) -> Result<(), LogError> {
        let dead: u64 = self
            .segments
            .iter()
            .filter(|(number, segment)| **number != self.current && segment.is_dead())
            .map(|(_, segment)| segment.allocated_bytes)
            .sum();
        let segment_bytes = u64::from(self.options.segment_bytes);
        let has_room = self.disk.free_bytes()?.is_none_or(|free| free > segment_bytes * 2);
        if dead < 2 * segment_bytes || !has_room {
            return Ok(());
        }
        self.seal()?;
        self.open_segment(0)
    }

    /// Copies up to about `budget_bytes` out of the emptiest segment, when the log takes more than
    /// its multiple of what lives. Gives the bytes looked at: 0 when there is nothing to do.
    pub(super) fn compact(&mut self, budget_bytes: u64) -> Result<u64, LogError> {
        self.check_alive()?;
        let result = self.empty_some(budget_bytes);
        self.has_failed |= result.is_err();
        result
    }

    fn empty_some(&mut self, budget_bytes: u64) -> Result<u64, LogError> {
        let Some(Emptying { segment, at }) = self.emptying.or_else(|| self.emptiest()) else {
            return Ok(0);
        };
        let Some(end) = self.segments.get(&segment).map(|segment| segment.end) else {
            self.emptying = None;
            return Ok(0);
        };
        let (name, scan_bytes) = (file_name(segment), self.options.scan_bytes);
        let mut scanner =
            Scanner::new(&mut self.disk, self.binding, (segment, &name), end, scan_bytes).from(at);
        let mut found = Vec::new();
        let mut is_over = false;
        let mut has_damage = false;
        while !is_over && u64::from(scanner.at() - at) < budget_bytes {
            match scanner.next()? {
                Found::Record { offset, said: Said::Accept(head), .. } => {
                    found.push((head.meta.slot(), offset));
                }
                Found::Record { .. } => {}
                Found::DamagedHead { .. } | Found::Gap { .. } => has_damage = true,
                Found::End => is_over = true,
            }
        }
        let next = scanner.at();
        // Found since the start: the slot is found out by whoever reads it, here it only stays.
        if has_damage && let Some(segment) = self.segments.get_mut(&segment) {
            segment.is_damaged = true;
        }
        for (slot, offset) in found {
            let is_here = |place: &&Place| place.segment == segment && place.offset == offset;
            if let Some(place) = self.index.places(slot).iter().find(is_here).copied() {
                let is_copied = self.copy(slot, place)?;
                if !is_copied && let Some(segment) = self.segments.get_mut(&segment) {
                    segment.is_damaged = true;
                }
            }
        }
        self.emptying = (!is_over).then_some(Emptying { segment, at: next });
        Ok(u64::from(next - at).max(1))
    }

    /// The sealed segment with the smallest part that lives, when the log is above its bound and
    /// emptying it gains something.
    fn emptiest(&self) -> Option<Emptying> {
        let usage = self.usage();
        let live = usage.record_bytes + usage.snapshot_bytes;
        let used = live + usage.dead_bytes;
        let slack = 2 * u64::from(self.options.segment_bytes);
        let bound = (live as f64 * self.options.space_multiple) as u64 + slack;
        if used <= bound {
            return None;
        }
        let may_go = |(number, segment): &(&u32, &Segment)| {
            **number != self.current
                && !segment.is_damaged
                && !segment.is_dead()
                && segment.image_bytes == 0
                && segment.last_slot <= self.snapshot.floor
                && segment.record_bytes * 10 <= u64::from(segment.end) * 9
        };
        let part = |segment: &Segment| {
            segment.record_bytes.saturating_mul(1 << 20) / u64::from(segment.end.max(1))
        };
        self.segments
            .iter()
            .filter(may_go)
            .min_by_key(|(_, segment)| part(segment))
            .map(|(number, _)| Emptying { segment: *number, at: 0 })
    }

    /// Writes one record again, as it stands on the disk. False when it cannot be read.
    fn copy(&mut self, slot: Slot, from: Place) -> Result<bool, LogError> {
        let name = file_name(from.segment);
        let record = self.disk.read_at(&name, from.offset.into(), from.bytes as usize)?;
        let checksum = self.binding.place(from.segment, from.offset);
        let Some(prefix) = Prefix::decode(&record, checksum) else { return Ok(false) };
        let head_end = PREFIX_BYTES + prefix.head_bytes as usize;
        let body_end = head_end + prefix.body_bytes as usize;
        if body_end > record.len() || !prefix.matches(&record[PREFIX_BYTES..head_end]) {
            return Ok(false);
        }
        let laid = Laid {
            kind: Kind::Accept,
            slot,
            head: BytesMut::from(&record[PREFIX_BYTES..head_end]),
            body: vec![record.slice(head_end..body_end)],
            body_bytes: u64::from(prefix.body_bytes),
        };
        let to = self.place(&laid)?;
        if let Some(segment) = self.segments.get_mut(&from.segment) {
            segment.remove(from);
        }
        self.note(slot, to);
        self.index.replace(slot, from, to);
        Ok(true)
    }
}
