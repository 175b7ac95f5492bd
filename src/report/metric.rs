//! What a figure can show of a result: one number by name, with its label and unit.
//!
//! Three forms of name: those of a fixed list (`throughput`), a latency as operation kind and
//! quantile (`get_p99`), and a quantity that a trial recorded under this name
//! (`capacity_ops_per_s`), whose unit is its ending.

use super::quantity::{self, ALL_KINDS, GET, PUT, RMW, SCAN};
use super::result::{LatencySummary, NodeResources, PhaseResult, TimelinePoint, TrialResult};
use super::stats::median;
use crate::experiment::trial::TrialKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number derived from one result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// Successful operations per second of the run.
    Throughput,
    /// Latency of one kind of operation, ms: `put_p50`, or of all kinds in a time line: `all_p99`.
    Latency {
        /// `put`, `get`, `scan`, `rmw`; `all` in a time line.
        operation: String,
        /// Which.
        quantile: Quantile,
    },
    /// What was not served of the run as a share of all that was tried or due, percent.
    ErrorShare,
    /// Payload at rest over live user bytes, after load.
    PayloadAfterLoad,
    /// Payload at rest over live user bytes, after overwrite.
    PayloadAfterRun,
    /// Records with headers over live user bytes, after load.
    RecordsAfterLoad,
    /// Records with headers over live user bytes, after overwrite.
    RecordsAfterRun,
    /// Allocated on disk over live user bytes, after load.
    AllocatedAfterLoad,
    /// Allocated on disk over live user bytes, after overwrite.
    AllocatedAfterRun,
    /// Bytes all nodes sent per user byte written.
    WirePerUserByte,
    /// Bytes the leader sent per user byte written.
    WireLeader,
    /// Bytes all followers sent per user byte written.
    WireFollowers,
    /// Bytes sent again per user byte written.
    WireRetransmitted,
    /// Share of sent bytes that were retransmissions, percent.
    RetransmittedShare,
    /// CPU microseconds of all nodes per operation.
    CpuPerOperation,
    /// Encoding speed alone.
    EncodeSpeed,
    /// Decoding speed alone.
    DecodeSpeed,
    /// A number that the trial recorded under this name, or the median of its samples of this name.
    Quantity(String),
}

/// A quantile of latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantile {
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 99th percentile.
    P99,
    /// 99.9th percentile.
    P999,
}

/// Names without parameters.
const NAMED: [(&str, Metric); 16] = [
    ("throughput", Metric::Throughput),
    ("error_share", Metric::ErrorShare),
    ("payload_after_load", Metric::PayloadAfterLoad),
    ("payload_after_run", Metric::PayloadAfterRun),
    ("records_after_load", Metric::RecordsAfterLoad),
    ("records_after_run", Metric::RecordsAfterRun),
    ("allocated_after_load", Metric::AllocatedAfterLoad),
    ("allocated_after_run", Metric::AllocatedAfterRun),
    ("wire_per_user_byte", Metric::WirePerUserByte),
    ("wire_leader", Metric::WireLeader),
    ("wire_followers", Metric::WireFollowers),
    ("wire_retransmitted", Metric::WireRetransmitted),
    ("retransmitted_share", Metric::RetransmittedShare),
    ("cpu_per_operation", Metric::CpuPerOperation),
    ("encode_speed", Metric::EncodeSpeed),
    ("decode_speed", Metric::DecodeSpeed),
];

const QUANTILES: [(&str, Quantile, &str); 4] = [
    ("_p50", Quantile::P50, "p50"),
    ("_p90", Quantile::P90, "p90"),
    ("_p999", Quantile::P999, "p99.9"),
    ("_p99", Quantile::P99, "p99"),
];

/// Endings of quantities, with their units.
const UNITS: [(&str, &str); 9] = [
    ("_us_per_op", "\u{b5}s/op"),
    ("_ops_per_s", "op/s"),
    ("_us", "\u{b5}s"),
    ("_ms", "ms"),
    ("_seconds", "s"),
    ("_bytes", "B"),
    ("_count", ""),
    ("_rate", "0 to 1"),
    ("_share", "0 to 1"),
];

impl Metric {
    /// What a time line can show.
    pub const TIMED_NAMES: &'static str = "throughput, error_share, all_p50, all_p99";

    /// Axis label with its unit.
    #[must_use]
    pub fn label(&self) -> String {
        let (what, unit) = (self.what(), self.unit());
        if unit.is_empty() { what } else { format!("{what} ({unit})") }
    }

    /// Axis label without its unit.
    #[must_use]
    pub fn what(&self) -> String {
        let fixed = match self {
            Self::Throughput => "throughput",
            Self::Latency { operation, quantile } => {
                let quantile = QUANTILES.iter().find(|known| known.1 == *quantile);
                let quantile = quantile.map_or("", |known| known.2);
                if operation == ALL_KINDS {
                    return format!("latency {quantile}");
                }
                return format!("{operation} latency {quantile}");
            }
            Self::ErrorShare => "failed operations",
            Self::PayloadAfterLoad | Self::PayloadAfterRun => "payload / user bytes",
            Self::RecordsAfterLoad | Self::RecordsAfterRun => "records / user bytes",
            Self::AllocatedAfterLoad | Self::AllocatedAfterRun => "allocated / user bytes",
            Self::WirePerUserByte => "wire / user bytes",
            Self::WireLeader => "leader's wire / user bytes",
            Self::WireFollowers => "followers' wire / user bytes",
            Self::WireRetransmitted => "sent again / user bytes",
            Self::RetransmittedShare => "retransmitted",
            Self::CpuPerOperation => "CPU per operation",
            Self::EncodeSpeed => "encode",
            Self::DecodeSpeed => "decode",
            Self::Quantity(name) => {
                let ending = UNITS.iter().find(|unit| name.ends_with(unit.0));
                // "cache hit rate" and "stale share" say what they are by their ending.
                let is_named_by = |unit: &str| matches!(unit, "0 to 1" | "");
                let cut = ending.filter(|ending| !is_named_by(ending.1));
                let stem = &name[..name.len() - cut.map_or(0, |ending| ending.0.len())];
                return stem.trim_start_matches("stage_").replace('_', " ");
            }
        };
        fixed.to_owned()
    }

    /// Its unit; empty for a plain count.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Throughput => "op/s",
            Self::Latency { .. } => "ms",
            Self::ErrorShare => "%",
            Self::PayloadAfterLoad
            | Self::PayloadAfterRun
            | Self::RecordsAfterLoad
            | Self::RecordsAfterRun
            | Self::AllocatedAfterLoad
            | Self::AllocatedAfterRun
            | Self::WirePerUserByte
            | Self::WireLeader
            | Self::WireFollowers
            | Self::WireRetransmitted => "B/B",
            Self::RetransmittedShare => "% of bytes",
            Self::CpuPerOperation => "\u{b5}s",
            Self::EncodeSpeed | Self::DecodeSpeed => "GB/s",
            Self::Quantity(name) => {
                let ending = UNITS.iter().find(|unit| name.ends_with(unit.0));
                ending.map_or("0 to 1", |unit| unit.1)
            }
        }
    }

    /// Is more of it better? None where it depends.
    #[must_use]
    pub fn more_is_better(&self) -> Option<bool> {
        match self {
            Self::Throughput | Self::EncodeSpeed | Self::DecodeSpeed => Some(true),
            Self::Latency { .. }
            | Self::ErrorShare
            | Self::PayloadAfterLoad
            | Self::PayloadAfterRun
            | Self::RecordsAfterLoad
            | Self::RecordsAfterRun
            | Self::AllocatedAfterLoad
            | Self::AllocatedAfterRun
            | Self::WirePerUserByte
            | Self::WireLeader
            | Self::WireFollowers
            | Self::WireRetransmitted
            | Self::RetransmittedShare
            | Self::CpuPerOperation => Some(false),
            Self::Quantity(name) => match self.unit() {
                "op/s" => Some(true),
                "\u{b5}s" | "\u{b5}s/op" | "ms" | "s" | "B" => Some(false),
                _ => matches!(name.as_str(), "availability" | "cache_hit_rate").then_some(true),
            },
        }
    }

    /// Can a time line show it?
    #[must_use]
    pub fn is_in_time_lines(&self) -> bool {
        match self {
            Self::Throughput | Self::ErrorShare => true,
            Self::Latency { operation, quantile } => {
                operation == ALL_KINDS && matches!(quantile, Quantile::P50 | Quantile::P99)
            }
            Self::PayloadAfterLoad
            | Self::PayloadAfterRun
            | Self::RecordsAfterLoad
            | Self::RecordsAfterRun
            | Self::AllocatedAfterLoad
            | Self::AllocatedAfterRun
            | Self::WirePerUserByte
            | Self::WireLeader
            | Self::WireFollowers
            | Self::WireRetransmitted
            | Self::RetransmittedShare
            | Self::CpuPerOperation
            | Self::EncodeSpeed
            | Self::DecodeSpeed
            | Self::Quantity(_) => false,
        }
    }

    /// The number, or None when the result has none.
    #[must_use]
    pub fn of(&self, result: &TrialResult) -> Option<f64> {
        let run = || result.phase("run");
        let value = match self {
            Self::Throughput => run()?.throughput_ops_per_s,
            Self::Latency { operation, quantile } => quantile.of(latency(result, operation)?),
            Self::ErrorShare => 100.0 * error_share(result),
            Self::PayloadAfterLoad => at_rest(result.phase("load")?, |n| n.payload_bytes)?,
            Self::PayloadAfterRun => at_rest(run()?, |n| n.payload_bytes)?,
            Self::RecordsAfterLoad => at_rest(result.phase("load")?, |n| n.record_bytes)?,
            Self::RecordsAfterRun => at_rest(run()?, |n| n.record_bytes)?,
            Self::AllocatedAfterLoad => at_rest(result.phase("load")?, |n| n.allocated_bytes)?,
            Self::AllocatedAfterRun => at_rest(run()?, |n| n.allocated_bytes)?,
            Self::WirePerUserByte => wire(run()?, |n| n.bytes_sent)?,
            Self::WireLeader => led(run()?, |n| if n.leader { n.bytes_sent } else { 0 })?,
            Self::WireFollowers => led(run()?, |n| if n.leader { 0 } else { n.bytes_sent })?,
            Self::WireRetransmitted => wire(run()?, |n| n.bytes_retransmitted)?,
            Self::RetransmittedShare => {
                let again = run()?.storing().map(|n| n.bytes_retransmitted).sum();
                100.0 * ratio(again, run()?.storing().map(|n| n.bytes_sent).sum())?
            }
            Self::CpuPerOperation => {
                let seconds: f64 = run()?.storing().map(|n| n.cpu_seconds).sum();
                seconds * 1e6 / Some(run()?.operations).filter(|count| *count > 0)? as f64
            }
            Self::EncodeSpeed => result.codec.as_ref()?.encode_gb_per_s,
            Self::DecodeSpeed => result.codec.as_ref()?.decode_gb_per_s,
            Self::Quantity(name) => quantity(result, name)?,
        };
        value.is_finite().then_some(value)
    }

    /// How far what is measured may be from [`Metric::of`] by how one trial measures it, as the
    /// logarithm of a factor: half of a capacity's bracket.
    #[must_use]
    pub fn slack(&self, result: &TrialResult) -> f64 {
        if *self != Self::Quantity(quantity::CAPACITY_OPS_PER_S.to_owned()) {
            return 0.0;
        }
        bracket(result).map_or(0.0, |(held, over)| 0.5 * (over / held).ln())
    }
}

impl Quantile {
    fn of(self, latency: &LatencySummary) -> f64 {
        let us = match self {
            Self::P50 => latency.p50_us,
            Self::P90 => latency.p90_us,
            Self::P99 => latency.p99_us,
            Self::P999 => latency.p999_us,
        };
        us as f64 / 1000.0
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Latency { operation, quantile } = self {
            let ending = QUANTILES.iter().find(|known| known.1 == *quantile);
            return write!(f, "{operation}{}", ending.map_or("", |known| known.0));
        }
        if let Self::Quantity(name) = self {
            return f.write_str(name);
        }
        let known = NAMED.iter().find(|known| known.1 == *self);
        f.write_str(known.map_or("unnamed", |known| known.0))
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some(known) = NAMED.iter().find(|known| known.0 == name) {
            return Ok(known.1.clone());
        }
        for (ending, quantile, _) in QUANTILES {
            if let Some(operation) = name.strip_suffix(ending) {
                if !OPERATIONS.contains(&operation) && operation != ALL_KINDS {
                    let known = OPERATIONS.join(", ");
                    return Err(format!("metric '{name}': no operation '{operation}'; {known}"));
                }
                return Ok(Self::Latency { operation: operation.to_owned(), quantile });
            }
        }
        let is_plain =
            name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        let has_unit = UNITS.iter().any(|unit| name.ends_with(unit.0)) || name == "availability";
        if is_plain && has_unit {
            return Ok(Self::Quantity(name.to_owned()));
        }
        let names = NAMED.iter().map(|known| known.0).collect::<Vec<_>>().join(", ");
        let units = UNITS.iter().map(|unit| unit.0).collect::<Vec<_>>().join(", ");
        Err(format!(
            "unknown metric '{name}'; known: {names}; put_p50 and the like; recorded quantities, \
             which end in {units}"
        ))
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

const OPERATIONS: [&str; 4] = [PUT, GET, SCAN, RMW];

/// What was not served of the run, as a share of all that was tried or due: failed operations,
/// timeouts, and what was not even started. All of it where nothing was served.
#[must_use]
pub fn error_share(result: &TrialResult) -> f64 {
    let Some(run) = result.phase("run") else { return 0.0 };
    let failed = run.errors + run.timeouts + run.not_started;
    let is_load = result.trial.config.kind == TrialKind::Cluster;
    let of_none = if is_load && run.operations == 0 { 1.0 } else { 0.0 };
    ratio(failed, failed + run.operations).unwrap_or(of_none)
}

fn latency<'a>(result: &'a TrialResult, operation: &str) -> Option<&'a LatencySummary> {
    result.phase("run")?.latency.get(operation).filter(|latency| latency.count > 0)
}

fn at_rest(phase: &PhaseResult, bytes: fn(&NodeResources) -> u64) -> Option<f64> {
    ratio(phase.storing().map(bytes).sum(), phase.live_user_bytes)
}

/// None where more than one node led: the last leader's bytes are not those of the leader.
fn led(phase: &PhaseResult, bytes: fn(&NodeResources) -> u64) -> Option<f64> {
    if phase.has_one_leader() { wire(phase, bytes) } else { None }
}

fn wire(phase: &PhaseResult, bytes: fn(&NodeResources) -> u64) -> Option<f64> {
    ratio(phase.storing().map(bytes).sum(), phase.user_bytes_written)
}

fn ratio(above: u64, below: u64) -> Option<f64> {
    (below > 0).then(|| above as f64 / below as f64)
}

/// The share of intervals in which anything succeeded, of those between the first and the last change
/// of a time line, or of the whole run. (Of the operations tried it would say little: clients that
/// wait for one another hardly try where nothing answers.)
fn availability(result: &TrialResult) -> Option<f64> {
    let stretches = stretches_of(result);
    let disturbed = match stretches.as_slice() {
        [_, disturbed @ .., _] if !disturbed.is_empty() => disturbed,
        all => all,
    };
    let whole = disturbed.first()?[0]..disturbed.last()?[1];
    let inside: Vec<&TimelinePoint> = within(result, &whole)?.collect();
    let is_served = |point: &&&TimelinePoint| point.operations.values().any(|count| *count > 0);
    ratio(inside.iter().filter(is_served).count() as u64, inside.len() as u64)
}

/// The stretches of a run between what is done to it: when it was done where that is known, which is
/// a little later than planned.
fn stretches_of(result: &TrialResult) -> Vec<[u64; 2]> {
    let planned = result.trial.config.faults.iter().map(|step| step.at_ms);
    let done = result.phase("run").map(|run| run.events.as_slice()).unwrap_or_default();
    let mut bounds: Vec<u64> = if done.len() == planned.len() {
        planned.zip(done).map(|(planned, event)| planned.max(event.at_ms)).collect()
    } else {
        planned.collect()
    };
    bounds.extend([0, u64::MAX]);
    bounds.sort_unstable();
    bounds.windows(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// The whole intervals of the run within `span`.
fn within<'a>(
    result: &'a TrialResult,
    span: &std::ops::Range<u64>,
) -> Option<impl Iterator<Item = &'a TimelinePoint>> {
    let (start, end) = (span.start, span.end);
    let is_inside = move |point: &&TimelinePoint| {
        point.at_ms >= start && point.at_ms + point.interval_ms <= end
    };
    Some(result.phase("run")?.timeline.iter().filter(is_inside))
}

/// The highest load that held and the lowest that did not, of a search for a capacity.
fn bracket(result: &TrialResult) -> Option<(f64, f64)> {
    let numbers = &result.phase("run")?.numbers;
    let held = *numbers.get(quantity::CAPACITY_OPS_PER_S)?;
    let over = *numbers.get(quantity::CAPACITY_ABOVE_OPS_PER_S)?;
    (held > 0.0 && over >= held).then_some((held, over))
}

/// The geometric mean of the throughputs of the stretches: what happens early and goes fast does not
/// outweigh the rest. A stretch in which nothing succeeded counts as one operation.
fn stretches(result: &TrialResult) -> Option<f64> {
    let rate = |[start, end]: [u64; 2]| {
        let (count, ms) = within(result, &(start..end))?.fold((0, 0), |(count, ms), point| {
            (count + point.operations.values().sum::<u64>(), ms + point.interval_ms)
        });
        (ms > 0).then(|| count.max(1) as f64 * 1e3 / ms as f64)
    };
    let logs: Vec<f64> = stretches_of(result).into_iter().filter_map(rate).map(f64::ln).collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

/// The mean time to put a value together, over the median of a read.
fn decode_share(result: &TrialResult) -> Option<f64> {
    let decode_us = quantity(result, quantity::STAGE_DECODE_US)?;
    let get_us = latency(result, GET)?.p50_us;
    (get_us > 0).then(|| decode_us / get_us as f64)
}

/// The recorded number, or the median of the samples; of the run, else of the phase that has it.
/// What follows from the rest of the result is computed from it.
fn quantity(result: &TrialResult, name: &str) -> Option<f64> {
    match name {
        quantity::AVAILABILITY => return availability(result),
        quantity::DECODE_SHARE => return decode_share(result),
        quantity::STRETCHES_OPS_PER_S => return stretches(result),
        quantity::CAPACITY_OPS_PER_S => {
            if let Some((held, over)) = bracket(result) {
                return Some((held * over).sqrt());
            }
        }
        _ => {}
    }
    let of = |phase: &PhaseResult| {
        let samples = || median(phase.samples.get(name)?);
        phase.numbers.get(name).copied().or_else(samples)
    };
    result.phase("run").and_then(of).or_else(|| result.phases.iter().find_map(of))
}

#[cfg(test)]
#[path = "metric_tests.rs"]
mod tests;
