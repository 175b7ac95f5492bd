//! What a run must have kept, looked at from outside the machines.

use super::load::key_name;
use super::node::{SEGMENT_BYTES, SimNode};
use super::world::World;
use crate::history::{Operation, Search, search};
use crate::replica::Replica;
use crate::time::Duration;
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
        self.check_storage()?;
        self.check_claims()?;
        self.check_images()?;
        for replica in self.nodes.iter().filter_map(SimNode::replica) {
            self.totals.elections += replica.elections_won();
            let status = replica.status(self.now);
            self.totals.rebuilt += status.rebuilt_count;
            self.totals.reclaimed += status.storage.reclaimed_count;
            self.totals.restored += status.storage.restored_count;
            self.totals.repaired += status.storage.repaired_count;
            self.totals.slots = self.totals.slots.max(replica.state_digest().0.0);
        }
        self.count_clocks();
        self.totals.starts = self.nodes.iter().map(|node| node.boots).sum();
        self.count_effects();
        Ok(())
    }

    /// Clocks that do not show the time of the first, and such that run at another rate than the world.
    fn count_clocks(&mut self) {
        let Some(first) = self.nodes.first().map(|node| node.clock.local(self.now)) else { return };
        let apart = |node: &&SimNode| {
            let shown = node.clock.local(self.now);
            Duration::from_nanos(shown.as_nanos().abs_diff(first.as_nanos())) >= APART
        };
        let counts = [
            ("fast or slow", self.nodes.iter().filter(|node| !node.clock.is_steady()).count()),
            ("a tenth of a second apart", self.nodes.iter().filter(apart).count()),
        ];
        self.totals.clocks = counts.map(|(kind, count)| (kind, count as u64)).into();
    }

    /// The files of a log that snapshots let go of take a multiple of what lives, beside what a
    /// snapshot may wait for and a few segments. Not judged: limits under which hardly anything is
    /// ever let go, and runs with damage, whose segments stay until it is repaired.
    fn check_storage(&mut self) -> Result<(), String> {
        let limits = &self.scenario.cluster.limits;
        let (snapshot_slots, kept_slots) = (limits.snapshot_slots, limits.kept_slots);
        if snapshot_slots.max(kept_slots) > JUDGED_SLOTS_MAX || !self.rot.is_untouched() {
            return Ok(());
        }
        let record_bytes = self.scenario.value_bytes_max + RECORD_BYTES;
        for rank in self.final_members().unwrap_or_default() {
            let node = &self.nodes[rank];
            let Some((usage, replica)) = node.log_usage().zip(node.replica()) else { continue };
            let status = replica.status(self.now);
            if status.storage.repairing.is_some() || status.storage.restoring.is_some() {
                continue;
            }
            let lives = status.live_bytes + status.keys * RECORD_BYTES + usage.snapshot_bytes;
            // Garbage of the snapshot under way, and of the next one.
            let mut waiting_slots = 2 * snapshot_slots.max(status.keys / 2) + kept_slots;
            // While a peer fetches its snapshot a node takes no other: what was applied since then
            // waits (rule 14), however much that is.
            if replica.is_serving_index(node.clock.local(self.now)) {
                let above_floor = status.applied.0 - status.storage.floor.0;
                waiting_slots = waiting_slots.max(above_floor);
                self.totals.judged_serving += 1;
            }
            // What was applied at once, or while the last one had to stay, waits for the one under way;
            // not what came after that, or one that never ends would excuse everything.
            if let Some(begun) = replica.snapshot_under_way()
                && status.applied.0 - begun.0 <= waiting_slots
            {
                waiting_slots = waiting_slots.max(status.applied.0 - status.storage.snapshot.0);
            }
            let allowed =
                STORAGE_MULTIPLE * lives + waiting_slots * record_bytes + STORAGE_SLACK_BYTES;
            let taken = usage.allocated_bytes;
            if taken > allowed {
                let id = node.id;
                return Err(format!(
                    "{id} takes {taken} bytes of disk for {lives} that live: above the bound on \
                     storage, {allowed} ({usage:?})"
                ));
            }
            self.totals.judged += 1;
        }
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
            ("delayed", stats.delayed),
        ]);
        for disk in self.nodes.iter().map(|node| node.disk.stats()) {
            for (left, count) in [
                ("whole", disk.writes_kept),
                ("lost", disk.writes_lost),
                ("torn", disk.writes_torn),
            ] {
                *self.totals.power_cut_writes.entry(left).or_default() += count;
            }
        }
    }

    /// Somebody leads, and all members are up and have applied the same.
    pub(super) fn is_level(&self) -> bool {
        let Some(members) = self.final_members() else { return false };
        let state = |rank: &usize| self.nodes[*rank].replica().map(Replica::state_digest);
        let Some(Some(first)) = members.first().map(state) else { return false };
        members.iter().all(|rank| state(rank) == Some(first))
    }
}

/// Clocks that differ by so much count as apart.
const APART: Duration = Duration::from_millis(100);

/// Of what lives: the log's own multiple is 2, and it moves records a little at each sync.
const STORAGE_MULTIPLE: u64 = 3;
/// Beside it: the segment that is written, those that wait for the next to open, and the slack
/// within which nothing is moved.
const STORAGE_SLACK_BYTES: u64 = 8 * SEGMENT_BYTES as u64;
/// What a record takes beside its payload, its key included.
const RECORD_BYTES: u64 = 512;
/// Limits above this let hardly anything go within a run.
const JUDGED_SLOTS_MAX: u64 = 64;
