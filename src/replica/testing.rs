//! A replica for the tests of its parts.

use super::{Replica, ReplicaConfig};
use crate::config::{ClusterConfig, Member, Policy};
use crate::storage::Recovered;
use crate::time::Instant;
use crate::transport::TransportConfig;
use crate::types::{Code, NodeId};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where node `id` of [`first_of_three`]'s cluster listens.
pub(super) fn address(id: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, id], 7000))
}

/// n0 of a new cluster of three that keep full copies.
pub(super) fn first_of_three() -> Replica {
    let members = (0..3).map(|id| Member { id: NodeId(id), address: address(id) }).collect();
    let code = Code::new(1, 2).expect("a code");
    let cluster = ClusterConfig::new(1, Policy::Replicate, code, members).expect("a cluster");
    let config = ReplicaConfig {
        cluster: Arc::new(cluster),
        node: NodeId(0),
        transport: TransportConfig::default(),
        is_traced: false,
        is_observed: false,
    };
    let recovered = Recovered { boot: 1, incarnation: 7, ..Recovered::default() };
    Replica::new(config, recovered, Instant::ZERO, 1).expect("a replica")
}
