//! Makes a failing scenario small: fewer faults first, then less load, then a calmer network.
//!
//! Delta debugging (Zeller and Hildebrandt, 2002) on the faults, halves before single ones; all
//! else by trying a smaller value. The seed draws what happens by chance, and any change of the
//! scenario changes what it draws, so a few seeds are tried for every candidate. What the caller
//! takes for the same failure is the caller's business.

use super::scenario::{Scenario, ScenarioFile};
use crate::time::Duration;

/// A smaller scenario that fails in the same way.
#[derive(Clone, Debug, PartialEq)]
pub struct Shrunk {
    /// The smallest one found.
    pub file: ScenarioFile,
    /// Runs that it took.
    pub runs: u64,
}

/// Shrinks `file`, which fails, with at most `runs_max` runs; `fails` runs a candidate and says
/// whether it fails in the same way.
#[must_use]
pub fn shrink(
    file: &ScenarioFile,
    runs_max: u64,
    fails: impl FnMut(&ScenarioFile) -> bool,
) -> Shrunk {
    let mut shrinker = Shrinker { best: file.clone(), runs: 0, runs_max, fails };
    while shrinker.round() && shrinker.runs < runs_max {}
    Shrunk { file: shrinker.best, runs: shrinker.runs }
}

/// What is wrong, without what differs between runs of the same failure: its first words, with
/// numbers left out.
#[must_use]
pub fn failure_kind(what: &str) -> String {
    let first = what.lines().next().unwrap_or_default();
    let words: String = first.chars().map(|c| if c.is_ascii_digit() { ' ' } else { c }).collect();
    let words: Vec<&str> = words.split_whitespace().take(8).collect();
    words.join(" ")
}

struct Shrinker<F> {
    best: ScenarioFile,
    runs: u64,
    runs_max: u64,
    fails: F,
}

impl<F: FnMut(&ScenarioFile) -> bool> Shrinker<F> {
    /// One pass over everything. True when something became smaller.
    fn round(&mut self) -> bool {
        let mut is_smaller = self.drop_faults();
        for smaller in SMALLER {
            // As far as each goes: halving by halving.
            while self.attempt(smaller) {
                is_smaller = true;
            }
        }
        is_smaller | self.shorten_faults()
    }

    /// Leaves out runs of faults, long ones first.
    fn drop_faults(&mut self) -> bool {
        let mut is_smaller = false;
        let mut size = self.best.scenario.faults.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.best.scenario.faults.len() {
                let end = at + size;
                let is_dropped = self.attempt(&|scenario: &Scenario| {
                    let mut scenario = scenario.clone();
                    let end = end.min(scenario.faults.len());
                    scenario.faults.drain(at..end);
                    Some(scenario)
                });
                is_smaller |= is_dropped;
                // What followed has moved up.
                if !is_dropped {
                    at = end;
                }
            }
            size /= 2;
        }
        is_smaller
    }

    fn shorten_faults(&mut self) -> bool {
        let mut is_smaller = false;
        for at in 0..self.best.scenario.faults.len() {
            is_smaller |= self.attempt(&|scenario: &Scenario| {
                let mut scenario = scenario.clone();
                let span = scenario.faults.get_mut(at).and_then(|(_, fault)| fault.span_mut())?;
                *span = halved(*span, SPAN_MIN)?;
                Some(scenario)
            });
        }
        is_smaller
    }

    /// Keeps what `smaller` makes of the best one if that fails, by one of a few seeds.
    fn attempt(&mut self, smaller: &dyn Fn(&Scenario) -> Option<Scenario>) -> bool {
        let Some(scenario) = smaller(&self.best.scenario) else { return false };
        let first = self.best.seed;
        for step in 0..SEEDS {
            if self.runs >= self.runs_max {
                return false;
            }
            self.runs += 1;
            let seed = first.wrapping_add(step);
            let candidate = ScenarioFile { seed, scenario: scenario.clone() };
            if (self.fails)(&candidate) {
                self.best = candidate;
                return true;
            }
        }
        false
    }
}

type Smaller = fn(&Scenario) -> Option<Scenario>;

/// Less load, then a calmer network, then even clocks: each step makes one thing smaller, or there is
/// nothing left to make smaller.
const SMALLER: &[Smaller] = &[
    |scenario| halve(scenario, |s| &mut s.client_count, 1),
    |scenario| halve(scenario, |s| &mut s.sessions_per_client, 1),
    |scenario| halve(scenario, |s| &mut s.operations_per_client, 1),
    |scenario| halve(scenario, |s| &mut s.key_count, 1),
    |scenario| halve(scenario, |s| &mut s.value_bytes_max, 0),
    |scenario| clear(scenario, |s| &mut s.link.loss),
    |scenario| clear(scenario, |s| &mut s.link.burst_enter),
    |scenario| clear(scenario, |s| &mut s.link.duplicate),
    |scenario| clear(scenario, |s| &mut s.link.reorder),
    |scenario| clear(scenario, |s| &mut s.link.corrupt),
    |scenario| clear(scenario, |s| &mut s.link.jitter_ms),
    |scenario| clear(scenario, |s| &mut s.link.delay_ms),
    |scenario| {
        let mut smaller = scenario.clone();
        smaller.missing.pop();
        (smaller != *scenario).then_some(smaller)
    },
    |scenario| {
        let mut smaller = scenario.clone();
        smaller.clocks.clear();
        (smaller != *scenario).then_some(smaller)
    },
    |scenario| {
        // The run ends soon after its last fault has begun.
        let last = scenario.faults.last().map_or(Duration::ZERO, |(at, _)| *at);
        let heal_at = last + HEAL_AFTER;
        (heal_at < scenario.heal_at).then(|| Scenario { heal_at, ..scenario.clone() })
    },
];

fn halve(
    scenario: &Scenario,
    field: fn(&mut Scenario) -> &mut u64,
    least: u64,
) -> Option<Scenario> {
    let mut smaller = scenario.clone();
    let value = field(&mut smaller);
    *value = (*value / 2).max(least);
    (smaller != *scenario).then_some(smaller)
}

fn clear(scenario: &Scenario, field: fn(&mut Scenario) -> &mut f64) -> Option<Scenario> {
    let mut smaller = scenario.clone();
    *field(&mut smaller) = 0.0;
    (smaller != *scenario).then_some(smaller)
}

fn halved(span: Duration, least: Duration) -> Option<Duration> {
    (span > least).then(|| (span / 2).max(least))
}

/// Seeds tried for each candidate.
const SEEDS: u64 = 4;
/// Shorter than this a fault hardly is one.
const SPAN_MIN: Duration = Duration::from_millis(20);
/// From the last fault to the end of all of them.
const HEAL_AFTER: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Fault;

    #[test]
    fn what_does_not_matter_goes() {
        // Fails whenever rank 1 is paused after a crash of rank 0, whatever else is there.
        let is_crash = |fault: &Fault| matches!(fault, Fault::Crash { node: 0, .. });
        let is_pause = |fault: &Fault| matches!(fault, Fault::Pause { node: 1, .. });
        let fails = |file: &ScenarioFile| {
            let faults = &file.scenario.faults;
            let crash = faults.iter().position(|(_, fault)| is_crash(fault));
            let pause = faults.iter().rposition(|(_, fault)| is_pause(fault));
            crash.is_some() && crash < pause && file.scenario.key_count >= 3
        };
        let mut scenario = Scenario::draw(5);
        scenario.key_count = 8;
        let second = Duration::from_secs(1);
        scenario.faults.push((second * 5, Fault::Crash { node: 0, down: second }));
        scenario.faults.push((second * 6, Fault::Pause { node: 1, span: second }));
        let file = ScenarioFile { seed: 5, scenario };
        assert!(fails(&file));
        let shrunk = shrink(&file, 2000, fails).file;
        assert!(fails(&shrunk));
        let Scenario { faults, client_count, key_count, link, .. } = shrunk.scenario;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert_eq!((client_count, key_count), (1, 4));
        assert!(link.loss == 0.0 && link.delay_ms == 0.0);
    }

    #[test]
    fn kinds_of_failures_leave_numbers_out() {
        let kind = failure_kind(
            "two values in slot 17: n1 executed X
more",
        );
        assert_eq!(kind, failure_kind("two values in slot 4: n2 executed X"));
        assert_ne!(kind, failure_kind("no progress: 120s after all faults ended"));
    }
}
