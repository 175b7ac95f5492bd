//! What things cost on this machine, for trials in virtual time.
//!
//! Disk and wake-ups are measured by themselves. The CPU of nodes is fitted to real trials: least
//! squares without negative costs over turns, datagrams, bytes and syncs, each trial and node a row
//! weighted by its own size. Then the same trials are run in virtual time, and the error is part of
//! the result: nothing is tuned until it fits.

use super::trial::{CancelFlag, Trial, TrialConfig, TrialError, TrialLauncher, TrialTarget};
use super::{TrialOutcome, provenance};
use crate::report::quantity;
use crate::report::result::{NodeResources, PhaseResult, Provenance};
use crate::sim::timed::Costs;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// What `experiments/calibration.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The costs.
    pub costs: Costs,
    /// The machine that they are of.
    pub machine: Provenance,
    /// The trials that they were fitted to, and what the simulation makes of them.
    pub points: Vec<CalibrationPoint>,
}

/// One trial, real and simulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationPoint {
    /// Its parameters.
    pub config: TrialConfig,
    /// Operations per second of the real one.
    pub measured_ops_per_s: f64,
    /// Of the simulated one.
    pub simulated_ops_per_s: f64,
    /// Median put latency of the real one, ms.
    pub measured_p50_ms: f64,
    /// Of the simulated one.
    pub simulated_p50_ms: f64,
}

/// A calibration that came to nothing.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// A file, or a socket.
    #[error("calibration: {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A trial.
    #[error("calibration: {0}")]
    Trial(#[from] TrialError),
    /// A trial that does not count.
    #[error("calibration: a trial of {config} is invalid: {reason}; run it on a quiet machine")]
    Invalid {
        /// Which.
        config: String,
        /// Why.
        reason: String,
    },
    /// Not a calibration file.
    #[error("{file}: {reason}; make it anew with 'distkv calibrate'")]
    Format {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
}

impl Calibration {
    /// The one that comes with the program.
    #[must_use]
    pub fn built_in() -> Option<Self> {
        serde_json::from_str(include_str!("../../experiments/calibration.json")).ok()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`CalibrationError::Io`] or [`CalibrationError::Format`].
    pub fn read(file: &Path) -> Result<Self, CalibrationError> {
        let text = std::fs::read_to_string(file).map_err(io(&file.display().to_string()))?;
        let format = |reason| CalibrationError::Format { file: file.to_owned(), reason };
        let read: Self = serde_json::from_str(&text).map_err(|error| format(error.to_string()))?;
        read.costs.validate().map_err(format)?;
        Ok(read)
    }

    /// The greatest and the median error of simulated throughput, as a share of the measured one.
    #[must_use]
    pub fn throughput_errors(&self) -> (f64, f64) {
        let error = |point: &CalibrationPoint| {
            (point.simulated_ops_per_s / point.measured_ops_per_s - 1.0).abs()
        };
        let mut errors: Vec<f64> = self.points.iter().map(error).collect();
        errors.sort_by(f64::total_cmp);
        let median = errors.get(errors.len() / 2).copied().unwrap_or(0.0);
        (errors.last().copied().unwrap_or(0.0), median)
    }
}

/// The trials that costs are fitted to: small and large values, few and many clients, each way of
/// coding.
#[must_use]
pub fn trials(duration: Duration) -> Vec<TrialConfig> {
    let mut all = Vec::new();
    for value_bytes in [512, 8192, 65_536, 524_288] {
        for clients in [1, 8, 32] {
            for (policy, code) in [("replicate", "1+4"), ("craft", "3+2")] {
                all.push(TrialConfig {
                    policy: policy.to_owned(),
                    code: code.to_owned(),
                    value_bytes,
                    clients,
                    records: 32,
                    warmup_ms: 300,
                    duration_ms: u64::try_from(duration.as_millis()).unwrap_or(1000),
                    seed: 7,
                    ..TrialConfig::default()
                });
            }
        }
    }
    all
}

/// Measures this machine: disk and wake-ups under `dir`, CPU by real trials through `launcher`, then
/// the same trials in virtual time. `progress` is told of each step.
///
/// # Errors
/// [`CalibrationError`]; nothing of `dir` is left behind.
pub fn calibrate(
    launcher: &mut dyn TrialLauncher,
    dir: &Path,
    trials: &[TrialConfig],
    cancel: &CancelFlag,
    progress: &mut dyn FnMut(&str),
) -> Result<Calibration, CalibrationError> {
    let (sync_us, sync_byte_ns, sync_parallel) = measure_disk(dir)?;
    let wake_us = measure_wake()?;
    progress(&format!(
        "disk: {sync_us:.0} us a sync, {sync_byte_ns:.2} ns a byte, {sync_parallel} at once; \
         a wake-up takes {wake_us:.0} us"
    ));
    let mut measured = Vec::new();
    for (index, config) in trials.iter().enumerate() {
        let run = run_one(launcher, config, &dir.join(format!("trial-{index}")), cancel)?;
        progress(&describe(index, trials.len(), config, &run, "real"));
        measured.push((config.clone(), run));
    }
    let mut costs = fit(&measured);
    (costs.sync_us, costs.sync_byte_ns) = (sync_us, sync_byte_ns);
    (costs.sync_parallel, costs.wake_us) = (sync_parallel, wake_us);
    let mut points = Vec::new();
    for (index, (config, real)) in measured.into_iter().enumerate() {
        let wanted = TrialConfig { target: TrialTarget::Sim, costs: Some(costs), ..config.clone() };
        let run = run_one(launcher, &wanted, &dir.join("simulated"), cancel)?;
        progress(&describe(index, trials.len(), &config, &run, "simulated"));
        points.push(CalibrationPoint {
            config,
            measured_ops_per_s: real.throughput_ops_per_s,
            simulated_ops_per_s: run.throughput_ops_per_s,
            measured_p50_ms: p50_ms(&real),
            simulated_p50_ms: p50_ms(&run),
        });
    }
    let machine = Provenance { started_at: provenance::now_rfc3339(), ..provenance::collect(dir) };
    Ok(Calibration { costs, machine, points })
}

fn describe(
    index: usize,
    count: usize,
    config: &TrialConfig,
    run: &PhaseResult,
    kind: &str,
) -> String {
    let TrialConfig { policy, value_bytes, clients, .. } = config;
    let (rate, p50) = (run.throughput_ops_per_s, p50_ms(run));
    let number = index + 1;
    format!(
        "[{number}/{count}] {kind}: {policy} {value_bytes} B, {clients} clients: {rate:.0} op/s, \
         p50 {p50:.2} ms"
    )
}

fn p50_ms(run: &PhaseResult) -> f64 {
    run.latency.get(quantity::PUT).map_or(0.0, |put| put.p50_us as f64 / 1e3)
}

fn run_one(
    launcher: &mut dyn TrialLauncher,
    config: &TrialConfig,
    dir: &Path,
    cancel: &CancelFlag,
) -> Result<PhaseResult, CalibrationError> {
    let make = || {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)
    };
    make().map_err(io(&dir.display().to_string()))?;
    let TrialOutcome { phases, invalid, .. } = launcher.run(config, dir, cancel)?;
    std::fs::remove_dir_all(dir).map_err(io(&dir.display().to_string()))?;
    let config = Trial { experiment: String::new(), repeat: 0, config: config.clone() }.id();
    let run = phases.into_iter().find(|phase| phase.name == "run");
    match (run, invalid.into_iter().next()) {
        (Some(run), None) => Ok(run),
        (_, Some(reason)) => Err(CalibrationError::Invalid { config, reason }),
        (None, None) => {
            Err(CalibrationError::Invalid { config, reason: "it has no run phase".to_owned() })
        }
    }
}

/// Costs of CPU that explain what the nodes and the generator used.
fn fit(measured: &[(TrialConfig, PhaseResult)]) -> Costs {
    let is_node = |of: &&NodeResources| of.role == quantity::NODE;
    let rows = measured.iter().flat_map(|(_, run)| run.nodes.iter().filter(is_node));
    let rows: Vec<([f64; 5], f64)> = rows
        .map(|node| {
            let parts = [
                node.turns as f64,
                node.datagrams_sent as f64,
                (node.bytes_sent + node.bytes_received) as f64 / 1e3,
                node.bytes_written as f64 / 1e3,
                node.syncs as f64,
            ];
            (parts, node.cpu_seconds * 1e6)
        })
        .collect();
    let [turn_us, datagram_us, network_byte_ns, disk_byte_ns, sync_cpu_us] = least_squares(&rows);
    let generator = measured.iter().filter_map(|(config, run)| {
        let each = run.numbers.get(quantity::GENERATOR_CPU_US_PER_OP)?;
        Some(([1.0, config.value_bytes as f64 / 1e3], *each))
    });
    let generator: Vec<([f64; 2], f64)> = generator.collect();
    let [operation_us, operation_byte_ns] = least_squares(&generator);
    Costs {
        turn_us,
        datagram_us,
        network_byte_ns,
        disk_byte_ns,
        sync_cpu_us,
        operation_us,
        operation_byte_ns,
        ..Costs::default()
    }
}

/// Least squares of the relative error, no coefficient below zero: by cyclic coordinate descent,
/// which finds the only minimum of a convex function over an orthant.
fn least_squares<const N: usize>(rows: &[([f64; N], f64)]) -> [f64; N] {
    let mut found = [0.0; N];
    let rows: Vec<([f64; N], f64)> = rows
        .iter()
        .filter(|(_, y)| *y > 0.0)
        .map(|(parts, y)| (parts.map(|part| part / y), 1.0))
        .collect();
    for _ in 0..ROUNDS {
        for place in 0..N {
            let (mut above, mut below) = (0.0, 0.0);
            for (parts, y) in &rows {
                let others: f64 = (0..N)
                    .filter(|other| *other != place)
                    .map(|other| parts[other] * found[other])
                    .sum();
                above += parts[place] * (y - others);
                below += parts[place] * parts[place];
            }
            found[place] = if below > 0.0 { (above / below).max(0.0) } else { 0.0 };
        }
    }
    found
}

/// A sync of little, per byte when several logs write at once, and how many go on at once.
fn measure_disk(dir: &Path) -> Result<(f64, f64, u32), CalibrationError> {
    let path = |number: usize| dir.join(format!("calibrate-{number}.tmp"));
    let failed = |source| io(&dir.display().to_string())(source);
    let small = median_sync_us(&path(0), SMALL_BYTES, 200).map_err(failed)?;
    // A round is one sync of each.
    let rounds = |bytes, count| -> Result<f64, CalibrationError> {
        let medians = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let path = path(number);
                    scope.spawn(move || median_sync_us(&path, bytes, count))
                })
                .collect();
            let ended = workers.into_iter().map(|worker| match worker.join() {
                Ok(run) => run,
                Err(_) => Err(std::io::Error::other("a thread that syncs ended by a panic")),
            });
            ended.collect::<std::io::Result<Vec<f64>>>()
        });
        Ok(medians.map_err(failed)?.iter().sum::<f64>() / AT_ONCE as f64)
    };
    let (small_round, large_round) = (rounds(SMALL_BYTES, 100)?, rounds(LARGE_BYTES, 40)?);
    let large_bytes = (AT_ONCE * (LARGE_BYTES - SMALL_BYTES)) as f64;
    let byte_ns = (large_round - small_round).max(0.0) * 1e3 / large_bytes;
    let parallel = (AT_ONCE as f64 * small / small_round).round().clamp(1.0, AT_ONCE as f64);
    for number in 0..AT_ONCE {
        std::fs::remove_file(path(number)).map_err(failed)?;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let parallel = parallel as u32;
    Ok((small, byte_ns, parallel))
}

/// Writes one after the other into a file that is long enough already, as a log does, and syncs each.
fn median_sync_us(path: &Path, bytes: usize, count: usize) -> std::io::Result<f64> {
    let contents = vec![0xA5; bytes];
    let mut file = File::create(path)?;
    for _ in 0..count {
        file.write_all(&vec![0; bytes])?;
    }
    file.sync_all()?;
    std::io::Seek::rewind(&mut file)?;
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        file.write_all(&contents)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[count / 2])
}

/// Half of a round trip between two threads that sleep until a datagram comes.
fn measure_wake() -> Result<f64, CalibrationError> {
    let socket = || UdpSocket::bind(("127.0.0.1", 0)).map_err(io("a socket on loopback"));
    let (near, far) = (socket()?, socket()?);
    let failed = io("a datagram on loopback");
    let round = || -> std::io::Result<f64> {
        for one in [&near, &far] {
            one.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        let (to, back) = (far.local_addr()?, near.local_addr()?);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 64];
                for _ in 0..ROUND_TRIPS {
                    if far.recv(&mut bytes).is_err() || far.send_to(&bytes, back).is_err() {
                        return;
                    }
                }
            });
            let mut bytes = [0; 64];
            let mut took = Vec::new();
            for _ in 0..ROUND_TRIPS {
                let began = Instant::now();
                near.send_to(&bytes, to)?;
                near.recv(&mut bytes)?;
                took.push(began.elapsed().as_secs_f64() * 1e6);
            }
            took.sort_by(f64::total_cmp);
            Ok(took[took.len() / 2] / 2.0)
        })
    };
    round().map_err(failed)
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> CalibrationError + use<> {
    let what = what.to_owned();
    move |source| CalibrationError::Io { what, source }
}

const ROUNDS: usize = 20_000;
const SMALL_BYTES: usize = 4096;
const LARGE_BYTES: usize = 1 << 20;
const AT_ONCE: usize = 5;
const ROUND_TRIPS: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_found_again_and_never_negative() {
        let mut rng = crate::rng::Rng::new(3);
        let costs = [3.0, 0.0, 0.5];
        let rows: Vec<([f64; 3], f64)> = (0..40)
            .map(|_| {
                let parts = [rng.unit() * 9.0, rng.unit() * 90.0, rng.unit() * 900.0];
                let sum = parts.iter().zip(costs).map(|(part, cost)| part * cost).sum();
                (parts, sum)
            })
            .collect();
        let found = least_squares(&rows);
        for (found, cost) in found.iter().zip(costs) {
            assert!((found - cost).abs() < 1e-3, "{found} is not {cost}");
        }
        // A part that would explain best with a negative cost gets none.
        let rows = [([1.0, 1.0], 1.0), ([1.0, 2.0], 0.5), ([1.0, 0.0], 1.5)];
        let [constant, falling] = least_squares(&rows);
        assert!(falling == 0.0 && constant > 0.0, "{constant} {falling}");
    }

    #[test]
    fn the_disk_and_the_wake_up_of_this_machine_are_measured() {
        let dir = tempfile::tempdir().unwrap();
        let (sync_us, byte_ns, parallel) = measure_disk(dir.path()).unwrap();
        assert!(sync_us > 0.0 && byte_ns >= 0.0 && (1..=5).contains(&parallel));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
        assert!(measure_wake().unwrap() > 0.0);
    }

    #[test]
    fn the_built_in_calibration_is_one() {
        let built_in = Calibration::built_in().expect("experiments/calibration.json is readable");
        built_in.costs.validate().unwrap();
        assert!(built_in.points.len() >= 10);
    }
}
