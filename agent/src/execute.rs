//! Does what was planned: one short arm a step, each of them safe to do again.

use std::{
    io,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use muster_proto::{convert::millis, printable};

use crate::{
    adjust::{AdjustError, adjust},
    config::RunAs,
    layout::{Hindrance, InstanceDir},
    permits::Wipe,
    process::{Found, Process, SpawnError},
    reconcile::Step,
    strangers::Crowd,
};

/// What a step has brought about.
#[derive(Debug)]
pub enum Done {
    /// Files.
    Changed,
    /// A server.
    Started(Process),
    /// A directory is in the trash, there.
    Aside(PathBuf),
    /// A directory is back in its place.
    Restored,
}

/// Why a step has failed. The world is as it was before it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Disk full, read-only, permissions.
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    /// The server was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The server does not take what it is told.
    #[error(transparent)]
    Adjust(#[from] AdjustError),
    /// Somebody is in there: the lock was taken between look and step, or a server was started by hand.
    #[error("{0} is not moved, because something runs there: {1}")]
    Busy(PathBuf, String),
    /// The directory of a former life is data.
    #[error("there is no permit to set {0} aside")]
    NoPermit(PathBuf),
    /// There is, and all the same.
    #[error("it is not set aside: {0}")]
    Hindered(Hindrance),
    /// It stays in the trash.
    #[error("cannot put {0} back")]
    Restore(PathBuf, #[source] io::Error),
}

impl StepError {
    /// The error and its causes in one line.
    pub fn words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        words
    }
}

/// What starting a server takes besides the step.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The server's path.
    pub server: PathBuf,
    /// Whom it runs as.
    pub run_as: Option<RunAs>,
}

/// Performs one step on files and processes. Blocks for some synced writes at most; signals are the keeper's, which has
/// the process.
pub fn perform(step: &Step, dir: &InstanceDir, tools: &Tools) -> Result<Done, StepError> {
    crash::anew();
    crash::doing(word(step));
    crash::point_of("agent.step.before");
    let done = act(step, dir, tools)?;
    if crash::twice() {
        // The second time may fail, as a server that runs cannot be started; and must not harm what the first has done.
        // A wipe is not among these: its right is used up, so that there is no second time.
        let again = act(step, dir, tools);
        tracing::info!(port = %dir.port(), step = word(step), ?again, "performed twice");
    }
    crash::point_of("agent.step.after");
    Ok(done)
}

fn word(step: &Step) -> &'static str {
    match step {
        Step::Prepare { .. } => "prepare",
        Step::Start { .. } => "start",
        Step::Adjust { .. } => "adjust",
        Step::Stop => "stop",
        Step::Kill => "kill",
        Step::Latch { .. } => "latch",
        Step::SetAside { .. } => "set-aside",
        Step::Wipe { .. } => "wipe",
        Step::Restore { .. } => "restore",
    }
}

fn act(step: &Step, dir: &InstanceDir, tools: &Tools) -> Result<Done, StepError> {
    let write = |path: PathBuf| move |error| StepError::Write(path, error);
    match step {
        Step::Prepare { stamp, files } => {
            dir.establish(stamp, files).map_err(write(dir.path()))?;
            Ok(Done::Changed)
        }
        Step::Start { files, run, .. } => {
            dir.write_files(files).map_err(write(dir.path().join("redis.conf")))?;
            Ok(Done::Started(Process::spawn(dir, &tools.server, tools.run_as.as_ref(), *run)?))
        }
        Step::Latch { stamp } => {
            dir.latch(stamp).map_err(write(dir.path()))?;
            Ok(Done::Changed)
        }
        Step::SetAside { stamp } => {
            nobody_in(dir)?;
            dir.set_aside(stamp).map(Done::Aside).map_err(write(dir.path()))
        }
        Step::Wipe { .. } => Err(StepError::NoPermit(dir.path())),
        Step::Restore { stamp } => {
            dir.restore(stamp).map_err(|error| StepError::Restore(dir.path(), error))?;
            Ok(Done::Restored)
        }
        // The rest of it is said to the server, which answers in its own time.
        Step::Adjust { files, .. } => {
            dir.write_files(files).map_err(write(dir.path()))?;
            Ok(Done::Changed)
        }
        Step::Stop | Step::Kill => Ok(Done::Changed),
    }
}

/// Sets the directory of a former life aside, by the right that a permit gave, which is used up.
pub fn wipe(wipe: Wipe, dir: &InstanceDir) -> Result<Done, StepError> {
    nobody_in(dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    dir.set_aside_former(wipe, millis(now)).map(Done::Aside).map_err(StepError::Hindered)
}

/// Somebody may have started a server in there by hand, which has no lock of ours. Whoever it is, is named: nobody else
/// can end him.
fn nobody_in(dir: &InstanceDir) -> Result<(), StepError> {
    let who = match Process::find(dir, || Crowd::default().strangers(dir, &[])).0 {
        Found::Nothing => return Ok(()),
        Found::Ours(process) => format!("pid {}", process.pid()),
        Found::Foreign(who) | Found::Unknown(who) => who,
    };
    Err(StepError::Busy(dir.path(), who))
}

/// Performs one step to its end; `right` is what a wipe takes.
pub async fn carry_out(step: Step, right: Option<Wipe>, dir: InstanceDir, tools: Tools) -> Result<Done, StepError> {
    let (files, place) = (step.clone(), dir.clone());
    let written = tokio::task::spawn_blocking(move || match (&files, right) {
        (Step::Wipe { .. }, Some(right)) => {
            crash::anew();
            crash::doing("wipe");
            crash::point_of("agent.step.before");
            let done = wipe(right, &place);
            crash::point_of("agent.step.after");
            done
        }
        (step, _) => perform(step, &place, &tools),
    })
    .await;
    let done = written.map_err(|error| StepError::Write(dir.path(), io::Error::other(error)))??;
    if let Step::Adjust { live, target, .. } = &step {
        adjust(&dir, live, target).await?;
    }
    Ok(done)
}

/// The end of what a server wrote before it went: its last words, for people. Whoever broke into a server chooses
/// them, so nothing in them moves a terminal's cursor.
pub fn last_words(dir: &InstanceDir) -> String {
    let [fatal, log] = dir.ends(2048).map(|end| last_lines(&end));
    if fatal.is_empty() { log } else { fatal }.join(" / ")
}

/// Why a server that was asked to stop goes on, in its own words: the last ones of its log that say so, with the line
/// before them, which has the reason where there is one. Others go, while it goes on, and it says so of them.
pub fn refusal(dir: &InstanceDir) -> String {
    let [_, end] = dir.ends(8192);
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.iter().rposition(|line| line.to_lowercase().contains("can't exit")) {
        Some(at) => lines[at.saturating_sub(1)..=at].iter().map(|line| printable(line)).collect::<Vec<_>>().join(" / "),
        None => last_words(dir),
    }
}

fn last_lines(end: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(end);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].iter().map(|line| printable(line)).collect()
}

#[cfg(test)]
mod tests;
