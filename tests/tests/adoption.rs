//! Agents come and go, redis-servers stay: what an agent that comes back finds, what it leaves alone, and what it
//! brings back without losing a key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use muster_tests::{Client, Instance, Output, Status, World, binaries, eventually, processes, redis};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Everything here but elections happens within this, on a busy machine too.
const SOON: Duration = Duration::from_secs(20);
/// A failover: the node timeout, an election, a sync.
const FAILOVER: Duration = Duration::from_secs(40);
const SNAPSHOTS: &str = "appendonly = \"no\"\nsave = \"900 1\"\ncluster-node-timeout = \"1000\"";
const NO_PERSISTENCE: &str = "appendonly = \"no\"\nsave = \"\"\ncluster-node-timeout = \"1000\"";

fn pids(status: &Status) -> BTreeMap<String, Option<i32>> {
    status.instances.iter().map(|instance| (instance.name(), instance.pid)).collect()
}

/// The instance of that node, wherever the cluster has it now.
fn node<'a>(status: &'a Status, id: &str) -> &'a Instance {
    status.instances.iter().find(|instance| instance.node_id == id).expect("a node does not leave the blueprint")
}

/// Waits until all is well, and returns the status.
#[track_caller]
fn well(world: &World, what: &str) -> Status {
    world.until(SOON, "orders", what, |status| status.well().map(|()| status.clone()))
}

#[track_caller]
fn kill_server(instance: &Instance) -> i32 {
    let pid = instance.pid.expect("it runs");
    processes::signal(pid, Signal::SIGKILL);
    pid
}

/// Writes so many keys through the cluster, each acknowledged by every replica of its master.
#[track_caller]
fn write_keys(status: &Status, keys: usize) {
    let masters: Vec<_> = status.instances.iter().filter(|instance| instance.is_master()).collect();
    for nth in 0..keys {
        redis::cluster_cli(&masters[0].endpoint(), &["set", &format!("key:{nth}"), &nth.to_string()]).unwrap();
    }
    for master in masters {
        let replicas = status.replicas_of(&master.node_id).count();
        let size = redis::cli(&master.endpoint(), &["dbsize"]).unwrap();
        for replica in status.replicas_of(&master.node_id) {
            let what = format!("{} has the {size} keys of its master ({replicas} replicas)", replica.name());
            eventually(SOON, &what, || match redis::cli(&replica.endpoint(), &["dbsize"])? {
                found if found == size => Ok(()),
                found => Err(format!("it has {found}")),
            });
        }
    }
}

/// Which keys are missing, as a client of the cluster sees it.
fn lost_keys(endpoint: &str, keys: usize) -> Result<(), String> {
    let read = |nth: &usize| redis::cluster_cli(endpoint, &["get", &format!("key:{nth}")]);
    let wrong: Vec<_> =
        (0..keys).map(|nth| (nth, read(&nth))).filter(|(nth, found)| *found != Ok(nth.to_string())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("{} of {keys} keys are lost: {wrong:?}", wrong.len())) }
}

/// `muster-agent ps` on a host, and `muster agent ps` of it: whose the process at that port is.
#[track_caller]
fn standing(world: &mut World, host: &str, port: u16) -> (String, Vec<String>) {
    let config = world.agent(host).config_path().to_owned();
    let mut local = std::process::Command::new(binaries::path("muster-agent"));
    local.arg("--config").arg(config).args(["ps", "--json"]);
    let local = Output::from(processes::run_owned(&mut local)).expect(0).json();
    let row =
        |document: &Value| document["processes"].as_array().unwrap().iter().find(|row| row["port"] == port).cloned();
    let local = row(&local).unwrap();
    let word = local["standing"].as_str().unwrap().to_owned();
    eventually(SOON, "the agent says the same", || {
        let said = row(&world.muster(&["agent", "ps", host, "--output", "json"]).expect(0).json()).unwrap();
        if said["standing"] == *word { Ok(()) } else { Err(format!("{said} and not {local}")) }
    });
    let evidence = local["evidence"].as_array().unwrap().iter().map(|clue| clue.as_str().unwrap().to_owned());
    (word, evidence.collect())
}

#[test]
fn agents_that_stop_crash_or_are_upgraded_leave_every_server_running_and_find_it_again() {
    let mut world = World::seed();
    let before = pids(&world.bootstrap("orders"));
    let client = Client::of(&world.status("orders").unwrap().endpoints());

    for host in ["server1", "server2"] {
        world.agent(host).kill();
    }
    world.until_host("server1", "unknown");
    world.start();
    assert_eq!(pids(&well(&world, "killed agents have found their servers")), before);

    world.agent("server1").stop();
    world.agent("server1").start();
    world.until_host("server1", "live");
    assert_eq!(pids(&well(&world, "a stopped agent has found its servers")), before);

    let newer = world.dir().join("muster-agent-newer");
    fs::copy(binaries::path("muster-agent"), &newer).unwrap();
    world.agent("server2").replace_program(&newer);
    world.agent("server2").restart();
    world.until_host("server2", "live");
    assert_eq!(pids(&well(&world, "the new agent has found its servers")), before);

    world.coordinator().stop();
    world.coordinator().start();
    world.start();
    assert_eq!(pids(&well(&world, "the coordinator is back")), before);
    let (word, evidence) = standing(&mut world, "server1", 7000);
    assert_eq!(word, "ours");
    for clue in ["identity: as written down", "nonce: as written down", "working directory: the instance's"] {
        assert!(evidence.iter().any(|found| found == clue), "{evidence:?}");
    }

    for service in client.end().expect("no connection of a client was broken") {
        assert!(service.longest < Duration::from_secs(1), "{service:?}");
        assert!(service.answers > 100, "{service:?}");
    }
    for instance in world.status("orders").unwrap().instances {
        let up = redis::info(&instance.endpoint(), "server").unwrap();
        assert_eq!(up["process_id"], instance.pid.unwrap().to_string());
    }
}

fn with_another_nonce(record: &str) -> String {
    let mut record: Value = serde_json::from_str(record).unwrap();
    record["nonce"] = "00000000-0000-0000-0000-000000000000".into();
    record.to_string()
}

#[test]
fn a_second_server_is_never_started_in_a_directory_whatever_the_agent_has_forgotten() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    let run = world.base_dir("server1").join("agent/run");
    let record = |port: u16| run.join(format!("{port}.json"));
    let kept = [7000, 7001, 7002].map(|port| fs::read_to_string(record(port)).unwrap());
    let client = Client::of(&before.endpoints());
    world.agent("server1").kill();
    // As if the processes that they tell of had been others, or of another boot.
    fs::write(record(7000), kept[0].replace("\"start_ticks\":", "\"start_ticks\":1")).unwrap();
    fs::write(record(7001), with_another_nonce(&kept[1])).unwrap();
    fs::write(record(7002), kept[2].replace("\"boot_id\":\"", "\"boot_id\":\"another-")).unwrap();
    world.agent("server1").start();
    world.until_host("server1", "live");

    for port in [7000, 7001, 7002] {
        let instance = before.at("server1", port);
        let pid = instance.pid.unwrap();
        let reason = world.until(SOON, "orders", "it is unknown, and who holds its lock is named", |status| {
            let found = status.at("server1", port);
            let reason = found.reason.clone().unwrap_or_default();
            let named = found.state == "unknown" && reason.contains(&format!("pid {pid}"));
            if named { Ok(reason) } else { Err(format!("{found:?}")) }
        });
        assert!(reason.contains(&format!(".locks/{port}.lock")), "{reason}");
        let (word, evidence) = standing(&mut world, "server1", port);
        assert_eq!((word.as_str(), evidence.iter().filter(|clue| clue.ends_with("(!)")).count()), ("unknown", 1));
    }
    assert_eq!(world.redis_pids("server1").len(), 3);
    let services = client.end().expect("nobody was signalled, nobody was pushed aside");
    assert_eq!(services.len(), 6);
    assert_eq!(pids(&before), {
        let of = |instance: &Instance| redis::info(&instance.endpoint(), "server").unwrap()["process_id"].clone();
        before.instances.iter().map(|instance| (instance.name(), of(instance).parse().ok())).collect()
    });
    assert!(!world.agent("server1").log().contains("cannot signal"), "{}", world.agent("server1").log_end());

    // When they are gone the locks are free, and all is as it should be again.
    for port in [7000, 7001, 7002] {
        kill_server(before.at("server1", port));
    }
    world.until(FAILOVER, "orders", "all is well again", Status::well);
    assert_eq!(world.redis_pids("server1").len(), 3);
}

/// Locks are not in there, ledger and records are: the lock, the nonce and the working directory say enough.
#[test]
fn an_agent_whose_own_directory_was_lost_finds_its_servers_all_the_same() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    write_keys(&before, 20);
    world.agent("server1").stop();
    fs::remove_dir_all(world.base_dir("server1").join("agent")).unwrap();
    world.agent("server1").start();
    world.until_host("server1", "live");
    assert_eq!(pids(&well(&world, "it has its servers again")), pids(&before));
    world.muster(&["check", "orders"]).expect(0);

    let killed = kill_server(before.at("server1", 7000));
    world.until(FAILOVER, "orders", "it is supervised as before", |status| {
        status.well()?;
        if status.at("server1", 7000).pid == Some(killed) { Err("the old pid".into()) } else { Ok(()) }
    });
    // A master that comes back waits 2 s before it serves.
    eventually(SOON, "every key is there", || lost_keys(&before.at("server2", 7003).endpoint(), 20));
}

/// Somebody has started a server by hand, from the instance's own directory and conf, while its own was down.
#[test]
fn a_strangers_server_in_our_place_is_named_and_left_alone_until_it_goes() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    let instance = before.at("server1", 7000);
    world.agent("server1").stop();
    let pid = kill_server(instance);
    // Until it is gone it has the port, and nodes.conf locked.
    eventually(SOON, "it is gone", || if processes::alive(pid) { Err("it lives".into()) } else { Ok(()) });
    let home = world.base_dir("server1").join("7000");
    let mut stranger = std::process::Command::new("redis-server");
    stranger.arg(home.join("redis.conf")).current_dir(&home).stdin(std::process::Stdio::null());
    let mut stranger = processes::spawn_owned(stranger.stdout(std::process::Stdio::null()));
    eventually(SOON, "it serves", || redis::info(&instance.endpoint(), "server").map(drop));
    world.agent("server1").start();
    let reason = world.until(SOON, "orders", "it is named", |status| {
        let found = status.at("server1", 7000);
        let reason = found.reason.clone().unwrap_or_default();
        let named = found.state == "blocked" && reason.contains(&format!("pid {} (redis-server", stranger.id()));
        if named { Ok(reason) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(standing(&mut world, "server1", 7000).0, "foreign");
    assert!(reason.contains("left alone") && reason.contains("without Muster"), "{reason}");
    assert_eq!(redis::info(&instance.endpoint(), "server").unwrap()["process_id"], stranger.id().to_string());
    stranger.kill().unwrap();
    processes::wait_owned(&mut stranger);
    well(&world, "the instance is back, once the stranger has gone");
}

#[test]
fn a_master_that_died_while_its_agent_was_away_comes_back_as_a_replica() {
    let mut world = World::up(&[("a", "7000-7001"), ("b", "7000-7001"), ("c", "7000-7001")]);
    let before = world.bootstrap("orders");
    write_keys(&before, 100);
    let master = before.master_on("a").unwrap().clone();
    let heir = before.replicas_of(&master.node_id).next().unwrap().clone();
    world.agent("a").kill();
    kill_server(&master);
    eventually(FAILOVER, "its replica is promoted", || {
        let role = redis::info(&heir.endpoint(), "replication")?["role"].clone();
        if role == "master" { Ok(()) } else { Err(format!("it is a {role}")) }
    });
    world.agent("a").start();
    world.until(FAILOVER, "orders", "the dead one is back, as a replica", |status| {
        status.well()?;
        let back = node(status, &master.node_id);
        let follows = back.role == "replica" && back.master.as_deref() == Some(&heir.node_id);
        if follows && back.pid != master.pid { Ok(()) } else { Err(format!("{back:?}")) }
    });
    lost_keys(&heir.endpoint(), 100).unwrap();
    redis::agreement(&before.endpoints()).unwrap();
}

#[test]
fn a_master_without_persistence_that_crashes_never_empties_its_replicas() {
    let world = World::up(&[("a", "7000-7001"), ("b", "7000-7001"), ("c", "7000-7001")]);
    crash_there_and_back(world, NO_PERSISTENCE, "it would empty them");
}

/// Two of three masters die at once and none of them keeps anything: nobody can be elected, so the guard would hold them
/// for ever. An operator gives one up by its name, and the other's keys are all there.
#[test]
fn a_guard_that_nobody_can_lift_is_overruled_by_name_and_costs_nothing_else() {
    let world = World::up(&[("a", "7000-7001"), ("b", "7000-7001"), ("c", "7000-7001")]);
    let spec = world.spec("orders", 1, NO_PERSISTENCE);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let formed = world.status("orders").unwrap();
    write_keys(&formed, 60);
    let [given_up, kept] = ["a", "b"].map(|host| formed.master_on(host).unwrap().clone());
    let survivor = formed.replicas_of(&kept.node_id).next().unwrap().clone();
    let size = redis::cli(&survivor.endpoint(), &["dbsize"]).unwrap();
    kill_server(&given_up);
    kill_server(&kept);
    for master in [&given_up, &kept] {
        world.until(SOON, "orders", "the guard holds it, and says how it is lifted", |status| {
            let found = node(status, &master.node_id);
            let reason = found.reason.clone().unwrap_or_default();
            let held = found.state == "blocked" && reason.contains("muster start --even-if-empty");
            if held { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    let name = given_up.name();
    let start = ["start", "orders", "--instance", &name];
    let held = world.muster(&start).expect(1);
    assert!(held.stderr.contains("muster start --even-if-empty"), "{held}");
    let said = world.muster(&[&start[..], &["--even-if-empty"]].concat()).expect(64);
    assert!(said.stderr.contains(&format!("--confirm {name}")), "{said}");
    world.muster(&[&start[..], &["--even-if-empty", "--confirm", "a:7999"]].concat()).expect(64);
    assert_eq!(node(&world.status("orders").unwrap(), &given_up.node_id).state, "blocked", "nothing of it overrules");

    world.muster(&[&start[..], &["--even-if-empty", "--confirm", &name]].concat()).expect(0);
    world.until(FAILOVER, "orders", "all is well again", Status::well);
    let found = redis::cli(&survivor.endpoint(), &["dbsize"]).unwrap();
    assert_eq!(found, size, "the other master's replica was elected with all its keys");
    let audit = world.muster(&["audit"]).expect(0).stdout;
    assert!(audit.contains(&format!("{name} of cluster orders, even if that empties its replicas")), "{audit}");
    assert!(world.muster(&start).expect(0).stdout.contains("nothing to start"));
}

/// No sibling tells the agent who took over; the coordinator does. The snapshot is that of the first sync.
#[test]
fn a_master_alone_on_its_host_with_a_snapshot_never_takes_its_replicas_back_to_it() {
    let hosts = ["a", "b", "c", "d", "e", "f"].map(|host| (host, "7000"));
    crash_there_and_back(World::up(&hosts), SNAPSHOTS, "waits up to a minute for a successor");
}

/// The first crash, from the agents' diaries; and they outlive their agents.
#[track_caller]
fn the_diaries_tell_of_it(world: &mut World, master: &Instance, pid: i32) {
    let told = |world: &World, args: &[&str]| {
        let said = world.muster(&[&["events", "--output", "json", "--last", "500"], args].concat());
        (said.json()["events"].as_array().unwrap().clone(), said)
    };
    let about = |events: &[Value], what: &str, words: &str| {
        let fits = |event: &&Value| {
            event["what"] == what
                && event["host"] == master.host
                && event["port"] == master.port
                && event["text"].as_str().unwrap().contains(words)
        };
        events.iter().filter(fits).count()
    };
    let (events, _) = told(world, &["orders"]);
    assert_eq!(about(&events, "ended", &format!("pid {pid}, signal 9; its last words: ")), 1, "{events:?}");
    assert_eq!(about(&events, "started", ""), 4, "the first start and one after each crash: {events:?}");
    let paused = events.iter().filter(|event| event["condition"] == "BACKOFF").count();
    assert!(paused >= 2, "{events:?}");

    let host = master.host.clone();
    world.agent(&host).kill();
    world.until_host(&host, "unknown");
    let (_, silent) = told(world, &["--host", &host]);
    assert!(silent.code == 1 && silent.json()["silent"][0]["host"] == *host, "{silent}");
    world.agent(&host).start();
    world.until_host(&host, "live");
    let (after, _) = told(world, &["orders", "--host", &host]);
    assert!(after.len() >= events.iter().filter(|event| event["host"] == *host).count(), "{after:?}");
}

fn crash_there_and_back(mut world: World, settings: &str, guard: &str) {
    let spec = world.spec("orders", 1, settings);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let formed = world.status("orders").unwrap();
    write_keys(&formed, 100);
    let shard = formed.master_on("a").unwrap().node_id.clone();
    let heir = formed.replicas_of(&shard).next().unwrap().node_id.clone();
    // There and back: the second time it is a node that was a replica, with what its first sync has left on the disk.
    for victim in [&shard, &heir, &shard] {
        let before = well(&world, "all is well before the next crash");
        let master = node(&before, victim);
        assert!(master.is_master(), "{master:?}");
        let pid = kill_server(master);
        world.until(FAILOVER, "orders", "the crashed master is back, as a replica", |status| {
            status.well()?;
            let back = node(status, victim);
            let came_back = back.pid != Some(pid) && back.role == "replica";
            if came_back { Ok(()) } else { Err(format!("{back:?}")) }
        });
        let now = world.status("orders").unwrap();
        lost_keys(&now.at("b", 7000).endpoint(), 100).unwrap();
    }
    let log = world.agent("a").log();
    assert!(log.contains(guard), "the guard has said why nothing happens");
}

#[test]
fn a_server_that_crashes_is_back_within_a_second_with_all_keys_and_then_ever_more_slowly() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    write_keys(&before, 100);
    let master = before.master_on("server1").unwrap().clone();
    let size = redis::cli(&master.endpoint(), &["dbsize"]).unwrap();
    let client_sees = |pid: i32| {
        let info = redis::info(&master.endpoint(), "server")?;
        if info["process_id"] == pid.to_string() {
            Err("it is the old one".to_owned())
        } else {
            redis::cli(&master.endpoint(), &["dbsize"])
        }
    };

    let pid = kill_server(&master);
    let died = Instant::now();
    let found = eventually(SOON, "it answers again", || client_sees(pid));
    assert!(died.elapsed() < Duration::from_secs(1), "it took {:?}", died.elapsed());
    assert_eq!(found, size, "all keys are there");
    let back = well(&world, "all is well after the first crash");
    assert!(node(&back, &master.node_id).is_master(), "it was faster than an election");

    for (exits, pause) in [(2, 1), (3, 2)] {
        let now = well(&world, "it runs before the next crash");
        let pid = kill_server(node(&now, &master.node_id));
        let died = Instant::now();
        let expected = format!("it has ended {exits} times in 300 s, the last: signal 9");
        world.until(SOON, "orders", &expected, |status| {
            let reason = node(status, &master.node_id).reason.clone().unwrap_or_default();
            if reason.contains(&expected) { Ok(()) } else { Err(reason) }
        });
        eventually(SOON, "it answers again", || client_sees(pid));
        assert!(died.elapsed() >= Duration::from_secs(pause), "it was back after {:?}", died.elapsed());
    }
    the_diaries_tell_of_it(&mut world, &master, pid);
    // A pause of 2 s is as long as the node timeout: an election may be under way.
    eventually(SOON, "every key is there", || lost_keys(&before.master_on("server2").unwrap().endpoint(), 100));
}
