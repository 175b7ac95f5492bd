//! Who leads: randomised timeouts, pre-vote, candidacy, stepping down (DESIGN 3.3).
//!
//! Nothing here decides what is chosen. A node campaigns only when as many as a leader needs to work
//! would let it, and nobody lets it who hears a living leader: so a node that was cut off, or that
//! alone cannot hear the leader, disturbs nobody.

use super::effects::Effect;
use super::message::Message;
use super::promise::Candidacy;
use super::{Paxos, Role};
use crate::mutant::{Mutant, breaks};
use crate::time::Instant;
use crate::types::{Ballot, NodeSet, Slot};
use std::collections::BTreeMap;

impl Paxos {
    pub(super) fn reset_election(&mut self, now: Instant) {
        // After campaigns in vain it leaves time to the others.
        let shortest = self.config.timing.election() * (1 << self.vain_campaigns);
        let spread = u64::try_from(shortest.as_nanos()).unwrap_or(u64::MAX);
        let extra = std::time::Duration::from_nanos(self.rng.below(spread.max(1)));
        self.election_at = now + shortest + extra;
    }

    /// Back to following. What was in flight stays with the acceptors; the next leader finds it.
    pub(super) fn step_down(&mut self, now: Instant, why: &str) {
        let ballot = match &self.role {
            Role::Follower => return,
            Role::PreCandidate { ballot, .. } => *ballot,
            Role::Candidate(candidacy) => candidacy.ballot,
            Role::Leader(leader) => leader.ballot,
        };
        self.trace(|| format!("gives up {ballot}: {why}"));
        if self.leader == Some(ballot) {
            self.leader = None;
        }
        self.note_vain_campaign();
        self.role = Role::Follower;
        self.reset_election(now);
    }

    /// A campaign ends without a leadership, by whatever way; following or leading forgets it.
    fn note_vain_campaign(&mut self) {
        if matches!(self.role, Role::Candidate(_)) {
            self.vain_campaigns = (self.vain_campaigns + 1).min(VAIN_CAMPAIGNS_MAX);
        }
    }

    /// The election timer fired.
    pub(super) fn tick_election(&mut self, now: Instant) {
        if now < self.election_at || matches!(self.role, Role::Leader(_)) {
            return;
        }
        self.leader = None;
        self.note_vain_campaign();
        self.reset_election(now);
        self.probe();
        if !self.has_vote() {
            return self.step_down(now, "is no member");
        }
        if self.acceptor.is_stateless() || self.restoring.is_under_way() {
            return;
        }
        let ballot = Ballot { round: self.round_seen.max(self.acceptor.promised.round), node: 0 }
            .next_for(self.node);
        let asked = if breaks(Mutant::SkipsPreVote) { NodeSet::first(32) } else { NodeSet::EMPTY };
        let granted = asked.union(NodeSet::one(self.own));
        self.role = Role::PreCandidate { ballot, granted };
        self.trace(|| format!("asks whether it may campaign at {ballot}"));
        // An answer that comes late was true of another time: it does not serve this question.
        self.pre_votes += 1;
        self.broadcast(&Message::PreVote { ballot, number: self.pre_votes });
        self.try_campaign(now);
    }

    pub(super) fn handle_pre_vote(&mut self, now: Instant, from: u8, ballot: Ballot, number: u64) {
        if self.is_turned_away(from) {
            return;
        }
        let promised = self.acceptor.promised;
        let hears_leader = match &self.role {
            Role::Leader(_) => true,
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => self
                .leader_heard
                .is_some_and(|heard| now.since(heard) < self.config.timing.election()),
        };
        let is_bound = self.granted.binds(now, Ballot::ZERO);
        let is_stateless = self.acceptor.is_stateless();
        let is_granted = ballot > promised && !hears_leader && !is_bound && !is_stateless;
        self.send(from, Message::PreVoteReply { ballot, number, is_granted, promised });
    }

    pub(super) fn handle_pre_vote_reply(
        &mut self,
        now: Instant,
        from: u8,
        number: u64,
        is_granted: bool,
        promised: Ballot,
    ) {
        self.round_seen = self.round_seen.max(promised.round);
        let Role::PreCandidate { granted, .. } = &mut self.role else { return };
        if number == self.pre_votes && is_granted {
            granted.insert(from);
            self.try_campaign(now);
        }
    }

    fn try_campaign(&mut self, now: Instant) {
        let Role::PreCandidate { ballot, granted } = &self.role else { return };
        let ballot = *ballot;
        // One that could win but not work would block others: max(Q1, accept quorum).
        // Its own lease binds it as others' do.
        let is_bound = self.granted.binds(now, Ballot::ZERO);
        let granted = granted.intersection(self.acceptor.epochs.current.ids());
        if granted.count() < self.quorums().working || is_bound {
            return;
        }
        self.campaign(ballot, Ballot::ZERO);
    }

    /// Asks for promises, with the lease of `released` given up.
    pub(super) fn campaign(&mut self, ballot: Ballot, released: Ballot) {
        if ballot <= self.acceptor.promised {
            return;
        }
        // Rule 9: the candidate's own ballot is durable before its first Prepare.
        self.campaigns += 1;
        self.promise(ballot);
        self.effects.hold(Effect::Prepare { ballot });
        let promises = BTreeMap::new();
        self.role =
            Role::Candidate(Candidacy { ballot, attempt: 1, is_asking: false, released, promises });
    }

    /// The candidate's ballot is stored.
    pub(super) fn start_prepare(&mut self, now: Instant, ballot: Ballot) {
        let Role::Candidate(candidacy) = &mut self.role else { return };
        if candidacy.ballot != ballot {
            return;
        }
        candidacy.is_asking = true;
        let (attempt, released) = (candidacy.attempt, candidacy.released);
        self.trace(|| format!("campaigns at {ballot}"));
        self.broadcast(&Message::Prepare { ballot, attempt, released });
        let own = self.own;
        self.start_promise(now, own, ballot, attempt);
    }

    pub(super) fn handle_nack(&mut self, now: Instant, promised: Ballot) {
        self.round_seen = self.round_seen.max(promised.round);
        let own = match &self.role {
            Role::Candidate(candidacy) => candidacy.ballot,
            Role::Leader(leader) => leader.ballot,
            Role::Follower | Role::PreCandidate { .. } => return,
        };
        if promised > own {
            self.step_down(now, "a higher ballot was promised");
        }
    }

    pub(super) fn handle_heartbeat(
        &mut self,
        now: Instant,
        from: u8,
        ballot: Ballot,
        sequence: u64,
        commit: Slot,
    ) {
        if !self.follow(now, from, ballot) {
            return;
        }
        self.grant_lease(now, ballot);
        self.acceptor.learn_commit(ballot, commit);
        self.mark_durable();
        let (applied, is_low) = (self.acceptor.applied, self.is_low);
        let durable = self.durable();
        self.send(from, Message::HeartbeatReply { ballot, sequence, applied, durable, is_low });
    }

    /// The peer `node` runs anew: what it was told, and what it half said, is gone.
    pub fn handle_peer_restarted(&mut self, now: Instant, node: u8) {
        let message = match &mut self.role {
            Role::Follower => return,
            Role::Leader(leader) => {
                // Its disk may have lost what it held.
                if let Some(peer) = leader.peers.get_mut(&node) {
                    peer.durable = Slot::ZERO;
                }
                return self.send_again_to(now, node);
            }
            Role::PreCandidate { ballot, .. } => {
                Message::PreVote { ballot: *ballot, number: self.pre_votes }
            }
            Role::Candidate(candidacy) => {
                candidacy.attempt += 1;
                if !candidacy.is_asking {
                    // Rule 9: the others are asked when the ballot is stored, and with them this one.
                    return;
                }
                Message::Prepare {
                    ballot: candidacy.ballot,
                    attempt: candidacy.attempt,
                    released: candidacy.released,
                }
            }
        };
        self.send(node, message);
    }

    /// For an observer: how far this node has got with what others may answer.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let sequence = match &self.role {
            Role::Leader(leader) => leader.sequence,
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => 0,
        };
        Reach { ballot: self.acceptor.promised, slot: self.last(), sequence }
    }

    /// For an observer: does this node, as candidate or leader, count an answer of `node` to what is
    /// beyond `reach`?
    #[must_use]
    pub fn counts(&self, node: u8, reach: Reach) -> bool {
        match &self.role {
            Role::Follower | Role::PreCandidate { .. } => false,
            Role::Candidate(candidacy) => {
                candidacy.ballot > reach.ballot && candidacy.promises.contains_key(&node)
            }
            Role::Leader(leader) => {
                let peer = leader.peers.get(&node);
                let is_new = leader.ballot > reach.ballot;
                let mut later = leader.in_flight.range(reach.slot.next()..);
                peer.is_some_and(|p| p.confirmed > reach.sequence || is_new && p.has_spoken)
                    || later.any(|(_, proposal)| !proposal.acks[usize::from(node)].is_empty())
            }
        }
    }
}

/// How far a node has got: in ballots, slots, and heartbeats of its leadership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The highest promised.
    pub ballot: Ballot,
    /// The last accepted.
    pub slot: Slot,
    /// The last heartbeat sent.
    pub sequence: u64,
}

impl Reach {
    /// As far as either.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            ballot: self.ballot.max(other.ballot),
            slot: self.slot.max(other.slot),
            sequence: self.sequence.max(other.sequence),
        }
    }
}

/// So often the election timeout doubles.
const VAIN_CAMPAIGNS_MAX: u32 = 2;
