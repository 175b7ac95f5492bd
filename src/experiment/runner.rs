//! Runs the trials of experiments: in their order, resuming, stopping cleanly.
//!
//! Does not know how a trial runs. A valid result of the same id is reused; an invalid one is run
//! again; a trial that fails is kept, labelled with its reason.

use super::guard::{self, GuardError};
use super::progress::Progress;
use super::spec::{Experiment, SpecError};
use super::stores::StoreKind;
use super::trial::{CancelFlag, Trial, TrialError, TrialLauncher, TrialTarget};
use super::{TrialOutcome, provenance};
use crate::report::result::{Provenance, ResultError, SCHEMA_VERSION, SET_ASIDE, TrialResult};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How many trials were run, reused, and of those run, invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTally {
    /// Run now.
    pub run: usize,
    /// Valid results found.
    pub reused: usize,
    /// Had by another experiment of the same run.
    pub shared: usize,
    /// Of those run, how many do not count.
    pub invalid: usize,
    /// Not run, as what they need is not there.
    pub skipped: usize,
    /// Stopped before the end?
    pub cancelled: bool,
}

/// The run cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// An experiment is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A result cannot be written.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// Another run is under way, or the disk is too small.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A directory cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The trials of all experiments, experiment after experiment.
///
/// # Errors
/// [`SpecError`] when one does not expand.
pub fn plan(experiments: &[Experiment], seed: u64) -> Result<Vec<Trial>, SpecError> {
    let mut trials = Vec::new();
    for experiment in experiments {
        trials.extend(experiment.trials(seed)?);
    }
    Ok(trials)
}

/// Sum of the expected times.
#[must_use]
pub fn estimated_time(trials: &[Trial]) -> Duration {
    trials.iter().map(|trial| trial.config.estimated_time()).sum()
}

/// The time of it that they measure: without start-up, load and warm-up.
#[must_use]
pub fn measuring_time(trials: &[Trial]) -> Duration {
    trials.iter().map(|trial| trial.config.measuring_time()).sum()
}

/// Runs `trials` with results under `<out>/trials` and their work files under `<out>/work`; the caller
/// has this machine for itself ([`super::guard::alone`]). A trial that another experiment of this run
/// has had, parameters and repeat alike, is not run again: its result is there for both.
///
/// # Errors
/// [`RunError`] when the disk is too small, or a result cannot be written; a
/// failed trial is no error.
pub fn run(
    trials: &[Trial],
    launcher: &mut dyn TrialLauncher,
    out: &Path,
    cancel: &CancelFlag,
) -> Result<RunTally, RunError> {
    let results_dir = out.join("trials");
    make_dir(&results_dir)?;
    guard::check_space(out, trials)?;
    let machine = provenance::collect(out);
    let mut had: BTreeMap<String, TrialResult> = BTreeMap::new();
    let mut progress = Progress::new(trials);
    let mut tally = RunTally::default();
    for (index, trial) in trials.iter().enumerate() {
        if cancel.is_cancelled() {
            tally.cancelled = true;
            break;
        }
        let id = trial.id();
        let file = results_dir.join(format!("{id}.json"));
        let mut is_invalid = false;
        match TrialResult::read(&file) {
            Ok(result) if result.id == id && result.is_valid() => {
                had.entry(trial.content()).or_insert(result);
                tally.reused += 1;
                progress.advance(index, trial, "reused");
                continue;
            }
            Ok(result) => is_invalid = result.id == id,
            Err(_) => {}
        }
        if let Some(other) = had.get(&trial.content()) {
            if is_invalid {
                set_aside(&file, out, &id)?;
            }
            other.shared_with(trial, id).write(&results_dir)?;
            tally.shared += 1;
            progress.advance(index, trial, &format!("as in {}", other.trial.experiment));
            continue;
        }
        let result = match run_one(trial, id.clone(), launcher, out, &machine, cancel)? {
            Ran::Result(result) => result,
            Ran::Skipped(note) => {
                tally.skipped += 1;
                progress.advance(index, trial, &note);
                continue;
            }
            Ran::Cancelled => {
                tally.cancelled = true;
                break;
            }
        };
        if is_invalid {
            set_aside(&file, out, &id)?;
        }
        result.write(&results_dir)?;
        tally.run += 1;
        tally.invalid += usize::from(!result.is_valid());
        if result.is_valid() {
            had.insert(trial.content(), (*result).clone());
        }
        progress.advance(index, trial, &outcome_text(&result));
    }
    progress.finish();
    Ok(tally)
}

/// Keeps the result of an invalid trial that is run again: what was tried until it went well is part
/// of what was found.
fn set_aside(file: &Path, out: &Path, id: &str) -> Result<(), RunError> {
    let dir = out.join(SET_ASIDE);
    make_dir(&dir)?;
    let mut names = (1..).map(|number: u32| dir.join(format!("{id}-{number}.json")));
    let Some(kept) = names.find(|path| !path.exists()) else { return Ok(()) };
    std::fs::rename(file, &kept).map_err(|source| RunError::Io { path: kept, source })
}

/// How one trial ended.
enum Ran {
    Result(Box<TrialResult>),
    Skipped(String),
    Cancelled,
}

/// One trial in a fresh directory.
fn run_one(
    trial: &Trial,
    id: String,
    launcher: &mut dyn TrialLauncher,
    out: &Path,
    machine: &Provenance,
    cancel: &CancelFlag,
) -> Result<Ran, RunError> {
    let dir = out.join("work").join(&id);
    remove_dir(&dir)?;
    make_dir(&dir)?;
    let started_at = provenance::now_rfc3339();
    let outcome = match launcher.run(&trial.config, &dir, cancel) {
        Ok(outcome) => outcome,
        Err(TrialError::Cancelled) => {
            remove_dir(&dir)?;
            return Ok(Ran::Cancelled);
        }
        Err(TrialError::Skipped(note)) => {
            remove_dir(&dir)?;
            return Ok(Ran::Skipped(note));
        }
        Err(TrialError::Failed(reason)) => {
            TrialOutcome { invalid: vec![reason], ..TrialOutcome::default() }
        }
    };
    // The files of a trial that failed are what explains it: they stay.
    if outcome.invalid.is_empty() {
        remove_dir(&dir)?;
    }
    let provenance = Provenance {
        durability: trial.config.durability.clone(),
        simulated: trial.config.target == TrialTarget::Sim,
        store_version: trial.config.external_store().and_then(StoreKind::version),
        started_at,
        ..machine.clone()
    };
    Ok(Ran::Result(Box::new(TrialResult {
        schema_version: SCHEMA_VERSION,
        id,
        trial: trial.clone(),
        provenance,
        phases: outcome.phases,
        codec: outcome.codec,
        invalid_reasons: outcome.invalid,
        shared_with: None,
    })))
}

fn outcome_text(result: &TrialResult) -> String {
    match result.invalid_reasons.first() {
        Some(reason) => format!("invalid: {reason}"),
        None => match (result.phase("run"), &result.codec) {
            (Some(run), _) => format!("{:.0} op/s", run.throughput_ops_per_s),
            (None, Some(codec)) => format!("encode {:.2} GB/s", codec.encode_gb_per_s),
            (None, None) => "done".to_owned(),
        },
    }
}

fn make_dir(dir: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(dir).map_err(|source| RunError::Io { path: dir.to_owned(), source })
}

fn remove_dir(dir: &Path) -> Result<(), RunError> {
    match std::fs::remove_dir_all(dir) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::Io { path: dir.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::TrialConfig;
    use crate::report::result::tests::sample;

    #[derive(Default)]
    struct Fake {
        runs: usize,
        cancel_at: Option<usize>,
        fail_at: Option<usize>,
    }

    impl TrialLauncher for Fake {
        fn run(
            &mut self,
            trial: &TrialConfig,
            dir: &Path,
            cancel: &CancelFlag,
        ) -> Result<TrialOutcome, TrialError> {
            assert!(dir.is_dir());
            self.runs += 1;
            if self.cancel_at == Some(self.runs) {
                cancel.cancel();
                return Err(TrialError::Cancelled);
            }
            if self.fail_at == Some(self.runs) {
                return Err(TrialError::Failed("no leader".to_owned()));
            }
            let phases = sample("E1", 0, trial.clone(), 900).phases;
            Ok(TrialOutcome { phases, ..TrialOutcome::default() })
        }
    }

    fn trials() -> Vec<Trial> {
        let mut experiment = Experiment::built_in().unwrap().remove(0);
        experiment.set("value_bytes=4096").unwrap();
        experiment.set("repeats=2").unwrap();
        plan(&[experiment], 1).unwrap()
    }

    #[test]
    fn an_interrupted_run_resumes_and_runs_each_trial_once() {
        let out = tempfile::tempdir().unwrap();
        let trials = trials();
        let mut first = Fake { cancel_at: Some(4), ..Fake::default() };
        let tally = run(&trials, &mut first, out.path(), &CancelFlag::default()).unwrap();
        assert_eq!((tally.run, tally.cancelled), (3, true));
        let mut second = Fake::default();
        let tally = run(&trials, &mut second, out.path(), &CancelFlag::default()).unwrap();
        assert_eq!((tally.reused, tally.run), (3, trials.len() - 3));
        assert_eq!(second.runs, trials.len() - 3);
    }

    #[test]
    fn a_failed_trial_is_kept_with_its_reason_and_run_again_next_time() {
        let out = tempfile::tempdir().unwrap();
        let trials = trials();
        let mut fake = Fake { fail_at: Some(2), ..Fake::default() };
        let tally = run(&trials, &mut fake, out.path(), &CancelFlag::default()).unwrap();
        assert_eq!((tally.run, tally.invalid), (trials.len(), 1));
        let results = TrialResult::read_all(&out.path().join("trials")).unwrap();
        let invalid: Vec<_> = results.iter().filter(|result| !result.is_valid()).collect();
        assert_eq!(invalid[0].invalid_reasons, ["no leader"]);
        let tally = run(&trials, &mut fake, out.path(), &CancelFlag::default()).unwrap();
        assert_eq!((tally.run, tally.invalid), (1, 0));
        let set_aside = TrialResult::read_all(&out.path().join(SET_ASIDE)).unwrap();
        assert_eq!(set_aside.len(), 1);
        assert_eq!(set_aside[0].invalid_reasons, ["no leader"]);
    }
}
