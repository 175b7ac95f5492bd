//! What can be wrong with a cluster file, and what to do about it.

use thiserror::Error;

/// A cluster configuration that is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// Not TOML, or not of the expected shape.
    #[error("cluster file: {0}")]
    Syntax(String),
    /// No node at all, or more than 32.
    #[error("cluster file: {count} nodes; give between 1 and 32 [[node]] tables")]
    NodeCount {
        /// Nodes found.
        count: usize,
    },
    /// An id of 32 or more.
    #[error("cluster file: node id {id} is too large; ids are 0 to 31")]
    NodeId {
        /// The id.
        id: u8,
    },
    /// Two nodes share an id.
    #[error("cluster file: node id {id} is given twice; every [[node]] needs its own id")]
    DuplicateId {
        /// The id.
        id: u8,
    },
    /// Two nodes share an address.
    #[error("cluster file: address {address} is given to node {first} and node {second}")]
    DuplicateAddress {
        /// The address.
        address: String,
        /// The node that has it first.
        first: u8,
        /// The node that has it again.
        second: u8,
    },
    /// An address that cannot be used.
    #[error("cluster file: node {id}: address '{address}' is not of the form IP:PORT")]
    Address {
        /// The node.
        id: u8,
        /// The text.
        address: String,
    },
    /// The code does not fit the nodes.
    #[error(
        "code {code} has {n} shards but the cluster has {nodes} nodes; one shard has its home on \
         each node, so k + m must be {nodes}"
    )]
    CodeSize {
        /// The code.
        code: String,
        /// Its shards.
        n: u8,
        /// The nodes.
        nodes: usize,
    },
    /// A quorum inequality of DESIGN 3.1 fails.
    #[error("unsafe configuration: {inequality}; {advice}")]
    Unsafe {
        /// The inequality with its numbers.
        inequality: String,
        /// What to change.
        advice: String,
    },
    /// A bound or a time that cannot work.
    #[error("cluster file: {key}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}
