//! What to do about the difference between what a host should be and what it is: a function of values.
//!
//! Every port of the assignment gets a [`Verdict`]: its state and why, at most one [`Step`], and when to look again if
//! nothing happens before. A step leaves its executor nothing to choose; every file of it is rendered before any file
//! of the host is written.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use muster_proto::{
    ClusterAssignment, Condition, HostAssignment, InstanceAssignment, InstanceState, NodeView, Port, ServerVersion,
    Sha256, Want,
};

use crate::{
    adjust::Target,
    certify::Certificates,
    conf::{self, AccessError, ConfFile, ConfInput, Live},
    layout::{Directory, Stamp},
    permits::Leaving,
    restart::{self, Past, Restart, Stake},
};

mod leave;

/// Who is in the way leaves without telling us.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The process at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessSeen {
    /// Certainly none: the lock is free.
    None,
    /// Ours, by evidence.
    Ours {
        /// Its process id.
        pid: i32,
        /// It was told to stop, this long ago.
        stopping: Option<Duration>,
        /// It was started for an earlier run than the assigned one.
        outdated: bool,
    },
    /// The lock is free, and somebody else has the port or the directory; who. Left alone.
    Foreign(String),
    /// The lock is held, and not provably by a server of ours. Left alone.
    Unknown(String),
}

/// Whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Not yet, or not any more; why.
    Silent(String),
    /// It lives, has had the time to answer, and does not; why.
    Hung(String),
    /// It cannot: the kernel says that it does not run (`T` or `t` of /proc/PID/stat).
    Frozen(char),
    /// It loads its data set.
    Loading,
    /// It answers.
    View(Box<NodeView>),
}

impl Answer {
    /// Nothing that is worth a pass has changed.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::View(one), Self::View(two)) => one.same_but_text(two),
            (one, two) => one == two,
        }
    }
}

/// A server that was asked to stop because nothing is to run, and goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwilling {
    /// What it had written when its patience was over.
    pub words: String,
    /// It was asked again so long ago; counted from when its patience was over, before.
    pub asked: Duration,
}

/// What is known of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its directory.
    pub directory: Directory,
    /// Where that is.
    pub path: PathBuf,
    /// The server's socket.
    pub socket: PathBuf,
    /// Its process.
    pub process: ProcessSeen,
    /// What the process says.
    pub answer: Answer,
    /// Earlier processes here.
    pub past: Past,
    /// What a restart would put at stake.
    pub stake: Stake,
    /// The last step here failed, with these words; not before that time again.
    pub failed: Option<(String, Duration)>,
    /// It writes its data set out, and makes progress with it.
    pub saving: bool,
    /// So long it has not answered; counted from when it was met, before its first answer.
    pub silent: Duration,
    /// It was asked to stop, its patience is over, and it still answers.
    pub unwilling: Option<Unwilling>,
    /// The users and certificates that its process is known to have, by their fingerprint.
    pub applied: Option<Sha256>,
    /// Why its process is in no scope, where that is worth a word.
    pub outside: Option<String>,
    /// There is a checked permit to set that aside.
    pub granted: Option<Leaving>,
    /// Its directory is in the trash, where one is to be put back; what is missing otherwise.
    pub trashed: Result<(), String>,
}

/// One thing to do, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put a complete new directory in place.
    Prepare {
        /// Its stamp.
        stamp: Stamp,
        /// Everything in it.
        files: Vec<ConfFile>,
    },
    /// Start the server.
    Start {
        /// What it reads, to be written first where it differs.
        files: Vec<ConfFile>,
        /// The fingerprint of the users and certificates among them.
        applied: Option<Sha256>,
        /// For which run.
        run: u64,
    },
    /// Give a running server its new users and certificates.
    Adjust {
        /// What it reads at its next start, to be written first where it differs.
        files: Vec<ConfFile>,
        /// What it is told.
        live: Live,
        /// Which that is.
        target: Target,
    },
    /// Ask the server to stop (SIGTERM).
    Stop,
    /// Its patience is over (SIGKILL).
    Kill,
    /// Write into the stamp that the cluster was formed.
    Latch {
        /// The stamp, not latched yet.
        stamp: Stamp,
    },
    /// Move the directory into `.trash`.
    SetAside {
        /// Its stamp.
        stamp: Stamp,
    },
    /// Move the directory of a former life into `.trash`, by the right that a permit gives.
    Wipe {
        /// What leaves.
        leaving: Leaving,
    },
    /// Put a directory back that was set aside.
    Restore {
        /// Its stamp.
        stamp: Stamp,
    },
}

/// What is so, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How it is doing.
    pub state: InstanceState,
    /// Why it is not what it should be; empty when it is.
    pub reason: String,
    /// What to do.
    pub step: Option<Step>,
    /// When to look again, counted from the agent's start, if nothing happens before.
    pub wake: Option<Duration>,
    /// What keeps it, where that has a name.
    pub condition: Option<Condition>,
    /// What a permit is needed for.
    pub asks: Option<Leaving>,
}

/// What does not change between two passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What would be started; why nothing would.
    pub server: Result<ServerVersion, String>,
    /// Patience of SIGTERM.
    pub stop_patience: Duration,
    /// Certificates of instances, by cluster.
    pub certificates: Arc<Certificates>,
}

impl Verdict {
    /// Nothing is missing that was assigned; a scope is not.
    pub fn converged(&self) -> bool {
        (self.reason.is_empty() || self.condition == Some(Condition::Unscoped)) && self.step.is_none()
    }

    fn fine(state: InstanceState) -> Self {
        Self::wait(state, "")
    }

    fn wait(state: InstanceState, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), step: None, wake: None, condition: None, asks: None }
    }

    fn blocked(reason: impl Into<String>) -> Self {
        Self::wait(InstanceState::Blocked, reason)
    }

    fn act(state: InstanceState, reason: impl Into<String>, step: Step) -> Self {
        Self { step: Some(step), ..Self::wait(state, reason) }
    }

    fn at(self, wake: Duration) -> Self {
        Self { wake: Some(wake), ..self }
    }

    fn called(self, condition: Condition) -> Self {
        Self { condition: Some(condition), ..self }
    }
}

/// Judges every port of the assignment. `seen` has an entry for each; `now` counts from the agent's start.
pub fn plan(
    assignment: &HostAssignment,
    seen: &BTreeMap<Port, Seen>,
    rules: &Rules,
    now: Duration,
) -> BTreeMap<Port, Verdict> {
    assignment
        .by_port()
        .into_iter()
        .filter_map(|(port, (cluster, instance))| {
            let seen = seen.get(&port)?;
            let verdict = Case { cluster, instance, seen, rules, now }.judge();
            Some((port, unscoped(retry_later(verdict, seen, now), seen)))
        })
        .collect()
}

/// A step that has failed is not tried again before its time.
fn retry_later(verdict: Verdict, seen: &Seen, now: Duration) -> Verdict {
    match &seen.failed {
        // What runs goes on serving as it is.
        Some((words, due)) if matches!(verdict.step, Some(Step::Adjust { .. })) && *due > now => {
            Verdict::wait(verdict.state, words.clone()).called(Condition::Unadjusted).at(*due)
        }
        Some((words, due)) if verdict.step.is_some() && *due > now => Verdict::blocked(words.clone()).at(*due),
        _ => verdict,
    }
}

/// A server that runs as it should, and in no scope of its own.
fn unscoped(verdict: Verdict, seen: &Seen) -> Verdict {
    match &seen.outside {
        Some(why) if verdict.state == InstanceState::Running && verdict.converged() => {
            Verdict { reason: why.clone(), ..verdict }.called(Condition::Unscoped)
        }
        _ => verdict,
    }
}

/// The stamp that an assignment asks for.
pub fn stamp_of(cluster: &ClusterAssignment, instance: &InstanceAssignment) -> Stamp {
    Stamp {
        cluster: cluster.cluster.clone(),
        cluster_id: cluster.cluster_id,
        incarnation: cluster.incarnation,
        life: instance.life,
        node_id: instance.node_id,
        port: instance.port,
        formed: cluster.formed,
    }
}

/// It holds its lock and its data, so it is neither killed nor replaced: it may have been stopped for a reason, and
/// goes on where it was.
fn frozen(pid: i32, state: char) -> Verdict {
    Verdict::blocked(match state {
        't' => format!("pid {pid} is held by a debugger (state t), and goes on when that lets go of it"),
        _ => format!("pid {pid} is stopped by a signal (state {state}): kill -CONT {pid}"),
    })
}

fn unreadable(why: &str) -> Verdict {
    Verdict::blocked(format!("cannot tell whose directory this is: {why}"))
}

struct Case<'a> {
    cluster: &'a ClusterAssignment,
    instance: &'a InstanceAssignment,
    seen: &'a Seen,
    rules: &'a Rules,
    now: Duration,
}

impl Case<'_> {
    fn judge(&self) -> Verdict {
        match (&self.seen.process, self.instance.want) {
            (ProcessSeen::Unknown(why), _) => self.unrecognised(why),
            // Whether a stranger is in the directory, and not just at the port, is looked at again before it is moved.
            (_, Want::SetAside) => self.set_aside(),
            (process, want) => match (self.leaving(), process, want) {
                (Some(leaving), ..) => self.leave(leaving),
                (None, _, Want::Retired) => self.retired(),
                // The lock is free: whoever else is there, nothing of ours is.
                (None, ProcessSeen::None | ProcessSeen::Foreign(_), Want::Stopped) => {
                    Verdict::fine(InstanceState::Stopped)
                }
                (None, ProcessSeen::Foreign(who), _) => self.foreign(who),
                (None, ProcessSeen::Ours { pid, stopping, .. }, Want::Stopped) if !self.is_stamped() => {
                    self.stop_bereft(*pid, *stopping)
                }
                (None, ..) => self.bring_up(),
            },
        }
    }

    fn unrecognised(&self, why: &str) -> Verdict {
        Verdict::wait(InstanceState::Unknown, why).called(Condition::Unrecognised).at(self.now + LOOK_AGAIN)
    }

    fn foreign(&self, who: &str) -> Verdict {
        let why = format!("somebody else is here, and is left alone: {who}");
        Verdict::blocked(why).called(Condition::Foreign).at(self.now + LOOK_AGAIN)
    }

    fn is_stamped(&self) -> bool {
        matches!(self.seen.directory, Directory::Stamped(_))
    }

    /// Of a life that we know nothing about.
    fn untouched(&self, stamp: &Stamp) -> Verdict {
        Verdict::blocked(format!(
            "{} holds node {} of cluster {} (incarnation {}, life {}); it is not touched",
            self.seen.path.display(),
            stamp.node_id.short(),
            stamp.cluster,
            stamp.incarnation,
            stamp.life
        ))
    }

    fn bring_up(&self) -> Verdict {
        let wanted = stamp_of(self.cluster, self.instance);
        let path = self.seen.path.display();
        match &self.seen.directory {
            Directory::Stamped(stamp) if stamp.same_life(&wanted) => self.stamped(stamp),
            Directory::Stamped(stamp) => self.untouched(stamp),
            Directory::Foreign(what) => {
                Verdict::blocked(format!("{path} holds somebody else's data ({what}); it is not touched"))
            }
            Directory::Unreadable(why) => unreadable(why),
            Directory::Free if self.instance.restore => self.restore(wanted),
            Directory::Free if self.cluster.formed => Verdict::blocked(format!(
                "{path} is gone, and the cluster was formed with it: an empty node under the old id could cost data; \
                 put the directory back, or rebuild"
            )),
            Directory::Free => match self.seen.process {
                ProcessSeen::Ours { pid, .. } => self.bereft(pid),
                ProcessSeen::None | ProcessSeen::Foreign(_) | ProcessSeen::Unknown(_) => self.prepare(wanted),
            },
        }
    }

    fn version(&self) -> Result<ServerVersion, Box<Verdict>> {
        self.rules.server.clone().map_err(|why| Box::new(Verdict::blocked(why)))
    }

    /// What the server reads at every start, and what a running one is told of it.
    fn files(&self, version: ServerVersion) -> Result<(Vec<ConfFile>, Option<Live>), Box<Verdict>> {
        let missing = || Box::new(Verdict::blocked(format!("node {} is not in the topology", self.instance.node_id)));
        let member = self.cluster.member(self.instance.node_id).ok_or_else(missing)?;
        let input =
            ConfInput { version, member, cluster: self.cluster, dir: &self.seen.path, socket: &self.seen.socket };
        let certified = self.rules.certificates.get(&self.cluster.cluster_id);
        let (mut files, live) =
            conf::access(version, self.cluster, &self.seen.path, certified).map_err(|error| match error {
                AccessError::NoCertificate(_) => Box::new(Verdict::wait(self.down(), error.to_string())),
                AccessError::NoUsers(_) => Box::new(Verdict::blocked(error.to_string())),
            })?;
        files.insert(0, ConfFile::read_only("redis.conf", conf::redis_conf(&input)));
        Ok((files, live))
    }

    fn prepare(&self, stamp: Stamp) -> Verdict {
        let render = || -> Result<Step, Box<Verdict>> {
            let version = self.version()?;
            let unknown =
                || Box::new(Verdict::blocked(format!("the nodes.conf of {version} is not known to this version")));
            let dialect = version.dialect().ok_or_else(unknown)?;
            let nodes_conf = conf::nodes_conf(dialect, &self.cluster.members, self.instance.node_id);
            let (mut files, _) = self.files(version)?;
            files.push(ConfFile::first("nodes.conf", nodes_conf));
            Ok(Step::Prepare { stamp, files })
        };
        match render() {
            Ok(step) => Verdict::act(InstanceState::Absent, "writing its directory", step),
            Err(verdict) => *verdict,
        }
    }

    fn stamped(&self, stamp: &Stamp) -> Verdict {
        if self.cluster.formed && !stamp.formed {
            let state = match self.seen.process {
                ProcessSeen::Ours { pid, .. } => self.alive(pid).state,
                ProcessSeen::None | ProcessSeen::Foreign(_) | ProcessSeen::Unknown(_) => InstanceState::Down,
            };
            return Verdict::act(state, "noting that it is formed", Step::Latch { stamp: stamp.clone() });
        }
        match (&self.seen.process, self.instance.want) {
            // Once it was asked to stop it will: nothing takes that back.
            (ProcessSeen::Ours { stopping: stopping @ Some(_), .. }, _) => self.stop(*stopping),
            (ProcessSeen::Ours { .. }, Want::Stopped) | (ProcessSeen::Ours { outdated: true, .. }, Want::Running) => {
                self.stop(None)
            }
            (ProcessSeen::Ours { pid, .. }, _) => self.alive(*pid),
            (_, Want::Stopped) => Verdict::fine(InstanceState::Stopped),
            (_, Want::Prepared | Want::SetAside | Want::Retired) => Verdict::fine(InstanceState::Prepared),
            (_, Want::Running) => self.start(),
        }
    }

    fn alive(&self, pid: i32) -> Verdict {
        match &self.seen.answer {
            Answer::View(_) => self.adjusted(pid),
            Answer::Loading => {
                Verdict::wait(InstanceState::Starting, "loading its data set").called(Condition::Loading)
            }
            Answer::Silent(why) => Verdict::wait(InstanceState::Starting, format!("does not answer: {why}")),
            Answer::Hung(why) => {
                let why = format!("pid {pid} lives, is left alone, and does not answer: {why}");
                Verdict::wait(InstanceState::Starting, why).called(Condition::Silent)
            }
            Answer::Frozen(state) => frozen(pid, *state).called(Condition::Frozen),
        }
    }

    /// A server that runs has the users and certificates that are assigned, or is given them.
    fn adjusted(&self, pid: i32) -> Verdict {
        let fine = Verdict::fine(InstanceState::Running);
        if self.cluster.users.is_none() && self.cluster.tls.is_none() {
            return fine;
        }
        let (files, live) = match self.version().and_then(|version| self.files(version)) {
            Ok((files, Some(live))) => (files, live),
            Ok((_, None)) => return fine,
            // It runs; what it was given before still holds.
            Err(verdict) => return Verdict { state: InstanceState::Running, ..*verdict },
        };
        if self.seen.applied == Some(live.fingerprint) {
            let why = "waiting for a certificate of the authority that signs now";
            return if live.outdated { Verdict::wait(InstanceState::Running, why) } else { fine };
        }
        let Some(member) = self.cluster.member(self.instance.node_id) else { return fine };
        let target = Target {
            pid,
            logins: self.cluster.users.as_ref().map(|users| users.admin.clone()).unwrap_or_default(),
            address: SocketAddr::new(member.address, member.port.get()),
        };
        let step = Step::Adjust { files, live, target };
        Verdict::act(InstanceState::Running, "giving it its users and certificates", step)
    }

    /// How it is doing while nothing runs: with a directory or without one.
    fn down(&self) -> InstanceState {
        match self.seen.directory {
            Directory::Stamped(_) => InstanceState::Prepared,
            Directory::Free | Directory::Foreign(_) | Directory::Unreadable(_) => InstanceState::Absent,
        }
    }

    fn start(&self) -> Verdict {
        let (files, live) = match self.version().and_then(|version| self.files(version)) {
            Ok(files) => files,
            Err(verdict) => return *verdict,
        };
        match restart::decide(&self.seen.past, self.seen.stake, self.now) {
            Restart::Now => Verdict::act(
                InstanceState::Down,
                "starting it",
                Step::Start { files, applied: live.map(|live| live.fingerprint), run: self.instance.run },
            ),
            Restart::At(due, condition, why) => Verdict::wait(InstanceState::Down, why).called(condition).at(due),
            Restart::Held(condition, why) => Verdict::blocked(why).called(condition),
        }
    }
}

#[cfg(test)]
mod tests;
