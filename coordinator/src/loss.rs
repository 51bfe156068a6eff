//! What the death of each host would mean, as numbers and as a sentence.
//!
//! A pure function of the placement. It assumes server defaults (`cluster-require-full-coverage yes`), and it does not
//! say what to do about it: `advice` does.

pub mod advice;

use std::collections::BTreeSet;

use muster_proto::{
    HostName,
    slots::{normal, ranges_text},
    wire,
};

use crate::placement::{PlacedShard, Placement, text::count};

pub use advice::advice;

/// More ranges of slots than this are said as a number.
const RANGES_SHOWN: usize = 4;

/// What a host's death would mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The host that dies.
    pub host: HostName,
    /// Instances that die with it.
    pub instances_lost: usize,
    /// Masters among them.
    pub masters_lost: usize,
    /// Masters in all.
    pub masters: usize,
    /// Slots with no copy left.
    pub slots_lost: usize,
    /// Shards that live on with a single copy.
    pub shards_without_replica: usize,
    /// The masters left are a majority, and every slot has a copy: the cluster goes on.
    pub survives: bool,
    /// The same, as a sentence.
    pub meaning: String,
}

impl From<Loss> for wire::Loss {
    fn from(loss: Loss) -> Self {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            host: loss.host.into(),
            instances_lost: number(loss.instances_lost),
            masters_lost: number(loss.masters_lost),
            masters: number(loss.masters),
            slots_lost: number(loss.slots_lost),
            shards_without_replica: number(loss.shards_without_replica),
            survives: loss.survives,
            meaning: loss.meaning,
        }
    }
}

/// One for each host, by name.
pub fn losses(placement: &Placement) -> Vec<Loss> {
    let seats = placement.shards.iter().flat_map(PlacedShard::seats);
    let hosts: BTreeSet<&HostName> = seats.map(|seat| &seat.host).collect();
    hosts.into_iter().map(|host| loss(&placement.shards, host)).collect()
}

fn loss(shards: &[PlacedShard], host: &HostName) -> Loss {
    let left = |shard: &&PlacedShard| shard.seats().filter(|seat| seat.host != *host).count();
    let gone = shards.iter().filter(|shard| left(shard) == 0);
    let masters_lost = shards.iter().filter(|shard| shard.master.host == *host).count();
    let slots_lost = gone.map(|shard| usize::from(shard.slots.len())).sum();
    let mut loss = Loss {
        host: host.clone(),
        instances_lost: shards.iter().flat_map(PlacedShard::seats).filter(|seat| seat.host == *host).count(),
        masters_lost,
        masters: shards.len(),
        slots_lost,
        shards_without_replica: shards.iter().filter(|shard| left(shard) == 1).count(),
        survives: has_majority(masters_lost, shards.len()) && slots_lost == 0,
        meaning: String::new(),
    };
    loss.meaning = meaning(&loss, shards);
    loss
}

/// Whether the masters left are more than half of all (`needed_quorum` in cluster_legacy.c, all versions: size / 2 + 1,
/// where size counts the masters with slots, dead ones too).
fn has_majority(lost: usize, masters: usize) -> bool {
    (masters - lost) * 2 > masters
}

fn meaning(loss: &Loss, shards: &[PlacedShard]) -> String {
    let Loss { host, masters_lost, masters, .. } = loss;
    let lost = match masters_lost {
        0 => format!("losing {host} takes no master"),
        lost => format!("losing {host} takes {lost} of {masters} masters"),
    };
    let copies = match loss.shards_without_replica {
        0 => String::new(),
        single => format!("; {} left with a single copy", count(single, "shard")),
    };
    if loss.slots_lost > 0 {
        let gone = shards.iter().filter(|shard| shard.seats().all(|seat| seat.host == *host));
        let ranges = normal(gone.map(|shard| shard.slots).collect());
        let slots = match ranges.len() {
            0..=RANGES_SHOWN => format!("slots {}", ranges_text(&ranges)),
            _ => format!("{} slots", loss.slots_lost),
        };
        return format!("{lost} and every copy of {slots}: the cluster stops, and their data is nowhere else");
    }
    if !has_majority(*masters_lost, *masters) {
        return format!(
            "{lost}: {} of {masters} is no majority and cannot elect, so the cluster stops until {host} is back; every \
             slot still has a copy",
            masters - masters_lost
        );
    }
    match masters_lost {
        0 => format!("{lost}: the cluster goes on{copies}"),
        1 => format!("{lost}: a replica takes over and the cluster goes on{copies}"),
        _ => format!("{lost}: replicas take over and the cluster goes on{copies}"),
    }
}

#[cfg(test)]
mod tests;
