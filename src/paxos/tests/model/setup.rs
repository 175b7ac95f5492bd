//! What one run of the model explores: sizes, features, and the rule that it breaks.

use super::super::super::policy::wanted;
use super::state::{HOME, NODES_MAX, REST};
use crate::types::{Code, ShardSet};

/// Which shards may be added to a node's home inside a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// None.
    Never,
    /// Craft's full copies: the first k shards, and the home.
    Copies,
}

/// A rule broken on purpose (numbers of DESIGN 3.2), or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// 1: shards count at the highest ballot of acceptance only.
    CountsHighestBallotOnly,
    /// 2: shards of the same value replace the earlier ones.
    Replaces,
    /// 3: what is recovered is proposed under a new value id, and coded anew.
    RenamesValue,
    /// 5: a leader decides with Q1 - 1 promises.
    DecidesWithFewer,
    /// 5: the highest origin wins, not the highest ballot of acceptance.
    OriginWins,
    /// 5: a no-op although claims reach k and bytes are missing.
    IgnoresClaims,
    /// 5: a promise does not say that its sender has applied.
    HidesApplied,
    /// 6: a promise that comes late changes the decision.
    DecidesAgain,
    /// 7: once full copies are sent, earlier single shards count as copies.
    CountsSinglesAsCopies,
    /// 9: promises are answered before they are durable.
    PromisesEarly,
    /// 9: acceptances are answered before they are durable.
    AcknowledgesEarly,
    /// 9: a candidate's own ballot is not durable, so that it uses it again.
    ReusesBallot,
    /// 10: a leader takes its own value for chosen because a node says that it has applied the slot.
    TrustsApplied,
    /// 10: a commit covers what was accepted at other ballots.
    CommitsAnyBallot,
    /// 11: a leader of a new epoch decides a slot of the old one by the new prepare quorum.
    IgnoresOldEpoch,
    /// 12: a node whose directory was lost comes back under its old identity.
    KeepsLostIdentity,
    /// 13: a damaged slot is answered as an empty one.
    HidesDamage,
    /// 13: promises of unknown damage and of damage in this slot are each compared with Q1, and not
    /// counted together.
    CountsDamageApart,
    /// 13: a damaged slot that was gathered is sound with less than k shards.
    RepairsWithHome,
}

/// Kinds of damage, as bits.
pub const SLOT: u8 = 1;
/// A damaged record whose slot cannot be read.
pub const UNKNOWN: u8 = 2;
/// Bytes of shards; the record's head is sound.
pub const BYTES: u8 = 4;

/// The bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub nodes: u8,
    /// Q1.
    pub prepare: u8,
    pub ballots: u8,
    pub growth: Growth,
    /// Leaders tell what is chosen; nodes apply, and gather what they lack.
    pub has_commits: bool,
    /// A node may know that a slot is chosen and miss an earlier one.
    pub has_gaps: bool,
    /// Kinds of damage, and how often any of them happens.
    pub damage: u8,
    pub damages: u8,
    /// How often a node crashes. Above 0, what it does is durable only after a sync.
    pub crashes: u8,
    /// The slot is of an epoch with this prepare quorum; ballots above this one know a newer epoch.
    pub old_epoch: Option<(u8, u8)>,
    /// The branches that a run has taken are part of its states.
    pub has_history: bool,
    pub broken: Broken,
}

/// Data shards of the code, in every run.
pub const K: u8 = 2;

impl Setup {
    /// `nodes` with prepare quorum `prepare`, up to `ballots`, single shards only.
    pub const fn new(nodes: u8, prepare: u8, ballots: u8) -> Self {
        Self {
            nodes,
            prepare,
            ballots,
            growth: Growth::Never,
            has_commits: false,
            has_gaps: false,
            damage: 0,
            damages: 0,
            crashes: 0,
            old_epoch: None,
            has_history: false,
            broken: Broken::Nothing,
        }
    }

    pub const fn growing(mut self) -> Self {
        self.growth = Growth::Copies;
        self
    }

    pub const fn committing(mut self) -> Self {
        self.has_commits = true;
        self
    }

    pub const fn with_gaps(mut self) -> Self {
        self.has_commits = true;
        self.has_gaps = true;
        self
    }

    pub const fn damaged(mut self, damage: u8, damages: u8) -> Self {
        self.damage = damage;
        self.damages = damages;
        self
    }

    pub const fn crashing(mut self, crashes: u8) -> Self {
        self.crashes = crashes;
        self
    }

    pub const fn after_epoch(mut self, last_ballot: u8, prepare: u8) -> Self {
        self.old_epoch = Some((last_ballot, prepare));
        self
    }

    pub const fn remembering(mut self) -> Self {
        self.has_history = true;
        self
    }

    pub const fn breaking(mut self, broken: Broken) -> Self {
        self.broken = broken;
        self
    }

    pub fn breaks(&self, broken: Broken) -> bool {
        self.broken == broken
    }

    /// Where steps are durable only after a sync.
    pub const fn has_disk(&self) -> bool {
        self.crashes > 0
    }

    /// The prepare quorum that a ballot uses. Rule 11: that of the slot's epoch, whoever leads.
    pub fn prepare_of(&self, ballot: u8) -> u8 {
        match self.old_epoch {
            Some((last, prepare)) if ballot <= last || !self.breaks(Broken::IgnoresOldEpoch) => {
                prepare
            }
            Some(_) | None => self.prepare,
        }
    }

    /// What the shards that a node names from its own view are.
    pub fn shards(&self, rank: usize, local: u8) -> ShardSet {
        let home = ShardSet::one(u8::try_from(rank).unwrap());
        let code = Code::new(K, self.nodes - K).unwrap();
        let rest = wanted(code, u8::try_from(rank).unwrap(), K).without(home);
        let mut shards = ShardSet::EMPTY;
        if local & HOME != 0 {
            shards = shards.union(home);
        }
        if local & REST != 0 {
            shards = shards.union(rest);
        }
        shards
    }

    /// Ranks that may be swapped: their homes play the same part.
    pub fn alike(&self) -> [std::ops::Range<usize>; 2] {
        let (nodes, k) = (usize::from(self.nodes), usize::from(K));
        let has_copies = self.growth != Growth::Never || self.has_commits && self.damages > 0;
        if has_copies { [0..k, k..nodes] } else { [0..nodes, nodes..nodes] }
    }

    pub fn ranks(&self) -> std::ops::Range<usize> {
        0..usize::from(self.nodes).min(NODES_MAX)
    }
}
