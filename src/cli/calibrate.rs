//! `distkv calibrate`: what things cost on this machine, for experiments in virtual time.

use crate::experiment::calibrate::{CalibrationError, calibrate, trials};
use crate::experiment::{CancelFlag, TrialLauncher};
use crate::report::result::{ResultError, write_atomically};
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Measures this machine's disk, wake-ups and CPU costs, and how well a simulation with them fits.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CalibrateArgs {
    /// Where the costs go
    #[arg(long, value_name = "FILE", default_value = "experiments/calibration.json")]
    pub out: PathBuf,
    /// Folder for the trials' data, on the disk to be measured; removed in the end
    #[arg(long, value_name = "DIR", default_value = "calibration-work")]
    pub data: PathBuf,
    /// Measured milliseconds of each of the 24 real trials
    #[arg(long, value_name = "MS", default_value_t = 1500)]
    pub duration_ms: u64,
}

/// A calibration that was not made.
#[derive(Debug, Error)]
pub enum CalibrateCommandError {
    /// The measurement.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The file.
    #[error(transparent)]
    File(#[from] ResultError),
    /// The folder is there.
    #[error("{0} exists: give another --data, what is in it would be removed")]
    Exists(String),
    /// A folder.
    #[error("{dir}: {source}")]
    Io {
        /// Which.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
    /// The JSON cannot be made.
    #[error("calibration as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Runs the command.
///
/// # Errors
/// [`CalibrateCommandError`] that says what to do.
pub fn run(
    args: &CalibrateArgs,
    launcher: &mut dyn TrialLauncher,
    cancel: &CancelFlag,
) -> Result<(), CalibrateCommandError> {
    let dir = args.data.display().to_string();
    if args.data.exists() {
        return Err(CalibrateCommandError::Exists(dir));
    }
    let io = |source| CalibrateCommandError::Io { dir: dir.clone(), source };
    std::fs::create_dir_all(&args.data).map_err(io)?;
    let wanted = trials(Duration::from_millis(args.duration_ms));
    let made = calibrate(launcher, &args.data, &wanted, cancel, &mut |line| eprintln!("{line}"));
    std::fs::remove_dir_all(&args.data).map_err(io)?;
    let made = made?;
    write_atomically(&args.out, (serde_json::to_string_pretty(&made)? + "\n").as_bytes())?;
    let (worst, median) = made.throughput_errors();
    println!("{:#?}", made.costs);
    println!(
        "simulated throughput differs from the measured one by {:.0} % (median) and {:.0} % (at \
         most) over {} trials; costs in {}",
        100.0 * median,
        100.0 * worst,
        made.points.len(),
        args.out.display()
    );
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  This machine's costs, about two minutes; leave it alone meanwhile:
    distkv calibrate
  Then any experiment in virtual time, with each node on a machine of its own:
    distkv reproduce --only E6 --set target=sim --set placement=apart";
