//! CPU time as Linux's `/proc` gives it; absent elsewhere.

use super::validity::Effort;
use std::time::Instant;

/// What this thread and this process have used so far, where the system says so.
#[derive(Clone, Copy)]
pub(super) struct CpuTime {
    at: Instant,
    thread: Option<f64>,
    /// Of the thread, ready to run and not let.
    wait: Option<f64>,
    process: Option<f64>,
}

impl CpuTime {
    pub fn now() -> Self {
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let nanos = |index: usize| {
            schedstat.as_deref().and_then(|text| text.split(' ').nth(index)?.parse::<f64>().ok())
        };
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        Self {
            at: Instant::now(),
            thread: nanos(0).map(|nanos| nanos / 1e9),
            wait: nanos(1).map(|nanos| nanos / 1e9),
            process: stat.and_then(process_seconds),
        }
    }

    /// What was used since `self`.
    pub fn elapsed(self) -> Effort {
        let now = Self::now();
        let since = |to: Option<f64>, from: Option<f64>| Some(to? - from?);
        Effort {
            wall_seconds: now.at.duration_since(self.at).as_secs_f64(),
            thread_cpu_seconds: since(now.thread, self.thread),
            thread_wait_seconds: since(now.wait, self.wait),
            process_cpu_seconds: since(now.process, self.process),
        }
    }
}

/// User and system time in a `/proc/<pid>/stat`, in seconds.
fn process_seconds(stat: String) -> Option<f64> {
    // The command's name in parentheses may hold blanks: fields count from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// What Linux shows its user space on every architecture this builds for.
const TICKS_PER_SECOND: f64 = 100.0;
