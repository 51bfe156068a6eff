//! Scopes of systemd: each server in a unit of its own, `muster-7000.scope` in `system-muster.slice`, where systemd
//! runs the agent. Decisions and words only; [`enscope`](crate::enscope) asks systemd.
//!
//! A scope is for limits, and for the order in which a machine stops. It says nothing about whether a server lives, and
//! a server that cannot have one runs all the same, with a condition that says so. It is asked for when the server
//! runs already, so that starting one depends on nobody; and for servers that were found again too.
//!
//! What it is asked for with. `KillMode` stays at `control-group`, so that a save in the background is told to stop
//! with its server; `Delegate` stays off, because nobody makes cgroups below.
#![doc = include_str!("scope/table.md")]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use muster_proto::{Limits, Port};

use crate::config::BASE_DIR;

/// Who has started the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// The machine's systemd, as this unit.
    Systemd(String),
    /// Somebody else: a person, a container's entry point, another supervisor.
    Other,
}

/// What a server's scope is made of.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its name.
    pub name: String,
    /// The agent's own unit.
    pub agent: String,
    /// The server's process.
    pub pid: i32,
    /// For people.
    pub description: String,
    /// What it lives in.
    pub dir: PathBuf,
    /// Between SIGTERM and SIGKILL.
    pub patience: Duration,
    /// The spec's.
    pub limits: Limits,
}

/// Not known to the scopes of an older systemd, which refuses the whole for it.
pub const NEWER: &str = "OOMPolicy";

/// Where nobody gives scopes, and there are limits.
pub const UNENFORCED: &str = "systemd does not run this agent: nobody enforces the limits of its spec";

impl Manager {
    /// By the text of /proc/PID/cgroup, where systemd runs. A service of the machine is believed; what a person has
    /// started in a session of his own, or in his own systemd, is his affair.
    pub fn of(cgroup: &str) -> Self {
        match path(cgroup).unwrap_or_default().rsplit_once('/') {
            Some((slice, unit)) if unit.ends_with(".service") && !slice.starts_with("/user.slice") => {
                Self::Systemd(unit.to_owned())
            }
            _ => Self::Other,
        }
    }

    /// Whether servers get scopes, and limits hold.
    pub fn gives_scopes(&self) -> bool {
        matches!(self, Self::Systemd(_))
    }
}

/// The name of a port's scope. Two agents of one machine have two base directories, and may have the same ports.
pub fn name(base: &Path, port: Port) -> String {
    let base = base.to_string_lossy();
    let mut name = String::from("muster-");
    if base != BASE_DIR {
        for byte in base.trim_matches('/').bytes() {
            // As systemd-escape(1) --path does it.
            match byte {
                b'/' => name.push('-'),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b':' => name.push(byte.into()),
                other => {
                    let _ = write!(name, "\\x{other:02x}");
                }
            }
        }
        name.push('-');
    }
    format!("{name}{port}.scope")
}

/// Whether a process is in that scope, by the text of its /proc/PID/cgroup.
pub fn is_in(cgroup: &str, name: &str) -> bool {
    path(cgroup).is_some_and(|path| path.split('/').any(|part| part == name))
}

/// Its path in the hierarchy that systemd keeps its units in: the unified one, or, beside the old controllers, its own.
fn path(cgroup: &str) -> Option<&str> {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let named = lines().find(|(controllers, _)| *controllers == "name=systemd");
    named.or_else(|| lines().find(|(controllers, _)| controllers.is_empty())).map(|(_, path)| path)
}

/// The file that counts how many processes of a process's cgroup were killed for lack of memory, below
/// `/sys/fs/cgroup`: of the old memory controller, or of the unified hierarchy.
pub fn oom_file(cgroup: &str) -> Option<String> {
    let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let old = lines().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    match old {
        Some((controllers, path)) => Some(format!("{controllers}{path}/memory.oom_control")),
        None => lines().find(|(name, _)| name.is_empty()).map(|(_, path)| format!("{}/memory.events", &path[1..])),
    }
}

/// What stands in it.
pub fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The words for busctl(1) that ask systemd for it; `newer` adds what an older systemd does not know.
pub fn request(wish: &Wish, newer: bool) -> Vec<String> {
    let Wish { name, agent, pid, description, dir, patience, limits } = wish;
    let dir = dir.display().to_string();
    let mut properties: Vec<Vec<String>> = Vec::new();
    let mut property = |words: &[&str]| properties.push(words.iter().map(|word| (*word).to_owned()).collect());
    property(&["Description", "s", description]);
    property(&["PIDs", "au", "1", &pid.to_string()]);
    property(&["Slice", "s", "system-muster.slice"]);
    property(&["Before", "as", "1", agent]);
    property(&["After", "as", "1", "network.target"]);
    property(&["RequiresMountsFor", "as", "1", &dir]);
    property(&["TimeoutStopUSec", "t", &patience.as_micros().to_string()]);
    property(&["CollectMode", "s", "inactive-or-failed"]);
    if let Some(memory) = limits.memory {
        property(&["MemoryMax", "t", &memory.bytes().to_string()]);
        property(&["MemorySwapMax", "t", "0"]);
    }
    if let Some(cpus) = limits.cpus {
        property(&["CPUQuotaPerSecUSec", "t", &(u64::from(cpus.hundredths()) * 10_000).to_string()]);
    }
    if newer {
        property(&[NEWER, "s", "continue"]);
    }
    // Nobody is asked for a password: on a desktop, polkit would.
    let call = [
        "--system",
        "--quiet",
        "--allow-interactive-authorization=no",
        "--timeout=5",
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        name,
        "fail",
    ];
    let mut words: Vec<String> = call.map(str::to_owned).to_vec();
    words.push(properties.len().to_string());
    words.extend(properties.into_iter().flatten());
    words.push("0".to_owned());
    words
}

/// After so many failures, in a row and over some seconds, an operator should know.
pub const PATIENCE: u32 = 4;

/// Between two tries. The first failures are those of a name that is not free yet, because systemd has not noticed the
/// end of the server before; what lasts is looked at once a minute.
pub fn pause(failures: u32) -> Duration {
    Duration::from_millis(100 << (failures.saturating_sub(1) * 2).min(10)).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests;
