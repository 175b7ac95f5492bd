//! Where the numbers come from: marks, machine, invalid trials, citation.

use super::escaped;
use crate::experiment::spec::{Experiment, PROFILES, seedless};
use crate::report::result::{Provenance, TrialResult};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a reader must know of the run at once.
pub(super) fn marks(results: &[TrialResult]) -> String {
    let machine = || results.iter().map(|result| &result.provenance);
    let simulated = machine().filter(|one| one.simulated).count();
    let mut marks = vec![format!("{} trials", results.len())];
    if machine().any(|one| one.shared_machine && !one.simulated) {
        marks.push("all nodes of a trial share one machine".to_owned());
    }
    if simulated > 0 {
        marks.push(format!("{simulated} trials simulated"));
    }
    if machine().any(|one| one.dirty) {
        marks.push("built with uncommitted changes".to_owned());
    }
    let build = |one: &Provenance| one.source.clone().unwrap_or_else(|| one.commit.clone());
    let builds: BTreeSet<String> = machine().map(build).collect();
    if builds.len() > 1 {
        marks.push(format!("trials of {} builds", builds.len()));
    }
    let mark = |text: &String| format!("<span class=\"mark\">{}</span>", escaped(text));
    marks.iter().map(mark).collect::<Vec<_>>().join(" ")
}

/// The profile whose points hold all of these trials, whatever their seeds.
pub(super) fn profile_of<'a>(
    experiment: &Experiment,
    results: impl Iterator<Item = &'a TrialResult>,
) -> Option<&'static str> {
    let measured: BTreeSet<String> = results.map(|result| seedless(&result.trial.config)).collect();
    PROFILES.into_iter().find(|name| measured.is_subset(&experiment.points_under(name)))
}

/// Every value of every property, with the number of trials.
pub(super) fn table(results: &[TrialResult]) -> String {
    let mut properties: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for result in results {
        let one = &result.provenance;
        let versions = one.crate_versions.iter().map(|(name, version)| format!("{name} {version}"));
        let day = one.started_at.split('T').next().unwrap_or_default();
        let kind = if one.simulated { "simulated" } else { "measured" };
        let place = if one.shared_machine { "one machine" } else { "a machine each" };
        let dirty = if one.dirty { " with uncommitted changes" } else { "" };
        for (name, value) in [
            ("commit", format!("{}{dirty}", one.commit)),
            ("source digest", one.source.clone().unwrap_or_default()),
            ("compiler", one.rustc.clone().unwrap_or_default()),
            ("versions", versions.collect::<Vec<_>>().join(", ")),
            ("other store", one.store_version.clone().unwrap_or_default()),
            ("CPU", format!("{} ({} logical cores)", one.cpu_model, one.cores)),
            ("memory", format!("{:.1} GiB", one.memory_bytes as f64 / f64::from(1 << 30))),
            ("kernel", one.kernel.clone()),
            ("frequency governor", one.governor.clone()),
            ("disk", one.disk.clone()),
            ("file system", one.file_system.clone()),
            ("durability", one.durability.clone()),
            ("nodes", place.to_owned()),
            ("trials", kind.to_owned()),
            ("day", day.to_owned()),
        ] {
            if !value.is_empty() {
                *properties.entry(name).or_default().entry(value).or_default() += 1;
            }
        }
    }
    let mut text = "<div class=\"scroll\"><table><thead><tr><th>property</th><th>value</th>\
        <th>trials</th></tr></thead><tbody>\n"
        .to_owned();
    for (name, values) in properties {
        for (value, count) in values {
            let value = escaped(&value);
            let _ = writeln!(text, "<tr><td>{name}</td><td>{value}</td><td>{count}</td></tr>");
        }
    }
    text + "</tbody></table></div>"
}

/// Every trial that does not count, and why.
pub(super) fn invalid(results: &[TrialResult]) -> String {
    let invalid: Vec<&TrialResult> = results.iter().filter(|result| !result.is_valid()).collect();
    if invalid.is_empty() {
        return "<p>None.</p>".to_owned();
    }
    let mut text = "<div class=\"scroll\"><table><thead><tr><th>experiment</th><th>trial</th>\
        <th>repeat</th><th>parameters</th><th>why</th></tr></thead><tbody>\n"
        .to_owned();
    for result in invalid {
        let config = &result.trial.config;
        let bytes = config.value_bytes;
        let parameters = format!("{} {} {bytes} B, N={}", config.policy, config.code, config.nodes);
        let reasons = escaped(&result.invalid_reasons.join("; "));
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{reasons}</td></tr>",
            escaped(&result.trial.experiment),
            escaped(&result.id),
            result.trial.repeat,
            escaped(&parameters),
        );
    }
    text + "</tbody></table></div>"
}

/// A BibTeX entry of the program at the commits that made the results.
pub(super) fn citation(results: &[TrialResult]) -> String {
    let commits: BTreeSet<&str> =
        results.iter().map(|result| result.provenance.commit.as_str()).collect();
    let commits = commits.into_iter().collect::<Vec<_>>().join(", ");
    let year = results.iter().map(|result| result.provenance.started_at.as_str()).max();
    let year = year.and_then(|start| start.split('-').next()).unwrap_or_default();
    let entry = format!(
        "@software{{distkv,\n  title = {{DistKV: Multi-Paxos with erasure coding, measured}},\n  \
         version = {{{}}},\n  year = {{{year}}},\n  note = {{commit {commits}}}\n}}",
        env!("CARGO_PKG_VERSION"),
    );
    format!(
        "<p>Name the commit and this run's environment: other hardware gives other numbers.</p>\n\
         <pre><code>{}</code></pre>",
        escaped(&entry)
    )
}
