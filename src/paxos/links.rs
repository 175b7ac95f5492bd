//! How long each node takes to acknowledge, as a line over the bytes that are on their way to it.
//!
//! A weighted least squares fit per node: old samples fade. It steers how much is sent, never what
//! counts as chosen (rule 8). Source: Crossword's linear model of delay and bandwidth, with one
//! difference: what counts is not a value's own bytes but everything that is in flight with it. In a
//! queue a short value waits as long as the long ones ahead of it, so that over its own bytes the line
//! is flat just where the bandwidth is short.

use crate::time::{Duration, Instant};
use crate::types::{NodeSet, Slot};
use std::collections::VecDeque;

/// Estimates by id.
#[derive(Clone, Debug)]
pub(super) struct Links {
    fits: Vec<Fit>,
    /// What was proposed last, by slot: also what is chosen already, for whoever is slower.
    sent: VecDeque<Sent>,
    /// To each node.
    in_flight_bytes: usize,
}

/// One proposal on its way.
#[derive(Clone, Debug)]
struct Sent {
    slot: Slot,
    at: Instant,
    /// To each node; 0 when it is in flight no more.
    bytes: usize,
    /// With it and ahead of it.
    total_bytes: usize,
    /// Who has answered, or was sent it again: an answer says nothing of the link any more.
    is_done_by: NodeSet,
}

/// Faded sums of bytes x and seconds y, and the seconds without a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    base: f64,
}

impl Links {
    pub(super) fn new(nodes: usize) -> Self {
        let fits = vec![Fit::default(); nodes];
        Self { fits, sent: VecDeque::new(), in_flight_bytes: 0 }
    }

    /// Each node is sent `bytes`.
    pub(super) fn handle_proposed(&mut self, now: Instant, slot: Slot, bytes: usize) {
        if self.sent.len() >= SENT_MAX
            && let Some(oldest) = self.sent.pop_front()
        {
            self.in_flight_bytes -= oldest.bytes;
        }
        self.in_flight_bytes += bytes;
        let (total_bytes, is_done_by) = (self.in_flight_bytes, NodeSet::EMPTY);
        self.sent.push_back(Sent { slot, at: now, bytes, total_bytes, is_done_by });
    }

    /// It is chosen: what follows does not wait behind it.
    pub(super) fn handle_chosen(&mut self, slot: Slot) {
        let bytes = self.sent(slot).map_or(0, |sent| std::mem::take(&mut sent.bytes));
        self.in_flight_bytes -= bytes;
    }

    /// It was sent again to `nodes`.
    pub(super) fn handle_sent_again(&mut self, slot: Slot, nodes: NodeSet) {
        if let Some(sent) = self.sent(slot) {
            sent.is_done_by = sent.is_done_by.union(nodes);
        }
    }

    /// The node `node` has acknowledged it.
    pub(super) fn handle_acknowledged(&mut self, now: Instant, slot: Slot, node: u8) {
        let Some(sent) = self.sent(slot).filter(|sent| !sent.is_done_by.contains(node)) else {
            return;
        };
        sent.is_done_by.insert(node);
        let (bytes, took) = (sent.total_bytes, now.since(sent.at));
        if let Some(fit) = self.fits.get_mut(usize::from(node)) {
            fit.add(bytes, took);
        }
    }

    fn sent(&mut self, slot: Slot) -> Option<&mut Sent> {
        let at = self.sent.binary_search_by_key(&slot, |sent| sent.slot).ok()?;
        self.sent.get_mut(at)
    }

    /// When an acknowledgement is expected with `bytes` on their way. Zero when nothing was measured
    /// (the leader itself, or a node that just came).
    pub(super) fn expected(&self, node: u8, bytes: usize) -> Duration {
        let fit = self.fits.get(usize::from(node)).filter(|fit| fit.weight > 0.0);
        fit.map_or(Duration::ZERO, |fit| fit.at(bytes))
    }
}

impl Fit {
    fn add(&mut self, bytes: usize, took: Duration) {
        let (x, y) = (bytes as f64, took.as_secs_f64());
        let is_shorter = self.weight == 0.0 || y < self.base;
        self.base += (y - self.base) * if is_shorter { 1.0 } else { 1.0 - FADE };
        for (sum, add) in [
            (&mut self.weight, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.xx, x * x),
            (&mut self.xy, x * y),
        ] {
            *sum = *sum * FADE + add;
        }
    }

    fn at(&self, bytes: usize) -> Duration {
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        let spread = self.xx / self.weight - mean_x * mean_x;
        // What is sent together is acknowledged together, and a busy cluster always has about as much
        // in flight: then the fitted slope is too flat, and what the shortest answers lack tells more.
        // One so steep that an answer would come before the question is noise.
        let fitted = (self.xy / self.weight - mean_x * mean_y) / spread.max(1.0);
        let queued = (mean_y - self.base) / mean_x.max(1.0);
        let slope = fitted.max(queued).clamp(0.0, mean_y / mean_x.max(1.0));
        let seconds = mean_y + slope * (bytes as f64 - mean_x);
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SECONDS))
    }
}

/// Half of a sample's weight is gone after about 70 more.
const FADE: f64 = 0.99;
const LONGEST_SECONDS: f64 = 3600.0;
/// Proposals that are remembered.
const SENT_MAX: usize = 1024;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Measurements of one proposal of `bytes` at a time, which `node` answers after `took`.
    pub fn measure(links: &mut Links, slot: u64, bytes: usize, took: &[(u8, Duration)]) {
        links.handle_proposed(Instant::ZERO, Slot(slot), bytes);
        for (node, took) in took {
            links.handle_acknowledged(Instant::ZERO + *took, Slot(slot), *node);
        }
        links.handle_chosen(Slot(slot));
    }

    #[test]
    fn a_line_is_found_and_old_lines_fade() {
        let mut links = Links::new(2);
        let line = |base: u64, bytes: u64| Duration::from_nanos(base + 10 * bytes);
        let mut slot = 0;
        for base in [1_000_000, 5_000_000] {
            for step in 0..2000_u64 {
                let bytes = step % 7 * 1000;
                slot += 1;
                measure(&mut links, slot, bytes as usize, &[(1, line(base, bytes))]);
            }
            let expected = links.expected(1, 20_000).as_secs_f64();
            let right = line(base, 20_000).as_secs_f64();
            assert!((expected / right - 1.0).abs() < 0.05, "{expected} is not {right}");
        }
        assert_eq!(links.expected(0, 20_000), Duration::ZERO);
    }

    #[test]
    fn the_bandwidth_shows_though_all_values_are_of_one_size() {
        // A queue of up to ten values of 1000 bytes, a microsecond a byte.
        let mut links = Links::new(2);
        for round in 0..50 {
            for step in 1..=10 {
                links.handle_proposed(Instant::ZERO, Slot(round * 10 + step), 1000);
            }
            for step in 1..=10 {
                let at = Instant::ZERO + Duration::from_millis(step);
                links.handle_acknowledged(at, Slot(round * 10 + step), 1);
                links.handle_chosen(Slot(round * 10 + step));
            }
        }
        let expected = links.expected(1, 30_000).as_secs_f64();
        assert!((expected / 0.03 - 1.0).abs() < 0.05, "{expected}");
    }

    #[test]
    fn who_is_slower_than_the_quorum_is_measured_and_what_was_sent_again_is_not() {
        let mut links = Links::new(2);
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        links.handle_proposed(at(0), Slot(1), 1000);
        links.handle_proposed(at(0), Slot(2), 1000);
        links.handle_chosen(Slot(1));
        links.handle_sent_again(Slot(2), NodeSet::one(1));
        links.handle_acknowledged(at(70), Slot(1), 1);
        links.handle_acknowledged(at(7000), Slot(2), 1);
        assert_eq!(links.expected(1, 1000), Duration::from_millis(70));
        // What is forgotten is in flight no more.
        for slot in 3..3 + 2 * SENT_MAX as u64 {
            links.handle_proposed(at(0), Slot(slot), 1);
        }
        assert_eq!(links.in_flight_bytes, SENT_MAX);
    }
}
