//! The free-form tables of a cluster file, as the layers that they belong to.
//!
//! `[transport]` is a [`TransportConfig`] whose `cluster_id` is the cluster's; `[netem]` a
//! [`NetemConfig`] with `seed` and `allow_control` beside it; of `[storage]`, `reserve_bytes` is the
//! node's and the rest the log's.

use crate::coding::Backend;
use crate::config::{ClusterConfig, Member};
use crate::netem::{LinkConfig, LinkOverride, NetemConfig, NodeConfig};
use crate::transport::TransportConfig;
use serde::de::DeserializeOwned;
use std::path::Path;
use thiserror::Error;

/// A cluster file that cannot be used.
#[derive(Debug, Error)]
pub enum ClusterFileError {
    /// Not readable.
    #[error(
        "{file}: {source}; start a cluster with 'distkv cluster', or name its file with --cluster"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster part is wrong.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: String,
        /// What, and what to change.
        source: crate::config::ConfigError,
    },
    /// A table is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A table that a layer refuses.
#[derive(Debug, Error)]
#[error("cluster file: [{table}]: {problem}")]
pub struct TableError {
    /// The table.
    pub table: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Reads and checks a cluster file, tables included.
///
/// # Errors
/// [`ClusterFileError`], naming file and key.
pub fn read_cluster_file(path: &Path) -> Result<ClusterConfig, ClusterFileError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ClusterFileError::Unreadable { file: file.clone(), source })?;
    let cluster = ClusterConfig::from_toml(&text)
        .map_err(|source| ClusterFileError::Config { file, source })?;
    check(&cluster)?;
    Ok(cluster)
}

/// Checks the tables of a cluster.
///
/// # Errors
/// [`TableError`] for the first that is wrong.
pub fn check(cluster: &ClusterConfig) -> Result<(), TableError> {
    transport_config(cluster)?;
    netem_config(cluster)?;
    is_netem_control_allowed(cluster)?;
    reserve_bytes(cluster)?;
    super::log::log_options(cluster, cluster.members[0].id)?;
    if let Err(error) = cluster.backend.parse::<Backend>() {
        return Err(TableError { table: "cluster", problem: format!("backend: {error}") });
    }
    Ok(())
}

/// A network between the nodes of a cluster on one machine. What goes to clients shares the node's
/// bandwidth and is otherwise left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EmulatedNetwork {
    /// Datagrams lost, in percent, per link and direction.
    pub loss_percent: f64,
    /// One-way delay.
    pub delay_ms: f64,
    /// What each node sends at most, in Mbit/s; 0 is no limit.
    pub rate_mbit: f64,
    /// Largest datagram; 0 leaves the transport's own.
    pub datagram_bytes: u32,
    /// Of what is lost.
    pub seed: u64,
}

impl EmulatedNetwork {
    /// Sets the `[netem]` and `[transport]` tables of `cluster`.
    pub fn write_to(&self, cluster: &mut ClusterConfig) {
        if self.datagram_bytes > 0 {
            let transport = cluster
                .tables
                .entry("transport")
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let Some(table) = transport.as_table_mut() {
                table.insert("datagram_bytes".to_owned(), i64::from(self.datagram_bytes).into());
            }
        }
        let link = LinkConfig {
            loss: self.loss_percent / 100.0,
            delay_ms: self.delay_ms,
            ..LinkConfig::default()
        };
        if link.is_clear() && self.rate_mbit == 0.0 {
            return;
        }
        let to_member = |member: &Member| LinkOverride {
            from: None,
            to: Some(member.address),
            link: link.clone(),
        };
        let config = NetemConfig {
            links: cluster.members.iter().map(to_member).collect(),
            card: NodeConfig { rate_mbit: self.rate_mbit, ..NodeConfig::default() },
            ..NetemConfig::default()
        };
        let mut table = toml::Table::try_from(&config)
            .expect("every field of an emulated network is plain TOML");
        // TOML's whole numbers have 63 bits.
        let seed = i64::try_from(self.seed >> 1).expect("63 bits fit");
        table.insert("seed".to_owned(), seed.into());
        cluster.tables.insert("netem".to_owned(), toml::Value::Table(table));
    }
}

/// The transport of every node and client of `cluster`.
///
/// # Errors
/// [`TableError`] for an unknown key or an impossible value.
pub fn transport_config(cluster: &ClusterConfig) -> Result<TransportConfig, TableError> {
    let mut config: TransportConfig = parse(cluster, "transport", &[])?;
    config.cluster_id = cluster.cluster;
    let is_given = |table: &toml::Table| table.contains_key("datagram_bytes");
    let is_given =
        cluster.tables.get("transport").and_then(toml::Value::as_table).is_some_and(is_given);
    // What is larger than the path takes is lost each time. Loopback takes all.
    if !is_given && !cluster.members.iter().all(|member| member.address.ip().is_loopback()) {
        let is_v6 = cluster.members.iter().any(|member| member.address.is_ipv6());
        let ethernet = TransportConfig::for_ethernet().datagram_bytes;
        config.datagram_bytes = ethernet - if is_v6 { IPV6_MORE_BYTES } else { 0 };
    }
    let problem = |problem: String| TableError { table: "transport", problem };
    config.validate().map_err(|error| problem(error.to_string()))?;
    // A value travels whole between client and leader, with its key and header beside it.
    let needed = cluster.limits.value_bytes + cluster.limits.key_bytes + MESSAGE_OVERHEAD_BYTES;
    if config.max_message_bytes < needed {
        return Err(problem(format!(
            "max_message_bytes = {} is too small for limits.value_bytes: give at least {needed}",
            config.max_message_bytes
        )));
    }
    Ok(config)
}

/// The emulated network that every node sends through, with its seed; none when there is no table.
///
/// # Errors
/// [`TableError`] for an unknown key or an impossible value.
pub fn netem_config(cluster: &ClusterConfig) -> Result<Option<(NetemConfig, u64)>, TableError> {
    let Some(table) = cluster.tables.get("netem").and_then(toml::Value::as_table) else {
        return Ok(None);
    };
    let config: NetemConfig = parse(cluster, "netem", &["seed", ALLOW_CONTROL])?;
    let problem = |problem: String| TableError { table: "netem", problem };
    config.validate().map_err(|error| problem(error.to_string()))?;
    let seed = natural(table, "netem", "seed", 1)?;
    Ok(Some((config, seed)))
}

/// May clients change the emulated network at run time?
///
/// # Errors
/// [`TableError`] unless it is true or false.
pub fn is_netem_control_allowed(cluster: &ClusterConfig) -> Result<bool, TableError> {
    let table = cluster.tables.get("netem").and_then(toml::Value::as_table);
    let Some(value) = table.and_then(|table| table.get(ALLOW_CONTROL)) else { return Ok(false) };
    value.as_bool().ok_or_else(|| TableError {
        table: "netem",
        problem: format!("{ALLOW_CONTROL} = {value} must be true or false"),
    })
}

/// Lets clients change the emulated network at run time.
pub fn allow_netem_control(cluster: &mut ClusterConfig) {
    let netem = cluster.tables.entry("netem");
    let netem = netem.or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(table) = netem.as_table_mut() {
        table.insert(ALLOW_CONTROL.to_owned(), true.into());
    }
}

/// Free bytes below which a node refuses puts.
///
/// # Errors
/// [`TableError`] unless it is a number.
pub fn reserve_bytes(cluster: &ClusterConfig) -> Result<u64, TableError> {
    let Some(table) = cluster.tables.get("storage").and_then(toml::Value::as_table) else {
        return Ok(DEFAULT_RESERVE_BYTES);
    };
    natural(table, "storage", "reserve_bytes", DEFAULT_RESERVE_BYTES)
}

/// Table `name` without the keys of others; its default when there is none.
pub(super) fn parse<T: DeserializeOwned>(
    cluster: &ClusterConfig,
    name: &'static str,
    not_its_own: &[&str],
) -> Result<T, TableError> {
    let mut table =
        cluster.tables.get(name).and_then(|table| table.as_table().cloned()).unwrap_or_default();
    for key in not_its_own {
        table.remove(*key);
    }
    toml::Value::Table(table)
        .try_into()
        .map_err(|error| TableError { table: name, problem: error.to_string() })
}

fn natural(
    table: &toml::Table,
    name: &'static str,
    key: &str,
    default: u64,
) -> Result<u64, TableError> {
    let Some(value) = table.get(key) else { return Ok(default) };
    value.as_integer().and_then(|number| u64::try_from(number).ok()).ok_or_else(|| TableError {
        table: name,
        problem: format!("{key} = {value} must be a whole number from 0 up"),
    })
}

const ALLOW_CONTROL: &str = "allow_control";
/// What a message holds beside key and value, generously.
const MESSAGE_OVERHEAD_BYTES: usize = 4096;
/// So much longer than IPv4's is the header of IPv6.
const IPV6_MORE_BYTES: usize = 20;
/// Room for deletes and elections: two segments of the default length, and a margin.
const DEFAULT_RESERVE_BYTES: u64 = 192 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(extra: &str) -> ClusterConfig {
        let text = format!(
            "cluster = 7\npolicy = 'replicate'\ncode = '1+0'\n[[node]]\nid = 0\n\
             address = '127.0.0.1:7000'\n{extra}"
        );
        ClusterConfig::from_toml(&text).unwrap()
    }

    #[test]
    fn tables_reach_their_layers() {
        let plain = cluster("");
        assert_eq!(transport_config(&plain).unwrap().cluster_id, 7);
        assert!(netem_config(&plain).unwrap().is_none());
        assert_eq!(reserve_bytes(&plain).unwrap(), DEFAULT_RESERVE_BYTES);
        assert!(!is_netem_control_allowed(&plain).unwrap());
        let mut controlled = plain.clone();
        allow_netem_control(&mut controlled);
        check(&controlled).unwrap();
        assert!(is_netem_control_allowed(&controlled).unwrap());
        assert!(netem_config(&controlled).unwrap().is_some());
        assert_eq!(transport_config(&plain).unwrap().datagram_bytes, 8160);
        let mut ethernet = plain.clone();
        ethernet.members[0].address = "10.0.0.1:7000".parse().unwrap();
        assert_eq!(transport_config(&ethernet).unwrap().datagram_bytes, 1472);
        ethernet.members[0].address = "[fd00::1]:7000".parse().unwrap();
        assert_eq!(transport_config(&ethernet).unwrap().datagram_bytes, 1452);
        let full = cluster(
            "[transport]\ndatagram_bytes = 1472\n[netem]\nseed = 5\nlink = { loss = 0.1 }\n\
             [storage]\nreserve_bytes = 9",
        );
        assert_eq!(transport_config(&full).unwrap().datagram_bytes, 1472);
        let (netem, seed) = netem_config(&full).unwrap().unwrap();
        assert_eq!((netem.link.loss, seed), (0.1, 5));
        assert_eq!(reserve_bytes(&full).unwrap(), 9);
    }

    #[test]
    fn an_emulated_network_survives_the_cluster_file() {
        let mut config = cluster("");
        let network = EmulatedNetwork {
            loss_percent: 5.0,
            delay_ms: 2.5,
            rate_mbit: 200.0,
            datagram_bytes: 1400,
            seed: u64::MAX,
        };
        network.write_to(&mut config);
        let config = ClusterConfig::from_toml(&config.to_toml()).unwrap();
        check(&config).unwrap();
        let (netem, _) = netem_config(&config).unwrap().unwrap();
        let (node, client) = (config.members[0].address, "127.0.0.1:9".parse().unwrap());
        assert_eq!(netem.link_between(client, node).loss, 0.05);
        assert!(netem.link_between(node, client).is_clear());
        assert_eq!(netem.card_of(node).rate_mbit, 200.0);
        assert_eq!(transport_config(&config).unwrap().datagram_bytes, 1400);
    }

    #[test]
    fn wrong_tables_are_named() {
        let text = |error: TableError| error.to_string();
        let wrong = cluster("[transport]\ndatagram_bites = 1472");
        assert!(text(transport_config(&wrong).unwrap_err()).contains("datagram_bites"));
        let wrong = cluster("[transport]\nmax_message_bytes = 1000000");
        assert!(text(transport_config(&wrong).unwrap_err()).contains("limits.value_bytes"));
        let wrong = cluster("[netem]\nlink = { loss = 2.0 }");
        assert!(text(netem_config(&wrong).unwrap_err()).contains("[netem]"));
        let wrong = cluster("[netem]\nallow_control = 1");
        assert!(text(check(&wrong).unwrap_err()).contains("true or false"));
        let wrong = cluster("[storage]\nreserve_bytes = -1");
        assert!(text(reserve_bytes(&wrong).unwrap_err()).contains("reserve_bytes"));
    }
}
