//! The legend, above the panel: entries in rows as wide as the sheet.

use super::marks::{self, Fill};
use super::style::{Look, TEXT, text_style, text_width};
use super::{Area, Drawn};
use plotters::prelude::{PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color as _, RGBAColor};

/// Height of a row.
pub(super) const ROW: i32 = 140;
const SAMPLE: i32 = 270;
const GAP: i32 = 50;
const BETWEEN: i32 = 130;

/// What stands before a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    /// A line with its marker.
    Line(Look),
    /// A marker alone.
    Marker(Look),
    /// A filled bar.
    Bar(Look),
    /// A line of theory, by its index.
    Bound(usize),
    /// A full black line.
    Contour,
    /// A shaded band.
    Band(RGBAColor),
}

/// One entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub sample: Sample,
    pub name: String,
}

impl Entry {
    fn width(&self) -> i32 {
        self.sample_width() + GAP + text_width(&self.name, TEXT)
    }

    fn sample_width(&self) -> i32 {
        match self.sample {
            Sample::Marker(_) => 80,
            Sample::Line(_) | Sample::Bar(_) | Sample::Bound(_) => SAMPLE,
            Sample::Contour | Sample::Band(_) => SAMPLE,
        }
    }
}

/// In rows no wider than `width`.
pub(super) fn arranged(entries: &[Entry], width: i32) -> Vec<Vec<Entry>> {
    let mut rows: Vec<Vec<Entry>> = Vec::new();
    let mut free = 0;
    for entry in entries {
        let needed = entry.width() + BETWEEN;
        match rows.last_mut() {
            Some(row) if needed <= free + BETWEEN => row.push(entry.clone()),
            Some(_) | None => {
                rows.push(vec![entry.clone()]);
                free = width;
            }
        }
        free -= needed;
    }
    rows
}

/// Rows centred on a sheet of `width`, from `top` down.
pub(super) fn draw(area: &Area<'_>, rows: &[Vec<Entry>], top: i32, width: i32) -> Drawn {
    let mut y = top + ROW / 2 + 10;
    for row in rows {
        let between = BETWEEN * i32::try_from(row.len().saturating_sub(1)).unwrap_or(0);
        let used: i32 = row.iter().map(Entry::width).sum::<i32>() + between;
        let mut x = (width - used) / 2;
        for entry in row {
            draw_sample(area, entry, (x, y))?;
            let style = text_style(TEXT, HPos::Left, VPos::Center);
            let at = (x + entry.sample_width() + GAP, y);
            area.draw(&Text::new(entry.name.clone(), at, style))?;
            x += entry.width() + BETWEEN;
        }
        y += ROW;
    }
    Ok(())
}

fn draw_sample(area: &Area<'_>, entry: &Entry, (x, y): (i32, i32)) -> Drawn {
    let width = entry.sample_width();
    let ends = [(x, y), (x + width, y)];
    let middle = (x + width / 2, y);
    let corners = ((x, y - 42), (x + width, y + 42));
    let fill = |look: Look| if look.simulated { Fill::Dotted } else { Fill::Full };
    match entry.sample {
        Sample::Line(look) => {
            marks::line(area, &ends, look)?;
            marks::marker(area, middle, look, fill(look))
        }
        Sample::Marker(look) => marks::marker(area, middle, look, fill(look)),
        Sample::Bar(look) => marks::bar(area, corners.0, corners.1, look, fill(look)),
        Sample::Bound(index) => marks::bound(area, &ends, index),
        Sample::Contour => area.draw(&PathElement::new(ends, BLACK.stroke_width(16))),
        Sample::Band(colour) => area.draw(&Rectangle::new([corners.0, corners.1], colour.filled())),
    }
}
