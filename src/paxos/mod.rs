//! Multi-Paxos over erasure-coded values, as a pure machine: acceptor, candidate, leader, learner.
//!
//! Values are opaque: a header that everybody gets, and a payload in shards. The machine speaks of
//! nodes by id and never of sockets or clients; who they are is a chosen entry of the log, too.
//!
//! Invariants: what a message says is durable before the message leaves (`effects`, rule 9); what
//! is chosen is decided in one place (`choice`); applied slots are contiguous.
//! Source: Lamport, Paxos Made Simple; RS-Paxos (HPDC'14); CRaft (FAST'20); DESIGN section 3.

mod acceptor;
mod catching_up;
mod choice;
mod closing;
mod coders;
mod effects;
mod election;
mod gather;
mod leader;
mod lease;
mod links;
mod membership;
mod message;
mod patience;
mod policy;
mod promise;
mod propose;
mod restore;
mod sending;
mod serving;
#[cfg(test)]
mod tests;

pub use choice::is_chosen;
pub use effects::Ticket;
pub use election::Reach;
pub use gather::Gathered;
pub use membership::{Begun, Standing};
pub use message::{Ack, Envelope, Message, Promise, PromiseEntry, ShardedValue, Want};

use crate::coding::Backend;
use crate::config::{ClusterConfig, Configuration, EpochConfig, Epochs, Limits, Quorums};
use crate::mutant::{Mutant, breaks};
use crate::rng::Rng;
use crate::storage::{Recovered, StoredValue};
use crate::time::Instant;
use crate::types::{Ballot, NodeId, NodeSet, Record, Slot, ValueMeta};
use acceptor::Acceptor;
use catching_up::CatchingUp;
use coders::Coders;
pub use coders::{CodingTimes, Stopwatch};
use effects::Effects;
use gather::Gather;
use leader::Leader;
use lease::Granted;
use promise::{Candidacy, PromiseJob};
use restore::Restoring;
use serving::{Owed, Serving};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the machine asks of its user.
#[derive(Debug)]
pub enum Output {
    /// Make these durable, then call [`Paxos::handle_persisted`].
    Persist {
        /// Names the batch.
        ticket: Ticket,
        /// In order, never empty.
        records: Vec<Record>,
    },
    /// Read a slot from the log, then call [`Paxos::handle_read`]. Reads are answered in order.
    Read {
        /// The slot.
        slot: Slot,
    },
    /// Read a part of the latest index snapshot from the log, then call
    /// [`Paxos::handle_index_read`]. Answered in order.
    ReadIndex {
        /// Of this slot.
        slot: Slot,
        /// The part, from 0.
        part: u32,
    },
    /// Send this to the node of that id.
    Send {
        /// Id of the receiver.
        to: u8,
        /// What to say.
        message: Message,
    },
    /// A line for a trace.
    Trace(String),
}

/// What a node is doing about leadership.
#[derive(Debug)]
enum Role {
    Follower,
    PreCandidate { ballot: Ballot, granted: crate::types::NodeSet },
    Candidate(Candidacy),
    Leader(Box<Leader>),
}

/// A role without its state, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes or promises.
    Candidate,
    /// Proposes.
    Leader,
}

/// What a leader knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its id.
    pub node: u8,
    /// Heard within the election timeout.
    pub is_alive: bool,
    /// It said that it applied up to here.
    pub applied: Slot,
    /// It said that it holds its shards of everything up to here durably.
    pub durable: Slot,
    /// Its disk is nearly full.
    pub is_low: bool,
}

/// What a read of the log is for.
#[derive(Clone, Copy, Debug)]
enum ReadPurpose {
    Promise { job: u64 },
    Gather,
    Serve,
}

/// The machine of one node.
#[derive(Debug)]
pub struct Paxos {
    config: Arc<ClusterConfig>,
    node: NodeId,
    /// `node` as messages and sets have it.
    own: u8,
    /// The newest configuration that another node told of: whom to ask, never who counts.
    heard: Option<Configuration>,
    /// The own first place, as another node told it that has applied the entry which gave it.
    told_place: Option<u8>,
    /// Data directories first met.
    incarnations: BTreeMap<NodeId, u64>,
    coders: Coders,
    rng: Rng,
    is_traced: bool,
    is_low: bool,
    repairing: membership::Repairing,

    acceptor: Acceptor,
    effects: Effects,
    role: Role,
    /// The leadership that this node follows, its own included.
    leader: Option<Ballot>,
    leader_heard: Option<Instant>,
    granted: Granted,
    election_at: Instant,
    /// The highest round seen in refusals.
    round_seen: u64,
    promise_job: Option<PromiseJob>,
    /// Started so far.
    promise_jobs: u64,
    /// What the latest of them answers.
    promised_attempt: (Ballot, u64),

    gathers: BTreeMap<Slot, Gather>,
    gathered: VecDeque<Gathered>,
    repaired: VecDeque<Slot>,
    restoring: Restoring,
    serving: VecDeque<Serving>,
    owed: Owed,
    /// Who let a request for shards wait, until it answers one.
    silent: NodeSet,
    /// Slots to ask for, by id.
    wants: BTreeMap<u8, Vec<Want>>,
    catching_up: CatchingUp,

    /// Reads given out and not answered, in order.
    reads: VecDeque<(Slot, ReadPurpose)>,
    outputs: VecDeque<Output>,
    rebuilt_count: u64,
    elections_won: u64,
    campaigns: u64,
    /// Pre-votes asked for since the start.
    pre_votes: u64,
    /// Campaigns of its own that ended without a leadership, since it last followed or led.
    vain_campaigns: u32,
}

impl Paxos {
    /// The node `node` with what its log recovered; one that `config` does not have is a newcomer.
    /// `base`: of its index snapshot, the slot and the epochs up to it; none to start from the
    /// cluster file.
    #[must_use]
    pub fn new(
        config: Arc<ClusterConfig>,
        node: NodeId,
        backend: Backend,
        (recovered, base): (Recovered, Option<(Slot, Epochs)>),
        now: Instant,
        seed: u64,
        is_traced: bool,
    ) -> Self {
        let chosen = recovered.chosen;
        let (base, epochs) =
            base.unwrap_or_else(|| (Slot::ZERO, Epochs::new(Configuration::first(&config))));
        let incarnations = recovered.peers.clone();
        let accept_ahead_slots = config.limits.accept_ahead_slots;
        let acceptor = Acceptor::new(recovered, accept_ahead_slots, (base, epochs));
        // A record of what was applied may be gone: it counts as held once it is durable again.
        let marked = match chosen.min(acceptor.applied) {
            applied if applied < chosen && breaks(Mutant::CountsLost) => chosen,
            applied => applied,
        };
        let mut paxos = Self {
            node,
            own: node.0,
            heard: None,
            told_place: None,
            incarnations,
            coders: Coders::new(backend),
            rng: Rng::new(seed),
            is_traced,
            is_low: false,
            repairing: membership::Repairing::No,
            acceptor,
            effects: Effects::new(marked),
            role: Role::Follower,
            leader: None,
            leader_heard: None,
            granted: Granted::at_start(now, config.timing.lease()),
            election_at: now,
            round_seen: 0,
            promise_job: None,
            promise_jobs: 0,
            promised_attempt: (Ballot::ZERO, 0),
            gathers: BTreeMap::new(),
            gathered: VecDeque::new(),
            repaired: VecDeque::new(),
            restoring: Restoring::new(base),
            serving: VecDeque::new(),
            owed: Owed::new(),
            silent: NodeSet::EMPTY,
            wants: BTreeMap::new(),
            catching_up: CatchingUp::new(now),
            reads: VecDeque::new(),
            outputs: VecDeque::new(),
            rebuilt_count: 0,
            elections_won: 0,
            campaigns: 0,
            pre_votes: 0,
            vain_campaigns: 0,
            config,
        };
        paxos.reset_election(now);
        // Everybody meets everybody at once: a data directory that is lost later is then refused
        // by all, not only by those who had something to say to it (rule 12).
        paxos.probe();
        paxos
    }

    /// Takes in a message of the node `from`.
    pub fn handle_message(&mut self, now: Instant, from: u8, message: Message) {
        if from == self.own || !self.is_heard(from, &message) {
            return;
        }
        match message {
            Message::PreVote { ballot, number } => {
                self.handle_pre_vote(now, from, ballot, number);
            }
            Message::PreVoteReply { ballot: _, number, is_granted, promised } => {
                self.handle_pre_vote_reply(now, from, number, is_granted, promised);
            }
            Message::Prepare { ballot, attempt, released } => {
                self.handle_prepare(now, from, ballot, attempt, released);
            }
            Message::Promise(promise) => {
                if matches!(self.role, Role::Candidate(_)) {
                    self.reset_election(now);
                }
                self.handle_promise(now, from, promise);
            }
            Message::Accept { ballot, commit, entries } => {
                self.handle_accept(now, from, ballot, commit, entries);
            }
            Message::Accepted { ballot, applied, acks } => {
                self.handle_accepted(now, from, ballot, applied, &acks);
            }
            Message::TakeOver { ballot } => self.handle_take_over(now, from, ballot),
            Message::Nack { promised } => self.handle_nack(now, promised),
            Message::Heartbeat { ballot, sequence, commit } => {
                self.handle_heartbeat(now, from, ballot, sequence, commit);
            }
            Message::HeartbeatReply { ballot, sequence, applied, durable, is_low } => {
                let said = (applied, durable, is_low);
                self.handle_heartbeat_reply(now, from, ballot, sequence, said);
            }
            Message::Probe { epoch, applied } => self.handle_probe(from, epoch, applied),
            Message::Members { applied, configuration, first_place } => {
                self.handle_members(now, applied, configuration, first_place);
            }
            // The replica's: it knows whose data directory is meant.
            Message::Refused { .. } => {}
            Message::Fetch { wants } => self.handle_fetch(now, from, wants),
            Message::Shards { applied, floor, missing, entries } => {
                self.handle_shards(now, from, (applied, floor), &missing, entries);
            }
            Message::FetchIndex { slot, part } => self.handle_fetch_index(now, from, slot, part),
            Message::IndexPart { slot, part, parts, bytes } => {
                self.handle_index_part(now, from, (slot, part, parts), bytes);
            }
        }
    }

    /// Everything up to `ticket` is durable.
    pub fn handle_persisted(&mut self, now: Instant, ticket: Ticket) {
        self.effects.handle_persisted(ticket);
        self.release_durable(now);
    }

    /// The answer to the oldest unanswered [`Output::Read`].
    pub fn handle_read(&mut self, now: Instant, slot: Slot, stored: Option<StoredValue>) {
        let Some((asked, purpose)) = self.reads.pop_front() else { return };
        assert_eq!(asked, slot, "reads are answered in order");
        let stored = stored.filter(|stored| stored.meta.slot() == slot);
        match purpose {
            ReadPurpose::Promise { job } => self.continue_promise(now, job, slot, stored),
            ReadPurpose::Gather => self.continue_gather(now, slot, stored),
            ReadPurpose::Serve => self.continue_serving(slot, stored),
        }
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.tick_leader(now);
        self.tick_election(now);
        self.tick_patience(now);
        self.tick_gather(now);
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let role = self.leader_timeout().unwrap_or(self.election_at);
        let is_gathering = !self.gathers.is_empty()
            || self.acceptor.commit > self.acceptor.applied
            || self.is_restoring();
        let gathers = is_gathering.then_some(self.catching_up.at);
        let others = [gathers, self.patience_timeout()];
        others.into_iter().flatten().fold(role, Instant::min)
    }

    /// The next thing to do. Messages come before records: followers work while this node syncs.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.pop_output() {
            return Some(output);
        }
        self.pass_barrier(now);
        self.advance_transfer(now);
        self.advance_change(now);
        // Held effects without a record to wait for may go now.
        self.release_durable(now);
        self.flush_leader(now);
        self.serve_owed(now);
        self.flush_gathers();
        if let Some((to, message)) = self.effects.ready.pop_front() {
            return Some(Output::Send { to, message });
        }
        if let Some(output) = self.pop_output() {
            return Some(output);
        }
        let (ticket, records) = self.effects.take_batch(self.acceptor.applied)?;
        Some(Output::Persist { ticket, records })
    }

    /// A read comes after the records of its slot: else the log would answer it from an older one,
    /// perhaps of another value.
    fn pop_output(&mut self) -> Option<Output> {
        if let Some(Output::Read { slot }) = self.outputs.front()
            && self.effects.is_unwritten(*slot)
            && let Some((ticket, records)) = self.effects.take_batch(self.acceptor.applied)
        {
            return Some(Output::Persist { ticket, records });
        }
        self.outputs.pop_front()
    }

    /// The next chosen value, in slot order: to be applied now.
    pub fn poll_chosen(&mut self) -> Option<ValueMeta> {
        self.acceptor.chosen.pop_front()
    }

    /// Makes a record durable that is not of the protocol's own (a peer's incarnation).
    pub fn persist(&mut self, record: Record) {
        self.effects.persist(record);
    }

    /// Free disk space is below the reserve: told to the leader.
    pub fn handle_space(&mut self, is_low: bool) {
        self.is_low = is_low;
    }

    /// Does a leader have too few nodes with space for new values?
    #[must_use]
    pub fn is_space_low(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                let is_low = |of: &leader::Peer| of.is_low || !of.is_alive;
                let low = leader.voters().filter(|(_, peer)| is_low(peer)).count();
                let low = u32::try_from(low).unwrap_or(u32::MAX);
                let quorums = leader.rules().quorums();
                self.is_low || quorums.nodes.saturating_sub(low) < quorums.working
            }
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => self.is_low,
        }
    }

    /// This node's role.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower => RoleName::Follower,
            Role::PreCandidate { .. } | Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The leader that this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader.map(Ballot::owner)
    }

    /// The configuration epoch in force: a leader's for what it proposes, else after what is applied.
    #[must_use]
    pub fn epoch(&self) -> EpochConfig {
        match &self.role {
            Role::Leader(leader) => *leader.rules(),
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => {
                *self.acceptor.rules()
            }
        }
    }

    /// The configuration epoch in force after what is applied.
    #[must_use]
    pub fn applied_epochs(&self) -> &Epochs {
        &self.acceptor.epochs
    }

    fn quorums(&self) -> Quorums {
        self.epoch().quorums()
    }

    /// The ballot promised.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.acceptor.promised
    }

    /// Every slot up to here is applied.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.acceptor.applied
    }

    /// Every slot up to here is known to be chosen.
    #[must_use]
    pub fn commit(&self) -> Slot {
        match &self.role {
            Role::Leader(leader) => leader.commit.max(self.acceptor.commit),
            Role::Follower | Role::PreCandidate { .. } | Role::Candidate(_) => self.acceptor.commit,
        }
    }

    /// The last slot with an accepted value.
    #[must_use]
    pub fn last(&self) -> Slot {
        let last = self.acceptor.entries.last_key_value().map(|(slot, _)| *slot);
        last.unwrap_or(self.acceptor.applied)
    }

    /// Values rebuilt from shards of others since the start.
    #[must_use]
    pub fn rebuilt_count(&self) -> u64 {
        self.rebuilt_count
    }

    /// Elections won since the start.
    #[must_use]
    pub fn elections_won(&self) -> u64 {
        self.elections_won
    }

    /// Campaigns started since the start: many more than elections won anywhere is a ballot race.
    #[must_use]
    pub fn campaigns(&self) -> u64 {
        self.campaigns
    }

    /// Panics when a relation between fields is broken.
    pub fn check_invariants(&self) {
        self.acceptor.check_invariants();
        self.effects.check_invariants();
        match &self.role {
            Role::Leader(leader) => {
                leader.check_invariants();
                assert_eq!(leader.ballot, self.acceptor.promised, "leads below its promise");
            }
            Role::Candidate(candidacy) => {
                assert_eq!(candidacy.ballot, self.acceptor.promised, "campaigns below its promise");
            }
            Role::Follower | Role::PreCandidate { .. } => {}
        }
        assert!(self.serving.len() <= 2 * self.limits().gathers, "too many requests for shards");
        assert!(self.owed.len() <= self.owed_max(), "too many requests for what is not applied");
        let (most, others) = (self.limits().gathers, self.gathers_for_applied());
        assert!(others <= most, "too many gathers for reads and repairs");
        assert!(self.gathers.len() - others <= most, "too many gathers of missed slots");
    }

    fn limits(&self) -> &Limits {
        &self.config.limits
    }

    fn send(&mut self, to: u8, message: Message) {
        assert!(to != self.own, "a node does not send to itself");
        self.effects.ready.push_back((to, message));
    }

    fn broadcast(&mut self, message: &Message) {
        for to in self.voters_and_newcomer() {
            self.effects.ready.push_back((to, message.clone()));
        }
    }

    fn read(&mut self, slot: Slot, purpose: ReadPurpose) {
        self.reads.push_back((slot, purpose));
        self.outputs.push_back(Output::Read { slot });
    }
}
