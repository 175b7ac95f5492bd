//! Bars side by side, and bars made of parts.

use super::legend::{Entry, Sample};
use super::lines::{
    self, draw_bounds, draw_star, fill_of, legend, looks_of, short_text, x_axis, y_axis,
};
use super::marks::{self, Fill};
use super::scale::{Axis, Scale};
use super::sheet::{LANE, Panel, Sheet};
use super::style::{Look, NOTE, has_look, looks, text_style, text_width};
use super::{Area, Drawn};
use crate::report::caption::{note, number_text};
use crate::report::data::{FigureData, Part, Point, Points, Stack, StackedBars};
use plotters::prelude::Text;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{BLACK, FontTransform};

/// Share of a place that its bars fill.
const FILLED: f64 = 0.8;

pub(super) fn draw(data: &FigureData, points: &Points) -> Result<String, String> {
    let y = y_axis(data, points);
    // There the length of a bar says nothing.
    if y.scale.log {
        return lines::draw(data, points);
    }
    let looks = looks_of(points);
    // Policies side by side on the axis keep their colours, and need no legend.
    let by_place = looks_by_place(points);
    let entries = if by_place.is_some() { &[] } else { &looks[..] };
    let is_starred = data.origin.trials_max > 1;
    let sheet = Sheet {
        title: data.title.clone(),
        legend: legend(points, entries, Sample::Bar),
        x: x_axis(points),
        y,
        note: note(data),
        lanes: 0,
    };
    sheet.draw(|area, panel| {
        let width = FILLED / points.series.len().max(1) as f64;
        for (index, (line, look)) in points.series.iter().zip(&looks).enumerate() {
            for point in &line.points {
                let left = point.x - FILLED / 2.0 + width * index as f64;
                let one = panel.at(left, panel.y.scale.floor());
                let two = panel.at(left + width, point.y.median);
                let look =
                    by_place.as_ref().and_then(|all| all.get(place_of(point))).unwrap_or(look);
                marks::bar(area, one, two, *look, fill_of(point, *look))?;
                let middle = i32::midpoint(one.0, two.0);
                let cap = ((two.0 - one.0) / 3).min(28);
                match (point.y.low, point.y.high) {
                    (Some(low), Some(high)) => {
                        let ends = (panel.y_at(low), panel.y_at(high));
                        marks::interval(area, (middle, cap), ends, BLACK)?;
                    }
                    (Some(_) | None, _) if is_starred => {
                        draw_star(area, (middle - 20, two.1 + 30))?
                    }
                    (Some(_) | None, _) => {}
                }
            }
        }
        draw_bounds(area, panel, points, FILLED / 2.0)
    })
}

/// For one series over names that have a look of their own.
fn looks_by_place(points: &Points) -> Option<Vec<Look>> {
    let names = points.categories.as_ref()?;
    let [series] = points.series.as_slice() else { return None };
    let is_known = names.iter().all(|name| has_look(name));
    let named: Vec<(&str, bool)> =
        names.iter().map(|name| (name.as_str(), series.simulated)).collect();
    is_known.then(|| looks(&named))
}

/// A bar's x is the index of its name.
fn place_of(point: &Point) -> usize {
    usize::try_from(marks::to_units(point.x)).unwrap_or(0)
}

/// Above this factor between the largest and the smallest bar, parts are shares of their bar.
const FACTOR_MAX: f64 = 8.0;

pub(super) fn draw_stacked(data: &FigureData, bars: &StackedBars) -> Result<String, String> {
    let names: Vec<(&str, bool)> =
        bars.parts.iter().map(|part| (part.name.as_str(), false)).collect();
    let looks = looks(&names);
    let entry = |(part, look): (&Part, &Look)| Entry {
        sample: Sample::Bar(*look),
        name: part.name.clone(),
    };
    let name = |(index, name): (usize, &String)| (index as f64, short_text(name));
    let sums = || bars.stacks.iter().map(|stack| heights(stack).sum::<f64>());
    let (least, most) = (sums().fold(f64::INFINITY, f64::min), sums().fold(0.0, f64::max));
    let as_shares = most > FACTOR_MAX * least;
    let tops = bars.stacks.iter().map(|stack| stack.total.high.unwrap_or(0.0)).chain(sums());
    let y = match as_shares {
        true => Scale::between(0.0, 100.0),
        false => Scale::linear(&tops.collect::<Vec<_>>(), true),
    };
    // Names of the bars stand upright over them.
    let label = |stack: &Stack| match (as_shares, bars.bars.len()) {
        (true, 1) => short_amount(stack.total.median, &bars.unit),
        (true, _) => {
            let amount = short_amount(stack.total.median, &bars.unit);
            format!("{} {amount}", bars.bars[stack.bar])
        }
        (false, 1) => String::new(),
        (false, _) => bars.bars[stack.bar].clone(),
    };
    let longest = bars.stacks.iter().map(|stack| text_width(&label(stack), NOTE)).max();
    let sheet = Sheet {
        title: data.title.clone(),
        legend: bars.parts.iter().zip(&looks).map(entry).collect(),
        x: Axis {
            scale: Scale::names(bars.categories.len()),
            ticks: bars.categories.iter().enumerate().map(name).collect(),
            label: bars.x_label.clone(),
            is_named: true,
        },
        y: Axis {
            ticks: y.ticks(5),
            scale: y,
            label: match as_shares {
                true => format!("share of the {} (%)", bars.y_what),
                false => bars.y_label.clone(),
            },
            is_named: false,
        },
        note: note(data),
        lanes: longest.filter(|longest| *longest > 0).map_or(0, |longest| longest / LANE + 1),
    };
    let is_starred = data.origin.trials_max > 1;
    sheet.draw(|area, panel| {
        for stack in &bars.stacks {
            let scale = if as_shares { 100.0 / heights(stack).sum::<f64>() } else { 1.0 };
            let width = FILLED / bars.bars.len().max(1) as f64;
            let left = stack.category as f64 - FILLED / 2.0 + width * stack.bar as f64;
            let ends = (left, left + 0.9 * width);
            draw_stack(area, panel, (stack, scale), ends, (&looks, &label(stack), is_starred))?;
        }
        Ok(())
    })
}

/// A time in the unit that suits it.
fn short_amount(value: f64, unit: &str) -> String {
    match unit {
        "\u{b5}s" if value >= 1e6 => format!("{} s", number_text(value / 1e6)),
        "\u{b5}s" if value >= 1e3 => format!("{} ms", number_text(value / 1e3)),
        _ => format!("{} {unit}", number_text(value)),
    }
}

fn heights(stack: &Stack) -> impl Iterator<Item = f64> {
    stack.parts.iter().map(|part| part.map_or(0.0, |part| part.median.max(0.0)))
}

/// One bar from `left` to `right`, its heights times `scale`, its label above it.
fn draw_stack(
    area: &Area<'_>,
    panel: &Panel<'_>,
    (stack, scale): (&Stack, f64),
    (left, right): (f64, f64),
    (looks, label, is_starred): (&[Look], &str, bool),
) -> Drawn {
    let mut from = 0.0;
    for (height, look) in heights(stack).zip(looks) {
        let to = from + height * scale;
        if height > 0.0 {
            marks::bar(area, panel.at(left, from), panel.at(right, to), *look, Fill::Full)?;
        }
        from = to;
    }
    let middle = i32::midpoint(panel.x_at(left), panel.x_at(right));
    let mut top = panel.y_at(from);
    match (stack.total.low, stack.total.high) {
        // Of the sum; a share of it has none.
        (Some(low), Some(high)) if scale.to_bits() == 1.0_f64.to_bits() => {
            let end = |end: f64| panel.y_at(from + end - stack.total.median);
            let cap = ((panel.x_at(right) - panel.x_at(left)) / 3).min(28);
            marks::interval(area, (middle, cap), (end(low), end(high)), BLACK)?;
            top = top.min(end(high));
        }
        (None, _) if is_starred => {
            draw_star(area, (middle - 20, top + 30))?;
            top -= 60;
        }
        (Some(_) | None, _) => {}
    }
    if label.is_empty() {
        return Ok(());
    }
    let style = text_style(NOTE, HPos::Center, VPos::Center);
    let style = style.transform(FontTransform::Rotate270);
    let at = (middle, top - 30 - text_width(label, NOTE) / 2);
    area.draw(&Text::new(label.to_owned(), at, style))
}
