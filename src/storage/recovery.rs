//! Start-up: tells a torn tail from damage, replays what is left, and starts a new segment.
//!
//! The last segment alone may hold unsynced records. Up to the highest `synced` that one of its
//! records names everything was durable: what is bad there is damage, and what comes after it is
//! kept. Beyond it the first bad record is a torn write, and it is cut there. What is left of that
//! tail is written and synced anew before anything is answered (rule 9): after a failed sync the
//! operating system may hold as clean what the disk never got.

use super::disk::Disk;
use super::error::LogError;
use super::index::{Entry, Part, Place};
use super::record::{AcceptHead, IndexHead, OPENING, Said, Snapshot};
use super::scan::{Found, Scanner, is_spare};
use super::segments::{Segment, SegmentLog, file_name, segment_number};
use super::stored::{IndexSnapshot, Recovered, RecoveredEntry};
use crate::mutant::{Mutant, breaks};
use crate::types::{ShardSet, Slot};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};

/// Reads everything into `log`, which has no segments yet.
pub(super) fn recover<D: Disk>(log: &mut SegmentLog<D>) -> Result<Recovered, LogError> {
    let mut files = BTreeMap::new();
    for info in log.disk.list()? {
        if let Some(number) = segment_number(&info.name) {
            files.insert(number, info.bytes);
        }
    }
    log.current = files.last_key_value().map_or(0, |(number, _)| *number);
    let ends = find_ends(log, &mut files)?;
    let mut replay = Replay::default();
    for (&number, &end) in &ends.sealed {
        let Some(&bytes) = files.get(&number) else {
            replay.lose_unknown();
            continue;
        };
        let segment = Segment { end, allocated_bytes: bytes, ..Segment::default() };
        log.segments.insert(number, segment);
        let is_end_known = ends.is_complete || Some(number) == ends.last;
        let has_damage = replay.segment(log, number, end, is_end_known)?;
        if let Some(segment) = log.segments.get_mut(&number) {
            segment.is_damaged = has_damage;
        }
    }
    install(log, &replay);
    let obsolete: Vec<u32> =
        files.keys().copied().filter(|number| !ends.sealed.contains_key(number)).collect();
    log.open_segment(0)?;
    for number in obsolete {
        log.disk.delete(&file_name(number))?;
    }
    replay.finish(log)
}

/// Which segments count and where their records end.
struct Ends {
    sealed: BTreeMap<u32, u32>,
    /// All ends are known; otherwise only the last segment's is, and others may end in zeroes.
    is_complete: bool,
    last: Option<u32>,
}

/// Settles the last segment's end, makes what is left of it durable, and gives its rest back.
fn find_ends<D: Disk>(
    log: &mut SegmentLog<D>,
    files: &mut BTreeMap<u32, u64>,
) -> Result<Ends, LogError> {
    while let Some((&number, &bytes)) = files.last_key_value() {
        let limit = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(tail) = Tail::find(log, number, limit)? else {
            // Its opening was never made durable, so nothing was ever answered from it.
            log.disk.delete(&file_name(number))?;
            files.remove(&number);
            continue;
        };
        rewrite(log, number, tail.synced, tail.end)?;
        log.disk.truncate(&file_name(number), tail.end.into())?;
        files.insert(number, tail.end.into());
        let is_complete = tail.opening.is_some();
        let mut sealed = match tail.opening {
            Some(opening) => opening.segments,
            None => files
                .iter()
                .map(|(number, bytes)| (*number, u32::try_from(*bytes).unwrap_or(u32::MAX)))
                .collect(),
        };
        sealed.insert(number, tail.end);
        return Ok(Ends { sealed, is_complete, last: Some(number) });
    }
    Ok(Ends { sealed: BTreeMap::new(), is_complete: true, last: None })
}

/// The last segment at start-up.
pub(super) struct Tail {
    /// Up to here it was known to be durable.
    pub synced: u32,
    /// Up to here it is kept.
    pub end: u32,
    /// What it opens with, from either copy.
    pub opening: Option<Snapshot>,
}

impl Tail {
    /// `None` when the segment's opening was torn.
    pub(super) fn find<D: Disk>(
        log: &mut SegmentLog<D>,
        number: u32,
        limit: u32,
    ) -> Result<Option<Self>, LogError> {
        let (name, scan_bytes) = (file_name(number), log.options.scan_bytes);
        let mut scanner =
            Scanner::new(&mut log.disk, log.binding, (number, &name), limit, scan_bytes);
        let (mut synced, mut opening, mut is_opened) = (0, None, false);
        loop {
            match scanner.next()? {
                Found::Record { offset, prefix, said, .. } => {
                    synced = synced.max(prefix.synced);
                    if let (OPENING, Said::Snapshot(snapshot)) = (prefix.slot, said) {
                        opening = Some(snapshot);
                        is_opened |= offset == 0;
                    }
                }
                Found::DamagedHead { prefix } => synced = synced.max(prefix.synced),
                Found::Gap { .. } => {}
                Found::End => break,
            }
        }
        // Nothing follows an opening before that is durable.
        if synced == 0 && !is_opened {
            return Ok(None);
        }
        let end = scanner.strict_end(synced)?;
        Ok(Some(Self { synced, end, opening }))
    }
}

/// Writes `[from, to)` of a segment again and syncs it.
fn rewrite<D: Disk>(
    log: &mut SegmentLog<D>,
    number: u32,
    from: u32,
    to: u32,
) -> Result<(), LogError> {
    if from < to && breaks(Mutant::TrustsTail) {
        return Ok(());
    }
    let (name, mut at) = (file_name(number), u64::from(from));
    while at < u64::from(to) {
        let bytes = usize::try_from(u64::from(to) - at).unwrap_or(usize::MAX);
        let chunk = log.disk.read_at(&name, at, bytes.min(log.options.scan_bytes))?;
        assert!(!chunk.is_empty(), "{name} ends before {to}, where its records were found");
        let written = chunk.len() as u64;
        log.disk.write_at(&name, at, &[chunk])?;
        log.bytes_written += written;
        at += written;
    }
    log.disk.sync(&name)?;
    log.syncs += 1;
    Ok(())
}

/// The log's meaning while its records are read in the order of their writing.
#[derive(Default)]
struct Replay {
    snapshot: Snapshot,
    entries: BTreeMap<Slot, Entry>,
    faulty: BTreeSet<Slot>,
    unknown_damage: bool,
    /// Parts of index snapshots, in order.
    image_parts: Vec<(IndexHead, Place)>,
}

impl Replay {
    /// Takes in one segment. True when it has damage.
    fn segment<D: Disk>(
        &mut self,
        log: &mut SegmentLog<D>,
        number: u32,
        end: u32,
        is_end_known: bool,
    ) -> Result<bool, LogError> {
        let (name, scan_bytes) = (file_name(number), log.options.scan_bytes);
        let mut scanner =
            Scanner::new(&mut log.disk, log.binding, (number, &name), end, scan_bytes);
        let mut has_damage = false;
        loop {
            match scanner.next()? {
                Found::Record { offset, bytes, prefix, said } => {
                    let body_bytes = prefix.body_bytes;
                    self.record(Place { segment: number, offset, bytes, body_bytes }, said);
                }
                Found::DamagedHead { prefix } => {
                    has_damage = true;
                    if !is_spare(prefix.kind) {
                        self.lose(prefix.slot);
                    }
                }
                Found::Gap { to } if to == end && !is_end_known => {}
                Found::Gap { .. } => {
                    has_damage = true;
                    self.lose_unknown();
                }
                Found::End => return Ok(has_damage),
            }
        }
    }

    fn record(&mut self, place: Place, said: Said) {
        match said {
            Said::Snapshot(snapshot) => {
                self.snapshot.promised = self.snapshot.promised.max(snapshot.promised);
                self.snapshot.chosen = self.snapshot.chosen.max(snapshot.chosen);
                self.snapshot.floor = self.snapshot.floor.max(snapshot.floor);
                self.snapshot.peers.extend(snapshot.peers);
            }
            Said::Promise(ballot) => {
                self.snapshot.promised = self.snapshot.promised.max(ballot);
            }
            Said::Accept(head) => self.accept(place, &head),
            Said::Chosen(slot) => self.snapshot.chosen = self.snapshot.chosen.max(slot),
            Said::Floor(slot) => self.snapshot.floor = self.snapshot.floor.max(slot),
            Said::Peer(node, incarnation) => {
                self.snapshot.peers.insert(node, incarnation);
            }
            Said::Filler => {}
            Said::Index(head) => self.image_parts.push((head, place)),
        }
    }

    fn accept(&mut self, place: Place, head: &AcceptHead) {
        // Accepting at a ballot promises it.
        self.snapshot.promised = self.snapshot.promised.max(head.ballot);
        let part = Part { place, ballot: head.ballot, shards: head.shard_set() };
        let slot = head.meta.slot();
        let (entry, _) = Entry::joined(self.entries.remove(&slot), head, part);
        self.entries.insert(slot, entry);
    }

    /// A record of `slot` is damaged: no older one may answer for it (rule 13).
    fn lose(&mut self, slot: Slot) {
        self.entries.remove(&slot);
        self.faulty.insert(slot);
    }

    /// A record is damaged and nobody knows whose it was: of any slot that was not yet chosen when
    /// it was written, since a chosen one is never accepted again with another value.
    fn lose_unknown(&mut self) {
        self.unknown_damage = true;
        let lost = self.entries.split_off(&self.snapshot.chosen.next());
        self.faulty.extend(lost.into_keys());
    }

    /// What the node is told. A faulty slot is well again when k distinct verified shards of its
    /// value were recorded after the damage. An empty value too: its shards are counted like others.
    fn finish<D: Disk>(self, log: &mut SegmentLog<D>) -> Result<Recovered, LogError> {
        let mut faulty = Vec::new();
        for slot in self.faulty {
            let is_well = log
                .read(slot)?
                .is_some_and(|value| value.shards.len() >= usize::from(value.meta.code.k()));
            if !is_well {
                faulty.push(slot);
            }
        }
        let entry = |entry: Entry| {
            let shards: ShardSet = entry.shards();
            RecoveredEntry { ballot: entry.ballot, meta: entry.meta, shards }
        };
        let floor = self.snapshot.floor;
        let index = read_image(log)?.filter(|index| index.slot >= floor);
        let covered = index.as_ref().map_or(Slot::ZERO, |index| index.slot);
        Ok(Recovered {
            promised: self.snapshot.promised,
            chosen: self.snapshot.chosen.max(covered),
            floor,
            index,
            entries: self.entries.into_values().map(entry).collect(),
            faulty,
            unknown_damage: self.unknown_damage,
            peers: self.snapshot.peers,
            ..Recovered::default()
        })
    }
}

/// The latest whole index snapshot; `None` when there is none, or a part of it is damaged.
fn read_image<D: Disk>(log: &mut SegmentLog<D>) -> Result<Option<IndexSnapshot>, LogError> {
    let Some((slot, places)) = log.images.latest() else { return Ok(None) };
    let parts = u32::try_from(places.len()).expect("parts are counted in 32 bits");
    let mut bytes = BytesMut::new();
    for part in 0..parts {
        let Some((_, body)) = log.read_image_part(slot, part)? else { return Ok(None) };
        bytes.extend_from_slice(&body);
    }
    Ok(Some(IndexSnapshot { slot, bytes: bytes.freeze() }))
}

fn install<D: Disk>(log: &mut SegmentLog<D>, replay: &Replay) {
    log.snapshot = replay.snapshot.clone();
    for (slot, entry) in &replay.entries {
        log.index.set(*slot, &entry.parts);
        for part in &entry.parts {
            if let Some(segment) = log.segments.get_mut(&part.place.segment) {
                segment.add(*slot, part.place);
            }
        }
    }
    for (head, place) in &replay.image_parts {
        log.keep_image_part(head, *place);
    }
}
