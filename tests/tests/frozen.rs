//! An instance that the kernel has stopped (SIGSTOP, a debugger): it lives, it holds its lock and its data, and it is
//! neither killed nor replaced. It is named, and it is what it was as soon as it goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::time::Duration;

use muster_tests::{Instance, Status, World, eventually, processes, redis};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(20);
/// A failover: the node timeout, an election, a sync.
const FAILOVER: Duration = Duration::from_secs(40);

/// Waits until an instance is what its agent says of a frozen one.
#[track_caller]
fn until_named(world: &World, victim: &Instance) {
    let pid = victim.pid.unwrap();
    let words = format!("pid {pid} is stopped by a signal (state T): kill -CONT {pid}");
    world.until(SOON, "orders", "it is said to be frozen, and how that is ended", |status| {
        let found = status.at(&victim.host, victim.port);
        let said = found.state == "blocked" && found.reason.as_deref() == Some(&words) && found.pid == victim.pid;
        if said { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let shown = world.muster(&["status", "orders"]);
    assert!(shown.stdout.contains(&format!("FROZEN: {}", victim.host)), "{shown}");
}

/// The instance of that node, which has run all the while.
fn same_process(status: &Status, victim: &Instance) -> Result<(), String> {
    status.well()?;
    let found = status.at(&victim.host, victim.port);
    let same = (found.pid, &found.node_id) == (victim.pid, &victim.node_id);
    if same { Ok(()) } else { Err(format!("{found:?}")) }
}

#[test]
fn a_frozen_instance_is_named_and_is_what_it_was_when_it_goes_on() {
    let world = World::seed();
    let formed = world.bootstrap("orders");
    let master = formed.master_on("server1").unwrap().clone();
    let heir = formed.replicas_of(&master.node_id).next().unwrap().clone();
    let pid = master.pid.unwrap();
    processes::signal(pid, Signal::SIGSTOP);
    until_named(&world, &master);
    eventually(FAILOVER, "its replica is promoted meanwhile", || {
        let role = redis::info(&heir.endpoint(), "replication")?["role"].clone();
        if role == "master" { Ok(()) } else { Err(format!("it is a {role}")) }
    });
    assert_eq!(world.redis_pids("server1").len(), 3, "nothing was started in its place");
    let shown = world.muster(&["agent", "ps", "server1"]).expect(0);
    assert!(shown.stdout.contains(&pid.to_string()) && !shown.stdout.contains("unknown"), "{shown}");

    processes::signal(pid, Signal::SIGCONT);
    world.until(FAILOVER, "orders", "the very process is well again", |status| same_process(status, &master));
    let events = world.muster(&["events", "orders", "--host", "server1"]).expect(0).stdout;
    assert!(events.contains("[FROZEN]"), "{events}");
    assert_eq!(events.matches("ended").count(), 0, "{events}");
}

/// The evidence is the kernel's; nothing of it has to be answered by the instance.
#[test]
fn an_agent_that_comes_back_to_a_frozen_instance_knows_it_for_its_own() {
    let mut world = World::seed();
    let formed = world.bootstrap("orders");
    let replica = formed.instances.iter().find(|one| one.host == "server1" && !one.is_master()).unwrap().clone();
    world.agent("server1").kill();
    processes::signal(replica.pid.unwrap(), Signal::SIGSTOP);
    world.agent("server1").start();
    world.until_host("server1", "live");
    until_named(&world, &replica);
    let said = world.muster(&["agent", "ps", "server1", "--output", "json"]).expect(0).json();
    let rows = said["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["port"] == replica.port).unwrap();
    assert_eq!(row["standing"], "ours", "{row}");
    assert!(row["evidence"].to_string().contains("state: stopped by a signal"), "{row}");

    processes::signal(replica.pid.unwrap(), Signal::SIGCONT);
    world.until(FAILOVER, "orders", "the very process is well again", |status| same_process(status, &replica));
}

/// It is not stopped, so the kernel says nothing of it; but it does not answer either: a script of a client has it.
#[test]
fn an_instance_that_hangs_is_named_and_left_alone() {
    let world = World::seed();
    let formed = world.bootstrap("orders");
    let victim = formed.master_on("server1").unwrap().clone();
    let hang = std::thread::spawn({
        let endpoint = victim.endpoint();
        // BUSY to all others after `busy-reply-threshold`, 5 s; until then, silence.
        move || redis::cli(&endpoint, &["eval", "while true do end", "0"])
    });
    let pid = victim.pid.unwrap();
    world.until(SOON, "orders", "it is said that it does not answer", |status| {
        let found = status.at(&victim.host, victim.port);
        let words = format!("pid {pid} lives, is left alone, and does not answer");
        let said = found.reason.as_ref().is_some_and(|reason| reason.starts_with(&words)) && found.pid == Some(pid);
        if said { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let shown = world.muster(&["status", "orders"]);
    assert!(shown.stdout.contains(&format!("NOT_ANSWERING: {}", victim.host)), "{shown}");
    eventually(SOON, "the script is ended", || redis::cli(&victim.endpoint(), &["script", "kill"]));
    assert!(hang.join().unwrap().is_err());
    world.until(FAILOVER, "orders", "the very process is well again", |status| same_process(status, &victim));
}
