//! `distkv cluster`: a whole cluster on this machine, until Ctrl-C.

use crate::config::{ClusterConfig, ConfigError, Policy};
use crate::experiment::CancelFlag;
use crate::node::launcher::{CLUSTER_FILE, LaunchError, LocalCluster, loopback_members};
use crate::node::tables::{self, ClusterFileError, EmulatedNetwork, TableError, read_cluster_file};
use crate::types::{Code, CodeError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Starts a cluster of nodes on this machine and keeps it running until Ctrl-C.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ClusterArgs {
    /// Nodes, 1 to 32 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub nodes: Option<u8>,
    /// Data and parity shards of a value, K+M with K + M = N [default: as many data shards as a
    /// majority has nodes]
    #[arg(long, value_name = "K+M")]
    pub code: Option<String>,
    /// What each node gets: replicate, rs-paxos, craft, crossword or hybrid [default: craft]
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<String>,
    /// When a write counts as done: sync, os or memory [default: sync]
    #[arg(long, value_name = "MODE", value_parser = ["sync", "os", "memory"])]
    pub durability: Option<String>,
    /// Library that does the coding [default: rusty-erasure]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Directory for the cluster file, the nodes' data and their output
    #[arg(long, value_name = "DIR", default_value = super::DEFAULT_CLUSTER_DIR)]
    pub data: PathBuf,
    /// First of N UDP ports [default: any free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Lose this many percent of the datagrams between nodes
    #[arg(long, value_name = "PERCENT")]
    pub loss: Option<f64>,
    /// Delay datagrams between nodes by so many milliseconds
    #[arg(long, value_name = "MS")]
    pub delay: Option<f64>,
    /// Limit what each node sends, in Mbit/s
    #[arg(long, value_name = "MBIT")]
    pub rate: Option<f64>,
    /// Let 'distkv admin netem' cut and shape links while the cluster runs
    #[arg(long)]
    pub netem_control: bool,
}

/// A cluster that did not start, or broke.
#[derive(Debug, Error)]
pub enum ClusterCommandError {
    /// Not a code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A configuration that is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A network that is refused.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The cluster file that is there is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The directory holds another cluster.
    #[error(
        "{file} holds a cluster with {key} {found}, not {wanted}: give another --data, or remove {dir} \
         to start anew"
    )]
    Other {
        /// The cluster file.
        file: String,
        /// What differs.
        key: &'static str,
        /// What it is.
        found: String,
        /// What was asked for.
        wanted: String,
        /// The directory.
        dir: String,
    },
    /// A process.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// This program's own path is not known.
    #[error("cannot find this program's own file: {0}")]
    Executable(std::io::Error),
}

/// Runs the command until `cancel` is set.
///
/// # Errors
/// [`ClusterCommandError`] that says what to do.
pub fn run(args: &ClusterArgs, cancel: &CancelFlag) -> Result<(), ClusterCommandError> {
    let executable = std::env::current_exe().map_err(ClusterCommandError::Executable)?;
    let file = args.data.join(CLUSTER_FILE);
    let config = if file.exists() {
        let found = read_cluster_file(&file)?;
        check_same(args, &found, &file)?;
        found
    } else {
        configuration(args)?
    };
    let mut cluster = LocalCluster::start(&executable, config, &args.data)?;
    let leader = cluster.wait_for_leader(START_TIMEOUT)?;
    println!("{leader} leads {}", description(&cluster));
    print_usage(&cluster.cluster_file());
    while !cancel.is_cancelled() {
        std::thread::sleep(Duration::from_millis(100));
        if let Err(error) = cluster.check() {
            // The others go on, as they would on machines of their own.
            eprintln!("error: {error}");
        }
    }
    for node in cluster.stop() {
        eprintln!("warning: {node} did not stop by itself and was killed");
    }
    println!("stopped; the data stays in {}", args.data.display());
    Ok(())
}

fn configuration(args: &ClusterArgs) -> Result<ClusterConfig, ClusterCommandError> {
    let nodes = args.nodes.unwrap_or(DEFAULT_NODES);
    let policy: Policy = args.policy.as_deref().unwrap_or(DEFAULT_POLICY).parse()?;
    let k = u8::try_from(policy.default_k(u32::from(nodes))).unwrap_or(u8::MAX);
    let code: Code = match &args.code {
        Some(text) => text.parse()?,
        None => Code::new(k, nodes - k)?,
    };
    // The code and the policy are checked before a port is looked for.
    let members = loopback_members(nodes, args.port)?;
    let mut config =
        ClusterConfig::new(crate::node::process::random_u64() >> 16, policy, code, members)?;
    if let Some(durability) = &args.durability {
        config.durability.clone_from(durability);
    }
    if let Some(backend) = &args.backend {
        config.backend.clone_from(backend);
    }
    let is_emulated = args.loss.is_some() || args.delay.is_some() || args.rate.is_some();
    if is_emulated {
        let network = EmulatedNetwork {
            loss_percent: args.loss.unwrap_or(0.0),
            delay_ms: args.delay.unwrap_or(0.0),
            rate_mbit: args.rate.unwrap_or(0.0),
            datagram_bytes: ETHERNET_DATAGRAM_BYTES,
            seed: 1,
        };
        network.write_to(&mut config);
    }
    if args.netem_control {
        tables::allow_netem_control(&mut config);
    }
    tables::check(&config)?;
    Ok(config)
}

/// The data that is there was written by this very configuration.
fn check_same(
    args: &ClusterArgs,
    found: &ClusterConfig,
    file: &Path,
) -> Result<(), ClusterCommandError> {
    let nodes = args.nodes.map(|nodes| nodes.to_string());
    let differing = [
        ("nodes", found.members.len().to_string(), nodes.as_ref()),
        ("code", found.code.to_string(), args.code.as_ref()),
        ("policy", found.policy.to_string(), args.policy.as_ref()),
        ("durability", found.durability.clone(), args.durability.as_ref()),
        ("backend", found.backend.clone(), args.backend.as_ref()),
    ];
    for (key, found, wanted) in differing {
        if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
            return Err(ClusterCommandError::Other {
                file: file.display().to_string(),
                key,
                found,
                wanted: wanted.clone(),
                dir: args.data.display().to_string(),
            });
        }
    }
    Ok(())
}

fn description(cluster: &LocalCluster) -> String {
    let config = cluster.cluster();
    let quorums = config.quorums();
    format!(
        "{} nodes, policy {}, code {}, durability {}; {} may fail",
        quorums.nodes, config.policy, config.code, config.durability, quorums.tolerated
    )
}

fn print_usage(file: &Path) {
    let option = if file == super::cluster_file(None) {
        String::new()
    } else {
        format!(" --cluster {}", file.display())
    };
    println!("In another terminal:");
    println!("  distkv kv{option} put hello world");
    println!("  distkv kv{option} get hello");
    println!("  distkv status{option}");
    println!(
        "  distkv bench --cluster {} --workload workloads/put-1k --duration 10",
        file.display()
    );
    println!("Ctrl-C stops the nodes.");
}

const DEFAULT_NODES: u8 = 5;
const DEFAULT_POLICY: &str = "craft";
/// Loss is drawn per datagram, so their size is that of a real path.
const ETHERNET_DATAGRAM_BYTES: u32 = 1472;
const START_TIMEOUT: Duration = Duration::from_secs(30);
const EXAMPLES: &str = "\
Examples:
  Five nodes, values in three data and two parity shards, data in ./distkv-cluster:
    distkv cluster --nodes 5 --code 3+2
  Three full copies without syncs, at ports 7400 to 7402:
    distkv cluster --nodes 3 --policy replicate --durability os --port 7400 --data /tmp/three
  A lossy, slow network between the nodes:
    distkv cluster --loss 1 --delay 5 --rate 200 --data /tmp/lossy
Started again on the same directory, it continues the cluster that is there.";
