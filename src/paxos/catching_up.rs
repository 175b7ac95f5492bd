//! What a node lacks of what is chosen: how far, and when it looks. It gathers it (`gather`).

use super::Paxos;
use super::gather::Gather;
use crate::time::Instant;
use crate::types::{Epoch, Slot};

/// What this node lacks of what is chosen, and when it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct CatchingUp {
    /// The next look.
    pub(super) at: Instant,
    pub(super) applied_at_tick: Slot,
    /// Chosen up to here, and to be gathered where it is not held.
    pub(super) until: Slot,
    /// Nothing has been missed since the start. What was chosen before it is not on its way: it is
    /// fetched at the first word of it.
    pub(super) is_new: bool,
    /// A large message of the leader's is coming in.
    is_receiving: bool,
}

impl CatchingUp {
    pub(super) const fn new(now: Instant) -> Self {
        let (applied_at_tick, until) = (Slot::ZERO, Slot::ZERO);
        Self { at: now, applied_at_tick, until, is_new: true, is_receiving: false }
    }
}

impl Paxos {
    /// Is something large of the leader's coming in, half here? For followers, before
    /// [`Self::handle_timeout`].
    pub const fn handle_receiving(&mut self, is_receiving: bool) {
        self.catching_up.is_receiving = is_receiving;
    }

    /// Up to where what is chosen and not here has been missed. A leader sends in the order of slots:
    /// while it sends something large, only what is before the last that came was missed, and the rest
    /// may be on its way. To fetch that from others would double the load of links that are slow.
    pub(super) fn missed_until(&self) -> Slot {
        let commit = self.acceptor.commit;
        if !self.catching_up.is_receiving {
            return commit;
        }
        let mut newest = self.acceptor.entries.iter().rev();
        let came = newest.find(|(_, entry)| Some(entry.ballot) == self.leader);
        commit.min(came.map_or(self.catching_up.until, |(slot, _)| *slot))
    }

    /// Fills the places for catching up with the lowest slots that are chosen and not held.
    pub(super) fn catch_up(&mut self, now: Instant) {
        self.finish_complete(now);
        // Who has no place yet is a stranger to the others, and is not answered.
        if self.home(Epoch(0)).is_none() {
            return;
        }
        if self.acceptor.applied >= self.catching_up.until || self.restoring.is_under_way() {
            return;
        }
        // One place is always there for this: what reads and repairs wait for may only come when
        // this node has caught up.
        let others = self.gathers_for_applied();
        let coming = self.gathers.len() - others;
        let places = self.limits().gathers.saturating_sub(others).max(1).saturating_sub(coming);
        let first = self.acceptor.applied.next();
        let until =
            self.catching_up.until.min(Slot(first.0 + self.limits().accept_ahead_slots / 2));
        let wanted: Vec<Slot> = (first.0..=until.0)
            .map(Slot)
            .filter(|slot| {
                !self.gathers.contains_key(slot)
                    && !self.acceptor.entries.get(slot).is_some_and(|entry| entry.is_chosen)
            })
            .take(places)
            .collect();
        for slot in wanted {
            self.gathers.insert(slot, Gather::new(now, false));
            self.ask(now, slot, false);
        }
    }
}
