//! One result of several generators that ran in step, without loss: histograms added, series aligned
//! by time, errors summed. Percentiles are derived from the sums, never averaged.

use super::measure::{KindPoint, SeriesPoint};
use super::offered::OfferedLoad;
use super::report::{
    BenchReport, ErrorCount, HistogramError, LatencySummary, MetricReport, PhaseReport,
    decode_histogram, encode_histogram,
};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use thiserror::Error;

/// Results that do not belong together.
#[derive(Debug, Error)]
pub enum MergeError {
    /// Fewer than one.
    #[error("nothing to merge: name at least one result")]
    Nothing,
    /// They measured different things.
    #[error("result {index} differs from the first in its {what}: merge results of one run only")]
    Differs {
        /// Which, from 1.
        index: usize,
        /// What differs.
        what: &'static str,
    },
    /// A histogram that is none.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
}

impl BenchReport {
    /// What all generators of `reports` measured together. Windows should begin at one time
    /// (`--start-at`); where they do not, series are shifted by whole points.
    ///
    /// # Errors
    /// [`MergeError`].
    pub fn merge(reports: &[Self]) -> Result<Self, MergeError> {
        let first = reports.first().ok_or(MergeError::Nothing)?;
        for (index, other) in reports.iter().enumerate() {
            let phases = |of: &Self| -> Vec<_> {
                of.phases
                    .iter()
                    .map(|one| (one.phase, one.series_interval_seconds.to_bits()))
                    .collect()
            };
            for (what, is_same) in [
                ("schema_version", first.schema_version == other.schema_version),
                ("target", first.target == other.target),
                ("read_mode", first.read_mode == other.read_mode),
                ("update", first.update == other.update),
                ("mix of operations", first.workload.proportions == other.workload.proportions),
                ("request distribution", first.request_distribution == other.request_distribution),
                ("phases", phases(first) == phases(other)),
            ] {
                if !is_same {
                    return Err(MergeError::Differs { index: index + 1, what });
                }
            }
        }
        let mut merged = first.clone();
        merged.clients = reports.iter().map(|one| one.clients).sum();
        let seeds = |one: &Self| match one.merged_seeds.len() {
            0 => vec![one.seed],
            _ => one.merged_seeds.clone(),
        };
        merged.merged_seeds = reports.iter().flat_map(seeds).collect();
        merged.phases = (0..first.phases.len())
            .map(|at| phase(&reports.iter().map(|one| &one.phases[at]).collect::<Vec<_>>()))
            .collect::<Result<_, _>>()?;
        Ok(merged)
    }
}

fn phase(parts: &[&PhaseReport]) -> Result<PhaseReport, MergeError> {
    let first = parts[0];
    let start = parts.iter().map(|one| one.window_start_unix).fold(f64::INFINITY, f64::min);
    let ends = parts.iter().map(|one| one.window_start_unix + one.wall_seconds);
    let wall = ends.fold(0.0, f64::max) - start;
    let operations = parts.iter().map(|one| one.operations).sum();
    let sum = |of: fn(&PhaseReport) -> Option<f64>| parts.iter().map(|one| of(one)).sum();
    let cpu: Option<f64> = sum(|one| one.thread_cpu_seconds);
    let bytes: f64 = parts.iter().map(|one| one.bytes_per_second * one.wall_seconds).sum();
    let lag = added(parts.iter().map(|one| one.lag_histogram.as_ref()))?;
    let invalid = parts.iter().enumerate().flat_map(|(index, one)| {
        one.invalid.iter().map(move |reason| format!("generator {}: {reason}", index + 1))
    });
    Ok(PhaseReport {
        phase: first.phase,
        window_start_unix: start,
        wall_seconds: wall,
        warmup_seconds: parts.iter().map(|one| one.warmup_seconds).fold(0.0, f64::max),
        operations,
        failures: parts.iter().map(|one| one.failures).sum(),
        not_started: parts.iter().map(|one| one.not_started).sum(),
        throughput: operations as f64 / wall.max(1e-9),
        bytes_per_second: bytes / wall.max(1e-9),
        target_rate: sum(|one| one.target_rate),
        offered: offered(parts),
        invalid: invalid.collect(),
        metrics: metrics(parts)?,
        errors: errors(parts),
        lag: lag.as_ref().map(LatencySummary::of).unwrap_or_default(),
        lag_histogram: lag.as_ref().map(encode_histogram),
        thread_cpu_seconds: cpu,
        thread_wait_seconds: sum(|one| one.thread_wait_seconds),
        process_cpu_seconds: sum(|one| one.process_cpu_seconds),
        cpu_us_per_operation: cpu
            .filter(|_| operations > 0)
            .map(|seconds| seconds * 1e6 / operations as f64),
        series_interval_seconds: first.series_interval_seconds,
        series: series(parts, start)?,
    })
}

/// Constant rates add up; of other loads the results of the parts tell.
fn offered(parts: &[&PhaseReport]) -> Option<OfferedLoad> {
    let rate = |part: &&PhaseReport| match part.offered {
        Some(OfferedLoad::Constant(rate)) => Some(rate),
        Some(OfferedLoad::Ramp { .. } | OfferedLoad::Steps(_) | OfferedLoad::Trace { .. })
        | None => None,
    };
    parts.iter().map(rate).sum::<Option<f64>>().map(OfferedLoad::Constant)
}

fn metrics(parts: &[&PhaseReport]) -> Result<Vec<MetricReport>, MergeError> {
    let mut by_metric: BTreeMap<_, Vec<&MetricReport>> = BTreeMap::new();
    for report in parts.iter().flat_map(|part| &part.metrics) {
        by_metric.entry(report.metric).or_default().push(report);
    }
    let merged = |(metric, reports): (_, Vec<&MetricReport>)| {
        let good = added(reports.iter().map(|one| one.histogram.as_ref()))?;
        let intended = added(reports.iter().map(|one| one.intended_histogram.as_ref()))?;
        let failed = added(reports.iter().map(|one| one.failed_histogram.as_ref()))?;
        Ok(MetricReport {
            metric,
            latency: good.as_ref().map(LatencySummary::of),
            histogram: good.as_ref().map(encode_histogram),
            intended_latency: intended.as_ref().map(LatencySummary::of),
            intended_histogram: intended.as_ref().map(encode_histogram),
            failed_latency: failed.as_ref().map(LatencySummary::of),
            failed_histogram: failed.as_ref().map(encode_histogram),
        })
    };
    by_metric.into_iter().map(merged).collect()
}

fn errors(parts: &[&PhaseReport]) -> Vec<ErrorCount> {
    let mut counts = BTreeMap::new();
    for error in parts.iter().flat_map(|part| &part.errors) {
        *counts.entry((error.metric, error.kind.clone())).or_default() += error.count;
    }
    let count = |((metric, kind), count)| ErrorCount { metric, kind, count };
    counts.into_iter().map(count).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of points, not below 0; saturates"
)]
fn series(parts: &[&PhaseReport], start: f64) -> Result<Vec<SeriesPoint>, MergeError> {
    let interval = parts[0].series_interval_seconds;
    let mut points: BTreeMap<usize, Vec<&SeriesPoint>> = BTreeMap::new();
    for part in parts {
        let shift = ((part.window_start_unix - start) / interval).round() as usize;
        for (index, point) in part.series.iter().enumerate() {
            points.entry(shift + index).or_default().push(point);
        }
    }
    let merged = |(at, points): (usize, Vec<&SeriesPoint>)| {
        let mut by_metric: BTreeMap<_, Vec<&KindPoint>> = BTreeMap::new();
        for kind in points.iter().flat_map(|point| &point.kinds) {
            by_metric.entry(kind.metric).or_default().push(kind);
        }
        let kinds = by_metric.into_iter().map(|(metric, kinds)| {
            let latency = added(kinds.iter().map(|kind| kind.histogram.as_ref()))?;
            let errors = kinds.iter().map(|kind| kind.errors).sum();
            Ok(KindPoint::of(metric, latency.as_ref(), errors))
        });
        let kinds = kinds.collect::<Result<Vec<_>, MergeError>>()?;
        let all = added(kinds.iter().map(|kind| kind.histogram.as_ref()))?;
        Ok(SeriesPoint::of(
            at as f64 * interval,
            kinds,
            all.as_ref(),
            points.iter().map(|point| point.bytes).sum(),
        ))
    };
    points.into_iter().map(merged).collect()
}

fn added<'a>(
    texts: impl Iterator<Item = Option<&'a String>>,
) -> Result<Option<Histogram<u64>>, HistogramError> {
    let mut all: Option<Histogram<u64>> = None;
    for text in texts.flatten() {
        let mut one = decode_histogram(text)?;
        match &mut all {
            None => {
                one.auto(true);
                all = Some(one);
            }
            Some(all) => {
                let added = all.add(&one);
                assert!(added.is_ok(), "a histogram that grows takes every other: {added:?}");
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
