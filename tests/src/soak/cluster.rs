//! A cluster as its own servers show it: who serves what, and whether all is well. Nothing that Muster says.

use std::time::Duration;

use muster_proto::{
    Role, SlotRange,
    view::{self, View},
};

use super::talk::{Reply, Talk};
use crate::Status;

/// For one answer of a server that lives.
const PATIENCE: Duration = Duration::from_millis(500);

/// An instance.
#[derive(Debug, Clone)]
pub struct Place {
    /// `a:7000`.
    pub name: String,
    /// Its host, by number.
    pub host: usize,
    /// `127.0.7.1:7000`.
    pub endpoint: String,
    /// Its port, and the name of its directory.
    pub port: u16,
    /// Its shard. No node changes its shard: replicas do not migrate.
    pub shard: usize,
    /// It was a master when the cluster was formed.
    pub leads: bool,
}

/// The cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// Its instances, in blueprint order.
    pub places: Vec<Place>,
    /// The slots of its shards.
    pub shards: Vec<SlotRange>,
}

impl Cluster {
    /// One that was just formed.
    pub fn of(number: usize, status: &Status, hosts: &[String]) -> Self {
        let masters: Vec<_> = status.instances.iter().filter(|one| one.is_master()).collect();
        let mut shards: Vec<SlotRange> = masters.iter().map(|one| one.slots.parse().expect("one range")).collect();
        shards.sort();
        let place = |one: &crate::Instance| {
            let leader = one.master.as_ref().unwrap_or(&one.node_id);
            let master = masters.iter().find(|master| master.node_id == *leader).expect("a master is a member");
            let slots: SlotRange = master.slots.parse().expect("one range");
            Place {
                name: one.name(),
                host: hosts.iter().position(|host| *host == one.host).expect("a host of ours"),
                endpoint: one.endpoint(),
                port: one.port,
                shard: shards.iter().position(|known| *known == slots).expect("its own"),
                leads: one.is_master(),
            }
        };
        let places = status.instances.iter().map(place).collect();
        Self { number, name: status.cluster.clone(), places, shards }
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| place.endpoint.clone()).collect()
    }

    /// The shard of a slot.
    pub fn shard(&self, slot: u16) -> usize {
        self.shards.iter().position(|range| range.contains(slot)).expect("shards cover all slots")
    }

    /// Whether every node agrees, says ok, and is in sync to what its master had a moment before; then the number of
    /// keys of each shard's master.
    pub fn well(&self) -> Result<Vec<u64>, String> {
        let mut agreed: Option<String> = None;
        let mut keys = vec![None; self.shards.len()];
        let mut offsets = vec![0; self.shards.len()];
        let mut replicas = Vec::new();
        for place in &self.places {
            let failed = |error: std::io::Error| format!("{}: {error}", place.name);
            let mut talk = Talk::to(&place.endpoint, PATIENCE).map_err(failed)?;
            let seen = view(&mut talk).map_err(|why| format!("{}: {why}", place.name))?;
            if let Some(trouble) = seen.troubles.first() {
                return Err(format!("{} thinks that {trouble}", place.name));
            }
            if !talk.text(&["CLUSTER", "INFO"]).map_err(failed)?.contains("cluster_state:ok") {
                return Err(format!("{} does not say cluster_state:ok", place.name));
            }
            let canonical = seen.topology.canonical();
            if agreed.get_or_insert_with(|| canonical.clone()) != &canonical {
                return Err(format!("{} does not agree", place.name));
            }
            let info = talk.text(&["INFO", "replication"]).map_err(failed)?;
            if field(&info, "role") == Some("master") {
                let Reply::Number(size) = talk.ask(&["DBSIZE"]).map_err(failed)? else {
                    return Err(format!("{} does not count its keys", place.name));
                };
                keys[place.shard] = u64::try_from(size).ok();
                offsets[place.shard] = number(&info, "master_repl_offset");
            } else {
                replicas.push((place, talk));
            }
        }
        // Asked after all masters: a replica that has as much as its master had is in sync.
        for (place, mut talk) in replicas {
            let info = talk.text(&["INFO", "replication"]).map_err(|error| format!("{}: {error}", place.name))?;
            let linked = field(&info, "master_link_status") == Some("up");
            let synced = linked && field(&info, "master_sync_in_progress") == Some("0");
            if !synced || number(&info, "slave_repl_offset") < offsets[place.shard] {
                return Err(format!("{} is not in sync", place.name));
            }
        }
        keys.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| "a shard has no master".to_owned())
    }
}

/// A node's own view.
pub fn view(talk: &mut Talk) -> Result<View, String> {
    let text = talk.text(&["CLUSTER", "NODES"]).map_err(|error| error.to_string())?;
    view::parse(&text).map_err(|error| error.to_string())
}

/// With which epoch it serves slots, by its own word; none when it does not.
pub fn serves(view: &View) -> Option<u64> {
    let myself = view.topology.get(view.myself)?;
    matches!(&myself.role, Role::Master { slots } if !slots.is_empty()).then_some(view.config_epoch)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn number(info: &str, name: &str) -> u64 {
    field(info, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}
