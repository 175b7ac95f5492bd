//! A machine in virtual time: cores that one thread at a time uses, and a disk that syncs.

use super::costs::{Costs, micros_of};
use crate::time::{Duration, Instant};

/// Cores and a disk.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// When each core is free.
    cores: Vec<Instant>,
    /// When each of the syncs at once is over.
    syncs: Vec<Instant>,
    /// When all bytes handed to the disk are written.
    written_at: Instant,
}

impl Machine {
    pub(super) fn new(cores: usize, costs: &Costs) -> Self {
        let parallel = usize::try_from(costs.sync_parallel).unwrap_or(1).max(1);
        Self {
            cores: vec![Instant::ZERO; cores.max(1)],
            syncs: vec![Instant::ZERO; parallel],
            written_at: Instant::ZERO,
        }
    }

    /// When the next core is free.
    pub(super) fn free_at(&self) -> Instant {
        self.cores.iter().copied().min().unwrap_or(Instant::ZERO)
    }

    /// Uses the core that is free first for `span`; gives the end. The caller has waited for it.
    pub(super) fn compute(&mut self, now: Instant, span: Duration) -> Instant {
        let core = self.cores.iter_mut().min().expect("a machine has a core");
        *core = now.max(*core) + span;
        *core
    }

    /// Writes `bytes` from `now` on and syncs them; gives the end.
    pub(super) fn sync(&mut self, now: Instant, bytes: u64, costs: &Costs) -> Instant {
        let place = self.syncs.iter_mut().min().expect("a disk syncs something at a time");
        let from = now.max(*place);
        self.written_at =
            self.written_at.max(from) + micros_of(costs.sync_byte_ns * bytes as f64 / 1e3);
        *place = self.written_at.max(from) + micros_of(costs.sync_us);
        *place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_syncs_are_shared_and_bytes_go_one_after_the_other() {
        let costs = Costs { sync_us: 100.0, sync_byte_ns: 1.0, sync_parallel: 2, ..ZERO };
        let mut machine = Machine::new(2, &costs);
        let us = |micros| Instant::ZERO + Duration::from_micros(micros);
        assert_eq!(machine.compute(us(0), Duration::from_micros(10)), us(10));
        assert_eq!(machine.compute(us(0), Duration::from_micros(30)), us(30));
        assert_eq!(machine.free_at(), us(10));
        assert_eq!(machine.compute(us(5), Duration::from_micros(10)), us(20));
        // Two at once; the third waits; a million bytes take a millisecond, behind one another.
        assert_eq!(machine.sync(us(0), 0, &costs), us(100));
        assert_eq!(machine.sync(us(0), 0, &costs), us(100));
        assert_eq!(machine.sync(us(0), 0, &costs), us(200));
        assert_eq!(machine.sync(us(100), 1_000_000, &costs), us(1200));
        assert_eq!(machine.sync(us(200), 1_000_000, &costs), us(2200));
    }

    const ZERO: Costs = Costs {
        turn_us: 0.0,
        datagram_us: 0.0,
        network_byte_ns: 0.0,
        disk_byte_ns: 0.0,
        sync_cpu_us: 0.0,
        operation_us: 0.0,
        operation_byte_ns: 0.0,
        wake_us: 0.0,
        sync_us: 0.0,
        sync_byte_ns: 0.0,
        sync_parallel: 1,
        wire_us: 0.0,
    };
}
