//! The real `decide` and the real `is_chosen`, asked about states of the model.
//!
//! A rule of these two is broken by what they are given; they themselves stay as they are.

use super::super::super::choice::is_chosen;
use super::super::super::message::{PromiseEntry, ShardedValue};
use super::super::super::promise::{Collected, Decision, Recovered, decide};
use super::setup::{Broken, K, Setup};
use super::state::{APPLIED, BALLOTS_MAX, BLIND, FAULTY, IDS, Kept, NODES_MAX, State};
use crate::config::{Configuration, EpochConfig, Policy};
use crate::types::{Ballot, Bytes, Code, Digest, Epoch, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::sync::Mutex;

/// What a leader does with the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The promises do not decide.
    Wait,
    /// The slot is applied somewhere: nothing is proposed there.
    Applied,
    /// Nobody accepted anything: the slot is free.
    Fresh,
    /// What was accepted was not chosen.
    NoOp,
    /// This value id may be chosen.
    Value {
        id: u8,
        /// No ballot of acceptance has k shards of it.
        is_mixed: bool,
    },
}

/// Promises by rank, 0 for none.
pub type Said = [u16; NODES_MAX];

/// Decisions and what they were made from. The real function is asked once for each place's key.
pub struct Oracle {
    known: Mutex<Vec<(Said, u8, Outcome)>>,
}

const PLACES: usize = 1 << 16;

impl Oracle {
    pub fn new() -> Self {
        // A key without promises waits, with any prepare quorum.
        Self { known: Mutex::new(vec![([0; NODES_MAX], 0, Outcome::Wait); PLACES]) }
    }

    /// What the leader of `ballot` decides, given these promises.
    pub fn decide(&self, setup: &Setup, ballot: u8, said: Said) -> Outcome {
        let prepare = prepare_quorum(setup, ballot);
        let mut key = u64::from(prepare);
        for word in said {
            key = (key << 16 ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key ^= key >> 29;
        }
        let place = usize::try_from(key >> 32).unwrap() % PLACES;
        let mut known = self.known.lock().unwrap();
        let (of_said, of_prepare, outcome) = known[place];
        if of_said == said && of_prepare == prepare {
            return outcome;
        }
        let outcome = ask(setup, prepare, said);
        known[place] = (said, prepare, outcome);
        outcome
    }
}

fn prepare_quorum(setup: &Setup, ballot: u8) -> u8 {
    setup.prepare_of(ballot) - u8::from(setup.breaks(Broken::DecidesWithFewer))
}

/// An epoch that asks for `prepare` promises, of any nodes of the model.
fn epoch_of(prepare: u32) -> Configuration {
    let nodes = u8::try_from(2 * prepare.max(1) - 1).unwrap();
    let all = u8::try_from(NODES_MAX).unwrap().max(nodes);
    let code = Code::new(1, nodes - 1).unwrap();
    let policy = Policy::Replicate;
    let rules = EpochConfig { epoch: Epoch(0), nodes, policy, code, hybrid_bytes: 0 };
    let members = Configuration::of_ranks(EpochConfig { nodes: all, ..rules }).members;
    Configuration { members, ..Configuration::of_ranks(rules) }
}

fn ask(setup: &Setup, prepare: u8, said: Said) -> Outcome {
    let mut given: [Option<Kept>; NODES_MAX] =
        said.map(|said| (said != 0).then(|| Kept::of_said(said)));
    let mut prepare = u32::from(prepare);
    distort(setup, &mut prepare, &mut given);
    let epoch = epoch_of(prepare);
    let of = |(rank, kept): (usize, &Option<Kept>)| {
        let node = u8::try_from(rank).unwrap();
        kept.map(|kept| (node, whole(setup, epoch.clone(), rank, kept)))
    };
    let promises = given.iter().enumerate().filter_map(of).collect();
    match decide(&promises) {
        Decision::Wait => Outcome::Wait,
        Decision::Lead { applied: Slot(1..), .. } => Outcome::Applied,
        Decision::Lead { applied: Slot(0), proposals, .. } => match proposals.first() {
            None => Outcome::Fresh,
            Some(Recovered::NoOp) => Outcome::NoOp,
            Some(Recovered::Value { meta, .. }) => {
                let id = id_of(meta);
                Outcome::Value { id, is_mixed: is_mixed(setup, id, &given) }
            }
        },
    }
}

/// Is it told as accepted?
fn is_told(kept: &Kept) -> bool {
    kept.at != 0 && !kept.has(APPLIED | FAULTY)
}

/// A complete promise, as `Paxos::start_promise` makes it.
fn whole(setup: &Setup, epoch: Configuration, rank: usize, kept: Kept) -> Collected {
    let mut entries = Vec::new();
    if kept.has(BLIND) {
        entries.push(PromiseEntry::AllFaulty);
    }
    if kept.has(APPLIED) {
        return Collected::whole(Slot(1), epoch, entries);
    }
    if kept.has(FAULTY) {
        entries.push(PromiseEntry::Faulty { slot: Slot(1) });
    } else if is_told(&kept) {
        let intact = setup.shards(rank, kept.intact);
        let shards = intact.iter().map(|index| Shard::new(index, Bytes::from_static(b"ab")));
        entries.push(PromiseEntry::Accepted {
            ballot: Ballot { round: u64::from(kept.at), node: 0 },
            claimed: setup.shards(rank, kept.held),
            value: ShardedValue { meta: meta(setup, kept.id), shards: shards.collect() },
        });
    }
    Collected::whole(Slot::ZERO, epoch, entries)
}

fn meta(setup: &Setup, id: u8) -> ValueMeta {
    let ballots = u8::try_from(BALLOTS_MAX).unwrap();
    let (round, node) = if id > ballots { (id - ballots, 1) } else { (id, 0) };
    ValueMeta {
        id: ValueId { origin: Ballot { round: u64::from(round), node }, slot: Slot(1) },
        epoch: Epoch(0),
        code: Code::new(K, setup.nodes - K).unwrap(),
        payload_bytes: 4,
        digest: Digest(u128::from(id)),
        header: Bytes::from_static(b"put"),
    }
}

fn id_of(meta: &ValueMeta) -> u8 {
    let id = u8::try_from(meta.digest.0).unwrap();
    assert!(IDS.contains(&id), "value id {id}");
    id
}

fn is_mixed(setup: &Setup, id: u8, given: &[Option<Kept>]) -> bool {
    let shards_at = |at: u8| {
        given
            .iter()
            .enumerate()
            .filter_map(|(rank, kept)| Some((rank, (*kept)?)))
            .filter(|(_, kept)| is_told(kept) && kept.id == id && kept.at == at)
            .fold(ShardSet::EMPTY, |all, (rank, kept)| all.union(setup.shards(rank, kept.intact)))
    };
    let ballots = u8::try_from(BALLOTS_MAX).unwrap();
    (1..=ballots).all(|at| shards_at(at).count() < u32::from(K))
}

/// Breaks a rule of deciding, by what `decide` is told.
fn distort(setup: &Setup, prepare: &mut u32, given: &mut [Option<Kept>; NODES_MAX]) {
    match setup.broken {
        Broken::CountsHighestBallotOnly => {
            let top = given.iter().flatten().filter(|kept| is_told(kept)).max_by_key(|k| k.at);
            let Some(top) = top.copied() else { return };
            let lower = given.iter_mut().flatten().filter(|k| k.id == top.id && k.at < top.at);
            lower.for_each(|kept| kept.at = 0);
        }
        Broken::OriginWins => {
            given.iter_mut().flatten().filter(|k| k.at != 0).for_each(|kept| kept.at = kept.id);
        }
        Broken::IgnoresClaims => {
            given.iter_mut().flatten().for_each(|kept| kept.held = kept.intact);
        }
        Broken::HidesApplied => {
            let applied = given.iter_mut().flatten().filter(|kept| kept.has(APPLIED));
            applied.for_each(|kept| *kept = Kept::default());
        }
        Broken::HidesDamage => {
            given.iter_mut().flatten().for_each(|kept| kept.flags &= !(FAULTY | BLIND));
        }
        Broken::CountsDamageApart => {
            let count = |of: &dyn Fn(&Kept) -> bool| {
                u32::try_from(given.iter().flatten().filter(|kept| of(kept)).count()).unwrap()
            };
            let blind = count(&|kept| kept.has(BLIND));
            let faulty = count(&|kept| kept.has(FAULTY));
            let sound = count(&|kept| !kept.has(BLIND | FAULTY));
            let whole = count(&|_| true);
            if whole - blind.max(faulty) >= *prepare {
                *prepare = (*prepare).min(sound);
            }
        }
        Broken::Nothing
        | Broken::Replaces
        | Broken::RenamesValue
        | Broken::DecidesWithFewer
        | Broken::DecidesAgain
        | Broken::CountsSinglesAsCopies
        | Broken::PromisesEarly
        | Broken::AcknowledgesEarly
        | Broken::ReusesBallot
        | Broken::TrustsApplied
        | Broken::CommitsAnyBallot
        | Broken::IgnoresOldEpoch
        | Broken::KeepsLostIdentity
        | Broken::RepairsWithHome => {}
    }
}

/// Does the leader of `ballot` take its value for chosen, by the acknowledgements sent to it?
pub fn counts_as_chosen(setup: &Setup, state: &State, ballot: u8) -> bool {
    let id = state.term(ballot).led;
    let origin = if usize::from(id) > BALLOTS_MAX { ballot } else { id };
    let prepare = u32::from(setup.prepare_of(origin));
    let at = usize::from(ballot - 1);
    let mut acks = [ShardSet::EMPTY; NODES_MAX];
    for rank in setup.ranks() {
        acks[rank] = setup.shards(rank, state.columns[rank].acks[at]);
    }
    let acks = &mut acks[setup.ranks()];
    let has_copy = acks.iter().any(|held| held.count() >= u32::from(K));
    if setup.breaks(Broken::CountsSinglesAsCopies) && has_copy {
        for held in acks.iter_mut().filter(|held| !held.is_empty()) {
            *held = ShardSet::first(u32::from(K));
        }
    }
    is_chosen(acks, prepare, u32::from(K))
}
