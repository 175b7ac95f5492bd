//! Scenarios that aim at one kind of trouble each. All run on the unbroken code as well.

use distkv::config::{ClusterConfig, Member, Policy, Timing};
use distkv::kv::Admin;
use distkv::netem::LinkConfig;
use distkv::rng::Rng;
use distkv::sim::{Fault, Scenario};
use distkv::types::{Code, NodeId};
use std::net::SocketAddr;
use std::time::Duration;

/// Many leaders in a short time: splits, crashes and handovers, one after the other, on a cluster
/// whose elections are quick.
pub fn churn(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = pick(&mut rng, &[3_u8, 3, 4, 5]);
    let policy = pick(&mut rng, &Policy::ALL);
    let mut scenario = quick(&mut rng, nodes, policy);
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 300;
    while at_ms < end_ms - 100 {
        let span = Duration::from_millis(rng.range(30, 250));
        let node = usize::try_from(rng.below(u64::from(nodes))).unwrap();
        let fault = match rng.below(10) {
            0 | 1 => Fault::Crash { node, down: span },
            2 => Fault::PowerCut { node, down: span },
            3 => Fault::Pause { node, span },
            4 => Fault::Operator(Admin::Transfer { to: u8::try_from(node).unwrap() }),
            _ => split(&mut rng, nodes, span),
        };
        scenario.faults.push((Duration::from_millis(at_ms), fault));
        at_ms += rng.range(20, 250);
    }
    scenario
}

/// A cluster with quick elections, small values and busy clients, without a fault.
fn quick(rng: &mut Rng, nodes: u8, policy: Policy) -> Scenario {
    let largest = policy.default_k(u32::from(nodes));
    let k = match policy {
        Policy::Replicate | Policy::Crossword => largest,
        Policy::RsPaxos => u32::try_from(rng.range(2, u64::from(nodes))).unwrap(),
        Policy::Craft | Policy::Hybrid => u32::try_from(rng.range(2, u64::from(largest))).unwrap(),
    };
    let k = u8::try_from(k).unwrap();
    let mut cluster = cluster(nodes, policy, Code::new(k, nodes - k).unwrap());
    cluster.limits.page_bytes = pick(rng, &[200, 1 << 20]);
    cluster.limits.sessions = 64;
    cluster.hybrid_bytes = 40;
    let mut link = LinkConfig { delay_ms: rng.unit() * 6.0, ..LinkConfig::default() };
    link.jitter_ms = link.delay_ms * rng.unit();
    link.loss = rng.unit() * rng.unit() * 0.2;
    let client_count = rng.range(2, 5);
    Scenario {
        cluster,
        link,
        datagram_bytes: 1472,
        client_count,
        key_count: rng.range(2, 5),
        value_bytes_max: 100,
        operations_per_client: 400 / client_count,
        think_time: Duration::from_millis(rng.range(1, 20)),
        sync_time: Duration::from_micros(rng.range(50, 5000)),
        faults: Vec::new(),
        heal_at: Duration::from_millis(3000),
    }
}

fn cluster(nodes: u8, policy: Policy, code: Code) -> ClusterConfig {
    let members = (0..nodes)
        .map(|id| Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, id], 7000)) })
        .collect();
    let mut cluster = ClusterConfig::new(1, policy, code, members).unwrap();
    cluster.timing = Timing {
        heartbeat_ms: 15,
        election_ms: 80,
        resend_ms: 40,
        lease_ms: 60,
        clock_drift: 0.01,
    };
    cluster
}

/// Two sides, or one direction of a cut, or a node that hears nobody.
fn split(rng: &mut Rng, nodes: u8, span: Duration) -> Fault {
    let all = (1_u32 << nodes) - 1;
    let some = u32::try_from(rng.range(1, u64::from(all) - 1)).unwrap();
    match rng.below(4) {
        0 => Fault::Partition { from: some, to: all, span },
        1 => Fault::Partition { from: all, to: 1 << rng.below(u64::from(nodes)), span },
        _ => Fault::Partition { from: some, to: all & !some, span },
    }
}

fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[usize::try_from(rng.below(of.len() as u64)).unwrap()]
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}
