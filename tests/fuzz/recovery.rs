//! The fuzz target `recovery`: a log that was changed, opened, used and opened again.

use super::{Program, crc32c};
use distkv::storage::{Disk as _, Durability, Log, LogOptions, SimDisk};
use distkv::types::{
    Ballot, Bytes, Code, Digest, Epoch, NodeId, Record, Shard, Slot, ValueId, ValueMeta,
};

const OPTIONS: LogOptions = LogOptions {
    cluster: 7,
    node: NodeId(2),
    durability: Durability::Sync,
    segment_bytes: 64 << 10,
    record_bytes_max: 1 << 20,
    write_buffer_bytes: 4096,
    scan_bytes: 4096,
    space_multiple: 2.0,
    memory_bytes_max: 1 << 20,
};
const INCARNATION: u64 = 99;
/// Ends a record's prefix.
const MARK: [u8; 3] = [0xD1, 0x5C, 1];

fn accept(slot: u64, round: u64, bytes: usize) -> Record {
    let origin = Ballot { round, node: 1 };
    let payload = vec![u8::try_from(slot % 251).expect("below 251"); 3 * bytes];
    let shard = |index: u8| Shard::new(index, Bytes::from(vec![index ^ payload[0]; bytes]));
    Record::Accept {
        ballot: origin,
        meta: ValueMeta {
            id: ValueId { origin, slot: Slot(slot) },
            epoch: Epoch(1),
            code: Code::new(3, 2).expect("a code"),
            payload_bytes: u32::try_from(payload.len()).expect("small"),
            digest: Digest::of(&payload),
            header: Bytes::from(format!("header of {slot}")),
        },
        shards: vec![shard(2)],
    }
}

/// A log of two segments, written in several batches.
fn written_log() -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = Log::open(disk.clone(), OPTIONS, INCARNATION).expect("an empty disk");
    for slot in 1..=12 {
        let promise = Record::Promise { ballot: Ballot { round: slot, node: 1 } };
        let batch = [promise, accept(slot, slot, 7000), Record::Chosen { slot: Slot(slot - 1) }];
        log.append(&batch).expect("room");
        log.sync().expect("a simulated disk syncs");
    }
    disk
}

/// A log that was changed anywhere, prefixes made good again, then opened, used and opened again.
pub fn recovery(data: &[u8]) {
    let mut program = Program(data);
    let mut disk = written_log();
    let files = disk.list().expect("a simulated disk lists");
    for _ in 0..16 {
        if program.is_over() {
            break;
        }
        let file = &files[usize::from(program.u8()) % files.len()];
        let kind = program.u8();
        let any = u64::from(program.u16()) % file.bytes.max(1);
        // Half of all changes are aimed at a record's prefix or head.
        let starts = if kind & 64 == 0 { Vec::new() } else { record_starts(&mut disk, &file.name) };
        let start = starts.get(usize::from(program.u8()) % starts.len().max(1)).copied();
        let offset = start.map_or(any, |start| start + any % 96);
        match kind % 64 % 5 {
            0 | 1 => {
                let bytes = Bytes::copy_from_slice(program.bytes());
                let _ = disk.write_at(&file.name, offset, &[bytes]);
            }
            2 => {
                let to = u64::from(program.u16()) % file.bytes.max(1) / 8 * 8;
                disk.misdirect(&file.name, offset, to, usize::from(program.u16()));
            }
            3 => {
                disk.corrupt_at(&file.name, offset, program.u8());
            }
            _ => {
                let _ = disk.truncate(&file.name, offset);
            }
        }
        if kind >= 128 {
            seal_prefix(&mut disk, &file.name, start.unwrap_or(offset) / 8 * 8);
        }
    }
    let Ok((mut log, recovered)) = Log::open(disk.clone(), OPTIONS, INCARNATION) else { return };
    log.check_invariants();
    let mut highest = recovered.chosen.0;
    for entry in &recovered.entries {
        let slot = entry.meta.slot();
        highest = highest.max(slot.0);
        if let Ok(Some(stored)) = log.read(slot) {
            assert!(stored.shards.iter().all(Shard::is_intact), "{slot}: damage was not seen");
        }
    }
    let ballot = Ballot { round: recovered.promised.round.saturating_add(1), node: 1 };
    let slot = Slot(highest.saturating_add(1));
    let records = [Record::Promise { ballot }, accept(slot.0, ballot.round, 100)];
    if log.append(&records).is_err() || log.sync().is_err() {
        return;
    }
    log.check_invariants();
    drop(log);
    let again = Log::open(disk, OPTIONS, INCARNATION);
    let (mut log, again) = again.expect("what was opened and synced opens again");
    assert_eq!(again.promised, ballot.max(recovered.promised), "a promise was forgotten");
    let stored = log.read(slot).expect("a whole record").expect("what was synced is there");
    assert_eq!(stored.shards.len(), 1, "a synced shard is gone");
}

/// Where records seem to start in a file.
fn record_starts(disk: &mut SimDisk, name: &str) -> Vec<u64> {
    let Ok(bytes) = disk.read_at(name, 0, 64 << 10) else { return Vec::new() };
    let is_start = |at: &usize| bytes.get(at + 29..at + 32) == Some(&MARK[..]);
    (0..bytes.len()).step_by(8).filter(is_start).map(|at| at as u64).collect()
}

/// Makes the checksums of the record at `offset` good (`storage/record.rs`), as far as it lies in
/// the file.
fn seal_prefix(disk: &mut SimDisk, name: &str, offset: u64) {
    let digits = name.trim_start_matches("log-").trim_end_matches(".seg");
    let (Ok(segment), Ok(place)) = (digits.parse::<u32>(), u32::try_from(offset)) else { return };
    let Ok(bytes) = disk.read_at(name, offset, 32) else { return };
    let Ok(mut prefix) = <[u8; 32]>::try_from(&*bytes) else { return };
    prefix[28] = prefix[28] % 6 + 1;
    prefix[29..].copy_from_slice(&MARK);
    prefix[11] &= 0x01;
    let head_bytes = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    if let Ok(head) = disk.read_at(name, offset + 32, head_bytes as usize % 4096) {
        prefix[4..8].copy_from_slice(&crc32c(&head).to_le_bytes());
    }
    let seed = crc32c(&[&7_u64.to_le_bytes()[..], &[2], &INCARNATION.to_le_bytes()[..]].concat());
    let place = [seed.to_le_bytes(), segment.to_le_bytes(), place.to_le_bytes()].concat();
    let checksum = crc32c(&prefix[4..]) ^ crc32c(&place);
    prefix[..4].copy_from_slice(&checksum.to_le_bytes());
    let _ = disk.write_at(name, offset, &[Bytes::copy_from_slice(&prefix)]);
}
