//! Ratios of paired trials: their interval, and how sure one is that they differ from a threshold.
//!
//! Ratios multiply, so everything is done on logarithms: Student's t on the log ratios of pairs (trials
//! of one repeat share a seed and stand side by side in time). Several decisions at once are corrected
//! by Holm's method. One pair decides nothing.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// A ratio over pairs, held against a threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested {
    /// Geometric mean of the ratios.
    pub ratio: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p of "the ratio is the threshold", uncorrected.
    pub p: f64,
    /// Pairs.
    pub pairs: usize,
    /// Standard error of the logarithm of the ratio.
    pub error: f64,
    /// How far the logarithm may be off besides, in every pair alike.
    pub slack: f64,
}

impl Tested {
    /// Of pairs `(above, below)` against `threshold`; None for fewer than two, and when one is not of
    /// positive numbers: to leave it out would leave out the worst.
    #[must_use]
    pub fn of(pairs: &[(f64, f64)], threshold: f64) -> Option<Self> {
        Self::of_bracketed(pairs, threshold, 0.0)
    }

    /// The same of numbers that are each known to a factor alone, whose logarithms are at most `slack`
    /// together: no repetition makes that smaller, so that it is added to the interval whole.
    #[must_use]
    pub fn of_bracketed(pairs: &[(f64, f64)], threshold: f64, slack: f64) -> Option<Self> {
        let logs: Vec<f64> = pairs
            .iter()
            .filter(|(above, below)| *above > 0.0 && *below > 0.0 && threshold > 0.0)
            .map(|(above, below)| (above / below).ln())
            .collect();
        let count = logs.len() as f64;
        if logs.len() < pairs.len().max(2) {
            return None;
        }
        let mean = logs.iter().sum::<f64>() / count;
        let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
        // Equal trials to the last digit say that the clock is coarse, not that there is no error.
        let error = (squares / (count - 1.0) / count).sqrt().max(LEAST_ERROR);
        let student = StudentsT::new(0.0, 1.0, count - 1.0).ok()?;
        let distance = ((mean - threshold.ln()).abs() - slack).max(0.0) / error;
        let p = (2.0 * (1.0 - student.cdf(distance))).clamp(0.0, 1.0);
        let ratio = mean.exp();
        let tested = Self { ratio, low: ratio, high: ratio, p, pairs: logs.len(), error, slack };
        let [low, high] = tested.interval(0.05)?;
        Some(Self { low, high, ..tested })
    }

    /// The interval that misses the true ratio with probability `miss`.
    #[must_use]
    pub fn interval(&self, miss: f64) -> Option<[f64; 2]> {
        let student = StudentsT::new(0.0, 1.0, self.pairs as f64 - 1.0).ok()?;
        let reach = (student.inverse_cdf(1.0 - miss / 2.0) * self.error + self.slack).exp();
        Some([self.ratio / reach, self.ratio * reach])
    }
}

/// Holm's correction: for each p what it is worth among all of them.
#[must_use]
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let mut corrected = vec![0.0; ps.len()];
    let mut highest: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        let worth = ps[place] * (ps.len() - rank) as f64;
        highest = highest.max(worth).min(1.0);
        corrected[place] = highest;
    }
    corrected
}

/// The probability of missing at which Holm's method tests each of these p, in all `SIGNIFICANT`: an
/// interval made for it shows what decides.
#[must_use]
pub fn holm_levels(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let mut levels = vec![SIGNIFICANT; ps.len()];
    for (rank, place) in order.into_iter().enumerate() {
        levels[place] = SIGNIFICANT / (ps.len() - rank) as f64;
    }
    levels
}

/// Standard error of a log ratio that is taken as the least possible: a tenth of a percent.
const LEAST_ERROR: f64 = 0.001;
/// Below it a corrected p decides.
pub const SIGNIFICANT: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn holm_is_as_in_the_books() {
        // Holm (1979): 0.01, 0.04, 0.03 of three: 0.03, then 0.06 for both others.
        let corrected = holm(&[0.01, 0.04, 0.03]);
        for (found, right) in corrected.iter().zip([0.03, 0.06, 0.06]) {
            assert!((found - right).abs() < 1e-12, "{corrected:?}");
        }
        assert!(holm(&[]).is_empty() && holm(&[0.9, 0.8]).iter().all(|p| *p <= 1.0));
    }

    #[test]
    fn what_holm_rejects_has_the_threshold_outside_of_its_interval() {
        let samples = [[1.9, 2.0, 2.1], [1.0, 1.5, 1.1], [1.2, 1.25, 1.3]];
        let of = |ratios: &[f64; 3]| Tested::of(&ratios.map(|ratio| (ratio, 1.0)), 1.0).unwrap();
        let tested = samples.each_ref().map(of);
        let ps = tested.map(|tested| tested.p);
        let levels = holm_levels(&ps);
        for ((tested, level), corrected) in tested.iter().zip(levels).zip(holm(&ps)) {
            let [low, high] = tested.interval(level).unwrap();
            assert!(low <= tested.low && tested.high <= high, "{tested:?}");
            assert_eq!(corrected < SIGNIFICANT, !(low..=high).contains(&1.0), "{tested:?}");
        }
    }

    #[test]
    fn a_known_sample_gives_the_t_of_the_tables() {
        // Log ratios 1, 2, 3: mean 2, error 1/sqrt(3); t with 2 degrees at 97.5 % is 4.302653.
        let pairs: Vec<(f64, f64)> = [1.0_f64, 2.0, 3.0].map(|log| (log.exp(), 1.0)).to_vec();
        let tested = Tested::of(&pairs, 1.0).unwrap();
        assert!((tested.ratio.ln() - 2.0).abs() < 1e-9);
        assert!((tested.high.ln() - 2.0 - 4.302_653 / 3.0_f64.sqrt()).abs() < 1e-4);
        // t = 3.4641 with 2 degrees: p = 0.0742.
        assert!((tested.p - 0.0742).abs() < 1e-3, "{}", tested.p);
        assert!(Tested::of(&pairs[..1], 1.0).is_none());
    }

    #[test]
    fn what_is_known_to_a_bracket_alone_is_no_surer_by_repetition() {
        let pairs = [(2.0, 1.0); 5];
        let sharp = Tested::of(&pairs, 1.98).unwrap();
        let bracketed = Tested::of_bracketed(&pairs, 1.98, 0.04).unwrap();
        assert!(sharp.p < SIGNIFICANT && bracketed.p > 0.99, "{sharp:?} {bracketed:?}");
        assert!((bracketed.high / sharp.high).ln() - 0.04 < 1e-9);
        assert!(bracketed.low < 1.98 && bracketed.high > 2.0 * 1.04);
        assert!(Tested::of_bracketed(&pairs, 1.8, 0.04).unwrap().p < SIGNIFICANT);
    }

    #[test]
    fn intervals_cover_as_often_as_they_say() {
        let mut rng = Rng::new(5);
        let mut normal = || (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
        let covered = (0..2000)
            .filter(|_| {
                let pairs: Vec<(f64, f64)> =
                    (0..5).map(|_| ((0.3 + 0.2 * normal()).exp(), 1.0)).collect();
                let tested = Tested::of(&pairs, 1.0).unwrap();
                tested.low <= 0.3_f64.exp() && 0.3_f64.exp() <= tested.high
            })
            .count();
        assert!((1860..=1940).contains(&covered), "{covered} of 2000");
    }
}
