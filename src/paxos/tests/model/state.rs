//! A state of the model: one column per node, one term per ballot, what was chosen so far.
//!
//! A node's shards are written from its own view (its home, the rest of its full copy), so that
//! swapping two like nodes is swapping their columns.

use std::hash::{Hash, Hasher};

/// Most nodes and ballots that a state has room for.
pub const NODES_MAX: usize = 4;
/// Ballots are numbered from 1; 0 is none.
pub const BALLOTS_MAX: usize = 4;

/// Shards of a node: its home.
pub const HOME: u8 = 1;
/// Shards of a node: what makes its home a full copy.
pub const REST: u8 = 2;

/// Its record is damaged and nothing said since makes up for it (rule 13).
pub const FAULTY: u8 = 1;
/// A record was damaged whose slot cannot be read.
pub const BLIND: u8 = 2;
/// It knows that what it holds is chosen, and an earlier slot is missing.
pub const KNOWN: u8 = 4;
/// It has applied what it holds.
pub const APPLIED: u8 = 8;

/// An acceptor's state of the slot. Shards are claimed (`held`) or claimed and readable (`intact`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub promised: u8,
    /// Ballot of acceptance.
    pub at: u8,
    pub id: u8,
    pub held: u8,
    pub intact: u8,
    pub flags: u8,
}

impl Kept {
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a promise says: everything but the ballot promised. 16 bits; 0 is no promise.
    pub const fn said(&self) -> u16 {
        (SAID | (self.at as u16) << 12)
            | (self.id as u16) << 8
            | (self.held as u16) << 6
            | (self.intact as u16) << 4
            | self.flags as u16
    }

    /// The inverse of [`Self::said`].
    pub fn of_said(said: u16) -> Self {
        let field = |shift: u32, mask: u16| u8::try_from(said >> shift & mask).unwrap();
        Self {
            promised: 0,
            at: field(12, 7),
            id: field(8, 15),
            held: field(6, 3),
            intact: field(4, 3),
            flags: field(0, 15),
        }
    }

    const fn packed(&self) -> u32 {
        self.said() as u32 | (self.promised as u32) << 16
    }
}

/// Set in every promise, so that none is 0.
const SAID: u16 = 1 << 15;

/// Everything of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    pub mem: Kept,
    /// What a crash leaves. Equal to `mem` where every step is durable.
    pub disk: Kept,
    /// What it promised each ballot, as long as that ballot may still decide.
    pub promises: [u16; BALLOTS_MAX],
    /// Shards that it acknowledged at each ballot.
    pub acks: [u8; BALLOTS_MAX],
    /// Acknowledgements that wait for the disk.
    pub held_acks: [u8; BALLOTS_MAX],
    /// The promise that waits for the disk.
    pub held_promise: u8,
}

impl Column {
    pub fn packed(&self) -> [u64; 3] {
        let kept = u64::from(self.mem.packed()) | u64::from(self.disk.packed()) << 32;
        let said = |sum: u64, said: &u16| sum << 16 | u64::from(*said);
        let shards = |sum: u64, shards: &u8| sum << 2 | u64::from(*shards);
        let acks = self.acks.iter().chain(&self.held_acks).fold(0, shards);
        let promises = self.promises.iter().fold(0, said);
        [kept, promises, acks << 3 | u64::from(self.held_promise)]
    }
}

/// A ballot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// `UNDECIDED`, a value id, `NOTHING` or `OVER`.
    pub led: u8,
    /// Its leader knows that the slot is chosen.
    pub is_committed: bool,
    /// Its leader has forgotten it once (rule 9 broken).
    pub is_reused: bool,
}

/// Not led yet.
pub const UNDECIDED: u8 = 0;
/// Led, and the slot was found applied: its leader proposes nothing there.
pub const NOTHING: u8 = 14;
/// Whatever it still does changes nothing.
pub const OVER: u8 = 15;
/// Value ids are the ballots that first propose them; above this is a reused ballot's second one.
pub const IDS: std::ops::RangeInclusive<u8> = 1..=8;

/// A state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub columns: [Column; NODES_MAX],
    pub terms: [Term; BALLOTS_MAX],
    /// Values that a leader's rule took for chosen, as bits.
    pub chosen: u16,
    /// What each value id holds; its own value unless rule 3 is broken.
    pub contents: [u8; BALLOTS_MAX],
    pub damages: u8,
    pub crashes: u8,
    /// A ballot proposed two value ids.
    pub is_double: bool,
    /// Branches taken on the way here, where a run remembers them.
    pub seen: u16,
}

impl State {
    /// The value behind a value id.
    pub fn content(&self, id: u8) -> u8 {
        match self.contents.get(usize::from(id.wrapping_sub(1))) {
            Some(0) | None => id,
            Some(&content) => content,
        }
    }

    pub fn term(&self, ballot: u8) -> &Term {
        &self.terms[usize::from(ballot - 1)]
    }

    pub fn term_mut(&mut self, ballot: u8) -> &mut Term {
        &mut self.terms[usize::from(ballot - 1)]
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for column in &self.columns {
            for word in column.packed() {
                hasher.write_u64(word);
            }
        }
        let term = |sum: u64, term: &Term| {
            let flags = u64::from(term.is_committed) | u64::from(term.is_reused) << 1;
            sum << 6 | u64::from(term.led) << 2 | flags
        };
        let contents = self.contents.iter().fold(0, |sum, id| sum << 4 | u64::from(*id));
        let counts = u64::from(self.damages) << 4 | u64::from(self.crashes);
        hasher.write_u64(self.terms.iter().fold(0, term) << 16 | u64::from(self.chosen));
        let rest = contents << 32 | u64::from(self.seen) << 16 | counts << 1;
        hasher.write_u64(rest | u64::from(self.is_double));
    }
}
