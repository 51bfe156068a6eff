//! The verdict on the seed's cluster, as its nodes might see it.

use expect_test::{Expect, expect};
use muster_proto::{NodeView, topology::Node, wire};

use super::*;
use crate::{
    render,
    samples::{blueprint, id, nodes_text, running},
};

type Answers = BTreeMap<HostName, Result<Vec<InstanceStatus>, String>>;

const ASKED: Asked = Asked { replicas: 1, allow_shared_host: false };

/// What every node answers when all of them see these nodes.
fn all_see(nodes: Vec<Node>) -> Answers {
    let blueprint = blueprint();
    let topology = Topology::new(nodes);
    let mut answers = Answers::new();
    for member in &blueprint.members {
        let mut status = running(&blueprint, member);
        sees(&mut status, &topology);
        answers.entry(member.host.clone()).or_insert_with(|| Ok(Vec::new())).as_mut().unwrap().push(status);
    }
    answers
}

fn sees(status: &mut InstanceStatus, topology: &Topology) {
    let role = topology.get(status.node_id).map(|node| node.role.clone());
    let view = status.view.as_mut().unwrap();
    view.nodes_text = Some(nodes_text(topology, status.node_id));
    view.digest = topology.digest();
    view.role = role.unwrap_or(Role::Master { slots: Vec::new() });
    view.link_up = view.role.master().is_some();
}

fn nodes() -> Vec<Node> {
    blueprint().topology().nodes().to_vec()
}

/// The view of server1:7000.
fn first(answers: &mut Answers) -> &mut NodeView {
    answers.values_mut().next().unwrap().as_mut().unwrap()[0].view.as_mut().unwrap()
}

fn check(answers: &Answers, expected: Expect) {
    let verdict = judge(&blueprint(), ASKED, answers, &Bars::new(), &BTreeSet::new());
    let findings: Vec<_> = verdict.findings.into_iter().map(wire::Finding::from).collect();
    let passed: String = verdict.passed.iter().map(|line| format!("[OK] {line}\n")).collect();
    expected.assert_eq(&format!("{}{passed}{} answered\n", render::finding::text(&findings), verdict.answered));
}

fn changed(change: impl FnOnce(&mut Answers), expected: Expect) {
    let mut answers = all_see(nodes());
    change(&mut answers);
    check(&answers, expected);
}

#[test]
fn a_healthy_cluster() {
    check(
        &all_see(nodes()),
        expect![[r#"
        [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [OK] All 6 nodes agree about slots and roles.
        [OK] Every node says cluster_state:ok, and every replica is in sync.
        [OK] All 16384 slots covered.
        [OK] Every node is what the blueprint says.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
}

#[test]
fn after_a_failover() {
    let mut nodes = nodes();
    let slots = nodes[0].role.slots().to_vec();
    nodes[0].role = Role::Replica { master: nodes[1].id };
    nodes[1].role = Role::Master { slots };
    check(
        &all_see(nodes),
        expect![[r#"
        [WARN]  MAJORITY_ON_HOST: server2 masters: server2 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [WARN]  ROLE_CHANGED: server1 server1:7000: is a replica, planned as a master: Redis failed over
        [WARN]  ROLE_CHANGED: server2 server2:7004: is a master, planned as a replica: Redis failed over
        [OK] All 6 nodes agree about slots and roles.
        [OK] Every node says cluster_state:ok, and every replica is in sync.
        [OK] All 16384 slots covered.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
}

#[test]
fn a_stranger() {
    let mut nodes = nodes();
    nodes.push(Node {
        id: id(99),
        address: [10, 0, 0, 9].into(),
        port: 6379,
        bus_port: 16379,
        role: Role::Master { slots: Vec::new() },
    });
    check(
        &all_see(nodes),
        expect![[r#"
        [FATAL] STRANGER: 10.0.0.9:6379: node 6363636363636363636363636363636363636363 is in no blueprint
                cure: on every instance: redis-cli -s SOCKET cluster forget 6363636363636363636363636363636363636363
        [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [OK] All 6 nodes agree about slots and roles.
        [OK] Every node says cluster_state:ok, and every replica is in sync.
        [OK] All 16384 slots covered.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
}

#[test]
fn slots_that_nobody_serves() {
    let mut nodes = nodes();
    nodes[0].role = Role::Master { slots: vec![SlotRange::new(0, 5000).unwrap()] };
    check(
        &all_see(nodes),
        expect![[r#"
            [FATAL] SLOTS_UNCOVERED: slots: 15924 of 16384 slots are served by a node that answers, or is seen to serve
                    cure: bring back an instance of the missing shard
            [FATAL] SLOTS_UNSERVED: slots 5001-5460: no master serves them
                    cure: assign them: the cluster serves nothing while cluster-require-full-coverage is yes, the default
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [OK] All 6 nodes agree about slots and roles.
            [OK] Every node says cluster_state:ok, and every replica is in sync.
            [OK] Every node is what the blueprint says.
            6 answered
        "#]],
    );
}

#[test]
fn a_node_that_nobody_knows() {
    let mut nodes = nodes();
    nodes.pop();
    check(
        &all_see(nodes),
        expect![[r#"
            [FATAL] FEW_REPLICAS: shard 2: it has 0 of the 1 replicas asked for
                    cure: add an instance to it, or bring the missing one back
            [FATAL] NODE_MISSING: server2 server2:7005: no node knows it
            [FATAL] VIEW_UNREADABLE: server2 server2:7005: line 5 of CLUSTER NODES: no line says myself
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [OK] All 5 nodes agree about slots and roles.
            [OK] Every node that answered says cluster_state:ok, and every replica is in sync.
            [OK] All 16384 slots covered.
            5 answered
        "#]],
    );
}

#[test]
fn views_that_differ() {
    let mut moved = nodes();
    moved[1].role = Role::Replica { master: moved[2].id };
    let moved = Topology::new(moved);
    changed(
        |answers| sees(&mut answers.values_mut().nth(1).unwrap().as_mut().unwrap()[1], &moved),
        expect![[r#"
        [FATAL] VIEWS_DIFFER: server2 server2:7003: sees 10.0.0.2:7004@17004 replica of 0505050505050505050505050505050505050505 where 10.0.0.2:7004@17004 replica of 0202020202020202020202020202020202020202 is right, in the eyes of server1:7000
        [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [OK] Every node says cluster_state:ok, and every replica is in sync.
        [OK] All 16384 slots covered.
        [OK] Every node is what the blueprint says.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
}

#[test]
fn a_node_that_was_cut_off_is_named_and_not_all_the_others() {
    let mut moved = nodes();
    moved[1].role = Role::Replica { master: moved[2].id };
    let moved = Topology::new(moved);
    changed(
        |answers| sees(&mut answers.values_mut().next().unwrap().as_mut().unwrap()[0], &moved),
        expect![[r#"
        [FATAL] VIEWS_DIFFER: server1 server1:7000: sees 10.0.0.2:7004@17004 replica of 0505050505050505050505050505050505050505 where 10.0.0.2:7004@17004 replica of 0202020202020202020202020202020202020202 is right, in the eyes of server2:7004
        [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [OK] Every node says cluster_state:ok, and every replica is in sync.
        [OK] All 16384 slots covered.
        [OK] Every node is what the blueprint says.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
}

#[test]
fn what_single_nodes_say() {
    changed(
        |answers| {
            let view = first(answers);
            view.cluster_ok = false;
            view.troubles = vec!["10.0.0.2:7004 (03030303) is suspected to have failed (fail?)".into()];
        },
        expect![[r#"
            [FATAL] CLUSTER_STATE: server1 server1:7000: says cluster_state:fail
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [WARN]  NODE_TROUBLE: server1 server1:7000: thinks that 10.0.0.2:7004 (03030303) is suspected to have failed (fail?)
            [OK] All 6 nodes agree about slots and roles.
            [OK] All 16384 slots covered.
            [OK] Every node is what the blueprint says.
            [OK] The placement rules hold.
            6 answered
        "#]],
    );
    changed(
        |answers| first(answers).node_id = id(99),
        expect![[r#"
        [FATAL] WRONG_NODE: server1 server1:7000: node 6363636363636363636363636363636363636363 answers there
        [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                cure: spread the masters over at least 3 hosts
        [OK] All 6 nodes agree about slots and roles.
        [OK] All 16384 slots covered.
        [OK] Every node is what the blueprint says.
        [OK] The placement rules hold.
        6 answered
    "#]],
    );
    changed(
        |answers| first(answers).nodes_text = Some("torn".into()),
        expect![[r#"
            [FATAL] SLOTS_UNCOVERED: slots: 10923 of 16384 slots are served by a node that answers, or is seen to serve
                    cure: bring back an instance of the missing shard
            [FATAL] VIEW_UNREADABLE: server1 server1:7000: line 1 of CLUSTER NODES: the address is missing
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [OK] All 5 nodes agree about slots and roles.
            [OK] Every node that answered says cluster_state:ok, and every replica is in sync.
            [OK] Every node is what the blueprint says.
            [OK] The placement rules hold.
            5 answered
        "#]],
    );
}

#[test]
fn a_replica_without_a_link() {
    changed(
        |answers| {
            let all = answers.values_mut().flat_map(|answer| answer.as_mut().unwrap());
            all.filter_map(|status| status.view.as_mut()).for_each(|view| view.link_up = false);
        },
        expect![[r#"
            [FATAL] LINK_DOWN: server1 server1:7002: its link to its master is not up
            [FATAL] LINK_DOWN: server2 server2:7004: its link to its master is not up
            [FATAL] LINK_DOWN: server2 server2:7005: its link to its master is not up
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [OK] All 6 nodes agree about slots and roles.
            [OK] All 16384 slots covered.
            [OK] Every node is what the blueprint says.
            [OK] The placement rules hold.
            6 answered
        "#]],
    );
}

#[test]
fn hosts_and_instances_that_do_not_answer() {
    changed(
        |answers| {
            answers.insert("server1".parse().unwrap(), Err("no answer within 10 s".into()));
            let silent = &mut answers.values_mut().nth(1).unwrap().as_mut().unwrap()[0];
            (silent.view, silent.reason) = (None, "does not answer: connection refused".into());
        },
        expect![[r#"
            [FATAL] HOST_SILENT: server1 agent: the agent did not answer: no answer within 10 s
                    cure: on server1: systemctl status muster-agent
            [FATAL] INSTANCE_SILENT: server2 server2:7004: does not answer: connection refused
                    cure: muster status orders
            [WARN]  MAJORITY_ON_HOST: server1 masters: server1 has 2 of 3 masters: if it dies, 1 of 3 is no majority and cannot elect
                    cure: spread the masters over at least 3 hosts
            [OK] All 2 nodes agree about slots and roles.
            [OK] Every node that answered says cluster_state:ok, and every replica is in sync.
            [OK] 5462 slots covered; the other 10922 too, in the eyes of every node that answered, on hosts whose agents did not.
            [OK] Every node is what the blueprint says.
            [OK] The placement rules hold.
            2 answered
        "#]],
    );
    changed(
        |answers| answers.values_mut().for_each(|answer| *answer = Err("it is not connected".into())),
        expect![[r#"
        [FATAL] HOST_SILENT: server1 agent: the agent did not answer: it is not connected
                cure: on server1: systemctl status muster-agent
        [FATAL] HOST_SILENT: server2 agent: the agent did not answer: it is not connected
                cure: on server2: systemctl status muster-agent
        [FATAL] NOBODY_ANSWERS: orders: no instance has answered
                cure: muster hosts
        0 answered
    "#]],
    );
    check(
        &Answers::new(),
        expect![[r#"
        [FATAL] NOBODY_ANSWERS: orders: no instance has answered
                cure: muster hosts
        0 answered
    "#]],
    );
}

/// It handed over and was stopped before all others had heard of the first.
#[test]
fn one_that_was_stopped_as_soon_as_it_had_handed_over_is_still_a_copy_of_its_shard() {
    let mut nodes = nodes();
    let slots = nodes[0].role.slots().to_vec();
    let gone = nodes[0].id;
    let heir = nodes.iter().position(|node| node.role.master() == Some(gone)).unwrap();
    nodes[0].role = Role::Master { slots: Vec::new() };
    nodes[heir].role = Role::Master { slots };
    let mut answers = all_see(nodes);
    for status in answers.values_mut().flat_map(|answer| answer.as_mut().unwrap()).filter(|it| it.node_id == gone) {
        (status.state, status.view) = (InstanceState::Stopped, None);
    }
    let fatal = |stopped: BTreeSet<NodeId>| {
        let verdict = judge(&blueprint(), ASKED, &answers, &Bars::new(), &stopped);
        let fatal = verdict.findings.into_iter().filter(|finding| finding.severity == Severity::Fatal);
        fatal.map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(fatal(BTreeSet::from([gone])), [""; 0]);
    assert_eq!(fatal(BTreeSet::new()), ["FEW_REPLICAS", "INSTANCE_SILENT", "MANY_MASTERS"]);
}
