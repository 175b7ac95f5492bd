//! What a running phase says of itself: how far it is, and at its end all that it measured.

use super::super::offered::OfferedLoad;
use super::super::phase::Progress;
use super::super::plan::Phase;
use super::super::report::PhaseReport;
use super::super::validity::{self, Effort};
use super::Engine;
use std::time::Instant;

impl Engine<'_> {
    pub(super) fn progress(&self, now: Instant) -> Progress {
        Progress {
            phase: self.phase,
            elapsed: now.saturating_duration_since(self.origin),
            operations: self.recorder.operations,
            failures: self.recorder.failures,
        }
    }

    fn window_start_unix(&self) -> f64 {
        let ago = self.target.now().saturating_duration_since(self.from);
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap_or_default().saturating_sub(ago).as_secs_f64()
    }

    pub(super) fn report(mut self, effort: Effort) -> PhaseReport {
        // A window that ran out of operations ends with them, one that ran out of time on time.
        let end = match self.until {
            Some(until) if self.ran_out => until.min(self.last_completion),
            Some(until) => until,
            None => self.last_completion,
        };
        let wall = end.saturating_duration_since(self.from);
        let per_second = |count: u64| count as f64 / wall.as_secs_f64().max(1e-9);
        let operations = self.recorder.operations;
        let offered = self.config.offered.clone().filter(|_| self.phase == Phase::Run);
        let (lag, latency) = (self.recorder.lag_summary(), self.recorder.service_latency());
        let is_open = offered.is_some();
        let late_count = self.recorder.late_count(validity::lag_bound(&latency));
        let effort_judged = if self.target.has_virtual_time() { Effort::default() } else { effort };
        let invalid = match self.phase {
            Phase::Load => Vec::new(),
            Phase::Run => validity::reasons(&lag, late_count, &latency, &effort_judged, is_open),
        };
        PhaseReport {
            phase: self.phase,
            window_start_unix: self.window_start_unix(),
            wall_seconds: wall.as_secs_f64(),
            warmup_seconds: self.from.saturating_duration_since(self.origin).as_secs_f64(),
            operations,
            failures: self.recorder.failures,
            not_started: self.recorder.not_started,
            throughput: per_second(operations),
            bytes_per_second: per_second(self.recorder.bytes),
            target_rate: offered.as_ref().map(OfferedLoad::mean_rate),
            offered,
            invalid,
            metrics: self.recorder.metric_reports(),
            errors: self.recorder.error_counts(),
            lag,
            lag_histogram: Some(self.recorder.lag_histogram()),
            thread_cpu_seconds: effort.thread_cpu_seconds,
            thread_wait_seconds: effort.thread_wait_seconds,
            process_cpu_seconds: effort.process_cpu_seconds,
            cpu_us_per_operation: effort
                .thread_cpu_seconds
                .filter(|_| operations > 0)
                .map(|seconds| seconds * 1e6 / operations as f64),
            series_interval_seconds: self.config.series_interval.as_secs_f64(),
            series: self.recorder.take_series(wall),
        }
    }
}
