//! Two runs held against each other, point by point.
//!
//! A point is a configuration without its seed; trials of one repeat are paired. All points are one
//! family (Holm). What differs by less than the threshold is equal, whatever its p.

use super::metric::Metric;
use super::paired::{SIGNIFICANT, Tested, holm};
use super::result::TrialResult;
use serde::Serialize;
use std::collections::BTreeMap;

/// One point of both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// Experiment and what its trials do not share.
    pub point: String,
    /// Second run over first.
    pub ratio: f64,
    /// 95 % interval; none for a single pair.
    pub interval: Option<[f64; 2]>,
    /// Corrected over all points.
    pub p_holm: Option<f64>,
    /// What came of it.
    pub verdict: CompareVerdict,
}

/// How the second run is at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareVerdict {
    /// By more than the threshold, and not by chance.
    Better,
    /// By more than the threshold, and not by chance.
    Worse,
    /// Within the threshold, its interval too.
    Equal,
    /// Neither is sure.
    Undecided,
}

/// By point and repeat: what was measured, and its [`Metric::slack`].
type Points = BTreeMap<String, BTreeMap<u32, (f64, f64)>>;

/// Every point that both have, and those that only the first has. `threshold` is a share: 0.05 for five
/// percent.
#[must_use]
pub fn compare(
    first: &[TrialResult],
    second: &[TrialResult],
    metric: &Metric,
    is_more_better: bool,
    threshold: f64,
) -> (Vec<Compared>, Vec<String>) {
    let (first, second) = (points(first, metric), points(second, metric));
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (point, before) in first {
        let Some(after) = second.get(&point) else {
            missing.push(point);
            continue;
        };
        let mut slack: f64 = 0.0;
        let pair = |(repeat, after): (&u32, &(f64, f64))| {
            let before = before.get(repeat).filter(|before| before.0 > 0.0)?;
            slack = slack.max(after.1 + before.1);
            Some((after.0, before.0))
        };
        let pairs: Vec<(f64, f64)> = after.iter().filter_map(pair).collect();
        let Some(single) = pairs.first().map(|pair| pair.0 / pair.1) else {
            missing.push(point);
            continue;
        };
        // Of nothing there is no ratio to test, and no doubt.
        let is_gone = is_more_better && pairs.len() > 1 && pairs.iter().all(|pair| pair.0 <= 0.0);
        found.push((point, single, is_gone, Tested::of_bracketed(&pairs, 1.0, slack)));
    }
    let ps: Vec<f64> = found.iter().filter_map(|found| Some(found.3.as_ref()?.p)).collect();
    let mut corrected = holm(&ps).into_iter();
    let judge = |(point, single, is_gone, tested): (String, f64, bool, Option<Tested>)| {
        let p = tested.and_then(|_| corrected.next());
        let interval = tested.map(|tested| [tested.low, tested.high]);
        let ratio = tested.map_or(single, |tested| tested.ratio);
        let bounds = (1.0 / (1.0 + threshold), 1.0 + threshold);
        let is_within = |at: f64| at >= bounds.0 && at <= bounds.1;
        let is_sure = p.is_some_and(|p| p < SIGNIFICANT);
        let verdict = match interval {
            Some([low, high]) if is_within(low) && is_within(high) => CompareVerdict::Equal,
            Some([low, high]) if is_sure && (low > bounds.1 || high < bounds.0) => {
                let is_better = (ratio > 1.0) == is_more_better;
                if is_better { CompareVerdict::Better } else { CompareVerdict::Worse }
            }
            None if is_gone => CompareVerdict::Worse,
            Some(_) | None => CompareVerdict::Undecided,
        };
        Compared { point, ratio, interval, p_holm: p, verdict }
    };
    (found.into_iter().map(judge).collect(), missing)
}

fn points(results: &[TrialResult], metric: &Metric) -> Points {
    let mut points = Points::new();
    for result in results.iter().filter(|result| result.is_valid()) {
        let Some(value) = metric.of(result) else { continue };
        let mut config = serde_json::to_value(&result.trial.config).unwrap_or_default();
        let defaults = serde_json::to_value(crate::experiment::TrialConfig::default());
        let defaults = defaults.unwrap_or_default();
        if let Some(map) = config.as_object_mut() {
            map.remove("seed");
            map.remove("costs");
            map.retain(|key, value| defaults.get(key) != Some(value));
        }
        let named = config.as_object().into_iter().flatten();
        let named: Vec<String> = named.map(|(key, value)| format!("{key}={value}")).collect();
        let point = format!("{} {}", result.trial.experiment, named.join(" "));
        let measured = (value, metric.slack(result));
        points.entry(point).or_default().insert(result.trial.repeat, measured);
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::TrialConfig;
    use crate::report::result::tests::sample;

    fn run(us: u64) -> Vec<TrialResult> {
        let of = |repeat: u32| {
            let config = TrialConfig { seed: u64::from(repeat), ..TrialConfig::default() };
            sample("E1", repeat, config, us + u64::from(repeat))
        };
        (0..5).map(of).collect()
    }

    #[test]
    fn a_slower_run_is_worse_and_the_same_is_equal() {
        let verdict =
            |us| compare(&run(1000), &run(us), &Metric::Throughput, true, 0.05).0.remove(0).verdict;
        assert_eq!(verdict(1000), CompareVerdict::Equal);
        assert_eq!(verdict(1500), CompareVerdict::Worse);
        assert_eq!(verdict(700), CompareVerdict::Better);
        let mut gone = run(1000);
        for phase in gone.iter_mut().flat_map(|result| &mut result.phases) {
            phase.throughput_ops_per_s = 0.0;
        }
        let compared = compare(&run(1000), &gone, &Metric::Throughput, true, 0.05);
        assert_eq!(compared.0[0].verdict, CompareVerdict::Worse, "nothing is worse than something");
        gone[1] = run(1000).remove(1);
        let compared = compare(&run(1000), &gone, &Metric::Throughput, true, 0.05);
        assert_eq!(
            compared.0[0].verdict,
            CompareVerdict::Undecided,
            "and one trial decides nothing"
        );
        let single = &run(1500)[..1];
        let compared = compare(&run(1000), single, &Metric::Throughput, true, 0.05);
        assert_eq!(compared.0[0].verdict, CompareVerdict::Undecided);
        let (rows, missing) = compare(&run(1000), &[], &Metric::Throughput, true, 0.05);
        assert!(rows.is_empty() && missing.len() == 1, "what went missing is named");
    }
}
