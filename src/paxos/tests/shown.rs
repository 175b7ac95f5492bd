//! Courses that `tests/mutants` runs too, with the rule broken that each shows: what a disk has lost,
//! or holds and was never chosen, and leaders behind others. Names nothing but what is public.

use super::cluster::{Cluster, Flight};
use crate::config::Policy;
use crate::paxos::{Begun, Message, Paxos, PromiseEntry, RoleName};
use crate::types::{Ballot, Slot};
use std::cell::Cell;
use std::time::Duration;

#[test]
pub fn what_a_disk_has_lost_does_not_count_as_held() {
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
    let said = durable(&cluster, node);
    assert!(said < lost, "durability: {lost} is lost, and everything up to {said} held");
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
pub fn an_older_record_does_not_answer_for_a_slot_known_to_be_chosen() {
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
    cluster.pass_for(&[next], 4000, |flight| {
        if let (true, Message::Promise(promise)) = (flight.from == behind, &flight.message) {
            let is_faulty =
                |of: &PromiseEntry| matches!(of, PromiseEntry::Faulty { slot } if *slot == second);
            answer.set(Some(promise.entries.iter().any(is_faulty)));
        }
        is_lost(flight)
    });
    assert_eq!(answer.get(), Some(true), "durability: of {second} an older record answers");
}

#[test]
pub fn the_floor_of_an_installed_snapshot_is_durable_before_the_snapshot_counts() {
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
    assert_eq!(floor(&cluster), base, "durability: the floor");
    cluster.crash(node);
    cluster.start(node);
    assert_eq!(cluster.nodes[usize::from(node)].paxos.as_ref().unwrap().floor(), base);
}

/// A cluster of three whose leader lacks the slots that the two others have applied; by the seed, or
/// not, since the other one may lead first.
fn led_by_the_late_one(seed: u64) -> Option<(Cluster, u8)> {
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    config.limits.accept_ahead_slots = 3;
    // Every slot is sent by itself, so that one can be missing.
    config.limits.page_bytes = 1;
    let mut cluster = Cluster::with_config(config, seed);
    let first = cluster.elect();
    let late = (first + 1) % 3;
    let is_late = |flight: &Flight| flight.to == late || flight.from == late;
    for text in ["a", "b", "c", "d", "e"] {
        cluster.propose(first, text, 20);
        cluster.settle(is_late);
    }
    cluster.pass(100, is_late);
    // The late one is made leader; it gets nothing of what it lacks yet.
    let is_missing =
        |flight: &Flight| flight.to == late && matches!(flight.message, Message::Shards { .. });
    cluster.crash(first);
    for _ in 0..100 {
        cluster.pass(25, is_missing);
        if cluster.leader().is_some_and(|rank| rank != first) {
            break;
        }
        // Only the late one asks: the other's timer is put off.
        let other = 3 - first - late;
        cluster.flights.retain(|flight| flight.from != other);
    }
    cluster.start(first);
    (cluster.leader() == Some(late)).then_some((cluster, late))
}

#[test]
pub fn what_is_too_far_above_a_node_is_offered_when_it_has_come_nearer() {
    // Found by the simulator (seed 201 of its time): two of three nodes refused what was proposed, far
    // above what they had applied, and were offered it again by the clock alone, after twice as long
    // each time: at last a minute.
    let (mut cluster, late) =
        (0..50).find_map(led_by_the_late_one).expect("in half of all seeds the late one leads");
    let is_missing =
        |flight: &Flight| flight.to == late && matches!(flight.message, Message::Shards { .. });
    for text in ["f", "g", "h", "i", "j", "k", "l", "m", "n"] {
        cluster.propose(late, text, 20);
    }
    let others: Vec<u8> = (0..3).filter(|rank| *rank != late).collect();
    cluster.pass(800, is_missing);
    let last = cluster.chosen.last_key_value().map(|(slot, _)| *slot);
    assert_eq!(last, Some(Slot(14)), "progress: in threes, as they come nearer");
    // The leader itself comes nearer, and is needed: the others are one too few.
    let id = cluster.propose(late, "o", 20);
    cluster.crash(others[0]);
    cluster.pass(1000, |_| false);
    assert!(cluster.chosen.contains_key(&id.slot), "progress: by the leader, too");
    assert_eq!(cluster.texts(late).len(), 15);
}

#[test]
pub fn a_lease_does_not_serve_what_is_behind_the_commit() {
    // Found by the simulator (seed 1834 of its time): a leader that lacked earlier slots did not
    // accept its own proposals, others did, applied them and answered their clients; the leader read
    // from its older state by its lease.
    let (mut cluster, late) =
        (0..50).find_map(led_by_the_late_one).expect("in half of all seeds the late one leads");
    let is_missing =
        |flight: &Flight| flight.to == late && matches!(flight.message, Message::Shards { .. });
    cluster.propose(late, "f", 20);
    cluster.pass(200, is_missing);
    let paxos = |cluster: &Cluster| {
        cluster.nodes[usize::from(late)]
            .paxos
            .as_ref()
            .map(|paxos| (paxos.applied(), paxos.commit(), paxos.holds_lease(cluster.now)))
    };
    // Now all but the last one comes.
    let is_last = |flight: &Flight| {
        let Message::Shards { entries, .. } = &flight.message else { return false };
        flight.to == late && entries.iter().any(|entry| entry.meta.slot() == Slot(6))
    };
    let mut is_behind = false;
    for _ in 0..200 {
        cluster.pass(25, is_last);
        let Some((applied, commit, holds_lease)) = paxos(&cluster) else { continue };
        is_behind |= applied >= Slot(5) && applied < commit;
        assert!(!holds_lease || applied >= commit, "{applied} of {commit} served by lease");
    }
    assert!(is_behind, "the leader was never behind: {:?}", paxos(&cluster));
}

/// `old` alone applies "a", which `missed` is not sent. Then, alone, it steps down, and `next` leads
/// with its promise and without a word of `other`.
fn lead_behind(cluster: &mut Cluster, old: u8, next: u8, other: u8, missed: u8) {
    cluster.pass(200, |_| false);
    cluster.propose(old, "a", 900);
    let is_entry = |message: &Message| {
        let Message::Accept { entries, .. } = message else { return false };
        !entries.is_empty()
    };
    cluster
        .settle(|flight| flight.to == missed || flight.from == old && !is_entry(&flight.message));
    let have: Vec<u8> =
        (0..cluster.count()).filter(|node| !cluster.texts(*node).is_empty()).collect();
    assert_eq!(have, [old]);
    cluster.pass_for(&[old], 3000, |_| true);
    let is_leader = |cluster: &Cluster| {
        let paxos = cluster.nodes[usize::from(next)].paxos.as_ref().unwrap();
        paxos.role() == RoleName::Leader
    };
    for _ in 0..400 {
        cluster.pass_for(&[next], 25, |flight| [flight.from, flight.to].contains(&other));
        if is_leader(cluster) {
            break;
        }
    }
    assert!(is_leader(cluster) && cluster.texts(next).is_empty(), "the course is another one");
}

#[test]
pub fn a_value_that_the_old_leader_alone_applied_reaches_the_next() {
    // The course of the simulator's seed 23744: the next leader lacks the value and proposes nothing
    // in its slot, as an applied one (rule 5); one shard is with whoever applied it, the others with
    // nodes that do not know that it is chosen, and serve what they have applied alone. They hear it
    // from the next leader's commit, and then have it confirmed without a shard being sent.
    let mut cluster = Cluster::new(Policy::Craft, 2, 4);
    let old = cluster.elect();
    let [next, other] = [1, 3].map(|step| (old + step) % 4);
    lead_behind(&mut cluster, old, next, other, next);
    cluster.pass(3000, |_| false);
    let leader = cluster.elect();
    cluster.propose(leader, "b", 900);
    cluster.pass(1000, |_| false);
    for node in 0..4 {
        assert_eq!(cluster.texts(node), ["a", "b"], "n{node}");
    }
}

#[test]
pub fn no_read_is_confirmed_behind_members_that_the_leader_does_not_go_by_yet() {
    // Between applying the entry and leaving its leadership a leader confirmed reads by the old
    // members, when the new ones could have decided behind it.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let newcomer = cluster.add_node();
    while cluster.change(leader, Some(newcomer), None, (1, 3)) == Begun::NotYet {
        cluster.pass(100, |_| false);
    }
    let is_behind = |paxos: &Paxos| {
        let applied = &paxos.applied_epochs().current;
        applied.members.len() > paxos.configuration().members.len()
    };
    let mut has_been = false;
    for _ in 0..400 {
        cluster.tick(Duration::from_millis(25));
        // What the leader proposed is durable there before the others' answers come.
        cluster.sync(leader);
        while let Some(flight) = cluster.flights.pop_front() {
            let to = flight.to;
            if to != leader {
                cluster.deliver(flight);
                cluster.sync(to);
                continue;
            }
            let now = cluster.now;
            let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
            paxos.handle_message(now, flight.from, flight.message);
            if is_behind(paxos) {
                has_been = true;
                assert_eq!(paxos.confirmed_sequence(), 0, "reads: confirmed by who has left");
            }
            cluster.drain(leader);
            cluster.sync(leader);
        }
        if has_been {
            return;
        }
    }
    panic!("the change was never seen between applied and gone by");
}

#[test]
pub fn what_the_old_leader_alone_applied_is_recovered_when_it_is_gone() {
    // The next leader has the old one's promise, which says that the slot is applied (rule 5), and the
    // old one dies before it sends it. Who accepted it serves nothing that it has not applied: the
    // leader waited for ever, and was heard.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let old = cluster.elect();
    let [next, other] = [1, 2].map(|step| (old + step) % 3);
    lead_behind(&mut cluster, old, next, other, other);
    cluster.crash(old);
    cluster.pass(5000, |_| false);
    let leader = cluster.elect();
    cluster.propose(leader, "b", 90);
    cluster.pass(1000, |_| false);
    for node in [next, other] {
        assert_eq!(cluster.texts(node), ["a", "b"], "progress: n{node}");
    }
}

#[test]
pub fn nothing_is_accepted_so_far_ahead_that_its_loss_would_go_unnoticed() {
    // Who has lost a record of nobody knows which slot is silent up to `accept_ahead_slots` above its
    // last one (rule 13), and further up counts as somebody who has accepted nothing.
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    config.limits.accept_ahead_slots = 4;
    let mut cluster = Cluster::with_config(config, 7);
    let old = cluster.elect();
    cluster.pass(200, |_| false);
    let [far, near] = [1, 2].map(|step| (old + step) % 3);
    let is_value =
        |message: &Message| matches!(message, Message::Accept { .. } | Message::Shards { .. });
    let is_kept_from_far = |flight: &Flight| flight.to == far && is_value(&flight.message);
    for text in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        cluster.propose(old, text, 20);
        cluster.settle(is_kept_from_far);
    }
    cluster.pass(100, is_kept_from_far);
    assert_eq!((cluster.texts(near).len(), cluster.texts(far).len()), (9, 0));
    // The next one is kept from `near`, and `far` is nine slots behind it.
    let last = cluster.propose(old, "j", 20).slot;
    cluster.settle(|flight| {
        flight.to == near || flight.to == far && matches!(flight.message, Message::Shards { .. })
    });
    for dead in [old, far] {
        cluster.crash(dead);
    }
    let node = &mut cluster.nodes[usize::from(far)];
    node.durable.values.remove(&last);
    node.durable.is_damaged = true;
    cluster.start(far);
    cluster.pass(5000, |_| false);
    let leader = cluster.elect();
    let id = cluster.propose(leader, "other", 20);
    cluster.pass(1000, |_| false);
    assert!(cluster.chosen.contains_key(&id.slot), "progress: two of three are there");
}
