//! What an agent's inventory and its watchers see of a modelled machine: as `inventory.rs`, `process.rs` and `watch.rs` of
//! the agent have it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use muster_agent::{
    layout::Directory,
    reconcile::{Answer, ProcessSeen, Seen, Unwilling},
    restart::{Load, Stake, Word},
};
use muster_proto::{ClusterAssignment, HostAssignment, InstanceAssignment, Keeps, NodeId, Port, Role, Topology, Want};

use super::{
    host::{Agent, Held, Place, topology},
    world::World,
};

/// Silence of a server after this is no wonder any more.
const YOUNG: Duration = Duration::from_secs(10);

/// What a server writes that does not stop.
const GIVES_UP: &str = "Error trying to save the DB, can't exit.";

impl World {
    /// Looks at every port of the assignment.
    pub fn look(&mut self, host: usize, agent: &mut Agent, assignment: &HostAssignment) -> BTreeMap<Port, Seen> {
        let ports = assignment.by_port();
        for (port, (cluster, wanted)) in &ports {
            let ends = cluster.member(wanted.node_id).map(|member| [member.port.get(), member.bus_port]);
            let now = self.now;
            let place = agent.place(*port, now);
            if place.process.is_none() {
                match self.find(host, *port, &ends.map(Vec::from).unwrap_or_default()) {
                    Found::Nothing => place.other = None,
                    Found::Ours(pid) => {
                        place.meet(Held { pid, stopping: None, run: Some(self.run(host, *port, wanted)) }, now)
                    }
                    Found::Other(other) => place.other = Some(other),
                }
            }
        }
        for (port, (_, wanted)) in &ports {
            let (now, patience) = (self.now, self.plan.stop_patience);
            let place = agent.place(*port, now);
            let since = place.process.as_ref().and_then(|held| held.stopping).map(|at| now - at);
            if wanted.want == Want::Stopped && since.is_some_and(|since| since >= patience) {
                place.unwilling.get_or_insert(now);
            }
        }
        let seen = |(port, (cluster, wanted)): (Port, (&ClusterAssignment, &InstanceAssignment))| {
            (port, self.seen(host, agent, port, cluster, wanted))
        };
        ports.into_iter().map(seen).collect()
    }

    /// Of a server that was found again: what is written down, or else the assigned one.
    fn run(&self, host: usize, port: Port, wanted: &InstanceAssignment) -> u64 {
        self.hosts[host].disk.records.get(&port).map_or(wanted.run, |record| record.run)
    }

    /// Whose the process at a port is.
    pub fn find(&self, host: usize, port: Port, ends: &[u16]) -> Found {
        let home = self.hosts[host].disk.places.get(&port).map(|directory| directory.inode);
        let here = || self.servers.values().filter(|server| server.host == host);
        if let Some(holder) = here().find(|server| server.locked && server.port == port.get()) {
            if Some(holder.home) == home {
                return Found::Ours(holder.pid);
            }
            let why = format!("is held by pid {} (redis-server), and its working directory is another", holder.pid);
            return Found::Other(ProcessSeen::Unknown(why));
        }
        if self.hosts[host].children.iter().any(|(held, until)| *held == port && *until > self.now) {
            return Found::Other(ProcessSeen::Unknown("is held by a child of the server that took it".into()));
        }
        let is_stranger = |server: &&super::redis::Server| {
            Some(server.home) == home || ends.contains(&server.port) || ends.contains(&server.bus)
        };
        match here().find(is_stranger) {
            Some(stranger) => Found::Other(ProcessSeen::Foreign(format!("pid {} (redis-server)", stranger.pid))),
            None => Found::Nothing,
        }
    }

    fn seen(
        &self,
        host: usize,
        agent: &Agent,
        port: Port,
        cluster: &ClusterAssignment,
        wanted: &InstanceAssignment,
    ) -> Seen {
        let place = &agent.places[&port];
        let process = match (&place.process, &place.other) {
            (Some(held), _) => ProcessSeen::Ours {
                pid: held.pid,
                stopping: held.stopping.map(|since| self.now - since),
                outdated: held.run.is_some_and(|run| run < wanted.run),
            },
            (None, Some(other)) => other.clone(),
            (None, None) => ProcessSeen::None,
        };
        let directory = match self.hosts[host].disk.places.get(&port) {
            Some(directory) => Directory::Stamped(directory.stamp.clone()),
            None => Directory::Free,
        };
        let mut past = place.past.clone();
        let stake = match (&process, &directory) {
            (ProcessSeen::None, Directory::Stamped(_)) => {
                past.urged |= self.is_newer(host, wanted);
                self.stake(host, agent, cluster, wanted)
            }
            _ => Stake {
                formed: false,
                leads: false,
                load: Load::Nothing,
                replaced: false,
                overruled: false,
                word: Word::Given,
            },
        };
        let path = PathBuf::from(format!("/var/lib/muster/{port}"));
        Seen {
            directory,
            socket: path.join("redis.sock"),
            path,
            process,
            answer: self.answers(place),
            past,
            stake,
            failed: place.failed.clone(),
            silent: self.now - place.view.as_ref().map_or(place.met, |(_, at)| *at),
            unwilling: place.unwilling.map(|at| Unwilling { words: GIVES_UP.into(), asked: self.now - at }),
            saving: false,
            applied: None,
            outside: None,
            granted: self.granted(host, agent, port),
            trashed: self.trashed(host, cluster, wanted),
        }
    }

    fn answers(&self, place: &Place) -> Answer {
        let frozen = place.process.as_ref().and_then(|held| self.servers.get(&held.pid)).is_some_and(|it| it.frozen);
        match &place.answer {
            _ if frozen => Answer::Frozen('T'),
            Answer::Silent(why) if place.view.is_some() || self.now - place.met >= YOUNG => Answer::Hung(why.clone()),
            answer => answer.clone(),
        }
    }

    fn is_newer(&self, host: usize, wanted: &InstanceAssignment) -> bool {
        let record = self.hosts[host].disk.records.get(&wanted.port);
        record.is_some_and(|record| record.is_before(wanted.node_id, wanted.run))
    }

    fn stake(&self, host: usize, agent: &Agent, cluster: &ClusterAssignment, wanted: &InstanceAssignment) -> Stake {
        let (id, keeps) = (wanted.node_id, Keeps::of(&cluster.settings));
        let directory = self.hosts[host].disk.places.get(&wanted.port);
        let written = directory.and_then(|directory| directory.nodes.topology().cloned());
        let before = written.unwrap_or_else(|| cluster.topology());
        let ended = agent.places[&wanted.port].past.last().map_or(agent.born, |at| agent.born + at);
        let siblings = cluster.instances.iter().filter(|sibling| sibling.node_id != id);
        let views = siblings.filter_map(|sibling| {
            let place = agent.places.get(&sibling.port)?;
            let (view, at) = place.view.as_ref().filter(|_| matches!(place.answer, Answer::View(_)))?;
            (*at > ended).then_some(view)
        });
        let replaced = |view: &muster_proto::NodeView| match &view.nodes_text {
            Some(text) => topology(text).is_some_and(|now| !owns_slots(&now, id)),
            None => !owns_slots(&cluster.topology(), id),
        };
        let led = agent.leaders.get(&cluster.cluster).filter(|(_, told)| *told > ended);
        let elsewhere = led.is_some_and(|(leaders, _)| !leaders.contains(&id));
        let this_boot =
            self.hosts[host].disk.records.get(&wanted.port).is_some_and(|record| record.boot == self.hosts[host].boot);
        let holds = directory.is_some_and(|directory| directory.data);
        Stake {
            formed: cluster.formed || wanted.restore,
            leads: owns_slots(&before, id) && before.nodes().iter().any(|node| node.role.master() == Some(id)),
            load: match keeps {
                Keeps::Log if holds => Load::Log,
                Keeps::Snapshots if holds => Load::Snapshot,
                Keeps::Log | Keeps::Snapshots | Keeps::Nothing => Load::Nothing,
            },
            replaced: views.into_iter().any(replaced) || elsewhere,
            overruled: agent.places[&wanted.port].overruled
                || (wanted.all_stopped && (keeps == Keeps::Nothing || wanted.restore) && self.is_newer(host, wanted)),
            word: match agent.word {
                _ if agent.places[&wanted.port].lived => Word::Given,
                Word::Awaited if this_boot => Word::AwaitedBriefly,
                word => word,
            },
        }
    }

    /// The watchers of an agent ask its servers.
    pub fn asked(&mut self, host: usize) {
        let Some(mut agent) = self.hosts[host].agent.take() else { return };
        let assignment = self.hosts[host].disk.orders.assignment();
        let digests: BTreeMap<Port, _> = assignment
            .by_port()
            .into_iter()
            .map(|(port, (cluster, _))| (port, (cluster.cluster_id, cluster.incarnation)))
            .collect();
        let mut news = false;
        for (port, place) in &mut agent.places {
            let Some(held) = &place.process else { continue };
            let (Some(server), Some(expected)) = (self.servers.get(&held.pid), digests.get(port)) else { continue };
            let answer = if server.frozen {
                Answer::Silent("timed out".into())
            } else if server.is_awake(self.now) {
                let digest = self.expected(host, expected);
                let online = self.online(held.pid);
                let server = self.servers.get_mut(&held.pid).expect("there");
                Answer::View(Box::new(server.view(self.now, online, digest)))
            } else {
                Answer::Silent("connection refused".into())
            };
            if let Answer::View(view) = &answer {
                place.view = Some((view.as_ref().clone(), self.now));
            }
            news |= !place.answer.same(&answer);
            place.answer = answer;
        }
        self.hosts[host].agent = Some(agent);
        if news {
            self.pass_in(host, Duration::from_millis(1));
        }
    }
}

/// Whose a process is.
pub enum Found {
    Nothing,
    Ours(i32),
    Other(ProcessSeen),
}

impl Found {
    /// In words; nobody where the place is free.
    pub fn who(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Ours(pid) => Some(format!("pid {pid}")),
            Self::Other(ProcessSeen::Foreign(who) | ProcessSeen::Unknown(who)) => Some(who.clone()),
            Self::Other(_) => None,
        }
    }
}

fn owns_slots(topology: &Topology, id: NodeId) -> bool {
    topology.get(id).is_some_and(|node| matches!(&node.role, Role::Master { slots } if !slots.is_empty()))
}
