//! What things cost in virtual time: CPU of a node's turn, wake-ups, syncs, the wire.
//!
//! Linear, and few numbers on purpose: each is fitted or measured on a real machine
//! (`experiment::calibrate`), none is tuned by hand. It decides no protocol step.

use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// Costs of one kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// CPU of a turn of the loop, whatever it does, in microseconds.
    pub turn_us: f64,
    /// CPU per datagram sent, in microseconds: with what it took to receive one.
    pub datagram_us: f64,
    /// CPU per byte sent or received, in nanoseconds: coding, digests, copies.
    pub network_byte_ns: f64,
    /// CPU per byte written to the log, in nanoseconds.
    pub disk_byte_ns: f64,
    /// CPU of a sync, in microseconds.
    pub sync_cpu_us: f64,
    /// CPU of the load generator per operation, in microseconds.
    pub operation_us: f64,
    /// CPU of the load generator per byte of an operation's value, in nanoseconds.
    pub operation_byte_ns: f64,
    /// From a datagram's arrival until a sleeping thread runs, in microseconds.
    pub wake_us: f64,
    /// A sync of next to nothing on a disk that is otherwise idle, in microseconds.
    pub sync_us: f64,
    /// The disk's time per byte, in nanoseconds, shared by all who use it.
    pub sync_byte_ns: f64,
    /// Syncs that the disk does at once.
    pub sync_parallel: u32,
    /// One way between two machines, in microseconds, on top of a trial's own delay.
    pub wire_us: f64,
}

/// Where the nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// All nodes and the generator share one machine with so many cores, and its disk.
    Shared {
        /// Cores.
        cores: u32,
    },
    /// Each node has a machine of its own; the generator is never the bottleneck.
    Apart,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    pub(super) datagrams_sent: u64,
    pub(super) network_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) syncs: u64,
    pub(super) operations: u64,
    pub(super) operation_bytes: u64,
}

impl Default for Costs {
    /// Of a 2-core virtual machine with a virtio disk; a calibration replaces them.
    fn default() -> Self {
        Self {
            turn_us: 3.0,
            datagram_us: 3.0,
            network_byte_ns: 0.3,
            disk_byte_ns: 0.3,
            sync_cpu_us: 20.0,
            operation_us: 5.0,
            operation_byte_ns: 0.3,
            wake_us: 30.0,
            sync_us: 150.0,
            sync_byte_ns: 0.65,
            sync_parallel: 4,
            wire_us: 5.0,
        }
    }
}

impl Costs {
    /// CPU time of a turn.
    pub(super) fn turn(&self, work: Work) -> Duration {
        let micros = self.turn_us
            + self.datagram_us * work.datagrams_sent as f64
            + self.sync_cpu_us * work.syncs as f64
            + self.operation_us * work.operations as f64
            + self.operation_byte_ns * work.operation_bytes as f64 / 1e3
            + self.network_byte_ns * work.network_bytes as f64 / 1e3
            + self.disk_byte_ns * work.disk_bytes as f64 / 1e3;
        micros_of(micros)
    }

    /// What makes these impossible.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), String> {
        let fields = [
            ("turn_us", self.turn_us),
            ("datagram_us", self.datagram_us),
            ("network_byte_ns", self.network_byte_ns),
            ("disk_byte_ns", self.disk_byte_ns),
            ("sync_cpu_us", self.sync_cpu_us),
            ("operation_us", self.operation_us),
            ("operation_byte_ns", self.operation_byte_ns),
            ("wake_us", self.wake_us),
            ("sync_us", self.sync_us),
            ("sync_byte_ns", self.sync_byte_ns),
            ("wire_us", self.wire_us),
        ];
        for (name, value) in fields {
            if !(0.0..=1e6).contains(&value) {
                return Err(format!("{name} = {value} is not in 0..=1000000"));
            }
        }
        if self.sync_parallel == 0 {
            return Err("sync_parallel = 0: a disk does at least one sync at a time".to_owned());
        }
        Ok(())
    }
}

/// A time of so many microseconds.
pub(super) fn micros_of(micros: f64) -> Duration {
    Duration::from_secs_f64((micros / 1e6).max(0.0))
}
