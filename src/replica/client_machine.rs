//! A client as one machine: sessions, sequence numbers, retries and the search for the leader.
//!
//! Many logical clients (sessions) share one transport, so that one thread drives them all, in the
//! simulator as in a process. It does not wait, and it knows no workload. A request keeps its
//! (session, sequence) over all its attempts, so that a write is applied once; when the cluster has
//! forgotten the session, a write of which an attempt is unaccounted for ends as unknown, never as
//! failed. Reads need no session: they carry session 0 and a sequence unique to the machine.
//!
//! Invariants: every operation ends by exactly one [`Completion`], at its deadline at the latest; at
//! most one attempt of it is in flight; the sequences that a session has in flight span less than
//! `limits.session_window`. Source: DESIGN 3.5; RIFL (Lee et al., SOSP'15) for the window of results.

mod attempts;
mod members;
mod operation;
mod replies;
mod session;
#[cfg(test)]
mod tests;

pub use operation::{ClientOutcome, Completion, Token};

use crate::config::{ClusterConfig, Member};
use crate::kv::{Op, Response};
use crate::rng::Rng;
use crate::time::{Duration, Instant};
use crate::transport::{PeerStats, TransportStats};
use crate::transport::{Transmit, Transport, TransportConfig, TransportEvent};
use crate::types::{Bytes, NodeId, ReadMode, Slot};
use operation::Operation;
use session::Session;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;

/// What a client machine is told.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The cluster; its limits bound keys, values and windows.
    pub cluster: Arc<ClusterConfig>,
    /// How it talks; `cluster_id` must be the cluster's.
    pub transport: TransportConfig,
    /// Logical clients.
    pub sessions: usize,
    /// An attempt without a reply is given up after this, and another node is asked.
    pub attempt_timeout: Duration,
    /// An operation ends after this, done or not.
    pub operation_timeout: Duration,
    /// The first wait after a refusal; it doubles, with jitter, up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest wait after a refusal.
    pub backoff_max: Duration,
    /// What reads promise, unless they are submitted with another mode.
    pub read_mode: ReadMode,
}

impl ClientConfig {
    /// `sessions` clients of `cluster`, with times that suit a local network.
    #[must_use]
    pub fn new(cluster: Arc<ClusterConfig>, transport: TransportConfig, sessions: usize) -> Self {
        Self {
            cluster,
            transport,
            sessions,
            attempt_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(250),
            read_mode: ReadMode::default(),
        }
    }
}

/// Why an operation was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SubmitError {
    /// There is no such session.
    #[error("session {index} does not exist: there are {sessions}")]
    NoSession {
        /// The index asked for.
        index: usize,
        /// Sessions of the machine.
        sessions: usize,
    },
    /// The session has as many operations outstanding as it may.
    #[error("session {index} has {outstanding} operations outstanding: wait for a completion")]
    WindowFull {
        /// The session.
        index: usize,
        /// What it has outstanding.
        outstanding: usize,
    },
    /// Not a member of the cluster.
    #[error("{node} is not a node of the cluster")]
    NoNode {
        /// The node asked for.
        node: NodeId,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Operations taken.
    pub submitted: u64,
    /// Ended by an answer.
    pub done: u64,
    /// Ended without one.
    pub unknown: u64,
    /// Refused for good.
    pub failed: u64,
    /// Requests sent.
    pub attempts: u64,
    /// Attempts given up without a reply.
    pub attempts_lost: u64,
    /// Refusals that led to another attempt.
    pub refusals: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions that the cluster no longer knew.
    pub sessions_lost: u64,
    /// Messages that were no reply of a member to anything asked.
    pub garbage_messages: u64,
}

/// The machine. Feed it, then drain [`Self::poll_transmit`] and [`Self::poll_completion`] to `None`,
/// then wait until [`Self::poll_timeout`].
#[derive(Debug)]
pub struct ClientMachine {
    config: ClientConfig,
    transport: Transport,
    rng: Rng,
    sessions: Vec<Session>,
    operations: BTreeMap<Token, Operation>,
    /// What a reply names, for everything that was sent at least once.
    by_request: BTreeMap<(u64, u64), Token>,
    timers: BTreeSet<(Instant, Token)>,
    completions: VecDeque<Completion>,
    next_token: u64,
    /// For requests without a session.
    next_sequence: u64,
    /// The nodes known: the cluster file's, and who came since. None is taken out: places are names.
    members: Vec<Member>,
    /// Which of them are no members any more.
    gone: Vec<bool>,
    /// The epoch that told of them.
    members_epoch: u64,
    /// The machine's own question who the members are, and when it may ask again.
    refresh: Option<Token>,
    refresh_at: Instant,
    /// When it asks again although all is well.
    renew_at: Instant,
    /// The member asked next: the leader, as far as known.
    guess: usize,
    /// The member that answered last as the leader does.
    leader: Option<usize>,
    /// When a member was heard last, per member.
    heard: Vec<Instant>,
    /// Until when hints to a member are not believed, per member.
    suspected: Vec<Instant>,
    stats: ClientStats,
}

impl ClientMachine {
    /// A machine of the incarnation `local_epoch` (not 0, and not used before on its address). `seed`
    /// is for jitter and for the first node asked.
    #[must_use]
    pub fn new(config: ClientConfig, local_epoch: u64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let transport = Transport::new(config.transport.clone(), local_epoch, rng.next_u64());
        let members = config.cluster.members.clone();
        let count = members.len();
        let guess = usize::try_from(rng.below(count as u64)).unwrap_or(0);
        Self {
            transport,
            rng,
            sessions: (0..config.sessions).map(|_| Session::default()).collect(),
            operations: BTreeMap::new(),
            by_request: BTreeMap::new(),
            timers: BTreeSet::new(),
            completions: VecDeque::new(),
            next_token: 1,
            // Not those of the process before on this address, whose answers may still come.
            next_sequence: (local_epoch & 0x7fff_ffff) << 32 | 1,
            members,
            gone: vec![false; count],
            members_epoch: 0,
            refresh: None,
            refresh_at: Instant::ZERO,
            renew_at: Instant::ZERO,
            guess,
            leader: None,
            heard: vec![Instant::ZERO; count],
            suspected: vec![Instant::ZERO; count],
            stats: ClientStats::default(),
            config,
        }
    }

    /// Starts `op` for a session. Its end comes as a [`Completion`] with the token given back.
    /// [`Op::OpenSession`] is the machine's own business; [`Op::Status`] asks any node.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub fn submit(
        &mut self,
        now: Instant,
        session_index: usize,
        op: Op,
    ) -> Result<Token, SubmitError> {
        let (mode, patience) = (self.config.read_mode, self.config.operation_timeout);
        self.admit(now, session_index, op, mode, None, patience)
    }

    /// What the reads that follow promise.
    pub fn set_read_mode(&mut self, mode: ReadMode) {
        self.config.read_mode = mode;
    }

    /// Starts a read with a promise of its own.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub fn submit_read(
        &mut self,
        now: Instant,
        session_index: usize,
        op: Op,
        mode: ReadMode,
    ) -> Result<Token, SubmitError> {
        self.admit(now, session_index, op, mode, None, self.config.operation_timeout)
    }

    /// Asks one node for its status, which it has so long to tell.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub fn submit_status(
        &mut self,
        now: Instant,
        session_index: usize,
        node: NodeId,
        patience: Duration,
    ) -> Result<Token, SubmitError> {
        let Some(member) = self.place_of(node) else {
            return Err(SubmitError::NoNode { node });
        };
        self.admit(now, session_index, Op::Status, ReadMode::default(), Some(member), patience)
    }

    /// Gives one node's driver a command.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing was started then.
    pub fn submit_control(
        &mut self,
        now: Instant,
        session_index: usize,
        node: NodeId,
        command: Bytes,
    ) -> Result<Token, SubmitError> {
        let member = self.place_of(node);
        if member.is_none() {
            return Err(SubmitError::NoNode { node });
        }
        let (mode, patience) = (ReadMode::default(), self.config.operation_timeout);
        self.admit(now, session_index, Op::Control { command }, mode, member, patience)
    }

    /// Takes in one datagram; garbage is counted.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        self.transport.handle_datagram(now, from, bytes);
        self.drain_transport(now);
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        self.drain_transport(now);
        while let Some(&(at, token)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.handle_timer(now, token);
        }
    }

    /// The next datagrams to send.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.transport.poll_transmit(now)
    }

    /// The next operation that has ended.
    pub fn poll_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    /// When to call [`Self::handle_timeout`]; the origin while `poll_transmit` is not drained.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|(at, _)| *at);
        own.into_iter().chain(self.transport.poll_timeout()).min()
    }

    /// Operations that have not ended.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.sessions.iter().map(|session| session.outstanding).sum()
    }

    /// Counters since the start.
    #[must_use]
    pub const fn stats(&self) -> ClientStats {
        self.stats
    }

    /// Counters of the transport.
    #[must_use]
    pub fn transport_stats(&self) -> TransportStats {
        self.transport.stats()
    }

    /// The transport's look at a node.
    #[must_use]
    pub fn peer_stats(&self, node: NodeId) -> Option<PeerStats> {
        self.transport.peer_stats(self.members[self.place_of(node)?].address)
    }

    /// Panics when a relation between fields is broken.
    pub fn check_invariants(&self) {
        self.transport.check_invariants();
        let window = self.config.cluster.limits.session_window;
        for (token, operation) in &self.operations {
            operation.check_invariants(*token);
            let has_timer = operation.timer.is_some_and(|at| self.timers.contains(&(at, *token)));
            assert!(has_timer, "{token:?} would never end");
            if let Some(request) = operation.request {
                assert_eq!(self.by_request.get(&request), Some(token), "{request:?} is misfiled");
            }
            assert!(operation.session < self.sessions.len(), "{token:?} is of no session");
        }
        assert_eq!(self.timers.len(), self.operations.len(), "one timer per operation");
        let named = self.operations.values().filter(|operation| operation.request.is_some());
        assert_eq!(named.count(), self.by_request.len(), "requests without an operation");
        for (index, session) in self.sessions.iter().enumerate() {
            session.check_invariants(index, window);
            let own = |(token, operation): &(&Token, &Operation)| {
                operation.session == index && !operation.is_open() && self.refresh != Some(**token)
            };
            let outstanding = self.operations.iter().filter(own).count();
            assert_eq!(outstanding, session.outstanding, "operations of session {index}");
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        index: usize,
        op: Op,
        read_mode: ReadMode,
        fixed_member: Option<usize>,
        patience: Duration,
    ) -> Result<Token, SubmitError> {
        let sessions = self.sessions.len();
        let Some(session) = self.sessions.get_mut(index) else {
            return Err(SubmitError::NoSession { index, sessions });
        };
        if session.outstanding >= self.config.cluster.limits.session_window {
            return Err(SubmitError::WindowFull { index, outstanding: session.outstanding });
        }
        session.outstanding += 1;
        self.stats.submitted += 1;
        let deadline = now + patience;
        let mut operation = Operation::new(index, op, fixed_member, deadline);
        operation.read_mode = read_mode;
        let needs_session = operation.is_write();
        let token = self.insert(operation);
        if needs_session {
            self.sessions[index].waiting.push_back(token);
            self.set_timer(token, deadline);
            self.start_waiting(now, index);
        } else {
            self.start_attempt(now, token);
        }
        Ok(token)
    }

    fn insert(&mut self, operation: Operation) -> Token {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.operations.insert(token, operation);
        token
    }

    /// Sends what waits in a session, as far as its window goes; opens the session first.
    fn start_waiting(&mut self, now: Instant, index: usize) {
        let window = self.config.cluster.limits.session_window as u64;
        loop {
            let session = &mut self.sessions[index];
            if session.waiting.is_empty() {
                return;
            }
            let Some(id) = session.id else {
                if session.opening.is_none() {
                    let operation = Operation::new(index, Op::OpenSession, None, Instant::ZERO);
                    let token = self.insert(operation);
                    self.sessions[index].opening = Some(token);
                    self.start_attempt(now, token);
                }
                return;
            };
            let Some(sequence) = session.take_sequence(window) else { return };
            let Some(token) = session.waiting.pop_front() else { return };
            if let Some(operation) = self.operations.get_mut(&token) {
                operation.request = Some((id, sequence));
            }
            self.by_request.insert((id, sequence), token);
            self.start_attempt(now, token);
        }
    }

    fn drain_transport(&mut self, now: Instant) {
        while let Some(event) = self.transport.poll_event() {
            match event {
                TransportEvent::Message { from, bytes } => match Response::decode(bytes) {
                    Ok(response) => self.handle_response(now, from, response),
                    Err(_) => self.stats.garbage_messages += 1,
                },
                TransportEvent::PeerRestarted { peer } => self.handle_lost_peer(now, peer, now),
                TransportEvent::Unreachable { peer } => {
                    let until = now + self.config.attempt_timeout / 2;
                    self.handle_lost_peer(now, peer, until);
                }
            }
        }
    }

    fn end(&mut self, now: Instant, token: Token, served_at: Slot, outcome: ClientOutcome) {
        let Some(operation) = self.forget(token) else { return };
        if self.refresh == Some(token) {
            self.refresh = None;
            return;
        }
        match &outcome {
            ClientOutcome::Done(_) => self.stats.done += 1,
            ClientOutcome::Unknown => self.stats.unknown += 1,
            ClientOutcome::Failed(_) => self.stats.failed += 1,
        }
        let session = &mut self.sessions[operation.session];
        session.outstanding -= 1;
        session.seen = session.seen.max(served_at);
        if operation.request.is_none() {
            session.waiting.retain(|waiting| *waiting != token);
        }
        if let Some(request) = operation.request {
            session.answer(request);
        }
        let session_index = operation.session;
        self.completions.push_back(Completion { session_index, token, served_at, outcome });
        self.start_waiting(now, session_index);
    }

    fn forget(&mut self, token: Token) -> Option<Operation> {
        let operation = self.operations.remove(&token)?;
        if let Some(at) = operation.timer {
            self.timers.remove(&(at, token));
        }
        if let Some(request) = operation.request {
            self.by_request.remove(&request);
        }
        Some(operation)
    }
}
