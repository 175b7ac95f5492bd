//! Seeds of the simulator that must pass, and a planted bug that must be found.

#![allow(clippy::unwrap_used)]

#[path = "mutants/checkers.rs"]
mod checkers;

use checkers::checker;
use distkv::sim::{Plant, ScenarioFile, Totals, run, run_scenario};
use std::process::Command;

/// Seeds run with every test run; `distkv sim` runs as many as are wanted.
const SEEDS: u64 = 60;

fn pass(seed: u64) -> Totals {
    run(seed, Plant::None, None).unwrap_or_else(|failure| {
        panic!("{}\nreplay: distkv sim --seed {seed} --trace", failure.what)
    })
}

#[test]
fn seeds_pass_with_every_checker_on() {
    let mut totals = Totals::default();
    for seed in 0..SEEDS {
        let of_seed = pass(seed);
        assert!(of_seed.operations.values().sum::<u64>() >= 200, "seed {seed} did too little");
        assert!(of_seed.faults.values().sum::<u64>() >= 5, "seed {seed} met too few faults");
        totals.add(&of_seed);
    }
    let served = totals.outcomes.get("served").copied().unwrap_or(0);
    let operations: u64 = totals.operations.values().sum();
    assert!(served * 2 > operations, "hardly anything was served: {totals:?}");
    for kind in ["crash", "power cut", "power cut of all", "pause", "disk low", "partition"] {
        assert!(totals.faults.get(kind).is_some_and(|count| *count > 0), "no {kind} was tried");
    }
    // Tried is not met.
    for (kind, count) in totals.faults.iter().filter(|(_, count)| **count >= 5) {
        let met = totals.effects.get(kind).copied().unwrap_or(0);
        assert!(met > 0, "{kind} was tried {count} times and never met anything");
    }
    // What the network, clocks and power cuts do is no fault of the list: each kind of it happens, too.
    for counts in [&totals.network, &totals.clocks, &totals.power_cut_writes] {
        let never: Vec<_> = counts.iter().filter(|(_, count)| **count == 0).collect();
        assert!(never.is_empty() && !counts.is_empty(), "never happened: {never:?} of {counts:?}");
    }
    let (searched, gave_up) = (totals.searched, totals.gave_up);
    assert!(searched > SEEDS, "only {searched} keys were searched");
    assert!(gave_up * 20 < searched, "the search gave up on {gave_up} of {searched} keys");
    assert!(totals.rebuilt > 0, "no value was rebuilt from shards");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    // By a checker outside the machines: their own assertions, and errors, show nothing.
    let is_found = |seed| {
        let outcome = std::panic::catch_unwind(|| run(seed, Plant::AckBeforeSync, None));
        outcome.is_ok_and(|outcome| outcome.is_err_and(|failure| checker(&failure.what).is_some()))
    };
    // Seeds from 0 on need 97; it begins near the one that shows it, which a change may move.
    let seed = (90..290).find(|seed| is_found(*seed)).expect("200 seeds did not find it");
    // By a seed that passes without the bug: else anything else that is broken would count.
    pass(seed);
}

#[test]
fn a_value_applied_on_one_node_reaches_the_next_leader() {
    // Seed 23744, made smaller. The deposed leader applied four slots in the first epoch with k = 2;
    // the next leader lacked them, proposed nothing there (rule 5), and fetched for ever. The cause was
    // not proved; with today's messages the seed takes another course and passes, so what guards the
    // rule is `a_value_that_the_old_leader_alone_applied_reaches_the_next` (paxos/tests/shown.rs).
    pass_scenario(include_str!("scenarios/applied_on_one_node.toml"));
}

#[test]
fn a_member_that_lost_a_record_of_before_its_time_goes_on() {
    // Seed 11733, made smaller. Only the configuration that named it as the newcomer told a node its
    // place; once it was a member nobody told it that, and it gathered nothing for ever.
    pass_scenario(include_str!("scenarios/lost_record_of_a_newcomer.toml"));
}

fn pass_scenario(text: &str) {
    let file = ScenarioFile::from_toml(text).unwrap_or_else(|error| panic!("{error}"));
    let outcome = run_scenario(file.scenario, file.seed, Plant::None, None);
    outcome.unwrap_or_else(|failure| panic!("{}", failure.what));
}

#[test]
fn a_failure_is_made_small_saved_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("small.toml");
    let sim = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_distkv")).arg("sim").args(args).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let plant = ["--plant", "ack-before-sync"];
    let file = saved.to_str().unwrap();
    // The bug that is put in shows within these seeds, as the test above has it.
    let seeds = ["--seeds", "200", "--start", "90", "--shrink", "20", "--save", file];
    let (code, text) = sim(&[&seeds[..], &plant].concat());
    assert_eq!(code, Some(1), "{text}");
    let replay = format!("distkv sim --scenario {file} --trace --plant ack-before-sync");
    assert!(text.contains(&replay) && text.contains("seeds failed, the first is"), "{text}");
    let scenario = ["--scenario", file, "--shrink", "0"];
    let (code, text) = sim(&[&scenario[..], &plant].concat());
    assert_eq!(code, Some(1), "what was saved fails as well: {text}");
    let (code, text) = sim(&scenario);
    assert_eq!(code, Some(0), "and passes without the bug: {text}");
    assert!(text.contains("1 seeds in ") && text.contains("operations"), "{text}");
}

#[test]
fn totals_are_told_by_kind_the_same_as_text_and_as_json() {
    let sim = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_distkv")).arg("sim").args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = sim(&["--seeds", "3"]);
    let json: serde_json::Value = serde_json::from_str(&sim(&["--seeds", "3", "--json"])).unwrap();
    let count = |key: &str, kind: &str| json[key][kind].as_u64().unwrap_or(0);
    let faults = json["faults"].as_object().unwrap();
    assert!(faults.len() > 5, "{faults:?}");
    for (kind, tried) in faults {
        let met = count("faults_with_effect", kind);
        let line = format!("{:>7} {kind}, {met} with an effect", tried.as_u64().unwrap());
        assert!(text.contains(&line), "'{line}' is not in\n{text}");
    }
    for name in ["operations", "network", "clocks"] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        for (kind, of) in json[name].as_object().unwrap() {
            assert!(line.contains(&format!("{of} {kind}")), "{kind} is not in '{line}'");
        }
    }
    assert!(text.contains("invariants after ") && text.contains("order of all operations"));
}
