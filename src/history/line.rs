//! One line of a history file: an operation as its client saw it (`docs/history.md`).
//!
//! Fields that are not known are ignored when lines are read, so that others may add their own.

use crate::types::ReadMode;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A line that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LineError {
    /// A field that this operation needs.
    #[error("an operation '{op}' with outcome '{outcome}' needs the field '{field}'")]
    Missing {
        /// The operation.
        op: LineOp,
        /// Its outcome.
        outcome: LineOutcome,
        /// The field.
        field: &'static str,
    },
    /// Time runs backwards.
    #[error("return_ns = {returned} is before invoke_ns = {invoked}")]
    Backwards {
        /// When it was asked.
        invoked: u64,
        /// When it was answered.
        returned: u64,
    },
    /// Rows out of order, twice, or before the start.
    #[error("the rows of a scan from '{start}' must ascend from there, and '{key}' does not")]
    Rows {
        /// Where the scan starts.
        start: String,
        /// The first key that does not.
        key: String,
    },
    /// A version from after the slot.
    #[error(
        "an acknowledged write has its slot as its version, but slot = {slot}, version = {version}"
    )]
    Slot {
        /// The slot.
        slot: u64,
        /// The version.
        version: u64,
    },
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineOp {
    /// The value of a key.
    Get,
    /// Write a value.
    Put,
    /// Remove a key.
    Delete,
    /// Write a value if the version is as expected.
    Cas,
    /// Rows in key order from a key on; checked when they are recorded.
    Scan,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineOutcome {
    /// Answered.
    Ok,
    /// It took no effect.
    Fail,
    /// It may have taken effect, or may yet.
    Unknown,
}

/// One row of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRow {
    /// The key.
    pub key: String,
    /// The slot that wrote it.
    pub version: u64,
    /// Names its value.
    pub value_digest: String,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Who asked; each file has clients of its own.
    pub client: u64,
    /// What.
    pub op: LineOp,
    /// The key; of a scan, where it starts.
    pub key: String,
    /// What a scan found, in key order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Vec<LineRow>>,
    /// Names the value written or read: equal for equal values, different for different ones. Null
    /// for none.
    #[serde(default)]
    pub value_digest: Option<String>,
    /// The slot that wrote what was read; for an acknowledged write its own; for a compare-and-set
    /// that failed the version that was there (0: none).
    #[serde(default)]
    pub version: Option<u64>,
    /// The version that a compare-and-set expected; 0 for "absent".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// The slot at which the answer was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// The guarantee that a read asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ReadMode,
    /// When it was asked.
    pub invoke_ns: u64,
    /// When it was answered; null when it was not.
    pub return_ns: Option<u64>,
    /// How it ended.
    pub outcome: LineOutcome,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_default(mode: &ReadMode) -> bool {
    *mode == ReadMode::default()
}

impl std::fmt::Display for LineOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Cas => "cas",
            Self::Scan => "scan",
        })
    }
}

impl std::fmt::Display for LineOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        })
    }
}
