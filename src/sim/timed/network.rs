//! The network of a timed cluster: links between nodes, the client's, and what a partition cuts.

use super::TimedConfig;
use crate::netem::{LinkConfig, LinkOverride, NetemConfig, NodeConfig, NodeOverride};
use crate::types::NodeId;
use std::net::SocketAddr;

/// A partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    /// Nodes apart from the others.
    pub(super) side: Vec<NodeId>,
    /// Nodes that the client does not reach.
    pub(super) from_client: Vec<NodeId>,
}

/// Links between every two nodes as configured; the client's are the wire alone. What is cut is down.
pub(super) fn network(config: &TimedConfig, cut: &Cut, client: SocketAddr) -> NetemConfig {
    let wire = LinkConfig { delay_ms: config.costs.wire_us / 1e3, ..LinkConfig::default() };
    let between =
        LinkConfig { delay_ms: config.link.delay_ms + wire.delay_ms, ..config.link.clone() };
    let members = &config.cluster.members;
    let pairs = members.iter().flat_map(|from| members.iter().map(move |to| (from, to)));
    let links = pairs.filter(|(from, to)| from.id != to.id).map(|(from, to)| LinkOverride {
        from: Some(from.address),
        to: Some(to.address),
        link: LinkConfig {
            down: cut.side.contains(&from.id) != cut.side.contains(&to.id),
            ..between.clone()
        },
    });
    let ends = members.iter().flat_map(|node| {
        let down = cut.from_client.contains(&node.id);
        let link = LinkConfig { down, ..wire.clone() };
        [(client, node.address), (node.address, client)].map(|(from, to)| LinkOverride {
            from: Some(from),
            to: Some(to),
            link: link.clone(),
        })
    });
    NetemConfig {
        links: links.chain(ends).collect(),
        link: wire.clone(),
        card: NodeConfig { rate_mbit: config.rate_mbit, queue_bytes: 0 },
        cards: vec![NodeOverride { node: client, card: NodeConfig::default() }],
        max_queued_bytes: 4 << 30,
        ..NetemConfig::default()
    }
}
