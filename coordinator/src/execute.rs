//! Asks agents, side by side, and waits for their answers with a deadline.
//!
//! What is asked for is decided elsewhere; here it only travels. A lost answer is *unknown*, and asking again is safe:
//! agents remember what they have answered.

mod preflight;
pub(crate) mod trash;

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use muster_proto::{
    ClusterName, HostName, Port, SlotRange,
    convert::millis,
    wire::{self, task::Kind, task_result::Outcome},
};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use uuid::Uuid;

use crate::{blueprint::Blueprint, formation::resumed::Leader, keeper::Shared, ledger::unix_ms};

/// Patience for a write's acknowledgement.
const CANARY: Duration = Duration::from_secs(2);
/// Patience for a replica that takes over: more than the server's own 5 s (`CLUSTER_MF_TIMEOUT`, cluster.c).
const HAND_OVER: Duration = Duration::from_secs(7);
/// Patience for other answers.
const ANSWER: Duration = Duration::from_secs(10);

impl Shared {
    /// Asks one agent. The error says why there is no answer, or why the agent could not.
    pub async fn ask(&self, host: &HostName, kind: Kind, patience: Duration) -> Result<Outcome, String> {
        match self.ask_as(Uuid::now_v7().to_string(), host, kind, patience).await? {
            Outcome::Failed(why) => Err(why),
            outcome => Ok(outcome),
        }
    }

    /// The same with an id that was drawn before: an agent that has answered it answers so again. The error says why
    /// there is no answer.
    async fn ask_as(&self, id: String, host: &HostName, kind: Kind, patience: Duration) -> Result<Outcome, String> {
        let (answer, answered) = oneshot::channel();
        let say = {
            let mut inventory = self.inventory();
            let overdue = inventory.overdue();
            let found = inventory.get_mut(host).ok_or_else(|| format!("no agent calls itself {host}"))?;
            let age = found.heard.elapsed();
            let heard = age.as_secs();
            let session = found.session.as_mut();
            let session = session.ok_or_else(|| format!("it is not connected, and was last heard of {heard} s ago"))?;
            if age > overdue {
                // A stream that is frozen stays open for long; nobody need wait for it.
                return Err(format!("it is connected and silent, and was last heard of {heard} s ago"));
            }
            session.asked.insert(id.clone(), answer);
            session.say.clone()
        };
        let task = wire::Task { id: id.clone(), term: self.ledger.term().0, kind: Some(kind) };
        let message = wire::ToAgent { body: Some(wire::to_agent::Body::Task(task)) };
        let answer = timeout(patience, async move {
            say.send(message).await.ok()?;
            answered.await.ok()
        })
        .await;
        if let Some(session) = self.inventory().get_mut(host).and_then(|found| found.session.as_mut()) {
            session.asked.remove(&id);
        }
        match answer {
            Ok(Some(wire::TaskResult { outcome: Some(outcome), .. })) => Ok(outcome),
            Ok(Some(wire::TaskResult { outcome: None, .. })) => Err("its answer is not understood".into()),
            Ok(None) => Err("its stream has ended".into()),
            Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
        }
    }

    /// Asks several at once.
    async fn ask_all<F, T>(&self, asks: impl IntoIterator<Item = (HostName, F)>) -> BTreeMap<HostName, T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let mut all = JoinSet::new();
        for (host, ask) in asks {
            all.spawn(async move { (host, ask.await) });
        }
        all.join_all().await.into_iter().collect()
    }

    /// Has an agent try an instance now; whether it ran already.
    pub async fn start(&self, host: &HostName, task: wire::Start) -> Result<bool, String> {
        match self.ask(host, Kind::Start(task), ANSWER).await? {
            Outcome::Start(result) => Ok(result.running),
            _ => Err("its answer is of another kind".into()),
        }
    }

    /// Has a replica take over. The error says why there is no answer: whether it has, is not known then.
    pub async fn hand_over(
        &self,
        host: &HostName,
        id: String,
        kind: impl FnOnce(u32) -> Kind,
    ) -> Result<Outcome, String> {
        let kind = kind(u32::try_from(millis(HAND_OVER)).unwrap_or(u32::MAX));
        self.ask_as(id, host, kind, HAND_OVER * 2 + ANSWER).await
    }

    /// A piece of an instance's log.
    pub async fn read_log(&self, host: &HostName, task: wire::ReadLog) -> Result<wire::LogChunk, String> {
        match self.ask(host, Kind::ReadLog(task), ANSWER).await? {
            Outcome::Log(chunk) => Ok(chunk),
            _ => Err("its answer is of another kind".into()),
        }
    }

    /// What has happened on hosts; why that of some is not known.
    pub async fn events(
        self: &std::sync::Arc<Self>,
        hosts: Vec<HostName>,
        task: &wire::Events,
    ) -> BTreeMap<HostName, Result<Vec<wire::AgentEvent>, String>> {
        let asks = hosts.into_iter().map(|host| {
            let (shared, name, task) = (self.clone(), host.clone(), task.clone());
            (host, async move {
                match shared.ask(&name, Kind::Events(task), ANSWER).await? {
                    Outcome::Events(result) => Ok(result.events),
                    _ => Err("its answer is of another kind".into()),
                }
            })
        });
        self.ask_all(asks).await
    }

    /// How hosts are, and how their clocks differ; why that of some is not known.
    pub async fn facts(
        self: &std::sync::Arc<Self>,
        hosts: Vec<HostName>,
    ) -> BTreeMap<HostName, Result<(wire::FactsResult, i64), String>> {
        let asks = hosts.into_iter().map(|host| {
            let (shared, name) = (self.clone(), host.clone());
            (host, async move {
                let (sent, clock) = (unix_ms(), Instant::now());
                match shared.ask(&name, Kind::Facts(wire::Facts {}), ANSWER).await? {
                    Outcome::Facts(facts) => {
                        let skew = skew(facts.unix_ms, sent, clock);
                        Ok((facts, skew))
                    }
                    _ => Err("its answer is of another kind".into()),
                }
            })
        });
        self.ask_all(asks).await
    }

    /// Proves that every master takes a write and has its replicas acknowledge it. The error names the first that does
    /// not.
    pub async fn canary(
        self: &std::sync::Arc<Self>,
        cluster: &ClusterName,
        masters: Vec<Leader>,
    ) -> Result<(), String> {
        // One with fewer replicas than the others of its host is not waited for in vain.
        let mut by_host: BTreeMap<HostName, (Vec<Port>, usize)> = BTreeMap::new();
        for Leader { host, port, replicas } in masters {
            let (ports, least) = by_host.entry(host).or_insert((Vec::new(), replicas));
            ports.push(port);
            *least = replicas.min(*least);
        }
        let asks = by_host.into_iter().map(|(host, (ports, replicas))| {
            let task = wire::Canary {
                cluster: cluster.to_string(),
                ports: ports.into_iter().map(u32::from).collect(),
                replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
                timeout_ms: u32::try_from(millis(CANARY)).unwrap_or(u32::MAX),
            };
            let (shared, name) = (self.clone(), host.clone());
            (host, async move { shared.ask(&name, Kind::Canary(task), ANSWER).await })
        });
        let failed = |(host, outcome): (HostName, Result<Outcome, String>)| match outcome {
            Ok(Outcome::Canary(result)) => result
                .ports
                .into_iter()
                .find(|port| !port.error.is_empty())
                .map(|port| format!("{host}:{} does not take a write: {}", port.port, port.error)),
            Ok(_) => Some(format!("{host} has answered something else")),
            Err(why) => Some(format!("{host}: {why}")),
        };
        match self.ask_all(asks).await.into_iter().find_map(failed) {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    /// Fresh views of every instance of a cluster, texts included, and why there is none of some hosts.
    pub async fn probe(
        self: &std::sync::Arc<Self>,
        blueprint: &Blueprint,
    ) -> BTreeMap<HostName, Result<Vec<wire::InstanceStatus>, String>> {
        let asks = blueprint.hosts().into_iter().map(|host| {
            let task = wire::Probe { cluster: blueprint.cluster.to_string() };
            let (shared, name) = (self.clone(), host.clone());
            (host, async move { shared.ask(&name, Kind::Probe(task), ANSWER).await })
        });
        let read = |(host, outcome)| match outcome {
            Ok(Outcome::Probe(result)) => (host, Ok(result.instances)),
            Ok(_) => (host, Err("its answer is of another kind".into())),
            Err(why) => (host, Err(why)),
        };
        self.ask_all(asks).await.into_iter().map(read).collect()
    }

    /// Has an agent be a client of the cluster.
    pub async fn smoke(
        &self,
        from: &HostName,
        cluster: &ClusterName,
        seeds: Vec<wire::Target>,
        masters: Vec<SlotRange>,
    ) -> Result<Vec<wire::SmokeStep>, String> {
        let masters = masters.into_iter().map(wire::SlotRange::from).collect();
        let task = wire::Smoke { cluster: cluster.to_string(), seeds, masters };
        match self.ask(from, Kind::Smoke(task), ANSWER * 3).await? {
            Outcome::Smoke(result) => Ok(result.steps),
            _ => Err("its answer is of another kind".into()),
        }
    }
}

/// A host's clock less ours, in milliseconds. The agent reads it last, just before it answers.
fn skew(theirs: u64, sent: u64, clock: Instant) -> i64 {
    let ours = sent + millis(clock.elapsed());
    i64::try_from(theirs).unwrap_or(0) - i64::try_from(ours).unwrap_or(0)
}

#[cfg(test)]
mod tests;
