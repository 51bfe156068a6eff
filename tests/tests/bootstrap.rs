//! Bootstrap: what was planned is what stands there, and every judge says so, the servers' own tools first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use muster_proto::{
    Topology,
    slots::ranges_text,
    topology::{Node, Role},
};
use muster_tests::{Output, Status, World, eventually, processes, redis};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Settings of every cluster here: short enough for tests, long enough for a busy machine.
const SETTINGS: &str = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";

/// A shard, as a plan and as a topology have it: master, slots, replicas.
type Shard = (String, String, BTreeSet<String>);

fn planned(plan: &Value) -> BTreeSet<Shard> {
    let place = |at: &Value| format!("{}:{}", at["address"].as_str().unwrap(), at["port"]);
    let shard = |shard: &Value| {
        let replicas = shard["replicas"].as_array().unwrap().iter().map(place).collect();
        (place(&shard["master"]), shard["slots"].as_str().unwrap().to_owned(), replicas)
    };
    plan["shards"].as_array().unwrap().iter().map(shard).collect()
}

fn standing(topology: &Topology) -> BTreeSet<Shard> {
    let place = |node: &Node| format!("{}:{}", node.address, node.port);
    let of = |node: &Node| {
        let Role::Master { slots } = &node.role else { return None };
        let replicas = topology.nodes().iter().filter(|other| other.role.master() == Some(node.id));
        Some((place(node), ranges_text(slots), replicas.map(place).collect()))
    };
    topology.nodes().iter().filter_map(of).collect()
}

/// Bootstraps a spec and lets every judge have a look, at once: success must not be reported before it is true.
#[track_caller]
fn form(world: &World, cluster: &str, spec: &str) -> (Output, Status) {
    let plan = world.muster(&["plan", spec, "--output", "json"]).expect(0).json();
    let output = world.muster(&["bootstrap", spec, "--yes"]).expect(0);
    let status = world.status(cluster).unwrap();
    let endpoints = status.endpoints();
    let topology = redis::agreement(&endpoints).unwrap();
    redis::in_sync(&endpoints).unwrap();
    assert_eq!(standing(&topology), planned(&plan["plan"]));
    let ids: BTreeMap<_, _> = topology.nodes().iter().map(|node| (node.id.to_string(), node.port)).collect();
    assert_eq!(ids, status.instances.iter().map(|instance| (instance.node_id.clone(), instance.port)).collect());
    let check = redis::check(&endpoints[0]).unwrap();
    for line in ["[OK] All nodes agree about slots configuration.", "[OK] All 16384 slots covered."] {
        assert!(check.contains(line), "{check}");
    }
    status.well().unwrap();
    (output, status)
}

#[test]
fn the_seed_layout_is_formed_as_planned_and_every_judge_agrees() {
    let world = World::seed();
    let (output, status) = form(&world, "orders", &world.spec("orders", 1, SETTINGS));
    let lines: Vec<&str> = output.stdout.lines().filter(|line| line.starts_with("[OK]")).collect();
    assert_eq!(
        lines,
        [
            "[OK] All nodes agree about slots configuration.",
            "[OK] All 16384 slots covered.",
            "[OK] Every master took a write, every replica is in sync.",
        ]
    );
    let last = output.stdout.lines().last().unwrap();
    assert!(last.starts_with("Cluster orders is formed: PREFLIGHT "), "{output}");
    for phase in ["CONFIGURE", "START", "VERIFY"] {
        assert!(last.contains(phase), "{output}");
    }
    assert!(output.stdout.contains("losing"), "the plan says what a host's death would mean: {output}");

    let endpoints = status.endpoints();
    for nth in 0..100 {
        redis::cluster_cli(&endpoints[nth % 6], &["set", &format!("key{nth}"), &nth.to_string()]).unwrap();
    }
    let masters = status.instances.iter().filter(|instance| instance.is_master());
    for (master, nth) in masters.flat_map(|master| (0..100).step_by(7).map(move |nth| (master, nth))) {
        let read = redis::cluster_cli(&master.endpoint(), &["get", &format!("key{nth}")]);
        assert_eq!(read.unwrap(), nth.to_string(), "by way of {}", master.name());
    }

    let pids = world.redis_pids("server1");
    let again = world.muster(&["bootstrap", &world.spec("orders", 1, SETTINGS), "--yes"]).expect(0);
    assert!(again.stdout.contains("orders"), "{again}");
    assert_eq!(world.redis_pids("server1"), pids, "the same spec again changes nothing");
}

#[test]
fn three_hosts_with_four_ports_and_two_replicas_put_every_copy_on_another_host() {
    let world = World::up(&[("a", "7000-7003"), ("b", "7000-7003"), ("c", "7000-7003")]);
    let (_, status) = form(&world, "wide", &world.spec("wide", 2, SETTINGS));
    let masters: Vec<_> = status.instances.iter().filter(|instance| instance.is_master()).collect();
    assert_eq!(masters.len(), 4);
    for master in masters {
        let hosts = status.replicas_of(&master.node_id).chain([master]).map(|copy| &copy.host);
        assert_eq!(hosts.collect::<BTreeSet<_>>().len(), 3, "copies of {}", master.name());
    }
}

#[test]
fn leftover_instances_become_extra_replicas() {
    let world = World::up(&[("a", "7000-7002"), ("b", "7000-7001"), ("c", "7000-7001")]);
    let (_, status) = form(&world, "extra", &world.spec("extra", 1, SETTINGS));
    let masters = status.instances.iter().filter(|instance| instance.is_master());
    let mut copies: Vec<usize> = masters.map(|master| status.replicas_of(&master.node_id).count()).collect();
    copies.sort_unstable();
    assert_eq!(copies, [1, 1, 2]);
}

#[test]
fn one_host_is_refused_unless_it_is_asked_for_by_name_and_then_it_is_said_loudly() {
    let world = World::up(&[("lone", "7000-7005")]);
    let refused = world.muster(&["bootstrap", &world.spec("alone", 1, SETTINGS), "--yes"]).expect(1);
    assert!(refused.stderr.contains("nothing was changed"), "{refused}");
    assert!(world.redis_pids("lone").is_empty());

    let text = std::fs::read_to_string(world.spec("alone", 1, SETTINGS)).unwrap();
    let spec = world.write("alone.toml", &text.replace("[[hosts]]", "allow_shared_host = true\n[[hosts]]"));
    let (output, _) = form(&world, "alone", &spec);
    assert!(output.stdout.contains("2 of its 2 copies are on lone"), "{output}");
    let check = world.muster(&["check", "alone", "--output", "json"]).json();
    let codes: Vec<_> = check["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert!(codes.iter().any(|code| **code == "SHARED_HOST"), "{check:#}");
}

/// Insists that a document has these fields, none of them `null` unless the name ends with `?`.
#[track_caller]
fn has(document: &Value, fields: &str) {
    for field in fields.split_whitespace() {
        let (name, optional) = field.strip_suffix('?').map_or((field, false), |name| (name, true));
        let found = document.get(name).unwrap_or_else(|| panic!("{name} is missing in {document:#}"));
        assert!(optional || !found.is_null(), "{name} is null in {document:#}");
    }
}

#[test]
fn every_document_has_the_fields_that_scripts_rely_on() {
    let world = World::seed();
    let spec = world.spec("orders", 1, SETTINGS);
    let document = |args: &[&str]| world.muster(&[args, &["--output", "json"]].concat()).expect(0).json();

    let formed = document(&["bootstrap", &spec, "--yes"]);
    has(
        &formed["operation"],
        "id kind cluster state phase message plan_hash started_unix_ms ended_unix_ms phases last_seq",
    );
    has(&formed["plan"], "hash cluster masters instances server shards losses advice? findings expires_unix_ms");
    assert_eq!(formed["operation"]["state"], "done");
    let id = formed["operation"]["id"].as_str().unwrap();

    let status = document(&["status", "orders"]);
    has(&status, "cluster incarnation state instances issues hosts");
    assert_eq!(
        (&status["cluster"], &status["incarnation"], &status["state"]),
        (&"orders".into(), &1.into(), &"formed".into())
    );
    let instances = status["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 6);
    for instance in instances {
        has(instance, "host address port pid node_id role master? slots state link? age_ms");
        let replica = instance["role"] == "replica";
        assert_eq!((instance["master"].is_string(), instance["link"].is_string()), (replica, replica), "{instance:#}");
    }

    let check = document(&["check", "orders"]);
    has(&check, "cluster ok answered instances findings passed");
    assert_eq!((&check["ok"], &check["answered"], &check["instances"]), (&true.into(), &6.into(), &6.into()));

    for from in [None, Some("server2")] {
        let smoke = document(
            &[&["smoke", "orders"], from.map(|host| ["--from", host]).as_slice().concat().as_slice()].concat(),
        );
        has(&smoke, "cluster from? ok steps");
        assert_eq!((&smoke["ok"], &smoke["from"]), (&true.into(), &from.into()));
        assert_eq!(smoke["steps"].as_array().unwrap().len(), 3);
        for step in smoke["steps"].as_array().unwrap() {
            has(step, "slot key asked answered error? micros");
        }
    }

    let ops = document(&["ops"]);
    assert_eq!(ops["operations"][0]["id"], id);
    let shown = document(&["op", "show", id]);
    assert_eq!(shown["operation"], formed["operation"]);
    let hosts = document(&["hosts"]);
    for host in hosts["hosts"].as_array().unwrap() {
        has(
            host,
            "name address state age_ms agent_version server ports base_dir generation accepted converged refusal?",
        );
        assert_eq!((&host["state"], &host["accepted"]), (&"live".into(), &host["generation"]), "{host:#}");
    }
}

#[test]
fn interrupting_the_command_does_not_interrupt_the_operation() {
    let world = World::seed();
    let spec = world.spec("orders", 1, SETTINGS);
    let mut command = world.muster_command(&["bootstrap", &spec, "--yes"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = eventually(Duration::from_secs(10), "the operation has started a server", || {
        let ops = world.muster(&["ops", "--output", "json"]).expect(0).json();
        let operation = &ops["operations"][0];
        let started = operation["state"] == "running" && !world.redis_pids("server1").is_empty();
        operation["id"].as_str().filter(|_| started).map(str::to_owned).ok_or_else(|| operation.to_string())
    });
    processes::signal(child.id() as i32, Signal::SIGINT);
    let output = Output::from(child.wait_with_output().unwrap()).expect(130);
    let hint = format!("the operation goes on without this command; watch on with: muster op watch {id}");
    assert!(output.stderr.contains(&hint), "{output}");

    let watched = world.muster(&["op", "watch", &id]).expect(0);
    assert!(watched.stdout.contains("FORMED"), "{watched}");
    let status = world.status("orders").unwrap();
    redis::agreement(&status.endpoints()).unwrap();
    redis::in_sync(&status.endpoints()).unwrap();
}
