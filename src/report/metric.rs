//! What a figure can show of a result: one number by name, with its label and unit.

use super::result::{LatencySummary, PhaseResult, TrialResult};
use serde::{Deserialize, Serialize};

/// A number derived from one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Successful operations per second of the run.
    Throughput,
    /// Median put latency, ms.
    PutP50,
    /// 99th percentile of put latency, ms.
    PutP99,
    /// 99.9th percentile of put latency, ms.
    PutP999,
    /// Payload at rest over live user bytes, after load.
    PayloadAfterLoad,
    /// Payload at rest over live user bytes, after overwrite.
    PayloadAfterRun,
    /// Records with headers over live user bytes, after load.
    RecordsAfterLoad,
    /// Allocated on disk over live user bytes, after load.
    AllocatedAfterLoad,
    /// Allocated on disk over live user bytes, after overwrite.
    AllocatedAfterRun,
    /// Bytes all nodes sent per user byte written.
    WirePerUserByte,
    /// Share of sent bytes that were retransmissions, percent.
    RetransmittedShare,
    /// CPU microseconds of all nodes per operation.
    CpuPerOperation,
    /// Encoding speed alone.
    EncodeSpeed,
    /// Decoding speed alone.
    DecodeSpeed,
}

impl Metric {
    /// Axis label with its unit.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Throughput => "throughput (op/s)",
            Self::PutP50 => "put latency p50 (ms)",
            Self::PutP99 => "put latency p99 (ms)",
            Self::PutP999 => "put latency p99.9 (ms)",
            Self::PayloadAfterLoad | Self::PayloadAfterRun => "payload / user bytes (B/B)",
            Self::RecordsAfterLoad => "records / user bytes (B/B)",
            Self::AllocatedAfterLoad | Self::AllocatedAfterRun => "allocated / user bytes (B/B)",
            Self::WirePerUserByte => "wire / user bytes (B/B)",
            Self::RetransmittedShare => "retransmitted (% of bytes)",
            Self::CpuPerOperation => "CPU per operation (\u{b5}s)",
            Self::EncodeSpeed => "encode (GB/s)",
            Self::DecodeSpeed => "decode (GB/s)",
        }
    }

    /// The number, or None when the result has none.
    #[must_use]
    pub fn of(self, result: &TrialResult) -> Option<f64> {
        let value = match self {
            Self::Throughput => result.phase("run")?.throughput_ops_per_s,
            Self::PutP50 => put(result)?.p50_us as f64 / 1000.0,
            Self::PutP99 => put(result)?.p99_us as f64 / 1000.0,
            Self::PutP999 => put(result)?.p999_us as f64 / 1000.0,
            Self::PayloadAfterLoad => at_rest(result.phase("load")?, |n| n.payload_bytes)?,
            Self::PayloadAfterRun => at_rest(result.phase("run")?, |n| n.payload_bytes)?,
            Self::RecordsAfterLoad => at_rest(result.phase("load")?, |n| n.record_bytes)?,
            Self::AllocatedAfterLoad => at_rest(result.phase("load")?, |n| n.allocated_bytes)?,
            Self::AllocatedAfterRun => at_rest(result.phase("run")?, |n| n.allocated_bytes)?,
            Self::WirePerUserByte => {
                let run = result.phase("run")?;
                ratio(run.storing().map(|n| n.bytes_sent).sum(), run.user_bytes_written)?
            }
            Self::RetransmittedShare => {
                let run = result.phase("run")?;
                let again = run.storing().map(|n| n.bytes_retransmitted).sum();
                100.0 * ratio(again, run.storing().map(|n| n.bytes_sent).sum())?
            }
            Self::CpuPerOperation => {
                let run = result.phase("run")?;
                let seconds: f64 = run.storing().map(|n| n.cpu_seconds).sum();
                seconds * 1e6 / (run.operations > 0).then_some(run.operations as f64)?
            }
            Self::EncodeSpeed => result.codec.as_ref()?.encode_gb_per_s,
            Self::DecodeSpeed => result.codec.as_ref()?.decode_gb_per_s,
        };
        value.is_finite().then_some(value)
    }
}

/// Failed operations and timeouts of the run as a share of all that were tried.
#[must_use]
pub fn error_share(result: &TrialResult) -> f64 {
    let Some(run) = result.phase("run") else { return 0.0 };
    let failed = run.errors + run.timeouts;
    ratio(failed, failed + run.operations).unwrap_or(0.0)
}

fn put(result: &TrialResult) -> Option<&LatencySummary> {
    result.phase("run")?.latency.get("put").filter(|put| put.count > 0)
}

fn at_rest(phase: &PhaseResult, bytes: fn(&super::result::NodeResources) -> u64) -> Option<f64> {
    ratio(phase.storing().map(bytes).sum(), phase.live_user_bytes)
}

fn ratio(above: u64, below: u64) -> Option<f64> {
    (below > 0).then(|| above as f64 / below as f64)
}
