//! One `[[figures]]` block of an experiment file: what is drawn, and as what kind.
//!
//! Parsed once into a form that cannot lack what its kind needs. Draws nothing.

use super::metric::Metric;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One figure of an experiment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Block")]
pub struct FigureSpec {
    /// File name without its ending.
    pub id: String,
    /// Above the plot.
    pub title: String,
    /// Parameter on the x axis; empty where the kind has its own (time line, distribution).
    pub x: String,
    /// What is measured; the first part of a stacked figure.
    pub y: Metric,
    /// Parameters whose values name the series; empty is one series.
    pub series: Vec<String>,
    /// Only trials with these values.
    pub only: BTreeMap<String, toml::Value>,
    /// The theoretical bound to draw.
    pub bound: Option<BoundKind>,
    /// How it is drawn.
    pub kind: FigureKind,
}

/// How a figure is drawn, with what only this kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// Points over x, joined by lines; short bars of their own where x is no number.
    Lines,
    /// A bar for each series at each x.
    Bars,
    /// A bar for each series at each x, made of parts.
    Stacked {
        /// From the axis upwards; all of one unit.
        parts: Vec<Metric>,
    },
    /// `y` of each interval over the time of the run, with its events.
    Timeline,
    /// Cumulative distribution of the samples that `y` names, over all trials.
    Cdf,
    /// Ratio of one series to the baseline over two parameters, with the line where it is 1.
    Surface {
        /// Parameter on the y axis.
        y_axis: String,
        /// The series above the baseline; needed when there is more than one.
        of: Option<String>,
    },
}

/// A bound that theory gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundKind {
    /// Storage over user bytes is at least n/k.
    NOverK,
    /// Puts a second that the leader's link lets through: full copies to N - 1 others.
    LinkFullCopies,
    /// What the leader's link lets through, a line for each code: operations a second, or the least
    /// latency of one put (its bytes on the link and one round trip).
    Link,
    /// Least latency of a put: one round trip, and one sync as the trials measured it.
    RoundTripAndSync,
    /// Bytes to N - 1 others for each user byte, a line for each code: (N - 1)/k.
    WireShards,
}

/// The block as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    id: String,
    title: String,
    #[serde(default)]
    kind: KindName,
    x: Option<String>,
    y: Option<Metric>,
    #[serde(default)]
    series: Vec<String>,
    #[serde(default)]
    only: BTreeMap<String, toml::Value>,
    bound: Option<BoundKind>,
    parts: Option<Vec<Metric>>,
    y_axis: Option<String>,
    of: Option<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    #[default]
    Lines,
    Bars,
    Stacked,
    Timeline,
    Cdf,
    Surface,
}

impl FigureSpec {
    /// Does `other` draw the same, under another name?
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let drawn = |of: &Self| {
            (of.kind.clone(), of.x.clone(), of.y.clone(), of.series.clone(), of.only.clone())
        };
        drawn(self) == drawn(other)
    }

    /// Every parameter that it names, to be checked against those that a trial has.
    pub fn parameters(&self) -> impl Iterator<Item = &String> {
        let y_axis = match &self.kind {
            FigureKind::Surface { y_axis, .. } => Some(y_axis),
            FigureKind::Lines
            | FigureKind::Bars
            | FigureKind::Stacked { .. }
            | FigureKind::Timeline
            | FigureKind::Cdf => None,
        };
        let x = Some(&self.x).filter(|x| !x.is_empty());
        self.series.iter().chain(x).chain(y_axis).chain(self.only.keys())
    }

    /// What it needs of a result: its parts, or its one metric.
    #[must_use]
    pub fn metrics(&self) -> Vec<&Metric> {
        match &self.kind {
            FigureKind::Stacked { parts } => parts.iter().collect(),
            FigureKind::Lines
            | FigureKind::Bars
            | FigureKind::Timeline
            | FigureKind::Cdf
            | FigureKind::Surface { .. } => vec![&self.y],
        }
    }
}

impl TryFrom<Block> for FigureSpec {
    type Error = String;

    fn try_from(block: Block) -> Result<Self, String> {
        let fault = |what: &str| format!("figure {}: {what}", block.id);
        if !is_file_name(&block.id) {
            return Err(fault("id must be letters, digits and '-', as it names files"));
        }
        let parts_given = block.parts.is_some();
        if parts_given && block.kind != KindName::Stacked {
            return Err(fault("parts belong to kind = \"stacked\" alone"));
        }
        if (block.y_axis.is_some() || block.of.is_some()) && block.kind != KindName::Surface {
            return Err(fault("y_axis and of belong to kind = \"surface\" alone"));
        }
        let needs_x = !matches!(block.kind, KindName::Timeline | KindName::Cdf);
        match (&block.x, needs_x) {
            (None, true) => return Err(fault("x is missing: the parameter on the x axis")),
            (Some(_), false) => {
                return Err(fault(
                    "x is not a parameter in a time line or distribution; leave it out",
                ));
            }
            (Some(_), true) | (None, false) => {}
        }
        let kind = match block.kind {
            KindName::Lines => FigureKind::Lines,
            KindName::Bars => FigureKind::Bars,
            KindName::Timeline => FigureKind::Timeline,
            KindName::Cdf => FigureKind::Cdf,
            KindName::Stacked => {
                let parts = block.parts.clone().unwrap_or_default();
                let Some(first) = parts.first() else {
                    return Err(fault("parts are missing: the metrics to stack"));
                };
                if let Some(other) = parts.iter().find(|part| part.unit() != first.unit()) {
                    let units = format!("{} and {}", first.unit(), other.unit());
                    return Err(fault(&format!("parts have two units: {units}")));
                }
                FigureKind::Stacked { parts }
            }
            KindName::Surface => {
                let y_axis = block.y_axis.clone();
                let y_axis = y_axis.ok_or_else(|| fault("y_axis is missing: a parameter"))?;
                FigureKind::Surface { y_axis, of: block.of.clone() }
            }
        };
        let first_part = block.parts.iter().flatten().next().cloned();
        let y = block.y.clone().or(first_part);
        let y = y.ok_or_else(|| fault("y is missing: what is measured"))?;
        if kind == FigureKind::Timeline && !y.is_in_time_lines() {
            return Err(fault(&format!("a time line has no {y}; it has {}", Metric::TIMED_NAMES)));
        }
        if kind == FigureKind::Cdf && !matches!(y, Metric::Quantity(_)) {
            return Err(fault(&format!("{y} is no sample; y names samples, as first_commit_ms")));
        }
        Ok(Self {
            id: block.id,
            title: block.title,
            x: block.x.unwrap_or_default(),
            y,
            series: block.series,
            only: block.only,
            bound: block.bound,
            kind,
        })
    }
}

fn is_file_name(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(rest: &str) -> Result<FigureSpec, String> {
        let text = format!("id = \"e2-a\"\ntitle = \"T\"\n{rest}");
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_the_default_and_every_kind_is_read() {
        let lines = parsed("x = \"nodes\"\ny = \"throughput\"").unwrap();
        assert_eq!(lines.kind, FigureKind::Lines);
        let bars = parsed("kind = \"bars\"\nx = \"workload\"\ny = \"get_p99\"").unwrap();
        assert_eq!(bars.kind, FigureKind::Bars);
        let stacked = "kind = \"stacked\"\nx = \"value_bytes\"\n\
            parts = [\"stage_queue_us\", \"stage_sync_us\"]";
        assert_eq!(parsed(stacked).unwrap().metrics().len(), 2);
        let line = parsed("kind = \"timeline\"\ny = \"throughput\"").unwrap();
        assert_eq!((line.kind, line.x.as_str()), (FigureKind::Timeline, ""));
        let cdf = parsed("kind = \"cdf\"\ny = \"first_commit_ms\"").unwrap();
        assert_eq!(cdf.kind, FigureKind::Cdf);
        let surface = "kind = \"surface\"\nx = \"value_bytes\"\ny_axis = \"rate_mbit\"\n\
            y = \"put_p50\"\nof = \"craft\"\nseries = [\"policy\"]";
        let surface = parsed(surface).unwrap();
        let named: Vec<_> = surface.parameters().cloned().collect();
        assert_eq!(named, ["policy", "value_bytes", "rate_mbit"]);
    }

    #[test]
    fn what_a_kind_lacks_is_named_with_the_figure() {
        for (rest, wanted) in [
            ("y = \"throughput\"", "x is missing"),
            ("x = \"nodes\"", "y is missing"),
            ("x = \"nodes\"\ny = \"thruput\"", "thruput"),
            ("x = \"nodes\"\ny = \"throughput\"\nparts = []", "parts belong"),
            ("x = \"nodes\"\ny = \"throughput\"\nof = \"craft\"", "of belong"),
            ("x = \"nodes\"\ny = \"throughput\"\ncolour = 1", "colour"),
            ("kind = \"stacked\"\nx = \"nodes\"", "parts are missing"),
            (
                "kind = \"stacked\"\nx = \"nodes\"\nparts = [\"put_p50\", \"stage_sync_us\"]",
                "two units",
            ),
            ("kind = \"surface\"\nx = \"nodes\"\ny = \"throughput\"", "y_axis is missing"),
            ("kind = \"timeline\"\nx = \"nodes\"\ny = \"throughput\"", "leave it out"),
            ("kind = \"timeline\"\ny = \"encode_speed\"", "time line has no"),
            ("kind = \"cdf\"\ny = \"throughput\"", "no sample"),
        ] {
            let error = parsed(rest).unwrap_err();
            assert!(error.contains(wanted), "{rest}: {error}");
        }
        let error = parsed("y = \"throughput\"").unwrap_err();
        assert!(error.contains("figure e2-a"), "{error}");
    }
}
