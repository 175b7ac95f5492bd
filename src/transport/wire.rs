//! The datagram format: a 32-byte header, then frames; all integers little-endian.
//!
//! ```text
//! header: magic u16 | version u8 | flags u8 | crc32c u32 | sender epoch u64 | receiver epoch u64 | packet number u64
//! frame:  kind u8, then
//!   1 whole     id u64 | length u16 | bytes          2 fragment  id u64 | total u32 | offset u32 | length u16 | bytes
//!   3 ack       range count u8 | delay_us u32 | window_bytes u32 | largest u64 | first length u32 | (gap u16, length u16)*
//!   4 floor     id u64      5 reset  id u64      6 ping      0 padding: the rest of the datagram is zeros
//! ```
//! Control datagrams (a flag) have no frames: hello, challenge and response carry a nonce u64. The
//! checksum covers everything after itself, and is mixed with magic, version, flags and the cluster's
//! id, so a datagram of another cluster is garbage. The epochs bind it to one pair of incarnations.
//! Invariant: what [`parse`] returns has only complete, well-formed frames; nothing is allocated.

use crate::transport::ranges::RangeSet;
use std::time::Duration;

/// Bytes of the datagram header.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes of a whole-message frame before its payload.
pub(super) const WHOLE_OVERHEAD_BYTES: usize = 11;
/// Bytes of a fragment frame before its payload.
pub(super) const FRAGMENT_OVERHEAD_BYTES: usize = 19;
/// Bytes of a floor or reset frame.
pub(super) const ID_FRAME_BYTES: usize = 9;
/// Bytes of an ack frame with a single range.
pub(super) const ACK_BASE_BYTES: usize = 22;
/// Bytes of each further range of an ack frame.
pub(super) const ACK_RANGE_BYTES: usize = 4;

const MAGIC: u16 = 0xD15C;
const VERSION: u8 = 1;
const PADDING: u8 = 0;
const WHOLE: u8 = 1;
const FRAGMENT: u8 = 2;
const ACK: u8 = 3;
const FLOOR: u8 = 4;
const RESET: u8 = 5;
const PING: u8 = 6;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Frames.
    Data,
    /// "This is who I am": the answer to a datagram for an older incarnation.
    Hello,
    /// "Prove that you are alive now."
    Challenge,
    /// The proof: the challenge's nonce.
    Response,
}

/// The header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub purpose: Purpose,
    pub sender_epoch: u64,
    /// The incarnation it is meant for; 0 when the sender does not know one yet.
    pub receiver_epoch: u64,
    pub packet_number: u64,
}

/// One parsed frame, borrowed from the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Whole {
        id: u64,
        bytes: &'a [u8],
    },
    Fragment {
        id: u64,
        total: u32,
        offset: u32,
        bytes: &'a [u8],
    },
    Ack(AckFrame<'a>),
    /// The sender will never again speak of messages below `id`.
    Floor {
        id: u64,
    },
    /// The sender has cancelled message `id`.
    Reset {
        id: u64,
    },
    Ping,
}

impl Frame<'_> {
    /// True when the frame asks to be acknowledged.
    pub fn is_eliciting(&self) -> bool {
        match self {
            Self::Whole { .. } | Self::Fragment { .. } | Self::Reset { .. } | Self::Ping => true,
            Self::Ack(_) | Self::Floor { .. } => false,
        }
    }
}

/// An acknowledgement: which packets arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckFrame<'a> {
    pub delay: Duration,
    /// Bytes of incomplete messages the receiver is willing to hold for this peer.
    pub window_bytes: u32,
    pub largest: u64,
    first_length: u32,
    further: &'a [u8],
}

impl AckFrame<'_> {
    /// Acknowledged packet numbers as half-open ranges, from the highest down.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = self.largest + 1;
        let first_start = end - u64::from(self.first_length);
        let further = self.further.chunks_exact(ACK_RANGE_BYTES).scan(first_start, |low, raw| {
            let gap = u64::from(u16::from_le_bytes([raw[0], raw[1]]));
            let length = u64::from(u16::from_le_bytes([raw[2], raw[3]]));
            let end = low.checked_sub(gap)?;
            let start = end.checked_sub(length)?;
            *low = start;
            Some((start, end))
        });
        std::iter::once((first_start, end)).chain(further)
    }
}

/// A datagram whose checksum and frames are good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    pub header: Header,
    body: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The frames of a data datagram, in order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || next_frame(&mut rest).ok().flatten())
    }

    /// The nonce of a control datagram.
    pub fn nonce(&self) -> u64 {
        read_u64(self.body, 0).unwrap_or(0)
    }
}

/// A datagram that is not ours: wrong magic, version, checksum, length or frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// Parses and verifies `bytes` for the cluster that `binding` names.
pub(super) fn parse(bytes: &[u8], binding: u32) -> Result<Datagram<'_>, Garbage> {
    let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(Garbage)?;
    if header[..2] != MAGIC.to_le_bytes() || header[2] != VERSION {
        return Err(Garbage);
    }
    let purpose = match header[3] {
        0 => Purpose::Data,
        1 => Purpose::Hello,
        2 => Purpose::Challenge,
        3 => Purpose::Response,
        _ => return Err(Garbage),
    };
    let checksum = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    if checksum != datagram_checksum(bytes, binding) {
        return Err(Garbage);
    }
    let header = Header {
        purpose,
        sender_epoch: read_u64(bytes, 8)?,
        receiver_epoch: read_u64(bytes, 16)?,
        packet_number: read_u64(bytes, 24)?,
    };
    let well_formed = match purpose {
        Purpose::Data => {
            let mut rest = body;
            loop {
                match next_frame(&mut rest) {
                    Ok(Some(_)) => {}
                    Ok(None) => break true,
                    Err(Garbage) => break false,
                }
            }
        }
        Purpose::Hello | Purpose::Challenge | Purpose::Response => body.len() == 8,
    };
    if !well_formed || header.sender_epoch == 0 || header.packet_number > u64::MAX >> 2 {
        return Err(Garbage);
    }
    Ok(Datagram { header, body })
}

/// Appends a header; [`seal`] fills in the checksum when the datagram is complete.
pub(super) fn put_header(out: &mut Vec<u8>, header: &Header) {
    let flags = match header.purpose {
        Purpose::Data => 0,
        Purpose::Hello => 1,
        Purpose::Challenge => 2,
        Purpose::Response => 3,
    };
    let mut raw = [0; HEADER_BYTES];
    raw[..2].copy_from_slice(&MAGIC.to_le_bytes());
    raw[2] = VERSION;
    raw[3] = flags;
    raw[8..16].copy_from_slice(&header.sender_epoch.to_le_bytes());
    raw[16..24].copy_from_slice(&header.receiver_epoch.to_le_bytes());
    raw[24..].copy_from_slice(&header.packet_number.to_le_bytes());
    out.extend_from_slice(&raw);
}

/// Writes the checksum into the complete `datagram`.
pub(super) fn seal(datagram: &mut [u8], binding: u32) {
    let checksum = datagram_checksum(datagram, binding);
    datagram[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// A complete control datagram.
pub(super) fn control(header: &Header, nonce: u64, binding: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + 8);
    put_header(&mut out, header);
    out.extend_from_slice(&nonce.to_le_bytes());
    seal(&mut out, binding);
    out
}

/// Appends the head of a whole-message frame; the caller appends `length` bytes.
pub(super) fn put_whole_head(out: &mut Vec<u8>, id: u64, length: u16) {
    let mut raw = [0; WHOLE_OVERHEAD_BYTES];
    raw[0] = WHOLE;
    raw[1..9].copy_from_slice(&id.to_le_bytes());
    raw[9..].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&raw);
}

/// Appends the head of a fragment frame; the caller appends `length` bytes.
pub(super) fn put_fragment_head(out: &mut Vec<u8>, id: u64, total: u32, offset: u32, length: u16) {
    let mut raw = [0; FRAGMENT_OVERHEAD_BYTES];
    raw[0] = FRAGMENT;
    raw[1..9].copy_from_slice(&id.to_le_bytes());
    raw[9..13].copy_from_slice(&total.to_le_bytes());
    raw[13..17].copy_from_slice(&offset.to_le_bytes());
    raw[17..].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&raw);
}

/// Appends a floor frame.
pub(super) fn put_floor(out: &mut Vec<u8>, id: u64) {
    out.push(FLOOR);
    out.extend_from_slice(&id.to_le_bytes());
}

/// Appends a reset frame.
pub(super) fn put_reset(out: &mut Vec<u8>, id: u64) {
    out.push(RESET);
    out.extend_from_slice(&id.to_le_bytes());
}

/// Appends an ack of `received` (not empty) with at most `max_ranges`, the highest first.
pub(super) fn put_ack(
    out: &mut Vec<u8>,
    received: &RangeSet,
    delay: Duration,
    window_bytes: u32,
    max_ranges: usize,
) {
    let mut ranges = received.descending();
    let Some((first_start, first_end)) = ranges.next() else { return };
    out.push(ACK);
    let count_at = out.len();
    out.push(1);
    out.extend_from_slice(&u32::try_from(delay.as_micros()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&window_bytes.to_le_bytes());
    out.extend_from_slice(&(first_end - 1).to_le_bytes());
    let first_length = u32::try_from(first_end - first_start).unwrap_or(u32::MAX);
    out.extend_from_slice(&first_length.to_le_bytes());
    let mut low = first_end - u64::from(first_length);
    let mut count = 1_u8;
    for (start, end) in ranges.take(max_ranges.min(255).saturating_sub(1)) {
        let Ok(gap) = u16::try_from(low - end) else { break };
        let length = u16::try_from(end - start).unwrap_or(u16::MAX);
        out.extend_from_slice(&gap.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        low = end - u64::from(length);
        count += 1;
    }
    out[count_at] = count;
}

/// Mixes a cluster's id to the 32 bits that its checksums are bound by.
pub(super) fn binding_of(cluster_id: u64) -> u32 {
    crc_fast::crc32_iscsi(&cluster_id.to_le_bytes())
}

fn datagram_checksum(datagram: &[u8], binding: u32) -> u32 {
    // Magic, version and flags are mixed in instead of streamed: one pass over contiguous bytes.
    let head = u32::from_le_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
    crc_fast::crc32_iscsi(&datagram[8..]) ^ head.wrapping_mul(0x9E37_79B1) ^ binding
}

fn next_frame<'a>(rest: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Garbage> {
    let Some((&kind, body)) = rest.split_first() else { return Ok(None) };
    let (frame, used) = match kind {
        PADDING => {
            *rest = &[];
            return if body.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(Garbage) };
        }
        WHOLE => {
            let id = read_id(body)?;
            let length = usize::from(read_u16(body, 8)?);
            let bytes = body.get(10..10 + length).ok_or(Garbage)?;
            (Frame::Whole { id, bytes }, 10 + length)
        }
        FRAGMENT => {
            let id = read_id(body)?;
            let (total, offset) = (read_u32(body, 8)?, read_u32(body, 12)?);
            let length = usize::from(read_u16(body, 16)?);
            let bytes = body.get(18..18 + length).ok_or(Garbage)?;
            let end = u64::from(offset) + length as u64;
            if length == 0 || end > u64::from(total) {
                return Err(Garbage);
            }
            (Frame::Fragment { id, total, offset, bytes }, 18 + length)
        }
        ACK => next_ack(body)?,
        FLOOR => (Frame::Floor { id: read_id(body)? }, 8),
        RESET => (Frame::Reset { id: read_id(body)? }, 8),
        PING => (Frame::Ping, 0),
        _ => return Err(Garbage),
    };
    *rest = &body[used..];
    Ok(Some(frame))
}

fn next_ack(body: &[u8]) -> Result<(Frame<'_>, usize), Garbage> {
    let count = usize::from(*body.first().ok_or(Garbage)?);
    let delay = Duration::from_micros(u64::from(read_u32(body, 1)?));
    let window_bytes = read_u32(body, 5)?;
    let largest = read_u64(body, 9)?;
    let first_length = read_u32(body, 17)?;
    let used = 21 + count.checked_sub(1).ok_or(Garbage)? * ACK_RANGE_BYTES;
    let further = body.get(21..used).ok_or(Garbage)?;
    if largest > u64::MAX >> 2 || first_length == 0 || u64::from(first_length) > largest + 1 {
        return Err(Garbage);
    }
    Ok((Frame::Ack(AckFrame { delay, window_bytes, largest, first_length, further }), used))
}

fn read_id(bytes: &[u8]) -> Result<u64, Garbage> {
    let id = read_u64(bytes, 0)?;
    // Leaves room for `id + 1` everywhere.
    if id > u64::MAX >> 2 { Err(Garbage) } else { Ok(id) }
}

fn read_u64(bytes: &[u8], at: usize) -> Result<u64, Garbage> {
    let raw = bytes.get(at..at + 8).ok_or(Garbage)?;
    Ok(u64::from_le_bytes(raw.try_into().map_err(|_| Garbage)?))
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32, Garbage> {
    let raw = bytes.get(at..at + 4).ok_or(Garbage)?;
    Ok(u32::from_le_bytes(raw.try_into().map_err(|_| Garbage)?))
}

fn read_u16(bytes: &[u8], at: usize) -> Result<u16, Garbage> {
    let raw = bytes.get(at..at + 2).ok_or(Garbage)?;
    Ok(u16::from_le_bytes([raw[0], raw[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn sample() -> Vec<u8> {
        let header =
            Header { purpose: Purpose::Data, sender_epoch: 7, receiver_epoch: 9, packet_number: 3 };
        let mut received = RangeSet::default();
        received.insert(1, 4);
        received.insert(6, 7);
        received.insert(9, 12);
        let mut out = Vec::new();
        put_header(&mut out, &header);
        put_ack(&mut out, &received, Duration::from_micros(5), 77, 64);
        put_floor(&mut out, 2);
        put_whole_head(&mut out, 5, 3);
        out.extend_from_slice(b"abc");
        put_fragment_head(&mut out, 6, 100, 40, 2);
        out.extend_from_slice(b"de");
        put_reset(&mut out, 4);
        out.push(PING);
        out.extend_from_slice(&[0; 5]);
        seal(&mut out, 1);
        out
    }

    #[test]
    fn frames_survive_the_round_trip() {
        let bytes = sample();
        let datagram = parse(&bytes, 1).unwrap();
        assert_eq!(datagram.header.sender_epoch, 7);
        let frames: Vec<_> = datagram.frames().collect();
        let Frame::Ack(ack) = frames[0] else { panic!("{frames:?}") };
        assert_eq!(ack.ranges().collect::<Vec<_>>(), [(9, 12), (6, 7), (1, 4)]);
        assert_eq!((ack.window_bytes, ack.delay), (77, Duration::from_micros(5)));
        let rest = [
            Frame::Floor { id: 2 },
            Frame::Whole { id: 5, bytes: b"abc" },
            Frame::Fragment { id: 6, total: 100, offset: 40, bytes: b"de" },
            Frame::Reset { id: 4 },
            Frame::Ping,
        ];
        assert_eq!(frames[1..], rest);
    }

    #[test]
    fn the_layout_is_fixed() {
        let header = Header {
            purpose: Purpose::Challenge,
            sender_epoch: 1,
            receiver_epoch: 2,
            packet_number: 0,
        };
        let bytes = control(&header, 0x0102, binding_of(0));
        let golden = [
            0x5C, 0xD1, 1, 2, bytes[4], bytes[5], bytes[6], bytes[7], 1, 0, 0, 0, 0, 0, 0, 0, 2, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(bytes, golden);
    }

    #[test]
    fn damage_and_other_clusters_are_garbage() {
        let bytes = sample();
        assert!(parse(&bytes, 2).is_err());
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut], 1).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&damaged, 1).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn forged_frames_never_panic() {
        let mut rng = Rng::new(3);
        for _ in 0..20_000 {
            let mut bytes = sample();
            for _ in 0..rng.range(1, 6) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            bytes.truncate(rng.range(8, bytes.len() as u64) as usize);
            seal(&mut bytes, 1);
            if let Ok(datagram) = parse(&bytes, 1) {
                for frame in datagram.frames() {
                    if let Frame::Ack(ack) = frame {
                        assert!(ack.ranges().all(|(start, end)| start <= end));
                    }
                }
            }
        }
    }
}
