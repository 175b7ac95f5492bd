//! Warming up until the store is steady, by a test that is stated and kept with the result.
//!
//! The load runs in windows of one second. It is steady when in the last five of them the throughput
//! stays within 5 % of its mean (or within three deviations of a count that small, whichever is
//! more), and neither throughput nor mean latency has a trend by Mann and Kendall's test: of the ten
//! pairs of windows, at least two go against the rest (|S| < 8, p = 0.083 for five windows). Windows
//! are phases of their own: between two of them what is outstanding ends.

use super::engine::run_phase;
use super::phase::{BenchError, PhaseConfig, Progress};
use super::plan::Phase;
use super::target::Target;
use super::workload::Workload;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a warm-up until steady went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WarmupReport {
    /// Was it steady before its limit?
    pub is_steady: bool,
    /// How long it took.
    pub seconds: f64,
    /// Operations per second of each window.
    pub throughput: Vec<f64>,
    /// Mean latency of each window, from sending.
    pub mean_us: Vec<f64>,
    /// What to make of it.
    pub note: String,
}

/// Runs the load of `config` until it is steady, or for `limit` (at least five windows).
///
/// # Errors
/// As [`run_phase`].
pub fn warm_up_until_steady(
    target: &mut dyn Target,
    workload: &Workload,
    config: &PhaseConfig,
    limit: Duration,
    progress: &mut dyn FnMut(Progress),
) -> Result<WarmupReport, BenchError> {
    let windows_max = usize::try_from(limit.as_secs()).unwrap_or(usize::MAX).max(WINDOWS);
    let (mut throughput, mut mean_us) = (Vec::new(), Vec::new());
    let mut is_steady = false;
    // A ramp's or a trace's own course begins with the measured time.
    let offered = config.offered.as_ref();
    let offered = offered.map(|load| super::OfferedLoad::Constant(load.warmup_rate()));
    while !is_steady && throughput.len() < windows_max {
        let window = PhaseConfig {
            seed: config.seed ^ !(throughput.len() as u64),
            warmup: Duration::ZERO,
            operations: None,
            duration: Some(WINDOW),
            offered: offered.clone(),
            ..config.clone()
        };
        let report = run_phase(target, workload, Phase::Run, &window, None, progress)?;
        let good = report.metrics.iter().filter(|metric| !metric.metric.is_part());
        let (count, sum) =
            good.filter_map(|metric| metric.latency.as_ref()).fold((0, 0.0), |(count, sum), of| {
                (count + of.count, sum + of.mean_us * of.count as f64)
            });
        throughput.push(report.throughput);
        mean_us.push(sum / (count as f64).max(1.0));
        is_steady = is_steady_by(&throughput, &mean_us);
    }
    let seconds = throughput.len() as f64 * WINDOW.as_secs_f64();
    let note = if is_steady {
        format!("steady after {seconds} s")
    } else {
        format!("NOT steady within {seconds} s: the measured time may still be warming up")
    };
    Ok(WarmupReport { is_steady, seconds, throughput, mean_us, note })
}

/// Are the last windows steady?
fn is_steady_by(throughput: &[f64], mean_us: &[f64]) -> bool {
    let Some(first) = throughput.len().checked_sub(WINDOWS) else { return false };
    let last = &throughput[first..];
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    let bound = (BAND * mean).max(3.0 * mean.sqrt());
    mean > 0.0
        && last.iter().all(|each| (each - mean).abs() <= bound)
        && mann_kendall(last).abs() < TREND
        && mann_kendall(&mean_us[first..]).abs() < TREND
}

/// Pairs that rise less pairs that fall.
fn mann_kendall(series: &[f64]) -> i32 {
    let mut sum = 0;
    for (index, earlier) in series.iter().enumerate() {
        for later in &series[index + 1..] {
            sum += i32::from(later > earlier) - i32::from(later < earlier);
        }
    }
    sum
}

const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: usize = 5;
const BAND: f64 = 0.05;
/// Of the ten pairs of five windows.
const TREND: i32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{MemoryTarget, OfferedLoad, Properties};

    #[test]
    fn trends_and_swings_are_not_steady() {
        let flat = [100.0, 101.0, 99.0, 102.0, 100.0];
        assert!(is_steady_by(
            &[9e4, 1e5, 101e3, 99e3, 102e3, 1e5],
            &[1.0, 2.0, 3.0, 2.0, 1.0, 2.0]
        ));
        // Too few, too far apart, rising all the time, latency falling all the time.
        assert!(!is_steady_by(&[1e5; 4], &[1.0; 4]));
        assert!(!is_steady_by(&[1e5, 1e5, 8e4, 1e5, 1e5], &flat));
        assert!(!is_steady_by(&[1e5, 100_100.0, 100_200.0, 100_300.0, 100_400.0], &flat));
        assert!(!is_steady_by(&[1e5; 5], &[5.0, 4.0, 3.0, 2.0, 1.0]));
        // Counts of a hundred differ by their own chance.
        assert!(is_steady_by(&[100.0, 90.0, 112.0, 95.0, 104.0], &flat));
        assert!(!is_steady_by(&[0.0; 5], &flat));
        assert_eq!(mann_kendall(&[1.0, 2.0, 3.0, 4.0, 5.0]), 10);
        assert_eq!(mann_kendall(&[1.0, 3.0, 2.0, 2.0]), 1);
    }

    #[test]
    fn an_offered_rate_that_is_met_is_steady_and_the_limit_holds() {
        let properties = Properties::parse("w", "recordcount=10").unwrap();
        let (workload, _) = Workload::from_properties(&properties).unwrap();
        let mut target = MemoryTarget::new();
        let config = PhaseConfig {
            clients: 4,
            operations: Some(10),
            offered: Some(OfferedLoad::Constant(2000.0)),
            ..PhaseConfig::default()
        };
        run_phase(&mut target, &workload, Phase::Load, &config, None, &mut |_| {}).unwrap();
        let limit = Duration::from_secs(5);
        let report =
            warm_up_until_steady(&mut target, &workload, &config, limit, &mut |_| {}).unwrap();
        assert_eq!((report.throughput.len(), report.seconds), (5, 5.0));
        assert!(report.throughput.iter().all(|each| (500.0..=2500.0).contains(each)));
        assert_eq!(report.is_steady, report.note.starts_with("steady"));
    }
}
