//! What a rebuilt store is shown as, for people and for scripts.

use muster_proto::{Secret, wire};
use serde::Serialize;

use super::{Cluster, Host, Rebuilt, Standing, list};
use crate::render::{count, finding, table};

/// What no agent knows, and what is to be done about it where that is anything.
const NOT_RECOVERED: [&str; 4] = [
    "operations, plans, events, request ids and the audit of before; a stop or restart under way: type it again",
    "users and their access strings: muster user add NAME --role ROLE",
    "join tokens: muster token create --host HOST",
    "when clusters were formed: now stands for it",
];
const AUTHORITY: &str = "the fleet's authority: a new one signs, and every host and context is enrolled with it anew";
const CLIENTS: &str = "passwords of clients: they are accepted as before, and only their hashes are known; muster \
    credentials rotate draws new ones";

/// A join token for a host that a new authority does not know yet.
#[derive(Debug, Clone, Serialize)]
pub struct TokenJson {
    host: String,
    #[serde(serialize_with = "crate::render::exposed")]
    token: Secret,
}

/// Tokens, for scripts: one line, before anything is waited for.
#[derive(Debug, Clone, Serialize)]
pub struct TokensJson {
    tokens: Vec<TokenJson>,
}

impl TokensJson {
    /// Of hosts and their tokens.
    pub fn new(tokens: &[(String, Secret)]) -> Self {
        let one = |(host, token): &(String, Secret)| TokenJson { host: host.clone(), token: token.clone() };
        Self { tokens: tokens.iter().map(one).collect() }
    }
}

/// The outcome, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct RecoverJson {
    written: bool,
    term: u64,
    clusters: Vec<ClusterJson>,
    hosts: Vec<HostJson>,
    findings: Vec<finding::FindingJson>,
    not_recovered: Vec<&'static str>,
    next: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct ClusterJson {
    name: String,
    cluster_id: String,
    incarnation: u64,
    state: &'static str,
    masters: usize,
    instances: usize,
    by: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct HostJson {
    name: String,
    told: &'static str,
    generation: u64,
    directories: usize,
    running: usize,
}

fn state(cluster: &Cluster) -> &'static str {
    match (cluster.record.formed_ms, cluster.record.goal) {
        (Some(_), _) => "formed",
        (None, crate::formation::Goal::SetAside) => "cancelling",
        (None, _) => "forming",
    }
}

fn told(host: &Host) -> &'static str {
    match host.standing {
        Standing::Same => "the same",
        Standing::Anew => "anew",
        Standing::Idle => "nothing yet",
        Standing::LeftAlone => "nothing",
        Standing::Missing => "when it calls",
    }
}

fn not_recovered(rebuilt: &Rebuilt, tls: bool) -> Vec<&'static str> {
    let credentials = |cluster: &Cluster| cluster.record.credentials.as_ref().is_some_and(|one| one.has_passwords());
    let clients = rebuilt.clusters.iter().any(credentials).then_some(CLIENTS);
    NOT_RECOVERED.into_iter().chain(clients).chain(tls.then_some(AUTHORITY)).collect()
}

/// What to type when it is written.
pub fn next(rebuilt: &Rebuilt) -> Vec<String> {
    let mut next = vec!["systemctl start muster-coordinator".to_owned(), "muster hosts".to_owned()];
    for cluster in &rebuilt.clusters {
        let name = &cluster.record.blueprint.cluster;
        next.extend([format!("muster status {name}"), format!("muster check {name}")]);
        let Some(credentials) = &cluster.record.credentials else { continue };
        let rotation = credentials.rotation.is_some();
        next.extend(rotation.then(|| format!("muster credentials finish {name}")));
        if credentials.has_passwords() {
            next.push(format!("muster credentials rotate {name}"));
        }
        next.extend(credentials.signing().map(|_| format!("muster credentials rotate {name} --certificates")));
    }
    next
}

fn findings(rebuilt: &Rebuilt) -> Vec<wire::Finding> {
    rebuilt.findings.iter().cloned().map(wire::Finding::from).collect()
}

/// For scripts.
pub fn json(rebuilt: &Rebuilt, tls: bool, written: bool) -> RecoverJson {
    let cluster = |cluster: &Cluster| ClusterJson {
        name: cluster.record.blueprint.cluster.to_string(),
        cluster_id: cluster.record.blueprint.cluster_id.to_string(),
        incarnation: cluster.record.blueprint.incarnation.0,
        state: state(cluster),
        masters: cluster.record.blueprint.masters(),
        instances: cluster.record.blueprint.members.len(),
        by: cluster.by.iter().map(ToString::to_string).collect(),
    };
    let host = |(name, host): (&muster_proto::HostName, &Host)| HostJson {
        name: name.to_string(),
        told: told(host),
        generation: host.generation.0,
        directories: host.directories,
        running: host.running,
    };
    RecoverJson {
        written,
        term: rebuilt.term.0,
        clusters: rebuilt.clusters.iter().map(cluster).collect(),
        hosts: rebuilt.hosts.iter().map(host).collect(),
        findings: finding::json(&findings(rebuilt)),
        not_recovered: not_recovered(rebuilt, tls),
        next: next(rebuilt),
    }
}

/// For people, before they are asked.
pub fn plan(rebuilt: &Rebuilt, tls: bool) -> String {
    let cluster = |cluster: &Cluster| {
        let blueprint = &cluster.record.blueprint;
        [
            blueprint.cluster.to_string(),
            blueprint.incarnation.to_string(),
            state(cluster).to_owned(),
            blueprint.masters().to_string(),
            blueprint.members.len().to_string(),
            list(&cluster.by),
        ]
    };
    let host = |(name, host): (&muster_proto::HostName, &Host)| {
        [
            name.to_string(),
            told(host).to_owned(),
            host.generation.to_string(),
            host.directories.to_string(),
            host.running.to_string(),
        ]
    };
    let clusters = rebuilt.clusters.iter().map(cluster).collect();
    let hosts = rebuilt.hosts.iter().map(host).collect();
    let lost: String = not_recovered(rebuilt, tls).into_iter().map(|what| format!("  {what}\n")).collect();
    format!(
        ">>> What the agents hold: {}, {}; the store goes on in term {}\n{}\n{}\n{}Not recovered:\n{lost}",
        count(rebuilt.clusters.len(), "cluster"),
        count(rebuilt.hosts.len(), "host"),
        rebuilt.term,
        table(["CLUSTER", "INCARNATION", "STATE", "MASTERS", "INSTANCES", "BY THE LEDGERS OF"], clusters),
        table(["HOST", "IS TOLD", "GENERATION", "DIRECTORIES", "RUNNING"], hosts),
        finding::text(&findings(rebuilt)),
    )
}
