//! How both models are run: every state, the shortest way to one that breaks a property, or at random
//! through what is too large to visit whole.

use crate::rng::Rng;
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// States with the steps that led on from them.
pub type Way<M> = Vec<(<M as Model>::State, Option<<M as Model>::Action>)>;

/// Visits every state, or as many as `states_max` steps reach, depth first, and prints a line for the
/// table in docs/model.md; panics with a trace when a property fails. True when no state is left.
pub fn visit<M>(name: &str, model: M, states_max: usize, trace: impl Fn(Way<M>) -> String) -> bool
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let began = Instant::now();
    let checker = model.checker().target_state_count(states_max).spawn_dfs().join();
    let is_finished = checker.state_count() < states_max;
    eprintln!(
        "| {name} | {} | {} | {} | {} | {:.1} s |",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        if is_finished { "finished" } else { "truncated" },
        began.elapsed().as_secs_f64()
    );
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: fails that {property}\n{}", trace(path.into_vec()));
    }
    is_finished
}

/// The shortest way to a state in which `property` fails, breadth first; panics when there is none
/// within `states_max` steps.
pub fn shortest<M>(name: &str, model: M, property: &'static str, states_max: usize) -> Way<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let began = Instant::now();
    let found = HasDiscoveries::AnyOf([property].into());
    let checker =
        model.checker().target_state_count(states_max).finish_when(found).spawn_bfs().join();
    let path = checker.discoveries().remove(property).map(|path| path.into_vec());
    let path = path.unwrap_or_else(|| panic!("{name}: not found that not {property}"));
    eprintln!(
        "| {name} | {property} | {} | {} | {:.2} s |",
        path.len() - 1,
        checker.unique_state_count(),
        began.elapsed().as_secs_f64()
    );
    path
}

/// Walks `0..walks`, each from the initial state until nothing can happen or [`WALK_STEPS_MAX`], with
/// every property checked in every state, and prints a line for the table in docs/model.md; panics
/// with a trace when one fails.
pub fn walk<M: Model>(name: &str, model: &M, walks: u64, trace: impl Fn(Way<M>) -> String)
where
    M::State: Clone,
    M::Action: Clone,
{
    let (mut steps, mut longest) = (0, 0);
    for seed in 0..walks {
        let length = walk_once(name, model, seed, &trace);
        steps += length;
        longest = longest.max(length);
    }
    eprintln!("| {name} | {walks} | {steps} | {longest} |");
}

/// One of them, uniform among the steps that can be taken; how many it took.
fn walk_once<M: Model>(name: &str, model: &M, seed: u64, trace: &impl Fn(Way<M>) -> String) -> usize
where
    M::State: Clone,
    M::Action: Clone,
{
    let mut rng = Rng::new(seed);
    let properties = model.properties();
    let mut state = model.init_states().remove(0);
    let mut path = Vec::new();
    let mut actions = Vec::new();
    while path.len() < WALK_STEPS_MAX {
        for property in properties.iter().filter(|p| p.expectation == Expectation::Always) {
            if !(property.condition)(model, &state) {
                path.push((state, None));
                panic!("{name}, seed {seed}: fails that {}\n{}", property.name, trace(path));
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
            if let Some(next) = model.next_state(&state, action.clone()) {
                path.push((state, Some(action)));
                break next;
            }
        };
        state = next;
    }
    path.len()
}

const WALK_STEPS_MAX: usize = 200;

/// A test's setting.
#[expect(clippy::disallowed_methods, reason = "a test's setting, not the core's")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
