//! Every interleaving, with all rules kept. The small runs belong to each `cargo test`; the large
//! ones are ignored by default, and print a line for the table in docs/model.md.

use super::checking::{setting, visit};
use super::protocol::Protocol;
use super::setup::{BYTES, SLOT, Setup, UNKNOWN};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

fn explore(name: &str, setup: Setup, states_max: usize) -> bool {
    visit(name, Protocol::new(setup), states_max, |path| trace(&setup, path))
}

/// A path, one step and one state a line.
pub fn trace(
    setup: &Setup,
    path: Vec<(super::state::State, Option<super::protocol::Action>)>,
) -> String {
    let mut lines = Vec::new();
    for (state, action) in path {
        for rank in setup.ranks() {
            lines.push(format!("    node {rank}: {:?}", state.columns[rank].mem));
        }
        let led: Vec<_> = state.terms.iter().map(|term| (term.led, term.is_committed)).collect();
        lines.push(format!("    led {led:?} chosen {:#b}", state.chosen));
        lines.push(format!("{action:?}"));
    }
    lines.join("\n")
}

const ANY: u8 = SLOT | UNKNOWN | BYTES;
/// Of the runs that belong to every `cargo test`: none comes near it.
const STATES_MAX: usize = 5_000_000;
/// Of each large run, unless `DISTKV_MODEL_STEPS` says otherwise: about an hour.
pub const FULL_STATES_MAX: usize = 4_000_000_000;

const fn three(ballots: u8) -> Setup {
    Setup::new(3, 2, ballots)
}

const fn four(ballots: u8) -> Setup {
    Setup::new(4, 3, ballots)
}

#[test]
fn single_shards_agree() {
    assert!(explore("N 3, single shards, 4 ballots", three(4), STATES_MAX));
    assert!(explore("N 3, Q1 3 (rs-paxos), 4 ballots", Setup::new(3, 3, 4), STATES_MAX));
    assert!(explore("N 4, single shards, 3 ballots", four(3), STATES_MAX));
}

#[test]
fn growing_shards_agree() {
    assert!(explore("N 3, growing, 3 ballots", three(3).growing(), STATES_MAX));
    assert!(explore("N 4, growing, 3 ballots", four(3).growing(), STATES_MAX));
}

#[test]
fn commits_and_gaps_agree() {
    let setup = three(3).growing().committing();
    assert!(explore("N 3, growing, commits, 3 ballots", setup, STATES_MAX));
    let setup = three(2).growing().with_gaps();
    assert!(explore("N 3, growing, commits, gaps, 2 ballots", setup, STATES_MAX));
}

#[test]
fn damage_agrees() {
    let setup = three(2).growing().with_gaps().damaged(ANY, 1);
    assert!(explore("N 3, growing, gaps, damage 1, 2 ballots", setup, STATES_MAX));
    let setup = three(2).growing().damaged(ANY, 3);
    assert!(explore("N 3, growing, damage 3, 2 ballots", setup, STATES_MAX));
}

#[test]
fn crashes_agree() {
    let setup = three(2).growing().crashing(1);
    assert!(explore("N 3, growing, crash 1, 2 ballots", setup, STATES_MAX));
}

#[test]
fn a_slot_of_an_old_epoch_agrees() {
    let setup = three(4).after_epoch(2, 3);
    assert!(explore("N 3, Q1 3, a newer epoch's is 2, 4 ballots", setup, STATES_MAX));
    let setup = three(3).growing().after_epoch(1, 3);
    assert!(explore("N 3, growing, Q1 3, a newer epoch's is 2, 3 ballots", setup, STATES_MAX));
}

#[test]
fn interesting_branches_are_reached() {
    let setups = [
        three(3).growing().remembering(),
        three(3).growing().committing().remembering(),
        three(2).growing().damaged(SLOT | UNKNOWN, 1).remembering(),
    ];
    for setup in setups {
        let model = Protocol::new(setup);
        let branches = model
            .properties()
            .into_iter()
            .filter(|property| property.expectation == Expectation::Sometimes)
            .map(|property| property.name)
            .collect();
        let all = HasDiscoveries::AllOf(branches);
        let checker = model.checker().finish_when(all).spawn_bfs().join();
        checker.assert_properties();
    }
}

fn explore_all(runs: &[(&str, Setup)]) {
    eprintln!(
        "| run | steps | states | depth | | time |\n| --- | ---: | ---: | ---: | --- | ---: |"
    );
    let steps = setting("DISTKV_MODEL_STEPS").and_then(|steps| steps.parse().ok());
    let wanted = setting("DISTKV_MODEL_RUN").unwrap_or_default();
    for (name, setup) in runs.iter().filter(|(name, _)| name.contains(&wanted)) {
        explore(name, *setup, steps.unwrap_or(FULL_STATES_MAX));
    }
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_three_nodes() {
    let growing = |ballots| three(ballots).growing();
    let gaps = |ballots| growing(ballots).with_gaps();
    explore_all(&[
        ("N 3, growing, 4 ballots", growing(4)),
        ("N 3, growing, commits, 4 ballots", growing(4).committing()),
        ("N 3, growing, gaps, 4 ballots", gaps(4)),
        ("N 3, growing, damage 1, 4 ballots", growing(4).damaged(ANY, 1)),
        ("N 3, growing, damage 3, 3 ballots", growing(3).damaged(ANY, 3)),
        ("N 3, growing, gaps, damage 1, 3 ballots", gaps(3).damaged(ANY, 1)),
        ("N 3, growing, gaps, damage 2, 3 ballots", gaps(3).damaged(ANY, 2)),
        ("N 3, growing, gaps, damage 1, 4 ballots", gaps(4).damaged(ANY, 1)),
        ("N 3, growing, crash 1, 3 ballots", growing(3).crashing(1)),
        ("N 3, growing, crash 2, 3 ballots", growing(3).crashing(2)),
        ("N 3, growing, crash 1, 4 ballots", growing(4).crashing(1)),
        ("N 3, growing, damage 1, crash 1, 2 ballots", growing(2).damaged(ANY, 1).crashing(1)),
        ("N 3, growing, damage 1, crash 1, 3 ballots", growing(3).damaged(ANY, 1).crashing(1)),
    ]);
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_four_nodes() {
    let growing = |ballots| four(ballots).growing();
    let gaps = |ballots| growing(ballots).with_gaps();
    explore_all(&[
        ("N 4, single shards, 4 ballots", four(4)),
        ("N 4, growing, 4 ballots", growing(4)),
        ("N 4, growing, commits, 3 ballots", growing(3).committing()),
        ("N 4, growing, gaps, 3 ballots", gaps(3)),
        ("N 4, growing, commits, 4 ballots", growing(4).committing()),
        ("N 4, growing, gaps, 4 ballots", gaps(4)),
        ("N 4, growing, damage 1, 3 ballots", growing(3).damaged(ANY, 1)),
        ("N 4, growing, gaps, damage 1, 2 ballots", gaps(2).damaged(ANY, 1)),
        ("N 4, growing, gaps, damage 1, 3 ballots", gaps(3).damaged(ANY, 1)),
        ("N 4, growing, crash 1, 2 ballots", growing(2).crashing(1)),
        ("N 4, growing, damage 1, 4 ballots", growing(4).damaged(ANY, 1)),
        ("N 4, growing, crash 1, 3 ballots", growing(3).crashing(1)),
        ("N 4, growing, crash 1, 4 ballots", growing(4).crashing(1)),
        ("N 4, growing, damage 1, crash 1, 2 ballots", growing(2).damaged(ANY, 1).crashing(1)),
    ]);
}
