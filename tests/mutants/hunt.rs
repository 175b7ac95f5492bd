//! Runs scenarios with a rule broken until a checker outside the machines complains.

use distkv::mutant::{Mutant, breaking};
use distkv::sim::{Plant, Scenario, run_scenario};
use std::collections::BTreeMap;

/// Which scenario a seed is.
pub type Draw = fn(u64) -> Scenario;

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Nothing was noticed.
    Clean,
    /// A checker outside the machines complained.
    Outside(String),
    /// A machine's own assertion fired.
    Inside(String),
}

/// Runs one seed with these rules broken; also how often that made a difference.
pub fn try_seed(
    mutants: &[Mutant],
    run: impl Fn(u64) -> Result<(), String>,
    seed: u64,
) -> (Verdict, u64) {
    let (outcome, reached) = breaking(mutants, || run(seed));
    let verdict = match outcome {
        Ok(Ok(())) => Verdict::Clean,
        Ok(Err(what)) => Verdict::Outside(what),
        Err(panic) => Verdict::Inside(text_of(panic.as_ref())),
    };
    (verdict, reached)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
}

/// For looking around: what becomes of each seed.
pub fn explore(mutants: &[Mutant], draw: Draw, seeds: std::ops::Range<u64>) {
    explore_by(
        mutants,
        |seed| run_scenario(draw(seed), seed, Plant::None, None).map(drop).map_err(|f| f.what),
        seeds,
    );
}

pub fn explore_by(
    mutants: &[Mutant],
    run: impl Fn(u64) -> Result<(), String>,
    seeds: std::ops::Range<u64>,
) {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut all, mut seeds_reached) = (0, 0);
    let count = seeds.end - seeds.start;
    let began = std::time::Instant::now();
    for seed in seeds {
        let (verdict, reached) = try_seed(mutants, &run, seed);
        all += reached;
        seeds_reached += u64::from(reached > 0);
        let kind = match verdict {
            Verdict::Clean => continue,
            Verdict::Outside(what) => what,
            Verdict::Inside(what) => format!("INSIDE {what}"),
        };
        let kind: String = kind.lines().next().unwrap_or("").chars().take(110).collect();
        let kind: String = kind.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        let entry = kinds.entry(kind).or_insert((0, seed));
        entry.0 += 1;
    }
    println!(
        "{mutants:?}: reached {all} times in {seeds_reached} of {count} seeds, {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for (kind, (times, first)) in kinds {
        println!("    {times} (first {first}) {kind}");
    }
}
