//! What a leader sends: entries to whoever can take them, once and again, heartbeats, the commit.

use super::acceptor::is_near;
use super::leader::{Leader, Peer, cut, home_of, place_of};
use super::message::{Message, ShardedValue};
use super::policy::wanted;
use super::{Paxos, Role};
use crate::mutant::{Mutant, breaks};
use crate::time::Instant;
use crate::types::{NodeSet, Slot};
use std::collections::BTreeMap;

/// What is sent again, and to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// What is overdue, to all.
    Overdue,
    /// Everything, to all: the assignment has changed.
    Everything,
    /// Everything, to these: they were dead, or run anew.
    To(NodeSet),
    /// What is above a slot, to one node: it has come near enough to take it.
    Above(u8, Slot),
}

impl Paxos {
    /// A peer runs anew, or a message to it was not taken by a full queue.
    pub(super) fn send_again_to(&mut self, now: Instant, node: u8) {
        self.send_again(now, Again::To(NodeSet::one(node)));
    }

    /// The oldest of what was sent to `node` and is still on its way there was sent then; none when
    /// all has arrived, or was given up. For the leader, before [`Self::handle_timeout`].
    pub fn handle_under_way(&mut self, node: u8, since: Option<Instant>) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(peer) = leader.peers.get_mut(&node)
        {
            peer.under_way_since = since;
        }
    }

    /// Sends what is in flight again. The transport is reliable while both sides live, so that time
    /// alone is a weak reason: a slow link would only get slower. Each time waits twice as long, and
    /// nothing is overdue that is still on its way. Who would refuse a slot, too far above what it has
    /// applied, is sent it when it has come nearer ([`Again::Above`]), not before and not by the clock.
    pub(super) fn send_again(&mut self, now: Instant, again: Again) {
        let resend = self.config.timing.resend();
        let patience = resend * PATIENCE_RESENDS;
        let (own, ahead_slots) = (self.own, self.limits().accept_ahead_slots);
        let Role::Leader(leader) = &mut self.role else { return };
        let mut to_self = Vec::new();
        let Leader { ballot, configuration, peers, in_flight, links, .. } = &mut **leader;
        let ballot = *ballot;
        for proposal in in_flight.values_mut().filter(|proposal| !proposal.is_chosen) {
            let to_whom = match again {
                Again::Overdue if now < proposal.send_again_at => continue,
                Again::Overdue => {
                    // It was given to the transport soon after it was proposed, if not at once.
                    without_under_way(peers, proposal.sent_at + resend)
                }
                Again::Everything => NodeSet(u32::MAX),
                Again::To(nodes) => nodes,
                Again::Above(_, slot) if proposal.meta.slot() <= slot => continue,
                Again::Above(node, _) => NodeSet::one(node),
            };
            links.handle_sent_again(proposal.meta.slot(), to_whom);
            let (code, epoch) = (proposal.meta.code, proposal.meta.epoch);
            let mut is_sent = false;
            for (to, peer) in peers.iter_mut().map(|(to, peer)| (*to, peer)) {
                let place = place_of(configuration, &self.acceptor.epochs, epoch, to);
                let home = home_of(ballot, place);
                let missing =
                    wanted(code, home, proposal.c).without(proposal.acks[usize::from(to)]);
                let is_able =
                    peer.is_able() && is_near(peer.applied, proposal.meta.slot(), ahead_slots);
                if missing.is_empty() || !is_able || !to_whom.contains(to) {
                    continue;
                }
                let shards = cut(&proposal.shards, missing);
                let value = ShardedValue { meta: proposal.meta.clone(), shards };
                if to == own {
                    to_self.push(value);
                } else {
                    proposal.sent_at = now;
                    peer.outgoing.push(value);
                    is_sent = true;
                }
            }
            match again {
                Again::Overdue => {
                    proposal.tries =
                        (proposal.tries + u32::from(is_sent)).min(PATIENCE_DOUBLINGS_MAX);
                    proposal.send_again_at = now + patience * (1 << proposal.tries);
                }
                Again::Above(..) if is_sent => {
                    proposal.send_again_at = proposal.send_again_at.min(now + patience);
                }
                Again::Everything | Again::To(_) | Again::Above(..) => {}
            }
        }
        let ballot = leader.ballot;
        for value in to_self {
            self.accept_own(ballot, value);
        }
    }

    /// `node` has applied up to `applied`: it is sent what is near enough to it by now.
    pub(super) fn come_nearer(&mut self, now: Instant, node: u8, applied: Slot) {
        let ahead_slots = self.limits().accept_ahead_slots;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.get_mut(&node).filter(|peer| applied > peer.applied) else {
            return;
        };
        let reached = Slot(peer.applied.0.saturating_add(ahead_slots));
        peer.applied = applied;
        if reached.next() < leader.next_slot && !breaks(Mutant::OffersByClock) {
            self.send_again(now, Again::Above(node, reached));
        }
    }

    /// Turns what has gathered since the last drain into messages, few per peer.
    pub(super) fn flush_leader(&mut self, now: Instant) {
        let lease = self.config.timing.lease();
        let tell_at = now + self.config.timing.commit();
        let page_bytes = self.limits().page_bytes;
        let own = self.own;
        self.come_nearer(now, own, self.acceptor.applied);
        let Role::Leader(leader) = &mut self.role else { return };
        let (ballot, commit) = (leader.ballot, leader.commit);
        let is_heartbeat = std::mem::take(&mut leader.is_heartbeat_due);
        let is_telling = leader.tell_at.is_some_and(|at| at <= now);
        let mut is_waiting = false;
        let mut messages = Vec::new();
        for (to, peer) in leader.peers.iter_mut().filter(|(to, _)| **to != own) {
            let is_untold = peer.is_able() && peer.told < commit && !is_heartbeat;
            if !peer.outgoing.is_empty() || is_untold && is_telling {
                let entries = std::mem::take(&mut peer.outgoing);
                let pages = Message::Accept { ballot, commit, entries }.paged(page_bytes);
                messages.extend(pages.into_iter().map(|page| (*to, page)));
                peer.told = commit;
            } else if is_heartbeat {
                peer.told = commit;
            }
            is_waiting |= peer.is_able() && peer.told < commit;
        }
        leader.tell_at = is_waiting.then(|| leader.tell_at.unwrap_or(tell_at));
        if is_heartbeat {
            leader.sequence += 1;
            let sequence = leader.sequence;
            leader.sent.push(sequence, now, lease);
            let others = leader.peers.keys().copied().filter(|to| *to != own);
            messages.extend(others.map(|to| (to, Message::Heartbeat { ballot, sequence, commit })));
        }
        self.effects.ready.extend(messages);
    }
}

/// Those to whom nothing is on its way that was sent up to `given_at`.
fn without_under_way(peers: &BTreeMap<u8, Peer>, given_at: Instant) -> NodeSet {
    let has_all = |peer: &Peer| peer.under_way_since.is_none_or(|since| since > given_at);
    peers.iter().filter(|(_, peer)| has_all(peer)).map(|(node, _)| *node).collect()
}

/// An unacknowledged proposal is sent again after this many resend times, then after twice that, …
pub(super) const PATIENCE_RESENDS: u32 = 8;
const PATIENCE_DOUBLINGS_MAX: u32 = 5;
