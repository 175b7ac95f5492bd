//! Nodes that come back, or come new: how long until they hold all that they should, and its cost.
//!
//! A local cluster at rest with all records loaded. Of kind `rejoin`, a follower is killed, every
//! record is overwritten meanwhile, and the node is started again on its data. Of kind `replace`, a
//! follower is killed for good and a new node takes its place by an operator's command. Time counts
//! from the start of the node's process; it ends when the node has applied what the leader has and
//! lacks no shard, and for a newcomer when the change of members is settled. Bytes are those that all
//! other nodes sent in that time. Nodes die with the thread that calls.

use super::launch::loopback_config;
use super::measured::failed;
use super::trial::{CancelFlag, TrialConfig, TrialError, TrialKind, TrialOutcome};
use crate::client::Client;
use crate::kv::{Admin, NodeStatus, Role};
use crate::node::launcher::LocalCluster;
use crate::report::quantity;
use crate::report::result::PhaseResult;
use crate::rng::Rng;
use crate::types::{Bytes, Code, NodeId};
use std::path::Path;
use std::time::{Duration, Instant};

/// One node that came.
#[derive(Clone, Copy, Debug)]
struct Repair {
    took: Duration,
    bytes: u64,
}

/// Runs a trial of kind `rejoin` or `replace`, with the cluster's files in `dir`.
///
/// # Errors
/// As [`super::trial::TrialLauncher::run`].
pub(super) fn measure(
    executable: &Path,
    trial: &TrialConfig,
    dir: &Path,
    cancel: &CancelFlag,
) -> Result<TrialOutcome, TrialError> {
    let config = loopback_config(trial)?;
    let code = config.code;
    let mut cluster = LocalCluster::start_nice(executable, trial.nice, config, dir)?;
    cluster.wait_for_leader(LIMIT)?;
    let client = Client::new(cluster.cluster(), trial.operation_timeout()).map_err(failed)?;
    let operator = Client::new(cluster.cluster(), STATUS_TIMEOUT).map_err(failed)?;
    let watcher = Client::new(cluster.cluster(), WATCH_TIMEOUT).map_err(failed)?;
    let value_bytes = usize::try_from(trial.value_bytes).map_err(failed)?;
    let rng = Rng::new(trial.seed);
    let mut site = Site {
        cluster,
        client,
        operator,
        watcher,
        cancel,
        records: trial.records,
        value_bytes,
        rng,
    };
    site.write_all()?;
    let mut repairs = Vec::new();
    for round in 0..trial.kills {
        let is_replaced = trial.kind == TrialKind::Replace;
        repairs.push(if is_replaced {
            site.replace(round, trial.nodes, code)?
        } else {
            site.rejoin()?
        });
    }
    let unclean = site.cluster.stop();
    let all = |of: fn(&Repair) -> f64| repairs.iter().map(of).collect::<Vec<f64>>();
    let samples = [
        (quantity::REPAIR_SECONDS.to_owned(), all(|repair| repair.took.as_secs_f64())),
        (quantity::REPAIR_BYTES.to_owned(), all(|repair| repair.bytes as f64)),
    ];
    let run = PhaseResult {
        name: "run".to_owned(),
        operations: repairs.len() as u64,
        seconds: repairs.iter().map(|repair| repair.took.as_secs_f64()).sum(),
        live_user_bytes: trial.records * trial.value_bytes,
        samples: samples.into(),
        ..PhaseResult::default()
    };
    let invalid = unclean.into_iter().map(|node| format!("{node} did not stop by itself"));
    let invalid = invalid.collect();
    Ok(TrialOutcome { phases: vec![run], invalid, ..TrialOutcome::default() })
}

struct Site<'a> {
    cluster: LocalCluster,
    client: Client,
    /// Finds out who leads: it asks everybody, the dead as well, and waits for them.
    operator: Client,
    /// Asks one node while time counts.
    watcher: Client,
    cancel: &'a CancelFlag,
    records: u64,
    value_bytes: usize,
    rng: Rng,
}

impl Site<'_> {
    /// Writes every record, each with bytes of its own.
    fn write_all(&mut self) -> Result<(), TrialError> {
        for record in 0..self.records {
            self.check_cancelled()?;
            let mut value = vec![0; self.value_bytes];
            self.rng.fill(&mut value);
            let key = format!("record-{record}");
            self.client.put(key.as_bytes(), Bytes::from(value)).map_err(failed)?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), TrialError> {
        if self.cancel.is_cancelled() { Err(TrialError::Cancelled) } else { Ok(()) }
    }

    /// A follower is away while everything is overwritten.
    fn rejoin(&mut self) -> Result<Repair, TrialError> {
        let (node, leader) = self.kill_follower()?;
        self.write_all()?;
        let sent_before = self.sent_bytes(node)?;
        let began = Instant::now();
        self.cluster.start_node(node)?;
        self.until(began, leader, |site, leader| {
            let own = site.watcher.status(node).map_err(failed)?;
            Ok(own.is_some_and(|own| {
                let lacks = (own.storage.restoring.is_some(), own.storage.repairing.is_some());
                own.applied >= leader.applied && lacks == (false, false)
            }))
        })?;
        self.repair(began, node, sent_before)
    }

    /// A node with the next free id comes in the place of a follower that is dead.
    fn replace(&mut self, round: u32, nodes: u8, code: Code) -> Result<Repair, TrialError> {
        let (old, leader) = self.kill_follower()?;
        let number = u32::from(nodes) + round;
        let new = NodeId(u8::try_from(number).map_err(failed)?);
        let sent_before = self.sent_bytes(new)?;
        let began = Instant::now();
        let address = self.cluster.start_newcomer(new)?;
        let (joins, leaves) = (Some((new.0, address)), Some(old.0));
        let change = Admin::Change { joins, leaves, k: code.k(), m: code.m() };
        self.client.admin(change).map_err(failed)?;
        self.until(began, leader, |_, leader| {
            let is_member = leader.members.iter().any(|member| member.node == new.0);
            Ok(is_member && leader.change.is_none() && leader.settled)
        })?;
        self.repair(began, new, sent_before)
    }

    fn repair(
        &mut self,
        began: Instant,
        node: NodeId,
        sent_before: u64,
    ) -> Result<Repair, TrialError> {
        let took = began.elapsed();
        let bytes = self.sent_bytes(node)?.saturating_sub(sent_before);
        Ok(Repair { took, bytes })
    }

    /// What all nodes but `node` have sent since their start.
    fn sent_bytes(&mut self, node: NodeId) -> Result<u64, TrialError> {
        let reports = self.cluster.reports()?;
        let others = reports.iter().filter(|(other, _)| **other != node);
        Ok(others.map(|(_, report)| report.bytes_sent).sum())
    }

    /// The member before the leader, in the order of ids: never the leader itself. With who leads.
    fn kill_follower(&mut self) -> Result<(NodeId, NodeId), TrialError> {
        let leader = self.leader()?;
        let members: Vec<u8> = leader.members.iter().map(|member| member.node).collect();
        let place = members.iter().position(|member| *member == leader.node).unwrap_or(0);
        let node = NodeId(members[(place + members.len() - 1) % members.len()]);
        self.cluster.kill(node)?;
        Ok((node, NodeId(leader.node)))
    }

    /// The status of who leads by the highest ballot.
    fn leader(&mut self) -> Result<NodeStatus, TrialError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.check_cancelled()?;
            let statuses = self.operator.statuses().map_err(failed)?;
            let leaders = statuses.into_iter().filter_map(|(_, status)| status);
            let leaders = leaders.filter(|status| status.role == Role::Leader);
            if let Some(leader) = leaders.max_by_key(|status| status.ballot) {
                return Ok(leader);
            }
            wait(deadline, "that a node leads")?;
        }
    }

    /// Asks `leader`, or who leads since, until `is_over`.
    fn until(
        &mut self,
        began: Instant,
        leader: NodeId,
        is_over: impl Fn(&mut Self, &NodeStatus) -> Result<bool, TrialError>,
    ) -> Result<(), TrialError> {
        let mut leader = leader;
        let mut unanswered = 0;
        loop {
            self.check_cancelled()?;
            let status = self.watcher.status(leader).map_err(failed)?;
            match status.filter(|status| status.role == Role::Leader) {
                Some(status) if is_over(self, &status)? => return Ok(()),
                Some(_) => unanswered = 0,
                // A question or two may be lost on a busy machine.
                None if unanswered < UNANSWERED_MAX => unanswered += 1,
                None => leader = NodeId(self.leader()?.node),
            }
            wait(began + LIMIT, "that the node holds all it should")?;
        }
    }
}

fn wait(deadline: Instant, what: &str) -> Result<(), TrialError> {
    if Instant::now() >= deadline {
        let seconds = LIMIT.as_secs();
        return Err(failed(format!("{what} did not happen within {seconds} s")));
    }
    std::thread::sleep(ASK_EVERY);
    Ok(())
}

/// For anything that is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// For the answer to one question: one that has no answer is asked again.
const STATUS_TIMEOUT: Duration = Duration::from_millis(250);
/// The same while time counts: what is asked of a process that is not up yet is lost.
const WATCH_TIMEOUT: Duration = Duration::from_millis(15);
/// So often nobody who leads answers before everybody is asked who does.
const UNANSWERED_MAX: u32 = 20;
/// Between two questions: the resolution of the times, with [`WATCH_TIMEOUT`].
const ASK_EVERY: Duration = Duration::from_millis(5);
