//! A server that was broken into has its directory to itself, and all the time in the world: what it can do there, and
//! that nothing of it reaches a file outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::{MetadataExt as _, symlink},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use super::*;
use crate::{
    execute::last_words,
    process::Process,
    samples::{alone, files, port, stamp},
};

/// Everything in a directory that the agent reads or writes by name, its temporary names too.
const NAMES: [&str; 9] = [
    "redis.conf",
    ".redis.conf.new",
    STAMP,
    ".muster.json.new",
    OUTPUT,
    ".output.log.new",
    LOG,
    NODES_CONF,
    "dump.rdb",
];

/// Fewest exchanges that the race must have seen, and the longest that it may take for them.
const SWAPS: u64 = 5_000;
const LONGEST: Duration = Duration::from_secs(60);

/// An instance's directory in a base directory, and beside it the files of somebody else, under every name that the
/// agent knows, with contents that it would believe.
struct Scene {
    root: tempfile::TempDir,
    layout: Layout,
    before: BTreeMap<PathBuf, String>,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let run_as = rustix::process::geteuid().is_root();
        let run_as = run_as.then(|| RunAs { name: "nobody".into(), uid: 65_534, gid: 65_534 });
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let layout = Layout::open(&root.path().join("base"), run_as).unwrap();
        let victim = root.path().join("victim");
        fs::create_dir(&victim).unwrap();
        for name in NAMES {
            fs::write(victim.join(name), "the victim's words\n").unwrap();
        }
        fs::write(victim.join(STAMP), serde_json::to_vec(&stamp()).unwrap()).unwrap();
        let before = Self::listing(&victim);
        Self { root, layout, before }
    }

    fn victim(&self) -> PathBuf {
        self.root.path().join("victim")
    }

    fn dir(&self) -> InstanceDir {
        self.layout.instance(port(7000))
    }

    /// Inode, owner, mode, time of the last change and content of everything. Not the number of links: more names of
    /// a file are no harm.
    fn listing(victim: &Path) -> BTreeMap<PathBuf, String> {
        let about = |path: &Path| {
            let meta = fs::symlink_metadata(path).unwrap();
            let content = if meta.is_file() { fs::read_to_string(path).unwrap() } else { String::new() };
            let (owner, time) = ((meta.uid(), meta.gid()), (meta.mtime(), meta.mtime_nsec()));
            format!("{} {owner:?} {:o} {time:?} {content}", meta.ino(), meta.mode())
        };
        let entries = fs::read_dir(victim).unwrap().map(|entry| entry.unwrap().path());
        entries.chain([victim.to_owned()]).map(|path| (path.clone(), about(&path))).collect()
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(Self::listing(&self.victim()), self.before);
    }
}

/// Everything that the agent ever does there. What may fail in a hostile directory may fail; nothing of the victim's
/// may come back.
fn every_look(dir: &InstanceDir) {
    dir.look();
    dir.inode();
    let words = [last_words(dir), dir.nodes_conf().unwrap_or_default()].concat();
    assert!(!words.contains("victim"), "{words}");
    assert!(!dir.holds_data(Keeps::Snapshots), "only the victim has data");
}

/// Started, and ended again.
fn run(dir: &InstanceDir) -> bool {
    let user = dir.run_as.clone();
    let Ok(mut process) = Process::spawn(dir, Path::new("/bin/sh"), user.as_ref(), 0) else { return false };
    process.kill().unwrap();
    while process.reap().is_none() {
        thread::yield_now();
    }
    true
}

fn plant_fifo(at: &Path) {
    rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::from(0o666), 0).unwrap();
}

#[test]
fn whatever_lies_under_a_known_name_nothing_outside_is_read_or_written() {
    let _alone = alone();
    type Plant = (&'static str, fn(&Path, &Path));
    let plants: [Plant; 6] = [
        ("a link", |at, victim| symlink(victim, at).unwrap()),
        ("a link to nothing", |at, victim| symlink(victim.with_extension("made"), at).unwrap()),
        ("a link to the directory", |at, victim| symlink(victim.parent().unwrap(), at).unwrap()),
        ("a second name", |at, victim| fs::hard_link(victim, at).unwrap()),
        ("a fifo", |at, _| plant_fifo(at)),
        ("a directory", |at, _| fs::create_dir(at).unwrap()),
    ];
    for (what, plant) in plants {
        for name in NAMES {
            // What is a second name of a readable file is that file: only what is written is of interest there.
            if what == "a second name" && [LOG, OUTPUT, NODES_CONF, "dump.rdb"].contains(&name) {
                continue;
            }
            let scene = Scene::new();
            let dir = scene.dir();
            dir.establish(&stamp(), &files("exit", "nodes")).unwrap();
            let at = dir.path().join(name);
            let _ = fs::remove_file(&at);
            plant(&at, &scene.victim().join(name));
            let began = Instant::now();
            let written = dir.write_files(&files("exec sleep 1000", "nodes")[..1]).is_ok();
            every_look(&dir);
            let ran = run(&dir);
            let latched = dir.latch(&stamp()).is_ok();
            every_look(&dir);
            let moved = dir.set_aside(&stamp()).is_ok();
            assert!(began.elapsed() < Duration::from_secs(5), "{what} as {name} is waited for");
            scene.is_untouched();
            let in_the_way = |names: [&str; 2]| what == "a directory" && names.contains(&name);
            assert_eq!(written, !in_the_way(["redis.conf", ".redis.conf.new"]), "{what} as {name}");
            assert_eq!(latched, !in_the_way([STAMP, ".muster.json.new"]), "{what} as {name}");
            assert_eq!(ran, !in_the_way([OUTPUT, OUTPUT]), "{what} as {name}");
            assert_eq!(moved, latched || name != STAMP, "{what} as {name}");
        }
    }
}

#[test]
fn the_end_of_a_log_without_end_is_as_short_as_any() {
    let scene = Scene::new();
    let dir = scene.dir();
    dir.establish(&stamp(), &files("", "")).unwrap();
    for path in [dir.log(), dir.output(), dir.path().join(STAMP), dir.path().join(NODES_CONF)] {
        fs::File::create(path).unwrap().set_len(1 << 30).unwrap();
    }
    let began = Instant::now();
    assert!(last_words(&dir).len() <= 4 * 2048);
    assert!(matches!(dir.look(), Directory::Unreadable(why) if why.ends_with("65536 are read at most")));
    assert!(dir.nodes_conf().is_err());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// Ends the others' part of the race, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the race counts: every act must have come about at times and have been refused at others, or it was no race.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, (u64, u64)>);

impl Tally {
    fn count(&mut self, act: &'static str, done: bool) -> bool {
        let (yes, no) = self.0.entry(act).or_default();
        *(if done { yes } else { no }) += 1;
        done
    }
}

/// The directory and a link to the victim change places as fast as the kernel can do it, and links to the victim's
/// files appear in the directory, while the agent does all that it ever does.
#[test]
fn a_directory_that_becomes_a_link_in_between_leads_nowhere() {
    let _alone = alone();
    let scene = Scene::new();
    let (dir, swap) = (scene.dir(), scene.layout.base().join(".swap"));
    symlink(scene.victim(), &swap).unwrap();
    let (over, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut tally = Tally::default();
    let mut ours = BTreeSet::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match rustix::fs::renameat_with(CWD, dir.path(), CWD, &swap, RenameFlags::EXCHANGE) {
                    Ok(()) => drop(swaps.fetch_add(1, Ordering::Relaxed)),
                    // Set aside; until there is a new one.
                    Err(_) => thread::yield_now(),
                }
            }
        });
        scope.spawn(|| plant_links(&dir, &scene.victim(), &over));
        let (began, _over) = (Instant::now(), Over(&over));
        let mut life = 0_u64;
        let enough = |tally: &Tally| tally.0.len() == 6 && tally.0.values().all(|(yes, no)| *yes >= 3 && *no > 0);
        while swaps.load(Ordering::Relaxed) < SWAPS || !enough(&tally) {
            assert!(began.elapsed() < LONGEST, "not a race: {tally:?} in {swaps:?} exchanges");
            let mut node = [0; 20];
            node[..8].copy_from_slice(&(life << 32).to_be_bytes());
            let stamp = Stamp { node_id: NodeId(node), ..stamp() };
            life += u64::from(tally.count("establish", dir.establish(&stamp, &files("exit", "nodes")).is_ok()));
            ours.extend(dir.inode());
            for text in ["exit 0", "exit 1"] {
                tally.count("write_files", dir.write_files(&files(text, "nodes")[..1]).is_ok());
                every_look(&dir);
                tally.count("latch", dir.latch(&stamp).is_ok());
            }
            tally.count("spawn", run(&dir));
            let aside = dir.set_aside(&stamp);
            let exchanged = aside.as_ref().is_err_and(|error| error.to_string().contains(" was exchanged "));
            tally.count("set_aside of what was looked at", !exchanged);
            tally.count("set_aside", aside.is_ok());
        }
    });
    scene.is_untouched();
    let trash = fs::read_dir(scene.layout.base().join(".trash")).unwrap().map(|entry| entry.unwrap().path());
    let strange = |path: &PathBuf| !fs::symlink_metadata(path).unwrap().is_dir();
    assert_eq!(trash.filter(strange).collect::<Vec<_>>(), [""; 0].map(PathBuf::from), "only directories are set aside");
}

/// Puts links to the victim's files under the known names, one after the other; in the directory itself, whatever it is
/// called at the moment.
fn plant_links(dir: &InstanceDir, victim: &Path, over: &AtomicBool) {
    for name in NAMES.iter().cycle() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(open) = dir.open() {
            let _ = rustix::fs::symlinkat(victim.join(name), &open, "planted");
            let _ = rustix::fs::renameat(&open, "planted", &open, *name);
        }
        thread::yield_now();
    }
}
