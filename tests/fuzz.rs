//! The fuzz targets as ordinary tests: each over its corpus and over seeded mutations of it.
//!
//! `fuzz/` runs the same bodies under libFuzzer for as long as one likes (`docs/fuzzing.md`). A crash
//! found there goes into the corpus, so that it stays fixed here. Without nightly, more of the same:
//! `FUZZ_MUTATIONS=1000000 FUZZ_SEED=7 cargo test --release --test fuzz`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    missing_docs
)]

#[path = "fuzz/bodies.rs"]
mod bodies;
#[path = "fuzz/seeds.rs"]
mod seeds;

use bodies::TARGETS;
use distkv::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Mutations per target unless `FUZZ_MUTATIONS` says otherwise: a few seconds in all.
const MUTATIONS: u64 = 2000;
const BYTES_MAX: usize = 2048;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Every file of a target's corpus, in the order of names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder(target)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

fn index(rng: &mut Rng, length: usize) -> usize {
    usize::try_from(rng.below(length.max(1) as u64)).unwrap()
}

/// Changes `bytes` in one to four places, taking from `other` now and then.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = index(rng, bytes.len() + 1);
        let end = (at + index(rng, 16)).min(bytes.len());
        match rng.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let random: Vec<u8> = (0..=rng.below(8)).map(|_| rng.below(256) as u8).collect();
                bytes.splice(at..at, random);
            }
            4 => {
                let copied = bytes[at..end].to_vec();
                bytes.splice(at..at, copied);
            }
            5 => {
                let from = index(rng, other.len());
                let to = (from + index(rng, 64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            6 => {
                let extreme = [0_u64, 1, 127, 255, 65_535, u64::from(u32::MAX), u64::MAX];
                let number = extreme[index(rng, extreme.len())].to_le_bytes();
                let length = end - at;
                bytes.splice(at..end, number.into_iter().take(length));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes.truncate(BYTES_MAX);
}

/// Runs a body; a panic names what to run again.
fn run(target: &str, body: fn(&[u8]), bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(bytes))) {
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}"));
        std::fs::write(&kept, bytes).unwrap();
        eprintln!("{target}: {what}; its bytes are in {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str) {
    let (_, body) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (file, bytes) in &corpus {
        run(name, *body, bytes, file);
    }
    let number_of = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number_of("FUZZ_SEED").unwrap_or(0);
    let mut rng = Rng::new(seed << 32 | name.bytes().map(u64::from).sum::<u64>());
    for number in 0..number_of("FUZZ_MUTATIONS").unwrap_or(MUTATIONS) {
        let mut bytes = corpus[index(&mut rng, corpus.len())].1.clone();
        let other = &corpus[index(&mut rng, corpus.len())].1;
        mutate(&mut bytes, other, &mut rng);
        run(name, *body, &bytes, &format!("mutation {number}"));
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        /// Every target has a test here, a file and an entry in the fuzz crate, and a corpus.
        #[test]
        fn targets_are_complete() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
            for name in names {
                let file = format!("fuzz_targets/{name}.rs");
                assert!(manifest.contains(&format!("path = \"{file}\"")), "{name}");
                let text = std::fs::read_to_string(root.join(file)).unwrap();
                assert!(text.contains(&format!("bodies::{name}")), "{name}");
                assert!(folder(name).is_dir(), "{name}");
            }
        }
    };
}

targets!(
    datagrams,
    envelopes,
    requests,
    clients,
    recovery,
    cluster_files,
    workloads,
    histories,
    archives,
    indexes
);

#[test]
fn committed_seeds_are_of_the_formats_as_they_are() {
    let mut written = BTreeMap::<_, BTreeSet<String>>::new();
    for (target, name, bytes) in seeds::all() {
        let is_current = std::fs::read(folder(target).join(&name)).is_ok_and(|is| is == bytes);
        assert!(is_current, "{target}/{name}: cargo test --test fuzz write_seeds -- --ignored");
        written.entry(target).or_default().insert(name);
    }
    for (target, names) in written {
        let files = std::fs::read_dir(folder(target)).unwrap();
        let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> =
            files.filter(|name| name.starts_with("seed-") && !names.contains(name)).collect();
        assert!(left.is_empty(), "{target}: no longer written: {left:?}");
    }
}

/// `cargo test --test fuzz -- --ignored` writes the corpora's seeds anew, after a format changed.
#[test]
#[ignore = "writes into the repository"]
fn write_seeds() {
    for (target, name, bytes) in seeds::all() {
        std::fs::create_dir_all(folder(target)).unwrap();
        std::fs::write(folder(target).join(name), bytes).unwrap();
    }
}
