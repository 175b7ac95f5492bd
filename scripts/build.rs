//! What the program knows of its own build: a digest of its source, and the compiler.
//!
//! No commit: that changes without any source, and each commit would build everything anew. A run
//! compares the digest with the checkout it finds (`src/experiment/provenance.rs`).

#![allow(clippy::disallowed_methods)]

#[path = "../src/experiment/source.rs"]
mod source;

use std::path::Path;
use std::process::Command;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for part in source::PARTS {
        println!("cargo:rerun-if-changed={part}");
    }
    println!("cargo:rerun-if-env-changed=RUSTC");
    if let Ok(digest) = source::digest(Path::new(&root)) {
        println!("cargo:rustc-env=DISTKV_SOURCE={digest}");
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    if let Some(version) = version {
        println!("cargo:rustc-env=DISTKV_RUSTC={}", version.trim());
    }
}
