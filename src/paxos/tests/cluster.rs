//! Several machines, their logs, and the messages between them, all in the test's hand.
//! `tests/mutants` uses it too: it names nothing but what is public.

use crate::coding::Backend;
use crate::config::{Change, ClusterConfig, Configuration, EpochConfig, Member, Policy, Seat};
use crate::mutant;
use crate::paxos::{Begun, Envelope, Message, Output, Paxos, RoleName, Ticket};
use crate::storage::{Recovered, RecoveredEntry, StoredValue};
use crate::time::{Duration, Instant};
use crate::types::{
    Ballot, Bytes, Code, Content, NodeId, Record, Shard, ShardSet, Slot, ValueId, ValueMeta,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a node has on disk.
#[derive(Clone, Default)]
pub struct FakeLog {
    pub promised: Ballot,
    pub chosen: Slot,
    pub floor: Slot,
    pub values: BTreeMap<Slot, (Ballot, ValueMeta, BTreeMap<u8, Shard>)>,
    pub faulty: Vec<Slot>,
    /// Shards whose bytes cannot be read; the head of their record can.
    pub damaged: BTreeMap<Slot, ShardSet>,
    /// A record is gone, nobody can say of which slot.
    pub is_damaged: bool,
}

impl FakeLog {
    fn append(&mut self, record: Record) {
        match record {
            Record::Promise { ballot } => self.promised = self.promised.max(ballot),
            Record::Accept { ballot, meta, shards } => {
                let slot = meta.slot();
                let entry = self
                    .values
                    .entry(slot)
                    .or_insert_with(|| (ballot, meta.clone(), BTreeMap::new()));
                if entry.1.id != meta.id {
                    *entry = (ballot, meta, BTreeMap::new());
                }
                entry.0 = ballot;
                entry.2.extend(shards.into_iter().map(|shard| (shard.index, shard)));
                self.faulty.retain(|faulty| *faulty != slot);
            }
            Record::Chosen { slot } => self.chosen = self.chosen.max(slot),
            Record::Floor { slot } => self.floor = self.floor.max(slot),
            Record::Peer { .. } | Record::Index { .. } => {}
        }
    }

    fn recover(&self) -> Recovered {
        Recovered {
            boot: 1,
            incarnation: 1,
            promised: self.promised,
            chosen: self.chosen,
            floor: self.floor,
            entries: self
                .values
                .values()
                .filter(|(_, meta, _)| !self.faulty.contains(&meta.slot()))
                .map(|(ballot, meta, shards)| RecoveredEntry {
                    ballot: *ballot,
                    meta: meta.clone(),
                    shards: shards.keys().copied().collect::<ShardSet>(),
                })
                .collect(),
            faulty: self.faulty.clone(),
            unknown_damage: self.is_damaged,
            ..Recovered::default()
        }
    }

    fn read(&self, slot: Slot) -> Option<StoredValue> {
        let (ballot, meta, shards) = self.values.get(&slot)?;
        let damaged = self.damaged.get(&slot).copied().unwrap_or(ShardSet::EMPTY);
        let intact = shards.values().filter(|shard| !damaged.contains(shard.index));
        let shards = intact.cloned().collect();
        Some(StoredValue { ballot: *ballot, meta: meta.clone(), shards, damaged })
    }
}

pub struct Node {
    pub paxos: Option<Paxos>,
    pub durable: FakeLog,
    pub written: FakeLog,
    unsynced: Vec<(Ticket, Vec<Record>)>,
    pub applied: Vec<ValueMeta>,
}

/// A message on its way.
pub struct Flight {
    pub from: u8,
    pub to: u8,
    pub message: Message,
}

pub struct Cluster {
    pub config: Arc<ClusterConfig>,
    pub nodes: Vec<Node>,
    pub flights: VecDeque<Flight>,
    pub now: Instant,
    /// The value chosen per slot, as first applied anywhere.
    pub chosen: BTreeMap<Slot, ValueId>,
    /// What it is, in whole: an id may stand for two values when its ballot was used twice.
    values: BTreeMap<Slot, ValueMeta>,
    seed: u64,
}

impl Cluster {
    pub fn new(policy: Policy, k: u8, nodes: u8) -> Self {
        Self::with_config(Self::config(policy, k, nodes), 7)
    }

    pub fn config(policy: Policy, k: u8, nodes: u8) -> ClusterConfig {
        let members = (0..nodes)
            .map(|id| Member {
                id: NodeId(id),
                address: SocketAddr::from(([127, 0, 0, 1], 9000 + u16::from(id))),
            })
            .collect();
        let code = Code::new(k, nodes - k).unwrap();
        let mut config = ClusterConfig::new(1, policy, code, members).unwrap();
        config.limits.page_bytes = 400;
        config
    }

    /// A cluster whose random choices follow from `seed`.
    pub fn with_config(config: ClusterConfig, seed: u64) -> Self {
        let nodes = config.epoch().nodes;
        let mut cluster = Self {
            config: Arc::new(config),
            nodes: Vec::new(),
            flights: VecDeque::new(),
            now: Instant::ZERO,
            chosen: BTreeMap::new(),
            values: BTreeMap::new(),
            seed,
        };
        for _ in 0..nodes {
            cluster.add_node();
        }
        cluster
    }

    /// Starts a node with the next id and the first cluster file.
    pub fn add_node(&mut self) -> u8 {
        let id = self.count();
        self.nodes.push(Node {
            paxos: None,
            durable: FakeLog::default(),
            written: FakeLog::default(),
            unsynced: Vec::new(),
            applied: Vec::new(),
        });
        self.start(id);
        id
    }

    /// Asks `leader` for a change of the members.
    pub fn change(
        &mut self,
        leader: u8,
        joins: Option<u8>,
        leaves: Option<u8>,
        code: (u8, u8),
    ) -> Begun {
        let now = self.now;
        let seat = |id: u8| Seat {
            id: NodeId(id),
            address: SocketAddr::from(([127, 0, 0, 1], 9000 + u16::from(id))),
            incarnation: 0,
        };
        let code = Code::new(code.0, code.1).unwrap();
        let change = Change { joins: joins.map(seat), leaves: leaves.map(NodeId), code };
        let paxos = self.nodes[usize::from(leader)].paxos.as_mut().unwrap();
        let begun = paxos.begin_change(now, change);
        self.drain(leader);
        begun
    }

    /// Asks `leader` to give a change up.
    pub fn cancel_change(&mut self, leader: u8) -> Begun {
        let now = self.now;
        let paxos = self.nodes[usize::from(leader)].paxos.as_mut().unwrap();
        let begun = paxos.cancel_change(now);
        self.drain(leader);
        begun
    }

    /// The configuration that a node goes by.
    pub fn configuration(&self, node: u8) -> Configuration {
        let paxos = self.nodes[usize::from(node)].paxos.as_ref().unwrap();
        paxos.configuration().clone()
    }

    pub fn start(&mut self, rank: u8) {
        self.seed += 1;
        let node = &mut self.nodes[usize::from(rank)];
        node.written = node.durable.clone();
        node.unsynced.clear();
        node.applied.clear();
        let recovered = node.durable.recover();
        let paxos = Paxos::new(
            Arc::clone(&self.config),
            NodeId(rank),
            Backend::default(),
            (recovered, None),
            self.now,
            self.seed,
            false,
        );
        node.paxos = Some(paxos);
        self.drain(rank);
    }

    /// The node stops; what was not synced is lost.
    pub fn crash(&mut self, rank: u8) {
        self.nodes[usize::from(rank)].paxos = None;
        self.flights.retain(|flight| flight.to != rank && flight.from != rank);
    }

    /// Moves everything the node wants out of it. Records wait for [`Self::sync`].
    pub fn drain(&mut self, rank: u8) {
        let now = self.now;
        let node = &mut self.nodes[usize::from(rank)];
        let Some(paxos) = &mut node.paxos else { return };
        while let Some(output) = paxos.poll_output(now) {
            match output {
                Output::Persist { ticket, records } => {
                    for record in &records {
                        node.written.append(record.clone());
                    }
                    node.unsynced.push((ticket, records));
                }
                Output::ReadIndex { .. } => {}
                Output::Read { slot } => {
                    let stored = node.written.read(slot);
                    paxos.handle_read(now, slot, stored);
                }
                Output::Send { to, message } => {
                    self.flights.push_back(Flight { from: rank, to, message });
                }
                Output::Trace(_) => {}
            }
        }
        while let Some(meta) = paxos.poll_chosen() {
            let id = *self.chosen.entry(meta.slot()).or_insert(meta.id);
            assert_eq!(id, meta.id, "agreement: two values applied in {}", meta.slot());
            let value = self.values.entry(meta.slot()).or_insert_with(|| meta.clone());
            assert_eq!(*value, meta, "agreement: two values of one id applied");
            node.applied.push(meta);
        }
        // A broken rule is for the checkers outside to find.
        if !mutant::is_any() {
            paxos.check_invariants();
        }
    }

    /// Who may answer a read from what it has applied, has applied all that anybody has.
    pub fn check_leases(&self) {
        (0..self.count()).for_each(|rank| self.check_lease(rank, self.now));
    }

    /// The same of one node, by whose clock it is `now`.
    pub fn check_lease(&self, rank: u8, now: Instant) {
        let furthest = self.nodes.iter().filter_map(|node| node.paxos.as_ref());
        let furthest = furthest.map(Paxos::applied).max();
        let Some(paxos) = &self.nodes[usize::from(rank)].paxos else { return };
        if paxos.holds_lease(now) {
            assert_eq!(Some(paxos.applied()), furthest, "lease: its holder is behind");
        }
    }

    pub fn sync(&mut self, rank: u8) {
        let node = &mut self.nodes[usize::from(rank)];
        let Some((ticket, _)) = node.unsynced.last() else { return };
        let ticket = *ticket;
        for record in node.unsynced.drain(..).flat_map(|(_, records)| records) {
            node.durable.append(record);
        }
        if let Some(paxos) = &mut node.paxos {
            paxos.handle_persisted(self.now, ticket);
        }
        self.drain(rank);
    }

    pub fn deliver(&mut self, flight: Flight) {
        let bytes: Bytes =
            Envelope { from: NodeId(flight.from), incarnation: 1, message: flight.message }
                .encode()
                .concat()
                .into();
        let message = Envelope::decode(bytes).unwrap().message;
        if let Some(paxos) = &mut self.nodes[usize::from(flight.to)].paxos {
            paxos.handle_message(self.now, flight.from, message);
        }
        self.drain(flight.to);
    }

    /// Delivers and syncs everything until nothing moves; messages for which `is_lost` go nowhere.
    pub fn settle(&mut self, is_lost: impl Fn(&Flight) -> bool) {
        loop {
            for rank in 0..self.count() {
                self.sync(rank);
            }
            let Some(flight) = self.flights.pop_front() else {
                if self.nodes.iter().all(|node| node.unsynced.is_empty()) {
                    return;
                }
                continue;
            };
            if !is_lost(&flight) {
                self.deliver(flight);
            }
        }
    }

    pub fn tick(&mut self, span: Duration) {
        self.now = self.now + span;
        for rank in 0..self.count() {
            if let Some(paxos) = &mut self.nodes[usize::from(rank)].paxos {
                paxos.handle_timeout(self.now);
            }
            self.drain(rank);
        }
    }

    /// Lets time pass in heartbeats, everything delivered but what is lost.
    pub fn pass(&mut self, millis: u64, is_lost: impl Fn(&Flight) -> bool) {
        for _ in 0..millis.div_ceil(25) {
            self.tick(Duration::from_millis(25));
            self.settle(&is_lost);
        }
    }

    /// Lets the nodes `awake` pass `millis`, and nobody else; messages of the others wait for ever.
    pub fn pass_for(&mut self, awake: &[u8], millis: u64, is_lost: impl Fn(&Flight) -> bool) {
        for _ in 0..millis.div_ceil(25) {
            self.tick_for(awake, 25);
            self.settle(&is_lost);
        }
    }

    /// Lets the nodes `awake` pass `millis` at once, and delivers nothing.
    pub fn tick_for(&mut self, awake: &[u8], millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        for rank in awake {
            let now = self.now;
            if let Some(paxos) = &mut self.nodes[usize::from(*rank)].paxos {
                paxos.handle_timeout(now);
            }
            self.drain(*rank);
        }
    }

    pub fn count(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap()
    }

    pub fn leader(&self) -> Option<u8> {
        (0..self.count())
            .filter_map(|rank| Some((rank, self.nodes[usize::from(rank)].paxos.as_ref()?)))
            .filter(|(_, paxos)| paxos.role() == RoleName::Leader)
            .max_by_key(|(_, paxos)| paxos.promised())
            .map(|(rank, _)| rank)
    }

    /// Runs until somebody leads.
    pub fn elect(&mut self) -> u8 {
        for _ in 0..400 {
            if let Some(rank) = self.leader() {
                return rank;
            }
            self.pass(25, |_| false);
        }
        panic!("nobody was elected");
    }

    pub fn propose(&mut self, rank: u8, text: &str, payload_bytes: usize) -> ValueId {
        let payload = Bytes::from(vec![u8::try_from(text.len()).unwrap(); payload_bytes]);
        let header = Bytes::copy_from_slice(text.as_bytes());
        let now = self.now;
        let paxos = self.nodes[usize::from(rank)].paxos.as_mut().unwrap();
        let id = paxos.propose(now, header, &payload).unwrap();
        self.drain(rank);
        id
    }

    pub fn can_propose(&self, rank: u8) -> bool {
        self.nodes[usize::from(rank)].paxos.as_ref().is_some_and(|paxos| paxos.can_propose(0))
    }

    pub fn propose_epoch(&mut self, rank: u8, wanted: EpochConfig) -> Option<ValueId> {
        let now = self.now;
        let paxos = self.nodes[usize::from(rank)].paxos.as_mut().unwrap();
        let id = paxos.propose_epoch(now, wanted);
        self.drain(rank);
        id
    }

    pub fn texts(&self, rank: u8) -> Vec<String> {
        self.nodes[usize::from(rank)]
            .applied
            .iter()
            .filter(|meta| meta.content() == Content::Command)
            .map(|meta| String::from_utf8(meta.header.to_vec()).unwrap())
            .collect()
    }
}
