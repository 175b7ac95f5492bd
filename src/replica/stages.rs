//! Where the time of a write goes on the leader: queue, encode, wire, sync, quorum, apply.
//!
//! The stages of one write follow one another and add up to the time from the request's arrival to
//! the answer's departure. What overlaps is counted where it ends first: while this node syncs, the
//! others work, so that only what is left of their answers after it is the quorum's. Only measures:
//! without a stopwatch nothing is kept, and nothing is ever decided by it.

use crate::paxos::{Stopwatch, Ticket};
use crate::time::{Duration, Instant};
use crate::transport::{MessageId, Transport};
use crate::types::Slot;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Sums over all writes that this node has answered as the leader, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Writes.
    pub writes: u64,
    /// From the request's arrival until it was proposed: the window of slots in flight was full.
    pub queue_nanos: u64,
    /// Making the shards and their digests.
    pub encode_nanos: u64,
    /// Until the last of the shards was handed to the network; what the sync hides is not counted.
    pub wire_nanos: u64,
    /// Until the own shards were written and durable, with everything else of the same turn.
    pub sync_nanos: u64,
    /// From both until the slot, and every one before it, was chosen.
    pub quorum_nanos: u64,
    /// From then until the answer was handed to the network.
    pub apply_nanos: u64,
}

#[derive(Debug, Default)]
pub(super) struct Stages {
    pub(super) stopwatch: Option<Stopwatch>,
    /// In the order of their slots.
    pending: VecDeque<Pending>,
    /// When what is answered was chosen, until the answers are gone.
    answered: Vec<Instant>,
    /// The newest batch that the driver was given, and the last slot that it holds.
    appended: Option<(Ticket, Slot)>,
    times: StageTimes,
}

#[derive(Debug)]
struct Pending {
    slot: Slot,
    queue: Duration,
    encode: Duration,
    encoded_at: Instant,
    /// Its messages that are not wholly handed to the network.
    unsent: Vec<(SocketAddr, MessageId)>,
    sent_at: Option<Instant>,
    durable_at: Option<Instant>,
}

impl Stages {
    pub(super) const fn times(&self) -> StageTimes {
        self.times
    }

    /// A write that came at `arrived` was proposed at `now`; making its shards took `encode`.
    pub(super) fn proposed(
        &mut self,
        slot: Slot,
        (arrived, now): (Instant, Instant),
        encode: Duration,
    ) {
        if self.stopwatch.is_none() {
            return;
        }
        // A leader that lost what it had proposed begins anew.
        while self.pending.back().is_some_and(|last| last.slot >= slot) {
            self.pending.pop_back();
        }
        self.pending.push_back(Pending {
            slot,
            queue: now.since(arrived),
            encode,
            encoded_at: now + encode,
            unsent: Vec::new(),
            sent_at: None,
            durable_at: None,
        });
    }

    /// A message with the shards of `slots` was queued.
    pub(super) fn queued(
        &mut self,
        slots: impl Iterator<Item = Slot>,
        to: SocketAddr,
        id: MessageId,
    ) {
        for slot in slots {
            if let Some(pending) = self.find(slot) {
                pending.unsent.push((to, id));
            }
        }
    }

    /// Nothing more can be handed to the network now; `ticket` is the batch that is written next.
    pub(super) fn drained(&mut self, now: Instant, transport: &Transport, ticket: Option<Ticket>) {
        for chosen_at in self.answered.drain(..) {
            self.times.apply_nanos += nanos(now.since(chosen_at));
        }
        for pending in self.pending.iter_mut().filter(|pending| pending.sent_at.is_none()) {
            pending.unsent.retain(|(to, id)| transport.is_unsent(*to, *id));
            if pending.unsent.is_empty() {
                pending.sent_at = Some(now);
            }
        }
        if let (Some(ticket), Some(last)) = (ticket, self.pending.back()) {
            self.appended = Some((ticket, last.slot));
        }
    }

    /// Everything up to `ticket` is durable.
    pub(super) fn persisted(&mut self, now: Instant, ticket: Ticket) {
        let Some((_, last)) = self.appended.filter(|(newest, _)| ticket >= *newest) else { return };
        let until = self.pending.partition_point(|pending| pending.slot <= last);
        for pending in self.pending.range_mut(..until) {
            pending.durable_at = pending.durable_at.or(Some(now));
        }
    }

    /// The write of `slot` is chosen, as all before it are, and its answer queued.
    pub(super) fn answered(&mut self, now: Instant, slot: Slot) {
        while let Some(first) = self.pending.front().filter(|first| first.slot <= slot) {
            if first.slot == slot {
                self.answered.push(now);
                self.times.add(first, now);
            }
            self.pending.pop_front();
        }
    }

    /// What was proposed is not waited for any more.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    fn find(&mut self, slot: Slot) -> Option<&mut Pending> {
        let at = self.pending.binary_search_by_key(&slot, |pending| pending.slot).ok()?;
        self.pending.get_mut(at)
    }
}

impl StageTimes {
    fn add(&mut self, write: &Pending, chosen_at: Instant) {
        self.writes += 1;
        self.queue_nanos += nanos(write.queue);
        self.encode_nanos += nanos(write.encode);
        let within = |at: Option<Instant>| at.map_or(chosen_at, |at| at.min(chosen_at));
        let (sent_at, durable_at) = (within(write.sent_at), within(write.durable_at));
        let (first, last) = (sent_at.min(durable_at), sent_at.max(durable_at));
        let (until_first, until_last) = (nanos(first.since(write.encoded_at)), last.since(first));
        if sent_at <= durable_at {
            self.wire_nanos += until_first;
            self.sync_nanos += nanos(until_last);
        } else {
            self.sync_nanos += until_first;
            self.wire_nanos += nanos(until_last);
        }
        self.quorum_nanos += nanos(chosen_at.since(last));
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn write(sent: Option<u64>, durable: Option<u64>) -> Pending {
        Pending {
            slot: Slot(1),
            queue: Duration::ZERO,
            encode: Duration::ZERO,
            encoded_at: at(10),
            unsent: Vec::new(),
            sent_at: sent.map(at),
            durable_at: durable.map(at),
        }
    }

    #[test]
    fn stages_follow_one_another_whatever_ends_first() {
        // (sent, durable) -> wire, sync, quorum; encoded at 10, chosen at 100.
        for (sent, durable, expected) in [
            (Some(20), Some(70), [10, 50, 30]),
            (Some(70), Some(20), [50, 10, 30]),
            // A slow link: chosen by others before all was sent; before the own sync.
            (None, Some(20), [80, 10, 0]),
            (Some(20), None, [10, 80, 0]),
            (Some(20), Some(200), [10, 80, 0]),
        ] {
            let mut times = StageTimes::default();
            times.add(&write(sent, durable), at(100));
            let micros = [times.wire_nanos, times.sync_nanos, times.quorum_nanos].map(|n| n / 1000);
            assert_eq!(micros, expected, "{sent:?} {durable:?}");
            assert_eq!(micros.iter().sum::<u64>(), 90);
        }
    }

    #[test]
    fn nothing_is_kept_without_a_stopwatch() {
        let mut stages = Stages::default();
        stages.proposed(Slot(1), (at(0), at(5)), Duration::from_micros(3));
        stages.answered(at(100), Slot(1));
        assert_eq!(stages.times(), StageTimes::default());
    }

    #[test]
    fn a_slot_that_is_proposed_anew_is_counted_once() {
        let mut stages = Stages { stopwatch: Some(|| 0), ..Stages::default() };
        stages.proposed(Slot(7), (at(0), at(5)), Duration::ZERO);
        stages.proposed(Slot(6), (at(0), at(5)), Duration::ZERO);
        stages.proposed(Slot(7), (at(0), at(5)), Duration::ZERO);
        stages.answered(at(100), Slot(6));
        stages.answered(at(100), Slot(7));
        // 5 us each: what was lost with its leadership is in no sum.
        assert_eq!((stages.times().writes, stages.times().queue_nanos), (2, 10_000));
    }
}
