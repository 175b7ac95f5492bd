//! The log against a raw file: what records, checksums and the index cost beside the disk itself.
//!
//! The raw file is preallocated with zeroes and written with one pwrite and one fdatasync per batch:
//! the fastest durable way to the disk. Both write below `target/`, so that it is the real disk.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use distkv::storage::{FileDisk, Log, LogOptions};
use distkv::types::{Ballot, Code, Digest, Epoch, Record, Shard, Slot, ValueId, ValueMeta};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// The allocator of the real program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// (payload bytes of a record, records of a batch)
const BATCHES: [(usize, u64); 4] = [(1024, 1), (1024, 64), (1024, 256), (65_536, 16)];
const RAW_BYTES: usize = 64 << 20;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable")
}

/// A file of zeroes that is written round and round.
struct Raw {
    file: File,
    at: usize,
    _directory: tempfile::TempDir,
}

impl Raw {
    fn new() -> Self {
        let directory = directory();
        let path = directory.path().join("raw");
        let file = File::create_new(path).expect("the directory is new");
        for offset in (0..RAW_BYTES).step_by(1 << 20) {
            file.write_all_at(&[0; 1 << 20], offset as u64).expect("there is space");
        }
        file.sync_all().expect("the disk works");
        Self { file, at: 0, _directory: directory }
    }

    fn write(&mut self, batch: &[u8]) {
        if self.at + batch.len() > RAW_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(batch, self.at as u64).expect("the disk works");
        self.file.sync_data().expect("the disk works");
        self.at += batch.len();
    }
}

/// A log and the next slot.
struct Appender {
    log: Log<FileDisk>,
    slot: u64,
    payload: Bytes,
    _directory: tempfile::TempDir,
}

impl Appender {
    fn new(payload_bytes: usize, zero_ahead_bytes: u64) -> Self {
        let directory = directory();
        let disk = FileDisk::open(directory.path()).expect("the directory is ours");
        let disk = disk.with_zero_ahead(zero_ahead_bytes);
        let (log, _) = Log::open(disk, LogOptions::default(), 1).expect("the directory is empty");
        Self { log, slot: 0, payload: Bytes::from(vec![7; payload_bytes]), _directory: directory }
    }

    /// Appends and syncs `count` values.
    fn write(&mut self, count: u64) {
        let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        let ballot = Ballot { round: 1, node: 0 };
        for _ in 0..count {
            self.slot += 1;
            let meta = ValueMeta {
                id: ValueId { origin: ballot, slot: Slot(self.slot) },
                epoch: Epoch(1),
                code: Code::new(3, 2).expect("a code"),
                payload_bytes: 3 * 1024,
                digest: Digest(u128::from(self.slot)),
                header: Bytes::from_static(b"put key-000000000001 of session 12"),
            };
            // The digest is computed by whoever codes the value, once: it is part of the work here.
            let shards = vec![Shard::new(0, self.payload.clone())];
            records.push(Record::Accept { ballot, meta, shards });
        }
        self.log.append(&records).expect("the disk works");
        self.log.sync().expect("the disk works");
    }
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storage");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for (bytes, count) in BATCHES {
        let batch_bytes = bytes * usize::try_from(count).unwrap_or(0);
        group.throughput(Throughput::Bytes(batch_bytes as u64));
        let parameter = format!("{bytes} B x {count} a sync");
        group.bench_function(BenchmarkId::new("raw file", &parameter), |bencher| {
            let mut raw = Raw::new();
            let batch = vec![7; batch_bytes];
            bencher.iter(|| raw.write(&batch));
        });
        for (name, zero_ahead_bytes) in [("log", 4 << 20), ("log without zeroes", 0)] {
            group.bench_function(BenchmarkId::new(name, &parameter), |bencher| {
                let mut appender = Appender::new(bytes, zero_ahead_bytes);
                bencher.iter(|| appender.write(count));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
