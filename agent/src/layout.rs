//! Where everything is below the base directory, and the stamps that say whose a directory is.
//!
//! Only [`Layout::instance`] makes an [`InstanceDir`], so nothing outside the base directory can be named, and what an
//! [`InstanceDir`] can do is all that ever happens to a directory of data: look at it, put a finished one in its place,
//! latch its stamp, set it aside, put it back. Nothing here deletes one; what is in the trash goes by
//! [`trash`](crate::trash) alone.
//!
//! The directory of an instance belongs to the servers' user, who may have turned against us: it is only ever touched
//! through [`Tree`]. The base directory and the others are ours alone, which is checked when they are taken into use.
//!
//! ```text
//! <base_dir>/<port>/           redis.conf nodes.conf muster.json redis.log redis.sock, data
//!            .locks/<port>.lock   held by the server's whole process tree
//!            .staging/            directories being made; renamed into place when complete
//!            .trash/              directories set aside; <name>.json says when, and by which operation
//!            agent/               ledger.binpb identity lock run/<port>.json
//! ```

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use muster_proto::{ClusterId, ClusterName, Former, Incarnation, Keeps, Life, NodeId, Port, printable};
use serde::{Deserialize, Serialize};

use crate::{
    conf::{ConfFile, FileKeeper},
    config::RunAs,
    tree::{Access, Identity, Kind, Tree},
};

mod aside;

pub use aside::{Hindrance, Note};

pub(crate) const STAMP: &str = "muster.json";
const NODES_CONF: &str = "nodes.conf";
const OUTPUT: &str = "output.log";
pub(crate) const LOG: &str = "redis.log";
/// The log before it.
pub(crate) const OLDER_LOG: &str = "redis.log.1";

/// The longest stamp that is read; ours have some hundred bytes.
pub(crate) const STAMP_MAX: u64 = 64 << 10;
/// The longest nodes.conf that is read: that of a thousand nodes has less than half of it.
const NODES_MAX: u64 = 2 << 20;
/// How many entries of a directory are looked at, and how many directories below it; a server makes a few dozen files
/// and one directory.
const ENTRIES: usize = 4096;
const DIRECTORIES: usize = 64;

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
    /// From the file in a directory, which the servers' user may have written: what is wrong with it otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| printable(&error.to_string()))
    }

    /// What a directory that carries it is called in the trash.
    pub fn aside_name(&self) -> String {
        format!("{}-{}-{}-life{}", self.port, self.cluster, self.node_id.short(), self.life)
    }

    /// The same life of the same node, formed or not.
    pub fn same_life(&self, other: &Self) -> bool {
        Self { formed: other.formed, ..self.clone() } == *other
    }

    /// The life of that node of that cluster, at whatever port.
    pub fn is_of(&self, cluster: ClusterId, former: &Former) -> bool {
        let life = (self.incarnation, self.life, self.node_id);
        self.cluster_id == cluster && life == (former.incarnation, former.life, former.node_id)
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
    /// Makes what is missing of our own directories. Refuses a base directory that is a link, or that anybody but root
    /// and us can write to.
    pub fn open(base: &Path, run_as: Option<RunAs>) -> io::Result<Self> {
        if fs::symlink_metadata(base).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            fs::create_dir_all(base)?;
            // Whatever the umask says: the servers' user must get to his own directories below.
            fs::set_permissions(base, fs::Permissions::from_mode(0o755))?;
        }
        let tree = Tree::open_ours(base)?;
        tree.keep("agent", 0o700)?.keep("run", 0o700)?;
        for (name, mode) in [(".locks", 0o700), (".staging", 0o711), (".trash", 0o700)] {
            tree.keep(name, mode)?;
        }
        Ok(Self { base: base.to_owned(), run_as })
    }

    /// To be looked at, and not to be changed: whatever is there, ours or not.
    pub fn at(base: &Path, run_as: Option<RunAs>) -> Self {
        Self { base: base.to_owned(), run_as }
    }

    /// Clears away what a crash left half made: never in place, never run, nothing but files that we rendered. For the
    /// one agent of the base directory alone.
    pub fn clear_staging(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.base.join(".staging"))? {
            clear(&entry?.path())?;
        }
        Ok(())
    }

    /// A place of that name for something half made; what stays there is cleared away at the next start.
    pub fn staging(&self, name: &str) -> PathBuf {
        self.base.join(".staging").join(name)
    }

    /// Our own state.
    pub fn agent_dir(&self) -> PathBuf {
        self.base.join("agent")
    }

    /// What the host was told.
    pub fn ledger(&self) -> PathBuf {
        self.agent_dir().join("ledger.binpb")
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
        self.path().join(OUTPUT)
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.path().join(LOG)
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
    pub fn inode(&self) -> Option<Identity> {
        self.open().and_then(|dir| dir.identity()).ok()
    }

    /// The directory itself, if it is one. What lies in it may be anything.
    pub fn open(&self) -> io::Result<Tree> {
        Tree::open(&self.base)?.enter(&self.port.to_string())
    }

    /// Looks at what is there. Follows no symlink: a link in the place of a directory is somebody else's.
    pub fn look(&self) -> Directory {
        let unreadable = |error: io::Error| Directory::Unreadable(format!("{}: {error}", self.path().display()));
        let base = match Tree::open(&self.base) {
            Ok(base) => base,
            Err(error) => return unreadable(error),
        };
        let name = self.port.to_string();
        let dir = match base.kind(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Directory::Free,
            Ok(Kind::Directory) => base.enter(&name),
            Ok(other) => return Directory::Foreign(other.to_string()),
            Err(error) => Err(error),
        };
        match dir.map(|dir| (dir.read(STAMP, STAMP_MAX), dir)) {
            Ok((Ok(bytes), _)) => match Stamp::parse(&bytes) {
                Ok(stamp) if stamp.port == self.port => Directory::Stamped(stamp),
                Ok(stamp) => Directory::Foreign(format!("a directory stamped for port {}", stamp.port)),
                Err(error) => Directory::Unreadable(format!("{}: {error}", self.path().join(STAMP).display())),
            },
            Ok((Err(error), dir)) if error.kind() == io::ErrorKind::NotFound => {
                dir.names(ENTRIES).map_or_else(unreadable, unstamped)
            }
            Ok((Err(error), _)) | Err(error) => unreadable(error),
        }
    }

    /// Puts a complete new directory in place, in one step; refused by the kernel unless the place is free.
    pub fn establish(&self, stamp: &Stamp, files: &[ConfFile]) -> io::Result<()> {
        let base = Tree::open(&self.base)?;
        let staging = base.enter(".staging")?;
        let name = format!("{}-{}", self.port, stamp.node_id);
        let staged = self.base.join(".staging").join(&name);
        // What a crash has left.
        clear(&staged)?;
        let made =
            self.stage(&staging, &name, stamp, files).and_then(|()| staging.put(&name, &base, &self.port.to_string()));
        if made.is_err() {
            // There are passwords in it. What failed is what is said.
            let _ = clear(&staged);
        }
        made
    }

    fn stage(&self, staging: &Tree, name: &str, stamp: &Stamp, files: &[ConfFile]) -> io::Result<()> {
        let staged = staging.make(name)?;
        crash::point("agent.establish.made");
        for file in files {
            staged.replace(file.name, file.text.expose().as_bytes(), self.access(file))?;
        }
        staged.replace(STAMP, &self.encode(stamp)?, Access::ours(0o644))?;
        let user = self.run_as.as_ref();
        staged.give(Access { mode: 0o750, uid: user.map(|user| user.uid), gid: user.map(|user| user.gid) })?;
        staged.sync()
    }

    /// Writes those files anew that are not that already.
    pub fn write_files(&self, files: &[ConfFile]) -> io::Result<()> {
        let dir = self.open()?;
        for file in files {
            let (bytes, access) = (file.text.expose().as_bytes(), self.access(file));
            if !dir.holds(file.name, bytes, access) {
                dir.write(file.name, bytes, access)?;
            }
        }
        Ok(())
    }

    /// Writes the stamp anew, with the formed latch set.
    pub fn latch(&self, stamp: &Stamp) -> io::Result<()> {
        let latched = self.encode(&Stamp { formed: true, ..stamp.clone() })?;
        self.open()?.write(STAMP, &latched, Access::ours(0o644))
    }

    /// Moves the directory into `.trash`, in one step. The caller has proved that nothing runs in it and that it never
    /// was formed. What is moved is a directory with that stamp, or nothing is.
    pub fn set_aside(&self, stamp: &Stamp) -> io::Result<PathBuf> {
        let base = Tree::open(&self.base)?;
        let place = self.port.to_string();
        let dir = base.enter(&place)?;
        let found = Stamp::parse(&dir.read(STAMP, STAMP_MAX)?);
        if !found.is_ok_and(|found| found.same_life(stamp)) {
            return Err(io::Error::other("it does not carry the stamp that it is to be set aside with"));
        }
        let name = stamp.aside_name();
        base.move_away(&place, &dir, &base.keep(".trash", 0o700)?, &name)?;
        Ok(self.base.join(".trash").join(name))
    }

    /// nodes.conf as the server left it.
    pub fn nodes_conf(&self) -> io::Result<String> {
        String::from_utf8(self.open()?.read(NODES_CONF, NODES_MAX)?).map_err(io::Error::other)
    }

    /// A new file for what the server writes before its log is open. For every start anew, so that the last words of
    /// one server are never taken for another's.
    pub fn new_output(&self, dir: &Tree) -> io::Result<fs::File> {
        let user = self.run_as.as_ref();
        let access = Access { mode: 0o640, uid: user.map(|user| user.uid), gid: user.map(|user| user.gid) };
        dir.append_anew(OUTPUT, access)
    }

    /// The last bytes of what the server wrote, before its log was open and in its log; nothing where there is no such
    /// file.
    pub fn ends(&self, most: u64) -> [Vec<u8>; 2] {
        let end = |name| self.open().and_then(|dir| dir.tail(name, most)).unwrap_or_default();
        [OUTPUT, LOG].map(end)
    }

    /// Puts the server's log aside when it is longer than that; the one before it goes. The server opens its log anew
    /// for every line (`serverLogRaw`, server.c, unchanged since 2.6), so that it need not be told. Whether it was.
    pub fn rotate_log(&self, most: u64) -> io::Result<bool> {
        let dir = self.open()?;
        let long = matches!(dir.kind(LOG), Ok(Kind::File(size)) if size > most);
        if long {
            dir.rename(LOG, OLDER_LOG)?;
        }
        Ok(long)
    }

    /// Whether there is anything of what the server keeps: a non-empty RDB, AOF, or AOF manifest (7.0 and later have it
    /// in `appendonlydir`). Names that the operator has changed are found by their endings. Links are nothing: what
    /// they lead to is not ours to look at.
    pub fn holds_data(&self, keeps: Keeps) -> bool {
        let endings: &[&str] = match keeps {
            Keeps::Log => &[".aof", ".manifest"],
            Keeps::Snapshots => &[".rdb"],
            Keeps::Nothing => &[],
        };
        // What a killed save or sync leaves behind is nothing that a server loads.
        let named = |name: &str| endings.iter().any(|end| name.ends_with(end)) && !name.starts_with("temp-");
        let big = |dir: &Tree, name: &str| matches!(dir.kind(name), Ok(Kind::File(size)) if size > 0);
        let holds = |dir: &Tree, names: &[String]| names.iter().any(|name| named(name) && big(dir, name));
        let Ok(dir) = self.open() else { return false };
        let names = dir.names(ENTRIES).unwrap_or_default();
        let below = names.iter().filter_map(|name| dir.enter(name).ok()).take(DIRECTORIES);
        holds(&dir, &names) || below.into_iter().any(|dir| holds(&dir, &dir.names(ENTRIES).unwrap_or_default()))
    }

    /// How many bytes there are of the snapshot that a server makes before it leaves (`rdbSave`, rdb.c: it is called
    /// `temp-PID.rdb` until it is whole); none when it makes none.
    pub fn unfinished(&self, pid: i32) -> Option<u64> {
        match self.open().ok()?.kind(&format!("temp-{pid}.rdb")) {
            Ok(Kind::File(size)) => Some(size),
            _ => None,
        }
    }

    fn encode(&self, stamp: &Stamp) -> io::Result<Vec<u8>> {
        serde_json::to_vec_pretty(stamp).map_err(io::Error::other)
    }

    fn access(&self, file: &ConfFile) -> Access {
        let Some(user) = &self.run_as else { return Access::ours(file.mode) };
        let uid = match file.keeper {
            FileKeeper::Server => user.uid,
            FileKeeper::Agent => rustix::process::geteuid().as_raw(),
        };
        Access { mode: file.mode, uid: Some(uid), gid: Some(user.gid) }
    }
}

/// What a directory without a stamp is taken for.
fn unstamped(names: Vec<String>) -> Directory {
    let mut names: Vec<_> = names.iter().map(|name| printable(name)).collect();
    names.sort();
    match names.as_slice() {
        [] => Directory::Free,
        [only] => Directory::Foreign(format!("{only}, and no stamp of Muster")),
        [first, rest @ ..] => Directory::Foreign(format!("{first} and {} more, and no stamp of Muster", rest.len())),
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
