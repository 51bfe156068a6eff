//! Directing an operation: paused in the middle it holds, resumed it goes on, called off before it has formed it takes
//! back what it made, and after that nothing calls it off. An agent that vanishes in the middle only holds it up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use muster_proto::failure::Reason;
use muster_tests::{Api, Before, Output, World, eventually, redis};

const SOON: Duration = Duration::from_secs(20);
/// Longer than the longest time between two passes of the coordinator, which is 1 s.
const PASS: Duration = Duration::from_millis(1500);

/// Waits until an operation is in that state and says these parts.
fn until(world: &World, id: &str, state: &str, parts: &[&str]) -> Output {
    eventually(SOON, &format!("the operation is {state} and says {parts:?}"), || {
        let shown = world.muster(&["op", "show", id, "--output", "json"]).expect(0);
        let operation = &shown.json()["operation"];
        let message = operation["message"].as_str().unwrap_or_default().to_owned();
        match operation["state"] == state && parts.iter().all(|part| message.contains(part)) {
            true => Ok(shown),
            false => Err(shown.to_string()),
        }
    })
}

/// Plans and applies; the operation's id.
fn begin(world: &World, api: &mut Api) -> String {
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    api.apply(&hash, &hash[..8]).unwrap()
}

/// Directories of instances that a host has.
fn places(world: &World, host: &str) -> Vec<String> {
    let entries = fs::read_dir(world.base_dir(host)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(|letter: char| letter.is_ascii_digit()));
    names.sort();
    names
}

/// Waits until every stamp on every host says that the cluster is formed: the agents write that when the operation is
/// already done.
fn until_latched(world: &World) {
    for host in world.hosts() {
        for place in places(world, host) {
            let stamp = world.base_dir(host).join(&place).join("muster.json");
            eventually(SOON, &format!("{host} has noted that {place} is formed"), || {
                let text = fs::read_to_string(&stamp).map_err(|error| error.to_string())?;
                if text.contains("\"formed\": true") { Ok(()) } else { Err(text) }
            });
        }
    }
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} is not on stderr\n{output}");
    }
}

#[test]
fn a_pause_in_the_middle_holds_it_and_a_resume_finishes_it() {
    let mut world = World::seed();
    let mut api = world.api();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    world.agent("server2").freeze();
    let id = api.apply(&hash, "once").unwrap();
    until(&world, &id, "running", &["waiting for server2:700", "server2"]);
    let paused = world.muster(&["op", "pause", &id]).expect(0);
    assert!(paused.stdout.contains("paused"), "{paused}");
    world.muster(&["op", "pause", &id]).expect(0);

    // What it was told before goes on; the next step is not taken.
    world.agent("server2").thaw();
    eventually(SOON, "server2 has written its directories", || {
        let places = places(&world, "server2");
        if places == ["7003", "7004", "7005"] { Ok(()) } else { Err(format!("{places:?}")) }
    });
    let began = Instant::now();
    while began.elapsed() < PASS {
        until(&world, &id, "paused", &[]);
        for host in ["server1", "server2"] {
            assert_eq!(world.redis_pids(host), Vec::<i32>::new(), "a paused operation has started servers on {host}");
        }
    }
    world.muster(&["op", "resume", &id]).expect(0);
    world.muster(&["op", "watch", &id]).expect(0);
    world.status("orders").unwrap().well().unwrap();

    for verb in ["pause", "resume"] {
        let ended = world.muster(&["op", verb, &id]).expect(1);
        says(&ended, &[&format!("operation {id} has ended: done"), "muster op show", "nothing was changed"]);
    }
    assert!(api.pause(&id).unwrap_err().is(Reason::OperationEnded));
    let unknown = world.muster(&["op", "pause", "42"]).expect(1);
    says(&unknown, &["there is no operation \"42\"", "hint: muster ops"]);
}

#[test]
fn called_off_before_it_has_formed_it_takes_everything_back_and_can_be_run_again() {
    let mut world = World::seed();
    let mut api = world.api();
    let id = begin(&world, &mut api);
    eventually(SOON, "all servers are started", || {
        let count: usize = ["server1", "server2"].map(|host| world.redis_pids(host).len()).iter().sum();
        if count == 6 { Ok(()) } else { Err(format!("{count} of 6")) }
    });
    // Two seconds before any master serves. Without its agent this host cannot be proved to work.
    world.agent("server2").freeze();
    world.muster(&["op", "cancel", &id]).expect(0);
    until(&world, &id, "cancelling", &["waiting for server2:700"]);
    let busy = world.muster(&["op", "resume", &id]).expect(1);
    says(&busy, &["is being called off", &format!("muster op watch {id}")]);
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let taken = world.muster(&["bootstrap", &spec, "--yes"]).expect(1);
    says(&taken, &["cluster orders is being made, or called off", &id, "nothing was changed"]);
    world.agent("server2").thaw();
    until(&world, &id, "cancelled", &["set aside"]);
    let watched = world.muster(&["op", "watch", &id]).expect(1);
    says(&watched, &["was cancelled"]);

    for (host, ports) in [("server1", 7000..=7002), ("server2", 7003..=7005)] {
        assert_eq!(world.redis_pids(host), Vec::<i32>::new(), "servers of {host} go on");
        assert_eq!(places(&world, host), Vec::<String>::new(), "directories of {host} are in place");
        let trash = fs::read_dir(world.base_dir(host).join(".trash")).unwrap().map(Result::unwrap);
        // Beside each stands a note, which says when.
        let trash: Vec<_> = trash.filter(|entry| entry.path().is_dir()).collect();
        assert_eq!(trash.len(), 3, "{trash:?}");
        for aside in trash {
            assert!(aside.path().join("nodes.conf").is_file(), "nothing is deleted: {aside:?}");
        }
        for port in ports {
            // Bound and let go of at once.
            drop(TcpListener::bind((world.address(host), port)).unwrap());
            drop(TcpListener::bind((world.address(host), port + 10_000)).unwrap());
        }
    }
    assert!(world.status("orders").unwrap_err().contains("there is no cluster orders"));
    assert!(api.cancel(&id).unwrap_err().is(Reason::OperationEnded));

    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    until_latched(&world);
    let status = world.status("orders").unwrap();
    let before = (Before::of(&world), redis::agreement(&status.endpoints()).unwrap().canonical());
    let second = world.muster(&["ops", "orders", "--output", "json"]).expect(0).json();
    let second = second["operations"][0]["id"].as_str().unwrap().to_owned();
    assert_ne!(second, id);
    let late = world.muster(&["op", "cancel", &second]).expect(1);
    says(&late, &["cluster orders is formed and may hold data", "would destroy it", "nothing was changed"]);
    assert!(api.cancel(&second).unwrap_err().is(Reason::PastNoReturn));
    before.0.still(&world, "a cancel that came too late");
    assert_eq!(redis::agreement(&status.endpoints()).unwrap().canonical(), before.1);
}

#[test]
fn an_agent_that_vanishes_in_the_middle_is_waited_for_by_name() {
    let mut world = World::seed();
    let mut api = world.api();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    world.agent("server2").freeze();
    let id = api.apply(&hash, "once").unwrap();
    world.agent("server2").kill();
    until(&world, &id, "running", &["waiting for server2:700", "its host server2 has not been heard of for"]);
    assert!(world.redis_pids("server1").is_empty(), "nobody is started before everybody is prepared");
    let status = world.muster(&["status", "orders"]);
    assert!(status.stdout.contains("HOST_SILENT"), "{status}");

    world.agent("server2").start();
    eventually(SOON, "server2 has started its servers", || {
        let count = world.redis_pids("server2").len();
        if count == 3 { Ok(()) } else { Err(format!("{count} of 3")) }
    });
    world.agent("server2").kill();
    until(&world, &id, "running", &["server2"]);
    assert_eq!(world.redis_pids("server2").len(), 3, "without an agent they go on");
    world.agent("server2").start();
    world.muster(&["op", "watch", &id]).expect(0);
    let status = world.status("orders").unwrap();
    status.well().unwrap();
    redis::agreement(&status.endpoints()).unwrap();
}
