//! How fast one peer takes what it is sent.
//!
//! A sample is what was acknowledged since the last acknowledgement before a packet was sent, over that
//! time or over the time in which it was sent, whichever is longer: acknowledgements that come together
//! make no path fast. Where little is sent samples are far below what the path could carry, so the
//! highest of the last seconds counts. Source: the delivery rate of BBR
//! (draft-cheng-iccrg-delivery-rate-estimation), without its marks of what the sender limited, which a
//! maximum does not need.

use crate::time::{Duration, Instant};

/// What a packet remembers of when it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    delivered_bytes: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
}

/// The estimate of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Delivery {
    delivered_bytes: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Bytes per second: the highest since `span_began`, and of the span before.
    highest: u64,
    highest_before: u64,
    span_began: Instant,
}

impl Delivery {
    /// A packet is sent; `is_idle` when no other is in flight.
    pub fn on_sent(&mut self, now: Instant, is_idle: bool) -> Mark {
        if is_idle {
            (self.delivered_at, self.first_sent_at) = (now, now);
        }
        Mark {
            delivered_bytes: self.delivered_bytes,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
        }
    }

    /// A packet of `bytes` sent at `sent_at` has arrived.
    pub fn on_acked(&mut self, now: Instant, bytes: usize, sent_at: Instant, mark: Mark) {
        self.delivered_bytes += bytes as u64;
        self.delivered_at = now;
        self.first_sent_at = self.first_sent_at.max(sent_at);
        let took = now.since(mark.delivered_at).max(sent_at.since(mark.first_sent_at));
        // For each packet: in 64 bits, in which 18 GB fit, and what is more comes out too low.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let delivered = self.delivered_bytes - mark.delivered_bytes;
        let rate = delivered.saturating_mul(1_000_000_000) / nanos;
        let age = now.since(self.span_began);
        if age >= SPAN {
            // Of a span that ended long ago nothing counts.
            let before = if age < SPAN * 2 { self.highest } else { 0 };
            (self.highest_before, self.highest, self.span_began) = (before, 0, now);
        }
        self.highest = self.highest.max(rate);
    }

    /// The highest rate lately, if anything has arrived.
    pub fn bytes_per_s(&self, now: Instant) -> Option<u64> {
        let is_lately = now.since(self.span_began) < SPAN * 2;
        Some(self.highest.max(self.highest_before)).filter(|rate| is_lately && *rate > 0)
    }
}

/// A maximum counts for one to two of these.
const SPAN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::ZERO + Duration::from_micros(micros)
    }

    /// Ten packets of 1000 bytes, sent `apart` microseconds one after the other and acknowledged
    /// `round_trip` later.
    fn burst(delivery: &mut Delivery, from: u64, apart: u64, round_trip: u64) {
        let sent: Vec<u64> = (0..10).map(|step| from + step * apart).collect();
        let marks: Vec<Mark> =
            sent.iter().map(|sent| delivery.on_sent(at(*sent), *sent == from)).collect();
        for (sent, mark) in sent.iter().zip(marks) {
            delivery.on_acked(at(sent + round_trip), 1000, at(*sent), mark);
        }
    }

    #[test]
    fn a_burst_gives_its_bytes_over_its_time() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.bytes_per_s(at(0)), None);
        burst(&mut delivery, 1000, 100, 10_000);
        // 10,000 bytes in 10.9 ms.
        assert_eq!(delivery.bytes_per_s(at(11_900)), Some(917_431));
    }

    #[test]
    fn acknowledgements_that_come_together_make_no_path_fast() {
        // A packet a millisecond; the first is acknowledged just before the last is sent, all others
        // just after it.
        let mut delivery = Delivery::default();
        let mut packets: Vec<(u64, Mark)> = Vec::new();
        for step in 0..10 {
            packets.push((step * 1000, delivery.on_sent(at(step * 1000), step == 0)));
        }
        let (sent, mark) = packets.remove(0);
        delivery.on_acked(at(9_990), 1000, at(sent), mark);
        packets.push((10_000, delivery.on_sent(at(10_000), false)));
        for (sent, mark) in packets {
            delivery.on_acked(at(10_010), 1000, at(sent), mark);
        }
        let rate = delivery.bytes_per_s(at(10_010)).unwrap();
        assert!((900_000..=1_000_000).contains(&rate), "{rate} over a path of 1,000,000");
    }

    #[test]
    fn the_highest_counts_until_it_is_old() {
        let mut delivery = Delivery::default();
        burst(&mut delivery, 0, 1, 1000);
        let fast = delivery.bytes_per_s(at(1010)).unwrap();
        for step in 1..=40 {
            burst(&mut delivery, step * 250_000, 1, 100_000);
            let rate = delivery.bytes_per_s(at(step * 250_000 + 100_010)).unwrap();
            assert_eq!(rate == fast, step < 40, "after {step} quarters of a second: {rate}");
        }
        // Nor does it when nothing is sent any more.
        let last = 40 * 250_000;
        assert!(delivery.bytes_per_s(at(last + 9_900_000)).is_some());
        assert_eq!(delivery.bytes_per_s(at(last + 10_200_000)), None);
        // What comes after that has no memory of it.
        burst(&mut delivery, last * 9, 1, 1000);
        burst(&mut delivery, last * 99, 1, 100_000);
        assert!(delivery.bytes_per_s(at(last * 99 + 100_010)).is_some_and(|rate| rate < fast / 50));
    }
}
