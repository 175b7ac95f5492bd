//! Words from the data alone: the footnote of a figure, and one sentence that says what it shows.

use super::data::{
    Course, Distribution, ERRORS, FigureData, Plot, Points, Ratio, StackedBars, Surface, ratio_text,
};
use super::metric::Metric;
use super::remarks::NOT_STARTED;
use super::stats::{Estimate, RANGE_BELOW};
use std::cmp::Ordering;

/// How the points were made, with the marks that this figure has.
#[must_use]
pub fn note(data: &FigureData) -> String {
    let origin = &data.origin;
    let mut parts = Vec::new();
    if origin.shared_machine {
        parts.push("all nodes share one machine".to_owned());
    }
    if !origin.durability.is_empty() {
        let modes = origin.durability.iter().map(String::as_str).collect::<Vec<_>>();
        parts.push(format!("durability {}", modes.join(", ")));
    }
    let trials = match (origin.trials_min, origin.trials_max) {
        (one, other) if one == other => format!("{one} trials"),
        (least, most) => format!("{least} to {most} trials"),
    };
    let is_pooled = matches!(data.plot, Plot::Distributions(_));
    parts.push(match origin.trials_max {
        1 if is_pooled => "events of one trial".to_owned(),
        _ if is_pooled => format!("events of {trials}"),
        1 => "one trial each, no interval".to_owned(),
        // The bootstrap of so few is about their range.
        2..RANGE_BELOW if origin.trials_min == 1 => {
            format!("median of {trials}, range; *: one trial")
        }
        2..RANGE_BELOW => format!("median of {trials}, range"),
        _ if origin.trials_min == 1 => format!("median of {trials}, 95 % CI; *: one trial"),
        _ => format!("median of {trials}, 95 % CI"),
    });
    if !data.absent.is_empty() {
        parts.push(format!("no valid trial: {}", data.absent.join(", ")));
    }
    if let Plot::Points(points) = &data.plot {
        let hollow = points.series.iter().flat_map(|line| &line.points).filter(|p| p.hollow);
        let notes: Vec<&str> = hollow.flat_map(|point| point.notes.iter().copied()).collect();
        let why: Vec<&str> =
            [ERRORS, NOT_STARTED].into_iter().filter(|why| notes.contains(why)).collect();
        if !why.is_empty() {
            parts.push(format!("hollow: {}", why.join(" or ")));
        }
    }
    for (remark, count) in origin.remarks.iter().filter(|(remark, _)| **remark != NOT_STARTED) {
        parts.push(format!("{remark} in {}", trials_text(*count)));
    }
    if origin.simulated {
        parts.push("sim, dotted: simulated".to_owned());
    }
    if matches!(data.plot, Plot::Surface(_)) {
        parts.push("(in brackets): CI holds 1".to_owned());
    }
    parts.join("; ")
}

fn trials_text(count: usize) -> String {
    if count == 1 { "one trial".to_owned() } else { format!("{count} trials") }
}

/// One sentence, from the data alone.
#[must_use]
pub fn sentence(data: &FigureData) -> String {
    let what = match &data.plot {
        Plot::Stacked(bars) => capitalised(&bars.y_label),
        Plot::Points(_) | Plot::Timeline(_) | Plot::Distributions(_) | Plot::Surface(_) => {
            capitalised(&data.metric.what())
        }
    };
    let text = match &data.plot {
        Plot::Points(points) if !data.ratios.is_empty() => over_baseline(data, points),
        Plot::Points(points) => levels(data, points),
        Plot::Stacked(bars) => largest_parts(bars),
        Plot::Timeline(courses) => course_text(&data.metric, courses),
        Plot::Distributions(all) => distribution_text(&data.metric, all),
        Plot::Surface(surface) => surface_text(surface),
    };
    format!("{what}: {text}.")
}

/// Per series: its extremes relative to the baseline, and where it passes it.
fn over_baseline(data: &FigureData, points: &Points) -> String {
    let baseline = data.baseline.as_deref().unwrap_or("the baseline");
    let mut texts = Vec::new();
    for line in &points.series {
        let ratios: Vec<&Ratio> =
            data.ratios.iter().filter(|ratio| ratio.series == line.name).collect();
        let by_median = |a: &&&Ratio, b: &&&Ratio| a.ratio.median.total_cmp(&b.ratio.median);
        let (Some(least), Some(most)) =
            (ratios.iter().min_by(by_median), ratios.iter().max_by(by_median))
        else {
            continue;
        };
        let at = |ratio: &Ratio| format!("{} at {}", ratio_text(&ratio.ratio), ratio.x_text);
        let range = if ratios.len() == 1 {
            at(least)
        } else {
            format!("from {} to {}", at(least), at(most))
        };
        let is_number = points.categories.is_none();
        texts.push(format!("{} {range}{}", line.name, passing(&ratios, is_number)));
    }
    format!("relative to {baseline}, {}", texts.join("; "))
}

/// Where the interval leaves 1, and where the median passes it.
fn passing(ratios: &[&Ratio], is_number: bool) -> String {
    let sides: Vec<Ordering> = ratios.iter().filter_map(|ratio| ratio.side()).collect();
    if sides.is_empty() || sides.len() < ratios.len() {
        return String::new();
    }
    let all = |wanted: Ordering| sides.iter().all(|side| *side == wanted);
    if ratios.len() > 1 && all(Ordering::Greater) {
        return ", above it everywhere".to_owned();
    }
    if ratios.len() > 1 && all(Ordering::Less) {
        return ", below it everywhere".to_owned();
    }
    if all(Ordering::Equal) {
        return ", not told apart from it".to_owned();
    }
    let is_decided = |ratio: &&&Ratio| ratio.side() != Some(Ordering::Equal);
    let decided: Vec<&&Ratio> = ratios.iter().filter(is_decided).collect();
    let crossing = decided.windows(2).find_map(|pair| {
        let is_passed = is_number && pair[0].side() != pair[1].side();
        is_passed.then(|| format!(", passing it between {} and {}", pair[0].x_text, pair[1].x_text))
    });
    let undecided: Vec<&str> = ratios
        .iter()
        .filter(|ratio| ratio.side() == Some(Ordering::Equal))
        .map(|ratio| ratio.x_text.as_str())
        .collect();
    let mut text = crossing
        .or_else(|| if is_number { from_on(ratios, &decided) } else { None })
        .unwrap_or_default();
    if !undecided.is_empty() {
        text.push_str(&format!(", not told apart at {}", undecided.join(", ")));
    }
    text
}

/// On one side of 1 from some place on, and not told apart before.
fn from_on(ratios: &[&Ratio], decided: &[&&Ratio]) -> Option<String> {
    let side = decided.first()?.side()?;
    let is_all = decided.iter().all(|ratio| ratio.side() == Some(side));
    let last = ratios.get(ratios.len().checked_sub(decided.len())?..)?;
    let is_last = last.iter().all(|ratio| ratio.side() == Some(side));
    let word = if side == Ordering::Greater { "above" } else { "below" };
    (is_all && is_last).then(|| format!(", {word} it from {} on", last[0].x_text))
}

/// Without a baseline: the range of each series, and the distance from theory.
fn levels(data: &FigureData, points: &Points) -> String {
    let unit = data.metric.unit();
    let range = |line: &super::data::Series| {
        let by_median =
            |a: &&super::data::Point, b: &&super::data::Point| a.y.median.total_cmp(&b.y.median);
        let least = line.points.iter().min_by(by_median)?;
        let most = line.points.iter().max_by(by_median)?;
        let at = |point: &super::data::Point| {
            format!("{} at {}", estimate_text(&point.y, unit), point.x_text)
        };
        Some(match least.x_text == most.x_text {
            true => format!("{} {}", line.name, at(least)),
            false => format!("{} from {} to {}", line.name, at(least), at(most)),
        })
    };
    let mut texts: Vec<String> = points.series.iter().filter_map(range).collect();
    if let [bound] = points.bounds.as_slice() {
        let all = points.series.iter().flat_map(|line| &line.points);
        let over = all.filter_map(|point| {
            let is_here = |at: &&(f64, f64)| (at.0 - point.x).abs() < 1e-9;
            let theory = bound.points.iter().find(is_here)?.1;
            (theory != 0.0).then(|| (point.y.median / theory - 1.0, point.x_text.clone()))
        });
        let furthest = over.max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
        if let Some((share, at)) = furthest {
            texts.push(format!("furthest from {} by {:+.1} % at {at}", bound.name, 100.0 * share));
        }
    }
    texts.join("; ")
}

/// The largest part of each bar at the ends of the axis.
fn largest_parts(bars: &StackedBars) -> String {
    let last = bars.categories.len().saturating_sub(1);
    let ends = bars.stacks.iter().filter(|stack| stack.category == 0 || stack.category == last);
    let texts = ends.filter_map(|stack| {
        let parts = stack.parts.iter().zip(&bars.parts);
        let measured = parts.filter_map(|(part, name)| Some((part.as_ref()?.median, &name.name)));
        let (height, name) = measured.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let sum = stack.total.median;
        let share = if sum > 0.0 { 100.0 * height / sum } else { 0.0 };
        let (bar, at) = (&bars.bars[stack.bar], &bars.categories[stack.category]);
        Some(format!("{name} is {share:.0} % of {} with {bar} at {at}", number_text(sum)))
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// What each course fell to (or rose to, where less is better) after the first event.
fn course_text(metric: &Metric, courses: &[Course]) -> String {
    let more = metric.more_is_better() == Some(true);
    let texts = courses.iter().map(|course| {
        let first_event = course.events.first();
        let until = first_event.map_or(f64::INFINITY, |event| event.0);
        let medians = |is_after: bool| {
            let wanted = course.points.iter().filter(|p| (p.to_seconds > until) == is_after);
            wanted.map(|point| (point.y.median, point.from_seconds)).collect::<Vec<_>>()
        };
        let (before, after) = (medians(false), medians(true));
        let values: Vec<f64> = before.iter().map(|point| point.0).collect();
        let level = super::stats::median(&values).map(number_text);
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.0.total_cmp(&b.0);
        let worst =
            if more { after.iter().min_by(by_value) } else { after.iter().max_by(by_value) };
        match (level, first_event, worst) {
            (Some(level), Some((_, event)), Some((worst, at))) => {
                let worst = number_text(*worst);
                format!("{} {level} until '{event}', at worst {worst} at {at:.1} s", course.name)
            }
            (Some(level), _, _) => format!("{} {level} in the median", course.name),
            (None, _, _) => format!("{} has no interval before the first event", course.name),
        }
    });
    format!("in {}, {}", metric.unit(), texts.collect::<Vec<_>>().join("; "))
}

fn distribution_text(metric: &Metric, all: &[Distribution]) -> String {
    let unit = metric.unit();
    let texts = all.iter().map(|one| {
        let median = estimate_text(&one.median, unit);
        let most = one.values.last().copied().unwrap_or_default();
        let high = one.quantile(0.99);
        // p99 of fewer than a hundred is the greatest: say so and not more.
        if one.values.len() < 100 {
            return format!("{} median {median}, at most {} {unit}", one.name, number_text(most));
        }
        format!("{} median {median}, p99 {} {unit}", one.name, number_text(high))
    });
    texts.collect::<Vec<_>>().join("; ")
}

fn surface_text(surface: &Surface) -> String {
    let by_median =
        |a: &&super::data::Cell, b: &&super::data::Cell| a.ratio.median.total_cmp(&b.ratio.median);
    let at = |cell: &super::data::Cell| {
        let (x, y) = (&surface.xs[cell.x].1, &surface.ys[cell.y].1);
        format!("{} at {x} and {y}", ratio_text(&cell.ratio))
    };
    let least = surface.cells.iter().min_by(by_median).map(at).unwrap_or_default();
    let most = surface.cells.iter().max_by(by_median).map(at).unwrap_or_default();
    let crossings = surface.crossings();
    let passes = match crossings.first() {
        None => "the median never passes 1".to_owned(),
        Some(_) => {
            let each = crossings.iter().map(|(x, y)| format!("{} at {y}", number_text(*x)));
            let each = each.collect::<Vec<_>>().join(", ");
            format!("break-even near {each}, in {}", surface.x_label)
        }
    };
    let (series, baseline) = (&surface.series, &surface.baseline);
    format!("{series} over {baseline} from {least} to {most}; {passes}")
}

fn estimate_text(estimate: &Estimate, unit: &str) -> String {
    // A share needs no unit.
    let unit = if unit == "0 to 1" { String::new() } else { format!(" {unit}") };
    let median = number_text(estimate.median);
    match (estimate.low, estimate.high) {
        (Some(low), Some(high)) => {
            format!("{median}{unit} ({}-{})", number_text(low), number_text(high))
        }
        (Some(_) | None, _) => format!("{median}{unit} (one trial)"),
    }
}

/// Three digits that count.
#[must_use]
pub fn number_text(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else if size >= 0.001 {
        format!("{value:.3}")
    } else {
        format!("{value:.2e}")
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}
