//! What a network does to datagrams: per directed link, and per node's network card.
//!
//! Fields that are 0 or absent do nothing. Times are in milliseconds and may have fractions.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// One direction between two nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// Probability that a datagram is lost (in a burst: see `burst_loss`).
    pub loss: f64,
    /// Probability per datagram that a burst of loss begins (Gilbert-Elliott).
    pub burst_enter: f64,
    /// Probability per datagram that a burst ends.
    pub burst_exit: f64,
    /// Probability that a datagram is lost within a burst.
    pub burst_loss: f64,
    /// Propagation delay.
    pub delay_ms: f64,
    /// Each datagram's delay is uniform within `delay_ms` plus or minus this, which reorders too.
    pub jitter_ms: f64,
    /// Probability that a datagram is held back by `reorder_ms` more.
    pub reorder: f64,
    /// How long a reordered datagram is held back.
    pub reorder_ms: f64,
    /// Probability that a datagram arrives twice.
    pub duplicate: f64,
    /// Probability that one to three bits of a datagram are flipped.
    pub corrupt: f64,
    /// Bandwidth in Mbit/s; 0 is unlimited.
    pub rate_mbit: f64,
    /// Bytes that wait for the bandwidth at most; a datagram beyond is dropped. 0 is 256 KiB.
    pub queue_bytes: u64,
    /// Nothing passes: a partition in this direction.
    pub down: bool,
}

/// A node's network card: what leaves the node shares it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Bandwidth in Mbit/s; 0 is unlimited.
    pub rate_mbit: f64,
    /// Bytes that wait for the bandwidth at most. 0 is 1 MiB.
    pub queue_bytes: u64,
}

/// A link that differs from the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOverride {
    /// Its sender; absent: any.
    #[serde(default)]
    pub from: Option<SocketAddr>,
    /// Its receiver; absent: any.
    #[serde(default)]
    pub to: Option<SocketAddr>,
    /// How it behaves.
    pub link: LinkConfig,
}

/// A node whose card differs from the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOverride {
    /// The node.
    pub node: SocketAddr,
    /// Its card.
    pub card: NodeConfig,
}

/// The whole network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetemConfig {
    /// Links without an override.
    pub link: LinkConfig,
    /// Overrides; of several that match, the last counts.
    pub links: Vec<LinkOverride>,
    /// Cards without an override.
    pub card: NodeConfig,
    /// Overrides of cards.
    pub cards: Vec<NodeOverride>,
    /// Bytes under way at most, over all links; datagrams beyond are dropped.
    pub max_queued_bytes: usize,
    /// Links with state at most (bursts, queues).
    pub max_links: usize,
}

impl Default for NetemConfig {
    fn default() -> Self {
        Self {
            link: LinkConfig::default(),
            links: Vec::new(),
            card: NodeConfig::default(),
            cards: Vec::new(),
            max_queued_bytes: 256 << 20,
            max_links: 1 << 16,
        }
    }
}

/// A network that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NetemConfigError {
    /// Not a probability.
    #[error("netem: {field} = {value} must be a probability, from 0 to 1")]
    NotAProbability {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// Negative, infinite or absurd.
    #[error("netem: {field} = {value} must be from 0 to {high}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// Largest value allowed.
        high: f64,
    },
}

impl NodeConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the field that makes no sense.
    pub fn validate(&self) -> Result<(), NetemConfigError> {
        check_range("rate_mbit", self.rate_mbit)
    }
}

impl NetemConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the first field that makes no sense.
    pub fn validate(&self) -> Result<(), NetemConfigError> {
        let links = self.links.iter().map(|link| &link.link);
        links.chain([&self.link]).try_for_each(LinkConfig::validate)?;
        let cards = self.cards.iter().map(|card| &card.card);
        cards.chain([&self.card]).try_for_each(NodeConfig::validate)
    }

    /// The link from `from` to `to`.
    #[must_use]
    pub fn link_between(&self, from: SocketAddr, to: SocketAddr) -> &LinkConfig {
        let matches = |link: &&LinkOverride| {
            link.from.is_none_or(|address| address == from)
                && link.to.is_none_or(|address| address == to)
        };
        self.links.iter().rev().find(matches).map_or(&self.link, |link| &link.link)
    }

    /// The card of `node`.
    #[must_use]
    pub fn card_of(&self, node: SocketAddr) -> &NodeConfig {
        let found = self.cards.iter().rev().find(|card| card.node == node);
        found.map_or(&self.card, |card| &card.card)
    }
}

impl LinkConfig {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the first field that makes no sense.
    pub fn validate(&self) -> Result<(), NetemConfigError> {
        let probabilities = [
            ("loss", self.loss),
            ("burst_enter", self.burst_enter),
            ("burst_exit", self.burst_exit),
            ("burst_loss", self.burst_loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ];
        for (field, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(NetemConfigError::NotAProbability { field, value });
            }
        }
        check_range("delay_ms", self.delay_ms)?;
        check_range("jitter_ms", self.jitter_ms)?;
        check_range("reorder_ms", self.reorder_ms)?;
        check_range("rate_mbit", self.rate_mbit)
    }

    /// True when datagrams pass untouched and at once.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        let Self {
            loss,
            burst_enter,
            delay_ms,
            jitter_ms,
            reorder,
            duplicate,
            corrupt,
            rate_mbit,
            down,
            burst_exit: _,
            burst_loss: _,
            reorder_ms: _,
            queue_bytes: _,
        } = self;
        let numbers =
            [loss, burst_enter, delay_ms, jitter_ms, reorder, duplicate, corrupt, rate_mbit];
        !down && numbers.iter().all(|number| **number == 0.0)
    }
}

/// `value_ms` as a duration.
pub(super) fn millis(value_ms: f64) -> Duration {
    Duration::from_secs_f64(value_ms.clamp(0.0, MAX_NUMBER) / 1000.0)
}

const MAX_NUMBER: f64 = 1e7;

fn check_range(field: &'static str, value: f64) -> Result<(), NetemConfigError> {
    if (0.0..=MAX_NUMBER).contains(&value) {
        Ok(())
    } else {
        Err(NetemConfigError::OutOfRange { field, value, high: MAX_NUMBER })
    }
}
