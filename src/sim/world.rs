//! The event loop in virtual time: nodes, clients, network and faults of one seed.

use super::faults::Mend;
use super::node::SimNode;
use super::operator::Operator;
use super::scenario::{Fault, Plant, Scenario};
use super::totals::Totals;
use crate::history::{History, Operation, Outcome, Request, Search, search};
use crate::kv::{self, Op, value_digest};
use crate::netem::{Netem, NetemConfig};
use crate::replica::client_machine::{ClientConfig, ClientMachine, ClientOutcome};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::transport::{Transmit, TransportConfig};
use crate::types::{Bytes, NodeId, ReadMode, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
}

/// Takes the lines of a readable trace, as they happen.
pub type TraceSink = Box<dyn FnMut(&str)>;

/// Runs one seed; `trace` is given every step in words.
///
/// # Errors
/// [`Failure`]: the seed and what it broke.
///
/// # Panics
/// When a machine's own assertion fails: as much a failure of the seed.
pub fn run(seed: u64, plant: Plant, trace: Option<TraceSink>) -> Result<Totals, Failure> {
    run_scenario(Scenario::draw(seed), seed, plant, trace)
}

/// Runs a scenario that need not be the one of `seed`, which draws everything else.
///
/// # Errors
/// As [`run`].
///
/// # Panics
/// As [`run`].
pub fn run_scenario(
    scenario: Scenario,
    seed: u64,
    plant: Plant,
    trace: Option<TraceSink>,
) -> Result<Totals, Failure> {
    let mut world = World::new(scenario, seed, plant, trace);
    match world.run().and_then(|()| world.check()) {
        Ok(()) => Ok(world.totals),
        Err(what) => Err(Failure { seed, what }),
    }
}

struct Client {
    id: u64,
    address: SocketAddr,
    machine: ClientMachine,
    /// The operation under way.
    current: Option<Operation>,
    next_at: Instant,
    issued: u64,
    /// Keys still to be read at the end.
    final_reads: Vec<u64>,
    /// Versions seen, for compare-and-set.
    versions: BTreeMap<u64, u64>,
}

pub(super) struct World {
    scenario: Scenario,
    pub(super) now: Instant,
    rng: Rng,
    pub(super) nodes: Vec<SimNode>,
    clients: Vec<Client>,
    pub(super) operator: Operator,
    by_address: BTreeMap<SocketAddr, Place>,
    pub(super) netem: Netem,
    pub(super) faults: Vec<(Instant, Fault)>,
    pub(super) mends: Vec<(Instant, Mend)>,
    pub(super) is_healed: bool,
    /// The power goes when the next write is acknowledged, for so long.
    pub(super) aimed: Option<Duration>,
    /// Cuts under way, per directed pair of ranks.
    pub(super) cuts: BTreeMap<(usize, usize), u32>,
    history: History,
    /// Digest of the state after each slot, as first seen on any node.
    digests: BTreeMap<Slot, u64>,
    next_value: u64,
    /// When a write or a strong read was answered last.
    pub(super) last_answer: Option<Instant>,
    pub(super) totals: Totals,
    trace: Option<TraceSink>,
}

#[derive(Clone, Copy)]
enum Place {
    Node(usize),
    Client(usize),
    Operator,
}

impl World {
    fn new(scenario: Scenario, seed: u64, plant: Plant, mut trace: Option<TraceSink>) -> Self {
        if let Some(trace) = &mut trace {
            trace(&scenario.to_string());
        }
        let is_traced = trace.is_some();
        let mut rng = Rng::new(seed ^ 0x5EED);
        let cluster = Arc::new(scenario.cluster.clone());
        let transport = TransportConfig {
            cluster_id: cluster.cluster,
            datagram_bytes: scenario.datagram_bytes,
            ..TransportConfig::default()
        };
        let mut by_address = BTreeMap::new();
        let nodes: Vec<SimNode> = (0..cluster.members.len())
            .map(|rank| {
                let id: NodeId = cluster.members[rank].id;
                by_address.insert(cluster.members[rank].address, Place::Node(rank));
                let (transport, sync) = (transport.clone(), scenario.sync_time);
                SimNode::new(&cluster, id, transport, sync, plant, is_traced, rng.fork())
            })
            .collect();
        let clients = (0..scenario.client_count)
            .map(|id| {
                let last = u8::try_from(id + 1).expect("a handful of clients");
                let address = SocketAddr::from(([10, 0, 1, last], 9000));
                let at = usize::try_from(id).expect("a handful of clients");
                by_address.insert(address, Place::Client(at));
                let mut config = ClientConfig::new(Arc::clone(&cluster), transport.clone(), 1);
                config.attempt_timeout = scenario.attempt_timeout;
                config.operation_timeout = Duration::from_millis(rng.range(800, 6000));
                Client {
                    id,
                    address,
                    machine: ClientMachine::new(config, id + 1, rng.next_u64()),
                    current: None,
                    next_at: Instant::ZERO,
                    issued: 0,
                    final_reads: (0..scenario.key_count).collect(),
                    versions: BTreeMap::new(),
                }
            })
            .collect();
        let operator = Operator::new(&scenario, transport, rng.next_u64());
        by_address.insert(operator.address, Place::Operator);
        let config = NetemConfig { link: scenario.link.clone(), ..NetemConfig::default() };
        let faults = scenario.faults.iter();
        Self {
            now: Instant::ZERO,
            nodes,
            clients,
            operator,
            by_address,
            netem: Netem::new(config, rng.next_u64()),
            faults: faults.rev().map(|(at, f)| (Instant::ZERO + *at, f.clone())).collect(),
            mends: Vec::new(),
            is_healed: false,
            aimed: None,
            cuts: BTreeMap::new(),
            history: History::default(),
            digests: BTreeMap::new(),
            next_value: 0,
            last_answer: None,
            totals: Totals::default(),
            trace,
            rng,
            scenario,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.start(self.now)?;
        }
        let heal_at = Instant::ZERO + self.scenario.heal_at;
        let give_up_at = heal_at + LIVENESS_BOUND;
        while !self.is_over() {
            let next = self.next_event(heal_at);
            assert!(next < Instant::from_nanos(u64::MAX), "nothing will ever happen");
            self.now = self.now.max(next);
            if self.now > give_up_at {
                return Err(format!(
                    "no progress: {:?} after all faults ended, clients still wait ({})",
                    LIVENESS_BOUND,
                    self.waiting()
                ));
            }
            self.work_faults(heal_at)?;
            self.deliver();
            self.step_nodes()?;
            self.step_clients();
        }
        self.totals.virtual_time = self.now.since(Instant::ZERO);
        Ok(())
    }

    /// All clients have done and read everything, and all nodes have applied the same.
    fn is_over(&self) -> bool {
        self.is_healed
            && self
                .clients
                .iter()
                .all(|client| client.current.is_none() && client.final_reads.is_empty())
            && {
                let mut applied = self
                    .nodes
                    .iter()
                    .filter_map(|node| node.replica().map(|replica| replica.state_digest().0));
                let first = applied.next();
                first.is_some() && applied.all(|other| Some(other) == first)
            }
    }

    fn waiting(&self) -> String {
        let clients: Vec<String> = self
            .clients
            .iter()
            .filter_map(|client| client.current.as_ref())
            .map(ToString::to_string)
            .collect();
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .filter_map(SimNode::replica)
            .map(|replica| {
                let status = replica.status(self.now);
                format!(
                    "n{} {:?} promised {} applied {} chosen {} last {}",
                    status.node,
                    status.role,
                    status.ballot,
                    status.applied,
                    status.chosen,
                    status.last
                )
            })
            .collect();
        format!("{clients:?}; {nodes:?}")
    }

    fn next_event(&self, heal_at: Instant) -> Instant {
        let mut next = Instant::from_nanos(u64::MAX);
        if !self.is_healed {
            next = next.min(heal_at);
        }
        if let Some((at, _)) = self.faults.last() {
            next = next.min(*at);
        }
        for (at, _) in &self.mends {
            next = next.min(*at);
        }
        for at in self.nodes.iter().filter_map(SimNode::timeout) {
            next = next.min(at);
        }
        for client in &self.clients {
            next = client.machine.poll_timeout().map_or(next, |at| next.min(at));
            if client.current.is_none() && !self.is_finished(client) {
                next = next.min(client.next_at);
            }
        }
        for at in [self.netem.poll_timeout(), self.operator.machine.poll_timeout()] {
            next = at.map_or(next, |at| next.min(at));
        }
        next
    }

    fn is_finished(&self, client: &Client) -> bool {
        self.is_healed
            && client.issued >= self.scenario.operations_per_client
            && client.final_reads.is_empty()
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.netem.poll_deliver(self.now) {
            self.totals.datagrams += 1;
            self.note(delivery.bytes.len() as u64);
            match self.by_address.get(&delivery.to) {
                Some(Place::Node(rank)) => {
                    self.nodes[*rank].receive(delivery.from, delivery.bytes);
                }
                Some(Place::Client(at)) => {
                    let machine = &mut self.clients[*at].machine;
                    machine.handle_datagram(self.now, delivery.from, &delivery.bytes);
                }
                Some(Place::Operator) => {
                    let machine = &mut self.operator.machine;
                    machine.handle_datagram(self.now, delivery.from, &delivery.bytes);
                }
                None => {}
            }
        }
    }

    fn step_nodes(&mut self) -> Result<(), String> {
        for rank in 0..self.nodes.len() {
            if self.nodes[rank].timeout().is_none_or(|at| at > self.now) {
                continue;
            }
            let output = self.nodes[rank].step(self.now)?;
            let (from, id) = (self.nodes[rank].address, self.nodes[rank].id);
            for line in output.traces {
                self.say(|| format!("{id}: {line}"));
            }
            for transmit in output.transmits {
                self.send(from, transmit);
            }
            self.check_agreement(rank)?;
        }
        Ok(())
    }

    /// Two nodes that have applied the same slots are in the same state.
    pub(super) fn check_agreement(&mut self, rank: usize) -> Result<(), String> {
        let Some(replica) = self.nodes[rank].replica() else { return Ok(()) };
        let (slot, digest) = replica.state_digest();
        let first = *self.digests.entry(slot).or_insert(digest);
        if first == digest {
            return Ok(());
        }
        let id = self.nodes[rank].id;
        Err(format!("{id} applied other commands up to {slot} than another node did"))
    }

    fn send(&mut self, from: SocketAddr, transmit: Transmit) {
        for datagram in transmit.contents.chunks(transmit.segment_bytes.max(1)) {
            self.netem.handle_datagram(self.now, from, transmit.to, datagram.to_vec());
        }
    }

    fn step_clients(&mut self) {
        self.operator.step(self.now);
        let from = self.operator.address;
        while let Some(transmit) = self.operator.machine.poll_transmit(self.now) {
            self.send(from, transmit);
        }
        for at in 0..self.clients.len() {
            let now = self.now;
            if self.clients[at].machine.poll_timeout().is_some_and(|due| due <= now) {
                self.clients[at].machine.handle_timeout(now);
            }
            while let Some(completion) = self.clients[at].machine.poll_completion() {
                self.complete(at, completion.served_at, completion.outcome);
            }
            if self.clients[at].current.is_none() && self.clients[at].next_at <= now {
                self.issue(at);
            }
            let from = self.clients[at].address;
            while let Some(transmit) = self.clients[at].machine.poll_transmit(now) {
                self.send(from, transmit);
            }
        }
    }

    fn issue(&mut self, at: usize) {
        let client = &self.clients[at];
        let (key, request) = if client.issued < self.scenario.operations_per_client {
            let key = self.rng.below(self.scenario.key_count);
            (key, self.draw_request(at, key))
        } else if !self.is_healed {
            // Load goes on while faults do.
            let key = self.rng.below(self.scenario.key_count);
            (key, Request::Get)
        } else {
            match self.clients[at].final_reads.pop() {
                Some(key) => (key, Request::Get),
                None => return,
            }
        };
        let name = Bytes::from(format!("key-{key}"));
        let op = match &request {
            Request::Get => Op::Get { key: name },
            Request::Put { digest } => Op::Put { key: name, value: self.value_of(*digest) },
            Request::Delete => Op::Delete { key: name },
            Request::CompareAndSet { expected, digest } => {
                let (expected, value) = (*expected, self.value_of(*digest));
                Op::CompareAndSet { key: name, expected, value }
            }
        };
        let (op, request) = with_digest(op, request);
        let kind = match &request {
            Request::Get => "get",
            Request::Put { .. } => "put",
            Request::Delete => "delete",
            Request::CompareAndSet { .. } => "compare-and-set",
        };
        *self.totals.operations.entry(kind).or_default() += 1;
        let mode = self.draw_mode(at);
        let client = &mut self.clients[at];
        client.issued += 1;
        let submitted = client.machine.submit_read(self.now, 0, op, mode);
        submitted.expect("one operation at a time");
        client.current = Some(Operation {
            client: client.id,
            key,
            request,
            mode,
            invoked: self.now,
            returned: self.now,
            slot: 0,
            outcome: Outcome::Unknown,
        });
    }

    /// The promise of the next read; final reads are strong.
    fn draw_mode(&mut self, at: usize) -> ReadMode {
        if self.clients[at].issued >= self.scenario.operations_per_client {
            return ReadMode::Linearizable;
        }
        match self.rng.below(10) {
            0..4 => ReadMode::Linearizable,
            4..7 => ReadMode::Lease,
            _ => ReadMode::Eventual,
        }
    }

    fn draw_request(&mut self, at: usize, key: u64) -> Request {
        self.next_value += 1;
        let digest = self.next_value;
        match self.rng.below(100) {
            0..35 => Request::Get,
            35..80 => Request::Put { digest },
            80..88 => Request::Delete,
            _ => {
                let known = self.clients[at].versions.get(&key).copied().unwrap_or(0);
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

    fn complete(&mut self, at: usize, served_at: Slot, outcome: ClientOutcome) {
        let think = u64::try_from(self.scenario.think_time.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.rng.below(think.max(1)));
        let client = &mut self.clients[at];
        client.next_at = self.now + pause;
        let Some(mut operation) = client.current.take() else { return };
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
            client.versions.insert(operation.key, version);
        }
        // A final read that got no answer is asked again: nothing may stay unread.
        let is_final = self.is_healed && client.issued > self.scenario.operations_per_client;
        if is_final && version.is_none() && operation.request == Request::Get {
            client.final_reads.push(operation.key);
        }
        if let (Outcome::Written { .. }, Some(down)) = (&operation.outcome, self.aimed) {
            self.aimed = None;
            self.say(|| "fault: all machines lose power".to_owned());
            self.cut_power(down);
        }
        if version.is_some() && !operation.is_eventual() {
            self.note_answer();
        }
        self.note(operation.slot);
        let line = operation.to_string();
        self.say(|| line);
        self.history.operations.push(operation);
    }

    /// The whole history, from outside.
    fn check(&mut self) -> Result<(), String> {
        self.history.check().map_err(|violation| violation.to_string())?;
        let keys: BTreeSet<u64> = self.history.operations.iter().map(|op| op.key).collect();
        for key in keys {
            let operations: Vec<&Operation> = self
                .history
                .operations
                .iter()
                .filter(|op| op.key == key && !op.is_eventual())
                .collect();
            self.totals.searched += 1;
            match search(&operations) {
                Search::Linearizable => {}
                Search::GaveUp => self.totals.gave_up += 1,
                Search::NotLinearizable { stuck } => {
                    let stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
                    let stuck = stuck.join("\n    ");
                    return Err(format!(
                        "no linear order explains key {key}; none can come next of:\n    {stuck}"
                    ));
                }
            }
        }
        for replica in self.nodes.iter().filter_map(SimNode::replica) {
            self.totals.elections += replica.elections_won();
            let status = replica.status(self.now);
            self.totals.rebuilt += status.rebuilt_count;
            self.totals.reclaimed += status.storage.reclaimed_count;
            self.totals.restored += status.storage.restored_count;
            self.totals.repaired += status.storage.repaired_count;
            self.totals.slots = self.totals.slots.max(replica.state_digest().0.0);
        }
        Ok(())
    }

    /// A write or a strong read is answered, or the faults end.
    pub(super) fn note_answer(&mut self) {
        if self.is_healed {
            return;
        }
        let silence = self.last_answer.map_or(Duration::ZERO, |last| self.now.since(last));
        self.totals.longest_silence = self.totals.longest_silence.max(silence);
        self.last_answer = Some(self.now);
    }

    fn note(&mut self, value: u64) {
        let bytes = [self.now.as_nanos().to_le_bytes(), value.to_le_bytes()].concat();
        self.totals.trace_hash = xxh3_64_with_seed(&bytes, self.totals.trace_hash);
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.now.as_nanos() as f64 / 1e9;
            trace(&format!("{at:>10.6} s  {}", line()));
        }
    }
}

/// The history names values by the digest of their bytes.
fn with_digest(op: Op, request: Request) -> (Op, Request) {
    let request = match (&op, request) {
        (Op::Put { value, .. }, Request::Put { .. }) => {
            Request::Put { digest: value_digest(value) }
        }
        (Op::CompareAndSet { value, .. }, Request::CompareAndSet { expected, .. }) => {
            Request::CompareAndSet { expected, digest: value_digest(value) }
        }
        (_, request) => request,
    };
    (op, request)
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

/// Virtual time from the end of all faults until everything must be done.
const LIVENESS_BOUND: Duration = Duration::from_secs(120);
