//! The results of a run, for whatever is made of them: figures, claims.

use super::overrides::{Overrides, OverridesError};
use crate::experiment::spec::{Experiment, PROFILES, SpecError, seedless};
use crate::report::result::{ResultError, SET_ASIDE, TrialResult};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Results that are not there, or cannot be read.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// There are none.
    #[error("{0}: no results; run 'distkv reproduce --out DIR' first or give --results DIR")]
    Empty(PathBuf),
    /// An experiment is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// One cannot be read.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// What was set for them.
    #[error(transparent)]
    Overrides(#[from] OverridesError),
}

/// What figures and claims are made of.
pub(crate) struct Drawn {
    /// As they were run.
    pub(crate) experiments: Vec<Experiment>,
    /// What was set.
    pub(crate) overrides: Overrides,
    /// All trials that count, valid or not.
    pub(crate) results: Vec<TrialResult>,
    /// Invalid ones that were run again.
    pub(crate) set_aside: Vec<TrialResult>,
}

/// Reads the results under `dir` of the experiments in `experiments_dir`. Only what `is_wanted`
/// counts.
///
/// # Errors
/// [`ResultsError`] when there are none, or something cannot be read.
pub(crate) fn read(
    dir: &Path,
    experiments_dir: &Path,
    is_wanted: impl Fn(&TrialResult) -> bool,
) -> Result<Drawn, ResultsError> {
    let trials = dir.join("trials");
    if !trials.is_dir() {
        return Err(ResultsError::Empty(dir.to_owned()));
    }
    let mut results = TrialResult::read_all(&trials)?;
    results.retain(&is_wanted);
    if results.is_empty() {
        return Err(ResultsError::Empty(dir.to_owned()));
    }
    let mut experiments = Experiment::all_in(experiments_dir)?;
    let overrides = Overrides::read(dir)?;
    overrides.let_follow(&mut experiments);
    leave_stale(&experiments, &mut results);
    let invalid = dir.join(SET_ASIDE);
    let mut set_aside =
        if invalid.is_dir() { TrialResult::read_all(&invalid)? } else { Vec::new() };
    set_aside.retain(is_wanted);
    Ok(Drawn { experiments, overrides, results, set_aside })
}

/// Leaves out trials of other parameters than their experiment's file has by now, where it has some of
/// its own: it was changed since, and they would be drawn into the same points.
fn leave_stale(experiments: &[Experiment], results: &mut Vec<TrialResult>) {
    for experiment in experiments {
        let known: BTreeSet<String> =
            PROFILES.iter().flat_map(|name| experiment.points_under(name)).collect();
        let is_own = |result: &TrialResult| result.trial.experiment == experiment.id;
        let is_known = |result: &TrialResult| known.contains(&seedless(&result.trial.config));
        if results.iter().any(|result| is_own(result) && is_known(result)) {
            let before = results.len();
            results.retain(|result| !is_own(result) || is_known(result));
            let left = before - results.len();
            if left > 0 {
                let id = &experiment.id;
                // Beside what is asked for: `distkv claims` prints a table that is kept.
                eprintln!("{id}: {left} trials of other parameters than its file has are left out");
            }
        }
    }
}
