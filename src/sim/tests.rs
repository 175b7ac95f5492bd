//! The simulator itself: equal seeds are equal runs.

use super::{Plant, run};

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
