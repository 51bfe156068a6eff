//! A whole agent and a real server, and a coordinator that is made up here: a life ends by a permit and by nothing
//! else, another begins, and the first one comes back.
#![allow(clippy::await_holding_lock, reason = "one test a runtime: nobody else waits for the lock there")]

use std::{
    net::{IpAddr, TcpListener},
    pin::Pin,
    sync::{Arc, Mutex},
};

use muster_proto::{
    Former, HostAssignment, Incarnation, InstanceState, InstanceStatus, Life, NodeId, OperationId, Report, Want,
    wire::{
        agent_link_server::{AgentLink, AgentLinkServer},
        from_agent, to_agent,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::{
    config::{Config, Endpoint},
    layout::Directory,
    samples::{self, alone, id, layout, port},
};

const SOON: Duration = Duration::from_secs(30);

type Say = mpsc::Sender<Result<wire::ToAgent, Status>>;

/// Welcomes whoever calls, and says to the last one what it is told to say.
#[derive(Clone)]
struct Coordinator {
    say: Arc<Mutex<Option<Say>>>,
    heard: mpsc::Sender<Report>,
}

#[tonic::async_trait]
impl AgentLink for Coordinator {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut hear, heard) = (request.into_inner(), self.heard.clone());
        let (say, saying) = mpsc::channel(64);
        let welcome = wire::Welcome { term: 1, heartbeat_ms: 1000, ..wire::Welcome::default() };
        say.send(Ok(wire::ToAgent { body: Some(to_agent::Body::Welcome(welcome)) })).await.unwrap();
        *self.say.lock().unwrap() = Some(say);
        tokio::spawn(async move {
            while let Ok(Some(wire::FromAgent { body: Some(said) })) = hear.message().await {
                if let from_agent::Body::Report(report) = said {
                    let _ = heard.send(Report::try_from(report).unwrap()).await;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(saying))))
    }
}

/// The agent, what is said to it, and what it says.
struct Agent {
    coordinator: Coordinator,
    hears: mpsc::Receiver<Report>,
    generation: u64,
    last: Option<InstanceStatus>,
}

/// An address of this process alone.
fn address() -> IpAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    [127, 87, high, low.max(1)].into()
}

fn operation(nth: u128) -> OperationId {
    OperationId(Uuid::from_u128(nth))
}

/// The instance at 7000 in that life, which is also that of the cluster, and the node of that number.
fn wanted(life: u64, want: Want, formers: &[u64]) -> HostAssignment {
    let mut assignment = samples::assignment(want, false);
    let cluster = &mut assignment.clusters[0];
    let node = |life: u64| id(100 + u8::try_from(life).unwrap());
    cluster.incarnation = Incarnation(life);
    cluster.instances.truncate(1);
    let instance = &mut cluster.instances[0];
    (instance.life, instance.node_id, instance.run) = (Life(life), node(life), life);
    instance.formers = formers
        .iter()
        .map(|life| Former {
            operation: operation(u128::from(*life)),
            incarnation: Incarnation(*life),
            life: Life(*life),
            node_id: node(*life),
        })
        .collect();
    let replaced = cluster.members[0].node_id;
    for member in &mut cluster.members {
        if let muster_proto::Role::Replica { master } = &mut member.role
            && *master == replaced
        {
            *master = node(life);
        }
    }
    (cluster.members[0].node_id, cluster.members[0].address) = (node(life), address());
    assignment
}

impl Agent {
    fn say(&self, body: to_agent::Body) {
        let say = self.coordinator.say.lock().unwrap().clone().unwrap();
        say.try_send(Ok(wire::ToAgent { body: Some(body) })).unwrap();
    }

    fn tell(&mut self, assignment: &HostAssignment) {
        self.generation += 1;
        let (document, sha256) = assignment.encode();
        let desired = wire::Desired { term: 1, generation: self.generation, sha256: sha256.0.to_vec(), document };
        self.say(to_agent::Body::Desired(desired));
    }

    fn permit(&self, asks: &muster_proto::Ask, ended: u64, change: impl FnOnce(&mut wire::Permit)) {
        let mut permit = wire::Permit {
            term: 1,
            operation: operation(u128::from(ended)).to_string(),
            cluster_id: samples::stamp().cluster_id.to_string(),
            port: 7000,
            node_id: asks.node_id.to_string(),
            old_life: asks.life.0,
            new_life: 3 - asks.life.0,
            nonce: asks.nonce.to_string(),
        };
        change(&mut permit);
        self.say(to_agent::Body::Permit(permit));
    }

    /// What it says of the instance, as soon as that is so, in a report on what it was told last.
    async fn until(&mut self, what: &str, so: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
        let found = timeout(SOON, async {
            loop {
                if let Some(status) = self.last.as_ref().filter(|status| so(status)) {
                    return status.clone();
                }
                let report = self.hears.recv().await.unwrap();
                assert_eq!(report.refusal, None);
                self.last = report.instances.first().filter(|_| report.accepted.0 == self.generation).cloned();
            }
        });
        let found = found.await;
        found.unwrap_or_else(|_| panic!("{what} was not seen; last: {:#?}", self.last))
    }

    async fn asks(&mut self, life: u64) -> muster_proto::Ask {
        let status = self.until("an ask", |status| status.asks.is_some()).await;
        assert_eq!((status.state, status.pid), (InstanceState::Stopped, None));
        assert_eq!(status.reason, format!("waits for a permit to set life {life} aside"));
        let asks = status.asks.unwrap();
        assert_eq!(asks.life, Life(life));
        asks
    }
}

fn runs(node: NodeId) -> impl Fn(&InstanceStatus) -> bool {
    move |status| {
        status.state == InstanceState::Running && status.view.as_ref().is_some_and(|view| view.node_id == node)
    }
}

#[test]
fn the_trash_is_looked_through_when_the_coordinator_was_heard_or_long_not() {
    let s = Duration::from_secs;
    assert!(!is_due(false, s(0), None) && !is_due(false, s(599), None));
    assert!(is_due(true, s(0), None) && is_due(false, s(600), None));
    assert!(!is_due(true, s(9999), Some(s(3599))) && is_due(true, s(9999), Some(s(3600))));
}

#[tokio::test]
async fn a_life_ends_by_a_permit_alone_another_begins_and_the_first_comes_back() {
    let _alone = alone();
    drop(TcpListener::bind((address(), 7000)).unwrap());
    let (base, layout) = layout();
    let socket = base.path().join("coordinator.sock");
    let (heard, hears) = mpsc::channel(1024);
    let coordinator = Coordinator { say: Arc::default(), heard };
    let listener = UnixListenerStream::new(tokio::net::UnixListener::bind(&socket).unwrap());
    let service = AgentLinkServer::new(coordinator.clone());
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));
    let half = base.path().join(".trash/.doomed-7000-x");
    std::fs::create_dir(&half).unwrap();
    let config = Config { coordinator: Endpoint::Unix(socket), address: address(), ..samples::config(base.path()) };
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(crate::run(config, shutdown.clone(), mpsc::channel(1).1));
    let mut agent = Agent { coordinator, hears, generation: 0, last: None };
    let first = agent.hears.recv().await.unwrap();
    assert_eq!(first.instances, []);
    assert!(half.exists(), "what is in the trash may be wanted by what is not heard yet");

    agent.tell(&wanted(1, Want::Running, &[]));
    let began = agent.until("life 1", runs(id(101))).await;
    let begun = Instant::now();
    while half.exists() {
        assert!(begun.elapsed() < SOON, "the trash is not looked through");
        tokio::task::yield_now().await;
    }
    let dir = layout.instance(port(7000));
    std::fs::write(dir.path().join("witness"), "life 1").unwrap();

    // Stopped, it asks for nothing; and what runs of it is stopped when it has ended.
    agent.tell(&wanted(2, Want::Stopped, &[1]));
    let stopped = agent.until("its end", |status| status.state == InstanceState::Stopped).await;
    assert_eq!((stopped.asks, stopped.pid), (None, None));
    agent.tell(&wanted(2, Want::Running, &[1]));
    let asks = agent.asks(1).await;

    // Whatever is not the answer changes nothing.
    let changes: [fn(&mut wire::Permit); 3] = [
        |permit| permit.node_id = id(9).to_string(),
        |permit| permit.nonce = Uuid::from_u128(9).to_string(),
        |permit| permit.term = 0,
    ];
    for change in changes {
        agent.permit(&asks, 1, change);
    }
    // A stream that is over takes what was asked on it with it.
    *agent.coordinator.say.lock().unwrap() = None;
    let before = asks.nonce;
    let anew = agent.until("another nonce", |status| status.asks.as_ref().is_some_and(|it| it.nonce != before)).await;
    agent.permit(&asks, 1, |_| {});
    assert!(matches!(dir.look(), Directory::Stamped(stamp) if stamp.life == Life(1)));
    agent.permit(&anew.asks.unwrap(), 1, |_| {});
    let second = agent.until("life 2", runs(id(102))).await;
    assert_eq!((second.starts, second.run, second.asks), (1, 2, None));
    assert_ne!(second.pid, began.pid);
    assert!(!dir.path().join("witness").exists());

    // And back.
    let mut back = wanted(1, Want::Running, &[2]);
    let instance = &mut back.clusters[0].instances[0];
    (instance.restore, instance.all_stopped, instance.run) = (true, true, 3);
    agent.tell(&back);
    let asks = agent.asks(2).await;
    agent.permit(&asks, 2, |_| {});
    agent.until("life 1 again", runs(id(101))).await;
    assert_eq!(std::fs::read_to_string(dir.path().join("witness")).unwrap(), "life 1");

    // Nothing is here any more.
    agent.tell(&wanted(2, Want::Retired, &[1]));
    let asks = agent.asks(1).await;
    agent.permit(&asks, 1, |_| {});
    agent.until("nothing", |status| status.state == InstanceState::Absent && status.reason.is_empty()).await;
    assert_eq!(dir.look(), Directory::Free);

    shutdown.cancel();
    running.await.unwrap().unwrap();
    let said: Vec<_> = events::newest(&layout.agent_dir(), Some("orders"), 999)
        .into_iter()
        .filter(|event| ["permit", "aside", "restored"].contains(&event.what.as_str()))
        .map(|event| event.text.replace(&base.path().display().to_string(), "BASE"))
        .collect();
    let refused = |nth: u128, why: &str| format!("a permit of operation {} is refused: {why}", operation(nth));
    let permitted = |nth: u128| format!("operation {} may set its directory aside", operation(nth));
    assert_eq!(
        said,
        [
            refused(1, "it is for the directory of node 09090909, and that of node 65656565 is there"),
            refused(1, "nobody here has asked for it, or does still"),
            refused(1, "it is of term 0, and term 1 has been obeyed"),
            refused(1, "the stream that it was asked for on is over"),
            permitted(1),
            "set aside as BASE/.trash/7000-orders-65656565-life1".into(),
            permitted(2),
            "set aside as BASE/.trash/7000-orders-66666666-life2".into(),
            "its directory is back in its place".into(),
            permitted(1),
            "set aside as BASE/.trash/7000-orders-65656565-life1".into(),
        ]
    );
}
