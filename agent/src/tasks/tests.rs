//! The same id gets the same answer, whatever has happened since, and the work is done once.
#![allow(clippy::await_holding_lock, reason = "one test a runtime: nobody else waits for the lock there")]

use std::net::{IpAddr, TcpListener};

use muster_proto::Want;

use super::*;
use crate::samples::{self, alone, layout};

/// An address of this process alone, and another than that of the survey's own tests.
fn address() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 85, high, low.max(1)].into()
}

struct Agent {
    tasks: Arc<Tasks>,
    _assignment: tokio::sync::watch::Sender<Arc<HostAssignment>>,
    _base: tempfile::TempDir,
    _alone: std::sync::MutexGuard<'static, ()>,
}

fn agent() -> Agent {
    let alone = alone();
    let (base, layout) = layout();
    let config = Config { address: address(), redis_server: Some("/bin/true".into()), ..samples::config(base.path()) };
    let (assignment, assigned) = tokio::sync::watch::channel(Arc::new(samples::assignment(Want::Running, false)));
    let trash = Arc::new(Trash::new(layout.clone(), assigned.clone(), config.trash));
    Agent {
        tasks: Tasks::new(config, layout, assigned, mpsc::channel(8).0, trash),
        _assignment: assignment,
        _base: base,
        _alone: alone,
    }
}

impl Agent {
    async fn ask(&self, id: &str, kind: Option<Kind>) -> Outcome {
        let result = self.tasks.clone().perform(wire::Task { id: id.into(), term: 1, kind }).await;
        assert_eq!(result.id, id);
        result.outcome.unwrap()
    }
}

fn dial(port: u16) -> Option<Kind> {
    let target = wire::Target { host: "b".into(), address: address().to_string(), port: port.into(), bus: false };
    Some(Kind::Reach(wire::Reach { targets: vec![target], timeout_ms: 2000 }))
}

fn reached(outcome: &Outcome) -> u32 {
    let Outcome::Reach(result) = outcome else { panic!("{outcome:?}") };
    result.reached
}

#[tokio::test]
async fn an_answer_is_remembered_and_another_id_asks_anew() {
    let (agent, listener) = (agent(), TcpListener::bind((address(), 7400)).unwrap());
    let first = agent.ask("1", dial(7400)).await;
    assert_eq!(reached(&first), 1);
    drop(listener);
    assert_eq!(agent.ask("1", dial(7400)).await, first);
    assert_eq!(agent.ask("1", None).await, first, "by its id alone");
    assert_eq!(reached(&agent.ask("2", dial(7400)).await), 0);
}

#[tokio::test]
async fn two_who_ask_the_same_at_once_get_one_answer() {
    let (agent, listener) = (agent(), TcpListener::bind((address(), 7401)).unwrap());
    let (one, two) = tokio::join!(agent.ask("1", dial(7401)), agent.ask("1", dial(7401)));
    assert_eq!((reached(&one), &one), (1, &two));
    listener.set_nonblocking(true).unwrap();
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "dialled once");
}

#[tokio::test]
async fn an_answer_is_forgotten_only_after_many_others() {
    let (agent, listener) = (agent(), TcpListener::bind((address(), 7402)).unwrap());
    agent.ask("first", dial(7402)).await;
    drop(listener);
    for nth in 1..REMEMBERED {
        agent.ask(&nth.to_string(), None).await;
    }
    assert_eq!(reached(&agent.ask("first", dial(7402)).await), 1);
    agent.ask("one more", None).await;
    assert_eq!(reached(&agent.ask("first", dial(7402)).await), 0);
}

#[tokio::test]
async fn a_survey_holds_ports_until_they_are_released_and_is_not_in_its_own_way() {
    let agent = agent();
    let survey = || {
        Some(Kind::Survey(wire::Survey {
            ports: vec![7403],
            bus_offset: 10_000,
            hold_ms: 60_000,
            ..wire::Survey::default()
        }))
    };
    for id in ["1", "2"] {
        let Outcome::Survey(found) = agent.ask(id, survey()).await else { panic!("no survey") };
        assert_eq!(found.ports[0].client_error, "");
        TcpListener::bind((address(), 7403)).unwrap_err();
    }
    agent.ask("3", Some(Kind::Release(wire::Release {}))).await;
    TcpListener::bind((address(), 7403)).unwrap();
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let agent = agent();
    let said = async |id: &str, kind| match agent.ask(id, kind).await {
        Outcome::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(said("1", None).await, "this task is not known to this agent; upgrade it");
    let probe = |cluster: &str| Some(Kind::Probe(wire::Probe { cluster: cluster.into() }));
    assert_eq!(said("2", probe("other")).await, "this host has no instance of cluster other");
    let Outcome::Probe(probed) = agent.ask("3", probe("orders")).await else { panic!("no probe") };
    assert_eq!(probed.instances.len(), 2);
    assert!(
        probed.instances.iter().all(|one| one.view.is_none() && one.reason == "does not answer: no server runs there")
    );
}

#[tokio::test]
async fn the_trash_is_listed_and_emptied_by_a_clusters_id() {
    let agent = agent();
    let stamp = samples::stamp();
    agent.tasks.layout.instance(stamp.port).establish(&stamp, &samples::files("", "")).unwrap();
    agent.tasks.layout.instance(stamp.port).set_aside(&stamp).unwrap();
    let rummage = |id: &str| Some(Kind::Rummage(wire::Rummage { cluster_id: id.into() }));
    let Outcome::Rummage(found) = agent.ask("1", rummage("")).await else { panic!("no list") };
    assert_eq!((found.directories.len(), found.errors.len()), (1, 0));
    let id = found.directories[0].cluster_id.clone();
    let Outcome::Rummage(of) = agent.ask("2", rummage(&uuid::Uuid::max().to_string())).await else { panic!("no list") };
    assert_eq!(of.directories, []);
    for (nth, wrong) in ["", "orders"].iter().enumerate() {
        let purge = Some(Kind::Purge(wire::Purge { cluster_id: (*wrong).into(), incarnation: 0 }));
        let Outcome::Failed(why) = agent.ask(&format!("wrong{nth}"), purge).await else { panic!("not refused") };
        assert!(why.contains("is no cluster's id"), "{why}");
    }
    let purge = || Some(Kind::Purge(wire::Purge { cluster_id: id.clone(), incarnation: 0 }));
    let purged = agent.ask("3", purge()).await;
    let Outcome::Purge(gone) = &purged else { panic!("{purged:?}") };
    assert_eq!((&gone.directories, gone.errors.len()), (&found.directories, 0));
    assert_eq!(agent.ask("3", purge()).await, purged, "as any task");
    let Outcome::Purge(gone) = agent.ask("4", purge()).await else { panic!("no answer") };
    assert_eq!(gone.directories, []);
}

#[tokio::test]
async fn instances_are_appraised_also_where_none_runs() {
    let agent = agent();
    let appraise = |cluster: &str| Some(Kind::Appraise(wire::Appraise { cluster: cluster.into(), watch_ms: 100 }));
    let Outcome::Appraisal(found) = agent.ask("1", appraise("orders")).await else { panic!("no answer") };
    assert_eq!(found.instances.iter().map(|one| one.port).collect::<Vec<_>>(), [7000, 7001]);
    assert!(found.instances.iter().all(|one| one.error.ends_with("no server runs there")));
    assert!(matches!(agent.ask("2", appraise("other")).await, Outcome::Failed(_)));
}
