//! `cluster.toml`: what the operator wants, as written, and then as believed.
//!
//! Nothing is asked of any host here, and nothing is guessed: a key that is not known is an error that names the
//! nearest one that is. Every error names file, line and key. [`REFERENCE`] lists every key; it is what `muster plan
//! --help` prints and what a test parses.

mod access;
mod limits;
mod written;

use std::{
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use muster_proto::{HostName, Port, PortSet, Setting, Spec, SpecHost, spec::SpecError, spec::SpecParts};
use toml::{Spanned, Value};
use written::Written;

/// Every key of a spec, with its unit, its range and its default.
pub const REFERENCE: &str = r#"name = "orders"              # 1-63 of a-z, 0-9 and '-'; required
replicas = 1                 # copies beside each master, 0-16; default 1
masters = 3                  # 3-1000; default: instances / (replicas + 1)
allow_shared_host = false    # two copies of a shard on one host, where nothing
                             # else is possible; default false
auth = "password"            # or "none": whoever reaches the ports does as he
                             # likes; default "password", drawn by Muster and
                             # shown by: muster credentials orders
tls = false                  # true: TLS alone, for clients, replicas and the
                             # bus, with certificates that Muster issues;
                             # or a table [tls] with your own, at the same paths
                             # on every host, readable for the servers' user:
                             # cert_file, key_file and ca_file; default false

[[hosts]]                    # one for each host that takes part
name = "server1"             # as its agent calls itself (muster hosts)
ports = ["7000-7002"]        # client ports, 1-55535, one instance each; the
                             # bus port is 10000 higher

[[hosts]]
name = "server2"
ports = ["7003-7004", 7005]  # ranges and single ports

[limits]                     # of each instance, where systemd runs the agent
memory = "4GiB"              # 16MiB-64TiB: beyond it the kernel kills the
                             # server, and its agent starts it again
cpus = 1.5                   # 0.05-1024 processors: beyond it the server waits

[acl]                        # only with auth = "password"
default = "~* &* +@all -@admin"  # rules of the default user; the default is
                                 # this and what cluster clients need besides

[[acl.users]]                # one for each further user
name = "reporting"           # 1-63 of a-z, 0-9, '.', '_' and '-'
rules = "~report:* +@read"   # as in an ACL file, without passwords and on/off
password_sha256 = []         # sha256 of accepted passwords, 64 hex digits each;
                             # none: Muster draws one, shown by: muster
                             # credentials orders --user reporting

[redis.config]               # anything redis.conf takes, unless Muster owns it
appendonly = true            # true and false become yes and no
cluster-node-timeout = 5000
save = ["900 1", "300 10"]   # a list becomes one line each
notify-keyspace-events = ""  # an empty text becomes ""
"#;

/// What is wrong with a spec file.
#[derive(Debug, thiserror::Error)]
pub enum SpecFileError {
    /// It could not be read at all.
    #[error("cannot read the spec {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// In the kernel's words.
        source: io::Error,
    },
    /// Something in it.
    #[error("the spec {} is not right", file.display())]
    Wrong {
        /// Which.
        file: PathBuf,
        /// Where and what.
        source: Wrong,
    },
}

/// Something that is wrong at one place of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// From 1.
    pub line: usize,
    /// What, with the key.
    pub what: String,
    /// What to write instead.
    pub cure: Option<String>,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for Wrong {}

impl SpecFileError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "muster plan --help shows a whole spec".to_owned(),
            Self::Wrong { source, .. } => {
                source.cure.clone().unwrap_or_else(|| "muster plan --help lists every key".to_owned())
            }
        }
    }
}

/// Reads and believes a spec.
pub fn read(file: &Path) -> Result<Spec, SpecFileError> {
    let text = fs::read_to_string(file).map_err(|source| SpecFileError::Read { file: file.to_owned(), source })?;
    parse(&text).map_err(|source| SpecFileError::Wrong { file: file.to_owned(), source })
}

/// Believes the text of a spec.
pub fn parse(text: &str) -> Result<Spec, Wrong> {
    let written = written::parse(text)?;
    let at = |span: Range<usize>| line_of(text, &span);
    let wrong = |span: Range<usize>, what: String| Wrong { line: at(span), what, cure: None };

    let name = written.name.as_ref().parse().map_err(|error| wrong(written.name.span(), format!("name: {error}")))?;
    let mut hosts = Vec::new();
    for (nth, host) in written.hosts.iter().enumerate() {
        let (name, ports) = (&host.get_ref().name, &host.get_ref().ports);
        let key = |key: &str, error: &dyn fmt::Display| format!("hosts[{nth}].{key}: {error}");
        hosts.push(SpecHost {
            name: name.as_ref().parse::<HostName>().map_err(|error| wrong(name.span(), key("name", &error)))?,
            ports: port_set(ports.get_ref()).map_err(|error| wrong(ports.span(), key("ports", &error)))?,
        });
    }
    let mut settings = Vec::new();
    for (key, value) in written.settings() {
        for value in lines(value.get_ref()).map_err(|(what, cure)| Wrong {
            line: at(value.span()),
            what: format!("redis.config.{}: {what}", key.as_ref()),
            cure: Some(cure),
        })? {
            settings.push(Setting { key: key.as_ref().clone(), value });
        }
    }
    let parts = SpecParts {
        name,
        replicas: written.replicas.as_ref().map_or(1, |replicas| *replicas.as_ref()),
        masters: written.masters.as_ref().map(|masters| *masters.as_ref()),
        hosts,
        settings,
        allow_shared_host: written.allow_shared_host,
        auth: access::auth(&written, text)?,
        tls: access::tls(&written),
        limits: limits::limits(&written, text)?,
    };
    Spec::new(parts).map_err(|error| Wrong {
        line: place(&written, &error).map_or(1, at),
        cure: cure(&error),
        what: error.to_string(),
    })
}

/// `["7000-7002", 7005]`: texts and numbers.
fn port_set(words: &[Value]) -> Result<PortSet, String> {
    let word = |value: &Value| match value {
        Value::String(word) => Ok(word.clone()),
        Value::Integer(port) => Ok(port.to_string()),
        other => Err(format!("{other} is neither a port like 7000 nor a range like \"7000-7005\"")),
    };
    let words = words.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    // A number is a port and nothing else: "-1" must not be read as a range without a beginning.
    if let Some(negative) = words.iter().find(|word| word.starts_with('-')) {
        return Err(negative.parse::<Port>().map_or_else(|error| error.to_string(), |port| port.to_string()));
    }
    PortSet::parse(&words).map_err(|error| error.to_string())
}

/// The redis.conf arguments of a value, one line each; what is wrong with it and its cure otherwise.
fn lines(value: &Value) -> Result<Vec<String>, (String, String)> {
    let quoted = |what: String| (what, "write the value in quotes, as it would stand in redis.conf".to_owned());
    Ok(match value {
        Value::String(text) if text.is_empty() => vec!["\"\"".to_owned()],
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(yes) => vec![if *yes { "yes" } else { "no" }.to_owned()],
        Value::Array(values) if values.iter().any(Value::is_array) => {
            return Err(quoted("a list in a list is no redis.conf line".to_owned()));
        }
        Value::Array(values) => values.iter().map(lines).collect::<Result<Vec<_>, _>>()?.concat(),
        other => return Err(quoted(format!("a {} is no redis.conf value", other.type_str()))),
    })
}

/// Where in the text an error of the whole belongs.
fn place(written: &Written, error: &SpecError) -> Option<Range<usize>> {
    let setting = |wanted: &str| {
        let found = written.settings().into_iter().find(|(key, _)| key.as_ref().eq_ignore_ascii_case(wanted));
        found.map(|(key, _)| key.span())
    };
    match error {
        SpecError::NoHosts => None,
        SpecError::HostTwice { at, .. } => written.hosts.get(*at).map(|host| host.get_ref().name.span()),
        SpecError::NoPorts { at, .. } => written.hosts.get(*at).map(|host| host.get_ref().ports.span()),
        SpecError::Replicas(_) => written.replicas.as_ref().map(Spanned::span),
        SpecError::Masters(_) => written.masters.as_ref().map(Spanned::span),
        SpecError::Limits(_) => written.limits.memory.as_ref().map(Spanned::span),
        SpecError::UserTwice { .. } | SpecError::TlsPath { .. } => access::place(written, error),
        SpecError::SettingKey { key } | SpecError::SettingValue { key } | SpecError::SettingOwned { key, .. } => {
            setting(key)
        }
    }
}

fn cure(error: &SpecError) -> Option<String> {
    Some(match error {
        SpecError::NoHosts => "add a [[hosts]] entry with name and ports; `muster hosts` lists the names".to_owned(),
        SpecError::HostTwice { name, .. } => {
            format!("keep one [[hosts]] entry for {name} and list all its ports there")
        }
        SpecError::NoPorts { .. } => "write ports = [\"7000-7002\"]".to_owned(),
        SpecError::Replicas(_) => "write replicas = 1, or 2".to_owned(),
        SpecError::Masters(_) => "write masters = 3 or more, or leave it out".to_owned(),
        SpecError::Limits(_) => {
            "leave room for replication buffers and background saves: half as much again as maxmemory".to_owned()
        }
        SpecError::SettingOwned { key, .. } => format!("delete the line {key} from [redis.config]"),
        SpecError::SettingKey { .. } | SpecError::SettingValue { .. } => return None,
        SpecError::UserTwice { name, .. } => {
            format!("keep one [[acl.users]] entry for {name}; one user may have several passwords")
        }
        SpecError::TlsPath { key, .. } => format!("write {key} as a path from the root: \"/etc/redis/tls/...\""),
    })
}

/// The line, from 1, that a span begins on.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.get(..span.start.min(text.len())).unwrap_or(text);
    before.matches('\n').count() + 1
}

#[cfg(test)]
mod tests;
