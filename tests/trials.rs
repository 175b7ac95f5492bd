//! Trials with real nodes, started as a user starts them: what their results must say.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use distkv::report::quantity;
use distkv::report::result::{PhaseResult, TrialResult};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// A folder with one experiment in it.
fn folder_with(experiment: &str) -> TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::create_dir(dir.path().join("experiments")).unwrap();
    std::fs::write(dir.path().join("experiments/x.toml"), experiment).unwrap();
    dir
}

/// Runs a command of distkv in that folder: did it succeed, and what did it say?
fn run_in(dir: &Path, arguments: &[&str]) -> (bool, String) {
    // One at a time; with a lock of their own, since nothing here asks for quiet.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_distkv"));
    let ran = command.current_dir(dir).env("TMPDIR", dir).args(arguments).output().unwrap();
    let said = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (ran.status.success(), said.concat())
}

/// The results of all trials of one experiment file, in any order.
fn reproduce(experiment: &str) -> Vec<TrialResult> {
    let dir = folder_with(experiment);
    let out = dir.path().join("out");
    let (is_done, said) = run_in(dir.path(), &["reproduce", "--out", "out"]);
    assert!(is_done, "{said}");
    let trials = std::fs::read_dir(out.join("trials")).unwrap();
    let results = trials.map(|file| {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        serde_json::from_str(&text).unwrap()
    });
    results.collect()
}

/// The measured phase of a valid trial; one that a busy machine spoilt will do here.
fn run_of(result: &TrialResult) -> &PhaseResult {
    let is_late = |why: &String| why.starts_with("the generator was late");
    assert!(result.invalid_reasons.iter().all(is_late), "{:?}", result.invalid_reasons);
    result.phases.iter().find(|phase| phase.name == "run").unwrap()
}

#[test]
fn the_stages_of_a_put_are_parts_of_its_latency() {
    let results = reproduce(
        "id = \"X\"\ntitle = \"stages\"\nclaim = \"none\"\nbaseline = \"replicate\"\nrepeats = 1\n\
         [fixed]\nnodes = 3\ncode = \"2+1\"\nclients = 1\nrecords = 4\nvalue_bytes = 65536\n\
         warmup_ms = 0\nduration_ms = 500\n[axes]\npolicy = [\"replicate\", \"craft\"]\n\
         [profile.quick]\n[profile.paper]\n[[figures]]\nid = \"x\"\ntitle = \"x\"\n\
         kind = \"stacked\"\nx = \"policy\"\nparts = [\"stage_queue_us\", \"stage_sync_us\"]\n",
    );
    assert_eq!(results.len(), 2);
    for result in &results {
        let run = run_of(result);
        let stage = |name: &str| run.numbers[name];
        let within: f64 = quantity::STAGES.iter().map(|name| stage(name)).sum();
        let seen = run.latency[quantity::PUT].mean_us;
        // Of the same operations: the leader's part cannot be longer than the whole.
        assert!(within > 0.0 && within <= seen, "{within} of {seen}: {:?}", run.numbers);
        let positive = [quantity::STAGE_ENCODE_US, quantity::STAGE_SYNC_US];
        assert!(positive.iter().all(|name| stage(name) > 0.0), "{:?}", run.numbers);
    }
}

#[test]
fn a_capacity_is_bracketed_and_below_what_the_link_lets_through() {
    let results = reproduce(
        "id = \"X\"\ntitle = \"capacity\"\nclaim = \"none\"\nbaseline = \"replicate\"\n\
         repeats = 1\n[fixed]\nkind = \"capacity\"\nnodes = 3\npolicy = \"replicate\"\n\
         clients = 64\nrecords = 4\n\
         value_bytes = 16384\nrate_mbit = 20\noffered_ops_per_s = 40\np99_objective_ms = 250\n\
         warmup_ms = 100\nduration_ms = 500\n[profile.quick]\n[profile.paper]\n[[figures]]\n\
         id = \"x\"\ntitle = \"x\"\nkind = \"bars\"\nx = \"policy\"\ny = \"capacity_ops_per_s\"\n",
    );
    assert_eq!(results.len(), 1);
    let run = run_of(&results[0]);
    let held = run.numbers[quantity::CAPACITY_OPS_PER_S];
    let over = run.numbers[quantity::CAPACITY_ABOVE_OPS_PER_S];
    assert!(held < over && over <= held * 1.05, "{held} and {over}");
    assert!(run.latency[quantity::PUT].p99_us <= 250_000, "{:?}", run.latency);
    // A leader sends each value twice; half as much again is what a short probe may burst.
    let link = 20e6 / 8.0 / (2.0 * 16384.0);
    assert!(held <= link * 1.5, "{held} op/s held, the link lets {link} through");
}

#[test]
fn nodes_that_come_back_or_come_new_are_sent_what_they_lack() {
    let results = reproduce(
        "id = \"X\"\ntitle = \"repair\"\nclaim = \"none\"\nbaseline = \"replicate\"\nrepeats = 1\n\
         [fixed]\nnodes = 5\nrecords = 20\nvalue_bytes = 65536\nkills = 2\n\
         [axes]\nkind = [\"rejoin\", \"replace\"]\npolicy = [\"replicate\", \"craft\"]\n\
         [profile.quick]\n[profile.paper]\n[[figures]]\nid = \"x\"\ntitle = \"x\"\n\
         kind = \"bars\"\nx = \"policy\"\ny = \"repair_bytes\"\nseries = [\"kind\"]\n",
    );
    assert_eq!(results.len(), 4);
    for result in &results {
        let run = run_of(result);
        let (seconds, bytes) =
            (&run.samples[quantity::REPAIR_SECONDS], &run.samples[quantity::REPAIR_BYTES]);
        assert_eq!((seconds.len(), bytes.len()), (2, 2));
        assert!(seconds.iter().all(|seconds| *seconds > 0.0), "{seconds:?}");
        // Every value once, whole or as k shards, and not much else.
        let live = 20.0 * 65536.0;
        assert!(bytes.iter().all(|bytes| (live..live * 1.5).contains(bytes)), "{bytes:?}");
    }
}

#[test]
fn eventual_reads_say_how_stale_they_were() {
    let results = reproduce(
        "id = \"X\"\ntitle = \"staleness\"\nclaim = \"none\"\nrepeats = 1\n\
         [fixed]\nnodes = 3\ncode = \"2+1\"\nclients = 8\nrecords = 2\nvalue_bytes = 512\n\
         read_share = 0.5\nwarmup_ms = 100\nduration_ms = 500\n\
         [axes]\nread_mode = [\"linearizable\", \"eventual\"]\n\
         [profile.quick]\n[profile.paper]\n[[figures]]\nid = \"x\"\ntitle = \"x\"\n\
         kind = \"bars\"\nx = \"read_mode\"\ny = \"throughput\"\n",
    );
    let seen: Vec<Option<f64>> = results
        .iter()
        .map(|result| run_of(result).numbers.get(quantity::STALE_SHARE).copied())
        .collect();
    assert!(seen.contains(&None), "linearizable reads are not watched: {seen:?}");
    let stale = seen.into_iter().flatten().next().unwrap();
    // With two keys that are written all the time some are, and not all.
    assert!(stale > 0.0 && stale < 0.9, "{stale}");
    let eventual = results.iter().map(run_of).find(|run| !run.samples.is_empty()).unwrap();
    assert!(eventual.samples[quantity::STALENESS_MS].iter().all(|age| *age > 0.0));
}

#[test]
fn everything_that_can_happen_happens_in_virtual_time_too() {
    let faults = [
        "partition leader",
        "heal",
        "pause leader",
        "resume",
        "policy replicate 1+4",
        "kill follower",
        "restart",
        "partition followers",
        "loss 1",
        "delay 1",
        "rate 100",
        "heal",
    ];
    let step = |(at, action): (usize, &&str)| {
        format!("{{ at_ms = {}, do = \"{action}\" }}", 500 + 700 * at)
    };
    let steps: Vec<String> = faults.iter().enumerate().map(step).collect();
    let results = reproduce(&format!(
        "id = \"X\"\ntitle = \"faults\"\nclaim = \"none\"\nrepeats = 1\n[fixed]\ntarget = \"sim\"\n\
         nodes = 5\nclients = 4\nrecords = 4\nvalue_bytes = 512\nread_share = 0.5\nwarmup_ms = 0\n\
         client_side = \"majority\"\nduration_ms = 10000\nfaults = [{}]\n[axes]\ncode = [\"3+2\"]\n\
         [profile.quick]\n[profile.paper]\n[[figures]]\nid = \"x\"\ntitle = \"x\"\n\
         kind = \"timeline\"\ny = \"throughput\"\nseries = [\"code\"]\n",
        steps.join(", ")
    ));
    let run = run_of(&results[0]);
    let happened: Vec<&str> =
        run.events.iter().map(|event| event.name.split(' ').next().unwrap()).collect();
    let asked: Vec<&str> = faults.iter().map(|action| action.split(' ').next().unwrap()).collect();
    // A rate is named by its number.
    let is_named = |(happened, asked): (&&str, &&str)| happened.trim_end_matches(':') == *asked;
    let named = happened.iter().zip(&asked).filter(|pair| is_named(*pair)).count();
    assert_eq!((happened.len(), named), (faults.len(), faults.len() - 1), "{happened:?}");
    assert_eq!(run.samples[quantity::HEAL_MS].len(), 2);
    let last = run.timeline.last().unwrap();
    assert!(last.operations.values().sum::<u64>() > 0, "nothing goes on in the end: {last:?}");
}

#[test]
fn what_is_set_has_its_own_place_and_its_figures_follow() {
    let text = "id = \"X\"\ntitle = \"one thing changed\"\nclaim = \"none\"\nrepeats = 1\n\
         [fixed]\nkind = \"codec\"\nduration_ms = 5\n[axes]\nvalue_bytes = [1024, 2048]\n\
         [profile.quick]\n[profile.paper]\n[[figures]]\nid = \"x\"\ntitle = \"1 KiB\"\n\
         kind = \"bars\"\nx = \"backend\"\ny = \"encode_speed\"\nonly = { value_bytes = 1024 }\n";
    let dir = folder_with(text);
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let set = "results/quick-value_bytes=4096";
    let (is_done, said) = run_in(dir.path(), &["reproduce", "--set", "value_bytes=4096"]);
    assert!(is_done && said.contains(set), "{said}");
    let (summary, drawn) = (format!("{set}/summary.md"), format!("{set}/figures/x.svg"));
    let (summary, first) = (file(&summary), file(&drawn));
    assert!(summary.contains("1 KiB; but value_bytes=4096"), "{summary}");
    let again = run_in(dir.path(), &["plot", "--results", set]);
    assert!(again.0 && file(&drawn) == first, "{}", again.1);
    // Another value would be drawn into the same points.
    let (is_done, said) =
        run_in(dir.path(), &["reproduce", "--set", "value_bytes=8192", "--out", set]);
    assert!(!is_done && said.contains("give another --out"), "{said}");
    // One of the file's own values is a part of the experiment.
    let (is_done, said) = run_in(dir.path(), &["reproduce", "--set", "value_bytes=1024"]);
    assert!(is_done && !file("results/quick/summary.md").contains("but value_bytes"), "{said}");
    // What the file said before is not drawn into what it says now.
    let changed = text.replace("duration_ms = 5", "duration_ms = 6");
    std::fs::write(dir.path().join("experiments/x.toml"), changed).unwrap();
    let (is_done, said) = run_in(dir.path(), &["reproduce"]);
    assert!(is_done, "{said}");
    let (is_done, said) = run_in(dir.path(), &["plot", "--results", "results/quick"]);
    assert!(is_done && said.contains("X: 1 trials of other parameters"), "{said}");
}
