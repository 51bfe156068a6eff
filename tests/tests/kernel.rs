//! What the kernel can do to an instance and its agent: a pid used again by a stranger, a kill for want of memory, an
//! agent killed in the middle of a start, a child that outlives its server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use muster_tests::{Instance, MemoryLimit, PidSpace, Status, World, eventually, processes, redis};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// Three masters on one host that keep nothing, and whose loss costs nobody anything.
const CACHE: &str = "appendonly = \"no\"\nsave = \"\"\ncluster-node-timeout = \"2000\"";

/// One host, three masters, no replicas.
fn formed(world: &World) -> Status {
    let spec = world.spec("orders", 0, CACHE);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    world.status("orders").unwrap()
}

#[track_caller]
fn gone(pid: i32) {
    eventually(SOON, &format!("pid {pid} is gone"), || match processes::look(pid) {
        Some(left) if !left.zombie => Err(format!("{left:?}")),
        _ => Ok(()),
    });
}

#[track_caller]
fn kill(pid: i32) {
    processes::signal(pid, Signal::SIGKILL);
    gone(pid);
}

/// Field 22 of /proc/PID/stat: with the pid, it is one process for as long as the kernel runs.
fn start_ticks(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}

/// Whose the process at each port is, as its agent says.
fn standings(world: &World) -> Vec<String> {
    let said = world.muster(&["agent", "ps", "server1", "--output", "json"]).expect(0).json();
    said["processes"].as_array().unwrap().iter().map(|row| row["standing"].as_str().unwrap().to_owned()).collect()
}

/// Living processes in each instance's directory: one, and only one.
#[track_caller]
fn one_server_each(world: &World, host: &str, ports: usize) {
    let pids = world.redis_pids(host);
    let directories: BTreeSet<_> = processes::directories(&pids).into_iter().collect();
    assert_eq!((pids.len(), directories.len()), (ports, ports), "{pids:?} in {directories:?}");
}

/// While an agent is away all three of its servers are killed, and each one's pid is given to somebody else: to a
/// process that has nothing to do with Redis, to somebody's redis-server elsewhere, and to one that somebody has started
/// by hand in the instance's own place.
#[test]
fn a_pid_that_a_stranger_has_now_is_neither_believed_nor_signalled() {
    let space = PidSpace::new();
    let mut world = World::new(&[("server1", "7000-7002")]);
    let words = space.words();
    world.agent("server1").start_through(&words.each_ref().map(String::as_str));
    world.start();
    let before = formed(&world);
    let pid = |port: u16| before.at("server1", port).pid.unwrap();
    // nsenter is what we have started, and the agent is its child.
    let agent = processes::child_of(world.agent("server1").pid()).unwrap();
    assert_eq!(agent.name, "muster-agent");
    kill(agent.pid);
    world.agent("server1").kill();
    for port in [7000, 7001, 7002] {
        kill(space.outside(pid(port)).unwrap());
    }
    let elsewhere = world.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let home = world.base_dir("server1").join("7002");
    let address = world.spare_address(1).to_string();
    let conf = home.join("redis.conf").display().to_string();
    let theirs = ["redis-server", "--port", "7001", "--bind", &address, "--save", ""];
    let strangers = [
        space.start_as(pid(7000), &elsewhere, &["sleep", "1000"]),
        space.start_as(pid(7001), &elsewhere, &theirs),
        space.start_as(pid(7002), &home, &["redis-server", &conf]),
    ];
    let known = strangers.map(|pid| (pid, start_ticks(pid).unwrap()));
    let port = format!("{}:7002", world.address("server1"));
    for endpoint in [format!("{address}:7001"), port] {
        eventually(SOON, "a strange server answers", || redis::cli(&endpoint, &["ping"]));
    }

    world.agent("server1").start();
    world.until_host("server1", "live");
    world.until(SOON, "orders", "what was gone is back, and the third place is somebody else's", |status| {
        let is = |port: u16, state: &str| status.at("server1", port).state == state;
        let other = |port: u16| status.at("server1", port).pid.is_some_and(|found| found != pid(port));
        let right = is(7000, "running") && is(7001, "running") && is(7002, "blocked") && other(7000) && other(7001);
        if right { Ok(()) } else { Err(format!("{:?}", status.instances)) }
    });
    assert_eq!(standings(&world), ["ours", "ours", "foreign"]);
    let reason = world.status("orders").unwrap().at("server1", 7002).reason.clone().unwrap();
    assert!(reason.contains(&format!("pid {} (redis-server", pid(7002))), "{reason}");
    for (pid, ticks) in &known {
        assert_eq!(start_ticks(*pid).as_ref(), Some(ticks), "nobody has touched pid {pid}");
    }
    let log = world.agent("server1").log();
    assert!(!log.contains("cannot signal"), "{log}");

    kill(strangers[2]);
    world.until(SOON, "orders", "the third is back, once the stranger has gone", Status::well);
    for (pid, ticks) in &known[..2] {
        assert_eq!(start_ticks(*pid).as_ref(), Some(ticks), "nobody has touched pid {pid}");
    }
}

/// Has it take memory until the kernel kills it; a script's key is on the slot that it owns.
#[track_caller]
fn fill(victim: &Instance) {
    let hoard = "while true do redis.call('APPEND', KEYS[1], string.rep('x', 1000000)) end";
    let key = (0..).map(|nth| format!("hoard:{nth}")).find(|key| redis::cli(&victim.endpoint(), &["get", key]).is_ok());
    let said = redis::cli(&victim.endpoint(), &["eval", hoard, "1", &key.unwrap()]);
    assert!(said.is_err(), "it took {said:?} and lives");
}

#[test]
fn an_instance_that_the_kernel_kills_for_want_of_memory_says_so() {
    let world = World::up(&[("server1", "7000-7002")]);
    let before = formed(&world);
    let mut victim = before.at("server1", 7000).clone();
    // The first time it is started again at once; the second time it waits, and the status says why.
    for _ in 0..2 {
        let pid = victim.pid.unwrap();
        let _limit = MemoryLimit::of(pid, 16 << 20);
        fill(&victim);
        gone(pid);
        victim = world.until(SOON, "orders", "it is back", |status| {
            let found = status.at("server1", 7000);
            let back = found.pid.is_some_and(|now| now != pid) && found.state == "running";
            if back { Ok(found.clone()) } else { Err(format!("{found:?}")) }
        });
    }
    let pid = victim.pid.unwrap();
    kill(pid);
    let said = |nth: usize, words: &str| {
        let events = world.muster(&["events", "orders", "--output", "json", "--last", "500"]).expect(0).json();
        let is = |event: &&Value| event["what"] == "ended" && event["port"] == 7000;
        let ends: Vec<_> =
            events["events"].as_array().unwrap().iter().filter(is).map(|end| end["text"].clone()).collect();
        let found = ends.get(nth).and_then(Value::as_str).unwrap_or_default();
        assert!(found.contains(words), "{nth}: {ends:?}");
    };
    let short = "killed by the kernel, which was short of memory";
    let waits = format!("it has ended 2 times in 300 s, the last: {short}");
    let log = world.muster(&["events", "orders", "--last", "500"]).expect(0).stdout;
    assert!(log.contains(&waits), "the status was so for a second: {log}");
    eventually(SOON, "the third end is written down", || {
        let log = world.muster(&["events", "orders", "--last", "500"]).expect(0).stdout;
        if log.matches("ended").count() >= 3 { Ok(()) } else { Err(log) }
    });
    said(0, short);
    said(1, short);
    said(2, "signal 9");
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// What an agent leaves that is killed before the fork, and between the fork and the second record.
#[test]
fn an_intent_without_an_identity_is_made_up_for_by_the_nonce_or_was_never_carried_out() {
    let mut world = World::up(&[("server1", "7000-7002")]);
    let before = formed(&world);
    let pid = |port: u16| before.at("server1", port).pid.unwrap();
    let run = world.base_dir("server1").join("agent/run");
    world.agent("server1").kill();
    let forked = |record: &mut Value| record["identity"] = Value::Null;
    rewrite(&run.join("7000.json"), forked);
    kill(pid(7001));
    rewrite(&run.join("7001.json"), |record| {
        record["nonce"] = "00000000-0000-4000-8000-000000000000".into();
        forked(record);
    });
    fs::write(run.join("7002.json"), "{\"nonce\":\"00000000-0000").unwrap();
    world.agent("server1").start();
    world.until_host("server1", "live");
    let after = world.until(SOON, "orders", "all is well", |status| {
        status.well()?;
        if status.at("server1", 7001).pid == before.at("server1", 7001).pid {
            Err("old".into())
        } else {
            Ok(status.clone())
        }
    });
    assert_eq!(after.at("server1", 7000).pid, Some(pid(7000)), "it had been started");
    assert_eq!(after.at("server1", 7002).pid, Some(pid(7002)), "a torn record is made up for");
    one_server_each(&world, "server1", 3);
}

/// From the start of an agent that has three servers to start, at every second millisecond.
#[test]
fn an_agent_may_be_killed_at_any_moment_of_starting_its_servers() {
    let mut world = World::up(&[("server1", "7000-7002")]);
    formed(&world);
    for delay in (0..60).step_by(2).map(Duration::from_millis) {
        world.agent("server1").kill();
        world.redis_pids("server1").into_iter().for_each(kill);
        world.agent("server1").start();
        // The moment of the fault is the case; nothing is waited for here.
        thread::sleep(delay);
        world.agent("server1").kill();
        let pids = world.redis_pids("server1");
        world.agent("server1").start();
        let began = Instant::now();
        while world.redis_pids("server1").len() < 3 {
            assert!(began.elapsed() < SOON, "{delay:?}: {}", world.agent("server1").log_end());
            thread::yield_now();
        }
        one_server_each(&world, "server1", 3);
        // One that was between fork and exec may have been killed by nobody; those that ran go on.
        let now = world.redis_pids("server1");
        assert!(pids.iter().all(|pid| now.contains(pid)), "{delay:?}: {pids:?} became {now:?}");
    }
    world.until_host("server1", "live");
    world.until(SOON, "orders", "all is well", Status::well);
    one_server_each(&world, "server1", 3);
}

/// A child that writes a snapshot has the directory and the lock. It is stopped here, because it would end by itself as
/// soon as it noticed that nobody reads its progress any more (sendChildInfo, childinfo.c, since 7.0).
#[test]
fn while_a_snapshots_child_lives_its_dead_server_is_not_replaced() {
    let world = World::up(&[("server1", "7000-7002")]);
    let before = formed(&world);
    let victim = before.at("server1", 7000);
    let pid = victim.pid.unwrap();
    let key = (0..).map(|nth| format!("key:{nth}")).find(|key| redis::cli(&victim.endpoint(), &["get", key]).is_ok());
    redis::cli(&victim.endpoint(), &["set", &key.unwrap(), "1"]).unwrap();
    redis::cli(&victim.endpoint(), &["config", "set", "rdb-key-save-delay", "10000000"]).unwrap();
    redis::cli(&victim.endpoint(), &["bgsave"]).unwrap();
    let child = eventually(SOON, "its child", || processes::child_of(pid).ok_or_else(|| "none".to_owned())).pid;
    processes::signal(child, Signal::SIGSTOP);
    processes::signal(pid, Signal::SIGKILL);
    world.until(SOON, "orders", "the child is named as what holds the place", |status| {
        let found = status.at("server1", 7000);
        let named = found.reason.as_ref().is_some_and(|why| why.contains("child"));
        if found.state == "unknown" && named { Ok(()) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(world.redis_pids("server1").len(), 3, "the child and the two others");
    assert!(processes::alive(child), "it is nobody's to kill");
    processes::signal(child, Signal::SIGKILL);
    world.until(SOON, "orders", "its place is taken again", Status::well);
    one_server_each(&world, "server1", 3);
}
