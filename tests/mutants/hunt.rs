//! Runs with a rule broken until a checker outside the machines complains.
//!
//! A machine's own complaint that comes first, an assertion or an error, counts for nothing: the hunt
//! goes on with the next seed. The seeds up to the one that shows it must be clean with nothing broken.

use super::checkers::checker;
use distkv::mutant::{Mutant, breaking};
use distkv::sim::{Plant, Scenario, run_scenario};
use std::any::Any;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    /// A checker outside the machines complained: its name, and what it said.
    Outside(&'static str, String),
    /// A machine's own assertion fired, or it gave up.
    Inside(String),
}

/// One run of a seed: what a checker said, as an error or as a panic that begins with its name.
pub type Run<'a> = &'a dyn Fn(u64) -> Result<(), String>;

/// A run of the simulator.
pub fn simulated(draw: fn(u64) -> Scenario) -> impl Fn(u64) -> Result<(), String> {
    move |seed| {
        let outcome = run_scenario(draw(seed), seed, Plant::None, None);
        outcome.map(drop).map_err(|failure| failure.what)
    }
}

/// Breaks the rules of `mutants` on the seeds from `first` on until somebody notices, who must be the
/// checker `found_by`.
pub fn hunt(mutants: &[Mutant], found_by: &str, run: Run<'_>, first: u64, seeds_max: u64) {
    let (mut reached, mut inside_count) = (0, 0);
    for seed in first..first + seeds_max {
        let (verdict, count) = try_seed(mutants, run, seed);
        reached += count;
        let (checker, what) = match verdict {
            Verdict::Clean => continue,
            Verdict::Inside(_) => {
                inside_count += 1;
                continue;
            }
            Verdict::Outside(checker, what) => (checker, what),
        };
        assert!(count > 0, "{mutants:?}: seed {seed} fails without a difference made: {what}");
        for clean in first..=seed {
            let (verdict, _) = try_seed(&[], run, clean);
            assert_eq!(verdict, Verdict::Clean, "seed {clean} fails with nothing broken");
        }
        println!(
            "{mutants:?}: {checker}, {} seeds from {first}, reached {reached} times, \
             {inside_count} seeds ended inside",
            seed - first + 1
        );
        // Two may see the same harm: which is first depends on the seeds.
        let is_expected = found_by.split(" or ").any(|name| name == checker);
        assert!(is_expected, "{mutants:?}: {checker}, not {found_by}, was first: {what}");
        return;
    }
    panic!("{mutants:?}: survived {seeds_max} seeds from {first}, reached {reached} times");
}

/// The rule is broken and nothing comes of it: it follows from others, as docs/mutants.md argues.
pub fn survives(mutants: &[Mutant], run: Run<'_>, seeds: u64) {
    let mut reached = 0;
    for seed in 0..seeds {
        let (verdict, count) = try_seed(mutants, run, seed);
        assert_eq!(verdict, Verdict::Clean, "{mutants:?}: seed {seed}");
        reached += count;
    }
    assert!(reached > 0, "{mutants:?} was never reached");
    println!("{mutants:?}: survives {seeds} seeds, reached {reached} times");
}

fn try_seed(mutants: &[Mutant], run: Run<'_>, seed: u64) -> (Verdict, u64) {
    let (outcome, reached) = breaking(mutants, || run(seed));
    let text = match outcome {
        Ok(Ok(())) => return (Verdict::Clean, reached),
        Ok(Err(what)) => what,
        Err(panic) => text_of(panic.as_ref()),
    };
    let verdict = match checker(&text) {
        Some(checker) => Verdict::Outside(checker, text),
        None => Verdict::Inside(text),
    };
    (verdict, reached)
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}
