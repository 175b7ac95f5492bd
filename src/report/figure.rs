//! Writes every figure that results allow: SVG, PNG, the plotted points as CSV, a LaTeX table.
//!
//! Reads result files alone; the same files give the same bytes.

use super::data::FigureData;
use super::draw;
use super::figure_spec::FigureKind;
use super::result::{ResultError, TrialResult, write_atomically};
use crate::experiment::spec::Experiment;
use std::fmt::Write as _;
use std::path::Path;
use thiserror::Error;

/// A figure that cannot be made.
#[derive(Debug, Error)]
pub enum FigureError {
    /// A drawing library refused.
    #[error("figure {id}: {reason}")]
    Draw {
        /// The figure.
        id: String,
        /// Why.
        reason: String,
    },
    /// Results of two runs with other parameters lie in one directory.
    #[error(
        "figure {id}: results {one} and {other} are the same point of two runs with other \
         parameters; give each profile or --set its own --out directory"
    )]
    Mixed {
        /// The figure.
        id: String,
        /// A result.
        one: String,
        /// The other.
        other: String,
    },
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] ResultError),
}

/// Draws all figures of `experiments` that `results` have points for, under `dir`.
///
/// # Errors
/// [`FigureError`] for the first that cannot be drawn or written.
pub fn draw_all(
    experiments: &[Experiment],
    results: &[TrialResult],
    dir: &Path,
) -> Result<Vec<FigureData>, FigureError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| ResultError::Io { path: dir.to_owned(), source })?;
    let mut drawn = Vec::new();
    for experiment in experiments {
        for spec in &experiment.figures {
            if spec.kind != FigureKind::Lines {
                // Read, and not drawn yet.
                continue;
            }
            let mixed = |(one, other)| FigureError::Mixed { id: spec.id.clone(), one, other };
            let data = FigureData::of(experiment, spec, results).map_err(mixed)?;
            let Some(data) = data else { continue };
            let (svg, png) = draw::draw(&data)?;
            let file = |ending: &str| dir.join(format!("{}.{ending}", data.id));
            write_atomically(&file("svg"), svg.as_bytes())?;
            write_atomically(&file("png"), &png)?;
            write_atomically(&file("csv"), csv(&data).as_bytes())?;
            write_atomically(&file("tex"), tex(&data).as_bytes())?;
            drawn.push(data);
        }
    }
    Ok(drawn)
}

/// The plotted points.
#[must_use]
pub fn csv(data: &FigureData) -> String {
    let mut text =
        "series,x,x_text,median,ci95_low,ci95_high,trials,errors_above_bound\n".to_owned();
    let end = |end: Option<f64>| end.map(|end| end.to_string()).unwrap_or_default();
    for line in &data.series {
        for point in &line.points {
            let (y, x_text) = (&point.y, &point.x_text);
            let (low, high) = (end(y.low), end(y.high));
            let row = format!("{},{},{x_text},{},{low},{high}", line.name, point.x, y.median);
            let _ = writeln!(text, "{row},{},{}", y.trials, point.hollow);
        }
    }
    for bound in &data.bounds {
        for (x, y) in &bound.points {
            let _ = writeln!(text, "{},{x},,{y},,,,false", bound.name.replace(',', ""));
        }
    }
    text
}

/// The plotted points as a booktabs table.
#[must_use]
pub fn tex(data: &FigureData) -> String {
    let mut text = format!(
        "% {} ({})\n\\begin{{tabular}}{{llrrr}}\n\\toprule\n{} & {} & median & 95\\,\\% CI & trials \\\\\n\\midrule\n",
        tex_escaped(&data.title),
        data.id,
        "series",
        tex_escaped(&data.x_label),
    );
    for line in &data.series {
        for point in &line.points {
            let interval = match (point.y.low, point.y.high) {
                (Some(low), Some(high)) => format!("{low:.3}--{high:.3}"),
                (Some(_) | None, _) => "one trial".to_owned(),
            };
            let (name, x) = (tex_escaped(&line.name), tex_escaped(&point.x_text));
            let (y, hollow) = (&point.y, if point.hollow { "$^{e}$" } else { "" });
            let _ = writeln!(
                text,
                "{name} & {x} & {:.3}{hollow} & {interval} & {} \\\\",
                y.median, y.trials
            );
        }
    }
    let unit = tex_escaped(&data.metric.label());
    let _ = write!(
        text,
        "\\bottomrule\n\\end{{tabular}}\n% {unit}; e: errors above 1 % of operations\n"
    );
    text
}

fn tex_escaped(text: &str) -> String {
    text.replace('%', "\\%").replace('_', "\\_").replace('&', "\\&").replace('\u{b5}', "$\\mu$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::trial::TrialKind;
    use crate::report::result::{CodecResult, tests::sample};

    /// Plausible results of all experiments: coding gains with size, and noise by repeat.
    fn synthetic() -> (Vec<Experiment>, Vec<TrialResult>) {
        let experiments: Vec<Experiment> = Experiment::built_in()
            .unwrap()
            .into_iter()
            .map(|experiment| {
                // E5's full axis has a 0 on a logarithmic scale.
                let profile = if experiment.id == "E5" { "paper" } else { "quick" };
                experiment.under_profile(profile).unwrap()
            })
            .collect();
        let mut results = Vec::new();
        for experiment in &experiments {
            for trial in experiment.trials(1).unwrap() {
                let config = &trial.config;
                let code = config.parsed_code().unwrap();
                let rate = if config.rate_mbit > 0.0 { config.rate_mbit / 8.0 } else { 800.0 };
                let share = f64::from(code.n()) / f64::from(code.k());
                let wire = config.value_bytes as f64 * share / rate * f64::from(config.clients);
                let loss = 1.0 + config.loss_percent / 4.0;
                let noise = 1.0 + 0.04 * f64::from(trial.repeat);
                let us = ((700.0 + wire) * loss * noise) as u64;
                let mut result = sample(&trial.experiment, trial.repeat, config.clone(), us);
                for (phase, node) in result.phases.iter_mut().flat_map(|phase| {
                    let bytes = phase.user_bytes_written;
                    phase.nodes.iter_mut().map(move |node| (bytes, node))
                }) {
                    node.bytes_retransmitted =
                        (phase as f64 * config.loss_percent / 100.0 / f64::from(code.k())) as u64;
                }
                if config.loss_percent > 10.0 {
                    result.phases[1].timeouts = 100;
                }
                if config.kind == TrialKind::Codec {
                    result.phases.clear();
                    let base = if config.backend == "reed-solomon-simd" { 3.0 } else { 1.2 };
                    let speed = base * noise / (1.0 + 9000.0 / config.value_bytes as f64);
                    let codec = CodecResult {
                        encode_gb_per_s: speed,
                        decode_gb_per_s: speed * 0.8,
                        ..CodecResult::default()
                    };
                    result.codec = Some(codec);
                }
                results.push(result);
            }
        }
        (experiments, results)
    }

    #[test]
    fn results_of_two_runs_are_not_mixed() {
        let (experiments, mut results) = synthetic();
        let mut other = results[0].clone();
        other.trial.config.duration_ms += 1;
        other.id = other.trial.id();
        results.push(other);
        let dir = tempfile::tempdir().unwrap();
        let mixed = draw_all(&experiments, &results, dir.path());
        assert!(matches!(mixed, Err(FigureError::Mixed { .. })));
    }

    #[test]
    fn redrawing_gives_the_same_bytes_and_every_figure_is_drawn() {
        let (experiments, mut results) = synthetic();
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let drawn = draw_all(&experiments, &results, &one).unwrap();
        let wanted: usize = experiments.iter().map(|experiment| experiment.figures.len()).sum();
        assert_eq!(drawn.len(), wanted);
        results.reverse();
        draw_all(&experiments, &results, &two).unwrap();
        for entry in std::fs::read_dir(&one).unwrap() {
            let path = entry.unwrap().path();
            let other = two.join(path.file_name().unwrap());
            assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(other).unwrap(), "{path:?}");
        }
        if let Ok(keep) = std::env::var("DISTKV_KEEP_FIGURES") {
            draw_all(&experiments, &results, Path::new(&keep)).unwrap();
        }
    }
}
