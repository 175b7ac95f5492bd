//! Each rule broken on purpose, and who notices (docs/mutants.md).
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../../src/paxos/tests/cluster.rs"]
#[allow(dead_code)]
mod cluster;
mod hunt;
#[path = "../../src/paxos/tests/random.rs"]
mod random;
mod scenarios;

use distkv::mutant::Mutant;
use distkv::sim::Scenario;
use distkv::{coding, config, mutant, paxos, rng, storage, time, types};

fn draw_of(name: &str) -> hunt::Draw {
    match name {
        "churn" => scenarios::churn,
        "power" => scenarios::power,
        "epochs" => scenarios::epochs,
        "stale" => scenarios::stale,
        "restarts" => scenarios::restarts,
        "late_answers" => scenarios::late_answers,
        "late_votes" => scenarios::late_votes,
        "handovers" => scenarios::handovers,
        _ => Scenario::draw,
    }
}

#[test]
#[ignore = "for looking around"]
fn explore() {
    let var = |name| std::env::var(name).unwrap_or_default();
    let seeds: u64 = var("SEEDS").parse().unwrap_or(20);
    if var("DRAW") == "random" {
        std::panic::set_hook(Box::new(|_| {}));
        for wanted in var("MUTANT").split(',') {
            for mutant in Mutant::ALL.iter().filter(|m| format!("{m:?}").contains(wanted)) {
                hunt::explore_by(
                    &[*mutant],
                    |seed| {
                        random::run(seed);
                        Ok(())
                    },
                    0..seeds,
                );
            }
        }
        return;
    }
    let draw = draw_of(&var("DRAW"));
    std::panic::set_hook(Box::new(|_| {}));
    hunt::explore(&[], draw, 0..seeds);
    for wanted in var("MUTANT").split(',') {
        for mutant in Mutant::ALL.iter().filter(|m| format!("{m:?}").contains(wanted)) {
            hunt::explore(&[*mutant], draw, 0..seeds);
        }
    }
}

#[test]
#[ignore = "for looking around"]
fn trace() {
    let var = |name| std::env::var(name).unwrap_or_default();
    let seed: u64 = var("SEED").parse().unwrap();
    let draw = draw_of(&var("DRAW"));
    let mutants: Vec<Mutant> =
        Mutant::ALL.iter().copied().filter(|m| format!("{m:?}") == var("MUTANT")).collect();
    let (outcome, reached) = distkv::mutant::breaking(&mutants, || {
        distkv::sim::run_scenario(
            draw(seed),
            seed,
            distkv::sim::Plant::None,
            Some(Box::new(|l| println!("{l}"))),
        )
    });
    println!("reached {reached}");
    if let Ok(Err(failure)) = outcome {
        println!("FAILED {}", failure.what);
    }
}
