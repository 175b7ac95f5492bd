//! Counters of the transport. They only grow, and steer nothing.

use std::time::Duration;

/// Counters over all peers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportStats {
    /// Datagrams given to the driver.
    pub datagrams_sent: u64,
    /// Batches given to the driver (system calls with segmentation offload).
    pub batches_sent: u64,
    /// Their bytes, without UDP and IP headers.
    pub bytes_sent: u64,
    /// Datagrams that carried nothing but an acknowledgement.
    pub acks_sent: u64,
    /// Datagrams handed in.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Message bytes sent again.
    pub bytes_retransmitted: u64,
    /// Messages accepted by `send`.
    pub messages_sent: u64,
    /// Messages delivered.
    pub messages_received: u64,
    /// Message bytes delivered.
    pub message_bytes_received: u64,
    /// Messages dropped at a restart of the peer, or given up.
    pub messages_dropped: u64,
    /// Datagrams that are not ours: magic, version, cluster, checksum, length, frames.
    pub garbage_datagrams: u64,
    /// Datagrams of or for an incarnation that is no longer.
    pub stale_datagrams: u64,
    /// Packets seen before.
    pub duplicate_datagrams: u64,
    /// Message frames seen before.
    pub duplicate_frames: u64,
    /// Datagrams not taken because a bound was reached.
    pub refused_datagrams: u64,
    /// Frames with a good checksum that contradict themselves or an earlier one.
    pub invalid_frames: u64,
    /// Packets declared lost by thresholds.
    pub packets_lost: u64,
    /// Of those, the ones that arrived after all.
    pub spurious_losses: u64,
    /// Probe timeouts.
    pub probe_timeouts: u64,
    /// Restarts of peers.
    pub peer_restarts: u64,
    /// Peers whose idle state was dropped.
    pub peers_evicted: u64,
}

/// A look at one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// Smoothed round trip, once measured.
    pub smoothed_rtt: Option<Duration>,
    /// Mean deviation of the round trip.
    pub rtt_variance: Duration,
    /// Congestion window.
    pub window_bytes: usize,
    /// Sent and neither acknowledged nor lost, with headers.
    pub bytes_in_flight: usize,
    /// Bytes of messages queued or unacknowledged.
    pub queued_bytes: usize,
    /// Messages queued or unacknowledged.
    pub queued_messages: usize,
    /// Timeouts in a row without an answer.
    pub probe_timeouts: u32,
}
