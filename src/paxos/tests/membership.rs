//! Members that come and go: laws of `docs/membership.md`, and seeded runs with every change.

use super::super::{Begun, Message, Standing};
use super::cluster::{Cluster, Flight};
use super::random::{change_policy, work};
use crate::config::{ChangeError, Policy, default_code};
use crate::rng::Rng;
use crate::types::{Epoch, NodeId, NodeSet, Slot};
use std::time::Duration;

fn standing(cluster: &Cluster, node: u8) -> Standing {
    cluster.nodes[usize::from(node)].paxos.as_ref().unwrap().standing()
}

/// Time passes until the members are `expected` at the leader, and everybody knows it durably.
fn await_members(cluster: &mut Cluster, expected: &[u8], is_lost: impl Fn(&Flight) -> bool) {
    let expected: NodeSet = expected.iter().copied().collect();
    for _ in 0..400 {
        if let Some(leader) = cluster.leader() {
            let now = cluster.configuration(leader);
            let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
            if now.ids() == expected && now.change.is_none() && paxos.is_settled() {
                return;
            }
        }
        cluster.pass(25, &is_lost);
    }
    let now = cluster.leader().map(|leader| {
        let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
        (leader, cluster.configuration(leader), paxos.is_settled(), paxos.peers())
    });
    panic!("the members never were {expected:?}: {now:?}");
}

fn is_begun(begun: &Begun) -> bool {
    matches!(begun, Begun::Proposed(_))
}

/// Asks whoever leads until the change is begun: a leader does not propose its own end.
fn begin(cluster: &mut Cluster, joins: Option<u8>, leaves: Option<u8>, code: (u8, u8)) {
    for _ in 0..100 {
        let leader = cluster.elect();
        match cluster.change(leader, joins, leaves, code) {
            Begun::NotYet => cluster.pass(100, |_| false),
            Begun::Proposed(_) => return,
            other @ (Begun::Known | Begun::Refused(_) | Begun::Unsafe(_)) => panic!("{other:?}"),
        }
    }
    panic!("the change is never begun");
}

#[test]
fn a_newcomer_is_told_which_directories_the_others_have() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let leader = cluster.elect();
    let [dead, third, fourth] = [1, 2, 3].map(|more| (leader + more) % 5);
    let lost = (leader + 4) % 5;
    let other = |cluster: &Cluster, node: u8, directory| {
        let paxos = cluster.nodes[usize::from(node)].paxos.as_ref().unwrap();
        paxos.other_directory(NodeId(lost), directory)
    };
    // Two have met the node; the fourth, which had never, met what came after its directory was lost.
    for (node, directory) in [(leader, 77), (third, 77), (fourth, 78)] {
        let paxos = cluster.nodes[usize::from(node)].paxos.as_mut().unwrap();
        paxos.meet(NodeId(lost), directory);
    }
    assert_eq!(other(&cluster, fourth, 78), None, "which it could not know");
    cluster.crash(dead);
    cluster.crash(lost);
    let newcomer = cluster.add_node();
    assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(dead), (1, 4))));
    let members: Vec<u8> = (0..5).filter(|node| *node != dead).chain([newcomer]).collect();
    await_members(&mut cluster, &members, |_| false);
    cluster.pass(200, |_| false);
    for node in [leader, third, fourth, newcomer] {
        assert_eq!(other(&cluster, node, 78), Some(77), "{node} takes another for the old one");
    }
    assert_eq!(other(&cluster, newcomer, 77), None);
    assert_eq!(other(&cluster, fourth, 77), Some(78), "it cannot tell which was the first");
}

#[test]
fn a_newcomer_replaces_a_dead_node_and_holds_its_shards() {
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    for text in ["a", "bb", "ccc"] {
        cluster.propose(leader, text, 700);
    }
    cluster.pass(300, |_| false);
    let dead = (leader + 1) % 3;
    cluster.crash(dead);
    let newcomer = cluster.add_node();
    cluster.pass(200, |_| false);
    assert_eq!(standing(&cluster, newcomer), Standing::Unknown);
    assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(dead), (2, 1))));
    let members = [leader, newcomer, (leader + 2) % 3];
    await_members(&mut cluster, &members, |_| false);
    assert_eq!(standing(&cluster, newcomer), Standing::Member);
    // The place, and with it the shards, of the one replaced.
    for meta in cluster.nodes[usize::from(newcomer)].applied.clone() {
        let (_, _, shards) = &cluster.nodes[usize::from(newcomer)].durable.values[&meta.slot()];
        assert!(shards.contains_key(&(dead % meta.code.n())), "{} lacks its home", meta.slot());
    }
    // Another node goes: the newcomer and one old member carry on, and read everything back.
    cluster.crash(leader);
    cluster.pass(3000, |_| false);
    let next = cluster.elect();
    assert_eq!(cluster.texts(next), ["a", "bb", "ccc"]);
    cluster.propose(next, "dddd", 700);
    cluster.pass(2500, |_| false);
    assert_eq!(cluster.texts(newcomer), ["a", "bb", "ccc", "dddd"]);
    // The one replaced comes back, is told, and disturbs nobody.
    let promised = cluster.nodes[usize::from(next)].paxos.as_ref().unwrap().promised();
    cluster.start(dead);
    cluster.pass(3000, |_| false);
    assert_eq!(standing(&cluster, dead), Standing::Removed);
    let paxos = cluster.nodes[usize::from(next)].paxos.as_ref().unwrap();
    assert_eq!(paxos.promised(), promised, "an election was forced");
}

#[test]
fn a_newcomer_waits_for_its_place_before_it_stores_a_shard() {
    // Found by the simulator: what lies before the entry that names a newcomer came to rest under
    // the index id modulo n, and one loss more lost the value.
    for replaced in 0..3 {
        let mut cluster = Cluster::new(Policy::Craft, 2, 3);
        let leader = cluster.elect();
        for text in ["a", "bb", "ccc"] {
            cluster.propose(leader, text, 700);
        }
        cluster.pass(300, |_| false);
        cluster.crash(replaced);
        let leader = cluster.elect();
        cluster.pass(3000, |_| false);
        // It asks around, and is told what is chosen, long before it is named.
        let newcomer = cluster.add_node();
        cluster.pass(2000, |_| false);
        let leader = if leader == replaced { cluster.elect() } else { leader };
        assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(replaced), (2, 1))));
        let mut members: Vec<u8> = (0..3).filter(|node| *node != replaced).collect();
        members.push(newcomer);
        await_members(&mut cluster, &members, |_| false);
        check_homes(&cluster, 0, leader);
    }
}

#[test]
fn a_member_that_lost_a_record_of_before_its_time_finds_its_place_again() {
    // Seeds 11733 and 12441: restarted, it has applied less than the entry that named it, and is told
    // of itself as a member. Its place for that value is the first it had, 3; by now it is 2.
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    let lost = cluster.propose(leader, "a", 700).slot;
    cluster.pass(300, |_| false);
    let newcomer = cluster.add_node();
    begin(&mut cluster, Some(newcomer), None, (2, 2));
    await_members(&mut cluster, &[0, 1, 2, newcomer], |_| false);
    begin(&mut cluster, None, Some(0), (2, 1));
    await_members(&mut cluster, &[1, 2, newcomer], |_| false);
    assert_eq!(cluster.configuration(newcomer).place(newcomer), Some(2));
    cluster.crash(newcomer);
    cluster.nodes[usize::from(newcomer)].durable.values.remove(&lost);
    cluster.start(newcomer);
    assert_eq!(standing(&cluster, newcomer), Standing::Unknown);
    cluster.pass(5000, |_| false);
    assert_eq!(cluster.texts(newcomer), ["a"]);
    check_homes(&cluster, 0, cluster.leader().unwrap());
}

#[test]
fn a_newcomer_has_no_vote_before_it_holds_everything_durably() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    for text in ["a", "bb", "ccc"] {
        cluster.propose(leader, text, 90);
    }
    cluster.pass(300, |_| false);
    let newcomer = cluster.add_node();
    assert!(is_begun(&cluster.change(leader, Some(newcomer), None, (1, 3))));
    // It hears the leader, and nothing that it asks for arrives: it applies nothing.
    let lost =
        |flight: &Flight| flight.to == newcomer && matches!(flight.message, Message::Shards { .. });
    cluster.pass(3000, lost);
    let now = cluster.configuration(leader);
    assert!(now.change.is_some() && !now.is_member(newcomer), "{now:?}");
    assert!(cluster.can_propose(leader), "nobody waits for it");
    // With one of three dead and the newcomer up, three nodes run; two of them count.
    cluster.crash((leader + 1) % 3);
    cluster.crash((leader + 2) % 3);
    cluster.pass(2000, lost);
    assert_eq!(cluster.leader(), None, "a newcomer's vote was counted");
    cluster.start((leader + 1) % 3);
    cluster.start((leader + 2) % 3);
    await_members(&mut cluster, &[0, 1, 2, 3], |_| false);
}

#[test]
fn what_a_newcomer_applied_and_did_not_sync_does_not_count() {
    // An earlier attempt at this took what the newcomer had applied for what it held.
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    cluster.propose(leader, "a", 90);
    cluster.pass(300, |_| false);
    let newcomer = cluster.add_node();
    let dead = (leader + 1) % 3;
    cluster.crash(dead);
    assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(dead), (2, 1))));
    for _ in 0..120 {
        cluster.tick(Duration::from_millis(25));
        for _ in 0..20 {
            for node in (0..3).filter(|node| *node != dead) {
                cluster.sync(node);
            }
            for _ in 0..cluster.flights.len() {
                let flight = cluster.flights.pop_front().unwrap();
                cluster.deliver(flight);
            }
        }
    }
    assert_eq!(cluster.texts(newcomer), ["a"], "it has applied everything");
    assert!(!cluster.configuration(leader).is_member(newcomer), "its disk has nothing");
    await_members(&mut cluster, &[leader, newcomer, (leader + 2) % 3], |_| false);
}

#[test]
fn one_change_at_a_time_also_after_a_leader_change() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let silent = cluster.add_node();
    assert!(is_begun(&cluster.change(leader, Some(silent), None, (1, 3))));
    let lost = |flight: &Flight| flight.from == silent || flight.to == silent;
    cluster.pass(500, lost);
    cluster.crash(leader);
    cluster.pass(3000, lost);
    let next = cluster.leader().unwrap();
    assert_eq!(cluster.change(next, Some(9), None, (1, 3)), Begun::Refused(ChangeError::UnderWay));
    let mut ask = |code| cluster.change(next, Some(silent), None, code);
    assert_eq!((ask((1, 3)), ask((2, 2))), (Begun::Known, Begun::Refused(ChangeError::UnderWay)));
    assert!(is_begun(&cluster.cancel_change(next)), "it never comes up: its id is spent");
    cluster.pass(500, lost);
    assert_eq!(cluster.configuration(next).change, None);
    let again = cluster.change(next, Some(silent), None, (1, 3));
    assert_eq!(again, Begun::Refused(ChangeError::IdUsed));
    cluster.start(leader);
    cluster.pass(2000, |_| false);
    assert_eq!(standing(&cluster, silent), Standing::Removed);
    // Another one comes.
    let next = cluster.elect();
    let other = cluster.add_node();
    assert!(is_begun(&cluster.change(next, Some(other), None, (1, 3))));
    await_members(&mut cluster, &[0, 1, 2, other], |_| false);
}

#[test]
fn a_cluster_grows_to_five_and_shrinks_back() {
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let mut members = vec![0, 1, 2];
    let mut texts = Vec::new();
    for m in [2, 3] {
        let leader = cluster.elect();
        texts.push("x".repeat(1 + texts.len()));
        cluster.propose(leader, texts.last().unwrap(), 500);
        let newcomer = cluster.add_node();
        cluster.pass(300, |_| false);
        begin(&mut cluster, Some(newcomer), None, (2, m));
        members.push(newcomer);
        await_members(&mut cluster, &members, |_| false);
    }
    for m in [2, 1] {
        let leader = cluster.elect();
        texts.push("x".repeat(1 + texts.len()));
        cluster.propose(leader, texts.last().unwrap(), 500);
        cluster.pass(300, |_| false);
        let gone = members.remove(0);
        begin(&mut cluster, None, Some(gone), (2, m));
        await_members(&mut cluster, &members, |_| false);
        cluster.crash(gone);
    }
    let leader = cluster.elect();
    cluster.propose(leader, "last", 500);
    cluster.pass(500, |_| false);
    texts.push("last".to_owned());
    for node in members {
        assert_eq!(cluster.texts(node), texts, "n{node}");
    }
}

#[test]
fn a_change_that_would_endanger_old_values_is_refused() {
    // Values of 3+2 at five nodes: among three, two must suffice for an election.
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let mut leader = cluster.elect();
    cluster.propose(leader, "a", 500);
    cluster.pass(500, |_| false);
    let gone = (leader + 1) % 5;
    assert!(is_begun(&cluster.change(leader, None, Some(gone), (2, 2))));
    let mut members: Vec<u8> = (0..5).filter(|node| *node != gone).collect();
    await_members(&mut cluster, &members, |_| false);
    leader = cluster.elect();
    members.retain(|node| *node != leader);
    let begun = cluster.change(leader, None, Some(members[0]), (2, 1));
    assert!(matches!(begun, Begun::Unsafe(code) if code.k() == 3), "{begun:?}");
}

#[test]
fn a_change_that_values_to_come_would_endanger_is_refused() {
    // No value has this code yet; the first one proposed during the change would keep it open for ever.
    let mut cluster = Cluster::new(Policy::RsPaxos, 5, 5);
    let leader = cluster.elect();
    cluster.pass(500, |_| false);
    let begun = cluster.change(leader, None, Some((leader + 1) % 5), (4, 0));
    assert!(matches!(begun, Begun::Unsafe(code) if code.k() == 5), "{begun:?}");
}

#[test]
fn a_change_is_closed_only_when_enough_old_members_are_level() {
    // 3+2 needs all five home shards: with one more node away it has to wait.
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    let (away, replaced) = ((leader + 1) % 5, (leader + 2) % 5);
    let lost = |flight: &Flight| flight.from == away || flight.to == away;
    cluster.pass(500, lost);
    cluster.propose(leader, "a", 500);
    cluster.pass(500, lost);
    let newcomer = cluster.add_node();
    assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(replaced), (3, 2))));
    cluster.pass(4000, lost);
    assert!(!cluster.configuration(leader).is_member(newcomer), "too few home shards");
    let mut members: Vec<u8> = (0..5).filter(|node| *node != replaced).collect();
    members.push(newcomer);
    await_members(&mut cluster, &members, |_| false);
}

#[test]
fn a_new_leader_finishes_a_change_that_the_old_one_had_all_but_closed() {
    // The last entry is accepted everywhere, and its leader never hears of it.
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    let id = cluster.propose(leader, "a", 500);
    cluster.pass(500, |_| false);
    let newcomer = cluster.add_node();
    let replaced = (leader + 1) % 3;
    assert!(is_begun(&cluster.change(leader, Some(newcomer), Some(replaced), (2, 1))));
    let last = Slot(id.slot.0 + 2);
    let starts_it = |flight: &Flight| {
        let Message::Accepted { acks, .. } = &flight.message else { return false };
        acks.iter().any(|ack| ack.slot() == last)
    };
    for _ in 0..200 {
        cluster.pass(25, |flight| flight.to == leader && starts_it(flight));
        if cluster.nodes[usize::from(newcomer)].durable.values.contains_key(&last) {
            break;
        }
    }
    assert!(cluster.nodes[usize::from(newcomer)].durable.values.contains_key(&last));
    cluster.crash(leader);
    cluster.pass(4000, |_| false);
    let next = cluster.elect();
    assert!(cluster.configuration(next).is_member(newcomer));
    assert!(cluster.can_propose(next));
    cluster.propose(next, "bb", 500);
    cluster.start(leader);
    cluster.pass(3000, |_| false);
    for node in [leader, newcomer, (leader + 2) % 3] {
        assert_eq!(cluster.texts(node), ["a", "bb"], "n{node}");
    }
}

#[test]
fn a_node_that_was_away_for_all_changes_is_found_and_helps() {
    // Everybody but one is replaced while it is away; then it is needed.
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let mut leader = cluster.elect();
    cluster.pass(200, |_| false);
    let away = (leader + 1) % 3;
    cluster.crash(away);
    let mut members: Vec<u8> = (0..3).collect();
    for old in (0..3).filter(|node| *node != away) {
        let newcomer = cluster.add_node();
        begin(&mut cluster, Some(newcomer), Some(old), (1, 2));
        members.retain(|node| *node != old);
        members.push(newcomer);
        await_members(&mut cluster, &members, |_| false);
        cluster.crash(old);
        cluster.pass(2000, |_| false);
        leader = cluster.elect();
    }
    // Only strangers to it are left, and one of them goes, too.
    cluster.crash(leader);
    cluster.start(away);
    cluster.pass(5000, |_| false);
    let next = cluster.elect();
    cluster.propose(next, "a", 90);
    cluster.pass(500, |_| false);
    assert_eq!(cluster.texts(away), ["a"]);
}

#[test]
fn strangers_do_not_ask_each_other_for_ever() {
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    cluster.propose(leader, "a", 90);
    cluster.pass(200, |_| false);
    // Two machines that nobody has named yet, and one of them is further.
    let (one, other) = (cluster.add_node(), cluster.add_node());
    let configuration = cluster.configuration(leader);
    let applied = Slot(1);
    let said = [
        Message::Probe { epoch: Epoch(0), applied: Slot::ZERO },
        Message::Probe { epoch: configuration.rules.epoch, applied },
        Message::Members { applied, configuration, first_place: None },
    ];
    for message in said {
        cluster.settle(|_| false);
        cluster.deliver(Flight { from: one, to: other, message });
        for _ in 0..4 {
            let is_theirs = |flight: &Flight| flight.from.max(flight.to) == other;
            let flights: Vec<_> = cluster.flights.drain(..).filter(is_theirs).collect();
            flights.into_iter().for_each(|flight| cluster.deliver(flight));
        }
        assert!(cluster.flights.iter().all(|flight| flight.to != one && flight.from != one));
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let shapes = [
        (Policy::Replicate, 1, 3),
        (Policy::Craft, 2, 3),
        (Policy::Craft, 2, 4),
        (Policy::Craft, 3, 5),
        (Policy::Crossword, 2, 4),
        (Policy::Hybrid, 2, 5),
        (Policy::RsPaxos, 2, 4),
        (Policy::RsPaxos, 2, 5),
    ];
    let (policy, k, nodes) = shapes[usize::try_from(rng.below(shapes.len() as u64)).unwrap()];
    let mut cluster = Cluster::new(policy, k, nodes);
    let loss = rng.unit() * 0.25;
    let mut proposed = 0_usize;
    for _ in 0..4000 {
        work(&mut cluster, &mut rng, loss, &mut proposed);
        if rng.chance(0.005)
            && let Some(leader) = cluster.leader()
        {
            change(&mut cluster, &mut rng, leader);
        }
    }
    // Faults end: a change under way ends or is given up, and everybody who is a member is level.
    for node in 0..cluster.count() {
        if cluster.nodes[usize::from(node)].paxos.is_none() {
            cluster.start(node);
        }
    }
    cluster.pass(6000, |_| false);
    let mut leader = cluster.elect();
    while !cluster.can_propose(leader) {
        cluster.pass(100, |_| false);
        leader = cluster.elect();
    }
    let id = cluster.propose(leader, "last", 90);
    cluster.pass(5000, |_| false);
    assert_eq!(cluster.chosen.get(&id.slot), Some(&id), "seed {seed}: not live after heal");
    let leader = cluster.elect();
    let now = cluster.configuration(leader);
    let applied = cluster.nodes[usize::from(leader)].applied.len();
    for seat in now.members.iter() {
        let of = cluster.nodes[usize::from(seat.id.0)].applied.len();
        assert_eq!(of, applied, "seed {seed}: {} is behind", seat.id);
    }
    // Every value with a payload survives any N - Q1 members.
    check_homes(&cluster, seed, leader);
}

/// Any change, sensible or not.
fn change(cluster: &mut Cluster, rng: &mut Rng, leader: u8) {
    let now = cluster.configuration(leader);
    let members: Vec<u8> = now.members.iter().map(|seat| seat.id.0).collect();
    let some = members[usize::try_from(rng.below(members.len() as u64)).unwrap()];
    if rng.chance(0.15) {
        cluster.cancel_change(leader);
        return;
    }
    let n = now.rules.nodes;
    let (joins, leaves, nodes) = match rng.below(4) {
        0 if n < 7 => (true, None, n + 1),
        1 if n > 2 => (false, Some(some), n - 1),
        _ => (true, Some(some), n),
    };
    let Ok(code) = default_code(now.rules.policy, now.rules.code.k(), nodes) else { return };
    let joins = if joins {
        if now.change.is_some() || cluster.count() >= 20 {
            return;
        }
        Some(cluster.add_node())
    } else {
        None
    };
    cluster.change(leader, joins, leaves, (code.k(), code.m()));
    if rng.chance(0.2) {
        change_policy(cluster, rng, leader, n);
    }
}

/// Every member has its home shard of every chosen value on its disk, and whichever N - Q1 of them go,
/// k shards are left.
fn check_homes(cluster: &Cluster, seed: u64, leader: u8) {
    let now = cluster.configuration(leader);
    let prepare = now.rules.quorums().prepare;
    for meta in &cluster.nodes[usize::from(leader)].applied {
        if meta.payload_bytes == 0 || meta.epoch > now.rules.epoch {
            continue;
        }
        for seat in now.members.iter() {
            let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
            let home = paxos.applied_epochs().home(meta.epoch, seat.id.0) % meta.code.n();
            let log = &cluster.nodes[usize::from(seat.id.0)].durable;
            let value = log.values.get(&meta.slot()).filter(|(_, of, _)| of.id == meta.id);
            let is_there = value.is_some_and(|(_, _, shards)| shards.contains_key(&home));
            assert!(is_there, "seed {seed}: {} lacks its home {home} of {}", seat.id, meta.id);
        }
        let held = now.members.iter().map(|seat| {
            let log = &cluster.nodes[usize::from(seat.id.0)].durable;
            let value = log.values.get(&meta.slot()).filter(|(_, of, _)| of.id == meta.id);
            value.map(|(_, _, shards)| shards.keys().copied().collect()).unwrap_or_default()
        });
        let held: Vec<_> = held.collect();
        let is_kept = super::super::is_chosen(&held, prepare, u32::from(meta.code.k()));
        // A smaller Q1 of a later policy is the operator's wish, and is not a change of members.
        let is_of_members = meta.code.n() != now.rules.nodes || meta.epoch == now.rules.epoch;
        assert!(is_kept || !is_of_members, "seed {seed}: {} of {}: {held:?}", meta.id, meta.code);
    }
}

#[test]
fn random_runs_with_changes_of_members_agree_and_heal() {
    let seeds = std::env::var("DISTKV_MEMBER_SEEDS").ok();
    let (first, count) = seeds
        .as_deref()
        .and_then(|text| text.split_once('+'))
        .map_or((0, 300), |(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(cause) = outcome {
            eprintln!("paxos::tests::membership failed with seed {seed}");
            std::panic::resume_unwind(cause);
        }
    }
}
