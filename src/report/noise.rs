//! The noise floor: how far trials differ that are equal but for their name.

use super::metric::Metric;
use super::paired::Tested;
use super::result::TrialResult;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What equal trials under two names say of the noise of a run, as a paragraph; empty when there are
/// none, or none twice.
pub(super) fn paragraph(results: &[TrialResult]) -> String {
    let found = ratios(results);
    let pairs = found.iter().map(|tested| tested.pairs).min().unwrap_or(0);
    let reach = |tested: &Tested| (1.0 / tested.low).max(tested.high);
    let Some(largest) = found.iter().map(reach).max_by(f64::total_cmp) else {
        return String::new();
    };
    let mean = found.iter().map(|t| t.ratio.max(1.0 / t.ratio)).fold(1.0, f64::max);
    let apart = found.iter().filter(|tested| tested.low > 1.0 || tested.high < 1.0).count();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nNoise floor: at {} points trials were run under two names, {pairs} pairs or more each. \
         The mean throughput of such equal trials differs by up to {:.0} %; the furthest end of a \
         95 % interval, which with few pairs is wide, is at {:.0} %. {apart} of these intervals do \
         not hold 1. Smaller differences mean nothing.",
        found.len(),
        (mean - 1.0) * 100.0,
        (largest - 1.0) * 100.0
    );
    text
}

/// Ratio of the throughputs under the two names, for each point that has them twice.
fn ratios(results: &[TrialResult]) -> Vec<Tested> {
    let named = results.iter().filter(|r| r.is_valid() && !r.trial.config.label.is_empty());
    let mut points: BTreeMap<String, BTreeMap<u32, BTreeMap<&str, f64>>> = BTreeMap::new();
    for result in named {
        let Some(value) = Metric::Throughput.of(result) else { continue };
        let mut config = result.trial.config.clone();
        (config.label, config.seed) = (String::new(), 0);
        let Ok(point) = serde_json::to_string(&config) else { continue };
        let repeats = points.entry(result.trial.experiment.clone() + &point).or_default();
        let names = repeats.entry(result.trial.repeat).or_default();
        names.insert(result.trial.config.label.as_str(), value);
    }
    let tested = points.into_values().filter_map(|repeats| {
        let pair = |names: BTreeMap<&str, f64>| {
            let mut values = names.into_values();
            Some((values.next()?, values.next()?))
        };
        let pairs: Vec<(f64, f64)> = repeats.into_values().filter_map(pair).collect();
        Tested::of(&pairs, 1.0)
    });
    tested.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::TrialConfig;
    use crate::report::result::tests::sample;

    #[test]
    fn equal_trials_under_two_names_tell_the_noise() {
        let of = |repeat: u32, label: &str, us: u64| {
            let config = TrialConfig { label: label.to_owned(), ..TrialConfig::default() };
            sample("AA", repeat, config, us)
        };
        let results: Vec<TrialResult> = [(0, 1000, 1020), (1, 1030, 1000), (2, 1000, 1010)]
            .into_iter()
            .flat_map(|(repeat, one, two)| [of(repeat, "A", one), of(repeat, "B", two)])
            .collect();
        let found = ratios(&results);
        assert_eq!((found.len(), found[0].pairs), (1, 3));
        assert!(found[0].low < 1.0 && found[0].high > 1.0, "{found:?}");
        let text = paragraph(&results);
        assert!(text.contains("at 1 points") && text.contains(" 0 of these"), "{text}");
        // One name, or no second pair: nothing is said.
        let one: Vec<TrialResult> =
            results.iter().filter(|r| r.trial.config.label == "A").cloned().collect();
        assert_eq!((paragraph(&one), paragraph(&results[..2])), (String::new(), String::new()));
    }
}
