//! Real processes that overwrite, stay away, and rot: space is bounded, snapshots bring nodes back,
//! the scrub records lost shards anew.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    missing_docs
)]

use distkv::client::{Client, ClientDriver};
use distkv::config::{ClusterConfig, Policy};
use distkv::kv::{NodeStatus, Op, Outcome};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::replica::client_machine::ClientOutcome;
use distkv::types::{Bytes, Code, NodeId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_distkv");
const SEGMENT_BYTES: u64 = 1 << 20;
/// Of lost shards: so slow that its progress can be watched.
const REPAIR_BYTES_PER_SECOND: u64 = 600_000;

fn start(dir: &Path, (policy, k, nodes): (Policy, u8, u8), kept_slots: u64) -> LocalCluster {
    let members = loopback_members(nodes, None).unwrap();
    let code = Code::new(k, nodes - k).unwrap();
    let mut config = ClusterConfig::new(0xD158, policy, code, members).unwrap();
    config.limits.garbage_bytes = 1 << 20;
    config.limits.kept_slots = kept_slots;
    config.limits.cache_bytes = 0;
    config.limits.scrub_bytes_per_second = 16 << 20;
    config.limits.repair_bytes_per_second = REPAIR_BYTES_PER_SECOND;
    let mut storage = toml::Table::new();
    storage.insert("segment_bytes".to_owned(), toml::Value::Integer(SEGMENT_BYTES as i64));
    config.tables.insert("storage".to_owned(), toml::Value::Table(storage));
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    cluster
}

/// The value of a key after its `round`-th write.
fn value_of(key: usize, round: usize, bytes: usize) -> Bytes {
    let length = bytes / 2 + (key * 31 + round * 17) % bytes;
    (0..length).map(|at| (at * 7 + key * 13 + round * 101) as u8).collect::<Vec<_>>().into()
}

/// Writes every key once; all acknowledged.
fn write_round(driver: &mut ClientDriver, keys: usize, round: usize, bytes: usize) {
    let (mut next, mut open) = (0, 0);
    let mut free: Vec<usize> = (0..16).collect();
    while next < keys || open > 0 {
        while next < keys
            && let Some(session) = free.pop()
        {
            let value = value_of(next, round, bytes);
            let op = Op::Put { key: format!("key-{next}").into(), value };
            driver.submit(session, op).unwrap();
            next += 1;
            open += 1;
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        driver
            .wait(deadline, |completion| {
                open -= 1;
                free.push(completion.session_index);
                let outcome = completion.outcome;
                let is_written = matches!(outcome, ClientOutcome::Done(Outcome::Written { .. }));
                assert!(is_written, "{outcome:?}");
            })
            .unwrap();
    }
}

fn check_round(config: &Arc<ClusterConfig>, keys: Range<usize>, round: usize, bytes: usize) {
    let mut client = Client::new(config, Duration::from_secs(20)).unwrap();
    for key in keys {
        let (_, value) = client.get(format!("key-{key}").as_bytes()).unwrap().unwrap();
        assert!(value == value_of(key, round, bytes), "key-{key} has another value");
    }
}

/// Waits until `is_so` of the status of `node`.
fn wait_for(
    config: &Arc<ClusterConfig>,
    node: NodeId,
    what: &str,
    is_so: impl Fn(&NodeStatus) -> bool,
) -> NodeStatus {
    let mut client = Client::new(config, Duration::from_secs(2)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let statuses: BTreeMap<NodeId, _> = client.statuses().unwrap().into_iter().collect();
        if let Some(Some(status)) = statuses.get(&node)
            && is_so(status)
        {
            return status.clone();
        }
        assert!(Instant::now() < deadline, "{node}: {what}: {statuses:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let segments = files.filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"));
    segments.filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
}

#[test]
fn overwriting_the_same_keys_takes_bounded_space_and_restarts_keep_it() {
    overwrite((Policy::Replicate, 1, 3));
}

#[test]
fn overwriting_coded_values_takes_bounded_space_and_restarts_keep_it() {
    overwrite((Policy::Craft, 3, 5));
}

fn overwrite(kind: (Policy, u8, u8)) {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), kind, 100);
    let config = Arc::clone(cluster.cluster());
    let mut driver = ClientDriver::new(&config, 16, Duration::from_secs(20)).unwrap();
    // A shard has 2 to 6 kB, whatever the code.
    let k = usize::from(kind.1);
    let (keys, bytes, rounds) = (100, 4000 * k, 120);
    let mut most = 0;
    for round in 0..rounds {
        write_round(&mut driver, keys, round, bytes);
        for node in cluster.nodes() {
            most = most.max(segment_bytes(&cluster.data_dir(node)));
        }
    }
    let live = (keys * bytes / k) as u64 * 3 / 2;
    let written = rounds as u64 * live;
    // Garbage until a snapshot (1 MiB), what is kept (100 slots), twice what lives, open segments.
    let bound = (1 << 20) + 100 * 6000 + 2 * live + 6 * SEGMENT_BYTES;
    assert!(written > 4 * bound, "{written} bytes written say nothing about a bound of {bound}");
    assert!(most < bound, "{most} bytes on a disk, bound {bound}");
    for node in cluster.nodes() {
        cluster.kill(node).unwrap();
    }
    for node in cluster.nodes() {
        cluster.start_node(node).unwrap();
    }
    check_round(&config, 0..keys, rounds - 1, bytes);
    write_round(&mut driver, keys, rounds, bytes);
    check_round(&config, 0..keys, rounds, bytes);
}

#[test]
fn a_node_long_gone_catches_up_by_a_snapshot_and_its_shards_are_recorded_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), (Policy::Craft, 3, 5), 10);
    let config = Arc::clone(cluster.cluster());
    let mut driver = ClientDriver::new(&config, 16, Duration::from_secs(20)).unwrap();
    let (keys, bytes) = (150, 6000);
    write_round(&mut driver, keys, 0, bytes);
    let leader = cluster.wait_for_leader(Duration::from_secs(5)).unwrap();
    let away = NodeId((leader.0 + 1) % 5);
    cluster.kill(away).unwrap();
    let gone_at = wait_for(&config, leader, "applied", |status| status.applied.0 > 0).applied;
    // Some are written once and then live on below every later snapshot.
    let cold = 30;
    write_round(&mut driver, keys + cold, 1, bytes);
    for round in 2..40 {
        write_round(&mut driver, keys, round, bytes);
    }
    wait_for(&config, leader, "reclaims what the node away has not seen", |status| {
        status.storage.floor > gone_at
    });
    cluster.start_node(away).unwrap();
    let started = Instant::now();
    let seen = RefCell::new(Vec::new());
    let back = wait_for(&config, away, "takes a snapshot in and repairs", |status| {
        seen.borrow_mut().extend(status.storage.repairing);
        status.storage.restored_count > 0
            && status.storage.restoring.is_none()
            && status.storage.repairing.is_none()
            && status.applied.0 > gone_at.0 + 1000
    });
    assert!(back.storage.repaired_count >= cold as u64, "{back:?}");
    // The operator sees how far it is, and it keeps to its rate: a first tenth of a second is free.
    let seen = seen.into_inner();
    assert!(seen.iter().max() > seen.iter().min(), "{seen:?}");
    assert!(seen.iter().all(|(_, of)| *of == (keys + cold) as u64), "{seen:?}");
    let repaired_bytes = back.storage.repaired_count * (bytes as u64 / 2);
    let least = Duration::from_secs_f64(repaired_bytes as f64 / REPAIR_BYTES_PER_SECOND as f64);
    assert!(started.elapsed() + Duration::from_millis(200) >= least, "faster than its rate");
    // Three are left: every value needs the shard of the one that was away.
    let others = cluster.nodes().into_iter().filter(|node| *node != away).take(2);
    for node in others.collect::<Vec<_>>() {
        cluster.kill(node).unwrap();
    }
    check_round(&config, 0..keys, 39, bytes);
    check_round(&config, keys..keys + cold, 1, bytes);
}

#[test]
fn rot_at_rest_is_found_by_the_scrub_and_healed_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), (Policy::Craft, 3, 5), 4096);
    let config = Arc::clone(cluster.cluster());
    let mut driver = ClientDriver::new(&config, 16, Duration::from_secs(20)).unwrap();
    let (keys, bytes) = (60, 30_000);
    write_round(&mut driver, keys, 0, bytes);
    let leader = cluster.wait_for_leader(Duration::from_secs(5)).unwrap();
    let rotten = NodeId((leader.0 + 1) % 5);
    cluster.kill(rotten).unwrap();
    // Every 3001st byte of its first segment, from behind the opening.
    let segments: Vec<_> = std::fs::read_dir(cluster.data_dir(rotten))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    let first = segments.iter().min().unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(first).unwrap();
    let end = 300_000.min(file.metadata().unwrap().len());
    for at in (20_000..end).step_by(3001) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }
    drop(file);
    cluster.start_node(rotten).unwrap();
    let healed = wait_for(&config, rotten, "finds and heals", |status| {
        status.storage.repaired_count >= 10 && status.storage.scrub_passes >= 2
    });
    assert!(healed.storage.scrubbed_count >= keys as u64, "{healed:?}");
    // Not the leader: where a record has lost its start, what the rotten node promises counts for no
    // slot that may have been in it (rule 13), and three of five could elect nobody.
    let leader = cluster.wait_for_leader(Duration::from_secs(5)).unwrap();
    let others = cluster.nodes().into_iter().filter(|node| ![rotten, leader].contains(node));
    for node in others.take(2) {
        cluster.kill(node).unwrap();
    }
    check_round(&config, 0..keys, 0, bytes);
}
