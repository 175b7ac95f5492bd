//! Machines on a virtual clock: delivery. Restarts and bounds have files of their own.

mod bounds;
mod lives;

use super::*;
use crate::netem::{LinkConfig, Netem, NetemConfig};
use crate::time::Duration;
use std::collections::BTreeMap;

/// Machines on a virtual clock, with an emulated network between them.
struct World {
    now: Instant,
    netem: Netem,
    nodes: BTreeMap<SocketAddr, Transport>,
    events: BTreeMap<SocketAddr, Vec<TransportEvent>>,
    /// Nobody takes what it has for its node.
    unread: Option<u16>,
    steps: u64,
    seed: u64,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

const A: u16 = 1;
const B: u16 = 2;

impl World {
    fn new(link: LinkConfig, config: &TransportConfig, seed: u64) -> Self {
        let netem = Netem::new(NetemConfig { link, ..NetemConfig::default() }, seed);
        let nodes = BTreeMap::new();
        let (now, events) = (Instant::from_nanos(1_000_000), BTreeMap::new());
        let mut world = Self { now, netem, nodes, events, unread: None, steps: 0, seed };
        world.start(A, 1001, config);
        world.start(B, 2001, config);
        world
    }

    fn start(&mut self, port: u16, epoch: u64, config: &TransportConfig) {
        let transport = Transport::new(config.clone(), epoch, epoch ^ self.seed);
        self.nodes.insert(address(port), transport);
    }

    fn node(&mut self, port: u16) -> &mut Transport {
        self.nodes.get_mut(&address(port)).unwrap()
    }

    fn send(&mut self, from: u16, to: u16, bytes: Vec<u8>) -> MessageId {
        let now = self.now;
        self.node(from).send(now, address(to), &[Bytes::from(bytes)]).unwrap()
    }

    /// Hands over everything that is due now.
    fn settle(&mut self) {
        loop {
            self.flush();
            let mut is_quiet = true;
            while let Some(delivery) = self.netem.poll_deliver(self.now) {
                is_quiet = false;
                if let Some(node) = self.nodes.get_mut(&delivery.to) {
                    node.handle_datagram(self.now, delivery.from, &delivery.bytes);
                }
            }
            if is_quiet {
                return;
            }
        }
    }

    fn flush(&mut self) {
        for (from, node) in &mut self.nodes {
            while let Some(transmit) = node.poll_transmit(self.now) {
                assert!(transmit.contents.len() <= 65_507);
                assert!(transmit.contents.len().div_ceil(transmit.segment_bytes) <= 64);
                for segment in transmit.contents.chunks(transmit.segment_bytes) {
                    self.netem.handle_datagram(self.now, *from, transmit.to, segment.to_vec());
                }
            }
            if self.unread.map(address) == Some(*from) {
                continue;
            }
            let events = self.events.entry(*from).or_default();
            events.extend(std::iter::from_fn(|| node.poll_event()));
        }
    }

    /// Goes to the next time at which something happens; false when nothing will before `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            self.check_invariants();
        }
        let timers = self.nodes.values().map(Transport::poll_timeout);
        let next = timers.chain([self.netem.poll_timeout()]).flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        for node in self.nodes.values_mut() {
            node.handle_timeout(self.now);
        }
        self.settle();
        true
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.step(end) {}
        self.now = end;
        self.check_invariants();
    }

    fn run_until(&mut self, span: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.now + span;
        self.settle();
        while !done(self) {
            assert!(self.step(end), "seed {}: not done after {span:?}", self.seed);
        }
        self.check_invariants();
    }

    fn check_invariants(&self) {
        self.nodes.values().for_each(Transport::check_invariants);
        self.netem.check_invariants();
    }

    fn messages(&self, at: u16) -> Vec<Bytes> {
        let events = self.events.get(&address(at)).into_iter().flatten();
        let messages = events.filter_map(|event| match event {
            TransportEvent::Message { bytes, .. } => Some(bytes.clone()),
            TransportEvent::PeerRestarted { .. } | TransportEvent::Unreachable { .. } => None,
        });
        messages.collect()
    }

    fn message_count(&self, at: u16) -> usize {
        let events = self.events.get(&address(at)).into_iter().flatten();
        events.filter(|event| matches!(event, TransportEvent::Message { .. })).count()
    }

    fn count(&self, at: u16, wanted: &TransportEvent) -> usize {
        let events = self.events.get(&address(at)).into_iter().flatten();
        events.filter(|event| *event == wanted).count()
    }
}

/// A message that says its number and length, with contents that follow from them.
fn message(number: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes.max(8)];
    Rng::new(number).fill(&mut out);
    out[..8].copy_from_slice(&number.to_le_bytes());
    out
}

fn check_exactly_once(mut got: Vec<Bytes>, sizes: &[usize]) {
    got.sort_by_key(|bytes| u64::from_le_bytes(bytes[..8].try_into().unwrap()));
    assert_eq!(got.len(), sizes.len());
    for (number, (bytes, size)) in got.iter().zip(sizes).enumerate() {
        assert!(*bytes == message(number as u64, *size), "message {number} differs");
    }
}

fn mixed_sizes(rng: &mut Rng, count: usize) -> Vec<usize> {
    let size = |rng: &mut Rng| match rng.below(10) {
        0 => rng.range(20_000, 200_000),
        1..4 => rng.range(1000, 9000),
        _ => rng.range(8, 400),
    };
    (0..count).map(|_| size(rng) as usize).collect()
}

fn lan() -> LinkConfig {
    LinkConfig { delay_ms: 0.1, ..LinkConfig::default() }
}

/// Sends mixed messages both ways over `link`; each must arrive exactly once.
fn exchange(link: LinkConfig, config: &TransportConfig, seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let mut world = World::new(link, config, seed);
    let sizes = [mixed_sizes(&mut rng, 150), mixed_sizes(&mut rng, 150)];
    for number in 0..150 {
        world.send(A, B, message(number, sizes[0][number as usize]));
        world.send(B, A, message(number, sizes[1][number as usize]));
        if rng.chance(0.2) {
            world.run_for(Duration::from_micros(rng.below(3000)));
        }
    }
    world.run_until(Duration::from_secs(60), |world| {
        world.message_count(A) == 150 && world.message_count(B) == 150
    });
    world.run_for(Duration::from_secs(3));
    check_exactly_once(world.messages(B), &sizes[0]);
    check_exactly_once(world.messages(A), &sizes[1]);
    for port in [A, B] {
        let peer = world.node(port).peer_stats(address(A + B - port)).unwrap();
        assert_eq!((peer.queued_messages, peer.bytes_in_flight), (0, 0), "seed {seed}");
    }
    world
}

#[test]
fn messages_arrive_exactly_once_under_loss() {
    for (seed, loss) in (0..).zip([0.0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.3]) {
        for config in [TransportConfig::default(), TransportConfig::for_ethernet()] {
            exchange(LinkConfig { loss, ..lan() }, &config, seed);
        }
    }
}

#[test]
fn messages_arrive_exactly_once_over_a_terrible_network() {
    for seed in 100..112 {
        let mut rng = Rng::new(seed);
        let link = LinkConfig {
            loss: rng.unit() * 0.3,
            burst_enter: rng.unit() * 0.02,
            burst_exit: 0.2,
            burst_loss: 0.9,
            delay_ms: rng.unit() * 5.0,
            jitter_ms: rng.unit() * 3.0,
            duplicate: rng.unit() * 0.3,
            reorder: rng.unit() * 0.3,
            reorder_ms: rng.unit() * 30.0,
            corrupt: rng.unit() * 0.1,
            ..LinkConfig::default()
        };
        exchange(link, &TransportConfig::for_ethernet(), seed);
    }
}

#[test]
fn nothing_is_sent_twice_when_nothing_is_lost() {
    for delay_ms in [0.0, 0.05, 1.0, 20.0, 80.0] {
        let link = LinkConfig { delay_ms, ..LinkConfig::default() };
        let mut world = exchange(link, &TransportConfig::for_ethernet(), 9);
        for port in [A, B] {
            let stats = world.node(port).stats();
            if delay_ms < 20.0 {
                assert_eq!(stats.bytes_retransmitted, 0, "{delay_ms} ms: {stats:?}");
                assert_eq!((stats.packets_lost, stats.probe_timeouts), (0, 0), "{stats:?}");
            }
        }
    }
}

/// A message each 50 ms for as long; bytes sent again meanwhile.
fn trickle(world: &mut World, messages: u64) -> u64 {
    let before = world.node(A).stats().bytes_retransmitted;
    for number in 0..messages {
        world.send(A, B, message(number, 100));
        world.run_for(Duration::from_millis(50));
    }
    world.node(A).stats().bytes_retransmitted - before
}

#[test]
fn a_round_trip_that_grows_is_learned_from_lone_messages() {
    let mut world = World::new(lan(), &TransportConfig::default(), 9);
    assert_eq!(trickle(&mut world, 20), 0);
    let slow = LinkConfig { delay_ms: 4.0, ..LinkConfig::default() };
    for (from, to) in [(A, B), (B, A)] {
        world.netem.set_link(address(from), address(to), slow.clone());
    }
    trickle(&mut world, 10);
    assert_eq!(trickle(&mut world, 50), 0, "8 ms are known by now");
}

#[test]
fn acknowledgements_that_are_held_long_are_waited_for() {
    // As by a node whose disk takes 8 ms to sync.
    let config = TransportConfig::default();
    let mut world = World::new(lan(), &config, 9);
    world.start(B, 2002, &TransportConfig { ack_delay_us: 8000, ..config });
    trickle(&mut world, 10);
    assert_eq!(trickle(&mut world, 50), 0);
}

#[test]
fn retransmissions_are_near_what_was_lost() {
    for loss in [0.01, 0.05, 0.2] {
        let link = LinkConfig { loss, ..lan() };
        let mut world = World::new(link, &TransportConfig::for_ethernet(), 4);
        for number in 0..4000 {
            world.send(A, B, message(number, 1000));
        }
        world.run_until(Duration::from_secs(30), |world| world.message_count(B) == 4000);
        let retransmitted = world.node(A).stats().bytes_retransmitted as f64 / 4.0e6;
        let expected = loss / (1.0 - loss);
        assert!(
            (expected * 0.7..expected * 1.5 + 0.005).contains(&retransmitted),
            "{loss}: {retransmitted}"
        );
    }
}

#[test]
fn throughput_does_not_collapse_under_loss() {
    for loss in [0.0, 0.01, 0.05, 0.2] {
        let link = LinkConfig { loss, ..lan() };
        let mut world = World::new(link, &TransportConfig::for_ethernet(), 4);
        let start = world.now;
        for number in 0..8 {
            world.send(A, B, message(number, 2 << 20));
        }
        world.run_until(Duration::from_secs(60), |world| world.message_count(B) == 8);
        let rate = (16 << 20) as f64 / world.now.since(start).as_secs_f64();
        assert!(rate > 50e6, "{loss}: {rate} B/s");
    }
}

#[test]
fn the_largest_message_arrives() {
    for loss in [0.0, 0.02] {
        let mut world =
            World::new(LinkConfig { loss, ..lan() }, &TransportConfig::for_ethernet(), 2);
        world.send(A, B, message(0, 16 << 20));
        world.run_until(Duration::from_secs(60), |world| world.message_count(B) == 1);
        check_exactly_once(world.messages(B), &[16 << 20]);
    }
}

#[test]
fn parts_are_joined_and_empty_messages_arrive() {
    let mut world = World::new(lan(), &TransportConfig::default(), 2);
    let now = world.now;
    let whole = message(0, 50_000);
    let bytes = Bytes::from(whole.clone());
    let parts =
        [bytes.slice(..7), bytes.slice(7..7), bytes.slice(7..20_000), bytes.slice(20_000..)];
    world.node(A).send(now, address(B), &parts).unwrap();
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.messages(B), [whole]);
    world.node(A).send(now, address(B), &[]).unwrap();
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.messages(B)[1].len(), 0);
}

#[test]
fn a_lost_fragment_delays_no_other_message() {
    let mut world = World::new(LinkConfig::default(), &TransportConfig::for_ethernet(), 2);
    world.send(A, B, message(0, 5000));
    let now = world.now;
    let first = world.node(A).poll_transmit(now).unwrap();
    // The first fragment is lost.
    for segment in first.contents.chunks(first.segment_bytes).skip(1) {
        world.node(B).handle_datagram(now, address(A), segment);
    }
    world.send(A, B, message(1, 100));
    world.settle();
    let got = world.messages(B);
    assert_eq!(got.first().map(|bytes| bytes.len()), Some(100));
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.message_count(B), 2);
}

#[test]
fn what_is_on_its_way_is_known_at_both_ends() {
    let far = LinkConfig { delay_ms: 5.0, ..LinkConfig::default() };
    let mut world = World::new(far, &TransportConfig::for_ethernet(), 2);
    let (sent, lately) = (world.now, Duration::from_millis(5));
    world.send(A, B, message(0, 5000));
    world.run_for(Duration::from_micros(1));
    world.send(A, B, message(1, 100));
    assert_eq!(world.node(A).oldest_sent_at(address(B)), Some(sent));
    assert_eq!(world.node(B).oldest_sent_at(address(A)), None);
    let first = {
        world.send(A, B, message(2, 5000));
        let now = world.now;
        world.node(A).poll_transmit(now).unwrap()
    };
    let (now, segment) = (world.now, &first.contents[..first.segment_bytes]);
    assert!(!world.node(B).is_receiving(now, address(A), lately));
    let second = &first.contents[first.segment_bytes..2 * first.segment_bytes];
    world.node(B).handle_datagram(now, address(A), segment);
    world.node(B).handle_datagram(now, address(A), second);
    assert!(world.node(B).is_receiving(now, address(A), lately));
    assert!(!world.node(B).is_receiving(now + lately * 2, address(A), lately));
    world.run_for(Duration::from_millis(100));
    let now = world.now;
    assert_eq!((world.message_count(B), world.node(A).oldest_sent_at(address(B))), (3, None));
    assert!(!world.node(B).is_receiving(now, address(A), lately * 100));
}

#[test]
fn small_messages_share_datagrams_and_pass_large_ones() {
    let mut world = World::new(lan(), &TransportConfig::default(), 2);
    world.send(A, B, message(0, 8 << 20));
    for number in 1..1001 {
        world.send(A, B, message(number, 64));
    }
    world.run_until(Duration::from_secs(5), |world| world.message_count(B) == 1001);
    let got = world.messages(B);
    assert_eq!(got.last().unwrap().len(), 8 << 20);
    let datagrams = world.node(A).stats().datagrams_sent;
    assert!(datagrams < (8 << 20) / 8100 + 40, "{datagrams}");
}

#[test]
fn an_idle_exchange_costs_one_round_trip_and_no_handshake() {
    let mut world = World::new(
        LinkConfig { delay_ms: 5.0, ..LinkConfig::default() },
        &TransportConfig::default(),
        2,
    );
    let start = world.now;
    world.send(A, B, message(0, 100));
    world.run_until(Duration::from_secs(1), |world| world.message_count(B) == 1);
    world.send(B, A, message(0, 100));
    world.run_until(Duration::from_secs(1), |world| world.message_count(A) == 1);
    assert_eq!(world.now.since(start), Duration::from_millis(10));
    world.run_for(Duration::from_millis(100));
    let (a, b) = (world.node(A).stats(), world.node(B).stats());
    // Request, answer with its acknowledgement, acknowledgement.
    assert_eq!((a.datagrams_sent, b.datagrams_sent), (2, 1));
    let rtt = world.node(A).peer_stats(address(B)).unwrap().smoothed_rtt.unwrap();
    assert_eq!(rtt, Duration::from_millis(10));
}

#[test]
fn cancelled_messages_are_not_sent_and_free_the_receiver() {
    let mut world = World::new(lan(), &TransportConfig::for_ethernet(), 3);
    let large = world.send(A, B, message(0, 8 << 20));
    let small = world.send(A, B, message(1, 100));
    assert!(world.node(A).cancel(address(B), small));
    world.run_for(Duration::from_micros(500));
    assert!(world.node(A).cancel(address(B), large));
    assert!(!world.node(A).cancel(address(B), large));
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.message_count(B), 0);
    assert_eq!(world.node(B).shared.held_bytes, 0);
    let peer = world.node(A).peer_stats(address(B)).unwrap();
    assert_eq!((peer.queued_bytes, peer.bytes_in_flight), (0, 0));
    assert!(world.node(A).stats().bytes_sent < 2 << 20);
    world.send(A, B, message(2, 100));
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.message_count(B), 1);
}

#[test]
fn random_cancels_keep_the_books() {
    for seed in 0..10 {
        let mut rng = Rng::new(seed);
        let link = LinkConfig { loss: 0.1, duplicate: 0.1, jitter_ms: 0.1, ..lan() };
        let mut world = World::new(link, &TransportConfig::for_ethernet(), seed);
        let (mut kept, mut sent) = (Vec::new(), Vec::new());
        for number in 0..300 {
            let size = mixed_sizes(&mut rng, 1)[0];
            sent.push((number, size, world.send(A, B, message(number, size))));
            if rng.chance(0.3) {
                world.run_for(Duration::from_micros(rng.below(1000)));
            }
            if rng.chance(0.5) {
                let at = rng.below(sent.len() as u64) as usize;
                let (number, size, id) = sent.swap_remove(at);
                if !world.node(A).cancel(address(B), id) {
                    kept.push((number, size));
                }
            }
        }
        kept.extend(sent.iter().map(|(number, size, _)| (*number, *size)));
        world.run_until(Duration::from_secs(60), |world| {
            let peer = world.node(A).peer_stats(address(B)).unwrap();
            peer.queued_messages == 0
        });
        world.run_for(Duration::from_secs(1));
        let got = world.messages(B);
        for (number, size) in kept {
            let wanted = message(number, size);
            assert_eq!(got.iter().filter(|bytes| **bytes == wanted).count(), 1, "seed {seed}");
        }
        assert_eq!(world.node(B).shared.held_bytes, 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let link = LinkConfig { loss: 0.1, jitter_ms: 0.1, ..lan() };
        let mut world = exchange(link, &TransportConfig::for_ethernet(), 31);
        (world.now, world.node(A).stats(), world.node(B).stats())
    };
    assert_eq!(run(), run());
}
