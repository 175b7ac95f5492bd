//! A trial's cluster as processes of this program on loopback.
//!
//! Load comes from this process, beside the nodes. No process is left behind, whatever happens: the
//! cluster is killed when it goes out of scope.

use super::bed::{Bed, SIZE_IS_THE_GENERATORS, Used, data_holder};
use super::faults::FaultAction;
use super::launch::loopback_config;
use super::measured::{self, failed};
use super::trial::{CancelFlag, ClientSide, TrialConfig, TrialError};
use crate::bench::Target;
use crate::client::{Client, ClusterTarget};
use crate::kv::{Admin, Role};
use crate::node::control::NetemCommand;
use crate::node::launcher::LocalCluster;
use crate::node::process;
use crate::types::NodeId;
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant};

/// A cluster of processes, and the sessions that load it.
pub(super) struct ProcessBed {
    cluster: LocalCluster,
    target: ClusterTarget,
    operator: Client,
    cancel: CancelFlag,
    /// The network as the trial began, which healing comes back to.
    loss_percent: f64,
    delay_ms: f64,
    paused: Vec<NodeId>,
    client_side: ClientSide,
    data_shards: u8,
}

impl ProcessBed {
    /// Starts a fresh cluster with its files in `dir`, and waits for a leader.
    pub(super) fn start(
        executable: &Path,
        trial: &TrialConfig,
        dir: &Path,
        cancel: &CancelFlag,
    ) -> Result<Self, TrialError> {
        let config = loopback_config(trial)?;
        let data_shards = config.code.k();
        let mut cluster =
            LocalCluster::start_nice(executable, trial.nice, config, dir).map_err(failed)?;
        cluster.wait_for_leader(START_TIMEOUT).map_err(failed)?;
        let clients = usize::try_from(trial.clients.max(1)).map_err(failed)?;
        let timeout = trial.operation_timeout();
        let mut target = ClusterTarget::new(cluster.cluster(), clients, timeout).map_err(failed)?;
        target.set_cancel(cancel.clone());
        target.set_read_mode(trial.read_mode);
        let operator = Client::new(cluster.cluster(), STATUS_TIMEOUT).map_err(failed)?;
        let (loss_percent, delay_ms) = (trial.loss_percent, trial.delay_ms);
        let cancel = cancel.clone();
        let (paused, client_side) = (Vec::new(), trial.client_side);
        Ok(Self {
            cluster,
            target,
            operator,
            cancel,
            loss_percent,
            delay_ms,
            paused,
            client_side,
            data_shards,
        })
    }

    /// The leader by the newest ballot, and the running nodes behind it in order. An election that is
    /// under way is waited for.
    fn ranks(&mut self) -> Result<Vec<NodeId>, String> {
        let deadline = Instant::now() + ELECTION_TIMEOUT;
        loop {
            match self.ranks_now() {
                Err(_) if Instant::now() < deadline && !self.cancel.is_cancelled() => {
                    std::thread::sleep(POLL_INTERVAL);
                }
                known => return known,
            }
        }
    }

    fn ranks_now(&mut self) -> Result<Vec<NodeId>, String> {
        let statuses = self.operator.statuses().map_err(|error| error.to_string())?;
        let known = statuses.into_iter().filter_map(|(_, status)| status);
        let leaders = known.filter(|status| status.role == Role::Leader);
        let leader = leaders.max_by_key(|status| status.ballot).ok_or("no node leads")?;
        let mut nodes = self.cluster.nodes();
        nodes.retain(|node| self.cluster.pid(*node).is_some());
        let place = nodes.iter().position(|node| node.0 == leader.node).unwrap_or(0);
        nodes.rotate_left(place);
        Ok(nodes)
    }

    fn tell_all(&mut self, command: &NetemCommand) -> Result<(), String> {
        for node in self.cluster.nodes() {
            if self.cluster.pid(node).is_some() && !self.paused.contains(&node) {
                let done = self.operator.change_netem(node, command);
                done.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn part(&mut self, skip: usize) -> Result<String, String> {
        let ranks = self.ranks()?;
        let minority = (self.cluster.nodes().len() - 1) / 2;
        let side: Vec<NodeId> = ranks.into_iter().skip(skip).take(minority).collect();
        let others = self.cluster.nodes().into_iter().filter(|node| !side.contains(node));
        let cut: Vec<u8> = others.map(|node| node.0).collect();
        for node in &side {
            let command = NetemCommand { cut: cut.clone(), ..NetemCommand::default() };
            self.operator.change_netem(*node, &command).map_err(|error| error.to_string())?;
        }
        match self.client_side {
            ClientSide::Both => {}
            ClientSide::Minority => {
                let others: Vec<NodeId> = cut.into_iter().map(NodeId).collect();
                self.target.set_cut(&others);
            }
            ClientSide::Majority => self.target.set_cut(&side),
        }
        let names: Vec<String> = side.iter().map(ToString::to_string).collect();
        Ok(format!("partition: {} apart", names.join(", ")))
    }

    fn kill(&mut self, whom: impl FnOnce(&[NodeId]) -> usize) -> Result<String, String> {
        let ranks = self.ranks()?;
        let node = *ranks.get(whom(&ranks)).ok_or("too few nodes run")?;
        self.cluster.kill(node).map_err(|error| error.to_string())?;
        Ok(format!("kill {node}"))
    }

    fn signal(&mut self, node: NodeId, signal: Signal) -> Result<(), String> {
        self.cluster.signal(node, signal).map_err(|error| error.to_string())
    }
}

impl Bed for ProcessBed {
    fn target(&mut self) -> &mut dyn Target {
        &mut self.target
    }

    fn now(&self) -> Instant {
        self.target.now()
    }

    fn set_loading(&mut self, is_loading: bool) {
        self.target.set_put_attempts(if is_loading { LOAD_ATTEMPTS } else { 1 });
    }

    fn used(&mut self) -> Result<Used, TrialError> {
        let reports = self.cluster.reports().map_err(failed)?;
        let nodes = reports.values().map(measured::node_used);
        let generator = measured::generator_used(process::usage(None));
        Ok(nodes.chain([generator]).map(|used| ((used.role.clone(), used.node), used)).collect())
    }

    fn settle(&mut self) -> Result<Option<String>, TrialError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        while !self.cancel.is_cancelled() {
            let statuses = self.operator.statuses().map_err(failed)?;
            let running = statuses.iter().filter(|(node, _)| self.cluster.pid(*node).is_some());
            let mut applied = running.map(|(_, status)| status.as_ref().map(|s| s.applied));
            let first = applied.next().flatten();
            if first.is_some() && applied.all(|other| other == first) {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                let seconds = SETTLE_TIMEOUT.as_secs();
                return Ok(Some(format!("nodes were apart {seconds} s after a phase")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }

    fn strike(&mut self, action: FaultAction) -> Result<String, String> {
        let shaped = |loss: Option<f64>, delay_ms: Option<f64>, rate_mbit: Option<f64>| {
            NetemCommand { loss, delay_ms, rate_mbit, ..NetemCommand::default() }
        };
        match action {
            FaultAction::KillLeader => self.kill(|_| 0),
            FaultAction::KillFollower => self.kill(|_| 1),
            FaultAction::KillDataHolder => {
                let data_shards = self.data_shards;
                self.kill(|ranks| data_holder(ranks, data_shards))
            }
            FaultAction::Size(_) => Err(SIZE_IS_THE_GENERATORS.to_owned()),
            FaultAction::Restart => {
                let mut names = Vec::new();
                for node in self.cluster.nodes() {
                    if self.cluster.pid(node).is_none() {
                        self.cluster.start_node(node).map_err(|error| error.to_string())?;
                        names.push(node.to_string());
                    }
                }
                Ok(format!("restart {}", names.join(", ")))
            }
            FaultAction::PauseLeader => {
                let node = *self.ranks()?.first().ok_or("no node runs")?;
                self.signal(node, Signal::STOP)?;
                self.paused.push(node);
                Ok(format!("pause {node}"))
            }
            FaultAction::Resume => {
                for node in std::mem::take(&mut self.paused) {
                    self.signal(node, Signal::CONT)?;
                }
                Ok("resume".to_owned())
            }
            FaultAction::Loss(percent) => self
                .tell_all(&shaped(Some(percent / 100.0), None, None))
                .map(|()| format!("loss {percent} %")),
            FaultAction::Delay(millis) => self
                .tell_all(&shaped(None, Some(millis), None))
                .map(|()| format!("delay {millis} ms")),
            FaultAction::Rate(mbit) => {
                self.tell_all(&shaped(None, None, Some(mbit))).map(|()| format!("{mbit} Mbit/s"))
            }
            FaultAction::PartitionLeader => self.part(0),
            FaultAction::PartitionFollowers => self.part(1),
            FaultAction::Heal => {
                let loss = Some(self.loss_percent / 100.0);
                let command = shaped(loss, Some(self.delay_ms), None);
                self.target.set_cut(&[]);
                self.tell_all(&NetemCommand { heal: Some(Vec::new()), ..command })?;
                Ok("heal".to_owned())
            }
            FaultAction::Policy(policy, code) => {
                let (k, m) = (code.k(), code.m());
                let admin = Admin::Policy { policy, k, m, hybrid_bytes: None };
                self.operator.admin(admin).map_err(|error| error.to_string())?;
                Ok(format!("policy {policy} {code}"))
            }
        }
    }

    fn broken(&mut self) -> Option<String> {
        self.cluster.check().err().map(|error| error.to_string())
    }

    fn stop(&mut self) -> Vec<String> {
        for node in std::mem::take(&mut self.paused) {
            // It may have ended meanwhile; stopping says so.
            let _ = self.signal(node, Signal::CONT);
        }
        let unclean = self.cluster.stop();
        unclean.into_iter().map(|node| format!("{node} did not stop by itself")).collect()
    }
}

const START_TIMEOUT: Duration = Duration::from_secs(20);
const LOAD_ATTEMPTS: u32 = 3;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// For a fault that needs to know who leads.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
