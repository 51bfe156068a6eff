//! What is found in the trash of two hosts, and what may be deleted from it.

use std::collections::BTreeSet;

use muster_proto::{
    AccessRole,
    access::{Rule, rule},
    wire::{task::Kind, task_result::Outcome},
};

use super::*;
use crate::{
    caller::Caller,
    formation::Goal,
    samples::{
        fleet::{Fleet, agents::Asked},
        record,
    },
};

const ID: &str = "00000000-0000-0000-0000-000000000000";

fn visit() -> Visit {
    let caller = Caller::User { name: "anna".into(), role: AccessRole::Destroyer, expires_ms: u64::MAX };
    Visit { caller, from: "here".into(), certificate_ms: None }
}

fn directory(cluster: &str, incarnation: u64, port: u32) -> wire::Discarded {
    let name = format!("{port}-{cluster}-life{incarnation}");
    let cluster_id = if cluster == "orders" { ID.to_owned() } else { Uuid::from_u128(7).to_string() };
    let members = record(Goal::Running, true).blueprint.members;
    let node_id = members.iter().find(|member| u32::from(member.port) == port).unwrap().node_id.to_string();
    wire::Discarded {
        name,
        cluster: cluster.into(),
        cluster_id,
        incarnation,
        life: incarnation,
        node_id,
        port,
        bytes: 1000,
        ..Default::default()
    }
}

/// Life 2, which had instances at these ports.
fn returnable(ports: &[u32]) -> Returnable {
    let mut blueprint = record(Goal::Running, true).blueprint;
    blueprint.incarnation = Incarnation(2);
    blueprint.members.retain(|member| ports.contains(&u32::from(member.port)));
    Returnable { blueprint, in_place: BTreeSet::new() }
}

/// Two hosts with a cluster, and lives of it and of another in their trash.
fn fleet() -> (Fleet, Asked) {
    let mut fleet = Fleet::new(&[record(Goal::Running, true)]);
    let asked = fleet.answers(|host, kind| {
        let base = if host.as_str() == "server1" { 7000 } else { 7003 };
        let life = |life| (base..base + 2).map(move |port| directory("orders", life, port));
        Some(match kind {
            Kind::Rummage(_) => {
                let directories = life(2).chain(life(1)).chain([directory("carts", 1, base + 2)]).collect();
                let errors = if base == 7003 { vec!["7009-x: no stamp".into()] } else { Vec::new() };
                Outcome::Rummage(wire::RummageResult { directories, errors })
            }
            Kind::Purge(task) => {
                let errors = if base == 7003 { vec!["7003 is busy".into()] } else { Vec::new() };
                let directories = life(1).filter(|one| one.cluster_id == task.cluster_id).collect();
                Outcome::Purge(wire::PurgeResult { directories, errors })
            }
            other => Outcome::Failed(format!("{other:?}")),
        })
    });
    (fleet, asked)
}

async fn listed(fleet: &Fleet, cluster: &str) -> Result<(Vec<String>, Vec<String>), Failure> {
    let request = wire::ListTrashRequest { cluster: cluster.into() };
    let answer = list(&fleet.shared, &request, &[returnable(&[7000, 7001, 7003, 7004])]).await?;
    let line = |entry: wire::TrashEntry| {
        let undo = if entry.undoable { " undoable" } else { "" };
        format!("{}/{} {}:{}{undo}", entry.cluster, entry.incarnation, entry.host, entry.port)
    };
    Ok((answer.entries.into_iter().map(line).collect(), answer.unknown))
}

#[tokio::test]
async fn the_trash_of_all_hosts_is_one_list_that_says_what_can_come_back() {
    let (fleet, _) = fleet();
    let (entries, unknown) = listed(&fleet, "").await.unwrap();
    assert_eq!(
        entries,
        [
            "carts/1 server1:7002",
            "carts/1 server2:7005",
            "orders/1 server1:7000",
            "orders/1 server1:7001",
            "orders/1 server2:7003",
            "orders/1 server2:7004",
            "orders/2 server1:7000 undoable",
            "orders/2 server1:7001 undoable",
            "orders/2 server2:7003 undoable",
            "orders/2 server2:7004 undoable",
        ]
    );
    assert_eq!(unknown, ["server2: 7009-x: no stamp"]);
    let (entries, _) = listed(&fleet, "carts").await.unwrap();
    assert_eq!(entries.len(), 2, "one that is only in the trash");
}

#[tokio::test]
async fn a_life_that_is_not_all_there_cannot_come_back_and_what_is_missing_is_said() {
    let (fleet, _) = fleet();
    let ports = [7000, 7001, 7002, 7003, 7004, 7005];
    let request = wire::ListTrashRequest::default();
    let answer = list(&fleet.shared, &request, &[returnable(&ports)]).await.unwrap();
    assert!(answer.entries.iter().all(|entry| !entry.undoable), "{answer:?}");
    let why = "life 2 of orders cannot be put back whole: not there any more: server1 (7002), server2 (7005)";
    assert_eq!(answer.incomplete, [why]);
    let other = wire::ListTrashRequest { cluster: "carts".into() };
    let answer = list(&fleet.shared, &other, &[returnable(&ports)]).await.unwrap();
    assert_eq!(answer.incomplete, [""; 0], "it is of another cluster");
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_named_and_a_name_that_it_may_know_is_not_refused() {
    let (fleet, _) = fleet();
    fleet.parts(&"server2".parse().unwrap());
    let (entries, unknown) = listed(&fleet, "nothing").await.unwrap();
    assert!(entries.is_empty());
    assert!(unknown.len() == 1 && unknown[0].starts_with("server2: it is not connected, and was last"), "{unknown:?}");
}

#[tokio::test]
async fn a_cluster_that_is_nowhere_is_unknown() {
    let mut fleet = Fleet::new(&[record(Goal::Running, true)]);
    fleet.answers(|_, _| Some(Outcome::Rummage(wire::RummageResult::default())));
    let unknown = listed(&fleet, "nothing").await.unwrap_err();
    assert!(unknown.is(Reason::UnknownCluster), "{unknown}");
    assert_eq!(unknown.message, "there is no cluster nothing, and none in any trash");
    assert_eq!(listed(&fleet, "orders").await.unwrap(), (vec![], vec![]), "one that has set nothing aside is known");
    let wrong = listed(&fleet, "No Name").await.unwrap_err();
    assert!(wrong.is(Reason::InvalidArgument), "{wrong}");
}

async fn purged(
    fleet: &Fleet,
    (cluster_id, incarnation, host): (&str, u64, &str),
    undoing: Option<OperationId>,
) -> Result<wire::PurgeTrashResponse, Failure> {
    let request = wire::PurgeTrashRequest { cluster_id: cluster_id.into(), incarnation, host: host.into() };
    purge(&fleet.shared, &visit(), &request, |_, _| Ok(undoing)).await
}

fn audited(fleet: &Fleet) -> Vec<String> {
    fleet.shared.ledger.audit(0, 100).unwrap().0.into_iter().map(|entry| entry.detail).collect()
}

#[tokio::test]
async fn what_is_deleted_is_in_the_audit_before_and_after() {
    let (fleet, asked) = fleet();
    let answer = purged(&fleet, (ID, 1, ""), None).await.unwrap();
    assert_eq!(answer.purged.len(), 4);
    assert_eq!(answer.errors, ["server2: 7003 is busy"]);
    assert_eq!(
        audited(&fleet),
        [
            format!("life 1 of cluster {ID} in the trash of all hosts: deleted from now on"),
            format!(
                "life 1 of cluster {ID} in the trash of all hosts: gone: server1: 2 directories, 2000 bytes; \
                 server2: 2 directories, 2000 bytes; server2: 7003 is busy"
            ),
        ]
    );
    assert_eq!(asked.lock().unwrap().len(), 2);
    let answer = purged(&fleet, (ID, 0, "server1"), None).await.unwrap();
    assert_eq!((answer.purged.len(), answer.errors.len()), (2, 0));
    let last = format!("Purge(Purge {{ cluster_id: \"{ID}\", incarnation: 0 }})");
    assert_eq!(asked.lock().unwrap()[2..], [format!("server1: {last}")], "nobody else was asked");
}

#[tokio::test]
async fn whom_it_could_not_ask_is_said() {
    let (fleet, _) = fleet();
    fleet.parts(&"server2".parse().unwrap());
    let answer = purged(&fleet, (&Uuid::from_u128(9).to_string(), 0, ""), None).await.unwrap();
    assert!(answer.purged.is_empty());
    let errors = answer.errors;
    assert!(errors.len() == 1 && errors[0].starts_with("server2: it is not connected, and was last"), "{errors:?}");
    let said = audited(&fleet).pop().unwrap();
    assert!(said.contains("in the trash of all hosts: nothing was there; server2: it is not connected"), "{said}");
}

#[tokio::test]
async fn nothing_is_deleted_by_a_wrong_name_of_a_wrong_host_or_under_an_undo() {
    let (fleet, asked) = fleet();
    let undo = OperationId(Uuid::from_u128(5));
    for (request, undoing, reason) in [
        (("orders", 0, ""), None, Reason::InvalidArgument),
        (("", 0, ""), None, Reason::InvalidArgument),
        ((ID, 0, "nobody"), None, Reason::UnknownHost),
        ((ID, 0, "No Host"), None, Reason::UnknownHost),
        ((ID, 1, ""), Some(undo), Reason::OperationBusy),
    ] {
        let refused = purged(&fleet, request, undoing).await.unwrap_err();
        assert!(refused.is(reason), "{request:?}: {refused}");
    }
    assert!(asked.lock().unwrap().is_empty() && audited(&fleet).is_empty());
}

#[tokio::test]
async fn it_takes_a_destroyer_and_where_that_is_asked_for_two() {
    assert_eq!(rule("/muster.v1.Admin/PurgeTrash"), Some(Rule::AtLeast(AccessRole::Destroyer)));
    let mut fleet = Fleet::new(&[record(Goal::Running, true)]).two_persons();
    let asked = fleet.answers(|_, _| None);
    let refused = purged(&fleet, (ID, 2, "server1"), None).await.unwrap_err();
    assert!(refused.is(Reason::SecondPersonNeeded), "{refused}");
    assert_eq!(
        refused.message,
        format!(
            "to delete life 2 of cluster {ID} in the trash of host server1 takes a second person; nothing was done yet"
        )
    );
    assert!(asked.lock().unwrap().is_empty());
}
