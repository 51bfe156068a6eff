//! Stop, start, restart on real servers: under a client that writes, with whoever does it killed in the middle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use muster_tests::{Output, Status, World, eventually, processes, redis};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Six restarts, each with a sync, and three elections, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A client of the cluster that writes one key after the other and remembers what was acknowledged.
struct Scribe {
    enough: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Vec<String>>,
    endpoints: Vec<String>,
    /// Keys that were there before.
    before: u64,
}

/// Keys of all masters that are there.
fn keys(endpoints: &[String]) -> u64 {
    let of = |endpoint: &String| {
        let master = redis::info(endpoint, "replication").is_ok_and(|info| info["role"] == "master");
        if master { redis::cli(endpoint, &["dbsize"]).unwrap().parse().unwrap() } else { 0 }
    };
    endpoints.iter().map(of).sum()
}

impl Scribe {
    fn begin(status: &Status) -> Self {
        let endpoints = status.endpoints();
        let before = keys(&endpoints);
        let (enough, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, count, seeds) = (enough.clone(), written.clone(), endpoints.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let seeds = seeds.iter().map(|seed| format!("redis://{seed}"));
                // As applications are set: a redirect or a connection that broke is tried again.
                let client = ::redis::cluster::ClusterClientBuilder::new(seeds).retries(16).build().unwrap();
                let mut connection = client.get_async_connection().await.unwrap();
                let mut errors = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let nth = count.load(Ordering::Relaxed);
                    let mut set = ::redis::cmd("SET");
                    match set.arg(format!("scribe:{before}:{nth}")).arg(nth).query_async::<()>(&mut connection).await {
                        Ok(()) => count.store(nth + 1, Ordering::Relaxed),
                        Err(error) => errors.push(format!("write {nth}: {error}")),
                    }
                }
                errors
            })
        });
        Self { enough, written, thread, endpoints, before }
    }

    /// Ends it. No write has failed, and every acknowledged one is there.
    #[track_caller]
    fn has_lost_nothing(self) -> u64 {
        self.enough.store(true, Ordering::Relaxed);
        let errors = self.thread.join().unwrap();
        assert!(errors.is_empty(), "{} writes have failed: {:?}", errors.len(), &errors[..errors.len().min(5)]);
        let written = self.written.load(Ordering::Relaxed);
        assert!(written > 100, "{written} writes in all that time");
        assert_eq!(keys(&self.endpoints) - self.before, written, "acknowledged writes are not there");
        written
    }
}

fn pids(status: &Status) -> BTreeMap<String, Option<i32>> {
    status.instances.iter().map(|instance| (instance.name(), instance.pid)).collect()
}

fn masters(status: &Status) -> BTreeSet<String> {
    status.instances.iter().filter(|one| one.is_master()).map(|one| one.name()).collect()
}

fn states(status: &Status) -> BTreeMap<String, String> {
    status.instances.iter().map(|one| (one.name(), one.state.clone())).collect()
}

fn operation(output: &Output) -> Value {
    output.json()["operation"].clone()
}

#[track_caller]
fn well(world: &World) -> Status {
    let status = world.until(SOON, "orders", "all is well", |status| status.well().map(|()| status.clone()));
    eventually(SOON, "all nodes agree", || redis::agreement(&status.endpoints()));
    redis::check(&status.endpoints()[0]).unwrap();
    status
}

#[test]
fn a_restart_under_a_client_that_writes_costs_it_nothing_but_measured_gaps() {
    let world = World::seed();
    let before = world.bootstrap("orders");
    let ahead = world.muster(&["restart", "orders", "--dry-run"]).expect(0);
    assert!(ahead.stdout.contains("hands over slots 0-5460 to") && ahead.stdout.contains("the first alone"), "{ahead}");
    let asked = world.muster(&["restart", "orders"]).expect(64);
    assert!(
        asked.stderr.contains("muster restart orders --yes") && asked.stderr.contains("nothing was changed"),
        "{asked}"
    );
    assert_eq!(pids(&world.status("orders").unwrap()), pids(&before), "nothing was restarted yet");

    let scribe = Scribe::begin(&before);
    let done = world.muster(&["restart", "orders", "--yes", "--output", "json"]).expect(0);
    let done = operation(&done);
    let written = scribe.has_lost_nothing();
    assert_eq!((&done["kind"], &done["state"]), (&"restart".into(), &"done".into()));
    let hand_overs = done["hand_overs"].as_array().unwrap();
    assert_eq!(hand_overs.len(), 3, "{done}");
    for one in hand_overs {
        let gap = one["gap_micros"].as_u64().unwrap_or_else(|| panic!("it was not measured: {one}"));
        assert!((1..5_000_000).contains(&gap), "{one}");
    }
    println!("{written} writes; {}", done["message"]);
    let after = well(&world);
    for (name, pid) in pids(&before) {
        assert_ne!(pids(&after)[&name], pid, "{name} was not restarted");
    }
    assert!(masters(&after).is_disjoint(&masters(&before)), "every master has handed over");

    // The same, and they get their slots back; one host alone.
    let scribe = Scribe::begin(&after);
    let back = world.muster(&["restart", "orders", "--host", "server1", "--give-back", "--yes"]).expect(0);
    scribe.has_lost_nothing();
    assert!(back.stdout.contains("handed over to") && back.stdout.contains("3 of 3 instances restarted"), "{back}");
    let now = well(&world);
    assert_eq!(masters(&now), masters(&after), "{back}");
    for (name, pid) in pids(&now) {
        assert_eq!(pids(&after)[&name] == pid, name.starts_with("server2"), "{name}");
    }
}

/// Agents log in, and so does the canary. With TLS: `trust.rs`.
#[test]
fn with_passwords_gaps_are_measured_too() {
    let world = World::seed();
    let hosts = "[[hosts]]\nname = \"server1\"\nports = [\"7000-7002\"]\n[[hosts]]\nname = \"server2\"\nports = [\"7003-7005\"]\n";
    let head = "name = \"orders\"\nreplicas = 1\n";
    let spec = world.write("orders.toml", &format!("{head}{hosts}[redis.config]\ncluster-node-timeout = \"2000\"\n"));
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let done = operation(&world.muster(&["restart", "orders", "--yes", "--output", "json"]).expect(0));
    let hand_overs = done["hand_overs"].as_array().unwrap();
    assert_eq!(hand_overs.len(), 3, "{done}");
    assert!(hand_overs.iter().all(|one| one["gap_micros"].as_u64().is_some_and(|gap| gap > 0)), "{done}");
    world.until(SOON, "orders", "all is well", Status::well);
    world.muster(&["smoke", "orders"]).expect(0);
}

#[test]
fn a_restart_goes_on_over_the_death_of_the_coordinator_and_of_agents() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    let scribe = Scribe::begin(&before);
    let child = processes::spawn_owned(
        world
            .muster_command(&["restart", "orders", "--yes"])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null()),
    );
    let turned = |world: &World| {
        let pids_now = pids(&world.status("orders")?);
        Ok::<_, String>(
            pids(&before).iter().filter(|(name, pid)| pids_now[*name].is_some() && pids_now[*name] != **pid).count(),
        )
    };
    for (some, who) in [(1, "coordinator"), (3, "server1"), (4, "coordinator"), (5, "server2")] {
        eventually(SOON, &format!("{some} are restarted"), || match turned(&world)? {
            count if count >= some => Ok(()),
            count => Err(format!("{count} are")),
        });
        match who {
            "coordinator" => world.coordinator().restart(),
            host => world.agent(host).restart(),
        }
    }
    let mut child = child;
    processes::wait_owned(&mut child);
    let shown = world.muster(&["ops", "orders", "--output", "json"]).expect(0).json();
    let restart = &shown["operations"][0];
    assert_eq!((&restart["kind"], &restart["state"]), (&"restart".into(), &"done".into()), "{restart}");
    assert_eq!(restart["hand_overs"].as_array().unwrap().len(), 3, "{restart}");
    scribe.has_lost_nothing();
    let after = well(&world);
    for (name, pid) in pids(&before) {
        assert_ne!(pids(&after)[&name], pid, "{name} was not restarted");
    }
    for host in ["server1", "server2"] {
        assert_eq!(world.redis_pids(host).len(), 3, "each once");
    }
}

#[test]
fn a_restart_stops_at_the_first_that_does_not_come_back_and_goes_on_when_that_is_mended() {
    let mut world = World::seed();
    let server = world.write("redis-server", "#!/bin/sh\nexec /usr/bin/redis-server \"$@\"\n");
    let runs = |works: bool| {
        let text = if works {
            "exec /usr/bin/redis-server \"$@\""
        } else {
            "[ $# = 1 ] && [ \"$1\" != --version ] && exit 3\nexec /usr/bin/redis-server \"$@\""
        };
        fs::write(&server, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    };
    runs(true);
    for host in ["server1", "server2"] {
        let config = format!("{}redis_server = \"{server}\"\n", world.agent(host).config());
        world.agent(host).configure(&config);
        world.agent(host).restart();
        world.until_host(host, "live");
    }
    let before = world.bootstrap("orders");
    runs(false);
    let stuck = world.muster(&["restart", "orders", "--yes"]).expect(1);
    assert!(stuck.stderr.contains("nothing else is touched") && stuck.stderr.contains("muster op cancel"), "{stuck}");
    let now = world.status("orders").unwrap();
    let same = pids(&before).iter().filter(|(name, pid)| pids(&now)[*name] == **pid).count();
    assert_eq!(same, 5, "the first went alone: {:?}", states(&now));
    assert_eq!(masters(&now), masters(&before));

    let busy = world.muster(&["stop", "orders", "--host", "server1", "--yes"]).expect(1);
    assert!(busy.stderr.contains("muster op watch"), "{busy}");
    runs(true);
    let again = world.muster(&["restart", "orders", "--yes"]);
    let shown = world.muster(&["ops", "orders", "--output", "json"]).expect(0).json();
    assert_eq!(shown["operations"].as_array().unwrap().len(), 2, "the same request is the same operation: {again}");
    let id = shown["operations"][0]["id"].as_str().unwrap().to_owned();
    eventually(SOON, "it goes on by itself", || {
        let shown = operation(&world.muster(&["op", "show", &id, "--output", "json"]).expect(0));
        if shown["state"] == "done" { Ok(()) } else { Err(shown.to_string()) }
    });
    let after = well(&world);
    for (name, pid) in pids(&before) {
        assert_ne!(pids(&after)[&name], pid, "{name} was not restarted");
    }
}

#[test]
fn a_host_that_is_stopped_hands_over_first_and_stays_down_until_it_is_started() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    let scribe = Scribe::begin(&before);
    let stopped = world.muster(&["stop", "orders", "--host", "server1", "--yes"]).expect(0);
    assert!(stopped.stdout.contains("3 of 3 instances stopped"), "{stopped}");
    assert!(stopped.stderr.contains("left without a second copy"), "{stopped}");
    assert_eq!(world.redis_pids("server1"), Vec::<i32>::new());
    let lock = world.base_dir("server1").join(".locks/7000.lock");
    let free = fs::File::open(&lock).unwrap().try_lock();
    assert!(free.is_ok(), "stopped is said when the lock is free: {free:?}");
    let status = world.status("orders").unwrap();
    assert!(status.instances.iter().filter(|one| one.host == "server1").all(|one| one.state == "stopped"));
    assert_eq!(masters(&status).iter().filter(|name| name.starts_with("server2")).count(), 3);
    let shown = world.muster(&["status", "orders"]);
    assert!(
        shown.stdout.contains("STOPPED") && shown.stdout.contains("muster start orders --instance server1:7000"),
        "{shown}"
    );
    assert!(!shown.stdout.contains("NODE_TROUBLE"), "that it is away is meant: {shown}");
    scribe.has_lost_nothing();
    let checked = world.muster(&["check", "orders"]).expect(0);
    assert!(checked.stdout.contains("STOPPED") && checked.stdout.contains("All 16384 slots covered"), "{checked}");

    // Neither a new agent nor a new coordinator starts them.
    world.agent("server1").restart();
    world.coordinator().restart();
    world.until_host("server1", "live");
    world.until(SOON, "orders", "they are reported again", |status| {
        let stopped = states(status).values().filter(|state| *state == "stopped").count();
        if stopped == 3 { Ok(()) } else { Err(format!("{:?}", states(status))) }
    });
    assert_eq!(world.redis_pids("server1"), Vec::<i32>::new());
    let last = world.muster(&["stop", "orders", "--host", "server2", "--yes"]).expect(64);
    assert!(last.stderr.contains("served by nobody") && last.stderr.contains("--confirm orders"), "{last}");
    assert!(
        world.muster(&["stop", "orders", "--host", "server1", "--yes"]).expect(0).stdout.contains("nothing to stop")
    );
    assert!(
        world
            .muster(&["stop", "orders", "--host", "server9", "--yes"])
            .expect(1)
            .stderr
            .contains("has no instance on server9")
    );

    world.muster(&["start", "orders", "--host", "server1"]).expect(0);
    well(&world);
    assert!(world.muster(&["start", "orders"]).expect(0).stdout.contains("nothing to start"));
}

/// With an append-only file its data come back; without anything on disk it comes back empty, and that is asked for.
#[test]
fn a_whole_cluster_is_stopped_by_its_name_and_started_again() {
    for (settings, keeps) in [("appendonly = \"yes\"", true), ("appendonly = \"no\"\nsave = \"\"", false)] {
        let world = World::seed();
        let spec = world.spec("orders", 1, &format!("{settings}\ncluster-node-timeout = \"2000\""));
        world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
        let before = world.status("orders").unwrap();
        for nth in 0..50 {
            redis::cluster_cli(&before.endpoints()[0], &["set", &format!("key:{nth}"), "1"]).unwrap();
        }
        let wrong = world.muster(&["stop", "orders", "--confirm", "carts"]).expect(64);
        assert!(wrong.stderr.contains("slots 0-16383 are served by nobody"), "{wrong}");
        assert_eq!(wrong.stderr.contains("keeps nothing on disk"), !keeps, "{wrong}");
        assert_eq!(pids(&world.status("orders").unwrap()), pids(&before));
        world.muster(&["stop", "orders", "--confirm", "orders"]).expect(0);
        for host in ["server1", "server2"] {
            assert_eq!(world.redis_pids(host), Vec::<i32>::new());
        }
        let status = world.status("orders").unwrap();
        assert_eq!(status.state, "stopped");
        world.muster(&["start", "orders"]).expect(0);
        let after = well(&world);
        assert_eq!(keys(&after.endpoints()), if keeps { 50 } else { 0 });
        assert_eq!(after.state, "formed");
    }
}

/// Longer than the patience of its agent; killed meanwhile, it would lose everything since the snapshot before.
#[test]
fn a_server_that_saves_is_waited_for() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    for host in ["server1", "server2"] {
        let config = format!("{}stop_patience_ms = 1000\n", world.agent(host).config());
        world.agent(host).configure(&config);
    }
    world.start();
    // A tenth of a second a key.
    let settings =
        "appendonly = \"no\"\nsave = \"3600 1\"\nrdb-key-save-delay = \"100000\"\ncluster-node-timeout = \"2000\"";
    let spec = world.spec("orders", 1, settings);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let before = world.status("orders").unwrap();
    for nth in 0..90 {
        redis::cluster_cli(&before.endpoints()[0], &["set", &format!("key:{nth}"), "1"]).unwrap();
    }
    world.muster(&["stop", "orders", "--confirm", "orders"]).expect(0);
    let events = world.muster(&["events", "orders"]).expect(0);
    assert!(events.stdout.contains("it still saves its data set") && !events.stdout.contains("was killed"), "{events}");
    world.muster(&["start", "orders"]).expect(0);
    let after = well(&world);
    assert_eq!(keys(&after.endpoints()), 90);
}

#[test]
fn a_server_that_does_not_leave_is_killed_after_the_patience_of_its_agent() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    for host in ["server1", "server2"] {
        let config = format!("{}stop_patience_ms = 1000\n", world.agent(host).config());
        world.agent(host).configure(&config);
    }
    world.start();
    let before = world.bootstrap("orders");
    let replica = before.instances.iter().find(|one| !one.is_master()).unwrap();
    processes::signal(replica.pid.unwrap(), Signal::SIGSTOP);
    let name = replica.name();
    world.muster(&["stop", "orders", "--instance", &name, "--yes"]).expect(0);
    assert!(!processes::alive(replica.pid.unwrap()));
    let events = world.muster(&["events", "orders"]).expect(0);
    assert!(events.stdout.contains("as asked; it had not stopped by itself, and was killed"), "{events}");
    // To be ended in the middle: who was stopped stays so.
    world.muster(&["start", "orders", "--instance", &name]).expect(0);
    well(&world);
    world.agent("server1").freeze();
    let mut command = world.muster_command(&["stop", "orders", "--host", "server1", "--yes"]);
    let mut child = processes::spawn_owned(command.stderr(std::process::Stdio::null()));
    let id = eventually(SOON, "the stop is under way", || {
        let shown = world.muster(&["ops", "orders", "--output", "json"]).expect(0).json();
        let newest = shown["operations"][0].clone();
        let begun = newest["kind"] == "stop" && newest["state"] != "done";
        if begun { Ok(newest["id"].as_str().unwrap().to_owned()) } else { Err(newest.to_string()) }
    });
    world.muster(&["op", "cancel", &id]).expect(0);
    processes::wait_owned(&mut child);
    world.agent("server1").thaw();
    world.muster(&["start", "orders"]).expect(0);
    well(&world);
}

/// What it says is shown, and it is tried when something has changed: here, the server.
#[test]
fn a_server_that_refuses_its_conf_is_not_tried_again_until_something_has_changed() {
    let mut world = World::seed();
    let server = world.dir().join("redis-server");
    let takes = |more: &str| {
        let text = format!(
            "#!/bin/sh\n[ $# = 1 ] && [ -f \"$1\" ] && set -- \"$1\"{more}\nexec /usr/bin/redis-server \"$@\"\n"
        );
        fs::write(&server, text).unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    };
    takes("");
    let config = format!("{}redis_server = \"{}\"\n", world.agent("server2").config(), server.display());
    world.agent("server2").configure(&config);
    world.agent("server2").restart();
    world.until_host("server2", "live");
    let before = world.bootstrap("orders");
    let replica = before.instances.iter().find(|one| one.host == "server2" && !one.is_master()).unwrap();
    takes(" --no-such-directive yes");
    processes::signal(replica.pid.unwrap(), Signal::SIGKILL);
    let shown = eventually(SOON, "it is held", || {
        let shown = world.muster(&["status", "orders", "--output", "json"]).expect(0).json();
        let found =
            shown["instances"].as_array().unwrap().iter().find(|one| one["node_id"] == replica.node_id).unwrap();
        if found["condition"] == "CONF_ERROR" { Ok(found.clone()) } else { Err(found.to_string()) }
    });
    assert_eq!((&shown["state"], &shown["next_try_ms"]), (&"blocked".into(), &Value::Null), "{shown}");
    assert!(shown["reason"].as_str().unwrap().contains("no-such-directive"), "its own words: {shown}");
    let starts = shown["starts"].clone();
    // Asked for, it is tried once, and says so again.
    let name = replica.name();
    let asked = world.muster(&["start", "orders", "--instance", &name]).expect(1);
    assert!(asked.stderr.contains("no-such-directive"), "{asked}");
    let found = world.muster(&["status", "orders", "--output", "json"]).expect(0).json();
    let found = found["instances"].as_array().unwrap().iter().find(|one| one["node_id"] == replica.node_id).unwrap();
    assert!(found["starts"].as_u64() <= starts.as_u64().map(|starts| starts + 1), "{found}");
    takes("");
    well(&world);
}
