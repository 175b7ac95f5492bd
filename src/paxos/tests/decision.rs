//! The new leader's decision as a function of the promises alone.

use super::super::message::{PromiseEntry, ShardedValue};
use super::super::promise::{self, Collected, Decision, Recovered};
use crate::config::{Configuration, EpochConfig, Policy};
use crate::types::{Ballot, Bytes, Code, Digest, Epoch, Shard, ShardSet, Slot, ValueId, ValueMeta};

/// The promises of the nodes 0, 1, ….
fn decide(promises: &[Collected]) -> Decision {
    promise::decide(&(0..).zip(promises.iter().cloned()).collect())
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: 0 }
}

fn value(origin: u64, slot: u64) -> ValueMeta {
    ValueMeta {
        id: ValueId { origin: ballot(origin), slot: Slot(slot) },
        epoch: Epoch(0),
        code: Code::new(2, 1).unwrap(),
        payload_bytes: 4,
        digest: Digest::of(b"abcd"),
        header: Bytes::from_static(b"put"),
    }
}

fn accepted(at: u64, meta: &ValueMeta, indexes: &[u8]) -> PromiseEntry {
    let shards: Vec<Shard> =
        indexes.iter().map(|index| Shard::new(*index, Bytes::from_static(b"ab"))).collect();
    let claimed: ShardSet = indexes.iter().copied().collect();
    let value = ShardedValue { meta: meta.clone(), shards };
    PromiseEntry::Accepted { ballot: ballot(at), claimed, value }
}

fn whole(applied: u64, entries: Vec<PromiseEntry>) -> Collected {
    Collected::whole(Slot(applied), members(epoch(0, Policy::Craft, 2)), entries)
}

/// Under these rules.
fn members(rules: EpochConfig) -> Configuration {
    Configuration::of_ranks(rules)
}

/// Three nodes.
fn epoch(number: u64, policy: Policy, k: u8) -> EpochConfig {
    let code = Code::new(k, 3 - k).unwrap();
    let epoch = Epoch(number);
    EpochConfig { epoch, nodes: 3, policy, code, hybrid_bytes: 0 }.checked().unwrap()
}

fn kinds(decision: &Decision) -> Vec<Option<ValueId>> {
    match decision {
        Decision::Wait => panic!("waits"),
        Decision::Lead { proposals, .. } => proposals
            .iter()
            .map(|proposal| match proposal {
                Recovered::Value { meta, .. } => Some(meta.id),
                Recovered::NoOp => None,
            })
            .collect(),
    }
}

#[test]
fn fewer_than_a_full_q1_of_whole_promises_decide_nothing() {
    let promises = [whole(0, vec![]), Collected::default(), Collected::default()];
    assert_eq!(decide(&promises), Decision::Wait);
}

#[test]
fn shards_count_by_value_id_over_all_ballots() {
    // Rule 1: one shard at ballot 3, the other still at ballot 1.
    let v = value(1, 1);
    let promises = [whole(0, vec![accepted(3, &v, &[0])]), whole(0, vec![accepted(1, &v, &[1])])];
    assert_eq!(kinds(&decide(&promises)), vec![Some(v.id)]);
}

#[test]
fn the_highest_ballot_of_acceptance_wins_not_the_highest_origin() {
    // Value w was first proposed later, but v was accepted at a higher ballot.
    let (v, w) = (value(1, 1), value(2, 1));
    let promises =
        [whole(0, vec![accepted(3, &v, &[0, 1])]), whole(0, vec![accepted(2, &w, &[0, 1])])];
    assert_eq!(kinds(&decide(&promises)), vec![Some(v.id)]);
}

#[test]
fn too_few_shards_mean_that_nothing_was_chosen() {
    let v = value(1, 1);
    let promises = [whole(0, vec![accepted(1, &v, &[0])]), whole(0, vec![])];
    assert_eq!(kinds(&decide(&promises)), vec![None]);
}

#[test]
fn claims_without_bytes_make_it_wait() {
    let v = value(1, 1);
    let mut damaged = accepted(1, &v, &[1]);
    if let PromiseEntry::Accepted { value, .. } = &mut damaged {
        value.shards.clear();
    }
    let promises = [whole(0, vec![accepted(1, &v, &[0])]), whole(0, vec![damaged])];
    assert_eq!(decide(&promises), Decision::Wait);
}

#[test]
fn a_q1_without_the_damaged_decides() {
    let v = value(1, 1);
    let damaged_entry = || {
        let mut damaged = accepted(1, &v, &[1]);
        if let PromiseEntry::Accepted { value, .. } = &mut damaged {
            value.shards.clear();
        }
        damaged
    };
    let damaged = || whole(0, vec![damaged_entry()]);
    let of = |indexes: &[u8]| whole(0, vec![accepted(1, &v, indexes)]);
    // Two of three are a Q1, and saw one shard of two: nothing was chosen.
    assert_eq!(kinds(&decide(&[of(&[0]), damaged(), whole(0, vec![])])), vec![None]);
    // They saw two, or are no Q1 alone: it may have been.
    assert_eq!(kinds(&decide(&[of(&[0]), damaged(), of(&[2])])), vec![Some(v.id)]);
    let faulty = PromiseEntry::Faulty { slot: Slot(1) };
    assert_eq!(decide(&[of(&[0]), damaged(), whole(0, vec![faulty])]), Decision::Wait);
    // One that counts for no slot anyhow is not counted twice.
    let blind = whole(0, vec![PromiseEntry::AllFaulty, damaged_entry()]);
    assert_eq!(kinds(&decide(&[of(&[0]), whole(0, vec![]), blind])), vec![None]);
}

#[test]
fn a_faulty_promise_does_not_count_for_its_slot() {
    let v = value(1, 1);
    let faulty = PromiseEntry::Faulty { slot: Slot(1) };
    let two = [whole(0, vec![accepted(1, &v, &[0])]), whole(0, vec![faulty.clone()])];
    assert_eq!(decide(&two), Decision::Wait);
    let three = [
        whole(0, vec![accepted(1, &v, &[0])]),
        whole(0, vec![faulty]),
        whole(0, vec![accepted(1, &v, &[2])]),
    ];
    assert_eq!(kinds(&decide(&three)), vec![Some(v.id)]);
    let blind = [whole(0, vec![accepted(1, &v, &[0])]), whole(0, vec![PromiseEntry::AllFaulty])];
    assert_eq!(decide(&blind), Decision::Wait);
}

#[test]
fn nothing_is_proposed_at_or_below_the_highest_applied_slot() {
    let (v, w) = (value(1, 5), value(1, 6));
    let promises = [
        whole(5, vec![accepted(1, &w, &[0])]),
        whole(0, vec![accepted(1, &v, &[1]), accepted(1, &w, &[1])]),
    ];
    let decision = decide(&promises);
    assert!(matches!(decision, Decision::Lead { applied: Slot(5), .. }), "{decision:?}");
    assert_eq!(kinds(&decision), vec![Some(w.id)]);
}

#[test]
fn gaps_become_no_ops() {
    let v = value(1, 3);
    let promises = [whole(1, vec![accepted(1, &v, &[0])]), whole(1, vec![accepted(1, &v, &[1])])];
    assert_eq!(kinds(&decide(&promises)), vec![None, Some(v.id)]);
}

/// A value that starts the epoch `next`.
fn start_of(next: EpochConfig, origin: u64, slot: u64) -> ValueMeta {
    let code = Code::new(1, 2).unwrap();
    let digest = Digest::of(b"");
    ValueMeta {
        code,
        payload_bytes: 0,
        digest,
        header: members(next).encode(),
        ..value(origin, slot)
    }
}

#[test]
fn an_open_configuration_raises_the_quorum_for_what_follows() {
    // Rule 11: from Q1 = 2 to rs-paxos with k = 2, whose Q1 is 3.
    let next = epoch(1, Policy::RsPaxos, 2);
    let start = start_of(next, 1, 1);
    let mut entry = accepted(1, &start, &[0]);
    if let PromiseEntry::Accepted { value, .. } = &mut entry {
        value.shards = vec![Shard::new(0, Bytes::new())];
    }
    let two = [whole(0, vec![entry.clone()]), whole(0, vec![])];
    assert_eq!(decide(&two), Decision::Wait);
    let three = [whole(0, vec![entry]), whole(0, vec![]), whole(0, vec![])];
    assert_eq!(kinds(&decide(&three)), vec![Some(start.id)]);
}

#[test]
fn the_epoch_of_whoever_applied_most_is_in_force() {
    let next = epoch(1, Policy::RsPaxos, 2);
    let later = Collected::whole(Slot(4), members(next), vec![]);
    let two = [later.clone(), whole(1, vec![])];
    assert_eq!(decide(&two), Decision::Wait);
    let three = [later, whole(1, vec![]), whole(0, vec![])];
    let Decision::Lead { applied, configuration, .. } = decide(&three) else { panic!("waits") };
    assert_eq!((applied, configuration.rules), (Slot(4), next));
}

#[test]
fn damage_of_both_kinds_is_counted_together() {
    // One promise is blind, another faulty in this slot: one of three is sound, and Q1 is two.
    let v = value(1, 1);
    let promises = [
        whole(0, vec![PromiseEntry::AllFaulty]),
        whole(0, vec![PromiseEntry::Faulty { slot: Slot(1) }]),
        whole(0, vec![accepted(1, &v, &[2])]),
    ];
    assert_eq!(decide(&promises), Decision::Wait);
    let both = PromiseEntry::Faulty { slot: Slot(1) };
    let promises = [
        whole(0, vec![PromiseEntry::AllFaulty, both]),
        whole(0, vec![accepted(1, &v, &[1])]),
        whole(0, vec![accepted(1, &v, &[2])]),
    ];
    assert_eq!(kinds(&decide(&promises)), vec![Some(v.id)], "one node is left out once");
}

#[test]
fn two_values_at_the_highest_ballot_make_it_wait() {
    // A node that gathered w keeps it at the ballot it promised, where v was proposed.
    let (v, w) = (value(1, 1), value(4, 1));
    let promises =
        [whole(0, vec![accepted(1, &v, &[0, 1])]), whole(0, vec![accepted(1, &w, &[1])])];
    assert_eq!(decide(&promises), Decision::Wait);
}
