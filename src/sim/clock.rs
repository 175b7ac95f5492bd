//! One machine's clock: a nanosecond counter that started elsewhere and runs faster or slower than
//! the world's.
//!
//! It never goes backwards and runs through pauses. Rates may change; the two conversions stay
//! inverse: a timer set for a local instant is due at the first world instant that reaches it.

use crate::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

/// How a node's clock differs from the world's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSetting {
    /// What it shows when the world begins.
    pub offset_ms: u64,
    /// How much faster it runs, in parts per million.
    pub drift_ppm: i64,
}

/// A clock that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// A pair of instants that belong together.
    world: Instant,
    local: Instant,
    /// Local nanoseconds in a million of the world's.
    rate: u128,
}

impl Clock {
    pub(super) fn new(setting: ClockSetting) -> Self {
        let local = Instant::ZERO + Duration::from_millis(setting.offset_ms);
        Self { world: Instant::ZERO, local, rate: rate_of(setting.drift_ppm) }
    }

    /// What it shows.
    pub(super) fn local(&self, world: Instant) -> Instant {
        if self.rate == MILLION {
            return self.local + world.since(self.world);
        }
        let elapsed = world.since(self.world).as_nanos() * self.rate / MILLION;
        self.local + nanos(elapsed)
    }

    /// When it shows at least `local`.
    pub(super) fn world(&self, local: Instant) -> Instant {
        if self.rate == MILLION {
            return self.world + local.since(self.local);
        }
        let elapsed = (local.since(self.local).as_nanos() * MILLION).div_ceil(self.rate);
        self.world + nanos(elapsed)
    }

    /// Does it run as the world does?
    pub(super) const fn is_steady(&self) -> bool {
        self.rate == MILLION
    }

    /// What it would show now if it had run by `drift_ppm` since `then`, a time and what it showed.
    pub(super) fn undisturbed(then: (Instant, Instant), world: Instant, drift_ppm: i64) -> Instant {
        let clock = Self { world: then.0, local: then.1, rate: rate_of(drift_ppm) };
        clock.local(world)
    }

    /// Runs differently from now on.
    pub(super) fn set_drift(&mut self, world: Instant, drift_ppm: i64) {
        self.local = self.local(world);
        self.world = world;
        self.rate = rate_of(drift_ppm);
    }
}

fn rate_of(drift_ppm: i64) -> u128 {
    let million = i64::try_from(MILLION).unwrap_or(i64::MAX);
    u128::try_from((million + drift_ppm).max(1)).unwrap_or(1)
}

fn nanos(of: u128) -> Duration {
    Duration::from_nanos(u64::try_from(of).unwrap_or(u64::MAX))
}

const MILLION: u128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_at_the_first_instant_that_reaches_it() {
        for drift_ppm in [-50_000, -7, 0, 3, 4_999, 150_000] {
            let mut clock = Clock::new(ClockSetting { offset_ms: 77, drift_ppm });
            for step in 0..200_u64 {
                let world = Instant::from_nanos(step * 1_000_003);
                if step == 100 {
                    clock.set_drift(world, -drift_ppm);
                }
                let local = clock.local(world);
                let due = clock.world(local);
                assert!(clock.local(due) >= local && due <= world, "{drift_ppm} at {step}");
                let before = Instant::from_nanos(due.as_nanos().saturating_sub(1));
                let is_early = clock.local(before) < local;
                assert!(is_early || due == clock.world, "{drift_ppm} at {step}");
            }
        }
    }
}
