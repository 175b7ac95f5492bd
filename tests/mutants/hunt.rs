//! Runs with a rule broken until a checker outside the machines complains.
//!
//! A machine's own assertion that fires first counts for nothing: the hunt goes on with the next
//! seed. The seeds up to the one that shows it must be clean with nothing broken.

use distkv::mutant::{Mutant, breaking};
use distkv::sim::{Plant, Scenario, run_scenario};
use std::any::Any;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    /// A checker outside the machines complained.
    Outside(String),
    /// A machine's own assertion fired.
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

/// Breaks the rules of `mutants` on the seeds from `first` on until somebody notices.
pub fn hunt(mutants: &[Mutant], run: Run<'_>, first: u64, seeds_max: u64) {
    let (mut reached, mut inside_count) = (0, 0);
    for seed in first..first + seeds_max {
        let (verdict, count) = try_seed(mutants, run, seed);
        reached += count;
        let what = match verdict {
            Verdict::Clean => continue,
            Verdict::Inside(_) => {
                inside_count += 1;
                continue;
            }
            Verdict::Outside(what) => what,
        };
        assert!(count > 0, "{mutants:?}: seed {seed} fails without a difference made: {what}");
        for clean in first..=seed {
            let (verdict, _) = try_seed(&[], run, clean);
            assert_eq!(verdict, Verdict::Clean, "seed {clean} fails with nothing broken");
        }
        println!(
            "{mutants:?}: {} at seed {seed} from {first}, reached {reached} times, {inside_count} \
             seeds ended by an assertion inside",
            checker(&what)
        );
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
    let verdict = match outcome {
        Ok(Ok(())) => Verdict::Clean,
        Ok(Err(what)) => Verdict::Outside(what),
        Err(panic) => {
            let text = text_of(panic.as_ref());
            let is_outside = CHECKERS.iter().any(|(name, _)| text.contains(&format!("{name}: ")));
            if is_outside { Verdict::Outside(text) } else { Verdict::Inside(text) }
        }
    };
    (verdict, reached)
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}

fn checker(what: &str) -> &'static str {
    let named = CHECKERS.iter().find(|(name, _)| what.contains(&format!("{name}: ")));
    let simulated = SIMULATED.iter().find(|(text, _)| what.contains(text));
    named.or(simulated).map_or("the order check", |(_, checker)| checker)
}

/// How the checkers of `paxos/tests`, and of this target, begin.
const CHECKERS: &[(&str, &str)] = &[
    ("agreement", "one value per slot"),
    ("lease", "the lease check"),
    ("progress", "progress after the faults"),
    ("silence", "the longest silence"),
    ("durability", "what recovery told stays"),
    ("read back", "what was acknowledged, read back"),
    ("exactly once", "the reference of results"),
];

/// What the simulator's say; everything else is of the order check or the agreed log.
const SIMULATED: &[(&str, &str)] = &[
    ("applied other commands", "one value per slot"),
    ("two values in slot", "one value per slot"),
    ("no progress", "progress after the faults"),
    ("the bound on storage", "the bound on storage"),
    ("which has lost its data directory", "who lost its directory is nobody"),
    ("and has lost its data directory", "who lost its directory is nobody"),
    ("no linear order", "the search"),
    ("an acknowledged write is lost", "the agreed log"),
    ("the log has", "the agreed log"),
];
