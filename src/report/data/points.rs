//! Points over x, and bars made of parts.

use super::grid::{Grid, Group, parameter_text};
use super::{ERROR_SHARE_BOUND, ERRORS};
use crate::report::bound::{Bound, bounds};
use crate::report::figure_spec::FigureSpec;
use crate::report::metric::{Metric, error_share};
use crate::report::remarks::{NOT_STARTED, remarks};
use crate::report::result::TrialResult;
use crate::report::stats::Estimate;
use std::collections::BTreeMap;

/// Points over x.
#[derive(Clone, Debug)]
pub struct Points {
    /// Parameter on the x axis.
    pub x_key: String,
    /// Its label with its unit.
    pub x_label: String,
    /// Texts of the x positions when they are no numbers, or bars.
    pub categories: Option<Vec<String>>,
    /// Drawn as bars?
    pub as_bars: bool,
    /// Lines.
    pub series: Vec<Series>,
    /// What theory allows.
    pub bounds: Vec<Bound>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// From the simulator?
    pub simulated: bool,
    /// By x.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Clone, Debug)]
pub struct Point {
    /// Position: the number, or the index of the category.
    pub x: f64,
    /// As in the table.
    pub x_text: String,
    /// Median and interval.
    pub y: Estimate,
    /// Errors above the bound, or a load that was not all taken in.
    pub hollow: bool,
    /// What a reader must know of it.
    pub notes: Vec<&'static str>,
}

/// Bars made of parts.
#[derive(Clone, Debug)]
pub struct StackedBars {
    /// Label of the x axis.
    pub x_label: String,
    /// What all parts are together.
    pub y_what: String,
    /// The unit of all parts.
    pub unit: String,
    /// What all parts are together, with the unit.
    pub y_label: String,
    /// Texts of the x positions.
    pub categories: Vec<String>,
    /// Names of the bars at each x.
    pub bars: Vec<String>,
    /// From the axis upwards.
    pub parts: Vec<Part>,
    /// By category, then by bar.
    pub stacks: Vec<Stack>,
}

/// A part of stacked bars.
#[derive(Clone, Debug)]
pub struct Part {
    /// In the legend.
    pub name: String,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Index of its category.
    pub category: usize,
    /// Index of its name.
    pub bar: usize,
    /// Median of each part; None when it was not measured.
    pub parts: Vec<Option<Estimate>>,
    /// The sum of parts, trial by trial.
    pub total: Estimate,
}

impl Points {
    pub(super) fn of(spec: &FigureSpec, grid: &Grid<'_>, as_bars: bool) -> Self {
        let is_category = as_bars || grid.has_names_on_x();
        let at = |index: usize| if is_category { index as f64 } else { grid.x_at(index) };
        let text = |index: usize| parameter_text(&spec.x, &grid.xs[index]);
        let point = |((x, _), cell): (&(usize, usize), &BTreeMap<u32, &TrialResult>)| {
            let values: Vec<f64> = cell.values().filter_map(|result| spec.y.of(result)).collect();
            let slack = cell.values().map(|result| spec.y.slack(result)).fold(0.0, f64::max);
            let y = Estimate::of(&values)?.widened(slack);
            // One bad trial of several shows: a median would hide two of five.
            let is_bad = cell.values().any(|result| error_share(result) > ERROR_SHARE_BOUND);
            let mut notes: Vec<&str> = Vec::new();
            for remark in cell.values().flat_map(|result| remarks(result)) {
                if !notes.contains(&remark) {
                    notes.push(remark);
                }
            }
            let hollow = is_bad || notes.contains(&NOT_STARTED);
            if is_bad {
                notes.insert(0, ERRORS);
            }
            Some(Point { x: at(*x), x_text: text(*x), y, hollow, notes })
        };
        let series = |group: &Group<'_>| Series {
            name: group.legend_name(),
            simulated: group.simulated,
            points: group.cells.iter().filter_map(point).collect(),
        };
        let trials_at = |x: usize| -> Vec<&TrialResult> {
            let cells = grid.groups.iter().filter_map(|group| group.cells.get(&(x, 0)));
            cells.flat_map(|cell| cell.values().copied()).collect()
        };
        let cells: Vec<_> = (0..grid.xs.len()).map(|x| (at(x), trials_at(x))).collect();
        Self {
            x_key: spec.x.clone(),
            x_label: x_label(&spec.x, &cells),
            categories: is_category.then(|| (0..grid.xs.len()).map(text).collect()),
            as_bars,
            series: grid.groups.iter().map(series).collect(),
            bounds: spec.bound.map_or_else(Vec::new, |kind| bounds(kind, &spec.y, &cells)),
        }
    }
}

impl StackedBars {
    pub(super) fn of(spec: &FigureSpec, parts: &[Metric], grid: &Grid<'_>) -> Self {
        let mut stacks = Vec::new();
        for category in 0..grid.xs.len() {
            for (bar, group) in grid.groups.iter().enumerate() {
                let Some(cell) = group.cells.get(&(category, 0)) else { continue };
                let of_part = |part: &Metric| {
                    let each = cell.values().filter_map(|result| part.of(result));
                    Estimate::of(&each.collect::<Vec<_>>())
                };
                let sum = |result: &&TrialResult| {
                    parts.iter().filter_map(|part| part.of(result)).sum::<f64>()
                };
                let totals: Vec<f64> = cell.values().map(sum).collect();
                let Some(total) = Estimate::of(&totals) else { continue };
                let parts = parts.iter().map(of_part).collect();
                stacks.push(Stack { category, bar, parts, total });
            }
        }
        let part = |metric: &Metric| Part { name: metric.what() };
        let unit = parts.first().map_or("", Metric::unit);
        let is_latency = matches!(unit, "\u{b5}s" | "ms");
        let y_what = if is_latency { "time of an operation" } else { "sum" };
        Self {
            x_label: x_label(&spec.x, &[]),
            y_what: y_what.to_owned(),
            unit: unit.to_owned(),
            y_label: format!("{y_what} ({unit})"),
            categories: grid.xs.iter().map(|x| parameter_text(&spec.x, x)).collect(),
            bars: grid.groups.iter().map(Group::legend_name).collect(),
            parts: parts.iter().map(part).collect(),
            stacks,
        }
    }
}

/// A parameter as the label of an axis, with its unit.
pub(super) fn x_label(key: &str, cells: &[(f64, Vec<&TrialResult>)]) -> String {
    let has_codec = cells.iter().flat_map(|cell| &cell.1).any(|trial| trial.codec.is_some());
    let label = match key {
        "value_bytes" if has_codec => "shard size (bytes)",
        "value_bytes" => "value size (bytes)",
        "loss_percent" => "datagrams lost (%)",
        "nodes" => "nodes N",
        "code" => "code k+m (shards)",
        "rate_mbit" => "egress per node (Mbit/s)",
        "delay_ms" => "added one-way delay (ms)",
        "offered_ops_per_s" => "offered load (op/s)",
        "failed_nodes" => "failed nodes",
        "read_mode" => "read mode",
        "client_side" => "clients at",
        "read_share" => "share of reads (0 to 1)",
        "workload" => "YCSB workload",
        "leader_cache_bytes" => "leader's cache (bytes)",
        "datagram_bytes" => "largest datagram (bytes)",
        other => return other.replace('_', " "),
    };
    label.to_owned()
}
