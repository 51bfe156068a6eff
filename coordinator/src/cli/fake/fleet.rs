//! A fleet's authorities for tests, and the fake coordinator behind real TLS.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use muster_proto::{
    Sha256,
    pki::{self, Identity, Key},
    token::AccessString,
    wire::{self, CertifyUserResponse, admin_server::AdminServer, trust_server::TrustServer},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{ServerConfig, crypto::ring, pki_types::CertificateDer, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request,
    transport::{Server, server::Connected},
};

use super::Fake;

/// An authority that signs.
struct Signer {
    params: CertificateParams,
    key: Key,
    certificate: Vec<u8>,
}

impl Signer {
    fn new(name: &str) -> Self {
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // No two fleets have one name: it is the name that a verifier looks for.
        params.distinguished_name.push(DnType::CommonName, format!("{name} {}", key.sha256().unwrap()));
        let certificate = params.self_signed(&key.pair().unwrap()).unwrap().der().to_vec();
        Self { params, key, certificate }
    }

    fn issuer(&self) -> Issuer<'_, KeyPair> {
        Issuer::from_params(&self.params, self.key.pair().unwrap())
    }
}

/// A fleet: the authority that signs, and the one before it, which signed it too.
pub struct Fleet {
    signer: Signer,
    before: Option<Arc<Fleet>>,
    /// The coordinator's certificate ended long ago.
    pub expired: bool,
}

impl Fleet {
    pub fn new() -> Self {
        Self { signer: Signer::new("authority 1"), before: None, expired: false }
    }

    /// The same fleet with a new authority.
    pub fn rotated(before: &Arc<Self>) -> Self {
        Self { signer: Signer::new("authority 2"), before: Some(before.clone()), expired: false }
    }

    fn believed(&self) -> Vec<Vec<u8>> {
        let before = self.before.iter().map(|before| before.signer.certificate.clone());
        [self.signer.certificate.clone()].into_iter().chain(before).collect()
    }

    pub fn authorities(&self) -> Vec<wire::Authority> {
        let one = |der: &Vec<u8>| wire::Authority {
            sha256: Sha256::of(der).to_string(),
            certificate_pem: pki::to_pem(std::slice::from_ref(der)),
            ..wire::Authority::default()
        };
        self.believed().iter().map(one).collect()
    }

    pub fn access(&self, user: &str) -> AccessString {
        AccessString::new(user, [7; 32], Sha256::of(&self.signer.certificate))
    }

    pub fn certify(&self, user: &str, csr: &[u8]) -> CertifyUserResponse {
        let mut request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        request.params.subject_alt_names = vec![SanType::URI(format!("muster:user:{user}").try_into().unwrap())];
        let certificate = request.signed_by(&self.signer.issuer()).unwrap().der().to_vec();
        CertifyUserResponse { certificate, authorities: self.believed() }
    }

    /// Somebody of this fleet.
    pub fn identity(&self, user: &str) -> Identity {
        let key = Key::generate().unwrap();
        Identity { certificate: self.certify(user, &key.request(user).unwrap()).certificate, key }
    }

    /// What a coordinator shows: itself, its authority, that one as the older signed it, and the older one.
    fn server(&self) -> ServerConfig {
        let key = Key::generate().unwrap();
        let mut params = CertificateParams::new(vec![pki::COORDINATOR.to_owned()]).unwrap();
        if self.expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let leaf = params.signed_by(&key.pair().unwrap(), &self.signer.issuer()).unwrap().der().to_vec();
        let mut chain = vec![leaf, self.signer.certificate.clone()];
        if let Some(before) = &self.before {
            let cross = self.signer.params.signed_by(&self.signer.key.pair().unwrap(), &before.signer.issuer());
            chain.extend([cross.unwrap().der().to_vec(), before.signer.certificate.clone()]);
        }
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(pki::roots(&self.believed()).unwrap());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap())
            .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key.der().unwrap())
            .unwrap();
        config.alpn_protocols = vec![pki::ALPN.to_vec()];
        config
    }
}

impl Fake {
    /// Serves over TLS until the test's runtime ends, as a coordinator of that fleet; returns its endpoint.
    pub async fn serve_tls(&self, fleet: &Arc<Fleet>) -> String {
        self.script().trust.fleet = Some(fleet.clone());
        self.script().trust.authorities = fleet.authorities();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(fleet.server()));
        let (send, streams) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that does not believe us goes away; the next one may.
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = send.send(Ok::<_, io::Error>(Tls(stream))).await;
                }
            }
        });
        let server =
            Server::builder().add_service(AdminServer::new(self.clone())).add_service(TrustServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(streams)));
        endpoint
    }
}

/// Who called, as the connection and the request say: empty over a unix socket.
#[derive(Clone, Default)]
pub struct Peer(Option<String>);

impl Peer {
    pub fn of<T>(request: &Request<T>) -> Self {
        let certificate = request.extensions().get::<Self>().cloned().unwrap_or_default().0;
        let bearer = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        Self(certificate.or(bearer))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |who| write!(f, "[{who}] "))
    }
}

/// A TLS stream that tonic takes.
struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        let certificates = self.0.get_ref().1.peer_certificates();
        let about = certificates.map(|all| pki::read_certificate(&all[0]).unwrap());
        Peer(about.map(|about| about.name.to_string()))
    }
}

impl AsyncRead for Tls {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
