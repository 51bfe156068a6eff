//! Clients of the clusters that never stop writing: keys that are written once each, and a list of all answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use muster_proto::slots::key_slot;

use super::{
    cluster::Cluster,
    story::{Ack, Spot, Story, key},
    talk::{Reply, Talk},
};

/// Clients of each cluster: the last one asks for its replica's acknowledgement too.
const WRITERS: usize = 3;
/// Between two writes of one.
const PACE: Duration = Duration::from_millis(4);
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(20);
/// A server that says nothing for so long is given up, and its write is not acknowledged.
const PATIENCE: Duration = Duration::from_secs(1);
/// Patience of WAIT, in milliseconds.
const REPLICAS: &str = "500";

/// Begins them all.
pub fn begin(clusters: &[Cluster], story: &Arc<Story>, enough: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<Ack>>> {
    let mut threads = Vec::new();
    for cluster in clusters {
        for nth in 0..WRITERS {
            let writer = u32::try_from(cluster.number * WRITERS + nth).expect("a few");
            let (cluster, story, enough) = (cluster.clone(), story.clone(), enough.clone());
            threads.push(thread::spawn(move || {
                let mut writer = Writer::new(cluster, writer, nth + 1 == WRITERS);
                let mut acks = Vec::new();
                for number in 1.. {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    acks.extend(writer.write(number, &story));
                    thread::sleep(PACE);
                }
                acks
            }));
        }
    }
    threads
}

struct Writer {
    cluster: Cluster,
    writer: u32,
    waits: bool,
    /// Who is asked first, by shard.
    owners: Vec<usize>,
    talks: BTreeMap<usize, Talk>,
}

impl Writer {
    fn new(cluster: Cluster, writer: u32, waits: bool) -> Self {
        let leader = |shard| {
            let leads = |place: &super::cluster::Place| place.shard == shard && place.leads;
            cluster.places.iter().position(leads).expect("every shard has a master")
        };
        let owners = (0..cluster.shards.len()).map(leader).collect();
        Self { cluster, writer, waits, owners, talks: BTreeMap::new() }
    }

    /// One write, tried once: what is not acknowledged at once is not looked for later.
    fn write(&mut self, number: u32, story: &Story) -> Option<Ack> {
        let key = key(self.writer, number);
        let shard = self.cluster.shard(key_slot(key.as_bytes()));
        let nth = self.owners[shard];
        let endpoint = &self.cluster.places[nth].endpoint;
        let talk = self.talks.remove(&nth).or_else(|| Talk::to(endpoint, PATIENCE).ok());
        let asked = talk.and_then(|mut talk| Some((talk.ask(&["SET", &key, &number.to_string()]).ok()?, talk)));
        match asked {
            Some((Reply::Text(_), mut talk)) => {
                let at = story.now();
                let wait = self.waits.then(|| talk.ask(&["WAIT", "1", REPLICAS]));
                let waited = matches!(wait, Some(Ok(Reply::Number(1..))));
                if !matches!(wait, Some(Err(_))) {
                    self.talks.insert(nth, talk);
                }
                let by = Spot { cluster: self.cluster.number, nth };
                return Some(Ack { by, shard, writer: self.writer, number, at, waited });
            }
            Some((Reply::Error(words), talk)) => {
                self.talks.insert(nth, talk);
                match words.strip_prefix("MOVED ").and_then(|to| to.split_once(' ')) {
                    Some((_, owner)) => self.follow(shard, owner),
                    None => thread::sleep(PAUSE),
                }
            }
            // Gone, or silent: the other node of the shard knows who serves it.
            Some((Reply::Number(_) | Reply::Nil, _)) | None => {
                let other = |(at, place): (usize, &super::cluster::Place)| place.shard == shard && at != nth;
                let other = self.cluster.places.iter().enumerate().position(other);
                self.owners[shard] = other.unwrap_or(nth);
                thread::sleep(PAUSE);
            }
        }
        None
    }

    fn follow(&mut self, shard: usize, owner: &str) {
        if let Some(nth) = self.cluster.places.iter().position(|place| place.endpoint == owner) {
            self.owners[shard] = nth;
        }
    }
}
