//! Directories that somebody else may write to, while we are root.
//!
//! An instance's directory belongs to the user of the servers, and a server that was broken into puts into it what it
//! likes, whenever it likes: symbolic links, hard links to files of others, fifos, files without end. So nothing here
//! goes by path. A directory is an open descriptor; what lies in it is reached by its name alone, with openat2(2),
//! which follows no link and leaves neither the directory nor its file system, however the tree changes meanwhile.
//!
//! * What is read is a regular file, and no more of it than was asked for.
//! * What is written is a new file, made by us (O_EXCL), given to its owner through its descriptor, and renamed over
//!   what was there: a link or a fifo in its place is replaced, never opened. So there is no owner and no mode of
//!   anything that was there before us that we ever change, and hard links to other people's files are of no use.
//! * What is moved is proved to be what was looked at.
//!
//! openat2(2) is there from Linux 5.6 on. A kernel without it, or a sandbox that hides it, is an error that says so:
//! there is no second, weaker way.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat},
    io::Errno,
    path::Arg,
    process::{Gid, Uid},
};

mod deep;

/// How often a temporary name is cleared for us when somebody else takes it again and again.
const TRIES: u32 = 8;

/// What may be done with a file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permissions.
    pub mode: u32,
    /// Whose it is; none leaves it ours.
    pub uid: Option<u32>,
    /// Of which group it is; none leaves it ours.
    pub gid: Option<u32>,
}

/// What a name stands for. A link stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes, so many.
    File(u64),
    /// A directory.
    Directory,
    /// A link to anywhere.
    Link,
    /// A fifo, a socket, a device.
    Special,
}

/// What the kernel would have done, and we do not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not bytes.
    #[error("{name} is {what}, and only a regular file is read here")]
    NotAFile {
        /// Which.
        name: String,
        /// What it is instead.
        what: Kind,
    },
    /// More than anybody honest would write.
    #[error("{name} has {size} bytes; {most} are read at most")]
    TooBig {
        /// Which.
        name: String,
        /// How long it is.
        size: u64,
        /// How long it may be.
        most: u64,
    },
    /// Another file system.
    #[error(
        "{0} is a mount point, and directories of data are moved in one step, within the base directory's own disk"
    )]
    Mounted(String),
    /// Would lead elsewhere.
    #[error("{0:?} is not the plain name of an entry")]
    Name(String),
    /// The directory was exchanged between the look at it and its move.
    #[error("{name} was exchanged for something else while it was being moved; {outcome}")]
    Exchanged {
        /// Which.
        name: String,
        /// Where things are now.
        outcome: String,
    },
    /// A directory of ours that others may write to.
    #[error("{path} {what}, and who can change it can have us write anywhere; {cure}")]
    NotOurs {
        /// Which.
        path: String,
        /// Who can.
        what: String,
        /// What to type.
        cure: String,
    },
    /// An old kernel, or a sandbox.
    #[error(
        "openat2(2) is not to be had, without which hostile directories cannot be handled: it needs Linux 5.6, and a \
         sandbox (seccomp) that lets it through"
    )]
    NoOpenat2,
}

/// An open directory.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// Which directory it is, whatever it is called: device and inode.
pub type Identity = (u64, u64);

impl Access {
    /// Ours, with this mode.
    pub fn ours(mode: u32) -> Self {
        Self { mode, uid: None, gid: None }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "a file",
            Self::Directory => "a directory",
            Self::Link => "a symbolic link",
            Self::Special => "a fifo, socket or device",
        })
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::NotOurs { .. } => io::ErrorKind::PermissionDenied,
            Refused::NoOpenat2 => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, refused)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Tree {
    /// Opens a directory by path. For the base directory and others whose parents only root can change; the last part
    /// is no link even so.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory of our own, and refuses one that is a link, somebody else's, or open to the writing of others.
    pub fn open_ours(path: &Path) -> io::Result<Self> {
        let refuse = |what: String, cure: String| Refused::NotOurs { path: path.display().to_string(), what, cure };
        if std::fs::symlink_metadata(path)?.is_symlink() {
            let cure = "name the directory itself that it leads to".to_owned();
            return Err(refuse("is a symbolic link".to_owned(), cure).into());
        }
        let tree = Self::open(path)?;
        let about = rustix::fs::fstat(&tree)?;
        owned_by_us(&path.display().to_string(), &about)?;
        if about.st_mode & 0o022 != 0 {
            let what = format!("can be written to by others (mode {:04o})", about.st_mode & 0o7777);
            return Err(refuse(what, format!("chmod go-w {}", path.display())).into());
        }
        // Better said at the start than at the first instance. Some sandboxes say EPERM to what they do not know.
        match tree.enter(".") {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Refused::NoOpenat2.into()),
            other => other.map(|_| tree),
        }
    }

    /// A directory in it.
    pub fn enter(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(Self(self.resolve(name, flags)?))
    }

    /// A directory of our own in it, made if it is missing, with this mode.
    pub fn keep(&self, name: &str, mode: u32) -> io::Result<Self> {
        match rustix::fs::mkdirat(self, plain(name)?, Mode::from(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let tree = self.enter(name)?;
        owned_by_us(name, &rustix::fs::fstat(&tree)?)?;
        tree.give(Access::ours(mode))?;
        Ok(tree)
    }

    /// A new directory in it, ours alone until it is given away.
    pub fn make(&self, name: &str) -> io::Result<Self> {
        rustix::fs::mkdirat(self, plain(name)?, Mode::from(0o700))?;
        self.enter(name)
    }

    /// Gives this directory, which we have made, to its owner.
    pub fn give(&self, access: Access) -> io::Result<()> {
        give(self.as_fd(), access)
    }

    /// Which directory it is.
    pub fn identity(&self) -> io::Result<Identity> {
        let about = rustix::fs::fstat(self)?;
        Ok((about.st_dev, about.st_ino))
    }

    /// What a name stands for.
    pub fn kind(&self, name: &str) -> io::Result<Kind> {
        // Opened without a look inside (O_PATH), because a stat by name would follow mounts, and there are file systems
        // that anybody can mount and let hang.
        Ok(kind(&rustix::fs::fstat(self.resolve(plain(name)?, OFlags::PATH | OFlags::NOFOLLOW)?)?))
    }

    /// The names in it, in no order; no more than `most`.
    pub fn names(&self, most: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
            if names.len() == most {
                break;
            }
        }
        Ok(names)
    }

    /// A regular file in it, to be read from its beginning, and its size.
    pub fn reader(&self, name: &str) -> io::Result<(File, u64)> {
        self.file(name)
    }

    /// Gives a file in it another name in it, whatever had that.
    pub fn rename(&self, name: &str, new_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(self, plain(name)?, self, plain(new_name)?)?)
    }

    /// A regular file in it, in whole.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let (file, size) = self.file(name)?;
        let too_big = |size| Refused::TooBig { name: name.to_owned(), size, most };
        if size > most {
            return Err(too_big(size).into());
        }
        // It may grow meanwhile.
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most { Err(too_big(bytes.len() as u64).into()) } else { Ok(bytes) }
    }

    /// The end of a regular file in it, however long it is.
    pub fn tail(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let (mut file, size) = self.file(name)?;
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether a file in it is what [`write`](Self::write) would make of it: the bytes, the mode, the owner, and no
    /// second name by which somebody could change it.
    pub fn holds(&self, name: &str, bytes: &[u8], access: Access) -> bool {
        let same = |about: &Stat| {
            about.st_nlink == 1
                && about.st_mode & 0o7777 == access.mode
                && access.uid.is_none_or(|uid| uid == about.st_uid)
                && access.gid.is_none_or(|gid| gid == about.st_gid)
        };
        let Ok((file, _)) = self.file(name) else { return false };
        let mut found = Vec::new();
        rustix::fs::fstat(&file).is_ok_and(|about| same(&about))
            && file.take(bytes.len() as u64 + 1).read_to_end(&mut found).is_ok_and(|_| found == bytes)
    }

    /// Writes a file in it, in whole or not at all, replacing what was there at once.
    pub fn write(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()> {
        self.swap(name, |temporary| self.replace(temporary, bytes, access))?;
        self.sync()?;
        crash::point(format_args!("agent.file.synced.{}", kind_of(name)));
        Ok(())
    }

    /// The same for what means nothing after the machine's next boot: in whole or not at all for whoever looks, and not
    /// waited for until the disk has it.
    pub fn write_until_boot(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()> {
        self.swap(name, |temporary| self.fill(temporary, bytes, access))
    }

    fn swap(&self, name: &str, make: impl FnOnce(&str) -> io::Result<File>) -> io::Result<()> {
        let temporary = format!(".{}.new", plain(name)?);
        crash::point(format_args!("agent.file.before.{}", kind_of(name)));
        let made = make(&temporary);
        crash::point(format_args!("agent.file.made.{}", kind_of(name)));
        let swapped = made.and_then(|_| Ok(rustix::fs::renameat(self, temporary.as_str(), self, name)?));
        if swapped.is_err() {
            let _ = self.remove(&temporary);
        }
        crash::point(format_args!("agent.file.renamed.{}", kind_of(name)));
        swapped
    }

    /// Makes a file in it anew under its own name, with these bytes, and syncs it.
    pub fn replace(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<File> {
        let file = self.fill(name, bytes, access)?;
        file.sync_all()?;
        Ok(file)
    }

    fn fill(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<File> {
        let mut file = self.fresh(name)?;
        // Its blocks are taken now: ext4 writes those that are not yet to the disk in the middle of a rename that
        // replaces a file (auto_da_alloc, ext4(5)), which waits. Where that cannot be, it is only slower.
        let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes.len().max(1) as u64);
        file.write_all(bytes)?;
        give(file.as_fd(), access)?;
        Ok(file)
    }

    /// An empty file in it that nobody had open before, for appending. What had the name before keeps its bytes, and
    /// loses its name.
    pub fn append_anew(&self, name: &str, access: Access) -> io::Result<File> {
        let file = self.fresh(name)?;
        give(file.as_fd(), access)?;
        rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
        Ok(file)
    }

    /// Removes a name that is no directory.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(self, plain(name)?, AtFlags::empty())?)
    }

    /// Removes a directory in it that has nothing in it.
    pub fn remove_empty(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(self, plain(name)?, AtFlags::REMOVEDIR)?)
    }

    /// Moves a directory in it, which was looked at through `looked`, to a name in another that must be free. If
    /// something else was moved, it is put back.
    pub fn move_away(&self, name: &str, looked: &Self, to: &Self, new_name: &str) -> io::Result<()> {
        let looked = looked.identity()?;
        crash::point_of("agent.move.before");
        rename_to_free(self, plain(name)?, to, plain(new_name)?)?;
        crash::point_of("agent.move.renamed");
        let moved = to.enter(new_name).and_then(|moved| moved.identity());
        if !moved.is_ok_and(|moved| moved == looked) {
            let outcome = match rename_to_free(to, new_name, self, name) {
                Ok(()) => "what was there is back in its place".to_owned(),
                Err(error) => format!("what was there is now {new_name} and cannot be put back: {error}"),
            };
            return Err(Refused::Exchanged { name: name.to_owned(), outcome }.into());
        }
        to.sync()?;
        self.sync()
    }

    /// Puts a directory in it into the place of nothing, or of an empty directory, in another.
    pub fn put(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        crash::point("agent.put.before");
        rustix::fs::renameat(self, plain(name)?, to, plain(new_name)?)?;
        crash::point("agent.put.renamed");
        to.sync()
    }

    /// Makes renames and creations in it last.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self)?)
    }

    /// A new file, ours alone (0600), whatever was there under its name.
    fn fresh(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut taken = Errno::EXIST;
        for _ in 0..TRIES {
            // O_EXCL follows no link, and a plain name leads nowhere else: openat2 would add nothing.
            match rustix::fs::openat(self, plain(name)?, flags, Mode::from(0o600)) {
                Ok(file) => return Ok(File::from(file)),
                Err(Errno::EXIST) => match self.remove(name) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => taken = Errno::EXIST,
                },
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(taken.into())
    }

    /// A regular file, open for reading, and its length. O_NONBLOCK: a fifo without a writer opens at once and is then
    /// refused, and a lease that somebody holds on his file is not waited for.
    fn file(&self, name: &str) -> io::Result<(File, u64)> {
        let refuse = |what| Refused::NotAFile { name: name.to_owned(), what };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.resolve(plain(name)?, flags).map_err(|error| match Errno::from_io_error(&error) {
            // What is said to links, and to sockets.
            Some(Errno::LOOP) => refuse(Kind::Link).into(),
            Some(Errno::NXIO) => refuse(Kind::Special).into(),
            _ => error,
        })?;
        match kind(&rustix::fs::fstat(&file)?) {
            Kind::File(size) => Ok((File::from(file), size)),
            other => Err(refuse(other).into()),
        }
    }

    fn resolve<Name: Arg + Copy>(&self, name: Name, flags: OFlags) -> io::Result<OwnedFd> {
        let inside =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(self, name, flags | OFlags::CLOEXEC, Mode::empty(), inside).map_err(|errno| match errno {
            Errno::NOSYS => Refused::NoOpenat2.into(),
            Errno::XDEV => Refused::Mounted(name.to_string_lossy().into_owned()).into(),
            errno => errno.into(),
        })
    }
}

fn kind(about: &Stat) -> Kind {
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => Kind::File(u64::try_from(about.st_size).unwrap_or(0)),
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    }
}

/// The owner first: giving a file away takes some bits of its mode with it.
fn give(fd: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    if access.uid.is_some() || access.gid.is_some() {
        rustix::fs::fchown(fd, access.uid.map(Uid::from_raw), access.gid.map(Gid::from_raw))?;
    }
    Ok(rustix::fs::fchmod(fd, Mode::from(access.mode))?)
}

/// A file by what it is for: records and notes are called after ports and lives.
fn kind_of(name: &str) -> &str {
    match name.strip_suffix(".json") {
        Some(port) if port.parse::<u16>().is_ok() => "record",
        Some(life) if life.contains("-life") => "note",
        _ => name,
    }
}

fn rename_to_free(from: &Tree, name: &str, to: &Tree, new_name: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE)?)
}

fn owned_by_us(path: &str, about: &Stat) -> Result<(), Refused> {
    let ours = rustix::process::geteuid().as_raw();
    if about.st_uid == 0 || about.st_uid == ours {
        return Ok(());
    }
    let what = format!("belongs to the user with id {}", about.st_uid);
    Err(Refused::NotOurs { path: path.to_owned(), what, cure: format!("if it should be ours: chown {ours} {path}") })
}

/// One entry's name: it leads neither down nor up nor away.
fn plain(name: &str) -> Result<&str, Refused> {
    let leads = name.is_empty() || name == "." || name == ".." || name.contains('/');
    if leads { Err(Refused::Name(name.to_owned())) } else { Ok(name) }
}

#[cfg(test)]
mod tests;
