//! The state machine: keys with versions, and the clients' sessions.
//!
//! Deterministic: the same slots give the same state on every node, evictions included. Values are
//! not here; an [`Entry`] says which slot holds one and how long it is. A repeated request is
//! answered from its session's results and changes nothing (DESIGN 3.5). How many sessions and results
//! are kept each opened session says itself, in the log: nodes that are set up otherwise agree.

use super::{Bounds, Command, CommandError, Operation};
use crate::mutant::{Mutant, breaks};
use crate::types::{Bytes, Content, Slot, ValueMeta};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Where a key's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The slot that wrote it: its version.
    pub version: Slot,
    /// Length of the value.
    pub payload_bytes: u32,
    /// Of the value ([`ValueMeta::fingerprint`]): a record that lacks it is another value's.
    pub fingerprint: u32,
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// A session with this id.
    SessionOpened {
        /// The id.
        session: u64,
    },
    /// Written or deleted, at this slot.
    Written {
        /// The slot.
        version: u64,
    },
    /// A delete met no key.
    NotFound,
    /// The compare-and-set met another version.
    Mismatch {
        /// That version; 0 for "absent".
        current: u64,
    },
    /// No such session: evicted, or never opened. Nothing was done.
    SessionUnknown,
    /// Older than the results kept. Nothing was done now; whether it was done before is not known.
    Stale,
}

impl Applied {
    /// It as a number of its kind and what it names.
    pub(super) const fn numbers(self) -> (u8, u64) {
        match self {
            Self::SessionOpened { session } => (1, session),
            Self::Written { version } => (2, version),
            Self::NotFound => (3, 0),
            Self::Mismatch { current } => (4, current),
            Self::SessionUnknown => (5, 0),
            Self::Stale => (6, 0),
        }
    }
}

/// The end of one slot's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// What the command did.
    pub applied: Applied,
    /// The slot at which it did so: an earlier one for a repeated request.
    pub slot: Slot,
    /// What it replaced or removed.
    pub superseded: Option<Entry>,
    /// The slot's value is a key's current one now: it lives. All else is done with.
    pub is_current: bool,
}

/// Keys, versions and sessions at one slot.
#[derive(Debug, Default)]
pub struct State {
    pub(super) applied: Slot,
    pub(super) keys: BTreeMap<Box<[u8]>, Entry>,
    pub(super) sessions: BTreeMap<u64, Session>,
    /// (last use, session): the order of eviction.
    pub(super) idle: BTreeSet<(Slot, u64)>,
    pub(super) live_bytes: u64,
    pub(super) digest: u64,
    /// Something may have changed since its invariants were checked.
    pub(super) is_unchecked: Cell<bool>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) last_used: Slot,
    /// Every sequence below has no result any more.
    pub(super) floor: u64,
    /// Results kept; the lowest goes first.
    pub(super) window: u32,
    pub(super) results: BTreeMap<u64, (Slot, Applied)>,
}

impl State {
    /// Before the first slot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Executes the command of the next slot; `None` for a no-op and for a configuration, which are
    /// nothing to this state.
    ///
    /// # Errors
    /// [`CommandError`] for a header that is no command: the node cannot go on.
    ///
    /// # Panics
    /// When `value` is not the next slot's.
    pub fn apply(&mut self, value: &ValueMeta) -> Result<Option<Execution>, CommandError> {
        let (slot, header) = (value.slot(), &value.header);
        assert_eq!(slot, self.applied.next(), "slots are applied in order");
        self.applied = slot;
        *self.is_unchecked.get_mut() = true;
        match Content::of(header) {
            Content::NoOp => {
                self.mix(slot, &[], None);
                return Ok(None);
            }
            Content::Configuration => {
                self.mix(slot, header, None);
                return Ok(None);
            }
            Content::Command => {}
        }
        let command = Command::decode(header.clone())?;
        let execution = match &command.operation {
            Operation::OpenSession(bounds) => Execution::of(slot, self.open_session(slot, *bounds)),
            Operation::Put { .. } | Operation::Delete { .. } | Operation::CompareAndSet { .. } => {
                self.apply_once(&command, value)
            }
        };
        self.mix(slot, header, Some(execution.applied));
        Ok(Some(execution))
    }

    fn open_session(&mut self, slot: Slot, bounds: Bounds) -> Applied {
        while self.sessions.len() >= bounds.sessions as usize
            && let Some((_, evicted)) = self.idle.pop_first()
        {
            self.sessions.remove(&evicted);
        }
        let window = bounds.session_window;
        let session = Session { last_used: slot, floor: 0, window, results: BTreeMap::new() };
        self.sessions.insert(slot.0, session);
        self.idle.insert((slot, slot.0));
        Applied::SessionOpened { session: slot.0 }
    }

    fn apply_once(&mut self, command: &Command, value: &ValueMeta) -> Execution {
        let (slot, id) = (value.slot(), command.session);
        let Some(session) = self.sessions.get_mut(&id) else {
            if breaks(Mutant::GuessesEvicted) {
                return self.execute(&command.operation, value);
            }
            return Execution::of(slot, Applied::SessionUnknown);
        };
        self.idle.remove(&(session.last_used, id));
        session.last_used = slot;
        self.idle.insert((slot, id));
        if let Some((slot, applied)) = session.results.get(&command.sequence)
            && !breaks(Mutant::AppliesRepeats)
        {
            return Execution::of(*slot, *applied);
        }
        if let Some((highest, (slot, applied))) = session.results.last_key_value()
            && command.sequence < *highest
            && breaks(Mutant::RemembersHighestOnly)
        {
            return Execution::of(*slot, *applied);
        }
        if command.sequence < session.floor {
            return Execution::of(slot, Applied::Stale);
        }
        let execution = self.execute(&command.operation, value);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.keep(command, slot, execution.applied);
        }
        execution
    }

    fn execute(&mut self, operation: &Operation, value: &ValueMeta) -> Execution {
        let slot = value.slot();
        match operation {
            Operation::OpenSession(_) => Execution::of(slot, Applied::SessionUnknown),
            Operation::Put { key } => self.write(key, value),
            Operation::Delete { key } => match self.keys.remove(key.as_ref()) {
                Some(entry) => {
                    self.live_bytes -= key.len() as u64 + u64::from(entry.payload_bytes);
                    let applied = Applied::Written { version: slot.0 };
                    Execution { superseded: Some(entry), ..Execution::of(slot, applied) }
                }
                None => Execution::of(slot, Applied::NotFound),
            },
            Operation::CompareAndSet { key, expected } => {
                let mut current = self.keys.get(key.as_ref()).map_or(0, |entry| entry.version.0);
                if current > 0 && breaks(Mutant::MistakesVersion) {
                    current += 1;
                }
                if current == *expected {
                    self.write(key, value)
                } else {
                    Execution::of(slot, Applied::Mismatch { current })
                }
            }
        }
    }

    fn write(&mut self, key: &Bytes, value: &ValueMeta) -> Execution {
        let (slot, payload_bytes) = (value.slot(), value.payload_bytes);
        let entry = Entry { version: slot, payload_bytes, fingerprint: value.fingerprint() };
        let mut superseded = None;
        if let Some(place) = self.keys.get_mut(key.as_ref()) {
            self.live_bytes -= u64::from(place.payload_bytes);
            superseded = Some(*place);
            *place = entry;
        } else {
            self.live_bytes += key.len() as u64;
            // A copy: the header is a slice of a whole message and would keep all of it alive.
            self.keys.insert(key.as_ref().into(), entry);
        }
        self.live_bytes += u64::from(payload_bytes);
        let applied = Applied::Written { version: slot.0 };
        Execution { superseded, is_current: true, ..Execution::of(slot, applied) }
    }

    /// Where a request was applied before and what it did, while that is kept.
    #[must_use]
    pub fn result(&self, session: u64, sequence: u64) -> Option<(Slot, Applied)> {
        self.sessions.get(&session)?.results.get(&sequence).copied()
    }

    /// For a mutant alone: what was applied in each session is not known any more.
    pub fn forget_results(&mut self) {
        *self.is_unchecked.get_mut() = true;
        for session in self.sessions.values_mut().filter(|session| !session.results.is_empty()) {
            if breaks(Mutant::ForgetsResults) {
                session.results.clear();
            }
        }
    }

    /// One key.
    #[must_use]
    pub fn entry(&self, key: &[u8]) -> Option<Entry> {
        self.keys.get(key).copied()
    }

    /// Is `value` the current version of the key that it writes?
    #[must_use]
    pub fn is_current(&self, value: &ValueMeta) -> bool {
        self.current_key(value).is_some()
    }

    /// The key whose current version `value` is, if it is one's.
    #[must_use]
    pub fn current_key(&self, value: &ValueMeta) -> Option<Bytes> {
        if value.content() != Content::Command {
            return None;
        }
        let key = match Command::decode(value.header.clone()).ok()?.operation {
            Operation::OpenSession(_) | Operation::Delete { .. } => return None,
            Operation::Put { key } | Operation::CompareAndSet { key, .. } => key,
        };
        let entry = self.entry(&key)?;
        let is_it = entry.version == value.slot() && entry.fingerprint == value.fingerprint();
        is_it.then_some(key)
    }

    /// Keys after `key`, ascending; from the first one when there is none.
    pub fn after(&self, key: Option<&[u8]>) -> impl Iterator<Item = (&[u8], Entry)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<[u8], _>((from, Bound::Unbounded))
            .map(|(key, entry)| (key.as_ref(), *entry))
    }

    /// Keys from `start` on, ascending.
    pub fn range(&self, start: &[u8]) -> impl Iterator<Item = (&[u8], Entry)> {
        self.keys
            .range::<[u8], _>((Bound::Included(start), Bound::Unbounded))
            .map(|(key, entry)| (key.as_ref(), *entry))
    }

    /// The last slot applied.
    #[must_use]
    pub const fn applied(&self) -> Slot {
        self.applied
    }

    /// Keys held.
    #[must_use]
    pub fn key_count(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Sessions held.
    #[must_use]
    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// Bytes of live user data: keys and values.
    #[must_use]
    pub const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// A digest of every slot so far with what it did: equal on nodes that applied the same slots.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    fn mix(&mut self, slot: Slot, header: &[u8], applied: Option<Applied>) {
        let mut hash = Xxh3::with_seed(self.digest);
        hash.update(&slot.0.to_le_bytes());
        hash.update(header);
        if let Some(applied) = applied {
            let (kind, of) = applied.numbers();
            hash.update(&u64::from(kind).to_le_bytes());
            hash.update(&of.to_le_bytes());
        }
        self.digest = hash.digest();
    }

    /// Panics when counters and contents disagree, or a bound is exceeded. Linear in the state; costs
    /// nothing when nothing has changed since the last time.
    pub fn check_invariants(&self) {
        if !self.is_unchecked.replace(false) {
            return;
        }
        let live: u64 = self
            .keys
            .iter()
            .map(|(key, entry)| key.len() as u64 + u64::from(entry.payload_bytes))
            .sum();
        assert_eq!(live, self.live_bytes, "live bytes");
        assert_eq!(self.idle.len(), self.sessions.len(), "idle order");
        for (id, session) in &self.sessions {
            assert!(self.idle.contains(&(session.last_used, *id)), "session {id} is not in order");
            assert!(session.results.len() <= session.window as usize, "window of {id}");
        }
        assert!(self.keys.values().all(|entry| entry.version <= self.applied), "version ahead");
    }
}

impl Execution {
    const fn of(slot: Slot, applied: Applied) -> Self {
        Self { applied, slot, superseded: None, is_current: false }
    }
}

impl Session {
    /// Keeps a result within the window; what the client has seen answered may go.
    fn keep(&mut self, command: &Command, slot: Slot, applied: Applied) {
        self.results.insert(command.sequence, (slot, applied));
        self.floor = self.floor.max(command.answered_below);
        while self.results.len() > self.window as usize
            || self.results.first_key_value().is_some_and(|(first, _)| *first < self.floor)
        {
            if let Some((gone, _)) = self.results.pop_first() {
                self.floor = self.floor.max(gone + 1);
            }
        }
    }
}

/// A digest of a value's bytes, for histories.
#[must_use]
pub fn value_digest(value: &[u8]) -> u64 {
    xxh3_64(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ballot, Code, Digest, Epoch, Reader, ValueId, Writer};

    const OPEN: Operation = Operation::OpenSession(Bounds { sessions: 2, session_window: 2 });

    struct Log {
        state: State,
        slot: u64,
    }

    impl Log {
        fn new() -> Self {
            Self { state: State::new(), slot: 0 }
        }

        fn apply(&mut self, session: u64, sequence: u64, operation: Operation) -> Applied {
            self.slot += 1;
            let command = Command { session, sequence, answered_below: 0, operation };
            let applied = self.state.apply(&value(self.slot, command.encode()));
            self.state.check_invariants();
            applied.unwrap().unwrap().applied
        }
    }

    fn value(slot: u64, header: Bytes) -> ValueMeta {
        let origin = Ballot { round: 1, node: 0 };
        ValueMeta {
            id: ValueId { origin, slot: Slot(slot) },
            epoch: Epoch(0),
            code: Code::new(1, 2).unwrap(),
            payload_bytes: 10,
            digest: Digest(u128::from(slot)),
            header,
        }
    }

    fn put(key: &'static str) -> Operation {
        Operation::Put { key: Bytes::from_static(key.as_bytes()) }
    }

    #[test]
    fn a_repeated_request_is_applied_once() {
        let mut log = Log::new();
        let opened = log.apply(0, 0, OPEN);
        assert_eq!(opened, Applied::SessionOpened { session: 1 });
        assert_eq!(log.apply(1, 1, put("a")), Applied::Written { version: 2 });
        assert_eq!(log.apply(1, 2, put("a")), Applied::Written { version: 3 });
        assert_eq!(log.apply(1, 1, put("a")), Applied::Written { version: 2 });
        assert_eq!(log.state.entry(b"a").unwrap().version, Slot(3));
    }

    #[test]
    fn a_later_request_does_not_stand_for_an_earlier_one() {
        // A no-op took the slot of sequence 1; sequence 2 was applied; 1 comes again.
        let mut log = Log::new();
        log.apply(0, 0, OPEN);
        assert_eq!(log.apply(1, 2, put("b")), Applied::Written { version: 2 });
        assert_eq!(log.apply(1, 1, put("a")), Applied::Written { version: 3 });
    }

    #[test]
    fn results_beyond_the_window_are_stale_not_guessed() {
        let mut log = Log::new();
        log.apply(0, 0, OPEN);
        for sequence in 1..=3 {
            log.apply(1, sequence, put("a"));
        }
        assert_eq!(log.apply(1, 1, put("a")), Applied::Stale);
        assert_eq!(log.state.entry(b"a").unwrap().version, Slot(4));
    }

    #[test]
    fn the_session_idle_longest_goes_first_and_is_refused() {
        let mut log = Log::new();
        log.apply(0, 0, OPEN);
        log.apply(0, 0, OPEN);
        log.apply(1, 1, put("a"));
        log.apply(0, 0, OPEN);
        assert_eq!(log.apply(2, 1, put("a")), Applied::SessionUnknown);
        assert_eq!(log.apply(1, 2, put("a")), Applied::Written { version: 6 });
    }

    #[test]
    fn each_session_says_itself_what_is_kept() {
        // As when a leader with other limits opens it: nothing of it rests on the node's own.
        let mut log = Log::new();
        let open =
            |sessions, session_window| Operation::OpenSession(Bounds { sessions, session_window });
        for _ in 0..3 {
            log.apply(0, 0, open(3, 1));
        }
        log.apply(0, 0, open(2, 2));
        assert_eq!(log.state.session_count(), 2);
        for sequence in 1..=2 {
            log.apply(3, sequence, put("a"));
            log.apply(4, sequence, put("a"));
        }
        assert_eq!(log.apply(3, 1, put("a")), Applied::Stale, "it keeps one result");
        assert_eq!(log.apply(4, 1, put("a")), Applied::Written { version: 6 }, "it keeps two");
        assert_eq!(log.apply(2, 1, put("a")), Applied::SessionUnknown);
    }

    #[test]
    fn compare_and_set_and_delete() {
        let mut log = Log::new();
        log.apply(0, 0, OPEN);
        let cas = |expected| Operation::CompareAndSet { key: Bytes::from_static(b"a"), expected };
        assert_eq!(log.apply(1, 1, cas(0)), Applied::Written { version: 2 });
        assert_eq!(log.apply(1, 2, cas(0)), Applied::Mismatch { current: 2 });
        let delete = Operation::Delete { key: Bytes::from_static(b"a") };
        assert_eq!(log.apply(1, 3, delete.clone()), Applied::Written { version: 4 });
        assert_eq!(log.apply(1, 4, delete), Applied::NotFound);
        assert_eq!((log.state.key_count(), log.state.live_bytes()), (0, 0));
    }

    #[test]
    fn an_image_gives_the_same_state() {
        let mut log = Log::new();
        log.apply(0, 0, OPEN);
        log.apply(0, 0, OPEN);
        log.apply(1, 1, put("a"));
        log.apply(2, 7, put("b"));
        log.apply(2, 8, put("a"));
        log.apply(1, 2, Operation::Delete { key: Bytes::from_static(b"b") });
        let mut to = Writer::new();
        log.state.write_image(&mut to);
        let image: Bytes = to.finish().concat().into();
        for cut in 0..image.len() {
            assert!(State::read_image(&mut Reader::new(image.slice(..cut))).is_err());
        }
        let mut reader = Reader::new(image);
        let mut copy = State::read_image(&mut reader).unwrap();
        reader.finish().unwrap();
        copy.check_invariants();
        assert_eq!(copy.applied(), log.state.applied());
        // What comes later does the same to both, repeats and evictions included.
        let later = [(1, 1, put("a")), (2, 9, put("c")), (0, 0, OPEN)];
        for (session, sequence, operation) in later {
            log.slot += 1;
            let command = Command { session, sequence, answered_below: 0, operation };
            let value = value(log.slot, command.encode());
            assert_eq!(copy.apply(&value).unwrap(), log.state.apply(&value).unwrap());
            copy.check_invariants();
        }
        assert_eq!(copy.digest(), log.state.digest());
        assert!(copy.after(None).eq(log.state.after(None)));
        assert_eq!(copy.live_bytes(), log.state.live_bytes());
    }
}
