//! Scripts for the rules of members that come and go (docs/membership.md): paxos alone, every message
//! in hand.

use super::cluster::{Cluster, Flight};
use super::scripts::{apart, elect_but, take, three};
use distkv::config::{EpochConfig, Policy};
use distkv::paxos::{Begun, Message, RoleName};
use distkv::types::{Code, NodeSet, Slot, ValueId};

/// Asks whoever leads for the change until it is begun: its slot.
pub fn begin(
    cluster: &mut Cluster,
    (joins, leaves, code): (u8, u8, (u8, u8)),
    is_lost: impl Fn(&Flight) -> bool,
) -> Slot {
    for _ in 0..200 {
        if let Some(leader) = cluster.leader() {
            let begun = cluster.change(leader, Some(joins), Some(leaves), code);
            if let Begun::Proposed(id) = begun {
                return id.slot;
            }
            assert_eq!(begun, Begun::NotYet);
        }
        cluster.pass(25, &is_lost);
    }
    panic!("the change is never begun");
}

/// Are these the members that `node` goes by, and no change under way?
pub fn goes_by(cluster: &Cluster, node: u8, members: &[u8]) -> bool {
    let members: NodeSet = members.iter().copied().collect();
    let configuration = cluster.configuration(node);
    configuration.change.is_none() && configuration.ids() == members
}

/// Does a leader's message say that `slot` is chosen?
pub fn tells_of(flight: &Flight, slot: Slot) -> bool {
    let (Message::Heartbeat { commit, .. } | Message::Accept { commit, .. }) = &flight.message
    else {
        return false;
    };
    *commit >= slot
}

/// Does a leader's message bring the value of `slot`?
pub fn brings(flight: &Flight, slot: Slot) -> bool {
    let Message::Accept { entries, .. } = &flight.message else { return false };
    entries.iter().any(|value| value.meta.slot() == slot)
}

/// Time passes until `node` goes by these members.
fn await_members(
    cluster: &mut Cluster,
    node: u8,
    members: &[u8],
    is_lost: impl Fn(&Flight) -> bool,
) {
    for _ in 0..200 {
        if goes_by(cluster, node, members) {
            return;
        }
        cluster.pass(25, &is_lost);
    }
    panic!("{node} never goes by {members:?}: {:?}", cluster.configuration(node));
}

/// What waits on the way from a leader to `to` comes there, and is answered.
pub fn exchange(cluster: &mut Cluster, leader: u8, to: u8) {
    for flight in take(cluster, leader, to, |message| matches!(message, Message::Accept { .. })) {
        cluster.deliver(flight);
    }
    cluster.sync(to);
    for flight in take(cluster, to, leader, |message| matches!(message, Message::Accepted { .. })) {
        cluster.deliver(flight);
    }
}

/// What a node read back, from its own log and from others'.
fn read_back(cluster: &mut Cluster, node: u8, slot: Slot) -> Option<Vec<u8>> {
    let at = usize::from(node);
    let now = cluster.now;
    cluster.nodes[at].paxos.as_mut()?.gather_payload(now, slot);
    cluster.drain(node);
    cluster.pass(4000, |_| false);
    let gathered = cluster.nodes[at].paxos.as_mut()?.poll_gathered()?;
    assert_eq!(gathered.slot, slot);
    Some(gathered.payload.to_vec())
}

/// A newcomer is told what is chosen before the log names it. It is to replace n1 of three nodes
/// with the code 2+1, and its id, 3, modulo three is 0: with the shards of that place, which n0
/// holds too, the loss of n2 would be the loss of everything.
pub fn a_newcomer_is_early() {
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    let acknowledged: Vec<(ValueId, usize)> =
        ["a", "bb", "ccc"].map(|text| (cluster.propose(leader, text, 700), text.len())).into();
    cluster.pass(300, |_| false);
    for (id, _) in &acknowledged {
        assert_eq!(cluster.chosen.get(&id.slot), Some(id));
    }
    cluster.crash(1);
    cluster.pass(3000, |_| false);
    let newcomer = cluster.add_node();
    cluster.pass(2000, |_| false);
    begin(&mut cluster, (newcomer, 1, (2, 1)), |_| false);
    let members = [0, 2, newcomer];
    for node in members {
        await_members(&mut cluster, node, &members, |_| false);
    }
    // All that three nodes of 2+1 promise: one goes.
    cluster.crash(2);
    cluster.pass(3000, |_| false);
    let reader = cluster.elect();
    for (id, length) in acknowledged {
        let payload = read_back(&mut cluster, reader, id.slot);
        let is_there = payload == Some(vec![u8::try_from(length).unwrap(); 700]);
        assert!(is_there, "read back: {id} is lost with one node of three");
    }
}

/// The entry that ends a change, of n2 for a newcomer, is chosen among the old members and the new,
/// and its leader alone knows it. The leader has the next value chosen with the newcomer, and dies.
/// The two old members that are left hold the entry, and know nothing of the value: what is behind
/// the entry was not theirs to choose. One of them campaigns, re-proposes the entry, and must ask the
/// new members before it proposes behind it.
pub fn the_end_of_a_change_is_found() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let first = cluster.elect();
    cluster.pass(200, |_| false);
    let [stays, leaves] = [1, 2].map(|step| (first + step) % 3);
    let newcomer = cluster.add_node();
    let begun = begin(&mut cluster, (newcomer, leaves, (1, 2)), |_| false);
    let end = begun.next();
    let is_told = |flight: &Flight| flight.from == first && tells_of(flight, end);
    await_members(&mut cluster, first, &[first, stays, newcomer], is_told);
    cluster.flights.clear();
    let value = cluster.propose(first, "first", 10);
    assert_eq!(value.slot, end.next());
    exchange(&mut cluster, first, newcomer);
    cluster.sync(first);
    assert_eq!(cluster.chosen.get(&value.slot), Some(&value), "with the newcomer");
    cluster.crash(first);
    let leads = |cluster: &Cluster| {
        cluster.nodes[usize::from(stays)].paxos.as_ref().unwrap().role() == RoleName::Leader
    };
    for _ in 0..200 {
        if leads(&cluster) {
            break;
        }
        cluster.pass_for(&[stays], 25, apart(&[stays, leaves]));
    }
    assert!(leads(&cluster), "two of the old members are enough for that");
    // The entry takes one of the new members, too.
    for _ in 0..200 {
        if cluster.can_propose(stays) {
            break;
        }
        cluster.pass_for(&[stays], 25, apart(&[stays, leaves, newcomer]));
    }
    assert!(cluster.can_propose(stays), "two of the new members are enough to go on");
    cluster.propose(stays, "second", 10);
    cluster.pass(4000, |_| false);
}

/// A node dies and is replaced, and then another one is to be replaced. When that is begun the first
/// change is settled: from there on those of the old members who are left, one, need not suffice.
///
/// The second node, `lagging`, misses a value, so that it applies nothing behind it. The entry that
/// ends the first change is chosen with `lagging` alone, and its leader alone has applied it. The
/// next change is begun at once, chosen with `lagging` and the newcomer, who both know nothing of
/// that end. Now the leader dies (it is one of three old members of whom one is dead, and one of three
/// new ones) and the others lose power. Nobody knows any more that there are other members.
pub fn a_change_comes_on_another() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 3);
    let leader = cluster.elect();
    let [lagging, dead] = [1, 2].map(|step| (leader + step) % 3);
    let [third, fourth] = [cluster.add_node(), cluster.add_node()];
    cluster.pass(200, |_| false);
    cluster.propose(leader, "missed", 10);
    cluster
        .settle(|flight| flight.to == lagging && matches!(flight.message, Message::Accept { .. }));
    cluster.crash(dead);
    let lags =
        |flight: &Flight| flight.from == lagging && matches!(flight.message, Message::Fetch { .. });
    let begun = begin(&mut cluster, (third, dead, (1, 2)), lags);
    let end = begun.next();
    await_members(&mut cluster, leader, &[leader, lagging, third], |flight| {
        let is_told = flight.from == leader && tells_of(flight, end);
        lags(flight) || is_told || flight.to == third && brings(flight, end)
    });
    let next = begin(&mut cluster, (fourth, lagging, (1, 2)), |_| false);
    exchange(&mut cluster, leader, lagging);
    exchange(&mut cluster, leader, third);
    assert!(cluster.chosen.contains_key(&next), "the second change is begun");
    [leader, lagging, third, fourth].into_iter().for_each(|node| cluster.crash(node));
    [lagging, third, fourth].into_iter().for_each(|node| cluster.start(node));
    for _ in 0..40 {
        cluster.pass(250, |_| false);
        let Some(leader) = cluster.leader().filter(|leader| cluster.can_propose(*leader)) else {
            continue;
        };
        let id = cluster.propose(leader, "last", 10);
        cluster.pass(1000, |_| false);
        assert_eq!(cluster.chosen.get(&id.slot), Some(&id), "progress: nothing is chosen");
        return;
    }
    panic!("progress: of three members the two that are left find no leader");
}

/// `d` is to replace `c`, which knows that, and has no vote yet. A value is chosen by `a` and `b`. `c`
/// asks for promises; it has its own and the newcomer's, who both know nothing of the value.
pub fn a_newcomer_promises() {
    let (mut cluster, [a, b, c]) = three();
    let d = cluster.add_node();
    // Nobody hears that the newcomer is level, so the change stays open.
    let says_level = |flight: &Flight| {
        let is_answer =
            matches!(flight.message, Message::HeartbeatReply { .. } | Message::Accepted { .. });
        flight.from == d && is_answer
    };
    begin(&mut cluster, (d, c, (1, 2)), says_level);
    cluster.pass(500, says_level);
    let knows = |node| cluster.configuration(node).change.is_some();
    assert!([a, b, c, d].into_iter().all(knows), "the change is under way everywhere");
    let value = cluster.propose(a, "v", 10);
    cluster.settle(|flight| apart(&[a, b])(flight) || tells_of(flight, value.slot));
    assert_eq!(cluster.chosen.get(&value.slot), Some(&value), "chosen by two of three");
    cluster.crash(a);
    let is_lost = |flight: &Flight| {
        flight.from == b && !matches!(flight.message, Message::PreVoteReply { .. })
    };
    if elect_but(&mut cluster, &[c], is_lost).is_some() {
        cluster.propose(c, "last", 10);
    }
    cluster.pass(6000, |_| false);
}

/// The entry that ends a change, of `c` for a newcomer, reaches the newcomer and neither `b` nor `c`:
/// two of the new members, one of the old. Then its leader dies, and the other two old members, who
/// know of no end, choose what they like in its slot.
pub fn the_end_of_a_change_misses_the_old() {
    let (mut cluster, [a, b, c]) = three();
    let d = cluster.add_node();
    let end = begin(&mut cluster, (d, c, (1, 2)), |_| false).next();
    for _ in 0..100 {
        if goes_by(&cluster, a, &[a, b, d]) {
            break;
        }
        cluster.pass(25, |flight| flight.to != d && (brings(flight, end) || tells_of(flight, end)));
    }
    cluster.crash(a);
    let leader = elect_but(&mut cluster, &[b], apart(&[b, c])).unwrap();
    cluster.propose(leader, "second", 10);
    cluster.settle(apart(&[b, c]));
    cluster.pass(4000, |_| false);
}

/// Delivers what waits of this kind from one node to another, which syncs.
pub fn hand(cluster: &mut Cluster, from: u8, to: u8, is_it: fn(&Message) -> bool) {
    take(cluster, from, to, is_it).into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.sync(to);
}

fn is_prepare(message: &Message) -> bool {
    matches!(message, Message::Prepare { .. })
}

pub fn is_promise(message: &Message) -> bool {
    matches!(message, Message::Promise { .. })
}

fn is_vote(message: &Message) -> bool {
    matches!(message, Message::PreVote { .. } | Message::PreVoteReply { .. })
}

/// `candidate` campaigns, with the votes of `near`; the promises of those of them in `prompt` and the
/// question to `late`, on their way.
pub fn ask(
    cluster: &mut Cluster,
    candidate: u8,
    near: &[u8],
    (prompt, late): (&[u8], u8),
) -> (Vec<Flight>, Vec<Flight>) {
    for _ in 0..200 {
        cluster.flights.clear();
        cluster.tick_for(&[candidate], 25);
        for voter in near {
            hand(cluster, candidate, *voter, is_vote);
            hand(cluster, *voter, candidate, is_vote);
        }
        cluster.sync(candidate);
        let question = take(cluster, candidate, late, is_prepare);
        if question.is_empty() {
            continue;
        }
        let mut promises = Vec::new();
        for voter in prompt {
            hand(cluster, candidate, *voter, is_prepare);
            promises.extend(take(cluster, *voter, candidate, is_promise));
        }
        assert_eq!(promises.len(), prompt.len());
        return (promises, question);
    }
    panic!("{candidate} never campaigns");
}

/// Five nodes, and an entry behind which others decide than before: it is in force where `is_entered`
/// says so, and was begun by `propose`.
///
/// `b` asks for promises, is answered (that is on its way) and stands still. `a` leads, at a higher
/// ballot, with `e` and `f`, has the entry chosen, and then a value. `z`, which has promised nobody,
/// hears of the entry from `f`, and only now of what `b` asked: with the promises that were on their
/// way, and that of `z`, `b` leads by the rules that the entry starts. It and `z` know nothing of
/// the value behind it, and are enough to choose another: `a` must have asked as many of those who
/// count there as makes that impossible.
fn an_entry_is_heard_below(
    cluster: &mut Cluster,
    [a, b, z, e, f]: [u8; 5],
    prompt: &[u8],
    propose: impl Fn(&mut Cluster),
    is_entered: impl Fn(&Cluster, u8) -> bool,
) {
    let (promises, question) = ask(cluster, b, &[e, f, z], (prompt, z));
    let near = [a, e, f];
    for _ in 0..200 {
        if is_entered(cluster, f) {
            break;
        }
        // Whom a hears no more from asks who the members are.
        let awake = if is_entered(cluster, a) { &near[..] } else { &[a] };
        cluster.pass_for(awake, 25, apart(&near));
        propose(cluster);
    }
    assert!(is_entered(cluster, f), "three of five are enough for the entry");
    if cluster.can_propose(a) {
        cluster.propose(a, "first", 0);
        cluster.settle(apart(&near));
    }
    for _ in 0..200 {
        if is_entered(cluster, z) {
            break;
        }
        cluster.pass_for(&[z], 25, apart(&[z, f]));
    }
    assert!(is_entered(cluster, z), "z hears of it from f");
    cluster.flights.clear();
    question.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.sync(z);
    hand(cluster, z, b, is_promise);
    promises.into_iter().for_each(|flight| cluster.deliver(flight));
    assert!(cluster.can_propose(b), "b leads with promises of before and after the entry");
    cluster.propose(b, "second", 0);
    cluster.settle(apart(&[b, z]));
    cluster.pass_for(&[b], 100, apart(&[b, z]));
    cluster.pass(4000, |_| false);
}

/// `f` leaves: of the four that are left two choose a value, and three promise.
pub fn the_end_of_a_change_is_heard_below() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let a = cluster.elect();
    cluster.pass(200, |_| false);
    let [b, z, e, f] = [1, 2, 3, 4].map(|step| (a + step) % 5);
    while !matches!(cluster.change(a, None, Some(f), (1, 3)), Begun::Proposed(_)) {
        cluster.pass(25, |_| false);
    }
    cluster.settle(|_| false);
    let is_entered = |cluster: &Cluster, node| goes_by(cluster, node, &[a, b, z, e]);
    an_entry_is_heard_below(&mut cluster, [a, b, z, e, f], &[e], |_| {}, is_entered);
}

/// The policy changes to one with a larger prepare quorum, four of five: two copies choose.
pub fn a_larger_quorum_is_heard_below() {
    let mut cluster = Cluster::new(Policy::Craft, 3, 5);
    let a = cluster.elect();
    cluster.pass(200, |_| false);
    let [b, z, e, f] = [1, 2, 3, 4].map(|step| (a + step) % 5);
    let before = cluster.configuration(a).rules;
    let code = Code::new(3, 2).unwrap();
    let wanted = EpochConfig { policy: Policy::RsPaxos, code, ..before };
    let is_entered =
        |cluster: &Cluster, node| cluster.configuration(node).rules.policy == Policy::RsPaxos;
    let propose = |cluster: &mut Cluster| {
        if !is_entered(cluster, a) {
            cluster.propose_epoch(a, wanted);
        }
    };
    an_entry_is_heard_below(&mut cluster, [a, b, z, e, f], &[e, f], propose, is_entered);
}
