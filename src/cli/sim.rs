//! `distkv sim`: whole clusters in virtual time, seed after seed, with every checker on.

use crate::experiment::CancelFlag;
use crate::sim::{Plant, Totals, run as run_seed};
use indicatif::{ProgressBar, ProgressStyle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
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
    /// Print everything that happens (with --seed)
    #[arg(long, requires = "seed")]
    pub trace: bool,
    /// Put a bug in, to see that the checkers find it
    #[arg(long, value_enum, default_value_t = PlantChoice::None)]
    pub plant: PlantChoice,
    /// Threads [default: one per core]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=256))]
    pub threads: Option<u64>,
}

/// Bugs that can be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlantChoice {
    /// No bug
    None,
    /// Nodes acknowledge what is written and not yet synced
    AckBeforeSync,
}

/// A simulation that found something.
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
}

impl PlantChoice {
    const fn plant(self) -> Plant {
        match self {
            Self::None => Plant::None,
            Self::AckBeforeSync => Plant::AckBeforeSync,
        }
    }
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    end: u64,
    totals: Mutex<Totals>,
    failures: Mutex<Vec<(u64, String)>>,
}

/// Runs the command.
///
/// # Errors
/// [`SimError`] when a seed failed: the command that replays it.
pub fn run(args: &SimArgs, cancel: &CancelFlag) -> Result<(), SimError> {
    let (start, seeds) = args.seed.map_or((args.start, args.seeds), |seed| (seed, 1));
    let shared = Shared {
        next: AtomicU64::new(start),
        end: start.saturating_add(seeds),
        totals: Mutex::new(Totals::default()),
        failures: Mutex::new(Vec::new()),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let threads = args.threads.unwrap_or(cores).min(seeds.max(1));
    let bar = ProgressBar::new(seeds);
    let template = "{bar:30} {pos}/{len} seeds, {per_sec}, about {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    // A panic is a failure of its seed, reported as one below.
    let hook = std::panic::take_hook();
    if !args.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(args, &shared, cancel, &bar));
        }
    });
    std::panic::set_hook(hook);
    bar.finish_and_clear();
    let took = begun.elapsed();
    let done = bar.position();
    if let Ok(totals) = shared.totals.lock() {
        print(&totals, done, took);
    }
    let mut failures = shared.failures.into_inner().unwrap_or_default();
    failures.sort();
    for (seed, what) in failures.iter().take(FAILURES_SHOWN) {
        println!("seed {seed}: {what}");
    }
    if let Some((first, _)) = failures.first() {
        let plant = match args.plant {
            PlantChoice::None => "",
            PlantChoice::AckBeforeSync => " --plant ack-before-sync",
        };
        let replay = format!("distkv sim --seed {first} --trace{plant}");
        return Err(SimError::Failed { count: failures.len(), seeds: done, first: *first, replay });
    }
    if cancel.is_cancelled() { Err(SimError::Stopped { done }) } else { Ok(()) }
}

fn work(args: &SimArgs, shared: &Shared, cancel: &CancelFlag, bar: &ProgressBar) {
    while !cancel.is_cancelled() {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            return;
        }
        let plant = args.plant.plant();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let trace: Option<crate::sim::TraceSink> =
                if args.trace { Some(Box::new(|line| println!("{line}"))) } else { None };
            run_seed(seed, plant, trace)
        }));
        let failure = match outcome {
            Ok(Ok(totals)) => {
                if let Ok(mut sum) = shared.totals.lock() {
                    sum.add(&totals);
                }
                None
            }
            Ok(Err(failure)) => Some(failure.what),
            Err(panic) => Some(panic_text(panic.as_ref())),
        };
        if let (Some(what), Ok(mut failures)) = (failure, shared.failures.lock()) {
            failures.push((seed, what));
        }
        bar.inc(1);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a machine's assertion failed: {}", text.unwrap_or("no text"))
}

fn print(totals: &Totals, seeds: u64, took: Duration) {
    let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
        let parts: Vec<String> =
            counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        parts.join(", ")
    };
    let operations: u64 = totals.operations.values().sum();
    let faults: u64 = totals.faults.values().sum();
    println!(
        "{seeds} seeds in {:.1} s, {:.0} s of virtual time",
        took.as_secs_f64(),
        totals.virtual_time.as_secs_f64()
    );
    println!("operations  {operations}: {}", list(&totals.operations));
    println!("outcomes    {}", list(&totals.outcomes));
    println!("faults      {faults}: {}", list(&totals.faults));
    println!(
        "clusters    {} elections, {} slots applied, {} values rebuilt, {} slots reclaimed, \
         {} snapshots taken in, {} shards recorded anew, {} datagrams",
        totals.elections,
        totals.slots,
        totals.rebuilt,
        totals.reclaimed,
        totals.restored,
        totals.repaired,
        totals.datagrams
    );
    println!(
        "checked     order of all operations; {} keys searched for a linear order, {} given up",
        totals.searched, totals.gave_up
    );
    println!("trace hash  {:016x}", totals.trace_hash);
}

const FAILURES_SHOWN: usize = 5;

const EXAMPLES: &str = "\
Examples:
  A thousand seeds, in under a minute:
    distkv sim --seeds 1000
  See what happens in one of them:
    distkv sim --seed 17 --trace
  Show that acknowledging before the sync is found:
    distkv sim --seeds 200 --plant ack-before-sync";
