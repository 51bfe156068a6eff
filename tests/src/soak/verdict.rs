//! Which losses Redis explains and which are ours: a function of the story. The rules stand in [`soak`](super).

use std::{collections::BTreeMap, time::Duration};

use super::story::{Ack, Event, Names, Spot};

/// So far behind its master may a replica be that is in sync. It is milliseconds on a machine that is idle.
pub const LAG: Duration = Duration::from_secs(1);
/// An answer may be read so long after the process that gave it was killed.
pub const LATE: Duration = Duration::from_millis(500);
/// A master that was thawed takes writes until it hears of its successor.
pub const WAKE: Duration = Duration::from_secs(2);
/// A take-over is seen so long after the fault at most: the node timeout, an election, and a machine with two cores.
pub const TAKEOVER: Duration = Duration::from_secs(20);
/// A master that Redis itself has given up may have been cut off for so long before.
pub const GIVEN_UP: Duration = Duration::from_secs(6);

/// What became of the writes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many there were.
    pub acknowledged: usize,
    /// How many a replica had too.
    pub waited: usize,
    /// Lost, and explained.
    pub explained: Vec<Ack>,
    /// How many of them were lost in a failover that no fault of ours has caused.
    pub by_itself: usize,
    /// What is not explained, a sentence each.
    pub condemned: Vec<String>,
}

/// Why a lost write may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Excuse {
    /// The end of its master, or its sleep.
    Fault,
    /// Redis took over, though we had done nothing.
    ByItself,
}

/// Judges it all. `lost` are the writes that were not there when they were read back.
pub fn judge(story: &[(Duration, Event)], acks: &[Ack], lost: &[Ack], names: &Names) -> Judged {
    let mut judged = Judged {
        acknowledged: acks.len(),
        waited: acks.iter().filter(|ack| ack.waited).count(),
        condemned: [uncalled_ends(story, names), empty_shards(story)].concat(),
        ..Judged::default()
    };
    for ack in lost {
        match excuse(story, ack) {
            Some(why) => {
                judged.explained.push(*ack);
                judged.by_itself += usize::from(why == Excuse::ByItself);
            }
            None => {
                let replica = if ack.waited { ", and its replica had it" } else { "" };
                judged.condemned.push(format!(
                    "{} is lost: acknowledged by {} for shard {} at {:.3} s{replica}",
                    ack.key(),
                    names.of(ack.by),
                    ack.shard,
                    ack.at.as_secs_f64()
                ));
            }
        }
    }
    judged
}

fn excuse(story: &[(Duration, Event)], ack: &Ack) -> Option<Excuse> {
    if ack.waited {
        return None;
    }
    let taken: Vec<Duration> = takeovers(story, ack).collect();
    let within = |least: Duration, most: Duration| least <= ack.at && ack.at <= most;
    for (at, event) in story {
        let (from, to) = match event {
            Event::Killed(spot) if *spot == ack.by && within(at.saturating_sub(LAG), *at + LATE) => (*at, *at),
            Event::Frozen(spot) if *spot == ack.by => {
                let thawed = thawed(story, *spot, *at);
                let before = within(at.saturating_sub(LAG), *at + LATE);
                if !before && !within(thawed, thawed + WAKE) {
                    continue;
                }
                (*at, thawed)
            }
            _ => continue,
        };
        if taken.iter().any(|taken| from <= *taken && *taken <= to + TAKEOVER) {
            return Some(Excuse::Fault);
        }
    }
    let alone = |taken: &&Duration| !was_hurt(story, ack.by, **taken);
    let given_up = |taken: &Duration| within(taken.saturating_sub(GIVEN_UP), *taken + WAKE);
    taken.iter().filter(alone).any(given_up).then_some(Excuse::ByItself)
}

/// When another than its writer's witness began to serve the shard.
fn takeovers<'a>(story: &'a [(Duration, Event)], ack: &'a Ack) -> impl Iterator<Item = Duration> + 'a {
    story.iter().filter_map(|(at, event)| match event {
        Event::Serves(spot, shard) if spot.cluster == ack.by.cluster && *shard == ack.shard && *spot != ack.by => {
            Some(*at)
        }
        _ => None,
    })
}

/// Whether we had done something to it shortly before.
fn was_hurt(story: &[(Duration, Event)], spot: Spot, then: Duration) -> bool {
    story.iter().any(|(at, event)| match event {
        Event::Killed(hurt) | Event::Frozen(hurt) | Event::Thawed(hurt) => {
            *hurt == spot && *at <= then && then <= *at + TAKEOVER
        }
        _ => false,
    })
}

fn thawed(story: &[(Duration, Event)], spot: Spot, after: Duration) -> Duration {
    let thaws = story.iter().filter(|(at, event)| *event == Event::Thawed(spot) && *at >= after);
    thaws.map(|(at, _)| *at).next().unwrap_or(after)
}

/// Processes that are another than before, though nobody had killed the one before.
fn uncalled_ends(story: &[(Duration, Event)], names: &Names) -> Vec<String> {
    let mut running: BTreeMap<Spot, (i32, bool)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (at, event) in story {
        match event {
            Event::Killed(spot) => {
                running.entry(*spot).and_modify(|(_, killed)| *killed = true);
            }
            Event::Process(spot, pid) => {
                if let Some((before, false)) = running.insert(*spot, (*pid, false)) {
                    let at = at.as_secs_f64();
                    wrong.push(format!(
                        "{} is pid {pid} at {at:.3} s and was pid {before}, which nobody had killed",
                        names.of(*spot)
                    ));
                }
            }
            _ => {}
        }
    }
    wrong
}

/// Shards that have had keys and have none.
fn empty_shards(story: &[(Duration, Event)]) -> Vec<String> {
    let mut had: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (at, event) in story {
        let Event::Well(cluster, sizes) = event else { continue };
        for (shard, keys) in sizes.iter().enumerate() {
            let before = had.insert((*cluster, shard), *keys).unwrap_or(0);
            if before > 0 && *keys == 0 {
                let at = at.as_secs_f64();
                wrong.push(format!("shard {shard} of cluster {cluster} is empty at {at:.3} s, and had {before} keys"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests;
