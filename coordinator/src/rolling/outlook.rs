//! What an operation would do and mean, before anybody says yes to it.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{Keeps, Member, NodeId, SlotRange};

use super::{Duties, Kind, Place, Roll, Scene};
use crate::{blueprint::Blueprint, formation::Heard};

/// What it would do and mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What is done, in order.
    pub steps: Vec<String>,
    /// What clients and data see of it, besides hand-overs.
    pub consequences: Vec<String>,
    /// Slots are served by nobody meanwhile.
    pub unserved: bool,
    /// What slots hold is lost.
    pub loses: bool,
    /// There is nothing to do.
    pub idle: bool,
    /// The shards that it is about.
    pub dark: BTreeSet<u32>,
    /// Those that serve slots now.
    pub masters: BTreeSet<NodeId>,
}

/// Whom it is about, of those that are meant, and in which run each is when it is done. A start is about those that do
/// not run alone: a server that runs, or may run on a host that is not heard of, is not started anew by it. What is
/// stopped is not restarted, unless it is `named`.
pub fn targets(
    kind: Kind,
    is_meant: impl Fn(&Member) -> bool,
    named: bool,
    blueprint: &Blueprint,
    duties: &Duties,
    heard: &Heard,
) -> BTreeMap<NodeId, u64> {
    let scene = Scene::of(blueprint, duties, heard);
    let target = |place: &Place| {
        let run = match (kind, place.duty.stopped) {
            (Kind::Stop, _) => place.duty.run,
            (Kind::Restart, true) if !named => return None,
            // After a store was lost a server may know of later ones than we do.
            (Kind::Restart, _) | (Kind::Start, true) => place.duty.run.max(place.run()) + 1,
            // It is tried by itself, and sooner because somebody asks.
            (Kind::Start, false) if place.status.is_ok() && place.running().is_none() => place.duty.run,
            (Kind::Start, false) => return None,
        };
        Some((place.member.node_id, run))
    };
    scene.places.iter().filter(|place| is_meant(place.member)).filter_map(target).collect()
}

/// Looks ahead.
pub fn outlook(roll: &Roll, blueprint: &Blueprint, duties: &Duties, heard: &Heard) -> Outlook {
    let scene = Scene::of(blueprint, duties, heard);
    let is_target = |place: &Place| roll.targets.contains_key(&place.member.node_id);
    let targets: Vec<_> = scene.places.iter().filter(|place| is_target(place)).collect();
    let masters: Vec<_> = targets.iter().copied().filter(|place| place.leads()).collect();
    let mut outlook =
        Outlook { masters: masters.iter().map(|place| place.member.node_id).collect(), ..Outlook::default() };
    match roll.kind {
        Kind::Start => {
            outlook.idle = targets.is_empty();
            outlook.steps.extend(list("started", targets.iter()));
            return outlook;
        }
        Kind::Stop => outlook.idle = targets.iter().all(|place| place.duty.stopped && place.is_stopped()),
        Kind::Restart => {
            outlook.idle = targets.is_empty();
            let others: Vec<_> = targets.iter().filter(|place| !place.leads()).collect();
            outlook.steps.extend(list("restarted, of each shard one at a time, the first alone", others.into_iter()));
        }
    }
    let stays = |place: &Place| roll.kind == Kind::Restart || !is_target(place);
    let mut dark = BTreeSet::new();
    for master in &masters {
        let (name, slots) = (master.member.name(), slots_of(master));
        match scene.heir(master, |place| !stays(place)) {
            Some(heir) => {
                let then = if roll.kind == Kind::Restart { ", and is restarted" } else { "" };
                outlook.steps.push(format!("{name} hands over slots {slots} to {}{then}", heir.member.name()));
            }
            None => {
                dark.insert(master.member.shard);
                if roll.kind == Kind::Restart {
                    outlook.steps.push(format!("{name} is restarted in place"));
                }
            }
        }
    }
    if roll.kind == Kind::Stop {
        outlook.steps.extend(list("stopped", targets.iter()));
        // Where nobody is heard to serve a shard now, nobody will.
        let touched: BTreeSet<u32> = targets.iter().map(|place| place.member.shard).collect();
        dark.extend(touched.into_iter().filter(|shard| {
            !outlook.idle && !scene.shard(*shard).any(Place::leads) && !scene.shard(*shard).all(Place::is_stopped)
        }));
    }
    let until = if roll.kind == Kind::Stop { "until they are started again" } else { "while that lasts" };
    if !dark.is_empty() {
        outlook.unserved = true;
        let slots = shards(blueprint, &dark);
        outlook.consequences.push(format!("slots {slots} are served by nobody {until}"));
    }
    let keeps = Keeps::of(&blueprint.settings);
    outlook.dark.clone_from(&dark);
    // Whoever is not in it and runs has a copy.
    let kept = |shard: &u32| scene.shard(*shard).any(|place| !is_target(place) && place.running().is_some());
    let whole: BTreeSet<u32> = dark.into_iter().filter(|shard| !kept(shard)).collect();
    if keeps == Keeps::Nothing && !whole.is_empty() {
        outlook.loses = true;
        let slots = shards(blueprint, &whole);
        outlook.consequences.push(format!("the cluster keeps nothing on disk: what slots {slots} hold is lost"));
    }
    if roll.kind == Kind::Stop {
        let single = |shard: &u32| {
            let left = scene.shard(*shard).filter(|place| !is_target(place) && place.running().is_some()).count();
            left == 1 && scene.shard(*shard).filter(|place| place.running().is_some()).count() > 1
        };
        let single: BTreeSet<u32> = targets.iter().map(|place| place.member.shard).filter(single).collect();
        if !single.is_empty() {
            let slots = shards(blueprint, &single);
            outlook.consequences.push(format!("slots {slots} are left without a second copy {until}"));
        }
    }
    outlook
}

fn list<'a>(done: &str, places: impl Iterator<Item = &'a &'a Place<'a>>) -> Option<String> {
    let names: Vec<_> = places.map(|place| place.member.name()).collect();
    match names.as_slice() {
        [] => None,
        [only] => Some(format!("{only} is {done}")),
        names => Some(format!("{} are {done}", names.join(", "))),
    }
}

fn slots_of(master: &Place) -> String {
    ranges(master.role().map(|role| role.slots()).unwrap_or_default())
}

/// The slots of shards, as planned.
fn shards(blueprint: &Blueprint, wanted: &BTreeSet<u32>) -> String {
    let mut slots: BTreeMap<u32, Vec<SlotRange>> = BTreeMap::new();
    for member in blueprint.members.iter().filter(|member| wanted.contains(&member.shard)) {
        slots.entry(member.shard).or_default().extend_from_slice(member.role.slots());
    }
    ranges(&muster_proto::slots::normal(slots.into_values().flatten().collect()))
}

fn ranges(slots: &[SlotRange]) -> String {
    slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
