//! The operator's changes of the members: a newcomer is started, the change asked for and watched.
//!
//! As an operator would, one change at a time: it is asked for again until the leader says that it
//! is under way or cannot be, and it is done when the leader says that it is settled. A change that
//! nobody waits for any more is given up. What the operator sees is what `distkv status` would show of
//! the leader; nodes never hear of it but through the log.

use super::fault::Fault;
use super::node::SimNode;
use super::world::{NEVER, World};
use crate::config::{Configuration, default_code};
use crate::kv::{Admin, Outcome, Refusal};
use crate::paxos::Standing;
use crate::replica::Replica;
use crate::replica::client_machine::ClientOutcome;
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use std::collections::VecDeque;

/// Changes of the members that were decided on.
#[derive(Debug)]
pub(super) struct Plans {
    /// The first is the one under way.
    waiting: VecDeque<Plan>,
    look_at: Instant,
    /// Machines that may be gone for good in the rest of the run.
    losses_left: u32,
    /// Changes that came to their end.
    pub(super) done: u64,
}

/// One change, by ranks.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: &'static str,
    joins: Option<usize>,
    leaves: Option<usize>,
    /// The node that leaves is stopped when the change is done.
    is_stopped: bool,
    /// A leader has shown it under way.
    is_begun: bool,
    /// Something was asked for, and its answer is not there.
    is_asked: bool,
    /// The leader has said that it cannot be.
    is_refused: bool,
    /// The operator does not want it any more.
    is_unwanted: bool,
}

/// A change as it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// A new machine comes.
    pub(super) joins: bool,
    /// Rank of the node that goes.
    pub(super) leaves: Option<usize>,
    /// Its machine is gone for good.
    pub(super) is_lost: bool,
    /// It is stopped when the change is done.
    pub(super) is_stopped: bool,
}

impl Wanted {
    /// What a fault of that rank wants, if it is a change of the members.
    pub(super) fn of(fault: &Fault, rank: usize) -> Option<Self> {
        let none = Self { joins: true, leaves: None, is_lost: false, is_stopped: false };
        let leaves = Some(rank);
        if let Fault::ReplaceNode { node: _, is_lost, is_stopped } = *fault {
            return Some(Self { joins: true, leaves, is_lost, is_stopped });
        }
        if let Fault::RemoveNode { node: _, is_stopped } = *fault {
            return Some(Self { joins: false, leaves, is_stopped, ..none });
        }
        matches!(fault, Fault::AddNode {}).then_some(none)
    }
}

impl Plans {
    /// `losses_left`: machines that the cluster can do without.
    pub(super) fn new(losses_left: u32) -> Self {
        Self { waiting: VecDeque::new(), look_at: NEVER, losses_left, done: 0 }
    }

    /// When [`World::look_at_members`] has something to do.
    pub(super) fn timeout(&self) -> Instant {
        if self.waiting.is_empty() { NEVER } else { self.look_at }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The end of what was asked for last.
    pub(super) fn handle_answer(&mut self, outcome: &ClientOutcome) {
        let Some(plan) = self.waiting.front_mut() else { return };
        plan.is_asked = false;
        plan.is_refused = match outcome {
            ClientOutcome::Failed(refusal) => is_final(*refusal),
            ClientOutcome::Done(Outcome::Refused(refusal)) => is_final(*refusal),
            ClientOutcome::Done(_) | ClientOutcome::Unknown => false,
        };
    }
}

impl World {
    /// The operator decides on a change, unless there is no sense in it.
    pub(super) fn plan_change(&mut self, kind: &'static str, wanted: Wanted) {
        let Wanted { joins, leaves, is_lost, is_stopped } = wanted;
        let leaves = leaves.map(|rank| self.rank(rank));
        let is_full = joins && self.nodes.len() >= NODES_MAX;
        let is_busy = self.plans.waiting.len() >= PLANS_MAX || self.is_short();
        if is_full || is_busy || !self.may_leave(leaves, joins) {
            return;
        }
        if is_lost && let Some(rank) = leaves.filter(|_| self.can_lose()) {
            self.book_loss();
            let id = self.nodes[rank].id;
            self.say(|| format!("{id} is gone for good"));
            self.nodes[rank].is_gone = true;
            self.nodes[rank].stop(true);
            self.touch(rank);
        }
        self.push_plan(kind, joins, leaves, is_stopped);
    }

    /// May a machine, or a directory, be lost for good now? It is one that was to spare for damage.
    /// With one lost no other change can be closed where every home shard is needed
    /// (docs/membership.md): its replacement comes first.
    pub(super) fn can_lose(&self) -> bool {
        let is_replaced = |node: &SimNode| node.is_leaving || !node.is_lost();
        self.plans.losses_left > 0
            && self.plans.is_empty()
            && self.rot.is_untouched()
            && self.nodes.iter().all(is_replaced)
    }

    pub(super) fn book_loss(&mut self) {
        self.plans.losses_left -= 1;
        self.rot.tolerate_one_less();
    }

    /// Can a new machine take the place of that rank?
    pub(super) fn can_replace(&self, rank: usize) -> bool {
        self.nodes.len() < NODES_MAX && self.may_leave(Some(rank), true)
    }

    pub(super) fn push_plan(
        &mut self,
        kind: &'static str,
        joins: bool,
        leaves: Option<usize>,
        is_stopped: bool,
    ) {
        let joins = joins.then(|| self.start_newcomer());
        let plan = Plan {
            kind,
            joins,
            leaves,
            is_stopped,
            is_begun: false,
            is_asked: false,
            is_refused: false,
            is_unwanted: false,
        };
        self.plans.waiting.push_back(plan);
        self.plans.look_at = self.now;
    }

    /// The operator gives the change under way up.
    pub(super) fn unwant_change(&mut self) {
        let Some(plan) = self.plans.waiting.front_mut() else { return };
        // Who replaces a lost machine is wanted.
        plan.is_unwanted |= plan.leaves.is_none_or(|rank| !self.nodes[rank].is_lost());
    }

    /// What is asked for of a rank, of its id; a code as it fits the number of members by now.
    pub(super) fn fitted(&self, admin: &Admin) -> Admin {
        if let Admin::Transfer { to } = admin {
            return Admin::Transfer { to: self.nodes[self.rank(usize::from(*to))].id.0 };
        }
        let Admin::Policy { policy, k, hybrid_bytes, .. } = *admin else { return admin.clone() };
        let first = self.scenario.cluster.members.len();
        let count = self.leader().map_or(first, |leader| leader.configuration().members.len());
        let nodes = u8::try_from(count).unwrap_or(u8::MAX);
        let Ok(code) = default_code(policy, k, nodes) else { return admin.clone() };
        Admin::Policy { policy, k: code.k(), m: code.m(), hybrid_bytes }
    }

    /// Is a machine lost that cannot be replaced? Then other changes could not be closed either.
    fn is_short(&self) -> bool {
        let planned = |rank: usize| self.plans.waiting.iter().any(|plan| plan.leaves == Some(rank));
        let is_lost =
            |(rank, node): (usize, &SimNode)| node.is_lost() && !node.is_leaving && !planned(rank);
        self.nodes.iter().enumerate().any(is_lost)
    }

    /// Enough stay, and one of the cluster file's, so that newcomers and clients find the others.
    fn may_leave(&self, leaves: Option<usize>, is_replaced: bool) -> bool {
        let Some(rank) = leaves else { return true };
        let planned = || self.plans.waiting.iter().filter_map(|plan| plan.leaves);
        let is_staying = |other: &usize| {
            *other != rank && !self.nodes[*other].is_leaving && planned().all(|left| left != *other)
        };
        let first = self.scenario.cluster.members.len();
        let stay = (0..self.nodes.len()).filter(is_staying).count();
        let found = (0..first).filter(is_staying).count();
        let is_new = !self.nodes[rank].is_leaving && planned().all(|left| left != rank);
        is_new && found >= 1 && (is_replaced || stay >= MEMBERS_MIN)
    }

    /// A machine with a new id and the first cluster file.
    fn start_newcomer(&mut self) -> usize {
        let rank = self.nodes.len();
        let address = super::scenario::address_of(rank);
        let rng = self.rng.fork();
        let mut config = self.nodes[0].config().clone();
        let id = self.unused_id();
        (config.id, config.address) = (id, address);
        config.clock = self.scenario.clocks.get(rank).copied().unwrap_or_default();
        let node = SimNode::new(config, rng);
        self.nodes.push(node);
        self.add_place(rank, address);
        self.say(|| format!("{id} is a new machine"));
        self.mends.push((self.now, super::faults::Mend::Start(rank)));
        rank
    }

    /// The lowest that nobody has had: below some members' where ids have gaps.
    fn unused_id(&self) -> NodeId {
        let is_unused = |id: &NodeId| self.rank_of(*id).is_none();
        (0..=u8::MAX).map(NodeId).find(is_unused).expect("there are more ids than machines")
    }

    /// The rank of the machine with that id.
    pub(super) fn rank_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// The operator looks at what the leader shows, and asks.
    pub(super) fn look_at_members(&mut self) -> Result<(), String> {
        if self.plans.timeout() > self.now {
            return Ok(());
        }
        self.plans.look_at = self.now + LOOK_INTERVAL;
        let Some(shown) = self.shown() else { return Ok(()) };
        let (configuration, is_settled) = shown;
        let Some(plan) = self.plans.waiting.front_mut() else { return Ok(()) };
        let id = |rank: usize| self.nodes[rank].id;
        let has_joined = plan.joins.is_none_or(|rank| configuration.is_member(id(rank).0));
        let has_left = plan.leaves.is_none_or(|rank| configuration.is_retired(id(rank).0));
        let is_quiet = configuration.change.is_none() && is_settled;
        if let Some(change) = &configuration.change {
            let joins = change.joins.map(|seat| seat.id);
            let is_it = (joins, change.leaves) == (plan.joins.map(id), plan.leaves.map(id));
            plan.is_begun |= is_it;
            // A request that came late has begun what nobody waits for.
            if (!is_it || plan.is_unwanted) && !plan.is_asked {
                plan.is_asked = true;
                self.operator.ask_of_members(self.now, Admin::CancelChange);
            }
            return Ok(());
        }
        let plan = *plan;
        if has_joined && has_left && is_quiet {
            // Those who are members now were to hold everything before it was closed (rule 11).
            self.check_held()?;
            self.end_change(plan, true);
        } else if (plan.is_begun || plan.is_refused || plan.is_unwanted)
            && is_quiet
            && !plan.is_asked
        {
            self.end_change(plan, false);
        } else if !plan.is_asked && is_quiet && !plan.is_begun && self.is_wanted_now(&plan) {
            self.ask_for(plan, &configuration);
        }
        Ok(())
    }

    /// That a directory was lost the operator sees when the node says that it is refused.
    fn is_wanted_now(&self, plan: &Plan) -> bool {
        plan.leaves.is_none_or(|rank| self.lost.iter().all(|lost| lost.is_known_of(rank)))
    }

    fn ask_for(&mut self, plan: Plan, now: &Configuration) {
        let grown = now.members.len() + usize::from(plan.joins.is_some());
        let nodes = grown - usize::from(plan.leaves.is_some());
        let nodes = u8::try_from(nodes).unwrap_or(u8::MAX);
        let current = now.rules.code;
        let code = if nodes == current.n() {
            Ok(current)
        } else {
            default_code(now.rules.policy, current.k(), nodes)
        };
        let Ok(code) = code else { return self.end_change(plan, false) };
        let id = |rank: usize| self.nodes[rank].id.0;
        let change = Admin::Change {
            joins: plan.joins.map(|rank| (id(rank), self.nodes[rank].address)),
            leaves: plan.leaves.map(id),
            k: code.k(),
            m: code.m(),
        };
        if let Some(plan) = self.plans.waiting.front_mut() {
            plan.is_asked = true;
        }
        self.operator.ask_of_members(self.now, change);
    }

    /// A change is over. A newcomer that did not come to be a member is not needed.
    fn end_change(&mut self, plan: Plan, is_done: bool) {
        let Plan { kind, joins, leaves, is_stopped, .. } = plan;
        self.plans.waiting.pop_front();
        self.say(|| format!("{kind} of {leaves:?} by {joins:?} is over: {is_done}"));
        let gone = if is_done {
            self.totals.note_effect(kind);
            self.plans.done += 1;
            leaves.filter(|_| is_stopped)
        } else {
            if plan.is_unwanted {
                self.totals.note_effect("change given up");
            }
            joins
        };
        if is_done && let Some(rank) = leaves {
            self.nodes[rank].is_leaving = true;
        }
        let mut gone: Vec<usize> = gone.into_iter().collect();
        if self.is_short() {
            gone.extend(self.plans.waiting.drain(..).filter_map(|plan| plan.joins));
        }
        for rank in gone {
            self.nodes[rank].is_gone = true;
            self.nodes[rank].is_leaving = true;
            self.nodes[rank].stop(false);
            self.touch(rank);
        }
    }

    /// What the leader shows: the configuration, and whether it is settled.
    fn shown(&self) -> Option<(Configuration, bool)> {
        let leader = self.leader()?;
        Some((leader.configuration().clone(), leader.is_settled()))
    }

    /// Of those who take themselves for the leader, the one with the highest ballot.
    pub(super) fn leader(&self) -> Option<&Replica> {
        let leaders = self.nodes.iter().filter_map(SimNode::replica).filter(|r| r.is_leader());
        leaders.max_by_key(|replica| replica.promised())
    }

    /// Who must end in the same state: the members that the leader shows, but for a lost machine or
    /// directory whose replacement could not be. None without a leader, and
    /// while somebody who left and still runs has not learnt it.
    pub(super) fn final_members(&self) -> Option<Vec<usize>> {
        let members = &self.leader()?.configuration().members;
        let ranks: Vec<usize> = members.iter().filter_map(|seat| self.rank_of(seat.id)).collect();
        let is_in_order = |(rank, node): (usize, &SimNode)| {
            ranks.contains(&rank)
                || node.is_lost()
                || node.replica().is_some_and(|r| r.standing() == Standing::Removed)
        };
        let is_all = self.nodes.iter().enumerate().all(is_in_order);
        is_all.then(|| ranks.iter().copied().filter(|rank| !self.nodes[*rank].is_lost()).collect())
    }
}

/// Will it be the same when asked again?
const fn is_final(refusal: Refusal) -> bool {
    match refusal {
        Refusal::Unsafe | Refusal::IdUsed | Refusal::NotMember => true,
        Refusal::NotLeader { .. }
        | Refusal::Busy
        | Refusal::SessionUnknown
        | Refusal::Stale
        | Refusal::DiskFull
        | Refusal::KeyBound
        | Refusal::ValueBound
        | Refusal::Unavailable
        | Refusal::Behind
        | Refusal::ChangeUnderWay => false,
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// More would only wait.
const PLANS_MAX: usize = 3;
/// A cluster is not made smaller than this.
const MEMBERS_MIN: usize = 3;
/// Their ids are below 32, and their addresses numbered in one byte.
pub(super) const NODES_MAX: usize = 14;
