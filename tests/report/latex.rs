//! The paper in a real LaTeX: every figure and table is set, and nothing is missing.
//!
//! Without pdflatex it says so and passes, unless `DISTKV_REQUIRE_LATEX` is set (in CI).

use crate::synthetic::gallery;
use distkv::report::draw::has_pdf;
use distkv::report::figure::draw_all;
use distkv::report::paper;
use std::process::{Command, Stdio};

#[test]
fn pdflatex_sets_the_paper() {
    if !has_pdf() {
        // Built without PDF: `scripts/check.sh` runs this test with it.
        return;
    }
    let (experiments, results) = gallery();
    let run = tempfile::tempdir().unwrap();
    let drawn = draw_all(&experiments, &results, &run.path().join("figures")).unwrap();
    let main = paper::write(run.path(), &drawn).unwrap();
    let dir = main.parent().unwrap();
    // The second pass knows the labels of the first.
    for pass in 1..=2 {
        let mut latex = Command::new("pdflatex");
        latex.args(["-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "main.tex"]);
        let latex = latex.current_dir(dir).stdin(Stdio::null()).output();
        let Ok(output) = latex else {
            let is_required = std::env::var_os("DISTKV_REQUIRE_LATEX").is_some();
            assert!(!is_required, "no pdflatex on the PATH");
            eprintln!("NOTE: the paper was not compiled: no pdflatex on the PATH");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "pass {pass} of pdflatex:\n{said}");
    }
    let log = std::fs::read(dir.join("main.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    for data in &drawn {
        assert!(log.contains(&format!("<{}.pdf", data.id)), "{} is not in the paper", data.id);
    }
    for trouble in ["undefined", "Too many unprocessed floats", "Missing character"] {
        assert!(!log.contains(trouble), "pdflatex says '{trouble}':\n{log}");
    }
    assert!(dir.join("main.pdf").is_file());
}
