//! When a value is chosen: one function over bit sets, for every policy (DESIGN 3.1).
//!
//! With A the acceptors of one value id at one ballot, the value is chosen when every set of Q1
//! nodes holds at least k distinct shards of it through A. Here: take away any N - Q1 nodes, and k
//! distinct shards are left. Its naive twin in the tests tries all subsets, for every N up to 9.

use crate::types::ShardSet;

/// Is a value chosen? `acks[rank]` is what the node of that rank holds durably of one value id,
/// accepted at one ballot; empty when it has not accepted. `prepare` is Q1, `k` the code's k.
///
/// Above `EXACT_NODES_MAX` nodes, when shards overlap, the answer may be a late `true`, never a
/// wrong one.
#[must_use]
pub fn is_chosen(acks: &[ShardSet], prepare: u32, k: u32) -> bool {
    let nodes = u32::try_from(acks.len()).unwrap_or(u32::MAX);
    assert!(prepare <= nodes, "Q1 {prepare} of {nodes} nodes");
    let away = nodes - prepare;
    let mut seen = ShardSet::EMPTY;
    let mut full_count = 0;
    let mut single_count = 0;
    let mut is_disjoint = true;
    for &held in acks {
        if held.count() >= k {
            full_count += 1;
            continue;
        }
        is_disjoint &= held.count() <= 1 && seen.intersection(held).is_empty();
        single_count += u32::from(!held.is_empty());
        seen = seen.union(held);
    }
    // More full copies than can be taken away.
    if full_count > away {
        return true;
    }
    // A full copy left over is enough, so the worst removal begins with all full copies.
    if is_disjoint {
        return single_count >= k + (away - full_count);
    }
    let partial: Vec<ShardSet> =
        acks.iter().copied().filter(|held| held.count() < k && !held.is_empty()).collect();
    if acks.len() <= EXACT_NODES_MAX {
        return survives(&partial, away - full_count, ShardSet::EMPTY, k);
    }
    // One distinct shard a node (its home, when it has it) is a lower bound of what is left.
    let home_count = acks
        .iter()
        .zip(0_u8..)
        .filter(|(held, rank)| held.count() < k && held.contains(*rank))
        .count();
    u32::try_from(home_count).unwrap_or(0) >= k + (away - full_count)
}

/// Are k distinct shards left of `kept` and `rest`, whichever `away` of `rest` are taken away?
fn survives(rest: &[ShardSet], away: u32, kept: ShardSet, k: u32) -> bool {
    if kept.count() >= k {
        return true;
    }
    let Some((&first, rest)) = rest.split_first() else {
        return false;
    };
    if rest.len() < away as usize {
        return false;
    }
    survives(rest, away, kept.union(first), k) && (away == 0 || survives(rest, away - 1, kept, k))
}

/// Up to here overlapping shards are decided exactly, by trying.
pub const EXACT_NODES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Every set of Q1 nodes, one after the other.
    fn naive(acks: &[ShardSet], prepare: u32, k: u32) -> bool {
        (0_u32..1 << acks.len()).filter(|set| set.count_ones() == prepare).all(|set| {
            let union = acks
                .iter()
                .enumerate()
                .filter(|(rank, _)| set & (1 << rank) != 0)
                .fold(ShardSet::EMPTY, |union, (_, held)| union.union(*held));
            union.count() >= k
        })
    }

    #[test]
    fn choice_agrees_with_its_naive_twin_on_single_shards() {
        for nodes in 1..=9_u32 {
            for prepare in 1..=nodes {
                for k in 1..=nodes {
                    for set in 0_u32..1 << nodes {
                        let acks: Vec<ShardSet> =
                            (0..nodes).map(|rank| ShardSet(set & (1 << rank))).collect();
                        assert_eq!(
                            is_chosen(&acks, prepare, k),
                            naive(&acks, prepare, k),
                            "N {nodes} Q1 {prepare} k {k} acks {acks:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn choice_agrees_with_its_naive_twin_on_any_shards() {
        let mut rng = Rng::new(31);
        for round in 0..60_000_u32 {
            let nodes = 1 + round % 9;
            let prepare = 1 + u32::try_from(rng.below(u64::from(nodes))).unwrap();
            let k = 1 + u32::try_from(rng.below(u64::from(nodes))).unwrap();
            let density = rng.unit();
            let acks: Vec<ShardSet> = (0..nodes)
                .map(|rank| match rng.below(4) {
                    0 => ShardSet::EMPTY,
                    1 => ShardSet::one(u8::try_from(rank).unwrap()),
                    2 => ShardSet::first(k),
                    _ => {
                        (0..u8::try_from(nodes).unwrap()).filter(|_| rng.chance(density)).collect()
                    }
                })
                .collect();
            assert_eq!(
                is_chosen(&acks, prepare, k),
                naive(&acks, prepare, k),
                "N {nodes} Q1 {prepare} k {k} acks {acks:?}"
            );
        }
    }

    #[test]
    fn design_table_holds() {
        // craft, N = 5, k = 3: F + k = 5 single shards, or full copies at three nodes (rule 7).
        let full = ShardSet::first(3);
        let single = |rank: u8| ShardSet::one(rank);
        let none = ShardSet::EMPTY;
        let all = [single(0), single(1), single(2), single(3), single(4)];
        assert!(is_chosen(&all, 3, 3));
        assert!(!is_chosen(&[all[0], all[1], all[2], all[3], none], 3, 3));
        assert!(is_chosen(&[full, full, full, none, none], 3, 3));
        // Three single shards and one full copy are no majority of copies.
        assert!(!is_chosen(&[full, all[1], all[2], none, none], 3, 3));
        // rs-paxos, N = 5, k = 3, Q1 = 4: four acks.
        assert!(is_chosen(&[all[0], all[1], none, all[3], all[4]], 4, 3));
        assert!(!is_chosen(&[all[0], all[1], none, none, all[4]], 4, 3));
    }

    #[test]
    fn large_clusters_are_never_told_too_early() {
        let mut rng = Rng::new(7);
        for _ in 0..2_000 {
            let acks: Vec<ShardSet> = (0..14)
                .map(|_| (0..14).filter(|_| rng.chance(0.2)).collect::<ShardSet>())
                .collect();
            let (prepare, k) = (10, 4);
            assert!(!is_chosen(&acks, prepare, k) || naive(&acks, prepare, k), "{acks:?}");
        }
    }
}
