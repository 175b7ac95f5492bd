//! `distkv bench`: a YCSB workload against a cluster, or against memory to measure the generator.

use super::bench_steps::StepError;
use crate::bench::{
    Arrivals, BenchError, BenchReport, History, HistoryError, OfferedError, OfferedLoad, Phase,
    PhaseConfig, Progress, Target, Workload, WorkloadError, run_phase, warm_up_until_steady,
};
use crate::client::{Client, ClusterTarget, StoreAddress, StoreAddressError, StoreOptions};
use crate::node::tables::{ClusterFileError, read_cluster_file};
use crate::types::ReadMode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;

/// Measures a cluster with a YCSB workload.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Cluster file (TOML) that names the nodes [default: distkv-cluster/cluster.toml]
    #[arg(long, value_name = "FILE")]
    pub cluster: Option<PathBuf>,
    /// Workload: a YCSB property file
    #[arg(long, short = 'P', value_name = "FILE", required_unless_present = "merge")]
    pub workload: Option<PathBuf>,
    /// Sets a workload property over the file's, as often as wanted
    #[arg(short = 'p', value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
    /// Load the records, run the operations, or one after the other
    #[arg(long, value_enum, default_value_t = PhaseChoice::Both)]
    pub phase: PhaseChoice,
    /// Sessions, each with one operation outstanding [default: the workload's threadcount]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=crate::bench::CLIENTS_MAX))]
    pub clients: Option<u64>,
    /// Measured seconds of the run [default: the workload's maxexecutiontime, or no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Operations of the run; 0 for no limit but --duration [default: the workload's
    /// operationcount, or no limit when --duration is given]
    #[arg(long, value_name = "COUNT")]
    pub operations: Option<u64>,
    /// Seconds to run before measuring, or 'steady': until throughput and latency are
    #[arg(long, value_name = "SECONDS|steady", default_value = "0", value_parser = warmup)]
    pub warmup: Warmup,
    /// Longest warm-up until steady; then it measures anyway, and says so
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub warmup_limit: Duration,
    /// Begin the run at this time: RFC 3339 in UTC, or seconds since 1970. For several generators
    #[arg(long, value_name = "TIME", value_parser = super::bench_steps::start_time)]
    pub start_at: Option<SystemTime>,
    /// Open loop: operations per second, a ramp over the measured time, or steps of RATE:SECONDS
    /// [default: the workload's distkv.rate or target; a closed loop without]
    #[arg(long, value_name = "RATE|FROM..TO|RATE:SECONDS,...", conflicts_with = "trace")]
    pub rate: Option<OfferedLoad>,
    /// Open loop: due times from a file, one in seconds per line, or 'seconds rate' pairs
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Open loop: at even distances (fixed) or by chance (poisson) [default: the workload's]
    #[arg(long, value_name = "fixed|poisson")]
    pub arrivals: Option<Arrivals>,
    /// Seed of keys, operations and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the whole result as JSON
    #[arg(long, short = 'o', value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write every operation as a JSON line, for consistency checkers
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// What reads promise: linearizable, lease or eventual
    #[arg(long, value_name = "MODE", default_value_t = ReadMode::Linearizable)]
    pub read_mode: ReadMode,
    /// What to measure: distkv (the cluster of --cluster), redis://HOST:PORT,
    /// etcd://HOST:PORT,HOST:PORT,... or memory (which shows what the generator itself costs)
    #[arg(long, value_name = "STORE", default_value_t = StoreAddress::Distkv)]
    pub target: StoreAddress,
    /// Run nothing: add up the results of generators that ran in step, for --json
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["workload", "dry_run"])]
    pub merge: Vec<PathBuf>,
    /// Run against memory instead of a cluster, as --target memory
    #[arg(long, conflicts_with = "target")]
    pub dry_run: bool,
}

/// How to warm up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warmup {
    /// For a time.
    Fixed(Duration),
    /// Until a test says so.
    Steady,
}

/// Which phases to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PhaseChoice {
    /// Insert the records.
    Load,
    /// Run the operations on records loaded before.
    Run,
    /// Load, then run.
    Both,
}

/// A bench that did not finish.
#[derive(Debug, Error)]
pub enum BenchCommandError {
    /// The workload cannot be run.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The bench broke off.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The load cannot be offered.
    #[error(transparent)]
    Offered(#[from] OfferedError),
    /// The history cannot be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The cluster cannot be reached.
    #[error("cluster {cluster}: {reason}")]
    Cluster {
        /// The cluster file.
        cluster: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Another store cannot be driven.
    #[error(transparent)]
    Store(#[from] StoreAddressError),
    /// The cluster file is wrong.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// A start that has passed, or results that cannot be merged.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Some operations failed.
    #[error("{failed} operations failed; the errors are listed by kind above")]
    Failures {
        /// How many.
        failed: u64,
    },
    /// The result cannot be written.
    #[error("result {file}: {reason}; check the path and the space left on its disk")]
    Result {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// Runs the command.
///
/// # Errors
/// [`BenchCommandError`] that says what to do.
pub fn run(args: &BenchArgs) -> Result<(), BenchCommandError> {
    let Some(file) = &args.workload else { return merge(args) };
    let (mut workload, warnings) = Workload::load(file, &args.properties)?;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    workload.arrivals = args.arrivals.unwrap_or(workload.arrivals);
    if let Some(load) = offered(args)? {
        workload.offered = Some(load);
    }
    let config = phase_config(args, &workload);
    let mut target = open_target(args, config.clients, &workload)?;
    let is_history_wanted = args.history.is_some();
    let mut history = args.history.as_deref().map(History::create).transpose()?;
    if let Some(history) = &mut history {
        history.read_mode = args.read_mode;
    }
    let phases: &[Phase] = match args.phase {
        PhaseChoice::Load => &[Phase::Load],
        PhaseChoice::Run => &[Phase::Run],
        PhaseChoice::Both => &[Phase::Load, Phase::Run],
    };
    let mut report = BenchReport {
        schema_version: BenchReport::SCHEMA_VERSION,
        seed: args.seed,
        request_distribution: workload.request_distribution,
        update: workload.update,
        clients: config.clients,
        is_dry_run: store(args) == StoreAddress::Memory,
        target: store(args).to_string(),
        read_mode: args.read_mode,
        workload,
        merged_seeds: Vec::new(),
        warmup: None,
        phases: Vec::new(),
    };
    target.set_read_mode(args.read_mode);
    for phase in phases {
        // A record that is missing spoils the run. In a history every attempt would be a line.
        let is_retried = *phase == Phase::Load && !is_history_wanted;
        target.set_put_attempts(if is_retried { LOAD_ATTEMPTS } else { 1 });
        if *phase == Phase::Run {
            super::bench_steps::wait_for(args.start_at)?;
            if args.warmup == Warmup::Steady {
                report.warmup = Some(warm_up_until_steady(
                    target.as_mut(),
                    &report.workload,
                    &config,
                    args.warmup_limit,
                    &mut |_| {},
                )?);
            }
        }
        report.phases.push(run_phase(
            target.as_mut(),
            &report.workload,
            *phase,
            &config,
            history.as_mut(),
            &mut progress_printer(report.workload.status_interval_seconds),
        )?);
    }
    if report.is_dry_run && config.offered.is_none() {
        // As fast as the generator can is what such a run is for.
        report.phases.iter_mut().for_each(|phase| phase.invalid.clear());
    }
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if report.workload.histogram_file_output {
        write_hlogs(args, &report)?;
    }
    print!("{report}");
    let failed = report.phases.iter().map(|phase| phase.failures).sum();
    if failed > 0 { Err(BenchCommandError::Failures { failed }) } else { Ok(()) }
}

/// Opens what the bench drives, with `clients` sessions numbered from 0.
fn open_target(
    args: &BenchArgs,
    clients: usize,
    workload: &Workload,
) -> Result<Box<dyn Target>, BenchCommandError> {
    let store = store(args);
    if store != StoreAddress::Distkv {
        let has_scans = workload.proportions.scan > 0.0;
        let options = StoreOptions { clients, timeout: OPERATION_TIMEOUT, has_scans, cancel: None };
        return Ok(store.open(&options)?);
    }
    let file = super::cluster_file(args.cluster.as_ref());
    let cluster = Arc::new(read_cluster_file(&file)?);
    let refused =
        |reason: String| BenchCommandError::Cluster { cluster: file.display().to_string(), reason };
    // Said now, and not by every operation's timeout.
    let mut probe =
        Client::new(&cluster, PROBE_TIMEOUT).map_err(|error| refused(error.to_string()))?;
    let statuses = probe.statuses().map_err(|error| refused(error.to_string()))?;
    if statuses.iter().all(|(_, status)| status.is_none()) {
        return Err(refused("no node answers; start them with 'distkv cluster'".to_owned()));
    }
    let target = ClusterTarget::new(&cluster, clients, OPERATION_TIMEOUT)
        .map_err(|error| refused(error.to_string()))?;
    Ok(Box::new(target))
}

/// The load that the options ask for, where they do.
fn offered(args: &BenchArgs) -> Result<Option<OfferedLoad>, OfferedError> {
    match (&args.trace, &args.rate) {
        (Some(path), _) => OfferedLoad::read_trace(path).map(Some),
        (None, rate) => Ok(rate.clone()),
    }
}

fn store(args: &BenchArgs) -> StoreAddress {
    if args.dry_run { StoreAddress::Memory } else { args.target.clone() }
}

fn phase_config(args: &BenchArgs, workload: &Workload) -> PhaseConfig {
    let limit = Duration::from_secs(workload.max_execution_seconds);
    // Steps and traces have an end of their own.
    let has_end = workload.offered.as_ref().is_some_and(|load| load.duration().is_some());
    let operations = match args.operations {
        Some(operations) => operations,
        None if args.duration.is_some() || has_end => 0,
        None => workload.operation_count,
    };
    PhaseConfig {
        clients: args
            .clients
            .and_then(|clients| usize::try_from(clients).ok())
            .unwrap_or(workload.thread_count),
        seed: args.seed,
        warmup: match args.warmup {
            Warmup::Fixed(span) => span,
            Warmup::Steady => Duration::ZERO,
        },
        operations: Some(operations).filter(|operations| *operations > 0),
        duration: args.duration.or(Some(limit).filter(|limit| !limit.is_zero())),
        offered: workload.offered.clone(),
        ..PhaseConfig::default()
    }
}

fn progress_printer(interval_seconds: u64) -> impl FnMut(Progress) {
    let mut next = Duration::from_secs(interval_seconds);
    move |progress| {
        if progress.elapsed >= next {
            next = progress.elapsed + Duration::from_secs(interval_seconds);
            eprintln!(
                "{} {:.0} s: {} operations, {} failed",
                progress.phase,
                progress.elapsed.as_secs_f64(),
                progress.operations,
                progress.failures
            );
        }
    }
}

fn write_json(path: &Path, report: &BenchReport) -> Result<(), BenchCommandError> {
    let refused =
        |reason: String| BenchCommandError::Result { file: path.display().to_string(), reason };
    let text = serde_json::to_string_pretty(report).map_err(|error| refused(error.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|error| refused(error.to_string()))
}

/// One `.hlog` per phase, beside the JSON result or else in the current folder.
fn write_hlogs(args: &BenchArgs, report: &BenchReport) -> Result<(), BenchCommandError> {
    let base = args.json.clone().unwrap_or_else(|| PathBuf::from("bench.json"));
    for phase in &report.phases {
        let path = base.with_extension(format!("{}.hlog", phase.phase));
        let refused =
            |reason: String| BenchCommandError::Result { file: path.display().to_string(), reason };
        let mut text = Vec::new();
        phase.write_hlog(&mut text).map_err(|error| refused(error.to_string()))?;
        std::fs::write(&path, text).map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

fn merge(args: &BenchArgs) -> Result<(), BenchCommandError> {
    let report = super::bench_steps::merged(&args.merge)?;
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    print!("{report}");
    Ok(())
}

fn warmup(text: &str) -> Result<Warmup, String> {
    if text == "steady" { Ok(Warmup::Steady) } else { seconds(text).map(Warmup::Fixed) }
}

/// Seconds as `30`, `2.5`, `500ms`, `30s` or `2m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let scale = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("'{text}': write seconds as 30, 2.5, 500ms, 30s or 2m")),
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
        .filter(|span| *span <= Duration::from_secs(10_000_000))
        .ok_or_else(|| format!("'{text}': write seconds as 30, 2.5, 500ms, 30s or 2m"))
}

const LOAD_ATTEMPTS: u32 = 3;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const EXAMPLES: &str = "\
Examples:
  Load and run YCSB A with 64 sessions for 30 s after 5 s of warm-up:
    distkv bench --cluster cluster.toml --workload workloads/workloada \\
      -p recordcount=100000 --clients 64 --duration 30 --warmup 5 --json a.json
  Blind puts of 64 KiB at 500 per second, arriving by chance, for a minute:
    distkv bench --cluster cluster.toml --workload workloads/put-64k \\
      --rate 500 --arrivals poisson --clients 64 --duration 60
  From 1,000 to 20,000 per second over 30 s; then 1,000 for 5 s and 5,000 for 5 s:
    distkv bench --cluster cluster.toml --workload workloads/put-1k --rate 1000..20000 --duration 30
    distkv bench --cluster cluster.toml --workload workloads/put-1k --rate 1000:5,5000:5
  The same load against other stores:
    distkv bench --target redis://127.0.0.1:6379 --workload workloads/workloada --duration 30
    distkv bench --target etcd://127.0.0.1:2379,127.0.0.1:2381 --workload workloads/workloada
  Two generators in step, each with its own seed, and their results as one:
    distkv bench --workload workloads/workloada --phase run --seed 1 --duration 30 \\
      --start-at 2026-05-01T12:00:00Z -o a.json     (and with --seed 2, -o b.json beside it)
    distkv bench --merge a.json b.json -o both.json
  What the generator itself costs per operation:
    distkv bench --workload workloads/workloadb --clients 64 --operations 1000000 --dry-run";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn args(text: &str) -> BenchArgs {
        Command::try_parse_from(text.split(' ')).unwrap().args
    }

    #[test]
    fn a_dry_run_writes_its_result_history_and_logs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloadf");
        let text = format!(
            "bench --workload {workload} -p recordcount=50 -p hdrhistogram.fileoutput=true \
             --clients 4 --operations 200 --dry-run --json {} --history {}",
            at("r.json"),
            at("h.jsonl")
        );
        run(&args(&text)).unwrap();
        let report = std::fs::read_to_string(at("r.json")).unwrap();
        let report: BenchReport = serde_json::from_str(&report).unwrap();
        assert!(report.is_dry_run && report.clients == 4);
        assert_eq!((report.phases[0].operations, report.phases[1].operations), (50, 200));
        assert!(std::fs::read_to_string(at("h.jsonl")).unwrap().lines().count() >= 250);
        assert!(folder.path().join("r.load.hlog").exists());
        assert!(folder.path().join("r.run.hlog").exists());
    }

    #[test]
    fn a_duration_lifts_the_files_operation_count() {
        let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloada");
        let (loaded, _) = Workload::load(Path::new(workload), &[]).unwrap();
        let config = |extra: &str| {
            phase_config(&args(&format!("bench --workload {workload} --dry-run{extra}")), &loaded)
        };
        assert_eq!(config("").operations, Some(1000));
        assert_eq!(config(" --duration 2m").operations, None);
        assert_eq!(config(" --duration 2m").duration, Some(Duration::from_secs(120)));
        assert_eq!(config(" --duration 5 --operations 7").operations, Some(7));
        assert_eq!(config(" --operations 0").operations, None);
        assert_eq!(config(" --rate 500").operations, Some(1000));
    }

    #[test]
    fn loads_are_offered_by_option_and_by_property() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("due.trace");
        std::fs::write(&trace, "0\n0.01\n0.02\n").unwrap();
        let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloada");
        let report = |extra: &str| {
            let json = folder.path().join("r.json").display().to_string();
            let text = format!(
                "bench --workload {workload} -p recordcount=10 --clients 2 --dry-run --json {json}"
            );
            run(&args(&format!("{text} {extra}"))).unwrap();
            let text = std::fs::read_to_string(&json).unwrap();
            serde_json::from_str::<BenchReport>(&text).unwrap().phases.remove(1)
        };
        let trace = trace.display().to_string();
        for extra in [format!("--trace {trace}"), format!("-p distkv.trace={trace}")] {
            let phase = report(&extra);
            assert_eq!(phase.operations, 3);
            assert!(matches!(phase.offered, Some(OfferedLoad::Trace { count: 3, .. })));
        }
        for extra in ["--rate 100:0.1,400:0.1", "-p distkv.rate=100:0.1,400:0.1"] {
            let phase = report(&format!("{extra} --arrivals fixed"));
            // On a busy machine some of the 50 come too late for the window.
            assert!((1..=50).contains(&phase.operations), "{}", phase.operations);
            assert!(matches!(phase.offered, Some(OfferedLoad::Steps(steps)) if steps.len() == 2));
        }
        let none = "bench --workload w --rate 5 --trace t --dry-run";
        assert!(Command::try_parse_from(none.split(' ')).is_err());
        let bad = args(&format!("bench --workload {workload} -p distkv.rate=fast --dry-run"));
        let error = run(&bad).unwrap_err().to_string();
        assert!(error.contains("distkv.rate=fast") && error.contains("1000..20000"), "{error}");
        let ramp = args(&format!("bench --workload {workload} --rate 1..5 --dry-run"));
        assert!(run(&ramp).unwrap_err().to_string().contains("--duration"));
    }

    #[test]
    fn generators_in_step_are_merged_without_loss() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let workload = concat!(env!("CARGO_MANIFEST_DIR"), "/workloads/workloada");
        for (seed, name) in [(1, "a.json"), (2, "b.json")] {
            let text = format!(
                "bench --workload {workload} --seed {seed} --clients 3 --operations 500 --dry-run \
                 -o {}",
                at(name)
            );
            run(&args(&text)).unwrap();
        }
        run(&args(&format!("bench --merge {} {} -o {}", at("a.json"), at("b.json"), at("c.json"))))
            .unwrap();
        let report = |name: &str| {
            let text = std::fs::read_to_string(at(name)).unwrap();
            serde_json::from_str::<BenchReport>(&text).unwrap()
        };
        let (merged, parts) = (report("c.json"), [report("a.json"), report("b.json")]);
        assert_eq!((merged.clients, &merged.merged_seeds[..]), (6, &[1, 2][..]));
        assert_eq!(merged.phases[1].operations, 1000);
        let read = |report: &BenchReport| report.phases[1].metrics[0].latency.clone().unwrap();
        assert_eq!(read(&merged).count, parts.iter().map(|part| read(part).count).sum::<u64>());
        let error = run(&args(&format!("bench --merge {}", at("none.json")))).unwrap_err();
        assert!(error.to_string().contains("none.json"), "{error}");
        assert!(Command::try_parse_from(["bench"]).is_err(), "a workload or --merge");
    }

    #[test]
    fn seconds_have_units() {
        for (text, millis) in [("30", 30_000), ("2.5", 2500), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)));
        }
        for bad in ["", "s", "-1", "1h", "1e99", "NaN"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
