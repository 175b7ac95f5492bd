//! A plain trial: load the records, warm up, measure, whatever the bed is; or offer one load after
//! the other, in search of a capacity.

use super::bed::{Bed, Used, difference, leadership};
use super::capacity::{self, CapacitySearch, Verdict};
use super::faults::{FaultAction, Struck};
use super::loads::workload;
use super::measured::{self, failed};
use super::trial::{CancelFlag, TrialConfig, TrialError, TrialKind, TrialOutcome};
use crate::bench::{
    Ages, BenchError, OfferedLoad, Phase, PhaseConfig, PhaseReport, Target, Watched, Workload,
    run_phase,
};
use crate::report::phase_parts::{Leadership, Probe};
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
    not_done_count: u32,
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
            self.bed.strike(FaultAction::KillDataHolder).map_err(failed)?;
        }
        if trial.overwrite_rounds > 0 {
            let operations = Some(trial.records * u64::from(trial.overwrite_rounds));
            let config = PhaseConfig { operations, ..self.config(Duration::ZERO) };
            phases.push(self.measured("run", Phase::Run, &config)?);
        } else if trial.duration_ms > 0 {
            // Apart from the measured phase, so that what the nodes used while warming up is too.
            let warmup = Duration::from_millis(trial.warmup_ms);
            let mut warm = None;
            if !warmup.is_zero() {
                let config = PhaseConfig { seed: !trial.seed, ..self.config(warmup) };
                warm = Some(self.phase(Phase::Run, &config, false)?.report);
            }
            let mut config = self.config(Duration::from_millis(trial.duration_ms));
            if let Some(operations) = slow_operations(trial, warm.as_ref(), &phases[0]) {
                (config.operations, config.duration) = (Some(operations), None);
            }
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

    /// Searches the capacity; gives the probe of the highest load that held, with its bracket and all
    /// probes.
    fn capacity(&mut self, config: &PhaseConfig) -> Result<PhaseResult, TrialError> {
        let first = capacity::first_load(self.trial.offered_ops_per_s, self.trial.seed);
        let mut search = CapacitySearch::new(first);
        let mut offered = Offered { seed: self.trial.seed, probes: Vec::new(), best: None };
        while let Some(load) = search.next_load() {
            match self.offer(config, load, &mut offered)? {
                Ok(did_hold) => search.take(load, did_hold),
                Err(late) => {
                    self.invalid.push(late);
                    break;
                }
            }
        }
        let none = || PhaseResult { name: "run".to_owned(), ..PhaseResult::default() };
        let mut run = offered.best.unwrap_or_else(none);
        run.probes = offered.probes;
        match search.bracket() {
            Ok((held, over)) => {
                run.numbers.insert(quantity::CAPACITY_OPS_PER_S.to_owned(), held);
                run.numbers.insert(quantity::CAPACITY_ABOVE_OPS_PER_S.to_owned(), over);
            }
            // Said already, when it was the generator.
            Err(why) if self.invalid.is_empty() => self.invalid.push(why),
            Err(_) => {}
        }
        Ok(run)
    }

    /// Offers a load until it held, or was over so often that it counts; or why neither can be said.
    fn offer(
        &mut self,
        config: &PhaseConfig,
        load: f64,
        offered: &mut Offered,
    ) -> Result<Result<bool, String>, TrialError> {
        let (mut over, mut late) = (0, 0);
        // One stall of a shared machine must not send the search away from a load that holds.
        while over < TRIES_PER_LOAD {
            offered.seed = offered.seed.wrapping_add(1);
            let constant = Some(OfferedLoad::Constant(load));
            let config = PhaseConfig { seed: offered.seed, offered: constant, ..config.clone() };
            let (result, verdict, p99_us) = self.probe(&config)?;
            let held = verdict == Verdict::Held;
            let reason = match &verdict {
                Verdict::Held => String::new(),
                Verdict::Over(why) | Verdict::Late(why) => why.clone(),
            };
            let probe = Probe { load_ops_per_s: load, held, reason, p99_us };
            offered.probes.push(probe);
            match verdict {
                Verdict::Held => {
                    offered.best = Some(result);
                    return Ok(Ok(true));
                }
                Verdict::Over(_) => over += 1,
                Verdict::Late(_) if late + 1 < TRIES_WHEN_LATE => late += 1,
                Verdict::Late(why) => {
                    let tries = TRIES_WHEN_LATE;
                    return Ok(Err(format!("{tries} times at {load:.1} op/s {why}")));
                }
            }
        }
        Ok(Ok(false))
    }

    /// Offers a load, and says whether it held the objective; with p99 of its slowest kind.
    fn probe(&mut self, config: &PhaseConfig) -> Result<(PhaseResult, Verdict, u64), TrialError> {
        let before: Used = self.bed.used()?;
        let Ran { report, .. } = self.phase(Phase::Run, config, false)?;
        let apart = self.bed.settle()?;
        self.invalid.extend(apart);
        let mut result = measured::phase_result("run", self.trial, &self.workload, &report)?;
        result.nodes = difference(&before, self.bed.used()?);
        self.note_leaders(&before, &mut result);
        let p99_us = result.latency.values().map(|latency| latency.p99_us).max().unwrap_or(0);
        let verdict = Verdict::of(&report, p99_us, self.trial.p99_objective_ms);
        Ok((result, verdict, p99_us))
    }

    /// Who led at a phase's two ends, and the elections between them that nothing called for.
    fn note_leaders(&self, before: &Used, result: &mut PhaseResult) {
        result.leader_at_start = leadership(before.values());
        result.leader_at_end = leadership(&result.nodes);
        let actions = self.trial.faults.iter().map(|step| step.action.parse::<FaultAction>());
        let is_planned = result.name == "run" && actions.flatten().any(FaultAction::can_elect);
        if !is_planned && !result.has_one_leader() {
            let round = |at: Option<Leadership>| at.map_or(0, |leader| leader.round);
            let rounds = round(result.leader_at_end).saturating_sub(round(result.leader_at_start));
            let count = rounds.max(1) as f64;
            result.numbers.insert(quantity::UNPLANNED_ELECTIONS.to_owned(), count);
        }
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
        let Ran { report, events, not_done_count, healed, ages } = ran;
        let apart = self.bed.settle()?;
        let after = self.bed.used()?;
        // Under faults nodes may be apart, and the generator is held up by its own strikes.
        if name == "run" && self.trial.faults.is_empty() {
            self.invalid.extend(report.invalid.iter().cloned());
        }
        self.invalid.extend(apart.filter(|_| self.trial.faults.is_empty()));
        let mut result = measured::phase_result(name, self.trial, &self.workload, &report)?;
        (result.nodes, result.events) = (difference(&before, after), events);
        self.note_leaders(&before, &mut result);
        result.numbers.extend(measured::numbers_of(&result));
        if not_done_count > 0 {
            let count = f64::from(not_done_count);
            result.numbers.insert(quantity::FAULTS_NOT_DONE.to_owned(), count);
        }
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
        let mut struck = Struck::new(self.bed, steps, config.clients);
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
        let Struck { events, not_done_count, healed, .. } = struck;
        let ran = |report| Ran { report, events, not_done_count, healed, ages };
        run.map(ran).map_err(|error| self.explain(&error))
    }

    /// Why a phase broke off: on request, or because of what ended by itself.
    fn explain(&mut self, error: &BenchError) -> TrialError {
        if self.cancel.is_cancelled() {
            return TrialError::Cancelled;
        }
        self.bed.broken().map_or_else(|| failed(error), failed)
    }

    /// What makes the trial not count. A run that completed nothing does: the store failed, and no
    /// throughput is what it had.
    fn check(&mut self, phases: &[PhaseResult]) {
        for phase in phases {
            let bad = phase.errors + phase.timeouts;
            if phase.name == "load" && (bad > 0 || phase.operations == 0) {
                let loaded = phase.operations;
                self.invalid.push(format!("not loaded: {bad} records failed, {loaded} did not"));
            }
        }
        self.invalid.extend(self.bed.broken());
    }
}

/// How many operations to measure a closed loop for, where its window would hold few rounds. A round
/// that is not over counts for nothing, so that throughput comes out low by up to one of them, and
/// whoever completes all at once, every few seconds, has done nothing in most windows. Started
/// together, rounds end together: whole rounds have no such error. The pace is that of the warm-up,
/// or, where that was too short for one round and there is nothing but puts, that of the load.
fn slow_operations(
    trial: &TrialConfig,
    warm: Option<&PhaseReport>,
    load: &PhaseResult,
) -> Option<u64> {
    let clients = u64::from(trial.clients.max(1));
    let is_closed = trial.offered_ops_per_s <= 0.0 && trial.kind == TrialKind::Cluster;
    if !is_closed || !trial.faults.is_empty() {
        return None;
    }
    let is_of_puts = trial.workload.is_empty() && trial.read_share <= 0.0;
    let ops_per_s = match warm {
        Some(warm) if warm.operations >= clients => warm.throughput,
        Some(_) | None if is_of_puts => load.throughput_ops_per_s,
        Some(_) | None => return None,
    };
    let window = Duration::from_millis(trial.duration_ms).as_secs_f64();
    let rounds = ops_per_s / clients as f64 * window;
    if rounds <= 0.0 || rounds >= COUNTED_ROUNDS {
        return None;
    }
    let fewest = (rounds * STRETCH).floor().clamp(1.0, FEWEST_ROUNDS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 50")]
    Some(rounds.floor().max(fewest) as u64 * clients)
}

/// A window in which every client completes less than so many operations is measured by count: as
/// many as it holds,
const COUNTED_ROUNDS: f64 = 50.0;
/// but so many at least,
const FEWEST_ROUNDS: f64 = 5.0;
/// or what about so many windows hold.
const STRETCH: f64 = 12.0;

/// What a search for a capacity has offered so far.
struct Offered {
    seed: u64,
    probes: Vec<Probe>,
    /// Of the highest load that held.
    best: Option<PhaseResult>,
}

/// A load is over when it was not held so often.
const TRIES_PER_LOAD: u32 = 2;
/// Nothing can be said of a load when the generator alone spoilt so many probes of it.
const TRIES_WHEN_LATE: u32 = 4;

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
