//! The report in a real browser: every figure there and enlarged, nothing fetched, no error.
//!
//! Without a browser it says so and passes, unless `DISTKV_REQUIRE_BROWSER` is set (in CI).

use crate::synthetic::gallery;
use distkv::report::figure::draw_all;
use distkv::report::page;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Browsers that answer to the same options.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).collect::<Vec<_>>();
    let all = BROWSERS.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    all.into_iter().find(|file| file.is_file())
}

/// A report with claims; gives the number of figures.
fn written(run: &Path) -> usize {
    let (experiments, results) = gallery();
    let claims =
        r#"{"claims": [{"id": "T1", "claim": "a < b & c", "verdict": "holds", "ratio": 2.1}]}"#;
    std::fs::write(run.join("claims.json"), claims).unwrap();
    let figures = draw_all(&experiments, &results, &run.join("figures")).unwrap();
    page::write(run, &experiments, &figures, &results).unwrap();
    figures.len()
}

#[test]
fn a_page_holds_claims_figures_commands_and_what_is_invalid() {
    let run = tempfile::tempdir().unwrap();
    let figures = written(run.path());
    let text = std::fs::read_to_string(run.path().join("report.html")).unwrap();
    assert_eq!(text.matches("class=\"zoom\"").count(), figures);
    assert_eq!(text.matches("role=\"img\"").count(), figures);
    for wanted in [
        "<td>T1</td><td>a &lt; b &amp; c</td><td>holds</td><td>2.10</td>",
        "--only G-size --out ",
        "the generator was late: p99 of lag 4.1 ms",
        "Synthetic CPU &amp; Co &lt;test&gt; (2 logical cores)",
        "trials simulated</span>",
        "@software{distkv",
    ] {
        assert!(text.contains(wanted), "no {wanted}");
    }
    assert!(!text.contains("{{"));
    // Written again, it is the same.
    written(run.path());
    assert_eq!(text, std::fs::read_to_string(run.path().join("report.html")).unwrap());
}

#[test]
fn a_browser_shows_and_enlarges_every_figure_and_fetches_nothing() {
    let Some(browser) = browser() else {
        let is_required = std::env::var_os("DISTKV_REQUIRE_BROWSER").is_some();
        assert!(!is_required, "no browser ({}) on the PATH", BROWSERS.join(", "));
        eprintln!("NOTE: the report was not tried: no {} on the PATH", BROWSERS.join(", "));
        return;
    };
    let run = tempfile::tempdir().unwrap();
    let figures = written(run.path());
    let page = run.path().join("report.html");
    let profile = run.path().join("profile");
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.args(["--no-first-run", "--disable-background-networking", "--enable-logging=stderr"]);
    command.args(["--window-size=1200,900", "--virtual-time-budget=5000", "--timeout=60000"]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg("--dump-dom");
    command.arg(format!("file://{}?selftest", page.display()));
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (dom, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said = dom.split_once("id=\"selftest\" hidden=\"\">").map(|split| split.1);
    let said = said.and_then(|rest| rest.split('<').next()).unwrap_or_default();
    let wanted = format!("figures {figures}, enlarged {figures}, fetched 0, errors 0 ");
    assert_eq!(said, wanted, "{log}");
    assert!(!log.contains("CONSOLE"), "{log}");
    if let Ok(keep) = std::env::var("DISTKV_KEEP_FIGURES") {
        std::fs::create_dir_all(&keep).unwrap();
        std::fs::copy(&page, Path::new(&keep).join("report.html")).unwrap();
    }
}
