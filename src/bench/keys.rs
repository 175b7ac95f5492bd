//! Key names as YCSB makes them: `user` and the zero-padded decimal of a hashed or plain number.
//!
//! Source: YCSB's `Utils.fnvhash64` (FNV-1 with its order of steps: xor, then multiply, low octet
//! first, absolute value of the signed result) and `CoreWorkload.buildKeyName`.

use crate::types::Bytes;
use std::io::Write as _;

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

/// The key name of record `number`: hashed unless `is_ordered`, at least `zero_padding` digits.
#[must_use]
pub fn key_name(number: u64, is_ordered: bool, zero_padding: usize) -> Bytes {
    let mut name = Vec::with_capacity(PREFIX.len() + MAX_DIGITS.max(zero_padding));
    name.extend_from_slice(PREFIX);
    let digits_from = name.len();
    // Writing to a Vec cannot fail.
    let written = if is_ordered {
        write!(name, "{number:0zero_padding$}")
    } else {
        write!(name, "{:0zero_padding$}", fnv_hash(number))
    };
    assert!(written.is_ok() && name.len() > digits_from, "a key name has digits");
    Bytes::from(name)
}

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 1_099_511_628_211;
const PREFIX: &[u8] = b"user";
const MAX_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_names_match_ycsb() {
        assert_eq!(key_name(0, false, 1), "user6284781860667377211");
        assert_eq!(key_name(1, false, 1), "user8517097267634966620");
        assert_eq!(key_name(42, false, 1), "user55488592825689361");
    }

    #[test]
    fn ordered_names_are_padded() {
        assert_eq!(key_name(42, true, 1), "user42");
        assert_eq!(key_name(42, true, 8), "user00000042");
        assert_eq!(key_name(123_456_789, true, 4), "user123456789");
    }
}
