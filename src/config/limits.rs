//! Every bound and every time of a node, with defaults that suit a local network.

use super::ConfigError;
use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// Maxima. Each queue, window, batch and cache of a node has one here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest key.
    pub key_bytes: usize,
    /// Longest value.
    pub value_bytes: usize,
    /// Sessions kept; the one idle longest is evicted first.
    pub sessions: usize,
    /// Results kept per session.
    pub session_window: usize,
    /// Slots proposed and not yet chosen.
    pub in_flight_slots: usize,
    /// How far above what it applied a node accepts: bounds what it must promise.
    pub accept_ahead_slots: u64,
    /// Payload bytes proposed and not yet chosen (one value may exceed it alone).
    pub in_flight_bytes: usize,
    /// Requests that wait for a free slot before clients are told `busy`.
    pub waiting_requests: usize,
    /// Bytes of requests that wait.
    pub waiting_bytes: usize,
    /// Bytes of keys and values that reads wait for (one read may exceed it alone).
    pub reading_bytes: usize,
    /// Bytes of recent values that a node keeps decoded.
    pub cache_bytes: usize,
    /// Values that are gathered from peers at the same time for reads and repairs; as many again
    /// may be gathered to catch up.
    pub gathers: usize,
    /// Rows of one scan.
    pub scan_rows: u32,
    /// Bytes of shards in one page of a promise, or one reply to a fetch.
    pub page_bytes: usize,
    /// An index snapshot is taken after so many slots, or half as many as there are keys if that is
    /// more: it makes the start fast.
    pub snapshot_slots: u64,
    /// An index snapshot is taken when superseded values take so much of this node's log, or as much
    /// as its live ones if that is more: their space is then given back.
    pub garbage_bytes: u64,
    /// So many slots before the latest index snapshot are kept: a node that is behind by less
    /// catches up slot by slot.
    pub kept_slots: u64,
    /// Longest index snapshot that is taken from a peer.
    pub index_bytes: usize,
    /// Bytes of shards read per second while lost shards are recorded anew after an index snapshot.
    pub repair_bytes_per_second: u64,
    /// Bytes of shards read and verified per second otherwise (the scrub); 0 for never.
    pub scrub_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_bytes: 1024,
            value_bytes: 16 << 20,
            sessions: 4096,
            session_window: 64,
            in_flight_slots: 1024,
            accept_ahead_slots: 16_384,
            in_flight_bytes: 8 << 20,
            waiting_requests: 4096,
            waiting_bytes: 32 << 20,
            reading_bytes: 128 << 20,
            cache_bytes: 16 << 20,
            gathers: 32,
            scan_rows: 1000,
            page_bytes: 1 << 20,
            snapshot_slots: 100_000,
            garbage_bytes: 64 << 20,
            kept_slots: 4096,
            index_bytes: 1 << 30,
            repair_bytes_per_second: 32 << 20,
            scrub_bytes_per_second: 1 << 20,
        }
    }
}

impl Limits {
    /// # Errors
    /// [`ConfigError::Value`] for a bound that no node could work with.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("limits.key_bytes", self.key_bytes),
            ("limits.value_bytes", self.value_bytes),
            ("limits.sessions", self.sessions),
            ("limits.session_window", self.session_window),
            ("limits.in_flight_slots", self.in_flight_slots),
            ("limits.in_flight_bytes", self.in_flight_bytes),
            ("limits.gathers", self.gathers),
            ("limits.page_bytes", self.page_bytes),
            ("limits.index_bytes", self.index_bytes),
            ("limits.scan_rows", self.scan_rows as usize),
            (
                "limits.accept_ahead_slots",
                usize::try_from(self.accept_ahead_slots).unwrap_or(usize::MAX),
            ),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(ConfigError::Value { key, problem: "must be above 0".to_owned() });
            }
        }
        if self.snapshot_slots == 0 || self.repair_bytes_per_second == 0 {
            let problem = "snapshot_slots and repair_bytes_per_second must be above 0".to_owned();
            return Err(ConfigError::Value { key: "limits", problem });
        }
        if self.key_bytes > 1 << 16 {
            let problem = format!("{} is above the maximum of 65536", self.key_bytes);
            return Err(ConfigError::Value { key: "limits.key_bytes", problem });
        }
        if self.value_bytes > 16 << 20 {
            let problem = format!("{} is above the maximum of 16777216", self.value_bytes);
            return Err(ConfigError::Value { key: "limits.value_bytes", problem });
        }
        Ok(())
    }
}

/// Times, all in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// A leader's heartbeat.
    pub heartbeat_ms: u64,
    /// A commit that nothing else carries to the followers is told by itself after this: reads at
    /// followers wait for it.
    pub commit_ms: u64,
    /// Shortest election timeout; the longest is twice as long.
    pub election_ms: u64,
    /// An unanswered fetch goes to all nodes after this, an Accept is sent again after eight times
    /// this; both waits double each time.
    pub resend_ms: u64,
    /// A node that answers a heartbeat refuses other candidates for so long; 0 for no leases.
    pub lease_ms: u64,
    /// How much faster one clock of the cluster may run than another, as a fraction: a leader uses
    /// so much less of its lease.
    pub clock_drift: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_ms: 50,
            commit_ms: 1,
            election_ms: 400,
            resend_ms: 250,
            lease_ms: 300,
            clock_drift: 0.01,
        }
    }
}

impl Timing {
    /// When a commit is told by itself.
    #[must_use]
    pub const fn commit(&self) -> Duration {
        Duration::from_millis(self.commit_ms)
    }

    /// A leader's heartbeat.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Shortest election timeout.
    #[must_use]
    pub const fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms)
    }

    /// Time until something unanswered is sent again.
    #[must_use]
    pub const fn resend(&self) -> Duration {
        Duration::from_millis(self.resend_ms)
    }

    /// How long a node is bound by a lease that it grants.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How much of a lease the leader uses.
    #[must_use]
    pub fn usable_lease(&self) -> Duration {
        self.lease().mul_f64((1.0 - self.clock_drift).clamp(0.0, 1.0))
    }

    /// # Errors
    /// [`ConfigError::Value`] when heartbeats are too rare for the election timeout.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.heartbeat_ms == 0 || self.resend_ms == 0 {
            let problem = "heartbeat_ms and resend_ms must be above 0".to_owned();
            return Err(ConfigError::Value { key: "timing", problem });
        }
        if self.election_ms < 3 * self.heartbeat_ms {
            let problem = format!(
                "{} must be at least three heartbeats of {} ms, or every lost heartbeat elects",
                self.election_ms, self.heartbeat_ms
            );
            return Err(ConfigError::Value { key: "timing.election_ms", problem });
        }
        let is_lease_off = self.lease_ms == 0;
        if !is_lease_off && !(2 * self.heartbeat_ms..=self.election_ms).contains(&self.lease_ms) {
            let problem = format!(
                "{} must be 0 (no leases), or at least two heartbeats ({} ms) and at most the \
                 election timeout ({} ms)",
                self.lease_ms,
                2 * self.heartbeat_ms,
                self.election_ms
            );
            return Err(ConfigError::Value { key: "timing.lease_ms", problem });
        }
        if !(0.0..=0.5).contains(&self.clock_drift) {
            let problem = format!("{} must be a fraction from 0 to 0.5", self.clock_drift);
            return Err(ConfigError::Value { key: "timing.clock_drift", problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_uses_of_a_lease_what_is_left_by_the_fastest_clock() {
        let timing = |clock_drift| Timing { lease_ms: 300, clock_drift, ..Timing::default() };
        assert_eq!(timing(0.0).usable_lease(), Duration::from_millis(300));
        for drift in [0.01, 0.05, 0.2, 0.5] {
            // A granter's clock that runs faster by the bound ends it so early in the leader's time.
            let ends = Duration::from_millis(300).mul_f64(1.0 / (1.0 + drift));
            let used = timing(drift).usable_lease();
            assert!(used <= ends && used > ends.mul_f64(0.7), "{used:?} of {ends:?} at {drift}");
        }
    }
}
