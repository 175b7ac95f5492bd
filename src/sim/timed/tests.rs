//! What must follow from the costs alone, without a real machine to compare with.

use super::{Costs, Placement, TimedCluster, TimedConfig};
use crate::config::{ClusterConfig, Member, Policy};
use crate::kv::Op;
use crate::netem::LinkConfig;
use crate::time::{Duration, Instant};
use crate::transport::TransportConfig;
use crate::types::{Bytes, Code, NodeId, ReadMode};
use std::net::SocketAddr;
use std::sync::Arc;

fn config(policy: Policy, k: u8, nodes: u8) -> TimedConfig {
    let member =
        |id: u8| Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, id + 1], 9000)) };
    let code = Code::new(k, nodes - k).unwrap();
    let members = (0..nodes).map(member).collect();
    let cluster = ClusterConfig::new(7, policy, code, members).unwrap();
    TimedConfig {
        transport: TransportConfig { cluster_id: 7, ..TransportConfig::default() },
        cluster: Arc::new(cluster),
        link: LinkConfig::default(),
        rate_mbit: 0.0,
        segment_bytes: 1 << 20,
        costs: Costs::default(),
        placement: Placement::Apart,
        sessions: 1,
        operation_timeout: Duration::from_secs(30),
        seed: 1,
    }
}

/// Puts one after the other in every session for a second after the first has ended; gives how many,
/// and the mean latency.
fn puts(config: TimedConfig, value_bytes: usize) -> (u32, Duration) {
    let sessions = config.sessions;
    let mut cluster = TimedCluster::start(config).unwrap();
    let value = Bytes::from(vec![7; value_bytes]);
    let mut next = 0_u64;
    let mut started = vec![Instant::ZERO; sessions];
    let mut put = |cluster: &mut TimedCluster, session: usize| {
        next += 1;
        let key = Bytes::from(format!("key-{}", next % 50));
        let op = Op::Put { key, value: value.clone() };
        cluster.submit(session, op, ReadMode::Linearizable).unwrap();
    };
    for session in 0..sessions {
        put(&mut cluster, session);
    }
    let mut end = None;
    let (mut count, mut sum) = (0, Duration::ZERO);
    loop {
        let deadline = end.unwrap_or(Instant::ZERO + Duration::from_secs(30));
        let Some(completion) = cluster.run_until(deadline).unwrap() else { break };
        let session = completion.session_index;
        if end.is_some() {
            count += 1;
            sum += cluster.now().since(started[session]);
        }
        end = end.or(Some(cluster.now() + Duration::from_secs(1)));
        started[session] = cluster.now();
        put(&mut cluster, session);
    }
    assert!(count > 0, "no put ended");
    (count, sum / count)
}

#[test]
fn a_put_takes_its_round_trips_and_syncs() {
    let base = config(Policy::Craft, 3, 5);
    let mut slow_disk = base.clone();
    slow_disk.costs.sync_us += 1000.0;
    let mut far = base.clone();
    far.link.delay_ms = 5.0;
    let ((_, base), (_, slow_disk), (_, far)) =
        (puts(base, 1000), puts(slow_disk, 1000), puts(far, 1000));
    // A follower's sync is on the way of a put; the leader's runs beside it.
    let added = slow_disk.saturating_sub(base).as_secs_f64() * 1e3;
    assert!((0.95..2.1).contains(&added), "a sync of 1 ms more adds {added} ms to {base:?}");
    let added = far.saturating_sub(base).as_secs_f64() * 1e3;
    assert!((9.5..12.0).contains(&added), "5 ms each way add {added} ms");
}

#[test]
fn a_leaders_card_bounds_copies_and_codes_as_theory_says() {
    let bytes = 64 << 10;
    let limited =
        |policy, k| TimedConfig { rate_mbit: 200.0, sessions: 16, ..config(policy, k, 5) };
    let (copies, _) = puts(limited(Policy::Replicate, 1), bytes);
    let (coded, _) = puts(limited(Policy::Craft, 3), bytes);
    let bound = |shares: f64| 25e6 / (bytes as f64 * shares);
    let (of_copies, of_code) =
        (f64::from(copies) / bound(4.0), f64::from(coded) / bound(4.0 / 3.0));
    assert!((0.75..1.02).contains(&of_copies), "{of_copies} of what the card lets through");
    assert!((0.75..1.02).contains(&of_code), "{of_code} of what the card lets through");
}

#[test]
fn it_is_the_same_each_time_and_a_shared_machine_is_slower() {
    let busy = |placement| TimedConfig { placement, sessions: 32, ..config(Policy::Craft, 3, 5) };
    let (first, second) = (puts(busy(Placement::Apart), 4000), puts(busy(Placement::Apart), 4000));
    assert_eq!(first, second);
    let shared = puts(busy(Placement::Shared { cores: 2 }), 4000);
    assert!(shared.0 < first.0, "{shared:?} on one machine, {first:?} on five");
}
