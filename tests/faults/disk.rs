//! A small file system, made to be filled.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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
        // What it says is read below.
        mount.env("LC_ALL", "C");
        mount.args(["-t", "tmpfs", "-o", &size, "distkv-small-disk"]).arg(dir.path());
        let output = mount.output().expect("mount is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Some(Self { dir });
        }
        // Any other failure is a fault of this test, not of who runs it.
        let is_forbidden = ["must be superuser", "only root", "permission denied"]
            .into_iter()
            .any(|text| said.to_lowercase().contains(text));
        assert!(is_forbidden, "no small disk can be mounted: {said}");
        let is_required = std::env::var("DISTKV_REQUIRE_EXTERNAL").is_ok_and(|value| value == "1");
        assert!(
            !is_required,
            "DISTKV_REQUIRE_EXTERNAL=1, but no small disk can be mounted: {said}"
        );
        let why = said.lines().next().unwrap_or_default();
        // Not by a macro: the output of a test that passes is not shown.
        let note = format!("note: no disk is filled, mounting a small one takes root: {why}\n");
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        None
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Runs `work` while less is free than the nodes' reserve: room to elect, not to put. Nodes that
    /// are short of space give their own back, so that what they free is taken at once.
    pub fn while_full(&self, work: impl FnOnce()) {
        // The nodes write meanwhile: what was free a moment ago may be gone.
        let is_full = (0..20).any(|_| self.top_up());
        assert!(is_full, "{} cannot be filled up to the nodes' reserve", self.path().display());
        let (stop, lowest_bytes) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let done = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    lowest_bytes.fetch_min(self.free_bytes(), Ordering::Relaxed);
                    self.top_up();
                    std::thread::sleep(TOP_UP_INTERVAL);
                }
            });
            // The other thread must end whatever happens here, or the scope would wait for ever.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            stop.store(true, Ordering::Relaxed);
            done
        });
        std::fs::remove_file(self.ballast()).unwrap();
        let lowest_bytes = lowest_bytes.into_inner();
        println!("of {RESERVE_BYTES} bytes in reserve {lowest_bytes} were free at the least");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }

    /// Whether all was taken that was to be.
    fn top_up(&self) -> bool {
        let taken_bytes = self.free_bytes().saturating_sub(LEFT_BYTES) as usize;
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).unwrap();
        let before_bytes = ballast.metadata().unwrap().len();
        let is_taken = ballast.write_all(&vec![1; taken_bytes]).is_ok();
        if !is_taken {
            ballast.set_len(before_bytes).unwrap();
        }
        is_taken
    }

    pub fn free_bytes(&self) -> u64 {
        let mut df = Command::new("df");
        df.args(["--output=avail", "--block-size=1"]).arg(self.path());
        let said = String::from_utf8(df.output().unwrap().stdout).unwrap();
        said.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that is still dying keeps its files open.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk stays mounted");
    }
}

/// Short beside the second between two looks of a node at its space.
const TOP_UP_INTERVAL: Duration = Duration::from_millis(10);
/// Under the reserve, and no more: what is taken from the reserve itself is not there for elections.
const LEFT_BYTES: u64 = RESERVE_BYTES - (4 << 20);
/// Five nodes' logs and a reserve, and not much more.
const DISK_BYTES: u64 = 512 << 20;
/// What nodes on this disk keep free.
pub const RESERVE_BYTES: u64 = 128 << 20;
