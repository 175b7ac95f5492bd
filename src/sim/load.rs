//! The clients of a run: what they ask, and what they were answered.

use super::agreed::{Scan, ScanRow};
use super::world::World;
use crate::history::{Operation, Outcome, Request};
use crate::kv::{self, Op, value_digest};
use crate::replica::client_machine::{ClientConfig, ClientMachine, ClientOutcome, Completion};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::types::{Bytes, Digest, ReadMode, Slot};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One client: a machine with one session or more, that asks side by side.
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) machine: ClientMachine,
    pub(super) config: ClientConfig,
    pub(super) starts: u64,
    pub(super) sessions: Vec<Session>,
    /// Operations of all sessions.
    pub(super) issued: u64,
    /// What must still be served in this stage.
    pub(super) demands: Vec<Demand>,
}

impl Client {
    /// Was everything served that it was to ask?
    pub(super) fn is_done(&self) -> bool {
        self.demands.is_empty() && self.sessions.iter().all(|session| session.current.is_none())
    }
}

/// What a client asks until it is served.
#[derive(Clone, Copy, Debug)]
pub(super) enum Demand {
    Read(u64),
    Write(u64),
}

/// One session of a client, which asks for one thing at a time.
pub(super) struct Session {
    /// As histories name it.
    pub(super) id: u64,
    /// What is under way.
    pub(super) current: Option<Current>,
    pub(super) next_at: Instant,
    /// Versions seen, for compare-and-set.
    pub(super) versions: BTreeMap<u64, u64>,
}

/// A client and one of its sessions.
type Place = (usize, usize);

/// What a session waits for.
pub(super) enum Current {
    Key(Operation),
    Scan(Scan),
}

impl World {
    /// Lets every session of a client that is idle long enough ask something.
    pub(super) fn issue(&mut self, at: usize) {
        for session in 0..self.clients[at].sessions.len() {
            let waiting = &self.clients[at].sessions[session];
            if waiting.current.is_none() && waiting.next_at <= self.now {
                self.issue_one((at, session));
            }
        }
    }

    fn issue_one(&mut self, from: Place) {
        let at = from.0;
        let issued = self.clients[at].issued;
        let is_loaded = issued < self.scenario.operations_per_client;
        // Load goes on while faults do.
        if !is_loaded && self.is_healed() {
            match self.clients[at].demands.pop() {
                Some(Demand::Read(key)) => {
                    self.issue_on_key(from, key, Request::Get, ReadMode::Linearizable);
                }
                Some(Demand::Write(key)) => {
                    self.next_value += 1;
                    let request = Request::Put { digest: self.next_value };
                    self.issue_on_key(from, key, request, ReadMode::Linearizable);
                }
                None => {}
            }
            return;
        }
        let mode = self.draw_mode();
        let key = self.rng.below(self.scenario.key_count);
        if self.rng.below(100) < SCAN_PERCENT {
            return self.issue_scan(from, key, mode);
        }
        let is_any = is_loaded || issued.is_multiple_of(4);
        let request = if is_any { self.draw_request(from, key) } else { Request::Get };
        self.issue_on_key(from, key, request, mode);
    }

    /// A client's process dies: what it waited for it never learns. Another one takes its address.
    pub(super) fn restart_client(&mut self, at: usize) {
        let at = at % self.clients.len();
        self.totals.note_effect("client restarted");
        for session in 0..self.clients[at].sessions.len() {
            match self.clients[at].sessions[session].current.take() {
                Some(Current::Key(operation)) => {
                    self.complete_key((at, session), operation, Slot::ZERO, ClientOutcome::Unknown);
                }
                Some(Current::Scan(scan)) => {
                    self.complete_scan(scan, Slot::ZERO, ClientOutcome::Unknown);
                }
                None => {}
            }
        }
        let seed = self.rng.next_u64();
        let now = self.now;
        let client = &mut self.clients[at];
        client.starts += 1;
        // A name that no machine on this address had.
        let local_epoch = at as u64 + 1 + client.starts * 1000;
        client.machine = ClientMachine::new(client.config.clone(), local_epoch, seed);
        for session in &mut client.sessions {
            // It knows nothing of what the one before has seen.
            session.versions.clear();
            session.id += SESSIONS_APART;
            session.next_at = now;
        }
        self.clients_are_due();
    }

    fn issue_on_key(&mut self, from: Place, key: u64, request: Request, mode: ReadMode) {
        let name = key_name(key);
        let op = match &request {
            Request::Get => Op::Get { key: name },
            Request::Put { digest } => Op::Put { key: name, value: self.value_of(*digest) },
            Request::Delete => Op::Delete { key: name },
            Request::CompareAndSet { expected, digest } => {
                let (expected, value) = (*expected, self.value_of(*digest));
                Op::CompareAndSet { key: name, expected, value }
            }
        };
        let request = self.with_digest(&op, request);
        let kind = match &request {
            Request::Get => "get",
            Request::Put { .. } => "put",
            Request::Delete => "delete",
            Request::CompareAndSet { .. } => "compare-and-set",
        };
        let operation = Operation {
            client: self.session(from).id,
            key,
            request,
            mode,
            invoked: self.now,
            returned: self.now,
            slot: 0,
            outcome: Outcome::Unknown,
        };
        self.submit(from, kind, op, mode, Current::Key(operation));
    }

    fn issue_scan(&mut self, from: Place, start: u64, mode: ReadMode) {
        let limit = u32::try_from(self.rng.range(1, self.scenario.key_count + 1)).unwrap_or(1);
        let scan = Scan {
            client: self.session(from).id,
            mode,
            invoked: self.now,
            start,
            limit,
            slot: 0,
            rows: Vec::new(),
        };
        let op = Op::Scan { start: key_name(start), limit };
        self.submit(from, "scan", op, mode, Current::Scan(scan));
    }

    fn submit(
        &mut self,
        from: Place,
        kind: &'static str,
        op: Op,
        mode: ReadMode,
        current: Current,
    ) {
        *self.totals.operations.entry(kind).or_default() += 1;
        let client = &mut self.clients[from.0];
        client.issued += 1;
        let submitted = client.machine.submit_read(self.now, from.1, op, mode);
        submitted.expect("a session asks for one thing at a time");
        client.sessions[from.1].current = Some(current);
    }

    fn session(&mut self, place: Place) -> &mut Session {
        &mut self.clients[place.0].sessions[place.1]
    }

    fn draw_mode(&mut self) -> ReadMode {
        match self.rng.below(10) {
            0..4 => ReadMode::Linearizable,
            4..7 => ReadMode::Lease,
            _ => ReadMode::Eventual,
        }
    }

    fn draw_request(&mut self, from: Place, key: u64) -> Request {
        self.next_value += 1;
        let digest = self.next_value;
        match self.rng.below(100) {
            0..35 => Request::Get,
            35..80 => Request::Put { digest },
            80..88 => Request::Delete,
            _ => {
                let known = self.session(from).versions.get(&key).copied().unwrap_or(0);
                Request::CompareAndSet { expected: known, digest }
            }
        }
    }

    /// The bytes of the write with this number: different for each, of a length drawn from it.
    fn value_of(&self, number: u64) -> Bytes {
        let mut rng = Rng::new(number);
        let length = rng.below(self.scenario.value_bytes_max + 1);
        let mut value = number.to_le_bytes().to_vec();
        value.resize(usize::try_from(length).unwrap_or(0).max(8), 0);
        rng.fill(&mut value[8..]);
        value.into()
    }

    /// The history names values by the digest of their bytes.
    fn with_digest(&mut self, op: &Op, request: Request) -> Request {
        let (Op::Put { value, .. } | Op::CompareAndSet { value, .. }) = op else { return request };
        let digest = value_digest(value);
        self.agreed.note_value(digest, value);
        match request {
            Request::CompareAndSet { expected, .. } => Request::CompareAndSet { expected, digest },
            Request::Get | Request::Put { .. } | Request::Delete => Request::Put { digest },
        }
    }

    pub(super) fn complete(&mut self, at: usize, completion: Completion) {
        let Completion { session_index, served_at, outcome, .. } = completion;
        let place = (at, session_index);
        let think = u64::try_from(self.scenario.think_time.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.rng.below(think.max(1)));
        let next_at = self.now + pause;
        let session = self.session(place);
        session.next_at = next_at;
        match session.current.take() {
            Some(Current::Key(operation)) => {
                self.complete_key(place, operation, served_at, outcome);
            }
            Some(Current::Scan(scan)) => self.complete_scan(scan, served_at, outcome),
            None => {}
        }
    }

    fn complete_key(
        &mut self,
        place: Place,
        mut operation: Operation,
        served_at: Slot,
        outcome: ClientOutcome,
    ) {
        operation.returned = self.now;
        operation.slot = served_at.0;
        operation.outcome = outcome_of(outcome);
        let (kind, version) = match &operation.outcome {
            Outcome::Found { version, .. } => ("served", Some(*version)),
            Outcome::Written { version } => ("served", Some(*version)),
            Outcome::Mismatch { current } => ("served", Some(*current)),
            Outcome::Absent => ("served", Some(0)),
            Outcome::Unknown => ("unknown", None),
            Outcome::Refused => ("refused", None),
        };
        *self.totals.outcomes.entry(kind).or_default() += 1;
        if let Some(version) = version {
            self.session(place).versions.insert(operation.key, version);
        }
        let is_healed = self.is_healed();
        let client = &mut self.clients[place.0];
        // What is demanded and got no answer is asked again.
        if is_healed && client.issued > self.scenario.operations_per_client && version.is_none() {
            client.demands.push(match operation.request {
                Request::Get => Demand::Read(operation.key),
                Request::Put { .. } | Request::Delete | Request::CompareAndSet { .. } => {
                    Demand::Write(operation.key)
                }
            });
        }
        if let (Outcome::Written { .. }, Some(down)) = (&operation.outcome, self.aimed) {
            self.aimed = None;
            self.say(|| "fault: all machines lose power".to_owned());
            self.cut_power(down);
        }
        if operation.is_served() && !operation.is_eventual() {
            self.note_answer();
        }
        self.note(operation.slot);
        if self.is_traced() {
            let line = operation.to_string();
            self.say(|| line);
        }
        self.history.operations.push(operation);
    }

    /// A write or a strong read is answered, or the faults end.
    pub(super) fn note_answer(&mut self) {
        if self.is_healed() {
            return;
        }
        let silence = self.last_answer.map_or(Duration::ZERO, |last| self.now.since(last));
        self.totals.longest_silence = self.totals.longest_silence.max(silence);
        self.last_answer = Some(self.now);
    }

    /// A scan is kept as itself and, for the checks by key, as one read of every key it covers.
    fn complete_scan(&mut self, mut scan: Scan, served_at: Slot, outcome: ClientOutcome) {
        let rows = match outcome {
            ClientOutcome::Done(kv::Outcome::Rows(rows)) => rows,
            ClientOutcome::Unknown => {
                *self.totals.outcomes.entry("unknown").or_default() += 1;
                return;
            }
            ClientOutcome::Done(_) | ClientOutcome::Failed(_) => {
                *self.totals.outcomes.entry("refused").or_default() += 1;
                return;
            }
        };
        *self.totals.outcomes.entry("served").or_default() += 1;
        scan.slot = served_at.0;
        let is_cut_short = rows.len() >= scan.limit as usize;
        let last = rows.last().map(|row| row.key.clone());
        let mut found = rows.iter().peekable();
        for key in scan.start..self.scenario.key_count {
            let name = key_name(key);
            if is_cut_short && last.as_ref().is_some_and(|last| name > *last) {
                break;
            }
            let outcome = match found.next_if(|row| row.key == name) {
                Some(row) => {
                    Outcome::Found { version: row.version, digest: value_digest(&row.value) }
                }
                None => Outcome::Absent,
            };
            self.history.operations.push(Operation {
                client: scan.client,
                key,
                request: Request::Get,
                mode: scan.mode,
                invoked: scan.invoked,
                returned: self.now,
                slot: scan.slot,
                outcome,
            });
        }
        let row = |row: kv::Row| ScanRow {
            digest: Digest::of(&row.value),
            key: row.key,
            version: row.version,
        };
        scan.rows = rows.into_iter().map(row).collect();
        self.note(scan.slot);
        self.say(|| format!("{scan:?}"));
        self.scans.push(scan);
    }
}

/// The name of a key; names sort as numbers do.
pub(super) fn key_name(key: u64) -> Bytes {
    Bytes::from(format!("key-{key:03}"))
}

fn outcome_of(outcome: ClientOutcome) -> Outcome {
    match outcome {
        ClientOutcome::Unknown => Outcome::Unknown,
        ClientOutcome::Failed(_) => Outcome::Refused,
        ClientOutcome::Done(outcome) => match outcome {
            kv::Outcome::Value { version, value } => {
                Outcome::Found { version, digest: value_digest(&value) }
            }
            kv::Outcome::NotFound => Outcome::Absent,
            kv::Outcome::Written { version } => Outcome::Written { version },
            kv::Outcome::Mismatch { current } => Outcome::Mismatch { current },
            kv::Outcome::SessionOpened { .. }
            | kv::Outcome::Rows(_)
            | kv::Outcome::Status(_)
            | kv::Outcome::Done
            | kv::Outcome::Controlled { .. }
            | kv::Outcome::Refused(_) => Outcome::Refused,
        },
    }
}

/// A restarted client's sessions are others: their numbers are so far from those before.
const SESSIONS_APART: u64 = 1000;
/// So many of a hundred operations are scans.
const SCAN_PERCENT: u64 = 5;
