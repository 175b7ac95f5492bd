//! What each fuzz target does with its bytes: shared by `fuzz/fuzz_targets` and `tests/fuzz.rs`.
//!
//! A target must not panic, whatever the bytes. Where plain bytes would never pass a checksum they
//! are a program: they change what a valid peer sent or a valid log holds, and the checksum is made
//! good afterwards. Sizes are bounded, so that a run is microseconds to a few milliseconds.

#[path = "recovery.rs"]
mod log_recovery;

pub use log_recovery::recovery;

use distkv::bench::{MemoryTarget, Phase, PhaseConfig, Properties, Workload, run_phase};
use distkv::client::{ArchiveReader, ArchiveWriter};
use distkv::config::{ClusterConfig, Member, Policy};
use distkv::history::{Recorded, read_lines};
use distkv::kv::{Admin, Command, Op, Outcome, Read, Request, Response};
use distkv::node::control::decode_answer;
use distkv::node::tables;
use distkv::paxos::Envelope;
use distkv::replica::{IndexImage, Output, Replica, ReplicaConfig, encode_index};
use distkv::storage::{Log, LogOptions, SimDisk};
use distkv::time::{Duration, Instant};
use distkv::transport::{Transport, TransportConfig, TransportEvent};
use distkv::types::{Bytes, Code, NodeId, ReadMode, Slot};
use std::net::SocketAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// A target by its name, which is also that of its file and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("datagrams", datagrams),
    ("envelopes", envelopes),
    ("requests", requests),
    ("clients", clients),
    ("recovery", recovery),
    ("cluster_files", cluster_files),
    ("workloads", workloads),
    ("histories", histories),
    ("archives", archives),
    ("indexes", indexes),
];

/// Takes numbers off the front of the bytes; zeros when they are used up.
struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// Small, near a power of two, or anything.
    fn u64(&mut self) -> u64 {
        let kind = self.u8();
        match kind {
            0..=127 => u64::from(kind),
            128..=191 => (1_u64 << (kind - 128)).wrapping_sub(1),
            192..=223 => u64::MAX - u64::from(kind - 192),
            224.. => u64::from_le_bytes(std::array::from_fn(|_| self.u8())),
        }
    }

    /// Up to 255 bytes, after their number.
    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

/// Makes the checksum of a datagram good, and magic and version too (`transport/wire.rs`).
fn seal(datagram: &mut [u8], cluster_id: u64) {
    if datagram.len() < 32 {
        return;
    }
    datagram[..3].copy_from_slice(&[0x5C, 0xD1, 1]);
    datagram[3] &= 3;
    let head = u32::from_le_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
    let binding = crc32c(&cluster_id.to_le_bytes());
    let checksum = crc32c(&datagram[8..]) ^ head.wrapping_mul(0x9E37_79B1) ^ binding;
    datagram[4..8].copy_from_slice(&checksum.to_le_bytes());
}

fn small_transport() -> TransportConfig {
    TransportConfig {
        cluster_id: 7,
        datagram_bytes: 600,
        max_peers: 4,
        max_message_bytes: 1 << 16,
        max_send_bytes_per_peer: 1 << 17,
        max_reassembly_bytes_per_peer: 1 << 17,
        max_reassembly_bytes: 1 << 18,
        max_event_bytes: 1 << 17,
        ..TransportConfig::default()
    }
}

/// A transport between an honest peer, whose datagrams are changed, and strangers.
pub fn datagrams(data: &[u8]) {
    let mut program = Program(data);
    let config = small_transport();
    if config.validate().is_err() {
        return;
    }
    let (here, there) = (address(1), address(2));
    let mut machine = Transport::new(config.clone(), 5, 1);
    let mut peer = Transport::new(config, 9, 2);
    let mut now = Instant::from_nanos(1);
    let mut last: Vec<u8> = Vec::new();
    for _ in 0..200 {
        if program.is_over() {
            break;
        }
        match program.u8() % 8 {
            0 => machine.handle_datagram(now, address(3 + program.u16() % 8), program.bytes()),
            1 => {
                let mut datagram = program.bytes().to_vec();
                let receiver_epoch: u64 = if program.u8().is_multiple_of(2) { 5 } else { 0 };
                if datagram.len() >= 24 {
                    datagram[16..24].copy_from_slice(&receiver_epoch.to_le_bytes());
                }
                seal(&mut datagram, 7);
                machine.handle_datagram(now, address(2 + program.u16() % 8), &datagram);
            }
            2 => {
                let mut datagram = last.clone();
                for _ in 0..=program.u8() % 4 {
                    let at = usize::from(program.u16());
                    let with = program.u8();
                    let length = datagram.len().max(1);
                    if let Some(byte) = datagram.get_mut(at % length) {
                        *byte ^= with;
                    }
                }
                datagram.truncate(datagram.len().saturating_sub(usize::from(program.u8() % 64)));
                seal(&mut datagram, 7);
                machine.handle_datagram(now, there, &datagram);
            }
            3 => {
                let message = Bytes::from(vec![program.u8(); usize::from(program.u16() % 4096)]);
                let _ = peer.send(now, here, &[message]);
            }
            4 => {
                let message = Bytes::from(vec![program.u8(); usize::from(program.u16() % 4096)]);
                let _ = machine.send(now, address(2 + u16::from(program.u8() % 6)), &[message]);
            }
            5 => {
                now = now + Duration::from_micros(program.u64() % 3_000_000);
                machine.handle_timeout(now);
                peer.handle_timeout(now);
            }
            6 => {
                while let Some(transmit) = peer.poll_transmit(now) {
                    for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                        last = datagram.to_vec();
                        machine.handle_datagram(now, there, datagram);
                    }
                }
            }
            _ => {
                let is_passed = program.u8() % 4 > 0;
                while let Some(transmit) = machine.poll_transmit(now) {
                    for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                        if is_passed && transmit.to == there {
                            peer.handle_datagram(now, here, datagram);
                        }
                    }
                }
            }
        }
        while let Some(event) = machine.poll_event() {
            if let TransportEvent::Message { bytes, .. } = event {
                assert!(bytes.len() <= 1 << 16, "a message of {} bytes", bytes.len());
            }
        }
        while peer.poll_event().is_some() {}
        machine.check_invariants();
        peer.check_invariants();
    }
}

/// Messages between nodes: what is read is written the same.
pub fn envelopes(data: &[u8]) {
    if let Ok(envelope) = Envelope::decode(Bytes::copy_from_slice(data)) {
        let bytes: Bytes = envelope.encode().concat().into();
        assert_eq!(Envelope::decode(bytes), Ok(envelope));
    }
}

/// Requests, responses, commands and answers: what is read is written the same.
pub fn requests(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(request) = Request::decode(bytes.clone()) {
        assert_eq!(Request::decode(request.encode().concat().into()), Ok(request));
    }
    if let Ok(response) = Response::decode(bytes.clone()) {
        if let Outcome::Controlled { answer } = &response.outcome {
            let _ = decode_answer(answer);
        }
        assert_eq!(Response::decode(response.encode().concat().into()), Ok(response));
    }
    if let Ok(command) = Command::decode(bytes) {
        assert_eq!(Command::decode(command.encode()), Ok(command));
    }
}

/// A node of its own cluster, under clients that ask for anything.
pub fn clients(data: &[u8]) {
    let mut program = Program(data);
    let member = Member { id: NodeId(0), address: address(1) };
    let code = Code::new(1, 0).expect("a code");
    let cluster = ClusterConfig::new(7, Policy::Replicate, code, vec![member]);
    let mut cluster = cluster.expect("a cluster of one");
    cluster.limits.sessions = 3;
    cluster.limits.session_window = 4;
    cluster.limits.value_bytes = 4096;
    let cluster = Arc::new(cluster);
    let transport = small_transport();
    let mut client = Transport::new(transport.clone(), 9, 2);
    let mut node = Node::start(SimDisk::new(), &cluster, transport.clone());
    for sequence in 1..60 {
        if program.is_over() {
            break;
        }
        match program.u8() % 16 {
            0 => node.pass(Duration::from_micros(program.u64() % 3_000_000)),
            1 => node = Node::start(node.stop(), &cluster, transport.clone()),
            2 => {
                let raw = Bytes::copy_from_slice(program.bytes());
                let _ = client.send(node.now, address(1), &[raw]);
            }
            _ => {
                let request = request(&mut program, sequence);
                let _ = client.send(node.now, address(1), &request.encode());
            }
        }
        node.exchange(&mut client);
    }
}

fn request(program: &mut Program<'_>, sequence: u64) -> Request {
    let key = |program: &mut Program<'_>| match program.u8() {
        0 => Bytes::new(),
        255 => Bytes::from(vec![7; 2000]),
        other => Bytes::from(vec![b'a' + other % 4]),
    };
    let op = match program.u8() % 10 {
        0 | 1 => Op::OpenSession,
        2 => Op::Get { key: key(program) },
        3 | 4 => Op::Put {
            key: key(program),
            value: vec![program.u8(); usize::from(program.u16()) % 5000].into(),
        },
        5 => Op::Delete { key: key(program) },
        6 => Op::CompareAndSet {
            key: key(program),
            expected: program.u64(),
            value: Bytes::copy_from_slice(program.bytes()),
        },
        7 => Op::Scan { start: key(program), limit: u32::from(program.u16()) },
        8 => Op::Admin(admin(program)),
        _ if program.u8().is_multiple_of(2) => Op::Status,
        _ => Op::Control { command: Bytes::copy_from_slice(program.bytes()) },
    };
    let sequence = if program.u8().is_multiple_of(2) { sequence } else { program.u64() };
    let mode = ReadMode::ALL[usize::from(program.u8()) % ReadMode::ALL.len()];
    let read = Read { mode, at_least: Slot(program.u64()) };
    Request { session: program.u64(), sequence, answered_below: program.u64(), read, op }
}

fn admin(program: &mut Program<'_>) -> Admin {
    match program.u8() % 4 {
        0 => Admin::Transfer { to: program.u8() },
        1 => {
            let policy = Policy::ALL[usize::from(program.u8()) % Policy::ALL.len()];
            let hybrid_bytes = Some(u32::from(program.u16()));
            Admin::Policy { policy, k: program.u8() % 4, m: program.u8() % 4, hybrid_bytes }
        }
        2 => {
            let kind = program.u8();
            let joins = (kind & 1 == 1).then(|| (program.u8(), newcomer(program)));
            let leaves = (kind & 2 == 2).then(|| program.u8());
            Admin::Change { joins, leaves, k: small_or_any(program), m: small_or_any(program) }
        }
        _ => Admin::CancelChange,
    }
}

/// An address of either family: the node's own and the client's are among them.
fn newcomer(program: &mut Program<'_>) -> SocketAddr {
    let (kind, port) = (program.u8(), program.u16());
    match kind % 4 {
        0 => address(port % 8),
        1 => SocketAddr::from(([program.u8(), program.u8(), program.u8(), program.u8()], port)),
        2 => SocketAddr::from((std::array::from_fn::<u8, 16, _>(|_| program.u8()), port)),
        _ => address(port),
    }
}

/// The parts of a code: mostly one that can be.
fn small_or_any(program: &mut Program<'_>) -> u8 {
    match program.u8() {
        small @ 0..=127 => small % 4,
        any => any,
    }
}

/// A replica with its driver's loop.
struct Node {
    now: Instant,
    replica: Replica,
    log: Log<SimDisk>,
}

impl Node {
    fn start(disk: SimDisk, cluster: &Arc<ClusterConfig>, transport: TransportConfig) -> Self {
        let options = LogOptions { cluster: 7, segment_bytes: 64 << 10, ..LogOptions::default() };
        let (log, recovered) = Log::open(disk, options, 99).expect("its own log opens");
        let cluster = Arc::clone(cluster);
        let (is_traced, is_observed) = (false, false);
        let config = ReplicaConfig { cluster, node: NodeId(0), transport, is_traced, is_observed };
        let now = Instant::from_nanos(1);
        let replica = Replica::new(config, recovered, now, 3).expect("its own log is readable");
        let mut node = Self { now, replica, log };
        // Long enough to be elected by itself.
        for _ in 0..20 {
            node.pass(Duration::from_millis(100));
        }
        node
    }

    fn stop(self) -> SimDisk {
        self.log.into_disk()
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.replica.handle_timeout(self.now);
        self.work();
    }

    /// Everything that the replica asks for; gives what it sends to the client.
    fn work(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let mut last = None;
            while let Some(output) = self.replica.poll_output(self.now) {
                match output {
                    // What is for a newcomer is lost: there is none.
                    Output::Transmit(transmit) if transmit.to != address(2) => {}
                    Output::Transmit(transmit) => {
                        for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                            let length = u32::try_from(datagram.len()).expect("a datagram");
                            sent.extend_from_slice(&length.to_le_bytes());
                            sent.extend_from_slice(datagram);
                        }
                    }
                    Output::Persist { ticket, records } => {
                        self.log.append(&records).expect("a simulated disk has room");
                        last = Some(ticket);
                    }
                    Output::Read { ticket, slot } => {
                        let stored = self.log.read(slot).expect("a whole log");
                        self.replica.handle_read(self.now, ticket, stored);
                    }
                    Output::ReadIndex { slot, part } => {
                        let part = self.log.read_index_part(slot, part).expect("a whole log");
                        self.replica.handle_index_read(self.now, part);
                    }
                    Output::Reclaim { floor, slots, is_sound } => {
                        self.log.reclaim(floor, &slots, is_sound).expect("a whole log");
                    }
                    Output::Control { caller, command } => {
                        self.replica.handle_controlled(self.now, caller, command.to_vec());
                    }
                    Output::Trace(_) => {}
                }
            }
            self.replica.check_invariants();
            let Some(ticket) = last else { return sent };
            self.log.sync().expect("a simulated disk syncs");
            self.replica.handle_persisted(self.now, ticket);
        }
    }

    fn exchange(&mut self, client: &mut Transport) {
        for _ in 0..4 {
            while let Some(transmit) = client.poll_transmit(self.now) {
                for datagram in transmit.contents.chunks(transmit.segment_bytes) {
                    self.replica.handle_datagram(self.now, address(2), datagram);
                }
            }
            let mut sent = &*self.work();
            while let Some((length, rest)) = sent.split_first_chunk() {
                let (datagram, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                client.handle_datagram(self.now, address(1), datagram);
                sent = rest;
            }
            while let Some(event) = client.poll_event() {
                let TransportEvent::Message { bytes, .. } = event else { continue };
                // Whoever speaks as a node does is asked who it is.
                if bytes.first() == Some(&Envelope::KIND) {
                    Envelope::decode(bytes).expect("a node's own envelope");
                } else {
                    Response::decode(bytes).expect("a node's own response");
                }
            }
        }
    }
}

/// Cluster files: what is taken is printed and read the same.
pub fn cluster_files(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = ClusterConfig::from_toml(text) else { return };
    let printed = config.to_toml();
    let again = ClusterConfig::from_toml(&printed).expect("what is printed is read");
    assert_eq!(again.to_toml(), printed);
    let _ = tables::check(&config);
}

/// Workload files: what is taken can be run.
pub fn workloads(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(properties) = Properties::parse("fuzz", text) else { return };
    let Ok((workload, _)) = Workload::from_properties(&properties) else { return };
    let is_small = workload.record_count <= 100
        && workload.record_bytes_max() <= 1 << 16
        && workload.field_count <= 100
        && workload.field_length_histogram.len() <= 1000;
    if !is_small {
        return;
    }
    let mut target = MemoryTarget::new();
    for phase in [Phase::Load, Phase::Run] {
        let config = PhaseConfig { operations: Some(20), ..PhaseConfig::default() };
        let report = run_phase(&mut target, &workload, phase, &config, None, &mut |_| {});
        let report = report.expect("memory does not fail");
        assert!(report.failures <= report.operations + report.failures);
    }
}

/// Histories: read, and judged when they are short.
pub fn histories(data: &[u8]) {
    let mut recorded = Recorded::default();
    recorded.set_preloaded(data.len() % 2 == 1);
    if read_lines("fuzz", data, &mut recorded).is_err() {
        return;
    }
    if data.iter().filter(|byte| **byte == b'{').count() <= 12 {
        let _ = recorded.check();
    }
}

/// Index snapshots, with or without their digest made good: what is read is written the same.
pub fn indexes(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode % 2 == 1 && bytes.len() >= 8 {
        let end = bytes.len() - 8;
        let digest = xxh3_64(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest.to_le_bytes());
    }
    let bytes = Bytes::from(bytes);
    let Ok(image) = IndexImage::decode(&bytes) else { return };
    image.state.check_invariants();
    assert_eq!(encode_index(&image.epochs, image.skipped, &image.state), bytes);
}

/// Exported rows, with or without their checksums made good: what is read is written the same.
pub fn archives(data: &[u8]) {
    let Some((mode, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode % 2 == 1 {
        make_sums_good(&mut bytes);
    }
    let Ok(mut reader) = ArchiveReader::new(bytes.as_slice()) else { return };
    let mut writer = ArchiveWriter::new(Vec::new()).expect("memory does not fail");
    loop {
        match reader.next_row() {
            Ok(Some(row)) => writer.push(&row.key, &row.value).expect("it was read"),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    assert_eq!(writer.finish().expect("memory does not fail"), bytes);
}

fn make_sums_good(bytes: &mut [u8]) {
    let (mut at, mut rows, mut sums) = (12, 0_u64, Xxh3::new());
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    while bytes.get(at) == Some(&1) {
        let end = at + 9 + number(bytes, at + 1) as usize + number(bytes, at + 5) as usize;
        let Some(sum) = bytes.get(at..end).map(xxh3_64) else { return };
        let Some(place) = bytes.get_mut(end..end + 8) else { return };
        place.copy_from_slice(&sum.to_le_bytes());
        sums.update(&sum.to_le_bytes());
        (at, rows) = (end + 8, rows + 1);
    }
    if let Some(place) = bytes.get_mut(at + 1..at + 17) {
        place[..8].copy_from_slice(&rows.to_le_bytes());
        place[8..].copy_from_slice(&sums.digest().to_le_bytes());
    }
}
