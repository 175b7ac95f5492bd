//! Settings of a log: sizes, durability, and whose it is.

use super::stored::Durability;
use crate::types::NodeId;
use serde::{Deserialize, Serialize};

/// Settings of a log. The plain sizes are the `[storage]` table of a cluster file; who it belongs
/// to and its durability are set by the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// The cluster that the data belongs to.
    #[serde(skip)]
    pub cluster: u64,
    /// The node that the data belongs to.
    #[serde(skip, default = "no_node")]
    pub node: NodeId,
    /// When an append counts as durable.
    #[serde(skip)]
    pub durability: Durability,
    /// Length of a segment file, 64 KiB to 1 GiB; a longer record gets a segment of its own.
    pub segment_bytes: u32,
    /// Longest record (all shards of one append of one slot).
    pub record_bytes_max: u32,
    /// Appended bytes that are kept back for one write call; beyond it they are written at once.
    pub write_buffer_bytes: usize,
    /// Bytes per read of the start-up scan.
    pub scan_bytes: usize,
    /// Records are moved together when the log takes more than this multiple of what lives, and two
    /// segments more: 1.2 to 100.
    pub space_multiple: f64,
    /// Bytes of payload that durability `memory` may hold.
    pub memory_bytes_max: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            cluster: 1,
            node: no_node(),
            durability: Durability::default(),
            segment_bytes: 64 << 20,
            record_bytes_max: 128 << 20,
            write_buffer_bytes: 1 << 20,
            scan_bytes: 1 << 20,
            space_multiple: 2.0,
            memory_bytes_max: 4 << 30,
        }
    }
}

impl LogOptions {
    /// What is wrong with these sizes, with what would be right; `None` when they can work.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Some(format!(
                "storage.segment_bytes {} must be {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if self.record_bytes_max < 4096 || self.record_bytes_max > SEGMENT_BYTES_MAX {
            return Some(format!(
                "storage.record_bytes_max {} must be 4096 to {SEGMENT_BYTES_MAX}",
                self.record_bytes_max
            ));
        }
        if self.scan_bytes < 4096 || self.write_buffer_bytes == 0 {
            return Some(
                "storage.scan_bytes must be at least 4096 and storage.write_buffer_bytes above 0"
                    .to_owned(),
            );
        }
        if !(1.2..=100.0).contains(&self.space_multiple) {
            return Some(format!(
                "storage.space_multiple {} must be 1.2 to 100",
                self.space_multiple
            ));
        }
        None
    }
}

const fn no_node() -> NodeId {
    NodeId(0)
}

const SEGMENT_BYTES_MIN: u32 = 64 << 10;
const SEGMENT_BYTES_MAX: u32 = 1 << 30;
