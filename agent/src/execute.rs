//! Does what was planned: one short arm a step, each of them safe to do again.

use std::{io, path::PathBuf};

use muster_proto::printable;

use crate::{
    adjust::{AdjustError, adjust},
    config::RunAs,
    layout::InstanceDir,
    process::{Process, SpawnError},
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
    /// The lock was taken between look and step.
    #[error("something runs in {0}; it is not moved")]
    Busy(PathBuf),
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
    crash::point(format_args!("agent.step.before.{}", word(step)));
    let done = act(step, dir, tools)?;
    if crash::twice() {
        // The second time may fail, as a server that runs cannot be started; and must not harm what the first has done.
        let again = act(step, dir, tools);
        tracing::info!(port = %dir.port(), step = word(step), ?again, "performed twice");
    }
    crash::point(format_args!("agent.step.after.{}", word(step)));
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
        Step::SetAside { stamp } => match Process::find(dir, || Crowd::default().strangers(dir, &[])).0 {
            crate::process::Found::Nothing => dir.set_aside(stamp).map(Done::Aside).map_err(write(dir.path())),
            _ => Err(StepError::Busy(dir.path())),
        },
        // The rest of it is said to the server, which answers in its own time.
        Step::Adjust { files, .. } => {
            dir.write_files(files).map_err(write(dir.path()))?;
            Ok(Done::Changed)
        }
        Step::Stop | Step::Kill => Ok(Done::Changed),
    }
}

/// Performs one step to its end.
pub async fn carry_out(step: Step, dir: InstanceDir, tools: Tools) -> Result<Done, StepError> {
    let (files, place) = (step.clone(), dir.clone());
    let written = tokio::task::spawn_blocking(move || perform(&files, &place, &tools)).await;
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

fn last_lines(end: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(end);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(4)..].iter().map(|line| printable(line)).collect()
}

#[cfg(test)]
mod tests;
