//! The next thing to do.

use std::collections::BTreeSet;

use muster_proto::{Keeps, NodeId, Role, Setting};

use super::{Duties, Kind, Place, Roll, Scene};
use crate::{
    blueprint::Blueprint,
    formation::{Culprit, Heard},
};

/// What is done next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// The phase: REPLICAS, MASTERS, SETTLE, DONE.
    pub phase: &'static str,
    /// Whose turn it is now.
    pub turn: Vec<NodeId>,
    /// Of those, whose shard was seen stopped as a whole.
    pub all_stopped: BTreeSet<NodeId>,
    /// Who hands over to whom now.
    pub hand_over: Option<(NodeId, NodeId)>,
    /// Who is waited for, and why.
    pub waiting: Vec<Culprit>,
    /// How many are where they should be.
    pub done: usize,
}

impl Next {
    /// Nothing is left.
    pub fn is_done(&self) -> bool {
        self.phase == DONE
    }
}

const REPLICAS: &str = "REPLICAS";
const MASTERS: &str = "MASTERS";
const SETTLE: &str = "SETTLE";
const DONE: &str = "DONE";

/// Views are taken at least once a second; what is said so long after a hand-over was not said before it.
const LATE_MS: u64 = 5_000;

/// The sides of a hand-over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

/// A target whose turn has come, or has not.
struct Targets<'a, 'b> {
    scene: &'b Scene<'a>,
    roll: &'b Roll,
    now_ms: u64,
    node_timeout_ms: u64,
    keeps: Keeps,
}

impl<'a, 'b> Targets<'a, 'b> {
    fn all(&self) -> impl Iterator<Item = &'b Place<'a>> {
        self.scene.places.iter().filter(|place| self.roll.targets.contains_key(&place.member.node_id))
    }

    fn run(&self, place: &Place) -> u64 {
        self.roll.targets.get(&place.member.node_id).copied().unwrap_or(0)
    }

    fn is_target(&self, place: &Place) -> bool {
        self.roll.targets.contains_key(&place.member.node_id)
    }

    /// It could be a master that has to hand over first: told to go, it would go without.
    fn may_lead(&self, place: &Place) -> bool {
        let unsure = place.status.is_err() || place.is_unsure();
        unsure && !self.scene.is_replaced(place) && !self.roll.dark.contains(&place.member.shard)
    }

    /// On which side it was of its last hand-over.
    fn last_hand_over(&self, place: &Place) -> Option<Side> {
        let name = place.member.name();
        let last = self.roll.hand_overs.iter().rfind(|done| done.from == name || done.to == name)?;
        // Later than that it says what is: somebody else has moved it back.
        if last.at_ms + LATE_MS < self.now_ms {
            return None;
        }
        Some(if last.from == name { Side::From } else { Side::To })
    }

    /// Why it cannot hand over yet, though there is an heir.
    fn wait(&self, master: &Place) -> Option<Culprit> {
        let (handed, ban) = (master.duty.handed_ms, self.node_timeout_ms * 2 + 500);
        (handed > 0 && handed + ban > self.now_ms).then(|| {
            let why = format!(
                "it has handed over a moment ago, and its peers vote for another successor of it only {} s after that",
                ban.div_ceil(1000)
            );
            Culprit { name: master.member.name(), why, stuck: false }
        })
    }

    /// If it says that it serves slots, that is older than its hand-over.
    fn has_handed_over(&self, place: &Place) -> bool {
        self.last_hand_over(place) == Some(Side::From)
    }

    /// Its duty says so already.
    fn told(&self, place: &Place) -> bool {
        match self.roll.kind {
            Kind::Stop => place.duty.stopped,
            Kind::Start | Kind::Restart => !place.duty.stopped && place.duty.run >= self.run(place),
        }
    }

    /// Why one that was told is not there yet.
    fn missing(&self, place: &Place) -> Option<Culprit> {
        match self.roll.kind {
            Kind::Stop => (!place.is_stopped()).then(|| {
                let why = match place.status {
                    Ok(status) if status.reason.is_empty() => status.state.word().to_owned(),
                    Ok(status) => status.reason.clone(),
                    Err(why) => why.to_owned(),
                };
                Culprit { name: place.member.name(), why, stuck: false }
            }),
            Kind::Restart => place.behind(self.run(place)).or_else(|| place.lack()),
            // A replica whose master is down, or a master of a cluster that is half down, has done its part.
            Kind::Start => place.behind(self.run(place)).or_else(|| {
                let leader = place.role().and_then(Role::master);
                let leads = leader.and_then(|id| self.scene.get(id)).is_some_and(Place::leads);
                place.lack().filter(|_| leads)
            }),
        }
    }
}

/// Computes it. `now_ms` counts since 1970.
pub fn next(roll: &Roll, blueprint: &Blueprint, duties: &Duties, heard: &Heard, now_ms: u64) -> Next {
    let scene = Scene::of(blueprint, duties, heard);
    let node_timeout_ms = node_timeout_ms(&blueprint.settings);
    let targets = Targets { scene: &scene, roll, now_ms, node_timeout_ms, keeps: Keeps::of(&blueprint.settings) };
    let told: Vec<_> = targets.all().filter(|place| targets.told(place)).collect();
    let waiting: Vec<_> = told.iter().filter_map(|place| targets.missing(place)).collect();
    let done = told.len() - waiting.len();
    let left: Vec<_> = targets.all().filter(|place| !targets.told(place)).collect();
    let step = match roll.kind {
        Kind::Stop => stop(&targets, &left),
        Kind::Start => start(&targets, &left),
        Kind::Restart => restart(&targets, &left, &told, &waiting),
    };
    let mut next = Next { waiting: [waiting, step.waiting].concat(), done, ..step };
    if roll.errand.is_some() {
        // One at a time.
        next.hand_over = None;
    }
    if left.is_empty() {
        // It is not over before everybody has said what is so now.
        let unseen = |place: &&Place| match targets.last_hand_over(place) {
            Some(Side::From) => place.leads(),
            Some(Side::To) => place.role().is_some() && !place.leads(),
            None => false,
        };
        next.waiting.extend(scene.places.iter().filter(unseen).map(late));
        let back = give_back(&targets, &next);
        let wait = back.and_then(|(from, _)| targets.wait(scene.get(from)?));
        let back = back.filter(|_| wait.is_none());
        next.waiting.extend(wait);
        next.phase = if back.is_some() || roll.errand.is_some() || !next.waiting.is_empty() { SETTLE } else { DONE };
        next.hand_over = back.filter(|_| roll.errand.is_none());
    }
    next
}

fn start(targets: &Targets, left: &[&Place]) -> Next {
    let lies = |place: &&&Place| targets.scene.shard(place.member.shard).all(Place::is_stopped);
    // Of a cluster that keeps nothing, masters come back empty: only where nobody is left who could be emptied by that,
    // and of one that is not heard of that is not known.
    let unsure = |place: &&Place| {
        let mut shard = targets.scene.shard(place.member.shard);
        let meant = targets.scene.shard(place.member.shard).all(|copy| copy.duty.stopped);
        targets.keeps == Keeps::Nothing && meant && shard.any(|copy| copy.status.is_err())
    };
    let (unsure, left): (Vec<&Place>, Vec<&Place>) = left.iter().copied().partition(unsure);
    let all_stopped = left.iter().filter(lies).map(|place| place.member.node_id).collect();
    let shards: BTreeSet<u32> = unsure.iter().map(|place| place.member.shard).collect();
    let silent = targets.scene.places.iter().filter(|place| shards.contains(&place.member.shard));
    let waiting = silent.filter(|place| place.status.is_err()).filter_map(Place::lack).collect();
    Next { phase: MASTERS, turn: ids(&left), all_stopped, waiting, ..Next::default() }
}

/// Those that serve nothing go at once; masters when they have handed over, or have nobody to.
fn stop(targets: &Targets, left: &[&Place]) -> Next {
    let mut next = Next { phase: REPLICAS, ..Next::default() };
    let (masters, others): (Vec<&Place>, Vec<&Place>) = left.iter().copied().partition(|place| place.leads());
    let (unsure, others): (Vec<&Place>, Vec<&Place>) = others.into_iter().partition(|place| targets.may_lead(place));
    next.waiting = unsure.iter().filter_map(|place| place.lack()).collect();
    next.turn = ids(&others);
    if others.is_empty() && unsure.is_empty() {
        next.phase = MASTERS;
    }
    for master in masters {
        let stays = |place: &Place| !targets.is_target(place);
        match targets.scene.heir(master, |place| !stays(place)) {
            _ if targets.has_handed_over(master) => next.waiting.push(late(master)),
            Some(_) if targets.wait(master).is_some() => next.waiting.extend(targets.wait(master)),
            Some(heir) => {
                next.hand_over.get_or_insert((master.member.node_id, heir.member.node_id));
            }
            None if targets.roll.dark.contains(&master.member.shard) => next.turn.push(master.member.node_id),
            None => next.waiting.push(nobody(master)),
        }
    }
    next
}

fn restart(targets: &Targets, left: &[&Place], told: &[&Place], waiting: &[Culprit]) -> Next {
    let (masters, others): (Vec<&Place>, Vec<&Place>) = left.iter().copied().partition(|place| place.leads());
    let (down, others): (Vec<&Place>, Vec<&Place>) = others.into_iter().partition(|place| place.is_down());
    let (unsure, replicas): (Vec<&Place>, Vec<&Place>) = others.into_iter().partition(|place| targets.may_lead(place));
    let behind = replicas.is_empty() || !targets.roll.hand_overs.is_empty();
    let mut next = Next { phase: if behind { MASTERS } else { REPLICAS }, ..Next::default() };
    next.waiting = unsure.iter().filter_map(|place| place.lack()).collect();
    next.turn = ids(&down);
    // Whoever does not come back well stops what was not begun yet; and the first goes alone.
    let alone = told.len() + down.len() == 1 && !waiting.is_empty();
    if waiting.iter().any(|culprit| culprit.stuck) || alone || !down.is_empty() {
        return next;
    }
    let mut busy: BTreeSet<u32> =
        told.iter().filter(|place| targets.missing(place).is_some()).map(|place| place.member.shard).collect();
    let scout = told.is_empty();
    for place in &replicas {
        if busy.contains(&place.member.shard) || (scout && !next.turn.is_empty()) {
            continue;
        }
        busy.insert(place.member.shard);
        match others_lack(targets.scene, place) {
            None => next.turn.push(place.member.node_id),
            Some(culprit) => next.waiting.push(culprit),
        }
    }
    // The first master goes when every replica is back.
    let early = targets.roll.hand_overs.is_empty() && !waiting.is_empty();
    if !replicas.is_empty() || !next.waiting.is_empty() || early {
        return next;
    }
    for master in masters {
        if busy.contains(&master.member.shard) {
            continue;
        }
        match (targets.scene.heir(master, |_| false), others_lack(targets.scene, master)) {
            _ if targets.has_handed_over(master) => next.waiting.push(late(master)),
            (Some(_), None) if targets.wait(master).is_some() => next.waiting.extend(targets.wait(master)),
            (Some(heir), None) => {
                next.hand_over.get_or_insert((master.member.node_id, heir.member.node_id));
            }
            (_, Some(culprit)) if !targets.roll.dark.contains(&master.member.shard) => next.waiting.push(culprit),
            (None, _) if !targets.roll.dark.contains(&master.member.shard) => next.waiting.push(nobody(master)),
            _ => next.turn.push(master.member.node_id),
        }
    }
    next
}

/// The first of the other copies of its shard that is not well. What an operator has stopped is not expected to be.
fn others_lack(scene: &Scene, place: &Place) -> Option<Culprit> {
    let others = scene.shard(place.member.shard).filter(|other| other.member.node_id != place.member.node_id);
    others.filter(|other| !other.duty.stopped).find_map(Place::lack)
}

/// The next hand-over back to one that was master before, once all is quiet.
fn give_back(targets: &Targets, next: &Next) -> Option<(NodeId, NodeId)> {
    let due = |id: &NodeId| {
        let place = targets.scene.get(*id)?;
        let master = place.role()?.master()?;
        let fresh = targets.scene.get(master).is_some_and(|master| !targets.has_handed_over(master));
        (place.lack().is_none() && fresh).then_some((master, *id))
    };
    if !next.waiting.is_empty() {
        return None;
    }
    targets.roll.give_back.iter().find_map(due)
}

/// What the operator's lines say; the last of a key counts, and the server's own default is 15 s.
fn node_timeout_ms(settings: &[Setting]) -> u64 {
    let line = settings.iter().rfind(|setting| setting.key == "cluster-node-timeout");
    line.and_then(|setting| setting.value.trim_matches(['"', '\'']).parse().ok()).unwrap_or(15_000)
}

fn late(master: &Place) -> Culprit {
    let why = "what it says of itself is older than its hand-over".into();
    Culprit { name: master.member.name(), why, stuck: false }
}

fn nobody(master: &Place) -> Culprit {
    let why = "serves slots, and no replica of it that is in sync could take over".into();
    Culprit { name: master.member.name(), why, stuck: false }
}

fn ids(places: &[&Place]) -> Vec<NodeId> {
    places.iter().map(|place| place.member.node_id).collect()
}
