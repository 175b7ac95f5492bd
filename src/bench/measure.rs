//! What a phase measured: histograms per kind of operation, errors, and a time series.
//!
//! Latencies are nanoseconds in HdrHistograms of three significant digits that grow past 60 s by
//! themselves. Failed operations have histograms of their own. Throughput counts the operations
//! that *completed* well inside the window; latency those that *began* inside it, so that neither
//! warm-up nor the drain at the end colours the other.

use super::report::{ErrorCount, LatencySummary, MetricReport, encode_histogram};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What a latency is of. Parts are beside their whole, never instead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
#[expect(missing_docs, reason = "named as YCSB names them, parts after their whole")]
pub enum Metric {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
    UpdateRead,
    UpdatePut,
    ReadModifyWriteRead,
    ReadModifyWritePut,
}

impl Metric {
    /// All of them, in the order they are printed.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Update,
        Self::Insert,
        Self::Scan,
        Self::ReadModifyWrite,
        Self::UpdateRead,
        Self::UpdatePut,
        Self::ReadModifyWriteRead,
        Self::ReadModifyWritePut,
    ];

    /// A part of another operation?
    #[must_use]
    pub fn is_part(self) -> bool {
        self > Self::ReadModifyWrite
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "READ",
            Self::Update => "UPDATE",
            Self::Insert => "INSERT",
            Self::Scan => "SCAN",
            Self::ReadModifyWrite => "READ-MODIFY-WRITE",
            Self::UpdateRead => "UPDATE-READ",
            Self::UpdatePut => "UPDATE-PUT",
            Self::ReadModifyWriteRead => "READ-MODIFY-WRITE-READ",
            Self::ReadModifyWritePut => "READ-MODIFY-WRITE-PUT",
        })
    }
}

/// One interval of a phase's time series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesPoint {
    /// Start, from the start of the window.
    pub start_seconds: f64,
    /// Operations completed well.
    pub operations: u64,
    /// Operations failed or timed out.
    pub errors: u64,
    /// Value bytes read and written.
    pub bytes: u64,
    /// Median latency; 0 without operations.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Highest.
    pub max_us: f64,
    /// The same by kind of operation; kinds without any are left out.
    #[serde(default)]
    pub kinds: Vec<KindPoint>,
}

/// One kind of operation in one interval of a phase's time series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindPoint {
    /// The kind.
    pub metric: Metric,
    /// Operations completed well.
    pub operations: u64,
    /// Operations failed or timed out.
    pub errors: u64,
    /// Median latency, from when it was due; 0 without operations.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// Highest.
    pub max_us: f64,
    /// All of it, to two digits: base64 of HdrHistogram V2, in nanoseconds.
    pub histogram: Option<String>,
}

impl KindPoint {
    pub(super) fn of(metric: Metric, latency: Option<&Histogram<u64>>, errors: u64) -> Self {
        let at = |quantile| latency.map_or(0.0, |all| micros(all.value_at_quantile(quantile)));
        Self {
            metric,
            operations: latency.map_or(0, Histogram::len),
            errors,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: latency.map_or(0.0, |all| micros(all.max())),
            histogram: latency.map(encode_histogram),
        }
    }
}

impl SeriesPoint {
    pub(super) fn of(
        start_seconds: f64,
        kinds: Vec<KindPoint>,
        latency: Option<&Histogram<u64>>,
        bytes: u64,
    ) -> Self {
        let at = |quantile| latency.map_or(0.0, |all| micros(all.value_at_quantile(quantile)));
        Self {
            start_seconds,
            operations: kinds.iter().map(|kind| kind.operations).sum(),
            errors: kinds.iter().map(|kind| kind.errors).sum(),
            bytes,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: latency.map_or(0.0, |all| micros(all.max())),
            kinds,
        }
    }
}

/// How one operation or part of one ended.
pub(super) struct Sample<'a> {
    pub metric: Metric,
    pub due: Instant,
    pub invoked: Instant,
    pub completed: Instant,
    pub bytes: u64,
    pub error: Option<&'a Cow<'static, str>>,
}

#[derive(Default)]
struct Histograms {
    good: Option<Histogram<u64>>,
    intended: Option<Histogram<u64>>,
    failed: Option<Histogram<u64>>,
}

/// Collects a phase's measurements.
pub(super) struct Recorder {
    from: Instant,
    /// The window's end; None when it ends with the last operation.
    until: Option<Instant>,
    has_rate: bool,
    metrics: [Histograms; 9],
    errors: BTreeMap<(Metric, Cow<'static, str>), u64>,
    lag: Histogram<u64>,
    pub operations: u64,
    pub failures: u64,
    pub not_started: u64,
    pub bytes: u64,
    series: Vec<SeriesPoint>,
    interval: Duration,
    current: Current,
}

/// The point of the series that is under way.
#[derive(Default)]
struct Current {
    start_seconds: f64,
    /// Where the next point begins; None where that is beyond all time.
    until: Option<Instant>,
    bytes: u64,
    /// By kind: latencies of the good ones, and failures.
    kinds: [(Option<Histogram<u64>>, u64); 5],
}

impl Recorder {
    /// For a window from `from` to `until`, with a point of the series per `interval`.
    pub fn new(from: Instant, until: Option<Instant>, interval: Duration, has_rate: bool) -> Self {
        Self {
            from,
            until,
            has_rate,
            metrics: std::array::from_fn(|_| Histograms::default()),
            errors: BTreeMap::new(),
            lag: histogram(3),
            operations: 0,
            failures: 0,
            not_started: 0,
            bytes: 0,
            series: Vec::new(),
            interval,
            current: Current { until: from.checked_add(interval), ..Current::default() },
        }
    }

    /// How late the generator itself started an operation.
    pub fn lag(&mut self, lag: Duration) {
        self.lags(lag, 1);
    }

    /// How late it was with `count` of them.
    pub fn lags(&mut self, lag: Duration, count: u64) {
        self.lag.saturating_record_n(nanos(lag), count);
    }

    /// Operations that were due and had waited so long when the window ended, never sent.
    pub fn not_started(&mut self, metric: Metric, waited: Duration, count: u64) {
        if count > 0 {
            let intended = &mut self.metrics[metric as usize].intended;
            let intended = intended.get_or_insert_with(|| histogram(3));
            intended.saturating_record_n(nanos(waited), count);
            self.not_started += count;
        }
    }

    /// An operation (not a part) ended.
    pub fn operation(&mut self, sample: &Sample<'_>) {
        let is_in_window = sample.completed >= self.from
            && self.until.is_none_or(|until| sample.completed < until);
        let intended = nanos(sample.completed.saturating_duration_since(sample.due));
        if is_in_window {
            self.roll(sample.completed);
            // Wholes come before parts, which are not given here.
            let (good, failed) = &mut self.current.kinds[sample.metric as usize];
            if sample.error.is_some() {
                self.failures += 1;
                *failed += 1;
            } else {
                self.operations += 1;
                self.bytes += sample.bytes;
                self.current.bytes += sample.bytes;
                good.get_or_insert_with(|| histogram(2)).saturating_record(intended);
            }
        }
        self.latency(sample);
        if self.has_rate && sample.error.is_none() && sample.invoked >= self.from {
            let histograms = &mut self.metrics[sample.metric as usize];
            let all = histograms.intended.get_or_insert_with(|| histogram(3));
            all.saturating_record(intended);
        }
    }

    /// An operation or a part of one ended.
    pub fn latency(&mut self, sample: &Sample<'_>) {
        if sample.invoked < self.from {
            return;
        }
        let latency = nanos(sample.completed.saturating_duration_since(sample.invoked));
        let histograms = &mut self.metrics[sample.metric as usize];
        let new = || histogram(3);
        if let Some(kind) = sample.error {
            histograms.failed.get_or_insert_with(new).saturating_record(latency);
            *self.errors.entry((sample.metric, kind.clone())).or_default() += 1;
            return;
        }
        histograms.good.get_or_insert_with(new).saturating_record(latency);
    }

    /// Ends the series at the window's end and gives it out.
    pub fn take_series(&mut self, wall: Duration) -> Vec<SeriesPoint> {
        self.roll(self.from + wall.saturating_sub(Duration::from_nanos(1)));
        self.finish_point();
        std::mem::take(&mut self.series)
    }

    /// How late operations were started, whole.
    pub fn lag_histogram(&self) -> String {
        encode_histogram(&self.lag)
    }

    /// Operations that were started later than that.
    pub fn late_count(&self, than: Duration) -> u64 {
        self.lag.count_between(nanos(than).saturating_add(1), u64::MAX)
    }

    pub fn lag_summary(&self) -> LatencySummary {
        LatencySummary::of(&self.lag)
    }

    /// From sending, of all whole operations that ended well.
    pub fn service_latency(&self) -> LatencySummary {
        let mut all = histogram(3);
        for (metric, histograms) in Metric::ALL.iter().zip(&self.metrics) {
            if let Some(good) = histograms.good.as_ref().filter(|_| !metric.is_part()) {
                let added = all.add(good);
                assert!(added.is_ok(), "a histogram that grows takes every other: {added:?}");
            }
        }
        LatencySummary::of(&all)
    }

    pub fn metric_reports(&self) -> Vec<MetricReport> {
        let used = Metric::ALL.iter().zip(&self.metrics).filter(|(_, histograms)| {
            let Histograms { good, intended, failed } = histograms;
            good.is_some() || intended.is_some() || failed.is_some()
        });
        let report = |(metric, histograms): (&Metric, &Histograms)| {
            let summary = |histogram: &Option<_>| histogram.as_ref().map(LatencySummary::of);
            let encoded = |histogram: &Option<_>| histogram.as_ref().map(encode_histogram);
            MetricReport {
                metric: *metric,
                latency: summary(&histograms.good),
                histogram: encoded(&histograms.good),
                intended_latency: summary(&histograms.intended),
                intended_histogram: encoded(&histograms.intended),
                failed_latency: summary(&histograms.failed),
                failed_histogram: encoded(&histograms.failed),
            }
        };
        used.map(report).collect()
    }

    pub fn error_counts(&self) -> Vec<ErrorCount> {
        let count = |((metric, kind), count): (&(Metric, Cow<'static, str>), &u64)| ErrorCount {
            metric: *metric,
            kind: kind.clone().into_owned(),
            count: *count,
        };
        self.errors.iter().map(count).collect()
    }

    /// Closes points of the series until the current one covers `at`.
    fn roll(&mut self, at: Instant) {
        while self.current.until.is_some_and(|until| at >= until)
            && self.series.len() < SERIES_POINTS_MAX
        {
            self.finish_point();
        }
    }

    fn finish_point(&mut self) {
        let points = self.series.len() + 1;
        let start_seconds = points as f64 * self.interval.as_secs_f64();
        let until = self.current.until.and_then(|until| until.checked_add(self.interval));
        let next = Current { start_seconds, until, ..Current::default() };
        let done = std::mem::replace(&mut self.current, next);
        let mut all: Option<Histogram<u64>> = None;
        let mut kinds = Vec::new();
        for (metric, (latency, errors)) in Metric::ALL.iter().zip(done.kinds) {
            if latency.is_some() || errors > 0 {
                kinds.push(KindPoint::of(*metric, latency.as_ref(), errors));
            }
            all = match (all, latency) {
                (Some(mut all), Some(latency)) => {
                    let added = all.add(&latency);
                    assert!(added.is_ok(), "a histogram that grows takes every other: {added:?}");
                    Some(all)
                }
                (all, latency) => all.or(latency),
            };
        }
        self.series.push(SeriesPoint::of(done.start_seconds, kinds, all.as_ref(), done.bytes));
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, digits)
        .expect("1 to 60e9 with at most 5 digits are valid bounds");
    histogram.auto(true);
    histogram
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds of `nanos` nanoseconds.
pub(super) fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// A day of seconds; what comes later is added to the last point.
const SERIES_POINTS_MAX: usize = 86_400;
