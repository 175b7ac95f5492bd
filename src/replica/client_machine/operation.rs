//! One operation of a client: what is asked, the attempt in flight, and how it may end.

use crate::kv::{Op, Outcome, Refusal};
use crate::time::Instant;
use crate::transport::MessageId;
use crate::types::{ReadMode, Slot};

/// Names an operation; later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The end of an operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The session it was submitted for.
    pub session_index: usize,
    /// From its submission.
    pub token: Token,
    /// The slot at which it was served; zero when it was not.
    pub served_at: Slot,
    /// How it ended.
    pub outcome: ClientOutcome,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientOutcome {
    /// Answered.
    Done(Outcome),
    /// No answer: a write may have taken effect, or may yet.
    Unknown,
    /// Refused; it has not taken effect and never will.
    Failed(Refusal),
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In its session's queue.
    Queued,
    /// At a member.
    Sent { member: usize, message: MessageId, at: Instant },
    /// Until its timer, before the next attempt.
    Waiting,
}

impl Stage {
    /// The member that has it.
    pub(super) const fn member(self) -> Option<usize> {
        match self {
            Self::Sent { member, .. } => Some(member),
            Self::Queued | Self::Waiting => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) session: usize,
    pub(super) op: Op,
    pub(super) read_mode: ReadMode,
    /// Asked of this member only.
    pub(super) fixed_member: Option<usize>,
    deadline: Instant,
    /// Session id and sequence, once it has them.
    pub(super) request: Option<(u64, u64)>,
    pub(super) stage: Stage,
    pub(super) timer: Option<Instant>,
    /// An attempt was given up without a reply.
    pub(super) is_uncertain: bool,
    pub(super) last_refusal: Option<Refusal>,
    /// Waits so far, which lengthen the next one.
    pub(super) refusals: u32,
    pub(super) redirects: u32,
}

impl Operation {
    pub(super) fn new(
        session: usize,
        op: Op,
        fixed_member: Option<usize>,
        deadline: Instant,
    ) -> Self {
        Self {
            session,
            op,
            read_mode: ReadMode::default(),
            fixed_member,
            deadline,
            request: None,
            stage: Stage::Queued,
            timer: None,
            is_uncertain: false,
            last_refusal: None,
            refusals: 0,
            redirects: 0,
        }
    }

    /// Does it change the state? Then the cluster has to tell its repetition apart, by a session.
    pub(super) fn is_write(&self) -> bool {
        match &self.op {
            Op::Put { .. } | Op::Delete { .. } | Op::CompareAndSet { .. } => true,
            Op::OpenSession
            | Op::Get { .. }
            | Op::Scan { .. }
            | Op::Status
            | Op::Admin(_)
            | Op::Control { .. } => false,
        }
    }

    /// May it have changed anything, though nothing tells its repetition apart?
    fn has_effect(&self) -> bool {
        self.is_write() || matches!(self.op, Op::Admin(_) | Op::Control { .. })
    }

    /// Can any node answer it?
    pub(super) fn is_anywhere(&self) -> bool {
        self.read_mode == ReadMode::Eventual && matches!(self.op, Op::Get { .. } | Op::Scan { .. })
    }

    /// The machine's own request for a session?
    pub(super) fn is_open(&self) -> bool {
        self.op == Op::OpenSession
    }

    /// None for what lasts as long as something waits for it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.is_open()).then_some(self.deadline)
    }

    /// How it ends at its deadline.
    pub(super) fn outcome_without_answer(&self) -> ClientOutcome {
        match self.last_refusal {
            _ if self.is_uncertain && self.has_effect() => ClientOutcome::Unknown,
            Some(refusal) => ClientOutcome::Failed(refusal),
            None if self.is_write() => {
                // Never sent: no session could be opened.
                ClientOutcome::Failed(Refusal::NotLeader { leader: None })
            }
            None => ClientOutcome::Unknown,
        }
    }

    /// Is `outcome` an answer to what was asked?
    pub(super) fn is_answered_by(&self, outcome: &Outcome) -> bool {
        match &self.op {
            Op::OpenSession => matches!(outcome, Outcome::SessionOpened { .. }),
            Op::Get { .. } => matches!(outcome, Outcome::Value { .. } | Outcome::NotFound),
            Op::Put { .. } => matches!(outcome, Outcome::Written { .. }),
            Op::Delete { .. } => matches!(outcome, Outcome::Written { .. } | Outcome::NotFound),
            Op::CompareAndSet { .. } => {
                matches!(outcome, Outcome::Written { .. } | Outcome::Mismatch { .. })
            }
            Op::Scan { .. } => matches!(outcome, Outcome::Rows(_)),
            Op::Status => matches!(outcome, Outcome::Status(_)),
            Op::Admin(_) => matches!(outcome, Outcome::Done | Outcome::Written { .. }),
            Op::Control { .. } => matches!(outcome, Outcome::Controlled { .. }),
        }
    }

    pub(super) fn check_invariants(&self, token: Token) {
        let is_sent = matches!(self.stage, Stage::Sent { .. });
        assert!(!is_sent || self.request.is_some(), "{token:?} was sent without a name");
        let is_queued = self.stage == Stage::Queued;
        assert!(!is_queued || self.is_write(), "{token:?} waits for a session it does not need");
    }
}
