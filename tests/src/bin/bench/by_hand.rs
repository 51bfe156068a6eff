//! The other side: `tests/by-hand.sh`, which times its own phases.

use std::{path::Path, process::Command};

use muster_tests::subnet::Subnet;

use crate::{
    Shape,
    report::{Phase, Run},
};

/// One run.
pub fn run(shape: Shape) -> Run {
    let subnet = Subnet::lease();
    let dir = tempfile::Builder::new().prefix("mt-").tempdir_in("/tmp").unwrap();
    let hosts = (1..=shape.hosts).map(|nth| subnet.address(u8::try_from(nth).unwrap()));
    let nodes = hosts.flat_map(|host| (7000..7000 + shape.per_host()).map(move |port| format!("{host}:{port}")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("by-hand.sh");
    let output = Command::new(script).arg(dir.path().join("cluster")).arg("1").args(nodes).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "by hand: {said}{}", String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| {
        let (phase, ms) = line.split_once(' ').unwrap();
        Phase { name: phase.replace('_', " "), ms: ms.parse().unwrap() }
    };
    let (totals, phases): (Vec<_>, Vec<_>) = said.lines().map(line).partition(|phase| phase.name == "total");
    Run { total_ms: totals[0].ms, phases }
}
