//! A rebuild to another spec: other hosts, other ports, replicas, settings. What the old life had and the new one has
//! not is set aside like the rest, and all of it comes back with an undo.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeMap, net::TcpListener};

use muster_tests::{Before, Data, Output, Status, Stranger, World, data, lives, redis};

/// Hosts and what they offer; no life has all of it.
const HOSTS: [(&str, &str); 4] =
    [("server1", "7000-7003"), ("server2", "7000-7003"), ("server3", "7000-7003"), ("server4", "7000-7003")];

fn spec(world: &World, name: &str, head: &str, hosts: &[(&str, &str)], settings: &str) -> String {
    let host = |(name, ports): &(&str, &str)| format!("[[hosts]]\nname = \"{name}\"\nports = [\"{ports}\"]\n");
    let hosts: String = hosts.iter().map(host).collect();
    let text = format!("name = \"orders\"\nauth = \"none\"\n{head}\n{hosts}[redis.config]\n{settings}\n");
    world.write(name, &text)
}

#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    let said = format!("{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(said.contains(part), "{part:?} is not said\n{output}");
    }
}

/// How many copies each shard has.
fn copies(status: &Status) -> Vec<usize> {
    let masters = status.instances.iter().filter(|one| one.is_master());
    masters.map(|master| status.replicas_of(&master.node_id).count()).collect()
}

fn places(status: &Status) -> BTreeMap<&str, Vec<u16>> {
    let mut places = BTreeMap::<_, Vec<_>>::new();
    status.instances.iter().for_each(|one| places.entry(&*one.host).or_default().push(one.port));
    places.values_mut().for_each(|ports| ports.sort_unstable());
    places
}

#[test]
fn other_hosts_ports_replicas_and_settings_are_shown_and_made_and_taken_back() {
    let world = World::up(&HOSTS);
    let old_hosts = [("server1", "7000-7001"), ("server2", "7000-7001"), ("server3", "7000-7001")];
    let settings = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";
    let old = spec(&world, "old.toml", "replicas = 0", &old_hosts, settings);
    world.muster(&["bootstrap", &old, "--yes"]).expect(0);
    let before = lives::standing(&world, "orders");
    Data::write(&before, "old", 200);
    lives::until_latched(&world);

    let new_hosts = [("server2", "7001-7002"), ("server3", "7000-7001"), ("server4", "7000-7001")];
    let settings = "appendonly = \"yes\"\ncluster-node-timeout = \"3000\"\nmaxmemory = \"64mb\"";
    let new = spec(&world, "new.toml", "replicas = 1", &new_hosts, settings);
    let still = Before::of(&world);
    let looked = world.muster(&["rebuild", "orders", "--file", &new, "--dry-run"]).expect(0);
    let changes = [
        "replicas: 0 becomes 1",
        "server1 leaves: 7000-7001",
        "server2: 7000-7001 becomes 7001-7002",
        "server4 joins: 7000-7001",
        "cluster-node-timeout",
        "3000",
        "maxmemory",
    ];
    says(&looked, &changes);
    for same in ["server3 ", "appendonly: "] {
        let listed = looked.stdout.lines().any(|line| line.starts_with(&format!("  {same}")));
        assert!(!listed, "{same}stays, and is no difference\n{looked}");
    }

    // Somebody else has a port that is new, client or bus; one that is the cluster's own is no obstacle.
    for (port, code) in [(7000, "PORT_TAKEN"), (17_001, "BUS_PORT_TAKEN")] {
        let stranger = Stranger::listen(world.address("server4"), port);
        let refused = world.muster(&["rebuild", "orders", "--file", &new, "--confirm", "orders"]).expect(1);
        says(&refused, &[code, "server4", &port.to_string(), "nothing was changed"]);
        drop(stranger);
    }
    let other = spec(&world, "other.toml", "replicas = 1", &new_hosts, settings);
    let text = std::fs::read_to_string(&other).unwrap().replace("\"orders\"", "\"carts\"");
    let other = world.write("other.toml", &text);
    world.muster(&["rebuild", "orders", "--file", &other, "--confirm", "orders"]).expect(64);
    let nobody = spec(&world, "nobody.toml", "replicas = 0", &[("server9", "7000-7005")], settings);
    world.muster(&["rebuild", "orders", "--file", &nobody, "--confirm", "orders"]).expect(1);
    let unoffered = spec(&world, "unoffered.toml", "replicas = 0", &[("server2", "7000-7005")], settings);
    says(
        &world.muster(&["rebuild", "orders", "--file", &unoffered, "--confirm", "orders"]).expect(1),
        &["PORT_NOT_OFFERED"],
    );
    still.still(&world, "what is refused or only looked at");

    says(&world.muster(&["rebuild", "orders", "--file", &new, "--confirm", "orders"]).expect(0), &changes);
    let after = lives::standing(&world, "orders");
    assert_eq!((after.incarnation, copies(&after)), (2, vec![1, 1, 1]));
    let expected = [("server2", vec![7001, 7002]), ("server3", vec![7000, 7001]), ("server4", vec![7000, 7001])];
    assert_eq!(places(&after), expected.into());
    assert_eq!(data::count(&after), 0);
    let said = redis::cli(&after.endpoints()[0], &["config", "get", "cluster-node-timeout"]).unwrap();
    assert!(said.contains("3000"), "{said}");
    lives::are(&lives::all_trash(&world), &before);
    let in_place: Vec<_> = world.hosts().flat_map(|host| lives::in_place(&world, host)).collect();
    lives::are(&in_place, &after);
    // What is left is left for good: nothing runs there, and its ports are free.
    assert_eq!(world.redis_pids("server1"), Vec::<i32>::new());
    for (host, port) in [("server1", 7000), ("server1", 17_001), ("server2", 7000), ("server2", 17_000)] {
        drop(TcpListener::bind((world.address(host), port)).unwrap());
    }
    assert_eq!(after.quarantined, Vec::<String>::new());
    let hosts = world.muster(&["hosts", "--output", "json"]).expect(0).json();
    assert!(hosts["hosts"].as_array().unwrap().iter().all(|host| host["refusal"].is_null()), "{hosts}");

    // A retired port is anybody's: another cluster takes it. So the old life does not fit in any more, and says so.
    let fresh = Data::write(&after, "new", 30);
    let carts = "name = \"carts\"\nauth = \"none\"\nreplicas = 0\nallow_shared_host = true\n[[hosts]]\nname = \
                 \"server1\"\nports = [\"7001-7003\"]\n[redis.config]\nappendonly = \"yes\"\n";
    world.muster(&["bootstrap", &world.write("carts.toml", carts), "--yes"]).expect(0);
    let refused = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(1);
    says(&refused, &["server1", "7001", "nothing was changed"]);
    fresh.is_there(&lives::standing(&world, "orders"));
}

#[test]
fn an_undo_goes_back_to_the_hosts_and_ports_of_before() {
    let world = World::up(&HOSTS);
    let settings = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";
    let old_hosts = [("server1", "7000-7002"), ("server2", "7000-7002")];
    let old = spec(&world, "old.toml", "replicas = 1", &old_hosts, settings);
    world.muster(&["bootstrap", &old, "--yes"]).expect(0);
    let before = lives::standing(&world, "orders");
    let kept = Data::write(&before, "old", 200);
    let new_hosts = [("server2", "7001-7003"), ("server3", "7000-7002"), ("server4", "7001-7003")];
    let new = spec(&world, "new.toml", "replicas = 2", &new_hosts, settings);
    world.muster(&["rebuild", "orders", "--file", &new, "--confirm", "orders"]).expect(0);
    let between = lives::standing(&world, "orders");
    assert_eq!((between.incarnation, copies(&between)), (2, vec![2, 2, 2]));
    let fresh = Data::write(&between, "new", 50);

    let undone = world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    says(&undone, &["incarnation 1 comes back"]);
    let again = lives::standing(&world, "orders");
    assert_eq!((again.incarnation, places(&again), again.node_ids()), (1, places(&before), before.node_ids()));
    kept.is_there(&again);
    assert_eq!(data::count(&again), 200);
    lives::are(&lives::all_trash(&world), &between);
    for host in ["server3", "server4"] {
        assert_eq!(world.redis_pids(host), Vec::<i32>::new());
        assert_eq!(lives::in_place(&world, host), []);
    }
    world.muster(&["rebuild", "orders", "--undo", "--confirm", "orders"]).expect(0);
    let back = lives::standing(&world, "orders");
    assert_eq!((back.incarnation, places(&back), copies(&back)), (2, places(&between), vec![2, 2, 2]));
    fresh.is_there(&back);
    assert_eq!(data::count(&back), 50);
}
