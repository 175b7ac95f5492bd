//! Scripted clusters, one law a test.

use super::super::{Message, PromiseEntry, RoleName};
use super::cluster::{Cluster, Flight};
use crate::config::{EpochConfig, Policy};
use crate::types::{Code, Epoch, ShardSet, Slot};

fn ballot_of(cluster: &Cluster, rank: u8) -> crate::types::Ballot {
    cluster.nodes[usize::from(rank)].paxos.as_ref().unwrap().promised()
}

fn each_policy(test: impl Fn(Cluster)) {
    test(Cluster::new(Policy::Replicate, 1, 5));
    test(Cluster::new(Policy::RsPaxos, 3, 5));
    test(Cluster::new(Policy::Craft, 3, 5));
    test(Cluster::new(Policy::Craft, 2, 3));
    test(Cluster::new(Policy::Crossword, 3, 5));
    test(Cluster::new(Policy::Hybrid, 3, 5));
}

#[test]
fn a_value_is_chosen_and_everybody_applies_it() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        for text in ["a", "bb", "ccc"] {
            cluster.propose(leader, text, 1000);
        }
        cluster.pass(200, |_| false);
        for rank in 0..cluster.count() {
            assert_eq!(cluster.texts(rank), ["a", "bb", "ccc"], "rank {rank}");
        }
    });
}

#[test]
fn a_commit_is_told_before_the_next_heartbeat() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        cluster.pass(100, |_| false);
        cluster.propose(leader, "a", 1000);
        // Right after a heartbeat, and nothing else is proposed that could carry the commit.
        cluster.settle(|_| false);
        for _ in 0..2 {
            cluster.tick(std::time::Duration::from_millis(1));
            cluster.settle(|flight| matches!(flight.message, Message::Heartbeat { .. }));
        }
        for rank in 0..cluster.count() {
            assert_eq!(cluster.texts(rank), ["a"], "rank {rank}");
        }
    });
}

#[test]
fn a_follower_keeps_its_own_shard_only() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    let id = cluster.propose(leader, "a", 3000);
    cluster.pass(100, |_| false);
    for (rank, node) in (0_u8..).zip(&cluster.nodes) {
        let (_, _, shards) = &node.durable.values[&id.slot];
        let held: ShardSet = shards.keys().copied().collect();
        assert_eq!(held, ShardSet::one(rank), "rank {rank}");
        assert_eq!(shards[&rank].bytes.len(), 1000);
    }
}

#[test]
fn a_new_leader_counts_on_nobody_who_has_not_promised() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        cluster.propose(leader, "a", 1000);
        cluster.pass(100, |_| false);
        cluster.crash(leader);
        let next = cluster.elect();
        let now = cluster.now;
        cluster.propose(next, "bb", 1000);
        cluster.settle(|_| false);
        // No time has passed in which the dead node could be found silent.
        assert_eq!(
            (cluster.now, cluster.texts(next).len()),
            (now, 2),
            "{:?}",
            cluster.config.policy
        );
    });
}

#[test]
fn one_node_alone_works() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 1);
    let leader = cluster.elect();
    cluster.propose(leader, "a", 10);
    cluster.pass(50, |_| false);
    assert_eq!(cluster.texts(0), ["a"]);
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    cluster.propose(leader, "a", 100);
    // Deliver the Accepts, but nobody syncs: no Accepted may leave.
    while let Some(flight) = cluster.flights.pop_front() {
        assert!(!matches!(flight.message, Message::Accepted { .. }), "acknowledged unsynced");
        cluster.deliver(flight);
    }
    assert!(cluster.chosen.is_empty());
}

#[test]
fn a_candidate_stores_its_ballot_before_it_asks() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    for _ in 0..80 {
        cluster.tick(std::time::Duration::from_millis(25));
        while let Some(flight) = cluster.flights.pop_front() {
            assert!(!matches!(flight.message, Message::Prepare { .. }), "asked unsynced");
            cluster.deliver(flight);
        }
    }
}

#[test]
fn craft_falls_back_to_full_copies_when_too_few_are_alive() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    let dead: Vec<u8> = (0..5).filter(|rank| *rank != leader).take(2).collect();
    let is_dead = |rank: u8| dead.contains(&rank);
    cluster.propose(leader, "stuck", 300);
    let lost = |flight: &Flight| is_dead(flight.to) || is_dead(flight.from);
    cluster.pass(100, lost);
    assert!(cluster.chosen.is_empty(), "three single shards choose nothing");
    cluster.pass(1500, lost);
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.texts(leader), ["stuck"]);
    // A new leader among the survivors and the returned rebuilds it.
    cluster.crash(leader);
    cluster.pass(3000, |_| false);
    let next = cluster.elect();
    cluster.pass(1000, |_| false);
    assert_eq!(cluster.texts(next), ["stuck"]);
}

#[test]
fn a_node_too_far_behind_to_accept_is_not_waited_for() {
    let mut config = Cluster::config(Policy::Craft, 3, 5);
    config.limits.accept_ahead_slots = 4;
    let mut cluster = Cluster::with_config(config, 7);
    let leader = cluster.elect();
    let away = (leader + 1) % 5;
    cluster.crash(away);
    cluster.pass(1500, |_| false);
    for text in ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"] {
        cluster.propose(leader, text, 300);
        cluster.settle(|_| false);
    }
    // It is heard again, and gets nothing of what it lacks: it refuses what comes after.
    cluster.start(away);
    let is_late =
        |flight: &Flight| flight.to == away && matches!(flight.message, Message::Shards { .. });
    cluster.pass(100, is_late);
    cluster.propose(leader, "ggggggg", 300);
    cluster.settle(is_late);
    assert_eq!(cluster.texts(leader).len(), 7, "nobody waits for who refuses");
    assert_eq!(cluster.leader(), Some(leader));
    // It has caught up: what is in flight meets it again, and it holds its own shard alone.
    cluster.pass(2000, |_| false);
    let id = cluster.propose(leader, "hhhhhhhh", 300);
    cluster.pass(100, |_| false);
    assert_eq!(cluster.texts(away).len(), 8);
    let (_, _, shards) = &cluster.nodes[usize::from(away)].durable.values[&id.slot];
    assert_eq!(shards.len(), 1, "single shards again");
}

#[test]
fn rs_paxos_stalls_rather_than_lose_when_too_few_are_alive() {
    let mut cluster = Cluster::new(Policy::RsPaxos, 3, 5);
    let leader = cluster.elect();
    let dead: Vec<u8> = (0..5).filter(|rank| *rank != leader).take(2).collect();
    cluster.propose(leader, "a", 300);
    cluster.pass(3000, |flight| dead.contains(&flight.to) || dead.contains(&flight.from));
    assert!(cluster.chosen.is_empty());
    // It also gives up the lead: it could only block others.
    assert_eq!(cluster.leader(), None);
    cluster.pass(3000, |_| false);
    let next = cluster.elect();
    cluster.propose(next, "bb", 300);
    cluster.pass(500, |_| false);
    assert!(cluster.texts(next).contains(&"bb".to_owned()));
}

#[test]
fn a_new_leader_finishes_what_was_half_accepted() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        let id = cluster.propose(leader, "half", 700);
        // Everybody accepts, nobody hears of it.
        cluster.settle(|flight| matches!(flight.message, Message::Accepted { .. }));
        cluster.crash(leader);
        cluster.flights.clear();
        let next = cluster.elect();
        cluster.pass(2000, |_| false);
        assert_ne!(next, leader);
        let survives = cluster.chosen.get(&id.slot) == Some(&id);
        assert!(survives, "rule 3: the value id stays; got {:?}", cluster.chosen);
        assert!(cluster.texts(next).contains(&"half".to_owned()));
    });
}

#[test]
fn a_promise_survives_restart() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    let promised = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().promised();
    let follower = (leader + 1) % 3;
    cluster.crash(follower);
    cluster.start(follower);
    let paxos = cluster.nodes[usize::from(follower)].paxos.as_ref().unwrap();
    assert_eq!(paxos.promised(), promised);
}

#[test]
fn a_follower_that_missed_slots_gets_its_own_shards() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        let away = (leader + 1) % cluster.count();
        if cluster.count() == 5 {
            let lost = |flight: &Flight| flight.to == away || flight.from == away;
            cluster.pass(1000, lost);
            let leader = cluster.leader().unwrap();
            for text in ["a", "bb", "ccc", "dddd"] {
                cluster.propose(leader, text, 500);
                cluster.pass(100, lost);
            }
        }
        cluster.pass(4000, |_| false);
        let leader = cluster.elect();
        let expected = cluster.texts(leader);
        assert_eq!(cluster.texts(away), expected);
        for meta in &cluster.nodes[usize::from(away)].applied {
            let (_, _, shards) = &cluster.nodes[usize::from(away)].durable.values[&meta.slot()];
            assert!(shards.contains_key(&away), "{} lacks its home shard", meta.slot());
        }
    });
}

#[test]
fn everybody_restarts_and_nothing_chosen_is_lost() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        for text in ["a", "bb", "ccc"] {
            cluster.propose(leader, text, 900);
        }
        cluster.settle(|_| false);
        let chosen = cluster.chosen.clone();
        for rank in 0..cluster.count() {
            cluster.crash(rank);
        }
        for rank in 0..cluster.count() {
            cluster.start(rank);
        }
        let leader = cluster.elect();
        cluster.pass(2000, |_| false);
        assert_eq!(cluster.texts(leader), ["a", "bb", "ccc"]);
        for (slot, id) in chosen {
            assert_eq!(cluster.chosen[&slot], id);
        }
    });
}

#[test]
fn a_damaged_slot_is_fetched_and_never_answered_as_empty() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    for text in ["a", "bb", "ccc"] {
        cluster.propose(leader, text, 900);
    }
    cluster.pass(500, |_| false);
    let victim = (leader + 1) % 5;
    cluster.crash(victim);
    let log = &mut cluster.nodes[usize::from(victim)].durable;
    log.faulty.push(Slot(2));
    cluster.start(victim);
    cluster.pass(2000, |_| false);
    assert_eq!(cluster.texts(victim), ["a", "bb", "ccc"]);
    assert!(cluster.nodes[usize::from(victim)].durable.faulty.is_empty(), "stored anew");
}

#[test]
fn reads_that_come_together_are_confirmed_by_one_heartbeat() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        cluster.pass(200, |_| false);
        let point = |cluster: &mut Cluster| {
            let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
            (paxos.read_point().unwrap().0, paxos.confirmed_sequence())
        };
        let together: Vec<(u64, u64)> = (0..10).map(|_| point(&mut cluster)).collect();
        let (first, confirmed) = together[0];
        assert!(confirmed < first && together.iter().all(|other| *other == together[0]));
        cluster.drain(leader);
        let is_heartbeat = |flight: &&Flight| matches!(flight.message, Message::Heartbeat { .. });
        let heartbeats = cluster.flights.iter().filter(is_heartbeat).count();
        assert_eq!(heartbeats, usize::from(cluster.count()) - 1, "one to each of the others");
        // Whoever comes when it is on its way needs the next one.
        let (later, confirmed) = point(&mut cluster);
        assert!(later > first && confirmed < first);
        cluster.settle(|flight| {
            let Message::Heartbeat { sequence, .. } = flight.message else { return false };
            sequence > first
        });
        let confirmed =
            cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().confirmed_sequence();
        assert_eq!(confirmed, first, "and is not confirmed by that");
    });
}

#[test]
fn a_leader_that_hears_too_few_steps_down() {
    each_policy(|mut cluster| {
        let leader = cluster.elect();
        cluster.pass(1000, |flight| flight.to == leader);
        let role = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().role();
        assert_ne!(role, RoleName::Leader);
        assert_eq!(cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap().read_point(), None);
    });
}

#[test]
fn a_node_that_cannot_hear_the_leader_disturbs_nobody() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let leader = cluster.elect();
    let deaf = (leader + 1) % 5;
    let ballot = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap().promised();
    cluster.pass(5000, |flight| flight.to == deaf && flight.from == leader);
    assert_eq!(cluster.leader(), Some(leader));
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
    assert_eq!(paxos.promised(), ballot, "an election was forced");
}

#[test]
fn a_read_point_is_confirmed_by_more_than_n_minus_q1() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let leader = cluster.elect();
    cluster.pass(100, |_| false);
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
    let (sequence, _) = paxos.read_point().unwrap();
    cluster.drain(leader);
    let silent: Vec<u8> = (0..5).filter(|rank| *rank != leader).take(3).collect();
    cluster.settle(|flight| silent.contains(&flight.from));
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
    assert!(paxos.confirmed_sequence() < sequence, "two of five confirm nothing");
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_mut().unwrap();
    let (sequence, _) = paxos.read_point().unwrap();
    cluster.drain(leader);
    let silent = &silent[..2];
    cluster.settle(|flight| silent.contains(&flight.from));
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
    assert!(paxos.confirmed_sequence() >= sequence);
}

#[test]
fn an_accept_that_comes_after_its_commit_is_applied() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    let late = (leader + 1) % 3;
    cluster.propose(leader, "a", 10);
    // The Accept to one follower is held up until the commit that covers it has arrived there.
    let is_held =
        |flight: &Flight| flight.to == late && matches!(flight.message, Message::Accept { .. });
    let held: std::collections::VecDeque<_> = {
        let (held, others) = cluster.flights.drain(..).partition(|flight| is_held(flight));
        cluster.flights = others;
        held
    };
    // Not so long that it is missed and fetched.
    cluster.pass(50, |_| false);
    assert!(cluster.texts(late).is_empty());
    for flight in held {
        cluster.deliver(flight);
    }
    cluster.settle(|_| false);
    assert_eq!(cluster.texts(late), ["a"], "nothing else would apply it");
}

#[test]
fn a_policy_changes_while_the_cluster_runs() {
    // Rule 11: values of the old epoch stay readable, new ones follow the new policy.
    let mut cluster = Cluster::new(Policy::RsPaxos, 3, 5);
    let leader = cluster.elect();
    cluster.propose(leader, "before", 300);
    cluster.pass(100, |_| false);
    let code = Code::new(2, 3).unwrap();
    let wanted =
        EpochConfig { epoch: Epoch(0), nodes: 5, policy: Policy::Craft, code, hybrid_bytes: 0 };
    let id = cluster.propose_epoch(leader, wanted).unwrap();
    assert!(!cluster.can_propose(leader), "nothing is proposed behind a configuration");
    assert_eq!(cluster.propose_epoch(leader, wanted), None);
    cluster.pass(200, |_| false);
    assert_eq!(cluster.chosen.get(&id.slot), Some(&id));
    let after = cluster.propose(leader, "after", 300);
    cluster.pass(200, |_| false);
    for node in &cluster.nodes {
        let paxos = node.paxos.as_ref().unwrap();
        assert_eq!(paxos.epoch().policy, Policy::Craft);
        let meta = node.applied.iter().find(|meta| meta.id == after).unwrap();
        assert_eq!((meta.epoch, meta.code), (Epoch(1), code));
    }
    // Restarted, every node is in the new epoch, and the new leader too.
    for rank in 0..5 {
        cluster.crash(rank);
    }
    for rank in 0..5 {
        cluster.start(rank);
    }
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let paxos = cluster.nodes[usize::from(leader)].paxos.as_ref().unwrap();
    assert_eq!((paxos.epoch().epoch, paxos.epoch().policy), (Epoch(1), Policy::Craft));
    assert_eq!(cluster.texts(leader), ["before", "after"]);
}

#[test]
fn a_new_leader_finishes_a_configuration_before_it_goes_on() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let leader = cluster.elect();
    let code = Code::new(3, 2).unwrap();
    let wanted =
        EpochConfig { epoch: Epoch(0), nodes: 5, policy: Policy::RsPaxos, code, hybrid_bytes: 0 };
    let id = cluster.propose_epoch(leader, wanted).unwrap();
    // Accepted by three (chosen: its header is everywhere), but the leader never hears of it.
    cluster.settle(|flight| flight.to == leader);
    cluster.crash(leader);
    cluster.pass(3000, |_| false);
    let next = cluster.elect();
    cluster.pass(500, |_| false);
    assert_eq!(cluster.chosen.get(&id.slot), Some(&id));
    let paxos = cluster.nodes[usize::from(next)].paxos.as_ref().unwrap();
    assert_eq!(paxos.epoch().policy, Policy::RsPaxos);
    assert!(cluster.can_propose(next));
}

#[test]
fn a_repeated_prepare_is_promised_whole() {
    // Two answers were on their way at once, and the reads of the first stood for slots of the
    // second: its promise named one slot twice and left the last one out. A value chosen there was
    // chosen again (seed 3263 of the random runs).
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    let other = (leader + 1) % 3;
    for text in ["a", "b", "c", "d", "e"] {
        cluster.propose(leader, text, 90);
    }
    cluster.settle(|flight| flight.to == leader);
    let ballot = crate::types::Ballot { round: 99, node: leader };
    let released = ballot_of(&cluster, leader);
    for attempt in [1, 1] {
        let message = Message::Prepare { ballot, attempt, released };
        cluster.deliver(super::cluster::Flight { from: leader, to: other, message });
    }
    cluster.sync(other);
    let mut slots = Vec::new();
    for flight in &cluster.flights {
        if let Message::Promise(promise) = &flight.message {
            assert_eq!(u64::from(promise.page), slots.len() as u64);
            let of_page = promise.entries.iter().map(|entry| match entry {
                PromiseEntry::Accepted { value, .. } => value.meta.slot().0,
                PromiseEntry::Faulty { .. } | PromiseEntry::AllFaulty => 0,
            });
            slots.push(of_page.collect::<Vec<u64>>());
        }
    }
    assert_eq!(slots.concat(), [1, 2, 3, 4, 5]);
}

#[test]
fn random_runs_agree_and_heal() {
    for seed in 0..1000 {
        let outcome = std::panic::catch_unwind(|| super::random::run(seed));
        if let Err(cause) = outcome {
            eprintln!("paxos::tests::random failed with seed {seed}");
            std::panic::resume_unwind(cause);
        }
    }
}
