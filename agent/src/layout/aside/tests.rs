//! What hinders a wipe although there is a permit, each on a real file system; and that a life comes back as it went.

use std::{
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
};

use muster_proto::{ClusterId, Life};

use super::*;
use crate::{
    layout::Layout,
    permits::Leaving,
    samples::{alone, files, id, layout, leaving, port, stamp, wipe},
};

const AT: u64 = 1_700_000_000_000;

fn listing(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The directory of the instance at 7000, with something in it.
fn directory() -> (tempfile::TempDir, Layout, InstanceDir) {
    let (base, layout) = layout();
    let dir = layout.instance(port(7000));
    dir.establish(&stamp(), &files("conf", "nodes")).unwrap();
    fs::write(dir.path().join("dump.rdb"), "data").unwrap();
    (base, layout, dir)
}

/// It is refused with these words, and nothing has moved.
#[track_caller]
fn refused(dir: &InstanceDir, expected: &str) {
    let error = dir.set_aside_former(wipe(&leaving()), AT).unwrap_err();
    let base = dir.path().parent().unwrap().to_owned();
    assert_eq!(error.to_string().replace(&base.display().to_string(), "BASE"), expected);
    assert_eq!(listing(&base.join(".trash")), [""; 0]);
}

/// Mounts something there; none where this process may not mount.
struct Mount(PathBuf);

impl Mount {
    fn new(words: &[&str], at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(words).arg(at).stderr(Stdio::null()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("not tried: this test must run as root, with the right to mount");
            return None;
        }
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_former_life_is_in_the_trash_in_whole_and_a_note_says_since_when_and_what_for() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let aside = dir.set_aside_former(wipe(&leaving()), AT).unwrap();
    assert_eq!(aside, base.path().join(".trash/7000-orders-01010101-life1"));
    assert_eq!(fs::read_to_string(aside.join("dump.rdb")).unwrap(), "data");
    assert_eq!(dir.look(), Directory::Free);
    let note = fs::read(base.path().join(".trash/7000-orders-01010101-life1.json")).unwrap();
    let note: Note = serde_json::from_slice(&note).unwrap();
    assert_eq!(note, Note { aside_unix_ms: AT, operation: Some(leaving().operation) });
    assert!(process::hold(&dir).unwrap().is_some(), "its lock is free again");
    let again = dir.set_aside_former(wipe(&leaving()), AT).unwrap_err();
    assert!(matches!(again, Hindrance::Absent(_)), "{again}");
}

#[test]
fn formed_or_not_is_no_matter() {
    let _alone = alone();
    let (_base, _layout, dir) = directory();
    dir.latch(&stamp()).unwrap();
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
}

#[test]
fn without_a_stamp_nothing_is_moved() {
    let _alone = alone();
    let (_base, _layout, dir) = directory();
    fs::remove_file(dir.path().join(STAMP)).unwrap();
    refused(&dir, "BASE/7000 carries no stamp of Muster");
    fs::write(dir.path().join(STAMP), "{").unwrap();
    refused(&dir, "the stamp of BASE/7000 is not understood: EOF while parsing an object at line 1 column 1");
    fs::remove_file(dir.path().join(STAMP)).unwrap();
    symlink("/etc/hostname", dir.path().join(STAMP)).unwrap();
    refused(
        &dir,
        "the stamp of BASE/7000 is not understood: muster.json is a symbolic link, and only a regular file is read here",
    );
}

#[test]
fn with_any_other_stamp_nothing_is_moved() {
    let _alone = alone();
    let changes: [fn(&mut Stamp); 6] = [
        |stamp| stamp.cluster = "other".parse().unwrap(),
        |stamp| stamp.cluster_id = ClusterId(uuid::Uuid::max()),
        |stamp| stamp.incarnation = muster_proto::Incarnation(2),
        |stamp| stamp.life = Life(2),
        |stamp| stamp.node_id = id(9),
        |stamp| stamp.port = port(7001),
    ];
    for change in changes {
        let (_base, _layout, dir) = directory();
        let mut other = stamp();
        change(&mut other);
        fs::write(dir.path().join(STAMP), serde_json::to_vec(&other).unwrap()).unwrap();
        refused(
            &dir,
            &format!(
                "BASE/7000 holds node {} of cluster {} ({}, incarnation {}, life {}), for which there is no permit",
                other.node_id.short(),
                other.cluster,
                other.cluster_id,
                other.incarnation,
                other.life
            ),
        );
    }
}

/// A permit for another port is for another directory, even where somebody has copied the stamp.
#[test]
fn a_right_to_another_port_is_none() {
    let _alone = alone();
    let (_base, _layout, dir) = directory();
    let other = Leaving { stamp: Stamp { port: port(7001), ..stamp() }, ..leaving() };
    let error = dir.set_aside_former(wipe(&other), AT).unwrap_err();
    assert!(matches!(error, Hindrance::OtherStamp { .. }), "{error}");
    fs::write(dir.path().join(STAMP), serde_json::to_vec(&other.stamp).unwrap()).unwrap();
    let error = dir.set_aside_former(wipe(&other), AT).unwrap_err();
    assert!(matches!(error, Hindrance::OtherStamp { .. }), "{error}");
}

#[test]
fn through_a_link_nothing_is_moved() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let real = base.path().join("real");
    fs::rename(dir.path(), &real).unwrap();
    symlink(&real, dir.path()).unwrap();
    refused(&dir, "BASE/7000 is a symbolic link");
    assert!(real.join("dump.rdb").exists() && fs::symlink_metadata(dir.path()).unwrap().is_symlink());

    let (base, _layout, dir) = directory();
    let outside = tempfile::tempdir().unwrap();
    let real = outside.path().join("base");
    fs::rename(base.path(), &real).unwrap();
    symlink(&real, base.path()).unwrap();
    let error = dir.set_aside_former(wipe(&leaving()), AT).unwrap_err();
    assert!(matches!(error, Hindrance::BaseIsLink(_)), "{error}");
    assert!(real.join("7000/dump.rdb").exists());
    fs::remove_file(base.path()).unwrap();
    fs::create_dir(base.path()).unwrap();
}

#[test]
fn what_is_no_directory_is_not_moved() {
    let _alone = alone();
    let (_base, layout) = layout();
    let dir = layout.instance(port(7000));
    refused(&dir, "BASE/7000 is no directory");
    fs::write(dir.path(), "a file").unwrap();
    refused(&dir, "BASE/7000 is no directory");
}

#[test]
fn a_mount_point_is_not_moved() {
    let _alone = alone();
    let (_base, _layout, dir) = directory();
    // Covered by itself, so that it is of the same file system.
    let path = dir.path().display().to_string();
    let Some(mount) = Mount::new(&["--bind", &path], &dir.path()) else { return };
    refused(&dir, "BASE/7000 is a mount point");
    drop(mount);
    let Some(mount) = Mount::new(&["-t", "tmpfs", "muster-test"], &dir.path()) else { return };
    fs::write(dir.path().join(STAMP), serde_json::to_vec(&stamp()).unwrap()).unwrap();
    refused(&dir, "BASE/7000 is a mount point");
    drop(mount);
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
}

#[test]
fn a_trash_on_another_file_system_takes_nothing() {
    let _alone = alone();
    let (base, layout, dir) = directory();
    let trash = base.path().join(".trash");
    let Some(mount) = Mount::new(&["-t", "tmpfs", "muster-test"], &trash) else { return };
    refused(&dir, "BASE and the trash are not on one file system");
    assert!(matches!(layout.has_trash(), Err(Hindrance::OtherDisk(_))));
    drop(mount);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::remove_dir(&trash).unwrap();
    symlink(elsewhere.path(), &trash).unwrap();
    let error = dir.set_aside_former(wipe(&leaving()), AT).unwrap_err();
    assert!(matches!(error, Hindrance::Trash { .. }), "a link is no trash: {error}");
    assert!(dir.path().join("dump.rdb").exists() && listing(elsewhere.path()).is_empty());
}

#[test]
fn a_trash_that_was_tidied_away_is_made_anew_and_what_is_in_its_place_is_named() {
    let _alone = alone();
    let (base, layout, dir) = directory();
    let trash = base.path().join(".trash");
    assert!(layout.has_trash().is_ok());
    fs::remove_dir(&trash).unwrap();
    fs::write(&trash, "a file").unwrap();
    let words = format!("{}, where it would go: Not a directory (os error 20)", trash.display());
    assert_eq!(layout.has_trash().unwrap_err().to_string(), words);
    assert_eq!(dir.set_aside_former(wipe(&leaving()), AT).unwrap_err().to_string(), words);
    fs::remove_file(&trash).unwrap();
    assert!(dir.set_aside_former(wipe(&leaving()), AT).unwrap().join("dump.rdb").exists());
    dir.restore(&stamp()).unwrap();
    fs::remove_dir(&trash).unwrap();
    let error = dir.restore(&stamp());
    assert!(error.is_ok(), "it is in its place: {error:?}");
    assert!(layout.has_trash().is_ok() && listing(&trash).is_empty());
}

/// As a child that saves has it: inherited, while the server that took it is gone.
struct Saver(Child);

impl Saver {
    fn of(dir: &InstanceDir) -> Self {
        let lock = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.lock()).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        Self(Command::new("sleep").arg("1000").stdin(Stdio::from(lock)).spawn().unwrap())
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn while_a_child_of_the_server_lives_nothing_is_moved() {
    let _alone = alone();
    let (_base, _layout, dir) = directory();
    let saver = Saver::of(&dir);
    refused(&dir, "the lock BASE/.locks/7000.lock is held: something of the server still runs");
    drop(saver);
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
}

#[test]
fn what_is_in_the_trash_is_not_written_over_nor_is_its_note() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let trash = base.path().join(".trash");
    let aside = dir.set_aside_former(wipe(&leaving()), AT).unwrap();
    dir.establish(&stamp(), &files("another", "nodes")).unwrap();
    let error = dir.set_aside_former(wipe(&leaving()), AT + 1).unwrap_err();
    assert_eq!(error.to_string(), "7000-orders-01010101-life1 is in the trash already");
    assert_eq!(fs::read_to_string(aside.join("redis.conf")).unwrap(), "conf");
    let note: Note = serde_json::from_slice(&fs::read(trash.join("7000-orders-01010101-life1.json")).unwrap()).unwrap();
    assert_eq!(note.aside_unix_ms, AT);
    assert_eq!(dir.look(), Directory::Stamped(stamp()));
}

/// A crash between the note and the rename leaves the note.
#[test]
fn a_note_alone_is_in_nobodys_way() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let trash = Tree::open(&base.path().join(".trash")).unwrap();
    Note { aside_unix_ms: 1, operation: None }.write(&trash, &stamp().aside_name()).unwrap();
    assert!(dir.trashed(&stamp()).unwrap_err().ends_with("/.trash/7000-orders-01010101-life1 is not there"));
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
    let note: Note = serde_json::from_slice(&trash.read("7000-orders-01010101-life1.json", 999).unwrap()).unwrap();
    assert_eq!(note.aside_unix_ms, AT);
}

#[test]
fn what_was_set_aside_comes_back_as_it_went_and_again_is_fine() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let inode = dir.inode();
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
    dir.trashed(&stamp()).unwrap();
    // Somebody has made an empty one.
    fs::create_dir(dir.path()).unwrap();
    for _ in 0..2 {
        dir.restore(&stamp()).unwrap();
        assert_eq!((dir.look(), dir.inode()), (Directory::Stamped(stamp()), inode));
    }
    assert_eq!(fs::read_to_string(dir.path().join("dump.rdb")).unwrap(), "data");
    assert_eq!(listing(&base.path().join(".trash")), [""; 0], "nor is there a note");
    // And goes again.
    dir.set_aside_former(wipe(&leaving()), AT).unwrap();
}

#[test]
fn nothing_comes_back_over_something_nor_as_something_else() {
    let _alone = alone();
    let (base, _layout, dir) = directory();
    let aside = dir.set_aside_former(wipe(&leaving()), AT).unwrap();
    let other = Stamp { node_id: id(9), ..stamp() };
    dir.establish(&other, &files("", "")).unwrap();
    assert_eq!(dir.restore(&stamp()).unwrap_err().to_string(), "something else is in its place");
    assert_eq!(dir.look(), Directory::Stamped(other.clone()));
    fs::remove_dir_all(dir.path()).unwrap();
    fs::write(dir.path(), "a file").unwrap();
    dir.restore(&stamp()).unwrap_err();
    fs::remove_file(dir.path()).unwrap();

    assert_eq!(dir.restore(&other).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(aside.join(STAMP), serde_json::to_vec(&other).unwrap()).unwrap();
    assert!(dir.trashed(&stamp()).unwrap_err().ends_with("life1: it carries the stamp of another life"));
    dir.restore(&stamp()).unwrap_err();
    fs::write(aside.join(STAMP), "torn").unwrap();
    dir.restore(&stamp()).unwrap_err();
    let real = base.path().join("real");
    fs::rename(&aside, &real).unwrap();
    fs::write(real.join(STAMP), serde_json::to_vec(&stamp()).unwrap()).unwrap();
    symlink(&real, &aside).unwrap();
    dir.restore(&stamp()).unwrap_err();
    assert_eq!(dir.look(), Directory::Free);
}
