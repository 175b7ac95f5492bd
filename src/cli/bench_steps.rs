//! Several generators in step: when a run begins, and how their results become one.

use crate::bench::{BenchReport, MergeError};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Generators that do not go together.
#[derive(Debug, Error)]
pub enum StepError {
    /// Too late to start with the others.
    #[error("--start-at passed {seconds:.1} s ago: choose a time after all generators have loaded")]
    Passed {
        /// How long ago.
        seconds: f64,
    },
    /// A result that cannot be read.
    #[error("result {file}: {reason}; name files that distkv bench --json has written")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// Results that do not belong together.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Sleeps until `start`.
pub(super) fn wait_for(start: Option<SystemTime>) -> Result<(), StepError> {
    let Some(start) = start else { return Ok(()) };
    match start.duration_since(SystemTime::now()) {
        Ok(left) => {
            std::thread::sleep(left);
            Ok(())
        }
        Err(passed) => Err(StepError::Passed { seconds: passed.duration().as_secs_f64() }),
    }
}

/// The results in `files` as one.
pub(super) fn merged(files: &[PathBuf]) -> Result<BenchReport, StepError> {
    let read = |file: &PathBuf| {
        let refused =
            |reason: String| StepError::Unreadable { file: file.display().to_string(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| refused(error.to_string()))
    };
    let reports = files.iter().map(read).collect::<Result<Vec<BenchReport>, StepError>>()?;
    Ok(BenchReport::merge(&reports)?)
}

/// `2026-05-01T12:00:00Z`, with or without a fraction, or seconds since 1970.
pub(super) fn start_time(text: &str) -> Result<SystemTime, String> {
    let seconds = text.parse::<f64>().ok().or_else(|| rfc3339(text));
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .ok_or_else(|| format!("'{text}': write 2026-05-01T12:00:00Z or seconds since 1970"))
}

fn rfc3339(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let hour: f64 = time.next()?.parse().ok()?;
    let minute: f64 = time.next()?.parse().ok()?;
    let second: f64 = time.next()?.parse().ok()?;
    let is_valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0.0..24.0).contains(&hour)
        && (0.0..60.0).contains(&minute)
        && (0.0..61.0).contains(&second);
    // Days of the civil calendar, counted in years that begin in March (Hinnant).
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    is_valid.then_some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_times_are_read() {
        let unix = |text: &str| {
            start_time(text).unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
        };
        assert_eq!(unix("1970-01-01T00:00:00Z"), 0.0);
        assert_eq!(unix("2000-03-01T00:00:00Z"), 951_868_800.0);
        assert_eq!(unix("2024-02-29T12:30:01.5Z"), 1_709_209_801.5);
        assert_eq!(unix("1709209801.5"), 1_709_209_801.5);
        for bad in ["", "now", "2024-13-01T00:00:00Z", "2024-01-01 00:00:00", "-1", "NaN"] {
            assert!(start_time(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    fn a_start_that_has_passed_is_refused() {
        let past = UNIX_EPOCH + Duration::from_secs(1);
        assert!(wait_for(Some(past)).unwrap_err().to_string().contains("--start-at passed"));
        wait_for(Some(SystemTime::now() + Duration::from_millis(5))).unwrap();
        wait_for(None).unwrap();
    }
}
