//! What is, as agents last said it, with its age. Nothing here is kept across a restart.

mod away;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::{Duration, Instant},
};

use muster_proto::{
    Condition, Generation, Hello, HostName, InstanceState, InstanceStatus, NodeId, PortUse, Report, SLOTS, SlotRange,
    slots::normal, wire,
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    blueprint::Blueprint,
    formation::{Culprit, Heard, steps},
    ledger::ClusterRecord,
    placement::Site,
    trust::{Bar, Bars},
};

/// So many missed heartbeats make a host unknown.
const MISSED: u32 = 3;

/// One host.
#[derive(Debug)]
pub struct Host {
    /// How its agent introduced itself last.
    pub hello: Hello,
    /// What it said last, in this life of the coordinator.
    pub report: Option<Report>,
    /// When anything was heard of it last; when the coordinator started, if nothing was.
    pub heard: Instant,
    /// What it is to be told.
    pub told: Generation,
    /// The stream to it, when there is one.
    pub session: Option<Session>,
    /// Another process with the same identity that wanted to speak while this one still did.
    pub rival: Option<Rival>,
    /// Why it is told nothing, if it is not: see [`estranged`](crate::estranged).
    pub estranged: Option<String>,
}

/// A second process with one identity: an agent that was started again, or a cloned disk.
#[derive(Debug, Clone)]
pub struct Rival {
    /// How it introduced itself.
    pub hello: Hello,
    /// When that was.
    pub at: Instant,
}

/// What was under way when a rival came is over by then; what is heard later was said later.
const ECHO: Duration = Duration::from_millis(500);

impl Host {
    /// Whether the earlier of two processes with one identity goes on speaking, so that both live.
    pub fn has_clone(&self, now: Instant) -> bool {
        self.session.is_some() && self.rival.as_ref().is_some_and(|rival| now.duration_since(rival.at) > ECHO)
    }

    /// Whether another process than the one that speaks wants to.
    pub fn is_other(&self, hello: &Hello) -> bool {
        (&self.hello.boot_id, self.hello.pid) != (&hello.boot_id, hello.pid)
    }
}

/// A stream to an agent.
#[derive(Debug)]
pub struct Session {
    /// Tells this stream from earlier ones.
    pub id: Uuid,
    /// Messages to it.
    pub say: mpsc::Sender<wire::ToAgent>,
    /// Tasks that it has not answered.
    pub asked: HashMap<String, oneshot::Sender<wire::TaskResult>>,
}

/// Why nothing current is known of a host. Its `Display` is said of the host.
enum Away {
    Nobody,
    Silent(Duration),
    Refuses(String),
    Behind { accepted: Generation, told: Generation },
    Barred(Bar),
    Estranged(String),
}

impl Away {
    /// As it is said of an instance there.
    fn of(&self, name: &HostName) -> String {
        match self {
            Self::Nobody => format!("no agent calls itself {name}"),
            _ => format!("its host {name} {self}"),
        }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("has no agent: none calls itself so"),
            Self::Silent(silence) => write!(f, "has not been heard of for {} s", steps(*silence)),
            Self::Refuses(why) => write!(f, "refuses: {why}"),
            Self::Behind { accepted, told } => write!(f, "has generation {accepted}, told was {told}"),
            Self::Barred(bar) => write!(f, "{} (hint: {})", bar.what, bar.cure),
            Self::Estranged(why) => write!(f, "{why} (hint: muster hosts)"),
        }
    }
}

/// All hosts.
#[derive(Debug)]
pub struct Inventory {
    hosts: BTreeMap<HostName, Host>,
    heartbeat: Duration,
}

impl Inventory {
    /// Knows nobody yet. `heartbeat` is what agents are asked to keep to.
    pub fn new(heartbeat: Duration) -> Self {
        Self { hosts: BTreeMap::new(), heartbeat }
    }

    /// All, by name.
    pub fn hosts(&self) -> &BTreeMap<HostName, Host> {
        &self.hosts
    }

    /// One.
    pub fn get(&self, name: &HostName) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// One, to be changed.
    pub fn get_mut(&mut self, name: &HostName) -> Option<&mut Host> {
        self.hosts.get_mut(name)
    }

    /// A host that called before this coordinator started.
    pub fn remember(&mut self, hello: Hello, told: Generation) {
        let heard = Instant::now();
        let name = hello.host.clone();
        let host = Host { hello, report: None, heard, told, session: None, rival: None, estranged: None };
        self.hosts.insert(name, host);
    }

    /// Whether a host holds what is not known here, and in what words.
    pub fn estrange(&mut self, name: &HostName, why: Option<String>) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.estranged = why;
        }
    }

    /// A host that calls now. Its old session, if any, ends with the sender that is dropped here. What it said before
    /// still holds only if it is the same process that calls: after a reboot, or from another machine, nothing is known
    /// yet.
    pub fn arrive(&mut self, hello: Hello, told: Generation, session: Session) {
        let caller = |hello: &Hello| (hello.identity, hello.boot_id.clone(), hello.pid);
        let before = self.hosts.remove(&hello.host).filter(|before| caller(&before.hello) == caller(&hello));
        let report = before.and_then(|before| before.report);
        let (name, heard, session) = (hello.host.clone(), Instant::now(), Some(session));
        let host = Host { hello, report, heard, told, session, rival: None, estranged: None };
        self.hosts.insert(name, host);
    }

    /// The session has ended; ignored if a newer one has taken its place.
    pub fn depart(&mut self, name: &HostName, session: Uuid) {
        if let Some(host) = self.hosts.get_mut(name)
            && host.session.as_ref().is_some_and(|current| current.id == session)
        {
            host.session = None;
        }
    }

    /// Forgets a host.
    pub fn forget(&mut self, name: &HostName) {
        self.hosts.remove(name);
    }

    /// Ends all streams; agents dial again.
    pub fn end_sessions(&mut self) {
        self.hosts.values_mut().for_each(|host| host.session = None);
    }

    /// Whether it still speaks, or did until a moment ago.
    pub fn speaks(&self, host: &Host) -> bool {
        host.session.is_some() && host.heard.elapsed() <= self.overdue()
    }

    /// Whether it is heard of. Otherwise nothing is concluded.
    pub fn live(&self, host: &Host) -> bool {
        host.session.is_some() && host.report.is_some() && host.heard.elapsed() <= self.overdue()
    }

    /// Silence that is longer than this means something.
    pub fn overdue(&self) -> Duration {
        self.heartbeat * MISSED
    }

    /// What formation may lean on.
    pub fn heard(&self, blueprint: &Blueprint, bars: &Bars) -> Heard {
        self.heard_of(blueprint.hosts(), blueprint.members.iter().map(|member| member.node_id).collect(), bars)
    }

    /// The same with what earlier lives have left behind.
    pub fn heard_whole(&self, record: &ClusterRecord, bars: &Bars) -> Heard {
        let members = record.blueprint.members.iter().map(|member| member.node_id);
        let left = record.remnants.iter().map(|remnant| remnant.former.node_id);
        self.heard_of(record.hosts(), members.chain(left).collect(), bars)
    }

    fn heard_of(&self, hosts: impl IntoIterator<Item = HostName>, members: BTreeSet<NodeId>, bars: &Bars) -> Heard {
        let mut heard = Heard::default();
        for name in hosts {
            match self.current(&name, bars) {
                Err(away) => {
                    let why = away.of(&name);
                    heard.silent.insert(name, why);
                }
                Ok(report) => {
                    let mine = report.instances.iter().filter(|status| members.contains(&status.node_id));
                    heard.instances.extend(mine.map(|status| (status.node_id, status.clone())));
                }
            }
        }
        heard
    }

    /// Those of a cluster's hosts that have not made true what they were told last, and why.
    pub fn behind(&self, blueprint: &Blueprint, bars: &Bars) -> Vec<Culprit> {
        let members: BTreeSet<NodeId> = blueprint.members.iter().map(|member| member.node_id).collect();
        let one = |name: HostName| {
            let culprit = |why: String, stuck| Culprit { name: name.to_string(), why, stuck };
            let report = match self.current(&name, bars) {
                Ok(report) => report,
                Err(away) => {
                    return Some(culprit(
                        away.to_string(),
                        matches!(away, Away::Refuses(_) | Away::Barred(_) | Away::Estranged(_)),
                    ));
                }
            };
            let told = self.hosts.get(&name).map(|host| host.told).filter(|told| *told != report.converged)?;
            let is_mine = |status: &&InstanceStatus| members.contains(&status.node_id);
            let mine: Vec<_> = report.instances.iter().filter(is_mine).collect();
            if let Some(status) = mine.iter().find(|status| !status.reason.is_empty()) {
                let stuck =
                    status.state == InstanceState::Blocked || status.account.condition == Some(Condition::Unadjusted);
                return Some(Culprit { name: format!("{name}:{}", status.port), why: status.reason.clone(), stuck });
            }
            // What another cluster on the same host lacks is its own matter.
            let there = blueprint.members.iter().filter(|member| member.host == name).count();
            // What an operator has stopped reads what is new when it is started.
            let fine =
                |status: &&InstanceStatus| matches!(status.state, InstanceState::Running | InstanceState::Stopped);
            let well = mine.len() == there && mine.iter().all(fine);
            let others = report.instances.iter().any(|status| !is_mine(&status) && !status.reason.is_empty());
            (!well || !others)
                .then(|| culprit(format!("has made generation {} true, told was {told}", report.converged), false))
        };
        blueprint.hosts().into_iter().filter_map(one).collect()
    }

    /// The report of a host that is live and has taken in what it was told last.
    fn current(&self, name: &HostName, bars: &Bars) -> Result<&Report, Away> {
        if let Some(bar) = bars.get(name) {
            return Err(Away::Barred(bar.clone()));
        }
        let host = self.hosts.get(name).ok_or(Away::Nobody)?;
        if let Some(why) = &host.estranged {
            return Err(Away::Estranged(why.clone()));
        }
        let report = match &host.report {
            Some(report) if self.live(host) => report,
            _ => return Err(Away::Silent(host.heard.elapsed())),
        };
        match &report.refusal {
            Some(refusal) if report.received == host.told => Err(Away::Refuses(refusal.clone())),
            _ if report.accepted != host.told => Err(Away::Behind { accepted: report.accepted, told: host.told }),
            _ => Ok(report),
        }
    }

    /// The nodes that serve all slots of a cluster between them, each running and saying so itself; none while any slot
    /// is served by nobody who is heard of, or by two, or by one that any of the others thinks has failed.
    pub fn leaders(&self, blueprint: &Blueprint) -> Option<BTreeSet<NodeId>> {
        let heard = self.heard(blueprint, &Bars::new());
        let mut served = 0;
        let mut leaders = BTreeSet::new();
        let mut ranges = Vec::new();
        for status in heard.instances.values().filter(|status| status.state == InstanceState::Running) {
            let Some(view) = status.view.as_ref().filter(|view| !view.role.slots().is_empty()) else { continue };
            served += view.role.slots().iter().map(|range| u32::from(range.len())).sum::<u32>();
            ranges.extend_from_slice(view.role.slots());
            leaders.insert(status.node_id);
        }
        let troubles: Vec<_> = heard.instances.values().filter_map(|status| status.view.as_ref()).collect();
        let doubted = |id: &NodeId| {
            let named = format!("({})", id.short());
            troubles.iter().any(|view| view.troubles.iter().any(|trouble| trouble.contains(&named)))
        };
        let whole = !leaders.iter().any(doubted)
            && normal(ranges) == SlotRange::new(0, SLOTS - 1).into_iter().collect::<Vec<_>>();
        (whole && served == u32::from(SLOTS)).then_some(leaders)
    }

    /// What placement may lean on: who announces what.
    pub fn sites(&self) -> BTreeMap<HostName, Site> {
        let site = |host: &Host| Site {
            name: host.hello.host.clone(),
            address: host.hello.address,
            rack: host.hello.rack.clone(),
            zone: host.hello.zone.clone(),
        };
        self.hosts.iter().map(|(name, host)| (name.clone(), site(host))).collect()
    }

    /// What a plan leans on, as it is now: facts of one host, by their names.
    pub fn facts(&self, name: &HostName) -> BTreeMap<String, String> {
        let Some(host) = self.hosts.get(name) else { return BTreeMap::new() };
        let mut facts = BTreeMap::from([
            ("identity".to_owned(), host.hello.identity.to_string()),
            ("address".to_owned(), host.hello.address.to_string()),
            ("agent".to_owned(), if self.live(host) { "live" } else { "silent" }.to_owned()),
        ]);
        if let Some(report) = &host.report {
            let server = report.server.as_ref().map_or_else(Clone::clone, |server| server.version.to_string());
            facts.insert("server".to_owned(), server);
            facts.extend(report.ports.iter().map(|(port, usage)| (format!("port {port}"), use_word(usage))));
        }
        facts
    }
}

/// What lies at a port, in a word.
pub fn use_word(usage: &PortUse) -> String {
    match usage {
        PortUse::Free => "free".to_owned(),
        PortUse::Stamped(cluster) => cluster.to_string(),
        PortUse::Foreign => "foreign".to_owned(),
        PortUse::Unreadable => "unreadable".to_owned(),
    }
}

#[cfg(test)]
mod tests;
