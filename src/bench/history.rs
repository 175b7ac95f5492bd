//! Client histories as JSON lines, one per operation on the store, for consistency checkers.
//!
//! The lines are [`crate::history::Line`]s in the order of return; `docs/history.md` has the format.
//! Times are the machine's monotonic clock, so that files of several processes on one machine are
//! one history. A scan is recorded without its rows.

use super::target::TargetOutcome;
use crate::history::{Line, LineOp, LineOutcome};
use crate::types::{Bytes, Digest, ReadMode};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;
use thiserror::Error;

/// A history that cannot be written.
#[derive(Debug, Error)]
#[error("history {file}: {source}; check the path and the space left on its disk")]
pub struct HistoryError {
    file: String,
    source: std::io::Error,
}

/// A history being written.
pub struct History {
    file: String,
    out: BufWriter<Box<dyn Write + Send>>,
    /// One moment on both clocks.
    origin: (Instant, u64),
    /// What the reads of the run promise.
    pub read_mode: ReadMode,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("file", &self.file).finish_non_exhaustive()
    }
}

impl History {
    /// A new file at `path`; an existing one is replaced.
    ///
    /// # Errors
    /// [`HistoryError`] when it cannot be created.
    pub fn create(path: &Path) -> Result<Self, HistoryError> {
        let file = path.display().to_string();
        match File::create(path) {
            Ok(out) => Ok(Self::of(file, BufWriter::with_capacity(1 << 20, Box::new(out)))),
            Err(source) => Err(HistoryError { file, source }),
        }
    }

    /// A history into `out`, called `name` in errors.
    #[must_use]
    pub fn to_writer(name: &str, out: Box<dyn Write + Send>) -> Self {
        Self::of(name.to_owned(), BufWriter::new(out))
    }

    fn of(file: String, out: BufWriter<Box<dyn Write + Send>>) -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let nanos = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec).unwrap_or(0);
        let origin = (Instant::now(), nanos);
        Self { file, out, origin, read_mode: ReadMode::default() }
    }

    /// `at` as the lines have it.
    #[must_use]
    pub fn nanos(&self, at: Instant) -> u64 {
        let (origin, nanos) = self.origin;
        let since = u64::try_from(at.saturating_duration_since(origin).as_nanos());
        nanos.saturating_add(since.unwrap_or(u64::MAX))
    }

    /// Adds the line of an operation on the store that ended as `outcome`.
    pub(super) fn record_call(
        &mut self,
        call: &Call<'_>,
        outcome: &TargetOutcome,
        served_at: Option<u64>,
    ) -> Result<(), HistoryError> {
        let (ended, version, read_digest) = match outcome {
            TargetOutcome::Value { value, version } => {
                (LineOutcome::Ok, *version, value.as_ref().map(|value| digest_text(value)))
            }
            TargetOutcome::Done { version } => (LineOutcome::Ok, *version, None),
            TargetOutcome::Rows { .. } => (LineOutcome::Ok, None, None),
            TargetOutcome::Error { is_ambiguous: false, .. } => (LineOutcome::Fail, None, None),
            TargetOutcome::Error { is_ambiguous: true, .. } | TargetOutcome::Timeout => {
                (LineOutcome::Unknown, None, None)
            }
        };
        let line = Line {
            client: call.client as u64,
            op: call.op,
            key: String::from_utf8_lossy(call.key).into_owned(),
            rows: None,
            value_digest: call.written_digest.cloned().or(read_digest),
            version,
            expected: None,
            slot: served_at.filter(|_| ended == LineOutcome::Ok),
            mode: self.read_mode,
            invoke_ns: self.nanos(call.invoked),
            return_ns: call
                .completed
                .filter(|_| ended != LineOutcome::Unknown)
                .map(|at| self.nanos(at)),
            outcome: ended,
        };
        self.record(&line)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`HistoryError`] when it cannot be written.
    pub fn record(&mut self, line: &Line) -> Result<(), HistoryError> {
        serde_json::to_writer(&mut self.out, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|source| HistoryError { file: self.file.clone(), source })
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`HistoryError`] when it cannot be written.
    pub fn flush(&mut self) -> Result<(), HistoryError> {
        self.out.flush().map_err(|source| HistoryError { file: self.file.clone(), source })
    }
}

/// An operation on the store as a history has it.
pub(super) struct Call<'a> {
    pub client: usize,
    pub op: LineOp,
    pub key: &'a Bytes,
    pub written_digest: Option<&'a String>,
    pub invoked: Instant,
    /// None when no answer came.
    pub completed: Option<Instant>,
}

pub(super) fn digest_text(value: &[u8]) -> String {
    format!("{:032x}", Digest::of(value).0)
}
