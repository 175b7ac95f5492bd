//! Other stores as processes of a trial: etcd and Redis, where they are installed.
//!
//! Each gets the durability that ours has with `sync`: etcd syncs every commit, Redis appends to its
//! file and syncs before it answers (`appendfsync always`), alone on one node. Ports are free ones of
//! loopback, data and logs lie in the trial's directory, and no process outlives its [`Running`] or
//! this program (by `setpriv`, where that is there, even when it is killed).

use super::trial::CancelFlag;
use crate::bench::Target;
use crate::client::{StoreAddress, StoreAddressError, StoreOptions};
use crate::node::process::{self, ProcessUsage};
use crate::report::quantity;
use crate::report::result::NodeResources;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A store that a trial can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// etcd, Raft over as many members as the trial has nodes.
    Etcd,
    /// One Redis server.
    Redis,
}

impl StoreKind {
    /// Its name in experiment files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// The program it is, and the package of Debian that has it.
    #[must_use]
    pub const fn program(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("etcd", "etcd-server"),
            Self::Redis => ("redis-server", "redis-server"),
        }
    }

    /// What its program says that it is: the first line of `--version`. None when it is not installed.
    #[must_use]
    pub fn version(self) -> Option<String> {
        let program = find_program(self.program().0)?;
        let said = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&said.stdout);
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Was support for it built into this program?
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Etcd => cfg!(feature = "etcd"),
            Self::Redis => cfg!(feature = "redis"),
        }
    }

    /// What to say when a trial skips it; None when it can be started.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let (program, package) = self.program();
        if !self.is_built() {
            let name = self.name();
            return Some(format!("{name}: skipped, build distkv with --features {name}"));
        }
        let is_there = find_program(program).is_some();
        (!is_there).then(|| format!("{program}: skipped, not installed (Debian: {package})"))
    }
}

/// A store that does not come up.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file, directory or port.
    #[error("{what}: {source}")]
    Io {
        /// The path, or what it was for.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A process has ended by itself.
    #[error("{name} has ended ({status}); the end of {log}:\n{tail}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// Its output.
        log: String,
        /// The last lines.
        tail: String,
    },
    /// It does not answer.
    #[error("no answer within {seconds} s: {reason}; the end of {log}:\n{tail}")]
    NoAnswer {
        /// How long was waited.
        seconds: u64,
        /// What the client said.
        reason: StoreAddressError,
        /// The first process's output.
        log: String,
        /// The last lines.
        tail: String,
    },
    /// It cannot be driven.
    #[error(transparent)]
    Address(#[from] StoreAddressError),
}

/// Starts stores.
#[derive(Clone, Copy, Debug)]
pub struct ExternalStore;

impl ExternalStore {
    /// Starts `kind` with `nodes` members (Redis: always one) at niceness `nice` and everything of it
    /// in `dir`, and waits until it answers. None when it is not installed or not built in:
    /// [`StoreKind::missing`] says which.
    ///
    /// # Errors
    /// [`StoreError`]; what was started is killed then.
    pub fn start(
        kind: StoreKind,
        nodes: u8,
        nice: u8,
        dir: &Path,
    ) -> Result<Option<Running>, StoreError> {
        if kind.missing().is_some() {
            return Ok(None);
        }
        let members = match kind {
            StoreKind::Etcd => nodes.max(1),
            StoreKind::Redis => 1,
        };
        let ports = free_ports(usize::from(members) * 2)?;
        let (client_ports, peer_ports) = ports.split_at(usize::from(members));
        let host = |port: &u16| format!("127.0.0.1:{port}");
        let address = match kind {
            StoreKind::Etcd => {
                StoreAddress::Etcd { endpoints: client_ports.iter().map(host).collect() }
            }
            StoreKind::Redis => {
                StoreAddress::Redis { url: format!("redis://127.0.0.1:{}", client_ports[0]) }
            }
        };
        let mut running = Running { address, processes: Vec::new(), before: Vec::new() };
        for index in 0..usize::from(members) {
            let name = format!("{}-{index}", kind.name());
            let data = dir.join(&name);
            std::fs::create_dir_all(&data).map_err(|source| io_error(&data, source))?;
            let arguments = match kind {
                StoreKind::Etcd => etcd_arguments(index, client_ports, peer_ports, &data),
                StoreKind::Redis => redis_arguments(client_ports[0], &data),
            };
            running.processes.push(Process::spawn(kind.program().0, nice, &arguments, name, data)?);
        }
        running.wait_until_it_answers(START_TIMEOUT)?;
        running.mark();
        Ok(Some(running))
    }
}

/// A store under way; dropped, its processes are killed.
#[derive(Debug)]
pub struct Running {
    address: StoreAddress,
    processes: Vec<Process>,
    /// What each had used at the last [`Running::mark`].
    before: Vec<(ProcessUsage, u64)>,
}

impl Running {
    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> &StoreAddress {
        &self.address
    }

    /// A target for `clients` sessions; an operation ends after `timeout`, a phase soon after `cancel`
    /// is set.
    ///
    /// # Errors
    /// [`StoreError::Address`] when it does not answer.
    pub fn target(
        &self,
        clients: usize,
        timeout: Duration,
        has_scans: bool,
        cancel: Option<CancelFlag>,
    ) -> Result<Box<dyn Target>, StoreError> {
        Ok(self.address.open(&StoreOptions { clients, timeout, has_scans, cancel })?)
    }

    /// Process ids, in order.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.child.id()).collect()
    }

    /// Are all processes still there?
    ///
    /// # Errors
    /// [`StoreError::Ended`] with the end of its output.
    pub fn check(&mut self) -> Result<(), StoreError> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// [`Running::resources`] counts from here on.
    pub fn mark(&mut self) {
        self.before = self.processes.iter().map(Process::used).collect();
    }

    /// What each process used since the last [`Running::mark`]: CPU, bytes written to disk, and at rest
    /// the space allocated in its data directory. Peak memory is since its start.
    #[must_use]
    pub fn resources(&self) -> Vec<NodeResources> {
        let since = |(index, process): (usize, &Process)| {
            let (usage, written_bytes) = process.used();
            let (first, first_bytes) = self.before.get(index).copied().unwrap_or_default();
            NodeResources {
                role: quantity::STORE.to_owned(),
                node: u32::try_from(index).unwrap_or(u32::MAX),
                cpu_seconds: (usage.cpu_seconds - first.cpu_seconds).max(0.0),
                peak_rss_bytes: usage.peak_rss_bytes,
                bytes_written: written_bytes.saturating_sub(first_bytes),
                allocated_bytes: allocated_bytes(&process.data),
                ..NodeResources::default()
            }
        };
        self.processes.iter().enumerate().map(since).collect()
    }

    fn wait_until_it_answers(&mut self, limit: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            match self.target(1, PROBE_TIMEOUT, false, None) {
                Ok(_) => return Ok(()),
                Err(StoreError::Address(reason)) if Instant::now() >= deadline => {
                    let process = &self.processes[0];
                    return Err(StoreError::NoAnswer {
                        seconds: limit.as_secs(),
                        reason,
                        log: process.log.display().to_string(),
                        tail: process.tail(),
                    });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

#[derive(Debug)]
struct Process {
    name: String,
    child: Child,
    data: PathBuf,
    log: PathBuf,
}

impl Process {
    fn spawn(
        program: &str,
        nice: u8,
        arguments: &[OsString],
        name: String,
        data: PathBuf,
    ) -> Result<Self, StoreError> {
        let log = data.with_extension("log");
        let out = File::create(&log).map_err(|source| io_error(&log, source))?;
        let errors = out.try_clone().map_err(|source| io_error(&log, source))?;
        // The kernel kills it with this program (with the thread that started it, to be exact); the
        // process id stays the same.
        let mut command = match find_program("setpriv") {
            Some(setpriv) => {
                let mut command = process::command(&setpriv, nice);
                command.args(["--pdeathsig", "KILL", program]);
                command
            }
            None => process::command(Path::new(program), nice),
        };
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            // Debian's unit files set it for architectures etcd does not know; harmless elsewhere.
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            // Ctrl-C is this program's to handle.
            .process_group(0)
            .spawn()
            .map_err(|source| StoreError::Io { what: format!("cannot start {program}"), source })?;
        Ok(Self { name, child, data, log })
    }

    fn check(&mut self) -> Result<(), StoreError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(StoreError::Ended {
                name: self.name.clone(),
                status: status.to_string(),
                log: self.log.display().to_string(),
                tail: self.tail(),
            }),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// CPU and memory, and bytes it had the disk write, so far.
    fn used(&self) -> (ProcessUsage, u64) {
        let pid = self.child.id();
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        (process::usage(Some(pid)), written.unwrap_or(0))
    }

    fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn etcd_arguments(
    index: usize,
    client_ports: &[u16],
    peer_ports: &[u16],
    data: &Path,
) -> Vec<OsString> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let members: Vec<String> = peer_ports
        .iter()
        .enumerate()
        .map(|(member, port)| format!("m{member}={}", url(*port)))
        .collect();
    let (client, peer) = (url(client_ports[index]), url(peer_ports[index]));
    let mut arguments: Vec<OsString> = [
        ("--name", format!("m{index}")),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", "new".to_owned()),
        // Its largest request is 1.5 MiB and its quota 2 GiB otherwise.
        ("--max-request-bytes", (96 << 20).to_string()),
        ("--quota-backend-bytes", (8_u64 << 30).to_string()),
        ("--logger", "zap".to_owned()),
    ]
    .into_iter()
    .flat_map(|(option, value)| [OsString::from(option), OsString::from(value)])
    .collect();
    arguments.extend([OsString::from("--data-dir"), data.as_os_str().to_owned()]);
    arguments
}

fn redis_arguments(port: u16, data: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        ("--port", port.to_string()),
        ("--bind", "127.0.0.1".to_owned()),
        ("--appendonly", "yes".to_owned()),
        ("--appendfsync", "always".to_owned()),
        // No snapshots beside the file that is synced.
        ("--save", String::new()),
        ("--daemonize", "no".to_owned()),
    ]
    .into_iter()
    .flat_map(|(option, value)| [OsString::from(option), OsString::from(value)])
    .collect();
    arguments.extend([OsString::from("--dir"), data.as_os_str().to_owned()]);
    arguments
}

/// Ports of loopback that were free a moment ago, all different.
fn free_ports(count: usize) -> Result<Vec<u16>, StoreError> {
    let no_port = |source| StoreError::Io { what: "no free TCP port".to_owned(), source };
    let bind = |_| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    // All are held until all are known, so that none is given twice.
    let held: Vec<TcpListener> = (0..count).map(bind).collect::<Result<_, _>>().map_err(no_port)?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    held.iter().map(port).collect::<Result<_, _>>().map_err(no_port)
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Space that the files under `folder` take on disk, in bytes.
fn allocated_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => allocated_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        // Gone meanwhile.
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what: path.display().to_string(), source }
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const TAIL_LINES: usize = 15;
