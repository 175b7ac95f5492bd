//! Faults of a run: how each begins, and how it is mended.

use super::scenario::Fault;
use super::world::World;
use crate::time::{Duration, Instant};

/// What a fault's end undoes.
pub(super) enum Mend {
    Start(usize),
    Heal { from: u32, to: u32 },
    DiskSpace(usize),
}

impl World {
    pub(super) fn work_faults(&mut self, heal_at: Instant) -> Result<(), String> {
        while let Some((at, _)) = self.faults.last()
            && *at <= self.now
        {
            if let Some((_, fault)) = self.faults.pop() {
                self.begin(&fault);
            }
        }
        if !self.is_healed && self.now >= heal_at {
            if self.last_answer.is_some() {
                self.note_answer();
            }
            self.is_healed = true;
            self.aimed = None;
            self.say(|| "all faults end".to_owned());
            for (at, _) in &mut self.mends {
                *at = self.now;
            }
            for node in &mut self.nodes {
                node.paused_until = None;
            }
        }
        let (due, later) =
            std::mem::take(&mut self.mends).into_iter().partition(|(at, _)| *at <= self.now);
        self.mends = later;
        for (_, mend) in due {
            self.mend(mend)?;
        }
        Ok(())
    }

    fn begin(&mut self, fault: &Fault) {
        *self.totals.faults.entry(fault.kind()).or_default() += 1;
        self.say(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Crash { node, down } => self.stop(*node, false, *down),
            Fault::PowerCut { node, down } => self.stop(*node, true, *down),
            Fault::PowerCutAll { down, is_aimed: true } => self.aimed = Some(*down),
            Fault::PowerCutAll { down, is_aimed: false } => self.cut_power(*down),
            Fault::Pause { node, span } => {
                self.nodes[*node].paused_until = Some(self.now + *span);
            }
            Fault::Operator(admin) => self.operator.ask(self.now, admin.clone()),
            Fault::DiskLow { node, span } => {
                self.nodes[*node].set_space_low(self.now, true);
                self.mends.push((self.now + *span, Mend::DiskSpace(*node)));
            }
            Fault::Partition { from, to, span } => {
                let (from, to) = (*from, *to);
                self.cut(from, to, true);
                // Complements are two sides of a split; anything else is cut one way.
                if from & to == 0 {
                    self.cut(to, from, true);
                }
                self.mends.push((self.now + *span, Mend::Heal { from, to }));
            }
        }
    }

    fn mend(&mut self, mend: Mend) -> Result<(), String> {
        match mend {
            Mend::Start(rank) => {
                // Several faults may have met it: it starts when the last has ended.
                let is_due_later = self
                    .mends
                    .iter()
                    .any(|(_, mend)| matches!(mend, Mend::Start(other) if *other == rank));
                if self.nodes[rank].is_up() || is_due_later {
                    return Ok(());
                }
                let id = self.nodes[rank].id;
                self.say(|| format!("{id} starts again"));
                self.nodes[rank].start(self.now)?;
                self.check_agreement(rank)
            }
            Mend::DiskSpace(rank) => {
                self.nodes[rank].set_space_low(self.now, false);
                Ok(())
            }
            Mend::Heal { from, to } => {
                self.say(|| format!("heals {from:b} to {to:b}"));
                self.cut(from, to, false);
                if from & to == 0 {
                    self.cut(to, from, false);
                }
                Ok(())
            }
        }
    }

    pub(super) fn cut_power(&mut self, down: Duration) {
        for rank in 0..self.nodes.len() {
            self.stop(rank, true, down);
        }
    }

    fn stop(&mut self, rank: usize, is_power_cut: bool, down: Duration) {
        self.nodes[rank].stop(is_power_cut);
        self.mends.push((self.now + down, Mend::Start(rank)));
    }

    fn cut(&mut self, from: u32, to: u32, is_cut: bool) {
        for sender in 0..self.nodes.len() {
            for receiver in 0..self.nodes.len() {
                let is_meant = from & (1 << sender) != 0 && to & (1 << receiver) != 0;
                if sender == receiver || !is_meant {
                    continue;
                }
                let cuts = self.cuts.entry((sender, receiver)).or_default();
                *cuts = if is_cut { *cuts + 1 } else { cuts.saturating_sub(1) };
                let is_down = *cuts > 0;
                let (a, b) = (self.nodes[sender].address, self.nodes[receiver].address);
                self.netem.set_down(a, b, is_down);
            }
        }
    }
}
