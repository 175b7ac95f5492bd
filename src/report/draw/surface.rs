//! A ratio over two parameters: a coloured field for each measured place, the line where the ratio
//! is 1, and the band in which the interval of the ratio holds 1.

use super::legend::{Entry, Sample};
use super::lines::short_text;
use super::marks::At;
use super::scale::{Axis, Scale};
use super::sheet::{Panel, Sheet};
use super::style::{NOTE, text_style, text_width};
use super::{Area, Drawn};
use crate::report::caption::note;
use crate::report::data::{FigureData, Level, Surface};
use plotters::prelude::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color as _, RGBAColor, RGBColor, WHITE};

const MORE: RGBColor = RGBColor(213, 94, 0);
const LESS: RGBColor = RGBColor(0, 114, 178);
/// Colour is full at this factor, either way.
const FULL_FACTOR: f64 = 4.0;
/// Steps between two measured places.
const FINE: u32 = 24;

fn band() -> RGBAColor {
    BLACK.mix(0.28)
}

pub(super) fn draw(data: &FigureData, surface: &Surface) -> Result<String, String> {
    let axis = |places: &[(f64, String)], label: &str| {
        let name = |(index, place): (usize, &(f64, String))| (index as f64, short_text(&place.1));
        let ticks = places.iter().enumerate().map(name);
        Axis {
            scale: Scale::names(places.len()),
            ticks: ticks.collect(),
            label: label.to_owned(),
            is_named: true,
        }
    };
    let what = format!("{}: {} over {}", data.metric.what(), surface.series, surface.baseline);
    // What is not drawn stands in no legend.
    let over = surface.cells.iter().filter(|cell| cell.ratio.median > 1.0).count();
    let is_passed = over > 0 && over < surface.cells.len();
    let entry = |is_there: bool, sample: Sample, name: &str| {
        is_there.then(|| Entry { sample, name: name.to_owned() })
    };
    let legend = [
        entry(is_passed, Sample::Contour, "break-even (1x)"),
        entry(has_band(surface), Sample::Band(band()), "CI holds 1"),
    ];
    let sheet = Sheet {
        title: format!("{}; {what}", data.title),
        legend: legend.into_iter().flatten().collect(),
        x: axis(&surface.xs, &surface.x_label),
        y: axis(&surface.ys, &surface.y_label),
        note: note(data),
        lanes: 0,
    };
    sheet.draw(|area, panel| {
        draw_fields(area, panel, surface)?;
        draw_band(area, panel, surface)?;
        draw_contour(area, panel, surface)?;
        draw_numbers(area, panel, surface)
    })
}

fn draw_fields(area: &Area<'_>, panel: &Panel<'_>, surface: &Surface) -> Drawn {
    for cell in &surface.cells {
        let (x, y) = (cell.x as f64, cell.y as f64);
        let strength = (cell.ratio.median.ln() / FULL_FACTOR.ln()).clamp(-1.0, 1.0);
        let colour = if strength > 0.0 { MORE } else { LESS };
        let corners = [panel.at(x - 0.5, y - 0.5), panel.at(x + 0.5, y + 0.5)];
        area.draw(&Rectangle::new(corners, colour.mix(0.75 * strength.abs()).filled()))?;
        area.draw(&Rectangle::new(corners, WHITE.stroke_width(8)))?;
    }
    Ok(())
}

/// Rows of a fine grid, joined where they touch.
fn draw_band(area: &Area<'_>, panel: &Panel<'_>, surface: &Surface) -> Drawn {
    let step = 1.0 / f64::from(FINE);
    for row in 0..fine_steps(surface.ys.len()) {
        let y = f64::from(row) * step;
        let mut from = None;
        let last = fine_steps(surface.xs.len());
        for column in 0..=last {
            let x = f64::from(column) * step;
            let inside = column < last && is_in_band(surface, x + step / 2.0, y + step / 2.0);
            match (inside, from) {
                (true, None) => from = Some(x),
                (false, Some(start)) => {
                    let corners = [panel.at(start, y), panel.at(x, y + step)];
                    area.draw(&Rectangle::new(corners, band().filled()))?;
                    from = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
    }
    Ok(())
}

/// Does the interval of the ratio hold 1 there?
fn is_in_band(surface: &Surface, x: f64, y: f64) -> bool {
    let low = surface.log_ratio(x, y, Level::Low);
    let high = surface.log_ratio(x, y, Level::High);
    matches!((low, high), (Some(low), Some(high)) if low <= 0.0 && high >= 0.0)
}

fn has_band(surface: &Surface) -> bool {
    let step = 1.0 / f64::from(FINE);
    let middles =
        |places: usize| (0..fine_steps(places)).map(move |at| (f64::from(at) + 0.5) * step);
    middles(surface.ys.len()).any(|y| middles(surface.xs.len()).any(|x| is_in_band(surface, x, y)))
}

fn fine_steps(places: usize) -> u32 {
    u32::try_from(places.saturating_sub(1)).unwrap_or(0) * FINE
}

/// The median's line, by marching squares.
fn draw_contour(area: &Area<'_>, panel: &Panel<'_>, surface: &Surface) -> Drawn {
    let step = 1.0 / f64::from(FINE);
    let log =
        |x: u32, y: u32| surface.log_ratio(f64::from(x) * step, f64::from(y) * step, Level::Median);
    for y in 0..fine_steps(surface.ys.len()) {
        for x in 0..fine_steps(surface.xs.len()) {
            let corners = [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)];
            let crossings: Vec<At> = (0..4)
                .filter_map(|side| {
                    let (from, to) = (corners[side], corners[(side + 1) % 4]);
                    let (one, two) = (log(from.0, from.1)?, log(to.0, to.1)?);
                    let share = ((one > 0.0) != (two > 0.0)).then(|| one / (one - two))?;
                    let between = |a: u32, b: u32| {
                        step * (f64::from(a) + share * (f64::from(b) - f64::from(a)))
                    };
                    Some(panel.at(between(from.0, to.0), between(from.1, to.1)))
                })
                .collect();
            for pair in crossings.chunks_exact(2) {
                area.draw(&PathElement::new(pair.to_vec(), BLACK.stroke_width(16)))?;
            }
        }
    }
    Ok(())
}

/// The ratio at each place, on white, above the line; in brackets when its interval holds 1.
fn draw_numbers(area: &Area<'_>, panel: &Panel<'_>, surface: &Surface) -> Drawn {
    for cell in &surface.cells {
        let at = panel.at(cell.x as f64, cell.y as f64);
        let number = format!("{:.2}", cell.ratio.median);
        let text = match (cell.ratio.low, cell.ratio.high) {
            (Some(low), Some(high)) if low <= 1.0 && high >= 1.0 => format!("({number})"),
            (Some(_), _) => number,
            (None, _) => format!("{number}*"),
        };
        let half = text_width(&text, NOTE) / 2 + 14;
        let height = 52;
        let corners = [(at.0 - half, at.1 - height), (at.0 + half, at.1 + height)];
        area.draw(&Rectangle::new(corners, WHITE.mix(0.8).filled()))?;
        area.draw(&Text::new(text, at, text_style(NOTE, HPos::Center, VPos::Center)))?;
    }
    Ok(())
}
