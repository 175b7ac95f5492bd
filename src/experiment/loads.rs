//! The load of a trial as a workload of the generator.
//!
//! Either puts and reads of raw values of the trial's size, or one of YCSB's core workloads with its
//! record count replaced. What YCSB's names mean is the generator's.

use super::measured::failed;
use super::trial::{TrialConfig, TrialError};
use crate::bench::{Arrivals, Properties, Workload};

/// YCSB's core workloads, unchanged, by their letters.
const YCSB: [(&str, &str); 6] = [
    ("a", include_str!("../../workloads/workloada")),
    ("b", include_str!("../../workloads/workloadb")),
    ("c", include_str!("../../workloads/workloadc")),
    ("d", include_str!("../../workloads/workloadd")),
    ("e", include_str!("../../workloads/workloade")),
    ("f", include_str!("../../workloads/workloadf")),
];
/// Of every core workload: ten fields of a hundred bytes.
pub(super) const YCSB_VALUE_BYTES: u64 = 1000;

/// Is it the letter of a core workload?
pub(super) fn is_known(name: &str) -> bool {
    YCSB.iter().any(|(letter, _)| *letter == name)
}

/// How that core workload chooses keys.
pub(super) fn distribution_of(name: &str) -> Option<String> {
    let (_, text) = YCSB.iter().find(|(letter, _)| *letter == name)?;
    let properties = Properties::parse(name, text).ok()?;
    let (workload, _) = Workload::from_properties(&properties).ok()?;
    Some(workload.request_distribution.to_string())
}

/// The workload of a trial.
pub(super) fn workload(trial: &TrialConfig) -> Result<Workload, TrialError> {
    let records = trial.records.max(1);
    let text = match YCSB.iter().find(|(letter, _)| *letter == trial.workload) {
        Some((_, text)) => format!("{text}\nrecordcount={records}\n"),
        None => raw(trial, records),
    };
    let name = if trial.workload.is_empty() { "trial" } else { &trial.workload };
    let properties = Properties::parse(name, &text).map_err(failed)?;
    let (mut workload, _) = Workload::from_properties(&properties).map_err(failed)?;
    // YCSB's files say nothing of it, and an even spacing makes no queue.
    workload.arrivals = Arrivals::Poisson;
    Ok(workload)
}

/// Raw values of the trial's size; in order when every one is to be overwritten.
fn raw(trial: &TrialConfig, records: u64) -> String {
    let choice = if trial.overwrite_rounds > 0 { "sequential" } else { &trial.distribution };
    format!(
        "recordcount={records}\nfieldcount=1\nfieldlength={}\nreadproportion={}\n\
         updateproportion={}\nrequestdistribution={choice}\ndistkv.update=put\n\
         distkv.record=raw\n",
        trial.value_bytes,
        trial.read_share,
        1.0 - trial.read_share,
    )
}
