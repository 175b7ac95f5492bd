//! A small file system, made to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own that is small enough to be filled; gone when dropped. It takes root.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Without root there is none, and that is said; with `DISTKV_REQUIRE_EXTERNAL=1` (in CI) it must
    /// be there.
    pub fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "distkv-small-disk"]).arg(dir.path());
        let output = mount.output().expect("mount is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Some(Self { dir });
        }
        let is_required = std::env::var("DISTKV_REQUIRE_EXTERNAL").is_ok_and(|value| value == "1");
        assert!(
            !is_required,
            "DISTKV_REQUIRE_EXTERNAL=1, but no small disk can be mounted: {said}"
        );
        println!("no disk is filled: mounting a small one takes root: {}", said.trim());
        None
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves less than the nodes' reserve: room to elect, not to put.
    pub fn fill(&self) {
        // The nodes write meanwhile: what was free a moment ago may be gone.
        for _ in 0..20 {
            let mut df = Command::new("df");
            df.args(["--output=avail", "--block-size=1"]).arg(self.path());
            let said = String::from_utf8(df.output().unwrap().stdout).unwrap();
            let free_bytes: u64 = said.lines().nth(1).unwrap().trim().parse().unwrap();
            let taken_bytes = free_bytes.saturating_sub(RESERVE_BYTES * 5 / 6) as usize;
            if std::fs::write(self.ballast(), vec![1; taken_bytes]).is_ok() {
                return;
            }
            std::fs::remove_file(self.ballast()).unwrap();
        }
        panic!("{} cannot be filled up to the nodes' reserve", self.path().display());
    }

    pub fn is_filled(&self) -> bool {
        self.ballast().exists()
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that is still dying keeps its files open.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk stays mounted");
    }
}

/// Five nodes' logs and a reserve, and not much more.
const DISK_BYTES: u64 = 512 << 20;
/// What nodes on this disk keep free.
pub const RESERVE_BYTES: u64 = 128 << 20;
