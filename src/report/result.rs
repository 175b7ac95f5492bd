//! The result of one trial as JSON, published as `docs/result.schema.json`.
//!
//! A file is written whole or not at all (a temporary one renamed). Histograms are kept whole;
//! the percentiles beside them are derived.

pub use super::phase_parts::TimelineEvent;
use super::phase_parts::{Leadership, Probe, TimelineKind, is_zero};
use super::quantity;
use crate::experiment::trial::Trial;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the format; a reader refuses another one.
pub const SCHEMA_VERSION: u32 = 2;
/// Folder of a results directory with invalid results of trials that were run again.
pub const SET_ASIDE: &str = "invalid";

/// One trial, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialResult {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Hash of the trial's configuration.
    pub id: String,
    /// Experiment, repeat and configuration, seed included.
    pub trial: Trial,
    /// Where the numbers come from.
    pub provenance: Provenance,
    /// Load and run, in order.
    pub phases: Vec<PhaseResult>,
    /// Codec speeds, for a codec trial.
    pub codec: Option<CodecResult>,
    /// Why it does not count; empty when valid.
    pub invalid_reasons: Vec<String>,
    /// The experiment whose trial this is; none when it is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<String>,
}

/// Program, machine and time of a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the source, or `unknown` when the checkout is not any more what was built.
    pub commit: String,
    /// Had what was built uncommitted changes?
    pub dirty: bool,
    /// Digest of all source files that were built; missing in results of 2026.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// This crate and those whose speed matters.
    pub crate_versions: BTreeMap<String, String>,
    /// Compiler, when known at build.
    pub rustc: Option<String>,
    /// The other system's store that was measured, as its program says it; missing for our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_version: Option<String>,
    /// CPU model.
    pub cpu_model: String,
    /// Logical cores.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor, `unknown` in most virtual machines.
    pub governor: String,
    /// Device of the data directory.
    pub disk: String,
    /// File system of the data directory.
    pub file_system: String,
    /// Durability mode.
    pub durability: String,
    /// All nodes share one machine.
    pub shared_machine: bool,
    /// From the simulator: real protocol code, virtual network, disks and time.
    pub simulated: bool,
    /// RFC 3339, UTC.
    pub started_at: String,
}

/// One phase of a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseResult {
    /// `load` or `run`.
    pub name: String,
    /// Measured time.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that succeeded, per second.
    pub throughput_ops_per_s: f64,
    /// Bytes of values written by operations that succeeded.
    pub user_bytes_written: u64,
    /// Bytes of the values that are live at the end.
    pub live_user_bytes: u64,
    /// Operations that failed; never throughput.
    pub errors: u64,
    /// Operations with no answer in time; never throughput.
    pub timeouts: u64,
    /// Operations that were due and had found no session at the end; never throughput.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_started: u64,
    /// By kind: `put`, `get`, `scan`, `rmw`. Of an open loop from when operations were due, with the
    /// waits of those not started.
    pub latency: BTreeMap<String, LatencySummary>,
    /// Of an open loop: the same from when operations were sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_latency: BTreeMap<String, LatencySummary>,
    /// Requests that are parts of an operation, from their sending: `update_read`, `update_put`,
    /// `rmw_read`, `rmw_put`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub part_latency: BTreeMap<String, LatencySummary>,
    /// By kind: operations that failed or timed out, from their sending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_latency: BTreeMap<String, LatencySummary>,
    /// How late the generator was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<LatencySummary>,
    /// How keys were chosen: `uniform`, `zipfian`, `latest`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// What an update was: `put`, a whole record written blind, or `ycsb`, one field of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<String>,
    /// Who led when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_at_start: Option<Leadership>,
    /// Who led when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_at_end: Option<Leadership>,
    /// Every load that a search for a capacity offered, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<Probe>,
    /// What each process used in this phase (storage: at its end).
    pub nodes: Vec<NodeResources>,
    /// Its course in intervals, in order; empty when none was kept.
    pub timeline: Vec<TimelinePoint>,
    /// What was done to the cluster meanwhile, in order.
    pub events: Vec<TimelineEvent>,
    /// One value per event that was measured, by a name of [`super::quantity`].
    pub samples: BTreeMap<String, Vec<f64>>,
    /// Single numbers, by a name of [`super::quantity`].
    pub numbers: BTreeMap<String, f64>,
}

/// One interval of a phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelinePoint {
    /// Its start, since the phase's.
    pub at_ms: u64,
    /// Its length.
    pub interval_ms: u64,
    /// Operations that succeeded in it, by kind.
    pub operations: BTreeMap<String, u64>,
    /// Operations that failed or timed out in it.
    pub errors: u64,
    /// Median latency of all kinds, 0 when none succeeded.
    pub p50_us: u64,
    /// 99th percentile of all kinds, 0 when none succeeded.
    pub p99_us: u64,
    /// What else is known by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<String, TimelineKind>,
}

/// Latency of one kind of operation, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencySummary {
    /// Operations.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Least.
    pub min_us: u64,
    /// Greatest.
    pub max_us: u64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The whole histogram: HdrHistogram V2 in base64.
    pub histogram_v2_base64: String,
}

/// What one process used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeResources {
    /// `node`, `generator` or `store` (of another system).
    pub role: String,
    /// Node id; its number among its role for others.
    pub node: u32,
    /// Did it lead at the end of the phase?
    pub leader: bool,
    /// Round of the highest ballot that it promised by then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ballot_round: u64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Peak resident set so far.
    pub peak_rss_bytes: u64,
    /// Sent on the wire.
    pub bytes_sent: u64,
    /// Datagrams sent.
    #[serde(default)]
    pub datagrams_sent: u64,
    /// Turns of its loop: how often it woke to work.
    #[serde(default)]
    pub turns: u64,
    /// Received from the wire.
    pub bytes_received: u64,
    /// Sent again, part of `bytes_sent`.
    pub bytes_retransmitted: u64,
    /// Written to disk.
    pub bytes_written: u64,
    /// Syncs of the disk.
    pub syncs: u64,
    /// At rest: shards alone.
    pub payload_bytes: u64,
    /// At rest: records with headers and digests.
    pub record_bytes: u64,
    /// At rest: allocated on disk.
    pub allocated_bytes: u64,
    /// What else it counted, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
}

/// Speed of the code alone; GB is 10^9 bytes of payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodecResult {
    /// Payload bytes encoded per second.
    pub encode_gb_per_s: f64,
    /// Payload bytes decoded per second with m data shards lost (or all k, when m > k).
    pub decode_gb_per_s: f64,
    /// Encodings measured.
    pub encodes: u64,
    /// Decodings measured.
    pub decodes: u64,
}

/// A result file that cannot be used.
#[derive(Debug, Error)]
pub enum ResultError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not of this format.
    #[error("{path}: not a result of schema version {SCHEMA_VERSION}: {reason}; run it anew")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TrialResult {
    /// Does it count?
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.invalid_reasons.is_empty()
    }

    /// The phase of that name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseResult> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// The same result as the one of `trial`, which has the same parameters and repeat.
    #[must_use]
    pub fn shared_with(&self, trial: &Trial, id: String) -> Self {
        let shared_with =
            Some(self.shared_with.clone().unwrap_or_else(|| self.trial.experiment.clone()));
        Self { id, trial: trial.clone(), shared_with, ..self.clone() }
    }

    /// Writes `<dir>/<id>.json`, whole or not at all.
    ///
    /// # Errors
    /// [`ResultError::Io`] with the path.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, ResultError> {
        let path = dir.join(format!("{}.json", self.id));
        let text = serde_json::to_string_pretty(self).map_err(|error| ResultError::Format {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        write_atomically(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Reads one file.
    ///
    /// # Errors
    /// [`ResultError`] when it is not readable or of another format.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ResultError::Io { path: path.to_owned(), source })?;
        let format = |reason| ResultError::Format { path: path.to_owned(), reason };
        let result: Self =
            serde_json::from_str(&text).map_err(|error| format(error.to_string()))?;
        if result.schema_version != SCHEMA_VERSION {
            return Err(format(format!("it is of version {}", result.schema_version)));
        }
        Ok(result)
    }

    /// All results of a directory, by file name.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn read_all(dir: &Path) -> Result<Vec<Self>, ResultError> {
        let io = |source| ResultError::Io { path: dir.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io)? {
            paths.push(entry.map_err(io)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }
}

impl PhaseResult {
    /// The processes that store data: our nodes, or another system's.
    pub fn storing(&self) -> impl Iterator<Item = &NodeResources> {
        self.nodes.iter().filter(|process| process.role != quantity::GENERATOR)
    }

    /// Did one node lead throughout? Only then is anything the leader's alone.
    #[must_use]
    pub fn has_one_leader(&self) -> bool {
        self.leader_at_start == self.leader_at_end
    }
}

impl LatencySummary {
    /// Summary of a histogram of microseconds.
    ///
    /// # Errors
    /// When the histogram cannot be serialised.
    pub fn of(histogram: &Histogram<u64>) -> Result<Self, String> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(|error| format!("histogram: {error:?}"))?;
        Ok(Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            min_us: histogram.min(),
            max_us: histogram.max(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            histogram_v2_base64: STANDARD.encode(bytes),
        })
    }

    /// The whole histogram.
    ///
    /// # Errors
    /// When the text is not base64 of an HdrHistogram V2.
    pub fn histogram(&self) -> Result<Histogram<u64>, String> {
        let bytes = STANDARD
            .decode(&self.histogram_v2_base64)
            .map_err(|error| format!("histogram: {error}"))?;
        Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| format!("histogram: {error:?}"))
    }
}

/// Writes a file beside its name, syncs it and renames it into place.
///
/// # Errors
/// [`ResultError::Io`] with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ResultError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| ResultError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::experiment::trial::TrialConfig;
    use serde_json::Value;

    pub(crate) fn sample(
        experiment: &str,
        repeat: u32,
        config: TrialConfig,
        us: u64,
    ) -> TrialResult {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for index in 0..1000_u64 {
            histogram.record(us + us * index * index / 300_000).unwrap();
        }
        let code = config.parsed_code().unwrap();
        let live = config.value_bytes * config.records;
        let node = |node: u32| NodeResources {
            role: quantity::NODE.to_owned(),
            node,
            leader: node == 0,
            cpu_seconds: 0.4,
            bytes_sent: 1000 * config.value_bytes * u64::from(code.n()) / u64::from(code.k()),
            payload_bytes: live / u64::from(code.k()),
            record_bytes: live / u64::from(code.k()) + 150 * config.records,
            allocated_bytes: live / u64::from(code.k()) + 4096 * 16,
            counts: [("cache_hits".to_owned(), 7)].into(),
            ..NodeResources::default()
        };
        let phase = |name: &str| PhaseResult {
            name: name.to_owned(),
            seconds: 1.5,
            operations: 1000,
            throughput_ops_per_s: f64::from(config.clients) * 1e6 / us as f64,
            user_bytes_written: 1000 * config.value_bytes,
            live_user_bytes: live,
            latency: [("put".to_owned(), LatencySummary::of(&histogram).unwrap())].into(),
            nodes: (0..u32::from(config.nodes)).map(node).collect(),
            timeline: vec![TimelinePoint {
                interval_ms: 1000,
                operations: [("put".to_owned(), 700)].into(),
                p50_us: us,
                ..TimelinePoint::default()
            }],
            events: vec![TimelineEvent { at_ms: 500, name: "kill leader".to_owned() }],
            samples: [(quantity::FIRST_COMMIT_MS.to_owned(), vec![480.0, 510.0])].into(),
            numbers: [(quantity::LAG_P99_US.to_owned(), 20.0)].into(),
            ..PhaseResult::default()
        };
        let trial = Trial { experiment: experiment.to_owned(), repeat, config: config.clone() };
        TrialResult {
            schema_version: SCHEMA_VERSION,
            id: trial.id(),
            trial,
            provenance: Provenance::default(),
            phases: vec![phase("load"), phase("run")],
            codec: None,
            invalid_reasons: Vec::new(),
            shared_with: None,
        }
    }

    /// The keywords that our schema uses; anything else fails the test.
    fn check(schema: &Value, root: &Value, value: &Value, at: &str) {
        if let Some(reference) = schema.get("$ref") {
            let name = reference.as_str().unwrap().rsplit('/').next().unwrap();
            return check(&root["$defs"][name], root, value, at);
        }
        if let Some(options) = schema.get("anyOf") {
            if value.is_null() && options.as_array().unwrap().iter().any(|o| o["type"] == "null") {
                return;
            }
            return check(&options[0], root, value, at);
        }
        let is_type = match schema["type"].as_str().unwrap_or("any") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            other => panic!("{at}: type {other}"),
        };
        assert!(is_type, "{at}: {value} is no {}", schema["type"]);
        if let Some(object) = value.as_object() {
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                assert!(object.contains_key(name.as_str().unwrap()), "{at}: no {name}");
            }
            for (key, inner) in object {
                let known = schema.get("properties").and_then(|known| known.get(key));
                let inner_schema = known.unwrap_or(&schema["additionalProperties"]);
                assert!(inner_schema.is_object(), "{at}: {key} is not in the schema");
                check(inner_schema, root, inner, &format!("{at}.{key}"));
            }
        }
        for inner in value.as_array().into_iter().flatten() {
            check(&schema["items"], root, inner, at);
        }
    }

    #[test]
    fn a_sample_holds_to_the_published_schema() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/result.schema.json")).unwrap();
        let mut result = sample("E1", 0, TrialConfig::default(), 900);
        result.codec = Some(CodecResult::default());
        let run = &mut result.phases[1];
        let latency = run.latency.clone();
        (run.not_started, run.lag) = (3, Some(latency["put"].clone()));
        (run.service_latency, run.part_latency) = (latency.clone(), latency.clone());
        run.failed_latency = latency;
        (run.distribution, run.update) = (Some("zipfian".to_owned()), Some("ycsb".to_owned()));
        run.leader_at_start = Some(Leadership { node: 0, round: 1 });
        run.leader_at_end = Some(Leadership { node: 1, round: 2 });
        run.probes = vec![Probe::default()];
        run.nodes[0].ballot_round = 2;
        run.timeline[0].kinds = [("put".to_owned(), TimelineKind::default())].into();
        check(&schema, &schema, &serde_json::to_value(&result).unwrap(), "$");
        assert_eq!(schema["properties"]["schema_version"]["const"], SCHEMA_VERSION);
    }

    #[test]
    fn a_result_and_its_histogram_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let result = sample("E1", 0, TrialConfig::default(), 900);
        result.write(dir.path()).unwrap();
        let back = TrialResult::read_all(dir.path()).unwrap();
        assert_eq!(back, vec![result.clone()]);
        let put = &back[0].phases[1].latency["put"];
        assert_eq!(put.histogram().unwrap().value_at_quantile(0.99), put.p99_us);
    }
}
