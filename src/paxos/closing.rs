//! The end of a change of members: when the leader goes quiet, and proposes the entry that closes it.
//!
//! While it is quiet nothing new is proposed, and clients wait. So it begins only when everybody who
//! counts keeps up: has by now what was chosen half to a whole election timeout ago. What is missing
//! then comes while it is quiet, or else it is over after an election timeout, and for as long.
//!
//! A newcomer that is slower than the clients would never keep up. So after a while it is enough to
//! be near, in slots: then clients wait half of the time, and it overtakes them.

use super::leader::Leader;
use super::{Paxos, Role};
use crate::config::Configuration;
use crate::mutant::{Mutant, breaks};
use crate::time::{Duration, Instant};
use crate::types::{Bytes, Slot};

/// Is a change of members about to be closed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// Not before then.
    NotBefore(Instant),
    /// Nothing new is proposed until everybody who counts is level, or time is up.
    Quiet { until: Instant },
}

/// What the leader had committed some time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    at: Instant,
    newest: Slot,
    /// One to two spans ago, or at the start of the leadership.
    pub(super) older: Slot,
}

impl Past {
    pub(super) const fn new(now: Instant, commit: Slot) -> Self {
        Self { at: now, newest: commit, older: commit }
    }

    /// Time has passed: `commit` is what is committed now.
    pub(super) fn note(&mut self, now: Instant, commit: Slot, span: Duration) {
        if now.since(self.at) >= span {
            *self = Self { at: now, newest: commit, older: self.newest };
        }
    }
}

impl Paxos {
    /// Closes the change under way when everything is ready for it.
    pub(super) fn advance_change(&mut self, now: Instant) {
        let election = self.config.timing.election();
        let Role::Leader(leader) = &self.role else { return };
        let Some(change) = leader.configuration.change else { return };
        let is_busy = leader.barrier.is_some() || !leader.recovered.is_empty();
        if is_busy || leader.transfer.is_some() || self.acceptor.applied < leader.recovered_until {
            return;
        }
        let newcomer = change.joins.and_then(|seat| self.incarnation(seat.id)).unwrap_or(0);
        let after = leader.configuration.changed(newcomer).naming(|id| self.incarnation(id));
        match leader.closing {
            Closing::NotBefore(at) if now < at => {}
            Closing::NotBefore(_) => {
                let is_patient = now.since(leader.entered_at) < election * PATIENCE_ELECTIONS;
                let near = Slot(leader.commit.0.saturating_sub(self.near_slots()));
                let enough = if is_patient { leader.past.older } else { near };
                if !self.is_ready(leader, &after, enough) {
                    return;
                }
                if change.leaves == Some(self.node) {
                    return self.hand_over(now);
                }
                let Role::Leader(leader) = &mut self.role else { return };
                leader.closing = Closing::Quiet { until: now + election };
                leader.is_heartbeat_due = true;
            }
            Closing::Quiet { until } => {
                let commit = leader.commit;
                let is_quiet = commit.next() == leader.next_slot
                    && self.acceptor.applied == commit
                    && self.is_ready(leader, &after, commit);
                self.mark_durable();
                let Role::Leader(leader) = &mut self.role else { return };
                if is_quiet {
                    leader.closing = Closing::NotBefore(now);
                    self.propose_next(now, after.encode(), &Bytes::new());
                } else if now >= until {
                    leader.closing = Closing::NotBefore(now + election);
                }
            }
        }
    }

    /// A newcomer so close behind may still come while nothing is proposed.
    fn near_slots(&self) -> u64 {
        (self.limits().in_flight_slots as u64).max(NEAR_SLOTS_MIN)
    }

    /// The newcomer and enough others hold what they must up to `slot`.
    fn is_ready(&self, leader: &Leader, after: &Configuration, slot: Slot) -> bool {
        let level = self.level(leader, slot);
        let newcomer = leader.configuration.newcomer();
        let is_ready = newcomer.is_none_or(|seat| level.contains(seat.id.0))
            && self.lacking(&leader.configuration, after, level).is_none();
        is_ready || breaks(Mutant::ClosesUnready)
    }
}

/// For so many election timeouts only those who keep up are waited for in silence.
const PATIENCE_ELECTIONS: u32 = 16;
/// Of the distance that counts as near.
const NEAR_SLOTS_MIN: u64 = 64;
/// Parts of an election timeout: what was chosen one to two of them ago tells who keeps up.
pub(super) const PAST_PARTS: u32 = 2;
