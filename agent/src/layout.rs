//! Where everything is below the base directory, and the stamps that say whose a directory is.
//!
//! Only [`Layout::instance`] makes an [`InstanceDir`], so nothing outside the base directory can be named, and what an
//! [`InstanceDir`] can do is all that ever happens to a directory of data: look at it, put a finished one in its place,
//! latch its stamp, set it aside. Nothing here deletes one.
//!
//! ```text
//! <base_dir>/<port>/           redis.conf nodes.conf muster.json redis.log redis.sock, data
//!            .locks/<port>.lock   held by the server's whole process tree
//!            .staging/            directories being made; renamed into place when complete
//!            .trash/              directories set aside
//!            agent/               ledger.binpb identity lock run/<port>.json
//! ```

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use muster_proto::{ClusterId, ClusterName, Incarnation, Life, NodeId, Port};
use serde::{Deserialize, Serialize};

use crate::{
    conf::{ConfFile, FileKeeper, Keeps},
    config::RunAs,
    durable,
};

const STAMP: &str = "muster.json";

/// Whose a directory is, and which life of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// Which of those that had this name.
    pub cluster_id: ClusterId,
    /// The cluster's life.
    pub incarnation: Incarnation,
    /// The directory's life.
    pub life: Life,
    /// The node that lives in it.
    pub node_id: NodeId,
    /// Its port.
    pub port: Port,
    /// The cluster was proved to be formed: there may be data of worth.
    pub formed: bool,
}

impl Stamp {
    /// The same life of the same node, formed or not.
    pub fn same_life(&self, other: &Self) -> bool {
        Self { formed: other.formed, ..self.clone() } == *other
    }
}

/// What lies where an instance's directory would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// Nothing, or an empty directory.
    Free,
    /// Ours.
    Stamped(Stamp),
    /// No stamp: somebody else's. What was found, for the message.
    Foreign(String),
    /// It, or its stamp, cannot be read.
    Unreadable(String),
}

/// The base directory.
#[derive(Debug, Clone)]
pub struct Layout {
    base: PathBuf,
    run_as: Option<RunAs>,
}

/// The place of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDir {
    base: PathBuf,
    port: Port,
    run_as: Option<RunAs>,
}

impl Layout {
    /// Makes what is missing of our own directories.
    pub fn open(base: &Path, run_as: Option<RunAs>) -> io::Result<Self> {
        if !base.exists() {
            fs::create_dir_all(base)?;
            // Whatever the umask says: the servers' user must get to his own directories below.
            fs::set_permissions(base, fs::Permissions::from_mode(0o755))?;
        }
        for (name, mode) in
            [("agent", 0o700), ("agent/run", 0o700), (".locks", 0o700), (".staging", 0o711), (".trash", 0o700)]
        {
            let path = base.join(name);
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        Ok(Self { base: base.to_owned(), run_as })
    }

    /// Clears away what a crash left half made: never in place, never run, nothing but files that we rendered. For the
    /// one agent of the base directory alone.
    pub fn clear_staging(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.base.join(".staging"))? {
            clear(&entry?.path())?;
        }
        Ok(())
    }

    /// Our own state.
    pub fn agent_dir(&self) -> PathBuf {
        self.base.join("agent")
    }

    /// The base directory.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The place of the instance at that port.
    pub fn instance(&self, port: Port) -> InstanceDir {
        InstanceDir { base: self.base.clone(), port, run_as: self.run_as.clone() }
    }
}

/// Removes what is half made in `.staging`, whatever it is; nothing is fine too.
fn clear(staged: &Path) -> io::Result<()> {
    match fs::symlink_metadata(staged) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(staged),
        Ok(_) => fs::remove_file(staged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl InstanceDir {
    /// Its port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.base.join(self.port.to_string())
    }

    /// The server's unix socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("redis.sock")
    }

    /// What the server writes besides its log: its words before the log is open.
    pub fn output(&self) -> PathBuf {
        self.path().join("output.log")
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.path().join("redis.log")
    }

    /// Held by the server and all its children.
    pub fn lock(&self) -> PathBuf {
        self.base.join(".locks").join(format!("{}.lock", self.port))
    }

    /// What we know of the process.
    pub fn record(&self) -> PathBuf {
        self.base.join("agent/run").join(format!("{}.json", self.port))
    }

    /// The inode of the directory, which a server that lives in it has as its working directory.
    pub fn inode(&self) -> Option<(u64, u64)> {
        fs::metadata(self.path()).ok().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Looks at what is there. Follows no symlink: a link in the place of a directory is somebody else's.
    pub fn look(&self) -> Directory {
        let path = self.path();
        let unreadable = |error: io::Error| Directory::Unreadable(format!("{}: {error}", path.display()));
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Directory::Free,
            Err(error) => return unreadable(error),
            Ok(meta) if meta.is_symlink() => return Directory::Foreign("a symbolic link".into()),
            Ok(meta) if !meta.is_dir() => return Directory::Foreign("a file".into()),
            Ok(_) => {}
        }
        match fs::read(path.join(STAMP)) {
            Ok(bytes) => match serde_json::from_slice::<Stamp>(&bytes) {
                Ok(stamp) if stamp.port == self.port => Directory::Stamped(stamp),
                Ok(stamp) => Directory::Foreign(format!("a directory stamped for port {}", stamp.port)),
                Err(error) => Directory::Unreadable(format!("{}: {error}", path.join(STAMP).display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.look_unstamped(),
            Err(error) => unreadable(error),
        }
    }

    fn look_unstamped(&self) -> Directory {
        match fs::read_dir(self.path()) {
            Err(error) => Directory::Unreadable(format!("{}: {error}", self.path().display())),
            Ok(entries) => {
                let mut names: Vec<_> = entries
                    .filter_map(Result::ok)
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .collect();
                names.sort();
                match names.as_slice() {
                    [] => Directory::Free,
                    [only] => Directory::Foreign(format!("{only}, and no stamp of Muster")),
                    [first, rest @ ..] => {
                        Directory::Foreign(format!("{first} and {} more, and no stamp of Muster", rest.len()))
                    }
                }
            }
        }
    }

    /// Puts a complete new directory in place, in one step; refused by the kernel unless the place is free.
    pub fn establish(&self, stamp: &Stamp, files: &[ConfFile]) -> io::Result<()> {
        let staged = self.base.join(".staging").join(format!("{}-{}", self.port, stamp.node_id));
        // An earlier try may have run out of disk.
        clear(&staged)?;
        fs::create_dir(&staged)?;
        for file in files {
            let path = staged.join(file.name);
            durable::write_plain(&path, file.text.expose().as_bytes(), file.mode)?;
            self.give(&path, file.keeper)?;
        }
        durable::write_plain(&staged.join(STAMP), &self.encode(stamp)?, 0o644)?;
        self.own(&staged, 0o750)?;
        durable::sync_dir(&staged)?;
        fs::rename(&staged, self.path())?;
        durable::sync_dir(&self.base)
    }

    /// Writes those files anew that are not that already.
    pub fn write_files(&self, files: &[ConfFile]) -> io::Result<()> {
        for file in files {
            let path = self.path().join(file.name);
            if fs::read(&path).is_ok_and(|bytes| bytes == file.text.expose().as_bytes()) {
                continue;
            }
            durable::write(&path, file.text.expose().as_bytes(), file.mode)?;
            self.give(&path, file.keeper)?;
        }
        Ok(())
    }

    /// Writes the stamp anew, with the formed latch set.
    pub fn latch(&self, stamp: &Stamp) -> io::Result<()> {
        durable::write(&self.path().join(STAMP), &self.encode(&Stamp { formed: true, ..stamp.clone() })?, 0o644)
    }

    /// Moves the directory into `.trash`, in one step. The caller has proved that nothing runs in it and that it never
    /// was formed.
    pub fn set_aside(&self, stamp: &Stamp) -> io::Result<PathBuf> {
        let name = format!("{}-{}-{}-life{}", self.port, stamp.cluster, stamp.node_id.short(), stamp.life);
        let aside = self.base.join(".trash").join(name);
        fs::rename(self.path(), &aside)?;
        durable::sync_dir(&self.base.join(".trash"))?;
        durable::sync_dir(&self.base)?;
        Ok(aside)
    }

    /// nodes.conf as the server left it.
    pub fn nodes_conf(&self) -> io::Result<String> {
        fs::read_to_string(self.path().join("nodes.conf"))
    }

    /// Whether there is anything of what the server keeps: a non-empty RDB, AOF, or AOF manifest (7.0 and later have it
    /// in `appendonlydir`). Names that the operator has changed are found by their endings.
    pub fn holds_data(&self, keeps: Keeps) -> bool {
        let big = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0);
        let endings: &[&str] = match keeps {
            Keeps::Log => &["aof", "manifest"],
            Keeps::Snapshots => &["rdb"],
            Keeps::Nothing => &[],
        };
        // What a killed save or sync leaves behind is nothing that a server loads.
        let left_over = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("temp-"));
        let ending = |path: &Path| path.extension().is_some_and(|end| endings.iter().any(|known| end == *known));
        let named = |path: &Path| ending(path) && !left_over(path);
        let holds = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
            entries.map(|entry| entry.path()).any(|path| named(&path) && big(&path))
        };
        let below = fs::read_dir(self.path()).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        holds(&self.path()) || below.filter(|path| path.is_dir()).any(|dir| holds(&dir))
    }

    fn encode(&self, stamp: &Stamp) -> io::Result<Vec<u8>> {
        serde_json::to_vec_pretty(stamp).map_err(io::Error::other)
    }

    fn own(&self, path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        match &self.run_as {
            Some(user) => std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }

    fn give(&self, path: &Path, keeper: FileKeeper) -> io::Result<()> {
        let Some(user) = &self.run_as else { return Ok(()) };
        let uid = (keeper == FileKeeper::Server).then_some(user.uid);
        std::os::unix::fs::chown(path, uid, Some(user.gid))
    }
}

#[cfg(test)]
mod tests;
