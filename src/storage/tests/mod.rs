//! Tests of the log. Helpers here; laws in the files.

mod crash;
mod damage;
#[cfg(feature = "edge")]
mod files;
mod reclaim;
mod values;

use super::{Log, LogOptions, Recovered, SimDisk};
use crate::types::{
    Ballot, Bytes, Code, Digest, Epoch, NodeId, Record, Shard, Slot, ValueId, ValueMeta,
};

pub(super) fn options() -> LogOptions {
    LogOptions {
        cluster: 7,
        node: NodeId(2),
        segment_bytes: 64 << 10,
        scan_bytes: 8 << 10,
        ..LogOptions::default()
    }
}

pub(super) fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovered) {
    let (log, recovered) = Log::open(disk.clone(), options(), 99).unwrap();
    log.check_invariants();
    (log, recovered)
}

pub(super) fn ballot(round: u64) -> Ballot {
    Ballot { round, node: 1 }
}

/// Bytes that tell slot, origin and index apart.
pub(super) fn shard_bytes(slot: u64, origin: u64, index: u8, bytes: usize) -> Bytes {
    let mut rng = crate::rng::Rng::new(slot << 32 | origin << 8 | u64::from(index));
    let mut contents = vec![0; bytes];
    rng.fill(&mut contents);
    Bytes::from(contents)
}

pub(super) fn meta(slot: u64, origin: u64, bytes: usize) -> ValueMeta {
    ValueMeta {
        id: ValueId { origin: ballot(origin), slot: Slot(slot) },
        epoch: Epoch(1),
        code: Code::new(3, 2).unwrap(),
        payload_bytes: u32::try_from(3 * bytes).unwrap(),
        digest: Digest(u128::from(slot) << 64 | u128::from(origin)),
        header: Bytes::from(format!("header of {slot}")),
    }
}

/// An accept of the value that `origin` proposed in `slot`, with shards of `bytes` each.
pub(super) fn accept(
    slot: u64,
    (round, origin): (u64, u64),
    indexes: &[u8],
    bytes: usize,
) -> Record {
    let shard = |&index: &u8| Shard::new(index, shard_bytes(slot, origin, index, bytes));
    Record::Accept {
        ballot: ballot(round),
        meta: meta(slot, origin, bytes),
        shards: indexes.iter().map(shard).collect(),
    }
}

pub(super) fn promise(round: u64) -> Record {
    Record::Promise { ballot: ballot(round) }
}

pub(super) fn indexes(log: &mut Log<SimDisk>, slot: u64) -> Vec<u8> {
    let value = log.read(Slot(slot)).unwrap();
    value.map_or(Vec::new(), |value| value.shards.iter().map(|shard| shard.index).collect())
}
