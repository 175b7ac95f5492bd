//! Lost data directories: a node starts again under its old id, and must be nobody to its peers.
//!
//! Rule 12, held from outside: who has lost its directory never leads, no candidate and no leader
//! counts what it says, and it says itself that it is refused. Its loss is booked as that of a
//! machine: at most as many as there are beyond a prepare quorum, with damage at rest together. It is
//! drawn only when every other node knows for good which directory it had, met or named by the log: who
//! had never heard of it would take the second one for the first (docs/membership.md, rule 9).

use super::fault::Fault;
use super::node::SimNode;
use super::world::World;
use crate::paxos::Reach;
use crate::replica::Replica;
use crate::types::{NodeId, Slot};

/// A node without the directory that it had.
#[derive(Debug)]
pub(super) struct LostDirectory {
    rank: usize,
    kind: &'static str,
    is_replaced: bool,
    /// What it said before answers nothing beyond this.
    reach: Reach,
    /// It has said that it is refused.
    is_known: bool,
    /// How often it has said so since which start.
    said: (u64, usize),
}

impl LostDirectory {
    /// Is it of another rank, or does the operator know of it?
    pub(super) fn is_known_of(&self, rank: usize) -> bool {
        self.rank != rank || self.is_known
    }
}

impl World {
    /// A node's directory is lost, if the cluster can do without.
    pub(super) fn lose_directory(&mut self, fault: &Fault, rank: usize) {
        let Fault::LoseDirectory { node: _, down, is_replaced } = *fault else { return };
        let kind = fault.kind();
        let id = self.nodes[rank].id;
        let is_there = |node: &SimNode| !node.is_lost() && !node.is_leaving;
        if !self.can_lose() || !is_there(&self.nodes[rank]) || !self.is_met_by_all(rank, id) {
            return;
        }
        if is_replaced && !self.can_replace(rank) {
            return;
        }
        self.book_loss();
        let replicas = self.nodes.iter().filter_map(SimNode::replica);
        let reach = replicas.map(Replica::reach).fold(Reach::default(), Reach::max);
        self.say(|| format!("{id} has lost its data directory"));
        self.stop(rank, true, down);
        self.nodes[rank].lose_directory();
        self.checked_at[rank] = (Slot::ZERO, 0);
        let (is_known, said) = (false, (0, 0));
        self.lost.push(LostDirectory { rank, kind, is_replaced, reach, is_known, said });
        if is_replaced {
            self.push_plan(kind, true, Some(rank), true);
        }
    }

    /// Would every other node refuse another directory, even after a power cut?
    fn is_met_by_all(&self, rank: usize, id: NodeId) -> bool {
        let mut others = self.nodes.iter().enumerate().filter(|(other, _)| *other != rank);
        others.all(|(_, node)| node.is_gone || node.remembers(id))
    }

    /// After a step of `rank`.
    pub(super) fn check_lost(&mut self, rank: usize) -> Result<(), String> {
        for at in 0..self.lost.len() {
            let lost = &self.lost[at];
            let Some(replica) = self.nodes[rank].replica() else { return Ok(()) };
            let id = self.nodes[lost.rank].id;
            if rank == lost.rank {
                if replica.is_leader() {
                    return Err(format!("{id} leads, and has lost its data directory"));
                }
                self.hear_refusal(at)?;
            } else if replica.counts(id, lost.reach) {
                let by = self.nodes[rank].id;
                return Err(format!("{by} counts {id}, which has lost its data directory"));
            }
        }
        Ok(())
    }

    /// What a node without its directory tells its operator: who refuses it, each once a start.
    fn hear_refusal(&mut self, at: usize) -> Result<(), String> {
        let rank = self.lost[at].rank;
        let (id, boots) = (self.nodes[rank].id, self.nodes[rank].boots);
        while let Some(notice) = self.nodes[rank].poll_notice() {
            if !notice.starts_with("refused by") {
                continue;
            }
            let lost = &mut self.lost[at];
            let is_first = !std::mem::replace(&mut lost.is_known, true);
            let count = if lost.said.0 == boots { lost.said.1 + 1 } else { 1 };
            lost.said = (boots, count);
            if count >= self.nodes.len() {
                return Err(format!("{id} says again and again that it is refused"));
            }
            let (kind, is_replaced) = (lost.kind, lost.is_replaced);
            self.say(|| format!("{id}: {notice}"));
            // When it is replaced that is the end of it.
            if is_first && !is_replaced {
                self.totals.note_effect(kind);
            }
        }
        Ok(())
    }

    pub(super) fn all_lost_are_refused(&self) -> bool {
        self.lost.iter().all(|lost| lost.is_known)
    }
}
