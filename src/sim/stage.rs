//! How a run ends: all faults but a few nodes that the cluster can do without, then none.
//!
//! What is promised with N - Q1 nodes missing is tried, not only what is so when everything works
//! again: every session writes, every key is read, all of it served, while nodes are off, deaf, mute,
//! alone or stand still. Then they come back, and the same is asked again. Where members change or
//! machines are lost the cluster first has the time to become whole; else it goes straight from the
//! faults into this. Nodes whose data is damaged count as missing for what is damaged (`rot.rs`).

use super::faults::{LinkChange, Mend};
use super::load::{Client, Demand};
use super::node::SimNode;
use super::world::{NEVER, World};
use crate::replica::Replica;
use crate::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Faults begin and end.
    Faulty,
    /// Some nodes are missing to the end of the stage.
    Short,
    /// Nothing is wrong. With `is_last` the run ends when all is level.
    Whole { is_last: bool },
}

/// A node that is missing in the stage after the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Rank.
    pub node: usize,
    /// In which way.
    pub way: Way,
}

/// How a node is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Its process is not there.
    Off,
    /// It hears no node.
    Deaf,
    /// No node hears it.
    Mute,
    /// Both; clients reach it.
    Alone,
    /// It stands still.
    Still,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Off, Self::Deaf, Self::Mute, Self::Alone, Self::Still];

    const fn kind(self) -> &'static str {
        match self {
            Self::Off => "missing: off",
            Self::Deaf => "missing: deaf",
            Self::Mute => "missing: mute",
            Self::Alone => "missing: alone",
            Self::Still => "missing: still",
        }
    }
}

/// How long a stage may go on.
#[derive(Debug)]
pub(super) struct Patience {
    began: Instant,
    give_up_at: Instant,
    least_gap: u64,
}

impl Patience {
    /// With a stage that begins now.
    pub(super) fn of(stage: Stage, now: Instant) -> Self {
        let bound = if stage == Stage::Short { SHORT_BOUND } else { LIVENESS_BOUND };
        Self { began: now, give_up_at: now + bound, least_gap: u64::MAX }
    }
}

impl World {
    /// Do all faults, or all but missing nodes, lie behind?
    pub(super) fn is_healed(&self) -> bool {
        self.stage != Stage::Faulty
    }

    /// The faults have ended.
    pub(super) fn leave_faulty(&mut self) -> Result<(), String> {
        self.check_claims()?;
        let is_settled = self.plans.is_empty()
            && self.lost.is_empty()
            && self.nodes.len() == self.scenario.cluster.members.len();
        if !(is_settled && self.become_short()) {
            self.become_whole();
        }
        Ok(())
    }

    /// Goes on to the next stage when there is nothing left to do in this one.
    pub(super) fn advance_stage(&mut self) -> Result<(), String> {
        let is_done = self.clients.iter().all(Client::is_done);
        match self.stage {
            Stage::Short if is_done => {
                self.check_claims()?;
                let lasted = self.now.since(self.patience.began);
                self.totals.longest_short = self.totals.longest_short.max(lasted);
                self.become_whole();
            }
            Stage::Whole { is_last: false } if is_done && self.is_at_rest() => {
                if !self.become_short() {
                    self.stage = Stage::Whole { is_last: true };
                }
            }
            Stage::Faulty | Stage::Short | Stage::Whole { .. } => {}
        }
        Ok(())
    }

    /// Nothing is under way, and all nodes have applied the same.
    fn is_at_rest(&self) -> bool {
        self.plans.is_empty() && self.all_lost_are_refused() && self.is_level()
    }

    /// All clients have done and read everything, and all nodes have applied the same.
    pub(super) fn is_over(&self) -> bool {
        self.stage == (Stage::Whole { is_last: true })
            && self.clients.iter().all(Client::is_done)
            && self.is_at_rest()
    }

    /// Every session of every client writes something and every key is read.
    fn demand_everything(&mut self) {
        for client in &mut self.clients {
            let sessions = client.sessions.len();
            let mut demands: Vec<Demand> = (0..self.scenario.key_count).map(Demand::Read).collect();
            for _ in 0..sessions {
                demands.push(Demand::Write(self.rng.below(self.scenario.key_count)));
            }
            for at in (1..demands.len()).rev() {
                let other = self.rng.below(at as u64 + 1);
                demands.swap(at, usize::try_from(other).unwrap_or(0));
            }
            client.demands = demands;
        }
        self.clients_are_due();
        self.patience = Patience::of(self.stage, self.now);
    }

    /// As many nodes as the cluster can do without go missing. False when there are none.
    fn become_short(&mut self) -> bool {
        let mut missing: Vec<Missing> = Vec::new();
        let mut ranks: Vec<usize> = Vec::new();
        let is_on_disk = self.scenario.cluster.durability != "memory";
        for Missing { node, mut way } in self.scenario.missing.clone() {
            let rank = self.rank(node);
            let is_there = self.nodes[rank].is_up() && !self.nodes[rank].is_leaving;
            if !is_there || self.nodes[rank].is_lost() || ranks.contains(&rank) {
                continue;
            }
            ranks.push(rank);
            let is_enough = self.rot.can_do_without(&ranks) && ranks.len() <= self.spare_members();
            if !is_enough || !self.can_be_found(&ranks) {
                ranks.pop();
                continue;
            }
            // Without its memory it is not the same node (rule 12).
            if way == Way::Off && !is_on_disk {
                way = Way::Still;
            }
            missing.push(Missing { node: rank, way });
        }
        if missing.is_empty() {
            return false;
        }
        self.say(|| format!("all faults end but {missing:?}"));
        for Missing { node, way } in &missing {
            *self.totals.faults.entry(way.kind()).or_default() += 1;
            self.totals.note_effect(way.kind());
            match way {
                Way::Off => self.nodes[*node].stop(false),
                Way::Still => self.nodes[*node].paused_until = Some(NEVER),
                Way::Deaf | Way::Mute | Way::Alone => {
                    let links = self.links_of(*node, *way);
                    self.change_links(&links, LinkChange::Cut);
                }
            }
            self.touch(*node);
        }
        (self.missing, self.stage) = (missing, Stage::Short);
        self.demand_everything();
        true
    }

    /// Nodes that the members of now can do without: changes given up may have left fewer than planned.
    pub(super) fn spare_members(&self) -> usize {
        let of_file = self.scenario.cluster.quorums();
        let quorums = self.leader().map_or(of_file, |l| l.configuration().rules.quorums());
        (quorums.nodes - quorums.prepare) as usize
    }

    /// Is there a member left of those that the cluster file names? A client learns of others within
    /// ten seconds, and not from whom it cannot reach.
    fn can_be_found(&self, missing: &[usize]) -> bool {
        let first = self.scenario.cluster.members.len();
        (0..first).any(|rank| {
            let node = &self.nodes[rank];
            node.is_up() && !node.is_leaving && !node.is_lost() && !missing.contains(&rank)
        })
    }

    /// Who is missing comes back.
    fn become_whole(&mut self) {
        self.say(|| "nothing is wrong any more".to_owned());
        let is_last = !self.missing.is_empty();
        for Missing { node, way } in std::mem::take(&mut self.missing) {
            match way {
                Way::Off => self.mends.push((self.now, Mend::Start(node))),
                Way::Still => self.nodes[node].paused_until = None,
                Way::Deaf | Way::Mute | Way::Alone => {
                    let links = self.links_of(node, way);
                    self.change_links(&links, LinkChange::Heal);
                }
            }
            self.touch(node);
        }
        self.stage = Stage::Whole { is_last };
        self.demand_everything();
    }

    fn links_of(&self, rank: usize, way: Way) -> Vec<(usize, usize)> {
        let (own, all) = (1 << rank, u32::MAX);
        let mut links = Vec::new();
        if way != Way::Mute {
            links.extend(self.links_between(all, own));
        }
        if way != Way::Deaf {
            links.extend(self.links_between(own, all));
        }
        links
    }

    /// Does the stage come to its end? A node that catches up may take long, a client may not.
    pub(super) fn check_progress(&mut self) -> Result<(), String> {
        if self.stage == Stage::Faulty || self.now <= self.patience.give_up_at {
            return Ok(());
        }
        let gap = self.gap();
        let is_nearer = gap < self.patience.least_gap && self.stage != Stage::Short;
        if is_nearer && self.now < self.patience.began + LEVEL_BOUND {
            self.patience.give_up_at = self.now + LIVENESS_BOUND;
            self.patience.least_gap = gap;
            return Ok(());
        }
        let waiting = self.waiting();
        Err(match self.stage {
            Stage::Short => format!(
                "no progress with {:?}: after {SHORT_BOUND:?} clients still wait ({waiting})",
                self.missing
            ),
            Stage::Faulty | Stage::Whole { .. } => format!(
                "no progress: {LIVENESS_BOUND:?} after all faults ended, clients still wait \
                 ({waiting})"
            ),
        })
    }

    /// Slots from the one that has applied the fewest to the one that has applied the most. No end
    /// while a client waits, for whom somebody's catching up is no excuse.
    fn gap(&self) -> u64 {
        let nodes = self.nodes.iter().filter(|node| !node.is_lost());
        let replicas = nodes.filter_map(SimNode::replica);
        let applied = || replicas.clone().map(|replica: &Replica| replica.state_digest().0.0);
        let is_done = self.clients.iter().all(Client::is_done);
        if is_done { applied().max().unwrap_or(0) - applied().min().unwrap_or(0) } else { u64::MAX }
    }
}

/// Virtual time from the beginning of a stage until every client must be done; within as much again
/// must the gap of a node that catches up become smaller.
const LIVENESS_BOUND: Duration = Duration::from_secs(120);
/// Virtual time from when nodes go missing until every client must be done.
const SHORT_BOUND: Duration = Duration::from_secs(120);
/// Virtual time from the beginning of a stage until all nodes must be level.
const LEVEL_BOUND: Duration = Duration::from_secs(1200);
