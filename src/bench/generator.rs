//! YCSB's number generators with its exact formulas, from a seeded generator.
//!
//! Source: Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD'94) for
//! Zipf, YCSB's `generator` package for the rest. `Scrambled` is what YCSB calls zipfian: Zipf over
//! 10^10 items, hashed onto N, which is much flatter than θ = 0.99 over N items; `ZipfianTrue` is
//! the real one. Invariant: a chosen key number is at most the last acknowledged insert.

use super::keys::fnv_hash;
use crate::rng::Rng;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Zipf-distributed ranks 0..items, θ = 0.99.
#[derive(Clone, Debug)]
pub struct Zipfian {
    items: u64,
    zeta: f64,
    eta: f64,
}

impl Zipfian {
    /// Ranks 0..`items`. Takes time linear in `items` for ζ(items).
    #[must_use]
    pub fn new(items: u64) -> Self {
        assert!(items > 0, "a Zipf distribution needs at least one item");
        Self::with_zeta(items, zeta(0, items, 0.0))
    }

    /// Ranks 0..`items` with ζ(items) known.
    #[must_use]
    pub fn with_zeta(items: u64, zeta: f64) -> Self {
        Self { items, zeta, eta: eta(items, zeta) }
    }

    /// Raises the number of items, adding only the missing terms of ζ.
    pub fn grow(&mut self, items: u64) {
        if items > self.items {
            *self = Self::with_zeta(items, zeta(self.items, items, self.zeta));
        }
    }

    /// The next rank.
    pub fn next(&self, rng: &mut Rng) -> u64 {
        let u = rng.unit();
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + HALF_POW_THETA {
            return 1.min(self.items - 1);
        }
        let rank = self.items as f64 * (self.eta * u - self.eta + 1.0).powf(ALPHA);
        floor(rank).min(self.items - 1)
    }
}

/// Exactly Zipf-distributed ranks 0..items, θ = 0.99, by rejection-inversion (Hörmann and
/// Derflinger, 1996): Gray's formula gives the top tenth of 1000 ranks 69.6 % where θ = 0.99 gives
/// 68.5 %. Needs no ζ, so it starts and grows at once.
#[derive(Clone, Debug)]
pub struct TrueZipfian {
    items: u64,
    integral_low: f64,
    integral_high: f64,
    shortcut: f64,
}

impl TrueZipfian {
    /// Ranks 0..`items`.
    #[must_use]
    pub fn new(items: u64) -> Self {
        assert!(items > 0, "a Zipf distribution needs at least one item");
        Self {
            items,
            integral_low: integral(1.5) - 1.0,
            integral_high: integral(items as f64 + 0.5),
            shortcut: 2.0 - integral_inverse(integral(2.5) - 2_f64.powf(-THETA)),
        }
    }

    /// Raises the number of items.
    pub fn grow(&mut self, items: u64) {
        if items > self.items {
            self.items = items;
            self.integral_high = integral(items as f64 + 0.5);
        }
    }

    /// The next rank.
    pub fn next(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.integral_high + rng.unit() * (self.integral_low - self.integral_high);
            let x = integral_inverse(u);
            let rank = floor(x + 0.5).clamp(1, self.items);
            let k = rank as f64;
            if k - x <= self.shortcut || u >= integral(k + 0.5) - k.powf(-THETA) {
                return rank - 1;
            }
        }
    }
}

/// Draws key numbers for requests on existing records.
#[derive(Clone, Debug)]
pub enum KeyChooser {
    /// Each of `count` numbers from `low` alike.
    Uniform {
        /// The first number.
        low: u64,
        /// How many.
        count: u64,
    },
    /// YCSB's `zipfian`: hot numbers scattered over `count` from `low` by a hash.
    Scrambled {
        /// The first number.
        low: u64,
        /// How many, inserts to be expected included.
        count: u64,
        /// Zipf over 10^10 items.
        zipf: Zipfian,
    },
    /// A true Zipf over the existing records, the lowest number hottest.
    ZipfianTrue {
        /// The first number.
        low: u64,
        /// Over the existing records; grows with inserts.
        zipf: TrueZipfian,
    },
    /// The newest record hottest.
    Latest {
        /// Over the existing records; grows with inserts.
        zipf: Zipfian,
    },
    /// A share of the requests to a share of the numbers.
    Hotspot {
        /// The first number.
        low: u64,
        /// Size of the hot set, which comes first.
        hot_count: u64,
        /// Size of the rest.
        cold_count: u64,
        /// Share of requests to the hot set, 0 to 1.
        hot_share: f64,
    },
    /// One after the other, and round again.
    Sequential {
        /// The first number.
        low: u64,
        /// How many.
        count: u64,
        /// The next, counted from `low`.
        next: u64,
    },
    /// Exponentially distributed distance from the newest record.
    Exponential {
        /// Rate γ = -ln(1 - percentile/100) / range.
        gamma: f64,
    },
}

impl KeyChooser {
    /// YCSB's `zipfian` over `count` numbers from `low`.
    #[must_use]
    pub fn scrambled(low: u64, count: u64) -> Self {
        Self::Scrambled { low, count, zipf: Zipfian::with_zeta(SCRAMBLED_ITEMS, SCRAMBLED_ZETA) }
    }

    /// Hot spot over `count` numbers from `low`: `hot_share` of the requests go to the first
    /// `hot_fraction` of them.
    #[must_use]
    pub fn hotspot(low: u64, count: u64, hot_fraction: f64, hot_share: f64) -> Self {
        let hot_count = floor(count as f64 * hot_fraction).min(count);
        // An empty side gets no requests: YCSB would divide by zero.
        let hot_share = match (hot_count, count - hot_count) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            (_, _) => hot_share,
        };
        Self::Hotspot { low, hot_count, cold_count: count - hot_count, hot_share }
    }

    /// `percentile` percent of requests to the newest `range` records.
    #[must_use]
    pub fn exponential(percentile: f64, range: f64) -> Self {
        Self::Exponential { gamma: -(1.0 - percentile / 100.0).ln() / range }
    }

    /// The next key number, given the last acknowledged insert.
    pub fn next(&mut self, last: u64, rng: &mut Rng) -> u64 {
        loop {
            // Above `last` (or below 0): not inserted yet, drawn again.
            if let Some(number) = self.draw(last, rng).filter(|number| *number <= last) {
                return number;
            }
        }
    }

    fn draw(&mut self, last: u64, rng: &mut Rng) -> Option<u64> {
        match self {
            Self::Uniform { low, count } => Some(*low + rng.below(*count)),
            Self::Scrambled { low, count, zipf } => {
                Some(*low + fnv_hash(zipf.next(rng)).unsigned_abs() % *count)
            }
            Self::ZipfianTrue { low, zipf } => {
                zipf.grow(last + 1 - *low);
                Some(*low + zipf.next(rng))
            }
            Self::Latest { zipf } => {
                zipf.grow(last.max(1));
                last.checked_sub(zipf.next(rng))
            }
            Self::Hotspot { low, hot_count, cold_count, hot_share } => {
                if rng.unit() < *hot_share {
                    Some(*low + rng.below(*hot_count))
                } else {
                    Some(*low + *hot_count + rng.below(*cold_count))
                }
            }
            Self::Sequential { low, count, next } => {
                let number = *low + *next;
                *next = (*next + 1) % *count;
                Some(number)
            }
            Self::Exponential { gamma } => last.checked_sub(exponential(*gamma, rng)),
        }
    }
}

/// Numbers inserts and tells up to where all of them are acknowledged, whatever their order.
#[derive(Clone, Debug)]
pub struct AcknowledgedCounter {
    next: u64,
    /// The lowest number not acknowledged.
    floor: u64,
    /// From `floor` on: acknowledged?
    window: VecDeque<bool>,
}

impl AcknowledgedCounter {
    /// Counts from `start`; everything below counts as acknowledged. `start` is above 0.
    #[must_use]
    pub fn new(start: u64) -> Self {
        assert!(start > 0, "an acknowledged counter starts above 0");
        Self { next: start, floor: start, window: VecDeque::new() }
    }

    /// The next number to insert. Its window grows by one: callers bound their outstanding inserts.
    pub fn issue(&mut self) -> u64 {
        self.window.push_back(false);
        self.next += 1;
        self.next - 1
    }

    /// `number`'s insert ended (well or not: YCSB does not let one failure hold up all).
    pub fn acknowledge(&mut self, number: u64) {
        let index = number.checked_sub(self.floor).and_then(|at| usize::try_from(at).ok());
        let slot = index.and_then(|at| self.window.get_mut(at));
        let is_first = slot.is_some_and(|slot| !std::mem::replace(slot, true));
        assert!(is_first, "insert {number} is acknowledged twice, or was never given out");
        while self.window.front() == Some(&true) {
            self.window.pop_front();
            self.floor += 1;
        }
    }

    /// The highest number up to which every insert is acknowledged.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.floor - 1
    }
}

/// Lengths as published models of production loads have them: the shortest one by one, the rest
/// generalized Pareto: P(length > x) = (1 + shape·(x - location)/scale)^(-1/shape).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParetoLengths {
    /// Probabilities of the lengths 0, 1, 2, …; what is missing to 1 is the Pareto part's.
    pub head: Vec<f64>,
    /// Lowest length of the Pareto part, in bytes.
    pub location: f64,
    /// Its scale σ, in bytes.
    pub scale: f64,
    /// Its shape k; 0 is exponential.
    pub shape: f64,
}

impl ParetoLengths {
    /// The next length, unbounded.
    pub fn next(&self, rng: &mut Rng) -> u64 {
        let mut drawn = rng.unit();
        for (length, share) in self.head.iter().enumerate() {
            if drawn < *share {
                return length as u64;
            }
            drawn -= share;
        }
        // 1 - u is in (0, 1]: no power or logarithm of 0.
        let above = 1.0 - rng.unit();
        let tail = if self.shape == 0.0 {
            -above.ln()
        } else {
            (above.powf(-self.shape) - 1.0) / self.shape
        };
        floor(self.location + self.scale * tail)
    }
}

/// A length drawn per field or scan.
#[derive(Clone, Debug)]
pub enum Length {
    /// Always the same.
    Constant(u64),
    /// Uniform in low..=high.
    Uniform {
        /// The shortest.
        low: u64,
        /// The longest.
        high: u64,
    },
    /// Zipf from `low` on, short ones frequent.
    Zipfian {
        /// The shortest.
        low: u64,
        /// Over the lengths.
        zipf: Zipfian,
    },
    /// By a histogram: bucket i, drawn by its weight, gives (i + 1) * `block`.
    Histogram {
        /// Length per bucket.
        block: u64,
        /// Running sums of the weights; the last is their total, above 0.
        sums: Vec<u64>,
    },
    /// By a published model, within bounds.
    Pareto {
        /// The model.
        lengths: ParetoLengths,
        /// Shorter ones become this long.
        low: u64,
        /// Longer ones become this long.
        high: u64,
    },
}

impl Length {
    /// Zipf over low..=high.
    #[must_use]
    pub fn zipfian(low: u64, high: u64) -> Self {
        Self::Zipfian { low, zipf: Zipfian::new(high - low + 1) }
    }

    /// The next length.
    pub fn next(&self, rng: &mut Rng) -> u64 {
        match self {
            Self::Constant(length) => *length,
            Self::Uniform { low, high } => rng.range(*low, *high),
            Self::Zipfian { low, zipf } => low + zipf.next(rng),
            Self::Pareto { lengths, low, high } => lengths.next(rng).clamp(*low, *high),
            Self::Histogram { block, sums } => {
                let total = sums.last().copied().unwrap_or(1);
                let drawn = rng.below(total);
                let bucket = sums.partition_point(|sum| *sum <= drawn);
                (bucket as u64 + 1) * block
            }
        }
    }
}

/// An exponentially distributed number of rate `gamma`, floored.
pub fn exponential(gamma: f64, rng: &mut Rng) -> u64 {
    // 1 - u is in (0, 1]: no logarithm of 0.
    floor(-(1.0 - rng.unit()).ln() / gamma)
}

/// The integral of x^-θ from 1 to `x`.
fn integral(x: f64) -> f64 {
    ((1.0 - THETA) * x.ln()).exp_m1() * ALPHA
}

fn integral_inverse(area: f64) -> f64 {
    (((1.0 - THETA) * area).max(-1.0).ln_1p() * ALPHA).exp()
}

/// ζ(to) from ζ(from), the terms from + 1 to `to` added.
fn zeta(from: u64, to: u64, known: f64) -> f64 {
    (from..to).fold(known, |sum, index| sum + 1.0 / (index as f64 + 1.0).powf(THETA))
}

fn eta(items: u64, zeta: f64) -> f64 {
    let zeta_2 = 1.0 + HALF_POW_THETA;
    (1.0 - (2.0 / items as f64).powf(1.0 - THETA)) / (1.0 - zeta_2 / zeta)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, and negative or NaN becomes 0, which is in range here"
)]
const fn floor(number: f64) -> u64 {
    number as u64
}

const THETA: f64 = 0.99;
const ALPHA: f64 = 1.0 / (1.0 - THETA);
/// 0.5^θ.
const HALF_POW_THETA: f64 = 0.503_477_775_028_359_4;
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;
/// ζ(10^10), as YCSB states it.
const SCRAMBLED_ZETA: f64 = 26.469_028_201_783_02;

#[cfg(test)]
#[path = "generator_tests.rs"]
mod tests;
