//! The trash of real hosts: listed, deleted by command and by policy, and never what an undo needs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use muster_proto::{failure::Reason, wire::PurgeTrashRequest};
use muster_tests::{
    Before, Data, Output, World,
    api::{anew, back, blindly},
    data, eventually,
    lives::{self, Directory},
    processes,
};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
const HOUR_MS: u64 = 3_600_000;
/// No cluster has this id.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said\n{output}");
    }
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Says of a directory that it was set aside so many hours ago; a negative number is in the future.
fn aged(directory: &Directory, hours: i64) {
    let at = unix_ms().checked_add_signed(-hours * i64::try_from(HOUR_MS).unwrap()).unwrap();
    let note: Value = serde_json::from_slice(&fs::read(directory.note()).unwrap()).unwrap();
    assert!(note["aside_unix_ms"].as_u64() > Some(0), "{note}");
    let note = serde_json::json!({ "aside_unix_ms": at, "operation": note["operation"] });
    fs::write(directory.note(), note.to_string()).unwrap();
}

/// As the agent's config says from its next start on.
fn keep(world: &mut World, host: &str, hours: u64, gib: u64) {
    let config = world.agent(host).config();
    let head = config.split("[trash]").next().unwrap().to_owned();
    world.agent(host).configure(&format!("{head}[trash]\nkeep_hours = {hours}\nkeep_gib = {gib}\n"));
}

/// Starts an agent anew, and waits until it has looked through the trash: what a crash has left half deleted is gone
/// then, and when an order to delete nothing has been carried out, so is all else that was to go.
fn sweep(world: &mut World, host: &str) {
    world.agent(host).kill();
    let half = world.base_dir(host).join(".trash/.doomed-7777-gone");
    let stamp = fs::read(lives::in_place(world, host)[0].path.join("muster.json")).unwrap();
    let mut stamp: serde_json::Value = serde_json::from_slice(&stamp).unwrap();
    // Of a life that nobody wants back: what is wanted stays even so.
    (stamp["life"], stamp["incarnation"]) = (999.into(), 999.into());
    fs::create_dir(&half).unwrap();
    fs::write(half.join("muster.json"), stamp.to_string()).unwrap();
    world.agent(host).start();
    world.until_host(host, "live");
    eventually(SOON, "what was half deleted is gone", || {
        if half.exists() { Err("it is there") } else { Ok(()) }.map_err(str::to_owned)
    });
    let request = PurgeTrashRequest { cluster_id: NOBODY.into(), host: host.into(), ..PurgeTrashRequest::default() };
    let answer = world.api().purge(request).unwrap();
    assert!(answer.purged.is_empty(), "{answer:?}");
}

/// Which ports' directories of a life are in the trash of a host.
fn ports(world: &World, host: &str, incarnation: u64) -> Vec<u16> {
    lives::of_life(&lives::trash(world, host), incarnation).iter().map(|one| one.stamp.port).collect()
}

/// The seed's layout, rebuilt so often; the stamps are written.
fn rebuilt(times: u64) -> World {
    let world = World::seed();
    world.bootstrap("orders");
    for _ in 0..times {
        lives::until_latched(&world);
        world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    }
    lives::until_latched(&world);
    world
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(copied.status.success(), "{copied:?}");
}

#[test]
fn what_was_set_aside_is_listed_and_deleted_by_the_id_of_its_cluster() {
    let mut world = rebuilt(2);
    let status = lives::standing(&world, "orders");
    let id = status.cluster_id.clone();
    let listed = world.muster(&["trash", "--output", "json"]).expect(0).json();
    let entries = listed["entries"].as_array().unwrap();
    assert_eq!((entries.len(), listed["unknown"].as_array().unwrap().len()), (12, 0), "{listed}");
    for entry in entries {
        assert_eq!((&entry["cluster"], &entry["cluster_id"]), (&"orders".into(), &(*id).into()), "{entry}");
        assert_eq!(entry["undoable"], entry["incarnation"] == 2, "{entry}");
        let (aside, until) = (entry["aside_unix_ms"].as_u64().unwrap(), entry["until_unix_ms"].as_u64().unwrap());
        assert_eq!(until - aside, 168 * HOUR_MS);
        assert!(aside <= unix_ms() && aside + HOUR_MS > unix_ms() && entry["bytes"].as_u64() > Some(0), "{entry}");
        let host = entry["host"].as_str().unwrap();
        assert!(world.base_dir(host).join(".trash").join(entry["name"].as_str().unwrap()).is_dir());
    }
    says(&world.muster(&["trash", "orders"]).expect(0), &[&id, "muster rebuild orders --undo", ".trash/7005-orders-"]);
    says(&world.muster(&["trash", "carts"]).expect(1), &["there is no cluster carts"]);
    // One more, and life 2 is where life 1 is: in the trash, and out of reach.
    let again = world.muster(&["rebuild", "orders", "--dry-run"]).expect(0);
    says(&again, &["ENDS_UNDO", "life 2 now, and life 3 afterwards", "muster rebuild orders --undo"]);

    // What is refused, or is about nothing, deletes nothing.
    let before = Before::of(&world);
    let purge = ["trash", "purge", "--cluster-id", &id, "--incarnation", "1"];
    says(&world.muster(&purge).expect(64), &["--confirm CLUSTER", "nothing was changed"]);
    says(&world.muster(&[&purge[..], &["--confirm", "carts"]].concat()).expect(64), &["nothing was changed"]);
    let slip = world.muster(&[&purge[..], &["--host", "server7", "--confirm", "orders"]].concat()).expect(64);
    says(&slip, &["there is no host server7"]);
    let nothing = world.muster(&["trash", "purge", "--cluster-id", NOBODY, "--confirm", "orders"]).expect(0);
    says(&nothing, &["nothing like that", "nothing was changed"]);
    world.muster(&["trash", "purge", "--cluster-id", "orders", "--confirm", "orders"]).expect(64);
    world.muster(&["trash", "purge", "--confirm", "orders"]).expect(64);
    before.still(&world, "purges that were refused");

    // What is not ours is never deleted: no stamp, the stamp of another place, a link to something with a stamp.
    let trash = world.base_dir("server1").join(".trash");
    let first = lives::of_life(&lives::trash(&world, "server1"), 1).remove(0);
    let outside = world.dir().join("outside");
    copy(&first.path, &outside);
    fs::create_dir(trash.join("stranger")).unwrap();
    fs::write(trash.join("stranger/data"), "precious").unwrap();
    std::os::unix::fs::symlink(&outside, trash.join("7009-orders-link-life1")).unwrap();
    copy(&first.path, &trash.join("7008-orders-copy-life1"));
    let listed = world.muster(&["trash"]).expect(1);
    says(&listed, &["stranger: it carries no stamp of Muster", "7009-orders-link-life1", "7008-orders-copy-life1"]);
    let purged = world.muster(&[&purge[..], &["--confirm", "orders", "--output", "json"]].concat());
    let gone = purged.json();
    assert_eq!(gone["purged"].as_array().unwrap().len(), 6, "{purged}");
    for host in ["server1", "server2"] {
        assert_eq!((ports(&world, host, 2).len(), lives::in_place(&world, host).len()), (3, 3));
    }
    assert_eq!(fs::read_to_string(trash.join("stranger/data")).unwrap(), "precious");
    assert!(outside.join("nodes.conf").is_file() && trash.join("7008-orders-copy-life1/nodes.conf").is_file());
    assert!(!first.path.exists() && !first.note().exists());
    assert_eq!(lives::standing(&world, "orders").node_ids(), status.node_ids());

    // A part of what an undo needs: then it is refused by name, and nothing happens.
    let part = ["trash", "purge", "--cluster-id", &id, "--host", "server2", "--confirm", "orders"];
    says(&world.muster(&part), &["7003-orders-", "3 directories of"]);
    let undone = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(1);
    says(&undone, &["TRASH_INCOMPLETE", "server2", "7003-7005", "NOT THERE ANY MORE", "nothing was changed"]);
    let listed = world.muster(&["trash"]).expect(1);
    says(&listed, &["[INCOMPLETE] life 2 of orders", "server2 (7003-7005)"]);
    assert!(!listed.stdout.contains("--undo"), "{listed}");
    let mut api = world.api();
    let plan = api.plan_rebuild(back("orders")).unwrap();
    assert!(api.approve(&plan.hash, "incomplete", "orders").unwrap_err().is(Reason::NothingToUndo));
    assert_eq!(lives::standing(&world, "orders").node_ids(), status.node_ids());
    says(&world.muster(&["audit"]).expect(0), &["Admin/PurgeTrash", "server2"]);

    // A host that is not heard is named.
    world.agent("server2").kill();
    world.until_host("server2", "unknown");
    says(&world.muster(&["trash"]).expect(1), &["[NOT KNOWN] server2"]);
    let rest = world.muster(&["trash", "purge", "--cluster-id", &id, "--confirm", "orders"]).expect(1);
    says(&rest, &["3 directories", "server2"]);
    assert_eq!(ports(&world, "server1", 2), [0; 0]);
}

#[test]
fn what_is_older_than_the_policy_goes_and_where_there_is_none_it_stays() {
    let mut world = rebuilt(1);
    let before = lives::standing(&world, "orders");
    let aside = |world: &World, host: &str| lives::trash(world, host);
    let [old, newer, unknown] = aside(&world, "server1").try_into().unwrap();
    aged(&old, 8 * 24);
    aged(&newer, 24);
    fs::remove_file(unknown.note()).unwrap();
    for directory in aside(&world, "server2") {
        aged(&directory, 10_000);
    }
    keep(&mut world, "server2", 0, 0);
    sweep(&mut world, "server1");
    sweep(&mut world, "server2");
    assert_eq!(ports(&world, "server1", 1), [7001, 7002]);
    assert!(!old.note().exists(), "its note goes with it");
    let noted: Value = serde_json::from_slice(&fs::read(unknown.note()).unwrap()).unwrap();
    assert!(unix_ms() - noted["aside_unix_ms"].as_u64().unwrap() < HOUR_MS, "counted from when it was seen: {noted}");
    assert_eq!(ports(&world, "server2", 1), [7003, 7004, 7005], "0 is for ever");
    let events = world.muster(&["events", "--host", "server1"]).expect(0);
    says(&events, &["7000-orders-", "it was kept for 168 h"]);
    let listed = world.muster(&["trash", "--output", "json"]).expect(0).json();
    for entry in listed["entries"].as_array().unwrap() {
        assert_eq!(entry["until_unix_ms"].is_null(), entry["host"] == "server2", "{entry}");
    }
    // A shorter time, from the next start on.
    keep(&mut world, "server1", 12, 0);
    sweep(&mut world, "server1");
    assert_eq!(ports(&world, "server1", 1), [7002]);
    assert_eq!(lives::standing(&world, "orders").node_ids(), before.node_ids());
}

#[test]
fn what_is_too_much_goes_the_oldest_first() {
    let mut world = rebuilt(1);
    let all: [Directory; 3] = lives::trash(&world, "server1").try_into().unwrap();
    for (directory, (hours, mib)) in all.iter().zip([(3, 0), (2, 700), (1, 700)]) {
        aged(directory, hours);
        // It takes no place on the disk of the test, and counts like any other.
        fs::File::create(directory.path.join("dump.rdb")).unwrap().set_len(mib << 20).unwrap();
    }
    keep(&mut world, "server1", 168, 2);
    sweep(&mut world, "server1");
    assert_eq!(ports(&world, "server1", 1), [7000, 7001, 7002], "there is less than that");
    keep(&mut world, "server1", 168, 1);
    sweep(&mut world, "server1");
    assert_eq!(ports(&world, "server1", 1), [7002]);
    says(&world.muster(&["events", "--host", "server1"]).expect(0), &["there was more than 1 GiB"]);
    assert_eq!(ports(&world, "server2", 1), [7003, 7004, 7005]);
}

#[test]
fn a_clock_that_was_set_deletes_nothing() {
    let mut world = rebuilt(1);
    let all: [Directory; 3] = lives::trash(&world, "server1").try_into().unwrap();
    aged(&all[0], 8 * 24);
    aged(&all[1], -24);
    sweep(&mut world, "server1");
    assert_eq!(ports(&world, "server1", 1), [7000, 7001, 7002]);
    let log = world.agent("server1").log();
    assert!(log.contains("nothing is deleted from the trash by its age until muster-agent is started anew"), "{log}");
    // When that is put right, and the agent was started anew, it is believed again.
    aged(&all[1], 1);
    sweep(&mut world, "server1");
    assert_eq!(ports(&world, "server1", 1), [7001, 7002]);
}

/// Whatever its age, and whoever asks: from the moment that an undo is approved until it has ended.
#[test]
fn what_an_undo_that_is_under_way_needs_is_not_deleted() {
    let mut world = World::up_with(&[("server1", "7000-7002"), ("server2", "7003-7005")], "stop_patience_ms = 600000");
    world.bootstrap("orders");
    let first = lives::standing(&world, "orders");
    let data = Data::write(&first, "old", 200);
    lives::until_latched(&world);
    world.muster(&["rebuild", "orders", "--confirm", "orders"]).expect(0);
    let second = lives::standing(&world, "orders");
    lives::until_latched(&world);
    let purge = PurgeTrashRequest { cluster_id: first.cluster_id.clone(), ..PurgeTrashRequest::default() };
    let mut api = world.api();

    // It still fences: a server does not end. And further than the fence it will not come on another host.
    let frozen = second.at("server1", 7000).pid.unwrap();
    let last = second.at("server2", 7005);
    let obstacle = lives::aside(&world, &second, last);
    fs::create_dir(&obstacle).unwrap();
    processes::signal(frozen, Signal::SIGSTOP);
    let id = api.rebuild(blindly(back("orders"))).unwrap();
    world.until_operation(SOON, &id, "running", &["waiting for server1:7000"]);
    let refused = |api: &mut muster_tests::Api| {
        // Neither as one of all lives, nor by its number; and the present one neither, which is about to end.
        for incarnation in [0, 1, 2] {
            let refused = api.purge(PurgeTrashRequest { incarnation, ..purge.clone() }).unwrap_err();
            assert!(refused.is(Reason::OperationBusy) && refused.message.contains(&id), "{incarnation}: {refused:?}");
        }
        // A life that it does not need may go.
        let other = PurgeTrashRequest { incarnation: 9, ..purge.clone() };
        assert_eq!(api.purge(other).unwrap().purged.len(), 0);
    };
    refused(&mut api);
    for directory in lives::trash(&world, "server2") {
        aged(&directory, 8 * 24);
    }
    sweep(&mut world, "server2");
    assert_eq!(ports(&world, "server2", 1), [7003, 7004, 7005], "deleted while it fenced");
    processes::signal(frozen, Signal::SIGCONT);

    // Past the point of no return: one directory is not put back yet.
    world.until_operation(SOON, &id, "running", &["waiting for server2:7005", "in the trash already"]);
    refused(&mut api);
    assert_eq!(ports(&world, "server2", 1), [7005]);
    sweep(&mut world, "server2");
    assert_eq!(ports(&world, "server2", 1), [7005], "deleted while it was to be put back");
    fs::remove_dir(&obstacle).unwrap();
    world.muster(&["op", "watch", &id]).expect(0);
    let again = lives::standing(&world, "orders");
    assert_eq!(again.incarnation, 1);
    data.is_there(&again);
    assert_eq!(data::count(&again), 200);

    // Nobody needs the other life, once that is over.
    assert_eq!(api.purge(purge).unwrap().purged.len(), 6);
    assert!(api.rebuild(back("orders")).unwrap_err().is(Reason::NothingToUndo));
    api.rebuild(anew("orders")).unwrap();
}
