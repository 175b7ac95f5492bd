//! What clients ask of nodes, and its encoding.
//!
//! A request is (session, sequence): repeated, it is applied once. Encoded messages start with a
//! kind byte of [`Request::KIND`] or [`super::Response::KIND`]; node-to-node messages use others.

use super::Admin;
use crate::types::{Bytes, DecodeError, ReadMode, Reader, Slot, Writer, pack, unpack};

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// From [`super::Outcome::SessionOpened`]; 0 for [`Op::OpenSession`] and what needs none (reads,
    /// status).
    pub session: u64,
    /// Rises by one for each request of a session, from 1; names the reply.
    pub sequence: u64,
    /// Every sequence of the session below this one has been answered: its results may go.
    pub answered_below: u64,
    /// How a read is to be answered; of no meaning to anything else.
    pub read: Read,
    /// What is asked.
    pub op: Op,
}

/// How a read is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// The promise.
    pub mode: ReadMode,
    /// `eventual` is refused by a node that has not applied up to here: what the client saw last.
    pub at_least: Slot,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens a session; `sequence` is any number that tells the reply apart.
    OpenSession,
    /// Read of one key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Writes one key.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Removes one key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Writes one key if its version is as expected.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The version it must have; 0 for "absent".
        expected: u64,
        /// The value.
        value: Bytes,
    },
    /// Read of keys from `start` on, ascending.
    Scan {
        /// The first key that may be returned.
        start: Bytes,
        /// Rows at most.
        limit: u32,
    },
    /// The state of the node asked.
    Status,
    /// A change of the cluster.
    Admin(Admin),
    /// A command for the driver of the node asked, outside the state machine.
    Control {
        /// As that driver reads it.
        command: Bytes,
    },
}

impl Request {
    /// First byte of an encoded request.
    pub const KIND: u8 = 1;

    /// The request as message parts; the value is not copied.
    #[must_use]
    pub fn encode(&self) -> Vec<Bytes> {
        let mut to = Writer::new();
        to.u8(Self::KIND);
        to.u64(self.session);
        to.u64(self.sequence);
        to.u64(self.answered_below);
        match &self.op {
            Op::OpenSession => to.u8(0),
            Op::Get { key } => {
                to.u8(1);
                to.small(key);
            }
            Op::Put { key, value } => {
                to.u8(2);
                to.small(key);
                to.payload(value);
            }
            Op::Delete { key } => {
                to.u8(3);
                to.small(key);
            }
            Op::CompareAndSet { key, expected, value } => {
                to.u8(4);
                to.small(key);
                to.u64(*expected);
                to.payload(value);
            }
            Op::Scan { start, limit } => {
                to.u8(5);
                to.small(start);
                to.u32(*limit);
            }
            Op::Status => to.u8(6),
            Op::Admin(admin) => {
                to.u8(7);
                to.small(&pack(admin));
            }
            Op::Control { command } => {
                to.u8(KIND_CONTROL);
                to.small(command);
            }
        }
        if matches!(self.op, Op::Get { .. } | Op::Scan { .. }) {
            let mode = ReadMode::ALL.iter().position(|mode| *mode == self.read.mode);
            to.u8(mode.and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
            to.u64(self.read.at_least.0);
        }
        to.finish()
    }

    /// Reads an encoded request; key and value are slices of `message`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Request::encode`] does not write.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(message);
        expect_kind(&mut from, Self::KIND)?;
        let session = from.u64("session")?;
        let sequence = from.u64("sequence")?;
        let answered_below = from.u64("answered_below")?;
        let op = match from.u8("operation")? {
            0 => Op::OpenSession,
            1 => Op::Get { key: from.bytes("key")? },
            2 => Op::Put { key: from.bytes("key")?, value: from.bytes("value")? },
            3 => Op::Delete { key: from.bytes("key")? },
            4 => Op::CompareAndSet {
                key: from.bytes("key")?,
                expected: from.u64("expected")?,
                value: from.bytes("value")?,
            },
            5 => Op::Scan { start: from.bytes("start")?, limit: from.u32("limit")? },
            6 => Op::Status,
            7 => {
                let bytes = from.bytes("admin")?;
                Op::Admin(unpack(&bytes, "admin")?)
            }
            KIND_CONTROL => Op::Control { command: from.bytes("command")? },
            other => return Err(invalid("operation", other)),
        };
        let read = if matches!(op, Op::Get { .. } | Op::Scan { .. }) {
            let mode = from.u8("read mode")?;
            let known = ReadMode::ALL.get(usize::from(mode));
            let mode = *known.ok_or_else(|| invalid("read mode", mode))?;
            Read { mode, at_least: Slot(from.u64("at_least")?) }
        } else {
            Read::default()
        };
        from.finish()?;
        Ok(Self { session, sequence, answered_below, read, op })
    }
}

pub(super) fn expect_kind(from: &mut Reader, kind: u8) -> Result<(), DecodeError> {
    let found = from.u8("kind")?;
    if found == kind { Ok(()) } else { Err(invalid("kind", found)) }
}

pub(super) fn invalid(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Invalid { field, value: u64::from(value) }
}

/// Operation and outcome of commands for a driver: apart from those of the store.
pub(super) const KIND_CONTROL: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: Vec<Bytes>) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn requests_survive_the_wire() {
        let key = Bytes::from_static(b"key");
        let value = Bytes::from(vec![7_u8; 2000]);
        for op in [
            Op::OpenSession,
            Op::Get { key: key.clone() },
            Op::Put { key: key.clone(), value: value.clone() },
            Op::Delete { key: key.clone() },
            Op::CompareAndSet { key: key.clone(), expected: 9, value },
            Op::Scan { start: key, limit: 7 },
            Op::Status,
            Op::Admin(Admin::Transfer { to: 3 }),
            Op::Control { command: Bytes::from_static(b"cut") },
        ] {
            let is_read = matches!(op, Op::Get { .. } | Op::Scan { .. });
            let read = Read { mode: ReadMode::Eventual, at_least: Slot(9) };
            let read = if is_read { read } else { Read::default() };
            let request = Request { session: 3, sequence: 4, answered_below: 2, read, op };
            let bytes = joined(request.encode());
            assert_eq!(Request::decode(bytes.clone()), Ok(request));
            for cut in 0..bytes.len() {
                assert!(Request::decode(bytes.slice(..cut)).is_err(), "cut at {cut}");
            }
        }
    }
}
