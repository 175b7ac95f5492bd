//! One session of a client machine: its id, its sequence numbers and what waits for it.

use super::operation::Token;
use crate::types::Slot;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug)]
pub(super) struct Session {
    /// From the cluster, once opened.
    pub(super) id: Option<u64>,
    /// The operation that opens it.
    pub(super) opening: Option<Token>,
    next_sequence: u64,
    /// Sequences of the current id without an answer.
    in_flight: BTreeSet<u64>,
    /// Writes without a sequence yet.
    pub(super) waiting: VecDeque<Token>,
    /// Operations that have not ended, reads included.
    pub(super) outstanding: usize,
    /// The latest slot at which an answer was served: eventual reads go not before it.
    pub(super) seen: Slot,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            id: None,
            opening: None,
            next_sequence: 1,
            in_flight: BTreeSet::new(),
            waiting: VecDeque::new(),
            outstanding: 0,
            seen: Slot::ZERO,
        }
    }
}

impl Session {
    /// The next sequence, unless it would be `window` or more above one without an answer.
    pub(super) fn take_sequence(&mut self, window: u64) -> Option<u64> {
        let sequence = self.next_sequence;
        if self.in_flight.first().is_some_and(|oldest| sequence - oldest >= window) {
            return None;
        }
        self.next_sequence += 1;
        self.in_flight.insert(sequence);
        Some(sequence)
    }

    /// Every sequence below this one is answered; 0 for a request of no or of an earlier session.
    pub(super) fn answered_below(&self, (id, _): (u64, u64)) -> u64 {
        if self.id != Some(id) {
            return 0;
        }
        self.in_flight.first().copied().unwrap_or(self.next_sequence)
    }

    /// The cluster has opened it.
    pub(super) fn open(&mut self, id: u64) {
        self.id = Some(id);
        self.opening = None;
        self.next_sequence = 1;
        self.in_flight.clear();
    }

    /// The cluster has forgotten it.
    pub(super) fn lose(&mut self) {
        self.id = None;
        self.in_flight.clear();
    }

    /// A request has ended.
    pub(super) fn answer(&mut self, (id, sequence): (u64, u64)) {
        if self.id == Some(id) {
            self.in_flight.remove(&sequence);
        }
    }

    pub(super) fn check_invariants(&self, index: usize, window: usize) {
        assert!(self.outstanding <= window, "session {index}: {} outstanding", self.outstanding);
        assert!(self.waiting.len() <= self.outstanding, "session {index}: waiting twice");
        assert!(self.id.is_some() || self.in_flight.is_empty(), "session {index}: no id");
        if let (Some(first), Some(last)) = (self.in_flight.first(), self.in_flight.last()) {
            assert!(last - first < window as u64, "session {index}: {first}..={last}");
            assert!(*last < self.next_sequence, "session {index}: sequence {last} not given");
        }
    }
}
