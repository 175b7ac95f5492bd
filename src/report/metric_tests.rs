//! Numbers that follow from the rest of a result.

use super::*;
use crate::experiment::TrialConfig;
use crate::experiment::faults::FaultStep;
use crate::report::phase_parts::Leadership;
use crate::report::result::tests::sample;

fn of(result: &TrialResult, name: &str) -> Option<f64> {
    name.parse::<Metric>().unwrap().of(result)
}

/// A time line with so many puts in each interval.
fn timeline(interval_ms: u64, counts: &[u64]) -> Vec<TimelinePoint> {
    let point = |(index, count): (u64, &u64)| TimelinePoint {
        at_ms: interval_ms * index,
        interval_ms,
        operations: [("put".to_owned(), *count)].into(),
        ..TimelinePoint::default()
    };
    (0..).zip(counts).map(point).collect()
}

fn changed_at(times: &[u64]) -> TrialConfig {
    let step = |at_ms: &u64| FaultStep { at_ms: *at_ms, action: "loss 1".to_owned() };
    TrialConfig { faults: times.iter().map(step).collect(), ..TrialConfig::default() }
}

#[test]
fn stretches_between_changes_weigh_alike_whatever_went_through_in_them() {
    let mut result = sample("X", 0, changed_at(&[1000, 2100]), 900);
    // 1000 a second, then 10, then (without the interval across the change) none.
    result.phases[1].timeline = timeline(500, &[500, 500, 5, 5, 77, 0, 0]);
    let mean = of(&result, "stretches_ops_per_s").unwrap();
    let expected = (1000.0_f64 * 10.0 * 1.0).cbrt();
    assert!((mean / expected - 1.0).abs() < 1e-9, "{mean} for {expected}");
    result.phases[1].timeline.clear();
    assert_eq!(of(&result, "stretches_ops_per_s"), None);
}

#[test]
fn availability_is_of_the_time_between_the_first_change_and_the_last() {
    let at = |times: &[u64]| {
        let mut result = sample("X", 0, changed_at(times), 900);
        result.phases[1].timeline = timeline(100, &[9, 9, 9, 0, 0, 9, 9, 9, 9, 9]);
        of(&result, "availability").unwrap()
    };
    let is = |found: f64, expected: f64| (found - expected).abs() < 1e-9;
    assert!(is(at(&[]), 0.8) && is(at(&[300]), 0.8), "of the whole run");
    assert!(is(at(&[300, 700]), 0.5) && is(at(&[300, 400, 700]), 0.5));
}

#[test]
fn a_leaders_bytes_are_not_those_of_the_last_of_two() {
    let mut result = sample("X", 0, TrialConfig::default(), 900);
    assert!(of(&result, "wire_leader").unwrap() > 0.0, "results from before say nothing of it");
    let run = &mut result.phases[1];
    run.leader_at_start = Some(Leadership { node: 0, round: 1 });
    run.leader_at_end = Some(Leadership { node: 0, round: 1 });
    assert!(of(&result, "wire_leader").is_some());
    result.phases[1].leader_at_start = Some(Leadership { node: 2, round: 0 });
    assert_eq!((of(&result, "wire_leader"), of(&result, "wire_followers")), (None, None));
    assert!(of(&result, "wire_per_user_byte").is_some());
}

#[test]
fn what_was_due_and_never_started_was_not_served() {
    let mut result = sample("X", 0, TrialConfig::default(), 900);
    assert!(error_share(&result).abs() < 1e-9);
    result.phases[1].not_started = 1000;
    assert!((error_share(&result) - 0.5).abs() < 1e-9);
    (result.phases[1].not_started, result.phases[1].operations) = (0, 0);
    assert!((error_share(&result) - 1.0).abs() < 1e-9);
}
