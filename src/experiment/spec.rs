//! Experiment files: read, narrowed by a profile, changed by `--set`, expanded to trials.
//!
//! Every key is a field of [`TrialConfig`]; an unknown one is an error that names file and key.
//! Trials are the cross product of the axes and the cases (tables that set several keys at once).

use super::calibrate::Calibration;
use super::trial::{Trial, TrialConfig};
use crate::report::figure_spec::FigureSpec;
use crate::rng::Rng;
use crate::sim::timed::Costs;
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
    built_in!("e4-policies.toml"),
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

/// What every experiment can be run as.
pub const PROFILES: [&str; 2] = ["quick", "paper"];

/// What virtual time costs, beside the experiments.
const CALIBRATION_FILE: &str = "calibration.json";

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
    /// What was set, where its results are of other trials than the file's.
    #[serde(skip)]
    pub overridden: Vec<String>,
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
        let syntax = |file: &Path, reason: String| SpecError::Syntax {
            file: file.display().to_string(),
            reason,
        };
        let calibration = dir.join(CALIBRATION_FILE);
        let costs = if calibration.is_file() {
            let read = Calibration::read(&calibration);
            Some(read.map_err(|error| syntax(&calibration, error.to_string()))?.costs)
        } else {
            None
        };
        let mut all = Vec::new();
        for file in &files {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| syntax(file, error.to_string()))?;
            let mut experiment = Self::parse(&file.display().to_string(), &text)?;
            if let Some(costs) = &costs {
                experiment.calibrate(costs)?;
            }
            all.push(experiment);
        }
        Ok(all)
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

    /// Virtual time costs this, where the file says nothing else.
    fn calibrate(&mut self, costs: &Costs) -> Result<(), SpecError> {
        let value = toml::Value::try_from(costs).map_err(|error| SpecError::Value {
            file: self.id.clone(),
            reason: format!("costs: {error}"),
        })?;
        self.fixed.entry("costs".to_owned()).or_insert(value);
        Ok(())
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

    /// Overrides parameters with `key=value`. Are there trials then that the file does not have? (Where
    /// it only narrows an axis there are none.) Then its figures are to [`Self::follow`].
    ///
    /// # Errors
    /// [`SpecError`] as [`Self::set`], and when values contradict one another.
    pub fn set_all(&mut self, assignments: &[String]) -> Result<bool, SpecError> {
        let before: BTreeSet<String> = self.points()?.iter().map(seedless).collect();
        for assignment in assignments {
            self.set(assignment)?;
        }
        Ok(self.points()?.iter().any(|config| !before.contains(&seedless(config))))
    }

    /// Draws what `assignments` have made of the trials: a figure of one value of a parameter is of the
    /// one that was set, its title says so, and of figures that are the same then one stays.
    pub fn follow(&mut self, assignments: &[String]) {
        let set = assignments.iter().filter_map(|assignment| assignment.split_once('='));
        let set: Vec<(&str, &str)> = set.map(|(key, text)| (key.trim(), text.trim())).collect();
        let mut kept: Vec<FigureSpec> = Vec::new();
        for mut figure in std::mem::take(&mut self.figures) {
            for (key, text) in &set {
                if let Some(pinned) = figure.only.get_mut(*key) {
                    *pinned = parse_value(text);
                }
            }
            if !kept.iter().any(|other| figure.is_like(other)) {
                kept.push(figure);
            }
        }
        let notes: Vec<String> = set.iter().map(|(key, text)| format!("{key}={text}")).collect();
        for figure in &mut kept {
            figure.title = format!("{}; but {}", figure.title, notes.join(", "));
        }
        self.figures = kept;
        self.overridden = assignments.to_vec();
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

    /// The points under a profile, with what was set, whatever the seed; none when it cannot be run so.
    #[must_use]
    pub fn points_under(&self, profile: &str) -> BTreeSet<String> {
        let points = self.clone().under_profile(profile).and_then(|mut one| {
            self.overridden.iter().try_for_each(|assignment| one.set(assignment))?;
            one.points()
        });
        points.unwrap_or_default().iter().map(seedless).collect()
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

/// A point: everything but the seed.
#[must_use]
pub fn seedless(config: &TrialConfig) -> String {
    serde_json::json!(TrialConfig { seed: 0, ..config.clone() }).to_string()
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

    #[test]
    fn figures_follow_what_was_set() {
        let find = || quick().into_iter().find(|experiment| experiment.id == "E1").unwrap();
        let set = |value: &str| vec![format!("rate_mbit={value}"), "repeats=2".to_owned()];
        assert!(!find().set_all(&set("200")).unwrap(), "one of its own values");
        let mut other = find();
        assert!(other.set_all(&set("100")).unwrap());
        assert_eq!(other.repeats, 2);
        other.follow(&set("100")[..1]);
        let hundred = toml::Value::Integer(100);
        assert!(other.figures.iter().all(|figure| figure.only["rate_mbit"] == hundred));
        assert!(other.figures.iter().all(|figure| figure.title.ends_with("; but rate_mbit=100")));
        let is_of_rate = |id: &str| other.figures.iter().any(|figure| figure.id == id);
        assert!(is_of_rate("e1-throughput") && !is_of_rate("e1-throughput-550"));
    }
}
