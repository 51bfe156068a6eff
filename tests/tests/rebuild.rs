//! Rebuild on real servers: what is shown before, what stands there afterwards, and what an undo brings back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeSet, fs, time::Duration};

use muster_proto::failure::Reason;
use muster_tests::{
    Before, Client, Data, Status, World,
    api::{anew, back},
    data, lives, redis,
};
use serde_json::Value;

/// A failover on a busy machine.
const FAILOVER: Duration = Duration::from_secs(40);
/// What `muster rebuild` does when it works, phase by phase.
const PHASES: [&str; 5] = ["FENCE", "WIPE", "CONFIGURE", "START", "VERIFY"];

/// Rebuilds by the command that a script would use, and insists that it has worked; the operation.
#[track_caller]
fn rebuild(world: &World, args: &[&str]) -> Value {
    let line = [&["rebuild", "orders"], args, &["--confirm", "orders", "--output", "json"]].concat();
    let done = world.muster(&line).expect(0).json()["operation"].clone();
    assert_eq!((&done["state"], &done["phase"]), (&"done".into(), &"FORMED".into()), "{done}");
    let phases: Vec<_> = done["phases"].as_array().unwrap().iter().map(|one| one["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, PHASES, "{done}");
    done
}

/// The directories of all hosts: in their places exactly one life, and in the trash exactly these.
#[track_caller]
fn disks_have(world: &World, now: &Status, aside: &[&Status]) {
    let in_place: Vec<_> = world.hosts().flat_map(|host| lives::in_place(world, host)).collect();
    lives::are(&in_place, now);
    let trash = lives::all_trash(world);
    for life in aside {
        lives::are(&lives::of_life(&trash, life.incarnation), life);
    }
    let count: usize = aside.iter().map(|life| life.instances.len()).sum();
    assert_eq!(trash.len(), count, "{trash:#?}");
}

#[test]
fn every_directory_is_shown_first_and_set_aside_when_the_name_is_typed() {
    let world = World::seed();
    world.bootstrap("orders");
    lives::until_latched(&world);
    let formed = lives::standing(&world, "orders");
    let data = Data::write(&formed, "first", 300);
    let before = Before::of(&world);

    let shown = world.muster(&["rebuild", "orders", "--dry-run"]).expect(0);
    assert!(shown.stderr.contains("nothing was changed; to do it: muster rebuild orders"), "{shown}");
    let plan = world.muster(&["rebuild", "orders", "--dry-run", "--output", "json"]).expect(0).json();
    let rebuild_plan = &plan["plan"]["rebuild"];
    assert_eq!((&rebuild_plan["incarnation"], &rebuild_plan["becomes"]), (&1.into(), &2.into()), "{plan}");
    let doomed = rebuild_plan["doomed"].as_array().unwrap();
    assert_eq!(doomed.len(), 6, "{plan}");
    let mut keys = 0;
    for instance in &formed.instances {
        let path = world.base_dir(&instance.host).join(instance.port.to_string());
        for part in [instance.name(), instance.node_id[..8].to_owned(), path.display().to_string()] {
            assert!(shown.stdout.contains(&part), "{part} is not shown\n{shown}");
        }
        let is_it = |one: &&Value| one["host"] == *instance.host && one["port"] == instance.port;
        let row = doomed.iter().find(is_it).unwrap_or_else(|| panic!("{} is not in {plan}", instance.name()));
        assert_eq!(row["path"], path.display().to_string());
        assert_eq!((&row["node_id"], &row["role"]), (&(*instance.node_id).into(), &(*instance.role).into()));
        assert_eq!((&row["life"], &row["clients"], &row["keeps"]), (&1.into(), &0.into(), &"append-only file".into()));
        assert!(row["bytes"].as_u64() > Some(1000) && row["error"].is_null(), "{row}");
        let dbsize = redis::cli(&instance.endpoint(), &["dbsize"]).unwrap();
        assert_eq!(row["keys"].to_string(), dbsize);
        keys += if instance.is_master() { row["keys"].as_u64().unwrap() } else { 0 };
    }
    assert_eq!(keys, 300);

    // Nobody to type the name, and another name.
    let nobody = world.muster(&["rebuild", "orders"]).expect(64);
    for part in ["muster rebuild orders --dry-run", "--confirm orders", "nothing was changed"] {
        assert!(nobody.stderr.contains(part), "{part}\n{nobody}");
    }
    let wrong = world.muster(&["rebuild", "orders", "--confirm", "carts"]).expect(64);
    assert!(wrong.stderr.contains("this is about orders") && wrong.stderr.contains("nothing was changed"), "{wrong}");
    world.muster(&["rebuild", "carts", "--confirm", "carts"]).expect(1);
    let mut api = world.api();
    let hash = api.plan_rebuild(anew("orders")).unwrap().hash;
    let untyped = api.approve(&hash, "untyped", "").unwrap_err();
    assert!(untyped.is(Reason::ConfirmMismatch), "{untyped:?}");
    let nothing = api.plan_rebuild(back("orders")).unwrap_err();
    assert!(nothing.is(Reason::NothingToUndo), "{nothing:?}");
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(1);
    before.still(&world, "looking, and not typing the name");
    data.is_there(&formed);

    let done = rebuild(&world, &[]);
    let after = lives::standing(&world, "orders");
    assert_eq!((after.incarnation, &after.cluster_id), (2, &formed.cluster_id));
    assert!(after.node_ids().is_disjoint(&formed.node_ids()), "every node is another");
    assert_eq!(data::count(&after), 0);
    disks_have(&world, &after, &[&formed]);
    for one in lives::all_trash(&world) {
        assert!(one.path.join("appendonlydir").is_dir() && one.note().is_file(), "{}", one.path.display());
    }
    Data::write(&after, "second", 50).is_there(&after);

    let audit = world.muster(&["audit", "--output", "json"]).expect(0).json();
    let hash = done["plan_hash"].as_str().unwrap();
    let approved = audit["entries"].as_array().unwrap().iter().find(|entry| {
        entry["action"] == "Admin/Apply" && entry["detail"].as_str().unwrap().contains(&format!("plan {hash}"))
    });
    let approved = approved.unwrap_or_else(|| panic!("{hash} is not in {audit}"));
    assert!(approved["detail"].as_str().unwrap().contains("orders"), "{approved}");
    assert!(!approved["caller"].as_str().unwrap().is_empty() && !approved["from"].as_str().unwrap().is_empty());
    world.muster(&["audit", "--verify"]).expect(0);
    let undoable = world.muster(&["trash", "orders"]).expect(0);
    assert!(undoable.stdout.contains("muster rebuild orders --undo"), "{undoable}");
}

#[test]
fn an_undo_brings_back_every_key_and_an_undo_of_that_the_life_between() {
    let world = World::seed();
    world.bootstrap("orders");
    let first = lives::standing(&world, "orders");
    let old = Data::write(&first, "old", 500);
    rebuild(&world, &[]);
    let second = lives::standing(&world, "orders");
    let new = Data::write(&second, "new", 70);

    let shown = world.muster(&["rebuild", "orders", "--undo", "--dry-run"]).expect(0);
    assert!(shown.stdout.contains("incarnation 2 ends, incarnation 1 comes back"), "{shown}");
    let undone = rebuild(&world, &["--undo"]);
    assert_eq!(undone["kind"], "undo");
    let again = lives::standing(&world, "orders");
    assert_eq!((again.incarnation, again.node_ids()), (1, first.node_ids()));
    old.is_there(&again);
    assert_eq!(old.count(&again), 500, "and nothing of the other life");
    disks_have(&world, &again, &[&second]);
    world.muster(&["check", "orders"]).expect(0);

    rebuild(&world, &["--undo"]);
    let back = lives::standing(&world, "orders");
    assert_eq!((back.incarnation, back.node_ids()), (2, second.node_ids()));
    new.is_there(&back);
    assert_eq!(new.count(&back), 70);
    disks_have(&world, &back, &[&first]);

    // Numbers never come again.
    rebuild(&world, &[]);
    let third = lives::standing(&world, "orders");
    assert_eq!(third.incarnation, 3);
    disks_have(&world, &third, &[&first, &second]);
    // The last one is what comes back.
    rebuild(&world, &["--undo"]);
    let last = lives::standing(&world, "orders");
    assert_eq!(last.incarnation, 2);
    new.is_there(&last);
    disks_have(&world, &last, &[&first, &third]);
}

#[test]
fn who_was_master_by_a_failover_is_so_again_after_an_undo() {
    let world = World::seed();
    let formed = world.bootstrap("orders");
    Data::write(&formed, "before", 100);
    let heir = formed.instances.iter().find(|one| !one.is_master()).unwrap().clone();
    redis::cli(&heir.endpoint(), &["cluster", "failover"]).unwrap();
    let turned = world.until(FAILOVER, "orders", "the replica leads", |status| {
        status.well()?;
        let now = status.at(&heir.host, heir.port);
        let masters = status.instances.iter().filter(|one| one.is_master()).count();
        if now.is_master() && masters == 3 { Ok(status.clone()) } else { Err(format!("{masters} masters; {now:?}")) }
    });
    let data = Data::write(&turned, "after", 100);
    rebuild(&world, &[]);
    let planned = lives::standing(&world, "orders");
    assert!(!planned.at(&heir.host, heir.port).is_master(), "a new life is as planned");

    rebuild(&world, &["--undo"]);
    let again = lives::standing(&world, "orders");
    assert_eq!(again.incarnation, 1);
    data.is_there(&again);
    assert_eq!(data.count(&again), 200);
    let roles = |status: &Status| -> BTreeSet<_> {
        status.instances.iter().map(|one| (one.node_id.clone(), one.role.clone(), one.slots.clone())).collect()
    };
    assert_eq!(roles(&again), roles(&turned));
}

/// The hash that a directory's users file has for a user, and what its conf logs in to masters with.
fn secrets(directory: &lives::Directory) -> [String; 3] {
    let users = fs::read_to_string(directory.path.join("users.acl")).unwrap();
    let hash = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("user {name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in {users}")).split(' ').nth(3).unwrap().to_owned()
    };
    let conf = fs::read_to_string(directory.path.join("redis.conf")).unwrap();
    let inside = conf.lines().find_map(|line| line.strip_prefix("masterauth ")).unwrap().to_owned();
    [hash("default"), hash("muster-admin"), inside]
}

#[test]
fn clients_log_in_as_before_and_who_is_inside_with_another_password() {
    let world = World::seed();
    let hosts = "[[hosts]]\nname = \"server1\"\nports = [\"7000-7002\"]\n[[hosts]]\nname = \"server2\"\nports = [\"7003-7005\"]\n";
    let settings = "[redis.config]\nappendonly = \"yes\"\ncluster-node-timeout = \"2000\"\n";
    let spec = world.write("orders.toml", &format!("name = \"orders\"\nreplicas = 1\n{hosts}{settings}"));
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let password = || {
        let shown = world.muster(&["credentials", "orders", "--output", "json"]).expect(0).json();
        shown["password"].as_str().unwrap().to_owned()
    };
    let (first, was) = (world.status("orders").unwrap(), password());
    let data = Data::write_as(&first, "first", 100, Some(was.clone()));
    rebuild(&world, &[]);
    let second = world.status("orders").unwrap();
    second.well().unwrap();
    assert_eq!(password(), was, "clients notice nothing");
    let fresh = Data::write_as(&second, "second", 10, Some(was.clone()));
    assert_eq!(fresh.count(&second), 10);
    world.muster(&["smoke", "orders"]).expect(0);
    let old = secrets(&lives::trash(&world, "server1")[0]);
    let new = secrets(&lives::in_place(&world, "server1")[0]);
    assert_eq!(old[0], new[0], "of the default user");
    assert_ne!(old[1], new[1], "of agents");
    assert_ne!(old[2], new[2], "of replicas");

    rebuild(&world, &["--undo"]);
    let again = world.status("orders").unwrap();
    again.well().unwrap();
    assert_eq!((again.incarnation, password()), (1, was));
    data.is_there(&again);
    assert_eq!(data.count(&again), 100);
    world.muster(&["smoke", "orders"]).expect(0);
    assert_eq!(secrets(&lives::in_place(&world, "server1")[0]), old);
}

/// Two clusters on the same hosts.
#[test]
fn a_rebuild_of_one_cluster_does_not_touch_the_other() {
    let world = World::up(&[("server1", "7000-7005"), ("server2", "7000-7005")]);
    let spec = |name: &str, ports: &str| {
        let host = |host: &str| format!("[[hosts]]\nname = \"{host}\"\nports = [\"{ports}\"]\n");
        let head = format!("name = \"{name}\"\nreplicas = 1\nauth = \"none\"\n");
        let settings = "[redis.config]\nappendonly = \"yes\"\ncluster-node-timeout = \"2000\"\n";
        world.write(&format!("{name}.toml"), &format!("{head}{}{}{settings}", host("server1"), host("server2")))
    };
    for (name, ports) in [("orders", "7000-7002"), ("carts", "7003-7005")] {
        world.muster(&["bootstrap", &spec(name, ports), "--yes"]).expect(0);
    }
    let (orders, carts) = (lives::standing(&world, "orders"), lives::standing(&world, "carts"));
    let (mine, theirs) = (Data::write(&orders, "orders", 100), Data::write(&carts, "carts", 100));
    let pids = |status: &Status| status.instances.iter().map(|one| (one.name(), one.pid)).collect::<BTreeSet<_>>();
    lives::until_latched(&world);
    let place = |port: u16| world.base_dir("server1").join(port.to_string());
    let trees = || [7003, 7004, 7005].map(|port| muster_tests::tree::Tree::read(&place(port)));
    let before = trees();
    let client = Client::of(&carts.endpoints());

    rebuild(&world, &[]);
    assert_eq!(data::count(&lives::standing(&world, "orders")), 0);
    rebuild(&world, &["--undo"]);
    mine.is_there(&lives::standing(&world, "orders"));
    for service in client.end().expect("no connection to the other cluster was broken") {
        assert!(service.answers > 100, "{service:?}");
    }
    let now = lives::standing(&world, "carts");
    assert_eq!((now.incarnation, pids(&now), now.node_ids()), (1, pids(&carts), carts.node_ids()));
    theirs.is_there(&now);
    assert_eq!(theirs.count(&now), 100);
    for (before, after) in before.iter().zip(trees()) {
        assert_eq!(before.differences(&after), Vec::<String>::new());
    }
    assert!(lives::all_trash(&world).iter().all(|one| one.stamp.cluster == "orders"));
    // The other's name does not confirm this one, nor does a life of the other come back.
    world.muster(&["rebuild", "carts", "--confirm", "orders"]).expect(64);
    assert!(world.api().plan_rebuild(back("carts")).unwrap_err().is(Reason::NothingToUndo));
}
