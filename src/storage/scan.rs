//! Walks one segment file record by record, over damage too.
//!
//! Decides nothing: says what is there. A record with a damaged prefix ends where the next valid one
//! begins; one with a damaged head only still says its kind, slot and length. Bodies are not read
//! except by [`Scanner::strict_end`].

use super::disk::{Disk, DiskError};
use super::record::{ALIGN_BYTES, Binding, Kind, PREFIX_BYTES, Prefix, Said, decode_head};
use crate::types::Bytes;

/// What the scanner met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Record {
        offset: u32,
        bytes: u32,
        prefix: Prefix,
        said: Said,
    },
    /// The prefix is valid, the head is not.
    DamagedHead {
        prefix: Prefix,
    },
    /// No valid record starts before `to`.
    Gap {
        to: u32,
    },
    End,
}

/// A walk over `[0, limit)` of one segment.
pub(super) struct Scanner<'a, D> {
    disk: &'a mut D,
    binding: Binding,
    name: &'a str,
    segment: u32,
    limit: u32,
    at: u32,
    scan_bytes: usize,
    window_from: u32,
    window: Bytes,
}

impl<'a, D: Disk> Scanner<'a, D> {
    pub(super) fn new(
        disk: &'a mut D,
        binding: Binding,
        (segment, name): (u32, &'a str),
        limit: u32,
        scan_bytes: usize,
    ) -> Self {
        let (at, window_from, window) = (0, 0, Bytes::new());
        Self { disk, binding, name, segment, limit, at, scan_bytes, window_from, window }
    }

    /// The walk from `at` on, where a record begins.
    pub(super) fn from(mut self, at: u32) -> Self {
        self.at = at;
        self
    }

    /// Where the next thing begins.
    pub(super) const fn at(&self) -> u32 {
        self.at
    }

    /// The next thing.
    pub(super) fn next(&mut self) -> Result<Found, DiskError> {
        if self.at >= self.limit {
            return Ok(Found::End);
        }
        let offset = self.at;
        let Some((prefix, bytes)) = self.prefix(offset)? else {
            self.at = self.next_valid(offset)?;
            return Ok(Found::Gap { to: self.at });
        };
        self.at = offset + bytes;
        let head = self.head(offset, &prefix)?;
        let said = prefix.matches(&head).then(|| decode_head(&prefix, head));
        Ok(match said {
            Some(Ok(said)) => Found::Record { offset, bytes, prefix, said },
            Some(Err(_)) | None => Found::DamagedHead { prefix },
        })
    }

    /// Where the unbroken run of wholly valid records, bodies included, that starts at `from` ends.
    pub(super) fn strict_end(&mut self, from: u32) -> Result<u32, DiskError> {
        self.at = from;
        loop {
            let start = self.at;
            match self.next()? {
                Found::Record { offset, bytes, prefix, said: Said::Accept(head) } => {
                    let skipped = PREFIX + prefix.head_bytes;
                    let body = self.bytes(offset + skipped, (bytes - skipped) as usize)?;
                    if !head.cut(&body).1.is_empty() {
                        return Ok(start);
                    }
                }
                Found::Record { offset, prefix, said: Said::Index(head), .. } => {
                    let from = offset + PREFIX + prefix.head_bytes;
                    let body = self.bytes(from, prefix.body_bytes as usize)?;
                    if xxhash_rust::xxh3::xxh3_64(&body) != head.digest {
                        return Ok(start);
                    }
                }
                Found::Record { .. } => {}
                Found::DamagedHead { .. } | Found::Gap { .. } | Found::End => return Ok(start),
            }
        }
    }

    fn prefix(&mut self, offset: u32) -> Result<Option<(Prefix, u32)>, DiskError> {
        let bytes = self.bytes(offset, PREFIX_BYTES)?;
        let place = self.binding.place(self.segment, offset);
        let Some(prefix) = Prefix::decode(&bytes, place) else { return Ok(None) };
        let length = u32::try_from(prefix.record_bytes()).ok();
        // Nothing is durable beyond what was written before: else a start would follow it there.
        let is_possible = prefix.synced <= offset;
        let fits = length.filter(|length| is_possible && *length <= self.limit - offset);
        Ok(fits.map(|length| (prefix, length)))
    }

    fn head(&mut self, offset: u32, prefix: &Prefix) -> Result<Bytes, DiskError> {
        self.bytes(offset + PREFIX, prefix.head_bytes as usize)
    }

    /// The first place after `offset` where a valid prefix stands, or the limit.
    fn next_valid(&mut self, offset: u32) -> Result<u32, DiskError> {
        let mut at = offset + ALIGN;
        while at < self.limit {
            let chunk = self.bytes(at, self.scan_bytes)?;
            if chunk.len() < PREFIX_BYTES {
                break;
            }
            let last = chunk.len() - PREFIX_BYTES;
            for step in (0..=last).step_by(ALIGN_BYTES) {
                let place = at + u32::try_from(step).unwrap_or(0);
                if Prefix::is_marked(&chunk[step..]) && self.prefix(place)?.is_some() {
                    return Ok(place);
                }
            }
            let steps = last / ALIGN_BYTES + 1;
            at = at.saturating_add(u32::try_from(steps * ALIGN_BYTES).unwrap_or(u32::MAX));
        }
        Ok(self.limit)
    }

    /// `[offset, offset + bytes)` as far as it lies below the limit.
    fn bytes(&mut self, offset: u32, bytes: usize) -> Result<Bytes, DiskError> {
        let bytes = bytes.min(self.limit.saturating_sub(offset) as usize);
        let from = offset.checked_sub(self.window_from).map_or(usize::MAX, |from| from as usize);
        if from.saturating_add(bytes) > self.window.len() {
            self.window =
                self.disk.read_at(self.name, offset.into(), bytes.max(self.scan_bytes))?;
            self.window_from = offset;
            return Ok(self.window.slice(..bytes.min(self.window.len())));
        }
        Ok(self.window.slice(from..from + bytes))
    }
}

/// Does a record of this kind stand in the log twice, or can be done without? (An index snapshot with a
/// damaged part is known to be none.)
pub(super) const fn is_spare(kind: Kind) -> bool {
    match kind {
        Kind::Snapshot
        | Kind::Promise
        | Kind::Chosen
        | Kind::Floor
        | Kind::Peer
        | Kind::Filler
        | Kind::Index => true,
        Kind::Accept => false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const PREFIX: u32 = PREFIX_BYTES as u32;
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const ALIGN: u32 = ALIGN_BYTES as u32;
