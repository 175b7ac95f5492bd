//! A cluster as the load generator sees it: sessions of one driver, on the generator's thread.

use super::driver::{ClientDriver, DriverError};
use crate::bench::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::config::ClusterConfig;
use crate::kv::{Op, Outcome, Refusal};
use crate::replica::client_machine::{ClientOutcome, SubmitError, Token};
use crate::types::{NodeId, ReadMode};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cluster under load.
#[derive(Debug)]
pub struct ClusterTarget {
    driver: ClientDriver,
    scan_rows: u32,
    /// Attempts of a put before its failure counts; 1 for every phase but loading.
    put_attempts: u32,
    /// Per session: what it does now. What an earlier phase gave up may still end.
    current: Vec<Option<Token>>,
    /// Per session: the put that may be tried again, and the attempts left.
    retries: Vec<Option<(Op, u32)>>,
    refused: Vec<TargetCompletion>,
    is_cancelled: Option<crate::experiment::CancelFlag>,
}

impl ClusterTarget {
    /// `clients` sessions with `cluster`; an operation ends after `timeout`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn new(
        cluster: &Arc<ClusterConfig>,
        clients: usize,
        timeout: Duration,
    ) -> Result<Self, DriverError> {
        Ok(Self {
            driver: ClientDriver::new(cluster, clients, timeout)?,
            scan_rows: cluster.limits.scan_rows,
            put_attempts: 1,
            current: vec![None; clients],
            retries: vec![None; clients],
            refused: Vec::new(),
            is_cancelled: None,
        })
    }

    /// Breaks the phase off with an error once `cancel` is set.
    pub fn set_cancel(&mut self, cancel: crate::experiment::CancelFlag) {
        self.is_cancelled = Some(cancel);
    }

    /// Puts all sessions on one side of a partition: see [`ClientDriver::set_cut`].
    pub fn set_cut(&mut self, nodes: &[NodeId]) {
        self.driver.set_cut(nodes);
    }

    /// The driver, to look at.
    #[must_use]
    pub const fn driver(&self) -> &ClientDriver {
        &self.driver
    }

    fn start(&mut self, client: usize, op: Op) {
        let submitted = self.driver.submit(client, op);
        if let Some(current) = self.current.get_mut(client) {
            *current = submitted.as_ref().ok().copied();
        }
        let Err(error) = submitted else { return };
        let kind = match error {
            SubmitError::WindowFull { .. } => "window-full",
            SubmitError::NoSession { .. } => "no-session",
            SubmitError::NoNode { .. } => "no-node",
        };
        let outcome = TargetOutcome::Error { kind: Cow::Borrowed(kind), is_ambiguous: false };
        let completed_at = Instant::now();
        self.refused.push(TargetCompletion { client, outcome, served_at: None, completed_at });
    }
}

impl Target for ClusterTarget {
    fn set_read_mode(&mut self, mode: ReadMode) {
        self.driver.set_read_mode(mode);
    }

    fn set_put_attempts(&mut self, attempts: u32) {
        self.put_attempts = attempts.max(1);
    }

    fn submit(&mut self, client: usize, op: TargetOp) {
        let op = cluster_op(op, self.scan_rows);
        if let Some(retry) = self.retries.get_mut(client) {
            // Also none: what is left of a put while loading must not be tried in a run.
            let is_tried_again = self.put_attempts > 1 && matches!(op, Op::Put { .. });
            *retry = is_tried_again.then(|| (op.clone(), self.put_attempts - 1));
        }
        self.start(client, op);
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        if self.is_cancelled.as_ref().is_some_and(crate::experiment::CancelFlag::is_cancelled) {
            return Err(TargetError { reason: "stopped on request".to_owned() });
        }
        completions.append(&mut self.refused);
        if !completions.is_empty() {
            return Ok(());
        }
        let mut again = Vec::new();
        let (retries, current) = (&mut self.retries, &self.current);
        let ended = |completion: crate::replica::client_machine::Completion| {
            let client = completion.session_index;
            if current.get(client) != Some(&Some(completion.token)) {
                return;
            }
            let served_at = Some(completion.served_at.0);
            let outcome = target_outcome(completion.outcome);
            let is_bad = matches!(outcome, TargetOutcome::Error { .. } | TargetOutcome::Timeout);
            match retries.get_mut(client).and_then(Option::as_mut) {
                Some((op, left)) if is_bad && *left > 0 => {
                    *left -= 1;
                    again.push((client, op.clone()));
                }
                Some(_) | None => {
                    let completed_at = Instant::now();
                    completions.push(TargetCompletion { client, outcome, served_at, completed_at });
                }
            }
        };
        self.driver
            .wait(deadline, ended)
            .map_err(|error| TargetError { reason: error.to_string() })?;
        for (client, op) in again {
            self.start(client, op);
        }
        Ok(())
    }
}

/// An operation of the generator as one of the cluster, which gives `scan_rows` rows at most.
pub(crate) fn cluster_op(op: TargetOp, scan_rows: u32) -> Op {
    match op {
        TargetOp::Read { key } => Op::Get { key },
        TargetOp::Put { key, value } => Op::Put { key, value },
        TargetOp::Delete { key } => Op::Delete { key },
        TargetOp::Scan { start, limit } => {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX).min(scan_rows);
            Op::Scan { start, limit }
        }
    }
}

/// What the generator is told of how an operation ended.
pub(crate) fn target_outcome(outcome: ClientOutcome) -> TargetOutcome {
    match outcome {
        ClientOutcome::Unknown => TargetOutcome::Timeout,
        ClientOutcome::Failed(refusal) => {
            let kind = Cow::Borrowed(refusal_kind(refusal));
            TargetOutcome::Error { kind, is_ambiguous: false }
        }
        ClientOutcome::Done(outcome) => match outcome {
            Outcome::Value { version, value } => {
                TargetOutcome::Value { value: Some(value), version: Some(version) }
            }
            Outcome::NotFound => TargetOutcome::Value { value: None, version: None },
            Outcome::Written { version } => TargetOutcome::Done { version: Some(version) },
            Outcome::Rows(rows) => TargetOutcome::Rows {
                row_count: rows.len(),
                value_bytes: rows.iter().map(|row| row.value.len() as u64).sum(),
            },
            Outcome::Mismatch { .. }
            | Outcome::SessionOpened { .. }
            | Outcome::Status(_)
            | Outcome::Done
            | Outcome::Controlled { .. }
            | Outcome::Refused(_) => {
                TargetOutcome::Error { kind: Cow::Borrowed("wrong-answer"), is_ambiguous: true }
            }
        },
    }
}

/// A stable name to count refusals under.
const fn refusal_kind(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotLeader { .. } => "no-leader",
        Refusal::Busy => "busy",
        Refusal::SessionUnknown => "session-unknown",
        Refusal::Stale => "stale",
        Refusal::DiskFull => "disk-full",
        Refusal::KeyBound => "key-bound",
        Refusal::ValueBound => "value-bound",
        Refusal::Unavailable => "unavailable",
        Refusal::Behind => "behind",
        Refusal::Unsafe => "unsafe",
        Refusal::ChangeUnderWay => "change-under-way",
        Refusal::IdUsed => "id-used",
        Refusal::NotMember => "not-member",
    }
}
