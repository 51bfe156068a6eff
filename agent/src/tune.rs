//! `muster-agent tune`: the kernel settings that Redis asks for, as one sysctl file of ours. What a setting should be
//! is a function of what it is; nothing is lowered that somebody has raised.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use muster_proto::PortSet;

/// Where the file is, unless said otherwise. Later names override earlier ones (sysctl.d(5)).
pub const FILE: &str = "/etc/sysctl.d/60-muster.conf";
/// The first line of a file of ours.
const HEAD: &str = "# Written by muster-agent tune; it is replaced as a whole. Later files in sysctl.d override it.";

/// A setting that should be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `vm.overcommit_memory`.
    pub key: &'static str,
    /// What it is; empty when that cannot be read.
    pub is: String,
    /// What it should be.
    pub should: String,
    /// What for.
    pub why: &'static str,
}

/// The kernel's settings, where they are and as they are.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// `/proc/sys`.
    pub root: PathBuf,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Somebody else's file.
    #[error("{0} was not written by muster-agent tune, and is left as it is (hint: move it away, or use --file)")]
    Foreign(PathBuf),
    /// The file.
    #[error("cannot write {0} (as root?)")]
    File(PathBuf, #[source] io::Error),
    /// The kernel.
    #[error("the file is written, and the kernel does not take {key} = {value} (hint: sysctl --system, as root)")]
    Kernel {
        /// Which.
        key: &'static str,
        /// What.
        value: String,
        /// Its words.
        source: io::Error,
    },
}

type Wanted = fn(&str, &PortSet, &str) -> Option<String>;

/// Setting, what it should be as a function of what it is, of the ports offered and of the ephemeral range, and why.
const SETTINGS: [(&str, Wanted, &str); 4] = [
    (
        "vm.overcommit_memory",
        |is, _, _| (is != "1").then(|| "1".into()),
        "a background save forks, and would fail where memory looks short and is not",
    ),
    ("net.core.somaxconn", |is, _, _| at_least(is, 4096), "a burst of clients is not turned away"),
    ("vm.swappiness", |is, _, _| at_most(is, 10), "a data set that is swapped out is slower than none"),
    (
        "net.ipv4.ip_local_reserved_ports",
        reserved,
        "no outgoing connection takes a client or bus port before its server starts",
    ),
];

fn at_least(is: &str, least: u64) -> Option<String> {
    is.parse::<u64>().map_or(true, |is| is < least).then(|| least.to_string())
}

fn at_most(is: &str, most: u64) -> Option<String> {
    is.parse::<u64>().map_or(true, |is| is > most).then(|| most.to_string())
}

/// Those that are reserved already, and ours that lie in the ephemeral range.
fn reserved(is: &str, ports: &PortSet, ephemeral: &str) -> Option<String> {
    let mut ends = ephemeral.split_whitespace().filter_map(|end| end.parse::<u32>().ok());
    let range = ends.next()?..=ends.next()?;
    let known: Vec<(u32, u32)> = is.split(',').filter_map(run).collect();
    let missing = |port: &u32| range.contains(port) && !known.iter().any(|(first, last)| first <= port && port <= last);
    let wanted = ports.iter().flat_map(|port| [u32::from(port.get()), u32::from(port.get()) + 10_000]);
    let mut missing: Vec<u32> = wanted.filter(missing).collect();
    missing.sort_unstable();
    if missing.is_empty() {
        return None;
    }
    let is = is.trim();
    let before = (!is.is_empty()).then(|| is.to_owned());
    Some(before.into_iter().chain(missing.iter().map(u32::to_string)).collect::<Vec<_>>().join(","))
}

fn run(run: &str) -> Option<(u32, u32)> {
    let (first, last) = run.split_once('-').unwrap_or((run, run));
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

impl Kernel {
    /// The one that runs.
    pub fn here() -> Self {
        Self { root: "/proc/sys".into() }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key.replace('.', "/"))
    }

    fn get(&self, key: &str) -> String {
        fs::read_to_string(self.path(key)).unwrap_or_default().trim().to_owned()
    }

    /// What should be another, for these ports.
    pub fn changes(&self, ports: &PortSet) -> Vec<Change> {
        let ephemeral = self.get("net.ipv4.ip_local_port_range");
        let change = |(key, wanted, why): (&'static str, Wanted, &'static str)| {
            let is = self.get(key);
            wanted(&is, ports, &ephemeral).map(|should| Change { key, is, should, why })
        };
        SETTINGS.into_iter().filter_map(change).collect()
    }

    /// Writes the file, with what it held before of ours, and tells the kernel.
    pub fn apply(&self, changes: &[Change], file: &Path) -> Result<(), TuneError> {
        let before = fs::read_to_string(file).unwrap_or_default();
        if !before.is_empty() && !before.starts_with(HEAD) {
            return Err(TuneError::Foreign(file.to_owned()));
        }
        let written = write(file, &file_text(&before, changes));
        written.map_err(|error| TuneError::File(file.to_owned(), error))?;
        for Change { key, should, .. } in changes {
            let value = should.clone();
            fs::write(self.path(key), should).map_err(|source| TuneError::Kernel { key, value, source })?;
        }
        Ok(())
    }
}

/// Beside it first, and renamed into place: sysctl at boot reads it whole or not at all.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let beside = file.with_extension("conf.new");
    let mut new = fs::File::create(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    fs::rename(&beside, file)
}

/// The whole file: what is to be changed, and what an earlier one of ours had changed.
pub fn file_text(before: &str, changes: &[Change]) -> String {
    let kept = before.split("\n\n").skip(1).filter(|paragraph| {
        let key = paragraph.lines().last().and_then(|line| line.split_once(" = ")).map(|(key, _)| key);
        key.is_some_and(|key| !changes.iter().any(|change| change.key == key))
    });
    let changed = changes.iter().map(|Change { key, is, should, why }| {
        let was = if is.is_empty() { "nothing" } else { is.as_str() };
        format!("# Was {was}: {why}.\n{key} = {should}")
    });
    let paragraphs = kept.map(|paragraph| paragraph.trim_end().to_owned()).chain(changed);
    [HEAD.to_owned()].into_iter().chain(paragraphs).collect::<Vec<_>>().join("\n\n") + "\n"
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, is, should, why } = self;
        write!(f, "{key}: {is:?} -> {should:?}, because {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel on disk.
    fn kernel(settings: &[(&str, &str)]) -> (tempfile::TempDir, Kernel) {
        let dir = tempfile::tempdir().unwrap();
        let kernel = Kernel { root: dir.path().join("sys") };
        for (key, value) in settings {
            fs::create_dir_all(kernel.path(key).parent().unwrap()).unwrap();
            fs::write(kernel.path(key), format!("{value}\n")).unwrap();
        }
        (dir, kernel)
    }

    fn ports(run: &str) -> PortSet {
        PortSet::parse(&[run.to_owned()]).unwrap()
    }

    const DEBIAN: [(&str, &str); 5] = [
        ("vm.overcommit_memory", "0"),
        ("net.core.somaxconn", "4096"),
        ("vm.swappiness", "60"),
        ("net.ipv4.ip_local_port_range", "32768\t60999"),
        ("net.ipv4.ip_local_reserved_ports", ""),
    ];

    #[test]
    fn what_redis_asks_for_is_written_once_and_told_to_the_kernel() {
        let (dir, kernel) = kernel(&DEBIAN);
        let (offered, file) = (ports("7000-7002"), dir.path().join("60-muster.conf"));
        let changes = kernel.changes(&offered);
        assert_eq!(
            changes.iter().map(|change| change.key).collect::<Vec<_>>(),
            ["vm.overcommit_memory", "vm.swappiness"]
        );
        kernel.apply(&changes, &file).unwrap();
        assert_eq!((kernel.get("vm.overcommit_memory").as_str(), kernel.get("vm.swappiness").as_str()), ("1", "10"));
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect::<Vec<_>>(),
            ["vm.overcommit_memory = 1", "vm.swappiness = 10"]
        );
        assert_eq!(kernel.changes(&offered), [], "again there is nothing to do");
        // What is added later stands beside what was there.
        let more = kernel.changes(&ports("30000-30001"));
        kernel.apply(&more, &file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("\nvm.overcommit_memory = 1\n"), "{text}");
        assert!(text.ends_with("net.ipv4.ip_local_reserved_ports = 40000,40001\n"), "{text}");
        assert_eq!(file_text(&text, &more).matches("ip_local_reserved_ports").count(), 1);
    }

    #[test]
    fn what_somebody_has_raised_or_reserved_stays() {
        let raised = [("net.core.somaxconn", "65535"), ("vm.swappiness", "0"), ("vm.overcommit_memory", "1")];
        let set = [("net.ipv4.ip_local_port_range", "1024 60999"), ("net.ipv4.ip_local_reserved_ports", "7000-7001,9")];
        let (_dir, kernel) = kernel(&[raised.as_slice(), &set].concat());
        let changes = kernel.changes(&ports("7000-7002"));
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert_eq!(changes[0].should, "7000-7001,9,7002,17000,17001,17002");
    }

    #[test]
    fn somebody_elses_file_is_left_alone() {
        let (dir, kernel) = kernel(&DEBIAN);
        let file = dir.path().join("60-muster.conf");
        fs::write(&file, "vm.swappiness = 7\n").unwrap();
        let changes = kernel.changes(&ports("7000"));
        let refused = kernel.apply(&changes, &file).unwrap_err();
        assert!(matches!(refused, TuneError::Foreign(_)), "{refused}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "vm.swappiness = 7\n");
        assert_eq!(kernel.get("vm.swappiness"), "60", "and nothing was told to the kernel");
    }
}
