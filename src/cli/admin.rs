//! `distkv admin`: changes how a running cluster works.

use super::members::{self, MemberChange};
use crate::client::{Client, ClientError};
use crate::config::{ConfigError, EpochConfig, Policy};
use crate::kv::{Admin, NodeStatus};
use crate::node::control::{Direction, LinkState, NetemCommand};
use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::types::{Code, CodeError, NodeId};
use std::net::SocketAddr;
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
    /// Change the policy and the code of new values while the cluster runs; old values keep theirs
    Policy {
        /// replicate, rs-paxos, craft, crossword or hybrid
        policy: String,
        /// Data and parity shards, for example 3+2 [default: as many as the policy allows]
        #[arg(long, value_name = "K+M")]
        code: Option<String>,
        /// hybrid: full copies of values shorter than this [default: as it is]
        #[arg(long, value_name = "BYTES")]
        hybrid_bytes: Option<u32>,
    },
    /// Hand the leadership over to a node
    Transfer {
        /// The node that is to lead
        to: u8,
    },
    /// Bring a new node in the place of another, dead or alive; prints its progress until it is done
    ReplaceNode {
        /// The member that goes; its id is never used again
        #[arg(long, value_name = "ID")]
        old: u8,
        /// The new node's id: one that no node ever had
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u8).range(0..=31))]
        new: u8,
        /// Where the new node listens
        #[arg(long, value_name = "IP:PORT")]
        address: SocketAddr,
        /// How it is asked and watched.
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// Grow the cluster by one node
    AddNode {
        /// Its id: one that no node ever had
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u8).range(0..=31))]
        id: u8,
        /// Where it listens
        #[arg(long, value_name = "IP:PORT")]
        address: SocketAddr,
        /// How it is asked and watched.
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// Shrink the cluster by one node
    RemoveNode {
        /// The member that goes; its id is never used again
        #[arg(long, value_name = "ID")]
        id: u8,
        /// How it is asked and watched.
        #[command(flatten)]
        how: ChangeArgs,
    },
    /// Give the change of members under way up, for example because its new node never came up
    CancelChange,
    /// Cut, heal or shape the links of one node, for tests and experiments; prints its links
    Netem(NetemArgs),
}

/// How a change of members is asked for and watched.
#[derive(Clone, Debug, clap::Args)]
pub struct ChangeArgs {
    /// Code of new values afterwards [default: as it is, or the nearest one for the new size]
    #[arg(long, value_name = "K+M")]
    pub code: Option<String>,
    /// Return when the change is under way, without waiting for its end
    #[arg(long)]
    pub no_wait: bool,
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
    /// What it sends at most to everybody together, in Mbit/s; 0 is no limit
    #[arg(long, value_name = "MBIT")]
    pub rate: Option<f64>,
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
    /// A policy or a code that this cluster cannot have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not a code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A node that the cluster does not have.
    #[error("node {0} is no node of the cluster ('distkv status' shows them)")]
    NoSuchNode(u8),
    /// Another node leads.
    #[error(
        "n{to} does not lead after {seconds} s, {now} does: look at 'distkv status', then try again"
    )]
    NotTransferred {
        /// The node asked for.
        to: u8,
        /// Waited.
        seconds: u64,
        /// Who leads.
        now: String,
    },
    /// Nobody leads.
    #[error(
        "no node has led for {0} s: check that a majority of the members run ('distkv status')"
    )]
    NoLeader(u64),
    /// The change was given up meanwhile.
    #[error("given up by somebody else: {0}")]
    GivenUp(String),
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
    let patience = Duration::from_secs(args.timeout);
    let mut client = Client::new(&cluster, patience)?;
    match &args.command {
        AdminCommand::Policy { policy, code, hybrid_bytes } => {
            let leader = members::await_leader(&mut client, patience)?;
            let wanted = wanted_epoch(&leader, policy, code.as_deref())?;
            let code = wanted.code;
            let slot = client.admin(Admin::Policy {
                policy: wanted.policy,
                k: code.k(),
                m: code.m(),
                hybrid_bytes: *hybrid_bytes,
            })?;
            println!("policy {} with code {code} from slot {} on", wanted.policy, slot + 1);
            if let Some(notice) = older_values(&leader, &wanted)? {
                println!("{notice}");
            }
        }
        AdminCommand::Transfer { to } => {
            let statuses = client.statuses()?;
            if statuses.iter().all(|(node, _)| node.0 != *to) {
                return Err(AdminError::NoSuchNode(*to));
            }
            transfer(&mut client, *to, args.timeout)?;
            println!("{} leads", NodeId(*to));
        }
        AdminCommand::ReplaceNode { old, new, address, how } => {
            let (joins, leaves) = (Some((*new, *address)), Some(*old));
            members::change(&mut client, &how.change(joins, leaves), patience)?;
        }
        AdminCommand::AddNode { id, address, how } => {
            members::change(&mut client, &how.change(Some((*id, *address)), None), patience)?;
        }
        AdminCommand::RemoveNode { id, how } => {
            members::change(&mut client, &how.change(None, Some(*id)), patience)?;
        }
        AdminCommand::CancelChange => members::cancel(&mut client, patience)?,
        AdminCommand::Netem(args) => {
            for link in client.change_netem(NodeId(args.node), &args.command())? {
                println!("{}", sentence(&link));
            }
        }
    }
    Ok(())
}

/// The epoch asked for, of the members of now.
fn wanted_epoch(
    leader: &NodeStatus,
    policy: &str,
    code: Option<&str>,
) -> Result<EpochConfig, AdminError> {
    let policy: Policy = policy.parse()?;
    let nodes = u8::try_from(leader.members.len()).unwrap_or(u8::MAX);
    let k = policy.default_k(u32::from(nodes));
    let k = u8::try_from(k).unwrap_or(u8::MAX);
    let code: Code = match code {
        Some(text) => text.parse()?,
        None => Code::new(k, nodes.saturating_sub(k))?,
    };
    members::checked_epoch(leader, nodes, policy, code)
}

/// What is there bears fewer losses than what comes, until it is written anew: values keep their codes.
fn older_values(leader: &NodeStatus, wanted: &EpochConfig) -> Result<Option<String>, AdminError> {
    let before: Code = leader.code.parse()?;
    let (old, new) = (u32::from(before.m()), wanted.quorums().tolerated);
    let is_weaker = leader.keys > 0 && old < new;
    Ok(is_weaker.then(|| {
        format!(
            "what was written with code {before} keeps it: until it is written anew it bears the \
             loss of {old} nodes, and not of {new}"
        )
    }))
}

/// Hands over, and waits until it is so.
fn transfer(client: &mut Client, to: u8, seconds: u64) -> Result<(), AdminError> {
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let leads = |client: &mut Client| -> Result<Option<u8>, AdminError> {
        let statuses = client.statuses()?;
        let leaders = statuses.into_iter().filter_map(|(_, status)| status);
        let leaders = leaders.filter(|status| status.role == crate::kv::Role::Leader);
        Ok(leaders.max_by_key(|status| status.ballot).map(|status| status.node))
    };
    if leads(client)? != Some(to) {
        client.admin(Admin::Transfer { to })?;
    }
    loop {
        let now = leads(client)?;
        if now == Some(to) {
            return Ok(());
        }
        if std::time::Instant::now() >= end {
            let now = now.map_or_else(|| "nobody".to_owned(), |node| NodeId(node).to_string());
            return Err(AdminError::NotTransferred { to, seconds, now });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl ChangeArgs {
    fn change(&self, joins: Option<(u8, SocketAddr)>, leaves: Option<u8>) -> MemberChange {
        MemberChange { joins, leaves, code: self.code.clone(), is_watched: !self.no_wait }
    }
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
            rate_mbit: self.rate,
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
  From now on full copies of values below 2 KiB, coded 3+2 above:
    distkv admin policy hybrid --code 3+2 --hybrid-bytes 2048
  Node 2 is to lead:
    distkv admin transfer 2
  Node 2 lost its disk: node 5, started at this address, takes its place:
    distkv admin replace-node --old 2 --new 5 --address 10.0.0.6:7400
  From three nodes to four, coded 2+2, and back:
    distkv admin add-node --id 3 --address 10.0.0.4:7400 --code 2+2
    distkv admin remove-node --id 3 --code 2+1
  Cut node 3 off from nodes 1 and 2, lose a tenth of what it sends, and heal it:
    distkv admin netem --node 3 --cut 1,2
    distkv admin netem --node 3 --loss 0.1
    distkv admin netem --node 3 --heal --loss 0
  Node 0 hears nothing from node 1, which still hears node 0:
    distkv admin netem --cluster cluster.toml --node 0 --cut 1 --direction in
'netem' needs allow_control = true in [netem] of the cluster file, as
'distkv cluster --netem-control' writes it.";
