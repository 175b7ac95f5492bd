//! A digest of everything that the program is built from. The build script has this file too.

use std::io;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

/// What is built in, relative to the checkout.
pub const PARTS: [&str; 5] = ["Cargo.lock", "Cargo.toml", "experiments", "scripts/build.rs", "src"];

/// 16 hexadecimal digits over names and contents of all files of [`PARTS`] below `root`.
///
/// # Errors
/// Those of reading them.
pub fn digest(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for part in PARTS {
        collect(&root.join(part), &mut files)?;
    }
    files.sort();
    let mut hasher = Xxh3Default::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        let bytes = std::fs::read(&file)?;
        hasher.update(format!("{name} {}\n", bytes.len()).as_bytes());
        hasher.update(&bytes);
    }
    Ok(format!("{:016x}", hasher.digest()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}
