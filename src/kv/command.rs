//! A command as it stands in the log: the header of a value. The payload rests beside it in shards.

use crate::types::{Bytes, Content, DecodeError, Reader, Writer};
use thiserror::Error;

/// One command of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The session; 0 for [`Operation::OpenSession`].
    pub session: u64,
    /// Its number within the session.
    pub sequence: u64,
    /// Results of the session below this one may go.
    pub answered_below: u64,
    /// What to do.
    pub operation: Operation,
}

/// What is kept of sessions at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Sessions; the one idle longest goes first.
    pub sessions: u32,
    /// Results of the session; the lowest goes first.
    pub session_window: u32,
}

/// What a command does. Values are the payload, not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens a session whose id is the slot. Others go until with it there are as many as may be.
    OpenSession(Bounds),
    /// Writes a key.
    Put {
        /// The key.
        key: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Writes a key if its version is as expected.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// 0 for "absent".
        expected: u64,
    },
}

/// A header in the log that is no command.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("a command in the log cannot be read ({0}); the data is of another version of distkv")]
pub struct CommandError(#[from] DecodeError);

impl Command {
    /// The command as a header.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = Writer::new();
        to.u8(Content::COMMAND);
        to.u64(self.session);
        to.u64(self.sequence);
        to.u64(self.answered_below);
        match &self.operation {
            Operation::OpenSession(bounds) => {
                to.u8(0);
                to.u32(bounds.sessions);
                to.u32(bounds.session_window);
            }
            Operation::Put { key } => {
                to.u8(1);
                to.small(key);
            }
            Operation::Delete { key } => {
                to.u8(2);
                to.small(key);
            }
            Operation::CompareAndSet { key, expected } => {
                to.u8(3);
                to.small(key);
                to.u64(*expected);
            }
        }
        // Keys are copied, so there is one part.
        to.finish().pop().unwrap_or_default()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`CommandError`] for anything that [`Self::encode`] does not write.
    pub fn decode(header: Bytes) -> Result<Self, CommandError> {
        let mut from = Reader::new(header);
        let content = from.u8("content")?;
        if content != Content::COMMAND {
            let value = u64::from(content);
            return Err(DecodeError::Invalid { field: "content", value }.into());
        }
        let session = from.u64("session")?;
        let sequence = from.u64("sequence")?;
        let answered_below = from.u64("answered_below")?;
        let operation = match from.u8("operation")? {
            0 => Operation::OpenSession(Bounds {
                sessions: positive("sessions", from.u32("sessions")?)?,
                session_window: positive("session_window", from.u32("session_window")?)?,
            }),
            1 => Operation::Put { key: from.bytes("key")? },
            2 => Operation::Delete { key: from.bytes("key")? },
            3 => Operation::CompareAndSet {
                key: from.bytes("key")?,
                expected: from.u64("expected")?,
            },
            other => {
                let value = u64::from(other);
                return Err(DecodeError::Invalid { field: "operation", value }.into());
            }
        };
        from.finish()?;
        Ok(Self { session, sequence, answered_below, operation })
    }
}

fn positive(field: &'static str, value: u32) -> Result<u32, DecodeError> {
    if value > 0 { Ok(value) } else { Err(DecodeError::Invalid { field, value: 0 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_log() {
        let key = Bytes::from_static(b"k");
        for operation in [
            Operation::OpenSession(Bounds { sessions: 9, session_window: 4 }),
            Operation::Put { key: key.clone() },
            Operation::Delete { key: key.clone() },
            Operation::CompareAndSet { key, expected: 7 },
        ] {
            let command = Command { session: 1, sequence: 2, answered_below: 1, operation };
            let header = command.encode();
            assert_eq!(Command::decode(header.clone()), Ok(command));
            for cut in 0..header.len() {
                assert!(Command::decode(header.slice(..cut)).is_err(), "cut at {cut}");
            }
        }
    }
}
