//! When operations are due under a target rate: at fixed distances or as a Poisson process.
//!
//! A schedule knows nothing of how late anyone is: arrivals are neither skipped nor moved.

use super::choices::Arrivals;
use crate::rng::Rng;
use std::time::{Duration, Instant};

/// When operations are due under a target rate.
pub(super) struct Schedule {
    origin: Instant,
    pub rate: f64,
    arrivals: Arrivals,
    due_seconds: f64,
    count: u64,
    rng: Rng,
}

impl Schedule {
    pub fn new(origin: Instant, rate: f64, arrivals: Arrivals, rng: Rng) -> Self {
        Self { origin, rate, arrivals, due_seconds: 0.0, count: 0, rng }
    }

    pub fn next_due(&self) -> Instant {
        self.origin + Duration::from_secs_f64(self.due_seconds)
    }

    pub fn advance(&mut self) {
        self.count += 1;
        self.due_seconds = match self.arrivals {
            Arrivals::Fixed => self.count as f64 / self.rate,
            // 1 - u is in (0, 1]: no logarithm of 0.
            Arrivals::Poisson => self.due_seconds - (1.0 - self.rng.unit()).ln() / self.rate,
        };
    }
}
