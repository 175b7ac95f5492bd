//! Two results against the one that a single generator would have had.

use super::*;
use crate::bench::measure::{Metric, Recorder, Sample};
use crate::bench::{Phase, Properties, Workload};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// (metric, seconds in, latency in µs, failed)
type Op = (Metric, f64, u64, bool);

fn ops() -> Vec<Op> {
    let mut rng = crate::rng::Rng::new(3);
    let mut all: Vec<Op> = (0..5000)
        .map(|index| {
            let metric = if rng.chance(0.3) { Metric::Update } else { Metric::Read };
            (metric, f64::from(index) / 1000.0, 100 + rng.below(100_000), rng.chance(0.02))
        })
        .collect();
    // As they end, which is how a generator sees them.
    let end_micros = |op: &Op| (op.1 * 1e6) as u64 + op.2;
    all.sort_by_key(end_micros);
    all
}

fn report(ops: &[Op], clients: usize) -> BenchReport {
    let from = Instant::now();
    let window = Duration::from_secs(6);
    let mut recorder = Recorder::new(from, Some(from + window), Duration::from_secs(1), true);
    for (metric, at, micros, failed) in ops {
        let invoked = from + Duration::from_secs_f64(*at);
        let kind = Cow::Borrowed("timeout");
        recorder.lag(Duration::from_micros(micros / 1000));
        recorder.operation(&Sample {
            metric: *metric,
            due: invoked.checked_sub(Duration::from_micros(50)).unwrap(),
            invoked,
            completed: invoked + Duration::from_micros(*micros),
            bytes: 7,
            error: failed.then_some(&kind),
        });
    }
    let properties = Properties::parse("w", "recordcount=10").unwrap();
    let (workload, _) = Workload::from_properties(&properties).unwrap();
    let operations = recorder.operations;
    BenchReport {
        schema_version: BenchReport::SCHEMA_VERSION,
        seed: clients as u64,
        merged_seeds: Vec::new(),
        request_distribution: workload.request_distribution,
        update: workload.update,
        clients,
        is_dry_run: false,
        target: "distkv".to_owned(),
        read_mode: crate::types::ReadMode::default(),
        warmup: None,
        workload,
        phases: vec![PhaseReport {
            phase: Phase::Run,
            window_start_unix: 1000.0,
            wall_seconds: 6.0,
            warmup_seconds: 0.0,
            operations,
            failures: recorder.failures,
            not_started: recorder.not_started,
            throughput: operations as f64 / 6.0,
            bytes_per_second: recorder.bytes as f64 / 6.0,
            target_rate: Some(clients as f64 * 100.0),
            offered: Some(OfferedLoad::Constant(clients as f64 * 100.0)),
            invalid: Vec::new(),
            metrics: recorder.metric_reports(),
            errors: recorder.error_counts(),
            lag: recorder.lag_summary(),
            lag_histogram: Some(recorder.lag_histogram()),
            thread_cpu_seconds: None,
            thread_wait_seconds: None,
            process_cpu_seconds: None,
            cpu_us_per_operation: None,
            series_interval_seconds: 1.0,
            series: recorder.take_series(window),
        }],
    }
}

#[test]
fn two_generators_merge_to_what_one_would_have_measured() {
    let all = ops();
    let (odd, even): (Vec<_>, Vec<_>) =
        all.iter().enumerate().partition(|(index, _)| index % 2 == 1);
    let strip = |part: Vec<(usize, &Op)>| part.into_iter().map(|(_, op)| *op).collect::<Vec<_>>();
    let parts = [report(&strip(odd), 1), report(&strip(even), 2)];
    let merged = BenchReport::merge(&parts).unwrap();
    assert_eq!(merged.merged_seeds, [1, 2]);
    let mut one = report(&all, 3);
    // Histograms of different sizes hold the same; their sums do to the last count.
    one.seed = 1;
    one.merged_seeds = vec![1, 2];
    let values = |report: &BenchReport| {
        let mut phase = report.phases[0].clone();
        for metric in &mut phase.metrics {
            for text in [
                &mut metric.histogram,
                &mut metric.intended_histogram,
                &mut metric.failed_histogram,
            ] {
                *text = text.take().map(|text| contents(&text));
            }
        }
        for kind in phase.series.iter_mut().flat_map(|point| &mut point.kinds) {
            kind.histogram = kind.histogram.take().map(|text| contents(&text));
        }
        phase.lag_histogram = phase.lag_histogram.map(|text| contents(&text));
        phase
    };
    let (found, expected) = (values(&merged), values(&one));
    assert!((found.bytes_per_second - expected.bytes_per_second).abs() < 1e-6);
    assert_eq!(found.metrics.len(), 2);
    assert_eq!(found.series.len(), 6);
    for (found, expected) in found.metrics.iter().zip(&expected.metrics) {
        let counts = |of: &MetricReport| {
            (of.histogram.clone(), of.intended_histogram.clone(), of.failed_histogram.clone())
        };
        assert_eq!(counts(found), counts(expected));
        let quantiles =
            |of: &MetricReport| of.latency.as_ref().map(|of| (of.count, of.p50_us, of.p999_us));
        assert_eq!(quantiles(found), quantiles(expected));
    }
    assert!(found.series == expected.series, "series differ");
    assert_eq!((found.errors, found.lag), (expected.errors, expected.lag));
    assert_eq!((found.operations, found.failures), (expected.operations, expected.failures));
    assert_eq!((found.target_rate, found.offered), (expected.target_rate, expected.offered));
    assert_eq!(found.throughput.to_bits(), expected.throughput.to_bits());
}

/// Values and their counts.
fn contents(text: &str) -> String {
    let histogram = decode_histogram(text).unwrap();
    let values = histogram.iter_recorded();
    values.map(|v| format!("{}:{} ", v.value_iterated_to(), v.count_at_value())).collect()
}

#[test]
fn windows_that_began_later_are_shifted() {
    let all = ops();
    let mut parts = [report(&all, 1), report(&all, 2)];
    parts[1].phases[0].window_start_unix += 2.1;
    let merged = BenchReport::merge(&parts).unwrap().phases.remove(0);
    assert_eq!(merged.series.len(), 8);
    let count = |part: &BenchReport, at: usize| part.phases[0].series[at].operations;
    assert_eq!(merged.series[0].operations, count(&parts[0], 0));
    assert_eq!(merged.series[2].operations, count(&parts[0], 2) + count(&parts[1], 0));
    assert!((merged.wall_seconds - 8.1).abs() < 1e-9);
}

#[test]
fn results_of_different_runs_are_refused() {
    let all = ops();
    let mut parts = [report(&all, 1), report(&all, 2)];
    parts[1].target = "redis://h:1".to_owned();
    let error = BenchReport::merge(&parts).unwrap_err().to_string();
    assert!(error.contains("result 2") && error.contains("target"), "{error}");
    assert!(matches!(BenchReport::merge(&[]), Err(MergeError::Nothing)));
}
