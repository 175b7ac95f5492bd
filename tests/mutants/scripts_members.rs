//! Scripts for the rules of members that come and go (docs/membership.md): paxos alone, every message
//! in hand.

use super::cluster::Cluster;
use distkv::config::Policy;
use distkv::paxos::Begun;
use distkv::types::{NodeSet, Slot, ValueId};

/// Asks whoever leads for the change until it is begun: its slot.
fn begin(cluster: &mut Cluster, joins: u8, leaves: u8, code: (u8, u8)) -> Slot {
    for _ in 0..200 {
        if let Some(leader) = cluster.leader() {
            let begun = cluster.change(leader, Some(joins), Some(leaves), code);
            if let Begun::Proposed(id) = begun {
                return id.slot;
            }
            assert_eq!(begun, Begun::NotYet);
        }
        cluster.pass(25, |_| false);
    }
    panic!("the change is never begun");
}

/// Are these the members that `node` goes by, and no change under way?
fn goes_by(cluster: &Cluster, node: u8, members: &[u8]) -> bool {
    let members: NodeSet = members.iter().copied().collect();
    let configuration = cluster.configuration(node);
    configuration.change.is_none() && configuration.ids() == members
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
    begin(&mut cluster, newcomer, 1, (2, 1));
    let members = [0, 2, newcomer];
    for _ in 0..200 {
        cluster.pass(25, |_| false);
        if members.iter().all(|node| goes_by(&cluster, *node, &members)) {
            break;
        }
    }
    assert!(goes_by(&cluster, 0, &members), "the change never ends");
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
