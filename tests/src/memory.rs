//! A limit of memory for a process that runs already: what it takes from then on counts, and when that is too much the
//! kernel kills it. A cgroup of version 1 or 2, whichever the machine has; it takes root.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use crate::eventually;

/// See the module. Dropping it removes it, once those in it are gone.
#[derive(Debug)]
pub struct MemoryLimit {
    at: PathBuf,
}

impl MemoryLimit {
    /// From now on that process may take so many bytes more.
    ///
    /// # Panics
    /// When no memory cgroup can be made here; the message says why.
    pub fn of(pid: i32, bytes: u64) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("muster-test-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (parent, limits) = place();
        let at = parent.join(name);
        let need = "a memory cgroup takes root and a cgroup file system that can be written to";
        fs::create_dir(&at).unwrap_or_else(|error| panic!("{}: {error}; {need}", at.display()));
        let limit = Self { at };
        limit.write(limits[0], bytes).unwrap_or_else(|error| panic!("{}: {error}; {need}", limits[0]));
        // Where there is swap it would only take longer. Without swap there is no such file in version 1.
        let swap = if limits[1] == "memory.swap.max" { 0 } else { bytes };
        let _ = limit.write(limits[1], swap);
        limit.write("cgroup.procs", u64::try_from(pid).unwrap()).unwrap();
        limit
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.at.join(file), value.to_string())
    }
}

/// Where one can be made, and the files that say how much: of memory, and of swap.
fn place() -> (PathBuf, [&'static str; 2]) {
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("Linux since 2.6.24 has cgroups");
    let first = cgroups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path.to_owned()));
    match first {
        Some(ours) => {
            let mounted = Path::new("/sys/fs/cgroup/memory");
            (mounted.join(ours.trim_start_matches('/')), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"])
        }
        // Its root may have both processes and groups with limits; groups below may not.
        None => ("/sys/fs/cgroup".into(), ["memory.max", "memory.swap.max"]),
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if thread::panicking() {
            // The world is still there, and so is whoever lives in it.
            return;
        }
        eventually(Duration::from_secs(10), "its memory cgroup is empty", || {
            fs::remove_dir(&self.at).map_err(|error| error.to_string())
        });
    }
}
