//! What the store gives back, and what it refuses.

use muster_proto::{HostAssignment, HostName, Incarnation, wire};
use uuid::Uuid;

use super::*;
use crate::samples::{hello, record};

/// A store in a directory that goes with the test.
fn store() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
    (dir, ledger)
}

fn again(dir: &tempfile::TempDir) -> Ledger {
    Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap()
}

fn write(ledger: &Ledger, changes: impl FnOnce(&Write) -> Result<(), LedgerError>) {
    ledger.write(changes).unwrap();
}

fn operation(nth: u128, cluster: &str) -> OperationRecord {
    OperationRecord {
        id: OperationId(Uuid::from_u128(nth)),
        kind: "bootstrap".into(),
        cluster: cluster.parse().unwrap(),
        plan_hash: Some(Sha256([7; 32])),
        state: OpState::Running,
        phase: "CONFIGURE".into(),
        message: "begun".into(),
        started_ms: 1000,
        ended_ms: None,
        phases: Vec::new(),
        hand_overs: Vec::new(),
        last_seq: 0,
    }
}

fn same<T: std::fmt::Debug>(found: &T, expected: &T) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

#[test]
fn every_start_is_a_new_term() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    assert_eq!(Ledger::open(&path, Seal::for_tests()).unwrap().term(), Term(1));
    assert_eq!(Ledger::open(&path, Seal::for_tests()).unwrap().term(), Term(2));
}

#[test]
fn the_generation_moves_only_with_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
    let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
    let tell = |host, of| ledger.write(|write| write.tell(host, &HostAssignment::empty(of))).unwrap();
    let first = tell(&a, "a".parse().unwrap());
    assert_eq!(first.generation, 1);
    assert_eq!(tell(&a, "a".parse().unwrap()), first);
    assert_eq!(tell(&a, "other".parse().unwrap()).generation, 2);
    assert_eq!(tell(&b, "b".parse().unwrap()).generation, 1);
}

#[test]
fn a_failed_write_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
    let host = "a".parse().unwrap();
    let failed: Result<(), LedgerError> = ledger.write(|write| {
        write.tell(&host, &HostAssignment::empty(host.clone()))?;
        Err(LedgerError::Damaged("on purpose".into()))
    });
    assert!(failed.is_err());
    assert!(ledger.desired(&host).unwrap().is_none());
}

#[test]
fn a_cluster_is_read_back_as_it_was_written_and_its_cursor_moves() {
    let (dir, ledger) = store();
    let mut kept = record(Goal::Prepared, false);
    kept.blueprint.incarnation = Incarnation(7);
    let name = kept.blueprint.cluster.clone();
    write(&ledger, |write| write.cluster(&kept));
    drop(ledger);
    let ledger = again(&dir);
    same(&ledger.cluster(&name).unwrap().unwrap(), &kept);
    for goal in [Goal::Running, Goal::SetAside] {
        write(&ledger, |write| write.goal(&name, goal));
        same(&ledger.clusters().unwrap(), &vec![ClusterRecord { goal, ..kept.clone() }]);
    }
    let twice: Result<(), LedgerError> = ledger.write(|write| write.cluster(&kept));
    assert!(matches!(twice, Err(LedgerError::Sql(_))), "a name is taken once");
    assert!(ledger.cluster(&"other".parse().unwrap()).unwrap().is_none());
}

#[test]
fn a_formed_cluster_is_not_forgotten() {
    let (_dir, ledger) = store();
    let name = record(Goal::Running, false).blueprint.cluster;
    write(&ledger, |write| write.cluster(&record(Goal::Running, false)));
    write(&ledger, |write| write.forget_cluster(&name));
    assert!(ledger.cluster(&name).unwrap().is_none(), "one that never formed is");
    write(&ledger, |write| write.cluster(&record(Goal::Running, false)));
    write(&ledger, |write| write.formed(&name));
    assert!(ledger.cluster(&name).unwrap().unwrap().formed_ms.unwrap() > 0);
    let refused: Result<(), LedgerError> = ledger.write(|write| write.forget_cluster(&name));
    let said = "the store holds something that is not understood: orders is formed and cannot be forgotten";
    assert_eq!(refused.unwrap_err().to_string(), said);
    assert!(ledger.cluster(&name).unwrap().is_some());
}

#[test]
fn events_are_read_after_a_number_and_move_the_operation() {
    let (dir, ledger) = store();
    let (ours, other) = (operation(1, "orders"), operation(2, "carts"));
    write(&ledger, |write| write.operation(&ours).and_then(|()| write.operation(&other)));
    let event = |of: &OperationRecord, state, phase, message, count| {
        ledger.write(|write| write.event(of.id, state, phase, message, count)).unwrap()
    };
    let first = event(&ours, OpState::Running, "START", "starting", (0, 6));
    let theirs = event(&other, OpState::NeedsOperator, "CONFIGURE", "disk full", (1, 3));
    let last = event(&ours, OpState::Done, "FORMED", "formed", (6, 6));
    assert!(first < theirs && theirs < last, "one sequence for all");
    let seqs = |after| ledger.events(ours.id, after).unwrap().into_iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!([seqs(0), seqs(first), seqs(last)], [vec![first, last], vec![last], vec![]]);
    let told = &ledger.events(other.id, 0).unwrap()[0];
    assert_eq!((told.state, told.phase.as_str(), told.done, told.total), (OpState::NeedsOperator, "CONFIGURE", 1, 3));
    drop(ledger);
    let ledger = again(&dir);
    let found = ledger.operation(ours.id).unwrap().unwrap();
    assert_eq!((found.state, found.phase.as_str(), found.message.as_str()), (OpState::Done, "FORMED", "formed"));
    assert!(found.ended_ms.is_some() && found.last_seq == last, "{found:?}");
    assert_eq!(ledger.operation(other.id).unwrap().unwrap().ended_ms, None);
    let after = ledger.write(|write| write.event(ours.id, OpState::Done, "FORMED", "again", (6, 6))).unwrap();
    assert!(after > last, "numbers are never used again");
}

#[test]
fn operations_are_listed_newest_first_with_their_phases() {
    let (_dir, ledger) = store();
    for (nth, cluster) in [(1, "orders"), (3, "orders"), (2, "carts")] {
        write(&ledger, |write| write.operation(&operation(nth, cluster)));
    }
    let ids = |of| ledger.operations(of).unwrap().iter().map(|one| one.id.0.as_u128()).collect::<Vec<_>>();
    assert_eq!((ids(None), ids(Some("orders")), ids(Some("none"))), (vec![3, 2, 1], vec![3, 1], vec![]));
    let id = operation(1, "orders").id;
    write(&ledger, |write| write.phase(id, "CONFIGURE", 5).and_then(|()| write.phase(id, "START", 7)));
    let phases = vec![("CONFIGURE".to_owned(), 5), ("START".to_owned(), 7)];
    same(&ledger.operation(id).unwrap().unwrap(), &OperationRecord { phases, ..operation(1, "orders") });
    assert!(ledger.operation(OperationId(Uuid::from_u128(9))).unwrap().is_none());
}

#[test]
fn a_request_is_answered_once() {
    let (dir, ledger) = store();
    let (asked, id) = (Sha256([1; 32]), operation(1, "orders").id);
    assert_eq!(ledger.request("r1").unwrap(), None);
    write(&ledger, |write| write.request("r1", &asked, id));
    assert_eq!(again(&dir).request("r1").unwrap(), Some((asked, id)));
    let twice: Result<(), LedgerError> = ledger.write(|write| write.request("r1", &Sha256([2; 32]), id));
    assert!(matches!(twice, Err(LedgerError::Sql(_))));
    assert_eq!(ledger.request("r1").unwrap(), Some((asked, id)), "and the first answer stands");
}

#[test]
fn what_hosts_were_told_and_who_called_survives_a_restart() {
    let (dir, ledger) = store();
    let host = "server1".parse().unwrap();
    let called = wire::Hello::from(&hello("server1"));
    let told = ledger
        .write(|write| {
            write.host(&host, &called)?;
            write.tell(&host, &HostAssignment::empty(host.clone()))
        })
        .unwrap();
    drop(ledger);
    let ledger = again(&dir);
    assert_eq!(ledger.hosts().unwrap()[0].0, called);
    assert_eq!(ledger.desired(&host).unwrap(), Some(wire::Desired { term: 2, ..told }), "under the new term");
}

#[test]
fn plans_are_kept_until_an_hour_after_they_expire() {
    let (_dir, ledger) = store();
    let plan = |hash: &str, expires_unix_ms| wire::Plan { hash: hash.into(), expires_unix_ms, ..Default::default() };
    let hour = 3_600_000;
    for plan in
        [plan("old", unix_ms() - hour - 1000), plan("late", unix_ms() - hour / 2), plan("new", unix_ms() + hour)]
    {
        write(&ledger, |write| write.plan(&plan));
    }
    let kept = ["old", "late", "new"].map(|hash| ledger.plan(hash).unwrap().map(|plan| plan.hash));
    assert_eq!(kept, [None, Some("late".into()), Some("new".into())]);
}

#[test]
fn a_store_of_another_version_is_left_alone() {
    let (dir, ledger) = store();
    drop(ledger);
    let path = dir.path().join("store.db");
    // An older one too: it would have its end of the audit sealed anew, wherever that is then.
    for other in [0, SCHEMA_BEFORE - 1, SCHEMA_VERSION + 1] {
        Connection::open(&path).unwrap().pragma_update(None, "user_version", other).unwrap();
        assert!(Ledger::is_sealed(&path).unwrap(), "no other key is made for it");
        let refused = Ledger::open(&path, Seal::for_tests()).unwrap_err().to_string();
        assert!(refused.contains(&format!("its schema is {other}, and this version of Muster")), "{refused}");
    }
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA_VERSION).unwrap();
    assert_eq!(Ledger::open(&path, Seal::for_tests()).unwrap().term(), Term(2), "and no term was begun");
}

#[test]
fn what_is_damaged_is_said_and_not_guessed() {
    let (dir, ledger) = store();
    let kept = record(Goal::Prepared, false);
    write(&ledger, |write| write.cluster(&kept));
    let spoil = |sql: &str| Connection::open(dir.path().join("store.db")).unwrap().execute(sql, []).unwrap();
    spoil("UPDATE clusters SET goal = 'destroyed'");
    let said = ledger.cluster(&kept.blueprint.cluster).unwrap_err().to_string();
    assert_eq!(said, "the store holds something that is not understood: the goal \"destroyed\"");
    spoil("UPDATE clusters SET goal = 'prepared', blueprint = x'ff'");
    assert!(matches!(ledger.clusters(), Err(LedgerError::Damaged(_))));
}

#[test]
fn states_come_back_from_the_store_and_others_do_not() {
    for (state, word) in OpState::ALL {
        assert_eq!((state.word(), OpState::from_word(word)), (word, Some(state)));
    }
    assert_eq!(OpState::from_word("asleep"), None);
}

#[test]
fn what_a_host_is_told_is_sealed() {
    let (dir, ledger) = store();
    let host: HostName = "server1".parse().unwrap();
    let told = ledger.write(|write| write.tell(&host, &HostAssignment::empty(host.clone()))).unwrap();
    let path = dir.path().join("store.db");
    let query = "SELECT document FROM desired WHERE host = 'server1'";
    let kept: Vec<u8> = Connection::open(&path).unwrap().query_row(query, [], |row| row.get(0)).unwrap();
    assert_ne!(kept, told.document);
    drop(ledger);
    // With another key it says so, begins nothing, and loses nothing.
    let said = Ledger::open(&path, Seal::new(&[8; 32]).unwrap()).unwrap_err().to_string();
    assert!(said.contains("secrets cannot be used: is key_file"), "{said}");
    let ledger = Ledger::open(&path, Seal::for_tests()).unwrap();
    assert_eq!(ledger.term(), Term(2));
    assert_eq!(ledger.desired(&host).unwrap().unwrap().document, told.document);
}
