//! What is shown of the seed's cluster, and what is not claimed.

use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use muster_proto::{Generation, NodeView, Role, SlotRange};

use super::*;
use crate::{
    formation::Goal,
    render,
    samples::{hello, id, inventory, record, running},
};

fn shown(record: &ClusterRecord, operation: Option<OpState>, inventory: &Inventory) -> String {
    let status = status(record, operation, inventory, &Bars::new());
    let cluster = status.cluster.unwrap();
    let mut text = format!(
        "{} incarnation {}: {}, {} masters of {}\n",
        cluster.name, cluster.incarnation, cluster.state, cluster.masters, cluster.instances
    );
    for instance in status.instances {
        let status = instance.status.unwrap();
        let state = status.state().as_str_name().trim_start_matches("INSTANCE_STATE_").to_lowercase();
        text.push_str(format!("{}:{} {state} {}", status.host, status.port, status.reason).trim_end());
        text.push('\n');
    }
    for host in status.hosts {
        let state = host.state().as_str_name().trim_start_matches("HOST_STATE_").to_lowercase();
        text.push_str(&format!("{} {state} {}/{}/{}\n", host.name, host.generation, host.accepted, host.converged));
    }
    text + &render::finding::text(&status.issues)
}

/// A formed cluster; what server1:7000 says is changed.
fn check(change: impl Fn(&mut InstanceStatus), expected: Expect) {
    let record = record(Goal::Running, true);
    let inventory = inventory(&record.blueprint, |member| {
        let mut status = running(&record.blueprint, member);
        if member.port.get() == 7000 {
            change(&mut status);
        }
        status
    });
    let text = shown(&record, Some(OpState::Done), &inventory);
    let kept = text.lines().filter(|line| !line.ends_with(" running") && !line.starts_with("server2 live"));
    expected.assert_eq(&kept.map(|line| format!("{line}\n")).collect::<String>());
}

fn view(status: &mut InstanceStatus) -> &mut NodeView {
    status.view.as_mut().unwrap()
}

#[test]
fn all_is_well() {
    let record = record(Goal::Running, true);
    let inventory = inventory(&record.blueprint, |member| running(&record.blueprint, member));
    expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1:7000 running
        server2:7004 running
        server2:7003 running
        server1:7002 running
        server1:7001 running
        server2:7005 running
        server1 live 1/1/1
        server2 live 1/1/1
    "#]]
    .assert_eq(&shown(&record, Some(OpState::Done), &inventory));
}

#[test]
fn what_is_amiss_with_an_instance_is_an_issue() {
    check(
        |status| (status.state, status.reason) = (InstanceState::Blocked, "its directory is gone".into()),
        expect![[r#"
            orders incarnation 1: formed, 3 masters of 6
            server1:7000 blocked its directory is gone
            server1 live 1/1/1
            [FATAL] INSTANCE_NOT_RUNNING: server1 server1:7000: blocked: its directory is gone
        "#]],
    );
    check(
        |status| status.state = InstanceState::Down,
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1:7000 down
        server1 live 1/1/1
        [FATAL] INSTANCE_NOT_RUNNING: server1 server1:7000: down
    "#]],
    );
    check(
        |status| view(status).cluster_ok = false,
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
        [FATAL] CLUSTER_STATE: server1 server1:7000: says cluster_state:fail
                cure: muster check orders
    "#]],
    );
    check(
        |status| view(status).troubles = vec!["10.0.0.2:7003 (03030303) is failed (fail)".into()],
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
        [WARN]  NODE_TROUBLE: server1 server1:7000: thinks that 10.0.0.2:7003 (03030303) is failed (fail)
    "#]],
    );
    check(
        |status| (view(status).role, view(status).link_up) = (Role::Replica { master: id(3) }, false),
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
        [WARN]  LINK_DOWN: server1 server1:7000: its link to its master is not up
    "#]],
    );
    check(
        |status| (view(status).role, view(status).link_up) = (Role::Replica { master: id(3) }, true),
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
        [WARN]  ROLE_CHANGED: server1 server1:7000: is a replica and was planned as a master: Redis failed over
    "#]],
    );
    check(
        |status| status.view_age = Duration::from_secs(60),
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
        [WARN]  VIEW_OLD: server1 server1:7000: its last answer is 60 s old
    "#]],
    );
    let one = SlotRange::new(0, 0).unwrap();
    check(
        |status| view(status).role = Role::Master { slots: vec![one] },
        expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1 live 1/1/1
    "#]],
    );
}

#[test]
fn a_host_that_is_not_heard_of_is_unknown_and_never_down() {
    let record = record(Goal::Running, true);
    let mut inventory = inventory(&record.blueprint, |member| running(&record.blueprint, member));
    let host = inventory.get_mut(&"server1".parse().unwrap()).unwrap();
    host.session = None;
    host.heard = Instant::now().checked_sub(Duration::from_secs(90)).unwrap();
    expect![[r#"
        orders incarnation 1: formed, 3 masters of 6
        server1:7000 unknown running when last heard of
        server2:7004 running
        server2:7003 running
        server1:7002 unknown running when last heard of
        server1:7001 unknown running when last heard of
        server2:7005 running
        server1 unknown 1/1/1
        server2 live 1/1/1
        [FATAL] HOST_SILENT: server1 agent: not heard of for 90 s; its redis-servers may well be running
                cure: on server1: systemctl status muster-agent
    "#]]
    .assert_eq(&shown(&record, Some(OpState::Done), &inventory));
    let status = status(&record, None, &inventory, &Bars::new());
    assert!(status.instances[0].age_ms >= 90_000, "what was seen is shown with its age");
    assert!(status.instances[0].status.as_ref().unwrap().view.is_some());
}

#[test]
fn before_anybody_has_called_nothing_is_claimed() {
    let record = record(Goal::Prepared, false);
    let mut inventory = Inventory::new(Duration::from_secs(1));
    expect![[r#"
        orders incarnation 1: forming, 3 masters of 6
        server1:7000 unknown not reported in this life of the coordinator
        server2:7004 unknown not reported in this life of the coordinator
        server2:7003 unknown not reported in this life of the coordinator
        server1:7002 unknown not reported in this life of the coordinator
        server1:7001 unknown not reported in this life of the coordinator
        server2:7005 unknown not reported in this life of the coordinator
        [FATAL] HOST_SILENT: server1 agent: not heard of for 0 s; its redis-servers may well be running
                cure: on server1: systemctl status muster-agent
        [FATAL] HOST_SILENT: server2 agent: not heard of for 0 s; its redis-servers may well be running
                cure: on server2: systemctl status muster-agent
    "#]]
    .assert_eq(&shown(&record, Some(OpState::Running), &inventory));
    inventory.remember(hello("server1"), Generation(4));
    let text = shown(&record, Some(OpState::Cancelling), &inventory);
    assert!(text.starts_with("orders incarnation 1: cancelling"), "{text}");
    assert!(text.contains("\nserver1 unknown 4/0/0\n"), "{text}");
}

#[test]
fn a_host_that_refuses_is_an_issue() {
    let record = record(Goal::Running, true);
    let mut inventory = inventory(&record.blueprint, |member| running(&record.blueprint, member));
    let host = inventory.get_mut(&"server1".parse().unwrap()).unwrap();
    host.report.as_mut().unwrap().refusal = Some("term 1 is lower than term 2".into());
    let issues = status(&record, None, &inventory, &Bars::new()).issues;
    expect![[r#"
        [FATAL] HOST_REFUSES: server1 agent: term 1 is lower than term 2
                cure: does an old coordinator run, or was its store put back from a backup? README, When something is lost
    "#]]
    .assert_eq(&render::finding::text(&issues));
}

#[test]
fn a_host_that_may_not_take_part_says_why_and_what_to_type() {
    let record = record(Goal::Running, true);
    let inventory = inventory(&record.blueprint, |member| running(&record.blueprint, member));
    let bar = crate::trust::Bar { what: "is quarantined: by alice".into(), cure: "muster host approve server1".into() };
    let issues = status(&record, None, &inventory, &Bars::from([("server1".parse().unwrap(), bar)])).issues;
    expect![[r#"
        [FATAL] HOST_BARRED: server1 agent: the host is quarantined: by alice; its redis-servers may well be running
                cure: muster host approve server1
    "#]]
    .assert_eq(&render::finding::text(&issues));
}

#[test]
fn a_failover_before_it_was_formed_is_formations_to_say() {
    let record = record(Goal::Running, false);
    let inventory = inventory(&record.blueprint, |member| {
        let mut status = running(&record.blueprint, member);
        (view(&mut status).role, view(&mut status).link_up) = (Role::Replica { master: id(3) }, true);
        status
    });
    assert!(status(&record, None, &inventory, &Bars::new()).issues.is_empty());
}

#[test]
fn a_host_shows_what_it_offers_and_what_lies_there() {
    let record = record(Goal::Running, true);
    let inventory = inventory(&record.blueprint, |member| running(&record.blueprint, member));
    let host = host(&inventory, inventory.get(&"server1".parse().unwrap()).unwrap());
    let ports: Vec<_> = host.ports.iter().map(|port| (port.port, port.r#use.as_str())).collect();
    assert_eq!(ports, [(7000, "free"), (7001, "unknown")], "7001 is offered and was not reported");
    assert_eq!((host.server.unwrap().version.as_str(), host.server_error.as_str()), ("7.0.15", ""));
}
