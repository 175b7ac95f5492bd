//! Client histories as JSON lines, one per operation on the store, for consistency checkers.
//!
//! `{"client","op","key","value_digest","version","invoke_ns","return_ns","outcome"}`; the outcome
//! is `ok`, `fail` (took no effect) or `unknown` (may have, or may yet). Lines are in the order of
//! return. A scan is recorded without its rows.

use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use thiserror::Error;

/// A history that cannot be written.
#[derive(Debug, Error)]
#[error("history {file}: {source}; check the path and the space left on its disk")]
pub struct HistoryError {
    file: String,
    source: std::io::Error,
}

/// One operation.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    pub client: usize,
    pub op: &'static str,
    pub key: &'a str,
    /// XXH3-128 in hexadecimal of the value written or read; null for none.
    pub value_digest: Option<String>,
    pub version: Option<u64>,
    pub invoke_ns: u64,
    /// Null when no answer came.
    pub return_ns: Option<u64>,
    pub outcome: &'static str,
}

/// A history being written.
pub struct History {
    file: String,
    out: BufWriter<Box<dyn Write + Send>>,
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
            Ok(out) => Ok(Self { file, out: BufWriter::with_capacity(1 << 20, Box::new(out)) }),
            Err(source) => Err(HistoryError { file, source }),
        }
    }

    /// A history into `out`, called `name` in errors.
    #[must_use]
    pub fn to_writer(name: &str, out: Box<dyn Write + Send>) -> Self {
        Self { file: name.to_owned(), out: BufWriter::new(out) }
    }

    pub(super) fn record(&mut self, entry: &Entry<'_>) -> Result<(), HistoryError> {
        serde_json::to_writer(&mut self.out, entry)
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
