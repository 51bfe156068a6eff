//! Hosts that are not there, and those that are.

use muster_proto::{Hello, PERMITS_SINCE};

use super::*;

fn fence(world: &mut World, nth: usize) {
    world.goes(nth);
    world.fenced.insert(host(nth));
    world.next = without(&world.spec, &world.fenced).unwrap();
}

#[test]
fn a_missing_host_stops_it_and_the_cure_names_all_that_are() {
    check(
        |world| world.goes(3),
        expect![[r#"
        Fatal MISSING_HOST [server3]: server3 has not been heard of for 12 s; what runs there cannot be stopped, and its directories cannot be moved
            on server3: systemctl status muster-agent; if gone for good: muster rebuild orders --fence-missing server3
    "#]],
    );
    check(
        |world| {
            fence(world, 2);
            world.goes(3);
        },
        expect![[r#"
            Fatal MISSING_HOST [server3]: server3 has not been heard of for 12 s; what runs there cannot be stopped, and its directories cannot be moved
                on server3: systemctl status muster-agent; if gone for good: muster rebuild orders --fence-missing server2 --fence-missing server3
            Warning ISLAND server2 [ports 7002-7003]: server2 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server2 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
            Warning ISLAND_SERVES [server2]: server2 may have 2 of 3 masters, a majority: if they still run and reach each other, they go on as a cluster for as long as they run, and take writes that are in no cluster afterwards
                before you go on, power off, or cut off from the clients: server2
        "#]],
    );
}

#[test]
fn with_another_spec_the_cure_keeps_it() {
    check(
        |world| {
            world.goes(3);
            world.next = Case::new(&[2, 2, 2], 0).world().0;
        },
        expect![[r#"
            Fatal MISSING_HOST [server3]: server3 has not been heard of for 12 s; what runs there cannot be stopped, and its directories cannot be moved
                on server3: systemctl status muster-agent; if gone for good: muster rebuild orders --file SPEC --fence-missing server3
        "#]],
    );
}

#[test]
fn what_an_island_can_do_is_said() {
    check(
        |world| fence(world, 3),
        expect![[r#"
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
        "#]],
    );
    check(
        |world| {
            let setting = Setting { key: "cluster-node-timeout".into(), value: "1500".into() };
            world.blueprint.settings.push(setting);
            fence(world, 3);
        },
        expect![[r#"
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (1500 ms) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
        "#]],
    );
}

#[test]
fn an_island_with_a_majority_serves_on() {
    check(
        |world| {
            fence(world, 2);
            fence(world, 3);
        },
        expect![[r#"
            Warning ISLAND server2 [ports 7002-7003]: server2 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server2 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
            Warning ISLAND_SERVES [server2, server3]: server2, server3 may have 2 of 3 masters, a majority: if they still run and reach each other, they go on as a cluster for as long as they run, and take writes that are in no cluster afterwards
                before you go on, power off, or cut off from the clients: server2, server3
        "#]],
    );
    // One whose masters have all been replaced has none.
    check(
        |world| {
            fence(world, 2);
            fence(world, 3);
            (7000..7002).for_each(|port| world.at(port).role = wire::Role::Master.into());
        },
        expect![[r#"
            Warning ISLAND server2 [ports 7002-7003]: server2 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server2 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
        "#]],
    );
}

#[test]
fn a_live_host_and_one_that_the_spec_wants_are_not_fenced() {
    check(
        |world| {
            world.fenced.insert(host(3));
        },
        expect![[r#"
            Fatal FENCE_LIVE server3 [--fence-missing]: server3 is there: what runs on it can be stopped
                leave out --fence-missing server3; to go on without that host: muster rebuild orders --file SPEC, with a spec that does not name it
            Fatal FENCE_WANTED server3 [--fence-missing]: server3 is fenced, and the spec wants instances on it
                take that host out of the spec
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
        "#]],
    );
}

#[test]
fn without_cluster_port_nobody_is_fenced() {
    let old = |world: &mut World| world.server = "redis 6.2.14";
    check(old, expect![[""]]);
    check(
        |world| {
            old(world);
            fence(world, 3);
        },
        expect![[r#"
            Fatal FENCE_UNSUPPORTED [redis-server]: redis 6.2.14 has no cluster-port (Redis 7.0 and newer have): the next life would listen on the bus ports of the old one, and a server of server3 that comes back would be taken in and take writes
                install Redis 7.0 or newer, or Valkey, on all hosts; or bring back server3
            Warning ISLAND server3 [ports 7004-7005]: server3 is done without. What it holds is not known. A master that still runs there, was frozen and goes on, or is started there by hand takes writes of clients that reach it until it has heard nothing of the others for cluster-node-timeout (15 s) and about a second; these writes stay in its directory, and are in no cluster
                power server3 off, or cut it off from the clients. When its agent calls, what runs there is stopped and set aside before anything else
        "#]],
    );
}

#[test]
fn an_agent_from_before_there_were_permits_is_named() {
    let agent = |protocol| Hello { protocol, ..crate::samples::hello("server3") };
    assert_eq!(too_old(&host(3), &agent(PERMITS_SINCE)), None);
    expect![[r#"
        Fatal AGENT_TOO_OLD server3 [server3]: its agent (0.1.0) is from before there were rebuilds
            on server3: install the muster-agent of 0.1.0, and restart it; its servers go on
    "#]]
    .assert_eq(&shown(too_old(&host(3), &agent(1)).into_iter().collect()));
}
