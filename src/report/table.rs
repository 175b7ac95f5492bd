//! The plotted numbers as a table: CSV in full, LaTeX (booktabs) and HTML rounded.

use super::caption::number_text;
use super::data::{Course, Distribution, FigureData, Plot, Points, StackedBars, Surface};
use super::stats::Estimate;
use std::fmt::Write as _;

/// The plotted numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Headings.
    pub columns: Vec<String>,
    /// Rows as wide as the headings.
    pub rows: Vec<Vec<Field>>,
}

/// A field.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// As it is.
    Text(String),
    /// Rounded where people read it.
    Number(f64),
    /// Nothing to say: an end of the interval of a single trial.
    Empty,
}

impl Table {
    /// Of any figure.
    #[must_use]
    pub fn of(data: &FigureData) -> Self {
        match &data.plot {
            Plot::Points(points) => of_points(data, points),
            Plot::Stacked(bars) => of_stacks(bars),
            Plot::Timeline(courses) => of_courses(data, courses),
            Plot::Distributions(all) => of_distributions(data, all),
            Plot::Surface(surface) => of_surface(surface),
        }
    }

    /// Comma-separated, fields quoted where they must be.
    #[must_use]
    pub fn csv(&self) -> String {
        let line = |fields: Vec<String>| fields.join(",") + "\n";
        let mut text = line(self.columns.iter().map(|name| quoted(name)).collect());
        for row in &self.rows {
            let field = |field: &Field| match field {
                Field::Text(text) => quoted(text),
                Field::Number(number) => number.to_string(),
                Field::Empty => String::new(),
            };
            text.push_str(&line(row.iter().map(field).collect()));
        }
        text
    }

    /// A `tabular` with booktabs' rules, `title` as a comment above it.
    #[must_use]
    pub fn tex(&self, title: &str) -> String {
        let is_number =
            |column: usize| self.rows.iter().all(|row| !matches!(row[column], Field::Text(_)));
        let letters: String =
            (0..self.columns.len()).map(|at| if is_number(at) { 'r' } else { 'l' }).collect();
        let mut text = format!("% {title}\n\\begin{{tabular}}{{{letters}}}\n\\toprule\n");
        let headings: Vec<String> = self.columns.iter().map(|name| tex_escaped(name)).collect();
        let _ = writeln!(text, "{} \\\\\n\\midrule", headings.join(" & "));
        for row in &self.rows {
            let fields: Vec<String> = row.iter().map(|field| tex_escaped(&field.text())).collect();
            let _ = writeln!(text, "{} \\\\", fields.join(" & "));
        }
        text + "\\bottomrule\n\\end{tabular}\n"
    }
}

impl Field {
    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number_text(*number),
            Self::Empty => "-".to_owned(),
        }
    }
}

/// With what means something to LaTeX written out.
#[must_use]
pub fn tex_escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '%' | '_' | '&' | '#' | '$' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("$<$"),
            '>' => escaped.push_str("$>$"),
            '\u{b5}' => escaped.push_str("$\\mu$"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text(text: &str) -> Field {
    Field::Text(text.to_owned())
}

fn end(end: Option<f64>) -> Field {
    end.map_or(Field::Empty, Field::Number)
}

/// Median, both ends, trials.
fn estimate(estimate: &Estimate) -> [Field; 4] {
    let trials = if estimate.trials == 1 { text("1*") } else { text(&estimate.trials.to_string()) };
    [Field::Number(estimate.median), end(estimate.low), end(estimate.high), trials]
}

fn of_points(data: &FigureData, points: &Points) -> Table {
    let what = data.metric.label();
    let names = ["series", &points.x_label, &what, "95 % low", "95 % high", "trials", "notes"];
    let mut rows = Vec::new();
    for line in &points.series {
        for point in &line.points {
            let mut notes = point.notes.clone();
            if line.simulated {
                notes.push("simulated");
            }
            let mut row = vec![text(&line.name), text(&point.x_text)];
            row.extend(estimate(&point.y));
            row.push(text(&notes.join("; ")));
            rows.push(row);
        }
    }
    for bound in &points.bounds {
        for (x, y) in &bound.points {
            let is_here = |point: &&super::data::Point| (point.x - x).abs() < 1e-9;
            let measured = points.series.iter().flat_map(|line| &line.points).find(is_here);
            let at = measured.map_or_else(|| x.to_string(), |point| point.x_text.clone());
            let ends = [Field::Number(*y), Field::Empty, Field::Empty, text(""), text("theory")];
            let row = [text(&bound.name), text(&at)].into_iter().chain(ends);
            rows.push(row.collect());
        }
    }
    Table { columns: columns(&names), rows }
}

fn of_stacks(bars: &StackedBars) -> Table {
    let names = ["bar", &bars.x_label, "part", &bars.y_label, "95 % low", "95 % high", "trials"];
    let mut rows = Vec::new();
    for stack in &bars.stacks {
        let head = [text(&bars.bars[stack.bar]), text(&bars.categories[stack.category])];
        for (part, name) in stack.parts.iter().zip(&bars.parts) {
            let Some(part) = part else { continue };
            let row = head.iter().cloned().chain([text(&name.name)]).chain(estimate(part));
            rows.push(row.collect());
        }
        let row = head.into_iter().chain([text("sum")]).chain(estimate(&stack.total));
        rows.push(row.collect());
    }
    Table { columns: columns(&names), rows }
}

fn of_courses(data: &FigureData, courses: &[Course]) -> Table {
    let what = data.metric.label();
    let names = ["series", "from (s)", "to (s)", &what, "95 % low", "95 % high", "trials", "event"];
    let mut rows = Vec::new();
    for course in courses {
        for point in &course.points {
            let is_here =
                |event: &&(f64, String)| (point.from_seconds..point.to_seconds).contains(&event.0);
            let events: Vec<&str> =
                course.events.iter().filter(is_here).map(|event| event.1.as_str()).collect();
            let times = [point.from_seconds, point.to_seconds].map(Field::Number);
            let row = [text(&course.name)].into_iter().chain(times).chain(estimate(&point.y));
            rows.push(row.chain([text(&events.join("; "))]).collect());
        }
    }
    Table { columns: columns(&names), rows }
}

fn of_distributions(data: &FigureData, all: &[Distribution]) -> Table {
    let what = data.metric.label();
    let mut rows = Vec::new();
    for one in all {
        for (index, value) in one.values.iter().enumerate() {
            let share = (index + 1) as f64 / one.values.len() as f64;
            rows.push(vec![text(&one.name), Field::Number(*value), Field::Number(share)]);
        }
    }
    Table { columns: columns(&["series", &what, "share at or below"]), rows }
}

fn of_surface(surface: &Surface) -> Table {
    let what = format!("{} over {}", surface.series, surface.baseline);
    let names = [&surface.x_label, &surface.y_label, &what, "95 % low", "95 % high", "trials"];
    let row = |cell: &super::data::Cell| {
        let places = [text(&surface.xs[cell.x].1), text(&surface.ys[cell.y].1)];
        places.into_iter().chain(estimate(&cell.ratio)).collect()
    };
    Table { columns: columns(&names), rows: surface.cells.iter().map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_for_csv_and_escaped_for_latex() {
        let rows = vec![
            vec![text("craft, sim"), Field::Number(1234.5)],
            vec![text("loss 5 %"), Field::Empty],
        ];
        let table = Table { columns: columns(&["series", "put_p50 (\u{b5}s)"]), rows };
        assert_eq!(table.csv(), "series,put_p50 (\u{b5}s)\n\"craft, sim\",1234.5\nloss 5 %,\n");
        let tex = table.tex("T");
        assert!(tex.contains("{lr}"), "{tex}");
        assert!(tex.contains("series & put\\_p50 ($\\mu$s) \\\\"), "{tex}");
        assert!(tex.contains("loss 5 \\% & - \\\\") && tex.contains("craft, sim & 1234"), "{tex}");
    }
}
