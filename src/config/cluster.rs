//! The cluster file and its checks.

use super::{ConfigError, EpochConfig, Limits, Policy, Quorums, Timing};
use crate::types::{Code, Epoch, NodeId, NodeSet};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// One node of the cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A cluster that can be started. Members are sorted by id; a member's rank is its shard's home.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Names the cluster; data directories carry it.
    pub cluster: u64,
    /// The policy.
    pub policy: Policy,
    /// The code of new values.
    pub code: Code,
    /// The policy `hybrid` sends full copies of values shorter than this.
    pub hybrid_bytes: u32,
    /// Name of the coding backend (`coding::Backend`), kept as text: `coding` is a layer above.
    pub backend: String,
    /// Name of the durability mode (`storage::Durability`), as text.
    pub durability: String,
    /// The nodes, sorted by id.
    pub members: Vec<Member>,
    /// Maxima.
    pub limits: Limits,
    /// Times.
    pub timing: Timing,
    /// Free-form `[transport]`, `[storage]` and `[netem]` tables, parsed by those layers.
    pub tables: toml::Table,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCluster {
    #[serde(default = "default_cluster")]
    cluster: u64,
    policy: Policy,
    code: String,
    #[serde(default = "default_hybrid_bytes")]
    hybrid_bytes: u32,
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    durability: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    timing: Timing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transport: Option<toml::Table>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    storage: Option<toml::Table>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netem: Option<toml::Table>,
    node: Vec<RawMember>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    id: u8,
    address: String,
}

impl ClusterConfig {
    /// A cluster with default limits and times.
    ///
    /// # Errors
    /// [`ConfigError`] when it would be unsafe or makes no sense.
    pub fn new(
        cluster: u64,
        policy: Policy,
        code: Code,
        members: Vec<Member>,
    ) -> Result<Self, ConfigError> {
        let config = Self {
            cluster,
            policy,
            code,
            hybrid_bytes: default_hybrid_bytes(),
            backend: DEFAULT_BACKEND.to_owned(),
            durability: DEFAULT_DURABILITY.to_owned(),
            members,
            limits: Limits::default(),
            timing: Timing::default(),
            tables: toml::Table::new(),
        };
        config.checked()
    }

    /// Parses a cluster file.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key and what to change.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let raw: RawCluster =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        let code = raw.code.parse().map_err(|error: crate::types::CodeError| {
            ConfigError::Value { key: "code", problem: error.to_string() }
        })?;
        let mut members = Vec::with_capacity(raw.node.len());
        for node in raw.node {
            let address = node
                .address
                .parse()
                .map_err(|_| ConfigError::Address { id: node.id, address: node.address })?;
            members.push(Member { id: NodeId(node.id), address });
        }
        let mut tables = toml::Table::new();
        let named = [("transport", raw.transport), ("storage", raw.storage), ("netem", raw.netem)];
        for (name, table) in named {
            if let Some(table) = table {
                tables.insert(name.to_owned(), toml::Value::Table(table));
            }
        }
        let config = Self {
            cluster: raw.cluster,
            policy: raw.policy,
            code,
            hybrid_bytes: raw.hybrid_bytes,
            backend: raw.backend.unwrap_or_else(|| DEFAULT_BACKEND.to_owned()),
            durability: raw.durability.unwrap_or_else(|| DEFAULT_DURABILITY.to_owned()),
            members,
            limits: raw.limits,
            timing: raw.timing,
            tables,
        };
        config.checked()
    }

    /// The cluster file that parses to this.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let table = |name: &str| self.tables.get(name).and_then(|t| t.as_table().cloned());
        let raw = RawCluster {
            cluster: self.cluster,
            policy: self.policy,
            code: self.code.to_string(),
            hybrid_bytes: self.hybrid_bytes,
            backend: Some(self.backend.clone()),
            durability: Some(self.durability.clone()),
            limits: self.limits.clone(),
            timing: self.timing.clone(),
            transport: table("transport"),
            storage: table("storage"),
            netem: table("netem"),
            node: self
                .members
                .iter()
                .map(|m| RawMember { id: m.id.0, address: m.address.to_string() })
                .collect(),
        };
        toml::to_string(&raw).expect("every field of a cluster file is plain TOML")
    }

    /// The first configuration epoch.
    #[must_use]
    pub fn epoch(&self) -> EpochConfig {
        EpochConfig {
            epoch: Epoch(0),
            nodes: u8::try_from(self.members.len()).unwrap_or(u8::MAX),
            policy: self.policy,
            code: self.code,
            hybrid_bytes: self.hybrid_bytes,
        }
    }

    /// The quorums of this policy and code, checked at construction.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.epoch().quorums()
    }

    /// All node ids.
    #[must_use]
    pub fn nodes(&self) -> NodeSet {
        self.members.iter().map(|member| member.id.0).collect()
    }

    /// Place of `node` in the sorted membership: the home of its shard.
    #[must_use]
    pub fn rank(&self, node: NodeId) -> Option<u8> {
        let rank = self.members.iter().position(|member| member.id == node)?;
        u8::try_from(rank).ok()
    }

    /// Where `node` listens.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.members.iter().find(|member| member.id == node).map(|member| member.address)
    }

    /// Sorts the members and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn checked(mut self) -> Result<Self, ConfigError> {
        self.members.sort_by_key(|member| member.id);
        check_members(&self.members)?;
        self.code = self.epoch().checked()?.code;
        self.limits.check()?;
        self.timing.check()?;
        Ok(self)
    }
}

fn check_members(members: &[Member]) -> Result<(), ConfigError> {
    if members.is_empty() || members.len() > 32 {
        return Err(ConfigError::NodeCount { count: members.len() });
    }
    for (at, member) in members.iter().enumerate() {
        if member.id.0 >= 32 {
            return Err(ConfigError::NodeId { id: member.id.0 });
        }
        for other in &members[..at] {
            if other.id == member.id {
                return Err(ConfigError::DuplicateId { id: member.id.0 });
            }
            if other.address == member.address {
                let address = member.address.to_string();
                let (first, second) = (other.id.0, member.id.0);
                return Err(ConfigError::DuplicateAddress { address, first, second });
            }
        }
    }
    Ok(())
}

const fn default_hybrid_bytes() -> u32 {
    4096
}

const fn default_cluster() -> u64 {
    1
}

const DEFAULT_BACKEND: &str = "rusty-erasure";
const DEFAULT_DURABILITY: &str = "sync";

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u8) -> Vec<Member> {
        (0..count)
            .map(|id| Member {
                id: NodeId(id),
                address: SocketAddr::from(([127, 0, 0, 1], 7000 + u16::from(id))),
            })
            .collect()
    }

    fn cluster(policy: Policy, k: u8, n: u8) -> Result<ClusterConfig, ConfigError> {
        ClusterConfig::new(1, policy, Code::new(k, n - k).unwrap(), members(n))
    }

    #[test]
    fn quorums_are_those_of_the_design_table() {
        for n in 1..=9_u8 {
            let f = u32::from((n - 1) / 2);
            for k in 1..=n {
                let q = cluster(Policy::RsPaxos, k, n).unwrap().quorums();
                assert_eq!(q.prepare, (u32::from(n) + u32::from(k)).div_ceil(2));
                assert_eq!(q.accept, (u32::from(n) + u32::from(k)) / 2);
                assert_eq!(q.tolerated, u32::from(n - k) / 2);
                match cluster(Policy::Craft, k, n) {
                    Ok(c) => {
                        assert!(u32::from(k) <= f + 1);
                        if n % 2 == 1 {
                            assert_eq!(c.quorums().accept, f + u32::from(k));
                        }
                        assert_eq!(c.quorums().tolerated, f);
                    }
                    Err(_) => assert!(u32::from(k) > f + 1),
                }
            }
            assert_eq!(cluster(Policy::Replicate, 1, n).unwrap().quorums().tolerated, f);
            let k = u8::try_from(f + 1).unwrap();
            let q = cluster(Policy::Crossword, k, n).unwrap().quorums();
            assert_eq!(q.tolerated, f);
            for c in 1..=f + 1 {
                assert_eq!(q.acks_needed(f + 1, c), 2 * f + 2 - c);
            }
            assert!(k == n || cluster(Policy::Crossword, k + 1, n).is_err());
        }
    }

    #[test]
    fn a_cluster_file_survives_printing_and_parsing() {
        let config = cluster(Policy::Craft, 3, 5).unwrap();
        assert_eq!(ClusterConfig::from_toml(&config.to_toml()), Ok(config));
    }

    #[test]
    fn bad_files_are_refused_by_name() {
        let good = cluster(Policy::Craft, 3, 5).unwrap().to_toml();
        let cases = [
            (good.replace("id = 1", "id = 0"), "node id 0 is given twice"),
            (good.replace(":7001", ":7000"), "given to node 0 and node 1"),
            (good.replace("3+2", "4+1"), "k <= F + 1: 4 > 2 + 1"),
            (good.replace("3+2", "3+3"), "k + m must be 5"),
            (good.replace("3+2", "0+5"), "k must be at least 1"),
            (good.replace("policy", "polcy"), "polcy"),
            (good.replace("127.0.0.1:7001", "localhost"), "IP:PORT"),
        ];
        for (text, expected) in cases {
            let error = ClusterConfig::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }
}
