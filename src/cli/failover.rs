//! `distkv failover`: how long a local cluster is without a leader when its leader is killed.

use crate::config::{ClusterConfig, ConfigError, Policy};
use crate::experiment::CancelFlag;
use crate::experiment::failover::{
    BUCKET_MS, FailoverError, FailoverPlan, FailoverReport, Spread, run_failover,
};
use crate::node::launcher::{LaunchError, loopback_members};
use crate::types::{Code, CodeError};
use std::path::PathBuf;
use thiserror::Error;

/// Kills the leaders of a new local cluster one after the other, and times the next ones.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct FailoverArgs {
    /// Leaders to kill
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub kills: usize,
    /// Nodes
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u8).range(3..=32))]
    pub nodes: u8,
    /// What each node gets: replicate, rs-paxos, craft, crossword or hybrid
    #[arg(long, value_name = "POLICY", default_value = "craft")]
    pub policy: Policy,
    /// Data and parity shards of a value [default: the policy's]
    #[arg(long, value_name = "K+M")]
    pub code: Option<String>,
    /// Bytes of each value put meanwhile
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub value_bytes: usize,
    /// Shortest election timeout [default: the cluster file's]
    #[arg(long, value_name = "MS")]
    pub election_ms: Option<u64>,
    /// Seed of the pauses between kills
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of the cluster; must not exist [default: a temporary one, removed in the end]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write the whole result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Kills that were not measured.
#[derive(Debug, Error)]
pub enum FailoverCommandError {
    /// Not a code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A configuration that is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The run.
    #[error(transparent)]
    Failover(#[from] FailoverError),
    /// The folder is there.
    #[error("{0} exists: give another --data, the cluster must be a new one")]
    Exists(String),
    /// A file.
    #[error("{file}: {source}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The JSON cannot be made.
    #[error("result as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command.
///
/// # Errors
/// [`FailoverCommandError`] that says what to do.
pub fn run(args: &FailoverArgs, cancel: &CancelFlag) -> Result<(), FailoverCommandError> {
    let io = |file: String| move |source| FailoverCommandError::Io { file, source };
    let executable = std::env::current_exe().map_err(io("this program".to_owned()))?;
    let k = u8::try_from(args.policy.default_k(u32::from(args.nodes))).unwrap_or(1);
    let code = match &args.code {
        Some(text) => text.parse()?,
        None => Code::new(k, args.nodes - k)?,
    };
    let members = loopback_members(args.nodes, None)?;
    let id = crate::node::process::random_u64() >> 16;
    let mut config = ClusterConfig::new(id, args.policy, code, members)?;
    if let Some(election_ms) = args.election_ms {
        config.timing.election_ms = election_ms;
        config.timing.lease_ms = config.timing.lease_ms.min(election_ms);
        config = config.checked()?;
    }
    let temporary = std::env::temp_dir().join(format!("distkv-failover-{id:x}"));
    let dir = args.data.clone().unwrap_or_else(|| temporary.clone());
    if dir.exists() {
        return Err(FailoverCommandError::Exists(dir.display().to_string()));
    }
    let (kills, value_bytes, seed) = (args.kills, args.value_bytes, args.seed);
    let plan = FailoverPlan { kills, value_bytes, seed, nice: 0 };
    let result = run_failover(&executable, config, &dir, plan, cancel, |number, kill| {
        let (leader, commit) = (kill.leader_ms, kill.commit_ms);
        eprintln!("kill {number}: leader after {leader:.0} ms, commit after {commit:.0} ms");
    });
    if args.data.is_none() && result.is_ok() {
        std::fs::remove_dir_all(&dir).map_err(io(dir.display().to_string()))?;
    }
    let report = result?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).map_err(io(file.display().to_string()))?;
    }
    print(&report);
    Ok(())
}

fn print(report: &FailoverReport) {
    let FailoverReport { policy, code, nodes, election_ms, kills, .. } = report;
    println!(
        "{nodes} nodes, {policy} {code}, election timeout {election_ms} to {} ms, {} kills",
        election_ms * 2,
        kills.len()
    );
    let spreads = [
        ("new leader", &report.leader),
        ("first commit", &report.commit),
        ("first read", &report.read),
    ];
    for (name, spread) in spreads {
        let Spread { median_ms, p99_ms, min_ms, max_ms, histogram } = spread;
        println!(
            "{name}: median {median_ms:.0} ms, p99 {p99_ms:.0} ms, {min_ms:.0} to {max_ms:.0} ms"
        );
        for (from, count) in histogram {
            let bar = "#".repeat(usize::try_from(*count).unwrap_or(0).min(100));
            println!("  {from:>5} to {:>5} ms {count:>4} {bar}", from + BUCKET_MS);
        }
    }
    let in_vain = kills.iter().filter(|kill| kill.campaigns > 1).count();
    println!("elections with more than one campaign: {in_vain}");
}

const EXAMPLES: &str = "\
Examples:
  A hundred leaders of five nodes, values coded 3+2:
    distkv failover --kills 100 --policy craft --code 3+2 --json failover.json
  Ten of three nodes with full copies:
    distkv failover --kills 10 --nodes 3 --policy replicate";
