//! How long each node takes to acknowledge, as a line over the bytes it is sent.
//!
//! A weighted least squares fit per node: old samples fade. It steers how much is sent, never what
//! counts as chosen (rule 8). Source: Crossword's linear model of delay and bandwidth.

use crate::time::Duration;

/// Estimates by id.
#[derive(Clone, Debug)]
pub(super) struct Links {
    fits: Vec<Fit>,
}

/// Faded sums of bytes x and seconds y.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        Self { fits: vec![Fit::default(); nodes] }
    }

    /// The node `node` has acknowledged `bytes` after `took`.
    pub(super) fn sample(&mut self, node: u8, bytes: usize, took: Duration) {
        let Some(fit) = self.fits.get_mut(usize::from(node)) else { return };
        let (x, y) = (bytes as f64, took.as_secs_f64());
        for (sum, add) in [
            (&mut fit.weight, 1.0),
            (&mut fit.x, x),
            (&mut fit.y, y),
            (&mut fit.xx, x * x),
            (&mut fit.xy, x * y),
        ] {
            *sum = *sum * FADE + add;
        }
    }

    /// When an acknowledgement of `bytes` is expected. Zero when nothing was measured (the leader
    /// itself, or a node that just came).
    pub(super) fn expected(&self, node: u8, bytes: usize) -> Duration {
        let Some(fit) = self.fits.get(usize::from(node)).filter(|fit| fit.weight > 0.0) else {
            return Duration::ZERO;
        };
        let (mean_x, mean_y) = (fit.x / fit.weight, fit.y / fit.weight);
        let spread = fit.xx / fit.weight - mean_x * mean_x;
        // Samples of one size say nothing about the slope; a negative one is noise.
        let slope = if spread > 1.0 {
            ((fit.xy / fit.weight - mean_x * mean_y) / spread).max(0.0)
        } else {
            0.0
        };
        let seconds = mean_y + slope * (bytes as f64 - mean_x);
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SECONDS))
    }
}

/// Half of a sample's weight is gone after about 70 more.
const FADE: f64 = 0.99;
const LONGEST_SECONDS: f64 = 3600.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_and_old_lines_fade() {
        let mut links = Links::new(2);
        let line = |base: u64, bytes: u64| Duration::from_nanos(base + 10 * bytes);
        for base in [1_000_000, 5_000_000] {
            for step in 0..2000_u64 {
                let bytes = step % 7 * 1000;
                links.sample(1, usize::try_from(bytes).unwrap(), line(base, bytes));
            }
            let expected = links.expected(1, 20_000).as_secs_f64();
            let right = line(base, 20_000).as_secs_f64();
            assert!((expected / right - 1.0).abs() < 0.05, "{expected} is not {right}");
        }
        assert_eq!(links.expected(0, 20_000), Duration::ZERO);
    }
}
