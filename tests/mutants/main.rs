//! Each rule broken on purpose, one test a mutant: who notices, and after how many seeds.
//!
//! docs/mutants.md has the table. A test that finds nothing any more, because a change gave its seeds
//! other runs, begins its hunt elsewhere; one that finds nothing at all is a hole in the checkers.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../../src/paxos/tests/cluster.rs"]
#[allow(dead_code)]
mod cluster;
mod hunt;
#[path = "../../src/paxos/tests/random.rs"]
mod random;
mod references;
mod scenarios;
mod scripts;
mod scripts_ballots;
mod scripts_members;
mod scripts_recovery;

use distkv::mutant::Mutant;
use distkv::sim::{Plant, Scenario, run_scenario};
use distkv::{coding, config, mutant, paxos, rng, storage, time, types};
use hunt::{hunt, simulated, survives};
use std::time::Duration;

/// Small random runs of paxos alone: about a millisecond each.
fn small(seed: u64) -> Result<(), String> {
    random::run(seed);
    Ok(())
}

/// Tests that hunt in the simulator: name, mutant, scenarios, first seed, seeds at most.
macro_rules! found_in_simulation {
    ($($name:ident: $mutant:ident, $draw:path, $first:literal, $seeds:literal;)+) => {
        $(
            #[test]
            fn $name() {
                hunt(&[Mutant::$mutant], &simulated($draw), $first, $seeds);
            }
        )+
    };
}

/// The same with the small runs.
macro_rules! found_in_small_runs {
    ($($name:ident: $mutant:ident, $first:literal, $seeds:literal;)+) => {
        $(
            #[test]
            fn $name() {
                hunt(&[Mutant::$mutant], &small, $first, $seeds);
            }
        )+
    };
}

found_in_simulation! {
    shards_are_replaced: ReplacesShards, scenarios::churn, 0, 60;
    a_recovered_value_gets_a_new_id: RenamesValue, scenarios::churn, 0, 60;
    a_recovered_value_gets_another_code: RecodesValue, scenarios::churn, 0, 20;
    too_few_promises_decide: DecidesWithFewer, scenarios::churn, 0, 60;
    a_late_promise_decides_again: DecidesAgain, scenarios::churn, 0, 600;
    single_shards_count_as_copies: CountsSinglesAsCopies, scenarios::churn, 0, 60;
    the_failure_detector_chooses: DetectorChooses, scenarios::churn, 0, 600;
    acceptances_are_answered_early: AcknowledgesEarly, scenarios::power, 0, 40;
    a_commit_covers_any_ballot: CommitsAnyBallot, scenarios::churn, 0, 60;
    an_accept_for_an_applied_slot_is_taken: AcceptsApplied, scenarios::churn, 0, 30;
    a_gather_ends_with_any_id: GathersAnyId, scenarios::churn, 0, 60;
    an_epoch_is_in_force_too_early: EpochBeforeApplied, scenarios::epochs, 0, 80;
    a_change_is_closed_unready: ClosesUnready, scenarios::members, 0, 60;
    a_lost_directory_is_taken_for_the_old_one: AcceptsLostIdentity, scenarios::amnesia, 0, 20;
    a_node_without_its_directory_counts: AcceptsLostIdentity, scenarios::forgotten, 0, 5;
    what_a_failed_compare_and_set_met_is_forgotten: ForgetsMet, scenarios::forgetful, 60, 150;
    slots_without_a_snapshot_are_forgotten: ForgetsUncovered, scenarios::forgetful, 0, 60;
    the_log_lets_nothing_go: NeverFrees, scenarios::wasteful, 0, 20;
    repeats_are_applied: AppliesRepeats, scenarios::power, 40, 150;
    results_are_forgotten_at_a_restart: ForgetsResults, scenarios::power, 0, 60;
    an_evicted_session_is_guessed: GuessesEvicted, Scenario::draw, 0, 60;
    a_lease_never_ends: IgnoresLeaseExpiry, scenarios::stale, 0, 200;
    grants_are_forgotten_at_a_restart: ForgetsGrants, scenarios::restarts, 0, 60;
    a_leader_leads_after_its_transfer: LeadsAfterTransfer, scenarios::handovers, 0, 100;
    reads_are_not_confirmed: ReadsUnconfirmed, scenarios::stale, 0, 100;
    an_older_heartbeat_confirms: ConfirmsWithOlder, scenarios::stale, 0, 200;
    reads_come_before_what_is_recovered: ReadsBeforeRecovered, scenarios::churn, 0, 80;
    eventual_reads_go_back: ReadsGoBack, scenarios::churn, 0, 10;
}

found_in_small_runs! {
    shards_count_at_the_highest_ballot: CountsHighestBallotOnly, 0, 6000;
    a_promise_counts_in_part: CountsPartialPromises, 0, 2000;
}

/// The same with a script, which knows no seeds.
macro_rules! found_by_script {
    ($($name:ident: $mutant:ident, $script:expr;)+) => {
        $(
            #[test]
            fn $name() {
                let script = |_| {
                    $script;
                    Ok(())
                };
                hunt(&[Mutant::$mutant], &script, 0, 1);
            }
        )+
    };
}

found_by_script! {
    a_lease_counts_from_its_answer: LeaseFromReply, scripts::a_lease_comes_late();
    a_granter_promises: GrantersPromise, scripts::a_granter_is_asked();
    promises_are_answered_early: PromisesEarly, scripts::a_promise_is_lost();
    what_is_applied_is_not_promised: HidesApplied, scripts::what_is_applied_is_proposed_anew();
    acknowledgements_of_before_count: CountsOldAcks, scripts::an_old_ack_comes();
    an_older_record_answers: AnswersOlderRecord, scripts::a_record_is_lost(false);
    damage_is_hidden: HidesDamage, scripts::a_record_is_lost(true);
    damaged_promises_count: CountsDamaged, scripts::a_record_is_lost(true);
    a_newcomer_guesses_its_place: GuessesHome, scripts_members::a_newcomer_is_early();
    the_cut_between_members_is_ignored: IgnoresCut, scripts_members::the_end_of_a_change_is_found();
    what_is_heard_below_is_not_asked: IgnoresCut,
        scripts_members::the_end_of_a_change_is_heard_below();
    a_larger_quorum_is_not_asked: IgnoresCut, scripts_members::a_larger_quorum_is_heard_below();
    a_leader_that_is_overtaken_leads_on: LeadsOvertaken, scripts_recovery::a_leader_is_overtaken();
    promises_of_strangers_count: CountsStrangers, scripts_members::a_newcomer_promises();
    the_new_members_alone_close_a_change: ClosesByNewAlone,
        scripts_members::the_end_of_a_change_misses_the_old();
    what_is_behind_the_end_of_a_change_is_overtaken: OldEpochOvertakes,
        scripts_ballots::what_is_behind_the_end_is_overtaken();
    a_change_begins_unsettled: ChangesUnsettled, scripts_members::a_change_comes_on_another();
    an_applied_slot_is_taken_for_chosen: TrustsApplied, scripts_recovery::others_apply_the_slot();
    the_highest_origin_wins: OriginWins, scripts_recovery::an_old_value_is_accepted_anew();
    a_candidate_asks_early: PreparesEarly, scripts_recovery::a_ballot_is_lost();
    what_an_id_stands_for_is_not_compared: IgnoresDigest,
        scripts_recovery::an_id_stands_for_two_values();
    claims_are_ignored: IgnoresClaims, scripts_recovery::claimed_bytes_are_missing();
    an_old_epoch_is_forgotten: ForgetsOldEpoch, scripts_recovery::the_policy_has_changed();
    a_home_shard_repairs: RepairsWithHome, scripts_recovery::a_repaired_slot_is_promised();
}

#[test]
fn the_highest_request_stands_for_all() {
    hunt(&[Mutant::RemembersHighestOnly], &references::results, 0, 20);
}

#[test]
fn a_recovered_tail_is_trusted() {
    hunt(&[Mutant::TrustsTail], &references::tail, 0, 100);
}

/// Does a run stay silent for longer than its fault explains?
fn disturbed(seed: u64, draw: fn(u64) -> Scenario, longest: Duration) -> Result<(), String> {
    let totals = run_scenario(draw(seed), seed, Plant::None, None).map_err(|f| f.what)?;
    let silence = totals.longest_silence;
    if silence <= longest { Ok(()) } else { Err(format!("silence: of {silence:?}")) }
}

#[test]
fn nobody_is_asked_before_a_campaign() {
    let run = |seed| disturbed(seed, scenarios::deaf_follower, Duration::from_millis(150));
    hunt(&[Mutant::SkipsPreVote], &run, 0, 10);
}

#[test]
fn a_leader_alone_goes_on() {
    let run = |seed| disturbed(seed, scenarios::deaf_leader, Duration::from_millis(2500));
    hunt(&[Mutant::NeverStepsDown], &run, 0, 10);
}

#[test]
fn every_mutant_is_in_the_table_and_has_a_test() {
    let (table, tests) = (include_str!("../../docs/mutants.md"), include_str!("main.rs"));
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        let is_named = tests.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
        assert!(is_named, "no test breaks {name}");
        let row = format!("| {} | `{mutant:?}` |", mutant.rule());
        assert!(table.contains(&row), "docs/mutants.md has no row that begins with {row}");
    }
}

#[test]
fn a_snapshot_that_counts_early_loses_nothing() {
    survives(&[Mutant::ForgetsEarly], &simulated(scenarios::forgetful), 30);
}

#[test]
fn moved_homes_change_no_decision() {
    survives(&[Mutant::MovesHomes], &simulated(scenarios::churn), 30);
}

/// Alone it does no harm any more; with what an older epoch proposed it does.
#[test]
fn a_change_closed_by_the_old_members_loses_nothing() {
    survives(&[Mutant::ClosesByOldAlone], &simulated(scenarios::members), 40);
    let script = |_| {
        scripts_ballots::the_end_of_a_change_misses_the_new();
        Ok(())
    };
    survives(&[Mutant::ClosesByOldAlone], &script, 1);
    hunt(&[Mutant::ClosesByOldAlone, Mutant::OldEpochOvertakes], &script, 0, 1);
}
