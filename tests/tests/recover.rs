//! The coordinator's store is lost. An empty one is told what exists and adopts nothing; `muster-coordinator recover`
//! rebuilds it from what agents hold, and no redis-server notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    fs::{self, File},
    process::Command,
    time::Duration,
};

use muster_tests::{Fleet, Output, Status, World, binaries, eventually, fleet::CONTROL, processes};
use nix::sys::signal::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
const THREE: [(&str, &str); 3] = [("server1", "7000-7001"), ("server2", "7000-7001"), ("server3", "7000-7001")];
const HOSTS: &str = "server1,server2,server3";

/// A cluster with passwords on all hosts.
fn formed() -> (World, String, Status) {
    let mut world = World::up(&THREE);
    // So that there is a term to be lower than.
    world.coordinator().restart();
    world.start();
    let spec = world.spec("orders", 1, "cluster-node-timeout = \"2000\"");
    let text = fs::read_to_string(&spec).unwrap().replace("auth = \"none\"\n", "");
    let spec = world.write("orders.spec.toml", &text);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let status = world.status("orders").unwrap();
    (world, spec, status)
}

/// Takes the coordinator's state away, with its key.
fn lose_the_store(world: &mut World) {
    world.coordinator().stop();
    fs::remove_dir_all(world.dir().join("coordinator")).unwrap();
}

fn recovery(world: &mut World, args: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("muster-coordinator"));
    command.arg("--config").arg(world.coordinator().config_path()).args(["recover", "--from-agents"]).args(args);
    command
}

fn recover(world: &mut World, args: &[&str]) -> Output {
    processes::run_owned(&mut recovery(world, args)).into()
}

fn pids(status: &Status) -> Vec<Option<i32>> {
    status.instances.iter().map(|instance| instance.pid).collect()
}

/// What `muster hosts` finds about a host.
fn found(world: &World, host: &str) -> Vec<(String, String)> {
    let answer = world.muster(&["hosts", "--output", "json"]);
    if answer.code != 0 {
        return vec![("not yet".into(), answer.to_string())];
    }
    let hosts = answer.json();
    let host = hosts["hosts"].as_array().unwrap().iter().find(|one| one["name"] == host).cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = host["findings"].as_array().cloned().unwrap_or_default();
    findings
        .iter()
        .map(|one| (text(&one["code"]), format!("{} {}", text(&one["message"]), text(&one["cure"]))))
        .collect()
}

#[track_caller]
fn until_found(world: &World, host: &str, words: &str) {
    eventually(SOON, &format!("{host} is shown as one that {words}"), || {
        let found = found(world, host);
        let fits = |(code, said): &(String, String)| {
            code == "LEDGER_UNKNOWN"
                && said.contains(words)
                && said.contains("muster-coordinator recover --from-agents")
        };
        if found.iter().any(fits) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// The same processes as before, all well, and whoever looks finds nothing.
#[track_caller]
fn as_before(world: &World, before: &Status) {
    let after = world.until(SOON, "orders", "all is well", |status| status.well().map(|()| status.clone()));
    assert_eq!(pids(&after), pids(before), "no redis-server has noticed");
    world.muster(&["check", "orders"]).expect(0);
    world.muster(&["smoke", "orders", "--from", "server1"]).expect(0);
}

/// All passwords are exchanged, which takes every host.
#[track_caller]
fn passwords_can_be_exchanged(world: &World) {
    let refused = world.muster(&["credentials", "orders"]).expect(1);
    assert!(refused.stderr.contains("only its hash is known"), "{refused}");
    world.muster(&["credentials", "rotate", "orders"]).expect(0);
    let shown = world.muster(&["credentials", "orders", "--output", "json"]).expect(0).json();
    assert_eq!(shown["password"].as_str().map(str::len), Some(43));
    world.muster(&["credentials", "finish", "orders"]).expect(0);
    world.muster(&["smoke", "orders"]).expect(0);
}

fn codes(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| format!("{} {}", one["code"].as_str().unwrap(), one["host"].as_str().unwrap_or("-")))
        .collect()
}

#[test]
fn an_empty_store_is_told_what_exists_and_adopts_nothing_and_is_rebuilt_from_the_agents() {
    let (mut world, spec, before) = formed();
    let generations = |world: &World| {
        let hosts = world.muster(&["hosts", "--output", "json"]).expect(0).json();
        hosts["hosts"].as_array().unwrap().iter().map(|host| host["accepted"].as_u64()).collect::<Vec<_>>()
    };
    let accepted = generations(&world);
    let busy = recover(&mut world, &["--hosts", HOSTS, "--yes"]).expect(1);
    assert!(busy.stderr.contains("a muster-coordinator runs with the store in"), "{busy}");
    assert!(busy.stderr.contains("systemctl stop muster-coordinator"), "{busy}");

    // In its first term, which is lower than the one that agents obey.
    lose_the_store(&mut world);
    world.coordinator().start();
    for (host, _) in THREE {
        until_found(&world, host, "has obeyed term 2, and this coordinator is of term 1");
    }
    // In one that they listen to.
    world.coordinator().restart();
    world.start();
    for (host, _) in THREE {
        until_found(&world, host, "holds cluster orders (incarnation 1) of a coordinator that is not known here");
    }
    let refused = world.muster(&["bootstrap", &spec, "--yes"]).expect(1);
    assert!(refused.to_string().contains("LEDGER_UNKNOWN: server1"), "{refused}");
    assert!(refused.to_string().contains("recover --from-agents"), "{refused}");
    assert_eq!(world.muster(&["ops", "--output", "json"]).expect(0).json()["operations"], serde_json::json!([]));
    assert!(world.muster(&["status", "orders"]).expect(1).stderr.contains("there is no cluster orders"));
    assert_eq!(generations(&world), accepted, "nothing was told");

    world.coordinator().stop();
    let dry = recover(&mut world, &["--hosts", HOSTS, "--dry-run", "--output", "json"]).expect(0).json();
    assert_eq!((&dry["written"], &dry["clusters"][0]["name"]), (&false.into(), &"orders".into()), "{dry:#}");
    let unasked = recover(&mut world, &["--hosts", HOSTS]).expect(64);
    assert!(unasked.stdout.contains("orders   1            formed  3        6"), "{unasked}");
    assert!(unasked.stderr.contains("nothing was written"), "{unasked}");
    let done = recover(&mut world, &["--hosts", HOSTS, "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(done["written"], true, "{done:#}");
    assert!(done["hosts"].as_array().unwrap().iter().all(|host| host["told"] == "the same"), "{done:#}");
    assert!(done["hosts"].as_array().unwrap().iter().all(|host| host["running"] == 2), "{done:#}");
    assert_eq!(codes(&done), [""; 0]);
    let again = recover(&mut world, &["--hosts", HOSTS, "--yes"]).expect(1);
    assert!(again.stderr.contains("has clusters (orders); it is not rebuilt"), "{again}");

    world.start();
    as_before(&world, &before);
    assert_eq!(generations(&world), accepted, "what they are told is what they have");
    assert!((0..3).all(|nth| found(&world, THREE[nth].0).is_empty()));
    let formed = world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    assert!(formed.to_string().contains("formed"), "the same spec again: {formed}");
    world.muster(&["audit", "--verify"]).expect(0);
    let audit = world.muster(&["audit"]).expect(0);
    assert!(audit.stdout.contains("recover --from-agents"), "{audit}");
    passwords_can_be_exchanged(&world);
    as_before(&world, &before);
}

#[test]
fn a_host_that_was_missing_is_taken_up_when_it_calls() {
    let (mut world, _, before) = formed();
    world.agent("server3").stop();
    lose_the_store(&mut world);
    let done = recover(&mut world, &["--wait", "20", "--yes", "--output", "json"]).expect(0);
    assert!(done.stderr.contains("still missing: server3"), "{done}");
    let done = done.json();
    assert_eq!(codes(&done), ["HOST_MISSING server3"]);
    assert_eq!(done["hosts"][2]["told"], "when it calls", "{done:#}");

    world.coordinator().start();
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    world.start();
    as_before(&world, &before);
    passwords_can_be_exchanged(&world);
}

#[test]
fn killed_in_the_middle_it_has_written_nothing_and_can_be_run_again() {
    let (mut world, _, before) = formed();
    // One has lost its agent's memory besides.
    world.agent("server2").stop();
    let own = world.base_dir("server2").join("agent");
    fs::rename(&own, own.with_extension("aside")).unwrap();
    world.agent("server2").start();
    lose_the_store(&mut world);
    let said = world.dir().join("recover.log");
    let mut command = recovery(&mut world, &["--yes"]);
    let mut child = processes::spawn_owned(command.stderr(File::create(&said).unwrap()));
    eventually(SOON, "all are heard", || {
        let said = fs::read_to_string(&said).unwrap();
        if said.contains("heard: server1, server2, server3\n") { Ok(()) } else { Err(said) }
    });
    processes::signal(child.id() as i32, Signal::SIGKILL);
    processes::wait_owned(&mut child);

    let done = recover(&mut world, &["--hosts", HOSTS, "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(codes(&done), ["LEDGER_LOST server2"]);
    world.start();
    as_before(&world, &before);
}

#[test]
fn with_tls_hosts_are_enrolled_with_the_new_authority_while_it_waits() {
    const TWO: [(&str, &str); 2] = [("server1", "7000-7002"), ("server2", "7003-7005")];
    let mut fleet = Fleet::up(&TWO, "");
    let spec = fleet.spec("orders", "tls = true", &TWO, "cluster-node-timeout = 2000");
    fleet.world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let before = fleet.world.status("orders").unwrap();
    let clients = fleet.credentials("orders");
    lose_the_store(&mut fleet.world);

    let config = fleet.world.coordinator().config_path().display().to_string();
    let program = binaries::path("muster-coordinator").display().to_string();
    let start = |fleet: &Fleet, args: &[&str]| {
        let mut command = fleet.network.on(CONTROL, &program);
        command.args(["--config", &config, "recover", "--from-agents", "--yes", "--output", "json"]).args(args);
        command
    };
    let unnamed: Output = processes::run_owned(&mut start(&fleet, &[])).into();
    assert!(unnamed.clone().expect(64).stderr.contains("--hosts server1,server2,..."), "{unnamed}");

    let (out, said) = (fleet.world.dir().join("recover.out"), fleet.world.dir().join("recover.log"));
    let mut command = start(&fleet, &["--hosts", "server1,server2"]);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&said).unwrap());
    let mut child = processes::spawn_owned(&mut command);
    let tokens = eventually(SOON, "tokens are shown", || {
        let text = fs::read_to_string(&out).unwrap();
        let line: Option<Value> = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
        line.ok_or(text)
    });
    for token in tokens["tokens"].as_array().unwrap() {
        let text = |key: &str| token[key].as_str().unwrap().to_owned();
        fleet.enrol_with(&text("host"), &text("token"), &["--again"]).expect(0);
    }
    let pid = child.id() as i32;
    eventually(SOON, "it has written", || {
        if processes::alive(pid) { Err(fs::read_to_string(&said).unwrap()) } else { Ok(()) }
    });
    processes::wait_owned(&mut child);
    let text = fs::read_to_string(&out).unwrap();
    let (_, document) = text.split_once('\n').unwrap();
    let done: Value = serde_json::from_str(document).unwrap();
    assert_eq!(done["written"], true, "{done:#}");

    fleet.start_coordinator();
    fleet.world.start();
    let well = |fleet: &Fleet| {
        let after = fleet.world.until(SOON, "orders", "all is well", |status| status.well().map(|()| status.clone()));
        assert_eq!(pids(&after), pids(&before), "no redis-server has noticed");
        fleet.world.muster(&["check", "orders"]).expect(0);
    };
    well(&fleet);
    let endpoint = before.instances[0].endpoint();
    let (host, port) = endpoint.rsplit_once(':').unwrap();
    let ping = |with| fleet.redis_cli(CONTROL, with, &["-h", host, "-p", port, "ping"]);
    assert_eq!(ping(&clients), Ok("PONG".into()), "clients go on with what they have");

    // Both are exchanged for what the new store knows.
    for kind in [&["--certificates"][..], &[]] {
        fleet.world.muster(&[&["credentials", "rotate", "orders"], kind].concat()).expect(0);
        fleet.world.muster(&["credentials", "finish", "orders"]).expect(0);
    }
    let newest = fleet.credentials("orders");
    assert!(newest.ca != clients.ca && newest.password != clients.password);
    let ping = |with| fleet.redis_cli(CONTROL, with, &["-h", host, "-p", port, "ping"]);
    assert_eq!(ping(&newest), Ok("PONG".into()));
    well(&fleet);
}
