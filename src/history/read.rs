//! Histories from files of JSON lines.

use super::line::Line;
use super::recorded::Recorded;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use thiserror::Error;

/// A history that cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file.
    #[error("history {file}: {source}; check the path")]
    Io {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The last line has no end.
    #[error(
        "history {file}, line {line}: cut off ({reason}); was its writer stopped early? Remove the \
         line to check what is before it"
    )]
    CutOff {
        /// The file's name.
        file: String,
        /// From 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// A line that is none.
    #[error("history {file}, line {line}: {reason}; docs/history.md has the format")]
    Line {
        /// The file's name.
        file: String,
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Adds the lines of the file at `path`.
///
/// # Errors
/// [`ReadError`] that names file and line.
pub fn read_file(path: &Path, into: &mut Recorded) -> Result<(), ReadError> {
    let name = path.display().to_string();
    let opened = File::open(path);
    let file = opened.map_err(|source| ReadError::Io { file: name.clone(), source })?;
    read_lines(&name, BufReader::with_capacity(1 << 20, file), into)
}

/// Adds the lines of `from`, called `name` in errors. Empty lines are skipped.
///
/// # Errors
/// [`ReadError`] that names file and line.
pub fn read_lines(
    name: &str,
    mut from: impl BufRead,
    into: &mut Recorded,
) -> Result<(), ReadError> {
    into.begin_file(name);
    let file = || name.to_owned();
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        bytes.clear();
        let read = from.read_until(b'\n', &mut bytes);
        if read.map_err(|source| ReadError::Io { file: file(), source })? == 0 {
            return Ok(());
        }
        line += 1;
        let text = bytes.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let parsed: Line = match serde_json::from_slice(text) {
            Ok(parsed) => parsed,
            Err(error) if error.is_eof() && bytes.last() != Some(&b'\n') => {
                return Err(ReadError::CutOff { file: file(), line, reason: error.to_string() });
            }
            Err(error) => {
                return Err(ReadError::Line { file: file(), line, reason: error.to_string() });
            }
        };
        into.push(line, &parsed).map_err(|error| ReadError::Line {
            file: file(),
            line,
            reason: error.to_string(),
        })?;
    }
}
