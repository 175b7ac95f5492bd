//! What a run must have kept, looked at from outside the machines.

use super::load::key_name;
use super::node::SimNode;
use super::world::World;
use crate::history::{Operation, Search, search};
use crate::replica::Replica;
use std::collections::BTreeMap;

impl World {
    /// Two nodes that have applied the same slots are in the same state, by the same values.
    pub(super) fn check_agreement(&mut self, rank: usize) -> Result<(), String> {
        let id = self.nodes[rank].id;
        while let Some(executed) = self.nodes[rank].poll_executed() {
            self.agreed.note(id, executed)?;
        }
        let Some(replica) = self.nodes[rank].replica() else { return Ok(()) };
        let (slot, digest) = replica.state_digest();
        if self.checked_at[rank] == (slot, digest) {
            return Ok(());
        }
        self.checked_at[rank] = (slot, digest);
        let first = *self.digests.entry(slot).or_insert(digest);
        if first == digest {
            return Ok(());
        }
        Err(format!("{id} is in another state after {slot} than another node was"))
    }

    /// The whole history.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.history.check().map_err(|violation| violation.to_string())?;
        self.agreed.check(&self.history.operations, &self.scans, key_name)?;
        self.search_keys()?;
        for replica in self.nodes.iter().filter_map(SimNode::replica) {
            self.totals.elections += replica.elections_won();
            let status = replica.status(self.now);
            self.totals.rebuilt += status.rebuilt_count;
            self.totals.reclaimed += status.storage.reclaimed_count;
            self.totals.restored += status.storage.restored_count;
            self.totals.repaired += status.storage.repaired_count;
            self.totals.slots = self.totals.slots.max(replica.state_digest().0.0);
        }
        self.totals.starts = self.nodes.iter().map(|node| node.boots).sum();
        self.count_effects();
        Ok(())
    }

    /// Looks for a linear order of each key without believing any slot.
    fn search_keys(&mut self) -> Result<(), String> {
        let mut keys: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in self.history.operations.iter().filter(|op| !op.is_eventual()) {
            keys.entry(operation.key).or_default().push(operation);
        }
        for (key, operations) in keys {
            self.totals.searched += 1;
            match search(&operations) {
                Search::Linearizable => {}
                Search::GaveUp => self.totals.gave_up += 1,
                Search::NotLinearizable { stuck } => {
                    let stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
                    let stuck = stuck.join("\n    ");
                    return Err(format!(
                        "no linear order explains key {key}; none can come next of:\n    {stuck}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn count_effects(&mut self) {
        let changes = self.agreed.policies();
        let transfers = self.operator.handed_over;
        for (kind, count) in [("policy change", changes), ("leadership transfer", transfers)] {
            if count > 0 {
                *self.totals.effects.entry(kind).or_default() += count;
            }
        }
        let stats = self.netem.stats();
        self.totals.network = BTreeMap::from([
            ("lost", stats.lost),
            ("duplicated", stats.duplicated),
            ("reordered", stats.reordered),
            ("corrupted", stats.corrupted),
            ("cut off", stats.partitioned),
            ("throttled", stats.throttled),
            ("overflowed", stats.overflowed),
        ]);
    }

    /// Somebody leads, and all members are up and have applied the same.
    pub(super) fn is_level(&self) -> bool {
        let Some(members) = self.final_members() else { return false };
        let state = |rank: &usize| self.nodes[*rank].replica().map(Replica::state_digest);
        let Some(Some(first)) = members.first().map(state) else { return false };
        members.iter().all(|rank| state(rank) == Some(first))
    }
}
