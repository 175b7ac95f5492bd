//! What runs did, added up over seeds.

use crate::time::Duration;
use std::collections::BTreeMap;

/// What a run did, to be added up over seeds.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Client operations, by kind.
    pub operations: BTreeMap<&'static str, u64>,
    /// Client operations, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Elections won.
    pub elections: u64,
    /// Slots applied, on the node that applied most.
    pub slots: u64,
    /// Values rebuilt from shards.
    pub rebuilt: u64,
    /// Slots that logs forgot.
    pub reclaimed: u64,
    /// Index snapshots taken in from peers.
    pub restored: u64,
    /// Values whose lost shards were recorded anew.
    pub repaired: u64,
    /// Keys whose history was searched without believing the slots, and those given up on.
    pub searched: u64,
    /// Of these, given up.
    pub gave_up: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// The longest time, from the first answer to the end of the faults, in which no write and no
    /// strong read was answered: what faults cost while they last.
    pub longest_silence: Duration,
    /// Datagrams delivered.
    pub datagrams: u64,
    /// Of everything that happened: equal for equal seeds.
    pub trace_hash: u64,
}

impl Totals {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        for (sum, of) in [
            (&mut self.operations, &other.operations),
            (&mut self.outcomes, &other.outcomes),
            (&mut self.faults, &other.faults),
        ] {
            for (kind, count) in of {
                *sum.entry(kind).or_default() += count;
            }
        }
        self.elections += other.elections;
        self.slots += other.slots;
        self.rebuilt += other.rebuilt;
        self.reclaimed += other.reclaimed;
        self.restored += other.restored;
        self.repaired += other.repaired;
        self.searched += other.searched;
        self.gave_up += other.gave_up;
        self.virtual_time += other.virtual_time;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
        self.datagrams += other.datagrams;
        self.trace_hash ^= other.trace_hash;
    }
}
