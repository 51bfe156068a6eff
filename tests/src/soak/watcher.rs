//! Looks on: which process is in each instance's directory, as /proc shows it, and who serves each shard, as the servers
//! say. What changes is told.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    cluster::{Cluster, serves, view},
    story::{Event, Spot, Story},
    talk::Talk,
};
use crate::processes;

/// Between two looks. A take-over is seen within this and the patience for servers that are frozen.
const PACE: Duration = Duration::from_millis(100);
/// A server that is asked who it is has so long.
const PATIENCE: Duration = Duration::from_millis(200);

/// Servers in an instance's directory: not the children that write for one, nor others whose working directory it is.
pub fn servers(places: &BTreeMap<PathBuf, Spot>) -> BTreeMap<Spot, Vec<i32>> {
    let mut found: BTreeMap<Spot, Vec<i32>> = places.values().map(|spot| (*spot, Vec::new())).collect();
    let running: Vec<_> =
        processes::all().filter(|process| process.name == "redis-server" && !process.zombie).collect();
    for process in &running {
        let child = running.iter().any(|other| other.pid == process.parent);
        let home = processes::directories(&[process.pid]);
        if let Some(spot) = home.first().and_then(|home| places.get(home)).filter(|_| !child) {
            found.entry(*spot).or_default().push(process.pid);
        }
    }
    found
}

/// Looks until it is enough.
pub fn watch(clusters: &[Cluster], places: &BTreeMap<PathBuf, Spot>, story: &Story, enough: &AtomicBool) {
    let mut talks: BTreeMap<Spot, Talk> = BTreeMap::new();
    let (mut pids, mut leaders) = (BTreeMap::new(), BTreeMap::new());
    while !enough.load(Ordering::Relaxed) {
        for (spot, found) in servers(places) {
            for pid in found {
                if pids.insert(spot, pid) != Some(pid) {
                    story.tell(Event::Process(spot, pid));
                }
            }
        }
        for cluster in clusters {
            for (shard, spot) in leading(cluster, &mut talks) {
                if leaders.insert((cluster.number, shard), spot) != Some(spot) {
                    story.tell(Event::Serves(spot, shard));
                }
            }
        }
        thread::sleep(PACE);
    }
}

/// By shard, who serves it: of those who say so, the one with the newest epoch. One that was frozen while another took
/// over still says so when it wakes.
fn leading(cluster: &Cluster, talks: &mut BTreeMap<Spot, Talk>) -> BTreeMap<usize, Spot> {
    let mut best: BTreeMap<usize, (u64, Spot)> = BTreeMap::new();
    for (nth, place) in cluster.places.iter().enumerate() {
        let spot = Spot { cluster: cluster.number, nth };
        let talk = talks.remove(&spot).or_else(|| Talk::to(&place.endpoint, PATIENCE).ok());
        let Some((seen, talk)) = talk.and_then(|mut talk| Some((view(&mut talk).ok()?, talk))) else { continue };
        talks.insert(spot, talk);
        if let Some(epoch) = serves(&seen) {
            let known = best.entry(place.shard).or_insert((epoch, spot));
            *known = (*known).max((epoch, spot));
        }
    }
    best.into_iter().map(|(shard, (_, spot))| (shard, spot)).collect()
}
