//! The log of a node as its loop uses it: opened from the cluster file, failures named.

use super::tables::{self, TableError};
use crate::config::ClusterConfig;
use crate::storage::{Durability, FileDisk, Log, LogOptions, Recovered, StoredValue};
use crate::types::{Bytes, NodeId, Record, Slot};
use serde::{Deserialize, Serialize};
use std::path::Path;
use thiserror::Error;

/// The log failed; a node stops then and recovers at its next start (rule 9).
#[derive(Debug, Error)]
#[error("the log in {dir} failed: {reason}")]
pub struct LogFailure {
    /// The data directory.
    pub dir: String,
    /// What the log says.
    pub reason: String,
}

/// What the log holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    /// Bytes of shards of the latest value of each slot.
    pub payload_bytes: u64,
    /// Bytes of the records that hold them, headers and digests included.
    pub record_bytes: u64,
    /// Bytes of the index snapshot.
    #[serde(default)]
    pub snapshot_bytes: u64,
    /// Bytes allocated on disk.
    pub allocated_bytes: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Bytes written since the start.
    pub bytes_written: u64,
}

/// A node's log on real files.
#[derive(Debug)]
pub(super) struct NodeLog {
    log: Log<FileDisk>,
    dir: String,
}

impl NodeLog {
    /// Opens the log of `node` in `dir`, made when it does not exist.
    ///
    /// # Errors
    /// A text that says why not, and what to do.
    pub(super) fn open(
        cluster: &ClusterConfig,
        node: NodeId,
        dir: &Path,
    ) -> Result<(Self, Recovered), String> {
        let options = log_options(cluster, node).map_err(|error| error.to_string())?;
        let disk = FileDisk::open(dir).map_err(|error| error.to_string())?;
        let (log, recovered) = Log::open(disk, options, super::process::random_u64())
            .map_err(|error| error.to_string())?;
        Ok((Self { log, dir: dir.display().to_string() }, recovered))
    }

    /// Appends records; durable after the next sync.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), LogFailure> {
        self.log.append(records).map_err(|error| self.failure(&error))
    }

    /// Makes durable what was appended.
    pub(super) fn sync(&mut self) -> Result<(), LogFailure> {
        self.log.sync().map_err(|error| self.failure(&error))
    }

    /// What is held for a slot; none when it is gone or cannot be read.
    pub(super) fn read(&mut self, slot: Slot) -> Result<Option<StoredValue>, LogFailure> {
        self.log.read(slot).map_err(|error| self.failure(&error))
    }

    /// A part of the latest index snapshot, if that is of `slot`, and how many there are.
    pub(super) fn read_index_part(
        &mut self,
        slot: Slot,
        part: u32,
    ) -> Result<Option<(u32, Bytes)>, LogFailure> {
        self.log.read_index_part(slot, part).map_err(|error| self.failure(&error))
    }

    /// Forgets slots up to `floor` (rule 14).
    pub(super) fn reclaim(
        &mut self,
        floor: Slot,
        slots: &[Slot],
        is_sound: bool,
    ) -> Result<(), LogFailure> {
        self.log.reclaim(floor, slots, is_sound).map_err(|error| self.failure(&error))
    }

    /// Moves live records together, in step with what is written.
    pub(super) fn compact(&mut self) -> Result<(), LogFailure> {
        self.log.compact_in_step().map(drop).map_err(|error| self.failure(&error))
    }

    /// What it holds and has done.
    pub(super) fn report(&self) -> LogReport {
        let usage = self.log.usage();
        LogReport {
            payload_bytes: usage.payload_bytes,
            record_bytes: usage.record_bytes,
            snapshot_bytes: usage.snapshot_bytes,
            allocated_bytes: usage.allocated_bytes,
            syncs: usage.syncs,
            bytes_written: usage.bytes_written,
        }
    }

    /// Free bytes of its disk; none when that is not known.
    pub(super) fn free_bytes(&mut self) -> Option<u64> {
        self.log.free_bytes().ok().flatten()
    }

    fn failure(&self, error: &dyn std::fmt::Display) -> LogFailure {
        LogFailure { dir: self.dir.clone(), reason: error.to_string() }
    }
}

/// The `[storage]` table and the durability of a cluster file, for one node's log.
///
/// # Errors
/// [`TableError`] for an unknown key, an impossible size or an unknown durability.
pub(super) fn log_options(cluster: &ClusterConfig, node: NodeId) -> Result<LogOptions, TableError> {
    let mut options: LogOptions = tables::parse(cluster, "storage", &["reserve_bytes"])?;
    options.cluster = cluster.cluster;
    options.node = node;
    options.durability = match cluster.durability.as_str() {
        "sync" => Durability::Sync,
        "os" => Durability::Os,
        "memory" => Durability::Memory,
        other => {
            let problem = format!("durability '{other}' is none of sync, os, memory");
            return Err(TableError { table: "storage", problem });
        }
    };
    match options.problem() {
        Some(problem) => Err(TableError { table: "storage", problem }),
        None => Ok(options),
    }
}
