//! The agent's config: as written, then as believed.

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use muster_proto::{HostName, PortSet};
use nix::unistd::User;
use serde::Deserialize;

use crate::trash::Policy;

/// `sun_path` holds 108 bytes with its final zero (unix(7)); an instance's socket is `<base_dir>/<port>/redis.sock`.
const SOCKET_PATH_MAX: usize = 107;
const SOCKET_SUFFIX: usize = "/65535/redis.sock".len();
/// A hundred years.
const KEEP_HOURS_MAX: u64 = 876_000;

/// The file, key by key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    address: String,
    coordinator: String,
    ports: Vec<String>,
    #[serde(default = "default_base_dir")]
    base_dir: PathBuf,
    rack: Option<String>,
    zone: Option<String>,
    run_as: Option<String>,
    redis_server: Option<PathBuf>,
    #[serde(default = "default_log")]
    log: String,
    #[serde(default = "default_stop_patience")]
    stop_patience_ms: u64,
    #[serde(default = "default_redis_log")]
    redis_log_mib: u64,
    #[serde(default)]
    trash: WrittenTrash,
}

/// `[trash]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenTrash {
    keep_hours: u64,
    keep_gib: u64,
}

impl Default for WrittenTrash {
    fn default() -> Self {
        Self { keep_hours: 168, keep_gib: 0 }
    }
}

fn default_redis_log() -> u64 {
    64
}

/// Unless another is written.
pub const BASE_DIR: &str = "/var/lib/muster";

fn default_base_dir() -> PathBuf {
    BASE_DIR.into()
}

fn default_log() -> String {
    "info".into()
}

fn default_stop_patience() -> u64 {
    15_000
}

/// Where the coordinator is. Plaintext only where nobody else can listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://127.0.0.1:7700`.
    Loopback(String),
    /// `unix:/path`.
    Unix(PathBuf),
    /// `https://HOST:PORT`: host and port.
    Tls(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(url) => f.write_str(url),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

/// Whom the servers run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

/// What the agent believes about its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name in specs.
    pub name: HostName,
    /// What its instances listen on and announce.
    pub address: IpAddr,
    /// Where it reports.
    pub coordinator: Endpoint,
    /// What it offers.
    pub ports: PortSet,
    /// Where its directories are; absolute.
    pub base_dir: PathBuf,
    /// Failure domain.
    pub rack: Option<String>,
    /// Failure domain.
    pub zone: Option<String>,
    /// Whom the servers run as; none means as the agent itself.
    pub run_as: Option<RunAs>,
    /// The server; none means the first of redis-server and valkey-server on the PATH.
    pub redis_server: Option<PathBuf>,
    /// A filter of tracing-subscriber: `info`, `muster_agent=debug`.
    pub log: String,
    /// How long a server may take to stop before it is killed, 0-600 s.
    pub stop_patience: Duration,
    /// A server's log that is longer is put aside, and the one before it goes. In bytes, 1 MiB - 1 TiB.
    pub redis_log: u64,
    /// How long and how much is kept of what was set aside: 1 h - 100 years, 1 GiB - 1 PiB, or without end.
    pub trash: Policy,
}

impl Config {
    /// This one with what of another can be taken over while the agent runs; and the keys that differ, and cannot.
    pub fn reloaded(&self, written: Self) -> (Self, Vec<&'static str>) {
        let differs = [
            ("name", self.name != written.name),
            ("address", self.address != written.address),
            ("coordinator", self.coordinator != written.coordinator),
            ("ports", self.ports != written.ports),
            ("base_dir", self.base_dir != written.base_dir),
            ("rack", self.rack != written.rack),
            ("zone", self.zone != written.zone),
            ("run_as", self.run_as != written.run_as),
            ("redis_server", self.redis_server != written.redis_server),
        ];
        let fixed = differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        let Self { log, stop_patience, redis_log, trash, .. } = written;
        (Self { log, stop_patience, redis_log, trash, ..self.clone() }, fixed)
    }
}

/// Why a config is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML, or has keys that are not known.
    #[error("the config {path} is not understood")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be.
    #[error("{path}: {key}: {what}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Config {
    /// Reads and believes a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Believes a text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let written: Written = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        written.believe().map_err(|(key, what)| ConfigError::Value { path: path.to_owned(), key, what })
    }
}

type Wrong = (&'static str, String);

fn at<E: fmt::Display>(key: &'static str) -> impl Fn(E) -> Wrong {
    move |error| (key, error.to_string())
}

impl Written {
    fn believe(self) -> Result<Config, Wrong> {
        let address: IpAddr = self.address.parse().map_err(|_| {
            (
                "address",
                format!("{:?} is not an IP address; instances announce it, and Redis wants no names", self.address),
            )
        })?;
        if address.is_unspecified() {
            return Err(("address", format!("{address} is no address that peers could dial")));
        }
        if !self.base_dir.is_absolute() {
            return Err(("base_dir", format!("{:?} is not an absolute path", self.base_dir)));
        }
        let socket = self.base_dir.as_os_str().len() + SOCKET_SUFFIX;
        if socket > SOCKET_PATH_MAX {
            let most = SOCKET_PATH_MAX - SOCKET_SUFFIX;
            return Err((
                "base_dir",
                format!("longer than {most} bytes; the kernel allows {SOCKET_PATH_MAX} for a socket's path"),
            ));
        }
        if self.stop_patience_ms > 600_000 {
            return Err(("stop_patience_ms", format!("{} is more than 600000", self.stop_patience_ms)));
        }
        if !(1..=1 << 20).contains(&self.redis_log_mib) {
            return Err(("redis_log_mib", format!("{} is not within 1-{}", self.redis_log_mib, 1 << 20)));
        }
        let WrittenTrash { keep_hours, keep_gib } = self.trash;
        if keep_hours > KEEP_HOURS_MAX {
            return Err(("trash.keep_hours", format!("{keep_hours} is more than {KEEP_HOURS_MAX}")));
        }
        if keep_gib > 1 << 20 {
            return Err(("trash.keep_gib", format!("{keep_gib} is more than {}", 1 << 20)));
        }
        let ports = PortSet::parse(&self.ports).map_err(at("ports"))?;
        if ports.is_empty() {
            return Err((
                "ports",
                "a host without ports can hold no instance; offer some, like [\"7000-7005\"]".into(),
            ));
        }
        Ok(Config {
            name: self.name.parse().map_err(at("name"))?,
            address,
            coordinator: endpoint(&self.coordinator).map_err(|what| ("coordinator", what))?,
            ports,
            base_dir: self.base_dir,
            rack: self.rack,
            zone: self.zone,
            run_as: self.run_as.map(run_as).transpose().map_err(|what| ("run_as", what))?,
            redis_server: self.redis_server,
            log: self.log,
            stop_patience: Duration::from_millis(self.stop_patience_ms),
            redis_log: self.redis_log_mib << 20,
            trash: Policy {
                keep: (keep_hours > 0).then(|| Duration::from_secs(keep_hours * 3600)),
                most: (keep_gib > 0).then_some(keep_gib << 30),
            },
        })
    }
}

fn run_as(name: String) -> Result<RunAs, String> {
    match User::from_name(&name) {
        Ok(Some(user)) => Ok(RunAs { name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        Ok(None) => Err(format!("there is no user {name}; create it with: adduser --system --group {name}")),
        Err(errno) => Err(format!("cannot look up the user {name}: {errno}")),
    }
}

fn endpoint(url: &str) -> Result<Endpoint, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        return Ok(Endpoint::Unix(path.into()));
    }
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            return Err(format!("{url:?} is neither https://HOST:PORT, http://127.0.0.1:PORT nor unix:/PATH"));
        }
    };
    let authority = rest.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').ok_or_else(|| format!("{url:?} has no port"))?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(format!("{url:?} has no HOST:PORT"));
    }
    if tls {
        return Ok(Endpoint::Tls(authority.to_owned()));
    }
    let loopback = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || host == "localhost" {
        Ok(Endpoint::Loopback(format!("http://{authority}")))
    } else {
        Err(format!(
            "{url} is not on this machine, and http:// is not encrypted: anybody in between could give orders to the \
             agent. Write https://{authority}, and enrol this host: muster-agent --config FILE enrol"
        ))
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host {} at {} offers ports {} under {} and reports to {}",
            self.name,
            self.address,
            self.ports,
            self.base_dir.display(),
            self.coordinator
        )
    }
}

/// Shows an error on stderr as every Muster program does: what failed, then each cause.
#[allow(clippy::print_stderr)]
pub fn complain(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {}", error.to_string().trim_end().replace('\n', "\n           "));
        cause = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "server1"
address = "127.0.0.1"
coordinator = "http://127.0.0.1:7700"
ports = ["7000-7002"]
"#;

    fn said(text: &str) -> String {
        match Config::parse(text, Path::new("agent.toml")) {
            Ok(config) => config.to_string(),
            Err(ConfigError::Parse { source, .. }) => source.message().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_config_is_believed_or_the_key_is_named() {
        let with = |line: &str| said(&format!("{line}\n{GOOD}"));
        let but = |from: &str, to: &str| said(&GOOD.replace(from, to));
        assert_eq!(
            said(GOOD),
            "host server1 at 127.0.0.1 offers ports 7000-7002 under /var/lib/muster and reports to http://127.0.0.1:7700"
        );
        assert!(with("prots = []").starts_with("unknown field `prots`, expected one of `name`, `address`"));
        assert_eq!(
            but("[\"7000-7002\"]", "[\"60000\"]"),
            "agent.toml: ports: port 60000 leaves no room for its bus port: use 1-55535 (the bus port is 10000 higher)"
        );
        assert_eq!(but("[\"7000-7002\"]", "[\"7000\", \"7000\"]"), "agent.toml: ports: port 7000 is listed twice");
        assert!(but("[\"7000-7002\"]", "[]").starts_with("agent.toml: ports: a host without ports"));
        assert!(but("\"127.0.0.1\"", "\"db1\"").starts_with("agent.toml: address: \"db1\" is not an IP address"));
        assert!(
            but("http://127.0.0.1:7700", "http://10.0.0.1:7700").contains("Write https://10.0.0.1:7700, and enrol")
        );
        assert!(but("http://127.0.0.1:7700", "https://x:1").contains("reports to https://x:1"));
        assert!(but("http://127.0.0.1:7700", "https://[fd00::1]:1").contains("reports to https://[fd00::1]:1"));
        assert!(but("http://127.0.0.1:7700", "https://x:y").contains("has no HOST:PORT"));
        assert!(but("http://127.0.0.1:7700", "x:1").contains("neither https://HOST:PORT, http://127.0.0.1:PORT nor"));
        assert!(but("server1", "Server 1").starts_with("agent.toml: name: "));
        assert!(with("run_as = \"nobody-of-that-name\"").contains("there is no user nobody-of-that-name"));
        assert!(with(&format!("base_dir = \"/{}\"", "x".repeat(100))).contains("longer than 90 bytes"));
        assert!(with("base_dir = \"relative\"").contains("not an absolute path"));
        let trash = |keys: &str| said(&format!("{GOOD}[trash]\n{keys}\n"));
        assert_eq!(trash("keep_hours = 876001"), "agent.toml: trash.keep_hours: 876001 is more than 876000");
        assert_eq!(trash("keep_gib = 1048577"), "agent.toml: trash.keep_gib: 1048577 is more than 1048576");
        assert!(trash("keep_days = 1").starts_with("unknown field `keep_days`"));
    }

    #[test]
    fn what_is_kept_of_the_trash_is_a_week_unless_written() {
        let kept = |keys: &str| Config::parse(&format!("{GOOD}{keys}"), Path::new("agent.toml")).unwrap().trash;
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        assert_eq!(kept(""), Policy { keep: hours(168), most: None });
        assert_eq!(kept("[trash]\nkeep_hours = 0\nkeep_gib = 2\n"), Policy { keep: None, most: Some(2 << 30) });
        assert_eq!(kept("[trash]\nkeep_gib = 2\n"), Policy { keep: hours(168), most: Some(2 << 30) });
    }

    #[test]
    fn the_sample_lists_every_key_at_its_default() {
        let sample = include_str!("../../systemd/agent.toml").replace("run_as = \"redis\"\n", "");
        let path = Path::new("agent.toml");
        let written = Config::parse(&sample, path).unwrap();
        let required = format!(
            "name = {:?}\naddress = {:?}\ncoordinator = {:?}\nports = [\"7000-7005\"]",
            written.name.as_str(),
            written.address.to_string(),
            written.coordinator.to_string()
        );
        assert_eq!(written, Config::parse(&required, path).unwrap());
        for key in [
            "base_dir",
            "rack",
            "zone",
            "run_as",
            "redis_server",
            "stop_patience_ms",
            "redis_log_mib",
            "log",
            "keep_hours",
            "keep_gib",
        ] {
            assert!(include_str!("../../systemd/agent.toml").contains(&format!("{key} = ")), "{key}");
        }
    }
}
