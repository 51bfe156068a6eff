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
    #[serde(default = "default_log")]
    log: String,
    #[serde(default = "default_heartbeat_ms")]
    heartbeat_ms: u64,
    #[serde(default = "default_verify_patience_ms")]
    verify_patience_ms: u64,
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

fn default_verify_patience_ms() -> u64 {
    60_000
}

/// What the coordinator believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where its store is.
    pub state_dir: PathBuf,
    /// The key that seals the secrets in the store.
    pub key_file: PathBuf,
    /// Where agents dial; loopback only.
    pub listen: SocketAddr,
    /// Where operators and automation call.
    pub admin_socket: PathBuf,
    /// A filter of tracing-subscriber.
    pub log: String,
    /// What agents are asked to keep to; three missed ones make a host unknown.
    pub heartbeat: Duration,
    /// How long a phase of a formation may stand still before a person is asked.
    pub verify_patience: Duration,
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
        let within = |key, value: u64, low, high| {
            if (low..=high).contains(&value) {
                Ok(Duration::from_millis(value))
            } else {
                Err((key, format!("{value} is not {low}-{high}")))
            }
        };
        Ok(Config {
            listen: listen(&self.listen).map_err(|what| ("listen", what))?,
            heartbeat: within("heartbeat_ms", self.heartbeat_ms, 1_000, 60_000)?,
            verify_patience: within("verify_patience_ms", self.verify_patience_ms, 5_000, 3_600_000)?,
            key_file: self.key_file.unwrap_or_else(|| self.state_dir.join("store.key")),
            state_dir: self.state_dir,
            admin_socket: self.admin_socket,
            log: self.log,
        })
    }
}

fn listen(url: &str) -> Result<SocketAddr, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} is not http://127.0.0.1:PORT"))?;
    let rest = rest.trim_end_matches('/').replace("localhost", "127.0.0.1");
    let address: SocketAddr = rest.parse().map_err(|_| format!("{url:?} is not http://IP:PORT"))?;
    let ip: IpAddr = address.ip();
    if ip.is_loopback() {
        return Ok(address);
    }
    Err(format!(
        "{ip} is not a loopback address, and this version speaks without encryption: anybody who reaches it could give \
         orders. Listen on 127.0.0.1 and let agents elsewhere come through: ssh -N -L 7700:127.0.0.1:{} THIS-HOST",
        address.port()
    ))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "agents dial http://{}, operators unix:{}, the store is in {}",
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
        assert!(said("listen = \"https://127.0.0.1:7700\"").contains("is not http://127.0.0.1:PORT"));
        assert!(said("state_dir = \"x\"").contains("state_dir: \"x\" is not an absolute path"));
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
        for key in ["state_dir", "listen", "admin_socket", "heartbeat_ms", "verify_patience_ms", "log"] {
            assert!(sample.contains(&format!("\n{key} = ")), "{key}");
        }
    }
}
