//! The checkers are shown histories that are wrong in one way each.

use super::history::{History, Operation, Outcome, Request};
use super::linear::{Search, search};
use super::{Plant, run};
use crate::kv::ReadMode;
use crate::time::Instant;

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
    let history = History { operations: operations.to_vec() };
    history.check().map_err(|violation| violation.what)
}

fn searched(operations: &[Operation]) -> Search {
    search(&operations.iter().collect::<Vec<_>>())
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
    assert_eq!(searched(&lost), Search::NotLinearizable);
}

#[test]
fn a_stale_read_is_found() {
    let stale = [put(0, 1, 7, 5), put(2, 3, 8, 6), found(4, 5, 7, 5, 7)];
    assert!(verdict(&stale).unwrap_err().contains("stale"));
    assert_eq!(searched(&stale), Search::NotLinearizable);
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
    let writes = [other(put(0, 1, 7, 5)), other(put(2, 3, 8, 6))];
    let old = [writes.clone().to_vec(), vec![eventual(found(4, 5, 5, 5, 7))]].concat();
    assert_eq!(verdict(&old), Ok(()));
    let strong = eventual(found(4, 5, 6, 6, 8));
    let back = [old, vec![strong, eventual(found(6, 7, 5, 5, 7))]].concat();
    assert!(verdict(&back).unwrap_err().contains("back in time"));
    let wrong = [writes.to_vec(), vec![eventual(found(4, 5, 6, 5, 7))]].concat();
    assert!(verdict(&wrong).unwrap_err().contains("stale"));
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
fn the_search_finds_what_slots_would_hide() {
    // Two reads see two concurrent writes in opposite orders.
    let crossed = [
        put(0, 10, 1, 5),
        put(0, 10, 2, 6),
        found(1, 2, 5, 5, 1),
        found(3, 4, 6, 6, 2),
        found(5, 6, 6, 5, 1),
    ];
    assert_eq!(searched(&crossed), Search::NotLinearizable);
}

#[test]
fn one_seed_twice_is_the_same_run() {
    for seed in [3, 4] {
        let first = run(seed, Plant::None, None).unwrap_or_else(|failure| panic!("{failure:?}"));
        let second = run(seed, Plant::None, Some(Box::new(|_| {})))
            .unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(first.trace_hash, second.trace_hash);
        assert!(first.operations.values().sum::<u64>() >= 200);
        assert!(first.faults.values().sum::<u64>() >= 5);
    }
}
