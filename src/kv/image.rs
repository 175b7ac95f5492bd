//! A state as bytes, and back: the larger part of an index snapshot.
//!
//! Keys with versions and lengths, sessions with their results; no values. Sorted, so that equal
//! states give equal bytes. Layout: little-endian, each list with its count before it.

use super::state::{Applied, Entry, Session, State};
use crate::types::{DecodeError, Reader, Slot, Writer};
use std::collections::BTreeMap;

impl State {
    /// Adds the state to `to`.
    pub fn write_image(&self, to: &mut Writer) {
        to.u64(self.applied.0);
        to.u64(self.digest);
        to.u32(count(self.keys.len()));
        for (key, entry) in &self.keys {
            to.small(key);
            to.u64(entry.version.0);
            to.u32(entry.payload_bytes);
            to.u32(entry.fingerprint);
        }
        to.u32(count(self.sessions.len()));
        for (id, session) in &self.sessions {
            to.u64(*id);
            to.u64(session.last_used.0);
            to.u64(session.floor);
            to.u32(session.window);
            to.u32(count(session.results.len()));
            for (sequence, (slot, applied)) in &session.results {
                to.u64(*sequence);
                to.u64(slot.0);
                write_applied(to, *applied);
            }
        }
    }

    /// Reads what [`Self::write_image`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or out of order.
    pub fn read_image(from: &mut Reader) -> Result<Self, DecodeError> {
        let mut state = Self::new();
        state.is_unchecked.set(true);
        state.applied = Slot(from.counter("applied")?);
        state.digest = from.u64("state digest")?;
        for _ in 0..from.count("keys", KEY_BYTES_MIN)? {
            let key = from.bytes("key")?;
            let entry = Entry {
                version: Slot(from.counter("version")?),
                payload_bytes: from.u32("payload_bytes")?,
                fingerprint: from.u32("fingerprint")?,
            };
            if entry.version > state.applied {
                return Err(DecodeError::Invalid { field: "version", value: entry.version.0 });
            }
            if state.keys.last_key_value().is_some_and(|(last, _)| **last >= *key) {
                return Err(DecodeError::Invalid { field: "key order", value: key.len() as u64 });
            }
            state.live_bytes += key.len() as u64 + u64::from(entry.payload_bytes);
            state.keys.insert(key.as_ref().into(), entry);
        }
        for _ in 0..from.count("sessions", SESSION_BYTES_MIN)? {
            let id = from.u64("session")?;
            let session = read_session(from)?;
            let is_next = state.sessions.last_key_value().is_none_or(|(last, _)| *last < id);
            if !is_next || !state.idle.insert((session.last_used, id)) {
                return Err(DecodeError::Invalid { field: "session", value: id });
            }
            state.sessions.insert(id, session);
        }
        Ok(state)
    }
}

fn read_session(from: &mut Reader) -> Result<Session, DecodeError> {
    let (last_used, floor) = (Slot(from.counter("last_used")?), from.u64("floor")?);
    let window = from.u32("session_window")?;
    let count = from.count("results", RESULT_BYTES)?;
    if count > window as usize {
        return Err(DecodeError::Invalid { field: "results", value: count as u64 });
    }
    let mut results = BTreeMap::new();
    for _ in 0..count {
        let sequence = from.u64("sequence")?;
        if results.last_key_value().is_some_and(|(last, _)| *last >= sequence) {
            return Err(DecodeError::Invalid { field: "sequence", value: sequence });
        }
        let slot = Slot(from.counter("slot")?);
        results.insert(sequence, (slot, read_applied(from)?));
    }
    Ok(Session { last_used, floor, window, results })
}

fn write_applied(to: &mut Writer, applied: Applied) {
    let (kind, of) = applied.numbers();
    to.u8(kind);
    to.u64(of);
}

fn read_applied(from: &mut Reader) -> Result<Applied, DecodeError> {
    let (kind, of) = (from.u8("applied")?, from.u64("applied")?);
    let applied = match kind {
        1 => Applied::SessionOpened { session: of },
        2 => Applied::Written { version: of },
        3 if of == 0 => Applied::NotFound,
        4 => Applied::Mismatch { current: of },
        5 if of == 0 => Applied::SessionUnknown,
        6 if of == 0 => Applied::Stale,
        other => {
            return Err(DecodeError::Invalid { field: "applied", value: u64::from(other) });
        }
    };
    Ok(applied)
}

fn count(of: usize) -> u32 {
    u32::try_from(of).expect("far fewer keys and sessions than 2^32 fit into memory")
}

const KEY_BYTES_MIN: usize = 4 + 8 + 4 + 4;
const SESSION_BYTES_MIN: usize = 8 + 8 + 8 + 4 + 4;
const RESULT_BYTES: usize = 8 + 8 + 1 + 8;
