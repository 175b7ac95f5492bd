//! `crossword`: c shards per node, c from the value's size and the measured links.
//!
//! More shards per node need fewer acknowledgements: worth it when a value is short or some links
//! are slow. Each c is judged by when its last needed acknowledgement is expected if everything in
//! flight were spread like that: where values queue, one that takes the link for longer holds up
//! all behind it. The smallest c wins that is about as good as the best: it sends least, and a line
//! knows nothing of how waiting grows when a link gets full.

use super::super::choice::EXACT_NODES_MAX;
use super::{Pick, View, least_c};
use crate::time::Duration;

pub(super) fn pick(view: &View<'_>, payload_bytes: usize) -> Pick {
    let code = view.epoch.code;
    let (k, least) = (code.k(), least_c(view, code));
    if !has_steps(view) {
        return Pick { code, c: if least > 1 { k } else { 1 } };
    }
    let shard_bytes = code.shard_bytes(view.in_flight_bytes + payload_bytes);
    let expected_with = |c: u8| {
        let needed = view.quorums.acks_needed(u32::from(k), u32::from(c)) as usize;
        expected(view, usize::from(c) * shard_bytes, needed)
    };
    let best = (least..=k).map(expected_with).min().unwrap_or(Duration::ZERO);
    let bound = best.saturating_mul(GAIN_MIN.0) / GAIN_MIN.1;
    let is_good = |c: &u8| expected_with(*c) <= bound;
    Pick { code, c: (least..=k).find(is_good).unwrap_or(least) }
}

/// Where the rule for overlapping shards is not exact only c = 1 and full copies are of use.
pub(super) fn has_steps(view: &View<'_>) -> bool {
    usize::from(view.epoch.nodes) <= EXACT_NODES_MAX
}

/// When the `needed`-th acknowledgement is expected, with `bytes` on their way to each node.
fn expected(view: &View<'_>, bytes: usize, needed: usize) -> Duration {
    let mut times: Vec<Duration> =
        view.alive.iter().map(|rank| view.links.expected(rank, bytes)).collect();
    times.sort_unstable();
    times.get(needed.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
}

/// More is sent when that is faster by this ratio at least.
const GAIN_MIN: (u32, u32) = (4, 3);

#[cfg(test)]
mod tests {
    use super::super::super::links::{Links, tests::measure};
    use super::*;
    use crate::config::{EpochConfig, Policy};
    use crate::types::{Code, Epoch, NodeSet};

    /// Five nodes; peers 1 and 2 are fast, 3 and 4 take `far`; every byte takes `per_byte_nanos`.
    /// With `ahead_bytes` in flight.
    fn picked(
        far: Duration,
        per_byte_nanos: u64,
        (ahead_bytes, payload_bytes): (usize, usize),
    ) -> u8 {
        let code = Code::new(3, 2).unwrap();
        let (policy, epoch) = (Policy::Crossword, Epoch(0));
        let epoch = EpochConfig { epoch, nodes: 5, policy, code, hybrid_bytes: 0 };
        let mut links = Links::new(5);
        for step in 0..200_u64 {
            let bytes = step * 500;
            let took = |rank: u8| {
                let delay = if rank < 3 { Duration::from_micros(100) } else { far };
                (rank, delay + Duration::from_nanos(bytes * per_byte_nanos))
            };
            let took: Vec<_> = (1..5).map(took).collect();
            measure(&mut links, step, usize::try_from(bytes).unwrap(), &took);
        }
        let alive = NodeSet::first(5);
        let quorums = epoch.quorums();
        let in_flight_bytes = ahead_bytes;
        let view = View { epoch: &epoch, quorums, alive, in_flight_bytes, links: &links };
        pick(&view, payload_bytes).c
    }

    #[test]
    fn slow_nodes_are_not_waited_for_when_values_are_short() {
        // One shard each needs all five nodes, a full copy each needs three.
        let far = Duration::from_millis(20);
        assert_eq!(picked(far, 40, (0, 3000)), 3);
    }

    #[test]
    fn little_gain_is_not_worth_more_bytes() {
        // The two far nodes are slower by a fifth.
        assert_eq!(picked(Duration::from_micros(120), 0, (0, 3000)), 1);
        assert_eq!(picked(Duration::from_micros(150), 0, (0, 3000)), 3);
    }

    #[test]
    fn long_values_over_equal_links_are_divided() {
        let near = Duration::from_micros(100);
        assert_eq!(picked(near, 40, (0, 300_000)), 1);
    }

    #[test]
    fn short_values_are_divided_where_they_queue() {
        let far = Duration::from_millis(20);
        assert_eq!(picked(far, 40, (3_000_000, 3000)), 1);
    }

    #[test]
    fn without_measurements_least_is_sent() {
        let code = Code::new(3, 2).unwrap();
        let (policy, epoch) = (Policy::Crossword, Epoch(0));
        let epoch = EpochConfig { epoch, nodes: 5, policy, code, hybrid_bytes: 0 };
        let links = Links::new(5);
        let alive = NodeSet::first(5);
        let quorums = epoch.quorums();
        let view = View { epoch: &epoch, quorums, alive, in_flight_bytes: 0, links: &links };
        assert_eq!(pick(&view, 1000).c, 1);
    }
}
