//! The load an open loop offers: how its rate goes over a phase's window, or every due time of it.
//!
//! It says nothing of chance: that operations are due at even distances or at random ones is
//! [`super::Arrivals`]. Rates are operations per second, times seconds from the window's start.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// A load that cannot be offered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OfferedError {
    /// Not a rate in any of its forms.
    #[error("'{text}': write a rate as 5000, a ramp as 1000..20000, or steps as 1000:5,5000:5")]
    Rate {
        /// What was written.
        text: String,
    },
    /// A trace that cannot be read.
    #[error("trace {file}: {reason}; check the path")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A line of a trace that is none.
    #[error("trace {file}:{line}: {expected}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
}

/// A rate that holds for a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateStep {
    /// Operations per second.
    pub rate: f64,
    /// How long.
    pub seconds: f64,
}

/// What an open loop offers over a phase's window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OfferedLoad {
    /// One rate throughout.
    Constant(f64),
    /// From one rate to another, evenly over the window.
    Ramp {
        /// At its start.
        from: f64,
        /// At its end.
        to: f64,
    },
    /// One rate after the other; the window ends with the last.
    Steps(Vec<RateStep>),
    /// Due times from a file; the window ends with the last.
    Trace {
        /// The file.
        file: String,
        /// How many.
        count: u64,
        /// Seconds from the window's start, ascending; not in results.
        #[serde(skip)]
        due_seconds: Arc<[f64]>,
    },
}

impl OfferedLoad {
    /// Reads a trace: one due time in seconds per line, ascending; or `seconds rate` pairs, where a
    /// rate holds until the next line's time and the last line, of rate 0, ends the trace. Blank
    /// lines and those that start with `#` are passed over.
    ///
    /// # Errors
    /// [`OfferedError`] naming file and line.
    pub fn read_trace(path: &Path) -> Result<Self, OfferedError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse_trace(&file, &text),
            Err(error) => Err(OfferedError::Unreadable { file, reason: error.to_string() }),
        }
    }

    /// Reads a trace from `text`, called `file` in errors.
    ///
    /// # Errors
    /// [`OfferedError::Line`].
    pub fn parse_trace(file: &str, text: &str) -> Result<Self, OfferedError> {
        let refused = |line, expected| OfferedError::Line { file: file.to_owned(), line, expected };
        let mut rows: Vec<(f64, Option<f64>)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (first, second) = match line.split_once(char::is_whitespace) {
                Some((first, second)) => (first, Some(second.trim())),
                None => (line, None),
            };
            let row = number(first, SECONDS_MAX)
                .zip(second.map_or(Some(None), |text| number(text, RATE_MAX).map(Some)))
                .ok_or_else(|| refused(index + 1, "expected 'seconds' or 'seconds rate'"))?;
            if rows.last().is_some_and(|last| last.1.is_some() != row.1.is_some()) {
                return Err(refused(index + 1, "either every line has a rate or none has"));
            }
            if rows.last().is_some_and(|last| last.0 > row.0) {
                return Err(refused(index + 1, "times must not go back"));
            }
            rows.push(row);
        }
        let last_line = text.lines().count().max(1);
        match rows.last() {
            None => Err(refused(last_line, "the trace is empty")),
            Some((_, None)) => {
                let due_seconds: Arc<[f64]> = rows.iter().map(|(at, _)| *at).collect();
                let count = due_seconds.len() as u64;
                Ok(Self::Trace { file: file.to_owned(), count, due_seconds })
            }
            Some((_, Some(rate))) if *rate > 0.0 => {
                Err(refused(last_line, "the last line ends the trace: its rate must be 0"))
            }
            Some((_, Some(_))) => steps_of_pairs(&rows)
                .ok_or_else(|| refused(last_line, "some rate must be above 0, for some time")),
        }
    }

    /// Its own length, where it has one.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Constant(_) | Self::Ramp { .. } => return None,
            Self::Steps(steps) => steps.iter().map(|step| step.seconds).sum(),
            Self::Trace { due_seconds, .. } => due_seconds.last().copied().unwrap_or(0.0),
        };
        Some(Duration::from_secs_f64(seconds))
    }

    /// The rate to warm up at: the one it starts with, or a trace's mean.
    #[must_use]
    pub fn warmup_rate(&self) -> f64 {
        match self {
            Self::Constant(rate) => *rate,
            Self::Ramp { from, to } => {
                if *from > 0.0 {
                    *from
                } else {
                    *to
                }
            }
            Self::Steps(steps) => {
                let rates = steps.iter().map(|step| step.rate);
                rates.into_iter().find(|rate| *rate > 0.0).unwrap_or(1.0)
            }
            Self::Trace { .. } => self.mean_rate(),
        }
    }

    /// Operations per second on average over its own length, or an endless window.
    #[must_use]
    pub fn mean_rate(&self) -> f64 {
        match self {
            Self::Constant(rate) => *rate,
            Self::Ramp { from, to } => f64::midpoint(*from, *to),
            Self::Steps(steps) => {
                let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
                steps.iter().map(|step| step.rate * step.seconds).sum::<f64>() / seconds
            }
            Self::Trace { count, due_seconds, .. } => {
                *count as f64 / due_seconds.last().copied().unwrap_or(0.0).max(1e-3)
            }
        }
    }
}

impl FromStr for OfferedLoad {
    type Err = OfferedError;

    fn from_str(text: &str) -> Result<Self, OfferedError> {
        let rate = |text: &str| number(text.trim(), RATE_MAX);
        let parsed = if let Some((from, to)) = text.split_once("..") {
            let ramp = rate(from).zip(rate(to)).filter(|(from, to)| from.max(*to) > 0.0);
            ramp.map(|(from, to)| Self::Ramp { from, to })
        } else if text.contains(':') {
            let step = |part: &str| {
                let (of, seconds) = part.split_once(':')?;
                let seconds = number(seconds.trim(), SECONDS_MAX).filter(|s| *s > 0.0)?;
                Some(RateStep { rate: rate(of)?, seconds })
            };
            let steps = text.split(',').map(step).collect::<Option<Vec<_>>>();
            steps.filter(|all| all.iter().any(|step| step.rate > 0.0)).map(Self::Steps)
        } else {
            rate(text).filter(|rate| *rate > 0.0).map(Self::Constant)
        };
        parsed.ok_or_else(|| OfferedError::Rate { text: text.to_owned() })
    }
}

impl fmt::Display for OfferedLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(rate) => write!(f, "{rate} ops/s"),
            Self::Ramp { from, to } => write!(f, "{from}..{to} ops/s"),
            Self::Steps(steps) if steps.len() > STEPS_SHOWN => {
                write!(f, "{} steps, {:.0} ops/s on average", steps.len(), self.mean_rate())
            }
            Self::Steps(steps) => {
                let text: Vec<_> =
                    steps.iter().map(|step| format!("{}:{}", step.rate, step.seconds)).collect();
                write!(f, "{} ops/s", text.join(","))
            }
            Self::Trace { file, count, .. } => write!(f, "{count} due times of {file}"),
        }
    }
}

/// None when no rate is above 0 for some time.
fn steps_of_pairs(rows: &[(f64, Option<f64>)]) -> Option<OfferedLoad> {
    let mut steps = Vec::with_capacity(rows.len());
    let first = rows.first()?.0;
    if first > 0.0 {
        steps.push(RateStep { rate: 0.0, seconds: first });
    }
    for pair in rows.windows(2) {
        let seconds = pair[1].0 - pair[0].0;
        if seconds > 0.0 {
            steps.push(RateStep { rate: pair[0].1.unwrap_or(0.0), seconds });
        }
    }
    steps.iter().any(|step| step.rate > 0.0).then_some(OfferedLoad::Steps(steps))
}

fn number(text: &str, max: f64) -> Option<f64> {
    // Not a number is in no range.
    text.parse::<f64>().ok().filter(|number| (0.0..=max).contains(number))
}

const RATE_MAX: f64 = 1e9;
const SECONDS_MAX: f64 = 1e7;
const STEPS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_ramps_and_steps_are_read() {
        let parse = |text: &str| text.parse::<OfferedLoad>();
        assert_eq!(parse("5000"), Ok(OfferedLoad::Constant(5000.0)));
        assert_eq!(parse("0..20000"), Ok(OfferedLoad::Ramp { from: 0.0, to: 20000.0 }));
        let steps = parse("1000:5, 0:1,5000:2.5").unwrap();
        assert_eq!(steps.duration(), Some(Duration::from_millis(8500)));
        assert!((steps.mean_rate() - 17_500.0 / 8.5).abs() < 1e-9);
        for bad in ["", "0", "-1", "NaN", "1..", "0..0", "1:0", "0:5", "5:1,", "1e10", "5:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn traces_are_due_times_or_rates_that_hold_until_the_next_line() {
        let trace = OfferedLoad::parse_trace("t", "# due\n0\n\n0.5\n0.5\n2\n").unwrap();
        let OfferedLoad::Trace { count, due_seconds, .. } = &trace else { panic!("{trace}") };
        assert_eq!((*count, &due_seconds[..]), (4, &[0.0, 0.5, 0.5, 2.0][..]));
        assert!((trace.mean_rate() - 2.0).abs() < 1e-9);
        let pairs = OfferedLoad::parse_trace("t", "1 100\n3 50\n4 0\n").unwrap();
        assert_eq!(pairs, "0:1,100:2,50:1".parse().unwrap());
    }

    #[test]
    fn a_bad_trace_is_named_with_its_line() {
        for (text, place) in [
            ("0\nx\n", "t:2: expected 'seconds'"),
            ("1\n0.5\n", "t:2: times must not go back"),
            ("0 5\n1\n", "t:2: either every line"),
            ("0 5\n1 5\n", "t:2: the last line ends the trace"),
            ("0 0\n1 0\n", "t:2: some rate must be above 0"),
            ("", "t:1: the trace is empty"),
            ("-1\n", "t:1: expected"),
        ] {
            let error = OfferedLoad::parse_trace("t", text).unwrap_err().to_string();
            assert!(error.contains(place), "{text:?}: {error}");
        }
        let error = OfferedLoad::read_trace(Path::new("no/such.trace")).unwrap_err().to_string();
        assert!(error.contains("no/such.trace"), "{error}");
    }
}
