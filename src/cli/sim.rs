//! `distkv sim`: whole clusters in virtual time, seed after seed, with every checker on.

use super::sim_report::{Report, print};
use crate::experiment::CancelFlag;
use crate::sim::{
    Plant, Scenario, ScenarioError, ScenarioFile, Totals, TraceSink, failure_kind, run_scenario,
    shrink,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use thiserror::Error;

/// Simulates clusters under faults and checks every answer; each seed is one run.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SimArgs {
    /// How many seeds
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    pub start: u64,
    /// This seed alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "start"])]
    pub seed: Option<u64>,
    /// Clusters of so many nodes only: other seeds are passed over
    #[arg(long, value_name = "COUNT")]
    pub nodes: Option<usize>,
    /// A scenario from a file, as a failure leaves one, instead of seeds
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "start", "seed", "nodes"])]
    pub scenario: Option<PathBuf>,
    /// Write the scenario of --seed to a file and do not run it
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub write_scenario: Option<PathBuf>,
    /// Print everything that happens (with --seed or --scenario)
    #[arg(long)]
    pub trace: bool,
    /// Put a bug in, to see that the checkers find it
    #[arg(long, value_enum, default_value_t = PlantChoice::None)]
    pub plant: PlantChoice,
    /// Seeds that run at the same time [default: one per core]
    #[arg(long, alias = "threads", value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=256))]
    pub jobs: Option<u64>,
    /// Runs spent on making the first failure small; 0 for none
    #[arg(long, default_value_t = 600, value_name = "RUNS")]
    pub shrink: u64,
    /// Where the shrunk scenario of a failure is written [default: sim-SEED.toml]
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Print the totals as JSON
    #[arg(long)]
    pub json: bool,
}

/// Bugs that can be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlantChoice {
    /// No bug
    None,
    /// Nodes acknowledge what is written and not yet synced
    AckBeforeSync,
}

/// A simulation that found something, or could not run.
#[derive(Debug, Error)]
pub enum SimError {
    /// Seeds failed.
    #[error(
        "{count} of {seeds} seeds failed, the first is {first}; see it happen with\n    {replay}"
    )]
    Failed {
        /// Seeds that failed.
        count: usize,
        /// Seeds run.
        seeds: u64,
        /// The lowest of them.
        first: u64,
        /// The command that shows it.
        replay: String,
    },
    /// Stopped by Ctrl-C.
    #[error("stopped after {done} seeds, none of which failed")]
    Stopped {
        /// Seeds run.
        done: u64,
    },
    /// A scenario file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that holds no scenario.
    #[error("{}: {source}", path.display())]
    Scenario {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ScenarioError,
    },
}

impl PlantChoice {
    const fn plant(self) -> Plant {
        match self {
            Self::None => Plant::None,
            Self::AckBeforeSync => Plant::AckBeforeSync,
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::None => "",
            Self::AckBeforeSync => " --plant ack-before-sync",
        }
    }
}

/// What all threads share.
struct Shared<'a> {
    args: &'a SimArgs,
    /// The one to run instead of seeds.
    file: Option<ScenarioFile>,
    next: AtomicU64,
    end: u64,
    done: AtomicU64,
    report: Mutex<Report>,
    failures: Mutex<Vec<(u64, String)>>,
}

/// Runs the command.
///
/// # Errors
/// [`SimError`] when a seed failed: the command that replays it.
pub fn run(args: &SimArgs, cancel: &CancelFlag) -> Result<(), SimError> {
    if let (Some(path), Some(seed)) = (&args.write_scenario, args.seed) {
        return write(path, &ScenarioFile { seed, scenario: Scenario::draw(seed) });
    }
    let file = args.scenario.as_deref().map(read).transpose()?;
    let only = file.as_ref().map(|file| file.seed).or(args.seed);
    let (start, seeds) = only.map_or((args.start, args.seeds), |seed| (seed, 1));
    let shared = Shared {
        args,
        file,
        next: AtomicU64::new(start),
        end: start.saturating_add(seeds),
        done: AtomicU64::new(0),
        report: Mutex::new(Report::default()),
        failures: Mutex::new(Vec::new()),
    };
    // A panic is a failure of its seed, reported as one below.
    let hook = std::panic::take_hook();
    if !args.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let (begun, cpu_begun) = (Instant::now(), cpu_seconds());
    run_all(&shared, seeds, cancel);
    let done = shared.done.load(Ordering::Relaxed);
    let mut report = shared.report.into_inner().unwrap_or_default();
    report.seeds = done;
    report.wall = begun.elapsed();
    report.cpu_seconds = cpu_seconds() - cpu_begun;
    let mut failures = shared.failures.into_inner().unwrap_or_default();
    failures.sort();
    report.failures.clone_from(&failures);
    if args.json {
        println!("{}", report.to_json());
    } else {
        print(&report);
    }
    let outcome = match failures.first() {
        Some((first, what)) => {
            let file = shared
                .file
                .unwrap_or_else(|| ScenarioFile { seed: *first, scenario: Scenario::draw(*first) });
            let replay = explain(args, &file, what, cancel);
            Err(SimError::Failed { count: failures.len(), seeds: done, first: *first, replay })
        }
        None if cancel.is_cancelled() => Err(SimError::Stopped { done }),
        None => Ok(()),
    };
    std::panic::set_hook(hook);
    outcome
}

fn run_all(shared: &Shared<'_>, seeds: u64, cancel: &CancelFlag) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let jobs = shared.args.jobs.unwrap_or(cores).min(seeds.max(1));
    let bar = if shared.args.trace { ProgressBar::hidden() } else { ProgressBar::new(seeds) };
    let template = "{bar:30} {pos}/{len} seeds, {per_sec}, about {eta} left{msg}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(shared, cancel, &bar));
        }
    });
    bar.finish_and_clear();
}

fn work(shared: &Shared<'_>, cancel: &CancelFlag, bar: &ProgressBar) {
    while !cancel.is_cancelled() {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            break;
        }
        bar.inc(1);
        let file = shared
            .file
            .clone()
            .unwrap_or_else(|| ScenarioFile { seed, scenario: Scenario::draw(seed) });
        let is_passed_over =
            shared.args.nodes.is_some_and(|nodes| nodes != file.scenario.cluster.members.len());
        if is_passed_over {
            continue;
        }
        let outcome = attempt(&file, shared.args.plant.plant(), shared.args.trace);
        shared.done.fetch_add(1, Ordering::Relaxed);
        if let (Ok(totals), Ok(mut report)) = (&outcome, shared.report.lock()) {
            report.totals.add(totals);
        }
        if let (Err(what), Ok(mut failures)) = (outcome, shared.failures.lock()) {
            failures.push((seed, what));
            bar.set_message(format!(", {} failed", failures.len()));
        }
    }
}

/// Runs one scenario; what is wrong, panics included.
fn attempt(file: &ScenarioFile, plant: Plant, is_traced: bool) -> Result<Totals, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let trace: Option<TraceSink> =
            if is_traced { Some(Box::new(|line| println!("{line}"))) } else { None };
        run_scenario(file.scenario.clone(), file.seed, plant, trace)
    }));
    match outcome {
        Ok(Ok(totals)) => Ok(totals),
        Ok(Err(failure)) => Err(failure.what),
        Err(panic) => Err(panic_text(panic.as_ref())),
    }
}

/// Makes a failure small, shows and saves it; gives the command that replays it.
fn explain(args: &SimArgs, file: &ScenarioFile, what: &str, cancel: &CancelFlag) -> String {
    let plant = args.plant;
    let whole = match &args.scenario {
        Some(path) => format!("distkv sim --scenario {} --trace{}", path.display(), plant.flag()),
        None => {
            let seed = file.seed;
            format!("distkv sim --seed {seed} --trace{}", plant.flag())
        }
    };
    if args.shrink == 0 || args.trace {
        return whole;
    }
    let kind = failure_kind(what);
    let bar = ProgressBar::new(args.shrink);
    let template = "{bar:30} {pos}/{len} runs to make seed {msg} small";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar.set_message(file.seed.to_string());
    let shrunk = shrink(file, args.shrink, |candidate| {
        bar.inc(1);
        !cancel.is_cancelled()
            && attempt(candidate, plant.plant(), false)
                .is_err_and(|what| failure_kind(&what) == kind)
    });
    bar.finish_and_clear();
    let path = args.save.clone().unwrap_or_else(|| format!("sim-{}.toml", file.seed).into());
    if let Err(error) = write(&path, &shrunk.file) {
        eprintln!("{error}");
        return whole;
    }
    if !args.json {
        println!("the smallest scenario that fails so, after {} runs:", shrunk.runs);
        println!("{}", shrunk.file.scenario);
    }
    format!("distkv sim --scenario {} --trace{}", path.display(), plant.flag())
}

fn read(path: &Path) -> Result<ScenarioFile, SimError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SimError::File { path: path.to_owned(), source })?;
    ScenarioFile::from_toml(&text)
        .map_err(|source| SimError::Scenario { path: path.to_owned(), source })
}

fn write(path: &Path, file: &ScenarioFile) -> Result<(), SimError> {
    std::fs::write(path, file.to_toml())
        .map_err(|source| SimError::File { path: path.to_owned(), source })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a machine's assertion failed: {}", text.unwrap_or("no text"))
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

const EXAMPLES: &str = "\
Examples:
  A thousand seeds, on all cores:
    distkv sim --seeds 1000
  See what happens in one of them:
    distkv sim --seed 17 --trace
  Replay a failure that was made small:
    distkv sim --scenario sim-17.toml --trace
  Show that acknowledging before the sync is found:
    distkv sim --seeds 200 --plant ack-before-sync";
