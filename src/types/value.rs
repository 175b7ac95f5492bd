//! A value as consensus and the log see it: a header replicated in full and a payload in shards.

use super::{Ballot, Bytes, DecodeError, Epoch, Reader, Slot, ValueId, Writer};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// k data shards and m parity shards, 1 <= k, k + m <= 32. Replication is k = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    k: u8,
    m: u8,
}

/// A code that cannot be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodeError {
    /// k is 0 or k + m is above 32.
    #[error("code ({k}, {m}): k must be at least 1 and k + m at most 32")]
    Range {
        /// Data shards asked for.
        k: u8,
        /// Parity shards asked for.
        m: u8,
    },
    /// Not of the form `3+2`.
    #[error("code '{0}': write data and parity shards as K+M, for example 3+2")]
    Syntax(String),
}

impl Code {
    /// The code (k, m).
    ///
    /// # Errors
    /// [`CodeError::Range`] unless 1 <= k and k + m <= 32.
    pub const fn new(k: u8, m: u8) -> Result<Self, CodeError> {
        if k == 0 || k as u32 + m as u32 > 32 {
            return Err(CodeError::Range { k, m });
        }
        Ok(Self { k, m })
    }

    /// Data shards.
    #[must_use]
    pub const fn k(self) -> u8 {
        self.k
    }

    /// Parity shards.
    #[must_use]
    pub const fn m(self) -> u8 {
        self.m
    }

    /// All shards.
    #[must_use]
    pub const fn n(self) -> u8 {
        self.k + self.m
    }

    /// Bytes of one shard of a payload of `payload_bytes`: its k-th part, rounded up, and to an even
    /// number (which one backend needs) unless the shard is the whole payload.
    #[must_use]
    pub const fn shard_bytes(self, payload_bytes: usize) -> usize {
        let part = payload_bytes.div_ceil(self.k as usize);
        if self.k == 1 { part } else { part + (part & 1) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.k, self.m)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        let syntax = || CodeError::Syntax(text.to_owned());
        let (k, m) = text.split_once('+').ok_or_else(syntax)?;
        Self::new(k.trim().parse().map_err(|_| syntax())?, m.trim().parse().map_err(|_| syntax())?)
    }
}

/// XXH3-128 of a payload, or XXH3-64 of a shard in the low half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u128);

impl Digest {
    /// XXH3-128 of a whole payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(payload))
    }
}

/// What a value's header is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: the header is empty.
    NoOp,
    /// A command for the state machine.
    Command,
    /// A configuration epoch (rule 11).
    Configuration,
}

impl Content {
    /// First byte of a command.
    pub const COMMAND: u8 = 1;
    /// First byte of a configuration epoch.
    pub const CONFIGURATION: u8 = 2;

    /// What `header` is. Any other first byte is left to the state machine, which refuses it.
    #[must_use]
    pub fn of(header: &[u8]) -> Self {
        match header.first() {
            None => Self::NoOp,
            Some(&Self::CONFIGURATION) => Self::Configuration,
            Some(_) => Self::Command,
        }
    }
}

/// What every node knows of a value, whichever shards it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMeta {
    /// Its identity, slot included.
    pub id: ValueId,
    /// The configuration epoch it was proposed in.
    pub epoch: Epoch,
    /// The code its shards are of; it never changes.
    pub code: Code,
    /// Length of the payload before coding.
    pub payload_bytes: u32,
    /// Digest of the whole payload.
    pub digest: Digest,
    /// The command without its payload; opaque here. Empty for a no-op.
    pub header: Bytes,
}

impl ValueMeta {
    /// The slot it was proposed for.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        self.id.slot
    }

    /// Is it a no-op: nothing to execute?
    #[must_use]
    pub fn is_no_op(&self) -> bool {
        self.header.is_empty()
    }

    /// Tells this value from another one of the same slot, but for one case in 2^32: enough to see
    /// that a record found on a damaged disk is not the one that was chosen.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut bytes = [0; 25];
        bytes[..8].copy_from_slice(&self.id.origin.round.to_le_bytes());
        bytes[8] = self.id.origin.node;
        bytes[9..].copy_from_slice(&self.digest.0.to_le_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes();
        u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
    }

    /// What its header is.
    #[must_use]
    pub fn content(&self) -> Content {
        Content::of(&self.header)
    }

    /// Its encoding, the same on the wire and on disk.
    pub fn write(&self, to: &mut Writer) {
        self.id.write(to);
        to.u64(self.epoch.0);
        to.u8(self.code.k);
        to.u8(self.code.m);
        to.u32(self.payload_bytes);
        to.u128(self.digest.0);
        to.small(&self.header);
    }

    /// Reads what [`Self::write`] wrote; the header is a slice.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or names a code that cannot be.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let id = ValueId::read(from)?;
        let epoch = Epoch(from.counter("epoch")?);
        let k = from.u8("k")?;
        let m = from.u8("m")?;
        let code = Code::new(k, m)
            .map_err(|_| DecodeError::Invalid { field: "code", value: u64::from(k) })?;
        Ok(Self {
            id,
            epoch,
            code,
            payload_bytes: from.u32("payload_bytes")?,
            digest: Digest(from.u128("digest")?),
            header: from.bytes("header")?,
        })
    }

    /// Fewest bytes that an encoded one takes.
    pub const ENCODED_BYTES_MIN: usize = 17 + 8 + 2 + 4 + 16 + 4;
}

/// One shard with its digest. `bytes` may be a slice of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// 0..n.
    pub index: u8,
    /// XXH3-64 of `bytes`.
    pub digest: u64,
    /// The shard's bytes.
    pub bytes: Bytes,
}

impl Shard {
    /// A shard of `bytes`, digest computed.
    #[must_use]
    pub fn new(index: u8, bytes: Bytes) -> Self {
        Self { index, digest: xxhash_rust::xxh3::xxh3_64(&bytes), bytes }
    }

    /// Its encoding, the same on the wire and on disk; long bytes are not copied.
    pub fn write(&self, to: &mut Writer) {
        to.u8(self.index);
        to.u64(self.digest);
        to.payload(&self.bytes);
    }

    /// Reads what [`Self::write`] wrote. The digest is not verified here.
    ///
    /// # Errors
    /// [`DecodeError`] when it is cut short or its index is 32 or more.
    pub fn read(from: &mut Reader) -> Result<Self, DecodeError> {
        let index = from.u8("shard index")?;
        if index >= 32 {
            return Err(DecodeError::Invalid { field: "shard index", value: u64::from(index) });
        }
        Ok(Self { index, digest: from.u64("shard digest")?, bytes: from.bytes("shard")? })
    }

    /// Fewest bytes that an encoded one takes.
    pub const ENCODED_BYTES_MIN: usize = 1 + 8 + 4;

    /// Do the bytes still match the digest?
    #[must_use]
    pub fn is_intact(&self) -> bool {
        xxhash_rust::xxh3::xxh3_64(&self.bytes) == self.digest
    }
}

/// What a node makes durable. The log gives them back in order at start-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// No ballot below this one will be answered. A candidate's own ballot is one too.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
    },
    /// Shards accepted for a value at a ballot. The same value id again adds to its shards
    /// (union, rule 2) and raises the ballot; another value id of the same slot replaces it.
    Accept {
        /// The ballot of acceptance.
        ballot: Ballot,
        /// The value.
        meta: ValueMeta,
        /// The shards, each intact; empty when the payload is empty or only the ballot rises.
        shards: Vec<Shard>,
    },
    /// Every slot up to and including `slot` is chosen and this node's stored value there is the
    /// chosen one. A hint that spares work at start-up: it needs no sync of its own.
    Chosen {
        /// The last of them.
        slot: Slot,
    },
    /// The incarnation first met under a node id; another one is refused (rule 12).
    Peer {
        /// The peer.
        node: super::NodeId,
        /// What its data directory was named at its creation.
        incarnation: u64,
    },
    /// An index snapshot from another node stands for every slot up to `slot`: what the log holds there
    /// may be what was never chosen. Before its last part, so that no older snapshot counts after it.
    Floor {
        /// The snapshot's.
        slot: Slot,
    },
    /// A part of an index snapshot: keys, versions, sessions and the configuration after `slot`. It
    /// replaces the one before when all its parts are there.
    Index {
        /// Of the last command in it.
        slot: Slot,
        /// This part, from 0; parts are written in order.
        part: u32,
        /// How many there are.
        parts: u32,
        /// The bytes of this part.
        bytes: Bytes,
    },
}
