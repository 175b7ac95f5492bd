//! Erasure codes: one interface, three libraries behind it as values.
//!
//! A [`Coder`] cuts a payload into k data shards, slices of it where the length allows, adds m parity
//! shards, and rebuilds the payload from any k of the n. It does not verify shards' digests: whoever
//! takes a shard in does. Shards of different codes or backends never mix: parity bytes differ, so
//! the backend is part of a cluster's configuration and the code part of every value.
//!
//! Invariants: shards of one value are equally long, `Code::shard_bytes(payload)`; what is missing at
//! the end of the payload counts as zeros; k = 1 is replication, without arithmetic.

mod backend;
mod coder;
mod reed_solomon_erasure;
mod reed_solomon_simd;
mod rusty_erasure;
#[cfg(test)]
mod tests;

pub use backend::{Backend, BackendError};
pub use coder::{Coder, CodingError, ErasureCode};
