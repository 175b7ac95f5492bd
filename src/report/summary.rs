//! The end of a run: a table per experiment, in Markdown and briefly for the terminal.

use super::caption::sentence;
use super::data::{FigureData, ratio_text};
use super::result::TrialResult;
use super::{model_error, noise};
use crate::experiment::spec::Experiment;
use std::fmt::Write as _;

/// `summary.md`, its figures linked relative to the output directory.
#[must_use]
pub fn markdown(
    experiments: &[Experiment],
    figures: &[FigureData],
    results: &[TrialResult],
    set_aside: &[TrialResult],
) -> String {
    let mut text =
        "# Results\n\nMedians over trials, 95 % bootstrap intervals in brackets: of fewer \
        than five trials hardly more than their range. All nodes share one machine: ratios on \
        bare loopback are not those of a cluster.\n"
            .to_owned();
    text.push_str(&noise::paragraph(results));
    text.push_str(&model_error::paragraph(results));
    for experiment in experiments {
        let drawn = || {
            let is_ours = |data: &&FigureData| experiment.figures.iter().any(|f| f.id == data.id);
            figures.iter().filter(is_ours)
        };
        if drawn().next().is_none() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {}: {}\n\nClaim: {}\n\n",
            experiment.id, experiment.title, experiment.claim
        );
        let ours = results.iter().filter(|result| result.trial.experiment == experiment.id);
        let invalid = ours.clone().filter(|result| !result.is_valid()).count();
        let _ = write!(text, "{} trials, {invalid} invalid and left out", ours.count());
        let again = set_aside.iter().filter(|result| result.trial.experiment == experiment.id);
        match again.count() {
            0 => text.push_str(".\n\n"),
            count => {
                let _ = writeln!(text, "; {count} more were invalid and run again (`invalid/`).\n");
            }
        }
        if let Some(baseline) =
            experiment.baseline.as_ref().filter(|_| drawn().any(|d| !d.ratios.is_empty()))
        {
            let _ = writeln!(text, "| figure | measured | at | series | over {baseline} |");
            text.push_str("| --- | --- | --- | --- | --- |\n");
            for data in drawn() {
                for ratio in &data.ratios {
                    let (id, label) = (&data.id, data.metric.label());
                    let value = ratio_text(&ratio.ratio);
                    let _ = writeln!(
                        text,
                        "| {id} | {label} | {} | {} | {value} |",
                        ratio.x_text, ratio.series
                    );
                }
            }
            text.push('\n');
        }
        for data in drawn() {
            let id = &data.id;
            let _ =
                writeln!(text, "- [{id}](figures/{id}.svg) ({}): {}", data.title, sentence(data));
        }
    }
    text
}

/// A line per figure.
#[must_use]
pub fn brief(figures: &[FigureData]) -> String {
    let mut text = String::new();
    for data in figures {
        let _ = writeln!(text, "{}: {}", data.id, sentence(data));
    }
    text
}
