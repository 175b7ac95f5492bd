//! One run, fully determined, and its file: TOML that is written for a failure, read for a replay.

use super::clock::ClockSetting;
use super::draw;
use super::fault::{Fault, micros};
use super::members::NODES_MAX;
use super::stage::Missing;
use crate::config::{ClusterConfig, ConfigError, EpochConfig, default_code};
use crate::kv::Admin;
use crate::netem::{self, LinkConfig, NetemConfigError};
use crate::time::Duration;
use crate::transport::TransportConfig;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use thiserror::Error;

/// A bug put in on purpose, to show that the checkers find it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// None.
    #[default]
    None,
    /// Records count as durable when they are written, before the sync.
    AckBeforeSync,
}

/// One run, fully determined but for the seed that draws what happens by chance in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The cluster, with small limits so that paging, windows and eviction happen.
    pub cluster: ClusterConfig,
    /// Every link, clients' included.
    pub link: LinkConfig,
    /// What every node's card sends, in Mbit/s; 0 for no bound. Whoever sends keeps to it.
    pub card_mbit: f64,
    /// UDP payload at most.
    pub datagram_bytes: usize,
    /// An acknowledgement waits so long for data to ride on.
    pub ack_delay: Duration,
    /// Clients.
    pub client_count: u64,
    /// Sessions of each client, which ask side by side.
    pub sessions_per_client: u64,
    /// Each rank keeps so many sessions, and results of one, more than the one before.
    pub uneven_sessions: usize,
    /// Keys in use.
    pub key_count: u64,
    /// Longest value.
    pub value_bytes_max: u64,
    /// Operations per client before the final reads.
    pub operations_per_client: u64,
    /// How long a client waits for an answer before it asks another node.
    pub attempt_timeout: Duration,
    /// Longest pause of a client between operations.
    pub think_time: Duration,
    /// Longest sync of a node's disk.
    pub sync_time: Duration,
    /// The nodes' clocks by rank; those that are missing are the world's.
    pub clocks: Vec<ClockSetting>,
    /// When each fault begins, and what it is; ascending.
    pub faults: Vec<(Duration, Fault)>,
    /// When all faults end.
    pub heal_at: Duration,
    /// Who is missing after that, as far as the cluster can do without; then they come back, too.
    pub missing: Vec<Missing>,
}

/// A scenario with the seed of its chances, as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioFile {
    /// Draws what happens by chance.
    pub seed: u64,
    /// The rest.
    pub scenario: Scenario,
}

/// A file that is no scenario.
#[derive(Clone, Debug, Error)]
pub enum ScenarioError {
    /// Not of this form.
    #[error("scenario: {0}")]
    Syntax(String),
    /// Its cluster cannot be.
    #[error("scenario: {0}")]
    Cluster(#[from] ConfigError),
    /// Its link cannot be.
    #[error("scenario: {0}")]
    Link(#[from] NetemConfigError),
    /// A number that makes no sense.
    #[error("scenario: {0}")]
    Bound(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    seed: u64,
    client_count: u64,
    #[serde(default = "one")]
    sessions_per_client: u64,
    #[serde(default)]
    uneven_sessions: usize,
    key_count: u64,
    value_bytes_max: u64,
    operations_per_client: u64,
    datagram_bytes: usize,
    #[serde(default)]
    card_mbit: f64,
    #[serde(with = "micros", default = "default_ack_delay")]
    ack_delay_us: Duration,
    #[serde(with = "micros")]
    attempt_timeout_us: Duration,
    #[serde(with = "micros")]
    think_time_us: Duration,
    #[serde(with = "micros")]
    sync_time_us: Duration,
    #[serde(with = "micros")]
    heal_at_us: Duration,
    link: LinkConfig,
    cluster: toml::Table,
    #[serde(default)]
    clocks: Vec<ClockSetting>,
    #[serde(default)]
    missing: Vec<Missing>,
    #[serde(default)]
    faults: Vec<RawFault>,
}

#[derive(Serialize, Deserialize)]
struct RawFault {
    #[serde(with = "micros")]
    at_us: Duration,
    #[serde(flatten)]
    fault: Fault,
}

impl Scenario {
    /// The scenario of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        draw::scenario(seed)
    }

    /// The cluster file of a rank: nodes may be set up for other sessions than the first one, and
    /// clients keep to the smallest window.
    pub(super) fn cluster_of(&self, rank: usize, all: &Arc<ClusterConfig>) -> Arc<ClusterConfig> {
        let more = rank * self.uneven_sessions;
        if more == 0 {
            return Arc::clone(all);
        }
        let mut cluster = ClusterConfig::clone(all);
        cluster.limits.sessions += more;
        cluster.limits.session_window += more;
        cluster.into()
    }

    /// How nodes and clients talk.
    pub(super) fn transport(&self) -> TransportConfig {
        TransportConfig {
            cluster_id: self.cluster.cluster,
            datagram_bytes: self.datagram_bytes,
            ack_delay_us: u64::try_from(self.ack_delay.as_micros()).unwrap_or(u64::MAX),
            ..TransportConfig::default()
        }
    }

    /// Nodes that may be without their record of a slot so that everything can still be rebuilt,
    /// under any policy of the run.
    pub(super) fn nodes_to_spare(&self) -> u32 {
        let first = self.cluster.epoch();
        let mut rules = vec![first];
        let (mut fewest, mut most) = (first.nodes, first.nodes);
        for (_, fault) in &self.faults {
            if let Fault::Operator(admin @ Admin::Policy { policy, .. }) = fault
                && let Some(code) = admin.code()
            {
                rules.push(EpochConfig { policy: *policy, code, ..first });
            }
            most += u8::from(matches!(fault, Fault::AddNode {}));
            fewest -= u8::from(matches!(fault, Fault::RemoveNode { .. }) && fewest > 3);
        }
        // With as many nodes as there may be at some time, and the code that the operator then takes.
        let spare = |rules: &EpochConfig, nodes: u8| {
            let code = if nodes == rules.code.n() {
                rules.code
            } else {
                default_code(rules.policy, rules.code.k(), nodes).ok()?
            };
            let quorums = EpochConfig { nodes, code, ..*rules }.quorums();
            Some(quorums.nodes.saturating_sub(quorums.prepare))
        };
        let all = rules.iter().flat_map(|rules| (fewest..=most).filter_map(|n| spare(rules, n)));
        let removals = u32::from(first.nodes - fewest);
        all.min().unwrap_or(0).saturating_sub(removals)
    }
}

impl ScenarioFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ScenarioError`], naming what is wrong.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let syntax = |error: &dyn fmt::Display| ScenarioError::Syntax(error.to_string());
        let raw: Raw = toml::from_str(text).map_err(|error| syntax(&error))?;
        let cluster = toml::to_string(&raw.cluster).map_err(|error| syntax(&error))?;
        let cluster = ClusterConfig::from_toml(&cluster)?;
        raw.link.validate()?;
        card(raw.card_mbit).validate()?;
        // Of machines that are yet to come, too; a rank that is not there means another one.
        let is_rank = |node: Option<usize>| node.is_none_or(|node| node < NODES_MAX);
        let missing = raw.missing.iter().map(|missing| Some(missing.node));
        if !raw.faults.iter().map(|raw| raw.fault.node()).chain(missing).all(is_rank) {
            return Err(ScenarioError::Bound("a fault of a node that the cluster does not have"));
        }
        let is_possible = (1..=CLIENTS_MAX).contains(&raw.client_count)
            && (1..=SESSIONS_MAX).contains(&raw.sessions_per_client);
        if raw.key_count == 0 || !is_possible {
            let bound = "one key, 1 to 100 clients and 1 to 100 sessions of each are needed";
            return Err(ScenarioError::Bound(bound));
        }
        let mut faults: Vec<(Duration, Fault)> =
            raw.faults.into_iter().map(|raw| (raw.at_us, raw.fault)).collect();
        faults.sort_by_key(|(at, _)| *at);
        let scenario = Scenario {
            cluster,
            link: raw.link,
            datagram_bytes: raw.datagram_bytes,
            card_mbit: raw.card_mbit,
            ack_delay: raw.ack_delay_us,
            client_count: raw.client_count,
            sessions_per_client: raw.sessions_per_client,
            uneven_sessions: raw.uneven_sessions,
            key_count: raw.key_count,
            value_bytes_max: raw.value_bytes_max,
            operations_per_client: raw.operations_per_client,
            attempt_timeout: raw.attempt_timeout_us,
            think_time: raw.think_time_us,
            sync_time: raw.sync_time_us,
            clocks: raw.clocks,
            faults,
            heal_at: raw.heal_at_us,
            missing: raw.missing,
        };
        Ok(Self { seed: raw.seed, scenario })
    }

    /// The file that reads as this.
    ///
    /// # Panics
    /// Never: every field is plain TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let scenario = self.scenario.clone();
        let cluster = toml::from_str(&scenario.cluster.to_toml());
        let faults = scenario.faults.into_iter();
        let raw = Raw {
            seed: self.seed,
            client_count: scenario.client_count,
            sessions_per_client: scenario.sessions_per_client,
            uneven_sessions: scenario.uneven_sessions,
            key_count: scenario.key_count,
            value_bytes_max: scenario.value_bytes_max,
            operations_per_client: scenario.operations_per_client,
            datagram_bytes: scenario.datagram_bytes,
            card_mbit: scenario.card_mbit,
            ack_delay_us: scenario.ack_delay,
            attempt_timeout_us: scenario.attempt_timeout,
            think_time_us: scenario.think_time,
            sync_time_us: scenario.sync_time,
            heal_at_us: scenario.heal_at,
            missing: scenario.missing,
            link: scenario.link,
            cluster: cluster.expect("a cluster file is TOML"),
            clocks: scenario.clocks,
            faults: faults.map(|(at_us, fault)| RawFault { at_us, fault }).collect(),
        };
        toml::to_string(&raw).expect("every field of a scenario is plain TOML")
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = &self.cluster;
        writeln!(
            f,
            "{} nodes, {} {}, backend {}, durability {}, {} clients with {} sessions x {} \
             operations on {} keys, values up to {} B",
            cluster.members.len(),
            cluster.policy,
            cluster.code,
            cluster.backend,
            cluster.durability,
            self.client_count,
            self.sessions_per_client,
            self.operations_per_client,
            self.key_count,
            self.value_bytes_max
        )?;
        writeln!(f, "limits {:?}", cluster.limits)?;
        writeln!(f, "timing {:?}", cluster.timing)?;
        writeln!(f, "link {:?}, datagrams of {} B", self.link, self.datagram_bytes)?;
        writeln!(f, "cards of {} Mbit/s (0: no bound)", self.card_mbit)?;
        let (ack, think, sync) = (self.ack_delay, self.think_time, self.sync_time);
        writeln!(f, "acknowledgements after {ack:?}, think {think:?}, sync up to {sync:?}")?;
        for (rank, clock) in self.clocks.iter().enumerate() {
            let ClockSetting { offset_ms, drift_ppm } = clock;
            writeln!(f, "clock of rank {rank}: {offset_ms} ms ahead, {drift_ppm} ppm fast")?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "{:>8.3} s  {fault:?}", at.as_secs_f64())?;
        }
        write!(f, "{:>8.3} s  all faults end", self.heal_at.as_secs_f64())?;
        for Missing { node, way } in &self.missing {
            write!(f, "\n            but rank {node} is missing: {way:?}")?;
        }
        Ok(())
    }
}

/// A card of so many Mbit/s.
pub(super) fn card(rate_mbit: f64) -> netem::NodeConfig {
    netem::NodeConfig { rate_mbit, queue_bytes: 0 }
}

/// Where the node of a rank listens.
pub(super) fn address_of(rank: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(rank).unwrap_or(u8::MAX)], 7000))
}

const fn one() -> u64 {
    1
}

/// Of files from before it was drawn.
const fn default_ack_delay() -> Duration {
    Duration::from_millis(1)
}

/// Their addresses are numbered in one byte.
const CLIENTS_MAX: u64 = 100;
const SESSIONS_MAX: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_survives_its_file() {
        for seed in 0..100 {
            let mut file = ScenarioFile { seed, scenario: Scenario::draw(seed) };
            // Files hold whole microseconds.
            for (at, _) in &mut file.scenario.faults {
                *at = Duration::from_micros(u64::try_from(at.as_micros()).unwrap());
            }
            let text = file.to_toml();
            let read = ScenarioFile::from_toml(&text);
            assert_eq!(read.unwrap_or_else(|error| panic!("{error}\n{text}")), file);
        }
    }

    #[test]
    fn impossible_files_are_refused() {
        let good = ScenarioFile { seed: 1, scenario: Scenario::draw(1) }.to_toml();
        for (from, to, expected) in [
            ("key_count = ", "key_count = 0 # ", "one key"),
            ("client_count", "clint_count", "clint_count"),
            ("loss = ", "loss = 7.0 # ", "probability"),
        ] {
            let error = ScenarioFile::from_toml(&good.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }
}
