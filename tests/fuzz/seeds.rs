//! Valid inputs of every fuzz target, from which mutations start.

use distkv::client::ArchiveWriter;
use distkv::config::{Change, Configuration, EpochConfig, Epochs, Policy, Seat};
use distkv::kv::{
    Admin, Bounds, Command, Op, Operation, Outcome, Read, Refusal, Request, Response, Row, State,
};
use distkv::node::control::NetemCommand;
use distkv::paxos::{Ack, Envelope, Message, Promise, PromiseEntry, ShardedValue, Want};
use distkv::replica::encode_index;
use distkv::types::{
    Ballot, Bytes, Code, Digest, Epoch, NodeId, ReadMode, Shard, ShardSet, Slot, ValueId, ValueMeta,
};

/// Target, file name and bytes.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name: String, bytes: Vec<u8>| seeds.push((target, name, bytes));
    for (number, message) in messages().into_iter().enumerate() {
        let envelope = Envelope { from: NodeId(1), incarnation: 7, message };
        add("envelopes", format!("seed-{number:02}"), envelope.encode().concat());
    }
    for (number, bytes) in encoded().into_iter().enumerate() {
        add("requests", format!("seed-{number:02}"), bytes);
    }
    for (target, programs) in
        [("datagrams", DATAGRAMS), ("clients", CLIENTS), ("recovery", RECOVERY)]
    {
        for (number, program) in programs.iter().enumerate() {
            add(target, format!("seed-{number:02}"), program.to_vec());
        }
    }
    for (target, texts) in
        [("cluster_files", CLUSTER_FILES), ("workloads", WORKLOADS), ("histories", HISTORIES)]
    {
        for (number, text) in texts.iter().enumerate() {
            add(target, format!("seed-{number:02}"), text.as_bytes().to_vec());
        }
    }
    let rows: [&[(&str, &str)]; 2] = [&[], &[("a", ""), ("key", "value"), ("z", "zz")]];
    for (number, rows) in rows.into_iter().enumerate() {
        let mut archive = ArchiveWriter::new(vec![1]).expect("memory does not fail");
        for (key, value) in rows {
            archive.push(key.as_bytes(), value.as_bytes()).expect("memory does not fail");
        }
        let bytes = archive.finish().expect("memory does not fail");
        seeds.push(("archives", format!("seed-{number:02}"), bytes));
    }
    for (number, commands) in [0, 3].into_iter().enumerate() {
        let mut bytes = vec![1];
        bytes.extend_from_slice(&index(commands));
        seeds.push(("indexes", format!("seed-{number:02}"), bytes));
    }
    seeds
}

/// The index snapshot after a session was opened and wrote so many keys.
fn index(writes: u64) -> Bytes {
    let mut state = State::new();
    for slot in 1..=writes + 1 {
        let operation = match slot {
            1 => Operation::OpenSession(Bounds { sessions: 64, session_window: 8 }),
            _ => Operation::Put { key: Bytes::from(format!("key-{}", slot % 2)) },
        };
        let command = Command { session: 1, sequence: slot, answered_below: 2, operation };
        let id = ValueId { origin: ballot(1), slot: Slot(slot) };
        let value = ValueMeta { id, header: command.encode(), ..value().meta };
        state.apply(&value).expect("a command");
    }
    let code = Code::new(3, 2).expect("a code");
    let policy = Policy::Craft;
    let epoch = EpochConfig { epoch: Epoch(1), nodes: 5, policy, code, hybrid_bytes: 100 };
    let epochs = Epochs::new(Configuration::of_ranks(epoch));
    encode_index(&epochs, (writes > 0).then_some((Slot(1), Slot(2))), &state)
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: 1 }
}

fn value() -> ShardedValue {
    let payload = Bytes::from(vec![5; 30]);
    ShardedValue {
        meta: ValueMeta {
            id: id(4),
            epoch: Epoch(1),
            code: Code::new(3, 2).expect("a code"),
            payload_bytes: 30,
            digest: Digest::of(&payload),
            header: Bytes::from_static(b"header"),
        },
        shards: vec![Shard::new(2, payload.slice(..10)), Shard::new(4, payload.slice(10..20))],
    }
}

fn id(slot: u64) -> ValueId {
    ValueId { origin: ballot(2), slot: Slot(slot) }
}

fn configuration() -> Configuration {
    let code = Code::new(3, 2).expect("a code");
    let policy = Policy::Craft;
    let rules = EpochConfig { epoch: Epoch(2), nodes: 5, policy, code, hybrid_bytes: 4096 };
    let joins = Some(Seat {
        id: NodeId(9),
        address: "127.0.0.1:7009".parse().expect("an address"),
        incarnation: 0,
    });
    let change = Change { joins, leaves: Some(NodeId(1)), code };
    Configuration::of_ranks(rules).with_change(change).expect("a change")
}

fn messages() -> Vec<Message> {
    let claimed = [2, 4].into_iter().collect::<ShardSet>();
    let accepted = PromiseEntry::Accepted { ballot: ballot(3), claimed, value: value() };
    let entries = vec![accepted, PromiseEntry::Faulty { slot: Slot(6) }, PromiseEntry::AllFaulty];
    let (is_last, is_low, is_granted) = (true, false, true);
    vec![
        Message::PreVote { ballot: ballot(1), number: 4 },
        Message::PreVoteReply { ballot: ballot(1), number: 4, is_granted, promised: ballot(2) },
        Message::Prepare { ballot: ballot(1), attempt: 3, released: ballot(2) },
        Message::TakeOver { ballot: ballot(2) },
        Message::Promise(Promise {
            ballot: ballot(4),
            attempt: 3,
            page: 1,
            is_last,
            applied: Slot(3),
            configuration: configuration(),
            entries,
        }),
        Message::Accept { ballot: ballot(2), commit: Slot(3), entries: vec![value(), value()] },
        Message::Accepted {
            ballot: ballot(2),
            applied: Slot(3),
            acks: vec![Ack { id: id(4), held: claimed }],
        },
        Message::Nack { promised: ballot(9) },
        Message::Heartbeat { ballot: ballot(2), sequence: 8, commit: Slot(3) },
        Message::HeartbeatReply {
            ballot: ballot(2),
            sequence: 8,
            applied: Slot(3),
            durable: Slot(2),
            is_low,
        },
        Message::Probe { epoch: Epoch(1), applied: Slot(3) },
        Message::Members { applied: Slot(3), configuration: configuration(), first_place: Some(2) },
        Message::Refused { incarnation: 9 },
        Message::Fetch { wants: vec![Want { slot: Slot(4), is_all: false, held: Some(id(4)) }] },
        Message::Shards {
            applied: Slot(5),
            floor: Slot(1),
            missing: vec![Slot(2)],
            entries: vec![value()],
        },
        Message::FetchIndex { slot: Slot(5), part: 1 },
        Message::IndexPart { slot: Slot(5), part: 1, parts: 2, bytes: Bytes::from_static(b"keys") },
    ]
}

fn encoded() -> Vec<Vec<u8>> {
    let key = Bytes::from_static(b"key");
    let bytes = Bytes::from(vec![9; 40]);
    let ops = [
        Op::OpenSession,
        Op::Get { key: key.clone() },
        Op::Put { key: key.clone(), value: bytes.clone() },
        Op::Delete { key: key.clone() },
        Op::CompareAndSet { key: key.clone(), expected: 9, value: bytes.clone() },
        Op::Scan { start: key.clone(), limit: 7 },
        Op::Status,
        Op::Admin(Admin::Transfer { to: 2 }),
        Op::Admin(Admin::Policy { policy: Policy::Hybrid, k: 2, m: 1, hybrid_bytes: Some(9) }),
        Op::Control { command: NetemCommand::default().encode().into() },
    ];
    let row = Row { key: key.clone(), version: 3, value: bytes.clone() };
    let outcomes = [
        Outcome::SessionOpened { session: 1 },
        Outcome::Value { version: 2, value: bytes },
        Outcome::NotFound,
        Outcome::Written { version: 5 },
        Outcome::Mismatch { current: 0 },
        Outcome::Rows(vec![row.clone(), row]),
        Outcome::Refused(Refusal::NotLeader { leader: Some(2) }),
        Outcome::Refused(Refusal::Busy),
        Outcome::Done,
        Outcome::Controlled { answer: vec![0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].into() },
    ];
    let operations = [
        Operation::OpenSession(Bounds { sessions: 64, session_window: 8 }),
        Operation::Put { key: key.clone() },
        Operation::Delete { key: key.clone() },
        Operation::CompareAndSet { key, expected: 4 },
    ];
    let mut all = Vec::new();
    for op in ops {
        let eventual = Read { mode: ReadMode::Eventual, at_least: Slot(8) };
        let is_get = matches!(op, Op::Get { .. });
        let read = if is_get { eventual } else { Read::default() };
        let request = Request { session: 3, sequence: 4, answered_below: 2, read, op };
        all.push(request.encode().concat());
    }
    for outcome in outcomes {
        let served_at = Slot(3);
        all.push(Response { session: 1, sequence: 2, served_at, outcome }.encode().concat());
    }
    for operation in operations {
        let command = Command { session: 3, sequence: 4, answered_below: 2, operation };
        all.push(command.encode().to_vec());
    }
    all
}

/// See `bodies::datagrams`: send, pass on, change and pass on, wait.
const DATAGRAMS: &[&[u8]] = &[
    &[3, 7, 100, 0, 6, 7, 1, 6, 4, 1, 50, 0, 0, 7, 1, 6, 5, 140, 6, 7, 1],
    &[3, 1, 255, 15, 6, 2, 0, 40, 0, 3, 0, 2, 1, 60, 0, 255, 33, 0, 1, 0, 5, 141, 6, 7, 1, 6],
    &[4, 1, 255, 15, 0, 7, 1, 6, 5, 148, 7, 1, 6, 2, 0, 33, 0, 1, 0, 5, 149, 7, 0, 5, 150, 7, 1],
    &[
        1, 42, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0,
    ],
    &[
        1, 62, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 200, 0, 0, 0, 10, 0, 0, 0, 11, 0, 1, 2, 3, 4, 5, 6,
        7, 8, 9, 10, 11, 0, 0, 1, 0,
    ],
    &[
        1, 40, 0, 0, 0, 1, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 7, 1, 5, 149, 7, 1,
    ],
];

/// See `bodies::clients`: open a session, put, get, compare-and-set, scan, restart; a node is to join,
/// a put, the change is given up; another in the place of the only member, which hands over first,
/// restart, nothing to give up, a code that cannot be.
const CLIENTS: &[&[u8]] = &[
    &[
        3, 0, 0, 0, 0, 3, 3, 1, 7, 100, 0, 0, 2, 0, 3, 2, 1, 0, 0, 0, 3, 6, 1, 3, 2, 8, 9, 0, 2, 0,
        3, 7, 0, 10, 0, 0, 2, 0, 1, 3, 2, 1, 0, 0, 0,
    ],
    &[
        3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 3, 1, 7, 100, 0, 1, 192, 4,
        192, 3, 3, 2, 7, 100, 0, 1, 191, 3, 191, 3, 5, 1, 0, 4, 0, 3, 8, 0, 3, 8, 1, 2, 1, 2, 0, 0,
        0, 0, 150,
    ],
    &[
        3, 0, 0, 0, 0, 0, 0, 3, 8, 2, 1, 9, 3, 12, 0, 1, 1, 0, 0, 0, 0, 0, 0, 150, 3, 9, 0, 0, 0,
        0, 0, 0, 3, 3, 1, 7, 100, 0, 0, 0, 0, 1, 0, 3, 8, 3, 0, 0, 0, 0, 0, 0, 150, 3, 9, 0, 0, 0,
        0, 0, 0,
    ],
    &[
        3, 0, 0, 0, 0, 0, 0, 3, 8, 2, 3, 9, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 150, 1, 3, 8, 3, 0,
        0, 0, 0, 0, 0, 150, 3, 8, 2, 1, 31, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        16, 0, 0, 200, 200, 0, 0, 0, 0, 0, 1,
    ],
];

/// See `bodies::recovery`: file, kind, offset, and what the kind takes.
const RECOVERY: &[&[u8]] = &[
    &[],
    &[2, 3, 64, 0, 0, 255],
    &[2, 192, 24, 0, 3, 4, 1, 0, 0, 0],
    &[3, 192, 28, 0, 5, 1, 3, 2, 192, 8, 0, 9, 4, 16, 0, 0, 0],
    &[2, 2, 0, 40, 0, 0, 60, 64, 0, 3, 4, 0, 1, 0],
    &[3, 192, 16, 0, 2, 8, 255, 255, 255, 255, 255, 255, 255, 255],
    &[0, 3, 9, 0, 0, 1, 1, 3, 9, 0, 0, 1],
    &[3, 192, 40, 0, 4, 8, 255, 255, 255, 255, 255, 255, 255, 127],
];

const CLUSTER_FILES: &[&str] = &[
    "policy = 'craft'\ncode = '2+1'\nnode = [\n{ id = 0, address = '10.0.0.1:7400' },\n\
     { id = 1, address = '10.0.0.2:7400' },\n{ id = 2, address = '[::1]:7400' },\n]\n",
    "cluster = 7\npolicy = 'replicate'\ncode = '1+0'\nbackend = 'reed-solomon-simd'\n\
     durability = 'os'\n[[node]]\nid = 31\naddress = '127.0.0.1:7000'\n[limits]\n\
     value_bytes = 65536\nsessions = 2\n[timing]\nheartbeat_ms = 20\nelection_ms = 100\n\
     [storage]\nreserve_bytes = 9\nsegment_bytes = 65536\n[transport]\ndatagram_bytes = 1472\n\
     [netem]\nseed = 5\nallow_control = true\nlink = { loss = 0.1, delay_ms = 1.5 }\n",
    "policy = 'rs-paxos'\ncode = '3+2'\n[[node]]\nid = 0\naddress = '127.0.0.1:1'\n[[node]]\n\
     id = 1\naddress = '127.0.0.1:2'\n[[node]]\nid = 2\naddress = '127.0.0.1:3'\n[[node]]\n\
     id = 3\naddress = '127.0.0.1:4'\n[[node]]\nid = 4\naddress = '127.0.0.1:5'\n",
];

const WORKLOADS: &[&str] = &[
    "# YCSB\nrecordcount=50\noperationcount=100\nreadproportion=0.5\nupdateproportion=0.5\n\
     requestdistribution=zipfian\nworkload=site.ycsb.workloads.CoreWorkload\n",
    "recordcount=20\nfieldcount=2\nfieldlength=30\nfieldlengthdistribution=zipfian\n\
     scanproportion=0.95\ninsertproportion=0.05\nreadproportion=0\nupdateproportion=0\n\
     maxscanlength=10\nscanlengthdistribution=zipfian\nrequestdistribution=latest\n",
    "recordcount:40\ndataintegrity true\nreadmodifywriteproportion = 1\\\n.0\nreadproportion=0\n\
     updateproportion=0\nrequestdistribution=hotspot\ninsertorder=ordered\nzeropadding=8\n",
    "recordcount=30\nrequestdistribution=exponential\ndistkv.record=raw\ndistkv.update=put\n\
     distkv.arrivals=poisson\ntarget=100\nfieldcount=1\nhdrhistogram.percentiles=50,99.9\n",
];

const HISTORIES: &[&str] = &[
    "{\"client\":0,\"op\":\"put\",\"key\":\"a\",\"value_digest\":\"x\",\"version\":5,\"slot\":5,\
     \"invoke_ns\":1,\"return_ns\":2,\"outcome\":\"ok\"}\n\
     {\"client\":1,\"op\":\"get\",\"key\":\"a\",\"value_digest\":\"x\",\"version\":5,\"slot\":6,\
     \"invoke_ns\":3,\"return_ns\":4,\"outcome\":\"ok\"}\n\
     {\"client\":1,\"op\":\"delete\",\"key\":\"a\",\"value_digest\":null,\"version\":7,\"slot\":7,\
     \"invoke_ns\":5,\"return_ns\":6,\"outcome\":\"ok\"}\n",
    "{\"client\":0,\"op\":\"cas\",\"key\":\"a\",\"value_digest\":\"y\",\"version\":5,\
     \"expected\":2,\"slot\":6,\"invoke_ns\":1,\"return_ns\":2,\"outcome\":\"fail\"}\n\
     {\"client\":0,\"op\":\"put\",\"key\":\"a\",\"value_digest\":\"z\",\"invoke_ns\":1,\
     \"return_ns\":null,\"outcome\":\"unknown\",\"more\":[1]}\n\
     {\"client\":2,\"op\":\"get\",\"key\":\"a\",\"value_digest\":\"z\",\"version\":5,\"slot\":5,\
     \"mode\":\"eventual\",\"invoke_ns\":3,\"return_ns\":4,\"outcome\":\"ok\"}\n",
];
