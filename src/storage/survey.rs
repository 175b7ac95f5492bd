//! Where records rest on a simulated disk: what a fault may damage, and what each damage takes.
//!
//! For a simulator that damages data at rest and must know what is still there. Only records that
//! are certainly durable and before the synced mark are listed: rot behind it cannot be told from a
//! torn write and is outside the failure model (DESIGN 3.6). Changes nothing.

use super::disk::Disk as _;
use super::identity::Identity;
use super::options::LogOptions;
use super::record::{Binding, Kind, PREFIX_BYTES, Said};
use super::recovery::Tail;
use super::scan::{Found, Scanner};
use super::segments::{SegmentLog, file_name, segment_number};
use super::sim_disk::SimDisk;
use crate::types::Slot;
use std::collections::BTreeMap;

/// One record at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its file.
    pub file: String,
    /// The number of its segment.
    pub segment: u32,
    /// Where it starts.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// The slot of an accepted value; `None` for a record that stands twice or is dispensable.
    pub slot: Option<Slot>,
    /// A part of an index snapshot: without it the node may have lost its state.
    pub is_index: bool,
    /// What the log knew to be chosen before this record: when the record's start is damaged, every
    /// slot above is in doubt.
    pub chosen_before: Slot,
}

impl Resting {
    /// Length of the start without which a record cannot be told from none.
    pub const START_BYTES: u64 = PREFIX_BYTES as u64;
}

/// The records of the log on `disk` that may be damaged, in the order of their writing. Empty when
/// there is no log, or none that a start would read.
#[must_use]
pub fn survey(disk: &SimDisk, options: &LogOptions) -> Vec<Resting> {
    let mut disk = disk.durable();
    let Ok(Some(identity)) = Identity::read(&mut disk) else { return Vec::new() };
    let binding = Binding::new(options.cluster, options.node, identity.incarnation);
    let mut log = SegmentLog::new(disk, options.clone(), binding);
    let Some(ends) = ends(&mut log) else { return Vec::new() };
    let (mut found, mut chosen) = (Vec::new(), Slot::ZERO);
    for (segment, end) in ends {
        list(&mut log, (segment, end), &mut chosen, &mut found);
    }
    found
}

/// The segments that count, with the places up to which they are certainly durable.
fn ends(log: &mut SegmentLog<SimDisk>) -> Option<BTreeMap<u32, u32>> {
    let mut files = BTreeMap::new();
    for info in log.disk.list().ok()? {
        if let Some(number) = segment_number(&info.name) {
            files.insert(number, info.bytes);
        }
    }
    while let Some((number, bytes)) = files.pop_last() {
        let limit = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(tail) = Tail::find(log, number, limit).ok()? else { continue };
        let mut ends = tail.opening?.segments;
        ends.insert(number, tail.synced);
        return Some(ends);
    }
    None
}

fn list(
    log: &mut SegmentLog<SimDisk>,
    (segment, end): (u32, u32),
    chosen: &mut Slot,
    into: &mut Vec<Resting>,
) {
    let (file, scan_bytes) = (file_name(segment), log.options.scan_bytes);
    let mut scanner = Scanner::new(&mut log.disk, log.binding, (segment, &file), end, scan_bytes);
    while let Ok(found) = scanner.next() {
        let (offset, bytes, prefix, said) = match found {
            Found::Record { offset, bytes, prefix, said } => (offset, bytes, prefix, said),
            Found::DamagedHead { .. } | Found::Gap { .. } => continue,
            Found::End => return,
        };
        if prefix.kind != Kind::Filler {
            into.push(Resting {
                file: file.clone(),
                segment,
                offset: offset.into(),
                bytes: bytes.into(),
                slot: matches!(said, Said::Accept(_)).then_some(prefix.slot),
                is_index: matches!(said, Said::Index(_)),
                chosen_before: *chosen,
            });
        }
        match said {
            Said::Chosen(slot) => *chosen = slot.max(*chosen),
            Said::Snapshot(snapshot) => *chosen = snapshot.chosen.max(*chosen),
            Said::Accept(_)
            | Said::Promise(_)
            | Said::Peer(..)
            | Said::Floor(_)
            | Said::Filler
            | Said::Index(_) => {}
        }
    }
}
