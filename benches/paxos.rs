//! What consensus itself costs, without network and disk: the choice rule, and one `Accept` handled
//! by a follower and acknowledged to the leader. Values are empty, so that coding costs nothing.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use criterion::{Criterion, criterion_group, criterion_main};
use distkv::coding::Backend;
use distkv::config::{ClusterConfig, Member, Policy};
use distkv::paxos::{Message, Output, Paxos, RoleName, is_chosen};
use distkv::storage::Recovered;
use distkv::time::Instant;
use distkv::types::{Bytes, Code, NodeId, ShardSet};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: u8 = 5;
const BATCH: u64 = 64;

fn choice(criterion: &mut Criterion) {
    let single: Vec<ShardSet> = (0..NODES).map(ShardSet::one).collect();
    let mixed: Vec<ShardSet> =
        (0..NODES).map(|rank| ShardSet::one(rank).union(ShardSet::first(2))).collect();
    criterion.bench_function("choice/single shards, N = 5", |bencher| {
        bencher.iter(|| is_chosen(black_box(&single), 3, 3));
    });
    criterion.bench_function("choice/overlapping shards, N = 5", |bencher| {
        bencher.iter(|| is_chosen(black_box(&mixed), 3, 3));
    });
}

/// Five machines in memory whose records are durable at once.
struct Cluster {
    nodes: Vec<Paxos>,
    now: Instant,
}

impl Cluster {
    fn new() -> Self {
        let members = (0..NODES)
            .map(|id| Member {
                id: NodeId(id),
                address: ([127, 0, 0, 1], 9000 + u16::from(id)).into(),
            })
            .collect();
        let code = Code::new(3, 2).expect("3 + 2 is a code");
        let config = ClusterConfig::new(1, Policy::Craft, code, members);
        let config = Arc::new(config.expect("craft 3+2 on five nodes is safe"));
        let nodes = (0..NODES)
            .map(|id| {
                let recovered = Recovered::default();
                let (node, now) = (NodeId(id), Instant::ZERO);
                let config = Arc::clone(&config);
                Paxos::new(
                    config,
                    node,
                    Backend::default(),
                    (recovered, None),
                    now,
                    id.into(),
                    false,
                )
            })
            .collect();
        let mut cluster = Self { nodes, now: Instant::ZERO };
        while cluster.leader().is_none() {
            cluster.now = cluster.now + Duration::from_millis(10);
            for node in &mut cluster.nodes {
                node.handle_timeout(cluster.now);
            }
            cluster.settle();
        }
        cluster
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.role() == RoleName::Leader)
    }

    /// What a node wants to send; its records are durable at once.
    fn drain(&mut self, rank: usize) -> Vec<(u8, Message)> {
        let mut sent = Vec::new();
        while let Some(output) = self.nodes[rank].poll_output(self.now) {
            match output {
                Output::Send { to, message } => sent.push((to, message)),
                Output::Persist { ticket, .. } => {
                    self.nodes[rank].handle_persisted(self.now, ticket);
                }
                Output::ReadIndex { .. } => {}
                Output::Read { slot } => self.nodes[rank].handle_read(self.now, slot, None),
                Output::Trace(_) => {}
            }
        }
        while self.nodes[rank].poll_chosen().is_some() {}
        sent
    }

    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for rank in 0..self.nodes.len() {
                let from = u8::try_from(rank).expect("five nodes");
                for (to, message) in self.drain(rank) {
                    is_quiet = false;
                    self.nodes[usize::from(to)].handle_message(self.now, from, message);
                }
            }
            if is_quiet {
                return;
            }
        }
    }
}

fn accept(criterion: &mut Criterion) {
    let mut cluster = Cluster::new();
    let leader = cluster.leader().expect("elected above");
    let header = Bytes::from_static(b"a header of about forty bytes, as of puts");
    let mut side = |name: &str, pick: fn((Duration, Duration)) -> Duration| {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|count| pick(run(&mut cluster, leader, &header, count)));
        });
    };
    side("accept/a follower's share of one value, batches of 64", |(follower, _)| follower);
    side("accept/the leader's share of one value, batches of 64", |(_, leader)| leader);
}

/// Time of one follower and of the leader for `count` values, by batches.
fn run(cluster: &mut Cluster, leader: usize, header: &Bytes, count: u64) -> (Duration, Duration) {
    let (mut follower_time, mut leader_time) = (Duration::ZERO, Duration::ZERO);
    let mut left = count;
    while left > 0 {
        let now = cluster.now;
        let start = std::time::Instant::now();
        for _ in 0..left.min(BATCH) {
            cluster.nodes[leader].propose(now, header.clone(), &Bytes::new());
        }
        let sent = cluster.drain(leader);
        leader_time += start.elapsed();
        let mut replies = Vec::new();
        let from = u8::try_from(leader).expect("five nodes");
        for (index, (to, message)) in sent.into_iter().enumerate() {
            let start = std::time::Instant::now();
            cluster.nodes[usize::from(to)].handle_message(now, from, message);
            let answers = cluster.drain(usize::from(to));
            if index == 0 {
                follower_time += start.elapsed();
            }
            replies.extend(answers.into_iter().map(|(_, message)| (to, message)));
        }
        let start = std::time::Instant::now();
        for (from, message) in replies {
            cluster.nodes[leader].handle_message(now, from, message);
        }
        cluster.drain(leader);
        leader_time += start.elapsed();
        left -= left.min(BATCH);
    }
    (follower_time, leader_time)
}

criterion_group!(benches, choice, accept);
criterion_main!(benches);
