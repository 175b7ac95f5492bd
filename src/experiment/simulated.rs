//! Trials in virtual time: the load of any trial on a cluster of [`TimedCluster`].
//!
//! The generator, the workloads, the client machine and the nodes are those of real trials; network,
//! disk and CPU are modelled, with the costs that the trial names. So its results are marked as
//! simulated wherever they go, and say nothing of what the model leaves out.

use super::bed::{Bed, Used};
use super::faults::FaultAction;
use super::launch::{OPERATION_TIMEOUT, cluster_config};
use super::measured::failed;
use super::trial::{CancelFlag, PlacementKind, TrialConfig, TrialError};
use crate::bench::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use crate::client::target::{cluster_op, target_outcome};
use crate::config::Member;
use crate::netem::LinkConfig;
use crate::node::tables;
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
    rate_mbit: f64,
    now: (LinkConfig, f64),
    killed: Vec<NodeId>,
}

impl SimulatedBed {
    /// Starts a fresh cluster, and waits for a leader.
    pub(super) fn start(trial: &TrialConfig, cancel: &CancelFlag) -> Result<Self, TrialError> {
        let config = timed_config(trial)?;
        let (link, rate_mbit) = (config.link.clone(), config.rate_mbit);
        let scan_rows = config.cluster.limits.scan_rows;
        let mut target = SimulatedTarget {
            scan_rows,
            origin: Instant::now(),
            read_mode: trial.read_mode,
            refused: Vec::new(),
            cancel: cancel.clone(),
            cluster: TimedCluster::start(config).map_err(failed)?,
        };
        target.wait_for_leader()?;
        let now = (link.clone(), rate_mbit);
        Ok(Self { target, link, rate_mbit, now, killed: Vec::new() })
    }

    fn kill(&mut self, is_leader: bool) -> Result<String, String> {
        let leader = self.target.cluster.leader().ok_or("no node leads")?;
        let ids = self.target.cluster.statuses().into_iter().map(|status| NodeId(status.node));
        let wanted = ids.into_iter().find(|id| (*id == leader) == is_leader);
        let node = wanted.ok_or("too few nodes run")?;
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
        let ids = self.target.cluster.statuses().into_iter().map(|status| NodeId(status.node));
        let used = ids.filter_map(|id| {
            let usage = self.target.cluster.usage(id)?;
            let used = resources(id, leader == Some(id), &usage);
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
            FaultAction::KillLeader => self.kill(true),
            FaultAction::KillFollower => self.kill(false),
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
                self.now = (self.link.clone(), self.rate_mbit);
                self.shape();
                Ok("heal".to_owned())
            }
            FaultAction::PauseLeader
            | FaultAction::Resume
            | FaultAction::PartitionLeader
            | FaultAction::PartitionFollowers
            | FaultAction::Policy(..) => Err("not in virtual time yet".to_owned()),
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
    refused: Vec<TargetCompletion>,
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
            self.refused.push(TargetCompletion { client, outcome, served_at: None, completed_at });
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
        completions.append(&mut self.refused);
        let until = self.virtual_at(deadline);
        while completions.is_empty() {
            let ended = self.cluster.run_until(until).map_err(|reason| TargetError { reason })?;
            let Some(ended) = ended else { break };
            completions.push(TargetCompletion {
                client: ended.session_index,
                outcome: target_outcome(ended.outcome),
                served_at: Some(ended.served_at.0),
                completed_at: self.now(),
            });
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
        sessions: usize::try_from(trial.clients.max(1)).map_err(failed)?,
        operation_timeout: OPERATION_TIMEOUT,
        seed: trial.seed,
    })
}

/// Of the machine that real trials ran on.
const SHARED_CORES: u32 = 2;
const START_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(5);
