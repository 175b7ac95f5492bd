//! A plain trial: load the records, warm up, measure, whatever the bed is; or offer one load after
//! the other, in search of a capacity.

use super::bed::{Bed, Used, difference};
use super::capacity::{CapacitySearch, fell_behind};
use super::faults::{FaultAction, Struck};
use super::loads::workload;
use super::measured::{self, failed};
use super::trial::{CancelFlag, TrialConfig, TrialError, TrialKind, TrialOutcome};
use crate::bench::{
    Ages, BenchError, OfferedLoad, Phase, PhaseConfig, PhaseReport, Target, Watched, Workload,
    run_phase,
};
use crate::report::quantity;
use crate::report::result::{PhaseResult, TimelineEvent};
use crate::types::ReadMode;
use std::time::Duration;

/// Runs a trial on its bed.
///
/// # Errors
/// As [`super::trial::TrialLauncher::run`].
pub(super) fn run(
    bed: &mut dyn Bed,
    trial: &TrialConfig,
    cancel: &CancelFlag,
) -> Result<TrialOutcome, TrialError> {
    let workload = workload(trial)?;
    let mut plain = Plain { bed, trial, cancel, workload, invalid: Vec::new() };
    let phases = plain.phases()?;
    plain.check(&phases);
    let unclean = plain.bed.stop();
    plain.invalid.extend(unclean);
    Ok(TrialOutcome { phases, invalid: plain.invalid, ..TrialOutcome::default() })
}

struct Plain<'a> {
    bed: &'a mut dyn Bed,
    trial: &'a TrialConfig,
    cancel: &'a CancelFlag,
    workload: Workload,
    invalid: Vec<String>,
}

/// A phase that was run.
struct Ran {
    report: PhaseReport,
    events: Vec<TimelineEvent>,
    healed: Vec<Duration>,
    ages: Option<Ages>,
}

impl Plain<'_> {
    fn phases(&mut self) -> Result<Vec<PhaseResult>, TrialError> {
        let trial = self.trial;
        let mut phases = Vec::new();
        self.bed.set_loading(true);
        let load = PhaseConfig { offered: None, ..self.config(Duration::ZERO) };
        phases.push(self.measured("load", Phase::Load, &load)?);
        self.bed.set_loading(false);
        for _ in 0..trial.failed_nodes {
            self.bed.strike(FaultAction::KillFollower).map_err(failed)?;
        }
        if trial.overwrite_rounds > 0 {
            let operations = Some(trial.records * u64::from(trial.overwrite_rounds));
            let config = PhaseConfig { operations, ..self.config(Duration::ZERO) };
            phases.push(self.measured("run", Phase::Run, &config)?);
        } else if trial.duration_ms > 0 {
            // Apart from the measured phase, so that what the nodes used while warming up is too.
            let warmup = Duration::from_millis(trial.warmup_ms);
            if !warmup.is_zero() {
                let config = PhaseConfig { seed: !trial.seed, ..self.config(warmup) };
                self.phase(Phase::Run, &config, false)?;
            }
            let config = self.config(Duration::from_millis(trial.duration_ms));
            phases.push(match trial.kind {
                TrialKind::Capacity => self.capacity(&config)?,
                TrialKind::Cluster
                | TrialKind::Codec
                | TrialKind::Failover
                | TrialKind::Rejoin
                | TrialKind::Replace => self.measured("run", Phase::Run, &config)?,
            });
        }
        Ok(phases)
    }

    /// Searches the capacity; gives the probe of the highest load that held, with its bracket.
    fn capacity(&mut self, config: &PhaseConfig) -> Result<PhaseResult, TrialError> {
        let mut search = CapacitySearch::new(self.trial.offered_ops_per_s);
        let mut best = None;
        let mut seed = self.trial.seed;
        while let Some(load) = search.next_load() {
            let offered = Some(OfferedLoad::Constant(load));
            let mut held = None;
            // One stall of a shared machine must not send the search away from a load that holds.
            for _ in 0..TRIES_PER_LOAD {
                seed = seed.wrapping_add(1);
                let config = PhaseConfig { seed, offered: offered.clone(), ..config.clone() };
                let (probe, did_hold) = self.probe(&config)?;
                if did_hold {
                    held = Some(probe);
                    break;
                }
            }
            search.take(load, held.is_some());
            best = held.or(best);
        }
        let (held, over) = search.bracket().map_err(TrialError::Failed)?;
        let mut run = best.ok_or_else(|| failed("no load held the objective"))?;
        run.numbers.insert(quantity::CAPACITY_OPS_PER_S.to_owned(), held);
        run.numbers.insert(quantity::CAPACITY_ABOVE_OPS_PER_S.to_owned(), over);
        Ok(run)
    }

    /// Offers a load, and says whether it held the objective: nothing failed, p99 from due time of
    /// every kind of operation is within it, and both store and generator kept up.
    fn probe(&mut self, config: &PhaseConfig) -> Result<(PhaseResult, bool), TrialError> {
        let before: Used = self.bed.used()?;
        let Ran { report, .. } = self.phase(Phase::Run, config, false)?;
        let apart = self.bed.settle()?;
        self.invalid.extend(apart);
        let mut result = measured::phase_result("run", self.trial, &report)?;
        result.nodes = difference(&before, self.bed.used()?);
        let load = report.target_rate.unwrap_or(0.0);
        let p99_us = result.latency.values().map(|latency| latency.p99_us).max().unwrap_or(0);
        let did_hold = report.invalid.is_empty()
            && report.failures == 0
            && report.operations > 0
            && !fell_behind(load, report.wall_seconds, report.operations)
            && p99_us as f64 <= self.trial.p99_objective_ms * 1e3;
        Ok((result, did_hold))
    }

    fn config(&self, duration: Duration) -> PhaseConfig {
        let trial = self.trial;
        PhaseConfig {
            clients: usize::try_from(trial.clients.max(1)).unwrap_or(1),
            seed: trial.seed,
            duration: Some(duration).filter(|duration| !duration.is_zero()),
            offered: (trial.offered_ops_per_s > 0.0)
                .then_some(OfferedLoad::Constant(trial.offered_ops_per_s)),
            series_interval: Duration::from_millis(trial.interval_ms),
            ..PhaseConfig::default()
        }
    }

    /// Runs a phase, and what was used for it.
    fn measured(
        &mut self,
        name: &str,
        phase: Phase,
        config: &PhaseConfig,
    ) -> Result<PhaseResult, TrialError> {
        let before: Used = self.bed.used()?;
        let ran = self.phase(phase, config, name == "run")?;
        let Ran { report, events, healed, ages } = ran;
        let apart = self.bed.settle()?;
        let after = self.bed.used()?;
        // Under faults nodes may be apart, and the generator is held up by its own strikes.
        if name == "run" && self.trial.faults.is_empty() {
            self.invalid.extend(report.invalid.iter().cloned());
        }
        self.invalid.extend(apart.filter(|_| self.trial.faults.is_empty()));
        let mut result = measured::phase_result(name, self.trial, &report)?;
        (result.nodes, result.events) = (difference(&before, after), events);
        result.numbers.extend(measured::numbers_of(&result.nodes));
        if !healed.is_empty() {
            let healed = healed.iter().map(|took| took.as_secs_f64() * 1e3).collect();
            result.samples.insert(quantity::HEAL_MS.to_owned(), healed);
        }
        if let Some(ages) = ages {
            result.numbers.insert(quantity::STALE_SHARE.to_owned(), ages.stale_share());
            let ages = ages.samples().iter().map(|age| age.as_secs_f64() * 1e3).collect();
            result.samples.insert(quantity::STALENESS_MS.to_owned(), ages);
        }
        Ok(result)
    }

    fn phase(
        &mut self,
        phase: Phase,
        config: &PhaseConfig,
        is_struck: bool,
    ) -> Result<Ran, TrialError> {
        if self.cancel.is_cancelled() {
            return Err(TrialError::Cancelled);
        }
        let steps = if is_struck { self.trial.faults.as_slice() } else { &[] };
        let mut struck = Struck::new(self.bed, steps);
        // Watching costs the generator something: only where there is anything to see.
        let is_watched = self.trial.read_mode == ReadMode::Eventual && self.trial.read_share > 0.0;
        let run = |target: &mut dyn Target| {
            run_phase(target, &self.workload, phase, config, None, &mut |_| {})
        };
        let (run, ages) = if is_watched {
            let mut watched = Watched::new(&mut struck, self.trial.seed);
            (run(&mut watched), Some(watched.into_ages()))
        } else {
            (run(&mut struck), None)
        };
        let Struck { events, healed, .. } = struck;
        let ran = |report| Ran { report, events, healed, ages };
        run.map(ran).map_err(|error| self.explain(&error))
    }

    /// Why a phase broke off: on request, or because of what ended by itself.
    fn explain(&mut self, error: &BenchError) -> TrialError {
        if self.cancel.is_cancelled() {
            return TrialError::Cancelled;
        }
        self.bed.broken().map_or_else(|| failed(error), failed)
    }

    /// What makes the trial not count.
    fn check(&mut self, phases: &[PhaseResult]) {
        for phase in phases {
            let bad = phase.errors + phase.timeouts;
            if phase.name == "load" && bad > 0 {
                self.invalid.push(format!("{bad} of the records were not loaded"));
            }
            if phase.operations == 0 {
                self.invalid.push(format!("phase {} completed no operation", phase.name));
            }
        }
        self.invalid.extend(self.bed.broken());
    }
}

/// A load is over when it was not held so often.
const TRIES_PER_LOAD: u32 = 2;
