//! A node's account of what it used, as a JSON file in its data directory.
//!
//! Written on SIGUSR1 and at a clean stop, whole or not at all; `reports_written` tells a reader
//! whether it is newer than the one it saw before.

use super::log::LogReport;
use crate::kv::NodeStatus;
use crate::replica::{CodingTimes, StageTimes};
use crate::transport::TransportStats;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The file's name within the data directory.
pub const REPORT_FILE: &str = "node-report.json";

/// What one node used since its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// 1 for the first report of this process.
    pub reports_written: u64,
    /// The process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Peak resident set.
    pub peak_rss_bytes: u64,
    /// Turns of its loop.
    #[serde(default)]
    pub turns: u64,
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes sent, without UDP and IP headers.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Message bytes sent again.
    pub bytes_retransmitted: u64,
    /// Datagrams that were no messages.
    pub garbage_datagrams: u64,
    /// Datagrams that the socket dropped because the kernel took no more.
    pub datagrams_dropped: u64,
    /// Datagrams that the system refused to send.
    #[serde(default)]
    pub send_errors: u64,
    /// The log.
    pub log: LogReport,
    /// Where the time of the writes went that it answered as the leader.
    #[serde(default)]
    pub stages: StageTimes,
    /// Work of its coders.
    #[serde(default)]
    pub coding: CodingTimes,
    /// Reads that found the value in its cache.
    #[serde(default)]
    pub cache_hits: u64,
    /// Reads that did not.
    #[serde(default)]
    pub cache_misses: u64,
    /// The slot up to which the state digest stands.
    pub digest_slot: u64,
    /// Digest of the applied state, in hexadecimal.
    pub state_digest: String,
    /// The node's status.
    pub status: NodeStatus,
}

/// A report that cannot be written or read.
#[derive(Debug, Error)]
#[error("node report {file}: {reason}")]
pub struct ReportError {
    /// The file.
    pub file: String,
    /// Why.
    pub reason: String,
}

impl NodeReport {
    /// Takes the transport's counters over.
    pub(super) fn set_transport(&mut self, stats: &TransportStats) {
        self.datagrams_sent = stats.datagrams_sent;
        self.bytes_sent = stats.bytes_sent;
        self.bytes_received = stats.bytes_received;
        self.bytes_retransmitted = stats.bytes_retransmitted;
        self.garbage_datagrams = stats.garbage_datagrams;
    }

    /// Writes the report into `data_dir`.
    ///
    /// # Errors
    /// [`ReportError`] with the file.
    pub fn write(&self, data_dir: &Path) -> Result<(), ReportError> {
        let path = data_dir.join(REPORT_FILE);
        let refused = |reason: String| ReportError { file: path.display().to_string(), reason };
        let text =
            serde_json::to_string_pretty(self).map_err(|error| refused(error.to_string()))?;
        let temporary = path.with_extension("json.tmp");
        std::fs::write(&temporary, text + "\n")
            .and_then(|()| std::fs::rename(&temporary, &path))
            .map_err(|error| refused(error.to_string()))
    }

    /// Reads the report in `data_dir`; None when there is none.
    ///
    /// # Errors
    /// [`ReportError`] with the file.
    pub fn read(data_dir: &Path) -> Result<Option<Self>, ReportError> {
        let path: PathBuf = data_dir.join(REPORT_FILE);
        let refused = |reason: String| ReportError { file: path.display().to_string(), reason };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(error.to_string())),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| refused(error.to_string()))
    }
}
