//! The soak: agents, instances and the coordinator are killed and frozen at random while clients write, and in the end
//! every instance runs exactly once, nobody else was touched, and no acknowledged write is lost but those that Redis'
//! own asynchronous replication explains.
//!
//! Two clusters share three hosts: one with an append-only file, one that keeps nothing and lives by its replicas
//! alone. Every write has a key of its own and is written down with who acknowledged it, when, and whether a replica
//! had it too (WAIT 1). One instance of a cluster is hurt at a time, when the cluster is well again after the last: a
//! shard whose both copies die is nobody's fault. Agents and the coordinator are killed at any moment.
//!
//! **How the two kinds of loss are told apart** ([`verdict`]). A master acknowledges before its replica has the write,
//! so Redis may lose what it acknowledged last when the replica takes over. A lost write is explained if, and only if:
//! no replica had acknowledged it; and the instance that acknowledged it was killed or frozen by us within
//! [`LAG`](verdict::LAG) after that, or took it in the moment of being thawed, before it heard that it is no master any
//! more; and another node did then take over its shard. Or Redis took over by itself, because the machine was too slow
//! for its node timeout, with nobody's process having ended: those are counted apart. Everything else is a failure of
//! ours: a write that a replica had, a loss without a fault, a loss where nobody took over (the instance came back and
//! had its log), a shard of the cluster without persistence that is empty, and a process that ended though nobody killed
//! it.
//!
//! Appends are written before they are acknowledged, and a killed process loses nothing of what it has written; that
//! they are not synced to the disk (`appendfsync no`) matters to power cuts, which there are none of here.
//!
//! Reading order: [`schedule`] and [`verdict`], which are functions of values; [`story`], [`talk`], [`cluster`], [`writers`],
//! [`watcher`], [`stage`].

pub mod cluster;
pub mod schedule;
pub mod stage;
pub mod story;
pub mod talk;
pub mod verdict;
pub mod watcher;
pub mod writers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::{schedule::Schedule, stage::Stage, verdict::Judged};

/// Failures that are shown one by one: a shard that is lost is lost in thousands of writes.
const SHOWN: usize = 20;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the faults are drawn from.
    pub seed: u64,
    /// For how long there are any.
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// How many faults there were.
    pub faults: usize,
    /// What became of the writes.
    pub judged: Judged,
    /// What else is wrong.
    pub wrong: Vec<String>,
    /// All that has happened, in order.
    pub story: String,
}

impl Outcome {
    /// Everything that must not be, a sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.judged.condemned.iter().chain(&self.wrong).cloned().collect()
    }

    /// All of it where something is wrong, with as many of the failures as can be read; nothing where all is well.
    pub fn complaint(&self) -> Option<String> {
        let failures = self.failures();
        let more = failures.len().saturating_sub(SHOWN);
        let shown: String = failures.iter().take(SHOWN).map(|failure| format!("FAILED: {failure}\n")).collect();
        let rest = if more > 0 { format!("and {more} more\n") } else { String::new() };
        (!failures.is_empty()).then(|| format!("{}{shown}{rest}", self.story))
    }

    /// What it comes to, in a few lines.
    pub fn summary(&self) -> String {
        let Judged { acknowledged, waited, explained, by_itself, .. } = &self.judged;
        format!(
            "{} faults; {acknowledged} writes acknowledged, {waited} of them by a replica too; lost: {} that Redis' \
             asynchronous replication explains, {by_itself} in failovers of its own; {} failures",
            self.faults,
            explained.len(),
            self.failures().len()
        )
    }
}

/// Runs a soak from start to end, and leaves nothing behind.
pub fn run(plan: Plan) -> Outcome {
    let mut stage = Stage::set();
    let enough = Arc::new(AtomicBool::new(false));
    let writers = writers::begin(&stage.clusters, &stage.story, &enough);
    let watcher = {
        let (clusters, story, enough) = (stage.clusters.clone(), stage.story.clone(), enough.clone());
        let places = stage.places();
        thread::spawn(move || watcher::watch(&clusters, &places, &story, &enough))
    };
    let (mut schedule, mut faults, began) = (Schedule::new(plan.seed), 0, Instant::now());
    let mut wrong = Vec::new();
    while began.elapsed() < plan.duration {
        let beat = schedule.next_beat();
        stage.pass_time(beat.pause);
        match stage.inflict(&beat.fault) {
            Ok(true) => faults += 1,
            Ok(false) => {}
            Err(why) => {
                wrong.push(why);
                break;
            }
        }
    }
    wrong.extend(stage.come_to_rest());
    enough.store(true, Ordering::Relaxed);
    let acks =
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer does not panic")).collect::<Vec<_>>();
    watcher.join().expect("the watcher does not panic");
    wrong.extend(stage.examine());
    let judged = match stage.read_back(&acks) {
        Ok(lost) => verdict::judge(&stage.story.entries(), &acks, &lost, &stage.names()),
        Err(why) => {
            wrong.push(format!("what was written cannot be read back: {why}"));
            Judged::default()
        }
    };
    Outcome { faults, judged, wrong, story: stage.story.text(&stage.names()) }
}
