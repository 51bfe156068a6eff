//! Which server a binary is, and which dialect of nodes.conf it reads.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Redis or Valkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// redis-server.
    Redis,
    /// valkey-server.
    Valkey,
}

impl Flavour {
    /// As one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }
}

/// A server's flavour and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServerVersion {
    /// Redis or Valkey.
    pub flavour: Flavour,
    /// 7 of 7.0.15.
    pub major: u32,
    /// 0 of 7.0.15.
    pub minor: u32,
    /// 15 of 7.0.15.
    pub patch: u32,
}

/// The ways in which nodes.conf is written. Which one a server reads is decided by its version alone; the fields are
/// those that `clusterLoadConfig` (cluster.c, from 7.2 cluster_legacy.c) takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// `ip:port@bus`. Redis 4.0 to 6.2, and 7.0 where no hostname is announced: there, all after the first comma is
    /// the hostname.
    Plain,
    /// `ip:port@bus,hostname,shard-id=...`. Redis 7.2 to 8.x and Valkey 7.2 to 9.1, which remember shard ids.
    ShardId,
}

/// Not the answer of a redis-server or valkey-server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not say which server it is")]
pub struct VersionError(pub String);

impl ServerVersion {
    /// From what `redis-server --version` prints: `Redis server v=7.0.15 sha=00000000:0 malloc=... bits=64 build=...`.
    pub fn from_banner(banner: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError(banner.trim().chars().take(120).collect());
        let flavour = match banner.split_whitespace().next() {
            Some("Redis") => "redis",
            Some("Valkey") => "valkey",
            _ => return Err(wrong()),
        };
        let version = banner.split_whitespace().find_map(|word| word.strip_prefix("v=")).ok_or_else(wrong)?;
        Self::from_words(flavour, version).map_err(|_| wrong())
    }

    /// From a flavour and a version: `redis`, `7.0.15`. What follows a third number is not looked at (`8.0.0-rc1`).
    pub fn from_words(flavour: &str, version: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError(format!("{flavour} {version}"));
        let flavour = match flavour {
            "redis" => Flavour::Redis,
            "valkey" => Flavour::Valkey,
            _ => return Err(wrong()),
        };
        let mut numbers = version.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().map_err(|_| wrong())
        });
        let mut next = || numbers.next().unwrap_or_else(|| Err(wrong()));
        Ok(Self { flavour, major: next()?, minor: next()?, patch: next()? })
    }

    /// The numbers alone: `7.0.15`.
    pub fn number(&self) -> String {
        format!("{}.{}.{}", self.major, self.minor, self.patch)
    }

    /// The dialect of its nodes.conf; none for a server that is older or newer than what was tried, whose cluster
    /// Muster does not form by writing that file.
    pub fn dialect(&self) -> Option<Dialect> {
        match (self.flavour, self.major, self.minor) {
            (Flavour::Redis, 4..=6, _) | (Flavour::Redis, 7, 0) => Some(Dialect::Plain),
            (Flavour::Redis, 7, _) | (Flavour::Redis, 8, _) => Some(Dialect::ShardId),
            (Flavour::Valkey, 7 | 8, _) | (Flavour::Valkey, 9, 0..=1) => Some(Dialect::ShardId),
            _ => None,
        }
    }

    /// `cluster-port`, `bind-source-addr`, `cluster-allow-replica-migration`, `repl-diskless-sync-max-replicas` and
    /// `shutdown-timeout` are there from 7.0 on, in both flavours.
    pub fn has_seven(&self) -> bool {
        self.major >= 7
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavour.as_str(), self.number())
    }
}

impl FromStr for ServerVersion {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let (flavour, version) = text.split_once(' ').ok_or_else(|| VersionError(text.to_owned()))?;
        Self::from_words(flavour, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banners_are_read_and_strangers_are_not() {
        let read = |banner| ServerVersion::from_banner(banner).map(|version| (version.to_string(), version.dialect()));
        let debian = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=a2b8e8a5a5b8ac5c\n";
        assert_eq!(read(debian), Ok(("redis 7.0.15".into(), Some(Dialect::Plain))));
        let valkey = "Valkey server v=9.1.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n";
        assert_eq!(read(valkey), Ok(("valkey 9.1.0".into(), Some(Dialect::ShardId))));
        assert_eq!(read("Redis server v=8.6.0-rc1 x").map(|r| r.1), Ok(Some(Dialect::ShardId)));
        assert_eq!(read("Redis server v=3.0.6 x").map(|r| r.1), Ok(None));
        assert_eq!(read("Valkey server v=10.0.0 x").map(|r| r.1), Ok(None));
        for bad in ["", "nginx version: nginx/1.22", "Redis server", "Redis server v=7.x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
