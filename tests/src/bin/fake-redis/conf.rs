//! Reads a redis.conf, as far as it matters here.

use std::{collections::BTreeMap, fs};

/// Directives that it takes; of any other it says that it does not know it.
const KNOWN: &[&str] = &[
    "aclfile",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-percentage",
    "bind",
    "bind-source-addr",
    "cluster-allow-replica-migration",
    "cluster-announce-ip",
    "cluster-config-file",
    "cluster-enabled",
    "cluster-migration-barrier",
    "cluster-node-timeout",
    "cluster-port",
    "cluster-require-full-coverage",
    "daemonize",
    "dir",
    "hz",
    "logfile",
    "loglevel",
    "masterauth",
    "masteruser",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "pidfile",
    "port",
    "protected-mode",
    "repl-backlog-size",
    "repl-diskless-sync",
    "repl-diskless-sync-delay",
    "repl-diskless-sync-max-replicas",
    "save",
    "set-proc-title",
    "supervised",
    "syslog-enabled",
    "tcp-backlog",
    "tcp-keepalive",
    "timeout",
    "unixsocket",
    "unixsocketperm",
];

/// What it was told.
#[derive(Debug, Clone)]
pub struct Conf {
    /// Where it lives.
    pub dir: String,
    /// The client port.
    pub port: u16,
    /// The bus port.
    pub bus_port: u16,
    /// Its address.
    pub address: String,
    /// Milliseconds after which a peer that does not answer has failed.
    pub node_timeout: u64,
    /// All lines; of a key that comes again, the last.
    pub lines: BTreeMap<String, String>,
}

impl Conf {
    /// From the file that it is started with.
    pub fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        if let Some((nth, line)) = unknown(&text) {
            return Err(refusal(nth, &line));
        }
        let lines: BTreeMap<String, String> = words(&text).map(|(_, key, value)| (key, value)).collect();
        let value = |key: &str| lines.get(key).cloned();
        let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok());
        let port = number("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(6379);
        let bus = number("cluster-port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        Ok(Self {
            dir: value("dir").unwrap_or_else(|| ".".into()),
            port,
            bus_port: bus.unwrap_or_else(|| port.saturating_add(10_000)),
            address: value("bind").unwrap_or_else(|| "127.0.0.1".into()),
            node_timeout: number("cluster-node-timeout").unwrap_or(15_000),
            lines,
        })
    }

    /// Whether a switch is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.lines.get(key).is_some_and(|value| value == "yes")
    }
}

/// The first line that it does not know, and its number.
pub fn unknown(text: &str) -> Option<(usize, String)> {
    let found = words(text).find(|(_, key, _)| !KNOWN.contains(&key.as_str()))?;
    Some((found.0, text.lines().nth(found.0 - 1)?.trim().to_owned()))
}

/// What the server says of such a line.
pub fn refusal(nth: usize, line: &str) -> String {
    format!(
        "\n*** FATAL CONFIG FILE ERROR (Redis {}) ***\nReading the configuration file, at line {nth}\n>>> '{line}'\nBad \
         directive or wrong number of arguments\n",
        crate::VERSION
    )
}

fn words(text: &str) -> impl Iterator<Item = (usize, String, String)> {
    let lines = text.lines().enumerate().map(|(nth, line)| (nth + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(nth, line)| {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        (nth, key.to_ascii_lowercase(), value.trim().trim_matches('"').to_owned())
    })
}
