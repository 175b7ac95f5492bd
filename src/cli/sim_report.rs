//! What `distkv sim` did, as lines for people and as JSON.

use crate::sim::Totals;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// All runs of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// Seeds run.
    pub(super) seeds: u64,
    pub(super) wall: Duration,
    pub(super) cpu_seconds: f64,
    /// Of the seeds that passed.
    pub(super) totals: Totals,
    /// Seeds that failed, and why.
    pub(super) failures: Vec<(u64, String)>,
}

impl Report {
    fn operations_per_cpu_second(&self) -> f64 {
        if self.cpu_seconds > 0.0 {
            self.totals.operation_count() as f64 / self.cpu_seconds
        } else {
            0.0
        }
    }

    /// As one JSON object.
    pub(super) fn to_json(&self) -> Value {
        let Totals {
            operations,
            outcomes,
            faults,
            effects,
            network,
            clocks,
            power_cut_writes,
            elections,
            starts,
            slots,
            rebuilt,
            reclaimed,
            restored,
            repaired,
            searched,
            gave_up,
            judged,
            judged_serving,
            claims,
            held,
            steps,
            virtual_time,
            longest_silence,
            longest_short,
            datagrams,
            trace_hash,
        } = &self.totals;
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(seed, what)| json!({ "seed": seed, "what": what }))
            .collect();
        json!({
            "schema_version": 1,
            "seeds": self.seeds,
            "failures": failures,
            "wall_seconds": self.wall.as_secs_f64(),
            "cpu_seconds": self.cpu_seconds,
            "virtual_seconds": virtual_time.as_secs_f64(),
            "operations_per_cpu_second": self.operations_per_cpu_second(),
            "operations": operations,
            "outcomes": outcomes,
            "faults": faults,
            "faults_with_effect": effects,
            "network": network,
            "clocks": clocks,
            "power_cut_writes": power_cut_writes,
            "elections": elections,
            "starts": starts,
            "slots": slots,
            "rebuilt": rebuilt,
            "reclaimed_slots": reclaimed,
            "snapshots_taken_in": restored,
            "shards_recorded_anew": repaired,
            "keys_searched": searched,
            "searches_given_up": gave_up,
            "disks_judged": judged,
            "disks_judged_serving": judged_serving,
            "claims_checked": claims,
            "holdings_checked": held,
            "steps_checked": steps,
            "longest_silence_seconds": longest_silence.as_secs_f64(),
            "longest_with_missing_seconds": longest_short.as_secs_f64(),
            "datagrams": datagrams,
            "trace_hash": format!("{trace_hash:016x}"),
        })
    }
}

/// Prints it for people.
pub(super) fn print(report: &Report) {
    let totals = &report.totals;
    println!(
        "{} seeds in {:.1} s ({:.1} s of CPU), {:.0} s of virtual time",
        report.seeds,
        report.wall.as_secs_f64(),
        report.cpu_seconds,
        totals.virtual_time.as_secs_f64()
    );
    println!("operations  {}", sum_and_list(&totals.operations));
    println!("outcomes    {}", list(&totals.outcomes));
    let faults: u64 = totals.faults.values().sum();
    let effects: u64 = totals.effects.values().sum();
    println!("faults      {faults}, {effects} of them with an effect:");
    for (kind, count) in &totals.faults {
        let met = totals.effects.get(kind).copied().unwrap_or(0);
        println!("            {count:>7} {kind}, {met} with an effect");
    }
    println!("network     {} datagrams: {}", totals.datagrams, list(&totals.network));
    println!("clocks      {}", list(&totals.clocks));
    println!("power cuts  of unsynced writes {}", list(&totals.power_cut_writes));
    println!(
        "clusters    {} starts of nodes, {} elections, {} slots applied, {} values rebuilt",
        totals.starts, totals.elections, totals.slots, totals.rebuilt
    );
    println!(
        "storage     {} slots reclaimed, {} snapshots taken in, {} values' shards recorded anew",
        totals.reclaimed, totals.restored, totals.repaired
    );
    println!(
        "checked     order of all operations; {} keys searched for a linear order, {} given up; \
         {} disks held against the bound on storage, {} of them while a peer fetched their \
         snapshot; {} records of applied slots, {} live values on enough nodes; invariants after \
         {} steps",
        totals.searched,
        totals.gave_up,
        totals.judged,
        totals.judged_serving,
        totals.claims,
        totals.held,
        totals.steps
    );
    println!(
        "missing     with as many nodes missing as may be every client wrote and read all keys \
         within {:.1} s",
        totals.longest_short.as_secs_f64()
    );
    println!("trace hash  {:016x}", totals.trace_hash);
    println!("speed       {:.0} operations per CPU second", report.operations_per_cpu_second());
    for (seed, what) in report.failures.iter().take(FAILURES_SHOWN) {
        println!("seed {seed}: {what}");
    }
}

fn list(counts: &BTreeMap<&'static str, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    parts.join(", ")
}

fn sum_and_list(counts: &BTreeMap<&'static str, u64>) -> String {
    format!("{}: {}", counts.values().sum::<u64>(), list(counts))
}

const FAILURES_SHOWN: usize = 5;
