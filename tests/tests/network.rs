//! Hosts with addresses of their own on a network that fails: agents and servers live in network namespaces, and reach
//! the coordinator over its unix socket, so that what fails is only what the servers need of each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::time::{Duration, Instant};

use muster_proto::Role;
use muster_tests::{Before, Network, Status, World, eventually, redis};

/// Most that a failover, or a return, may take with a node timeout of 2 s.
const SOON: Duration = Duration::from_secs(30);

/// Hosts on a switch, with their ports. The network goes after everything that lives in it.
struct Site {
    world: World,
    network: Network,
}

impl Site {
    fn up(hosts: &[(&str, &str)]) -> Self {
        let names: Vec<_> = hosts.iter().map(|(name, _)| *name).collect();
        let network = Network::new(&names);
        let mut world = World::new(hosts);
        for name in names {
            let config = world.agent(name).config();
            let line = |line: &str| match line.split(" = ").next() {
                Some("address") => format!("address = \"{}\"\n", network.address(name)),
                Some("coordinator") => format!("coordinator = \"{}\"\n", world.endpoint()),
                _ => format!("{line}\n"),
            };
            let config: String = config.lines().map(line).collect();
            let agent = world.agent(name);
            agent.configure(&config);
            agent.start_through(&["ip", "netns", "exec", &network.namespace(name)]);
        }
        world.start();
        Self { world, network }
    }

    /// redis-cli, run on that host.
    fn ask(&self, host: &str, port: u16, args: &[&str]) -> Result<String, String> {
        let mut command = self.network.on(host, "redis-cli");
        command.args(["-e", "-h", &self.network.address(host).to_string(), "-p", &port.to_string()]);
        let output = command.args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        let complaint = || format!("{said}{}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said.clone()) } else { Err(complaint()) }
    }

    /// Every node's own view is the same, without troubles.
    fn agreement(&self, status: &Status) -> Result<muster_proto::Topology, String> {
        let mut agreed: Option<muster_proto::Topology> = None;
        for instance in &status.instances {
            let text = self.ask(&instance.host, instance.port, &["cluster", "nodes"])?;
            let view = muster_proto::view::parse(&text).map_err(|error| error.to_string())?;
            if let Some(trouble) = view.troubles.first() {
                return Err(format!("{} thinks that {trouble}", instance.name()));
            }
            match &agreed {
                Some(topology) if topology.canonical() != view.topology.canonical() => {
                    return Err(format!("{} does not agree", instance.name()));
                }
                Some(_) => {}
                None => agreed = Some(view.topology),
            }
        }
        agreed.ok_or_else(|| "nobody was asked".into())
    }
}

#[test]
fn an_open_network_forms_a_cluster_of_its_own_addresses() {
    let site = Site::up(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let spec = site.world.spec("orders", 1, "cluster-node-timeout = 2000");
    site.world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let status = site.world.status("orders").unwrap();
    status.well().unwrap();
    let topology = site.agreement(&status).unwrap();
    for node in topology.nodes() {
        assert!(node.address.to_string().starts_with("192.168.77."), "{node:?}");
    }
    // Nobody on the coordinator's side reaches them; the agents do the work.
    assert!(redis::cli(&status.instances[0].endpoint(), &["ping"]).is_err());
    site.world.muster(&["check", "orders"]).expect(0);
    site.world.muster(&["smoke", "orders", "--from", "server1"]).expect(0);
}

#[test]
fn a_blocked_pair_is_named_within_five_seconds_and_nothing_is_changed() {
    let site = Site::up(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let (world, network) = (&site.world, &site.network);
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let before = Before::of(world);
    let blocked = |parts: &[&str], others: &[&str]| {
        for args in [vec!["plan", &*spec], vec!["bootstrap", &spec, "--yes"]] {
            let began = Instant::now();
            let refused = world.muster(&args).expect(1);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(5), "it took {took:?}\n{refused}");
            for part in [&["UNREACHABLE", "firewall"], parts].concat() {
                assert!(refused.stdout.contains(part), "{part:?} is not on stdout\n{refused}");
            }
            for other in others {
                assert!(!refused.stdout.contains(other), "{other:?} is on stdout\n{refused}");
            }
            before.still(world, "a blocked pair");
        }
    };

    // The firewall that let the client ports through and forgot one bus port.
    network.drop_port("server2", 17003);
    let words = "server1 192.168.77.1 cannot reach 192.168.77.2:17003 (bus port of server2): timed out after 3s";
    blocked(&[words], &["server2 192.168.77.2 cannot", "nor "]);
    network.open_port("server2", 17003);

    network.no_route("server1", "server2");
    let words = "server1 192.168.77.1 cannot reach 192.168.77.2:7003 (client port of server2), nor 7004";
    blocked(&[words, "no route to host"], &[]);
    network.route("server1", "server2");

    network.unplug("server2");
    blocked(
        &["server1 192.168.77.1 cannot reach 192.168.77.2:7003", "server2 192.168.77.2 cannot reach 192.168.77.1:7000"],
        &[],
    );
    network.plug("server2");

    eventually(SOON, "the way is open again", || {
        let plan = world.muster(&["plan", &spec]);
        if plan.code == 0 { Ok(()) } else { Err(plan.to_string()) }
    });
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    site.agreement(&world.status("orders").unwrap()).unwrap();
}

#[test]
fn a_host_whose_cable_is_pulled_is_failed_over_and_shown_and_comes_back_when_it_is_plugged_in() {
    let site = Site::up(&[("server1", "7000-7001"), ("server2", "7002-7003"), ("server3", "7004-7005")]);
    let (world, network) = (&site.world, &site.network);
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000\nappendonly = true");
    world.muster(&["bootstrap", &spec, "--yes"]).expect(0);
    let formed = world.status("orders").unwrap();
    let lost = formed.master_on("server3").expect("each of three hosts has a master").clone();
    let heir = formed.replicas_of(&lost.node_id).next().unwrap().clone();
    let key = format!("{{{}}}", "cable");
    let written = site.ask(&formed.instances[0].host, formed.instances[0].port, &["-c", "set", &key, "1"]);
    assert_eq!(written, Ok("OK".into()));

    network.unplug("server3");
    world.until(SOON, "orders", "the heir serves the slots of the lost master", |status| {
        let now = status.at(&heir.host, heir.port);
        if now.is_master() && now.slots == lost.slots { Ok(()) } else { Err(format!("{now:?}")) }
    });
    // Its agent is heard of, and its own masters say that they have lost the others.
    world.until_host("server3", "live");
    let issues = eventually(SOON, "the status says what is wrong with server3", || {
        let shown = world.muster(&["status", "orders"]);
        let says = shown.stdout.contains("server3:7004") && shown.stdout.contains("cluster_state:fail");
        if says { Ok(shown) } else { Err(shown.to_string()) }
    });
    assert!(issues.stdout.contains(&heir.name()), "the promoted one is named\n{issues}");
    world.muster(&["check", "orders"]).expect(1);

    network.plug("server3");
    let status = world.until(SOON, "orders", "all is well, with other roles", |status| {
        status.well()?;
        site.agreement(status)?;
        let now = status.at("server3", lost.port);
        if now.is_master() {
            Err(format!("{} still thinks that it is a master", now.name()))
        } else {
            Ok(status.clone())
        }
    });
    let topology = site.agreement(&status).unwrap();
    let returned = topology.nodes().iter().find(|node| node.id.to_string() == lost.node_id).unwrap();
    assert!(matches!(returned.role, Role::Replica { .. }), "{returned:?}");
    let read = site.ask(&heir.host, heir.port, &["-c", "get", &key]);
    assert_eq!(read, Ok("1".into()));
    let pids = |status: &Status| status.instances.iter().map(|one| one.pid).collect::<Vec<_>>();
    assert_eq!(pids(&status), pids(&formed), "nobody was started anew");
}
