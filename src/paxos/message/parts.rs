//! The encoding of what messages are made of: values with shards, acknowledgements, promises.

use super::{
    Ack, Message, Promise, PromiseEntry, ShardedValue, VALUE_BYTES_MIN, Want, invalid, read_flag,
    read_list, write_list,
};
use crate::config::Configuration;
use crate::types::{Ballot, DecodeError, Reader, Shard, ShardSet, Slot, ValueMeta, Writer};

impl Message {
    /// The entries of an accept in as many messages of about `page_bytes` as they fill, at least one;
    /// any other message as it is.
    #[must_use]
    pub fn paged(self, page_bytes: usize) -> Vec<Self> {
        let Self::Accept { ballot, commit, entries } = self else { return vec![self] };
        let mut pages = vec![Vec::new()];
        let mut bytes = 0;
        for value in entries {
            let value_bytes = value.wire_bytes();
            let is_over = bytes > 0 && bytes + value_bytes > page_bytes;
            bytes = if is_over { value_bytes } else { bytes + value_bytes };
            if is_over {
                pages.push(Vec::new());
            }
            if let Some(page) = pages.last_mut() {
                page.push(value);
            }
        }
        let accept = |entries| Self::Accept { ballot, commit, entries };
        pages.into_iter().map(accept).collect()
    }
}

impl Ack {
    pub(super) fn write(&self, to: &mut Writer) {
        self.id.write(to);
        to.u32(self.held.0);
    }
}

impl Want {
    pub(super) fn write(&self, to: &mut Writer) {
        to.u64(self.slot.0);
        to.u8(u8::from(self.is_all));
        to.u8(u8::from(self.held.is_some()));
        if let Some(id) = self.held {
            id.write(to);
        }
    }
}

impl ShardedValue {
    pub(super) fn write(&self, to: &mut Writer) {
        self.meta.write(to);
        write_list(to, &self.shards, Shard::write);
    }

    pub(super) fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let meta = ValueMeta::read(from)?;
        let shards = read_list(from, "shards", Shard::ENCODED_BYTES_MIN, Shard::read)?;
        Ok(Self { meta, shards })
    }

    /// About how long it is on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        let shards: usize =
            self.shards.iter().map(|s| s.bytes.len() + Shard::ENCODED_BYTES_MIN).sum();
        VALUE_BYTES_MIN + self.meta.header.len() + shards
    }
}

impl Promise {
    pub(super) fn write(&self, to: &mut Writer) {
        self.ballot.write(to);
        to.u64(self.attempt);
        to.u32(self.page);
        to.u8(u8::from(self.is_last));
        to.u64(self.applied.0);
        self.configuration.write(to);
        write_list(to, &self.entries, |entry, to| match entry {
            PromiseEntry::Accepted { ballot, claimed, value } => {
                to.u8(0);
                ballot.write(to);
                to.u32(claimed.0);
                value.write(to);
            }
            PromiseEntry::Faulty { slot } => {
                to.u8(1);
                to.u64(slot.0);
            }
            PromiseEntry::AllFaulty => to.u8(2),
        });
    }

    pub(super) fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            ballot: Ballot::read(from)?,
            attempt: from.u64("attempt")?,
            page: from.u32("page")?,
            is_last: read_flag(from, "is_last")?,
            applied: Slot(from.counter("applied")?),
            configuration: Configuration::read(from)?,
            entries: read_list(from, "promise entries", 1, |from| {
                Ok(match from.u8("promise entry")? {
                    0 => PromiseEntry::Accepted {
                        ballot: Ballot::read(from)?,
                        claimed: ShardSet(from.u32("claimed")?),
                        value: ShardedValue::read(from)?,
                    },
                    1 => PromiseEntry::Faulty { slot: Slot(from.counter("slot")?) },
                    2 => PromiseEntry::AllFaulty,
                    other => return Err(invalid("promise entry", other)),
                })
            })?,
        })
    }
}
