//! A small model of a Redis Cluster node: what it reads when it starts, whom it believes, when it takes writes, who
//! takes over from whom.
//!
//! Kept from the real one (cluster.c, cluster_legacy.c) is what decides whether an old life can serve:
//! * nodes.conf is read at the start, and says whom it dials and where; the bus port is part of that.
//! * A peer that answers under another id loses its address for whoever dialled it (`noaddr`), is not dialled again, and
//!   is **never suspected from then on**: such peers count as reachable masters. This is how an old master says
//!   `cluster_state:ok` among strangers.
//! * A peer that does not answer is suspected after the node timeout, and failed when a majority of the masters suspect
//!   it. Less than a majority of masters that are not suspected: `cluster_state:fail`.
//! * A master waits 2 s after its start before it serves (`CLUSTER_WRITABLE_DELAY`), and for a while after it saw itself
//!   in a minority.
//! * A process that was stopped by a signal goes on where it was: what it suspects is counted anew from then on.

use std::{net::IpAddr, time::Duration};

use muster_proto::{NodeId, NodeView, Role, Sha256, SlotRange, slots::ranges_text, view};

use super::host::Life;

/// `CLUSTER_WRITABLE_DELAY`, and the 100 ms of the first look.
const WRITABLE: Duration = Duration::from_millis(2_100);
/// A first sync of little data.
const SYNC: Duration = Duration::from_millis(300);
/// From a master's failure to the election of its successor, beside the node timeout.
const ELECTION: Duration = Duration::from_millis(900);

/// One line of nodes.conf, and what is known of whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: NodeId,
    pub address: IpAddr,
    pub port: u16,
    pub bus: u16,
    pub role: Role,
    pub epoch: u64,
    /// It is dialled in vain, since then.
    pub ping: Option<Duration>,
    pub suspected: bool,
    pub failed: bool,
    pub noaddr: bool,
}

impl Peer {
    /// The same in CLUSTER NODES.
    fn reads_like(&self, other: &Self) -> bool {
        Self { ping: other.ping, ..self.clone() } == *other
    }
}

/// What a process says of itself on the bus.
#[derive(Debug, Clone)]
pub struct Claim {
    pub pid: i32,
    pub host: usize,
    pub bus: u16,
    pub id: NodeId,
    pub address: IpAddr,
    pub role: Role,
    pub epoch: u64,
    pub suspects: Vec<NodeId>,
}

/// A process.
#[derive(Debug, Clone)]
pub struct Server {
    pub pid: i32,
    pub host: usize,
    /// The inode of its working directory.
    pub home: u64,
    pub address: IpAddr,
    pub port: u16,
    pub bus: u16,
    /// Which life of which cluster its directory was stamped for; for the judge alone.
    pub life: Life,
    pub timeout: Duration,
    /// Holds the lock of its port: an agent has started it.
    pub locked: bool,
    pub began: Duration,
    pub answers_from: Duration,
    /// When it began, or went on after a stop by a signal, or its place in the network changed.
    pub disturbed: Duration,
    pub frozen: bool,
    /// It was asked to stop.
    pub leaving: bool,
    pub me: NodeId,
    pub peers: Vec<Peer>,
    pub ok: bool,
    /// When it last saw less than a majority.
    minority: Option<Duration>,
    /// Since when its master answers.
    link: Option<Duration>,
    synced: bool,
    /// Since when its master is failed, and it is not.
    orphan: Option<Duration>,
    /// Its text, what follows from it; made anew when something has changed.
    said: Said,
    /// Its nodes.conf is as it is.
    pub kept: bool,
}

#[derive(Debug, Clone, Default)]
struct Said {
    text: Option<String>,
    /// What is read from it.
    seen: Option<(Sha256, Vec<String>)>,
}

/// Lines of a nodes.conf that a server has read, and which is its own.
pub fn read_nodes(text: &str) -> Option<(NodeId, Vec<Peer>)> {
    let (mut me, mut peers) = (None, Vec::new());
    for line in text.lines().filter(|line| !line.starts_with("vars ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let id: NodeId = words.first()?.parse().ok()?;
        let flags: Vec<&str> = words.get(2)?.split(',').collect();
        let (client, bus) = words.get(1)?.split(',').next()?.split_once('@')?;
        let (address, port) = client.rsplit_once(':')?;
        let noaddr = flags.contains(&"noaddr");
        let slots = words.iter().skip(8).map(|word| word.parse().ok()).collect::<Option<Vec<SlotRange>>>()?;
        let role = match words.get(3)?.parse() {
            Ok(master) => Role::Replica { master },
            Err(_) => Role::Master { slots },
        };
        if flags.contains(&"myself") {
            me = Some(id);
        }
        peers.push(Peer {
            id,
            address: address.parse().ok().or(noaddr.then_some(IpAddr::from([0, 0, 0, 0])))?,
            port: port.parse().ok()?,
            bus: bus.parse().ok()?,
            role,
            epoch: words.get(6)?.parse().ok()?,
            ping: None,
            suspected: false,
            failed: flags.contains(&"fail"),
            noaddr,
        });
    }
    peers.sort_by_key(|peer| peer.id);
    Some((me?, peers))
}

/// A directive of a redis.conf.
pub fn directive<'a>(conf: &'a str, key: &str) -> Option<&'a str> {
    conf.lines().rev().filter_map(|line| line.split_once(' ')).find(|(found, _)| *found == key).map(|(_, value)| value)
}

impl Server {
    /// Reads its conf and its nodes.conf; none where it would refuse them.
    pub fn start(
        pid: i32,
        host: usize,
        home: u64,
        life: Life,
        (conf, nodes): (&str, &str),
        now: Duration,
    ) -> Option<Self> {
        let (me, peers) = read_nodes(nodes)?;
        let port: u16 = directive(conf, "port")?.parse().ok()?;
        let timeout = directive(conf, "cluster-node-timeout").and_then(|ms| ms.parse().ok()).unwrap_or(15_000);
        Some(Self {
            pid,
            host,
            home,
            address: directive(conf, "bind")?.parse().ok()?,
            port,
            bus: directive(conf, "cluster-port").map_or(Some(port + 10_000), |bus| bus.parse().ok())?,
            life,
            timeout: Duration::from_millis(timeout),
            locked: false,
            began: now,
            answers_from: now,
            disturbed: now,
            frozen: false,
            leaving: false,
            me,
            peers,
            ok: false,
            minority: None,
            link: None,
            synced: false,
            orphan: None,
            said: Said::default(),
            kept: true,
        })
    }

    pub fn is_awake(&self, now: Duration) -> bool {
        !self.frozen && self.answers_from <= now
    }

    pub fn get(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    fn get_mut(&mut self, id: NodeId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    pub fn myself(&self) -> &Peer {
        self.get(self.me).expect("its own line")
    }

    /// It takes writes now: a client that reaches it is given an OK.
    pub fn acknowledges(&self, now: Duration) -> bool {
        self.is_awake(now) && self.ok && !self.myself().role.slots().is_empty()
    }

    pub fn claim(&self) -> Claim {
        let me = self.myself();
        Claim {
            pid: self.pid,
            host: self.host,
            bus: self.bus,
            id: self.me,
            address: self.address,
            role: me.role.clone(),
            epoch: me.epoch,
            suspects: self.peers.iter().filter(|peer| peer.suspected).map(|peer| peer.id).collect(),
        }
    }

    /// It goes on after a signal has stopped it.
    pub fn wake(&mut self, now: Duration) {
        self.frozen = false;
        self.disturbed = now;
        self.peers.iter_mut().for_each(|peer| peer.ping = None);
    }

    /// 100 ms and more of its cron: whom it reaches (by bus port), and what they say. Whether anything has changed.
    pub fn cron<'a>(
        &mut self,
        now: Duration,
        reached: &dyn Fn(&Peer) -> Option<&'a Claim>,
        callers: &[&Claim],
    ) -> bool {
        let before = (self.peers.clone(), self.ok, self.link, self.orphan);
        for caller in callers {
            // Who is known by its id and dials has an address.
            if let Some(peer) = self.get_mut(caller.id).filter(|peer| peer.noaddr) {
                (peer.noaddr, peer.address, peer.bus) = (false, caller.address, caller.bus);
                peer.port = caller.bus.saturating_sub(10_000);
            }
        }
        let mut heard: Vec<&Claim> = Vec::new();
        let (me, timeout) = (self.me, self.timeout);
        for peer in self.peers.iter_mut().filter(|peer| peer.id != me && !peer.noaddr) {
            match reached(peer) {
                Some(claim) if claim.id == peer.id => {
                    (peer.ping, peer.suspected, peer.failed) = (None, false, false);
                    heard.push(claim);
                }
                Some(_) => (peer.noaddr, peer.ping) = (true, None),
                None => {
                    let since = *peer.ping.get_or_insert(now);
                    peer.suspected |= now.saturating_sub(since) > timeout;
                }
            }
        }
        for claim in &heard {
            self.believe(claim);
        }
        self.condemn(&heard);
        self.follow(now, &heard);
        self.judge(now);
        let same = before.0 == self.peers;
        if !before.0.iter().zip(&self.peers).all(|(one, two)| one.reads_like(two)) {
            (self.said, self.kept) = (Said::default(), false);
        }
        !same || (self.ok, self.link, self.orphan) != (before.1, before.2, before.3)
    }

    /// Takes in what another says of itself. Slots go to whoever claims them with the newest epoch.
    fn believe(&mut self, claim: &Claim) {
        let Some(known) = self.get(claim.id) else { return };
        if claim.epoch < known.epoch || (claim.role == known.role && claim.epoch == known.epoch) {
            return;
        }
        if let Role::Master { slots } = &claim.role {
            let newer = |peer: &Peer| peer.id != claim.id && peer.epoch > claim.epoch;
            if self.peers.iter().any(|peer| newer(peer) && shares(&peer.role, slots)) {
                return;
            }
            let me = self.me;
            let mut followed = false;
            for peer in self.peers.iter_mut().filter(|peer| peer.id != claim.id && shares(&peer.role, slots)) {
                followed |= peer.id == me;
                peer.role = Role::Master { slots: Vec::new() };
            }
            let lost = self.myself().role.master().and_then(|master| self.get(master));
            followed |= lost.is_some_and(|master| master.id != claim.id && master.role.slots().is_empty());
            if followed {
                self.get_mut(me).expect("its own line").role = Role::Replica { master: claim.id };
                (self.link, self.synced) = (None, false);
            }
        }
        let known = self.get_mut(claim.id).expect("known");
        (known.role, known.epoch) = (claim.role.clone(), claim.epoch);
    }

    fn masters(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| !peer.role.slots().is_empty())
    }

    /// Failed is whom a majority of the masters suspect.
    fn condemn(&mut self, heard: &[&Claim]) {
        let masters: Vec<NodeId> = self.masters().map(|peer| peer.id).collect();
        let (me, quorum) = (self.me, masters.len() / 2 + 1);
        let is_master = |id: &NodeId| masters.contains(id);
        for peer in self.peers.iter_mut().filter(|peer| peer.suspected && !peer.failed) {
            let own = usize::from(is_master(&me));
            let others = heard.iter().filter(|claim| is_master(&claim.id) && claim.suspects.contains(&peer.id));
            peer.failed = own + others.count() >= quorum;
        }
    }

    /// A replica and its master.
    fn follow(&mut self, now: Duration, heard: &[&Claim]) {
        let Some(master) = self.myself().role.master() else {
            (self.link, self.orphan) = (None, None);
            return;
        };
        let answers = heard.iter().any(|claim| claim.id == master && claim.role.master().is_none());
        self.link = if answers { self.link.or(Some(now)) } else { None };
        self.synced |= self.link_up(now);
        let failed = self.get(master).is_some_and(|peer| peer.failed);
        self.orphan = if failed { self.orphan.or(Some(now)) } else { None };
    }

    pub fn link_up(&self, now: Duration) -> bool {
        self.link.is_some_and(|since| now.saturating_sub(since) >= SYNC)
    }

    /// A master whose slots it would take over now, if the others vote for it.
    pub fn stands_for(&self, now: Duration) -> Option<NodeId> {
        let due = self.orphan.is_some_and(|since| now.saturating_sub(since) >= ELECTION);
        self.myself().role.master().filter(|_| due && self.synced && self.is_awake(now))
    }

    /// Masters that vote, and of how many.
    pub fn voters(&self) -> (Vec<NodeId>, usize) {
        (self.masters().map(|peer| peer.id).collect(), self.masters().count())
    }

    /// It is elected.
    pub fn promote(&mut self, master: NodeId, epoch: u64) {
        let old = self.get_mut(master).expect("its master");
        let role = std::mem::replace(&mut old.role, Role::Master { slots: Vec::new() });
        let me = self.me;
        let own = self.get_mut(me).expect("its own line");
        (own.role, own.epoch) = (role, epoch);
        (self.link, self.orphan) = (None, None);
        (self.said, self.kept) = (Said::default(), false);
    }

    /// `cluster_state`.
    fn judge(&mut self, now: Duration) {
        let size = self.masters().count();
        let reachable = self.masters().filter(|peer| !peer.suspected && !peer.failed).count();
        let served: u32 = self
            .masters()
            .filter(|peer| !peer.failed)
            .flat_map(|peer| peer.role.slots())
            .map(|slots| u32::from(slots.len()))
            .sum();
        if reachable < size / 2 + 1 {
            (self.ok, self.minority) = (false, Some(now));
            return;
        }
        let rejoin = self.timeout.clamp(Duration::from_millis(500), Duration::from_secs(5));
        let waits = self.minority.is_some_and(|at| now.saturating_sub(at) < rejoin) && !self.ok;
        let young = now.saturating_sub(self.began) < WRITABLE;
        self.ok = served >= u32::from(muster_proto::SLOTS) && !waits && !young;
    }

    /// Whether something will change by itself, without anybody's doing.
    pub fn is_restless(&self, now: Duration) -> bool {
        let waits = self.peers.iter().any(|peer| peer.ping.is_some() && !peer.suspected);
        let replica = self.myself().role.master().is_some();
        let syncs = replica && self.link.is_some() && !self.link_up(now);
        waits || syncs || self.orphan.is_some() || (!self.frozen && !self.ok) || self.answers_from > now
    }

    /// CLUSTER NODES.
    fn text(&mut self) -> &str {
        if self.said.text.is_none() {
            self.said.text = Some(self.peers.iter().map(|peer| self.line(peer)).collect());
        }
        self.said.text.as_deref().unwrap_or_default()
    }

    /// What an agent reads in it.
    fn seen(&mut self) -> &(Sha256, Vec<String>) {
        if self.said.seen.is_none() {
            let seen = view::parse(self.text()).expect("its own text");
            self.said.seen = Some((seen.topology.digest(), seen.troubles));
        }
        self.said.seen.as_ref().expect("just read")
    }

    fn line(&self, peer: &Peer) -> String {
        let mut flags = Vec::new();
        if peer.id == self.me {
            flags.push("myself");
        }
        flags.push(if peer.role.master().is_some() { "slave" } else { "master" });
        if peer.failed {
            flags.push("fail");
        } else if peer.suspected {
            flags.push("fail?");
        }
        if peer.noaddr {
            flags.push("noaddr");
        }
        let master = peer.role.master().map_or("-".to_owned(), |master| master.to_string());
        let at = if peer.noaddr { ":0@0".to_owned() } else { format!("{}:{}@{}", peer.address, peer.port, peer.bus) };
        let slots = ranges_text(peer.role.slots()).replace(',', " ");
        let line = format!("{} {at} {} {master} 0 0 {} connected {slots}", peer.id, flags.join(","), peer.epoch);
        format!("{}\n", line.trim_end())
    }

    /// What it keeps on disk.
    pub fn nodes_conf(&mut self) -> String {
        let epoch = self.peers.iter().map(|peer| peer.epoch).max().unwrap_or(0);
        format!("{}vars currentEpoch {epoch} lastVoteEpoch 0\n", self.text())
    }

    /// What it answers its agent. `online` are its replicas in sync.
    pub fn view(&mut self, now: Duration, online: u32, expected: Sha256) -> NodeView {
        let (digest, troubles) = self.seen().clone();
        let text = (digest != expected).then(|| self.text().to_owned());
        let me = self.myself();
        NodeView {
            node_id: self.me,
            role: me.role.clone(),
            cluster_ok: self.ok,
            known_nodes: u32::try_from(self.peers.len()).expect("few"),
            link_up: self.link_up(now),
            online_replicas: online,
            digest,
            nodes_text: text,
            troubles,
            keys: 0,
            config_epoch: me.epoch,
        }
    }

    /// Who has what, in its eyes, for comparing two of them.
    pub fn digest(&mut self) -> Sha256 {
        self.seen().0
    }
}

fn shares(role: &Role, slots: &[SlotRange]) -> bool {
    role.slots().iter().any(|own| slots.iter().any(|slot| slot.first() <= own.last() && own.first() <= slot.last()))
}
