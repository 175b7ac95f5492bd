//! All rows of a cluster into an archive, and an archive's rows into a cluster.
//!
//! An export reads page after page, each linearizable by itself: it holds what was there when it
//! began and was not changed meanwhile, and of every key that was changed one of its values. An
//! import writes with many operations outstanding; a row is written again until it is acknowledged.

use super::archive::{ArchiveError, ArchiveReader, ArchiveRow, ArchiveWriter};
use super::blocking::{Client, ClientError};
use super::driver::ClientDriver;
use crate::config::ClusterConfig;
use crate::kv::{Op, Outcome};
use crate::replica::client_machine::{ClientOutcome, Token};
use crate::types::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Rows of one page of an export.
const PAGE_ROWS: u32 = 200;
/// Rows of an import that are on their way at once.
const OUTSTANDING: usize = 32;
/// How often a row is tried.
const ATTEMPTS: u32 = 5;

/// Rows and bytes of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Rows carried.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows left alone: the key is there.
    pub skipped: u64,
}

/// Rows that were not carried.
#[derive(Debug, Error)]
pub enum CarryError {
    /// The cluster does not answer, or refuses.
    #[error("after {rows} rows, at key '{key}': {source}")]
    Cluster {
        /// Rows done.
        rows: u64,
        /// The key.
        key: String,
        /// Why, and what to do.
        source: ClientError,
    },
    /// The client cannot work.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The archive is wrong.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A row that this cluster does not take.
    #[error(
        "row {row}, key '{key}': {what} of {bytes} bytes, and the cluster takes {max} \
         (limits.{what}_bytes of its cluster file); nothing was written"
    )]
    Bound {
        /// Counted from 1.
        row: u64,
        /// The key, cut.
        key: String,
        /// `key` or `value`.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The maximum.
        max: usize,
    },
    /// The caller wants no more.
    #[error("stopped on request after {rows} rows")]
    Stopped {
        /// Rows done.
        rows: u64,
    },
}

impl From<io::Error> for CarryError {
    fn from(error: io::Error) -> Self {
        Self::Archive(error.into())
    }
}

/// Writes every row of the cluster. `progress` is told the sum after each page; false stops.
///
/// # Errors
/// [`CarryError`].
pub fn export<W: Write>(
    client: &mut Client,
    to: W,
    mut progress: impl FnMut(Carried) -> bool,
) -> Result<(Carried, W), CarryError> {
    let mut archive = ArchiveWriter::new(to)?;
    let mut done = Carried::default();
    let mut start: Vec<u8> = Vec::new();
    loop {
        let rows = client.scan(&start, PAGE_ROWS).map_err(|source| {
            let (rows, key) = (done.rows, name(&start));
            CarryError::Cluster { rows, key, source }
        })?;
        // A page may end early for its size, so that only an empty one is the last.
        let Some(last) = rows.last() else { break };
        start = [&last.key[..], &[0]].concat();
        for row in &rows {
            archive.push(&row.key, &row.value)?;
            done.rows += 1;
            done.bytes += (row.key.len() + row.value.len()) as u64;
        }
        if !progress(done) {
            return Err(CarryError::Stopped { rows: done.rows });
        }
    }
    Ok((done, archive.finish()?))
}

/// Reads a whole archive and checks that `cluster` takes its rows; gives how many there are.
///
/// # Errors
/// [`CarryError::Archive`] and [`CarryError::Bound`].
pub fn verify(cluster: &ClusterConfig, from: impl Read) -> Result<Carried, CarryError> {
    let mut archive = ArchiveReader::new(from)?;
    let mut sum = Carried::default();
    let limits = &cluster.limits;
    while let Some(ArchiveRow { key, value }) = archive.next_row()? {
        sum.rows += 1;
        sum.bytes += (key.len() + value.len()) as u64;
        let bounds =
            [("key", key.len(), limits.key_bytes), ("value", value.len(), limits.value_bytes)];
        for (what, bytes, max) in bounds {
            if bytes > max {
                let (row, key) = (sum.rows, name(&key));
                return Err(CarryError::Bound { row, key, what, bytes, max });
            }
        }
    }
    Ok(sum)
}

/// Writes every row of an archive into the cluster; with `is_absent_only` those whose keys are not
/// there. `progress` is told the sum now and then; false stops.
///
/// # Errors
/// [`CarryError`]. The rows before the error are written; to import again does no harm.
pub fn import(
    cluster: &Arc<ClusterConfig>,
    timeout: Duration,
    from: impl Read,
    is_absent_only: bool,
    mut progress: impl FnMut(Carried) -> bool,
) -> Result<Carried, CarryError> {
    let mut archive = ArchiveReader::new(from)?;
    let driver = ClientDriver::new(cluster, OUTSTANDING, timeout).map_err(ClientError::from)?;
    let mut writer = RowWriter {
        driver,
        free: (0..OUTSTANDING).collect(),
        outstanding: BTreeMap::new(),
        again: Vec::new(),
        done: Carried::default(),
        is_absent_only,
        timeout,
    };
    while let Some(ArchiveRow { key, value }) = archive.next_row()? {
        writer.again.push(Row { key: key.into(), value: value.into(), tries: 0 });
        writer.turn(1)?;
        if !progress(writer.done) {
            return Err(CarryError::Stopped { rows: writer.done.rows });
        }
    }
    writer.turn(OUTSTANDING)?;
    progress(writer.done);
    Ok(writer.done)
}

struct Row {
    key: Bytes,
    value: Bytes,
    tries: u32,
}

struct RowWriter {
    driver: ClientDriver,
    free: Vec<usize>,
    outstanding: BTreeMap<Token, Row>,
    /// To be sent.
    again: Vec<Row>,
    done: Carried,
    is_absent_only: bool,
    /// Of one try.
    timeout: Duration,
}

impl RowWriter {
    /// Sends what is to be sent, and waits until so many sessions are free.
    fn turn(&mut self, free: usize) -> Result<(), CarryError> {
        loop {
            self.submit()?;
            if self.again.is_empty() && self.free.len() >= free {
                return Ok(());
            }
            let mut ended = Vec::new();
            let deadline = Instant::now() + Duration::from_millis(200);
            let waited = self.driver.wait(deadline, |completion| ended.push(completion));
            waited.map_err(ClientError::from)?;
            for completion in ended {
                self.free.push(completion.session_index);
                if let Some(row) = self.outstanding.remove(&completion.token) {
                    self.take(row, completion.outcome)?;
                }
            }
        }
    }

    fn submit(&mut self) -> Result<(), CarryError> {
        while !self.again.is_empty()
            && let Some(session) = self.free.pop()
            && let Some(row) = self.again.pop()
        {
            let (key, value) = (row.key.clone(), row.value.clone());
            let op = if self.is_absent_only {
                Op::CompareAndSet { key, expected: 0, value }
            } else {
                Op::Put { key, value }
            };
            let token = self.driver.submit(session, op).map_err(ClientError::from)?;
            self.outstanding.insert(token, row);
        }
        Ok(())
    }

    fn take(&mut self, mut row: Row, outcome: ClientOutcome) -> Result<(), CarryError> {
        let source = match outcome {
            ClientOutcome::Done(Outcome::Written { .. }) => {
                self.done.rows += 1;
                self.done.bytes += (row.key.len() + row.value.len()) as u64;
                return Ok(());
            }
            // Perhaps by the try before, whose answer was lost: the row is there.
            ClientOutcome::Done(Outcome::Mismatch { .. }) => {
                self.done.skipped += 1;
                return Ok(());
            }
            ClientOutcome::Done(_) => ClientError::WrongAnswer,
            ClientOutcome::Failed(refusal) => ClientError::Refused(refusal),
            ClientOutcome::Unknown => {
                let (nodes, seconds) = ("the cluster".to_owned(), self.timeout.as_secs_f64());
                ClientError::Unknown { nodes, seconds }
            }
        };
        row.tries += 1;
        if row.tries >= ATTEMPTS {
            let (rows, key) = (self.done.rows, name(&row.key));
            return Err(CarryError::Cluster { rows, key, source });
        }
        self.again.push(row);
        Ok(())
    }
}

/// A key for a message: the beginning of a long one.
fn name(key: &[u8]) -> String {
    const SHOWN: usize = 64;
    let text = String::from_utf8_lossy(key.get(..SHOWN).unwrap_or(key)).into_owned();
    if key.len() > SHOWN { text + "..." } else { text }
}
