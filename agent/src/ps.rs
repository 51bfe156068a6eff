//! `muster-agent ps`: whose the process at every port of this host is, told by what lies here alone. It needs no
//! coordinator and no running agent, and changes nothing.

use std::{collections::BTreeSet, fmt, fs, net::SocketAddr};

use muster_proto::Port;
use serde::Serialize;

use crate::{
    config::Config,
    layout::{Directory, Layout},
    process::{Found, Process},
    strangers::Crowd,
};

/// Every port that this host offers or has something of.
#[derive(Debug, Serialize)]
pub struct Processes {
    processes: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    port: Port,
    standing: &'static str,
    pid: Option<i32>,
    cluster: Option<String>,
    node_id: Option<String>,
    life: Option<u64>,
    directory: String,
    reason: Option<String>,
    evidence: Vec<String>,
}

/// Looks.
pub fn look(config: &Config) -> Processes {
    let layout = Layout::at(&config.base_dir, config.run_as.clone());
    let crowd = Crowd::default();
    let ports: BTreeSet<Port> = config.ports.iter().chain(with_directories(config)).collect();
    Processes { processes: ports.into_iter().map(|port| row(config, &layout, &crowd, port)).collect() }
}

fn with_directories(config: &Config) -> impl Iterator<Item = Port> {
    let entries = fs::read_dir(&config.base_dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()?.try_into().ok())
}

fn row(config: &Config, layout: &Layout, crowd: &Crowd, port: Port) -> Row {
    let dir = layout.instance(port);
    let bus = port.get().checked_add(10_000);
    let places = [Some(port.get()), bus].into_iter().flatten().map(|port| SocketAddr::new(config.address, port));
    let places: Vec<_> = places.collect();
    let (found, clues) = Process::find(&dir, || crowd.strangers(&dir, &places));
    let (standing, pid, reason) = match found {
        Found::Nothing => ("gone", None, None),
        Found::Ours(process) => ("ours", Some(process.pid()), None),
        Found::Foreign(who) => ("foreign", None, Some(who)),
        Found::Unknown(why) => ("unknown", None, Some(why)),
    };
    let (stamp, directory) = match dir.look() {
        Directory::Free => (None, "none".to_owned()),
        Directory::Stamped(stamp) => (Some(stamp), "stamped".to_owned()),
        Directory::Foreign(what) => (None, format!("somebody else's ({what})")),
        Directory::Unreadable(why) => (None, format!("unreadable ({why})")),
    };
    Row {
        port,
        standing,
        pid,
        cluster: stamp.as_ref().map(|stamp| stamp.cluster.to_string()),
        node_id: stamp.as_ref().map(|stamp| stamp.node_id.to_string()),
        life: stamp.as_ref().map(|stamp| stamp.life.0),
        directory,
        reason,
        evidence: clues.iter().map(ToString::to_string).collect(),
    }
}

impl fmt::Display for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.processes {
            let pid = row.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
            let whose = match (&row.cluster, &row.node_id) {
                (Some(cluster), Some(node)) => format!("cluster {cluster}, node {node}"),
                _ => format!("directory: {}", row.directory),
            };
            writeln!(f, "{}  {}{pid}, {whose}", row.port, row.standing)?;
            for line in row.reason.iter().chain(&row.evidence) {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}
