//! The few imperative things that the coordinator can ask for. Each has an id: the same id again gets the same answer
//! again, without the work being done again.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use muster_proto::{
    ClusterAssignment, ClusterId, HostAssignment, Incarnation, InstanceTls, NodeId, Port,
    ids::HexError,
    printable,
    wire::{self, task::Kind, task_result::Outcome},
};
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell, mpsc, oneshot, watch::Receiver},
    task::JoinSet,
};

use crate::{
    appraise::appraise,
    config::Config,
    disclose, events,
    hand_over::hand_over,
    keeper::Event,
    layout::{InstanceDir, Layout},
    logs,
    process::{Found, Process},
    smoke,
    survey::{self, Held},
    talk::{Talk, TalkError},
    trash::Trash,
    watch,
};

/// Answers kept for those who ask again.
const REMEMBERED: usize = 256;

type Answer = Arc<OnceCell<Outcome>>;

/// Performs tasks, several at once.
#[derive(Debug)]
pub struct Tasks {
    config: Config,
    layout: Layout,
    assignment: Receiver<Arc<HostAssignment>>,
    bell: mpsc::Sender<Event>,
    trash: Arc<Trash>,
    held: AsyncMutex<(Held, u64)>,
    answers: Mutex<(HashMap<String, Answer>, VecDeque<String>)>,
}

impl Tasks {
    /// With the assignment as it changes.
    pub fn new(
        config: Config,
        layout: Layout,
        assignment: Receiver<Arc<HostAssignment>>,
        bell: mpsc::Sender<Event>,
        trash: Arc<Trash>,
    ) -> Arc<Self> {
        let held = AsyncMutex::new((Held::default(), 0));
        Arc::new(Self { config, layout, assignment, bell, trash, held, answers: Mutex::default() })
    }

    /// Performs a task, or waits for the one with the same id, or remembers its answer.
    pub async fn perform(self: Arc<Self>, task: wire::Task) -> wire::TaskResult {
        // A log is not remembered: it is long, and can be read again. Nor is what holds passwords.
        if let Some(Kind::ReadLog(_) | Kind::Disclose(_)) = &task.kind {
            let outcome = self.work(task.kind).await.unwrap_or_else(Outcome::Failed);
            return wire::TaskResult { id: task.id, outcome: Some(outcome) };
        }
        let cell = self.answer(&task.id);
        let outcome =
            cell.get_or_init(|| async { self.clone().work(task.kind).await.unwrap_or_else(Outcome::Failed) }).await;
        wire::TaskResult { id: task.id, outcome: Some(outcome.clone()) }
    }

    fn answer(&self, id: &str) -> Answer {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, order) = &mut *answers;
        if let Some(answer) = known.get(id) {
            return answer.clone();
        }
        order.push_back(id.to_owned());
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        known.entry(id.to_owned()).or_default().clone()
    }

    async fn work(self: Arc<Self>, kind: Option<Kind>) -> Result<Outcome, String> {
        match kind {
            Some(Kind::Survey(task)) => self.survey(task).await.map(Outcome::Survey),
            Some(Kind::Reach(task)) => Ok(Outcome::Reach(survey::reach(self.config.address, &task).await)),
            Some(Kind::Release(_)) => {
                self.held.lock().await.0 = Held::default();
                Ok(Outcome::Release(wire::ReleaseResult {}))
            }
            Some(Kind::Canary(task)) => self.canary(task).await.map(Outcome::Canary),
            Some(Kind::Probe(task)) => self.probe(&task.cluster).await.map(Outcome::Probe),
            Some(Kind::Smoke(task)) => smoke::smoke(&task, self.access(&task.cluster)?)
                .await
                .map(|steps| Outcome::Smoke(wire::SmokeResult { steps })),
            Some(Kind::Facts(_)) => Ok(Outcome::Facts(survey::facts(&self.layout))),
            Some(Kind::Events(task)) => {
                let cluster = Some(task.cluster.as_str()).filter(|name| !name.is_empty());
                let most = usize::try_from(task.most).unwrap_or(usize::MAX).min(10_000);
                let newest = events::newest(&self.layout.agent_dir(), cluster, most);
                let events = newest.into_iter().map(wire::AgentEvent::from).collect();
                Ok(Outcome::Events(wire::EventsResult { events }))
            }
            Some(Kind::ReadLog(task)) => self.read_log(&task).await.map(Outcome::Log),
            Some(Kind::Start(task)) => self.start(&task).await.map(Outcome::Start),
            Some(Kind::HandOver(task)) => self.hand_over(&task).await.map(Outcome::HandOver),
            Some(Kind::Appraise(task)) => {
                let watched = Duration::from_millis(task.watch_ms.clamp(100, 5_000).into());
                Ok(Outcome::Appraisal(appraise(&self.layout, &self.cluster(&task.cluster)?, watched).await))
            }
            Some(Kind::Rummage(task)) => self.rummage(&task).await.map(Outcome::Rummage),
            Some(Kind::Purge(task)) => self.purge(&task).await.map(Outcome::Purge),
            Some(Kind::Disclose(_)) => Ok(Outcome::Disclosure(disclose::disclose(&self.layout, &self.config.ports))),
            None => Err("this task is not known to this agent; upgrade it".into()),
        }
    }

    async fn survey(self: Arc<Self>, task: wire::Survey) -> Result<wire::SurveyResult, String> {
        let mut slot = self.held.lock().await;
        // Ours from an earlier survey are not in the way of this one.
        slot.0 = Held::default();
        let (result, held) = survey::survey(&self.config, &self.layout, &task).await?;
        slot.0 = held;
        crash::point("agent.survey.held");
        slot.1 += 1;
        let (nth, patience) = (slot.1, Duration::from_millis(task.hold_ms.clamp(1_000, 60_000).into()));
        drop(slot);
        // The coordinator may be gone before it releases.
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let mut slot = self.held.lock().await;
            if slot.1 == nth {
                slot.0 = Held::default();
            }
        });
        Ok(result)
    }

    async fn rummage(&self, task: &wire::Rummage) -> Result<wire::RummageResult, String> {
        let cluster = match task.cluster_id.as_str() {
            "" => None,
            id => Some(cluster_id(id)?),
        };
        let trash = self.trash.clone();
        apart(move || trash.rummage(cluster)).await
    }

    async fn purge(&self, task: &wire::Purge) -> Result<wire::PurgeResult, String> {
        let cluster = cluster_id(&task.cluster_id)?;
        let incarnation = (task.incarnation > 0).then_some(Incarnation(task.incarnation));
        let trash = self.trash.clone();
        let result = apart(move || trash.purge(cluster, incarnation)).await?;
        let said = result.directories.iter().map(|gone| format!("{} is gone from the trash: by command", gone.name));
        let said: Vec<_> = said.collect();
        if !said.is_empty() {
            let _ = self.bell.send(Event::Purged(said)).await;
        }
        Ok(result)
    }

    fn cluster(&self, name: &str) -> Result<ClusterAssignment, String> {
        let assignment = self.assignment.borrow().clone();
        let found = assignment.clusters.iter().find(|cluster| cluster.cluster.as_str() == name).cloned();
        found.ok_or_else(|| format!("this host has no instance of cluster {name}"))
    }

    async fn read_log(&self, task: &wire::ReadLog) -> Result<wire::LogChunk, String> {
        let dir = self.layout.instance(self.port_of(&task.cluster, task.port)?);
        let patience = Duration::from_millis(task.wait_ms.min(9_000).into());
        let chunk = match task.from {
            None => logs::tail(&dir, usize::try_from(task.lines).unwrap_or(usize::MAX)),
            Some(wire::LogPosition { inode, offset }) => {
                logs::more(&dir, logs::Position { inode, offset }, patience).await
            }
        };
        let logs::Chunk { text, at } = chunk.map_err(|error| format!("{}: {error}", dir.log().display()))?;
        Ok(wire::LogChunk { text, at: Some(wire::LogPosition { inode: at.inode, offset: at.offset }) })
    }

    /// A port that has an instance of that cluster here.
    fn port_of(&self, cluster: &str, number: u32) -> Result<Port, String> {
        let port = Port::try_from(number).map_err(|error| error.to_string())?;
        match self.cluster(cluster)?.instances.iter().any(|instance| instance.port == port) {
            true => Ok(port),
            false => Err(format!("cluster {cluster} has no instance at port {port} here")),
        }
    }

    /// The loop does it, in its own time; what does not fit is said at once.
    async fn start(&self, task: &wire::Start) -> Result<wire::StartResult, String> {
        let port = self.port_of(&task.cluster, task.port)?;
        let (found, _) = Process::find(&self.layout.instance(port), Vec::new);
        let running = matches!(found, Found::Ours(_));
        if !running {
            let _ = self.bell.send(Event::Start(port, task.even_if_empty)).await;
        }
        Ok(wire::StartResult { running })
    }

    async fn hand_over(&self, task: &wire::HandOver) -> Result<wire::HandOverResult, String> {
        let (cluster, port) = (self.cluster(&task.cluster)?, self.port_of(&task.cluster, task.port)?);
        let from: NodeId = task.from.parse().map_err(|error: HexError| error.to_string())?;
        let dir = self.layout.instance(port);
        let pid = pid_in(&dir).map_err(|error| error.to_string())?;
        let talk = Talk::connect(&dir.socket(), pid, &watch::logins(&cluster)).await;
        let mut talk = talk.map_err(|error| error.to_string())?;
        let here = SocketAddr::new(self.config.address, port.get());
        let patience = Duration::from_millis(task.timeout_ms.clamp(1_000, 60_000).into());
        hand_over(&mut talk, &cluster, here, from, &self.access(&task.cluster)?, patience).await
    }

    /// How to be a client of a cluster: a host without instances of it knows no password.
    fn access(&self, name: &str) -> Result<smoke::Access, String> {
        let Ok(cluster) = self.cluster(name) else { return Ok(smoke::Access::default()) };
        let login = cluster.users.as_ref().and_then(|users| users.admin.first().cloned());
        let authorities = match &cluster.tls {
            None => None,
            Some(InstanceTls::Issued { ca_pem, .. }) => Some(ca_pem.clone().into_bytes()),
            Some(InstanceTls::Files(files)) => {
                let read = std::fs::read(&files.ca);
                Some(read.map_err(|error| format!("{}: {error}", files.ca.display()))?)
            }
        };
        Ok(smoke::Access { login, authorities })
    }

    async fn canary(&self, task: wire::Canary) -> Result<wire::CanaryResult, String> {
        let logins = watch::logins(&self.cluster(&task.cluster)?);
        let patience = Duration::from_millis(task.timeout_ms.clamp(1, 4_000).into());
        let mut tries = JoinSet::new();
        for number in task.ports {
            let port = Port::try_from(number).map_err(|error| error.to_string())?;
            let (dir, logins) = (self.layout.instance(port), logins.clone());
            tries.spawn(async move {
                let tried = async {
                    Talk::connect(&dir.socket(), pid_in(&dir)?, &logins).await?.canary(task.replicas, patience).await
                }
                .await;
                let error = tried.as_ref().err().map(ToString::to_string).unwrap_or_default();
                wire::CanaryPort { port: number, error, acknowledged: tried.unwrap_or(0) }
            });
        }
        let mut ports = tries.join_all().await;
        ports.sort_by_key(|port| port.port);
        Ok(wire::CanaryResult { ports })
    }

    /// The views of a cluster's instances here, asked anew, texts included. Those that do not answer say why.
    async fn probe(&self, name: &str) -> Result<wire::ProbeResult, String> {
        let cluster = self.cluster(name)?;
        let mut asked = JoinSet::new();
        for wanted in &cluster.instances {
            let (port, dir) = (wanted.port, self.layout.instance(wanted.port));
            let logins = watch::logins(&cluster);
            asked.spawn(async move {
                (port, async { Talk::connect(&dir.socket(), pid_in(&dir)?, &logins).await?.view(None).await }.await)
            });
        }
        let mut answers: BTreeMap<Port, _> = asked.join_all().await.into_iter().collect();
        let instances = cluster.instances.iter().map(|wanted| {
            let mut status = crate::report::blank(&self.config, &cluster, wanted);
            match answers.remove(&wanted.port) {
                Some(Ok(answer)) => crate::report::answered(&mut status, &answer),
                Some(Err(error)) => status.reason = format!("does not answer: {error}"),
                None => {}
            }
            wire::InstanceStatus::from(&status)
        });
        Ok(wire::ProbeResult { instances: instances.collect() })
    }
}

fn cluster_id(text: &str) -> Result<ClusterId, String> {
    text.parse().map_err(|error| format!("{:?} is no cluster's id: {error}", printable(text)))
}

/// Work that may take as long as a disk takes, and that an agent which ends does not wait for.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (say, said) = oneshot::channel();
    std::thread::spawn(move || drop(say.send(work())));
    said.await.map_err(|_| "the agent has failed at it; see its log".to_owned())
}

/// The pid of our server there.
pub(crate) fn pid_in(dir: &InstanceDir) -> Result<i32, TalkError> {
    match Process::find(dir, Vec::new).0 {
        Found::Ours(process) => Ok(process.pid()),
        Found::Nothing => Err(TalkError::Absent),
        Found::Foreign(why) | Found::Unknown(why) => Err(TalkError::Unknown(why)),
    }
}

#[cfg(test)]
mod tests;
