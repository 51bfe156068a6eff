//! What systemd is told by the two daemons, with a socket of the test in systemd's place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use muster_tests::{Manager, World, processes};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn the_agent_says_when_it_is_ready_how_it_is_and_that_its_loop_goes_round() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let manager = Manager::new(world.dir());
    world.coordinator().start();
    world.agent("server2").start();
    world.agent("server1").start_through(&manager.words());
    world.agent("server1").start();
    assert!(manager.hears("READY=1").contains("STATUS=server1: 0 of 0 instances run"));
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    world.bootstrap("orders");
    let mut told = manager.hears("WATCHDOG=1");
    let began = Instant::now();
    while !told.contains("STATUS=server1: 3 of 3 instances run") {
        assert!(began.elapsed() < SOON, "{told}");
        told = manager.hears("WATCHDOG=1");
    }

    // One that is not believed changes nothing.
    let config = world.agent("server1").config();
    let pid = world.agent("server1").pid();
    world.agent("server1").configure("name = 7\n");
    processes::signal(pid, Signal::SIGHUP);
    muster_tests::eventually(SOON, "it says so", || {
        let log = world.agent("server1").log();
        if log.contains("the agent goes on as it is") { Ok(()) } else { Err(log) }
    });
    let more = config.replace("ports = [\"7000-7002\"]", "ports = [\"7000-7003\"]");
    assert_ne!(more, config);
    world.agent("server1").configure(&format!("{more}log = \"debug\"\n"));
    processes::signal(pid, Signal::SIGHUP);
    assert!(manager.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.hears("READY=1");
    let log = world.agent("server1").log();
    assert!(log.contains("ports changed, and will be so when muster-agent is started anew"), "{log}");
    manager.hears("WATCHDOG=1");
    assert_eq!(world.agent("server1").pid(), pid);
    world.agent("server1").stop();
    manager.hears("STOPPING=1");
}

#[test]
fn the_coordinator_says_when_it_is_ready_how_it_is_and_that_its_loop_goes_round() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    let manager = Manager::new(world.dir());
    world.coordinator().start_through(&manager.words());
    world.coordinator().start();
    manager.hears("READY=1");
    world.start();
    let (mut told, began) = (manager.hears("WATCHDOG=1"), Instant::now());
    while !told.contains("STATUS=term 1: 1 of 1 hosts live") {
        assert!(began.elapsed() < SOON, "{told}");
        told = manager.hears("WATCHDOG=1");
    }
    world.coordinator().stop();
    manager.hears("STOPPING=1");
}
