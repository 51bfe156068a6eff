//! The other side: `tests/by-hand.sh`, which times its own phases.

use std::{path::Path, process::Command};

use muster_tests::subnet::Subnet;
use tempfile::TempDir;

use crate::{
    Shape,
    report::{Phase, Run},
};

/// The script, and where it works.
pub struct Script {
    /// `ADDRESS:PORT` of each node.
    pub nodes: Vec<String>,
    dir: TempDir,
    _subnet: Subnet,
}

impl Script {
    /// For a cluster of that shape.
    pub fn of(shape: Shape) -> Self {
        let subnet = Subnet::lease();
        let dir = tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap();
        let hosts = (1..=shape.hosts).map(|nth| subnet.address(u8::try_from(nth).unwrap()));
        let nodes = hosts.flat_map(|host| (7000..7000 + shape.per_host()).map(move |port| format!("{host}:{port}")));
        Self { nodes: nodes.collect(), dir, _subnet: subnet }
    }

    /// What runs it.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("by-hand.sh"));
        command.args(options).arg(self.dir.path().join("cluster")).arg("1").args(&self.nodes);
        command
    }
}

/// One run.
pub fn run(shape: Shape) -> Run {
    let output = Script::of(shape).command(&[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "by hand: {said}{}", String::from_utf8_lossy(&output.stderr));
    read(&said)
}

/// What it says: a phase a line, and all of them together last.
pub fn read(said: &str) -> Run {
    let line = |line: &str| {
        let (phase, ms) = line.split_once(' ').unwrap();
        Phase { name: phase.replace('_', " "), ms: ms.parse().unwrap() }
    };
    let (totals, phases): (Vec<_>, Vec<_>) = said.lines().map(line).partition(|phase| phase.name == "total");
    let total = totals.first().unwrap_or_else(|| panic!("by hand: it has not come to an end: {said}"));
    Run { total_ms: total.ms, phases }
}
