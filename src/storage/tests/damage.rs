//! Damage: told from torn writes, never hidden by an older record, never fatal to what follows.

use super::super::{Disk as _, Log, LogOptions, OpenError, SimDisk};
use super::{accept, indexes, open, options, promise};
use crate::rng::Rng;
use crate::types::{NodeId, Record, ShardSet, Slot};

/// Where the record of `slot` starts in the first segment, found by its value's header.
fn header_offset(disk: &SimDisk, slot: u64) -> u64 {
    let file = disk.clone().read_at(FIRST, 0, 64 << 10).unwrap();
    let wanted = format!("header of {slot}\u{1}\0\0\0");
    let found = file.windows(wanted.len()).position(|bytes| bytes == wanted.as_bytes());
    u64::try_from(found.unwrap()).unwrap()
}

/// A log of five values, each synced on its own, and a promise.
fn five() -> SimDisk {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[promise(6)]).unwrap();
    for slot in 1..=5 {
        log.append(&[accept(slot, (1, 1), &[0], 600)]).unwrap();
        log.sync().unwrap();
    }
    disk
}

fn slots(recovered: &super::Recovered) -> Vec<u64> {
    recovered.entries.iter().map(|entry| entry.meta.slot().0).collect()
}

#[test]
fn a_damaged_head_makes_its_slot_faulty_and_keeps_what_follows() {
    let mut disk = five();
    let at = header_offset(&disk, 3);
    assert!(disk.corrupt_at(FIRST, at, 4));
    for _ in 0..3 {
        let (mut log, recovered) = open(&disk);
        assert_eq!(recovered.faulty, [Slot(3)]);
        assert_eq!((slots(&recovered), recovered.unknown_damage), (vec![1, 2, 4, 5], false));
        assert_eq!(log.read(Slot(3)).unwrap(), None);
    }
    // Fewer than k shards do not end it; k do.
    let (mut log, _) = open(&disk);
    log.append(&[accept(3, (1, 1), &[1, 2], 600)]).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.faulty, [Slot(3)]);
    log.append(&[accept(3, (1, 1), &[4], 600)]).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = open(&disk);
    assert!(recovered.faulty.is_empty());
    assert_eq!(indexes(&mut log, 3), [1, 2, 4]);
}

#[test]
fn an_empty_value_too_is_sound_only_with_k_shards() {
    let mut disk = five();
    let at = header_offset(&disk, 3);
    assert!(disk.corrupt_at(FIRST, at, 4));
    let (mut log, _) = open(&disk);
    log.append(&[accept(3, (7, 7), &[1], 0)]).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.faulty, [Slot(3)], "a leader counts the shards of an empty value too");
    log.append(&[accept(3, (7, 7), &[2, 4], 0)]).unwrap();
    log.sync().unwrap();
    let (_, recovered) = open(&disk);
    assert!(recovered.faulty.is_empty());
}

#[test]
fn a_damaged_prefix_makes_what_is_not_chosen_faulty() {
    let mut disk = five();
    // Inside the prefix, which the head follows: ballot, origin, epoch, code, lengths, digest.
    let at = header_offset(&disk, 3) - 70;
    assert!(disk.corrupt_at(FIRST, at, 4));
    let (_, recovered) = open(&disk);
    assert!(recovered.unknown_damage);
    assert_eq!(recovered.faulty, [Slot(1), Slot(2)]);
    assert_eq!((slots(&recovered), recovered.promised), (vec![4, 5], super::ballot(6)));
}

#[test]
fn a_damaged_shard_is_named_when_it_is_read() {
    let mut disk = five();
    let at = header_offset(&disk, 2) + 100;
    assert!(disk.corrupt_at(FIRST, at, 1));
    let (mut log, recovered) = open(&disk);
    assert_eq!(slots(&recovered), [1, 2, 3, 4, 5]);
    let value = log.read(Slot(2)).unwrap().unwrap();
    assert_eq!((value.shards.len(), value.damaged), (0, ShardSet::one(0)));
    // Another copy of the shard heals it.
    log.append(&[accept(2, (1, 1), &[0, 1], 600)]).unwrap();
    assert_eq!(indexes(&mut log, 2), [0, 1]);
}

#[test]
fn a_misdirected_write_is_seen() {
    let mut disk = five();
    let (from, to) = (header_offset(&disk, 2) - 98, header_offset(&disk, 4) - 98);
    disk.misdirect(FIRST, from, to, 700);
    let (_, recovered) = open(&disk);
    assert!(recovered.unknown_damage);
    assert!(!slots(&recovered).contains(&4));
    assert!(slots(&recovered).contains(&5));
}

#[test]
fn a_promise_survives_damage_to_any_one_byte() {
    let disk = five();
    let bytes = disk.clone().list().unwrap().iter().find(|f| f.name == FIRST).unwrap().bytes;
    let end = header_offset(&disk, 5);
    assert!(end < bytes);
    for at in (0..end).step_by(7) {
        let mut disk = five();
        assert!(disk.corrupt_at(FIRST, at, 32));
        let (_, recovered) = open(&disk);
        assert_eq!(recovered.promised, super::ballot(6), "byte {at}");
        assert!(!recovered.entries.is_empty(), "byte {at}");
    }
}

#[test]
fn random_rot_never_yields_a_wrong_byte() {
    for seed in 0..200 {
        let (mut disk, mut rng) = (five(), Rng::new(seed));
        for _ in 0..rng.range(1, 6) {
            assert!(disk.corrupt("log-", &mut rng));
        }
        let (mut log, recovered) = open(&disk);
        for slot in 1..=5 {
            let Some(value) = log.read(Slot(slot)).unwrap() else { continue };
            assert!(slots(&recovered).contains(&slot));
            assert_eq!(value.meta, super::meta(slot, 1, 600), "seed {seed}");
            assert!(value.shards.iter().all(|shard| shard.is_intact()), "seed {seed}");
        }
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let mut disk = five();
    drop(open(&disk));
    disk.delete(FIRST).unwrap();
    let (_, recovered) = open(&disk);
    assert!(recovered.unknown_damage);
    assert_eq!(recovered.promised, super::ballot(6));
}

#[test]
fn the_directory_of_another_is_refused() {
    let disk = five();
    let with = |change: fn(&mut LogOptions)| {
        let mut options = options();
        change(&mut options);
        Log::open(disk.clone(), options, 1).map(drop).unwrap_err()
    };
    let node = with(|options| options.node = NodeId(3));
    assert!(matches!(node, OpenError::OtherNode { found: NodeId(2), .. }), "{node}");
    let cluster = with(|options| options.cluster = 8);
    assert!(matches!(cluster, OpenError::OtherCluster { found: 7, expected: 8, .. }), "{cluster}");
    let sizes = with(|options| options.segment_bytes = 1);
    assert!(matches!(sizes, OpenError::Options(_)), "{sizes}");
    assert_eq!(slots(&open(&disk).1), [1, 2, 3, 4, 5]);
}

#[test]
fn an_identity_is_lost_only_with_both_copies() {
    let mut disk = five();
    for file in ["identity", "identity.copy"] {
        assert!(disk.corrupt_at(file, 20, 1));
        if file == "identity" {
            assert_eq!(open(&disk).1.boot, 2);
            assert!(disk.corrupt_at("identity", 20, 1));
        }
    }
    let error = Log::open(disk.clone(), options(), 1).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::IdentityDamaged { .. }), "{error}");
    for bytes in [0, 5, 11, 30, 51] {
        disk.truncate("identity", bytes).unwrap();
        disk.truncate("identity.copy", bytes.min(3)).unwrap();
        let error = Log::open(disk.clone(), options(), 1).map(drop).unwrap_err();
        assert!(matches!(error, OpenError::IdentityTruncated { .. }), "{bytes}: {error}");
        disk = five();
    }
    disk.delete("identity").unwrap();
    assert_eq!(open(&disk).1.boot, 2);
    disk.delete("identity").unwrap();
    disk.delete("identity.copy").unwrap();
    let error = Log::open(disk, options(), 1).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::IdentityMissing { segments: 2, .. }), "{error}");
}

#[test]
fn another_version_and_a_log_that_is_gone_are_refused() {
    let mut disk = five();
    let mut bytes = disk.read_at("identity", 0, 4096).unwrap().to_vec();
    bytes[8] = 9;
    let body = bytes.len() - 4;
    let checksum = crc_fast::crc32_iscsi(&bytes[..body]).to_le_bytes();
    bytes[body..].copy_from_slice(&checksum);
    disk.replace("identity", &bytes).unwrap();
    disk.replace("identity.copy", &bytes).unwrap();
    let error = Log::open(disk, options(), 1).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::OtherVersion { found: 9, .. }), "{error}");
    let mut disk = five();
    disk.delete(FIRST).unwrap();
    let error = Log::open(disk, options(), 1).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::LogMissing { .. }), "{error}");
}

#[test]
fn damage_before_a_replacement_does_not_bring_the_older_value_back() {
    let mut disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[accept(1, (1, 1), &[0], 600)]).unwrap();
    log.append(&[Record::Chosen { slot: Slot::ZERO }, accept(11, (1, 1), &[0], 600)]).unwrap();
    log.append(&[accept(1, (2, 2), &[0], 64), Record::Chosen { slot: Slot(1) }]).unwrap();
    log.sync().unwrap();
    log.append(&[promise(3)]).unwrap();
    log.sync().unwrap();
    let file = disk.read_at(FIRST, 0, 64 << 10).unwrap();
    let wanted = b"header of 1\x01";
    let last = file.windows(wanted.len()).rposition(|bytes| bytes == wanted).unwrap() as u64;
    for at in [last, last - 70] {
        let mut disk = disk.duplicate();
        assert!(disk.corrupt_at(FIRST, at, 1));
        let (mut log, recovered) = open(&disk);
        assert!(recovered.faulty.contains(&Slot(1)), "{recovered:?}");
        assert_eq!(log.read(Slot(1)).unwrap(), None);
    }
}

const FIRST: &str = "log-0000000001.seg";
