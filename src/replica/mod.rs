//! One node as one machine: paxos, the state machine, transport and coding behind one edge.
//!
//! A driver (the real node, or the simulator) feeds datagrams, persisted tickets, read results and
//! time, and drains outputs. It owns the log, the socket and the clock. After a burst of inputs it
//! drains [`Replica::poll_output`] to `None`: transmits go out at once, records are appended; then it
//! syncs the log once, calls [`Replica::handle_persisted`] with the last ticket, drains again, and
//! waits for input or [`Replica::poll_timeout`].

pub mod client_machine;

use crate::config::ClusterConfig;
use crate::kv::NodeStatus;
use crate::storage::{Recovered, StoredValue};
use crate::time::Instant;
use crate::transport::{TransportConfig, TransportStats};
use crate::types::{NodeId, Record, Slot};
use std::net::SocketAddr;
use std::sync::Arc;

/// Who a replica is.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The cluster.
    pub cluster: Arc<ClusterConfig>,
    /// Which member.
    pub node: NodeId,
    /// How it talks.
    pub transport: TransportConfig,
    /// Build [`Output::Trace`] lines.
    pub is_traced: bool,
}

/// Names a batch of records; later tickets are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names a read of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub u64);

/// What a replica asks of its driver.
#[derive(Debug)]
pub enum Output {
    /// Append these and, once they are durable, call `handle_persisted(ticket)`; a later ticket
    /// covers all earlier ones.
    Persist {
        /// Names the batch.
        ticket: Ticket,
        /// To append, in order; never empty.
        records: Vec<Record>,
    },
    /// Read what the log holds for a slot and call `handle_read`.
    Read {
        /// Names the read.
        ticket: ReadTicket,
        /// The slot.
        slot: Slot,
    },
    /// Send these datagrams.
    Transmit(crate::transport::Transmit),
    /// Something worth a line in a trace; built only when asked for.
    Trace(String),
}

/// The machine.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
}

impl Replica {
    /// A node with what its log recovered. `seed` is for election timeouts and challenges.
    ///
    /// # Errors
    /// A text when the recovered commands cannot be executed (a log of another version).
    pub fn new(
        config: ReplicaConfig,
        _recovered: Recovered,
        _now: Instant,
        _seed: u64,
    ) -> Result<Self, String> {
        Ok(Self { config })
    }

    /// Takes in one datagram; garbage is counted.
    pub fn handle_datagram(&mut self, _now: Instant, _from: SocketAddr, _bytes: &[u8]) {}

    /// Everything up to `ticket` is durable.
    pub fn handle_persisted(&mut self, _now: Instant, _ticket: Ticket) {}

    /// The answer to [`Output::Read`]: `None` when the slot's record is gone or unreadable.
    pub fn handle_read(
        &mut self,
        _now: Instant,
        _ticket: ReadTicket,
        _stored: Option<StoredValue>,
    ) {
    }

    /// Free disk space is below the reserve (or above it again).
    pub fn handle_space(&mut self, _now: Instant, _is_low: bool) {}

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing to do, or `None`.
    pub fn poll_output(&mut self, _now: Instant) -> Option<Output> {
        None
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The node's account of itself.
    #[must_use]
    pub fn status(&self, _now: Instant) -> NodeStatus {
        unimplemented!("{}", self.config.node)
    }

    /// Counters of the transport.
    #[must_use]
    pub fn transport_stats(&self) -> TransportStats {
        TransportStats::default()
    }

    /// A digest of the applied state (keys, versions, sessions), equal on all nodes that have
    /// applied the same slots; with the slot it stands at.
    #[must_use]
    pub fn state_digest(&self) -> (Slot, u64) {
        (Slot::ZERO, 0)
    }

    /// Panics when a relation between fields is broken.
    pub fn check_invariants(&self) {}
}
