//! What one run explores: a change, ballots, and the rule that it breaks.

use super::state::{BALLOTS_MAX, NODES};
use crate::config::{Change, Configuration, EpochConfig, Policy, Seat};
use crate::types::{Code, Epoch, NodeId};

/// A change of members, by how many there are before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A newcomer takes the place of the last one.
    Replace(u8),
    /// The last one leaves.
    Shrink(u8),
    /// A newcomer comes.
    Grow(u8),
}

/// A rule of docs/membership.md broken on purpose, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    /// 5: the closing entry is chosen when it is so among the old members.
    ClosesByOldAlone,
    /// 5: the closing entry is chosen when it is so among the new members.
    ClosesByNewAlone,
    /// 6: promises of nodes that are no members count.
    CountsStrangers,
    /// 10: what was proposed in the old epoch counts behind the closing entry.
    OldEpochOvertakes,
    /// 5 and 10 together.
    ClosesByOldAloneAndOvertakes,
    /// 6: who has the closing entry chosen goes on behind it with the promises at hand.
    IgnoresCut,
}

/// The bounds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub kind: Kind,
    pub ballots: u8,
    /// Nodes apply other values than the closing entry, too; else those are told as accepted only.
    pub applies_all: bool,
    /// Ballots have parts: the first leads by the new list, the last closes the change, the others
    /// propose values. Fewer states on the way to a find.
    pub has_parts: bool,
    pub broken: Broken,
}

impl Setup {
    pub const fn new(kind: Kind, ballots: u8) -> Self {
        assert!(ballots as usize <= BALLOTS_MAX, "too many ballots");
        Self { kind, ballots, applies_all: false, has_parts: false, broken: Broken::Nothing }
    }

    pub const fn applying_all(mut self) -> Self {
        self.applies_all = true;
        self
    }

    pub const fn with_parts(mut self) -> Self {
        self.has_parts = true;
        self
    }

    pub const fn breaking(mut self, broken: Broken) -> Self {
        self.broken = broken;
        self
    }

    pub fn breaks(&self, broken: Broken) -> bool {
        let is_both = self.broken == Broken::ClosesByOldAloneAndOvertakes;
        let parts = [Broken::ClosesByOldAlone, Broken::OldEpochOvertakes];
        self.broken == broken || is_both && parts.contains(&broken)
    }

    /// The configurations before the closing entry, with the change under way, and after it.
    pub fn configurations(&self) -> [Configuration; 2] {
        let (nodes, joins, leaves, after) = match self.kind {
            Kind::Replace(nodes) => (nodes, Some(nodes), Some(nodes - 1), nodes),
            Kind::Shrink(nodes) => (nodes, None, Some(nodes - 1), nodes - 1),
            Kind::Grow(nodes) => (nodes, Some(nodes), None, nodes + 1),
        };
        let copies = |nodes: u8| Code::new(1, nodes - 1).unwrap();
        let policy = Policy::Replicate;
        let (epoch, code) = (Epoch(0), copies(nodes));
        let first = EpochConfig { epoch, nodes, policy, code, hybrid_bytes: 0 };
        let joins = joins.map(stranger);
        let change = Change { joins, leaves: leaves.map(NodeId), code: copies(after) };
        let old = Configuration::of_ranks(first).with_change(change).unwrap();
        let new = old.changed(0);
        [old, new]
    }

    pub fn nodes(&self) -> std::ops::Range<usize> {
        match self.kind {
            Kind::Shrink(nodes) => 0..usize::from(nodes),
            Kind::Replace(nodes) | Kind::Grow(nodes) => 0..usize::from(nodes) + 1,
        }
    }

    /// Nodes that may be swapped: they are members before the entry and after it.
    pub fn alike(&self) -> std::ops::Range<usize> {
        match self.kind {
            Kind::Replace(nodes) | Kind::Shrink(nodes) => 0..usize::from(nodes) - 1,
            Kind::Grow(nodes) => 0..usize::from(nodes),
        }
    }

    /// May the closing entry be chosen among the old members and not among the new, if that counts?
    pub fn may_close_early(&self) -> bool {
        // From three to four, two of the old members are two of the new; from five to four, three
        // of the old are two of the new.
        let is_enough = matches!(self.kind, Kind::Grow(3) | Kind::Shrink(5));
        self.breaks(Broken::ClosesByOldAlone) && !is_enough
    }
}

/// The seat of a node that is no member.
pub fn stranger(id: u8) -> Seat {
    let nodes = u8::try_from(NODES).unwrap();
    let code = Code::new(1, nodes - 1).unwrap();
    let (epoch, policy) = (Epoch(0), Policy::Replicate);
    let all = Configuration::of_ranks(EpochConfig { epoch, nodes, policy, code, hybrid_bytes: 0 });
    all.members[usize::from(id)]
}
