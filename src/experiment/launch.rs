//! Runs trials: each on a bed of its own, by its kind.
//!
//! Nodes of real clusters run this program's own executable. The emulated network is between the
//! nodes; clients are beside them. What a plain trial does is in `plain.rs`.

use super::bed::Bed;
use super::codec;
use super::external::StoreBed;
use super::failover::{FailoverError, FailoverPlan, Kill, run_failover};
use super::measured::failed;
use super::plain;
use super::processes::ProcessBed;
use super::repair;
use super::simulated::SimulatedBed;
use super::trial::{
    CancelFlag, TrialConfig, TrialError, TrialKind, TrialLauncher, TrialOutcome, TrialTarget,
};
use crate::coding::{Backend, Coder};
use crate::config::{ClusterConfig, Member};
use crate::node::launcher::{LaunchError, loopback_members};
use crate::node::process;
use crate::node::tables::{self, EmulatedNetwork};
use crate::report::quantity;
use crate::report::result::PhaseResult;
use std::path::{Path, PathBuf};
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
            TrialKind::Failover => measure_failover(&self.executable, trial, dir, cancel),
            TrialKind::Rejoin | TrialKind::Replace => {
                repair::measure(&self.executable, trial, &dir.join("cluster"), cancel)
            }
            TrialKind::Cluster | TrialKind::Capacity => {
                let mut bed = self.bed(trial, dir, cancel)?;
                plain::run(&mut *bed, trial, cancel)
            }
        }
    }
}

impl ProcessLauncher {
    fn bed(
        &self,
        trial: &TrialConfig,
        dir: &Path,
        cancel: &CancelFlag,
    ) -> Result<Box<dyn Bed>, TrialError> {
        if let Some(kind) = trial.external_store() {
            let has_scans = trial.workload == "e";
            return Ok(Box::new(StoreBed::start(kind, trial, has_scans, dir, cancel)?));
        }
        Ok(match trial.target {
            TrialTarget::Sim => Box::new(SimulatedBed::start(trial, cancel)?),
            TrialTarget::Processes => {
                Box::new(ProcessBed::start(&self.executable, trial, dir, cancel)?)
            }
        })
    }
}

fn measure_failover(
    executable: &Path,
    trial: &TrialConfig,
    dir: &Path,
    cancel: &CancelFlag,
) -> Result<TrialOutcome, TrialError> {
    let config = loopback_config(trial)?;
    let plan = FailoverPlan {
        kills: usize::try_from(trial.kills).map_err(failed)?,
        value_bytes: usize::try_from(trial.value_bytes).map_err(failed)?,
        seed: trial.seed,
        nice: trial.nice,
    };
    // The cluster makes its own folder.
    let report = run_failover(executable, config, &dir.join("cluster"), plan, cancel, |_, _| {});
    let report = report.map_err(|error| match error {
        FailoverError::Cancelled => TrialError::Cancelled,
        FailoverError::Launch(_)
        | FailoverError::Driver(_)
        | FailoverError::Submit(_)
        | FailoverError::Stuck { .. } => failed(error),
    })?;
    let all = |of: fn(&Kill) -> f64| report.kills.iter().map(of).collect::<Vec<f64>>();
    let samples = [
        (quantity::NEW_LEADER_MS.to_owned(), all(|kill| kill.leader_ms)),
        (quantity::FIRST_COMMIT_MS.to_owned(), all(|kill| kill.commit_ms)),
        (quantity::FIRST_READ_MS.to_owned(), all(|kill| kill.read_ms)),
    ];
    let run = PhaseResult {
        name: "run".to_owned(),
        operations: report.kills.len() as u64,
        samples: samples.into(),
        ..PhaseResult::default()
    };
    Ok(TrialOutcome { phases: vec![run], ..TrialOutcome::default() })
}

fn measure_codec(trial: &TrialConfig, cancel: &CancelFlag) -> Result<TrialOutcome, TrialError> {
    let backend: Backend = trial.backend.parse().map_err(failed)?;
    let code = trial.parsed_code().map_err(failed)?;
    codec::measure(&mut Coder::new(backend, code), trial, cancel)
}

impl From<LaunchError> for TrialError {
    fn from(error: LaunchError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The cluster that a trial asks for, at free ports of loopback and under a name of its own.
pub(super) fn loopback_config(trial: &TrialConfig) -> Result<ClusterConfig, TrialError> {
    let members = loopback_members(trial.nodes, None)?;
    cluster_config(trial, members, process::random_u64() >> 16)
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
    if !trial.faults.is_empty() {
        tables::allow_netem_control(&mut config);
    }
    config.limits.cache_bytes = usize::try_from(trial.cache_bytes).map_err(failed)?;
    let segment_bytes = toml::Value::Integer(i64::from(trial.segment_bytes));
    let storage = toml::Table::from_iter([("segment_bytes".to_owned(), segment_bytes)]);
    config.tables.insert("storage".to_owned(), toml::Value::Table(storage));
    tables::check(&config).map_err(failed)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::loads::workload;

    #[test]
    fn every_trial_of_every_experiment_makes_a_cluster_and_a_workload() {
        for experiment in crate::experiment::Experiment::built_in().unwrap() {
            for trial in experiment.trials(1).unwrap() {
                let is_ours = trial.config.external_store().is_none();
                if matches!(trial.config.kind, TrialKind::Cluster | TrialKind::Capacity) && is_ours
                {
                    let members = loopback_members(trial.config.nodes, None).unwrap();
                    cluster_config(&trial.config, members, 7).unwrap();
                    let workload = workload(&trial.config).unwrap();
                    let fields = workload.field_count as u64 * workload.field_length;
                    assert_eq!(fields, trial.config.value_bytes);
                }
            }
        }
    }
}
