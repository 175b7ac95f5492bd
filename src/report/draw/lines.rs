//! Points over x, joined where x is a number.

use super::legend::{Entry, Sample};
use super::marks::{self, Fill};
use super::scale::{Axis, Scale};
use super::sheet::{Panel, Sheet};
use super::style::{Look, TEXT, looks, text_style};
use super::{Area, Drawn};
use crate::report::caption::note;
use crate::report::data::{FigureData, Point, Points};
use plotters::prelude::Text;
use plotters::style::text_anchor::{HPos, VPos};

/// Between the points of two series at one x, so that no interval hides another.
const DODGE: i32 = 22;

pub(super) fn draw(data: &FigureData, points: &Points) -> Result<String, String> {
    let looks = looks_of(points);
    let sheet = Sheet {
        title: data.title.clone(),
        legend: legend(points, &looks, |look| {
            if points.categories.is_some() { Sample::Marker(look) } else { Sample::Line(look) }
        }),
        x: x_axis(points),
        y: y_axis(data, points),
        note: note(data),
        lanes: 0,
    };
    let is_starred = data.origin.trials_max > 1;
    sheet.draw(|area, panel| {
        draw_bounds(area, panel, points, 0.35)?;
        for (index, (line, look)) in points.series.iter().zip(&looks).enumerate() {
            let shift = shift(index, points, panel);
            let at = |point: &Point| {
                let (x, y) = panel.at(point.x, point.y.median);
                (x + shift, y)
            };
            if points.categories.is_none() {
                let path: Vec<_> = line.points.iter().map(at).collect();
                marks::line(area, &path, *look)?;
            }
            for point in &line.points {
                draw_point(area, panel, (point, at(point)), *look)?;
                if is_starred && point.y.low.is_none() {
                    let (x, y) = at(point);
                    // Beside a point among names is its neighbour.
                    let is_named = points.categories.is_some();
                    draw_star(area, if is_named { (x - 20, y - 20) } else { (x + 36, y) })?;
                }
            }
        }
        Ok(())
    })
}

pub(super) fn looks_of(points: &Points) -> Vec<Look> {
    let names: Vec<(&str, bool)> =
        points.series.iter().map(|line| (line.name.as_str(), line.simulated)).collect();
    looks(&names)
}

/// Series, then lines of theory.
pub(super) fn legend(
    points: &Points,
    looks: &[Look],
    sample: impl Fn(Look) -> Sample,
) -> Vec<Entry> {
    let series = points.series.iter().zip(looks);
    let series =
        series.map(|(line, look)| Entry { sample: sample(*look), name: line.name.clone() });
    let bounds = points.bounds.iter().enumerate();
    let bounds = bounds
        .map(|(index, bound)| Entry { sample: Sample::Bound(index), name: bound.name.clone() });
    series.chain(bounds).collect()
}

/// Every x that was measured.
pub(super) fn x_axis(points: &Points) -> Axis {
    let label = points.x_label.clone();
    if let Some(names) = &points.categories {
        let name = |(index, name): (usize, &String)| (index as f64, short_text(name));
        let ticks = names.iter().enumerate().map(name).collect();
        return Axis { scale: Scale::names(names.len()), ticks, label, is_named: true };
    }
    let mut all: Vec<&Point> = points.series.iter().flat_map(|line| &line.points).collect();
    all.sort_by(|one, other| one.x.total_cmp(&other.x));
    all.dedup_by(|one, other| one.x.total_cmp(&other.x).is_eq());
    let xs: Vec<f64> = all.iter().map(|point| point.x).collect();
    let ticks = all.iter().map(|point| (point.x, short_text(&point.x_text))).collect();
    Axis { scale: Scale::of(&xs, false), ticks, label, is_named: false }
}

/// A number without its unit, which the axis names; a name as it is.
pub(super) fn short_text(text: &str) -> String {
    if !text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with("N=") {
        return text.to_owned();
    }
    let text = text.replace(" KiB", "Ki").replace(" MiB", "Mi");
    let text = text.strip_prefix("N=").map_or_else(|| text.clone(), str::to_owned);
    text.split(' ').next().unwrap_or_default().to_owned()
}

pub(super) fn y_axis(data: &FigureData, points: &Points) -> Axis {
    let ends = |point: &Point| {
        let middle = point.y.median;
        [point.y.low.unwrap_or(middle), middle, point.y.high.unwrap_or(middle)]
    };
    let all = points.series.iter().flat_map(|line| &line.points).flat_map(ends);
    let theory = points.bounds.iter().flat_map(|bound| bound.points.iter().map(|at| at.1));
    let scale = Scale::of(&all.chain(theory).collect::<Vec<_>>(), true);
    Axis { ticks: scale.ticks(5), scale, label: data.metric.label(), is_named: false }
}

/// Between two names lies nothing: a short line at each, `half` of a place to either side.
pub(super) fn draw_bounds(area: &Area<'_>, panel: &Panel<'_>, points: &Points, half: f64) -> Drawn {
    for (index, bound) in points.bounds.iter().enumerate() {
        if points.categories.is_some() {
            for (x, y) in &bound.points {
                marks::bound(area, &[panel.at(x - half, *y), panel.at(x + half, *y)], index)?;
            }
        } else {
            let path: Vec<_> = bound.points.iter().map(|(x, y)| panel.at(*x, *y)).collect();
            marks::bound(area, &path, index)?;
        }
    }
    Ok(())
}

pub(super) fn fill_of(point: &Point, look: Look) -> Fill {
    match (point.hollow, look.simulated) {
        (true, _) => Fill::Hollow,
        (false, true) => Fill::Dotted,
        (false, false) => Fill::Full,
    }
}

/// Series side by side: a little where x is a number, a share of the place where it is a name.
fn shift(index: usize, points: &Points, panel: &Panel<'_>) -> i32 {
    let count = i32::try_from(points.series.len()).unwrap_or(1);
    let step = match &points.categories {
        Some(_) if count > 1 => (panel.x_at(1.0) - panel.x_at(0.0)) * 7 / 10 / count,
        Some(_) => 0,
        None => DODGE,
    };
    (2 * i32::try_from(index).unwrap_or(0) - (count - 1)) * step / 2
}

fn draw_point(
    area: &Area<'_>,
    panel: &Panel<'_>,
    (point, at): (&Point, (i32, i32)),
    look: Look,
) -> Drawn {
    if let (Some(low), Some(high)) = (point.y.low, point.y.high) {
        marks::interval(area, (at.0, 28), (panel.y_at(low), panel.y_at(high)), look.colour)?;
    }
    marks::marker(area, at, look, fill_of(point, look))
}

/// One trial among points that have more: a small asterisk instead of an interval.
pub(super) fn draw_star(area: &Area<'_>, at: (i32, i32)) -> Drawn {
    area.draw(&Text::new("*", at, text_style(TEXT, HPos::Left, VPos::Bottom)))
}
