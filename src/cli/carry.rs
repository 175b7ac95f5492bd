//! `distkv export` and `distkv import`: all rows of a cluster to a file, and back into any cluster.

use crate::client::{Carried, CarryError, Client, export, import, verify};
use crate::experiment::CancelFlag;
use crate::node::tables::{ClusterFileError, read_cluster_file};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Writes all keys and values of a cluster to a file.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct ExportArgs {
    /// The file to write; it appears when it is whole
    pub file: PathBuf,
    /// Cluster file [default: distkv-cluster/cluster.toml]
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

/// Writes all keys and values of a file into a cluster.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub struct ImportArgs {
    /// A file that 'distkv export' has written; it is checked as a whole before anything is done
    pub file: PathBuf,
    /// Cluster file [default: distkv-cluster/cluster.toml]
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Leave keys alone that the cluster has
    #[arg(long)]
    pub only_absent: bool,
}

/// Rows that were not carried.
#[derive(Debug, Error)]
pub enum CarryCommandError {
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// There is one, and nobody said to replace it.
    #[error("{0} is there already: give another name, or --force to replace it")]
    Exists(PathBuf),
    /// A file cannot be made, read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not all rows were carried.
    #[error("{file}: {source}")]
    Carry {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        source: CarryError,
    },
}

/// Runs `distkv export` until it is done or `cancel` is set; an unfinished file is removed.
///
/// # Errors
/// [`CarryCommandError`] that names the file and the key.
pub fn run_export(args: &ExportArgs, cancel: &CancelFlag) -> Result<(), CarryCommandError> {
    let cluster = Arc::new(read_cluster_file(&super::cluster_file(args.cluster.as_ref()))?);
    if args.file.exists() && !args.force {
        return Err(CarryCommandError::Exists(args.file.clone()));
    }
    let mut part = args.file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_export(args, &cluster, &part, cancel);
    if written.is_err() {
        // What failed is said; a leftover would only add to it.
        let _ = std::fs::remove_file(&part);
    }
    let done = written?;
    println!("{} rows, {} of keys and values", done.rows, HumanBytes(done.bytes));
    Ok(())
}

fn write_export(
    args: &ExportArgs,
    cluster: &Arc<crate::config::ClusterConfig>,
    part: &Path,
    cancel: &CancelFlag,
) -> Result<Carried, CarryCommandError> {
    let io = |source| CarryCommandError::Io { file: args.file.clone(), source };
    let failed = |source| CarryCommandError::Carry { file: args.file.clone(), source };
    let mut client = Client::new(cluster, Duration::from_secs(args.timeout))
        .map_err(|error| failed(error.into()))?;
    let file = File::create(part).map_err(io)?;
    let bar = ProgressBar::new_spinner();
    let shown = |sum: Carried| {
        bar.set_message(format!("{} rows, {}", sum.rows, HumanBytes(sum.bytes)));
        bar.tick();
        !cancel.is_cancelled()
    };
    let exported = export(&mut client, BufWriter::new(file), shown);
    bar.finish_and_clear();
    let (done, out) = exported.map_err(failed)?;
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    std::fs::rename(part, &args.file).map_err(io)?;
    Ok(done)
}

/// Runs `distkv import` until it is done or `cancel` is set.
///
/// # Errors
/// [`CarryCommandError`] that names the file and the key. What was written before it stays; to import
/// again does no harm.
pub fn run_import(args: &ImportArgs, cancel: &CancelFlag) -> Result<(), CarryCommandError> {
    let cluster = Arc::new(read_cluster_file(&super::cluster_file(args.cluster.as_ref()))?);
    let failed = |source| CarryCommandError::Carry { file: args.file.clone(), source };
    let open = || {
        let io = |source| CarryCommandError::Io { file: args.file.clone(), source };
        File::open(&args.file).map(BufReader::new).map_err(io)
    };
    let whole = verify(&cluster, open()?).map_err(failed)?;
    let bar = ProgressBar::new(whole.rows);
    let template = "{bar:30} {pos}/{len} rows, {per_sec}, about {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    let shown = |sum: Carried| {
        bar.set_position(sum.rows + sum.skipped);
        !cancel.is_cancelled()
    };
    let timeout = Duration::from_secs(args.timeout);
    let imported = import(&cluster, timeout, open()?, args.only_absent, shown);
    bar.finish_and_clear();
    let done = imported.map_err(failed)?;
    let skipped = match done.skipped {
        0 => String::new(),
        count => format!("; {count} left alone, their keys are there"),
    };
    println!("{} rows, {} of keys and values{skipped}", done.rows, HumanBytes(done.bytes));
    Ok(())
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  distkv export backup.rows
  distkv export --cluster old/cluster.toml backup.rows
  distkv import --cluster new/cluster.toml backup.rows
Each page of rows is read linearizably. While others write, the file holds of every key that
is changed meanwhile one of its values, or none if it came or went; it is no snapshot of one
moment. Versions and sessions are not exported.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  distkv import backup.rows
  distkv import --only-absent --cluster new/cluster.toml backup.rows
Rows get new versions. A second import of the same file does no harm: start it again when it
was stopped.";
