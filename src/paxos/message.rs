//! What nodes say to each other, and its encoding.
//!
//! A message starts with [`Envelope::KIND`], the sender and its incarnation. Everything about shards
//! names value ids, codes and digests (rule 10). Shards are slices of what was received; whoever
//! takes one in verifies its digest.

mod parts;
#[cfg(test)]
mod tests;

use crate::config::Configuration;
use crate::types::{
    Ballot, Bytes, DecodeError, Epoch, NodeId, Reader, Shard, ShardSet, Slot, ValueId, ValueMeta,
    Writer,
};

/// A message with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender.
    pub from: NodeId,
    /// The sender's data directory (rule 12).
    pub incarnation: u64,
    /// What it says.
    pub message: Message,
}

/// What one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you promise this ballot? Changes nothing at the receiver.
    PreVote {
        /// The ballot that the sender would use.
        ballot: Ballot,
        /// Tells the answers to this question from those to earlier ones.
        number: u64,
    },
    /// The answer.
    PreVoteReply {
        /// The ballot asked for.
        ballot: Ballot,
        /// Of the question.
        number: u64,
        /// Would it?
        is_granted: bool,
        /// The highest ballot promised.
        promised: Ballot,
    },
    /// Phase 1 for all open slots.
    Prepare {
        /// The candidate's ballot.
        ballot: Ballot,
        /// Tells the pages of repeated answers apart.
        attempt: u64,
        /// The leader of this ballot has given its lease up to the candidate; zero for none.
        released: Ballot,
    },
    /// One page of the answer.
    Promise(Promise),
    /// Phase 2 for some slots.
    Accept {
        /// The leader's ballot.
        ballot: Ballot,
        /// Every slot up to here is chosen; covers what the receiver accepted at `ballot` (rule 10).
        commit: Slot,
        /// The values with the receiver's shards.
        entries: Vec<ShardedValue>,
    },
    /// Durable shards.
    Accepted {
        /// The leader's ballot.
        ballot: Ballot,
        /// The sender has applied up to here: all of it is chosen.
        applied: Slot,
        /// What the sender holds.
        acks: Vec<Ack>,
    },
    /// A higher ballot was promised.
    Nack {
        /// It.
        promised: Ballot,
    },
    /// The leader lives.
    Heartbeat {
        /// Its ballot.
        ballot: Ballot,
        /// Rises with each one.
        sequence: u64,
        /// As in `Accept`.
        commit: Slot,
    },
    /// The leader of `ballot` gives up its lead and its lease: campaign now.
    TakeOver {
        /// Its ballot.
        ballot: Ballot,
    },
    /// The sender has promised nothing above `ballot`, and is bound to its owner for one lease.
    HeartbeatReply {
        /// The leader's ballot.
        ballot: Ballot,
        /// Of the heartbeat.
        sequence: u64,
        /// The sender has applied up to here.
        applied: Slot,
        /// Up to here that, and its shards, are durable.
        durable: Slot,
        /// The sender's disk is nearly full.
        is_low: bool,
    },
    /// Send your shards of these slots, if you have applied them.
    Fetch {
        /// The slots, each with the value id that the sender holds already.
        wants: Vec<Want>,
    },
    /// The answer: chosen values.
    Shards {
        /// The sender has applied up to here.
        applied: Slot,
        /// Slots up to here may be gone at the sender, but for the values that live: whoever misses
        /// one of them needs an index snapshot.
        floor: Slot,
        /// Slots of the request that it cannot answer.
        missing: Vec<Slot>,
        /// The others; no shards where the asker holds that value already.
        entries: Vec<ShardedValue>,
    },
    /// Who are the members now? Asked by a node that hears no leader.
    Probe {
        /// The sender's configuration epoch.
        epoch: Epoch,
        /// The sender has applied up to here.
        applied: Slot,
    },
    /// The answer of a node that is further.
    Members {
        /// The sender has applied up to here: all of it is chosen.
        applied: Slot,
        /// In force after it.
        configuration: Configuration,
        /// The first place that the receiver ever had, in any list up to it: its home of all
        /// values from before it came (rule 4).
        first_place: Option<u8>,
    },
    /// The receiver's id belongs to another data directory (rule 12).
    Refused {
        /// The one that the sender knows.
        incarnation: u64,
    },
    /// Send a part of your index snapshot.
    FetchIndex {
        /// Of this slot; zero for the latest.
        slot: Slot,
        /// The part, from 0.
        part: u32,
    },
    /// The answer: this part, or part 0 of a later snapshot when that one is gone.
    IndexPart {
        /// Of this slot.
        slot: Slot,
        /// The part, from 0.
        part: u32,
        /// How many there are; 0 when there is no snapshot, or it cannot be read.
        parts: u32,
        /// The part's bytes.
        bytes: Bytes,
    },
}

/// A value with some of its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardedValue {
    /// The value.
    pub meta: ValueMeta,
    /// The shards.
    pub shards: Vec<Shard>,
}

/// One acknowledged slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The value, slot included.
    pub id: ValueId,
    /// Its shards that the sender holds durably.
    pub held: ShardSet,
}

/// One slot asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The slot.
    pub slot: Slot,
    /// All shards that the peer holds, not its home shard alone: those of k nodes are a value.
    pub is_all: bool,
    /// Shards of this value need not be sent.
    pub held: Option<ValueId>,
}

/// One page of an acceptor's promise: all it accepted above what it applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The ballot promised.
    pub ballot: Ballot,
    /// Of the `Prepare`.
    pub attempt: u64,
    /// 0, 1, …: a promise counts when all pages are there.
    pub page: u32,
    /// Is it the last page?
    pub is_last: bool,
    /// The sender has applied up to here: all of it is chosen (rule 5).
    pub applied: Slot,
    /// In force after `applied` (rule 11).
    pub configuration: Configuration,
    /// Values, slots ascending.
    pub entries: Vec<PromiseEntry>,
}

/// What an acceptor says of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromiseEntry {
    /// Accepted.
    Accepted {
        /// The ballot of acceptance.
        ballot: Ballot,
        /// The shards that it answers for, whether or not their bytes follow.
        claimed: ShardSet,
        /// The value with the shards whose bytes are intact.
        value: ShardedValue,
    },
    /// Accepted, faulty: it cannot say what (rule 13).
    Faulty {
        /// The slot.
        slot: Slot,
    },
    /// Every slot from here on may be faulty: a damaged record whose slot cannot be read.
    AllFaulty,
}

impl Envelope {
    /// First byte of an encoded message between nodes.
    pub const KIND: u8 = 3;

    /// The message as parts; shards are not copied.
    #[must_use]
    pub fn encode(&self) -> Vec<Bytes> {
        let mut to = Writer::new();
        to.u8(Self::KIND);
        to.u8(self.from.0);
        to.u64(self.incarnation);
        self.message.write(&mut to);
        to.finish()
    }

    /// Reads an encoded message.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`Self::encode`] does not write.
    pub fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(message);
        let kind = from.u8("kind")?;
        if kind != Self::KIND {
            return Err(invalid("kind", kind));
        }
        let sender = from.u8("sender")?;
        if sender >= 32 {
            return Err(invalid("sender", sender));
        }
        let incarnation = from.u64("incarnation")?;
        let message = Message::read(&mut from)?;
        from.finish()?;
        Ok(Self { from: NodeId(sender), incarnation, message })
    }
}

impl Message {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::PreVote { ballot, number } => {
                to.u8(0);
                ballot.write(to);
                to.u64(*number);
            }
            Self::PreVoteReply { ballot, number, is_granted, promised } => {
                to.u8(1);
                ballot.write(to);
                to.u64(*number);
                to.u8(u8::from(*is_granted));
                promised.write(to);
            }
            Self::Prepare { ballot, attempt, released } => {
                to.u8(2);
                ballot.write(to);
                to.u64(*attempt);
                released.write(to);
            }
            Self::Promise(promise) => {
                to.u8(3);
                promise.write(to);
            }
            Self::Accept { ballot, commit, entries } => {
                to.u8(4);
                ballot.write(to);
                to.u64(commit.0);
                write_list(to, entries, ShardedValue::write);
            }
            Self::Accepted { ballot, applied, acks } => {
                to.u8(5);
                ballot.write(to);
                to.u64(applied.0);
                write_list(to, acks, Ack::write);
            }
            Self::Nack { promised } => {
                to.u8(6);
                promised.write(to);
            }
            Self::Heartbeat { ballot, sequence, commit } => {
                to.u8(7);
                ballot.write(to);
                to.u64(*sequence);
                to.u64(commit.0);
            }
            Self::HeartbeatReply { ballot, sequence, applied, durable, is_low } => {
                to.u8(8);
                ballot.write(to);
                to.u64(*sequence);
                to.u64(applied.0);
                to.u64(durable.0);
                to.u8(u8::from(*is_low));
            }
            Self::Fetch { wants } => {
                to.u8(9);
                write_list(to, wants, Want::write);
            }
            Self::TakeOver { ballot } => {
                to.u8(11);
                ballot.write(to);
            }
            Self::Probe { epoch, applied } => {
                to.u8(20);
                to.u64(epoch.0);
                to.u64(applied.0);
            }
            Self::Members { applied, configuration, first_place } => {
                to.u8(21);
                to.u64(applied.0);
                configuration.write(to);
                to.u8(u8::from(first_place.is_some()));
                first_place.iter().for_each(|place| to.u8(*place));
            }
            Self::Refused { incarnation } => {
                to.u8(22);
                to.u64(*incarnation);
            }
            Self::FetchIndex { slot, part } => {
                to.u8(12);
                to.u64(slot.0);
                to.u32(*part);
            }
            Self::IndexPart { slot, part, parts, bytes } => {
                to.u8(13);
                to.u64(slot.0);
                to.u32(*part);
                to.u32(*parts);
                to.payload(bytes);
            }
            Self::Shards { applied, floor, missing, entries } => {
                to.u8(10);
                to.u64(applied.0);
                to.u64(floor.0);
                write_list(to, missing, |slot, to| to.u64(slot.0));
                write_list(to, entries, ShardedValue::write);
            }
        }
    }

    fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match from.u8("message")? {
            0 => Self::PreVote { ballot: Ballot::read(from)?, number: from.u64("number")? },
            1 => Self::PreVoteReply {
                ballot: Ballot::read(from)?,
                number: from.u64("number")?,
                is_granted: read_flag(from, "is_granted")?,
                promised: Ballot::read(from)?,
            },
            2 => Self::Prepare {
                ballot: Ballot::read(from)?,
                attempt: from.u64("attempt")?,
                released: Ballot::read(from)?,
            },
            11 => Self::TakeOver { ballot: Ballot::read(from)? },
            3 => Self::Promise(Promise::read(from)?),
            4 => Self::Accept {
                ballot: Ballot::read(from)?,
                commit: Slot(from.counter("commit")?),
                entries: read_list(from, "entries", VALUE_BYTES_MIN, ShardedValue::read)?,
            },
            5 => Self::Accepted {
                ballot: Ballot::read(from)?,
                applied: Slot(from.counter("applied")?),
                acks: read_list(from, "acks", 21, |from| {
                    Ok(Ack { id: ValueId::read(from)?, held: ShardSet(from.u32("held")?) })
                })?,
            },
            6 => Self::Nack { promised: Ballot::read(from)? },
            7 => Self::Heartbeat {
                ballot: Ballot::read(from)?,
                sequence: from.u64("sequence")?,
                commit: Slot(from.counter("commit")?),
            },
            8 => Self::HeartbeatReply {
                ballot: Ballot::read(from)?,
                sequence: from.u64("sequence")?,
                applied: Slot(from.counter("applied")?),
                durable: Slot(from.counter("durable")?),
                is_low: read_flag(from, "is_low")?,
            },
            9 => Self::Fetch {
                wants: read_list(from, "wants", 10, |from| {
                    let slot = Slot(from.counter("slot")?);
                    let is_all = read_flag(from, "is_all")?;
                    let held = read_flag(from, "held")?.then(|| ValueId::read(from)).transpose()?;
                    Ok(Want { slot, is_all, held })
                })?,
            },
            10 => Self::Shards {
                applied: Slot(from.counter("applied")?),
                floor: Slot(from.counter("floor")?),
                missing: read_list(from, "missing", 8, |from| Ok(Slot(from.counter("slot")?)))?,
                entries: read_list(from, "entries", VALUE_BYTES_MIN, ShardedValue::read)?,
            },
            20 => Self::Probe {
                epoch: Epoch(from.counter("epoch")?),
                applied: Slot(from.counter("applied")?),
            },
            21 => Self::Members {
                applied: Slot(from.counter("applied")?),
                configuration: Configuration::read(from)?,
                first_place: read_place(from)?,
            },
            22 => Self::Refused { incarnation: from.u64("incarnation")? },
            12 => Self::FetchIndex { slot: Slot(from.counter("slot")?), part: from.u32("part")? },
            13 => Self::IndexPart {
                slot: Slot(from.counter("slot")?),
                part: from.u32("part")?,
                parts: from.u32("parts")?,
                bytes: from.bytes("index part")?,
            },
            other => return Err(invalid("message", other)),
        })
    }
}

fn write_list<T>(to: &mut Writer, items: &[T], write: impl Fn(&T, &mut Writer)) {
    to.u32(u32::try_from(items.len()).expect("lists are bounded by windows far below 2^32"));
    for item in items {
        write(item, to);
    }
}

fn read_list<T>(
    from: &mut Reader,
    field: &'static str,
    item_bytes: usize,
    read: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = from.count(field, item_bytes)?;
    let mut items = Vec::with_capacity(count.min(LIST_RESERVED_MAX));
    for _ in 0..count {
        items.push(read(from)?);
    }
    Ok(items)
}

fn read_flag(from: &mut Reader, field: &'static str) -> Result<bool, DecodeError> {
    match from.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(invalid(field, other)),
    }
}

fn read_place(from: &mut Reader) -> Result<Option<u8>, DecodeError> {
    let place = read_flag(from, "place")?.then(|| from.u8("place")).transpose()?;
    place.map_or(Ok(None), |place| match place {
        0..32 => Ok(Some(place)),
        _ => Err(invalid("place", place)),
    })
}

fn invalid(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Invalid { field, value: u64::from(value) }
}

const VALUE_BYTES_MIN: usize = ValueMeta::ENCODED_BYTES_MIN + 4;

/// A hostile count reserves no more than this many items ahead of their bytes.
const LIST_RESERVED_MAX: usize = 1024;
