//! How a phase is to run, how far it is, and why it could not be finished.

use super::history::HistoryError;
use super::offered::OfferedLoad;
use super::plan::Phase;
use super::target::TargetError;
use std::time::Duration;
use thiserror::Error;

/// A phase that could not be finished.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The store is gone.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The history cannot be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A run without an end.
    #[error(
        "the run has no end: set operationcount in the workload, or --operations or --duration"
    )]
    Endless,
    /// A ramp over no time.
    #[error("a ramp of the rate goes over the measured time: set --duration")]
    RampWithoutDuration,
}

/// How to run a phase.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseConfig {
    /// Sessions.
    pub clients: usize,
    /// Seed of all randomness of the phase.
    pub seed: u64,
    /// Run before anything is measured; the load phase has none.
    pub warmup: Duration,
    /// Operations to start after warm-up; the load phase inserts all its records.
    pub operations: Option<u64>,
    /// Length of the measured window; whichever of the two ends first.
    pub duration: Option<Duration>,
    /// The load of an open loop; None for as fast as operations complete. The load phase ignores
    /// it. Steps and traces end the window when they end.
    pub offered: Option<OfferedLoad>,
    /// How long to wait at the end for what is outstanding before it counts as lost.
    pub drain_limit: Duration,
    /// Length of a point of the time series.
    pub series_interval: Duration,
}

impl PhaseConfig {
    /// The measured time that a run of this configuration is given, where it is.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        let own = match &self.offered {
            Some(load @ OfferedLoad::Steps(_)) => load.duration(),
            // A trace ends with its last operation, which may start at its very end.
            Some(
                OfferedLoad::Constant(_) | OfferedLoad::Ramp { .. } | OfferedLoad::Trace { .. },
            )
            | None => None,
        };
        self.duration.into_iter().chain(own).min()
    }

    /// # Errors
    /// [`BenchError::Endless`] and [`BenchError::RampWithoutDuration`].
    pub(super) fn check(&self, phase: Phase) -> Result<(), BenchError> {
        let is_trace = matches!(self.offered, Some(OfferedLoad::Trace { .. }));
        match (phase, &self.offered) {
            (Phase::Load, _) => Ok(()),
            (Phase::Run, Some(OfferedLoad::Ramp { .. })) if self.duration.is_none() => {
                Err(BenchError::RampWithoutDuration)
            }
            (Phase::Run, _) if self.operations.or(self.window().map(|_| 0)).is_none() => {
                if is_trace { Ok(()) } else { Err(BenchError::Endless) }
            }
            (Phase::Run, _) => Ok(()),
        }
    }
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self {
            clients: 1,
            seed: 1,
            warmup: Duration::ZERO,
            operations: None,
            duration: None,
            offered: None,
            drain_limit: Duration::from_secs(60),
            series_interval: Duration::from_secs(1),
        }
    }
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Which.
    pub phase: Phase,
    /// Since its start, warm-up included.
    pub elapsed: Duration,
    /// Completed well so far, without warm-up.
    pub operations: u64,
    /// Failed so far.
    pub failures: u64,
}
