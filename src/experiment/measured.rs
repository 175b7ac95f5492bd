//! From what the bench and the nodes report to the parts of a result.
//!
//! Measures nothing itself. In an open loop a latency counts from when the operation was due, and the
//! one from its sending stands beside it.

use super::trial::{TrialConfig, TrialError};
use crate::bench::{self, MetricReport, PhaseReport, Workload, decode_histogram};
use crate::kv::Role;
use crate::node::NodeReport;
use crate::node::process::ProcessUsage;
use crate::report::phase_parts::TimelineKind;
use crate::report::quantity;
use crate::report::result::{LatencySummary, NodeResources, PhaseResult, TimelinePoint};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// A phase's result, without what its processes used.
pub(super) fn phase_result(
    name: &str,
    trial: &TrialConfig,
    workload: &Workload,
    report: &PhaseReport,
) -> Result<PhaseResult, TrialError> {
    let is_open = report.offered.is_some();
    let whole = |metric: &MetricReport| !metric.metric.is_part();
    let service = by_kind(report, |metric| metric.histogram.as_ref().filter(|_| whole(metric)))?;
    let latency = by_kind(report, |metric| {
        let due = if is_open { &metric.intended_histogram } else { &metric.histogram };
        due.as_ref().filter(|_| whole(metric))
    })?;
    let part_latency =
        by_kind(report, |metric| metric.histogram.as_ref().filter(|_| !whole(metric)))?;
    let failed_latency =
        by_kind(report, |metric| metric.failed_histogram.as_ref().filter(|_| whole(metric)))?;
    let lag = report.lag_histogram.as_ref().map(|text| decode_histogram(text).map_err(failed));
    let lag = lag.transpose()?.filter(|lag| !lag.is_empty());
    let written = [quantity::PUT, quantity::RMW].iter().filter_map(|kind| service.get(*kind));
    let written: u64 = written.map(|latency| latency.count).sum();
    let count = |is_wanted: &dyn Fn(&str) -> bool| -> u64 {
        // What fails in a part fails in the whole, too.
        let whole = report.errors.iter().filter(|error| !error.metric.is_part());
        let wanted = whole.filter(|error| is_wanted(&error.kind));
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
        // Where the size changes nobody counted them.
        user_bytes_written: if trial.sizes().next().is_none() {
            written * trial.value_bytes
        } else {
            0
        },
        live_user_bytes: live * trial.value_bytes,
        errors: count(&|kind| !is_timeout(kind)),
        timeouts: count(&is_timeout),
        not_started: report.not_started,
        latency,
        service_latency: if is_open { service } else { BTreeMap::new() },
        part_latency,
        failed_latency,
        lag: lag.map(|lag| summary(&lag)).transpose()?,
        distribution: Some(workload.request_distribution.to_string()),
        update: Some(workload.update.to_string()),
        timeline: timeline(report)?,
        numbers,
        ..PhaseResult::default()
    })
}

/// Latencies of the histograms that `of` picks, those of one name added up.
fn by_kind<'a>(
    report: &'a PhaseReport,
    of: impl Fn(&'a MetricReport) -> Option<&'a String>,
) -> Result<BTreeMap<String, LatencySummary>, TrialError> {
    let mut nanos: BTreeMap<&str, Histogram<u64>> = BTreeMap::new();
    for metric in &report.metrics {
        if let Some(text) = of(metric) {
            add(&mut nanos, name_of(metric.metric), text)?;
        }
    }
    let each = nanos.iter().map(|(kind, all)| Ok(((*kind).to_owned(), summary(all)?)));
    each.collect()
}

fn add<'a>(
    all: &mut BTreeMap<&'a str, Histogram<u64>>,
    name: &'a str,
    text: &str,
) -> Result<(), TrialError> {
    let mut one = decode_histogram(text).map_err(failed)?;
    one.auto(true);
    match all.get_mut(name) {
        Some(known) => known.add(&one).map_err(failed),
        None => {
            all.insert(name, one);
            Ok(())
        }
    }
}

fn summary(nanos: &Histogram<u64>) -> Result<LatencySummary, TrialError> {
    LatencySummary::of(&in_micros(nanos)?).map_err(failed)
}

/// What a node has used since its start; storage as it is.
pub(super) fn node_used(report: &NodeReport) -> NodeResources {
    NodeResources {
        role: quantity::NODE.to_owned(),
        node: u32::from(report.status.node),
        leader: report.status.role == Role::Leader,
        ballot_round: report.status.ballot.round,
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

/// What follows from the nodes' counts: means of the stages, and of the leader's cache, unless more
/// than one led: the last one's would stand for all.
pub(super) fn numbers_of(phase: &PhaseResult) -> BTreeMap<String, f64> {
    let nodes = &phase.nodes;
    let count = |node: &NodeResources, name: &str| {
        node.counts.get(name.trim_end_matches("_us")).copied().unwrap_or(0)
    };
    let mut numbers = BTreeMap::new();
    if let Some(leader) = nodes.iter().find(|node| node.leader && phase.has_one_leader()) {
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

const fn name_of(metric: bench::Metric) -> &'static str {
    match metric {
        bench::Metric::Read => quantity::GET,
        bench::Metric::Scan => quantity::SCAN,
        bench::Metric::Update | bench::Metric::Insert => quantity::PUT,
        bench::Metric::ReadModifyWrite => quantity::RMW,
        bench::Metric::UpdateRead => quantity::UPDATE_READ,
        bench::Metric::UpdatePut => quantity::UPDATE_PUT,
        bench::Metric::ReadModifyWriteRead => quantity::RMW_READ,
        bench::Metric::ReadModifyWritePut => quantity::RMW_PUT,
    }
}

fn timeline(report: &PhaseReport) -> Result<Vec<TimelinePoint>, TrialError> {
    let point = |point: &bench::SeriesPoint| {
        let (operations, kinds) = point_kinds(point)?;
        Ok(TimelinePoint {
            at_ms: whole(point.start_seconds * 1e3),
            interval_ms: whole(report.series_interval_seconds * 1e3),
            operations,
            errors: point.errors,
            p50_us: whole(point.p50_us),
            p99_us: whole(point.p99_us),
            kinds,
        })
    };
    report.series.iter().map(point).collect()
}

type OfKinds = (BTreeMap<String, u64>, BTreeMap<String, TimelineKind>);

fn point_kinds(point: &bench::SeriesPoint) -> Result<OfKinds, TrialError> {
    let mut operations: BTreeMap<String, u64> = BTreeMap::new();
    let mut kinds: BTreeMap<String, TimelineKind> = BTreeMap::new();
    let mut nanos = BTreeMap::new();
    for kind in &point.kinds {
        let name = name_of(kind.metric);
        *operations.entry(name.to_owned()).or_default() += kind.operations;
        kinds.entry(name.to_owned()).or_default().errors += kind.errors;
        if let Some(text) = &kind.histogram {
            add(&mut nanos, name, text)?;
        }
    }
    for (name, latency) in nanos {
        let kind = kinds.entry(name.to_owned()).or_default();
        let at = |quantile| (latency.value_at_quantile(quantile) + 500) / 1000;
        (kind.p50_us, kind.p99_us) = (at(0.5), at(0.99));
    }
    Ok((operations, kinds))
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
