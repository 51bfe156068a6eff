//! `muster plan` and what `muster bootstrap` shows before it asks: the plan as redis-trib printed it, and then what the
//! death of each host would mean.

use muster_proto::wire::{ExistingCluster, Loss, Plan, PlannedInstance, PlannedShard};
use serde::Serialize;

use super::{
    ServerJson, address, count, finding, finding::FindingJson, rebuild::RebuildJson, slot_count, slots, some, table,
    took,
};

/// What `muster plan` answers, for scripts: exactly one of the two is there.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerJson {
    /// What a bootstrap would do.
    pub plan: Option<PlanJson>,
    /// What is there already.
    pub existing: Option<ExistingJson>,
}

/// A cluster that was made from this very spec.
#[derive(Debug, Clone, Serialize)]
pub struct ExistingJson {
    name: String,
    formed: bool,
    operation_id: String,
}

/// A plan, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct PlanJson {
    hash: String,
    cluster: String,
    masters: usize,
    instances: usize,
    server: Option<ServerJson>,
    shards: Vec<ShardJson>,
    losses: Vec<LossJson>,
    advice: Option<String>,
    findings: Vec<FindingJson>,
    auth: &'static str,
    tls: bool,
    expires_unix_ms: u64,
    preflight_micros: u64,
    rebuild: Option<RebuildJson>,
}

#[derive(Debug, Clone, Serialize)]
struct ShardJson {
    slots: String,
    master: PlannedJson,
    replicas: Vec<PlannedJson>,
}

#[derive(Debug, Clone, Serialize)]
struct PlannedJson {
    host: String,
    address: String,
    port: u32,
    why: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct LossJson {
    host: String,
    survives: bool,
    instances_lost: u32,
    masters_lost: u32,
    masters: u32,
    slots_lost: u32,
    shards_without_replica: u32,
    meaning: String,
}

impl From<&ExistingCluster> for ExistingJson {
    fn from(existing: &ExistingCluster) -> Self {
        Self { name: existing.name.clone(), formed: existing.formed, operation_id: existing.operation_id.clone() }
    }
}

impl From<&Plan> for PlanJson {
    fn from(plan: &Plan) -> Self {
        Self {
            hash: plan.hash.clone(),
            cluster: cluster(plan).to_owned(),
            masters: plan.shards.len(),
            instances: everyone(plan).count(),
            server: plan.server.as_ref().map(ServerJson::from),
            shards: plan.shards.iter().map(ShardJson::from).collect(),
            losses: plan.losses.iter().map(LossJson::from).collect(),
            advice: some(&plan.advice),
            findings: finding::json(&plan.findings),
            auth: if is_open(plan) { "none" } else { "passwords" },
            tls: plan.spec.as_ref().and_then(|spec| spec.tls.as_ref()).is_some_and(|tls| tls.on),
            expires_unix_ms: plan.expires_unix_ms,
            preflight_micros: plan.preflight_micros,
            rebuild: plan.rebuild.as_ref().map(RebuildJson::from),
        }
    }
}

impl From<&PlannedShard> for ShardJson {
    fn from(shard: &PlannedShard) -> Self {
        Self {
            slots: slots(shard.slots.as_slice()),
            master: PlannedJson::from(&shard.master.clone().unwrap_or_default()),
            replicas: shard.replicas.iter().map(PlannedJson::from).collect(),
        }
    }
}

impl From<&PlannedInstance> for PlannedJson {
    fn from(planned: &PlannedInstance) -> Self {
        Self {
            host: planned.host.clone(),
            address: planned.address.clone(),
            port: planned.port,
            why: some(&planned.why),
        }
    }
}

impl From<&Loss> for LossJson {
    fn from(loss: &Loss) -> Self {
        Self {
            host: loss.host.clone(),
            survives: loss.survives,
            instances_lost: loss.instances_lost,
            masters_lost: loss.masters_lost,
            masters: loss.masters,
            slots_lost: loss.slots_lost,
            shards_without_replica: loss.shards_without_replica,
            meaning: loss.meaning.clone(),
        }
    }
}

/// How much of a plan to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Who would be what.
    Brief,
    /// And why there.
    Why,
}

/// The cluster that a plan is for.
pub fn cluster(plan: &Plan) -> &str {
    plan.spec.as_ref().map_or("", |spec| &spec.name)
}

/// Whether the cluster would take orders from whoever reaches it.
pub fn is_open(plan: &Plan) -> bool {
    plan.spec.as_ref().and_then(|spec| spec.auth.as_ref()).is_some_and(|auth| auth.none)
}

/// The plan: masters, slots and replicas; by shard and host; losses; advice; findings.
pub fn text(plan: &Plan, detail: Detail) -> String {
    let mut parts = vec![heading(plan)];
    if !plan.shards.is_empty() {
        parts.extend([members(plan, detail), by_shard(plan), by_host(plan)]);
    }
    parts.extend([losses(plan), finding::text(&plan.findings)]);
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn heading(plan: &Plan) -> String {
    let server = plan.server.as_ref().map(|server| format!(" of {} {}", server.flavour, server.version));
    let what = match everyone(plan).count() {
        0 => "nothing can be placed".to_owned(),
        instances => format!("{}{}", count(instances, "instance"), server.unwrap_or_default()),
    };
    let title = if plan.rebuild.is_some() { "After it, cluster" } else { "Plan for cluster" };
    let mut text = format!(">>> {title} {}: {what}; preflight took {}\n", cluster(plan), took(plan.preflight_micros));
    if is_open(plan) {
        text += "[OPEN]  auth = \"none\": whoever reaches these ports reads, writes and wipes this cluster\n";
    }
    if !plan.shards.is_empty() {
        text += &format!("Using {}:\n", count(plan.shards.len(), "master"));
    }
    for master in plan.shards.iter().filter_map(|shard| shard.master.as_ref()) {
        text += &format!("{}\n", place(master));
    }
    text
}

fn members(plan: &Plan, detail: Detail) -> String {
    let mut text = String::new();
    let mut say = |letter: &str, planned: &PlannedInstance, what: String| {
        text += &format!("{letter}: {} {} {what}\n", planned.host, place(planned));
        if detail == Detail::Why && !planned.why.is_empty() {
            text += &format!("   because {}\n", planned.why);
        }
    };
    for shard in &plan.shards {
        let Some(master) = &shard.master else { continue };
        let ranges = shard.slots.as_slice();
        say("M", master, format!("slots:{} ({})", slots(ranges), count(slot_count(ranges), "slot")));
        for replica in &shard.replicas {
            say("S", replica, format!("replicates {}", place(master)));
        }
    }
    text
}

fn by_shard(plan: &Plan) -> String {
    let name = |planned: &PlannedInstance| format!("{}:{}", planned.host, planned.port);
    let row = |(nth, shard): (usize, &PlannedShard)| {
        [
            nth.to_string(),
            slots(shard.slots.as_slice()),
            shard.master.as_ref().map(name).unwrap_or_default(),
            shard.replicas.iter().map(name).collect::<Vec<_>>().join(", "),
        ]
    };
    table(["SHARD", "SLOTS", "MASTER", "REPLICAS"], plan.shards.iter().enumerate().map(row).collect())
}

fn by_host(plan: &Plan) -> String {
    let mut hosts: Vec<(&str, &str)> = everyone(plan).map(|(planned, _)| (&*planned.host, &*planned.address)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let row = |(host, address): (&str, &str)| {
        let ports = |as_master: bool| {
            let mut ports: Vec<u32> = everyone(plan)
                .filter(|(planned, is_master)| planned.host == host && *is_master == as_master)
                .map(|(planned, _)| planned.port)
                .collect();
            ports.sort_unstable();
            ports.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        };
        [host.to_owned(), address.to_owned(), ports(true), ports(false)]
    };
    table(["HOST", "ADDRESS", "MASTERS", "REPLICAS"], hosts.into_iter().map(row).collect())
}

fn losses(plan: &Plan) -> String {
    let mut text = String::new();
    for loss in &plan.losses {
        text += &format!("{} {}\n", if loss.survives { "[GOES ON]" } else { "[STOPS]  " }, loss.meaning);
    }
    if !plan.advice.is_empty() {
        text += &format!("Advice: {}\n", plan.advice);
    }
    text
}

fn everyone(plan: &Plan) -> impl Iterator<Item = (&PlannedInstance, bool)> {
    plan.shards.iter().flat_map(|shard| {
        let master = shard.master.iter().map(|master| (master, true));
        master.chain(shard.replicas.iter().map(|replica| (replica, false)))
    })
}

fn place(planned: &PlannedInstance) -> String {
    address(&planned.address, planned.port)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;
    use muster_proto::wire::{Auth, Finding, Server, Severity, SlotRange, Spec};

    /// The two servers of the procedure that people follow by hand.
    pub(crate) fn two_hosts() -> Plan {
        let at = |host: u32, port: u32, why: &str| PlannedInstance {
            host: format!("server{host}"),
            address: format!("127.0.0.{host}"),
            port,
            why: why.into(),
        };
        let shard = |first, last, master, replica| PlannedShard {
            slots: Some(SlotRange { first, last }),
            master: Some(master),
            replicas: vec![replica],
        };
        Plan {
            hash: "ab".repeat(32),
            spec: Some(Spec { name: "orders".into(), ..Spec::default() }),
            shards: vec![
                shard(0, 5460, at(1, 7000, "server1 has the most ports"), at(2, 7004, "the other host")),
                shard(5461, 10922, at(2, 7003, ""), at(1, 7002, "")),
                shard(10923, 16383, at(1, 7001, ""), at(2, 7005, "")),
            ],
            losses: vec![
                Loss {
                    host: "server1".into(),
                    instances_lost: 3,
                    masters_lost: 2,
                    masters: 3,
                    meaning: "losing server1 takes 2 of 3 masters: the 1 left is no majority, so the cluster stops"
                        .into(),
                    ..Loss::default()
                },
                Loss {
                    host: "server2".into(),
                    instances_lost: 3,
                    masters_lost: 1,
                    masters: 3,
                    shards_without_replica: 3,
                    survives: true,
                    meaning: "losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on".into(),
                    ..Loss::default()
                },
            ],
            findings: vec![Finding {
                severity: Severity::Warning.into(),
                code: "SOMAXCONN".into(),
                host: "server1".into(),
                subject: "net.core.somaxconn".into(),
                message: "it is 128, below the backlog of 511".into(),
                cure: "sysctl -w net.core.somaxconn=1024".into(),
            }],
            server: Some(Server {
                path: "/usr/bin/redis-server".into(),
                flavour: "redis".into(),
                version: "7.0.15".into(),
            }),
            preflight_micros: 123_456,
            advice: "to survive the loss of any one host, add one host with at least 2 ports".into(),
            expires_unix_ms: 1_795_384_800_000,
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_reads_as_redis_trib_printed_it() {
        expect![[r#"
            >>> Plan for cluster orders: 6 instances of redis 7.0.15; preflight took 0.12 s
            Using 3 masters:
            127.0.0.1:7000
            127.0.0.2:7003
            127.0.0.1:7001

            M: server1 127.0.0.1:7000 slots:0-5460 (5461 slots)
            S: server2 127.0.0.2:7004 replicates 127.0.0.1:7000
            M: server2 127.0.0.2:7003 slots:5461-10922 (5462 slots)
            S: server1 127.0.0.1:7002 replicates 127.0.0.2:7003
            M: server1 127.0.0.1:7001 slots:10923-16383 (5461 slots)
            S: server2 127.0.0.2:7005 replicates 127.0.0.1:7001

            SHARD  SLOTS        MASTER        REPLICAS
            0      0-5460       server1:7000  server2:7004
            1      5461-10922   server2:7003  server1:7002
            2      10923-16383  server1:7001  server2:7005

            HOST     ADDRESS    MASTERS     REPLICAS
            server1  127.0.0.1  7000, 7001  7002
            server2  127.0.0.2  7003        7004, 7005

            [STOPS]   losing server1 takes 2 of 3 masters: the 1 left is no majority, so the cluster stops
            [GOES ON] losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on
            Advice: to survive the loss of any one host, add one host with at least 2 ports

            [WARN]  SOMAXCONN: server1 net.core.somaxconn: it is 128, below the backlog of 511
                    cure: sysctl -w net.core.somaxconn=1024
        "#]]
        .assert_eq(&text(&two_hosts(), Detail::Brief));
    }

    #[test]
    fn a_cluster_that_would_be_open_is_said_loudly() {
        let mut plan = two_hosts();
        plan.spec.get_or_insert_default().auth = Some(Auth { none: true, ..Auth::default() });
        let text = text(&plan, Detail::Brief);
        expect![[r#"[OPEN]  auth = "none": whoever reaches these ports reads, writes and wipes this cluster"#]]
            .assert_eq(text.lines().nth(1).unwrap());
        assert_eq!(serde_json::to_value(PlanJson::from(&plan)).unwrap()["auth"], "none");
    }

    #[test]
    fn each_choice_can_say_why() {
        expect![[r#"
            M: server1 127.0.0.1:7000 slots:0-5460 (5461 slots)
               because server1 has the most ports
            S: server2 127.0.0.2:7004 replicates 127.0.0.1:7000
               because the other host
            M: server2 127.0.0.2:7003 slots:5461-10922 (5462 slots)
            S: server1 127.0.0.1:7002 replicates 127.0.0.2:7003
            M: server1 127.0.0.1:7001 slots:10923-16383 (5461 slots)
            S: server2 127.0.0.2:7005 replicates 127.0.0.1:7001
        "#]]
        .assert_eq(&members(&two_hosts(), Detail::Why));
    }

    #[test]
    fn a_plan_that_was_refused_early_shows_its_findings_alone() {
        let plan = Plan { shards: vec![], losses: vec![], advice: String::new(), ..two_hosts() };
        expect![[r#"
            >>> Plan for cluster orders: nothing can be placed; preflight took 0.12 s

            [WARN]  SOMAXCONN: server1 net.core.somaxconn: it is 128, below the backlog of 511
                    cure: sysctl -w net.core.somaxconn=1024
        "#]]
        .assert_eq(&text(&plan, Detail::Brief));
    }

    #[test]
    fn a_plan_is_a_document() {
        let plan = Plan { shards: two_hosts().shards.split_off(2), ..two_hosts() };
        expect![[r#"
            {
              "plan": {
                "hash": "abababababababababababababababababababababababababababababababab",
                "cluster": "orders",
                "masters": 1,
                "instances": 2,
                "server": {
                  "path": "/usr/bin/redis-server",
                  "flavour": "redis",
                  "version": "7.0.15"
                },
                "shards": [
                  {
                    "slots": "10923-16383",
                    "master": {
                      "host": "server1",
                      "address": "127.0.0.1",
                      "port": 7001,
                      "why": null
                    },
                    "replicas": [
                      {
                        "host": "server2",
                        "address": "127.0.0.2",
                        "port": 7005,
                        "why": null
                      }
                    ]
                  }
                ],
                "losses": [
                  {
                    "host": "server1",
                    "survives": false,
                    "instances_lost": 3,
                    "masters_lost": 2,
                    "masters": 3,
                    "slots_lost": 0,
                    "shards_without_replica": 0,
                    "meaning": "losing server1 takes 2 of 3 masters: the 1 left is no majority, so the cluster stops"
                  },
                  {
                    "host": "server2",
                    "survives": true,
                    "instances_lost": 3,
                    "masters_lost": 1,
                    "masters": 3,
                    "slots_lost": 0,
                    "shards_without_replica": 3,
                    "meaning": "losing server2 takes 1 of 3 masters: a replica takes over and the cluster goes on"
                  }
                ],
                "advice": "to survive the loss of any one host, add one host with at least 2 ports",
                "findings": [
                  {
                    "severity": "warning",
                    "code": "SOMAXCONN",
                    "host": "server1",
                    "subject": "net.core.somaxconn",
                    "message": "it is 128, below the backlog of 511",
                    "cure": "sysctl -w net.core.somaxconn=1024"
                  }
                ],
                "auth": "passwords",
                "tls": false,
                "expires_unix_ms": 1795384800000,
                "preflight_micros": 123456,
                "rebuild": null
              },
              "existing": null
            }
        "#]]
        .assert_eq(&document(&AnswerJson { plan: Some(PlanJson::from(&plan)), existing: None }));
    }
}
