//! What has happened, in order, with the moment of each: what a verdict is found by, and what a failing seed prints.

use std::{
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// An instance: of that cluster, in the order of its blueprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The cluster.
    pub cluster: usize,
    /// The instance.
    pub nth: usize,
}

/// Something that we have done, or seen at the kernel or at the servers. Nothing that Muster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An instance was killed.
    Killed(Spot),
    /// It was stopped.
    Frozen(Spot),
    /// It goes on.
    Thawed(Spot),
    /// A host's agent was killed.
    AgentKilled(usize),
    /// It was started again.
    AgentStarted(usize),
    /// The coordinator was killed.
    CoordinatorKilled,
    /// It was started again.
    CoordinatorStarted,
    /// /proc shows that process in an instance's directory, where there was another one before, or none.
    Process(Spot, i32),
    /// That instance serves the shard's slots now.
    Serves(Spot, usize),
    /// A cluster is well, and its masters have so many keys, by shard.
    Well(usize, Vec<u64>),
}

/// An acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Who has acknowledged it.
    pub by: Spot,
    /// The shard of its key.
    pub shard: usize,
    /// Who has written it.
    pub writer: u32,
    /// The number of the write, which is its value too.
    pub number: u32,
    /// When the answer came.
    pub at: Duration,
    /// A replica had acknowledged it too, a moment later.
    pub waited: bool,
}

impl Ack {
    /// Its key: written once, and never again.
    pub fn key(&self) -> String {
        key(self.writer, self.number)
    }
}

/// The key of a write.
pub fn key(writer: u32, number: u32) -> String {
    format!("soak:{writer}:{number}")
}

/// What people call everything.
#[derive(Debug, Clone)]
pub struct Names {
    /// Of hosts.
    pub hosts: Vec<String>,
    /// Of instances, by cluster.
    pub instances: Vec<Vec<String>>,
}

impl Names {
    /// An instance's.
    pub fn of(&self, spot: Spot) -> &str {
        &self.instances[spot.cluster][spot.nth]
    }
}

/// All of it, written by several threads.
#[derive(Debug)]
pub struct Story {
    began: Instant,
    entries: Mutex<Vec<(Duration, Event)>>,
}

impl Story {
    /// Begins now.
    #[expect(clippy::new_without_default, reason = "it reads the clock")]
    pub fn new() -> Self {
        Self { began: Instant::now(), entries: Mutex::new(Vec::new()) }
    }

    /// The time since it began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// That happens now. A fault is written down before it is inflicted.
    pub fn tell(&self, event: Event) {
        let now = self.now();
        self.lock().push((now, event));
    }

    /// Everything until now, in order.
    pub fn entries(&self) -> Vec<(Duration, Event)> {
        self.lock().clone()
    }

    /// A line each.
    pub fn text(&self, names: &Names) -> String {
        let mut text = String::new();
        for (at, event) in self.lock().iter() {
            let what = match event {
                Event::Killed(spot) => format!("kill -9 of {}", names.of(*spot)),
                Event::Frozen(spot) => format!("SIGSTOP of {}", names.of(*spot)),
                Event::Thawed(spot) => format!("SIGCONT of {}", names.of(*spot)),
                Event::AgentKilled(host) => format!("kill -9 of the agent of {}", names.hosts[*host]),
                Event::AgentStarted(host) => format!("the agent of {} starts", names.hosts[*host]),
                Event::CoordinatorKilled => "kill -9 of the coordinator".into(),
                Event::CoordinatorStarted => "the coordinator starts".into(),
                Event::Process(spot, pid) => format!("{} is pid {pid}", names.of(*spot)),
                Event::Serves(spot, shard) => format!("{} serves shard {shard}", names.of(*spot)),
                Event::Well(cluster, keys) => format!("cluster {cluster} is well, with {keys:?} keys"),
            };
            let _ = writeln!(text, "{:>9.3} s  {what}", at.as_secs_f64());
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Duration, Event)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
