//! One peer: its outbox, packets in flight, inbox and path, joined into datagrams.
//!
//! Invariant: while anything is queued or in flight, `poll_batch` has something to send or
//! `deadline` names a time; an idle peer's deadline is its eviction.

use crate::time::{Duration, Instant};
use crate::transport::flight::{Flight, PathState};
use crate::transport::inbox::{Arrival, Inbox, Taken};
use crate::transport::outbox::Outbox;
use crate::transport::recovery::{Congestion, Pacer, Rtt};
use crate::transport::stats::PeerStats;
use crate::transport::wire::{self, Datagram, Frame, Header, Purpose};
use crate::transport::{Shared, TransportEvent};
use std::cell::Cell;
use std::net::SocketAddr;

/// A batch is one system call: at most so many segments,
const MAX_BATCH_SEGMENTS: usize = 64;
/// and so many bytes (the largest UDP payload).
const MAX_BATCH_BYTES: usize = 65_507;
/// What an acknowledgement alone takes at most: 64 ranges.
const ACK_BYTES: usize = 320;
/// A challenge to the same address is not repeated sooner.
const CHALLENGE_PAUSE: Duration = Duration::from_millis(5);

/// A claim to be the peer's new incarnation that we have asked to prove.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenge {
    pub epoch: u64,
    pub nonce: u64,
    sent_at: Instant,
}

/// State for one remote address.
#[derive(Debug)]
pub(super) struct Peer {
    pub address: SocketAddr,
    /// The incarnation we talk to, once heard of.
    pub remote_epoch: Option<u64>,
    pub outbox: Outbox,
    pub flight: Flight,
    inbox: Inbox,
    rtt: Rtt,
    congestion: Congestion,
    pacer: Pacer,
    pub challenge: Option<Challenge>,
    last_heard: Instant,
    last_active: Instant,
    /// Last acknowledgement of something new, or when something was first queued after a pause.
    pub last_progress: Instant,
    /// Last part of a message of several datagrams.
    pub last_part: Instant,
    is_unreachable: bool,
    /// Datagrams that may go although the window is full.
    probes: u8,
    paced_until: Option<Instant>,
    /// A built datagram that did not fit the last batch's segment size.
    carry: Option<Vec<u8>>,
    /// In the transport's queue of peers that may have something to send.
    pub is_ready: bool,
    /// Something may have changed since its invariants were checked.
    pub is_unchecked: Cell<bool>,
    /// The deadline registered with the transport.
    pub timer: Option<Instant>,
}

impl Peer {
    pub fn new(now: Instant, address: SocketAddr, first: (u64, u64), shared: &Shared) -> Self {
        let (first_id, first_packet_number) = first;
        Self {
            address,
            remote_epoch: None,
            outbox: Outbox::new(first_id, &shared.config),
            flight: Flight::new(first_packet_number),
            inbox: Inbox::default(),
            rtt: Rtt::new(Duration::from_micros(shared.config.initial_rtt_us)),
            congestion: Congestion::new(&shared.config),
            pacer: Pacer::default(),
            challenge: None,
            last_heard: now,
            last_active: now,
            last_progress: now,
            last_part: now,
            is_unreachable: false,
            probes: 0,
            paced_until: None,
            carry: None,
            is_ready: false,
            is_unchecked: Cell::new(true),
            timer: None,
        }
    }

    /// Takes in a verified data datagram of the incarnation we talk to.
    pub fn handle_data(&mut self, now: Instant, datagram: &Datagram<'_>, shared: &mut Shared) {
        (self.last_heard, self.last_active) = (now, now);
        let number = datagram.header.packet_number;
        if self.inbox.arrival(number) == Arrival::Duplicate {
            shared.stats.duplicate_datagrams += 1;
            if datagram.frames().any(|frame| frame.is_eliciting()) {
                self.inbox.on_duplicate_packet();
            }
            return;
        }
        let (mut is_eliciting, mut is_refused) = (false, false);
        for frame in datagram.frames() {
            is_eliciting |= frame.is_eliciting();
            // The frames behind one that is refused are taken: they may complete what holds the room.
            is_refused |= !self.handle_frame(now, frame, shared);
        }
        if is_refused {
            // Not recorded, so not acknowledged: it will come again.
            shared.stats.refused_datagrams += 1;
            return;
        }
        self.inbox.on_packet(now, number, is_eliciting, &shared.config);
    }

    /// The peer's first datagram. What has timed out by now, and is not acknowledged by it, was sent
    /// before the peer was there: it goes again at once, and not when the timeout, doubled each time,
    /// ends.
    pub fn meet(&mut self, now: Instant, datagram: &Datagram<'_>, shared: &mut Shared) {
        self.remote_epoch = Some(datagram.header.sender_epoch);
        self.handle_data(now, datagram, shared);
        if self.flight.pto_count > 0 {
            self.resend_all();
            self.flight.pto_count = 0;
        }
    }

    /// The peer has proved that it lives as `epoch` now.
    pub fn switch_epoch(&mut self, epoch: u64, shared: &mut Shared) {
        shared.stats.messages_dropped += self.outbox.clear() as u64;
        shared.stats.peer_restarts += 1;
        shared.push_event(TransportEvent::PeerRestarted { peer: self.address });
        self.flight.clear();
        self.inbox.clear(&mut shared.held_bytes);
        self.congestion = Congestion::new(&shared.config);
        self.carry = None;
        self.challenge = None;
        self.is_unreachable = false;
        self.remote_epoch = Some(epoch);
    }

    /// A claim of another incarnation: what to ask it, unless it was asked just now.
    pub fn challenge_for(&mut self, now: Instant, epoch: u64, nonce: u64) -> Option<u64> {
        if let Some(challenge) = self.challenge {
            if now.since(challenge.sent_at) < CHALLENGE_PAUSE {
                return None;
            }
            if challenge.epoch == epoch {
                self.challenge = Some(Challenge { sent_at: now, ..challenge });
                return Some(challenge.nonce);
            }
        }
        self.challenge = Some(Challenge { epoch, nonce, sent_at: now });
        Some(nonce)
    }

    /// The peer did not take what we sent, because it did not know us: send it again.
    pub fn resend_all(&mut self) {
        self.flight.lose_all(&mut self.outbox);
        self.carry = None;
    }

    /// Has it something to send that is not to wait behind others' large messages?
    pub fn is_urgent(&self, now: Instant) -> bool {
        self.probes > 0 || self.outbox.has_small() || self.inbox.is_ack_due(now)
    }

    /// The next batch to send: a datagram, and as many more as are within `most_bytes`.
    pub fn poll_batch(
        &mut self,
        now: Instant,
        most_bytes: usize,
        shared: &mut Shared,
    ) -> Option<(Vec<u8>, usize)> {
        let most_bytes = most_bytes.min(MAX_BATCH_BYTES);
        let mut out = self.carry.take().unwrap_or_default();
        let mut segment_bytes = out.len();
        let mut segments = usize::from(!out.is_empty());
        while segments < MAX_BATCH_SEGMENTS
            && (segments == 0 || out.len() + shared.config.datagram_bytes <= most_bytes)
        {
            let start = out.len();
            if !self.build(now, &mut out, shared) {
                break;
            }
            let bytes = out.len() - start;
            if segments == 0 {
                segment_bytes = bytes;
            } else if bytes > segment_bytes {
                self.carry = Some(out.split_off(start));
                break;
            }
            segments += 1;
            if bytes < segment_bytes {
                break;
            }
        }
        if segments == 0 {
            return None;
        }
        self.last_active = now;
        shared.stats.datagrams_sent += segments as u64;
        shared.stats.batches_sent += 1;
        shared.stats.bytes_sent += out.len() as u64;
        Some((out, segment_bytes))
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn deadline(&self, config: &crate::transport::TransportConfig) -> Instant {
        let silence = self.inbox.has_partials().then(|| self.last_heard + config.give_up() * 2);
        let idle = self.is_idle().then(|| self.last_active + config.idle());
        let timers = [
            self.inbox.ack_deadline(),
            self.flight.deadline(&self.rtt, config),
            self.paced_until,
            silence,
            idle,
        ];
        // Without any of these there is something in flight, whose timer is among them.
        timers.into_iter().flatten().min().unwrap_or(self.last_active + config.idle())
    }

    /// Handles due timers; true when the peer's state can be dropped.
    pub fn handle_timeout(&mut self, now: Instant, shared: &mut Shared) -> bool {
        self.paced_until = None;
        let mut path = PathState {
            rtt: &mut self.rtt,
            congestion: &mut self.congestion,
            config: &shared.config,
            stats: &mut shared.stats,
        };
        if self.flight.handle_timeout(now, &mut path, &mut self.outbox) {
            self.probes = 2;
            self.on_probe_timeout(now, shared);
        }
        if self.inbox.has_partials() && self.last_heard + shared.config.give_up() * 2 <= now {
            // The sender has given these up by now, or is gone.
            self.inbox.drop_partials(&mut shared.held_bytes);
        }
        self.is_idle() && self.last_active + shared.config.idle() <= now
    }

    /// Gives back what the peer holds of shared bounds, before it is dropped.
    pub fn release(&mut self, shared: &mut Shared) {
        self.inbox.drop_partials(&mut shared.held_bytes);
    }

    pub fn stats(&self) -> PeerStats {
        PeerStats {
            smoothed_rtt: self.rtt.measured(),
            rtt_variance: self.rtt.variance,
            window_bytes: self.congestion.window_bytes(),
            bytes_in_flight: self.flight.bytes_in_flight(),
            queued_bytes: self.outbox.live_bytes(),
            queued_messages: self.outbox.live_count(),
            probe_timeouts: self.flight.pto_count,
        }
    }

    pub fn delivery_rate(&self, now: Instant) -> Option<u64> {
        self.flight.delivery.bytes_per_s(now)
    }

    pub fn held_bytes(&self) -> u64 {
        self.inbox.partial_bytes()
    }

    /// Costs nothing when nothing has changed since the last time: false then.
    pub fn check_invariants(&self, config: &crate::transport::TransportConfig) -> bool {
        // What is ready may still change by being polled.
        if !self.is_unchecked.replace(self.is_ready) {
            return false;
        }
        self.outbox.check_invariants(config);
        self.flight.check_invariants();
        self.inbox.check_invariants(config);
        self.congestion.check_invariants(config);
        true
    }

    /// Since when nothing was said, by a peer for which nothing waits.
    pub fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then_some(self.last_active)
    }

    fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.flight.is_empty() && self.carry.is_none()
    }

    /// Handles one frame; false when a bound refuses it.
    fn handle_frame(&mut self, now: Instant, frame: Frame<'_>, shared: &mut Shared) -> bool {
        let taken = match frame {
            Frame::Whole { id, bytes } => {
                self.inbox.take_whole(id, bytes, &mut shared.held_bytes, &shared.config)
            }
            Frame::Fragment { id, total, offset, bytes } => {
                let place = (id, total, offset);
                self.inbox.take_fragment(place, bytes, &mut shared.held_bytes, &shared.config)
            }
            Frame::Ack(ack) => {
                self.handle_ack(now, &ack, shared);
                return true;
            }
            Frame::Floor { id } => {
                self.inbox.on_floor(id, &mut shared.held_bytes);
                return true;
            }
            Frame::Reset { id } => {
                return self.inbox.on_reset(id, &mut shared.held_bytes, &shared.config);
            }
            Frame::Ping => return true,
        };
        match taken {
            Taken::Complete(bytes) => {
                shared.stats.messages_received += 1;
                shared.stats.message_bytes_received += bytes.len() as u64;
                shared.push_event(TransportEvent::Message { from: self.address, bytes });
            }
            Taken::Partly => self.last_part = now,
            Taken::Duplicate => shared.stats.duplicate_frames += 1,
            Taken::Invalid => shared.stats.invalid_frames += 1,
            Taken::Refused => return false,
        }
        true
    }

    fn handle_ack(&mut self, now: Instant, ack: &wire::AckFrame<'_>, shared: &mut Shared) {
        let mut path = PathState {
            rtt: &mut self.rtt,
            congestion: &mut self.congestion,
            config: &shared.config,
            stats: &mut shared.stats,
        };
        let outcome = self.flight.on_ack(now, ack, &mut path, &mut self.outbox);
        if outcome.is_invalid {
            shared.stats.invalid_frames += 1;
            return;
        }
        self.outbox.set_peer_window(ack.window_bytes);
        if outcome.is_progress {
            self.last_progress = now;
            self.is_unreachable = false;
            self.probes = 0;
        }
    }

    fn on_probe_timeout(&mut self, now: Instant, shared: &mut Shared) {
        let config = &shared.config;
        let is_silent = self.flight.pto_count >= config.unreachable_after_ptos
            && self.last_progress + Duration::from_millis(config.unreachable_ms) <= now;
        if is_silent && !self.is_unreachable {
            self.is_unreachable = true;
            shared.push_event(TransportEvent::Unreachable { peer: self.address });
        }
        if self.last_progress + shared.config.give_up() <= now {
            shared.stats.messages_dropped += self.outbox.clear() as u64;
            self.flight.clear();
            self.carry = None;
        }
    }

    /// Appends one sealed datagram; false when there is nothing to send now.
    fn build(&mut self, now: Instant, out: &mut Vec<u8>, shared: &mut Shared) -> bool {
        let config = &shared.config;
        let window_bytes = self.congestion.window_bytes();
        let fits = self.flight.bytes_in_flight() + config.datagram_bytes <= window_bytes;
        let has_data = (fits || self.probes > 0) && self.outbox.has_sendable();
        self.paced_until = None;
        if has_data && self.probes == 0 {
            self.paced_until = self.pacer.blocked_until(now, &self.rtt, window_bytes, config);
        }
        let has_data = has_data && self.paced_until.is_none();
        if !has_data && !self.inbox.is_ack_due(now) {
            return false;
        }
        if out.is_empty() {
            // Of what is sent large batches are made; of acknowledgements alone a datagram.
            let waiting = self.outbox.live_bytes().clamp(config.datagram_bytes, MAX_BATCH_BYTES);
            out.reserve(if has_data { waiting } else { ACK_BYTES });
        }
        let start = out.len();
        let limit = start + config.datagram_bytes;
        let header = Header {
            purpose: Purpose::Data,
            sender_epoch: shared.local_epoch,
            receiver_epoch: self.remote_epoch.unwrap_or(0),
            packet_number: self.flight.next_packet_number(),
        };
        wire::put_header(out, &header);
        let has_ack = self.inbox.put_ack(now, out, limit, shared.held_bytes, config);
        let items_before = self.flight.items_mut().len();
        if has_data {
            let items = self.flight.items_mut();
            let retransmitted = self.outbox.fill(out, limit, items);
            shared.stats.bytes_retransmitted += retransmitted as u64;
        }
        let has_items = self.flight.items_mut().len() > items_before;
        if !has_items && !has_ack {
            out.truncate(start);
            return false;
        }
        // Equal segments make long batches: fill small gaps, but never waste much of the wire.
        let gap = limit - out.len();
        if has_items && gap <= config.datagram_bytes / 16 && self.outbox.has_sendable() {
            out.resize(limit, 0);
        }
        let bytes = out.len() - start;
        if has_items {
            self.pacer.on_sent(now, bytes, &self.rtt, window_bytes, config);
            self.probes = self.probes.saturating_sub(1);
        } else {
            shared.stats.acks_sent += 1;
        }
        self.flight.on_sent(now, bytes, &self.rtt, &shared.config);
        wire::seal(&mut out[start..], shared.binding);
        true
    }
}
