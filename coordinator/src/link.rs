//! The coordinator's side of the stream: hears agents, tells them what they should be, and passes tasks and answers.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

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

use crate::{
    caller::Caller,
    estranged::{self, Known, estrangement},
    gate::{Visit, visit},
    inventory::{Inventory, Rival, Session},
    keeper::Shared,
    ledger::{LedgerError, unix_ms},
    safeguard::store_failed,
    trust::TrustState,
};

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
        let visit = visit(&request)?;
        let mut hear = request.into_inner();
        let hello = first(&mut hear).await?;
        let (say, saying) = mpsc::channel(QUEUE);
        let (out, outgoing) = mpsc::channel(QUEUE);
        let (name, session) = welcome(&self.0, &visit, hello, say)?;
        let until = visit.certificate_ms.map(|until| Duration::from_millis(until.saturating_sub(unix_ms())));
        let over = async move {
            match until {
                Some(until) => tokio::time::sleep(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::spawn(pump(self.0.clone(), name.clone(), session, saying, out.clone(), over));
        tokio::spawn(listen(self.0.clone(), name, session, hear, out));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

/// An agent introduces itself first.
pub async fn first(hear: &mut Streaming<wire::FromAgent>) -> Result<wire::Hello, Status> {
    match hear.message().await? {
        Some(wire::FromAgent { body: Some(from_agent::Body::Hello(hello)) }) => Ok(hello),
        _ => Err(Failure::invalid("the first message is not a Hello").into()),
    }
}

/// Lets an agent in, or says why not, and queues the first things that it is told.
fn welcome(
    shared: &Shared,
    visit: &Visit,
    hello: wire::Hello,
    say: mpsc::Sender<wire::ToAgent>,
) -> Result<(HostName, Uuid), Status> {
    let raw = hello.clone();
    let hello = Hello::try_from(hello).map_err(|error| Failure::invalid(error.to_string()))?;
    let spoken = PROTOCOL.saturating_sub(1).max(1)..=PROTOCOL;
    if !spoken.contains(&hello.protocol) {
        let message = format!("the agent speaks protocol {}, this coordinator {spoken:?}", hello.protocol);
        return Err(Failure::new(Reason::ProtocolMismatch, message)
            .hint("install agent and coordinator of neighbouring versions")
            .into());
    }
    let name = hello.host.clone();
    let enrolled = entitled(shared, visit, &name)?;
    let store = |error: LedgerError| Status::from(Failure::new(Reason::StoreFailed, error.to_string()));
    let _sole = shared.decide();
    let clusters = shared.ledger.clusters().map_err(store)?;
    let told = Generation(shared.ledger.desired(&name).map_err(store)?.map_or(0, |desired| desired.generation));
    let known = Known { term: shared.ledger.term(), told, clusters: estranged::clusters(&clusters) };
    let strange = estrangement(&hello, &known);
    let mut inventory = shared.inventory();
    if enrolled && let Some(busy) = await_earlier(&mut inventory, &hello) {
        return Err(busy.into());
    }
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
    match &strange {
        Some(why) => tracing::error!(host = %name, "{why}; see: muster hosts"),
        None if hello.term > known.term => tracing::error!(
            host = %name,
            "has obeyed term {}, and this coordinator is of term {}: it will not listen; either another coordinator \
             runs, or this store is an old copy",
            hello.term,
            known.term
        ),
        None => shared.take_up(&name, &clusters).map_err(store)?,
    }
    let desired = shared.ledger.desired(&name).map_err(store)?;
    let told = Generation(desired.as_ref().map_or(0, |desired| desired.generation));
    let heartbeat_ms = u32::try_from(millis(shared.config.heartbeat)).unwrap_or(u32::MAX);
    let term = shared.ledger.term().0;
    let authorities = if enrolled { shared.door.certificates() } else { Vec::new() };
    let welcome = wire::Welcome { term, coordinator_version: VERSION.to_owned(), heartbeat_ms, authorities };
    let first = [Some(to_agent::Body::Welcome(welcome)), desired.map(to_agent::Body::Desired)];
    for body in first.into_iter().flatten() {
        say.try_send(wire::ToAgent { body: Some(body) }).map_err(|_| Status::internal("a fresh queue is full"))?;
    }
    let session = Uuid::new_v4();
    tracing::info!(host = %name, address = %hello.address, version = hello.agent_version, "connected");
    inventory.arrive(hello, told, Session { id: session, say, asked: HashMap::new() });
    inventory.estrange(&name, strange);
    Ok((name, session))
}

/// Whether the caller may speak for that host, and whether it is an enrolled one. A host that is enrolled comes with
/// its certificate and in no other way.
pub fn entitled(shared: &Shared, visit: &Visit, name: &HostName) -> Result<bool, Failure> {
    let known = shared.ledger.host_trust(name).map_err(store_failed)?;
    match (&visit.caller, known) {
        (Caller::Host { name: own, .. }, _) if own != name => {
            let message = format!("the certificate is host {own}'s, and the agent calls itself {name}");
            Err(Failure::new(Reason::Unauthenticated, message)
                .hint("the agent's config and its enrolment must have the same name; enrol it under the new one"))
        }
        (Caller::Host { key, .. }, Some(known)) if known.key == *key => known.barred().map_or(Ok(true), Err),
        (Caller::Host { .. }, _) => {
            let message = format!("host {name} is not enrolled with this key");
            Err(Failure::new(Reason::Unauthenticated, message)
                .hint(format!("on the coordinator: muster host rejoin-token {name}")))
        }
        (_, Some(_)) => {
            let message = format!("host {name} is enrolled, and must come with its certificate over https://");
            Err(Failure::new(Reason::Unauthenticated, message)
                .hint("write `coordinator = \"https://...\"` into the agent's config"))
        }
        (_, None) => Ok(false),
    }
}

/// Another process with one identity is not let in while the earlier one still speaks: which of the two goes on is
/// found out meanwhile.
fn await_earlier(inventory: &mut Inventory, hello: &Hello) -> Option<Failure> {
    let earlier = inventory.get(&hello.host)?;
    if !inventory.speaks(earlier) || !earlier.is_other(hello) {
        return None;
    }
    let message = format!(
        "an agent with the identity of {} still speaks (pid {}, boot {})",
        hello.host, earlier.hello.pid, earlier.hello.boot_id
    );
    let earlier = inventory.get_mut(&hello.host)?;
    earlier.rival.get_or_insert_with(|| Rival { hello: hello.clone(), at: Instant::now() });
    Some(Failure::new(Reason::HostBusy, message).hint("dial again; if both go on, both are quarantined"))
}

/// Two machines live with one identity: neither is believed any more.
fn part_clones(shared: &Shared, name: &HostName, words: &str) -> Result<(), Failure> {
    let Some(record) = shared.ledger.host_trust(name).map_err(store_failed)? else { return Ok(()) };
    tracing::error!(host = %name, "{words}; both are quarantined");
    let visit = Visit { caller: Caller::Nobody, from: "the coordinator".into(), certificate_ms: None };
    shared.audit(&visit, "clone seen", &format!("{name}: {words}"))?;
    shared.judge_host(&record, TrustState::Quarantined, words).map(drop)
}

/// Passes on what is to be said until there is nobody left to say it: the session was superseded, or dropped.
async fn pump(
    shared: Arc<Shared>,
    name: HostName,
    session: Uuid,
    mut saying: mpsc::Receiver<wire::ToAgent>,
    out: mpsc::Sender<Result<wire::ToAgent, Status>>,
    over: impl Future<Output = ()> + Send,
) {
    let mut over = std::pin::pin!(over);
    loop {
        let said = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            () = out.closed() => break,
            () = &mut over => {
                let ended = Failure::new(Reason::Unauthenticated, format!("the certificate of {name} has expired"));
                let _ = out.send(Err(ended.into())).await;
                break;
            }
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
    if host.has_clone(host.heard)
        && let Some(rival) = host.rival.take()
    {
        let words = format!(
            "two machines live with its identity: pid {} of boot {} at {}, and pid {} of boot {} at {}",
            host.hello.pid,
            host.hello.boot_id,
            host.hello.address,
            rival.hello.pid,
            rival.hello.boot_id,
            rival.hello.address
        );
        drop(inventory);
        part_clones(shared, name, &words)?;
        return Err(Failure::new(Reason::HostQuarantined, words));
    }
    match body {
        from_agent::Body::Report(report) => {
            let report = Report::try_from(report).map_err(|error| Failure::invalid(error.to_string()))?;
            // A malicious or confused agent can only lie about its own host.
            if let Some(other) = report.instances.iter().find(|status| status.host != *name) {
                let message = format!("report.instances: {name} reports an instance of {}", other.host);
                return Err(Failure::invalid(message));
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
            return Err(Failure::invalid("a second Hello on one stream"));
        }
    }
    Ok(())
}
