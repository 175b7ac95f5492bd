//! What a seed draws: the cluster, its load, its network and its faults.

use crate::config::{ClusterConfig, Member, Policy, Timing};
use crate::kv::Admin;
use crate::netem::LinkConfig;
use crate::rng::Rng;
use crate::time::Duration;
use crate::types::{Code, NodeId};
use std::fmt;
use std::net::SocketAddr;

/// A bug put in on purpose, to show that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// Records count as durable when they are written, before the sync.
    AckBeforeSync,
}

/// One run, fully determined.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The cluster, with small limits so that paging, windows and eviction happen.
    pub cluster: ClusterConfig,
    /// Every link, clients' included.
    pub link: LinkConfig,
    /// UDP payload at most.
    pub datagram_bytes: usize,
    /// Clients, one session each.
    pub client_count: u64,
    /// Keys in use.
    pub key_count: u64,
    /// Longest value.
    pub value_bytes_max: u64,
    /// Operations per client before the final reads.
    pub operations_per_client: u64,
    /// How long a client waits for an answer before it asks another node.
    pub attempt_timeout: Duration,
    /// Longest pause of a client between operations.
    pub think_time: Duration,
    /// Longest sync of a node's disk.
    pub sync_time: Duration,
    /// When each fault begins, and what it is; ascending.
    pub faults: Vec<(Duration, Fault)>,
    /// When all faults end.
    pub heal_at: Duration,
}

/// A fault and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; what it wrote stays with the operating system.
    Crash {
        /// Rank.
        node: usize,
        /// Time until it starts again.
        down: Duration,
    },
    /// The machine loses power: unsynced writes are lost or torn.
    PowerCut {
        /// Rank.
        node: usize,
        /// Time until it starts again.
        down: Duration,
    },
    /// All machines lose power at once.
    PowerCutAll {
        /// Time until they start again.
        down: Duration,
        /// Not now, but when the next write is acknowledged to its client: when it would hurt.
        is_aimed: bool,
    },
    /// The process stands still; its messages wait.
    Pause {
        /// Rank.
        node: usize,
        /// For so long.
        span: Duration,
    },
    /// The disk is nearly full: new values are refused, everything else goes on.
    DiskLow {
        /// Rank.
        node: usize,
        /// For so long.
        span: Duration,
    },
    /// Nothing passes from the nodes of `from` to those of `to` (bit sets of ranks).
    Partition {
        /// Senders.
        from: u32,
        /// Receivers.
        to: u32,
        /// For so long.
        span: Duration,
    },
    /// No fault, but as well a change under way: the operator asks for something.
    Operator(Admin),
}

impl Fault {
    /// Its kind, for totals.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::PowerCut { .. } => "power cut",
            Self::PowerCutAll { .. } => "power cut of all",
            Self::Pause { .. } => "pause",
            Self::DiskLow { .. } => "disk low",
            Self::Partition { .. } => "partition",
            Self::Operator(Admin::Policy { .. }) => "policy change",
            Self::Operator(Admin::Transfer { .. }) => "leadership transfer",
        }
    }
}

impl Scenario {
    /// The scenario of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let cluster = draw_cluster(&mut rng);
        let nodes = cluster.members.len() as u64;
        let client_count = rng.range(2, 5);
        let heal_at = Duration::from_millis(rng.range(4000, 8000));
        let mut faults = draw_faults(&mut rng, nodes, heal_at);
        faults.sort_by_key(|(at, _)| *at);
        Self {
            cluster,
            link: draw_link(&mut rng),
            datagram_bytes: if rng.chance(0.5) { 1472 } else { 8160 },
            client_count,
            key_count: rng.range(2, 8),
            value_bytes_max: [16, 300, 3000, 12_000][pick(&mut rng, 4)],
            operations_per_client: (rng.range(220, 320)).div_ceil(client_count),
            attempt_timeout: Duration::from_millis(400),
            think_time: Duration::from_millis(rng.range(1, 60)),
            sync_time: Duration::from_micros(rng.range(50, 8000)),
            faults,
            heal_at,
        }
    }
}

fn pick(rng: &mut Rng, count: u64) -> usize {
    usize::try_from(rng.below(count)).unwrap_or(0)
}

fn draw_cluster(rng: &mut Rng) -> ClusterConfig {
    let nodes = [3, 3, 4, 5, 5, 5, 6, 7][pick(rng, 8)];
    let (policy, code) = draw_policy(rng, nodes);
    let members = (0..nodes)
        .map(|id| Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, id], 7000)) })
        .collect();
    let hybrid_bytes = [0, 200, 5000][pick(rng, 3)];
    let mut cluster = ClusterConfig::new(1, policy, code, members)
        .expect("every policy was drawn with a k that it can do");
    cluster.backend =
        ["reed-solomon-erasure", "reed-solomon-simd", "rusty-erasure"][pick(rng, 3)].to_owned();
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
    cluster.timing =
        Timing { heartbeat_ms: 50, election_ms: 400, resend_ms: 250, ..Timing::default() };
    cluster
}

/// Any policy, with a code that it can have in a cluster of `nodes`.
fn draw_policy(rng: &mut Rng, nodes: u8) -> (Policy, Code) {
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

fn draw_link(rng: &mut Rng) -> LinkConfig {
    let mut link = LinkConfig { delay_ms: rng.unit() * 3.0, ..LinkConfig::default() };
    link.jitter_ms = link.delay_ms * rng.unit();
    if rng.chance(0.7) {
        link.loss = rng.unit() * rng.unit() * 0.3;
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

fn draw_faults(rng: &mut Rng, nodes: u64, heal_at: Duration) -> Vec<(Duration, Fault)> {
    let count = rng.range(5, 12);
    let end_ms = u64::try_from(heal_at.as_millis()).unwrap_or(u64::MAX);
    (0..count)
        .map(|_| {
            let at = Duration::from_millis(rng.range(600, end_ms - 200));
            let span = Duration::from_millis(rng.range(5, 1800));
            let node = usize::try_from(rng.below(nodes)).unwrap_or(0);
            let fault = match rng.below(13) {
                0 | 1 => Fault::Crash { node, down: span },
                2 | 3 => Fault::PowerCut { node, down: span },
                4 | 5 => Fault::PowerCutAll { down: span / 4, is_aimed: rng.chance(0.6) },
                6 => Fault::Pause { node, span },
                7 => Fault::DiskLow { node, span },
                8 => Fault::Operator(draw_change(rng, nodes)),
                9 => {
                    let to = u8::try_from(node).unwrap_or(0);
                    Fault::Operator(Admin::Transfer { to })
                }
                _ => draw_partition(rng, nodes, span),
            };
            (at, fault)
        })
        .collect()
}

fn draw_change(rng: &mut Rng, nodes: u64) -> Admin {
    let (policy, code) = draw_policy(rng, u8::try_from(nodes).unwrap_or(1));
    let hybrid_bytes = Some([0, 200, 5000][pick(rng, 3)]);
    Admin::Policy { policy, k: code.k(), m: code.m(), hybrid_bytes }
}

fn draw_partition(rng: &mut Rng, nodes: u64, span: Duration) -> Fault {
    let all = u32::try_from((1_u64 << nodes) - 1).unwrap_or(u32::MAX);
    let some = u32::try_from(rng.range(1, u64::from(all) - 1)).unwrap_or(1);
    match rng.below(3) {
        // Two sides; the caller cuts both directions when `from` and `to` are complements.
        0 => Fault::Partition { from: some, to: all & !some, span },
        // One way only.
        1 => Fault::Partition { from: some, to: all, span },
        // One node hears nobody.
        _ => Fault::Partition { from: all, to: 1 << rng.below(nodes), span },
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = &self.cluster;
        writeln!(
            f,
            "{} nodes, {} {}, backend {}, {} clients x {} operations on {} keys, values up to {} B",
            cluster.members.len(),
            cluster.policy,
            cluster.code,
            cluster.backend,
            self.client_count,
            self.operations_per_client,
            self.key_count,
            self.value_bytes_max
        )?;
        writeln!(f, "limits {:?}", cluster.limits)?;
        writeln!(f, "link {:?}, datagrams of {} B", self.link, self.datagram_bytes)?;
        writeln!(f, "think {:?}, sync up to {:?}", self.think_time, self.sync_time)?;
        for (at, fault) in &self.faults {
            writeln!(f, "{:>8.3} s  {fault:?}", at.as_secs_f64())?;
        }
        write!(f, "{:>8.3} s  all faults end", self.heal_at.as_secs_f64())
    }
}
