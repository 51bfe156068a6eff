//! The stream to the coordinator: dialled again for ever, and carrying state, so that a lost message costs only time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use muster_proto::{
    Hello, Report, Term,
    failure::Failure,
    wire::{self, agent_link_client::AgentLinkClient, from_agent, task_result::Outcome, to_agent},
};
use tokio::{
    net::UnixStream,
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};

use crate::{
    config::Endpoint,
    keeper::{Event, Published},
    tasks::Tasks,
};

/// The heartbeat's period, until the coordinator says another.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One side of the conversation.
pub struct Link {
    endpoint: Endpoint,
    hello: Hello,
    published: watch::Receiver<Published>,
    events: mpsc::Sender<Event>,
    tasks: Arc<Tasks>,
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot reach the coordinator")]
    Dial(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Stream(#[from] tonic::Status),
    #[error("the coordinator has closed the stream")]
    Closed,
    #[error("a coordinator of term {offered} is behind this address; term {obeyed} has been obeyed")]
    OldCoordinator { offered: Term, obeyed: Term },
}

impl Link {
    /// Ready to dial.
    pub fn new(
        endpoint: Endpoint,
        hello: Hello,
        published: watch::Receiver<Published>,
        events: mpsc::Sender<Event>,
        tasks: Arc<Tasks>,
    ) -> Self {
        Self { endpoint, hello, published, events, tasks }
    }

    /// Dials until told to stop. The backoff has jitter and begins anew after every session that got an answer.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let fresh = || {
            let builder = ExponentialBuilder::default().with_jitter().without_max_times();
            builder.with_min_delay(Duration::from_millis(250)).with_max_delay(Duration::from_secs(15)).build()
        };
        let mut backoff = fresh();
        let mut said = String::new();
        loop {
            let mut welcomed = false;
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.session(&mut welcomed) => ended,
            };
            let words = describe(&ended);
            if welcomed {
                backoff = fresh();
                said.clear();
            }
            if words != said {
                tracing::warn!(coordinator = %self.endpoint, "{words}; the redis-servers go on, dialling again");
                said = words;
            }
            let pause = backoff.next().unwrap_or(HEARTBEAT);
            tokio::select! { () = shutdown.cancelled() => return, () = sleep(pause) => {} }
        }
    }

    async fn session(&mut self, welcomed: &mut bool) -> Ended {
        match self.converse(welcomed).await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        }
    }

    async fn converse(&mut self, welcomed: &mut bool) -> Result<(), Ended> {
        let mut client = AgentLinkClient::new(dial(&self.endpoint).await?);
        let (say, saying) = mpsc::channel(64);
        let mut hello = self.hello.clone();
        hello.term = self.published.borrow().report.term;
        let _ = say.send(body(from_agent::Body::Hello(wire::Hello::from(&hello)))).await;
        let mut hear = client.session(ReceiverStream::new(saying)).await?.into_inner();
        let (results, mut done) = mpsc::channel(64);
        let mut sent: Option<(Arc<Report>, Instant)> = None;
        let mut heartbeat = HEARTBEAT;
        self.published.mark_changed();
        loop {
            let message = tokio::select! {
                heard = hear.message() => match heard? {
                    None => return Ok(()),
                    Some(wire::ToAgent { body: Some(said) }) => {
                        self.hear(said, welcomed, &mut heartbeat, &results).await?;
                        continue;
                    }
                    // A newer coordinator may say things that we do not know.
                    Some(wire::ToAgent { body: None }) => continue,
                },
                Some(result) = done.recv() => from_agent::Body::TaskResult(result),
                Ok(()) = self.published.changed(), if *welcomed => {
                    let published = self.published.borrow_and_update().clone();
                    let news = sent.as_ref().is_none_or(|(before, _)| !before.same_but_age(&published.report));
                    match &sent {
                        // Nothing has been looked at yet: that there is nothing would be taken for a fact.
                        _ if published.passes == 0 => continue,
                        _ if news => {
                            sent = Some((published.report.clone(), Instant::now()));
                            from_agent::Body::Report(wire::Report::from(published.report.as_ref()))
                        }
                        Some((report, at)) if at.elapsed() >= heartbeat => {
                            sent = Some((report.clone(), Instant::now()));
                            from_agent::Body::Heartbeat(wire::Heartbeat { passes: published.passes })
                        }
                        _ => continue,
                    }
                }
            };
            if say.send(body(message)).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn hear(
        &self,
        said: to_agent::Body,
        welcomed: &mut bool,
        heartbeat: &mut Duration,
        results: &mpsc::Sender<wire::TaskResult>,
    ) -> Result<(), Ended> {
        let obeyed = self.published.borrow().report.term;
        match said {
            to_agent::Body::Welcome(welcome) => {
                let offered = Term(welcome.term);
                if offered < obeyed {
                    return Err(Ended::OldCoordinator { offered, obeyed });
                }
                *welcomed = true;
                // The loop passes once a second; a little less keeps every pass a heartbeat.
                *heartbeat = Duration::from_millis(u64::from(welcome.heartbeat_ms.clamp(1_000, 60_000)) * 9 / 10);
                tracing::info!(coordinator = %self.endpoint, term = welcome.term, "connected");
            }
            to_agent::Body::Desired(desired) => {
                let _ = self.events.send(Event::Desired(desired)).await;
            }
            to_agent::Body::Leaders(said) => {
                let ids = said.node_ids.iter().map(|id| id.parse()).collect::<Result<_, _>>();
                if let (Ok(cluster), Ok(leaders)) = (said.cluster.parse(), ids) {
                    let _ = self.events.send(Event::Leaders(cluster, leaders)).await;
                }
            }
            to_agent::Body::Task(task) if Term(task.term) < obeyed => {
                let refusal = format!("term {} is lower than term {obeyed}, which this host has obeyed", task.term);
                let _ = results.send(wire::TaskResult { id: task.id, outcome: Some(Outcome::Failed(refusal)) }).await;
            }
            to_agent::Body::Task(task) => {
                let (tasks, results) = (self.tasks.clone(), results.clone());
                tokio::spawn(async move {
                    let _ = results.send(tasks.perform(task).await).await;
                });
            }
        }
        Ok(())
    }
}

fn body(body: from_agent::Body) -> wire::FromAgent {
    wire::FromAgent { body: Some(body) }
}

/// The error and its causes in one line, and what to do where the coordinator says so.
fn describe(ended: &Ended) -> String {
    let mut words = ended.to_string();
    if let Ended::Stream(status) = ended {
        let hint = Failure::from_status(status).and_then(|failure| failure.hint);
        return hint.map_or(words.clone(), |hint| format!("{words} (hint: {hint})"));
    }
    let mut cause = std::error::Error::source(ended);
    while let Some(error) = cause {
        // Some layers only wrap, or repeat the one below them.
        let said = error.to_string();
        if said != "transport error" && !words.ends_with(&said) {
            words = format!("{words}: {said}");
        }
        cause = error.source();
    }
    words
}

/// Keepalive finds a frozen peer in 15 s: without it a machine that has lost its power is never missed.
async fn dial(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let url = match endpoint {
        Endpoint::Loopback(url) => url.clone(),
        Endpoint::Unix(_) => "http://coordinator.local".into(),
    };
    let channel = Channel::from_shared(url.clone())
        .unwrap_or_else(|_| Channel::from_static("http://127.0.0.1"))
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    match endpoint.clone() {
        Endpoint::Loopback(_) => channel.connect().await,
        Endpoint::Unix(path) => {
            let connect = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
            });
            channel.connect_with_connector(connect).await
        }
    }
}

#[cfg(test)]
mod tests;
