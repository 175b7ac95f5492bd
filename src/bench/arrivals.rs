//! When operations are due under an offered load, and when one that is late may start.
//!
//! A schedule knows nothing of how late anyone is: arrivals are neither skipped nor moved. The
//! rate's integral over time is the expected count of arrivals; the next one is due where that
//! integral has grown by 1 (fixed) or by an exponential draw (Poisson), which is exact for every
//! shape of rate. Source: Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes"
//! (1979), time-scale transformation.

use super::choices::Arrivals;
use super::offered::OfferedLoad;
use crate::rng::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When operations are due.
pub(super) struct Schedule {
    origin: Instant,
    form: Form,
    arrivals: Arrivals,
    /// Where on the rate's integral the next one is.
    area: f64,
    next: Option<Instant>,
    rng: Rng,
}

enum Form {
    Pieces { pieces: Vec<Piece>, at: usize },
    Times { due_seconds: Arc<[f64]>, at: usize },
}

/// A stretch over which the rate is linear.
struct Piece {
    start_seconds: f64,
    /// Infinite for the last of a load without an end.
    seconds: f64,
    from: f64,
    to: f64,
    /// The rate's integral up to its start, and over it.
    area_before: f64,
    area: f64,
}

impl Schedule {
    /// Of `load` from `origin` on; a ramp takes `window`.
    pub fn new(
        origin: Instant,
        load: &OfferedLoad,
        window: Option<Duration>,
        arrivals: Arrivals,
        mut rng: Rng,
    ) -> Self {
        let form = match load {
            OfferedLoad::Constant(rate) => pieces(&[(*rate, *rate, f64::INFINITY)]),
            OfferedLoad::Ramp { from, to } => {
                let seconds = window.map_or(0.0, |window| window.as_secs_f64());
                pieces(&[(*from, *to, seconds), (*to, *to, f64::INFINITY)])
            }
            OfferedLoad::Steps(steps) => {
                let steps = steps.iter().map(|step| (step.rate, step.rate, step.seconds));
                pieces(&steps.collect::<Vec<_>>())
            }
            OfferedLoad::Trace { due_seconds, .. } => {
                Form::Times { due_seconds: Arc::clone(due_seconds), at: 0 }
            }
        };
        let area = match arrivals {
            Arrivals::Fixed => 0.0,
            Arrivals::Poisson => exponential(&mut rng),
        };
        let mut schedule = Self { origin, form, arrivals, area, next: None, rng };
        schedule.next = schedule.due();
        schedule
    }

    /// When the next operation is due; None when the load has ended.
    pub const fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// The next operation has been started.
    pub fn advance(&mut self) {
        match &mut self.form {
            Form::Times { at, .. } => *at += 1,
            Form::Pieces { .. } => {
                self.area += match self.arrivals {
                    Arrivals::Fixed => 1.0,
                    Arrivals::Poisson => exponential(&mut self.rng),
                };
            }
        }
        self.next = self.due();
    }

    /// Takes what is due before `until` off the schedule, at most `limit`, and gives `each` a due time
    /// and how many have it. A load of any rate costs no more than a moment: after the first hundred
    /// thousand the rest is counted by the rate's integral, which for Poisson arrivals is what is to
    /// be expected, and given in a thousand steps. What is left of `limit` is returned.
    pub fn drain(
        &mut self,
        until: Instant,
        mut limit: u64,
        each: &mut dyn FnMut(Instant, u64),
    ) -> u64 {
        for _ in 0..WALKED_MAX {
            match self.next.filter(|due| *due < until && limit > 0) {
                Some(due) => each(due, 1),
                None => return limit,
            }
            limit -= 1;
            self.advance();
        }
        let count = self.count_before(until).min(limit);
        let step = count.div_ceil(DRAIN_STEPS).max(1);
        let mut left = count;
        while left > 0 {
            let count = step.min(left);
            let half = count / 2;
            self.skip(half);
            if let Some(due) = self.due() {
                each(due.min(until), count);
            }
            self.skip(count - half);
            left -= count;
        }
        self.next = self.due();
        limit - count
    }

    fn skip(&mut self, count: u64) {
        match &mut self.form {
            Form::Times { at, .. } => *at += usize::try_from(count).unwrap_or(usize::MAX),
            Form::Pieces { .. } => self.area += count as f64,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of arrivals, not below 0; saturates"
    )]
    fn count_before(&self, until: Instant) -> u64 {
        let seconds = until.saturating_duration_since(self.origin).as_secs_f64();
        match &self.form {
            Form::Times { due_seconds, at } => {
                due_seconds[*at..].partition_point(|due| *due < seconds) as u64
            }
            Form::Pieces { pieces, .. } => {
                let piece = pieces.iter().rfind(|piece| piece.start_seconds <= seconds);
                let area = piece.map_or(0.0, |piece| piece.area_at(seconds));
                (area - self.area).ceil().max(0.0) as u64
            }
        }
    }

    fn due(&mut self) -> Option<Instant> {
        let seconds = match &mut self.form {
            Form::Times { due_seconds, at } => due_seconds.get(*at).copied()?,
            Form::Pieces { pieces, at } => {
                while pieces.get(*at)?.ends_before(self.area) {
                    *at += 1;
                }
                pieces.get(*at)?.seconds_at(self.area)
            }
        };
        Duration::try_from_secs_f64(seconds).ok().and_then(|span| self.origin.checked_add(span))
    }
}

impl Piece {
    fn ends_before(&self, area: f64) -> bool {
        area >= self.area_before + self.area
    }

    /// The rate's integral from the load's start to that time, which is not before this piece.
    fn area_at(&self, seconds: f64) -> f64 {
        let inside = (seconds - self.start_seconds).min(self.seconds);
        self.area_before + inside * (self.from + 0.5 * self.slope() * inside)
    }

    fn slope(&self) -> f64 {
        if self.seconds.is_finite() { (self.to - self.from) / self.seconds } else { 0.0 }
    }

    /// The time at which the integral is `area`, which lies in this piece.
    fn seconds_at(&self, area: f64) -> f64 {
        let inside = area - self.area_before;
        if inside <= 0.0 {
            return self.start_seconds;
        }
        let slope = self.slope();
        if slope == 0.0 {
            return self.start_seconds + inside / self.from;
        }
        // The root of from·t + slope·t²/2 = inside in the form that cancels nothing.
        let root = (self.from * self.from + 2.0 * slope * inside).max(0.0).sqrt();
        self.start_seconds + 2.0 * inside / (self.from + root)
    }
}

fn pieces(shape: &[(f64, f64, f64)]) -> Form {
    let (mut start_seconds, mut area_before) = (0.0, 0.0);
    let mut pieces = Vec::with_capacity(shape.len());
    for (from, to, seconds) in shape {
        let area = match f64::midpoint(*from, *to) {
            mean if mean > 0.0 => mean * seconds,
            _ => 0.0,
        };
        let (from, to, seconds) = (*from, *to, *seconds);
        pieces.push(Piece { start_seconds, seconds, from, to, area_before, area });
        start_seconds += seconds;
        area_before += area;
    }
    Form::Pieces { pieces, at: 0 }
}

fn exponential(rng: &mut Rng) -> f64 {
    // 1 - u is in (0, 1]: no logarithm of 0.
    -(1.0 - rng.unit()).ln()
}

/// Lets the backlog of a generator that was held up out at four times its pace, not at once:
/// a burst would measure the generator's stall as the store's. Operations keep their due times.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Since when, and the due time of the first of the backlog.
    anchor: Option<(Instant, Instant)>,
}

impl CatchUp {
    /// When an operation due at `due` may start, looked at `now` with a session free since
    /// `idle_from`. Before `now` or at it: at once.
    pub fn release(&mut self, due: Instant, idle_from: Instant, now: Instant) -> Instant {
        // Waiting for a session is the store's doing, and what an open system would have sent.
        let ready = due.max(idle_from);
        if let Some((since, first)) = self.anchor {
            let release = since + due.saturating_duration_since(first) / CATCH_UP_SPEED;
            if release > due && ready == due {
                if release + STALL > now {
                    return release;
                }
            } else {
                self.anchor = None;
            }
        }
        if now.saturating_duration_since(ready) > STALL && ready == due {
            self.anchor = Some((now, due));
            return now;
        }
        ready
    }
}

/// Arrivals that are taken off one by one.
const WALKED_MAX: u32 = 100_000;
/// Due times that stand for all others.
const DRAIN_STEPS: u64 = 1000;
/// The generator is held up, and not merely woken late, from here on.
const STALL: Duration = Duration::from_millis(1);
/// A generator that gets a third of a core still catches up.
const CATCH_UP_SPEED: u32 = 4;

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
