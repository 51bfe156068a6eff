//! What is refused, name by name: each thing that can lie where a file should.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    time::{Duration, Instant},
};

use super::*;

const OURS: Access = Access { mode: 0o640, uid: None, gid: None };

fn tree() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::open(dir.path()).unwrap();
    (dir, tree)
}

fn fifo(path: &Path) {
    let cwd = rustix::fs::CWD;
    rustix::fs::mknodat(cwd, path, FileType::Fifo, Mode::from(0o666), 0).unwrap();
}

#[test]
fn what_is_no_file_is_not_read_and_not_waited_for() {
    let (dir, tree) = tree();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "words").unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink("file", at("near")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fifo(&at("fifo"));
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let said = |name: &str| {
        let tail = tree.tail(name, 9).map(|bytes| String::from_utf8(bytes).unwrap());
        let read = tree.read(name, 9).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(tail.as_ref().map_err(ToString::to_string), read.as_ref().map_err(ToString::to_string));
        read.map_err(|error| error.to_string())
    };
    let no = |what: &str| Err(format!("{what}, and only a regular file is read here"));
    assert_eq!(said("file"), Ok("words".into()));
    assert_eq!(said("link"), no("link is a symbolic link"));
    assert_eq!(said("near"), no("near is a symbolic link"));
    assert_eq!(said("directory"), no("directory is a directory"));
    assert_eq!(said("fifo"), no("fifo is a fifo, socket or device"));
    assert_eq!(said("socket"), no("socket is a fifo, socket or device"));
    for name in ["", ".", "..", "directory/x", "/etc/passwd"] {
        assert_eq!(said(name), Err(format!("{name:?} is not the plain name of an entry")));
    }
    assert!(tree.enter("..").is_err() && tree.enter("link").is_err() && tree.enter("/").is_err());
    assert_eq!(
        ["file", "link", "directory"].map(|name| tree.kind(name).unwrap()),
        [Kind::File(5), Kind::Link, Kind::Directory]
    );
}

#[test]
fn no_more_is_read_than_was_asked_for() {
    let (dir, tree) = tree();
    let huge = fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(1 << 30).unwrap();
    let began = Instant::now();
    assert_eq!(tree.tail("huge", 2048).unwrap(), [0; 2048]);
    let error = tree.read("huge", 100).unwrap_err().to_string();
    assert_eq!(error, "huge has 1073741824 bytes; 100 are read at most");
    assert!(!tree.holds("huge", b"x", OURS));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    fs::write(dir.path().join("exact"), [7; 100]).unwrap();
    assert_eq!(tree.read("exact", 100).unwrap(), [7; 100]);
    assert_eq!(tree.tail("exact", 200).unwrap(), [7; 100]);
    for nth in 0..50 {
        fs::write(dir.path().join(nth.to_string()), "").unwrap();
    }
    assert_eq!(tree.names(20).unwrap().len(), 20);
    assert_eq!(tree.names(100).unwrap().len(), 52);
}

/// Whatever lies under the name and under the temporary name: what it leads to is as it was, and the file is ours.
#[test]
fn what_is_written_replaces_and_never_follows() {
    let plants: [fn(&Path, &Path); 4] = [
        |at, victim| symlink(victim, at).unwrap(),
        |at, victim| symlink(victim.with_extension("new"), at).unwrap(),
        |at, victim| fs::hard_link(victim, at).unwrap(),
        |at, _| fifo(at),
    ];
    for (nth, plant) in plants.into_iter().enumerate() {
        for name in ["conf", ".conf.new"] {
            let (dir, tree) = tree();
            let outside = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
            let victim = outside.path().join("victim");
            fs::write(&victim, "victim").unwrap();
            fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
            plant(&dir.path().join(name), &victim);
            tree.write("conf", b"ours", OURS).unwrap();
            let about = fs::symlink_metadata(dir.path().join("conf")).unwrap();
            assert!(about.is_file() && about.nlink() == 1 && about.mode() & 0o7777 == 0o640, "{nth} {name}");
            assert_eq!(tree.read("conf", 10).unwrap(), b"ours");
            assert_eq!(tree.names(10).unwrap(), ["conf"], "{nth} {name}: nothing else is left");
            let about = fs::metadata(&victim).unwrap();
            assert_eq!((about.mode() & 0o7777, fs::read(&victim).unwrap()), (0o600, b"victim".to_vec()));
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{nth} {name}");
        }
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_stays_and_is_said() {
    let (dir, tree) = tree();
    fs::create_dir(dir.path().join("conf")).unwrap();
    assert_eq!(tree.write("conf", b"ours", OURS).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(tree.names(10).unwrap(), ["conf"]);
    fs::create_dir(dir.path().join(".other.new")).unwrap();
    assert_eq!(tree.write("other", b"ours", OURS).unwrap_err().kind(), io::ErrorKind::IsADirectory);
}

#[test]
fn a_file_is_what_it_should_be_in_every_respect_or_is_not() {
    let (dir, tree) = tree();
    let holds = || tree.holds("conf", b"ours", OURS);
    assert!(!holds());
    tree.write("conf", b"ours", OURS).unwrap();
    assert!(holds());
    let path = dir.path().join("conf");
    let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o660);
    assert!(!holds(), "open to the writing of others");
    mode(0o640);
    fs::hard_link(&path, dir.path().join("second name")).unwrap();
    assert!(!holds(), "to be changed through its second name");
    tree.write("conf", b"ours", OURS).unwrap();
    assert!(holds());
    assert!(!tree.holds("conf", b"our", OURS) && !tree.holds("conf", b"ours!", OURS));
    assert!(!tree.holds("conf", b"ours", Access { uid: Some(4711), ..OURS }));
    assert!(!tree.holds("conf", b"ours", Access { gid: Some(4711), ..OURS }));
}

#[test]
fn only_what_was_looked_at_is_moved() {
    let (dir, tree) = tree();
    let to = tree.make("to").unwrap();
    let looked = tree.make("place").unwrap();
    fs::rename(dir.path().join("place"), dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", dir.path().join("place")).unwrap();
    let error = tree.move_away("place", &looked, &to, "new").unwrap_err().to_string();
    assert!(error.ends_with("while it was being moved; what was there is back in its place"), "{error}");
    assert_eq!((tree.kind("place").unwrap(), to.names(9).unwrap().len()), (Kind::Link, 0));
    fs::remove_file(dir.path().join("place")).unwrap();
    tree.make("place").unwrap();
    tree.move_away("place", &looked, &to, "new").unwrap_err();
    tree.move_away("elsewhere", &looked, &to, "new").unwrap();
    assert_eq!(to.enter("new").unwrap().identity().unwrap(), looked.identity().unwrap());
    let other = tree.enter("place").unwrap();
    let taken = tree.move_away("place", &other, &to, "new").unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(tree.kind("place").unwrap(), Kind::Directory);
}

#[test]
fn a_directory_is_ours_or_it_is_said_how_it_becomes_so() {
    let (dir, tree) = tree();
    let at = |name: &str| dir.path().join(name);
    let said = |name: &str| {
        let error = Tree::open_ours(&at(name)).unwrap_err().to_string();
        error.replace(&dir.path().display().to_string(), "BASE")
    };
    let why = "and who can change it can have us write anywhere";
    tree.make("own").unwrap();
    Tree::open_ours(&at("own")).unwrap();
    symlink("own", at("link")).unwrap();
    let cure = "name the directory itself that it leads to";
    assert_eq!(said("link"), format!("BASE/link is a symbolic link, {why}; {cure}"));
    for mode in [0o775, 0o757, 0o1777] {
        fs::set_permissions(at("own"), fs::Permissions::from_mode(mode)).unwrap();
        let expected = format!("BASE/own can be written to by others (mode {mode:04o}), {why}; chmod go-w BASE/own");
        assert_eq!(said("own"), expected);
    }
    fs::set_permissions(at("own"), fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at("own"), Some(4711), None).unwrap();
        let cure = "if it should be ours: chown 0 BASE/own";
        assert_eq!(said("own"), format!("BASE/own belongs to the user with id 4711, {why}; {cure}"));
        assert!(tree.keep("own", 0o700).unwrap_err().to_string().contains("chown 0 own"));
    }
    symlink(dir.path(), at("planted")).unwrap();
    assert!(tree.keep("planted", 0o700).is_err(), "before the agent was installed, say");
}
