//! From results to what a figure plots: selected, grouped, estimated, compared.
//!
//! Invalid trials are left out and counted. Simulated trials are series of their own.

mod compare;
mod courses;
mod grid;
mod points;
mod surface;

pub use courses::{Course, CoursePoint, Distribution};
pub use grid::{Mixed, Row, parameter_text};
pub use points::{Part, Point, Points, Series, Stack, StackedBars};
pub use surface::{Cell, Level, Surface};

use super::caption::number_text;
use super::figure_spec::{FigureKind, FigureSpec};
use super::metric::Metric;
use super::stats::Estimate;
use crate::experiment::spec::Experiment;
use grid::Grid;
use std::collections::{BTreeMap, BTreeSet};

/// Above this share of failed operations a point is drawn hollow.
pub const ERROR_SHARE_BOUND: f64 = 0.01;
/// The note at such a point.
pub const ERRORS: &str = "errors > 1 %";

/// Everything that is drawn.
#[derive(Clone, Debug)]
pub struct FigureData {
    /// File name without its ending.
    pub id: String,
    /// Experiment it belongs to.
    pub experiment: String,
    /// Above the plot.
    pub title: String,
    /// What is measured.
    pub metric: Metric,
    /// What is plotted.
    pub plot: Plot,
    /// Series that ratios are taken against.
    pub baseline: Option<String>,
    /// Ratios to the baseline.
    pub ratios: Vec<Ratio>,
    /// How the numbers were made.
    pub origin: Origin,
    /// Trials left out as invalid.
    pub invalid_count: usize,
    /// `redis at c`: measured, and no trial of it is valid.
    pub absent: Vec<String>,
}

/// What is plotted, by kind.
#[derive(Clone, Debug)]
pub enum Plot {
    /// Lines, or bars.
    Points(Points),
    /// Bars made of parts.
    Stacked(StackedBars),
    /// Over the time of the run.
    Timeline(Vec<Course>),
    /// Cumulative distributions.
    Distributions(Vec<Distribution>),
    /// A ratio over two parameters.
    Surface(Surface),
}

/// A series over the baseline at one x, from paired trials.
#[derive(Clone, Debug)]
pub struct Ratio {
    /// The series above.
    pub series: String,
    /// Where, as a number when it is one.
    pub x: f64,
    /// Where.
    pub x_text: String,
    /// Series over baseline.
    pub ratio: Estimate,
}

/// How the numbers of a figure were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Fewest trials of a point.
    pub trials_min: usize,
    /// Most trials of a point.
    pub trials_max: usize,
    /// Some measured trials had all nodes on one machine.
    pub shared_machine: bool,
    /// Some trials were simulated.
    pub simulated: bool,
    /// Durability modes, of trials of clusters.
    pub durability: BTreeSet<String>,
    /// What is to be said of trials, and of how many.
    pub remarks: BTreeMap<&'static str, usize>,
}

impl FigureData {
    /// What `spec` plots of `rows`; None when no result has any of it.
    ///
    /// # Errors
    /// Two results that claim the same point and repeat with other parameters.
    pub fn of(
        experiment: &Experiment,
        spec: &FigureSpec,
        rows: &[Row<'_>],
    ) -> Result<Option<Self>, Mixed> {
        let grid = Grid::of(experiment, spec, rows)?;
        if grid.groups.is_empty() {
            return Ok(None);
        }
        let plot = match &spec.kind {
            FigureKind::Lines => Some(Plot::Points(Points::of(spec, &grid, false))),
            FigureKind::Bars => Some(Plot::Points(Points::of(spec, &grid, true))),
            FigureKind::Stacked { parts } => {
                Some(Plot::Stacked(StackedBars::of(spec, parts, &grid)))
            }
            FigureKind::Timeline => {
                let courses = courses::courses(spec, &grid);
                (!courses.is_empty()).then_some(Plot::Timeline(courses))
            }
            FigureKind::Cdf => {
                let all = courses::distributions(spec, &grid);
                (!all.is_empty()).then_some(Plot::Distributions(all))
            }
            FigureKind::Surface { y_axis, of } => {
                Surface::of(experiment, spec, y_axis, of.as_deref(), &grid).map(Plot::Surface)
            }
        };
        let Some(plot) = plot else { return Ok(None) };
        let has_ratios = matches!(plot, Plot::Points(_));
        let ratios = if has_ratios { compare::ratios(experiment, spec, &grid) } else { Vec::new() };
        Ok(Some(Self {
            id: spec.id.clone(),
            experiment: experiment.id.clone(),
            title: spec.title.clone(),
            metric: spec.y.clone(),
            plot,
            baseline: experiment.baseline.clone(),
            ratios,
            origin: grid.origin(),
            invalid_count: grid.invalid_count,
            absent: grid.absent,
        }))
    }

    /// The names of its series in the order of the legend, those of theory apart.
    #[must_use]
    pub fn series_names(&self) -> Vec<&str> {
        match &self.plot {
            Plot::Points(points) => points.series.iter().map(|line| line.name.as_str()).collect(),
            Plot::Stacked(bars) => bars.parts.iter().map(|part| part.name.as_str()).collect(),
            Plot::Timeline(courses) => courses.iter().map(|line| line.name.as_str()).collect(),
            Plot::Distributions(all) => all.iter().map(|line| line.name.as_str()).collect(),
            Plot::Surface(_) => Vec::new(),
        }
    }
}

/// Two digits after the point, and where those say nothing the digits that do.
fn short(ratio: f64) -> String {
    if ratio.abs() >= 0.1 { format!("{ratio:.2}") } else { number_text(ratio) }
}

/// `2.10x (1.90-2.30)`, or `2.10x (one trial)`.
#[must_use]
pub fn ratio_text(ratio: &Estimate) -> String {
    match (ratio.low, ratio.high) {
        (Some(low), Some(high)) => {
            format!("{}x ({}-{})", short(ratio.median), short(low), short(high))
        }
        (Some(_) | None, _) => format!("{}x (one trial)", short(ratio.median)),
    }
}

#[cfg(test)]
mod tests;
