//! The same log over real files.

use super::super::{Disk as _, DiskError, FileDisk, Log, LogOptions, OpenError};
use super::{accept, options, promise};
use crate::types::{Bytes, Slot};

fn open(directory: &std::path::Path) -> Result<(Log<FileDisk>, super::Recovered), OpenError> {
    Log::open(FileDisk::open(directory)?, options(), 42)
}

#[test]
fn files_keep_what_was_synced() {
    let directory = tempfile::tempdir().unwrap();
    let mut slot = 0;
    for boot in 1..=4 {
        let (mut log, recovered) = open(directory.path()).unwrap();
        assert_eq!((recovered.boot, recovered.entries.len() as u64), (boot, slot));
        assert!(recovered.faulty.is_empty() && !recovered.unknown_damage);
        for _ in 0..40 {
            slot += 1;
            let bytes = if slot % 7 == 0 { 70_000 } else { 900 };
            log.append(&[accept(slot, (boot, boot), &[0, 4], bytes)]).unwrap();
            if slot % 3 == 0 {
                log.sync().unwrap();
            }
        }
        log.append(&[promise(boot)]).unwrap();
        log.sync().unwrap();
        for slot in 1..=slot {
            let value = log.read(Slot(slot)).unwrap().unwrap();
            assert_eq!((value.shards.len(), value.damaged.count()), (2, 0));
        }
        assert!(log.free_bytes().unwrap().unwrap() > 0);
        log.check_invariants();
    }
}

#[test]
fn small_scans_rewrite_a_long_tail_unharmed() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions { scan_bytes: 4096, ..options() };
    let disk = FileDisk::open(directory.path()).unwrap();
    let (mut log, _) = Log::open(disk, options.clone(), 1).unwrap();
    for slot in 1..=30 {
        log.append(&[accept(slot, (1, 1), &[0], 1000)]).unwrap();
        log.read(Slot(slot)).unwrap();
    }
    drop(log);
    let disk = FileDisk::open(directory.path()).unwrap();
    let (mut log, recovered) = Log::open(disk, options, 1).unwrap();
    assert_eq!(recovered.entries.len(), 30);
    assert!((1..=30).all(|slot| log.read(Slot(slot)).unwrap().unwrap().shards.len() == 1));
}

#[test]
fn a_directory_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let second = open(directory.path()).map(drop).unwrap_err();
    assert!(matches!(second, OpenError::Disk(DiskError::Locked { .. })), "{second}");
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(first);
    assert_eq!(open(directory.path()).unwrap().1.boot, 2);
}

#[test]
fn a_disk_does_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = FileDisk::open(directory.path()).unwrap();
    disk.create("a", 10_000).unwrap();
    assert!(matches!(disk.create("a", 1), Err(DiskError::Exists { .. })));
    let parts: Vec<Bytes> = (0..3000_u32).map(|i| Bytes::from(vec![i as u8; 3])).collect();
    disk.write_at("a", 100, &parts).unwrap();
    disk.sync("a").unwrap();
    let read = disk.read_at("a", 100, 9000).unwrap();
    assert_eq!(read, parts.concat());
    assert!(disk.read_at("a", 9100, 5000).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(disk.read_at("a", 9100, 5000).unwrap().len(), 900);
    disk.truncate("a", 101).unwrap();
    disk.replace("b", b"old").unwrap();
    disk.replace("b", b"new").unwrap();
    assert_eq!(&disk.read_at("b", 0, 10).unwrap()[..], b"new");
    let lengths: Vec<u64> = disk.list().unwrap().iter().map(|info| info.bytes).collect();
    assert_eq!(lengths, [101, 3, 0]);
    disk.delete("a").unwrap();
    disk.delete("a").unwrap();
    assert!(matches!(disk.read_at("a", 0, 1), Err(DiskError::Missing { .. })));
    assert!(disk.create("c", 1 << 60).is_err());
    assert!(disk.list().unwrap().iter().all(|info| info.name != "c"));
}
