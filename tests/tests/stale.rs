//! What apply refuses, called as automation calls it: the world has changed since the plan, the plan is not there or
//! not fit, the request is another one. Each refusal has its code, says what, and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{fs, time::Duration};

use muster_proto::{failure::Failure, failure::Reason};
use muster_tests::{Before, Stranger, World, eventually};

const SOON: Duration = Duration::from_secs(10);

/// What lies at a port, as the coordinator knows it.
fn port_use(world: &World, host: &str, port: u16) -> String {
    let answer = world.muster(&["hosts", "--output", "json"]).expect(0).json();
    let find = |list: &serde_json::Value, key: &str, value: serde_json::Value| {
        list.as_array().unwrap().iter().find(|one| one[key] == value).cloned().unwrap()
    };
    let host = find(&answer["hosts"], "name", host.into());
    find(&host["ports"], "port", port.into())["use"].as_str().unwrap().to_owned()
}

fn until_port_is(world: &World, host: &str, port: u16, wanted: &str) {
    eventually(SOON, &format!("{host}:{port} is {wanted}"), || {
        let found = port_use(world, host, port);
        if found == wanted { Ok(()) } else { Err(found) }
    });
}

/// Insists on the code, on these parts of the message or the hint, and that nothing was changed.
#[track_caller]
fn refused(world: &World, answer: Result<String, Failure>, reason: Reason, parts: &[&str]) {
    let failure = answer.expect_err("it was to be refused");
    assert!(failure.is(reason), "{failure:?} is not {reason:?}");
    let said = format!("{} {}", failure.message, failure.hint.clone().unwrap_or_default());
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
    assert_eq!(world.muster(&["ops", "--output", "json"]).expect(0).json()["operations"], serde_json::json!([]));
    assert!(world.hosts().all(|host| world.redis_pids(host).is_empty()), "{said}");
}

#[test]
fn a_plan_that_the_world_has_left_behind_is_refused_and_says_what_has_changed() {
    let mut world = World::seed();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let mut api = world.api();
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    let again = "muster plan FILE";

    let place = world.base_dir("server1").join("7001");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("dump.rdb"), "REDIS0010").unwrap();
    until_port_is(&world, "server1", 7001, "foreign");
    let before = Before::of(&world);
    let parts = ["server1: port 7001 was free, and is foreign now", again];
    refused(&world, api.apply(&hash, "1"), Reason::PlanStale, &parts);
    before.still(&world, "a stale plan");
    fs::remove_dir_all(&place).unwrap();
    until_port_is(&world, "server1", 7001, "free");

    let config = world.agent("server2").config();
    world.agent("server2").kill();
    world.until_host("server2", "unknown");
    refused(&world, api.apply(&hash, "2"), Reason::PlanStale, &["server2: agent was live, and is silent now", again]);

    let (old, new) = (world.address("server2").to_string(), world.spare_address(1).to_string());
    world.agent("server2").configure(&config.replace(&format!("address = \"{old}\""), &format!("address = \"{new}\"")));
    world.start();
    let parts = [&*format!("server2: address was {old}, and is {new} now"), again];
    refused(&world, api.apply(&hash, "3"), Reason::PlanStale, &parts);

    world.agent("server2").kill();
    world.until_host("server2", "unknown");
    world.agent("server2").configure(&config);
    fs::remove_file(world.base_dir("server2").join("agent/identity")).unwrap();
    world.start();
    refused(&world, api.apply(&hash, "4"), Reason::PlanStale, &["server2: identity was ", " now", again]);

    let fresh = api.plan(&spec).unwrap().plan.unwrap().hash;
    assert_ne!(fresh, hash, "another world is another plan");
    let id = api.apply(&fresh, "5").unwrap();
    world.muster(&["op", "watch", &id]).expect(0);
}

#[test]
fn a_plan_that_is_not_there_or_not_fit_is_refused_and_a_request_counts_once() {
    let world = World::seed();
    let spec = world.spec("orders", 1, "cluster-node-timeout = 2000");
    let mut api = world.api();

    refused(
        &world,
        api.apply(&"0".repeat(64), "1"),
        Reason::UnknownPlan,
        &["there is no plan 000", "muster plan FILE"],
    );
    refused(&world, api.apply("the-one-from-yesterday", "1"), Reason::InvalidArgument, &["plan_hash: "]);

    let stranger = Stranger::listen(world.address("server2"), 17005);
    let unfit = api.plan(&spec).unwrap().plan.unwrap();
    let parts = ["fatal finding", "bus port 17005 cannot be bound", "stop what listens there"];
    refused(&world, api.apply(&unfit.hash, "1"), Reason::PreflightFailed, &parts);
    drop(stranger);

    // A refused request is not used up.
    let hash = api.plan(&spec).unwrap().plan.unwrap().hash;
    refused(&world, api.apply(&hash, ""), Reason::InvalidArgument, &["request_id: "]);
    let other = api.plan(&world.spec("carts", 1, "")).unwrap().plan.unwrap().hash;
    let id = api.apply(&hash, "1").unwrap();
    assert_eq!(api.apply(&hash, "1"), Ok(id.clone()), "the same request again gets the same answer again");
    let reused = api.apply(&other, "1").unwrap_err();
    assert!(reused.is(Reason::RequestReused), "{reused:?}");
    let twice = api.apply(&hash, "2").unwrap_err();
    assert!(twice.is(Reason::ClusterExists) && twice.message.contains(&id), "{twice:?}");
    let clash = api.apply(&other, "3").unwrap_err();
    assert!(clash.is(Reason::PlanStale) && clash.message.contains("orders"), "{clash:?}");

    world.muster(&["op", "watch", &id]).expect(0);
    assert_eq!(api.apply(&hash, "1"), Ok(id.clone()), "also when it is over");
    assert_eq!(
        api.plan(&spec).unwrap().existing.map(|existing| (existing.formed, existing.operation_id)),
        Some((true, id))
    );
}
