//! Laws that the model, or its making, found broken once.

use super::super::{Message, PromiseEntry, RoleName};
use super::cluster::{Cluster, Flight};
use crate::config::{EpochConfig, Policy};
use crate::types::{Ballot, Code, NodeId, ShardSet, Slot};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

#[test]
fn a_paused_leader_does_not_take_anothers_value_for_its_own() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let old = cluster.elect();
    cluster.pass(200, |_| false);
    let near = (old + 1) % 5;
    let far: Vec<u8> = (0..5).filter(|rank| ![old, near].contains(rank)).collect();
    // `near` misses a slot that is chosen, and hears that it is.
    cluster.propose(old, "a", 10);
    cluster.settle(|flight| flight.to == near && matches!(flight.message, Message::Accept { .. }));
    cluster.tick(Duration::from_millis(25));
    let mut delayed = None;
    let at = cluster.flights.iter().position(|flight| {
        flight.to == near && matches!(flight.message, Message::Heartbeat { .. })
    });
    if let Some(flight) = at.and_then(|at| cluster.flights.remove(at)) {
        let message = flight.message.clone();
        delayed = Some(Flight { from: flight.from, to: flight.to, message });
        cluster.deliver(flight);
    }
    cluster.settle(|_| false);
    // The old leader proposes a value that nobody gets, and is paused.
    let lost = cluster.propose(old, "old", 10);
    cluster.settle(|flight| flight.from == old);
    // The others elect a leader. `near` talks with them, and is not told who leads.
    let awake: Vec<u8> = far.iter().copied().chain([near]).collect();
    let is_cut = |flight: &Flight| {
        let is_shards = matches!(flight.message, Message::Fetch { .. } | Message::Shards { .. });
        let has_near = [flight.from, flight.to].contains(&near);
        [flight.from, flight.to].contains(&old) || has_near && !is_shards
    };
    let is_apart =
        |flight: &Flight| [flight.from, flight.to].iter().any(|rank| [old, near].contains(rank));
    cluster.pass_for(&far, 4000, is_apart);
    let leads = |cluster: &Cluster, rank: u8| {
        cluster.nodes[usize::from(rank)].paxos.as_ref().unwrap().role() == RoleName::Leader
    };
    let new = far.iter().copied().find(|rank| leads(&cluster, *rank)).unwrap();
    assert_eq!(cluster.propose(new, "new", 10).slot, lost.slot);
    cluster.pass_for(&far, 500, is_apart);
    cluster.pass_for(&awake, 4000, is_cut);
    assert_eq!(cluster.texts(near), ["a", "new"], "gathered");
    // The old leader wakes, still leading, and hears from `near` that the slot is applied.
    assert!(leads(&cluster, old));
    cluster.deliver(delayed.unwrap());
    cluster.settle(is_apart_from(old, near));
    assert!(!cluster.texts(old).contains(&"old".to_owned()), "not its value");
    cluster.pass(4000, |_| false);
    assert_eq!(cluster.texts(old), ["a", "new"]);
}

#[test]
fn a_read_sees_what_was_recorded_before_it() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let old = cluster.elect();
    cluster.pass(200, |_| false);
    // A value that its leader alone has; the others choose another one there.
    let lost = cluster.propose(old, "old", 10);
    cluster.settle(|_| true);
    let others: Vec<u8> = (0..3).filter(|rank| *rank != old).collect();
    let is_apart = |flight: &Flight| [flight.from, flight.to].contains(&old);
    cluster.pass_for(&others, 4000, is_apart);
    let leads = |rank: &&u8| {
        let paxos = cluster.nodes[usize::from(**rank)].paxos.as_ref();
        paxos.unwrap().role() == RoleName::Leader
    };
    let new = *others.iter().find(leads).unwrap();
    assert_eq!(cluster.propose(new, "new", 20).slot, lost.slot);
    cluster.pass_for(&others, 500, is_apart);
    // The old leader learns of it, and its payload is read before anything else happens.
    for _ in 0..200 {
        cluster.tick(Duration::from_millis(25));
        while let Some(flight) = cluster.flights.pop_front() {
            let is_it = flight.to == old && matches!(flight.message, Message::Shards { .. });
            if !is_it {
                cluster.deliver(flight);
                (0..3).for_each(|rank| cluster.sync(rank));
                continue;
            }
            let now = cluster.now;
            let paxos = cluster.nodes[usize::from(old)].paxos.as_mut().unwrap();
            paxos.handle_message(now, flight.from, flight.message);
            if paxos.applied() < lost.slot {
                cluster.drain(old);
                continue;
            }
            assert!(paxos.gather_payload(now, lost.slot));
            cluster.drain(old);
            let paxos = cluster.nodes[usize::from(old)].paxos.as_mut().unwrap();
            let gathered = paxos.poll_gathered().unwrap();
            assert_eq!(gathered.payload.len(), 20, "not the value that it had itself");
            return;
        }
    }
    panic!("the old leader never caught up");
}

/// Everything but what these two say to each other is lost.
fn is_apart_from(a: u8, b: u8) -> impl Fn(&Flight) -> bool {
    move |flight| ![(a, b), (b, a)].contains(&(flight.from, flight.to))
}

/// A cluster of three with three values that `follower` alone has accepted; a ballot of `other`.
struct Half {
    cluster: Cluster,
    follower: u8,
    other: u8,
    slots: BTreeSet<Slot>,
    ballot: Ballot,
}

impl Half {
    fn new() -> Self {
        let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
        let leader = cluster.elect();
        cluster.pass(200, |_| false);
        let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let texts = ["a", "bb", "ccc"];
        let slots = texts.iter().map(|text| cluster.propose(leader, text, 10).slot).collect();
        cluster.settle(|flight| (flight.from, flight.to) != (leader, follower));
        let paxos = cluster.nodes[usize::from(follower)].paxos.as_ref().unwrap();
        let ballot = paxos.promised().next_for(NodeId(other));
        Self { cluster, follower, other, slots, ballot }
    }

    /// Both prepares come before the promise is durable; the entries promised.
    fn promised(&mut self, attempts: u64) -> Vec<PromiseEntry> {
        let now = self.cluster.now;
        let node = usize::from(self.follower);
        let paxos = self.cluster.nodes[node].paxos.as_mut().unwrap();
        // The old leader gave its lease up: nothing but the promise is in question here.
        let released = paxos.promised();
        for attempt in 1..=attempts {
            let prepare = Message::Prepare { ballot: self.ballot, attempt, released };
            paxos.handle_message(now, self.other, prepare);
        }
        self.cluster.drain(self.follower);
        self.cluster.sync(self.follower);
        let mut entries = Vec::new();
        let mut has_last = false;
        for flight in self.cluster.flights.drain(..) {
            let Message::Promise(promise) = flight.message else { continue };
            assert_eq!(promise.attempt, attempts);
            has_last |= promise.is_last;
            entries.extend(promise.entries);
        }
        assert!(has_last);
        entries
    }
}

#[test]
fn a_prepare_that_comes_twice_is_answered_in_full() {
    let mut half = Half::new();
    let entries = half.promised(2);
    let told: BTreeSet<Slot> = entries
        .iter()
        .filter_map(|entry| match entry {
            PromiseEntry::Accepted { value, .. } => Some(value.meta.slot()),
            PromiseEntry::Faulty { .. } | PromiseEntry::AllFaulty => None,
        })
        .collect();
    assert_eq!(told, half.slots, "a promise that leaves out a slot lets a leader overwrite it");
}

#[test]
fn an_older_record_does_not_answer_for_a_lost_one() {
    let mut half = Half::new();
    let [lower, fewer, _] = half.slots.iter().copied().collect::<Vec<_>>()[..] else { panic!() };
    let written = &mut half.cluster.nodes[usize::from(half.follower)].written;
    // The record that raised the ballot of one slot, and the one with the shard of another.
    written.values.get_mut(&lower).unwrap().0 = Ballot::ZERO;
    written.values.get_mut(&fewer).unwrap().2.clear();
    let entries = half.promised(1);
    for slot in [lower, fewer] {
        assert!(entries.contains(&PromiseEntry::Faulty { slot }), "{slot}: {entries:?}");
    }
    // What is recorded anew counts again.
    let node = &half.cluster.nodes[usize::from(half.follower)];
    let (_, meta, shards) = &node.written.values[&lower];
    let (meta, shards) = (meta.clone(), shards.values().cloned().collect::<Vec<_>>());
    let held: ShardSet = shards.iter().map(|shard| shard.index).collect();
    let entries = vec![crate::paxos::ShardedValue { meta, shards }];
    let accept = Message::Accept { ballot: half.ballot, commit: Slot::ZERO, entries };
    half.cluster.deliver(Flight { from: half.other, to: half.follower, message: accept });
    half.cluster.sync(half.follower);
    let stored = &half.cluster.nodes[usize::from(half.follower)].durable.values[&lower];
    assert_eq!((stored.0, stored.2.keys().copied().collect()), (half.ballot, held));
}

#[test]
fn a_damaged_slot_is_gathered_with_k_shards() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    let id = cluster.propose(leader, "a", 900);
    cluster.pass(500, |_| false);
    let victim = (leader + 1) % 5;
    cluster.crash(victim);
    cluster.nodes[usize::from(victim)].durable.faulty.push(id.slot);
    cluster.nodes[usize::from(victim)].durable.values.remove(&id.slot);
    cluster.start(victim);
    cluster.pass(2000, |_| false);
    assert_eq!(cluster.texts(victim), ["a"]);
    let (_, _, shards) = &cluster.nodes[usize::from(victim)].durable.values[&id.slot];
    assert!(shards.len() >= 3, "it may have answered for a full copy: {:?}", shards.keys());
}

#[test]
fn a_damaged_shard_is_not_acknowledged_as_held() {
    // A node that had accepted a value and lost its bytes on the disk said that it held them when the
    // value came again: it was chosen with one copy less than was counted.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let victim = (leader + 1) % 3;
    let id = cluster.propose(leader, "a", 900);
    cluster.settle(|flight| flight.to != victim);
    let node = &mut cluster.nodes[usize::from(victim)];
    for log in [&mut node.durable, &mut node.written] {
        let (_, _, shards) = log.values.get_mut(&id.slot).expect("it has accepted");
        assert_eq!(shards.len(), 1);
        shards.clear();
        log.damaged.insert(id.slot, ShardSet::one(0));
    }
    // All promise anew, and the value comes again, by whoever leads.
    cluster.crash(leader);
    cluster.pass(2000, |_| false);
    cluster.start(leader);
    cluster.pass(3000, |_| false);
    assert_eq!(cluster.chosen.get(&id.slot), Some(&id));
    let (_, _, shards) = &cluster.nodes[usize::from(victim)].durable.values[&id.slot];
    assert_eq!(shards.len(), 1, "its copy is recorded anew");
}

#[test]
fn a_restarted_peer_is_asked_when_the_ballot_is_stored() {
    // Rule 9: a candidate that forgot a ballot that others know could lead with it twice.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let candidate = |cluster: &Cluster| {
        let is_asking = |rank: &u8| {
            let paxos = cluster.nodes[usize::from(*rank)].paxos.as_ref().unwrap();
            paxos.promised() > Ballot::ZERO
        };
        (0..3_u8).find(is_asking)
    };
    while candidate(&cluster).is_none() {
        // Everything arrives, nothing is synced.
        cluster.tick(Duration::from_millis(25));
        while let Some(flight) = cluster.flights.pop_front() {
            cluster.deliver(flight);
        }
    }
    let rank = candidate(&cluster).unwrap();
    let (now, peer) = (cluster.now, (rank + 1) % 3);
    let asked = |cluster: &Cluster| {
        let attempt = |flight: &Flight| {
            let Message::Prepare { attempt, .. } = flight.message else { return None };
            Some(attempt)
        };
        cluster.flights.iter().filter_map(attempt).collect::<Vec<u64>>()
    };
    let paxos = cluster.nodes[usize::from(rank)].paxos.as_mut().unwrap();
    paxos.handle_peer_restarted(now, peer);
    cluster.drain(rank);
    assert_eq!(asked(&cluster), Vec::<u64>::new());
    cluster.sync(rank);
    assert_eq!(asked(&cluster), [2, 2], "as one that has heard of it");
}

#[test]
fn who_has_lost_what_it_held_counts_no_more() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let is_settled =
        |cluster: &Cluster| cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().is_settled();
    let epoch = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().epoch();
    let code = Code::new(2, 1).unwrap();
    let wanted = EpochConfig { policy: Policy::Craft, code, ..epoch };
    cluster.propose_epoch(leader, wanted).unwrap();
    cluster.pass(500, |_| false);
    assert!(is_settled(&cluster));
    // Their disks have lost values of before the epoch, long after they said that they held them.
    let repair = |cluster: &mut Cluster, is_outstanding: bool| {
        for other in (0..3).filter(|other| *other != leader) {
            let paxos = cluster.nodes[usize::from(other)].paxos.as_mut().unwrap();
            paxos.handle_repair(is_outstanding);
        }
        cluster.pass(500, |_| false);
    };
    repair(&mut cluster, true);
    assert!(!is_settled(&cluster), "no change of members may count on them");
    repair(&mut cluster, false);
    assert!(is_settled(&cluster), "all is recorded anew");
}

#[test]
fn who_comes_back_is_sent_each_value_once() {
    // While it was away all were sent copies; three nodes' copies are three times the value.
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let away = (leader + 1) % 5;
    cluster.crash(away);
    cluster.pass(3000, |_| false);
    let leader = cluster.elect();
    let mut payload_bytes = 0;
    for text in ["a", "bb", "ccc"] {
        cluster.propose(leader, text, 3000);
        cluster.pass(100, |_| false);
        payload_bytes += 3000;
    }
    let sent_bytes = Cell::new(0);
    cluster.start(away);
    cluster.pass(2000, |flight| count_shards(&sent_bytes, flight, away));
    assert_eq!(cluster.texts(away), ["a", "bb", "ccc"]);
    let sent_bytes = sent_bytes.get();
    assert!(sent_bytes <= payload_bytes + 100, "{sent_bytes} for {payload_bytes}");
}

/// Adds up what `to` is sent of values it gathers; nothing is lost.
fn count_shards(sent_bytes: &Cell<usize>, flight: &Flight, to: u8) -> bool {
    if let (Message::Shards { entries, .. }, true) = (&flight.message, flight.to == to) {
        let shards = entries.iter().flat_map(|value| &value.shards);
        sent_bytes.set(sent_bytes.get() + shards.map(|shard| shard.bytes.len()).sum::<usize>());
    }
    false
}

#[test]
fn a_newcomer_is_sent_each_value_once_though_it_waited_and_a_node_is_dead() {
    for (waited_ms, step) in [0, 60, 300, 1500].into_iter().zip([1, 2, 3, 4]) {
        let mut cluster = Cluster::new(Policy::Craft, 3, 5);
        let leader = cluster.elect();
        cluster.pass(300, |_| false);
        let mut payload_bytes = 0;
        for text in ["a", "bb", "ccc"] {
            cluster.propose(leader, text, 3000);
            payload_bytes += 3000;
        }
        cluster.pass(300, |_| false);
        let dead = (leader + step) % 5;
        cluster.crash(dead);
        cluster.pass(2000, |_| false);
        let newcomer = cluster.add_node();
        let sent_bytes = Cell::new(0);
        let count = |flight: &Flight| count_shards(&sent_bytes, flight, newcomer);
        cluster.pass(waited_ms, count);
        cluster.change(leader, Some(newcomer), Some(dead), (3, 2));
        cluster.pass(3000, count);
        assert_eq!(cluster.texts(newcomer), ["a", "bb", "ccc"], "waited {waited_ms} ms");
        let sent_bytes = sent_bytes.get();
        assert!(sent_bytes <= payload_bytes + 100, "{waited_ms} ms: {sent_bytes} bytes");
    }
}

/// Has twelve times as many values chosen as are gathered at once; how many.
fn propose_many(cluster: &mut Cluster, leader: u8) -> usize {
    const COUNT: usize = 400;
    for at in 0..COUNT {
        cluster.propose(leader, &format!("v{at}"), 30);
        cluster.settle(|_| false);
    }
    COUNT
}

#[test]
fn a_dead_node_holds_up_who_comes_back_once_and_not_for_each_value() {
    for step in 2..5 {
        let mut cluster = Cluster::new(Policy::Craft, 3, 5);
        let leader = cluster.elect();
        cluster.pass(300, |_| false);
        let (away, dead) = ((leader + 1) % 5, (leader + step) % 5);
        cluster.crash(away);
        cluster.pass(2000, |_| false);
        let count = propose_many(&mut cluster, leader);
        cluster.pass(300, |_| false);
        cluster.crash(dead);
        cluster.start(away);
        cluster.pass(1500, |_| false);
        assert_eq!(cluster.texts(away).len(), count, "n{dead} is dead");
    }
}

#[test]
fn two_that_come_back_together_do_not_wait_for_each_other() {
    // Found by the simulator (seed 51744 of its time): each asked the one node that had it all for one
    // shard, and the other for one that it had not come to, and waited half a second for each value.
    let mut cluster = Cluster::new(Policy::Craft, 2, 5);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let [a, b, c, d] = [1, 2, 3, 4].map(|step| (leader + step) % 5);
    cluster.crash(a);
    cluster.crash(b);
    cluster.pass(2000, |_| false);
    let count = propose_many(&mut cluster, leader);
    cluster.pass(300, |_| false);
    for dead in [c, d] {
        cluster.crash(dead);
    }
    for back in [a, b] {
        cluster.start(back);
    }
    cluster.pass(1500, |_| false);
    for back in [a, b] {
        assert_eq!(cluster.texts(back).len(), count, "n{back}");
    }
}

#[test]
fn a_read_asks_another_soon_when_all_but_a_dead_node_have_answered() {
    // A newcomer beside a dead node had its first values after half a second: the resend time, and the
    // next look after it.
    for step in 1..5 {
        let mut cluster = Cluster::new(Policy::Craft, 3, 5);
        let leader = cluster.elect();
        cluster.pass(300, |_| false);
        let id = cluster.propose(leader, "a", 3000);
        cluster.pass(300, |_| false);
        cluster.crash((leader + step) % 5);
        let now = cluster.now;
        let resend = cluster.config.timing.resend();
        assert!(
            cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap().gather_payload(now, id.slot)
        );
        cluster.drain(leader);
        cluster.settle(|_| false);
        let mut gathered = None;
        while gathered.is_none() && cluster.now.since(now) < resend {
            cluster.pass(25, |_| false);
            gathered = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap().poll_gathered();
        }
        let waited = cluster.now.since(now);
        assert_eq!(
            gathered.map(|read| read.slot),
            Some(id.slot),
            "n{step} after the leader is dead"
        );
        assert!(waited <= resend / 4, "{waited:?}");
    }
}

#[test]
fn clients_are_not_kept_waiting_for_a_newcomer_that_is_far_behind() {
    // It went quiet for half of the time while a newcomer learnt up to 1024 values, however large.
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    for text in ["a", "bb", "ccc"] {
        cluster.propose(leader, text, 300);
        cluster.pass(1000, |_| false);
    }
    let newcomer = cluster.add_node();
    let leaves = (leader + 1) % 5;
    cluster.change(leader, Some(newcomer), Some(leaves), (3, 2));
    // The change itself is chosen, and what was before does not come.
    let lost =
        |flight: &Flight| flight.to == newcomer && matches!(flight.message, Message::Shards { .. });
    cluster.pass(100, lost);
    for _ in 0..80 {
        cluster.pass(25, lost);
        assert!(cluster.can_propose(leader), "quiet, and nothing to wait for");
    }
    // It may be slower than the clients for ever: in the end they wait for it.
    let goes_quiet = |cluster: &mut Cluster| {
        cluster.pass(25, lost);
        !cluster.can_propose(leader)
    };
    assert!((0..240).any(|_| goes_quiet(&mut cluster)), "the change would never end");
    // What it asks for again waits longer each time.
    cluster.pass(9000, |_| false);
    assert!(cluster.configuration(leader).is_member(newcomer));
}

#[test]
fn a_node_that_comes_back_fetches_what_it_missed_at_the_first_word() {
    // It looked twice, a resend time apart, as if what it missed could be on its way.
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    cluster.propose(leader, "a", 300);
    cluster.pass(300, |_| false);
    let away = (leader + 1) % 5;
    cluster.crash(away);
    for text in ["bb", "ccc"] {
        cluster.propose(leader, text, 300);
        cluster.pass(1000, |_| false);
    }
    cluster.start(away);
    cluster.pass(100, |_| false);
    assert_eq!(cluster.texts(away), ["a", "bb", "ccc"], "two heartbeats");
}
