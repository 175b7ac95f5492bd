//! Why a log cannot be opened or used, and what to do about it.

use super::disk::DiskError;
use crate::types::{NodeId, Slot};
use thiserror::Error;

/// A data directory that this node must not use.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot open the log: {0}")]
    Disk(#[from] DiskError),
    /// Settings that cannot work.
    #[error("cannot open the log: {0}")]
    Options(String),
    /// Data of another node.
    #[error(
        "{file} belongs to node {found}, but this is node {expected}: give each node its own data \
         directory"
    )]
    OtherNode {
        /// The identity file.
        file: &'static str,
        /// Whose it is.
        found: NodeId,
        /// Who opened it.
        expected: NodeId,
    },
    /// Data of another cluster.
    #[error(
        "{file} belongs to cluster {found}, but this is cluster {expected}: correct `cluster` in \
         the cluster file or use another data directory"
    )]
    OtherCluster {
        /// The identity file.
        file: &'static str,
        /// Whose it is.
        found: u64,
        /// Who opened it.
        expected: u64,
    },
    /// Data in another format.
    #[error(
        "{file} has format version {found}, this program reads version {expected}: start the \
         program that wrote it, and bring the data over with its 'distkv export' and this one's \
         'distkv import'; or start this node as a new one in an empty directory"
    )]
    OtherVersion {
        /// The identity file.
        file: &'static str,
        /// What it says.
        found: u32,
        /// What this program reads.
        expected: u32,
    },
    /// Both copies of the identity are cut short.
    #[error(
        "{file} and its copy are cut short ({bytes} bytes): restore one from a backup, or empty \
         the directory and let the node join as a new one"
    )]
    IdentityTruncated {
        /// The identity file.
        file: &'static str,
        /// Its length.
        bytes: u64,
    },
    /// Both copies of the identity are damaged.
    #[error(
        "{file} and its copy are damaged or not of this program: restore one from a backup, or \
         empty the directory and let the node join as a new one"
    )]
    IdentityDamaged {
        /// The identity file.
        file: &'static str,
    },
    /// There is data, and nothing that says whose.
    #[error(
        "{file} is missing beside {segments} log segments: restore it from a backup, or empty the \
         directory and let the node join as a new one"
    )]
    IdentityMissing {
        /// The identity file.
        file: &'static str,
        /// Segments found.
        segments: usize,
    },
    /// The identity is there, the log is not.
    #[error(
        "{file} is there but all log segments are gone: restore the whole directory from a backup, \
         or empty it and let the node join as a new one"
    )]
    LogMissing {
        /// The identity file.
        file: &'static str,
    },
    /// The machine restarted while the data was kept without syncs (rule 12).
    #[error(
        "the machine has restarted since this node ran with durability `os`, so promises may be \
         lost: empty the directory and let the node join as a new one"
    )]
    UnsyncedLost,
    /// The log failed while it was being opened.
    #[error("cannot open the log: {0}")]
    Log(#[from] LogError),
}

/// A log that did not do what it was asked to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// The disk failed. Nothing is tried again: stop the node; a restart recovers what is durable.
    #[error("the log has stopped: {0}")]
    Disk(#[from] DiskError),
    /// An earlier call failed.
    #[error("the log has stopped after an earlier write or sync failed: restart the node")]
    Poisoned,
    /// A record that is too long; nothing was appended.
    #[error(
        "the record of {slot} is {bytes} bytes, above storage.record_bytes_max {max}: raise it or \
         lower limits.value_bytes"
    )]
    RecordTooLong {
        /// Its slot.
        slot: Slot,
        /// Its length.
        bytes: u64,
        /// The bound.
        max: u32,
    },
    /// Durability `memory` is full; nothing was appended.
    #[error(
        "{bytes} bytes of payload are above storage.memory_bytes_max {max}: raise it or use \
         durability `sync`"
    )]
    MemoryFull {
        /// What would have been held.
        bytes: u64,
        /// The bound.
        max: u64,
    },
}
