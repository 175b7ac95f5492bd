//! Was the generator the bottleneck? Then what it measured is about itself, and the run says so.

use super::report::LatencySummary;

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

/// Why a run is invalid; empty when it is not. `latency` is from sending, of all whole operations.
pub(super) fn reasons(
    lag: &LatencySummary,
    latency: &LatencySummary,
    effort: &Effort,
    is_open: bool,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let bound_us = LAG_BOUND_US.max(latency.p50_us / 10.0);
    if lag.p99_us > bound_us {
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

/// How late it may start operations (p99), when a tenth of the median latency is less.
const LAG_BOUND_US: f64 = 1000.0;
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
        let calm = effort(1.0, 0.1);
        for (p50, lag, is_valid) in
            [(100.0, 999.0, true), (100.0, 1001.0, false), (50_000.0, 4999.0, true)]
        {
            let reasons = reasons(&summary(0.0, lag), &summary(p50, 0.0), &calm, true);
            assert_eq!(reasons.is_empty(), is_valid, "{reasons:?}");
        }
    }

    #[test]
    fn a_thread_that_never_rests_is_the_bottleneck() {
        let reasons =
            |cpu, wait| reasons(&summary(0.0, 1.0), &summary(1.0, 1.0), &effort(cpu, wait), false);
        assert!(reasons(9.0, 0.1).is_empty());
        assert!(reasons(9.8, 0.0)[0].contains("ran 98 %"));
        // Starved by others is no better.
        assert!(reasons(3.0, 6.9)[0].contains("waited for a core 69 %"));
    }
}
