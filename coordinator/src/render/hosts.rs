//! `muster hosts`: every host that ever connected, with the age of what is shown.

use muster_proto::wire::{Fact, Host, HostPort, HostState, ListHostsResponse};
use serde::Serialize;

use super::{
    ServerJson, age,
    finding::{self, FindingJson},
    some, table,
    trust::{self, TrustJson},
};

/// All hosts, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct HostsJson {
    hosts: Vec<HostJson>,
    coordinator_version: String,
    term: u64,
}

/// One host, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct HostJson {
    name: String,
    address: String,
    state: &'static str,
    age_ms: u64,
    agent_version: String,
    server: Option<ServerJson>,
    server_error: Option<String>,
    ports: Vec<PortJson>,
    base_dir: String,
    rack: Option<String>,
    zone: Option<String>,
    generation: u64,
    accepted: u64,
    converged: u64,
    refusal: Option<String>,
    trust: Option<TrustJson>,
    facts: Vec<FactJson>,
    facts_error: Option<String>,
    findings: Vec<FindingJson>,
}

#[derive(Debug, Clone, Serialize)]
struct FactJson {
    name: String,
    value: String,
    good: bool,
    why: Option<String>,
    cure: Option<String>,
}

impl From<&Fact> for FactJson {
    fn from(fact: &Fact) -> Self {
        let Fact { name, value, good, why, cure } = fact.clone();
        Self { name, value, good, why: some(&why), cure: some(&cure) }
    }
}

#[derive(Debug, Clone, Serialize)]
struct PortJson {
    port: u32,
    r#use: String,
}

impl From<&ListHostsResponse> for HostsJson {
    fn from(answer: &ListHostsResponse) -> Self {
        Self {
            hosts: answer.hosts.iter().map(HostJson::from).collect(),
            coordinator_version: answer.coordinator_version.clone(),
            term: answer.term,
        }
    }
}

impl From<&Host> for HostJson {
    fn from(host: &Host) -> Self {
        let port = |port: &HostPort| PortJson { port: port.port, r#use: port.r#use.clone() };
        Self {
            name: host.name.clone(),
            address: host.address.clone(),
            state: state(host),
            age_ms: host.age_ms,
            agent_version: host.agent_version.clone(),
            server: host.server.as_ref().map(ServerJson::from),
            server_error: some(&host.server_error),
            ports: host.ports.iter().map(port).collect(),
            base_dir: host.base_dir.clone(),
            rack: some(&host.rack),
            zone: some(&host.zone),
            generation: host.generation,
            accepted: host.accepted,
            converged: host.converged,
            refusal: some(&host.refusal),
            trust: host.trust.as_ref().map(TrustJson::from),
            facts: host.facts.iter().map(FactJson::from).collect(),
            facts_error: some(&host.facts_error),
            findings: finding::json(&host.findings),
        }
    }
}

/// `live` or `unknown`; what this build does not know is unknown.
pub fn state(host: &Host) -> &'static str {
    match host.state() {
        HostState::Live => "live",
        HostState::Unknown | HostState::Unspecified => "unknown",
    }
}

/// A table, and a line for each host that refused what it was told or has nothing to start.
pub fn text(answer: &ListHostsResponse) -> String {
    if answer.hosts.is_empty() {
        return "No agent has connected yet. Start one on each host: muster-agent --config agent.toml; where it dials \
                https, let it in first: muster token create --host NAME\n"
            .to_owned();
    }
    let row = |host: &Host| {
        let server = host.server.as_ref().map(|server| format!("{} {}", server.flavour, server.version));
        [
            host.name.clone(),
            host.address.clone(),
            state(host).to_owned(),
            host.trust.as_ref().map_or("-", trust::state).to_owned(),
            host.trust.as_ref().map_or_else(|| "-".to_owned(), trust::expiry),
            age(host.age_ms),
            host.agent_version.clone(),
            server.unwrap_or_else(|| "none".to_owned()),
            ports(&host.ports),
        ]
    };
    let rows = answer.hosts.iter().map(row).collect();
    let notes: String = answer.hosts.iter().flat_map(notes).map(|note| note + "\n").collect();
    table(["HOST", "ADDRESS", "AGENT", "TRUST", "CERTIFICATE", "AGE", "VERSION", "SERVER", "PORTS"], rows) + &notes
}

/// Whether every host has said how it is, and all of it is as it should be.
pub fn all_good(answer: &ListHostsResponse) -> bool {
    answer.hosts.iter().all(|host| !host.facts.is_empty() && host.facts.iter().all(|fact| fact.good))
}

/// How each host is set up, what is wrong with what it does and what to type below it.
pub fn facts_text(answer: &ListHostsResponse) -> String {
    let rows = answer.hosts.iter().flat_map(|host| {
        let mark = |fact: &Fact| if fact.good { "ok" } else { "BAD" }.to_owned();
        let row = |fact: &Fact| [host.name.clone(), fact.name.clone(), fact.value.clone(), mark(fact)];
        host.facts.iter().map(row).collect::<Vec<_>>()
    });
    let bad = |host: &Host| {
        let silent = some(&host.facts_error).map(|why| format!("{}: not known: {why}\n", host.name));
        let wrong = host.facts.iter().filter(|fact| !fact.good);
        let wrong = wrong.map(|fact| format!("{}: {}\n    cure: {}\n", host.name, fact.why, fact.cure));
        silent.into_iter().chain(wrong).collect::<String>()
    };
    let bad: String = answer.hosts.iter().map(bad).collect();
    table(["HOST", "FACT", "VALUE", "JUDGED"], rows.collect()) + &bad
}

fn notes(host: &Host) -> Vec<String> {
    let mut notes: Vec<_> = host.trust.as_ref().and_then(|trust| trust::note(&host.name, trust)).into_iter().collect();
    if !host.refusal.is_empty() {
        notes.push(format!("{} refuses generation {}: {}", host.name, host.generation, host.refusal));
    } else if host.converged < host.generation {
        notes.push(format!("{} is on its way to generation {} from {}", host.name, host.generation, host.converged));
    }
    if !host.server_error.is_empty() {
        notes.push(format!("{} has no server to start: {}", host.name, host.server_error));
    }
    notes.extend(Some(finding::text(&host.findings).trim_end().to_owned()).filter(|text| !text.is_empty()));
    notes
}

/// Ports in runs of equal use: `7000-7002 free, 7003 foreign`.
fn ports(ports: &[HostPort]) -> String {
    let mut runs: Vec<(u32, u32, &str)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last, r#use)) if *last + 1 == port.port && *r#use == port.r#use => *last = port.port,
            _ => runs.push((port.port, port.port, &port.r#use)),
        }
    }
    let run = |(first, last, r#use): (u32, u32, &str)| match first == last {
        true => format!("{first} {use}"),
        false => format!("{first}-{last} {use}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{document, trust::tests::trust};
    use expect_test::expect;
    use muster_proto::wire::{Server, TrustState};

    fn two() -> ListHostsResponse {
        let port = |(port, r#use): (u32, &str)| HostPort { port, r#use: r#use.into() };
        let server1 = Host {
            name: "server1".into(),
            address: "127.0.0.1".into(),
            state: HostState::Live.into(),
            age_ms: 420,
            agent_version: "0.1.0".into(),
            server: Some(Server {
                path: "/usr/bin/redis-server".into(),
                flavour: "redis".into(),
                version: "7.0.15".into(),
            }),
            ports: [(7000, "orders"), (7001, "orders"), (7002, "free"), (7010, "foreign")].map(port).into(),
            base_dir: "/var/lib/muster".into(),
            generation: 3,
            accepted: 3,
            converged: 3,
            trust: Some(trust(TrustState::Approved, "")),
            ..Host::default()
        };
        let server2 = Host {
            name: "server2".into(),
            address: "127.0.0.2".into(),
            state: HostState::Unknown.into(),
            age_ms: 190_000,
            agent_version: "0.1.0".into(),
            server_error: "redis-server: not found in PATH".into(),
            generation: 4,
            accepted: 3,
            converged: 3,
            refusal: "term 2 is lower than 5".into(),
            trust: Some(trust(TrustState::Quarantined, "seen twice")),
            findings: vec![muster_proto::wire::Finding {
                severity: muster_proto::wire::Severity::Fatal.into(),
                code: "LEDGER_UNKNOWN".into(),
                host: "server2".into(),
                subject: "agent".into(),
                message: "holds cluster orders".into(),
                cure: "recover".into(),
            }],
            ..Host::default()
        };
        ListHostsResponse { hosts: vec![server1, server2], coordinator_version: "0.1.0".into(), term: 2 }
    }

    #[test]
    fn hosts_are_a_table_with_notes() {
        expect![[r#"
            HOST     ADDRESS    AGENT    TRUST        CERTIFICATE           AGE    VERSION  SERVER        PORTS
            server1  127.0.0.1  live     approved     2026-11-29T22:00:00Z  0.4 s  0.1.0    redis 7.0.15  7000-7001 orders, 7002 free, 7010 foreign
            server2  127.0.0.2  unknown  quarantined  2026-11-29T22:00:00Z  3 min  0.1.0    none
            server2 is quarantined (seen twice); to let it back: muster host approve server2, or where somebody else may have its key: muster host rejoin-token server2
            server2 refuses generation 4: term 2 is lower than 5
            server2 has no server to start: redis-server: not found in PATH
            [FATAL] LEDGER_UNKNOWN: server2 agent: holds cluster orders
                    cure: recover
        "#]]
        .assert_eq(&text(&two()));
        expect![[r#"
            No agent has connected yet. Start one on each host: muster-agent --config agent.toml; where it dials https, let it in first: muster token create --host NAME
        "#]]
        .assert_eq(&text(&ListHostsResponse::default()));
    }

    #[test]
    fn hosts_are_a_document() {
        expect![[r#"
            {
              "hosts": [
                {
                  "name": "server1",
                  "address": "127.0.0.1",
                  "state": "live",
                  "age_ms": 420,
                  "agent_version": "0.1.0",
                  "server": {
                    "path": "/usr/bin/redis-server",
                    "flavour": "redis",
                    "version": "7.0.15"
                  },
                  "server_error": null,
                  "ports": [
                    {
                      "port": 7000,
                      "use": "orders"
                    },
                    {
                      "port": 7001,
                      "use": "orders"
                    },
                    {
                      "port": 7002,
                      "use": "free"
                    },
                    {
                      "port": 7010,
                      "use": "foreign"
                    }
                  ],
                  "base_dir": "/var/lib/muster",
                  "rack": null,
                  "zone": null,
                  "generation": 3,
                  "accepted": 3,
                  "converged": 3,
                  "refusal": null,
                  "trust": {
                    "state": "approved",
                    "reason": null,
                    "since_unix_ms": 1795384800000,
                    "key_sha256": "abababababababababababababababababababababababababababababababab",
                    "certificate_expires_unix_ms": 1795989600000
                  },
                  "facts": [],
                  "facts_error": null,
                  "findings": []
                },
                {
                  "name": "server2",
                  "address": "127.0.0.2",
                  "state": "unknown",
                  "age_ms": 190000,
                  "agent_version": "0.1.0",
                  "server": null,
                  "server_error": "redis-server: not found in PATH",
                  "ports": [],
                  "base_dir": "",
                  "rack": null,
                  "zone": null,
                  "generation": 4,
                  "accepted": 3,
                  "converged": 3,
                  "refusal": "term 2 is lower than 5",
                  "trust": {
                    "state": "quarantined",
                    "reason": "seen twice",
                    "since_unix_ms": 1795384800000,
                    "key_sha256": "abababababababababababababababababababababababababababababababab",
                    "certificate_expires_unix_ms": 1795989600000
                  },
                  "facts": [],
                  "facts_error": null,
                  "findings": [
                    {
                      "severity": "fatal",
                      "code": "LEDGER_UNKNOWN",
                      "host": "server2",
                      "subject": "agent",
                      "message": "holds cluster orders",
                      "cure": "recover"
                    }
                  ]
                }
              ],
              "coordinator_version": "0.1.0",
              "term": 2
            }
        "#]]
        .assert_eq(&document(&HostsJson::from(&two())));
    }
}
