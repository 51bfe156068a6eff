//! What systemd is told by the two daemons, with a socket of the test in systemd's place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use muster_tests::{World, processes};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(20);

/// Stands for systemd, which always listens: a queue that nobody empties would hold up the daemon that fills it.
struct Manager {
    heard: Receiver<String>,
    words: [String; 3],
}

impl Manager {
    fn new(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        let (tell, heard) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                if tell.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                    return;
                }
            }
        });
        let words =
            ["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display()), "WATCHDOG_USEC=30000000".to_owned()];
        Self { heard, words }
    }

    /// What a daemon is started by.
    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// The next message with that line.
    #[track_caller]
    fn hears(&self, line: &str) -> String {
        let began = Instant::now();
        while began.elapsed() < SOON {
            let Ok(message) = self.heard.recv_timeout(SOON) else { break };
            if message.lines().any(|said| said == line) {
                return message;
            }
        }
        panic!("no {line} within {SOON:?}");
    }
}

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
