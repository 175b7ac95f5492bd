//! One node process: a single thread that feeds the replica and does what it asks.
//!
//! A turn takes in every waiting datagram and due timer, sends what the replica has to send,
//! appends what it has to persist, syncs once for all of that, and waits. Messages that speak of
//! unsynced state are inside the replica until then, so nothing here can send them early. A failed
//! write or sync ends the process (rule 9).

use super::clock::{self, Clock};
use super::control::NetemControl;
use super::log::{LogFailure, NodeLog};
use super::process;
use super::report::{NodeReport, ReportError};
use super::socket::{NodeSocket, SocketConfig, SocketError};
use super::tables::{self, TableError};
use super::timer::Timer;
use crate::config::ClusterConfig;
use crate::netem::Netem;
use crate::replica::{Output, Replica, ReplicaConfig, ReplicaError, Ticket};
use crate::time::{Duration, Instant};
use crate::types::NodeId;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Which node to run, and where.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The cluster.
    pub cluster: Arc<ClusterConfig>,
    /// Which node.
    pub node: NodeId,
    /// Where a newcomer listens, which the cluster file does not have.
    pub address: Option<SocketAddr>,
    /// Its data directory; made when it does not exist.
    pub data_dir: PathBuf,
    /// Print a line per event to standard error.
    pub is_traced: bool,
}

/// Why a node did not start, or stopped.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Not of this cluster.
    #[error(
        "node {node} is not in the cluster file, which has {known}; a newcomer is started with \
         --address IP:PORT and let in with 'distkv admin add-node' or 'replace-node'"
    )]
    NoSuchNode {
        /// The id given.
        node: u8,
        /// The ids there are.
        known: String,
    },
    /// A table of the cluster file is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The socket cannot be had.
    #[error("{node}: {source}")]
    Socket {
        /// The node.
        node: NodeId,
        /// Why.
        source: SocketError,
    },
    /// The data directory cannot be used.
    #[error("{node}: data directory {dir}: {reason}")]
    Data {
        /// The node.
        node: NodeId,
        /// The directory.
        dir: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The replica cannot start.
    #[error("{node}: {source}")]
    Replica {
        /// The node.
        node: NodeId,
        /// Why, and what to do.
        source: ReplicaError,
    },
    /// The log failed.
    #[error("{node}: {source}; it recovers what it had answered at its next start")]
    Log {
        /// The node.
        node: NodeId,
        /// What failed.
        source: LogFailure,
    },
    /// The system refuses a timer, a signal handler or the socket's readiness.
    #[error("{node}: {source}")]
    System {
        /// The node.
        node: NodeId,
        /// What it says.
        source: std::io::Error,
    },
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Runs a node until it gets SIGTERM or SIGINT.
///
/// # Errors
/// [`NodeError`] when it cannot start, or its log fails.
pub fn run(options: NodeOptions) -> Result<(), NodeError> {
    let node = options.node;
    let system = move |source| NodeError::System { node, source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(system)?;
    runtime.block_on(async { Server::start(options)?.serve().await })
}

struct Server {
    options: NodeOptions,
    clock: Clock,
    socket: NodeSocket,
    log: NodeLog,
    replica: Replica,
    timer: Timer,
    signals: Signals,
    control: NetemControl,
    reserve_bytes: u64,
    space_due: Instant,
    appended_bytes: usize,
    /// The card takes nothing more until then.
    held_until: Option<Instant>,
    reports_written: u64,
    turns: u64,
}

/// The signals that a node listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    report: Signal,
}

/// Why a wait ended.
enum Wake {
    Input,
    Stop,
    Report,
}

impl Server {
    fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let (cluster, node) = (&options.cluster, options.node);
        let system = move |source| NodeError::System { node, source };
        let Some(address) = cluster.address(node).or(options.address) else {
            let ids: Vec<String> = cluster.members.iter().map(|m| m.id.0.to_string()).collect();
            return Err(NodeError::NoSuchNode { node: node.0, known: ids.join(", ") });
        };
        let transport = tables::transport_config(cluster)?;
        let reserve_bytes = tables::reserve_bytes(cluster)?;
        let netem = tables::netem_config(cluster)?
            .map(|(config, seed)| Netem::new(config, seed ^ (u64::from(node.0) << 32)));
        let is_allowed = tables::is_netem_control_allowed(cluster)?;
        let control = NetemControl::new(Arc::clone(cluster), node, address, is_allowed);
        // The address first: a second process for this node must not touch its data.
        let socket = NodeSocket::bind(address, SocketConfig::default(), netem)
            .map_err(|source| NodeError::Socket { node, source })?;
        let signals = Signals {
            terminate: signal(SignalKind::terminate()).map_err(system)?,
            interrupt: signal(SignalKind::interrupt()).map_err(system)?,
            report: signal(SignalKind::user_defined1()).map_err(system)?,
        };
        let (log, recovered) = NodeLog::open(cluster, node, &options.data_dir)
            .map_err(|reason| data_error(&options, reason))?;
        let clock = Clock::new();
        let config = ReplicaConfig {
            cluster: Arc::clone(cluster),
            node,
            transport,
            is_traced: options.is_traced,
            is_observed: false,
        };
        let boot = recovered.boot;
        let now = clock.now();
        let mut replica = Replica::new(config, recovered, now, process::random_u64())
            .map_err(|source| NodeError::Replica { node, source })?;
        replica.measure_stages(clock::nanos);
        let data = options.data_dir.display();
        say(
            std::io::stdout(),
            format_args!("{node} listens on {address}, data in {data}, start {boot}"),
        );
        Ok(Self {
            timer: Timer::new().map_err(system)?,
            space_due: now,
            options,
            clock,
            socket,
            log,
            replica,
            signals,
            control,
            reserve_bytes,
            appended_bytes: 0,
            held_until: None,
            reports_written: 0,
            turns: 0,
        })
    }

    async fn serve(mut self) -> Result<(), NodeError> {
        loop {
            self.turn()?;
            match self.wait().await? {
                Wake::Input => {}
                // A disk that is full may end no node.
                Wake::Report => {
                    if let Err(error) = self.write_report() {
                        say(std::io::stderr(), format_args!("{}: {error}", self.options.node));
                    }
                }
                Wake::Stop => {
                    self.turn()?;
                    self.write_report()?;
                    say(std::io::stdout(), format_args!("{} stops", self.options.node));
                    return Ok(());
                }
            }
        }
    }

    /// Takes in what waits, and does everything that follows from it.
    fn turn(&mut self) -> Result<(), NodeError> {
        self.turns += 1;
        let node = self.options.node;
        // The time is read after the datagram: nothing is judged by one from before a pause.
        let (clock, replica, control) = (self.clock, &mut self.replica, &self.control);
        self.socket.recv_batch(|from, bytes| {
            if !control.is_cut_from(from) {
                replica.handle_datagram(clock.now(), from, bytes);
            }
        });
        let now = self.clock.now();
        if self.replica.poll_timeout().is_some_and(|due| due <= now) {
            self.replica.handle_timeout(now);
        }
        if now >= self.space_due || self.appended_bytes >= SPACE_CHECK_BYTES {
            self.check_space(now);
        }
        let failed = |source| NodeError::Log { node, source };
        let mut is_synced = false;
        // What the kernel did not take goes first.
        self.socket.flush();
        while let Some(ticket) = self.drain()? {
            self.log.sync().map_err(failed)?;
            is_synced = true;
            self.replica.handle_persisted(self.clock.now(), ticket);
        }
        while let Some(notice) = self.replica.poll_notice() {
            say(std::io::stderr(), format_args!("{node}: {notice}"));
        }
        self.socket.deliver_due(self.clock.now());
        self.socket.flush();
        if let Some((to, bytes)) = self.socket.take_too_large() {
            say(
                std::io::stderr(),
                format_args!(
                    "{node}: a datagram of {bytes} bytes is too large for the network to {to}, and \
                     is lost each time: set datagram_bytes in [transport] of the cluster file, \
                     1472 on Ethernet, 1452 there with IPv6"
                ),
            );
        }
        if is_synced {
            // Moved together in step with what is written, at most as much again; nobody waits.
            self.log.compact().map_err(failed)?;
        }
        Ok(())
    }

    /// Does what the replica asks until it asks nothing more; gives the last ticket to persist.
    fn drain(&mut self) -> Result<Option<Ticket>, NodeError> {
        let mut last = None;
        let node = self.options.node;
        let failed = move |source| NodeError::Log { node, source };
        self.hold(self.clock.now());
        loop {
            let now = self.clock.now();
            let Some(output) = self.replica.poll_output(now) else { return Ok(last) };
            match output {
                Output::Transmit(transmit) => {
                    self.socket.send(now, transmit);
                    self.hold(now);
                }
                Output::Persist { ticket, records } => {
                    self.appended_bytes += records.iter().map(record_bytes).sum::<usize>();
                    self.log.append(&records).map_err(failed)?;
                    last = Some(ticket);
                }
                Output::Read { ticket, slot } => {
                    let stored = self.log.read(slot).map_err(failed)?;
                    self.replica.handle_read(now, ticket, stored);
                }
                Output::ReadIndex { slot, part } => {
                    let part = self.log.read_index_part(slot, part).map_err(failed)?;
                    self.replica.handle_index_read(now, part);
                }
                Output::Reclaim { floor, slots, is_sound } => {
                    self.log.reclaim(floor, &slots, is_sound).map_err(failed)?;
                }
                Output::Control { caller, command } => {
                    let answer = self.control.handle(self.socket.netem_mut(), &command);
                    self.replica.handle_controlled(now, caller, answer);
                }
                Output::Trace(text) => {
                    let millis = now.as_nanos() as f64 / 1e6;
                    let node = self.options.node;
                    say(std::io::stderr(), format_args!("{millis:.3} {node} {text}"));
                }
            }
        }
    }

    /// Lets the replica send while the card, emulated or real, takes what it is given.
    fn hold(&mut self, now: Instant) {
        let room = self.socket.room(now);
        self.held_until = (room.bytes == 0).then_some(room.ready_at);
        self.replica.hold_transmits(if self.socket.has_queued() { 0 } else { room.bytes });
    }

    async fn wait(&mut self) -> Result<Wake, NodeError> {
        let node = self.options.node;
        let system = move |source| NodeError::System { node, source };
        let timers = [
            self.replica.poll_timeout(),
            self.socket.poll_timeout(),
            self.held_until,
            Some(self.space_due),
        ];
        let deadline = timers.into_iter().flatten().min().map(|at| self.clock.system(at));
        let woken = tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => return Ok(Wake::Stop),
            _ = self.signals.interrupt.recv() => return Ok(Wake::Stop),
            _ = self.signals.report.recv() => return Ok(Wake::Report),
            woken = self.socket.readable() => woken,
            woken = self.socket.writable() => woken,
            woken = self.timer.wait(deadline) => woken,
        };
        woken.map_err(system)?;
        Ok(Wake::Input)
    }

    /// Tells the replica whether free space is below the reserve.
    fn check_space(&mut self, now: Instant) {
        self.space_due = now + SPACE_CHECK_INTERVAL;
        self.appended_bytes = 0;
        if let Some(free_bytes) = self.log.free_bytes() {
            self.replica.handle_space(now, free_bytes < self.reserve_bytes);
        }
    }

    fn write_report(&mut self) -> Result<(), NodeError> {
        self.reports_written += 1;
        let now = self.clock.now();
        let usage = process::usage(None);
        let (digest_slot, digest) = self.replica.state_digest();
        let (cache_hits, cache_misses) = self.replica.cache_counts();
        let mut report = NodeReport {
            reports_written: self.reports_written,
            pid: std::process::id(),
            uptime_seconds: now.since(Instant::ZERO).as_secs_f64(),
            cpu_seconds: usage.cpu_seconds,
            peak_rss_bytes: usage.peak_rss_bytes,
            turns: self.turns,
            datagrams_sent: 0,
            bytes_sent: 0,
            bytes_received: 0,
            bytes_retransmitted: 0,
            garbage_datagrams: 0,
            datagrams_dropped: self.socket.stats().datagrams_dropped,
            send_errors: self.socket.stats().send_errors,
            log: self.log.report(),
            stages: self.replica.stage_times(),
            coding: self.replica.coding_times(),
            cache_hits,
            cache_misses,
            digest_slot: digest_slot.0,
            state_digest: format!("{digest:016x}"),
            status: self.replica.status(now),
        };
        report.set_transport(&self.replica.transport_stats());
        Ok(report.write(&self.options.data_dir)?)
    }
}

fn data_error(options: &NodeOptions, reason: String) -> NodeError {
    NodeError::Data { node: options.node, dir: options.data_dir.display().to_string(), reason }
}

fn record_bytes(record: &crate::types::Record) -> usize {
    use crate::types::Record;
    match record {
        Record::Accept { shards, .. } => shards.iter().map(|shard| shard.bytes.len()).sum(),
        Record::Index { bytes, .. } => bytes.len(),
        Record::Promise { .. }
        | Record::Chosen { .. }
        | Record::Floor { .. }
        | Record::Peer { .. } => 0,
    }
}

const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Free space is looked at after so many bytes of shards, too.
const SPACE_CHECK_BYTES: usize = 8 << 20;

/// Prints a line. Where it cannot be printed (the disk behind it is full, the pipe is closed) the node
/// goes on.
fn say(mut to: impl std::io::Write, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(to, "{line}");
}
