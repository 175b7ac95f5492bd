//! Faults aimed at moments: a node has just promised, won, chosen, come under other rules, taken in a
//! snapshot, and meets its fault then, or a little later. By chance alone such moments are rarely hit.

use super::fault::{Act, Fault, Moment};
use super::node::SimNode;
use super::world::World;
use crate::replica::Replica;
use crate::time::Duration;
use crate::types::{Ballot, Epoch, Slot};

/// A fault that waits for its moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aimed {
    pub(super) moment: Moment,
    pub(super) act: Act,
    pub(super) delay: Duration,
    pub(super) span: Duration,
}

/// What was seen of a node after its last step; nothing while it is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    promised: Ballot,
    elections_won: u64,
    commit: Slot,
    is_leader: bool,
    epoch: Epoch,
    restored: u64,
}

impl Seen {
    fn of(replica: &Replica) -> Self {
        Self {
            promised: replica.promised(),
            elections_won: replica.elections_won(),
            commit: replica.commit(),
            is_leader: replica.is_leader(),
            epoch: replica.configuration().rules.epoch,
            restored: replica.restored_count(),
        }
    }

    fn has_come(&self, before: &Self, moment: Moment) -> bool {
        match moment {
            Moment::Promises => self.promised > before.promised,
            Moment::Wins => self.elections_won > before.elections_won,
            Moment::Chooses => self.is_leader && self.commit > before.commit,
            Moment::Reconfigures => self.epoch > before.epoch,
            Moment::Restores => self.restored > before.restored,
        }
    }
}

impl World {
    /// After a step of `rank`: is it the moment that a fault waits for?
    pub(super) fn look_for_moments(&mut self, rank: usize) {
        if self.waiting_for.is_empty() {
            return;
        }
        let seen = self.nodes[rank].replica().map(Seen::of);
        let before = std::mem::replace(&mut self.seen[rank], seen);
        let (Some(seen), Some(before)) = (seen, before) else { return };
        let has_come = |aimed: &Aimed| seen.has_come(&before, aimed.moment);
        let Some(at) = self.waiting_for.iter().position(has_come) else { return };
        let Aimed { act, delay, span, .. } = self.waiting_for.remove(at);
        let kind = "aimed at a moment";
        self.totals.note_effect(kind);
        let (node, span) = (rank, span);
        let fault = match act {
            Act::Crash => Fault::Crash { node, down: span },
            Act::PowerCut => Fault::PowerCut { node, down: span },
            Act::Pause => Fault::Pause { node, span },
            Act::Isolate => Fault::Partition { from: 1 << rank, to: !(1 << rank), span },
        };
        let begin = self.now + delay;
        // The next to begin is the last.
        let place = self.faults.partition_point(|(other, _)| *other > begin);
        self.faults.insert(place, (begin, fault));
    }

    /// From now on the fault meets whoever comes to its moment.
    pub(super) fn wait_for_moment(&mut self, aimed: Aimed) {
        for rank in 0..self.nodes.len() {
            self.forget_seen(rank);
        }
        self.waiting_for.push(aimed);
    }

    /// Faults that wait for their moment in vain are over.
    pub(super) fn forget_moments(&mut self) {
        self.waiting_for.clear();
        // What was to come a little later does not.
        self.faults.clear();
    }

    /// What was seen of a node is of its last process.
    pub(super) fn forget_seen(&mut self, rank: usize) {
        self.seen[rank] = self.nodes.get(rank).and_then(SimNode::replica).map(Seen::of);
    }
}
