//! Writes every figure that results allow: SVG, PNG, the plotted points as CSV, a LaTeX table.
//!
//! Reads result files alone; the same files give the same bytes.

use super::caption;
use super::data::{FigureData, Mixed, Row};
use super::draw;
use super::result::{ResultError, TrialResult, write_atomically};
use super::table::Table;
use crate::experiment::spec::Experiment;
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
    let rows: Vec<Row<'_>> = results.iter().map(Row::of).collect();
    let mut drawn = Vec::new();
    for experiment in experiments {
        for spec in &experiment.figures {
            let mixed =
                |Mixed { one, other }| FigureError::Mixed { id: spec.id.clone(), one, other };
            let data = FigureData::of(experiment, spec, &rows).map_err(mixed)?;
            let Some(data) = data else { continue };
            let drawing = draw::draw(&data)?;
            let table = Table::of(&data);
            let file = |ending: &str| dir.join(format!("{}.{ending}", data.id));
            write_atomically(&file("svg"), drawing.svg.as_bytes())?;
            write_atomically(&file("png"), &drawing.png)?;
            if let Some(pdf) = &drawing.pdf {
                write_atomically(&file("pdf"), pdf)?;
            }
            write_atomically(&file("csv"), table.csv().as_bytes())?;
            let title = format!("{} ({}); {}", data.title, data.id, caption::note(&data));
            write_atomically(&file("tex"), table.tex(&title).as_bytes())?;
            drawn.push(data);
        }
    }
    Ok(drawn)
}
