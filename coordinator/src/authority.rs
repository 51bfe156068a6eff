//! The fleet's own certificate authority. Each cluster with TLS has another one, in
//! [`credentials`](crate::credentials).
//!
//! An authority signs keys and decides about names; what a request asks to be called is ignored. A new authority of the
//! fleet is signed by the one before it too: whoever only knows the old one still believes what the new one signs.

use muster_proto::{
    HostName, Sha256,
    pki::{self, Key, Name, PkiError},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// How long an authority holds.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks of a fleet differ; preflight warns long before they differ so much.
const SKEW: Duration = Duration::minutes(10);

/// Signs, or is only believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its own certificate, DER, signed by itself.
    pub certificate: Vec<u8>,
    /// The same, signed by the authority before it.
    pub crossed: Option<Vec<u8>>,
    /// Its key.
    pub key: Key,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub enum Subject<'a> {
    /// The coordinator, under these names besides its own.
    Coordinator(&'a [String]),
    /// An agent.
    Host(&'a HostName),
    /// A person or an automation.
    User(&'a str),
}

/// Since when, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Milliseconds since 1970.
    pub from_ms: u64,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

impl Span {
    /// From now on, for so many hours.
    pub fn hours(now_ms: u64, hours: u64) -> Self {
        Self { from_ms: now_ms, until_ms: now_ms.saturating_add(hours.saturating_mul(3_600_000)) }
    }
}

type Result<T> = std::result::Result<T, PkiError>;

impl Authority {
    /// A new one. `before` signs it too.
    pub fn make(name: &str, now_ms: u64, before: Option<&Self>) -> Result<Self> {
        let key = Key::generate()?;
        let pair = key.pair()?;
        let span = Span::hours(now_ms, AUTHORITY_DAYS.unsigned_abs() * 24);
        // No two have one name: TLS libraries look for an issuer by it.
        let print = key.sha256()?.to_string();
        let mut params = params(&format!("{name} {}", &print[..16]), span);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let own = params.self_signed(&pair).map_err(refused)?.der().to_vec();
        let crossed = match before {
            Some(before) => Some(params.signed_by(&pair, &before.issuer()?).map_err(refused)?.der().to_vec()),
            None => None,
        };
        Ok(Self { certificate: own, crossed, key, created_ms: now_ms, expires_ms: span.until_ms })
    }

    /// What names it: sha256 of its certificate.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.certificate)
    }

    /// Signs the key of a request, which [`pki::read_request`] has proved.
    pub fn sign(&self, request: &[u8], subject: &Subject, span: Span) -> Result<Vec<u8>> {
        pki::read_request(request)?;
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).map_err(refused)?;
        request.params = leaf(subject, self.clip(span))?;
        Ok(request.signed_by(&self.issuer()?).map_err(refused)?.der().to_vec())
    }

    /// Nothing outlives who has signed it.
    fn clip(&self, span: Span) -> Span {
        Span { until_ms: span.until_ms.min(self.expires_ms), ..span }
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        Issuer::from_ca_cert_der(&self.certificate.as_slice().into(), self.key.pair()?).map_err(refused)
    }
}

fn leaf(subject: &Subject, span: Span) -> Result<CertificateParams> {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let uri = |name: Name| name.to_string().try_into().map(SanType::URI).map_err(refused);
    let dns = |name: &str| name.try_into().map(SanType::DnsName).map_err(refused);
    let (name, names, usages) = match subject {
        Subject::Coordinator(others) => {
            let mut names = vec![uri(Name::Coordinator)?, dns(pki::COORDINATOR)?];
            for other in *others {
                names.push(other.parse().map(SanType::IpAddress).or_else(|_| dns(other))?);
            }
            ("muster-coordinator".to_owned(), names, vec![ServerAuth])
        }
        Subject::Host(host) => (host.to_string(), vec![uri(Name::Host((*host).clone()))?], vec![ClientAuth]),
        Subject::User(user) => ((*user).to_owned(), vec![uri(Name::User((*user).to_owned()))?], vec![ClientAuth]),
    };
    let mut params = params(&name, span);
    params.subject_alt_names = names;
    params.extended_key_usages = usages;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(name: &str, span: Span) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = moment(span.from_ms) - SKEW;
    params.not_after = moment(span.until_ms);
    params
}

fn moment(unix_ms: u64) -> OffsetDateTime {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn refused(error: rcgen::Error) -> PkiError {
    PkiError::Request(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    /// Whether a client that knows these authorities believes the leaf.
    fn believed(known: &[&Authority], leaf: &[u8], sent: &[&[u8]], name: &str, at_ms: u64) -> bool {
        let known: Vec<_> = known.iter().map(|authority| authority.certificate.clone()).collect();
        let roots = Arc::new(pki::roots(&known).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        let sent: Vec<_> = sent.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(at_ms));
        verifier.verify_server_cert(&leaf.into(), &sent, &name, &[], now).is_ok()
    }

    #[test]
    fn who_only_knows_the_old_authority_believes_what_the_new_one_signs() {
        let old = Authority::make("old", NOW, None).unwrap();
        let new = Authority::make("new", NOW, Some(&old)).unwrap();
        let request = Key::generate().unwrap().request("x").unwrap();
        let names = ["coordinator.example".to_owned(), "10.0.0.1".to_owned()];
        let span = Span::hours(NOW, 24);
        let leaf = new.sign(&request, &Subject::Coordinator(&names), span).unwrap();
        let chain = [new.crossed.as_deref().unwrap(), new.certificate.as_slice()];
        for name in [pki::COORDINATOR, "coordinator.example", "10.0.0.1"] {
            assert!(believed(&[&new], &leaf, &chain, name, NOW), "{name}");
            assert!(believed(&[&old], &leaf, &chain, name, NOW), "{name}, by the old one");
        }
        assert!(!believed(&[&old], &leaf, &chain[1..], pki::COORDINATOR, NOW), "without the crossed one");
        assert!(!believed(&[&new], &leaf, &chain, "elsewhere", NOW));
        assert!(!believed(&[&new], &leaf, &chain, pki::COORDINATOR, span.until_ms + 1000), "after its time");
        assert!(!believed(&[&Authority::make("other", NOW, None).unwrap()], &leaf, &chain, pki::COORDINATOR, NOW));
    }

    #[test]
    fn a_certificate_has_the_key_of_the_request_and_the_names_of_the_signer() {
        let authority = Authority::make("a", NOW, None).unwrap();
        let key = Key::generate().unwrap();
        let request = key.request("muster:host:other").unwrap();
        let host: HostName = "server1".parse().unwrap();
        let span = Span::hours(NOW, 168);
        let about = pki::read_certificate(&authority.sign(&request, &Subject::Host(&host), span).unwrap()).unwrap();
        assert_eq!((about.name, about.key), (Name::Host(host.clone()), key.sha256().unwrap()));
        assert_eq!(about.not_after_s, i64::try_from(span.until_ms / 1000).unwrap());
        let about = pki::read_certificate(&authority.sign(&request, &Subject::User("vera"), span).unwrap()).unwrap();
        assert_eq!(about.name, Name::User("vera".into()));
        assert!(authority.sign(b"no request", &Subject::Host(&host), span).is_err());
    }
}
