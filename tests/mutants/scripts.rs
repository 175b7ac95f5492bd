//! Scripts for what random runs meet too rarely: few nodes of paxos alone, every message in hand. Each
//! ends in a check of the harness, of agreement or of leases, which is silent with nothing broken.

use super::cluster::{Cluster, Flight};
use distkv::config::{ClusterConfig, Policy};
use distkv::paxos::{Message, RoleName};
use distkv::types::Ballot;
use std::time::Duration;

/// Three nodes with their leader first, at rest.
pub fn three() -> (Cluster, [u8; 3]) {
    three_with(Cluster::config(Policy::Replicate, 1, 3))
}

fn three_with(config: ClusterConfig) -> (Cluster, [u8; 3]) {
    let mut cluster = Cluster::with_config(config, 7);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    (cluster, [leader, (leader + 1) % 3, (leader + 2) % 3])
}

/// Everything but what these nodes say to each other is lost.
pub fn apart(nodes: &[u8]) -> impl Fn(&Flight) -> bool {
    move |flight| !(nodes.contains(&flight.from) && nodes.contains(&flight.to))
}

/// Lets `awake` try until one of them leads; the others of `near` only answer.
pub fn elect(cluster: &mut Cluster, awake: &[u8], near: &[u8]) -> Option<u8> {
    elect_but(cluster, awake, apart(near))
}

/// The same, with what is lost.
pub fn elect_but(
    cluster: &mut Cluster,
    awake: &[u8],
    is_lost: impl Fn(&Flight) -> bool,
) -> Option<u8> {
    for _ in 0..200 {
        cluster.pass_for(awake, 25, &is_lost);
        let leads = |rank: &&u8| {
            let paxos = cluster.nodes[usize::from(**rank)].paxos.as_ref();
            paxos.is_some_and(|paxos| paxos.role() == RoleName::Leader && paxos.can_propose(0))
        };
        if let Some(rank) = awake.iter().find(leads) {
            return Some(*rank);
        }
    }
    None
}

/// Takes the messages of one kind from one node to another out of the network.
pub fn take(cluster: &mut Cluster, from: u8, to: u8, is_it: fn(&Message) -> bool) -> Vec<Flight> {
    let (taken, left): (Vec<Flight>, Vec<Flight>) = cluster
        .flights
        .drain(..)
        .partition(|flight| (flight.from, flight.to) == (from, to) && is_it(&flight.message));
    cluster.flights.extend(left);
    taken
}

fn is_reply(message: &Message) -> bool {
    matches!(message, Message::HeartbeatReply { .. })
}

/// A heartbeat of `leader` reaches `follower`; its answer, on its way.
fn late_reply(cluster: &mut Cluster, leader: u8, follower: u8) -> Vec<Flight> {
    cluster.flights.clear();
    cluster.tick_for(&[leader], 50);
    let to_follower =
        take(cluster, leader, follower, |message| matches!(message, Message::Heartbeat { .. }));
    cluster.flights.clear();
    to_follower.into_iter().for_each(|flight| cluster.deliver(flight));
    take(cluster, follower, leader, is_reply)
}

/// A leader sends nothing to a node that has not spoken to it: the node answers a heartbeat.
fn introduce(cluster: &mut Cluster, leader: u8, follower: u8) {
    let mut replies = late_reply(cluster, leader, follower);
    cluster.sync(follower);
    replies.extend(take(cluster, follower, leader, is_reply));
    assert!(!replies.is_empty(), "{follower} does not answer");
    replies.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.flights.clear();
}

/// The answer to a heartbeat comes when another leads: it must not give a lease from then on.
pub fn a_lease_comes_late() {
    let (mut cluster, [old, a, b]) = three();
    let late = late_reply(&mut cluster, old, a);
    cluster.flights.clear();
    let new = elect(&mut cluster, &[a, b], &[a, b]).unwrap();
    cluster.propose(new, "new", 10);
    cluster.settle(apart(&[a, b]));
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.check_leases();
}

/// The leader's clock runs half as fast as those of the others, as the configuration allows: it must
/// count less than its lease, or it answers when they have long elected another.
pub fn a_clock_is_slow() {
    let mut config = Cluster::config(Policy::Replicate, 1, 3);
    config.timing.clock_drift = 0.5;
    let (mut cluster, [old, a, b]) = three_with(config);
    let replies = late_reply(&mut cluster, old, a);
    let asked_at = cluster.now;
    replies.into_iter().for_each(|flight| cluster.deliver(flight));
    let paxos = cluster.nodes[usize::from(old)].paxos.as_ref().unwrap();
    assert!(paxos.holds_lease(asked_at), "{old} has a lease");
    cluster.flights.clear();
    let new = elect(&mut cluster, &[a, b], &[a, b]).unwrap();
    cluster.propose(new, "new", 10);
    cluster.settle(apart(&[a, b]));
    // Half as fast at most: however long the election takes, it may be this early.
    let age = (cluster.now.since(asked_at) / 2).min(Duration::from_millis(299));
    cluster.check_lease(old, asked_at + age);
}

/// A node votes for a ballot, then grants a lease, then is asked to promise the ballot.
pub fn a_granter_is_asked() {
    let (mut cluster, [old, granter, other]) = three();
    let late = late_reply(&mut cluster, old, granter);
    // The vote is given; the ballot is not yet durable.
    'vote: for _ in 0..200 {
        cluster.tick_for(&[other], 25);
        let asks = take(&mut cluster, other, granter, |message| {
            matches!(message, Message::PreVote { .. })
        });
        cluster.flights.clear();
        for ask in asks {
            cluster.deliver(ask);
            let votes = take(&mut cluster, granter, other, |message| {
                matches!(message, Message::PreVoteReply { is_granted: true, .. })
            });
            if let Some(vote) = votes.into_iter().next() {
                cluster.deliver(vote);
                break 'vote;
            }
        }
    }
    // The old leader has just heard of the granter, and gets a lease of it.
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.flights.clear();
    for reply in late_reply(&mut cluster, old, granter) {
        cluster.deliver(reply);
    }
    cluster.flights.clear();
    cluster.sync(other);
    cluster.settle(apart(&[granter, other]));
    let leads = cluster.nodes[usize::from(other)].paxos.as_ref().unwrap().role();
    if leads == RoleName::Leader && cluster.can_propose(other) {
        cluster.propose(other, "new", 10);
        cluster.settle(apart(&[granter, other]));
    }
    cluster.check_leases();
}

/// A node answers for a slot whose newest record cannot be read, or was found damaged at its start.
pub fn a_record_is_lost(is_restarted: bool) {
    let (mut cluster, [first, keeper, new]) = three();
    // The first leader's value reaches the keeper alone, and is lost where it came from.
    let lost = cluster.propose(first, "old", 10);
    for flight in take(&mut cluster, first, keeper, |m| matches!(m, Message::Accept { .. })) {
        cluster.deliver(flight);
    }
    cluster.sync(keeper);
    cluster.flights.clear();
    cluster.crash(first);
    cluster.start(first);
    let older = cluster.nodes[usize::from(keeper)].written.values[&lost.slot].clone();
    // The next leader's value is chosen with the keeper.
    let leader = elect(&mut cluster, &[new], &[first, new]).unwrap();
    introduce(&mut cluster, new, keeper);
    assert_eq!(cluster.propose(leader, "newer", 10).slot, lost.slot);
    for flight in take(&mut cluster, new, keeper, |m| matches!(m, Message::Accept { .. })) {
        cluster.deliver(flight);
    }
    cluster.sync(new);
    cluster.sync(keeper);
    // The keeper acknowledges it, and never hears that it is chosen.
    for flight in take(&mut cluster, keeper, new, |_| true) {
        cluster.deliver(flight);
    }
    cluster.flights.clear();
    cluster.crash(new);
    let node = &mut cluster.nodes[usize::from(keeper)];
    if is_restarted {
        node.durable.values.remove(&lost.slot);
        node.durable.faulty.push(lost.slot);
        cluster.crash(keeper);
        cluster.start(keeper);
    } else {
        node.written.values.insert(lost.slot, older);
    }
    if let Some(leader) = elect(&mut cluster, &[first], &[first, keeper]) {
        cluster.propose(leader, "last", 10);
        cluster.settle(apart(&[first, keeper]));
    }
    cluster.settle(apart(&[first, keeper]));
}

/// A node promises, loses power, and accepts below its promise.
pub fn a_promise_is_lost() {
    let (mut cluster, [old, voter, new]) = three();
    let promised = |cluster: &Cluster, rank: u8| -> Ballot {
        cluster.nodes[usize::from(rank)].paxos.as_ref().unwrap().promised()
    };
    let before = promised(&cluster, old);
    // The new leader campaigns; nothing that the voter writes becomes durable.
    let mut promises = Vec::new();
    for _ in 0..200 {
        cluster.tick_for(&[new], 25);
        cluster.sync(new);
        for flight in take(&mut cluster, new, voter, |_| true) {
            cluster.deliver(flight);
        }
        for flight in take(&mut cluster, voter, new, |_| true) {
            if matches!(flight.message, Message::Promise(_)) {
                promises.push(flight);
            } else {
                cluster.deliver(flight);
            }
        }
        cluster.flights.clear();
        if promised(&cluster, voter) > before {
            break;
        }
    }
    cluster.crash(voter);
    cluster.start(voter);
    cluster.propose(old, "old", 10);
    cluster.settle(apart(&[old, voter]));
    promises.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.settle(apart(&[new]));
    if cluster.can_propose(new) {
        cluster.propose(new, "newer", 10);
        cluster.pass_for(&[new], 500, apart(&[new, voter]));
    }
}

/// A node leads twice; an acknowledgement of its first time comes in its second.
pub fn an_old_ack_comes() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let a = cluster.elect();
    cluster.pass(200, |_| false);
    let [b, c, d, e] = [1, 2, 3, 4].map(|step| (a + step) % 5);
    let is_accept: fn(&Message) -> bool = |m| matches!(m, Message::Accept { .. });
    let first = cluster.propose(a, "w", 10);
    cluster.sync(a);
    for flight in take(&mut cluster, a, b, is_accept) {
        cluster.deliver(flight);
    }
    cluster.sync(b);
    let late = take(&mut cluster, b, a, |m| matches!(m, Message::Accepted { .. }));
    cluster.flights.clear();
    // Another value reaches the same node, at a higher ballot.
    elect(&mut cluster, &[e], &[c, d, e]).unwrap();
    introduce(&mut cluster, e, b);
    assert_eq!(cluster.propose(e, "vv", 10).slot, first.slot);
    for flight in take(&mut cluster, e, b, is_accept) {
        cluster.deliver(flight);
    }
    cluster.sync(b);
    cluster.sync(e);
    cluster.flights.clear();
    // The first leads again, and proposes its value to one node more.
    let is_lost = |flight: &Flight| {
        let near = [a, c, d];
        !(near.contains(&flight.from) && near.contains(&flight.to))
            || flight.to == d && is_accept(&flight.message)
    };
    for _ in 0..200 {
        cluster.pass_for(&[a], 25, is_lost);
        let paxos = cluster.nodes[usize::from(a)].paxos.as_ref().unwrap();
        if paxos.role() == RoleName::Leader && paxos.promised() > first.origin {
            break;
        }
    }
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.settle(is_lost);
    cluster.pass_for(&[e], 4000, apart(&[b, d, e]));
}

/// What a node has applied is not among what it has accepted any more: a candidate that does not
/// hear of it proposes something else in the slot, to a node that never knew that it is chosen.
pub fn what_is_applied_is_proposed_anew() {
    let (mut cluster, [old, keeper, new]) = three();
    let is_accept: fn(&Message) -> bool = |m| matches!(m, Message::Accept { .. });
    let first = cluster.propose(old, "old", 10);
    for flight in take(&mut cluster, old, keeper, is_accept) {
        cluster.deliver(flight);
    }
    cluster.sync(keeper);
    cluster.sync(old);
    for flight in take(&mut cluster, keeper, old, |_| true) {
        cluster.deliver(flight);
    }
    late_reply(&mut cluster, old, keeper);
    let applied = cluster.nodes[usize::from(keeper)].paxos.as_ref().unwrap().applied();
    assert_eq!(applied, first.slot, "the keeper has applied it");
    cluster.flights.clear();
    cluster.crash(old);
    // What the keeper says of itself as a follower comes too late.
    let is_lost = |flight: &Flight| apart(&[keeper, new])(flight) || is_reply(&flight.message);
    elect_but(&mut cluster, &[new], is_lost).unwrap();
    cluster.start(old);
    introduce(&mut cluster, new, old);
    cluster.propose(new, "new", 10);
    for flight in take(&mut cluster, new, old, is_accept) {
        cluster.deliver(flight);
    }
    cluster.sync(new);
    cluster.sync(old);
    for flight in take(&mut cluster, old, new, |_| true) {
        cluster.deliver(flight);
    }
    cluster.pass(2000, |_| false);
}
