//! What travels to agents, and what comes back of it.

use muster_proto::HostName;

use super::*;
use crate::{
    formation::Goal,
    preflight::own::{Listens, Ours, Own},
    samples::{blueprint, fleet::Fleet, record, spec},
};

fn server1() -> HostName {
    "server1".parse().unwrap()
}

/// The bus ports of another life are asked for under their own numbers; and where a server of ours holds a port of this
/// one, it is the server that is dialled.
#[tokio::test]
async fn a_preflight_of_a_cluster_that_is_there_dials_its_servers_and_its_next_bus_ports() {
    let mut fleet = Fleet::new(&[record(Goal::Running, true)]);
    let asked = fleet.answers(|_, kind| {
        Some(match kind {
            Kind::Survey(task) => {
                let fact = |port: &u32| wire::PortFact {
                    port: *port,
                    client_error: "address already in use".into(),
                    client_holder: if *port == 7000 { "pid 1 (nc)".into() } else { "pid 4711 (redis-server)".into() },
                    directory: wire::Directory::Stamped.into(),
                    directory_note: "orders".into(),
                    ..Default::default()
                };
                Outcome::Survey(wire::SurveyResult {
                    ports: task.ports.iter().map(fact).collect(),
                    ..Default::default()
                })
            }
            Kind::Reach(_) => Outcome::Reach(wire::ReachResult::default()),
            _ => Outcome::Release(wire::ReleaseResult::default()),
        })
    });
    let mut ours = Ours::new();
    for member in blueprint().members {
        let own = Own { bus: member.bus_port, listens: Listens::Process(4711) };
        ours.entry(member.host).or_default().insert(member.port, own);
    }
    let answers = fleet.shared.preflight(&spec(), 11_000, &ours).await;
    let facts = &answers[&server1()].survey.as_ref().unwrap().ports;
    let left: Vec<_> = facts.iter().filter(|fact| !fact.client_error.is_empty()).map(|fact| fact.port).collect();
    assert_eq!(left, [7000], "what a stranger holds is still found");
    assert!(facts.iter().all(|fact| fact.directory() == wire::Directory::Free));
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().filter(|one| one.contains("Survey(") && one.contains("bus_offset: 11000")).count() == 2);
    let dials = asked.iter().find(|one| one.starts_with("server2: Reach(")).unwrap();
    let dialled = |port: u32, bus: bool| dials.contains(&format!("port: {port}, bus: {bus}"));
    assert!(!dialled(7000, false) && dialled(7001, false) && dialled(7002, false), "{dials}");
    assert!(dialled(18_000, true) && dialled(18_001, true) && !dialled(17_000, true), "{dials}");
}

#[tokio::test]
async fn what_instances_hold_is_asked_of_every_host_and_a_wrong_answer_is_none() {
    let mut fleet = Fleet::new(&[record(Goal::Running, true)]);
    fleet.answers(|host, kind| match (host.as_str(), kind) {
        ("server1", Kind::Appraise(task)) if task.cluster == "orders" && task.watch_ms == 1000 => {
            let instances = vec![wire::Appraised { port: 7000, keys: 3, ..Default::default() }];
            Some(Outcome::Appraisal(wire::Appraisal { instances, trash_error: String::new() }))
        }
        _ => Some(Outcome::Release(wire::ReleaseResult::default())),
    });
    let found = fleet.shared.appraise(&blueprint()).await;
    assert_eq!(found[&server1()].as_ref().unwrap().instances[0].keys, 3);
    assert_eq!(found[&"server2".parse().unwrap()], Err("its answer is of another kind".to_owned()));
    fleet.parts(&server1());
    let found = fleet.shared.appraise(&blueprint()).await;
    assert!(found[&server1()].as_ref().unwrap_err().starts_with("it is not connected"));
}
