//! What a refusal must leave as it is: every file below the hosts' directories, every server, every cluster and
//! operation.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use muster_proto::Sha256;

use crate::World;

/// A directory with all that is in it: kind and mode of each entry, and what a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Reads it; one that is not there is empty. Follows no symbolic link.
    pub fn read(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        if root.is_dir() {
            walk(root, root, &mut entries);
        }
        Self(entries)
    }

    /// What is not in `after` as it is here, a line each: `-` was there, `+` is there now.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        let only = |these: &Self, those: &Self, mark: &str| -> Vec<String> {
            let entries = these.0.iter().filter(|(path, what)| those.0.get(*path) != Some(*what));
            entries.map(|(path, what)| format!("{mark} {}: {what}", path.display())).collect()
        };
        [only(self, after, "-"), only(after, self, "+")].concat()
    }
}

fn walk(root: &Path, directory: &Path, entries: &mut BTreeMap<PathBuf, String>) {
    // What goes while it is being read is not there.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let mode = meta.permissions().mode() & 0o7777;
        let what = match meta.file_type() {
            kind if kind.is_symlink() => format!("link to {}", fs::read_link(&path).unwrap_or_default().display()),
            kind if kind.is_dir() => format!("directory {mode:o}"),
            kind if kind.is_file() => format!("file {mode:o} {}", Sha256::of(&fs::read(&path).unwrap_or_default())),
            _ => format!("special {mode:o}"),
        };
        entries.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), what);
        if meta.is_dir() {
            walk(root, &path, entries);
        }
    }
}

/// A world as it was.
#[derive(Debug)]
pub struct Before {
    hosts: BTreeMap<String, (Tree, Vec<i32>)>,
    told: [String; 2],
}

impl Before {
    /// Takes note of everything.
    pub fn of(world: &World) -> Self {
        let host = |name: &str| (name.to_owned(), (Tree::read(&world.base_dir(name)), world.redis_pids(name)));
        let said = |args: [&str; 1]| world.muster(&[args.as_slice(), &["--output", "json"]].concat()).stdout;
        Self { hosts: world.hosts().map(host).collect(), told: [said(["status"]), said(["ops"])] }
    }

    /// Insists that nothing has changed.
    ///
    /// # Panics
    /// With what has.
    #[track_caller]
    pub fn still(&self, world: &World, what: &str) {
        let now = Self::of(world);
        for (name, (tree, servers)) in &self.hosts {
            let (tree_now, servers_now) = &now.hosts[name];
            let differences = tree.differences(tree_now);
            assert!(differences.is_empty(), "{what} has changed {name}:\n{}", differences.join("\n"));
            assert_eq!(servers, servers_now, "{what} has started or ended servers of {name}");
        }
        assert_eq!(self.told, now.told, "{what} has changed clusters or operations");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("same"), "1").unwrap();
        fs::write(at("changed"), "1").unwrap();
        fs::create_dir(at("gone")).unwrap();
        let before = Tree::read(root.path());
        assert_eq!(before.differences(&Tree::read(root.path())), Vec::<String>::new());
        fs::write(at("changed"), "2").unwrap();
        fs::remove_dir(at("gone")).unwrap();
        std::os::unix::fs::symlink("same", at("new")).unwrap();
        let said = before.differences(&Tree::read(root.path())).join("\n");
        for part in ["- changed: file", "- gone: directory", "+ changed: file", "+ new: link to same"] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        assert!(!said.contains(" same: "), "{said}");
    }
}
