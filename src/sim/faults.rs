//! Faults of a run: how each begins, how it is mended, and whether it had an effect.

use super::clock::Clock;
use super::fault::{Damage, Fault};
use super::members::Wanted;
use super::moments::Aimed;
use super::node::{Armed, Death};
use super::world::World;
use crate::netem::LinkConfig;
use crate::storage::TripKind;
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Directed links between nodes, by rank.
type Links = Rc<[(usize, usize)]>;

/// What a fault's end, or its coming and going, does.
pub(super) enum Mend {
    Start(usize),
    Links {
        links: Links,
        change: LinkChange,
        report: Option<Report>,
    },
    DiskLow(usize),
    DiskFull(usize),
    Faster {
        rank: usize,
        by: Duration,
        slowed_before: u64,
    },
    /// With a time and what its clock showed then.
    Drift {
        rank: usize,
        then: (Instant, Instant),
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum LinkChange {
    Cut,
    Heal,
    Clog(u32),
    Unclog(u32),
}

/// To tell at a fault's end whether datagrams met it.
pub(super) struct Report {
    kind: &'static str,
    met_before: u64,
}

/// What is wrong with a link.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkTroubles {
    cuts: u32,
    /// Bandwidths in kbit/s, by how often they are imposed.
    clogs: BTreeMap<u32, u32>,
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
        let is_end = !self.is_healed() && self.now >= heal_at;
        if is_end {
            if self.last_answer.is_some() {
                self.note_answer();
            }
            self.aimed = None;
            self.forget_moments();
            self.say(|| "all faults end".to_owned());
            for (at, _) in &mut self.mends {
                *at = self.now;
            }
            // Bursts of loss are outages of a link, longer than an election: they end as faults do.
            // Loss, delay, duplicates and reordering stay.
            self.scenario.link.burst_enter = 0.0;
            self.netem.set_default_link(self.scenario.link.clone());
            let addresses: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
            for (from, to) in addresses.iter().flat_map(|a| addresses.iter().map(move |b| (*a, *b)))
            {
                let link = LinkConfig { burst_enter: 0.0, ..self.netem.link(from, to).clone() };
                self.netem.set_link(from, to, link);
            }
            for rank in 0..self.nodes.len() {
                self.nodes[rank].mend(self.now);
                self.touch(rank);
            }
        }
        if self.mends.iter().any(|(at, _)| *at <= self.now) {
            let (due, later) =
                std::mem::take(&mut self.mends).into_iter().partition(|(at, _)| *at <= self.now);
            self.mends = later;
            for (_, mend) in due {
                self.mend(mend)?;
            }
        }
        if is_end {
            self.leave_faulty()?;
        }
        Ok(())
    }

    fn begin(&mut self, fault: &Fault) {
        let kind = fault.kind();
        *self.totals.faults.entry(kind).or_default() += 1;
        self.say(|| format!("fault: {fault:?}"));
        // Ranks of machines that are yet to come are drawn too.
        let at = fault.node().map_or(0, |node| self.rank(node));
        let node = &at;
        match fault {
            Fault::Crash { node: _, down } | Fault::PowerCut { node: _, down } => {
                self.note_if_up(*node, kind);
                self.stop(*node, matches!(fault, Fault::PowerCut { .. }), *down);
            }
            Fault::PowerCutAll { down, is_aimed: true } => self.aimed = Some(*down),
            Fault::PowerCutAll { down, is_aimed: false } => self.cut_power(*down),
            Fault::CrashPoint { node: _, after, is_at_start, is_power_cut, down } => {
                let death = Death { kind, is_power_cut: *is_power_cut, down: *down };
                let armed = Armed { after: *after, trip: TripKind::Death, death };
                if *is_at_start {
                    self.nodes[*node].arm_at_start(armed);
                    self.stop(*node, *is_power_cut, *down);
                } else {
                    self.nodes[*node].arm(armed);
                }
            }
            Fault::DiskError { node: _, after, down } => {
                let death = Death { kind, is_power_cut: false, down: *down };
                self.nodes[*node].arm(Armed { after: *after, trip: TripKind::Error, death });
            }
            Fault::DiskFull { node: _, free_bytes, span } => {
                self.nodes[*node].disk.set_free_bytes(Some(*free_bytes));
                self.mends.push((self.now + *span, Mend::DiskFull(*node)));
            }
            Fault::DiskLow { node: _, span } => {
                self.nodes[*node].set_space_low(self.now, true);
                self.note_if_up(*node, kind);
                self.mends.push((self.now + *span, Mend::DiskLow(*node)));
            }
            Fault::SlowDisk { node: _, extra, span } => {
                self.nodes[*node].extra_sync += *extra;
                let (rank, by, slowed_before) = (*node, *extra, self.nodes[*node].slowed_count);
                self.mends.push((self.now + *span, Mend::Faster { rank, by, slowed_before }));
            }
            Fault::Rot { node: _, damage, is_restarted, seed } => {
                self.damage(kind, *node, (*damage, *seed), *is_restarted);
            }
            Fault::Drift { node: _, drift_ppm, span } => {
                let clock = &mut self.nodes[*node].clock;
                let then = (self.now, clock.local(self.now));
                clock.set_drift(self.now, *drift_ppm);
                self.mends.push((self.now + *span, Mend::Drift { rank: *node, then }));
            }
            Fault::Pause { node: _, span } => {
                self.nodes[*node].paused_until = Some(self.now + *span);
            }
            Fault::Partition { from, to, span } => {
                let mut links = self.links_between(*from, *to);
                // Complements are two sides of a split; anything else is cut one way.
                if from & to == 0 {
                    links.extend(self.links_between(*to, *from));
                }
                self.cut_for(kind, links, Duration::ZERO, *span);
            }
            Fault::Shape { shape, node, flap, span } => {
                let middle = node.map_or_else(|| self.leader_rank(), |_| at);
                let count = self.nodes.len();
                let mut links = self.links_between(u32::MAX, u32::MAX);
                links.retain(|(from, to)| shape.cuts(*from, *to, middle, count));
                self.cut_for(kind, links, *flap, *span);
            }
            Fault::Clog { from, to, rate_kbit, span } => {
                let links = self.links_between(*from, *to);
                self.clog_for(kind, links, *rate_kbit, *span);
            }
            Fault::Aimed { moment, act, delay, span } => {
                let (moment, act, delay, span) = (*moment, *act, *delay, *span);
                self.wait_for_moment(Aimed { moment, act, delay, span });
            }
            Fault::ClientRestart { client } => self.restart_client(*client),
            Fault::LoseDirectory { .. } => self.lose_directory(fault, at),
            Fault::CancelChange {} => self.unwant_change(),
            Fault::Operator(admin) => self.operator.ask(self.now, self.fitted(admin)),
            Fault::ReplaceNode { .. } | Fault::AddNode {} | Fault::RemoveNode { .. } => {
                Wanted::of(fault, at).into_iter().for_each(|wanted| self.plan_change(kind, wanted));
            }
        }
        if fault.node().is_some() {
            self.touch(at);
        }
    }

    fn damage(
        &mut self,
        kind: &'static str,
        rank: usize,
        (damage, seed): (Damage, u64),
        is_restarted: bool,
    ) {
        if self.rot.damage(&mut self.nodes[rank], rank, damage, seed) {
            self.totals.note_effect(kind);
            if is_restarted {
                self.stop(rank, false, ROT_DOWN);
            }
        }
    }

    /// The machine of that rank, or another one where it is yet to come.
    pub(super) fn rank(&self, node: usize) -> usize {
        node % self.nodes.len()
    }

    /// The directed links between nodes of two sets.
    pub(super) fn links_between(&self, from: u32, to: u32) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let is_in = |set: u32, rank: usize| set & (1 << rank) != 0;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        pairs.filter(|(a, b)| a != b && is_in(from, *a) && is_in(to, *b)).collect()
    }

    /// Links carry next to nothing for a time.
    fn clog_for(
        &mut self,
        kind: &'static str,
        links: Vec<(usize, usize)>,
        rate_kbit: u32,
        span: Duration,
    ) {
        let links: Links = links.into();
        let report = Some(Report { kind, met_before: self.netem.stats().throttled });
        self.change_links(&links, LinkChange::Clog(rate_kbit));
        let change = LinkChange::Unclog(rate_kbit);
        self.mends.push((self.now + span, Mend::Links { links, change, report }));
    }

    /// Cuts links for a time: all of it, or on and off.
    fn cut_for(
        &mut self,
        kind: &'static str,
        links: Vec<(usize, usize)>,
        flap: Duration,
        span: Duration,
    ) {
        let links: Links = links.into();
        let met_before = self.netem.stats().partitioned;
        self.change_links(&links, LinkChange::Cut);
        let (end, mut at, mut is_cut) = (self.now + span, self.now + flap, true);
        while !flap.is_zero() && at < end {
            let change = if is_cut { LinkChange::Heal } else { LinkChange::Cut };
            let links = Rc::clone(&links);
            self.mends.push((at, Mend::Links { links, change, report: None }));
            is_cut = !is_cut;
            at = at + flap;
        }
        if !is_cut {
            // So that the end finds what it ends.
            let (links, change) = (Rc::clone(&links), LinkChange::Cut);
            self.mends.push((end, Mend::Links { links, change, report: None }));
        }
        let report = Some(Report { kind, met_before });
        self.mends.push((end, Mend::Links { links, change: LinkChange::Heal, report }));
    }

    fn mend(&mut self, mend: Mend) -> Result<(), String> {
        match mend {
            Mend::Start(rank) => return self.start(rank),
            Mend::DiskLow(rank) => {
                self.nodes[rank].set_space_low(self.now, false);
                self.touch(rank);
            }
            Mend::DiskFull(rank) => {
                self.nodes[rank].disk.set_free_bytes(None);
                self.nodes[rank].set_space_low(self.now, false);
                self.touch(rank);
            }
            Mend::Faster { rank, by, slowed_before } => {
                if self.nodes[rank].slowed_count > slowed_before {
                    self.totals.note_effect("slow disk");
                }
                let extra = &mut self.nodes[rank].extra_sync;
                *extra = extra.saturating_sub(by);
            }
            Mend::Drift { rank, then } => {
                let usual = self.scenario.clocks.get(rank).copied().unwrap_or_default();
                let usually = Clock::undisturbed(then, self.now, usual.drift_ppm);
                let shown = self.nodes[rank].clock.local(self.now);
                // To the nanosecond both are rounded down.
                if self.nodes[rank].is_up() && shown.as_nanos().abs_diff(usually.as_nanos()) > 2 {
                    self.totals.note_effect("clock drift");
                }
                self.nodes[rank].clock.set_drift(self.now, usual.drift_ppm);
                self.touch(rank);
            }
            Mend::Links { links, change, report } => {
                self.say(|| format!("links {links:?}: {change:?}"));
                self.change_links(&links, change);
                if let Some(Report { kind, met_before }) = report {
                    let stats = self.netem.stats();
                    let met = match change {
                        LinkChange::Clog(_) | LinkChange::Unclog(_) => stats.throttled,
                        LinkChange::Cut | LinkChange::Heal => stats.partitioned,
                    };
                    if met > met_before {
                        self.totals.note_effect(kind);
                    }
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, rank: usize) -> Result<(), String> {
        // Several faults may have met it: it starts when the last has ended.
        let is_due_later =
            self.mends.iter().any(|(_, mend)| matches!(mend, Mend::Start(other) if *other == rank));
        if self.nodes[rank].is_up() || self.nodes[rank].is_gone || is_due_later {
            return Ok(());
        }
        let id = self.nodes[rank].id;
        self.say(|| format!("{id} starts"));
        let death = self.nodes[rank].start(self.now)?;
        self.touch(rank);
        match death {
            Some(death) => {
                self.die(rank, death);
                Ok(())
            }
            None => self.check_agreement(rank),
        }
    }

    /// A node's disk gave up.
    pub(super) fn die(&mut self, rank: usize, death: Death) {
        self.totals.note_effect(death.kind);
        let id = self.nodes[rank].id;
        self.say(|| format!("{id} stops: {}", death.kind));
        self.stop(rank, death.is_power_cut, death.down);
    }

    pub(super) fn cut_power(&mut self, down: Duration) {
        self.totals.note_effect("power cut of all");
        for rank in 0..self.nodes.len() {
            self.stop(rank, true, down);
        }
    }

    pub(super) fn stop(&mut self, rank: usize, is_power_cut: bool, down: Duration) {
        self.nodes[rank].stop(is_power_cut);
        self.forget_seen(rank);
        self.touch(rank);
        self.mends.push((self.now + down, Mend::Start(rank)));
    }

    fn note_if_up(&mut self, rank: usize, kind: &'static str) {
        if self.nodes[rank].is_up() {
            self.totals.note_effect(kind);
        }
    }

    pub(super) fn change_links(&mut self, links: &[(usize, usize)], change: LinkChange) {
        for pair in links {
            let troubles = self.troubles.entry(*pair).or_default();
            match change {
                LinkChange::Cut => troubles.cuts += 1,
                LinkChange::Heal => troubles.cuts = troubles.cuts.saturating_sub(1),
                LinkChange::Clog(rate) => *troubles.clogs.entry(rate).or_default() += 1,
                LinkChange::Unclog(rate) => {
                    let imposed = troubles.clogs.entry(rate).or_default();
                    *imposed = imposed.saturating_sub(1);
                    troubles.clogs.retain(|_, imposed| *imposed > 0);
                }
            }
            let slowest = troubles.clogs.first_key_value().map(|(rate, _)| *rate);
            let mut link = LinkConfig { down: troubles.cuts > 0, ..self.scenario.link.clone() };
            if let Some(rate) = slowest {
                link.rate_mbit = f64::from(rate) / 1000.0;
                link.queue_bytes = CLOG_QUEUE_BYTES;
            }
            let (a, b) = (self.nodes[pair.0].address, self.nodes[pair.1].address);
            self.netem.set_link(a, b, link);
        }
    }
}

/// How long a node is down that is to meet damage in its recovery.
const ROT_DOWN: Duration = Duration::from_millis(60);
/// What waits on a clogged link; more is dropped.
const CLOG_QUEUE_BYTES: u64 = 16 << 10;
