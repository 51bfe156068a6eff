//! The cluster bus: whom the servers of the world reach, round by round, and who takes over.

use std::{collections::BTreeMap, time::Duration};

use muster_proto::{NodeId, Port, Sha256};

use super::{
    host::{Life, Nodes},
    redis::{Claim, Peer},
    world::{Event, ROUND, World},
};

/// Data of a server that keeps any is on disk after so long.
const KEPT: Duration = Duration::from_secs(1);

impl World {
    /// A round of every server's cron; where nothing has been done to anybody and nobody waits for anything, it would
    /// change nothing.
    pub fn round(&mut self) {
        let now = self.now;
        let restless = self.stirred || self.servers.values().any(|server| server.is_restless(now));
        if restless {
            self.stirred = self.gossip();
            self.elect();
            self.persist();
        }
        self.judge_round();
        for host in 0..self.hosts.len() {
            self.asked(host);
        }
        self.after(ROUND, Event::Round);
    }

    /// Whether anything has changed.
    fn gossip(&mut self) -> bool {
        let now = self.now;
        let claims: Vec<Claim> = self
            .servers
            .values()
            .filter(|server| server.is_awake(now) && server.bus > 0)
            .map(|it| it.claim())
            .collect();
        let addresses: BTreeMap<_, usize> =
            self.hosts.iter().enumerate().map(|(nth, host)| (host.address, nth)).collect();
        let mut servers = std::mem::take(&mut self.servers);
        let listens = |from: usize, peer: &Peer| {
            let host = *addresses.get(&peer.address)?;
            let found = claims.iter().find(|it| it.bus == peer.bus && it.host == host)?;
            self.connected(from, host).then_some(found)
        };
        // Who dials whom: the one that is dialled learns the address of the one that dials, if it has none.
        let nameless = servers.values().any(|server| server.peers.iter().any(|peer| peer.noaddr));
        let mut callers: BTreeMap<i32, Vec<&Claim>> = BTreeMap::new();
        for claim in claims.iter().filter(|_| nameless) {
            for peer in servers[&claim.pid].peers.iter().filter(|peer| !peer.noaddr && peer.id != claim.id) {
                if let Some(other) = listens(claim.host, peer) {
                    callers.entry(other.pid).or_default().push(claim);
                }
            }
        }
        let mut changed = false;
        for claim in &claims {
            let server = servers.get_mut(&claim.pid).expect("it has just claimed");
            let called = callers.remove(&claim.pid).unwrap_or_default();
            changed |= server.cron(now, &|peer| listens(claim.host, peer), &called);
        }
        self.servers = servers;
        changed
    }

    /// At most one replica is elected in a round: a second one would not get the votes.
    fn elect(&mut self) {
        let now = self.now;
        let stands = self.servers.values().find_map(|server| Some((server.pid, server.stands_for(now)?)));
        let Some((pid, master)) = stands else { return };
        let replica = &self.servers[&pid];
        let (voters, size) = replica.voters();
        let votes = |id: &&NodeId| {
            let voter = self.servers.values().find(|it| it.me == **id && it.is_awake(now));
            voter.is_some_and(|it| {
                self.connected(it.host, replica.host) && it.get(master).is_some_and(|peer| peer.failed)
            })
        };
        if voters.iter().filter(votes).count() < size / 2 + 1 {
            return;
        }
        let epoch = self.servers.values().flat_map(|it| &it.peers).map(|peer| peer.epoch).max().unwrap_or(0) + 1;
        let (host, port) = (replica.host, replica.port);
        self.tell(format!("{}:{port}", self.name(host)), format!("takes over, epoch {epoch}"));
        self.servers.get_mut(&pid).expect("it stands").promote(master, epoch);
        self.stirred = true;
    }

    /// nodes.conf and data.
    fn persist(&mut self) {
        let now = self.now;
        for server in self.servers.values_mut() {
            let place = self.hosts[server.host].disk.places.values_mut().find(|it| it.inode == server.home);
            let Some(directory) = place else { continue };
            if server.is_awake(now) {
                if !std::mem::replace(&mut server.kept, true) {
                    directory.nodes = Nodes::new(server.nodes_conf());
                }
                directory.data |= now - server.began >= KEPT;
            }
        }
    }

    /// How many replicas of a master are in sync.
    pub fn online(&self, pid: i32) -> u32 {
        let (now, master) = (self.now, &self.servers[&pid]);
        let follows = |server: &&super::redis::Server| {
            server.is_awake(now)
                && server.myself().role.master() == Some(master.me)
                && server.link_up(now)
                && self.connected(server.host, master.host)
        };
        u32::try_from(self.servers.values().filter(follows).count()).expect("few")
    }

    /// What a settled node of a cluster says, in its agent's eyes.
    pub fn expected(&mut self, host: usize, life: &Life) -> Sha256 {
        if let Some(known) = self.digests.get(life) {
            return *known;
        }
        let told = &self.hosts[host].disk.orders.assignment().clusters;
        let told = told.iter().find(|told| (told.cluster_id, told.incarnation) == *life);
        let digest = told.map_or(Sha256([0; 32]), |told| told.topology().digest());
        self.digests.insert(*life, digest);
        digest
    }

    /// Writes through masters, as an agent does it.
    pub fn canary(&self, host: usize, masters: &[(Port, usize)]) -> Result<(), String> {
        for (port, replicas) in masters {
            let home = self.hosts[host].disk.places.get(port).map(|directory| directory.inode);
            let server = self.servers.values().find(|it| it.host == host && Some(it.home) == home);
            let server = server.ok_or_else(|| format!("{port}: connection refused"))?;
            if !server.acknowledges(self.now) {
                return Err(format!("{port} does not take a write"));
            }
            let online = usize::try_from(self.online(server.pid)).expect("few");
            if online < *replicas {
                return Err(format!("{port}: {online} of {replicas} replicas have it"));
            }
        }
        Ok(())
    }
}
