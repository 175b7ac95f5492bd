//! Mixes, phases and the numbering of inserts.

use super::super::properties::Properties;
use super::*;

fn planner(text: &str, phase: Phase) -> Planner {
    let properties = Properties::parse("w", text).unwrap();
    Planner::new(&Workload::from_properties(&properties).unwrap().0, phase, Rng::new(1))
}

#[test]
fn load_inserts_each_record_once() {
    let text = "recordcount=20\ninsertstart=5\ninsertcount=10\ninsertorder=ordered";
    let mut planner = planner(text, Phase::Load);
    let keys: Vec<Bytes> = std::iter::from_fn(|| planner.next()).map(|plan| plan.key).collect();
    let expected: Vec<String> = (5..15).map(|number| format!("user{number}")).collect();
    assert_eq!(keys, expected);
}

#[test]
fn the_mix_has_its_proportions() {
    let text = "recordcount=100\nreadproportion=.4\nupdateproportion=.3\ninsertproportion=.1\n\
                scanproportion=.1\nreadmodifywriteproportion=.1\nmaxscanlength=7";
    let mut planner = planner(text, Phase::Run);
    let mut counts = [0_u32; 5];
    for _ in 0..20_000 {
        let plan = planner.next().unwrap();
        counts[KINDS.iter().position(|kind| *kind == plan.kind).unwrap()] += 1;
        assert_eq!((1..=7).contains(&plan.scan_rows), plan.kind == Kind::Scan);
        if plan.kind == Kind::Insert {
            planner.acknowledge_insert(plan.number);
        }
    }
    for (count, share) in counts.iter().zip([0.4, 0.3, 0.1, 0.1, 0.1]) {
        assert!((f64::from(*count) / 2e4 - share).abs() < 0.015, "{counts:?}");
    }
}

#[test]
fn unacknowledged_inserts_are_not_read() {
    let text = "recordcount=10\nreadproportion=.5\nupdateproportion=0\ninsertproportion=.5\n\
                requestdistribution=latest";
    let mut planner = planner(text, Phase::Run);
    for _ in 0..1000 {
        let plan = planner.next().unwrap();
        assert_eq!(plan.number >= 10, plan.kind == Kind::Insert);
    }
}
