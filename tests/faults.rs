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

use disk::{RESERVE_BYTES, SmallDisk};
use distkv::client::{Client, ClientDriver};
use distkv::config::{ClusterConfig, Policy};
use distkv::history::{Line, LineOp, LineOutcome, Recorded};
use distkv::kv::{Op, Outcome, Role, value_digest};
use distkv::node::control::{Direction, NetemCommand};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::node::tables::allow_netem_control;
use distkv::replica::client_machine::{ClientOutcome, Completion, Token};
use distkv::rng::Rng;
use distkv::types::ReadMode;
use distkv::types::{Bytes, Code, NodeId};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_distkv");
const NODES: u8 = 5;
const KEYS: u64 = 12;
const LOADERS: u64 = 2;
const SESSIONS: usize = 5;
/// Short, so that some operations end unknown while the cluster is broken.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(700);
/// From healing until operations are answered again.
const PROGRESS_LIMIT: Duration = Duration::from_secs(20);
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

/// Clients on one thread, and what they saw.
struct Loader<'a> {
    driver: ClientDriver,
    id: u64,
    rng: Rng,
    origin: Instant,
    answered: &'a AtomicU64,
    outstanding: BTreeMap<Token, Line>,
    versions: BTreeMap<String, u64>,
    written: u64,
    lines: Vec<Line>,
}

impl<'a> Loader<'a> {
    fn new(
        cluster: &Arc<ClusterConfig>,
        id: u64,
        origin: Instant,
        answered: &'a AtomicU64,
    ) -> Self {
        Self {
            driver: ClientDriver::new(cluster, SESSIONS, OPERATION_TIMEOUT).unwrap(),
            id,
            rng: Rng::new(id + 1),
            origin,
            answered,
            outstanding: BTreeMap::new(),
            versions: BTreeMap::new(),
            written: 0,
            lines: Vec::new(),
        }
    }

    /// Keeps every session busy until `stop` is set, then waits for what is outstanding.
    fn run(&mut self, stop: &AtomicBool) {
        let mut free: Vec<usize> = (0..SESSIONS).collect();
        while !stop.load(Ordering::Relaxed) || !self.outstanding.is_empty() {
            while let Some(session) = free.pop().filter(|_| !stop.load(Ordering::Relaxed)) {
                let key = format!("key-{}", self.rng.below(KEYS));
                self.start(session, key);
            }
            free.extend(self.wait(Duration::from_millis(50)));
            // Think time: the nodes share two cores with two other clusters.
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Reads every key until it is answered.
    fn read_all(&mut self) {
        let deadline = Instant::now() + PROGRESS_LIMIT;
        for number in 0..KEYS {
            let (key, before) = (format!("key-{number}"), self.lines.len());
            while !self.lines[before..].iter().any(|line| line.outcome == LineOutcome::Ok) {
                assert!(Instant::now() < deadline, "{key} cannot be read after all faults");
                if self.outstanding.is_empty() {
                    let op = Op::Get { key: key.clone().into() };
                    self.submit(0, &key, LineOp::Get, None, None, op);
                }
                self.wait(Duration::from_millis(50));
            }
        }
    }

    fn start(&mut self, session: usize, key: String) {
        let name: Bytes = key.clone().into();
        let choice = self.rng.below(100);
        if choice < 40 {
            return self.submit(session, &key, LineOp::Get, None, None, Op::Get { key: name });
        }
        if choice < 46 {
            let op = Op::Delete { key: name };
            return self.submit(session, &key, LineOp::Delete, None, None, op);
        }
        let value = self.value();
        let digest = Some(digest_text(&value));
        if choice < 70 {
            let op = Op::Put { key: name, value };
            return self.submit(session, &key, LineOp::Put, digest, None, op);
        }
        let expected = self.versions.get(&key).copied().unwrap_or(0);
        let op = Op::CompareAndSet { key: name, expected, value };
        self.submit(session, &key, LineOp::Cas, digest, Some(expected), op);
    }

    /// Different from every other one; sometimes too large for a datagram.
    fn value(&mut self) -> Bytes {
        self.written += 1;
        let length = if self.rng.below(10) == 0 { 30_000 } else { self.rng.below(2000) };
        let mut value = vec![0; length as usize + 16];
        self.rng.fill(&mut value);
        value[..8].copy_from_slice(&self.id.to_le_bytes());
        value[8..16].copy_from_slice(&self.written.to_le_bytes());
        value.into()
    }

    fn submit(
        &mut self,
        session: usize,
        key: &str,
        op: LineOp,
        value_digest: Option<String>,
        expected: Option<u64>,
        request: Op,
    ) {
        let line = Line {
            client: self.id * 100 + session as u64,
            op,
            key: key.to_owned(),
            value_digest,
            version: None,
            expected,
            slot: None,
            mode: ReadMode::Linearizable,
            invoke_ns: self.origin.elapsed().as_nanos() as u64,
            return_ns: None,
            outcome: LineOutcome::Unknown,
        };
        let token = self.driver.submit(session, request).unwrap();
        self.outstanding.insert(token, line);
    }

    /// Takes in completions for up to `limit`; gives the sessions that are free again.
    fn wait(&mut self, limit: Duration) -> Vec<usize> {
        let mut completions = Vec::new();
        let deadline = Instant::now() + limit;
        self.driver.wait(deadline, |completion| completions.push(completion)).unwrap();
        let mut free = Vec::new();
        for completion in completions {
            free.push(completion.session_index);
            let mut line = self.outstanding.remove(&completion.token).unwrap();
            line.return_ns = Some(self.origin.elapsed().as_nanos() as u64);
            finish(&mut line, completion);
            if let Some(version) = line.version {
                self.versions.insert(line.key.clone(), version);
            }
            if line.outcome == LineOutcome::Ok {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            self.lines.push(line);
        }
        free
    }
}

fn digest_text(value: &[u8]) -> String {
    format!("{:016x}", value_digest(value))
}

fn finish(line: &mut Line, completion: Completion) {
    line.outcome = LineOutcome::Ok;
    match completion.outcome {
        ClientOutcome::Unknown => {
            line.outcome = LineOutcome::Unknown;
            line.return_ns = None;
        }
        ClientOutcome::Failed(_) => line.outcome = LineOutcome::Fail,
        ClientOutcome::Done(outcome) => {
            line.slot = Some(completion.served_at.0);
            match outcome {
                Outcome::Value { version, value } => {
                    line.version = Some(version);
                    line.value_digest = Some(digest_text(&value));
                }
                Outcome::NotFound => {}
                Outcome::Written { version } => line.version = Some(version),
                Outcome::Mismatch { current } => {
                    line.version = Some(current);
                    line.outcome = LineOutcome::Fail;
                }
                other => panic!("{line:?} was answered {other:?}"),
            }
        }
    }
}

/// What breaks the cluster, from the test's own thread: nodes die with the thread that started them.
struct Breaker<'a> {
    cluster: LocalCluster,
    disk: &'a SmallDisk,
    client: Client,
    rng: Rng,
    answered: &'a AtomicU64,
}

impl Breaker<'_> {
    fn leader(&mut self) -> NodeId {
        let statuses = self.client.statuses().unwrap();
        let known = statuses.into_iter().filter_map(|(_, status)| status);
        let leaders = known.filter(|status| status.role == Role::Leader);
        let latest = leaders.max_by_key(|status| status.ballot);
        latest.map_or(NodeId(0), |status| NodeId(status.node))
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

    fn rounds(&mut self) {
        let leader = self.leader();
        self.cluster.kill(leader).unwrap();
        Self::pause(900, &mut self.rng);
        self.mend("the leader is killed");

        let leader = self.leader();
        self.cluster.signal(leader, Signal::STOP).unwrap();
        Self::pause(1200, &mut self.rng);
        self.cluster.signal(leader, Signal::CONT).unwrap();
        self.mend("the leader is paused");

        let leader = self.leader();
        let cut = NetemCommand { cut: Self::after(leader, 3), ..NetemCommand::default() };
        self.change(leader, &cut);
        Self::pause(1200, &mut self.rng);
        self.mend("the leader is cut off with one other node");

        let leader = self.leader();
        let direction = if self.rng.chance(0.5) { Direction::In } else { Direction::Out };
        let cut = NetemCommand { cut: Self::after(leader, 4), direction, ..Default::default() };
        self.change(leader, &cut);
        Self::pause(1000, &mut self.rng);
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
        self.cluster.start_node(leader).unwrap();
        self.cluster.signal(paused, Signal::CONT).unwrap();
        self.mend("a leader is killed while another node sleeps");

        self.disk.fill();
        let deadline = Instant::now() + PROGRESS_LIMIT;
        while !self.is_any_disk_full() {
            assert!(Instant::now() < deadline, "no node notices that its disk is full");
        }
        let leader = self.leader();
        self.cluster.kill(leader).unwrap();
        Self::pause(900, &mut self.rng);
        self.disk.empty();
        self.mend("the leader is killed while all disks are full");

        for node in self.cluster.nodes() {
            self.cluster.kill(node).unwrap();
        }
        self.mend("all are killed");
    }

    fn is_any_disk_full(&mut self) -> bool {
        let statuses = self.client.statuses().unwrap();
        statuses.into_iter().any(|(_, status)| status.is_some_and(|status| status.disk_full))
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

fn survive(policy: Policy, k: u8) {
    let disk = SmallDisk::mount();
    let cluster = start(disk.path(), policy, k);
    let config = Arc::clone(cluster.cluster());
    let (answered, stop, origin) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let client = Client::new(&config, Duration::from_secs(2)).unwrap();
    let rng = Rng::new(u64::from(k) + policy as u64);
    let mut breaker = Breaker { cluster, disk: &disk, client, rng, answered: &answered };
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
    for (op, least) in [(LineOp::Get, 200), (LineOp::Put, 100), (LineOp::Cas, 30)] {
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
