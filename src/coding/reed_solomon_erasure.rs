//! `reed-solomon-erasure`: GF(2^8), its `simd-accel` feature on. It keeps inverted matrices itself.

use super::coder::ErasureCode;
use crate::types::{Code, ShardSet};
use reed_solomon_erasure::galois_8::ReedSolomon;
use std::fmt;

pub(super) struct Library(ReedSolomon);

impl Library {
    pub(super) fn new(code: Code) -> Self {
        let library = ReedSolomon::new(usize::from(code.k()), usize::from(code.m()))
            .expect("1 <= k, 1 <= m and k + m <= 32 are within the library's range");
        Self(library)
    }
}

impl ErasureCode for Library {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        self.0.encode_sep(data, parity).expect("counts and lengths are those of the code");
    }

    fn recover(&mut self, present: &[Option<&[u8]>], lost: ShardSet, out: &mut [&mut [u8]]) {
        // It wants to own all shards: copies that the other libraries do without.
        let mut shards: Vec<Option<Vec<u8>>> =
            present.iter().map(|shard| shard.map(<[u8]>::to_vec)).collect();
        self.0.reconstruct_data(&mut shards).expect("k shards are present and equally long");
        for (index, place) in lost.iter().zip(out) {
            let shard = shards[usize::from(index)].as_deref();
            place.copy_from_slice(shard.expect("every data shard is reconstructed"));
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reed-solomon-erasure")
    }
}
