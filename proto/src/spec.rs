//! What the operator wants, checked for everything that can be checked without knowing any host.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    ClusterName, HostName, Limits, PortSet,
    acl::{Auth, Tls},
    limits::LimitError,
};

/// Most copies beside a master. Redis has no limit; beyond this somebody has mistyped.
pub const REPLICAS_MAX: u32 = 16;

/// Fewest masters that can elect one of their replicas after one of them has died.
pub const MASTERS_MIN: u32 = 3;

/// Most masters: Redis' documentation advises against more than 1000 nodes.
pub const MASTERS_MAX: u32 = 1000;

/// Lines of redis.conf that are Muster's to write, or that would take away what it works with: commands, log-ins,
/// addresses. Where a server has two names for one directive, both stand here.
pub const OWNED: &[(&str, &str)] = &[
    ("port", "it follows from the spec's `ports`"),
    ("bind", "instances listen on their host's `address`"),
    ("bind-source-addr", "it is the host's `address`"),
    ("tls-port", "it follows from the spec's `tls`"),
    ("tls-cluster", "it follows from the spec's `tls`"),
    ("tls-replication", "it follows from the spec's `tls`"),
    ("unixsocket", "the agent speaks to its instances over it"),
    ("unixsocketperm", "the agent's socket is for the agent alone"),
    ("cluster-enabled", "every instance is a cluster node"),
    ("cluster-config-file", "it is nodes.conf in the instance's directory"),
    ("cluster-port", "it follows from the client port"),
    ("cluster-announce-ip", "it is the host's `address`"),
    ("cluster-announce-port", "it is the client port"),
    ("cluster-announce-tls-port", "it follows from the spec's `tls`"),
    ("cluster-announce-bus-port", "it follows from the client port"),
    ("tls-cert-file", "it follows from the spec's `tls`"),
    ("tls-key-file", "it follows from the spec's `tls`"),
    ("tls-ca-cert-file", "it follows from the spec's `tls`"),
    ("tls-ca-cert-dir", "it follows from the spec's `tls`"),
    ("tls-key-file-pass", "it would be a secret in the spec; keep the key without a passphrase, closed to others"),
    ("tls-client-cert-file", "it follows from the spec's `tls`"),
    ("tls-client-key-file", "it follows from the spec's `tls`"),
    ("acl-pubsub-default", "users' channels stand in the spec's [acl]"),
    ("cluster-announce-hostname", "it would be one name for all instances; clients are sent to addresses"),
    ("cluster-announce-client-ipv4", "it would be one address for all instances"),
    ("cluster-announce-client-ipv6", "it would be one address for all instances"),
    ("cluster-announce-client-port", "it would be one port for all instances"),
    ("cluster-announce-client-tls-port", "it follows from the spec's `tls`"),
    ("cluster-preferred-endpoint-type", "clients are sent to addresses; instances announce nothing else"),
    ("cluster-allow-replica-migration", "replicas that move by themselves undo the placement"),
    ("cluster-migration-barrier", "replicas that move by themselves undo the placement"),
    ("daemonize", "the agent supervises the process"),
    ("supervised", "the agent supervises the process"),
    ("pidfile", "the agent knows the process by its pidfd"),
    ("dir", "it is the instance's directory"),
    ("logfile", "it is redis.log in the instance's directory"),
    ("set-proc-title", "the agent knows its processes by their environment"),
    ("proc-title-template", "the agent knows its processes by their environment"),
    ("repl-diskless-sync-max-replicas", "it is the number of replicas in the shard"),
    ("replicaof", "roles are the cluster's"),
    ("slaveof", "roles are the cluster's"),
    ("include", "an included file could set what Muster owns; write its lines into the spec"),
    ("protected-mode", "the instance must be reachable for its peers"),
    ("rename-command", "the agent and the replicas need every command under its own name"),
    (
        "requirepass",
        "passwords are Muster's; `muster credentials` shows them, and `auth` in the spec says who needs one",
    ),
    (
        "masterauth",
        "passwords are Muster's; `muster credentials` shows them, and `auth` in the spec says who needs one",
    ),
    (
        "primaryauth",
        "passwords are Muster's; `muster credentials` shows them, and `auth` in the spec says who needs one",
    ),
    (
        "masteruser",
        "passwords are Muster's; `muster credentials` shows them, and `auth` in the spec says who needs one",
    ),
    (
        "primaryuser",
        "passwords are Muster's; `muster credentials` shows them, and `auth` in the spec says who needs one",
    ),
    ("user", "users stand in the spec's [acl]"),
    ("aclfile", "users stand in the spec's [acl]"),
];

/// One line of redis.conf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The directive, lower case.
    pub key: String,
    /// Its arguments, as they will stand in the file.
    pub value: String,
}

/// A host that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecHost {
    /// As its agent calls itself.
    pub name: HostName,
    /// One instance each.
    pub ports: PortSet,
}

/// A spec as it was written, its parts believed and the whole not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecParts {
    /// The cluster's name.
    pub name: ClusterName,
    /// Copies beside each master.
    pub replicas: u32,
    /// How many masters; none means as many as the instances allow.
    pub masters: Option<u32>,
    /// Who takes part.
    pub hosts: Vec<SpecHost>,
    /// Lines of redis.conf, in order.
    pub settings: Vec<Setting>,
    /// Two copies of a shard may share a host where nothing else is possible.
    pub allow_shared_host: bool,
    /// How clients prove who they are.
    pub auth: Auth,
    /// What is spoken to clients and peers.
    pub tls: Tls,
    /// What each instance may take of its host.
    pub limits: Limits,
}

/// What the operator wants: hosts distinct, ports there, settings well-formed and not Muster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec(SpecParts);

/// What is wrong with a spec, by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nobody takes part.
    #[error("hosts: a cluster needs at least one host")]
    NoHosts,
    /// Twice the same.
    #[error("hosts[{at}].name: {name} is listed twice; give it one entry with all its ports")]
    HostTwice {
        /// Where the second stands.
        at: usize,
        /// Which.
        name: HostName,
    },
    /// A host for nothing.
    #[error("hosts[{at}].ports: {name} has no ports")]
    NoPorts {
        /// Where.
        at: usize,
        /// Which.
        name: HostName,
    },
    /// Too many.
    #[error("replicas: {0} is more than {REPLICAS_MAX}")]
    Replicas(u32),
    /// Too few or too many.
    #[error(
        "masters: {0} is not {MASTERS_MIN}-{MASTERS_MAX}; fewer than three cannot elect a successor for a dead one"
    )]
    Masters(u32),
    /// Twice the same.
    #[error("acl.users[{at}].name: {name} is listed twice")]
    UserTwice {
        /// Where the second stands.
        at: usize,
        /// Which.
        name: String,
    },
    /// Depends on where a server is started.
    #[error("tls.{key}: {path:?} is not an absolute path")]
    TlsPath {
        /// Which.
        key: &'static str,
        /// What stands there.
        path: PathBuf,
    },
    /// No room.
    #[error("limits.memory: {0}")]
    Limits(#[source] LimitError),
    /// Not a directive.
    #[error("redis.config: {key:?} is no redis.conf directive: use a-z, 0-9, '-' and '.'")]
    SettingKey {
        /// What stands there.
        key: String,
    },
    /// Would break the file.
    #[error("redis.config.{key}: a value is one line of redis.conf, without line breaks or control characters")]
    SettingValue {
        /// Whose value.
        key: String,
    },
    /// Muster's own.
    #[error("redis.config.{key}: Muster owns this setting ({why}); take it out of the spec")]
    SettingOwned {
        /// Which.
        key: String,
        /// What it is for.
        why: &'static str,
    },
}

impl Spec {
    /// Believes the whole.
    pub fn new(mut parts: SpecParts) -> Result<Self, SpecError> {
        if parts.hosts.is_empty() {
            return Err(SpecError::NoHosts);
        }
        let mut seen = BTreeSet::new();
        for (at, host) in parts.hosts.iter().enumerate() {
            let name = host.name.clone();
            if host.ports.is_empty() {
                return Err(SpecError::NoPorts { at, name });
            }
            if !seen.insert(name.clone()) {
                return Err(SpecError::HostTwice { at, name });
            }
        }
        if parts.replicas > REPLICAS_MAX {
            return Err(SpecError::Replicas(parts.replicas));
        }
        if let Some(masters) = parts.masters.filter(|masters| !(MASTERS_MIN..=MASTERS_MAX).contains(masters)) {
            return Err(SpecError::Masters(masters));
        }
        check_users(&parts.auth)?;
        check_paths(&parts.tls)?;
        for setting in &mut parts.settings {
            setting.key = setting.key.to_ascii_lowercase();
            check_setting(setting)?;
        }
        parts.limits.fit(&parts.settings).map_err(SpecError::Limits)?;
        Ok(Self(parts))
    }

    /// Its parts.
    pub fn parts(&self) -> &SpecParts {
        &self.0
    }

    /// How many instances it offers.
    pub fn instances(&self) -> usize {
        self.0.hosts.iter().map(|host| host.ports.len()).sum()
    }
}

fn check_users(auth: &Auth) -> Result<(), SpecError> {
    let Auth::Passwords(acl) = auth else { return Ok(()) };
    let mut seen = BTreeSet::new();
    match acl.users.iter().enumerate().find(|(_, user)| !seen.insert(&user.name)) {
        Some((at, user)) => Err(SpecError::UserTwice { at, name: user.name.to_string() }),
        None => Ok(()),
    }
}

fn check_paths(tls: &Tls) -> Result<(), SpecError> {
    let Tls::Files(files) = tls else { return Ok(()) };
    let paths = [("cert_file", &files.cert), ("key_file", &files.key), ("ca_file", &files.ca)];
    match paths.into_iter().find(|(_, path)| !path.is_absolute()) {
        Some((key, path)) => Err(SpecError::TlsPath { key, path: path.clone() }),
        None => Ok(()),
    }
}

fn check_setting(setting: &Setting) -> Result<(), SpecError> {
    let key = setting.key.clone();
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.' || c == '_';
    if key.is_empty() || !key.chars().all(letter) {
        return Err(SpecError::SettingKey { key });
    }
    if setting.value.trim().is_empty() || setting.value.chars().any(char::is_control) {
        return Err(SpecError::SettingValue { key });
    }
    match OWNED.iter().find(|(owned, _)| *owned == key) {
        Some((_, why)) => Err(SpecError::SettingOwned { key, why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
