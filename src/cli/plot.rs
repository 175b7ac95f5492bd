//! `distkv plot`: draws all figures from result files alone.

use super::EXPERIMENTS_DIR;
use super::results::{Drawn, ResultsError, read};
use crate::report::data::FigureData;
use crate::report::draw::has_pdf;
use crate::report::figure::{self, FigureError};
use crate::report::hlog::{self, HlogError};
use crate::report::page::{self, PageError};
use crate::report::paper::{self, PaperError};
use crate::report::result::{ResultError, TrialResult, write_atomically};
use crate::report::summary;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Draws the figures of a results directory again, without running anything.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  distkv plot\n  distkv plot --results results/paper\n  \
    distkv plot --results results/paper --paper\n  \
    distkv plot --results results/paper --hlog\n\n\
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
    /// Also write DIR/histograms: every trial's latencies as HdrHistogram logs (microseconds), which
    /// HistogramLogProcessor and others read
    #[arg(long)]
    pub hlog: bool,
}

/// Nothing was drawn.
#[derive(Debug, Error)]
pub enum PlotError {
    /// There are no results, or they cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// A file cannot be written.
    #[error(transparent)]
    Written(#[from] ResultError),
    /// A figure cannot be made.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// The claims cannot be decided.
    #[error(transparent)]
    Claims(#[from] super::claims::ClaimsCommandError),
    /// The paper cannot be written.
    #[error(transparent)]
    Paper(#[from] PaperError),
    /// The histograms cannot be written.
    #[error(transparent)]
    Hlog(#[from] HlogError),
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
    if args.hlog {
        let folder = args.results.join("histograms");
        let results = read(&args.results, &args.experiments, |_| true)?.results;
        let count = hlog::write_all(&folder, &results)?;
        println!("histograms: {count} in {}", folder.display());
    }
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
    let drawn = read(dir, experiments_dir, is_wanted)?;
    let Drawn { experiments, overrides, results, set_aside } = drawn;
    let figures = figure::draw_all(&experiments, &results, &dir.join("figures"))?;
    let text = summary::markdown(&experiments, &figures, &results, &set_aside);
    write_atomically(&dir.join("summary.md"), text.as_bytes())?;
    super::claims::decide(dir, experiments_dir, &overrides, &results)?;
    page::write(dir, &experiments, &figures, &results)?;
    Ok(figures)
}
