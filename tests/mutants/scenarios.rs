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

/// Machines lose power while their disks are slow: what was told before it was durable is lost.
pub fn power(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = pick(&mut rng, &[3_u8, 3, 3, 5]);
    let policy = pick(&mut rng, &[Policy::Replicate, Policy::Craft, Policy::RsPaxos]);
    let mut scenario = quick(&mut rng, nodes, policy);
    scenario.sync_time = Duration::from_millis(rng.range(5, 60));
    scenario.attempt_timeout = Duration::from_millis(100);
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 200;
    while at_ms < end_ms - 100 {
        let node = usize::try_from(rng.below(u64::from(nodes))).unwrap();
        let down = Duration::from_millis(rng.range(1, 40));
        let fault = match rng.below(8) {
            0 | 1 => Fault::PowerCutAll { down, is_aimed: true },
            2 => Fault::PowerCutAll { down, is_aimed: false },
            3 => Fault::Crash { node, down },
            4 | 5 => Fault::PowerCut { node, down },
            _ => split(&mut rng, nodes, down * 8),
        };
        scenario.faults.push((Duration::from_millis(at_ms), fault));
        at_ms += rng.range(5, 150);
    }
    scenario
}

/// As [`power`], with logs that forget all they may and no cache that would hide what is gone.
pub fn forgetful(seed: u64) -> Scenario {
    let mut scenario = power(seed);
    // Enough for segments to become empty and go.
    scenario.value_bytes_max = 6000;
    let limits = &mut scenario.cluster.limits;
    (limits.snapshot_slots, limits.kept_slots, limits.cache_bytes) = (16, 0, 0);
    scenario
}

/// Few keys, written again and again with large values, and nothing goes wrong: nearly all that was
/// written is garbage.
pub fn wasteful(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let policy = pick(&mut rng, &[Policy::Replicate, Policy::Craft]);
    let mut scenario = quick(&mut rng, 3, policy);
    (scenario.value_bytes_max, scenario.think_time) = (8000, Duration::from_millis(2));
    scenario.link.loss = 0.0;
    scenario.operations_per_client = 2000 / scenario.client_count;
    let limits = &mut scenario.cluster.limits;
    (limits.snapshot_slots, limits.kept_slots) = (8, 0);
    scenario
}

/// One node of three is cut off again and again while every key is written, and each time it is back
/// only a snapshot helps.
pub fn restored(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut scenario = wasteful(seed);
    scenario.key_count = 30;
    for at in 0..12 {
        let begin = Duration::from_millis(300 + at * 400 + rng.below(50));
        let span = Duration::from_millis(250);
        scenario.faults.push((begin, Fault::Partition { from: 0b100, to: 0b011, span }));
    }
    scenario.heal_at = Duration::from_millis(5500);
    scenario
}

/// The policy changes again and again between one that asks few for promises and one whose small
/// values a leader chooses alone, while nodes are cut off.
pub fn epochs(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut scenario = quick(&mut rng, 3, Policy::Replicate);
    scenario.attempt_timeout = Duration::from_millis(100);
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 250;
    let mut is_wide = false;
    while at_ms < end_ms - 300 {
        is_wide = !is_wide;
        let (policy, k, m) =
            if is_wide { (Policy::RsPaxos, 2, 1) } else { (Policy::Replicate, 1, 2) };
        let change = Fault::Operator(Admin::Policy { policy, k, m, hybrid_bytes: None });
        let node = rng.below(3);
        let span = Duration::from_millis(rng.range(60, 250));
        let cut = if rng.chance(0.7) {
            Fault::Partition { from: 1 << node, to: 7 & !(1 << node), span }
        } else {
            Fault::Crash { node: usize::try_from(node).unwrap(), down: span }
        };
        let cut_ms = at_ms + rng.below(60) - rng.below(30).min(20);
        scenario.faults.push((Duration::from_millis(at_ms), change));
        scenario.faults.push((Duration::from_millis(cut_ms), cut));
        at_ms += rng.range(100, 500);
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    scenario
}

/// Members come and go, one after the other, while nodes are cut off and lose power.
pub fn members(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let nodes = pick(&mut rng, &[3_u8, 3, 3, 4]);
    let policy = pick(&mut rng, &[Policy::Replicate, Policy::Craft]);
    let mut scenario = quick(&mut rng, nodes, policy);
    scenario.attempt_timeout = Duration::from_millis(100);
    let all = nodes + 3;
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 250;
    while at_ms < end_ms - 200 {
        let some = |rng: &mut Rng| usize::try_from(rng.below(u64::from(all))).unwrap();
        let (node, is_stopped) = (some(&mut rng), rng.chance(0.5));
        let change = match rng.below(10) {
            0..6 => Fault::ReplaceNode { node, is_lost: rng.chance(0.3), is_stopped },
            6 | 7 => Fault::AddNode {},
            _ => Fault::RemoveNode { node, is_stopped },
        };
        scenario.faults.push((Duration::from_millis(at_ms), change));
        for _ in 0..2 {
            let span = Duration::from_millis(rng.range(40, 250));
            let trouble = match rng.below(8) {
                0 => Fault::Crash { node: some(&mut rng), down: span },
                1 => Fault::PowerCut { node: some(&mut rng), down: span },
                _ => split(&mut rng, all, span),
            };
            let soon_ms = at_ms + rng.below(300);
            scenario.faults.push((Duration::from_millis(soon_ms), trouble));
        }
        at_ms += rng.range(100, 400);
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    scenario
}

/// Nodes without a disk (durability `memory`): who is started again has lost everything, and comes
/// under its old id. Writes are chosen with such a node while another is cut off; it forgets them,
/// and is alone with the one that never had them. At last a new machine takes its place.
pub fn amnesia(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut scenario = quick(&mut rng, 3, Policy::Replicate);
    scenario.cluster.durability = "memory".to_owned();
    scenario.attempt_timeout = Duration::from_millis(100);
    scenario.operations_per_client *= 2;
    scenario.heal_at = Duration::from_millis(3500);
    let [leader, forgets, absent] = shuffled(&mut rng);
    let transfer = Admin::Transfer { to: u8::try_from(leader).unwrap() };
    let alone = |node: usize, span_ms: u64| {
        let span = Duration::from_millis(span_ms);
        Fault::Partition { from: 1 << node, to: 7 & !(1 << node), span }
    };
    let down = Duration::from_millis(rng.range(1, 20));
    let lost_ms = rng.range(900, 1200);
    scenario.faults = [
        (300, Fault::Operator(transfer)),
        (600, alone(absent, lost_ms - 600)),
        (lost_ms, alone(leader, 1000)),
        (lost_ms, Fault::Crash { node: forgets, down }),
        (2500, Fault::ReplaceNode { node: forgets, is_lost: false, is_stopped: true }),
    ]
    .map(|(at_ms, fault)| (Duration::from_millis(at_ms), fault))
    .into();
    scenario
}

/// A node loses its data directory and starts again under its old id; nobody takes its place.
pub fn forgotten(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let policy = pick(&mut rng, &[Policy::Replicate, Policy::Craft]);
    let mut scenario = quick(&mut rng, 3, policy);
    let node = usize::try_from(rng.below(3)).unwrap();
    let down = Duration::from_millis(rng.range(1, 200));
    let fault = Fault::LoseDirectory { node, down, is_replaced: false };
    scenario.faults = vec![(Duration::from_millis(rng.range(800, 1500)), fault)];
    scenario
}

/// Leaders that stand still or are cut off, while some client has not noticed and asks them.
pub fn stale(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let (mut scenario, nodes) = idle(&mut rng);
    let all = (1_u32 << nodes) - 1;
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 400;
    while at_ms < end_ms - 500 {
        let node = rng.below(u64::from(nodes));
        let (at, span) = (Duration::from_millis(at_ms), Duration::from_millis(rng.range(300, 800)));
        let from = 1 << node;
        scenario.faults.push((at, Fault::Partition { from, to: all & !from, span: span * 2 }));
        if rng.chance(0.7) {
            let node = usize::try_from(node).unwrap();
            scenario.faults.push((at, Fault::Pause { node, span }));
        }
        at_ms += rng.range(500, 1500);
    }
    scenario
}

/// A leader that one node does not hear, while another one that granted it a lease starts anew.
pub fn restarts(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let (mut scenario, _) = idle(&mut rng);
    scenario.cluster = three(scenario.cluster);
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 400;
    while at_ms < end_ms - 500 {
        let [leader, granter, other] = shuffled(&mut rng);
        let deaf_ms = rng.range(350, 700);
        let deaf = Duration::from_millis(deaf_ms + 300);
        let at = Duration::from_millis(at_ms);
        let from = 1 << leader;
        // First one node does not hear the leader any more, then nobody does.
        let to = 1 << other | from;
        scenario.faults.push((at, Fault::Partition { from, to, span: deaf }));
        let at = Duration::from_millis(at_ms + deaf_ms);
        let span = Duration::from_millis(300);
        scenario.faults.push((at, Fault::Partition { from, to: 7 & !from, span }));
        let down = Duration::from_millis(rng.range(1, 10));
        scenario.faults.push((at, Fault::Crash { node: granter, down }));
        at_ms += deaf_ms + rng.range(400, 700);
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    scenario
}

/// Leadership is handed over, and who handed it over soon hears nobody.
pub fn handovers(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let (mut scenario, _) = idle(&mut rng);
    scenario.cluster = three(scenario.cluster);
    scenario.link.delay_ms = 2.0 + rng.unit() * 8.0;
    let end_ms = millis(scenario.heal_at);
    let mut at_ms = 400;
    while at_ms < end_ms - 400 {
        let [leader, heir, _] = shuffled(&mut rng);
        let to = u8::try_from(heir).unwrap();
        let at = Duration::from_millis(at_ms);
        scenario.faults.push((at, Fault::Operator(Admin::Transfer { to })));
        let at = Duration::from_millis(at_ms + rng.below(60));
        let span = Duration::from_millis(rng.range(100, 400));
        scenario.faults.push((at, Fault::Partition { from: 7, to: 1 << leader, span }));
        at_ms += rng.range(400, 700);
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
    scenario
}

/// One node hears nobody for most of the run, and is not the leader.
pub fn deaf_follower(seed: u64) -> Scenario {
    deaf(seed, 1)
}

/// The leader hears nobody for most of the run.
pub fn deaf_leader(seed: u64) -> Scenario {
    deaf(seed, 0)
}

fn deaf(seed: u64, node: u32) -> Scenario {
    let mut rng = Rng::new(seed);
    let (mut scenario, _) = idle(&mut rng);
    scenario.cluster = three(scenario.cluster);
    scenario.think_time = Duration::from_millis(40);
    scenario.operations_per_client = 160;
    scenario.faults = vec![
        (Duration::from_millis(600), Fault::Operator(Admin::Transfer { to: 0 })),
        (
            Duration::from_millis(1200),
            Fault::Partition { from: 7, to: 1 << node, span: Duration::from_secs(4) },
        ),
    ];
    scenario
}

/// Clients that think for long and soon ask elsewhere; leases as long as they can be. Compared to
/// those everything else is quick, so that what a lease forbids has time to happen.
fn idle(rng: &mut Rng) -> (Scenario, u8) {
    let nodes = pick(rng, &[3_u8, 3, 5]);
    let mut scenario = quick(rng, nodes, Policy::Replicate);
    let timing = &mut scenario.cluster.timing;
    (timing.election_ms, timing.lease_ms, timing.resend_ms) = (300, 300, 100);
    scenario.link.delay_ms = 0.2 + rng.unit() * 2.0;
    scenario.link.jitter_ms = 0.0;
    scenario.link.loss = 0.0;
    scenario.key_count = 2;
    scenario.client_count = 16;
    scenario.attempt_timeout = Duration::from_millis(rng.range(20, 80));
    scenario.think_time = Duration::from_millis(rng.range(100, 800));
    scenario.sync_time = Duration::from_micros(rng.range(50, 1000));
    scenario.heal_at = Duration::from_secs(5);
    let each_ms = millis(scenario.think_time) / 2 + 8;
    scenario.operations_per_client = millis(scenario.heal_at) / each_ms;
    (scenario, nodes)
}

/// The same with three nodes.
fn three(mut of: ClusterConfig) -> ClusterConfig {
    of.members.truncate(3);
    of.code = Code::new(1, 2).unwrap();
    of
}

/// The ranks of three nodes in any order.
fn shuffled(rng: &mut Rng) -> [usize; 3] {
    pick(rng, &[[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
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
        card_mbit: 0.0,
        ack_delay: Duration::from_millis(1),
        client_count,
        sessions_per_client: 1,
        uneven_sessions: 0,
        clocks: Vec::new(),
        key_count: rng.range(2, 5),
        value_bytes_max: 100,
        operations_per_client: 400 / client_count,
        attempt_timeout: Duration::from_millis(400),
        think_time: Duration::from_millis(rng.range(1, 20)),
        sync_time: Duration::from_micros(rng.range(50, 5000)),
        faults: Vec::new(),
        heal_at: Duration::from_millis(3000),
        missing: Vec::new(),
    }
}

fn cluster(nodes: u8, policy: Policy, code: Code) -> ClusterConfig {
    let members = (0..nodes)
        .map(|id| Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, id], 7000)) })
        .collect();
    let mut cluster = ClusterConfig::new(1, policy, code, members).unwrap();
    cluster.timing = Timing {
        heartbeat_ms: 15,
        commit_ms: 15,
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
