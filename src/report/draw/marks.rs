//! Lines, markers, intervals and filled bars in units of the sheet.

use super::style::{Look, Pattern, Shape};
use super::{Area, Drawn};
use plotters::element::DashedPathElement;
use plotters::prelude::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::{BLACK, Color as _, RGBColor, WHITE};

/// A place on the sheet.
pub(super) type At = (i32, i32);

/// How a point's marker is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Full,
    /// Errors above the bound.
    Hollow,
    /// Simulated: open, with a dot.
    Dotted,
}

/// Dashes of the lines of theory.
const BOUND_DASHES: [(i32, i32); 4] = [(18, 22), (60, 26), (110, 40), (30, 60)];

#[expect(clippy::cast_possible_truncation, reason = "clamped to far beyond the drawing")]
pub(super) fn to_units(value: f64) -> i32 {
    value.round().clamp(-1e6, 1e6) as i32
}

pub(super) fn line(area: &Area<'_>, path: &[At], look: Look) -> Drawn {
    let style = look.colour.stroke_width(if look.simulated { 8 } else { 14 });
    dashed(area, path, look.dash, style)
}

/// A line of theory.
pub(super) fn bound(area: &Area<'_>, path: &[At], index: usize) -> Drawn {
    dashed(area, path, BOUND_DASHES[index % BOUND_DASHES.len()], BLACK.stroke_width(9))
}

pub(super) fn dashed(
    area: &Area<'_>,
    path: &[At],
    (dash, gap): (i32, i32),
    style: plotters::style::ShapeStyle,
) -> Drawn {
    if path.len() < 2 {
        return Ok(());
    }
    match dash {
        0 => area.draw(&PathElement::new(path.to_vec(), style)),
        dash => area.draw(&DashedPathElement::new(path.to_vec(), dash, gap, style)),
    }
}

/// A whisker with caps as wide as `half` to either side.
pub(super) fn interval(
    area: &Area<'_>,
    (x, half): (i32, i32),
    (low, high): (i32, i32),
    colour: RGBColor,
) -> Drawn {
    let style = colour.stroke_width(9);
    area.draw(&PathElement::new([(x, low), (x, high)], style))?;
    for y in [low, high] {
        area.draw(&PathElement::new([(x - half, y), (x + half, y)], style))?;
    }
    Ok(())
}

pub(super) fn marker(area: &Area<'_>, (x, y): At, look: Look, fill: Fill) -> Drawn {
    let inside = match fill {
        Fill::Full => look.colour.filled(),
        Fill::Hollow | Fill::Dotted => WHITE.filled(),
    };
    let edge = look.colour.stroke_width(12);
    if look.shape == Shape::Circle {
        area.draw(&Circle::new((x, y), 34, inside))?;
        area.draw(&Circle::new((x, y), 34, edge))?;
    } else {
        let shape = outline(look.shape).iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>();
        area.draw(&Polygon::new(shape.clone(), inside))?;
        let closed: Vec<_> = shape.iter().chain(&shape[..2]).copied().collect();
        area.draw(&PathElement::new(closed, edge))?;
    }
    if fill == Fill::Dotted {
        area.draw(&Circle::new((x, y), 11, look.colour.filled()))?;
    }
    Ok(())
}

fn outline(shape: Shape) -> &'static [At] {
    match shape {
        Shape::Circle => &[],
        Shape::Square => &[(-30, -30), (30, -30), (30, 30), (-30, 30)],
        Shape::Up => &[(0, -41), (37, 28), (-37, 28)],
        Shape::Diamond => &[(0, -43), (43, 0), (0, 43), (-43, 0)],
        Shape::Down => &[(0, 41), (37, -28), (-37, -28)],
        Shape::Pentagon => &[(0, -38), (36, -12), (22, 31), (-22, 31), (-36, -12)],
        Shape::Plus => &[
            (-14, -38),
            (14, -38),
            (14, -14),
            (38, -14),
            (38, 14),
            (14, 14),
            (14, 38),
            (-14, 38),
            (-14, 14),
            (-38, 14),
            (-38, -14),
            (-14, -14),
        ],
    }
}

/// A filled bar between two corners; light with an open edge when `fill` is not full.
pub(super) fn bar(area: &Area<'_>, one: At, two: At, look: Look, fill: Fill) -> Drawn {
    let (left, right) = (one.0.min(two.0), one.0.max(two.0));
    let (top, bottom) = (one.1.min(two.1), one.1.max(two.1));
    let corners = [(left, top), (right, bottom)];
    let ink = match fill {
        Fill::Full => {
            area.draw(&Rectangle::new(corners, look.colour.filled()))?;
            WHITE
        }
        Fill::Hollow | Fill::Dotted => {
            area.draw(&Rectangle::new(corners, WHITE.filled()))?;
            look.colour
        }
    };
    for path in hatching(look.pattern, (left, top), (right, bottom)) {
        area.draw(&PathElement::new(path, ink.stroke_width(9)))?;
    }
    let edge = if fill == Fill::Full { BLACK.stroke_width(4) } else { look.colour.stroke_width(9) };
    area.draw(&Rectangle::new(corners, edge))
}

const HATCH_STEP: i32 = 52;

fn hatching(pattern: Pattern, from: At, to: At) -> Vec<[At; 2]> {
    let level = |step| strokes(from.1, to.1, step).map(|y| [(from.0, y), (to.0, y)]).collect();
    let upright = |step| strokes(from.0, to.0, step).map(|x| [(x, from.1), (x, to.1)]).collect();
    match pattern {
        Pattern::Plain => Vec::new(),
        Pattern::Rising => diagonals(from, to, true),
        Pattern::Falling => diagonals(from, to, false),
        Pattern::Crossed => {
            let mut both = diagonals(from, to, true);
            both.extend(diagonals(from, to, false));
            both
        }
        Pattern::Level => level(HATCH_STEP),
        Pattern::Upright => upright(HATCH_STEP),
        Pattern::Wide => level(2 * HATCH_STEP),
    }
}

fn strokes(from: i32, to: i32, step: i32) -> impl Iterator<Item = i32> {
    (from / step + 1..).map(move |index| index * step).take_while(move |at| *at < to)
}

/// The lines x + y = c, or x - y = c, inside the rectangle.
fn diagonals(from: At, to: At, rising: bool) -> Vec<[At; 2]> {
    let sign = if rising { 1 } else { -1 };
    let ends = [from.0 + sign * from.1, from.0 + sign * to.1, to.0 + sign * from.1];
    let ends = [ends[0], ends[1], ends[2], to.0 + sign * to.1];
    let least = ends.iter().copied().min().unwrap_or(0);
    let most = ends.iter().copied().max().unwrap_or(0);
    let mut paths = Vec::new();
    for c in strokes(least, most, HATCH_STEP) {
        // x = c - sign * y, with y in the rectangle.
        let (one, two) = (c - sign * from.1, c - sign * to.1);
        let (left, right) = (one.min(two).max(from.0), one.max(two).min(to.0));
        if left < right {
            paths.push([(left, sign * (c - left)), (right, sign * (c - right))]);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hatching_stays_inside_its_bar() {
        let (from, to) = ((100, 200), (340, 900));
        for pattern in [Pattern::Rising, Pattern::Falling, Pattern::Crossed, Pattern::Level] {
            let paths = hatching(pattern, from, to);
            assert!(paths.len() > 5, "{pattern:?}");
            for (x, y) in paths.into_iter().flatten() {
                assert!((from.0..=to.0).contains(&x) && (from.1..=to.1).contains(&y));
            }
        }
        assert!(hatching(Pattern::Rising, (10, 10), (10, 40)).is_empty());
    }
}
