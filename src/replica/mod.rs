//! One node as one machine: paxos, the state machine, transport and coding behind one edge.
//!
//! A driver (the real node, or the simulator) feeds datagrams, persisted tickets, read results and
//! time, and drains outputs. It owns the log, the socket and the clock. After a burst of inputs it
//! drains [`Replica::poll_output`] to `None`: transmits go out at once, records are appended; then it
//! syncs the log once, calls [`Replica::handle_persisted`] with the last ticket, drains again, and
//! waits for input or [`Replica::poll_timeout`].

mod cache;
pub mod client_machine;
mod clients;
mod image;
mod notices;
mod reads;
mod scrub;
mod sending;
mod snapshots;
mod stages;
mod status;
#[cfg(test)]
mod testing;
mod under_way;

pub use crate::paxos::{CodingTimes, Stopwatch, Ticket};
pub use clients::ControlCaller;
pub use image::{IndexImage, encode_index};
pub use stages::StageTimes;

use crate::coding::Backend;
use crate::config::ClusterConfig;
use crate::kv::{Command, CommandError, Execution, Request, State};
use crate::mutant::{Mutant, breaks, is_any};
use crate::paxos::{self, Envelope, Message, Paxos, RoleName};
use crate::storage::{Recovered, StoredValue};
use crate::time::Instant;
use crate::transport::{Transport, TransportConfig, TransportConfigError, TransportEvent};
use crate::types::{Ballot, Bytes, Content, DecodeError, Epoch, NodeId, Record, Slot, ValueMeta};
use cache::Cache;
use clients::Writes;
use reads::Reads;
use scrub::Scrub;
use snapshots::{Restored, Snapshots};
use stages::Stages;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Who a replica is.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The cluster.
    pub cluster: Arc<ClusterConfig>,
    /// Which node: a member, or a newcomer that the cluster file does not have.
    pub node: NodeId,
    /// How it talks.
    pub transport: TransportConfig,
    /// Build [`Output::Trace`] lines.
    pub is_traced: bool,
    /// Keep what is executed for [`Replica::poll_executed`].
    pub is_observed: bool,
}

/// A slot that was executed: what stood in it and what that did; `None` for what is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The value.
    pub meta: ValueMeta,
    /// What it did.
    pub execution: Option<Execution>,
}

/// Names a read of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub u64);

/// A node that cannot be started.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// The cluster file names no coding backend that exists.
    #[error("cluster file: backend: {reason}")]
    Backend {
        /// What is wrong, and what there is.
        reason: String,
    },
    /// The `[transport]` table is impossible.
    #[error("cluster file: {error}")]
    Transport {
        /// What is wrong.
        error: TransportConfigError,
    },
    /// A recovered command cannot be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The index snapshot is intact and cannot be read.
    #[error(
        "the index snapshot of slot {slot} does not fit this program or cluster file ({error}): \
         start the program that wrote it, or empty the directory and let the node join as a new one"
    )]
    Index {
        /// Of this slot.
        slot: Slot,
        /// What is wrong.
        error: DecodeError,
    },
}

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
    /// Read a part of the log's latest index snapshot and call `handle_index_read`; in order.
    ReadIndex {
        /// Of this slot.
        slot: Slot,
        /// The part, from 0.
        part: u32,
    },
    /// Let the log forget these slots, all at or below `floor` (rule 14).
    Reclaim {
        /// A durable index snapshot covers every slot up to here.
        floor: Slot,
        /// What nobody needs any more.
        slots: Vec<Slot>,
        /// No accepted slot of this node is in doubt.
        is_sound: bool,
    },
    /// Send these datagrams.
    Transmit(crate::transport::Transmit),
    /// Something worth a line in a trace; built only when asked for.
    Trace(String),
    /// A client's command for the driver itself: answer it with `handle_controlled`.
    Control {
        /// Who asked.
        caller: ControlCaller,
        /// What.
        command: Bytes,
    },
}

/// The machine.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    incarnation: u64,
    boot: u64,
    paxos: Paxos,
    state: State,
    transport: Transport,
    cache: Cache,
    writes: Writes,
    reads: Reads,
    stages: Stages,
    /// Where nodes that the log does not name were heard; at most 32.
    strangers: BTreeMap<u8, SocketAddr>,
    /// Who has said that this node's id belongs to another data directory (rule 12), and whether that
    /// was the last it said.
    refused_by: BTreeMap<u8, bool>,
    snapshots: Snapshots,
    scrub: Scrub,
    /// The ballot at which this node led when it last looked.
    led: Option<Ballot>,
    /// Records for the driver; held back until the messages have gone out.
    batch: Option<(Ticket, Vec<Record>)>,
    /// Nothing is to be sent for now.
    room_bytes: usize,
    read_tickets: VecDeque<(ReadTicket, Slot, Reader)>,
    next_read: u64,
    garbage_count: u64,
    is_low: bool,
    traces: VecDeque<String>,
    /// What an operator should know; a handful.
    notices: VecDeque<String>,
    /// What this node was when it last looked.
    stood: paxos::Standing,
    /// Whose members the transport expects.
    expects: Option<Epoch>,
    /// For an observer; empty without one.
    executed: VecDeque<Executed>,
    /// For the driver; a burst of datagrams at most.
    controls: VecDeque<Output>,
}

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Paxos,
    Scrub,
}

impl Replica {
    /// A node with what its log recovered. `seed` is for election timeouts and challenges.
    ///
    /// # Errors
    /// [`ReplicaError`] when the configuration does not fit, or a recovered command cannot be read.
    pub fn new(
        config: ReplicaConfig,
        recovered: Recovered,
        now: Instant,
        seed: u64,
    ) -> Result<Self, ReplicaError> {
        let cluster = Arc::clone(&config.cluster);
        let backend: Backend = cluster
            .backend
            .parse()
            .map_err(|error| ReplicaError::Backend { reason: format!("{error}") })?;
        for entry in &recovered.entries {
            if entry.meta.content() == Content::Command {
                Command::decode(entry.meta.header.clone())?;
            }
        }
        let mut transport = config.transport.clone();
        transport.cluster_id = cluster.cluster;
        transport.validate().map_err(|error| ReplicaError::Transport { error })?;
        let (incarnation, boot) = (recovered.incarnation, recovered.boot);
        // Never the same for two runs of one address (what the transport asks for), never 0.
        let epoch = xxh3_64_with_seed(&boot.to_le_bytes(), incarnation).max(1);
        let (cache_bytes, kept_slots) = (cluster.limits.cache_bytes, cluster.limits.kept_slots);
        let (node, is_traced) = (config.node, config.is_traced);
        let Restored { state, base, snapshots } = Restored::new(&recovered, kept_slots)?;
        let recovered = (recovered, base);
        let mut replica = Self {
            config,
            incarnation,
            boot,
            paxos: Paxos::new(cluster, node, backend, recovered, now, seed, is_traced),
            state,
            transport: Transport::new(transport, epoch, seed),
            cache: Cache::new(cache_bytes),
            writes: Writes::default(),
            reads: Reads::default(),
            stages: Stages::default(),
            strangers: BTreeMap::new(),
            refused_by: BTreeMap::new(),
            snapshots,
            scrub: Scrub::new(now),
            led: None,
            batch: None,
            room_bytes: usize::MAX,
            read_tickets: VecDeque::new(),
            next_read: 0,
            garbage_count: 0,
            is_low: false,
            traces: VecDeque::new(),
            notices: VecDeque::new(),
            stood: paxos::Standing::Member,
            expects: None,
            executed: VecDeque::new(),
            controls: VecDeque::new(),
        };
        replica.advance(now);
        if is_any() {
            replica.state.forget_results();
        }
        Ok(replica)
    }

    /// Takes in one datagram; garbage is counted.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.transport.handle_datagram(now, from, bytes);
        self.handle_events(now);
        self.advance(now);
    }

    /// Everything up to `ticket` is durable.
    pub fn handle_persisted(&mut self, now: Instant, ticket: Ticket) {
        self.stages.persisted(now, ticket);
        self.paxos.handle_persisted(now, ticket);
        self.persist_parts();
        self.advance(now);
    }

    /// The answer to [`Output::ReadIndex`]: how many parts there are and the one asked for; `None`
    /// when it is gone or damaged. In the order in which they were asked for.
    pub fn handle_index_read(&mut self, now: Instant, part: Option<(u32, Bytes)>) {
        self.paxos.handle_index_read(part);
        self.advance(now);
    }

    /// The answer to [`Output::Read`]: `None` when the slot's record is gone or unreadable. Reads are
    /// answered in the order in which they were asked for.
    pub fn handle_read(&mut self, now: Instant, ticket: ReadTicket, stored: Option<StoredValue>) {
        let Some((expected, slot, reader)) = self.read_tickets.pop_front() else { return };
        assert_eq!(ticket, expected, "reads are answered in order");
        // Up to the floor the log may hold what was never chosen: only the state knows what was.
        let floor = self.paxos.floor();
        let stored = stored.filter(|stored| slot > floor || self.state.is_current(&stored.meta));
        match reader {
            Reader::Paxos => {
                if let Some(stored) = stored.as_ref().filter(|stored| !stored.damaged.is_empty()) {
                    self.scrub_soon(now, stored);
                }
                self.paxos.handle_read(now, slot, stored);
            }
            Reader::Scrub => self.handle_scrubbed(now, slot, stored),
        }
        self.advance(now);
    }

    /// Free disk space is below the reserve (or above it again).
    pub fn handle_space(&mut self, _now: Instant, is_low: bool) {
        self.is_low = is_low;
        self.paxos.handle_space(is_low);
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        self.handle_events(now);
        self.tell_under_way(now);
        self.paxos.handle_timeout(now);
        self.tick_reads(now);
        self.tick_scrub(now);
        self.advance(now);
    }

    /// The next thing to do, or `None`. Datagrams come before records, so that the others work while
    /// this node syncs; the scrub's reads come after them.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(line) = self.traces.pop_front() {
            return Some(Output::Trace(line));
        }
        if let Some(control) = self.controls.pop_front() {
            return Some(control);
        }
        if let Some(reclaim) = self.snapshots.poll_reclaim(&mut self.paxos) {
            return Some(reclaim);
        }
        while self.batch.is_none() {
            match self.paxos.poll_output(now) {
                Some(paxos::Output::Send { to, message }) => self.send(now, to, message),
                Some(paxos::Output::Persist { ticket, records }) => {
                    self.batch = Some((ticket, records));
                }
                Some(paxos::Output::Read { slot }) => return Some(self.read(slot, Reader::Paxos)),
                Some(paxos::Output::ReadIndex { slot, part }) => {
                    return Some(Output::ReadIndex { slot, part });
                }
                Some(paxos::Output::Trace(line)) => return Some(Output::Trace(line)),
                None => break,
            }
            // What was sent to oneself, or released, may have chosen something.
            self.advance(now);
        }
        if self.room_bytes > 0
            && let Some(transmit) = self.transport.poll_transmit_within(now, self.room_bytes)
        {
            return Some(Output::Transmit(transmit));
        }
        let ticket = self.batch.as_ref().map(|(ticket, _)| *ticket);
        self.stages.drained(now, &self.transport, ticket);
        if let Some((ticket, records)) = self.batch.take() {
            return Some(Output::Persist { ticket, records });
        }
        // Behind the records: where one is still to be written the scrub would find it lost.
        self.scrub.poll_read().map(|slot| self.read(slot, Reader::Scrub))
    }

    /// Whoever sends takes about so many bytes now: what is more waits, and what is small goes first.
    /// Invariant: what waits for the driver makes [`Self::poll_timeout`] due no
    /// earlier; the driver knows when it takes more, and drains then.
    pub const fn hold_transmits(&mut self, room_bytes: usize) {
        self.room_bytes = room_bytes;
    }

    /// The next slot that was executed, for an observer; see [`ReplicaConfig::is_observed`].
    pub fn poll_executed(&mut self) -> Option<Executed> {
        self.executed.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut at = self.paxos.poll_timeout();
        let transport = &self.transport;
        let is_held = self.room_bytes == 0;
        let sends = if is_held { transport.next_timer() } else { transport.poll_timeout() };
        let others = [sends, self.reads_timeout(), self.scrub_timeout()];
        for other in others.into_iter().flatten() {
            at = at.min(other);
        }
        Some(at)
    }

    fn read(&mut self, slot: Slot, reader: Reader) -> Output {
        self.next_read += 1;
        let ticket = ReadTicket(self.next_read);
        self.read_tickets.push_back((ticket, slot, reader));
        Output::Read { ticket, slot }
    }

    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                TransportEvent::Message { from, bytes } => self.handle_message(now, from, bytes),
                TransportEvent::PeerRestarted { peer } => {
                    if let Some(node) = self.node_at(peer) {
                        self.paxos.handle_peer_restarted(now, node);
                    }
                }
                TransportEvent::Unreachable { peer } => {
                    self.trace(|| format!("{peer} does not answer"));
                }
            }
        }
    }

    fn handle_message(&mut self, now: Instant, from: SocketAddr, bytes: Bytes) {
        let is_taken = match bytes.first() {
            Some(&Envelope::KIND) => match Envelope::decode(bytes) {
                Ok(envelope) => self.handle_envelope(now, from, envelope),
                Err(_) => false,
            },
            Some(&Request::KIND) => match Request::decode(bytes) {
                Ok(request) => {
                    self.handle_request(now, from, request);
                    true
                }
                Err(_) => false,
            },
            Some(_) | None => false,
        };
        if !is_taken {
            self.garbage_count += 1;
        }
    }

    /// False for a message that is not from where its sender lives, or not of the data directory that
    /// has its id (rule 12). A stranger is let in: paxos asks it who it is.
    fn handle_envelope(&mut self, now: Instant, from: SocketAddr, envelope: Envelope) -> bool {
        let Envelope { from: node, incarnation, message } = envelope;
        if node == self.config.node {
            return false;
        }
        match self.paxos.address(node.0) {
            Some(address) if address != from => return false,
            Some(_) => {}
            None => {
                self.strangers.insert(node.0, from);
            }
        }
        match self.paxos.other_directory(node, incarnation) {
            Some(known) if !breaks(Mutant::AcceptsLostIdentity) => {
                self.trace(|| format!("refuse {node}: its data directory is another one now"));
                if !matches!(message, Message::Refused { .. }) {
                    self.send(now, node.0, Message::Refused { incarnation: known });
                }
                return false;
            }
            Some(_) | None => self.paxos.meet(node, incarnation),
        }
        if let Message::Refused { incarnation } = message {
            if incarnation != self.incarnation {
                // Told once: who refuses this node may send it heartbeats all the same.
                if self.refused_by.insert(node.0, true).is_none() {
                    self.notice_refused(node);
                }
                self.trace(|| format!("refused by {node}: this id has another data directory"));
            }
            return true;
        }
        if let Some(is_last) = self.refused_by.get_mut(&node.0) {
            *is_last = false;
        }
        self.paxos.handle_message(now, node.0, message);
        true
    }

    /// The node that lives at `address`.
    fn node_at(&self, address: SocketAddr) -> Option<u8> {
        (0..32).find(|node| self.paxos.address(*node) == Some(address))
    }

    /// Does everything that the last input has made possible.
    fn advance(&mut self, now: Instant) {
        self.apply_chosen(now);
        self.notice_standing();
        self.expect_members();
        self.take_in_restored(now);
        self.paxos.handle_repair(self.snapshots.is_repair_outstanding());
        let led = (self.paxos.role() == RoleName::Leader).then(|| self.paxos.promised());
        if led != self.led {
            self.led = led;
            self.drop_writes(now);
            self.drop_unconfirmed(now);
        }
        self.advance_reads(now);
        self.propose_waiting(now);
        self.advance_snapshots(now);
    }

    fn expect_members(&mut self) {
        let epoch = Some(self.paxos.epoch().epoch);
        if self.expects != epoch {
            self.expects = epoch;
            let addresses = (0..32).filter_map(|node| self.paxos.address(node));
            self.transport.expect(addresses.collect());
        }
    }

    fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.config.is_traced {
            self.traces.push_back(line());
        }
    }

    /// Panics when a relation between fields is broken.
    pub fn check_invariants(&self) {
        self.paxos.check_invariants();
        self.transport.check_invariants();
        self.state.check_invariants();
        self.cache.check_invariants();
        let limits = &self.config.cluster.limits;
        self.writes.check_invariants(limits);
        self.reads.check_invariants(limits);
        self.snapshots.check_invariants();
        assert_eq!(self.state.applied(), self.paxos.applied(), "applied and not executed");
    }
}
