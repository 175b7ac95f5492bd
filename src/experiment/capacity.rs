//! The search for a capacity: the highest offered load that still holds a latency objective (E11).
//!
//! Says which load to try next and nothing else; who offers it is `plain.rs`. Doubling (or
//! halving) from a first load until one held and another did not, then bisection on a log scale.
//! That a load holds is taken to fall with the load: noise between two probes makes the bracket
//! wrong, at the first loads by much, so that one that is over is offered twice before it counts.

use crate::bench::PhaseReport;
use crate::rng::Rng;

/// Loads tried so far.
#[derive(Clone, Debug)]
pub(super) struct CapacitySearch {
    first: f64,
    /// Highest that held.
    held: Option<f64>,
    /// Lowest that did not.
    over: Option<f64>,
    loads_left: u32,
}

impl CapacitySearch {
    /// Begins at `first` operations per second, which must be above 0.
    pub(super) const fn new(first: f64) -> Self {
        Self { first, held: None, over: None, loads_left: LOADS_MAX }
    }

    /// Operations per second to offer next; None when the search is over.
    pub(super) fn next_load(&self) -> Option<f64> {
        let next = match (self.held, self.over) {
            (None, None) => self.first,
            (Some(held), None) => held * 2.0,
            (None, Some(over)) => over / 2.0,
            (Some(held), Some(over)) if over / held > BRACKET => (held * over).sqrt(),
            (Some(_), Some(_)) => return None,
        };
        (self.loads_left > 0).then_some(next)
    }

    /// Did the load that was asked for hold the objective?
    pub(super) fn take(&mut self, load: f64, did_hold: bool) {
        assert!(load.is_finite() && load > 0.0, "a load of {load} op/s was never asked for");
        self.loads_left = self.loads_left.saturating_sub(1);
        if did_hold {
            self.held = Some(load);
        } else {
            self.over = Some(load);
        }
        if let (Some(held), Some(over)) = (self.held, self.over) {
            assert!(held < over, "{held} op/s held and {over} op/s did not");
        }
    }

    /// The highest load that held and the lowest that did not, when both were found and are close.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn bracket(&self) -> Result<(f64, f64), String> {
        match (self.held, self.over) {
            (Some(held), Some(over)) if over / held <= BRACKET => Ok((held, over)),
            (None, Some(over)) => Err(format!(
                "even {over:.1} op/s do not hold the objective: raise p99_objective_ms or lower \
                 offered_ops_per_s, from which the search begins"
            )),
            (Some(held), None) => Err(format!(
                "{held:.1} op/s still hold the objective after {LOADS_MAX} loads: raise \
                 offered_ops_per_s, from which the search begins"
            )),
            (Some(_), Some(_)) | (None, None) => Err(format!(
                "the capacity was not found in {LOADS_MAX} loads: bring offered_ops_per_s, from \
                 which the search begins, nearer to it"
            )),
        }
    }
}

/// What a probe says of the load that it offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds the objective.
    Held,
    /// It does not.
    Over(String),
    /// The generator was late, and nothing else is against it: of the store that says nothing.
    Late(String),
}

impl Verdict {
    /// Held is what nothing failed of, what was taken in time, with p99 from due time of every kind of
    /// operation within the objective, by a generator that kept up.
    pub(super) fn of(report: &PhaseReport, p99_us: u64, objective_ms: f64) -> Self {
        let load = report.target_rate.unwrap_or(0.0);
        if report.failures > 0 {
            return Self::Over(format!("{} operations failed", report.failures));
        }
        let done = report.operations;
        if done == 0 || fell_behind(load, report.wall_seconds, done) {
            let due = load * report.wall_seconds;
            return Self::Over(format!("{done} operations of about {due:.0} were done in time"));
        }
        if p99_us as f64 > objective_ms * 1e3 {
            return Self::Over(format!("p99 {p99_us} us, more than {objective_ms} ms"));
        }
        match report.invalid.first() {
            Some(why) => Self::Late(why.clone()),
            None => Self::Held,
        }
    }
}

/// Where a search begins: within half a doubling of `around`, by the trial's seed. Trials of one repeat
/// search the same loads, and every repeat others, so that their spread is not one of the grid.
pub(super) fn first_load(around: f64, seed: u64) -> f64 {
    around * (Rng::new(seed ^ FIRST_LOAD_SALT).unit() - 0.5).exp2()
}

/// Has a probe completed fewer operations than a load that keeps up would, arrivals being Poisson?
fn fell_behind(load: f64, seconds: f64, completed: u64) -> bool {
    let due = load * seconds;
    (completed as f64) < 0.95 * due - 3.0 * due.sqrt()
}

/// Probes of a search that begins within a factor of eight of the capacity.
pub(super) const PROBES_EXPECTED: u32 = 8;
const FIRST_LOAD_SALT: u64 = 0x6361_7061;
/// Loads of any search; one that is over is offered twice.
const LOADS_MAX: u32 = 16;
/// High over low of a bracket that is close enough.
const BRACKET: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Phase;

    fn search(first: f64, capacity: f64) -> (CapacitySearch, u32) {
        let mut search = CapacitySearch::new(first);
        let mut probes = 0;
        while let Some(load) = search.next_load() {
            search.take(load, load <= capacity);
            probes += 1;
        }
        (search, probes)
    }

    #[test]
    fn the_bracket_holds_the_capacity_and_is_close() {
        for (first, capacity) in [(100.0, 730.0), (100.0, 13.0), (100.0, 100.0), (64.0, 64.9)] {
            let (search, probes) = search(first, capacity);
            let (held, over) = search.bracket().unwrap();
            assert!(held <= capacity && capacity < over, "{held} {capacity} {over}");
            assert!(over / held <= 1.05, "{held} {over}");
            assert!(probes <= PROBES_EXPECTED, "{probes} probes from {first} to {capacity}");
        }
    }

    #[test]
    fn a_search_without_an_end_says_from_where_to_begin() {
        for (capacity, said) in [(0.0, "even"), (f64::MAX, "still hold")] {
            let (search, probes) = search(100.0, capacity);
            assert_eq!(probes, LOADS_MAX);
            let why = search.bracket().unwrap_err();
            assert!(why.contains(said) && why.contains("offered_ops_per_s"), "{why}");
        }
    }

    #[test]
    fn repeats_begin_at_loads_of_their_own() {
        let loads: Vec<f64> = (0..200).map(|seed| first_load(80.0, seed)).collect();
        let (least, most) = (80.0 / 2.0_f64.sqrt(), 80.0 * 2.0_f64.sqrt());
        assert!(loads.iter().all(|load| (least..=most).contains(load)));
        let below = loads.iter().filter(|load| **load < 80.0).count();
        assert!((70..=130).contains(&below), "{below} of 200");
        assert_eq!(first_load(80.0, 7).to_bits(), first_load(80.0, 7).to_bits());
    }

    #[test]
    fn a_late_generator_is_not_a_store_that_is_over() {
        let late = vec!["the generator was late".to_owned()];
        let report = |operations, failures, invalid: &[String]| PhaseReport {
            operations,
            failures,
            wall_seconds: 1.0,
            target_rate: Some(100.0),
            invalid: invalid.to_vec(),
            ..PhaseReport::empty(Phase::Run)
        };
        let of = |report: &PhaseReport, p99_us| Verdict::of(report, p99_us, 100.0);
        assert_eq!(of(&report(100, 0, &[]), 99_000), Verdict::Held);
        assert_eq!(of(&report(100, 0, &late), 99_000), Verdict::Late(late[0].clone()));
        for (report, p99_us, why) in [
            (report(100, 0, &late), 101_000, "p99"),
            (report(50, 0, &[]), 1000, "of about 100"),
            (report(0, 0, &late), 0, "of about 100"),
            (report(100, 1, &[]), 1000, "1 operations failed"),
        ] {
            let Verdict::Over(said) = of(&report, p99_us) else { panic!("{report:?}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn chance_alone_is_not_falling_behind() {
        assert!(!fell_behind(100.0, 1.0, 75));
        assert!(fell_behind(100.0, 1.0, 60));
        assert!(fell_behind(1000.0, 10.0, 9000));
    }
}
