//! The trash: what lies in it, until when, and what goes for good.
//!
//! Directories come here by [`layout`](crate::layout) alone, each with a note beside it that says since when. They go
//! from here by the policy of the config, or by an order that names their cluster; never one that an assignment wants
//! put back. What goes is called `.doomed-*` first, so that nothing half deleted is ever put back, and its stamp goes
//! last, so that a sweep which was cut off is finished by the next. What has no stamp of ours is left alone, and said.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use muster_proto::{ClusterId, HostAssignment, Incarnation, convert::millis, printable, wire};
use tokio::sync::{mpsc, watch::Receiver};

use crate::{
    keeper::Event,
    layout::{Layout, Note, STAMP, STAMP_MAX, Stamp},
    reconcile::stamp_of,
    tree::{Kind, Tree},
};

pub use self::policy::{Clock, Entry, Policy, overdue, until};

mod policy;

const DOOMED: &str = ".doomed-";
const NOTE: &str = ".json";
/// Why something stays whoever wants it deleted.
const WANTED: &str = "it is to be put back";
/// The longest note that is read; ours have a hundred bytes.
const NOTE_MAX: u64 = 4096;
/// So many entries are looked at; each is a directory that was set aside.
const ENTRIES: usize = 65_536;
/// A note without its directory is about a rename that is about to happen, until it is older than this.
const ORPHAN: Duration = Duration::from_secs(3600);

/// The trash of this host.
#[derive(Debug)]
pub struct Trash {
    layout: Layout,
    assignment: Receiver<Arc<HostAssignment>>,
    policy: Mutex<Policy>,
    born: Instant,
    clock: Mutex<Clock>,
    /// Held by whoever deletes: one at a time.
    turn: Mutex<()>,
}

/// What was found: by time, and what cannot be told.
#[derive(Debug, Default)]
pub struct Found {
    /// The oldest first.
    pub entries: Vec<Entry>,
    /// One sentence each.
    pub errors: Vec<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

impl Trash {
    /// Of a base directory; what the assignment wants put back stays.
    pub fn new(layout: Layout, assignment: Receiver<Arc<HostAssignment>>, policy: Policy) -> Self {
        let clock = Mutex::new(Clock::new(Duration::ZERO, unix_ms()));
        Self { layout, assignment, policy: Mutex::new(policy), born: Instant::now(), clock, turn: Mutex::default() }
    }

    /// Another policy from now on.
    pub fn keep_to(&self, policy: Policy) {
        *locked(&self.policy) = policy;
    }

    /// What lies in it. A directory without a note gets one: it is here since now, as far as anybody knows.
    pub fn list(&self) -> Found {
        let mut found = Found::default();
        if let Err(error) = self.open().and_then(|trash| look(&trash, unix_ms(), &mut found)) {
            found.errors.push(format!("{}: {error}", self.shown("")));
        }
        found.entries.sort_by(|one, two| (one.aside_unix_ms, &one.name).cmp(&(two.aside_unix_ms, &two.name)));
        found
    }

    /// For the task of that name; of one cluster or of all.
    pub fn rummage(&self, cluster: Option<ClusterId>) -> wire::RummageResult {
        let Found { entries, errors } = self.list();
        let of = |entry: &Entry| cluster.is_none_or(|cluster| entry.stamp.cluster_id == cluster);
        wire::RummageResult {
            directories: entries.into_iter().filter(of).map(|it| self.discarded(it)).collect(),
            errors,
        }
    }

    /// Deletes what the policy says, and what was being deleted; what was deleted is said to the loop, for the diary.
    pub fn sweep(&self, bell: &mpsc::Sender<Event>) {
        let _turn = locked(&self.turn);
        let trash = match self.open() {
            Ok(trash) => trash,
            Err(error) => return tracing::warn!(%error, "cannot look through {}", self.shown("")),
        };
        for error in finish(&trash, |stamp| self.is_wanted(stamp)) {
            tracing::warn!("{error}");
        }
        let Found { entries, errors } = self.list();
        errors.iter().for_each(|error| tracing::warn!("in the trash: {error}"));
        let (now, policy) = (unix_ms(), *locked(&self.policy));
        let newest = entries.iter().map(|entry| entry.aside_unix_ms).max();
        let believed = locked(&self.clock).look(self.born.elapsed(), now, newest);
        if let Err(why) = &believed {
            tracing::warn!("nothing is deleted from the trash by its age until muster-agent is started anew: {why}");
        }
        let is_rebuilt = |cluster| self.is_rebuilt(cluster);
        let overdue = overdue(&entries, |stamp| self.is_wanted(stamp), is_rebuilt, now, believed.is_ok(), policy);
        let mut said = Vec::new();
        for (entry, why) in overdue {
            match self.delete(&trash, entry) {
                Ok(()) => said.push(format!("{} is gone from the trash: {why}", entry.name)),
                Err(error) => tracing::warn!("{} is not deleted: {error}", self.shown(&entry.name)),
            }
        }
        said.iter().for_each(|text| tracing::info!("{text}"));
        if !said.is_empty() {
            let _ = bell.blocking_send(Event::Purged(said));
        }
    }

    /// For the task of that name: deletes what lies here of a cluster, or of one life of it.
    pub fn purge(&self, cluster: ClusterId, incarnation: Option<Incarnation>) -> wire::PurgeResult {
        let _turn = locked(&self.turn);
        let trash = match self.open() {
            Ok(trash) => trash,
            Err(error) => {
                let errors = vec![format!("{}: {error}", self.shown(""))];
                return wire::PurgeResult { directories: Vec::new(), errors };
            }
        };
        let Found { entries, mut errors } = self.list();
        let meant = |entry: &Entry| {
            entry.stamp.cluster_id == cluster && incarnation.is_none_or(|life| entry.stamp.incarnation == life)
        };
        let mut directories = Vec::new();
        for entry in entries.into_iter().filter(meant) {
            match self.delete(&trash, &entry) {
                Ok(()) => {
                    tracing::info!("{} is gone from the trash: by command", entry.name);
                    directories.push(self.discarded(entry));
                }
                Err(error) => errors.push(format!("{} is not deleted: {error}", self.shown(&entry.name))),
            }
        }
        wire::PurgeResult { directories, errors }
    }

    fn open(&self) -> io::Result<Tree> {
        Tree::open(self.layout.base())?.enter(".trash")
    }

    fn shown(&self, name: &str) -> String {
        self.layout.base().join(".trash").join(name).display().to_string()
    }

    /// Whether an assignment wants that put back, or an undo is about to.
    fn is_wanted(&self, stamp: &Stamp) -> bool {
        self.assignment.borrow().clusters.iter().any(|cluster| {
            let mut returns = cluster.instances.iter().filter(|instance| instance.restore);
            returns.any(|instance| stamp_of(cluster, instance).same_life(stamp))
                || cluster.keeps.iter().any(|former| stamp.is_of(cluster.cluster_id, former))
        })
    }

    /// Whether the life of the cluster that is assigned here has not been proved yet.
    fn is_rebuilt(&self, id: ClusterId) -> bool {
        self.assignment.borrow().clusters.iter().any(|cluster| cluster.cluster_id == id && !cluster.formed)
    }

    fn delete(&self, trash: &Tree, entry: &Entry) -> io::Result<()> {
        let wanted = || Err(io::Error::other(WANTED));
        if self.is_wanted(&entry.stamp) {
            return wanted();
        }
        let dir = trash.enter(&entry.name)?;
        if !stamp_in(&dir)?.same_life(&entry.stamp) {
            return Err(io::Error::other("it is another than before"));
        }
        let doomed = format!("{DOOMED}{}-{}", entry.name, uuid::Uuid::new_v4());
        trash.move_away(&entry.name, &dir, trash, &doomed)?;
        // What was wanted since the look is put back from here; nothing of it has gone yet.
        if self.is_wanted(&entry.stamp) {
            trash.move_away(&doomed, &dir, trash, &entry.name)?;
            return wanted();
        }
        let _ = trash.remove(&Note::name(&entry.name));
        clear(trash, &doomed, &dir)
    }

    fn discarded(&self, entry: Entry) -> wire::Discarded {
        let until_unix_ms = until(&entry, *locked(&self.policy)).unwrap_or(0);
        let Entry { name, stamp, bytes, aside_unix_ms } = entry;
        wire::Discarded {
            name,
            cluster: stamp.cluster.to_string(),
            cluster_id: stamp.cluster_id.to_string(),
            incarnation: stamp.incarnation.0,
            life: stamp.life.0,
            node_id: stamp.node_id.to_string(),
            port: stamp.port.into(),
            formed: stamp.formed,
            bytes,
            aside_unix_ms,
            until_unix_ms,
        }
    }
}

fn stamp_in(dir: &Tree) -> io::Result<Stamp> {
    Stamp::parse(&dir.read(STAMP, STAMP_MAX)?).map_err(io::Error::other)
}

fn look(trash: &Tree, now: u64, found: &mut Found) -> io::Result<()> {
    for name in trash.names(ENTRIES)? {
        // Notes, their temporary names, and what is being deleted.
        if name.ends_with(NOTE) || name.ends_with(".json.new") || name.starts_with(DOOMED) {
            continue;
        }
        let (entry, error) = match entry(trash, &name, now) {
            Ok((entry, error)) => (Some(entry), error),
            Err(why) => (None, Some(format!("{why}; it is left alone"))),
        };
        found.entries.extend(entry);
        found.errors.extend(error.map(|error| format!("{}: {error}", printable(&name))));
    }
    Ok(())
}

/// A directory in the trash, and what is not known of it; or why it is none of ours.
fn entry(trash: &Tree, name: &str, now: u64) -> Result<(Entry, Option<String>), String> {
    let words = |error: io::Error| printable(&error.to_string());
    let dir = match trash.kind(name).map_err(words)? {
        Kind::Directory => trash.enter(name).map_err(words)?,
        other => return Err(format!("it is {other}")),
    };
    let stamp = stamp_in(&dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "it carries no stamp of Muster".to_owned(),
        _ => words(error),
    })?;
    if stamp.aside_name() != name {
        return Err(format!("by its stamp it would be called {}", stamp.aside_name()));
    }
    let (aside_unix_ms, unwritten) = since(trash, name, now);
    let (bytes, uncounted) = match dir.bytes() {
        Ok(bytes) => (bytes, None),
        Err(error) => (0, Some(format!("its size is not known: {}", words(error)))),
    };
    Ok((Entry { name: name.to_owned(), stamp, bytes, aside_unix_ms }, unwritten.or(uncounted)))
}

/// Since when it is here; now, where that is not known, and then that is written down.
fn since(trash: &Tree, name: &str, now: u64) -> (u64, Option<String>) {
    let note = trash.read(&Note::name(name), NOTE_MAX).ok();
    match note.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok()) {
        Some(note) => (note.aside_unix_ms, None),
        None => {
            let written = Note { aside_unix_ms: now, operation: None }.write(trash, name);
            (now, written.err().map(|error| format!("since when it is here cannot be written down: {error}")))
        }
    }
}

/// Goes on with what a crash has cut off; what went wrong, one sentence each. What is wanted may be whole: how far it
/// got is not known.
fn finish(trash: &Tree, is_wanted: impl Fn(&Stamp) -> bool) -> Vec<String> {
    let names = trash.names(ENTRIES).unwrap_or_default();
    let doomed = names.iter().filter(|name| name.starts_with(DOOMED));
    let finish = |name: &String| -> io::Result<()> {
        let dir = trash.enter(name)?;
        // The stamp goes last: without one nothing else is left, or it is not ours.
        if !dir.names(1)?.is_empty() && is_wanted(&stamp_in(&dir)?) {
            return Err(io::Error::other(WANTED));
        }
        clear(trash, name, &dir)
    };
    let errors = doomed.filter_map(|name| Some(format!("{} is not deleted: {}", printable(name), finish(name).err()?)));
    let errors = errors.collect();
    let orphans = names.iter().filter_map(|name| Some((name, name.strip_suffix(NOTE)?)));
    for (note, _) in orphans.filter(|(_, directory)| !names.iter().any(|name| name == directory)) {
        let (now, kept) = (unix_ms(), trash.read(note, NOTE_MAX));
        let since = kept.ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok());
        if since.is_some_and(|note| note.aside_unix_ms.saturating_add(millis(ORPHAN)) < now) {
            let _ = trash.remove(note);
        }
    }
    errors
}

fn clear(trash: &Tree, name: &str, dir: &Tree) -> io::Result<()> {
    dir.clear_but(STAMP)?;
    match dir.remove(STAMP) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    trash.remove_empty(name)
}

#[cfg(test)]
mod tests;
