//! Round-trip estimation, congestion window and pacing of one peer.
//!
//! RTT: RFC 6298 with the acknowledgement delay taken out (RFC 9002 section 5); the timeout waits as
//! long on top as the peer has lately held its acknowledgements: while it syncs it sends none.
//! Window: NewReno with a decrease of 0.7 once per round trip, and a floor. The floor is a choice:
//! a cluster's network loses packets at random (and experiments make it lose up to 30 %), where a
//! window that shrinks with every loss would stand still although the path is idle. Below the floor
//! loss is answered by retransmission alone; only repeated timeouts bring the window down to it at
//! once. Integer arithmetic throughout, so that a run is the same on every machine.

use crate::time::{Duration, Instant};
use crate::transport::config::TransportConfig;

/// Timers cannot be relied on below this.
const GRANULARITY: Duration = Duration::from_millis(1);

/// The estimate of the round trip.
#[derive(Clone, Debug)]
pub(super) struct Rtt {
    pub smoothed: Duration,
    pub variance: Duration,
    pub latest: Duration,
    /// How long the peer held acknowledgements lately: a maximum that fades.
    held: Duration,
    sampled: bool,
}

impl Rtt {
    pub fn new(initial: Duration) -> Self {
        let (variance, held) = (initial / 2, Duration::ZERO);
        Self { smoothed: initial, variance, latest: initial, held, sampled: false }
    }

    /// Takes in one sample; `ack_delay` is how long the peer held the acknowledgement.
    pub fn sample(&mut self, sample: Duration, ack_delay: Duration) {
        self.held = ack_delay.min(sample).max(self.held * 7 / 8);
        let sample = sample.saturating_sub(ack_delay).max(Duration::from_nanos(1));
        self.latest = sample;
        if !self.sampled {
            self.sampled = true;
            self.smoothed = sample;
            self.variance = sample / 2;
            return;
        }
        let deviation = self.smoothed.abs_diff(sample);
        self.variance = (self.variance * 3 + deviation) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
    }

    /// The measured round trip, if any.
    pub fn measured(&self) -> Option<Duration> {
        self.sampled.then_some(self.smoothed)
    }

    /// The retransmission timeout after `backoff` timeouts in a row.
    pub fn pto(&self, backoff: u32, config: &TransportConfig) -> Duration {
        let held = self.held.max(config.ack_delay());
        let base = self.smoothed + (self.variance * 4).max(GRANULARITY) + held;
        let base = base.max(Duration::from_micros(config.min_pto_us));
        let longest = Duration::from_micros(config.max_pto_us).max(self.smoothed * 2);
        base.saturating_mul(1 << backoff.min(16)).min(longest)
    }

    /// How long after its sending a packet below the largest acknowledged counts as lost; `eighths`
    /// of a round trip.
    pub fn loss_delay(&self, eighths: u32) -> Duration {
        (self.smoothed.max(self.latest) * eighths / 8).max(GRANULARITY)
    }
}

/// The congestion window.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    window_bytes: usize,
    threshold_bytes: usize,
    /// Packets sent up to here belong to a loss that was already answered.
    recovery_start: Option<Instant>,
    before_loss_bytes: usize,
}

impl Congestion {
    pub fn new(config: &TransportConfig) -> Self {
        Self {
            window_bytes: config.initial_window_bytes(),
            threshold_bytes: usize::MAX,
            recovery_start: None,
            before_loss_bytes: 0,
        }
    }

    pub fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    /// A packet of `bytes` sent at `sent_at` arrived while the window was (`limiting`) in use.
    pub fn on_ack(
        &mut self,
        bytes: usize,
        sent_at: Instant,
        limiting: bool,
        config: &TransportConfig,
    ) {
        if !limiting || self.recovery_start.is_some_and(|start| sent_at <= start) {
            return;
        }
        let growth = if self.window_bytes < self.threshold_bytes {
            bytes
        } else {
            (config.datagram_bytes * bytes / self.window_bytes).max(1)
        };
        self.window_bytes = (self.window_bytes + growth).min(config.max_window_bytes);
    }

    /// A packet sent at `sent_at` was lost: at most one decrease per round trip.
    pub fn on_loss(&mut self, now: Instant, sent_at: Instant, config: &TransportConfig) {
        if self.recovery_start.is_some_and(|start| sent_at <= start) {
            return;
        }
        self.recovery_start = Some(now);
        self.before_loss_bytes = self.window_bytes;
        self.window_bytes = (self.window_bytes / 10 * 7).max(config.min_window_bytes());
        self.threshold_bytes = self.window_bytes;
    }

    /// The loss was none, only a late arrival: takes the last decrease back.
    pub fn on_spurious_loss(&mut self) {
        self.window_bytes = self.window_bytes.max(self.before_loss_bytes);
        self.threshold_bytes = self.threshold_bytes.max(self.before_loss_bytes);
        self.before_loss_bytes = 0;
    }

    /// Repeated timeouts: the path may have changed, start from the floor.
    pub fn on_persistent_timeout(&mut self, config: &TransportConfig) {
        self.threshold_bytes = (self.window_bytes / 2).max(config.min_window_bytes());
        self.window_bytes = config.min_window_bytes();
        self.before_loss_bytes = 0;
    }

    pub fn check_invariants(&self, config: &TransportConfig) {
        let (low, high) =
            (config.min_window_bytes().min(config.initial_window_bytes()), config.max_window_bytes);
        let window = self.window_bytes;
        assert!(window >= low && window <= high, "window {window} outside {low}..={high}");
    }
}

/// A token bucket kept as the time at which it will be full again.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacer {
    full_at: Instant,
}

impl Pacer {
    /// When the next datagram may go, if not now.
    pub fn blocked_until(
        &self,
        now: Instant,
        rtt: &Rtt,
        window_bytes: usize,
        config: &TransportConfig,
    ) -> Option<Instant> {
        if !is_paced(rtt, config) {
            return None;
        }
        let burst = span(rtt, 16 * config.datagram_bytes, window_bytes).max(GRANULARITY);
        let debt = self.full_at.since(now);
        (debt > burst).then(|| now + (debt - burst))
    }

    pub fn on_sent(
        &mut self,
        now: Instant,
        bytes: usize,
        rtt: &Rtt,
        window_bytes: usize,
        config: &TransportConfig,
    ) {
        if is_paced(rtt, config) {
            self.full_at = self.full_at.max(now) + span(rtt, bytes, window_bytes);
        }
    }
}

fn is_paced(rtt: &Rtt, config: &TransportConfig) -> bool {
    rtt.measured().is_some_and(|rtt| rtt >= Duration::from_micros(config.pacing_min_rtt_us))
}

/// Time to send `bytes` at 5/4 of a window per round trip.
fn span(rtt: &Rtt, bytes: usize, window_bytes: usize) -> Duration {
    let nanos = rtt.smoothed.as_nanos() * bytes as u128 * 4 / (window_bytes as u128 * 5);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_stays_between_floor_and_maximum_and_falls_once_per_round_trip() {
        let config = TransportConfig::for_ethernet();
        let mut window = Congestion::new(&config);
        let start = window.window_bytes();
        window.on_loss(Instant::from_nanos(100), Instant::from_nanos(50), &config);
        let once = window.window_bytes();
        assert!(once < start);
        window.on_loss(Instant::from_nanos(120), Instant::from_nanos(60), &config);
        assert_eq!(window.window_bytes(), once);
        window.on_spurious_loss();
        assert_eq!(window.window_bytes(), start);
        for step in 1..100 {
            window.on_loss(
                Instant::from_nanos(step * 1000),
                Instant::from_nanos(step * 1000 - 1),
                &config,
            );
            window.check_invariants(&config);
        }
        assert_eq!(window.window_bytes(), config.min_window_bytes());
        for step in 0..100_000 {
            window.on_ack(1472, Instant::from_nanos(1_000_000 + step), true, &config);
        }
        window.check_invariants(&config);
    }

    #[test]
    fn rtt_follows_its_samples_and_timeout_backs_off_to_its_cap() {
        let config = TransportConfig::default();
        let mut rtt = Rtt::new(Duration::from_millis(30));
        assert_eq!(rtt.measured(), None);
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(400), Duration::from_micros(100));
        }
        let smoothed = rtt.measured().unwrap();
        assert!(smoothed.abs_diff(Duration::from_micros(300)) < Duration::from_micros(2));
        // 0.3 ms, the granularity of timers, and the delay of an acknowledgement.
        assert_eq!(rtt.pto(0, &config), Duration::from_micros(2300));
        assert_eq!(rtt.pto(1, &config), Duration::from_micros(4600));
        let floor = TransportConfig { min_pto_us: 10_000, ..config.clone() };
        assert_eq!(rtt.pto(0, &floor), Duration::from_millis(10));
        assert_eq!(rtt.pto(30, &config), Duration::from_millis(500));
    }
}
