//! Records survive replacement of a field, and foreign bytes are refused.

use super::super::properties::Properties;
use super::*;

fn records(text: &str, is_stamped: bool, seed: u64) -> Records {
    let text = format!("recordcount=10\n{text}");
    let properties = Properties::parse("w", &text).unwrap();
    let (workload, _) = Workload::from_properties(&properties).unwrap();
    Records::new(&workload, is_stamped, Rng::new(seed))
}

#[test]
fn one_field_is_replaced_and_the_others_kept() {
    let mut records = records("fieldlengthdistribution=uniform\nfieldlength=300", false, 1);
    let old = records.whole(b"user1");
    for index in 0..10 {
        let new = records.replace_field(b"user1", &old, index).unwrap();
        for at in (0..10).filter(|at| *at != index) {
            assert_eq!(records.field(&new, at), records.field(&old, at));
        }
        assert_ne!(records.field(&new, index), records.field(&old, index));
    }
}

#[test]
fn lengths_are_exact() {
    let mut raw = records("fieldcount=1\nfieldlength=1024\ndistkv.record=raw", false, 1);
    assert_eq!(raw.whole(b"user1").len(), 1024);
    let mut fields = records("", false, 1);
    // Ten fields of "fieldN" and 100 bytes, each with two length bytes, behind the count.
    assert_eq!(fields.whole(b"user1").len(), 1 + 10 * (1 + 6 + 1 + 100));
}

#[test]
fn raw_values_share_the_pool() {
    let mut records = records("fieldcount=1\nfieldlength=65536\ndistkv.record=raw", false, 1);
    let pool = records.pool.as_ptr_range();
    assert!(pool.contains(&records.whole(b"user1").as_ptr()));
}

#[test]
fn stamped_values_are_all_different() {
    let mut records = records("fieldcount=1\nfieldlength=8\ndistkv.record=raw", true, 1);
    let values: std::collections::BTreeSet<Bytes> =
        (0..1000).map(|_| records.whole(b"user1")).collect();
    assert_eq!(values.len(), 1000);
}

#[test]
fn integrity_holds_across_seeds_and_finds_a_flipped_bit() {
    for text in [
        "dataintegrity=true",
        "dataintegrity=true\nfieldcount=1\ndistkv.record=raw",
        "dataintegrity=true\nfieldlengthdistribution=uniform\nminfieldlength=20",
        "dataintegrity=true\ndistkv.compressible=.3",
    ] {
        let value = records(text, false, 1).whole(b"user1");
        let mut other = records(text, false, 2);
        assert!(other.is_intact(b"user1", &value));
        assert!(!other.is_intact(b"user2", &value));
        let mut flipped = value.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(!other.is_intact(b"user1", &flipped));
        let replaced = other.replace_field(b"user1", &value, 0).unwrap();
        assert_eq!(replaced, value);
    }
}

#[test]
fn foreign_bytes_are_refused() {
    let mut records = records("", false, 1);
    let good = records.whole(b"user1");
    for end in 0..good.len() {
        let cut = good.slice(..end);
        assert_eq!(records.replace_field(b"user1", &cut, 0), Err(RecordError), "{end}");
    }
    let mut long = good.to_vec();
    long.push(0);
    assert!(records.replace_field(b"user1", &Bytes::from(long), 3).is_err());
    assert!(records.field(&[0xff; 40], 0).is_err());
}

#[test]
fn values_do_not_compress() {
    let mut records = records("fieldcount=1\nfieldlength=65536\ndistkv.record=raw", false, 1);
    let value = records.whole(b"user1");
    let mut counts = [0_u32; 256];
    value.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    assert!(counts.iter().all(|count| (150..400).contains(count)), "{counts:?}");
}

#[test]
fn compressible_values_have_their_share_of_zeros_wherever_they_are_cut() {
    for (share, length) in [(0.0, 4096), (0.5, 4096), (0.25, 500), (0.9, 100_000)] {
        let text = format!(
            "fieldcount=1\nfieldlength={length}\ndistkv.record=raw\ndistkv.compressible={share}"
        );
        let mut records = records(&text, false, 3);
        for _ in 0..20 {
            let value = records.whole(b"user1");
            let zeros = value.iter().filter(|byte| **byte == 0).count() as f64;
            assert!((zeros / length as f64 - share).abs() < 0.06, "{share} of {length}: {zeros}");
        }
    }
}
