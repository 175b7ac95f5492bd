//! The trials of a figure: selected, and grouped by series, then by place on the axes.

use super::{Origin, Ratio};
use crate::experiment::spec::Experiment;
use crate::experiment::trial::TrialKind;
use crate::report::figure_spec::{FigureKind, FigureSpec};
use crate::report::remarks::remarks;
use crate::report::result::TrialResult;
use crate::report::stats::RANGE_BELOW;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// A result with its parameters by name.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The result.
    pub result: &'a TrialResult,
    parameters: Value,
}

/// The ids of two results that claim the same point and repeat with other parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed {
    /// A result.
    pub one: String,
    /// The other.
    pub other: String,
}

/// The trials of a figure.
pub(super) struct Grid<'a> {
    /// Values on the x axis in order; one null when the kind has none.
    pub xs: Vec<Value>,
    /// Values on a second axis in order; one null when the kind has none.
    pub ys: Vec<Value>,
    /// Never empty cells; the baseline first.
    pub groups: Vec<Group<'a>>,
    /// Left out.
    pub invalid_count: usize,
    /// Series and x of those left out that nothing else stands for, in words.
    pub absent: Vec<String>,
}

/// The trials of one series.
pub(super) struct Group<'a> {
    /// Values of the series' parameters.
    pub key: Vec<Value>,
    /// In the legend, without the mark of simulation.
    pub name: String,
    /// From the simulator?
    pub simulated: bool,
    /// By index on both axes, then by repeat.
    pub cells: BTreeMap<(usize, usize), BTreeMap<u32, &'a TrialResult>>,
}

impl<'a> Row<'a> {
    /// The row of a result.
    #[must_use]
    pub fn of(result: &'a TrialResult) -> Self {
        let parameters = serde_json::to_value(&result.trial.config).unwrap_or_default();
        Self { result, parameters }
    }

    /// A parameter's value; null when there is none of that name.
    #[must_use]
    pub fn parameter(&self, key: &str) -> &Value {
        self.parameters.get(key).unwrap_or(&Value::Null)
    }

    fn is_selected(&self, experiment: &Experiment, spec: &FigureSpec) -> bool {
        self.result.trial.experiment == experiment.id
            && spec.only.iter().all(|(key, wanted)| {
                let wanted = serde_json::to_value(wanted).unwrap_or_default();
                same(self.parameter(key), &wanted)
            })
    }
}

/// `redis at c`, or `craft at 50 Mbit/s and 1 KiB`: where there are invalid trials alone.
fn absent(spec: &FigureSpec, y_axis: &str, invalid: &[&Row<'_>], used: &[&Row<'_>]) -> Vec<String> {
    let keys: Vec<&str> =
        [spec.x.as_str(), y_axis].into_iter().filter(|key| !key.is_empty()).collect();
    let place = |row: &Row<'_>| {
        let key: Vec<Value> = spec.series.iter().map(|key| row.parameter(key).clone()).collect();
        let at = keys.iter().map(|key| row.parameter(key).clone());
        (key, at.collect::<Vec<Value>>())
    };
    let present: Vec<_> = used.iter().map(|row| place(row)).collect();
    let is_absent = |row: &&&Row<'_>| !present.contains(&place(row));
    let text = |row: &&Row<'_>| {
        let (key, values) = place(row);
        let at = keys.iter().zip(&values).map(|(key, value)| parameter_text(key, value));
        match at.collect::<Vec<_>>().join(" and ") {
            nowhere if nowhere.is_empty() => series_name(spec, &key),
            at => format!("{} at {at}", series_name(spec, &key)),
        }
    };
    let names: BTreeSet<String> = invalid.iter().filter(is_absent).map(text).collect();
    names.into_iter().collect()
}

impl<'a> Grid<'a> {
    pub fn of(experiment: &Experiment, spec: &FigureSpec, rows: &[Row<'a>]) -> Result<Self, Mixed> {
        let selected = rows.iter().filter(|row| row.is_selected(experiment, spec));
        let (valid, invalid): (Vec<&Row<'a>>, Vec<&Row<'a>>) =
            selected.partition(|row| row.result.is_valid());
        let used: Vec<&Row<'a>> =
            valid.into_iter().filter(|row| has_what_is_plotted(spec, row.result)).collect();
        let y_axis = match &spec.kind {
            FigureKind::Surface { y_axis, .. } => y_axis.as_str(),
            FigureKind::Lines
            | FigureKind::Bars
            | FigureKind::Stacked { .. }
            | FigureKind::Timeline
            | FigureKind::Cdf => "",
        };
        let mut grid = Self {
            xs: axis(&spec.x, &used),
            ys: axis(y_axis, &used),
            groups: Vec::new(),
            invalid_count: invalid.len(),
            absent: absent(spec, y_axis, &invalid, &used),
        };
        for row in used {
            grid.insert(spec, y_axis, row)?;
        }
        let baseline = experiment.baseline.as_deref();
        grid.groups.sort_by_cached_key(|group| {
            let is_other = Some(group.name.as_str()) != baseline;
            (group.simulated, is_other, group.rank(), group.name.clone())
        });
        Ok(grid)
    }

    fn insert(&mut self, spec: &FigureSpec, y_axis: &str, row: &Row<'a>) -> Result<(), Mixed> {
        let place = |axis: &[Value], key: &str| {
            let value = row.parameter(key);
            axis.iter().position(|other| same(other, value)).unwrap_or(0)
        };
        let at = (place(&self.xs, &spec.x), place(&self.ys, y_axis));
        let key: Vec<Value> = spec.series.iter().map(|key| row.parameter(key).clone()).collect();
        let simulated = row.result.provenance.simulated;
        let found = self.groups.iter().position(|g| g.key == key && g.simulated == simulated);
        let index = found.unwrap_or_else(|| {
            let name = series_name(spec, &key);
            self.groups.push(Group { key, name, simulated, cells: BTreeMap::new() });
            self.groups.len() - 1
        });
        let cell = self.groups[index].cells.entry(at).or_default();
        match cell.insert(row.result.trial.repeat, row.result) {
            Some(other) => Err(Mixed { one: other.id.clone(), other: row.result.id.clone() }),
            None => Ok(()),
        }
    }

    /// How the numbers were made.
    pub fn origin(&self) -> Origin {
        let cells = || self.groups.iter().flat_map(|group| group.cells.values());
        let mut origin = Origin {
            trials_min: cells().map(BTreeMap::len).min().unwrap_or(0),
            trials_max: cells().map(BTreeMap::len).max().unwrap_or(0),
            ..Origin::default()
        };
        for result in cells().flat_map(BTreeMap::values) {
            let machine = &result.provenance;
            origin.simulated |= machine.simulated;
            if result.trial.config.kind == TrialKind::Codec {
                continue;
            }
            origin.shared_machine |= machine.shared_machine && !machine.simulated;
            for remark in remarks(result) {
                *origin.remarks.entry(remark).or_default() += 1;
            }
            origin.durability.insert(result.trial.config.durability.clone());
        }
        origin
    }

    /// Is x a name and no number?
    pub fn has_names_on_x(&self) -> bool {
        self.xs.iter().any(|x| !x.is_number())
    }

    /// Where the x of that index is on the axis: its number, or its index.
    pub fn x_at(&self, index: usize) -> f64 {
        let number = (!self.has_names_on_x()).then(|| self.xs[index].as_f64()).flatten();
        number.unwrap_or(index as f64)
    }
}

impl Group<'_> {
    /// With the mark of simulation.
    pub fn legend_name(&self) -> String {
        if self.simulated { format!("{} (sim)", self.name) } else { self.name.clone() }
    }

    /// Known names in the order that readers expect, others after them.
    fn rank(&self) -> usize {
        let first = self.key.iter().find_map(Value::as_str).unwrap_or_default();
        ORDER.iter().position(|known| *known == first).unwrap_or(ORDER.len())
    }
}

/// Names in the order of the legend.
const ORDER: [&str; 15] = [
    "replicate",
    "rs-paxos",
    "craft",
    "crossword",
    "hybrid",
    "reed-solomon-erasure",
    "reed-solomon-simd",
    "rusty-erasure",
    "linearizable",
    "lease",
    "eventual",
    "distkv",
    "etcd",
    "redis",
    "memory",
];

/// Does the result have one number or course at least of what is plotted?
fn has_what_is_plotted(spec: &FigureSpec, result: &TrialResult) -> bool {
    match &spec.kind {
        FigureKind::Timeline => result.phase("run").is_some_and(|run| !run.timeline.is_empty()),
        FigureKind::Lines
        | FigureKind::Bars
        | FigureKind::Stacked { .. }
        | FigureKind::Cdf
        | FigureKind::Surface { .. } => {
            spec.metrics().iter().any(|metric| metric.of(result).is_some())
        }
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        (Some(_) | None, _) => one == other,
    }
}

/// The values of one axis: numbers by size, codes by redundancy (most first) and size, other names
/// as readers expect them.
fn axis(key: &str, rows: &[&Row<'_>]) -> Vec<Value> {
    let mut values: Vec<&Value> = Vec::new();
    for row in rows {
        let value = row.parameter(key);
        if !values.iter().any(|other| same(other, value)) {
            values.push(value);
        }
    }
    values.sort_by(|one, other| order(one, other));
    values.into_iter().cloned().collect()
}

fn order(one: &Value, other: &Value) -> Ordering {
    if let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) {
        return one.total_cmp(&other);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rank = |value: &Value| {
        let text = text(value);
        let code = text.parse::<crate::types::Code>().ok();
        let redundancy = code.map_or(0, |code| {
            let share = 32_000 * u32::from(code.n()) / u32::from(code.k());
            (u32::MAX - share, u32::from(code.n())).0
        });
        let size = code.map_or(0, |code| code.n());
        let known = ORDER.iter().position(|known| *known == text).unwrap_or(ORDER.len());
        (redundancy, size, known, text)
    };
    rank(one).cmp(&rank(other))
}

fn series_name(spec: &FigureSpec, key: &[Value]) -> String {
    let parts = spec.series.iter().zip(key);
    let name = parts.map(|(key, value)| parameter_text(key, value)).collect::<Vec<_>>().join(" ");
    if name.is_empty() { "measured".to_owned() } else { name }
}

/// A parameter's value with its unit, for tables, legends and sentences.
#[must_use]
pub fn parameter_text(key: &str, value: &Value) -> String {
    if key.ends_with("_bytes")
        && let Some(bytes) = value.as_u64()
    {
        return match bytes {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
            bytes if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        };
    }
    let number = value.as_f64().map(|number| number.to_string());
    let name = value.as_str().map(str::to_owned);
    let text = name.or(number).unwrap_or_else(|| value.to_string());
    match key {
        "loss_percent" => text + " %",
        "rate_mbit" if text == "0" => "no limit".to_owned(),
        "rate_mbit" => text + " Mbit/s",
        "delay_ms" => text + " ms",
        "nodes" => format!("N={text}"),
        "clients" => text + " clients",
        "offered_ops_per_s" => text + " op/s",
        "failed_nodes" => text + " failed",
        "records" => text + " records",
        _ => text,
    }
}

impl Ratio {
    /// Where the whole interval lies: above 1, below 1, or neither; None for so few trials that it is
    /// hardly more than their range.
    #[must_use]
    pub fn side(&self) -> Option<Ordering> {
        if self.ratio.trials < RANGE_BELOW {
            return None;
        }
        let (low, high) = (self.ratio.low?, self.ratio.high?);
        Some(match (low > 1.0, high < 1.0) {
            (true, _) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => Ordering::Equal,
        })
    }
}
