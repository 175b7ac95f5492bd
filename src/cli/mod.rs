//! The `distkv` command line: arguments to calls, errors to exit codes.
//!
//! Each subcommand is a module with its arguments, its typed error and a `run`. Exit codes: 0 done,
//! 1 not done (said on standard error), 2 arguments, or for `check` histories, that make no sense.

pub mod admin;
pub mod bench;
pub mod bench_steps;
pub mod calibrate;
pub mod carry;
pub mod check;
pub mod claims;
pub mod cluster;
pub mod compare;
pub mod failover;
pub mod kv;
mod members;
pub mod node;
mod overrides;
pub mod plot;
pub mod reproduce;
mod results;
pub mod sim;
mod sim_report;
pub mod status;

use crate::experiment::CancelFlag;
use crate::experiment::launch::{LauncherError, ProcessLauncher};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thiserror::Error;

/// A distributed key-value store that agrees by Multi-Paxos and stores its values erasure-coded,
/// and the harness that measures it.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cluster(cluster::ClusterArgs),
    Node(node::NodeArgs),
    Kv(kv::KvArgs),
    Status(status::StatusArgs),
    Bench(Box<bench::BenchArgs>),
    Failover(failover::FailoverArgs),
    Calibrate(calibrate::CalibrateArgs),
    Claims(claims::ClaimsArgs),
    Compare(compare::CompareArgs),
    Check(check::CheckArgs),
    Admin(admin::AdminArgs),
    Export(carry::ExportArgs),
    Import(carry::ImportArgs),
    Sim(Box<sim::SimArgs>),
    Reproduce(reproduce::ReproduceArgs),
    Plot(plot::PlotArgs),
}

/// Any subcommand's error.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterCommandError),
    #[error(transparent)]
    Node(#[from] node::NodeCommandError),
    #[error(transparent)]
    Kv(#[from] kv::KvError),
    #[error(transparent)]
    Status(#[from] status::StatusError),
    #[error(transparent)]
    Bench(#[from] bench::BenchCommandError),
    #[error(transparent)]
    Failover(#[from] failover::FailoverCommandError),
    /// `calibrate`.
    #[error(transparent)]
    Calibrate(#[from] calibrate::CalibrateCommandError),
    /// `claims`.
    #[error(transparent)]
    Claims(#[from] claims::ClaimsCommandError),
    /// `compare`.
    #[error(transparent)]
    Compare(#[from] compare::CompareError),
    #[error(transparent)]
    Check(#[from] check::CheckError),
    #[error(transparent)]
    Admin(#[from] admin::AdminError),
    #[error(transparent)]
    Carry(#[from] carry::CarryCommandError),
    #[error(transparent)]
    Sim(#[from] sim::SimError),
    #[error(transparent)]
    Reproduce(#[from] reproduce::ReproduceError),
    #[error(transparent)]
    Plot(#[from] plot::PlotError),
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error("cannot listen to Ctrl-C: {0}")]
    Signals(#[from] ctrlc::Error),
}

/// Where `distkv cluster` writes the cluster file, and where the others look for it.
pub const DEFAULT_CLUSTER_DIR: &str = "distkv-cluster";

/// Where the experiment files are, from the checkout's root.
pub const EXPERIMENTS_DIR: &str = "experiments";

/// Runs the binary.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let CommandError::Check(error) = error {
                error.exit_code()
            } else if let CommandError::Compare(error) = error {
                ExitCode::from(error.exit_code())
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Cluster(args) => cluster::run(&args, &cancel_on_signal()?)?,
        Command::Node(args) => node::run(args)?,
        Command::Kv(args) => kv::run(&args)?,
        Command::Status(args) => status::run(&args)?,
        Command::Bench(args) => bench::run(&args)?,
        Command::Failover(args) => failover::run(&args, &cancel_on_signal()?)?,
        Command::Claims(args) => claims::run(&args)?,
        Command::Compare(args) => compare::run(&args)?,
        Command::Calibrate(args) => {
            calibrate::run(&args, &mut ProcessLauncher::of_this_program()?, &cancel_on_signal()?)?;
        }
        Command::Check(args) => check::run(&args)?,
        Command::Admin(args) => admin::run(&args)?,
        Command::Export(args) => carry::run_export(&args, &cancel_on_signal()?)?,
        Command::Import(args) => carry::run_import(&args, &cancel_on_signal()?)?,
        Command::Sim(args) => sim::run(&args, &cancel_on_signal()?)?,
        Command::Reproduce(args) => {
            let cancel = cancel_on_signal()?;
            reproduce::run(args, &mut ProcessLauncher::of_this_program()?, &cancel)?;
        }
        Command::Plot(args) => plot::run(args)?,
    }
    Ok(())
}

/// A flag that Ctrl-C and SIGTERM set; a second one ends the program at once.
fn cancel_on_signal() -> Result<CancelFlag, ctrlc::Error> {
    let cancel = CancelFlag::default();
    let handle = cancel.clone();
    ctrlc::set_handler(move || {
        if handle.is_cancelled() {
            std::process::exit(130);
        }
        eprintln!("stopping; once more to stop at once");
        handle.cancel();
    })?;
    Ok(cancel)
}

/// The cluster file given, or the default one.
fn cluster_file(given: Option<&PathBuf>) -> PathBuf {
    let default = || Path::new(DEFAULT_CLUSTER_DIR).join(crate::node::launcher::CLUSTER_FILE);
    given.cloned().unwrap_or_else(default)
}

const EXAMPLES: &str = "\
Examples:
  Start five nodes on this machine, values coded 3+2:
    distkv cluster --nodes 5 --code 3+2
  In another terminal, write and read a key, and look at the nodes:
    distkv kv put hello world
    distkv kv get hello
    distkv status
  Run the experiments and draw their figures, in about ten minutes:
    distkv reproduce --profile quick";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
        }
    }
}
