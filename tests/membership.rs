//! Members of real clusters come and go: killed, wiped, refused, replaced, grown and shrunk, all
//! through the commands that an operator has.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used, missing_docs)]

use distkv::client::Client;
use distkv::config::{ClusterConfig, Policy};
use distkv::kv::{NodeStatus, Role, Standing};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::types::{Bytes, Code, NodeId};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_distkv");
/// From a kill, or a change, until it is seen.
const LIMIT: Duration = Duration::from_secs(60);

fn start(dir: &Path, policy: Policy, code: (u8, u8)) -> LocalCluster {
    let members = loopback_members(code.0 + code.1, None).unwrap();
    let code = Code::new(code.0, code.1).unwrap();
    let config = ClusterConfig::new(0x3E3B, policy, code, members).unwrap();
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir).unwrap();
    cluster.wait_for_leader(LIMIT).unwrap();
    cluster
}

fn admin(cluster: &LocalCluster, arguments: &[&str]) -> Output {
    let file = cluster.cluster_file();
    let mut command = Command::new(PROGRAM);
    command.arg("admin").arg("--cluster").arg(file).args(["--timeout", "30"]).args(arguments);
    command.output().unwrap()
}

fn done(cluster: &LocalCluster, arguments: &[&str]) -> String {
    let output = admin(cluster, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    text
}

fn value(index: u32) -> Bytes {
    Bytes::from(vec![index.to_le_bytes()[0]; 5000 + index as usize])
}

fn write(client: &mut Client, keys: std::ops::Range<u32>) {
    for index in keys {
        client.put(format!("key-{index}").as_bytes(), value(index)).unwrap();
    }
}

fn check(client: &mut Client, keys: std::ops::Range<u32>) {
    for index in keys {
        let (_, found) = client.get(format!("key-{index}").as_bytes()).unwrap().unwrap();
        assert_eq!(found, value(index), "key {index}");
    }
}

/// Waits until `find` finds something among the statuses of all who answer.
fn await_found<T>(client: &mut Client, what: &str, find: impl Fn(&[NodeStatus]) -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        let statuses = client.statuses().unwrap().into_iter();
        let known: Vec<NodeStatus> = statuses.filter_map(|(_, status)| status).collect();
        if let Some(found) = find(&known) {
            return found;
        }
        assert!(Instant::now() < end, "{what}: {known:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the status of `node` is as wanted.
fn await_status(client: &mut Client, node: u8, is_wanted: impl Fn(&NodeStatus) -> bool) {
    await_found(client, &format!("n{node} never was as wanted"), |known| {
        known.iter().find(|status| status.node == node && is_wanted(status)).map(|_| ())
    });
}

/// The one that leads by the highest ballot.
fn leader_of(client: &mut Client) -> NodeStatus {
    await_found(client, "nobody leads", |known| {
        let leaders = known.iter().filter(|status| status.role == Role::Leader);
        leaders.max_by_key(|status| status.ballot).cloned()
    })
}

#[test]
fn policies_change_and_leadership_is_handed_over_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Replicate, (1, 4));
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(30)).unwrap();
    let is_over = AtomicBool::new(false);
    let (written, old, next) = std::thread::scope(|scope| {
        let load = scope.spawn(|| write_from(LOAD_KEYS, &config, &is_over));
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            change_policies(&cluster, &mut client);
            hand_over(&cluster, &mut client)
        }));
        is_over.store(true, Ordering::Relaxed);
        let end = load.join().unwrap();
        let (old, next) = changed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (end, old, next)
    });
    println!("{} values were written meanwhile", written - LOAD_KEYS);
    assert!(written >= LOAD_KEYS + 20, "writes went on during the changes");

    // Values of all three codes, without their leader and one more.
    for node in [next, old] {
        cluster.kill(NodeId(node)).unwrap();
    }
    check(&mut client, 0..60);
    check(&mut client, LOAD_KEYS..written);
    write(&mut client, 60..70);
    check(&mut client, 60..70);
}

/// Behind all keys that a test writes itself.
const LOAD_KEYS: u32 = 1000;

/// Writes one key after the other until it is over; gives the first that was not written.
fn write_from(first: u32, config: &Arc<ClusterConfig>, is_over: &AtomicBool) -> u32 {
    let mut client = Client::new(config, Duration::from_secs(30)).unwrap();
    let mut next = first;
    while !is_over.load(Ordering::Relaxed) {
        write(&mut client, next..next + 1);
        next += 1;
    }
    next
}

/// From replicate through every policy to hybrid; ten values or twenty under each.
fn change_policies(cluster: &LocalCluster, client: &mut Client) {
    write(client, 0..10);
    for (next, policy) in [(10, "rs-paxos"), (20, "craft"), (30, "crossword")] {
        let text = done(cluster, &["policy", policy, "--code", "3+2"]);
        let told = format!("policy {policy} with code 3+2 from slot ");
        assert!(text.starts_with(&told), "{text}");
        write(client, next..next + 10);
    }
    let refused = admin(cluster, &["policy", "craft", "--code", "4+2"]);
    assert!(!refused.status.success(), "no code for five nodes");
    // Copies of the next ten values, shards of those behind them.
    done(cluster, &["policy", "hybrid", "--code", "3+2", "--hybrid-bytes", "5050"]);
    write(client, 40..60);
}

/// Hands the leadership over; gives who led and who leads, as `distkv status --json` tells it.
fn hand_over(cluster: &LocalCluster, client: &mut Client) -> (u8, u8) {
    let old = leader_of(client).node;
    let next = (old + 1) % 5;
    done(cluster, &["transfer", &next.to_string()]);
    await_status(client, next, |status| status.role == Role::Leader);
    let end = Instant::now() + LIMIT;
    loop {
        let told = status_json(cluster);
        let of = |field: &str, node: &serde_json::Value| node[field].as_str().map(str::to_owned);
        let leaders: Vec<&serde_json::Value> =
            told.iter().filter(|node| of("role", node).as_deref() == Some("leader")).collect();
        // The one before may not have heard of it yet.
        if told.len() == 5 && leaders.len() == 1 && leaders[0]["node"] == next {
            assert_eq!(of("policy", leaders[0]).as_deref(), Some("hybrid"), "{told:?}");
            return (old, next);
        }
        assert!(Instant::now() < end, "n{next} does not lead alone: {told:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn status_json(cluster: &LocalCluster) -> Vec<serde_json::Value> {
    let mut command = Command::new(PROGRAM);
    command.args(["status", "--json", "--cluster"]).arg(cluster.cluster_file());
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_wiped_node_is_refused_and_replaced_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Craft, (2, 1));
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(20)).unwrap();
    write(&mut client, 0..60);
    // Killed, wiped, started again: the same id is not the same node.
    cluster.kill(NodeId(2)).unwrap();
    std::fs::remove_dir_all(cluster.data_dir(NodeId(2))).unwrap();
    cluster.start_node(NodeId(2)).unwrap();
    await_status(&mut client, 2, |status| status.refused_by.len() == 2 && status.applied.0 == 0);
    let log = std::fs::read_to_string(cluster.log_file(NodeId(2))).unwrap();
    assert!(log.contains("replace-node --old 2"), "{log}");
    let shown = Command::new(PROGRAM)
        .args(["status", "--cluster"])
        .arg(cluster.cluster_file())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).contains("n2 is refused by n0, n1"));
    // Replaced while clients write.
    let address = cluster.start_newcomer(NodeId(5)).unwrap().to_string();
    let is_over = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let load = scope.spawn(|| write_from(60, &config, &is_over));
        let text =
            done(&cluster, &["replace-node", "--old", "2", "--new", "5", "--address", &address]);
        assert!(text.contains("done; the members are n0"), "{text}");
        std::thread::sleep(Duration::from_millis(300));
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(written > 60, "nothing was written meanwhile");
    let again = admin(&cluster, &["add-node", "--id", "2", "--address", "127.0.0.1:1"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("never used twice"));
    // The newcomer counts: a different node goes, and everything is there.
    cluster.kill(NodeId(2)).unwrap();
    cluster.kill(NodeId(0)).unwrap();
    let mut client = Client::new(&config, Duration::from_secs(30)).unwrap();
    check(&mut client, 0..written);
    write(&mut client, written..written + 10);
    cluster.start_node(NodeId(0)).unwrap();
    cluster.kill(NodeId(1)).unwrap();
    check(&mut client, 0..written + 10);
}

#[test]
fn a_cluster_grows_from_three_to_five_and_shrinks_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Craft, (2, 1));
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(30)).unwrap();
    write(&mut client, 0..20);
    for (id, code) in [(3_u8, "2+2"), (4, "2+3")] {
        let address = cluster.start_newcomer(NodeId(id)).unwrap().to_string();
        let id = id.to_string();
        done(&cluster, &["add-node", "--id", &id, "--address", &address, "--code", code]);
        write(&mut client, 20..40);
    }
    // A policy is of the members of now, not of the cluster file's.
    let text = done(&cluster, &["policy", "hybrid", "--code", "2+3"]);
    assert!(text.contains("policy hybrid with code 2+3"), "{text}");
    // Five nodes: two may go.
    cluster.kill(NodeId(0)).unwrap();
    cluster.kill(NodeId(1)).unwrap();
    check(&mut client, 0..40);
    write(&mut client, 40..60);
    cluster.start_node(NodeId(0)).unwrap();
    cluster.start_node(NodeId(1)).unwrap();
    for (id, code) in [(0_u8, "2+2"), (1, "2+1")] {
        let text = id.to_string();
        done(&cluster, &["remove-node", "--id", &text, "--code", code]);
        await_status(&mut client, id, |status| status.standing == Standing::Removed);
        cluster.kill(NodeId(id)).unwrap();
        write(&mut client, 60..70);
    }
    // A client that knows the first cluster file only, of whose nodes one is left.
    let mut client = Client::new(&config, Duration::from_secs(30)).unwrap();
    check(&mut client, 0..70);
    cluster.kill(NodeId(2)).unwrap();
    check(&mut client, 0..70);
    write(&mut client, 70..75);
}

#[test]
fn a_newcomer_that_never_comes_up_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path(), Policy::Craft, (2, 1));
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(20)).unwrap();
    write(&mut client, 0..5);
    let free = loopback_members(1, None).unwrap()[0].address.to_string();
    done(&cluster, &["add-node", "--id", "7", "--address", &free, "--no-wait"]);
    let second = admin(&cluster, &["remove-node", "--id", "1"]);
    let errors = String::from_utf8_lossy(&second.stderr);
    assert!(errors.contains("cancel-change"), "{errors}");
    write(&mut client, 5..10);
    let text = done(&cluster, &["cancel-change"]);
    assert!(text.contains("the id 7 is spent"), "{text}");
    let refused = admin(&cluster, &["remove-node", "--id", "1", "--code", "2+0"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(errors.contains("k <= F + 1"), "{errors}");
    check(&mut client, 0..10);
}

#[test]
fn a_node_is_replaced_while_the_leadership_changes_hands_and_its_holder_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Craft, (3, 2));
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(30)).unwrap();
    write(&mut client, 0..40);
    let first = leader_of(&mut client).node;
    let [old, second, _] = [1, 2, 3].map(|step| (first + step) % 5);
    cluster.kill(NodeId(old)).unwrap();
    // The newcomer is known and holds nothing yet: it lies still until both have led.
    let address = cluster.start_newcomer(NodeId(5)).unwrap().to_string();
    cluster.kill(NodeId(5)).unwrap();
    let asked = ["replace-node", "--old", &old.to_string(), "--new", "5", "--address", &address];
    let file = cluster.cluster_file();
    let mut watching = Command::new(PROGRAM)
        .arg("admin")
        .arg("--cluster")
        .arg(&file)
        .args(["--timeout", "30"])
        .args(asked)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    await_found(&mut client, "the change never began", |known| {
        known.iter().find(|status| status.change.is_some()).map(|_| ())
    });
    done(&cluster, &["transfer", &second.to_string()]);
    await_status(&mut client, second, |status| status.role == Role::Leader);
    assert!(leader_of(&mut client).change.is_some(), "the next leader goes on with it");
    write(&mut client, 40..60);
    cluster.kill(NodeId(second)).unwrap();
    // Two of five are gone: three must hold everything, and lead.
    write(&mut client, 60..70);
    assert!(leader_of(&mut client).change.is_some());
    cluster.start_node(NodeId(second)).unwrap();
    cluster.start_node(NodeId(5)).unwrap();
    let status = watching.wait().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut watching.stdout.take().unwrap(), &mut text).unwrap();
    assert!(status.success() && text.contains("done; the members are"), "{text}");
    let leader = leader_of(&mut client);
    let members: Vec<u8> = leader.members.iter().map(|member| member.node).collect();
    assert!(members.contains(&5) && !members.contains(&old), "{members:?}");
    // The newcomer counts: two others go, and everything is there.
    let gone = [first, second];
    for node in gone {
        cluster.kill(NodeId(node)).unwrap();
    }
    check(&mut client, 0..70);
}
