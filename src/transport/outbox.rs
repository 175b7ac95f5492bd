//! Messages on their way to one peer: queued, being fragmented, awaiting acknowledgement.
//!
//! Each byte of a message is unsent, or named by an item in flight or in the retransmission queue,
//! or acknowledged. Messages that fit a datagram are sent whole and go ahead of larger ones, which
//! get every fourth datagram first, so neither starves the other. It does not know packets or time.

use crate::time::Instant;
use crate::transport::SendError;
use crate::transport::config::TransportConfig;
use crate::transport::ranges::RangeSet;
use crate::transport::wire;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// What a reassembling receiver is charged for a message beyond its bytes.
const REASSEMBLY_OVERHEAD_BYTES: u64 = 512;
/// A fragment smaller than this is not worth its header, unless it is a message's last.
const MIN_FRAGMENT_BYTES: usize = 256;

/// What a packet carried, and what is sent again when the packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Whole { id: u64 },
    Range { id: u64, offset: u32, length: u32 },
    Reset { id: u64 },
}

/// Bytes that a receiver must be ready to hold for an incomplete message of `total` bytes.
pub(super) fn reassembly_charge(total: u32) -> u64 {
    u64::from(total) + REASSEMBLY_OVERHEAD_BYTES
}

#[derive(Debug)]
enum Parts {
    One(Bytes),
    Many(Vec<Bytes>),
}

#[derive(Debug)]
struct Outgoing {
    parts: Parts,
    total: u32,
    queued_at: Instant,
    /// First byte not yet sent; only messages larger than a datagram use it.
    next_offset: u32,
    is_large: bool,
    acked: RangeSet,
    acked_bytes: u64,
}

/// The send side of one peer.
#[derive(Debug)]
pub(super) struct Outbox {
    base_id: u64,
    messages: VecDeque<Option<Outgoing>>,
    live_count: usize,
    live_bytes: usize,
    small: VecDeque<u64>,
    large: VecDeque<u64>,
    retransmit: VecDeque<Item>,
    /// Reassembly charge of large messages that were started and are not fully acknowledged.
    started_bytes: u64,
    peer_window_bytes: u64,
    announced_floor: u64,
    turn: u8,
}

impl Outbox {
    pub fn new(first_id: u64, config: &TransportConfig) -> Self {
        Self {
            base_id: first_id,
            messages: VecDeque::new(),
            live_count: 0,
            live_bytes: 0,
            small: VecDeque::new(),
            large: VecDeque::new(),
            retransmit: VecDeque::new(),
            started_bytes: 0,
            peer_window_bytes: config.max_reassembly_bytes_per_peer as u64,
            announced_floor: 0,
            turn: 0,
        }
    }

    pub fn next_id(&self) -> u64 {
        self.base_id + self.messages.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.live_count == 0 && self.retransmit.is_empty()
    }

    pub fn live_count(&self) -> usize {
        self.live_count
    }

    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// When the oldest message was queued that is not wholly acknowledged.
    pub fn oldest_queued_at(&self) -> Option<Instant> {
        self.messages.front()?.as_ref().map(|message| message.queued_at)
    }

    pub fn set_peer_window(&mut self, bytes: u32) {
        self.peer_window_bytes = u64::from(bytes);
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When the message or the queue is over its bound.
    pub fn push(
        &mut self,
        now: Instant,
        to: SocketAddr,
        parts: &[Bytes],
        config: &TransportConfig,
    ) -> Result<u64, SendError> {
        let total_bytes = checked_total(parts, config)?;
        if self.live_bytes + total_bytes > config.max_send_bytes_per_peer
            || self.messages.len() >= config.max_messages_per_peer
        {
            return Err(SendError::QueueFull { to, queued_bytes: self.live_bytes });
        }
        let id = self.next_id();
        let is_large = total_bytes > whole_limit(config);
        if is_large { &mut self.large } else { &mut self.small }.push_back(id);
        let parts = match parts {
            [one] => Parts::One(one.clone()),
            many => Parts::Many(many.iter().filter(|part| !part.is_empty()).cloned().collect()),
        };
        self.live_count += 1;
        self.live_bytes += total_bytes;
        self.messages.push_back(Some(Outgoing {
            parts,
            total: u32::try_from(total_bytes).expect("bounded by max_message_bytes <= 2^30"),
            queued_at: now,
            next_offset: 0,
            is_large,
            acked: RangeSet::default(),
            acked_bytes: 0,
        }));
        Ok(id)
    }

    /// Forgets a message; true when it was still unacknowledged.
    pub fn cancel(&mut self, id: u64) -> bool {
        let Some(message) = self.message(id) else { return false };
        // The receiver may hold a part: tell it to let go. A whole message leaves nothing behind.
        let must_reset = message.is_large && message.next_offset > 0;
        self.remove(id);
        if must_reset {
            self.retransmit.push_back(Item::Reset { id });
        }
        for at_front in [true, false] {
            let queue = if at_front { &mut self.small } else { &mut self.large };
            if queue.len() > 64 && queue.len() > 2 * self.live_count {
                let (base, messages) = (self.base_id, &self.messages);
                queue.retain(|id| slot(base, messages, *id).is_some());
            }
        }
        true
    }

    /// Forgets everything; returns how many messages that were.
    pub fn clear(&mut self) -> usize {
        let dropped = self.live_count;
        self.base_id = self.next_id();
        self.messages.clear();
        self.small.clear();
        self.large.clear();
        self.retransmit.clear();
        (self.live_count, self.live_bytes, self.started_bytes) = (0, 0, 0);
        dropped
    }

    /// True when [`Self::fill`] into an empty datagram would write something.
    pub fn has_sendable(&mut self) -> bool {
        self.skip_stale();
        !self.retransmit.is_empty() || !self.small.is_empty() || self.next_large().is_some()
    }

    /// Does a message that fits a datagram wait to be sent?
    pub fn has_small(&self) -> bool {
        !self.small.is_empty()
    }

    /// Is this message neither acknowledged in whole nor given up?
    pub fn has(&self, id: u64) -> bool {
        slot(self.base_id, &self.messages, id).is_some()
    }

    /// Was a part of this message never put into a datagram, though it is not forgotten?
    pub fn is_unsent(&self, id: u64) -> bool {
        let waits = |queue: &VecDeque<u64>| queue.front().is_some_and(|first| *first <= id);
        slot(self.base_id, &self.messages, id).is_some_and(|message| {
            if message.is_large { waits(&self.large) } else { waits(&self.small) }
        })
    }

    /// Appends frames to `out` up to `limit` bytes in all, and what they carry to `items`. Returns
    /// the retransmitted payload bytes.
    pub fn fill(&mut self, out: &mut Vec<u8>, limit: usize, items: &mut VecDeque<Item>) -> usize {
        let has_retransmission = !self.retransmit.is_empty();
        if (has_retransmission || self.announced_floor != self.base_id)
            && out.len() + wire::ID_FRAME_BYTES <= limit
        {
            self.announced_floor = self.base_id;
            wire::put_floor(out, self.base_id);
        }
        let retransmitted =
            if has_retransmission { self.fill_retransmissions(out, limit, items) } else { 0 };
        self.turn = self.turn.wrapping_add(1) % 4;
        if self.turn == 0 {
            self.fill_large(out, limit, items);
            self.fill_small(out, limit, items);
        } else {
            self.fill_small(out, limit, items);
            self.fill_large(out, limit, items);
        }
        retransmitted
    }

    /// An item arrived.
    pub fn on_acked(&mut self, item: Item) {
        let (id, offset, length) = match item {
            Item::Whole { id } => {
                self.remove(id);
                return;
            }
            Item::Reset { .. } => return,
            Item::Range { id, offset, length } => (id, offset, length),
        };
        let Some(message) = self.message(id) else { return };
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(length));
        message.acked_bytes += message.acked.insert(start, end);
        if message.acked_bytes == u64::from(message.total) {
            self.remove(id);
        }
    }

    /// An item was lost.
    pub fn on_lost(&mut self, item: Item) {
        let is_live = match item {
            Item::Whole { id } | Item::Range { id, .. } => self.message(id).is_some(),
            Item::Reset { .. } => true,
        };
        if is_live {
            self.retransmit.push_back(item);
        }
    }

    /// Panics when the counters and the messages disagree.
    pub fn check_invariants(&self, config: &TransportConfig) {
        let live = self.messages.iter().flatten();
        let bytes: usize = live.clone().map(|message| message.total as usize).sum();
        assert_eq!(bytes, self.live_bytes, "queued bytes");
        assert_eq!(live.clone().count(), self.live_count, "queued messages");
        let started: u64 = live
            .filter(|message| message.is_large && message.next_offset > 0)
            .map(|message| reassembly_charge(message.total))
            .sum();
        assert_eq!(started, self.started_bytes, "started bytes");
        assert!(self.live_bytes <= config.max_send_bytes_per_peer, "send queue over its bound");
        assert!(self.messages.len() <= config.max_messages_per_peer, "too many messages");
        assert!(self.messages.front().is_none_or(Option::is_some), "floor lags behind");
        for message in self.messages.iter().flatten() {
            message.acked.check_invariants();
            assert!(message.acked_bytes < u64::from(message.total).max(1), "done but kept");
        }
    }

    fn message(&mut self, id: u64) -> Option<&mut Outgoing> {
        let at = usize::try_from(id.checked_sub(self.base_id)?).ok()?;
        self.messages.get_mut(at)?.as_mut()
    }

    fn remove(&mut self, id: u64) {
        let Some(at) = id.checked_sub(self.base_id).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        let Some(message) = self.messages.get_mut(at).and_then(Option::take) else { return };
        self.live_count -= 1;
        self.live_bytes -= message.total as usize;
        if message.is_large && message.next_offset > 0 {
            self.started_bytes -= reassembly_charge(message.total);
        }
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
            self.base_id += 1;
        }
    }

    /// Drops cancelled and acknowledged entries from the heads of the queues.
    fn skip_stale(&mut self) {
        let (base, messages) = (self.base_id, &self.messages);
        while self.small.front().is_some_and(|id| slot(base, messages, *id).is_none()) {
            self.small.pop_front();
        }
        while self.large.front().is_some_and(|id| slot(base, messages, *id).is_none()) {
            self.large.pop_front();
        }
        while let Some(front) = self.retransmit.front() {
            let is_live = match *front {
                Item::Whole { id } => slot(base, messages, id).is_some(),
                Item::Range { id, offset, length } => slot(base, messages, id).is_some_and(|m| {
                    !m.acked.covers(u64::from(offset), u64::from(offset) + u64::from(length))
                }),
                Item::Reset { .. } => true,
            };
            if is_live {
                return;
            }
            self.retransmit.pop_front();
        }
    }

    /// The large message at the head of the queue, if flow control lets it go on.
    fn next_large(&self) -> Option<u64> {
        let id = *self.large.front()?;
        let message = slot(self.base_id, &self.messages, id)?;
        let admitted = message.next_offset > 0
            || self.started_bytes == 0
            || self.started_bytes + reassembly_charge(message.total) <= self.peer_window_bytes;
        admitted.then_some(id)
    }

    fn fill_retransmissions(
        &mut self,
        out: &mut Vec<u8>,
        limit: usize,
        items: &mut VecDeque<Item>,
    ) -> usize {
        let mut retransmitted = 0;
        loop {
            self.skip_stale();
            let Some(item) = self.retransmit.front().copied() else { return retransmitted };
            let room = limit - out.len();
            let sent = match item {
                Item::Reset { id } if room >= wire::ID_FRAME_BYTES => {
                    wire::put_reset(out, id);
                    item
                }
                Item::Whole { id } => {
                    let Some(message) = self.message(id) else { continue };
                    if !message.put_whole(out, id, room) {
                        return retransmitted;
                    }
                    retransmitted += message.total as usize;
                    item
                }
                Item::Range { id, offset, length } => {
                    let Some(message) = self.message(id) else { continue };
                    let sent = message.put_fragment(out, id, offset, length, room);
                    if sent == 0 {
                        return retransmitted;
                    }
                    retransmitted += sent as usize;
                    Item::Range { id, offset, length: sent }
                }
                Item::Reset { .. } => return retransmitted,
            };
            items.push_back(sent);
            self.retransmit.pop_front();
            if let (Item::Range { id, offset, length }, Item::Range { length: sent, .. }) =
                (item, sent)
                && sent < length
            {
                let rest = Item::Range { id, offset: offset + sent, length: length - sent };
                self.retransmit.push_front(rest);
                return retransmitted;
            }
        }
    }

    fn fill_small(&mut self, out: &mut Vec<u8>, limit: usize, items: &mut VecDeque<Item>) {
        while let Some(id) = self.small.front().copied() {
            let room = limit - out.len();
            if let Some(message) = self.message(id) {
                if !message.put_whole(out, id, room) {
                    return;
                }
                items.push_back(Item::Whole { id });
            }
            self.small.pop_front();
        }
    }

    fn fill_large(&mut self, out: &mut Vec<u8>, limit: usize, items: &mut VecDeque<Item>) {
        loop {
            self.skip_stale();
            let Some(id) = self.next_large() else { return };
            let room = limit - out.len();
            let Some(message) = self.message(id) else { return };
            let (offset, total) = (message.next_offset, message.total);
            let sent = message.put_fragment(out, id, offset, total - offset, room);
            if sent == 0 {
                return;
            }
            message.next_offset += sent;
            items.push_back(Item::Range { id, offset, length: sent });
            if offset == 0 {
                self.started_bytes += reassembly_charge(total);
            }
            if offset + sent == total {
                self.large.pop_front();
            }
        }
    }
}

impl Outgoing {
    fn put_whole(&self, out: &mut Vec<u8>, id: u64, room: usize) -> bool {
        if self.total as usize + wire::WHOLE_OVERHEAD_BYTES > room {
            return false;
        }
        let length = u16::try_from(self.total).expect("a whole message fits a datagram");
        wire::put_whole_head(out, id, length);
        match &self.parts {
            Parts::One(part) => out.extend_from_slice(part),
            Parts::Many(parts) => parts.iter().for_each(|part| out.extend_from_slice(part)),
        }
        true
    }

    /// Appends as much of `offset..offset + length` as fits; returns the bytes, 0 when not worth it.
    fn put_fragment(
        &self,
        out: &mut Vec<u8>,
        id: u64,
        offset: u32,
        length: u32,
        room: usize,
    ) -> u32 {
        let room = room.saturating_sub(wire::FRAGMENT_OVERHEAD_BYTES).min(usize::from(u16::MAX));
        let fits = room.min(length as usize);
        if fits < (length as usize).min(MIN_FRAGMENT_BYTES) || fits == 0 {
            return 0;
        }
        let fits_u16 = u16::try_from(fits).expect("limited to u16::MAX above");
        wire::put_fragment_head(out, id, self.total, offset, fits_u16);
        match &self.parts {
            Parts::One(part) => {
                out.extend_from_slice(&part[offset as usize..offset as usize + fits]);
            }
            Parts::Many(parts) => copy_range(out, parts, offset as usize, fits),
        }
        u32::from(fits_u16)
    }
}

/// Largest message that is sent in one frame: a full datagram with room for a floor frame.
fn whole_limit(config: &TransportConfig) -> usize {
    config.datagram_bytes - wire::HEADER_BYTES - wire::WHOLE_OVERHEAD_BYTES - wire::ID_FRAME_BYTES
}

fn checked_total(parts: &[Bytes], config: &TransportConfig) -> Result<usize, SendError> {
    let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let limit_bytes = config.max_message_bytes;
    if bytes > limit_bytes { Err(SendError::TooLarge { bytes, limit_bytes }) } else { Ok(bytes) }
}

fn slot(base: u64, messages: &VecDeque<Option<Outgoing>>, id: u64) -> Option<&Outgoing> {
    messages.get(usize::try_from(id.checked_sub(base)?).ok()?)?.as_ref()
}

fn copy_range(out: &mut Vec<u8>, parts: &[Bytes], mut offset: usize, mut length: usize) {
    for part in parts {
        if offset >= part.len() {
            offset -= part.len();
            continue;
        }
        let take = length.min(part.len() - offset);
        out.extend_from_slice(&part[offset..offset + take]);
        (offset, length) = (0, length - take);
        if length == 0 {
            return;
        }
    }
    assert_eq!(length, 0, "the parts are shorter than the message");
}
