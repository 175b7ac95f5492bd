//! Every interleaving, with all rules kept, and with the closing entry chosen by the old members
//! alone. The small runs belong to each `cargo test`; the large ones are ignored by default, and
//! print a line for the table in docs/model.md. What three ballots show is in `mutants`.

use super::super::checking::{setting, visit};
use super::super::exhaustive::FULL_STATES_MAX;
use super::protocol::{Action, Protocol};
use super::setup::{Broken, Kind, Setup};
use super::state::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn explore(name: &str, setup: Setup, states_max: usize) -> bool {
    let model = Protocol::new(setup);
    let reached = Arc::clone(&model.reached);
    let is_finished = visit(name, model, states_max, trace);
    let is_reached = |count: &AtomicU64| count.load(Ordering::Relaxed) > 0;
    assert!(is_reached(&reached.closed), "{name}: never closed");
    if !setup.has_parts {
        let must = [&reached.chosen_behind, &reached.re_proposed, &reached.replaced];
        assert!(must.into_iter().all(is_reached), "{name}: never reached: {reached:?}");
        let is_early = is_reached(&reached.closed_early);
        assert_eq!(is_early, setup.may_close_early(), "{name}: {reached:?}");
    }
    is_finished
}

/// A path, one step and one state a line.
pub fn trace(path: Vec<(State, Option<Action>)>) -> String {
    let mut lines = Vec::new();
    for (state, action) in path {
        for (node, column) in state.columns.iter().enumerate() {
            lines.push(format!("    node {node}: {:?}", column.kept));
        }
        for term in state.terms {
            lines.push(format!("    {term:?}"));
        }
        let (end, next) = (state.end_chosen, state.next_chosen);
        lines.push(format!("    chosen {end:#b}, behind {next:#b}"));
        lines.push(format!("{action:?}"));
    }
    lines.join("\n")
}

const REPLACE: Kind = Kind::Replace(3);
const SHRINK: Kind = Kind::Shrink(4);
const GROW: Kind = Kind::Grow(3);
/// Of the runs that belong to every `cargo test`: none comes near it.
const STATES_MAX: usize = 5_000_000;

#[test]
fn changes_of_members_agree() {
    assert!(explore("3 replace one, 2 ballots", Setup::new(REPLACE, 2), STATES_MAX));
    assert!(explore("4 become 3, 2 ballots", Setup::new(SHRINK, 2), STATES_MAX));
    let setup = Setup::new(SHRINK, 2).applying_all();
    assert!(explore("4 become 3, applying all, 2 ballots", setup, STATES_MAX));
    let setup = Setup::new(GROW, 2).applying_all();
    assert!(explore("3 become 4, applying all, 2 ballots", setup, STATES_MAX));
}

/// With parts three ballots are few states: the way that `OldEpochOvertakes` goes is closed, also when
/// the old members alone close the change.
#[test]
fn three_ballots_agree_where_an_older_epoch_would_overtake() {
    for kind in [REPLACE, GROW, Kind::Replace(4), Kind::Shrink(5)] {
        let setup = Setup::new(kind, 3).with_parts();
        for broken in [Broken::Nothing, Broken::ClosesByOldAlone] {
            let name = format!("{kind:?}, {broken:?}, 3 ballots with parts");
            assert!(explore(&name, setup.breaking(broken), STATES_MAX));
        }
    }
}

#[test]
fn two_ballots_agree_on_a_change_closed_by_the_old_members_alone() {
    let by_old = |kind| Setup::new(kind, 2).breaking(Broken::ClosesByOldAlone);
    assert!(explore("3 replace one, by the old alone, 2 ballots", by_old(REPLACE), STATES_MAX));
    assert!(explore("4 become 3, by the old alone, 2 ballots", by_old(SHRINK), STATES_MAX));
}

/// What the large runs explore, beside the ballots.
pub const CHANGES: [(&str, Kind); 6] = [
    ("3 replace one", Kind::Replace(3)),
    ("4 become 3", Kind::Shrink(4)),
    ("3 become 4", Kind::Grow(3)),
    ("4 replace one", Kind::Replace(4)),
    ("4 become 5", Kind::Grow(4)),
    ("5 become 4", Kind::Shrink(5)),
];

fn explore_all(ballots: u8, refine: fn(Setup) -> Setup) {
    eprintln!(
        "| run | steps | states | depth | | time |\n| --- | ---: | ---: | ---: | --- | ---: |"
    );
    let steps = setting("DISTKV_MODEL_STEPS").and_then(|steps| steps.parse().ok());
    let wanted = setting("DISTKV_MODEL_RUN").unwrap_or_default();
    for (change, kind) in CHANGES {
        let setup = refine(Setup::new(kind, ballots));
        let by_old = setup.breaking(Broken::ClosesByOldAlone);
        for (how, setup) in [("", setup), (", by the old alone", by_old)] {
            let name = format!("{change}{how}, {ballots} ballots");
            if name.contains(&wanted) {
                explore(&name, setup, steps.unwrap_or(FULL_STATES_MAX));
            }
        }
    }
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_two_ballots() {
    explore_all(2, Setup::applying_all);
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_three_ballots() {
    explore_all(3, |setup| setup);
}
