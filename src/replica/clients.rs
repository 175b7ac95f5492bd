//! Requests of clients: refused, answered from results, proposed, or kept waiting for room.

use super::{Executed, Output, Replica};
use crate::config::{Change, ChangeError, EpochConfig, Limits, Seat};
use crate::kv::{
    Admin, Applied, Bounds, Command, Execution, Op, Operation, Outcome, Refusal, Request, Response,
};
use crate::paxos::{Begun, RoleName};
use crate::time::{Duration, Instant};
use crate::types::{Bytes, NodeId, Slot, ValueId, ValueMeta};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Who waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    pub(super) session: u64,
    pub(super) sequence: u64,
}

/// Tells a repeated request apart: session and sequence, and where a session is yet to be opened, who
/// asks. (Each repetition would open another one, and the oldest, perhaps in use, would go.)
type Name = (u64, u64, Option<SocketAddr>);

impl Caller {
    fn name(&self) -> Name {
        (self.session, self.sequence, (self.session == 0).then_some(self.address))
    }
}

/// Who waits for a command to this node's driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlCaller(Caller);

/// Writes under way on the leader.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Proposed, by slot.
    proposed: BTreeMap<Slot, Proposed>,
    /// What is proposed or waits; the slot once there is one.
    known: BTreeMap<Name, Option<Slot>>,
    /// Taken, not yet proposed: the window is full.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    arrived: Instant,
    caller: Caller,
    request: Request,
}

#[derive(Debug)]
struct Proposed {
    id: ValueId,
    caller: Caller,
    payload: Bytes,
}

impl Replica {
    pub(super) fn handle_request(&mut self, now: Instant, address: SocketAddr, request: Request) {
        let caller = Caller { address, session: request.session, sequence: request.sequence };
        if let Some(refusal) = self.refusal(&request) {
            return self.refuse(now, caller, refusal);
        }
        match &request.op {
            Op::Status => {
                let outcome = Outcome::Status(Box::new(self.status(now)));
                self.reply(now, caller, self.state.applied(), outcome);
            }
            Op::Get { .. } | Op::Scan { .. } => self.handle_read_request(now, caller, request),
            Op::Admin(admin) => self.handle_admin(now, caller, &admin.clone()),
            Op::Control { command } => {
                let caller = ControlCaller(caller);
                self.controls.push_back(Output::Control { caller, command: command.clone() });
            }
            Op::OpenSession | Op::Put { .. } | Op::Delete { .. } | Op::CompareAndSet { .. } => {
                self.handle_write_request(now, caller, request);
            }
        }
    }

    /// Why a request cannot be taken, whoever leads.
    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let limits = &self.config.cluster.limits;
        let is_bad_key = |key: &Bytes| key.is_empty() || key.len() > limits.key_bytes;
        match &request.op {
            Op::OpenSession | Op::Status | Op::Admin(_) | Op::Control { .. } => None,
            Op::Get { key } | Op::Delete { key } => is_bad_key(key).then_some(Refusal::KeyBound),
            // The first key behind the longest one is a byte longer.
            Op::Scan { start, .. } => {
                (start.len() > limits.key_bytes + 1).then_some(Refusal::KeyBound)
            }
            Op::Put { key, value } | Op::CompareAndSet { key, value, .. } => {
                if is_bad_key(key) {
                    Some(Refusal::KeyBound)
                } else {
                    (value.len() > limits.value_bytes).then_some(Refusal::ValueBound)
                }
            }
        }
    }

    fn handle_write_request(&mut self, now: Instant, caller: Caller, request: Request) {
        let name = caller.name();
        if caller.session != 0
            && let Some((slot, applied)) = self.state.result(name.0, name.1)
        {
            return self.reply(now, caller, slot, outcome_of(applied));
        }
        if self.paxos.role() != RoleName::Leader {
            let leader = self.paxos.leader().map(|node| node.0);
            return self.refuse(now, caller, Refusal::NotLeader { leader });
        }
        // A repeated request that is under way already: the answer goes to where it came from last.
        if let Some(slot) = self.writes.known.get(&name) {
            if let Some(proposed) = slot.and_then(|slot| self.writes.proposed.get_mut(&slot)) {
                proposed.caller = caller;
            }
            return;
        }
        let takes_space = match &request.op {
            Op::Put { .. } | Op::CompareAndSet { .. } => true,
            Op::OpenSession
            | Op::Delete { .. }
            | Op::Get { .. }
            | Op::Scan { .. }
            | Op::Status
            | Op::Admin(_)
            | Op::Control { .. } => false,
        };
        if takes_space && self.paxos.is_space_low() {
            return self.refuse(now, caller, Refusal::DiskFull);
        }
        let value_bytes = value_bytes(&request.op);
        if self.writes.waiting.is_empty() && self.paxos.can_propose(value_bytes) {
            return self.propose(now, Waiting { arrived: now, caller, request });
        }
        let limits = &self.config.cluster.limits;
        let writes = &mut self.writes;
        let is_full = writes.waiting.len() >= limits.waiting_requests
            || writes.waiting_bytes + value_bytes > limits.waiting_bytes;
        if is_full {
            return self.refuse(now, caller, Refusal::Busy);
        }
        writes.known.insert(name, None);
        writes.waiting_bytes += value_bytes;
        writes.waiting.push_back(Waiting { arrived: now, caller, request });
    }

    fn propose(&mut self, now: Instant, waiting: Waiting) {
        let Waiting { arrived, caller, request } = waiting;
        let (operation, payload) = match request.op {
            Op::OpenSession => (Operation::OpenSession(self.session_bounds()), Bytes::new()),
            Op::Put { key, value } => (Operation::Put { key }, value),
            Op::Delete { key } => (Operation::Delete { key }, Bytes::new()),
            Op::CompareAndSet { key, expected, value } => {
                (Operation::CompareAndSet { key, expected }, value)
            }
            Op::Get { .. } | Op::Scan { .. } | Op::Status | Op::Admin(_) | Op::Control { .. } => {
                return;
            }
        };
        let command = Command {
            session: request.session,
            sequence: request.sequence,
            answered_below: request.answered_below,
            operation,
        };
        let encoded = self.paxos.coding_times().encode_nanos;
        let Some(id) = self.paxos.propose(now, command.encode(), &payload) else { return };
        let encode = Duration::from_nanos(self.paxos.coding_times().encode_nanos - encoded);
        self.stages.proposed(id.slot, (arrived, now), encode);
        self.writes.known.insert(caller.name(), Some(id.slot));
        self.writes.proposed.insert(id.slot, Proposed { id, caller, payload });
    }

    /// Those of the leader that opens a session: the log tells them to the others.
    fn session_bounds(&self) -> Bounds {
        let limits = &self.config.cluster.limits;
        let fitted = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        Bounds { sessions: fitted(limits.sessions), session_window: fitted(limits.session_window) }
    }

    /// What an operator asks for: only the leader does it.
    fn handle_admin(&mut self, now: Instant, caller: Caller, admin: &Admin) {
        if self.paxos.role() != RoleName::Leader {
            let leader = self.paxos.leader().map(|node| node.0);
            return self.refuse(now, caller, Refusal::NotLeader { leader });
        }
        match admin {
            Admin::Policy { policy, hybrid_bytes, .. } => {
                let current = self.paxos.epoch();
                let hybrid_bytes = hybrid_bytes.unwrap_or(current.hybrid_bytes);
                let wanted = admin.code().and_then(|code| {
                    EpochConfig { policy: *policy, code, hybrid_bytes, ..current }.checked().ok()
                });
                let Some(wanted) = wanted else {
                    return self.refuse(now, caller, Refusal::Unsafe);
                };
                match self.paxos.propose_epoch(now, wanted) {
                    Some(id) => {
                        let payload = Bytes::new();
                        self.writes.proposed.insert(id.slot, Proposed { id, caller, payload });
                    }
                    None => self.refuse(now, caller, Refusal::Busy),
                }
            }
            Admin::Change { joins, leaves, .. } => {
                let Some(code) = admin.code() else {
                    return self.refuse(now, caller, Refusal::Unsafe);
                };
                let seat = |(id, address): (u8, SocketAddr)| Seat {
                    id: NodeId(id),
                    address,
                    incarnation: 0,
                };
                let change = Change { joins: joins.map(seat), leaves: leaves.map(NodeId), code };
                let begun = self.paxos.begin_change(now, change);
                self.answer_change(now, caller, begun);
            }
            Admin::CancelChange => {
                let begun = self.paxos.cancel_change(now);
                self.answer_change(now, caller, begun);
            }
            Admin::Transfer { to } => {
                if self.paxos.transfer(now, *to) {
                    self.reply(now, caller, self.state.applied(), Outcome::Done);
                } else {
                    self.refuse(now, caller, Refusal::Unavailable);
                }
            }
        }
    }

    /// A change of the members was asked for.
    fn answer_change(&mut self, now: Instant, caller: Caller, begun: Begun) {
        let refusal = match begun {
            Begun::Proposed(id) => {
                let payload = Bytes::new();
                self.writes.proposed.insert(id.slot, Proposed { id, caller, payload });
                return;
            }
            Begun::Known => return self.reply(now, caller, self.state.applied(), Outcome::Done),
            Begun::NotYet => Refusal::Busy,
            Begun::Unsafe(_) | Begun::Refused(ChangeError::Unsafe(_)) => Refusal::Unsafe,
            Begun::Refused(ChangeError::UnderWay) => Refusal::ChangeUnderWay,
            Begun::Refused(ChangeError::IdUsed | ChangeError::AddressUsed) => Refusal::IdUsed,
            Begun::Refused(ChangeError::NotMember) => Refusal::NotMember,
        };
        self.refuse(now, caller, refusal);
    }

    /// Proposes what waited, as far as there is room.
    pub(super) fn propose_waiting(&mut self, now: Instant) {
        while let Some(waiting) = self.writes.waiting.front() {
            let value_bytes = value_bytes(&waiting.request.op);
            if !self.paxos.can_propose(value_bytes) {
                break;
            }
            if let Some(waiting) = self.writes.waiting.pop_front() {
                self.writes.waiting_bytes -= value_bytes;
                self.propose(now, waiting);
            }
        }
    }

    /// Executes what was chosen and answers whoever waits for it here.
    pub(super) fn apply_chosen(&mut self, now: Instant) {
        while let Some(meta) = self.paxos.poll_chosen() {
            let slot = meta.slot();
            let execution =
                self.state.apply(&meta).unwrap_or_else(|error| panic!("{slot}: {error}"));
            if let Some(superseded) = execution.and_then(|execution| execution.superseded) {
                self.cache.remove(superseded.version);
            }
            self.note_garbage(&meta, execution);
            self.answer_write(now, &meta, execution);
            if self.config.is_observed {
                self.executed.push_back(Executed { meta, execution });
            }
        }
    }

    fn answer_write(&mut self, now: Instant, meta: &ValueMeta, execution: Option<Execution>) {
        let Some(proposed) = self.writes.proposed.remove(&meta.slot()) else { return };
        self.stages.answered(now, meta.slot());
        self.writes.known.remove(&proposed.caller.name());
        // The slot went to another value, by another leader: the client asks again.
        if proposed.id != meta.id {
            return;
        }
        let Some(execution) = execution else {
            let outcome = Outcome::Written { version: meta.slot().0 };
            return self.reply(now, proposed.caller, meta.slot(), outcome);
        };
        if execution.slot == meta.slot() && meta.payload_bytes > 0 {
            self.cache.insert(meta.slot(), proposed.payload);
        }
        self.reply(now, proposed.caller, execution.slot, outcome_of(execution.applied));
    }

    /// Leadership is lost. What was proposed may yet be chosen: its callers hear nothing and ask
    /// again. What was not is refused.
    pub(super) fn drop_writes(&mut self, now: Instant) {
        let writes = std::mem::take(&mut self.writes);
        self.stages.clear();
        let leader = self.paxos.leader().map(|node| node.0);
        for waiting in writes.waiting {
            self.refuse(now, waiting.caller, Refusal::NotLeader { leader });
        }
    }

    /// Answers [`Output::Control`].
    pub fn handle_controlled(&mut self, now: Instant, caller: ControlCaller, answer: Vec<u8>) {
        let outcome = Outcome::Controlled { answer: answer.into() };
        self.reply(now, caller.0, self.state.applied(), outcome);
    }

    pub(super) fn refuse(&mut self, now: Instant, caller: Caller, refusal: Refusal) {
        let applied = self.state.applied();
        self.reply(now, caller, applied, Outcome::Refused(refusal));
    }

    pub(super) fn reply(&mut self, now: Instant, to: Caller, served_at: Slot, outcome: Outcome) {
        let Caller { address, session, sequence } = to;
        let response = Response { session, sequence, served_at, outcome };
        // A client whose queue is full does not read: it asks again when it does.
        if let Err(error) = self.transport.send(now, address, &response.encode()) {
            self.trace(|| format!("no answer to {address}: {error}"));
        }
    }
}

impl Writes {
    pub(super) fn check_invariants(&self, limits: &Limits) {
        assert!(self.waiting.len() <= limits.waiting_requests, "too many waiting requests");
        assert!(self.waiting_bytes <= limits.waiting_bytes, "waiting requests over their bytes");
        let bytes: usize = self.waiting.iter().map(|w| value_bytes(&w.request.op)).sum();
        assert_eq!(bytes, self.waiting_bytes, "bytes of waiting requests");
        for (slot, proposed) in &self.proposed {
            assert_eq!(*slot, proposed.id.slot, "misfiled write");
        }
        for slot in self.known.values().flatten() {
            assert!(self.proposed.contains_key(slot), "{slot} is known and not proposed");
        }
    }
}

fn value_bytes(op: &Op) -> usize {
    match op {
        Op::Put { value, .. } | Op::CompareAndSet { value, .. } => value.len(),
        Op::OpenSession
        | Op::Get { .. }
        | Op::Delete { .. }
        | Op::Scan { .. }
        | Op::Status
        | Op::Admin(_)
        | Op::Control { .. } => 0,
    }
}

fn outcome_of(applied: Applied) -> Outcome {
    match applied {
        Applied::SessionOpened { session } => Outcome::SessionOpened { session },
        Applied::Written { version } => Outcome::Written { version },
        Applied::NotFound => Outcome::NotFound,
        Applied::Mismatch { current } => Outcome::Mismatch { current },
        Applied::SessionUnknown => Outcome::Refused(Refusal::SessionUnknown),
        Applied::Stale => Outcome::Refused(Refusal::Stale),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Read;
    use crate::replica::testing::{address, leader_alone, set_limits};

    #[test]
    fn writes_that_wait_are_bounded_in_number_and_bytes() {
        let (now, mut replica) = leader_alone();
        set_limits(&mut replica, |limits| {
            (limits.waiting_requests, limits.waiting_bytes) = (10, 5000);
        });
        let mut sequence = 0;
        // Nothing is ever persisted, so that the window fills and stays full.
        let mut put = |replica: &mut Replica, bytes: usize| {
            sequence += 1;
            let op =
                Op::Put { key: Bytes::from_static(b"key"), value: Bytes::from(vec![7; bytes]) };
            let request =
                Request { session: 1, sequence, answered_below: 0, read: Read::default(), op };
            replica.handle_request(now, address(9), request);
            replica.writes.check_invariants(&replica.config.cluster.limits);
            replica.writes.waiting.len()
        };
        while put(&mut replica, 1) == 0 {}
        let waiting: Vec<usize> = (0..12).map(|_| put(&mut replica, 1)).collect();
        assert_eq!(waiting, [2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10]);
        assert_eq!(replica.writes.known.len(), replica.writes.proposed.len() + 10);

        set_limits(&mut replica, |limits| limits.waiting_requests = 100);
        let waiting: Vec<usize> = [3000, 3000, 1500].map(|bytes| put(&mut replica, bytes)).into();
        assert_eq!(waiting, [11, 11, 12], "the second is over the bytes");
    }

    #[test]
    fn a_scan_may_begin_behind_the_longest_key() {
        // An export goes on behind the last key of a page: after the longest key that is a byte more.
        let (_, replica) = leader_alone();
        let longest = replica.config.cluster.limits.key_bytes;
        let refusal = |op: Op| {
            let (read, sequence) = (Read::default(), 1);
            replica.refusal(&Request { session: 1, sequence, answered_below: 0, read, op })
        };
        let key = |bytes: usize| Bytes::from(vec![7; bytes]);
        let scan = |bytes: usize| refusal(Op::Scan { start: key(bytes), limit: 1 });
        let put = |bytes: usize| refusal(Op::Put { key: key(bytes), value: Bytes::new() });
        assert_eq!([put(longest), scan(longest), scan(longest + 1)], [None; 3]);
        assert_eq!([put(longest + 1), scan(longest + 2)], [Some(Refusal::KeyBound); 2]);
    }

    #[test]
    fn a_session_that_is_asked_for_again_is_opened_once() {
        let (now, mut replica) = leader_alone();
        let mut open = |sequence: u64, from: u8| {
            let (read, op) = (Read::default(), Op::OpenSession);
            let request = Request { session: 0, sequence, answered_below: 0, read, op };
            replica.handle_request(now, address(from), request);
            replica.writes.proposed.len() + replica.writes.waiting.len()
        };
        // Nothing is persisted, so that each attempt comes while the first is under way.
        let before = open(7, 9);
        assert_eq!(
            [open(7, 9), open(7, 9), open(8, 9), open(7, 8)].map(|count| count - before),
            [0, 0, 1, 2]
        );
    }
}
