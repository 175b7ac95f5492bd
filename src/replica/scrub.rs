//! The scrub: every live value's shards are read and verified in turn, and recorded anew when lost.
//!
//! One mechanism for two needs: after an index snapshot came from a peer this node lacks its shards of
//! values that it never saw (repair, at its own rate), and disks rot (the scrub, slowly, for ever).
//! It goes over the keys in order and holds no more than a few values at a time.

use super::Replica;
use crate::kv::StorageStatus;
use crate::storage::StoredValue;
use crate::time::{Duration, Instant};
use crate::types::Slot;
use std::collections::{BTreeMap, VecDeque};

/// Where the pass is.
#[derive(Debug)]
pub(super) struct Scrub {
    /// The last key looked at; none at the start of a pass.
    cursor: Option<Box<[u8]>>,
    due: Instant,
    to_read: VecDeque<Slot>,
    /// Under way, with the key.
    open: BTreeMap<Slot, Stage>,
    /// Keys looked at in this pass.
    seen: u64,
    /// Values of this pass that could not be repaired, and of the last that ended.
    given_up: GivenUp,
    unrebuilt: GivenUp,
    passes: u64,
    scrubbed_count: u64,
    repaired_count: u64,
}

/// Values that could not be repaired.
#[derive(Debug, Default)]
struct GivenUp {
    count: u64,
    /// The first few.
    keys: Vec<Box<[u8]>>,
}

impl GivenUp {
    fn add(&mut self, key: &[u8]) {
        self.count += 1;
        if self.keys.len() < NAMED_MAX {
            self.keys.push(key.into());
        }
    }
}

#[derive(Debug)]
struct Stage {
    key: Box<[u8]>,
    what: Doing,
    /// A value that cannot be repaired until then is left for the next pass.
    give_up_at: Instant,
}

#[derive(Debug)]
enum Doing {
    Reading,
    /// All places for gathering are taken: tried again.
    Waiting(Option<StoredValue>),
    Repairing,
}

impl Scrub {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            cursor: None,
            due: now + TICK,
            to_read: VecDeque::new(),
            open: BTreeMap::new(),
            seen: 0,
            given_up: GivenUp::default(),
            unrebuilt: GivenUp::default(),
            passes: 0,
            scrubbed_count: 0,
            repaired_count: 0,
        }
    }

    /// A new pass, from the first key, now.
    pub(super) fn begin_repair(&mut self, now: Instant) {
        (self.cursor, self.seen, self.due) = (None, 0, now);
    }

    pub(super) fn poll_read(&mut self) -> Option<Slot> {
        self.to_read.pop_front()
    }

    /// `keys`: how many there are, when lost shards are being recorded anew.
    pub(super) fn report(&self, status: &mut StorageStatus, keys: Option<u64>) {
        status.repairing = keys.map(|keys| (self.seen.min(keys), keys));
        status.scrub_passes = self.passes;
        status.scrubbed_count = self.scrubbed_count;
        status.repaired_count = self.repaired_count;
        status.unrebuilt_count = self.unrebuilt.count;
        let keys = self.unrebuilt.keys.iter();
        status.unrebuilt_keys = keys.map(|key| key.escape_ascii().to_string()).collect();
    }
}

impl Replica {
    pub(super) fn scrub_timeout(&self) -> Option<Instant> {
        let limits = &self.config.cluster.limits;
        // A repair without keys ends too: until then this node says that it holds nothing, and no
        // change of members counts on it.
        let is_repair = self.snapshots.is_repair_outstanding();
        let is_scrub = limits.scrub_bytes_per_second > 0 && self.state.key_count() > 0;
        (is_repair || is_scrub).then_some(self.scrub.due)
    }

    /// Looks at the next values, as many as the rate allows.
    pub(super) fn tick_scrub(&mut self, now: Instant) {
        if self.scrub_timeout().is_none_or(|due| due > now) {
            return;
        }
        self.take_repaired();
        self.try_waiting(now);
        let limits = &self.config.cluster.limits;
        let rate = if self.snapshots.is_repair_outstanding() {
            limits.repair_bytes_per_second
        } else {
            limits.scrub_bytes_per_second
        };
        let k = u64::from(self.paxos.epoch().code.k());
        let (mut spent, mut is_end) = (0, false);
        let budget = (rate / TICKS_PER_SECOND).max(1);
        let give_up_at = now + self.config.cluster.timing.resend() * GIVE_UP_RESENDS;
        while spent < budget && self.scrub.open.len() < OPEN_MAX {
            let next = self.state.after(self.scrub.cursor.as_deref()).next();
            let Some((key, entry)) = next else {
                is_end = true;
                break;
            };
            let key: Box<[u8]> = key.into();
            // What a snapshot stands for is mostly fetched: k shards.
            let payload_bytes = u64::from(entry.payload_bytes);
            let is_fetched = self.is_skipped(entry.version);
            spent += if is_fetched { payload_bytes } else { payload_bytes / k } + VALUE_BYTES;
            self.scrub.cursor = Some(key.clone());
            self.scrub.seen += 1;
            // A pass that began anew may meet what is still under way.
            if self.scrub.open.contains_key(&entry.version) {
                continue;
            }
            self.scrub.to_read.push_back(entry.version);
            self.scrub.open.insert(entry.version, Stage { key, what: Doing::Reading, give_up_at });
        }
        // What a large value takes beyond the budget is waited for.
        let ticks = u32::try_from((spent / budget).max(1)).unwrap_or(u32::MAX);
        self.scrub.due = now + TICK.saturating_mul(ticks);
        if is_end && self.scrub.open.is_empty() {
            self.end_pass(now);
        }
    }

    fn end_pass(&mut self, now: Instant) {
        let scrub = &mut self.scrub;
        (scrub.cursor, scrub.seen) = (None, 0);
        scrub.passes += 1;
        // A short pass is no reason for a next one at once.
        scrub.due = now + PASS_PAUSE;
        scrub.unrebuilt = std::mem::take(&mut scrub.given_up);
        if scrub.unrebuilt.count == 0 {
            self.snapshots.skipped = None;
            // Those that are left were superseded.
            self.snapshots.lost.clear();
        } else if self.snapshots.skipped.is_none() {
            // What cannot be rebuilt now is looked for again, not all the time.
            scrub.due = now + RETRY_PAUSE;
        }
    }

    /// The log has answered for a value that the scrub looks at.
    pub(super) fn handle_scrubbed(
        &mut self,
        now: Instant,
        slot: Slot,
        stored: Option<StoredValue>,
    ) {
        if !self.scrub.open.contains_key(&slot) {
            return;
        }
        self.scrub.scrubbed_count += 1;
        let is_whole = stored.as_ref().is_some_and(|stored| self.paxos.is_whole(stored));
        if is_whole || !self.is_wanted(slot) {
            self.snapshots.lost.remove(&slot);
            self.scrub.open.remove(&slot);
            self.paxos.cancel_repair(slot);
            return;
        }
        self.start_repair(now, slot, stored);
    }

    /// A read has met damage in the value of `slot`: the scrub looks at it next.
    pub(super) fn scrub_soon(&mut self, now: Instant, stored: &StoredValue) {
        let slot = stored.meta.slot();
        let Some(key) = self.state.current_key(&stored.meta) else { return };
        if self.scrub.open.len() >= 2 * OPEN_MAX || self.scrub.open.contains_key(&slot) {
            return;
        }
        let give_up_at = now + self.config.cluster.timing.resend() * GIVE_UP_RESENDS;
        let (key, what) = (key.as_ref().into(), Doing::Reading);
        self.scrub.open.insert(slot, Stage { key, what, give_up_at });
        self.scrub.to_read.push_back(slot);
        self.scrub.due = self.scrub.due.min(now + TICK);
    }

    /// Is `slot` among those that a snapshot stands for?
    fn is_skipped(&self, slot: Slot) -> bool {
        self.snapshots.skipped.is_some_and(|(low, high)| slot > low && slot <= high)
    }

    fn start_repair(&mut self, now: Instant, slot: Slot, stored: Option<StoredValue>) {
        // A record that should be there and is not may have answered for k shards; one that a
        // snapshot stands for was perhaps never there.
        let is_loss = !self.is_skipped(slot);
        let is_unknown = stored.is_none() && is_loss;
        if is_loss {
            self.snapshots.lost.insert(slot);
        }
        let what = if self.paxos.repair(now, slot, stored.clone(), is_unknown) {
            self.trace(|| format!("{slot}: shards are recorded anew"));
            Doing::Repairing
        } else {
            Doing::Waiting(stored)
        };
        if let Some(stage) = self.scrub.open.get_mut(&slot) {
            stage.what = what;
        }
        self.take_repaired();
    }

    fn try_waiting(&mut self, now: Instant) {
        let waiting: Vec<Slot> = self
            .scrub
            .open
            .iter()
            .filter(|(_, stage)| matches!(stage.what, Doing::Waiting(_)))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in waiting {
            let Some(stage) = self.scrub.open.get_mut(&slot) else { continue };
            let Doing::Waiting(stored) = &mut stage.what else { continue };
            let stored = stored.take();
            if self.is_wanted(slot) {
                self.start_repair(now, slot, stored);
            }
        }
        // Values that were superseded meanwhile are nobody's concern any more. One that is superseded
        // elsewhere and not yet here may be gone there: it waits for nothing.
        let late = |(_, stage): &(&Slot, &Stage)| stage.give_up_at <= now;
        let late: Vec<Slot> = self.scrub.open.iter().filter(late).map(|(slot, _)| *slot).collect();
        let open = self.scrub.open.keys().copied();
        let superseded: Vec<Slot> = open.filter(|slot| !self.is_wanted(*slot)).collect();
        let Scrub { open, given_up, .. } = &mut self.scrub;
        for slot in late.iter().filter(|slot| !superseded.contains(slot)) {
            if let Some(stage) = open.get(slot) {
                given_up.add(&stage.key);
            }
        }
        for slot in superseded.into_iter().chain(late) {
            self.paxos.cancel_repair(slot);
            self.scrub.open.remove(&slot);
        }
    }

    fn take_repaired(&mut self) {
        while let Some(slot) = self.paxos.poll_repaired() {
            self.scrub.repaired_count += 1;
            self.snapshots.lost.remove(&slot);
            self.scrub.open.remove(&slot);
        }
    }

    /// Is the value of a slot under way still its key's current one?
    fn is_wanted(&self, slot: Slot) -> bool {
        self.scrub.open.get(&slot).is_some_and(|stage| {
            self.state.entry(&stage.key).is_some_and(|entry| entry.version == slot)
        })
    }
}

const TICKS_PER_SECOND: u64 = 10;
const TICK: Duration = Duration::from_millis(100);
/// Between two passes over few keys.
const PASS_PAUSE: Duration = Duration::from_secs(2);
/// Between two passes for what could not be rebuilt.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// A repair may take so many resend times.
const GIVE_UP_RESENDS: u32 = 16;
/// So many keys that could not be repaired are named.
const NAMED_MAX: usize = 8;
/// Values under way at once.
const OPEN_MAX: usize = 64;
/// What looking at a value costs beside its bytes.
const VALUE_BYTES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::{
        first_of_five_coded, first_of_three, key_of, put_values, set_limits, value_of,
    };
    use crate::replica::{Output, Reader};
    use crate::types::{Ballot, Record, ShardSet};

    #[test]
    fn a_repair_without_keys_ends() {
        // A snapshot in which every key is deleted was taken in: while the repair lasts the node says
        // that it holds nothing durably, and no change of members would ever be closed.
        let mut replica = first_of_three();
        replica.snapshots.skipped = Some((Slot(0), Slot(9)));
        let due = replica.scrub_timeout().expect("the repair is due");
        assert!(replica.poll_timeout().is_some_and(|at| at <= due), "nobody would call it");
        replica.tick_scrub(due);
        assert!(!replica.snapshots.is_repair_outstanding());
    }

    #[test]
    fn who_has_lost_a_current_value_says_that_it_holds_nothing_until_it_is_back() {
        let mut replica = first_of_three();
        set_limits(&mut replica, |limits| limits.scrub_bytes_per_second = 0);
        put_values(&mut replica, 3, 100);
        assert!(!replica.snapshots.is_repair_outstanding());
        replica.snapshots.lost.insert(Slot(2));
        // In the first pass nobody has a value; in the second it is found whole.
        let give_up_at = Instant::ZERO + Duration::from_secs(4);
        while replica.snapshots.is_repair_outstanding() {
            let due = replica.scrub_timeout().expect("it is due although the scrub is off");
            replica.tick_scrub(due);
            let is_back = due > give_up_at;
            while let Some(slot) = replica.scrub.poll_read() {
                if is_back || slot != Slot(2) {
                    replica.scrub.open.remove(&slot);
                }
            }
            let passes = replica.scrub.passes;
            let status = replica.storage_status();
            let mut named = Vec::new();
            if passes == 1 {
                named.push(key_of(2).escape_ascii().to_string());
            }
            let told = (status.unrebuilt_count, status.unrebuilt_keys);
            assert_eq!(told, (named.len() as u64, named));
            assert_eq!(replica.snapshots.is_repair_outstanding(), passes < 2, "{passes} passes");
        }
    }

    #[test]
    fn damage_that_a_read_meets_is_looked_at_next() {
        let mut replica = first_of_five_coded();
        set_limits(&mut replica, |limits| limits.scrub_bytes_per_second = 1);
        put_values(&mut replica, 3, 100);
        let code = replica.paxos.epoch().code;
        let read = |replica: &mut Replica, slot: u64, damaged: ShardSet| {
            let Output::Read { ticket, .. } = replica.read(Slot(slot), Reader::Paxos) else {
                panic!("a read of the log");
            };
            let (ballot, meta) = (Ballot { round: 1, node: 0 }, value_of(slot, code, 100));
            let stored = StoredValue { ballot, meta, shards: Vec::new(), damaged };
            replica.handle_read(Instant::ZERO, ticket, Some(stored));
            replica.scrub.poll_read()
        };
        assert_eq!(read(&mut replica, 3, ShardSet::EMPTY), None, "nothing is wrong");
        assert_eq!(read(&mut replica, 2, ShardSet::one(0)), Some(Slot(2)));
        assert_eq!(read(&mut replica, 2, ShardSet::one(0)), None, "it is being looked at");
    }

    #[test]
    fn a_value_is_looked_at_after_its_record_is_written() {
        let mut replica = first_of_five_coded();
        put_values(&mut replica, 2, 100);
        let (ballot, meta) =
            (Ballot { round: 1, node: 0 }, value_of(2, replica.paxos.epoch().code, 100));
        replica.paxos.persist(Record::Accept { ballot, meta, shards: Vec::new() });
        let due = replica.scrub_timeout().expect("a scrub is due");
        replica.tick_scrub(due);
        let outputs = std::iter::from_fn(|| replica.poll_output(due));
        let order: Vec<&str> = outputs
            .filter_map(|output| match output {
                Output::Persist { records, .. } if records.iter().any(is_accept) => Some("written"),
                Output::Read { .. } => Some("read"),
                Output::Persist { .. }
                | Output::Transmit(_)
                | Output::Reclaim { .. }
                | Output::ReadIndex { .. }
                | Output::Trace(_)
                | Output::Control { .. } => None,
            })
            .collect();
        assert_eq!(order, ["written", "read"], "it would find nothing there, and rebuild it");
    }

    fn is_accept(record: &Record) -> bool {
        matches!(record, Record::Accept { .. })
    }

    /// Values of 10,000 bytes that are looked at in ten seconds, each answered at once.
    fn looked_at(replica: &mut Replica) -> u64 {
        let (mut count, start) = (0, replica.scrub.due);
        while let Some(due) = replica.scrub_timeout() {
            if due >= start + Duration::from_secs(10) {
                break;
            }
            replica.tick_scrub(due);
            count += std::iter::from_fn(|| replica.scrub.poll_read()).count() as u64;
            replica.scrub.open.clear();
        }
        count
    }

    #[test]
    fn repairs_and_scrubs_keep_to_their_rates() {
        for (mut replica, k) in [(first_of_three(), 1), (first_of_five_coded(), 3)] {
            put_values(&mut replica, 3000, 10_000);
            let with = |replica: &mut Replica, repair: u64, scrub: u64| {
                set_limits(replica, |limits| {
                    limits.repair_bytes_per_second = repair;
                    limits.scrub_bytes_per_second = scrub;
                });
                replica.scrub.begin_repair(Instant::ZERO);
                looked_at(replica)
            };
            let is_kept = |count: u64, each: u64, rate: u64| {
                let bytes = count * each / 10;
                assert!(bytes <= rate * 11 / 10 && bytes >= rate / 2, "{bytes} B/s of {rate}");
            };
            // A scrub reads the own shard, a repair fetches k of them from others.
            is_kept(with(&mut replica, 9, 100_000), 10_000 / k, 100_000);
            is_kept(with(&mut replica, 9, 900_000), 10_000 / k, 900_000);
            replica.snapshots.skipped = Some((Slot(0), Slot(3000)));
            is_kept(with(&mut replica, 500_000, 9), 10_000, 500_000);
        }
    }
}
