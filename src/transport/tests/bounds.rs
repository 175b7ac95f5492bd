//! Bounds hold, whatever arrives.

use super::*;

#[test]
fn bounds_hold_under_hostile_datagrams() {
    let config = TransportConfig {
        max_message_bytes: 1 << 20,
        max_reassembly_bytes_per_peer: 2 << 20,
        max_reassembly_bytes: 4 << 20,
        max_event_bytes: 1 << 20,
        max_peers: 8,
        max_tracked_ranges: 64,
        ..TransportConfig::for_ethernet()
    };
    let mut rng = Rng::new(8);
    let mut node = Transport::new(config, 1, 1);
    let now = Instant::from_nanos(5);
    for _ in 0..20_000 {
        let mut noise = vec![0; rng.below(2000) as usize];
        rng.fill(&mut noise);
        node.handle_datagram(now, address(rng.next_u64() as u16), &noise);
    }
    assert_eq!(node.stats().garbage_datagrams, 20_000);
    assert_eq!((node.peer_count(), node.poll_timeout()), (0, None));
    // Good checksums, hostile frames.
    for round in 0..30_000_u64 {
        let purpose = match rng.below(20) {
            0 => Purpose::Hello,
            1 => Purpose::Challenge,
            2 => Purpose::Response,
            _ => Purpose::Data,
        };
        let header = Header {
            purpose,
            sender_epoch: rng.range(1, 2),
            receiver_epoch: rng.below(3),
            packet_number: bits(&mut rng, 62),
        };
        let mut datagram = Vec::new();
        wire::put_header(&mut datagram, &header);
        hostile_frames(&mut datagram, &mut rng);
        wire::seal(&mut datagram, wire::binding_of(0));
        node.handle_datagram(now, address(rng.below(12) as u16), &datagram);
        assert!(node.peer_count() <= 8);
        if round % 100 == 0 {
            node.check_invariants();
        }
        if round % 1000 == 999 {
            while node.poll_transmit(now).is_some() {}
            while node.poll_event().is_some() {}
        }
    }
    node.check_invariants();
    assert!(node.stats().refused_datagrams > 0);
    assert!(node.stats().invalid_frames > 0);
}

/// A number of any magnitude below 2^`most`.
fn bits(rng: &mut Rng, most: u64) -> u64 {
    let width = rng.range(1, most);
    rng.below(1 << width)
}

fn hostile_frames(out: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.below(5) {
        let id = bits(rng, 61);
        let length = rng.below(60) as u16;
        match rng.below(6) {
            0 => wire::put_whole_head(out, id, length),
            1..4 => {
                let total = bits(rng, 32) as u32;
                let offset = rng.below(u64::from(total).max(1)) as u32;
                wire::put_fragment_head(out, id % 500, total, offset, length);
            }
            4 => {
                wire::put_reset(out, id);
                continue;
            }
            _ => {
                let mut received = ranges::RangeSet::default();
                for _ in 0..rng.range(1, 20) {
                    let start = bits(rng, 61);
                    received.insert(start, start + rng.range(1, 1 << 33));
                }
                wire::put_ack(out, &received, Duration::ZERO, rng.next_u64() as u32, 64);
                continue;
            }
        }
        // Sometimes less than was said.
        let short = if rng.chance(0.1) { rng.below(20) as u16 } else { 0 };
        out.extend(std::iter::repeat_n(7, usize::from(length.saturating_sub(short))));
    }
}

#[test]
fn send_is_bounded() {
    let config = TransportConfig {
        max_message_bytes: 1000,
        max_send_bytes_per_peer: 3000,
        max_messages_per_peer: 10,
        max_peers: 2,
        ..TransportConfig::default()
    };
    let mut node = Transport::new(config, 1, 1);
    let now = Instant::ZERO;
    let mut send = |to, bytes| node.send(now, address(to), &[Bytes::from(vec![1; bytes])]);
    assert!(matches!(send(1, 1001), Err(SendError::TooLarge { bytes: 1001, .. })));
    for _ in 0..3 {
        send(1, 1000).unwrap();
    }
    assert!(matches!(send(1, 1), Err(SendError::QueueFull { queued_bytes: 3000, .. })));
    for _ in 0..10 {
        send(2, 1).unwrap();
    }
    assert!(matches!(send(2, 1), Err(SendError::QueueFull { .. })));
    assert!(matches!(send(3, 1), Err(SendError::TooManyPeers { limit_count: 2 })));
    node.check_invariants();
    // A member of the cluster is not kept out by clients, and keeps nobody else's place.
    node.expect(vec![address(4)]);
    let mut send = |to, bytes| node.send(now, address(to), &[Bytes::from(vec![1; bytes])]);
    send(4, 1).unwrap();
    assert!(matches!(send(3, 1), Err(SendError::TooManyPeers { limit_count: 2 })));
    node.check_invariants();
}

#[test]
fn silent_peers_cannot_fill_the_memory_together() {
    let config = TransportConfig {
        max_message_bytes: 100_000,
        max_send_bytes_per_peer: 1 << 20,
        max_send_bytes: 4 << 20,
        ..TransportConfig::for_ethernet()
    };
    let now = Instant::from_nanos(5);
    let mut node = Transport::new(config, 1, 1);
    let value = Bytes::from(vec![7; 100_000]);
    let mut refused = 0;
    for round in 0..2000_u16 {
        let to = address(round % 100);
        match node.send(now, to, std::slice::from_ref(&value)) {
            Ok(_) => {}
            Err(SendError::AllQueuesFull { queued_bytes }) => {
                assert!(queued_bytes <= 4 << 20);
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 1900, "only {refused} were refused");
    // Who has little in its queue is still answered.
    node.send(now, address(99), &[Bytes::from_static(b"short")]).unwrap();
    node.check_invariants();
}

#[test]
fn a_slow_reader_holds_its_senders_back_and_loses_nothing() {
    let config = TransportConfig {
        max_message_bytes: 100_000,
        max_event_bytes: 100_000,
        max_reassembly_bytes_per_peer: 210_000,
        max_reassembly_bytes: 250_000,
        ..TransportConfig::for_ethernet()
    };
    let mut world = World::new(LinkConfig { loss: 0.02, ..lan() }, &config, 4);
    for port in 3..6 {
        world.start(port, 1, &config);
    }
    let mut number = 0;
    for round in 0..10 {
        for port in [A, 3, 4, 5] {
            world.send(port, B, message(number, 90_000 + round));
            number += 1;
        }
    }
    world.unread = Some(B);
    world.run_for(Duration::from_secs(3));
    // A datagram that comes below the bound may complete one large message, and those that it holds.
    let held = world.node(B).shared.event_bytes;
    assert!((100_000..100_000 + 100_000 + 65_507).contains(&held), "{held} bytes wait for it");
    assert!(world.node(B).stats().refused_datagrams > 0);
    world.unread = None;
    world.run_until(Duration::from_secs(60), |world| world.message_count(B) == 40);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.message_count(B), 40);
    assert_eq!(world.node(B).shared.held_bytes, 0);
}
