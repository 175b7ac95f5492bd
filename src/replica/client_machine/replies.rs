//! What a client machine makes of replies: answers, and refusals that lead on or end it.

use super::ClientMachine;
use super::operation::{ClientOutcome, Stage, Token};
use crate::kv::{Op, Outcome, Refusal, Response};
use crate::time::Instant;
use crate::types::{NodeId, Slot};
use std::net::SocketAddr;

impl ClientMachine {
    pub(super) fn handle_response(&mut self, now: Instant, from: SocketAddr, response: Response) {
        let member = self.members.iter().position(|member| member.address == from);
        let token = self.by_request.get(&(response.session, response.sequence)).copied();
        let (Some(member), Some(token)) = (member, token) else {
            // Late replies to earlier attempts end here too.
            self.stats.garbage_messages += u64::from(member.is_none());
            return;
        };
        self.suspected[member] = Instant::ZERO;
        self.heard[member] = now;
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let is_current = operation.stage.member() == Some(member);
        match response.outcome {
            Outcome::Refused(refusal) => {
                // Only of the attempt in flight: one given up stays unaccounted for.
                if is_current {
                    self.handle_refusal(now, token, member, refusal);
                }
            }
            outcome @ (Outcome::SessionOpened { .. }
            | Outcome::Value { .. }
            | Outcome::NotFound
            | Outcome::Written { .. }
            | Outcome::Mismatch { .. }
            | Outcome::Rows(_)
            | Outcome::Status(_)
            | Outcome::Done
            | Outcome::Controlled { .. }) => {
                self.handle_answer(now, token, member, response.served_at, outcome);
                self.refresh_in_time(now, member);
            }
        }
    }

    fn handle_answer(
        &mut self,
        now: Instant,
        token: Token,
        member: usize,
        served_at: Slot,
        outcome: Outcome,
    ) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        if !operation.is_answered_by(&outcome) {
            self.stats.garbage_messages += 1;
            return;
        }
        // Any node answers these.
        let is_anyones = matches!(operation.op, Op::Status | Op::Control { .. });
        let is_leaders = !is_anyones && !operation.is_anywhere();
        // The message in flight to another node than this one is not needed any more.
        if let Stage::Sent { member: asked, message, .. } = operation.stage
            && asked != member
        {
            self.transport.cancel(self.members[asked].address, message);
        }
        let index = operation.session;
        if let Outcome::Status(status) = &outcome {
            self.learn_members(status);
        }
        if let Outcome::SessionOpened { session } = outcome {
            self.stats.sessions_opened += 1;
            self.sessions[index].open(session);
            self.forget(token);
            self.start_waiting(now, index);
        } else {
            self.end(now, token, served_at, ClientOutcome::Done(outcome));
        }
        if is_leaders {
            self.follow(now, member);
        }
    }

    fn handle_refusal(&mut self, now: Instant, token: Token, member: usize, refusal: Refusal) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        operation.stage = Stage::Waiting;
        operation.last_refusal = Some(refusal);
        match refusal {
            Refusal::NotLeader { leader } => {
                self.stats.refusals += 1;
                self.handle_not_leader(now, token, member, leader.map(NodeId));
            }
            Refusal::Busy | Refusal::Unavailable | Refusal::Behind => {
                self.stats.refusals += 1;
                self.back_off(now, token);
            }
            Refusal::SessionUnknown => self.handle_session_unknown(now, token),
            Refusal::Stale
            | Refusal::DiskFull
            | Refusal::KeyBound
            | Refusal::ValueBound
            | Refusal::Unsafe
            | Refusal::ChangeUnderWay
            | Refusal::IdUsed
            | Refusal::NotMember
                if operation.is_open() =>
            {
                self.refuse_waiting(now, token, refusal);
            }
            Refusal::Stale | Refusal::DiskFull => {
                let may_be_done = refusal == Refusal::Stale || operation.is_uncertain;
                let outcome = if operation.is_write() && may_be_done {
                    ClientOutcome::Unknown
                } else {
                    ClientOutcome::Failed(refusal)
                };
                self.end(now, token, Slot::ZERO, outcome);
            }
            Refusal::KeyBound
            | Refusal::ValueBound
            | Refusal::Unsafe
            | Refusal::ChangeUnderWay
            | Refusal::IdUsed
            | Refusal::NotMember => {
                self.end(now, token, Slot::ZERO, ClientOutcome::Failed(refusal));
            }
        }
    }

    fn handle_not_leader(
        &mut self,
        now: Instant,
        token: Token,
        member: usize,
        leader: Option<NodeId>,
    ) {
        let hinted = leader
            .and_then(|leader| self.place_of(leader))
            .filter(|hinted| *hinted != member && self.suspected[*hinted] <= now);
        if leader.is_some_and(|leader| self.place_of(leader).is_none()) {
            self.refresh(now, member);
        }
        let Some(operation) = self.operations.get_mut(&token) else { return };
        if let Some(hinted) = hinted {
            if self.guess == member {
                self.guess = hinted;
            }
            // At once, but not round and round between nodes that point at each other.
            operation.redirects += 1;
            if operation.redirects % 4 != 0 && operation.fixed_member.is_none() {
                return self.start_attempt(now, token);
            }
        } else {
            self.move_on_from(now, member);
        }
        self.back_off(now, token);
    }

    /// No session is to be had: what waits for it has not been sent, and fails.
    fn refuse_waiting(&mut self, now: Instant, opening: Token, refusal: Refusal) {
        let Some(operation) = self.forget(opening) else { return };
        let session = &mut self.sessions[operation.session];
        session.opening = None;
        let waiting: Vec<Token> = session.waiting.drain(..).collect();
        for token in waiting {
            self.end(now, token, Slot::ZERO, ClientOutcome::Failed(refusal));
        }
    }

    fn handle_session_unknown(&mut self, now: Instant, token: Token) {
        let Some(operation) = self.operations.get_mut(&token) else { return };
        let Some(request) = operation.request else { return };
        let index = operation.session;
        if request.0 == 0 {
            return self.back_off(now, token);
        }
        if self.sessions[index].id == Some(request.0) {
            self.stats.sessions_lost += 1;
            self.sessions[index].lose();
        }
        if operation.is_uncertain {
            return self.end(now, token, Slot::ZERO, ClientOutcome::Unknown);
        }
        self.by_request.remove(&request);
        operation.request = None;
        operation.stage = Stage::Queued;
        let deadline = operation.deadline().unwrap_or(now);
        self.sessions[index].waiting.push_back(token);
        self.set_timer(token, deadline);
        self.start_waiting(now, index);
    }
}
