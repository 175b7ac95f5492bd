//! A monotonic clock as the machines want it: nanoseconds from an origin.

use crate::time::Instant;

/// Counts from its creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// Starts now.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a clock's creation is an event, not a default")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// Nanoseconds since the origin; from 1, as 0 means "right now" to the machines.
    #[must_use]
    pub fn now(&self) -> Instant {
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Instant::from_nanos(nanos.max(1))
    }

    /// The system's instant for `at`.
    #[must_use]
    pub fn system(&self, at: Instant) -> std::time::Instant {
        self.origin + std::time::Duration::from_nanos(at.as_nanos())
    }

    /// This clock's instant for the system's `at`.
    #[must_use]
    pub fn instant(&self, at: std::time::Instant) -> Instant {
        let since = at.saturating_duration_since(self.origin).as_nanos();
        Instant::from_nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }
}
