//! A ratio to the baseline over two parameters, and the line where it is 1.

use super::compare::{counterpart, paired};
use super::grid::{Grid, parameter_text};
use super::points::x_label;
use crate::experiment::spec::Experiment;
use crate::report::figure_spec::FigureSpec;
use crate::report::stats::Estimate;

/// A ratio over two parameters; both are numbers above 0 and taken by their logarithm.
#[derive(Clone, Debug)]
pub struct Surface {
    /// The series above.
    pub series: String,
    /// The baseline below.
    pub baseline: String,
    /// From the simulator?
    pub simulated: bool,
    /// Label of the x axis.
    pub x_label: String,
    /// Label of the y axis.
    pub y_label: String,
    /// (value, text), ascending.
    pub xs: Vec<(f64, String)>,
    /// (value, text), ascending.
    pub ys: Vec<(f64, String)>,
    /// Measured cells.
    pub cells: Vec<Cell>,
}

/// One measured place.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Index on x.
    pub x: usize,
    /// Index on y.
    pub y: usize,
    /// Series over baseline.
    pub ratio: Estimate,
}

/// Which end of the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Lower end.
    Low,
    /// Median.
    Median,
    /// Upper end.
    High,
}

impl Surface {
    /// None when the series or its baseline has no common place.
    pub(super) fn of(
        experiment: &Experiment,
        spec: &FigureSpec,
        y_key: &str,
        of: Option<&str>,
        grid: &Grid<'_>,
    ) -> Option<Self> {
        let baseline = experiment.baseline.as_deref()?;
        let is_asked_for = |name: &str| of.is_none_or(|of| of == name);
        let candidates = grid.groups.iter().filter(|group| is_asked_for(&group.name));
        let (group, base) = candidates
            .filter_map(|group| Some((group, counterpart(baseline, spec, group, grid)?)))
            .next()?;
        let axis = |key: &str, values: &[serde_json::Value]| {
            let place = |value: &serde_json::Value| {
                let number = value.as_f64().filter(|number| *number > 0.0)?;
                Some((number, parameter_text(key, value)))
            };
            values.iter().map(place).collect::<Option<Vec<_>>>()
        };
        let (xs, ys) = (axis(&spec.x, &grid.xs)?, axis(y_key, &grid.ys)?);
        let cell = |(place, cell): (&(usize, usize), _)| {
            let ratio = paired(spec, cell, base.cells.get(place)?)?;
            // A place where nothing went through has no logarithm: it is left open.
            let least = ratio.low.unwrap_or(ratio.median).min(ratio.median);
            if least <= 0.0 {
                return None;
            }
            Some(Cell { x: place.0, y: place.1, ratio })
        };
        let cells: Vec<Cell> = group.cells.iter().filter_map(cell).collect();
        (!cells.is_empty()).then(|| Self {
            series: group.legend_name(),
            baseline: base.legend_name(),
            simulated: group.simulated,
            x_label: x_label(&spec.x, &[]),
            y_label: x_label(y_key, &[]),
            xs,
            ys,
            cells,
        })
    }

    /// The ratio at a measured place; the median where there is no interval.
    #[must_use]
    pub fn at(&self, x: usize, y: usize, level: Level) -> Option<f64> {
        let cell = self.cells.iter().find(|cell| (cell.x, cell.y) == (x, y))?;
        Some(match level {
            Level::Low => cell.ratio.low.unwrap_or(cell.ratio.median),
            Level::Median => cell.ratio.median,
            Level::High => cell.ratio.high.unwrap_or(cell.ratio.median),
        })
    }

    /// The logarithm of the ratio between measured places: bilinear in index space. None outside a
    /// square of four measured places.
    #[must_use]
    pub fn log_ratio(&self, x: f64, y: f64, level: Level) -> Option<f64> {
        let floor = |at: f64, count: usize| {
            (0..count.checked_sub(1)?).rev().find(|index| *index as f64 <= at)
        };
        let (left, below) = (floor(x, self.xs.len())?, floor(y, self.ys.len())?);
        let (right, up) = (x - left as f64, y - below as f64);
        let log = |dx: usize, dy: usize| Some(self.at(left + dx, below + dy, level)?.ln());
        let bottom = log(0, 0)? * (1.0 - right) + log(1, 0)? * right;
        let top = log(0, 1)? * (1.0 - right) + log(1, 1)? * right;
        Some(bottom * (1.0 - up) + top * up)
    }

    /// Where the median's ratio passes 1 going along x at measured y: (x value, y text), by
    /// linear interpolation of logarithms.
    #[must_use]
    pub fn crossings(&self) -> Vec<(f64, String)> {
        let mut found = Vec::new();
        for (y, (_, y_text)) in self.ys.iter().enumerate() {
            for x in 1..self.xs.len() {
                let (Some(one), Some(two)) =
                    (self.at(x - 1, y, Level::Median), self.at(x, y, Level::Median))
                else {
                    continue;
                };
                if (one > 1.0) != (two > 1.0) {
                    let share = one.ln() / (one.ln() - two.ln());
                    let (from, to) = (self.xs[x - 1].0.ln(), self.xs[x].0.ln());
                    found.push(((from + share * (to - from)).exp(), y_text.clone()));
                }
            }
        }
        found
    }
}
