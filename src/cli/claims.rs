//! `distkv claims`: what a run says of each claim.

use super::EXPERIMENTS_DIR;
use super::overrides::Overrides;
use super::results::{Drawn, ResultsError, read};
use crate::report::claims::{Claims, ClaimsFileError, Decided, markdown};
use crate::report::result::{ResultError, TrialResult, write_atomically};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Decides every claim from the results of a run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  distkv claims\n  distkv claims --results results/paper\n\n\
    Writes DIR/claims.json and DIR/claims.md. The claims and their thresholds are in\n\
    experiments/claims/claims.toml; without that file, those built in are decided.")]
pub struct ClaimsArgs {
    /// Directory that `distkv reproduce --out` wrote
    #[arg(long, value_name = "DIR", default_value = "results/quick")]
    pub results: PathBuf,
    /// Where the experiment files are; their claims are in DIR/claims/claims.toml
    #[arg(long, value_name = "DIR", default_value = EXPERIMENTS_DIR)]
    pub experiments: PathBuf,
}

/// Claims that were not decided.
#[derive(Debug, Error)]
pub enum ClaimsCommandError {
    /// There are no results, or they cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// A file cannot be written.
    #[error(transparent)]
    Written(#[from] ResultError),
    /// The claims.
    #[error(transparent)]
    File(#[from] ClaimsFileError),
    /// The JSON cannot be made.
    #[error("claims as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command.
///
/// # Errors
/// [`ClaimsCommandError`] says what to do.
pub fn run(args: &ClaimsArgs) -> Result<(), ClaimsCommandError> {
    let ClaimsArgs { results: dir, experiments } = args;
    let Drawn { overrides, results, .. } = read(dir, experiments, |_| true)?;
    print!("{}", markdown(&decide(dir, experiments, &overrides, &results)?));
    Ok(())
}

/// Decides the claims and writes them into the run's directory. They are of the files' values: trials
/// of an experiment of which something else was set decide nothing.
pub(crate) fn decide(
    dir: &Path,
    experiments: &Path,
    overrides: &Overrides,
    results: &[TrialResult],
) -> Result<Vec<Decided>, ClaimsCommandError> {
    let file = experiments.join(CLAIMS_FILE);
    let claims = match std::fs::read_to_string(&file) {
        Ok(text) => Claims::parse(&file.display().to_string(), &text)?,
        Err(_) => Claims::built_in()?,
    };
    let is_as_written = |result: &&TrialResult| !overrides.is_of(&result.trial.experiment);
    let results: Vec<TrialResult> = results.iter().filter(is_as_written).cloned().collect();
    let decided = claims.decide(&results);
    let json = serde_json::to_string_pretty(&decided)? + "\n";
    write_atomically(&dir.join("claims.json"), json.as_bytes())?;
    write_atomically(&dir.join("claims.md"), markdown(&decided).as_bytes())?;
    Ok(decided)
}

const CLAIMS_FILE: &str = "claims/claims.toml";
