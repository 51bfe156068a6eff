//! Directories that take nothing, for root too: a small file system of a test's own that is filled up, and a read-only
//! cover.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// A tmpfs over a directory. Dropping it unmounts it, even if somebody still has files open on it; but who lives there
/// is then no longer found by his working directory, and so a [`World`](crate::World) keeps its hosts' disks itself.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

/// What fills it up.
const BALLAST: &str = "ballast";

impl SmallDisk {
    /// Mounts one over a directory that must exist.
    ///
    /// # Panics
    /// When this process may not: it must be root, with the right to mount.
    pub fn mount(at: &Path, bytes: usize) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=755"), "muster-test"])
            .arg(at));
        Self { at: at.to_owned() }
    }

    /// Writes until the kernel says that there is no space left, and gives back some pages of 4096 bytes.
    pub fn fill(&self, spare: u64) {
        let mut file = File::create(self.at.join(BALLAST)).unwrap();
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", self.at.display()),
            }
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size - spare * 4096).unwrap();
    }

    /// Gives back what [`fill`](Self::fill) took, at once.
    pub fn free(&self) {
        let ballast = self.at.join(BALLAST);
        empty(&ballast);
        fs::remove_file(ballast).unwrap();
    }
}

/// A directory that nobody can write to. What is open for writing there already stays so. Dropping it ends it.
#[derive(Debug)]
pub struct ReadOnly {
    at: PathBuf,
}

impl ReadOnly {
    /// Covers a directory with itself, read-only.
    ///
    /// # Panics
    /// When this process may not.
    pub fn cover(at: &Path) -> Self {
        run(Command::new("mount").arg("--bind").arg(at).arg(at));
        let covered = Self { at: at.to_owned() };
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(at));
        covered
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// A file's pages come back when it is cut off. When it is removed they come back only after the last descriptor of it
/// is closed, and a child that another thread forks while we write has one until its exec.
fn empty(file: &Path) {
    File::create(file).unwrap();
}

fn unmount(at: &Path) {
    // Nothing to be done about a failure here; tests/check-clean.sh would find what is left.
    let _ = Command::new("umount").arg("--lazy").arg(at).status();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}this test must run as root, with the right to mount");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fills_up_and_closes_and_goes() {
        let at = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(at.path(), 1 << 20);
        let write = || fs::write(at.path().join("file"), [1; 8192]).map_err(|error| error.kind());
        assert_eq!(write(), Ok(()));
        empty(&at.path().join("file"));
        disk.fill(0);
        assert_eq!(write(), Err(ErrorKind::StorageFull));
        // As a child that was forked a moment ago has it.
        let held = File::open(at.path().join(BALLAST)).unwrap();
        disk.free();
        assert_eq!(write(), Ok(()));
        drop(held);
        let covered = ReadOnly::cover(at.path());
        assert_eq!(write(), Err(ErrorKind::ReadOnlyFilesystem));
        drop(covered);
        assert_eq!(write(), Ok(()));
        drop(disk);
        assert!(!at.path().join("file").exists());
    }
}
