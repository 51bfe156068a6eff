//! What must never be, checked after everything that happens. It looks at disks, processes and what was delivered, and
//! knows nothing of how anybody decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use muster_coordinator::{
    blueprint::Blueprint,
    formation::Goal,
    ledger::{ClusterRecord, OpState},
    rebuild::Stage,
};
use muster_proto::{Ask, ClusterId, Generation, HostName, NodeId, OperationId, Port, Sha256, Term, wire};
use uuid::Uuid;

use super::{
    host::{Directory, Life},
    world::World,
};

/// What servers and judges take to notice, beside the node timeout: a round, the writable delay, an election.
const SLACK: Duration = Duration::from_millis(3_500);
/// What a node said so long ago was said when it was latched: reports are as old as silence may be, and as messages.
const RECENT: Duration = Duration::from_secs(8);
/// A nonce is good for so long.
const LEASE: Duration = Duration::from_secs(60);

/// A nonce, as the agent said it.
#[derive(Debug)]
struct Asked {
    host: usize,
    port: Port,
    node: NodeId,
    life: u64,
    stream: Option<u64>,
    at: Duration,
    delivered: bool,
    spent: bool,
}

/// All that was seen, and the first thing that must not be.
#[derive(Debug, Default)]
pub struct Judge {
    pub sentence: Option<String>,
    ledgers: BTreeMap<usize, (Term, Generation)>,
    asked: BTreeMap<Uuid, Asked>,
    /// Directories that there must be on each host: made, and not purged.
    owned: BTreeMap<usize, usize>,
    ids: BTreeSet<NodeId>,
    /// Who is what in each life that was approved.
    lives: BTreeMap<Life, Blueprint>,
    /// What their nodes should see.
    digests: BTreeMap<Life, Sha256>,
    /// What is added to their client ports.
    offsets: BTreeMap<Life, u16>,
    /// Lives that are going on, by cluster: the one that was approved last and has crossed.
    current: BTreeMap<ClusterId, Life>,
    /// Formed now, and since when.
    formed: BTreeMap<ClusterId, (Life, Duration)>,
    was_formed: BTreeSet<Life>,
    /// Lives of which a server was started since they began or came back.
    started: BTreeSet<Life>,
    restored: BTreeSet<Life>,
    /// A life that an undo puts back, and what hosts were told when that was approved.
    returning: Option<(Life, BTreeMap<HostName, Generation>)>,
    /// What operators want done, and have not called off.
    approved: BTreeSet<OperationId>,
    /// Hosts that obey one on a copy of the store, for want of a better one.
    pub misled: BTreeSet<usize>,
    /// Hosts that an operator has given up, until what was there is set aside.
    pub missing: BTreeSet<usize>,
    agreed: BTreeMap<NodeId, Duration>,
    /// What came of it, for the summary.
    pub counts: BTreeMap<&'static str, usize>,
}

impl Judge {
    pub fn condemn(&mut self, why: impl Into<String>) {
        self.sentence.get_or_insert_with(|| why.into());
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A life has begun.
    fn begun(&mut self, blueprint: &Blueprint) {
        let life = (blueprint.cluster_id, blueprint.incarnation);
        if blueprint.incarnation.0 == 1 {
            self.current.insert(life.0, life);
        }
        self.digests.insert(life, blueprint.topology().digest());
        self.offsets.extend(blueprint.members.first().map(|it| (life, it.bus_port - it.port.get())));
        let known = self.lives.insert(life, blueprint.clone());
        if known.is_some_and(|known| known != *blueprint) {
            self.condemn(format!("incarnation {} is used again", life.1));
        }
    }

    pub fn asked(&mut self, host: usize, port: Port, ask: &Ask, stream: Option<u64>, at: Duration) {
        let (node, life) = (ask.node_id, ask.life.0);
        let fresh = Asked { host, port, node, life, stream, at, delivered: false, spent: false };
        self.asked.entry(ask.nonce).or_insert(fresh);
    }

    /// The memory of a host's agent was moved aside.
    pub fn forgets(&mut self, host: usize) {
        self.ledgers.remove(&host);
    }

    /// A permit has reached a host.
    pub fn delivered(&mut self, host: usize, permit: &wire::Permit) {
        let asked = permit.nonce.parse().ok().and_then(|nonce| self.asked.get_mut(&nonce));
        if let Some(asked) = asked.filter(|asked| asked.host == host) {
            let same = asked.node.to_string() == permit.node_id && asked.life == permit.old_life;
            asked.delivered |= same && permit.port == u32::from(asked.port);
        }
    }
}

impl World {
    /// After everything that happens.
    pub fn judge_always(&mut self) {
        for (nth, host) in self.hosts.iter().enumerate() {
            let now = (host.disk.orders.term(), host.disk.orders.generation());
            let before = self.judge.ledgers.insert(nth, now).unwrap_or_default();
            if now.0 < before.0 || now.1 < before.1 {
                let sentence =
                    format!("{}: term {}, generation {} after {}, {}", host.name, now.0, now.1, before.0, before.1);
                self.judge.condemn(sentence);
            }
            let there = host.disk.places.len() + host.disk.trash.len();
            if there != self.judge.owned.get(&nth).copied().unwrap_or(0) {
                self.judge.condemn(format!("{}: a directory is gone, and nobody has purged it", host.name));
            }
        }
    }

    /// Round by round: who serves, and who agrees.
    pub fn judge_round(&mut self) {
        let now = self.now;
        let grace = self.plan.node_timeout + SLACK;
        let (mut sentence, mut islands) = (None, Vec::new());
        for server in self.servers.values_mut().filter(|server| server.is_awake(now) && server.ok) {
            let planned = self.judge.digests[&server.life];
            if self.judge.restored.contains(&server.life) || server.digest() == planned {
                self.judge.agreed.insert(server.me, now);
            }
        }
        for server in self.servers.values().filter(|server| server.acknowledges(now)) {
            let life = server.life;
            let Some((formed, at)) = self.judge.formed.get(&life.0).filter(|(formed, _)| *formed != life) else {
                continue;
            };
            let late = now > *at + grace && now > server.disturbed + grace;
            // Who starts an old server by hand where another life has the same bus ports finds strangers there whom it
            // takes for its peers: that is why hosts that are not there are fenced by other ports, and nobody else can
            // come back by himself.
            let offset = |life: &Life| self.judge.offsets.get(life).copied();
            let met = !server.locked
                && self.servers.values().any(|other| other.life != life && offset(&other.life) == offset(&life));
            if self.is_island(server) {
                islands.push(server.pid);
                continue;
            }
            if late && !met {
                sentence = Some(format!(
                    "two lives serve: {}:{} (pid {}) of life {} takes writes, and life {} was formed at {:.3} s",
                    self.hosts[server.host].name,
                    server.port,
                    server.pid,
                    life.1,
                    formed.1,
                    at.as_secs_f64()
                ));
            }
        }
        // What was an island until now has its node timeout from now on.
        self.servers.values_mut().filter(|it| islands.contains(&it.pid)).for_each(|it| it.disturbed = now);
        if let Some(sentence) = sentence {
            self.judge.condemn(sentence);
        }
    }

    /// A majority of the masters of its life really runs and reaches it: nobody can keep them from going on, and whoever
    /// goes on without their hosts is told so.
    fn is_island(&self, server: &super::redis::Server) -> bool {
        let (masters, size) = server.voters();
        let runs = |id: &&NodeId| {
            let other = self.servers.values().find(|other| other.me == **id && other.is_awake(self.now));
            other.is_some_and(|other| other.life == server.life && self.connected(other.host, server.host))
        };
        masters.iter().filter(runs).count() > size / 2
    }

    /// A directory was made.
    pub fn judge_made(&mut self, host: usize, port: Port) {
        let directory = &self.hosts[host].disk.places[&port];
        *self.judge.owned.entry(host).or_default() += 1;
        let (id, who) = (directory.stamp.node_id, format!("{}:{port}", self.hosts[host].name));
        let planned = self.judge.lives.get(&directory.life());
        if !planned.is_some_and(|planned| planned.members.iter().any(|member| member.node_id == id)) {
            self.judge.condemn(format!("{who}: a directory is made for a node of a life that has not begun"));
        }
        if !self.judge.ids.insert(id) {
            self.judge.condemn(format!("{who}: a directory is made for a node that had one"));
        }
    }

    /// An agent has started a server.
    pub fn judge_started(&mut self, pid: i32) {
        let Some(server) = self.servers.get(&pid) else { return };
        let (life, home, host) = (server.life, server.home, server.host);
        let who = format!("{}:{} (pid {pid}, life {})", self.hosts[host].name, server.port, life.1);
        if self.servers.values().any(|other| other.home == home && other.pid != pid) {
            self.judge.condemn(format!("{who} is the second server in its directory"));
        }
        let missing = self.judge.missing.clone();
        let unknowing = missing.contains(&host) || self.judge.misled.contains(&host);
        if unknowing && self.judge.current.get(&life.0) != Some(&life) {
            // Whoever was given up, or is misled, does not know better until he is told.
            return;
        }
        let other = |of: Life| of.0 == life.0 && of.1 != life.1;
        let alive = self.servers.values().find(|it| it.locked && other(it.life) && !missing.contains(&it.host));
        if let Some(alive) = alive {
            let sentence = format!("{who} is started while pid {} of life {} runs", alive.pid, alive.life.1);
            self.judge.condemn(sentence);
        }
        // What is left where the life takes no part, and has other bus ports, does not meet it.
        let (lives, offsets) = (&self.judge.lives, &self.judge.offsets);
        let takes_part = |host: &HostName| lives[&life].hosts().contains(host);
        let apart = |old: Life| offsets.get(&old) != offsets.get(&life);
        let mut left = None;
        for (_, host) in self.hosts.iter().enumerate().filter(|(nth, _)| !missing.contains(nth)) {
            let here = takes_part(&host.name);
            let other = |directory: &Directory| other(directory.life()) && (here || !apart(directory.life()));
            let found = host.disk.places.iter().find(|(_, directory)| other(directory));
            left = left.or(found.map(|(port, old)| format!("{}:{port} of life {}", host.name, old.stamp.incarnation)));
        }
        if let Some(left) = left {
            self.judge.condemn(format!("{who} is started before {left} is set aside"));
        }
        if self.judge.started.insert(life) {
            let blueprint = &self.judge.lives[&life];
            let there = |host: &HostName, port: Port| {
                let host = self.host_named(host).map(|nth| &self.hosts[nth]);
                host.and_then(|host| host.disk.places.get(&port)).is_some_and(|found| found.life() == life)
            };
            if let Some(lacks) = blueprint.members.iter().find(|member| !there(&member.host, member.port)) {
                let sentence = format!("{who} is started before {} has its directory", lacks.name());
                self.judge.condemn(sentence);
            }
        }
    }

    /// A directory is about to be moved into the trash.
    pub fn judge_moved(&mut self, host: usize, port: Port, permitted: bool, stream: Option<u64>) {
        let directory = self.hosts[host].disk.places[&port].clone();
        let life = directory.life();
        let who = format!("{}:{port} (life {})", self.hosts[host].name, life.1);
        self.judge.count("set aside");
        if let Some(within) = self.servers.values().find(|server| server.home == directory.inode) {
            let sentence = format!("{who} is set aside while pid {} runs in it", within.pid);
            self.judge.condemn(sentence);
        }
        if self.hosts[host].children.iter().any(|(held, until)| *held == port && *until > self.now) {
            self.judge.condemn(format!("{who} is set aside while a child of its server runs"));
        }
        if !permitted {
            if self.judge.was_formed.contains(&life) {
                self.judge.condemn(format!("{who} was formed, and is set aside without a permit"));
            }
            return;
        }
        let (now, node) = (self.now, directory.stamp.node_id);
        let fits = |asked: &&mut Asked| {
            let same = (asked.host, asked.port, asked.node, asked.life) == (host, port, node, directory.stamp.life.0);
            same && asked.delivered && !asked.spent && asked.stream == stream && now < asked.at + LEASE
        };
        match self.judge.asked.values_mut().find(fits) {
            Some(asked) => asked.spent = true,
            None => self.judge.condemn(format!("{who} is set aside without a permit that it has asked for")),
        }
        if self.judge.current.get(&life.0) == Some(&life) {
            self.judge.condemn(format!("{who} is set aside, and it is the life that goes on"));
        }
        let missing = &self.judge.missing;
        let runs = |it: &&super::redis::Server| it.locked && it.life == life && !missing.contains(&it.host);
        if !missing.contains(&host)
            && let Some(runs) = self.servers.values().find(runs)
        {
            let sentence = format!("{who} is set aside while pid {} of its life runs elsewhere", runs.pid);
            self.judge.condemn(sentence);
        }
    }

    /// A directory is deleted from the trash.
    pub fn judge_purged(&mut self, host: usize, directory: &Directory) {
        self.judge.count("deleted");
        *self.judge.owned.entry(host).or_default() -= 1;
        let life = directory.life();
        // A host that knows that an undo is under way: it has taken in what it was told when that was approved, or later.
        let knows = |(back, generations): &(Life, BTreeMap<HostName, Generation>)| {
            let host = &self.hosts[host];
            let told = generations.get(&host.name);
            *back == life && told.is_some_and(|told| host.disk.orders.generation() >= *told)
        };
        let wanted = self.judge.returning.as_ref().is_some_and(knows);
        let goes_on = self.judge.current.get(&life.0) == Some(&life) && self.judge.started.contains(&life);
        if wanted || goes_on {
            let sentence =
                format!("{}: a directory of life {} is deleted, which is wanted", self.hosts[host].name, life.1);
            self.judge.condemn(sentence);
        }
    }

    /// A directory is put back.
    pub fn judge_restored(&mut self, host: usize, directory: &Directory) {
        self.judge.count("put back");
        if self.judge.current.get(&directory.stamp.cluster_id) != Some(&directory.life()) {
            let sentence = format!(
                "{}:{} of life {} is put back, and that is not the life that goes on",
                self.hosts[host].name, directory.stamp.port, directory.stamp.incarnation
            );
            self.judge.condemn(sentence);
        }
    }

    /// A coordinator has taken a step. One on a copy of the store may go on with what was approved before that was made;
    /// what was called off since is called off.
    pub fn judge_committed(
        &mut self,
        nth: usize,
        (operation, state): (OperationId, OpState),
        before: &ClusterRecord,
        after: Option<&ClusterRecord>,
    ) {
        let ends = after.is_none_or(|after| after.goal == Goal::SetAside);
        if nth == 0 {
            match state {
                OpState::Cancelling | OpState::Cancelled => drop(self.judge.approved.remove(&operation)),
                _ => drop(self.judge.approved.insert(operation)),
            }
        }
        if ends && (nth == 0 || !self.judge.approved.contains(&operation)) {
            self.judge.current.remove(&before.blueprint.cluster_id);
        }
        let Some(after) = after else { return };
        if nth == 0 {
            self.judge_returning(after);
        }
        let began = before.blueprint.incarnation.0 == 1 && !self.judge.lives.values().any(|it| *it == before.blueprint);
        if nth == 0 && began {
            self.judge.begun(&after.blueprint);
        }
        if before.blueprint.incarnation != after.blueprint.incarnation {
            if !self.judge.approved.contains(&operation) {
                let who = self.coordinator_name(nth);
                self.judge
                    .condemn(format!("{who} ends life {}, and that was called off", before.blueprint.incarnation));
            }
            self.judge_crossed(before, after);
        }
        if before.formed_ms.is_none() && after.formed_ms.is_some() {
            self.judge_latched(after);
        }
    }

    /// Which life comes back, from the approval of an undo on until it is formed or called off.
    fn judge_returning(&mut self, after: &ClusterRecord) {
        let undo = after.rebuild.as_ref().filter(|rebuild| rebuild.undo && rebuild.stage != Stage::Return);
        let back = undo.map(|undo| undo.next.as_ref().map_or(&after.blueprint, |next| &next.blueprint));
        let back = back.map(|back| ((back.cluster_id, back.incarnation), back.hosts()));
        if back.as_ref().map(|(back, _)| *back) == self.judge.returning.as_ref().map(|(known, _)| *known) {
            return;
        }
        let store = self.main().map(|main| &main.store);
        let told = |host: HostName| store.map(|store| (host.clone(), store.told(&host)));
        let returning = back.map(|(back, hosts)| (back, hosts.into_iter().filter_map(told).collect()));
        self.judge.returning = returning;
    }

    /// A life has ended.
    fn judge_crossed(&mut self, before: &ClusterRecord, after: &ClusterRecord) {
        let life = |record: &ClusterRecord| (record.blueprint.cluster_id, record.blueprint.incarnation);
        let (from, to) = (life(before), life(after));
        let missing = &self.judge.missing;
        let runs = |it: &&super::redis::Server| it.locked && it.life == from && !missing.contains(&it.host);
        if let Some(runs) = self.servers.values().find(runs) {
            let who = format!("{}:{} (pid {})", self.hosts[runs.host].name, runs.port, runs.pid);
            self.judge.condemn(format!("life {} ends, and {who} of it runs", from.1));
        }
        if !after.restores() {
            self.judge.begun(&after.blueprint);
        }
        if to.1 <= from.1 && !self.judge.was_formed.contains(&to) {
            self.judge.condemn(format!("life {} follows life {}, and never was", to.1, from.1));
        }
        self.judge.current.insert(to.0, to);
        self.judge.formed.remove(&to.0);
        self.judge.started.remove(&to);
        if after.restores() {
            self.judge.restored.insert(to);
        }
        self.judge.count("crossed");
    }

    /// A cluster is said to be formed.
    fn judge_latched(&mut self, record: &ClusterRecord) {
        let life = (record.blueprint.cluster_id, record.blueprint.incarnation);
        let late = |id: &NodeId| self.judge.agreed.get(id).is_none_or(|at| *at + RECENT < self.now);
        if let Some(member) = record.blueprint.members.iter().find(|member| late(&member.node_id)) {
            let sentence = format!("life {} is called formed, and {} does not agree", life.1, member.name());
            self.judge.condemn(sentence);
        }
        self.judge.formed.insert(life.0, (life, self.now));
        self.judge.was_formed.insert(life);
        self.judge.count("formed");
    }
}
