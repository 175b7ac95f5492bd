//! `distkv admin`: changes how a running cluster works.

use crate::client::{Client, ClientError};
use crate::node::control::{Direction, LinkState, NetemCommand};
use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::types::NodeId;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Changes how a running cluster works.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct AdminArgs {
    /// Cluster file [default: distkv-cluster/cluster.toml]
    #[arg(long, alias = "config", value_name = "FILE", global = true)]
    pub cluster: Option<PathBuf>,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, global = true,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// What to change.
    #[command(subcommand)]
    pub command: AdminCommand,
}

/// What can be changed.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AdminCommand {
    /// Cut, heal or shape the links of one node, for tests and experiments; prints its links
    Netem(NetemArgs),
}

/// Changes of one node's emulated network.
#[derive(Clone, Debug, clap::Args)]
pub struct NetemArgs {
    /// The node
    #[arg(long, value_name = "ID")]
    pub node: u8,
    /// Cut its links with these nodes
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub cut: Vec<u8>,
    /// Heal its links with these nodes [default: with all]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', num_args = 0..)]
    pub heal: Option<Vec<u8>>,
    /// Which way to cut or heal, seen from the node
    #[arg(long, value_enum, default_value_t = DirectionChoice::Both)]
    pub direction: DirectionChoice,
    /// Lose datagrams that it sends to its peers with this probability, 0 to 1
    #[arg(long, value_name = "PROBABILITY")]
    pub loss: Option<f64>,
    /// Delay them by so many milliseconds
    #[arg(long, value_name = "MS")]
    pub delay: Option<f64>,
    /// Spread that delay by so many milliseconds to either side
    #[arg(long, value_name = "MS")]
    pub jitter: Option<f64>,
    /// Lose and delay only what goes to these nodes [default: to all]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    pub to: Vec<u8>,
}

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DirectionChoice {
    /// What comes from the others.
    In,
    /// What goes to the others.
    Out,
    /// Both.
    Both,
}

/// A change that was not made.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The node does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs the command.
///
/// # Errors
/// [`AdminError`] that names the node and says what to do.
pub fn run(args: &AdminArgs) -> Result<(), AdminError> {
    let cluster = Arc::new(read_cluster_file(&super::cluster_file(args.cluster.as_ref()))?);
    let mut client = Client::new(&cluster, Duration::from_secs(args.timeout))?;
    match &args.command {
        AdminCommand::Netem(args) => {
            for link in client.change_netem(NodeId(args.node), &args.command())? {
                println!("{}", sentence(&link));
            }
        }
    }
    Ok(())
}

impl NetemArgs {
    fn command(&self) -> NetemCommand {
        NetemCommand {
            heal: self.heal.clone(),
            cut: self.cut.clone(),
            direction: match self.direction {
                DirectionChoice::In => Direction::In,
                DirectionChoice::Out => Direction::Out,
                DirectionChoice::Both => Direction::Both,
            },
            to: self.to.clone(),
            loss: self.loss,
            delay_ms: self.delay,
            jitter_ms: self.jitter,
        }
    }
}

fn sentence(link: &LinkState) -> String {
    let cut = match (link.is_cut_in, link.is_cut_out) {
        (true, true) => "cut",
        (true, false) => "cut in",
        (false, true) => "cut out",
        (false, false) => "up",
    };
    format!(
        "{}: {cut}, loss {}, delay {} ms, jitter {} ms",
        NodeId(link.peer),
        link.loss,
        link.delay_ms,
        link.jitter_ms
    )
}

const EXAMPLES: &str = "\
Examples:
  Cut node 3 off from nodes 1 and 2, lose a tenth of what it sends, and heal it:
    distkv admin netem --node 3 --cut 1,2
    distkv admin netem --node 3 --loss 0.1
    distkv admin netem --node 3 --heal --loss 0
  Node 0 hears nothing from node 1, which still hears node 0:
    distkv admin netem --cluster cluster.toml --node 0 --cut 1 --direction in
'netem' needs allow_control = true in [netem] of the cluster file, as
'distkv cluster --netem-control' writes it.";
