//! Reliable messages over unreliable datagrams: a pure machine, without sockets or clocks.
//!
//! Messages, not streams: each is delivered as soon as it is complete, in any order, at most once
//! within a pair of incarnations. It does not authenticate: the checksum stops accidents, not forgers.
//!
//! A connection is a remote address and the two sides' epochs. Data flows with the first datagram,
//! whose receiver epoch may be 0, "not known yet". A datagram for another epoch of ours is answered by
//! a hello and dropped. A peer that shows up with another epoch is believed only when it has
//! answered a challenge with a fresh nonce: an old datagram cannot undo a restart, and neither side's
//! epochs need an order. Message ids and packet numbers never start again within one epoch, so
//! that datagrams from before a peer's restart, or before idle state was dropped, hit nothing new.
//!
//! Source: packet numbers, ranges and loss detection as in QUIC (RFC 9000, RFC 9002).

mod config;
mod delivery;
mod flight;
mod inbox;
mod outbox;
mod peer;
mod ranges;
mod recovery;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{TransportConfig, TransportConfigError};
pub use stats::{PeerStats, TransportStats};

use crate::rng::Rng;
use crate::time::{Duration, Instant};
use bytes::Bytes;
use peer::Peer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use wire::{Datagram, Header, Purpose};

/// What a waiting event is charged beyond its bytes.
const EVENT_OVERHEAD_BYTES: usize = 64;
/// Members of a cluster, of which there is room for all beside `max_peers` others.
const EXPECTED_MAX: usize = 32;
/// What any peer may have in its queue, however full the others are.
const SMALL_QUEUE_BYTES: usize = 64 << 10;

/// Names a message sent to one peer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

/// Datagrams for one address: `contents` cut every `segment_bytes`; the last may be shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of every datagram but the last.
    pub segment_bytes: usize,
    /// The datagrams, end to end: at most 65,507 bytes and 64 datagrams.
    pub contents: Vec<u8>,
}

/// What the transport tells its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// A message has arrived.
    Message {
        /// Its sender's address.
        from: SocketAddr,
        /// The message.
        bytes: Bytes,
    },
    /// The peer runs anew: what was queued for it and what it had half sent is dropped.
    PeerRestarted {
        /// Its address.
        peer: SocketAddr,
    },
    /// Several timeouts in a row without an answer. Said once; sending goes on at a slow pace.
    Unreachable {
        /// Its address.
        peer: SocketAddr,
    },
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Over `max_message_bytes`.
    #[error("a message of {bytes} B is over the limit of {limit_bytes} B: split it")]
    TooLarge {
        /// The message's size.
        bytes: usize,
        /// `max_message_bytes`.
        limit_bytes: usize,
    },
    /// The peer's queue is full.
    #[error("the queue for {to} is full ({queued_bytes} B): send again when it has drained")]
    QueueFull {
        /// The peer.
        to: SocketAddr,
        /// Bytes queued or unacknowledged.
        queued_bytes: usize,
    },
    /// The queues of all peers together are full.
    #[error(
        "the queues for all peers are full ({queued_bytes} B): send again when they have drained"
    )]
    AllQueuesFull {
        /// Bytes queued or unacknowledged.
        queued_bytes: usize,
    },
    /// There is state for `max_peers` others.
    #[error("there are {limit_count} peers already: raise max_peers, or wait until one is idle")]
    TooManyPeers {
        /// `max_peers`.
        limit_count: usize,
    },
}

/// What all peers share.
#[derive(Debug)]
struct Shared {
    config: TransportConfig,
    local_epoch: u64,
    binding: u32,
    stats: TransportStats,
    events: VecDeque<TransportEvent>,
    event_bytes: usize,
    /// Reassembly charge of all peers' incomplete messages.
    held_bytes: u64,
}

impl Shared {
    fn push_event(&mut self, event: TransportEvent) {
        self.event_bytes += event_charge(&event);
        self.events.push_back(event);
    }
}

/// The machine: one per node, for all its peers.
///
/// Feed it with [`Self::handle_datagram`], [`Self::send`] and [`Self::handle_timeout`]; then drain
/// [`Self::poll_transmit`] and [`Self::poll_event`] to `None`; then wait until [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Transport {
    shared: Shared,
    rng: Rng,
    peers: Vec<Option<Box<Peer>>>,
    /// At least what waits for all peers: what was acknowledged since the last count is still in it.
    queued_at_most: usize,
    free: Vec<usize>,
    by_address: BTreeMap<SocketAddr, usize>,
    last_found: Option<(SocketAddr, usize)>,
    /// There is a place for these, however many others there are.
    expected: Vec<SocketAddr>,
    /// The table was full then of peers that are not to be let go.
    full_until: Instant,
    /// Peers that may have something to send.
    ready: VecDeque<usize>,
    turn: u8,
    timers: BTreeSet<(Instant, usize)>,
    control: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Where ids and packet numbers of new peers start: above those of every dropped one.
    first_id: u64,
    first_packet_number: u64,
}

impl Transport {
    /// A transport of the incarnation `local_epoch` (not 0), which no earlier run on this address
    /// may have used; a boot number or a random number. `seed` is for challenges only.
    ///
    /// # Panics
    /// When `local_epoch` is 0 or the configuration is invalid: validate it where it is read.
    #[must_use]
    pub fn new(config: TransportConfig, local_epoch: u64, seed: u64) -> Self {
        assert!(local_epoch != 0, "epoch 0 means 'unknown'");
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        let binding = wire::binding_of(config.cluster_id);
        Self {
            shared: Shared {
                config,
                local_epoch,
                binding,
                stats: TransportStats::default(),
                events: VecDeque::new(),
                event_bytes: 0,
                held_bytes: 0,
            },
            rng: Rng::new(seed),
            peers: Vec::new(),
            queued_at_most: 0,
            free: Vec::new(),
            by_address: BTreeMap::new(),
            last_found: None,
            expected: Vec::new(),
            full_until: Instant::ZERO,
            ready: VecDeque::new(),
            turn: 0,
            timers: BTreeSet::new(),
            control: VecDeque::new(),
            first_id: 0,
            first_packet_number: 0,
        }
    }

    /// From now on strangers, of whom there may be `max_peers`, take no place from these addresses.
    pub fn expect(&mut self, addresses: Vec<SocketAddr>) {
        self.expected = addresses;
    }

    /// Takes in one datagram. Whatever it is, this does not fail: the counters tell.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.shared.stats.datagrams_received += 1;
        self.shared.stats.bytes_received += bytes.len() as u64;
        let Ok(datagram) = wire::parse(bytes, self.shared.binding) else {
            self.shared.stats.garbage_datagrams += 1;
            return;
        };
        let header = datagram.header;
        if header.receiver_epoch != 0 && header.receiver_epoch != self.shared.local_epoch {
            self.shared.stats.stale_datagrams += 1;
            if header.purpose == Purpose::Data {
                self.push_control(from, Purpose::Hello, header.sender_epoch, 0);
            }
            return;
        }
        match header.purpose {
            Purpose::Data => self.handle_data(now, from, &datagram),
            Purpose::Hello => self.handle_hello(now, from, &header),
            Purpose::Challenge => self.handle_challenge(from, &datagram),
            Purpose::Response => self.handle_response(from, &datagram),
        }
    }

    /// Queues a message; `parts` are its bytes in order, kept without a copy until it is acknowledged.
    ///
    /// # Errors
    /// When a bound is reached; nothing is queued then.
    pub fn send(
        &mut self,
        now: Instant,
        to: SocketAddr,
        parts: &[Bytes],
    ) -> Result<MessageId, SendError> {
        let Some(at) = self.find_or_add(now, to) else {
            return Err(SendError::TooManyPeers { limit_count: self.shared.config.max_peers });
        };
        let result = self.push(now, at, to, parts);
        self.shared.stats.messages_sent += u64::from(result.is_ok());
        self.mark_ready(at);
        result
    }

    fn push(
        &mut self,
        now: Instant,
        at: usize,
        to: SocketAddr,
        parts: &[Bytes],
    ) -> Result<MessageId, SendError> {
        let config = &self.shared.config;
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let queued = |peer: &Peer| peer.outbox.live_bytes();
        let own = self.peers[at].as_deref().map_or(0, queued);
        if own + bytes > SMALL_QUEUE_BYTES && self.queued_at_most + bytes > config.max_send_bytes {
            self.queued_at_most = self.peers.iter().flatten().map(|peer| queued(peer)).sum();
            if self.queued_at_most + bytes > config.max_send_bytes {
                return Err(SendError::AllQueuesFull { queued_bytes: self.queued_at_most });
            }
        }
        let Some(peer) = self.peers[at].as_deref_mut() else {
            return Err(SendError::TooManyPeers { limit_count: config.max_peers });
        };
        let is_first = peer.outbox.is_empty();
        let id = peer.outbox.push(now, to, parts, config)?;
        if is_first {
            peer.last_progress = now;
        }
        self.queued_at_most += bytes;
        Ok(MessageId(id))
    }

    /// Stops sending a message; true when it was not yet acknowledged. The peer may still get it.
    pub fn cancel(&mut self, to: SocketAddr, id: MessageId) -> bool {
        let Some(at) = self.find(to) else { return false };
        let Some(peer) = self.peers[at].as_deref_mut() else { return false };
        let cancelled = peer.outbox.cancel(id.0);
        self.mark_ready(at);
        cancelled
    }

    /// Does a part of a message still wait to be sent for the first time?
    #[must_use]
    pub fn is_unsent(&self, to: SocketAddr, id: MessageId) -> bool {
        self.peer(to).is_some_and(|peer| peer.outbox.is_unsent(id.0))
    }

    /// Does a message still go out, with something that `to` acknowledged `lately`?
    #[must_use]
    pub fn is_sending(
        &self,
        now: Instant,
        to: SocketAddr,
        id: MessageId,
        lately: Duration,
    ) -> bool {
        let is_going =
            |peer: &Peer| peer.outbox.has(id.0) && now.since(peer.last_progress) <= lately;
        self.peer(to).is_some_and(is_going)
    }

    /// When the oldest of what waits for `to`'s acknowledgement was handed over.
    #[must_use]
    pub fn oldest_sent_at(&self, to: SocketAddr) -> Option<Instant> {
        self.peer(to)?.outbox.oldest_queued_at()
    }

    /// Is a message of several datagrams from `from` half here, with a part that came `lately`?
    #[must_use]
    pub fn is_receiving(&self, now: Instant, from: SocketAddr, lately: Duration) -> bool {
        let is_coming = |peer: &Peer| peer.held_bytes() > 0 && now.since(peer.last_part) <= lately;
        self.peer(from).is_some_and(is_coming)
    }

    /// The next batch of datagrams to send, or `None` when there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.poll_transmit_within(now, usize::MAX)
    }

    /// The same for a card that takes `room_bytes` now: no batch is longer, unless it is one
    /// datagram, and peers with anything small to be sent go first, three times of four.
    /// Invariant: what is small waits for about a datagram to each peer, however much others get.
    pub fn poll_transmit_within(&mut self, now: Instant, room_bytes: usize) -> Option<Transmit> {
        if let Some((to, contents)) = self.control.pop_front() {
            self.shared.stats.datagrams_sent += 1;
            self.shared.stats.batches_sent += 1;
            self.shared.stats.bytes_sent += contents.len() as u64;
            return Some(Transmit { to, segment_bytes: contents.len(), contents });
        }
        while let Some(at) = self.pop_ready(now, room_bytes) {
            let Some(peer) = self.peers[at].as_deref_mut() else { continue };
            if let Some((contents, segment_bytes)) =
                peer.poll_batch(now, room_bytes, &mut self.shared)
            {
                let to = peer.address;
                self.ready.push_back(at);
                return Some(Transmit { to, segment_bytes, contents });
            }
            peer.is_ready = false;
            self.set_timer(at);
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        let event = self.shared.events.pop_front()?;
        self.shared.event_bytes -= event_charge(&event);
        Some(event)
    }

    /// When to call [`Self::handle_timeout`]; right now (the origin) while `poll_transmit` is not
    /// drained.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_ready = !self.ready.is_empty() || !self.control.is_empty();
        if is_ready { Some(Instant::ZERO) } else { self.next_timer() }
    }

    /// The same for whoever does not drain `poll_transmit` now: when a timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, at)) = self.timers.first()
            && deadline <= now
        {
            self.timers.pop_first();
            let Some(peer) = self.peers[at].as_deref_mut() else { continue };
            peer.timer = None;
            if peer.handle_timeout(now, &mut self.shared) {
                self.evict(at);
            } else {
                self.mark_ready(at);
            }
        }
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.shared.stats
    }

    /// A look at one peer, if there is state for it.
    #[must_use]
    pub fn peer_stats(&self, peer: SocketAddr) -> Option<PeerStats> {
        Some(self.peer(peer)?.stats())
    }

    /// Bytes per second that `peer` has taken at best in the last five seconds or ten, headers with
    /// them; a bound from below, as it can have been sent less than its path carries.
    #[must_use]
    pub fn delivery_rate(&self, now: Instant, peer: SocketAddr) -> Option<u64> {
        self.peer(peer)?.delivery_rate(now)
    }

    /// Peers with state.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.by_address.len()
    }

    /// Panics when a bound or a relation between fields is broken.
    pub fn check_invariants(&self) {
        let config = &self.shared.config;
        // Who was expected before keeps its place until it is idle.
        let peers_max = config.max_peers + 2 * EXPECTED_MAX;
        assert!(self.by_address.len() <= peers_max, "too many peers");
        assert!(self.control.len() <= config.max_control_datagrams, "too many control datagrams");
        let mut held_bytes = 0;
        for (address, at) in &self.by_address {
            let peer = self.peers[*at].as_deref();
            assert!(peer.is_some_and(|peer| peer.address == *address), "{address} is misfiled");
            if let Some(peer) = peer {
                held_bytes += peer.held_bytes();
                if peer.check_invariants(config) {
                    let has_timer =
                        peer.timer.is_some_and(|at_time| self.timers.contains(&(at_time, *at)));
                    assert!(has_timer || peer.is_ready, "{address} would be forgotten");
                }
            }
        }
        let queued: usize = self.peers.iter().flatten().map(|peer| peer.outbox.live_bytes()).sum();
        assert!(queued <= self.queued_at_most, "more is queued than was counted");
        assert_eq!(held_bytes, self.shared.held_bytes, "reassembly bytes");
        assert!(held_bytes <= config.max_reassembly_bytes as u64, "reassembly over its bound");
        let event_bytes: usize = self.shared.events.iter().map(event_charge).sum();
        assert_eq!(event_bytes, self.shared.event_bytes, "event bytes");
    }

    fn handle_data(&mut self, now: Instant, from: SocketAddr, datagram: &Datagram<'_>) {
        if self.shared.event_bytes >= self.shared.config.max_event_bytes {
            self.shared.stats.refused_datagrams += 1;
            return;
        }
        let Some(at) = self.find_or_add(now, from) else {
            self.shared.stats.refused_datagrams += 1;
            return;
        };
        let epoch = datagram.header.sender_epoch;
        let Some(peer) = self.peers[at].as_deref_mut() else { return };
        match peer.remote_epoch {
            Some(known) if known != epoch => {
                self.shared.stats.stale_datagrams += 1;
                self.challenge(now, at, epoch);
            }
            None => peer.meet(now, datagram, &mut self.shared),
            Some(_) => peer.handle_data(now, datagram, &mut self.shared),
        }
        self.mark_ready(at);
    }

    /// Our datagram reached an incarnation that it was not meant for.
    fn handle_hello(&mut self, now: Instant, from: SocketAddr, header: &Header) {
        let Some(at) = self.find(from) else { return };
        let Some(peer) = self.peers[at].as_deref() else { return };
        if peer.remote_epoch.is_some_and(|known| known != header.sender_epoch) {
            self.challenge(now, at, header.sender_epoch);
        }
    }

    /// The peer knows another incarnation of ours, and asks whether we live.
    fn handle_challenge(&mut self, from: SocketAddr, datagram: &Datagram<'_>) {
        let header = datagram.header;
        if header.receiver_epoch != self.shared.local_epoch {
            self.shared.stats.stale_datagrams += 1;
            return;
        }
        self.push_control(from, Purpose::Response, header.sender_epoch, datagram.nonce());
        let Some(at) = self.find(from) else { return };
        let Some(peer) = self.peers[at].as_deref_mut() else { return };
        if *peer.remote_epoch.get_or_insert(header.sender_epoch) == header.sender_epoch {
            // It has dropped what we sent so far. The response goes first, then all of it again.
            peer.resend_all();
            self.mark_ready(at);
        }
    }

    fn handle_response(&mut self, from: SocketAddr, datagram: &Datagram<'_>) {
        let Some(at) = self.find(from) else { return };
        let Some(peer) = self.peers[at].as_deref_mut() else { return };
        let epoch = datagram.header.sender_epoch;
        let is_proof = peer
            .challenge
            .is_some_and(|asked| asked.epoch == epoch && asked.nonce == datagram.nonce());
        if is_proof && peer.remote_epoch != Some(epoch) {
            peer.switch_epoch(epoch, &mut self.shared);
            self.mark_ready(at);
        } else {
            self.shared.stats.stale_datagrams += 1;
        }
    }

    fn challenge(&mut self, now: Instant, at: usize, epoch: u64) {
        let nonce = self.rng.next_u64();
        let Some(peer) = self.peers[at].as_deref_mut() else { return };
        let to = peer.address;
        if let Some(nonce) = peer.challenge_for(now, epoch, nonce) {
            self.push_control(to, Purpose::Challenge, epoch, nonce);
        }
    }

    fn push_control(&mut self, to: SocketAddr, purpose: Purpose, receiver_epoch: u64, nonce: u64) {
        if self.control.len() >= self.shared.config.max_control_datagrams {
            return;
        }
        let header = Header {
            purpose,
            sender_epoch: self.shared.local_epoch,
            receiver_epoch,
            packet_number: 0,
        };
        self.control.push_back((to, wire::control(&header, nonce, self.shared.binding)));
    }
}

fn event_charge(event: &TransportEvent) -> usize {
    EVENT_OVERHEAD_BYTES
        + match event {
            TransportEvent::Message { bytes, .. } => bytes.len(),
            TransportEvent::PeerRestarted { .. } | TransportEvent::Unreachable { .. } => 0,
        }
}
