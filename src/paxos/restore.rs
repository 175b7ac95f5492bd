//! Index snapshots between nodes: a node that is behind what others still hold takes one in.
//!
//! The bytes are opaque here. Rule: a snapshot is of applied slots, hence of chosen ones; whoever takes
//! it in has applied them. What its own log holds of these slots may be what was never chosen, so
//! all of it is below the floor from then on. It takes part by part from one peer, in order; a
//! snapshot that is replaced meanwhile is begun anew. A leader that needs one steps down.

use super::effects::Effect;
use super::message::Message;
use super::{Output, Paxos};
use crate::config::Epochs;
use crate::mutant::{Mutant, breaks, is_any};
use crate::storage::IndexSnapshot;
use crate::time::Instant;
use crate::types::{Bytes, Record, Slot};
use std::collections::VecDeque;

/// Snapshots on their way in and out.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    /// The own latest one that is durable.
    pub(super) stored: Slot,
    coming: Option<Coming>,
    ready: Option<IndexSnapshot>,
    /// Who waits for a part, in the order of the reads.
    asked: VecDeque<(u8, Slot, u32)>,
    served_at: Option<Instant>,
}

/// One on its way in.
#[derive(Debug)]
struct Coming {
    from: u8,
    slot: Slot,
    /// 0 before the first part.
    parts: u32,
    received: Vec<Bytes>,
    bytes: usize,
    try_again_at: Instant,
    tries: u32,
}

impl Restoring {
    /// The own snapshot of `stored` is durable; zero for none.
    pub(super) fn new(stored: Slot) -> Self {
        Self { stored, ..Self::default() }
    }

    /// Is one being taken in?
    pub(super) const fn is_under_way(&self) -> bool {
        self.coming.is_some() || self.ready.is_some()
    }
}

impl Paxos {
    /// Adds the records of an index snapshot of what is applied up to `slot`, or some of them in
    /// order; with the last of them it counts as stored once they are durable.
    pub fn persist_index(&mut self, slot: Slot, records: Vec<Record>, is_last: bool) {
        // No older snapshot may count after one that was installed: what the log holds between the two
        // may never have been chosen. Nor may it be told to anybody once this node has restarted.
        let base = self.effects.unstored_base().filter(|base| is_last && *base <= slot);
        if let Some(slot) = base.filter(|_| !breaks(Mutant::ForgetsFloor)) {
            self.effects.persist(Record::Floor { slot });
        }
        for record in records {
            self.effects.persist(record);
        }
        if is_last {
            self.effects.hold(Effect::Indexed { slot });
        }
    }

    /// The own latest index snapshot that is durable; zero when there is none.
    #[must_use]
    pub fn stored_index(&self) -> Slot {
        self.restoring.stored
    }

    /// Does a peer fetch the own snapshot? Replacing it would make the peer begin anew.
    #[must_use]
    pub fn is_serving_index(&self, now: Instant) -> bool {
        let patience = self.config.timing.resend() * TRIES_MAX;
        self.restoring.served_at.is_some_and(|at| now.since(at) < patience)
    }

    /// Parts of an index snapshot received, and how many there are; none when none is coming.
    #[must_use]
    pub fn restore_progress(&self) -> Option<(u32, u32)> {
        let coming = self.restoring.coming.as_ref()?;
        Some((u32::try_from(coming.received.len()).unwrap_or(u32::MAX), coming.parts))
    }

    /// An index snapshot that has come whole: to be taken in with [`Self::install`], or forgotten.
    pub fn poll_restored(&mut self) -> Option<IndexSnapshot> {
        self.restoring.ready.take()
    }

    /// Everything up to `slot` is applied by an index snapshot, with the last of `epochs` in force
    /// after it. It is to be stored as this node's own ([`Self::persist_index`]). False when it is
    /// not newer.
    pub fn install(&mut self, now: Instant, slot: Slot, epochs: Epochs) -> bool {
        if slot <= self.acceptor.applied {
            return false;
        }
        self.step_down(now, "catches up by an index snapshot");
        self.promise_job = None;
        self.acceptor.install(slot, epochs);
        self.effects.rebase(slot);
        self.gathers.retain(|other, gather| *other > slot || gather.is_for_applied());
        self.trace(|| format!("applied up to {slot} by an index snapshot"));
        self.catching_up.until = self.acceptor.commit;
        true
    }

    /// Slots up to here were given to the log to be forgotten.
    pub fn raise_floor(&mut self, floor: Slot) {
        assert!(floor <= self.acceptor.applied, "{floor} is not applied");
        // Where a rule is broken on purpose this one is for the checkers outside to find.
        let is_covered = floor <= self.restoring.stored || is_any();
        assert!(is_covered, "{floor} is above the durable snapshot {}", self.restoring.stored);
        self.acceptor.floor = self.acceptor.floor.max(floor);
    }

    /// Slots up to here are settled, and may be gone or stale in the log.
    #[must_use]
    pub fn floor(&self) -> Slot {
        self.acceptor.floor
    }

    /// Is no accepted slot of this node in doubt?
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.acceptor.is_sound()
    }

    pub(super) fn start_restore(&mut self, now: Instant, from: u8) {
        if self.restoring.is_under_way() {
            return;
        }
        self.trace(|| format!("asks n{from} for an index snapshot"));
        self.step_down(now, "is too far behind to lead");
        self.restoring.coming = Some(Coming {
            from,
            slot: Slot::ZERO,
            parts: 0,
            received: Vec::new(),
            bytes: 0,
            try_again_at: now + self.config.timing.resend(),
            tries: 0,
        });
        self.send(from, Message::FetchIndex { slot: Slot::ZERO, part: 0 });
    }

    /// A peer that does not answer is asked again, then left.
    pub(super) fn tick_restore(&mut self, now: Instant) {
        let resend = self.config.timing.resend();
        let Some(coming) = &mut self.restoring.coming else { return };
        if coming.try_again_at > now {
            return;
        }
        coming.tries += 1;
        coming.try_again_at = now + resend * (coming.tries + 1);
        let (from, slot) = (coming.from, coming.slot);
        let part = u32::try_from(coming.received.len()).unwrap_or(u32::MAX);
        if coming.tries > TRIES_MAX || slot < self.acceptor.applied && slot > Slot::ZERO {
            self.restoring.coming = None;
            return;
        }
        self.send(from, Message::FetchIndex { slot, part });
    }

    /// When [`Self::tick_restore`] has something to do.
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring.coming.is_some()
    }

    pub(super) fn handle_index_part(
        &mut self,
        now: Instant,
        from: u8,
        (slot, part, parts): (Slot, u32, u32),
        bytes: Bytes,
    ) {
        let bytes_max = self.limits().index_bytes;
        let applied = self.acceptor.applied;
        let next_try = now + self.config.timing.resend();
        let Some(coming) = self.restoring.coming.as_mut().filter(|coming| coming.from == from)
        else {
            return;
        };
        let is_first = part == 0 && (coming.parts == 0 || coming.slot != slot);
        let is_next = coming.slot == slot && coming.parts == parts;
        let is_next = is_next && part as usize == coming.received.len();
        if parts == 0 || slot <= applied || (is_first && coming.bytes + bytes.len() > bytes_max) {
            // It has none, or none that helps: whoever is asked for slots next will say what it has.
            self.restoring.coming = None;
            return;
        }
        if is_first {
            (coming.slot, coming.parts, coming.bytes) = (slot, parts, 0);
            coming.received.clear();
        } else if !is_next {
            return;
        }
        coming.bytes += bytes.len();
        coming.received.push(bytes);
        (coming.tries, coming.try_again_at) = (0, next_try);
        if coming.bytes > bytes_max {
            self.trace(|| format!("an index snapshot above limits.index_bytes {bytes_max}"));
            self.restoring.coming = None;
            return;
        }
        let count = u32::try_from(coming.received.len()).unwrap_or(u32::MAX);
        if count < parts {
            self.send(from, Message::FetchIndex { slot, part: count });
        } else if let Some(coming) = self.restoring.coming.take() {
            let bytes = coming.received.concat().into();
            self.restoring.ready = Some(IndexSnapshot { slot, bytes });
        }
    }

    pub(super) fn handle_fetch_index(&mut self, now: Instant, from: u8, slot: Slot, part: u32) {
        let stored = self.restoring.stored;
        if stored == Slot::ZERO {
            let (part, parts, bytes) = (0, 0, Bytes::new());
            return self.send(from, Message::IndexPart { slot: stored, part, parts, bytes });
        }
        // One read per peer at a time.
        if self.restoring.asked.iter().any(|(node, _, _)| *node == from) {
            return;
        }
        self.restoring.served_at = Some(now);
        let part = if slot == stored { part } else { 0 };
        self.restoring.asked.push_back((from, stored, part));
        self.outputs.push_back(Output::ReadIndex { slot: stored, part });
    }

    /// The answer to the oldest unanswered [`Output::ReadIndex`]: how many parts there are, and the one
    /// asked for.
    pub fn handle_index_read(&mut self, part_read: Option<(u32, Bytes)>) {
        let Some((to, slot, part)) = self.restoring.asked.pop_front() else { return };
        let (parts, bytes) = part_read.unwrap_or((0, Bytes::new()));
        self.send(to, Message::IndexPart { slot, part, parts, bytes });
    }
}

/// A peer that leaves so many requests for a part unanswered is given up.
const TRIES_MAX: u32 = 6;
