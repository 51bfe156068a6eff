//! Two where there may be one: coordinators, agents' names, base directories, stores. The one that was there goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, path::Path, time::Duration};

use muster_tests::{Client, Daemon, Status, World, eventually, processes};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(20);

/// Waits until a daemon's log says something.
#[track_caller]
fn says(daemon: &Daemon, words: &str) {
    eventually(SOON, &format!("its log says {words:?}"), || {
        if daemon.log().contains(words) { Ok(()) } else { Err(daemon.log_end()) }
    });
}

fn listen(config: &str) -> &str {
    config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"')
}

fn pids(status: &Status) -> Vec<Option<i32>> {
    status.instances.iter().map(|instance| instance.pid).collect()
}

#[test]
fn an_old_coordinator_behind_the_address_is_refused_and_the_servers_go_on() {
    let mut world = World::seed();
    // Its second start, so that there is a term to be lower than.
    world.coordinator().restart();
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    let before = world.bootstrap("orders");
    let client = Client::of(&before.endpoints());
    world.coordinator().stop();

    let home = world.dir().to_owned();
    let config = world.coordinator().config();
    let stray = config.replace("/coordinator\"", "/stray-state\"");
    assert_ne!(stray, config);
    let mut stray = Daemon::new("muster-coordinator", &home, "stray", &stray);
    stray.start();
    for host in ["server1", "server2"] {
        says(world.agent(host), "a coordinator of term 1 is behind this address; term 2 has been obeyed");
        assert!(world.agent(host).log().contains("the redis-servers go on"));
    }
    let clusters = world.muster(&["status", "orders"]).expect(1);
    assert!(clusters.stderr.contains("there is no cluster orders"), "it is the stray that answers: {clusters}");
    let hosts = world.muster(&["hosts", "--output", "json"]).expect(0).json();
    assert!(hosts["hosts"].as_array().unwrap().iter().all(|host| host["state"] == "unknown"), "{hosts:#}");
    stray.stop();

    world.start();
    let after = world.until(SOON, "orders", "all is well", |status| status.well().map(|()| status.clone()));
    assert_eq!(pids(&after), pids(&before));
    client.end().expect("no connection of a client was broken");
}

/// As the README has it under "When something is lost".
#[test]
fn a_backup_that_is_older_than_what_agents_obey_rules_again_once_they_have_forgotten() {
    let mut world = World::seed();
    let spec = world.spec("orders", 1, "cluster-node-timeout = \"2000\"");
    let text = fs::read_to_string(&spec).unwrap().replace("auth = \"none\"\n", "");
    let spec = world.write("orders.spec.toml", &text);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let before = world.status("orders").unwrap();
    let (store, backup) = (world.dir().join("coordinator"), world.dir().join("backup"));
    let copy = |from: &Path, to: &Path| {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    world.coordinator().stop();
    copy(&store, &backup);
    world.start();
    world.muster(&["credentials", "rotate", "orders"]).expect(0);
    world.muster(&["credentials", "finish", "orders"]).expect(0);

    world.coordinator().stop();
    fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);
    // Another start, as the coordinator that wrote the rotation had.
    world.coordinator().start();
    world.coordinator().restart();
    for host in ["server1", "server2"] {
        eventually(SOON, "it refuses, and says why", || {
            let said = world.muster(&["status", "orders"]).stdout;
            let refuses = said.contains(&format!("HOST_REFUSES: {host}")) && said.contains("When something is lost");
            if refuses { Ok(()) } else { Err(said) }
        });
        world.agent(host).stop();
        let own = world.base_dir(host).join("agent");
        fs::rename(&own, own.with_extension("aside")).unwrap();
        world.agent(host).start();
        world.until_host(host, "live");
    }
    // Found again, with passwords that nobody here knows any more.
    let found = world.until(SOON, "orders", "its servers are found again", |status| {
        let shut = |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains("WRONGPASS"));
        let all = pids(status) == pids(&before) && status.instances.iter().all(|instance| shut(&instance.reason));
        if all { Ok(status.clone()) } else { Err(format!("{:?}", status.instances)) }
    });
    for instance in &found.instances {
        processes::signal(instance.pid.unwrap(), Signal::SIGTERM);
        world.until(SOON, "orders", "it is started again, with those that are known", |status| {
            let again = status.at(&instance.host, instance.port);
            let runs = again.state == "running" && again.pid != instance.pid;
            if runs { Ok(()) } else { Err(format!("{again:?}")) }
        });
    }
    world.until(SOON, "orders", "all is well", Status::well);
    eventually(SOON, "clients log in as the store says", || {
        let smoke = world.muster(&["smoke", "orders"]);
        if smoke.code == 0 { Ok(()) } else { Err(smoke.to_string()) }
    });
    world.muster(&["check", "orders"]).expect(0);
}

#[test]
fn a_second_agent_of_the_same_name_is_turned_away_and_the_first_goes_on() {
    let mut world = World::seed();
    let before = world.bootstrap("orders");
    let home = world.dir().to_owned();
    let config = world.agent("server1").config();
    let base = |name: &str| format!("base_dir = \"{}/{name}\"", home.display());
    let twin = config.replace(&base("server1"), &base("twin"));
    assert_ne!(twin, config);
    let mut twin = Daemon::new("muster-agent", &home, "twin", &twin);
    twin.start();
    says(&twin, "the name server1 is in use by the agent at");
    assert!(twin.log().contains("give this host another `name` in its agent's config"), "{}", twin.log_end());
    let pid = world.agent("server1").pid();
    assert!(twin.log().contains(&format!("(base directory {}/server1, pid {pid})", home.display())));

    world.until_host("server1", "live");
    let hosts = world.muster(&["hosts", "--output", "json"]).expect(0).json();
    assert_eq!(hosts["hosts"][0]["base_dir"], format!("{}/server1", home.display()));
    let after = world.status("orders").unwrap();
    after.well().unwrap();
    assert_eq!(pids(&after), pids(&before));
    let entries = fs::read_dir(home.join("twin")).unwrap().map(|entry| entry.unwrap().file_name());
    let directories: Vec<_> = entries.filter(|name| name.to_string_lossy().starts_with('7')).collect();
    assert!(directories.is_empty(), "the second has made nothing: {directories:?}");
}

#[test]
fn a_base_directory_has_one_agent_and_a_store_has_one_coordinator() {
    let mut world = World::up(&[("server1", "7000-7002")]);
    let home = world.dir().to_owned();
    let base_dir = world.base_dir("server1");

    let config = world.agent("server1").config().replace("name = \"server1\"", "name = \"other\"");
    let mut second = Daemon::new("muster-agent", &home, "second-agent", &config);
    second.start();
    assert_eq!(second.ends_by_itself(SOON), 2);
    let log = second.log();
    let sentence = format!("another muster-agent uses {}; one base directory has one agent", base_dir.display());
    assert!(log.contains(&sentence), "{log}");

    let config = world.coordinator().config();
    let elsewhere = config
        .replace(listen(&config), &format!("http://{}:7701", world.spare_address(1)))
        .replace("/admin.sock", "/other.sock");
    let mut second = Daemon::new("muster-coordinator", &home, "second-coordinator", &elsewhere);
    second.start();
    assert_eq!(second.ends_by_itself(SOON), 2);
    let sentence = format!("another muster-coordinator uses {}/coordinator; one store has one", home.display());
    assert!(second.log().contains(&sentence), "{}", second.log());

    // The same address with a store of its own: named, and the socket of the first is left alone.
    let store = config.replace("/coordinator\"", "/own-state\"");
    let mut third = Daemon::new("muster-coordinator", &home, "third-coordinator", &store);
    third.start();
    assert_eq!(third.ends_by_itself(SOON), 2);
    assert!(third.log().contains("another coordinator may run"), "{}", third.log());

    world.until_host("server1", "live");
    assert!(world.agent("server1").is_running() && world.coordinator().is_running());
}
