//! A base directory that takes nothing: full or read-only, before the plan, between plan and apply, and at the agent's
//! start. The reason is said, nothing is left half made, and with room again the work goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, time::Duration};

use muster_tests::{Before, Output, ReadOnly, World, eventually, redis};

/// Most that an operation may take to say what it waits for, or to go on.
const SOON: Duration = Duration::from_secs(20);
/// Room for three empty instances.
const ROOM: usize = 32 << 20;

/// A world whose second host has a small disk, mounted before its agent starts.
fn world() -> World {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    world.mount_small_disk("server2", ROOM);
    world.start();
    world
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

fn refused(world: &World, spec: &str, words: &str) {
    let before = Before::of(world);
    let base = world.base_dir("server2").display().to_string();
    let refused = world.muster(&["bootstrap", spec, "--yes"]).expect(1);
    contains(
        &refused.stdout,
        &["DISK_UNWRITABLE", "server2", &format!("cannot write below {base}: {words}"), "make room"],
    );
    contains(&refused.stderr, &["1 fatal finding", "nothing was changed"]);
    before.still(world, words);
}

#[test]
fn a_full_or_read_only_disk_stops_a_bootstrap_before_anything_is_changed() {
    let mut world = world();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");

    world.disk("server2").fill(0);
    refused(&world, &spec, "no space left on device");
    world.disk("server2").free();
    world.muster(&["plan", &spec]).expect(0);

    let covered = ReadOnly::cover(&world.base_dir("server2"));
    refused(&world, &spec, "read-only file system");
    world.agent("server2").kill();
    world.agent("server2").start();
    assert_eq!(world.agent("server2").ends_by_itself(SOON), 2);
    let base = world.base_dir("server2").display().to_string();
    contains(&world.agent("server2").log(), &["error: ", &base, "because: ", "Read-only file system"]);
    drop(covered);

    world.start();
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    world.status("orders").unwrap().well().unwrap();
}

/// Waits until an operation's message holds all of these parts; the whole answer.
fn until_it_says(world: &World, id: &str, parts: &[&str]) -> Output {
    eventually(SOON, &format!("the operation says {parts:?}"), || {
        let shown = world.muster(&["op", "show", id]).expect(0);
        match parts.iter().all(|part| shown.stdout.contains(part)) {
            true => Ok(shown),
            false => Err(shown.to_string()),
        }
    })
}

#[test]
fn a_disk_that_fills_up_after_the_plan_is_said_and_with_room_again_it_goes_on_by_itself() {
    let world = world();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let mut api = world.api();
    let plan = api.plan(&spec).unwrap().plan.unwrap();
    let base = world.base_dir("server2").display().to_string();

    // Not even what the host is told can be kept.
    world.disk("server2").fill(0);
    let id = api.apply(&plan.hash, "once").unwrap();
    let ledger = format!("{base}/agent/ledger.binpb");
    until_it_says(&world, &id, &["server2", "cannot write", &ledger, "No space left on device"]);

    // That can, and the directories cannot. Each comes as a whole or not at all.
    world.disk("server2").free();
    world.disk("server2").fill(5);
    until_it_says(&world, &id, &["needs_operator", "server2:700", "No space left on device", "muster op cancel"]);
    for port in ["7003", "7004", "7005"] {
        let files = fs::read_dir(world.base_dir("server2").join(port)).map_or(0, Iterator::count);
        assert!(files == 0 || files == 3, "{port} has {files} files");
    }
    assert!(world.redis_pids("server1").is_empty(), "nobody is started before everybody is prepared");

    world.disk("server2").free();
    until_it_says(&world, &id, &["state      done"]);
    let status = world.status("orders").unwrap();
    status.well().unwrap();
    redis::agreement(&status.endpoints()).unwrap();
    let left: Vec<_> = fs::read_dir(world.base_dir("server2").join(".staging")).unwrap().collect();
    assert!(left.is_empty(), "half made directories are left: {left:?}");
}
