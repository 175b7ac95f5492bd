//! A blocking session, for commands.

use super::driver::{ClientDriver, DriverError};
use crate::config::ClusterConfig;
use crate::kv::{Admin, NodeStatus, Op, Outcome, Refusal, Row};
use crate::node::control::{LinkState, NetemCommand, decode_answer};
use crate::replica::client_machine::{ClientOutcome, Completion, SubmitError, Token};
use crate::types::{Bytes, NodeId, ReadMode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// An operation that was not done.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The client cannot work at all.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The operation was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A read got no answer.
    #[error(
        "no answer from {nodes} within {seconds} s; check that a majority of the cluster's nodes run"
    )]
    NoAnswer {
        /// Who was asked.
        nodes: String,
        /// How long was waited.
        seconds: f64,
    },
    /// A write got no answer.
    #[error(
        "no answer from {nodes} within {seconds} s: it is not known whether the write was done; read \
         the key to find out"
    )]
    Unknown {
        /// Who was asked.
        nodes: String,
        /// How long was waited.
        seconds: f64,
    },
    /// A change by an operator got no answer.
    #[error(
        "no answer from {nodes} within {seconds} s: it is not known whether it was done; see \
         'distkv status'"
    )]
    UnknownChange {
        /// Who was asked.
        nodes: String,
        /// How long was waited.
        seconds: f64,
    },
    /// The cluster refuses.
    #[error("{}", refusal_text(*.0))]
    Refused(Refusal),
    /// One node does not answer.
    #[error("{node} does not answer within {seconds} s: check that it runs ('distkv status')")]
    Silent {
        /// The node.
        node: NodeId,
        /// How long was waited.
        seconds: f64,
    },
    /// A command to a node was not obeyed.
    #[error("{0}")]
    Control(String),
    /// An answer to something else.
    #[error("the cluster answered something else than was asked: are its nodes of this version?")]
    WrongAnswer,
}

/// What a refusal means, and what to do about it.
fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotLeader { .. } => {
            "no node leads the cluster: check that a majority of its nodes run ('distkv status')"
        }
        Refusal::Busy => "the cluster is busy: try again later",
        Refusal::SessionUnknown => "the cluster has forgotten this client's session: try again",
        Refusal::Stale => "the request is too old: it is not known whether it was done",
        Refusal::DiskFull => {
            "a disk is nearly full, so that puts are refused: delete keys, or make space on the \
             nodes' disks"
        }
        Refusal::KeyBound => {
            "the key is empty, or longer than limits.key_bytes of the cluster file"
        }
        Refusal::ValueBound => "the value is longer than limits.value_bytes of the cluster file",
        Refusal::Unavailable => {
            "too few shards of the value, or the node that is to lead, can be reached: start more of \
             the cluster's nodes ('distkv status')"
        }
        Refusal::Behind => "no node that was asked has applied what this client has seen",
        Refusal::Unsafe => {
            "not safe: some set of nodes that must suffice for an election would not hold enough \
             shards of new values, or of values that there are"
        }
        Refusal::ChangeUnderWay => {
            "another change of the members is under way: wait for it ('distkv status'), or give it up \
             with 'distkv admin cancel-change'"
        }
        Refusal::IdUsed => {
            "the new node's id or address is, or was, another member's: ids are never used twice; \
             choose another one below 32"
        }
        Refusal::NotMember => "the node that is to go is no member ('distkv status' shows them)",
    }
}

/// One session that waits for each answer.
#[derive(Debug)]
pub struct Client {
    driver: ClientDriver,
    cluster: Arc<ClusterConfig>,
    timeout: Duration,
    status_timeout: Duration,
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is no answer to what was asked is the same error"
)]
impl Client {
    /// A client of `cluster` whose operations end after `timeout`, and whose questions for a node's status
    /// after two seconds if that is less. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Driver`] when there is no socket to be had.
    pub fn new(cluster: &Arc<ClusterConfig>, timeout: Duration) -> Result<Self, ClientError> {
        let driver = ClientDriver::new(cluster, 1, timeout)?;
        let status_timeout = timeout.min(STATUS_TIMEOUT);
        Ok(Self { driver, cluster: Arc::clone(cluster), timeout, status_timeout })
    }

    /// Nodes have so long to tell their status.
    #[must_use]
    pub const fn with_status_timeout(mut self, status_timeout: Duration) -> Self {
        self.status_timeout = status_timeout;
        self
    }

    /// The value of `key` with its version; None when there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<(u64, Bytes)>, ClientError> {
        match self.call(Op::Get { key: Bytes::copy_from_slice(key) }, Effect::None)? {
            Outcome::Value { version, value } => Ok(Some((version, value))),
            Outcome::NotFound => Ok(None),
            other => wrong(&other),
        }
    }

    /// Writes `key`; gives the version written.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn put(&mut self, key: &[u8], value: Bytes) -> Result<u64, ClientError> {
        match self.call(Op::Put { key: Bytes::copy_from_slice(key), value }, Effect::Write)? {
            Outcome::Written { version } => Ok(version),
            other => wrong(&other),
        }
    }

    /// Removes `key`; None when there was none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn delete(&mut self, key: &[u8]) -> Result<Option<u64>, ClientError> {
        match self.call(Op::Delete { key: Bytes::copy_from_slice(key) }, Effect::Write)? {
            Outcome::Written { version } => Ok(Some(version)),
            Outcome::NotFound => Ok(None),
            other => wrong(&other),
        }
    }

    /// Writes `key` if its version is `expected` (0: absent). `Ok(Err(current))` on another version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn compare_and_set(
        &mut self,
        key: &[u8],
        expected: u64,
        value: Bytes,
    ) -> Result<Result<u64, u64>, ClientError> {
        let op = Op::CompareAndSet { key: Bytes::copy_from_slice(key), expected, value };
        match self.call(op, Effect::Write)? {
            Outcome::Written { version } => Ok(Ok(version)),
            Outcome::Mismatch { current } => Ok(Err(current)),
            other => wrong(&other),
        }
    }

    /// Up to `limit` rows from `start` on, keys ascending.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn scan(&mut self, start: &[u8], limit: u32) -> Result<Vec<Row>, ClientError> {
        match self.call(Op::Scan { start: Bytes::copy_from_slice(start), limit }, Effect::None)? {
            Outcome::Rows(rows) => Ok(rows),
            other => wrong(&other),
        }
    }

    /// The status of every node, the cluster file's first; None for members that do not answer.
    ///
    /// # Errors
    /// [`ClientError`] when the client itself fails.
    pub fn statuses(&mut self) -> Result<Vec<(NodeId, Option<NodeStatus>)>, ClientError> {
        let mut statuses = Vec::new();
        loop {
            // The answers may name nodes that the cluster file does not have.
            let is_new = |node: NodeId| statuses.iter().all(|(known, _)| *known != node);
            let known = self.driver.machine().known_nodes().iter().map(|member| member.id);
            let nodes: Vec<NodeId> = known.filter(|node| is_new(*node)).collect();
            if nodes.is_empty() {
                break;
            }
            // As many at a time as a session may have open.
            let window = self.cluster.limits.session_window.max(1);
            for nodes in nodes.chunks(window) {
                statuses.extend(self.statuses_of(nodes)?);
            }
        }
        // Who is no member any more, and silent, is none of anybody's business.
        let members: Vec<NodeId> = self.driver.machine().members().map(|m| m.id).collect();
        statuses.retain(|(node, status)| status.is_some() || members.contains(node));
        Ok(statuses)
    }

    /// The status of one node that the cluster file or an answer has named; None when it does not
    /// answer.
    ///
    /// # Errors
    /// [`ClientError`] when the client itself fails, or knows no such node.
    pub fn status(&mut self, node: NodeId) -> Result<Option<NodeStatus>, ClientError> {
        Ok(self.statuses_of(&[node])?.pop().and_then(|(_, status)| status))
    }

    fn statuses_of(
        &mut self,
        nodes: &[NodeId],
    ) -> Result<Vec<(NodeId, Option<NodeStatus>)>, ClientError> {
        let mut asked = Vec::new();
        for node in nodes {
            let token = self.driver.submit_status(0, *node, self.status_timeout)?;
            asked.push((token, *node));
        }
        let mut statuses: Vec<(NodeId, Option<NodeStatus>)> =
            asked.iter().map(|(_, node)| (*node, None)).collect();
        let mut left = asked.len();
        while left > 0 {
            self.driver.wait(Instant::now() + self.status_timeout, |completion| {
                left -= 1;
                let index = asked.iter().position(|(token, _)| *token == completion.token);
                if let (Some(index), ClientOutcome::Done(Outcome::Status(status))) =
                    (index, completion.outcome)
                {
                    statuses[index].1 = Some(*status);
                }
            })?;
        }
        Ok(statuses)
    }

    /// What the reads that follow promise.
    pub fn set_read_mode(&mut self, mode: ReadMode) {
        self.driver.set_read_mode(mode);
    }

    /// Asks the leader for a change of the cluster; gives the slot at which it took effect, 0 when
    /// it is only under way.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn admin(&mut self, admin: Admin) -> Result<u64, ClientError> {
        match self.call(Op::Admin(admin), Effect::Change)? {
            Outcome::Written { version } => Ok(version),
            Outcome::Done => Ok(0),
            other => wrong(&other),
        }
    }

    /// Changes the emulated network of `node` at run time; gives its links afterwards.
    ///
    /// # Errors
    /// [`ClientError::Control`] when the node refuses, [`ClientError::Silent`] when it is not there.
    pub fn change_netem(
        &mut self,
        node: NodeId,
        command: &NetemCommand,
    ) -> Result<Vec<LinkState>, ClientError> {
        let token = self.driver.submit_control(0, node, command.encode().into())?;
        match self.finish(token, Effect::None) {
            Ok(Outcome::Controlled { answer }) => {
                decode_answer(&answer).map_err(ClientError::Control)
            }
            Ok(other) => wrong(&other),
            Err(ClientError::NoAnswer { seconds, .. }) => {
                Err(ClientError::Silent { node, seconds })
            }
            Err(error) => Err(error),
        }
    }

    fn call(&mut self, op: Op, effect: Effect) -> Result<Outcome, ClientError> {
        let token = self.driver.submit(0, op)?;
        self.finish(token, effect)
    }

    fn finish(&mut self, token: Token, effect: Effect) -> Result<Outcome, ClientError> {
        let mut ended: Option<Completion> = None;
        while ended.is_none() {
            self.driver.wait(Instant::now() + self.timeout, |completion| {
                if completion.token == token {
                    ended = Some(completion);
                }
            })?;
        }
        let outcome = ended.map_or(ClientOutcome::Unknown, |completion| completion.outcome);
        let addresses = self.cluster.members.iter().map(|member| member.address.to_string());
        let nodes = addresses.collect::<Vec<_>>().join(", ");
        let seconds = self.timeout.as_secs_f64();
        match outcome {
            ClientOutcome::Done(outcome) => Ok(outcome),
            ClientOutcome::Failed(refusal) => Err(ClientError::Refused(refusal)),
            ClientOutcome::Unknown => Err(match effect {
                Effect::None => ClientError::NoAnswer { nodes, seconds },
                Effect::Write => ClientError::Unknown { nodes, seconds },
                Effect::Change => ClientError::UnknownChange { nodes, seconds },
            }),
        }
    }
}

/// A node that lives tells its status at once; whoever looks for a leader among dead ones looks often.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// What is not known when there is no answer.
#[derive(Clone, Copy)]
enum Effect {
    None,
    Write,
    Change,
}

/// The machine lets through only answers to what was asked, so this is not reached.
fn wrong<T>(_outcome: &Outcome) -> Result<T, ClientError> {
    Err(ClientError::WrongAnswer)
}
