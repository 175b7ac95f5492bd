//! What `--set` has made of experiments, kept beside their results: figures follow it.
//!
//! Invariant: of one experiment a results directory holds the trials of one set of overrides.

use crate::experiment::spec::{Experiment, SpecError};
use crate::report::result::{ResultError, write_atomically};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// By experiment: the assignments that gave it trials which its file does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overrides(BTreeMap<String, Vec<String>>);

/// Overrides that cannot be.
#[derive(Debug, Error)]
pub enum OverridesError {
    /// An experiment.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] ResultError),
    /// The file cannot be read.
    #[error("{file}: {reason}; remove the directory, or give another one")]
    Format {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Two runs in one directory.
    #[error("{dir} has trials of {experiment} {had}, these would be {wanted}: give another --out")]
    Mixed {
        /// The directory.
        dir: PathBuf,
        /// The experiment.
        experiment: String,
        /// How they were run.
        had: String,
        /// How they are to be run.
        wanted: String,
    },
}

impl Overrides {
    /// Applies `assignments` to `experiment`, and notes whether that is more than a part of it.
    ///
    /// # Errors
    /// [`SpecError`] when it cannot be run so.
    pub(crate) fn apply(
        &mut self,
        experiment: &mut Experiment,
        assignments: &[String],
    ) -> Result<(), SpecError> {
        if experiment.set_all(assignments)? {
            let pairs = assignments.iter().filter_map(|text| text.split_once('='));
            let pairs = pairs.map(|(key, value)| (key.trim(), value.trim()));
            let of_trials = pairs.filter(|(key, _)| *key != "repeats");
            let mut of_trials: Vec<String> =
                of_trials.map(|(key, value)| format!("{key}={value}")).collect();
            of_trials.sort();
            self.0.insert(experiment.id.clone(), of_trials);
        }
        Ok(())
    }

    /// Part of a directory's name: nothing when all trials are those of the files.
    pub(crate) fn suffix(&self) -> String {
        let plain = |c: char| if c.is_alphanumeric() || "=+._".contains(c) { c } else { '_' };
        let all = self.0.values().next().into_iter().flatten();
        let name = all.map(|text| format!("-{}", text.chars().map(plain).collect::<String>()));
        name.collect::<String>().chars().take(NAME_CHARS_MAX).collect()
    }

    /// Those of the results in `dir`.
    ///
    /// # Errors
    /// [`OverridesError::Format`] when the file cannot be read.
    pub(crate) fn read(dir: &Path) -> Result<Self, OverridesError> {
        let file = dir.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(OverridesError::Format { file, reason: error.to_string() }),
        };
        let read = serde_json::from_str(&text).map(Self);
        read.map_err(|error| OverridesError::Format { file, reason: error.to_string() })
    }

    /// Adds these of `experiments` to what `dir` has, where `ran` says which experiments have trials.
    ///
    /// # Errors
    /// [`OverridesError::Mixed`] when one was run otherwise there.
    pub(crate) fn note(
        &self,
        dir: &Path,
        experiments: &[Experiment],
        ran: impl Fn(&str) -> bool,
    ) -> Result<(), OverridesError> {
        let mut all = Self::read(dir)?;
        for Experiment { id, .. } in experiments {
            let (had, wanted) = (all.0.get(id), self.0.get(id));
            if had != wanted && ran(id) {
                let name = |of: Option<&Vec<String>>| {
                    of.map_or("as written".to_owned(), |set| format!("with {}", set.join(", ")))
                };
                let (had, wanted) = (name(had), name(wanted));
                let (dir, experiment) = (dir.to_owned(), id.clone());
                return Err(OverridesError::Mixed { dir, experiment, had, wanted });
            }
            match wanted {
                Some(wanted) => all.0.insert(id.clone(), wanted.clone()),
                None => all.0.remove(id),
            };
        }
        if all != Self::read(dir)? {
            let json = serde_json::json!(all.0).to_string() + "\n";
            std::fs::create_dir_all(dir)
                .map_err(|source| ResultError::Io { path: dir.to_owned(), source })?;
            write_atomically(&dir.join(FILE), json.as_bytes())?;
        }
        Ok(())
    }

    /// Has this experiment other trials there than its file has?
    pub(crate) fn is_of(&self, experiment: &str) -> bool {
        self.0.contains_key(experiment)
    }

    /// Lets the figures of `experiments` follow.
    pub(crate) fn let_follow(&self, experiments: &mut [Experiment]) {
        for experiment in experiments {
            if let Some(assignments) = self.0.get(&experiment.id) {
                experiment.follow(assignments);
            }
        }
    }
}

const FILE: &str = "overrides.json";

/// A time line of faults can be set, too.
const NAME_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_set_of_overrides_for_each_experiment() {
        let dir = tempfile::tempdir().unwrap();
        let set = |assignment: &str| {
            let mut overrides = Overrides::default();
            let mut experiments = Experiment::built_in().unwrap();
            experiments.retain(|experiment| ["E1", "E1-storage"].contains(&experiment.id.as_str()));
            for experiment in &mut experiments {
                *experiment = experiment.clone().under_profile("quick").unwrap();
                overrides.apply(experiment, &[assignment.to_owned()]).unwrap();
            }
            (overrides, experiments)
        };
        let (none, _) = set("value_bytes=1024");
        assert_eq!((none.suffix().as_str(), none), ("", Overrides::default()), "a part of it");
        let (hundred, experiments) = set("rate_mbit=100");
        assert_eq!(hundred.suffix(), "-rate_mbit=100");
        hundred.note(dir.path(), &experiments, |_| false).unwrap();
        hundred.note(dir.path(), &experiments, |_| true).unwrap();
        let read = Overrides::read(dir.path()).unwrap();
        assert_eq!(read, hundred);
        let mut drawn = experiments.clone();
        read.let_follow(&mut drawn);
        assert!(drawn[0].figures[0].title.ends_with("; but rate_mbit=100"));
        // Another value would be drawn into the same points.
        let (other, experiments) = set("rate_mbit=300");
        let error = other.note(dir.path(), &experiments, |_| true).unwrap_err().to_string();
        assert!(error.contains("rate_mbit=100") && error.contains("--out"), "{error}");
        let error = Overrides::default().note(dir.path(), &experiments, |_| true).unwrap_err();
        assert!(error.to_string().contains("as written"), "{error}");
    }
}
