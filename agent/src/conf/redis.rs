//! Renders `redis.conf`.
//!
//! What Muster owns comes first, each group with its why; then Muster's defaults, unless the operator says otherwise;
//! then the operator's own lines in his order. A line is only written for a server that knows it: an unknown one is
//! fatal.

use std::{
    fmt::{Display, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use muster_proto::{ClusterAssignment, InstanceTls, Member, ServerVersion, keeps::DEFAULTS};

use super::access::quoted_secret;

/// All that a `redis.conf` depends on.
#[derive(Debug, Clone, Copy)]
pub struct ConfInput<'a> {
    /// The binary that will read it.
    pub version: ServerVersion,
    /// The instance.
    pub member: &'a Member,
    /// Its cluster: the size of the shard, and the operator's settings.
    pub cluster: &'a ClusterAssignment,
    /// The instance's directory, absolute.
    pub dir: &'a Path,
    /// The agent's socket to it, absolute.
    pub socket: &'a Path,
}

/// Renders the whole file.
pub fn redis_conf(input: &ConfInput) -> String {
    let ConfInput { version, member, cluster, dir, socket } = *input;
    let mut conf = Conf(format!(
        "# Written by Muster for {}, of the cluster {}. Do not edit; change the spec instead.\n",
        member.name(),
        cluster.cluster
    ));

    conf.group("Clients and peers reach the instance at its host's address, the agent over a socket of its own.");
    if cluster.tls.is_some() {
        // TLS alone: a client that does not speak it is not heard.
        conf.line("port", 0);
        conf.line("tls-port", member.port);
    } else {
        conf.line("port", member.port);
    }
    conf.line("bind", member.address);
    conf.line("protected-mode", "no");
    conf.line("unixsocket", quoted(socket));
    conf.line("unixsocketperm", "700");

    tls(&mut conf, cluster, dir);
    if let Some(users) = &cluster.users {
        conf.group("Who may log in, by the hashes of their passwords; and as whom this one logs in to its master.");
        conf.line("aclfile", quoted(&dir.join("users.acl")));
        conf.line("masteruser", &users.replica.user);
        conf.line("masterauth", quoted_secret(&users.replica.password));
    }

    conf.group("A node of the cluster, under the one address that its peers are told.");
    conf.line("cluster-enabled", "yes");
    conf.line("cluster-config-file", "nodes.conf");
    conf.line("cluster-announce-ip", member.address);
    if version.has_seven() {
        conf.line("cluster-port", member.bus_port);
        // From 7.0 on a node dials from the host's first address unless it is told its own.
        conf.line("bind-source-addr", member.address);
    }

    conf.group("Replicas stay with the shard that the placement gave them to.");
    if version.has_seven() {
        conf.line("cluster-allow-replica-migration", "no");
    } else {
        // A replica moves only away from a master that keeps this many others (`clusterHandleSlaveMigration`,
        // cluster.c).
        conf.line("cluster-migration-barrier", "1000000");
    }

    let replicas = cluster.replicas_of(member.shard);
    if version.has_seven() && replicas > 0 {
        conf.group("The shard's replicas are all there is to wait for before a first sync.");
        conf.line("repl-diskless-sync-max-replicas", replicas);
    }

    conf.group("The agent supervises the process and knows it without its title or a pidfile.");
    conf.line("daemonize", "no");
    conf.line("supervised", "no");
    conf.line("pidfile", "\"\"");
    if knows_proc_title(version) {
        // A changed title is written over the environment, by which the agent knows its own.
        conf.line("set-proc-title", "no");
    }

    conf.group("All that it writes stays in its directory.");
    conf.line("dir", quoted(dir));
    conf.line("logfile", "redis.log");

    let is_set = |key: &str| cluster.settings.iter().any(|setting| setting.key == key);
    let defaults: Vec<_> = DEFAULTS.iter().filter(|(key, _)| !is_set(key)).collect();
    if !defaults.is_empty() {
        conf.group("Muster's defaults; the spec may say otherwise.");
        defaults.iter().for_each(|(key, value)| conf.line(key, value));
    }

    if !cluster.settings.is_empty() {
        conf.group("From the spec's [redis.config].");
        cluster.settings.iter().for_each(|setting| conf.line(&setting.key, &setting.value));
    }
    conf.0
}

/// Clients need a password and no certificate; the bus demands one of everybody (cluster.c).
fn tls(conf: &mut Conf, cluster: &ClusterAssignment, dir: &Path) {
    let files = match &cluster.tls {
        None => return,
        Some(InstanceTls::Issued { .. }) => ["tls.crt", "tls.key", "ca.crt"].map(|name| dir.join(name)),
        Some(InstanceTls::Files(files)) => [files.cert.clone(), files.key.clone(), files.ca.clone()],
    };
    conf.group("TLS for clients, for replicas and on the bus.");
    conf.line("tls-cluster", "yes");
    conf.line("tls-replication", "yes");
    conf.line("tls-auth-clients", "optional");
    conf.line("tls-protocols", "\"TLSv1.2 TLSv1.3\"");
    for (key, path) in ["tls-cert-file", "tls-key-file", "tls-ca-cert-file"].into_iter().zip(files) {
        conf.line(key, quoted(&path));
    }
}

/// `set-proc-title` came with 6.2. Before, the title is always set, and the environment in `/proc/PID/environ` is lost.
fn knows_proc_title(version: ServerVersion) -> bool {
    (version.major, version.minor) >= (6, 2)
}

struct Conf(String);

impl Conf {
    fn group(&mut self, why: &str) {
        let _ = write!(self.0, "\n# {why}\n");
    }

    fn line(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.0, "{key} {value}");
    }
}

/// A path as one argument of a line: bare where nothing in it means anything to `sdssplitargs` (sds.c, all versions),
/// else in double quotes with every other byte as `\xHH`, so that the file is ASCII whatever the path.
fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%=,".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return bytes.iter().map(|&byte| char::from(byte)).collect();
    }
    let mut text = String::from("\"");
    for byte in bytes {
        if plain(byte) || *byte == b' ' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text + "\""
}
