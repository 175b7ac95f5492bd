//! A state: one column per node, one term per ballot, what was chosen so far.

use std::hash::{Hash, Hasher};

/// Most nodes, old and new members together, that a state has room for.
pub const NODES: usize = 5;
/// Ballots are numbered from 1; 0 is none.
pub const BALLOTS_MAX: usize = 4;

/// In a value id of the slot that may end the change: it does.
pub const CLOSING: u8 = 8;
/// In a value id of the slot behind it: of the epoch of the new members.
pub const NEW: u8 = 8;

/// What a node accepted in one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Ballot of acceptance. 0 where nothing is accepted, or what is has been applied.
    pub at: u8,
    /// The ballot that first proposed it, with [`CLOSING`].
    pub id: u8,
}

/// An acceptor's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub promised: u8,
    /// The slot that may end the change.
    pub end: Accepted,
    /// The slot behind it.
    pub next: Accepted,
    /// It has applied what it has in `end`.
    pub has_applied: bool,
}

impl Kept {
    /// What a promise says: everything but the ballot promised. 0 is no promise.
    pub fn said(&self) -> u16 {
        SAID | u16::from(self.has_applied) << 14
            | u16::from(self.end.at) << 11
            | u16::from(self.end.id) << 7
            | u16::from(self.next.at) << 4
            | u16::from(self.next.id)
    }

    /// The inverse of [`Self::said`].
    pub fn of_said(said: u16) -> Self {
        let field = |shift: u32, mask: u16| u8::try_from(said >> shift & mask).unwrap();
        Self {
            promised: 0,
            end: Accepted { at: field(11, 7), id: field(7, 15) },
            next: Accepted { at: field(4, 7), id: field(0, 15) },
            has_applied: field(14, 1) == 1,
        }
    }
}

/// Set in every promise, so that none is 0.
const SAID: u16 = 1 << 15;

/// Everything of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    pub kept: Kept,
    /// What it promised each ballot, as long as that ballot may still decide.
    pub promises: [u16; BALLOTS_MAX],
    /// Ballots at which it acknowledged `end`, as bits, as long as that may matter.
    pub end_acks: u8,
    /// The same of `next`.
    pub next_acks: u8,
}

impl Column {
    pub fn packed(&self) -> [u64; 2] {
        let promises = self.promises.iter().fold(0, |sum, said| sum << 16 | u64::from(*said));
        let acks = u64::from(self.end_acks) << 8 | u64::from(self.next_acks);
        let kept = u64::from(self.kept.said()) << 8 | u64::from(self.kept.promised);
        [promises, kept << 16 | acks]
    }
}

/// Does a ballot lead?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not yet.
    #[default]
    Open,
    Leads,
    /// Whatever it still does changes nothing.
    Over,
}

/// A ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    pub phase: Phase,
    /// What its leader proposes in each slot; 0 is nothing.
    pub end: u8,
    pub next: u8,
    /// Who counts for `next` are the new members.
    pub is_new: bool,
    /// Its leader knows what is chosen in `end`.
    pub is_end_chosen: bool,
    pub is_next_chosen: bool,
}

impl Term {
    fn packed(self) -> u64 {
        let flags = [self.is_new, self.is_end_chosen, self.is_next_chosen];
        let flags = flags.iter().fold(self.phase as u64, |sum, flag| sum << 1 | u64::from(*flag));
        flags << 8 | u64::from(self.end) << 4 | u64::from(self.next)
    }
}

/// A state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub columns: [Column; NODES],
    pub terms: [Term; BALLOTS_MAX],
    /// Value ids that a leader's rule took for chosen, as bits.
    pub end_chosen: u16,
    pub next_chosen: u16,
}

impl State {
    pub fn term(&self, ballot: u8) -> &Term {
        &self.terms[usize::from(ballot - 1)]
    }

    pub fn term_mut(&mut self, ballot: u8) -> &mut Term {
        &mut self.terms[usize::from(ballot - 1)]
    }

    /// Nodes as bits.
    pub fn nodes(&self, is_one: impl Fn(&Column) -> bool) -> u8 {
        let bit = |(node, column): (usize, &Column)| u8::from(is_one(column)) << node;
        self.columns.iter().enumerate().map(bit).sum()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for word in self.columns.iter().flat_map(Column::packed) {
            hasher.write_u64(word);
        }
        let terms = self.terms.iter().fold(0, |sum, term| sum << 16 | term.packed());
        hasher.write_u64(terms);
        hasher.write_u32(u32::from(self.end_chosen) << 16 | u32::from(self.next_chosen));
    }
}

/// The bit of a ballot in a mask of ballots.
pub const fn bit(ballot: u8) -> u8 {
    1 << (ballot - 1)
}
