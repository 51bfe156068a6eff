//! When a server that is gone is started again: a function of what is known about it.
//!
//! The rule that matters is the empty-restart guard. A master that comes back with an empty data set before its peers
//! have missed it makes its replicas copy the emptiness (they resync from it; measured on 7.0, and reported against
//! five other tools). So a master with replicas that has nothing to load is not started until another node owns its
//! slots; it then comes back as that node's replica. One that has only a snapshot, which is always older than what
//! its replicas hold, waits for that too, for a while.

use std::time::Duration;

/// Exits within this span count towards a crash loop.
pub const LOOP_SPAN: Duration = Duration::from_secs(300);
/// So many of them are one.
pub const LOOP_EXITS: usize = 5;
/// A master that has only a snapshot gives its replicas so long to take over: an election takes the node timeout (15 s
/// by default) and some seconds. Not for ever: after a power cut there may be nobody left to elect one.
pub const SUCCESSOR: Duration = Duration::from_secs(60);
/// The longest pause between two tries.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is known about the server that is gone. Times count from the agent's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// When it exited, oldest first; only those this agent saw.
    pub exits: Vec<Duration>,
    /// It ended before it ever answered, with these last words.
    pub stillborn: Option<String>,
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
    At(Duration, String),
    /// Not by ourselves.
    Held(String),
}

/// Decides. `now` counts from the agent's start.
pub fn decide(past: &Past, stake: Stake, now: Duration) -> Restart {
    let guarded = stake.formed && stake.leads && !stake.replaced;
    if guarded && stake.load == Load::Nothing {
        return Restart::Held(
            "it was a master with replicas and has nothing to load: started now, it would empty them; it is started as \
             soon as another node is seen to own its slots (if none can be elected, then on one of its replicas: \
             redis-cli cluster failover takeover)"
                .into(),
        );
    }
    let Some(last) = past.exits.last() else { return Restart::Now };
    if guarded && stake.load == Load::Snapshot && *last + SUCCESSOR > now {
        let why = "it was a master with replicas and has only a snapshot to load, which is older than what they hold: \
                   it waits up to a minute for a successor";
        return Restart::At(*last + SUCCESSOR, why.into());
    }
    if let Some(words) = past.stillborn.as_ref().filter(|words| is_conf_error(words)) {
        return match *last + PAUSE_MAX {
            due if due <= now => Restart::Now,
            due => {
                Restart::At(due, format!("the server refuses its redis.conf, and is tried again every minute: {words}"))
            }
        };
    }
    let recent = past.exits.iter().filter(|exit| **exit + LOOP_SPAN > now).count();
    let due = *last + pause(recent);
    if due <= now {
        return Restart::Now;
    }
    let words = past.stillborn.as_ref().map(|words| format!("; its last words: {words}")).unwrap_or_default();
    let count = if recent >= LOOP_EXITS { "a crash loop: " } else { "" };
    Restart::At(
        due,
        format!(
            "{count}{recent} exits in {} s, next try after a pause of {:?}{words}",
            LOOP_SPAN.as_secs(),
            pause(recent)
        ),
    )
}

/// None after the first exit, then 1, 2, 4 ... 60 s.
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
mod tests {
    use super::*;

    const SAFE: Stake = Stake { formed: true, leads: false, load: Load::Log, replaced: false };

    fn past(exits: &[u64]) -> Past {
        Past { exits: exits.iter().map(|s| Duration::from_secs(*s)).collect(), stillborn: None }
    }

    #[test]
    fn an_empty_master_waits_for_its_successor() {
        let at = |stake| decide(&past(&[10]), stake, Duration::from_secs(10));
        let empty = Stake { leads: true, load: Load::Nothing, ..SAFE };
        assert!(matches!(at(empty), Restart::Held(_)));
        assert_eq!(at(Stake { replaced: true, ..empty }), Restart::Now);
        assert_eq!(at(Stake { load: Load::Log, ..empty }), Restart::Now);
        let snapshot = Stake { load: Load::Snapshot, ..empty };
        assert!(matches!(at(snapshot), Restart::At(due, _) if due == Duration::from_secs(70)));
        assert_eq!(at(Stake { replaced: true, ..snapshot }), Restart::Now);
        assert_eq!(decide(&past(&[10]), snapshot, Duration::from_secs(70)), Restart::Now, "nobody was elected");
        assert_eq!(decide(&past(&[]), snapshot, Duration::ZERO), Restart::Now, "after a boot");
        assert_eq!(at(Stake { leads: false, ..empty }), Restart::Now, "a replica has nothing to lose");
        assert_eq!(at(Stake { formed: false, ..empty }), Restart::Now, "nobody has written yet");
    }

    #[test]
    fn pauses_grow_and_a_crash_loop_is_said() {
        let due = |exits: &[u64]| match decide(&past(exits), SAFE, Duration::from_secs(*exits.last().unwrap())) {
            Restart::At(due, why) => (due.as_secs() - exits.last().unwrap(), why.starts_with("a crash loop")),
            Restart::Now => (0, false),
            Restart::Held(why) => panic!("{why}"),
        };
        assert_eq!(due(&[1]), (0, false));
        assert_eq!(due(&[1, 2]), (1, false));
        assert_eq!(due(&[1, 2, 4]), (2, false));
        assert_eq!(due(&[1, 2, 4, 7]), (4, false));
        assert_eq!(due(&[1, 2, 4, 7, 12]), (60, true));
        assert_eq!(due(&[1, 2, 4, 7, 400]), (0, false), "old exits are forgiven");
    }

    #[test]
    fn a_conf_error_is_tried_again_only_after_a_minute() {
        let past = Past { exits: vec![Duration::ZERO], stillborn: Some("*** FATAL CONFIG FILE ERROR ***".into()) };
        let at = |s| decide(&past, SAFE, Duration::from_secs(s));
        assert!(matches!(at(59), Restart::At(due, _) if due == Duration::from_secs(60)));
        assert_eq!(at(60), Restart::Now);
    }
}
