//! A replica for the tests of its parts.

use super::{Output, Replica, ReplicaConfig};
use crate::config::{ClusterConfig, Limits, Member, Policy};
use crate::kv::{Bounds, Command, Operation, Response};
use crate::storage::Recovered;
use crate::time::Instant;
use crate::transport::{Transport, TransportConfig, TransportEvent};
use crate::types::{Ballot, Bytes, Code, Digest, Epoch, NodeId, Slot, ValueId, ValueMeta};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where node `id` of these clusters listens.
pub(super) fn address(id: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, id], 7000))
}

/// n0 of a new cluster of three that keep full copies.
pub(super) fn first_of_three() -> Replica {
    first_of(Policy::Replicate, 1, 3)
}

/// n0 of a new cluster of five that code 3+2.
pub(super) fn first_of_five_coded() -> Replica {
    first_of(Policy::Craft, 3, 5)
}

/// A cluster of one, which leads.
pub(super) fn leader_alone() -> (Instant, Replica) {
    let (mut now, mut replica) = (Instant::ZERO, first_of(Policy::Replicate, 1, 1));
    while !replica.is_leader() {
        while let Some(output) = replica.poll_output(now) {
            if let Output::Persist { ticket, .. } = output {
                replica.handle_persisted(now, ticket);
            }
        }
        now = now.max(replica.poll_timeout().expect("an election is due"));
        replica.handle_timeout(now);
    }
    (now, replica)
}

fn first_of(policy: Policy, k: u8, nodes: u8) -> Replica {
    let members = (0..nodes).map(|id| Member { id: NodeId(id), address: address(id) }).collect();
    let code = Code::new(k, nodes - k).expect("a code");
    let cluster = ClusterConfig::new(1, policy, code, members).expect("a cluster");
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

/// Other bounds for `replica` from now on.
pub(super) fn set_limits(replica: &mut Replica, change: impl FnOnce(&mut Limits)) {
    let mut cluster = ClusterConfig::clone(&replica.config.cluster);
    change(&mut cluster.limits);
    replica.config.cluster = Arc::new(cluster);
}

/// The side of a client of these clusters.
pub(super) fn client_side() -> Transport {
    Transport::new(TransportConfig { cluster_id: 1, ..TransportConfig::default() }, 1, 1)
}

/// What `replica` answers to the client at `to` now; what it wants of its log it does not get.
pub(super) fn answers(
    replica: &mut Replica,
    now: Instant,
    client: &mut Transport,
    to: SocketAddr,
) -> Vec<Response> {
    while let Some(output) = replica.poll_output(now) {
        if let Output::Transmit(transmit) = output
            && transmit.to == to
        {
            for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                client.handle_datagram(now, address(0), datagram);
            }
        }
    }
    let events = std::iter::from_fn(|| client.poll_event());
    let responses = events.filter_map(|event| match event {
        TransportEvent::Message { bytes, .. } => Response::decode(bytes).ok(),
        TransportEvent::PeerRestarted { .. } | TransportEvent::Unreachable { .. } => None,
    });
    responses.collect()
}

/// The key that [`put_values`] writes in `slot`.
pub(super) fn key_of(slot: u64) -> Bytes {
    Bytes::from(slot.to_be_bytes().to_vec())
}

/// Opens a session and applies puts of `payload_bytes` each, to other keys, up to slot `last`: the
/// state alone has them, so that their values are nowhere.
pub(super) fn put_values(replica: &mut Replica, last: u64, payload_bytes: u32) {
    let code = replica.paxos.epoch().code;
    for slot in 1..=last {
        replica.state.apply(&value_of(slot, code, payload_bytes)).expect("a put");
    }
}

/// What [`put_values`] applies in `slot`.
pub(super) fn value_of(slot: u64, code: Code, payload_bytes: u32) -> ValueMeta {
    let (session, operation) = match slot {
        1 => (0, Operation::OpenSession(Bounds { sessions: 9, session_window: 64 })),
        _ => (1, Operation::Put { key: key_of(slot) }),
    };
    let command = Command { session, sequence: slot, answered_below: slot, operation };
    ValueMeta {
        id: ValueId { origin: Ballot { round: 1, node: 0 }, slot: Slot(slot) },
        epoch: Epoch(0),
        code,
        payload_bytes,
        digest: Digest(0),
        header: command.encode(),
    }
}
