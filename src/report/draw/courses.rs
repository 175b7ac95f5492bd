//! Courses over time with their events, and cumulative distributions.

use super::legend::{Entry, Sample};
use super::marks::{self, At, Fill};
use super::scale::{Axis, Scale};
use super::sheet::{LANE, Panel, Sheet};
use super::style::{GRID, Look, NOTE, looks, text_style, text_width};
use super::{Area, Drawn};
use crate::report::caption::note;
use crate::report::data::{Course, CoursePoint, Distribution, FigureData};
use plotters::prelude::{Polygon, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color as _, RGBColor};

const EVENT: RGBColor = RGBColor(110, 110, 110);
/// Markers along a course, enough to tell it in grey.
const MARKERS: usize = 8;
const LANES_MAX: i32 = 3;

pub(super) fn draw(data: &FigureData, courses: &[Course]) -> Result<String, String> {
    let looks = looks_of(courses.iter().map(|course| (course.name.as_str(), course.simulated)));
    let points = || courses.iter().flat_map(|course| &course.points);
    let until = points().map(|point| point.to_seconds).fold(1.0_f64, f64::max);
    let ends = |point: &CoursePoint| {
        let middle = point.y.median;
        [point.y.low.unwrap_or(middle), middle, point.y.high.unwrap_or(middle)]
    };
    let y = Scale::of(&points().flat_map(ends).collect::<Vec<_>>(), true);
    let x = Scale::between(0.0, until);
    let events = Events::of(courses, until);
    let sheet = Sheet {
        title: data.title.clone(),
        legend: legend(courses.iter().map(|course| course.name.as_str()), &looks),
        x: axis(x, "time (s)".to_owned()),
        y: axis(y, data.metric.label()),
        note: format!("{}{}", events.note, note(data)),
        lanes: events.lanes,
    };
    sheet.draw(|area, panel| {
        events.draw(area, panel)?;
        for (course, look) in courses.iter().zip(&looks) {
            for run in unbroken(&course.points) {
                draw_band(area, panel, run, *look)?;
            }
        }
        for (index, (course, look)) in courses.iter().zip(&looks).enumerate() {
            for run in unbroken(&course.points) {
                let path: Vec<At> = run.iter().map(|p| panel.at(middle(p), p.y.median)).collect();
                marks::line(area, &path, *look)?;
            }
            let step = course.points.len().div_ceil(MARKERS).max(1);
            let first = index * step / courses.len();
            for point in course.points.iter().skip(first).step_by(step) {
                let at = panel.at(middle(point), point.y.median);
                marks::marker(area, at, *look, fill(*look))?;
            }
        }
        Ok(())
    })
}

pub(super) fn draw_distributions(
    data: &FigureData,
    all: &[Distribution],
) -> Result<String, String> {
    let looks = looks_of(all.iter().map(|one| (one.name.as_str(), one.simulated)));
    let values: Vec<f64> = all.iter().flat_map(|one| one.values.iter().copied()).collect();
    let x = Scale::of(&values, false);
    let y = Scale::between(0.0, 1.03);
    let sheet = Sheet {
        title: data.title.clone(),
        legend: legend(all.iter().map(|one| one.name.as_str()), &looks),
        x: axis(x, data.metric.label()),
        y: Axis {
            ticks: [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| (share, share.to_string())).into(),
            scale: y,
            label: "share of events (0 to 1)".to_owned(),
            is_named: false,
        },
        note: note(data),
        lanes: 0,
    };
    sheet.draw(|area, panel| {
        for (one, look) in all.iter().zip(&looks) {
            let count = one.values.len() as f64;
            let mut path: Vec<At> = vec![(panel.x_at(one.values[0]), panel.bottom)];
            for (index, value) in one.values.iter().enumerate() {
                path.push(panel.at(*value, index as f64 / count));
                path.push(panel.at(*value, (index + 1) as f64 / count));
            }
            path.push((panel.right, panel.y_at(1.0)));
            marks::line(area, &path, *look)?;
            for share in [0.25, 0.5, 0.75, 1.0] {
                let at = panel.at(one.quantile(share), share);
                marks::marker(area, at, *look, fill(*look))?;
            }
        }
        Ok(())
    })
}

fn looks_of<'a>(names: impl Iterator<Item = (&'a str, bool)>) -> Vec<Look> {
    looks(&names.collect::<Vec<_>>())
}

fn legend<'a>(names: impl Iterator<Item = &'a str>, looks: &[Look]) -> Vec<Entry> {
    let entry =
        |(name, look): (&str, &Look)| Entry { sample: Sample::Line(*look), name: name.to_owned() };
    names.zip(looks).map(entry).collect()
}

fn axis(scale: Scale, label: String) -> Axis {
    Axis { ticks: scale.ticks(5), scale, label, is_named: false }
}

fn fill(look: Look) -> Fill {
    if look.simulated { Fill::Dotted } else { Fill::Full }
}

fn middle(point: &CoursePoint) -> f64 {
    f64::midpoint(point.from_seconds, point.to_seconds)
}

/// Where an interval has no number, the line ends and begins anew.
fn unbroken(points: &[CoursePoint]) -> impl Iterator<Item = &[CoursePoint]> {
    points.chunk_by(|one, next| next.from_seconds - one.to_seconds < 1e-6)
}

fn draw_band(area: &Area<'_>, panel: &Panel<'_>, run: &[CoursePoint], look: Look) -> Drawn {
    let end = |point: &CoursePoint, end: Option<f64>| Some(panel.at(middle(point), end?));
    let low: Option<Vec<At>> = run.iter().map(|point| end(point, point.y.low)).collect();
    let high: Option<Vec<At>> = run.iter().map(|point| end(point, point.y.high)).collect();
    let (Some(mut outline), Some(high)) = (low, high) else { return Ok(()) };
    outline.extend(high.into_iter().rev());
    if outline.len() < 4 {
        return Ok(());
    }
    area.draw(&Polygon::new(outline, look.colour.mix(0.18).filled()))
}

/// The events of a time line: a line each, its name above, in as few rows as do not overlap; when
/// there are too many, numbers there and names in the note.
struct Events {
    /// (seconds, text, lane).
    marks: Vec<(f64, String, i32)>,
    lanes: i32,
    note: String,
}

impl Events {
    fn of(courses: &[Course], until: f64) -> Self {
        let richest = courses.iter().max_by_key(|course| course.events.len());
        let events = richest.map_or(&[][..], |course| course.events.as_slice());
        let events: Vec<&(f64, String)> = events.iter().filter(|event| event.0 <= until).collect();
        let texts = || events.iter().map(|event| (event.0, event.1.clone()));
        if let Some((marks, lanes)) = in_lanes(texts(), until) {
            return Self { marks, lanes, note: String::new() };
        }
        let numbers = events.iter().enumerate();
        let numbered = numbers.map(|(index, event)| (event.0, (index + 1).to_string()));
        let (marks, lanes) = in_lanes(numbered, until).unwrap_or_default();
        let list =
            events.iter().enumerate().map(|(index, event)| format!("{} {}", index + 1, event.1));
        Self { marks, lanes, note: format!("{}; ", list.collect::<Vec<_>>().join(", ")) }
    }

    fn draw(&self, area: &Area<'_>, panel: &Panel<'_>) -> Drawn {
        for (seconds, text, lane) in &self.marks {
            let x = panel.x_at(*seconds);
            let y = panel.top - 10 - LANE * lane;
            let path = [(x, panel.bottom), (x, y)];
            marks::dashed(area, &path, (40, 30), EVENT.stroke_width(7))?;
            let width = text_width(text, NOTE);
            let is_late = x + width > panel.right;
            let side = if is_late { HPos::Right } else { HPos::Left };
            let at = (if is_late { x - 15 } else { x + 15 }, y);
            area.draw(&Text::new(text.clone(), at, text_style(NOTE, side, VPos::Bottom)))?;
        }
        let top = [(panel.left, panel.top), (panel.right, panel.top)];
        marks::dashed(area, &top, (0, 0), GRID.stroke_width(3))
    }
}

type Marks = Vec<(f64, String, i32)>;

/// Each text in the lowest row that is free; None when that takes too many. Widths are of a panel
/// somewhat narrower than it will be.
fn in_lanes(events: impl Iterator<Item = (f64, String)>, until: f64) -> Option<(Marks, i32)> {
    const PANEL_WIDTH: f64 = 2550.0;
    let mut free_from = Vec::new();
    let mut marks = Vec::new();
    for (seconds, text) in events {
        let x = marks::to_units(seconds / until * PANEL_WIDTH);
        let width = text_width(&text, NOTE) + 50;
        let is_late = f64::from(x + width) > PANEL_WIDTH;
        let (from, to) = if is_late { (x - width, x) } else { (x, x + width) };
        let free = free_from.iter().position(|free| *free <= from);
        let lane = free.unwrap_or(free_from.len());
        if free.is_none() {
            free_from.push(0);
        }
        free_from[lane] = to;
        marks.push((seconds, text, i32::try_from(lane).ok()?));
    }
    let lanes = i32::try_from(free_from.len()).ok()?;
    (lanes <= LANES_MAX).then_some((marks, lanes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_do_not_overlap_and_too_many_become_numbers() {
        super::super::style::load_font().unwrap();
        let event = |seconds: u32| (f64::from(seconds), "kill the leader".to_owned());
        let (marks, lanes) = in_lanes([event(1), event(2), event(8)].into_iter(), 10.0).unwrap();
        assert_eq!(lanes, 2);
        assert_eq!(marks.iter().map(|mark| mark.2).collect::<Vec<_>>(), [0, 1, 0]);
        assert!(in_lanes((1..9).map(event), 10.0).is_none());
    }
}
