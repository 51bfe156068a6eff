//! What preflight finds on real hosts: each obstacle is put in the way, found with host, value and cure, stops the
//! bootstrap before anything is changed, and is gone from the next plan when it is gone from the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    any::Any,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    time::{Duration, Instant},
};

use muster_tests::{Before, ForeignRedis, World, eventually, processes};
use serde_json::Value;

/// Whatever is in the way goes when it is dropped.
type Obstacle = Box<dyn Any>;

/// Fatal findings of a plan: code, host, message, cure.
fn fatal(world: &World, spec: &str) -> Vec<[String; 4]> {
    let answer = world.muster(&["plan", spec, "--output", "json"]);
    let document = answer.json();
    let findings = document["plan"]["findings"].as_array().unwrap_or_else(|| panic!("no findings\n{answer}"));
    let fatal: Vec<_> = findings.iter().filter(|finding| finding["severity"] == "fatal").collect();
    assert_eq!(answer.code, i32::from(!fatal.is_empty()), "a fatal finding, and only that, is exit code 1\n{answer}");
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    fatal.into_iter().map(|one| ["code", "host", "message", "cure"].map(|key| word(one, key))).collect()
}

/// Insists that the plan is stopped by exactly one finding, on that host, whose message and cure hold these parts; that
/// a bootstrap is refused because of it; and that nothing is changed by either.
#[track_caller]
fn stopped(world: &World, spec: &str, code: &str, host: &str, parts: &[&str]) {
    let before = Before::of(world);
    let found = fatal(world, spec);
    let [[found_code, found_host, message, cure]] = &*found else { panic!("not one fatal finding: {found:#?}") };
    assert_eq!((&**found_code, &**found_host), (code, host), "{message}");
    assert!(!cure.is_empty(), "{code} has no cure: {message}");
    for part in parts {
        assert!(message.contains(part) || cure.contains(part), "{part:?} is not in {message:?}, nor in {cure:?}");
    }
    let refused = world.muster(&["bootstrap", spec, "--yes"]).expect(1);
    for part in [code, host, message, cure] {
        assert!(refused.stdout.contains(part), "{part:?} is not on stdout\n{refused}");
    }
    for part in ["1 fatal finding", "apply the cures above", "nothing was changed"] {
        assert!(refused.stderr.contains(part), "{part:?} is not on stderr\n{refused}");
    }
    before.still(world, code);
}

#[track_caller]
fn clear(world: &World, spec: &str) {
    assert_eq!(fatal(world, spec), Vec::<[String; 4]>::new(), "the obstacle is gone");
}

/// A process of its own that listens, so that it has a pid and a command to be named by.
fn listener(world: &World, port: u16) -> (Obstacle, i32) {
    let address = world.address("server2");
    let redis = ForeignRedis::start(world.dir(), address, port);
    let pid = redis.pid();
    (Box::new(redis), pid)
}

#[test]
fn whatever_lies_in_the_way_is_named_and_nothing_is_changed_until_it_is_gone() {
    let world = World::seed();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let place = world.base_dir("server2").join("7004");

    for (port, code, kind) in [(7004, "PORT_TAKEN", "client"), (17004, "BUS_PORT_TAKEN", "bus")] {
        let (obstacle, pid) = listener(&world, port);
        let who = format!("held by pid {pid} (redis-server {}:{port})", world.address("server2"));
        let what = format!("{kind} port {port} cannot be bound: address already in use");
        stopped(&world, &spec, code, "server2", &[&what, &who, &format!("ss -ltnp 'sport = :{port}'")]);
        assert!(processes::alive(pid), "nobody stops a stranger");
        drop(obstacle);
        clear(&world, &spec);
    }

    let path = place.display().to_string();
    let aside = format!("mv {path} {path}.old");
    let not_ours = format!("{path} is not ours");
    let directory = |fill: &dyn Fn(&Path)| {
        fs::create_dir(&place).unwrap();
        fill(&place);
    };
    directory(&|place| fs::write(place.join("dump.rdb"), "REDIS0010").unwrap());
    let parts = [&*not_ours, "dump.rdb, and no stamp", "never touched", &aside];
    stopped(&world, &spec, "DIRECTORY_FOREIGN", "server2", &parts);
    fs::remove_dir_all(&place).unwrap();
    clear(&world, &spec);

    let elsewhere = world.dir().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &place).unwrap();
    stopped(&world, &spec, "DIRECTORY_FOREIGN", "server2", &[&not_ours, "a symbolic link", &aside]);
    fs::remove_file(&place).unwrap();

    fs::write(&place, "").unwrap();
    stopped(&world, &spec, "DIRECTORY_FOREIGN", "server2", &[&not_ours, "a file", &aside]);
    fs::remove_file(&place).unwrap();

    directory(&|place| fs::write(place.join("muster.json"), "{").unwrap());
    stopped(&world, &spec, "DIRECTORY_UNREADABLE", "server2", &["cannot tell whose", &path, "muster.json"]);
    fs::remove_dir_all(&place).unwrap();

    // An empty directory is nobody's, and is used.
    directory(&|_| {});
    clear(&world, &spec);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
    world.status("orders").unwrap().well().unwrap();
}

#[test]
fn a_setting_that_the_server_refuses_is_shown_in_the_servers_own_words() {
    let world = World::seed();
    let cases = [
        ("no-such-setting = 1", "'no-such-setting 1': Bad directive or wrong number of arguments"),
        ("maxmemory = \"lots\"", "'maxmemory lots': argument must be a memory value"),
        ("appendonly = 7", "'appendonly 7': argument must be 'yes' or 'no'"),
        ("cluster-node-timeout = \"5000 ms\"", "'cluster-node-timeout 5000 ms': "),
    ];
    let before = Before::of(&world);
    for (line, words) in cases {
        let spec = world.spec("orders", 1, line);
        let found = fatal(&world, &spec);
        let hosts: Vec<_> = found.iter().map(|[_, host, ..]| host.as_str()).collect();
        assert_eq!(hosts, ["server1", "server2"], "both servers refuse it: {found:?}");
        for [code, _, message, cure] in &found {
            assert_eq!(code, "SETTINGS_REFUSED");
            assert!(message.contains(words), "{words:?} is not in {message:?}");
            assert!(cure.contains("[redis.config]"), "{cure}");
        }
        world.muster(&["bootstrap", &spec, "--yes"]).expect(1);
        before.still(&world, line);
    }
    world.bootstrap("orders").well().unwrap();
}

/// Writes an executable that is not quite a redis-server.
fn script(path: &Path, text: &str) {
    // In one step, so that nobody runs half of it.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn server_error(world: &World, host: &str) -> Option<String> {
    let answer = world.muster(&["hosts", "--output", "json"]).expect(0).json();
    let hosts = answer["hosts"].as_array().unwrap();
    let found = hosts.iter().find(|found| found["name"] == host).unwrap();
    found["server_error"].as_str().filter(|error| !error.is_empty()).map(str::to_owned)
}

#[test]
fn a_server_that_is_missing_broken_or_another_version_stops_it_until_it_is_right_without_any_restart() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let server = world.dir().join("server");
    let config = world.agent("server2").config();
    world.agent("server2").configure(&format!("{config}redis_server = \"{}\"\n", server.display()));
    world.start();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let cure = "install redis-server, or set redis_server in the agent's config";
    let path = server.display().to_string();
    let stops = |code: &str, host: &str, parts: &[&str]| stopped(&world, &spec, code, host, parts);

    stops("SERVER_MISSING", "server2", &[&path, "no such file or directory", cure]);
    fs::write(&server, "").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o644)).unwrap();
    stops("SERVER_MISSING", "server2", &[&path, "permission denied", cure]);
    script(&server, "#!/bin/sh\necho hello\n");
    stops("SERVER_MISSING", "server2", &[&path, "hello", cure]);
    script(&server, "#!/bin/sh\nexec sleep 60\n");
    stops("SERVER_MISSING", "server2", &[&path, "did not answer within", cure]);

    // Everything but its version is the real one's.
    let posing = |version: &str| {
        let banner = format!("Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0");
        script(
            &server,
            &format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{banner}' && exit\nexec redis-server \"$@\"\n"),
        );
    };
    posing("6.2.1");
    stops("SERVER_VERSIONS_DIFFER", "", &["6.2.1 on server2", " on server1", "same version on all hosts"]);
    posing("99.0.0");
    let found = fatal(&world, &spec);
    let codes: Vec<_> = found.iter().map(|[code, host, ..]| (code.as_str(), host.as_str())).collect();
    assert_eq!(codes, [("SERVER_UNKNOWN", "server2"), ("SERVER_VERSIONS_DIFFER", "")], "{found:#?}");

    let pid = world.agent("server2").pid();
    script(&server, "#!/bin/sh\nexec redis-server \"$@\"\n");
    eventually(Duration::from_secs(10), "the agent has found the server", || {
        server_error(&world, "server2").map_or(Ok(()), Err)
    });
    clear(&world, &spec);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    assert_eq!(world.agent("server2").pid(), pid, "the agent was not restarted");
}

#[test]
fn ports_that_no_agent_offers_and_an_address_of_another_machine_are_named() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let right = world.agent("server2").config();
    let address = world.address("server2").to_string();
    // Of TEST-NET-1, which no machine has.
    let wrong = right.replace(&format!("address = \"{address}\""), "address = \"192.0.2.7\"");
    world.agent("server2").configure(&wrong);
    world.start();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let parts = ["192.0.2.7 is not on this machine", "cannot assign requested address", "ip address", "`address`"];
    stopped(&world, &spec, "ADDRESS_NOT_LOCAL", "server2", &parts);

    world.agent("server2").configure(&right);
    world.agent("server2").restart();
    eventually(Duration::from_secs(10), "the agent has come back with the right address", || {
        let found = fatal(&world, &spec);
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });

    let text = fs::read_to_string(&spec).unwrap();
    let beyond = world.write("beyond.toml", &text.replace("7003-7005", "7003-7004\", \"7009"));
    let parts = ["does not offer port 7009", "`ports` in the agent's config", "restart"];
    stopped(&world, &beyond, "PORT_NOT_OFFERED", "server2", &parts);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
}

#[test]
fn a_host_that_is_silent_is_named_at_once_and_is_found_again_when_it_speaks() {
    let mut world = World::seed();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let cure = "systemctl status muster-agent";

    world.agent("server2").kill();
    world.until_host("server2", "unknown");
    stopped(&world, &spec, "HOST_SILENT", "server2", &["not connected", "last heard of", cure]);
    world.start();

    world.agent("server2").freeze();
    let began = Instant::now();
    world.until_host("server2", "unknown");
    assert!(began.elapsed() < Duration::from_secs(6), "three heartbeats are 3 s, it took {:?}", began.elapsed());
    let began = Instant::now();
    stopped(&world, &spec, "HOST_SILENT", "server2", &["last heard of", cure]);
    assert!(began.elapsed() < Duration::from_secs(5), "two plans with a silent host took {:?}", began.elapsed());
    world.agent("server2").thaw();
    world.until_host("server2", "live");

    // Nobody knows yet that it has stopped answering.
    world.agent("server2").freeze();
    let began = Instant::now();
    let found = fatal(&world, &spec);
    assert!(found.iter().any(|[code, host, ..]| code == "HOST_SILENT" && host == "server2"), "{found:#?}");
    assert!(began.elapsed() < Duration::from_secs(12), "a plan with a frozen host took {:?}", began.elapsed());
    world.agent("server2").thaw();
    world.until_host("server2", "live");
    clear(&world, &spec);
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
}
