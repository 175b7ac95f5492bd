//! Seeded runs of paxos alone: loss, reordering, duplication, crashes that lose what was not synced.
//! The simulator does the same to whole nodes; this one is small enough to read a failure by eye.
//! `tests/mutants` uses it too.

use super::cluster::{Cluster, Flight};
use crate::config::{EpochConfig, Policy};
use crate::rng::Rng;
use crate::types::{Code, Epoch};
use std::time::Duration;

/// One run.
///
/// # Panics
/// When a checker finds anything wrong.
pub fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let shapes = [
        (Policy::Replicate, 1, 3),
        (Policy::Craft, 2, 3),
        (Policy::Craft, 2, 4),
        (Policy::Craft, 3, 5),
        (Policy::Crossword, 3, 5),
        (Policy::Crossword, 2, 4),
        (Policy::Hybrid, 3, 5),
        (Policy::RsPaxos, 2, 4),
        (Policy::RsPaxos, 3, 5),
        (Policy::RsPaxos, 2, 5),
    ];
    let (policy, k, nodes) = shapes[usize::try_from(rng.below(shapes.len() as u64)).unwrap()];
    let mut cluster = Cluster::new(policy, k, nodes);
    let loss = rng.unit() * 0.3;
    let mut proposed = 0_usize;
    for _ in 0..3000 {
        work(&mut cluster, &mut rng, loss, &mut proposed);
        cluster.check_leases();
    }
    heal(&mut cluster, seed);
}

/// Faults end: everything chosen must reach everybody, and new values must be chosen.
fn heal(cluster: &mut Cluster, seed: u64) {
    let nodes = cluster.count();
    for rank in 0..nodes {
        if cluster.nodes[usize::from(rank)].paxos.is_none() {
            cluster.start(rank);
        }
    }
    cluster.pass(3000, |_| false);
    let mut leader = cluster.elect();
    while !cluster.can_propose(leader) {
        cluster.pass(100, |_| false);
        leader = cluster.elect();
    }
    let id = cluster.propose(leader, "last", 90);
    // A gather that has long been in vain waits long before it asks again.
    for _ in 0..15 {
        cluster.pass(4000, |_| false);
        if cluster.nodes.iter().all(|node| node.applied.len() as u64 >= id.slot.0) {
            break;
        }
    }
    let chosen = cluster.chosen.get(&id.slot);
    assert_eq!(chosen, Some(&id), "progress: seed {seed} is not live after heal");
    let applied: Vec<_> = cluster.nodes.iter().map(|node| node.applied.len()).collect();
    let is_level = applied.iter().all(|count| *count == applied[0]);
    assert!(is_level, "progress: seed {seed} applied {applied:?}");
}

/// One thing happens: a message, a sync, time, a proposal, a crash or a start.
pub fn work(cluster: &mut Cluster, rng: &mut Rng, loss: f64, proposed: &mut usize) {
    let rank = u8::try_from(rng.below(u64::from(cluster.count()))).unwrap();
    match rng.below(100) {
        0..50 => {
            if !cluster.flights.is_empty() {
                let at = usize::try_from(rng.below(cluster.flights.len() as u64)).unwrap();
                let flight = cluster.flights.remove(at).unwrap();
                if rng.chance(0.05) {
                    let (from, to) = (flight.from, flight.to);
                    let message = flight.message.clone();
                    cluster.flights.push_back(Flight { from, to, message });
                }
                if !rng.chance(loss) {
                    cluster.deliver(flight);
                }
            }
        }
        50..75 => cluster.sync(rank),
        75..90 => cluster.tick(Duration::from_millis(rng.below(60))),
        90..97 => {
            if let Some(leader) = cluster.leader() {
                *proposed += 1;
                if rng.chance(0.1) {
                    let nodes = cluster.configuration(leader).rules.nodes;
                    change_policy(cluster, rng, leader, nodes);
                }
                if !cluster.can_propose(leader) {
                    return;
                }
                cluster.propose(leader, &"x".repeat(1 + *proposed % 200), 90);
            }
        }
        97..99 => {
            if cluster.nodes[usize::from(rank)].paxos.is_some() {
                cluster.crash(rank);
            }
        }
        _ => {
            if cluster.nodes[usize::from(rank)].paxos.is_none() {
                cluster.start(rank);
            }
        }
    }
}

/// Any policy and code that the cluster can be given.
pub fn change_policy(cluster: &mut Cluster, rng: &mut Rng, leader: u8, nodes: u8) {
    let policy = Policy::ALL[usize::try_from(rng.below(5)).unwrap()];
    let largest = policy.default_k(u32::from(nodes));
    let k = match policy {
        Policy::Replicate | Policy::Crossword => largest,
        Policy::RsPaxos => 1 + u32::try_from(rng.below(u64::from(nodes))).unwrap(),
        Policy::Craft | Policy::Hybrid => 1 + u32::try_from(rng.below(u64::from(largest))).unwrap(),
    };
    let k = u8::try_from(k).unwrap();
    let code = Code::new(k, nodes - k).unwrap();
    let epoch = Epoch(0);
    let wanted = EpochConfig { epoch, nodes, policy, code, hybrid_bytes: 64 }.checked().unwrap();
    cluster.propose_epoch(leader, wanted);
}
