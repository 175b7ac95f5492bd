//! What the leader measures reaches the policy that asks for it.

use super::super::Message;
use super::cluster::{Cluster, Flight};
use crate::config::Policy;
use std::time::Duration;

/// Shards that a fast node gets of the last of 30 values, where two nodes take `slow` longer.
fn shards_sent(slow: Duration) -> usize {
    let mut cluster = Cluster::new(Policy::Crossword, 3, 5);
    let leader = cluster.elect();
    cluster.pass(300, |_| false);
    let [one, other, fast] = [1, 2, 3].map(|step| (leader + step) % 5);
    let mut count = 0;
    for _ in 0..30 {
        cluster.propose(leader, "value", 300);
        let is_late = |flight: &Flight| {
            [one, other].contains(&flight.to) && matches!(flight.message, Message::Accept { .. })
        };
        let (late, early) = cluster.flights.drain(..).partition::<Vec<_>, _>(is_late);
        for flight in &early {
            if let Message::Accept { entries, .. } = &flight.message
                && flight.to == fast
            {
                count = entries[0].shards.len();
            }
        }
        cluster.flights = early.into();
        cluster.settle(|_| false);
        cluster.tick(slow);
        for flight in late {
            cluster.deliver(flight);
        }
        cluster.settle(|_| false);
    }
    count
}

#[test]
fn crossword_sends_copies_where_some_nodes_are_slow_and_single_shards_where_none_is() {
    assert_eq!(shards_sent(Duration::ZERO), 1);
    let sent = shards_sent(Duration::from_millis(100));
    assert!(sent >= 3, "{sent}: with copies three acknowledgements suffice");
}
