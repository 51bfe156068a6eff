//! The seed procedure's layout, formed by one command and judged by the servers themselves.

use std::time::Duration;

use muster_tests::{World, eventually, redis};

#[test]
fn two_bare_servers_become_a_cluster_and_outlive_their_agents() {
    let mut world = World::seed();
    let status = world.bootstrap("orders");
    // At once, not eventually: success is never said before it is so.
    let endpoints = status.endpoints();
    let topology = redis::agreement(&endpoints).unwrap();
    redis::in_sync(&endpoints).unwrap();
    redis::check(&endpoints[0]).unwrap();
    status.well().unwrap();
    assert_eq!(topology.nodes().len(), 6);
    for instance in &status.instances {
        assert_eq!(redis::nodes(&instance.endpoint()).unwrap().myself.to_string(), instance.node_id);
        if let Some(master) = &instance.master {
            let master = status.instances.iter().find(|other| other.node_id == *master).unwrap();
            assert_ne!(master.host, instance.host, "{} has its master on its own host", instance.name());
        }
    }

    let before = world.redis_pids("server1");
    assert_eq!(before.len(), 3);
    world.agent("server1").kill();
    world.coordinator().kill();
    assert_eq!(world.redis_pids("server1"), before);
    redis::agreement(&endpoints).unwrap();
    world.start();
    let again = || world.status("orders")?.well();
    eventually(Duration::from_secs(20), "the agent has found its servers", again);
    assert_eq!(world.redis_pids("server1"), before);
    world.muster(&["check", "orders"]).expect(0);
}
