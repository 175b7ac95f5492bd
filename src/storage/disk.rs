//! What the log asks of a disk: named files in one directory, written and read at places.
//!
//! No paths, no caches, no retries: an implementation reports the first error and the log stops.
//! Creating, deleting, truncating and replacing a file are durable when they return; bytes written
//! with [`Disk::write_at`] are durable only after [`Disk::sync`] of that file.

use crate::types::Bytes;
use thiserror::Error;

/// Files by name in one directory that belongs to one node.
pub trait Disk {
    /// Creates `name` with `bytes` reserved, all reading as zero. Durable when it returns.
    ///
    /// # Errors
    /// [`DiskError::NoSpace`] when they cannot be reserved, and nothing is left behind;
    /// [`DiskError::Exists`].
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Writes `parts` one after the other from `offset` (bytes). A crash may keep any of it.
    ///
    /// # Errors
    /// [`DiskError`]; how much was written is then unknown.
    fn write_at(&mut self, name: &str, offset: u64, parts: &[Bytes]) -> Result<(), DiskError>;

    /// Up to `bytes` from `offset`: fewer only when the file ends before.
    ///
    /// # Errors
    /// [`DiskError`].
    fn read_at(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Bytes, DiskError>;

    /// Makes all that was written to `name` durable (fdatasync).
    ///
    /// # Errors
    /// [`DiskError`]; what was written since the last sync is then lost or not, and a second call
    /// proves nothing.
    fn sync(&mut self, name: &str) -> Result<(), DiskError>;

    /// Cuts `name` to `bytes` and gives the rest back. Durable when it returns.
    ///
    /// # Errors
    /// [`DiskError`].
    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// Deletes `name`; not an error when there is none.
    ///
    /// # Errors
    /// [`DiskError`].
    fn delete(&mut self, name: &str) -> Result<(), DiskError>;

    /// Every file, names ascending.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&mut self) -> Result<Vec<FileInfo>, DiskError>;

    /// Replaces a small file as a whole: after a crash the old contents or the new ones are there.
    ///
    /// # Errors
    /// [`DiskError`].
    fn replace(&mut self, name: &str, contents: &[u8]) -> Result<(), DiskError>;

    /// Bytes that can still be reserved, where that is known.
    ///
    /// # Errors
    /// [`DiskError`].
    fn free_bytes(&mut self) -> Result<Option<u64>, DiskError>;

    /// Names this start of the machine (not of the process), where that is known: data that was
    /// never synced survives only while it stays the same.
    fn machine_boot(&mut self) -> Option<u64>;
}

/// One file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A disk that did not do what it was asked to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DiskError {
    /// No room.
    #[error(
        "{file}: no space left on the device; free some, or move the data directory to a larger disk"
    )]
    NoSpace {
        /// The file.
        file: String,
    },
    /// A file that should not exist yet.
    #[error("{file} exists already; nothing but one node may write to this directory")]
    Exists {
        /// The file.
        file: String,
    },
    /// A file that should exist.
    #[error("{file} is missing; restore the whole data directory or start the node as a new one")]
    Missing {
        /// The file.
        file: String,
    },
    /// Another process has the directory.
    #[error(
        "{directory} is in use by another process; stop it, or give this node its own directory"
    )]
    Locked {
        /// The directory.
        directory: String,
    },
    /// Anything else.
    #[error("{file}: {operation} failed: {reason}; check the disk before starting the node again")]
    Failed {
        /// The file.
        file: String,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        reason: String,
    },
}
