//! Phases against stores in memory, good and bad ones.

use super::super::measure::Metric;
use super::super::properties::Properties;
use super::super::target::{MemoryTarget, TargetError};
use super::super::{BenchReport, decode_histogram};
use super::*;
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

fn workload(text: &str) -> Workload {
    let properties = Properties::parse("w", text).unwrap();
    Workload::from_properties(&properties).unwrap().0
}

fn config(clients: usize, operations: u64) -> PhaseConfig {
    PhaseConfig { clients, operations: Some(operations), ..PhaseConfig::default() }
}

fn run(
    target: &mut dyn Target,
    workload: &Workload,
    phase: Phase,
    config: &PhaseConfig,
) -> PhaseReport {
    run_phase(target, workload, phase, config, None, &mut |_| {}).unwrap()
}

fn count(report: &PhaseReport, metric: Metric) -> u64 {
    let found = report.metrics.iter().find(|found| found.metric == metric);
    found.and_then(|found| found.latency.as_ref()).map_or(0, |latency| latency.count)
}

/// Holds answers back `delay`, and answers as `script` says. Its time is its own: it passes in waits,
/// and where a script moves it.
struct Scripted<F> {
    clock: Rc<Cell<Instant>>,
    inner: MemoryTarget,
    delay: Duration,
    pending: Vec<(Instant, usize, TargetOp)>,
    script: F,
}

impl<F: FnMut(&TargetOp) -> Option<TargetOutcome>> Target for Scripted<F> {
    fn submit(&mut self, client: usize, op: TargetOp) {
        assert!(self.pending.iter().all(|(_, other, _)| *other != client), "one outstanding");
        self.pending.push((self.now() + self.delay, client, op));
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        let ready = self.pending.iter().map(|(at, ..)| *at).min().unwrap_or(deadline);
        self.clock.set(self.now().max(ready.min(deadline)));
        let now = self.now();
        let (due, rest) = self.pending.drain(..).partition(|(at, ..)| *at <= now);
        self.pending = rest;
        for (completed_at, client, op) in due {
            match (self.script)(&op) {
                Some(outcome) => {
                    completions.push(TargetCompletion {
                        client,
                        outcome,
                        served_at: None,
                        completed_at,
                    });
                }
                None => {
                    self.inner.submit(client, op);
                    self.inner.wait(completions, now)?;
                    if let Some(last) = completions.last_mut() {
                        last.completed_at = self.clock.get();
                    }
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.clock.get()
    }

    fn has_virtual_time(&self) -> bool {
        true
    }
}

fn scripted<F: FnMut(&TargetOp) -> Option<TargetOutcome>>(
    delay_ms: u64,
    inner: MemoryTarget,
    script: F,
) -> Scripted<F> {
    let clock = Rc::new(Cell::new(Instant::now()));
    Scripted { clock, inner, delay: Duration::from_millis(delay_ms), pending: Vec::new(), script }
}

#[test]
fn every_core_workload_runs_without_errors() {
    for name in ["a", "b", "c", "d", "e", "f"] {
        let file = format!("{}/workloads/workload{name}", env!("CARGO_MANIFEST_DIR"));
        let (workload, _) = Workload::load(std::path::Path::new(&file), &[]).unwrap();
        let mut target = MemoryTarget::new();
        let load = run(&mut target, &workload, Phase::Load, &config(16, 1));
        assert_eq!((load.operations, target.key_count()), (1000, 1000));
        let report = run(&mut target, &workload, Phase::Run, &config(16, 5000));
        assert_eq!((report.operations, report.failures), (5000, 0), "{:?}", report.errors);
        let wholes = Metric::ALL.iter().filter(|metric| !metric.is_part());
        assert_eq!(wholes.map(|metric| count(&report, *metric)).sum::<u64>(), 5000);
        let inserted = count(&report, Metric::Insert);
        assert_eq!(target.key_count() as u64, 1000 + inserted);
        assert_eq!(report.series.iter().map(|point| point.operations).sum::<u64>(), 5000);
    }
}

#[test]
fn updates_and_read_modify_writes_have_their_parts() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=.5\n\
                readmodifywriteproportion=.5";
    let mut target = MemoryTarget::new();
    run(&mut target, &workload(text), Phase::Load, &config(1, 1));
    let report = run(&mut target, &workload(text), Phase::Run, &config(4, 1000));
    let (updates, rmws) = (count(&report, Metric::Update), count(&report, Metric::ReadModifyWrite));
    assert_eq!((updates + rmws, report.operations), (1000, 1000));
    assert_eq!(count(&report, Metric::UpdateRead), updates);
    assert_eq!(count(&report, Metric::UpdatePut), updates);
    assert_eq!(count(&report, Metric::ReadModifyWriteRead), rmws);
    assert_eq!(count(&report, Metric::ReadModifyWritePut), rmws);
}

#[test]
fn blind_updates_do_not_read() {
    let base = "recordcount=10\nreadproportion=0\nupdateproportion=1\n";
    for extra in ["distkv.update=put", "writeallfields=true"] {
        let workload = workload(&format!("{base}{extra}"));
        let mut target = scripted(0, MemoryTarget::new(), |op| match op {
            TargetOp::Put { .. } => None,
            TargetOp::Read { .. } | TargetOp::Scan { .. } | TargetOp::Delete { .. } => {
                panic!("a blind update reads nothing")
            }
        });
        let report = run(&mut target, &workload, Phase::Run, &config(4, 100));
        assert_eq!((report.operations, count(&report, Metric::UpdateRead)), (100, 0));
    }
}

#[test]
fn failures_are_never_throughput_nor_latency() {
    let workload = workload("recordcount=100\nreadproportion=1\nupdateproportion=0");
    let mut target = MemoryTarget::new();
    run(&mut target, &workload, Phase::Load, &config(1, 1));
    let mut number = 0;
    let mut target = scripted(0, target, |_| {
        number += 1;
        match number % 4 {
            0 => Some(TargetOutcome::Timeout),
            1 => {
                let kind = Cow::Borrowed("unavailable");
                Some(TargetOutcome::Error { kind, is_ambiguous: false })
            }
            2 => Some(TargetOutcome::Value { value: None, version: None }),
            _ => None,
        }
    });
    let report = run(&mut target, &workload, Phase::Run, &config(3, 400));
    assert_eq!((report.operations, report.failures), (100, 300));
    assert_eq!(count(&report, Metric::Read), 100);
    let errors: Vec<_> = report.errors.iter().map(|e| (e.kind.as_str(), e.count)).collect();
    assert_eq!(errors, [("not-found", 100), ("timeout", 100), ("unavailable", 100)]);
    assert_eq!(report.metrics[0].failed_latency.as_ref().unwrap().count, 300);
}

#[test]
fn damaged_records_are_found() {
    let text = "recordcount=10\nreadproportion=1\nupdateproportion=0\ndataintegrity=true";
    let mut target = scripted(0, MemoryTarget::new(), |op| match op {
        TargetOp::Read { .. } => Some(TargetOutcome::Value {
            value: Some(Bytes::from_static(b"what is this")),
            version: None,
        }),
        TargetOp::Put { .. } | TargetOp::Scan { .. } | TargetOp::Delete { .. } => None,
    });
    let report = run(&mut target, &workload(text), Phase::Run, &config(1, 10));
    assert_eq!((report.errors[0].kind.as_str(), report.errors[0].count), ("integrity", 10));
}

#[test]
fn a_closed_loop_keeps_all_sessions_busy_and_a_window_ends_on_time() {
    let workload = workload(
        "recordcount=10\nreadproportion=0\nupdateproportion=1\n\
                             distkv.update=put",
    );
    let mut target = scripted(10, MemoryTarget::new(), |_| None);
    let config = PhaseConfig {
        clients: 8,
        warmup: Duration::from_millis(50),
        duration: Some(Duration::from_millis(200)),
        series_interval: Duration::from_millis(50),
        ..PhaseConfig::default()
    };
    let report = run(&mut target, &workload, Phase::Run, &config);
    assert_eq!((report.wall_seconds, report.warmup_seconds), (0.2, 0.05));
    // 8 sessions of 10 ms or a little more each.
    assert!((60..=168).contains(&report.operations), "{}", report.operations);
    assert_eq!(report.series.len(), 4);
    assert_eq!(report.series.iter().map(|p| p.operations).sum::<u64>(), report.operations);
}

#[test]
fn a_rate_keeps_its_schedule_and_counts_latency_from_when_it_was_due() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    for arrivals in ["fixed", "poisson"] {
        let workload = workload(&format!("{text}\ndistkv.arrivals={arrivals}"));
        // One session of 10 ms cannot keep up with 500 a second: the queue shows in `intended`.
        let mut target = scripted(10, MemoryTarget::new(), |_| None);
        let slow = PhaseConfig { offered: Some(OfferedLoad::Constant(500.0)), ..config(1, 20) };
        let report = run(&mut target, &workload, Phase::Run, &slow);
        let metric = &report.metrics[0];
        let (op, due) = (metric.latency.clone(), metric.intended_latency.clone());
        assert!(due.unwrap().max_us > 5.0 * op.unwrap().p50_us, "{report}");
        // 20 ones can, and take as long as the schedule does.
        let mut target = scripted(0, MemoryTarget::new(), |_| None);
        let fast = PhaseConfig { offered: Some(OfferedLoad::Constant(1000.0)), ..config(20, 200) };
        let report = run(&mut target, &workload, Phase::Run, &fast);
        assert!((0.14..0.6).contains(&report.wall_seconds), "{}", report.wall_seconds);
        assert_eq!(report.target_rate, Some(1000.0));
    }
}

#[test]
fn what_an_overloaded_store_never_took_in_is_counted_and_in_the_latency() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    let mut medians = Vec::new();
    // One session of 10 ms does 100 a second, whatever is offered.
    for (rate, warmup_ms) in [(200.0, 0), (400.0, 0), (1000.0, 0), (200.0, 100)] {
        let mut target = scripted(10, MemoryTarget::new(), |_| None);
        let config = PhaseConfig {
            offered: Some(OfferedLoad::Constant(rate)),
            warmup: Duration::from_millis(warmup_ms),
            duration: Some(Duration::from_secs(1)),
            ..PhaseConfig::default()
        };
        let report = run(&mut target, &workload(text), Phase::Run, &config);
        let started = count(&report, Metric::Update);
        let warmed_up = if warmup_ms > 0 { 10..=10 } else { 0..=0 };
        let due = (rate + rate * warmup_ms as f64 / 1e3).round() as u64;
        let before = due - started - report.not_started;
        assert!(warmed_up.contains(&before), "{rate} per second: {before} are nowhere\n{report}");
        let intended = report.metrics[0].intended_latency.as_ref().unwrap();
        assert_eq!(intended.count, started + report.not_started);
        assert!(report.invalid.is_empty(), "the store is slow: {:?}", report.invalid);
        assert!(report.to_string().contains("NOT STARTED"), "{report}");
        if warmup_ms == 0 {
            medians.push(intended.p50_us);
        }
    }
    assert!(medians.is_sorted() && medians[2] > 1.2 * medians[0], "{medians:?}");
    // One that keeps up leaves nothing, and a window that ends by count has no end to wait for.
    for (operations, duration) in [(None, Some(1)), (Some(20), None), (Some(20), Some(9))] {
        let delay = if operations.is_some() { 10 } else { 1 };
        let mut target = scripted(delay, MemoryTarget::new(), |_| None);
        let duration = duration.map(Duration::from_secs);
        let offered = Some(OfferedLoad::Constant(200.0));
        let config = PhaseConfig { offered, operations, duration, ..PhaseConfig::default() };
        let report = run(&mut target, &workload(text), Phase::Run, &config);
        assert_eq!(report.not_started, 0, "{report}");
    }
}

#[test]
fn a_stall_of_the_generator_at_the_end_is_no_overload_of_the_store() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    let began = Instant::now();
    let clock = Rc::new(Cell::new(began));
    let script = |_: &TargetOp| {
        if clock.get().duration_since(began) > Duration::from_millis(700) {
            clock.set(clock.get().max(began + Duration::from_millis(1100)));
        }
        None
    };
    let mut target =
        Scripted { clock: Rc::clone(&clock), ..scripted(0, MemoryTarget::new(), script) };
    let offered = Some(OfferedLoad::Constant(1000.0));
    let duration = Some(Duration::from_secs(1));
    let config = PhaseConfig { clients: 4, offered, duration, ..PhaseConfig::default() };
    let report = run(&mut target, &workload(text), Phase::Run, &config);
    assert_eq!(count(&report, Metric::Update) + report.not_started, 1000);
    assert!(report.invalid.iter().any(|reason| reason.contains("late")), "{:?}", report.invalid);
}

#[test]
fn a_stall_of_the_generator_is_said_counted_and_followed_by_no_burst() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    let began = Instant::now();
    let clock = Rc::new(Cell::new(began));
    let mut stalled = false;
    let mut submitted = Vec::new();
    let script = |_: &TargetOp| {
        // The whole thread is held up, with all its sessions free but one.
        let now = clock.get();
        if !stalled && now.duration_since(began) > Duration::from_millis(200) {
            stalled = true;
            clock.set(now + Duration::from_millis(200));
        }
        submitted.push(clock.get());
        None
    };
    let mut target =
        Scripted { clock: Rc::clone(&clock), ..scripted(0, MemoryTarget::new(), script) };
    let load = Some(OfferedLoad::Constant(1000.0));
    let duration = Some(Duration::from_millis(1000));
    let config = PhaseConfig { clients: 64, offered: load, duration, ..PhaseConfig::default() };
    let report = run(&mut target, &workload(text), Phase::Run, &config);
    assert!(report.invalid.iter().any(|reason| reason.contains("late")), "{:?}", report.invalid);
    assert!((950..=1000).contains(&report.operations), "none is skipped: {}", report.operations);
    // Due times stand: of those that were due in the stall half are at least 50 ms late.
    let due = report.metrics[0].intended_latency.as_ref().unwrap();
    assert!(due.max_us > 150_000.0 && due.p90_us > 50_000.0, "{due:?}");
    assert!(report.metrics[0].latency.as_ref().unwrap().p50_us < 5000.0);
    // 200 were held up. Four times the rate is 80 in 20 ms.
    let span = Duration::from_millis(20);
    let near = |from: Instant, at: Instant| at >= from && at.duration_since(from) < span;
    let count = submitted
        .iter()
        .map(|from| submitted.iter().filter(|at| near(*from, **at)).count())
        .max()
        .unwrap();
    assert!(count <= 120, "{count} in 20 ms");
}

#[test]
fn a_warm_up_has_its_own_arrivals_and_a_ramp_begins_with_the_window() {
    let text = "recordcount=10\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    let mut target = scripted(0, MemoryTarget::new(), |_| None);
    let config = PhaseConfig {
        clients: 32,
        offered: Some(OfferedLoad::Ramp { from: 200.0, to: 2000.0 }),
        warmup: Duration::from_millis(200),
        duration: Some(Duration::from_millis(1000)),
        series_interval: Duration::from_millis(500),
        ..PhaseConfig::default()
    };
    let report = run(&mut target, &workload(text), Phase::Run, &config);
    assert!((1050..=1110).contains(&report.operations), "{}", report.operations);
    let counts: Vec<_> = report.series.iter().map(|point| point.operations).collect();
    assert!((270..=400).contains(&counts[0]) && counts[1] > 650, "{counts:?}");
}

#[test]
fn what_never_answers_is_lost_not_waited_for() {
    let workload = workload(
        "recordcount=10\nreadproportion=0\nupdateproportion=1\n\
                             distkv.update=put",
    );
    let mut target = scripted(60_000, MemoryTarget::new(), |_| None);
    let config = PhaseConfig { drain_limit: Duration::from_millis(20), ..config(2, 2) };
    let report = run(&mut target, &workload, Phase::Run, &config);
    assert_eq!((report.operations, report.errors[0].count), (0, 2));
    assert_eq!(report.errors[0].kind, "lost");
}

#[test]
fn a_run_without_an_end_is_refused() {
    let config = PhaseConfig::default();
    let workload = workload("recordcount=1");
    let mut target = MemoryTarget::new();
    let ended = run_phase(&mut target, &workload, Phase::Run, &config, None, &mut |_| {});
    assert!(matches!(ended, Err(BenchError::Endless)));
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn histories_have_every_operation_on_the_store() {
    let text = "recordcount=5\nreadproportion=.5\nupdateproportion=.5";
    let out = Shared::default();
    let mut history = History::to_writer("memory", Box::new(out.clone()));
    let mut target = MemoryTarget::new();
    for phase in [Phase::Load, Phase::Run] {
        let config = config(2, 100);
        let workload = workload(text);
        run_phase(&mut target, &workload, phase, &config, Some(&mut history), &mut |_| {}).unwrap();
    }
    let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let puts: Vec<_> = lines.iter().filter(|line| line["op"] == "put").collect();
    let digests: std::collections::BTreeSet<_> =
        puts.iter().map(|line| line["value_digest"].as_str().unwrap()).collect();
    assert_eq!(digests.len(), puts.len(), "no two writes are alike");
    assert!(lines.len() > 105, "updates are a get and a put");
    for line in &lines {
        assert_eq!(line["outcome"], "ok");
        assert!(line["invoke_ns"].as_u64() <= line["return_ns"].as_u64());
        assert!(
            line["version"].is_u64() && digests.contains(line["value_digest"].as_str().unwrap())
        );
    }
}

#[test]
fn reports_survive_json_and_keep_whole_histograms() {
    let workload = workload("recordcount=10");
    let mut target = MemoryTarget::new();
    run(&mut target, &workload, Phase::Load, &config(1, 1));
    let phase = run(&mut target, &workload, Phase::Run, &config(1, 500));
    let histogram = decode_histogram(phase.metrics[0].histogram.as_ref().unwrap()).unwrap();
    assert_eq!(histogram.len(), count(&phase, Metric::Read));
    assert!(decode_histogram("not one").is_err());
    let mut hlog = Vec::new();
    phase.write_hlog(&mut hlog).unwrap();
    assert!(String::from_utf8(hlog).unwrap().contains("Tag=READ,"));
    let report = BenchReport {
        schema_version: BenchReport::SCHEMA_VERSION,
        seed: 1,
        request_distribution: workload.request_distribution,
        update: workload.update,
        clients: 1,
        merged_seeds: Vec::new(),
        warmup: None,
        is_dry_run: true,
        target: "memory".to_owned(),
        read_mode: crate::types::ReadMode::default(),
        workload,
        phases: vec![phase],
    };
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<BenchReport>(&text).unwrap().phases.len(), 1);
    assert!(report.to_string().contains("READ"));
}

#[test]
fn the_same_seed_gives_the_same_operations() {
    let text = "recordcount=50\nreadproportion=0\nupdateproportion=1\ndistkv.update=put";
    let operations = |seed| {
        let mut seen = Vec::new();
        let mut target = scripted(0, MemoryTarget::new(), |op| {
            seen.push(op.clone());
            None
        });
        let config = PhaseConfig { seed, ..config(1, 100) };
        run(&mut target, &workload(text), Phase::Run, &config);
        seen
    };
    assert_eq!(operations(1), operations(1));
    assert_ne!(operations(1), operations(2));
}
