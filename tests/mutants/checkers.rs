//! Who speaks in a failure: the checkers outside the machines, by how their complaints begin.
//!
//! Everything that is not in these lists is a machine's own complaint and shows nothing: an assertion
//! that fired, a log that does not open, a node that cannot start.

use std::collections::BTreeSet;

/// The checker that says `what`, as the column "found by" of docs/mutants.md calls it; none for a
/// machine's own complaint.
pub fn checker(what: &str) -> Option<&'static str> {
    let text = what.strip_prefix(COMPARED).unwrap_or(what);
    let begins = |(start, _): &&(&str, &str)| text.starts_with(start);
    if let Some((_, checker)) = NAMED.iter().chain(AGREED).find(begins) {
        return Some(checker);
    }
    if ORDER.iter().any(|start| text.starts_with(start)) {
        return Some("order");
    }
    // These begin with a node, a slot or a number.
    let holds = |(part, _): &&(&str, &str)| text.contains(part);
    AFTER_A_NAME.iter().find(holds).map(|(_, checker)| *checker)
}

/// How an `assert_eq` begins.
const COMPARED: &str = "assertion `left == right` failed: ";

/// The checkers of `paxos/tests`, and of the target `mutants`, begin with their names.
const NAMED: &[(&str, &str)] = &[
    ("agreement: ", "one value per slot"),
    ("lease: ", "lease"),
    ("progress: ", "progress"),
    ("silence: ", "silence"),
    ("reads: ", "confirmed reads"),
    ("durability: ", "what recovery told stays"),
    ("read back: ", "read back"),
    ("exactly once: ", "the reference of results"),
];

/// The simulator's own: the agreed log, the search, the bound on progress.
const AGREED: &[(&str, &str)] = &[
    ("two values in slot", "one value per slot"),
    ("an acknowledged write is lost", "agreed log"),
    ("one write took effect twice", "exactly once"),
    ("a refused write took effect", "agreed log"),
    ("the log has Some(", "agreed log"),
    ("the log has None where ", "agreed log"),
    ("the log has version ", "agreed log"),
    ("a scan found other rows than the log has", "agreed log"),
    ("no linear order explains key", "search"),
    ("no progress: ", "progress"),
    ("no progress with ", "progress"),
];

/// The order check, `src/history/order.rs`: everything that it says.
const ORDER: &[&str] = &[
    "a compare-and-set met a version that nobody wrote",
    "a compare-and-set met the version of a delete",
    "a compare-and-set met the version of another key",
    "a compare-and-set took effect on a deleted key",
    "a compare-and-set took effect on a key that was absent",
    "a compare-and-set took effect over a newer version",
    "a key is absent that was written: a lost write",
    "a mismatch with the version expected",
    "a read returned a value that was never written there",
    "a read returned a value before its write began",
    "a read returned other bytes than were written",
    "a read was answered as a write",
    "a stale version, or a lost write",
    "a version from after the slot it was served at",
    "a write was served at another slot",
    "an eventual read went back in time",
    "an older version is back after the key was found absent",
    "an operation was served before one that had ended",
    "one version was read with different bytes",
    "two writes took effect at one slot",
];

/// What the simulator's say after the name of a node, a slot or a request.
const AFTER_A_NAME: &[(&str, &str)] = &[
    (" took effect twice, at ", "exactly once"),
    (" did Some(Execution", "equal states"),
    (" did None on ", "equal states"),
    (" is in another state after ", "equal states"),
    (" as chosen where ", "what was chosen is told"),
    (" of its ", "enough shards"),
    (" and are not in the same state", "equal states"),
    (": above the bound on storage, ", "the bound on storage"),
    (" leads, and has lost its data directory", "who lost its directory is nobody"),
    (", which has lost its data directory", "who lost its directory is nobody"),
    (" says again and again that it is refused", "who lost its directory is nobody"),
];

#[test]
fn what_a_machine_says_itself_is_of_no_checker() {
    for inside in [
        "n1 cannot open its log: the disk failed",
        "n1 cannot start: a header that is no command",
        "n2: slot 7 is damaged",
        "a new disk gave up",
        "the log has stopped after an earlier write or sync failed: restart the node",
        "assertion failed: slots are applied in order",
    ] {
        assert_eq!(checker(inside), None, "{inside}");
    }
    assert_eq!(checker("assertion `left == right` failed: lease: its holder"), Some("lease"));
    assert_eq!(checker("n1 is in another state after s7 than n2"), Some("equal states"));
}

/// All texts of that source, and no others.
#[test]
fn the_texts_of_the_order_check_are_those_listed() {
    let source = include_str!("../../src/history/order.rs");
    let (checks, _) = source.split_once("pub(super) fn violation(").expect("it is there");
    let code: Vec<&str> =
        checks.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let said: BTreeSet<&str> = code.split('"').skip(1).step_by(2).collect();
    assert_eq!(said, ORDER.iter().copied().collect());
}
