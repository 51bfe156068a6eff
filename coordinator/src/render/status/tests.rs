//! Goldens of a status: healthy, after a failover, and before anything was seen.

use super::*;
use crate::render::document;
use expect_test::expect;
use muster_proto::wire::{Finding, HostState, InstanceState as Wire, InstanceStatus, Severity, SlotRange};

const IDS: [&str; 6] = [
    "0000000000000000000000000000000000000000",
    "1111111111111111111111111111111111111111",
    "2222222222222222222222222222222222222222",
    "3333333333333333333333333333333333333333",
    "4444444444444444444444444444444444444444",
    "5555555555555555555555555555555555555555",
];

const SLOTS: [(u32, u32); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

fn instance(nth: usize, host: u32, port: u32, shard: usize, master: Option<usize>) -> ClusterInstance {
    let (host, address) = (format!("server{host}"), format!("127.0.0.{host}"));
    let (first, last) = SLOTS[shard];
    let slots = if master.is_none() { vec![SlotRange { first, last }] } else { vec![] };
    let role: i32 = if master.is_none() { Role::Master } else { Role::Replica }.into();
    let master = master.map(|nth| IDS[nth].to_owned()).unwrap_or_default();
    let view = NodeView {
        node_id: IDS[nth].into(),
        role,
        master: master.clone(),
        slots: slots.clone(),
        cluster_ok: true,
        known_nodes: 6,
        link_up: !master.is_empty(),
        keys: 12,
        ..NodeView::default()
    };
    let status = InstanceStatus {
        host: host.clone(),
        address: address.clone(),
        port,
        cluster: "orders".into(),
        state: Wire::Running.into(),
        pid: 4000 + i32::try_from(nth).unwrap(),
        view: Some(view),
        starts: 1,
        life: 1,
        node_id: IDS[nth].into(),
        ..InstanceStatus::default()
    };
    let shard = u32::try_from(shard).unwrap();
    let node_id = IDS[nth].to_owned();
    let planned = Member { node_id, address, port, host, role, slots, master, shard, ..Member::default() };
    ClusterInstance { status: Some(status), planned: Some(planned), age_ms: 420 }
}

/// The seed's layout: two masters on server1, one on server2.
pub(crate) fn healthy() -> GetStatusResponse {
    let host = |nth: u32| Host {
        name: format!("server{nth}"),
        address: format!("127.0.0.{nth}"),
        state: HostState::Live.into(),
        age_ms: 310,
        agent_version: "0.1.0".into(),
        ..Host::default()
    };
    GetStatusResponse {
        cluster: Some(Cluster {
            name: "orders".into(),
            incarnation: 1,
            state: "formed".into(),
            masters: 3,
            instances: 6,
            cluster_id: "c0ffee".into(),
            formed_unix_ms: 1_795_384_802_345,
            roll: String::new(),
            rotation: String::new(),
            rebuild: String::new(),
            protection: String::new(),
            quarantined: vec![],
        }),
        instances: vec![
            instance(0, 1, 7000, 0, None),
            instance(1, 2, 7004, 0, Some(0)),
            instance(2, 2, 7003, 1, None),
            instance(3, 1, 7002, 1, Some(2)),
            instance(4, 1, 7001, 2, None),
            instance(5, 2, 7005, 2, Some(4)),
        ],
        issues: vec![],
        hosts: vec![host(1), host(2)],
    }
}

fn change(answer: &mut GetStatusResponse, nth: usize, change: impl FnOnce(&mut InstanceStatus)) {
    change(answer.instances[nth].status.as_mut().unwrap());
}

/// The master at server1:7000 died, its replica was promoted, and it came back as a replica that still loads; the
/// replica at 7002 is down.
fn failed_over() -> GetStatusResponse {
    let mut answer = healthy();
    change(&mut answer, 0, |status| {
        let view = status.view.as_mut().unwrap();
        (view.role, view.master, view.link_up) = (Role::Replica.into(), IDS[1].into(), false);
        view.slots.clear();
    });
    change(&mut answer, 1, |status| {
        let view = status.view.as_mut().unwrap();
        (view.role, view.slots) = (Role::Master.into(), vec![SlotRange { first: 0, last: 5460 }]);
        view.master.clear();
    });
    change(&mut answer, 3, |status| {
        (status.state, status.pid) = (Wire::Down.into(), 0);
        status.reason = "killed by signal 9; starts again in 2 s".into();
    });
    answer.issues = vec![Finding {
        severity: Severity::Fatal.into(),
        code: "INSTANCE_DOWN".into(),
        host: "server1".into(),
        subject: "port 7002".into(),
        message: "killed by signal 9".into(),
        cure: "wait, or look at /var/lib/muster/7002/redis.log".into(),
    }];
    answer
}

/// Nothing has started yet, and one agent is silent.
fn forming() -> GetStatusResponse {
    let mut answer = healthy();
    for nth in 0..6 {
        change(&mut answer, nth, |status| {
            (status.state, status.pid, status.view) = (Wire::Prepared.into(), 0, None);
        });
    }
    answer.instances[5].status = None;
    answer.cluster.as_mut().unwrap().state = "forming".into();
    answer.hosts[1].state = HostState::Unknown.into();
    answer
}

#[test]
fn a_healthy_cluster() {
    expect![[r#"
        Cluster orders: formed, incarnation 1, 6 of 6 instances running, no issues

        SHARD  ROLE     INSTANCE      ADDRESS         SLOTS        STATE    LINK  KEYS  AGE    NOTE
        0      master   server1:7000  127.0.0.1:7000  0-5460       running  -     12    0.4 s
               replica  server2:7004  127.0.0.2:7004               running  up    12    0.4 s
        1      master   server2:7003  127.0.0.2:7003  5461-10922   running  -     12    0.4 s
               replica  server1:7002  127.0.0.1:7002               running  up    12    0.4 s
        2      master   server1:7001  127.0.0.1:7001  10923-16383  running  -     12    0.4 s
               replica  server2:7005  127.0.0.2:7005               running  up    12    0.4 s

        HOST     ADDRESS    AGENT  AGE    INSTANCES
        server1  127.0.0.1  live   0.3 s  7000 master, 7001 master, 7002 replica
        server2  127.0.0.2  live   0.3 s  7003 master, 7004 replica, 7005 replica
    "#]]
    .assert_eq(&text(&healthy()));
}

#[test]
fn after_a_failover_what_is_comes_first_and_what_was_planned_is_a_note() {
    expect![[r#"
        Cluster orders: formed, incarnation 1, 5 of 6 instances running, 1 issue

        [FATAL] INSTANCE_DOWN: server1 port 7002: killed by signal 9
                cure: wait, or look at /var/lib/muster/7002/redis.log

        SHARD  ROLE     INSTANCE      ADDRESS         SLOTS        STATE    LINK     KEYS  AGE    NOTE
        0      master   server2:7004  127.0.0.2:7004  0-5460       running  -        12    0.4 s  promoted, planned as a replica
               replica  server1:7000  127.0.0.1:7000               running  down     12    0.4 s  was master by plan
        1      master   server2:7003  127.0.0.2:7003  5461-10922   running  -        12    0.4 s
               replica  server1:7002  127.0.0.1:7002               down     unknown  12    0.4 s  killed by signal 9; starts again in 2 s
        2      master   server1:7001  127.0.0.1:7001  10923-16383  running  -        12    0.4 s
               replica  server2:7005  127.0.0.2:7005               running  up       12    0.4 s

        HOST     ADDRESS    AGENT  AGE    INSTANCES
        server1  127.0.0.1  live   0.3 s  7000 replica, 7001 master, 7002 replica
        server2  127.0.0.2  live   0.3 s  7003 master, 7004 master, 7005 replica
    "#]].assert_eq(&text(&failed_over()));
}

#[test]
fn what_was_never_seen_is_said_to_be_planned() {
    expect![[r#"
        Cluster orders: forming, incarnation 1, 0 of 6 instances running, no issues

        SHARD  ROLE     INSTANCE      ADDRESS         SLOTS        STATE     LINK     KEYS  AGE  NOTE
        0      master   server1:7000  127.0.0.1:7000  0-5460       prepared  -        -     -    never seen; role and slots are the plan's
               replica  server2:7004  127.0.0.2:7004               prepared  unknown  -     -    never seen; role and slots are the plan's
        1      master   server2:7003  127.0.0.2:7003  5461-10922   prepared  -        -     -    never seen; role and slots are the plan's
               replica  server1:7002  127.0.0.1:7002               prepared  unknown  -     -    never seen; role and slots are the plan's
        2      master   server1:7001  127.0.0.1:7001  10923-16383  prepared  -        -     -    never seen; role and slots are the plan's
               replica  server2:7005  127.0.0.2:7005               unknown   unknown  -     -    never seen; role and slots are the plan's

        HOST     ADDRESS    AGENT    AGE    INSTANCES
        server1  127.0.0.1  live     0.3 s  7000 master, 7001 master, 7002 replica
        server2  127.0.0.2  unknown  0.3 s  7003 master, 7004 replica, 7005 replica
    "#]]
    .assert_eq(&text(&forming()));
}

#[test]
fn a_status_is_a_document() {
    let mut answer = failed_over();
    answer.instances.truncate(2);
    answer.hosts.clear();
    expect![[r#"
        {
          "cluster": "orders",
          "cluster_id": "c0ffee",
          "incarnation": 1,
          "state": "formed",
          "rotation": null,
          "roll": null,
          "rebuild": null,
          "protection": null,
          "quarantined": [],
          "instances": [
            {
              "host": "server1",
              "address": "127.0.0.1",
              "port": 7000,
              "pid": 4000,
              "node_id": "0000000000000000000000000000000000000000",
              "role": "replica",
              "master": "1111111111111111111111111111111111111111",
              "slots": "",
              "state": "running",
              "link": "down",
              "age_ms": 420,
              "reason": null,
              "seen": true,
              "shard": 0,
              "changed": "demoted",
              "keys": 12,
              "cluster_ok": true,
              "starts": 1,
              "life": 1,
              "condition": null,
              "since_ms": 0,
              "next_try_ms": null,
              "standing": null,
              "evidence": []
            },
            {
              "host": "server2",
              "address": "127.0.0.2",
              "port": 7004,
              "pid": 4001,
              "node_id": "1111111111111111111111111111111111111111",
              "role": "master",
              "master": null,
              "slots": "0-5460",
              "state": "running",
              "link": null,
              "age_ms": 420,
              "reason": null,
              "seen": true,
              "shard": 0,
              "changed": "promoted",
              "keys": 12,
              "cluster_ok": true,
              "starts": 1,
              "life": 1,
              "condition": null,
              "since_ms": 0,
              "next_try_ms": null,
              "standing": null,
              "evidence": []
            }
          ],
          "issues": [
            {
              "severity": "fatal",
              "code": "INSTANCE_DOWN",
              "host": "server1",
              "subject": "port 7002",
              "message": "killed by signal 9",
              "cure": "wait, or look at /var/lib/muster/7002/redis.log"
            }
          ],
          "hosts": []
        }
    "#]]
    .assert_eq(&document(&StatusJson::from(&answer)));
}

#[test]
fn clusters_are_a_table() {
    expect![[r#"
        CLUSTER  STATE   INCARNATION  MASTERS  INSTANCES  FORMED                NOTE
        orders   formed  1            3        6          2026-11-22T22:00:02Z
    "#]]
    .assert_eq(&list(&[healthy().cluster.unwrap()]));
    assert_eq!(list(&[]), "No clusters yet. Form one: muster bootstrap cluster.toml\n");
}

#[test]
fn a_rebuild_a_protection_and_what_is_in_quarantine_are_said_with_the_cluster() {
    let mut answer = healthy();
    let cluster = answer.cluster.as_mut().unwrap();
    cluster.state = "rebuilding".into();
    cluster.rebuild = "FENCE: server2:7004 still runs".into();
    cluster.protection = "it may not be rebuilt, said user alice, 2026-11-22 22:00 UTC".into();
    cluster.quarantined = vec!["server3:7006 (life 1)".into(), "server3:7007 (life 1)".into()];
    expect![[r#"
        Cluster orders: rebuilding, incarnation 1, 6 of 6 instances running, no issues
        Rebuild: FENCE: server2:7004 still runs
        Protected: it may not be rebuilt, said user alice, 2026-11-22 22:00 UTC
        Quarantined: server3:7006 (life 1), server3:7007 (life 1)"#]]
    .assert_eq(text(&answer).split("\n\n").next().unwrap());
    expect![[r#"
        CLUSTER  STATE       INCARNATION  MASTERS  INSTANCES  FORMED                NOTE
        orders   rebuilding  1            3        6          2026-11-22T22:00:02Z  rebuild: FENCE: server2:7004 still runs; protected: it may not be rebuilt, said user alice, 2026-11-22 22:00 UTC; quarantined: server3:7006 (life 1), server3:7007 (life 1)
    "#]].assert_eq(&list(&[answer.cluster.clone().unwrap()]));
    let json = serde_json::to_value(StatusJson::from(&answer)).unwrap();
    assert_eq!(json["quarantined"][1], "server3:7007 (life 1)");
    assert_eq!(json["rebuild"], "FENCE: server2:7004 still runs");
}
