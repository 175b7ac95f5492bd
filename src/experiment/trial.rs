//! One trial: everything that decides how it runs, and the trait that something able to run it has.
//!
//! Does not start processes. A trial is addressed by the hash of its canonical JSON, so that an
//! interrupted run resumes and a changed one runs anew.

use super::calibrate::Calibration;
use super::capacity::PROBES_EXPECTED;
use super::faults::{FaultAction, FaultStep};
use super::loads::{self, YCSB_VALUE_BYTES};
use super::stores::StoreKind;
use crate::report::result::{CodecResult, PhaseResult};
use crate::sim::timed::Costs;
use crate::types::{Code, CodeError, ReadMode};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;

/// Our own store's name in experiment files.
pub const DISTKV: &str = "distkv";

/// What a trial measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialKind {
    /// A fresh cluster of processes under load.
    #[default]
    Cluster,
    /// The erasure code alone, in this process.
    Codec,
    /// Leaders of a fresh cluster killed one after the other (E9).
    Failover,
    /// The highest offered load of a fresh cluster that holds a latency objective (E11).
    Capacity,
    /// Followers of a fresh cluster that come back after everything was overwritten (E10).
    Rejoin,
    /// Followers of a fresh cluster that are lost, each with a new node in its place (E10).
    Replace,
}

/// What a trial runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrialTarget {
    /// Real processes on this machine.
    #[default]
    Processes,
    /// A cluster in virtual time; its results are marked as simulated.
    Sim,
}

/// Where a simulated trial's nodes run; real ones share this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementKind {
    /// All on one machine, as real trials are: what a simulation is validated with.
    #[default]
    Shared,
    /// Each on a machine of its own.
    Apart,
}

/// Whom clients reach while nodes are partitioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientSide {
    /// Every node: they stand beside the network between nodes.
    #[default]
    Both,
    /// The nodes of the smaller side alone.
    Minority,
    /// The nodes of the larger side alone.
    Majority,
}

/// Every parameter of a trial. Keys of the experiment files are these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrialConfig {
    /// What is measured.
    pub kind: TrialKind,
    /// Nodes of the cluster.
    pub nodes: u8,
    /// Code as `K+M`; replication is `1+(nodes-1)`.
    pub code: String,
    /// Replication policy by name.
    pub policy: String,
    /// Erasure-coding backend by name.
    pub backend: String,
    /// Durability mode by name.
    pub durability: String,
    /// Bytes of a value, or of one shard when `kind` is `codec`.
    pub value_bytes: u64,
    /// Records loaded before the run.
    pub records: u64,
    /// Closed-loop clients.
    pub clients: u32,
    /// Share of reads, 0 to 1; the rest are puts of whole records.
    pub read_share: f64,
    /// What reads promise.
    pub read_mode: ReadMode,
    /// Keys of raw loads: `uniform`, `zipfian` (YCSB's) or `zipfian-true`. Of a YCSB workload what its
    /// file says.
    pub distribution: String,
    /// A YCSB core workload by its letter, `a` to `f`; empty for raw values of `value_bytes`.
    pub workload: String,
    /// Operations per second of an open loop with Poisson arrivals; 0 is a closed loop. In a trial
    /// of kind `capacity`, the load from which the search begins.
    pub offered_ops_per_s: f64,
    /// Latency from due time, in milliseconds, that 99 of 100 operations must hold in a trial of kind
    /// `capacity`.
    pub p99_objective_ms: f64,
    /// Leaders killed in a trial of kind `failover`; followers in one of kind `rejoin` or `replace`.
    pub kills: u32,
    /// Followers killed between load and run.
    pub failed_nodes: u8,
    /// Recent values that a node keeps in memory, in bytes.
    pub cache_bytes: u64,
    /// The store: `distkv`, or `etcd` or `redis` where they are installed.
    pub store: String,
    /// Length of an interval of the time line, in milliseconds.
    pub interval_ms: u64,
    /// Tells trials apart that are equal otherwise.
    pub label: String,
    /// What happens during the run.
    pub faults: Vec<FaultStep>,
    /// Whom clients reach during `partition` faults.
    pub client_side: ClientSide,
    /// Times that every record is overwritten in order instead of a timed run; 0 is a timed run.
    pub overwrite_rounds: u32,
    /// Datagrams lost, in percent, on every link.
    pub loss_percent: f64,
    /// One-way delay added to every link, in milliseconds.
    pub delay_ms: f64,
    /// Egress of each node, in Mbit/s; 0 is no limit.
    pub rate_mbit: f64,
    /// Largest datagram in bytes.
    pub datagram_bytes: u32,
    /// Length of a log segment, which is preallocated, in bytes.
    pub segment_bytes: u32,
    /// Niceness of the store's processes, 0 to 19, so that the generator beside them is not late.
    #[serde(skip_serializing_if = "is_zero")]
    pub nice: u8,
    /// Warm-up before measuring, in milliseconds.
    pub warmup_ms: u64,
    /// Measured time, in milliseconds.
    pub duration_ms: u64,
    /// Seed of the workload and of the emulated network.
    pub seed: u64,
    /// What it runs on.
    pub target: TrialTarget,
    /// Where a simulated trial's nodes run.
    pub placement: PlacementKind,
    /// What things cost in a simulated trial; none in a real one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
}

/// Left out, so that a configuration without it is addressed as before there was one.
#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(nice: &u8) -> bool {
    *nice == 0
}

impl Default for TrialConfig {
    fn default() -> Self {
        Self {
            kind: TrialKind::Cluster,
            nodes: 5,
            code: "3+2".to_owned(),
            policy: "craft".to_owned(),
            backend: crate::coding::Backend::default().to_string(),
            durability: "sync".to_owned(),
            value_bytes: 4096,
            records: 100,
            clients: 8,
            read_share: 0.0,
            read_mode: ReadMode::Linearizable,
            distribution: "uniform".to_owned(),
            workload: String::new(),
            offered_ops_per_s: 0.0,
            p99_objective_ms: 100.0,
            kills: 3,
            failed_nodes: 0,
            cache_bytes: crate::config::Limits::default().cache_bytes as u64,
            store: DISTKV.to_owned(),
            interval_ms: 1000,
            label: String::new(),
            faults: Vec::new(),
            client_side: ClientSide::Both,
            overwrite_rounds: 0,
            loss_percent: 0.0,
            delay_ms: 0.0,
            rate_mbit: 0.0,
            datagram_bytes: 8160,
            segment_bytes: 64 << 20,
            nice: 0,
            warmup_ms: 300,
            duration_ms: 1500,
            seed: 0,
            target: TrialTarget::Processes,
            placement: PlacementKind::Shared,
            costs: None,
        }
    }
}

impl TrialConfig {
    /// The code, parsed.
    ///
    /// # Errors
    /// When `code` is not `K+M` with 1 <= K and K + M <= 32.
    pub fn parsed_code(&self) -> Result<Code, CodeError> {
        self.code.parse()
    }

    /// The sizes that values get while it runs.
    pub(super) fn sizes(&self) -> impl Iterator<Item = u32> {
        let actions = self.faults.iter().filter_map(|step| step.action.parse().ok());
        actions.filter_map(
            |action| {
                if let FaultAction::Size(bytes) = action { Some(bytes) } else { None }
            },
        )
    }

    /// Writes replication as the code it is, so that equal trials have equal configurations.
    pub fn normalise(&mut self) {
        if self.target == TrialTarget::Processes {
            (self.placement, self.costs) = (PlacementKind::Shared, None);
        } else {
            // Nobody competes for virtual time.
            self.nice = 0;
            let built_in = || Calibration::built_in().map(|built_in| built_in.costs);
            self.costs = self.costs.take().or_else(built_in);
        }
        if !self.workload.is_empty() {
            (self.value_bytes, self.read_share) = (YCSB_VALUE_BYTES, 0.0);
            // Its file says how keys are chosen.
            let known = loads::distribution_of(&self.workload);
            self.distribution = known.unwrap_or_else(|| self.distribution.clone());
        }
        if self.store != DISTKV {
            // Of another store these say nothing.
            let blank = Self::default();
            (self.policy, self.cache_bytes) = (self.store.clone(), blank.cache_bytes);
            self.code = format!("1+{}", self.nodes.saturating_sub(1));
        }
        if self.policy == "replicate" && self.kind != TrialKind::Codec {
            self.code = format!("1+{}", self.nodes.saturating_sub(1));
        }
    }

    /// What is wrong with the parameters together, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let code = match self.parsed_code() {
            Ok(code) => code,
            Err(error) => return Some(error.to_string()),
        };
        if self.kind != TrialKind::Codec && code.n() != self.nodes {
            return Some(format!("code {} has {} shards, nodes is {}", code, code.n(), self.nodes));
        }
        if !(0.0..=1.0).contains(&self.read_share) {
            return Some(format!("read_share {} is not in 0..=1", self.read_share));
        }
        if !(0.0..=100.0).contains(&self.loss_percent) {
            return Some(format!("loss_percent {} is not in 0..=100", self.loss_percent));
        }
        if self.nice > 19 {
            return Some(format!("nice {} is not in 0..=19", self.nice));
        }
        if !self.workload.is_empty() && !loads::is_known(&self.workload) {
            return Some(format!("workload '{}' is none of a, b, c, d, e, f", self.workload));
        }
        let is_raw = self.workload.is_empty();
        let known = ["uniform", "zipfian", "zipfian-true"];
        if is_raw && !known.contains(&self.distribution.as_str()) {
            let known = "uniform, zipfian, zipfian-true";
            return Some(format!("distribution '{}' is none of {known}", self.distribution));
        }
        if let Some(Err(error)) =
            self.faults.iter().map(|step| step.action.parse::<FaultAction>()).find(Result::is_err)
        {
            return Some(format!("faults: {error}"));
        }
        if self.sizes().any(|bytes| u64::from(bytes) > self.value_bytes) {
            return Some("faults: size above value_bytes, from which values are cut".to_owned());
        }
        if let Some(fault) = self.store_fault() {
            return Some(fault);
        }
        let of_kind = self.capacity_fault().or_else(|| self.repair_fault());
        if let Some(fault) = of_kind.or_else(|| self.simulation_fault()) {
            return Some(fault);
        }
        if self.interval_ms == 0 || self.offered_ops_per_s < 0.0 {
            return Some("interval_ms must not be 0, offered_ops_per_s not negative".to_owned());
        }
        if self.rate_mbit < 0.0 || self.delay_ms < 0.0 || self.value_bytes == 0 {
            return Some("rate_mbit and delay_ms must not be negative, value_bytes not 0".into());
        }
        None
    }

    /// What a search for a capacity cannot do.
    fn capacity_fault(&self) -> Option<String> {
        if self.kind != TrialKind::Capacity {
            return None;
        }
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        if !is_positive(self.offered_ops_per_s) || !is_positive(self.p99_objective_ms) {
            let keys = "offered_ops_per_s (from which the search begins) and p99_objective_ms";
            return Some(format!("kind capacity: {keys} must be above 0"));
        }
        (self.duration_ms == 0 || self.overwrite_rounds > 0 || !self.faults.is_empty()).then(|| {
            "kind capacity: duration_ms must not be 0, and no faults or overwrite_rounds".to_owned()
        })
    }

    /// What a trial of nodes that are killed and come again cannot be.
    fn repair_fault(&self) -> Option<String> {
        if !matches!(self.kind, TrialKind::Rejoin | TrialKind::Replace) {
            return None;
        }
        if self.store != DISTKV || self.nodes < 3 {
            return Some("kinds rejoin and replace: 3 or more nodes of distkv".to_owned());
        }
        let ids = u32::from(self.nodes) + self.kills;
        let is_possible = self.kills > 0 && self.records > 0 && ids <= 32;
        (!is_possible).then(|| {
            "kinds rejoin and replace: kills and records above 0, nodes and kills at most 32".into()
        })
    }

    /// What is measured on this machine alone would be real numbers marked as simulated.
    fn simulation_fault(&self) -> Option<String> {
        let is_simulated = match self.kind {
            TrialKind::Cluster | TrialKind::Capacity => true,
            TrialKind::Codec | TrialKind::Failover | TrialKind::Rejoin | TrialKind::Replace => {
                false
            }
        };
        (self.target == TrialTarget::Sim && !is_simulated).then(|| {
            "kinds codec, failover, rejoin and replace are not simulated: leave target out, or \
             choose others with --only"
                .to_owned()
        })
    }

    /// What of another store, or of virtual time, cannot be.
    fn store_fault(&self) -> Option<String> {
        if self.store == DISTKV {
            return None;
        }
        if self.external_store().is_none() {
            return Some(format!("store '{}' is none of distkv, etcd, redis", self.store));
        }
        let is_plain = self.faults.is_empty() && self.failed_nodes == 0;
        let has_network = self.loss_percent > 0.0 || self.delay_ms > 0.0 || self.rate_mbit > 0.0;
        (!is_plain || has_network || self.target == TrialTarget::Sim)
            .then(|| format!("store '{}': no faults, emulated network or virtual time", self.store))
    }

    /// The other system's store that is measured, if any.
    #[must_use]
    pub fn external_store(&self) -> Option<StoreKind> {
        [StoreKind::Etcd, StoreKind::Redis].into_iter().find(|kind| kind.name() == self.store)
    }

    /// Space that the trial takes on disk at most, roughly: two segments of each node, and what is
    /// loaded and overwritten, three times for what is not yet reclaimed.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        if self.kind == TrialKind::Codec || self.target == TrialTarget::Sim {
            return 0;
        }
        let code = self.parsed_code().ok();
        let overhead = code.map_or(1.0, |code| f64::from(code.n()) / f64::from(code.k()));
        let data = self.records as f64 * self.value_bytes as f64 * overhead * 3.0;
        let segments = 2.0 * f64::from(self.segment_bytes) * f64::from(self.nodes);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let bytes = (data + segments) as u64;
        bytes
    }

    /// After which an operation fails. Soon, where clients stand on one side of a partition: what
    /// cannot be answered there is to be seen as an error.
    #[must_use]
    pub const fn operation_timeout(&self) -> Duration {
        match self.client_side {
            ClientSide::Both => OPERATION_TIMEOUT,
            ClientSide::Minority | ClientSide::Majority => Duration::from_secs(1),
        }
    }

    /// Expected time of it in which what the trial is for is measured.
    #[must_use]
    pub fn measuring_time(&self) -> Duration {
        let all = self.estimated_time();
        let duration = Duration::from_millis(self.duration_ms);
        match (self.target, self.kind) {
            (TrialTarget::Sim, _) | (_, TrialKind::Codec) => all,
            // Its load is not.
            (_, TrialKind::Cluster) if self.overwrite_rounds > 0 => {
                let rounds = f64::from(self.overwrite_rounds);
                all.saturating_sub(START_TIME).mul_f64(rounds / (rounds + 1.0))
            }
            (_, TrialKind::Cluster) => duration,
            (_, TrialKind::Capacity) => duration * PROBES_EXPECTED * 3 / 2,
            (_, TrialKind::Failover | TrialKind::Rejoin | TrialKind::Replace) => {
                all.saturating_sub(START_TIME)
            }
        }
    }

    /// Expected time of the trial: start-up and stop, load, warm-up and measurement.
    #[must_use]
    pub fn estimated_time(&self) -> Duration {
        if self.target == TrialTarget::Sim {
            return SIMULATED_TIME;
        }
        // Whole values to each of the nodes: 40 MB/s on a shared disk, or what the link lets through.
        let wire_bytes = self.records as f64 * self.value_bytes as f64 * f64::from(self.nodes);
        let link = if self.rate_mbit > 0.0 { self.rate_mbit * 125_000.0 } else { f64::MAX };
        let writing =
            |rounds: u32| Duration::from_secs_f64(f64::from(rounds) * wire_bytes / link.min(40e6));
        let duration = Duration::from_millis(self.duration_ms);
        let loaded = START_TIME + writing(1 + self.overwrite_rounds);
        let warm = loaded + Duration::from_millis(self.warmup_ms);
        match self.kind {
            TrialKind::Cluster if self.overwrite_rounds > 0 => loaded,
            TrialKind::Cluster => warm + duration,
            TrialKind::Capacity => warm + (duration + PROBE_TIME) * PROBES_EXPECTED * 3 / 2,
            TrialKind::Codec => duration * 2,
            TrialKind::Failover => START_TIME + KILL_TIME * self.kills,
            TrialKind::Rejoin | TrialKind::Replace => START_TIME + writing(1 + 2 * self.kills),
        }
    }
}

/// Of a cluster, and its stop.
const START_TIME: Duration = Duration::from_secs(1);
/// Usually.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// From a kill until the node is level again and the next pause is over.
const KILL_TIME: Duration = Duration::from_millis(1800);
/// What is still under way when a probe for a capacity ends, and until the nodes are level.
const PROBE_TIME: Duration = Duration::from_millis(300);
/// Virtual time costs some real one; how much depends on what happens in it.
const SIMULATED_TIME: Duration = Duration::from_secs(1);

/// A trial's place in its experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Experiment it belongs to.
    pub experiment: String,
    /// 0-based repeat; trials of one repeat are paired.
    pub repeat: u32,
    /// Its parameters.
    pub config: TrialConfig,
}

impl Trial {
    /// What decides the result: parameters and repeat, in whichever experiment.
    #[must_use]
    pub fn content(&self) -> String {
        serde_json::json!({ "repeat": self.repeat, "config": self.config }).to_string()
    }

    /// XXH3-128 of the canonical JSON (keys sorted, no spaces) in 32 hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        let value = serde_json::json!({
            "schema_version": crate::report::result::SCHEMA_VERSION,
            "experiment": self.experiment,
            "repeat": self.repeat,
            "config": self.config,
        });
        // serde_json's map is a BTreeMap here (no preserve_order), hence the keys are sorted.
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(value.to_string().as_bytes()))
    }
}

/// Set once to stop between and inside trials.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks for a stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Has a stop been asked for?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a trial measured.
#[derive(Clone, Debug, Default)]
pub struct TrialOutcome {
    /// Load and run, in order.
    pub phases: Vec<PhaseResult>,
    /// Codec speeds, for a codec trial.
    pub codec: Option<CodecResult>,
    /// Why it does not count; empty when valid.
    pub invalid: Vec<String>,
}

/// Why a trial gave nothing.
#[derive(Debug, Error)]
pub enum TrialError {
    /// Stopped on request.
    #[error("stopped on request")]
    Cancelled,
    /// What it needs is not there; no result is kept.
    #[error("{0}")]
    Skipped(String),
    /// It could not be run; kept as an invalid result with this reason.
    #[error("{0}")]
    Failed(String),
}

/// Something that runs a trial: the process launcher, or a fake one in tests.
pub trait TrialLauncher {
    /// Runs `trial` with its files under `dir`, and leaves no process behind whatever happens.
    ///
    /// # Errors
    /// [`TrialError::Cancelled`] soon after `cancel` is set, [`TrialError::Failed`] otherwise.
    fn run(
        &mut self,
        trial: &TrialConfig,
        dir: &Path,
        cancel: &CancelFlag,
    ) -> Result<TrialOutcome, TrialError>;
}
