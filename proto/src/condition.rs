//! What keeps an instance from being what it should be: stable codes, for scripts and for findings.

use std::time::Duration;

/// Why an instance is not running, where that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The machine has booted, and the coordinator is asked first.
    Booting,
    /// The machine has booted, and the coordinator does not let its host take part.
    Barred,
    /// It has ended, and is tried again after a pause.
    Backoff,
    /// It has ended too often.
    CrashLoop,
    /// The server refuses its conf, and is not tried until something has changed.
    ConfError,
    /// Started now, it could empty its replicas.
    Guarded,
    /// It runs, and does not take its new users or certificates.
    Unadjusted,
    /// Its process is stopped by a signal or held by a debugger. Whoever did that undoes it.
    Frozen,
    /// Its process lives, has had the time to answer, and does not.
    Silent,
    /// It runs, and is in no scope of systemd, so that its limits do not hold.
    Unscoped,
    /// Somebody else has its port or its directory.
    Foreign,
    /// What holds its lock is not provably ours.
    Unrecognised,
    /// It loads its data set.
    Loading,
    /// It is to stop, and makes progress with writing its data set out.
    Saving,
}

impl Condition {
    const ALL: [(Self, &'static str); 14] = [
        (Self::Booting, "BOOTING"),
        (Self::Barred, "HOST_BARRED"),
        (Self::Backoff, "BACKOFF"),
        (Self::CrashLoop, "CRASH_LOOP"),
        (Self::ConfError, "CONF_ERROR"),
        (Self::Guarded, "EMPTY_RESTART_GUARD"),
        (Self::Unadjusted, "NOT_ADJUSTED"),
        (Self::Frozen, "FROZEN"),
        (Self::Silent, "NOT_ANSWERING"),
        (Self::Unscoped, "OUT_OF_SCOPE"),
        (Self::Foreign, "FOREIGN_PROCESS"),
        (Self::Unrecognised, "UNKNOWN_PROCESS"),
        (Self::Loading, "LOADING"),
        (Self::Saving, "SAVING"),
    ];

    /// The code.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, word)| word)
    }

    /// Whether something is tried again by itself; otherwise it is only looked at again.
    pub fn is_tried(self) -> bool {
        use Condition::{Barred, Foreign, Frozen, Silent, Unrecognised};
        !matches!(self, Frozen | Silent | Foreign | Unrecognised | Barred) && !self.is_work()
    }

    /// Whether it gets on by itself with what takes as long as its data set is big.
    pub fn is_work(self) -> bool {
        matches!(self, Self::Loading | Self::Saving)
    }

    /// From the code; none for one that a newer agent knows.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(condition, _)| *condition)
    }
}

/// How an instance came to be what it is, and what comes next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// What keeps it, where that has a name.
    pub condition: Option<Condition>,
    /// How long state and reason have been so.
    pub since: Duration,
    /// In how long something is tried next; none when nothing is planned.
    pub next_try: Option<Duration>,
    /// Whose its process is: `ours`, `gone`, `foreign`, `unknown`.
    pub standing: String,
    /// What that is known by, a line each.
    pub evidence: Vec<String>,
}

impl Account {
    /// Equal but for the passing of time.
    pub fn same_but_age(&self, other: &Self) -> bool {
        Self { since: other.since, next_try: other.next_try, ..self.clone() } == *other
    }
}
