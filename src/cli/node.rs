//! `distkv node`: one node of a cluster, until SIGTERM or Ctrl-C.

use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::node::{self, NodeError, NodeOptions};
use crate::types::NodeId;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use thiserror::Error;

/// Runs one node of a cluster until it is stopped.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeArgs {
    /// Cluster file (TOML), the same for every node
    #[arg(long, value_name = "FILE")]
    pub cluster: PathBuf,
    /// This node's id in the cluster file, or a newcomer's: one that no node ever had
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u8).range(0..=31))]
    pub id: u8,
    /// A newcomer, which the cluster file does not have, listens here
    #[arg(long, value_name = "IP:PORT")]
    pub address: Option<SocketAddr>,
    /// This node's own data directory; made when it does not exist
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print what the node decides to standard error
    #[arg(long)]
    pub trace: bool,
    /// End with this process, which started the node
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

/// A node that did not start, or stopped.
#[derive(Debug, Error)]
pub enum NodeCommandError {
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A member moves by being replaced.
    #[error(
        "{node} has the address {known} in the cluster file, not {given}: a node that moves is \
         replaced by one with another id ('distkv admin replace-node')"
    )]
    OtherAddress {
        /// The node.
        node: NodeId,
        /// In the cluster file.
        known: SocketAddr,
        /// On the command line.
        given: SocketAddr,
    },
    /// Cannot be tied to its parent.
    #[error("cannot follow the process that started this node: {0}")]
    Parent(std::io::Error),
    /// The parent is gone.
    #[error("the process {0} that started this node has ended")]
    Orphan(i32),
}

/// Runs the command.
///
/// # Errors
/// [`NodeCommandError`] that says what to do.
pub fn run(args: NodeArgs) -> Result<(), NodeCommandError> {
    if let Some(parent) = args.parent {
        follow(parent)?;
    }
    let cluster = Arc::new(read_cluster_file(&args.cluster)?);
    let node = NodeId(args.id);
    if let (Some(known), Some(given)) = (cluster.address(node), args.address)
        && known != given
    {
        return Err(NodeCommandError::OtherAddress { node, known, given });
    }
    let options = NodeOptions {
        cluster,
        node,
        address: args.address,
        data_dir: args.data,
        is_traced: args.trace,
    };
    Ok(node::run(options)?)
}

/// Asks the kernel to kill this process when `parent` ends, however that may be.
fn follow(parent: i32) -> Result<(), NodeCommandError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| NodeCommandError::Parent(error.into()))?;
    // It may have ended before the kernel was asked.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) == Some(parent) {
        Ok(())
    } else {
        Err(NodeCommandError::Orphan(parent))
    }
}

const EXAMPLES: &str = "\
Examples:
  Run node 0 of the cluster in cluster.toml:
    distkv node --cluster cluster.toml --id 0 --data /var/lib/distkv/0
  A cluster file of three nodes (see 'distkv cluster' for a local one):
    cluster = 1
    policy = \"craft\"
    code = \"2+1\"
    node = [
      { id = 0, address = \"10.0.0.1:7400\" },
      { id = 1, address = \"10.0.0.2:7400\" },
      { id = 2, address = \"10.0.0.3:7400\" },
    ]
  A newcomer, from the cluster file of the beginning; then let it in (it may run before):
    distkv node --cluster cluster.toml --id 5 --address 10.0.0.6:7400 --data /var/lib/distkv/5
    distkv admin --cluster cluster.toml replace-node --old 2 --new 5 --address 10.0.0.6:7400
SIGTERM and Ctrl-C stop the node cleanly; SIGUSR1 writes node-report.json into its data directory.";
