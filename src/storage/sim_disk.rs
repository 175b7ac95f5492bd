//! A disk in memory that can crash: what was written and what is durable are two things.
//!
//! A handle: clones share the disk, so that a simulator can cut its power while a log uses it.
//! It keeps the bytes as a reader sees them plus, for every write since the last sync, the bytes
//! that it covered; a power cut puts those back and then lets each write survive, vanish or tear at
//! 512-byte sectors. Reserved zeroes take no memory.

use super::disk::{Disk, DiskError, FileInfo};
use crate::rng::Rng;
use crate::types::Bytes;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A simulated disk; clones are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Rc<RefCell<State>>);

/// What a simulated disk has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes written, replaced files included.
    pub bytes_written: u64,
    /// Write calls.
    pub writes: u64,
    /// Syncs, creations and replacements included.
    pub syncs: u64,
    /// Unsynced writes that power cuts left whole.
    pub writes_kept: u64,
    /// Unsynced writes of which power cuts left nothing.
    pub writes_lost: u64,
    /// Unsynced writes of which power cuts left some sectors and others not.
    pub writes_torn: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    free_bytes: Option<u64>,
    machine_boot: u64,
    trip: Option<Trip>,
    has_tripped: bool,
    stats: DiskStats,
}

/// An operation at which the disk gives up; every later one fails until a crash or a power cut.
#[derive(Clone, Debug)]
struct Trip {
    operations_left: u64,
    /// What it still does of that operation; `None` for nothing.
    partly: Option<(TripKind, Rng)>,
}

/// Why a disk gives up in the middle of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripKind {
    /// The machine or the process ends there: the operation may be done in part, in whole or not.
    Death,
    /// The device fails. After a failed sync the operating system takes what was written for clean:
    /// a reader may see it, and no later sync writes it (rule 9).
    Error,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// Length; bytes beyond `contents` are zero.
    bytes: u64,
    contents: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

#[derive(Clone, Debug)]
struct Unsynced {
    offset: usize,
    covered: Vec<u8>,
    /// A sync of it failed: only writing it again can make it durable.
    is_forgotten: bool,
}

impl SimDisk {
    /// An empty disk without a bound on its space.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A second disk that holds the same.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// The process dies: what it wrote stays with the operating system. Faults set by
    /// [`Self::fail_after`] and [`Self::trip_after`] end.
    pub fn crash(&mut self, _rng: &mut Rng) {
        self.0.borrow_mut().untrip();
    }

    /// The power goes: every unsynced write survives, is lost, or is torn at sectors, each on its
    /// own. Faults set by [`Self::fail_after`] and [`Self::trip_after`] end.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let mut state = self.0.borrow_mut();
        state.untrip();
        state.machine_boot += 1;
        let State { files, stats, .. } = &mut *state;
        for file in files.values_mut() {
            file.power_cut(rng, stats);
        }
    }

    /// Flips one bit of durable data in one file whose name starts with `prefix`. False when there
    /// is none. Returns after writing behind the log's back: no counter moves.
    pub fn corrupt(&mut self, prefix: &str, rng: &mut Rng) -> bool {
        let mut state = self.0.borrow_mut();
        let mut files: Vec<&mut File> = state
            .files
            .iter_mut()
            .filter(|(name, file)| name.starts_with(prefix) && !file.contents.is_empty())
            .map(|(_, file)| file)
            .collect();
        if files.is_empty() {
            return false;
        }
        let chosen = index(rng.below(files.len() as u64));
        let contents = &mut files[chosen].contents;
        let at = index(rng.below(contents.len() as u64));
        contents[at] ^= 1 << rng.below(8);
        true
    }

    /// Flips the bits of `mask` in one byte of a file. False beyond its written bytes.
    pub fn corrupt_at(&mut self, name: &str, offset: u64, mask: u8) -> bool {
        let mut state = self.0.borrow_mut();
        let byte = state.files.get_mut(name).and_then(|f| f.contents.get_mut(index(offset)));
        byte.map(|byte| *byte ^= mask).is_some()
    }

    /// Copies `bytes` of `name` from one place to another, as a misdirected write would.
    pub fn misdirect(&mut self, name: &str, from: u64, to: u64, bytes: usize) {
        let mut state = self.0.borrow_mut();
        if let Some(file) = state.files.get_mut(name) {
            let copied = file.read(index(from), bytes);
            file.write(index(to), &copied);
        }
    }

    /// Every operation after the next `operations` fails, until a crash or a power cut.
    pub fn fail_after(&mut self, operations: u64) {
        let trip = Trip { operations_left: operations, partly: None };
        self.0.borrow_mut().trip = Some(trip);
    }

    /// As [`Self::fail_after`], but the first operation that fails may be done in part.
    pub fn trip_after(&mut self, operations: u64, kind: TripKind, rng: Rng) {
        let trip = Trip { operations_left: operations, partly: Some((kind, rng)) };
        self.0.borrow_mut().trip = Some(trip);
    }

    /// Has an operation failed for [`Self::fail_after`] or [`Self::trip_after`]?
    #[must_use]
    pub fn has_tripped(&self) -> bool {
        self.0.borrow().has_tripped
    }

    /// Ends [`Self::fail_after`] and [`Self::trip_after`].
    pub fn untrip(&mut self) {
        self.0.borrow_mut().untrip();
    }

    /// Overwrites `bytes` of `name` from `offset` with zeroes, durably, as if they had never been
    /// written.
    pub fn lose(&mut self, name: &str, offset: u64, bytes: usize) {
        if let Some(file) = self.0.borrow_mut().files.get_mut(name) {
            file.write(index(offset), &vec![0; bytes]);
        }
    }

    /// Everything on it is gone.
    pub fn wipe(&mut self) {
        let mut state = self.0.borrow_mut();
        let files = std::mem::take(&mut state.files);
        state.release(files.values().map(|file| file.bytes).sum());
    }

    /// A second disk that holds what a power cut would leave for certain.
    #[must_use]
    pub fn durable(&self) -> Self {
        let mut state = self.0.borrow().clone();
        state.untrip();
        for file in state.files.values_mut() {
            while let Some(unsynced) = file.unsynced.pop() {
                file.write(unsynced.offset, &unsynced.covered);
            }
        }
        Self(Rc::new(RefCell::new(state)))
    }

    /// Bounds the space that can still be reserved.
    pub fn set_free_bytes(&mut self, bytes: Option<u64>) {
        self.0.borrow_mut().free_bytes = bytes;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> DiskStats {
        self.0.borrow().stats
    }

    /// Bytes of memory that the files' contents take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let state = self.0.borrow();
        let unsynced = |file: &File| file.unsynced.iter().map(|u| u.covered.len()).sum::<usize>();
        state.files.values().map(|file| file.contents.capacity() + unsynced(file)).sum()
    }

    /// The state, for an operation; with what is to be done of it when the disk gives up now.
    fn begin(&self, file: &str, operation: &'static str) -> Result<RefMut<'_, State>, Refused<'_>> {
        let mut state = self.0.borrow_mut();
        let Some(trip) = &mut state.trip else { return Ok(state) };
        if let Some(left) = trip.operations_left.checked_sub(1) {
            trip.operations_left = left;
            return Ok(state);
        }
        let partly = trip.partly.take();
        state.has_tripped = true;
        let reason = "simulated fault".to_owned();
        let error = DiskError::Failed { file: file.to_owned(), operation, reason };
        Err(Refused { error, state, partly })
    }
}

/// A disk that gives up at an operation.
struct Refused<'a> {
    error: DiskError,
    state: RefMut<'a, State>,
    partly: Option<(TripKind, Rng)>,
}

impl Refused<'_> {
    /// Does what is left of the operation, and gives the error.
    fn after(mut self, partly: impl FnOnce(&mut State, TripKind, &mut Rng)) -> DiskError {
        if let Some((kind, mut rng)) = self.partly.take() {
            partly(&mut self.state, kind, &mut rng);
        }
        self.error
    }
}

impl State {
    fn untrip(&mut self) {
        self.trip = None;
        self.has_tripped = false;
    }

    fn file(&mut self, name: &str) -> Result<&mut File, DiskError> {
        self.files.get_mut(name).ok_or_else(|| DiskError::Missing { file: name.to_owned() })
    }

    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        if let Some(free) = &mut self.free_bytes {
            *free = free
                .checked_sub(bytes)
                .ok_or_else(|| DiskError::NoSpace { file: name.to_owned() })?;
        }
        Ok(())
    }

    fn release(&mut self, bytes: u64) {
        if let Some(free) = &mut self.free_bytes {
            *free = free.saturating_add(bytes);
        }
    }
}

impl File {
    fn read(&self, offset: usize, bytes: usize) -> Vec<u8> {
        let end = offset.saturating_add(bytes).min(index(self.bytes));
        let mut read = vec![0; end.saturating_sub(offset)];
        if let Some(held) = self.contents.get(offset..self.contents.len().min(end)) {
            read[..held.len()].copy_from_slice(held);
        }
        read
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.contents.len() < end {
            self.contents.resize(end, 0);
        }
        self.contents[offset..end].copy_from_slice(bytes);
        self.bytes = self.bytes.max(end as u64);
    }

    /// A write that the next sync makes durable.
    fn write_unsynced(&mut self, offset: usize, bytes: &[u8]) {
        let covered = self.read_padded(offset, bytes.len());
        self.write(offset, bytes);
        self.unsynced.push(Unsynced { offset, covered, is_forgotten: false });
    }

    fn read_padded(&self, offset: usize, bytes: usize) -> Vec<u8> {
        let mut read = self.read(offset, bytes);
        read.resize(bytes, 0);
        read
    }

    /// What was written and not forgotten is durable: over what was forgotten, too.
    fn sync(&mut self) {
        if self.unsynced.iter().all(|unsynced| !unsynced.is_forgotten) {
            return self.unsynced.clear();
        }
        let (mut forgotten, synced): (Vec<Unsynced>, Vec<Unsynced>) =
            self.unsynced.drain(..).partition(|unsynced| unsynced.is_forgotten);
        for Unsynced { offset, covered, .. } in synced {
            let end = offset + covered.len();
            for old in &mut forgotten {
                let from = offset.max(old.offset);
                let to = end.min(old.offset + old.covered.len());
                if from < to {
                    let durable = &self.contents[from..to];
                    old.covered[from - old.offset..to - old.offset].copy_from_slice(durable);
                }
            }
        }
        self.unsynced = forgotten;
    }

    fn power_cut(&mut self, rng: &mut Rng, stats: &mut DiskStats) {
        let mut written = Vec::with_capacity(self.unsynced.len());
        while let Some(Unsynced { offset, covered, .. }) = self.unsynced.pop() {
            let end = offset + covered.len();
            written.push((offset, self.contents[offset..end].to_vec()));
            self.contents[offset..end].copy_from_slice(&covered);
        }
        for (offset, bytes) in written.into_iter().rev() {
            let left = match rng.below(3) {
                0 => 0,
                1 => {
                    self.write(offset, &bytes);
                    bytes.len()
                }
                _ => self.tear(offset, &bytes, rng),
            };
            *match left {
                0 => &mut stats.writes_lost,
                left if left == bytes.len() => &mut stats.writes_kept,
                _ => &mut stats.writes_torn,
            } += 1;
        }
    }

    /// Writes some of the sectors; gives the bytes of these.
    fn tear(&mut self, offset: usize, bytes: &[u8], rng: &mut Rng) -> usize {
        let (mut at, mut left) = (offset, 0);
        while at < offset + bytes.len() {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + bytes.len());
            if rng.below(2) == 0 {
                self.write(at, &bytes[at - offset..end - offset]);
                left += end - at;
            }
            at = end;
        }
        left
    }
}

impl Disk for SimDisk {
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let run = |state: &mut State| {
            if state.files.contains_key(name) {
                return Err(DiskError::Exists { file: name.to_owned() });
            }
            state.reserve(name, bytes)?;
            state.stats.syncs += 1;
            state.files.insert(name.to_owned(), File { bytes, ..File::default() });
            Ok(())
        };
        match self.begin(name, "create") {
            Ok(mut state) => run(&mut state),
            Err(refused) => Err(refused.after(|state, _, rng| {
                // Nothing is promised when it fails for any reason.
                if rng.chance(0.5) {
                    let _ = run(state);
                }
            })),
        }
    }

    fn write_at(&mut self, name: &str, offset: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let mut state = match self.begin(name, "write") {
            Ok(state) => state,
            Err(refused) => {
                return Err(refused.after(|state, _, rng| {
                    let whole = parts.concat();
                    let kept = index(rng.below(whole.len() as u64 + 1));
                    if let Ok(file) = state.file(name) {
                        file.write_unsynced(index(offset), &whole[..kept]);
                    }
                }));
            }
        };
        let total: usize = parts.iter().map(Bytes::len).sum();
        let old_bytes = state.file(name)?.bytes;
        let grown = (offset + total as u64).saturating_sub(old_bytes);
        state.reserve(name, grown)?;
        state.stats.bytes_written += total as u64;
        state.stats.writes += 1;
        let file = state.file(name)?;
        let start = index(offset);
        file.bytes += grown;
        let covered = file.read(start, total);
        let mut at = start;
        for part in parts {
            file.write(at, part);
            at += part.len();
        }
        file.unsynced.push(Unsynced { offset: start, covered, is_forgotten: false });
        Ok(())
    }

    fn read_at(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Bytes, DiskError> {
        let mut state = self.begin(name, "read").map_err(|refused| refused.error)?;
        Ok(Bytes::from(state.file(name)?.read(index(offset), bytes)))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let mut state = match self.begin(name, "fdatasync") {
            Ok(state) => state,
            Err(refused) => {
                return Err(refused.after(|state, kind, rng| {
                    let Ok(file) = state.file(name) else { return };
                    match kind {
                        TripKind::Death if rng.chance(0.5) => file.sync(),
                        TripKind::Death => {}
                        TripKind::Error => {
                            file.unsynced.iter_mut().for_each(|write| write.is_forgotten = true);
                        }
                    }
                }));
            }
        };
        state.stats.syncs += 1;
        state.file(name)?.sync();
        Ok(())
    }

    fn truncate(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let mut state = self.begin(name, "truncate").map_err(|refused| refused.error)?;
        let file = state.file(name)?;
        let released = file.bytes.saturating_sub(bytes);
        file.bytes = bytes;
        file.contents.truncate(index(bytes));
        file.contents.shrink_to_fit();
        file.unsynced.retain(|u| u.offset + u.covered.len() <= index(bytes));
        state.release(released);
        Ok(())
    }

    fn delete(&mut self, name: &str) -> Result<(), DiskError> {
        let run = |state: &mut State| {
            if let Some(file) = state.files.remove(name) {
                state.release(file.bytes);
            }
        };
        match self.begin(name, "delete") {
            Ok(mut state) => run(&mut state),
            Err(refused) => {
                return Err(refused.after(|state, _, rng| {
                    if rng.chance(0.5) {
                        run(state);
                    }
                }));
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<Vec<FileInfo>, DiskError> {
        let state = self.begin("the directory", "list").map_err(|refused| refused.error)?;
        let info =
            |(name, file): (&String, &File)| FileInfo { name: name.clone(), bytes: file.bytes };
        Ok(state.files.iter().map(info).collect())
    }

    fn replace(&mut self, name: &str, contents: &[u8]) -> Result<(), DiskError> {
        let run = |state: &mut State| {
            state.reserve(name, contents.len() as u64)?;
            if let Some(old) = state.files.remove(name) {
                state.release(old.bytes);
            }
            state.stats.bytes_written += contents.len() as u64;
            state.stats.syncs += 1;
            let mut file = File::default();
            file.write(0, contents);
            state.files.insert(name.to_owned(), file);
            Ok(())
        };
        match self.begin(name, "replace") {
            Ok(mut state) => run(&mut state),
            Err(refused) => Err(refused.after(|state, _, rng| {
                if rng.chance(0.5) {
                    let _ = run(state);
                }
            })),
        }
    }

    fn free_bytes(&mut self) -> Result<Option<u64>, DiskError> {
        Ok(self.0.borrow().free_bytes)
    }

    fn machine_boot(&mut self) -> Option<u64> {
        Some(self.0.borrow().machine_boot)
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("simulated files are far smaller than the address space")
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
