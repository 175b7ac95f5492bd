//! The words of DESIGN as types: ids, ballots, slots, values, shards and log records.
//!
//! Nothing here decides anything; invariants that single values must hold are held by constructors.

mod id;
mod pack;
mod read_mode;
mod sets;
mod value;
mod wire;

pub use id::{Ballot, Epoch, NodeId, Slot, ValueId};
pub use pack::{pack, unpack};
pub use read_mode::ReadMode;
pub use sets::{NodeSet, ShardSet};
pub use value::{Code, CodeError, Content, Digest, Record, Shard, ValueMeta};
pub use wire::{COUNTER_END, DecodeError, Reader, Writer};

/// Bytes that are shared and sliced, never copied.
pub use bytes::Bytes;
