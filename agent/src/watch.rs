//! Watches one server: its end, and what it says. One small task each, which ends with the process.

use std::{path::PathBuf, time::Duration};

use muster_proto::{ClusterAssignment, NodeView, Port, Role, Sha256, acl::Login};
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

use crate::{keeper::Event, process::Process, reconcile::Answer, talk::Talk};

/// Between two tries to connect to a server that has just been started. It listens some 10 ms after exec.
const KNOCK: Duration = Duration::from_millis(10);
/// Between two looks while the cluster settles. Redis sends no event when its cluster state changes.
const SETTLING: Duration = Duration::from_millis(50);
/// Between two looks when all is as it should be.
const CALM: Duration = Duration::from_secs(1);

/// What a settled instance says.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The digest of the blueprint's topology.
    pub digest: Sha256,
    /// Online replicas of a master.
    pub replicas: u32,
    /// Until formation is proved, look often.
    pub formed: bool,
    /// What to log in with: the first that is accepted.
    pub logins: Vec<Login>,
}

impl Expected {
    /// Of one instance of a cluster.
    pub fn of(cluster: &ClusterAssignment) -> Self {
        Self {
            digest: cluster.topology().digest(),
            replicas: cluster.replicas,
            formed: cluster.formed,
            logins: logins(cluster),
        }
    }

    fn pace(&self, answer: &Answer) -> Duration {
        match answer {
            // Once it is formed, a failed peer may stay failed for days: that is no reason to look twenty times a
            // second.
            Answer::View(_) if self.formed => CALM,
            Answer::View(view) if self.settled(view) => CALM,
            Answer::View(_) | Answer::Loading | Answer::Silent(_) | Answer::Hung(_) | Answer::Frozen(_) => SETTLING,
        }
    }

    fn settled(&self, view: &NodeView) -> bool {
        let synced = match view.role {
            Role::Master { .. } => view.online_replicas >= self.replicas,
            Role::Replica { .. } => view.link_up,
        };
        view.cluster_ok && synced && view.troubles.is_empty() && view.digest == self.digest
    }
}

/// What the agent logs in to the instances of a cluster with.
pub fn logins(cluster: &ClusterAssignment) -> Vec<Login> {
    cluster.users.as_ref().map(|users| users.admin.clone()).unwrap_or_default()
}

/// Starts both watchers of a process.
pub fn watch(
    port: Port,
    process: &Process,
    socket: PathBuf,
    expected: Expected,
    events: &mpsc::Sender<Event>,
) -> std::io::Result<Vec<AbortHandle>> {
    let pid = process.pid();
    let (exit, end) = (process.exit()?, events.clone());
    let ended = tokio::spawn(async move {
        exit.await;
        let _ = end.send(Event::Exited(port, pid)).await;
    });
    let events = events.clone();
    let asking = tokio::spawn(async move { ask(port, pid, socket, expected, events).await });
    Ok(vec![ended.abort_handle(), asking.abort_handle()])
}

async fn ask(port: Port, pid: i32, socket: PathBuf, expected: Expected, events: mpsc::Sender<Event>) {
    let mut said = None;
    loop {
        let broken = match Talk::connect(&socket, pid, &expected.logins).await {
            Ok(mut talk) => match converse(&mut talk, port, pid, &expected, &events, &mut said).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        let silent = Answer::Silent(broken);
        let known = said.as_ref().is_some_and(|before| matches!(before, Answer::Silent(_)));
        if !known && events.send(Event::Answered(port, pid, silent.clone())).await.is_err() {
            return;
        }
        // A server that has answered before and hangs now is given more time than one that is just starting.
        let pause = if matches!(said, Some(Answer::View(_))) { SETTLING } else { KNOCK };
        said = Some(silent);
        sleep(pause).await;
    }
}

async fn converse(
    talk: &mut Talk,
    port: Port,
    pid: i32,
    expected: &Expected,
    events: &mpsc::Sender<Event>,
    said: &mut Option<Answer>,
) -> Result<(), crate::talk::TalkError> {
    loop {
        let answer = talk.view(Some(expected.digest)).await?;
        let pace = expected.pace(&answer);
        // Unchanged views are sent too when all is calm: they keep the age of what is shown true.
        if (pace == CALM || said.as_ref().is_none_or(|before| !before.same(&answer)))
            && events.send(Event::Answered(port, pid, answer.clone())).await.is_err()
        {
            return Ok(());
        }
        *said = Some(answer);
        sleep(pace).await;
    }
}

#[cfg(test)]
mod tests;
