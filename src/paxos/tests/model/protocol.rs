//! The model: what can happen in a state, what comes of it, and what must hold.
//!
//! Every message that was sent may arrive at any time, any number of times, or never. So there is no
//! network in the state: an Accept can arrive while its ballot is led, a commit once it was sent.

use super::acceptor;
use super::rules::{Oracle, Outcome, Said, counts_as_chosen};
use super::setup::{BYTES, Broken, Growth, K, SLOT, Setup, UNKNOWN};
use super::state::{
    APPLIED, BALLOTS_MAX, BLIND, Column, FAULTY, HOME, IDS, KNOWN, Kept, NODES_MAX, NOTHING, OVER,
    REST, State, UNDECIDED,
};
use stateright::{Model, Property};

/// One step. Nodes are named by their place in the state that it is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node promises a ballot; its leader may decide with that promise as the last one.
    Promise { node: usize, ballot: u8, decision: Option<Choice> },
    /// An Accept arrives, with the node's home or with what makes it a full copy.
    Accept { node: usize, ballot: u8, is_growth: bool },
    /// A leader learns from a node that the slot is applied there.
    Stale { node: usize, ballot: u8 },
    /// A commit arrives.
    Commit { node: usize, ballot: u8 },
    /// The slots before it are applied.
    Apply { node: usize },
    /// The node gathers the value from those that have applied it.
    Gather { node: usize },
    /// A record is damaged; the node restarts and finds it.
    Damage { node: usize, kind: u8 },
    /// What the node did becomes durable and is answered.
    Sync { node: usize, decision: Option<Choice> },
    /// The node restarts with what is durable.
    Crash { node: usize },
    /// Rule 9 broken: a leader restarts and uses its ballot again.
    Reuse { ballot: u8 },
}

/// What a leader decides, and whether damaged promises were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Choice {
    pub outcome: Outcome,
    pub has_excluded: bool,
}

/// Branches that a run has taken, as bits of `State::seen`.
pub const MIXED: u16 = 1;
pub const NO_OP: u16 = 1 << 1;
pub const COPIED: u16 = 1 << 2;
pub const EXCLUDED: u16 = 1 << 3;
pub const LED_APPLIED: u16 = 1 << 4;
pub const GATHERED: u16 = 1 << 5;
pub const GROWN: u16 = 1 << 6;
pub const RE_CHOSEN: u16 = 1 << 7;

pub const AGREEMENT: &str = "at most one value is chosen";
pub const RECOVERY: &str = "every full Q1 recovers what is chosen";
pub const ONE_PROPOSAL: &str = "a ballot proposes one value id";
pub const APPLIED_IS_CHOSEN: &str = "what is applied is chosen";

pub struct Protocol {
    pub setup: Setup,
    oracle: Oracle,
}

impl Protocol {
    pub fn new(setup: Setup) -> Self {
        Self { setup, oracle: Oracle::new() }
    }

    fn promises(&self, state: &State, ballot: u8) -> Said {
        state.columns.map(|column| column.promises[usize::from(ballot - 1)])
    }

    /// What the leader of `ballot` may decide when the promise of `node` comes last.
    fn choices(&self, state: &State, node: usize, ballot: u8) -> Vec<Choice> {
        let all = self.promises(state, ballot);
        let mut choices = Vec::new();
        for set in 0_u32..1 << self.setup.nodes {
            let has_all = (0..NODES_MAX).all(|rank| set & 1 << rank == 0 || all[rank] != 0);
            if set & 1 << node == 0 || !has_all {
                continue;
            }
            let said: Said =
                std::array::from_fn(|rank| if set & 1 << rank == 0 { 0 } else { all[rank] });
            let outcome = self.oracle.decide(&self.setup, ballot, said);
            let is_damaged = |said: &u16| Kept::of_said(*said).has(FAULTY | BLIND);
            let has_excluded = said.iter().any(is_damaged);
            let choice = Choice { outcome, has_excluded };
            if outcome != Outcome::Wait && !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        choices
    }

    /// Pushes a step without a decision and with each possible one.
    fn push_with_choices(
        &self,
        (before, after, node, ballot): (&State, &State, usize, u8),
        actions: &mut Vec<Action>,
        step: impl Fn(Option<Choice>) -> Action,
    ) {
        actions.push(step(None));
        let led = before.term(ballot).led;
        if led == UNDECIDED || self.setup.breaks(Broken::DecidesAgain) && IDS.contains(&led) {
            let choices = self.choices(after, node, ballot);
            actions.extend(choices.into_iter().map(|choice| step(Some(choice))));
        }
    }

    fn can_promise(&self, state: &State, node: usize, ballot: u8) -> bool {
        let (column, term) = (&state.columns[node], state.term(ballot));
        let is_open = term.led == UNDECIDED
            || self.setup.breaks(Broken::DecidesAgain) && IDS.contains(&term.led);
        let is_new = ballot > column.mem.promised
            || term.is_reused
                && ballot == column.mem.promised
                && column.promises[usize::from(ballot - 1)] == 0;
        is_open && is_new
    }

    /// A promise leaves the node.
    fn give_promise(&self, state: &mut State, node: usize, ballot: u8) {
        let column = &mut state.columns[node];
        column.promises[usize::from(ballot - 1)] = column.mem.said();
    }

    fn promise(&self, state: &State, node: usize, ballot: u8) -> State {
        let mut next = *state;
        next.columns[node].mem.promised = ballot;
        if self.setup.has_disk() && !self.setup.breaks(Broken::PromisesEarly) {
            next.columns[node].held_promise = ballot;
        } else {
            self.give_promise(&mut next, node, ballot);
        }
        next
    }

    fn lead(&self, state: &mut State, ballot: u8, choice: Choice) {
        let at = usize::from(ballot - 1);
        let term = *state.term(ballot);
        let fresh = ballot + if term.is_reused { u8::try_from(BALLOTS_MAX).unwrap() } else { 0 };
        let led = match choice.outcome {
            Outcome::Wait => panic!("nothing was decided"),
            Outcome::Applied => NOTHING,
            Outcome::Fresh => fresh,
            Outcome::NoOp => {
                state.seen |= NO_OP;
                fresh
            }
            Outcome::Value { id, is_mixed } => {
                state.seen |= if is_mixed { MIXED } else { 0 };
                if self.setup.breaks(Broken::RenamesValue) && id != fresh {
                    state.contents[at] = state.content(id);
                    fresh
                } else {
                    id
                }
            }
        };
        state.seen |= if led == NOTHING { LED_APPLIED } else { 0 };
        state.seen |= if choice.has_excluded { EXCLUDED } else { 0 };
        if term.led != UNDECIDED && term.led != led {
            state.is_double = true;
            state.columns.iter_mut().for_each(|column| column.acks[at] = 0);
        }
        state.is_double |= IDS.contains(&led) && usize::from(led) > BALLOTS_MAX;
        let term = state.term_mut(ballot);
        (term.led, term.is_committed) = (led, led == NOTHING);
    }

    /// A leader hears of shards of its value.
    fn acknowledge(&self, state: &mut State, node: usize, ballot: u8, held: u8) {
        let term = *state.term(ballot);
        if term.is_committed || !IDS.contains(&term.led) {
            return;
        }
        let acks = &mut state.columns[node].acks[usize::from(ballot - 1)];
        let is_grown = *acks != 0 && *acks | held != *acks;
        *acks |= held;
        state.seen |= if is_grown { GROWN } else { 0 };
        if !counts_as_chosen(&self.setup, state, ballot) {
            return;
        }
        let copies = state.columns.iter().enumerate().any(|(rank, column)| {
            let held = self.setup.shards(rank, column.acks[usize::from(ballot - 1)]);
            held.count() >= u32::from(K)
        });
        state.seen |= if copies { COPIED } else { 0 };
        state.seen |= if term.led == ballot { 0 } else { RE_CHOSEN };
        state.chosen |= 1 << state.content(term.led);
        state.term_mut(ballot).is_committed = true;
    }

    fn accept(&self, state: &mut State, node: usize, ballot: u8, is_growth: bool) {
        let at = usize::from(ballot - 1);
        let column = &mut state.columns[node];
        let sent = if is_growth { (HOME | REST) & !column.acks[at] } else { HOME };
        let id = state.terms[at].led;
        let held = acceptor::accept(&self.setup, node, &mut column.mem, ballot, id, sent);
        if self.setup.has_disk() && !self.setup.breaks(Broken::AcknowledgesEarly) {
            column.held_acks[at] |= held;
        } else {
            self.acknowledge(state, node, ballot, held);
        }
    }

    fn sync(&self, state: &State, node: usize) -> State {
        let mut next = *state;
        let column = &mut next.columns[node];
        column.disk = column.mem;
        let held = std::mem::take(&mut column.held_acks);
        let promise = std::mem::take(&mut column.held_promise);
        for (ballot, held) in (1_u8..).zip(held).filter(|(_, held)| *held != 0) {
            self.acknowledge(&mut next, node, ballot, held);
        }
        // A promise that a higher one has overtaken is not answered.
        if promise != 0 && promise == next.columns[node].mem.promised {
            self.give_promise(&mut next, node, promise);
        }
        next
    }

    fn sources(&self, state: &State, node: usize) -> Vec<(usize, Column)> {
        let columns = state.columns.iter().copied().enumerate();
        columns.filter(|(rank, column)| *rank != node && column.mem.has(APPLIED)).collect()
    }

    fn node_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let (setup, column) = (&self.setup, &state.columns[node]);
        let mem = column.mem;
        for ballot in 1..=setup.ballots {
            let term = state.term(ballot);
            if self.can_promise(state, node, ballot) {
                let after = self.promise(state, node, ballot);
                let is_given = after.columns[node].promises != column.promises;
                let step = |decision| Action::Promise { node, ballot, decision };
                if is_given {
                    self.push_with_choices((state, &after, node, ballot), actions, step);
                } else {
                    actions.push(step(None));
                }
            }
            if mem.promised > ballot {
                continue;
            }
            let is_led = IDS.contains(&term.led);
            // An id used twice: another value of the same id is refused.
            let is_refused = term.is_reused && mem.at == ballot && mem.id != term.led;
            if is_led && !mem.has(APPLIED) && !is_refused {
                actions.push(Action::Accept { node, ballot, is_growth: false });
                if setup.growth != Growth::Never {
                    actions.push(Action::Accept { node, ballot, is_growth: true });
                }
            }
            if !setup.has_commits {
                continue;
            }
            if mem.has(APPLIED) {
                // Rule 10: another value may be chosen than the one that this ballot proposes.
                let is_same = mem.id == term.led || setup.breaks(Broken::TrustsApplied);
                if is_led && !term.is_committed && is_same {
                    actions.push(Action::Stale { node, ballot });
                }
                continue;
            }
            let is_any = setup.breaks(Broken::CommitsAnyBallot);
            let is_covered = if is_any { mem.at != 0 } else { mem.at == ballot };
            if term.is_committed && is_covered && (is_led || term.led == NOTHING) {
                actions.push(Action::Commit { node, ballot });
            }
        }
        if mem.has(KNOWN) && setup.has_gaps {
            actions.push(Action::Apply { node });
        }
        if setup.has_commits && !mem.has(APPLIED) && mem.promised != 0 {
            actions.push(Action::Gather { node });
        }
        if state.damages < setup.damages {
            for kind in [SLOT, UNKNOWN, BYTES].into_iter().filter(|kind| setup.damage & kind != 0) {
                actions.push(Action::Damage { node, kind });
            }
        }
        if setup.has_disk() && is_unsynced(column) {
            let after = self.sync(state, node);
            let ballot = mem.promised;
            let step = |decision| Action::Sync { node, decision };
            if after.columns[node].promises != column.promises {
                self.push_with_choices((state, &after, node, ballot), actions, step);
            } else {
                actions.push(step(None));
            }
            if state.crashes < setup.crashes {
                actions.push(Action::Crash { node });
            }
        }
    }

    /// The state after `action`, before it is brought to its canonical form.
    fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Promise { node, ballot, decision } => {
                next = self.promise(state, node, ballot);
                if let Some(choice) = decision {
                    self.lead(&mut next, ballot, choice);
                }
            }
            Action::Accept { node, ballot, is_growth } => {
                self.accept(&mut next, node, ballot, is_growth);
            }
            Action::Stale { node, ballot } => {
                next.columns[node].mem.promised = ballot;
                next.term_mut(ballot).is_committed = true;
                next.chosen |= 1 << state.content(state.term(ballot).led);
            }
            Action::Commit { node, ballot } => {
                next.columns[node].mem.promised = ballot;
                acceptor::learn(&self.setup, &mut next.columns[node].mem);
            }
            Action::Apply { node } => acceptor::apply(&mut next.columns[node].mem),
            Action::Gather { node } => {
                let sources = self.sources(state, node);
                let mem = &mut next.columns[node].mem;
                let is_kept = acceptor::gather(&self.setup, mem, &sources)?;
                next.seen |= if is_kept { GATHERED } else { 0 };
            }
            Action::Damage { node, kind } => {
                let column = &mut next.columns[node];
                column.disk = acceptor::damaged(&self.setup, column.disk, kind)?;
                restart(column);
                next.damages += 1;
            }
            Action::Sync { node, decision } => {
                next = self.sync(state, node);
                if let Some(choice) = decision {
                    self.lead(&mut next, state.columns[node].mem.promised, choice);
                }
            }
            Action::Crash { node } => {
                restart(&mut next.columns[node]);
                next.crashes += 1;
            }
            Action::Reuse { ballot } => {
                let at = usize::from(ballot - 1);
                let term = next.term_mut(ballot);
                (term.led, term.is_committed, term.is_reused) = (UNDECIDED, false, true);
                // Acknowledgements name ids: those of the first value count for the second one.
                next.columns.iter_mut().for_each(|column| column.promises[at] = 0);
            }
        }
        if !self.setup.has_disk() {
            next.columns.iter_mut().for_each(|column| column.disk = column.mem);
        }
        Some(next)
    }

    /// Forgets what can have no effect any more, and orders like nodes.
    fn canonical(&self, state: &mut State) {
        // With these broken, what is over may begin again.
        let keeps_all = matches!(
            self.setup.broken,
            Broken::DecidesAgain | Broken::ReusesBallot | Broken::KeepsLostIdentity
        );
        for ballot in (1..=self.setup.ballots).filter(|_| !keeps_all) {
            let at = usize::from(ballot - 1);
            let nodes = &state.columns[self.setup.ranks()];
            let floor = |column: &Column| column.mem.promised.min(column.disk.promised);
            let may_decide = nodes.iter().any(|c| floor(c) < ballot || c.held_promise == ballot);
            let may_accept = nodes.iter().any(|c| floor(c) <= ballot || c.held_acks[at] != 0);
            let term = &mut state.terms[at];
            if term.led == UNDECIDED && !may_decide || term.led != UNDECIDED && !may_accept {
                (term.led, term.is_committed) = (OVER, false);
            }
            let is_led = IDS.contains(&term.led);
            let (has_promises, has_acks) = (term.led == UNDECIDED, is_led && !term.is_committed);
            for column in &mut state.columns {
                column.promises[at] *= u16::from(has_promises);
                column.acks[at] *= u8::from(has_acks);
            }
        }
        for alike in self.setup.alike() {
            state.columns[alike].sort_unstable_by_key(Column::packed);
        }
    }

    /// Does every set of Q1 nodes or more lead to the value that is chosen?
    fn recovers(&self, state: &State) -> bool {
        if state.chosen.count_ones() != 1 {
            return true;
        }
        let content = u8::try_from(state.chosen.trailing_zeros()).unwrap();
        // Damage, and the slot's larger quorum, may make a leader wait.
        let may_wait = state.damages > 0 || self.setup.old_epoch.is_some();
        (0_u32..1 << self.setup.nodes)
            .filter(|set| set.count_ones() >= u32::from(self.setup.prepare))
            .all(|set| {
                let said = std::array::from_fn(|rank| {
                    if set & 1 << rank == 0 { 0 } else { state.columns[rank].disk.said() }
                });
                match self.oracle.decide(&self.setup, self.setup.ballots, said) {
                    Outcome::Wait => may_wait,
                    Outcome::Applied => true,
                    Outcome::Value { id, .. } => state.content(id) == content,
                    Outcome::Fresh | Outcome::NoOp => false,
                }
            })
    }
}

fn is_unsynced(column: &Column) -> bool {
    column.disk != column.mem
        || column.held_promise != 0
        || column.held_acks.iter().any(|a| *a != 0)
}

/// A node starts anew with what its disk has.
fn restart(column: &mut Column) {
    column.disk.flags &= !KNOWN;
    column.mem = column.disk;
    column.held_acks = [0; BALLOTS_MAX];
    column.held_promise = 0;
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for node in self.setup.ranks() {
            self.node_actions(state, node, actions);
        }
        if self.setup.breaks(Broken::ReusesBallot) {
            let is_led = |ballot: &u8| {
                let term = state.term(*ballot);
                IDS.contains(&term.led) && !term.is_reused
            };
            let ballots = (1..=self.setup.ballots).filter(is_led);
            actions.extend(ballots.map(|ballot| Action::Reuse { ballot }));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = self.step(state, action)?;
        self.canonical(&mut next);
        if !self.setup.has_history {
            next.seen = 0;
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(AGREEMENT, |_, state: &State| state.chosen.count_ones() <= 1),
            Property::always(RECOVERY, |model: &Self, state: &State| model.recovers(state)),
            Property::always(ONE_PROPOSAL, |_, state: &State| !state.is_double),
            Property::always(APPLIED_IS_CHOSEN, |_, state: &State| {
                let applied = state.columns.iter().filter(|column| column.mem.has(APPLIED));
                applied.into_iter().all(|c| state.chosen & 1 << state.content(c.mem.id) != 0)
            }),
        ];
        properties.extend(branches(&self.setup));
        properties
    }
}

/// Branches that a run with this setup must reach.
fn branches(setup: &Setup) -> Vec<Property<Protocol>> {
    if !setup.has_history {
        return Vec::new();
    }
    let (grows, commits) = (setup.growth != Growth::Never, setup.has_commits);
    let excludes = setup.damage & (SLOT | UNKNOWN) != 0 && setup.prepare < setup.nodes;
    let mut branches = vec![
        Property::sometimes("a no-op over a value that was not chosen", |_, s: &State| {
            s.seen & NO_OP != 0
        }),
        Property::sometimes("a value chosen at a later ballot", |_, s: &State| {
            s.seen & RE_CHOSEN != 0
        }),
    ];
    if setup.ballots > 2 {
        branches
            .push(Property::sometimes("shards of several ballots re-proposed", |_, s: &State| {
                s.seen & MIXED != 0
            }));
    }
    if grows {
        branches.push(Property::sometimes("chosen with full copies", |_, s: &State| {
            s.seen & COPIED != 0
        }));
        branches.push(Property::sometimes("shards grown inside a ballot", |_, s: &State| {
            s.seen & GROWN != 0
        }));
    }
    if commits {
        branches.push(Property::sometimes("a leader finds the slot applied", |_, s: &State| {
            s.seen & LED_APPLIED != 0
        }));
        branches.push(Property::sometimes("a node gathers the value", |_, s: &State| {
            s.seen & GATHERED != 0
        }));
    }
    if excludes {
        branches.push(Property::sometimes("damaged promises are left out", |_, s: &State| {
            s.seen & EXCLUDED != 0
        }));
    }
    branches
}
