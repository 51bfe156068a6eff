//! What an agent says, and when, to a coordinator that is made up here.

use std::pin::Pin;

use muster_proto::{
    Generation,
    wire::agent_link_server::{AgentLink, AgentLinkServer},
};
use tokio::sync::watch;
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::{
    config::Config,
    samples::{self, layout},
};

/// Welcomes whoever calls, says what it is told to say, and passes on what it hears.
struct Coordinator {
    tasks: usize,
    heard: mpsc::Sender<from_agent::Body>,
}

#[tonic::async_trait]
impl AgentLink for Coordinator {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut hear, heard) = (request.into_inner(), self.heard.clone());
        tokio::spawn(async move {
            while let Ok(Some(wire::FromAgent { body: Some(said) })) = hear.message().await {
                let _ = heard.send(said).await;
            }
        });
        let (say, saying) = mpsc::channel(64);
        let welcome = wire::Welcome { term: 1, heartbeat_ms: 60_000, ..Default::default() };
        let tasks = (0..self.tasks).map(|nth| wire::Task { id: nth.to_string(), term: 1, kind: None });
        for body in [to_agent::Body::Welcome(welcome)].into_iter().chain(tasks.map(to_agent::Body::Task)) {
            say.send(Ok(wire::ToAgent { body: Some(body) })).await.unwrap();
        }
        // Never ended by this side.
        tokio::spawn(async move { say.closed().await });
        Ok(Response::new(Box::pin(ReceiverStream::new(saying))))
    }
}

fn report(converged: u64) -> Arc<Report> {
    Arc::new(Report {
        term: Term(1),
        received: Generation(7),
        accepted: Generation(7),
        converged: Generation(converged),
        refusal: None,
        instances: Vec::new(),
        ports: Vec::new(),
        server: Err("not looked for yet".into()),
    })
}

#[tokio::test]
async fn nothing_is_reported_before_the_first_look() {
    const TASKS: usize = 10;
    let (base, layout) = layout();
    let socket = base.path().join("coordinator.sock");
    let (heard, mut hears) = mpsc::channel(64);
    let listener = UnixListenerStream::new(tokio::net::UnixListener::bind(&socket).unwrap());
    let service = AgentLinkServer::new(Coordinator { tasks: TASKS, heard });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(listener));

    let config = Config { coordinator: Endpoint::Unix(socket), ..samples::config(base.path()) };
    let (_assignment, assigned) = watch::channel(Arc::new(samples::assignment(muster_proto::Want::Running, false)));
    let (published, publication) = watch::channel(Published { report: report(0), passes: 0, stream: None });
    let (events, _bell) = mpsc::channel(8);
    let trash = Arc::new(crate::trash::Trash::new(layout.clone(), assigned.clone(), config.trash));
    let tasks = Tasks::new(config.clone(), layout, assigned.clone(), events.clone(), trash);
    let news = News { published: publication, assignment: assigned };
    let link = Link::new(config.coordinator, Papers::in_dir(base.path()), samples::hello(), news, events, tasks);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(link.run(shutdown.clone()));

    let Some(from_agent::Body::Hello(hello)) = hears.recv().await else { panic!("the first is not a hello") };
    assert_eq!(hello.held.iter().map(|held| held.cluster.as_str()).collect::<Vec<_>>(), ["orders"]);
    // Its answers show that it was welcomed and could have said more.
    for nth in 0..TASKS {
        let said = hears.recv().await.unwrap();
        assert!(matches!(said, from_agent::Body::TaskResult(_)), "{nth}: {said:?}");
    }
    published.send_replace(Published { report: report(7), passes: 1, stream: None });
    let Some(from_agent::Body::Report(first)) = hears.recv().await else { panic!("no report") };
    assert_eq!(first.converged, 7);
    shutdown.cancel();
    running.await.unwrap();
}

/// It was asked on another stream, where it ended with that; here it would be answered in vain.
#[test]
fn what_is_asked_is_said_on_its_own_stream_alone() {
    let cluster = samples::cluster(muster_proto::Want::Running, false);
    let config = samples::config(std::path::Path::new("/base"));
    let mut status = crate::report::blank(&config, &cluster, &cluster.instances[0]);
    status.asks = Some(muster_proto::Ask { nonce: uuid::Uuid::max(), node_id: samples::id(1), life: status.life });
    let report = Arc::new(Report { instances: vec![status.clone()], ..Report::clone(&report(7)) });
    let asks = |stream, on| Published { report: report.clone(), passes: 1, stream }.on(on).instances[0].asks.is_some();
    assert!(asks(Some(2), 2) && !asks(Some(1), 2) && !asks(None, 2));
}
