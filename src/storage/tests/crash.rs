//! Crashes and power cuts at random points against a naive model.

use super::super::{Durability, Log, LogError, LogOptions, OpenError, Recovered, SimDisk};
use super::{accept, open, options, promise};
use crate::rng::Rng;
use crate::types::{Ballot, Record, ShardSet, Slot};
use std::collections::BTreeMap;

/// What a log means, kept as a list.
#[derive(Clone, Debug, Default)]
struct Model {
    records: Vec<Record>,
    /// So many of them are synced.
    synced: usize,
}

type Meaning = (Ballot, Slot, BTreeMap<Slot, (Ballot, Ballot, ShardSet)>);

impl Model {
    /// What the first `count` records mean.
    fn meaning(&self, count: usize) -> Meaning {
        let (mut promised, mut chosen, mut values) = Meaning::default();
        for record in &self.records[..count] {
            match record {
                Record::Promise { ballot } => promised = promised.max(*ballot),
                Record::Chosen { slot } => chosen = chosen.max(*slot),
                Record::Peer { .. } | Record::Floor { .. } | Record::Index { .. } => {}
                Record::Accept { ballot, meta, shards } => {
                    promised = promised.max(*ballot);
                    let origin = meta.id.origin;
                    let set: ShardSet = shards.iter().map(|shard| shard.index).collect();
                    let fresh = (*ballot, origin, set);
                    let value = values.entry(meta.slot()).or_insert(fresh);
                    if value.1 == origin {
                        *value = (value.0.max(*ballot), origin, value.2.union(set));
                    } else if *ballot >= value.0 {
                        *value = fresh;
                    }
                }
            }
        }
        (promised, chosen, values)
    }
}

fn meaning(recovered: &Recovered) -> Meaning {
    let value = |entry: &crate::storage::RecoveredEntry| {
        (entry.meta.slot(), (entry.ballot, entry.meta.id.origin, entry.shards))
    };
    let values = recovered.entries.iter().map(value).collect();
    (recovered.promised, recovered.chosen, values)
}

fn random_record(rng: &mut Rng, round: &mut u64) -> Record {
    let slot = rng.range(1, 40);
    match rng.below(12) {
        0 => {
            *round += 1;
            promise(*round)
        }
        1 => Record::Chosen { slot: Slot(rng.range(1, 5)) },
        2 => accept(slot, (*round, *round), &[], 10),
        3 => accept(slot, (*round, *round), &[0, 3], 20_000),
        choice => {
            let index = u8::try_from(choice % 5).unwrap();
            // One length per value: its shards are of one code.
            let bytes = if slot.is_multiple_of(2) { 100 } else { 700 };
            accept(slot, (*round, *round), &[index], bytes)
        }
    }
}

/// Every synced record is there, the rest in a prefix of the order of writing.
fn check(model: &mut Model, recovered: &Recovered, context: &str) {
    assert!(recovered.faulty.is_empty() && !recovered.unknown_damage, "{context}: {recovered:?}");
    let found = meaning(recovered);
    let kept = (model.synced..=model.records.len()).find(|count| model.meaning(*count) == found);
    let kept = kept.unwrap_or_else(|| {
        panic!("{context}: recovered neither what was synced nor more: {found:?}")
    });
    model.records.truncate(kept);
    model.synced = kept;
}

fn check_reads(log: &mut Log<SimDisk>, model: &Model, context: &str) {
    for (slot, (ballot, origin, shards)) in model.meaning(model.records.len()).2 {
        let value = log.read(slot).unwrap().expect(context);
        assert_eq!((value.ballot, value.meta.id.origin), (ballot, origin), "{context}: {slot}");
        let read: ShardSet = value.shards.iter().map(|shard| shard.index).collect();
        assert_eq!((read, value.damaged), (shards, ShardSet::EMPTY), "{context}: {slot}");
        for shard in value.shards {
            let expected = super::shard_bytes(slot.0, origin.round, shard.index, shard.bytes.len());
            assert_eq!(shard.bytes, expected, "{context}: {slot}");
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut disk = SimDisk::new();
    let mut model = Model::default();
    let mut round = 1;
    let options = LogOptions {
        write_buffer_bytes: usize::try_from(rng.range(1, 20_000)).unwrap(),
        ..options()
    };
    let (mut lives, mut boot) = (0, 0);
    while lives < 6 {
        let context = format!("seed {seed}, life {lives}");
        if rng.below(2) == 0 {
            disk.fail_after(rng.range(0, 60));
        }
        match Log::open(disk.clone(), options.clone(), seed) {
            Ok((mut log, recovered)) => {
                log.check_invariants();
                assert!(recovered.boot > boot, "{context}: boot {} after {boot}", recovered.boot);
                boot = recovered.boot;
                check(&mut model, &recovered, &context);
                disk_life(&mut log, &mut model, &mut rng, &mut round, &context);
            }
            Err(OpenError::Log(LogError::Disk(_)) | OpenError::Disk(_)) => {}
            Err(error) => panic!("{context}: {error}"),
        }
        lives += 1;
        if rng.below(3) == 0 {
            disk.crash(&mut rng);
        } else {
            disk.power_cut(&mut rng);
        }
    }
    let (mut log, recovered) = Log::open(disk.clone(), options, seed).unwrap();
    check(&mut model, &recovered, &format!("seed {seed}, at the end"));
    check_reads(&mut log, &model, &format!("seed {seed}, at the end"));
}

fn disk_life(
    log: &mut Log<SimDisk>,
    model: &mut Model,
    rng: &mut Rng,
    round: &mut u64,
    context: &str,
) {
    for _ in 0..rng.below(60) {
        let records: Vec<Record> =
            (0..rng.range(1, 6)).map(|_| random_record(rng, round)).collect();
        model.records.extend(records.iter().cloned());
        if log.append(&records).is_err() {
            assert_eq!(log.sync(), Err(LogError::Poisoned), "{context}");
            return;
        }
        log.check_invariants();
        match rng.below(4) {
            0 | 1 => {
                if log.sync().is_err() {
                    assert_eq!(log.append(&records), Err(LogError::Poisoned), "{context}");
                    return;
                }
                model.synced = model.records.len();
            }
            2 if log.read(Slot(rng.range(1, 40))).is_err() => return,
            _ => {}
        }
    }
}

#[test]
fn what_was_synced_survives_every_crash_and_nothing_else_appears() {
    for seed in 0..400 {
        run(seed);
    }
}

#[test]
fn os_survives_a_process_crash_and_says_so_after_a_power_cut() {
    let mut disk = SimDisk::new();
    let options = LogOptions { durability: Durability::Os, ..options() };
    let (mut log, _) = Log::open(disk.clone(), options.clone(), 1).unwrap();
    let syncs = disk.stats().syncs;
    log.append(&[promise(3), accept(1, (3, 3), &[0], 10)]).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.stats().syncs, syncs);
    disk.crash(&mut Rng::new(1));
    let (_, recovered) = Log::open(disk.clone(), options.clone(), 1).unwrap();
    assert_eq!((recovered.promised, recovered.entries.len()), (super::ballot(3), 1));
    disk.power_cut(&mut Rng::new(1));
    let lost = Log::open(disk.clone(), options.clone(), 1).map(drop);
    assert_eq!(lost, Err(OpenError::UnsyncedLost));
    let lost = Log::open(disk, super::options(), 1).map(drop);
    assert_eq!(lost, Err(OpenError::UnsyncedLost));
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let mut disk = SimDisk::new();
    disk.set_free_bytes(Some(300 << 10));
    let (mut log, _) = open(&disk);
    let mut synced = 0;
    let error = loop {
        let appended = log.append(&[accept(synced + 1, (1, 1), &[0], 5000)]);
        match appended.and_then(|()| log.sync()) {
            Ok(()) => synced += 1,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(log.sync(), Err(LogError::Poisoned));
    assert_eq!(log.read(Slot(1)).map(drop), Err(LogError::Poisoned));
    assert!(synced > 20, "{synced}");
    disk.set_free_bytes(Some(1 << 20));
    let (_, recovered) = open(&disk);
    assert!(recovered.entries.len() as u64 >= synced);
}

#[test]
fn the_unsynced_tail_is_synced_anew_before_open_returns() {
    let mut disk = SimDisk::new();
    let (mut log, _) = open(&disk);
    log.append(&[promise(8), accept(1, (8, 8), &[0], 10)]).unwrap();
    log.read(Slot(1)).unwrap();
    drop(log);
    disk.crash(&mut Rng::new(3));
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.promised, super::ballot(8));
    for seed in 0..20 {
        disk.power_cut(&mut Rng::new(seed));
        assert_eq!(open(&disk).1.promised, super::ballot(8), "seed {seed}");
    }
}
