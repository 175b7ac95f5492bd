//! The acceptor's log: records in, the latest value per slot out.
//!
//! It knows the rules of records (union, replacement, damage) and no protocol. `append` collects,
//! `sync` writes and makes durable what the mode asks for: one write and one fdatasync for all that
//! waits. After a failed write or sync it is poisoned: nothing is retried, the node stops.

use super::disk::{Disk, DiskError};
use super::error::{LogError, OpenError};
use super::identity::Identity;
use super::memory::MemoryLog;
use super::options::LogOptions;
use super::record::Binding;
use super::recovery::recover;
use super::segments::SegmentLog;
use super::stored::{Durability, Recovered, StoredValue};
use crate::types::{Bytes, Record, Slot};

/// The log of one node.
#[derive(Debug)]
pub struct Log<D> {
    backing: Backing<D>,
    /// Bytes written when it was last compacted in step.
    compacted_at: u64,
}

#[derive(Debug)]
enum Backing<D> {
    Disk(Box<SegmentLog<D>>),
    Memory { log: MemoryLog, disk: D },
}

/// What a log takes. With durability `memory` only payload and slots are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogUsage {
    /// Bytes of shards of the latest value of each slot.
    pub payload_bytes: u64,
    /// Bytes of the records that hold them, headers and padding included.
    pub record_bytes: u64,
    /// Bytes of the index snapshots' records that are needed.
    pub snapshot_bytes: u64,
    /// Bytes of all other records.
    pub dead_bytes: u64,
    /// Lengths of all segment files.
    pub allocated_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Slots that have a value.
    pub slots: u64,
    /// Memory of the slot index.
    pub index_bytes: u64,
    /// Bytes handed to the disk since the log was opened.
    pub bytes_written: u64,
    /// Syncs since the log was opened, the new segments' included.
    pub syncs: u64,
}

impl<D: Disk> Log<D> {
    /// Opens the directory behind `disk`, or makes it one of this node: `new_incarnation` (random)
    /// then names it. When this returns, the raised boot counter and all that was recovered are
    /// durable.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the log was changed for another node's, cluster's or version's.
    pub fn open(
        mut disk: D,
        options: LogOptions,
        new_incarnation: u64,
    ) -> Result<(Self, Recovered), OpenError> {
        if let Some(problem) = options.problem() {
            return Err(OpenError::Options(problem));
        }
        if options.durability == Durability::Memory {
            let log = MemoryLog::new(options.memory_bytes_max);
            let recovered =
                Recovered { boot: 1, incarnation: new_incarnation, ..Recovered::default() };
            return Ok((
                Self { backing: Backing::Memory { log, disk }, compacted_at: 0 },
                recovered,
            ));
        }
        let mut identity = Identity::take(&mut disk, &options, new_incarnation)?;
        let binding = Binding::new(options.cluster, options.node, identity.incarnation);
        let mut log = SegmentLog::new(disk, options, binding);
        let mut recovered = recover(&mut log)?;
        identity.settle(&mut log.disk, &log.options)?;
        recovered.boot = identity.boot;
        recovered.incarnation = identity.incarnation;
        Ok((Self { backing: Backing::Disk(Box::new(log)), compacted_at: 0 }, recovered))
    }

    /// Adds records, in order. They are durable after the next [`Self::sync`], readable at once.
    ///
    /// # Errors
    /// [`LogError::RecordTooLong`] and [`LogError::MemoryFull`] change nothing; after any other
    /// error the log is poisoned.
    pub fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.append(records),
            Backing::Memory { log, .. } => log.append(records),
        }
    }

    /// Makes everything appended durable, as far as the mode goes: `sync` waits for fdatasync, `os`
    /// for the write, `memory` for nothing.
    ///
    /// # Errors
    /// [`LogError`]; the log is poisoned.
    pub fn sync(&mut self) -> Result<(), LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.sync(),
            Backing::Memory { .. } => Ok(()),
        }
    }

    /// Hands everything appended to the disk without waiting for it: durable after [`Self::sync`].
    ///
    /// # Errors
    /// [`LogError`]; the log is poisoned.
    pub fn flush(&mut self) -> Result<(), LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.flush_alive(),
            Backing::Memory { .. } => Ok(()),
        }
    }

    /// The latest value of a slot with the union of its shards, digests checked. `None` when there
    /// is none, or none of its records can be read.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub fn read(&mut self, slot: Slot) -> Result<Option<StoredValue>, LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.read(slot),
            Backing::Memory { log, .. } => Ok(log.read(slot)),
        }
    }

    /// One part (from 0) of the latest whole index snapshot, if that is of `slot`, and how many parts
    /// it has. `None` when it is of another slot, or the part is damaged.
    ///
    /// # Errors
    /// [`LogError`] when the disk fails.
    pub fn read_index_part(
        &mut self,
        slot: Slot,
        part: u32,
    ) -> Result<Option<(u32, Bytes)>, LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.read_image_part(slot, part),
            Backing::Memory { log, .. } => Ok(log.read_image_part(slot, part)),
        }
    }

    /// Forgets the values of `slots`, all at or below `floor`, which a durable index snapshot covers
    /// (rule 14). Their space is given back in time. `is_sound`: no accepted slot is in doubt.
    ///
    /// # Errors
    /// [`LogError`]; the log is poisoned.
    ///
    /// # Panics
    /// When a slot is above the floor.
    pub fn reclaim(&mut self, floor: Slot, slots: &[Slot], is_sound: bool) -> Result<(), LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.reclaim(floor, slots, is_sound),
            Backing::Memory { log, .. } => {
                log.reclaim(slots);
                Ok(())
            }
        }
    }

    /// Works off about `budget_bytes` of moving live records together, when the log takes more than
    /// `space_multiple` of what lives. What was moved is appended: it needs a sync as anything else.
    /// Gives the bytes looked at; 0 when there is nothing to do.
    ///
    /// # Errors
    /// [`LogError`]; the log is poisoned.
    pub fn compact(&mut self, budget_bytes: u64) -> Result<u64, LogError> {
        match &mut self.backing {
            Backing::Disk(log) => log.compact(budget_bytes),
            Backing::Memory { .. } => Ok(0),
        }
    }

    /// [`Self::compact`] by about as much as was written since it was last called: the log keeps its
    /// multiple, and each write is paid for at most once more.
    ///
    /// # Errors
    /// [`LogError`]; the log is poisoned.
    pub fn compact_in_step(&mut self) -> Result<u64, LogError> {
        let written = self.usage().bytes_written;
        let budget = (written - self.compacted_at).clamp(COMPACT_BYTES_MIN, COMPACT_BYTES_MAX);
        let looked_at = self.compact(budget);
        self.compacted_at = written;
        looked_at
    }

    /// What the log takes.
    #[must_use]
    pub fn usage(&self) -> LogUsage {
        match &self.backing {
            Backing::Disk(log) => log.usage(),
            Backing::Memory { log, .. } => log.usage(),
        }
    }

    /// Bytes that the disk can still reserve, where that is known.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn free_bytes(&mut self) -> Result<Option<u64>, DiskError> {
        self.disk_mut().free_bytes()
    }

    /// The disk, for its counters and faults.
    pub fn disk_mut(&mut self) -> &mut D {
        match &mut self.backing {
            Backing::Disk(log) => &mut log.disk,
            Backing::Memory { disk, .. } => disk,
        }
    }

    /// Gives the disk back; what was not synced stays as it is.
    #[must_use]
    pub fn into_disk(self) -> D {
        match self.backing {
            Backing::Disk(log) => log.disk,
            Backing::Memory { disk, .. } => disk,
        }
    }

    /// Panics when a relation between fields is broken.
    pub fn check_invariants(&self) {
        match &self.backing {
            Backing::Disk(log) => log.check_invariants(),
            Backing::Memory { .. } => {}
        }
    }
}

/// Least that is looked at in a step: a scan costs something to begin.
const COMPACT_BYTES_MIN: u64 = 64 << 10;
/// Most, so that no step holds the node up for long.
const COMPACT_BYTES_MAX: u64 = 4 << 20;
