//! How long an agent that is started again takes to find its instances: from before its exec to READY=1, which it says
//! after its first pass, and until every one of them has answered it.

use std::{fmt, time::Instant};

use muster_tests::{Manager, World};
use serde::Serialize;

/// Restarts of the agent.
const RESTARTS: usize = 10;
/// From exec to the first pass.
const GOAL_MS: f64 = 100.0;

/// The figures.
#[derive(Debug, Serialize)]
pub struct Adoption {
    instances: u16,
    restarts: usize,
    ready_median_ms: f64,
    ready_most_ms: f64,
    answered_median_ms: f64,
    answered_most_ms: f64,
}

/// Kills and starts the agent of `server1`, which has so many instances, and leaves it running.
pub fn run(world: &mut World, instances: u16) -> Adoption {
    eprintln!("restarting the agent of {instances} instances {RESTARTS} times ...");
    let manager = Manager::new(world.dir());
    world.agent("server1").start_through(&manager.words());
    let all = format!("{instances} of {instances} instances run");
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        world.agent("server1").kill();
        let began = Instant::now();
        world.agent("server1").start();
        let said = manager.hears("READY=1");
        ready.push(began.elapsed().as_secs_f64() * 1000.0);
        if !said.contains(&all) {
            manager.hears_of(&all, |message| message.contains(&all));
        }
        answered.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    ready.sort_by(f64::total_cmp);
    answered.sort_by(f64::total_cmp);
    let (middle, last) = ((RESTARTS - 1) / 2, RESTARTS - 1);
    Adoption {
        instances,
        restarts: RESTARTS,
        ready_median_ms: ready[middle],
        ready_most_ms: ready[last],
        answered_median_ms: answered[middle],
        answered_most_ms: answered[last],
    }
}

impl fmt::Display for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instances, restarts, .. } = self;
        writeln!(f, "\nAn agent finds its {instances} instances again, {restarts} restarts")?;
        let line = |name: &str, median: f64, most: f64| format!("  {name:<26}{median:>9.1} ms, at most {most:.1} ms");
        writeln!(f, "{}", line("found, READY=1", self.ready_median_ms, self.ready_most_ms))?;
        writeln!(f, "{}", line("all have answered", self.answered_median_ms, self.answered_most_ms))?;
        let verdict = if self.ready_median_ms < GOAL_MS { "met" } else { "MISSED" };
        writeln!(f, "  goal: found in under {GOAL_MS} ms: {verdict}")
    }
}
