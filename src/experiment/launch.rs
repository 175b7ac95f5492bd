//! Trials over real processes: a fresh cluster on loopback for each, loaded, warmed up, measured,
//! stopped.
//!
//! Nodes run this program's own executable; load and measurement come from this process, by the
//! bench engine over the client driver. The emulated network is between the nodes; clients are
//! beside the leader. Resources are differences of what the nodes report at a phase's two ends. No
//! process is left behind, whatever happens: the cluster is killed when it goes out of scope.

use super::codec;
use super::measured::{self, failed};
use super::simulated;
use super::trial::{
    CancelFlag, TrialConfig, TrialError, TrialKind, TrialLauncher, TrialOutcome, TrialTarget,
};
use crate::bench::{
    BenchError, Phase, PhaseConfig, PhaseReport, Properties, Target as _, Workload, run_phase,
};
use crate::client::{Client, ClusterTarget};
use crate::coding::{Backend, Coder};
use crate::config::{ClusterConfig, Member};
use crate::node::launcher::{LaunchError, LocalCluster, loopback_members};
use crate::node::process;
use crate::node::tables::{self, EmulatedNetwork};
use crate::report::result::PhaseResult;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The launcher cannot work.
#[derive(Debug, Error)]
pub enum LauncherError {
    /// This program's own path is not known.
    #[error("cannot find this program's own file, which the nodes are to run: {0}")]
    Executable(std::io::Error),
}

/// Runs trials as clusters of processes of one executable.
#[derive(Clone, Debug)]
pub struct ProcessLauncher {
    executable: PathBuf,
}

impl ProcessLauncher {
    /// Nodes run this very program.
    ///
    /// # Errors
    /// [`LauncherError`] when its file is not known.
    pub fn of_this_program() -> Result<Self, LauncherError> {
        let executable = std::env::current_exe().map_err(LauncherError::Executable)?;
        Ok(Self { executable })
    }

    /// Nodes run `executable`, a `distkv` program.
    #[must_use]
    pub const fn new(executable: PathBuf) -> Self {
        Self { executable }
    }
}

impl TrialLauncher for ProcessLauncher {
    fn run(
        &mut self,
        trial: &TrialConfig,
        dir: &Path,
        cancel: &CancelFlag,
    ) -> Result<TrialOutcome, TrialError> {
        if let Some(fault) = trial.fault() {
            return Err(TrialError::Failed(fault));
        }
        match trial.kind {
            TrialKind::Codec => measure_codec(trial, cancel),
            TrialKind::Cluster if trial.target == TrialTarget::Sim => {
                simulated::run(trial, &workload(trial)?, cancel)
            }
            TrialKind::Cluster => {
                let mut running = Running::start(&self.executable, trial, dir, cancel)?;
                running.measure()
            }
        }
    }
}

fn measure_codec(trial: &TrialConfig, cancel: &CancelFlag) -> Result<TrialOutcome, TrialError> {
    let backend: Backend = trial.backend.parse().map_err(failed)?;
    let code = trial.parsed_code().map_err(failed)?;
    codec::measure(&mut Coder::new(backend, code), trial, cancel)
}

/// A trial's cluster under way.
struct Running<'a> {
    trial: &'a TrialConfig,
    cancel: &'a CancelFlag,
    cluster: LocalCluster,
    target: ClusterTarget,
    invalid: Vec<String>,
}

impl<'a> Running<'a> {
    fn start(
        executable: &Path,
        trial: &'a TrialConfig,
        dir: &Path,
        cancel: &'a CancelFlag,
    ) -> Result<Self, TrialError> {
        let members = loopback_members(trial.nodes, None)?;
        let config = cluster_config(trial, members, process::random_u64() >> 16)?;
        let mut cluster = LocalCluster::start(executable, config, dir).map_err(failed)?;
        cluster.wait_for_leader(START_TIMEOUT).map_err(failed)?;
        let clients = usize::try_from(trial.clients.max(1)).map_err(failed)?;
        let mut target =
            ClusterTarget::new(cluster.cluster(), clients, OPERATION_TIMEOUT).map_err(failed)?;
        target.set_cancel(cancel.clone());
        Ok(Self { trial, cancel, cluster, target, invalid: Vec::new() })
    }

    fn measure(&mut self) -> Result<TrialOutcome, TrialError> {
        let mut phases = Vec::new();
        self.target.set_put_attempts(LOAD_ATTEMPTS);
        phases.push(self.measured("load", Phase::Load, &self.config(Duration::ZERO))?);
        self.target.set_put_attempts(1);
        if self.trial.overwrite_rounds > 0 {
            let operations = self.trial.records * u64::from(self.trial.overwrite_rounds);
            let config =
                PhaseConfig { operations: Some(operations), ..self.config(Duration::ZERO) };
            phases.push(self.measured("run", Phase::Run, &config)?);
        } else if self.trial.duration_ms > 0 {
            // Apart from the measured phase, so that what the nodes used while warming up is too.
            let warmup = Duration::from_millis(self.trial.warmup_ms);
            if !warmup.is_zero() {
                let config = PhaseConfig { seed: !self.trial.seed, ..self.config(warmup) };
                self.phase(Phase::Run, &config)?;
            }
            let config = self.config(Duration::from_millis(self.trial.duration_ms));
            phases.push(self.measured("run", Phase::Run, &config)?);
        }
        self.check_phases(&phases);
        for node in self.cluster.stop() {
            self.invalid.push(format!("{node} did not stop by itself"));
        }
        Ok(TrialOutcome { phases, codec: None, invalid: std::mem::take(&mut self.invalid) })
    }

    fn config(&self, duration: Duration) -> PhaseConfig {
        PhaseConfig {
            clients: usize::try_from(self.trial.clients.max(1)).unwrap_or(1),
            seed: self.trial.seed,
            duration: Some(duration).filter(|duration| !duration.is_zero()),
            ..PhaseConfig::default()
        }
    }

    /// Runs a phase, and what the nodes used for it.
    fn measured(
        &mut self,
        name: &str,
        phase: Phase,
        config: &PhaseConfig,
    ) -> Result<PhaseResult, TrialError> {
        let (before, own) = (self.cluster.reports().map_err(failed)?, process::usage(None));
        let report = self.phase(phase, config)?;
        let generator = measured::generator_resources(own, process::usage(None));
        self.settle()?;
        let after = self.cluster.reports().map_err(failed)?;
        let lag_bound_us = report
            .metrics
            .iter()
            .filter_map(|metric| metric.latency.as_ref())
            .fold(LAG_BOUND_US, |bound, latency| bound.max(latency.p50_us / 10.0));
        if name == "run" && report.lag.p99_us > lag_bound_us {
            self.invalid.push(format!(
                "the generator was late: p99 {:.0} us, more than {lag_bound_us:.0} us",
                report.lag.p99_us
            ));
        }
        let mut result = measured::phase_result(name, self.trial, &report)?;
        let nodes = after.values().map(|after| measured::node_resources(&before, after));
        result.nodes = nodes.chain([generator]).collect();
        Ok(result)
    }

    /// Waits until every node has applied what was chosen: what is at rest is all of it then.
    fn settle(&mut self) -> Result<(), TrialError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut client = Client::new(self.cluster.cluster(), STATUS_TIMEOUT).map_err(failed)?;
        while !self.cancel.is_cancelled() {
            let statuses = client.statuses().map_err(failed)?;
            let mut applied = statuses.iter().map(|(_, s)| s.as_ref().map(|s| s.applied));
            let first = applied.next().flatten();
            if first.is_some() && applied.all(|other| other == first) {
                break;
            }
            if Instant::now() >= deadline {
                let text = format!("nodes were apart {} s after a phase", SETTLE_TIMEOUT.as_secs());
                self.invalid.push(text);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, config: &PhaseConfig) -> Result<PhaseReport, TrialError> {
        if self.cancel.is_cancelled() {
            return Err(TrialError::Cancelled);
        }
        let workload = workload(self.trial)?;
        let run = run_phase(&mut self.target, &workload, phase, config, None, &mut |_| {});
        run.map_err(|error| self.explain(&error))
    }

    /// Why a phase broke off: on request, or because of a node that ended.
    fn explain(&mut self, error: &BenchError) -> TrialError {
        if self.cancel.is_cancelled() {
            return TrialError::Cancelled;
        }
        match self.cluster.check() {
            Err(ended) => failed(ended),
            Ok(()) => failed(error),
        }
    }

    /// What makes the trial not count.
    fn check_phases(&mut self, phases: &[PhaseResult]) {
        for phase in phases {
            let bad = phase.errors + phase.timeouts;
            if phase.name == "load" && bad > 0 {
                self.invalid.push(format!("{bad} of the records were not loaded"));
            }
            if phase.operations == 0 {
                self.invalid.push(format!("phase {} completed no operation", phase.name));
            }
        }
        if let Err(error) = self.cluster.check() {
            self.invalid.push(error.to_string());
        }
    }
}

impl From<LaunchError> for TrialError {
    fn from(error: LaunchError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The cluster that a trial asks for.
pub(super) fn cluster_config(
    trial: &TrialConfig,
    members: Vec<Member>,
    name: u64,
) -> Result<ClusterConfig, TrialError> {
    let policy = trial.policy.parse().map_err(failed)?;
    let code = trial.parsed_code().map_err(failed)?;
    let mut config = ClusterConfig::new(name, policy, code, members).map_err(failed)?;
    config.backend.clone_from(&trial.backend);
    config.durability.clone_from(&trial.durability);
    let network = EmulatedNetwork {
        loss_percent: trial.loss_percent,
        delay_ms: trial.delay_ms,
        rate_mbit: trial.rate_mbit,
        datagram_bytes: trial.datagram_bytes,
        seed: trial.seed,
    };
    network.write_to(&mut config);
    let segment_bytes = toml::Value::Integer(i64::from(trial.segment_bytes));
    let storage = toml::Table::from_iter([("segment_bytes".to_owned(), segment_bytes)]);
    config.tables.insert("storage".to_owned(), toml::Value::Table(storage));
    tables::check(&config).map_err(failed)?;
    Ok(config)
}

/// Raw values of the trial's size; keys uniform, or in order when every one is to be overwritten.
fn workload(trial: &TrialConfig) -> Result<Workload, TrialError> {
    let choice = if trial.overwrite_rounds > 0 { "sequential" } else { "uniform" };
    let text = format!(
        "recordcount={}\nfieldcount=1\nfieldlength={}\nreadproportion={}\nupdateproportion={}\n\
         requestdistribution={choice}\ndistkv.update=put\ndistkv.record=raw\n",
        trial.records.max(1),
        trial.value_bytes,
        trial.read_share,
        1.0 - trial.read_share,
    );
    let properties = Properties::parse("trial", &text).map_err(failed)?;
    Ok(Workload::from_properties(&properties).map_err(failed)?.0)
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const LOAD_ATTEMPTS: u32 = 3;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// How late the generator may start an operation (p99), when a tenth of the median latency is less.
const LAG_BOUND_US: f64 = 1000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trial_of_every_experiment_makes_a_cluster_and_a_workload() {
        for experiment in crate::experiment::Experiment::built_in().unwrap() {
            for trial in experiment.trials(1).unwrap() {
                if trial.config.kind == TrialKind::Cluster {
                    let members = loopback_members(trial.config.nodes, None).unwrap();
                    cluster_config(&trial.config, members, 7).unwrap();
                    let workload = workload(&trial.config).unwrap();
                    assert_eq!(workload.field_length, trial.config.value_bytes);
                }
            }
        }
    }
}
