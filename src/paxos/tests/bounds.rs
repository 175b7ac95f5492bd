//! What a peer may make grow has its bound, whatever it sends.

use super::super::message::Want;
use super::super::{Message, Output};
use super::cluster::{Cluster, Flight};
use crate::config::Policy;
use crate::types::{Bytes, Slot};
use std::cell::Cell;

#[test]
fn proposals_under_way_are_bounded_in_slots_and_bytes() {
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    (config.limits.in_flight_slots, config.limits.in_flight_bytes) = (4, 1000);
    let mut cluster = Cluster::with_config(config, 1);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let can = |cluster: &Cluster, bytes: usize| {
        cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().can_propose(bytes)
    };
    for _ in 0..4 {
        assert!(can(&cluster, 100));
        cluster.propose(leader, "a", 100);
    }
    assert!(!can(&cluster, 0), "a fifth slot");
    cluster.pass(300, |_| false);
    // Nothing is under way: one value may exceed the bound alone.
    assert!(can(&cluster, 5000));
    cluster.propose(leader, "b", 600);
    assert!(can(&cluster, 400) && !can(&cluster, 401));
    cluster.pass(300, |_| false);
    assert!(can(&cluster, 401));
}

#[test]
fn requests_for_shards_beyond_the_bound_are_answered_without_them() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.propose(leader, "value", 100);
    cluster.pass(200, |_| false);
    let node = &mut cluster.nodes[usize::from(leader)];
    let (now, asker) = (cluster.now, (leader + 1) % 3);
    let paxos = node.paxos.as_mut().unwrap();
    let most = paxos.limits().gathers * 2;
    let want = Want { slot: Slot(1), is_all: true, held: None };
    // Its log does not answer meanwhile.
    for _ in 0..most + 500 {
        paxos.handle_message(now, asker, Message::Fetch { wants: vec![want; 8] });
        paxos.check_invariants();
    }
    assert_eq!(paxos.serving.len(), most);
    let (mut reads, mut refused) = (0, 0);
    while let Some(output) = paxos.poll_output(now) {
        match output {
            Output::Send { message: Message::Shards { entries, missing, .. }, .. } => {
                assert!(entries.is_empty() && missing.len() == 8);
                refused += 1;
            }
            Output::Read { .. } => reads += 1,
            Output::Persist { .. }
            | Output::ReadIndex { .. }
            | Output::Send { .. }
            | Output::Trace(_) => {}
        }
    }
    assert_eq!((reads, refused), (1, 500), "one read at a time, and each refusal is said");
}

#[test]
fn requests_for_what_is_not_applied_wait_in_bounded_number() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let (now, asker) = (cluster.now, (leader + 1) % 3);
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
    for slot in 1..5000 {
        let want = Want { slot: Slot(slot), is_all: true, held: None };
        paxos.handle_message(now, asker, Message::Fetch { wants: vec![want] });
        paxos.check_invariants();
    }
    assert_eq!(paxos.owed.len(), paxos.owed_max());
    // Applied soon, they are served unasked.
    cluster.drain(leader);
    cluster.flights.clear();
    cluster.propose(leader, "value", 100);
    let served = Cell::new(0);
    cluster.settle(|flight| {
        let Message::Shards { entries, .. } = &flight.message else { return false };
        served.set(served.get() + entries.len());
        false
    });
    assert_eq!(served.get(), 1);
}

#[test]
fn an_index_snapshot_larger_than_its_bound_is_not_taken_in() {
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    config.limits.index_bytes = 10_000;
    let mut cluster = Cluster::with_config(config, 7);
    let leader = cluster.elect();
    let from = (leader + 1) % 3;
    let now = cluster.now;
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
    // 3,000 bytes a part: the fourth is too much, whatever the sender says of their number.
    for (part_bytes, parts, kept) in [(3_000, 9, 3), (20_000, 2, 0)] {
        paxos.start_restore(now, from);
        let mut most = 0;
        for part in 0..parts {
            let bytes = Bytes::from(vec![7; part_bytes]);
            let message = Message::IndexPart { slot: Slot(90), part, parts, bytes };
            paxos.handle_message(now, from, message);
            most = most.max(paxos.restore_progress().map_or(0, |(received, _)| received));
        }
        assert_eq!(most, kept, "parts of {part_bytes} B");
        assert_eq!(paxos.restore_progress(), None, "given up");
        assert!(paxos.poll_restored().is_none());
    }
    // One within it is.
    paxos.start_restore(now, from);
    for part in 0..3 {
        let bytes = Bytes::from(vec![7; 3_000]);
        let message = Message::IndexPart { slot: Slot(90), part, parts: 3, bytes };
        paxos.handle_message(now, from, message);
    }
    assert_eq!(paxos.poll_restored().map(|index| index.bytes.len()), Some(9_000));
}

#[test]
fn a_request_for_very_many_slots_is_cut() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let (now, asker) = (cluster.now, (leader + 1) % 3);
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
    let most = paxos.wants_max();
    let want = |slot| Want { slot: Slot(slot), is_all: true, held: None };
    let wants = (1000..200_000).map(want).collect();
    paxos.handle_message(now, asker, Message::Fetch { wants });
    let mut answered = 0;
    while let Some(output) = paxos.poll_output(now) {
        if let Output::Send { message: Message::Shards { missing, .. }, .. } = output {
            answered += missing.len();
        }
    }
    assert_eq!(answered, most);
}

#[test]
fn an_acceptor_records_nothing_that_is_too_far_ahead() {
    // Rule 13: a node that lost a record of an unknown slot is silent up to so far above its last one
    // and no further. That suffices because nothing beyond was ever accepted.
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    config.limits.accept_ahead_slots = 9;
    for (ahead, is_taken) in [(9, true), (10, false), (1_000_000, false)] {
        let mut cluster = Cluster::with_config(config.clone(), 7);
        let leader = cluster.elect();
        cluster.pass(200, |_| false);
        cluster.propose(leader, "value", 100);
        let to = (leader + 1) % 3;
        let is_accept =
            |flight: &Flight| flight.to == to && matches!(flight.message, Message::Accept { .. });
        let at = cluster.flights.iter().position(is_accept).unwrap();
        let mut flight = cluster.flights.remove(at).unwrap();
        let Message::Accept { entries, .. } = &mut flight.message else { unreachable!() };
        let applied = cluster.nodes[usize::from(to)].paxos.as_ref().unwrap().applied();
        let slot = Slot(applied.0 + ahead);
        entries[0].meta.id.slot = slot;
        cluster.flights.clear();
        cluster.deliver(flight);
        cluster.sync(to);
        let node = &cluster.nodes[usize::from(to)];
        assert_eq!(node.durable.values.contains_key(&slot), is_taken, "{ahead} ahead");
        let has_acks = |flight: &Flight| {
            let Message::Accepted { acks, .. } = &flight.message else { return false };
            !acks.is_empty()
        };
        let is_told = cluster.flights.iter().any(has_acks);
        assert_eq!(is_told, is_taken, "{ahead} ahead");
    }
}
