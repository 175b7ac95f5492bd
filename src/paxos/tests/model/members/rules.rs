//! The real `decide` and the real `Proposal::is_chosen_in`, asked about states of the model.
//!
//! A rule of these two is broken by what they are given; they themselves stay as they are.

use super::super::super::super::leader::Proposal;
use super::super::super::super::message::{PromiseEntry, ShardedValue};
use super::super::super::super::promise::{Collected, Decision, Recovered, decide};
use super::setup::{Broken, Setup, stranger};
use super::state::{Accepted, CLOSING, Kept, NEW, NODES};
use crate::config::{Configuration, Seat};
use crate::time::Instant;
use crate::types::{Ballot, Bytes, Digest, NodeSet, Shard, ShardSet, Slot, ValueId, ValueMeta};
use std::sync::Mutex;

/// What the promises say of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is applied somewhere: nothing is proposed there.
    Applied,
    /// Nobody accepted anything there or behind it: the leader proposes what it likes.
    Free,
    /// Something is behind it: a no-op.
    NoOp,
    /// This value id may be chosen.
    Value(u8),
    /// It lies behind the entry that starts other members.
    Behind,
}

/// What a leader does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub end: Found,
    pub next: Found,
    /// The new members are those who decide.
    pub is_new: bool,
}

/// Promises by node, 0 for none.
pub type Said = [u16; NODES];

const END: Slot = Slot(1);
const NEXT: Slot = Slot(2);
/// In a value id of either slot.
const FLAG: u8 = CLOSING | NEW;

/// The rules of a run, each asked once for each question.
pub struct Rules {
    pub old: Configuration,
    pub new: Configuration,
    /// Whose promises count, before and after.
    counted: [Configuration; 2],
    /// By acknowledgements as bits: is the closing entry chosen, is another value among the old, is
    /// one among the new?
    closing: Vec<bool>,
    closing_by_both: Vec<bool>,
    by_old: Vec<bool>,
    by_new: Vec<bool>,
    /// The mutant of that name.
    is_overtaken: bool,
    known: Mutex<Vec<(Said, Option<Outcome>)>>,
}

const PLACES: usize = 1 << 18;

impl Rules {
    pub fn new(setup: &Setup) -> Self {
        let [old, new] = setup.configurations();
        let counted = [&old, &new].map(|of| match setup.breaks(Broken::CountsStrangers) {
            true => with_strangers(setup, of),
            false => of.clone(),
        });
        let closing_by_both = table(&old, Some(&new));
        let (by_old, by_new) = (table(&old, None), table(&new, None));
        let is_by = |broken| setup.breaks(broken);
        let closing = match (is_by(Broken::ClosesByOldAlone), is_by(Broken::ClosesByNewAlone)) {
            (true, _) => by_old.clone(),
            (false, true) => by_new.clone(),
            (false, false) => closing_by_both.clone(),
        };
        let is_overtaken = setup.breaks(Broken::OldEpochOvertakes);
        // A key without promises decides nothing.
        let known = Mutex::new(vec![([0; NODES], None); PLACES]);
        Self { old, new, counted, closing, closing_by_both, by_old, by_new, is_overtaken, known }
    }

    /// Is `id` chosen in the slot that may end the change?
    pub fn is_end_chosen(&self, id: u8, acks: u8) -> bool {
        let table = if id & CLOSING == 0 { &self.by_old } else { &self.closing };
        table[usize::from(acks)]
    }

    /// Is a value chosen in the slot behind it?
    pub fn is_next_chosen(&self, is_new: bool, acks: u8) -> bool {
        let table = if is_new { &self.by_new } else { &self.by_old };
        table[usize::from(acks)]
    }

    /// Does an acknowledgement of `node` count for a value that these choose?
    pub fn is_counted(&self, node: usize, (by_old, by_new): (bool, bool)) -> bool {
        let node = u8::try_from(node).unwrap();
        by_old && self.old.is_member(node) || by_new && self.new.is_member(node)
    }

    /// Do these choose the closing entry among the old members and among the new?
    pub fn is_by_both(&self, acks: u8) -> bool {
        self.closing_by_both[usize::from(acks)]
    }

    /// May these promises decide anything, now or when one of them tells of the new members?
    pub fn may_decide(&self, nodes: u8) -> bool {
        self.counted.iter().any(|of| {
            let counted = NodeSet(u32::from(nodes)).intersection(of.ids());
            counted.count() >= of.rules.quorums().prepare
        })
    }

    /// What a leader decides with these promises; `None`: they do not suffice.
    pub fn decide(&self, said: Said) -> Option<Outcome> {
        let mut key = 0_u64;
        for word in said {
            key = (key << 16 ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key ^= key >> 29;
        }
        let place = usize::try_from(key >> 32).unwrap() % PLACES;
        let mut known = self.known.lock().unwrap();
        if known[place].0 != said {
            known[place] = (said, self.ask(said, false));
        }
        known[place].1
    }

    /// For a mutant alone: what the same promises say of the slot behind the closing entry.
    pub fn decide_behind(&self, said: Said) -> Found {
        self.ask(said, true).map_or(Found::Free, |outcome| outcome.next)
    }

    fn ask(&self, said: Said, is_behind: bool) -> Option<Outcome> {
        let given = said.iter().zip(0_u8..).filter(|(said, _)| **said != 0);
        let promises =
            given.map(|(said, node)| (node, self.whole(Kept::of_said(*said), is_behind))).collect();
        match decide(&promises) {
            Decision::Wait => None,
            Decision::Lead { applied, configuration, proposals } => {
                let mut proposals = proposals.iter();
                let end = if applied >= END { Found::Applied } else { found(proposals.next()) };
                let next = match end {
                    Found::Value(id) if id & CLOSING != 0 => Found::Behind,
                    Found::Applied
                    | Found::Free
                    | Found::NoOp
                    | Found::Value(_)
                    | Found::Behind => found(proposals.next()),
                };
                assert_eq!(proposals.next(), None, "{end:?} and {next:?}, and more");
                let is_new = configuration.rules.epoch == self.new.rules.epoch;
                Some(Outcome { end, next, is_new })
            }
        }
    }

    /// A complete promise, as `Paxos::start_promise` makes it. `is_behind`: as if the entry in `end`
    /// were applied, and had started nothing.
    fn whole(&self, kept: Kept, is_behind: bool) -> Collected {
        let mut entries = Vec::new();
        if kept.end.at != 0 && !is_behind {
            entries.push(self.entry(END, kept.end));
        }
        if kept.next.at != 0 {
            entries.push(self.entry(NEXT, kept.next));
        }
        let [old, new] = &self.counted;
        let is_new = kept.has_applied && kept.end.id & CLOSING != 0 && !is_behind;
        let applied = if kept.has_applied || is_behind { END } else { Slot::ZERO };
        Collected::whole(applied, if is_new { new } else { old }.clone(), entries)
    }

    /// Whose epoch a value without [`NEW`] has; for a mutant alone that of the new members.
    fn proposers(&self, slot: Slot) -> &Configuration {
        if slot == NEXT && self.is_overtaken { &self.new } else { &self.old }
    }

    fn entry(&self, slot: Slot, accepted: Accepted) -> PromiseEntry {
        PromiseEntry::Accepted {
            ballot: ballot(accepted.at),
            claimed: ShardSet::one(0),
            value: ShardedValue {
                meta: meta(slot, accepted.id, self.proposers(slot), &self.new),
                shards: vec![Shard::new(0, Bytes::from_static(b"ab"))],
            },
        }
    }
}

fn ballot(round: u8) -> Ballot {
    Ballot { round: u64::from(round), node: 0 }
}

fn meta(slot: Slot, id: u8, old: &Configuration, new: &Configuration) -> ValueMeta {
    let is_closing = slot == END && id & CLOSING != 0;
    let of = if slot == NEXT && id & NEW != 0 { new } else { old };
    let put = || Bytes::from_static(b"put");
    ValueMeta {
        id: ValueId { origin: ballot(id & !FLAG), slot },
        epoch: of.rules.epoch,
        code: old.rules.copies(),
        payload_bytes: 2,
        digest: Digest(u128::from(id)),
        header: if is_closing { new.encode() } else { put() },
    }
}

fn found(proposal: Option<&Recovered>) -> Found {
    match proposal {
        None => Found::Free,
        Some(Recovered::NoOp) => Found::NoOp,
        Some(Recovered::Value { meta, .. }) => Found::Value(u8::try_from(meta.digest.0).unwrap()),
    }
}

/// The same rules, and every node of the model a member.
fn with_strangers(setup: &Setup, of: &Configuration) -> Configuration {
    // A seat of its own, so that the lists stay different.
    let seat = |id: u8| Seat { incarnation: 1, ..stranger(id) };
    let nodes = u8::try_from(setup.nodes().len()).unwrap();
    let strangers = (0..nodes).filter(|id| !of.is_member(*id)).map(seat);
    let members = of.members.iter().copied().chain(strangers).collect();
    Configuration { members, ..of.clone() }
}

/// What the real rule says of a value proposed under `of` for each set of acknowledgements; `also`
/// is what `Paxos::start` notes of an entry that starts other members.
fn table(of: &Configuration, also: Option<&Configuration>) -> Vec<bool> {
    let also =
        also.map(|next| (std::sync::Arc::clone(&next.members), next.rules.quorums().prepare));
    let chosen = |set: usize| {
        let mut acks = [ShardSet::EMPTY; 32];
        for (node, held) in acks.iter_mut().enumerate().take(NODES) {
            *held = if set & 1 << node == 0 { ShardSet::EMPTY } else { ShardSet::one(0) };
        }
        let proposal = Proposal {
            meta: meta(NEXT, 1, of, of),
            shards: Vec::new(),
            acks,
            also: also.clone(),
            c: 1,
            sent_at: Instant::ZERO,
            send_again_at: Instant::ZERO,
            tries: 0,
            is_chosen: false,
        };
        proposal.is_chosen_in(of)
    };
    (0..1 << NODES).map(chosen).collect()
}
