//! Real processes on loopback: commands, crashes, restarts, and what must be refused at start.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    missing_docs
)]

use distkv::client::{ArchiveWriter, Client, ClientDriver};
use distkv::config::{ClusterConfig, Policy};
use distkv::kv::{Op, Outcome};
use distkv::node::launcher::{LocalCluster, loopback_members};
use distkv::replica::client_machine::{ClientOutcome, Token};
use distkv::types::{Bytes, Code, NodeId};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_distkv");

fn start(dir: &Path, policy: Policy, k: u8, nodes: u8) -> LocalCluster {
    let members = loopback_members(nodes, None).unwrap();
    let code = Code::new(k, nodes - k).unwrap();
    let config = ClusterConfig::new(0xD157, policy, code, members).unwrap();
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    cluster
}

fn distkv(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// The value that a key is given, of a length that follows from the key too.
fn value_of(key: &str) -> Bytes {
    let length = 40 + key.bytes().map(usize::from).sum::<usize>() * 7 % 6000;
    key.bytes().cycle().take(length).collect::<Vec<u8>>().into()
}

/// Keys whose writes were acknowledged, with their versions.
type Acknowledged = BTreeMap<String, u64>;

/// Writes keys of their own in each session until `until` says stop.
fn write(
    driver: &mut ClientDriver,
    sessions: usize,
    round: &str,
    acknowledged: &mut Acknowledged,
    mut is_over: impl FnMut(usize) -> bool,
) {
    let mut outstanding: BTreeMap<Token, String> = BTreeMap::new();
    let mut count = 0;
    let mut free: Vec<usize> = (0..sessions).collect();
    let mut stopping = false;
    while !(stopping && outstanding.is_empty()) {
        stopping |= is_over(acknowledged.len());
        while let Some(session) = free.pop().filter(|_| !stopping) {
            let key = format!("{round}-{count}");
            count += 1;
            let op = Op::Put { key: key.clone().into(), value: value_of(&key) };
            outstanding.insert(driver.submit(session, op).unwrap(), key);
        }
        let deadline = Instant::now() + Duration::from_millis(100);
        driver
            .wait(deadline, |completion| {
                let key = outstanding.remove(&completion.token).unwrap();
                free.push(completion.session_index);
                match completion.outcome {
                    ClientOutcome::Done(Outcome::Written { version }) => {
                        acknowledged.insert(key, version);
                    }
                    ClientOutcome::Unknown => {}
                    other => panic!("{key}: {other:?}"),
                }
            })
            .unwrap();
    }
}

fn check_all(cluster: &Arc<ClusterConfig>, acknowledged: &Acknowledged) {
    let mut client = Client::new(cluster, Duration::from_secs(20)).unwrap();
    for (key, version) in acknowledged {
        let (found, value) = client.get(key.as_bytes()).unwrap().unwrap_or_else(|| {
            panic!("{key} was acknowledged as version {version} and is gone");
        });
        assert_eq!((found, value), (*version, value_of(key)), "{key}");
    }
}

#[test]
fn three_nodes_answer_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Replicate, 1, 3);
    let file = cluster.cluster_file().display().to_string();
    let kv =
        |arguments: &[&str]| distkv(&[&["kv", "--cluster", file.as_str()], arguments].concat());
    let version = |output: &Output| said(&output.stdout).parse::<u64>().unwrap();
    let first = version(&kv(&["put", "a", "1"]));
    assert_eq!(said(&kv(&["get", "a"]).stdout), "1");
    let wrong = kv(&["cas", "a", "999999", "2"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong.stderr).contains(&format!("version {first}, not 999999")), "{wrong:?}");
    let second = version(&kv(&["cas", "a", &first.to_string(), "2"]));
    assert!(second > first);
    kv(&["put", "b", "3"]);
    let rows = said(&kv(&["scan", "a", "--limit", "5"]).stdout);
    assert_eq!(rows.lines().count(), 2, "{rows}");
    assert_eq!(kv(&["delete", "a"]).status.code(), Some(0));
    let gone = kv(&["get", "a"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(said(&gone.stderr), "error: key 'a': not found");
    let long = "k".repeat(2000);
    let refused = kv(&["put", &long, "1"]);
    assert!(said(&refused.stderr).contains("limits.key_bytes"), "{refused:?}");
    let status = said(&distkv(&["status", "--cluster", &file]).stdout);
    assert_eq!(status.lines().count(), 5, "a header, three nodes, the members: {status}");
    assert_eq!(status.matches("leader").count(), 2, "a header and one leader:\n{status}");
    assert!(cluster.stop().is_empty());
    let silent = distkv(&["status", "--cluster", &file, "--timeout", "200"]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(said(&silent.stderr).contains("no node of"), "{silent:?}");
}

#[test]
fn five_coded_nodes_keep_values_of_every_size_through_two_failures() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Craft, 3, 5);
    let config = Arc::clone(cluster.cluster());
    let mut client = Client::new(&config, Duration::from_secs(20)).unwrap();
    let sizes = [0, 1, 2, 3, 100, 8191, 65_536, 1 << 20];
    let value = |size: usize| Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    for size in sizes {
        client.put(format!("size-{size}").as_bytes(), value(size)).unwrap();
    }
    let leader = cluster.wait_for_leader(Duration::from_secs(5)).unwrap();
    // The leader with its cache, and one more, n0 among them, whose shards are the data's first: what
    // is left is a majority and k shards, one at least a parity shard.
    cluster.kill(leader).unwrap();
    cluster.kill(NodeId(if leader.0 == 0 { 1 } else { 0 })).unwrap();
    for size in sizes {
        let (_, found) = client.get(format!("size-{size}").as_bytes()).unwrap().unwrap();
        assert!(found == value(size), "the value of {size} bytes is another one");
    }
    let statuses = client.statuses().unwrap();
    let rebuilt: u64 = statuses.iter().flat_map(|(_, s)| s).map(|s| s.rebuilt_count).sum();
    assert!(rebuilt > 0, "whole values came from somewhere");
    client.put(b"after", value(5000)).unwrap();
    assert_eq!(client.get(b"after").unwrap().unwrap().1, value(5000));
}

#[test]
fn a_killed_leader_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::Craft, 3, 5);
    let config = Arc::clone(cluster.cluster());
    let mut driver = ClientDriver::new(&config, 16, Duration::from_secs(20)).unwrap();
    let mut acknowledged = Acknowledged::new();
    let leader = cluster.wait_for_leader(Duration::from_secs(5)).unwrap();
    let mut killed_at = None;
    write(&mut driver, 16, "kill", &mut acknowledged, |count| {
        if count >= 200 && killed_at.is_none() {
            cluster.kill(leader).unwrap();
            killed_at = Some(count);
        }
        killed_at.is_some_and(|at| count >= at + 200)
    });
    check_all(&config, &acknowledged);
    cluster.start_node(leader).unwrap();
    let mut more = Acknowledged::new();
    write(&mut driver, 16, "after", &mut more, |count| count >= 200);
    acknowledged.append(&mut more);
    check_all(&config, &acknowledged);
    // The one that was down catches up.
    let mut client = Client::new(&config, Duration::from_secs(2)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let statuses = client.statuses().unwrap();
        let applied: Vec<_> = statuses.iter().flat_map(|(_, s)| s).map(|s| s.applied).collect();
        if applied.len() == 5 && applied.iter().all(|slot| *slot == applied[0]) {
            break;
        }
        assert!(Instant::now() < deadline, "nodes stay apart: {statuses:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let reports = cluster.reports().unwrap();
    let digest = |report: &distkv::node::NodeReport| report.state_digest.clone();
    let digests: Vec<String> = reports.values().map(digest).collect();
    assert!(digests.iter().all(|other| *other == digests[0]), "states differ: {digests:?}");
}

#[test]
fn all_nodes_killed_at_once_come_back_with_everything_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = start(dir.path(), Policy::RsPaxos, 3, 5);
    let config = Arc::clone(cluster.cluster());
    let mut acknowledged = Acknowledged::new();
    for round in ["first", "second"] {
        // A client of its own each time: its sessions outlive the restart in the log only.
        let mut driver = ClientDriver::new(&config, 8, Duration::from_secs(20)).unwrap();
        let before = acknowledged.len();
        write(&mut driver, 8, round, &mut acknowledged, |count| count >= before + 150);
        for node in cluster.nodes() {
            cluster.kill(node).unwrap();
        }
        for node in cluster.nodes() {
            cluster.start_node(node).unwrap();
        }
        cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
        check_all(&config, &acknowledged);
    }
    assert!(cluster.stop().is_empty(), "a clean stop is quick");
}

#[test]
fn a_full_disk_refuses_puts_and_still_elects_reads_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let members = loopback_members(3, None).unwrap();
    let code = Code::new(1, 2).unwrap();
    let mut config = ClusterConfig::new(0xD158, Policy::Replicate, code, members).unwrap();
    // A reserve that no disk has: every node takes its own for full.
    let reserve = toml::Value::Integer(i64::MAX);
    let storage = toml::Table::from_iter([("reserve_bytes".to_owned(), reserve)]);
    config.tables.insert("storage".to_owned(), toml::Value::Table(storage));
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir.path()).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    let mut client = Client::new(cluster.cluster(), Duration::from_secs(20)).unwrap();
    let refused = client.put(b"a", Bytes::from_static(b"1")).unwrap_err().to_string();
    assert!(refused.contains("disk"), "{refused}");
    assert_eq!(client.get(b"a").unwrap(), None);
    client.delete(b"a").unwrap();
    let statuses = client.statuses().unwrap();
    assert!(statuses.into_iter().all(|(_, status)| status.unwrap().disk_full));
}

#[test]
fn all_rows_go_from_one_cluster_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let old = start(&dir.path().join("old"), Policy::Craft, 3, 5);
    let mut driver = ClientDriver::new(old.cluster(), 16, Duration::from_secs(20)).unwrap();
    let mut acknowledged = Acknowledged::new();
    write(&mut driver, 16, "row", &mut acknowledged, |count| count >= 450);
    let mut client = Client::new(old.cluster(), Duration::from_secs(20)).unwrap();
    for (key, bytes) in [("empty", 0), ("long", 1 << 20), ("longer", 3 << 20)] {
        let version = client.put(key.as_bytes(), Bytes::from(vec![5; bytes])).unwrap();
        acknowledged.insert(key.to_owned(), version);
    }
    let file = dir.path().join("all.rows").display().to_string();
    let old_file = old.cluster_file().display().to_string();
    let exported = distkv(&["export", "--cluster", &old_file, &file]);
    assert!(exported.status.success(), "{exported:?}");
    let count = acknowledged.len();
    assert!(said(&exported.stdout).starts_with(&format!("{count} rows")), "{exported:?}");
    let again = distkv(&["export", "--cluster", &old_file, &file]);
    assert!(said(&again.stderr).contains("--force"), "{again:?}");

    let new = start(&dir.path().join("new"), Policy::Replicate, 1, 3);
    let new_file = new.cluster_file().display().to_string();
    let mut other = Client::new(new.cluster(), Duration::from_secs(20)).unwrap();
    // A file that is not whole changes nothing.
    let whole = std::fs::read(&file).unwrap();
    let cut = dir.path().join("cut.rows");
    std::fs::write(&cut, &whole[..whole.len() - 1]).unwrap();
    let refused = distkv(&["import", "--cluster", &new_file, &cut.display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused.stderr).contains("cut short"), "{refused:?}");
    assert!(other.scan(b"", 10).unwrap().is_empty());
    other.put(b"empty", Bytes::from_static(b"mine")).unwrap();
    let kept = distkv(&["import", "--only-absent", "--cluster", &new_file, &file]);
    assert!(said(&kept.stdout).contains("1 left alone"), "{kept:?}");
    assert_eq!(other.get(b"empty").unwrap().unwrap().1, Bytes::from_static(b"mine"));
    let imported = distkv(&["import", "--cluster", &new_file, &file]);
    assert!(said(&imported.stdout).starts_with(&format!("{count} rows")), "{imported:?}");
    for key in acknowledged.keys() {
        let values = [&mut client, &mut other].map(|c| c.get(key.as_bytes()).unwrap().unwrap().1);
        assert!(values[0] == values[1], "{key}");
    }
    // A second copy of the second cluster is the same file.
    let copy = dir.path().join("copy.rows").display().to_string();
    distkv(&["export", "--cluster", &new_file, &copy]);
    assert!(std::fs::read(&copy).unwrap() == whole);
    // One that the first version wrote.
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/archive-1.rows");
    let imported = distkv(&["import", "--cluster", &new_file, golden]);
    assert!(said(&imported.stdout).starts_with("3 rows"), "{imported:?}");
    assert_eq!(other.get(b"key").unwrap().unwrap().1, Bytes::from_static(b"value"));
}

#[test]
fn rows_beyond_a_clusters_bounds_are_named_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.rows");
    let mut archive = ArchiveWriter::new(std::fs::File::create(&file).unwrap()).unwrap();
    archive.push(b"fits", b"1").unwrap();
    archive.push(&[b'k'; 1025], b"1").unwrap();
    archive.finish().unwrap();
    let members = loopback_members(1, None).unwrap();
    let code = Code::new(1, 0).unwrap();
    let config = ClusterConfig::new(1, Policy::Replicate, code, members).unwrap();
    let cluster_file = dir.path().join("cluster.toml");
    std::fs::write(&cluster_file, config.to_toml()).unwrap();
    // Nobody runs: nobody is asked.
    let cluster_file = cluster_file.display().to_string();
    let refused = distkv(&["import", "--cluster", &cluster_file, &file.display().to_string()]);
    assert_eq!(refused.status.code(), Some(1));
    let text = said(&refused.stderr);
    assert!(text.contains("row 2") && text.contains("limits.key_bytes"), "{text}");
}

#[test]
fn garbage_is_counted_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path(), Policy::Replicate, 1, 3);
    let config = Arc::clone(cluster.cluster());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 7_u32;
    for round in 0..500_usize {
        let length = [0, 1, 7, 40, 1472, 9000, 65_000][round % 7];
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let _ = socket.send_to(&bytes, config.members[round % 3].address);
    }
    let mut client = Client::new(&config, Duration::from_secs(10)).unwrap();
    client.put(b"key", Bytes::from_static(b"value")).unwrap();
    assert_eq!(client.get(b"key").unwrap().unwrap().1, "value");
    for (node, status) in client.statuses().unwrap() {
        assert!(status.unwrap().garbage_count > 50, "{node} counts no garbage");
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let members = loopback_members(3, None).unwrap();
    let code = Code::new(1, 2).unwrap();
    let config = ClusterConfig::new(5, Policy::Replicate, code, members.clone()).unwrap();
    let refused = |text: String, id: &str, data: &str| {
        std::fs::write(at("cluster.toml"), text).unwrap();
        let (file, data) = (at("cluster.toml"), at(data));
        let output = distkv(&["node", "--cluster", &file, "--id", id, "--data", &data]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        said(&output.stderr)
    };
    let good = config.to_toml();
    let held = UdpSocket::bind(members[1].address).unwrap();
    let text = refused(good.clone(), "1", "one");
    assert!(text.contains(&format!("{} is in use", members[1].address)), "{text}");
    drop(held);
    let text = refused(good.clone(), "9", "nine");
    assert!(text.contains("node 9 is not in the cluster file, which has 0, 1, 2"), "{text}");
    let text = refused(good.replace("id = 1", "id = 0"), "0", "zero");
    assert!(text.contains("node id 0 is given twice"), "{text}");
    let text = refused(good.replace("sync", "sink"), "0", "zero");
    assert!(text.contains("durability 'sink'"), "{text}");
    let text = refused(format!("{good}\n[transport]\nmtu = 1500\n"), "0", "zero");
    assert!(text.contains("mtu"), "{text}");
    // Data of another node, of another cluster, and cut short.
    let mut cluster = LocalCluster::start(Path::new(PROGRAM), config, dir.path()).unwrap();
    cluster.wait_for_leader(Duration::from_secs(20)).unwrap();
    assert!(cluster.stop().is_empty());
    let text = refused(good.clone(), "1", "node-0");
    assert!(text.contains("belongs to node n0, but this is node n1"), "{text}");
    let text = refused(good.replace("cluster = 5", "cluster = 6"), "0", "node-0");
    assert!(text.contains("belongs to cluster 5, but this is cluster 6"), "{text}");
    for entry in std::fs::read_dir(at("node-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("identity") {
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
        }
    }
    let text = refused(good, "0", "node-0");
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn failover_times_the_next_leaders_and_their_first_commits() {
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("failover.json");
    let data = dir.path().join("cluster");
    let output = Command::new(PROGRAM)
        .args(["failover", "--kills", "3", "--nodes", "3", "--data"])
        .args([data.as_os_str(), "--json".as_ref(), json.as_os_str()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("median") && text.contains("p99"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let kills = report["kills"].as_array().unwrap();
    assert_eq!(kills.len(), 3, "{report}");
    for kill in kills {
        let of = |field: &str| kill[field].as_f64().unwrap();
        // Nobody leads within less than an election timeout; a commit needs a leader.
        assert!(of("leader_ms") > 0.0 && of("commit_ms") > 0.0, "{kill}");
        assert!(of("leader_ms") < 60_000.0 && of("commit_ms") < 60_000.0, "{kill}");
    }
    // The same folder is not taken again.
    let again = Command::new(PROGRAM).args(["failover", "--data"]).arg(&data).output().unwrap();
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && text.contains("exists: give another --data"), "{text}");
}
