//! What a disk has lost, or holds and was never chosen: neither is answered for (rules 13 and 14).

use super::super::{Message, PromiseEntry};
use super::cluster::{Cluster, Flight};
use super::findings::pass_for;
use crate::config::Policy;
use crate::types::{Ballot, Slot};
use std::cell::Cell;

#[test]
fn what_a_disk_has_lost_does_not_count_as_held() {
    // A node said after a restart that it held everything up to its mark durably, a lost record
    // included, so that a change of members could have counted on it.
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    let lost = cluster.propose(leader, "a", 700).slot;
    let durable = |cluster: &Cluster, node: u8| {
        cluster.nodes[usize::from(node)].paxos.as_ref().unwrap().durable()
    };
    for text in ["bb", "ccc"] {
        cluster.pass(300, |_| false);
        cluster.propose(leader, text, 700);
    }
    cluster.pass(300, |_| false);
    let node = (leader + 1) % 3;
    assert!(durable(&cluster, node) >= lost);
    cluster.crash(node);
    cluster.nodes[usize::from(node)].durable.values.remove(&lost);
    cluster.start(node);
    assert!(durable(&cluster, node) < lost, "{}", durable(&cluster, node));
    // It is fetched again, and counts when the next records are durable.
    cluster.pass(3000, |_| false);
    let last = cluster.propose(leader, "dddd", 700).slot;
    cluster.pass(300, |_| false);
    assert!(cluster.nodes[usize::from(node)].durable.values.contains_key(&lost));
    cluster.propose(leader, "eeeee", 700);
    cluster.pass(300, |_| false);
    assert!(durable(&cluster, node) >= last);
}

#[test]
fn an_older_record_does_not_answer_for_a_slot_known_to_be_chosen() {
    // A node that knew a slot chosen, and had not come to it, answered with whatever record of it was
    // left on its disk (rule 13).
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let (behind, next) = ((leader + 1) % 3, (leader + 2) % 3);
    let first = cluster.propose(leader, "a", 90).slot;
    let is_lost = move |flight: &Flight| {
        let brings = if let Message::Accept { entries, .. } = &flight.message {
            entries.iter().any(|of| of.meta.slot() == first)
        } else {
            matches!(flight.message, Message::Shards { .. })
        };
        flight.to == behind && brings
    };
    cluster.settle(is_lost);
    let second = cluster.propose(leader, "bb", 90).slot;
    cluster.pass(200, is_lost);
    let node = &mut cluster.nodes[usize::from(behind)];
    assert_eq!(node.paxos.as_ref().unwrap().applied().next(), first);
    for log in [&mut node.written, &mut node.durable] {
        log.values.get_mut(&second).unwrap().0 = Ballot::ZERO;
    }
    cluster.crash(leader);
    let answer = Cell::new(None);
    pass_for(&mut cluster, &[next], 4000, |flight| {
        if let (true, Message::Promise(promise)) = (flight.from == behind, &flight.message) {
            let is_faulty =
                |of: &PromiseEntry| matches!(of, PromiseEntry::Faulty { slot } if *slot == second);
            answer.set(Some(promise.entries.iter().any(is_faulty)));
        }
        is_lost(flight)
    });
    assert_eq!(answer.get(), Some(true));
}

#[test]
fn the_floor_of_an_installed_snapshot_is_durable_before_the_snapshot_counts() {
    // It rose in memory alone: after a restart what had never been chosen was read, and told to
    // others, for slots that the snapshot stood for.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let (node, now) = ((leader + 1) % 3, cluster.now);
    let paxos = cluster.nodes[usize::from(node)].paxos.as_mut().unwrap();
    let (base, epochs) = (Slot(90), paxos.applied_epochs().clone());
    assert!(paxos.install(now, base, epochs));
    paxos.persist_index(base, Vec::new(), false);
    cluster.drain(node);
    let floor = |cluster: &Cluster| cluster.nodes[usize::from(node)].written.floor;
    assert_eq!(floor(&cluster), Slot::ZERO, "an older snapshot counts until it is all there");
    let paxos = cluster.nodes[usize::from(node)].paxos.as_mut().unwrap();
    paxos.persist_index(base, Vec::new(), true);
    cluster.drain(node);
    cluster.sync(node);
    assert_eq!(floor(&cluster), base);
    cluster.crash(node);
    cluster.start(node);
    assert_eq!(cluster.nodes[usize::from(node)].paxos.as_ref().unwrap().floor(), base);
}
