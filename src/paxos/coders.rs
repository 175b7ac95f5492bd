//! The coders of a node, one a code, and how long they have worked.

use super::Paxos;
use crate::coding::{Backend, Coder, CodingError};
use crate::types::{Bytes, Code, Shard, ShardSet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reads a clock, in nanoseconds from any origin. It only measures: nothing is decided by it.
pub type Stopwatch = fn() -> u64;

/// Work of the coders since the start; the times are 0 without a stopwatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodingTimes {
    /// Payloads made into all of their shards.
    pub encodes: u64,
    /// Nanoseconds for those.
    pub encode_nanos: u64,
    /// Payloads put together from shards.
    pub decodes: u64,
    /// Nanoseconds for those.
    pub decode_nanos: u64,
}

#[derive(Debug)]
pub(super) struct Coders {
    backend: Backend,
    by_code: BTreeMap<Code, Coder>,
    pub(super) stopwatch: Option<Stopwatch>,
    pub(super) times: CodingTimes,
}

impl Coders {
    pub(super) const fn new(backend: Backend) -> Self {
        let times = CodingTimes { encodes: 0, encode_nanos: 0, decodes: 0, decode_nanos: 0 };
        Self { backend, by_code: BTreeMap::new(), stopwatch: None, times }
    }

    /// All shards of `payload`.
    pub(super) fn encode(&mut self, code: Code, payload: &Bytes) -> Vec<Shard> {
        let began = self.read();
        let shards = self.coder(code).encode(payload);
        self.times.encodes += 1;
        self.times.encode_nanos += self.read().saturating_sub(began);
        shards
    }

    /// The shards `wanted` of `payload`.
    pub(super) fn encode_some(
        &mut self,
        code: Code,
        payload: &Bytes,
        wanted: ShardSet,
    ) -> Vec<Shard> {
        self.coder(code).encode_some(payload, wanted)
    }

    /// The payload of `payload_bytes` bytes that `shards` are of.
    pub(super) fn decode(
        &mut self,
        code: Code,
        payload_bytes: usize,
        shards: &[Shard],
    ) -> Result<Bytes, CodingError> {
        let began = self.read();
        let payload = self.coder(code).decode(payload_bytes, shards);
        self.times.decodes += 1;
        self.times.decode_nanos += self.read().saturating_sub(began);
        payload
    }

    /// One cluster sees few codes.
    fn coder(&mut self, code: Code) -> &mut Coder {
        let backend = self.backend;
        self.by_code.entry(code).or_insert_with(|| Coder::new(backend, code))
    }

    fn read(&self) -> u64 {
        self.stopwatch.map_or(0, |read| read())
    }
}

impl Paxos {
    /// Measures the work of the coders by `stopwatch` from now on.
    pub fn set_stopwatch(&mut self, stopwatch: Stopwatch) {
        self.coders.stopwatch = Some(stopwatch);
    }

    /// Work of the coders.
    #[must_use]
    pub const fn coding_times(&self) -> CodingTimes {
        self.coders.times
    }
}
