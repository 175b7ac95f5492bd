//! What arrives from one peer: which packets and messages were seen, and messages half assembled.
//!
//! A message is delivered at most once: its id is remembered as a range, and everything below the
//! sender's floor counts as seen. Memory is bounded: a datagram with a frame that would go over a
//! bound stays unacknowledged, so its sender tries again; its other frames are taken, and recognised
//! then. A message of several fragments is written into one buffer, reserved when its
//! first fragment comes and the window allows it, and zeroed only where fragments overtake.

use crate::time::Instant;
use crate::transport::config::TransportConfig;
use crate::transport::outbox::reassembly_charge;
use crate::transport::ranges::RangeSet;
use crate::transport::wire;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A packet missing among so many last ones means that the path loses packets now.
const RECENT_PACKETS: u64 = 128;

/// How a packet number was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    New,
    Duplicate,
}

/// What became of a message frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Complete(Bytes),
    Partly,
    Duplicate,
    /// A bound is reached: the datagram must not be acknowledged.
    Refused,
    /// It contradicts what was said before, or is over the message limit.
    Invalid,
}

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    total: u32,
    received: RangeSet,
    received_bytes: u64,
}

/// The receive side of one peer.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    packets: RangeSet,
    /// Packets below are no longer told apart, and count as duplicates.
    packet_floor: u64,
    done: RangeSet,
    partial: BTreeMap<u64, Partial>,
    partial_bytes: u64,
    unacked_count: u32,
    ack_now: bool,
    /// The last acknowledgement is to be sent once more.
    is_repeating: bool,
    ack_deadline: Option<Instant>,
    largest_received_at: Instant,
}

impl Inbox {
    /// Whether the packet was seen before.
    pub fn arrival(&self, number: u64) -> Arrival {
        if number < self.packet_floor || self.packets.contains(number) {
            Arrival::Duplicate
        } else {
            Arrival::New
        }
    }

    /// Records a packet that was taken in full.
    pub fn on_packet(
        &mut self,
        now: Instant,
        number: u64,
        is_eliciting: bool,
        config: &TransportConfig,
    ) {
        let end = self.packets.end();
        let in_order = end.is_none_or(|end| end == number);
        if end.is_none_or(|end| end <= number) {
            self.largest_received_at = now;
        }
        self.packets.insert(number, number + 1);
        if self.packets.range_count() > config.max_tracked_ranges
            && let Some(floor) = self.packets.pop_lowest()
        {
            self.packet_floor = floor;
        }
        if is_eliciting {
            self.unacked_count += 1;
            self.ack_now |= !in_order || self.unacked_count >= 2;
            self.ack_deadline.get_or_insert(now + config.ack_delay());
        }
    }

    /// A duplicate says that its acknowledgement was lost: acknowledges anew.
    pub fn on_duplicate_packet(&mut self) {
        if self.packets.end().is_some() {
            self.ack_now = true;
        }
    }

    /// A message that came in one frame.
    pub fn take_whole(
        &mut self,
        id: u64,
        bytes: &[u8],
        held: &mut u64,
        config: &TransportConfig,
    ) -> Taken {
        if bytes.len() > config.max_message_bytes {
            return Taken::Invalid;
        }
        if self.done.contains(id) {
            return Taken::Duplicate;
        }
        if !self.mark_done(id, config) {
            return Taken::Refused;
        }
        if !self.partial.is_empty() {
            self.remove_partial(id, held);
        }
        Taken::Complete(Bytes::copy_from_slice(bytes))
    }

    /// A fragment; `total_partial_bytes` is what all peers' incomplete messages hold.
    pub fn take_fragment(
        &mut self,
        (id, total, offset): (u64, u32, u32),
        fragment: &[u8],
        total_partial_bytes: &mut u64,
        config: &TransportConfig,
    ) -> Taken {
        if total as usize > config.max_message_bytes {
            return Taken::Invalid;
        }
        if self.done.contains(id) {
            return Taken::Duplicate;
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.partial.entry(id) {
            let charge = reassembly_charge(total);
            if self.partial_bytes + charge > config.max_reassembly_bytes_per_peer as u64
                || *total_partial_bytes + charge > config.max_reassembly_bytes as u64
            {
                return Taken::Refused;
            }
            self.partial_bytes += charge;
            *total_partial_bytes += charge;
            vacant.insert(Partial {
                bytes: Vec::with_capacity(total as usize),
                total,
                received: RangeSet::default(),
                received_bytes: 0,
            });
        }
        let Some(partial) = self.partial.get_mut(&id) else { return Taken::Refused };
        let taken = partial.write(total, offset, fragment, config);
        let is_whole = partial.received_bytes == u64::from(partial.total);
        if !is_whole || matches!(taken, Taken::Refused | Taken::Invalid) {
            return taken;
        }
        if !self.mark_done(id, config) {
            return Taken::Refused;
        }
        match self.remove_partial(id, total_partial_bytes) {
            Some(partial) => Taken::Complete(Bytes::from(partial.bytes)),
            None => Taken::Duplicate,
        }
    }

    /// The sender has cancelled `id`; false when a bound is reached.
    pub fn on_reset(&mut self, id: u64, held: &mut u64, config: &TransportConfig) -> bool {
        if !self.mark_done(id, config) {
            return false;
        }
        self.remove_partial(id, held);
        true
    }

    /// The sender will not speak of messages below `floor` again.
    pub fn on_floor(&mut self, floor: u64, held: &mut u64) {
        self.done.insert(0, floor);
        while let Some((&id, _)) = self.partial.first_key_value()
            && id < floor
        {
            self.remove_partial(id, held);
        }
    }

    /// Drops every incomplete message.
    pub fn drop_partials(&mut self, held: &mut u64) {
        *held -= self.partial_bytes;
        self.partial_bytes = 0;
        self.partial.clear();
    }

    /// Forgets the peer's incarnation.
    pub fn clear(&mut self, held: &mut u64) {
        self.drop_partials(held);
        *self = Self::default();
    }

    pub fn has_partials(&self) -> bool {
        !self.partial.is_empty()
    }

    /// True when an acknowledgement must go now, with or without data.
    pub fn is_ack_due(&self, now: Instant) -> bool {
        self.ack_now || self.ack_deadline.is_some_and(|deadline| deadline <= now)
    }

    /// When an acknowledgement will be due.
    pub fn ack_deadline(&self) -> Option<Instant> {
        self.ack_deadline
    }

    /// Appends an acknowledgement if one is wanted and fits.
    pub fn put_ack(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        limit: usize,
        held: u64,
        config: &TransportConfig,
    ) -> bool {
        let wanted = self.ack_now || self.ack_deadline.is_some();
        let room = (limit - out.len()).saturating_sub(wire::ACK_BASE_BYTES);
        if !wanted || out.len() + wire::ACK_BASE_BYTES > limit {
            return false;
        }
        let ranges = (1 + room / wire::ACK_RANGE_BYTES).min(config.max_ack_ranges);
        let delay = now.since(self.largest_received_at);
        let free = (config.max_reassembly_bytes as u64).saturating_sub(held) + self.partial_bytes;
        let window = free.min(config.max_reassembly_bytes_per_peer as u64);
        let window = u32::try_from(window).unwrap_or(u32::MAX);
        wire::put_ack(out, &self.packets, delay, window, ranges);
        (self.ack_deadline, self.unacked_count) = (None, 0);
        // One acknowledgement answers a whole burst: where packets get lost, losing it would cost
        // the sender a timeout, so it goes twice.
        self.is_repeating = !self.is_repeating && self.has_recent_gap();
        self.ack_now = self.is_repeating;
        true
    }

    pub fn partial_bytes(&self) -> u64 {
        self.partial_bytes
    }

    pub fn check_invariants(&self, config: &TransportConfig) {
        self.packets.check_invariants();
        self.done.check_invariants();
        assert!(self.packets.range_count() <= config.max_tracked_ranges, "packet ranges");
        assert!(self.done.range_count() <= config.max_tracked_ranges + 1, "message ranges");
        let charged: u64 = self.partial.values().map(|p| reassembly_charge(p.total)).sum();
        assert_eq!(charged, self.partial_bytes, "reassembly bytes");
        assert!(charged <= config.max_reassembly_bytes_per_peer as u64, "reassembly bound");
        for (id, partial) in &self.partial {
            assert!(!self.done.contains(*id), "message {id} is done and incomplete");
            assert!(partial.bytes.len() <= partial.total as usize, "message {id} too long");
            let most = ranges_max(partial.total, config);
            assert!(partial.received.range_count() <= most, "message {id} is in too many pieces");
            partial.received.check_invariants();
        }
    }

    fn has_recent_gap(&self) -> bool {
        let mut ranges = self.packets.descending();
        match (ranges.next(), ranges.next()) {
            (Some((_, end)), Some((_, below))) => end - below <= RECENT_PACKETS,
            (_, None) | (None, _) => false,
        }
    }

    fn mark_done(&mut self, id: u64, config: &TransportConfig) -> bool {
        if self.done.range_count() >= config.max_tracked_ranges
            && self.done.would_add_range(id, id + 1)
        {
            return false;
        }
        self.done.insert(id, id + 1);
        true
    }

    fn remove_partial(&mut self, id: u64, held: &mut u64) -> Option<Partial> {
        let partial = self.partial.remove(&id)?;
        let charge = reassembly_charge(partial.total);
        self.partial_bytes -= charge;
        *held -= charge;
        Some(partial)
    }
}

/// In so many pieces may a message of `total` bytes be here: what is noted of them is little beside
/// what its reassembly is charged. A fragment that makes no new piece is taken all the same, so that a
/// sender that begins with the oldest always gets on.
fn ranges_max(total: u32, config: &TransportConfig) -> usize {
    (RANGES_MIN + (total / PIECE_BYTES) as usize).min(config.max_tracked_ranges)
}

const RANGES_MIN: usize = 16;
/// A datagram of a real network has more room than this.
const PIECE_BYTES: u32 = 1024;

impl Partial {
    fn write(
        &mut self,
        total: u32,
        offset: u32,
        fragment: &[u8],
        config: &TransportConfig,
    ) -> Taken {
        if total != self.total {
            return Taken::Invalid;
        }
        let (start, end) = (offset as usize, offset as usize + fragment.len());
        if self.received.range_count() >= ranges_max(total, config)
            && self.received.would_add_range(start as u64, end as u64)
        {
            return Taken::Refused;
        }
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(fragment);
        } else {
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            self.bytes[start..end].copy_from_slice(fragment);
        }
        let fresh = self.received.insert(start as u64, end as u64);
        self.received_bytes += fresh;
        if fresh == 0 { Taken::Duplicate } else { Taken::Partly }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_many_pieces_takes_little_more_than_its_bytes_and_arrives() {
        let config = TransportConfig::for_ethernet();
        let (mut inbox, mut held) = (Inbox::default(), 0);
        let bytes: Vec<u8> = (0..8192_u32).map(|at| (at % 251) as u8).collect();
        let total = 8192;
        let mut take = |inbox: &mut Inbox, at: usize, end: usize| {
            inbox.take_fragment((7, total, at as u32), &bytes[at..end], &mut held, &config)
        };
        // Every other byte, as nobody honest would send it.
        let mut refused = 0;
        for at in (0..8192).step_by(2) {
            refused += usize::from(take(&mut inbox, at, at + 1) == Taken::Refused);
            inbox.check_invariants(&config);
        }
        assert_eq!(refused, 4096 - 24);
        // What was refused is sent again, the oldest first.
        for at in (0..7000).step_by(1000) {
            assert_eq!(take(&mut inbox, at, at + 1000), Taken::Partly, "{at}");
        }
        let last = take(&mut inbox, 7000, 8192);
        assert_eq!(last, Taken::Complete(Bytes::from(bytes.clone())));
        assert_eq!(held, 0);
    }
}
