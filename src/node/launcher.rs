//! Clusters of node processes on this machine: start, kill, restart, stop; none is left behind.
//!
//! Nodes are this program's own executable. Each dies with the launcher, however that ends (the
//! kernel sees to it), and their output goes to `DIR/node-I.log`, whose end is part of every error.

use super::process;
use super::report::{NodeReport, ReportError};
use super::tables::TableError;
use crate::client::{Client, ClientError};
use crate::config::{ClusterConfig, ConfigError, Member};
use crate::kv::Role;
use crate::types::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// A cluster that does not come up, or cannot be handled.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// A file or directory.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A port is taken.
    #[error("port {port} of 127.0.0.1 is in use: choose another --port, or stop what has it")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// No ports are to be had.
    #[error("no free UDP port on 127.0.0.1: {0}")]
    NoPort(io::Error),
    /// A configuration that is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A table that is refused.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A process cannot be started.
    #[error("{node}: cannot start {executable}: {source}")]
    Spawn {
        /// The node.
        node: NodeId,
        /// The program.
        executable: String,
        /// Why.
        source: io::Error,
    },
    /// A process has ended by itself.
    #[error("{node} has ended ({status}); the end of {log}:\n{tail}")]
    Ended {
        /// The node.
        node: NodeId,
        /// How.
        status: String,
        /// Its output.
        log: String,
        /// The last lines.
        tail: String,
    },
    /// Nobody leads.
    #[error("no leader within {seconds} s; {node}'s output ends:\n{tail}")]
    NoLeader {
        /// How long was waited.
        seconds: f64,
        /// The first node.
        node: NodeId,
        /// The last lines of its output.
        tail: String,
    },
    /// The node does not run.
    #[error("{node} does not run")]
    NotRunning {
        /// The node.
        node: NodeId,
    },
    /// No report came.
    #[error("{node} has written no report within {seconds} s")]
    NoReport {
        /// The node.
        node: NodeId,
        /// How long was waited.
        seconds: f64,
    },
    /// A report cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The client that asks for the leader fails.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// `count` members on loopback: at ports from `base_port` on, or at any free ones.
///
/// # Errors
/// [`LaunchError::PortInUse`] or [`LaunchError::NoPort`].
pub fn loopback_members(count: u8, base_port: Option<u16>) -> Result<Vec<Member>, LaunchError> {
    // All are held until all are known, so that none is given twice.
    let mut held = Vec::new();
    let mut members = Vec::new();
    for id in 0..count {
        let port = base_port.map_or(0, |base| base.saturating_add(u16::from(id)));
        let bound = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], port)));
        let socket = bound.map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                LaunchError::PortInUse { port }
            } else {
                LaunchError::NoPort(source)
            }
        })?;
        let address = socket.local_addr().map_err(LaunchError::NoPort)?;
        held.push(socket);
        members.push(Member { id: NodeId(id), address });
    }
    Ok(members)
}

/// Node processes of one cluster; dropped, they are killed.
#[derive(Debug)]
pub struct LocalCluster {
    cluster: Arc<ClusterConfig>,
    dir: PathBuf,
    executable: PathBuf,
    nice: u8,
    children: BTreeMap<NodeId, Child>,
    /// Newcomers that the cluster file does not have.
    newcomers: BTreeMap<NodeId, SocketAddr>,
}

impl LocalCluster {
    /// Writes `dir/cluster.toml` and starts every node with its data in `dir/node-I`.
    /// `executable` is the `distkv` program.
    ///
    /// # Errors
    /// [`LaunchError`]; what was started is killed then.
    pub fn start(
        executable: &Path,
        cluster: ClusterConfig,
        dir: &Path,
    ) -> Result<Self, LaunchError> {
        Self::start_nice(executable, 0, cluster, dir)
    }

    /// The same, with all nodes at a niceness of 0 to 19: whoever measures them comes first.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_nice(
        executable: &Path,
        nice: u8,
        cluster: ClusterConfig,
        dir: &Path,
    ) -> Result<Self, LaunchError> {
        std::fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        let file = dir.join(CLUSTER_FILE);
        std::fs::write(&file, cluster.to_toml()).map_err(|source| io_error(&file, source))?;
        let mut started = Self {
            cluster: Arc::new(cluster),
            dir: dir.to_owned(),
            executable: executable.to_owned(),
            nice,
            children: BTreeMap::new(),
            newcomers: BTreeMap::new(),
        };
        for node in started.nodes() {
            started.start_node(node)?;
        }
        Ok(started)
    }

    /// The cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Arc<ClusterConfig> {
        &self.cluster
    }

    /// Its cluster file.
    #[must_use]
    pub fn cluster_file(&self) -> PathBuf {
        self.dir.join(CLUSTER_FILE)
    }

    /// All members, running or not.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.cluster.members.iter().map(|member| member.id).collect()
    }

    /// The data directory of a node.
    #[must_use]
    pub fn data_dir(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node-{}", node.0))
    }

    /// Where a node's output goes.
    #[must_use]
    pub fn log_file(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("node-{}.log", node.0))
    }

    /// The process of a running node.
    #[must_use]
    pub fn pid(&self, node: NodeId) -> Option<u32> {
        self.children.get(&node).map(Child::id)
    }

    /// Starts a node that does not run, on the data it has.
    ///
    /// # Errors
    /// [`LaunchError::Spawn`] or [`LaunchError::Io`].
    pub fn start_node(&mut self, node: NodeId) -> Result<(), LaunchError> {
        let log_path = self.log_file(node);
        let open = || OpenOptions::new().create(true).append(true).open(&log_path);
        let log: File = open().map_err(|source| io_error(&log_path, source))?;
        let errors = log.try_clone().map_err(|source| io_error(&log_path, source))?;
        let mut command = process::command(&self.executable, self.nice);
        if let Some(address) = self.newcomers.get(&node) {
            command.args(["node", "--address", &address.to_string()]);
        } else {
            command.arg("node");
        }
        let child = command
            .arg("--cluster")
            .arg(self.cluster_file())
            .arg("--id")
            .arg(node.0.to_string())
            .arg("--data")
            .arg(self.data_dir(node))
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C is the launcher's to handle.
            .process_group(0)
            .spawn()
            .map_err(|source| LaunchError::Spawn {
                node,
                executable: self.executable.display().to_string(),
                source,
            })?;
        self.children.insert(node, child);
        Ok(())
    }

    /// Starts a node that the cluster file does not have, at a free port of loopback. It is let in by
    /// an operator's command.
    ///
    /// # Errors
    /// [`LaunchError::Spawn`], [`LaunchError::Io`] or [`LaunchError::NoPort`].
    pub fn start_newcomer(&mut self, node: NodeId) -> Result<SocketAddr, LaunchError> {
        let address = loopback_members(1, None)?[0].address;
        self.newcomers.insert(node, address);
        self.start_node(node)?;
        Ok(address)
    }

    /// Waits until a node says that it leads and a majority agrees.
    ///
    /// # Errors
    /// [`LaunchError::Ended`] when a process ends meanwhile, [`LaunchError::NoLeader`] in the end.
    pub fn wait_for_leader(&mut self, limit: Duration) -> Result<NodeId, LaunchError> {
        let deadline = Instant::now() + limit;
        let mut client = Client::new(&self.cluster, Duration::from_millis(200))?;
        loop {
            self.check()?;
            let statuses = client.statuses()?;
            let known: Vec<_> = statuses.iter().filter_map(|(_, status)| status.as_ref()).collect();
            let leads = known.iter().find(|status| status.role == Role::Leader);
            if let Some(leader) = leads
                && known.iter().filter(|status| status.leader == Some(leader.node)).count() * 2
                    > statuses.len()
            {
                return Ok(NodeId(leader.node));
            }
            if Instant::now() >= deadline {
                let node = self.cluster.members[0].id;
                let (seconds, tail) = (limit.as_secs_f64(), self.log_tail(node));
                return Err(LaunchError::NoLeader { seconds, node, tail });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Are all started processes still there?
    ///
    /// # Errors
    /// [`LaunchError::Ended`] with the end of its output.
    pub fn check(&mut self) -> Result<(), LaunchError> {
        let mut ended = None;
        for (node, child) in &mut self.children {
            if let Ok(Some(status)) = child.try_wait() {
                ended = Some((*node, status.to_string()));
                break;
            }
        }
        let Some((node, status)) = ended else { return Ok(()) };
        self.children.remove(&node);
        let (log, tail) = (self.log_file(node).display().to_string(), self.log_tail(node));
        Err(LaunchError::Ended { node, status, log, tail })
    }

    /// Sends a signal to a running node.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`].
    pub fn signal(&mut self, node: NodeId, signal: Signal) -> Result<(), LaunchError> {
        let not_running = LaunchError::NotRunning { node };
        let Some(child) = self.children.get(&node) else { return Err(not_running) };
        let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
            return Err(not_running);
        };
        kill_process(pid, signal).map_err(|_| not_running)
    }

    /// Kills a node without warning (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    /// [`LaunchError::NotRunning`].
    pub fn kill(&mut self, node: NodeId) -> Result<(), LaunchError> {
        let Some(mut child) = self.children.remove(&node) else {
            return Err(LaunchError::NotRunning { node });
        };
        end(&mut child);
        Ok(())
    }

    /// Kills a node if it runs, and starts it on its data.
    ///
    /// # Errors
    /// [`LaunchError::Spawn`] or [`LaunchError::Io`].
    pub fn restart(&mut self, node: NodeId) -> Result<(), LaunchError> {
        if let Some(mut child) = self.children.remove(&node) {
            end(&mut child);
        }
        self.start_node(node)
    }

    /// A fresh report of every running node.
    ///
    /// # Errors
    /// [`LaunchError::NoReport`] when one does not come in time.
    pub fn reports(&mut self) -> Result<BTreeMap<NodeId, NodeReport>, LaunchError> {
        let running: Vec<NodeId> = self.children.keys().copied().collect();
        let mut asked = BTreeMap::new();
        for node in running {
            let before = NodeReport::read(&self.data_dir(node))?;
            let before = before.filter(|report| Some(report.pid) == self.pid(node));
            asked.insert(node, before.map_or(0, |report| report.reports_written));
            self.signal(node, Signal::USR1)?;
        }
        let deadline = Instant::now() + REPORT_TIMEOUT;
        let mut reports = BTreeMap::new();
        for (node, before) in asked {
            loop {
                let report = NodeReport::read(&self.data_dir(node))?;
                let is_fresh = |report: &NodeReport| {
                    Some(report.pid) == self.pid(node) && report.reports_written > before
                };
                if let Some(report) = report.filter(is_fresh) {
                    reports.insert(node, report);
                    break;
                }
                self.check()?;
                if Instant::now() >= deadline {
                    let seconds = REPORT_TIMEOUT.as_secs_f64();
                    return Err(LaunchError::NoReport { node, seconds });
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(reports)
    }

    /// CPU and memory of a running node, as the system counts them.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Option<process::ProcessUsage> {
        self.pid(node).map(|pid| process::usage(Some(pid)))
    }

    /// Stops every node cleanly; those that do not stop in time are killed. Gives their ids.
    pub fn stop(&mut self) -> Vec<NodeId> {
        let running: Vec<NodeId> = self.children.keys().copied().collect();
        for node in running {
            // One that has ended already is what is wanted.
            let _ = self.signal(node, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut killed = Vec::new();
        while let Some((node, mut child)) = self.children.pop_first() {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            if matches!(child.try_wait(), Ok(None)) {
                killed.push(node);
                end(&mut child);
            }
        }
        killed
    }

    /// The last lines of a node's output.
    #[must_use]
    pub fn log_tail(&self, node: NodeId) -> String {
        let text = std::fs::read(self.log_file(node)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..].join("\n")
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            end(child);
        }
    }
}

/// Kills a process and takes its status, so that nothing of it is left.
fn end(child: &mut Child) {
    // Both fail only when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn io_error(path: &Path, source: io::Error) -> LaunchError {
    LaunchError::Io { path: path.display().to_string(), source }
}

/// The cluster file's name within a cluster's directory.
pub const CLUSTER_FILE: &str = "cluster.toml";
const TAIL_LINES: usize = 15;
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
