//! Was the generator the bottleneck? Then what it measured is about itself, and the run says so.

use super::report::LatencySummary;
use std::time::Duration;

/// What the generator used between a window's start and the end of its phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effort {
    pub wall_seconds: f64,
    /// CPU of its thread, the client driver included.
    pub thread_cpu_seconds: Option<f64>,
    /// Its thread ready to run and not let: other processes had the cores.
    pub thread_wait_seconds: Option<f64>,
    /// CPU of its process.
    pub process_cpu_seconds: Option<f64>,
}

/// How late operations may be started, given latencies from sending of all whole operations.
pub(super) fn lag_bound(latency: &LatencySummary) -> Duration {
    Duration::from_secs_f64(LAG_BOUND_US.max(latency.p50_us / 10.0) / 1e6)
}

/// Are more of `count` than one in a hundred late, and not by chance? Of few operations the 99th
/// percentile is the latest one, and one is late now and then on any machine.
fn is_late(late_count: u64, count: u64) -> bool {
    let expected = count as f64 * LATE_SHARE;
    late_count as f64 > expected + CHANCE_DEVIATIONS * expected.sqrt()
}

/// Why a run is invalid; empty when it is not. `late_count` operations were started later than
/// [`lag_bound`].
pub(super) fn reasons(
    lag: &LatencySummary,
    late_count: u64,
    latency: &LatencySummary,
    effort: &Effort,
    is_open: bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if is_late(late_count, lag.count) {
        let bound_us = lag_bound(latency).as_secs_f64() * 1e6;
        reasons.push(format!(
            "the generator was late: p99 {:.0} us, more than {bound_us:.0} us",
            lag.p99_us
        ));
    }
    let (cpu, wait) =
        (effort.thread_cpu_seconds.unwrap_or(0.0), effort.thread_wait_seconds.unwrap_or(0.0));
    let share = (cpu + wait) / effort.wall_seconds.max(1e-9);
    if share > BUSY_SHARE_MAX && effort.wall_seconds >= JUDGED_SECONDS_MIN {
        let advice = if is_open { "offer less" } else { "use fewer clients" };
        reasons.push(format!(
            "the generator ran out of CPU: its thread ran {:.0} % of the time and waited for a \
             core {:.0} %; {advice}, or give it a core to itself",
            100.0 * cpu / effort.wall_seconds,
            100.0 * wait / effort.wall_seconds,
        ));
    }
    reasons
}

/// How late it may start operations, when a tenth of the median latency is less,
const LAG_BOUND_US: f64 = 1000.0;
/// but for this share,
const LATE_SHARE: f64 = 0.01;
/// and what chance adds to it, in standard deviations of that count.
const CHANCE_DEVIATIONS: f64 = 2.0;
/// Above it a queue builds up in front of the generator itself.
const BUSY_SHARE_MAX: f64 = 0.95;
/// Shorter runs say nothing about CPU: the system's own accounts are coarser.
const JUDGED_SECONDS_MIN: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(p50_us: f64, p99_us: f64) -> LatencySummary {
        LatencySummary { count: 100, p50_us, p99_us, ..LatencySummary::default() }
    }

    fn effort(cpu: f64, wait: f64) -> Effort {
        Effort {
            wall_seconds: 10.0,
            thread_cpu_seconds: Some(cpu),
            thread_wait_seconds: Some(wait),
            process_cpu_seconds: None,
        }
    }

    #[test]
    fn lag_is_bounded_by_a_millisecond_or_a_tenth_of_the_median() {
        let bound = |p50_us: f64| lag_bound(&summary(p50_us, 0.0)).as_secs_f64() * 1e3;
        assert_eq!([bound(100.0), bound(50_000.0)], [1.0, 5.0]);
    }

    #[test]
    fn one_in_a_hundred_may_be_late_and_of_few_a_few() {
        let calm = effort(1.0, 0.1);
        let most = |count: u64| {
            let lag = LatencySummary { count, ..summary(0.0, 1500.0) };
            let said = |late| reasons(&lag, late, &summary(100.0, 0.0), &calm, true);
            let most = (0..=count).take_while(|late| said(*late).is_empty()).count() - 1;
            let late = said(most as u64 + 1);
            assert_eq!(late, ["the generator was late: p99 1500 us, more than 1000 us"]);
            most
        };
        assert_eq!([most(60), most(360), most(10_000), most(1_000_000)], [2, 7, 120, 10_200]);
    }

    #[test]
    fn a_thread_that_never_rests_is_the_bottleneck() {
        let reasons = |cpu, wait| {
            reasons(&summary(0.0, 1.0), 0, &summary(1.0, 1.0), &effort(cpu, wait), false)
        };
        assert!(reasons(9.0, 0.1).is_empty());
        assert!(reasons(9.8, 0.0)[0].contains("ran 98 %"));
        // Starved by others is no better.
        assert!(reasons(3.0, 6.9)[0].contains("waited for a core 69 %"));
    }
}
