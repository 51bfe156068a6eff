//! A former life goes into the trash, by a right that a permit gave; and a life comes back out of it.
//!
//! Everything that was judged before is looked at again here, through descriptors, at the moment of the rename: what
//! cannot be proved then is not moved. Nothing is deleted and nothing is written over.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use muster_proto::{OperationId, printable};
use serde::{Deserialize, Serialize};

use super::{Directory, InstanceDir, Layout, STAMP, STAMP_MAX, Stamp};
use crate::{
    permits::Wipe,
    process,
    tree::{Access, Kind, Refused, Tree},
};

const TRASH: &str = ".trash";

/// When a directory was set aside, and what for: `<name>.json` beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Milliseconds since 1970, by this host's clock.
    pub aside_unix_ms: u64,
    /// The operation that had a permit for it; none for a bootstrap that was called off, and where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
}

impl Note {
    /// The name of the file that is about a directory in the trash.
    pub fn name(directory: &str) -> String {
        format!("{directory}.json")
    }

    /// Writes it, so that it lasts.
    pub fn write(&self, trash: &Tree, directory: &str) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        trash.write(&Self::name(directory), &bytes, Access::ours(0o600))
    }
}

/// Why a directory is not set aside, although there is a permit.
#[derive(Debug, thiserror::Error)]
pub enum Hindrance {
    /// It could lead anywhere.
    #[error("the base directory {0} is a symbolic link")]
    BaseIsLink(PathBuf),
    /// It could lead anywhere.
    #[error("{0} is a symbolic link")]
    IsLink(PathBuf),
    /// A rename would leave the data where it is mounted.
    #[error("{0} is a mount point")]
    IsMounted(PathBuf),
    /// Could not be done in one step.
    #[error("{0} and the trash are not on one file system")]
    OtherDisk(PathBuf),
    /// The trash itself: something else is in its place, or it takes nothing.
    #[error("{path}, where it would go: {error}")]
    Trash {
        /// The trash.
        path: PathBuf,
        /// What the kernel says, or what we say of somebody else's directory.
        error: io::Error,
    },
    /// Nothing is there, or what is no directory.
    #[error("{0} is no directory")]
    Absent(PathBuf),
    /// Somebody else's.
    #[error("{0} carries no stamp of Muster")]
    NoStamp(PathBuf),
    /// Torn, or tampered with.
    #[error("the stamp of {path} is not understood: {why}")]
    BadStamp {
        /// The directory.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// Not what there is a permit for.
    #[error(
        "{path} holds node {} of cluster {} ({}, incarnation {}, life {}), for which there is no permit",
        found.node_id.short(), found.cluster, found.cluster_id, found.incarnation, found.life
    )]
    OtherStamp {
        /// The directory.
        path: PathBuf,
        /// What it carries.
        found: Box<Stamp>,
    },
    /// Something of the server's process tree is left, such as a child that saves.
    #[error("the lock {0} is held: something of the server still runs")]
    Locked(PathBuf),
    /// Something was set aside under that name.
    #[error("{0} is in the trash already")]
    Taken(String),
    /// The disk, the kernel.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Layout {
    /// Whether there is a trash that directories can be moved to; if it is missing it is made. Why not, otherwise.
    pub fn has_trash(&self) -> Result<(), Hindrance> {
        let base = base(&self.base)?;
        let trash = trash(&base, &self.base)?;
        if base.identity()?.0 == trash.identity()?.0 { Ok(()) } else { Err(Hindrance::OtherDisk(self.base.clone())) }
    }
}

impl InstanceDir {
    /// Moves the directory into `.trash`, in one step, by the right to that, which is used up. The note that says since
    /// when comes first; so a crash leaves a note without a directory at worst. Where it is then.
    pub fn set_aside_former(&self, wipe: Wipe, now_unix_ms: u64) -> Result<PathBuf, Hindrance> {
        let leaving = wipe.leaving();
        let (path, place) = (self.path(), self.port.to_string());
        let base = base(&self.base)?;
        // Nothing of the server lives as long as we have its lock, and nothing can begin.
        let _lock = process::hold(self)?.ok_or_else(|| Hindrance::Locked(self.lock()))?;
        let dir = match base.kind(&place) {
            Ok(Kind::Link) => return Err(Hindrance::IsLink(path)),
            Ok(Kind::File(_) | Kind::Special) => return Err(Hindrance::Absent(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Hindrance::Absent(path)),
            Err(error) if is_mounted(&error) => return Err(Hindrance::IsMounted(path)),
            Ok(Kind::Directory) => base.enter(&place)?,
            Err(error) => return Err(error.into()),
        };
        let trash = trash(&base, &self.base)?;
        // Also without a mount: each subvolume of btrfs is a file system of its own.
        if dir.identity()?.0 != trash.identity()?.0 {
            return Err(Hindrance::OtherDisk(path));
        }
        let found = match dir.read(STAMP, STAMP_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Hindrance::NoStamp(path)),
            Err(error) => return Err(Hindrance::BadStamp { path, why: printable(&error.to_string()) }),
            Ok(bytes) => Stamp::parse(&bytes).map_err(|why| Hindrance::BadStamp { path: path.clone(), why })?,
        };
        if !found.same_life(&leaving.stamp) || found.port != self.port {
            return Err(Hindrance::OtherStamp { path, found: Box::new(found) });
        }
        let name = found.aside_name();
        if trash.kind(&name).is_ok() {
            return Err(Hindrance::Taken(name));
        }
        Note { aside_unix_ms: now_unix_ms, operation: Some(leaving.operation) }.write(&trash, &name)?;
        crash::point("agent.wipe.noted");
        if let Err(error) = base.move_away(&place, &dir, &trash, &name) {
            let _ = trash.remove(&Note::name(&name));
            return Err(error.into());
        }
        Ok(self.base.join(TRASH).join(name))
    }

    /// Whether the directory of that life is in the trash; what is missing otherwise.
    pub fn trashed(&self, stamp: &Stamp) -> Result<(), String> {
        self.in_trash(stamp).map(drop).map_err(|error| {
            let path = self.base.join(TRASH).join(stamp.aside_name());
            match error.kind() {
                io::ErrorKind::NotFound => format!("{} is not there", path.display()),
                _ => format!("{}: {error}", path.display()),
            }
        })
    }

    /// Moves the directory of that life from `.trash` back into its place, in one step, if nothing is there. Again is
    /// fine.
    pub fn restore(&self, stamp: &Stamp) -> io::Result<()> {
        match self.look() {
            Directory::Stamped(found) if found.same_life(stamp) => return Ok(()),
            Directory::Free => {}
            Directory::Stamped(_) | Directory::Foreign(_) | Directory::Unreadable(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is in its place"));
            }
        }
        let (base, place, name) = (Tree::open(&self.base)?, self.port.to_string(), stamp.aside_name());
        let (trash, dir) = self.in_trash(stamp)?;
        // Empty, or it is refused.
        match base.remove_empty(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        trash.move_away(&name, &dir, &base, &place)?;
        // It is about nothing any more, and a sweep would find that too.
        crash::point("agent.restore.noted");
        let _ = trash.remove(&Note::name(&name));
        Ok(())
    }

    fn in_trash(&self, stamp: &Stamp) -> io::Result<(Tree, Tree)> {
        let trash = Tree::open(&self.base)?.enter(TRASH).map_err(|error| at(&self.base.join(TRASH), &error))?;
        let dir = trash.enter(&stamp.aside_name())?;
        match Stamp::parse(&dir.read(STAMP, STAMP_MAX)?) {
            Ok(found) if found.same_life(stamp) => Ok((trash, dir)),
            Ok(_) => Err(io::Error::other("it carries the stamp of another life")),
            Err(why) => Err(io::Error::other(format!("its stamp is not understood: {why}"))),
        }
    }
}

fn base(path: &Path) -> Result<Tree, Hindrance> {
    match Tree::open(path) {
        Err(_) if is_link(path) => Err(Hindrance::BaseIsLink(path.to_owned())),
        base => Ok(base?),
    }
}

/// Somebody may have tidied it away: an empty one is made, and what is no directory of ours is none.
fn trash(base: &Tree, path: &Path) -> Result<Tree, Hindrance> {
    base.keep(TRASH, 0o700).map_err(|error| match is_mounted(&error) {
        true => Hindrance::OtherDisk(path.to_owned()),
        false => Hindrance::Trash { path: path.join(TRASH), error },
    })
}

/// The same error, with the place.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink())
}

fn is_mounted(error: &io::Error) -> bool {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(refused, Some(Refused::Mounted(_)))
}

#[cfg(test)]
mod tests;
