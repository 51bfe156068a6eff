//! Whole directories, whatever lies in them and however deep: how big they are, and how they go.
//!
//! Links are counted and removed as the links that they are. What is mounted somewhere below is neither looked into nor
//! removed: that is an error, and the rest stays. Names are bytes here: whoever makes them need not know of UTF-8.

use std::{
    ffi::{CStr, CString},
    io,
};

use rustix::fs::{AtFlags, OFlags, RenameFlags};

use super::{Kind, Tree, kind};

/// How many directories are open at once, one in the other. A deeper one is brought up before it is removed.
const DEPTH: usize = 32;
/// How many names are read at once.
const NAMES: usize = 1024;
/// What is deeper is not counted: nothing honest is.
const DEEPEST: usize = 64;

impl Tree {
    /// The sum of the lengths of all files in it and below it (`du --apparent-size`, without the directories' own).
    pub fn bytes(&self) -> io::Result<u64> {
        self.bytes_below(0)
    }

    fn bytes_below(&self, depth: usize) -> io::Result<u64> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("it has directories more than {DEEPEST} deep")));
        }
        let mut sum = 0_u64;
        for name in self.raw_names(usize::MAX)? {
            let size = match self.raw_kind(&name) {
                Ok(Kind::File(size)) => Ok(size),
                Ok(Kind::Directory) => self.raw_enter(&name).and_then(|below| below.bytes_below(depth + 1)),
                Ok(Kind::Link | Kind::Special) => Ok(0),
                Err(error) => Err(error),
            };
            sum = sum.saturating_add(match size {
                // A server that runs makes files and takes them away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                size => size?,
            });
        }
        Ok(sum)
    }

    /// Removes everything in it but one name.
    pub fn clear_but(&self, kept: &str) -> io::Result<()> {
        self.clear_below(self, 0, Some(kept))
    }

    fn clear_below(&self, top: &Self, depth: usize, kept: Option<&str>) -> io::Result<()> {
        loop {
            let mut names = self.raw_names(NAMES)?;
            names.retain(|name| Some(name.as_bytes()) != kept.map(str::as_bytes));
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                if self.raw_kind(name)? != Kind::Directory {
                    rustix::fs::unlinkat(self, name, AtFlags::empty())?;
                } else if depth < DEPTH {
                    self.raw_enter(name)?.clear_below(top, depth + 1, None)?;
                    rustix::fs::unlinkat(self, name, AtFlags::REMOVEDIR)?;
                } else {
                    let raised = format!(".deep-{}", uuid::Uuid::new_v4());
                    rustix::fs::renameat_with(self, name, top, raised, RenameFlags::NOREPLACE)?;
                }
            }
        }
    }

    fn raw_names(&self, most: usize) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self)? {
            let name = entry?.file_name().to_owned();
            if ![&b"."[..], &b".."[..]].contains(&name.as_bytes()) {
                names.push(name);
            }
            // One more than is asked for, so that a name which is kept is never all that there is.
            if names.len() > most {
                break;
            }
        }
        Ok(names)
    }

    fn raw_kind(&self, name: &CStr) -> io::Result<Kind> {
        Ok(kind(&rustix::fs::fstat(self.resolve(name, OFlags::PATH | OFlags::NOFOLLOW)?)?))
    }

    fn raw_enter(&self, name: &CStr) -> io::Result<Self> {
        Ok(Self(self.resolve(name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
        path::Path,
    };

    use super::*;

    #[test]
    fn files_count_and_links_and_directories_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(tree.bytes().unwrap(), 0);
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("one"), [0; 1000]).unwrap();
        fs::write(dir.path().join("a/b/two"), [0; 234]).unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        symlink("one", dir.path().join("link")).unwrap();
        assert_eq!(tree.bytes().unwrap(), 1234);
        let mut deep = dir.path().join("deep");
        (0..=DEEPEST).for_each(|_| deep = deep.join("d"));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(tree.bytes().unwrap_err().to_string(), "it has directories more than 64 deep");
    }

    #[test]
    fn everything_goes_but_one_name_and_nothing_outside() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = Tree::open(dir.path()).unwrap();
        fs::write(outside.path().join("theirs"), "x").unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink(outside.path().join("theirs"), dir.path().join("file link")).unwrap();
        fs::hard_link(outside.path().join("theirs"), dir.path().join("second name")).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), "x").unwrap();
        (0..2 * NAMES).for_each(|nth| fs::write(dir.path().join(nth.to_string()), "").unwrap());
        fs::write(dir.path().join("kept"), "x").unwrap();
        // Deeper than descriptors would last, with something on the way.
        let mut at = Tree::open(dir.path()).unwrap();
        for _ in 0..3000 {
            at = at.make("d").unwrap();
        }
        rustix::fs::symlinkat(Path::new("/"), &at, "root").unwrap();
        tree.clear_but("kept").unwrap();
        assert_eq!(tree.names(9).unwrap(), ["kept"]);
        assert_eq!(fs::read_to_string(outside.path().join("theirs")).unwrap(), "x");
        tree.clear_but("").unwrap();
        assert_eq!(tree.names(9).unwrap(), [""; 0]);
    }
}
