//! An instance's own log, through its agent: what is there, what comes, and on over a rotation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    time::Duration,
};

use muster_tests::{World, eventually, processes, redis};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_log_is_read_and_followed_through_its_agent_also_over_a_rotation() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let config = world.agent("server1").config();
    world.agent("server1").configure(&format!("{config}redis_log_mib = 1\n"));
    world.start();
    let formed = world.bootstrap("orders");
    let instance = formed.at("server1", 7000).clone();

    let shown = world.muster(&["logs", "orders", "server1:7000", "--lines", "3"]).expect(0).stdout;
    assert_eq!(shown.lines().count(), 3, "{shown}");
    let log = world.base_dir("server1").join("7000/redis.log");
    assert!(fs::read_to_string(&log).unwrap().ends_with(&shown), "{shown}");
    let json = world.muster(&["logs", "orders", "server1:7000", "--lines", "1", "--output", "json"]).expect(0).json();
    assert_eq!(json["line"], shown.lines().last().unwrap());

    let out = world.dir().join("followed");
    let mut follower = world.muster_command(&["logs", "orders", "server1:7000", "--follow", "--lines", "1"]);
    let mut follower = processes::spawn_owned(follower.stdout(File::create(&out).unwrap()));
    let followed = || fs::read_to_string(&out).unwrap();
    let times = |words: &str| followed().matches(words).count();
    eventually(SOON, "what is there", || if followed().is_empty() { Err("nothing".into()) } else { Ok(()) });
    let seen = |what: &str, saves: usize| {
        redis::cli(&instance.endpoint(), &["bgsave"]).unwrap();
        eventually(SOON, what, || match times("Background saving terminated with success") {
            found if found == saves => Ok(()),
            found => Err(format!("{found} of {saves}: {}", followed())),
        });
    };
    seen("what comes", 1);

    // Somebody writes a lot.
    let line = format!("{}\n", "x".repeat(1023));
    let mut long = OpenOptions::new().append(true).open(&log).unwrap();
    (0..1100).for_each(|_| long.write_all(line.as_bytes()).unwrap());
    let older = log.with_extension("log.1");
    eventually(SOON, "the log is put aside", || if older.exists() { Ok(()) } else { Err("not yet".into()) });
    seen("what comes after the rotation", 2);
    assert_eq!(times(&line), 1100, "nothing was left out, and nothing came twice");
    assert!(fs::metadata(&log).unwrap().len() < 100 << 10);
    assert_eq!(redis::info(&instance.endpoint(), "server").unwrap()["process_id"], instance.pid.unwrap().to_string());
    processes::signal(follower.id() as i32, Signal::SIGINT);
    processes::wait_owned(&mut follower);

    let unknown = world.muster(&["logs", "orders", "server1:7003"]).expect(1);
    assert!(unknown.stderr.contains("cluster orders has no instance server1:7003"), "{unknown}");
    world.agent("server1").kill();
    world.until_host("server1", "unknown");
    let silent = world.muster(&["logs", "orders", "server1:7000"]).expect(1);
    assert!(silent.stderr.contains("server1: ") && silent.stderr.contains("hint: muster hosts"), "{silent}");
}
