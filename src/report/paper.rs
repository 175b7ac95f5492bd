//! `paper/`: every figure as PDF with its table, and a LaTeX file that includes them all.
//!
//! Plain pdflatex compiles it, with graphicx and booktabs alone. A table that is longer than a page
//! stays a file beside it.

use super::caption::{note, sentence};
use super::data::FigureData;
use super::draw::{self, has_pdf};
use super::figure::FigureError;
use super::result::{ResultError, write_atomically};
use super::table::{Table, tex_escaped};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longer tables are not set in the text.
const ROWS_MAX: usize = 32;
/// Figures after which LaTeX is told to place what waits.
const FIGURES_PER_PAGE: usize = 2;

/// The paper cannot be written.
#[derive(Debug, Error)]
pub enum PaperError {
    /// This program cannot write PDF.
    #[error(
        "this distkv was built without PDF; build it with 'cargo build --release --features pdf' \
         and run the command again"
    )]
    NoPdf,
    /// A figure cannot be drawn.
    #[error(transparent)]
    Figure(#[from] FigureError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] ResultError),
}

/// Writes `paper/` in the directory of a run; gives the path of `main.tex`.
///
/// # Errors
/// [`PaperError`], first of all without the feature `pdf`.
pub fn write(run: &Path, figures: &[FigureData]) -> Result<PathBuf, PaperError> {
    if !has_pdf() {
        return Err(PaperError::NoPdf);
    }
    let dir = run.join("paper");
    std::fs::create_dir_all(&dir)
        .map_err(|source| ResultError::Io { path: dir.clone(), source })?;
    for data in figures {
        let pdf = draw::draw(data)?.pdf.unwrap_or_default();
        write_atomically(&dir.join(format!("{}.pdf", data.id)), &pdf)?;
        let table = Table::of(data).tex(&format!("{} ({})", data.title, data.id));
        write_atomically(&dir.join(format!("{}.tex", data.id)), table.as_bytes())?;
    }
    let path = dir.join("main.tex");
    write_atomically(&path, main_tex(figures).as_bytes())?;
    Ok(path)
}

/// The file that includes every figure, its sentence as caption, and its table.
#[must_use]
pub fn main_tex(figures: &[FigureData]) -> String {
    let mut text = "% Written by distkv plot --paper. Compile with: pdflatex main.tex\n\
        \\documentclass[twocolumn]{article}\n\\usepackage[T1]{fontenc}\n\
        \\usepackage[utf8]{inputenc}\n\\usepackage{graphicx}\n\\usepackage{booktabs}\n\
        \\begin{document}\n\\title{DistKV: measured figures}\n\\date{}\n\\maketitle\n"
        .to_owned();
    for (index, data) in figures.iter().enumerate() {
        let id = &data.id;
        let says = tex_escaped(&sentence(data));
        let caption =
            format!("{}. {says} ({})", tex_escaped(&data.title), tex_escaped(&note(data)));
        let _ = write!(
            text,
            "\n\\begin{{figure}}[ht]\n\\centering\n\\includegraphics[width=\\columnwidth]{{{id}}}\n\
             \\caption{{{caption}}}\n\\label{{fig:{id}}}\n\\end{{figure}}\n"
        );
        if Table::of(data).rows.len() <= ROWS_MAX {
            let _ = write!(
                text,
                "\\begin{{table}}[ht]\n\\centering\n\\resizebox{{\\columnwidth}}{{!}}{{%\n\
                 \\input{{{id}.tex}}}}\n\\caption{{The points of Figure~\\ref{{fig:{id}}}.}}\n\
                 \\end{{table}}\n"
            );
        } else {
            let _ = writeln!(text, "% Its table is long: {id}.tex");
        }
        if (index + 1) % FIGURES_PER_PAGE == 0 {
            text.push_str("\\clearpage\n");
        }
    }
    text + "\\end{document}\n"
}
