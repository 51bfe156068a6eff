//! A rebuild that does not go through in one go: called off, paused, with an agent that dies, with a host that never
//! comes back; and everything that it must not be mixed with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use muster_proto::{
    failure::{Failure, Reason},
    wire::{RollKind, RollRequest},
};
use muster_tests::{
    Data, Output, Status, World,
    api::{anew, back, blindly},
    data, eventually, lives, processes, redis,
};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(60);
/// Longer than the longest time between two passes of the coordinator, which is 1 s.
const PASS: Duration = Duration::from_millis(1500);
const SEED: [(&str, &str); 2] = [("server1", "7000-7002"), ("server2", "7003-7005")];
/// A server that does not end is waited for longer than any test takes.
const PATIENT: &str = "stop_patience_ms = 600000";

/// The seed's layout with a formed cluster that holds data.
fn formed(extra: &str) -> (World, Status, Data) {
    let world = World::up_with(&SEED, extra);
    world.bootstrap("orders");
    let formed = lives::standing(&world, "orders");
    let data = Data::write(&formed, "old", 200);
    lives::until_latched(&world);
    (world, formed, data)
}

/// A server that has been stopped by a signal cannot end: whoever stops everything waits for it. Dropping it lets it
/// go on.
struct Stuck(i32);

impl Stuck {
    fn at(status: &Status, host: &str, port: u16) -> Self {
        let pid = status.at(host, port).pid.unwrap();
        processes::signal(pid, Signal::SIGSTOP);
        Self(pid)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        processes::signal(self.0, Signal::SIGCONT);
    }
}

/// Something is in the trash already where a directory is to be set aside: past the point of no return, and no further.
struct Obstacle(PathBuf);

impl Obstacle {
    fn before(world: &World, life: &Status, host: &str, port: u16) -> Self {
        let place = lives::aside(world, life, life.at(host, port));
        fs::create_dir(&place).unwrap();
        Self(place)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        // The world may have gone already.
        let _ = fs::remove_dir(&self.0);
    }
}

#[track_caller]
fn is(failure: Failure, reason: Reason, parts: &[&str]) {
    assert!(failure.is(reason), "{failure:?} is not {reason:?}");
    let said = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said\n{output}");
    }
}

/// The cluster as it was, with everything that it held, and nothing set aside.
#[track_caller]
fn as_before(world: &World, before: &Status, data: &Data) {
    let now = lives::standing(world, "orders");
    assert_eq!((now.incarnation, now.node_ids()), (1, before.node_ids()));
    data.is_there(&now);
    assert_eq!(data::count(&now), 200);
    assert_eq!(lives::all_trash(world), []);
    world.muster(&["check", "orders"]).expect(0);
}

#[track_caller]
fn rebuilt(world: &World, before: &Status) {
    let now = lives::standing(world, "orders");
    assert_eq!(now.incarnation, 2);
    assert!(now.node_ids().is_disjoint(&before.node_ids()));
    assert_eq!(data::count(&now), 0);
    lives::are(&lives::all_trash(world), before);
}

#[test]
fn called_off_while_it_fences_the_cluster_comes_back_with_every_key() {
    let (world, before, data) = formed(PATIENT);
    let mut api = world.api();
    let stuck = Stuck::at(&before, "server1", 7001);
    let unknown = api.rebuild(anew("orders")).unwrap_err();
    is(unknown, Reason::ClientsWrite, &["server1 (7001)", "is not known", "does not answer", "--even-if-serving"]);
    let id = api.rebuild(blindly(anew("orders"))).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server1:7001"]);
    eventually(SOON, "all others are stopped", || {
        let left: usize = ["server1", "server2"].map(|host| world.redis_pids(host).len()).iter().sum();
        if left == 1 { Ok(()) } else { Err(format!("{left} are left")) }
    });
    assert_eq!(lives::all_trash(&world), [], "nothing is moved before everything is stopped");
    let status = world.status("orders").unwrap();
    assert_eq!((&*status.state, status.incarnation), ("rebuilding", 1));

    world.muster(&["op", "cancel", &id]).expect(0);
    world.until_operation(SOON, &id, "cancelling", &["server1:7001"]);
    drop(stuck);
    let ended = world.until_operation(SOON, &id, "cancelled", &["the cluster is back as it was"]);
    assert_eq!(ended["phase"], "RETURN");
    says(&world.muster(&["op", "watch", &id]).expect(1), &["was cancelled"]);
    is(api.cancel(&id).unwrap_err(), Reason::OperationEnded, &[]);
    as_before(&world, &before, &data);

    // And it can be rebuilt then.
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    rebuilt(&world, &before);
}

#[test]
fn paused_while_it_fences_it_moves_nothing_until_it_is_resumed() {
    let (mut world, before, _) = formed(PATIENT);
    let mut api = world.api();
    let stuck = Stuck::at(&before, "server2", 7003);
    let id = api.rebuild(blindly(anew("orders"))).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server2:7003"]);
    world.muster(&["op", "pause", &id]).expect(0);
    drop(stuck);
    let nothing_runs = |world: &World| {
        let left: Vec<i32> = ["server1", "server2"].iter().flat_map(|host| world.redis_pids(host)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    };
    eventually(SOON, "what it was told before is done", || nothing_runs(&world));
    // Over a death of the coordinator, too.
    world.coordinator().restart();
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    let began = Instant::now();
    while began.elapsed() < PASS {
        world.until_operation(SOON, &id, "paused", &[]);
        assert_eq!(lives::all_trash(&world), [], "a paused rebuild moves nothing");
        assert_eq!(world.status("orders").unwrap().incarnation, 1);
        nothing_runs(&world).unwrap();
    }
    world.muster(&["op", "resume", &id]).expect(0);
    world.muster(&["op", "watch", &id]).expect(0);
    rebuilt(&world, &before);
}

#[test]
fn past_the_point_of_no_return_it_can_be_paused_and_resumed_and_not_called_off() {
    let (mut world, before, data) = formed("");
    let mut api = world.api();
    let obstacle = Obstacle::before(&world, &before, "server2", 7004);
    let id = api.rebuild(anew("orders")).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server2:7004", "in the trash already"]);
    world.until_phase(SOON, &id, "WIPE");
    let late = world.muster(&["op", "cancel", &id]).expect(1);
    says(&late, &["point of no return", "muster rebuild orders --undo", "nothing was changed"]);
    is(api.cancel(&id).unwrap_err(), Reason::PastNoReturn, &["muster op pause"]);
    let set_aside = |world: &World| lives::of_life(&lives::all_trash(world), 1).len();
    eventually(SOON, "all others are set aside", || match set_aside(&world) {
        5 => Ok(()),
        count => Err(format!("{count} of 5")),
    });

    // An agent dies, and while it is away somebody pauses: when it is back there is no permit.
    world.agent("server2").kill();
    world.muster(&["op", "pause", &id]).expect(0);
    drop(obstacle);
    world.agent("server2").start();
    world.until_host("server2", "live");
    let began = Instant::now();
    while began.elapsed() < PASS {
        world.until_operation(SOON, &id, "paused", &[]);
        assert_eq!(set_aside(&world), 5, "a permit was given while it was paused");
    }
    says(&world.muster(&["op", "show", &id]).expect(0), &["way back", "muster rebuild orders --undo"]);
    world.muster(&["op", "resume", &id]).expect(0);
    world.muster(&["op", "watch", &id]).expect(0);
    rebuilt(&world, &before);

    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    let again = lives::standing(&world, "orders");
    data.is_there(&again);
    assert_eq!((again.incarnation, data::count(&again)), (1, 200));
}

/// Some directories are set aside already, one is not, and nothing of the next life has ever run.
#[test]
fn a_rebuild_that_stands_still_is_undone_from_the_middle() {
    let (world, before, data) = formed("");
    let mut api = world.api();
    let obstacle = Obstacle::before(&world, &before, "server1", 7000);
    let id = api.rebuild(anew("orders")).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server1:7000"]);
    world.until_phase(SOON, &id, "WIPE");
    is(api.rebuild(back("orders")).unwrap_err(), Reason::OperationBusy, &[&format!("muster op pause {id}")]);
    world.muster(&["op", "pause", &id]).expect(0);
    let undone = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    says(&undone, &[&id, "gives way"]);
    drop(obstacle);
    let again = lives::standing(&world, "orders");
    assert_eq!((again.incarnation, again.node_ids()), (1, before.node_ids()));
    data.is_there(&again);
    assert_eq!(data::count(&again), 200);
    let gone = world.muster(&["op", "show", &id, "--output", "json"]).expect(0).json()["operation"].clone();
    assert_eq!(gone["state"], "cancelled", "{gone}");
    assert!(gone["message"].as_str().unwrap().contains("given way"), "{gone}");
    // What was begun of the other life is no cluster to go back to.
    is(api.plan_rebuild(back("orders")).unwrap_err(), Reason::NothingToUndo, &[]);
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    assert_eq!(lives::standing(&world, "orders").incarnation, 3, "a number that was begun does not come again");
}

/// Between the two lives one of three hosts is gone for good: the operator is told, goes on without it, and it is no
/// danger when it comes back after all.
#[test]
fn a_host_that_dies_past_the_point_of_no_return_is_named_and_left_behind() {
    let hosts = [("server1", "7000-7002"), ("server2", "7000-7002"), ("server3", "7000-7002")];
    let mut world = World::new(&hosts);
    let config = format!("{}verify_patience_ms = 5000\n", world.coordinator().config());
    world.coordinator().configure(&config);
    world.start();
    world.bootstrap("orders");
    let before = lives::standing(&world, "orders");
    let data = Data::write(&before, "old", 200);
    let mut api = world.api();
    let obstacle = Obstacle::before(&world, &before, "server3", 7002);
    let id = api.rebuild(anew("orders")).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server3:7002"]);
    world.until_phase(SOON, &id, "WIPE");
    world.agent("server3").kill();
    let parts = ["server3", "--fence-missing HOST", "muster rebuild orders --undo"];
    world.until_operation(SOON, &id, "needs_operator", &parts);
    let watched = world.muster(&["op", "watch", &id]).expect(1);
    says(&watched, &["needs an operator", "server3"]);

    let refused = world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(1);
    says(&refused, &["MISSING_HOST", "server3", "muster rebuild orders --fence-missing server3"]);
    let fenced = ["rebuild", "orders", "--fence-missing", "server3"];
    says(&world.muster(&[&fenced[..], &["--dry-run"]].concat()).expect(0), &[&id, "gives way"]);
    world.muster(&[&fenced[..], &["--confirm", "orders"]].concat()).expect(0);
    let after = lives::standing(&world, "orders");
    assert_eq!((after.incarnation, after.instances.len()), (3, 6));
    assert_eq!(data::count(&after), 0);
    assert!(after.quarantined.iter().any(|one| one.starts_with("server3:7002")), "{:?}", after.quarantined);

    drop(obstacle);
    world.agent("server3").start();
    world.until_host("server3", "live");
    world.until(SOON, "orders", "nothing is quarantined any more", |status| match status.quarantined.is_empty() {
        true => Ok(()),
        false => Err(format!("{:?}", status.quarantined)),
    });
    assert_eq!(world.redis_pids("server3"), Vec::<i32>::new());
    assert_eq!(lives::in_place(&world, "server3"), []);
    lives::are(&lives::of_life(&lives::all_trash(&world), 1), &before);
    assert_eq!(lives::standing(&world, "orders").node_ids(), after.node_ids());

    // It was all that was missing: the first life can come back now.
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    let again = lives::standing(&world, "orders");
    assert_eq!((again.incarnation, again.node_ids()), (1, before.node_ids()));
    data.is_there(&again);
}

/// It forgets that it was asked to stop, and nobody is needed: when its log is there it is asked again.
#[test]
fn a_server_that_writes_its_first_log_is_waited_for_and_keeps_what_it_holds() {
    let (world, before, data) = formed("stop_patience_ms = 1000");
    let writer = before.instances.iter().find(|it| it.role == "master").unwrap();
    let set = |key: &str, value: &str| redis::cli(&writer.endpoint(), &["CONFIG", "SET", key, value]).unwrap();
    set("appendonly", "no");
    // Microseconds for every key: its child takes some seconds (rdb.c, since Redis 6.0).
    set("rdb-key-save-delay", "50000");
    set("appendonly", "yes");
    let id = world.api().rebuild(anew("orders")).unwrap();
    let name = format!("{}:{}", writer.host, writer.port);
    world.until_operation(SOON, &id, "running", &[&name, "writes its first append-only file"]);
    let events = world.muster(&["op", "watch", &id]).expect(0);
    assert!(!events.stdout.contains("NEEDS OPERATOR"), "{events}");
    rebuilt(&world, &before);
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    let again = lives::standing(&world, "orders");
    data.is_there(&again);
    assert_eq!(data::count(&again), 200);
}

/// What is left behind on a host that is never to come back would hold its bus ports for ever. Should it come back, it
/// must not serve.
#[test]
fn what_was_on_a_host_that_is_removed_is_awaited_no_longer_and_set_aside_all_the_same() {
    let hosts = [("server1", "7000-7002"), ("server2", "7000-7002"), ("server3", "7000-7002")];
    let mut world = World::new(&hosts);
    world.start();
    world.bootstrap("orders");
    lives::until_latched(&world);
    let before = lives::standing(&world, "orders");
    let data = Data::write(&before, "old", 200);
    world.agent("server3").kill();
    for pid in world.redis_pids("server3") {
        processes::signal(pid, Signal::SIGKILL);
    }
    world.until_host("server3", "unknown");
    world.muster(&["rebuild", "orders", "--fence-missing", "server3", "--confirm", "orders"]).expect(0);
    // A coordinator that has just begun knows nobody yet, and still waits.
    world.coordinator().kill();
    world.coordinator().start();
    world.until_host("server1", "live");
    assert_eq!(world.status("orders").unwrap().quarantined.len(), 3);
    let removed = world.muster(&["host", "remove", "server3", "--confirm", "server3"]).expect(0);
    says(&removed, &["server3 is forgotten", "server3:7000 (life 1), server3:7001 (life 1), server3:7002 (life 1)"]);
    assert_eq!(lives::standing(&world, "orders").quarantined, Vec::<String>::new());
    says(&world.muster(&["audit"]).expect(0), &["Trust/RemoveHost", "server3:7002 (life 1) was left behind there"]);
    // In use is another matter.
    says(&world.muster(&["host", "remove", "server2", "--confirm", "server2"]).expect(1), &["orders"]);

    world.agent("server3").start();
    eventually(SOON, "all of life 1 is in the trash", || match lives::of_life(&lives::all_trash(&world), 1).len() {
        9 => Ok(()),
        fewer => Err(fewer.to_string()),
    });
    assert_eq!(world.redis_pids("server3"), Vec::<i32>::new());
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    let again = lives::standing(&world, "orders");
    assert_eq!(again.node_ids(), before.node_ids());
    data.is_there(&again);
}

#[test]
fn one_operation_at_a_time_has_the_cluster() {
    let world = World::up_with(&SEED, PATIENT);
    let hosts = "[[hosts]]\nname = \"server1\"\nports = [\"7000-7002\"]\n[[hosts]]\nname = \"server2\"\nports = [\"7003-7005\"]\n";
    let settings = "[redis.config]\nappendonly = \"yes\"\ncluster-node-timeout = \"2000\"\n";
    let spec = world.write("orders.toml", &format!("name = \"orders\"\nreplicas = 1\n{hosts}{settings}"));
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let before = world.status("orders").unwrap();
    let mut api = world.api();
    let restart = |request_id: &str| RollRequest {
        cluster: "orders".into(),
        kind: RollKind::Restart.into(),
        request_id: request_id.into(),
        ..RollRequest::default()
    };

    // Others while it is rebuilt.
    let stuck = Stuck::at(&before, "server1", 7000);
    let id = api.rebuild(blindly(anew("orders"))).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server1:7000"]);
    let watch = format!("muster op watch {id}");
    is(api.rebuild(anew("orders")).unwrap_err(), Reason::OperationBusy, &[&watch]);
    is(api.rebuild(back("orders")).unwrap_err(), Reason::OperationBusy, &[&watch]);
    is(api.roll(restart("1")).unwrap_err(), Reason::OperationBusy, &[&watch]);
    is(api.protect("orders", true).unwrap_err(), Reason::OperationBusy, &[&watch]);
    for args in [
        vec!["credentials", "rotate", "orders"],
        vec!["stop", "orders", "--confirm", "orders"],
        vec!["rebuild", "orders", "--confirm", "orders"],
        vec!["protect", "orders"],
    ] {
        says(&world.muster(&args).expect(1), &["nothing was changed", &watch]);
    }
    world.muster(&["op", "cancel", &id]).expect(0);
    is(api.rebuild(anew("orders")).unwrap_err(), Reason::OperationBusy, &[&watch]);
    drop(stuck);
    world.until_operation(SOON, &id, "cancelled", &[]);
    let now = world.until(SOON, "orders", "it is back", |status| status.well().map(|()| status.clone()));
    assert_eq!((now.incarnation, now.node_ids()), (1, before.node_ids()));

    // A rebuild while there is another. A server that cannot end holds up its restart too.
    let replica = now.instances.iter().find(|one| one.host == "server1" && !one.is_master()).unwrap();
    let stuck = Stuck::at(&now, "server1", replica.port);
    let roll = api.roll(RollRequest { host: "server1".into(), port: replica.port.into(), ..restart("2") }).unwrap();
    let watch = format!("muster op watch {roll}");
    is(api.plan_rebuild(anew("orders")).unwrap_err(), Reason::OperationBusy, &[&watch]);
    says(&world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(1), &["nothing was changed", &watch]);
    drop(stuck);
    world.until_operation(SOON, &roll, "done", &[]);
    world.until(SOON, "orders", "it is well", Status::well);
    world.muster(&["credentials", "rotate", "orders"]).expect(0);
    let busy = api.plan_rebuild(anew("orders")).unwrap_err();
    assert!(busy.is(Reason::RotationBusy), "{busy:?}");
    world.muster(&["credentials", "finish", "orders"]).expect(0);
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    let after = world.status("orders").unwrap();
    after.well().unwrap();
    assert_eq!((after.incarnation, lives::all_trash(&world).len()), (2, 6));
}
