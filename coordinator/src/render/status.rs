//! `muster status`: issues first, then by shard, then by host, each with the age of what is shown.
//!
//! Roles and slots are what an instance says of itself; the blueprint speaks only for one that was never seen, and that
//! is said. Where the two differ, Redis has the last word and the difference gets a note.

use std::collections::BTreeMap;

use muster_proto::{
    InstanceState,
    wire::{Cluster, ClusterInstance, GetStatusResponse, Host, Member, NodeView, Role},
};
use serde::Serialize;

use super::{
    address, age, count,
    finding::{self, FindingJson},
    hosts, moment,
    ps::AccountJson,
    slots, some, table,
};

/// Clusters, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct ClustersJson {
    clusters: Vec<ClusterJson>,
}

#[derive(Debug, Clone, Serialize)]
struct ClusterJson {
    cluster: String,
    cluster_id: String,
    incarnation: u64,
    state: String,
    masters: u32,
    instances: u32,
    formed_unix_ms: Option<u64>,
    rotation: Option<String>,
    roll: Option<String>,
    rebuild: Option<String>,
    protection: Option<String>,
    quarantined: Vec<String>,
}

/// A cluster's status, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct StatusJson {
    cluster: String,
    cluster_id: String,
    incarnation: u64,
    state: String,
    rotation: Option<String>,
    roll: Option<String>,
    rebuild: Option<String>,
    protection: Option<String>,
    quarantined: Vec<String>,
    instances: Vec<InstanceJson>,
    issues: Vec<FindingJson>,
    hosts: Vec<hosts::HostJson>,
}

#[derive(Debug, Clone, Serialize)]
struct InstanceJson {
    host: String,
    address: String,
    port: u32,
    pid: Option<i32>,
    node_id: String,
    role: &'static str,
    master: Option<String>,
    slots: String,
    state: &'static str,
    link: Option<&'static str>,
    age_ms: u64,
    reason: Option<String>,
    seen: bool,
    shard: u32,
    changed: Option<&'static str>,
    keys: Option<u64>,
    cluster_ok: bool,
    starts: u32,
    life: u64,
    #[serde(flatten)]
    account: AccountJson,
}

impl From<&[Cluster]> for ClustersJson {
    fn from(clusters: &[Cluster]) -> Self {
        let one = |cluster: &Cluster| ClusterJson {
            cluster: cluster.name.clone(),
            cluster_id: cluster.cluster_id.clone(),
            incarnation: cluster.incarnation,
            state: cluster.state.clone(),
            masters: cluster.masters,
            instances: cluster.instances,
            formed_unix_ms: Some(cluster.formed_unix_ms).filter(|formed| *formed > 0),
            rotation: some(&cluster.rotation),
            roll: some(&cluster.roll),
            rebuild: some(&cluster.rebuild),
            protection: some(&cluster.protection),
            quarantined: cluster.quarantined.clone(),
        };
        Self { clusters: clusters.iter().map(one).collect() }
    }
}

impl From<&GetStatusResponse> for StatusJson {
    fn from(answer: &GetStatusResponse) -> Self {
        let cluster = answer.cluster.clone().unwrap_or_default();
        Self {
            cluster: cluster.name,
            cluster_id: cluster.cluster_id,
            incarnation: cluster.incarnation,
            state: cluster.state,
            rotation: some(&cluster.rotation),
            roll: some(&cluster.roll),
            rebuild: some(&cluster.rebuild),
            protection: some(&cluster.protection),
            quarantined: cluster.quarantined,
            instances: seen(answer).iter().map(InstanceJson::from).collect(),
            issues: finding::json(&answer.issues),
            hosts: answer.hosts.iter().map(hosts::HostJson::from).collect(),
        }
    }
}

impl From<&Seen> for InstanceJson {
    fn from(seen: &Seen) -> Self {
        let (status, view) = (seen.instance.status.as_ref(), seen.view.as_ref());
        Self {
            host: seen.planned.host.clone(),
            address: seen.planned.address.clone(),
            port: seen.planned.port,
            pid: status.map(|status| status.pid).filter(|pid| *pid > 0),
            node_id: seen.planned.node_id.clone(),
            role: if seen.is_master() { "master" } else { "replica" },
            master: some(seen.master()),
            slots: seen.slots(),
            state: seen.state(),
            link: seen.link(),
            age_ms: seen.instance.age_ms,
            reason: status.and_then(|status| some(&status.reason)),
            seen: view.is_some(),
            shard: seen.shard,
            changed: seen.changed(),
            keys: view.map(|view| view.keys),
            cluster_ok: view.is_some_and(|view| view.cluster_ok),
            starts: status.map_or(0, |status| status.starts),
            life: status.map_or(0, |status| status.life),
            account: AccountJson::from(&status.and_then(|status| status.account.clone()).unwrap_or_default()),
        }
    }
}

/// An instance with what is believed of it.
struct Seen {
    instance: ClusterInstance,
    planned: Member,
    view: Option<NodeView>,
    /// The shard that it is in now, by the blueprint's numbers.
    shard: u32,
}

/// In blueprint order.
fn seen(answer: &GetStatusResponse) -> Vec<Seen> {
    let planned = answer.instances.iter().filter_map(|instance| instance.planned.as_ref());
    let shards: BTreeMap<&str, u32> = planned.map(|planned| (&*planned.node_id, planned.shard)).collect();
    let one = |instance: &ClusterInstance| {
        let status = instance.status.clone().unwrap_or_default();
        let view = status.view.clone().filter(|view| view.role() != Role::Unspecified);
        // A coordinator that sends no blueprint still sends where the instance is.
        let planned = instance.planned.clone().unwrap_or_else(|| Member {
            node_id: status.node_id.clone(),
            host: status.host.clone(),
            address: status.address.clone(),
            port: status.port,
            ..Member::default()
        });
        let followed = view.as_ref().and_then(|view| shards.get(&*view.master).copied());
        Seen { instance: instance.clone(), shard: followed.unwrap_or(planned.shard), planned, view }
    };
    answer.instances.iter().map(one).collect()
}

impl Seen {
    fn is_master(&self) -> bool {
        self.view.as_ref().map_or(self.planned.role(), NodeView::role) != Role::Replica
    }

    fn master(&self) -> &str {
        self.view.as_ref().map_or(&self.planned.master, |view| &view.master)
    }

    fn slots(&self) -> String {
        slots(self.view.as_ref().map_or(&self.planned.slots, |view| &view.slots))
    }

    fn state(&self) -> &'static str {
        use muster_proto::wire::InstanceState as Wire;
        let state = match self.instance.status.as_ref().map_or(Wire::Unspecified, |status| status.state()) {
            Wire::Absent => InstanceState::Absent,
            Wire::Prepared => InstanceState::Prepared,
            Wire::Starting => InstanceState::Starting,
            Wire::Running => InstanceState::Running,
            Wire::Stopping => InstanceState::Stopping,
            Wire::Stopped => InstanceState::Stopped,
            Wire::Down => InstanceState::Down,
            Wire::Blocked => InstanceState::Blocked,
            Wire::Unknown | Wire::Unspecified => InstanceState::Unknown,
        };
        state.word()
    }

    /// Of replicas: `up`, `down`, or `unknown` when what was seen last is not what runs now.
    fn link(&self) -> Option<&'static str> {
        if self.is_master() {
            return None;
        }
        Some(match &self.view {
            Some(view) if self.state() == "running" => {
                if view.link_up {
                    "up"
                } else {
                    "down"
                }
            }
            _ => "unknown",
        })
    }

    /// How it differs from the blueprint: `promoted`, `demoted`, `moved` (copies another shard), `slots`.
    fn changed(&self) -> Option<&'static str> {
        let view = self.view.as_ref()?;
        match (self.planned.role(), view.role()) {
            (Role::Replica, Role::Master) => Some("promoted"),
            (Role::Master, Role::Replica) => Some("demoted"),
            (Role::Replica, Role::Replica) if self.shard != self.planned.shard => Some("moved"),
            (Role::Master, Role::Master) if self.planned.slots != view.slots => Some("slots"),
            _ => None,
        }
    }

    fn note(&self) -> String {
        let mut notes: Vec<String> = Vec::new();
        match self.changed() {
            Some("promoted") => notes.push("promoted, planned as a replica".into()),
            Some("demoted") => notes.push("was master by plan".into()),
            Some("moved") => notes.push(format!("planned for shard {}", self.planned.shard)),
            Some(_) => notes.push(format!("planned for {}", slots(&self.planned.slots))),
            None => {}
        }
        match &self.view {
            None => notes.push("never seen; role and slots are the plan's".into()),
            Some(view) if !view.cluster_ok && self.state() == "running" => notes.push("says cluster_state:fail".into()),
            Some(_) => {}
        }
        notes.extend(self.instance.status.as_ref().and_then(|status| some(&status.reason)));
        notes.join("; ")
    }

    fn name(&self) -> String {
        format!("{}:{}", self.planned.host, self.planned.port)
    }
}

/// One line a cluster.
pub fn list(clusters: &[Cluster]) -> String {
    if clusters.is_empty() {
        return "No clusters yet. Form one: muster bootstrap cluster.toml\n".to_owned();
    }
    let row = |cluster: &Cluster| {
        [
            cluster.name.clone(),
            cluster.state.clone(),
            cluster.incarnation.to_string(),
            cluster.masters.to_string(),
            cluster.instances.to_string(),
            moment(cluster.formed_unix_ms),
            remarks(cluster)
                .map(|(what, text)| format!("{}: {text}", what.to_lowercase()))
                .collect::<Vec<_>>()
                .join("; "),
        ]
    };
    let header = ["CLUSTER", "STATE", "INCARNATION", "MASTERS", "INSTANCES", "FORMED", "NOTE"];
    table(header, clusters.iter().map(row).collect())
}

/// The whole status.
pub fn text(answer: &GetStatusResponse) -> String {
    let seen = seen(answer);
    let mut parts = vec![heading(answer, &seen)];
    parts.push(finding::text(&answer.issues));
    parts.push(by_shard(&seen));
    parts.push(by_host(&answer.hosts, &seen));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn heading(answer: &GetStatusResponse, seen: &[Seen]) -> String {
    let cluster = answer.cluster.clone().unwrap_or_default();
    let running = seen.iter().filter(|seen| seen.state() == "running").count();
    let line = format!(
        "Cluster {}: {}, incarnation {}, {} of {} running, {}\n",
        cluster.name,
        cluster.state,
        cluster.incarnation,
        running,
        count(seen.len(), "instance"),
        if answer.issues.is_empty() { "no issues".to_owned() } else { count(answer.issues.len(), "issue") },
    );
    let said = remarks(&cluster).map(|(what, text)| format!("{what}: {text}\n"));
    format!("{line}{}", said.collect::<String>())
}

/// What is under way, who has protected it, and what an earlier life has left on hosts that were not there.
fn remarks(cluster: &Cluster) -> impl Iterator<Item = (&'static str, String)> {
    let all = [
        ("Rotation", cluster.rotation.clone()),
        ("Under way", cluster.roll.clone()),
        ("Rebuild", cluster.rebuild.clone()),
        ("Protected", cluster.protection.clone()),
        ("Quarantined", cluster.quarantined.join(", ")),
    ];
    all.into_iter().filter(|(_, text)| !text.is_empty())
}

/// The master of each shard first: not the planned one but the one that is.
fn by_shard(seen: &[Seen]) -> String {
    let mut sorted: Vec<&Seen> = seen.iter().collect();
    // A dead master goes on calling itself one in its last view: whoever runs stands before it.
    sorted.sort_by_key(|seen| (seen.shard, !seen.is_master(), seen.state() != "running"));
    let mut before = None;
    let row = |seen: &&Seen| {
        let first = before.replace(seen.shard) != Some(seen.shard);
        [
            if first { seen.shard.to_string() } else { String::new() },
            if seen.is_master() { "master".to_owned() } else { "replica".to_owned() },
            seen.name(),
            address(&seen.planned.address, seen.planned.port),
            seen.slots(),
            seen.state().to_owned(),
            seen.link().unwrap_or("-").to_owned(),
            seen.view.as_ref().map_or_else(|| "-".to_owned(), |view| view.keys.to_string()),
            if seen.view.is_some() { age(seen.instance.age_ms) } else { "-".to_owned() },
            seen.note(),
        ]
    };
    let rows: Vec<_> = sorted.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    table(["SHARD", "ROLE", "INSTANCE", "ADDRESS", "SLOTS", "STATE", "LINK", "KEYS", "AGE", "NOTE"], rows)
}

fn by_host(all: &[Host], seen: &[Seen]) -> String {
    let row = |host: &Host| {
        let mut here: Vec<&Seen> = seen.iter().filter(|seen| seen.planned.host == host.name).collect();
        here.sort_by_key(|seen| seen.planned.port);
        let one =
            |seen: &Seen| format!("{} {}", seen.planned.port, if seen.is_master() { "master" } else { "replica" });
        [
            host.name.clone(),
            host.address.clone(),
            hosts::state(host).to_owned(),
            age(host.age_ms),
            here.into_iter().map(one).collect::<Vec<_>>().join(", "),
        ]
    };
    if all.is_empty() {
        return String::new();
    }
    table(["HOST", "ADDRESS", "AGENT", "AGE", "INSTANCES"], all.iter().map(row).collect())
}

#[cfg(test)]
pub(crate) mod tests;
