//! What the clients saw, and whether one linear order explains it.
//!
//! Every answer names the slot at which it was served, so the order is known and only has to be
//! checked: real time is respected, writes have slots of their own, and every read returns what the
//! latest write at or below its slot wrote. O(n log n) over all operations; [`super::search`] does
//! not believe the slots. A write without an answer may have happened, once, or not.

use crate::time::Instant;
use crate::types::ReadMode;
use std::collections::BTreeMap;
use std::fmt;

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The value of a key.
    Get,
    /// Writes the value with this digest.
    Put {
        /// Digest of the value; different for every write.
        digest: u64,
    },
    /// Removes the key.
    Delete,
    /// Writes the value if the version is as expected.
    CompareAndSet {
        /// 0 for "absent".
        expected: u64,
        /// Digest of the value.
        digest: u64,
    },
}

/// What it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value.
    Found {
        /// The slot that wrote it.
        version: u64,
        /// Digest of the value.
        digest: u64,
    },
    /// Absent.
    Absent,
    /// Written or deleted.
    Written {
        /// The slot.
        version: u64,
    },
    /// Another version was there; nothing was done.
    Mismatch {
        /// 0 for "absent".
        current: u64,
    },
    /// No answer: it may have happened.
    Unknown,
    /// Refused: it has not happened.
    Refused,
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u64,
    /// The key.
    pub key: u64,
    /// What was asked.
    pub request: Request,
    /// What a read was to promise.
    pub mode: ReadMode,
    /// When.
    pub invoked: Instant,
    /// When the answer came.
    pub returned: Instant,
    /// The slot at which it was served.
    pub slot: u64,
    /// The answer.
    pub outcome: Outcome,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In a sentence.
    pub what: String,
    /// The operations that show it.
    pub operations: Vec<Operation>,
}

/// All operations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In any order.
    pub operations: Vec<Operation>,
    /// Versions below this may have been written before the history began; 0 for an empty store.
    pub preloaded_below: u64,
}

impl Operation {
    /// May it have changed the key?
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self.request {
            Request::Get => false,
            Request::Put { .. } | Request::Delete | Request::CompareAndSet { .. } => true,
        }
    }

    /// An eventual read: of a state that may be old.
    #[must_use]
    pub fn is_eventual(&self) -> bool {
        !self.is_write() && self.mode == ReadMode::Eventual
    }

    /// The version that a compare-and-set met, unless the key was absent.
    const fn met(&self) -> Option<u64> {
        let met = match (&self.outcome, &self.request) {
            (Outcome::Mismatch { current }, _) => *current,
            (Outcome::Written { .. }, Request::CompareAndSet { expected, .. }) => *expected,
            (
                Outcome::Written { .. }
                | Outcome::Found { .. }
                | Outcome::Absent
                | Outcome::Unknown
                | Outcome::Refused,
                _,
            ) => 0,
        };
        if met == 0 { None } else { Some(met) }
    }

    /// Was it answered with a slot?
    #[must_use]
    pub const fn is_served(&self) -> bool {
        match self.outcome {
            Outcome::Unknown | Outcome::Refused => false,
            Outcome::Found { .. }
            | Outcome::Absent
            | Outcome::Written { .. }
            | Outcome::Mismatch { .. } => true,
        }
    }
}

impl History {
    /// The first thing wrong, if any.
    ///
    /// # Errors
    /// A [`Violation`] with the operations that show it.
    pub fn check(&self) -> Result<(), Violation> {
        self.check_real_time()?;
        self.check_monotonic()?;
        let mut keys: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            keys.entry(operation.key).or_default().push(operation);
        }
        let mut versions: BTreeMap<u64, &Operation> = BTreeMap::new();
        for operation in &self.operations {
            if let Outcome::Written { version } = operation.outcome
                && let Some(other) = versions.insert(version, operation)
            {
                return violation("two writes took effect at one slot", &[other, operation]);
            }
        }
        for operations in keys.values() {
            check_key(operations, self.preloaded_below, &versions)?;
        }
        Ok(())
    }

    /// An eventual read shows nothing older than what its client was answered before it asked.
    fn check_monotonic(&self) -> Result<(), Violation> {
        let mut clients: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in self.operations.iter().filter(|operation| operation.is_served()) {
            clients.entry(operation.client).or_default().push(operation);
        }
        clients.into_values().try_for_each(|of_client| {
            judge_after_latest(of_client, |latest, operation| {
                if operation.is_eventual() && operation.slot < latest.slot {
                    return violation("an eventual read went back in time", &[latest, operation]);
                }
                Ok(())
            })
        })
    }

    /// An operation that ended before another began has a slot that is not above the other's.
    fn check_real_time(&self) -> Result<(), Violation> {
        let strong = self.operations.iter().filter(|op| op.is_served() && !op.is_eventual());
        judge_after_latest(strong.collect(), |latest, operation| {
            // A write takes a slot of its own, after everything that was over before.
            let is_before = if operation.is_write() {
                operation.slot <= latest.slot
            } else {
                operation.slot < latest.slot
            };
            if is_before {
                let what = "an operation was served before one that had ended";
                return violation(what, &[latest, operation]);
            }
            Ok(())
        })
    }
}

/// Shows `judge` each of `operations`, in whatever order they come, after the one of the highest slot
/// among those that had returned before it was invoked.
fn judge_after_latest(
    operations: Vec<&Operation>,
    judge: impl Fn(&Operation, &Operation) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut by_return = operations.clone();
    let mut by_invoke = operations;
    by_return.sort_by_key(|operation| operation.returned);
    by_invoke.sort_by_key(|operation| operation.invoked);
    let mut ended = by_return.into_iter().peekable();
    let mut latest: Option<&Operation> = None;
    for operation in by_invoke {
        while let Some(earlier) = ended.next_if(|other| other.returned < operation.invoked) {
            if latest.is_none_or(|latest| earlier.slot > latest.slot) {
                latest = Some(earlier);
            }
        }
        if let Some(latest) = latest {
            judge(latest, operation)?;
        }
    }
    Ok(())
}

/// What stands at a version of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Value(u64),
    /// A value that nobody read; a compare-and-set met its version.
    Unread,
    Deleted,
}

/// The writes of one key that were answered, by slot, and those that were not.
struct KeyWrites<'a> {
    known: BTreeMap<u64, (Written, &'a Operation)>,
    unknown: Vec<&'a Operation>,
    /// Answers that found no key, by the slot after which it was absent.
    absent: BTreeMap<u64, &'a Operation>,
}

/// Judges the operations of one key; `versions` are the writes of all keys by their slots.
fn check_key(
    operations: &[&Operation],
    preloaded_below: u64,
    versions: &BTreeMap<u64, &Operation>,
) -> Result<(), Violation> {
    let mut writes =
        KeyWrites { known: BTreeMap::new(), unknown: Vec::new(), absent: BTreeMap::new() };
    for &operation in operations {
        match (&operation.outcome, &operation.request) {
            (Outcome::Unknown, _) if operation.is_write() => writes.unknown.push(operation),
            (
                Outcome::Written { version },
                Request::Put { digest } | Request::CompareAndSet { digest, .. },
            ) => {
                if *version != operation.slot {
                    return violation("a write was served at another slot", &[operation]);
                }
                writes.known.insert(*version, (Written::Value(*digest), operation));
            }
            (Outcome::Written { version }, Request::Delete) => {
                writes.known.insert(*version, (Written::Deleted, operation));
            }
            (Outcome::Written { .. }, Request::Get) => {
                return violation("a read was answered as a write", &[operation]);
            }
            (Outcome::Absent | Outcome::Mismatch { current: 0 }, _) => {
                writes.absent.insert(operation.slot, operation);
            }
            (
                Outcome::Unknown
                | Outcome::Refused
                | Outcome::Found { .. }
                | Outcome::Mismatch { .. },
                _,
            ) => {}
        }
    }
    writes.discover(operations, preloaded_below)?;
    writes.discover_met(operations, preloaded_below, versions)?;
    for &operation in operations {
        writes.check(operation)?;
    }
    Ok(())
}

impl<'a> KeyWrites<'a> {
    /// A read of a version that nobody was answered for shows that an unanswered write happened.
    fn discover(
        &mut self,
        operations: &[&'a Operation],
        preloaded_below: u64,
    ) -> Result<(), Violation> {
        let mut seen: BTreeMap<u64, (u64, &'a Operation)> = BTreeMap::new();
        for &read in operations {
            let Outcome::Found { version, digest } = read.outcome else { continue };
            if let Some((written, write)) = self.known.get(&version) {
                if *written != Written::Value(digest) {
                    return violation(
                        "a read returned other bytes than were written",
                        &[write, read],
                    );
                }
                continue;
            }
            if let Some((other, first)) = seen.insert(version, (digest, read)) {
                if other != digest {
                    return violation("one version was read with different bytes", &[first, read]);
                }
                continue;
            }
            let of_digest = |operation: &Operation| match operation.request {
                Request::Put { digest: of } | Request::CompareAndSet { digest: of, .. } => {
                    of == digest
                }
                Request::Get | Request::Delete => false,
            };
            let at = self.unknown.iter().position(|operation| of_digest(operation));
            if at.is_none() && version < preloaded_below {
                self.known.insert(version, (Written::Value(digest), read));
                continue;
            }
            let Some(at) = at else {
                return violation("a read returned a value that was never written there", &[read]);
            };
            // Exactly once: the write is used up.
            let write = self.unknown.remove(at);
            self.known.insert(version, (Written::Value(digest), write));
        }
        Ok(())
    }

    /// A version that a compare-and-set met was written: by a write that was answered or read, before
    /// the history began, or by an unanswered write. Which of these does not matter, as the earliest
    /// answers choose first: what one of them could have met every later one could have met too.
    fn discover_met(
        &mut self,
        operations: &[&'a Operation],
        preloaded_below: u64,
        versions: &BTreeMap<u64, &Operation>,
    ) -> Result<(), Violation> {
        let met = operations.iter().filter_map(|operation| Some((operation.met()?, *operation)));
        let mut met: Vec<(u64, &Operation)> = met.collect();
        met.sort_by_key(|(_, operation)| operation.returned);
        for (version, operation) in met {
            // A write of its own slot took effect after what it met.
            let is_written = matches!(operation.outcome, Outcome::Written { .. });
            if version > operation.slot || (is_written && version == operation.slot) {
                return violation("a version from after the slot it was served at", &[operation]);
            }
            if self.known.contains_key(&version) {
                continue;
            }
            if let Some(other) = versions.get(&version) {
                let what = "a compare-and-set met the version of another key";
                return violation(what, &[other, operation]);
            }
            if version >= preloaded_below {
                let at = self.unknown.iter().position(|write| {
                    write.request != Request::Delete && write.invoked <= operation.returned
                });
                let Some(at) = at else {
                    let what = "a compare-and-set met a version that nobody wrote";
                    return violation(what, &[operation]);
                };
                // Exactly once: the write is used up.
                self.unknown.remove(at);
            }
            self.known.insert(version, (Written::Unread, operation));
        }
        Ok(())
    }

    /// The last write at or below `slot`, as far as known.
    fn latest(&self, slot: u64) -> Option<(u64, Written, &'a Operation)> {
        let (version, (written, operation)) = self.known.range(..=slot).next_back()?;
        Some((*version, *written, operation))
    }

    fn check(&self, operation: &Operation) -> Result<(), Violation> {
        match &operation.outcome {
            Outcome::Found { version, .. } => {
                self.check_begun(operation, *version)?;
                self.check_version(operation, *version)
            }
            Outcome::Absent => self.check_absent(operation, operation.slot),
            Outcome::Mismatch { current: 0 } => {
                self.check_absent(operation, operation.slot.saturating_sub(1))
            }
            Outcome::Mismatch { current } => {
                if let Request::CompareAndSet { expected, .. } = operation.request
                    && expected == *current
                {
                    return violation("a mismatch with the version expected", &[operation]);
                }
                self.check_version(operation, *current)
            }
            Outcome::Written { version } => {
                let Request::CompareAndSet { expected, .. } = operation.request else {
                    return Ok(());
                };
                if expected == 0 {
                    self.check_absent(operation, version.saturating_sub(1))
                } else {
                    self.check_expected(operation, expected)
                }
            }
            Outcome::Unknown | Outcome::Refused => Ok(()),
        }
    }

    /// What was read had begun to be written when the read ended.
    fn check_begun(&self, read: &Operation, version: u64) -> Result<(), Violation> {
        match self.known.get(&version) {
            Some((_, write)) if write.is_write() && write.invoked > read.returned => {
                violation("a read returned a value before its write began", &[write, read])
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The key had `version` at the operation's slot: nothing known was written in between.
    fn check_version(&self, operation: &Operation, version: u64) -> Result<(), Violation> {
        if version > operation.slot {
            return violation("a version from after the slot it was served at", &[operation]);
        }
        match self.latest(operation.slot) {
            Some((latest, _, write)) if latest > version => {
                return violation("a stale version, or a lost write", &[write, operation]);
            }
            Some((latest, Written::Deleted, write)) if latest == version => {
                let what = "a compare-and-set met the version of a delete";
                return violation(what, &[write, operation]);
            }
            Some(_) | None => {}
        }
        match self.absent.range(version..=operation.slot).next() {
            Some((_, absent)) => violation(
                "an older version is back after the key was found absent",
                &[absent, operation],
            ),
            None => Ok(()),
        }
    }

    /// A compare-and-set that took effect met the version that it expected.
    fn check_expected(&self, operation: &Operation, expected: u64) -> Result<(), Violation> {
        let before = operation.slot.saturating_sub(1);
        match self.latest(before) {
            Some((latest, _, write)) if latest > expected => {
                violation("a compare-and-set took effect over a newer version", &[write, operation])
            }
            Some((latest, Written::Deleted, write)) if latest == expected => {
                violation("a compare-and-set took effect on a deleted key", &[write, operation])
            }
            Some(_) | None => match self.absent.range(expected..=before).next() {
                Some((_, absent)) => violation(
                    "a compare-and-set took effect on a key that was absent",
                    &[absent, operation],
                ),
                None => Ok(()),
            },
        }
    }

    /// The key was absent at `slot`: the last known write is a delete, or an unanswered delete that
    /// began before the answer may explain it.
    fn check_absent(&self, operation: &Operation, slot: u64) -> Result<(), Violation> {
        let write = match self.latest(slot) {
            Some((_, Written::Value(_) | Written::Unread, write)) => write,
            Some((_, Written::Deleted, _)) | None => return Ok(()),
        };
        let may_be_deleted = self
            .unknown
            .iter()
            .any(|other| other.request == Request::Delete && other.invoked <= operation.returned);
        if may_be_deleted {
            return Ok(());
        }
        violation("a key is absent that was written: a lost write", &[write, operation])
    }
}

pub(super) fn violation(what: &str, operations: &[&Operation]) -> Result<(), Violation> {
    let operations = operations.iter().map(|operation| (*operation).clone()).collect();
    Err(Violation { what: what.to_owned(), operations })
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for operation in &self.operations {
            write!(f, "\n    {operation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |at: Instant| at.as_nanos() as f64 / 1e9;
        write!(
            f,
            "client {} key {} {:?}{} -> {:?} at slot {}, {:.6} s to {:.6} s",
            self.client,
            self.key,
            self.request,
            if self.is_write() { String::new() } else { format!(" ({})", self.mode) },
            self.outcome,
            self.slot,
            seconds(self.invoked),
            seconds(self.returned)
        )
    }
}
