//! Draws one figure as SVG and PNG at the width of a column.
//!
//! Layout, scales and ticks are ours, on the primitives of plotters: its own mesh clips end labels
//! and drops the lowest label of a log axis. 1000 units an inch, then the size in points set
//! through the view box; text ends as outlines, so no font is needed to read the file.

use super::data::{FigureData, Point};
use super::figure::FigureError;
use super::metric::Metric;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::usvg;
use std::sync::Arc;

const FONT: &[u8] = include_bytes!("fonts/DejaVuSansCondensed.ttf");
const FAMILY: &str = "DejaVu Sans";
/// 3.33 in at 1000 units an inch.
const WIDTH: i32 = 3330;
const PLOT_HEIGHT: i32 = 1500;
const LEFT: i32 = 520;
const RIGHT: i32 = 90;
const TITLE_HEIGHT: i32 = 190;
const LEGEND_ROW: i32 = 140;
const BOTTOM: i32 = 460;
/// Asked for in plotters' size, which comes out divided by 1.24: 7.5 pt at 1000 units an inch.
const TEXT_SIZE: f64 = 104.0 * 1.24;
const TITLE_SIZE: f64 = 112.0 * 1.24;
const NOTE_SIZE: f64 = 80.0 * 1.24;
const DOTS_PER_INCH: f32 = 300.0;
/// Okabe and Ito's palette, without yellow, which is too light for a thin line.
const PALETTE: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
const GREY: RGBColor = RGBColor(215, 215, 215);
/// Dash and gap in units; 0 is a full line.
const DASHES: [(i32, i32); 6] = [(0, 0), (70, 40), (30, 40), (160, 40), (60, 30), (200, 80)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The figure as an SVG of outlines, and as PNG.
///
/// # Errors
/// [`FigureError::Draw`] when a library refuses.
pub fn draw(data: &FigureData) -> Result<(String, Vec<u8>), FigureError> {
    let fault = |reason: String| FigureError::Draw { id: data.id.clone(), reason };
    let svg = draw_svg(data).map_err(fault)?;
    outline(&svg).map_err(fault)
}

fn draw_svg(data: &FigureData) -> Result<String, String> {
    plotters::style::register_font("sans-serif", FontStyle::Normal, FONT)
        .map_err(|_| "the built-in font cannot be read".to_owned())?;
    let layout = Layout::of(data);
    let height = layout.bottom + BOTTOM;
    let mut svg = String::new();
    {
        let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area
            .fill(&WHITE)
            .and_then(|()| draw_frame(&area, data, &layout))
            .and_then(|()| draw_legend(&area, data))
            .and_then(|()| draw_series(&area, data, &layout))
            .and_then(|()| area.present());
        drawn.map_err(|error| error.to_string())?;
    }
    let inches = |units: i32| format!("{:.3}in", f64::from(units) / 1000.0);
    let svg =
        svg.replacen(&format!("width=\"{WIDTH}\""), &format!("width=\"{}\"", inches(WIDTH)), 1);
    let svg =
        svg.replacen(&format!("height=\"{height}\""), &format!("height=\"{}\"", inches(height)), 1);
    Ok(svg.replace("font-family=\"sans-serif\"", &format!("font-family=\"{FAMILY}\"")))
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

struct Layout {
    top: i32,
    bottom: i32,
    x: Scale,
    y: Scale,
}

impl Layout {
    fn of(data: &FigureData) -> Self {
        let top = TITLE_HEIGHT + LEGEND_ROW * legend_rows(data);
        let points = || data.series.iter().flat_map(|line| &line.points);
        let mut xs: Vec<f64> = points().map(|point| point.x).collect();
        let mut ys: Vec<f64> = points()
            .flat_map(|point| {
                [point.y.low.unwrap_or(point.y.median), point.y.high.unwrap_or(point.y.median)]
            })
            .chain(points().map(|point| point.y.median))
            .collect();
        ys.extend(data.bounds.iter().flat_map(|bound| bound.points.iter().map(|at| at.1)));
        let x = match &data.categories {
            Some(_) => {
                xs.extend([-0.5, xs.iter().copied().fold(0.0, f64::max) + 0.5]);
                Scale::linear(&xs, false)
            }
            None => Scale::of(&xs, false),
        };
        Self { top, bottom: top + PLOT_HEIGHT, x, y: Scale::of(&ys, true) }
    }

    fn x_at(&self, x: f64) -> i32 {
        LEFT + to_units(self.x.share(x) * f64::from(WIDTH - LEFT - RIGHT))
    }

    fn y_at(&self, y: f64) -> i32 {
        self.bottom - to_units(self.y.share(y) * f64::from(PLOT_HEIGHT))
    }
}

/// A linear axis, a logarithmic one, or one linear up to its least positive value (for a 0).
struct Scale {
    low: f64,
    high: f64,
    /// Smallest positive value, on a log axis that has a 0 as well.
    log: bool,
    zero_at: Option<f64>,
}

impl Scale {
    /// Logarithmic where the range spans a decade and a half.
    fn of(values: &[f64], from_zero: bool) -> Self {
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let low = positive.clone().fold(f64::INFINITY, f64::min);
        let high = positive.fold(0.0_f64, f64::max);
        if high <= 0.0 || high / low < 30.0 {
            return Self::linear(values, from_zero);
        }
        let has_zero = values.iter().any(|value| *value <= 0.0);
        let (low, high) = (low.log10(), high.log10());
        let margin = 0.05 * (high - low);
        // One step of its own to the left, for the 0.
        let zero_at = has_zero.then_some(low - 0.2 * (high - low));
        Self { low: zero_at.unwrap_or(low) - margin, high: high + margin, log: true, zero_at }
    }

    fn linear(values: &[f64], from_zero: bool) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let span = if high > low { high - low } else { high.abs().max(1.0) };
        let is_position = values.len() > 1 && !from_zero;
        let low = if from_zero { low.min(0.0) } else { low };
        let margin = if is_position && low < 0.0 { 0.0 } else { 0.06 * span };
        let below = if from_zero { 0.0 } else { margin };
        Self { low: low - below, high: high + margin, log: false, zero_at: None }
    }

    fn share(&self, value: f64) -> f64 {
        let at = match (self.log, self.zero_at) {
            (true, Some(zero)) if value <= 0.0 => zero,
            (true, _) => value.max(1e-12).log10(),
            (false, _) => value,
        };
        (at - self.low) / (self.high - self.low)
    }

    /// Values to label, about `wanted` of them.
    fn ticks(&self, wanted: u32) -> Vec<f64> {
        if !self.log {
            return linear_ticks(self.low, self.high, wanted);
        }
        let decades = self.high - self.low;
        let factors: &[f64] = if decades < 1.2 {
            &[1.0, 2.0, 5.0]
        } else if decades < 2.2 {
            &[1.0, 3.0]
        } else {
            &[1.0]
        };
        let mut ticks: Vec<f64> = self.zero_at.map(|_| 0.0).into_iter().collect();
        let least = self.zero_at.map_or(self.low, |zero| zero + 0.1 * decades);
        let stride = if decades > 6.5 { 2 } else { 1 };
        let mut exponent = self.low.floor();
        while exponent <= self.high {
            let all = factors.iter().map(|factor| factor * 10_f64.powf(exponent));
            ticks.extend(all.filter(|t| (least..=self.high).contains(&t.log10())));
            exponent += f64::from(stride);
        }
        ticks
    }
}

fn linear_ticks(low: f64, high: f64, wanted: u32) -> Vec<f64> {
    let rough = (high - low) / f64::from(wanted);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let mut index = (low / step).ceil();
    let mut ticks = Vec::new();
    while index * step <= high + step * 1e-9 {
        ticks.push(index * step);
        index += 1.0;
    }
    ticks
}

fn tick_text(value: f64) -> String {
    if value.abs() >= 1e6 {
        return format!("{}M", short(value / 1e6));
    }
    if value.abs() >= 1e4 { format!("{}k", short(value / 1e3)) } else { short(value) }
}

fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to far beyond the drawing")]
fn to_units(value: f64) -> i32 {
    value.round().clamp(-1e6, 1e6) as i32
}

fn text_style(size: f64, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    ("sans-serif", size).into_text_style(&(1, 1)).pos(Pos::new(horizontal, vertical)).color(&BLACK)
}

fn draw_frame(area: &Area<'_>, data: &FigureData, layout: &Layout) -> Drawn {
    let (top, bottom, right) = (layout.top, layout.bottom, WIDTH - RIGHT);
    for value in layout.y.ticks(5) {
        let y = layout.y_at(value);
        area.draw(&PathElement::new([(LEFT, y), (right, y)], GREY.stroke_width(5)))?;
        let style = text_style(TEXT_SIZE, HPos::Right, VPos::Center);
        area.draw(&Text::new(tick_text(value), (LEFT - 40, y), style))?;
    }
    for (x, text) in x_ticks(data, layout) {
        area.draw(&PathElement::new([(x, bottom), (x, bottom + 25)], BLACK.stroke_width(6)))?;
        let style = text_style(TEXT_SIZE, HPos::Center, VPos::Top);
        area.draw(&Text::new(text, (x, bottom + 65), style))?;
    }
    let frame = [(LEFT, top), (LEFT, bottom), (right, bottom)];
    area.draw(&PathElement::new(frame, BLACK.stroke_width(8)))?;
    let middle = i32::midpoint(LEFT, right);
    let style = text_style(TEXT_SIZE, HPos::Center, VPos::Bottom);
    area.draw(&Text::new(data.x_label.clone(), (middle, bottom + 345), style))?;
    let style = text_style(TEXT_SIZE, HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    let at = (30, i32::midpoint(top, bottom));
    area.draw(&Text::new(data.metric.label(), at, style))?;
    let style = text_style(NOTE_SIZE, HPos::Center, VPos::Bottom);
    area.draw(&Text::new(note(data), (WIDTH / 2, bottom + BOTTOM - 15), style))?;
    let style = text_style(TITLE_SIZE, HPos::Center, VPos::Top);
    area.draw(&Text::new(data.title.clone(), (WIDTH / 2, 35), style))
}

/// How the points were made, with the marks that this figure has.
fn note(data: &FigureData) -> String {
    let points = || data.series.iter().flat_map(|line| &line.points);
    let is_codec = matches!(data.metric, Metric::EncodeSpeed | Metric::DecodeSpeed);
    let place = if is_codec { "" } else { "all nodes on one machine; " };
    let mut text = format!("{place}median, 95 % CI");
    if points().any(|point| point.hollow) {
        text.push_str("; hollow: errors > 1 %");
    }
    if points().any(|point| point.y.low.is_none()) {
        text.push_str("; *: one trial");
    }
    text
}

/// Every x value that was measured, unless two labels would touch.
fn x_ticks(data: &FigureData, layout: &Layout) -> Vec<(i32, String)> {
    if let Some(names) = &data.categories {
        let all = names.iter().enumerate();
        return all.map(|(index, name)| (layout.x_at(index as f64), name.clone())).collect();
    }
    let mut points: Vec<&Point> = data.series.iter().flat_map(|line| &line.points).collect();
    points.sort_by(|one, other| one.x.total_cmp(&other.x));
    let mut ticks: Vec<(i32, String)> = Vec::new();
    let mut free_from = i32::MIN;
    for point in points {
        let text = point.x_text.trim_end_matches(" %").replace(" KiB", "Ki").replace(" MiB", "Mi");
        let x = layout.x_at(point.x);
        let half = 32 * i32::try_from(text.chars().count()).unwrap_or(0);
        if x - half > free_from {
            free_from = x + half + 40;
            ticks.push((x, text));
        }
    }
    ticks
}

fn legend_names(data: &FigureData) -> Vec<String> {
    let bound = data.bounds.iter().map(|bound| bound.name.clone());
    data.series.iter().map(|line| line.name.clone()).chain(bound).collect()
}

/// Two entries a row: a name is up to about 20 letters.
fn legend_rows(data: &FigureData) -> i32 {
    i32::try_from(legend_names(data).len().div_ceil(2)).unwrap_or(1)
}

fn draw_legend(area: &Area<'_>, data: &FigureData) -> Drawn {
    for (index, name) in legend_names(data).into_iter().enumerate() {
        let column = i32::try_from(index % 2).unwrap_or(0);
        let row = i32::try_from(index / 2).unwrap_or(0);
        let x = 260 + column * 1560;
        let y = TITLE_HEIGHT + row * LEGEND_ROW + LEGEND_ROW / 2 - 10;
        let ends = [(x, y), (x + 290, y)];
        if index < data.series.len() {
            if data.categories.is_none() {
                draw_line(area, &ends, index)?;
            }
            draw_marker(area, (x + 145, y), index, false)?;
        } else {
            draw_bound(area, &ends)?;
        }
        let style = text_style(TEXT_SIZE, HPos::Left, VPos::Center);
        area.draw(&Text::new(name, (x + 340, y), style))?;
    }
    Ok(())
}

fn draw_series(area: &Area<'_>, data: &FigureData, layout: &Layout) -> Drawn {
    for bound in &data.bounds {
        let at = |x: f64, y: f64| (layout.x_at(x), layout.y_at(y));
        if data.categories.is_some() {
            // Nothing lies between two categories: a short line at each.
            for (x, y) in &bound.points {
                draw_bound(area, &[at(x - 0.35, *y), at(x + 0.35, *y)])?;
            }
        } else {
            let path: Vec<_> = bound.points.iter().map(|(x, y)| at(*x, *y)).collect();
            draw_bound(area, &path)?;
        }
    }
    for (index, line) in data.series.iter().enumerate() {
        let at = |point: &Point| (layout.x_at(point.x), layout.y_at(point.y.median));
        let path: Vec<_> = line.points.iter().map(at).collect();
        if data.categories.is_none() {
            draw_line(area, &path, index)?;
        }
        for point in &line.points {
            draw_interval(area, layout, point, index)?;
            draw_marker(area, at(point), index, point.hollow)?;
            if point.y.low.is_none() {
                // One trial: a small asterisk instead of an interval.
                let style = text_style(TEXT_SIZE, HPos::Left, VPos::Bottom);
                area.draw(&Text::new("*", (at(point).0 + 40, at(point).1), style))?;
            }
        }
    }
    Ok(())
}

fn draw_interval(area: &Area<'_>, layout: &Layout, point: &Point, index: usize) -> Drawn {
    let (Some(low), Some(high)) = (point.y.low, point.y.high) else { return Ok(()) };
    let (x, low, high) = (layout.x_at(point.x), layout.y_at(low), layout.y_at(high));
    let style = PALETTE[index % PALETTE.len()].stroke_width(9);
    area.draw(&PathElement::new([(x, low), (x, high)], style))?;
    for y in [low, high] {
        area.draw(&PathElement::new([(x - 28, y), (x + 28, y)], style))?;
    }
    Ok(())
}

fn draw_line(area: &Area<'_>, path: &[(i32, i32)], index: usize) -> Drawn {
    let style = PALETTE[index % PALETTE.len()].stroke_width(14);
    match DASHES[index % DASHES.len()] {
        (0, _) => area.draw(&PathElement::new(path.to_vec(), style)),
        (dash, gap) => area.draw(&DashedPathElement::new(path.to_vec(), dash, gap, style)),
    }
}

fn draw_bound(area: &Area<'_>, path: &[(i32, i32)]) -> Drawn {
    area.draw(&DashedPathElement::new(path.to_vec(), 18, 22, BLACK.stroke_width(9)))
}

fn draw_marker(area: &Area<'_>, (x, y): (i32, i32), index: usize, hollow: bool) -> Drawn {
    let colour = PALETTE[index % PALETTE.len()];
    let fill = if hollow { WHITE.filled() } else { colour.filled() };
    let edge = colour.stroke_width(12);
    let shape: Vec<(i32, i32)> = match index % 5 {
        0 => {
            area.draw(&Circle::new((x, y), 34, fill))?;
            return area.draw(&Circle::new((x, y), 34, edge));
        }
        1 => vec![(x - 30, y - 30), (x + 30, y - 30), (x + 30, y + 30), (x - 30, y + 30)],
        2 => vec![(x, y - 41), (x + 37, y + 28), (x - 37, y + 28)],
        3 => vec![(x, y - 43), (x + 43, y), (x, y + 43), (x - 43, y)],
        _ => vec![(x, y + 41), (x + 37, y - 28), (x - 37, y - 28)],
    };
    area.draw(&Polygon::new(shape.clone(), fill))?;
    let closed: Vec<_> = shape.iter().chain(&shape[..2]).copied().collect();
    area.draw(&PathElement::new(closed, edge))
}

/// Text to outlines, and the picture at 300 dots an inch.
fn outline(svg: &str) -> Result<(String, Vec<u8>), String> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    let options = usvg::Options {
        font_family: FAMILY.to_owned(),
        fontdb: Arc::new(fonts),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let scale = DOTS_PER_INCH / options.dpi;
    let size = tree.size().to_int_size().scale_by(scale).ok_or("the figure has no size")?;
    let mut pixels = resvg::tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or("the figure has no size")?;
    resvg::render(
        &tree,
        resvg::tiny_skia::Transform::from_scale(scale, scale),
        &mut pixels.as_mut(),
    );
    let png = pixels.encode_png().map_err(|error| error.to_string())?;
    Ok((tree.to_string(&usvg::WriteOptions::default()), png))
}
