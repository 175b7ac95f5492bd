//! How both models are run: every state, or the shortest way to one that breaks a property.

use stateright::{Checker, HasDiscoveries, Model};
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

/// A test's setting.
#[expect(clippy::disallowed_methods, reason = "a test's setting, not the core's")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
