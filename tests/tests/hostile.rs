//! Peers that mean harm: an agent that speaks for another host, a redis-server on a port that is not its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests")]

use std::time::Duration;

use muster_agent::{
    config::Endpoint,
    dial::{Manner, dial},
    identity::{Enrolled, Papers},
};
use muster_proto::{
    failure::Failure,
    wire::{
        self, admin_client::AdminClient, agent_link_client::AgentLinkClient, enrolment_client::EnrolmentClient,
        from_agent::Body, trust_client::TrustClient,
    },
};
use muster_tests::{ForeignRedis, World, eventually, fleet};
use tonic::{Status, transport::Channel};

const SOON: Duration = Duration::from_secs(30);

/// A world whose coordinator speaks TLS, with both hosts enrolled and live.
fn enrolled() -> World {
    let mut world = World::new(&[("server1", "7000-7002"), ("server2", "7003-7005")]);
    let config = world.coordinator().config().replace("http://", "https://");
    world.coordinator().configure(&config);
    world.coordinator().start();
    eventually(SOON, "the coordinator answers", || {
        let hosts = world.muster(&["hosts"]);
        if hosts.code == 0 { Ok(()) } else { Err(hosts.to_string()) }
    });
    for host in ["server1", "server2"] {
        let config = world.agent(host).config().replace("http://", "https://");
        world.agent(host).configure(&config);
        let made = world.muster(&["token", "create", "--host", host, "--output", "json"]).expect(0).json();
        let mut enrol = std::process::Command::new(muster_tests::binaries::path("muster-agent"));
        enrol.arg("--config").arg(world.agent(host).config_path()).arg("enrol");
        fleet::fed(&mut enrol, made["token"].as_str().unwrap()).expect(0);
    }
    world.start();
    world
}

/// What a host's agent has, in the wrong hands.
struct Stolen {
    papers: Enrolled,
    endpoint: Endpoint,
}

impl Stolen {
    fn from(world: &mut World, host: &str) -> Self {
        let papers = Papers::in_dir(&world.base_dir(host).join("agent")).load(host).unwrap();
        let config = world.agent(host).config();
        let url = config.lines().find_map(|line| line.strip_prefix("coordinator = \"https://")).unwrap();
        Self { papers, endpoint: Endpoint::Tls(url.trim_end_matches('"').to_owned()) }
    }

    async fn dial(&self) -> Channel {
        let manner = Manner { believes: &self.papers.believes(), identity: Some(&self.papers.identity) };
        dial(&self.endpoint, Some(manner)).await.unwrap()
    }
}

fn code(status: &Status) -> String {
    Failure::from_status(status).map_or_else(|| format!("{status:?}"), |failure| failure.reason)
}

fn hello(host: &str) -> Body {
    Body::Hello(wire::Hello {
        protocol: 1,
        agent_version: "0.1.0".into(),
        host: host.into(),
        address: "127.0.0.1".into(),
        identity: "8f9b6c0e-0000-4000-8000-000000000000".into(),
        boot_id: "another".into(),
        ports: vec![7000],
        base_dir: "/nowhere".into(),
        pid: 1,
        ..wire::Hello::default()
    })
}

/// Says all of it on one stream, and returns how that ends.
async fn say(channel: Channel, bodies: Vec<Body>) -> String {
    let said = bodies.into_iter().map(|body| wire::FromAgent { body: Some(body) });
    let (say, saying) = tokio::sync::mpsc::channel(16);
    for message in said {
        say.send(message).await.unwrap();
    }
    let saying = tokio_stream::wrappers::ReceiverStream::new(saying);
    match AgentLinkClient::new(channel).session(saying).await {
        Err(status) => code(&status),
        Ok(answer) => {
            let mut hear = answer.into_inner();
            loop {
                match tokio::time::timeout(SOON, hear.message()).await.expect("the stream ends") {
                    Ok(Some(_)) => {}
                    Ok(None) => return "closed".into(),
                    Err(status) => return code(&status),
                }
            }
        }
    }
}

#[test]
fn an_agent_can_only_lie_about_its_own_host() {
    let mut world = enrolled();
    world.bootstrap("orders");
    let stolen = Stolen::from(&mut world, "server1");
    world.agent("server1").stop();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // In another's name.
        assert_eq!(say(stolen.dial().await, vec![hello("server2")]).await, "UNAUTHENTICATED");
        // In its own, about another's instances.
        let status = wire::InstanceStatus {
            host: "server2".into(),
            address: "127.0.0.1".into(),
            port: 7003,
            cluster: "orders".into(),
            state: wire::InstanceState::Absent.into(),
            node_id: "0".repeat(40),
            ..wire::InstanceStatus::default()
        };
        let report = wire::Report { instances: vec![status], ..wire::Report::default() };
        assert_eq!(say(stolen.dial().await, vec![hello("server1"), Body::Report(report)]).await, "INVALID_ARGUMENT");
        // Orders and secrets are not for hosts.
        let channel = stolen.dial().await;
        let refused =
            AdminClient::new(channel.clone()).list_hosts(wire::ListHostsRequest::default()).await.unwrap_err();
        assert_eq!(code(&refused), "ROLE_TOO_LOW");
        let asked = wire::GetCredentialsRequest { cluster: "orders".into(), user: String::new() };
        let refused = TrustClient::new(channel.clone()).get_credentials(asked).await.unwrap_err();
        assert_eq!(code(&refused), "ROLE_TOO_LOW");
        // A certificate for a cluster without TLS, or in another's name, is not given.
        let csr = stolen.papers.identity.key.request("x").unwrap();
        let asked = wire::CertifyRequest { cluster: "orders".into(), csr, host: "server2".into() };
        assert!(EnrolmentClient::new(channel).certify(asked).await.is_err());
    });
    let status = world.status("orders").unwrap();
    assert!(status.instances.iter().filter(|one| one.host == "server2").all(|one| one.state == "running"));
    let audit = world.muster(&["audit", "--output", "json"]).expect(0);
    assert!(audit.stdout.contains("host server1") && audit.stdout.contains("refused"), "{audit}");
}

#[test]
fn a_strange_server_on_the_port_of_a_dead_one_is_seen_and_left_alone() {
    let mut world = enrolled();
    let formed = world.bootstrap("orders");
    let victim = formed.at("server1", 7000).clone();
    world.agent("server1").freeze();
    muster_tests::processes::signal(victim.pid.unwrap(), nix::sys::signal::Signal::SIGKILL);
    let address = world.address("server1");
    eventually(SOON, "the port is free", || match std::net::TcpListener::bind((address, 7000)) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    });
    let home = world.dir().join("strange");
    std::fs::create_dir(&home).unwrap();
    let strange = ForeignRedis::start(&home, address, 7000);
    world.agent("server1").thaw();
    let seen = world.until(SOON, "orders", "the trouble is seen", |status| {
        let one = status.at("server1", 7000);
        if one.state == "running" { Err(format!("{one:?}")) } else { Ok(one.clone()) }
    });
    eventually(SOON, "the status says why", || {
        let shown = world.muster(&["status", "orders"]);
        let says = shown.stdout.contains("server1:7000") && shown.stdout.contains("FOREIGN_PROCESS");
        if says { Ok(()) } else { Err(format!("{seen:?}\n{shown}")) }
    });
    assert_eq!(muster_tests::redis::cli(strange.endpoint(), &["ping"]), Ok("PONG".into()), "it is nobody's to stop");
    drop(strange);
    world.until(Duration::from_secs(90), "orders", "it is back", |status| {
        let one = status.at("server1", 7000);
        if one.state == "running" { Ok(()) } else { Err(format!("{one:?}")) }
    });
}
