//! What a seed draws: the cluster, its load, its network, its clocks and its faults (a swarm).
//!
//! Each run first draws which kinds of faults it may have at all, so that some runs have much of a
//! few kinds: all kinds in every run would hide what needs many of one. Groce et al., Swarm Testing
//! (ISSTA'12).

use super::clock::ClockSetting;
use super::fault::{Act, Damage, Fault, Moment, Shape};
use super::scenario::{Scenario, address_of};
use super::stage::{Missing, Way};
use super::widen;
use crate::config::{ClusterConfig, Member, Policy, Timing};
use crate::kv::Admin;
use crate::netem::LinkConfig;
use crate::rng::Rng;
use crate::time::Duration;
use crate::types::{Code, NodeId};

/// The scenario of `seed`.
pub(super) fn scenario(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut cluster = draw_cluster(&mut rng);
    widen::cluster(seed, &mut cluster);
    let nodes = cluster.members.len() as u64;
    let client_count = rng.range(2, 5);
    let sessions_per_client = [1, 1, 4, 4][pick(&mut rng, 4)];
    if sessions_per_client > 1 {
        // Far fewer sessions than ask are evicted in turns and get nowhere: with one a client the
        // bound may be met, with several it is raised.
        let sessions = usize::try_from(client_count * sessions_per_client).unwrap_or(usize::MAX);
        cluster.limits.sessions = cluster.limits.sessions.max(sessions);
    }
    let heal_at = Duration::from_millis(rng.range(4000, 8000));
    let drift_ppm_max = drift_ppm_max(&cluster);
    let clocks = draw_clocks(&mut rng, nodes + NEWCOMERS, drift_ppm_max);
    let link = draw_link(&mut rng);
    let datagram_bytes = if rng.chance(0.5) { 1472 } else { 8160 };
    let kinds = draw_kinds(&mut rng, &cluster.durability);
    if kinds.contains(&Kind::Members) {
        // A newcomer gathers everything: slot by slot, over a lossy link, it would outlast any bound.
        cluster.limits.gathers = cluster.limits.gathers.max(4);
    }
    let newcomers = if kinds.contains(&Kind::Members) { NEWCOMERS } else { 0 };
    let mut swarm = Swarm {
        members: nodes,
        nodes: nodes + newcomers,
        drift_ppm_max,
        kinds,
        has_power_cuts: cluster.durability == "sync",
        rng: rng.fork(),
    };
    let mut faults = swarm.faults(heal_at);
    faults.sort_by_key(|(at, _)| *at);
    let mut scenario = Scenario {
        cluster,
        link,
        datagram_bytes,
        card_mbit: 0.0,
        ack_delay: Duration::from_millis(1),
        client_count,
        sessions_per_client,
        uneven_sessions: 0,
        key_count: rng.range(2, 12),
        value_bytes_max: [16, 300, 3000, 12_000][pick(&mut rng, 4)],
        operations_per_client: (rng.range(300, 900)).div_ceil(client_count),
        attempt_timeout: Duration::from_millis(400),
        think_time: Duration::from_micros(
            [rng.range(250, 2500), rng.range(250, 15_000)][pick(&mut rng, 2)],
        ),
        sync_time: Duration::from_micros(rng.range(50, 8000)),
        clocks,
        faults,
        heal_at,
        missing: Vec::new(),
    };
    draw_bounds(seed, &mut scenario);
    draw_lost_directories(seed, &mut scenario);
    draw_cards(seed, &mut scenario);
    draw_missing(seed, &mut scenario);
    draw_aimed(seed, &mut scenario);
    widen::scenario(seed, &mut scenario);
    scenario
}

/// Drawn from the seed on their own, so that the rest is what it would be without.
fn draw_bounds(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed ^ 0xB0_5EED);
    scenario.ack_delay = Duration::from_millis([1, 5, 25][pick(&mut rng, 3)]);
    scenario.cluster.limits.reading_bytes = [2000, 128 << 20, 128 << 20][pick(&mut rng, 3)];
}

/// Cards that are full now and then, in some runs.
fn draw_cards(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed ^ 0xCA_4D5);
    if rng.chance(0.15) {
        scenario.card_mbit = [5.0, 20.0, 100.0][pick(&mut rng, 3)];
    }
}

/// Faults aimed at moments, and clients that start again, in some runs. Drawn from the seed on their
/// own, so that the other runs are what they would be without.
fn draw_aimed(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed ^ 0xA1_3ED);
    let end_ms = u64::try_from(scenario.heal_at.as_millis()).unwrap_or(u64::MAX);
    let acts: &[Act] = match scenario.cluster.durability.as_str() {
        "sync" => &[Act::Crash, Act::PowerCut, Act::PowerCut, Act::Pause, Act::Isolate],
        "os" => &[Act::Crash, Act::Pause, Act::Isolate],
        _ => &[Act::Pause, Act::Isolate],
    };
    if rng.chance(0.4) {
        for _ in 0..rng.range(1, 6) {
            let moment = Moment::ALL[pick(&mut rng, Moment::ALL.len() as u64)];
            let act = acts[pick(&mut rng, acts.len() as u64)];
            let delay = Duration::from_micros(
                [0, 0, rng.below(5000), rng.below(60_000)][pick(&mut rng, 4)],
            );
            let span = Duration::from_millis(rng.range(5, 1800));
            let at = Duration::from_millis(rng.range(0, end_ms - 200));
            scenario.faults.push((at, Fault::Aimed { moment, act, delay, span }));
        }
    }
    if rng.chance(0.3) {
        for _ in 0..rng.range(1, 4) {
            let at = Duration::from_millis(rng.range(600, end_ms - 200));
            let client = pick(&mut rng, scenario.client_count);
            scenario.faults.push((at, Fault::ClientRestart { client }));
        }
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
}

/// Nodes that are missing after the faults: more than the cluster can do without, for the run to take
/// as many of as it can.
fn draw_missing(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed ^ 0x3_1551);
    let nodes = scenario.cluster.members.len() as u64;
    let draw = |rng: &mut Rng| {
        let way = Way::ALL[pick(rng, Way::ALL.len() as u64)];
        Missing { node: pick(rng, nodes), way }
    };
    scenario.missing = (0..nodes).map(|_| draw(&mut rng)).collect();
}

/// Nodes that lose their data directories, in some runs. Drawn from the seed on their own, so that the
/// other runs are what they would be without.
fn draw_lost_directories(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::new(seed ^ 0x10_57D1);
    let spare = u64::from(scenario.nodes_to_spare());
    if spare == 0 || !rng.chance(0.15) {
        return;
    }
    let end_ms = u64::try_from(scenario.heal_at.as_millis()).unwrap_or(u64::MAX);
    for _ in 0..rng.range(1, spare.min(2)) {
        // A node without its directory that is not replaced is the last one (docs/simulator.md).
        let is_replaced = rng.chance(0.7);
        let node = pick(&mut rng, scenario.cluster.members.len() as u64);
        let down = Duration::from_millis(rng.range(5, 1500));
        let at = Duration::from_millis(rng.range(600, end_ms - 200));
        scenario.faults.push((at, Fault::LoseDirectory { node, down, is_replaced }));
        if is_replaced {
            scenario.cluster.limits.gathers = scenario.cluster.limits.gathers.max(4);
        }
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
}

/// Kinds of faults that a run may have, as the swarm draws them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Crash,
    PowerCut,
    PowerCutAll,
    CrashPoint,
    DiskError,
    DiskFull,
    DiskLow,
    SlowDisk,
    Rot,
    Drift,
    Pause,
    Split,
    Shape,
    Clog,
    Policy,
    Transfer,
    Members,
}

impl Kind {
    const ALL: [Self; 17] = [
        Self::Crash,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::CrashPoint,
        Self::DiskError,
        Self::DiskFull,
        Self::DiskLow,
        Self::SlowDisk,
        Self::Rot,
        Self::Drift,
        Self::Pause,
        Self::Split,
        Self::Shape,
        Self::Clog,
        Self::Policy,
        Self::Transfer,
        Self::Members,
    ];

    /// Can a node come back from it with this durability? After the loss of unsynced data it is not
    /// the same node (rule 12), and a run without its nodes could not end.
    fn is_survived(self, durability: &str) -> bool {
        match self {
            Self::PowerCut | Self::PowerCutAll => durability == "sync",
            Self::Crash | Self::CrashPoint | Self::DiskError | Self::DiskFull | Self::Rot => {
                durability != "memory"
            }
            Self::DiskLow
            | Self::SlowDisk
            | Self::Drift
            | Self::Pause
            | Self::Split
            | Self::Shape
            | Self::Clog
            | Self::Policy
            | Self::Transfer
            | Self::Members => true,
        }
    }
}

fn draw_kinds(rng: &mut Rng, durability: &str) -> Vec<Kind> {
    let density = 0.2 + 0.6 * rng.unit();
    let possible = Kind::ALL.into_iter().filter(|kind| kind.is_survived(durability));
    let drawn: Vec<(Kind, bool)> = possible.map(|kind| (kind, rng.chance(density))).collect();
    let last_resort = drawn[pick(rng, drawn.len() as u64)].0;
    let mut kinds: Vec<Kind> =
        drawn.into_iter().filter(|(_, is_on)| *is_on).map(|(kind, _)| kind).collect();
    if kinds.is_empty() {
        kinds.push(last_resort);
    }
    kinds
}

pub(super) fn pick(rng: &mut Rng, count: u64) -> usize {
    usize::try_from(rng.below(count)).unwrap_or(0)
}

fn draw_cluster(rng: &mut Rng) -> ClusterConfig {
    let nodes = [3, 3, 4, 5, 5, 5, 6, 7][pick(rng, 8)];
    let (policy, code) = draw_policy(rng, nodes);
    let members = (0..nodes)
        .map(|id| Member { id: NodeId(id), address: address_of(usize::from(id)) })
        .collect();
    let hybrid_bytes = [0, 200, 5000][pick(rng, 3)];
    let mut cluster = ClusterConfig::new(1, policy, code, members)
        .expect("every policy was drawn with a k that it can do");
    // The second takes 0.2 ms to decode whatever the size: a few runs suffice.
    let backends = ["rusty-erasure", "reed-solomon-erasure", "reed-solomon-simd"];
    cluster.backend = backends[[0, 0, 0, 0, 0, 1, 1, 1, 1, 2][pick(rng, 10)]].to_owned();
    cluster.durability =
        ["sync", "sync", "sync", "sync", "sync", "sync", "sync", "sync", "os", "memory"]
            [pick(rng, 10)]
        .to_owned();
    cluster.hybrid_bytes = hybrid_bytes;
    let limits = &mut cluster.limits;
    limits.page_bytes = [300, 4096, 1 << 20][pick(rng, 3)];
    limits.in_flight_slots = [2, 16, 1024][pick(rng, 3)];
    limits.gathers = [1, 4, 32][pick(rng, 3)];
    limits.cache_bytes = [0, 8192, 16 << 20][pick(rng, 3)];
    limits.accept_ahead_slots = [16, 256, 16_384][pick(rng, 3)];
    limits.sessions = [2, 64, 4096][pick(rng, 3)];
    limits.snapshot_slots = [8, 40, 100_000][pick(rng, 3)];
    limits.garbage_bytes = [2000, 20_000, 64 << 20][pick(rng, 3)];
    limits.kept_slots = [0, 10, 4096][pick(rng, 3)];
    limits.repair_bytes_per_second = [20_000, 32 << 20][pick(rng, 2)];
    limits.scrub_bytes_per_second = [0, 10_000, 1 << 20][pick(rng, 3)];
    cluster.timing = Timing {
        heartbeat_ms: 50,
        commit_ms: [1, 50][pick(rng, 2)],
        election_ms: 400,
        resend_ms: 250,
        lease_ms: [0, 120, 300, 400][pick(rng, 4)],
        clock_drift: [0.01, 0.01, 0.05, 0.2][pick(rng, 4)],
    };
    cluster
}

/// Any policy, with a code that it can have in a cluster of `nodes`.
pub(super) fn draw_policy(rng: &mut Rng, nodes: u8) -> (Policy, Code) {
    let policy = Policy::ALL[pick(rng, 5)];
    let largest = u64::from(policy.default_k(u32::from(nodes)));
    let k = match policy {
        Policy::Replicate | Policy::Crossword => largest,
        Policy::RsPaxos => rng.range(1, u64::from(nodes)),
        Policy::Craft | Policy::Hybrid => rng.range(1, largest),
    };
    let k = u8::try_from(k).unwrap_or(1);
    (policy, Code::new(k, nodes - k).expect("k was drawn from 1 to N"))
}

/// So that no clock runs faster than another by more than the cluster allows for: half of it to
/// each side, a little less because the bound is on their quotient.
fn drift_ppm_max(cluster: &ClusterConfig) -> u64 {
    let millionths = cluster.timing.clock_drift * 1e6;
    [10_000_u64, 50_000, 200_000]
        .into_iter()
        .find(|bound| (*bound as f64 - millionths).abs() < 1.0)
        .unwrap_or(0)
        * 49
        / 100
}

fn draw_clocks(rng: &mut Rng, nodes: u64, drift_ppm_max: u64) -> Vec<ClockSetting> {
    if rng.chance(0.3) {
        return Vec::new();
    }
    let clock = |rng: &mut Rng| ClockSetting {
        offset_ms: [0, rng.below(2000), rng.below(1 << 40)][pick(rng, 3)],
        drift_ppm: draw_drift(rng, drift_ppm_max),
    };
    (0..nodes).map(|_| clock(rng)).collect()
}

fn draw_drift(rng: &mut Rng, drift_ppm_max: u64) -> i64 {
    // The ends are where it hurts.
    let size = if rng.chance(0.4) { drift_ppm_max } else { rng.range(0, drift_ppm_max) };
    let size = i64::try_from(size).unwrap_or(0);
    if rng.chance(0.5) { size } else { -size }
}

fn draw_link(rng: &mut Rng) -> LinkConfig {
    let mut link = LinkConfig { delay_ms: rng.unit() * 3.0, ..LinkConfig::default() };
    link.jitter_ms = link.delay_ms * rng.unit();
    if rng.chance(0.7) {
        link.loss = rng.unit() * rng.unit() * 0.3;
    }
    if rng.chance(0.15) {
        link.burst_enter = rng.unit() * 0.02;
        link.burst_exit = 0.05 + rng.unit() * 0.3;
        link.burst_loss = 0.5 + rng.unit() * 0.5;
    }
    if rng.chance(0.4) {
        link.duplicate = rng.unit() * 0.1;
    }
    if rng.chance(0.4) {
        link.reorder = rng.unit() * 0.1;
        link.reorder_ms = rng.unit() * 20.0;
    }
    if rng.chance(0.2) {
        link.corrupt = rng.unit() * 0.02;
    }
    link
}

/// Machines that may come in the course of a run.
const NEWCOMERS: u64 = 3;

/// Draws the faults of one run.
struct Swarm {
    /// Of the cluster file.
    members: u64,
    /// With those who may come.
    nodes: u64,
    drift_ppm_max: u64,
    /// What may be drawn.
    kinds: Vec<Kind>,
    /// Machines may lose their power.
    has_power_cuts: bool,
    rng: Rng,
}

impl Swarm {
    fn faults(&mut self, heal_at: Duration) -> Vec<(Duration, Fault)> {
        let count = self.rng.range(6, 16);
        let end_ms = u64::try_from(heal_at.as_millis()).unwrap_or(u64::MAX);
        let mut faults = Vec::new();
        for _ in 0..count {
            let at = Duration::from_millis(self.rng.range(600, end_ms - 200));
            let fault = self.fault();
            // Some faults come in company: a second one shortly after, while the first still acts.
            if self.rng.chance(0.2) {
                let soon = at + Duration::from_millis(self.rng.below(120));
                faults.push((soon, self.fault()));
            }
            faults.push((at, fault));
        }
        faults
    }

    fn fault(&mut self) -> Fault {
        let rng = &mut self.rng;
        let kind = self.kinds[pick(rng, self.kinds.len() as u64)];
        let span = Duration::from_millis(rng.range(5, 1800));
        let node = pick(rng, self.nodes);
        match kind {
            Kind::Crash => Fault::Crash { node, down: span },
            Kind::PowerCut => Fault::PowerCut { node, down: span },
            Kind::PowerCutAll => Fault::PowerCutAll { down: span / 4, is_aimed: rng.chance(0.8) },
            Kind::CrashPoint => {
                let is_at_start = rng.chance(0.4);
                let after = rng.below(if is_at_start { 24 } else { 60 });
                let is_power_cut = self.has_power_cuts && rng.chance(0.6);
                Fault::CrashPoint { node, after, is_at_start, is_power_cut, down: span / 2 }
            }
            Kind::DiskError => Fault::DiskError { node, after: rng.below(60), down: span / 2 },
            Kind::DiskFull => Fault::DiskFull { node, free_bytes: rng.below(300 << 10), span },
            Kind::DiskLow => Fault::DiskLow { node, span },
            Kind::SlowDisk => {
                Fault::SlowDisk { node, extra: Duration::from_millis(rng.range(5, 400)), span }
            }
            Kind::Rot => {
                let damage = Damage::ALL[[0, 0, 1, 1, 2, 2, 3][pick(rng, 7)]];
                let is_restarted = rng.chance(0.5);
                Fault::Rot { node, damage, is_restarted, seed: rng.below(1 << 40) }
            }
            Kind::Drift => {
                Fault::Drift { node, drift_ppm: draw_drift(rng, self.drift_ppm_max), span }
            }
            Kind::Pause => Fault::Pause { node, span },
            Kind::Split => self.split(span),
            Kind::Shape => {
                let node = (!rng.chance(0.4)).then_some(node);
                let flap = [0, 0, rng.range(20, 400)][pick(rng, 3)];
                let shape = Shape::ALL[pick(rng, Shape::ALL.len() as u64)];
                Fault::Shape { shape, node, flap: Duration::from_millis(flap), span }
            }
            Kind::Clog => {
                let (from, to) = (self.some_nodes(), self.some_nodes());
                let rate_kbit = [8, 64, 1000][pick(&mut self.rng, 3)];
                Fault::Clog { from, to, rate_kbit, span }
            }
            Kind::Policy => {
                let (policy, code) = draw_policy(rng, u8::try_from(self.members).unwrap_or(1));
                let hybrid_bytes = Some([0, 200, 5000][pick(rng, 3)]);
                Fault::Operator(Admin::Policy { policy, k: code.k(), m: code.m(), hybrid_bytes })
            }
            Kind::Transfer => {
                Fault::Operator(Admin::Transfer { to: u8::try_from(node).unwrap_or(0) })
            }
            Kind::Members => self.member_change(node),
        }
    }

    fn member_change(&mut self, node: usize) -> Fault {
        let rng = &mut self.rng;
        let is_stopped = rng.chance(0.5);
        match rng.below(10) {
            0..5 => Fault::ReplaceNode { node, is_lost: rng.chance(0.4), is_stopped },
            5..7 => Fault::AddNode {},
            7..9 => Fault::RemoveNode { node, is_stopped },
            _ => Fault::CancelChange {},
        }
    }

    fn some_nodes(&mut self) -> u32 {
        let all = (1_u64 << self.nodes) - 1;
        u32::try_from(self.rng.range(1, all)).unwrap_or(1)
    }

    fn split(&mut self, span: Duration) -> Fault {
        let all = u32::try_from((1_u64 << self.nodes) - 1).unwrap_or(u32::MAX);
        let some = self.rng.range(1, u64::from(all).saturating_sub(1).max(1));
        let some = u32::try_from(some).unwrap_or(1);
        match self.rng.below(3) {
            // Two sides: cut both ways when `from` and `to` have no node in common.
            0 => Fault::Partition { from: some, to: all & !some, span },
            // One way only.
            1 => Fault::Partition { from: some, to: all, span },
            // One node hears nobody.
            _ => Fault::Partition { from: all, to: 1 << self.rng.below(self.nodes), span },
        }
    }
}
