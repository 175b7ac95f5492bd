//! Processes: what this one, or another, has used (from Linux's `/proc`), and how others are started.

use std::path::{Path, PathBuf};
use std::process::Command;

/// CPU and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// CPU seconds, user and system.
    pub cpu_seconds: f64,
    /// Peak resident set.
    pub peak_rss_bytes: u64,
    /// Resident set now.
    pub rss_bytes: u64,
}

/// Usage of process `pid` (None: this one); zeros for what the system does not say.
#[must_use]
pub fn usage(pid: Option<u32>) -> ProcessUsage {
    let name = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let read = |file: &str| {
        std::fs::read_to_string(PathBuf::from("/proc").join(&name).join(file)).unwrap_or_default()
    };
    let status = read("status");
    let kib = |key: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0) * 1024
    };
    ProcessUsage {
        cpu_seconds: cpu_seconds(&read("stat")).unwrap_or(0.0),
        peak_rss_bytes: kib("VmHWM"),
        rss_bytes: kib("VmRSS"),
    }
}

/// A command that runs `program` at a niceness of 0 to 19, by POSIX's `nice`: it and all its threads
/// from the beginning. The process id is that of the program.
#[must_use]
pub fn command(program: &Path, nice: u8) -> Command {
    if nice == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("nice");
    command.arg("-n").arg(nice.to_string()).arg(program);
    command
}

/// User and system time in a `/proc/PID/stat`, in seconds.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The command's name in parentheses may hold blanks: fields count from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// A number that no other process of this machine is likely to have drawn.
#[must_use]
pub fn random_u64() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    if let Ok(since) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        hasher.write_u128(since.as_nanos());
    }
    hasher.finish().max(1)
}

/// What Linux shows its user space on every architecture this builds for.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = usage(None);
        assert!(usage.peak_rss_bytes >= usage.rss_bytes && usage.rss_bytes > 0);
        assert_eq!(cpu_seconds("7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0"), Some(2.0));
        assert_ne!(random_u64(), random_u64());
    }

    #[test]
    fn a_command_is_as_nice_as_asked_for() {
        // Without arguments it prints its own niceness.
        let niceness = |nice: u8| {
            let output = command(Path::new("nice"), nice).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<i32>().unwrap()
        };
        assert_eq!(niceness(5), (niceness(0) + 5).min(19));
    }
}
