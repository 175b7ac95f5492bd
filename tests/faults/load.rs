//! The load of the fault tests: every kind of operation and every mode of reading, and what the
//! clients saw of it, line by line.

use distkv::client::ClientDriver;
use distkv::config::ClusterConfig;
use distkv::history::{Line, LineOp, LineOutcome, LineRow};
use distkv::kv::{Op, Outcome, Row, value_digest};
use distkv::replica::client_machine::{ClientOutcome, Completion, Token};
use distkv::rng::Rng;
use distkv::types::{Bytes, ReadMode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KEYS: u64 = 12;
const SESSIONS: usize = 5;
/// Short, so that some operations end unknown while the cluster is broken.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(700);
/// From healing until operations are answered again.
pub const PROGRESS_LIMIT: Duration = Duration::from_secs(20);

/// Clients on one thread, and what they saw.
pub struct Loader<'a> {
    driver: ClientDriver,
    id: u64,
    rng: Rng,
    /// Of the next read.
    mode: ReadMode,
    origin: Instant,
    answered: &'a AtomicU64,
    outstanding: BTreeMap<Token, Line>,
    versions: BTreeMap<String, u64>,
    written: u64,
    /// How the operation that ended last did.
    ended: Option<ClientOutcome>,
    pub lines: Vec<Line>,
}

impl<'a> Loader<'a> {
    pub fn new(
        cluster: &Arc<ClusterConfig>,
        id: u64,
        origin: Instant,
        answered: &'a AtomicU64,
    ) -> Self {
        Self {
            driver: ClientDriver::new(cluster, SESSIONS, OPERATION_TIMEOUT).unwrap(),
            id,
            rng: Rng::new(id + 1),
            mode: ReadMode::Linearizable,
            origin,
            answered,
            outstanding: BTreeMap::new(),
            versions: BTreeMap::new(),
            written: 0,
            ended: None,
            lines: Vec::new(),
        }
    }

    /// Keeps every session busy until `stop` is set, then waits for what is outstanding.
    pub fn run(&mut self, stop: &AtomicBool) {
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
    pub fn read_all(&mut self) {
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

    /// One get, put or delete, waited for. It is in the history too: scans of others find it.
    pub fn ask(&mut self, key: &str, op: LineOp) -> ClientOutcome {
        assert!(self.outstanding.is_empty(), "one at a time");
        let name: Bytes = key.to_owned().into();
        let (digest, request) = match op {
            LineOp::Get => (None, Op::Get { key: name }),
            LineOp::Delete => (None, Op::Delete { key: name }),
            LineOp::Put => {
                let value = self.value();
                (Some(digest_text(&value)), Op::Put { key: name, value })
            }
            LineOp::Cas | LineOp::Scan => panic!("{op} is for the load"),
        };
        self.ended = None;
        self.submit(0, key, op, digest, None, request);
        loop {
            self.wait(Duration::from_millis(50));
            if let Some(outcome) = self.ended.take() {
                return outcome;
            }
        }
    }

    fn start(&mut self, session: usize, key: String) {
        let name: Bytes = key.clone().into();
        let choice = self.rng.below(100);
        if choice < 40 {
            self.mode = match choice {
                0..20 => ReadMode::Linearizable,
                20..30 => ReadMode::Lease,
                _ => ReadMode::Eventual,
            };
            return self.submit(session, &key, LineOp::Get, None, None, Op::Get { key: name });
        }
        if choice >= 95 {
            self.mode = if choice < 98 { ReadMode::Linearizable } else { ReadMode::Eventual };
            let op = Op::Scan { start: name, limit: 5 };
            return self.submit(session, &key, LineOp::Scan, None, None, op);
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
            rows: None,
            value_digest,
            version: None,
            expected,
            slot: None,
            mode: match op {
                LineOp::Get | LineOp::Scan => self.mode,
                LineOp::Put | LineOp::Delete | LineOp::Cas => ReadMode::default(),
            },
            invoke_ns: self.origin.elapsed().as_nanos() as u64,
            return_ns: None,
            outcome: LineOutcome::Unknown,
        };
        self.driver.set_read_mode(self.mode);
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
            self.ended = Some(completion.outcome.clone());
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
                Outcome::Rows(rows) => {
                    let row = |row: Row| LineRow {
                        key: String::from_utf8(row.key.to_vec()).unwrap(),
                        version: row.version,
                        value_digest: digest_text(&row.value),
                    };
                    line.rows = Some(rows.into_iter().map(row).collect());
                }
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
