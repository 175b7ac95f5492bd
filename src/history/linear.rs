//! A search for a linear order of one key's operations that does not believe the slots in answers.
//!
//! Source: Wing and Gong, with the memory of Lowe. What is done is a first index and a window of
//! bits, so that cost follows from concurrency and not from length; it gives up after a bounded
//! number of steps. Reads that fit are taken at once, and so are writes that nobody saw, which
//! loses no order. Versions are not modelled: a compare-and-set that took effect is a write, one
//! that did not is ignored; the order check in [`super::History`] covers both. Invariant: bit 0 of
//! `done` is never set.

use super::order::{Operation, Outcome, Request};
use crate::time::Instant;
use std::collections::BTreeSet;

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// An order exists.
    Linearizable,
    /// None exists.
    NotLinearizable {
        /// Those of which none can come next, after the longest order found.
        stuck: Vec<Operation>,
    },
    /// Too many operations at once, or too many steps.
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

struct Event<'a> {
    step: Step,
    invoked: Instant,
    returned: Instant,
    /// A write whose value nobody saw or needs: where it stands among the writes does not matter.
    is_idle: bool,
    operation: &'a Operation,
}

/// How far an order is, and what the key holds after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    /// The first required event that is not done.
    first: usize,
    /// Bit i: the required event `first + i` is done.
    done: u128,
    /// Optional events that have happened.
    happened: u128,
    state: Option<u64>,
}

struct Searcher<'a> {
    /// By invocation; each happens once.
    required: Vec<Event<'a>>,
    /// By invocation; each happens once or never.
    optional: Vec<Event<'a>>,
}

/// Looks for an order of `operations`, all on one key that was absent before.
#[must_use]
pub fn search(operations: &[&Operation]) -> Search {
    search_from(operations, &[None], STEPS_MAX)
}

/// Looks for an order of `operations`, all on one key that held one of `initial` before; gives up
/// after `steps_max` steps.
#[must_use]
pub fn search_from(operations: &[&Operation], initial: &[Option<u64>], steps_max: usize) -> Search {
    let searcher = Searcher::new(operations);
    if searcher.optional.len() > WINDOW {
        return Search::GaveUp;
    }
    let start = |state: &Option<u64>| Reached { first: 0, done: 0, happened: 0, state: *state };
    let mut open: Vec<Reached> = initial.iter().map(start).collect();
    let mut seen: BTreeSet<Reached> = open.iter().copied().collect();
    let mut furthest: Option<Reached> = None;
    while let Some(reached) = open.pop() {
        if reached.first == searcher.required.len() {
            return Search::Linearizable;
        }
        let Some((horizon, candidates)) = searcher.candidates(&reached) else {
            return Search::GaveUp;
        };
        if seen.len() > steps_max {
            return Search::GaveUp;
        }
        if furthest.is_none_or(|furthest| furthest.count() < reached.count()) {
            furthest = Some(reached);
        }
        searcher.follow(&reached, horizon, &candidates, |next| {
            if seen.insert(next) {
                open.push(next);
            }
        });
    }
    let stuck = furthest.map(|furthest| searcher.stuck(&furthest)).unwrap_or_default();
    Search::NotLinearizable { stuck }
}

impl Reached {
    fn count(&self) -> usize {
        self.first + self.done.count_ones() as usize
    }

    /// With required event `first + offset` done.
    fn with(mut self, offset: usize, state: Option<u64>) -> Self {
        self.done |= 1 << offset;
        let over = self.done.trailing_ones();
        self.first += over as usize;
        self.done = self.done.checked_shr(over).unwrap_or(0);
        self.state = state;
        self
    }
}

impl<'a> Searcher<'a> {
    fn new(operations: &[&'a Operation]) -> Self {
        let mut required: Vec<Event<'a>> = Vec::new();
        let mut optional: Vec<Event<'a>> = Vec::new();
        for operation in operations {
            let Some(step) = step_of(operation) else { continue };
            let (invoked, returned) = (operation.invoked, operation.returned);
            let event = Event { step, invoked, returned, is_idle: false, operation };
            let is_optional = operation.outcome == Outcome::Unknown;
            if is_optional { &mut optional } else { &mut required }.push(event);
        }
        required.sort_by_key(|event| event.invoked);
        // A value that nobody saw matters only to a delete that needs some value.
        let has_remove = required.iter().any(|event| event.step == Step::Remove);
        let seen: BTreeSet<Option<u64>> = required
            .iter()
            .filter_map(|event| match event.step {
                Step::Observe(state) => Some(state),
                Step::Write(_) | Step::Remove => None,
            })
            .collect();
        let is_idle = |event: &Event<'_>| match event.step {
            Step::Write(value) => !has_remove && !seen.contains(&value),
            Step::Observe(_) | Step::Remove => false,
        };
        optional.retain(|event| !is_idle(event));
        for event in &mut required {
            event.is_idle = is_idle(event);
        }
        optional.sort_by_key(|event| event.invoked);
        Self { required, optional }
    }

    /// Offsets of the required events that may come next, and the time by which whatever comes next
    /// has begun. None when they do not fit the window.
    fn candidates(&self, reached: &Reached) -> Option<(Instant, Vec<usize>)> {
        let mut horizon = Instant::from_nanos(u64::MAX);
        let mut candidates = Vec::new();
        for (offset, event) in self.required[reached.first..].iter().enumerate() {
            if event.invoked > horizon {
                break;
            }
            if offset >= WINDOW {
                return None;
            }
            if reached.done & (1 << offset) == 0 {
                horizon = horizon.min(event.returned);
                candidates.push(offset);
            }
        }
        candidates.retain(|offset| self.required[reached.first + offset].invoked <= horizon);
        Some((horizon, candidates))
    }

    /// Gives `next` everything that is one step on; what should be tried first comes last.
    fn follow(
        &self,
        reached: &Reached,
        horizon: Instant,
        candidates: &[usize],
        mut next: impl FnMut(Reached),
    ) {
        let event = |offset: usize| &self.required[reached.first + offset];
        let fits = |offset: &&usize| event(**offset).step == Step::Observe(reached.state);
        if let Some(offset) = candidates.iter().find(fits) {
            return next(reached.with(*offset, reached.state));
        }
        // No read fits, so a write comes next, and an idle one may come before it.
        if let Some(offset) = candidates.iter().find(|offset| event(**offset).is_idle)
            && let Step::Write(state) = event(*offset).step
        {
            return next(reached.with(*offset, state));
        }
        for (index, event) in self.optional.iter().enumerate().rev() {
            if event.invoked > horizon || reached.happened & (1 << index) != 0 {
                continue;
            }
            if let Step::Write(state) = event.step {
                next(Reached { happened: reached.happened | 1 << index, state, ..*reached });
            }
        }
        for offset in candidates.iter().rev() {
            match event(*offset).step {
                Step::Write(state) => next(reached.with(*offset, state)),
                Step::Remove if reached.state.is_some() => next(reached.with(*offset, None)),
                Step::Observe(_) | Step::Remove => {}
            }
        }
    }

    fn stuck(&self, reached: &Reached) -> Vec<Operation> {
        let candidates = self.candidates(reached).map(|(_, candidates)| candidates);
        let event = |offset: usize| &self.required[reached.first + offset];
        let offsets = candidates.unwrap_or_default().into_iter();
        offsets.map(|offset| event(offset).operation.clone()).collect()
    }
}

fn step_of(operation: &Operation) -> Option<Step> {
    let written = match operation.request {
        Request::Put { digest } | Request::CompareAndSet { digest, .. } => Some(digest),
        Request::Delete | Request::Get => None,
    };
    let is_delete = operation.request == Request::Delete;
    match operation.outcome {
        Outcome::Refused | Outcome::Mismatch { .. } => None,
        Outcome::Unknown => operation.is_write().then_some(Step::Write(written)),
        Outcome::Found { digest, .. } => Some(Step::Observe(Some(digest))),
        Outcome::Absent => Some(Step::Observe(None)),
        Outcome::Written { .. } if is_delete => Some(Step::Remove),
        Outcome::Written { .. } => Some(Step::Write(written)),
    }
}

/// Operations that overlap the oldest one not done, and writes without an answer, at most.
const WINDOW: usize = 128;

/// States looked at before giving up.
const STEPS_MAX: usize = 20_000;
