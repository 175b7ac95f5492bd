//! What theory allows at best, drawn beside what was measured.
//!
//! Computed from the configurations of the trials alone, but for the time of a sync, which is the
//! least that the trials themselves measured. A bound that is no function of x is not drawn.

use super::figure_spec::BoundKind;
use super::metric::Metric;
use super::quantity;
use super::result::TrialResult;
use crate::experiment::TrialConfig;
use std::collections::{BTreeMap, BTreeSet};

/// A line from theory.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// In the legend.
    pub name: String,
    /// (x, y) in the order of x.
    pub points: Vec<(f64, f64)>,
}

/// The lines of `kind` for `metric`; `cells` are the trials at each x. Replication and coding have
/// each their own where the bound depends on the code.
#[must_use]
pub fn bounds(kind: BoundKind, metric: &Metric, cells: &[(f64, Vec<&TrialResult>)]) -> Vec<Bound> {
    if kind == BoundKind::RoundTripAndSync {
        let at = |(x, trials): &(f64, Vec<&TrialResult>)| Some((*x, round_trip_and_sync(trials)?));
        let points: Option<Vec<(f64, f64)>> = cells.iter().map(at).collect();
        let line = |points| Bound { name: "one round trip + one sync".to_owned(), points };
        return points.map(line).into_iter().collect();
    }
    let classes = Classes::of(cells);
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut ambiguous = BTreeSet::new();
    for (x, trials) in cells {
        let mut here: BTreeMap<String, f64> = BTreeMap::new();
        for trial in trials {
            let config = &trial.trial.config;
            let Some(value) = value_of(kind, metric, config) else { continue };
            let class = classes.name(kind, config);
            let first = *here.entry(class.clone()).or_insert(value);
            if (first - value).abs() > 1e-9 * first.abs() {
                ambiguous.insert(class);
            }
        }
        for (class, value) in here {
            lines.entry(class).or_default().push((*x, value));
        }
    }
    let is_clear = |line: &(String, Vec<(f64, f64)>)| !ambiguous.contains(&line.0);
    let lines = lines.into_iter().filter(is_clear);
    lines.map(|(name, points)| Bound { name, points }).collect()
}

/// How configurations are told apart: replication, coding, or each code where one x has several.
struct Classes {
    codes_at_one_x: usize,
    only_code: Option<String>,
}

impl Classes {
    fn of(cells: &[(f64, Vec<&TrialResult>)]) -> Self {
        let coded = |trials: &[&TrialResult]| -> BTreeSet<String> {
            let codes = trials.iter().map(|trial| &trial.trial.config);
            codes.filter(|config| shares(config) > 1.0).map(|config| config.code.clone()).collect()
        };
        let all: BTreeSet<String> = cells.iter().flat_map(|cell| coded(&cell.1)).collect();
        Self {
            codes_at_one_x: cells.iter().map(|cell| coded(&cell.1).len()).max().unwrap_or(0),
            only_code: (all.len() == 1).then(|| all.into_iter().next()).flatten(),
        }
    }

    fn name(&self, kind: BoundKind, config: &TrialConfig) -> String {
        let what = match kind {
            BoundKind::NOverK => return "theory n/k".to_owned(),
            BoundKind::LinkFullCopies => return "link, full copies".to_owned(),
            BoundKind::Link => "link",
            BoundKind::WireShards => "theory (N-1)/k",
            BoundKind::RoundTripAndSync => "round trip + sync",
        };
        let is_coded = shares(config) > 1.0;
        match &self.only_code {
            _ if !is_coded => format!("{what}, full copies"),
            Some(code) => format!("{what}, {code}"),
            None if self.codes_at_one_x > 1 => format!("{what}, {}", config.code),
            None => format!("{what}, coded"),
        }
    }
}

/// k, or 0 when the code cannot be read (which the experiment's own check excludes).
fn shares(config: &TrialConfig) -> f64 {
    config.parsed_code().map_or(0.0, |code| f64::from(code.k()))
}

fn value_of(kind: BoundKind, metric: &Metric, config: &TrialConfig) -> Option<f64> {
    let code = config.parsed_code().ok()?;
    let others = f64::from(config.nodes.checked_sub(1)?);
    let bytes_per_s = Some(config.rate_mbit * 125_000.0).filter(|rate| *rate > 0.0);
    let value_bytes = config.value_bytes as f64;
    let k = f64::from(code.k());
    match kind {
        BoundKind::NOverK => Some(f64::from(code.n()) / k),
        BoundKind::WireShards => Some(others / k),
        BoundKind::LinkFullCopies => Some(bytes_per_s? / (others * value_bytes)),
        BoundKind::Link if metric.unit() == "ms" => {
            let seconds = others * value_bytes / k / bytes_per_s?;
            Some(1000.0 * seconds + 2.0 * config.delay_ms)
        }
        BoundKind::Link => Some(bytes_per_s? * k / (others * value_bytes)),
        BoundKind::RoundTripAndSync => None,
    }
}

fn round_trip_and_sync(trials: &[&TrialResult]) -> Option<f64> {
    let each = trials.iter().filter_map(|trial| {
        let sync_us = Metric::Quantity(quantity::STAGE_SYNC_US.to_owned()).of(trial)?;
        Some(2.0 * trial.trial.config.delay_ms + sync_us / 1000.0)
    });
    each.reduce(f64::min)
}
