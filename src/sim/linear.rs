//! A search for a linear order of one key's operations that does not believe the slots in answers.
//!
//! Source: Wing and Gong, with the memory of Lowe. Exponential in concurrency, so it gives up after
//! a bounded number of steps and is applied to keys with few operations; the order check in
//! [`super::history`] covers the rest. Versions are not modelled: a compare-and-set that took effect
//! is a write, one that did not is ignored.

use super::history::{Operation, Outcome, Request};
use crate::time::Instant;
use std::collections::BTreeSet;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// An order exists.
    Linearizable,
    /// None exists.
    NotLinearizable,
    /// Too many operations, or too many steps.
    GaveUp,
}

/// What an operation does to the key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Needs this state, leaves it.
    Observe(Option<u64>),
    /// Leaves this state.
    Write(Option<u64>),
    /// Needs a value, leaves none.
    Remove,
}

struct Event {
    step: Step,
    invoked: Instant,
    /// `None`: it may also never happen.
    returned: Option<Instant>,
}

/// Looks for an order of `operations`, all on one key that was absent before.
#[must_use]
pub fn search(operations: &[&Operation]) -> Search {
    let mut events: Vec<Event> = operations.iter().filter_map(|op| event(op)).collect();
    if events.len() > OPERATIONS_MAX {
        return Search::GaveUp;
    }
    events.sort_by_key(|event| event.invoked);
    let required = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.returned.is_some())
        .fold(0_u128, |set, (index, _)| set | 1 << index);
    let mut seen: BTreeSet<(u128, Option<u64>)> = BTreeSet::new();
    let mut open = vec![(0_u128, None)];
    let mut steps = 0;
    while let Some((done, state)) = open.pop() {
        if done & required == required {
            return Search::Linearizable;
        }
        steps += 1;
        if steps > STEPS_MAX {
            return Search::GaveUp;
        }
        let is_left = |index: usize| done & (1 << index) == 0;
        // Whatever comes next began before every operation that is left had returned.
        let horizon = events
            .iter()
            .enumerate()
            .filter(|(index, _)| is_left(*index))
            .filter_map(|(_, event)| event.returned)
            .min();
        for (index, event) in events.iter().enumerate().filter(|(index, _)| is_left(*index)) {
            if horizon.is_some_and(|horizon| event.invoked > horizon) {
                break;
            }
            let next = match event.step {
                Step::Observe(needed) if needed == state => state,
                Step::Write(value) => value,
                Step::Remove if state.is_some() => None,
                Step::Observe(_) | Step::Remove => continue,
            };
            let next = (done | 1 << index, next);
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    Search::NotLinearizable
}

fn event(operation: &Operation) -> Option<Event> {
    let written = match operation.request {
        Request::Put { digest } | Request::CompareAndSet { digest, .. } => Some(digest),
        Request::Delete | Request::Get => None,
    };
    let is_delete = operation.request == Request::Delete;
    let (step, returned) = match operation.outcome {
        Outcome::Refused | Outcome::Mismatch { .. } => return None,
        Outcome::Unknown if operation.is_write() => (Step::Write(written), None),
        Outcome::Unknown => return None,
        Outcome::Found { digest, .. } => (Step::Observe(Some(digest)), Some(operation.returned)),
        Outcome::Absent => (Step::Observe(None), Some(operation.returned)),
        Outcome::Written { .. } if is_delete => (Step::Remove, Some(operation.returned)),
        Outcome::Written { .. } => (Step::Write(written), Some(operation.returned)),
    };
    Some(Event { step, invoked: operation.invoked, returned })
}

/// Operations of one key at most: a set of them is one word.
const OPERATIONS_MAX: usize = 120;

/// States looked at before giving up.
const STEPS_MAX: usize = 20_000;
