//! The result of a bench: numbers, whole histograms, and what they were measured with.
//!
//! Histograms are HdrHistogram V2 in base64, so percentiles can be derived and trials merged later.

use super::choices::{RequestDistribution, UpdateMode};
use super::interval_log::{IntervalLogError, LogUnit, write_interval_log};
use super::measure::{Metric, SeriesPoint, micros};
use super::offered::OfferedLoad;
use super::plan::Phase;
use super::warmup::WarmupReport;
use super::workload::Workload;
use crate::types::ReadMode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;
use std::time::Duration;
use thiserror::Error;

/// A whole bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Version of this format.
    pub schema_version: u32,
    /// The seed of all randomness.
    pub seed: u64,
    /// The workload as understood, defaults filled in.
    pub workload: Workload,
    /// `zipfian` is YCSB's scrambled one, `zipfian-true` a true one.
    pub request_distribution: RequestDistribution,
    /// What an update was.
    pub update: UpdateMode,
    /// Sessions, each with one operation outstanding.
    pub clients: usize,
    /// Against the in-memory target, not a store?
    pub is_dry_run: bool,
    /// What was measured: `distkv`, or the address of another store.
    #[serde(default = "BenchReport::default_target")]
    pub target: String,
    /// What the reads promised.
    #[serde(default)]
    pub read_mode: ReadMode,
    /// Seeds of the generators that this result is merged of; empty when it is of one.
    #[serde(default)]
    pub merged_seeds: Vec<u64>,
    /// How the warm-up went, when it was until steady.
    #[serde(default)]
    pub warmup: Option<WarmupReport>,
    /// Load, run, or both.
    pub phases: Vec<PhaseReport>,
}

impl BenchReport {
    /// Version of the format written by this code.
    pub const SCHEMA_VERSION: u32 = 1;

    fn default_target() -> String {
        "distkv".to_owned()
    }
}

impl PhaseReport {
    /// One in which nothing happened.
    #[cfg(test)]
    pub(crate) fn empty(phase: Phase) -> Self {
        Self {
            phase,
            window_start_unix: 0.0,
            wall_seconds: 0.0,
            warmup_seconds: 0.0,
            operations: 0,
            failures: 0,
            not_started: 0,
            throughput: 0.0,
            bytes_per_second: 0.0,
            target_rate: None,
            offered: None,
            invalid: Vec::new(),
            metrics: Vec::new(),
            errors: Vec::new(),
            lag: LatencySummary::default(),
            lag_histogram: None,
            thread_cpu_seconds: None,
            thread_wait_seconds: None,
            process_cpu_seconds: None,
            cpu_us_per_operation: None,
            series_interval_seconds: 1.0,
            series: Vec::new(),
        }
    }

    /// The phase's good latencies as an HdrHistogram interval log (`.hlog`): one line per kind,
    /// tagged with it, over the whole window, in nanoseconds.
    ///
    /// # Errors
    /// [`IntervalLogError`] when a histogram of the report is none, or `out` cannot be written.
    pub fn write_hlog<W: Write>(&self, out: &mut W) -> Result<(), IntervalLogError> {
        let mut histograms = Vec::new();
        for metric in &self.metrics {
            let Some(text) = &metric.histogram else { continue };
            histograms.push((metric.metric.to_string(), decode_histogram(text)?));
        }
        let wall = Duration::from_secs_f64(self.wall_seconds);
        write_interval_log(out, wall, LogUnit::Nanoseconds, histograms)
    }
}

/// One phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Which.
    pub phase: Phase,
    /// When the window began, in seconds since 1970.
    #[serde(default)]
    pub window_start_unix: f64,
    /// Length of the window, warm-up excluded.
    pub wall_seconds: f64,
    /// Discarded before the window.
    pub warmup_seconds: f64,
    /// Operations that completed well in the window.
    pub operations: u64,
    /// Operations that failed or timed out in the window; never throughput.
    pub failures: u64,
    /// Operations that were due in an open loop and had found no session when the window ended. The
    /// latencies from due time have them with that wait, which is the least they would have taken.
    #[serde(default)]
    pub not_started: u64,
    /// Operations per second.
    pub throughput: f64,
    /// Value bytes read and written per second.
    pub bytes_per_second: f64,
    /// Mean of the offered rate; None for as fast as they complete.
    pub target_rate: Option<f64>,
    /// The offered load; None for as fast as they complete.
    #[serde(default)]
    pub offered: Option<OfferedLoad>,
    /// Why the run says more about the generator than about the store; empty when it does not.
    #[serde(default)]
    pub invalid: Vec<String>,
    /// Per kind of operation, parts after wholes.
    pub metrics: Vec<MetricReport>,
    /// Errors by kind of operation and of error.
    pub errors: Vec<ErrorCount>,
    /// How late the generator itself started operations.
    pub lag: LatencySummary,
    /// The same, whole.
    #[serde(default)]
    pub lag_histogram: Option<String>,
    /// CPU of the generator's thread, its client driver included; None when not known.
    pub thread_cpu_seconds: Option<f64>,
    /// That thread ready to run and without a core; None when not known.
    #[serde(default)]
    pub thread_wait_seconds: Option<f64>,
    /// CPU of the generator's process; None when not known.
    pub process_cpu_seconds: Option<f64>,
    /// CPU of the thread per completed operation.
    pub cpu_us_per_operation: Option<f64>,
    /// Length of a point of the series.
    pub series_interval_seconds: f64,
    /// Over time.
    pub series: Vec<SeriesPoint>,
}

/// Latencies of one kind of operation. Histograms are base64 of HdrHistogram V2, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricReport {
    /// The kind.
    pub metric: Metric,
    /// Of the good ones, from sending.
    pub latency: Option<LatencySummary>,
    /// The same, whole.
    pub histogram: Option<String>,
    /// Of the good ones, from when they were due, and of those not started, to the window's end;
    /// only with a target rate.
    pub intended_latency: Option<LatencySummary>,
    /// The same, whole.
    pub intended_histogram: Option<String>,
    /// Of failed ones and timeouts.
    pub failed_latency: Option<LatencySummary>,
    /// The same, whole.
    pub failed_histogram: Option<String>,
}

/// How often one kind of error happened to one kind of operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCount {
    /// The kind of operation.
    pub metric: Metric,
    /// The kind of error.
    pub kind: String,
    /// How often.
    pub count: u64,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the usual statistics by their usual names")]
pub struct LatencySummary {
    pub count: u64,
    pub mean_us: f64,
    pub min_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl LatencySummary {
    /// Of a histogram in nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean_us: histogram.mean() / 1e3,
            min_us: micros(histogram.min()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(histogram.max()),
        }
    }
}

/// A histogram text that is none.
#[derive(Debug, Error)]
#[error("not a histogram: {0}; expected HdrHistogram V2 in base64")]
pub struct HistogramError(String);

/// Reads a histogram as a report holds it.
///
/// # Errors
/// [`HistogramError`] when the text is not base64 of HdrHistogram V2.
pub fn decode_histogram(text: &str) -> Result<Histogram<u64>, HistogramError> {
    let bytes = STANDARD.decode(text).map_err(|error| HistogramError(error.to_string()))?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| HistogramError(format!("{error:?}")))
}

pub(super) fn encode_histogram(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    let written = V2Serializer::new().serialize(histogram, &mut bytes);
    assert!(written.is_ok(), "a histogram of u64 serialises into memory: {written:?}");
    STANDARD.encode(bytes)
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: workload {} ({} keys, update={}), seed {}, {} clients{}",
            self.target,
            self.workload.file,
            self.request_distribution,
            self.update,
            self.seed,
            self.clients,
            if self.is_dry_run { ", DRY RUN in memory" } else { "" }
        )?;
        if let Some(warmup) = &self.warmup {
            writeln!(f, "warm-up: {}", warmup.note)?;
        }
        self.phases.iter().try_for_each(|phase| write!(f, "{phase}"))
    }
}

impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{}: {} operations in {:.2} s = {:.0} ops/s, {:.2} MB/s; {} failed",
            self.phase,
            self.operations,
            self.wall_seconds,
            self.throughput,
            self.bytes_per_second / 1e6,
            self.failures
        )?;
        if let Some(load) = &self.offered {
            writeln!(f, "open loop: {load}; 'due' rows are from when operations were due")?;
        }
        if self.not_started > 0 {
            let left = self.not_started;
            writeln!(
                f,
                "NOT STARTED: {left} were due; 'due' rows have their wait, cut off at the end"
            )?;
        }
        for reason in &self.invalid {
            writeln!(f, "INVALID: {reason}")?;
        }
        if let (Some(cpu), Some(each)) = (self.thread_cpu_seconds, self.cpu_us_per_operation) {
            writeln!(
                f,
                "generator: {cpu:.2} s CPU, {each:.2} µs per operation; lag p99 {} µs",
                number(self.lag.p99_us)
            )?;
        }
        writeln!(
            f,
            "{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "µs", "count", "mean", "p50", "p95", "p99", "p99.9", "max"
        )?;
        for metric in &self.metrics {
            let name = metric.metric.to_string();
            row(f, &name, metric.latency.as_ref())?;
            row(f, &format!("{name} due"), metric.intended_latency.as_ref())?;
            row(f, &format!("{name} FAILED"), metric.failed_latency.as_ref())?;
        }
        for error in &self.errors {
            writeln!(f, "error {} {}: {}", error.metric, error.kind, error.count)?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, of: Option<&LatencySummary>) -> fmt::Result {
    let Some(of) = of else { return Ok(()) };
    write!(f, "{name:<24}{:>10}", of.count)?;
    for micros in [of.mean_us, of.p50_us, of.p95_us, of.p99_us, of.p999_us, of.max_us] {
        write!(f, "{:>10}", number(micros))?;
    }
    writeln!(f)
}

fn number(micros: f64) -> String {
    if micros < 100.0 { format!("{micros:.2}") } else { format!("{micros:.0}") }
}
