//! What a plain trial needs of the store that it measures: the seam between a trial and where it runs.
//!
//! Three kinds: processes of ours ([`super::processes`]), a cluster in virtual time
//! ([`super::simulated`]), another store ([`super::external`]). Remote hosts would be a fourth.

use super::faults::FaultAction;
use super::trial::TrialError;
use crate::bench::Target;
use crate::report::phase_parts::Leadership;
use crate::report::result::NodeResources;
use crate::types::NodeId;
use std::collections::BTreeMap;
use std::time::Instant;

/// What every process has used since its start, by role and number.
pub(super) type Used = BTreeMap<(String, u32), NodeResources>;

/// A store under measurement.
pub(super) trait Bed {
    /// Where the load goes.
    fn target(&mut self) -> &mut dyn Target;

    /// The target's time.
    fn now(&self) -> Instant;

    /// Is it virtual?
    fn has_virtual_time(&self) -> bool {
        false
    }

    /// Records are loaded from now on, or no more: one that is missing spoils all that follows.
    fn set_loading(&mut self, is_loading: bool);

    /// What was used so far; storage as it is.
    fn used(&mut self) -> Result<Used, TrialError>;

    /// Waits until what is at rest is all that was written; a reason when it did not come to that.
    fn settle(&mut self) -> Result<Option<String>, TrialError>;

    /// Lets something happen; gives its name for a time line, or why it cannot be done.
    fn strike(&mut self, action: FaultAction) -> Result<String, String>;

    /// Has it broken by itself?
    fn broken(&mut self) -> Option<String>;

    /// Stops it; gives what did not end well.
    fn stop(&mut self) -> Vec<String>;
}

/// Which of those that run, the leader first, to kill so that a data shard is missing: a follower whose
/// place, its id in a cluster that has not changed, is one of the first k; the next one when there
/// is none (copies).
pub(super) fn data_holder(ranks: &[NodeId], data_shards: u8) -> usize {
    let holds_data = |node: &NodeId| node.0 < data_shards;
    ranks.iter().skip(1).position(holds_data).map_or(1, |place| place + 1)
}

/// A bed has no size of values.
pub(super) const SIZE_IS_THE_GENERATORS: &str = "the size of values is the generator's";

/// Who leads by the newest ballot, if anybody does.
pub(super) fn leadership<'a>(
    nodes: impl IntoIterator<Item = &'a NodeResources>,
) -> Option<Leadership> {
    let leaders = nodes.into_iter().filter(|node| node.leader);
    let newest = leaders.max_by_key(|node| node.ballot_round)?;
    Some(Leadership { node: newest.node, round: newest.ballot_round })
}

/// What was used between two moments.
pub(super) fn difference(before: &Used, after: Used) -> Vec<NodeResources> {
    let since = |(key, mut after): ((String, u32), NodeResources)| {
        // One that has started anew counts from its start.
        if let Some(before) = before.get(&key).filter(|before| before.turns <= after.turns) {
            after.cpu_seconds = (after.cpu_seconds - before.cpu_seconds).max(0.0);
            for (value, was) in [
                (&mut after.bytes_sent, before.bytes_sent),
                (&mut after.datagrams_sent, before.datagrams_sent),
                (&mut after.turns, before.turns),
                (&mut after.bytes_received, before.bytes_received),
                (&mut after.bytes_retransmitted, before.bytes_retransmitted),
                (&mut after.bytes_written, before.bytes_written),
                (&mut after.syncs, before.syncs),
            ] {
                *value = value.saturating_sub(was);
            }
            for (name, count) in &mut after.counts {
                *count = count.saturating_sub(before.counts.get(name).copied().unwrap_or(0));
            }
        }
        after
    };
    after.into_iter().map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_killed_for_reads_holds_a_data_shard_and_does_not_lead() {
        for leader in 0..5 {
            let ranks: Vec<NodeId> = (0..5).map(|more| NodeId((leader + more) % 5)).collect();
            let place = data_holder(&ranks, 3);
            assert!(place > 0 && ranks[place].0 < 3, "{leader}: {place}");
        }
        let copies: Vec<NodeId> = (0..5).map(NodeId).collect();
        assert_eq!(data_holder(&copies, 1), 1, "the leader has the only data shard");
    }
}
