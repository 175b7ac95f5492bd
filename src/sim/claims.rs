//! What nodes claim, held to what their disks say and to what was agreed.
//!
//! Looked at where a stage of a run ends, shards also where a change of members does. What a log
//! holds of an applied slot above its floor is the value that was chosen there: it is what the node
//! would give to others. What lives is durable on so many nodes that any of them may be missing, as
//! many as the cluster can do without (rule 1). And nodes that have applied the same are in the same
//! state to the byte, the results of requests included.

use super::node::SimNode;
use super::world::World;
use crate::replica::Replica;
use crate::types::{ShardSet, Slot, ValueMeta};
use std::collections::BTreeMap;

/// What a node holds of a slot.
type Held = BTreeMap<Slot, (ValueMeta, ShardSet)>;

impl World {
    /// At the end of a stage.
    pub(super) fn check_claims(&mut self) -> Result<(), String> {
        for rank in 0..self.nodes.len() {
            self.check_applied(rank)?;
        }
        if self.plans.is_empty() { self.check_held() } else { Ok(()) }
    }

    /// Nothing that was never chosen rests where it would be told as chosen.
    fn check_applied(&mut self, rank: usize) -> Result<(), String> {
        let node = &self.nodes[rank];
        if node.is_lost() {
            return Ok(());
        }
        let Some((_, recovered)) = node.reopened(false) else { return Ok(()) };
        let up_to = node.replica().map_or(recovered.chosen, |replica| replica.state_digest().0);
        for entry in &recovered.entries {
            let slot = entry.meta.slot();
            if slot <= recovered.floor || slot > up_to || recovered.faulty.contains(&slot) {
                continue;
            }
            self.totals.claims += 1;
            let agreed = self.agreed.meta(slot);
            if agreed.is_some_and(|agreed| *agreed != entry.meta) {
                return Err(format!(
                    "{} would tell {:?} as chosen where {agreed:?} was",
                    node.id, entry.meta
                ));
            }
        }
        Ok(())
    }

    /// Any nodes that may be missing leave k shards of whatever lives. Not judged: while members
    /// change, and after damage, whose books are on slots and not on shards.
    pub(super) fn check_held(&mut self) -> Result<(), String> {
        if !self.rot.is_untouched() {
            return Ok(());
        }
        let Some(members) = self.final_members() else { return Ok(()) };
        let leader = self.leader().map(Replica::configuration);
        if leader.is_none_or(|configuration| configuration.change.is_some()) {
            return Ok(());
        }
        let all = leader.map_or(0, |configuration| configuration.members.len());
        let spare = self.rot.tolerated().min(self.spare_members());
        let Some(spare) = spare.checked_sub(all - members.len()) else {
            return Ok(());
        };
        let live: Vec<ValueMeta> = self.agreed.live();
        let held: Vec<Held> = members.iter().map(|rank| self.nodes[*rank].holds(&live)).collect();
        for meta in live.iter().filter(|meta| meta.payload_bytes > 0) {
            let shards = held.iter().map(|held| match held.get(&meta.slot()) {
                Some((of, shards)) if of == meta => *shards,
                Some(_) | None => ShardSet::EMPTY,
            });
            let shards: Vec<ShardSet> = shards.collect();
            let fewest = fewest_without(&shards, spare);
            self.totals.held += 1;
            if fewest < u32::from(meta.code.k()) {
                let ids: Vec<_> = members.iter().map(|rank| self.nodes[*rank].id).collect();
                return Err(format!(
                    "{} lives, and without some {spare} nodes {fewest} of its {} shards are left: \
                     {ids:?} hold {shards:?}",
                    meta.id, meta.code
                ));
            }
        }
        Ok(())
    }

    /// At the end, when all are level.
    pub(super) fn check_images(&self) -> Result<(), String> {
        let Some(members) = self.final_members() else { return Ok(()) };
        let image = |rank: &usize| self.nodes[*rank].replica().map(Replica::state_image);
        let mut images = members.iter().map(image);
        let first = images.next().flatten();
        if images.all(|image| image == first) {
            return Ok(());
        }
        Err(format!("{members:?} have applied the same and are not in the same state"))
    }
}

/// Shards left of those that nodes hold when the worst `spare` nodes are missing.
fn fewest_without(shards: &[ShardSet], spare: usize) -> u32 {
    let count = shards.len();
    let sets =
        (0_u32..1 << count).filter(|missing| missing.count_ones() as usize == spare.min(count));
    let left = |missing: u32| {
        let there = (0..count).filter(|node| missing & (1 << node) == 0);
        there.fold(ShardSet::EMPTY, |all, node| all.union(shards[node])).count()
    };
    sets.map(left).min().unwrap_or(0)
}

impl SimNode {
    /// What it durably holds of these values, their shards' bytes verified.
    fn holds(&mut self, values: &[ValueMeta]) -> Held {
        let mut reopened = self.reopened(true).map(|(log, _)| log);
        let mut held = Held::new();
        for meta in values {
            let slot = meta.slot();
            let stored = match &mut reopened {
                Some(log) => log.read(slot).ok().flatten(),
                None => self.read_in_memory(slot),
            };
            if let Some(stored) = stored {
                let shards = stored.shards.iter().map(|shard| shard.index).collect();
                held.insert(slot, (stored.meta, shards));
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_nodes_are_the_ones_that_are_missing() {
        let one = |index| ShardSet::EMPTY.union([index].into_iter().collect());
        let single: Vec<ShardSet> = (0..5).map(one).collect();
        assert_eq!(fewest_without(&single, 0), 5);
        assert_eq!(fewest_without(&single, 2), 3);
        let copies = [ShardSet::first(3), ShardSet::first(3), ShardSet::EMPTY];
        assert_eq!(fewest_without(&copies, 1), 3);
        assert_eq!(fewest_without(&copies, 2), 0);
    }
}
