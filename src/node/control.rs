//! A node's emulated network, changed at run time: for tests and experiments.
//!
//! A request carries a [`NetemCommand`] to one node, whose driver obeys it outside the state machine
//! and answers with its links. What leaves the node passes its netem; what comes from a peer that is
//! cut off is dropped unread. Links to clients are never touched, so that a node can be healed. It
//! lasts until the node restarts, and is refused unless the cluster file has `allow_control = true`
//! in `[netem]`: whoever reaches the port could otherwise cut a cluster in pieces.

use crate::config::ClusterConfig;
use crate::netem::{Netem, NodeConfig};
use crate::types::{NodeId, pack, unpack};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Which way a link is cut or healed, seen from the node asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// What comes from the peer.
    In,
    /// What goes to the peer.
    Out,
    /// Both.
    #[default]
    Both,
}

/// What to change. Links are healed first, then cut. The default changes nothing and asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetemCommand {
    /// Peers whose links are healed; empty: all.
    pub heal: Option<Vec<u8>>,
    /// Peers whose links are cut.
    pub cut: Vec<u8>,
    /// Which way `heal` and `cut` mean.
    pub direction: Direction,
    /// Peers that the numbers below are for; empty: all.
    pub to: Vec<u8>,
    /// Probability that a datagram to them is lost.
    pub loss: Option<f64>,
    /// Delay of datagrams to them.
    pub delay_ms: Option<f64>,
    /// Spread of that delay, to either side.
    pub jitter_ms: Option<f64>,
    /// What the node sends at most to everybody together, in Mbit/s; 0 is no limit.
    pub rate_mbit: Option<f64>,
}

/// The links between the node asked and one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    /// The peer.
    pub peer: u8,
    /// Nothing comes from it.
    pub is_cut_in: bool,
    /// Nothing goes to it.
    pub is_cut_out: bool,
    /// Probability that a datagram to it is lost.
    pub loss: f64,
    /// Delay of datagrams to it.
    pub delay_ms: f64,
    /// Spread of that delay.
    pub jitter_ms: f64,
}

impl NetemCommand {
    /// The command as the bytes of a request.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        pack(self)
    }
}

/// Reads the answer to a command: the links, or why nothing was changed.
///
/// # Errors
/// The reason in words.
pub fn decode_answer(answer: &[u8]) -> Result<Vec<LinkState>, String> {
    unpack::<Result<Vec<LinkState>, String>>(answer, "links").map_err(|error| error.to_string())?
}

/// The driver's side.
#[derive(Debug)]
pub(super) struct NetemControl {
    cluster: Arc<ClusterConfig>,
    node: NodeId,
    local: SocketAddr,
    is_allowed: bool,
    cut_in: BTreeSet<SocketAddr>,
}

impl NetemControl {
    pub(super) const fn new(
        cluster: Arc<ClusterConfig>,
        node: NodeId,
        local: SocketAddr,
        is_allowed: bool,
    ) -> Self {
        Self { cluster, node, local, is_allowed, cut_in: BTreeSet::new() }
    }

    /// Is what comes from there to be dropped?
    pub(super) fn is_cut_from(&self, from: SocketAddr) -> bool {
        self.cut_in.contains(&from)
    }

    /// Obeys an encoded command, wholly or not at all; gives the encoded answer.
    pub(super) fn handle(&mut self, netem: Option<&mut Netem>, command: &[u8]) -> Vec<u8> {
        pack(&self.obey(netem, command))
    }

    fn obey(
        &mut self,
        netem: Option<&mut Netem>,
        command: &[u8],
    ) -> Result<Vec<LinkState>, String> {
        let Some(netem) = netem.filter(|_| self.is_allowed) else {
            return Err(format!(
                "{}: the network may not be changed at run time: set allow_control = true in \
                 [netem] of the cluster file and restart the node",
                self.node
            ));
        };
        let command: NetemCommand = unpack(command, "netem command").map_err(|error| {
            format!("{}: {error}: is this program of the same version?", self.node)
        })?;
        let local = self.local;
        let heal = match command.heal {
            Some(ids) if ids.is_empty() => self.peers(),
            Some(ids) => self.addresses(&ids)?,
            None => Vec::new(),
        };
        let cut = self.addresses(&command.cut)?;
        let shape = [command.loss, command.delay_ms, command.jitter_ms];
        let is_shaped = shape.iter().any(Option::is_some);
        let to = if command.to.is_empty() { self.peers() } else { self.addresses(&command.to)? };
        let mut shaped = Vec::new();
        for (_, address) in to.into_iter().filter(|_| is_shaped) {
            let mut link = netem.link(local, address).clone();
            link.loss = command.loss.unwrap_or(link.loss);
            link.delay_ms = command.delay_ms.unwrap_or(link.delay_ms);
            link.jitter_ms = command.jitter_ms.unwrap_or(link.jitter_ms);
            link.validate().map_err(|error| format!("{}: {error}", self.node))?;
            shaped.push((address, link));
        }
        let card = command.rate_mbit.map(|rate_mbit| NodeConfig { rate_mbit, queue_bytes: 0 });
        if let Some(card) = &card {
            card.validate().map_err(|error| format!("{}: {error}", self.node))?;
        }
        // Everything is valid from here on.
        if let Some(card) = &card {
            netem.set_card(local, card);
        }
        for (address, link) in shaped {
            netem.set_link(local, address, link);
        }
        let is_in = command.direction != Direction::Out;
        let is_out = command.direction != Direction::In;
        let healed = heal.into_iter().map(|(_, address)| (address, false));
        let downs = healed.chain(cut.into_iter().map(|(_, address)| (address, true)));
        for (address, is_down) in downs {
            if is_out {
                netem.set_down(local, address, is_down);
            }
            if is_in && is_down {
                self.cut_in.insert(address);
            } else if is_in {
                self.cut_in.remove(&address);
            }
        }
        Ok(self.links(netem, local))
    }

    /// All other members.
    fn peers(&self) -> Vec<(NodeId, SocketAddr)> {
        let members = self.cluster.members.iter().filter(|member| member.id != self.node);
        members.map(|member| (member.id, member.address)).collect()
    }

    fn addresses(&self, ids: &[u8]) -> Result<Vec<(NodeId, SocketAddr)>, String> {
        let peers = self.peers();
        let find = |id: &u8| {
            peers.iter().find(|(peer, _)| peer.0 == *id).copied().ok_or_else(|| {
                let known: Vec<String> = peers.iter().map(|(peer, _)| peer.0.to_string()).collect();
                format!("{}: node {id} is none of its peers: {}", self.node, known.join(", "))
            })
        };
        ids.iter().map(find).collect()
    }

    fn links(&self, netem: &Netem, local: SocketAddr) -> Vec<LinkState> {
        let state = |(peer, address): (NodeId, SocketAddr)| {
            let link = netem.link(local, address);
            LinkState {
                peer: peer.0,
                is_cut_in: self.cut_in.contains(&address),
                is_cut_out: link.down,
                loss: link.loss,
                delay_ms: link.delay_ms,
                jitter_ms: link.jitter_ms,
            }
        };
        self.peers().into_iter().map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Member, Policy};
    use crate::netem::NetemConfig;
    use crate::types::Code;

    fn member(id: u8) -> Member {
        Member { id: NodeId(id), address: SocketAddr::from(([10, 0, 0, 1], 7000 + u16::from(id))) }
    }

    fn control(is_allowed: bool) -> (NetemControl, Netem) {
        let members = (0..3).map(member).collect();
        let code = Code::new(1, 2).unwrap();
        let cluster = ClusterConfig::new(1, Policy::Replicate, code, members).unwrap();
        let control =
            NetemControl::new(Arc::new(cluster), NodeId(1), member(1).address, is_allowed);
        (control, Netem::new(NetemConfig::default(), 1))
    }

    fn tell(
        (control, netem): &mut (NetemControl, Netem),
        command: &NetemCommand,
    ) -> Result<Vec<LinkState>, String> {
        decode_answer(&control.handle(Some(netem), &command.encode()))
    }

    #[test]
    fn links_are_cut_shaped_and_healed() {
        let mut both = control(true);
        let (local, two) = (member(1).address, member(2).address);
        let cut = NetemCommand { cut: vec![2], loss: Some(0.5), ..NetemCommand::default() };
        let links = tell(&mut both, &cut).unwrap();
        assert_eq!(links.iter().map(|link| link.peer).collect::<Vec<_>>(), [0, 2]);
        assert!(links[1].is_cut_in && links[1].is_cut_out && !links[0].is_cut_in);
        assert_eq!(links[0].loss, 0.5);
        assert!(both.0.is_cut_from(two) && both.1.link(local, two).down);
        let out = NetemCommand {
            heal: Some(Vec::new()),
            direction: Direction::Out,
            to: vec![0],
            delay_ms: Some(3.0),
            ..NetemCommand::default()
        };
        let links = tell(&mut both, &out).unwrap();
        assert!(links[1].is_cut_in && !links[1].is_cut_out);
        assert_eq!((links[0].delay_ms, links[1].delay_ms, links[1].loss), (3.0, 0.0, 0.5));
        let heal = NetemCommand { heal: Some(vec![2]), ..NetemCommand::default() };
        assert!(!tell(&mut both, &heal).unwrap()[1].is_cut_in);
    }

    #[test]
    fn what_cannot_be_obeyed_changes_nothing() {
        let mut both = control(true);
        let wrong = NetemCommand { cut: vec![0], loss: Some(2.0), ..NetemCommand::default() };
        assert!(tell(&mut both, &wrong).unwrap_err().contains("loss"));
        let unknown = NetemCommand { cut: vec![0, 1], ..NetemCommand::default() };
        assert!(tell(&mut both, &unknown).unwrap_err().contains("none of its peers: 0, 2"));
        assert!(!tell(&mut both, &NetemCommand::default()).unwrap()[0].is_cut_in);
        let garbage = both.0.handle(Some(&mut both.1), b"\xff\xff");
        assert!(decode_answer(&garbage).unwrap_err().contains("version"));
        let mut forbidden = control(false);
        let refused = tell(&mut forbidden, &NetemCommand::default()).unwrap_err();
        assert!(refused.contains("allow_control = true"), "{refused}");
    }
}
