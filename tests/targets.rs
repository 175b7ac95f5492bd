//! The bench against real servers of other makes. Where one is not installed a test says so and passes;
//! with `DISTKV_REQUIRE_EXTERNAL=1`, which CI sets, it fails instead.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "whether a server must be there is CI's to say")]

use distkv::bench::{Phase, PhaseConfig, PhaseReport, Properties, Target, Workload, run_phase};
use distkv::experiment::stores::Running;
use distkv::experiment::{CancelFlag, ExternalStore, StoreKind};
use std::path::Path;
use std::time::Duration;

/// None, said aloud, when it cannot be started here and need not be.
fn started(kind: StoreKind, nodes: u8, dir: &Path) -> Option<Running> {
    let running = ExternalStore::start(kind, nodes, 0, dir).unwrap();
    if running.is_none() {
        let why = kind.missing().unwrap();
        // The gate runs this file twice: with the default features, then with etcd.
        let is_required = kind.is_built()
            && std::env::var("DISTKV_REQUIRE_EXTERNAL").is_ok_and(|value| value == "1");
        assert!(!is_required, "DISTKV_REQUIRE_EXTERNAL=1, but {why}");
        eprintln!("note: {why}");
    }
    running
}

fn workload(text: &str) -> Workload {
    let properties = Properties::parse("w", text).unwrap();
    Workload::from_properties(&properties).unwrap().0
}

fn run(target: &mut dyn Target, workload: &Workload, phase: Phase, count: u64) -> PhaseReport {
    let config = PhaseConfig { clients: 8, operations: Some(count), ..PhaseConfig::default() };
    run_phase(target, workload, phase, &config, None, &mut |_| {}).unwrap()
}

/// Reads, updates, inserts, scans and read-modify-writes; every value read is verified.
const MIXED: &str = "recordcount=200\nfieldcount=3\nfieldlength=50\ndataintegrity=true\n\
    readproportion=.3\nupdateproportion=.3\ninsertproportion=.1\nscanproportion=.1\n\
    readmodifywriteproportion=.2\nmaxscanlength=20\nrequestdistribution=zipfian";

fn a_mixed_load_runs_without_an_error(kind: StoreKind, nodes: u8) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut running) = started(kind, nodes, dir.path()) else { return };
    assert!(kind.version().is_some_and(|version| version.contains('.')));
    let pids = running.pids();
    let workload = workload(MIXED);
    let mut target = running.target(8, Duration::from_secs(10), true, None).unwrap();
    let load = run(target.as_mut(), &workload, Phase::Load, 0);
    assert_eq!((load.operations, load.failures), (200, 0), "{:?}", load.errors);
    let report = run(target.as_mut(), &workload, Phase::Run, 1000);
    assert_eq!((report.operations, report.failures), (1000, 0), "{:?}", report.errors);
    let scans = report.metrics.iter().find(|metric| metric.metric.to_string() == "SCAN").unwrap();
    assert!(scans.latency.as_ref().unwrap().count > 50);
    assert!(report.bytes_per_second > 0.0);
    running.check().unwrap();
    let resources = running.resources();
    assert_eq!(resources.len(), pids.len());
    for used in &resources {
        assert_eq!(used.role, "store");
        assert!(used.cpu_seconds > 0.0 && used.peak_rss_bytes > 1 << 20, "{used:?}");
        assert!(used.bytes_written > 30_000 && used.allocated_bytes > 30_000, "{used:?}");
    }
    drop(running);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is left behind");
    }
}

#[test]
fn redis_takes_a_mixed_load() {
    a_mixed_load_runs_without_an_error(StoreKind::Redis, 3);
}

#[test]
fn etcd_takes_a_mixed_load() {
    a_mixed_load_runs_without_an_error(StoreKind::Etcd, 3);
}

#[test]
fn values_that_were_written_by_others_fail_the_integrity_check() {
    let dir = tempfile::tempdir().unwrap();
    let Some(running) = started(StoreKind::Redis, 1, dir.path()) else { return };
    let mut target = running.target(8, Duration::from_secs(10), false, None).unwrap();
    let other = workload(&format!("{MIXED}\nscanproportion=0\nreadproportion=.4\nfieldlength=51"));
    assert_eq!(run(target.as_mut(), &other, Phase::Load, 0).failures, 0);
    let reads = workload(
        "recordcount=200\nfieldcount=3\nfieldlength=50\ndataintegrity=true\n\
         readproportion=1\nupdateproportion=0",
    );
    let report = run(target.as_mut(), &reads, Phase::Run, 100);
    assert_eq!((report.operations, report.failures), (0, 100));
    assert_eq!(report.errors[0].kind, "integrity");
}

#[test]
fn a_server_that_goes_away_is_errors_and_no_hang() {
    let dir = tempfile::tempdir().unwrap();
    let Some(running) = started(StoreKind::Redis, 1, dir.path()) else { return };
    let mut target = running.target(8, Duration::from_secs(5), false, None).unwrap();
    let puts = workload(
        "recordcount=100\nfieldcount=1\nreadproportion=0\nupdateproportion=1\ndistkv.update=put",
    );
    run(target.as_mut(), &puts, Phase::Load, 0);
    drop(running);
    let report = run(target.as_mut(), &puts, Phase::Run, 100);
    assert_eq!((report.operations, report.failures), (0, 100));
    let kinds: Vec<_> = report.errors.iter().map(|error| error.kind.as_str()).collect();
    assert!(kinds.iter().all(|kind| ["connection-lost", "no-connection"].contains(kind)));
}

#[test]
fn a_cancelled_phase_breaks_off() {
    let dir = tempfile::tempdir().unwrap();
    let Some(running) = started(StoreKind::Redis, 1, dir.path()) else { return };
    let cancel = CancelFlag::default();
    let mut target =
        running.target(1, Duration::from_secs(5), false, Some(cancel.clone())).unwrap();
    cancel.cancel();
    let config = PhaseConfig { operations: Some(10), ..PhaseConfig::default() };
    let workload = workload("recordcount=10");
    let ended = run_phase(target.as_mut(), &workload, Phase::Load, &config, None, &mut |_| {});
    assert!(ended.unwrap_err().to_string().contains("stopped on request"));
}
