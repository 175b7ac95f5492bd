//! `reed-solomon-simd`: GF(2^16) by fast transforms; shards must have an even length.
//!
//! Encoder and decoder are made once and reset for each value: a new one costs more than the work.

use super::coder::ErasureCode;
use crate::types::{Code, ShardSet};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use std::fmt;

pub(super) struct Library {
    k: usize,
    m: usize,
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

impl Library {
    pub(super) fn new(code: Code) -> Self {
        Self { k: usize::from(code.k()), m: usize::from(code.m()), encoder: None, decoder: None }
    }
}

impl ErasureCode for Library {
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        let shard_bytes = data[0].len();
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(self.k, self.m, shard_bytes).expect(FITS);
                encoder
            }
            place @ None => {
                place.insert(ReedSolomonEncoder::new(self.k, self.m, shard_bytes).expect(FITS))
            }
        };
        for shard in data {
            encoder.add_original_shard(shard).expect(FITS);
        }
        let result = encoder.encode().expect(FITS);
        for (row, out) in result.recovery_iter().zip(parity) {
            out.copy_from_slice(row);
        }
    }

    fn recover(&mut self, present: &[Option<&[u8]>], lost: ShardSet, out: &mut [&mut [u8]]) {
        let shard_bytes = out[0].len();
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(self.k, self.m, shard_bytes).expect(FITS);
                decoder
            }
            place @ None => {
                place.insert(ReedSolomonDecoder::new(self.k, self.m, shard_bytes).expect(FITS))
            }
        };
        for (index, shard) in present.iter().enumerate() {
            let Some(shard) = shard else { continue };
            if index < self.k {
                decoder.add_original_shard(index, shard).expect(FITS);
            } else {
                decoder.add_recovery_shard(index - self.k, shard).expect(FITS);
            }
        }
        let result = decoder.decode().expect(FITS);
        for (index, place) in lost.iter().zip(out) {
            let shard = result.restored_original(usize::from(index));
            place.copy_from_slice(shard.expect("every lost data shard is restored"));
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reed-solomon-simd")
    }
}

const FITS: &str = "counts and even lengths are those of a code with k + m <= 32";
