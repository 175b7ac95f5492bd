//! A client machine against a scripted cluster, over an emulated network in virtual time.

#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use crate::config::{Member, Policy};
use crate::kv::{Outcome, Refusal, Request, Row};
use crate::netem::{LinkConfig, Netem, NetemConfig};
use crate::types::{Bytes, Code};

/// What the scripted cluster does with a request that its leader gets.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Serves,
    /// Applies writes and says nothing.
    Silent,
    Refuses(Refusal),
}

/// A perfect cluster: one state behind all nodes, of which the leader serves.
struct World {
    now: Instant,
    netem: Netem,
    client: ClientMachine,
    client_address: SocketAddr,
    nodes: Vec<Option<Transport>>,
    leader: usize,
    hint: Option<u8>,
    manner: Manner,
    slot: u64,
    rows: BTreeMap<Bytes, (u64, Bytes)>,
    sessions: BTreeMap<u64, BTreeMap<u64, Outcome>>,
    applied: u64,
    completions: Vec<(Instant, Completion)>,
    /// Sessions and sequences of all requests that came.
    asked: Vec<(u64, u64)>,
}

fn address(id: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + id], 7000))
}

impl World {
    fn new(seed: u64, sessions: usize, loss: f64) -> Self {
        let members = (0..3).map(|id| Member { id: NodeId(id), address: address(id) }).collect();
        let code = Code::new(1, 2).unwrap();
        let cluster = ClusterConfig::new(1, Policy::Replicate, code, members).unwrap();
        let link = LinkConfig { loss, delay_ms: 0.2, jitter_ms: 0.1, ..LinkConfig::default() };
        let config = ClientConfig::new(Arc::new(cluster), TransportConfig::default(), sessions);
        let node = |id: u64| Some(Transport::new(TransportConfig::default(), 10 + id, seed + id));
        Self {
            now: Instant::from_nanos(1),
            netem: Netem::new(NetemConfig { link, ..NetemConfig::default() }, seed),
            client: ClientMachine::new(config, 1, seed),
            client_address: address(9),
            nodes: (0..3).map(node).collect(),
            leader: 1,
            hint: Some(1),
            manner: Manner::Serves,
            slot: 0,
            rows: BTreeMap::new(),
            sessions: BTreeMap::new(),
            applied: 0,
            completions: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn put(&mut self, session: usize, key: &str, value: &str) -> Token {
        let op = Op::Put { key: key.to_owned().into(), value: value.to_owned().into() };
        self.client.submit(self.now, session, op).unwrap()
    }

    /// Runs until nothing is outstanding, and gives how the operations ended.
    fn finish(&mut self) -> Vec<ClientOutcome> {
        let limit = self.now + Duration::from_secs(60);
        while self.client.outstanding() > 0 {
            self.step();
            assert!(self.now < limit, "operations do not end: {:?}", self.client.operations);
        }
        self.settle();
        self.completions.drain(..).map(|(_, completion)| completion.outcome).collect()
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.settle();
        let timers = self.nodes.iter().flatten().filter_map(Transport::poll_timeout);
        let others = [self.client.poll_timeout(), self.netem.poll_timeout()];
        let next = timers.chain(others.into_iter().flatten()).min();
        let tick = self.now + Duration::from_millis(10);
        self.now = next.unwrap_or(tick).min(tick).max(self.now + Duration::from_nanos(1));
        self.client.handle_timeout(self.now);
        for node in self.nodes.iter_mut().flatten() {
            node.handle_timeout(self.now);
        }
        self.client.check_invariants();
    }

    fn settle(&mut self) {
        loop {
            while let Some(transmit) = self.client.poll_transmit(self.now) {
                self.emit(self.client_address, transmit);
            }
            for id in 0..3 {
                while let Some(transmit) =
                    self.nodes[id].as_mut().and_then(|node| node.poll_transmit(self.now))
                {
                    self.emit(address(id as u8), transmit);
                }
            }
            while let Some(completion) = self.client.poll_completion() {
                self.completions.push((self.now, completion));
            }
            let mut is_quiet = true;
            while let Some(delivery) = self.netem.poll_deliver(self.now) {
                is_quiet = false;
                if delivery.to == self.client_address {
                    self.client.handle_datagram(self.now, delivery.from, &delivery.bytes);
                    continue;
                }
                let id = (0..3_u8).find(|id| address(*id) == delivery.to).unwrap();
                self.receive(usize::from(id), delivery.from, &delivery.bytes);
            }
            if is_quiet {
                return;
            }
        }
    }

    fn emit(&mut self, from: SocketAddr, transmit: Transmit) {
        for datagram in transmit.contents.chunks(transmit.segment_bytes) {
            self.netem.handle_datagram(self.now, from, transmit.to, datagram.to_vec());
        }
    }

    fn receive(&mut self, id: usize, from: SocketAddr, bytes: &[u8]) {
        let Some(node) = &mut self.nodes[id] else { return };
        node.handle_datagram(self.now, from, bytes);
        let mut requests = Vec::new();
        while let Some(event) = node.poll_event() {
            if let TransportEvent::Message { from, bytes } = event {
                requests.push((from, Request::decode(bytes).unwrap()));
            }
        }
        for (from, request) in requests {
            let (session, sequence) = (request.session, request.sequence);
            self.asked.push((session, sequence));
            if let Some(outcome) = self.serve(id, request) {
                let served_at = Slot(self.slot);
                let reply = Response { session, sequence, served_at, outcome }.encode();
                self.nodes[id].as_mut().unwrap().send(self.now, from, &reply).unwrap();
            }
        }
    }

    fn serve(&mut self, id: usize, request: Request) -> Option<Outcome> {
        if request.read.mode == ReadMode::Eventual {
            return Some(Outcome::NotFound);
        }
        if id != self.leader {
            return Some(Outcome::Refused(Refusal::NotLeader { leader: self.hint }));
        }
        match self.manner {
            Manner::Refuses(refusal) => return Some(Outcome::Refused(refusal)),
            Manner::Serves | Manner::Silent => {}
        }
        let outcome = match request.op {
            Op::OpenSession => {
                let session = 100 + self.sessions.len() as u64 + 1000 * self.slot;
                self.sessions.insert(session, BTreeMap::new());
                return Some(Outcome::SessionOpened { session });
            }
            Op::Get { key } => match self.rows.get(&key) {
                Some((version, value)) => {
                    Outcome::Value { version: *version, value: value.clone() }
                }
                None => Outcome::NotFound,
            },
            Op::Scan { start, limit } => {
                let rows = self.rows.range(start..).take(limit as usize);
                let row = |(key, (version, value)): (&Bytes, &(u64, Bytes))| Row {
                    key: key.clone(),
                    version: *version,
                    value: value.clone(),
                };
                Outcome::Rows(rows.map(row).collect())
            }
            Op::Status | Op::Admin(_) | Op::Control { .. } => return None,
            write => {
                let Some(results) = self.sessions.get_mut(&request.session) else {
                    return Some(Outcome::Refused(Refusal::SessionUnknown));
                };
                results.retain(|sequence, _| *sequence >= request.answered_below);
                assert!(results.len() < 64, "the client keeps to its window");
                if let Some(outcome) = results.get(&request.sequence) {
                    return Some(outcome.clone());
                }
                let outcome = self.write(write);
                let results = self.sessions.get_mut(&request.session).unwrap();
                results.insert(request.sequence, outcome.clone());
                outcome
            }
        };
        (self.manner == Manner::Serves).then_some(outcome)
    }

    fn write(&mut self, op: Op) -> Outcome {
        self.slot += 1;
        self.applied += 1;
        let version = self.slot;
        match op {
            Op::Put { key, value } => {
                self.rows.insert(key, (version, value));
                Outcome::Written { version }
            }
            Op::CompareAndSet { key, expected, value } => {
                let current = self.rows.get(&key).map_or(0, |(version, _)| *version);
                if current != expected {
                    return Outcome::Mismatch { current };
                }
                self.rows.insert(key, (version, value));
                Outcome::Written { version }
            }
            Op::Delete { key } => match self.rows.remove(&key) {
                Some(_) => Outcome::Written { version },
                None => Outcome::NotFound,
            },
            Op::OpenSession
            | Op::Get { .. }
            | Op::Scan { .. }
            | Op::Status
            | Op::Admin(_)
            | Op::Control { .. } => unreachable!(),
        }
    }
}

fn key(text: &str) -> Bytes {
    text.to_owned().into()
}

#[test]
fn every_operation_is_answered() {
    let mut world = World::new(1, 1, 0.0);
    let ops = [
        Op::Put { key: key("a"), value: key("1") },
        Op::Get { key: key("a") },
        Op::CompareAndSet { key: key("a"), expected: 1, value: key("2") },
        Op::CompareAndSet { key: key("a"), expected: 1, value: key("3") },
        Op::Scan { start: key(""), limit: 5 },
        Op::Delete { key: key("a") },
        Op::Get { key: key("a") },
    ];
    let mut outcomes = Vec::new();
    for op in ops {
        world.client.submit(world.now, 0, op).unwrap();
        outcomes.extend(world.finish());
    }
    let row = Row { key: key("a"), version: 2, value: key("2") };
    let expected = [
        Outcome::Written { version: 1 },
        Outcome::Value { version: 1, value: key("1") },
        Outcome::Written { version: 2 },
        Outcome::Mismatch { current: 2 },
        Outcome::Rows(vec![row]),
        Outcome::Written { version: 4 },
        Outcome::NotFound,
    ];
    assert_eq!(outcomes, expected.map(ClientOutcome::Done));
    assert_eq!(world.client.stats().sessions_opened, 1);
}

#[test]
fn a_write_is_applied_once_whatever_the_network_loses() {
    for seed in 0..10 {
        let mut world = World::new(seed, 4, 0.2);
        for round in 0..100 {
            world.put(round % 4, &format!("k{round}"), "v");
        }
        let outcomes = world.finish();
        let is_done = |outcome: &&ClientOutcome| matches!(outcome, ClientOutcome::Done(_));
        assert_eq!(outcomes.iter().filter(is_done).count(), 100, "seed {seed}");
        assert_eq!(world.applied, 100, "seed {seed}: a retry was applied again");
    }
}

#[test]
fn a_dead_leader_is_left_and_its_writes_are_applied_once() {
    for seed in 0..10 {
        let mut world = World::new(seed, 8, 0.0);
        for session in 0..8 {
            world.put(session, "k", "before");
        }
        assert_eq!(world.finish().len(), 8);
        world.manner = Manner::Silent;
        for session in 0..8 {
            world.put(session, "k", "during");
        }
        world.run_for(Duration::from_millis(5));
        world.nodes[1] = None;
        // Followers go on naming the dead one for a while.
        world.run_for(Duration::from_millis(800));
        (world.leader, world.hint, world.manner) = (2, Some(2), Manner::Serves);
        let started = world.now;
        let outcomes = world.finish();
        let is_done = |outcome: &ClientOutcome| matches!(outcome, ClientOutcome::Done(_));
        assert!(outcomes.iter().all(is_done), "seed {seed}: {outcomes:?}");
        assert_eq!(world.applied, 16, "seed {seed}");
        let took = world.now.since(started);
        assert!(took < Duration::from_millis(2500), "seed {seed}: {took:?} to find the new leader");
    }
}

#[test]
fn what_takes_longer_than_an_attempt_on_its_way_is_not_begun_anew() {
    let mut world = World::new(7, 1, 0.0);
    let link = LinkConfig { rate_mbit: 10.0, queue_bytes: 64 << 10, ..LinkConfig::default() };
    world.netem.set_default_link(link);
    // The question who the members are goes unanswered here; it is over by then.
    world.put(0, "a", "small");
    world.finish();
    world.run_for(Duration::from_secs(3));
    let lost_before = world.client.stats().attempts_lost;
    let value = "v".repeat(3 << 20);
    let began = world.now;
    world.put(0, "a", &value);
    assert!(matches!(world.finish()[..], [ClientOutcome::Done(Outcome::Written { .. })]));
    let took = world.now.since(began);
    assert!(took > world.client.config.attempt_timeout, "{took:?} is no test of it");
    world.client.submit(world.now, 0, Op::Get { key: key("a") }).unwrap();
    assert!(matches!(world.finish()[..], [ClientOutcome::Done(Outcome::Value { .. })]));
    assert_eq!(world.client.stats().attempts_lost, lost_before);
    // Who goes silent on the way is left all the same.
    world.put(0, "b", &value);
    world.run_for(Duration::from_secs(1));
    world.nodes[1] = None;
    world.leader = 2;
    world.hint = Some(2);
    assert!(matches!(world.finish()[..], [ClientOutcome::Done(Outcome::Written { .. })]));
}

#[test]
fn a_silent_node_holds_up_one_reader_at_a_time() {
    let mut world = World::new(1, 8, 0.0);
    world.client.set_read_mode(ReadMode::Eventual);
    world.nodes[2] = None;
    let (mut last, mut longest) = (world.now, Duration::ZERO);
    let end = world.now + Duration::from_secs(30);
    // The first few seconds are for finding out.
    let found_out = world.now + Duration::from_secs(5);
    let mut idle: Vec<usize> = (0..8).collect();
    while world.now < end {
        for session in idle.drain(..) {
            world.client.submit(world.now, session, Op::Get { key: key("k") }).unwrap();
        }
        world.step();
        for (at, completion) in world.completions.drain(..) {
            idle.push(completion.session_index);
            longest = if at > found_out { longest.max(at.since(last)) } else { longest };
            last = at;
        }
    }
    assert!(longest < Duration::from_millis(100), "nobody read anything for {longest:?}");
}

#[test]
fn a_forgotten_session_is_opened_anew() {
    let mut world = World::new(3, 1, 0.0);
    world.put(0, "a", "1");
    world.finish();
    world.sessions.clear();
    for number in 0..10 {
        world.put(0, "a", &number.to_string());
    }
    let outcomes = world.finish();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, ClientOutcome::Done(_))));
    assert_eq!((world.applied, world.client.stats().sessions_lost), (11, 1));
}

#[test]
fn a_write_with_an_attempt_unaccounted_for_is_unknown_when_its_session_is_forgotten() {
    let mut world = World::new(4, 1, 0.0);
    world.put(0, "a", "1");
    world.finish();
    world.manner = Manner::Silent;
    world.put(0, "a", "2");
    world.client.submit(world.now, 0, Op::Get { key: key("a") }).unwrap();
    world.run_for(Duration::from_millis(1500));
    world.sessions.clear();
    world.manner = Manner::Serves;
    let outcomes = world.finish();
    assert!(outcomes.contains(&ClientOutcome::Unknown), "{outcomes:?}");
    let read = Outcome::Value { version: 2, value: key("2") };
    assert!(outcomes.contains(&ClientOutcome::Done(read)), "{outcomes:?}");
}

#[test]
fn without_a_cluster_everything_ends_at_its_deadline() {
    let mut world = World::new(5, 1, 0.0);
    world.put(0, "a", "1");
    world.finish();
    world.nodes = vec![None, None, None];
    let started = world.now;
    world.put(0, "a", "2");
    world.client.submit(world.now, 0, Op::Get { key: key("a") }).unwrap();
    assert_eq!(world.finish(), [ClientOutcome::Unknown, ClientOutcome::Unknown]);
    let took = world.now.since(started);
    assert!((30_000..30_020).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn refusals_for_good_end_at_once_and_others_are_tried_again() {
    let mut world = World::new(6, 2, 0.0);
    world.put(0, "a", "1");
    world.finish();
    for refusal in [Refusal::KeyBound, Refusal::ValueBound, Refusal::DiskFull] {
        world.manner = Manner::Refuses(refusal);
        world.put(0, "a", "2");
        // The second session has to be opened first: what waits for it is refused too.
        world.put(1, "a", "2");
        let refused = ClientOutcome::Failed(refusal);
        assert_eq!(world.finish(), [refused.clone(), refused]);
    }
    world.manner = Manner::Refuses(Refusal::Busy);
    world.put(1, "a", "2");
    world.run_for(Duration::from_millis(400));
    assert_eq!(world.client.outstanding(), 1);
    world.manner = Manner::Serves;
    assert_eq!(world.finish(), [ClientOutcome::Done(Outcome::Written { version: 2 })]);
}

#[test]
fn a_session_takes_no_more_than_its_window() {
    let mut world = World::new(7, 2, 0.0);
    for number in 0..64 {
        world.put(0, "a", &number.to_string());
    }
    let more = world.client.submit(world.now, 0, Op::Get { key: key("a") });
    assert_eq!(more, Err(SubmitError::WindowFull { index: 0, outstanding: 64 }));
    assert!(world.client.submit(world.now, 1, Op::Get { key: key("a") }).is_ok());
    let none = world.client.submit(world.now, 2, Op::Get { key: key("a") });
    assert_eq!(none, Err(SubmitError::NoSession { index: 2, sessions: 2 }));
    assert_eq!(world.finish().len(), 65);
    assert_eq!(world.applied, 64);
}

#[test]
fn what_its_predecessor_asked_for_answers_no_other_process() {
    // A process ends while its read is under way; the next one gets its port, and reads another key.
    let mut world = World::new(9, 1, 0.0);
    world.manner = Manner::Silent;
    let read = |text: &str| Op::Get { key: key(text) };
    world.client.submit(world.now, 0, read("a")).unwrap();
    world.run_for(Duration::from_millis(5));
    let (session, sequence) = *world.asked.last().expect("it has asked");
    world.client = ClientMachine::new(world.client.config.clone(), 2, 9);
    world.client.submit(world.now, 0, read("b")).unwrap();
    world.run_for(Duration::from_millis(5));
    let outcome = Outcome::Value { version: 3, value: Bytes::from_static(b"of a") };
    let late = Response { session, sequence, served_at: Slot(3), outcome }.encode();
    let node = world.nodes[1].as_mut().unwrap();
    node.send(world.now, world.client_address, &late).unwrap();
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.client.outstanding(), 1, "that was another's");
    world.manner = Manner::Serves;
    assert_eq!(world.finish(), [ClientOutcome::Done(Outcome::NotFound)]);
}

#[test]
fn nodes_that_point_at_each_other_do_not_make_a_storm() {
    let mut world = World::new(8, 1, 0.0);
    world.leader = 9;
    world.hint = Some(0);
    world.put(0, "a", "1");
    world.run_for(Duration::from_secs(10));
    let attempts = world.client.stats().attempts;
    assert!((10..1000).contains(&attempts), "{attempts} attempts in 10 s");
}
