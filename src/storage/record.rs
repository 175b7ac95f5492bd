//! The one record format of the log, hand-laid, little-endian, aligned to 8 bytes.
//!
//! prefix (32 bytes): checksum of the prefix, checksum of the head, length of the head, length of
//! the body, slot, `synced` (up to where this segment was durable when the record was written),
//! kind, mark. Then the head (ballot, value, list of shards with their digests), then the body (the
//! shards' bytes), then zeroes. Both checksums are CRC-32C; the prefix's is mixed with the record's
//! place (cluster, node, incarnation, segment, offset), so that a stale or misdirected record does
//! not pass. The body is covered by the shards' own digests, which are computed once per life of a
//! shard. The slot stands in the prefix so that a damaged head still says which slot is faulty.

use crate::types::{
    Ballot, Bytes, COUNTER_END, Code, DecodeError, Digest, Epoch, NodeId, Reader, Record, Shard,
    ShardSet, Slot, ValueId, ValueMeta,
};
use bytes::{BufMut as _, BytesMut};
use std::collections::BTreeMap;

/// Names what a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// [`Snapshot`]: opens each segment and follows each promise.
    Snapshot = 1,
    Promise = 2,
    Accept = 3,
    Chosen = 4,
    Peer = 5,
    /// Keeps two copies apart.
    Filler = 6,
    /// A part of an index snapshot.
    Index = 7,
    /// Slots up to here are settled by an index snapshot that another node made.
    Floor = 8,
}

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Snapshot,
            2 => Self::Promise,
            3 => Self::Accept,
            4 => Self::Chosen,
            5 => Self::Peer,
            6 => Self::Filler,
            7 => Self::Index,
            8 => Self::Floor,
            _ => return None,
        })
    }
}

/// A record's fixed start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub kind: Kind,
    pub slot: Slot,
    pub head_bytes: u32,
    pub body_bytes: u32,
    pub synced: u32,
    head_checksum: u32,
}

impl Prefix {
    /// Length of the whole record with its padding.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.head_bytes), u64::from(self.body_bytes))
    }

    /// Reads a prefix; `None` when it is none, or one of another place.
    pub(super) fn decode(bytes: &[u8], place_checksum: u32) -> Option<Self> {
        let bytes: &[u8; PREFIX_BYTES] = bytes.first_chunk()?;
        if bytes[29..] != MARK {
            return None;
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if word(0) != crc_fast::crc32_iscsi(&bytes[4..]) ^ place_checksum {
            return None;
        }
        let slot = u64::from(word(16)) | u64::from(word(20)) << 32;
        Some(Self {
            kind: Kind::of(bytes[28])?,
            slot: (slot < COUNTER_END).then_some(Slot(slot))?,
            head_bytes: word(8),
            body_bytes: word(12),
            synced: word(24),
            head_checksum: word(4),
        })
    }

    /// Could a prefix stand here? Spares checksums.
    pub(super) fn is_marked(bytes: &[u8]) -> bool {
        bytes.get(29..PREFIX_BYTES) == Some(MARK.as_slice())
    }

    /// Is `head` the one this prefix was written with?
    pub(super) fn matches(&self, head: &[u8]) -> bool {
        crc_fast::crc32_iscsi(head) == self.head_checksum
    }
}

/// Length of a record with its padding.
pub(super) const fn record_bytes(head_bytes: u64, body_bytes: u64) -> u64 {
    (PREFIX_BYTES as u64 + head_bytes + body_bytes).next_multiple_of(ALIGN_BYTES as u64)
}

/// Binds checksums to one data directory and a place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    seed: u32,
}

impl Binding {
    pub(super) fn new(cluster: u64, node: NodeId, incarnation: u64) -> Self {
        let mut bytes = Vec::with_capacity(17);
        bytes.extend_from_slice(&cluster.to_le_bytes());
        bytes.push(node.0);
        bytes.extend_from_slice(&incarnation.to_le_bytes());
        Self { seed: crc_fast::crc32_iscsi(&bytes) }
    }

    /// What a prefix at this place is mixed with.
    pub(super) fn place(self, segment: u32, offset: u32) -> u32 {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.seed.to_le_bytes());
        bytes[4..8].copy_from_slice(&segment.to_le_bytes());
        bytes[8..].copy_from_slice(&offset.to_le_bytes());
        crc_fast::crc32_iscsi(&bytes)
    }
}

/// All that a log must still know when its older segments are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub promised: Ballot,
    pub chosen: Slot,
    /// Records of slots up to here may be gone: an index snapshot covers them.
    pub floor: Slot,
    pub peers: BTreeMap<NodeId, u64>,
    /// Earlier segments that are needed, with the ends of their records. Empty in copies that do
    /// not open a segment.
    pub segments: BTreeMap<u32, u32>,
}

/// The head of a part of an index snapshot; its bytes are the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexHead {
    pub slot: Slot,
    pub part: u32,
    pub parts: u32,
    /// XXH3-64 of the body.
    pub digest: u64,
}

/// The list of one record's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShardInfo {
    pub index: u8,
    pub digest: u64,
    pub bytes: u32,
}

/// The head of an accept record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AcceptHead {
    pub ballot: Ballot,
    pub meta: ValueMeta,
    pub shards: Vec<ShardInfo>,
}

impl AcceptHead {
    pub(super) fn shard_set(&self) -> ShardSet {
        self.shards.iter().map(|shard| shard.index).collect()
    }

    /// Cuts `body` into shards; those whose digest fails are only named.
    pub(super) fn cut(&self, body: &Bytes) -> (Vec<Shard>, ShardSet) {
        let (mut intact, mut damaged) = (Vec::with_capacity(self.shards.len()), ShardSet::EMPTY);
        let mut at = 0;
        for info in &self.shards {
            let end = at + info.bytes as usize;
            let shard = (end <= body.len()).then(|| Shard {
                index: info.index,
                digest: info.digest,
                bytes: body.slice(at..end),
            });
            match shard {
                Some(shard) if shard.is_intact() => intact.push(shard),
                Some(_) | None => damaged.insert(info.index),
            }
            at = end;
        }
        (intact, damaged)
    }
}

/// What a record says, once its checksums match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Snapshot(Snapshot),
    Promise(Ballot),
    Accept(AcceptHead),
    Chosen(Slot),
    Peer(NodeId, u64),
    Filler,
    Index(IndexHead),
    Floor(Slot),
}

/// Reads the head that belongs to `prefix`.
pub(super) fn decode_head(prefix: &Prefix, head: Bytes) -> Result<Said, DecodeError> {
    let mut reader = Reader::new(head);
    let said = match prefix.kind {
        Kind::Snapshot => Said::Snapshot(read_snapshot(&mut reader)?),
        Kind::Promise => Said::Promise(read_ballot(&mut reader)?),
        Kind::Accept => Said::Accept(read_accept(&mut reader, prefix.slot)?),
        Kind::Chosen => Said::Chosen(prefix.slot),
        Kind::Floor => Said::Floor(prefix.slot),
        Kind::Peer => Said::Peer(NodeId(reader.u8("peer")?), reader.u64("incarnation")?),
        Kind::Filler => Said::Filler,
        Kind::Index => Said::Index(IndexHead {
            slot: prefix.slot,
            part: reader.u32("part")?,
            parts: reader.u32("parts")?,
            digest: reader.u64("digest")?,
        }),
    };
    reader.finish()?;
    Ok(said)
}

fn read_ballot(reader: &mut Reader) -> Result<Ballot, DecodeError> {
    Ok(Ballot { round: reader.counter("round")?, node: reader.u8("ballot node")? })
}

fn read_snapshot(reader: &mut Reader) -> Result<Snapshot, DecodeError> {
    let mut snapshot = Snapshot {
        promised: read_ballot(reader)?,
        chosen: Slot(reader.counter("chosen")?),
        floor: Slot(reader.counter("floor")?),
        ..Snapshot::default()
    };
    for _ in 0..reader.count("peers", 9)? {
        snapshot.peers.insert(NodeId(reader.u8("peer")?), reader.u64("incarnation")?);
    }
    for _ in 0..reader.count("segments", 8)? {
        snapshot.segments.insert(reader.u32("segment")?, reader.u32("segment end")?);
    }
    Ok(snapshot)
}

fn read_accept(reader: &mut Reader, slot: Slot) -> Result<AcceptHead, DecodeError> {
    let ballot = read_ballot(reader)?;
    let id = ValueId { origin: read_ballot(reader)?, slot };
    let epoch = Epoch(reader.counter("epoch")?);
    let (k, m) = (reader.u8("k")?, reader.u8("m")?);
    let code = Code::new(k, m).map_err(|_| DecodeError::Invalid {
        field: "code",
        value: u64::from(k) << 8 | u64::from(m),
    })?;
    let payload_bytes = reader.u32("payload length")?;
    let digest = Digest(reader.u128("digest")?);
    // Copied: a slice would keep the whole read buffer alive.
    let header = Bytes::copy_from_slice(&reader.bytes("header")?);
    let mut shards = Vec::new();
    for _ in 0..reader.count("shards", 13)? {
        let index = reader.u8("shard index")?;
        if index >= 32 {
            return Err(DecodeError::Invalid { field: "shard index", value: u64::from(index) });
        }
        shards.push(ShardInfo {
            index,
            digest: reader.u64("digest")?,
            bytes: reader.u32("bytes")?,
        });
    }
    let meta = ValueMeta { id, epoch, code, payload_bytes, digest, header };
    Ok(AcceptHead { ballot, meta, shards })
}

/// A record ready to be placed: its head is laid out, its body is by reference.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub kind: Kind,
    pub slot: Slot,
    pub head: BytesMut,
    pub body: Vec<Bytes>,
    pub body_bytes: u64,
}

impl Laid {
    pub(super) fn new(record: &Record) -> Self {
        let mut head = BytesMut::with_capacity(160);
        let (mut body, mut body_bytes) = (Vec::new(), 0);
        let (kind, slot) = match record {
            Record::Promise { ballot } => {
                put_ballot(&mut head, *ballot);
                (Kind::Promise, Slot::ZERO)
            }
            Record::Accept { ballot, meta, shards } => {
                put_accept(&mut head, *ballot, meta, shards);
                body.extend(shards.iter().map(|shard| shard.bytes.clone()));
                body_bytes = shards.iter().map(|shard| shard.bytes.len() as u64).sum();
                (Kind::Accept, meta.slot())
            }
            Record::Chosen { slot } => (Kind::Chosen, *slot),
            Record::Floor { slot } => (Kind::Floor, *slot),
            Record::Peer { node, incarnation } => {
                head.put_u8(node.0);
                head.put_u64_le(*incarnation);
                (Kind::Peer, Slot::ZERO)
            }
            Record::Index { slot, part, parts, bytes } => {
                head.put_u32_le(*part);
                head.put_u32_le(*parts);
                head.put_u64_le(xxhash_rust::xxh3::xxh3_64(bytes));
                body_bytes = bytes.len() as u64;
                body.push(bytes.clone());
                (Kind::Index, *slot)
            }
        };
        Self { kind, slot, head, body, body_bytes }
    }

    /// `is_opening`: it opens a segment, so that its list of segments counts.
    pub(super) fn snapshot(snapshot: &Snapshot, is_opening: bool) -> Self {
        let mut head = BytesMut::with_capacity(64 + 8 * snapshot.segments.len());
        put_ballot(&mut head, snapshot.promised);
        head.put_u64_le(snapshot.chosen.0);
        head.put_u64_le(snapshot.floor.0);
        head.put_u32_le(count(snapshot.peers.len()));
        for (peer, incarnation) in &snapshot.peers {
            head.put_u8(peer.0);
            head.put_u64_le(*incarnation);
        }
        head.put_u32_le(count(snapshot.segments.len()));
        for (segment, end) in &snapshot.segments {
            head.put_u32_le(*segment);
            head.put_u32_le(*end);
        }
        let slot = if is_opening { OPENING } else { Slot::ZERO };
        Self { kind: Kind::Snapshot, slot, head, body: Vec::new(), body_bytes: 0 }
    }

    /// Zeroes between two copies, so that one damaged block does not take both.
    pub(super) fn filler() -> Self {
        let body = vec![Bytes::from_static(&[0; FILLER_BYTES])];
        let head = BytesMut::new();
        Self { kind: Kind::Filler, slot: Slot::ZERO, head, body, body_bytes: FILLER_BYTES as u64 }
    }

    /// Length of the whole record with its padding.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(self.head.len() as u64, self.body_bytes)
    }

    /// Adds the record to `parts`, for the place that `place_checksum` stands for.
    pub(super) fn put(&self, parts: &mut Parts, synced: u32, place_checksum: u32) {
        let mut prefix = [0; PREFIX_BYTES];
        let body_bytes = u32::try_from(self.body_bytes).expect("bounded by record_bytes_max");
        prefix[4..8].copy_from_slice(&crc_fast::crc32_iscsi(&self.head).to_le_bytes());
        prefix[8..12].copy_from_slice(&count(self.head.len()).to_le_bytes());
        prefix[12..16].copy_from_slice(&body_bytes.to_le_bytes());
        prefix[16..24].copy_from_slice(&self.slot.0.to_le_bytes());
        prefix[24..28].copy_from_slice(&synced.to_le_bytes());
        prefix[28] = self.kind as u8;
        prefix[29..].copy_from_slice(&MARK);
        let checksum = crc_fast::crc32_iscsi(&prefix[4..]) ^ place_checksum;
        prefix[..4].copy_from_slice(&checksum.to_le_bytes());
        parts.copy(&prefix);
        parts.copy(&self.head);
        for bytes in &self.body {
            parts.share(bytes);
        }
        let unpadded = PREFIX_BYTES as u64 + self.head.len() as u64 + self.body_bytes;
        let padding = usize::try_from(self.record_bytes() - unpadded).unwrap_or(0);
        parts.copy(&[0; ALIGN_BYTES][..padding]);
    }
}

fn put_ballot(head: &mut BytesMut, ballot: Ballot) {
    head.put_u64_le(ballot.round);
    head.put_u8(ballot.node);
}

fn put_accept(head: &mut BytesMut, ballot: Ballot, meta: &ValueMeta, shards: &[Shard]) {
    put_ballot(head, ballot);
    put_ballot(head, meta.id.origin);
    head.put_u64_le(meta.epoch.0);
    head.put_u8(meta.code.k());
    head.put_u8(meta.code.m());
    head.put_u32_le(meta.payload_bytes);
    head.put_u128_le(meta.digest.0);
    head.put_u32_le(count(meta.header.len()));
    head.put_slice(&meta.header);
    head.put_u32_le(count(shards.len()));
    for shard in shards {
        head.put_u8(shard.index);
        head.put_u64_le(shard.digest);
        head.put_u32_le(count(shard.bytes.len()));
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).expect("bounded by record_bytes_max")
}

/// Bytes on their way to the disk: small ones collected, large ones by reference.
#[derive(Debug, Default)]
pub(super) struct Parts {
    done: Vec<Bytes>,
    open: BytesMut,
    bytes: usize,
}

impl Parts {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.open.extend_from_slice(bytes);
    }

    fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM_BYTES {
            return self.copy(bytes);
        }
        self.bytes += bytes.len();
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
        self.done.push(bytes.clone());
    }

    /// Everything collected, in order; leaves nothing.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.done.push(self.open.split().freeze());
        }
        self.bytes = 0;
        std::mem::take(&mut self.done)
    }
}

/// Length of a record's fixed start.
pub(super) const PREFIX_BYTES: usize = 32;
/// Records start at multiples of this.
pub(super) const ALIGN_BYTES: usize = 8;
/// In the prefix of a snapshot that opens a segment.
pub(super) const OPENING: Slot = Slot(1);
const MARK: [u8; 3] = [0xD1, 0x5C, 1];
const FILLER_BYTES: usize = 4096;
/// From here a part of its own is cheaper than a copy.
const SHARE_FROM_BYTES: usize = 4096;
