//! The end of an open loop's window: what was due by then and is not sent yet.
//!
//! An operation that a session stood free for was only woken for late: it is sent. All others waited
//! for a session to the window's end, and would have waited on. Left out they would make a store look
//! the better the less it takes in (coordinated omission), so that each is counted, and its wait
//! recorded as the least that its latency can have been.

use super::super::stage::metric;
use super::Engine;
use std::time::Instant;

impl Engine<'_> {
    /// Ends the window if it is over at `now`.
    pub(super) fn end_window(&mut self, now: Instant) {
        let Some(until) = self.until.filter(|until| now >= *until && !self.is_exhausted) else {
            return;
        };
        if self.arrivals.is_some() {
            let was_idle = !self.idle.is_empty();
            self.start_late(until);
            self.leave_unsent(until, was_idle);
        }
        self.is_exhausted = true;
    }

    /// Sends what a session stood free for before the window's end.
    fn start_late(&mut self, until: Instant) {
        while let Some(client) = self.idle.last().copied() {
            let due = self.next_due().filter(|due| (*due).max(self.idle_from) < until);
            let Some(due) = due.filter(|_| self.quota > 0) else { return };
            let now = self.target.now();
            if !self.start(client, now, due) {
                return;
            }
            self.idle.pop();
        }
    }

    /// Counts and records what was due before `until` and not sent.
    fn leave_unsent(&mut self, until: Instant, was_idle: bool) {
        let warmup_end = if self.arrivals_after.is_some() { self.from } else { until };
        let idle_from = self.idle_from;
        let (planner, recorder) = (&mut self.planner, &mut self.recorder);
        let mut leave = |due: Instant, count: u64| {
            let waited = until.saturating_duration_since(due);
            for (kind, count) in planner.split(count) {
                recorder.not_started(metric(kind), waited, count);
            }
            // With a session free since before it was due it waited for the generator alone.
            if was_idle && due >= idle_from {
                recorder.lags(waited, count);
            }
        };
        let mut limit = self.quota;
        for (schedule, end) in
            [(self.arrivals.as_mut(), warmup_end), (self.arrivals_after.as_mut(), until)]
        {
            if let Some(schedule) = schedule {
                limit = schedule.drain(end, limit, &mut leave);
            }
        }
    }
}
