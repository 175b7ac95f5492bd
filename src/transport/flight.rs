//! Packets sent to one peer and not yet resolved: acknowledgement, loss detection, timeout.
//!
//! Every datagram has a fresh packet number; what is lost is its items, which go back to the
//! [`Outbox`] to be sent in new packets (RFC 9002 section 6: packet threshold, time threshold,
//! probe timeout). Both thresholds grow when a packet that was declared lost arrives after all, so
//! that a path which reorders stops causing retransmissions. Lost packets are remembered until the
//! front moves on, for that. Items of all packets share one queue: no allocation per packet.

use crate::time::Instant;
use crate::transport::config::TransportConfig;
use crate::transport::delivery::{Delivery, Mark};
use crate::transport::outbox::{Item, Outbox};
use crate::transport::recovery::{Congestion, Rtt};
use crate::transport::stats::TransportStats;
use crate::transport::wire::AckFrame;
use std::collections::VecDeque;

const MIN_PACKET_THRESHOLD: u64 = 3;
const MAX_PACKET_THRESHOLD: u64 = 128;
const MIN_TIME_EIGHTHS: u32 = 9;
const MAX_TIME_EIGHTHS: u32 = 24;
/// So many timeouts in a row are no tail of a burst: the window comes down.
const PERSISTENT_PTOS: u32 = 5;
/// Lost packets are remembered for some round trips, for what may come yet, while at most this many
/// packets are tracked.
const MAX_REMEMBERED_PACKETS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketState {
    InFlight,
    /// Later ones were acknowledged and it was not.
    Lost,
    /// Sent again because nothing was heard: no sign that the path lost or reordered it.
    TimedOut,
    /// Acknowledged, or never to be acknowledged (an acknowledgement alone).
    Done,
}

#[derive(Debug)]
struct SentPacket {
    sent_at: Instant,
    items_start: u64,
    item_count: u32,
    bytes: u32,
    state: PacketState,
    mark: Mark,
}

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AckOutcome {
    pub is_progress: bool,
    /// It named a packet that was never sent.
    pub is_invalid: bool,
}

/// Unresolved packets of one peer.
#[derive(Debug)]
pub(super) struct Flight {
    base: u64,
    packets: VecDeque<SentPacket>,
    items: VecDeque<Item>,
    items_base: u64,
    bytes_in_flight: usize,
    packets_in_flight: usize,
    largest_acked: Option<u64>,
    loss_time: Option<Instant>,
    /// When the oldest wait began: the first sending while nothing was in flight, the last progress, or
    /// the last timeout.
    pto_from: Instant,
    packet_threshold: u64,
    time_eighths: u32,
    pub pto_count: u32,
    pub delivery: Delivery,
}

impl Flight {
    pub fn new(first_packet_number: u64) -> Self {
        Self {
            base: first_packet_number,
            packets: VecDeque::new(),
            items: VecDeque::new(),
            items_base: 0,
            bytes_in_flight: 0,
            packets_in_flight: 0,
            largest_acked: None,
            loss_time: None,
            pto_from: Instant::ZERO,
            packet_threshold: MIN_PACKET_THRESHOLD,
            time_eighths: MIN_TIME_EIGHTHS,
            pto_count: 0,
            delivery: Delivery::default(),
        }
    }

    pub fn next_packet_number(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    pub fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight
    }

    pub fn is_empty(&self) -> bool {
        self.packets_in_flight == 0
    }

    /// The queue that the next packet's items are appended to, before [`Self::on_sent`].
    pub fn items_mut(&mut self) -> &mut VecDeque<Item> {
        &mut self.items
    }

    /// Records the packet that was just built from the items appended since the last call.
    pub fn on_sent(&mut self, now: Instant, bytes: usize, rtt: &Rtt, config: &TransportConfig) {
        let items_start = self
            .packets
            .back()
            .map_or(self.items_base, |last| last.items_start + u64::from(last.item_count));
        let items_end = self.items_base + self.items.len() as u64;
        let item_count = u32::try_from(items_end - items_start).expect("a datagram's frames");
        let bytes = u32::try_from(bytes).expect("a datagram is under 64 KiB");
        let state = if item_count == 0 { PacketState::Done } else { PacketState::InFlight };
        let mark = self.delivery.on_sent(now, self.packets_in_flight == 0);
        if state == PacketState::InFlight {
            // From the first of those that wait: whoever sends all the time would never notice that
            // nobody answers (RFC 6298 section 5).
            if self.packets_in_flight == 0 {
                self.pto_from = now;
            }
            self.bytes_in_flight += bytes as usize;
            self.packets_in_flight += 1;
        }
        let sent_at = now;
        self.packets.push_back(SentPacket { sent_at, items_start, item_count, bytes, state, mark });
        self.pop_resolved(now, rtt, config);
    }

    /// Takes in an acknowledgement and finds what it shows to be lost.
    pub fn on_ack(
        &mut self,
        now: Instant,
        ack: &AckFrame<'_>,
        path: &mut PathState<'_>,
        outbox: &mut Outbox,
    ) -> AckOutcome {
        if ack.largest >= self.next_packet_number() {
            return AckOutcome { is_progress: false, is_invalid: true };
        }
        let limiting = self.bytes_in_flight * 2 >= path.congestion.window_bytes();
        let mut is_progress = false;
        for (start, end) in ack.ranges() {
            if end <= self.base {
                break;
            }
            for number in start.max(self.base)..end {
                is_progress |= self.on_packet_acked(now, number, ack, limiting, path, outbox);
            }
        }
        if is_progress {
            self.pto_count = 0;
            self.pto_from = now;
        }
        self.largest_acked = self.largest_acked.max(Some(ack.largest));
        self.detect_losses(now, path, outbox);
        self.pop_resolved(now, path.rtt, path.config);
        AckOutcome { is_progress, is_invalid: false }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn deadline(&self, rtt: &Rtt, config: &TransportConfig) -> Option<Instant> {
        if self.packets_in_flight == 0 {
            return None;
        }
        Some(self.loss_time.unwrap_or_else(|| self.pto_from + rtt.pto(self.pto_count, config)))
    }

    /// Handles a due loss timer or probe timeout; true when it was a probe timeout.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        path: &mut PathState<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        if self.deadline(path.rtt, path.config).is_none_or(|deadline| deadline > now) {
            return false;
        }
        if self.loss_time.is_some() {
            self.detect_losses(now, path, outbox);
            return false;
        }
        self.pto_count = self.pto_count.saturating_add(1);
        self.pto_from = now;
        path.stats.probe_timeouts += 1;
        if self.pto_count == PERSISTENT_PTOS {
            path.congestion.on_persistent_timeout(path.config);
        }
        // The two oldest packets' items are the probes: what they carry was to be sent anyway.
        let mut probes = 2;
        for at in 0..self.packets.len() {
            if self.packets[at].state == PacketState::InFlight {
                self.lose(at, PacketState::TimedOut, outbox);
                probes -= 1;
                if probes == 0 {
                    break;
                }
            }
        }
        true
    }

    /// Takes everything for lost: the peer has refused it, unseen.
    pub fn lose_all(&mut self, outbox: &mut Outbox) {
        for at in 0..self.packets.len() {
            if self.packets[at].state == PacketState::InFlight {
                self.lose(at, PacketState::TimedOut, outbox);
            }
        }
        self.loss_time = None;
    }

    /// Forgets everything but the packet number.
    pub fn clear(&mut self) {
        let next = self.next_packet_number();
        *self = Self::new(next);
    }

    pub fn check_invariants(&self) {
        let in_flight = self.packets.iter().filter(|p| p.state == PacketState::InFlight);
        let bytes: usize = in_flight.clone().map(|p| p.bytes as usize).sum();
        assert_eq!(bytes, self.bytes_in_flight, "bytes in flight");
        assert_eq!(in_flight.count(), self.packets_in_flight, "packets in flight");
        let items: usize = self.packets.iter().map(|p| p.item_count as usize).sum();
        assert_eq!(items, self.items.len(), "items of tracked packets");
    }

    fn on_packet_acked(
        &mut self,
        now: Instant,
        number: u64,
        ack: &AckFrame<'_>,
        limiting: bool,
        path: &mut PathState<'_>,
        outbox: &mut Outbox,
    ) -> bool {
        let Some(at) = usize::try_from(number - self.base).ok() else { return false };
        let Some(packet) = self.packets.get_mut(at) else { return false };
        let (bytes, sent_at, mark) = (packet.bytes as usize, packet.sent_at, packet.mark);
        let was = std::mem::replace(&mut packet.state, PacketState::Done);
        match was {
            PacketState::Done => return false,
            PacketState::InFlight => {
                self.bytes_in_flight -= bytes;
                self.packets_in_flight -= 1;
                path.congestion.on_ack(bytes, sent_at, limiting, path.config);
            }
            PacketState::TimedOut => path.stats.spurious_losses += 1,
            PacketState::Lost => {
                path.stats.spurious_losses += 1;
                path.congestion.on_spurious_loss();
                let reorder = self.largest_acked.unwrap_or(0).saturating_sub(number) + 1;
                self.packet_threshold =
                    self.packet_threshold.max(reorder).min(MAX_PACKET_THRESHOLD);
                self.time_eighths = (self.time_eighths + 1).min(MAX_TIME_EIGHTHS);
            }
        }
        self.delivery.on_acked(now, bytes, sent_at, mark);
        // Each packet has a number of its own, so this is its round trip even if it was given up: one
        // that outgrows the timeout would never be learned otherwise.
        if number == ack.largest {
            path.rtt.sample(now.since(sent_at), ack.delay);
        }
        let packet = &self.packets[at];
        let first = usize::try_from(packet.items_start - self.items_base).unwrap_or(usize::MAX);
        for item in self.items.range(first..first + packet.item_count as usize) {
            outbox.on_acked(*item);
        }
        true
    }

    fn detect_losses(&mut self, now: Instant, path: &mut PathState<'_>, outbox: &mut Outbox) {
        self.loss_time = None;
        let Some(largest_acked) = self.largest_acked else { return };
        let delay = path.rtt.loss_delay(self.time_eighths);
        let below = usize::try_from(largest_acked.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let mut last_lost_sent_at = None;
        for at in 0..below.min(self.packets.len()) {
            let packet = &self.packets[at];
            if packet.state != PacketState::InFlight {
                continue;
            }
            let sent_at = packet.sent_at;
            let due = sent_at + delay;
            if self.base + at as u64 + self.packet_threshold <= largest_acked || due <= now {
                self.lose(at, PacketState::Lost, outbox);
                path.stats.packets_lost += 1;
                last_lost_sent_at = last_lost_sent_at.max(Some(sent_at));
            } else {
                self.loss_time = Some(self.loss_time.map_or(due, |earlier| earlier.min(due)));
            }
        }
        if let Some(sent_at) = last_lost_sent_at {
            path.congestion.on_loss(now, sent_at, path.config);
        }
    }

    fn lose(&mut self, at: usize, state: PacketState, outbox: &mut Outbox) {
        let packet = &mut self.packets[at];
        packet.state = state;
        self.bytes_in_flight -= packet.bytes as usize;
        self.packets_in_flight -= 1;
        let first = usize::try_from(packet.items_start - self.items_base).unwrap_or(usize::MAX);
        for item in self.items.range(first..first + packet.item_count as usize) {
            outbox.on_lost(*item);
        }
    }

    fn pop_resolved(&mut self, now: Instant, rtt: &Rtt, config: &TransportConfig) {
        let memory = (rtt.smoothed * 4).max(rtt.pto(0, config) * 2);
        while let Some(front) = self.packets.front() {
            let is_over = match front.state {
                PacketState::InFlight => false,
                PacketState::Done => true,
                PacketState::Lost | PacketState::TimedOut => {
                    self.packets.len() > MAX_REMEMBERED_PACKETS || front.sent_at + memory <= now
                }
            };
            if !is_over {
                return;
            }
            let count = front.item_count as usize;
            self.items.drain(..count);
            self.items_base += count as u64;
            self.packets.pop_front();
            self.base += 1;
        }
    }
}

/// What acknowledgements and losses of one peer's packets steer.
#[derive(Debug)]
pub(super) struct PathState<'a> {
    pub rtt: &'a mut Rtt,
    pub congestion: &'a mut Congestion,
    pub config: &'a TransportConfig,
    pub stats: &'a mut TransportStats,
}
