//! How far a run is: a bar on a terminal, a line a trial elsewhere, with the time that is left.

use super::trial::Trial;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// A bar on a terminal, plain lines elsewhere.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    /// Of every trial, as estimated.
    expected: Vec<Duration>,
    started: Instant,
    /// Estimated time of the trials that were run, and what they took.
    learnt: (Duration, Duration),
    last: Instant,
}

impl Progress {
    pub(super) fn new(trials: &[Trial]) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(trials.len() as u64),
                ProgressDrawTarget::stderr(),
            );
            let template = "{bar:30} {pos}/{len} {elapsed} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let expected = trials.iter().map(|trial| trial.config.estimated_time()).collect();
        let now = Instant::now();
        let learnt = (Duration::ZERO, Duration::ZERO);
        Self { bar, total: trials.len(), expected, started: now, learnt, last: now }
    }

    pub(super) fn advance(&mut self, index: usize, trial: &Trial, outcome: &str) {
        self.learn(index);
        let config = &trial.config;
        let text = format!(
            "{} {} {} {} B {} repeat {}: {outcome}",
            trial.experiment,
            config.policy,
            config.code,
            config.value_bytes,
            config.backend,
            trial.repeat,
        );
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(format!("left about {} s; {text}", self.left(index).as_secs()));
            return;
        }
        let left = self.left(index);
        eprintln!(
            "[{}/{}] {} s, about {} s left: {text}",
            index + 1,
            self.total,
            self.started.elapsed().as_secs(),
            left.as_secs(),
        );
    }

    /// Those that were reused took next to nothing, and teach nothing.
    fn learn(&mut self, index: usize) {
        let took = std::mem::replace(&mut self.last, Instant::now()).elapsed();
        if took > Duration::from_millis(100) {
            self.learnt.0 += self.expected[index];
            self.learnt.1 += took;
        }
    }

    /// Time for the trials behind `index`, if they take as much more or less as those before did.
    fn left(&self, index: usize) -> Duration {
        let estimated: Duration = self.expected[index + 1..].iter().sum();
        let (expected, took) = self.learnt;
        let factor =
            if expected.is_zero() { 1.0 } else { took.as_secs_f64() / expected.as_secs_f64() };
        estimated.mul_f64(factor.clamp(0.2, 5.0))
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
