//! Random walks through changes of members at three ballots, most of which are too large to visit
//! whole.

use super::super::checking::walk;
use super::exhaustive::{CHANGES, trace};
use super::protocol::Protocol;
use super::setup::Setup;
use std::sync::atomic::Ordering;

fn walk_all(walks: u64) {
    for (change, kind) in CHANGES {
        let model = Protocol::new(Setup::new(kind, 3).applying_all());
        walk(&format!("{change}, applying all, 3 ballots"), &model, walks, trace);
        let reached = &model.reached;
        let must = [&reached.closed, &reached.chosen_behind, &reached.re_proposed];
        let is_reached = must.iter().all(|count| count.load(Ordering::Relaxed) > 0);
        assert!(is_reached, "{change}: {reached:?}");
    }
}

#[test]
fn random_walks_agree() {
    walk_all(1_000);
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_random_walks() {
    walk_all(100_000);
}
