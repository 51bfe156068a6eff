//! The stream to the coordinator: dialled again for ever, and carrying state, so that a lost message costs only time.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use muster_proto::{
    Held, Hello, HostAssignment, Report, Term,
    failure::{Failure, Reason},
    wire::{self, agent_link_client::AgentLinkClient, from_agent, task_result::Outcome, to_agent},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    config::Endpoint,
    dial::{self, DialError, Manner, dial},
    enrol::{EnrolError, now_s, renew},
    identity::{Enrolled, IdentityError, Papers},
    keeper::{Event, Published},
    tasks::Tasks,
};

/// The heartbeat's period, until the coordinator says another.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two tries to renew a certificate that still holds.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Whoever approves a host looks whether it comes.
const APPROVAL: Duration = Duration::from_secs(2);

type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the loop makes known.
pub struct News {
    /// The outcome of its last pass.
    pub published: watch::Receiver<Published>,
    /// What this host should be.
    pub assignment: watch::Receiver<Arc<HostAssignment>>,
}

/// One side of the conversation.
pub struct Link {
    endpoint: Endpoint,
    papers: Papers,
    hello: Hello,
    published: watch::Receiver<Published>,
    assignment: watch::Receiver<Arc<HostAssignment>>,
    events: mpsc::Sender<Event>,
    tasks: Arc<Tasks>,
    /// The number of the stream that is on, or is being opened.
    stream: u64,
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot renew the certificate of this host")]
    Renew(#[source] EnrolError),
    #[error("the certificate of this host was renewed")]
    Renewed,
    #[error("{}", .0.message())]
    Stream(#[from] tonic::Status),
    #[error("the coordinator has closed the stream")]
    Closed,
    #[error("a coordinator of term {offered} is behind this address; term {obeyed} has been obeyed")]
    OldCoordinator { offered: Term, obeyed: Term },
}

impl Ended {
    fn is(&self, reasons: &[Reason]) -> bool {
        let Self::Stream(status) = self else { return false };
        Failure::from_status(status).is_some_and(|failure| reasons.iter().any(|reason| failure.is(*reason)))
    }

    /// Whether the coordinator was reached, and does not let this host take part.
    fn is_bar(&self) -> bool {
        self.is(&[Reason::HostPending, Reason::HostQuarantined, Reason::HostRevoked])
    }

    /// Whether somebody is about to let it in again.
    fn is_pending(&self) -> bool {
        self.is(&[Reason::HostPending, Reason::HostQuarantined])
    }
}

impl Link {
    /// Ready to dial.
    pub fn new(
        endpoint: Endpoint,
        papers: Papers,
        hello: Hello,
        News { published, assignment }: News,
        events: mpsc::Sender<Event>,
        tasks: Arc<Tasks>,
    ) -> Self {
        Self { endpoint, papers, hello, published, assignment, events, tasks, stream: 0 }
    }

    /// Who we are, and what we hold now.
    fn greeting(&self) -> Hello {
        let published = self.published.borrow();
        let held = self.assignment.borrow().clusters.iter().map(Held::from).collect();
        Hello { term: published.report.term, generation: published.report.accepted, held, ..self.hello.clone() }
    }

    /// Dials until told to stop. The backoff has jitter and begins anew after every session that got an answer, and
    /// when this host is enrolled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let news = self.papers.news();
        if let Err(error) = &news {
            tracing::warn!(%error, "an enrolment is noticed only when the coordinator is dialled next");
        }
        let enrolled = async || match &news {
            Ok(news) => news.next().await,
            Err(_) => std::future::pending().await,
        };
        let fresh = || {
            let builder = ExponentialBuilder::default().with_jitter().without_max_times();
            builder.with_min_delay(Duration::from_millis(250)).with_max_delay(Duration::from_secs(15)).build()
        };
        let mut backoff = fresh();
        let mut said = String::new();
        loop {
            let mut welcomed = false;
            self.stream += 1;
            let ended = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.session(&mut welcomed) => ended,
            };
            if welcomed {
                let _ = self.events.send(Event::Parted(self.stream)).await;
                backoff = fresh();
                said.clear();
            }
            if matches!(ended, Ended::Renewed) {
                tracing::info!(coordinator = %self.endpoint, "{ended}; dialling again with it");
                continue;
            }
            if ended.is_bar() {
                let _ = self.events.send(Event::Barred).await;
            }
            let words = describe(&ended);
            if words != said {
                tracing::warn!(coordinator = %self.endpoint, "{words}; the redis-servers go on, dialling again");
                said = words;
            }
            let pause = backoff.next().unwrap_or(HEARTBEAT);
            let pause = if ended.is_pending() { pause.min(APPROVAL) } else { pause };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = enrolled() => backoff = fresh(),
                () = sleep(pause) => {}
            }
        }
    }

    async fn session(&mut self, welcomed: &mut bool) -> Ended {
        match self.converse(welcomed).await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        }
    }

    /// Dials as the host that we are, with a certificate that holds.
    async fn connect(&self) -> Result<(Channel, Option<Enrolled>), Ended> {
        if !matches!(self.endpoint, Endpoint::Tls(_)) {
            return Ok((dial(&self.endpoint, None).await?, None));
        }
        let mut known = self.papers.load(self.hello.host.as_str())?;
        if known.is_over(now_s()) {
            tracing::info!("the certificate of this host has ended; renewing it");
            let renewed = renew(&self.endpoint, &self.hello.host, &self.papers, &known).await;
            known = renewed.map_err(Ended::Renew)?;
        }
        let manner = Manner { believes: &known.believes(), identity: Some(&known.identity) };
        Ok((dial(&self.endpoint, Some(manner)).await?, Some(known)))
    }

    async fn converse(&mut self, welcomed: &mut bool) -> Result<(), Ended> {
        let (channel, mut known) = self.connect().await?;
        let mut renewal: Timer = Box::pin(renewal(known.clone()));
        let mut client = AgentLinkClient::new(channel);
        let (say, saying) = mpsc::channel(64);
        let _ = say.send(body(from_agent::Body::Hello(wire::Hello::from(&self.greeting())))).await;
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
                        if let to_agent::Body::Welcome(welcome) = &said
                            && let Some(known) = known.as_mut()
                            && known.learn(&welcome.authorities)
                        {
                            self.papers.believe(&known.authorities)?;
                            renewal = Box::pin(self::renewal(Some(known.clone())));
                        }
                        self.hear(said, welcomed, &mut heartbeat, &results).await?;
                        continue;
                    }
                    // A newer coordinator may say things that we do not know.
                    Some(wire::ToAgent { body: None }) => continue,
                },
                () = &mut renewal => {
                    let Some(known) = &known else { continue };
                    match renew(&self.endpoint, &self.hello.host, &self.papers, known).await {
                        Ok(_) => return Err(Ended::Renewed),
                        Err(error) => {
                            let words = dial::words(&error);
                            tracing::warn!("cannot renew the certificate of this host: {words}; trying again");
                            renewal = Box::pin(sleep(RENEW_AGAIN));
                            continue;
                        }
                    }
                }
                Some(result) = done.recv() => from_agent::Body::TaskResult(result),
                Ok(()) = self.published.changed(), if *welcomed => {
                    let published = self.published.borrow_and_update().clone();
                    let news = sent.as_ref().is_none_or(|(before, _)| !before.same_but_age(&published.report));
                    match &sent {
                        // Nothing has been looked at yet: that there is nothing would be taken for a fact.
                        _ if published.passes == 0 => continue,
                        _ if news => {
                            sent = Some((published.report.clone(), Instant::now()));
                            from_agent::Body::Report(published.on(self.stream))
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
                if !std::mem::replace(welcomed, true) {
                    let _ = self.events.send(Event::Connected(self.stream)).await;
                }
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
            // Nothing was asked on a stream that is not on yet.
            to_agent::Body::Permit(_) if !*welcomed => {}
            to_agent::Body::Permit(permit) => {
                let _ = self.events.send(Event::Permit(self.stream, permit)).await;
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

impl Published {
    /// The report as it is said on a stream: what was asked for on another is void.
    fn on(&self, stream: u64) -> wire::Report {
        let mut report = wire::Report::from(self.report.as_ref());
        if self.stream != Some(stream) {
            report.instances.iter_mut().for_each(|instance| instance.asks = None);
        }
        report
    }
}

fn body(body: from_agent::Body) -> wire::FromAgent {
    wire::FromAgent { body: Some(body) }
}

/// The error and its causes in one line, and what to do where the coordinator says so.
fn describe(ended: &Ended) -> String {
    let hint = match ended {
        Ended::Stream(status) => Failure::from_status(status).and_then(|failure| failure.hint),
        Ended::Renew(error) => error.hint(),
        _ => None,
    };
    let words = if let Ended::Stream(_) = ended { ended.to_string() } else { dial::words(ended) };
    hint.map_or(words.clone(), |hint| format!("{words} (hint: {hint})"))
}

/// Ends when the certificate should be renewed; never without one.
async fn renewal(known: Option<Enrolled>) {
    match known.map(|known| known.renew_in(now_s(), jitter())) {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// 0-1, of the clock's last digits: hosts that were enrolled at once need not renew at once, and no more is asked of
/// it.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    f64::from(nanos % 1_000_000) / 1_000_000.0
}

#[cfg(test)]
mod tests;
