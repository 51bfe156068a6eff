//! The coordinator's side of the stream: hears agents, tells them what they should be, and passes tasks and answers.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Instant};

use muster_proto::{
    Generation, Hello, HostName, PROTOCOL, Report, VERSION,
    convert::millis,
    failure::{Failure, Reason},
    wire::{self, agent_link_server::AgentLink, from_agent, to_agent},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{inventory::Session, keeper::Shared, ledger::LedgerError};

/// Messages to one agent that wait for its stream. What is wished is sent anew on every connect, so a full queue means
/// a dead reader.
const QUEUE: usize = 256;

/// The service.
pub struct Link(Arc<Shared>);

impl Link {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Link {
    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Messages>, Status> {
        let mut hear = request.into_inner();
        let Some(wire::FromAgent { body: Some(from_agent::Body::Hello(hello)) }) = hear.message().await? else {
            return Err(Failure::new(Reason::InvalidArgument, "the first message is not a Hello").into());
        };
        let (say, saying) = mpsc::channel(QUEUE);
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (name, session) = welcome(&self.0, hello, say)?;
        tokio::spawn(pump(self.0.clone(), name.clone(), session, saying, out.clone()));
        tokio::spawn(listen(self.0.clone(), name, session, hear, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// Lets an agent in, or says why not, and queues the first things that it is told.
fn welcome(shared: &Shared, hello: wire::Hello, say: mpsc::Sender<wire::ToAgent>) -> Result<(HostName, Uuid), Status> {
    let raw = hello.clone();
    let hello = Hello::try_from(hello).map_err(|error| Failure::new(Reason::InvalidArgument, error.to_string()))?;
    let spoken = PROTOCOL.saturating_sub(1).max(1)..=PROTOCOL;
    if !spoken.contains(&hello.protocol) {
        let message = format!("the agent speaks protocol {}, this coordinator {spoken:?}", hello.protocol);
        return Err(Failure::new(Reason::ProtocolMismatch, message)
            .hint("install agent and coordinator of neighbouring versions")
            .into());
    }
    let name = hello.host.clone();
    if hello.term > shared.ledger.term() {
        tracing::error!(
            host = %name,
            "has obeyed term {}, and this coordinator is of term {}: it will not listen; either another coordinator \
             runs, or this store is an old copy",
            hello.term,
            shared.ledger.term()
        );
    }
    let store = |error: LedgerError| Status::from(Failure::new(Reason::StoreFailed, error.to_string()));
    let mut inventory = shared.inventory();
    if let Some(other) = inventory.get(&name)
        && other.hello.identity != hello.identity
        && inventory.live(other)
    {
        let message = format!(
            "the name {name} is in use by the agent at {} (base directory {}, pid {})",
            other.hello.address, other.hello.base_dir, other.hello.pid
        );
        return Err(Failure::new(Reason::HostNameTaken, message)
            .hint("give this host another `name` in its agent's config")
            .into());
    }
    shared.ledger.write(|write| write.host(&name, &raw)).map_err(store)?;
    let desired = shared.ledger.desired(&name).map_err(store)?;
    let told = Generation(desired.as_ref().map_or(0, |desired| desired.generation));
    let heartbeat_ms = u32::try_from(millis(shared.config.heartbeat)).unwrap_or(u32::MAX);
    let term = shared.ledger.term().0;
    let welcome =
        wire::Welcome { term, coordinator_version: VERSION.to_owned(), heartbeat_ms, authorities: Vec::new() };
    let first = [Some(to_agent::Body::Welcome(welcome)), desired.map(to_agent::Body::Desired)];
    for body in first.into_iter().flatten() {
        say.try_send(wire::ToAgent { body: Some(body) }).map_err(|_| Status::internal("a fresh queue is full"))?;
    }
    let session = Uuid::new_v4();
    tracing::info!(host = %name, address = %hello.address, version = hello.agent_version, "connected");
    inventory.arrive(hello, told, Session { id: session, say, asked: HashMap::new() });
    Ok((name, session))
}

/// Passes on what is to be said until there is nobody left to say it: the session was superseded, or dropped.
async fn pump(
    shared: Arc<Shared>,
    name: HostName,
    session: Uuid,
    mut saying: mpsc::Receiver<wire::ToAgent>,
    out: mpsc::Sender<Result<wire::ToAgent, Status>>,
) {
    loop {
        let said = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            () = out.closed() => break,
            said = saying.recv() => said,
        };
        let Some(message) = said else {
            let ended = Failure::new(Reason::Superseded, format!("{name} has connected again, or was not reading"));
            let _ = out.send(Err(ended.into())).await;
            break;
        };
        if out.send(Ok(message)).await.is_err() {
            break;
        }
    }
    shared.inventory().depart(&name, session);
    shared.ring();
}

/// Hears an agent until its stream ends.
async fn listen(
    shared: Arc<Shared>,
    name: HostName,
    session: Uuid,
    mut hear: Streaming<wire::FromAgent>,
    out: mpsc::Sender<Result<wire::ToAgent, Status>>,
) {
    loop {
        let heard = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            () = out.closed() => break,
            heard = hear.message() => heard,
        };
        match heard {
            Ok(Some(wire::FromAgent { body: Some(body) })) => {
                if let Err(failure) = take_in(&shared, &name, session, body) {
                    tracing::warn!(host = %name, "{failure}");
                    let _ = out.send(Err(failure.into())).await;
                    break;
                }
            }
            // A newer agent may say things that we do not know.
            Ok(Some(wire::FromAgent { body: None })) => {}
            Ok(None) | Err(_) => break,
        }
    }
    tracing::info!(host = %name, "disconnected");
    shared.inventory().depart(&name, session);
    shared.ring();
}

fn take_in(shared: &Shared, name: &HostName, session: Uuid, body: from_agent::Body) -> Result<(), Failure> {
    let mut inventory = shared.inventory();
    let current = inventory.get_mut(name).filter(|host| host.session.as_ref().is_some_and(|now| now.id == session));
    let Some(host) = current else {
        return Err(Failure::new(Reason::Superseded, format!("{name} has connected again")));
    };
    host.heard = Instant::now();
    match body {
        from_agent::Body::Report(report) => {
            let report =
                Report::try_from(report).map_err(|error| Failure::new(Reason::InvalidArgument, error.to_string()))?;
            // A malicious or confused agent can only lie about its own host.
            if let Some(other) = report.instances.iter().find(|status| status.host != *name) {
                let message = format!("report.instances: {name} reports an instance of {}", other.host);
                return Err(Failure::new(Reason::InvalidArgument, message));
            }
            host.report = Some(report);
            drop(inventory);
            shared.ring();
        }
        from_agent::Body::Heartbeat(_) => {}
        from_agent::Body::TaskResult(result) => {
            if let Some(asked) = host.session.as_mut().and_then(|session| session.asked.remove(&result.id)) {
                let _ = asked.send(result);
            }
        }
        from_agent::Body::Hello(_) => {
            return Err(Failure::new(Reason::InvalidArgument, "a second Hello on one stream"));
        }
    }
    Ok(())
}
