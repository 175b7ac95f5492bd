//! Courses over time, and distributions of samples.

use super::grid::{Grid, Group};
use crate::report::figure_spec::FigureSpec;
use crate::report::metric::{Metric, Quantile};
use crate::report::result::{TimelinePoint, TrialResult};
use crate::report::stats::{Estimate, median};
use std::collections::{BTreeMap, BTreeSet};

/// One series over the time of the run.
#[derive(Clone, Debug)]
pub struct Course {
    /// In the legend.
    pub name: String,
    /// From the simulator?
    pub simulated: bool,
    /// By time.
    pub points: Vec<CoursePoint>,
    /// (seconds, what) in order; medians over trials that had the same events.
    pub events: Vec<(f64, String)>,
}

/// One interval.
#[derive(Clone, Debug)]
pub struct CoursePoint {
    /// Its start, in seconds of the run.
    pub from_seconds: f64,
    /// Its end.
    pub to_seconds: f64,
    /// Median over trials and interval.
    pub y: Estimate,
}

/// The samples of one series.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// In the legend.
    pub name: String,
    /// From the simulator?
    pub simulated: bool,
    /// All samples of all trials, sorted; never empty.
    pub values: Vec<f64>,
    /// Their median, with an interval over samples.
    pub median: Estimate,
}

impl Distribution {
    /// The least value with at least this share of samples at or below it.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let count = self.values.len() as f64;
        let is_enough = |index: &usize| (index + 1) as f64 >= share * count - 1e-9;
        let index = (0..self.values.len()).find(is_enough);
        self.values[index.unwrap_or(self.values.len() - 1)]
    }
}

pub(super) fn courses(spec: &FigureSpec, grid: &Grid<'_>) -> Vec<Course> {
    let course = |group: &Group<'_>| Course {
        name: group.legend_name(),
        simulated: group.simulated,
        points: course_points(&spec.y, &trials(group)),
        events: events(&trials(group)),
    };
    let all = grid.groups.iter().map(course);
    all.filter(|course| !course.points.is_empty()).collect()
}

pub(super) fn distributions(spec: &FigureSpec, grid: &Grid<'_>) -> Vec<Distribution> {
    let name = spec.y.to_string();
    let of = |group: &Group<'_>| {
        // Of the run; of the first phase that has them where the run has none.
        let samples = trials(group).into_iter().filter_map(|trial| {
            let run = trial.phase("run").and_then(|run| run.samples.get(&name));
            run.or_else(|| trial.phases.iter().find_map(|phase| phase.samples.get(&name)))
        });
        let samples = samples.flatten();
        let mut values: Vec<f64> = samples.copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let median = Estimate::of(&values)?;
        Some(Distribution {
            name: format!("{}, n={}", group.legend_name(), values.len()),
            simulated: group.simulated,
            values,
            median,
        })
    };
    grid.groups.iter().filter_map(of).collect()
}

fn trials<'a>(group: &Group<'a>) -> Vec<&'a TrialResult> {
    group.cells.values().flat_map(|cell| cell.values().copied()).collect()
}

/// Intervals of several trials are matched by their start.
fn course_points(metric: &Metric, trials: &[&TrialResult]) -> Vec<CoursePoint> {
    let mut bins: BTreeMap<u64, (u64, Vec<f64>)> = BTreeMap::new();
    for trial in trials {
        let timeline = trial.phase("run").map_or(&[][..], |run| run.timeline.as_slice());
        for point in timeline.iter().filter(|point| point.interval_ms > 0) {
            // Trials may start their intervals a little apart.
            let start = (point.at_ms + point.interval_ms / 2) / point.interval_ms;
            let bin = bins.entry(start * point.interval_ms).or_default();
            bin.0 = point.interval_ms;
            bin.1.extend(value_of(metric, point));
        }
    }
    let point = |(at_ms, (interval_ms, values)): (u64, (u64, Vec<f64>))| {
        Some(CoursePoint {
            from_seconds: at_ms as f64 / 1000.0,
            to_seconds: (at_ms + interval_ms) as f64 / 1000.0,
            y: Estimate::of(&values)?,
        })
    };
    bins.into_iter().filter_map(point).collect()
}

fn value_of(metric: &Metric, point: &TimelinePoint) -> Option<f64> {
    let operations: u64 = point.operations.values().sum();
    match metric {
        Metric::Throughput => Some(operations as f64 * 1000.0 / point.interval_ms as f64),
        Metric::ErrorShare => {
            let tried = Some(operations + point.errors).filter(|tried| *tried > 0)?;
            Some(100.0 * point.errors as f64 / tried as f64)
        }
        Metric::Latency { quantile, .. } => {
            let us = match quantile {
                Quantile::P50 => point.p50_us,
                Quantile::P99 => point.p99_us,
                Quantile::P90 | Quantile::P999 => return None,
            };
            (operations > 0).then_some(us as f64 / 1000.0)
        }
        Metric::PayloadAfterLoad
        | Metric::PayloadAfterRun
        | Metric::RecordsAfterLoad
        | Metric::RecordsAfterRun
        | Metric::AllocatedAfterLoad
        | Metric::AllocatedAfterRun
        | Metric::WirePerUserByte
        | Metric::WireLeader
        | Metric::WireFollowers
        | Metric::WireRetransmitted
        | Metric::RetransmittedShare
        | Metric::CpuPerOperation
        | Metric::EncodeSpeed
        | Metric::DecodeSpeed
        | Metric::Quantity(_) => None,
    }
}

/// What was done to another node in each trial, without the nodes.
fn common_name(names: &BTreeSet<&str>) -> String {
    let mut names = names.iter();
    let first = names.next().copied().unwrap_or_default();
    let words = |name: &str| name.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let shared = names.fold(words(first), |shared, name| {
        let of_both = shared.iter().zip(words(name)).take_while(|(one, other)| *one == other);
        let count = of_both.count();
        shared.into_iter().take(count).collect()
    });
    match shared.is_empty() {
        true => first.to_owned(),
        false => shared.join(" ").trim_end_matches(':').to_owned(),
    }
}

/// Of the trials with as many events as the first one that has any.
fn events(trials: &[&TrialResult]) -> Vec<(f64, String)> {
    let lists: Vec<_> =
        trials.iter().filter_map(|trial| Some(&trial.phase("run")?.events)).collect();
    let Some(first) = lists.iter().find(|list| !list.is_empty()) else { return Vec::new() };
    let alike = || lists.iter().filter(|list| list.len() == first.len());
    let at = |index: usize| {
        let times: Vec<f64> = alike().map(|list| list[index].at_ms as f64 / 1000.0).collect();
        let names: BTreeSet<&str> = alike().map(|list| list[index].name.as_str()).collect();
        Some((median(&times)?, common_name(&names)))
    };
    (0..first.len()).filter_map(at).collect()
}
