//! Every kind is drawn, twice alike, and says in words what it shows.

use crate::synthetic::{built_in, gallery};
use distkv::experiment::spec::BUILT_IN;
use distkv::report::caption::{note, sentence};
use distkv::report::data::{FigureData, Plot};
use distkv::report::draw::has_pdf;
use distkv::report::figure::{FigureError, draw_all};
use distkv::report::paper;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Duration;

#[test]
fn redrawing_gives_the_same_bytes_and_every_figure_is_drawn() {
    let (experiments, mut results) = gallery();
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
        let drawn = draw_all(&experiments, &results, Path::new(&keep)).unwrap();
        for data in drawn {
            println!("{}: {}", data.id, sentence(&data));
        }
    }
}

#[test]
fn every_built_in_figure_is_drawn_in_less_than_ten_seconds() {
    let (experiments, results) = built_in("quick");
    let dir = tempfile::tempdir().unwrap();
    // Of this thread: other tests and programs do not count.
    let cpu_now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let started = cpu_now();
    let drawn = draw_all(&experiments, &results, dir.path()).unwrap();
    let taken = cpu_now() - started;
    println!("{} figures in {taken:?}", drawn.len());
    assert!(taken < Duration::from_secs(10), "{} figures took {taken:?}", drawn.len());
    let specs = experiments.iter().flat_map(|experiment| &experiment.figures);
    let is_missing = |id: &&String| drawn.iter().all(|data| data.id != **id);
    let missing: Vec<&String> = specs.map(|spec| &spec.id).filter(is_missing).collect();
    assert!(missing.is_empty(), "not drawn: {missing:?}");
}

#[test]
fn every_file_of_the_folder_is_built_in_and_its_baseline_gives_ratios() {
    let files = std::fs::read_dir("experiments").unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    for file in files {
        let name = file.to_str().unwrap();
        assert!(known.contains(&name), "{name} is not built in");
    }
    let (experiments, results) = built_in("quick");
    let dir = tempfile::tempdir().unwrap();
    let drawn = draw_all(&experiments, &results, dir.path()).unwrap();
    for experiment in experiments.iter().filter(|experiment| experiment.baseline.is_some()) {
        let own = || drawn.iter().filter(|data| data.experiment == experiment.id);
        let is_compared =
            |data: &FigureData| !data.ratios.is_empty() || matches!(data.plot, Plot::Surface(_));
        // Courses, distributions and parts are not compared in ratios.
        let is_plain = |data: &&FigureData| matches!(data.plot, Plot::Points(_) | Plot::Surface(_));
        if own().any(|data| is_plain(&data)) {
            assert!(own().any(is_compared), "{}: nothing is its baseline", experiment.id);
        }
    }
}

#[test]
fn results_of_two_runs_are_not_mixed() {
    let (experiments, mut results) = gallery();
    let mut other = results[0].clone();
    other.trial.config.duration_ms += 1;
    other.id = other.trial.id();
    results.push(other);
    let dir = tempfile::tempdir().unwrap();
    let mixed = draw_all(&experiments, &results, dir.path());
    assert!(matches!(mixed, Err(FigureError::Mixed { .. })));
}

fn figure(id: &str) -> FigureData {
    let (experiments, results) = gallery();
    let dir = tempfile::tempdir().unwrap();
    let drawn = draw_all(&experiments, &results, dir.path()).unwrap();
    drawn.into_iter().find(|data| data.id == id).unwrap()
}

#[test]
fn a_sentence_says_what_the_data_show() {
    let text = sentence(&figure("g-size-throughput"));
    assert!(text.starts_with("Throughput: relative to replicate"), "{text}");
    assert!(text.contains("above it from 4 KiB on, not told apart at 1 KiB"), "{text}");
    assert!(text.contains("at 1 MiB"), "{text}");
    let text = sentence(&figure("g-surface"));
    assert!(text.contains("break-even near") && text.contains("10 Mbit/s"), "{text}");
    let text = sentence(&figure("g-failure-throughput"));
    assert!(text.contains("until 'kill leader', at worst 0 at 3.0 s"), "{text}");
    let text = sentence(&figure("g-failure-first-commit"));
    assert!(text.contains("n=90 median"), "{text}");
}

#[test]
fn a_note_says_how_the_numbers_were_made() {
    let text = note(&figure("g-size-throughput"));
    assert!(text.contains("share one machine") && text.contains("durability sync"), "{text}");
    assert!(text.contains("median of 5 trials") && text.contains("simulated"), "{text}");
    assert_eq!(figure("g-size-throughput").invalid_count, 1);
    let text = note(&figure("g-storage"));
    assert!(text.contains("one trial"), "{text}");
    assert!(!note(&figure("g-codec")).contains("machine"));
    assert!(note(&figure("g-loss-p999")).contains("hollow"));
}

#[test]
fn without_pdf_the_command_says_what_to_build_and_with_it_the_paper_is_whole() {
    let (experiments, results) = gallery();
    let run = tempfile::tempdir().unwrap();
    let drawn = draw_all(&experiments, &results, &run.path().join("figures")).unwrap();
    if !has_pdf() {
        let error = paper::write(run.path(), &drawn).unwrap_err().to_string();
        assert!(error.contains("--features pdf"), "{error}");
        assert!(!run.path().join("paper").exists());
        return;
    }
    let main = std::fs::read_to_string(paper::write(run.path(), &drawn).unwrap()).unwrap();
    for data in &drawn {
        let id = &data.id;
        assert!(main.contains(&format!("{{{id}}}\n\\caption{{")), "{id}");
        let paper = std::fs::read(run.path().join(format!("paper/{id}.pdf"))).unwrap();
        let figure = std::fs::read(run.path().join(format!("figures/{id}.pdf"))).unwrap();
        assert!(paper.starts_with(b"%PDF-"));
        assert!(paper == figure, "{id} drawn twice differs");
        // The font is inside, and the page is 3.33 inches wide.
        let has = |wanted: &[u8]| paper.windows(wanted.len()).any(|part| part == wanted);
        assert!(has(b"/FontFile") && has(b"239.76"), "{id}");
    }
    if let Ok(keep) = std::env::var("DISTKV_KEEP_FIGURES") {
        paper::write(Path::new(&keep), &drawn).unwrap();
    }
}
