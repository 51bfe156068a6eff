//! What is refused before any host is asked: configs, specs, endpoints. Each refusal names the file and the key or the
//! numbers, says what to do, changes nothing, and does not stand in the way of a corrected second try.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use muster_tests::{Before, Output, World, binaries, processes, redis};

const BOTH: &str = "[[hosts]]\nname = \"server1\"\nports = [\"7000-7002\"]\n\
                    [[hosts]]\nname = \"server2\"\nports = [\"7003-7005\"]\n";

/// Insists on every one of these parts.
#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    for part in parts {
        assert!(output.stderr.contains(part), "{part:?} is not on stderr\n{output}");
    }
}

/// A spec, the exit code that it gets, and what must be said.
struct Case {
    spec: String,
    code: i32,
    parts: &'static [&'static str],
}

fn case(spec: impl Into<String>, code: i32, parts: &'static [&'static str]) -> Case {
    Case { spec: spec.into(), code, parts }
}

/// Wrong in itself: the coordinator is not even asked.
fn wrong_specs() -> Vec<Case> {
    let spec = |head: &str, hosts: &str| format!("name = \"orders\"\n{head}{hosts}");
    let with = |settings: &str| spec("", &format!("{BOTH}[redis.config]\n{settings}\n"));
    let ports = |ports: &str| spec("", &format!("[[hosts]]\nname = \"server1\"\nports = {ports}\n"));
    vec![
        case(spec("replcas = 1\n", BOTH), 64, &["line 2: replcas: unknown key", "hint: did you mean `replicas`?"]),
        case(
            spec("", "[[hosts]]\nname = \"server1\"\nport = [7000]\n"),
            64,
            &["line 4: port: unknown key", "hint: did you mean `ports`?"],
        ),
        case(spec("[redis]\nconf = 1\n", ""), 64, &["line 3: conf: unknown key", "hint: did you mean `config`?"]),
        case(
            ports("[\"55536\"]"),
            64,
            &["line 4: hosts[0].ports: port 55536 leaves no room for its bus port", "1-55535"],
        ),
        case(ports("[\"7000-7002\", 7001]"), 64, &["hosts[0].ports: port 7001 is listed twice"]),
        case(ports("[7000, 17000]"), 64, &["17000 would be the bus port of 7000"]),
        case(spec("", ""), 64, &["hosts: a cluster needs at least one host", "hint: add a [[hosts]] entry"]),
        case(spec("", &format!("{BOTH}{BOTH}")), 64, &["hosts[2].name: server1 is listed twice", "hint: keep one"]),
        case(spec("masters = 2\n", BOTH), 64, &["masters: 2 is not 3-1000", "cannot elect", "hint: write masters = 3"]),
        case(with("port = 7000"), 64, &["line 9: redis.config.port: Muster owns this setting", "delete the line port"]),
        case(with("requirepass = \"x\""), 64, &["redis.config.requirepass: Muster owns this setting"]),
        case("name = \"orders\"\nhosts = 1", 64, &["line 2: hosts: ", "muster plan --help"]),
        case("name = \"Orders\"\n", 64, &["line 1: name: "]),
        case("", 64, &["name: missing", "hint: add a line name = ..."]),
    ]
}

/// Right in itself, and more than these hosts can do.
fn impossible_specs() -> Vec<Case> {
    let spec = |head: &str, hosts: &str| format!("name = \"orders\"\n{head}{hosts}");
    let one = "[[hosts]]\nname = \"server1\"\nports = [\"7000-7002\"]\n";
    vec![
        case(
            spec("", &BOTH.replace("server2", "server9")),
            1,
            &["no agent calls itself server9", "known are: server1, server2", "hint: start muster-agent"],
        ),
        case(
            spec("", one),
            1,
            &[
                "3 masters, the fewest that can elect, with 1 replica need 6 instances",
                "offers 3: server1 3 (7000-7002)",
            ],
        ),
        case(
            spec("replicas = 2\n", BOTH),
            1,
            &["3 masters, the fewest that can elect, with 2 replicas need 9 instances", "the spec offers 6: server1 3"],
        ),
        case(spec("masters = 4\n", BOTH), 1, &["4 masters with 1 replica need 8 instances", "offers 6"]),
        case(
            spec("masters = 3\n", &BOTH.replace("7000-7002", "7000-7004").replace("7003-7005", "7005")),
            1,
            &["host", "allow_shared_host = true"],
        ),
    ]
}

#[test]
fn a_spec_that_cannot_be_is_refused_with_its_line_or_the_numbers_and_a_corrected_one_is_formed() {
    let world = World::seed();
    let before = Before::of(&world);
    for Case { spec, code, parts } in wrong_specs().into_iter().chain(impossible_specs()) {
        let file = world.write("orders.spec.toml", &spec);
        for args in [vec!["plan", &*file], vec!["bootstrap", &file, "--yes"]] {
            let refused = world.muster(&args).expect(code);
            says(&refused, parts);
            says(&refused, &["error: ", "hint: "]);
            assert!(code != 64 || refused.stderr.contains("orders.spec.toml"), "the file is not named\n{refused}");
            assert_eq!(refused.stdout, "", "an error is no data\n{refused}");
            let said = refused.stderr.contains("nothing was changed");
            assert_eq!(said, args[0] == "bootstrap", "what it means for the work\n{refused}");
        }
        let json = world.muster(&["plan", &file, "--output", "json"]).expect(code);
        assert_eq!(json.stdout, "", "there is no document where there is no plan\n{json}");
        before.still(&world, &spec);
    }
    world.bootstrap("orders").well().unwrap();
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_same_spec_again_is_done() {
    let world = World::up(&[("server1", "7000-7003"), ("server2", "7004-7007"), ("server3", "7008-7011")]);
    let hosts = |first: &str| {
        format!(
            "{first}[[hosts]]\nname = \"server2\"\nports = [\"7004-7005\"]\n[[hosts]]\n\
        name = \"server3\"\nports = [\"7008-7009\"]\n[redis.config]\ncluster-node-timeout = 2000\n"
        )
    };
    let spec = format!(
        "name = \"orders\"\nauth = \"none\"\n{}",
        hosts("[[hosts]]\nname = \"server1\"\nports = [\"7000-7001\"]\n")
    );
    let file = world.write("orders.toml", &spec);
    world.muster(&["bootstrap", &file, "--yes"]).expect(0);
    let endpoints = world.status("orders").unwrap().endpoints();
    let formed = redis::agreement(&endpoints).unwrap().canonical();
    let before = Before::of(&world);

    for args in [vec!["bootstrap", &*file, "--yes"], vec!["plan", &file]] {
        let again = world.muster(&args).expect(0);
        assert!(again.stdout.contains("orders is already formed"), "{again}");
        before.still(&world, "the same spec again");
    }
    let again = world.muster(&["bootstrap", &file, "--yes", "--output", "json"]).expect(0).json();
    assert_eq!(again["operation"]["state"], "done", "{again}");

    let other = world.write("other.toml", &spec.replace("7000-7001", "7000-7002"));
    for args in [vec!["bootstrap", &*other, "--yes"], vec!["plan", &other]] {
        let refused = world.muster(&args).expect(1);
        says(
            &refused,
            &["cluster orders exists, and was made from another spec", "nothing was changed", "muster status orders"],
        );
        before.still(&world, "another spec under the name");
    }

    // Another name does not help where the ports are another cluster's.
    let clash = world.write("clash.toml", &spec.replace("\"orders\"", "\"carts\""));
    let refused = world.muster(&["bootstrap", &clash, "--yes"]).expect(1);
    for part in ["DIRECTORY_TAKEN", "/7000 belongs to cluster orders", "choose another port"] {
        assert!(refused.stdout.contains(part), "{part:?} is not on stdout\n{refused}");
    }
    before.still(&world, "another cluster's ports");
    assert_eq!(redis::agreement(&endpoints).unwrap().canonical(), formed);

    let free = spec.replace("\"orders\"", "\"carts\"").replace("7000-7001", "7002-7003");
    let free = free.replace("7004-7005", "7006-7007").replace("7008-7009", "7010-7011");
    let free = world.write("carts.toml", &free);
    world.muster(&["bootstrap", &free, "--yes"]).expect(0);
    world.status("carts").unwrap().well().unwrap();
    assert_eq!(redis::agreement(&endpoints).unwrap().canonical(), formed, "the first is as it was");
}

/// A config, and what must be said of it.
type Config<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Both ways to meet a config refuse it: `check-config`, and the start.
fn refused_at_start(world: &World, program: &str, good: &str, cases: &[Config]) {
    for (from, to, parts) in cases {
        assert!(good.contains(from), "{from:?} is not in the config that is to be spoilt:\n{good}");
        let file = world.write("bad.toml", &good.replace(from, to));
        for check in [true, false] {
            let mut command = Command::new(binaries::path(program));
            command.args(["--config", &file]).args(check.then_some("check-config"));
            let refused = Output::from(processes::run_owned(&mut command)).expect(64);
            says(&refused, parts);
            says(&refused, &["error: ", "bad.toml"]);
        }
    }
    assert_eq!(world.hosts().flat_map(|host| world.redis_pids(host)).count(), 0);
}

#[test]
fn a_bad_agent_config_is_refused_at_start_with_file_and_key() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    let good = world.agent("server1").config();
    let url = good.lines().find(|line| line.starts_with("coordinator = ")).unwrap().to_owned();
    refused_at_start(
        &world,
        "muster-agent",
        &good,
        &[
            ("ports = ", "prots = ", &["unknown field `prots`", "`ports`"]),
            ("[\"7000-7002\"]", "[\"55536\"]", &["ports: port 55536 leaves no room for its bus port", "1-55535"]),
            ("[\"7000-7002\"]", "[\"7000-7002\", \"7002\"]", &["ports: port 7002 is listed twice"]),
            ("[\"7000-7002\"]", "[]", &["ports: a host without ports can hold no instance", "[\"7000-7005\"]"]),
            (
                &url,
                "coordinator = \"http://192.0.2.7:7700\"",
                &[
                    "coordinator: http://192.0.2.7:7700 is not on this machine",
                    "http:// is not encrypted",
                    "Write https://192.0.2.7:7700, and enrol this host",
                ],
            ),
            (
                &url,
                "coordinator = \"192.0.2.7:7700\"",
                &["coordinator: ", "https://HOST:PORT", "http://127.0.0.1:PORT", "unix:/PATH"],
            ),
            (&url, "", &["missing field `coordinator`"]),
        ],
    );
    let dir = world.base_dir("server1");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "a refused config leaves no files");
}

#[test]
fn a_bad_coordinator_config_is_refused_at_start_with_file_and_key() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    let good = world.coordinator().config();
    let listen = good.lines().find(|line| line.starts_with("listen = ")).unwrap().to_owned();
    refused_at_start(
        &world,
        "muster-coordinator",
        &good,
        &[
            ("listen = ", "lisen = ", &["unknown field `lisen`", "`listen`"]),
            (
                &listen,
                "listen = \"http://0.0.0.0:7700\"",
                &["listen: 0.0.0.0 is not a loopback address", "not encrypted", "Listen on https://0.0.0.0:7700"],
            ),
            (&listen, "listen = \"http://192.0.2.7:7700\"", &["listen: 192.0.2.7 is not a loopback address"]),
            (
                &listen,
                "listen = \"127.0.0.1:7700\"",
                &["listen: ", "is neither https://IP:PORT nor http://127.0.0.1:PORT"],
            ),
            ("state_dir = \"/", "state_dir = \"", &["state_dir: ", "is not an absolute path"]),
        ],
    );
    assert!(!world.dir().join("coordinator").exists(), "a refused config leaves no store");
}

#[test]
fn a_store_is_opened_with_its_own_key_only_and_nothing_is_made_in_its_place() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    world.start();
    world.coordinator().stop();
    let (key, aside) = (world.dir().join("coordinator/store.key"), world.dir().join("aside"));
    let config = world.coordinator().config();
    let config = world.write("again.toml", &config);
    let refused = |parts: &[&str]| {
        let mut command = Command::new(binaries::path("muster-coordinator"));
        command.args(["--config", &config]);
        says(&Output::from(processes::run_owned(&mut command)).expect(2), parts);
    };
    fs::rename(&key, &aside).unwrap();
    refused(&["store.key is missing", "put the file back from a backup"]);
    assert!(!key.exists(), "a second key would open nothing");
    fs::write(&key, format!("{}\n", "5a".repeat(32))).unwrap();
    refused(&["store.key is open to others", "chmod 600"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&["was sealed with another key"]);
    fs::rename(&aside, &key).unwrap();
    world.coordinator().start();
    world.until_host("server1", "live");
}

#[test]
fn a_coordinator_that_is_not_there_is_said_and_later_found() {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let spec = world.spec("orders", 1, "");
    let id = "0199a2b4-0000-7000-8000-000000000001";
    let commands: [&[&str]; 9] = [
        &["hosts"],
        &["plan", &spec],
        &["bootstrap", &spec, "--yes"],
        &["status"],
        &["check", "orders"],
        &["smoke", "orders"],
        &["ops", "--output", "json"],
        &["op", "watch", id],
        &["op", "cancel", id],
    ];
    for args in commands {
        let lost = world.muster(args).expect(2);
        let endpoint = world.endpoint();
        says(
            &lost,
            &[
                "error: cannot reach the coordinator at ",
                &endpoint,
                "because: ",
                "hint: is muster-coordinator running?",
            ],
        );
        assert_eq!(lost.stdout, "", "{lost}");
        let changes = args[0] == "bootstrap" || args.contains(&"cancel");
        assert_eq!(lost.stderr.contains("nothing was changed"), changes, "{lost}");
    }
    let elsewhere = world.muster(&["hosts", "--endpoint", "http://192.0.2.7:7700"]).expect(64);
    says(&elsewhere, &["not encrypted", "https://host:port"]);
    world.start();
    world.muster(&["hosts"]).expect(0);
    assert!(world.status("orders").is_err_and(|said| said.contains("there is no cluster orders")));
}
