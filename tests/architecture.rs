//! The house's laws as tests: layers, sizes, names and docs, read from the sources themselves.
//!
//! It looks at text, not at syntax: it relies on rustfmt's layout. Tests inside the sources may
//! import what they like. Exceptions are lists in this file, each with its reason.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first. A module may import lower layers only.
const LAYERS: &[&[&str]] = &[
    &["types", "time", "rng", "mutant"],
    &["config"],
    &["coding"],
    &["storage", "transport", "netem", "kv", "history"],
    &["paxos"],
    &["replica"],
    &["sim"],
    &["bench"],
    EDGE,
    &["cli"],
];

/// One layer whose modules still import each other (a launcher needs a client, a client a socket; a
/// figure needs an experiment's spec, an experiment a result).
const EDGE: &[&str] = &["client", "node", "experiment", "report"];

/// Pairs that the layers would allow and the design does not.
const FORBIDDEN: &[(&str, &str)] =
    &[("paxos", "kv"), ("transport", "paxos"), ("paxos", "transport")];

const FILE_LINES_MAX: usize = 550;
const FUNCTION_LINES_MAX: usize = 90;
/// Of code; rustfmt leaves comments alone, and they get the width of their marker on top.
const LINE_CHARS_MAX: usize = 100;
const COMMENT_CHARS_MAX: usize = 104;
const MODULE_DOC_LINES_MAX: usize = 24;

/// (file, reason)
const LONG_FILES: &[(&str, &str)] = &[];
/// (file, function, reason)
const LONG_FUNCTIONS: &[(&str, &str, &str)] =
    &[("src/paxos/message.rs", "write", "an arm for each message")];

/// (file, reason)
const WIDE_FILES: &[(&str, &str)] = &[
    ("src/bench/choices.rs", "a macro's arm that rustfmt cannot break"),
    ("src/bench/workload.rs", "a message in a string"),
    ("src/cli/cluster.rs", "help text"),
    ("src/client/blocking.rs", "messages in strings"),
    ("src/report/figure.rs", "a line of LaTeX"),
    ("src/storage/disk.rs", "a message in a string"),
    ("src/transport/wire.rs", "the datagram format as a table"),
    ("src/types/sets.rs", "a macro's arm that rustfmt cannot break"),
];

/// (file, reason)
const UNDOCUMENTED: &[(&str, &str)] = &[];

const BAD_NAMES: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "misc", "shared"];

struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// `src/paxos/choice.rs` and `src/paxos.rs` are of `paxos`; the crate's roots are of none.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let name = inside.split('/').next()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (name != "lib" && name != "main").then_some(name)
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(Source { path: relative, text: fs::read_to_string(&path).unwrap() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no sources under {folders:?}");
    found
}

/// The text without comments of whole lines and without the inline tests at its end.
fn production(text: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let starts_tests = line == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if starts_tests {
            break;
        }
        if !line.trim_start().starts_with("//") {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The crate's modules that `text` names as `crate::x` or within `crate::{..}`.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads_of_group(group)),
            None => found.push(word(rest)),
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found.sort();
    found.dedup();
    found
}

/// First names of the members of a braced import, up to its closing brace.
fn heads_of_group(group: &str) -> Vec<String> {
    let (mut heads, mut depth, mut is_start) = (Vec::new(), 0_u32, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                heads.push(word(&group[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// What is wrong with `module` importing `imported`.
fn import_problem(module: &str, imported: &str) -> Option<String> {
    if module == imported {
        return None;
    }
    let Some(importer) = layer(module) else {
        return Some(format!("module {module} has no layer: give it one in LAYERS"));
    };
    let of = layer(imported)?;
    if FORBIDDEN.contains(&(module, imported)) {
        return Some(format!("{module} must never import {imported}"));
    }
    let are_edge = EDGE.contains(&module) && EDGE.contains(&imported);
    if of < importer || are_edge {
        return None;
    }
    Some(format!("{module} must not import {imported}: imports point downward only"))
}

/// Names and lengths, in lines, of functions. Relies on rustfmt: the closing brace stands under the
/// first letter of the line with `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let Some(name) = function_name(body) else { continue };
        let closing = format!("{}}}", &line[..line.len() - body.len()]);
        if body.ends_with('}') || body.ends_with(';') {
            continue;
        }
        let end = lines[at..].iter().position(|line| *line == closing);
        found.push((name, end.map_or(0, |end| end + 1)));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    for before in words.by_ref() {
        let is_modifier =
            matches!(before, "const" | "async" | "unsafe" | "extern") || before.starts_with("pub");
        if before == "fn" {
            return words.next().map(word).filter(|name| !name.is_empty());
        }
        if !is_modifier && !before.ends_with(')') {
            return None;
        }
    }
    None
}

/// What is wrong with the module docs at the start of `text`.
fn doc_problem(text: &str) -> Option<String> {
    if !text.starts_with("//!") {
        return Some("its first line must be `//! What it is.`".to_owned());
    }
    let lines = text.lines().take_while(|line| line.starts_with("//!")).count();
    (lines > MODULE_DOC_LINES_MAX).then(|| format!("{lines} lines of module docs"))
}

fn has_bad_name(path: &str) -> bool {
    path.split('/').any(|part| BAD_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)))
}

fn is_wide(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    line.chars().count() > if is_comment { COMMENT_CHARS_MAX } else { LINE_CHARS_MAX }
}

fn wide_lines(text: &str) -> Vec<usize> {
    let numbered = text.lines().enumerate();
    numbered.filter(|(_, line)| is_wide(line)).map(|(at, _)| at + 1).collect()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn imports_point_downward() {
    let mut problems = Vec::new();
    for source in sources(&["src"]) {
        let Some(module) = source.module() else { continue };
        if source.is_test() {
            continue;
        }
        for imported in imports(&production(&source.text)) {
            if let Some(problem) = import_problem(module, &imported) {
                problems.push(format!("{}: {problem}", source.path));
            }
        }
    }
    report(&problems);
}

#[test]
fn every_module_has_a_layer() {
    let all = sources(&["src"]);
    let modules = all.iter().filter_map(Source::module);
    let lost: Vec<String> = modules.filter(|m| layer(m).is_none()).map(str::to_owned).collect();
    report(&lost);
}

#[test]
fn files_functions_and_lines_keep_their_size() {
    let mut problems = Vec::new();
    for Source { path, text } in sources(&["src", "tests", "benches"]) {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX && !LONG_FILES.iter().any(|(file, _)| *file == path) {
            problems.push(format!("{path}: {lines} lines, more than {FILE_LINES_MAX}"));
        }
        for (name, lines) in functions(&text) {
            let excepted = LONG_FUNCTIONS.iter().any(|(file, f, _)| *file == path && *f == name);
            if lines > FUNCTION_LINES_MAX && !excepted {
                problems.push(format!("{path}: fn {name} has {lines} lines"));
            }
        }
        if WIDE_FILES.iter().any(|(file, _)| *file == path) {
            continue;
        }
        for line in wide_lines(&text) {
            problems.push(format!("{path}:{line}: more than {LINE_CHARS_MAX} columns"));
        }
    }
    report(&problems);
}

#[test]
fn modules_are_named_and_documented() {
    let mut problems = Vec::new();
    for source in sources(&["src", "tests", "benches"]) {
        if has_bad_name(&source.path) {
            problems.push(format!("{}: the name says nothing", source.path));
        }
        if UNDOCUMENTED.iter().any(|(file, _)| *file == source.path) {
            continue;
        }
        if let Some(problem) = doc_problem(&source.text) {
            problems.push(format!("{}: {problem}", source.path));
        }
    }
    report(&problems);
}

#[test]
fn bincode_has_one_place() {
    let uses = |source: &Source| production(&source.text).contains("bincode::");
    let all = sources(&["src"]);
    let places: Vec<&str> = all.iter().filter(|s| uses(s)).map(|s| s.path.as_str()).collect();
    assert_eq!(places, ["src/types/pack.rs"]);
}

mod checkers {
    use super::*;

    #[test]
    fn imports_are_found_in_every_form() {
        let text = "use crate::types::Slot;\nuse crate::{\n    coding::Coder, kv::{a, b},\n};\n\
            fn f() -> crate::time::Instant {}\nuse mycrate::sim;";
        assert_eq!(imports(text), ["coding", "kv", "time", "types"]);
    }

    #[test]
    fn comments_and_inline_tests_do_not_count() {
        let text = "use crate::types;\n// crate::kv\n#[cfg(test)]\nmod tests {\nuse crate::sim;\n}";
        assert_eq!(imports(&production(text)), ["types"]);
    }

    #[test]
    fn upward_sideways_and_forbidden_imports_are_problems() {
        for (module, imported) in [
            ("types", "config"),
            ("kv", "storage"),
            ("paxos", "kv"),
            ("transport", "paxos"),
            ("replica", "node"),
            ("node", "cli"),
            ("bench", "client"),
            ("unheard_of", "types"),
        ] {
            assert!(import_problem(module, imported).is_some(), "{module} -> {imported}");
        }
        for (module, imported) in [
            ("paxos", "storage"),
            ("replica", "paxos"),
            ("cli", "node"),
            ("kv", "kv"),
            ("report", "experiment"),
        ] {
            assert_eq!(import_problem(module, imported), None);
        }
    }

    #[test]
    fn functions_are_measured() {
        let method = "    pub(super) const fn f(\n        a: u8,\n    ) {\n        g();\n    }\n";
        let text =
            format!("impl A {{\n{method}}}\nfn s() {{}}\nasync fn h() {{\n}}\nlet fn_x = 1;");
        assert_eq!(functions(&text), [("f".to_owned(), 5), ("h".to_owned(), 2)]);
    }

    #[test]
    fn docs_names_and_widths_are_judged() {
        assert!(doc_problem("use x;").is_some());
        assert!(doc_problem(&"//! a\n".repeat(25)).is_some());
        assert_eq!(doc_problem("//! What it is.\n\nuse x;"), None);
        assert!(has_bad_name("src/kv/util.rs") && has_bad_name("src/common/mod.rs"));
        assert!(!has_bad_name("src/kv/state.rs"));
        assert_eq!(wide_lines(&format!("a\n{}\n{}", "ä".repeat(101), "ä".repeat(100))), [2]);
        assert!(is_wide(&format!("//{}", "a".repeat(103))));
        assert!(!is_wide(&format!("//{}", "a".repeat(102))));
    }
}

#[test]
fn the_readme_quotes_the_claims_and_shows_figures_that_are_there() {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let readme = read("README.md");
    let links = readme.split(['(', ')']).filter(|link| link.starts_with("results/"));
    let (claims, others): (Vec<&str>, Vec<&str>) =
        links.partition(|link| link.ends_with("claims.md"));
    assert!(!claims.is_empty(), "README.md links no claims");
    for file in claims {
        assert!(readme.contains(read(file).trim()), "README.md does not quote {file}");
    }
    assert!(others.iter().any(|link| link.ends_with(".svg")), "README.md shows no figure");
    for file in others {
        read(file);
    }
}
