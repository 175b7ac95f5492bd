//! Payload to shards and back: cutting, padding, checking; the arithmetic is a backend's.

use super::Backend;
use crate::types::{Bytes, Code, Shard, ShardSet};
use std::fmt::Debug;
use thiserror::Error;

/// The arithmetic of one code, over equally long slices of an even length.
pub trait ErasureCode: Debug + Send {
    /// Fills `parity`: m buffers from k data slices, in index order.
    fn encode(&mut self, data: &[&[u8]], parity: &mut [&mut [u8]]);

    /// Fills `out` with the data shards `lost` (ascending), from exactly k of `present`, which is n
    /// long in index order.
    fn recover(&mut self, present: &[Option<&[u8]>], lost: ShardSet, out: &mut [&mut [u8]]);
}

/// Shards that do not give a payload.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodingError {
    /// Fewer than k.
    #[error("{got} shards of {code} are not enough: any {} rebuild the payload", code.k())]
    TooFew {
        /// The code.
        code: Code,
        /// Shards given.
        got: usize,
    },
    /// An index given twice.
    #[error("shard {index} is given twice")]
    Duplicate {
        /// The index.
        index: u8,
    },
    /// An index that the code does not have.
    #[error("shard {index} is not one of {code}: indexes are below {}", code.n())]
    Index {
        /// The code.
        code: Code,
        /// The index.
        index: u8,
    },
    /// A shard that is too long or too short.
    #[error("shard {index} has {got} B, a payload of {payload_bytes} B has shards of {expected} B")]
    Length {
        /// The index.
        index: u8,
        /// Its bytes.
        got: usize,
        /// What it should have.
        expected: usize,
        /// The payload's length.
        payload_bytes: usize,
    },
}

/// One code of one backend, with its tables and plans kept for the next value.
#[derive(Debug)]
pub struct Coder {
    code: Code,
    /// `None` when there is nothing to calculate: k = 1, or m = 0.
    library: Option<Box<dyn ErasureCode>>,
}

impl Coder {
    /// The code `code`, calculated by `backend`.
    #[must_use]
    pub fn new(backend: Backend, code: Code) -> Self {
        let is_trivial = code.k() == 1 || code.m() == 0;
        Self { code, library: (!is_trivial).then(|| backend.open(code)) }
    }

    /// The code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// All n shards, indexes ascending. Data shards are slices of `payload`, but for the last.
    pub fn encode(&mut self, payload: &Bytes) -> Vec<Shard> {
        self.encode_some(payload, ShardSet::first(u32::from(self.code.n())))
    }

    /// The shards `wanted`, indexes ascending.
    pub fn encode_some(&mut self, payload: &Bytes, wanted: ShardSet) -> Vec<Shard> {
        let (k, n) = (self.code.k(), self.code.n());
        let wanted = wanted.intersection(ShardSet::first(u32::from(n)));
        if k == 1 {
            let whole = Shard::new(0, payload.clone());
            return wanted.iter().map(|index| Shard { index, ..whole.clone() }).collect();
        }
        let shard_bytes = self.code.shard_bytes(payload.len());
        let data: Vec<Bytes> =
            (0..usize::from(k)).map(|index| slice(payload, index, shard_bytes)).collect();
        let parity = if wanted.0 >> k == 0 { Vec::new() } else { self.parity(&data, shard_bytes) };
        wanted
            .iter()
            .map(|index| {
                let at = usize::from(index);
                let bytes = data.get(at).or_else(|| parity.get(at - usize::from(k)));
                Shard::new(index, bytes.cloned().unwrap_or_default())
            })
            .collect()
    }

    fn parity(&mut self, data: &[Bytes], shard_bytes: usize) -> Vec<Bytes> {
        let m = usize::from(self.code.m());
        if shard_bytes == 0 {
            return vec![Bytes::new(); m];
        }
        let Some(library) = &mut self.library else { return Vec::new() };
        let data: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
        // A buffer for each: a shard that is kept must not keep the others alive.
        let mut parity = vec![vec![0; shard_bytes]; m];
        let mut rows: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        library.encode(&data, &mut rows);
        parity.into_iter().map(Bytes::from).collect()
    }

    /// The payload of `payload_bytes` from any k distinct shards, in any order; more are ignored.
    /// Digests are not looked at: pass intact shards.
    ///
    /// # Errors
    /// [`CodingError`].
    pub fn decode(&mut self, payload_bytes: usize, shards: &[Shard]) -> Result<Bytes, CodingError> {
        let present = self.present(payload_bytes, shards)?;
        let k = usize::from(self.code.k());
        if k == 1 {
            let whole = shards.first().map(|shard| shard.bytes.clone());
            return Ok(whole.unwrap_or_default());
        }
        let shard_bytes = self.code.shard_bytes(payload_bytes);
        let mut payload = vec![0; shard_bytes * k];
        if shard_bytes > 0 {
            let mut lost = ShardSet::EMPTY;
            let mut out = Vec::new();
            let places = payload.chunks_exact_mut(shard_bytes);
            for ((index, place), held) in (0_u8..).zip(places).zip(&present) {
                match held {
                    Some(bytes) => place.copy_from_slice(bytes),
                    None => {
                        lost.insert(index);
                        out.push(place);
                    }
                }
            }
            if let (false, Some(library)) = (lost.is_empty(), &mut self.library) {
                library.recover(&present, lost, &mut out);
            }
        }
        payload.truncate(payload_bytes);
        Ok(payload.into())
    }

    /// The shards `wanted`, from any k distinct ones.
    ///
    /// # Errors
    /// [`CodingError`].
    pub fn rebuild(
        &mut self,
        payload_bytes: usize,
        shards: &[Shard],
        wanted: ShardSet,
    ) -> Result<Vec<Shard>, CodingError> {
        let payload = self.decode(payload_bytes, shards)?;
        Ok(self.encode_some(&payload, wanted))
    }

    /// The first k of the shards, by index, once they are found to fit.
    fn present<'a>(
        &self,
        payload_bytes: usize,
        shards: &'a [Shard],
    ) -> Result<Vec<Option<&'a [u8]>>, CodingError> {
        let code = self.code;
        let expected = code.shard_bytes(payload_bytes);
        let mut present = vec![None; usize::from(code.n())];
        let mut seen = ShardSet::EMPTY;
        for shard in shards {
            let index = shard.index;
            if index >= code.n() {
                return Err(CodingError::Index { code, index });
            }
            if seen.contains(index) {
                return Err(CodingError::Duplicate { index });
            }
            let got = shard.bytes.len();
            if got != expected {
                return Err(CodingError::Length { index, got, expected, payload_bytes });
            }
            if seen.count() < u32::from(code.k()) {
                present[usize::from(index)] = Some(shard.bytes.as_ref());
            }
            seen.insert(index);
        }
        if seen.count() < u32::from(code.k()) {
            return Err(CodingError::TooFew { code, got: shards.len() });
        }
        Ok(present)
    }
}

/// Data shard `index`: a slice where the payload reaches that far, else a copy with zeros behind.
fn slice(payload: &Bytes, index: usize, shard_bytes: usize) -> Bytes {
    let start = (index * shard_bytes).min(payload.len());
    let end = (start + shard_bytes).min(payload.len());
    if end - start == shard_bytes {
        return payload.slice(start..end);
    }
    let mut padded = vec![0; shard_bytes];
    padded[..end - start].copy_from_slice(&payload[start..end]);
    padded.into()
}
