//! `distkv admin replace-node`, `add-node`, `remove-node`, `cancel-change`: asked, then watched.

use super::admin::AdminError;
use crate::client::Client;
use crate::config::{EpochConfig, Policy, default_code};
use crate::kv::{Admin, NodeStatus, Role};
use crate::types::{Code, Epoch, NodeId};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A change of the members as it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct MemberChange {
    pub(super) joins: Option<(u8, SocketAddr)>,
    pub(super) leaves: Option<u8>,
    pub(super) code: Option<String>,
    pub(super) is_watched: bool,
}

/// Asks for the change and, unless told not to, waits until it is done.
pub(super) fn change(
    client: &mut Client,
    wanted: &MemberChange,
    patience: Duration,
) -> Result<(), AdminError> {
    let leader = await_leader(client, patience)?;
    let code = code_after(&leader, wanted)?;
    client.admin(Admin::Change {
        joins: wanted.joins,
        leaves: wanted.leaves,
        k: code.k(),
        m: code.m(),
    })?;
    println!("{}: under way, code {code} after it", sentence(wanted));
    if wanted.is_watched { watch(client, wanted, NodeId(leader.node), patience) } else { Ok(()) }
}

/// Gives the change under way up.
pub(super) fn cancel(client: &mut Client, patience: Duration) -> Result<(), AdminError> {
    let leader = await_leader(client, patience)?;
    let Some(change) = leader.change else {
        println!("no change of members is under way");
        return Ok(());
    };
    client.admin(Admin::CancelChange)?;
    match change.joins {
        Some(newcomer) => println!("given up; the id {} is spent", newcomer.node),
        None => println!("given up"),
    }
    Ok(())
}

/// The code of new values afterwards.
fn code_after(leader: &NodeStatus, wanted: &MemberChange) -> Result<Code, AdminError> {
    let grows = i32::from(wanted.joins.is_some()) - i32::from(wanted.leaves.is_some());
    let nodes = i32::try_from(leader.members.len()).unwrap_or(i32::MAX) + grows;
    let nodes = u8::try_from(nodes).unwrap_or(0);
    let policy = leader.policy.parse()?;
    let current: Code = leader.code.parse()?;
    let code = match &wanted.code {
        Some(text) => text.parse()?,
        None if nodes == current.n() => current,
        None => default_code(policy, current.k(), nodes)?,
    };
    Ok(checked_epoch(leader, nodes, policy, code)?.code)
}

/// An epoch like the present one but for these, checked here so that the inequality that fails can be
/// named.
pub(super) fn checked_epoch(
    leader: &NodeStatus,
    nodes: u8,
    policy: Policy,
    code: Code,
) -> Result<EpochConfig, AdminError> {
    let (epoch, hybrid_bytes) = (Epoch(leader.epoch), leader.hybrid_bytes);
    Ok(EpochConfig { epoch, nodes, policy, code, hybrid_bytes }.checked()?)
}

/// Prints how far the newcomer is, until the change is done.
fn watch(
    client: &mut Client,
    wanted: &MemberChange,
    mut led: NodeId,
    patience: Duration,
) -> Result<(), AdminError> {
    let mut said = String::new();
    loop {
        // Who led is asked alone: asking all waits for those that are dead, mostly the one replaced.
        let still = client.status(led)?.filter(|status| status.role == Role::Leader);
        let leader = match still {
            Some(leader) => leader,
            None => await_leader(client, patience)?,
        };
        led = NodeId(leader.node);
        let is_in = |node: u8| leader.members.iter().any(|member| member.node == node);
        let has_joined = wanted.joins.is_none_or(|(node, _)| is_in(node));
        let has_left = wanted.leaves.is_none_or(|node| !is_in(node));
        if leader.change.is_none() && !(has_joined && has_left) {
            return Err(AdminError::GivenUp(sentence(wanted)));
        }
        let line = progress(&leader, wanted);
        if line != said {
            println!("{line}");
            said = line;
        }
        if leader.change.is_none() && leader.settled {
            let members: Vec<String> = leader
                .members
                .iter()
                .map(|member| format!("{} {}", NodeId(member.node), member.address))
                .collect();
            println!("done; the members are {}", members.join(", "));
            return Ok(());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn progress(leader: &NodeStatus, wanted: &MemberChange) -> String {
    if leader.change.is_none() {
        return "closed; waiting until enough members know it durably".to_owned();
    }
    let Some((node, address)) = wanted.joins else {
        return "waiting until the members that stay hold enough shards".to_owned();
    };
    let newcomer = leader.peers.iter().find(|peer| peer.node == node);
    let id = NodeId(node);
    match newcomer {
        Some(peer) if peer.alive => {
            format!("{id} holds {} of {} slots", peer.durable.0, leader.chosen.0)
        }
        Some(_) | None => format!(
            "{id} is not heard: start it with 'distkv node --id {node} --address {address}', or \
             give the change up with 'distkv admin cancel-change'"
        ),
    }
}

pub(super) fn await_leader(
    client: &mut Client,
    patience: Duration,
) -> Result<NodeStatus, AdminError> {
    let end = Instant::now() + patience;
    loop {
        let statuses = client.statuses()?.into_iter().filter_map(|(_, status)| status);
        let leaders = statuses.filter(|status| status.role == Role::Leader);
        if let Some(leader) = leaders.max_by_key(|status| status.ballot) {
            return Ok(leader);
        }
        if Instant::now() >= end {
            return Err(AdminError::NoLeader(patience.as_secs()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn sentence(wanted: &MemberChange) -> String {
    match (wanted.joins, wanted.leaves) {
        (Some((new, address)), Some(old)) => {
            format!("{} at {address} replaces {}", NodeId(new), NodeId(old))
        }
        (Some((new, address)), None) => format!("{} at {address} joins", NodeId(new)),
        (None, Some(old)) => format!("{} leaves", NodeId(old)),
        (None, None) => "nothing changes".to_owned(),
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(200);
