//! A cluster measured in virtual time: the same replicas, logs, transport and client machine, with
//! what each turn, sync and datagram costs.
//!
//! It finds no faults and checks no history (that is the swarm of seeds); it says how fast. A node
//! takes in what waits when its thread gets a core, as a real one does, so that batches form by
//! themselves; it is busy while it computes and while it syncs. Not modelled: caches, interrupts,
//! other processes, the noise of a real disk. Same configuration, same seed: the same result.

mod costs;
mod machine;
mod network;
#[cfg(test)]
mod tests;

pub use costs::{Costs, Placement};

use super::Plant;
use super::clock::ClockSetting;
use super::node::{NodeConfig, Pace, SimNode, StepOutput};
use super::world::NEVER;
use crate::config::ClusterConfig;
use crate::kv::{NodeStatus, Op, Role};
use crate::netem::{LinkConfig, Netem};
use crate::replica::client_machine::{ClientConfig, ClientMachine, Completion, SubmitError};
use crate::rng::Rng;
use crate::storage::LogUsage;
use crate::time::{Duration, Instant};
use crate::transport::{Transmit, TransportConfig, TransportStats};
use crate::types::{NodeId, ReadMode};
use costs::{Work, micros_of};
use machine::Machine;
use network::{Cut, network};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is measured.
#[derive(Clone, Debug)]
pub struct TimedConfig {
    /// The cluster; its durability decides whether syncs take time.
    pub cluster: Arc<ClusterConfig>,
    /// How nodes and clients talk.
    pub transport: TransportConfig,
    /// What every link between two nodes does.
    pub link: LinkConfig,
    /// What each node sends at most, in Mbit/s; 0 is no limit.
    pub rate_mbit: f64,
    /// Length of a log segment.
    pub segment_bytes: u32,
    /// What things cost.
    pub costs: Costs,
    /// Where the nodes run.
    pub placement: Placement,
    /// Sessions of the one client.
    pub sessions: usize,
    /// An operation ends after this, done or not.
    pub operation_timeout: Duration,
    /// Of everything that is drawn.
    pub seed: u64,
}

/// What a node has used since its start.
#[derive(Clone, Debug, Default)]
pub struct NodeUsage {
    /// CPU time.
    pub cpu: Duration,
    /// Turns of its loop.
    pub turns: u64,
    /// Counters of its transport.
    pub transport: TransportStats,
    /// What its log holds and has done.
    pub log: LogUsage,
}

/// A cluster and its client.
pub struct TimedCluster {
    config: TimedConfig,
    now: Instant,
    machines: Vec<Machine>,
    nodes: Vec<Timed>,
    client: Load,
    by_address: BTreeMap<SocketAddr, usize>,
    netem: Netem,
    /// Computed and not yet on the wire, by time and order.
    outbox: BinaryHeap<Reverse<(Instant, u64)>>,
    parcels: BTreeMap<u64, (SocketAddr, Vec<Transmit>)>,
    parcels_made: u64,
    cut: Cut,
}

struct Timed {
    node: SimNode,
    machine: usize,
    /// When it wants to run.
    due: Instant,
    /// Its process stands still: what comes waits.
    is_paused: bool,
    busy_until: Instant,
    cpu: Duration,
    turns: u64,
}

struct Load {
    machine: ClientMachine,
    address: SocketAddr,
    due: Instant,
    busy_until: Instant,
    cpu: Duration,
    work: Work,
}

impl TimedCluster {
    /// Starts every node on an empty disk.
    ///
    /// # Errors
    /// A node that cannot start, or impossible costs.
    pub fn start(config: TimedConfig) -> Result<Self, String> {
        config.costs.validate()?;
        let mut rng = Rng::new(config.seed ^ 0x007E_57ED);
        let members = &config.cluster.members;
        let machine_count = match config.placement {
            Placement::Shared { .. } => 1,
            Placement::Apart => members.len(),
        };
        let cores = match config.placement {
            Placement::Shared { cores } => usize::try_from(cores).unwrap_or(1),
            Placement::Apart => 2,
        };
        let address = SocketAddr::from(([10, 255, 0, 1], 9000));
        let mut by_address = BTreeMap::new();
        let mut nodes = Vec::new();
        for (rank, member) in members.iter().enumerate() {
            by_address.insert(member.address, rank);
            let node = NodeConfig {
                cluster: Arc::clone(&config.cluster),
                transport: config.transport.clone(),
                pace: Pace::Told,
                segment_bytes: config.segment_bytes,
                plant: Plant::None,
                is_traced: false,
                id: member.id,
                address: member.address,
                clock: ClockSetting::default(),
            };
            let mut node = SimNode::new(node, rng.fork());
            if node.start(Instant::ZERO)?.is_some() {
                return Err(format!("{}: an empty disk gave up", member.id));
            }
            nodes.push(Timed {
                node,
                machine: rank.min(machine_count - 1),
                due: Instant::ZERO,
                is_paused: false,
                busy_until: Instant::ZERO,
                cpu: Duration::ZERO,
                turns: 0,
            });
        }
        let mut client = ClientConfig::new(
            Arc::clone(&config.cluster),
            config.transport.clone(),
            config.sessions,
        );
        client.operation_timeout = config.operation_timeout;
        client.attempt_timeout = client.attempt_timeout.min(config.operation_timeout);
        let client = Load {
            machine: ClientMachine::new(client, 1, rng.next_u64()),
            address,
            due: Instant::ZERO,
            busy_until: Instant::ZERO,
            cpu: Duration::ZERO,
            work: Work::default(),
        };
        let machines = vec![Machine::new(cores, &config.costs); machine_count];
        let cut = Cut::default();
        let netem = Netem::new(network(&config, &cut, address), rng.next_u64());
        Ok(Self {
            config,
            now: Instant::ZERO,
            machines,
            nodes,
            client,
            by_address,
            netem,
            outbox: BinaryHeap::new(),
            parcels: BTreeMap::new(),
            parcels_made: 0,
            cut,
        })
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Submits an operation for a session.
    ///
    /// # Errors
    /// [`SubmitError`] when it has one outstanding, or does not exist.
    pub fn submit(&mut self, session: usize, op: Op, mode: ReadMode) -> Result<(), SubmitError> {
        let bytes = match &op {
            Op::Put { value, .. } | Op::CompareAndSet { value, .. } => value.len() as u64,
            Op::Get { .. }
            | Op::Delete { .. }
            | Op::Scan { .. }
            | Op::OpenSession
            | Op::Status
            | Op::Control { .. }
            | Op::Admin(_) => 0,
        };
        self.client.machine.submit_read(self.now, session, op, mode)?;
        self.client.work.operations += 1;
        self.client.work.operation_bytes += bytes;
        self.client.due = self.now.max(self.client.busy_until);
        Ok(())
    }

    /// Lets time pass until an operation has ended, or until `deadline`.
    ///
    /// # Errors
    /// What a log or a node cannot go on with.
    pub fn run_until(&mut self, deadline: Instant) -> Result<Option<Completion>, String> {
        loop {
            if let Some(completion) = self.client.machine.poll_completion() {
                return Ok(Some(completion));
            }
            let next = self.next_event();
            if next > deadline {
                self.now = self.now.max(deadline);
                return Ok(None);
            }
            self.now = self.now.max(next);
            self.post();
            self.deliver();
            self.step_nodes()?;
            self.step_client();
        }
    }

    /// The node that leads, when one does: by the highest ballot, since one that is cut off or paused
    /// may not have heard of its successor.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.statuses().into_iter().filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.ballot).map(|status| NodeId(status.node))
    }

    /// What each node says of itself.
    #[must_use]
    pub fn statuses(&self) -> Vec<NodeStatus> {
        let replicas = self.nodes.iter().filter_map(|timed| timed.node.replica());
        replicas.map(|replica| replica.status(self.now)).collect()
    }

    /// What a node has used.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Option<NodeUsage> {
        let timed = self.nodes.iter().find(|timed| timed.node.id == node)?;
        Some(NodeUsage {
            cpu: timed.cpu,
            turns: timed.turns,
            transport: timed.node.replica()?.transport_stats(),
            log: timed.node.log_usage()?,
        })
    }

    /// CPU time of the client.
    #[must_use]
    pub const fn client_cpu(&self) -> Duration {
        self.client.cpu
    }

    /// The node's process dies; what it had handed to the disk stays.
    pub fn kill(&mut self, node: NodeId) {
        if let Some(timed) = self.nodes.iter_mut().find(|timed| timed.node.id == node) {
            timed.node.stop(false);
            (timed.due, timed.is_paused) = (NEVER, false);
        }
    }

    /// The node's process stands still, until [`Self::resume`].
    pub fn pause(&mut self, node: NodeId) {
        if let Some(timed) = self.nodes.iter_mut().find(|timed| timed.node.id == node) {
            (timed.due, timed.is_paused) = (NEVER, true);
        }
    }

    /// Whoever was paused goes on.
    pub fn resume(&mut self) {
        for timed in self.nodes.iter_mut().filter(|timed| timed.is_paused) {
            (timed.due, timed.is_paused) = (self.now.max(timed.busy_until), false);
        }
    }

    /// Cuts the nodes of `side` off from the others, and the client from `unreached`; what was cut
    /// before is healed.
    pub fn part(&mut self, side: Vec<NodeId>, unreached: Vec<NodeId>) {
        self.cut = Cut { side, from_client: unreached };
        self.set_network(self.config.link.clone(), self.config.rate_mbit);
    }

    /// Starts a node that was killed.
    ///
    /// # Errors
    /// When its log cannot be opened.
    pub fn restart(&mut self, node: NodeId) -> Result<(), String> {
        let now = self.now;
        if let Some(timed) = self.nodes.iter_mut().find(|timed| timed.node.id == node)
            && !timed.node.is_up()
        {
            timed.node.start(now)?;
            (timed.due, timed.busy_until) = (now, now);
        }
        Ok(())
    }

    /// The network from now on: what every link between two nodes does, and what each node sends at
    /// most.
    pub fn set_network(&mut self, link: LinkConfig, rate_mbit: f64) {
        (self.config.link, self.config.rate_mbit) = (link, rate_mbit);
        let wanted = network(&self.config, &self.cut, self.client.address);
        for link in &wanted.links {
            if let (Some(from), Some(to)) = (link.from, link.to) {
                self.netem.set_link(from, to, link.link.clone());
            }
        }
        for timed in &self.nodes {
            self.netem.set_card(timed.node.address, &wanted.card);
        }
    }

    fn next_event(&self) -> Instant {
        let mut next = self.client.due;
        for timed in &self.nodes {
            next = next.min(timed.due);
        }
        if let Some(Reverse((at, _))) = self.outbox.peek() {
            next = next.min(*at);
        }
        self.netem.poll_timeout().map_or(next, |at| next.min(at))
    }

    /// Hands to the network what is computed by now.
    fn post(&mut self) {
        while let Some(Reverse((at, number))) = self.outbox.peek().copied() {
            if at > self.now {
                return;
            }
            self.outbox.pop();
            let Some((from, transmits)) = self.parcels.remove(&number) else { continue };
            for transmit in transmits {
                for datagram in transmit.contents.chunks(transmit.segment_bytes.max(1)) {
                    self.netem.handle_datagram(at, from, transmit.to, datagram.to_vec());
                }
            }
        }
    }

    fn pack(&mut self, at: Instant, from: SocketAddr, transmits: Vec<Transmit>) {
        if !transmits.is_empty() {
            self.outbox.push(Reverse((at, self.parcels_made)));
            self.parcels.insert(self.parcels_made, (from, transmits));
            self.parcels_made += 1;
        }
    }

    fn deliver(&mut self) {
        let wake = micros_of(self.config.costs.wake_us);
        while let Some(delivery) = self.netem.poll_deliver(self.now) {
            let Some(rank) = self.by_address.get(&delivery.to) else {
                let client = &mut self.client;
                client.machine.handle_datagram(self.now, delivery.from, &delivery.bytes);
                client.due = client.due.min((self.now + wake).max(client.busy_until));
                continue;
            };
            let timed = &mut self.nodes[*rank];
            timed.node.receive(delivery.from, delivery.bytes);
            if timed.is_paused {
                continue;
            }
            // A thread that sleeps must wake; one at work looks again when it is done.
            let wanted = timed.node.timeout().unwrap_or(NEVER);
            let ready =
                if timed.busy_until >= self.now { timed.busy_until } else { self.now + wake };
            timed.due = timed.due.min(wanted.max(ready));
        }
    }

    fn step_nodes(&mut self) -> Result<(), String> {
        for rank in 0..self.nodes.len() {
            let timed = &mut self.nodes[rank];
            if timed.due > self.now {
                continue;
            }
            let free_at = self.machines[timed.machine].free_at();
            if free_at > self.now {
                timed.due = free_at;
                continue;
            }
            let room = self.netem.card_room(self.now, timed.node.address);
            let output = timed.node.step(self.now, room)?;
            self.charge(rank, output);
        }
        Ok(())
    }

    /// What a turn took, and when what came of it goes out.
    fn charge(&mut self, rank: usize, output: StepOutput) {
        let costs = self.config.costs;
        let is_durable = self.config.cluster.durability == "sync";
        let timed = &mut self.nodes[rank];
        let datagrams = |transmit: &Transmit| {
            transmit.contents.len().div_ceil(transmit.segment_bytes.max(1)) as u64
        };
        let sent: usize = output.transmits.iter().map(|transmit| transmit.contents.len()).sum();
        let span = costs.turn(Work {
            datagrams_sent: output.transmits.iter().map(datagrams).sum(),
            network_bytes: output.received.1 + sent as u64,
            disk_bytes: output.appended_bytes,
            syncs: u64::from(output.has_sync && is_durable),
            ..Work::default()
        });
        let machine = &mut self.machines[timed.machine];
        let end = machine.compute(self.now, span);
        timed.busy_until = end;
        timed.cpu += span;
        timed.turns += 1;
        if output.has_sync {
            let done =
                if is_durable { machine.sync(end, output.appended_bytes, &costs) } else { end };
            timed.node.end_sync_at(done);
        }
        timed.due = timed.node.timeout().unwrap_or(NEVER).max(end);
        let from = timed.node.address;
        self.pack(end, from, output.transmits);
    }

    fn step_client(&mut self) {
        let is_shared = matches!(self.config.placement, Placement::Shared { .. });
        if self.client.due > self.now {
            return;
        }
        if is_shared && self.machines[0].free_at() > self.now {
            self.client.due = self.machines[0].free_at();
            return;
        }
        let now = self.now;
        let client = &mut self.client;
        if client.machine.poll_timeout().is_some_and(|due| due <= now) {
            client.machine.handle_timeout(now);
        }
        let mut transmits = Vec::new();
        while let Some(transmit) = client.machine.poll_transmit(now) {
            transmits.push(transmit);
        }
        let work = std::mem::take(&mut client.work);
        let mut end = now;
        if is_shared && work.operations > 0 {
            // What an operation costs has all of it: its datagrams, its turn, its bytes.
            let costs = Costs { turn_us: 0.0, ..self.config.costs };
            let span = costs.turn(work);
            client.cpu += span;
            end = self.machines[0].compute(now, span);
        }
        client.busy_until = end;
        client.due = client.machine.poll_timeout().unwrap_or(NEVER).max(end);
        let from = client.address;
        self.pack(end, from, transmits);
    }
}
