//! The client machine on a socket and a clock, on the caller's thread.

use crate::config::ClusterConfig;
use crate::kv::Op;
use crate::node::clock::Clock;
use crate::node::process::random_u64;
use crate::node::socket::{NodeSocket, SocketConfig, SocketError};
use crate::node::tables::{TableError, transport_config};
use crate::node::timer::Timer;
use crate::replica::client_machine::{ClientConfig, ClientMachine, Completion, SubmitError, Token};
use crate::types::{Bytes, NodeId, ReadMode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// A client that cannot start or go on.
#[derive(Debug, Error)]
pub enum DriverError {
    /// A table of the cluster file is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// No socket.
    #[error("client: {0}")]
    Socket(#[from] SocketError),
    /// The runtime or the timer fails.
    #[error("client: {0}")]
    System(#[from] std::io::Error),
}

/// Drives one [`ClientMachine`]; all of its sessions live on the caller's thread.
#[derive(Debug)]
pub struct ClientDriver {
    runtime: tokio::runtime::Runtime,
    io: Io,
}

#[derive(Debug)]
struct Io {
    socket: NodeSocket,
    timer: Timer,
    clock: Clock,
    machine: ClientMachine,
    /// Nodes that nothing reaches from here, nor here from there.
    cut: Vec<SocketAddr>,
}

impl ClientDriver {
    /// `sessions` sessions with `cluster`; operations end after `operation_timeout`.
    ///
    /// # Errors
    /// [`DriverError`] when there is no socket to be had, or the cluster file is wrong.
    pub fn new(
        cluster: &Arc<ClusterConfig>,
        sessions: usize,
        operation_timeout: Duration,
    ) -> Result<Self, DriverError> {
        Self::with(cluster, sessions, |config| {
            config.operation_timeout = operation_timeout;
            config.attempt_timeout = config.attempt_timeout.min(operation_timeout);
        })
    }

    /// `sessions` sessions with `cluster`, with other times than the usual.
    ///
    /// # Errors
    /// [`DriverError`] when there is no socket to be had, or the cluster file is wrong.
    pub fn with(
        cluster: &Arc<ClusterConfig>,
        sessions: usize,
        change: impl FnOnce(&mut ClientConfig),
    ) -> Result<Self, DriverError> {
        let transport = transport_config(cluster)?;
        let mut config = ClientConfig::new(Arc::clone(cluster), transport, sessions);
        change(&mut config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let first = cluster.members.first().map(|member| member.address);
        let any = SocketAddr::from(match first {
            Some(address) if address.ip().is_loopback() => (address.ip(), 0),
            Some(SocketAddr::V6(_)) => (std::net::Ipv6Addr::UNSPECIFIED.into(), 0),
            Some(SocketAddr::V4(_)) | None => (std::net::Ipv4Addr::UNSPECIFIED.into(), 0),
        });
        let (socket, timer) = {
            let _guard = runtime.enter();
            (NodeSocket::bind(any, SocketConfig::default(), None)?, Timer::new()?)
        };
        let machine = ClientMachine::new(config, random_u64(), random_u64());
        let io = Io { socket, timer, clock: Clock::new(), machine, cut: Vec::new() };
        Ok(Self { runtime, io })
    }

    /// What the reads that follow promise.
    pub fn set_read_mode(&mut self, mode: ReadMode) {
        self.io.machine.set_read_mode(mode);
    }

    /// From now on nothing is sent to these nodes, and nothing of them is heard: the client is on the
    /// other side of a partition. An empty list heals it.
    pub fn set_cut(&mut self, nodes: &[NodeId]) {
        let known = self.io.machine.known_nodes().iter();
        let cut = known.filter(|member| nodes.contains(&member.id)).map(|member| member.address);
        self.io.cut = cut.collect();
    }

    /// Starts an operation; it is sent by the next [`Self::wait`].
    ///
    /// # Errors
    /// [`SubmitError`] when the session has its window full.
    pub fn submit(&mut self, session_index: usize, op: Op) -> Result<Token, SubmitError> {
        self.io.machine.submit(self.io.clock.now(), session_index, op)
    }

    /// Asks one node for its status, which it has so long to tell.
    ///
    /// # Errors
    /// [`SubmitError`] when the session has its window full, or there is no such node.
    pub fn submit_status(
        &mut self,
        session_index: usize,
        node: NodeId,
        patience: Duration,
    ) -> Result<Token, SubmitError> {
        self.io.machine.submit_status(self.io.clock.now(), session_index, node, patience)
    }

    /// Gives one node's driver a command.
    ///
    /// # Errors
    /// [`SubmitError`] when the session has its window full, or there is no such node.
    pub fn submit_control(
        &mut self,
        session_index: usize,
        node: NodeId,
        command: Bytes,
    ) -> Result<Token, SubmitError> {
        self.io.machine.submit_control(self.io.clock.now(), session_index, node, command)
    }

    /// Sends and receives until at least one operation has ended, or `deadline`; gives each
    /// completion to `handle`.
    ///
    /// # Errors
    /// [`DriverError::System`] when the runtime fails.
    pub fn wait(
        &mut self,
        deadline: Instant,
        handle: impl FnMut(Completion),
    ) -> Result<(), DriverError> {
        Ok(self.runtime.block_on(self.io.wait(deadline, handle))?)
    }

    /// The machine, to look at.
    #[must_use]
    pub const fn machine(&self) -> &ClientMachine {
        &self.io.machine
    }
}

impl Drop for ClientDriver {
    /// What came last is acknowledged: nodes would send it again and again to a port that is gone, and
    /// keep a place in their tables for it meanwhile.
    fn drop(&mut self) {
        let _guard = self.runtime.enter();
        let then = self.io.clock.now() + LEAVE;
        self.io.machine.handle_timeout(then);
        self.io.send(then);
    }
}

impl Io {
    async fn wait(
        &mut self,
        deadline: Instant,
        mut handle: impl FnMut(Completion),
    ) -> std::io::Result<()> {
        let deadline = self.clock.instant(deadline);
        loop {
            self.turn();
            let mut is_any = false;
            while let Some(completion) = self.machine.poll_completion() {
                handle(completion);
                is_any = true;
            }
            if is_any || self.clock.now() >= deadline {
                return Ok(());
            }
            let due = self.machine.poll_timeout().map_or(deadline, |due| due.min(deadline));
            let due = self.clock.system(due);
            tokio::select! {
                biased;
                woken = self.socket.readable() => woken?,
                woken = self.socket.writable() => woken?,
                woken = self.timer.wait(Some(due)) => woken?,
            }
        }
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        let (machine, cut) = (&mut self.machine, &self.cut);
        self.socket.recv_batch(|from, bytes| {
            if !cut.contains(&from) {
                machine.handle_datagram(now, from, bytes);
            }
        });
        let now = self.clock.now();
        if self.machine.poll_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        self.send(now);
    }

    fn send(&mut self, now: crate::time::Instant) {
        while let Some(transmit) = self.machine.poll_transmit(now) {
            if !self.cut.contains(&transmit.to) {
                self.socket.send(now, transmit);
            }
        }
        self.socket.flush();
    }
}

/// Longer than an acknowledgement is held.
const LEAVE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Member, Policy};
    use crate::kv::{Outcome, Request, Response};
    use crate::replica::client_machine::ClientOutcome;
    use crate::transport::{Transport, TransportEvent};
    use crate::types::{Code, Slot};
    use std::net::UdpSocket;

    /// A node that knows no keys.
    struct Node {
        socket: UdpSocket,
        transport: Transport,
        clock: Clock,
        client: Option<SocketAddr>,
    }

    impl Node {
        /// Takes in a datagram, if one comes, and answers what it asks.
        fn turn(&mut self) {
            let mut buffer = [0; 65_536];
            let Ok((bytes, from)) = self.socket.recv_from(&mut buffer) else { return };
            let now = self.clock.now();
            self.client = Some(from);
            self.transport.handle_datagram(now, from, &buffer[..bytes]);
            while let Some(event) = self.transport.poll_event() {
                let TransportEvent::Message { from, bytes } = event else { continue };
                let Request { session, sequence, op, .. } = Request::decode(bytes).unwrap();
                if !matches!(op, Op::Get { .. }) {
                    continue;
                }
                let (served_at, outcome) = (Slot(1), Outcome::NotFound);
                let reply = Response { session, sequence, served_at, outcome }.encode();
                self.transport.send(now, from, &reply).unwrap();
            }
            while let Some(transmit) = self.transport.poll_transmit(now) {
                for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                    self.socket.send_to(datagram, transmit.to).unwrap();
                }
            }
        }

        fn unacknowledged(&self) -> usize {
            let stats = self.client.and_then(|client| self.transport.peer_stats(client));
            stats.expect("it has spoken").queued_messages
        }
    }

    #[test]
    fn the_last_answer_is_acknowledged_by_a_client_that_ends() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let members = vec![Member { id: NodeId(0), address }];
        let code = Code::new(1, 0).unwrap();
        let cluster = ClusterConfig::new(1, Policy::Replicate, code, members).unwrap();
        let cluster = Arc::new(cluster);
        let transport = Transport::new(transport_config(&cluster).unwrap(), 7, 7);
        let mut node = Node { socket, transport, clock: Clock::new(), client: None };

        let mut driver = ClientDriver::new(&cluster, 1, Duration::from_secs(60)).unwrap();
        // At the first the client asks for the members, too: that acknowledges the answer.
        let mut outcomes = Vec::new();
        for count in 1..=2 {
            driver.submit(0, Op::Get { key: Bytes::from_static(b"key") }).unwrap();
            while outcomes.len() < count {
                let soon = Instant::now() + Duration::from_millis(1);
                driver.wait(soon, |completion| outcomes.push(completion.outcome)).unwrap();
                if outcomes.len() < count {
                    node.turn();
                }
            }
        }
        assert_eq!(outcomes, [const { ClientOutcome::Done(Outcome::NotFound) }; 2]);
        drop(driver);
        // What was sent before the end is there by now.
        for _ in 0..100 {
            if node.unacknowledged() == 0 {
                return;
            }
            node.turn();
        }
        panic!("the node would send its answer again and again");
    }
}
