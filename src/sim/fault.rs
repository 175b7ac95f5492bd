//! What can go wrong in a run, as values: drawn from a seed, written to files, dropped one by one.
//!
//! Nodes are meant by rank, sets of nodes by bits. A fault that needs chance at its own time carries
//! a seed, so that it does the same whatever other faults are left out.

use crate::kv::Admin;
use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// A fault and how long it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The process dies; what it wrote stays with the operating system.
    Crash {
        /// Rank.
        node: usize,
        /// Time until it starts again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
    },
    /// The machine loses power: unsynced writes are lost or torn.
    PowerCut {
        /// Rank.
        node: usize,
        /// Time until it starts again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
    },
    /// All machines lose power at once.
    PowerCutAll {
        /// Time until they start again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
        /// Not now, but when the next write is acknowledged to its client: when it would hurt.
        is_aimed: bool,
    },
    /// The node dies in the middle of a disk operation, which is done in part, in whole or not.
    CrashPoint {
        /// Rank.
        node: usize,
        /// Disk operations that it still does.
        after: u64,
        /// It is stopped now, and these are operations of its next start: of recovery.
        is_at_start: bool,
        /// The machine goes with it.
        is_power_cut: bool,
        /// Time until it starts again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
    },
    /// A disk operation fails, and all that follow: the node stops (rule 9) and starts again later.
    DiskError {
        /// Rank.
        node: usize,
        /// Disk operations that still succeed.
        after: u64,
        /// Time until it starts again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
    },
    /// The disk has so much room left.
    DiskFull {
        /// Rank.
        node: usize,
        /// Room.
        free_bytes: u64,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// The disk is nearly full: new values are refused, everything else goes on.
    DiskLow {
        /// Rank.
        node: usize,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// Every sync takes this much longer.
    SlowDisk {
        /// Rank.
        node: usize,
        /// On top of what a sync takes.
        #[serde(with = "micros", rename = "extra_us")]
        extra: Duration,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// Data at rest is damaged, as far as enough other nodes hold theirs.
    Rot {
        /// Rank.
        node: usize,
        /// How.
        damage: Damage,
        /// The node dies and starts again: it meets the damage in its recovery.
        is_restarted: bool,
        /// Draws the place.
        seed: u64,
    },
    /// The node's clock runs faster or slower, within what the cluster allows for.
    Drift {
        /// Rank.
        node: usize,
        /// Parts per million.
        drift_ppm: i64,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// The process stands still; its messages wait.
    Pause {
        /// Rank.
        node: usize,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// Nothing passes from the nodes of `from` to those of `to`, nor back when the two have no node
    /// in common.
    Partition {
        /// Senders.
        from: u32,
        /// Receivers.
        to: u32,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// A partition of another shape, around one node.
    Shape {
        /// Which.
        shape: Shape,
        /// The node in its middle: a rank, or whoever leads when it begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<usize>,
        /// It comes and goes, so long each time; 0: it stays.
        #[serde(with = "micros", rename = "flap_us")]
        flap: Duration,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// The links from the nodes of `from` to those of `to` carry next to nothing.
    Clog {
        /// Senders.
        from: u32,
        /// Receivers.
        to: u32,
        /// Bandwidth in kbit/s.
        rate_kbit: u32,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// No fault, but as well a change under way: the operator asks for something.
    Operator(Admin),
    /// The operator replaces a node by a new machine, through the log.
    ReplaceNode {
        /// Rank.
        node: usize,
        /// Its machine is gone for good, where the cluster can do without: that is why.
        is_lost: bool,
        /// It is stopped when the change is done; else it runs on, and must learn that it has left.
        is_stopped: bool,
    },
    /// The node's data directory is lost: it dies, and starts again under its old id without what it
    /// promised. Its peers must refuse it (rule 12). Only where the cluster can do without.
    LoseDirectory {
        /// Rank.
        node: usize,
        /// Time until it starts again.
        #[serde(with = "micros", rename = "down_us")]
        down: Duration,
        /// The operator sees that it is refused, has a new machine take its place, and stops it.
        /// Else it runs on, refused, to the end.
        is_replaced: bool,
    },
    /// Meets whichever node comes to a moment first, after this began.
    Aimed {
        /// What the node must just have done.
        moment: Moment,
        /// What becomes of it.
        act: Act,
        /// So long after the moment.
        #[serde(with = "micros", rename = "delay_us")]
        delay: Duration,
        /// For so long.
        #[serde(with = "micros", rename = "span_us")]
        span: Duration,
    },
    /// A client's process dies; another one takes its address at once.
    ClientRestart {
        /// Which, counted from 0; one that is not there means another.
        client: usize,
    },
    /// The operator adds a new machine.
    AddNode {},
    /// The operator gives the change of the members under way up.
    CancelChange {},
    /// The operator removes a node.
    RemoveNode {
        /// Rank.
        node: usize,
        /// It is stopped when the change is done; else it runs on, and must learn that it has left.
        is_stopped: bool,
    },
}

/// What a node has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Raised its promise; that is not durable yet.
    Promises,
    /// Won an election.
    Wins,
    /// Learnt as the leader that something is chosen.
    Chooses,
    /// Come under another configuration.
    Reconfigures,
    /// Taken in a peer's snapshot.
    Restores,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Promises, Self::Wins, Self::Chooses, Self::Reconfigures, Self::Restores];
}

/// What a fault aimed at a moment does to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Its process dies.
    Crash,
    /// Its machine loses power.
    PowerCut,
    /// It stands still.
    Pause,
    /// No node hears it, and it hears none.
    Isolate,
}

/// Which links a partition leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Everyone sees the middle only, and the middle everyone.
    Star,
    /// Everyone sees the two neighbours in a circle.
    Ring,
    /// As the ring, cut open at the middle.
    Chain,
    /// The node behind the middle sees the middle only.
    OneLink,
    /// Two halves that both see the middle.
    Bridge,
    /// The middle is heard by nobody and hears everyone.
    Mute,
    /// The middle hears nobody and is heard by everyone.
    Deaf,
}

/// How data at rest is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// One bit of a record.
    Flip,
    /// Records were never written, though the disk said so.
    Lost,
    /// Records were written over others.
    Misdirected,
    /// One bit of one of the identity's two copies.
    Identity,
}

impl Damage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flip, Self::Lost, Self::Misdirected, Self::Identity];
}

impl Fault {
    /// How long a fault lasts, where it does.
    pub(super) fn span_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Self::Crash { down, .. }
            | Self::PowerCut { down, .. }
            | Self::PowerCutAll { down, .. }
            | Self::CrashPoint { down, .. }
            | Self::DiskError { down, .. }
            | Self::LoseDirectory { down, .. } => Some(down),
            Self::DiskFull { span, .. }
            | Self::DiskLow { span, .. }
            | Self::SlowDisk { span, .. }
            | Self::Drift { span, .. }
            | Self::Pause { span, .. }
            | Self::Partition { span, .. }
            | Self::Shape { span, .. }
            | Self::Aimed { span, .. }
            | Self::Clog { span, .. } => Some(span),
            Self::Rot { .. }
            | Self::Operator(_)
            | Self::ReplaceNode { .. }
            | Self::AddNode {}
            | Self::ClientRestart { .. }
            | Self::CancelChange {}
            | Self::RemoveNode { .. } => None,
        }
    }

    /// Its kind, for totals.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Crash { .. } => "crash",
            Self::PowerCut { .. } => "power cut",
            Self::PowerCutAll { .. } => "power cut of all",
            Self::CrashPoint { is_at_start: false, .. } => "crash within a disk operation",
            Self::CrashPoint { is_at_start: true, .. } => "crash during recovery",
            Self::DiskError { .. } => "disk error",
            Self::DiskFull { .. } => "disk full",
            Self::DiskLow { .. } => "disk low",
            Self::SlowDisk { .. } => "slow disk",
            Self::Rot { damage: Damage::Flip, .. } => "bit flip at rest",
            Self::Rot { damage: Damage::Lost, .. } => "lost write",
            Self::Rot { damage: Damage::Misdirected, .. } => "misdirected write",
            Self::Rot { damage: Damage::Identity, .. } => "identity damage",
            Self::Drift { .. } => "clock drift",
            Self::Pause { .. } => "pause",
            Self::Partition { .. } => "partition",
            Self::Shape { shape: Shape::Star, .. } => "partition: star",
            Self::Shape { shape: Shape::Ring, .. } => "partition: ring",
            Self::Shape { shape: Shape::Chain, .. } => "partition: chain",
            Self::Shape { shape: Shape::OneLink, .. } => "partition: one link",
            Self::Shape { shape: Shape::Bridge, .. } => "partition: bridge",
            Self::Shape { shape: Shape::Mute, .. } => "partition: mute",
            Self::Shape { shape: Shape::Deaf, .. } => "partition: deaf",
            Self::Clog { .. } => "clog",
            Self::Operator(Admin::Policy { .. }) => "policy change",
            Self::Operator(Admin::Transfer { .. }) => "leadership transfer",
            Self::Operator(Admin::Change { .. }) => "membership change",
            Self::CancelChange {} | Self::Operator(Admin::CancelChange) => "change given up",
            Self::ReplaceNode { is_lost: true, .. } => "lost node replaced",
            Self::ReplaceNode { is_lost: false, .. } => "node replaced",
            Self::LoseDirectory { is_replaced: false, .. } => "lost directory",
            Self::LoseDirectory { is_replaced: true, .. } => "lost directory, node replaced",
            Self::Aimed { .. } => "aimed at a moment",
            Self::ClientRestart { .. } => "client restarted",
            Self::AddNode {} => "node added",
            Self::RemoveNode { .. } => "node removed",
        }
    }
}

impl Fault {
    /// The node it is about, where it is one.
    #[must_use]
    pub const fn node(&self) -> Option<usize> {
        match self {
            Self::Crash { node, .. }
            | Self::PowerCut { node, .. }
            | Self::CrashPoint { node, .. }
            | Self::DiskError { node, .. }
            | Self::DiskFull { node, .. }
            | Self::DiskLow { node, .. }
            | Self::SlowDisk { node, .. }
            | Self::Rot { node, .. }
            | Self::Drift { node, .. }
            | Self::Pause { node, .. }
            | Self::ReplaceNode { node, .. }
            | Self::LoseDirectory { node, .. }
            | Self::RemoveNode { node, .. } => Some(*node),
            Self::Shape { node, .. } => *node,
            Self::PowerCutAll { .. }
            | Self::Partition { .. }
            | Self::Clog { .. }
            | Self::AddNode {}
            | Self::Aimed { .. }
            | Self::ClientRestart { .. }
            | Self::CancelChange {}
            | Self::Operator(_) => None,
        }
    }

    /// A change of the members, which needs new machines or makes do with fewer?
    #[must_use]
    pub const fn is_of_members(&self) -> bool {
        matches!(self, Self::ReplaceNode { .. } | Self::AddNode {} | Self::RemoveNode { .. })
    }
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Star, Self::Ring, Self::Chain, Self::OneLink, Self::Bridge, Self::Mute, Self::Deaf];

    /// Does it cut the link from one rank to another, among `nodes` around `middle`?
    #[must_use]
    pub const fn cuts(self, from: usize, to: usize, middle: usize, nodes: usize) -> bool {
        // Places in the circle, counted from the middle.
        let a = (from + nodes - middle % nodes) % nodes;
        let b = (to + nodes - middle % nodes) % nodes;
        let is_next = (a + 1) % nodes == b || (b + 1) % nodes == a;
        match self {
            Self::Star => a != 0 && b != 0,
            Self::Ring => !is_next,
            Self::Chain => !is_next || (a == 0 && b == nodes - 1) || (b == 0 && a == nodes - 1),
            Self::OneLink => (a == 1 && b != 0) || (b == 1 && a != 0),
            Self::Bridge => a != 0 && b != 0 && (a <= nodes / 2) != (b <= nodes / 2),
            Self::Mute => a == 0,
            Self::Deaf => b == 0,
        }
    }
}

/// Durations in files: whole microseconds.
pub(super) mod micros {
    use crate::time::Duration;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::sim) fn serialize<S: Serializer>(
        span: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }

    pub(in crate::sim) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(shape: Shape, nodes: usize) -> Vec<(usize, usize)> {
        (0..nodes)
            .flat_map(|from| (0..nodes).map(move |to| (from, to)))
            .filter(|(from, to)| from != to && !shape.cuts(*from, *to, 1, nodes))
            .collect()
    }

    #[test]
    fn shapes_leave_the_links_that_they_are_named_for() {
        assert_eq!(links(Shape::Star, 4), [(0, 1), (1, 0), (1, 2), (1, 3), (2, 1), (3, 1)]);
        assert_eq!(links(Shape::Ring, 5).len(), 10);
        assert_eq!(links(Shape::Chain, 5).len(), 8);
        assert!(!links(Shape::Chain, 5).contains(&(1, 0)));
        let seen: Vec<_> = links(Shape::OneLink, 5).into_iter().filter(|l| l.0 == 2).collect();
        assert_eq!(seen, [(2, 1)]);
        assert!(links(Shape::Mute, 3).iter().all(|(from, _)| *from != 1));
        assert!(links(Shape::Deaf, 3).iter().all(|(_, to)| *to != 1));
        let bridge = links(Shape::Bridge, 5);
        assert!(bridge.contains(&(2, 3)) && !bridge.contains(&(3, 4)) && bridge.contains(&(1, 4)));
    }
}
