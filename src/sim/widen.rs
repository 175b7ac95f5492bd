//! Ranges that a few runs suffice for: sizes, ids, timing and limits that are out of the way, nodes
//! that are not set up alike, faults from the first moment on, and long ones.
//!
//! Each is drawn from the seed on its own, so that the other runs are what they would be without.

use super::draw::{draw_policy, pick};
use super::scenario::{Scenario, address_of};
use crate::config::{ClusterConfig, Member, Timing};
use crate::rng::Rng;
use crate::time::Duration;
use crate::types::NodeId;

/// Of the cluster file.
pub(super) fn cluster(seed: u64, cluster: &mut ClusterConfig) {
    size(&mut Rng::new(seed ^ 0x51_2E), cluster);
    ids(&mut Rng::new(seed ^ 0x01_D5), cluster);
    timing(&mut Rng::new(seed ^ 0x71_3E), &mut cluster.timing);
    limits(&mut Rng::new(seed ^ 0x11_317), cluster);
}

/// Nobody to agree with, nobody to do without, or many.
fn size(rng: &mut Rng, cluster: &mut ClusterConfig) {
    if !rng.chance(0.08) {
        return;
    }
    let nodes = [1, 2, 2, 8, 9][pick(rng, 5)];
    (cluster.policy, cluster.code) = draw_policy(rng, nodes);
    let member = |id| Member { id: NodeId(id), address: address_of(usize::from(id)) };
    cluster.members = (0..nodes).map(member).collect();
}

/// Ids with gaps: an id is not a place.
fn ids(rng: &mut Rng, cluster: &mut ClusterConfig) {
    if !rng.chance(0.25) {
        return;
    }
    let mut free: Vec<u8> = (0..IDS).collect();
    let mut ids: Vec<u8> = Vec::new();
    for _ in &cluster.members {
        ids.push(free.swap_remove(pick(rng, free.len() as u64)));
    }
    ids.sort_unstable();
    for (member, id) in cluster.members.iter_mut().zip(ids) {
        member.id = NodeId(id);
    }
}

fn timing(rng: &mut Rng, timing: &mut Timing) {
    if !rng.chance(0.25) {
        return;
    }
    let (heartbeat_ms, election_ms) = [(20, 100), (30, 200), (100, 400), (50, 1000)][pick(rng, 4)];
    let lease_ms = [0, 2 * heartbeat_ms, election_ms][pick(rng, 3)];
    let resend_ms = [60, 250, 1000][pick(rng, 3)];
    *timing = Timing { heartbeat_ms, election_ms, lease_ms, resend_ms, ..*timing };
}

fn limits(rng: &mut Rng, cluster: &mut ClusterConfig) {
    if !rng.chance(0.25) {
        return;
    }
    let limits = &mut cluster.limits;
    limits.waiting_requests = [2, 8, 4096][pick(rng, 3)];
    limits.waiting_bytes = [20_000, 32 << 20][pick(rng, 2)];
    limits.in_flight_bytes = [100, 20_000, 8 << 20][pick(rng, 3)];
    limits.session_window = [1, 4, 64][pick(rng, 3)];
}

/// Of when they begin and how long they last; and nodes that are not set up alike.
pub(super) fn scenario(seed: u64, scenario: &mut Scenario) {
    scenario.uneven_sessions = usize::from(Rng::new(seed ^ 0x0DD).chance(0.2));
    early(&mut Rng::new(seed ^ 0xEA_271), scenario);
    long(&mut Rng::new(seed ^ 0x10_46), scenario);
}

/// Some begin before there is a leader, or while the first is on its way.
fn early(rng: &mut Rng, scenario: &mut Scenario) {
    let count = scenario.faults.len() as u64;
    if count == 0 || !rng.chance(0.3) {
        return;
    }
    for _ in 0..rng.range(1, 4) {
        let at = pick(rng, count);
        scenario.faults[at].0 = Duration::from_millis(rng.below(EARLY_MS));
    }
    scenario.faults.sort_by_key(|(at, _)| *at);
}

/// Some last for many election timeouts, up to the end of all.
fn long(rng: &mut Rng, scenario: &mut Scenario) {
    let count = scenario.faults.len() as u64;
    if count == 0 || !rng.chance(0.2) {
        return;
    }
    for _ in 0..rng.range(1, 4) {
        let at = pick(rng, count);
        let lasting = Duration::from_millis(rng.range(1800, LONG_MS));
        if let Some(span) = scenario.faults[at].1.span_mut() {
            *span = lasting;
        }
    }
}

/// The first election of a cluster ends about then.
const EARLY_MS: u64 = 600;
/// All faults end after 4 to 8 seconds.
const LONG_MS: u64 = 7000;
/// Ids are below this.
const IDS: u8 = 32;
