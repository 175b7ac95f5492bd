//! Trials in virtual time: the load of any trial on a cluster of [`TimedCluster`].
//!
//! The generator, the workloads, the client machine and the nodes are those of real trials; network,
//! disk and CPU are modelled, with the costs that the trial names. So its results are marked as
//! simulated wherever they go, and say nothing of what the model leaves out.

use super::launch::cluster_config;
use super::measured::{self, failed};
use super::trial::{CancelFlag, PlacementKind, TrialConfig, TrialError, TrialOutcome};
use crate::bench::{
    Phase, PhaseConfig, PhaseReport, Target, TargetCompletion, TargetError, TargetOp,
    TargetOutcome, Workload, run_phase,
};
use crate::client::target::{cluster_op, target_outcome};
use crate::config::Member;
use crate::netem::LinkConfig;
use crate::node::tables;
use crate::report::quantity;
use crate::report::result::{NodeResources, PhaseResult};
use crate::sim::timed::{NodeUsage, Placement, TimedCluster, TimedConfig};
use crate::time::Instant as VirtualInstant;
use crate::types::{NodeId, ReadMode};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs `trial` in virtual time.
///
/// # Errors
/// As [`super::trial::TrialLauncher::run`].
pub(super) fn run(
    trial: &TrialConfig,
    workload: &Workload,
    cancel: &CancelFlag,
) -> Result<TrialOutcome, TrialError> {
    let mut running = Running::start(trial, workload, cancel)?;
    let mut phases =
        vec![running.measured("load", Phase::Load, &running.config(Duration::ZERO))?];
    if trial.overwrite_rounds > 0 {
        let operations = Some(trial.records * u64::from(trial.overwrite_rounds));
        let config = PhaseConfig { operations, ..running.config(Duration::ZERO) };
        phases.push(running.measured("run", Phase::Run, &config)?);
    } else {
        let warmup = Duration::from_millis(trial.warmup_ms);
        if !warmup.is_zero() {
            let config = PhaseConfig { seed: !trial.seed, ..running.config(warmup) };
            running.phase(Phase::Run, &config)?;
        }
        let config = running.config(Duration::from_millis(trial.duration_ms));
        phases.push(running.measured("run", Phase::Run, &config)?);
    }
    let mut invalid = std::mem::take(&mut running.invalid);
    for phase in phases.iter().filter(|phase| phase.operations == 0) {
        invalid.push(format!("phase {} completed no operation", phase.name));
    }
    Ok(TrialOutcome { phases, invalid, ..TrialOutcome::default() })
}

struct Running<'a> {
    trial: &'a TrialConfig,
    workload: &'a Workload,
    cancel: &'a CancelFlag,
    target: SimulatedTarget,
    invalid: Vec<String>,
}

type Usages = BTreeMap<NodeId, NodeUsage>;

impl<'a> Running<'a> {
    fn start(
        trial: &'a TrialConfig,
        workload: &'a Workload,
        cancel: &'a CancelFlag,
    ) -> Result<Self, TrialError> {
        let cluster = TimedCluster::start(timed_config(trial)?).map_err(failed)?;
        let read_mode = ReadMode::default();
        let mut target = SimulatedTarget {
            scan_rows: crate::config::Limits::default().scan_rows,
            origin: Instant::now(),
            read_mode,
            refused: Vec::new(),
            cancel: cancel.clone(),
            cluster,
        };
        target.wait_for_leader()?;
        Ok(Self { trial, workload, cancel, target, invalid: Vec::new() })
    }

    fn config(&self, duration: Duration) -> PhaseConfig {
        PhaseConfig {
            clients: usize::try_from(self.trial.clients.max(1)).unwrap_or(1),
            seed: self.trial.seed,
            duration: Some(duration).filter(|duration| !duration.is_zero()),
            ..PhaseConfig::default()
        }
    }

    fn phase(&mut self, phase: Phase, config: &PhaseConfig) -> Result<PhaseReport, TrialError> {
        if self.cancel.is_cancelled() {
            return Err(TrialError::Cancelled);
        }
        let run = run_phase(&mut self.target, self.workload, phase, config, None, &mut |_| {});
        run.map_err(
            |error| {
                if self.cancel.is_cancelled() { TrialError::Cancelled } else { failed(error) }
            },
        )
    }

    fn measured(
        &mut self,
        name: &str,
        phase: Phase,
        config: &PhaseConfig,
    ) -> Result<PhaseResult, TrialError> {
        let before = self.target.usages();
        let report = self.phase(phase, config)?;
        self.settle()?;
        let after = self.target.usages();
        let mut result = measured::phase_result(name, self.trial, &report)?;
        // The generator's own clock is the virtual one: it is never late and its CPU is modelled.
        result.numbers.remove(quantity::GENERATOR_CPU_US_PER_OP);
        let leader = self.target.cluster.leader();
        let node = |(id, after): (&NodeId, &NodeUsage)| {
            resources(*id, leader == Some(*id), before.get(id), after)
        };
        result.nodes = after.iter().map(node).collect();
        Ok(result)
    }

    /// Waits until every node has applied what was chosen.
    fn settle(&mut self) -> Result<(), TrialError> {
        let give_up = self.target.cluster.now() + SETTLE_LIMIT;
        loop {
            let statuses = self.target.cluster.statuses();
            let mut applied = statuses.iter().map(|status| status.applied);
            let first = applied.next();
            if applied.all(|other| Some(other) == first) {
                return Ok(());
            }
            if self.target.cluster.now() >= give_up {
                let seconds = SETTLE_LIMIT.as_secs();
                self.invalid.push(format!("nodes were apart {seconds} s after a phase"));
                return Ok(());
            }
            self.target.idle(SETTLE_STEP)?;
        }
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

    fn usages(&self) -> Usages {
        let ids = self.cluster.statuses().into_iter().map(|status| NodeId(status.node));
        ids.filter_map(|id| Some((id, self.cluster.usage(id)?))).collect()
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

fn resources(
    node: NodeId,
    leader: bool,
    before: Option<&NodeUsage>,
    after: &NodeUsage,
) -> NodeResources {
    let none = NodeUsage::default();
    let before = before.unwrap_or(&none);
    let (sent, was) = (after.transport, before.transport);
    NodeResources {
        role: quantity::NODE.to_owned(),
        node: u32::from(node.0),
        leader,
        cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
        bytes_sent: sent.bytes_sent - was.bytes_sent,
        datagrams_sent: sent.datagrams_sent - was.datagrams_sent,
        turns: after.turns - before.turns,
        bytes_received: sent.bytes_received - was.bytes_received,
        bytes_retransmitted: sent.bytes_retransmitted - was.bytes_retransmitted,
        bytes_written: after.log.bytes_written - before.log.bytes_written,
        syncs: after.log.syncs - before.log.syncs,
        payload_bytes: after.log.payload_bytes,
        record_bytes: after.log.record_bytes,
        allocated_bytes: after.log.allocated_bytes,
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
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_STEP: Duration = Duration::from_millis(5);
