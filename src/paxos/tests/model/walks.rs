//! Random walks through what is too large to visit whole.

use super::checking::walk;
use super::exhaustive::trace;
use super::protocol::Protocol;
use super::setup::{BYTES, SLOT, Setup, UNKNOWN};

/// Everything at once, at all the sizes that are not explored whole.
fn setups() -> [Setup; 4] {
    let any = SLOT | UNKNOWN | BYTES;
    [
        Setup::new(3, 2, 4).growing().with_gaps().damaged(any, 2).crashing(2),
        Setup::new(4, 3, 4).growing().with_gaps().damaged(any, 2).crashing(2),
        Setup::new(4, 3, 4).growing().with_gaps(),
        Setup::new(4, 3, 4).growing().crashing(2),
    ]
}

fn walk_all(walks: u64) {
    for setup in setups() {
        let Setup { nodes, ballots, has_gaps, damages, crashes, .. } = setup;
        let name = format!(
            "N {nodes}, {ballots} ballots, gaps {has_gaps}, damage {damages}, crashes {crashes}"
        );
        walk(&name, &Protocol::new(setup), walks, |path| trace(&setup, path));
    }
}

#[test]
fn random_walks_agree() {
    walk_all(2_000);
}

#[test]
#[ignore = "minutes in release: see docs/model.md"]
fn full_random_walks() {
    walk_all(100_000);
}
