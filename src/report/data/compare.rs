//! Series over the baseline, from paired trials.

use super::Ratio;
use super::grid::{Grid, Group, parameter_text};
use crate::experiment::spec::Experiment;
use crate::report::figure_spec::FigureSpec;
use crate::report::result::TrialResult;
use crate::report::stats::Estimate;
use serde_json::Value;
use std::collections::BTreeMap;

/// The ratios of every series that has a counterpart, by series and x.
pub(super) fn ratios(experiment: &Experiment, spec: &FigureSpec, grid: &Grid<'_>) -> Vec<Ratio> {
    let Some(baseline) = experiment.baseline.as_deref() else { return Vec::new() };
    let mut ratios = along_x(baseline, spec, grid);
    for group in &grid.groups {
        let Some(base) = counterpart(baseline, spec, group, grid) else { continue };
        for (place, cell) in &group.cells {
            let Some(ratio) = base.cells.get(place).and_then(|base| paired(spec, cell, base))
            else {
                continue;
            };
            ratios.push(Ratio {
                series: group.legend_name(),
                x: grid.x_at(place.0),
                x_text: parameter_text(&spec.x, &grid.xs[place.0]),
                ratio,
            });
        }
    }
    ratios
}

/// Where the baseline is a place on the x axis: every other place of the same series over it.
fn along_x(baseline: &str, spec: &FigureSpec, grid: &Grid<'_>) -> Vec<Ratio> {
    let base = grid.xs.iter().position(|x| x.as_str() == Some(baseline));
    let Some(base) = base else { return Vec::new() };
    let mut ratios = Vec::new();
    for group in &grid.groups {
        let others = group.cells.iter().filter(|(place, _)| place.0 != base);
        ratios.extend(others.filter_map(|(place, cell)| {
            let ratio = paired(spec, cell, group.cells.get(&(base, place.1))?)?;
            Some(Ratio {
                series: group.legend_name(),
                x: grid.x_at(place.0),
                x_text: parameter_text(&spec.x, &grid.xs[place.0]),
                ratio,
            })
        }));
    }
    ratios
}

/// The series that differs from `group` in that one parameter is the baseline's name; of the same
/// origin. None for the baseline itself.
pub(super) fn counterpart<'g, 'a>(
    baseline: &str,
    spec: &FigureSpec,
    group: &Group<'a>,
    grid: &'g Grid<'a>,
) -> Option<&'g Group<'a>> {
    let is_baseline = |value: &Value| value.as_str() == Some(baseline);
    if group.key.iter().any(is_baseline) {
        return None;
    }
    grid.groups.iter().find(|other| {
        let mut pairs = spec.series.iter().zip(group.key.iter().zip(&other.key));
        // Simulated trials have simulated ones beside them, unless that is the question.
        (other.simulated == group.simulated || spec.series.iter().any(|key| key == "target"))
            && other.key.iter().any(is_baseline)
            && pairs.all(|(key, (own, other))| {
                // Replication is a code of its own, which follows from the policy.
                own == other || is_baseline(other) || key == "code"
            })
    })
}

pub(super) fn paired(
    spec: &FigureSpec,
    cell: &BTreeMap<u32, &TrialResult>,
    base: &BTreeMap<u32, &TrialResult>,
) -> Option<Estimate> {
    let mut slack: f64 = 0.0;
    let pair = |(repeat, result): (&u32, &&TrialResult)| {
        let base = base.get(repeat)?;
        let values = (spec.y.of(result)?, spec.y.of(base)?);
        slack = slack.max(spec.y.slack(result) + spec.y.slack(base));
        Some(values)
    };
    let pairs: Vec<(f64, f64)> = cell.iter().filter_map(pair).collect();
    Some(Estimate::of_ratio(&pairs)?.widened(slack))
}
