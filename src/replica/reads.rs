//! Reads: confirm leadership, or hold a lease, or answer from what is applied; then the values.
//!
//! A read is served at one state: the keys and versions are taken at once, the values of these
//! versions afterwards, from the cache or from k shards (DESIGN 3.4). A version that was superseded
//! meanwhile may be gone everywhere: the read is then served anew, at a later state.

use super::Replica;
use super::clients::Caller;
use crate::config::Limits;
use crate::kv::{Entry, Op, Outcome, Refusal, Request, Row};
use crate::mutant::{Mutant, breaks};
use crate::time::Instant;
use crate::types::{Bytes, ReadMode, Slot};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Reads under way.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Not yet confirmed, in order of arrival.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Served, waiting for values.
    open: BTreeMap<u64, Open>,
    /// Bytes that these will answer with.
    open_bytes: usize,
    next_open: u64,
    /// When the first of these is looked at, or before.
    tick_at: Option<Instant>,
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
    op: Op,
    served_at: Slot,
    rows: Vec<OpenRow>,
    missing: usize,
    /// When to look whether its versions are still the latest.
    retry_at: Instant,
    give_up_at: Instant,
}

impl Open {
    fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }
}

#[derive(Debug)]
struct OpenRow {
    key: Bytes,
    version: Slot,
    /// Of the row with its value, at hand or not.
    bytes: usize,
    value: Option<Bytes>,
}

impl Replica {
    pub(super) fn handle_read_request(&mut self, now: Instant, caller: Caller, request: Request) {
        let Request { read, op, .. } = request;
        let waiting = self.reads.unconfirmed.len() + self.reads.open.len();
        if waiting >= self.config.cluster.limits.waiting_requests {
            return self.refuse(now, caller, Refusal::Busy);
        }
        match read.mode {
            ReadMode::Linearizable => {}
            ReadMode::Lease if self.paxos.holds_lease(now) => {
                let give_up_at = self.read_give_up_at(now);
                return self.serve(now, caller, op, give_up_at);
            }
            // Without a lease it is confirmed as any other.
            ReadMode::Lease => {}
            ReadMode::Eventual
                if self.state.applied() < read.at_least && !breaks(Mutant::ReadsGoBack) =>
            {
                return self.refuse(now, caller, Refusal::Behind);
            }
            ReadMode::Eventual => {
                let give_up_at = self.read_give_up_at(now);
                return self.serve(now, caller, op, give_up_at);
            }
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
                && first.slot <= applied
                && (first.sequence <= confirmed || breaks(Mutant::ReadsUnconfirmed))
            {
                if let Some(read) = self.reads.unconfirmed.pop_front() {
                    let give_up_at = self.read_give_up_at(now);
                    self.serve(now, read.caller, read.op, give_up_at);
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

    fn read_give_up_at(&self, now: Instant) -> Instant {
        now + self.config.cluster.timing.resend() * GIVE_UP_RESENDS
    }

    fn serve(&mut self, now: Instant, caller: Caller, op: Op, give_up_at: Instant) {
        match &op {
            Op::Get { key } => {
                let Some(entry) = self.state.entry(key) else {
                    return self.reply(now, caller, self.state.applied(), Outcome::NotFound);
                };
                let row = self.row(key.clone(), entry);
                if let Some(value) = row.value {
                    let outcome = Outcome::Value { version: row.version.0, value };
                    return self.reply(now, caller, self.state.applied(), outcome);
                }
                self.open(now, caller, op, give_up_at, vec![row]);
            }
            Op::Scan { start, limit } => {
                let limits = &self.config.cluster.limits;
                let rows_max = (*limit).min(limits.scan_rows) as usize;
                let mut bytes = 0;
                let mut found = Vec::new();
                for (key, entry) in self.state.range(start).take(rows_max) {
                    bytes += entry.payload_bytes as usize + key.len() + ROW_BYTES;
                    // A reply is one message: it ends early rather than grow beyond a value.
                    if bytes > limits.value_bytes && !found.is_empty() {
                        break;
                    }
                    found.push((Bytes::copy_from_slice(key), entry));
                }
                let rows = found.into_iter().map(|(key, entry)| self.row(key, entry)).collect();
                self.open(now, caller, op, give_up_at, rows);
            }
            Op::OpenSession
            | Op::Put { .. }
            | Op::Delete { .. }
            | Op::CompareAndSet { .. }
            | Op::Status
            | Op::Admin(_)
            | Op::Control { .. } => {}
        }
    }

    /// A key with its value, if that is in the cache.
    fn row(&mut self, key: Bytes, entry: Entry) -> OpenRow {
        let (version, bytes) = (entry.version, entry.payload_bytes as usize);
        let value = if bytes == 0 { Some(Bytes::new()) } else { self.cache.find(version) };
        OpenRow { bytes: bytes + key.len() + ROW_BYTES, key, version, value }
    }

    fn open(
        &mut self,
        now: Instant,
        caller: Caller,
        op: Op,
        give_up_at: Instant,
        rows: Vec<OpenRow>,
    ) {
        let served_at = self.state.applied();
        let retry_at = now + self.config.cluster.timing.resend();
        let missing = rows.iter().filter(|row| row.value.is_none()).count();
        let open = Open { caller, op, served_at, rows, missing, retry_at, give_up_at };
        if missing == 0 {
            return self.answer_read(now, open);
        }
        // One that is larger than the bound is served alone.
        let open_bytes = self.reads.open_bytes + open.bytes();
        let is_full = open_bytes > self.config.cluster.limits.reading_bytes;
        if is_full && !self.reads.open.is_empty() {
            return self.refuse(now, open.caller, Refusal::Busy);
        }
        let id = self.reads.next_open;
        self.reads.next_open += 1;
        for row in open.rows.iter().filter(|row| row.value.is_none()) {
            self.reads.by_slot.entry(row.version).or_default().push(id);
            self.reads.to_gather.insert(row.version);
        }
        self.reads.tick_at = Some(self.reads.tick_at.map_or(retry_at, |at| at.min(retry_at)));
        self.reads.open_bytes = open_bytes;
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
                && let Some(open) = self.reads.remove(id)
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
        let outcome = if matches!(open.op, Op::Scan { .. }) {
            Outcome::Rows(rows.collect())
        } else {
            match rows.next() {
                Some(Row { version, value, .. }) => Outcome::Value { version, value },
                None => Outcome::NotFound,
            }
        };
        self.reply(now, open.caller, open.served_at, outcome);
    }

    /// Reads whose values cannot be gathered in time are refused, not left in silence; those whose
    /// versions were superseded are served anew.
    pub(super) fn tick_reads(&mut self, now: Instant) {
        if self.reads.tick_at.is_none_or(|at| at > now) {
            return;
        }
        let due = self.reads.open.iter().filter(|(_, open)| open.retry_at <= now);
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        for id in due {
            let Some(open) = self.reads.open.get_mut(&id) else { continue };
            let is_over = open.give_up_at <= now;
            open.retry_at = (now + self.config.cluster.timing.resend()).min(open.give_up_at);
            let state = &self.state;
            let is_superseded = open.rows.iter().any(|row| {
                let current = state.entry(&row.key).map(|entry| entry.version);
                row.value.is_none() && current != Some(row.version)
            });
            if !is_over && !is_superseded {
                continue;
            }
            let Some(open) = self.close(id) else { continue };
            if is_over {
                self.refuse(now, open.caller, Refusal::Unavailable);
            } else {
                self.serve(now, open.caller, open.op, open.give_up_at);
            }
        }
        self.reads.tick_at = self.reads.open.values().map(|open| open.retry_at).min();
    }

    /// Takes a read out, and its wishes for values with it.
    fn close(&mut self, id: u64) -> Option<Open> {
        let open = self.reads.remove(id)?;
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
        Some(open)
    }

    pub(super) fn reads_timeout(&self) -> Option<Instant> {
        self.reads.tick_at
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
    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.open_bytes -= open.bytes();
        Some(open)
    }

    pub(super) fn check_invariants(&self, limits: &Limits) {
        let waiting = self.unconfirmed.len() + self.open.len();
        assert!(waiting <= limits.waiting_requests, "too many waiting reads");
        let bytes: usize = self.open.values().map(Open::bytes).sum();
        assert_eq!(bytes, self.open_bytes, "bytes of open reads");
        let is_within = bytes <= limits.reading_bytes || self.open.len() == 1;
        assert!(is_within, "open reads over their bound");
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

/// What a row takes beside its key and value, in a message and while it waits.
const ROW_BYTES: usize = 64;
/// A read waits this many resend times for its values.
const GIVE_UP_RESENDS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Read;
    use crate::replica::testing::{
        address, answers, client_side, first_of_three, key_of, put_values, set_limits,
    };

    /// One more get, of what slot `slot` wrote; is it open now, or refused?
    fn get(replica: &mut Replica, slot: u64) -> bool {
        let before = replica.reads.open.len();
        let caller = Caller { address: address(9), session: 1, sequence: slot };
        let give_up_at = replica.read_give_up_at(Instant::ZERO);
        replica.serve(Instant::ZERO, caller, Op::Get { key: key_of(slot) }, give_up_at);
        replica.reads.check_invariants(&replica.config.cluster.limits);
        replica.reads.open.len() > before
    }

    #[test]
    fn values_that_reads_wait_for_are_bounded() {
        let mut replica = first_of_three();
        set_limits(&mut replica, |limits| limits.reading_bytes = 35_000);
        put_values(&mut replica, 9, 10_000);
        let opened = (2..=6).filter(|slot| get(&mut replica, *slot)).count();
        assert_eq!(opened, 3, "a fourth would be over the bound");

        // What is answered gives its place back.
        replica.take_value(Instant::ZERO, Slot(2), &Bytes::from(vec![0; 10_000]));
        assert!(get(&mut replica, 5));
        assert!(!get(&mut replica, 6));

        // A read larger than the bound is served when no other is open.
        let open: Vec<u64> = replica.reads.open.keys().copied().collect();
        for id in open {
            replica.close(id);
        }
        set_limits(&mut replica, |limits| limits.reading_bytes = 5_000);
        assert!(get(&mut replica, 7));
        assert!(!get(&mut replica, 8));
    }

    #[test]
    fn an_eventual_read_is_refused_behind_and_where_nobody_has_the_value() {
        let mut replica = first_of_three();
        put_values(&mut replica, 3, 100);
        let (from, mut side) = (address(9), client_side());
        let mut sequence = 0;
        let mut ask = |replica: &mut Replica, at_least: u64| {
            sequence += 1;
            let read = Read { mode: ReadMode::Eventual, at_least: Slot(at_least) };
            let op = Op::Get { key: key_of(2) };
            let request = Request { session: 1, sequence, answered_below: 0, read, op };
            replica.handle_request(Instant::ZERO, from, request);
            answers(replica, Instant::ZERO, &mut side, from)
        };
        let refused: Vec<Outcome> =
            ask(&mut replica, 4).into_iter().map(|answer| answer.outcome).collect();
        assert_eq!(refused, [Outcome::Refused(Refusal::Behind)], "its client has seen more");

        // Its state has the key, and nobody answers who could give a shard of the value.
        assert!(ask(&mut replica, 3).is_empty(), "it is looked for");
        let give_up_at = replica.read_give_up_at(Instant::ZERO);
        replica.tick_reads(Instant::ZERO + give_up_at.since(Instant::ZERO) / 2);
        assert!(answers(&mut replica, Instant::ZERO, &mut side, from).is_empty(), "not before");
        replica.tick_reads(give_up_at);
        let refused = answers(&mut replica, give_up_at, &mut side, from);
        let outcomes: Vec<&Outcome> = refused.iter().map(|answer| &answer.outcome).collect();
        assert_eq!(outcomes, [&Outcome::Refused(Refusal::Unavailable)]);
    }
}
