//! `distkv check` on histories that are good, wrong in one way each, or no histories.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use distkv::config::{ClusterConfig, Policy};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::types::Code;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One operation of client 0 on key `a`; the end of a line adds to it or overrides nothing.
fn line(op: &str, from: u64, to: u64, rest: &str) -> String {
    format!(r#"{{"client":0,"op":"{op}","key":"a","invoke_ns":{from},"return_ns":{to},{rest}}}"#)
}

fn put(from: u64, to: u64, digest: &str, slot: u64) -> String {
    let rest =
        format!(r#""value_digest":"{digest}","version":{slot},"slot":{slot},"outcome":"ok""#);
    line("put", from, to, &rest)
}

fn unknown_put(from: u64, digest: &str) -> String {
    let line = put(from, from, digest, 0).replace(r#""version":0,"slot":0,"#, "");
    let line = line.replace(r#""ok""#, r#""unknown""#);
    line.replace(&format!(r#""return_ns":{from}"#), r#""return_ns":null"#)
}

fn get(from: u64, to: u64, digest: &str, version: u64, slot: u64) -> String {
    let rest =
        format!(r#""value_digest":"{digest}","version":{version},"slot":{slot},"outcome":"ok""#);
    line("get", from, to, &rest)
}

fn absent(op: &str, from: u64, to: u64, slot: u64) -> String {
    let rest = format!(r#""value_digest":null,"version":null,"slot":{slot},"outcome":"ok""#);
    line(op, from, to, &rest)
}

fn cas(from: u64, to: u64, expected: u64, digest: &str, rest: &str) -> String {
    let rest = format!(r#""expected":{expected},"value_digest":"{digest}",{rest}"#);
    line("cas", from, to, &rest)
}

/// A line without its slot.
fn slotless(line: &str) -> String {
    let from = line.find(r#""slot":"#).unwrap();
    let to = from + line[from..].find(',').unwrap() + 1;
    format!("{}{}", &line[..from], &line[to..])
}

fn eventual(line: &str) -> String {
    line.replacen('{', r#"{"mode":"eventual","#, 1)
}

/// Exit code and all output of `distkv check` on files with these lines.
fn checked(options: &[&str], files: &[&[String]]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (index, lines) in files.iter().enumerate() {
        let path = dir.path().join(format!("h{index}.jsonl"));
        std::fs::write(&path, lines.join("\n")).unwrap();
        paths.push(path);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_distkv"));
    let output = command.arg("check").args(options).args(&paths).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn refuted(lines: &[String], what: &str) -> String {
    let (code, text) = checked(&[], &[lines]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("key 'a'") && text.contains(what), "{text}");
    text
}

#[track_caller]
fn unreadable(lines: &[String], what: &str) {
    let (code, text) = checked(&[], &[lines]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("h0.jsonl") && text.contains(what), "{text}");
}

fn good() -> Vec<String> {
    vec![
        absent("get", 0, 1, 1),
        put(2, 3, "x", 5),
        get(4, 5, "x", 5, 6),
        cas(6, 7, 5, "y", r#""version":8,"slot":8,"outcome":"ok""#),
        cas(8, 9, 5, "z", r#""version":8,"slot":9,"outcome":"fail""#),
        unknown_put(10, "w"),
        get(20, 21, "w", 11, 12),
        line("delete", 22, 23, r#""version":13,"slot":13,"outcome":"ok""#),
        absent("delete", 24, 25, 14),
        put(26, 27, "v", 15)
            .replace(r#""ok""#, r#""fail""#)
            .replace(r#""version":15"#, r#""version":null"#),
        absent("get", 28, 29, 16),
        line("scan", 30, 31, r#""value_digest":null,"version":null,"outcome":"ok""#),
    ]
}

#[test]
fn a_good_history_is_consistent() {
    let (code, text) = checked(&[], &[&good()]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("consistent: 11 operations on 1 keys; 1 without an answer; 1 scans"));
    // In two files, in any order, the clients of each its own.
    let lines = good();
    let (code, text) = checked(&[], &[&lines[6..], &lines[..6]]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn unknown_fields_and_empty_lines_are_ignored() {
    let mut lines = good();
    lines[1] = lines[1].replacen('{', r#"{"node":"n3","extra":{"a":[1]},"#, 1);
    lines.insert(1, String::new());
    let (code, text) = checked(&[], &[&lines]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_lost_write_is_shown_with_its_lines() {
    let text = refuted(&[put(0, 1, "x", 5), absent("get", 2, 3, 6)], "lost write");
    assert!(text.contains("h0.jsonl:1: client 0 'a' put x: done as version 5 at slot 5"), "{text}");
    assert!(text.contains("h0.jsonl:2: client 0 'a' get: found nothing at slot 6"), "{text}");
}

#[test]
fn a_stale_read_is_found_with_and_without_slots() {
    let stale = [put(0, 1, "x", 5), put(2, 3, "y", 6), get(4, 5, "x", 5, 7)];
    refuted(&stale, "stale");
    let slotless = stale.each_ref().map(|line| slotless(line));
    let text = refuted(&slotless, "none of these can come next");
    assert!(text.contains("h0.jsonl:3: "), "{text}");
}

#[test]
fn a_write_applied_twice_is_found() {
    let twice =
        [unknown_put(0, "x"), get(1, 2, "x", 3, 3), put(3, 4, "y", 4), get(5, 6, "x", 5, 6)];
    refuted(&twice, "never written");
    let (code, text) = checked(&["--preloaded"], &[&twice]);
    assert_eq!(code, 1, "{text}");
}

#[test]
fn wrong_compare_and_sets_are_found() {
    let done = r#""version":7,"slot":7,"outcome":"ok""#;
    let over = [put(0, 1, "x", 5), put(2, 3, "y", 6), cas(4, 5, 5, "z", done)];
    refuted(&over, "over a newer version");
    let failed = cas(2, 3, 5, "z", r#""version":5,"slot":6,"outcome":"fail""#);
    refuted(&[put(0, 1, "x", 5), failed], "mismatch with the version expected");
    let failed = cas(2, 3, 2, "z", r#""version":7,"slot":9,"outcome":"fail""#);
    refuted(&[put(0, 1, "x", 5), failed.clone()], "a version that nobody wrote");
    // One that failed at no slot that is known explains nothing.
    let read = get(4, 5, "z", 9, 10);
    refuted(&[put(0, 1, "x", 5), slotless(&failed), read], "never written");
}

#[test]
fn a_store_that_was_loaded_before_has_first_versions() {
    let lines = [get(0, 1, "x", 5, 9), put(2, 3, "y", 10), get(4, 5, "y", 10, 10)];
    let (code, text) = checked(&[], &[&lines]);
    assert!(code == 1 && text.contains("--preloaded"), "{text}");
    assert_eq!(checked(&["--preloaded"], &[&lines]).0, 0);
    let back = [lines[0].clone(), lines[1].clone(), get(4, 5, "x", 5, 11)];
    assert_eq!(checked(&["--preloaded"], &[&back]).0, 1);
    // What was there before may be written again.
    let again = put(4, 5, "x", 11);
    let lines = [lines[0].clone(), lines[1].clone(), again, get(6, 7, "x", 11, 12)];
    let (code, text) = checked(&["--preloaded"], &[&lines]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn eventual_reads_may_be_old_but_never_go_back() {
    let writes = [put(0, 1, "x", 5), put(2, 3, "y", 6)];
    let old = eventual(&get(4, 5, "x", 5, 5));
    let (code, text) = checked(&[], &[&writes, std::slice::from_ref(&old)]);
    assert_eq!(code, 0, "{text}");
    // The client that wrote sees at least its own writes.
    let old = [writes[0].clone(), writes[1].clone(), old];
    refuted(&old, "went back");
    assert!(text.contains("1 eventual reads"), "{text}");
    let newer = eventual(&get(4, 5, "y", 6, 6));
    let back = [old[0].clone(), old[1].clone(), newer, eventual(&get(6, 7, "x", 5, 5))];
    refuted(&back, "went back");
    // Another client, in another file, may be behind.
    assert_eq!(checked(&[], &[&back[..3], &back[3..]]).0, 0);
    let gone = [back[0].clone(), back[1].clone(), back[2].clone(), absent("get", 6, 7, 3)];
    let gone = [gone[0].clone(), gone[1].clone(), gone[2].clone(), eventual(&gone[3])];
    refuted(&gone, "went back");
    refuted(&[eventual(&get(0, 1, "x", 5, 5))], "never written");
    // In whatever order the lines are.
    let swapped = [eventual(&get(6, 7, "x", 5, 5)), writes[1].clone(), writes[0].clone()];
    refuted(&swapped, "went back");
    // A scan and a get, either first.
    let by_scan = |from, slot, row| eventual(&scan(from, from + 1, slot, &[row]));
    let other = |line: String| line.replace(r#""client":0"#, r#""client":1"#);
    let (new, old) = (("a", 6, "y"), ("a", 5, "x"));
    let back = [by_scan(4, 6, new), other(eventual(&get(6, 7, "x", 5, 5)))];
    refuted(&[&writes[..], &back].concat(), "went back");
    let back = [other(eventual(&get(4, 5, "y", 6, 6))), by_scan(6, 5, old)];
    refuted(&[&writes[..], &back].concat(), "went back");
    refuted(&[&writes[..], &[by_scan(4, 6, new), by_scan(6, 5, old)]].concat(), "went back");
}

#[test]
fn what_is_no_history_is_named_by_file_and_line() {
    let whole = good();
    let mut cut = whole.clone();
    let last = cut.len() - 1;
    cut[last].truncate(40);
    unreadable(&cut, &format!("line {}: cut off", last + 1));
    let with = |text: &str| vec![whole[0].clone(), text.to_owned(), whole[1].clone()];
    unreadable(&with("what is this"), "line 2");
    unreadable(&with(&whole[1].replace("put", "pat")), "line 2");
    unreadable(&with(&whole[1].replace(r#""value_digest":"x","#, "")), "'value_digest'");
    unreadable(&with(&whole[3].replace(r#""expected":5,"#, "")), "'expected'");
    unreadable(&with(&put(9, 3, "x", 5)), "before invoke_ns");
    unreadable(&with(&put(2, 3, "x", 5).replace(r#""slot":5"#, r#""slot":6"#)), "slot = 6");
    let output = Command::new(env!("CARGO_BIN_EXE_distkv"))
        .args(["check", "nowhere.jsonl"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn what_the_bench_records_on_a_cluster_is_consistent() {
    let program = env!("CARGO_BIN_EXE_distkv");
    let dir = tempfile::tempdir().unwrap();
    let code = Code::new(2, 1).unwrap();
    let members = loopback_members(3, None).unwrap();
    let config = ClusterConfig::new(0xC4EC, Policy::Craft, code, members).unwrap();
    let mut cluster = LocalCluster::start(Path::new(program), config, dir.path()).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    let history = dir.path().join("h.jsonl");
    let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloada");
    let output = Command::new(program)
        .args(["bench", "-P", workload, "-p", "recordcount=50", "--clients", "8"])
        .args(["--operations", "1000", "--cluster"])
        .arg(cluster.cluster_file())
        .arg("--history")
        .arg(&history)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = Command::new(program).arg("check").arg(&history).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    // Load and run are on one clock, every answer has its slot, and no key was too busy to search.
    assert!(output.status.success() && text.contains("on 50 keys\n"), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

#[test]
fn an_answer_from_before_the_first_slot_has_a_slot() {
    let late = [put(0, 1, "x", 5), absent("get", 2, 3, 0)];
    refuted(&late, "served before one that had ended");
    assert_eq!(checked(&[], &[&[absent("get", 0, 1, 0), put(2, 3, "x", 5)]]).0, 0);
}

/// A scan from `a` by another client, with rows of (key, version, digest).
fn scan(from: u64, to: u64, slot: u64, rows: &[(&str, u64, &str)]) -> String {
    let row = |(key, version, digest): &(&str, u64, &str)| {
        format!(r#"{{"key":"{key}","version":{version},"value_digest":"{digest}"}}"#)
    };
    let rows = rows.iter().map(row).collect::<Vec<_>>().join(",");
    let rest = format!(r#""slot":{slot},"rows":[{rows}],"outcome":"ok""#);
    line("scan", from, to, &rest).replace(r#""client":0"#, r#""client":1"#)
}

#[test]
fn a_scan_is_a_read_of_every_key_it_covers() {
    let at = |line: String, key: &str| line.replace(r#""key":"a""#, &format!(r#""key":"{key}""#));
    let writes = [
        put(0, 10, "one", 1),
        at(put(11, 20, "two", 2), "b"),
        put(21, 30, "three", 3),
        at(put(31, 40, "four", 4), "c"),
    ];
    let with = |scan: String| [&writes[..], &[scan]].concat();
    let good = scan(50, 60, 4, &[("a", 3, "three"), ("b", 2, "two"), ("c", 4, "four")]);
    let (code, text) = checked(&[], &[&with(good)]);
    assert!(code == 0 && text.contains("1 scans, each a read of every key"), "{text}");
    // Ended early: of what lies behind its last row it says nothing.
    let early = scan(50, 60, 4, &[("a", 3, "three")]);
    assert_eq!(checked(&[], &[&with(early)]).0, 0);
    let stale = scan(50, 60, 4, &[("a", 1, "one"), ("b", 2, "two")]);
    let text = refuted(&with(stale), "");
    assert!(text.contains("h0.jsonl:5"), "names the line: {text}");
    let (code, text) =
        checked(&[], &[&with(scan(50, 60, 4, &[("a", 3, "three"), ("c", 4, "four")]))]);
    assert!(code == 1 && text.contains("key 'b'"), "a missing row: {text}");
    assert!(text.contains("h0.jsonl:5"), "names the line: {text}");
    let (code, text) = checked(&[], &[&with(scan(50, 60, 4, &[]))]);
    assert!(code == 1 && text.contains("h0.jsonl:5"), "no row at all: {text}");
    let behind = scan(50, 60, 4, &[]).replace(r#""key":"a""#, r#""key":"d""#);
    assert_eq!(checked(&[], &[&with(behind)]).0, 0);
    // Without believing slots, too.
    let slotless = slotless(&scan(50, 60, 4, &[("a", 1, "one")]));
    refuted(&with(slotless), "no linear order");
    let back = eventual(&scan(50, 60, 2, &[("a", 1, "one"), ("b", 2, "two")]));
    let (code, text) = checked(&[], &[&with(back)]);
    assert!(code == 0, "an eventual scan may be old: {text}");
    let (code, text) = checked(&[], &[&with(line("scan", 50, 60, r#""outcome":"ok""#))]);
    assert!(code == 0 && text.contains("1 scans without rows"), "{text}");
}

#[test]
fn rows_that_make_no_sense_are_named_by_file_and_line() {
    let good = scan(5, 6, 4, &[("a", 3, "x"), ("b", 4, "y")]);
    let bad = |from: &str, to: &str, what: &str| {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        let lines = [put(0, 1, "x", 3), put(2, 3, "y", 4), bad];
        unreadable(&lines, "line 3");
        unreadable(&lines, what);
    };
    bad(r#""key":"b""#, r#""key":"a""#, "must ascend");
    bad(r#""key":"b""#, r#""key":"B""#, "must ascend");
    bad(r#""version":4,"#, "", "missing field `version`");
    bad(r#""version":4,"#, r#""version":-4,"#, "invalid value");
    bad(r#","value_digest":"y""#, "", "missing field `value_digest`");
    bad(r#""rows":[{"#, r#""rows":[7,{"#, "expected struct LineRow");
}
