//! What a run needs before it begins: this machine for itself, and room on the disk.
//!
//! Two runs at once would measure each other. The lock is a file in the temporary directory that the
//! system frees when its holder ends, however it ends.

use super::trial::Trial;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A run that must not begin.
#[derive(Debug, Error)]
pub enum GuardError {
    /// Another run is under way.
    #[error(
        "another run measures on this machine (process {holder}); wait for it, or stop it: two at \
         once would measure each other ({path})"
    )]
    Busy {
        /// Its process id, as it wrote it.
        holder: String,
        /// The lock.
        path: PathBuf,
    },
    /// Too little space.
    #[error(
        "{dir}: {free_mib} MiB free, and one trial needs about {needed_mib} MiB; make room, or \
         choose another disk with --out"
    )]
    Space {
        /// Where.
        dir: PathBuf,
        /// MiB.
        free_mib: u64,
        /// MiB.
        needed_mib: u64,
    },
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Holds this machine until dropped.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not used")] File);

/// Takes this machine.
///
/// # Errors
/// [`GuardError::Busy`] with the process that has it.
pub fn alone() -> Result<Alone, GuardError> {
    take(&std::env::temp_dir().join("distkv-reproduce.lock"))
}

fn take(path: &Path) -> Result<Alone, GuardError> {
    let io = |source| GuardError::Io { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(io)?;
            let holder = holder.trim().to_owned();
            return Err(GuardError::Busy { holder, path: path.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(Alone(file))
}

/// Is there room for the largest of `trials` (each is removed before the next)?
///
/// # Errors
/// [`GuardError::Space`].
pub(super) fn check_space(out: &Path, trials: &[Trial]) -> Result<(), GuardError> {
    let needed = trials.iter().map(|trial| trial.config.disk_bytes()).max().unwrap_or(0);
    let Ok(free) = crate::storage::free_bytes(out) else { return Ok(()) };
    if free >= needed {
        return Ok(());
    }
    let (free_mib, needed_mib) = (free >> 20, needed.div_ceil(1 << 20));
    Err(GuardError::Space { dir: out.to_owned(), free_mib, needed_mib })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::TrialConfig;

    #[test]
    fn a_second_run_is_told_who_measures() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = take(&path).unwrap();
        let error = take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        take(&path).unwrap();
    }

    #[test]
    fn a_disk_that_is_too_small_is_named() {
        let config = TrialConfig { records: 1 << 40, ..TrialConfig::default() };
        let trial = Trial { experiment: "E1".to_owned(), repeat: 0, config };
        let dir = tempfile::tempdir().unwrap();
        let error = check_space(dir.path(), &[trial]).unwrap_err().to_string();
        assert!(error.contains("MiB free") && error.contains("--out"), "{error}");
        check_space(dir.path(), &[]).unwrap();
    }
}
