//! Cgroups of a machine's own, below those of this process, so that what its systemd makes in them has one place and is
//! gone with it.
//!
//! Where the kernel's old controllers are mounted, systemd-nspawn shows them to a machine read-only, and limits would
//! not hold in it. A machine of a test is trusted: [`LIMITING`] says what it gets for writing.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::eventually;

/// Old controllers that limits of a unit need; the name of a mount below `/sys/fs/cgroup` too.
pub const LIMITING: [&str; 2] = ["memory", "cpu"];
/// Most that the kernel may take to end what was killed in them.
const GONE: Duration = Duration::from_secs(10);

/// One in each hierarchy that matters. Dropping it removes them; what lived in them must be gone.
#[derive(Debug)]
pub struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// Makes them.
    ///
    /// # Panics
    /// When this process may not.
    pub fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
        let places: Vec<_> = mounts.lines().filter_map(|mount| place(mount, &ours)).map(|at| at.join(name)).collect();
        let made = Self(places);
        for place in &made.0 {
            fs::create_dir(place).unwrap_or_else(|error| panic!("{}: {error}; this takes root", place.display()));
        }
        made
    }

    /// The words of a shell that put itself into them.
    pub fn enter(&self) -> String {
        self.0.iter().map(|place| format!("echo $$ >{}/cgroup.procs && ", place.display())).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for place in &self.0 {
            eventually(GONE, "cgroups are empty", || {
                remove(place);
                if place.exists() { Err(place.display().to_string()) } else { Ok(()) }
            });
        }
    }
}

/// Where this process is in the hierarchy of a mount, if that is one that a machine needs.
fn place(mount: &str, ours: &str) -> Option<PathBuf> {
    let mut words = mount.split(' ').skip(1);
    let (at, kind, options) = (words.next()?, words.next()?, words.next()?);
    let has = |wanted: &str| options.split(',').any(|option| option == wanted);
    let hierarchy = match kind {
        "cgroup2" => "",
        "cgroup" if has("name=systemd") => "name=systemd",
        "cgroup" => LIMITING.into_iter().find(|controller| has(controller))?,
        _ => return None,
    };
    let path = ours.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|name| name == hierarchy).then_some(path)
    })?;
    Some(Path::new(at).join(path.trim_start_matches('/')))
}

/// The innermost first. One that is not empty yet stays.
fn remove(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_that_matters_has_a_place_and_no_other() {
        let ours = "9:name=systemd:/a\n4:memory:/b/c\n3:cpu,cpuacct:/\n2:pids:/d\n0::/e\n";
        let at = |mount: &str| place(mount, ours).map(|place| place.display().to_string());
        assert_eq!(at("cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0").as_deref(), Some("/sys/fs/cgroup/unified/e"));
        assert_eq!(at("cgroup /c/systemd cgroup rw,name=systemd 0 0").as_deref(), Some("/c/systemd/a"));
        assert_eq!(at("cgroup /c/memory cgroup rw,memory 0 0").as_deref(), Some("/c/memory/b/c"));
        assert_eq!(at("cgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0").as_deref(), Some("/c/cpu,cpuacct/"));
        assert_eq!(at("cgroup /c/pids cgroup rw,pids 0 0"), None);
        assert_eq!(at("tmpfs /c tmpfs rw,memory 0 0"), None);
    }
}
