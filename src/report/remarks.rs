//! What a reader must know of a trial that counts all the same: it is said beside its point.

use super::quantity;
use super::result::TrialResult;

/// Somebody was elected, and nothing that was done to the cluster was meant to cause that.
pub const ELECTION: &str = "unplanned election";
/// The time line has a fault that could not be carried out.
pub const NOT_DONE: &str = "a fault was not carried out";
/// The store took in less than was due.
pub const NOT_STARTED: &str = "operations not started";

/// What there is to say of a trial's run.
#[must_use]
pub fn remarks(result: &TrialResult) -> Vec<&'static str> {
    let Some(run) = result.phase("run") else { return Vec::new() };
    let has = |name: &str| run.numbers.get(name).is_some_and(|count| *count > 0.0);
    let all = [
        (has(quantity::UNPLANNED_ELECTIONS), ELECTION),
        (has(quantity::FAULTS_NOT_DONE), NOT_DONE),
        (run.not_started > 0, NOT_STARTED),
    ];
    all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, remark)| remark).collect()
}
