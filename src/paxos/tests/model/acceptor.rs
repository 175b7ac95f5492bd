//! An acceptor's steps, restated for one slot: `Paxos::accept`, `learn_commit`, `keep`, start-up
//! after damage. Everything else about shards is asked of the real rules.

use super::setup::{BYTES, Broken, K, SLOT, Setup, UNKNOWN};
use super::state::{APPLIED, BLIND, Column, FAULTY, HOME, KNOWN, Kept, REST};

fn count(setup: &Setup, rank: usize, local: u8) -> u32 {
    setup.shards(rank, local).count()
}

/// `Paxos::accept`: records a value; what is acknowledged.
pub fn accept(setup: &Setup, rank: usize, kept: &mut Kept, ballot: u8, id: u8, sent: u8) -> u8 {
    assert!(kept.promised <= ballot && !kept.has(APPLIED), "refused: {kept:?} at {ballot}");
    let is_same = kept.at != 0 && kept.id == id;
    let (mut held, mut intact) = if is_same { (kept.held, kept.intact) } else { (0, 0) };
    if setup.breaks(Broken::Replaces) {
        (held, intact) = (sent, sent);
    } else {
        // Rule 2. What it holds already is not written again.
        intact |= sent & !held;
        held |= sent;
    }
    let is_covered = kept.at == ballot && is_same;
    let mut flags = kept.flags & if is_covered { u8::MAX } else { !KNOWN };
    // Rule 13. What was recorded before the damage is gone, so these are shards recorded since.
    if count(setup, rank, held) >= u32::from(K) {
        flags &= !FAULTY;
    }
    *kept = Kept { promised: ballot, at: ballot, id, held, intact, flags };
    held
}

/// `Acceptor::learn_commit` and `apply_known`: what it holds is chosen.
pub fn learn(setup: &Setup, kept: &mut Kept) {
    kept.flags |= KNOWN;
    if !setup.has_gaps {
        apply(kept);
    }
}

/// `Acceptor::apply_known`, once every earlier slot is applied.
pub fn apply(kept: &mut Kept) {
    kept.flags = kept.flags & !(KNOWN | FAULTY) | APPLIED;
}

/// `Paxos::try_finish`: `sources` are the columns of nodes that have applied the slot, by rank.
/// False when they have too few shards.
pub fn gather(setup: &Setup, kept: &mut Kept, sources: &[(usize, Column)]) -> Option<bool> {
    let id = sources.first()?.1.mem.id;
    if kept.at != 0 && kept.id == id && !kept.has(FAULTY | BLIND) {
        learn(setup, kept);
        return Some(false);
    }
    let shards = sources.iter().fold(crate::types::ShardSet::EMPTY, |all, (rank, column)| {
        all.union(setup.shards(*rank, column.mem.intact))
    });
    if shards.count() < u32::from(K) {
        return None;
    }
    // A damaged slot is sound with k shards; its node may have answered for as many (rule 13).
    let is_damaged = kept.has(FAULTY | BLIND) && !setup.breaks(Broken::RepairsWithHome);
    let held = if is_damaged { HOME | REST } else { HOME };
    let flags = kept.flags & !FAULTY;
    *kept = Kept { promised: kept.promised, at: kept.promised, id, held, intact: held, flags };
    learn(setup, kept);
    Some(true)
}

/// What a restart finds after damage, `None` where there is nothing to damage.
pub fn damaged(setup: &Setup, disk: Kept, kind: u8) -> Option<Kept> {
    let is_empty = disk.at == 0;
    let lost = Kept { promised: disk.promised, ..Kept::default() };
    match kind {
        SLOT if is_empty => None,
        SLOT if setup.breaks(Broken::KeepsLostIdentity) => Some(Kept::default()),
        SLOT => Some(Kept { flags: disk.flags & BLIND | FAULTY, ..lost }),
        UNKNOWN if is_empty => None,
        UNKNOWN => Some(Kept { flags: disk.flags & FAULTY | BLIND, ..lost }),
        BYTES if disk.intact == 0 => None,
        BYTES => Some(Kept { intact: 0, ..disk }),
        other => panic!("damage {other}"),
    }
}
