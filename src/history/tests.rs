//! The checkers are shown histories that are wrong in one way each.

use super::{History, Operation, Outcome, Request, Search, search};
use crate::time::Instant;
use crate::types::ReadMode;

/// An operation on key 0 from `from` to `to`.
fn op(from: u64, to: u64, request: Request, slot: u64, outcome: Outcome) -> Operation {
    Operation {
        client: 0,
        key: 0,
        request,
        mode: ReadMode::Linearizable,
        invoked: Instant::from_nanos(from),
        returned: Instant::from_nanos(to),
        slot,
        outcome,
    }
}

fn put(from: u64, to: u64, digest: u64, slot: u64) -> Operation {
    op(from, to, Request::Put { digest }, slot, Outcome::Written { version: slot })
}

fn found(from: u64, to: u64, slot: u64, version: u64, digest: u64) -> Operation {
    op(from, to, Request::Get, slot, Outcome::Found { version, digest })
}

fn unknown(from: u64, to: u64, digest: u64) -> Operation {
    op(from, to, Request::Put { digest }, 0, Outcome::Unknown)
}

fn absent(from: u64, to: u64, slot: u64) -> Operation {
    op(from, to, Request::Get, slot, Outcome::Absent)
}

fn verdict(operations: &[Operation]) -> Result<(), String> {
    let history = History { operations: operations.to_vec(), preloaded_below: 0 };
    history.check().map_err(|violation| violation.what)
}

fn searched(operations: &[Operation]) -> Search {
    search(&operations.iter().collect::<Vec<_>>())
}

fn is_refuted(operations: &[Operation]) -> bool {
    matches!(searched(operations), Search::NotLinearizable { stuck } if !stuck.is_empty())
}

#[test]
fn good_histories_pass() {
    let cas = Request::CompareAndSet { expected: 5, digest: 9 };
    let good = [
        absent(0, 1, 1),
        put(2, 3, 7, 5),
        found(4, 5, 6, 5, 7),
        op(6, 7, cas, 8, Outcome::Written { version: 8 }),
        unknown(8, 20, 11),
        found(21, 22, 9, 9, 11),
        op(23, 24, Request::Delete, 12, Outcome::Written { version: 12 }),
        absent(25, 26, 13),
    ];
    assert_eq!(verdict(&good), Ok(()));
    assert_eq!(searched(&good), Search::Linearizable);
}

#[test]
fn a_lost_write_is_found() {
    let lost = [put(0, 1, 7, 5), absent(2, 3, 6)];
    assert!(verdict(&lost).unwrap_err().contains("lost write"));
    assert!(is_refuted(&lost));
}

#[test]
fn a_stale_read_is_found() {
    let stale = [put(0, 1, 7, 5), put(2, 3, 8, 6), found(4, 5, 7, 5, 7)];
    assert!(verdict(&stale).unwrap_err().contains("stale"));
    assert!(is_refuted(&stale));
    // Also when the answer claims an old slot.
    let old = [put(0, 1, 7, 5), put(2, 3, 8, 6), found(4, 5, 5, 5, 7)];
    assert!(verdict(&old).unwrap_err().contains("served before"));
}

#[test]
fn an_eventual_read_may_be_old_but_not_go_back() {
    let eventual = |mut read: Operation| {
        read.mode = ReadMode::Eventual;
        read
    };
    let other = |mut write: Operation| {
        write.client = 1;
        write
    };
    let writes = vec![other(put(0, 1, 7, 5)), other(put(2, 3, 8, 6))];
    let old = [writes.clone(), vec![eventual(found(4, 5, 5, 5, 7))]].concat();
    assert_eq!(verdict(&old), Ok(()));
    let strong = eventual(found(4, 5, 6, 6, 8));
    let back = [old, vec![strong, eventual(found(6, 7, 5, 5, 7))]].concat();
    assert!(verdict(&back).unwrap_err().contains("back in time"));
    let wrong = [writes, vec![eventual(found(4, 5, 6, 5, 7))]].concat();
    assert!(verdict(&wrong).unwrap_err().contains("stale"));
}

#[test]
fn a_read_of_what_nobody_had_begun_to_write_is_found() {
    let early = |mode: ReadMode| Operation { mode, ..found(0, 1, 6, 5, 7) };
    for mode in [ReadMode::Eventual, ReadMode::Linearizable] {
        let future = [early(mode), put(2, 3, 7, 5)];
        assert!(verdict(&future).is_err(), "{mode:?}");
    }
    let future = [early(ReadMode::Eventual), put(2, 3, 7, 5)];
    assert!(verdict(&future).unwrap_err().contains("before its write began"));
    let meanwhile = [early(ReadMode::Eventual), put(1, 3, 7, 5)];
    assert_eq!(verdict(&meanwhile), Ok(()));
}

#[test]
fn the_order_of_the_lines_does_not_matter() {
    let eventual = |mut read: Operation| {
        read.mode = ReadMode::Eventual;
        read
    };
    let first = put(0, 1, 7, 5);
    let back = [put(2, 3, 8, 6), eventual(found(6, 7, 5, 5, 7))];
    for at in 0..3 {
        for rest in [back.clone(), [back[1].clone(), back[0].clone()]] {
            let mut lines = rest.to_vec();
            lines.insert(at, first.clone());
            assert!(verdict(&lines).unwrap_err().contains("back in time"), "{lines:?}");
        }
    }
    // What was under way at the same time may be newer, whoever is named first.
    let meanwhile = [eventual(found(3, 6, 5, 5, 7)), put(2, 4, 8, 6), first];
    assert_eq!(verdict(&meanwhile), Ok(()));
}

#[test]
fn wrong_bytes_are_found() {
    assert!(verdict(&[put(0, 1, 7, 5), found(2, 3, 6, 5, 8)]).unwrap_err().contains("other bytes"));
    assert!(verdict(&[found(2, 3, 6, 5, 8)]).unwrap_err().contains("never written"));
}

#[test]
fn a_write_applied_twice_is_found() {
    let twice = [unknown(0, 10, 7), found(1, 2, 3, 3, 7), found(5, 6, 7, 6, 7)];
    assert!(verdict(&twice).unwrap_err().contains("never written"));
    let same_slot = [put(0, 1, 7, 5), put(0, 1, 8, 5)];
    assert!(verdict(&same_slot).unwrap_err().contains("one slot"));
}

#[test]
fn a_wrong_compare_and_set_is_found() {
    let request = Request::CompareAndSet { expected: 5, digest: 9 };
    let over = [
        put(0, 1, 7, 5),
        put(2, 3, 8, 6),
        op(4, 5, request.clone(), 7, Outcome::Written { version: 7 }),
    ];
    assert!(verdict(&over).unwrap_err().contains("newer version"));
    let mismatch = [put(0, 1, 7, 5), op(2, 3, request, 6, Outcome::Mismatch { current: 5 })];
    assert!(verdict(&mismatch).unwrap_err().contains("version expected"));
}

#[test]
fn a_compare_and_set_met_a_version_that_was_written() {
    let cas = |from: u64, slot: u64, expected: u64, outcome: Outcome| {
        let request = Request::CompareAndSet { expected, digest: 9 };
        op(from, from + 1, request, slot, outcome)
    };
    let failed = |from, slot, current| cas(from, slot, 1, Outcome::Mismatch { current });
    let done = |from, slot, expected| cas(from, slot, expected, Outcome::Written { version: slot });
    let write = put(0, 1, 7, 5);
    let after = |last: Operation| verdict(&[write.clone(), last]);
    assert_eq!(after(failed(2, 9, 5)), Ok(()));
    for invented in [failed(2, 9, 6), done(2, 9, 6)] {
        assert!(after(invented).unwrap_err().contains("nobody wrote"));
    }
    assert!(after(failed(2, 9, 4)).unwrap_err().contains("nobody wrote"));
    for ahead in [failed(2, 9, 10), done(2, 9, 10), done(2, 9, 9)] {
        assert!(after(ahead).unwrap_err().contains("from after the slot"));
    }
    // Also where the key was found absent before.
    let ahead = [absent(0, 1, 1), done(2, 9, 10)];
    assert!(verdict(&ahead).unwrap_err().contains("from after the slot"));
    // An unanswered write may be what it met: one version, and not one that began later.
    let unanswered = unknown(0, 50, 8);
    let explained = [write.clone(), unanswered.clone(), failed(2, 9, 6), failed(4, 11, 6)];
    assert_eq!(verdict(&explained), Ok(()));
    let twice = [write.clone(), unanswered, failed(2, 9, 6), failed(4, 11, 10)];
    assert!(verdict(&twice).unwrap_err().contains("nobody wrote"));
    let later = [write.clone(), failed(2, 9, 6), unknown(10, 50, 8)];
    assert!(verdict(&later).unwrap_err().contains("nobody wrote"));
    // What it met was there: an older version does not come back.
    let back = [write.clone(), unknown(0, 50, 8), failed(2, 9, 6), found(4, 5, 10, 5, 7)];
    assert!(verdict(&back).unwrap_err().contains("stale"));
    let mut other = put(2, 3, 8, 6);
    other.key = 1;
    let mixed = [write.clone(), other, unknown(0, 50, 8), failed(4, 9, 6)];
    assert!(verdict(&mixed).unwrap_err().contains("another key"));
    let gone = op(2, 3, Request::Delete, 6, Outcome::Written { version: 6 });
    assert!(verdict(&[write, gone, failed(4, 9, 6)]).unwrap_err().contains("of a delete"));
    let history = History { operations: vec![failed(2, 9, 3)], preloaded_below: 10 };
    assert_eq!(history.check(), Ok(()));
}

#[test]
fn the_search_finds_what_slots_would_hide() {
    // Two reads see two concurrent writes in opposite orders.
    let crossed = [
        put(0, 10, 1, 5),
        put(0, 10, 2, 6),
        found(1, 2, 5, 5, 1),
        found(3, 4, 6, 6, 2),
        found(5, 6, 6, 5, 1),
    ];
    assert!(is_refuted(&crossed));
}

#[test]
fn a_version_that_comes_back_after_a_delete_is_found() {
    // The delete itself had no answer.
    let gone = op(2, 3, Request::Delete, 0, Outcome::Unknown);
    let back = [put(0, 1, 7, 5), gone, absent(4, 5, 7), found(6, 7, 8, 5, 7)];
    assert!(verdict(&back).unwrap_err().contains("absent"));
    assert!(is_refuted(&back));
    let request = Request::CompareAndSet { expected: 5, digest: 9 };
    let mut over = back;
    over[3] = op(6, 7, request, 8, Outcome::Written { version: 8 });
    assert!(verdict(&over).unwrap_err().contains("was absent"));
}

#[test]
fn long_and_concurrent_histories_are_searched() {
    // Eight clients write at once over and over; each round's readers agree on one of the writes.
    let mut operations = Vec::new();
    for round in 0..200_u64 {
        let at = round * 100;
        for client in 0..8 {
            operations.push(put(at + client, at + 40, round * 8 + client, round * 10 + client + 1));
        }
        let last = round * 10 + 8;
        operations.push(found(at + 50, at + 60, last, last, round * 8 + 7));
    }
    operations.push(unknown(10, 11, 99_999));
    assert_eq!(verdict(&operations), Ok(()));
    assert_eq!(searched(&operations), Search::Linearizable);
    let end = 200 * 100;
    operations.push(found(end, end + 1, 1999, 1, 0));
    assert!(is_refuted(&operations));
    // An unanswered write may be seen at any time after it began, and once.
    operations.pop();
    operations.push(found(end, end + 1, 1999, 1999, 99_999));
    assert_eq!(searched(&operations), Search::Linearizable);
    operations.push(put(end + 2, end + 3, 5, 2000));
    operations.push(found(end + 4, end + 5, 2001, 2001, 99_999));
    assert!(is_refuted(&operations));
}

/// What the search must agree with: every order of a few operations.
fn is_explained(left: &[Operation], state: Option<u64>) -> bool {
    let is_over = |op: &Operation| op.outcome == Outcome::Unknown;
    if left.iter().all(is_over) {
        return true;
    }
    (0..left.len()).any(|at| {
        let op = &left[at];
        let is_first = left.iter().all(|other| is_over(other) || other.returned >= op.invoked);
        let next = match (&op.request, &op.outcome) {
            (Request::Get, Outcome::Found { digest, .. }) => {
                (state == Some(*digest)).then_some(state)
            }
            (Request::Get, _) => state.is_none().then_some(state),
            (Request::Put { digest } | Request::CompareAndSet { digest, .. }, _) => {
                Some(Some(*digest))
            }
            (Request::Delete, Outcome::Unknown) => Some(None),
            (Request::Delete, _) => state.is_some().then_some(None),
        };
        let mut rest = left.to_vec();
        rest.remove(at);
        is_first && next.is_some_and(|next| is_explained(&rest, next))
    })
}

#[test]
fn the_search_agrees_with_its_naive_twin() {
    let mut rng = crate::rng::Rng::new(11);
    let mut verdicts = [0, 0];
    for _ in 0..6000 {
        let count = rng.range(2, 6);
        let operations: Vec<Operation> = (0..count)
            .map(|_| {
                let from = rng.below(12);
                let to = from + 1 + rng.below(6);
                let digest = rng.below(3);
                match rng.below(6) {
                    0 => put(from, to, digest, 1),
                    1 => unknown(from, to, digest),
                    2 => absent(from, to, 1),
                    3 => op(from, to, Request::Delete, 1, Outcome::Written { version: 1 }),
                    4 => op(from, to, Request::Delete, 0, Outcome::Unknown),
                    _ => found(from, to, 1, 1, digest),
                }
            })
            .collect();
        let is_explained = is_explained(&operations, None);
        verdicts[usize::from(is_explained)] += 1;
        match searched(&operations) {
            Search::Linearizable => assert!(is_explained, "{operations:?}"),
            Search::NotLinearizable { .. } => assert!(!is_explained, "{operations:?}"),
            Search::GaveUp => panic!("gave up on {operations:?}"),
        }
    }
    assert!(verdicts.iter().all(|count| *count > 200), "{verdicts:?}");
}
