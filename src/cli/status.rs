//! `distkv status`: a line per node.

use crate::client::{Client, ClientError};
use crate::kv::{NodeStatus, Role, Standing, StorageStatus};
use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::types::NodeId;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Shows role, ballot, slots and lag of every node.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Cluster file [default: distkv-cluster/cluster.toml]
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Milliseconds to wait for each node
    #[arg(long, value_name = "MS", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub timeout: u64,
    /// Print the nodes' whole accounts as JSON
    #[arg(long)]
    pub json: bool,
}

/// No status.
#[derive(Debug, Error)]
pub enum StatusError {
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The client cannot work.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The JSON cannot be made.
    #[error("status as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Nobody answers.
    #[error("no node of {0} answers; start them with 'distkv cluster' or 'distkv node'")]
    Silent(String),
}

/// Runs the command.
///
/// # Errors
/// [`StatusError`] when no node answers.
pub fn run(args: &StatusArgs) -> Result<(), StatusError> {
    let file = super::cluster_file(args.cluster.as_ref());
    let cluster = Arc::new(read_cluster_file(&file)?);
    let timeout = Duration::from_millis(args.timeout);
    let mut client = Client::new(&cluster, timeout)?.with_status_timeout(timeout);
    let statuses = client.statuses()?;
    if statuses.iter().all(|(_, status)| status.is_none()) {
        return Err(StatusError::Silent(file.display().to_string()));
    }
    if args.json {
        let known: Vec<_> = statuses.iter().filter_map(|(_, status)| status.as_ref()).collect();
        println!("{}", serde_json::to_string_pretty(&known)?);
    } else {
        print!("{}", table(&statuses));
        print!("{}", remarks(&statuses));
    }
    Ok(())
}

/// One line per node, columns aligned. `lag` counts slots behind the last one known to be chosen.
fn table(statuses: &[(NodeId, Option<NodeStatus>)]) -> String {
    let known = || statuses.iter().filter_map(|(_, status)| status.as_ref());
    let chosen = known().map(|status| status.chosen.0.max(status.applied.0)).max().unwrap_or(0);
    let leader = known().find(|status| status.role == Role::Leader);
    let header = [
        "node",
        "role",
        "leader",
        "ballot",
        "chosen",
        "applied",
        "lag",
        "keys",
        "live bytes",
        "start",
        "alive",
        "storage",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for (node, status) in statuses {
        let heard = leader.and_then(|leader| {
            if leader.node == node.0 {
                return Some(true);
            }
            leader.peers.iter().find(|peer| peer.node == node.0).map(|peer| peer.alive)
        });
        let alive = match (status.is_some(), heard) {
            (true, Some(true) | None) => "yes",
            (true, Some(false)) => "not heard by the leader",
            (false, Some(true)) => "only heard by the leader",
            (false, Some(false) | None) => "no",
        };
        let cells = status
            .as_ref()
            .map_or_else(|| std::array::from_fn(|_| "-".to_owned()), |status| row(status, chosen));
        let [role, leads, ballot, chosen, applied, lag, keys, live, boot] = cells;
        let alive = alive.to_owned();
        let node = node.to_string();
        let storage = status.as_ref().map_or_else(|| "-".to_owned(), |s| doing(&s.storage));
        rows.push([
            node, role, leads, ballot, chosen, applied, lag, keys, live, boot, alive, storage,
        ]);
    }
    let mut widths = [0; 12];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What is not as usual: a change of members under way, nodes that are none.
fn remarks(statuses: &[(NodeId, Option<NodeStatus>)]) -> String {
    let mut text = String::new();
    let known = || statuses.iter().filter_map(|(_, status)| status.as_ref());
    let leader = known().filter(|status| status.role == Role::Leader);
    if let Some(leader) = leader.max_by_key(|status| status.ballot) {
        let _ = writeln!(
            text,
            "epoch {}: {} {}, {} members",
            leader.epoch,
            leader.policy,
            leader.code,
            leader.members.len()
        );
        if let Some(change) = &leader.change {
            let joins = change.joins.map(|newcomer| {
                let peer = leader.peers.iter().find(|peer| peer.node == newcomer.node);
                let held = peer.map_or(0, |peer| peer.durable.0);
                let id = NodeId(newcomer.node);
                format!(" {id} joins, holds {held} of {} slots;", leader.chosen.0)
            });
            let leaves = change.leaves.map(|node| format!(" {} leaves;", NodeId(node)));
            let (joins, leaves) = (joins.unwrap_or_default(), leaves.unwrap_or_default());
            let _ = writeln!(text, "change under way:{joins}{leaves} code {} then", change.code);
        }
    }
    for status in known().filter(|status| status.storage.unrebuilt_count > 0) {
        text.push_str(&unrebuilt(status));
    }
    for status in known().filter(|status| !status.refused_by.is_empty()) {
        let by: Vec<String> = status.refused_by.iter().map(|id| NodeId(*id).to_string()).collect();
        let _ = writeln!(
            text,
            "{} is refused by {}: its id belongs to a data directory that is gone; 'distkv admin \
             replace-node --old {}' brings a new node in its place",
            NodeId(status.node),
            by.join(", "),
            status.node
        );
    }
    text
}

/// Of which values a node lacks its shards, and what to do.
fn unrebuilt(status: &NodeStatus) -> String {
    let StorageStatus { unrebuilt_count, unrebuilt_keys, .. } = &status.storage;
    let more = if *unrebuilt_count > unrebuilt_keys.len() as u64 { ", ..." } else { "" };
    format!(
        "{} lacks its shards of {unrebuilt_count} values, and too few nodes answer with theirs \
         (keys {}{more}): bring the other nodes back, or write these keys again\n",
        NodeId(status.node),
        unrebuilt_keys.join(", "),
    )
}

/// What a node does for its shards, in words.
fn doing(storage: &StorageStatus) -> String {
    match (storage.restoring, storage.repairing) {
        (Some((parts, 0)), _) => format!("fetches a snapshot, {parts} parts"),
        (Some((parts, of)), _) => format!("fetches a snapshot, {parts} of {of} parts"),
        (None, Some((keys, of))) => format!("repairs shards, {keys} of {of} keys"),
        (None, None) => format!("snapshot at {}", storage.snapshot.0),
    }
}

fn row(status: &NodeStatus, chosen: u64) -> [String; 9] {
    let role = match (status.role, status.disk_full) {
        _ if status.standing == Standing::Removed => "removed",
        _ if !status.refused_by.is_empty() => "refused",
        _ if status.standing == Standing::Newcomer => "newcomer",
        _ if status.standing == Standing::Unknown => "no member yet",
        (Role::Follower, false) => "follower",
        (Role::Candidate, false) => "candidate",
        (Role::Leader, false) => "leader",
        (Role::Follower, true) => "follower, disk full",
        (Role::Candidate, true) => "candidate, disk full",
        (Role::Leader, true) => "leader, disk full",
    };
    [
        role.to_owned(),
        status.leader.map_or_else(|| "-".to_owned(), |leader| NodeId(leader).to_string()),
        status.ballot.to_string(),
        status.chosen.0.to_string(),
        status.applied.0.to_string(),
        chosen.saturating_sub(status.applied.0).to_string(),
        status.keys.to_string(),
        status.live_bytes.to_string(),
        status.boot.to_string(),
    ]
}

const EXAMPLES: &str = "\
Examples:
  distkv status
  distkv status --cluster cluster.toml --json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{PeerStatus, StorageStatus};
    use crate::types::{Ballot, Slot};

    #[test]
    fn the_table_shows_lag_and_the_silent() {
        let peer = |node, alive| PeerStatus { node, alive, applied: Slot(1), durable: Slot(1) };
        let status = |node, role, applied| NodeStatus {
            node,
            role,
            leader: Some(0),
            ballot: Ballot { round: 3, node: 0 },
            chosen: Slot(applied),
            applied: Slot(applied),
            last: Slot(applied),
            keys: 2,
            sessions: 1,
            live_bytes: 40,
            boot: 1,
            peers: vec![peer(1, true), peer(2, false)],
            rebuilt_count: 0,
            garbage_count: 0,
            elections_won: 1,
            campaigns: 2,
            disk_full: false,
            epoch: 0,
            policy: "craft".to_owned(),
            code: "3+2".to_owned(),
            hybrid_bytes: 0,
            members: Vec::new(),
            change: None,
            settled: true,
            standing: Standing::Member,
            refused_by: Vec::new(),
            storage: StorageStatus::default(),
        };
        let text = table(&[
            (NodeId(0), Some(status(0, Role::Leader, 9))),
            (NodeId(1), Some(status(1, Role::Follower, 7))),
            (NodeId(2), None),
        ]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..7], ["n0", "leader", "n0", "3.n0", "9", "9", "0"]);
        assert_eq!(lines[2][..7], ["n1", "follower", "n0", "3.n0", "7", "7", "2"]);
        assert_eq!(lines[3][lines[3].len() - 2..], ["no", "-"]);
        let mut lacking = status(1, Role::Follower, 7);
        lacking.storage.unrebuilt_count = 9;
        lacking.storage.unrebuilt_keys = vec!["a\\x00".to_owned(), "b".to_owned()];
        let text = remarks(&[(NodeId(1), Some(lacking))]);
        assert!(text.contains("n1 lacks its shards of 9 values"), "{text}");
        assert!(text.contains("(keys a\\x00, b, ...)"), "{text}");
        let repairing = StorageStatus { repairing: Some((3, 9)), ..StorageStatus::default() };
        assert_eq!(doing(&repairing), "repairs shards, 3 of 9 keys");
    }
}
