//! What the servers themselves say, asked with redis-cli: the judge that knows nothing of Muster.

use std::{collections::BTreeMap, process::Command};

use muster_proto::{
    Topology,
    view::{self, View},
};

/// Runs `redis-cli -h HOST -p PORT ARGS`. An error reply of the server is an `Err`.
pub fn cli(endpoint: &str, args: &[&str]) -> Result<String, String> {
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| format!("{endpoint} is not ADDRESS:PORT"))?;
    run(Command::new("redis-cli").args(["-e", "-h", host, "-p", port]).args(args))
        .map_err(|error| format!("{endpoint} {args:?}: {error}"))
}

/// Runs it as a client of the cluster (`-c`), which follows redirects.
pub fn cluster_cli(endpoint: &str, args: &[&str]) -> Result<String, String> {
    cli(endpoint, &[&["-c"], args].concat())
}

/// `redis-cli --cluster check`: its whole text, as `Err` when it finds fault.
pub fn check(endpoint: &str) -> Result<String, String> {
    run(Command::new("redis-cli").args(["--cluster", "check", endpoint]))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("redis-cli: {error}; tests/setup.sh installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))) }
}

/// `INFO SECTION`, by key.
pub fn info(endpoint: &str, section: &str) -> Result<BTreeMap<String, String>, String> {
    let text = cli(endpoint, &["info", section])?;
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// A node's own view.
pub fn nodes(endpoint: &str) -> Result<View, String> {
    view::parse(&cli(endpoint, &["cluster", "nodes"])?).map_err(|error| format!("{endpoint}: {error}"))
}

/// Every node's own view is the same, without troubles, and every node says `cluster_state:ok`: that topology.
/// Otherwise who does not agree, and with what.
pub fn agreement(endpoints: &[String]) -> Result<Topology, String> {
    let mut agreed: Option<(&str, Topology)> = None;
    for endpoint in endpoints {
        let view = nodes(endpoint)?;
        if !view.troubles.is_empty() {
            return Err(format!("{endpoint} says: {}", view.troubles.join("; ")));
        }
        if !cli(endpoint, &["cluster", "info"])?.contains("cluster_state:ok") {
            return Err(format!("{endpoint} does not say cluster_state:ok"));
        }
        match &agreed {
            None => agreed = Some((endpoint, view.topology)),
            Some((first, topology)) if topology.canonical() != view.topology.canonical() => {
                let (theirs, ours) = (topology.canonical(), view.topology.canonical());
                return Err(format!("{first} and {endpoint} do not agree:\n{theirs}\n{ours}"));
            }
            Some(_) => {}
        }
    }
    agreed.map(|(_, topology)| topology).ok_or_else(|| "nobody was asked".to_owned())
}

/// Every replica says that its link is up and that no sync is under way; otherwise which does not.
pub fn in_sync(endpoints: &[String]) -> Result<(), String> {
    for endpoint in endpoints {
        let info = info(endpoint, "replication")?;
        let is = |key: &str, value: &str| info.get(key).is_some_and(|found| found == value);
        if is("role", "slave") && !(is("master_link_status", "up") && is("master_sync_in_progress", "0")) {
            return Err(format!("{endpoint} is a replica and not in sync"));
        }
    }
    Ok(())
}
