//! What the bench drives: a store seen as operations submitted and completions collected.
//!
//! The engine is one thread: it submits operations for many sessions, each with at most one
//! outstanding, then waits for completions. A target completes every operation exactly once, by a
//! [`TargetOutcome::Timeout`] at the latest. [`MemoryTarget`] is a store in this process, for tests
//! and for measuring what the generator itself costs. It is no model of a cluster.

use crate::types::{Bytes, ReadMode};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;
use thiserror::Error;

/// One operation on the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetOp {
    /// The value of a key.
    Read {
        /// The key.
        key: Bytes,
    },
    /// Writes a whole value, whether the key exists or not.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Up to `limit` rows in key order from `start` on.
    Scan {
        /// The first key, included.
        start: Bytes,
        /// Rows at most.
        limit: usize,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetOutcome {
    /// A read's answer; None when the key does not exist.
    Value {
        /// The value.
        value: Option<Bytes>,
        /// The slot that wrote it, when the store says so.
        version: Option<u64>,
    },
    /// A put or delete took effect.
    Done {
        /// The slot it was written at, when the store says so.
        version: Option<u64>,
    },
    /// A scan's answer.
    Rows {
        /// Rows returned.
        row_count: usize,
        /// Bytes of their values.
        value_bytes: u64,
    },
    /// Refused or failed.
    Error {
        /// A short stable name to count it under, such as `unavailable`.
        kind: Cow<'static, str>,
        /// May the operation still have taken effect (or yet take it)?
        is_ambiguous: bool,
    },
    /// No answer within the target's own time limit; it may have taken effect.
    Timeout,
}

/// The end of one operation.
#[derive(Clone, Debug)]
pub struct TargetCompletion {
    /// The session it was submitted for.
    pub client: usize,
    /// How it ended.
    pub outcome: TargetOutcome,
    /// The slot at which an answer was served, when the store says so.
    pub served_at: Option<u64>,
    /// When the answer was there (not when it was collected).
    pub completed_at: Instant,
}

/// The target as a whole is unusable; single operations fail by their outcome.
#[derive(Debug, Error)]
#[error("the store cannot be reached any more: {reason}; check that its nodes run")]
pub struct TargetError {
    /// What happened.
    pub reason: String,
}

/// A store under measurement.
pub trait Target {
    /// What the reads that follow promise; without effect on a store that has no choice.
    fn set_read_mode(&mut self, _mode: ReadMode) {}

    /// Tries every put up to `attempts` times before it counts as failed, where the store's client can:
    /// for loading, where a record that is missing spoils all that follows.
    fn set_put_attempts(&mut self, _attempts: u32) {}

    /// Starts `op` for session `client`, which has none outstanding. May only queue it: the engine
    /// calls [`Target::wait`] after each burst of submissions.
    fn submit(&mut self, client: usize, op: TargetOp);

    /// Appends completions, returning as soon as there is one, and at `deadline` without any.
    ///
    /// # Errors
    /// [`TargetError`] when no operation can complete any more.
    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError>;

    /// The target's time, by which everything is due and measured: the system's, unless the store
    /// is simulated and so is its time.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Is that time another one than the system's? Then what the generator took of the machine is
    /// not what held it up.
    fn has_virtual_time(&self) -> bool {
        false
    }
}

/// A map in this process that completes everything at once.
#[derive(Debug, Default)]
pub struct MemoryTarget {
    rows: HashMap<Bytes, (Bytes, u64)>,
    /// The keys of `rows`, for scans alone: a dry run is to spend its time in the generator, and
    /// finding a row by order takes several times as long as by hash.
    order: BTreeSet<Bytes>,
    version: u64,
    queue: VecDeque<(usize, TargetOp)>,
}

impl MemoryTarget {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keys stored.
    #[must_use]
    pub fn key_count(&self) -> usize {
        self.rows.len()
    }

    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &[u8]) -> Option<&Bytes> {
        self.rows.get(key).map(|(value, _)| value)
    }

    fn apply(&mut self, op: TargetOp) -> TargetOutcome {
        match op {
            TargetOp::Read { key } => {
                let row = self.rows.get(&key);
                TargetOutcome::Value {
                    value: row.map(|(value, _)| value.clone()),
                    version: row.map(|(_, version)| *version),
                }
            }
            TargetOp::Put { key, value } => {
                self.version += 1;
                let row = (value, self.version);
                match self.rows.get_mut(&key) {
                    Some(known) => *known = row,
                    None => {
                        self.order.insert(key.clone());
                        self.rows.insert(key, row);
                    }
                }
                TargetOutcome::Done { version: Some(self.version) }
            }
            TargetOp::Scan { start, limit } => {
                let keys = self.order.range(start..).take(limit);
                let rows = keys.filter_map(|key| self.rows.get(key));
                let (row_count, value_bytes) = rows
                    .fold((0, 0), |(count, bytes), row| (count + 1, bytes + row.0.len() as u64));
                TargetOutcome::Rows { row_count, value_bytes }
            }
            TargetOp::Delete { key } => {
                self.version += 1;
                self.rows.remove(&key);
                self.order.remove(&key);
                TargetOutcome::Done { version: Some(self.version) }
            }
        }
    }
}

impl Target for MemoryTarget {
    fn submit(&mut self, client: usize, op: TargetOp) {
        self.queue.push_back((client, op));
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        if self.queue.is_empty() {
            std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        }
        while let Some((client, op)) = self.queue.pop_front() {
            let outcome = self.apply(op);
            let (served_at, completed_at) = (Some(self.version), Instant::now());
            completions.push(TargetCompletion { client, outcome, served_at, completed_at });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_put_is_read_scanned_in_order_and_gone_when_deleted() {
        let mut rng = Rng::new(1);
        let (mut target, mut twin) = (MemoryTarget::new(), BTreeMap::new());
        let rows = |twin: &BTreeMap<Bytes, Bytes>, start: &Bytes| {
            let rows = twin.range(start.clone()..).take(5);
            rows.fold((0, 0), |(count, bytes), (_, value)| (count + 1, bytes + value.len() as u64))
        };
        for number in 0..5000 {
            let key = Bytes::from(format!("key{}", rng.below(50)));
            match rng.below(4) {
                0 => {
                    let value = Bytes::from(vec![0; number % 97]);
                    twin.insert(key.clone(), value.clone());
                    target.apply(TargetOp::Put { key, value });
                }
                1 => {
                    twin.remove(&key);
                    target.apply(TargetOp::Delete { key });
                }
                2 => {
                    let (row_count, value_bytes) = rows(&twin, &key);
                    let scan = TargetOp::Scan { start: key, limit: 5 };
                    let expected = TargetOutcome::Rows { row_count, value_bytes };
                    assert_eq!(target.apply(scan), expected);
                }
                _ => assert_eq!(target.value(&key), twin.get(&key)),
            }
            assert_eq!(target.key_count(), twin.len());
        }
    }
}
