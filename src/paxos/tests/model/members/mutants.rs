//! Rules of docs/membership.md broken on purpose, and the counterexample that the model finds.

use super::super::checking::{setting, shortest};
use super::exhaustive::trace;
use super::protocol::{END, NEXT, Protocol, RECOVERY};
use super::setup::{Broken, Kind, Setup};

fn breaks(setup: Setup, broken: Broken, property: &'static str) {
    let name = format!("{broken:?} | {:?} | {}", setup.kind, setup.ballots);
    let path = shortest(&name, Protocol::new(setup.breaking(broken)), property, STATES_MAX);
    if setting("DISTKV_MODEL_TRACE").is_some() {
        eprintln!("{}", trace(path));
    }
}

const STATES_MAX: usize = 20_000_000;

const REPLACE: Setup = Setup::new(Kind::Replace(3), 2);
const GROW: Setup = Setup::new(Kind::Grow(3), 2);

/// From four to three, two of the new members are two of the old.
#[test]
fn an_entry_chosen_by_the_new_members_alone_is_found() {
    breaks(REPLACE, Broken::ClosesByNewAlone, END);
    breaks(GROW, Broken::ClosesByNewAlone, END);
    breaks(Setup::new(Kind::Shrink(5), 2), Broken::ClosesByNewAlone, END);
}

#[test]
fn strangers_that_count_are_found() {
    breaks(REPLACE, Broken::CountsStrangers, END);
    breaks(GROW, Broken::CountsStrangers, END);
    breaks(GROW, Broken::CountsStrangers, NEXT);
}

#[test]
fn a_leader_that_goes_on_behind_the_entry_is_found() {
    breaks(REPLACE, Broken::IgnoresCut, NEXT);
    breaks(GROW, Broken::IgnoresCut, NEXT);
}

/// Of two ballots of the old members: a lower one leads among the new members, and what the one between
/// had proposed behind the entry's slot overtakes what was chosen there. Where Q1 of the new members is
/// larger than what chooses among them, the lower ballot leads although half of them chose the entry.
#[test]
fn what_an_older_epoch_proposed_overtakes() {
    for kind in [Kind::Grow(3), Kind::Shrink(5), Kind::Replace(4)] {
        breaks(Setup::new(kind, 3).with_parts(), Broken::OldEpochOvertakes, RECOVERY);
    }
    let setup = Setup::new(Kind::Replace(3), 3).with_parts();
    breaks(setup, Broken::ClosesByOldAloneAndOvertakes, RECOVERY);
}
