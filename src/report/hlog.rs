//! The histograms of a run's trials as interval logs (`.hlog`), for tools of others.

use super::result::{ResultError, TrialResult, write_atomically};
use crate::bench::{IntervalLogError, LogUnit, write_interval_log};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// A log cannot be written.
#[derive(Debug, Error)]
pub enum HlogError {
    /// The folder.
    #[error("{path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A result holds what is no histogram.
    #[error("trial {id}: {reason}")]
    Histogram {
        /// The trial.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A log of the trial.
    #[error("trial {id}: {source}")]
    Log {
        /// The trial.
        id: String,
        /// What is wrong with it.
        source: IntervalLogError,
    },
    /// A file.
    #[error(transparent)]
    Written(#[from] ResultError),
}

/// Writes `folder/EXPERIMENT-TRIAL.PHASE.hlog` for each phase of `results` that has latencies, one line
/// per kind of operation, in microseconds; gives how many.
///
/// # Errors
/// [`HlogError`] names the trial or the file.
pub fn write_all(folder: &Path, results: &[TrialResult]) -> Result<usize, HlogError> {
    let refused = |source| HlogError::Folder { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(refused)?;
    let mut count = 0;
    for result in results {
        let id = &result.id;
        for phase in result.phases.iter().filter(|phase| !phase.latency.is_empty()) {
            let mut histograms = Vec::new();
            for (kind, latency) in &phase.latency {
                let histogram = latency.histogram();
                let histogram =
                    histogram.map_err(|reason| HlogError::Histogram { id: id.clone(), reason })?;
                histograms.push((kind.clone(), histogram));
            }
            let window = Duration::from_secs_f64(phase.seconds.max(0.0));
            let mut text = Vec::new();
            write_interval_log(&mut text, window, LogUnit::Microseconds, histograms)
                .map_err(|source| HlogError::Log { id: id.clone(), source })?;
            let name = format!("{}-{id}.{}.hlog", result.trial.experiment, phase.name);
            write_atomically(&folder.join(name), &text)?;
            count += 1;
        }
    }
    Ok(count)
}
