//! Durable before answered (rule 9): records on their way to disk, and what waits for them.
//!
//! An effect speaks of state; it is held until every record that made this state is durable. Nobody
//! outside sees it before.

use super::message::{Ack, Message};
use crate::mutant::{Mutant, breaks};
use crate::types::{Ballot, Record, Slot, ValueId};
use std::collections::VecDeque;

/// Names a batch of records; later tickets are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Something that may only happen once it is durable.
#[derive(Debug)]
pub(super) enum Effect {
    /// Tell the leader of `ballot` what is held.
    Ack { to: u8, ballot: Ballot, ack: Ack },
    /// The leader's own acceptance.
    AckSelf { ballot: Ballot, ack: Ack },
    /// Send `Prepare` to all: the candidate's ballot is stored.
    Prepare { ballot: Ballot },
    /// Answer a `Prepare`.
    Promise { to: u8, ballot: Ballot, attempt: u64 },
    /// The index snapshot of this slot is stored whole.
    Indexed { slot: Slot },
    /// The shards that an index snapshot left out are stored.
    Repaired,
}

impl Effect {
    /// The mutant that does not wait for its records.
    const fn mutant(&self) -> Mutant {
        match self {
            Self::Ack { .. } | Self::AckSelf { .. } => Mutant::AcknowledgesEarly,
            Self::Prepare { .. } => Mutant::PreparesEarly,
            Self::Promise { .. } => Mutant::PromisesEarly,
            Self::Indexed { .. } | Self::Repaired => Mutant::ForgetsEarly,
        }
    }
}

/// The records and the effects that wait for them.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Not yet given to the driver.
    records: Vec<Record>,
    /// Of the last batch given to the driver.
    issued: Ticket,
    durable: Ticket,
    held: VecDeque<(Ticket, Effect)>,
    /// Messages that may go, by id.
    pub(super) ready: VecDeque<(u8, Message)>,
    /// Up to where `Record::Chosen` was written.
    marked: Slot,
    /// The marks on their way to disk.
    marks: VecDeque<(Ticket, Slot)>,
    /// Up to where `Record::Chosen` is durable, and all that it covers before it.
    durable_mark: Slot,
    /// What is applied stands on an index snapshot that is not stored yet: until then no
    /// `Record::Chosen` may claim that the log holds what is chosen.
    unstored_base: Option<Slot>,
}

impl Effects {
    pub(super) fn new(marked: Slot) -> Self {
        Self { marked, durable_mark: marked, ..Self::default() }
    }

    /// Adds a record to the open batch.
    pub(super) fn persist(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Runs `effect` when all records so far are durable.
    pub(super) fn hold(&mut self, effect: Effect) {
        let ticket = if self.records.is_empty() { self.issued } else { Ticket(self.issued.0 + 1) };
        self.held.push_back((ticket, effect));
    }

    /// Closes the open batch. What is applied is noted in passing: it needs no sync of its own.
    pub(super) fn take_batch(&mut self, applied: Slot) -> Option<(Ticket, Vec<Record>)> {
        if self.records.is_empty() {
            return None;
        }
        self.mark(applied);
        self.issued = Ticket(self.issued.0 + 1);
        Some((self.issued, std::mem::take(&mut self.records)))
    }

    /// Notes what is applied in the open batch, which needs a sync if it had nothing else.
    pub(super) fn mark(&mut self, applied: Slot) {
        if applied > self.marked && self.unstored_base.is_none() {
            self.marked = applied;
            self.records.push(Record::Chosen { slot: applied });
            self.marks.push_back((Ticket(self.issued.0 + 1), applied));
        }
    }

    /// Every slot up to here is applied, and that and its shards are durable.
    pub(super) fn durable_mark(&self) -> Slot {
        self.durable_mark
    }

    /// Does a record of `slot` wait for the driver?
    pub(super) fn is_unwritten(&self, slot: Slot) -> bool {
        self.records.iter().any(|record| match record {
            Record::Accept { meta, .. } => meta.slot() == slot,
            Record::Promise { .. }
            | Record::Chosen { .. }
            | Record::Floor { .. }
            | Record::Peer { .. }
            | Record::Index { .. } => false,
        })
    }

    /// What is applied stands on the index snapshot of `slot` from now on.
    pub(super) fn rebase(&mut self, slot: Slot) {
        self.unstored_base = Some(slot);
    }

    /// The installed index snapshot that what is applied stands on, while it is not stored here.
    pub(super) fn unstored_base(&self) -> Option<Slot> {
        self.unstored_base
    }

    /// The index snapshot of `slot` is durable.
    pub(super) fn handle_indexed(&mut self, slot: Slot) {
        self.unstored_base = self.unstored_base.filter(|base| *base > slot);
    }

    /// Everything up to `ticket` is durable.
    pub(super) fn handle_persisted(&mut self, ticket: Ticket) {
        assert!(ticket <= self.issued, "ticket {ticket:?} was never issued: {:?}", self.issued);
        self.durable = self.durable.max(ticket);
        while let Some((_, slot)) = self.marks.pop_front_if(|(of, _)| *of <= ticket) {
            self.durable_mark = self.durable_mark.max(slot);
        }
    }

    /// The next effect whose records are durable.
    pub(super) fn pop_durable(&mut self) -> Option<Effect> {
        let (ticket, effect) = self.held.front()?;
        if *ticket > self.durable && !breaks(effect.mutant()) {
            return None;
        }
        self.held.pop_front().map(|(_, effect)| effect)
    }

    pub(super) fn check_invariants(&self) {
        assert!(self.durable <= self.issued, "{:?} > {:?}", self.durable, self.issued);
        assert!(
            self.held.iter().zip(self.held.iter().skip(1)).all(|(a, b)| a.0 <= b.0),
            "effects out of order"
        );
    }
}

impl Ack {
    pub(super) const fn slot(&self) -> Slot {
        let ValueId { slot, .. } = self.id;
        slot
    }
}
