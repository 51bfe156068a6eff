//! Files that are there in whole or not at all, also after a power cut.
//!
//! Every write goes to a temporary name, is synced, renamed into place, and the directory is synced (rename(2) is
//! atomic, but only the directory's fsync makes it last).

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Writes a file with these bytes and this mode, replacing what was there at once.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other("a file has a parent directory"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.new"));
    write_plain(&temporary, bytes, mode)?;
    fs::rename(&temporary, path)?;
    sync_dir(parent)
}

/// Writes and syncs a file under its own name: for directories that are not yet in place themselves.
pub fn write_plain(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes renames and creations inside a directory last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
