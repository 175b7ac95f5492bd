//! Limits and timers of the transport, each with a name, a unit and a default.
//!
//! Nothing here is negotiated but the receive window; peers may differ in everything else, as long
//! as neither sends messages above the other's `max_message_bytes`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Everything the transport can be told. `Default` suits loopback and a LAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransportConfig {
    /// Datagrams of another cluster id are garbage.
    pub cluster_id: u64,
    /// UDP payload of a full datagram: 1472 on Ethernet, up to 65507. Eight default ones fill a batch.
    pub datagram_bytes: usize,
    /// Largest message, either direction.
    pub max_message_bytes: usize,
    /// Peers with state at one time.
    pub max_peers: usize,
    /// Unacknowledged and queued message bytes per peer.
    pub max_send_bytes_per_peer: usize,
    /// The same of all peers; one with little in its queue may always send.
    pub max_send_bytes: usize,
    /// Unacknowledged and queued messages per peer.
    pub max_messages_per_peer: usize,
    /// Incomplete received bytes per peer: the window that is advertised to it.
    pub max_reassembly_bytes_per_peer: usize,
    /// Incomplete received bytes of all peers.
    pub max_reassembly_bytes: usize,
    /// Complete messages that wait for `poll_event`; beyond it datagrams are dropped unacknowledged.
    pub max_event_bytes: usize,
    /// Ranges per acknowledgement.
    pub max_ack_ranges: usize,
    /// Ranges kept per received set (packets, message ids, bytes of one message).
    pub max_tracked_ranges: usize,
    /// Challenges, responses and hellos that wait to be sent.
    pub max_control_datagrams: usize,
    /// Congestion window at the start, in datagrams.
    pub initial_window_datagrams: usize,
    /// Congestion window below which random loss cannot push, in datagrams.
    pub min_window_datagrams: usize,
    /// Congestion window at most.
    pub max_window_bytes: usize,
    /// An acknowledgement of a single datagram waits this long for data to ride on.
    pub ack_delay_us: u64,
    /// Round trip assumed before one is measured.
    pub initial_rtt_us: u64,
    /// Shortest retransmission timeout.
    pub min_pto_us: u64,
    /// Longest retransmission timeout: the pace at which an unreachable peer is tried.
    pub max_pto_us: u64,
    /// Pacing is off below this round trip.
    pub pacing_min_rtt_us: u64,
    /// `Unreachable` after so many timeouts in a row,
    pub unreachable_after_ptos: u32,
    /// and so long without an acknowledgement of anything new.
    pub unreachable_ms: u64,
    /// Messages are dropped when nothing was acknowledged for so long.
    pub give_up_ms: u64,
    /// State of a silent peer with nothing to send is dropped; at least 2 x `give_up_ms`, and longer
    /// than the network can hold a datagram.
    pub idle_ms: u64,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            cluster_id: 0,
            datagram_bytes: 8160,
            max_message_bytes: 17 << 20,
            max_peers: 4096,
            max_send_bytes_per_peer: 64 << 20,
            max_send_bytes: 1 << 30,
            max_messages_per_peer: 1 << 17,
            max_reassembly_bytes_per_peer: 34 << 20,
            max_reassembly_bytes: 256 << 20,
            max_event_bytes: 64 << 20,
            max_ack_ranges: 64,
            max_tracked_ranges: 4096,
            max_control_datagrams: 64,
            initial_window_datagrams: 64,
            min_window_datagrams: 32,
            max_window_bytes: 4 << 20,
            ack_delay_us: 1_000,
            initial_rtt_us: 30_000,
            min_pto_us: 2_000,
            max_pto_us: 500_000,
            pacing_min_rtt_us: 1_000,
            unreachable_after_ptos: 3,
            unreachable_ms: 250,
            give_up_ms: 30_000,
            idle_ms: 600_000,
        }
    }
}

/// A transport configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportConfigError {
    /// A field is outside the range it must be in.
    #[error("transport: {field} = {value} must be in {low}..={high}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value allowed.
        low: u64,
        /// Largest value allowed.
        high: u64,
    },
}

impl TransportConfig {
    /// The defaults with the datagram size of an Ethernet path, as loss experiments use.
    #[must_use]
    pub fn for_ethernet() -> Self {
        Self { datagram_bytes: 1472, ..Self::default() }
    }

    /// Checks every relation that the machine relies on.
    ///
    /// # Errors
    /// Names the first field that is out of range, and the range.
    pub fn validate(&self) -> Result<(), TransportConfigError> {
        let message = self.max_message_bytes as u64;
        let u32_max = u64::from(u32::MAX);
        let datagram = self.datagram_bytes as u64;
        let checks: [(&'static str, u64, u64, u64); 21] = [
            ("datagram_bytes", datagram, 512, 65_507),
            ("max_message_bytes", message, 1, 1 << 30),
            ("max_peers", self.max_peers as u64, 1, 1 << 20),
            ("max_send_bytes_per_peer", self.max_send_bytes_per_peer as u64, message, u64::MAX),
            ("max_send_bytes", self.max_send_bytes as u64, message, u64::MAX),
            ("max_messages_per_peer", self.max_messages_per_peer as u64, 1, 1 << 24),
            (
                "max_reassembly_bytes_per_peer",
                self.max_reassembly_bytes_per_peer as u64,
                message,
                u32_max,
            ),
            ("max_reassembly_bytes", self.max_reassembly_bytes as u64, message, u64::MAX),
            ("max_event_bytes", self.max_event_bytes as u64, message, u64::MAX),
            ("max_ack_ranges", self.max_ack_ranges as u64, 1, 64),
            ("max_tracked_ranges", self.max_tracked_ranges as u64, 64, 1 << 20),
            ("max_control_datagrams", self.max_control_datagrams as u64, 1, 1 << 16),
            ("initial_window_datagrams", self.initial_window_datagrams as u64, 2, 1 << 16),
            ("min_window_datagrams", self.min_window_datagrams as u64, 2, 1 << 16),
            ("max_window_bytes", self.max_window_bytes as u64, 2 * datagram, 1 << 30),
            ("min_pto_us", self.min_pto_us, 1_000, self.max_pto_us),
            ("max_pto_us", self.max_pto_us, 1_000, 60_000_000),
            ("ack_delay_us", self.ack_delay_us, 0, self.max_pto_us),
            ("unreachable_after_ptos", u64::from(self.unreachable_after_ptos), 1, 1000),
            ("unreachable_ms", self.unreachable_ms, 0, self.give_up_ms),
            ("idle_ms", self.idle_ms, self.give_up_ms.saturating_mul(2), u64::MAX),
        ];
        for (field, value, low, high) in checks {
            if value < low || value > high {
                return Err(TransportConfigError::OutOfRange { field, value, low, high });
            }
        }
        Ok(())
    }

    pub(super) fn min_window_bytes(&self) -> usize {
        (self.min_window_datagrams * self.datagram_bytes).min(self.max_window_bytes)
    }

    pub(super) fn initial_window_bytes(&self) -> usize {
        (self.initial_window_datagrams * self.datagram_bytes).min(self.max_window_bytes)
    }

    pub(super) fn ack_delay(&self) -> Duration {
        Duration::from_micros(self.ack_delay_us)
    }

    pub(super) fn give_up(&self) -> Duration {
        Duration::from_millis(self.give_up_ms)
    }

    pub(super) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}
