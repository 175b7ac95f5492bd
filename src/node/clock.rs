//! A clock as the machines want it: nanoseconds from an origin.
//!
//! It runs on while the machine is suspended, so that a lease ends then too (DESIGN 3.4).

use crate::time::{Duration, Instant};
use rustix::time::{ClockId, clock_gettime};

/// Counts from its creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds of the system's clock.
    origin: u64,
}

impl Clock {
    /// Starts now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a clock's creation is an event, not a default")]
    pub fn new() -> Self {
        Self { origin: nanos() }
    }

    /// Nanoseconds since the origin; from 1, as 0 means "right now" to the machines.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(nanos().saturating_sub(self.origin).max(1))
    }

    /// The system's instant for `at`, as far as it can be told now.
    #[must_use]
    pub fn system(&self, at: Instant) -> std::time::Instant {
        std::time::Instant::now() + at.since(self.now())
    }

    /// This clock's instant for the system's `at`, as far as it can be told now.
    #[must_use]
    pub fn instant(&self, at: std::time::Instant) -> Instant {
        let ago = std::time::Instant::now().saturating_duration_since(at);
        let ahead = at.saturating_duration_since(std::time::Instant::now());
        let now = self.now() + ahead;
        let nanos = u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(now.as_nanos().saturating_sub(nanos).max(1))
    }
}

/// The system's clock, in nanoseconds from any origin.
#[must_use]
pub fn nanos() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    let span = Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0));
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_start_of_the_machine() {
        // Not the time of day, which jumps; and a suspended machine's leases must end (so no
        // `CLOCK_MONOTONIC`, but that differs only where there was a suspension).
        let boottime = || {
            let time = clock_gettime(ClockId::Boottime);
            Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().unwrap())
        };
        let before = boottime();
        let now = Duration::from_nanos(nanos());
        assert!(before <= now && now <= boottime(), "{now:?}");
    }
}
