//! Real processes under load and faults: killed, paused, cut off, out of space. What every client saw
//! is checked.
//!
//! Each policy goes through the same rounds, some chosen from a seed. Every wait has an end, every
//! process dies with its cluster, and a history that is refuted is kept in cargo's own tmp folder.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::wildcard_enum_match_arm,
    missing_docs
)]

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/load.rs"]
mod load;

use disk::{RESERVE_BYTES, SmallDisk};
use distkv::client::Client;
use distkv::config::{ClusterConfig, Policy};
use distkv::history::{Line, LineOp, LineOutcome, Recorded};
use distkv::kv::{NodeStatus, Outcome, Refusal, Role};
use distkv::node::control::{Direction, NetemCommand};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::node::tables::allow_netem_control;
use distkv::replica::client_machine::ClientOutcome;
use distkv::rng::Rng;
use distkv::types::{Code, NodeId, ReadMode};
use load::{Loader, PROGRESS_LIMIT};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_distkv");
const NODES: u8 = 5;
const LOADERS: u64 = 2;
/// Answers that count as progress.
const PROGRESS: u64 = 60;

fn start(dir: &Path, policy: Policy, k: u8) -> LocalCluster {
    let members = loopback_members(NODES, None).unwrap();
    let code = Code::new(k, NODES - k).unwrap();
    let mut config = ClusterConfig::new(0xFA17, policy, code, members).unwrap();
    allow_netem_control(&mut config);
    // Some values short enough for copies, some divided.
    config.hybrid_bytes = 1000;
    // All nodes share the disk: two segments each must fit into what is left when it is full.
    let storage = [("reserve_bytes", RESERVE_BYTES), ("segment_bytes", 1 << 20)];
    let storage = storage.map(|(key, bytes)| (key.to_owned(), toml::Value::Integer(bytes as i64)));
    let storage = toml::Table::from_iter(storage);
    config.tables.insert("storage".to_owned(), toml::Value::Table(storage));
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    cluster
}

/// What breaks the cluster, from the test's own thread: nodes die with the thread that started them.
struct Breaker<'a> {
    cluster: LocalCluster,
    disk: Option<&'a SmallDisk>,
    client: Client,
    /// Its own operations, which the other clients' scans see.
    probe: Loader<'a>,
    rng: Rng,
    answered: &'a AtomicU64,
}

impl Breaker<'_> {
    fn statuses(&mut self) -> Vec<NodeStatus> {
        let statuses = self.client.statuses().unwrap();
        statuses.into_iter().filter_map(|(_, status)| status).collect()
    }

    fn leading(&mut self) -> Option<NodeStatus> {
        let leaders = self.statuses().into_iter().filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.ballot)
    }

    fn leader(&mut self) -> NodeId {
        self.leading().map_or(NodeId(0), |status| NodeId(status.node))
    }

    /// `count` nodes after `node`.
    fn after(node: NodeId, count: u8) -> Vec<u8> {
        (1..=count).map(|step| (node.0 + step) % NODES).collect()
    }

    fn pause(low_ms: u64, rng: &mut Rng) {
        std::thread::sleep(Duration::from_millis(rng.range(low_ms, low_ms * 3 / 2)));
    }

    fn change(&mut self, node: NodeId, command: &NetemCommand) {
        self.client.change_netem(node, command).unwrap();
    }

    /// Heals everything, starts who is down, and waits until operations are answered.
    fn mend(&mut self, what: &str) {
        for node in self.cluster.nodes() {
            if self.cluster.pid(node).is_none() {
                self.cluster.start_node(node).unwrap();
            }
        }
        let clear = NetemCommand {
            heal: Some(Vec::new()),
            loss: Some(0.0),
            delay_ms: Some(0.0),
            jitter_ms: Some(0.0),
            ..NetemCommand::default()
        };
        let deadline = Instant::now() + PROGRESS_LIMIT;
        for node in self.cluster.nodes() {
            while let Err(error) = self.client.change_netem(node, &clear) {
                // A node that ended by itself says more than one that does not answer.
                self.cluster.check().unwrap();
                assert!(Instant::now() < deadline, "{what}: {error}");
            }
        }
        let from = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) < from + PROGRESS {
            assert!(Instant::now() < deadline, "{what}: nothing goes on after it is mended");
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that ended by itself, by an assertion for one, ends the test here.
        self.cluster.check().unwrap();
    }

    /// While the fault lasts: without `old`, and with so many nodes that can speak to each other,
    /// another one leads and operations are answered, where the policy can do with so few.
    fn goes_on_without(&mut self, old: NodeId, alive: u8, what: &str) {
        let quorums = self.cluster.cluster().epoch().quorums();
        if u32::from(alive) < quorums.prepare {
            return;
        }
        let deadline = Instant::now() + PROGRESS_LIMIT;
        while self.leading().is_none_or(|now| now.node == old.0) {
            assert!(Instant::now() < deadline, "{what}: nobody else leads meanwhile");
        }
        self.goes_on(alive, what);
    }

    /// While the fault lasts operations are answered, if the policy can do with a leader that reaches
    /// so many nodes, itself among them.
    fn goes_on(&mut self, reached: u8, what: &str) {
        if u32::from(reached) < self.cluster.cluster().epoch().quorums().prepare {
            return;
        }
        let deadline = Instant::now() + PROGRESS_LIMIT;
        let from = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) < from + PROGRESS {
            assert!(Instant::now() < deadline, "{what}: nothing goes on meanwhile");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn rounds(&mut self) {
        let leader = self.leader();
        self.cluster.kill(leader).unwrap();
        Self::pause(900, &mut self.rng);
        self.goes_on_without(leader, 4, "the leader is killed");
        self.mend("the leader is killed");

        let leader = self.leader();
        self.cluster.signal(leader, Signal::STOP).unwrap();
        Self::pause(1200, &mut self.rng);
        self.goes_on_without(leader, 4, "the leader is paused");
        self.cluster.signal(leader, Signal::CONT).unwrap();
        self.mend("the leader is paused");

        let leader = self.leader();
        let cut = NetemCommand { cut: Self::after(leader, 3), ..NetemCommand::default() };
        self.change(leader, &cut);
        Self::pause(1200, &mut self.rng);
        self.goes_on_without(leader, 3, "the leader is cut off with one other node");
        self.mend("the leader is cut off with one other node");

        let leader = self.leader();
        let direction = if self.rng.chance(0.5) { Direction::In } else { Direction::Out };
        let cut = NetemCommand { cut: Self::after(leader, 4), direction, ..Default::default() };
        self.change(leader, &cut);
        Self::pause(1000, &mut self.rng);
        self.goes_on_without(leader, 4, "the leader is cut off one way");
        self.mend("the leader is cut off one way");

        let leader = self.leader();
        for node in self.cluster.nodes() {
            let lossy = NetemCommand {
                loss: Some(0.15),
                delay_ms: Some(4.0),
                jitter_ms: Some(3.0),
                ..NetemCommand::default()
            };
            self.change(node, &lossy);
        }
        let victim = NodeId((leader.0 + 1) % NODES);
        self.cluster.kill(victim).unwrap();
        Self::pause(1000, &mut self.rng);
        self.mend("a node is killed on a lossy network");

        let leader = self.leader();
        let paused = NodeId((leader.0 + 2) % NODES);
        self.cluster.signal(paused, Signal::STOP).unwrap();
        self.cluster.kill(leader).unwrap();
        Self::pause(900, &mut self.rng);
        self.goes_on_without(leader, 3, "a leader is killed while another node sleeps");
        self.cluster.start_node(leader).unwrap();
        self.cluster.signal(paused, Signal::CONT).unwrap();
        self.mend("a leader is killed while another node sleeps");

        self.part_in_shapes();

        if let Some(disk) = self.disk {
            self.fill(disk);
        }

        for node in self.cluster.nodes() {
            self.cluster.kill(node).unwrap();
        }
        self.mend("all are killed");
    }

    /// Links are missing, and no two sides are apart.
    fn part_in_shapes(&mut self) {
        let cut = |nodes: Vec<u8>| NetemCommand { cut: nodes, ..NetemCommand::default() };
        for node in self.cluster.nodes() {
            let others = Self::after(node, 3).split_off(1);
            self.change(node, &cut(others));
        }
        Self::pause(1200, &mut self.rng);
        self.goes_on(3, "each node has its two neighbours");
        self.mend("each node has its two neighbours");

        let leader = self.leader();
        let lonely = NodeId((leader.0 + 1) % NODES);
        self.change(lonely, &cut(Self::after(lonely, 3)));
        Self::pause(1000, &mut self.rng);
        self.goes_on(4, "a node has the leader alone");
        self.mend("a node has the leader alone");

        let leader = self.leader();
        for _ in 0..6 {
            self.change(leader, &cut(Self::after(leader, 3)));
            Self::pause(100, &mut self.rng);
            let heal = NetemCommand { heal: Some(Vec::new()), ..NetemCommand::default() };
            self.change(leader, &heal);
            Self::pause(100, &mut self.rng);
        }
        self.mend("links of the leader come and go");
    }

    /// Asks until the answer is as wanted.
    fn ask(
        &mut self,
        what: &str,
        (op, key): (LineOp, &str),
        is_wanted: impl Fn(&ClientOutcome) -> bool,
    ) -> ClientOutcome {
        let deadline = Instant::now() + PROGRESS_LIMIT;
        loop {
            let outcome = self.probe.ask(key, op);
            if is_wanted(&outcome) {
                return outcome;
            }
            // A node that ended by itself says more.
            self.cluster.check().unwrap();
            assert!(Instant::now() < deadline, "{what}: {op} of '{key}' ends with {outcome:?}");
        }
    }

    /// All disks are full: puts are refused, deletes and elections go on.
    fn fill(&mut self, disk: &SmallDisk) {
        self.ask("before the disk is full", (LineOp::Put, "spare"), is_done);
        disk.while_full(|| self.work_without_room(disk));
        self.mend("the leader is killed while all disks are full");
    }

    fn work_without_room(&mut self, disk: &SmallDisk) {
        let (put, get, delete) = (LineOp::Put, LineOp::Get, LineOp::Delete);
        let what = "the disk is full";
        self.ask(what, (put, "more"), is_refused_for_space);
        self.ask(what, (delete, "spare"), is_done);
        let gone = self.ask(what, (get, "spare"), is_done);
        assert_eq!(gone, ClientOutcome::Done(Outcome::NotFound), "it was deleted");

        let leader = self.leader();
        self.cluster.kill(leader).unwrap();
        let deadline = Instant::now() + PROGRESS_LIMIT;
        while self.leading().is_none_or(|now| now.node == leader.0) {
            assert!(Instant::now() < deadline, "nobody leads while all disks are full");
        }
        let what = "another one leads while the disk is full";
        self.ask(what, (put, "more"), is_refused_for_space);
        self.ask(what, (delete, "more"), is_done);
        loop {
            let statuses = self.statuses();
            let full = statuses.iter().filter(|status| status.disk_full).count();
            if full == usize::from(NODES) - 1 {
                break;
            }
            self.cluster.check().unwrap();
            assert!(Instant::now() < deadline, "{full} of {} say so", statuses.len());
        }
        assert!(disk.free_bytes() < RESERVE_BYTES, "the disk stayed full");
    }

    /// All nodes come to the same state, and stop when asked.
    fn settle(&mut self) {
        let deadline = Instant::now() + PROGRESS_LIMIT;
        loop {
            let reports = self.cluster.reports().unwrap();
            let of = |report: &distkv::node::NodeReport| {
                (report.digest_slot, report.state_digest.clone())
            };
            let mut states: Vec<_> = reports.values().map(of).collect();
            states.dedup();
            if states.len() == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "nodes stay apart: {states:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(self.cluster.stop().is_empty(), "a clean stop is quick");
    }
}

fn is_done(outcome: &ClientOutcome) -> bool {
    matches!(outcome, ClientOutcome::Done(_))
}

/// In time, too: what takes longer than an operation may ends unknown.
fn is_refused_for_space(outcome: &ClientOutcome) -> bool {
    *outcome == ClientOutcome::Failed(Refusal::DiskFull)
}

fn survive(policy: Policy, k: u8) {
    let disk = SmallDisk::mount();
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(disk.as_ref().map_or(dir.path(), SmallDisk::path), policy, k);
    let config = Arc::clone(cluster.cluster());
    let (answered, stop, origin) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let client = Client::new(&config, Duration::from_secs(2)).unwrap();
    let rng = Rng::new(u64::from(k) + policy as u64);
    let probe = Loader::new(&config, LOADERS + 1, origin, &answered);
    let disk = disk.as_ref();
    let mut breaker = Breaker { cluster, disk, client, probe, rng, answered: &answered };
    let mut histories = std::thread::scope(|scope| {
        let load = |id| {
            let (config, answered, stop) = (&config, &answered, &stop);
            scope.spawn(move || {
                let mut loader = Loader::new(config, id, origin, answered);
                loader.run(stop);
                loader.lines
            })
        };
        let loaders: Vec<_> = (0..LOADERS).map(load).collect();
        // The loaders must end whatever happens here, or the scope would wait for ever.
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| breaker.rounds()));
        stop.store(true, Ordering::Relaxed);
        let histories: Vec<_> = loaders.into_iter().map(|loader| loader.join().unwrap()).collect();
        if let Err(panic) = broken {
            std::panic::resume_unwind(panic);
        }
        histories
    });
    let mut last = Loader::new(&config, LOADERS, origin, &answered);
    last.read_all();
    histories.push(last.lines);
    breaker.settle();
    histories.push(std::mem::take(&mut breaker.probe.lines));
    judge(&policy.to_string(), &histories);
}

fn judge(name: &str, histories: &[Vec<Line>]) {
    let mut recorded = Recorded::default();
    for (index, lines) in histories.iter().enumerate() {
        recorded.begin_file(&format!("{name}-{index}.jsonl"));
        for (line, number) in lines.iter().zip(1..) {
            recorded.push(number, line).unwrap();
        }
    }
    let summary = recorded.check().unwrap_or_else(|text| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
        std::fs::create_dir_all(&kept).unwrap();
        for (index, lines) in histories.iter().enumerate() {
            let lines: Vec<String> =
                lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
            std::fs::write(kept.join(format!("{name}-{index}.jsonl")), lines.join("\n")).unwrap();
        }
        panic!("{name}: {text}\nthe history is in {}", kept.display());
    });
    println!("{name}: {summary:?}");
    assert_eq!(summary.without_slot, 0, "{name}: an answer without a slot");
    assert!(summary.gave_up.is_empty(), "{name}: no search on {:?}", summary.gave_up);
    let all = || histories.iter().flatten();
    let done = |op| all().filter(|line| line.op == op && line.outcome == LineOutcome::Ok).count();
    for mode in [ReadMode::Linearizable, ReadMode::Lease, ReadMode::Eventual] {
        let is_one = |line: &&Line| line.op == LineOp::Get && line.mode == mode;
        let count = all().filter(is_one).filter(|line| line.outcome == LineOutcome::Ok).count();
        assert!(count >= 40, "{name}: only {count} {mode} reads were answered");
    }
    assert_eq!(summary.scans, done(LineOp::Scan) as u64, "{name}: scans without rows");
    for (op, least) in
        [(LineOp::Get, 200), (LineOp::Put, 100), (LineOp::Cas, 30), (LineOp::Scan, 20)]
    {
        assert!(done(op) >= least, "{name}: only {} of {op} were done", done(op));
    }
    assert!(summary.unknown > 0, "{name}: no operation was caught in the middle");
    assert!(summary.unknown * 4 < summary.operations, "{name}: most had no answer: {summary:?}");
}

#[test]
fn replicate_survives_crashes_pauses_and_partitions() {
    survive(Policy::Replicate, 1);
}

#[test]
fn rs_paxos_survives_crashes_pauses_and_partitions() {
    survive(Policy::RsPaxos, 3);
}

#[test]
fn craft_survives_crashes_pauses_and_partitions() {
    survive(Policy::Craft, 3);
}

#[test]
fn crossword_survives_crashes_pauses_and_partitions() {
    survive(Policy::Crossword, 3);
}

#[test]
fn hybrid_survives_crashes_pauses_and_partitions() {
    survive(Policy::Hybrid, 3);
}

#[test]
fn links_are_cut_by_command_where_the_cluster_file_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Replicate, 1);
    let file = cluster.cluster_file().display().to_string();
    let admin = |file: &str, arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["admin", "netem", "--config", file, "--node", "3"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = admin(&file, &["--cut", "1,2", "--direction", "in", "--loss", "0.1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("n1: cut in, loss 0.1, delay 0 ms"), "{text}");
    assert!(text.contains("n4: up, loss 0.1"), "{text}");
    let (_, text) = admin(&file, &["--heal", "--loss", "0"]);
    assert_eq!(text.matches("up, loss 0,").count(), 4, "{text}");
    let (code, text) = admin(&file, &["--cut", "9"]);
    assert!(code == Some(1) && text.contains("node 9 is none of its peers"), "{text}");
    let refused = std::fs::read_to_string(&file).unwrap().replace("allow_control = true", "");
    assert!(cluster.stop().is_empty());
    std::fs::write(&file, refused).unwrap();
    cluster.start_node(NodeId(3)).unwrap();
    let (code, text) = admin(&file, &["--cut", "1"]);
    assert!(code == Some(1) && text.contains("allow_control = true"), "{text}");
}
