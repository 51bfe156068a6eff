//! Goldens of a rebuild: the same again, another spec without a host, and its undo.

use super::*;
use crate::render::{
    document,
    plan::{PlanJson, tests::two_hosts},
};
use expect_test::expect;

const PLANNED: u64 = 1_795_384_800_000 - VALID_MS;

fn instance(host: u32, port: u32, role: Role) -> DoomedInstance {
    let is_master = role == Role::Master;
    DoomedInstance {
        host: format!("server{host}"),
        address: format!("127.0.0.{host}"),
        port,
        path: format!("/var/lib/muster/{port}"),
        node_id: format!("{port}abcdef").repeat(4),
        life: 1,
        role: role.into(),
        bytes: 1_288_490_189,
        keys: 1_200_000,
        clients: if is_master { 3 } else { 0 },
        writes_millihertz: 240_400,
        last_save_unix_ms: PLANNED - 185_000,
        keeps: "append-only file".into(),
        ..DoomedInstance::default()
    }
}

/// Two hosts, rebuilt to what they are.
pub(crate) fn again() -> Plan {
    let rebuild = RebuildPlan {
        cluster_id: "6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f".into(),
        incarnation: 1,
        becomes: 2,
        doomed: vec![
            instance(1, 7000, Role::Master),
            instance(1, 7001, Role::Master),
            instance(1, 7002, Role::Replica),
            instance(2, 7003, Role::Master),
            instance(2, 7004, Role::Replica),
            instance(2, 7005, Role::Replica),
        ],
        bus_offset: 10_000,
        ..RebuildPlan::default()
    };
    Plan { rebuild: Some(rebuild), ..two_hosts() }
}

/// Another spec, a host that is not there, a server that does not answer, one that keeps nothing, and an operation
/// that is stuck.
fn without_a_host() -> Plan {
    let mut plan = again();
    let rebuild = plan.rebuild.as_mut().unwrap();
    rebuild.doomed.truncate(3);
    rebuild.doomed[1].keeps = "nothing".into();
    let silent = &mut rebuild.doomed[2];
    (silent.error, silent.role, silent.last_save_unix_ms) =
        ("the server does not answer: timed out".into(), Role::Unspecified.into(), 0);
    let node_id = "7006abcdef".repeat(4);
    rebuild.doomed.push(DoomedInstance {
        host: "server3".into(),
        address: "127.0.0.3".into(),
        port: 7006,
        node_id,
        life: 1,
        quarantined: true,
        ..DoomedInstance::default()
    });
    rebuild.fenced = vec!["server3".into()];
    rebuild.bus_offset = 11_000;
    rebuild.changes = vec!["replicas: 2 becomes 1".into(), "host server3 is left out".into()];
    rebuild.even_if_serving = true;
    rebuild.supersedes = "0199a2b4-0000-7000-8000-000000000001".into();
    plan
}

/// Back to the first life, of which one directory was never moved.
pub(crate) fn undo() -> Plan {
    let mut plan = again();
    let rebuild = plan.rebuild.as_mut().unwrap();
    (rebuild.undo, rebuild.incarnation, rebuild.becomes) = (true, 2, 1);
    rebuild.doomed.truncate(2);
    let back = |host: u32, port: u32, aside_unix_ms| ReturningInstance {
        host: format!("server{host}"),
        address: format!("127.0.0.{host}"),
        port,
        node_id: format!("{port}fedcba").repeat(4),
        life: 1,
        bytes: 734_003_200,
        aside_unix_ms,
        missing: String::new(),
    };
    rebuild.returns = vec![back(1, 7000, PLANNED - 7_200_000), back(1, 7001, PLANNED - 7_199_000), back(2, 7003, 0)];
    rebuild.returns.push(ReturningInstance { missing: "not there any more".into(), bytes: 0, ..back(2, 7004, 0) });
    rebuild.changes = vec!["replicas: 1 becomes 2".into()];
    rebuild.bus_offset_now = 11_000;
    plan
}

/// Without the part that a bootstrap shows too.
fn own_part(plan: &Plan) -> String {
    let text = text(plan);
    text.split_once(">>> After it").map(|(own, _)| own.to_owned()).unwrap()
}

#[test]
fn a_rebuild_shows_every_directory_and_then_what_is_there_afterwards() {
    expect![[r#"
        >>> Rebuild of cluster orders: incarnation 1 ends, incarnation 2 begins, empty

        Set aside, renamed into .trash on each host and not deleted:
        INSTANCE      NODE      ROLE     SIZE     KEYS     CLIENTS  WRITES/S  LAST SAVE  KEEPS             DIRECTORY
        server1:7000  7000abcd  master   1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7000
        server1:7001  7001abcd  master   1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7001
        server1:7002  7002abcd  replica  1.2 GiB  1200000  0        240       3 min ago  append-only file  /var/lib/muster/7002
        server2:7003  7003abcd  master   1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7003
        server2:7004  7004abcd  replica  1.2 GiB  1200000  0        240       3 min ago  append-only file  /var/lib/muster/7004
        server2:7005  7005abcd  replica  1.2 GiB  1200000  0        240       3 min ago  append-only file  /var/lib/muster/7005
        Total: 6 directories, 7.2 GiB; 3600000 keys on 3 masters, 9 clients, 721 writes/s

        The spec stays as it is.

        >>> After it, cluster orders: 6 instances of redis 7.0.15; preflight took 0.12 s
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
    "#]].assert_eq(&text(&again()));
}

#[test]
fn what_is_not_known_and_who_is_not_there_is_said() {
    expect![[r#"
        >>> Rebuild of cluster orders: incarnation 1 ends, incarnation 2 begins, empty
        Operation 0199a2b4-0000-7000-8000-000000000001 cannot go on by itself, and gives way to this
        [SERVING] goes ahead although clients may write
        [FENCED] without server3: what comes back of that finds nobody, because bus ports change
        Bus ports are client ports + 11000 from then on, and are + 10000 now

        Set aside, renamed into .trash on each host and not deleted:
        INSTANCE      NODE      ROLE    SIZE     KEYS     CLIENTS  WRITES/S  LAST SAVE  KEEPS             DIRECTORY
        server1:7000  7000abcd  master  1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7000
        server1:7001  7001abcd  master  1.2 GiB  1200000  3        240       3 min ago  nothing           /var/lib/muster/7001
        server1:7002  7002abcd  -       1.2 GiB  -        -        -         -          append-only file  /var/lib/muster/7002
        server3:7006  7006abcd  -       -        -        -        -         -          -                 QUARANTINED
        Total: 4 directories, 3.6 GiB; 2400000 keys on 2 masters, 6 clients, 480 writes/s at least; 2 not known
        [QUARANTINED] server3:7006: the host is not there; set aside when it comes back, before anything else

        The spec changes:
          replicas: 2 becomes 1
          host server3 is left out

    "#]].assert_eq(&own_part(&without_a_host()));
}

#[test]
fn an_undo_shows_what_comes_back_and_what_goes_instead() {
    expect![[r#"
        >>> Undo of the rebuild of orders: incarnation 2 ends, incarnation 1 comes back
        Bus ports are client ports + 10000 from then on, and are + 11000 now

        Put back from .trash:
        INSTANCE      NODE      SIZE     SET ASIDE
        server1:7000  7000fedc  700 MiB  2 h ago (2026-11-22T19:45:00Z)
        server1:7001  7001fedc  700 MiB  119 min ago (2026-11-22T19:45:01Z)
        server2:7003  7003fedc  700 MiB  still in place
        server2:7004  7004fedc  0 B      NOT THERE ANY MORE
        Nothing that clients have written to incarnation 2 is in it: that is set aside now

        Set aside instead, renamed into .trash on each host and not deleted:
        INSTANCE      NODE      ROLE    SIZE     KEYS     CLIENTS  WRITES/S  LAST SAVE  KEEPS             DIRECTORY
        server1:7000  7000abcd  master  1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7000
        server1:7001  7001abcd  master  1.2 GiB  1200000  3        240       3 min ago  append-only file  /var/lib/muster/7001
        Total: 2 directories, 2.4 GiB; 2400000 keys on 2 masters, 6 clients, 480 writes/s

        The spec changes:
          replicas: 1 becomes 2

    "#]].assert_eq(&own_part(&undo()));
}

#[test]
fn whoever_types_the_name_is_told_what_that_begins() {
    expect![[r#"
        Total: 6 directories, 7.2 GiB; 3600000 keys on 3 masters, 9 clients, 721 writes/s
        All 6 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and a new, empty cluster is formed. Clients are cut off until it is formed.
        Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone (muster rebuild orders --undo).
        ---
        Total: 4 directories, 3.6 GiB; 2400000 keys on 2 masters, 6 clients, 480 writes/s at least; 2 not known
        All 3 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and a new, empty cluster is formed. Clients are cut off until it is formed. server3 is fenced off and not waited for; an undo waits until it is back.
        It cannot be called off, because what there is now is no whole cluster; what can be brought back then is said by: muster trash orders.
        What server1:7001 holds is on no disk: it is lost.
        ---
        Total: 2 directories, 2.4 GiB; 2400000 keys on 2 masters, 6 clients, 480 writes/s
        All 2 instances of orders are stopped, then their directories are renamed into .trash on their hosts, and incarnation 1 is put back with the data that it had. Clients are cut off until it is formed.
        Until the first directory moves it can be called off (muster op cancel); afterwards it can be undone (muster rebuild orders --undo).
    "#]].assert_eq(&[again(), without_a_host(), undo()].map(|plan| meaning(&plan) + "\n").join("---\n"));
}

#[test]
fn a_rebuild_is_in_the_document_of_its_plan() {
    let mut plan = without_a_host();
    let rebuild = plan.rebuild.as_mut().unwrap();
    rebuild.doomed.drain(..2);
    rebuild.returns = undo().rebuild.unwrap().returns.split_off(2);
    let json = serde_json::to_value(PlanJson::from(&plan)).unwrap();
    expect![[r#"
        {
          "becomes": 2,
          "bus_offset": 11000,
          "changes": [
            "replicas: 2 becomes 1",
            "host server3 is left out"
          ],
          "cluster_id": "6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f",
          "doomed": [
            {
              "address": "127.0.0.1",
              "bytes": 1288490189,
              "clients": null,
              "error": "the server does not answer: timed out",
              "host": "server1",
              "keeps": "append-only file",
              "keys": null,
              "last_save_unix_ms": null,
              "life": 1,
              "node_id": "7002abcdef7002abcdef7002abcdef7002abcdef",
              "path": "/var/lib/muster/7002",
              "port": 7002,
              "quarantined": false,
              "role": null,
              "writes_millihertz": null
            },
            {
              "address": "127.0.0.3",
              "bytes": null,
              "clients": null,
              "error": null,
              "host": "server3",
              "keeps": null,
              "keys": null,
              "last_save_unix_ms": null,
              "life": 1,
              "node_id": "7006abcdef7006abcdef7006abcdef7006abcdef",
              "path": null,
              "port": 7006,
              "quarantined": true,
              "role": null,
              "writes_millihertz": null
            }
          ],
          "ends_undo_of": null,
          "even_if_serving": true,
          "fenced": [
            "server3"
          ],
          "incarnation": 1,
          "returns": [
            {
              "address": "127.0.0.2",
              "aside_unix_ms": null,
              "bytes": 734003200,
              "host": "server2",
              "life": 1,
              "missing": null,
              "node_id": "7003fedcba7003fedcba7003fedcba7003fedcba",
              "port": 7003
            },
            {
              "address": "127.0.0.2",
              "aside_unix_ms": null,
              "bytes": 0,
              "host": "server2",
              "life": 1,
              "missing": "not there any more",
              "node_id": "7004fedcba7004fedcba7004fedcba7004fedcba",
              "port": 7004
            }
          ],
          "supersedes": "0199a2b4-0000-7000-8000-000000000001",
          "undo": false
        }
    "#]]
    .assert_eq(&document(&json["rebuild"]));
    assert!(serde_json::to_value(PlanJson::from(&two_hosts())).unwrap()["rebuild"].is_null());
}
