//! What nodes answer to clients, and its encoding.

use super::NodeStatus;
use super::request::{KIND_CONTROL, expect_kind, invalid};
use crate::types::{Bytes, DecodeError, NodeId, Reader, Slot, Writer, pack, unpack};
use serde::{Deserialize, Serialize};

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
    /// Done or under way, nothing more to say.
    Done,
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
    /// Too few shards can be reached, or the node that is to lead.
    Unavailable,
    /// This node has not applied what the client has seen: ask another one.
    Behind,
    /// The configuration asked for is not safe in this cluster.
    Unsafe,
    /// Another change of the members is under way.
    ChangeUnderWay,
    /// The id or the address of the newcomer is or was a member's.
    IdUsed,
    /// The node that is to go is no member.
    NotMember,
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
            Outcome::Done => to.u8(8),
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
        let served_at = Slot(from.counter("served_at")?);
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
            8 => Outcome::Done,
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
        Refusal::Behind => to.u8(9),
        Refusal::Unsafe => to.u8(10),
        Refusal::ChangeUnderWay => to.u8(11),
        Refusal::IdUsed => to.u8(12),
        Refusal::NotMember => to.u8(13),
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
        9 => Refusal::Behind,
        10 => Refusal::Unsafe,
        11 => Refusal::ChangeUnderWay,
        12 => Refusal::IdUsed,
        13 => Refusal::NotMember,
        other => return Err(invalid("refusal", other)),
    })
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
            | Self::Unavailable
            | Self::Behind
            | Self::Unsafe
            | Self::ChangeUnderWay
            | Self::IdUsed
            | Self::NotMember => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: Vec<Bytes>) -> Bytes {
        parts.concat().into()
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
            Outcome::Refused(Refusal::Behind),
            Outcome::Done,
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
