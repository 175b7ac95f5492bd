//! The load generator: YCSB workloads against anything that is a [`Target`].
//!
//! [`Workload`] is a property file, [`run_phase`] a closed loop of many sessions on one thread (or
//! an open one at a target rate), [`BenchReport`] its result. Latency is never taken from failed
//! operations, failures are never throughput, and nothing here knows what a cluster is. Source:
//! YCSB's core workload, whose names and defaults are kept; what is ours is called `distkv.*`.

mod arrivals;
mod choices;
mod cpu_time;
mod engine;
mod generator;
mod history;
mod interval_log;
mod keys;
mod measure;
mod merge;
mod offered;
mod phase;
mod plan;
mod properties;
mod record;
mod report;
mod stage;
mod staleness;
mod target;
mod timer_slack;
mod validity;
mod warmup;
mod workload;
mod workload_reader;

pub use choices::{
    Arrivals, InsertOrder, Interval, LengthDistribution, RecordFormat, RequestDistribution,
    ScanDistribution, UpdateMode,
};
pub use engine::run_phase;
pub use generator::{AcknowledgedCounter, KeyChooser, Length, ParetoLengths, TrueZipfian, Zipfian};
pub use history::{History, HistoryError};
pub use interval_log::{IntervalLogError, LogUnit, write_interval_log};
pub use keys::fnv_hash;
pub use measure::{KindPoint, Metric, SeriesPoint};
pub use merge::MergeError;
pub use offered::{OfferedError, OfferedLoad, RateStep};
pub use phase::{BenchError, PhaseConfig, Progress};
pub use plan::Phase;
pub use properties::{Origin, Properties, PropertiesError, Property};
pub use report::{
    BenchReport, ErrorCount, HistogramError, LatencySummary, MetricReport, PhaseReport,
    decode_histogram,
};
pub use staleness::{Ages, Watched};
pub use target::{MemoryTarget, Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
pub use warmup::{WarmupReport, warm_up_until_steady};
pub use workload::{
    CLIENTS_MAX, Proportions, VALUE_BYTES_MAX, Workload, WorkloadError, WorkloadWarning,
};
