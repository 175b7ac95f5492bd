//! `report.html`: claims, figures with their data and commands, environment, invalid trials.
//!
//! One file that fetches nothing: styles, script and figures are inside, and its policy forbids the
//! rest. Built from what `distkv plot` wrote, so the same files give the same bytes.

mod claims;
mod environment;

pub use claims::ClaimsError;

use super::caption::{note, sentence};
use super::data::FigureData;
use super::result::TrialResult;
use super::result::{ResultError, write_atomically};
use super::table::Table;
use crate::experiment::spec::Experiment;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use thiserror::Error;

const SKELETON: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page cannot be written.
#[derive(Debug, Error)]
pub enum PageError {
    /// The claims cannot be shown.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] ResultError),
}

/// Writes `report.html` in the directory of a run, from its figures (already drawn) and its
/// `claims.json`, if there is one; gives its path.
///
/// # Errors
/// [`PageError`] with the file.
pub fn write(
    run: &Path,
    experiments: &[Experiment],
    figures: &[FigureData],
    results: &[TrialResult],
) -> Result<PathBuf, PageError> {
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).map_err(|source| ResultError::Io { path, source })
    };
    let mut drawn = Vec::new();
    for data in figures {
        drawn.push((data, read(run.join("figures").join(format!("{}.svg", data.id)))?));
    }
    let claims = match read(run.join("claims.json")) {
        Err(ResultError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
        claims => Some(claims?),
    };
    let claims = claims.as_deref();
    let page = html(&Content { run, experiments, figures: &drawn, results, claims })?;
    let path = run.join("report.html");
    write_atomically(&path, page.as_bytes())?;
    Ok(path)
}

/// What the page is about.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Directory of the run, as the commands name it.
    pub run: &'a Path,
    /// All experiments, before a profile.
    pub experiments: &'a [Experiment],
    /// Figures with their SVG.
    pub figures: &'a [(&'a FigureData, String)],
    /// All results, invalid ones too.
    pub results: &'a [TrialResult],
    /// The text of `claims.json`, when there is one.
    pub claims: Option<&'a str>,
}

/// The whole page.
///
/// # Errors
/// [`ClaimsError`] when `claims.json` is there and not readable.
pub fn html(content: &Content<'_>) -> Result<String, ClaimsError> {
    let title = format!("DistKV results: {}", content.run_name());
    let contents = contents(content);
    let pieces = [
        ("css", STYLE.to_owned()),
        ("title", escaped(&title)),
        ("marks", environment::marks(content.results)),
        ("contents", contents),
        ("claims", claims::section(content.claims)?),
        ("experiments", content.experiments.iter().map(|one| section(content, one)).collect()),
        ("environment", environment::table(content.results)),
        ("invalid", environment::invalid(content.results)),
        ("cite", environment::citation(content.results)),
        ("script", SCRIPT.to_owned()),
    ];
    // Piece by piece from left to right: what is put in is not looked at again.
    let mut page = String::new();
    let mut rest = SKELETON;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        let piece = pieces.iter().find(|piece| piece.0 == name);
        page.push_str(piece.map_or("", |piece| piece.1.as_str()));
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

impl Content<'_> {
    /// As given, but of an absolute path its last part alone: the page is passed on.
    fn run_name(&self) -> String {
        let last = self.run.file_name().filter(|_| self.run.is_absolute());
        last.map_or_else(|| self.run.display().to_string(), |name| name.display().to_string())
    }
}

fn figures_of<'a>(
    content: &'a Content<'_>,
    experiment: &'a Experiment,
) -> impl Iterator<Item = &'a (&'a FigureData, String)> {
    content.figures.iter().filter(|figure| figure.0.experiment == experiment.id)
}

fn contents(content: &Content<'_>) -> String {
    let mut links = "<a href=\"#claims\">Claims</a>".to_owned();
    let drawn = |one: &&Experiment| figures_of(content, one).next().is_some();
    for one in content.experiments.iter().filter(drawn) {
        let id = escaped(&one.id);
        let _ = write!(links, "<a href=\"#{id}\">{id}</a>");
    }
    links
        + "<a href=\"#environment\">Environment</a><a href=\"#invalid\">Invalid trials</a>\
        <a href=\"#cite\">How to cite</a>"
}

/// An experiment with its figures; empty when none was drawn.
fn section(content: &Content<'_>, experiment: &Experiment) -> String {
    if figures_of(content, experiment).next().is_none() {
        return String::new();
    }
    let ours = || content.results.iter().filter(|result| result.trial.experiment == experiment.id);
    let invalid = ours().filter(|result| !result.is_valid()).count();
    let profile = environment::profile_of(experiment, ours());
    let run = content.run_name();
    let set = experiment.overridden.iter().map(|set| format!(" --set {set}"));
    let command = format!(
        "distkv reproduce {}--only {}{} --out {run}",
        profile.map(|name| format!("--profile {name} ")).unwrap_or_default(),
        experiment.id,
        set.collect::<String>()
    );
    let mut text = format!(
        "<section id=\"{id}\"><h2>{id}: {}</h2>\n<p>Expected before the run: {}</p>\n\
         <p>{} trials, {invalid} invalid and left out. {}</p>\n<pre><code>{}</code></pre>\n\
         <div class=\"figures\">\n",
        escaped(&experiment.title),
        escaped(&experiment.claim),
        ours().count(),
        profile.map_or_else(
            || "Parameters of no single profile.".to_owned(),
            |name| format!("<span class=\"mark\">profile {name}</span>")
        ),
        escaped(&command),
        id = escaped(&experiment.id),
    );
    for (data, svg) in figures_of(content, experiment) {
        text.push_str(&figure(data, svg, &command));
    }
    text + "</div></section>\n"
}

fn figure(data: &FigureData, svg: &str, command: &str) -> String {
    let says = escaped(&sentence(data));
    let (id, title) = (escaped(&data.id), escaped(&data.title));
    let mut marks = String::new();
    if data.origin.simulated {
        marks.push_str(" <span class=\"mark\">simulated points</span>");
    }
    if data.origin.trials_min == 1 {
        marks.push_str(" <span class=\"mark\">single trials</span>");
    }
    format!(
        "<figure id=\"{id}\"><button type=\"button\" class=\"zoom\" aria-label=\"Enlarge {id}: \
         {title}\">{}</button>\n<figcaption><strong>{id}</strong>: {says}{marks}<br>\
         <small>{}; {} invalid trials left out.</small></figcaption>\n\
         <details><summary>Data and command</summary><pre><code>{}</code></pre>\n{}</details>\
         </figure>\n",
        inline(svg, &format!("{title}. {says}")),
        escaped(&note(data)),
        data.invalid_count,
        escaped(&format!("{command}   # draws figures/{}.*", data.id)),
        table(&Table::of(data)),
    )
}

/// The drawing as part of the page: scales with its frame, and says what it shows. `label` is
/// escaped.
fn inline(svg: &str, label: &str) -> String {
    let attribute = |name: &str| {
        let rest = svg.split_once(&format!("{name}=\"")).map_or("", |split| split.1);
        rest.split('"').next().unwrap_or_default()
    };
    let (width, height) = (attribute("width"), attribute("height"));
    let head =
        format!("<svg role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {width} {height}\" ");
    svg.replacen("<svg ", &head, 1)
}

fn table(table: &Table) -> String {
    let cell = |tag: &str, text: &str| format!("<{tag}>{}</{tag}>", escaped(text));
    let head: String = table.columns.iter().map(|name| cell("th", name)).collect();
    let mut text = format!("<div class=\"scroll\"><table><thead><tr>{head}</tr></thead><tbody>\n");
    for row in &table.rows {
        let fields: String = row.iter().map(|field| cell("td", &field.text())).collect();
        let _ = writeln!(text, "<tr>{fields}</tr>");
    }
    text + "</tbody></table></div>"
}

/// With what means something to HTML written out.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}
