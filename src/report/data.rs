//! From results to the points of a figure: grouped, estimated, compared.
//!
//! Invalid trials are left out and counted.

use super::bound::{Bound, bounds};
use super::figure_spec::FigureSpec;
use super::metric::{Metric, error_share};
use super::result::TrialResult;
use super::stats::Estimate;
use crate::experiment::spec::Experiment;
use serde_json::Value;
use std::collections::BTreeMap;

/// Above this share of failed operations a point is drawn hollow.
pub const ERROR_SHARE_BOUND: f64 = 0.01;

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub struct FigureData {
    /// File name without its ending.
    pub id: String,
    /// Above the plot.
    pub title: String,
    /// Key of the x axis.
    pub x_key: String,
    /// Label of the x axis with its unit.
    pub x_label: String,
    /// What is measured.
    pub metric: Metric,
    /// Texts of the x positions when they are no numbers.
    pub categories: Option<Vec<String>>,
    /// Lines.
    pub series: Vec<Series>,
    /// What theory allows.
    pub bounds: Vec<Bound>,
    /// Ratios to the baseline.
    pub ratios: Vec<Ratio>,
    /// Trials left out as invalid.
    pub invalid_count: usize,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// By x.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Clone, Debug)]
pub struct Point {
    /// Position.
    pub x: f64,
    /// As in the table.
    pub x_text: String,
    /// Median and interval.
    pub y: Estimate,
    /// Errors above the bound.
    pub hollow: bool,
}

/// A series over the baseline at one x, from paired trials.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// The series above.
    pub series: String,
    /// Where.
    pub x_text: String,
    /// Series over baseline.
    pub ratio: Estimate,
}

type Cells<'a> = BTreeMap<usize, BTreeMap<u32, &'a TrialResult>>;

impl FigureData {
    /// The points of `spec`; None when no result has any.
    ///
    /// # Errors
    /// The ids of two results that claim the same point and repeat with other parameters.
    pub fn of(
        experiment: &Experiment,
        spec: &FigureSpec,
        all: &[TrialResult],
    ) -> Result<Option<Self>, (String, String)> {
        let wanted = |result: &&TrialResult| {
            result.trial.experiment == experiment.id && matches_only(spec, result)
        };
        let results: Vec<&TrialResult> = all.iter().filter(wanted).collect();
        let invalid_count = results.iter().filter(|result| !result.is_valid()).count();
        let usable = |result: &&TrialResult| result.is_valid() && spec.y.of(result).is_some();
        let results: Vec<&TrialResult> = results.into_iter().filter(usable).collect();
        let xs = x_values(spec, &results);
        if xs.is_empty() {
            return Ok(None);
        }
        let is_category = xs.iter().any(|x| !x.is_number());
        let mut groups: BTreeMap<String, Cells<'_>> = BTreeMap::new();
        for result in &results {
            let x = parameter(result, &spec.x);
            let Some(index) = xs.iter().position(|other| *other == x) else { continue };
            let group = groups.entry(series_name(spec, result)).or_default();
            let cell = group.entry(index).or_default();
            if let Some(other) = cell.insert(result.trial.repeat, result) {
                return Err((other.id.clone(), result.id.clone()));
            }
        }
        let at = |index: usize| if is_category { index as f64 } else { number(&xs[index]) };
        let series = |(name, cells): (&String, &Cells<'_>)| Series {
            name: name.clone(),
            points: cells
                .iter()
                .filter_map(|(i, cell)| point(spec, at(*i), &xs[*i], cell))
                .collect(),
        };
        let mut lines: Vec<Series> = groups.iter().map(series).collect();
        // The baseline first: its colour is then the same in every figure.
        lines.sort_by_key(|line| Some(&line.name) != experiment.baseline.as_ref());
        Ok(Some(Self {
            id: spec.id.clone(),
            title: spec.title.clone(),
            x_key: spec.x.clone(),
            x_label: x_label(spec, &results),
            metric: spec.y.clone(),
            categories: is_category.then(|| xs.iter().map(|x| x_text(&spec.x, x)).collect()),
            series: lines,
            bounds: spec.bound.map_or_else(Vec::new, |kind| {
                let trials = |x: &Value| {
                    let same = results.iter().filter(|result| parameter(result, &spec.x) == *x);
                    same.copied().collect()
                };
                let cells = xs.iter().enumerate().map(|(i, x)| (at(i), trials(x)));
                bounds(kind, &spec.y, &cells.collect::<Vec<_>>())
            }),
            ratios: ratios(experiment, spec, &groups, &xs),
            invalid_count,
        }))
    }

    /// One sentence, from the data alone.
    #[must_use]
    pub fn sentence(&self) -> String {
        let what = self.metric.label();
        let best = |pick: fn(f64, f64) -> bool| {
            self.ratios.iter().reduce(|best, next| {
                if pick(next.ratio.median, best.ratio.median) { next } else { best }
            })
        };
        if let (Some(most), Some(least)) = (best(|a, b| a > b), best(|a, b| a < b)) {
            let describe = |ratio: &Ratio| {
                format!("{} at {} ({})", ratio_text(&ratio.ratio), ratio.x_text, ratio.series)
            };
            return format!(
                "{what}: relative to the baseline between {} and {}.",
                describe(least),
                describe(most)
            );
        }
        let points = self.series.iter().flat_map(|line| &line.points);
        let medians: Vec<f64> = points.clone().map(|point| point.y.median).collect();
        let low = medians.iter().copied().fold(f64::INFINITY, f64::min);
        let high = medians.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut text = format!("{what}: medians from {low:.3} to {high:.3}");
        for bound in &self.bounds {
            let over = points.clone().filter_map(|point| {
                let at = bound.points.iter().find(|at| (at.0 - point.x).abs() < f64::EPSILON)?;
                Some(point.y.median / at.1 - 1.0)
            });
            let worst = over
                .fold(0.0_f64, |worst, next| if next.abs() > worst.abs() { next } else { worst });
            text.push_str(&format!(", at most {:+.1} % from {}", 100.0 * worst, bound.name));
        }
        text + "."
    }
}

/// `2.10x (1.90-2.30)`, or `2.10x (one trial)`.
#[must_use]
pub fn ratio_text(ratio: &Estimate) -> String {
    match (ratio.low, ratio.high) {
        (Some(low), Some(high)) => format!("{:.2}x ({low:.2}-{high:.2})", ratio.median),
        (Some(_) | None, _) => format!("{:.2}x (one trial)", ratio.median),
    }
}

fn matches_only(spec: &FigureSpec, result: &TrialResult) -> bool {
    spec.only.iter().all(|(key, wanted)| {
        let wanted = serde_json::to_value(wanted).unwrap_or_default();
        same(&parameter(result, key), &wanted)
    })
}

fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        (Some(_) | None, _) => one == other,
    }
}

fn parameter(result: &TrialResult, key: &str) -> Value {
    let config = serde_json::to_value(&result.trial.config).unwrap_or_default();
    config.get(key).cloned().unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn x_values(spec: &FigureSpec, results: &[&TrialResult]) -> Vec<Value> {
    let mut xs: Vec<(u64, Value)> = Vec::new();
    for result in results {
        let x = parameter(result, &spec.x);
        if !xs.iter().any(|(_, other)| *other == x) {
            // Codes in order of redundancy, most first, then of size.
            let code = result.trial.config.parsed_code().ok();
            let rank = code.map_or(0, |code| {
                (1_000_000 - 1000 * 32 * u64::from(code.n()) / u64::from(code.k()))
                    + u64::from(code.n())
            });
            xs.push((rank, x));
        }
    }
    xs.sort_by(|one, other| match (one.1.as_f64(), other.1.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_) | None, _) => one.0.cmp(&other.0),
    });
    xs.into_iter().map(|(_, x)| x).collect()
}

fn series_name(spec: &FigureSpec, result: &TrialResult) -> String {
    let part = |key: &String| x_text(key, &parameter(result, key));
    let name = spec.series.iter().map(part).collect::<Vec<_>>().join(" ");
    if name.is_empty() { "measured".to_owned() } else { name }
}

fn point(
    spec: &FigureSpec,
    x: f64,
    value: &Value,
    cell: &BTreeMap<u32, &TrialResult>,
) -> Option<Point> {
    let values: Vec<f64> = cell.values().filter_map(|result| spec.y.of(result)).collect();
    let errors: Vec<f64> = cell.values().map(|result| error_share(result)).collect();
    let hollow = Estimate::of(&errors).is_some_and(|share| share.median > ERROR_SHARE_BOUND);
    Some(Point { x, x_text: x_text(&spec.x, value), y: Estimate::of(&values)?, hollow })
}

/// Sizes in binary units, the rest as it is.
#[must_use]
pub fn x_text(key: &str, value: &Value) -> String {
    let text = match (value, value.as_u64()) {
        (Value::String(text), _) => text.clone(),
        (_, Some(bytes)) if key == "value_bytes" && bytes >= 1 << 20 && bytes % (1 << 20) == 0 => {
            format!("{} MiB", bytes >> 20)
        }
        (_, Some(bytes)) if key == "value_bytes" && bytes >= 1024 && bytes % 1024 == 0 => {
            format!("{} KiB", bytes >> 10)
        }
        (_, Some(bytes)) if key == "value_bytes" => format!("{bytes} B"),
        (_, _) => value.as_f64().map_or_else(|| value.to_string(), |number| number.to_string()),
    };
    if key == "loss_percent" { text + " %" } else { text }
}

fn x_label(spec: &FigureSpec, results: &[&TrialResult]) -> String {
    let codec = results.iter().any(|result| result.codec.is_some());
    match spec.x.as_str() {
        "value_bytes" if codec => "shard size (bytes)",
        "value_bytes" => "value size (bytes)",
        "loss_percent" => "datagrams lost (%)",
        "nodes" => "nodes N",
        "code" => "code k+m (shards)",
        "rate_mbit" => "egress per node (Mbit/s)",
        "delay_ms" => "added one-way delay (ms)",
        "clients" => "clients",
        other => other,
    }
    .to_owned()
}

fn ratios(
    experiment: &Experiment,
    spec: &FigureSpec,
    groups: &BTreeMap<String, Cells<'_>>,
    xs: &[Value],
) -> Vec<Ratio> {
    let Some(base) = experiment.baseline.as_ref().and_then(|name| groups.get(name)) else {
        return Vec::new();
    };
    let mut ratios = Vec::new();
    for (name, cells) in
        groups.iter().filter(|(name, _)| Some(*name) != experiment.baseline.as_ref())
    {
        for (index, cell) in cells {
            let Some(base) = base.get(index) else { continue };
            let pair = |(repeat, result): (&u32, &&TrialResult)| {
                Some((spec.y.of(result)?, spec.y.of(base.get(repeat)?)?))
            };
            let pairs: Vec<(f64, f64)> = cell.iter().filter_map(pair).collect();
            if let Some(ratio) = Estimate::of_ratio(&pairs) {
                let x_text = x_text(&spec.x, &xs[*index]);
                ratios.push(Ratio { series: name.clone(), x_text, ratio });
            }
        }
    }
    ratios
}
