//! What is on this host, as last looked at: directories, processes, and what the processes say.
//!
//! Looking changes nothing. What cannot be told apart is kept as unknown, never guessed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use muster_proto::{
    Ask, ClusterAssignment, ClusterName, HostAssignment, InstanceAssignment, InstanceState, Keeps, Memory, NodeId,
    NodeView, Port, PortSet, PortUse, Role, Sha256, Topology, view,
};
use tokio::task::AbortHandle;

use crate::{
    enscope::Gauge,
    evidence::{Clue, Written},
    layout::{Directory, InstanceDir, Layout},
    process::{self, Found, Process},
    reconcile::{Answer, ProcessSeen, Seen, stamp_of},
    restart::{Load, Past, Stake, Word},
    strangers::Crowd,
};

/// How long a look at a directory holds while its server runs: nobody but us has a reason to change it.
const LOOK_HOLDS: Duration = Duration::from_secs(1);

/// A server that is silent for so long after it was started or found, or after it has answered, is not starting. Redis
/// listens some 10 ms after exec, and says that it loads while it loads.
const YOUNG: Duration = Duration::from_secs(10);

/// A snapshot that has not grown for so long is not being written: the disk takes its time with the end of one.
const SAVES: Duration = Duration::from_secs(10);

/// Between two looks at the sizes of logs.
const ROTATION: Duration = Duration::from_secs(10);

/// One port.
#[derive(Debug)]
pub struct Instance {
    /// Its place.
    pub dir: InstanceDir,
    /// Its server, when there is one of ours.
    pub process: Option<Process>,
    /// There was one since this agent began.
    pub lived: bool,
    /// Since when we have that.
    pub met: Instant,
    /// What it had written when the patience was over with which it was asked to stop, and when that was, or it was
    /// asked again.
    pub unwilling: Option<(String, Instant)>,
    /// What is there, when it is not ours.
    pub other: Option<ProcessSeen>,
    /// What that is known by.
    pub clues: Vec<Clue>,
    /// What a permit is asked for here, and with which nonce.
    pub asks: Option<Ask>,
    /// What it says.
    pub answer: Answer,
    /// Its last view, and when that was taken.
    pub view: Option<(NodeView, Instant)>,
    /// Earlier processes.
    pub past: Past,
    /// An operator has said by name that it is to be started whatever it has to load; until it is.
    pub overruled: bool,
    /// What was said of it last, and since when.
    pub said: (InstanceState, String, Instant),
    /// How often we started it.
    pub starts: u32,
    /// The last failed step here.
    pub failed: Option<(String, Duration)>,
    /// The users and certificates that its process is known to have; none after it was found again.
    pub applied: Option<Sha256>,
    /// Why its process is in no scope, where that is worth a word.
    pub outside: Option<String>,
    /// Of its memory.
    pub limit: Option<Memory>,
    /// Counts what the kernel kills in its scope.
    pub gauge: Option<Gauge>,
    /// Watches its exit, asks for its views, has it put into its scope; ended with it.
    pub watchers: Vec<AbortHandle>,
    looked: Option<(Directory, Instant)>,
    /// How much of the snapshot that it makes before it leaves is written, and when that was last seen to change: none
    /// once it is whole.
    pub saved: Option<(Option<u64>, Instant)>,
}

/// All ports that this agent has had to do with.
#[derive(Debug)]
pub struct Inventory {
    layout: Layout,
    born: Instant,
    instances: BTreeMap<Port, Instance>,
    /// Who serves a cluster's slots, as the coordinator has heard, and when that was told.
    leaders: BTreeMap<ClusterName, (BTreeSet<NodeId>, Duration)>,
    /// The coordinator's, on what was gone when this agent began.
    word: Word,
    offered: Vec<(Port, PortUse)>,
    offered_at: Option<Instant>,
    rotated_at: Option<Instant>,
}

impl Inventory {
    /// Knows nothing yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            born: Instant::now(),
            instances: BTreeMap::new(),
            leaders: BTreeMap::new(),
            word: Word::Awaited,
            offered: Vec::new(),
            offered_at: None,
            rotated_at: None,
        }
    }

    /// Time since the agent's start: the clock of every plan.
    pub fn now(&self) -> Duration {
        self.born.elapsed()
    }

    /// One port, known from now on.
    pub fn instance(&mut self, port: Port) -> &mut Instance {
        let dir = self.layout.instance(port);
        self.instances.entry(port).or_insert_with(|| Instance::new(dir))
    }

    /// One port, if it is known.
    pub fn get(&self, port: Port) -> Option<&Instance> {
        self.instances.get(&port)
    }

    /// Looks at every port of the assignment.
    pub fn look(&mut self, assignment: &HostAssignment) -> BTreeMap<Port, Seen> {
        let ports = assignment.by_port();
        let crowd = Crowd::default();
        for (port, (cluster, wanted)) in &ports {
            let member = cluster.member(wanted.node_id);
            let places =
                member.map(|member| [member.port.get(), member.bus_port].map(|port| (member.address, port).into()));
            let places: Vec<_> = places.into_iter().flatten().collect();
            self.instance(*port).look(&crowd, &places, wanted.run);
        }
        let seen = |(port, (cluster, wanted)): (Port, (&ClusterAssignment, &InstanceAssignment))| {
            let instance = self.instances.get(&port)?;
            Some((port, instance.seen(cluster, wanted, |written| self.stake(instance, cluster, wanted, written))))
        };
        ports.into_iter().filter_map(seen).collect()
    }

    /// Puts logs aside that have become too long; now and then, because they do not become so at once.
    pub fn rotate_logs(&mut self, most: u64) {
        if self.rotated_at.is_some_and(|at| at.elapsed() < ROTATION) {
            return;
        }
        self.rotated_at = Some(Instant::now());
        for (port, instance) in &self.instances {
            match instance.dir.rotate_log(most) {
                Ok(true) => tracing::info!(%port, "its log is put aside"),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%port, %error, "cannot put its log aside");
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    /// What lies at the ports that the host offers.
    pub fn offered(&mut self, ports: &PortSet) -> Vec<(Port, PortUse)> {
        if self.offered_at.is_none_or(|at| at.elapsed() >= LOOK_HOLDS) {
            let usage = |port| match self.layout.instance(port).look() {
                Directory::Free => PortUse::Free,
                Directory::Stamped(stamp) => PortUse::Stamped(stamp.cluster),
                Directory::Foreign(_) => PortUse::Foreign,
                Directory::Unreadable(_) => PortUse::Unreadable,
            };
            self.offered = ports.iter().map(|port| (port, usage(port))).collect();
            self.offered_at = Some(Instant::now());
        }
        self.offered.clone()
    }

    /// Everything that was looked at is to be looked at anew.
    pub fn forget_looks(&mut self) {
        self.offered_at = None;
        self.instances.values_mut().for_each(|instance| instance.looked = None);
    }

    /// Something is not what it was, that servers read when they start.
    pub fn reconsider(&mut self) {
        self.instances.values_mut().for_each(|instance| instance.past.reconsider());
    }

    /// The coordinator was heard.
    pub fn told(&mut self, word: Word) {
        self.word = word;
    }

    /// The coordinator has heard who serves all slots of a cluster.
    pub fn led_by(&mut self, cluster: ClusterName, leaders: BTreeSet<NodeId>) {
        let now = self.now();
        self.leaders.insert(cluster, (leaders, now));
    }

    /// Another life begins at a port: nothing that was seen of the one before is about it.
    pub fn reborn(&mut self, port: Port, cluster: &ClusterName) {
        self.leaders.remove(cluster);
        let dir = self.layout.instance(port);
        let said = self.instance(port).said.clone();
        let mut before = self.instances.insert(port, Instance { said, ..Instance::new(dir) });
        before.iter_mut().for_each(Instance::unwatch);
    }

    /// What starting it again would put at stake. The server's own nodes.conf says what it was; its siblings on this
    /// host and the coordinator say whether that is still so, and count only if they have spoken since it ended: one
    /// that was promoted a moment before is still a replica in older words.
    fn stake(
        &self,
        instance: &Instance,
        cluster: &ClusterAssignment,
        wanted: &InstanceAssignment,
        written: &Written,
    ) -> Stake {
        let (id, keeps) = (wanted.node_id, Keeps::of(&cluster.settings));
        let before =
            instance.dir.nodes_conf().ok().and_then(|text| topology(&text)).unwrap_or_else(|| cluster.topology());
        let siblings = cluster.instances.iter().filter(|sibling| sibling.node_id != id);
        let ended = instance.past.last().unwrap_or_default();
        let views = siblings.filter_map(|sibling| {
            let sibling = self.instances.get(&sibling.port)?;
            let (view, at) = sibling.view.as_ref().filter(|_| matches!(sibling.answer, Answer::View(_)))?;
            (at.saturating_duration_since(self.born) > ended).then_some(view)
        });
        let replaced = |view: &NodeView| match &view.nodes_text {
            Some(text) => topology(text).is_some_and(|now| !owns_slots(&now, id)),
            None => !owns_slots(&cluster.topology(), id),
        };
        let led = self.leaders.get(&cluster.cluster).filter(|(_, told)| *told > ended);
        let elsewhere = led.is_some_and(|(leaders, _)| !leaders.contains(&id));
        Stake {
            // What is put back was formed once, whatever has been proved since.
            formed: cluster.formed || wanted.restore,
            leads: owns_slots(&before, id) && before.nodes().iter().any(|node| node.role.master() == Some(id)),
            load: load(&instance.dir, keeps),
            replaced: views.into_iter().any(replaced) || elsewhere,
            overruled: instance.overruled
                || (wanted.all_stopped
                    && (keeps == Keeps::Nothing || wanted.restore)
                    && written.is_before(wanted.node_id, wanted.run)),
            word: match self.word {
                _ if instance.lived => Word::Given,
                Word::Awaited if ran_in_this_boot(written) => Word::AwaitedBriefly,
                word => word,
            },
        }
    }
}

impl Instance {
    fn new(dir: InstanceDir) -> Self {
        Self {
            dir,
            process: None,
            lived: false,
            met: Instant::now(),
            unwilling: None,
            other: None,
            clues: Vec::new(),
            asks: None,
            answer: Answer::Silent("not asked yet".into()),
            view: None,
            past: Past::default(),
            overruled: false,
            said: (InstanceState::Unknown, String::new(), Instant::now()),
            starts: 0,
            failed: None,
            applied: None,
            outside: None,
            limit: None,
            gauge: None,
            watchers: Vec::new(),
            looked: None,
            saved: None,
        }
    }

    /// `run` is the assigned one. A server of which it is not known for which it was started is taken to be of that.
    fn look(&mut self, crowd: &Crowd, places: &[SocketAddr], run: u64) {
        if let Some(process) = self.process.as_ref().filter(|process| process.stopping.is_some()) {
            let size = self.dir.unfinished(process.pid());
            if size != self.saved.and_then(|(before, _)| before) {
                self.saved = Some((size, Instant::now()));
            }
        }
        let fresh = self.looked.as_ref().is_some_and(|(_, at)| at.elapsed() < LOOK_HOLDS);
        if self.process.is_some() && fresh {
            return;
        }
        self.looked = Some((self.dir.look(), Instant::now()));
        if self.process.is_none() {
            let (found, clues) = Process::find(&self.dir, || crowd.strangers(&self.dir, places));
            self.clues = clues;
            (self.process, self.other) = match found {
                Found::Nothing => (None, None),
                Found::Ours(mut process) => {
                    (self.applied, self.outside, self.gauge) = (None, None, None);
                    (self.met, self.lived) = (Instant::now(), true);
                    process.run.get_or_insert(run);
                    (Some(process), None)
                }
                Found::Foreign(who) => (None, Some(ProcessSeen::Foreign(who))),
                Found::Unknown(why) => (None, Some(ProcessSeen::Unknown(why))),
            };
        }
    }

    /// When it last answered; when we met it, before that.
    pub fn heard(&self) -> Instant {
        self.view.as_ref().map_or(self.met, |(_, at)| *at)
    }

    /// Whose its process is, in a word.
    pub fn standing(&self) -> &'static str {
        match (&self.process, &self.other) {
            (Some(_), _) => "ours",
            (None, None) => "gone",
            (None, Some(ProcessSeen::Foreign(_))) => "foreign",
            (None, Some(_)) => "unknown",
        }
    }

    /// What watches its server ends.
    pub fn unwatch(&mut self) {
        self.watchers.drain(..).for_each(|watcher| watcher.abort());
    }

    /// The next look looks.
    pub fn forget_look(&mut self) {
        self.looked = None;
    }

    /// What it says, and where it says nothing, whether that is still no wonder.
    fn answers(&self) -> Answer {
        match (self.process.as_ref().and_then(Process::state), &self.answer) {
            (Some(state @ ('T' | 't')), _) => Answer::Frozen(state),
            (_, Answer::Silent(why)) if self.view.is_some() || self.met.elapsed() >= YOUNG => Answer::Hung(why.clone()),
            (_, answer) => answer.clone(),
        }
    }

    fn seen(
        &self,
        cluster: &ClusterAssignment,
        wanted: &InstanceAssignment,
        stake: impl FnOnce(&Written) -> Stake,
    ) -> Seen {
        let process = match (&self.process, &self.other) {
            (Some(process), _) => {
                let stopping = process.stopping.map(|since| since.elapsed());
                ProcessSeen::Ours {
                    pid: process.pid(),
                    stopping,
                    outdated: process.run.is_some_and(|its| its < wanted.run),
                }
            }
            (None, Some(other)) => other.clone(),
            (None, None) => ProcessSeen::None,
        };
        let directory = self.looked.as_ref().map_or(Directory::Free, |(directory, _)| directory.clone());
        let idle = Stake {
            formed: false,
            leads: false,
            load: Load::Nothing,
            replaced: false,
            overruled: false,
            word: Word::Given,
        };
        let mut past = self.past.clone();
        let stake = match (&process, &directory) {
            (ProcessSeen::None, Directory::Stamped(_)) => {
                let written = process::written(&self.dir);
                // Whoever asks for a new run does not mean to wait for the end of a pause.
                past.urged |= written.is_before(wanted.node_id, wanted.run);
                stake(&written)
            }
            _ => idle,
        };
        let trashed = match wanted.restore && directory == Directory::Free {
            true => self.dir.trashed(&stamp_of(cluster, wanted)),
            false => Err("its place is not free".into()),
        };
        Seen {
            stake,
            directory,
            path: self.dir.path(),
            socket: self.dir.socket(),
            process,
            answer: self.answers(),
            past,
            failed: self.failed.clone(),
            silent: self.heard().elapsed(),
            // The keeper has the patience.
            unwilling: None,
            saving: self.saved.is_some_and(|(_, at)| at.elapsed() < SAVES),
            applied: self.applied,
            outside: self.outside.clone(),
            // The keeper has the permits.
            granted: None,
            trashed,
        }
    }
}

fn ran_in_this_boot(written: &Written) -> bool {
    matches!(written, Written::Record(record) if record.boot_id == process::boot_id())
}

fn load(dir: &InstanceDir, keeps: Keeps) -> Load {
    match keeps {
        Keeps::Log if dir.holds_data(keeps) => Load::Log,
        Keeps::Snapshots if dir.holds_data(keeps) => Load::Snapshot,
        Keeps::Log | Keeps::Snapshots | Keeps::Nothing => Load::Nothing,
    }
}

fn owns_slots(topology: &Topology, id: NodeId) -> bool {
    topology.get(id).is_some_and(|node| matches!(&node.role, Role::Master { slots } if !slots.is_empty()))
}

/// nodes.conf is CLUSTER NODES and a line of variables.
fn topology(text: &str) -> Option<Topology> {
    let nodes: String =
        text.lines().filter(|line| !line.starts_with("vars ")).map(|line| format!("{line}\n")).collect();
    view::parse(&nodes).ok().map(|view| view.topology)
}

#[cfg(test)]
mod tests;
