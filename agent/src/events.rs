//! What has happened on this host, in the agent's own words: a file of lines that outlives the agent and does not grow
//! for ever.
//!
//! It is a diary and decides nothing: what cannot be written is lost, and said in the log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use muster_proto::{ClusterName, Condition, Port, convert::millis, wire};
use serde::{Deserialize, Serialize};

/// A file that is longer is put aside, and the one before it goes.
const SIZE: u64 = 1 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// On this host's clock.
    pub unix_ms: u64,
    /// What kind of thing: `agent`, `state`, `started`, `ended`, `permit`, `aside`, `restored`.
    pub what: String,
    /// The instance's port; none when it is about the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// The instance's cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Why, in words.
    pub text: String,
    /// The code of that, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// The file, to be written to.
#[derive(Debug)]
pub struct Diary {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Event {
    /// About the agent.
    pub fn of_agent(text: impl Into<String>) -> Self {
        let unix_ms = millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Self { unix_ms, what: "agent".into(), port: None, cluster: None, text: text.into(), condition: None }
    }

    /// About an instance.
    pub fn of(what: &str, port: Port, cluster: Option<&ClusterName>, text: impl Into<String>) -> Self {
        Self { what: what.into(), port: Some(port), cluster: cluster.cloned(), ..Self::of_agent(text) }
    }

    /// With its code.
    pub fn called(self, condition: Option<Condition>) -> Self {
        Self { condition: condition.map(|condition| condition.word().to_owned()), ..self }
    }
}

impl From<Event> for wire::AgentEvent {
    fn from(event: Event) -> Self {
        Self {
            unix_ms: event.unix_ms,
            what: event.what,
            port: event.port.map(u32::from).unwrap_or(0),
            cluster: event.cluster.map(String::from).unwrap_or_default(),
            text: event.text,
            condition: event.condition.unwrap_or_default(),
        }
    }
}

fn older(path: &Path) -> PathBuf {
    path.with_extension("1.jsonl")
}

/// Where it is, below the agent's own directory.
pub fn path(agent_dir: &Path) -> PathBuf {
    agent_dir.join("events.jsonl")
}

impl Diary {
    /// Goes on where it ended.
    pub fn open(agent_dir: &Path) -> Self {
        let mut diary = Self { path: path(agent_dir), file: None, size: 0 };
        if let Err(error) = diary.reopen() {
            tracing::warn!(%error, "events are not written down: {}", diary.path.display());
        }
        diary
    }

    fn reopen(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        self.size = file.metadata()?.len();
        let mut last = [b'\n'];
        if self.size > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        // A line that a crash has cut off does not take the next one with it.
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Writes a line.
    pub fn note(&mut self, event: &Event) {
        if let Err(error) = self.write(event) {
            tracing::warn!(%error, "an event is not written down: {}", self.path.display());
        }
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        if self.file.is_none() || self.size > SIZE {
            if self.size > SIZE {
                fs::rename(&self.path, older(&self.path))?;
            }
            self.reopen()?;
        }
        let line = serde_json::to_string(event).map_err(io::Error::other)? + "\n";
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line.as_bytes())?;
        self.size += line.len() as u64;
        Ok(())
    }
}

/// The newest, oldest first: at most so many, of one cluster if one is named. Lines that do not parse are left out.
pub fn newest(agent_dir: &Path, cluster: Option<&str>, most: usize) -> Vec<Event> {
    let path = path(agent_dir);
    let text = [older(&path), path].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    let about = |event: &Event| cluster.is_none_or(|name| event.cluster.as_ref().is_some_and(|of| of.as_str() == name));
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let mut events: Vec<Event> = lines.filter(about).take(most).collect();
    events.reverse();
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::port;

    fn texts(dir: &Path, most: usize) -> Vec<String> {
        newest(dir, None, most).into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn what_was_written_is_read_also_after_a_crash_in_the_middle_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(texts(dir.path(), 10), [""; 0]);
        let mut diary = Diary::open(dir.path());
        let cluster: ClusterName = "orders".parse().unwrap();
        let started = Event::of("started", port(7000), Some(&cluster), "pid 1").called(Some(Condition::Backoff));
        diary.note(&Event::of_agent("one"));
        diary.note(&started);
        let mut torn = OpenOptions::new().append(true).open(path(dir.path())).unwrap();
        torn.write_all(b"{\"unix_ms\":17").unwrap();
        drop(diary);
        Diary::open(dir.path()).note(&Event::of_agent("three"));
        assert_eq!(texts(dir.path(), 10), ["one", "pid 1", "three"]);
        assert_eq!(texts(dir.path(), 2), ["pid 1", "three"]);
        assert_eq!(newest(dir.path(), Some("orders"), 10), [started]);
        assert_eq!(newest(dir.path(), Some("other"), 10), []);
    }

    #[test]
    fn it_does_not_grow_for_ever_and_forgets_the_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let mut diary = Diary::open(dir.path());
        let long = "x".repeat(64 << 10);
        for nth in 0..100 {
            diary.note(&Event::of_agent(format!("{nth} {long}")));
        }
        let size = |path: PathBuf| fs::metadata(path).unwrap().len();
        assert!(size(path(dir.path())) + size(older(&path(dir.path()))) < 3 * SIZE);
        let kept = texts(dir.path(), 1000);
        assert!(kept.len() > 15 && kept.len() < 40, "{}", kept.len());
        assert!(kept.last().unwrap().starts_with("99 "));
    }
}
