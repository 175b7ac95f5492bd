//! Single parts against a reference, where clusters meet a rule too rarely.

use distkv::kv::{Applied, Bounds, Command, Operation, State};
use distkv::rng::Rng;
use distkv::storage::{Log, LogOptions, SimDisk};
use distkv::types::{Ballot, Bytes, Code, Digest, Epoch, NodeId, Record, Slot, ValueId, ValueMeta};
use std::collections::BTreeMap;

/// Requests of one session in any order and any number of times: each is applied once.
pub fn results(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut state = State::new();
    let mut first: BTreeMap<u64, Applied> = BTreeMap::new();
    apply(&mut state, 1, 0, Operation::OpenSession(Bounds { sessions: 4, session_window: 32 }));
    for slot in 2..60 {
        let sequence = rng.range(1, 12);
        let put = Operation::Put { key: Bytes::from_static(b"key") };
        let applied = apply(&mut state, slot, sequence, put);
        let expected = *first.entry(sequence).or_insert(Applied::Written { version: slot });
        if applied != expected {
            let what = format!("exactly once: {sequence} gave {applied:?}, not {expected:?}");
            return Err(what);
        }
    }
    Ok(())
}

fn apply(state: &mut State, slot: u64, sequence: u64, operation: Operation) -> Applied {
    let session = u64::from(sequence > 0);
    let command = Command { session, sequence, answered_below: 0, operation };
    let value = meta(slot, command.encode());
    state.apply(&value).unwrap().unwrap().applied
}

fn meta(slot: u64, header: Bytes) -> ValueMeta {
    ValueMeta {
        id: ValueId { origin: Ballot { round: 1, node: 0 }, slot: Slot(slot) },
        epoch: Epoch(0),
        code: Code::new(1, 2).unwrap(),
        payload_bytes: 0,
        digest: Digest::of(&Bytes::new()),
        header,
    }
}

/// What a start has recovered, and may have answered from, survives the next loss of power.
pub fn tail(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut disk = SimDisk::new();
    let options = || LogOptions {
        cluster: 7,
        node: NodeId(2),
        segment_bytes: 64 << 10,
        ..LogOptions::default()
    };
    let (mut log, _) = Log::open(disk.clone(), options(), 99).unwrap();
    let last = rng.range(2, 20);
    for slot in 1..=last {
        let ballot = Ballot { round: 1, node: 1 };
        let record = Record::Accept {
            ballot,
            meta: meta(slot, Bytes::from_static(b"put")),
            shards: Vec::new(),
        };
        log.append(&[record]).unwrap();
        if rng.chance(0.3) {
            log.sync().unwrap();
        }
    }
    // Written and not synced: as in the middle of a sync.
    log.read(Slot(last)).unwrap();
    drop(log);
    disk.crash(&mut rng);
    let (log, told) = Log::open(disk.clone(), options(), 99).unwrap();
    drop(log);
    disk.power_cut(&mut rng);
    let (_, left) = Log::open(disk, options(), 99).unwrap();
    if left.entries.len() < told.entries.len() {
        let (told, left) = (told.entries.len(), left.entries.len());
        return Err(format!("durability: {told} slots were recovered, then {left}"));
    }
    Ok(())
}
