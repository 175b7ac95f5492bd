//! The contents of an index snapshot as bytes, in the log and between nodes.
//!
//! Layout: version, configurations, the slots that an earlier snapshot from a peer stands for, the
//! state, XXH3-64 of all before. The digest finds what changed on the way; whoever sends it is trusted.

use crate::config::Epochs;
use crate::kv::State;
use crate::types::{Bytes, DecodeError, Reader, Slot, Writer};
use xxhash_rust::xxh3::xxh3_64;

/// What an index snapshot says.
#[derive(Debug)]
pub struct IndexImage {
    /// The configurations up to its last slot: members and homes of all values.
    pub epochs: Epochs,
    /// Slots that its writer took from a peer's snapshot and has not looked through yet: after the
    /// first, up to the second. It may lack its shards of values that live there.
    pub skipped: Option<(Slot, Slot)>,
    /// Keys, versions and sessions.
    pub state: State,
}

/// Lays a snapshot out.
#[must_use]
pub fn encode_index(epochs: &Epochs, skipped: Option<(Slot, Slot)>, state: &State) -> Bytes {
    let mut to = Writer::new();
    to.u8(VERSION);
    epochs.write(&mut to);
    to.u8(u8::from(skipped.is_some()));
    if let Some((from, until)) = skipped {
        to.u64(from.0);
        to.u64(until.0);
    }
    state.write_image(&mut to);
    let mut bytes = to.finish().concat();
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes.into()
}

impl IndexImage {
    /// Reads what [`encode_index`] laid out.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let Some(end) = bytes.len().checked_sub(DIGEST_BYTES) else {
            return Err(DecodeError::Truncated { field: "index snapshot" });
        };
        if bytes[end..] != xxh3_64(&bytes[..end]).to_le_bytes() {
            return Err(DecodeError::Invalid { field: "index digest", value: end as u64 });
        }
        let mut from = Reader::new(bytes.slice(..end));
        let version = from.u8("index version")?;
        if version != VERSION {
            let value = u64::from(version);
            return Err(DecodeError::Invalid { field: "index version", value });
        }
        let epochs = Epochs::read(&mut from)?;
        let skipped = match from.u8("skipped")? {
            0 => None,
            1 => Some((Slot(from.counter("skipped from")?), Slot(from.counter("skipped to")?))),
            other => {
                return Err(DecodeError::Invalid { field: "skipped", value: u64::from(other) });
            }
        };
        let state = State::read_image(&mut from)?;
        from.finish()?;
        Ok(Self { epochs, skipped, state })
    }
}

/// Of the layout.
const VERSION: u8 = 2;
const DIGEST_BYTES: usize = 8;
