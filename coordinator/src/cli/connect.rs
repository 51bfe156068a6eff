//! The way to the coordinator: a channel through its endpoint, and calls with a limit.
//!
//! Over TLS it matters whom we believe and who we are: a [`Login`] says both. A coordinator is asked for by the one
//! name that no authority but its fleet's signs, wherever it listens, so that DNS has no part in whom we trust.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use muster_proto::{
    Secret,
    pki::{self, Believes, Identity},
    wire::{admin_client::AdminClient, trust_client::TrustClient},
};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use zeroize::Zeroizing;

use super::{endpoint::Endpoint, error::CliError};

/// For answers out of the coordinator's memory.
pub const QUICK: Duration = Duration::from_secs(10);

/// For answers that need every host: each has its own, shorter limits there.
pub const THOROUGH: Duration = Duration::from_secs(60);

/// For reaching the coordinator at all, its handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// Room for the status of a large cluster in which every node sends its whole view.
const ANSWER_MAX: usize = 64 << 20;

/// Whom to believe, and who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Whom to believe.
    pub believes: Believes,
    /// Who we are.
    pub who: Who,
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// By what an access string holds, in every request.
    Bearer {
        /// The user.
        user: String,
        /// What proves it.
        secret: Secret,
    },
    /// By a client certificate, in the handshake.
    Certificate(Identity),
}

/// Puts the bearer's header into every request; nothing without one.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

impl Bearer {
    fn of(who: Option<&Who>) -> Self {
        let Some(Who::Bearer { user, secret }) = who else { return Self(None) };
        let header = Zeroizing::new(format!("Bearer {user}:{}", secret.expose()));
        // Both parts were checked to be plain ASCII when they were read.
        let mut value = MetadataValue::try_from(header.as_str()).ok();
        if let Some(value) = &mut value {
            // Hidden from `Debug`, and left out of HTTP/2's header table.
            value.set_sensitive(true);
        }
        Self(value)
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// What requests go through.
pub type Wire = InterceptedService<Channel, Bearer>;

/// The Admin service, as a client sees it.
pub type Admin = AdminClient<Wire>;

/// The Trust service, as a client sees it.
pub type Trust = TrustClient<Wire>;

/// Certificates that the coordinator has shown in its last handshake, DER.
type Shown = Arc<Mutex<Vec<Vec<u8>>>>;

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub struct Link {
    wire: Wire,
    shown: Shown,
}

impl Link {
    /// Clusters and operations.
    pub fn admin(&self) -> Admin {
        AdminClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// Who may what.
    pub fn trust(&self) -> Trust {
        TrustClient::new(self.wire.clone()).max_decoding_message_size(ANSWER_MAX)
    }

    /// The certificates that the coordinator has shown, DER; none without TLS.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Connects now, so that a coordinator that is not there is found out before anything is asked. When the connection is
/// lost later, the channel dials again at the next call.
pub async fn connect(endpoint: &Endpoint, login: Option<&Login>) -> Result<Link, CliError> {
    let failed = |source| CliError::unreachable(endpoint, source);
    let url = match endpoint {
        Endpoint::Http(url) => url.clone(),
        // HTTP wants an authority; over a unix socket nobody reads it, and over TLS the handshake has its own.
        Endpoint::Unix(_) => "http://muster".to_owned(),
        Endpoint::Https { .. } => format!("http://{}", pki::COORDINATOR),
    };
    let dial = tonic::transport::Endpoint::from_shared(url)
        .map_err(failed)?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let shown = Shown::default();
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
        Endpoint::Https { host, port } => {
            let login = login.ok_or_else(|| CliError::stranger(endpoint))?;
            let identity = match &login.who {
                Who::Certificate(identity) => Some(identity),
                Who::Bearer { .. } => None,
            };
            let config = pki::client(&login.believes, identity).map_err(CliError::Identity)?;
            let (connector, host, port, shown) = (TlsConnector::from(config), host.clone(), *port, shown.clone());
            let connector = tower::service_fn(move |_| handshake(connector.clone(), host.clone(), port, shown.clone()));
            dial.connect_with_connector(connector).await
        }
    };
    let bearer = Bearer::of(login.map(|login| &login.who));
    Ok(Link { wire: InterceptedService::new(channel.map_err(failed)?, bearer), shown })
}

async fn handshake(
    connector: TlsConnector,
    host: String,
    port: u16,
    shown: Shown,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(pki::COORDINATOR).map_err(io::Error::other)?;
    let stream = connector.connect(name, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    *shown.lock().unwrap_or_else(PoisonError::into_inner) = chain;
    Ok(TokioIo::new(stream))
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
    fn a_bearer_is_in_every_request_and_in_no_debug() {
        let who = Who::Bearer { user: "alice".into(), secret: Secret::new("hunter2") };
        let mut bearer = Bearer::of(Some(&who));
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer alice:hunter2");
        let shown = format!("{who:?} {bearer:?} {request:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let request = Bearer::of(None).call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
    }
}
