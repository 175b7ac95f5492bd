//! The event loop in virtual time: nodes, clients, network and faults of one seed.
//!
//! Whoever has something to do has a due time; the world jumps to the earliest. Due times are kept
//! and renewed when their owner was touched, so that idle time costs nothing.

use super::agreed::{Agreed, Scan};
use super::faults::{LinkTroubles, Mend};
use super::load::{Client, Current, Session};
use super::lost::LostDirectory;
use super::members::Plans;
use super::moments::{Aimed, Seen};
use super::node::{NodeConfig, Pace, SEGMENT_BYTES, SimNode};
use super::operator::Operator;
use super::rot::RotBooks;
use super::scenario::{Plant, Scenario, card};
use super::stage::{Missing, Patience, Stage};
use super::totals::Totals;
use super::{Failure, TraceSink, fault::Fault};
use crate::config::ClusterConfig;
use crate::history::History;
use crate::netem::{Netem, NetemConfig, NodeOverride};
use crate::replica::Replica;
use crate::replica::client_machine::{ClientConfig, ClientMachine};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::transport::Transmit;
use crate::types::Slot;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Instant,
    pub(super) rng: Rng,
    pub(super) nodes: Vec<SimNode>,
    /// When each node wants to run.
    nodes_due: Vec<Instant>,
    pub(super) clients: Vec<Client>,
    /// When each client wants to run.
    clients_due: Vec<Instant>,
    pub(super) operator: Operator,
    pub(super) plans: Plans,
    pub(super) lost: Vec<LostDirectory>,
    by_address: BTreeMap<SocketAddr, Place>,
    pub(super) netem: Netem,
    pub(super) faults: Vec<(Instant, Fault)>,
    pub(super) mends: Vec<(Instant, Mend)>,
    /// Aimed at moments that have not come yet.
    pub(super) waiting_for: Vec<Aimed>,
    pub(super) seen: Vec<Option<Seen>>,
    pub(super) stage: Stage,
    pub(super) patience: Patience,
    /// Who is missing while the others go on.
    pub(super) missing: Vec<Missing>,
    /// The power goes when the next write is acknowledged, for so long.
    pub(super) aimed: Option<Duration>,
    /// Per directed pair of ranks.
    pub(super) troubles: BTreeMap<(usize, usize), LinkTroubles>,
    pub(super) rot: RotBooks,
    pub(super) history: History,
    pub(super) scans: Vec<Scan>,
    pub(super) agreed: Agreed,
    /// Digest of the state after each slot, as first seen on any node.
    pub(super) digests: BTreeMap<Slot, u64>,
    /// What was last compared with it, by rank.
    pub(super) checked_at: Vec<(Slot, u64)>,
    pub(super) next_value: u64,
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
        let mut rng = Rng::new(seed ^ 0x5EED);
        let cluster = Arc::new(scenario.cluster.clone());
        let transport = scenario.transport();
        let mut by_address = BTreeMap::new();
        let nodes: Vec<SimNode> = (0..cluster.members.len())
            .map(|rank| {
                let member = &cluster.members[rank];
                by_address.insert(member.address, Place::Node(rank));
                let config = NodeConfig {
                    cluster: scenario.cluster_of(rank, &cluster),
                    transport: transport.clone(),
                    pace: Pace::Drawn(scenario.sync_time),
                    segment_bytes: SEGMENT_BYTES,
                    plant,
                    is_traced: trace.is_some(),
                    id: member.id,
                    address: member.address,
                    clock: scenario.clocks.get(rank).copied().unwrap_or_default(),
                };
                SimNode::new(config, rng.fork())
            })
            .collect();
        let clients = Self::new_clients(&scenario, &cluster, &mut by_address, &mut rng);
        let operator = Operator::new(&scenario, transport, rng.next_u64());
        by_address.insert(operator.address, Place::Operator);
        let slow = card(scenario.card_mbit);
        let cards =
            nodes.iter().map(|node| NodeOverride { node: node.address, card: slow.clone() });
        let cards = cards.collect();
        let config = NetemConfig { link: scenario.link.clone(), cards, ..NetemConfig::default() };
        let faults = scenario.faults.iter();
        Self {
            now: Instant::ZERO,
            nodes_due: vec![Instant::ZERO; nodes.len()],
            checked_at: vec![(Slot::ZERO, 0); nodes.len()],
            seen: vec![None; nodes.len()],
            nodes,
            clients_due: vec![Instant::ZERO; clients.len()],
            clients,
            operator,
            plans: Plans::new(scenario.nodes_to_spare()),
            lost: Vec::new(),
            by_address,
            netem: Netem::new(config, rng.next_u64()),
            faults: faults.rev().map(|(at, f)| (Instant::ZERO + *at, f.clone())).collect(),
            mends: Vec::new(),
            waiting_for: Vec::new(),
            stage: Stage::Faulty,
            patience: Patience::of(Stage::Faulty, Instant::ZERO),
            missing: Vec::new(),
            aimed: None,
            troubles: BTreeMap::new(),
            rot: RotBooks::new(scenario.nodes_to_spare()),
            history: History::default(),
            scans: Vec::new(),
            agreed: Agreed::default(),
            digests: BTreeMap::new(),
            next_value: 0,
            last_answer: None,
            totals: Totals::default(),
            trace,
            rng,
            scenario,
        }
    }

    fn new_clients(
        scenario: &Scenario,
        cluster: &Arc<ClusterConfig>,
        by_address: &mut BTreeMap<SocketAddr, Place>,
        rng: &mut Rng,
    ) -> Vec<Client> {
        let transport = scenario.transport();
        (0..scenario.client_count)
            .map(|id| {
                let last = u8::try_from(id + 1).expect("a handful of clients");
                let address = SocketAddr::from(([10, 0, 1, last], 9000));
                let at = usize::try_from(id).expect("a handful of clients");
                by_address.insert(address, Place::Client(at));
                let sessions = scenario.sessions_per_client.max(1);
                let count = usize::try_from(sessions).expect("a handful of sessions");
                let mut config = ClientConfig::new(Arc::clone(cluster), transport.clone(), count);
                config.attempt_timeout = scenario.attempt_timeout;
                config.operation_timeout = Duration::from_millis(rng.range(800, 6000));
                let session = |index: u64| Session {
                    id: id * sessions + index,
                    current: None,
                    next_at: Instant::ZERO,
                    versions: BTreeMap::new(),
                };
                Client {
                    address,
                    machine: ClientMachine::new(config.clone(), id + 1, rng.next_u64()),
                    config,
                    starts: 1,
                    sessions: (0..sessions).map(session).collect(),
                    issued: 0,
                    demands: Vec::new(),
                }
            })
            .collect()
    }

    fn run(&mut self) -> Result<(), String> {
        for rank in 0..self.nodes.len() {
            if self.nodes[rank].start(self.now)?.is_some() {
                return Err("a new disk gave up".to_owned());
            }
            self.touch(rank);
        }
        let heal_at = Instant::ZERO + self.scenario.heal_at;
        while !self.is_over() {
            let next = self.next_event(heal_at);
            assert!(next < NEVER, "nothing will ever happen");
            self.now = self.now.max(next);
            self.check_progress()?;
            self.work_faults(heal_at)?;
            self.deliver();
            self.step_nodes()?;
            self.step_clients();
            self.look_at_members()?;
            self.advance_stage()?;
        }
        self.totals.virtual_time = self.now.since(Instant::ZERO);
        self.netem.check_invariants();
        Ok(())
    }

    pub(super) fn waiting(&self) -> String {
        let clients: Vec<String> = self
            .clients
            .iter()
            .flat_map(|client| &client.sessions)
            .filter_map(|session| match session.current.as_ref()? {
                Current::Key(operation) => Some(operation.to_string()),
                Current::Scan(scan) => Some(format!("{scan:?}")),
            })
            .collect();
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| {
                let Some(replica) = node.replica() else { return format!("{} down", node.id) };
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
        let mut next = if self.is_healed() { NEVER } else { heal_at };
        next = next.min(self.plans.timeout());
        if let Some((at, _)) = self.faults.last() {
            next = next.min(*at);
        }
        for (at, _) in &self.mends {
            next = next.min(*at);
        }
        for at in self.nodes_due.iter().chain(&self.clients_due) {
            next = next.min(*at);
        }
        for at in [self.netem.poll_timeout(), self.operator.machine.poll_timeout()] {
            next = at.map_or(next, |at| next.min(at));
        }
        next
    }

    /// A machine more, as the last rank.
    pub(super) fn add_place(&mut self, rank: usize, address: SocketAddr) {
        self.by_address.insert(address, Place::Node(rank));
        self.nodes_due.push(NEVER);
        self.checked_at.push((Slot::ZERO, 0));
        self.seen.push(None);
    }

    /// A node's due time may have changed.
    pub(super) fn touch(&mut self, rank: usize) {
        self.nodes_due[rank] = self.nodes[rank].timeout().unwrap_or(NEVER);
    }

    /// All clients may have something new to ask.
    pub(super) fn clients_are_due(&mut self) {
        self.clients_due.fill(self.now);
    }

    fn touch_client(&mut self, at: usize) {
        let client = &self.clients[at];
        let mut due = client.machine.poll_timeout().unwrap_or(NEVER);
        let is_finished = self.is_healed()
            && client.issued >= self.scenario.operations_per_client
            && client.demands.is_empty();
        for session in client.sessions.iter().filter(|_| !is_finished) {
            if session.current.is_none() {
                due = due.min(session.next_at);
            }
        }
        self.clients_due[at] = due;
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.netem.poll_deliver(self.now) {
            self.totals.datagrams += 1;
            self.note(delivery.bytes.len() as u64);
            match self.by_address.get(&delivery.to) {
                Some(Place::Node(rank)) => {
                    let rank = *rank;
                    self.nodes[rank].receive(delivery.from, delivery.bytes);
                    self.touch(rank);
                }
                Some(Place::Client(at)) => {
                    let machine = &mut self.clients[*at].machine;
                    machine.handle_datagram(self.now, delivery.from, &delivery.bytes);
                    self.clients_due[*at] = self.now;
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
            if self.nodes_due[rank] > self.now {
                continue;
            }
            self.totals.steps += 1;
            let room = self.netem.card_room(self.now, self.nodes[rank].address);
            let output = self.nodes[rank].step(self.now, room)?;
            if output.is_late {
                self.totals.note_effect("pause");
            }
            let (from, id) = (self.nodes[rank].address, self.nodes[rank].id);
            for line in output.traces {
                self.say(|| format!("{id}: {line}"));
            }
            for transmit in output.transmits {
                self.send(from, transmit);
            }
            self.check_agreement(rank)?;
            self.check_lost(rank)?;
            self.look_for_moments(rank);
            if let Some(death) = output.death {
                self.die(rank, death);
            }
            self.touch(rank);
        }
        Ok(())
    }

    fn send(&mut self, from: SocketAddr, transmit: Transmit) {
        for datagram in transmit.contents.chunks(transmit.segment_bytes.max(1)) {
            self.netem.handle_datagram(self.now, from, transmit.to, datagram.to_vec());
        }
    }

    fn step_clients(&mut self) {
        self.operator.step(self.now);
        if let Some(answer) = self.operator.answer.take() {
            self.plans.handle_answer(&answer);
        }
        let from = self.operator.address;
        while let Some(transmit) = self.operator.machine.poll_transmit(self.now) {
            self.send(from, transmit);
        }
        let now = self.now;
        for at in 0..self.clients.len() {
            if self.clients_due[at] > now {
                continue;
            }
            if self.clients[at].machine.poll_timeout().is_some_and(|due| due <= now) {
                self.clients[at].machine.handle_timeout(now);
            }
            while let Some(completion) = self.clients[at].machine.poll_completion() {
                self.complete(at, completion);
            }
            self.issue(at);
            let from = self.clients[at].address;
            while let Some(transmit) = self.clients[at].machine.poll_transmit(now) {
                self.send(from, transmit);
            }
            self.clients[at].machine.check_invariants();
            self.touch_client(at);
        }
    }

    /// The rank of whoever leads, as far as it thinks so itself; of the last one to do so.
    pub(super) fn leader_rank(&self) -> usize {
        let leads = |node: &SimNode| node.replica().is_some_and(Replica::is_leader);
        self.nodes.iter().rposition(leads).unwrap_or(0)
    }

    pub(super) fn note(&mut self, value: u64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.now.as_nanos().to_le_bytes());
        bytes[8..].copy_from_slice(&value.to_le_bytes());
        self.totals.trace_hash = xxh3_64_with_seed(&bytes, self.totals.trace_hash);
    }

    pub(super) const fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.now.as_nanos() as f64 / 1e9;
            trace(&format!("{at:>10.6} s  {}", line()));
        }
    }
}

pub(super) const NEVER: Instant = Instant::from_nanos(u64::MAX);
