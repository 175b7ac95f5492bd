//! Each rule broken on purpose, one test a mutant: who notices, and after how many seeds.
//!
//! docs/mutants.md has the table. A test that finds nothing any more, because a change gave its seeds
//! other runs, begins its hunt elsewhere; one that finds nothing at all is a hole in the checkers.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod checkers;
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
#[path = "../../src/paxos/tests/shown.rs"]
mod shown;

use distkv::mutant::Mutant;
use distkv::sim::{Plant, Scenario, run_scenario};
use distkv::{coding, config, mutant, paxos, rng, storage, time, types};
use hunt::{hunt, simulated, survives};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Small random runs of paxos alone: about a millisecond each.
fn small(seed: u64) -> Result<(), String> {
    random::run(seed);
    Ok(())
}

/// What a test says of a mutant: a row of docs/mutants.md. The place, and who finds it.
type Stated = (Mutant, &'static str, &'static str);

/// Who finds a mutant that does no harm.
const NOBODY: &str = "nobody: see below";

/// Tests that hunt in the simulator: name, mutant, checker, scenarios, first seed, seeds at most.
macro_rules! found_in_simulation {
    ($($name:ident: $mutant:ident, $found_by:literal, $draw:path, $first:literal, $seeds:literal;)+)
    => {
        $(
            #[test]
            fn $name() {
                hunt(&[Mutant::$mutant], $found_by, &simulated($draw), $first, $seeds);
            }
        )+

        const IN_SIMULATION: &[Stated] =
            &[$((Mutant::$mutant, stringify!($draw), $found_by)),+];
    };
}

/// The same with any runs: name, mutant, place, checker, runs, first seed, seeds at most.
macro_rules! found_in_runs {
    ($($name:ident: $mutant:ident, $place:literal, $found_by:literal, $run:expr, $first:literal,
        $seeds:literal;)+) => {
        $(
            #[test]
            fn $name() {
                hunt(&[Mutant::$mutant], $found_by, $run, $first, $seeds);
            }
        )+

        const IN_RUNS: &[Stated] = &[$((Mutant::$mutant, $place, $found_by)),+];
    };
}

found_in_simulation! {
    shards_are_replaced: ReplacesShards, "enough shards", scenarios::churn, 0, 60;
    a_recovered_value_gets_a_new_id: RenamesValue, "one value per slot", scenarios::churn, 0, 60;
    homes_are_moved: MovesHomes, "progress", scenarios::churn, 0, 100;
    a_recovered_value_gets_another_code: RecodesValue, "one value per slot or progress",
        scenarios::churn, 0, 20;
    too_few_promises_decide: DecidesWithFewer, "one value per slot", scenarios::churn, 0, 60;
    a_late_promise_decides_again: DecidesAgain, "one value per slot", scenarios::churn, 480, 200;
    single_shards_count_as_copies: CountsSinglesAsCopies, "one value per slot or enough shards",
        scenarios::churn, 0, 60;
    the_failure_detector_chooses: DetectorChooses, "one value per slot or enough shards",
        scenarios::churn, 0, 600;
    acceptances_are_answered_early: AcknowledgesEarly, "one value per slot",
        scenarios::power, 0, 40;
    a_commit_covers_any_ballot: CommitsAnyBallot, "one value per slot", scenarios::churn, 0, 60;
    an_accept_for_an_applied_slot_is_taken: AcceptsApplied, "progress", scenarios::churn, 0, 30;
    a_gather_ends_with_any_id: GathersAnyId, "one value per slot", scenarios::churn, 0, 60;
    an_epoch_is_in_force_too_early: EpochBeforeApplied, "one value per slot",
        scenarios::epochs, 0, 80;
    a_change_is_closed_unready: ClosesUnready, "enough shards", scenarios::members, 0, 60;
    a_lost_directory_is_taken_for_the_old_one: AcceptsLostIdentity, "one value per slot",
        scenarios::amnesia, 0, 20;
    a_node_without_its_directory_counts: AcceptsLostIdentity, "who lost its directory is nobody",
        scenarios::forgotten, 0, 5;
    what_a_failed_compare_and_set_met_is_forgotten: ForgetsMet, "progress",
        scenarios::forgetful, 60, 150;
    slots_without_a_snapshot_are_forgotten: ForgetsUncovered, "progress",
        scenarios::forgetful, 0, 60;
    a_floor_is_forgotten: ForgetsFloor, "what was chosen is told", Scenario::draw, 40, 60;
    what_a_snapshot_replaces_is_kept: KeepsReplaced, "the bound on storage",
        scenarios::restored, 0, 20;
    the_log_lets_nothing_go: NeverFrees, "the bound on storage", scenarios::wasteful, 0, 20;
    repeats_are_applied: AppliesRepeats, "order or exactly once", scenarios::power, 40, 150;
    results_are_forgotten_at_a_restart: ForgetsResults, "exactly once", scenarios::power, 0, 60;
    an_evicted_session_is_guessed: GuessesEvicted, "exactly once", Scenario::draw, 0, 60;
    a_lease_never_ends: IgnoresLeaseExpiry, "order", scenarios::stale, 0, 200;
    grants_are_forgotten_at_a_restart: ForgetsGrants, "order", scenarios::restarts, 0, 60;
    a_leader_leads_after_its_transfer: LeadsAfterTransfer, "order", scenarios::handovers, 0, 100;
    reads_are_not_confirmed: ReadsUnconfirmed, "order", scenarios::stale, 0, 100;
    an_older_heartbeat_confirms: ConfirmsWithOlder, "order", scenarios::stale, 0, 200;
    reads_come_before_what_is_recovered: ReadsBeforeRecovered, "order", scenarios::churn, 0, 80;
    eventual_reads_go_back: ReadsGoBack, "order", scenarios::churn, 0, 10;
    a_compare_and_set_mistakes_the_version: MistakesVersion, "order", scenarios::churn, 0, 10;
}

found_in_runs! {
    shards_count_at_the_highest_ballot: CountsHighestBallotOnly, "small", "one value per slot",
        &small, 16_000, 2000;
    a_promise_counts_in_part: CountsPartialPromises, "small", "one value per slot", &small, 0, 2000;
    the_highest_request_stands_for_all: RemembersHighestOnly, "reference",
        "the reference of results", &references::results, 0, 20;
    a_recovered_tail_is_trusted: TrustsTail, "reference", "what recovery told stays",
        &references::tail, 0, 100;
    nobody_is_asked_before_a_campaign: SkipsPreVote, "deaf_follower", "silence",
        &|seed| disturbed(seed, scenarios::deaf_follower, Duration::from_millis(150)), 0, 10;
    a_leader_alone_goes_on: NeverStepsDown, "deaf_leader", "silence",
        &|seed| disturbed(seed, scenarios::deaf_leader, Duration::from_millis(2500)), 0, 10;
}

/// The same with a script, which knows no seeds.
macro_rules! found_by_script {
    ($($name:ident: $mutant:ident, $found_by:literal, $script:expr;)+) => {
        $(
            #[test]
            fn $name() {
                let script = |_| {
                    $script;
                    Ok(())
                };
                hunt(&[Mutant::$mutant], $found_by, &script, 0, 1);
            }
        )+

        const BY_SCRIPT: &[Stated] = &[$((Mutant::$mutant, "script", $found_by)),+];
    };
}

found_by_script! {
    a_lease_counts_from_its_answer: LeaseFromReply, "lease", scripts::a_lease_comes_late();
    the_drift_of_clocks_is_ignored: IgnoresDrift, "lease", scripts::a_clock_is_slow();
    a_granter_promises: GrantersPromise, "lease", scripts::a_granter_is_asked();
    promises_are_answered_early: PromisesEarly, "one value per slot", scripts::a_promise_is_lost();
    what_is_applied_is_not_promised: HidesApplied, "one value per slot",
        scripts::what_is_applied_is_proposed_anew();
    acknowledgements_of_before_count: CountsOldAcks, "one value per slot",
        scripts::an_old_ack_comes();
    an_older_record_answers: AnswersOlderRecord, "one value per slot",
        scripts::a_record_is_lost(false);
    damage_is_hidden: HidesDamage, "one value per slot", scripts::a_record_is_lost(true);
    damaged_promises_count: CountsDamaged, "one value per slot", scripts::a_record_is_lost(true);
    a_newcomer_guesses_its_place: GuessesHome, "read back", scripts_members::a_newcomer_is_early();
    the_cut_between_members_is_ignored: IgnoresCut, "one value per slot",
        scripts_members::the_end_of_a_change_is_found();
    what_is_heard_below_is_not_asked: IgnoresCut, "one value per slot",
        scripts_members::the_end_of_a_change_is_heard_below();
    a_larger_quorum_is_not_asked: IgnoresCut, "one value per slot",
        scripts_members::a_larger_quorum_is_heard_below();
    a_leader_that_is_overtaken_leads_on: LeadsOvertaken, "one value per slot",
        scripts_recovery::a_leader_is_overtaken();
    promises_of_strangers_count: CountsStrangers, "one value per slot",
        scripts_members::a_newcomer_promises();
    the_new_members_alone_close_a_change: ClosesByNewAlone, "one value per slot",
        scripts_members::the_end_of_a_change_misses_the_old();
    what_is_behind_the_end_of_a_change_is_overtaken: OldEpochOvertakes, "one value per slot",
        scripts_ballots::what_is_behind_the_end_is_overtaken();
    a_change_begins_unsettled: ChangesUnsettled, "progress",
        scripts_members::a_change_comes_on_another();
    an_applied_slot_is_taken_for_chosen: TrustsApplied, "one value per slot",
        scripts_recovery::others_apply_the_slot();
    the_highest_origin_wins: OriginWins, "one value per slot",
        scripts_recovery::an_old_value_is_accepted_anew();
    a_candidate_asks_early: PreparesEarly, "one value per slot",
        scripts_recovery::a_ballot_is_lost();
    what_an_id_stands_for_is_not_compared: IgnoresDigest, "one value per slot",
        scripts_recovery::an_id_stands_for_two_values();
    claims_are_ignored: IgnoresClaims, "one value per slot",
        scripts_recovery::claimed_bytes_are_missing();
    an_old_epoch_is_forgotten: ForgetsOldEpoch, "one value per slot",
        scripts_recovery::the_policy_has_changed();
    an_older_record_of_what_is_chosen_answers: AnswersOlderOfChosen, "what recovery told stays",
        shown::an_older_record_does_not_answer_for_a_slot_known_to_be_chosen();
    what_is_far_ahead_is_accepted: AcceptsFarAhead, "one value per slot",
        shown::nothing_is_accepted_so_far_ahead_that_its_loss_would_go_unnoticed();
    what_a_disk_lost_is_counted: CountsLost, "what recovery told stays",
        shown::what_a_disk_has_lost_does_not_count_as_held();
    reads_are_confirmed_behind_members: ConfirmsBehindMembers, "confirmed reads",
        shown::no_read_is_confirmed_behind_members_that_the_leader_does_not_go_by_yet();
    a_leader_waits_for_what_is_gone: StaysLacking, "progress",
        shown::what_the_old_leader_alone_applied_is_recovered_when_it_is_gone();
    what_was_refused_waits_for_the_clock: OffersByClock, "progress",
        shown::what_is_too_far_above_a_node_is_offered_when_it_has_come_nearer();
    a_home_shard_repairs: RepairsWithHome, "one value per slot",
        scripts_recovery::a_repaired_slot_is_promised();
}

/// Does a run stay silent for longer than its fault explains?
fn disturbed(seed: u64, draw: fn(u64) -> Scenario, longest: Duration) -> Result<(), String> {
    let totals = run_scenario(draw(seed), seed, Plant::None, None).map_err(|f| f.what)?;
    let silence = totals.longest_silence;
    if silence <= longest { Ok(()) } else { Err(format!("silence: of {silence:?}")) }
}

/// Tests of mutants that do no harm: name, mutant, scenarios, seeds.
macro_rules! survives_simulation {
    ($($name:ident: $mutant:ident, $draw:path, $seeds:literal;)+) => {
        $(
            #[test]
            fn $name() {
                survives(&[Mutant::$mutant], &simulated($draw), $seeds);
            }
        )+

        const SURVIVING: &[Stated] = &[$((Mutant::$mutant, stringify!($draw), NOBODY)),+];
    };
}

survives_simulation! {
    a_snapshot_that_counts_early_loses_nothing: ForgetsEarly, scenarios::forgetful, 30;
    a_change_closed_by_the_old_members_loses_nothing: ClosesByOldAlone, scenarios::members, 40;
}

/// Alone it does no harm any more; with what an older epoch proposed it does.
#[test]
fn a_change_closed_by_the_old_members_is_a_second_line() {
    let script = |_| {
        scripts_ballots::the_end_of_a_change_misses_the_new();
        Ok(())
    };
    survives(&[Mutant::ClosesByOldAlone], &script, 1);
    let (_, _, found_by) = SECOND_LINE[0];
    hunt(&[Mutant::ClosesByOldAlone, Mutant::OldEpochOvertakes], found_by, &script, 0, 1);
}

const SECOND_LINE: &[Stated] = &[(Mutant::ClosesByOldAlone, "script", "one value per slot")];

/// A row of docs/mutants.md for each place: the rule, where it is looked for and who finds it.
#[test]
fn every_mutant_is_in_the_table_and_has_a_test() {
    let mut stated: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for (mutant, place, found_by) in
        [IN_SIMULATION, IN_RUNS, BY_SCRIPT, SURVIVING, SECOND_LINE].into_iter().flatten()
    {
        let place = match *place {
            "Scenario::draw" => "swarm",
            other => other.strip_prefix("scenarios::").unwrap_or(other),
        };
        let row = (format!("{mutant:?}"), place.to_owned(), (*found_by).to_owned());
        *stated.entry(row).or_default() += 1;
    }
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        assert!(stated.keys().any(|(stated, ..)| *stated == name), "no test breaks {name}");
        let row = format!("| {} | `{name}` |", mutant.rule());
        let is_there = include_str!("../../docs/mutants.md").contains(&row);
        assert!(is_there, "docs/mutants.md has no row that begins with {row}");
    }
    let stated: BTreeSet<(String, String, String)> = stated
        .into_iter()
        .map(|((mutant, place, found_by), count)| match count {
            1 => (mutant, place, found_by),
            _ => (mutant, format!("{place} ({count})"), found_by),
        })
        .collect();
    assert_eq!(stated, table());
}

/// Mutant, place and found by of every row under "Who finds what".
fn table() -> BTreeSet<(String, String, String)> {
    let (_, text) = include_str!("../../docs/mutants.md").split_once("## Who finds what").unwrap();
    let (text, _) = text.split_once("\n## ").unwrap();
    let mut mutant = String::new();
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells[2] != "the same" {
            mutant = cells[2].trim_matches('`').to_owned();
        }
        rows.insert((mutant.clone(), cells[4].to_owned(), cells[5].to_owned()));
    }
    rows
}
