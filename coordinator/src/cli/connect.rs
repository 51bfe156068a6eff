//! The way to the coordinator: an endpoint that was checked, a channel through it, and calls with a limit.
//!
//! Nothing is encrypted yet, and so nothing leaves this host: unix sockets and loopback only.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use hyper_util::rt::TokioIo;
use muster_proto::wire::admin_client::AdminClient;
use tokio::net::UnixStream;
use tonic::{Response, Status, transport::Channel};

use super::error::CliError;

/// For answers out of the coordinator's memory.
pub const QUICK: Duration = Duration::from_secs(10);

/// For answers that need every host: each has its own, shorter limits there.
pub const THOROUGH: Duration = Duration::from_secs(60);

/// For reaching the coordinator at all.
const CONNECT: Duration = Duration::from_secs(5);

/// Room for the status of a large cluster in which every node sends its whole view.
const ANSWER_MAX: usize = 64 << 20;

/// Where the coordinator listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A port on loopback; the whole URL.
    Http(String),
}

/// Not an endpoint that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither form.
    #[error("use unix:/path/to/admin.sock, or http://127.0.0.1:port")]
    Malformed,
    /// The socket's path would depend on where the command is run.
    #[error("the path of a unix socket begins with a slash: unix:/path/to/admin.sock")]
    Relative,
    /// Not yet.
    #[error(
        "https:// comes with TLS, which is not there yet; on the coordinator's host use unix:/run/muster/admin.sock"
    )]
    Tls,
    /// Would be readable on the way.
    #[error(
        "http:// is not encrypted and is taken for loopback only (127.x.x.x, [::1], localhost); run muster on the \
         coordinator's host, or through an ssh tunnel: ssh -L PORT:127.0.0.1:PORT HOST"
    )]
    NotLoopback,
    /// Which service?
    #[error("the port is missing: http://127.0.0.1:port")]
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
        if text.starts_with("https://") {
            return Err(EndpointError::Tls);
        }
        let authority = text.strip_prefix("http://").ok_or(EndpointError::Malformed)?.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if host != "localhost" && !bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return Err(EndpointError::NotLoopback);
        }
        match port.ok_or(EndpointError::NoPort)?.parse::<u16>() {
            Ok(1..) => Ok(Self::Http(format!("http://{authority}"))),
            _ => Err(EndpointError::NoPort),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(url) => f.write_str(url),
        }
    }
}

/// Connects now, so that a coordinator that is not there is found out before anything is asked. When the connection is
/// lost later, the channel dials again at the next call.
pub async fn connect(endpoint: &Endpoint) -> Result<AdminClient<Channel>, CliError> {
    let unreachable = |source| CliError::Unreachable { endpoint: endpoint.clone(), source };
    let url = match endpoint {
        // HTTP wants an authority; over a unix socket nobody reads it.
        Endpoint::Unix(_) => "http://muster".to_owned(),
        Endpoint::Http(url) => url.clone(),
    };
    let dial = tonic::transport::Endpoint::from_shared(url)
        .map_err(unreachable)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let channel = match endpoint {
        Endpoint::Http(_) => dial.connect().await,
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            dial.connect_with_connector(connector).await
        }
    };
    Ok(AdminClient::new(channel.map_err(unreachable)?).max_decoding_message_size(ANSWER_MAX))
}

/// Waits for an answer, no longer than the limit. `doing` is for the error: "listing hosts".
pub async fn call<T>(
    doing: &str,
    limit: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, CliError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(CliError::from_status(doing, status)),
        Err(_) => Err(CliError::TooSlow { doing: doing.to_owned(), limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_stay_on_this_host() {
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
            ("https://127.0.0.1:7700", Err(EndpointError::Tls)),
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
