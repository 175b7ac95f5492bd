//! Medians and bootstrap intervals over trials; deterministic.
//!
//! Percentile bootstrap (Efron) of the median, 2000 resamples from a fixed seed.

use crate::rng::Rng;

const RESAMPLES: usize = 2000;
const SEED: u64 = 0x0b00_7575;

/// Of fewer trials the interval is hardly more than their range, and called that.
pub const RANGE_BELOW: usize = 5;

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median over trials.
    pub median: f64,
    /// Lower end, None for a single trial.
    pub low: Option<f64>,
    /// Upper end, None for a single trial.
    pub high: Option<f64>,
    /// Trials.
    pub trials: usize,
}

impl Estimate {
    /// Median and interval of `values`; None when there are none or one is not finite.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let point = median(values)?;
        if values.len() < 2 {
            return Some(Self { median: point, low: None, high: None, trials: 1 });
        }
        let mut rng = Rng::new(SEED);
        let count = values.len() as u64;
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .filter_map(|_| {
                let drawn = (0..count)
                    .map(|_| values[usize::try_from(rng.below(count)).unwrap_or(0)])
                    .collect::<Vec<_>>();
                median(&drawn)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let low = medians.get(RESAMPLES / 40).copied();
        let high = medians.get(RESAMPLES - 1 - RESAMPLES / 40).copied();
        Some(Self { median: point, low, high, trials: values.len() })
    }

    /// The interval made wider at both ends by a factor, whose logarithm is `slack`.
    #[must_use]
    pub fn widened(self, slack: f64) -> Self {
        let factor = slack.exp();
        let (low, high) = (self.low.map(|low| low / factor), self.high.map(|high| high * factor));
        Self { low, high, ..self }
    }

    /// Ratio of paired trials, `(numerator, denominator)`; pairs with a 0 below are left out.
    #[must_use]
    pub fn of_ratio(pairs: &[(f64, f64)]) -> Option<Self> {
        let ratios: Vec<f64> =
            pairs.iter().filter(|pair| pair.1 != 0.0).map(|pair| pair.0 / pair.1).collect();
        Self::of(&ratios)
    }
}

/// The median; None when there are no values or one is not finite.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return Some(sorted[middle]);
    }
    Some(f64::midpoint(sorted[middle - 1], sorted[middle]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_interval_are_deterministic_and_ordered() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0];
        let estimate = Estimate::of(&values).unwrap();
        assert_eq!(estimate.median, 3.5);
        assert_eq!(Some(estimate), Estimate::of(&values));
        assert!(estimate.low.unwrap() < 3.5 && estimate.high.unwrap() > 3.5);
    }

    #[test]
    fn a_single_trial_has_no_interval() {
        let one = Estimate::of(&[2.0]).unwrap();
        assert_eq!((one.low, one.high, one.trials), (None, None, 1));
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of(&[f64::NAN]), None);
    }

    #[test]
    fn a_paired_ratio_cancels_what_the_pair_shares() {
        let ratio = Estimate::of_ratio(&[(2.0, 1.0), (20.0, 10.0), (6.0, 3.0)]).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, Some(2.0), Some(2.0)));
    }
}
