//! Trials in virtual time: the load of any trial on a cluster of [`TimedCluster`].
//!
//! The generator, the workloads, the client machine and the nodes are those of real trials; network,
//! disk and CPU are modelled, with the costs that the trial names. So its results are marked as
//! simulated wherever they go, and say nothing of what the model leaves out.

use super::bed::{Bed, SIZE_IS_THE_GENERATORS, Used, data_holder};
use super::faults::FaultAction;
use super::launch::cluster_config;
use super::measured::failed;
use super::trial::{CancelFlag, ClientSide, PlacementKind, TrialConfig, TrialError};
use crate::bench::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::client::target::{cluster_op, target_outcome};
use crate::config::Member;
use crate::kv::{Admin, Op};
use crate::netem::LinkConfig;
use crate::node::tables;
use crate::replica::client_machine::{ClientOutcome, Completion};
use crate::report::quantity;
use crate::report::result::NodeResources;
use crate::sim::timed::{NodeUsage, Placement, TimedCluster, TimedConfig};
use crate::time::Instant as VirtualInstant;
use crate::types::{NodeId, ReadMode};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cluster in virtual time.
pub(super) struct SimulatedBed {
    target: SimulatedTarget,
    /// The network as the trial began, which healing comes back to.
    link: LinkConfig,
    now: (LinkConfig, f64),
    killed: Vec<NodeId>,
    client_side: ClientSide,
    data_shards: u8,
}

impl SimulatedBed {
    /// Starts a fresh cluster, and waits for a leader.
    pub(super) fn start(trial: &TrialConfig, cancel: &CancelFlag) -> Result<Self, TrialError> {
        let config = timed_config(trial)?;
        let (link, rate_mbit) = (config.link.clone(), config.rate_mbit);
        let scan_rows = config.cluster.limits.scan_rows;
        let data_shards = config.cluster.code.k();
        let mut target = SimulatedTarget {
            scan_rows,
            node_count: usize::from(trial.nodes),
            origin: Instant::now(),
            read_mode: trial.read_mode,
            clients: config.sessions - OPERATORS,
            ended: Vec::new(),
            cancel: cancel.clone(),
            cluster: TimedCluster::start(config).map_err(failed)?,
        };
        target.wait_for_leader()?;
        let now = (link.clone(), rate_mbit);
        let (killed, client_side) = (Vec::new(), trial.client_side);
        Ok(Self { target, link, now, killed, client_side, data_shards })
    }

    /// The leader and the nodes behind it in order, those that run.
    fn ranks(&self) -> Result<Vec<NodeId>, String> {
        let leader = self.target.cluster.leader().ok_or("no node leads")?;
        let statuses = self.target.cluster.statuses();
        let mut ids: Vec<NodeId> = statuses.iter().map(|status| NodeId(status.node)).collect();
        let place = ids.iter().position(|id| *id == leader).unwrap_or(0);
        ids.rotate_left(place);
        Ok(ids)
    }

    /// As many nodes as a minority has, from the one after `skip` on, apart from the others.
    fn part(&mut self, skip: usize) -> Result<String, String> {
        let minority = (self.target.node_count - 1) / 2;
        let side: Vec<NodeId> = self.ranks()?.into_iter().skip(skip).take(minority).collect();
        let all = (0..self.target.node_count).filter_map(|id| u8::try_from(id).ok()).map(NodeId);
        let unreached = match self.client_side {
            ClientSide::Both => Vec::new(),
            ClientSide::Minority => all.filter(|node| !side.contains(node)).collect(),
            ClientSide::Majority => side.clone(),
        };
        let names: Vec<String> = side.iter().map(ToString::to_string).collect();
        self.target.cluster.part(side, unreached);
        Ok(format!("partition: {} apart", names.join(", ")))
    }

    /// Has the cluster do as an operator says, and waits for its answer.
    fn ask(&mut self, admin: Admin) -> Result<(), String> {
        let target = &mut self.target;
        let asked = target.cluster.submit(target.clients, Op::Admin(admin), target.read_mode);
        asked.map_err(|error| error.to_string())?;
        let until = target.cluster.now() + ADMIN_LIMIT;
        while let Some(completion) = target.cluster.run_until(until)? {
            if completion.session_index != target.clients {
                let ended = target.completion(completion);
                target.ended.push(ended);
                continue;
            }
            return match completion.outcome {
                ClientOutcome::Done(_) => Ok(()),
                other @ (ClientOutcome::Unknown | ClientOutcome::Failed(_)) => {
                    Err(format!("the cluster answered {other:?}"))
                }
            };
        }
        Err(format!("no answer within {} s", ADMIN_LIMIT.as_secs()))
    }

    fn kill(&mut self, whom: impl FnOnce(&[NodeId]) -> usize) -> Result<String, String> {
        let ranks = self.ranks()?;
        let node = *ranks.get(whom(&ranks)).ok_or("too few nodes run")?;
        self.target.cluster.kill(node);
        self.killed.push(node);
        Ok(format!("kill {node}"))
    }

    fn shape(&mut self) {
        let (link, rate_mbit) = self.now.clone();
        self.target.cluster.set_network(link, rate_mbit);
    }
}

impl Bed for SimulatedBed {
    fn target(&mut self) -> &mut dyn Target {
        &mut self.target
    }

    fn now(&self) -> Instant {
        self.target.now()
    }

    fn has_virtual_time(&self) -> bool {
        true
    }

    fn set_loading(&mut self, _is_loading: bool) {}

    fn used(&mut self) -> Result<Used, TrialError> {
        let leader = self.target.cluster.leader();
        let statuses = self.target.cluster.statuses().into_iter();
        let used = statuses.filter_map(|status| {
            let id = NodeId(status.node);
            let usage = self.target.cluster.usage(id)?;
            let mut used = resources(id, leader == Some(id), &usage);
            used.ballot_round = status.ballot.round;
            Some(((used.role.clone(), used.node), used))
        });
        Ok(used.collect())
    }

    fn settle(&mut self) -> Result<Option<String>, TrialError> {
        let give_up = self.target.cluster.now() + SETTLE_LIMIT;
        loop {
            let statuses = self.target.cluster.statuses();
            let mut applied = statuses.iter().map(|status| status.applied);
            let first = applied.next();
            if applied.all(|other| Some(other) == first) {
                return Ok(None);
            }
            if self.target.cluster.now() >= give_up {
                let seconds = SETTLE_LIMIT.as_secs();
                return Ok(Some(format!("nodes were apart {seconds} s after a phase")));
            }
            self.target.idle(SETTLE_STEP)?;
        }
    }

    fn strike(&mut self, action: FaultAction) -> Result<String, String> {
        match action {
            FaultAction::KillLeader => self.kill(|_| 0),
            FaultAction::KillFollower => self.kill(|_| 1),
            FaultAction::KillDataHolder => {
                let data_shards = self.data_shards;
                self.kill(|ranks| data_holder(ranks, data_shards))
            }
            FaultAction::Size(_) => Err(SIZE_IS_THE_GENERATORS.to_owned()),
            FaultAction::Restart => {
                let killed = std::mem::take(&mut self.killed);
                for node in &killed {
                    self.target.cluster.restart(*node)?;
                }
                let names: Vec<String> = killed.iter().map(ToString::to_string).collect();
                Ok(format!("restart {}", names.join(", ")))
            }
            FaultAction::Loss(percent) => {
                self.now.0.loss = percent / 100.0;
                self.shape();
                Ok(format!("loss {percent} %"))
            }
            FaultAction::Delay(millis) => {
                self.now.0.delay_ms = millis;
                self.shape();
                Ok(format!("delay {millis} ms"))
            }
            FaultAction::Rate(mbit) => {
                self.now.1 = mbit;
                self.shape();
                Ok(format!("{mbit} Mbit/s"))
            }
            FaultAction::Heal => {
                // As real nodes: loss, delay and cuts end, the bandwidth stays.
                self.now.0 = self.link.clone();
                self.target.cluster.part(Vec::new(), Vec::new());
                self.shape();
                Ok("heal".to_owned())
            }
            FaultAction::PauseLeader => {
                let node = *self.ranks()?.first().ok_or("no node runs")?;
                self.target.cluster.pause(node);
                Ok(format!("pause {node}"))
            }
            FaultAction::Resume => {
                self.target.cluster.resume();
                Ok("resume".to_owned())
            }
            FaultAction::PartitionLeader => self.part(0),
            FaultAction::PartitionFollowers => self.part(1),
            FaultAction::Policy(policy, code) => {
                self.ask(Admin::Policy { policy, k: code.k(), m: code.m(), hybrid_bytes: None })?;
                Ok(format!("policy {policy} {code}"))
            }
        }
    }

    fn broken(&mut self) -> Option<String> {
        None
    }

    fn stop(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The cluster as the generator sees it; its time is the virtual one.
struct SimulatedTarget {
    cluster: TimedCluster,
    /// Where virtual time begins on the generator's clock.
    origin: Instant,
    read_mode: ReadMode,
    scan_rows: u32,
    node_count: usize,
    /// Sessions of the generator; the next one is the operator's.
    clients: usize,
    /// Ended, and not yet collected.
    ended: Vec<TargetCompletion>,
    cancel: CancelFlag,
}

impl SimulatedTarget {
    fn wait_for_leader(&mut self) -> Result<(), TrialError> {
        let give_up = self.cluster.now() + START_LIMIT;
        while self.cluster.leader().is_none() {
            if self.cluster.now() >= give_up {
                let seconds = START_LIMIT.as_secs();
                return Err(failed(format!("no leader within {seconds} s of virtual time")));
            }
            self.idle(SETTLE_STEP)?;
        }
        // Everybody has heard of it by then.
        self.idle(Duration::from_millis(500))
    }

    /// Lets time pass while nothing is asked.
    fn idle(&mut self, span: Duration) -> Result<(), TrialError> {
        let until = self.cluster.now() + span;
        while self.cluster.run_until(until).map_err(failed)?.is_some() {}
        if self.cancel.is_cancelled() { Err(TrialError::Cancelled) } else { Ok(()) }
    }

    fn completion(&self, ended: Completion) -> TargetCompletion {
        TargetCompletion {
            client: ended.session_index,
            outcome: target_outcome(ended.outcome),
            served_at: Some(ended.served_at.0),
            completed_at: self.now(),
        }
    }

    fn virtual_at(&self, at: Instant) -> VirtualInstant {
        VirtualInstant::ZERO + at.saturating_duration_since(self.origin)
    }
}

impl Target for SimulatedTarget {
    fn has_virtual_time(&self) -> bool {
        true
    }

    fn submit(&mut self, client: usize, op: TargetOp) {
        let op = cluster_op(op, self.scan_rows);
        if self.cluster.submit(client, op, self.read_mode).is_err() {
            let outcome =
                TargetOutcome::Error { kind: Cow::Borrowed("window-full"), is_ambiguous: false };
            let completed_at = self.now();
            self.ended.push(TargetCompletion { client, outcome, served_at: None, completed_at });
        }
    }

    fn wait(
        &mut self,
        completions: &mut Vec<TargetCompletion>,
        deadline: Instant,
    ) -> Result<(), TargetError> {
        if self.cancel.is_cancelled() {
            return Err(TargetError { reason: "stopped on request".to_owned() });
        }
        completions.append(&mut self.ended);
        let until = self.virtual_at(deadline);
        while completions.is_empty() {
            let ended = self.cluster.run_until(until).map_err(|reason| TargetError { reason })?;
            let Some(ended) = ended else { break };
            completions.push(self.completion(ended));
        }
        Ok(())
    }

    fn now(&self) -> Instant {
        self.origin + self.cluster.now().since(VirtualInstant::ZERO)
    }
}

fn resources(node: NodeId, leader: bool, usage: &NodeUsage) -> NodeResources {
    let sent = usage.transport;
    NodeResources {
        role: quantity::NODE.to_owned(),
        node: u32::from(node.0),
        leader,
        cpu_seconds: usage.cpu.as_secs_f64(),
        bytes_sent: sent.bytes_sent,
        datagrams_sent: sent.datagrams_sent,
        turns: usage.turns,
        bytes_received: sent.bytes_received,
        bytes_retransmitted: sent.bytes_retransmitted,
        bytes_written: usage.log.bytes_written,
        syncs: usage.log.syncs,
        payload_bytes: usage.log.payload_bytes,
        record_bytes: usage.log.record_bytes,
        allocated_bytes: usage.log.allocated_bytes,
        ..NodeResources::default()
    }
}

/// The cluster that a trial asks for, at addresses that exist nowhere.
fn timed_config(trial: &TrialConfig) -> Result<TimedConfig, TrialError> {
    let member =
        |id: u8| Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, id + 1], 9000)) };
    let members = (0..trial.nodes).map(member).collect();
    let cluster = cluster_config(trial, members, trial.seed >> 16)?;
    let transport = tables::transport_config(&cluster).map_err(failed)?;
    Ok(TimedConfig {
        cluster: Arc::new(cluster),
        transport,
        link: LinkConfig {
            loss: trial.loss_percent / 100.0,
            delay_ms: trial.delay_ms,
            ..LinkConfig::default()
        },
        rate_mbit: trial.rate_mbit,
        segment_bytes: trial.segment_bytes,
        costs: trial.costs.unwrap_or_default(),
        placement: match trial.placement {
            PlacementKind::Shared => Placement::Shared { cores: SHARED_CORES },
            PlacementKind::Apart => Placement::Apart,
        },
        sessions: usize::try_from(trial.clients.max(1)).map_err(failed)? + OPERATORS,
        operation_timeout: trial.operation_timeout(),
        seed: trial.seed,
    })
}

/// Sessions beside the generator's.
const OPERATORS: usize = 1;
/// For the answer to an operator, in virtual time.
const ADMIN_LIMIT: Duration = Duration::from_secs(10);
/// Of the machine that real trials ran on.
const SHARED_CORES: u32 = 2;
const START_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(5);
