//! The way to the coordinator: plain over loopback or a unix socket, TLS everywhere else.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use muster_proto::pki::{self, Believes, Identity, PkiError};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Uri};

use crate::config::Endpoint;

/// Name resolution, connection and handshake together.
const CONNECT: Duration = Duration::from_secs(5);

/// As whom, and whom we believe; nothing of it without TLS.
#[derive(Debug, Clone, Copy)]
pub struct Manner<'a> {
    /// Whom we believe.
    pub believes: &'a Believes,
    /// Who we are, if we say so.
    pub identity: Option<&'a Identity>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The network, or the other side.
    #[error("cannot reach the coordinator")]
    Transport(#[from] tonic::transport::Error),
    /// Our own keys or certificates.
    #[error("cannot speak TLS")]
    Tls(#[from] PkiError),
}

impl DialError {
    /// Whether it was reached, and is not whom we believe.
    pub fn is_distrust(&self) -> bool {
        words(self).contains("invalid peer certificate")
    }
}

/// Dials. Keepalive finds a frozen peer in 15 s: without it a machine that has lost its power is never missed.
pub async fn dial(endpoint: &Endpoint, manner: Option<Manner<'_>>) -> Result<Channel, DialError> {
    let url = match endpoint {
        Endpoint::Loopback(url) => url.clone(),
        // HTTP wants an authority; nobody reads it.
        Endpoint::Unix(_) | Endpoint::Tls(_) => "http://coordinator.local".into(),
    };
    let channel = Channel::from_shared(url)
        .unwrap_or_else(|_| Channel::from_static("http://127.0.0.1"))
        .tcp_nodelay(true)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    match endpoint.clone() {
        Endpoint::Loopback(_) => Ok(channel.connect().await?),
        Endpoint::Unix(path) => {
            let connect = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            Ok(channel.connect_with_connector(connect).await?)
        }
        Endpoint::Tls(authority) => {
            let nobody = Believes::Authorities(Vec::new());
            let manner = manner.unwrap_or(Manner { believes: &nobody, identity: None });
            let config = pki::client(manner.believes, manner.identity)?;
            let connect = tower::service_fn(move |_: Uri| {
                let (authority, config) = (authority.clone(), config.clone());
                async move { handshake(&authority, config).await.map(TokioIo::new) }
            });
            Ok(channel.connect_with_connector(connect).await?)
        }
    }
}

async fn handshake(
    authority: &str,
    config: Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    // Wherever the coordinator lives, this is what its certificate says.
    let name = ServerName::try_from(pki::COORDINATOR).map_err(io::Error::other)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// An error and its causes in one line.
pub fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some layers only wrap, or repeat the one below them.
        let said = error.to_string();
        if said != "transport error" && !words.ends_with(&said) {
            words = format!("{words}: {said}");
        }
        cause = error.source();
    }
    match words.contains("UnknownIssuer") {
        true => {
            format!("{words} (this coordinator belongs to another fleet, or its authority was exchanged meanwhile)")
        }
        false => words,
    }
}
