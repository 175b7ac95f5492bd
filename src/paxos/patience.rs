//! How long a gather waits for those it has asked, once others have answered.
//!
//! Who sends shards shows how long an answer takes on these links. Whoever lets three times that
//! pass, and a little, is dead or slow: another is asked, long before the resend time is over, and it
//! is asked last until it answers. A wrong guess costs as many shards too many as were missing; where
//! fewer others are left, what they hold. Where nobody has sent anything nothing is known, and the
//! resend time decides: a slow link would only get slower.

use super::Paxos;
use super::gather::Gather;
use crate::time::{Duration, Instant};
use crate::types::{NodeSet, Slot};

/// Of one gather.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The latest requests.
    asked_at: Instant,
    /// From then on, what an answer may take; none has come when it is zero.
    lasts: Duration,
    /// Then the rest is given up.
    pub(super) until: Option<Instant>,
}

impl Patience {
    pub(super) const fn new(now: Instant) -> Self {
        Self { asked_at: now, lasts: Duration::ZERO, until: None }
    }

    /// Peers were asked just now.
    pub(super) fn note_asked(&mut self, now: Instant) {
        self.asked_at = now;
        self.until = (self.lasts > Duration::ZERO).then(|| now + self.lasts);
    }

    /// One of them has sent shards (that it has none is soon said). `least`: what is always waited for.
    pub(super) fn note_answered(&mut self, now: Instant, least: Duration) {
        // A late one may answer to an earlier request: it does not make the others late.
        self.lasts = self.lasts.max(now.since(self.asked_at) * ANSWER_TIMES + least);
        self.until = Some(self.asked_at + self.lasts);
    }
}

impl Paxos {
    /// What an answer may take at least: a disk that syncs, a processor that is busy.
    pub(super) fn least_patience(&self) -> Duration {
        self.config.timing.resend() / RESEND_PART
    }

    /// When [`Self::tick_patience`] has something to do.
    pub(super) fn patience_timeout(&self) -> Option<Instant> {
        self.gathers.values().filter_map(Gather::gives_up_at).min()
    }

    /// Those who let others go first are given up, and more are asked in their stead.
    ///
    /// Invariant: afterwards nobody's patience has ended by `now`, so that no timer is due for ever.
    pub(super) fn tick_patience(&mut self, now: Instant) {
        let applied = self.acceptor.applied;
        let is_late = |gather: &Gather| gather.gives_up_at().is_some_and(|at| at <= now);
        let late = self.gathers.iter().filter(|(_, gather)| is_late(gather));
        let late: Vec<(Slot, NodeSet)> =
            late.map(|(slot, gather)| (*slot, gather.unanswered())).collect();
        for (slot, unanswered) in late {
            let Some(gather) = self.gathers.get_mut(&slot) else { continue };
            gather.patience.until = None;
            // What has come by the usual way meanwhile is asked of nobody.
            if slot > applied || gather.is_for_applied() {
                self.silent = self.silent.union(unanswered);
                self.ask(now, slot, false);
            }
        }
    }
}

/// So many times what the slowest that answered took.
const ANSWER_TIMES: u32 = 3;
/// This part of a resend time is always waited for.
const RESEND_PART: u32 = 8;
