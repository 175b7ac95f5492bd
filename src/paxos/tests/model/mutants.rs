//! Every rule broken on purpose, and the counterexample that the model finds.
//!
//! Rule 4 (a fixed home) is not among them: `is_chosen` and `decide` count the shards that nodes
//! name, wherever they rest, so that a moved home changes no decision (docs/model.md). Rule 8 is
//! held by construction: shards grow here whenever they like. Rule 14 is not of one slot.

use super::checking::shortest;
use super::protocol::{AGREEMENT, APPLIED_IS_CHOSEN, Protocol};
use super::setup::{BYTES, Broken, SLOT, Setup, UNKNOWN};

fn breaks(setup: Setup, broken: Broken, property: &'static str) {
    let name = format!("{broken:?} | {}", setup.ballots);
    shortest(&name, Protocol::new(setup.breaking(broken)), property, STATES_MAX);
}

const STATES_MAX: usize = 3_000_000;

const fn three(ballots: u8) -> Setup {
    Setup::new(3, 2, ballots)
}

#[test]
fn broken_rules_of_shards_are_found() {
    let breaks = |setup: Setup, broken| breaks(setup.growing(), broken, AGREEMENT);
    breaks(three(3), Broken::CountsHighestBallotOnly);
    breaks(three(2), Broken::Replaces);
    breaks(three(3), Broken::RenamesValue);
    breaks(three(2), Broken::CountsSinglesAsCopies);
}

#[test]
fn broken_rules_of_deciding_are_found() {
    breaks(three(2).growing(), Broken::DecidesWithFewer, AGREEMENT);
    breaks(three(4).growing(), Broken::OriginWins, AGREEMENT);
    breaks(three(2).damaged(BYTES, 1), Broken::IgnoresClaims, AGREEMENT);
    breaks(three(2).growing().committing(), Broken::HidesApplied, AGREEMENT);
    breaks(three(2).growing(), Broken::DecidesAgain, AGREEMENT);
    breaks(three(2).after_epoch(1, 3), Broken::IgnoresOldEpoch, AGREEMENT);
    // One node with a copy chooses where Q1 is all nodes: a smaller Q1 may not even meet it.
    breaks(three(2).growing().after_epoch(1, 3), Broken::IgnoresOldEpoch, AGREEMENT);
}

#[test]
fn broken_rules_of_durability_are_found() {
    breaks(three(2).growing().crashing(1), Broken::PromisesEarly, AGREEMENT);
    breaks(three(2).growing().crashing(1), Broken::AcknowledgesEarly, AGREEMENT);
    breaks(three(2).growing(), Broken::ReusesBallot, AGREEMENT);
    breaks(three(2).growing().damaged(SLOT, 1), Broken::KeepsLostIdentity, AGREEMENT);
}

#[test]
fn broken_rules_of_commits_are_found() {
    breaks(three(2).growing().committing(), Broken::CommitsAnyBallot, APPLIED_IS_CHOSEN);
    breaks(three(2).growing().committing(), Broken::TrustsApplied, AGREEMENT);
}

#[test]
fn broken_rules_of_damage_are_found() {
    let growing = three(2).growing();
    breaks(growing.damaged(SLOT, 1), Broken::HidesDamage, AGREEMENT);
    breaks(growing.damaged(SLOT | UNKNOWN, 2), Broken::CountsDamageApart, AGREEMENT);
    breaks(growing.with_gaps().damaged(SLOT, 1), Broken::RepairsWithHome, AGREEMENT);
}
