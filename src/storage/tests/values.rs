//! What a log gives back while nothing fails: unions, replacement, sizes, modes, accounts.

use super::super::{Durability, Log, LogError, LogOptions, SimDisk};
use super::{accept, indexes, meta, open, options, promise, shard_bytes};
use crate::types::{NodeId, Record, ShardSet, Slot};

#[test]
fn a_value_is_read_back_before_and_after_a_restart() {
    let disk = SimDisk::new();
    let (mut log, first) = open(&disk);
    assert_eq!((first.boot, first.incarnation), (1, 99));
    let peer = Record::Peer { node: NodeId(4), incarnation: 17 };
    log.append(&[promise(3), accept(1, (3, 3), &[2], 500), peer]).unwrap();
    log.append(&[Record::Chosen { slot: Slot(1) }]).unwrap();
    let read = log.read(Slot(1)).unwrap().unwrap();
    assert_eq!(read.shards[0].bytes, shard_bytes(1, 3, 2, 500));
    assert_eq!((&read.meta, read.damaged), (&meta(1, 3, 500), ShardSet::EMPTY));
    log.sync().unwrap();
    drop(log);
    let (mut log, second) = open(&disk);
    assert_eq!((second.boot, second.incarnation), (2, 99));
    assert_eq!((second.promised, second.chosen), (super::ballot(3), Slot(1)));
    assert_eq!(second.peers.get(&NodeId(4)), Some(&17));
    assert_eq!(second.entries.len(), 1);
    assert_eq!(second.entries[0].shards, ShardSet::one(2));
    assert!(second.faulty.is_empty() && !second.unknown_damage);
    assert_eq!(log.read(Slot(1)).unwrap(), Some(read));
    assert_eq!(log.read(Slot(2)).unwrap(), None);
}

#[test]
fn a_floor_is_there_after_restarts() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[Record::Floor { slot: Slot(7) }, Record::Floor { slot: Slot(3) }]).unwrap();
    log.sync().unwrap();
    drop(log);
    let (log, second) = open(&disk);
    assert_eq!((second.floor, second.index), (Slot(7), None));
    drop(log);
    let (_, third) = open(&disk);
    assert_eq!(third.floor, Slot(7));
}

#[test]
fn the_same_value_id_keeps_the_union_and_another_replaces_it() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[accept(1, (1, 1), &[0, 1], 100), accept(1, (2, 1), &[3], 100)]).unwrap();
    assert_eq!(indexes(&mut log, 1), [0, 1, 3]);
    log.append(&[accept(1, (5, 1), &[], 100)]).unwrap();
    assert_eq!(log.read(Slot(1)).unwrap().unwrap().ballot, super::ballot(5));
    log.sync().unwrap();
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.entries[0].ballot, super::ballot(5));
    assert_eq!(recovered.entries[0].shards, [0, 1, 3].into_iter().collect());
    assert_eq!(indexes(&mut log, 1), [0, 1, 3]);
    // An older ballot is a stray; a newer one replaces.
    log.append(&[accept(1, (4, 4), &[2], 100)]).unwrap();
    assert_eq!(indexes(&mut log, 1), [0, 1, 3]);
    log.append(&[accept(1, (6, 6), &[2], 100)]).unwrap();
    assert_eq!(indexes(&mut log, 1), [2]);
    assert_eq!(log.usage().payload_bytes, 100);
    log.sync().unwrap();
    let (mut log, _) = open(&disk);
    assert_eq!(indexes(&mut log, 1), [2]);
    assert_eq!((log.usage().payload_bytes, log.usage().slots), (100, 1));
}

#[test]
fn repeated_accepts_do_not_pile_up() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    for round in 1..100 {
        log.append(&[accept(1, (round, 1), &[1], 50), accept(1, (round, 1), &[], 50)]).unwrap();
        assert!(log.usage().payload_bytes <= 50, "round {round}");
        assert!(log.usage().record_bytes <= 512, "round {round}");
        assert_eq!(indexes(&mut log, 1), [1]);
    }
}

#[test]
fn segments_roll_and_dead_ones_are_deleted() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    for slot in 1..=400 {
        log.append(&[accept(slot, (1, 1), &[0], 1000)]).unwrap();
        if slot % 16 == 0 {
            log.sync().unwrap();
            log.check_invariants();
        }
    }
    let usage = log.usage();
    assert!(usage.segments >= 7, "{usage:?}");
    assert_eq!(usage.payload_bytes, 400_000);
    assert!(usage.index_bytes / usage.slots <= 32, "{usage:?}");
    log.append(&[promise(9)]).unwrap();
    for slot in 1..=400 {
        log.append(&[accept(slot, (9, 9), &[1], 8)]).unwrap();
    }
    log.sync().unwrap();
    for slot in 401..=500 {
        log.append(&[accept(slot, (9, 9), &[1], 1000)]).unwrap();
    }
    log.sync().unwrap();
    assert!(log.usage().segments < 7, "{:?}", log.usage());
    drop(log);
    let (mut log, recovered) = open(&disk);
    assert_eq!((recovered.entries.len(), recovered.promised), (500, super::ballot(9)));
    assert!(recovered.faulty.is_empty() && !recovered.unknown_damage);
    assert!((1..=500).all(|slot| indexes(&mut log, slot) == [1]));
}

#[test]
fn big_values_get_segments_of_their_own() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[accept(1, (1, 1), &[0, 1, 2], 16 << 20), accept(2, (1, 1), &[0], 10)]).unwrap();
    log.sync().unwrap();
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(indexes(&mut log, 1), [0, 1, 2]);
    let long = accept(3, (1, 1), &[0, 1, 2, 3, 4], 30 << 20);
    assert!(matches!(log.append(&[promise(2), long]), Err(LogError::RecordTooLong { .. })));
    log.append(&[accept(3, (1, 1), &[0], 10)]).unwrap();
    assert_eq!(indexes(&mut log, 3), [0]);
}

#[test]
fn restarts_alone_take_no_space() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[promise(4), accept(1, (4, 4), &[0], 10)]).unwrap();
    log.sync().unwrap();
    for boot in 2..50 {
        let (log, recovered) = open(&disk);
        assert_eq!((recovered.boot, recovered.promised), (boot, super::ballot(4)));
        assert_eq!(log.usage().segments, 2);
    }
    assert!(disk.memory_bytes() < 64 << 10, "{}", disk.memory_bytes());
}

#[test]
fn memory_keeps_values_until_the_restart() {
    let options =
        LogOptions { durability: Durability::Memory, memory_bytes_max: 1000, ..options() };
    let disk = SimDisk::new();
    let (mut log, recovered) = Log::open(disk.clone(), options.clone(), 5).unwrap();
    assert_eq!((recovered.boot, recovered.incarnation), (1, 5));
    log.append(&[accept(1, (1, 1), &[0], 100), accept(1, (1, 1), &[3], 100)]).unwrap();
    log.sync().unwrap();
    assert_eq!(indexes(&mut log, 1), [0, 3]);
    assert_eq!(log.usage().payload_bytes, 200);
    let full = log.append(&[accept(2, (1, 1), &[0], 801)]);
    assert!(matches!(full, Err(LogError::MemoryFull { bytes: 1001, max: 1000 })));
    let (mut log, recovered) = Log::open(disk.clone(), options, 6).unwrap();
    assert_eq!((recovered.incarnation, recovered.entries.len()), (6, 0));
    assert_eq!(log.read(Slot(1)).unwrap(), None);
    assert_eq!(disk.stats().bytes_written, 0);
}

#[test]
fn the_storage_table_takes_sizes_only() {
    let options: LogOptions = toml::from_str("segment_bytes = 131072").unwrap();
    assert_eq!(options.segment_bytes, 131_072);
    assert!(toml::from_str::<LogOptions>("segment_byte = 1").is_err());
    assert!(toml::from_str::<LogOptions>("cluster = 1").is_err());
    assert!(LogOptions { segment_bytes: 1, ..options }.problem().is_some());
}
