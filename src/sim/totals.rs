//! What runs did, added up over seeds.

use crate::time::Duration;
use std::collections::BTreeMap;

/// What a run did, to be added up over seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Client operations, by kind.
    pub operations: BTreeMap<&'static str, u64>,
    /// Client operations, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Of these, how many really had an effect: something was lost, refused, delayed, changed.
    pub effects: BTreeMap<&'static str, u64>,
    /// Datagrams, by what the network did to them.
    pub network: BTreeMap<&'static str, u64>,
    /// Clocks of nodes at the end, by how they went wrong.
    pub clocks: BTreeMap<&'static str, u64>,
    /// Writes that were not synced when the power went, by what was left of them.
    pub power_cut_writes: BTreeMap<&'static str, u64>,
    /// Elections won.
    pub elections: u64,
    /// Starts of nodes, the first ones included.
    pub starts: u64,
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
    /// Nodes whose disk was held against the bound on storage.
    pub judged: u64,
    /// Of these, while a peer fetched their index snapshot, so that they took no other.
    pub judged_serving: u64,
    /// Records of applied slots on nodes' disks held to what was agreed.
    pub claims: u64,
    /// Live values of which any nodes that may be missing leave enough shards.
    pub held: u64,
    /// Steps after each of which all invariants of a machine were checked.
    pub steps: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// The longest time, from the first answer to the end of the faults, in which no write and no
    /// strong read was answered: what faults cost while they last.
    pub longest_silence: Duration,
    /// The longest time that all clients needed to be served while nodes were missing.
    pub longest_short: Duration,
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
            (&mut self.effects, &other.effects),
            (&mut self.network, &other.network),
            (&mut self.clocks, &other.clocks),
            (&mut self.power_cut_writes, &other.power_cut_writes),
        ] {
            for (kind, count) in of {
                *sum.entry(kind).or_default() += count;
            }
        }
        self.elections += other.elections;
        self.starts += other.starts;
        self.slots += other.slots;
        self.rebuilt += other.rebuilt;
        self.reclaimed += other.reclaimed;
        self.restored += other.restored;
        self.repaired += other.repaired;
        self.searched += other.searched;
        self.gave_up += other.gave_up;
        self.judged += other.judged;
        self.claims += other.claims;
        self.held += other.held;
        self.judged_serving += other.judged_serving;
        self.steps += other.steps;
        self.virtual_time += other.virtual_time;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
        self.longest_short = self.longest_short.max(other.longest_short);
        self.datagrams += other.datagrams;
        self.trace_hash ^= other.trace_hash;
    }

    /// Client operations of all kinds.
    #[must_use]
    pub fn operation_count(&self) -> u64 {
        self.operations.values().sum()
    }

    /// A fault of this kind had an effect.
    pub(super) fn note_effect(&mut self, kind: &'static str) {
        *self.effects.entry(kind).or_default() += 1;
    }
}
