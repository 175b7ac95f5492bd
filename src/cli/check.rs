//! `distkv check`: judges recorded client histories.

use crate::history::{ReadError, Recorded, Summary, read_file};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use thiserror::Error;

/// Checks client histories for linearizability.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Histories as JSON lines, as 'distkv bench --history' writes them; several are one history
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The store held keys before the history began: reads may find values of no write in it
    #[arg(long)]
    pub preloaded: bool,
}

/// A history that is wrong, or none.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Not a history.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Not consistent.
    #[error("not consistent: {0}")]
    Violation(String),
}

impl CheckError {
    /// 1 for a violation, 2 for what cannot be judged.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Violation(_) => ExitCode::FAILURE,
            Self::Unreadable(_) => ExitCode::from(2),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`CheckError`]: what is wrong and where.
pub fn run(args: &CheckArgs) -> Result<(), CheckError> {
    let mut recorded = Recorded::default();
    recorded.set_preloaded(args.preloaded);
    for file in &args.files {
        read_file(file, &mut recorded)?;
    }
    let summary = recorded.check().map_err(|text| {
        let hint = if args.preloaded || !text.contains("never written") { "" } else { PRELOADED };
        CheckError::Violation(text + hint)
    })?;
    println!("{}", sentence(&summary));
    if let Some(first) = summary.gave_up.first() {
        let count = summary.gave_up.len();
        eprintln!(
            "warning: too much at once on {count} keys, such as '{first}': checked by slots only"
        );
    }
    Ok(())
}

fn sentence(summary: &Summary) -> String {
    let mut text =
        format!("consistent: {} operations on {} keys", summary.operations, summary.keys);
    for (count, what) in [
        (summary.unknown as u64, "without an answer"),
        (summary.eventual as u64, "eventual reads"),
        (summary.without_slot as u64, "answers without a slot"),
        (summary.scans, "scans, each a read of every key up to its last row"),
        (summary.scans_without_rows, "scans without rows, which are not checked"),
    ] {
        if count > 0 {
            let _ = write!(text, "; {count} {what}");
        }
    }
    text
}

const PRELOADED: &str = "\n(if the store held keys before, check with --preloaded)";
const EXAMPLES: &str = "\
Examples:
  distkv bench --workload workloads/workloada --duration 10 --history h.jsonl
  distkv check h.jsonl
  Two clients at once, on a store that was loaded before:
    distkv check --preloaded client-1.jsonl client-2.jsonl
Exit codes: 0 consistent, 1 not consistent, 2 a file that cannot be read.
docs/history.md has the format.";
