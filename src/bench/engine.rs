//! The loop: sessions with one outstanding operation each, on one thread over a [`Target`].
//!
//! Closed by default: a session starts its next operation when the last one ends. With a target
//! rate operations are due on a schedule that never skips and never forgets: one that no session
//! is free for waits, and its latency is given from when it was due as well. Invariant: each
//! session has at most one operation at the target; a phase ends with none or says so as errors.

use super::arrivals::Schedule;
use super::choices::UpdateMode;
use super::cpu_time::CpuTime;
use super::history::{History, HistoryError};
use super::measure::{Metric, Recorder, Sample};
use super::plan::{Kind, Phase, Plan, Planner};
use super::record::Records;
use super::report::PhaseReport;
use super::target::{Target, TargetCompletion, TargetError, TargetOp, TargetOutcome};
use super::workload::Workload;
use crate::history::{Line, LineOp, LineOutcome};
use crate::rng::Rng;
use crate::types::{Bytes, Digest};
use std::borrow::Cow;
use std::time::{Duration, Instant};
use thiserror::Error;

/// A phase that could not be finished.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The store is gone.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The history cannot be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A run without an end.
    #[error(
        "the run has no end: set operationcount in the workload, or --operations or --duration"
    )]
    Endless,
}

/// How to run a phase.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseConfig {
    /// Sessions.
    pub clients: usize,
    /// Seed of all randomness of the phase.
    pub seed: u64,
    /// Run before anything is measured; the load phase has none.
    pub warmup: Duration,
    /// Operations to start after warm-up; the load phase inserts all its records.
    pub operations: Option<u64>,
    /// Length of the measured window; whichever of the two ends first.
    pub duration: Option<Duration>,
    /// Operations per second; None for as fast as they complete. The load phase ignores it.
    pub rate: Option<f64>,
    /// How long to wait at the end for what is outstanding before it counts as lost.
    pub drain_limit: Duration,
    /// Length of a point of the time series.
    pub series_interval: Duration,
}

impl Default for PhaseConfig {
    fn default() -> Self {
        Self {
            clients: 1,
            seed: 1,
            warmup: Duration::ZERO,
            operations: None,
            duration: None,
            rate: None,
            drain_limit: Duration::from_secs(60),
            series_interval: Duration::from_secs(1),
        }
    }
}

/// How far a phase is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Which.
    pub phase: Phase,
    /// Since its start, warm-up included.
    pub elapsed: Duration,
    /// Completed well so far, without warm-up.
    pub operations: u64,
    /// Failed so far.
    pub failures: u64,
}

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
    if phase == Phase::Run && config.operations.is_none() && config.duration.is_none() {
        return Err(BenchError::Endless);
    }
    Engine::new(target, workload, phase, config, history).run(progress)
}

/// Which request of an operation is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The only one.
    Only,
    /// The read before a put.
    ReadPart,
    /// The put after a read.
    PutPart,
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
    recorder: Recorder,
    sessions: Vec<Session>,
    idle: Vec<usize>,
    origin: Instant,
    from: Instant,
    until: Option<Instant>,
    /// Operations that may still start inside the window.
    quota: u64,
    is_exhausted: bool,
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
        let until = config.duration.filter(|_| is_run).map(|duration| from + duration);
        let rate = config.rate.filter(|rate| is_run && *rate > 0.0);
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
            arrivals: rate.map(|rate| Schedule::new(origin, rate, workload.arrivals, rng.fork())),
            recorder: Recorder::new(from, until, config.series_interval, rate.is_some()),
            sessions: (0..clients).map(session).collect(),
            idle: (0..clients).rev().collect(),
            origin,
            from,
            until,
            quota: config.operations.filter(|_| is_run).unwrap_or(u64::MAX),
            is_exhausted: false,
            last_completion: from,
        }
    }

    fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Result<PhaseReport, BenchError> {
        let mut completions = Vec::with_capacity(self.sessions.len());
        let mut next_progress = self.origin + PROGRESS_INTERVAL;
        let mut cpu_from = (self.from == self.origin).then(CpuTime::now);
        let mut drain_until = None;
        loop {
            let now = self.target.now();
            if cpu_from.is_none() && now >= self.from {
                cpu_from = Some(CpuTime::now());
            }
            if now >= next_progress {
                next_progress = now + PROGRESS_INTERVAL;
                progress(self.progress(now));
            }
            let next_due = self.start_idle();
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
        let cpu = cpu_from.unwrap_or_else(CpuTime::now).elapsed();
        if let Some(history) = self.history.as_mut() {
            history.flush()?;
        }
        progress(self.progress(self.target.now()));
        Ok(self.report(cpu))
    }

    /// Starts operations in idle sessions; gives the time when the next one is due.
    fn start_idle(&mut self) -> Option<Instant> {
        // Noticed even while no session is free: the drain must have an end.
        let is_over = self.until.is_some_and(|until| self.target.now() >= until);
        self.is_exhausted |= is_over || self.quota == 0 || self.planner.is_exhausted();
        while let Some(client) = self.idle.last().copied() {
            if self.is_exhausted {
                return None;
            }
            let now = self.target.now();
            let due = match &self.arrivals {
                Some(schedule) if schedule.next_due() > now => return Some(schedule.next_due()),
                Some(schedule) => schedule.next_due(),
                None => now,
            };
            if !self.start(client, now, due) {
                return None;
            }
            self.idle.pop();
        }
        None
    }

    /// Starts the next operation in `client`; false, and exhausted, when there is none.
    fn start(&mut self, client: usize, now: Instant, due: Instant) -> bool {
        let is_over = self.quota == 0 || self.until.is_some_and(|until| now >= until);
        let plan = if is_over { None } else { self.planner.next() };
        let Some(plan) = plan else {
            self.is_exhausted = true;
            return false;
        };
        if let Some(schedule) = &mut self.arrivals {
            schedule.advance();
        }
        if now >= self.from {
            self.quota -= 1;
            let free_since = self.sessions[client].free_since.max(self.from);
            let ready = if self.arrivals.is_some() { due.max(free_since) } else { free_since };
            self.recorder.lag(now.saturating_duration_since(ready));
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
        let (ended, version, read_digest) = match outcome {
            TargetOutcome::Value { value, version } => {
                (LineOutcome::Ok, *version, value.as_ref().map(|value| digest_text(value)))
            }
            TargetOutcome::Done { version } => (LineOutcome::Ok, *version, None),
            TargetOutcome::Rows { .. } => (LineOutcome::Ok, None, None),
            TargetOutcome::Error { is_ambiguous: false, .. } => (LineOutcome::Fail, None, None),
            TargetOutcome::Error { is_ambiguous: true, .. } | TargetOutcome::Timeout => {
                (LineOutcome::Unknown, None, None)
            }
        };
        let line = Line {
            client: client as u64,
            op: active.op,
            key: String::from_utf8_lossy(&active.plan.key).into_owned(),
            value_digest: active.written_digest.clone().or(read_digest),
            version,
            expected: None,
            slot: served_at.filter(|_| ended == LineOutcome::Ok),
            mode: history.read_mode,
            invoke_ns: history.nanos(active.stage_invoked),
            return_ns: completed
                .filter(|_| ended != LineOutcome::Unknown)
                .map(|at| history.nanos(at)),
            outcome: ended,
        };
        history.record(&line)
    }

    fn progress(&self, now: Instant) -> Progress {
        Progress {
            phase: self.phase,
            elapsed: now.saturating_duration_since(self.origin),
            operations: self.recorder.operations,
            failures: self.recorder.failures,
        }
    }

    fn report(mut self, (thread_cpu, process_cpu): (Option<f64>, Option<f64>)) -> PhaseReport {
        let end = self.until.map_or(self.last_completion, |until| until.min(self.last_completion));
        // A window that ran out of operations ends with them, one that ran out of time on time.
        let end = match self.until {
            Some(until) if self.quota > 0 => until,
            Some(_) | None => end,
        };
        let wall = end.saturating_duration_since(self.from);
        let per_second = |count: u64| count as f64 / wall.as_secs_f64().max(1e-9);
        let operations = self.recorder.operations;
        PhaseReport {
            phase: self.phase,
            wall_seconds: wall.as_secs_f64(),
            warmup_seconds: self.from.saturating_duration_since(self.origin).as_secs_f64(),
            operations,
            failures: self.recorder.failures,
            throughput: per_second(operations),
            bytes_per_second: per_second(self.recorder.bytes),
            target_rate: self.arrivals.as_ref().map(|schedule| schedule.rate),
            metrics: self.recorder.metric_reports(),
            errors: self.recorder.error_counts(),
            lag: self.recorder.lag_summary(),
            thread_cpu_seconds: thread_cpu,
            process_cpu_seconds: process_cpu,
            cpu_us_per_operation: thread_cpu
                .filter(|_| operations > 0)
                .map(|seconds| seconds * 1e6 / operations as f64),
            series_interval_seconds: self.config.series_interval.as_secs_f64(),
            series: self.recorder.take_series(wall),
        }
    }
}

fn metric(kind: Kind) -> Metric {
    match kind {
        Kind::Read => Metric::Read,
        Kind::Update => Metric::Update,
        Kind::Insert => Metric::Insert,
        Kind::Scan => Metric::Scan,
        Kind::ReadModifyWrite => Metric::ReadModifyWrite,
    }
}

fn part_metric(kind: Kind, stage: Stage) -> Metric {
    match (kind, stage) {
        (Kind::ReadModifyWrite, Stage::ReadPart) => Metric::ReadModifyWriteRead,
        (Kind::ReadModifyWrite, Stage::PutPart) => Metric::ReadModifyWritePut,
        (Kind::Update, Stage::ReadPart) => Metric::UpdateRead,
        (Kind::Update, Stage::PutPart) => Metric::UpdatePut,
        (_, Stage::Only) | (Kind::Read | Kind::Insert | Kind::Scan, _) => metric(kind),
    }
}

fn digest_text(value: &[u8]) -> String {
    format!("{:032x}", Digest::of(value).0)
}

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Load and run draw different sequences from one seed.
const PHASE_SALT: [u64; 2] = [0x6c6f_6164, 0x7275_6e00];

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
