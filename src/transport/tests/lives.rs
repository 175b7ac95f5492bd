//! Peers that restart, vanish and come back.

use super::*;

#[test]
fn a_restarted_peer_is_noticed_and_nothing_old_reaches_it() {
    for seed in 0..20 {
        let config = TransportConfig::for_ethernet();
        let mut rng = Rng::new(seed);
        let link = LinkConfig {
            loss: rng.unit() * 0.2,
            duplicate: 0.2,
            jitter_ms: 1.0,
            reorder: 0.2,
            reorder_ms: 50.0,
            ..lan()
        };
        let mut world = World::new(link, &config, seed);
        for life in 0..4 {
            for number in 0..20 {
                world.send(A, B, message(life * 100 + number, 3000));
                world.send(B, A, message(life * 100 + number, 3000));
            }
            world.run_for(Duration::from_micros(rng.below(20_000)));
            world.events.clear();
            world.start(B, 2002 + life, &config);
            if rng.chance(0.5) {
                world.send(B, A, message(9000 + life, 3000));
            }
            world.send(A, B, message(life * 100 + 50, 10));
            let restarted = TransportEvent::PeerRestarted { peer: address(B) };
            world.run_until(Duration::from_secs(10), |world| {
                let is_known =
                    world.node(A).stats().peer_restarts > life || world.message_count(B) > 0;
                is_known && world.node(A).peer_stats(address(B)).unwrap().queued_messages == 0
            });
            world.run_for(Duration::from_millis(200));
            assert!(world.count(A, &restarted) <= 1, "seed {seed}");
            let mut got = world.messages(B);
            let before = got.len();
            got.sort();
            got.dedup();
            assert_eq!(got.len(), before, "seed {seed}: delivered twice in one life");
            // The new pair works both ways.
            world.events.clear();
            world.send(A, B, message(70, 5000));
            world.send(B, A, message(71, 5000));
            world.run_until(Duration::from_secs(10), |world| {
                world.messages(A).contains(&Bytes::from(message(71, 5000)))
                    && world.messages(B).contains(&Bytes::from(message(70, 5000)))
            });
        }
    }
}

#[test]
fn a_restart_costs_one_challenge_and_its_message_is_kept() {
    let mut world = World::new(lan(), &TransportConfig::default(), 3);
    world.send(A, B, message(0, 100));
    world.send(B, A, message(0, 100));
    world.run_for(Duration::from_millis(10));
    world.send(A, B, message(1, 40_000));
    world.settle();
    world.start(B, 7, &TransportConfig::default());
    let start = world.now;
    world.send(B, A, message(1, 100));
    world.run_until(Duration::from_secs(1), |world| world.message_count(A) == 2);
    assert!(world.now.since(start) <= Duration::from_micros(300));
    assert_eq!(world.count(A, &TransportEvent::PeerRestarted { peer: address(B) }), 1);
    assert_eq!(world.node(A).stats().messages_dropped, 1);
}

#[test]
fn old_datagrams_do_not_undo_a_restart() {
    let config = TransportConfig::default();
    let mut world = World::new(LinkConfig::default(), &config, 3);
    let now = world.now;
    // Two datagrams of B's first life, one from before it knew A, one from after; kept by the network.
    world.send(B, A, message(0, 100));
    let early = world.node(B).poll_transmit(now).unwrap();
    world.send(A, B, message(0, 100));
    world.run_for(Duration::from_millis(30));
    let now = world.now;
    world.send(B, A, message(1, 100));
    let late = world.node(B).poll_transmit(now).unwrap();
    world.start(B, 5, &config);
    world.send(B, A, message(2, 100));
    world.settle();
    assert_eq!(world.count(A, &TransportEvent::PeerRestarted { peer: address(B) }), 1);
    let before = world.message_count(A);
    for old in [&early, &late, &early, &late] {
        world.node(A).handle_datagram(now, address(B), &old.contents);
        world.run_for(Duration::from_millis(50));
    }
    assert_eq!(world.message_count(A), before);
    assert_eq!(world.count(A, &TransportEvent::PeerRestarted { peer: address(B) }), 1);
    world.send(A, B, message(3, 100));
    world.send(B, A, message(3, 100));
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.message_count(A), before + 1);
    assert_eq!(world.messages(B).last().unwrap(), &message(3, 100));
}

#[test]
fn what_waits_for_a_peer_that_starts_goes_when_it_speaks() {
    let mut world = World::new(LinkConfig::default(), &TransportConfig::default(), 3);
    world.nodes.remove(&address(B));
    world.send(A, B, message(0, 100));
    // Timeouts of 91, 182, 364 ms: the next is due after 1.1 s.
    world.run_for(Duration::from_millis(700));
    world.start(B, 2001, &TransportConfig::default());
    let start = world.now;
    world.send(B, A, message(1, 100));
    world.run_until(Duration::from_secs(1), |world| world.message_count(B) == 1);
    assert!(world.now.since(start) <= Duration::from_millis(1));
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.message_count(A), world.message_count(B)), (1, 1));
}

#[test]
fn a_peer_that_is_slow_to_speak_is_not_sent_everything_twice() {
    // Its first datagram acknowledges what had timed out on the way.
    let link = LinkConfig { delay_ms: 60.0, ..LinkConfig::default() };
    let mut world = World::new(link, &TransportConfig::default(), 3);
    world.send(A, B, message(0, 100));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.message_count(B), 1);
    let stats = world.node(A).stats();
    assert_eq!(stats.probe_timeouts, 1, "30 ms are assumed of a round trip of 120: {stats:?}");
    assert_eq!(stats.datagrams_sent, 2, "{stats:?}");
}

#[test]
fn an_unreachable_peer_is_reported_once_tried_slowly_and_reached_again() {
    let mut world = World::new(lan(), &TransportConfig::default(), 3);
    world.netem.set_down(address(A), address(B), true);
    world.send(A, B, message(0, 100));
    world.run_for(Duration::from_secs(10));
    let unreachable = TransportEvent::Unreachable { peer: address(B) };
    assert_eq!(world.count(A, &unreachable), 1);
    assert!(world.node(A).stats().datagrams_sent < 40);
    world.netem.set_down(address(A), address(B), false);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.message_count(B), 1);
    world.netem.set_down(address(A), address(B), true);
    world.send(A, B, message(1, 100_000));
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.count(A, &unreachable), 2);
    assert_eq!(world.node(A).stats().messages_dropped, 1);
    assert_eq!(world.node(A).peer_stats(address(B)).unwrap().queued_bytes, 0);
}

#[test]
fn what_nobody_acknowledges_is_given_up_and_forgotten_however_small() {
    let mut world = World::new(lan(), &TransportConfig::default(), 3);
    world.nodes.remove(&address(B));
    world.send(A, B, message(0, 100));
    world.run_for(Duration::from_secs(40));
    assert_eq!(world.node(A).stats().messages_dropped, 1);
    let sent = world.node(A).stats().datagrams_sent;
    world.run_for(Duration::from_secs(700));
    assert_eq!(world.node(A).stats().datagrams_sent, sent);
    assert_eq!(world.node(A).peer_count(), 0);
}

#[test]
fn a_full_table_of_peers_lets_the_silent_ones_go() {
    let config = TransportConfig { max_peers: 3, ..TransportConfig::default() };
    let mut world = World::new(lan(), &config, 3);
    let now = world.now;
    let send = |world: &mut World, to: u16| {
        let (now, to) = (world.now, address(to));
        world.node(A).send(now, to, &[Bytes::from(message(0, 100))]).is_ok()
    };
    assert!((10..13).all(|to| send(&mut world, to)) && !send(&mut world, 13));
    // They do not answer: what was sent is given up, and they are silent for a minute.
    world.run_for(Duration::from_secs(60));
    assert!(!send(&mut world, 13), "{:?}", world.now.since(now));
    world.run_for(Duration::from_secs(60));
    assert!((13..16).all(|to| send(&mut world, to)) && !send(&mut world, 16));
    world.run_for(Duration::from_secs(1));
}

#[test]
fn a_steady_sender_notices_that_nobody_answers() {
    let mut world = World::new(lan(), &TransportConfig::default(), 3);
    world.send(A, B, message(0, 100));
    world.run_for(Duration::from_millis(100));
    world.netem.set_down(address(A), address(B), true);
    // More often than any timeout.
    for number in 1..600 {
        world.send(A, B, message(number, 100));
        world.run_for(Duration::from_millis(1));
    }
    assert_eq!(world.count(A, &TransportEvent::Unreachable { peer: address(B) }), 1);
}

#[test]
fn idle_state_goes_and_a_later_message_still_arrives_once() {
    let config = TransportConfig { idle_ms: 60_000, ..TransportConfig::default() };
    let mut world = World::new(lan(), &config, 3);
    // B keeps its state: its own timer is longer.
    world.start(B, 2002, &TransportConfig::default());
    for round in 1..4 {
        world.send(A, B, message(round, 100));
        world.send(A, B, message(round, 20_000));
        world.run_for(Duration::from_secs(100));
        assert_eq!(world.node(A).peer_count(), 0);
        assert_eq!(world.node(B).peer_count(), 1);
        assert_eq!(world.message_count(B) as u64, 2 * round);
    }
}
