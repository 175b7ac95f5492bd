//! The simulator itself: equal seeds are equal runs.

use super::{Plant, Scenario, run};
use std::collections::BTreeSet;

#[test]
fn one_seed_twice_is_the_same_run() {
    for seed in [3, 4] {
        let first = run(seed, Plant::None, None).unwrap_or_else(|failure| panic!("{failure:?}"));
        let second = run(seed, Plant::None, Some(Box::new(|_| {})))
            .unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(first.trace_hash, second.trace_hash);
        assert!(first.operations.values().sum::<u64>() >= 200);
        assert!(first.faults.values().sum::<u64>() >= 5);
    }
}

#[test]
fn every_kind_of_fault_is_drawn() {
    let scenarios = (0..300).map(Scenario::draw);
    let kinds: BTreeSet<&str> = scenarios
        .flat_map(|scenario| scenario.faults.into_iter().map(|(_, fault)| fault.kind()))
        .collect();
    // Every name of `Fault::kind` but "membership change", which only scenario files have: the swarm
    // changes members by adding, replacing and removing nodes.
    assert_eq!(kinds.len(), 35, "{kinds:?}");
}

#[test]
fn clocks_stay_within_what_leases_allow() {
    for seed in 0..300 {
        let scenario = Scenario::draw(seed);
        let rates: Vec<f64> =
            scenario.clocks.iter().map(|clock| 1.0 + clock.drift_ppm as f64 / 1e6).collect();
        let drift = scenario.cluster.timing.clock_drift;
        for fast in &rates {
            for slow in &rates {
                assert!(slow / fast >= 1.0 - drift, "seed {seed}: {slow} and {fast} for {drift}");
            }
        }
    }
}
