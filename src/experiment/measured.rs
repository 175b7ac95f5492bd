//! From what the bench and the nodes report to the parts of a result.
//!
//! Measures nothing itself. With a target rate a latency counts from when the operation was due.

use super::trial::{TrialConfig, TrialError};
use crate::bench::{self, PhaseReport, decode_histogram};
use crate::kv::Role;
use crate::node::NodeReport;
use crate::node::process::ProcessUsage;
use crate::report::quantity;
use crate::report::result::{LatencySummary, NodeResources, PhaseResult, TimelinePoint};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// A phase's result, without what its processes used.
pub(super) fn phase_result(
    name: &str,
    trial: &TrialConfig,
    report: &PhaseReport,
) -> Result<PhaseResult, TrialError> {
    let mut nanos: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    for metric in &report.metrics {
        let kept = metric.intended_histogram.as_ref().or(metric.histogram.as_ref());
        let (Some(text), false) = (kept, metric.metric.is_part()) else { continue };
        let of_kind = decode_histogram(text).map_err(failed)?;
        match nanos.get_mut(kind_of(metric.metric)) {
            Some(all) => all.add(&of_kind).map_err(failed)?,
            None => {
                nanos.insert(kind_of(metric.metric), of_kind);
            }
        }
    }
    let written = nanos.iter().filter(|(kind, _)| [quantity::PUT, quantity::RMW].contains(kind));
    let written: u64 = written.map(|(_, histogram)| histogram.len()).sum();
    let mut latency = BTreeMap::new();
    for (kind, histogram) in &nanos {
        let summary = LatencySummary::of(&in_micros(histogram)?).map_err(failed)?;
        latency.insert((*kind).to_owned(), summary);
    }
    let count = |is_wanted: &dyn Fn(&str) -> bool| -> u64 {
        let wanted = report.errors.iter().filter(|error| is_wanted(&error.kind));
        wanted.map(|error| error.count).sum()
    };
    let is_timeout = |kind: &str| matches!(kind, "timeout" | "lost");
    let live = if name == "load" { report.operations } else { trial.records };
    let mut numbers = BTreeMap::from([(quantity::LAG_P99_US.to_owned(), report.lag.p99_us)]);
    if let Some(each) = report.cpu_us_per_operation {
        numbers.insert(quantity::GENERATOR_CPU_US_PER_OP.to_owned(), each);
    }
    Ok(PhaseResult {
        name: name.to_owned(),
        seconds: report.wall_seconds,
        operations: report.operations,
        throughput_ops_per_s: report.throughput,
        user_bytes_written: written * trial.value_bytes,
        live_user_bytes: live * trial.value_bytes,
        errors: count(&|kind| !is_timeout(kind)),
        timeouts: count(&is_timeout),
        latency,
        timeline: timeline(report),
        numbers,
        ..PhaseResult::default()
    })
}

/// What a node has used since its start; storage as it is.
pub(super) fn node_used(report: &NodeReport) -> NodeResources {
    NodeResources {
        role: quantity::NODE.to_owned(),
        node: u32::from(report.status.node),
        leader: report.status.role == Role::Leader,
        cpu_seconds: report.cpu_seconds,
        peak_rss_bytes: report.peak_rss_bytes,
        bytes_sent: report.bytes_sent,
        datagrams_sent: report.datagrams_sent,
        turns: report.turns,
        bytes_received: report.bytes_received,
        bytes_retransmitted: report.bytes_retransmitted,
        bytes_written: report.log.bytes_written,
        syncs: report.log.syncs,
        payload_bytes: report.log.payload_bytes,
        record_bytes: report.log.record_bytes,
        allocated_bytes: report.log.allocated_bytes,
        counts: counts(report),
    }
}

/// What a node counts beside its resources; times in nanoseconds.
fn counts(report: &NodeReport) -> BTreeMap<String, u64> {
    let (stages, coding) = (&report.stages, &report.coding);
    let of_stages = [
        stages.queue_nanos,
        stages.encode_nanos,
        stages.wire_nanos,
        stages.sync_nanos,
        stages.quorum_nanos,
        stages.apply_nanos,
    ];
    let others = [
        (WRITES, stages.writes),
        (quantity::DECODES, coding.decodes),
        (quantity::STAGE_DECODE_US, coding.decode_nanos),
        (CACHE_HITS, report.cache_hits),
        (CACHE_MISSES, report.cache_misses),
    ];
    let all = quantity::STAGES.into_iter().zip(of_stages).chain(others);
    all.map(|(name, count)| (name.trim_end_matches("_us").to_owned(), count)).collect()
}

/// What follows from the nodes' counts: means of the stages, and of the leader's cache.
pub(super) fn numbers_of(nodes: &[NodeResources]) -> BTreeMap<String, f64> {
    let count = |node: &NodeResources, name: &str| {
        node.counts.get(name.trim_end_matches("_us")).copied().unwrap_or(0)
    };
    let mut numbers = BTreeMap::new();
    if let Some(leader) = nodes.iter().find(|node| node.leader) {
        let writes = count(leader, WRITES);
        for stage in quantity::STAGES.into_iter().filter(|_| writes > 0) {
            numbers.insert(stage.to_owned(), count(leader, stage) as f64 / 1e3 / writes as f64);
        }
        let (hits, misses) = (count(leader, CACHE_HITS), count(leader, CACHE_MISSES));
        if hits + misses > 0 {
            numbers.insert(quantity::CACHE_HIT_RATE.to_owned(), share(hits, hits + misses));
        }
    }
    let sum = |name: &str| nodes.iter().map(|node| count(node, name)).sum::<u64>();
    let decodes = sum(quantity::DECODES);
    if decodes > 0 {
        let each = sum(quantity::STAGE_DECODE_US) as f64 / 1e3 / decodes as f64;
        numbers.insert(quantity::STAGE_DECODE_US.to_owned(), each);
        numbers.insert(quantity::DECODES.to_owned(), decodes as f64);
    }
    numbers
}

const WRITES: &str = "stage_writes";
const CACHE_HITS: &str = "cache_hits";
const CACHE_MISSES: &str = "cache_misses";

/// What the generator, which is this process, has used.
pub(super) fn generator_used(usage: ProcessUsage) -> NodeResources {
    NodeResources {
        role: quantity::GENERATOR.to_owned(),
        cpu_seconds: usage.cpu_seconds,
        peak_rss_bytes: usage.peak_rss_bytes,
        ..NodeResources::default()
    }
}

const fn kind_of(metric: bench::Metric) -> &'static str {
    match metric {
        bench::Metric::Read => quantity::GET,
        bench::Metric::Scan => quantity::SCAN,
        bench::Metric::ReadModifyWrite
        | bench::Metric::ReadModifyWriteRead
        | bench::Metric::ReadModifyWritePut => quantity::RMW,
        bench::Metric::Update
        | bench::Metric::Insert
        | bench::Metric::UpdateRead
        | bench::Metric::UpdatePut => quantity::PUT,
    }
}

fn timeline(report: &PhaseReport) -> Vec<TimelinePoint> {
    let point = |point: &bench::SeriesPoint| TimelinePoint {
        at_ms: whole(point.start_seconds * 1e3),
        interval_ms: whole(report.series_interval_seconds * 1e3),
        operations: [(quantity::ALL_KINDS.to_owned(), point.operations)].into(),
        errors: point.errors,
        p50_us: whole(point.p50_us),
        p99_us: whole(point.p99_us),
    };
    report.series.iter().map(point).collect()
}

/// The same histogram in microseconds.
fn in_micros(nanos: &Histogram<u64>) -> Result<Histogram<u64>, TrialError> {
    let mut micros = Histogram::new(3).map_err(failed)?;
    for value in nanos.iter_recorded() {
        let middle = nanos.median_equivalent(value.value_iterated_to());
        micros.record_n((middle + 500) / 1000, value.count_at_value()).map_err(failed)?;
    }
    Ok(micros)
}

/// Rounded; 0 when negative.
fn whole(number: f64) -> u64 {
    let nanos = Duration::try_from_secs_f64(number / 1e9).unwrap_or_default().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

pub(super) fn failed(reason: impl std::fmt::Display) -> TrialError {
    TrialError::Failed(reason.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_change_their_unit() {
        let mut nanos = Histogram::<u64>::new(3).unwrap();
        for micros in 1..=1000_u64 {
            nanos.record(micros * 1000).unwrap();
        }
        let micros = in_micros(&nanos).unwrap();
        assert_eq!(micros.len(), 1000);
        let p50 = micros.value_at_quantile(0.5);
        assert!((498..=502).contains(&p50), "{p50}");
    }

    #[test]
    fn numbers_are_rounded_to_whole_ones() {
        assert_eq!([whole(0.0), whole(0.4), whole(1999.6), whole(-3.0)], [0, 0, 2000, 0]);
        assert_eq!((share(1, 4), share(0, 0)), (0.25, 0.0));
    }
}
