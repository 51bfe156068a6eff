//! Real directories: what is told apart, what is refused, and that nothing is half made.

use std::os::unix::fs::{MetadataExt as _, symlink};

use super::*;
use crate::samples::{files, id, layout, port, stamp};

fn place(layout: &Layout) -> InstanceDir {
    layout.instance(port(7000))
}

fn found(dir: &InstanceDir) -> String {
    match dir.look() {
        Directory::Free => "free".into(),
        Directory::Stamped(stamp) => format!("stamped {} {}", stamp.cluster, if stamp.formed { "formed" } else { "-" }),
        Directory::Foreign(what) => format!("foreign: {what}"),
        Directory::Unreadable(why) => format!("unreadable: {}", why.replace(&dir.base.display().to_string(), "BASE")),
    }
}

/// Makes something at the place and says what it is taken for. It is as it was afterwards, and nothing replaces it.
fn check(make: impl FnOnce(&Path), expected: &str) {
    let (_base, layout) = layout();
    let dir = place(&layout);
    make(&dir.path());
    assert_eq!(found(&dir), expected);
    if expected != "free" {
        let listed = listing(&dir.path());
        dir.establish(&stamp(), &files("conf", "nodes")).unwrap_err();
        assert_eq!(found(&dir), expected, "refused, and left as it was");
        assert_eq!(listing(&dir.path()), listed);
    }
}

fn listing(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

fn with_stamp(text: &str) -> impl FnOnce(&Path) {
    let text = text.to_owned();
    move |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join(STAMP), text).unwrap();
    }
}

#[test]
fn nothing_and_an_empty_directory_are_free() {
    check(|_| {}, "free");
    check(|path| fs::create_dir(path).unwrap(), "free");
}

#[test]
fn what_has_no_stamp_is_somebody_elses() {
    check(|path| fs::write(path, "").unwrap(), "foreign: a file");
    check(|path| symlink("/", path).unwrap(), "foreign: a symbolic link");
    check(|path| symlink("/nonexistent", path).unwrap(), "foreign: a symbolic link");
    let file = |path: &Path, name: &str| {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join(name), "").unwrap();
    };
    check(|path| file(path, "dump.rdb"), "foreign: dump.rdb, and no stamp of Muster");
    check(
        |path| ["b", "a", ".c"].iter().for_each(|name| file(path, name)),
        "foreign: .c and 2 more, and no stamp of Muster",
    );
}

/// A directory of ours that is reached through a link is not ours: it could be anywhere.
#[test]
fn a_link_to_a_stamped_directory_is_foreign_too() {
    let (_base, layout) = layout();
    let other = layout.instance(port(7001));
    other.establish(&Stamp { port: port(7001), ..stamp() }, &files("", "")).unwrap();
    symlink(other.path(), place(&layout).path()).unwrap();
    assert_eq!(found(&place(&layout)), "foreign: a symbolic link");
}

#[test]
fn a_torn_stamp_is_unreadable_and_never_free() {
    check(with_stamp(""), "unreadable: BASE/7000/muster.json: EOF while parsing a value at line 1 column 0");
    check(
        with_stamp("{\"cluster\": \"or"),
        "unreadable: BASE/7000/muster.json: EOF while parsing a string at line 1 column 15",
    );
    check(
        |path| fs::create_dir_all(path.join(STAMP)).unwrap(),
        "unreadable: BASE/7000: muster.json is a directory, and only a regular file is read here",
    );
}

#[test]
fn a_stamp_for_another_port_was_copied_there_by_somebody() {
    let other = serde_json::to_string(&Stamp { port: port(7005), ..stamp() }).unwrap();
    check(with_stamp(&other), "foreign: a directory stamped for port 7005");
}

#[test]
fn a_new_directory_is_there_in_whole_and_nothing_is_left_in_staging() {
    let (base, layout) = layout();
    let dir = place(&layout);
    fs::create_dir(dir.path()).unwrap();
    dir.establish(&stamp(), &files("the conf", "the nodes")).unwrap();
    assert_eq!(dir.look(), Directory::Stamped(stamp()));
    assert_eq!(fs::read_to_string(dir.path().join("redis.conf")).unwrap(), "the conf");
    assert_eq!(dir.nodes_conf().unwrap(), "the nodes");
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("."), mode("redis.conf"), mode("nodes.conf"), mode(STAMP)], [0o750, 0o640, 0o644, 0o644]);
    assert!(listing(&base.path().join(".staging")).is_empty());
    assert!(!dir.holds_data(Keeps::Log) && !dir.holds_data(Keeps::Snapshots));
}

#[test]
fn what_a_crash_left_in_staging_goes_at_the_next_start() {
    let (base, layout) = layout();
    let half = base.path().join(".staging/7000-half");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("redis.conf"), "por").unwrap();
    fs::write(base.path().join(".staging/probe"), "x").unwrap();
    place(&layout).establish(&stamp(), &files("conf", "nodes")).unwrap();
    let layout = Layout::open(base.path(), None).unwrap();
    layout.clear_staging().unwrap();
    assert!(listing(&base.path().join(".staging")).is_empty());
    assert_eq!(found(&place(&layout)), "stamped orders -", "what is in place stays");
}

#[test]
fn a_try_that_failed_half_way_does_not_stand_in_the_way_of_the_next() {
    let (base, layout) = layout();
    let dir = place(&layout);
    fs::write(dir.path(), "in the way").unwrap();
    dir.establish(&stamp(), &files("conf", "nodes")).unwrap_err();
    assert_eq!(listing(&base.path().join(".staging")), [""; 0].map(PathBuf::from), "there are passwords in it");
    fs::remove_file(dir.path()).unwrap();
    dir.establish(&stamp(), &files("conf", "nodes")).unwrap();
    assert_eq!(found(&dir), "stamped orders -");
}

#[test]
fn a_latch_changes_the_stamp_and_nothing_else() {
    let (_base, layout) = layout();
    let dir = place(&layout);
    dir.establish(&stamp(), &files("conf", "nodes")).unwrap();
    let before = listing(&dir.path());
    for _ in 0..2 {
        dir.latch(&stamp()).unwrap();
        assert_eq!(dir.look(), Directory::Stamped(Stamp { formed: true, ..stamp() }));
    }
    assert_eq!(listing(&dir.path()), before);
}

#[test]
fn what_is_set_aside_is_in_the_trash_in_whole_and_its_place_is_free() {
    let (base, layout) = layout();
    let dir = place(&layout);
    let lives: Vec<_> = [1, 2].map(|nth| Stamp { node_id: id(nth), ..stamp() }).into();
    for life in &lives {
        dir.establish(life, &files("conf", "nodes")).unwrap();
        fs::write(dir.path().join("dump.rdb"), life.node_id.to_string()).unwrap();
        let aside = dir.set_aside(life).unwrap();
        assert_eq!(found(&dir), "free");
        assert_eq!(fs::read_to_string(aside.join("dump.rdb")).unwrap(), life.node_id.to_string());
    }
    let names =
        ["7000-orders-01010101-life1", "7000-orders-02020202-life1"].map(|name| base.path().join(".trash").join(name));
    assert_eq!(listing(&base.path().join(".trash")), names);
    dir.set_aside(&stamp()).unwrap_err();
}

#[test]
fn the_trash_is_never_written_over() {
    let (base, layout) = layout();
    let dir = place(&layout);
    dir.establish(&stamp(), &files("first", "nodes")).unwrap();
    let aside = dir.set_aside(&stamp()).unwrap();
    dir.establish(&stamp(), &files("second", "nodes")).unwrap();
    dir.set_aside(&stamp()).unwrap_err();
    assert_eq!(fs::read_to_string(aside.join("redis.conf")).unwrap(), "first");
    assert_eq!(found(&dir), "stamped orders -");
    assert_eq!(listing(&base.path().join(".trash")).len(), 1);
}

#[test]
fn the_conf_is_written_anew_only_if_it_differs() {
    let (_base, layout) = layout();
    let dir = place(&layout);
    dir.establish(&stamp(), &files("one", "nodes")).unwrap();
    let inode = || fs::metadata(dir.path().join("redis.conf")).unwrap().ino();
    let before = inode();
    dir.write_files(&files("one", "nodes")[..1]).unwrap();
    assert_eq!(inode(), before);
    dir.write_files(&files("two", "nodes")[..1]).unwrap();
    assert_ne!(inode(), before);
    assert_eq!(fs::read_to_string(dir.path().join("redis.conf")).unwrap(), "two");
}

#[test]
fn data_is_what_the_server_itself_keeps() {
    use Keeps::{Log, Nothing, Snapshots};
    let cases = [
        ("dump.rdb", "x", Snapshots, true),
        ("other.rdb", "x", Snapshots, true),
        ("dump.rdb", "", Snapshots, false),
        ("dump.rdb", "x", Log, false),
        ("dump.rdb", "x", Nothing, false),
        ("appendonly.aof", "x", Log, true),
        ("appendonly.aof", "x", Snapshots, false),
        ("appendonlydir/appendonly.aof.manifest", "x", Log, true),
        ("appendonlydir/appendonly.aof.1.incr.aof", "", Log, false),
        ("temp-4711.rdb", "x", Snapshots, false),
        ("redis.log", "x", Log, false),
        ("a/b/dump.rdb", "x", Snapshots, false),
    ];
    for (name, text, keeps, expected) in cases {
        let (_base, layout) = layout();
        let dir = place(&layout);
        dir.establish(&stamp(), &files("conf", "nodes")).unwrap();
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        assert_eq!(dir.holds_data(keeps), expected, "{name} {text:?} {keeps:?}");
    }
}

#[test]
fn a_life_is_the_same_formed_or_not_and_by_nothing_else() {
    let other = |change: fn(&mut Stamp)| {
        let mut other = stamp();
        change(&mut other);
        stamp().same_life(&other)
    };
    assert!(other(|_| {}));
    assert!(other(|stamp| stamp.formed = true));
    let changes: [fn(&mut Stamp); 6] = [
        |stamp| stamp.cluster = "other".parse().unwrap(),
        |stamp| stamp.cluster_id = ClusterId(uuid::Uuid::max()),
        |stamp| stamp.incarnation = Incarnation(2),
        |stamp| stamp.life = Life(2),
        |stamp| stamp.node_id = id(9),
        |stamp| stamp.port = port(7005),
    ];
    assert!(changes.into_iter().all(|change| !other(change)));
}
