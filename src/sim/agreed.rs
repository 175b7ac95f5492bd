//! What the nodes executed, slot by slot, compared from outside.
//!
//! One value per slot: id, code, digest and header are the same on every node that executed it, over
//! all its starts. Exactly once: the effects of a (session, sequence) are counted here, whatever the
//! state machines' own tables say. What clients were answered is held to this log: an acknowledged
//! write stands at its slot, and a read or scan found exactly what the log gives at its slot. Every
//! compare-and-set in it met the version that the log gives before its slot.

use crate::config::Configuration;
use crate::history::{Operation, Outcome, Request};
use crate::kv::{self, Applied, Command, Execution};
use crate::replica::Executed;
use crate::time::Instant;
use crate::types::{Bytes, Content, Digest, NodeId, ReadMode, Slot, ValueMeta};
use std::collections::BTreeMap;

/// The log that all nodes have executed.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    slots: BTreeMap<u64, Entry>,
    /// Slots at which requests took effect.
    effects: BTreeMap<(u64, u64), u64>,
    /// Slots at which values were written.
    values: BTreeMap<Digest, u64>,
    /// Digests of whole values by the digests that histories use.
    written: BTreeMap<u64, Digest>,
}

#[derive(Debug)]
struct Entry {
    meta: ValueMeta,
    execution: Option<Execution>,
    /// Who executed it first.
    by: NodeId,
}

/// A scan that was answered.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    pub(super) client: u64,
    pub(super) mode: ReadMode,
    pub(super) invoked: Instant,
    pub(super) start: u64,
    pub(super) limit: u32,
    pub(super) slot: u64,
    pub(super) rows: Vec<ScanRow>,
}

/// One row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScanRow {
    pub(super) key: Bytes,
    pub(super) version: u64,
    pub(super) digest: Digest,
}

impl Agreed {
    /// Notes a value that a client is about to write.
    pub(super) fn note_value(&mut self, history_digest: u64, value: &[u8]) {
        self.written.insert(history_digest, Digest::of(value));
    }

    /// Takes in what a node executed.
    pub(super) fn note(&mut self, node: NodeId, executed: Executed) -> Result<(), String> {
        let slot = executed.meta.slot().0;
        if let Some(known) = self.slots.get(&slot) {
            if known.meta != executed.meta {
                return Err(format!(
                    "two values in slot {slot}: {} executed {:?}, {node} {:?}",
                    known.by, known.meta, executed.meta
                ));
            }
            if known.execution != executed.execution {
                return Err(format!(
                    "slot {slot} did {:?} on {} and {:?} on {node}",
                    known.execution, known.by, executed.execution
                ));
            }
            return Ok(());
        }
        if let Some(command) = effective(&executed) {
            let Command { session, sequence, operation, .. } = command;
            if let Some(other) = self.effects.insert((session, sequence), slot) {
                return Err(format!(
                    "request {sequence} of session {session} took effect twice, \
                     at {other} and {slot}"
                ));
            }
            let has_value = match operation {
                kv::Operation::Put { .. } | kv::Operation::CompareAndSet { .. } => true,
                kv::Operation::OpenSession(_) | kv::Operation::Delete { .. } => false,
            };
            if has_value && let Some(other) = self.values.insert(executed.meta.digest, slot) {
                return Err(format!(
                    "one write took effect twice, at {other} and {slot}: {executed:?}"
                ));
            }
        }
        let Executed { meta, execution } = executed;
        self.slots.insert(slot, Entry { meta, execution, by: node });
        Ok(())
    }

    /// What was chosen for a slot, if anybody executed it.
    pub(super) fn meta(&self, slot: Slot) -> Option<&ValueMeta> {
        self.slots.get(&slot.0).map(|entry| &entry.meta)
    }

    /// The values that the keys have after all that was executed.
    pub(super) fn live(&self) -> Vec<ValueMeta> {
        let mut state = Replay { log: self, next: 1, keys: BTreeMap::new() };
        // What contradicts the log is found by the check of all operations.
        let _ = state.advance(u64::MAX);
        let versions = state.keys.values().filter_map(|(version, _)| self.slots.get(version));
        versions.map(|entry| entry.meta.clone()).collect()
    }

    /// Changes of the policy among the slots.
    pub(super) fn policies(&self) -> u64 {
        let of = |entry: &Entry| match entry.meta.content() {
            Content::Configuration => Configuration::decode(entry.meta.header.clone()).ok(),
            Content::Command | Content::NoOp => None,
        };
        let mut members = None;
        let mut count = 0;
        for next in self.slots.values().filter_map(of) {
            // Two entries for a change of the members: of the newcomer, and of those who stay.
            let known = (next.members.clone(), next.retired);
            let is_same = members.as_ref().is_none_or(|before| *before == known);
            count += u64::from(next.change.is_none() && is_same);
            members = Some(known);
        }
        count
    }

    /// Holds what clients were answered to the log.
    pub(super) fn check(
        &self,
        operations: &[Operation],
        scans: &[Scan],
        key_of: impl Fn(u64) -> Bytes,
    ) -> Result<(), String> {
        let mut reads: Vec<&Operation> = Vec::new();
        for operation in operations {
            match operation.outcome {
                Outcome::Written { version } => self.check_write(operation, version, &key_of)?,
                Outcome::Found { .. } | Outcome::Absent if !operation.is_write() => {
                    reads.push(operation);
                }
                Outcome::Mismatch { current } => {
                    self.check_mismatch(operation, current, &key_of)?;
                }
                Outcome::Refused => self.check_refused(operation)?,
                Outcome::Found { .. } | Outcome::Absent | Outcome::Unknown => {}
            }
        }
        reads.sort_by_key(|read| read.slot);
        let mut scans: Vec<&Scan> = scans.iter().collect();
        scans.sort_by_key(|scan| scan.slot);
        let mut state = Replay { log: self, next: 1, keys: BTreeMap::new() };
        let mut scans = scans.into_iter().peekable();
        for read in reads {
            while let Some(scan) = scans.next_if(|scan| scan.slot <= read.slot) {
                state.check_scan(scan, &key_of)?;
            }
            state.check_read(read, &key_of)?;
        }
        scans.try_for_each(|scan| state.check_scan(scan, &key_of))?;
        state.advance(u64::MAX)
    }

    /// An acknowledged write is the one that stands there.
    fn check_write(
        &self,
        operation: &Operation,
        version: u64,
        key_of: impl Fn(u64) -> Bytes,
    ) -> Result<(), String> {
        let lost = |why: &str| Err(format!("an acknowledged write is lost ({why}): {operation}"));
        let Some(entry) = self.slots.get(&version) else {
            return lost("its slot was executed by nobody");
        };
        let Ok(command) = Command::decode(entry.meta.header.clone()) else {
            return lost("its slot holds no command");
        };
        let (key, digest) = match (&command.operation, &operation.request) {
            (kv::Operation::Put { key }, Request::Put { digest })
            | (kv::Operation::CompareAndSet { key, .. }, Request::CompareAndSet { digest, .. }) => {
                (key, Some(digest))
            }
            (kv::Operation::Delete { key }, Request::Delete) => (key, None),
            _ => return lost("its slot holds another operation"),
        };
        if *key != key_of(operation.key) {
            return lost("its slot holds another key");
        }
        if digest.is_some_and(|digest| self.written.get(digest) != Some(&entry.meta.digest)) {
            return lost("its slot holds another value");
        }
        let took_effect =
            entry.execution.is_some_and(|e| e.applied == Applied::Written { version });
        if took_effect { Ok(()) } else { lost("its slot took no effect") }
    }

    /// A write that was refused has not happened, and never will.
    fn check_refused(&self, operation: &Operation) -> Result<(), String> {
        let (Request::Put { digest } | Request::CompareAndSet { digest, .. }) = &operation.request
        else {
            return Ok(());
        };
        match self.written.get(digest).and_then(|digest| self.values.get(digest)) {
            Some(slot) => Err(format!("a refused write took effect in slot {slot}: {operation}")),
            None => Ok(()),
        }
    }

    /// A compare-and-set that was told of another version is one, and met that version: the replay
    /// says whether it was there.
    fn check_mismatch(
        &self,
        operation: &Operation,
        current: u64,
        key_of: impl Fn(u64) -> Bytes,
    ) -> Result<(), String> {
        let entry = self.slots.get(&operation.slot);
        let command = entry.and_then(|entry| Command::decode(entry.meta.header.clone()).ok());
        let there = match command.map(|command| command.operation) {
            Some(kv::Operation::CompareAndSet { key, .. }) if key == key_of(operation.key) => {
                entry.and_then(|entry| entry.execution).map(|execution| execution.applied)
            }
            Some(
                kv::Operation::CompareAndSet { .. }
                | kv::Operation::OpenSession(_)
                | kv::Operation::Put { .. }
                | kv::Operation::Delete { .. },
            )
            | None => None,
        };
        if there == Some(Applied::Mismatch { current }) {
            return Ok(());
        }
        Err(format!("the log has {there:?} where a compare-and-set met {current}: {operation}"))
    }
}

/// The command that took effect in this slot, if one did.
fn effective(executed: &Executed) -> Option<Command> {
    let execution = executed.execution?;
    let slot = executed.meta.slot();
    if execution.slot != slot || execution.applied != (Applied::Written { version: slot.0 }) {
        return None;
    }
    Command::decode(executed.meta.header.clone()).ok()
}

/// The keys while the log is gone through.
struct Replay<'a> {
    log: &'a Agreed,
    next: u64,
    keys: BTreeMap<Bytes, (u64, Digest)>,
}

impl Replay<'_> {
    /// The keys after `slot`, and whether every compare-and-set up to there met what they say.
    fn advance(&mut self, slot: u64) -> Result<(), String> {
        let log = self.log;
        for (version, entry) in log.slots.range(self.next..).take_while(|(at, _)| **at <= slot) {
            self.next = version + 1;
            // A repeated request did nothing here.
            let Some(execution) = entry.execution.filter(|did| did.slot.0 == *version) else {
                continue;
            };
            let Ok(command) = Command::decode(entry.meta.header.clone()) else { continue };
            if let kv::Operation::CompareAndSet { key, expected } = &command.operation {
                self.check_met(*version, key, *expected, execution.applied)?;
            }
            if execution.applied != (Applied::Written { version: *version }) {
                continue;
            }
            match command.operation {
                kv::Operation::OpenSession(_) => {}
                kv::Operation::Put { key } | kv::Operation::CompareAndSet { key, .. } => {
                    self.keys.insert(key, (*version, entry.meta.digest));
                }
                kv::Operation::Delete { key } => drop(self.keys.remove(&key)),
            }
        }
        Ok(())
    }

    /// A compare-and-set that took effect met the version that it expected, and one that did not
    /// named the version that it met.
    fn check_met(
        &self,
        slot: u64,
        key: &Bytes,
        expected: u64,
        applied: Applied,
    ) -> Result<(), String> {
        let met = match applied {
            Applied::Written { .. } => expected,
            Applied::Mismatch { current } => current,
            Applied::SessionOpened { .. }
            | Applied::NotFound
            | Applied::SessionUnknown
            | Applied::Stale => return Ok(()),
        };
        let there = self.keys.get(key).map_or(0, |(version, _)| *version);
        let is_refused = matches!(applied, Applied::Mismatch { .. });
        if met == there && is_refused == (there != expected) {
            return Ok(());
        }
        Err(format!(
            "the log has version {there} before slot {slot}, where a compare-and-set from \
             {expected} ended as {applied:?}"
        ))
    }

    fn check_read(
        &mut self,
        read: &Operation,
        key_of: impl Fn(u64) -> Bytes,
    ) -> Result<(), String> {
        self.advance(read.slot)?;
        let there = self.keys.get(&key_of(read.key)).copied();
        let found = match read.outcome {
            Outcome::Found { version, digest } => {
                let digest = self.log.written.get(&digest).copied().unwrap_or_default();
                Some((version, digest))
            }
            Outcome::Absent
            | Outcome::Written { .. }
            | Outcome::Mismatch { .. }
            | Outcome::Unknown
            | Outcome::Refused => None,
        };
        if found == there {
            return Ok(());
        }
        Err(format!("the log has {there:?} where a read found {found:?}: {read}"))
    }

    fn check_scan(&mut self, scan: &Scan, key_of: impl Fn(u64) -> Bytes) -> Result<(), String> {
        self.advance(scan.slot)?;
        let there: Vec<ScanRow> = self
            .keys
            .range(key_of(scan.start)..)
            .take(scan.limit as usize)
            .map(|(key, (version, digest))| ScanRow {
                key: key.clone(),
                version: *version,
                digest: *digest,
            })
            .collect();
        if there == scan.rows {
            return Ok(());
        }
        Err(format!("a scan found other rows than the log has at its slot, {there:?}: {scan:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ballot, Code, Epoch, Slot, ValueId};

    const NODES: [NodeId; 2] = [NodeId(0), NodeId(1)];

    fn key_of(key: u64) -> Bytes {
        Bytes::from(format!("key-{key:03}"))
    }

    /// A put that took effect at `slot`.
    fn put(slot: u64, sequence: u64, value: &[u8]) -> Executed {
        executed(slot, sequence, value, kv::Operation::Put { key: key_of(1) })
    }

    /// A compare-and-set at `slot`, and what it did.
    fn cas(slot: u64, expected: u64, applied: Applied) -> Executed {
        let operation = kv::Operation::CompareAndSet { key: key_of(1), expected };
        let mut executed = executed(slot, slot, b"c", operation);
        executed.execution.as_mut().unwrap().applied = applied;
        executed
    }

    fn executed(slot: u64, sequence: u64, value: &[u8], operation: kv::Operation) -> Executed {
        let command = Command { session: 1, sequence, answered_below: 0, operation };
        let id = ValueId { origin: Ballot { round: 1, node: 0 }, slot: Slot(slot) };
        let meta = ValueMeta {
            id,
            epoch: Epoch(0),
            code: Code::new(1, 2).unwrap(),
            payload_bytes: 3,
            digest: Digest::of(value),
            header: command.encode(),
        };
        let applied = Applied::Written { version: slot };
        let execution = Execution { applied, slot: Slot(slot), superseded: None, is_current: true };
        Executed { meta, execution: Some(execution) }
    }

    fn operation(request: Request, slot: u64, outcome: Outcome) -> Operation {
        Operation {
            client: 0,
            key: 1,
            request,
            mode: ReadMode::Linearizable,
            invoked: Instant::ZERO,
            returned: Instant::ZERO,
            slot,
            outcome,
        }
    }

    #[test]
    fn two_values_in_one_slot_are_found() {
        let mut agreed = Agreed::default();
        agreed.note(NODES[0], put(1, 1, b"a")).unwrap();
        agreed.note(NODES[1], put(1, 1, b"a")).unwrap();
        let mut other = put(1, 1, b"a");
        other.meta.id.origin.round = 2;
        assert!(agreed.note(NODES[1], other).unwrap_err().contains("two values"));
        let mut other = put(1, 1, b"a");
        other.execution = None;
        assert!(agreed.note(NODES[1], other).unwrap_err().contains("did"));
    }

    #[test]
    fn a_request_that_takes_effect_twice_is_found() {
        let mut agreed = Agreed::default();
        agreed.note(NODES[0], put(1, 7, b"a")).unwrap();
        let again = agreed.note(NODES[0], put(2, 7, b"b")).unwrap_err();
        assert!(again.contains("request 7 of session 1 took effect twice"), "{again}");
        // Under another name, as when a client begins anew in another session.
        let again = agreed.note(NODES[0], put(3, 8, b"a")).unwrap_err();
        assert!(again.contains("one write took effect twice"), "{again}");
    }

    #[test]
    fn a_refused_write_that_takes_effect_is_found() {
        let mut agreed = Agreed::default();
        agreed.note_value(11, b"a");
        agreed.note_value(12, b"b");
        agreed.note(NODES[0], put(1, 1, b"a")).unwrap();
        let refused = |digest| [operation(Request::Put { digest }, 0, Outcome::Refused)];
        assert_eq!(agreed.check(&refused(12), &[], key_of), Ok(()));
        let wrong = agreed.check(&refused(11), &[], key_of).unwrap_err();
        assert!(wrong.contains("a refused write took effect in slot 1"), "{wrong}");
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_found() {
        let mut agreed = Agreed::default();
        agreed.note_value(11, b"a");
        agreed.note_value(12, b"b");
        agreed.note(NODES[0], put(1, 1, b"a")).unwrap();
        let write = |digest, version| {
            [operation(Request::Put { digest }, version, Outcome::Written { version })]
        };
        assert_eq!(agreed.check(&write(11, 1), &[], key_of), Ok(()));
        for lost in [write(12, 1), write(11, 2)] {
            assert!(agreed.check(&lost, &[], key_of).unwrap_err().contains("lost"));
        }
    }

    #[test]
    fn reads_and_scans_that_differ_from_the_log_are_found() {
        let mut agreed = Agreed::default();
        agreed.note_value(11, b"a");
        agreed.note_value(12, b"b");
        agreed.note(NODES[0], put(1, 1, b"a")).unwrap();
        agreed.note(NODES[0], put(2, 2, b"b")).unwrap();
        let found = |version, digest| Outcome::Found { version, digest };
        let read = |slot, outcome| [operation(Request::Get, slot, outcome)];
        assert_eq!(agreed.check(&read(1, found(1, 11)), &[], key_of), Ok(()));
        assert_eq!(agreed.check(&read(0, Outcome::Absent), &[], key_of), Ok(()));
        for wrong in [read(2, found(1, 11)), read(2, found(2, 11)), read(1, Outcome::Absent)] {
            assert!(agreed.check(&wrong, &[], key_of).is_err(), "{wrong:?}");
        }
        let scan = |slot, rows| Scan {
            client: 0,
            mode: ReadMode::Linearizable,
            invoked: Instant::ZERO,
            start: 0,
            limit: 3,
            slot,
            rows,
        };
        let row = |version, value| ScanRow { key: key_of(1), version, digest: Digest::of(value) };
        assert_eq!(agreed.check(&[], &[scan(2, vec![row(2, b"b")])], key_of), Ok(()));
        for wrong in [scan(2, vec![row(1, b"a")]), scan(2, vec![]), scan(0, vec![row(1, b"a")])] {
            assert!(agreed.check(&[], std::slice::from_ref(&wrong), key_of).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_compare_and_set_that_met_another_version_than_the_log_has_is_found() {
        let checked = |last: Executed, operations: &[Operation]| {
            let mut agreed = Agreed::default();
            agreed.note_value(11, b"a");
            agreed.note_value(13, b"c");
            agreed.note(NODES[0], put(1, 1, b"a")).unwrap();
            agreed.note(NODES[0], last).unwrap();
            agreed.check(operations, &[], key_of)
        };
        let (written, mismatch) =
            (Applied::Written { version: 2 }, |current| Applied::Mismatch { current });
        assert_eq!(checked(cas(2, 1, written), &[]), Ok(()));
        assert_eq!(checked(cas(2, 7, mismatch(1)), &[]), Ok(()));
        let wrong = [
            cas(2, 2, written),
            cas(2, 0, written),
            cas(2, 7, mismatch(0)),
            cas(2, 1, mismatch(1)),
        ];
        for wrong in wrong {
            let verdict = checked(wrong, &[]).unwrap_err();
            assert!(verdict.contains("the log has version 1"), "{verdict}");
        }
        let answered = |slot, current| {
            let request = Request::CompareAndSet { expected: 7, digest: 13 };
            [operation(request, slot, Outcome::Mismatch { current })]
        };
        assert_eq!(checked(cas(2, 7, mismatch(1)), &answered(2, 1)), Ok(()));
        for wrong in [answered(2, 2), answered(2, 0), answered(1, 1), answered(3, 1)] {
            let verdict = checked(cas(2, 7, mismatch(1)), &wrong).unwrap_err();
            assert!(verdict.contains("where a compare-and-set met"), "{verdict}");
        }
    }
}
