//! Where a number comes from: the commit, the machine and the time.
//!
//! What cannot be found out is `unknown`, never guessed. The commit is that of the checkout which the
//! program was built in, if what is there is still what it was built from.

use super::source;
use crate::report::result::Provenance;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const UNKNOWN: &str = "unknown";
/// What this program was built from: see [`source::digest`].
const SOURCE: Option<&str> = option_env!("DISTKV_SOURCE");
const LOCK: &str = include_str!("../../Cargo.lock");
const TIMED_CRATES: [&str; 5] =
    ["distkv", "reed-solomon-erasure", "reed-solomon-simd", "rusty_erasure", "crc-fast"];

/// Program and machine, with the disk that `data_dir` (which must exist) is on. Start time and
/// durability are the trial's: see [`now_rfc3339`].
#[must_use]
pub fn collect(data_dir: &Path) -> Provenance {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let (disk, file_system) = mount_of(data_dir);
    let (commit, dirty) = commit();
    Provenance {
        commit,
        dirty,
        source: SOURCE.map(str::to_owned),
        crate_versions: crate_versions(LOCK),
        rustc: option_env!("DISTKV_RUSTC").map(str::to_owned),
        store_version: None,
        cpu_model: model.map_or_else(|| UNKNOWN.to_owned(), |(_, name)| name.trim().to_owned()),
        cores: std::thread::available_parallelism()
            .map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(),
        kernel: read_line("/proc/sys/kernel/osrelease"),
        governor: read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        disk,
        file_system,
        durability: String::new(),
        shared_machine: true,
        simulated: false,
        started_at: String::new(),
    }
}

/// The time now in UTC, as `2026-01-31T12:00:00Z`.
#[must_use]
pub fn now_rfc3339() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    rfc3339(since)
}

/// Seconds since 1970 in UTC. Days to a civil date after Hinnant, `chrono`-compatible algorithms.
fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400 + 719_468, unix_seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Commit, and whether what was built is something else than it. Results, docs and tests may differ.
fn commit() -> (String, bool) {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_there =
        SOURCE.is_some_and(|built| source::digest(checkout).is_ok_and(|now| now == built));
    let head = git(&["rev-parse", "HEAD"]).filter(|_| is_there);
    let status = ["status", "--porcelain", "--"];
    let changed = git(&[&status[..], &source::PARTS[..]].concat());
    (head.unwrap_or_else(|| UNKNOWN.to_owned()), changed.is_none_or(|text| !text.is_empty()))
}

fn git(arguments: &[&str]) -> Option<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git").arg("-C").arg(source).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn crate_versions(lock: &str) -> BTreeMap<String, String> {
    let quoted = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim_matches(|c| c == ' ' || c == '=' || c == '"').to_owned())
    };
    let mut versions = BTreeMap::new();
    for block in lock.split("[[package]]") {
        let name = block.lines().find_map(|line| quoted(line, "name"));
        let version = block.lines().find_map(|line| quoted(line, "version"));
        if let (Some(name), Some(version)) = (name, version)
            && TIMED_CRATES.contains(&name.as_str())
        {
            versions.insert(name, version);
        }
    }
    versions
}

fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

/// Device and file system of the longest mount point above `dir`.
fn mount_of(dir: &Path) -> (String, String) {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut best = (0, (UNKNOWN.to_owned(), UNKNOWN.to_owned()));
    for line in mounts.lines() {
        let mut words = line.split_whitespace();
        if let (Some(device), Some(point), Some(kind)) = (words.next(), words.next(), words.next())
            && dir.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), (device.to_owned(), kind.to_owned()));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_civil() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn a_digest_covers_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir_all(dir.path().join("src/deep")).unwrap();
        fs::create_dir_all(dir.path().join("experiments")).unwrap();
        fs::create_dir_all(dir.path().join("scripts")).unwrap();
        for name in ["Cargo.lock", "Cargo.toml", "scripts/build.rs", "src/deep/a.rs"] {
            write(name, "x");
        }
        let digest = || source::digest(dir.path()).unwrap();
        let first = digest();
        write("README.md", "not built in");
        assert_eq!(digest(), first);
        write("src/deep/a.rs", "y");
        let changed = digest();
        assert_ne!(changed, first);
        fs::rename(dir.path().join("src/deep/a.rs"), dir.path().join("src/deep/b.rs")).unwrap();
        assert_ne!(digest(), changed);
    }

    #[test]
    fn the_program_knows_what_it_was_built_from() {
        assert_eq!(SOURCE.map(str::len), Some(16));
        assert!(option_env!("DISTKV_RUSTC").is_some_and(|text| text.starts_with("rustc 1.")));
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert!(crate_versions(LOCK).contains_key("reed-solomon-simd"));
    }
}
