//! Claims and whether they hold: `claims.toml`, decided from results alone.
//!
//! A claim is a ratio of one metric at two points (or one number), and a threshold that was committed
//! before the run. All claims of a run are one family: their p are corrected together. What trials do
//! not decide is undecided, and says why.

use super::metric::Metric;
use super::paired::{SIGNIFICANT, Tested, holm, holm_levels};
use super::result::TrialResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use thiserror::Error;

type Select = BTreeMap<String, toml::Value>;

/// `claims.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// One after the other.
    pub claims: Vec<Claim>,
}

/// One claim.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// `T1` of the thesis, `P1` of a paper.
    pub id: String,
    /// In words.
    pub claim: String,
    /// Where it comes from.
    pub source: String,
    /// The experiment whose trials decide it.
    pub experiment: String,
    /// What is compared.
    pub metric: Metric,
    /// Parameters of both points.
    #[serde(default)]
    pub at: Select,
    /// Parameters of the point above.
    pub above: Select,
    /// Parameters of the point below; none when the number itself is held against the threshold.
    #[serde(default)]
    pub below: Option<Select>,
    /// Which side of the threshold the ratio must be on.
    pub direction: Direction,
    /// The threshold.
    pub threshold: f64,
}

/// Which side of the threshold holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The threshold or more.
    AtLeast,
    /// The threshold or less.
    AtMost,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The ratio is on the claimed side, and not by chance.
    Holds,
    /// It is on the other side, and not by chance.
    DoesNotHold,
    /// Neither.
    Undecided,
}

/// A claim with its verdict, as `claims.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Of the claim.
    pub id: String,
    /// In words.
    pub claim: String,
    /// Where it comes from.
    pub source: String,
    /// Whose trials decided.
    pub experiment: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Measured ratio, when there are two pairs or more, or one.
    pub ratio: Option<f64>,
    /// Its 95 % interval, of this claim alone.
    pub interval: Option<[f64; 2]>,
    /// Its interval at the level at which this claim is tested among all of them: it decides.
    pub corrected: Option<[f64; 2]>,
    /// `at least 1.5`.
    pub threshold: String,
    /// Corrected over all claims.
    pub p_holm: Option<f64>,
    /// Pairs of trials.
    pub pairs: usize,
    /// Repeats that were run and are no pair: a trial of theirs is invalid, or has no such number.
    #[serde(default)]
    pub left_out: usize,
    /// Why it is undecided.
    pub why: Option<String>,
    /// From trials in virtual time?
    pub simulated: bool,
}

/// Claims that cannot be read.
#[derive(Debug, Error)]
#[error("{file}: {reason}")]
pub struct ClaimsFileError {
    /// The file.
    pub file: String,
    /// What, and where.
    pub reason: String,
}

impl Claims {
    /// Those that come with the program.
    ///
    /// # Errors
    /// [`ClaimsFileError`] when they are not readable.
    pub fn built_in() -> Result<Self, ClaimsFileError> {
        let text = include_str!("../../experiments/claims/claims.toml");
        Self::parse("experiments/claims/claims.toml", text)
    }

    /// Reads the text of a claims file.
    ///
    /// # Errors
    /// [`ClaimsFileError`], naming the file and the key.
    pub fn parse(file: &str, text: &str) -> Result<Self, ClaimsFileError> {
        toml::from_str(text)
            .map_err(|error| ClaimsFileError { file: file.to_owned(), reason: error.to_string() })
    }

    /// Decides all of them together.
    #[must_use]
    pub fn decide(&self, results: &[TrialResult]) -> Vec<Decided> {
        let found: Vec<Found> = self.claims.iter().map(|claim| claim.find(results)).collect();
        let mut ps: Vec<f64> = found.iter().filter_map(|found| Some(found.tested?.p)).collect();
        // What a run did not test belongs to the family all the same: else whoever runs less
        // decides more.
        ps.resize(found.len(), 1.0);
        let mut corrected = holm(&ps).into_iter().zip(holm_levels(&ps));
        let decide = |(claim, found): (&Claim, Found)| {
            let among_all = found.tested.and_then(|_| corrected.next());
            claim.verdict(found, among_all)
        };
        self.claims.iter().zip(found).map(decide).collect()
    }
}

/// What results say of a claim.
#[derive(Default)]
struct Found {
    tested: Option<Tested>,
    /// Of one pair, which decides nothing.
    single: Option<f64>,
    why: Option<String>,
    simulated: bool,
    left_out: usize,
}

/// What the selected trials measured, by repeat.
#[derive(Default)]
struct Side {
    measured: BTreeMap<u32, Measured>,
    /// Repeats with a selected trial, valid or not.
    tried: BTreeSet<u32>,
}

/// One trial's number.
struct Measured {
    value: f64,
    /// [`Metric::slack`].
    slack: f64,
    simulated: bool,
}

impl Claim {
    fn find(&self, results: &[TrialResult]) -> Found {
        let above = self.of_repeats(results, &self.above);
        let below = self.below.as_ref().map(|select| self.of_repeats(results, select));
        let (above, below) = match (above, below.transpose()) {
            (Ok(above), Ok(below)) => (above, below),
            (Err(why), _) | (_, Err(why)) => {
                return Found { why: Some(why), ..Found::default() };
            }
        };
        let (mut pairs, mut slack): (Vec<(f64, f64)>, f64) = (Vec::new(), 0.0);
        for (repeat, one) in &above.measured {
            let other = below.as_ref().map(|below| below.measured.get(repeat));
            match other {
                Some(None) => continue,
                Some(Some(other)) => {
                    pairs.push((one.value, other.value));
                    slack = slack.max(one.slack + other.slack);
                }
                None => {
                    pairs.push((one.value, 1.0));
                    slack = slack.max(one.slack);
                }
            }
        }
        let others = below.iter().flat_map(|below| &below.tried);
        let tried: BTreeSet<&u32> = above.tried.iter().chain(others).collect();
        let left_out = tried.len() - pairs.len();
        // Of those a ratio says nothing, and without them it would be of what went well.
        if pairs.iter().any(|(above, below)| *above <= 0.0 || *below <= 0.0) {
            let is_of_work = self.metric == Metric::Throughput;
            let what = if is_of_work { "completed nothing" } else { "measured 0" };
            let why = Some(format!("a trial {what}: no ratio"));
            return Found { why, left_out, ..Found::default() };
        }
        let why = match pairs.len() {
            0 => Some("no results".to_owned()),
            1 => Some("one pair of trials decides nothing".to_owned()),
            _ => None,
        };
        let single = pairs.first().filter(|_| pairs.len() == 1).map(|(a, b)| a / b);
        let simulated = above.measured.values().any(|one| one.simulated);
        let tested = Tested::of_bracketed(&pairs, self.threshold, slack);
        Found { tested, single, why, simulated, left_out }
    }

    /// What was measured in the one trial of each repeat that is selected; or which
    /// two are.
    fn of_repeats(&self, results: &[TrialResult], select: &Select) -> Result<Side, String> {
        let mut chosen: BTreeMap<u32, &TrialResult> = BTreeMap::new();
        let mut tried = BTreeSet::new();
        for result in results {
            let is_wanted = result.trial.experiment == self.experiment
                && has(result, &self.at)
                && has(result, select);
            if !is_wanted {
                continue;
            }
            tried.insert(result.trial.repeat);
            if !result.is_valid() {
                continue;
            }
            if let Some(other) = chosen.insert(result.trial.repeat, result) {
                let (one, two) = (&result.id, &other.id);
                let keys = differing(result, other).join(", ");
                return Err(format!(
                    "trials {one} and {two} are both selected: they differ in {keys}"
                ));
            }
        }
        let measured = |(repeat, result): (u32, &TrialResult)| {
            let value = self.metric.of(result)?;
            let (slack, simulated) = (self.metric.slack(result), result.provenance.simulated);
            Some((repeat, Measured { value, slack, simulated }))
        };
        Ok(Side { measured: chosen.into_iter().filter_map(measured).collect(), tried })
    }

    /// `among_all`: the p corrected for all claims, and the level at which this one is tested.
    fn verdict(&self, found: Found, among_all: Option<(f64, f64)>) -> Decided {
        let p = among_all.map(|(p, _)| p);
        let is_sure = p.is_some_and(|p| p < SIGNIFICANT);
        let is_right = |ratio: f64| match self.direction {
            Direction::AtLeast => ratio >= self.threshold,
            Direction::AtMost => ratio <= self.threshold,
        };
        let verdict = match found.tested {
            Some(tested) if is_sure && is_right(tested.ratio) => Verdict::Holds,
            Some(_) if is_sure => Verdict::DoesNotHold,
            Some(_) | None => Verdict::Undecided,
        };
        let unsure = || "the interval, corrected for all claims, covers the threshold".to_owned();
        let why = found.why.or_else(|| (verdict == Verdict::Undecided).then(unsure));
        let side = match self.direction {
            Direction::AtLeast => "at least",
            Direction::AtMost => "at most",
        };
        Decided {
            id: self.id.clone(),
            claim: self.claim.clone(),
            source: self.source.clone(),
            experiment: self.experiment.clone(),
            verdict,
            ratio: found.tested.map(|tested| tested.ratio).or(found.single),
            interval: found.tested.map(|tested| [tested.low, tested.high]),
            corrected: found.tested.and_then(|tested| tested.interval(among_all?.1)),
            threshold: format!("{side} {}", self.threshold),
            p_holm: p,
            pairs: found.tested.map_or(usize::from(found.single.is_some()), |t| t.pairs),
            left_out: found.left_out,
            why,
            simulated: found.simulated,
        }
    }
}

/// Parameters in which two trials differ.
fn differing(one: &TrialResult, two: &TrialResult) -> Vec<String> {
    let configs =
        [one, two].map(|result| serde_json::to_value(&result.trial.config).unwrap_or_default());
    let [Value::Object(one), Value::Object(two)] = configs else { return Vec::new() };
    one.into_iter().filter(|(key, value)| two.get(key) != Some(value)).map(|(key, _)| key).collect()
}

/// Does the trial have these parameters?
fn has(result: &TrialResult, select: &Select) -> bool {
    let config = serde_json::to_value(&result.trial.config).unwrap_or_default();
    select.iter().all(|(key, wanted)| {
        let wanted = serde_json::to_value(wanted).unwrap_or_default();
        let found = config.get(key).unwrap_or(&Value::Null);
        match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => found.total_cmp(&wanted).is_eq(),
            (None, _) | (_, None) => *found == wanted,
        }
    })
}

/// The table as Markdown.
#[must_use]
pub fn markdown(decided: &[Decided]) -> String {
    let mut text = "| claim | experiment | threshold | ratio (95 % interval; for all claims) | \
                    verdict |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for row in decided {
        let ratio = match (row.ratio, row.interval, row.corrected) {
            (Some(ratio), Some([low, high]), Some([least, most])) => {
                format!("{ratio:.2} ({low:.2}-{high:.2}; {least:.2}-{most:.2})")
            }
            (Some(ratio), _, _) => format!("{ratio:.2} (one pair)"),
            (None, _, _) => "-".to_owned(),
        };
        let verdict = match row.verdict {
            Verdict::Holds => "holds".to_owned(),
            Verdict::DoesNotHold => "**does not hold**".to_owned(),
            Verdict::Undecided => {
                format!("undecided: {}", row.why.as_deref().unwrap_or("not enough trials"))
            }
        };
        let ratio = match row.left_out {
            0 => ratio,
            count => format!("{ratio}; without {count} of {} repeats", count + row.pairs),
        };
        let mark = if row.simulated { " (simulated)" } else { "" };
        let Decided { id, claim, experiment, threshold, .. } = row;
        let _ = writeln!(
            text,
            "| {id}: {claim}{mark} | {experiment} | {threshold} | {ratio} | {verdict} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, TrialConfig};
    use crate::report::result::tests::sample;

    fn claims(threshold: f64) -> Claims {
        let text = format!(
            "[[claims]]\nid = \"T1\"\nclaim = \"c\"\nsource = \"s\"\nexperiment = \"E1\"\n\
             metric = \"throughput\"\nat = {{ value_bytes = 4096 }}\nabove = {{ policy = \"craft\" \
             }}\nbelow = {{ policy = \"replicate\" }}\ndirection = \"at_least\"\nthreshold = \
             {threshold}\n"
        );
        Claims::parse("x.toml", &text).unwrap()
    }

    fn results(repeats: u32) -> Vec<TrialResult> {
        let of = |repeat: u32, policy: &str, us: u64| {
            let config = TrialConfig { policy: policy.to_owned(), ..TrialConfig::default() };
            sample("E1", repeat, config, us + 3 * u64::from(repeat))
        };
        (0..repeats).flat_map(|r| [of(r, "craft", 500), of(r, "replicate", 1000)]).collect()
    }

    #[test]
    fn a_ratio_of_two_holds_above_one_and_a_half_and_not_above_three() {
        for (threshold, verdict) in [(1.5, Verdict::Holds), (3.0, Verdict::DoesNotHold)] {
            let decided = claims(threshold).decide(&results(5)).remove(0);
            assert_eq!(decided.verdict, verdict, "{decided:?}");
            assert!((decided.ratio.unwrap() - 2.0).abs() < 0.05);
        }
        // Noisy trials about the threshold itself.
        let mut noisy = results(5);
        for (result, factor) in noisy.iter_mut().zip([1.3, 1.0, 0.8, 1.1, 1.0, 0.9, 1.2, 1.0]) {
            result.phases[1].throughput_ops_per_s *= factor;
        }
        let undecided = claims(2.0).decide(&noisy).remove(0);
        assert_eq!(undecided.verdict, Verdict::Undecided);
        for (repeats, why) in [(0, "no results"), (1, "one pair")] {
            let decided = claims(1.5).decide(&results(repeats)).remove(0);
            assert_eq!(decided.verdict, Verdict::Undecided);
            assert!(decided.why.unwrap().contains(why));
        }
    }

    #[test]
    fn two_points_at_once_decide_nothing_and_are_named() {
        let mut twice = results(4);
        let mut other = twice[0].clone();
        (other.id, other.trial.config.clients) = ("another".to_owned(), 99);
        twice.push(other);
        let decided = claims(1.5).decide(&twice).remove(0);
        let why = decided.why.unwrap();
        assert_eq!((decided.verdict, decided.ratio), (Verdict::Undecided, None));
        assert!(why.contains("another") && why.ends_with("differ in clients"), "{why}");
    }

    #[test]
    fn a_pair_that_is_left_out_is_counted() {
        let mut five = results(5);
        five[0].invalid_reasons.push("the generator was late".to_owned());
        five[3].phases.clear();
        let decided = claims(1.5).decide(&five);
        assert_eq!((decided[0].pairs, decided[0].left_out), (3, 2));
        assert!(markdown(&decided).contains("; without 2 of 5 repeats |"), "{decided:?}");
        assert!(!markdown(&claims(1.5).decide(&results(5))).contains("without"));
    }

    #[test]
    fn every_built_in_claim_names_points_that_the_paper_profile_has() {
        let claims = Claims::built_in().unwrap().claims;
        assert!(claims.len() >= 12);
        let experiments = Experiment::built_in().unwrap();
        for claim in &claims {
            let named = experiments.iter().find(|known| known.id == claim.experiment);
            let experiment = named.unwrap_or_else(|| panic!("{}: no such experiment", claim.id));
            let experiment = experiment.clone().under_profile("paper").unwrap();
            let trials = experiment.trials(1).unwrap();
            for select in [Some(&claim.above), claim.below.as_ref()].into_iter().flatten() {
                let points = trials.iter().filter(|trial| {
                    let result = sample(&claim.experiment, 0, trial.config.clone(), 900);
                    trial.repeat == 0 && has(&result, &claim.at) && has(&result, select)
                });
                assert_eq!(points.count(), 1, "{}: {select:?} must be one point", claim.id);
            }
        }
    }
}
