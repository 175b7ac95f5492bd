//! Linearizable reads on the leader: confirm, wait for the slot, find or gather the values.
//!
//! A read is served at one state: the keys and versions are taken at once, the values of these
//! versions afterwards, from the cache or from k shards (DESIGN 3.4).

use super::Replica;
use super::clients::Caller;
use crate::kv::{Op, Outcome, Refusal, Row};
use crate::time::Instant;
use crate::types::{Bytes, Slot};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Not yet confirmed, in order of arrival.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Served, waiting for values.
    open: BTreeMap<u64, Open>,
    next_open: u64,
    /// Which open reads wait for a slot's value.
    by_slot: BTreeMap<Slot, Vec<u64>>,
    /// Slots of these whose gathering has yet to start.
    to_gather: BTreeSet<Slot>,
}

#[derive(Debug)]
struct Unconfirmed {
    caller: Caller,
    op: Op,
    sequence: u64,
    slot: Slot,
}

#[derive(Debug)]
struct Open {
    caller: Caller,
    is_scan: bool,
    served_at: Slot,
    rows: Vec<OpenRow>,
    missing: usize,
    give_up_at: Instant,
}

#[derive(Debug)]
struct OpenRow {
    key: Bytes,
    version: Slot,
    value: Option<Bytes>,
}

impl Replica {
    pub(super) fn handle_read_request(&mut self, now: Instant, caller: Caller, op: Op) {
        let waiting = self.reads.unconfirmed.len() + self.reads.open.len();
        if waiting >= self.config.cluster.limits.waiting_requests {
            return self.refuse(now, caller, Refusal::Busy);
        }
        match self.paxos.read_point() {
            Some((sequence, slot)) => {
                self.reads.unconfirmed.push_back(Unconfirmed { caller, op, sequence, slot });
            }
            None => {
                let leader = self.paxos.leader().map(|node| node.0);
                self.refuse(now, caller, Refusal::NotLeader { leader });
            }
        }
    }

    /// Serves what is confirmed and applied, takes in gathered values, starts gathering.
    pub(super) fn advance_reads(&mut self, now: Instant) {
        if !self.reads.unconfirmed.is_empty() {
            let confirmed = self.paxos.confirmed_sequence();
            let applied = self.state.applied();
            while let Some(first) = self.reads.unconfirmed.front()
                && first.sequence <= confirmed
                && first.slot <= applied
            {
                if let Some(read) = self.reads.unconfirmed.pop_front() {
                    self.serve(now, read.caller, &read.op);
                }
            }
        }
        while let Some(gathered) = self.paxos.poll_gathered() {
            self.cache.insert(gathered.slot, gathered.payload.clone());
            self.take_value(now, gathered.slot, &gathered.payload);
        }
        while let Some(&slot) = self.reads.to_gather.first() {
            if !self.paxos.gather_payload(now, slot) {
                break;
            }
            self.reads.to_gather.pop_first();
        }
    }

    fn serve(&mut self, now: Instant, caller: Caller, op: &Op) {
        match op {
            Op::Get { key } => {
                let rows = self.state.entry(key).map(|entry| (key.clone(), entry));
                self.open(now, caller, false, rows.into_iter().collect());
            }
            Op::Scan { start, limit } => {
                let limits = &self.config.cluster.limits;
                let rows_max = (*limit).min(limits.scan_rows) as usize;
                let mut bytes = 0;
                let mut rows = Vec::new();
                for (key, entry) in self.state.range(start).take(rows_max) {
                    bytes += entry.payload_bytes as usize + key.len();
                    // A reply is one message: it ends early rather than grow beyond a value.
                    if bytes > limits.value_bytes && !rows.is_empty() {
                        break;
                    }
                    rows.push((Bytes::copy_from_slice(key), entry));
                }
                self.open(now, caller, true, rows);
            }
            Op::OpenSession
            | Op::Put { .. }
            | Op::Delete { .. }
            | Op::CompareAndSet { .. }
            | Op::Status
            | Op::Control { .. } => {}
        }
    }

    fn open(
        &mut self,
        now: Instant,
        caller: Caller,
        is_scan: bool,
        rows: Vec<(Bytes, crate::kv::Entry)>,
    ) {
        let id = self.reads.next_open;
        let mut missing = 0;
        let mut open_rows = Vec::with_capacity(rows.len());
        for (key, entry) in rows {
            let value = if entry.payload_bytes == 0 {
                Some(Bytes::new())
            } else {
                self.cache.find(entry.version)
            };
            if value.is_none() {
                missing += 1;
                self.reads.by_slot.entry(entry.version).or_default().push(id);
                self.reads.to_gather.insert(entry.version);
            }
            open_rows.push(OpenRow { key, version: entry.version, value });
        }
        let served_at = self.state.applied();
        let give_up_at = now + self.config.cluster.timing.resend() * GIVE_UP_RESENDS;
        let open = Open { caller, is_scan, served_at, rows: open_rows, missing, give_up_at };
        if missing == 0 {
            return self.answer_read(now, open);
        }
        self.reads.next_open += 1;
        self.reads.open.insert(id, open);
    }

    fn take_value(&mut self, now: Instant, slot: Slot, value: &Bytes) {
        self.reads.to_gather.remove(&slot);
        for id in self.reads.by_slot.remove(&slot).unwrap_or_default() {
            let Some(open) = self.reads.open.get_mut(&id) else { continue };
            for row in open.rows.iter_mut().filter(|row| row.version == slot) {
                if row.value.is_none() {
                    row.value = Some(value.clone());
                    open.missing -= 1;
                }
            }
            if open.missing == 0
                && let Some(open) = self.reads.open.remove(&id)
            {
                self.answer_read(now, open);
            }
        }
    }

    fn answer_read(&mut self, now: Instant, open: Open) {
        let mut rows = open.rows.into_iter().filter_map(|row| {
            let value = row.value?;
            Some(Row { key: row.key, version: row.version.0, value })
        });
        let outcome = if open.is_scan {
            Outcome::Rows(rows.collect())
        } else {
            match rows.next() {
                Some(Row { version, value, .. }) => Outcome::Value { version, value },
                None => Outcome::NotFound,
            }
        };
        self.reply(now, open.caller, open.served_at, outcome);
    }

    /// Reads whose values cannot be gathered in time are refused, not left in silence.
    pub(super) fn tick_reads(&mut self, now: Instant) {
        while let Some((&id, open)) = self.reads.open.first_key_value()
            && open.give_up_at <= now
        {
            let Some(open) = self.reads.open.remove(&id) else { break };
            for row in open.rows.iter().filter(|row| row.value.is_none()) {
                let is_last = self.reads.by_slot.get_mut(&row.version).is_some_and(|waiting| {
                    waiting.retain(|other| *other != id);
                    waiting.is_empty()
                });
                if is_last {
                    self.reads.by_slot.remove(&row.version);
                    self.reads.to_gather.remove(&row.version);
                    self.paxos.cancel_gather(row.version);
                }
            }
            self.refuse(now, open.caller, Refusal::Unavailable);
        }
    }

    pub(super) fn reads_timeout(&self) -> Option<Instant> {
        self.reads.open.first_key_value().map(|(_, open)| open.give_up_at)
    }

    /// Leadership is lost: what was not confirmed has not been served.
    pub(super) fn drop_unconfirmed(&mut self, now: Instant) {
        let leader = self.paxos.leader().map(|node| node.0);
        for read in std::mem::take(&mut self.reads.unconfirmed) {
            self.refuse(now, read.caller, Refusal::NotLeader { leader });
        }
    }
}

impl Reads {
    pub(super) fn check_invariants(&self) {
        for slot in &self.to_gather {
            assert!(self.by_slot.contains_key(slot), "{slot} is wanted by nobody");
        }
        for (slot, waiting) in &self.by_slot {
            assert!(
                waiting.iter().any(|id| self.open.contains_key(id)),
                "{slot} is waited for by no open read"
            );
        }
        for open in self.open.values() {
            let missing = open.rows.iter().filter(|row| row.value.is_none()).count();
            assert_eq!(missing, open.missing, "rows without a value");
        }
    }
}

/// A read waits this many resend times for its values.
const GIVE_UP_RESENDS: u32 = 8;
