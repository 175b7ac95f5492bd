//! What clients and nodes say to each other, and its encoding.
//!
//! A request is (session, sequence): repeated, it is applied once. Encoded messages start with a
//! kind byte of [`Request::KIND`] or [`Response::KIND`]; node-to-node messages use other kinds.

use crate::types::{Ballot, Bytes, DecodeError, NodeId, Reader, Slot, Writer, pack, unpack};
use serde::{Deserialize, Serialize};

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// From [`Outcome::SessionOpened`]; 0 for [`Op::OpenSession`] and what needs none (reads, status).
    pub session: u64,
    /// Rises by one for each request of a session, from 1; names the reply.
    pub sequence: u64,
    /// Every sequence of the session below this one has been answered: its results may go.
    pub answered_below: u64,
    /// What is asked.
    pub op: Op,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens a session; `sequence` is any number that tells the reply apart.
    OpenSession,
    /// Linearizable read of one key.
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
    /// Linearizable read of keys from `start` on, ascending.
    Scan {
        /// The first key that may be returned.
        start: Bytes,
        /// Rows at most.
        limit: u32,
    },
    /// The state of the node asked.
    Status,
    /// A command for the driver of the node asked, outside the state machine.
    Control {
        /// As that driver reads it.
        command: Bytes,
    },
}

/// One answer to a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Of the request.
    pub session: u64,
    /// Of the request.
    pub sequence: u64,
    /// The slot at which it was served: the write's own, or the last one applied before a read.
    pub served_at: Slot,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A session to use.
    SessionOpened {
        /// Its id.
        session: u64,
    },
    /// The key's value.
    Value {
        /// The slot that wrote it.
        version: u64,
        /// The bytes.
        value: Bytes,
    },
    /// The key is absent.
    NotFound,
    /// Written (or deleted: then `version` is the deleting slot).
    Written {
        /// The slot that wrote it.
        version: u64,
    },
    /// The compare-and-set met another version; nothing was written.
    Mismatch {
        /// The version there; 0 for "absent".
        current: u64,
    },
    /// Rows of a scan, keys ascending.
    Rows(Vec<Row>),
    /// The state of the node asked.
    Status(Box<NodeStatus>),
    /// Not done, for this reason.
    Refused(Refusal),
    /// What the node's driver says to a command.
    Controlled {
        /// As its client reads it.
        answer: Bytes,
    },
}

/// One row of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// The slot that wrote it.
    pub version: u64,
    /// The value.
    pub value: Bytes,
}

/// Why a request was not done. None of these has changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Ask the leader, if one is known.
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<u8>,
    },
    /// Too much is waiting: try again later.
    Busy,
    /// The session is unknown or was evicted; whether an earlier try was done is not known.
    SessionUnknown,
    /// The sequence is older than the results kept: whether it was done is not known.
    Stale,
    /// The disk is nearly full: deletes are still taken.
    DiskFull,
    /// The key is longer than the bound, or empty.
    KeyBound,
    /// The value is longer than the bound.
    ValueBound,
    /// Too few shards can be reached.
    Unavailable,
}

/// Role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for promises.
    Candidate,
    /// Proposes.
    Leader,
}

/// A node's account of itself, for `distkv status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node asked.
    pub node: u8,
    /// Its role.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<u8>,
    /// The highest ballot it promised.
    pub ballot: Ballot,
    /// Every slot up to here is known to be chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The last slot with an accepted value.
    pub last: Slot,
    /// Keys it holds.
    pub keys: u64,
    /// Sessions it holds.
    pub sessions: u64,
    /// Bytes of live user data (keys and values).
    pub live_bytes: u64,
    /// Restarts of this data directory.
    pub boot: u64,
    /// What a leader knows of its peers.
    pub peers: Vec<PeerStatus>,
    /// Values rebuilt for reads or catch-up since start.
    pub rebuilt_count: u64,
    /// Datagrams that were no messages since start.
    pub garbage_count: u64,
    /// Free space is below the reserve.
    pub disk_full: bool,
}

/// What a leader knows of one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The peer.
    pub node: u8,
    /// Heard from within the failure timeout.
    pub alive: bool,
    /// The last slot it said it applied.
    pub applied: Slot,
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
            Op::Control { command } => {
                to.u8(KIND_CONTROL);
                to.small(command);
            }
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
            KIND_CONTROL => Op::Control { command: from.bytes("command")? },
            other => return Err(invalid("operation", other)),
        };
        from.finish()?;
        Ok(Self { session, sequence, answered_below, op })
    }
}

impl Response {
    /// First byte of an encoded response.
    pub const KIND: u8 = 2;

    /// The response as message parts; values are not copied.
    #[must_use]
    pub fn encode(&self) -> Vec<Bytes> {
        let mut to = Writer::new();
        to.u8(Self::KIND);
        to.u64(self.session);
        to.u64(self.sequence);
        to.u64(self.served_at.0);
        match &self.outcome {
            Outcome::SessionOpened { session } => {
                to.u8(0);
                to.u64(*session);
            }
            Outcome::Value { version, value } => {
                to.u8(1);
                to.u64(*version);
                to.payload(value);
            }
            Outcome::NotFound => to.u8(2),
            Outcome::Written { version } => {
                to.u8(3);
                to.u64(*version);
            }
            Outcome::Mismatch { current } => {
                to.u8(4);
                to.u64(*current);
            }
            Outcome::Rows(rows) => {
                to.u8(5);
                to.u32(u32::try_from(rows.len()).expect("scan limits are 32 bits"));
                for row in rows {
                    to.small(&row.key);
                    to.u64(row.version);
                    to.payload(&row.value);
                }
            }
            Outcome::Status(status) => {
                to.u8(6);
                to.small(&pack(&**status));
            }
            Outcome::Refused(refusal) => encode_refusal(&mut to, *refusal),
            Outcome::Controlled { answer } => {
                to.u8(KIND_CONTROL);
                to.small(answer);
            }
        }
        to.finish()
    }

    /// Reads an encoded response; values are slices of `message`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Response::encode`] does not write.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(message);
        expect_kind(&mut from, Self::KIND)?;
        let session = from.u64("session")?;
        let sequence = from.u64("sequence")?;
        let served_at = Slot(from.u64("served_at")?);
        let outcome = match from.u8("outcome")? {
            0 => Outcome::SessionOpened { session: from.u64("opened")? },
            1 => Outcome::Value { version: from.u64("version")?, value: from.bytes("value")? },
            2 => Outcome::NotFound,
            3 => Outcome::Written { version: from.u64("version")? },
            4 => Outcome::Mismatch { current: from.u64("current")? },
            5 => Outcome::Rows(decode_rows(&mut from)?),
            6 => {
                let bytes = from.bytes("status")?;
                Outcome::Status(Box::new(unpack(&bytes, "status")?))
            }
            7 => Outcome::Refused(decode_refusal(&mut from)?),
            KIND_CONTROL => Outcome::Controlled { answer: from.bytes("answer")? },
            other => return Err(invalid("outcome", other)),
        };
        from.finish()?;
        Ok(Self { session, sequence, served_at, outcome })
    }
}

fn decode_rows(from: &mut Reader) -> Result<Vec<Row>, DecodeError> {
    let count = from.count("rows", 16)?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        rows.push(Row {
            key: from.bytes("row key")?,
            version: from.u64("row version")?,
            value: from.bytes("row value")?,
        });
    }
    Ok(rows)
}

fn encode_refusal(to: &mut Writer, refusal: Refusal) {
    to.u8(7);
    match refusal {
        Refusal::NotLeader { leader: None } => to.u8(0),
        Refusal::NotLeader { leader: Some(node) } => {
            to.u8(1);
            to.u8(node);
        }
        Refusal::Busy => to.u8(2),
        Refusal::SessionUnknown => to.u8(3),
        Refusal::Stale => to.u8(4),
        Refusal::DiskFull => to.u8(5),
        Refusal::KeyBound => to.u8(6),
        Refusal::ValueBound => to.u8(7),
        Refusal::Unavailable => to.u8(8),
    }
}

fn decode_refusal(from: &mut Reader) -> Result<Refusal, DecodeError> {
    Ok(match from.u8("refusal")? {
        0 => Refusal::NotLeader { leader: None },
        1 => Refusal::NotLeader { leader: Some(from.u8("leader")?) },
        2 => Refusal::Busy,
        3 => Refusal::SessionUnknown,
        4 => Refusal::Stale,
        5 => Refusal::DiskFull,
        6 => Refusal::KeyBound,
        7 => Refusal::ValueBound,
        8 => Refusal::Unavailable,
        other => return Err(invalid("refusal", other)),
    })
}

fn expect_kind(from: &mut Reader, kind: u8) -> Result<(), DecodeError> {
    let found = from.u8("kind")?;
    if found == kind { Ok(()) } else { Err(invalid("kind", found)) }
}

impl Refusal {
    /// The leader that the refusing node named.
    #[must_use]
    pub fn leader(self) -> Option<NodeId> {
        match self {
            Self::NotLeader { leader } => leader.map(NodeId),
            Self::Busy
            | Self::SessionUnknown
            | Self::Stale
            | Self::DiskFull
            | Self::KeyBound
            | Self::ValueBound
            | Self::Unavailable => None,
        }
    }
}

fn invalid(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Invalid { field, value: u64::from(value) }
}

/// Operation and outcome of commands for a driver: apart from those of the store.
const KIND_CONTROL: u8 = 64;

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
            Op::Control { command: Bytes::from_static(b"cut") },
        ] {
            let request = Request { session: 3, sequence: 4, answered_below: 2, op };
            let bytes = joined(request.encode());
            assert_eq!(Request::decode(bytes.clone()), Ok(request));
            for cut in 0..bytes.len() {
                assert!(Request::decode(bytes.slice(..cut)).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn responses_survive_the_wire() {
        let value = Bytes::from(vec![7_u8; 600]);
        let row = Row { key: Bytes::from_static(b"k"), version: 1, value: value.clone() };
        for outcome in [
            Outcome::SessionOpened { session: 1 },
            Outcome::Value { version: 2, value },
            Outcome::NotFound,
            Outcome::Written { version: 5 },
            Outcome::Mismatch { current: 0 },
            Outcome::Rows(vec![row.clone(), row]),
            Outcome::Refused(Refusal::NotLeader { leader: Some(2) }),
            Outcome::Refused(Refusal::Unavailable),
            Outcome::Controlled { answer: Bytes::from_static(b"done") },
        ] {
            let response = Response { session: 1, sequence: 2, served_at: Slot(3), outcome };
            let bytes = joined(response.encode());
            assert_eq!(Response::decode(bytes.clone()), Ok(response));
            for cut in 0..bytes.len() {
                assert!(Response::decode(bytes.slice(..cut)).is_err(), "cut at {cut}");
            }
        }
    }
}
