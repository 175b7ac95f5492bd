//! An emulated network: datagrams go in, and come out late, twice, damaged, in another order or not
//! at all, from a seed.
//!
//! The simulator runs a whole cluster through one; a real node runs what it sends through its own. It
//! does not know what datagrams mean, and draws for each by itself, after segmentation. A datagram
//! passes its sender's card (bandwidth, drop-tail queue), then the link: partition, loss,
//! bandwidth, delay. Links and cards change at run time; what is under way then still arrives.
//! Invariant: bytes under way stay under `max_queued_bytes`. Source: tc-netem(8); burst loss is
//! Gilbert-Elliott.

mod config;

pub use config::{
    LinkConfig, LinkOverride, NetemConfig, NetemConfigError, NodeConfig, NodeOverride,
};

use crate::rng::Rng;
use crate::time::Instant;
use config::millis;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

const DEFAULT_LINK_QUEUE_BYTES: u64 = 256 << 10;
const DEFAULT_CARD_QUEUE_BYTES: u64 = 1 << 20;

/// A datagram that has come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its sender.
    pub from: SocketAddr,
    /// Its receiver.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Counters since the start, in datagrams unless named otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetemStats {
    /// Handed in.
    pub sent: u64,
    /// Bytes handed in.
    pub bytes_sent: u64,
    /// Come out, duplicates included.
    pub delivered: u64,
    /// Bytes come out.
    pub bytes_delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped at a full queue of a link, a card, or the whole.
    pub overflowed: u64,
    /// Dropped at a link that is down.
    pub partitioned: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Damaged.
    pub corrupted: u64,
    /// Held back.
    pub reordered: u64,
    /// Had to wait for a link's bandwidth.
    pub throttled: u64,
    /// Took a millisecond or more on their way behind the link's queue, duplicates included.
    pub delayed: u64,
}

impl NetemStats {
    /// Datagrams that did not come through.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.lost + self.overflowed + self.partitioned
    }
}

/// The network.
#[derive(Debug)]
pub struct Netem {
    config: NetemConfig,
    rng: Rng,
    links: BTreeMap<(SocketAddr, SocketAddr), Link>,
    cards: BTreeMap<SocketAddr, Card>,
    /// What passes untouched.
    passing: VecDeque<Delivery>,
    under_way: BinaryHeap<UnderWay>,
    queued_bytes: usize,
    sequence: u64,
    stats: NetemStats,
}

#[derive(Debug)]
struct Link {
    config: LinkConfig,
    is_clear: bool,
    /// Set at run time, so it outlives changes of the configuration.
    is_explicit: bool,
    in_burst: bool,
    shaper: Shaper,
}

#[derive(Debug)]
struct Card {
    is_explicit: bool,
    shaper: Shaper,
}

/// What a card takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardRoom {
    /// So many bytes; 0 when it is to be left alone,
    pub bytes: usize,
    /// until then.
    pub ready_at: Instant,
}

/// A bandwidth with a drop-tail queue, kept as the time at which the queue will be empty.
#[derive(Clone, Debug)]
struct Shaper {
    nanos_per_byte: f64,
    queue_bytes: u64,
    free_at: Instant,
}

#[derive(Debug)]
struct UnderWay {
    at: Instant,
    sequence: u64,
    delivery: Delivery,
}

/// A card's queue is kept this long, so that it stays busy while its node syncs,
const CARD_AHEAD: Duration = Duration::from_millis(20);
/// or as long as a datagram or two, and has room for the longest one below its bound.
const CARD_AHEAD_BYTES: f64 = 8192.0;
const LONGEST_DATAGRAM_BYTES: f64 = 65_536.0;

impl Netem {
    /// A network; everything it draws follows from `seed`.
    ///
    /// # Panics
    /// When the configuration is invalid: validate it where it is read.
    #[must_use]
    pub fn new(config: NetemConfig, seed: u64) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        Self {
            config,
            rng: Rng::new(seed),
            links: BTreeMap::new(),
            cards: BTreeMap::new(),
            passing: VecDeque::new(),
            under_way: BinaryHeap::new(),
            queued_bytes: 0,
            sequence: 0,
            stats: NetemStats::default(),
        }
    }

    /// Changes one link from now on.
    ///
    /// # Panics
    /// When `link` is invalid.
    pub fn set_link(&mut self, from: SocketAddr, to: SocketAddr, link: LinkConfig) {
        if let Err(error) = link.validate() {
            panic!("{error}");
        }
        match self.links.get_mut(&(from, to)) {
            Some(known) => known.change(link, true),
            None => {
                self.links.insert((from, to), Link::new(link, true));
            }
        }
    }

    /// Cuts one direction of a link, or heals it.
    pub fn set_down(&mut self, from: SocketAddr, to: SocketAddr, down: bool) {
        let link = LinkConfig { down, ..self.link(from, to).clone() };
        self.set_link(from, to, link);
    }

    /// Changes every link that was not set by itself, dropping the configured overrides.
    ///
    /// # Panics
    /// When `link` is invalid.
    pub fn set_default_link(&mut self, link: LinkConfig) {
        if let Err(error) = link.validate() {
            panic!("{error}");
        }
        self.config.links.clear();
        for known in self.links.values_mut().filter(|known| !known.is_explicit) {
            known.change(link.clone(), false);
        }
        self.config.link = link;
    }

    /// Changes one node's card from now on.
    pub fn set_card(&mut self, node: SocketAddr, card: &NodeConfig) {
        let shaper = Shaper::new(card.rate_mbit, card.queue_bytes, DEFAULT_CARD_QUEUE_BYTES);
        self.cards.insert(node, Card { is_explicit: true, shaper });
    }

    /// How the link from `from` to `to` behaves now.
    #[must_use]
    pub fn link(&self, from: SocketAddr, to: SocketAddr) -> &LinkConfig {
        match self.links.get(&(from, to)) {
            Some(link) => &link.config,
            None => self.config.link_between(from, to),
        }
    }

    /// True when datagrams from `from` to `to` pass untouched and at once.
    pub fn is_clear(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        self.card_mut(from).nanos_per_byte == 0.0 && self.link_mut(from, to).is_clear
    }

    /// What the card of `node` takes now without a queue of more than about 20 ms. A host holds back
    /// what its card does not take; whoever sends on loses what is above the queue's bound.
    pub fn card_room(&mut self, now: Instant, node: SocketAddr) -> CardRoom {
        self.card_mut(node).room(now)
    }

    /// Takes in one datagram.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    ) {
        self.stats.sent += 1;
        self.stats.bytes_sent += bytes.len() as u64;
        let delivery = Delivery { from, to, bytes };
        if self.is_clear(from, to) {
            self.passing.push_back(delivery);
            return;
        }
        if self.queued_bytes + delivery.bytes.len() > self.config.max_queued_bytes {
            self.stats.overflowed += 1;
            return;
        }
        let Some(leaves_card) = self.card_mut(from).pass(now, delivery.bytes.len()) else {
            self.stats.overflowed += 1;
            return;
        };
        self.pass_link(leaves_card, delivery);
    }

    /// The next datagram that is due, in order of time.
    pub fn poll_deliver(&mut self, now: Instant) -> Option<Delivery> {
        let delivery = match self.passing.pop_front() {
            Some(delivery) => delivery,
            None => {
                if self.under_way.peek()?.at > now {
                    return None;
                }
                let delivery = self.under_way.pop()?.delivery;
                self.queued_bytes -= delivery.bytes.len();
                delivery
            }
        };
        self.stats.delivered += 1;
        self.stats.bytes_delivered += delivery.bytes.len() as u64;
        Some(delivery)
    }

    /// When [`Self::poll_deliver`] has something; the origin when it has something right now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.passing.is_empty() {
            return Some(Instant::ZERO);
        }
        self.under_way.peek().map(|under_way| under_way.at)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> NetemStats {
        self.stats
    }

    /// Panics when the bytes under way are miscounted or over their bound.
    pub fn check_invariants(&self) {
        let bytes: usize = self.under_way.iter().map(|u| u.delivery.bytes.len()).sum();
        assert_eq!(bytes, self.queued_bytes, "bytes under way");
        assert!(bytes <= self.config.max_queued_bytes, "bytes under way over their bound");
    }

    fn pass_link(&mut self, now: Instant, mut delivery: Delivery) {
        let mut rng = self.rng.clone();
        let link = self.link_mut(delivery.from, delivery.to);
        let config = link.config.clone();
        let is_lost = !config.down && link.draws_loss(&mut rng);
        let passed =
            if config.down || is_lost { None } else { link.shaper.pass(now, delivery.bytes.len()) };
        match passed {
            None if config.down => self.stats.partitioned += 1,
            None if is_lost => self.stats.lost += 1,
            None => self.stats.overflowed += 1,
            Some(leaves_link) => {
                self.stats.throttled += u64::from(leaves_link > now);
                if rng.chance(config.duplicate) {
                    self.stats.duplicated += 1;
                    let at = leaves_link + self.draw_delay(&config, &mut rng);
                    self.enqueue(at, delivery.clone());
                }
                if rng.chance(config.corrupt) && !delivery.bytes.is_empty() {
                    self.stats.corrupted += 1;
                    corrupt(&mut delivery.bytes, &mut rng);
                }
                let at = leaves_link + self.draw_delay(&config, &mut rng);
                self.enqueue(at, delivery);
            }
        }
        self.rng = rng;
    }

    fn draw_delay(&mut self, config: &LinkConfig, rng: &mut Rng) -> Duration {
        let spread = (rng.unit() * 2.0 - 1.0) * config.jitter_ms;
        let held = rng.chance(config.reorder);
        self.stats.reordered += u64::from(held);
        let delay = millis(config.delay_ms + spread + if held { config.reorder_ms } else { 0.0 });
        self.stats.delayed += u64::from(delay >= Duration::from_millis(1));
        delay
    }

    fn enqueue(&mut self, at: Instant, delivery: Delivery) {
        self.sequence += 1;
        if self.queued_bytes + delivery.bytes.len() > self.config.max_queued_bytes {
            self.stats.overflowed += 1;
            return;
        }
        self.queued_bytes += delivery.bytes.len();
        self.under_way.push(UnderWay { at, sequence: self.sequence, delivery });
    }

    fn link_mut(&mut self, from: SocketAddr, to: SocketAddr) -> &mut Link {
        if self.links.len() >= self.config.max_links && !self.links.contains_key(&(from, to)) {
            self.links.retain(|_, link| link.is_explicit);
        }
        let config = &self.config;
        self.links
            .entry((from, to))
            .or_insert_with(|| Link::new(config.link_between(from, to).clone(), false))
    }

    fn card_mut(&mut self, node: SocketAddr) -> &mut Shaper {
        if self.cards.len() >= self.config.max_links && !self.cards.contains_key(&node) {
            self.cards.retain(|_, card| card.is_explicit);
        }
        let config = &self.config;
        let card = self.cards.entry(node).or_insert_with(|| {
            let card = config.card_of(node);
            let shaper = Shaper::new(card.rate_mbit, card.queue_bytes, DEFAULT_CARD_QUEUE_BYTES);
            Card { is_explicit: false, shaper }
        });
        &mut card.shaper
    }
}

impl Link {
    fn new(config: LinkConfig, is_explicit: bool) -> Self {
        let shaper = Shaper::new(config.rate_mbit, config.queue_bytes, DEFAULT_LINK_QUEUE_BYTES);
        Self { is_clear: config.is_clear(), config, is_explicit, in_burst: false, shaper }
    }

    /// Takes on another configuration; what waits for the bandwidth keeps its place.
    fn change(&mut self, config: LinkConfig, is_explicit: bool) {
        let free_at = self.shaper.free_at;
        *self = Self::new(config, is_explicit);
        self.shaper.free_at = free_at;
    }

    fn draws_loss(&mut self, rng: &mut Rng) -> bool {
        let config = &self.config;
        if config.burst_enter > 0.0 || self.in_burst {
            let turns = if self.in_burst { config.burst_exit } else { config.burst_enter };
            self.in_burst ^= rng.chance(turns);
        }
        rng.chance(if self.in_burst { config.burst_loss } else { config.loss })
    }
}

impl Shaper {
    fn new(rate_mbit: f64, queue_bytes: u64, default_queue_bytes: u64) -> Self {
        let nanos_per_byte = if rate_mbit > 0.0 { 8000.0 / rate_mbit } else { 0.0 };
        let queue_bytes = if queue_bytes == 0 { default_queue_bytes } else { queue_bytes };
        Self { nanos_per_byte, queue_bytes, free_at: Instant::ZERO }
    }

    #[expect(clippy::cast_possible_truncation, reason = "what a card sends in milliseconds")]
    fn room(&self, now: Instant) -> CardRoom {
        if self.nanos_per_byte == 0.0 {
            return CardRoom { bytes: usize::MAX, ready_at: now };
        }
        let time = |bytes: f64| Duration::from_secs_f64(bytes * self.nanos_per_byte / 1e9);
        let most = time((self.queue_bytes as f64 - LONGEST_DATAGRAM_BYTES).max(CARD_AHEAD_BYTES));
        let ahead = time(CARD_AHEAD_BYTES).max(CARD_AHEAD).min(most);
        let waiting = self.free_at.since(now);
        let room = ahead.saturating_sub(waiting).as_nanos() as f64 / self.nanos_per_byte;
        // Half of it, so that not every datagram wakes its sender.
        CardRoom { bytes: room as usize, ready_at: now + waiting.saturating_sub(ahead / 2) }
    }

    /// When `bytes` that come at `now` are through, or `None` when the queue is full.
    fn pass(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        if self.nanos_per_byte == 0.0 {
            return Some(now);
        }
        let waiting = self.free_at.since(now);
        let queued_bytes = waiting.as_nanos() as f64 / self.nanos_per_byte;
        if queued_bytes > 0.0 && queued_bytes + bytes as f64 > self.queue_bytes as f64 {
            return None;
        }
        let busy = Duration::from_secs_f64(bytes as f64 * self.nanos_per_byte / 1e9);
        self.free_at = self.free_at.max(now) + busy;
        Some(self.free_at)
    }
}

impl PartialEq for UnderWay {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for UnderWay {}

impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnderWay {
    /// Reversed: the heap's largest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

fn corrupt(bytes: &mut [u8], rng: &mut Rng) {
    for _ in 0..rng.range(1, 3) {
        let bit = rng.below(bytes.len() as u64 * 8);
        let at = usize::try_from(bit / 8).expect("below the length");
        bytes[at] ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests;
