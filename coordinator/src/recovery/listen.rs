//! Hears the agents in the coordinator's place: welcomes whoever may speak for a host, asks what there is, and orders
//! nothing.
//!
//! An agent does not listen to a coordinator of a lower term than it has obeyed. Here nothing is ordered, so each is
//! welcomed in the term that it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::Arc,
};

use muster_proto::{
    Hello, HostName, PROTOCOL, VERSION,
    convert::millis,
    failure::{Failure, Reason},
    wire::{self, agent_link_server::AgentLink, from_agent, task::Kind, task_result::Outcome, to_agent::Body},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{Evidence, Testimony};
use crate::{
    gate::visit,
    keeper::Shared,
    link::{entitled, first},
};

/// What was heard so far.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Who has told.
    pub evidence: Evidence,
    /// Who has called and has not told; why.
    pub silent: BTreeMap<HostName, String>,
}

/// The service.
pub struct Listener {
    /// The empty store, and the door.
    pub shared: Arc<Shared>,
    /// These alone are heard; everybody where it is empty.
    pub only: BTreeSet<HostName>,
    /// Where what was heard is put together.
    pub heard: watch::Sender<Heard>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<wire::ToAgent, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Listener {
    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Messages>, Status> {
        let visit = visit(&request)?;
        let mut hear = request.into_inner();
        let hello = Hello::try_from(first(&mut hear).await?).map_err(|error| Failure::invalid(error.to_string()))?;
        if hello.protocol > PROTOCOL {
            let message = format!("the agent speaks protocol {}, this coordinator {PROTOCOL}", hello.protocol);
            return Err(Failure::new(Reason::ProtocolMismatch, message).into());
        }
        let enrolled = entitled(&self.shared, &visit, &hello.host)?;
        self.expect(&hello)?;
        let (say, saying) = mpsc::channel(8);
        let term = self.shared.ledger.term().max(hello.term).0;
        let authorities = if enrolled { self.shared.door.certificates() } else { Vec::new() };
        let heartbeat_ms = u32::try_from(millis(self.shared.config.heartbeat)).unwrap_or(u32::MAX);
        let welcome = wire::Welcome { term, coordinator_version: VERSION.to_owned(), heartbeat_ms, authorities };
        let task = wire::Task { id: Uuid::now_v7().to_string(), term, kind: Some(Kind::Disclose(wire::Disclose {})) };
        for body in [Body::Welcome(welcome), Body::Task(task)] {
            let message = wire::ToAgent { body: Some(body) };
            say.try_send(Ok(message)).map_err(|_| Status::internal("a fresh queue is full"))?;
        }
        tokio::spawn(listen(self.shared.clone(), hello, hear, say, self.heard.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(saying))))
    }
}

impl Listener {
    /// Whether this host is asked: it was named, and is not another machine of a name that has spoken.
    fn expect(&self, hello: &Hello) -> Result<(), Failure> {
        if !self.only.is_empty() && !self.only.contains(&hello.host) {
            let message =
                format!("a store is being rebuilt, and {} is not among the hosts that were named", hello.host);
            return Err(Failure::new(Reason::HostPending, message).hint("start the coordinator when that is done"));
        }
        let heard = self.heard.borrow();
        match heard.evidence.get(&hello.host) {
            Some(known) if known.hello.identity != hello.identity => {
                let message = format!(
                    "the name {} is in use by the agent at {} (base directory {})",
                    hello.host, known.hello.address, known.hello.base_dir
                );
                Err(Failure::new(Reason::HostNameTaken, message)
                    .hint("give this host another `name` in its agent's config"))
            }
            _ => Ok(()),
        }
    }
}

/// Takes in the answer, and keeps the stream as long as it lasts, so that the agent need not dial again and again.
async fn listen(
    shared: Arc<Shared>,
    hello: Hello,
    mut hear: Streaming<wire::FromAgent>,
    say: mpsc::Sender<Result<wire::ToAgent, Status>>,
    heard: watch::Sender<Heard>,
) {
    loop {
        let message = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            () = say.closed() => break,
            message = hear.message() => message,
        };
        let Ok(Some(wire::FromAgent { body })) = message else { break };
        let Some(from_agent::Body::TaskResult(result)) = body else { continue };
        let host = hello.host.clone();
        heard.send_modify(|heard| match result.outcome {
            Some(Outcome::Disclosure(said)) => {
                heard.silent.remove(&host);
                heard.evidence.insert(host, Testimony::of(hello.clone(), said));
            }
            Some(Outcome::Failed(why)) => {
                heard.silent.insert(host, why);
            }
            _ => {
                heard.silent.insert(host, "its answer is not understood".into());
            }
        });
    }
}
