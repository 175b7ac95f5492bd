//! A small file system, made to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own that is small enough to be filled; gone when dropped. It takes root: where
/// that is missing the test fails, for a disk that is only said to be full proves little.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "distkv-small-disk"]).arg(dir.path());
        let output = mount.output().expect("mount is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "a small disk must be mounted, which takes root: {said}");
        Self { dir }
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
            let taken_bytes = free_bytes.saturating_sub(RESERVE_BYTES / 2) as usize;
            if std::fs::write(self.ballast(), vec![1; taken_bytes]).is_ok() {
                return;
            }
            std::fs::remove_file(self.ballast()).unwrap();
        }
        panic!("{} cannot be filled up to the nodes' reserve", self.path().display());
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
pub const RESERVE_BYTES: u64 = 48 << 20;
