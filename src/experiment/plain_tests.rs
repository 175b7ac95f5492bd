//! Whole trials on a store in memory that fails, or is led by others, as a test wants it.

use super::*;
use crate::bench::{MemoryTarget, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::experiment::faults::FaultStep;
use crate::report::remarks;
use crate::report::result::NodeResources;
use crate::report::result::tests::sample;
use std::borrow::Cow;
use std::time::Instant;

/// Answers in a time of its own; not well once it is broken.
struct FakeTarget {
    inner: MemoryTarget,
    clock: Instant,
    answers_after: Duration,
    is_broken: bool,
    /// A client that is refused so often yet.
    refused: (usize, u32),
    pending: Vec<(usize, TargetOp)>,
}

impl Target for FakeTarget {
    fn submit(&mut self, client: usize, op: TargetOp) {
        self.pending.push((client, op));
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        let known = completions.len();
        if self.pending.is_empty() {
            self.clock = self.clock.max(deadline);
            return Ok(());
        }
        self.clock += self.answers_after;
        for (client, op) in self.pending.drain(..) {
            self.inner.submit(client, op);
        }
        self.inner.wait(completions, deadline)?;
        for completion in &mut completions[known..] {
            completion.completed_at = self.clock;
            let (client, times) = &mut self.refused;
            let is_refused = completion.client == *client && *times > 0;
            *times -= u32::from(is_refused);
            if self.is_broken || is_refused {
                let kind = Cow::Borrowed("unavailable");
                completion.outcome = TargetOutcome::Error { kind, is_ambiguous: false };
            }
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.clock
    }

    fn has_virtual_time(&self) -> bool {
        true
    }
}

struct FakeBed {
    target: FakeTarget,
    /// Broken while records are loaded, and after that.
    is_broken: [bool; 2],
    /// Who leads in which round, whenever that is asked; the last one from then on.
    leaders: Vec<(u32, u64)>,
    asked_count: u64,
}

impl FakeBed {
    fn new(is_broken: [bool; 2], leaders: &[(u32, u64)]) -> Self {
        let mut leaders = leaders.to_vec();
        leaders.reverse();
        let target = FakeTarget {
            inner: MemoryTarget::new(),
            clock: Instant::now(),
            answers_after: Duration::from_millis(1),
            is_broken: false,
            refused: (0, 0),
            pending: Vec::new(),
        };
        Self { target, is_broken, leaders, asked_count: 0 }
    }
}

impl Bed for FakeBed {
    fn target(&mut self) -> &mut dyn Target {
        &mut self.target
    }

    fn now(&self) -> Instant {
        self.target.now()
    }

    fn set_loading(&mut self, is_loading: bool) {
        self.target.is_broken = self.is_broken[usize::from(!is_loading)];
    }

    fn used(&mut self) -> Result<Used, TrialError> {
        let next = if self.leaders.len() > 1 { self.leaders.pop() } else { None };
        let (leader, round) = next.unwrap_or(self.leaders[0]);
        self.asked_count += 1;
        let writes = self.asked_count;
        let node = |node: u32| NodeResources {
            role: quantity::NODE.to_owned(),
            node,
            leader: node == leader,
            ballot_round: round,
            counts: [("stage_writes".to_owned(), writes)].into(),
            ..NodeResources::default()
        };
        Ok((0..3).map(|id| ((quantity::NODE.to_owned(), id), node(id))).collect())
    }

    fn settle(&mut self) -> Result<Option<String>, TrialError> {
        Ok(None)
    }

    fn strike(&mut self, action: FaultAction) -> Result<String, String> {
        match action {
            FaultAction::KillFollower => Err("no node leads".to_owned()),
            FaultAction::Heal => {
                self.target.refused = (1, 30);
                Ok("heal".to_owned())
            }
            FaultAction::KillLeader
            | FaultAction::KillDataHolder
            | FaultAction::Size(_)
            | FaultAction::Restart
            | FaultAction::PauseLeader
            | FaultAction::Resume
            | FaultAction::Loss(_)
            | FaultAction::Delay(_)
            | FaultAction::Rate(_)
            | FaultAction::PartitionLeader
            | FaultAction::PartitionFollowers
            | FaultAction::Policy(..) => Ok("done".to_owned()),
        }
    }

    fn broken(&mut self) -> Option<String> {
        None
    }

    fn stop(&mut self) -> Vec<String> {
        Vec::new()
    }
}

fn trial(faults: &[&str]) -> TrialConfig {
    let step = |action: &&str| FaultStep { at_ms: 20, action: (*action).to_owned() };
    TrialConfig {
        records: 4,
        value_bytes: 64,
        clients: 2,
        warmup_ms: 0,
        duration_ms: 100,
        interval_ms: 25,
        faults: faults.iter().map(step).collect(),
        ..TrialConfig::default()
    }
}

fn outcome(bed: &mut FakeBed, trial: &TrialConfig) -> TrialOutcome {
    run(bed, trial, &CancelFlag::default()).unwrap()
}

fn said(trial: &TrialConfig, outcome: TrialOutcome) -> Vec<&'static str> {
    let mut result = sample("X", 0, trial.clone(), 900);
    result.phases = outcome.phases;
    remarks::remarks(&result)
}

#[test]
fn a_store_that_does_nothing_has_no_throughput_and_its_trial_counts() {
    let found = outcome(&mut FakeBed::new([false, true], &[(0, 1)]), &trial(&[]));
    let run = &found.phases[1];
    assert_eq!((run.operations, found.invalid.len()), (0, 0), "{:?}", found.invalid);
    assert!(run.errors > 0 && run.throughput_ops_per_s == 0.0);
    assert_eq!(run.failed_latency[quantity::PUT].count, run.errors);
    let found = outcome(&mut FakeBed::new([true, true], &[(0, 1)]), &trial(&[]));
    assert!(found.invalid[0].contains("not loaded"), "{:?}", found.invalid);
}

#[test]
fn where_a_window_would_hold_few_operations_whole_rounds_are_measured() {
    for (answers_ms, warmup_ms, read_share, expected) in [
        // A hundred rounds fit: the window, with whose end the last one ends and does not count.
        (1, 0, 0.0, (198, 0.1)),
        // As many rounds as fit, but five.
        (12, 0, 0.0, (16, 0.096)),
        (30, 0, 0.0, (10, 0.15)),
        // In the window there would be two rounds, or none; the warm-up had one, or none.
        (45, 50, 0.0, (10, 0.225)),
        (150, 50, 0.0, (10, 0.75)),
        // Five rounds would take too long for a window of 0.1 s, and one must do.
        (500, 0, 0.0, (4, 1.0)),
        (5000, 0, 0.0, (2, 5.0)),
        // How fast reads are no load of puts tells.
        (45, 0, 0.5, (4, 0.1)),
    ] {
        let mut bed = FakeBed::new([false, false], &[(0, 1)]);
        bed.target.answers_after = Duration::from_millis(answers_ms);
        let trial = TrialConfig { warmup_ms, read_share, ..trial(&[]) };
        let found = outcome(&mut bed, &trial);
        let run = &found.phases[1];
        assert!(found.invalid.is_empty(), "{:?}", found.invalid);
        assert_eq!((run.operations, run.seconds), expected, "{answers_ms} ms");
        if (run.seconds - 0.1).abs() > 1e-9 {
            let exact = 2e3 / answers_ms as f64;
            assert!((run.throughput_ops_per_s / exact - 1.0).abs() < 1e-6, "{answers_ms} ms");
        }
    }
    // What happens at a time needs the window.
    let mut bed = FakeBed::new([false, false], &[(0, 1)]);
    bed.target.answers_after = Duration::from_millis(45);
    assert_eq!(outcome(&mut bed, &trial(&["loss 1"])).phases[1].seconds, 0.1);
}

#[test]
fn a_fault_that_cannot_be_carried_out_is_an_event_and_the_run_goes_on() {
    let trial = trial(&["kill follower", "loss 1"]);
    let found = outcome(&mut FakeBed::new([false, false], &[(0, 1)]), &trial);
    let run = &found.phases[1];
    assert!(found.invalid.is_empty() && run.operations > 0, "{:?}", found.invalid);
    let events: Vec<&str> = run.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["kill follower: not done, no node leads", "done"]);
    assert_eq!(run.numbers[quantity::FAULTS_NOT_DONE], 1.0);
    assert_eq!(said(&trial, found), [remarks::NOT_DONE]);
}

#[test]
fn a_cluster_is_healed_when_every_client_is_served() {
    let found = outcome(&mut FakeBed::new([false, false], &[(0, 1)]), &trial(&["heal"]));
    let healed = &found.phases[1].samples[quantity::HEAL_MS];
    assert!(healed.len() == 1 && (30.0..35.0).contains(&healed[0]), "{healed:?}");
}

#[test]
fn an_election_that_nobody_asked_for_is_noted_and_no_leader_stands_for_all() {
    // Asked before and after the load, and before and after the run.
    let steady = [(0, 3), (0, 3), (0, 3), (0, 3)];
    let moved = [(0, 3), (0, 3), (0, 3), (1, 5)];
    let again = [(0, 3), (0, 3), (0, 3), (0, 4)];
    for (leaders, faults, elections, has_one) in [
        (steady, &[][..], None, true),
        (moved, &["loss 1"][..], Some(2.0), false),
        (again, &[][..], Some(1.0), false),
        (moved, &["kill leader"][..], None, false),
    ] {
        let trial = trial(faults);
        let found = outcome(&mut FakeBed::new([false, false], &leaders), &trial);
        let run = &found.phases[1];
        assert!(found.invalid.is_empty(), "{:?}", found.invalid);
        assert_eq!(run.numbers.get(quantity::UNPLANNED_ELECTIONS).copied(), elections);
        assert_eq!(run.leader_at_start, Some(Leadership { node: 0, round: 3 }));
        assert_eq!(run.has_one_leader(), has_one);
        assert_eq!(run.numbers.contains_key(quantity::STAGE_SYNC_US), has_one);
        let remark = elections.map(|_| remarks::ELECTION);
        assert_eq!(said(&trial, found).first().copied(), remark);
    }
}

#[test]
fn an_open_loop_keeps_its_service_times_its_parts_and_its_kinds() {
    let mut trial = trial(&[]);
    (trial.workload, trial.records, trial.offered_ops_per_s) = ("f".to_owned(), 50, 5000.0);
    trial.normalise();
    assert_eq!((trial.distribution.as_str(), trial.fault()), ("zipfian", None));
    let found = outcome(&mut FakeBed::new([false, false], &[(0, 1)]), &trial);
    let run = &found.phases[1];
    // Two sessions of a millisecond or two: the queue is in the one and not in the other.
    let (due, sent) = (&run.latency[quantity::GET], &run.service_latency[quantity::GET]);
    assert!(due.p50_us > 5 * sent.p50_us && sent.p50_us < 2000, "{} {}", due.p50_us, sent.p50_us);
    assert!(run.not_started > 100, "{}", run.not_started);
    let all: u64 = run.latency.values().map(|latency| latency.count).sum();
    let started: u64 = run.service_latency.values().map(|latency| latency.count).sum();
    assert_eq!(all, started + run.not_started);
    let rmw = run.service_latency[quantity::RMW].count;
    assert_eq!(run.user_bytes_written, rmw * trial.value_bytes, "only what was written counts");
    for part in [quantity::RMW_READ, quantity::RMW_PUT] {
        assert_eq!(run.part_latency[part].count, rmw);
    }
    assert!(run.lag.as_ref().unwrap().count > 0);
    assert_eq!(run.distribution.as_deref(), Some("zipfian"));
    assert_eq!(run.update.as_deref(), Some("ycsb"));
    let point = &run.timeline[0];
    assert!(point.operations[quantity::GET] > 0 && point.operations[quantity::RMW] > 0);
    assert!(point.kinds[quantity::GET].p50_us > 0);
    // Closed, there is one latency.
    trial.offered_ops_per_s = 0.0;
    let found = outcome(&mut FakeBed::new([false, false], &[(0, 1)]), &trial);
    assert!(found.phases[1].service_latency.is_empty() && found.phases[1].not_started == 0);
}
