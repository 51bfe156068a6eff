//! Real directories in a real trash: what is listed, what goes, and what never does.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use muster_proto::{Former, Life, OperationId, Want};
use tokio::sync::watch;

use super::*;
use crate::{
    permits::Leaving,
    samples::{self, alone, files, id, layout, leaving, port, stamp, wipe},
};

const KEEP: Policy = Policy { keep: Some(Duration::from_secs(168 * 3600)), most: None };
const FOR_EVER: Policy = Policy { keep: None, most: None };

struct Host {
    base: tempfile::TempDir,
    layout: Layout,
    assignment: watch::Sender<Arc<HostAssignment>>,
    trash: Trash,
    _alone: MutexGuard<'static, ()>,
}

fn host(policy: Policy) -> Host {
    let (alone, (base, layout)) = (alone(), layout());
    let (assignment, assigned) = watch::channel(Arc::new(samples::assignment(Want::Running, false)));
    let trash = Trash::new(layout.clone(), assigned, policy);
    Host { base, layout, assignment, trash, _alone: alone }
}

impl Host {
    /// Sets a directory aside, so many hours ago.
    fn aside(&self, stamp: &Stamp, hours: u64) -> PathBuf {
        let dir = self.layout.instance(stamp.port);
        dir.establish(stamp, &files("conf", "nodes")).unwrap();
        fs::write(dir.path().join("dump.rdb"), [0; 1000]).unwrap();
        let leaving = Leaving { stamp: stamp.clone(), ..leaving() };
        dir.set_aside_former(wipe(&leaving), unix_ms() - hours * 3_600_000).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(".trash").join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Sweeps; what is said of it.
    fn sweep(&self) -> Vec<String> {
        let (bell, mut heard) = mpsc::channel(8);
        self.trash.sweep(&bell);
        match heard.try_recv() {
            Ok(Event::Purged(said)) => said,
            _ => Vec::new(),
        }
    }

    /// An undo is about to put that back.
    fn keeps(&self, stamps: &[Stamp]) {
        let mut assignment = samples::assignment(Want::Stopped, true);
        let operation = OperationId(uuid::Uuid::from_u128(7));
        let former = |stamp: &Stamp| {
            let Stamp { incarnation, life, node_id, .. } = *stamp;
            Former { operation, incarnation, life, node_id }
        };
        assignment.clusters[0].keeps = stamps.iter().map(former).collect();
        self.assignment.send_replace(Arc::new(assignment));
    }

    fn wants_back(&self, wanted: bool) {
        let mut assignment = samples::assignment(Want::Running, false);
        assignment.clusters[0].instances[0].restore = wanted;
        self.assignment.send_replace(Arc::new(assignment));
    }
}

fn life(nth: u64) -> Stamp {
    Stamp { life: Life(nth), ..stamp() }
}

#[test]
fn what_lies_there_is_listed_the_oldest_first() {
    let host = host(KEEP);
    assert_eq!(host.trash.rummage(None), wire::RummageResult::default());
    let other = Stamp { cluster_id: ClusterId(uuid::Uuid::max()), node_id: id(9), formed: true, ..stamp() };
    host.aside(&life(1), 2);
    host.aside(&life(2), 3);
    host.aside(&other, 1);
    let found = host.trash.rummage(None);
    assert_eq!(found.errors, [""; 0]);
    let names: Vec<_> = found.directories.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["7000-orders-01010101-life2", "7000-orders-01010101-life1", "7000-orders-09090909-life1"]);
    let one = &found.directories[2];
    assert_eq!((one.cluster.as_str(), one.incarnation, one.life, one.port, one.formed), ("orders", 1, 1, 7000, true));
    assert_eq!((&one.cluster_id, &one.node_id), (&uuid::Uuid::max().to_string(), &id(9).to_string()));
    let stamp_bytes = fs::metadata(host.path(&one.name).join(STAMP)).unwrap().len();
    assert_eq!(one.bytes, 1000 + "conf".len() as u64 + "nodes".len() as u64 + stamp_bytes);
    assert_eq!(one.until_unix_ms - one.aside_unix_ms, 168 * 3_600_000);
    assert_eq!(host.trash.rummage(Some(stamp().cluster_id)).directories.len(), 2);
    host.trash.keep_to(FOR_EVER);
    assert!(host.trash.rummage(None).directories.iter().all(|one| one.until_unix_ms == 0));
}

#[test]
fn a_directory_without_a_note_is_there_since_it_was_first_seen() {
    let host = host(KEEP);
    let path = host.aside(&life(1), 500);
    let note = host.path("7000-orders-01010101-life1.json");
    for damage in [|note: &PathBuf| fs::remove_file(note).unwrap(), |note: &PathBuf| fs::write(note, "{").unwrap()] {
        damage(&note);
        let before = unix_ms();
        let since = host.trash.list().entries[0].aside_unix_ms;
        assert!(since >= before && since <= unix_ms());
        assert_eq!(host.trash.list().entries[0].aside_unix_ms, since, "and that is kept");
        assert_eq!(host.sweep(), [""; 0], "it is new");
    }
    assert!(path.exists());
}

#[test]
fn what_is_old_goes_with_its_note_and_the_rest_stays() {
    let host = host(KEEP);
    host.aside(&life(1), 169);
    let young = host.aside(&life(2), 167);
    assert_eq!(
        host.sweep(),
        ["7000-orders-01010101-life1 is gone from the trash: it was kept for 168 h (trash.keep_hours)"]
    );
    assert_eq!(host.names(), ["7000-orders-01010101-life2", "7000-orders-01010101-life2.json"]);
    assert!(young.join("dump.rdb").exists());
    assert_eq!(host.sweep(), [""; 0]);
}

#[test]
fn what_is_too_much_goes() {
    let host = host(Policy { keep: None, most: Some(1500) });
    (1..=3).for_each(|nth| drop(host.aside(&life(nth), 10 - nth)));
    assert_eq!(host.sweep().len(), 2, "each has some more than a thousand bytes");
    assert_eq!(host.names(), ["7000-orders-01010101-life3", "7000-orders-01010101-life3.json"]);
}

#[test]
fn a_clock_that_was_set_deletes_nothing() {
    let host = host(KEEP);
    host.aside(&life(1), 500);
    let future = host.path("7000-orders-01010101-life2.json");
    host.aside(&life(2), 0);
    fs::write(&future, format!("{{\"aside_unix_ms\":{}}}", unix_ms() + 3_600_000)).unwrap();
    assert_eq!(host.sweep(), [""; 0]);
    fs::write(&future, format!("{{\"aside_unix_ms\":{}}}", unix_ms())).unwrap();
    assert_eq!(host.sweep(), [""; 0], "not until the agent is started anew");
    let (_assignment, assigned) = watch::channel(Arc::new(samples::assignment(Want::Running, false)));
    let anew = Host { trash: Trash::new(host.layout.clone(), assigned, KEEP), ..host };
    assert_eq!(anew.sweep().len(), 1);
}

#[test]
fn what_is_wanted_back_stays_whoever_says_otherwise() {
    let host = host(Policy { keep: Some(Duration::from_secs(3600)), most: Some(1) });
    let path = host.aside(&stamp(), 500);
    host.wants_back(true);
    assert_eq!(host.sweep(), [""; 0]);
    let purged = host.trash.purge(stamp().cluster_id, None);
    assert_eq!(purged.directories, []);
    assert_eq!(purged.errors, [format!("{} is not deleted: it is to be put back", path.display())]);
    assert!(path.join("dump.rdb").exists());
    host.wants_back(false);
    assert_eq!(host.trash.purge(stamp().cluster_id, None).directories.len(), 1);
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn what_an_undo_is_about_to_put_back_stays_and_nothing_else_does() {
    let host = host(Policy { keep: Some(Duration::from_secs(3600)), most: Some(1) });
    let port = port(7001);
    let kept = [Stamp { life: Life(3), ..stamp() }, Stamp { life: Life(3), port, node_id: id(4), ..stamp() }];
    let others = [
        Stamp { life: Life(2), ..stamp() },
        Stamp { life: Life(3), node_id: id(9), ..stamp() },
        Stamp { life: Life(3), incarnation: Incarnation(2), port: samples::port(7009), ..stamp() },
        Stamp { life: Life(3), cluster: "carts".parse().unwrap(), cluster_id: ClusterId(uuid::Uuid::max()), ..stamp() },
    ];
    kept.iter().chain(&others).for_each(|stamp| drop(host.aside(stamp, 500)));
    let half = host.path(".doomed-7000-x");
    host.keeps(&kept);
    assert_eq!(host.sweep().len(), others.len());
    let purged = host.trash.purge(stamp().cluster_id, None);
    assert_eq!((purged.directories.len(), purged.errors.len()), (0, kept.len()), "{purged:?}");
    // A crash came after the first step of deleting it: whether it is whole is not known.
    fs::rename(host.path(&kept[0].aside_name()), &half).unwrap();
    host.sweep();
    assert!(half.join("dump.rdb").exists());
    host.keeps(&[]);
    assert_eq!(host.sweep().len(), 1);
    assert_eq!(host.names(), [""; 0]);
}

#[test]
fn an_order_deletes_what_it_names_and_nothing_else() {
    let host = host(FOR_EVER);
    let other = Stamp { cluster_id: ClusterId(uuid::Uuid::max()), node_id: id(9), ..stamp() };
    let second = Stamp { incarnation: Incarnation(2), life: Life(2), node_id: id(2), ..stamp() };
    for stamp in [&stamp(), &second, &other] {
        host.aside(stamp, 1);
    }
    let names = |result: wire::PurgeResult| {
        assert_eq!(result.errors, [""; 0]);
        result.directories.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(names(host.trash.purge(ClusterId(uuid::Uuid::from_u128(5)), None)), [""; 0]);
    assert_eq!(names(host.trash.purge(stamp().cluster_id, Some(Incarnation(2)))), ["7000-orders-02020202-life2"]);
    assert_eq!(names(host.trash.purge(stamp().cluster_id, Some(Incarnation(2)))), [""; 0], "again");
    assert_eq!(names(host.trash.purge(stamp().cluster_id, None)), ["7000-orders-01010101-life1"]);
    assert_eq!(host.names(), ["7000-orders-09090909-life1", "7000-orders-09090909-life1.json"]);
}

#[test]
fn what_is_not_ours_is_left_alone_and_said() {
    let host = host(Policy { keep: Some(Duration::from_secs(3600)), most: Some(1) });
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("theirs"), "x").unwrap();
    fs::write(outside.path().join(STAMP), serde_json::to_vec(&life(4)).unwrap()).unwrap();
    let real = host.aside(&life(1), 500);
    symlink(outside.path(), host.path("7000-orders-01010101-life4")).unwrap();
    symlink(outside.path(), real.join("out")).unwrap();
    symlink(outside.path().join("theirs"), real.join("theirs")).unwrap();
    fs::create_dir(host.path("a directory")).unwrap();
    fs::write(host.path("a directory/file"), "x").unwrap();
    fs::write(host.path("a file"), "x").unwrap();
    fs::create_dir(host.path("renamed")).unwrap();
    fs::write(host.path("renamed").join(STAMP), serde_json::to_vec(&life(5)).unwrap()).unwrap();
    fs::create_dir(host.path("torn")).unwrap();
    fs::write(host.path("torn").join(STAMP), "{").unwrap();
    // As if it were being deleted, and without a stamp that says so.
    fs::create_dir(host.path(".doomed-theirs")).unwrap();
    fs::write(host.path(".doomed-theirs/file"), "x").unwrap();
    let mut errors = host.trash.list().errors;
    errors.sort();
    assert_eq!(
        errors,
        [
            "7000-orders-01010101-life4: it is a symbolic link; it is left alone",
            "a directory: it carries no stamp of Muster; it is left alone",
            "a file: it is a file; it is left alone",
            "renamed: by its stamp it would be called 7000-orders-01010101-life5; it is left alone",
            "torn: EOF while parsing an object at line 1 column 1; it is left alone",
        ]
    );
    assert_eq!(host.sweep().len(), 1, "the one that is ours");
    assert_eq!(host.trash.purge(stamp().cluster_id, None).directories, []);
    let left = ["torn", "renamed", "a file", "a directory/file", ".doomed-theirs/file", "7000-orders-01010101-life4"];
    assert!(left.iter().all(|name| fs::symlink_metadata(host.path(name)).is_ok()));
    assert!(outside.path().join("theirs").exists() && outside.path().join(STAMP).exists());
}

#[test]
fn what_was_half_deleted_is_no_directory_any_more_and_goes_at_the_next_sweep() {
    let host = host(FOR_EVER);
    let path = host.aside(&life(1), 0);
    fs::rename(&path, host.path(".doomed-7000-x")).unwrap();
    fs::create_dir(host.path(".doomed-empty")).unwrap();
    fs::write(host.path("old.json"), format!("{{\"aside_unix_ms\":{}}}", unix_ms() - 4_000_000)).unwrap();
    fs::write(host.path("new.json"), format!("{{\"aside_unix_ms\":{}}}", unix_ms())).unwrap();
    assert!(host.trash.list().entries.is_empty());
    host.layout.instance(port(7000)).restore(&life(1)).unwrap_err();
    host.sweep();
    let left = ["7000-orders-01010101-life1.json", "new.json"];
    assert_eq!(host.names(), left, "notes of renames that may be about to happen");
}
