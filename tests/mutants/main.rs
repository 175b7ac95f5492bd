//! Each rule broken on purpose, and who notices (docs/mutants.md).
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod hunt;
mod scenarios;

use distkv::mutant::Mutant;
use distkv::sim::Scenario;

#[test]
#[ignore = "for looking around"]
fn explore() {
    let var = |name| std::env::var(name).unwrap_or_default();
    let seeds: u64 = var("SEEDS").parse().unwrap_or(20);
    let draw = match var("DRAW").as_str() {
        "churn" => scenarios::churn,
        "power" => scenarios::power,
        "epochs" => scenarios::epochs,
        "stale" => scenarios::stale,
        "restarts" => scenarios::restarts,
        "delays" => scenarios::delays,
        "handovers" => scenarios::handovers,
        _ => Scenario::draw,
    };
    std::panic::set_hook(Box::new(|_| {}));
    hunt::explore(&[], draw, 0..seeds);
    for wanted in var("MUTANT").split(',') {
        for mutant in Mutant::ALL.iter().filter(|m| format!("{m:?}").contains(wanted)) {
            hunt::explore(&[*mutant], draw, 0..seeds);
        }
    }
}
