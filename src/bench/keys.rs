//! Key names as YCSB makes them: `user` and the zero-padded decimal of a hashed or plain number.
//!
//! Source: YCSB's `Utils.fnvhash64` (FNV-1 with its order of steps: xor, then multiply, low octet
//! first, absolute value of the signed result) and `CoreWorkload.buildKeyName`.

use crate::types::Bytes;
use bytes::BytesMut;

/// YCSB's 64-bit FNV of a number, made non-negative as Java's `Math.abs` does (which leaves the
/// lowest number negative).
#[must_use]
pub fn fnv_hash(number: u64) -> i64 {
    let hash = number
        .to_le_bytes()
        .iter()
        .fold(FNV_OFFSET, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(FNV_PRIME));
    hash.cast_signed().wrapping_abs()
}

/// Writes key names, some dozens into one block of memory: none is allocated by itself.
#[derive(Debug)]
pub(super) struct KeyNames {
    is_ordered: bool,
    zero_padding: usize,
    block: BytesMut,
}

impl KeyNames {
    /// Of plain numbers if `is_ordered`, else hashed; with at least `zero_padding` digits.
    pub fn new(is_ordered: bool, zero_padding: usize) -> Self {
        Self { is_ordered, zero_padding, block: BytesMut::with_capacity(BLOCK_BYTES) }
    }

    /// The key name of record `number`.
    pub fn name(&mut self, number: u64) -> Bytes {
        self.block.extend_from_slice(PREFIX);
        if self.is_ordered {
            self.append_number(number, self.zero_padding);
        } else {
            let hash = fnv_hash(number);
            // The sign counts as a digit, in Java as here.
            let is_negative = hash.is_negative();
            self.block.extend_from_slice(if is_negative { b"-" } else { b"" });
            let digits_min = self.zero_padding.saturating_sub(usize::from(is_negative));
            self.append_number(hash.unsigned_abs(), digits_min);
        }
        self.block.split().freeze()
    }

    fn append_number(&mut self, number: u64, digits_min: usize) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        for _ in digits.len()..digits_min {
            self.block.extend_from_slice(b"0");
        }
        self.block.extend_from_slice(digits);
    }
}

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 1_099_511_628_211;
const PREFIX: &[u8] = b"user";
/// A key that is kept keeps its whole block: no more than a usual value takes.
const BLOCK_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_names_match_ycsb() {
        let mut names = KeyNames::new(false, 1);
        assert_eq!(names.name(0), "user6284781860667377211");
        assert_eq!(names.name(1), "user8517097267634966620");
        assert_eq!(names.name(42), "user55488592825689361");
    }

    #[test]
    fn ordered_names_are_padded() {
        assert_eq!(KeyNames::new(true, 1).name(42), "user42");
        assert_eq!(KeyNames::new(true, 8).name(42), "user00000042");
        assert_eq!(KeyNames::new(true, 4).name(123_456_789), "user123456789");
    }

    #[test]
    fn names_are_what_the_standard_formatter_writes() {
        for zero_padding in [0, 1, 19, 20, 30, 3000] {
            let mut names = KeyNames::new(false, zero_padding);
            let mut ordered = KeyNames::new(true, zero_padding);
            // All are held, over many blocks: none is written over.
            let held: Vec<_> =
                (0..500).map(|number| (names.name(number), ordered.name(number))).collect();
            for (number, (hashed, plain)) in held.iter().enumerate() {
                let hash = fnv_hash(number as u64);
                assert_eq!(hashed, &format!("user{hash:0zero_padding$}"));
                assert_eq!(plain, &format!("user{number:0zero_padding$}"));
            }
        }
    }
}
