//! Keys and certificates as both ends see them: what a certificate says, how a request for one is made, and whom a
//! client believes.
//!
//! A name stands in a certificate as a URI: `muster:host:server1`, `muster:user:alice`, `muster:coordinator`. A client
//! does not care where the coordinator lives: it wants [`COORDINATOR`], which no authority but the fleet's own signs.

use std::{fmt, sync::Arc};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509CertificationRequest, X509Version};

use crate::{HostName, Secret, Sha256, printable};

/// The DNS name that every coordinator's certificate has, wherever it listens.
pub const COORDINATOR: &str = "coordinator.muster.internal";

/// What is spoken over TLS.
pub const ALPN: &[u8] = b"h2";

/// Whose a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The coordinator's.
    Coordinator,
    /// An agent's.
    Host(HostName),
    /// A person's, or an automation's.
    User(String),
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Whose it is.
    pub name: Name,
    /// sha256 of its public key (SubjectPublicKeyInfo, DER).
    pub key: Sha256,
    /// Seconds since 1970.
    pub not_before_s: i64,
    /// Seconds since 1970.
    pub not_after_s: i64,
}

/// Why something of this is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Not a certificate, or with bytes behind it.
    #[error("not a certificate: {0}")]
    Certificate(String),
    /// Not a request, or not signed by its own key.
    #[error("not a signing request: {0}")]
    Request(String),
    /// A certificate of somebody else's.
    #[error("the certificate names nobody of a Muster fleet")]
    Nameless,
    /// Not a private key.
    #[error("not a private key that can be used")]
    Key(#[source] rcgen::Error),
    /// The TLS library does not take it.
    #[error("the TLS library refuses it")]
    Tls(#[from] rustls::Error),
}

type Result<T> = std::result::Result<T, PkiError>;

impl fmt::Display for Name {
    /// As it stands in a certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("muster:coordinator"),
            Self::Host(host) => write!(f, "muster:host:{host}"),
            Self::User(user) => write!(f, "muster:user:{user}"),
        }
    }
}

impl Name {
    fn read(uri: &str) -> Option<Self> {
        match uri.strip_prefix("muster:")?.split_once(':') {
            Some(("host", host)) => host.parse().ok().map(Self::Host),
            Some(("user", user)) => user.parse::<HostName>().ok().map(|_| Self::User(user.to_owned())),
            Some(_) => None,
            None => (uri == "muster:coordinator").then_some(Self::Coordinator),
        }
    }
}

/// Reads a certificate. Says nothing about whether anybody should believe it.
pub fn read_certificate(der: &[u8]) -> Result<About> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| PkiError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(PkiError::Certificate(format!("{} bytes too many", rest.len())));
    }
    let names = certificate.subject_alternative_name().map_err(|error| PkiError::Certificate(error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut ours = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Name::read(uri),
        _ => None,
    });
    let (Some(name), None) = (ours.next(), ours.next()) else { return Err(PkiError::Nameless) };
    Ok(About {
        name,
        key: Sha256::of(certificate.public_key().raw),
        not_before_s: certificate.validity().not_before.timestamp(),
        not_after_s: certificate.validity().not_after.timestamp(),
    })
}

/// Whether certificates in PEM are such as TLS libraries take: of version 3, which alone has names of hosts in it
/// (RFC 5280). Authorities need not be asked for names.
pub fn usable(pem: &str) -> std::result::Result<(), String> {
    let certificates = from_pem(pem).map_err(|error| error.to_string())?;
    let old = certificates.iter().any(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.version() != X509Version::V3)
    });
    if old { Err("a certificate in it is not X.509 version 3, which TLS libraries refuse".into()) } else { Ok(()) }
}

/// Whether an authority has signed a certificate, whenever that was.
pub fn is_signed_by(certificate: &[u8], authority: &[u8]) -> bool {
    let (Ok((_, certificate)), Ok((_, authority))) =
        (X509Certificate::from_der(certificate), X509Certificate::from_der(authority))
    else {
        return false;
    };
    certificate.verify_signature(Some(authority.public_key())).is_ok()
}

/// The key of a signing request, sha256 of its SubjectPublicKeyInfo, once its signature has proved it.
pub fn read_request(der: &[u8]) -> Result<Sha256> {
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|error| PkiError::Request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(PkiError::Request(format!("{} bytes too many", rest.len())));
    }
    request.verify_signature().map_err(|error| PkiError::Request(error.to_string()))?;
    Ok(Sha256::of(request.certification_request_info.subject_pki.raw))
}

/// A private key: ECDSA on P-256, which every TLS library knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Secret);

impl Key {
    /// Draws one from the kernel's generator.
    pub fn generate() -> Result<Self> {
        KeyPair::generate().map(|pair| Self(Secret::new(pair.serialize_pem()))).map_err(PkiError::Key)
    }

    /// From PEM.
    pub fn from_pem(pem: Secret) -> Result<Self> {
        KeyPair::from_pem(pem.expose()).map_err(PkiError::Key)?;
        Ok(Self(pem))
    }

    /// As PEM.
    pub fn pem(&self) -> &Secret {
        &self.0
    }

    /// For the library that signs.
    pub fn pair(&self) -> Result<KeyPair> {
        KeyPair::from_pem(self.0.expose()).map_err(PkiError::Key)
    }

    /// sha256 of the public half (SubjectPublicKeyInfo, DER).
    pub fn sha256(&self) -> Result<Sha256> {
        Ok(Sha256::of(&self.pair()?.subject_public_key_info()))
    }

    /// A signing request, DER. `name` is for people; whoever signs decides about names.
    pub fn request(&self, name: &str) -> Result<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let request = params.serialize_request(&self.pair()?).map_err(|error| PkiError::Request(error.to_string()))?;
        Ok(request.der().to_vec())
    }

    /// For the TLS library.
    pub fn der(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivatePkcs8KeyDer::from(self.pair()?.serialize_der()).into())
    }
}

/// A certificate and its key: who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// DER.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Key,
}

/// Whom a client believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Believes {
    /// Whoever is signed by one of these, DER.
    Authorities(Vec<Vec<u8>>),
    /// Whoever is signed by the one with this sha256, which the server must send along.
    Pinned(Sha256),
}

/// What a client of the coordinator speaks: TLS 1.3, as `identity` if there is one.
pub fn client(believes: &Believes, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match believes {
        Believes::Authorities(authorities) => builder.with_root_certificates(roots(authorities)?),
        Believes::Pinned(sha256) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { authority: *sha256, provider }))
        }
    };
    let mut config = match identity {
        Some(identity) => {
            let chain = vec![CertificateDer::from(identity.certificate.clone())];
            builder.with_client_auth_cert(chain, identity.key.der()?)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// What any client of a server speaks that these authorities have certified, TLS 1.2 and 1.3, without a certificate.
pub fn plain_client(authorities: &[Vec<u8>]) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots(authorities)?);
    Ok(Arc::new(builder.with_no_client_auth()))
}

/// Authorities as the TLS library wants them.
pub fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.clone()))?;
    }
    Ok(roots)
}

/// Believes the one authority whose hash it knows, and what that has signed for [`COORDINATOR`].
#[derive(Debug)]
struct Pinned {
    authority: Sha256,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|sent| Sha256::of(sent) == self.authority);
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General(
                "it does not show the authority that the token names: not the right coordinator".into(),
            )
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Certificates as PEM.
pub fn to_pem(certificates: &[Vec<u8>]) -> String {
    let one = |der: &Vec<u8>| {
        pem::encode_config(
            &pem::Pem::new("CERTIFICATE", der.clone()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        )
    };
    certificates.iter().map(one).collect()
}

/// The certificates of a PEM text; anything else in it is passed over.
pub fn from_pem(text: &str) -> Result<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(text).map_err(|error| PkiError::Certificate(printable(&error.to_string())))?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    Ok(certificates.map(pem::Pem::into_contents).collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, IsCa, Issuer, SanType};

    use super::*;

    fn signed(name: &str) -> (Vec<u8>, Key) {
        let (authority, key) = (Key::generate().unwrap(), Key::generate().unwrap());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(params, authority.pair().unwrap());
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        (params.signed_by(&key.pair().unwrap(), &issuer).unwrap().der().to_vec(), key)
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        for name in [Name::Coordinator, Name::Host("a.b".parse().unwrap()), Name::User("alice".into())] {
            let (der, key) = signed(&name.to_string());
            let about = read_certificate(&der).unwrap();
            assert_eq!((about.name, about.key), (name, key.sha256().unwrap()));
            assert!(read_certificate(&[der.as_slice(), b"x"].concat()).is_err());
            assert_eq!(from_pem(&to_pem(std::slice::from_ref(&der))).unwrap(), [der]);
        }
        for name in ["muster:root:x", "https://example", "muster:host:../a", "muster:"] {
            assert!(matches!(read_certificate(&signed(name).0), Err(PkiError::Nameless)), "{name}");
        }
    }

    #[test]
    fn a_request_proves_its_key() {
        let key = Key::generate().unwrap();
        let mut request = key.request("server1").unwrap();
        assert_eq!(read_request(&request).unwrap(), key.sha256().unwrap());
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(read_request(&request).is_err());
        assert!(read_request(b"").is_err());
    }

    #[test]
    fn a_key_is_read_back_and_never_shown() {
        let key = Key::generate().unwrap();
        assert_eq!(Key::from_pem(key.pem().clone()).unwrap(), key);
        assert_eq!(format!("{key:?}"), "Key(<secret>)");
        assert!(Key::from_pem(Secret::new("no")).is_err());
    }
}
