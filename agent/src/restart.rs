//! When a server that is gone is started again: a function of what is known about it.
//!
//! The rule that matters is the empty-restart guard. A master that comes back with an empty data set before its peers
//! have missed it makes its replicas copy the emptiness (they resync from it; measured on 7.0, and reported against
//! five other tools). So a master with replicas that has nothing to load is not started until another node owns its
//! slots; it then comes back as that node's replica. One that has only a snapshot, which is always older than what
//! its replicas hold, waits for that too, for a while.
//!
//! The whole of it, written by a test out of the code; the first line that fits is what happens:
#![doc = include_str!("restart/table.md")]

use std::{fmt, time::Duration};

use muster_proto::{Condition, Memory};

/// Exits within this span count towards a crash loop.
pub const LOOP_SPAN: Duration = Duration::from_secs(300);
/// So many of them are one.
pub const LOOP_EXITS: usize = 5;
/// A master that has only a snapshot gives its replicas so long to take over: an election takes the node timeout (15 s
/// by default) and some seconds. Not for ever: after a power cut there may be nobody left to elect one.
pub const SUCCESSOR: Duration = Duration::from_secs(60);
/// The longest pause between two tries, before jitter.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After a boot of the machine the coordinator is asked first, for so long: what it says may be newer than what is
/// written down here.
pub const ASKING: Duration = Duration::from_secs(20);
/// An agent that has just begun, and finds a server gone that ran in this boot, asks for so long: what is written down
/// here may be of a life that a rebuild has ended meanwhile. No longer, because the server is missed.
pub const ASKING_BRIEFLY: Duration = Duration::from_secs(2);

/// How a server has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed by the kernel, which needed memory, or by the limit of its own that it has.
    OutOfMemory(Option<Memory>),
    /// It was found again and not started by this agent process, so its end has no status for us.
    Unseen,
}

/// An end of a server, as far as it matters later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When, counted from the agent's start.
    pub at: Duration,
    /// How.
    pub ending: Ending,
    /// 0-255, drawn then: by so many 1275ths the next pause is longer, so that what died together is not started
    /// together.
    pub jitter: u8,
}

/// What is known about the server that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Its ends, oldest first; only those that this agent process saw.
    pub exits: Vec<Exit>,
    /// It ended before it ever answered, with these last words.
    pub stillborn: Option<String>,
    /// An operator wants it tried now, and not after its pause.
    pub urged: bool,
}

/// What the directory and the last views say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stake {
    /// The cluster was proved to be formed.
    pub formed: bool,
    /// It was a master with at least one replica when last seen.
    pub leads: bool,
    /// What there is to load.
    pub load: Load,
    /// Another node is seen to own its slots.
    pub replaced: bool,
    /// An operator has said by name that it is to be started all the same.
    pub overruled: bool,
    /// What the coordinator says, where it has to be asked first.
    pub word: Word,
}

/// The coordinator's word on what was gone when this agent began, after a boot of the machine or without one: it may
/// know better by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It was heard, or need not be: the server has run since this agent began.
    Given,
    /// It is being asked: the machine has booted.
    Awaited,
    /// It is being asked: the server has ended in this boot, while there was no agent.
    AwaitedBriefly,
    /// This host may not take part.
    Refused,
}

/// What a server that starts here would load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Its append-only file: every write that it took.
    Log,
    /// A snapshot: what was there some time ago.
    Snapshot,
    /// Nothing.
    Nothing,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restart {
    /// Start it.
    Now,
    /// Start it then, counted from the agent's start.
    At(Duration, Condition, String),
    /// Not by ourselves.
    Held(Condition, String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OutOfMemory(None) => f.write_str("killed by the kernel, which was short of memory"),
            Self::OutOfMemory(Some(limit)) => {
                write!(f, "killed by the kernel, at its limit of {limit} of memory or short of memory itself")
            }
            Self::Unseen => f.write_str("how is not known: it was not started by this agent process"),
        }
    }
}

impl Past {
    /// Takes note of an end.
    pub fn ended(&mut self, exit: Exit, stillborn: Option<String>) {
        self.exits.retain(|known| known.at + LOOP_SPAN > exit.at);
        self.exits.push(exit);
        self.stillborn = stillborn;
    }

    /// Something is not what it was: a conf that was refused may be taken now.
    pub fn reconsider(&mut self) {
        self.stillborn.take_if(|words| is_conf_error(words));
    }

    /// When the last one ended.
    pub fn last(&self) -> Option<Duration> {
        self.exits.last().map(|exit| exit.at)
    }
}

/// Decides. `now` counts from the agent's start.
pub fn decide(past: &Past, stake: Stake, now: Duration) -> Restart {
    match stake.word {
        Word::Awaited if now < ASKING => return Restart::At(ASKING, Condition::Booting, BOOTING.into()),
        Word::AwaitedBriefly if now < ASKING_BRIEFLY => {
            return Restart::At(ASKING_BRIEFLY, Condition::Booting, BEGINNING.into());
        }
        Word::Refused => return Restart::Held(Condition::Barred, BARRED.into()),
        Word::Given | Word::Awaited | Word::AwaitedBriefly => {}
    }
    let guarded = stake.formed && stake.leads && !stake.replaced && !stake.overruled;
    if guarded && stake.load == Load::Nothing {
        return Restart::Held(Condition::Guarded, GUARDED.into());
    }
    let Some(last) = past.exits.last() else { return Restart::Now };
    if guarded && stake.load == Load::Snapshot && last.at + SUCCESSOR > now {
        return Restart::At(last.at + SUCCESSOR, Condition::Guarded, SUCCEEDED.into());
    }
    if past.urged {
        return Restart::Now;
    }
    let words = past.stillborn.as_deref();
    if let Some(words) = words.filter(|words| is_conf_error(words)) {
        return Restart::Held(Condition::ConfError, format!("{REFUSED}; its words: {words}"));
    }
    let recent = past.exits.iter().filter(|exit| exit.at + LOOP_SPAN > now).count();
    let (condition, pause) = match recent >= LOOP_EXITS {
        true => (Condition::CrashLoop, PAUSE_MAX),
        false => (Condition::Backoff, pause(recent)),
    };
    let due = last.at + pause + pause * u32::from(last.jitter) / 1275;
    if due <= now {
        return Restart::Now;
    }
    let said = words.map(|words| format!("; its last words: {words}")).unwrap_or_default();
    let (span, last) = (LOOP_SPAN.as_secs(), last.ending);
    let why = match condition {
        Condition::CrashLoop => format!("a crash loop: {recent} ends in {span} s, the last: {last}{said}"),
        _ => format!("it has ended {recent} times in {span} s, the last: {last}{said}"),
    };
    Restart::At(due, condition, why)
}

const BOOTING: &str = "the machine has booted: the coordinator is asked first, for up to 20 s";
const BEGINNING: &str = "it ended while there was no agent here: the coordinator is asked first, for up to 2 s";
const BARRED: &str = "it was gone when the agent began, and the coordinator, which may know better what should run, \
                      does not let this host take part: it is not started until it does (hint: on the coordinator: \
                      muster hosts)";
const GUARDED: &str = "it was a master with replicas and has nothing to load: started now, it would empty them; it is \
                       started as soon as another node is seen to own its slots (if none can be elected, then on one \
                       of its replicas: redis-cli cluster failover takeover; or, if what they hold may be lost: \
                       muster start --even-if-empty)";
const REFUSED: &str = "the server refuses its conf, and would do so again: it is tried when it is told something new, \
                       when redis-server is another, or when somebody asks for it (muster start)";
const SUCCEEDED: &str = "it was a master with replicas and has only a snapshot to load, which is older than what they \
                         hold: it waits up to a minute for a successor";

/// None after the first exit, then 1, 2, 4 s, and 60 s from the fifth on.
fn pause(exits: usize) -> Duration {
    match exits {
        0 | 1 => Duration::ZERO,
        exits if exits >= LOOP_EXITS => PAUSE_MAX,
        exits => Duration::from_secs(1 << (exits - 2)),
    }
}

/// The words of `loadServerConfigFromString` (config.c), unchanged since Redis 2.6.
pub fn is_conf_error(words: &str) -> bool {
    words.contains("FATAL CONFIG FILE ERROR")
}

#[cfg(test)]
mod tests;
