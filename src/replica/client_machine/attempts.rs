//! Attempts of a client machine's operations: sent, given up, waited for, moved to another node.

use super::ClientMachine;
use super::operation::{ClientOutcome, Operation, Stage, Token};
use crate::kv::{Read, Refusal, Request};
use crate::time::{Duration, Instant};
use crate::transport::{MessageId, SendError};
use crate::types::Slot;
use std::net::SocketAddr;

impl ClientMachine {
    pub(super) fn start_attempt(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let request = *operation.request.get_or_insert_with(|| {
            let request = (0, self.next_sequence);
            self.next_sequence += 1;
            self.by_request.insert(request, token);
            request
        });
        let is_anywhere = operation.is_anywhere();
        let member = match operation.fixed_member {
            Some(member) => member,
            None if is_anywhere => {
                // Any node, so that reads spread; not one that was silent just now.
                let members = self.members.len();
                let first = usize::try_from(self.rng.below(members as u64)).unwrap_or(0);
                let usable = |other: &usize| self.suspected[*other] <= now && !self.gone[*other];
                let mut order = (0..members).map(|step| (first + step) % members);
                let chosen = order.find(usable).unwrap_or(first);
                // One operation tries a node that was silent; the others wait for what it says.
                if self.suspected[chosen] > Instant::ZERO {
                    self.suspected[chosen] = now + self.config.attempt_timeout;
                }
                chosen
            }
            None => self.guess,
        };
        let to = self.members[member].address;
        let answered_below = self.sessions[operation.session].answered_below(request);
        let (session, sequence) = request;
        let op = operation.op.clone();
        let at_least = self.sessions[operation.session].seen;
        let read = Read { mode: operation.read_mode, at_least };
        let message = Request { session, sequence, answered_below, read, op }.encode();
        match self.transport.send(now, to, &message) {
            Ok(message) => {
                self.stats.attempts += 1;
                operation.stage = Stage::Sent { member, message, at: now };
                let at = now + self.config.attempt_timeout;
                self.set_timer(token, at);
            }
            Err(SendError::TooLarge { .. }) => {
                self.end(now, token, Slot::ZERO, ClientOutcome::Failed(Refusal::ValueBound));
            }
            Err(
                SendError::QueueFull { .. }
                | SendError::AllQueuesFull { .. }
                | SendError::TooManyPeers { .. },
            ) => {
                self.back_off(now, token);
            }
        }
    }

    /// Another attempt after a wait that doubles each time, up to its maximum, with jitter.
    pub(super) fn back_off(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        if operation.refusals >= REFRESH_REFUSALS {
            self.refresh(now, self.guess);
        }
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let doublings = operation.refusals.min(16);
        operation.refusals += 1;
        operation.stage = Stage::Waiting;
        let longest = self.config.backoff_max.max(self.config.backoff_min);
        let wait = (self.config.backoff_min * (1 << doublings)).min(longest);
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1000);
        let jittered = nanos / 2 + self.rng.below(nanos / 2 + 1);
        self.set_timer(token, now + Duration::from_nanos(jittered));
    }

    /// The operation's one timer: at `at`, but never after its deadline.
    pub(super) fn set_timer(&mut self, token: Token, at: Instant) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let at = operation.deadline().map_or(at, |deadline| at.min(deadline));
        if let Some(old) = operation.timer.replace(at) {
            self.timers.remove(&(old, token));
        }
        self.timers.insert((at, token));
    }

    pub(super) fn handle_timer(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        operation.timer = None;
        if operation.deadline().is_some_and(|deadline| deadline <= now) {
            if matches!(operation.stage, Stage::Sent { .. }) {
                self.lose_attempt(now, token);
            }
            let Some(operation) = self.operations.get(&token) else { return };
            let outcome = operation.outcome_without_answer();
            return self.end(now, token, Slot::ZERO, outcome);
        }
        let stage = operation.stage;
        match stage {
            Stage::Queued => {}
            // Begun anew, what is larger than the link carries in that time would never arrive.
            Stage::Sent { member, message, .. } if self.is_moving(now, member, message) => {
                self.set_timer(token, now + self.config.attempt_timeout);
            }
            Stage::Sent { .. } => {
                self.lose_attempt(now, token);
                self.try_again(now, token);
            }
            Stage::Waiting => self.try_again(now, token),
        }
    }

    /// Does a request still go out, or something large still come in from whom it went to? The
    /// transport says when a peer has gone silent meanwhile.
    fn is_moving(&self, now: Instant, member: usize, message: MessageId) -> bool {
        let peer = self.members[member].address;
        let lately = self.config.attempt_timeout / 2;
        self.transport.is_sending(now, peer, message, lately)
            || self.transport.is_receiving(now, peer, lately)
    }

    /// The attempt in flight is given up; whether it takes effect is not known.
    pub(super) fn lose_attempt(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let Stage::Sent { member, message, at } = operation.stage else { return };
        operation.stage = Stage::Waiting;
        operation.is_uncertain = true;
        self.stats.attempts_lost += 1;
        self.transport.cancel(self.members[member].address, message);
        // One that answers others is slow, not gone.
        if self.heard[member] <= at {
            self.suspected[member] = now + self.config.attempt_timeout / 2;
            self.move_on_from(now, member);
        }
    }

    /// Another member answers as the leader: what earlier ones have will hardly be answered.
    pub(super) fn follow(&mut self, now: Instant, leader: usize) {
        self.guess = leader;
        if self.leader.replace(leader) == Some(leader) {
            return;
        }
        let is_elsewhere = |operation: &Operation| {
            operation.fixed_member.is_none()
                && !operation.is_anywhere()
                && operation.stage.member().is_some_and(|member| member != leader)
        };
        let elsewhere = self.operations.iter().filter(|(_, operation)| is_elsewhere(operation));
        let elsewhere: Vec<Token> = elsewhere.map(|(token, _)| *token).collect();
        for token in elsewhere {
            self.lose_attempt(now, token);
            self.guess = leader;
            self.start_attempt(now, token);
        }
    }

    pub(super) fn try_again(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get(&token) else { return };
        // A session is opened only as long as something waits for it.
        if operation.is_open() && self.sessions[operation.session].waiting.is_empty() {
            self.sessions[operation.session].opening = None;
            self.forget(token);
            return;
        }
        self.start_attempt(now, token);
    }

    /// The member asked next is another one than `member`, and one that answers if there is any.
    pub(super) fn move_on_from(&mut self, now: Instant, member: usize) {
        if self.guess != member {
            return;
        }
        let members = self.members.len();
        let others = (1..members).map(|step| (member + step) % members);
        let mut others = others.filter(|other| !self.gone[*other]);
        let next = others.clone().next().unwrap_or((member + 1) % members);
        self.guess = others.find(|other| self.suspected[*other] <= now).unwrap_or(next);
    }

    /// What was asked of this peer will not be answered: ask another, and do not believe hints to it
    /// for a while.
    pub(super) fn handle_lost_peer(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        suspected_until: Instant,
    ) {
        let Some(lost) = self.members.iter().position(|member| member.address == peer) else {
            return;
        };
        self.suspected[lost] = suspected_until;
        self.move_on_from(now, lost);
        let is_lost = |operation: &Operation| match operation.stage {
            Stage::Sent { member, .. } => member == lost,
            Stage::Queued | Stage::Waiting => false,
        };
        let affected = self.operations.iter().filter(|(_, operation)| is_lost(operation));
        let affected: Vec<Token> = affected.map(|(token, _)| *token).collect();
        for token in affected {
            self.lose_attempt(now, token);
            self.back_off(now, token);
        }
    }
}

/// After so many refusals an operation makes the machine ask who the members are.
const REFRESH_REFUSALS: u32 = 3;
