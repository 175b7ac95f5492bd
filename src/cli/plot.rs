//! `distkv plot`: draws all figures from result files alone.

use super::EXPERIMENTS_DIR;
use super::overrides::Overrides;
use crate::experiment::spec::{Experiment, PROFILES, SpecError, seedless};
use crate::report::data::FigureData;
use crate::report::draw::has_pdf;
use crate::report::figure::{self, FigureError};
use crate::report::page::{self, PageError};
use crate::report::paper::{self, PaperError};
use crate::report::result::{ResultError, TrialResult, write_atomically};
use crate::report::summary;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Draws the figures of a results directory again, without running anything.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  distkv plot\n  distkv plot --results results/paper\n  \
    distkv plot --results results/paper --paper\n\n\
    Reads DIR/trials/*.json; writes DIR/figures/*.{svg,png,csv,tex}, DIR/summary.md\n\
    and DIR/report.html, one file that works offline.")]
pub struct PlotArgs {
    /// Directory that `distkv reproduce --out` wrote
    #[arg(long, value_name = "DIR", default_value = "results/quick")]
    pub results: PathBuf,
    /// Where the experiment files are, which say what to draw; without that directory, those built in
    #[arg(long, value_name = "DIR", default_value = EXPERIMENTS_DIR)]
    pub experiments: PathBuf,
    /// Also write DIR/paper: figures as PDF, and main.tex that includes them all
    #[arg(long)]
    pub paper: bool,
}

/// Nothing was drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// There are no results.
    #[error("{0}: no results; run 'distkv reproduce --out DIR' first or give --results DIR")]
    Empty(PathBuf),
    /// A built-in experiment is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A result cannot be read.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// A figure cannot be made.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// What was set for these results.
    #[error(transparent)]
    Overrides(#[from] super::overrides::OverridesError),
    /// The claims cannot be decided.
    #[error(transparent)]
    Claims(#[from] super::claims::ClaimsCommandError),
    /// The paper cannot be written.
    #[error(transparent)]
    Paper(#[from] PaperError),
    /// The report cannot be written.
    #[error(transparent)]
    Page(#[from] PageError),
}

/// Draws everything and prints a line per figure.
///
/// # Errors
/// [`PlotError`] says what to do.
#[expect(clippy::needless_pass_by_value, reason = "the shape of every subcommand")]
pub fn run(args: PlotArgs) -> Result<(), PlotError> {
    if args.paper && !has_pdf() {
        // Before the time is spent.
        return Err(PaperError::NoPdf.into());
    }
    let figures = draw(&args.results, &args.experiments, |_| true)?;
    print!("{}", summary::brief(&figures));
    if args.paper {
        let main = paper::write(&args.results, &figures)?;
        println!("paper: {} (compile it there with pdflatex main.tex)", main.display());
    }
    println!("figures: {}", args.results.join("figures").display());
    println!("report: {}", args.results.join("report.html").display());
    Ok(())
}

/// Draws the figures that the files in `experiments_dir` ask for, and the summary, under `dir`; gives
/// the figures. Only what `is_wanted` counts.
pub(crate) fn draw(
    dir: &Path,
    experiments_dir: &Path,
    is_wanted: impl Fn(&TrialResult) -> bool,
) -> Result<Vec<FigureData>, PlotError> {
    let trials = dir.join("trials");
    if !trials.is_dir() {
        return Err(PlotError::Empty(dir.to_owned()));
    }
    let mut results = TrialResult::read_all(&trials)?;
    results.retain(is_wanted);
    if results.is_empty() {
        return Err(PlotError::Empty(dir.to_owned()));
    }
    let mut experiments = Experiment::all_in(experiments_dir)?;
    Overrides::read(dir)?.let_follow(&mut experiments);
    leave_stale(&experiments, &mut results);
    let figures = figure::draw_all(&experiments, &results, &dir.join("figures"))?;
    let text = summary::markdown(&experiments, &figures, &results);
    write_atomically(&dir.join("summary.md"), text.as_bytes())?;
    super::claims::decide(dir, experiments_dir, &results)?;
    page::write(dir, &experiments, &figures, &results)?;
    Ok(figures)
}

/// Leaves out trials of other parameters than their experiment's file has by now, where it has some of
/// its own: it was changed since, and they would be drawn into the same points.
fn leave_stale(experiments: &[Experiment], results: &mut Vec<TrialResult>) {
    for experiment in experiments {
        let known: BTreeSet<String> =
            PROFILES.iter().flat_map(|name| experiment.points_under(name)).collect();
        let is_own = |result: &TrialResult| result.trial.experiment == experiment.id;
        let is_known = |result: &TrialResult| known.contains(&seedless(&result.trial.config));
        if results.iter().any(|result| is_own(result) && is_known(result)) {
            let before = results.len();
            results.retain(|result| !is_own(result) || is_known(result));
            let left = before - results.len();
            if left > 0 {
                let id = &experiment.id;
                println!("{id}: {left} trials of other parameters than its file has are left out");
            }
        }
    }
}
