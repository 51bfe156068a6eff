//! Files that are there in whole or not at all, also after a power cut.
//!
//! Every write goes to a temporary name, is synced, renamed into place, and the directory is synced (rename(2) is
//! atomic, but only the directory's fsync makes it last). [`Tree`] does it; this is for paths of our own, below
//! directories that nobody else can write to.

use std::{io, path::Path};

use crate::tree::{Access, Tree};

/// Writes a file with these bytes and this mode, replacing what was there at once.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (parent, name) = split(path)?;
    parent.write(name, bytes, Access::ours(mode))
}

/// The same for what means nothing after the machine's next boot, without waiting for the disk.
pub fn write_until_boot(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (parent, name) = split(path)?;
    parent.write_until_boot(name, bytes, Access::ours(mode))
}

/// Makes and syncs a file under its own name: for what is not in place yet.
pub fn write_plain(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (parent, name) = split(path)?;
    parent.replace(name, bytes, Access::ours(mode)).map(drop)
}

/// Removes a file.
pub fn remove(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    parent.remove(name)?;
    parent.sync()
}

fn split(path: &Path) -> io::Result<(Tree, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    match path.parent().zip(name) {
        Some((parent, name)) => Ok((Tree::open(parent)?, name)),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a file has a parent directory and a name")),
    }
}
