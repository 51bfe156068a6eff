//! Stopping, starting and restarting instances of a formed cluster: what is done next, computed from what is.
//!
//! What operators want of an instance beyond its blueprint is its [`Duty`]: stopped or not, and which run. Duties are
//! told to hosts with the rest of their state, so what was begun is finished whoever dies meanwhile, and what is
//! stopped stays so. A [`Roll`] is the operation that moves duties, one after the other, and [`next`](next()) is its
//! whole mind: a function of the duties and of what was last heard. Nothing else is remembered but a hand-over that was
//! asked for.
//!
//! The rules of a restart, in this order:
//! 1. What does not run anyway is tried first; it costs nobody anything.
//! 2. Replicas before masters. The very first goes alone: what is wrong with the new server or conf shows on it.
//! 3. Of a shard one copy at a time, and only while all the others are well; shards side by side.
//! 4. A master hands over before it goes, to a replica in sync. One hand-over at a time: two elections at once would
//!    split the votes. And none from a master that has just handed over: its peers vote for another successor of it
//!    only after twice the node timeout (`clusterSendFailoverAuthIfNeeded`, cluster.c), and each try in vain blocks
//!    writes for 5 s.
//! 5. Whoever does not come back well stops everything that was not begun yet.
//!
//! A stop hands over where a copy stays, and takes the others at once. A start starts all at once.
//!
//! Reading order: here, [`next`](mod@next), [`outlook`].

mod next;
mod outlook;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_proto::{Condition, InstanceState, InstanceStatus, Member, NodeId, OperationId, Role};
use serde::{Deserialize, Serialize};

pub use self::{
    next::{Next, next},
    outlook::{Outlook, outlook, targets},
};
use crate::{
    blueprint::Blueprint,
    formation::{Culprit, Heard, steps},
};

/// What an operator wants of an instance, beyond its blueprint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Duty {
    /// It does not run.
    pub stopped: bool,
    /// How often a start was asked for.
    pub run: u64,
    /// When that run was ordered, every copy of its shard was seen stopped.
    pub all_stopped: bool,
    /// When it last handed over, milliseconds since 1970.
    pub handed_ms: u64,
}

/// Those that differ from the default, by node id.
pub type Duties = BTreeMap<NodeId, Duty>;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// They are stopped.
    Stop,
    /// They are started.
    Start,
    /// They are stopped and started.
    Restart,
}

/// A master that has handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// The one that was master: `server1:7000`.
    pub from: String,
    /// The one that is.
    pub to: String,
    /// The longest wait of a client that wrote, in microseconds; 0 where it was not measured.
    pub gap_micros: u64,
    /// Why it was not.
    pub unmeasured: String,
    /// When, milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
}

/// A hand-over that an agent was asked for. Asked again with the same id, it gives the same answer again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The task's id.
    pub task: String,
    /// The master.
    pub from: NodeId,
    /// The replica.
    pub to: NodeId,
}

/// The operation, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    /// Its id.
    pub operation: OperationId,
    /// What is done.
    pub kind: Kind,
    /// To whom, and in which run each is when it is done.
    pub targets: BTreeMap<NodeId, u64>,
    /// The shards whose slots may be served by nobody meanwhile: those of which it was said before.
    pub dark: BTreeSet<u32>,
    /// Those that were masters when it began, to get their slots back; empty when they do not.
    pub give_back: BTreeSet<NodeId>,
    /// What was asked for and not answered yet.
    pub errand: Option<Errand>,
    /// What was done.
    pub hand_overs: Vec<HandedOver>,
}

impl Kind {
    /// The operation's.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }

    /// What was done to those that it was done to.
    pub fn done(self) -> &'static str {
        match self {
            Self::Stop => "stopped",
            Self::Start => "started",
            Self::Restart => "restarted",
        }
    }
}

impl Roll {
    /// Whether it is what another asks for.
    pub fn asks_for(&self, other: &Self) -> bool {
        // Those of a start become fewer while it goes on.
        let same = match self.kind {
            Kind::Start => other.targets.keys().all(|id| self.targets.contains_key(id)),
            Kind::Stop | Kind::Restart => self.targets.keys().eq(other.targets.keys()),
        };
        (self.kind, &self.dark, &self.give_back) == (other.kind, &other.dark, &other.give_back) && same
    }

    /// The duty that an instance has when its turn has come. `all_stopped` is about its shard.
    pub fn duty(&self, id: NodeId, before: Duty, all_stopped: bool) -> Duty {
        match self.kind {
            Kind::Stop => Duty { stopped: true, ..before },
            Kind::Start | Kind::Restart => {
                let run = self.targets.get(&id).copied().unwrap_or(before.run);
                Duty { stopped: false, run, all_stopped, ..before }
            }
        }
    }
}

/// A member of the cluster, with what is wanted of it and what was heard of it.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    member: &'a Member,
    duty: Duty,
    status: Result<&'a InstanceStatus, &'a str>,
}

/// The cluster, as one looks at it.
struct Scene<'a> {
    places: Vec<Place<'a>>,
}

impl<'a> Scene<'a> {
    fn of(blueprint: &'a Blueprint, duties: &Duties, heard: &'a Heard) -> Self {
        let place = |member: &'a Member| Place {
            member,
            duty: duties.get(&member.node_id).copied().unwrap_or_default(),
            status: match heard.silent.get(&member.host) {
                Some(why) => Err(why.as_str()),
                None => heard.instances.get(&member.node_id).ok_or("not reported yet"),
            },
        };
        Self { places: blueprint.members.iter().map(place).collect() }
    }

    fn shard(&self, shard: u32) -> impl Iterator<Item = &Place<'a>> {
        self.places.iter().filter(move |place| place.member.shard == shard)
    }

    fn get(&self, id: NodeId) -> Option<&Place<'a>> {
        self.places.iter().find(|place| place.member.node_id == id)
    }

    /// Whether another copy serves the slots of its shard, so that it is at most a replica when it comes back.
    fn is_replaced(&self, place: &Place) -> bool {
        self.shard(place.member.shard).any(|other| other.leads() && other.member.node_id != place.member.node_id)
    }

    /// A replica in sync, outside of `but`, that can take over from that master.
    fn heir(&self, master: &Place, but: impl Fn(&Place) -> bool) -> Option<&Place<'a>> {
        self.shard(master.member.shard).find(|place| {
            place.copies(master.member.node_id) && place.lack().is_none() && !place.duty.stopped && !but(place)
        })
    }
}

impl Place<'_> {
    fn running(&self) -> Option<&InstanceStatus> {
        self.status.ok().filter(|status| status.state == InstanceState::Running)
    }

    fn role(&self) -> Option<&Role> {
        Some(&self.running()?.view.as_ref()?.role)
    }

    /// It runs and serves slots.
    fn leads(&self) -> bool {
        matches!(self.role(), Some(Role::Master { slots }) if !slots.is_empty())
    }

    fn copies(&self, master: NodeId) -> bool {
        matches!(self.role(), Some(Role::Replica { master: its }) if *its == master)
    }

    /// Certainly nothing of it runs: whatever is done to it, it serves nobody.
    fn is_down(&self) -> bool {
        self.status.is_ok_and(|status| status.state != InstanceState::Running && status.pid.is_none())
    }

    /// What it is, nobody knows: its host is not heard of, or its process has not answered its agent yet.
    fn is_unsure(&self) -> bool {
        self.role().is_none() && !self.is_down()
    }

    /// The run that its process was started for; 0 where there is none.
    fn run(&self) -> u64 {
        self.status.map_or(0, |status| status.run)
    }

    fn is_stopped(&self) -> bool {
        self.status.is_ok_and(|status| status.state == InstanceState::Stopped)
    }

    /// Why it is not a copy that one can lean on.
    fn lack(&self) -> Option<Culprit> {
        let culprit = |why: String, stuck| Some(Culprit { name: self.member.name(), why, stuck });
        let status = match self.status {
            Ok(status) => status,
            Err(why) => return culprit(why.to_owned(), false),
        };
        let said = || if status.reason.is_empty() { status.state.word().to_owned() } else { status.reason.clone() };
        let Some(view) = status.view.as_ref().filter(|_| status.state == InstanceState::Running) else {
            // One that ends again is trouble the first time, and not when it has become a loop.
            let conditions = [Condition::Backoff, Condition::CrashLoop, Condition::ConfError];
            let lasting = status.account.condition.is_some_and(|it| conditions.contains(&it));
            return culprit(said(), status.state == InstanceState::Blocked || lasting);
        };
        match &view.role {
            Role::Replica { .. } if !view.link_up => culprit("its link to its master is not up yet".into(), false),
            Role::Master { .. } if !view.cluster_ok => culprit("says cluster_state:fail".into(), false),
            Role::Replica { .. } | Role::Master { .. } => None,
        }
    }

    /// Why it does not run in that run.
    fn behind(&self, run: u64) -> Option<Culprit> {
        let culprit = |why: &str| Some(Culprit { name: self.member.name(), why: why.into(), stuck: false });
        match self.running() {
            None => self.lack(),
            Some(status) if status.run < run => culprit("is not restarted yet"),
            Some(status) if status.view.is_none() => culprit("has not answered yet"),
            Some(_) => None,
        }
    }
}

/// Why a person is needed: somebody is stuck, a hand-over has failed again and again, or nothing has moved for long.
pub fn needs_operator(
    roll: &Roll,
    waiting: &[Culprit],
    failed: Option<(u32, &str)>,
    still: Duration,
    patience: Duration,
) -> Option<String> {
    let why = match (waiting.iter().find(|culprit| culprit.stuck), failed, waiting.first()) {
        (Some(stuck), ..) => format!("{}: {}", stuck.name, stuck.why),
        (None, Some((times, why)), _) if times >= 3 => format!("{why}; after {times} tries it is not tried again"),
        (None, _, Some(first)) if still >= patience => {
            format!("nothing has moved for {} s; {}: {}", steps(still), first.name, first.why)
        }
        _ => return None,
    };
    let id = roll.operation;
    Some(format!(
        "{why}; nothing else is touched; mend it, and it goes on (at once: muster op resume {id}), or end it: \
         muster op cancel {id}"
    ))
}

/// What it has done so far, or in the end: `6 of 6 restarted, 3 hand-overs`.
pub fn summary(roll: &Roll, done: usize) -> String {
    let count = format!("{done} of {} instances {}", roll.targets.len(), roll.kind.done());
    let longest = roll.hand_overs.iter().map(|one| one.gap_micros).max().unwrap_or(0);
    match roll.hand_overs.len() {
        0 => count,
        _ if longest == 0 => format!("{count}, {}", hand_overs(roll.hand_overs.len())),
        number => {
            format!("{count}, {}; writes waited {} ms at most", hand_overs(number), longest.div_ceil(1000))
        }
    }
}

fn hand_overs(number: usize) -> String {
    if number == 1 { "1 hand-over".into() } else { format!("{number} hand-overs") }
}

#[cfg(test)]
mod tests;
