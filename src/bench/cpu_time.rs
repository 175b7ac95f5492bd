//! CPU time as Linux's `/proc` gives it; absent elsewhere.

/// CPU seconds used so far, by this thread and by this process, where the system says so.
#[derive(Clone, Copy)]
pub(super) struct CpuTime {
    thread: Option<f64>,
    process: Option<f64>,
}

impl CpuTime {
    pub fn now() -> Self {
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let nanos =
            schedstat.as_deref().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        Self { thread: nanos.map(|nanos| nanos / 1e9), process: stat.and_then(process_seconds) }
    }

    /// Thread and process seconds since `self`.
    pub fn elapsed(self) -> (Option<f64>, Option<f64>) {
        let now = Self::now();
        let since = |to: Option<f64>, from: Option<f64>| Some(to? - from?);
        (since(now.thread, self.thread), since(now.process, self.process))
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
