//! Elections under partial connectivity (DESIGN 3.3): each shape held long, every policy.
//!
//! The law: while one node has links both ways with as many as a leader needs to work, somebody
//! commits within [`PATIENCE`], again and again; and campaigns stay few whether or not anybody can
//! lead. Cut links lose what is sent over them, or hold it until they are up again as the
//! transport does.

use super::super::{Message, RoleName};
use super::cluster::{Cluster, Flight};
use crate::config::Policy;
use crate::rng::Rng;
use crate::time::Duration;
use std::cell::RefCell;
use std::collections::VecDeque;

/// From the beginning of a shape until something is chosen, and between two such moments: a leader
/// steps down (one timeout), a follower notices (two at most), and one attempt may fail.
const PATIENCE: Duration = Duration::from_millis(4000);
const STEP: Duration = Duration::from_millis(25);

/// What becomes of a message on a link that is down.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Loses,
    Holds,
}

/// Is the link up at a time, in milliseconds since the shape began, from one place to another?
type Up<'a> = &'a dyn Fn(u64, u8, u8) -> bool;

/// A cluster under a shape; places are ranks, place 0 the leader when the shape begins.
struct Bed {
    cluster: Cluster,
    cut: Cut,
    held: VecDeque<Flight>,
    /// Rank by place.
    ranks: Vec<u8>,
    written: u64,
    /// Never so long without a commit since the shape began.
    longest_wait: Duration,
    what: String,
}

fn setups() -> Vec<(Policy, u8, u8)> {
    vec![
        (Policy::Replicate, 1, 3),
        (Policy::RsPaxos, 2, 3),
        (Policy::Craft, 2, 3),
        (Policy::Crossword, 2, 3),
        (Policy::Hybrid, 2, 3),
        (Policy::Replicate, 1, 4),
        (Policy::RsPaxos, 2, 4),
        (Policy::Craft, 2, 4),
        (Policy::Crossword, 2, 4),
        (Policy::Hybrid, 2, 4),
        (Policy::Replicate, 1, 5),
        (Policy::RsPaxos, 3, 5),
        (Policy::Craft, 3, 5),
        (Policy::Crossword, 3, 5),
        (Policy::Hybrid, 3, 5),
    ]
}

impl Bed {
    fn new((policy, k, nodes): (Policy, u8, u8), lease_ms: u64, cut: Cut, seed: u64) -> Self {
        let mut config = Cluster::config(policy, k, nodes);
        config.timing.lease_ms = lease_ms;
        config.hybrid_bytes = 50;
        let mut cluster = Cluster::with_config(config, seed * 100);
        let leader = cluster.elect();
        cluster.pass(300, |_| false);
        let ranks = (0..nodes).map(|place| (leader + place) % nodes).collect();
        let what = format!("{policy} {k}, {nodes} nodes, lease {lease_ms}, {cut:?}, seed {seed}");
        let longest_wait = Duration::ZERO;
        Self { cluster, cut, held: VecDeque::new(), ranks, written: 0, longest_wait, what }
    }

    fn place(&self, rank: u8) -> u8 {
        u8::try_from(self.ranks.iter().position(|of| *of == rank).unwrap()).unwrap()
    }

    fn campaigns(&self) -> u64 {
        self.cluster
            .nodes
            .iter()
            .filter_map(|node| node.paxos.as_ref())
            .map(|p| p.campaigns())
            .sum()
    }

    /// Delivers and syncs all that can be.
    fn settle(&mut self, at_ms: u64, up: Up<'_>) {
        let waiting = std::mem::take(&mut self.held);
        self.cluster.flights.extend(waiting);
        loop {
            for rank in 0..self.cluster.count() {
                self.cluster.sync(rank);
            }
            let Some(flight) = self.cluster.flights.pop_front() else { break };
            if up(at_ms, self.place(flight.from), self.place(flight.to)) {
                self.cluster.deliver(flight);
            } else if self.cut == Cut::Holds {
                self.held.push_back(flight);
            }
        }
    }

    /// Every leader tries to have a value chosen ten times a second.
    fn propose(&mut self) {
        for rank in 0..self.cluster.count() {
            if self.cluster.can_propose(rank) {
                self.written += 1;
                let text = format!("{}", self.written);
                self.cluster.propose(rank, &text, if self.written % 2 == 0 { 20 } else { 90 });
            }
        }
    }

    /// Holds a shape. With `is_live` something is chosen at least every [`PATIENCE`]. Gives the
    /// campaigns started meanwhile.
    fn hold(&mut self, name: &str, span_ms: u64, is_live: bool, up: Up<'_>) -> u64 {
        let campaigns = self.campaigns();
        let mut progress = (self.cluster.chosen.len(), self.cluster.now);
        for step in 0..span_ms / 25 {
            self.cluster.tick(STEP);
            self.settle(step * 25, up);
            if step % 4 == 0 {
                self.propose();
                self.settle(step * 25, up);
            }
            let chosen = self.cluster.chosen.len();
            let waited = self.cluster.now.since(progress.1);
            if chosen > progress.0 {
                progress = (chosen, self.cluster.now);
                self.longest_wait = self.longest_wait.max(waited);
            }
            assert!(
                !is_live || waited <= PATIENCE,
                "{name} ({}): nothing chosen for {waited:?} at {} ms: {}",
                self.what,
                step * 25,
                self.roles()
            );
        }
        self.campaigns() - campaigns
    }

    /// Everything is up again: all come to the same state.
    fn heal(&mut self, name: &str) {
        // A fetch that nobody answered is repeated after eight seconds at the latest.
        self.hold(name, 10_000, true, &|_, _, _| true);
        let applied: Vec<_> =
            self.cluster.nodes.iter().map(|n| n.paxos.as_ref().unwrap().applied()).collect();
        let least = applied.iter().min().unwrap();
        let most = applied.iter().max().unwrap();
        assert!(least.0 + 3 >= most.0, "{name} ({}): apart after it: {applied:?}", self.what);
    }

    fn roles(&self) -> String {
        let of = |rank: &u8| {
            let paxos = self.cluster.nodes[usize::from(*rank)].paxos.as_ref().unwrap();
            format!("{:?} {}", paxos.role(), paxos.promised())
        };
        self.ranks.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    fn working(&self) -> u32 {
        self.cluster.config.quorums().working
    }

    /// Has some node links both ways with as many as a leader needs?
    fn has_hub(&self, up: Up<'_>) -> bool {
        let nodes = self.cluster.count();
        (0..nodes).any(|hub| {
            let linked = (0..nodes).filter(|n| *n == hub || (up(0, hub, *n) && up(0, *n, hub)));
            u32::try_from(linked.count()).unwrap() >= self.working()
        })
    }
}

/// Shapes that do not change, for any number of nodes.
fn shapes(nodes: u8) -> Vec<(&'static str, Box<dyn Fn(u64, u8, u8) -> bool>)> {
    let last = nodes - 1;
    let few = (nodes - 1) / 2;
    vec![
        ("leader with a minority", Box::new(move |_, a, b| (a < few) == (b < few))),
        ("leader with a majority", Box::new(move |_, a, b| (a > nodes / 2) == (b > nodes / 2))),
        ("leader alone", Box::new(|_, a, b| a != 0 && b != 0)),
        ("leader sends and does not hear", Box::new(|_, _, b| b != 0)),
        ("leader hears and does not send", Box::new(|_, a, _| a != 0)),
        ("leader sends to one, hears all", Box::new(|_, a, b| a != 0 || b == 1)),
        ("leader hears one, sends to all", Box::new(|_, a, b| b != 0 || a == 1)),
        (
            "a node sees the leader only",
            Box::new(|_, a, b| (a != 1 || b == 0) && (b != 1 || a == 0)),
        ),
        ("a node cannot hear the leader", Box::new(|_, a, b| (a, b) != (0, 1))),
        ("a node's answers are lost", Box::new(|_, a, b| (a, b) != (1, 0))),
        ("a node hears and does not send", Box::new(|_, a, _| a != 1)),
        ("a node sends and does not hear", Box::new(|_, _, b| b != 1)),
        ("ring", Box::new(move |_, a, b| a.abs_diff(b) == 1 || a.abs_diff(b) == last)),
        ("ring one way", Box::new(move |_, a, b| (a + 1) % nodes == b)),
        ("chain, leader at its end", Box::new(|_, a, b| a.abs_diff(b) == 1)),
        (
            "chain, leader in the middle",
            Box::new(move |_, a, b| {
                let of = |place: u8| (place + nodes / 2) % nodes;
                of(a).abs_diff(of(b)) == 1
            }),
        ),
        // Omni-Paxos (EuroSys'23), section 2: all but one node have lost the quorum.
        ("quorum loss: only one follower sees all", Box::new(|_, a, b| a == 1 || b == 1)),
        ("quorum loss: only the leader sees all", Box::new(|_, a, b| a == 0 || b == 0)),
        // The same: the leader is gone, and the only one that could lead is behind.
        (
            "constrained: the leader is gone, one follower sees the rest",
            Box::new(|_, a, b| a != 0 && b != 0 && (a == 1 || b == 1)),
        ),
        (
            "two that cannot hear each other share the others",
            Box::new(|_, a, b| !matches!((a, b), (0, 1) | (1, 0))),
        ),
        ("one way between those two", Box::new(|_, a, b| (a, b) != (1, 0))),
    ]
}

/// Campaigns in half a minute of a shape that does not change: each node may learn of a higher
/// ballot once, and try again.
fn campaigns_max(nodes: u8) -> u64 {
    2 * u64::from(nodes)
}

#[test]
fn every_shape_lets_somebody_commit_and_ballots_rest() {
    let mut longest = Duration::ZERO;
    let mut most_campaigns = 0;
    // Each shape and policy with one way to lose messages: all ways meet all shapes.
    let ways = [(300, Cut::Loses), (300, Cut::Holds), (0, Cut::Holds)];
    for (number, setup) in setups().into_iter().enumerate() {
        for (of, (name, up)) in shapes(setup.2).into_iter().enumerate() {
            let (lease_ms, cut) = ways[(number + of) % ways.len()];
            let mut bed = Bed::new(setup, lease_ms, cut, 1 + number as u64);
            let is_live = bed.has_hub(&up);
            let campaigns = bed.hold(name, 20_000, is_live, &up);
            longest = longest.max(bed.longest_wait);
            most_campaigns = most_campaigns.max(campaigns);
            let most = campaigns_max(setup.2);
            assert!(campaigns <= most, "{name} ({}): {campaigns} campaigns", bed.what);
            bed.heal(name);
        }
    }
    println!("longest wait {longest:?}, most campaigns {most_campaigns}");
}

/// Links that come and go; a place beyond the first means every link of the leader.
fn flaps() -> Vec<(&'static str, Box<dyn Fn(u64, u64, u8, u8) -> bool>)> {
    let is_up = |at_ms: u64, period_ms: u64| at_ms / period_ms % 2 == 1;
    vec![
        ("leader and one", Box::new(move |p, t, a, b| !(a + b == 1) || is_up(t, p))),
        ("leader to one", Box::new(move |p, t, a, b| (a, b) != (0, 1) || is_up(t, p))),
        ("one to leader", Box::new(move |p, t, a, b| (a, b) != (1, 0) || is_up(t, p))),
        ("leader", Box::new(move |p, t, a, b| (a != 0 && b != 0) || is_up(t, p))),
        ("leader hears", Box::new(move |p, t, _, b| b != 0 || is_up(t, p))),
        ("leader sends", Box::new(move |p, t, a, _| a != 0 || is_up(t, p))),
        // Not the leader of the beginning: whoever is led from then on meets it too.
        ("one", Box::new(move |p, t, a, b| (a != 1 && b != 1) || is_up(t, p))),
    ]
}

#[test]
fn flapping_links_of_one_node_do_not_stop_the_others() {
    let mut longest = Duration::ZERO;
    let mut most_campaigns = 0;
    for setup in setups() {
        // Without the flapping node as many as a leader needs are there all the time.
        let working = Cluster::config(setup.0, setup.1, setup.2).quorums().working;
        if working >= u32::from(setup.2) {
            continue;
        }
        // Held and not lost: an Accept that is lost where heartbeats are not is sent again only after
        // seconds, for the transport is reliable while links come and go.
        for (number, period_ms) in [50, 150, 350, 450, 700, 1100, 2500].into_iter().enumerate() {
            for (of, (name, up)) in flaps().into_iter().enumerate() {
                let lease_ms = if (number + of) % 2 == 0 { 300 } else { 0 };
                let mut bed = Bed::new(setup, lease_ms, Cut::Holds, period_ms);
                let name = format!("{name} every {period_ms} ms");
                let up = |t: u64, a: u8, b: u8| up(period_ms, t, a, b);
                let campaigns = bed.hold(&name, 12_000, true, &up);
                longest = longest.max(bed.longest_wait);
                most_campaigns = most_campaigns.max(campaigns);
                let most = campaigns_max(setup.2);
                assert!(campaigns <= most, "{name} ({}): {campaigns} campaigns", bed.what);
            }
        }
    }
    println!("longest wait {longest:?}, most campaigns {most_campaigns}");
}

#[test]
fn any_links_around_a_connected_quorum_let_it_commit() {
    let mut longest = Duration::ZERO;
    let mut most_campaigns = 0;
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let setups = setups();
        let setup = setups[usize::try_from(rng.below(setups.len() as u64)).unwrap()];
        let cut = if rng.chance(0.5) { Cut::Loses } else { Cut::Holds };
        let mut bed = Bed::new(setup, if rng.chance(0.7) { 300 } else { 0 }, cut, seed);
        let (nodes, working) = (setup.2, bed.working());
        // One shape follows the other without a rest between them.
        for round in 0..4 {
            let density = rng.unit();
            let mut members = 0_u32;
            while members.count_ones() < working {
                members |= 1 << rng.below(u64::from(nodes));
            }
            let links: Vec<bool> = (0..u32::from(nodes) * u32::from(nodes))
                .map(|at| {
                    let (a, b) = (at / u32::from(nodes), at % u32::from(nodes));
                    (members >> a & members >> b & 1 == 1) || rng.chance(density)
                })
                .collect();
            let up =
                |_: u64, a: u8, b: u8| links[usize::from(a) * usize::from(nodes) + usize::from(b)];
            let name = format!("random links {round}, {members:b} connected");
            let campaigns = bed.hold(&name, 8_000, true, &up);
            longest = longest.max(bed.longest_wait);
            most_campaigns = most_campaigns.max(campaigns);
            let most = campaigns_max(nodes);
            assert!(campaigns <= most, "{name} ({}): {campaigns} campaigns", bed.what);
        }
        bed.heal("random links");
    }
    println!("longest wait {longest:?}, most campaigns {most_campaigns}");
}

const ROUNDS: u64 = 100;

#[test]
fn a_deposed_leader_neither_commits_nor_reads() {
    for setup in setups().into_iter().filter(|(_, _, nodes)| *nodes > 3) {
        let working = Cluster::config(setup.0, setup.1, setup.2).quorums().working;
        if working >= u32::from(setup.2) {
            continue;
        }
        // It sends and does not hear, or the other way: the rest elects another.
        for is_deaf in [true, false] {
            let mut bed = Bed::new(setup, 300, Cut::Loses, 3);
            let old = bed.ranks[0];
            let up = move |_: u64, a: u8, b: u8| if is_deaf { b != 0 } else { a != 0 };
            let now = bed.cluster.now;
            let old_paxos = |bed: &mut Bed| bed.cluster.nodes[usize::from(old)].paxos.take();
            let mut paxos = old_paxos(&mut bed).unwrap();
            let (sequence, _) = paxos.read_point().unwrap();
            bed.cluster.nodes[usize::from(old)].paxos = Some(paxos);
            bed.cluster.drain(old);
            let before = bed.cluster.chosen.len();
            let id = bed.cluster.propose(old, "of the deposed", 90);
            for step in 0..400 {
                bed.cluster.tick(STEP);
                bed.settle(step * 25, &up);
                let others = bed.cluster.leader().filter(|rank| *rank != old);
                let paxos = bed.cluster.nodes[usize::from(old)].paxos.as_ref().unwrap();
                let is_confirmed = paxos.confirmed_sequence() >= sequence;
                assert!(!is_confirmed, "a read was confirmed without an answer ({})", bed.what);
                assert!(
                    others.is_none() || !paxos.holds_lease(bed.cluster.now),
                    "two may answer reads alone ({})",
                    bed.what
                );
                assert!(!paxos.holds_lease(now + Duration::from_millis(400)));
            }
            let paxos = bed.cluster.nodes[usize::from(old)].paxos.as_ref().unwrap();
            assert_ne!(paxos.role(), RoleName::Leader, "{}", bed.what);
            let is_own = bed.cluster.chosen.get(&id.slot) == Some(&id);
            let leads = bed.cluster.leader().unwrap();
            assert_ne!(leads, old);
            // Its value may live only by another's recovery, and only when it was sent.
            assert!(!is_own || is_deaf, "chosen without a word ({})", bed.what);
            assert!(bed.cluster.chosen.len() >= before);
        }
    }
}

#[test]
fn a_late_yes_does_not_serve_a_later_question() {
    let mut cluster = Cluster::new(Policy::Replicate, 1, 5);
    let dead = cluster.elect();
    cluster.pass(300, |_| false);
    cluster.crash(dead);
    // This one hears nothing from here on; what the others say to it is on its way.
    let deaf = (dead + 1) % 5;
    let late = RefCell::new(Vec::new());
    cluster.pass(4000, |flight| {
        if flight.to == deaf && matches!(flight.message, Message::PreVoteReply { .. }) {
            let Flight { from, to, message } = flight;
            late.borrow_mut().push(Flight { from: *from, to: *to, message: message.clone() });
        }
        flight.to == deaf
    });
    let leader = cluster.leader().unwrap();
    let is_yes =
        |flight: &Flight| matches!(flight.message, Message::PreVoteReply { is_granted: true, .. });
    let yes: Vec<Flight> = late.into_inner().into_iter().filter(is_yes).collect();
    assert!(yes.len() >= 3, "only {} said yes while nobody led", yes.len());
    for flight in yes {
        cluster.deliver(flight);
    }
    cluster.pass(1000, |flight| flight.to == deaf);
    assert_eq!(cluster.nodes[usize::from(deaf)].paxos.as_ref().unwrap().campaigns(), 0);
    assert_eq!(cluster.leader(), Some(leader), "a living leader was overthrown");
}

#[test]
fn campaigns_in_vain_become_rare_and_end_when_promises_come() {
    for (policy, k, nodes) in setups() {
        let mut cluster = Cluster::new(policy, k, nodes);
        // Every node can win a pre-vote and nobody gets promises, as when bytes are missing.
        let is_promise = |flight: &Flight| matches!(flight.message, Message::Promise(_));
        cluster.pass(30_000, is_promise);
        let campaigns = |cluster: &Cluster| -> u64 {
            let all = cluster.nodes.iter().filter_map(|node| node.paxos.as_ref());
            all.map(|paxos| paxos.campaigns()).sum()
        };
        let count = campaigns(&cluster);
        assert_eq!(cluster.leader(), None);
        // Without the longer waits there are about fifty.
        assert!((5..=27).contains(&count), "{policy}, {nodes} nodes: {count} campaigns in 30 s");
        cluster.pass(4500, |_| false);
        assert!(cluster.leader().is_some(), "{policy}, {nodes} nodes: nobody leads");
    }
}
