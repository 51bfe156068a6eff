//! The gRPC interface as automation meets it: who serves what, requests that are sent twice, streams that are resumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::{collections::BTreeSet, sync::Barrier, thread};

use muster_proto::{
    failure::Failure,
    wire::{ListHostsRequest, OperationEvent, admin_client::AdminClient},
};
use muster_tests::{Admin, World, admin::reason};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const SETTINGS: &str = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";

/// The hash of a plan that can be applied.
#[track_caller]
fn plan(world: &World, spec: &str) -> String {
    let document = world.muster(&["plan", spec, "--output", "json"]).expect(0).json();
    document["plan"]["hash"].as_str().unwrap().to_owned()
}

async fn services(channel: Channel) -> Result<BTreeSet<String>, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await?.into_inner();
    match answers.next().await.unwrap()?.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => Ok(list.service.into_iter().map(|one| one.name).collect()),
        other => panic!("{other:?}"),
    }
}

async fn health(channel: Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status())
}

#[test]
fn both_listeners_say_that_they_are_well_and_only_the_socket_takes_orders_from_whoever_calls() {
    let mut world = World::new(&[("server1", "7000-7002")]);
    world.start();
    let admin = Admin::of(&world);
    let config = world.coordinator().config();
    let listen = config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned();
    admin.run(async {
        let tcp = Channel::from_shared(listen).unwrap().connect().await.unwrap();
        for channel in [admin.channel(), tcp.clone()] {
            assert_eq!(health(channel.clone(), "").await, Ok(ServingStatus::Serving));
            assert_eq!(health(channel.clone(), "muster.v1.AgentLink").await, Ok(ServingStatus::Serving));
            assert_eq!(health(channel, "no.such.Service").await, Err(Code::NotFound));
        }
        let services = services(admin.channel()).await.unwrap();
        for name in ["Admin", "Trust", "AgentLink", "Enrolment"].map(|name| format!("muster.v1.{name}")) {
            assert!(services.contains(&name), "{services:?}");
            assert_eq!(health(admin.channel(), &name).await, Ok(ServingStatus::Serving), "{name}");
        }
        assert_eq!(admin.client().list_hosts(ListHostsRequest::default()).await.unwrap().into_inner().hosts.len(), 1);
        // Over loopback anybody on this machine calls, who is nobody.
        let refused = AdminClient::new(tcp.clone()).list_hosts(ListHostsRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()));
        assert_eq!(self::services(tcp).await.unwrap_err().code(), Code::Unauthenticated);
    });
}

#[test]
fn a_request_that_is_sent_twice_is_one_request() {
    let world = World::seed();
    let admin = Admin::of(&world);
    let hash = plan(&world, &world.spec("orders", 1, SETTINGS));
    let other = plan(&world, &world.spec("others", 1, SETTINGS));

    // Twelve at the same moment, each on its own connection, as a caller's retries may arrive.
    let barrier = Barrier::new(12);
    let ids: BTreeSet<_> = thread::scope(|scope| {
        let apply = || {
            let admin = Admin::of(&world);
            admin.operation("warm up").unwrap_err();
            barrier.wait();
            admin.apply(&hash, "one").map(|operation| operation.id).map_err(|status| status.to_string())
        };
        let calls: Vec<_> = (0..12).map(|_| scope.spawn(apply)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.into_iter().next().unwrap().unwrap();

    let reused = admin.apply(&other, "one").unwrap_err();
    assert_eq!((reused.code(), reason(&reused).as_str()), (Code::AlreadyExists, "REQUEST_REUSED"));
    let exists = admin.apply(&hash, "two").unwrap_err();
    assert_eq!((exists.code(), reason(&exists).as_str()), (Code::AlreadyExists, "CLUSTER_EXISTS"));
    let failure = Failure::from_status(&exists).unwrap();
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.contains(&id)), "{failure:?}");

    assert_eq!(admin.until_done(&id).id, id);
    assert_eq!(admin.apply(&hash, "one").unwrap().id, id, "also when it is done");
    assert_eq!(world.muster(&["ops", "--output", "json"]).json()["operations"].as_array().unwrap().len(), 1);
}

#[test]
fn a_watch_that_is_taken_up_again_has_no_gaps_and_no_repeats() {
    let world = World::seed();
    let admin = Admin::of(&world);
    let hash = plan(&world, &world.spec("orders", 1, SETTINGS));
    let id = admin.apply(&hash, "watched").unwrap().id;

    // A watcher who hangs up after every event, while the operation runs.
    let mut live: Vec<OperationEvent> = Vec::new();
    loop {
        let after = live.last().map_or(0, |event| event.seq);
        let next = admin.events(&id, after, 1).unwrap();
        if next.is_empty() {
            break;
        }
        live.extend(next);
    }
    let all = admin.events(&id, 0, usize::MAX).unwrap();
    assert_eq!(live, all);
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{all:?}");
    let phases: Vec<&str> = all.iter().map(|event| event.phase.as_str()).collect();
    let mut order = phases.clone();
    order.dedup();
    assert_eq!(order, ["CONFIGURE", "START", "VERIFY", "FORMED"], "{all:?}");
    for (nth, event) in all.iter().enumerate() {
        assert_eq!(admin.events(&id, event.seq, usize::MAX).unwrap(), all[nth + 1..], "after {}", event.seq);
    }
    assert_eq!(admin.operation(&id).unwrap().last_seq, all.last().unwrap().seq);
}

#[test]
fn errors_say_a_stable_reason_and_what_to_type() {
    let world = World::up(&[("server1", "7000-7002")]);
    let admin = Admin::of(&world);
    let nobody = "0".repeat(64);
    let id = "0199a2b4-0000-7000-8000-000000000001";
    let cases = [
        (admin.apply("abc", "x").unwrap_err(), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (admin.apply(&nobody, "").unwrap_err(), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (admin.apply(&nobody, "x").unwrap_err(), Code::NotFound, "UNKNOWN_PLAN"),
        (admin.operation(id).unwrap_err(), Code::NotFound, "UNKNOWN_OPERATION"),
        (admin.events(id, 0, 1).unwrap_err(), Code::NotFound, "UNKNOWN_OPERATION"),
    ];
    for (status, code, expected) in cases {
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
        assert!(!status.message().is_empty());
    }
}
