//! Whose a port's process is: a judgement over what the kernel says and what we have written down. A function of
//! values; [`process`](crate::process) gathers them.
//!
//! What is missing can be made up for by the rest: a lock that only we can open, held by a process that carries a nonce
//! of ours and lives in the directory, is proof without any record. What contradicts is never overruled.
//!
//! | standing | what it means | what is done |
//! |---|---|---|
//! | ours | the lock's holder is a server that an agent of this base directory has started | supervised |
//! | gone | the lock is free, and nobody else is there | started, when that is safe |
//! | foreign | the lock is free, and somebody else has the port or the directory | nothing, and it is said |
//! | unknown | the lock is held, and not provably by one of ours | nothing, and it is said |

use std::fmt;

use muster_proto::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::tree::Identity as Inode;

/// What is kept about a port's process, on disk. In two steps: before the fork, and after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Drawn for this spawn, and in the environment of what came of it.
    pub nonce: Uuid,
    /// Of the kernel, then.
    pub boot_id: String,
    /// Missing between intent and identity.
    pub identity: Option<Identity>,
    /// The run (`InstanceAssignment::run`) that it was started for; missing in records from before there were runs.
    #[serde(default)]
    pub run: Option<u64>,
    /// The node that lives in its directory; missing in records from before a directory could be another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
}

impl Written {
    /// The run that it is about, where that is known.
    pub fn run(&self) -> Option<u64> {
        match self {
            Self::Record(record) => record.run,
            Self::Nothing | Self::Torn => None,
        }
    }

    /// Whether it is of an earlier run of that node than this one, or of another node, which had the place before: then
    /// nothing was started for that run yet. What is not known is not earlier.
    pub fn is_before(&self, node_id: NodeId, run: u64) -> bool {
        let Self::Record(record) = self else { return false };
        record.node_id.is_some_and(|node| node != node_id) || record.run.is_some_and(|last| last < run)
    }
}

/// A process, for as long as the kernel runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its process id.
    pub pid: i32,
    /// Since boot, in clock ticks (field 22 of /proc/PID/stat): a pid that is used again has another.
    pub start_ticks: u64,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Nothing.
    Nothing,
    /// Something that does not parse.
    Torn,
    /// This.
    Record(Record),
}

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// Nobody.
    Free,
    /// The process that took it is gone, or in another pid namespace; something that inherited the lock lives.
    Hidden,
    /// That process, and what is to be seen of it; nothing when it has just gone.
    Held(i32, Option<Sighting>),
}

/// What the kernel says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Its name, at most 15 bytes, chosen by itself.
    pub comm: String,
    /// `R`, `S`, `D`, `T` (stopped), `Z` (ended, and not waited for).
    pub state: char,
    /// Since boot.
    pub start_ticks: u64,
    /// The nonce in its environment; the error where that cannot be read.
    pub nonce: Result<Option<String>, String>,
    /// Its working directory.
    pub cwd: Option<Inode>,
}

/// Everything that the judgement leans on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of the kernel, now.
    pub boot_id: String,
    /// The instance's directory; none when there is none.
    pub home: Option<Inode>,
    /// Our own words.
    pub written: Written,
    /// The kernel's.
    pub lock: Lock,
    /// Others who have the port or the directory; looked for only where the lock is free.
    pub strangers: Vec<String>,
}

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A server of ours.
    Ours(i32),
    /// Nothing runs.
    Gone,
    /// Somebody else is there; who.
    Foreign(String),
    /// Something is there; what speaks against its being ours.
    Unknown(String),
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clue {
    /// What: "lock".
    pub what: &'static str,
    /// What was found.
    pub says: String,
    /// Whether that speaks against its being ours.
    pub against: bool,
}

impl fmt::Display for Clue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, says, against } = self;
        write!(f, "{what}: {says}{}", if *against { " (!)" } else { "" })
    }
}

impl Standing {
    /// In a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Gone => "gone",
            Self::Foreign(_) => "foreign",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// A judgement and what it leans on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whose it is.
    pub standing: Standing,
    /// In the order in which it was looked at.
    pub clues: Vec<Clue>,
}

/// Of a server that this very agent process has started, and waits for.
pub fn born(pid: i32) -> Vec<Clue> {
    vec![clue("lock", format!("held by pid {pid}")), clue("parent", "this agent process, which has started it")]
}

/// Judges.
pub fn judge(facts: &Facts) -> Judgement {
    match &facts.lock {
        Lock::Free if facts.strangers.is_empty() => {
            Judgement { standing: Standing::Gone, clues: vec![clue("lock", "free")] }
        }
        Lock::Free => {
            let who = facts.strangers.join("; ");
            let strangers = facts.strangers.iter().map(|says| against("stranger", says.clone()));
            let clues = [clue("lock", "free")].into_iter().chain(strangers).collect();
            Judgement { standing: Standing::Foreign(who), clues }
        }
        Lock::Hidden => {
            let says = "held by a child of the server that took it, or in another pid namespace";
            Judgement { standing: Standing::Unknown(format!("is {says}")), clues: vec![against("lock", says)] }
        }
        Lock::Held(pid, None) => {
            let says = format!("held by a child of pid {pid}, which is gone");
            Judgement { standing: Standing::Unknown(format!("is {says}")), clues: vec![against("lock", says)] }
        }
        Lock::Held(pid, Some(seen)) => {
            let clues = of_holder(facts, *pid, seen);
            let standing = match clues.iter().find(|clue| clue.against) {
                None => Standing::Ours(*pid),
                Some(Clue { what, says, .. }) => {
                    Standing::Unknown(format!("is held by pid {pid} ({}), and its {what} is {says}", seen.comm))
                }
            };
            Judgement { standing, clues }
        }
    }
}

fn of_holder(facts: &Facts, pid: i32, seen: &Sighting) -> Vec<Clue> {
    let record = match &facts.written {
        Written::Record(record) => Some(record),
        Written::Nothing | Written::Torn => None,
    };
    let mut clues = vec![clue("lock", format!("held by pid {pid}")), of_state(seen.state)];
    clues.push(match &facts.written {
        Written::Nothing => clue("record", "lost"),
        Written::Torn => clue("record", "torn"),
        Written::Record(record) if record.boot_id != facts.boot_id => against("record", "of another boot"),
        Written::Record(_) => clue("record", "of this boot"),
    });
    clues.extend(record.and_then(|record| record.identity).map(|known| {
        match known == (Identity { pid, start_ticks: seen.start_ticks }) {
            true => clue("identity", "as written down"),
            false => against("identity", "not that of the one that was started"),
        }
    }));
    clues.push(of_nonce(record, &seen.nonce));
    clues.push(match seen.cwd.is_some() && seen.cwd == facts.home {
        true => clue("working directory", "the instance's"),
        false => against("working directory", "another"),
    });
    clues
}

fn of_state(state: char) -> Clue {
    match state {
        'Z' | 'X' => against("state", "ended; a child of it still lives"),
        'T' | 't' => clue("state", "stopped by a signal"),
        _ => clue("state", "alive"),
    }
}

/// Redis before 6.2 writes its title over its environment; there, pid and start ticks have to do.
fn of_nonce(record: Option<&Record>, nonce: &Result<Option<String>, String>) -> Clue {
    let known = record.is_some_and(|record| record.identity.is_some());
    match (nonce, record) {
        (Err(why), _) => against("nonce", format!("not to be read: {why}")),
        (Ok(Some(nonce)), Some(record)) if *nonce == record.nonce.to_string() => clue("nonce", "as written down"),
        (Ok(Some(nonce)), None) if nonce.parse::<Uuid>().is_ok() => clue("nonce", "one of ours"),
        (Ok(None), _) if known => clue("nonce", "written over by an old server"),
        (Ok(Some(_)), _) => against("nonce", "another than was written down"),
        (Ok(None), _) => against("nonce", "missing"),
    }
}

fn clue(what: &'static str, says: impl Into<String>) -> Clue {
    Clue { what, says: says.into(), against: false }
}

fn against(what: &'static str, says: impl Into<String>) -> Clue {
    Clue { against: true, ..clue(what, says) }
}

#[cfg(test)]
mod tests;
