//! One simulated node: a replica, its log on a simulated disk, and the driver loop of a real node.
//!
//! As there, the loop is busy while it syncs: what arrives waits.

use super::Plant;
use crate::config::ClusterConfig;
use crate::mutant;
use crate::replica::{Output, Replica, ReplicaConfig, Ticket};
use crate::rng::Rng;
use crate::storage::{Log, LogOptions, SimDisk};
use crate::time::{Duration, Instant};
use crate::transport::{Transmit, TransportConfig};
use crate::types::NodeId;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) struct SimNode {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    cluster: Arc<ClusterConfig>,
    transport: TransportConfig,
    disk: SimDisk,
    running: Option<Running>,
    pub(super) paused_until: Option<Instant>,
    sync_time: Duration,
    plant: Plant,
    is_traced: bool,
    pub(super) boots: u64,
    rng: Rng,
}

struct Running {
    replica: Replica,
    log: Log<SimDisk>,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// The sync under way: when it ends and what it covers.
    syncing: Option<(Instant, Ticket)>,
}

/// What a step of a node wants done outside.
#[derive(Default)]
pub(super) struct StepOutput {
    pub(super) transmits: Vec<Transmit>,
    pub(super) traces: Vec<String>,
}

impl SimNode {
    pub(super) fn new(
        cluster: &Arc<ClusterConfig>,
        id: NodeId,
        transport: TransportConfig,
        sync_time: Duration,
        plant: Plant,
        is_traced: bool,
        rng: Rng,
    ) -> Self {
        let address = cluster.address(id).expect("the scenario's own member");
        Self {
            id,
            address,
            cluster: Arc::clone(cluster),
            transport,
            disk: SimDisk::new(),
            running: None,
            paused_until: None,
            sync_time,
            plant,
            is_traced,
            boots: 0,
            rng,
        }
    }

    pub(super) const fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn replica(&self) -> Option<&Replica> {
        self.running.as_ref().map(|running| &running.replica)
    }

    /// Starts the process from what the disk holds.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), String> {
        let options = LogOptions {
            cluster: self.cluster.cluster,
            node: self.id,
            segment_bytes: 64 << 10,
            ..LogOptions::default()
        };
        let incarnation = self.rng.next_u64() | 1;
        let (log, recovered) = Log::open(self.disk.clone(), options, incarnation)
            .map_err(|error| format!("{} cannot open its log: {error}", self.id))?;
        let config = ReplicaConfig {
            cluster: Arc::clone(&self.cluster),
            node: self.id,
            transport: self.transport.clone(),
            is_traced: self.is_traced,
        };
        let replica = Replica::new(config, recovered, now, self.rng.next_u64())
            .map_err(|error| format!("{} cannot start: {error}", self.id))?;
        self.boots += 1;
        self.running = Some(Running { replica, log, inbox: VecDeque::new(), syncing: None });
        Ok(())
    }

    /// The process dies; with `is_power_cut` the machine does too.
    pub(super) fn stop(&mut self, is_power_cut: bool) {
        self.running = None;
        self.paused_until = None;
        if is_power_cut {
            self.disk.power_cut(&mut self.rng);
        } else {
            self.disk.crash(&mut self.rng);
        }
    }

    pub(super) fn set_space_low(&mut self, now: Instant, is_low: bool) {
        if let Some(running) = &mut self.running {
            running.replica.handle_space(now, is_low);
        }
    }

    pub(super) fn receive(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if let Some(running) = &mut self.running
            && running.inbox.len() < INBOX_MAX
        {
            running.inbox.push_back((from, bytes));
        }
    }

    /// When the node next wants to run.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        let at = match running.syncing {
            Some((done_at, _)) => done_at,
            None if !running.inbox.is_empty() => Instant::ZERO,
            None => running.replica.poll_timeout()?,
        };
        Some(self.paused_until.map_or(at, |until| at.max(until)))
    }

    /// One turn of the driver's loop.
    pub(super) fn step(&mut self, now: Instant) -> Result<StepOutput, String> {
        let mut output = StepOutput::default();
        if self.paused_until.is_some_and(|until| now < until) {
            return Ok(output);
        }
        self.paused_until = None;
        let id = self.id;
        let failed = |error: &dyn std::fmt::Display| format!("{id}: {error}");
        let Some(running) = &mut self.running else { return Ok(output) };
        if let Some((done_at, ticket)) = running.syncing {
            if now < done_at {
                return Ok(output);
            }
            running.log.sync().map_err(|error| failed(&error))?;
            running.syncing = None;
            running.log.compact(16 << 10).map_err(|error| failed(&error))?;
            running.replica.handle_persisted(now, ticket);
        }
        while let Some((from, bytes)) = running.inbox.pop_front() {
            running.replica.handle_datagram(now, from, &bytes);
        }
        if running.replica.poll_timeout().is_some_and(|at| at <= now) {
            running.replica.handle_timeout(now);
        }
        let mut pending = None;
        while let Some(wanted) = running.replica.poll_output(now) {
            match wanted {
                Output::Transmit(transmit) => output.transmits.push(transmit),
                Output::Persist { ticket, records } => {
                    running.log.append(&records).map_err(|error| failed(&error))?;
                    if self.plant == Plant::AckBeforeSync {
                        running.replica.handle_persisted(now, ticket);
                    }
                    pending = Some(ticket);
                }
                Output::Read { ticket, slot } => {
                    // A slot that cannot be read is a damaged one; the machine repairs it.
                    let stored = running.log.read(slot).map_err(|error| failed(&error))?;
                    running.replica.handle_read(now, ticket, stored);
                }
                Output::ReadIndex { slot, part } => {
                    let part =
                        running.log.read_index_part(slot, part).map_err(|error| failed(&error))?;
                    running.replica.handle_index_read(now, part);
                }
                Output::Reclaim { floor, slots, is_sound } => {
                    let result = running.log.reclaim(floor, &slots, is_sound);
                    result.map_err(|error| failed(&error))?;
                }
                Output::Trace(line) => output.traces.push(line),
                // The simulator's faults need no requests.
                Output::Control { .. } => {}
            }
        }
        if let Some(ticket) = pending {
            let micros = u64::try_from(self.sync_time.as_micros()).unwrap_or(u64::MAX);
            let took = Duration::from_micros(self.rng.range(20, micros.max(20)));
            running.syncing = Some((now + took, ticket));
        }
        // A broken rule is for the checkers outside to find.
        if !mutant::is_any() {
            running.replica.check_invariants();
        }
        Ok(output)
    }
}

/// A socket's buffer.
const INBOX_MAX: usize = 4096;
