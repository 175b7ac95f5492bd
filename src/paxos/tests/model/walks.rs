//! Random walks through what is too large to visit whole: seeded, every property checked in every
//! state of the way.

use super::exhaustive::trace;
use super::protocol::Protocol;
use super::setup::{BYTES, SLOT, Setup, UNKNOWN};
use crate::rng::Rng;
use stateright::{Expectation, Model};

/// Walks from the initial state until nothing can happen or `STEPS_MAX`; the steps taken.
fn walk(model: &Protocol, seed: u64) -> usize {
    let mut rng = Rng::new(seed);
    let properties = model.properties();
    let mut state = model.init_states().remove(0);
    let mut path = Vec::new();
    let mut actions = Vec::new();
    while path.len() < STEPS_MAX {
        for property in properties.iter().filter(|p| p.expectation == Expectation::Always) {
            if !(property.condition)(model, &state) {
                path.push((state, None));
                let trace = trace(&model.setup, path);
                panic!("seed {seed}, {:?}: fails that {}\n{trace}", model.setup, property.name);
            }
        }
        actions.clear();
        model.actions(&state, &mut actions);
        let next = loop {
            if actions.is_empty() {
                return path.len();
            }
            let at = usize::try_from(rng.below(actions.len() as u64)).unwrap();
            let action = actions.swap_remove(at);
            if let Some(next) = model.next_state(&state, action) {
                path.push((state, Some(action)));
                break next;
            }
        };
        state = next;
    }
    path.len()
}

const STEPS_MAX: usize = 200;

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
        let model = Protocol::new(setup);
        let (mut steps, mut longest) = (0, 0);
        for seed in 0..walks {
            let length = walk(&model, seed);
            steps += length;
            longest = longest.max(length);
        }
        eprintln!(
            "| N {}, {} ballots, gaps {}, damage {}, crashes {} | {walks} | {steps} | {longest} |",
            setup.nodes, setup.ballots, setup.has_gaps, setup.damages, setup.crashes
        );
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
