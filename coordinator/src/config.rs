//! The coordinator's config: as written, then as believed.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

/// `sun_path` holds 108 bytes with its final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The file, key by key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default = "default_listen")]
    listen: String,
    #[serde(default = "default_admin_socket")]
    admin_socket: PathBuf,
    key_file: Option<PathBuf>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default = "default_certificate_hours")]
    certificate_hours: u64,
    #[serde(default = "default_rejoin_grace_days")]
    rejoin_grace_days: u64,
    #[serde(default)]
    two_persons: bool,
    #[serde(default = "default_log")]
    log: String,
    #[serde(default = "default_heartbeat_ms")]
    heartbeat_ms: u64,
    #[serde(default = "default_verify_patience_ms")]
    verify_patience_ms: u64,
    #[serde(default = "default_redis_certificate_hours")]
    redis_certificate_hours: u64,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/muster-coordinator".into()
}

fn default_listen() -> String {
    "http://127.0.0.1:7700".into()
}

fn default_admin_socket() -> PathBuf {
    "/run/muster/admin.sock".into()
}

fn default_log() -> String {
    "info".into()
}

fn default_heartbeat_ms() -> u64 {
    1_000
}

fn default_certificate_hours() -> u64 {
    168
}

fn default_rejoin_grace_days() -> u64 {
    90
}

fn default_verify_patience_ms() -> u64 {
    60_000
}

fn default_redis_certificate_hours() -> u64 {
    720
}

/// What the coordinator believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where its store is.
    pub state_dir: PathBuf,
    /// The key that seals the secrets in the store.
    pub key_file: PathBuf,
    /// Where agents and operators elsewhere dial.
    pub listen: SocketAddr,
    /// With TLS; without it on loopback only.
    pub tls: bool,
    /// Names of the coordinator's certificate besides its own: for automation that does not know that one.
    pub names: Vec<String>,
    /// How long a host's certificate holds.
    pub certificate_hours: u64,
    /// How long after its end a certificate can still be renewed.
    pub rejoin_grace_days: u64,
    /// What destroys takes two.
    pub two_persons: bool,
    /// Where operators and automation call.
    pub admin_socket: PathBuf,
    /// A filter of tracing-subscriber.
    pub log: String,
    /// What agents are asked to keep to; three missed ones make a host unknown.
    pub heartbeat: Duration,
    /// How long a phase of a formation may stand still before a person is asked.
    pub verify_patience: Duration,
    /// How long a certificate of redis-servers holds.
    pub redis_certificate: Duration,
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

impl Written {
    fn believe(self) -> Result<Config, (&'static str, String)> {
        for (key, path) in [("state_dir", &self.state_dir), ("admin_socket", &self.admin_socket)] {
            if !path.is_absolute() {
                return Err((key, format!("{path:?} is not an absolute path")));
            }
        }
        if self.admin_socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err((
                "admin_socket",
                format!("longer than the {SOCKET_PATH_MAX} bytes that the kernel allows for a socket's path"),
            ));
        }
        let number = |key, value: u64, low, high| {
            let fits = (low..=high).contains(&value);
            if fits { Ok(value) } else { Err((key, format!("{value} is not {low}-{high}"))) }
        };
        let within = |key, value: u64, low, high| number(key, value, low, high).map(Duration::from_millis);
        let hours =
            |key, value, low, high| number(key, value, low, high).map(|hours| Duration::from_secs(hours * 3600));
        if let Some(name) = self.names.iter().find(|name| !is_name(name)) {
            return Err(("names", format!("{name:?} is neither a DNS name nor an IP address")));
        }
        let (listen, tls) = listen(&self.listen).map_err(|what| ("listen", what))?;
        Ok(Config {
            listen,
            tls,
            names: self.names,
            certificate_hours: number("certificate_hours", self.certificate_hours, 1, 8_760)?,
            rejoin_grace_days: number("rejoin_grace_days", self.rejoin_grace_days, 0, 3_650)?,
            two_persons: self.two_persons,
            heartbeat: within("heartbeat_ms", self.heartbeat_ms, 1_000, 60_000)?,
            redis_certificate: hours("redis_certificate_hours", self.redis_certificate_hours, 1, 8_760)?,
            verify_patience: within("verify_patience_ms", self.verify_patience_ms, 5_000, 3_600_000)?,
            key_file: self.key_file.unwrap_or_else(|| self.state_dir.join("store.key")),
            state_dir: self.state_dir,
            admin_socket: self.admin_socket,
            log: self.log,
        })
    }
}

fn is_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || rustls::pki_types::DnsName::try_from(name).is_ok()
}

fn listen(url: &str) -> Result<(SocketAddr, bool), String> {
    let (tls, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(format!("{url:?} is neither https://IP:PORT nor http://127.0.0.1:PORT")),
    };
    let rest = rest.trim_end_matches('/').replace("localhost", "127.0.0.1");
    let address: SocketAddr = rest.parse().map_err(|_| format!("{url:?} has no IP:PORT"))?;
    if tls || address.ip().is_loopback() {
        return Ok((address, tls));
    }
    Err(format!(
        "{} is not a loopback address, and http:// is not encrypted: anybody on the way could give orders. Listen on \
         https://{address}; agents are then enrolled with a token: muster token create --host NAME",
        address.ip()
    ))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "agents dial {}://{}, operators unix:{}, the store is in {}",
            if self.tls { "https" } else { "http" },
            self.listen,
            self.admin_socket.display(),
            self.state_dir.display()
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

    fn said(text: &str) -> String {
        match Config::parse(text, Path::new("coordinator.toml")) {
            Ok(config) => config.to_string(),
            Err(ConfigError::Parse { source, .. }) => source.message().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_config_is_believed_or_the_key_is_named() {
        assert_eq!(
            said(""),
            "agents dial http://127.0.0.1:7700, operators unix:/run/muster/admin.sock, the store is in /var/lib/muster-coordinator"
        );
        assert!(said("lisen = 1").starts_with("unknown field `lisen`, expected one of `state_dir`, `listen`"));
        assert!(said("listen = \"http://0.0.0.0:7700\"").contains("0.0.0.0 is not a loopback address"));
        assert!(said("listen = \"http://0.0.0.0:7700\"").contains("Listen on https://0.0.0.0:7700"));
        assert!(said("listen = \"https://0.0.0.0:7700\"").contains("agents dial https://0.0.0.0:7700"));
        assert!(said("listen = \"tcp://127.0.0.1:7700\"").contains("is neither https://IP:PORT nor http://127"));
        assert!(said("listen = \"https://coordinator:7700\"").contains("has no IP:PORT"));
        assert!(said("names = [\"a b\"]").contains("names: \"a b\" is neither a DNS name nor an IP address"));
        assert!(said("certificate_hours = 0").contains("certificate_hours: 0 is not 1-8760"));
        assert!(said("state_dir = \"x\"").contains("state_dir: \"x\" is not an absolute path"));
        assert!(said("redis_certificate_hours = 0").contains("redis_certificate_hours: 0 is not 1-8760"));
        assert!(said("heartbeat_ms = 1").contains("heartbeat_ms: 1 is not 1000-60000"));
        assert!(
            said(&format!("admin_socket = \"/{}\"", "x".repeat(200))).contains("admin_socket: longer than the 107")
        );
    }

    #[test]
    fn the_sample_lists_every_key_at_its_default() {
        let sample = include_str!("../../systemd/coordinator.toml");
        let path = Path::new("coordinator.toml");
        assert_eq!(Config::parse(sample, path).unwrap(), Config::parse("", path).unwrap());
        for key in [
            "state_dir",
            "listen",
            "names",
            "certificate_hours",
            "rejoin_grace_days",
            "two_persons",
            "admin_socket",
            "heartbeat_ms",
            "verify_patience_ms",
            "redis_certificate_hours",
            "log",
        ] {
            assert!(sample.contains(&format!("\n{key} = ")), "{key}");
        }
    }
}
