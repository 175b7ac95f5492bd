//! What can happen in a state, what comes of it, and what must hold.
//!
//! Every message that was sent may arrive at any time, any number of times, or never: there is no
//! network in the state. Leaders are no nodes.

use super::rules::{Found, Outcome, Rules, Said};
use super::setup::{Broken, Setup};
use super::state::{
    Accepted, BALLOTS_MAX, CLOSING, Column, Kept, NEW, NODES, Phase, State, Term, bit,
};
use stateright::{Model, Property};
use std::sync::atomic::{AtomicU64, Ordering};

/// One step. Nodes are named by their place in the state that it is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node promises a ballot; its leader may decide with that promise as the last one.
    Promise { node: usize, ballot: u8, choice: Option<Choice> },
    /// An Accept arrives for the slot that may end the change.
    AcceptEnd { node: usize, ballot: u8 },
    /// An Accept arrives for the slot behind it.
    AcceptNext { node: usize, ballot: u8 },
    /// A commit of `end` arrives, and covers what the node has accepted there.
    Commit { node: usize, ballot: u8 },
    /// A leader learns that what it proposes in `end` is applied somewhere.
    Learn { ballot: u8 },
    /// The node takes `end` from one that has applied it.
    Gather { node: usize, from: usize },
}

/// What a leader proposes, and by whom `next` is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub end: u8,
    pub next: u8,
    pub is_new: bool,
    /// The closing entry of an earlier ballot, or another value over it.
    pub found: Found,
}

/// How often something happened in a run, on whatever way.
#[derive(Debug, Default)]
pub struct Reached {
    /// The closing entry was chosen.
    pub closed: AtomicU64,
    /// The same, where the real rule would not have said so.
    pub closed_early: AtomicU64,
    /// A value was chosen behind it, among the new members.
    pub chosen_behind: AtomicU64,
    /// A later ballot proposed the closing entry again.
    pub re_proposed: AtomicU64,
    /// A later ballot proposed something else although a node had accepted the closing entry.
    pub replaced: AtomicU64,
}

pub const END: &str = "at most one value is chosen in the slot of the closing entry";
pub const NEXT: &str = "at most one value is chosen behind it";
pub const RECOVERY: &str = "every prepare quorum recovers what is chosen";
pub const APPLIED: &str = "what is applied is chosen";

pub struct Protocol {
    pub setup: Setup,
    rules: Rules,
    pub reached: std::sync::Arc<Reached>,
}

impl Protocol {
    pub fn new(setup: Setup) -> Self {
        Self { setup, rules: Rules::new(&setup), reached: std::sync::Arc::default() }
    }

    /// What the leader of `ballot` may propose when the promise of `node` comes last.
    fn choices(&self, state: &State, node: usize, ballot: u8) -> Vec<Choice> {
        let all = state.columns.map(|column| column.promises[usize::from(ballot - 1)]);
        let mut choices = Vec::new();
        for set in 1_u32..1 << self.setup.nodes().len() {
            let has_all = (0..NODES).all(|other| set & 1 << other == 0 || all[other] != 0);
            if set & 1 << node == 0 || !has_all {
                continue;
            }
            let said: Said =
                std::array::from_fn(|other| if set & 1 << other == 0 { 0 } else { all[other] });
            let Some(outcome) = self.rules.decide(said) else { continue };
            for closes in [false, true] {
                let choice = self.choice(ballot, said, outcome, closes);
                choices.extend(choice.filter(|choice| !choices.contains(choice)));
            }
        }
        choices
    }

    /// `closes`: a free slot gets the closing entry. What that would change nothing is `None`.
    fn choice(&self, ballot: u8, said: Said, outcome: Outcome, closes: bool) -> Option<Choice> {
        let end = match outcome.end {
            Found::Free if closes => ballot | CLOSING,
            _ if closes => return None,
            Found::Applied => 0,
            // A leader closes a change when nothing that it recovered is left.
            Found::Free | Found::NoOp => ballot,
            Found::Value(id) => id,
            Found::Behind => panic!("{outcome:?}"),
        };
        // `Paxos::enter_configuration`: what follows is for others to decide.
        let is_cut = end & CLOSING != 0;
        let goes_on = is_cut && self.setup.breaks(Broken::IgnoresCut);
        let next = match outcome.next {
            _ if is_cut && !goes_on => Found::Behind,
            Found::Behind => self.rules.decide_behind(said),
            found @ (Found::Applied | Found::Free | Found::NoOp | Found::Value(_)) => found,
        };
        let is_new = outcome.is_new || goes_on;
        let next = match next {
            Found::Behind => 0,
            Found::Free | Found::NoOp => ballot | if is_new { NEW } else { 0 },
            Found::Value(id) => id,
            Found::Applied => panic!("{outcome:?}"),
        };
        let is_part = match ballot {
            1 => is_new,
            last if last == self.setup.ballots => is_cut,
            _ => !is_new && !is_cut,
        };
        let choice = Choice { end, next, is_new, found: outcome.end };
        (is_part || !self.setup.has_parts).then_some(choice)
    }

    fn lead(&self, state: &mut State, ballot: u8, choice: Choice) {
        let Choice { end, next, is_new, found } = choice;
        let is_known = state.columns.iter().any(|column| {
            let Kept { end, has_applied, .. } = column.kept;
            !has_applied && end.id & CLOSING != 0
        });
        if found == Found::Value(end) && end & CLOSING != 0 {
            count(&self.reached.re_proposed);
        } else if is_known && end != 0 && end & CLOSING == 0 {
            count(&self.reached.replaced);
        }
        let (phase, is_end_chosen) = (Phase::Leads, found == Found::Applied);
        *state.term_mut(ballot) =
            Term { phase, end, next, is_new, is_end_chosen, is_next_chosen: false };
    }

    fn accept_end(&self, state: &mut State, node: usize, ballot: u8) {
        let term = *state.term(ballot);
        let column = &mut state.columns[node];
        column.kept.promised = ballot;
        column.kept.end = Accepted { at: ballot, id: term.end };
        let who = (true, term.end & CLOSING != 0);
        if term.is_end_chosen || !self.rules.is_counted(node, who) {
            return;
        }
        column.end_acks |= bit(ballot);
        let acks = state.nodes(|column| column.end_acks & bit(ballot) != 0);
        if !self.rules.is_end_chosen(term.end, acks) {
            return;
        }
        if term.end & CLOSING != 0 {
            count(&self.reached.closed);
            if !self.rules.is_by_both(acks) {
                count(&self.reached.closed_early);
            }
        }
        state.end_chosen |= 1 << term.end;
        state.term_mut(ballot).is_end_chosen = true;
        self.commit_next(state, ballot);
    }

    fn accept_next(&self, state: &mut State, node: usize, ballot: u8) {
        let term = *state.term(ballot);
        let column = &mut state.columns[node];
        column.kept.promised = ballot;
        column.kept.next = Accepted { at: ballot, id: term.next };
        let who = (!term.is_new, term.is_new);
        if term.is_next_chosen || !self.rules.is_counted(node, who) {
            return;
        }
        column.next_acks |= bit(ballot);
        self.commit_next(state, ballot);
    }

    /// `Paxos::advance_commit`: what is acknowledged behind a slot counts once that one is chosen.
    fn commit_next(&self, state: &mut State, ballot: u8) {
        let term = *state.term(ballot);
        let acks = state.nodes(|column| column.next_acks & bit(ballot) != 0);
        if !term.is_end_chosen || !self.rules.is_next_chosen(term.is_new, acks) {
            return;
        }
        if term.is_new {
            count(&self.reached.chosen_behind);
        }
        state.next_chosen |= 1 << term.next;
        state.term_mut(ballot).is_next_chosen = true;
    }

    fn may_apply(&self, id: u8) -> bool {
        self.setup.applies_all || id & CLOSING != 0
    }

    /// Does anybody go by what this node says of `end`? A newcomer counts once that is applied.
    fn is_asked(&self, node: usize) -> bool {
        self.setup.breaks(Broken::CountsStrangers) || self.rules.is_counted(node, (true, false))
    }

    /// Who is sent what is proposed for `next`: `Configuration::seats`, all while the change is open.
    fn is_seated(&self, term: Term, node: usize) -> bool {
        let node = u8::try_from(node).unwrap();
        let of = if term.is_new { &self.rules.new } else { &self.rules.old };
        of.seats().any(|seat| seat.id.0 == node)
    }

    /// `Paxos::accept`: a value of an epoch that ended before its slot.
    fn is_refused(&self, kept: &Kept, next: u8) -> bool {
        let has_new = kept.next.at != 0 && kept.next.id & NEW != 0;
        let has_ended = has_new || kept.has_applied && kept.end.id & CLOSING != 0;
        has_ended && next & NEW == 0 && !self.setup.breaks(Broken::OldEpochOvertakes)
    }

    fn node_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let kept = state.columns[node].kept;
        for ballot in 1..=self.setup.ballots {
            let term = *state.term(ballot);
            if term.phase == Phase::Open && kept.promised < ballot {
                let after = promise(state, node, ballot);
                actions.push(Action::Promise { node, ballot, choice: None });
                let choices = self.choices(&after, node, ballot).into_iter().map(Some);
                actions.extend(choices.map(|choice| Action::Promise { node, ballot, choice }));
            }
            if term.phase != Phase::Leads || kept.promised > ballot {
                continue;
            }
            let is_of_use = self.is_asked(node) || self.may_apply(term.end);
            if term.end != 0 && !kept.has_applied && kept.end.at != ballot && is_of_use {
                actions.push(Action::AcceptEnd { node, ballot });
            }
            let is_cut = term.end & CLOSING != 0 && !term.is_end_chosen;
            let is_taken = self.is_seated(term, node) && !self.is_refused(&kept, term.next);
            if term.next != 0 && !is_cut && kept.next.at != ballot && is_taken {
                actions.push(Action::AcceptNext { node, ballot });
            }
            // Rule 10: it covers what was accepted at that ballot.
            let is_covered = !kept.has_applied && kept.end.at == ballot;
            if term.is_end_chosen && is_covered && self.may_apply(kept.end.id) {
                actions.push(Action::Commit { node, ballot });
            }
        }
        if !kept.has_applied {
            let others = state.columns.iter().enumerate();
            let mut sources: Vec<(u8, usize)> = others
                .filter(|(_, other)| other.kept.has_applied)
                .map(|(from, other)| (other.kept.end.id, from))
                .collect();
            sources.sort_unstable();
            sources.dedup_by_key(|(id, _)| *id);
            actions.extend(sources.iter().map(|(_, from)| Action::Gather { node, from: *from }));
        }
    }

    fn ballot_actions(&self, state: &State, ballot: u8, actions: &mut Vec<Action>) {
        let term = *state.term(ballot);
        let is_applied = |c: &Column| c.kept.has_applied && c.kept.end.id == term.end;
        let is_open = term.phase == Phase::Leads && term.end != 0 && !term.is_end_chosen;
        if is_open && state.columns.iter().any(is_applied) {
            actions.push(Action::Learn { ballot });
        }
    }

    /// Forgets what can have no effect any more, and orders like nodes.
    fn canonical(&self, state: &mut State) {
        for ballot in 1..=self.setup.ballots {
            let at = usize::from(ballot - 1);
            let term = *state.term(ballot);
            if term.phase == Phase::Open {
                let may = |c: &Column| c.promises[at] != 0 || c.kept.promised < ballot;
                if !self.rules.may_decide(state.nodes(may)) {
                    state.term_mut(ballot).phase = Phase::Over;
                }
            } else if term.phase == Phase::Leads {
                self.forget(state, ballot);
            }
            if state.term(ballot).phase != Phase::Open {
                state.columns.iter_mut().for_each(|column| column.promises[at] = 0);
            }
        }
        for node in self.setup.nodes().filter(|node| !self.is_asked(*node)) {
            self.forget_unasked(state, node);
        }
        self.lower_promises(state);
        let alike = &mut state.columns[self.setup.alike()];
        alike.sort_unstable_by_key(Column::packed);
    }

    /// What the newcomer says of `end` is of no use unless it has applied it, or may by a commit.
    fn forget_unasked(&self, state: &mut State, node: usize) {
        let column = &mut state.columns[node];
        for said in column.promises.iter_mut().filter(|said| **said != 0) {
            let mut kept = Kept::of_said(*said);
            if !kept.has_applied {
                kept.end = Accepted::default();
                *said = kept.said();
            }
        }
        let kept = &mut column.kept;
        let is_over = |at: u8| state.terms[usize::from(at - 1)].phase == Phase::Over;
        if kept.end.at != 0 && (kept.promised > kept.end.at || is_over(kept.end.at)) {
            kept.end = Accepted::default();
        }
    }

    /// A promise only forbids lower ballots: of those that are over it is all the same which.
    fn lower_promises(&self, state: &mut State) {
        let is_live = state.terms.map(|term| term.phase != Phase::Over);
        let is_live = |ballot: u8| is_live[usize::from(ballot - 1)];
        for column in &mut state.columns {
            let promised = column.kept.promised;
            if promised != 0 && !is_live(promised) {
                let below = (1..promised).rev().find(|ballot| is_live(*ballot));
                column.kept.promised = below.map_or(0, |ballot| ballot + 1);
            }
        }
    }

    /// Of a ballot that leads.
    fn forget(&self, state: &mut State, ballot: u8) {
        let mut term = *state.term(ballot);
        let may_end = |c: &Column| c.kept.promised <= ballot && !c.kept.has_applied;
        let end_acks = state.nodes(|c| c.end_acks & bit(ballot) != 0 || may_end(c));
        let may_next = |c: &Column| c.kept.promised <= ballot;
        let next_acks = state.nodes(|c| c.next_acks & bit(ballot) != 0 || may_next(c));
        let is_end_open = !term.is_end_chosen && self.rules.is_end_chosen(term.end, end_acks);
        // Behind the closing entry nothing happens before that is chosen, and nothing counts behind
        // a slot that this ballot cannot have chosen; `learn` may still tell it so.
        let can_learn = term.end != 0 && !term.is_end_chosen;
        let may_accept = |(node, c): (usize, &Column)| {
            may_next(c)
                && c.kept.next.at != ballot
                && self.is_seated(term, node)
                && !self.is_refused(&c.kept, term.next)
        };
        let is_next_sent = state.columns.iter().enumerate().any(may_accept);
        let is_next_open = !term.is_next_chosen
            && term.next != 0
            && self.rules.is_next_chosen(term.is_new, next_acks)
            && (term.is_end_chosen || can_learn);
        if !is_next_open && !is_next_sent {
            (term.next, term.is_next_chosen) = (0, false);
        }
        let is_gate = term.end & CLOSING != 0 && term.next != 0;
        if !state.columns.iter().any(may_end) && !is_next_open && !is_gate {
            (term.end, term.is_end_chosen) = (0, false);
        }
        if term.end == 0 && term.next == 0 {
            term = Term { phase: Phase::Over, ..Term::default() };
        }
        *state.term_mut(ballot) = term;
        for column in &mut state.columns {
            column.end_acks &= if is_end_open { u8::MAX } else { !bit(ballot) };
            column.next_acks &= if is_next_open { u8::MAX } else { !bit(ballot) };
        }
    }

    /// Would a leader that asks now, above all ballots, meet what is chosen?
    fn recovers(&self, state: &State) -> bool {
        if state.end_chosen.count_ones() > 1 || state.next_chosen.count_ones() > 1 {
            return true;
        }
        let is_chosen = |chosen: u16, id: u8| chosen == 0 || chosen == 1 << id;
        (1_u32..1 << self.setup.nodes().len()).all(|set| {
            let said = std::array::from_fn(|node| {
                if set & 1 << node == 0 { 0 } else { state.columns[node].kept.said() }
            });
            let Some(outcome) = self.rules.decide(said) else { return true };
            let is_met = |chosen: u16, found: Found| match found {
                Found::Applied | Found::Behind => true,
                Found::Value(id) => is_chosen(chosen, id),
                Found::Free | Found::NoOp => chosen == 0,
            };
            is_met(state.end_chosen, outcome.end) && is_met(state.next_chosen, outcome.next)
        })
    }
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}

fn promise(state: &State, node: usize, ballot: u8) -> State {
    let mut next = *state;
    let column = &mut next.columns[node];
    column.kept.promised = ballot;
    column.promises[usize::from(ballot - 1)] = column.kept.said();
    next
}

/// `Acceptor::apply_known`: what was accepted there is said no more.
fn apply(kept: &mut Kept, id: u8) {
    kept.end = Accepted { at: 0, id };
    kept.has_applied = true;
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State::default();
        // Ballots that a run does not have.
        for ballot in self.setup.ballots..u8::try_from(BALLOTS_MAX).unwrap() {
            state.term_mut(ballot + 1).phase = Phase::Over;
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for node in self.setup.nodes() {
            self.node_actions(state, node, actions);
        }
        for ballot in 1..=self.setup.ballots {
            self.ballot_actions(state, ballot, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Promise { node, ballot, choice } => {
                next = promise(state, node, ballot);
                if let Some(choice) = choice {
                    self.lead(&mut next, ballot, choice);
                }
            }
            Action::AcceptEnd { node, ballot } => self.accept_end(&mut next, node, ballot),
            Action::AcceptNext { node, ballot } => self.accept_next(&mut next, node, ballot),
            Action::Commit { node, ballot } => {
                let kept = &mut next.columns[node].kept;
                kept.promised = ballot;
                apply(kept, kept.end.id);
            }
            Action::Learn { ballot } => {
                next.term_mut(ballot).is_end_chosen = true;
                self.commit_next(&mut next, ballot);
            }
            Action::Gather { node, from } => {
                apply(&mut next.columns[node].kept, state.columns[from].kept.end.id);
            }
        }
        self.canonical(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(END, |_, state: &State| state.end_chosen.count_ones() <= 1),
            Property::always(NEXT, |_, state: &State| state.next_chosen.count_ones() <= 1),
            Property::always(RECOVERY, |model: &Self, state: &State| model.recovers(state)),
            Property::always(APPLIED, |_, state: &State| {
                let applied = state.columns.iter().filter(|column| column.kept.has_applied);
                applied.into_iter().all(|c| state.end_chosen & 1 << c.kept.end.id != 0)
            }),
        ]
    }
}
