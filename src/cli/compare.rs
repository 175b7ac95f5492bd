//! `distkv compare`: did anything get slower between two runs?

use crate::report::compare::{CompareVerdict, Compared, compare};
use crate::report::metric::Metric;
use crate::report::result::{ResultError, TrialResult, write_atomically};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Compares two results directories point by point; exits 1 when a point is worse, 2 when nothing can
/// be compared.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  distkv compare results/before results/after\n  \
    distkv compare results/a results/b --metric put_p99 --threshold 10%\n\nIn CI: make both runs \
    with the same --seed and at least three repeats.")]
pub struct CompareArgs {
    /// The run before, as 'distkv reproduce --out' wrote it
    pub first: PathBuf,
    /// The run after
    pub second: PathBuf,
    /// What is compared: throughput, put_p99, get_p50, cpu_per_operation …
    #[arg(long, default_value = "throughput")]
    pub metric: Metric,
    /// Differences within this are none
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    pub threshold: f64,
    /// Write the table as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A comparison that says no.
#[derive(Debug, Error)]
pub enum CompareError {
    /// Results.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// The JSON cannot be made.
    #[error("comparison as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No common points.
    #[error(
        "{first} and {second} have no valid trial in common: run both with the same experiments, \
         profile and --set"
    )]
    Nothing {
        /// The one.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Neither more nor less of the metric is better.
    #[error("of this metric neither more nor less is better; choose another --metric")]
    Direction,
    /// Points that are gone.
    #[error("{count} points have valid trials in the first run and none in the second")]
    Missing {
        /// How many.
        count: usize,
    },
    /// Nothing can be decided.
    #[error("one pair of trials at every point decides nothing: run both with --set repeats=3")]
    Single,
    /// Something is worse.
    #[error("{count} of {of} points are worse by more than the threshold")]
    Worse {
        /// How many.
        count: usize,
        /// Of so many.
        of: usize,
    },
}

impl CompareError {
    /// What the process exits with.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Worse { .. } => 1,
            Self::Result(_)
            | Self::Json(_)
            | Self::Nothing { .. }
            | Self::Direction
            | Self::Missing { .. }
            | Self::Single => 2,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`CompareError`], also when something is worse.
pub fn run(args: &CompareArgs) -> Result<(), CompareError> {
    let read = |dir: &Path| TrialResult::read_all(&dir.join("trials"));
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let is_more_better = args.metric.more_is_better().ok_or(CompareError::Direction)?;
    let (compared, missing) =
        compare(&first, &second, &args.metric, is_more_better, args.threshold);
    if compared.is_empty() {
        let (first, second) = (args.first.clone(), args.second.clone());
        return Err(CompareError::Nothing { first, second });
    }
    if let Some(file) = &args.json {
        write_atomically(file, (serde_json::to_string_pretty(&compared)? + "\n").as_bytes())?;
    }
    println!("{:>7} {:>17} {:>8}  {:10} point", "ratio", "95 % interval", "p (Holm)", "verdict");
    for row in &compared {
        let Compared { point, ratio, interval, p_holm, verdict } = row;
        let interval =
            interval.map_or("one pair".to_owned(), |[low, high]| format!("{low:.3} to {high:.3}"));
        let p = p_holm.map_or("-".to_owned(), |p| format!("{p:.4}"));
        let verdict = match verdict {
            CompareVerdict::Better => "better",
            CompareVerdict::Worse => "WORSE",
            CompareVerdict::Equal => "equal",
            CompareVerdict::Undecided => "undecided",
        };
        println!("{ratio:>7.3} {interval:>17} {p:>8}  {verdict:10} {point}");
    }
    for point in &missing {
        println!("{:>7} {:>17} {:>8}  {:10} {point}", "-", "-", "-", "MISSING");
    }
    let count = compared.iter().filter(|row| row.verdict == CompareVerdict::Worse).count();
    if count > 0 {
        return Err(CompareError::Worse { count, of: compared.len() });
    }
    if !missing.is_empty() {
        return Err(CompareError::Missing { count: missing.len() });
    }
    if compared.iter().all(|row| row.interval.is_none()) {
        return Err(CompareError::Single);
    }
    Ok(())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().ok();
    let share = number.map(|number| number / 100.0).filter(|share| (0.0..=10.0).contains(share));
    share.ok_or_else(|| format!("'{text}' is no percentage, such as 5%"))
}
