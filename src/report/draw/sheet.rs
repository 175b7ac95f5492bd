//! The sheet of a figure: title, legend, frame with ticks and labels, footnote; and the panel that
//! the kinds draw into. Everything is measured first, so that nothing is clipped or overlaps.

use super::legend::{self, Entry};
use super::marks::to_units;
use super::scale::Axis;
use super::style::{
    FAMILY, GRID, NOTE, PLOTTERS_FAMILY, TEXT, TITLE, text_style, text_width, wrapped,
};
use super::{Area, Drawn};
use plotters::drawing::IntoDrawingArea as _;
use plotters::prelude::{PathElement, SVGBackend, Text};
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, Color as _, FontTransform, WHITE};

/// 3.33 in at 1000 units an inch.
const WIDTH: i32 = 3330;
const PANEL_HEIGHT: i32 = 1500;
/// Free at the edges of the sheet.
const EDGE: i32 = 45;
const TITLE_LINE: i32 = 140;
const NOTE_LINE: i32 = 100;
const TEXT_LINE: i32 = 125;
/// Of a label of an event above the panel.
pub(super) const LANE: i32 = 105;

/// All but what is inside the panel.
pub(super) struct Sheet {
    pub title: String,
    pub legend: Vec<Entry>,
    pub x: Axis,
    pub y: Axis,
    pub note: String,
    /// Rows of labels between legend and panel.
    pub lanes: i32,
}

/// The rectangle that the axes span.
pub(super) struct Panel<'a> {
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
    pub x: &'a Axis,
    pub y: &'a Axis,
}

impl Panel<'_> {
    pub fn x_at(&self, x: f64) -> i32 {
        self.left + to_units(self.x.scale.share(x) * f64::from(self.right - self.left))
    }

    pub fn y_at(&self, y: f64) -> i32 {
        self.bottom - to_units(self.y.scale.share(y) * f64::from(self.bottom - self.top))
    }

    pub fn at(&self, x: f64, y: f64) -> (i32, i32) {
        (self.x_at(x), self.y_at(y))
    }
}

/// How the labels of the x axis are set, so that no two touch.
struct XLabels {
    size: f64,
    /// 1, or 2 when they alternate between two rows.
    rows: i32,
    kept: Vec<(i32, String)>,
}

impl Sheet {
    /// The sheet as SVG with text, `body` drawn inside its panel.
    pub fn draw(&self, body: impl Fn(&Area<'_>, &Panel<'_>) -> Drawn) -> Result<String, String> {
        let title = wrapped(&self.title, TITLE, WIDTH - 2 * EDGE);
        let note = wrapped(&self.note, NOTE, WIDTH - 2 * EDGE);
        let legend = legend::arranged(&self.legend, WIDTH - 2 * EDGE);
        let top = EDGE
            + TITLE_LINE * count(title.len())
            + legend::ROW * count(legend.len())
            + LANE * self.lanes
            + 45;
        let y_labels = self.y.ticks.iter().map(|tick| text_width(&tick.1, TEXT)).max().unwrap_or(0);
        let left = EDGE + TEXT_LINE + 30 + y_labels + 40;
        let last = self.x.ticks.last().map_or(0, |tick| text_width(&tick.1, TEXT) / 2);
        let right = WIDTH - EDGE - if self.x.is_named { 0 } else { (last - 60).max(30) };
        let (x, y) = (&self.x, &self.y);
        let panel = Panel { left, right, top, bottom: top + PANEL_HEIGHT, x, y };
        let labels = XLabels::of(&panel);
        let under = 50 + TEXT_LINE * labels.rows + 15;
        let height = panel.bottom + under + TEXT_LINE + 35 + NOTE_LINE * count(note.len()) + 15;
        let mut svg = String::new();
        {
            let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
            let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            let draw_all = || -> Drawn {
                area.fill(&WHITE)?;
                draw_lines(&area, &title, TITLE, EDGE, TITLE_LINE)?;
                legend::draw(&area, &legend, EDGE + TITLE_LINE * count(title.len()), WIDTH)?;
                self.draw_grid(&area, &panel)?;
                body(&area, &panel)?;
                self.draw_frame(&area, &panel, &labels, under)?;
                let from = panel.bottom + under + TEXT_LINE + 35;
                draw_lines(&area, &note, NOTE, from, NOTE_LINE)?;
                area.present()
            };
            draw_all().map_err(|error| error.to_string())?;
        }
        Ok(in_inches(&svg, height))
    }

    fn draw_grid(&self, area: &Area<'_>, panel: &Panel<'_>) -> Drawn {
        if self.y.is_named {
            return Ok(());
        }
        for (value, _) in &self.y.ticks {
            let y = panel.y_at(*value);
            let path = [(panel.left, y), (panel.right, y)];
            area.draw(&PathElement::new(path, GRID.stroke_width(5)))?;
        }
        Ok(())
    }

    fn draw_frame(
        &self,
        area: &Area<'_>,
        panel: &Panel<'_>,
        labels: &XLabels,
        under: i32,
    ) -> Drawn {
        let (left, bottom) = (panel.left, panel.bottom);
        for value in self.y.scale.minor_ticks() {
            let y = panel.y_at(value);
            area.draw(&PathElement::new([(left, y), (left - 14, y)], BLACK.stroke_width(4)))?;
        }
        for (value, text) in &self.y.ticks {
            let y = panel.y_at(*value);
            area.draw(&PathElement::new([(left, y), (left - 25, y)], BLACK.stroke_width(6)))?;
            let style = text_style(TEXT, HPos::Right, VPos::Center);
            area.draw(&Text::new(text.clone(), (left - 40, y), style))?;
        }
        for (index, (x, text)) in labels.kept.iter().enumerate() {
            let path = [(*x, bottom), (*x, bottom + 25)];
            area.draw(&PathElement::new(path, BLACK.stroke_width(6)))?;
            let row = count(index) % labels.rows;
            let style = text_style(labels.size, HPos::Center, VPos::Top);
            let at = (*x, bottom + 50 + TEXT_LINE * row);
            area.draw(&Text::new(text.clone(), at, style))?;
        }
        let frame = [(left, panel.top), (left, bottom), (panel.right, bottom)];
        area.draw(&PathElement::new(frame, BLACK.stroke_width(8)))?;
        let style = text_style(TEXT, HPos::Center, VPos::Top);
        let at = (i32::midpoint(left, panel.right), bottom + under);
        area.draw(&Text::new(self.x.label.clone(), at, style))?;
        // Beside the panel, and smaller when it is longer than the sheet is high.
        let longest = f64::from(PANEL_HEIGHT + 250);
        let shrunk = (longest / f64::from(text_width(&self.y.label, TEXT).max(1))).min(1.0);
        let style = text_style(TEXT * shrunk, HPos::Center, VPos::Top);
        let style = style.transform(FontTransform::Rotate270);
        let at = (EDGE - 10, i32::midpoint(panel.top, bottom));
        area.draw(&Text::new(self.y.label.clone(), at, style))
    }
}

impl XLabels {
    /// As set: in one row; smaller; in two rows; and of numbers only as many as fit.
    fn of(panel: &Panel<'_>) -> Self {
        let all: Vec<(i32, String)> =
            panel.x.ticks.iter().map(|tick| (panel.x_at(tick.0), tick.1.clone())).collect();
        for (size, rows) in [(TEXT, 1), (0.85 * TEXT, 1), (0.75 * TEXT, 1), (0.75 * TEXT, 2)] {
            let is_name_or_full = panel.x.is_named || size >= TEXT;
            if is_name_or_full && fits(&all, size, rows) {
                return Self { size, rows, kept: all };
            }
        }
        if panel.x.is_named {
            return Self { size: 0.6 * TEXT, rows: 2, kept: all };
        }
        let mut kept: Vec<(i32, String)> = Vec::new();
        for tick in all {
            kept.push(tick);
            if !fits(&kept, TEXT, 1) {
                kept.pop();
            }
        }
        Self { size: TEXT, rows: 1, kept }
    }
}

/// Does no label touch the next one of its row, nor leave the sheet?
fn fits(labels: &[(i32, String)], size: f64, rows: i32) -> bool {
    let rows = usize::try_from(rows).unwrap_or(1);
    (0..rows).all(|row| {
        let mut free_from = 0;
        labels.iter().skip(row).step_by(rows).all(|(x, text)| {
            let half = text_width(text, size) / 2;
            let is_free = x - half >= free_from && x + half <= WIDTH - 5;
            free_from = x + half + 35;
            is_free
        })
    })
}

fn draw_lines(area: &Area<'_>, lines: &[String], size: f64, from: i32, step: i32) -> Drawn {
    for (index, line) in lines.iter().enumerate() {
        let style = text_style(size, HPos::Center, VPos::Top);
        let at = (WIDTH / 2, from + step * count(index));
        area.draw(&Text::new(line.clone(), at, style))?;
    }
    Ok(())
}

fn in_inches(svg: &str, height: i32) -> String {
    let inches = |units: i32| format!("{:.3}in", f64::from(units) / 1000.0);
    let sized = |svg: &str, name: &str, units: i32| {
        svg.replacen(&format!("{name}=\"{units}\""), &format!("{name}=\"{}\"", inches(units)), 1)
    };
    let svg = sized(&sized(svg, "width", WIDTH), "height", height);
    let family = |name: &str| format!("font-family=\"{name}\"");
    svg.replace(&family(PLOTTERS_FAMILY), &family(FAMILY))
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX / 1000)
}
