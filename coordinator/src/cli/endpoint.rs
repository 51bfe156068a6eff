//! Where a coordinator listens, as typed: a unix socket, loopback, or anywhere over TLS.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
};

/// Where the coordinator listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A port on loopback, in plain text; the whole URL.
    Http(String),
    /// A port anywhere, over TLS.
    Https {
        /// An address or a name.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Not an endpoint that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No known form.
    #[error("use unix:/path/to/admin.sock, https://host:port, or http://127.0.0.1:port")]
    Malformed,
    /// The socket's path would depend on where the command is run.
    #[error("the path of a unix socket begins with a slash: unix:/path/to/admin.sock")]
    Relative,
    /// Would be readable on the way.
    #[error(
        "http:// is not encrypted and is taken for loopback only (127.x.x.x, [::1], localhost); elsewhere it is \
         https://host:port"
    )]
    NotLoopback,
    /// Neither a name nor an address.
    #[error("{0:?} is no host: use a name, an address, or [address] for IPv6")]
    Host(String),
    /// Which service?
    #[error("the port is missing, as in https://host:port")]
    NoPort,
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // `unix:///path` is how gRPC writes an absolute one.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(EndpointError::Relative) };
        }
        if let Some(authority) = text.strip_prefix("https://") {
            let (host, port) = split(authority.trim_end_matches('/'));
            let host = match host.strip_prefix('[').map(|host| host.trim_end_matches(']')) {
                Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
                None if is_name(host) => host,
                _ => return Err(EndpointError::Host(host.to_owned())),
            };
            return Ok(Self::Https { host: host.to_owned(), port: number(port)? });
        }
        let authority = text.strip_prefix("http://").ok_or(EndpointError::Malformed)?.trim_end_matches('/');
        let (host, port) = split(authority);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if host != "localhost" && !bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return Err(EndpointError::NotLoopback);
        }
        number(port).map(|_| Self::Http(format!("http://{authority}")))
    }
}

/// `host:port`, where an IPv6 address stands in brackets.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn number(port: Option<&str>) -> Result<u16, EndpointError> {
    let port = port.and_then(|port| port.parse().ok());
    port.filter(|port| *port > 0).ok_or(EndpointError::NoPort)
}

fn is_name(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(url) => f.write_str(url),
            Self::Https { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Https { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_encrypted_or_stay_on_this_host() {
        let host = |host: &str| Err(EndpointError::Host(host.into()));
        let cases = [
            ("unix:/run/muster/admin.sock", Ok("unix:/run/muster/admin.sock")),
            ("unix:///run/muster/admin.sock", Ok("unix:/run/muster/admin.sock")),
            ("http://127.0.0.1:7700", Ok("http://127.0.0.1:7700")),
            ("http://127.1.2.3:7700/", Ok("http://127.1.2.3:7700")),
            ("http://localhost:7700", Ok("http://localhost:7700")),
            ("http://[::1]:7700", Ok("http://[::1]:7700")),
            ("http://[::1]", Err(EndpointError::NoPort)),
            ("http://127.0.0.1", Err(EndpointError::NoPort)),
            ("http://127.0.0.1:0", Err(EndpointError::NoPort)),
            ("http://127.0.0.1:70000", Err(EndpointError::NoPort)),
            ("http://192.168.1.198:7700", Err(EndpointError::NotLoopback)),
            ("http://localhost.example:7700", Err(EndpointError::NotLoopback)),
            ("http://user@127.0.0.1:7700", Err(EndpointError::NotLoopback)),
            ("https://192.168.1.198:7700", Ok("https://192.168.1.198:7700")),
            ("https://muster.example:7700/", Ok("https://muster.example:7700")),
            ("https://[fd00::1]:7700", Ok("https://[fd00::1]:7700")),
            ("https://muster.example", Err(EndpointError::NoPort)),
            ("https://muster.example:0", Err(EndpointError::NoPort)),
            ("https://[muster]:7700", host("[muster]")),
            ("https://fd00::1:7700", host("fd00::1")),
            ("https://alice:secret@muster:7700", host("alice:secret@muster")),
            ("https://:7700", host("")),
            ("unix:admin.sock", Err(EndpointError::Relative)),
            ("/run/muster/admin.sock", Err(EndpointError::Malformed)),
            ("127.0.0.1:7700", Err(EndpointError::Malformed)),
            ("", Err(EndpointError::Malformed)),
        ];
        for (text, expected) in cases {
            let read = text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
            assert_eq!(read, expected.map(str::to_owned), "{text}");
        }
    }
}
