//! Members that come and go: changes through the log, and nodes that find out about them.
//!
//! A change takes two entries. The first (`begin_change`) makes the newcomer known: it is sent its
//! future shards and gathers what was before, without a vote. The second closes the change; the
//! leader proposes it in a quiet moment, when the nodes that will be members hold durably what makes
//! every value so far chosen among them. It is chosen when it is so among the old members and among
//! the new, and behind it nothing of an older epoch counts. `docs/membership.md` says why that is
//! enough.
//!
//! Invariants: only members of the epoch in force count for anything; the next change begins when
//! any Q1 of the members has one that knows durably that it is one.

use super::choice::is_chosen;
use super::closing::Closing;
use super::effects::Effect;
use super::leader::{Leader, Peer};
use super::message::Message;
use super::{Paxos, Role};
use crate::config::{Change, ChangeError, Configuration};
use crate::mutant::{Mutant, breaks};
use crate::time::Instant;
use crate::types::{Ballot, Bytes, Code, Epoch, NodeId, NodeSet, Record, ShardSet, Slot, ValueId};
use std::net::SocketAddr;

/// What this node is to the cluster, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a vote.
    Member,
    /// It learns, to be a member.
    Newcomer,
    /// The log does not name it yet.
    Unknown,
    /// It was a member, or was to be one: its id is refused for ever.
    Removed,
}

/// Are shards missing of what an index snapshot stands for?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repairing {
    No,
    Yes,
    /// All are recorded, not yet durable.
    Closing,
}

/// What becomes of a change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is proposed.
    Proposed(ValueId),
    /// It is under way, or done, already.
    Known,
    /// Not now: this node is not ready, or hands the leadership over first.
    NotYet,
    /// It cannot be.
    Refused(ChangeError),
    /// Values of this code could be lost after it.
    Unsafe(Code),
}

impl Paxos {
    /// What this node is to the cluster.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let current = &self.acceptor.epochs.current;
        // Another node has applied what it tells of: whoever was given up need not fetch it to know.
        let is_told_off = || self.heard.as_ref().is_some_and(|told| told.is_retired(self.own));
        if current.is_member(self.own) {
            Standing::Member
        } else if current.is_retired(self.own) || is_told_off() {
            Standing::Removed
        } else if current.newcomer().is_some_and(|seat| seat.id == self.node) {
            Standing::Newcomer
        } else {
            Standing::Unknown
        }
    }

    /// This node's place for values of `epoch`. None for one that has not applied the entry which
    /// names it and has not been told its place: what it gathers lies before that entry, and would
    /// rest under another's index. All of that is of lists without this node, so one place holds for
    /// all: the first.
    pub(super) fn home(&self, epoch: Epoch) -> Option<u8> {
        match self.standing() {
            Standing::Member | Standing::Newcomer | Standing::Removed => {
                Some(self.acceptor.epochs.home(epoch, self.own))
            }
            Standing::Unknown => {
                self.told_place.or_else(|| breaks(Mutant::GuessesHome).then_some(self.own))
            }
        }
    }

    /// The configuration in force, with members and the change under way.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        match &self.role {
            Role::Leader(leader) => &leader.configuration,
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => {
                &self.acceptor.epochs.current
            }
        }
    }

    /// Where a node listens, as far as the log or another node has said.
    #[must_use]
    pub fn address(&self, id: u8) -> Option<SocketAddr> {
        let of = |known: &Configuration| {
            known.seats().find(|seat| seat.id.0 == id).map(|seat| seat.address)
        };
        let heard = || self.heard.as_ref().and_then(of);
        self.acceptor.epochs.address(id).or_else(heard).or_else(|| of(self.configuration()))
    }

    /// The data directory that belongs to `id`: what the log says, or what was met first.
    #[must_use]
    pub fn incarnation(&self, id: NodeId) -> Option<u64> {
        self.named(id).or_else(|| self.incarnations.get(&id).copied())
    }

    /// The data directory of `id` that is known here, when `incarnation` is another one (rule 12).
    /// Whoever was there from the beginning must be the one that the log names *and* the one that was
    /// met: whoever named it may have missed the first. A newcomer may lose its directory before it
    /// has a vote, so the log alone says which it joined with.
    #[must_use]
    pub fn other_directory(&self, id: NodeId, incarnation: u64) -> Option<u64> {
        let named = self.named(id);
        let has_joined = named.is_some() && !self.acceptor.epochs.is_founder(id.0);
        let met = self.incarnations.get(&id).copied().filter(|_| !has_joined);
        named.into_iter().chain(met).find(|known| *known != incarnation)
    }

    /// Does the entry by which this node became a member, or one after it, name the directory of `id`?
    #[must_use]
    pub fn joined_knowing(&self, id: NodeId) -> bool {
        let epochs = &self.acceptor.epochs;
        let has_joined = epochs.current.is_member(self.own) && !epochs.is_founder(self.own);
        has_joined && self.named(id).is_some()
    }

    fn named(&self, id: NodeId) -> Option<u64> {
        let seat = self.acceptor.epochs.current.seats().find(|seat| seat.id == id)?;
        Some(seat.incarnation).filter(|incarnation| *incarnation != 0)
    }

    /// A node was met for the first time. Only those that belong here are remembered.
    pub fn meet(&mut self, node: NodeId, incarnation: u64) {
        if self.incarnation(node).is_none() && self.address(node.0).is_some() {
            self.incarnations.insert(node, incarnation);
            self.effects.persist(Record::Peer { node, incarnation });
        }
    }

    /// Starts a change of the members. It ends by itself when the newcomer has learnt everything.
    pub fn begin_change(&mut self, now: Instant, change: Change) -> Begun {
        let applied = self.acceptor.applied;
        let Role::Leader(leader) = &self.role else { return Begun::NotYet };
        let current = leader.configuration.clone();
        let is_same = |known: &Change| {
            known.joins.map(|seat| (seat.id, seat.address))
                == change.joins.map(|seat| (seat.id, seat.address))
                && (known.leaves, known.code) == (change.leaves, change.code)
        };
        let has_joined = change.joins.is_none_or(|joins| {
            current.members.iter().any(|s| s.id == joins.id && s.address == joins.address)
        });
        let has_left = change.leaves.is_none_or(|leaves| current.is_retired(leaves.0));
        if current.change.as_ref().is_some_and(is_same) || (has_joined && has_left) {
            return Begun::Known;
        }
        let begun = match current.with_change(change) {
            Ok(begun) => begun,
            Err(error) => return Begun::Refused(error),
        };
        let is_level = applied >= leader.recovered_until && applied == leader.commit;
        if !leader.is_open() || !is_level {
            return Begun::NotYet;
        }
        if !self.is_settled() && !breaks(Mutant::ChangesUnsettled) {
            return Begun::NotYet;
        }
        let after = begun.changed(0);
        if let Some(code) = self.lacking(&begun, &after, after.ids()) {
            return Begun::Unsafe(code);
        }
        if change.leaves == Some(self.node) {
            self.hand_over(now);
            return Begun::NotYet;
        }
        match self.propose(now, begun.encode(), &Bytes::new()) {
            Some(id) => Begun::Proposed(id),
            None => Begun::NotYet,
        }
    }

    /// Gives the change under way up, and its newcomer's id for ever.
    pub fn cancel_change(&mut self, now: Instant) -> Begun {
        let Role::Leader(leader) = &mut self.role else { return Begun::NotYet };
        if leader.configuration.change.is_none() {
            return Begun::Known;
        }
        if leader.barrier.is_some() || !leader.recovered.is_empty() {
            return Begun::NotYet;
        }
        leader.closing = Closing::NotBefore(now);
        let cancelled = leader.configuration.cancelled();
        match self.propose(now, cancelled.encode(), &Bytes::new()) {
            Some(id) => Begun::Proposed(id),
            None => Begun::NotYet,
        }
    }

    /// Does any Q1 of the members have one that knows durably who they are?
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let since = self.acceptor.epochs.since;
        let quorums = leader.rules().quorums();
        let level = self.level(leader, since).intersection(leader.configuration.ids());
        leader.rules().epoch == self.acceptor.rules().epoch
            && level.count() > quorums.nodes - quorums.prepare
    }

    /// Who holds its shards of everything up to `slot` durably.
    pub(super) fn level(&self, leader: &Leader, slot: Slot) -> NodeSet {
        let others = leader
            .peers
            .iter()
            .filter(|(node, peer)| **node != self.own && peer.durable >= slot && peer.is_alive);
        let mut level: NodeSet = others.map(|(node, _)| *node).collect();
        if self.durable() >= slot {
            level.insert(self.own);
        }
        level
    }

    /// A code whose values would not be chosen among the members of `after` if only those in `level`
    /// held their home shards: the one rule, over all lists and codes that values have or get by then.
    pub(super) fn lacking(
        &self,
        now: &Configuration,
        after: &Configuration,
        level: NodeSet,
    ) -> Option<Code> {
        let epochs = &self.acceptor.epochs;
        let prepare = after.rules.quorums().prepare;
        let headers = (Epoch(0), after.rules.copies());
        let home = |epoch: Epoch, id: u8| {
            let newcomer = now.newcomer().filter(|seat| seat.id.0 == id);
            newcomer.and_then(|_| now.place(id)).unwrap_or_else(|| epochs.home(epoch, id))
        };
        let is_lacking = |(epoch, code): &(Epoch, Code)| {
            let acks = after.members.iter().map(|seat| match level.contains(seat.id.0) {
                true => ShardSet::one(home(*epoch, seat.id.0) % code.n()),
                false => ShardSet::EMPTY,
            });
            let acks: Vec<ShardSet> = acks.collect();
            !is_chosen(&acks, prepare, u32::from(code.k()))
        };
        // What is proposed until the change closes has the code of now, whether or not any value has it
        // already.
        let coming = (now.rules.epoch, now.rules.code);
        epochs.shapes().chain([coming, headers]).find(is_lacking).map(|(_, code)| code)
    }

    /// A leader never proposes its own end: another closes the change.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let own = self.own;
        let Role::Leader(leader) = &self.role else { return };
        let others = leader.voters().filter(|(node, peer)| *node != own && peer.is_alive);
        let best = others.max_by_key(|(_, peer)| peer.applied).map(|(node, _)| node);
        if let Some(best) = best {
            self.transfer(now, best);
        }
    }

    /// The leader has applied `next`. False when it leads no more.
    pub(super) fn enter_configuration(&mut self, now: Instant, next: Configuration) -> bool {
        let is_member = next.is_member(self.own);
        let Role::Leader(leader) = &mut self.role else { return false };
        let (ballot, commit, sequence) = (leader.ballot, leader.commit, leader.sequence);
        let prepare = |of: &Configuration| of.rules.quorums().prepare;
        let is_for_others = next.members != leader.configuration.members
            || prepare(&next) > prepare(&leader.configuration);
        let seats: NodeSet = next.seats().map(|seat| seat.id.0).collect();
        let gone: NodeSet =
            leader.peers.keys().copied().filter(|node| !seats.contains(*node)).collect();
        leader.peers.retain(|node, _| seats.contains(*node));
        for node in seats.iter() {
            leader.peers.entry(node).or_insert_with(|| Peer::new(now, Slot::ZERO, true));
        }
        leader.configuration = next;
        leader.entered_at = now;
        leader.is_heartbeat_due = true;
        let is_over = !is_member || is_for_others && !breaks(Mutant::IgnoresCut);
        // Those who are not members any more learn it while somebody still speaks to them, and the
        // others while the ballot still leads at which they have accepted it.
        let own = self.own;
        let told = if is_over { gone.union(seats) } else { gone };
        for node in told.iter().filter(|node| *node != own) {
            self.send(node, Message::Heartbeat { ballot, sequence, commit });
        }
        if !is_member {
            self.step_down(now, "is no member any more");
            return false;
        }
        if is_over {
            // Who promised does not suffice for what follows: a lower ballot that heard of this entry
            // may have it chosen there. Ask those who are members now.
            self.step_down(now, "others decide what follows");
            self.campaign_again(ballot, ballot);
            return false;
        }
        true
    }

    /// Asks for promises anew, above `ballot`.
    pub(super) fn campaign_again(&mut self, ballot: Ballot, released: Ballot) {
        let round = self.round_seen.max(ballot.round).max(self.acceptor.promised.round);
        self.campaign(Ballot { round, node: 0 }.next_for(self.node), released);
    }

    /// Has this node a vote, as far as it knows?
    pub(super) fn has_vote(&self) -> bool {
        self.acceptor.epochs.current.is_member(self.own)
    }

    /// Whom a candidate asks.
    pub(super) fn voters_and_newcomer(&self) -> Vec<u8> {
        let seats = self.acceptor.epochs.current.seats().map(|seat| seat.id.0);
        seats.filter(|node| *node != self.own).collect()
    }

    /// Everybody who may know more.
    pub(super) fn contacts(&self) -> NodeSet {
        let current = &self.acceptor.epochs.current;
        let heard = self.heard.iter().flat_map(Configuration::seats);
        let seats = current.seats().chain(heard).chain(self.configuration().seats());
        let mut contacts: NodeSet = seats.map(|seat| seat.id.0).collect();
        contacts.remove(self.own);
        contacts.without(current.retired)
    }

    /// Is the sender one that this node knows? A stranger is asked who the members are: it may have
    /// come while this node was away.
    ///
    /// No answer calls for another one, or two strangers would ask each other for ever: what a
    /// stranger tells is not asked about, and one that asks is asked back only when it is further.
    pub(super) fn is_heard(&mut self, from: u8, message: &Message) -> bool {
        let is_retired = self.acceptor.epochs.current.is_retired(from);
        if is_retired || self.address(from).is_some() {
            return true;
        }
        let (epoch, applied) = (self.acceptor.rules().epoch, self.acceptor.applied);
        match message {
            Message::Members { configuration, .. } => {
                return configuration.seats().any(|seat| seat.id.0 == from);
            }
            Message::Probe { epoch: of, applied: upto } if (epoch, applied) >= (*of, *upto) => {
                return true;
            }
            Message::Probe { .. }
            | Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Prepare { .. }
            | Message::Promise(_)
            | Message::Accept { .. }
            | Message::Accepted { .. }
            | Message::Nack { .. }
            | Message::Heartbeat { .. }
            | Message::TakeOver { .. }
            | Message::HeartbeatReply { .. }
            | Message::Fetch { .. }
            | Message::Shards { .. }
            | Message::FetchIndex { .. }
            | Message::IndexPart { .. }
            | Message::Refused { .. } => {}
        }
        self.trace(|| format!("n{from} is a stranger"));
        self.send(from, Message::Probe { epoch, applied });
        false
    }

    /// Has one of the two left? Then there is nothing to vote on, and the other is told.
    pub(super) fn is_turned_away(&mut self, from: u8) -> bool {
        let current = &self.acceptor.epochs.current;
        let is_away = current.is_retired(from) || current.is_retired(self.own);
        if is_away {
            self.tell_members(from);
        }
        is_away
    }

    /// Asks everybody who the members are.
    pub(super) fn probe(&mut self) {
        let (epoch, applied) = (self.acceptor.rules().epoch, self.acceptor.applied);
        for node in self.contacts().iter() {
            self.send(node, Message::Probe { epoch, applied });
        }
    }

    pub(super) fn handle_probe(&mut self, from: u8, epoch: Epoch, applied: Slot) {
        if (self.acceptor.rules().epoch, self.acceptor.applied) > (epoch, applied) {
            self.tell_members(from);
        }
    }

    fn tell_members(&mut self, to: u8) {
        let (applied, epochs) = (self.acceptor.applied, &self.acceptor.epochs);
        let (configuration, first_place) = (epochs.current.clone(), epochs.first_place(to));
        self.send(to, Message::Members { applied, configuration, first_place });
    }

    /// Another node is further: what it has applied is chosen, and is fetched.
    pub(super) fn handle_members(
        &mut self,
        now: Instant,
        applied: Slot,
        told: Configuration,
        first_place: Option<u8>,
    ) {
        let had_place = self.home(Epoch(0)).is_some();
        self.told_place = self.told_place.or(first_place);
        self.acceptor.commit = self.acceptor.commit.max(applied);
        let known = self.heard.as_ref().map_or(Epoch(0), |heard| heard.rules.epoch);
        if told.rules.epoch > known.max(self.acceptor.rules().epoch) {
            self.heard = Some(told);
        }
        // From now on the others answer.
        if !had_place && self.home(Epoch(0)).is_some() {
            self.catching_up.until = self.acceptor.commit;
            self.catch_up(now);
        }
    }

    /// Are shards missing that this node should hold of what an index snapshot stands for? Then it
    /// does not say that it has them.
    pub fn handle_repair(&mut self, is_outstanding: bool) {
        match (self.repairing, is_outstanding) {
            (Repairing::No | Repairing::Closing, true) => self.repairing = Repairing::Yes,
            (Repairing::Yes, false) => {
                self.repairing = Repairing::Closing;
                self.effects.hold(Effect::Repaired);
            }
            (Repairing::Yes, true) | (Repairing::No | Repairing::Closing, false) => {}
        }
    }

    /// What was repaired is durable.
    pub(super) fn finish_repair(&mut self) {
        if self.repairing == Repairing::Closing {
            self.repairing = Repairing::No;
        }
    }

    /// Up to here this node holds its shards, and knows that it does, durably.
    #[must_use]
    pub fn durable(&self) -> Slot {
        if self.repairing != Repairing::No || self.restoring.is_under_way() {
            return Slot::ZERO;
        }
        self.effects.durable_mark()
    }

    /// While members change, what is applied is made durable without waiting for other records.
    pub(super) fn mark_durable(&mut self) {
        let epochs = &self.acceptor.epochs;
        let is_pressing = epochs.current.change.is_some()
            || epochs.since > self.effects.durable_mark()
            || !self.has_vote();
        if is_pressing {
            self.effects.mark(self.acceptor.applied);
        }
    }
}
