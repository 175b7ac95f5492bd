//! Scripts of three ballots, the entry that ends a change of members, and what lies behind it. Every
//! message in hand, as in `scripts`.

use super::cluster::{Cluster, Flight};
use super::scripts::{apart, elect_but, take, three};
use super::scripts_members::{ask, begin, brings, exchange, goes_by, hand, is_promise, tells_of};
use distkv::config::Policy;
use distkv::paxos::{Begun, Message};

/// A heartbeat of `leader` reaches `node`, and its answer the leader, before anything of that is
/// stored.
fn answer_early(cluster: &mut Cluster, leader: u8, node: u8) {
    for _ in 0..20 {
        cluster.flights.clear();
        cluster.tick_for(&[leader], 25);
        let beats = take(cluster, leader, node, |m| matches!(m, Message::Heartbeat { .. }));
        beats.into_iter().for_each(|flight| cluster.deliver(flight));
        let answers = take(cluster, node, leader, |m| matches!(m, Message::HeartbeatReply { .. }));
        if !answers.is_empty() {
            return answers.into_iter().for_each(|flight| cluster.deliver(flight));
        }
    }
    panic!("{leader} sends no heartbeat");
}

fn restart(cluster: &mut Cluster, node: u8) {
    cluster.crash(node);
    cluster.start(node);
}

/// Does it tell of members, or bring what is chosen?
fn is_news(message: &Message) -> bool {
    matches!(
        message,
        Message::Probe { .. }
            | Message::Members { .. }
            | Message::Fetch { .. }
            | Message::Shards { .. }
    )
}

/// The entry that ends a change, of `c` for `d`, is chosen by `b` and `c`: two of the old members
/// and one of the new. So a lower ballot may still lead among the new, `d` and `a`, and has a value
/// chosen behind the entry. Between the two ballots lies that of `c`, which has proposed something
/// behind another value in the entry's slot, on its way to `a` alone. It overtakes what `a` holds.
///
/// `c`, `a` and `d` each lose power with something not stored: what `c` has proposed, and that `a`
/// and `d` have answered a heartbeat (`a` that of `c`, `d` that of `b`).
pub fn the_end_of_a_change_misses_the_new() {
    let (mut cluster, [a, b, c]) = three();
    let d = cluster.add_node();
    let is_level = |flight: &Flight| {
        let is_answer =
            matches!(flight.message, Message::HeartbeatReply { .. } | Message::Accepted { .. });
        flight.from == d && is_answer
    };
    begin(&mut cluster, (d, c, (1, 2)), is_level);
    cluster.pass(500, is_level);
    // The ballot of `c` is to be above the next one of `d`.
    elect_but(&mut cluster, &[b], apart(&[b, c])).unwrap();
    restart(&mut cluster, b);
    elect_but(&mut cluster, &[c], apart(&[b, c])).unwrap();
    answer_early(&mut cluster, c, a);
    cluster.propose(c, "in its slot", 10);
    let second = cluster.propose(c, "second", 10);
    let late = take(&mut cluster, c, a, |m| matches!(m, Message::Accept { .. }));
    assert_eq!(late.len(), 2, "on the way to a");
    [a, b, c].into_iter().for_each(|node| restart(&mut cluster, node));
    elect_but(&mut cluster, &[b], apart(&[b, c])).unwrap();
    answer_early(&mut cluster, b, d);
    restart(&mut cluster, d);
    for _ in 0..100 {
        if goes_by(&cluster, b, &[a, b, d]) {
            break;
        }
        cluster.pass_for(&[b], 25, apart(&[b, c]));
    }
    if !goes_by(&cluster, b, &[a, b, d]) {
        return cluster.pass(4000, |_| false);
    }
    for _ in 0..200 {
        if goes_by(&cluster, d, &[a, b, d]) {
            break;
        }
        let is_lost = |flight: &Flight| apart(&[b, d])(flight) || !is_news(&flight.message);
        cluster.pass_for(&[d], 25, is_lost);
    }
    assert!(goes_by(&cluster, d, &[a, b, d]), "d hears of the end");
    elect_but(&mut cluster, &[d], |f| apart(&[a, d])(f) || is_news(&f.message)).unwrap();
    let first = cluster.propose(d, "first", 10);
    assert!(first.slot == second.slot && first.origin < second.origin, "{first} and {second}");
    exchange(&mut cluster, d, a);
    cluster.sync(d);
    assert_eq!(cluster.chosen.get(&first.slot), Some(&first), "by a and d");
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.sync(a);
    cluster.crash(d);
    elect_but(&mut cluster, &[b], apart(&[a, b]));
    cluster.pass(4000, |_| false);
}

/// Five nodes, of which `g` leaves. `f` asks for promises, is answered by `b` (that is on its way)
/// and stands still. `c`, at a higher ballot, proposes two values, which are on their way to `a`
/// alone. `b`, at a ballot above both, has the entry chosen in the slot of the first of them, with
/// `c` and `g`: two of the four who are left. `a` hears of the entry and promises `f`, which leads
/// by the new list with `a`, and has a value chosen. What `c` proposed behind the entry's slot
/// overtakes it at `a`, and is what the next leader finds.
///
/// `c` and `a` lose power once: `c` with what it had proposed not stored, `a` having answered a
/// heartbeat of `c` and not stored that.
pub fn what_is_behind_the_end_is_overtaken() {
    let mut config = Cluster::config(Policy::Replicate, 1, 5);
    config.limits.in_flight_slots = 8;
    let mut cluster = Cluster::with_config(config, 7);
    let a = cluster.elect();
    // In a young log everybody is nearly level, and a leader would wait to close the change.
    for _ in 0..80 {
        cluster.propose(a, "old", 0);
        cluster.settle(|_| false);
    }
    cluster.pass(200, |_| false);
    let [b, c, f, g] = [1, 2, 3, 4].map(|step| (a + step) % 5);
    while !matches!(cluster.change(a, None, Some(g), (1, 3)), Begun::Proposed(_)) {
        cluster.pass(25, |_| false);
    }
    cluster.settle(|_| false);
    let (promises, question) = ask(&mut cluster, f, &[b, c, g], (&[b], a));
    cluster.flights.clear();
    let near = [b, c, g];
    // Whoever answers is level, and the change would be closed.
    let is_answer = |flight: &Flight| matches!(flight.message, Message::HeartbeatReply { .. });
    elect_but(&mut cluster, &[c], |flight| apart(&near)(flight) || is_answer(flight)).unwrap();
    cluster.propose(c, "in its slot", 10);
    let second = cluster.propose(c, "second", 10);
    answer_early(&mut cluster, c, a);
    let late = take(&mut cluster, c, a, |m| matches!(m, Message::Accept { .. }));
    assert!(late.iter().any(|flight| brings(flight, second.slot)), "on the way to a");
    [a, c].into_iter().for_each(|node| restart(&mut cluster, node));
    let members = [a, b, c, f];
    for (awake, with) in [(b, &near[..]), (a, &[a, g])] {
        for _ in 0..200 {
            if !goes_by(&cluster, awake, &members) {
                cluster.pass_for(&[awake], 25, apart(with));
            }
        }
        assert!(goes_by(&cluster, awake, &members), "{awake} hears of the end");
    }
    cluster.flights.clear();
    question.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.sync(a);
    hand(&mut cluster, a, f, is_promise);
    promises.into_iter().for_each(|flight| cluster.deliver(flight));
    if cluster.can_propose(f) {
        let first = cluster.propose(f, "first", 10);
        assert!(first.slot == second.slot && first.origin < second.origin);
        exchange(&mut cluster, f, a);
        cluster.sync(f);
        let is_told = |flight: &Flight| flight.from == f && tells_of(flight, first.slot);
        for _ in 0..40 {
            if !cluster.chosen.contains_key(&first.slot) {
                let is_lost = |flight: &Flight| apart(&[a, f])(flight) || is_told(flight);
                cluster.pass_for(&[f], 25, is_lost);
            }
        }
        assert_eq!(cluster.chosen.get(&first.slot), Some(&first), "by a and f");
    }
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    cluster.sync(a);
    cluster.crash(f);
    elect_but(&mut cluster, &[b], apart(&[a, b, c]));
    cluster.start(f);
    cluster.pass(4000, |_| false);
}
