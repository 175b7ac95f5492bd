//! Policies: which code a new value gets and how many shards each node is sent.
//!
//! One mechanism: node i is sent `c` consecutive shards from its home (all of a full copy at c = k).
//! A policy only picks the code and c; c rises when too few nodes are alive for it. What counts as
//! chosen is decided elsewhere, from what was acknowledged (rule 8).

mod craft;
mod crossword;
mod hybrid;
mod replicate;
mod rs_paxos;

use super::links::Links;
use crate::config::{EpochConfig, Policy, Quorums};
use crate::types::{Code, NodeSet, ShardSet};

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) epoch: &'a EpochConfig,
    pub(super) quorums: Quorums,
    /// Ranks that are alive and not too far behind to accept, the leader included.
    pub(super) alive: NodeSet,
    /// Of the payloads that are in flight.
    pub(super) in_flight_bytes: usize,
    pub(super) links: &'a Links,
}

/// How one value is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) code: Code,
    /// Shards per node.
    pub(super) c: u8,
}

/// Picks for a new value. One without a payload has nothing to divide: its header is everywhere.
pub(super) fn pick(view: &View<'_>, payload_bytes: usize) -> Pick {
    if payload_bytes == 0 {
        return replicate::pick(view);
    }
    match view.epoch.policy {
        Policy::Replicate => replicate::pick(view),
        Policy::RsPaxos => rs_paxos::pick(view),
        Policy::Craft => craft::pick(view),
        Policy::Crossword => crossword::pick(view, payload_bytes),
        Policy::Hybrid => hybrid::pick(view, payload_bytes),
    }
}

/// The c that a value needs to be chosen by the nodes alive, at least `c`. A value of another epoch
/// may need more than its own policy gave it.
pub(super) fn grown(view: &View<'_>, code: Code, c: u8) -> u8 {
    let is_own = code == view.epoch.code;
    if is_own && !view.epoch.policy.grows_assignments() {
        return c;
    }
    let least = least_c(view, code);
    let is_stepless = view.epoch.policy != Policy::Crossword || !crossword::has_steps(view);
    if least > c && is_stepless { code.k() } else { least.max(c) }
}

/// The smallest c with which the nodes alive can choose a value of `code`; k when none can.
fn least_c(view: &View<'_>, code: Code) -> u8 {
    let alive = view.alive.count();
    let enough = |c: &u8| view.quorums.acks_needed(u32::from(code.k()), u32::from(*c)) <= alive;
    (1..=code.k()).find(enough).unwrap_or(code.k())
}

/// The shards that the node of `rank` is sent: `c` from its home on; for a full copy its home and
/// all data shards, which need no decoding.
pub(super) fn wanted(code: Code, rank: u8, c: u8) -> ShardSet {
    let home = rank % code.n();
    if c >= code.k() && code.k() > 1 {
        return ShardSet::one(home).union(ShardSet::first(u32::from(code.k())));
    }
    (0..c.max(1)).map(|step| (home + step) % code.n()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::choice::is_chosen;
    use super::*;
    use crate::types::Epoch;

    fn epoch(policy: Policy, nodes: u8) -> EpochConfig {
        let k = u8::try_from(policy.default_k(u32::from(nodes))).unwrap();
        let code = Code::new(k, nodes - k).unwrap();
        let epoch = EpochConfig { epoch: Epoch(0), nodes, policy, code, hybrid_bytes: 1000 };
        epoch.checked().unwrap()
    }

    /// Do the assignments of the nodes alive choose the value, by the one rule?
    fn chooses(view: &View<'_>, pick: Pick) -> bool {
        let acks: Vec<ShardSet> = (0..view.epoch.nodes)
            .map(|rank| {
                let held = wanted(pick.code, rank, pick.c);
                if view.alive.contains(rank) { held } else { ShardSet::EMPTY }
            })
            .collect();
        is_chosen(&acks, view.quorums.prepare, u32::from(pick.code.k()))
    }

    #[test]
    fn every_policy_works_with_every_set_of_nodes_it_tolerates() {
        for policy in Policy::ALL {
            for nodes in 1..=9_u8 {
                let epoch = epoch(policy, nodes);
                let (quorums, links) = (epoch.quorums(), Links::new(usize::from(nodes)));
                for set in 1_u32..1 << nodes {
                    let alive = NodeSet(set);
                    let view =
                        View { epoch: &epoch, quorums, alive, in_flight_bytes: 0, links: &links };
                    for bytes in [0, 10, 100_000] {
                        let picked = pick(&view, bytes);
                        let grown = Pick { c: grown(&view, picked.code, picked.c), ..picked };
                        let is_enough = alive.count() >= quorums.working;
                        assert!(
                            chooses(&view, grown) || !is_enough,
                            "{policy} N {nodes} alive {set:b}, {bytes} B: {grown:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn acks_needed_agrees_with_the_rule() {
        for nodes in 1..=9_u8 {
            let epoch = epoch(Policy::Crossword, nodes);
            let (quorums, links) = (epoch.quorums(), Links::new(usize::from(nodes)));
            for c in 1..=epoch.code.k() {
                let needed = quorums.acks_needed(u32::from(epoch.code.k()), u32::from(c));
                for set in 1_u32..1 << nodes {
                    let view = View {
                        epoch: &epoch,
                        quorums,
                        alive: NodeSet(set),
                        in_flight_bytes: 0,
                        links: &links,
                    };
                    if set.count_ones() >= needed {
                        assert!(chooses(&view, Pick { code: epoch.code, c }), "N {nodes} c {c}");
                    }
                }
                // Not one fewer: consecutive nodes overlap most.
                let view = View {
                    epoch: &epoch,
                    quorums,
                    alive: NodeSet::first(needed - 1),
                    in_flight_bytes: 0,
                    links: &links,
                };
                assert!(!chooses(&view, Pick { code: epoch.code, c }), "N {nodes} c {c} {needed}");
            }
        }
    }

    #[test]
    fn hybrid_divides_what_is_long_and_copies_what_is_short() {
        let epoch = epoch(Policy::Hybrid, 5);
        let (quorums, links) = (epoch.quorums(), Links::new(5));
        let view = View {
            epoch: &epoch,
            quorums,
            alive: NodeSet::first(5),
            in_flight_bytes: 0,
            links: &links,
        };
        assert_eq!(pick(&view, 999), Pick { code: epoch.copies(), c: 1 });
        assert_eq!(pick(&view, 1000), Pick { code: epoch.code, c: 1 });
    }
}
