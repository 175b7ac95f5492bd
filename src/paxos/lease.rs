//! Leases and the handing over of leadership.
//!
//! Rule: a node that answers a heartbeat refuses every Prepare for one lease from then on, unless the
//! leader it granted to has released it. The leader counts from the sending of that heartbeat, less
//! the drift that clocks may have. While more than N - Q1 nodes are bound, any Q1 nodes have a bound
//! one among them: nobody else can be elected, so the leader's applied state is current once it has
//! applied all that it knows to be chosen: followers may have applied that, and answered. A grant is
//! not stored: after a restart a node is bound for one whole lease, to a leader that it cannot name.

use super::message::Message;
use super::{Paxos, Role};
use crate::mutant::{Mutant, breaks};
use crate::time::{Duration, Instant};
use crate::types::{Ballot, Slot};
use std::collections::VecDeque;

/// What a node has granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    ballot: Ballot,
    until: Instant,
    /// Bound after a start, whatever was granted before it.
    silent_until: Instant,
}

impl Granted {
    pub(super) fn at_start(now: Instant, lease: Duration) -> Self {
        Self { ballot: Ballot::ZERO, until: now, silent_until: now + lease }
    }

    /// Must a Prepare be refused, if the leader of `released` has given its lease up?
    pub(super) fn binds(&self, now: Instant, released: Ballot) -> bool {
        let is_silent = now < self.silent_until && !breaks(Mutant::ForgetsGrants);
        let is_granted = now < self.until && self.ballot != released;
        is_silent || (is_granted && !breaks(Mutant::GrantersPromise))
    }
}

/// When the recent heartbeats of a leader were sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    times: VecDeque<(u64, Instant)>,
}

impl Sent {
    pub(super) fn push(&mut self, sequence: u64, at: Instant, keep: Duration) {
        while self.times.front().is_some_and(|(_, sent)| at.since(*sent) > keep) {
            self.times.pop_front();
        }
        self.times.push_back((sequence, at));
    }

    /// For a mutant alone: every heartbeat counts from now.
    pub(super) fn touch(&mut self, now: Instant) {
        for (_, sent) in &mut self.times {
            *sent = now;
        }
    }

    fn at(&self, sequence: u64) -> Option<Instant> {
        let place = self.times.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
        self.times.get(place).map(|(_, at)| *at)
    }
}

impl Paxos {
    /// Follows the leader of `ballot` for one lease from now.
    pub(super) fn grant_lease(&mut self, now: Instant, ballot: Ballot) {
        let lease = self.config.timing.lease();
        if !lease.is_zero() {
            self.granted.ballot = ballot;
            self.granted.until = now + lease;
        }
    }

    /// May this node answer a read from its applied state alone?
    #[must_use]
    pub fn holds_lease(&self, now: Instant) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let (usable, lease) = (self.config.timing.usable_lease(), self.config.timing.lease());
        // Behind what it has told to be chosen, others have applied and answered more than it has.
        let is_current = self.acceptor.applied >= leader.recovered_until.max(leader.commit);
        (is_current || breaks(Mutant::ReadsBeforeRecovered))
            && leader.transfer.is_none()
            && leader.sent.at(self.confirmed_sequence()).is_some_and(|sent| {
                let age = now.since(sent);
                age < usable
                    || (age < lease && breaks(Mutant::IgnoresDrift))
                    || breaks(Mutant::IgnoresLeaseExpiry)
            })
    }

    /// Starts to hand the leadership to the member `to`, which may have it already. False when this
    /// node does not lead, or the other is not alive or far behind.
    pub fn transfer(&mut self, now: Instant, to: u8) -> bool {
        let until = now + self.config.timing.election();
        let own = self.own;
        let Role::Leader(leader) = &mut self.role else { return false };
        if to == own {
            leader.transfer = None;
            return true;
        }
        if !leader.voters().any(|(node, peer)| node == to && peer.is_able()) {
            return false;
        }
        // Nothing new is proposed until the other has applied everything, or time is up.
        leader.transfer = Some((to, until));
        leader.is_heartbeat_due = true;
        true
    }

    /// Hands over when the other has everything; gives up when time is up.
    pub(super) fn advance_transfer(&mut self, now: Instant) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some((to, until)) = leader.transfer else { return };
        if now >= until {
            leader.transfer = None;
            return;
        }
        if leader.has_all(to) {
            let ballot = leader.ballot;
            // From here on nothing is answered by this lease: its release can be acted upon.
            if breaks(Mutant::LeadsAfterTransfer) {
                leader.transfer = None;
            } else {
                self.step_down(now, "hands over");
            }
            self.send(to, Message::TakeOver { ballot });
        }
    }

    /// The leader of `ballot` wants this node to lead, and has given its lease up.
    pub(super) fn handle_take_over(&mut self, now: Instant, from: u8, ballot: Ballot) {
        let is_own = ballot.owner().0 == from && self.has_vote();
        let is_behind = self.acceptor.is_stateless() || self.restoring.is_under_way();
        if !is_own || ballot != self.acceptor.promised || is_behind {
            return;
        }
        self.trace(|| format!("takes over from {ballot}"));
        self.leader = None;
        self.leader_heard = None;
        self.reset_election(now);
        let next = Ballot { round: self.round_seen.max(ballot.round), node: 0 };
        self.campaign(next.next_for(self.node), ballot);
    }
}

impl super::leader::Leader {
    /// Is everything that was proposed chosen, and applied by the node `to`?
    fn has_all(&self, to: u8) -> bool {
        let applied = self.peers.get(&to).map_or(Slot::ZERO, |peer| peer.applied);
        self.recovered.is_empty() && applied.next() >= self.next_slot
    }
}
