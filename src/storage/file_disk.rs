//! A directory of real files, locked against a second process.
//!
//! Segments are reserved when they are made, so that a full disk shows before anything is written.
//! Small batches are written over zeroes that were written ahead of them: a sync of bytes that the
//! file has never held costs a journal commit, one of bytes that it has does not. Large batches gain
//! nothing from that and are not doubled.

use super::disk::{Disk, DiskError, FileInfo};
use super::system;
use crate::types::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The files of one data directory.
#[derive(Debug)]
pub struct FileDisk {
    directory: PathBuf,
    open: BTreeMap<String, Handle>,
    zero_ahead_bytes: u64,
    uses: u64,
    _lock: File,
}

#[derive(Debug)]
struct Handle {
    file: File,
    /// When it was last used; the one idle longest is closed first.
    used: u64,
    /// Where the file's own cursor stands.
    cursor: Option<u64>,
    /// Up to here the file holds written bytes. Known only for a file that this process made: in
    /// another one zeroes could cover records.
    zeroed: Option<u64>,
}

impl FileDisk {
    /// Opens a directory, making it where there is none.
    ///
    /// # Errors
    /// [`DiskError::Locked`] when another process has it.
    pub fn open(directory: &Path) -> Result<Self, DiskError> {
        let failed = |operation| {
            move |error: io::Error| DiskError::Failed {
                file: directory.display().to_string(),
                operation,
                reason: error.to_string(),
            }
        };
        fs::create_dir_all(directory).map_err(failed("create"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_FILE))
            .map_err(failed("open lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DiskError::Locked { directory: directory.display().to_string() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        Ok(Self {
            directory: directory.to_owned(),
            open: BTreeMap::new(),
            zero_ahead_bytes: ZERO_AHEAD_BYTES,
            uses: 0,
            _lock: lock,
        })
    }

    /// How far ahead of small batches zeroes are written; 0 for not at all.
    #[must_use]
    pub fn with_zero_ahead(mut self, bytes: u64) -> Self {
        self.zero_ahead_bytes = bytes;
        self
    }

    fn handle(&mut self, name: &str) -> Result<&mut Handle, DiskError> {
        if !self.open.contains_key(name) {
            let path = self.directory.join(name);
            let file = OpenOptions::new().read(true).write(true).open(path);
            self.keep(name, file.map_err(|error| self.error(name, "open", &error))?, None);
        }
        self.uses += 1;
        let handle = self.open.get_mut(name).expect("inserted when it was not there");
        handle.used = self.uses;
        Ok(handle)
    }

    fn keep(&mut self, name: &str, file: File, zeroed: Option<u64>) {
        if self.open.len() >= OPEN_FILES_MAX {
            let oldest = self.open.iter().min_by_key(|(_, handle)| handle.used);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.open.remove(&name);
            }
        }
        let handle = Handle { file, used: self.uses, cursor: None, zeroed };
        self.open.insert(name.to_owned(), handle);
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn error(&self, name: &str, operation: &'static str, error: &io::Error) -> DiskError {
        let file = self.directory.join(name).display().to_string();
        #[expect(clippy::wildcard_enum_match_arm, reason = "kinds of the standard library")]
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                DiskError::NoSpace { file }
            }
            io::ErrorKind::AlreadyExists => DiskError::Exists { file },
            io::ErrorKind::NotFound => DiskError::Missing { file },
            _ => DiskError::Failed { file, operation, reason: error.to_string() },
        }
    }
}

impl Handle {
    fn write(&mut self, offset: u64, parts: &[Bytes], zero_ahead: u64) -> io::Result<()> {
        let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = offset + total;
        if zero_ahead > 0 && total <= SMALL_BATCH_BYTES && self.zeroed.is_some_and(|z| z < end) {
            self.write_zeroes(end, zero_ahead)?;
        }
        if self.cursor != Some(offset) {
            io::Seek::seek(&mut self.file, io::SeekFrom::Start(offset))?;
        }
        self.cursor = None;
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let count = left.len().min(SLICES_MAX);
            let written = match self.file.write_vectored(&left[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            IoSlice::advance_slices(&mut left, written);
        }
        self.cursor = Some(end);
        self.zeroed = self.zeroed.map(|zeroed| zeroed.max(end));
        Ok(())
    }

    /// Never beyond the reserved length, which a write must not change.
    fn write_zeroes(&mut self, from: u64, bytes: u64) -> io::Result<()> {
        let end = (from + bytes).min(self.file.metadata()?.len()).max(from);
        let mut at = from;
        while at < end {
            let chunk = usize::try_from(end - at).unwrap_or(ZEROES.len()).min(ZEROES.len());
            self.file.write_all_at(&ZEROES[..chunk], at)?;
            at += chunk as u64;
        }
        self.zeroed = Some(end);
        Ok(())
    }
}

impl Disk for FileDisk {
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let path = self.directory.join(name);
        let made = OpenOptions::new().create_new(true).read(true).write(true).open(&path);
        let file = made.map_err(|error| self.error(name, "create", &error))?;
        let prepared = system::reserve(&file, bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| self.sync_directory());
        if let Err(error) = prepared {
            // Best effort: the reservation failed, and that is what is reported.
            let _ = fs::remove_file(&path);
            return Err(self.error(name, "reserve space", &error));
        }
        self.keep(name, file, Some(0));
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let zero_ahead = self.zero_ahead_bytes;
        let result = self.handle(name)?.write(offset, parts, zero_ahead);
        result.map_err(|error| self.error(name, "write", &error))
    }

    fn read_at(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let mut buffer = vec![0; bytes];
        let handle = self.handle(name)?;
        let mut filled = 0;
        while filled < bytes {
            match handle.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(name, "read", &error)),
            }
        }
        buffer.truncate(filled);
        Ok(Bytes::from(buffer))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let result = self.handle(name)?.file.sync_data();
        result.map_err(|error| self.error(name, "fdatasync", &error))
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let handle = self.handle(name)?;
        handle.zeroed = None;
        let result = handle.file.set_len(bytes).and_then(|()| handle.file.sync_all());
        result.map_err(|error| self.error(name, "truncate", &error))
    }

    fn delete(&mut self, name: &str) -> Result<(), DiskError> {
        self.open.remove(name);
        match fs::remove_file(self.directory.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.error(name, "delete", &error)),
        }
        self.sync_directory().map_err(|error| self.error(name, "delete", &error))
    }

    fn list(&mut self) -> Result<Vec<FileInfo>, DiskError> {
        let list = || -> io::Result<Vec<FileInfo>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(&self.directory)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                    files.push(FileInfo { name, bytes: metadata.len() });
                }
            }
            files.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(files)
        };
        list().map_err(|error| self.error("", "list", &error))
    }

    fn replace(&mut self, name: &str, contents: &[u8]) -> Result<(), DiskError> {
        self.open.remove(name);
        let new = self.directory.join(format!("{name}.new"));
        let replace = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(contents)?;
            file.sync_all()?;
            fs::rename(&new, self.directory.join(name))?;
            self.sync_directory()
        };
        replace().map_err(|error| self.error(name, "replace", &error))
    }

    fn free_bytes(&mut self) -> Result<Option<u64>, DiskError> {
        let free = system::free_bytes(&self.directory);
        free.map(Some).map_err(|error| self.error("", "statvfs", &error))
    }

    fn machine_boot(&mut self) -> Option<u64> {
        let text = fs::read_to_string(MACHINE_BOOT_FILE).ok()?;
        Some(xxhash_rust::xxh3::xxh3_64(text.trim().as_bytes()))
    }
}

const LOCK_FILE: &str = "lock";
/// A random name of the running kernel's start.
const MACHINE_BOOT_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// Files kept open; older ones are opened again when they are read.
const OPEN_FILES_MAX: usize = 256;
/// Slices that one system call takes.
const SLICES_MAX: usize = 1024;
const ZERO_AHEAD_BYTES: u64 = 4 << 20;
/// Batches above this gain nothing from zeroes.
const SMALL_BATCH_BYTES: u64 = 128 << 10;
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
