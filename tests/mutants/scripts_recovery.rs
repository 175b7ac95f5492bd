//! Scripts of leaders that recover what others left: by which ballot, from which bytes, and what a
//! node must still know after a restart or a repair. Every message in hand, as in `scripts`.

use super::cluster::{Cluster, Flight};
use super::scripts::{apart, elect, elect_but, take, three};
use distkv::config::{EpochConfig, Policy};
use distkv::paxos::{Message, RoleName, ShardedValue};
use distkv::types::{Code, Epoch, ShardSet, Slot};

fn leads(cluster: &Cluster, rank: u8) -> bool {
    let paxos = cluster.nodes[usize::from(rank)].paxos.as_ref();
    paxos.is_some_and(|paxos| paxos.role() == RoleName::Leader)
}

/// Does it say that `slot` is chosen?
fn tells_of(slot: Slot) -> impl Fn(&Flight) -> bool {
    move |flight| {
        let is_after = |commit: Slot| commit >= slot;
        matches!(flight.message,
            Message::Heartbeat { commit, .. } | Message::Accept { commit, .. } if is_after(commit))
    }
}

fn is_of_gathering(flight: &Flight) -> bool {
    matches!(flight.message, Message::Fetch { .. } | Message::Shards { .. })
}

fn restart(cluster: &mut Cluster, rank: u8) {
    cluster.crash(rank);
    cluster.start(rank);
}

/// Three nodes with shards of `k` = 2, their leader first, at rest.
fn three_coded() -> (Cluster, [u8; 3]) {
    let mut cluster = Cluster::new(Policy::Craft, 2, 3);
    let leader = cluster.elect();
    cluster.pass(200, |_| false);
    (cluster, [leader, (leader + 1) % 3, (leader + 2) % 3])
}

/// Whoever of `awake` leads goes on, and nobody but `near` takes part.
fn go_on(cluster: &mut Cluster, awake: &[u8], near: &[u8]) {
    if let Some(leader) = elect(cluster, awake, near) {
        cluster.propose(leader, "last", 10);
        cluster.settle(apart(near));
    }
    cluster.pass_for(awake, 500, apart(near));
}

/// Five nodes. The leader's value reaches nobody, and it stands still. Three others choose another
/// value there at a higher ballot. The fifth never hears of that ballot and fetches the value. So it
/// may answer the first leader's heartbeat, and says that the slot is applied: by another value.
pub fn others_apply_the_slot() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let old = cluster.elect();
    cluster.pass(200, |_| false);
    let near = (old + 1) % 5;
    let far = [2, 3, 4].map(|step| (old + step) % 5);
    // `near` misses a slot and hears that it is chosen, so that it will fetch it.
    cluster.propose(old, "a", 10);
    cluster.settle(|flight| flight.to == near && matches!(flight.message, Message::Accept { .. }));
    cluster.tick_for(&[old], 25);
    cluster.tick_for(&[old], 25);
    let heartbeats = take(&mut cluster, old, near, |m| matches!(m, Message::Heartbeat { .. }));
    let late = heartbeats.last().map(|heartbeat| heartbeat.message.clone()).unwrap();
    heartbeats.into_iter().for_each(|heartbeat| cluster.deliver(heartbeat));
    cluster.settle(|_| false);
    let lost = cluster.propose(old, "old", 10);
    cluster.settle(|flight| flight.from == old);
    let new = elect(&mut cluster, &far, &far).unwrap();
    assert_eq!(cluster.propose(new, "newer", 10).slot, lost.slot);
    cluster.pass_for(&far, 500, apart(&far));
    let awake = [far[0], far[1], far[2], near];
    let is_lost = |flight: &Flight| {
        let ends = [flight.from, flight.to];
        ends.contains(&old) || ends.contains(&near) && !is_of_gathering(flight)
    };
    cluster.pass_for(&awake, 4000, is_lost);
    assert_eq!(cluster.texts(near), ["a", "newer"], "fetched");
    assert!(leads(&cluster, old));
    cluster.deliver(Flight { from: old, to: near, message: late });
    cluster.settle(apart(&[old, near]));
    cluster.pass(4000, |_| false);
}

/// A value of the first ballot rests at `a`, one of the second at `b`. A third ballot meets only the
/// first value, and it is chosen at `a` and `c`. The fourth meets `b` and `c`: its origin is lower
/// there, the ballot of its acceptance higher.
pub fn an_old_value_is_accepted_anew() {
    let (mut cluster, [a, b, c]) = three();
    let first = cluster.propose(a, "v", 10);
    cluster.sync(a);
    restart(&mut cluster, a);
    elect(&mut cluster, &[b], &[b, c]).unwrap();
    assert_eq!(cluster.propose(b, "ww", 10).slot, first.slot);
    cluster.sync(b);
    restart(&mut cluster, b);
    let is_told = tells_of(first.slot);
    elect_but(&mut cluster, &[a], |flight| apart(&[a, c])(flight) || is_told(flight)).unwrap();
    assert_eq!(cluster.chosen.get(&first.slot), Some(&first), "chosen by a and c");
    cluster.crash(a);
    go_on(&mut cluster, &[b, c], &[b, c]);
}

/// One id for two values, as where a ballot was used twice: a voter has its shard of one of them and is
/// sent more shards of the other, from a cluster that is the same but for a node that is down there.
/// It must go on holding what it acknowledged, and mix nothing.
pub fn an_id_stands_for_two_values() {
    let (mut cluster, [leader, voter, third]) = three_coded();
    let (mut twin, _) = three_coded();
    twin.crash(third);
    twin.pass(1000, |_| false);
    let id = cluster.propose(leader, "one", 10);
    assert_eq!(twin.propose(leader, "two", 10), id, "at the same ballot");
    let is_accept = |message: &Message| matches!(message, Message::Accept { .. });
    let own = take(&mut cluster, leader, voter, is_accept);
    let other = take(&mut twin, leader, voter, is_accept);
    assert!(!own.is_empty() && !other.is_empty());
    for flight in own.into_iter().chain(other) {
        cluster.deliver(flight);
        cluster.sync(voter);
    }
    cluster.settle(|_| false);
    cluster.pass(500, |_| false);
    assert_eq!(cluster.texts(leader), ["one"]);
}

/// A candidate asks, leads and proposes before anything of that is on its disk, and loses power. It
/// begins anew with the same ballot, and meets a node that knows nothing of the first time: one id
/// stands for two values.
pub fn a_ballot_is_lost() {
    let (mut cluster, [old, voter, new]) = three();
    restart(&mut cluster, old);
    for _ in 0..200 {
        cluster.tick_for(&[new], 25);
        // Vote, then promise.
        for _ in 0..2 {
            for flight in take(&mut cluster, new, voter, |_| true) {
                cluster.deliver(flight);
            }
            cluster.sync(voter);
            for flight in take(&mut cluster, voter, new, |_| true) {
                cluster.deliver(flight);
            }
        }
        if leads(&cluster, new) {
            cluster.propose(new, "early", 10);
            for flight in take(&mut cluster, new, voter, |_| true) {
                cluster.deliver(flight);
            }
            cluster.sync(voter);
            break;
        }
        cluster.flights.clear();
    }
    restart(&mut cluster, new);
    elect(&mut cluster, &[new], &[old, new]).unwrap();
    cluster.propose(new, "later", 10);
    cluster.settle(apart(&[old, new]));
    cluster.pass_for(&[new], 500, |_| false);
}

/// A value is chosen by its single shards. Its leader dies, and of the two shards that are left one
/// cannot be read: what it claims to be is all that tells of the value.
pub fn claimed_bytes_are_missing() {
    let (mut cluster, [a, b, c]) = three_coded();
    let value = cluster.propose(a, "v", 10);
    cluster.settle(tells_of(value.slot));
    assert_eq!(cluster.chosen.get(&value.slot), Some(&value), "chosen by all");
    cluster.crash(a);
    let node = &mut cluster.nodes[usize::from(b)];
    node.written.damaged.insert(value.slot, ShardSet::first(3));
    node.durable.damaged.insert(value.slot, ShardSet::first(3));
    go_on(&mut cluster, &[b, c], &[b, c]);
    // With the third everything is there again.
    cluster.start(a);
    cluster.pass(4000, |_| false);
    let first = cluster.texts(c).into_iter().next();
    assert_eq!(first.as_deref(), Some("v"), "progress: the leader's shard recovers it");
}

/// A value is chosen by the copies of `a` and `b`; the slot under it by those of `a` and `c`. The
/// record of `b` is damaged, and it fetches the value again, but not yet what is under it: so it
/// promises the slot as accepted, not as applied. `c` has nothing of it, and must find it at `b`.
pub fn a_repaired_slot_is_promised() {
    let (mut cluster, [a, b, c]) = three_coded();
    cluster.pass_for(&[a], 600, apart(&[a, c]));
    // Large enough for a page of its own.
    let under = cluster.propose(a, "under", 1000);
    cluster.settle(apart(&[a, c]));
    let is_lost = |flight: &Flight| apart(&[a, b])(flight) || is_of_gathering(flight);
    cluster.pass_for(&[a], 600, is_lost);
    let over = cluster.propose(a, "over", 10);
    cluster.settle(is_lost);
    assert_eq!(cluster.chosen.get(&over.slot), Some(&over), "chosen by two copies");
    let node = &mut cluster.nodes[usize::from(b)];
    node.durable.values.remove(&over.slot);
    node.durable.faulty.push(over.slot);
    restart(&mut cluster, b);
    let is_lost = |flight: &Flight| {
        let is_under = |entry: &ShardedValue| entry.meta.slot() == under.slot;
        let has_under = matches!(&flight.message,
            Message::Shards { entries, .. } if entries.iter().any(is_under));
        apart(&[a, b])(flight) || has_under
    };
    cluster.pass_for(&[a, b], 1500, is_lost);
    let has_again = cluster.nodes[usize::from(b)].written.values.contains_key(&over.slot);
    assert!(has_again, "fetched again");
    cluster.crash(a);
    go_on(&mut cluster, &[c], &[b, c]);
}

/// A value of 2+1 is chosen by the single shards of `a` and `b`, under a policy whose elections need
/// all three. The slot after it starts full copies, whose elections need two. `b` holds that entry,
/// too, and has not heard that the value is chosen; `c` asks for promises, and that of `a` is lost.
pub fn the_policy_has_changed() {
    let mut cluster = Cluster::new(Policy::RsPaxos, 2, 3);
    let a = cluster.elect();
    cluster.pass(200, |_| false);
    let (b, c) = ((a + 1) % 3, (a + 2) % 3);
    let value = cluster.propose(a, "v", 10);
    let code = Code::new(1, 2).unwrap();
    let wanted =
        EpochConfig { epoch: Epoch(0), nodes: 3, policy: Policy::Replicate, code, hybrid_bytes: 0 };
    cluster.propose_epoch(a, wanted).unwrap();
    let is_told = tells_of(value.slot);
    cluster.settle(|flight| apart(&[a, b])(flight) || is_told(flight));
    assert_eq!(cluster.chosen.get(&value.slot), Some(&value), "chosen by two shards");
    restart(&mut cluster, a);
    let is_lost = |flight: &Flight| {
        let is_silent = |message: &Message| {
            matches!(
                message,
                Message::PreVoteReply { .. } | Message::Members { .. } | Message::Nack { .. }
            )
        };
        flight.from == a && !is_silent(&flight.message)
    };
    elect_but(&mut cluster, &[c], is_lost);
    cluster.settle(is_lost);
    cluster.pass(4000, |_| false);
}

/// A leader is alone with two nodes of seven; the other four elect another, which chooses a value. One
/// of the two starts anew, hears of that value from the four, and tells the old leader, which
/// gathers it. What it proposes now comes to the same slot.
pub fn a_leader_is_overtaken() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 7);
    let old = cluster.elect();
    cluster.pass(200, |_| false);
    let [tells, near, far @ ..] = [1, 2, 3, 4, 5, 6].map(|step| (old + step) % 7);
    // Three of the four have yet to be heard: else the old leader, alone, would step down.
    cluster.flights.clear();
    cluster.tick_for(&[old], 50);
    let mut late = Vec::new();
    for node in &far[..3] {
        let is_heartbeat = |message: &Message| matches!(message, Message::Heartbeat { .. });
        let heartbeats = take(&mut cluster, old, *node, is_heartbeat);
        heartbeats.into_iter().for_each(|flight| cluster.deliver(flight));
        cluster.sync(*node);
        let is_reply = |message: &Message| matches!(message, Message::HeartbeatReply { .. });
        late.extend(take(&mut cluster, *node, old, is_reply));
    }
    cluster.flights.clear();
    let new = elect(&mut cluster, &far, &far).unwrap();
    let value = cluster.propose(new, "new", 10);
    cluster.pass_for(&far, 300, apart(&far));
    let has = |cluster: &Cluster, node: u8| {
        cluster.nodes[usize::from(node)].paxos.as_ref().unwrap().applied() >= value.slot
    };
    cluster.crash(tells);
    cluster.start(tells);
    for _ in 0..200 {
        if has(&cluster, tells) {
            break;
        }
        cluster.pass_for(&[tells], 25, apart(&[tells, far[3]]));
    }
    late.into_iter().for_each(|flight| cluster.deliver(flight));
    for _ in 0..40 {
        if has(&cluster, old) {
            break;
        }
        cluster.pass_for(&[old], 25, apart(&[old, tells, near]));
    }
    assert!(has(&cluster, old), "gathered while it leads");
    if cluster.can_propose(old) {
        cluster.propose(old, "old", 10);
    }
    cluster.settle(apart(&[old, tells, near]));
    cluster.pass(4000, |_| false);
}
