//! Crashes of daemons in the middle of a bootstrap: whatever is killed, and whenever, it ends in the cluster that was
//! approved, with one server in each directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests are tests"
)]

use std::{collections::BTreeSet, fs, thread, time::Duration};

use muster_tests::{Admin, World, eventually, processes, redis};
use serde_json::Value;

const SETTINGS: &str = "appendonly = \"yes\"\ncluster-node-timeout = \"1000\"";
/// A cluster that is formed says so to a coordinator that has just started within this.
const CALM: Duration = Duration::from_secs(20);

/// Deaths of one coordinator in one operation.
const LIVES: u32 = 12;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victims {
    Coordinator,
    OneAgent,
    BothAgents,
    All,
}

impl Victims {
    fn kill_and_start(self, world: &mut World) {
        let agents: &[&str] = match self {
            Self::Coordinator => &[],
            Self::OneAgent => &["server1"],
            Self::BothAgents | Self::All => &["server1", "server2"],
        };
        agents.iter().for_each(|agent| world.agent(agent).kill());
        if matches!(self, Self::Coordinator | Self::All) {
            world.coordinator().restart();
        }
        agents.iter().for_each(|agent| world.agent(agent).start());
    }
}

/// Approves a bootstrap of everything in the world, and returns its operation.
#[track_caller]
fn approve(world: &World, admin: &Admin) -> String {
    let spec = world.spec("orders", 1, SETTINGS);
    let plan = world.muster(&["plan", &spec, "--output", "json"]).expect(0).json();
    admin.apply(plan["plan"]["hash"].as_str().unwrap(), "crash").unwrap().id
}

/// The operation ends well, and what stands there is what was approved, once.
#[track_caller]
fn ends_well(world: &World, admin: &Admin, operation: &str) {
    let ended = admin.until_done(operation);
    assert_eq!(ended.phase, "FORMED", "{ended:?}");
    let status = world.until(CALM, "orders", "all is well", |status| status.well().map(|()| status.clone()));
    let topology = redis::agreement(&status.endpoints()).unwrap();
    redis::in_sync(&status.endpoints()).unwrap();
    redis::check(&status.endpoints()[0]).unwrap();

    // One life of one node in each directory, and the node of the blueprint.
    let seen: BTreeSet<_> = topology.nodes().iter().map(|node| node.id.to_string()).collect();
    let planned: BTreeSet<_> = status.instances.iter().map(|instance| instance.node_id.clone()).collect();
    assert_eq!(seen, planned);
    for instance in &status.instances {
        let stamp = fs::read(world.base_dir(&instance.host).join(format!("{}/muster.json", instance.port))).unwrap();
        let stamp: Value = serde_json::from_slice(&stamp).unwrap();
        assert_eq!((&stamp["node_id"], &stamp["life"]), (&Value::from(&*instance.node_id), &Value::from(1)));
        assert_eq!(redis::nodes(&instance.endpoint()).unwrap().myself.to_string(), instance.node_id);
    }
    for host in ["server1", "server2"] {
        let pids = world.redis_pids(host);
        let directories: BTreeSet<_> = processes::directories(&pids).into_iter().collect();
        assert_eq!((pids.len(), directories.len()), (3, 3), "{host}: {directories:?}");
        let reported: BTreeSet<_> = status.instances.iter().filter(|at| at.host == host).map(|at| at.pid).collect();
        assert_eq!(reported, pids.into_iter().map(Some).collect(), "{host}");
        let trash = fs::read_dir(world.base_dir(host).join(".trash")).unwrap().count();
        assert_eq!(trash, 0, "{host}: nothing had to be set aside");
    }
}

/// Kills them so many milliseconds after the answer to Apply, each time in a new world.
#[track_caller]
fn killed_after(victims: Victims, delays_ms: &[u64]) {
    for delay_ms in delays_ms {
        let mut world = World::seed();
        let admin = Admin::of(&world);
        let operation = approve(&world, &admin);
        // The moment of the fault is the case; nothing is waited for here.
        thread::sleep(Duration::from_millis(*delay_ms));
        victims.kill_and_start(&mut world);
        ends_well(&world, &admin, &operation);
    }
}

#[test]
fn the_coordinator_may_be_killed_at_any_moment() {
    killed_after(Victims::Coordinator, &[0, 10, 20, 30, 50, 80, 120, 200, 500, 1500, 2200]);
}

#[test]
fn an_agent_may_be_killed_at_any_moment() {
    killed_after(Victims::OneAgent, &[0, 20, 50, 1500]);
}

#[test]
fn both_agents_may_be_killed_at_any_moment() {
    killed_after(Victims::BothAgents, &[10, 40, 500]);
}

#[test]
fn everything_may_be_killed_at_any_moment() {
    killed_after(Victims::All, &[0, 30, 60, 200]);
}

#[test]
fn a_coordinator_that_dies_after_each_of_many_events_gets_there_all_the_same() {
    let mut world = World::seed();
    let admin = Admin::of(&world);
    let operation = approve(&world, &admin);
    // Every life begins with an event that says what it finds, so there is one to die after in each.
    let mut seen = 0;
    for life in 1..=LIVES {
        let what = format!("an event of life {life}");
        let event = eventually(CALM, &what, || match admin.events(&operation, seen, 1) {
            Ok(events) => events.into_iter().next().ok_or_else(|| "the operation is over".to_owned()),
            Err(status) => Err(status.to_string()),
        });
        seen = event.seq;
        world.coordinator().restart();
    }
    ends_well(&world, &admin, &operation);
}

#[test]
fn what_is_paused_stays_paused_over_a_crash_and_is_resumed_by_name() {
    let mut world = World::seed();
    let admin = Admin::of(&world);
    let spec = world.spec("orders", 1, SETTINGS);
    let plan = world.muster(&["plan", &spec, "--output", "json"]).expect(0).json();
    // While one agent hangs nothing can settle, so the pause comes before the end.
    world.agent("server2").freeze();
    let operation = admin.apply(plan["plan"]["hash"].as_str().unwrap(), "paused").unwrap().id;
    world.muster(&["op", "pause", &operation]).expect(0);
    world.coordinator().restart();
    world.agent("server2").thaw();
    world.until_host("server1", "live");
    world.until_host("server2", "live");
    let paused = admin.operation(&operation).unwrap();
    assert_eq!((paused.state().as_str_name(), paused.ended_unix_ms), ("OPERATION_STATE_PAUSED", 0));
    assert!(world.redis_pids("server1").is_empty(), "the barrier is not passed while it is paused");
    world.muster(&["op", "resume", &operation]).expect(0);
    ends_well(&world, &admin, &operation);
}
