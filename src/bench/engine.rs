//! The loop: sessions with one outstanding operation each, on one thread over a [`Target`].
//!
//! Closed by default: a session starts its next operation when the last one ends. With a target
//! rate operations are due on a schedule that never skips and never forgets: one that no session
//! is free for waits, and its latency is given from when it was due as well. Invariant: each
//! session has at most one operation at the target; a phase ends with none or says so as errors.

use super::arrivals::{CatchUp, Schedule};
use super::choices::UpdateMode;
use super::cpu_time::CpuTime;
use super::history::{Call, History, HistoryError, digest_text};
use super::measure::{Recorder, Sample};
use super::offered::OfferedLoad;
use super::phase::{BenchError, PhaseConfig, Progress};
use super::plan::{Kind, Phase, Plan, Planner};
use super::record::Records;
use super::report::PhaseReport;
use super::stage::{Stage, metric, part_metric};
use super::target::{Target, TargetCompletion, TargetOp, TargetOutcome};
use super::timer_slack::ShortTimerSlack;
use super::workload::Workload;
use crate::history::LineOp;
use crate::rng::Rng;
use crate::types::Bytes;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// Runs one phase of `workload` against `target`, calling `progress` about once a second.
///
/// # Errors
/// [`BenchError`] when the store or the history's file fails as a whole, or the run has no end.
pub fn run_phase(
    target: &mut dyn Target,
    workload: &Workload,
    phase: Phase,
    config: &PhaseConfig,
    history: Option<&mut History>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PhaseReport, BenchError> {
    config.check(phase)?;
    let _slack = ShortTimerSlack::new();
    Engine::new(target, workload, phase, config, history).run(progress)
}

/// A session's operation at the target.
struct Active {
    plan: Plan,
    stage: Stage,
    due: Instant,
    invoked: Instant,
    stage_invoked: Instant,
    bytes: u64,
    op: LineOp,
    written_digest: Option<String>,
}

struct Session {
    active: Option<Active>,
    free_since: Instant,
}

struct Engine<'a> {
    target: &'a mut dyn Target,
    workload: &'a Workload,
    phase: Phase,
    config: &'a PhaseConfig,
    history: Option<&'a mut History>,
    planner: Planner,
    records: Records,
    arrivals: Option<Schedule>,
    /// The window's own schedule, while the one of the warm-up is in force.
    arrivals_after: Option<Schedule>,
    catch_up: CatchUp,
    recorder: Recorder,
    sessions: Vec<Session>,
    idle: Vec<usize>,
    /// Since when some session is free.
    idle_from: Instant,
    origin: Instant,
    from: Instant,
    until: Option<Instant>,
    /// Operations that may still start inside the window.
    quota: u64,
    is_exhausted: bool,
    /// Operations ended the window, not time.
    ran_out: bool,
    last_completion: Instant,
}

impl<'a> Engine<'a> {
    fn new(
        target: &'a mut dyn Target,
        workload: &'a Workload,
        phase: Phase,
        config: &'a PhaseConfig,
        history: Option<&'a mut History>,
    ) -> Self {
        let mut rng = Rng::new(config.seed ^ PHASE_SALT[phase as usize]);
        let planner = Planner::new(workload, phase, rng.fork());
        let records = Records::new(workload, history.is_some(), rng.fork());
        let is_run = phase == Phase::Run;
        let origin = target.now();
        let from = origin + if is_run { config.warmup } else { Duration::ZERO };
        let until = config.window().filter(|_| is_run).map(|window| from + window);
        let load = config.offered.as_ref().filter(|_| is_run);
        let [arrivals, arrivals_after] =
            schedules(config, load, workload, (origin, from), &mut rng);
        let clients = config.clients.max(1);
        let session = |_| Session { active: None, free_since: origin };
        Self {
            target,
            workload,
            phase,
            config,
            history,
            planner,
            records,
            arrivals,
            arrivals_after,
            catch_up: CatchUp::default(),
            recorder: Recorder::new(from, until, config.series_interval, load.is_some()),
            sessions: (0..clients).map(session).collect(),
            idle: (0..clients).rev().collect(),
            idle_from: origin,
            origin,
            from,
            until,
            quota: config.operations.filter(|_| is_run).unwrap_or(u64::MAX),
            is_exhausted: false,
            ran_out: false,
            last_completion: from,
        }
    }

    fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Result<PhaseReport, BenchError> {
        let mut completions = Vec::with_capacity(self.sessions.len());
        let mut next_progress = self.origin + PROGRESS_INTERVAL;
        let mut cpu_from = (self.from == self.origin).then(CpuTime::now);
        let mut drain_until = None;
        loop {
            let mut now = self.target.now();
            if cpu_from.is_none() && now >= self.from {
                cpu_from = Some(CpuTime::now());
                now = self.target.now();
            }
            if now >= next_progress {
                next_progress = now + PROGRESS_INTERVAL;
                progress(self.progress(now));
                now = self.target.now();
            }
            let next_due = self.start_idle(now);
            if self.is_exhausted {
                if self.idle.len() == self.sessions.len() {
                    break;
                }
                let limit = *drain_until.get_or_insert(now + self.config.drain_limit);
                if now >= limit {
                    self.give_up(now)?;
                    break;
                }
            }
            let limits = [next_due, drain_until, self.until.filter(|_| !self.is_exhausted)];
            let deadline = limits.into_iter().flatten().fold(next_progress, Instant::min);
            self.target.wait(&mut completions, deadline)?;
            for completion in completions.drain(..) {
                self.handle_completion(completion)?;
            }
        }
        let effort = cpu_from.unwrap_or_else(CpuTime::now).elapsed();
        if let Some(history) = self.history.as_mut() {
            history.flush()?;
        }
        progress(self.progress(self.target.now()));
        Ok(self.report(effort))
    }

    /// Starts operations in idle sessions from `now` on; gives the time when the next one may start.
    fn start_idle(&mut self, mut now: Instant) -> Option<Instant> {
        // Noticed even while no session is free: the drain must have an end.
        self.end_window(now);
        if self.quota == 0 || self.planner.is_exhausted() {
            self.run_out();
        }
        while let Some(client) = self.idle.last().copied() {
            if self.is_exhausted {
                return None;
            }
            let due = match self.next_due() {
                Some(due) if due > now => return Some(due),
                Some(due) => {
                    let release = self.catch_up.release(due, self.idle_from, now);
                    if release > now {
                        return Some(release);
                    }
                    due
                }
                None if self.arrivals.is_none() => now,
                // The last step lasts to its end, whenever its last operation was.
                None if matches!(self.config.offered, Some(OfferedLoad::Steps(_))) => return None,
                None => {
                    self.run_out();
                    return None;
                }
            };
            if !self.start(client, now, due) {
                return None;
            }
            self.idle.pop();
            // What starts next starts later; the clock is not read when nothing can.
            if !self.idle.is_empty() {
                now = self.target.now();
                self.end_window(now);
            }
        }
        None
    }

    /// When the schedule's next operation is due. The window's schedule follows the warm-up's when
    /// all of that is started: a backlog of the warm-up is not forgotten.
    fn next_due(&mut self) -> Option<Instant> {
        let due = self.arrivals.as_ref()?.next_due();
        if self.arrivals_after.is_some() && due.is_none_or(|due| due >= self.from) {
            self.arrivals = self.arrivals_after.take();
            return self.arrivals.as_ref()?.next_due();
        }
        due
    }

    /// Nothing is left to start, before the window's end.
    fn run_out(&mut self) {
        self.ran_out |= !self.is_exhausted;
        self.is_exhausted = true;
    }

    /// Starts the next operation in `client`; false, and exhausted, when there is none.
    fn start(&mut self, client: usize, now: Instant, due: Instant) -> bool {
        let plan = if self.quota == 0 { None } else { self.planner.next() };
        let Some(plan) = plan else {
            self.run_out();
            return false;
        };
        let is_open = self.arrivals.is_some();
        if let Some(schedule) = &mut self.arrivals {
            schedule.advance();
        }
        if now >= self.from {
            self.quota -= 1;
            // Of a schedule, an operation is late once any session could have taken it.
            let ready =
                if is_open { due.max(self.idle_from) } else { self.sessions[client].free_since };
            self.recorder.lag(now.saturating_duration_since(ready.max(self.from)));
        }
        self.submit_first(client, plan, now, due);
        true
    }

    fn submit_first(&mut self, client: usize, plan: Plan, now: Instant, due: Instant) {
        let reads_first = match plan.kind {
            Kind::ReadModifyWrite => true,
            Kind::Update => {
                self.workload.update == UpdateMode::Ycsb && !self.workload.write_all_fields
            }
            Kind::Read | Kind::Insert | Kind::Scan => false,
        };
        let key = plan.key.clone();
        let mut active = Active {
            plan,
            stage: if reads_first { Stage::ReadPart } else { Stage::Only },
            due,
            invoked: now,
            stage_invoked: now,
            bytes: 0,
            op: LineOp::Get,
            written_digest: None,
        };
        let op = match active.plan.kind {
            Kind::Read | Kind::ReadModifyWrite => TargetOp::Read { key },
            Kind::Update if reads_first => TargetOp::Read { key },
            Kind::Update | Kind::Insert => {
                let value = self.records.whole(&key);
                self.note_put(&mut active, &value);
                TargetOp::Put { key, value }
            }
            Kind::Scan => {
                active.op = LineOp::Scan;
                TargetOp::Scan { start: key, limit: active.plan.scan_rows }
            }
        };
        self.sessions[client].active = Some(active);
        self.target.submit(client, op);
    }

    fn note_put(&self, active: &mut Active, value: &Bytes) {
        active.op = LineOp::Put;
        active.bytes += value.len() as u64;
        active.written_digest = self.history.as_ref().map(|_| digest_text(value));
    }

    fn handle_completion(&mut self, completion: TargetCompletion) -> Result<(), BenchError> {
        let TargetCompletion { client, outcome, served_at, completed_at } = completion;
        let active = self.sessions.get_mut(client).and_then(|session| session.active.take());
        let mut active = active.expect("a target completes only what was submitted, and once");
        self.write_history(client, &active, (&outcome, served_at), Some(completed_at))?;
        let verdict = self.judge(&mut active, &outcome);
        if active.stage != Stage::Only {
            let sample = Sample {
                metric: part_metric(active.plan.kind, active.stage),
                due: active.due,
                invoked: active.stage_invoked,
                completed: completed_at,
                bytes: 0,
                error: verdict.as_ref().err(),
            };
            // Parts of an operation of the warm-up are as little measured as the whole.
            if active.invoked >= self.from {
                self.recorder.latency(&sample);
            }
        }
        match verdict {
            Ok(Some(value)) if active.stage == Stage::ReadPart => {
                self.note_put(&mut active, &value);
                active.stage = Stage::PutPart;
                active.stage_invoked = self.target.now();
                let key = active.plan.key.clone();
                self.sessions[client].active = Some(active);
                self.target.submit(client, TargetOp::Put { key, value });
            }
            Ok(_) => self.finish(client, &active, completed_at, None),
            Err(kind) => self.finish(client, &active, completed_at, Some(&kind)),
        }
        Ok(())
    }

    /// Was the answer good? For the read before a put, what to put.
    fn judge(
        &mut self,
        active: &mut Active,
        outcome: &TargetOutcome,
    ) -> Result<Option<Bytes>, Cow<'static, str>> {
        match outcome {
            TargetOutcome::Timeout => Err(Cow::Borrowed("timeout")),
            TargetOutcome::Error { kind, .. } => Err(kind.clone()),
            TargetOutcome::Value { value: None, .. } => Err(Cow::Borrowed("not-found")),
            TargetOutcome::Done { .. } => Ok(None),
            TargetOutcome::Rows { value_bytes, .. } => {
                active.bytes += value_bytes;
                Ok(None)
            }
            TargetOutcome::Value { value: Some(value), .. } => {
                let malformed = |_| Cow::Borrowed("malformed-record");
                let Plan { key, field, .. } = &active.plan;
                active.bytes += value.len() as u64;
                if !self.records.is_intact(key, value) {
                    return Err(Cow::Borrowed("integrity"));
                }
                if active.stage == Stage::ReadPart && self.workload.write_all_fields {
                    return Ok(Some(self.records.whole(key)));
                }
                if active.stage == Stage::ReadPart {
                    return self
                        .records
                        .replace_field(key, value, *field)
                        .map_err(malformed)
                        .map(Some);
                }
                self.records.field(value, *field).map_err(malformed).map(|_| None)
            }
        }
    }

    fn finish(
        &mut self,
        client: usize,
        active: &Active,
        completed: Instant,
        error: Option<&Cow<'static, str>>,
    ) {
        if active.plan.kind == Kind::Insert {
            self.planner.acknowledge_insert(active.plan.number);
        }
        self.recorder.operation(&Sample {
            metric: metric(active.plan.kind),
            due: active.due,
            invoked: active.invoked,
            completed,
            bytes: active.bytes,
            error,
        });
        self.last_completion = self.last_completion.max(completed);
        self.sessions[client].free_since = completed;
        if self.idle.is_empty() {
            self.idle_from = completed;
        }
        self.idle.push(client);
    }

    /// What is still outstanding counts as lost.
    fn give_up(&mut self, now: Instant) -> Result<(), BenchError> {
        // The wait for the lost ones is no part of the window.
        let last_completion = self.last_completion;
        for client in 0..self.sessions.len() {
            if let Some(active) = self.sessions[client].active.take() {
                self.write_history(client, &active, (&TargetOutcome::Timeout, None), None)?;
                self.finish(client, &active, now, Some(&Cow::Borrowed("lost")));
            }
        }
        self.last_completion = last_completion;
        Ok(())
    }

    fn write_history(
        &mut self,
        client: usize,
        active: &Active,
        (outcome, served_at): (&TargetOutcome, Option<u64>),
        completed: Option<Instant>,
    ) -> Result<(), HistoryError> {
        let Some(history) = self.history.as_mut() else { return Ok(()) };
        let call = Call {
            client,
            op: active.op,
            key: &active.plan.key,
            written_digest: active.written_digest.as_ref(),
            invoked: active.stage_invoked,
            completed,
        };
        history.record_call(&call, outcome, served_at)
    }
}

/// The schedule to begin with, and the one that follows it at the window's start.
fn schedules(
    config: &PhaseConfig,
    load: Option<&OfferedLoad>,
    workload: &Workload,
    (origin, from): (Instant, Instant),
    rng: &mut Rng,
) -> [Option<Schedule>; 2] {
    let Some(load) = load else { return [None, None] };
    let mut schedule = |origin, load: &OfferedLoad| {
        Some(Schedule::new(origin, load, config.window(), workload.arrivals, rng.fork()))
    };
    let measured = schedule(from, load);
    if from == origin {
        return [measured, None];
    }
    [schedule(origin, &OfferedLoad::Constant(load.warmup_rate())), measured]
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Load and run draw different sequences from one seed.
const PHASE_SALT: [u64; 2] = [0x6c6f_6164, 0x7275_6e00];

#[path = "engine_end.rs"]
mod ending;
#[path = "engine_report.rs"]
mod reporting;

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
