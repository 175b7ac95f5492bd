//! The one place where bincode is used: rare, small structures that evolve (a node's status, its
//! identity file, a snapshot's header). Hot messages and records are hand-laid, see `wire`.
//!
//! Source: bincode 2.0.1, standard configuration (little-endian, variable-length integers), whose
//! bytes are held by a golden test, since the crate is no longer developed.

use super::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// The bytes of `value`.
#[must_use]
pub fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).expect(
        "writing to memory fails only for types without a known length, which we have none of",
    )
}

/// Reads what [`pack`] wrote; `field` names it in the error. At most 16 MiB are allocated.
///
/// # Errors
/// [`DecodeError`] for bytes that are not a `T`, or that go on after it.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], field: &'static str) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<UNPACKED_BYTES_MAX>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|_| DecodeError::Invalid { field, value: bytes.len() as u64 })?;
    if used == bytes.len() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing { count: bytes.len() - used })
    }
}

/// Bound on what a hostile length can make [`unpack`] allocate.
const UNPACKED_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ballot, Epoch, NodeId, Slot, ValueId};

    #[test]
    fn packed_bytes_never_change() {
        let id = ValueId { origin: Ballot { round: 300, node: 4 }, slot: Slot(7) };
        let value = (NodeId(3), id, Epoch(1), String::from("ab"), vec![1_u32, 70_000]);
        let golden = [3, 251, 44, 1, 4, 7, 1, 2, b'a', b'b', 2, 1, 252, 0x70, 0x11, 1, 0];
        assert_eq!(pack(&value), golden);
        type Packed = (NodeId, ValueId, Epoch, String, Vec<u32>);
        assert_eq!(unpack::<Packed>(&golden, "golden"), Ok(value));
        for cut in 0..golden.len() {
            assert!(unpack::<Packed>(&golden[..cut], "golden").is_err(), "cut at {cut}");
        }
        assert!(unpack::<Packed>(&[golden.as_slice(), &[0]].concat(), "golden").is_err());
    }
}
