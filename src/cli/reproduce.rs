//! `distkv reproduce`: runs the experiments and draws their figures.

use super::EXPERIMENTS_DIR;
use super::overrides::{Overrides, OverridesError};
use super::plot::{self, PlotError};
use crate::experiment::guard::{self, GuardError};
use crate::experiment::runner::{self, RunError, RunTally};
use crate::experiment::spec::{Experiment, SpecError};
use crate::experiment::{CancelFlag, Trial, TrialLauncher};
use crate::report::result::TrialResult;
use crate::report::summary;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Runs the experiments of the thesis and draws their figures; start it again to resume.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  distkv reproduce --profile quick\n  \
    distkv reproduce --only E1,E3 --out results/e1e3\n  \
    distkv reproduce --only E5 --set value_bytes=65536 --set repeats=5\n  \
    distkv reproduce --profile paper --dry-run\n\n\
    With --set of a value that the files do not have, results go to results/PROFILE-KEY=VALUE,\n\
    and the figures follow and say so in their titles.")]
pub struct ReproduceArgs {
    /// How wide the axes and how long the trials are
    #[arg(long, value_enum, default_value = "quick")]
    pub profile: ProfileName,
    /// Where results, figures and the summary go [default: results/PROFILE, and what was set]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where the experiment files are; without that directory, those built in are run
    #[arg(long, value_name = "DIR", default_value = EXPERIMENTS_DIR)]
    pub experiments: PathBuf,
    /// Only these experiments, by id; E7 means E7 and its parts
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Override one parameter in every experiment that runs (or 'repeats')
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Seed of the order of trials and of their workloads
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the plan and its expected time, run nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The profiles that every experiment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// About ten minutes on two cores
    Quick,
    /// Hours; the numbers of the thesis
    Paper,
}

impl ProfileName {
    const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Paper => "paper",
        }
    }
}

/// The experiments did not run to their end.
#[derive(Debug, Error)]
pub enum ReproduceError {
    /// No experiment of that id.
    #[error("no experiment '{name}'; there are {known}")]
    UnknownExperiment {
        /// As given.
        name: String,
        /// All ids.
        known: String,
    },
    /// An experiment is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Another run is under way.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The run cannot go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What was set does not go with what is there.
    #[error(transparent)]
    Overrides(#[from] OverridesError),
    /// The figures cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// Stopped on request.
    #[error("stopped; run the same command again to resume")]
    Cancelled,
}

/// Runs what `args` ask for through `launcher` until `cancel` is set.
///
/// # Errors
/// [`ReproduceError`] says what to do.
#[expect(clippy::needless_pass_by_value, reason = "the shape of every subcommand")]
pub fn run(
    args: ReproduceArgs,
    launcher: &mut dyn TrialLauncher,
    cancel: &CancelFlag,
) -> Result<(), ReproduceError> {
    let (experiments, overrides) = selected(&args)?;
    let name = format!("{}{}", args.profile.name(), overrides.suffix());
    let out = args.out.clone().unwrap_or_else(|| Path::new("results").join(name));
    let trials = runner::plan(&experiments, args.seed)?;
    println!("profile {}, seed {}", args.profile.name(), args.seed);
    print_plan(&experiments, &trials, args.seed)?;
    if args.dry_run {
        return Ok(());
    }
    let _alone = guard::alone()?;
    let ran = experiments_in(&out);
    overrides.note(&out, &experiments, |id| ran.contains(id))?;
    let tally = runner::run(&trials, launcher, &out, cancel)?;
    let RunTally { run, reused, shared, invalid, skipped, cancelled } = tally;
    println!(
        "{run} run, {shared} shared between experiments, {reused} there already, {invalid} \
         invalid, {skipped} skipped"
    );
    if cancelled {
        return Err(ReproduceError::Cancelled);
    }
    // Of the experiments run now, only this run's trials; of others, what is there.
    let planned: BTreeSet<String> = trials.iter().map(Trial::id).collect();
    let figures = plot::draw(&out, &args.experiments, |result| {
        planned.contains(&result.id)
            || !experiments.iter().any(|own| own.id == result.trial.experiment)
    })?;
    print!("{}", summary::brief(&figures));
    println!("report: {}", out.join("report.html").display());
    println!("summary: {}", out.join("summary.md").display());
    Ok(())
}

/// A table of what is to be run, and its time.
fn print_plan(
    experiments: &[Experiment],
    trials: &[Trial],
    seed: u64,
) -> Result<(), ReproduceError> {
    let mut had = BTreeSet::new();
    let time = |seconds: u64| format!("{:3} min {:02} s", seconds / 60, seconds % 60);
    let (mut total, mut measuring) = (0, 0);
    println!("{:11}{:>7}{:>8}{:>9}   about", "experiment", "trials", "shared", "repeats");
    for experiment in experiments {
        let own = experiment.trials(seed)?;
        let (new, shared): (Vec<Trial>, Vec<Trial>) =
            own.into_iter().partition(|trial| had.insert(trial.content()));
        let seconds = runner::estimated_time(&new).as_secs();
        total += seconds;
        measuring += runner::measuring_time(&new).as_secs();
        println!(
            "{:11}{:>7}{:>8}{:>9}   {}   {}",
            experiment.id,
            new.len(),
            shared.len(),
            experiment.repeats,
            time(seconds),
            experiment.title
        );
    }
    let disk = trials.iter().map(|trial| trial.config.disk_bytes()).max().unwrap_or(0);
    println!(
        "total: {} trials, {}, {} % of it measuring; up to {} MiB of disk at a time",
        had.len(),
        time(total).trim_start(),
        100 * measuring / total.max(1),
        disk.div_ceil(1 << 20)
    );
    Ok(())
}

/// The experiments that have a trial in `dir`.
fn experiments_in(dir: &Path) -> BTreeSet<String> {
    let results = TrialResult::read_all(&dir.join("trials")).unwrap_or_default();
    results.into_iter().map(|result| result.trial.experiment).collect()
}

fn selected(args: &ReproduceArgs) -> Result<(Vec<Experiment>, Overrides), ReproduceError> {
    let all = Experiment::all_in(&args.experiments)?;
    for name in &args.only {
        if !all.iter().any(|experiment| experiment.is_named(name)) {
            let known = all.iter().map(|experiment| experiment.id.clone()).collect::<Vec<_>>();
            let known = known.join(", ");
            return Err(ReproduceError::UnknownExperiment { name: name.clone(), known });
        }
    }
    let mut overrides = Overrides::default();
    let mut chosen = Vec::new();
    for experiment in all {
        let is_wanted =
            args.only.is_empty() || args.only.iter().any(|name| experiment.is_named(name));
        if is_wanted {
            let mut experiment = experiment.under_profile(args.profile.name())?;
            overrides.apply(&mut experiment, &args.set)?;
            chosen.push(experiment);
        }
    }
    Ok((chosen, overrides))
}
