//! Experiment files: read, narrowed by a profile, changed by `--set`, expanded to trials.
//!
//! Every key is a field of [`TrialConfig`]; an unknown one is an error that names file and key.
//! Trials are the cross product of the axes and the cases (tables that set several keys at once).

use super::trial::{Trial, TrialConfig};
use crate::report::figure_spec::FigureSpec;
use crate::rng::Rng;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A file of the experiments' folder, with its text.
macro_rules! built_in {
    ($name:literal) => {
        (concat!("experiments/", $name), include_str!(concat!("../../experiments/", $name)))
    };
}

/// The files that come with the program.
pub const BUILT_IN: &[(&str, &str)] = &[
    built_in!("aa.toml"),
    built_in!("e1-storage.toml"),
    built_in!("e1.toml"),
    built_in!("e10.toml"),
    built_in!("e10-repair.toml"),
    built_in!("e11.toml"),
    built_in!("e11-capacity.toml"),
    built_in!("e12.toml"),
    built_in!("e12-reads.toml"),
    built_in!("e13.toml"),
    built_in!("e14.toml"),
    built_in!("e15.toml"),
    built_in!("e2.toml"),
    built_in!("e3.toml"),
    built_in!("e4.toml"),
    built_in!("e5.toml"),
    built_in!("e6.toml"),
    built_in!("e6-seven.toml"),
    built_in!("e7-e2e.toml"),
    built_in!("e7.toml"),
    built_in!("e8.toml"),
    built_in!("e9-time.toml"),
    built_in!("e9.toml"),
    built_in!("s1.toml"),
    built_in!("s2.toml"),
    built_in!("s3.toml"),
    built_in!("s4.toml"),
];

type Values = BTreeMap<String, toml::Value>;

/// One experiment file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// `E1`, or `E7-e2e` for a part of E7.
    pub id: String,
    /// A few words.
    pub title: String,
    /// The claim in a sentence, committed before the run that decides it.
    pub claim: String,
    /// Series that ratios are taken against, if any.
    #[serde(default)]
    pub baseline: Option<String>,
    /// Trials of each point.
    pub repeats: u32,
    /// Parameters that all trials share.
    #[serde(default)]
    pub fixed: Values,
    /// Parameters that vary, all combinations.
    #[serde(default)]
    pub axes: BTreeMap<String, Vec<toml::Value>>,
    /// Sets of parameters that vary together.
    #[serde(default)]
    pub cases: Vec<Values>,
    /// The figures to draw.
    pub figures: Vec<FigureSpec>,
    /// `quick` and `paper`.
    #[serde(default)]
    pub profile: BTreeMap<String, Profile>,
}

/// What a profile replaces.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Trials of each point.
    pub repeats: Option<u32>,
    /// Parameters that all trials share.
    #[serde(default)]
    pub fixed: Values,
    /// Axes replaced whole.
    #[serde(default)]
    pub axes: BTreeMap<String, Vec<toml::Value>>,
    /// Cases replaced whole, when given.
    #[serde(default)]
    pub cases: Vec<Values>,
}

/// An experiment that cannot be run as written.
#[derive(Debug, Error)]
pub enum SpecError {
    /// Not readable as an experiment.
    #[error("{file}: {reason}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with line and key.
        reason: String,
    },
    /// A key that is no parameter.
    #[error("{file}: unknown parameter '{key}'; known: {known}")]
    UnknownKey {
        /// The file or option.
        file: String,
        /// The key.
        key: String,
        /// All parameters.
        known: String,
    },
    /// Parameters that contradict one another.
    #[error("{file}: {reason}")]
    Value {
        /// The file or experiment.
        file: String,
        /// Which, and why.
        reason: String,
    },
    /// No such profile.
    #[error("{file}: no profile '{profile}'; use quick or paper")]
    Profile {
        /// The experiment.
        file: String,
        /// As asked for.
        profile: String,
    },
}

impl Experiment {
    /// Reads the text of an experiment file.
    ///
    /// # Errors
    /// When a key is unknown or a value is of another type; the error names file and key.
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecError> {
        let experiment: Self = toml::from_str(text).map_err(|error| SpecError::Syntax {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        let known = parameter_names();
        let profiles = experiment.profile.values();
        let profile_keys = profiles.flat_map(|profile| {
            profile
                .fixed
                .keys()
                .chain(profile.axes.keys())
                .chain(profile.cases.iter().flat_map(BTreeMap::keys))
        });
        let figure_keys = experiment.figures.iter().flat_map(FigureSpec::parameters);
        let keys = experiment.fixed.keys().chain(experiment.axes.keys());
        let cases = experiment.cases.iter().flat_map(BTreeMap::keys);
        for key in keys.chain(cases).chain(profile_keys).chain(figure_keys) {
            if !known.contains(key) {
                return Err(unknown_key(file, key, &known));
            }
        }
        Ok(experiment)
    }

    /// The experiments that come with the program.
    ///
    /// # Errors
    /// As [`Experiment::parse`].
    pub fn built_in() -> Result<Vec<Self>, SpecError> {
        BUILT_IN.iter().map(|(file, text)| Self::parse(file, text)).collect()
    }

    /// The experiments in `dir` (every `*.toml`, by name), or the built-in ones when there is no such
    /// directory: so that a file can be changed, or added, and run without a build.
    ///
    /// # Errors
    /// As [`Experiment::parse`], and when a file cannot be read.
    pub fn all_in(dir: &Path) -> Result<Vec<Self>, SpecError> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Self::built_in() };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect();
        files.sort();
        files
            .iter()
            .map(|path| {
                let file = path.display().to_string();
                let text = std::fs::read_to_string(path).map_err(|error| SpecError::Syntax {
                    file: file.clone(),
                    reason: error.to_string(),
                })?;
                Self::parse(&file, &text)
            })
            .collect()
    }

    /// Does `--only name` mean this one? `E7` means `E7` and its parts.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let (id, name) = (self.id.to_ascii_lowercase(), name.to_ascii_lowercase());
        id == name || id.strip_prefix(&name).is_some_and(|rest| rest.starts_with('-'))
    }

    /// This experiment under a profile.
    ///
    /// # Errors
    /// [`SpecError::Profile`] when there is no such profile.
    pub fn under_profile(mut self, name: &str) -> Result<Self, SpecError> {
        let Some(profile) = self.profile.remove(name) else {
            return Err(SpecError::Profile { file: self.id, profile: name.to_owned() });
        };
        self.repeats = profile.repeats.unwrap_or(self.repeats);
        self.fixed.extend(profile.fixed);
        self.axes.extend(profile.axes);
        if !profile.cases.is_empty() {
            self.cases = profile.cases;
        }
        Ok(self)
    }

    /// Overrides one parameter with `key=value`: it is no axis any more.
    ///
    /// # Errors
    /// [`SpecError::UnknownKey`] with the known keys.
    pub fn set(&mut self, assignment: &str) -> Result<(), SpecError> {
        let known = parameter_names();
        let (key, text) = assignment.split_once('=').unwrap_or((assignment, ""));
        let key = key.trim();
        if !known.contains(key) && key != "repeats" {
            return Err(unknown_key("--set", key, &known));
        }
        let value = parse_value(text.trim());
        if key == "repeats" {
            let repeats = value.as_integer().and_then(|count| u32::try_from(count).ok());
            self.repeats = repeats.filter(|count| *count > 0).ok_or_else(|| SpecError::Value {
                file: "--set".to_owned(),
                reason: format!("repeats must be a whole number above 0, not '{text}'"),
            })?;
            return Ok(());
        }
        self.axes.remove(key);
        for case in &mut self.cases {
            case.remove(key);
        }
        self.fixed.insert(key.to_owned(), value);
        Ok(())
    }

    /// All trials, block after block (a block is one repeat of every point), each block in its own
    /// random order. The trials of one repeat share a workload seed: they are paired.
    ///
    /// # Errors
    /// [`SpecError::Value`] when a value is of the wrong type or contradicts another.
    pub fn trials(&self, seed: u64) -> Result<Vec<Trial>, SpecError> {
        let points = self.points()?;
        let mut order = Rng::new(seed ^ xxhash_rust::xxh3::xxh3_64(self.id.as_bytes()));
        let mut trials = Vec::new();
        for repeat in 0..self.repeats {
            let mut block: Vec<Trial> = points
                .iter()
                .map(|config| Trial {
                    experiment: self.id.clone(),
                    repeat,
                    config: TrialConfig {
                        // Kept under 2^53 so that any JSON reader holds it exactly.
                        seed: Rng::new(seed.wrapping_add(u64::from(repeat))).next_u64() >> 11,
                        ..config.clone()
                    },
                })
                .collect();
            for last in (1..block.len()).rev() {
                let other = order.below(last as u64 + 1);
                block.swap(last, usize::try_from(other).unwrap_or(last));
            }
            trials.extend(block);
        }
        Ok(trials)
    }

    fn points(&self) -> Result<Vec<TrialConfig>, SpecError> {
        let mut tables = vec![self.fixed.clone()];
        if !self.cases.is_empty() {
            tables = self.cases.iter().map(|case| merged(&self.fixed, case)).collect();
        }
        for (key, values) in &self.axes {
            let extended = tables.iter().flat_map(|table| {
                values.iter().map(|value| {
                    let mut table = table.clone();
                    table.insert(key.clone(), value.clone());
                    table
                })
            });
            tables = extended.collect();
        }
        let mut seen = BTreeSet::new();
        let mut points = Vec::new();
        for table in tables {
            let value = |reason: String| SpecError::Value { file: self.id.clone(), reason };
            let json = serde_json::to_value(&table).map_err(|error| value(error.to_string()))?;
            let mut config: TrialConfig = serde_json::from_value(json)
                .map_err(|error| value(format!("{error}: {table:?}")))?;
            config.normalise();
            if let Some(fault) = config.fault() {
                return Err(value(fault));
            }
            if seen.insert(serde_json::json!(config).to_string()) {
                points.push(config);
            }
        }
        Ok(points)
    }
}

/// Every parameter that a trial has.
#[must_use]
pub fn parameter_names() -> BTreeSet<String> {
    // With what is left out when it is 0.
    let all = serde_json::json!(TrialConfig { nice: 1, ..TrialConfig::default() });
    all.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
}

fn unknown_key(file: &str, key: &str, known: &BTreeSet<String>) -> SpecError {
    let known = known.iter().cloned().collect::<Vec<_>>().join(", ");
    SpecError::UnknownKey { file: file.to_owned(), key: key.to_owned(), known }
}

fn merged(fixed: &Values, case: &Values) -> Values {
    let mut all = fixed.clone();
    all.extend(case.clone());
    all
}

/// A TOML value, or the text itself as a string.
fn parse_value(text: &str) -> toml::Value {
    let as_table = format!("v = {text}").parse::<toml::Table>();
    let value = as_table.ok().and_then(|mut table| table.remove("v"));
    value.unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn quick() -> Vec<Experiment> {
        let all = Experiment::built_in().unwrap().into_iter();
        all.map(|experiment| experiment.under_profile("quick").unwrap()).collect()
    }

    #[test]
    fn built_in_files_expand_under_both_profiles_and_quick_is_ten_minutes() {
        // Equal trials are run once.
        let (mut total, mut had) = (Duration::ZERO, BTreeSet::new());
        for experiment in quick() {
            let trials = experiment.trials(1).unwrap();
            assert!(!trials.is_empty());
            let new = trials.iter().filter(|trial| had.insert(trial.content()));
            total += new.map(|trial| trial.config.estimated_time()).sum::<Duration>();
        }
        assert!(total < Duration::from_secs(600), "{total:?}");
        for experiment in Experiment::built_in().unwrap() {
            let trials = experiment.under_profile("paper").unwrap().trials(1).unwrap();
            assert!(!trials.is_empty());
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let text = BUILT_IN[0].1.replace("[fixed]", "[fixed]\nnodez = 5");
        let error = Experiment::parse("x.toml", &text).unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains("nodez"), "{error}");
        let error = quick()[0].set("cleints=3").unwrap_err().to_string();
        assert!(error.contains("cleints") && error.contains("clients"), "{error}");
    }

    #[test]
    fn blocks_hold_every_point_once_in_an_order_that_the_seed_decides() {
        let experiment = quick().remove(0);
        let trials = experiment.trials(7).unwrap();
        assert_eq!(trials, experiment.trials(7).unwrap());
        assert_ne!(trials, experiment.trials(8).unwrap());
        let block = trials.len() / experiment.repeats as usize;
        let ids: BTreeSet<String> = trials.iter().map(Trial::id).collect();
        assert_eq!(ids.len(), trials.len());
        for (index, trial) in trials.iter().enumerate() {
            assert_eq!(trial.repeat as usize, index / block);
        }
    }

    #[test]
    fn set_replaces_an_axis() {
        let mut experiment = quick().remove(0);
        experiment.set("value_bytes=4096").unwrap();
        let trials = experiment.trials(1).unwrap();
        assert!(trials.iter().all(|trial| trial.config.value_bytes == 4096));
    }
}
