//! The figures: runs, their median, the two sides next to each other, all of it as JSON.

use std::{fmt, process::Command, thread};

use serde::Serialize;

use crate::{Shape, adoption::Adoption, cost::Idle, revival::Revival};

/// What no tool can take away: a master waits this long after its first look before it serves (CLUSTER_WRITABLE_DELAY).
const SERVERS_OWN_MS: f64 = 2000.0;

/// What a size is to be: at least so many times faster than by hand (where that was promised), and at most so much on
/// top of the server's own.
type Goal = (u16, Option<f64>, f64);

/// What both sides do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A cluster out of nothing.
    Form,
    /// Another one out of one that holds data.
    Rebuild,
}

impl Deed {
    fn goals(self) -> &'static [Goal] {
        match self {
            Self::Form => &[(6, Some(2.5), 500.0), (30, Some(5.0), 1000.0)],
            Self::Rebuild => &[(6, None, 1000.0), (30, Some(3.0), 1000.0)],
        }
    }
}

/// One run of one side.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// From the first act to the end.
    pub total_ms: f64,
    /// In order.
    pub phases: Vec<Phase>,
}

/// A part of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// As the side itself calls it.
    pub name: String,
    /// How long it took.
    pub ms: f64,
}

/// All runs of one side.
#[derive(Debug, Serialize)]
pub struct Side {
    totals_ms: Vec<f64>,
    median: Run,
}

impl Side {
    /// The run in the middle stands for all; of an even number, the faster of the two.
    fn median(runs: Vec<Run>) -> Self {
        let totals_ms = runs.iter().map(|run| run.total_ms).collect();
        let mut sorted = runs;
        sorted.sort_by(|a, b| a.total_ms.total_cmp(&b.total_ms));
        Self { totals_ms, median: sorted.swap_remove((sorted.len() - 1) / 2) }
    }
}

/// Both sides at one size.
#[derive(Debug, Serialize)]
pub struct Comparison {
    deed: Deed,
    instances: u16,
    hosts: u16,
    by_hand: Side,
    muster: Side,
    ratio: f64,
    muster_adds_ms: f64,
}

impl Comparison {
    /// Of two sides.
    pub fn new(deed: Deed, shape: Shape, by_hand: Vec<Run>, muster: Vec<Run>) -> Self {
        let (by_hand, muster) = (Side::median(by_hand), Side::median(muster));
        let ratio = by_hand.median.total_ms / muster.median.total_ms;
        let muster_adds_ms = muster.median.total_ms - SERVERS_OWN_MS;
        let Shape { instances, hosts } = shape;
        Self { deed, instances, hosts, by_hand, muster, ratio, muster_adds_ms }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right) = (&self.by_hand, &self.muster);
        let runs = left.totals_ms.len();
        let deed = match self.deed {
            Deed::Form => "formed",
            Deed::Rebuild => "that hold data, rebuilt",
        };
        writeln!(f, "\n{} instances on {} hosts, {deed}, median of {runs}", self.instances, self.hosts)?;
        writeln!(f, "  {:<28}    Muster", "by hand")?;
        let cell = |side: &Side, nth: usize| {
            side.median
                .phases
                .get(nth)
                .map_or_else(|| " ".repeat(28), |Phase { name, ms }| format!("{name:<18}{ms:>7.0} ms"))
        };
        for nth in 0..left.median.phases.len().max(right.median.phases.len()) {
            writeln!(f, "{}", format!("  {}    {}", cell(left, nth), cell(right, nth)).trim_end())?;
        }
        let total = |side: &Side| format!("{:<18}{:>7.0} ms", "total", side.median.total_ms);
        writeln!(f, "  {}    {}", total(left), total(right))?;
        let Self { ratio, muster_adds_ms, .. } = self;
        writeln!(
            f,
            "  {ratio:.1} times faster; {muster_adds_ms:.0} ms more than the server's own {SERVERS_OWN_MS:.0} ms"
        )?;
        let goal = self.deed.goals().iter().find(|(instances, ..)| *instances == self.instances);
        if let Some((_, times, adds)) = goal {
            let verdict = |met: bool| if met { "met" } else { "MISSED" };
            let fast = |times: &f64| format!("at least {times} times faster: {}; ", verdict(ratio >= times));
            let fast = times.as_ref().map(fast).unwrap_or_default();
            writeln!(f, "  goals: {fast}under {adds:.0} ms on top: {}", verdict(muster_adds_ms < adds))?;
        }
        Ok(())
    }
}

/// Everything, as it is written to the file.
#[derive(Debug, Serialize)]
pub struct Report {
    cores: usize,
    server: String,
    muster: &'static str,
    runs: u32,
    sizes: Vec<Comparison>,
    idle: Vec<Idle>,
    revival: Option<Revival>,
    adoption: Option<Adoption>,
}

impl Report {
    /// With what the figures were measured on.
    pub fn new(
        runs: u32,
        sizes: Vec<Comparison>,
        idle: Vec<Idle>,
        revival: Option<Revival>,
        adoption: Option<Adoption>,
    ) -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        let server =
            version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        let cores = thread::available_parallelism().map_or(0, usize::from);
        Self { cores, server, muster: muster_proto::VERSION, runs, sizes, idle, revival, adoption }
    }
}
