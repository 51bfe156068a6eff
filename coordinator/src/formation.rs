//! How far a cluster is, computed from what its instances say, with the culprits inside.
//!
//! A formation has one durable cursor, its [`Goal`], and one latch, *formed*. Everything else, the phase, what it waits
//! for and what to do next, is a function of the goal and of what was last heard. So a coordinator that comes back
//! after a crash goes on at the first thing that is not so yet.

use std::{collections::BTreeMap, fmt, time::Duration};

use muster_proto::{
    Condition, HostName, InstanceState, InstanceStatus, Member, NodeId, NodeView, Role, SLOTS, Sha256, Topology, view,
};

use crate::blueprint::Blueprint;

pub mod resumed;

pub(crate) use resumed::disagreeing;
pub use resumed::resumed;

/// How far the hosts have been told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Write directories, start nothing.
    Prepared,
    /// Start the servers: set only when all were prepared, on all hosts.
    Running,
    /// Called off before it formed.
    SetAside,
}

impl Goal {
    /// As the store keeps it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Running => "running",
            Self::SetAside => "set-aside",
        }
    }

    /// From the store.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Prepared, Self::Running, Self::SetAside].into_iter().find(|goal| goal.word() == word)
    }
}

/// Someone who is not where the phase wants him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Culprit {
    /// `server1:7000`.
    pub name: String,
    /// Why.
    pub why: String,
    /// It cannot go on by itself.
    pub stuck: bool,
}

/// How far it is. Its `Display` is the line that the operator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Directories are being written.
    Configure {
        /// Those that are not.
        unsettled: Vec<Culprit>,
    },
    /// Servers are being started.
    Start {
        /// Those that do not answer yet.
        unsettled: Vec<Culprit>,
    },
    /// Every node must see the blueprint, and every replica must be in sync.
    Verify {
        /// Those that do not, or are not.
        unsettled: Vec<Culprit>,
    },
    /// All see the same; every master must take a write.
    Prove,
    /// It works, and that has been proved.
    Formed,
    /// Everything is being stopped, before anything is moved.
    Fence {
        /// Those that are not proved to be.
        unsettled: Vec<Culprit>,
    },
    /// Nothing runs any more, on any host.
    Fenced,
    /// Directories of an ended life are being set aside.
    Wipe {
        /// Those that are still in place.
        unsettled: Vec<Culprit>,
    },
    /// What ran before runs again.
    Return {
        /// Those that do not.
        unsettled: Vec<Culprit>,
    },
    /// It does.
    Returned,
    /// Directories are being set aside.
    Retreat {
        /// Those that are still in place.
        unsettled: Vec<Culprit>,
    },
    /// Nothing of it is left in place.
    Gone,
}

/// What was last heard of a host's instances; none for a host that is not heard of, with how long.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// By node id. Only of hosts that are live and have accepted the generation that they were told last.
    pub instances: BTreeMap<NodeId, InstanceStatus>,
    /// Hosts that nothing current is known of, and why.
    pub silent: BTreeMap<HostName, String>,
}

impl Heard {
    /// Somebody loads his data set or writes it out, and gets on with it: that takes as long as it takes.
    pub fn works(&self) -> bool {
        self.instances.values().any(|status| status.account.condition.is_some_and(Condition::is_work))
    }
}

/// Judges one instance: why it is not there yet, and whether it is stuck.
pub(crate) type Judge<'a> = &'a dyn Fn(&Member, &InstanceStatus) -> Option<(String, bool)>;

/// Computes the phase.
pub fn phase(blueprint: &Blueprint, goal: Goal, formed: bool, heard: &Heard) -> Phase {
    if formed {
        return Phase::Formed;
    }
    let culprits = |judge: Judge| -> Vec<Culprit> {
        blueprint.members.iter().filter_map(|member| culprit(member, heard, judge)).collect()
    };
    match goal {
        Goal::Prepared => Phase::Configure { unsettled: culprits(&|_, status| unprepared(status)) },
        Goal::SetAside => match culprits(&|_, status| in_place(status)) {
            unsettled if unsettled.is_empty() => Phase::Gone,
            unsettled => Phase::Retreat { unsettled },
        },
        Goal::Running => {
            let unsettled = culprits(&|_, status| unanswering(status));
            if !unsettled.is_empty() {
                return Phase::Start { unsettled };
            }
            let sought = Sought::of(blueprint);
            let unsettled = culprits(&|member, status| {
                let view = status.view.as_ref()?;
                Some((sought.missing(member, view)?, false))
            });
            if unsettled.is_empty() { Phase::Prove } else { Phase::Verify { unsettled } }
        }
    }
}

/// Judges a member; one that nothing is known of is not there.
pub(crate) fn culprit(member: &Member, heard: &Heard, judge: Judge) -> Option<Culprit> {
    let name = member.name();
    if let Some(why) = heard.silent.get(&member.host) {
        return Some(Culprit { name, why: why.clone(), stuck: false });
    }
    let Some(status) = heard.instances.get(&member.node_id) else {
        return Some(Culprit { name, why: "not reported yet".into(), stuck: false });
    };
    judge(member, status).map(|(why, stuck)| Culprit { name, why, stuck })
}

fn told(status: &InstanceStatus) -> (String, bool) {
    let why = if status.reason.is_empty() { status.state.word().to_owned() } else { status.reason.clone() };
    (why, status.state == InstanceState::Blocked)
}

fn unprepared(status: &InstanceStatus) -> Option<(String, bool)> {
    let there = matches!(status.state, InstanceState::Prepared | InstanceState::Starting | InstanceState::Running);
    (!there).then(|| told(status))
}

fn in_place(status: &InstanceStatus) -> Option<(String, bool)> {
    (status.state != InstanceState::Absent).then(|| told(status))
}

/// Why an instance does not run, or does not answer.
pub(crate) fn unanswering(status: &InstanceStatus) -> Option<(String, bool)> {
    (status.state != InstanceState::Running || status.view.is_none()).then(|| told(status))
}

/// What every node should say, computed once for all of them.
struct Sought {
    topology: Topology,
    digest: Sha256,
    replicas: BTreeMap<u32, usize>,
}

impl Sought {
    fn of(blueprint: &Blueprint) -> Self {
        let topology = blueprint.topology();
        Self { digest: topology.digest(), replicas: blueprint.replicas_by_shard(), topology }
    }

    /// What one node's own view lacks.
    fn missing(&self, member: &Member, view: &NodeView) -> Option<String> {
        if view.node_id != member.node_id {
            return Some(format!("another node answers there: {}", view.node_id));
        }
        if view.digest != self.digest {
            let seen = view.nodes_text.as_deref().and_then(|text| view::parse(text).ok());
            let differences = seen.map(|seen| self.topology.differences(&seen.topology)).unwrap_or_default();
            return Some(differences.into_iter().next().unwrap_or_else(|| "sees another topology than planned".into()));
        }
        if let Some(trouble) = view.troubles.first() {
            return Some(format!("thinks that {trouble}"));
        }
        let nodes = self.topology.nodes().len();
        if usize::try_from(view.known_nodes).unwrap_or(0) != nodes {
            return Some(format!("knows {} of {nodes} nodes", view.known_nodes));
        }
        if !view.cluster_ok {
            return Some("cluster_state is not ok yet (a master waits 2 s before it serves)".into());
        }
        let replicas = self.replicas.get(&member.shard).copied().unwrap_or(0);
        match member.role {
            Role::Replica { .. } if !view.link_up => Some("its link to its master is not up".into()),
            Role::Master { .. } if usize::try_from(view.online_replicas).unwrap_or(0) < replicas => {
                Some(format!("{} of {replicas} replicas are in sync", view.online_replicas))
            }
            Role::Replica { .. } | Role::Master { .. } => None,
        }
    }
}

impl Phase {
    /// As it stands in events.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fence { .. } | Self::Fenced => "FENCE",
            Self::Wipe { .. } => "WIPE",
            Self::Return { .. } | Self::Returned => "RETURN",
            Self::Configure { .. } => "CONFIGURE",
            Self::Start { .. } => "START",
            Self::Verify { .. } | Self::Prove => "VERIFY",
            Self::Formed => "FORMED",
            Self::Retreat { .. } | Self::Gone => "CANCEL",
        }
    }

    /// Those who hold it up.
    pub fn unsettled(&self) -> &[Culprit] {
        match self {
            Self::Configure { unsettled }
            | Self::Start { unsettled }
            | Self::Verify { unsettled }
            | Self::Fence { unsettled }
            | Self::Wipe { unsettled }
            | Self::Return { unsettled }
            | Self::Retreat { unsettled } => unsettled,
            Self::Prove | Self::Formed | Self::Gone | Self::Fenced | Self::Returned => &[],
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self {
            Self::Configure { .. } => "writing directories and confs",
            Self::Start { .. } => "starting the servers",
            Self::Verify { .. } => "comparing every node's own view with the blueprint",
            Self::Prove => "writing and reading through every master",
            Self::Formed => return write!(f, "formed: all {SLOTS} slots are served"),
            Self::Fence { .. } => "stopping all servers; nothing has been moved yet",
            Self::Fenced => return write!(f, "nothing runs any more, on any host"),
            Self::Wipe { .. } => "setting the directories aside",
            Self::Return { .. } => "called off; bringing the cluster back as it was",
            Self::Returned => return write!(f, "called off; the cluster is back as it was"),
            Self::Retreat { .. } => "stopping the servers and setting their directories aside",
            Self::Gone => return write!(f, "called off; what was made has been set aside"),
        };
        f.write_str(doing)?;
        match self.unsettled() {
            [] => Ok(()),
            [first, rest @ ..] => {
                write!(f, "; waiting for {}: {}", first.name, first.why)?;
                if rest.is_empty() { Ok(()) } else { write!(f, " (and {} more)", rest.len()) }
            }
        }
    }
}

/// Seconds of a wait as events tell them, in ever longer steps: every word that changes is journaled, and waiting must
/// not fill the store with an event a second.
pub fn steps(waited: Duration) -> u64 {
    let seconds = waited.as_secs();
    [0, 3, 10, 30].into_iter().rev().find(|step| seconds < 60 && *step <= seconds).unwrap_or(seconds / 60 * 60)
}

/// Why a person is needed: someone is stuck, or nothing has moved for too long.
pub fn needs_operator(phase: &Phase, still: Duration, patience: Duration) -> Option<String> {
    if let Some(stuck) = phase.unsettled().iter().find(|culprit| culprit.stuck) {
        return Some(format!("{}: {}", stuck.name, stuck.why));
    }
    let what = match (phase, phase.unsettled()) {
        (_, [first, ..]) => format!("{}: {}", first.name, first.why),
        (Phase::Prove, []) => "not every master takes a write".into(),
        (_, []) => return None,
    };
    (still >= patience).then(|| format!("nothing has moved for {} s; {what}", steps(still)))
}

#[cfg(test)]
mod tests;
