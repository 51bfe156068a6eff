//! The certificate authority of one cluster's redis-servers: made once, signs for ten years.
//!
//! It is apart from the fleet's, and must be: a redis-server believes every certificate of its authority, and whoever
//! shows one on the bus is a peer, who may order slots and nodes about. Were it the fleet's, every agent, and every
//! user with a certificate, could be one.

use std::{net::IpAddr, time::Duration};

use muster_proto::{
    HostName, Sha256,
    pki::{self, Key},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize, de::Error as _};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::{CredentialsError, Password};

/// How long an authority holds: ten years. `muster credentials rotate --certificates` exchanges it before.
const HOLDS: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Certificates begin before they are made: clocks of hosts differ.
const EARLIER: Duration = Duration::from_secs(3600);

type Result<T> = std::result::Result<T, CredentialsError>;

/// A certificate and the key that signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Kept", into = "Kept")]
pub struct Authority {
    certificate: Vec<u8>,
    /// None when the store that had it was lost: it is believed, and signs no more.
    key: Option<Key>,
    /// Certificates of others that are believed as long as it is: those of before an exchange whose key is lost.
    beside: Vec<Vec<u8>>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    certificate_pem: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_pem: Option<Password>,
}

impl From<Authority> for Kept {
    fn from(authority: Authority) -> Self {
        let key_pem = authority.key.as_ref().map(|key| Password::Known(key.pem().clone()));
        Self { certificate_pem: authority.pem(), key_pem }
    }
}

impl TryFrom<Kept> for Authority {
    type Error = serde_json::Error;
    fn try_from(kept: Kept) -> std::result::Result<Self, serde_json::Error> {
        let mut certificates = pki::from_pem(&kept.certificate_pem).unwrap_or_default().into_iter();
        let certificate = certificates.next();
        let key = match kept.key_pem {
            None => None,
            Some(Password::Known(key)) => Some(Key::from_pem(key).map_err(serde_json::Error::custom)?),
            Some(Password::Hashed(_)) => return Err(serde_json::Error::custom("an authority whose key is a hash")),
        };
        let certificate = certificate.ok_or_else(|| serde_json::Error::custom("an authority without a certificate"))?;
        Ok(Self { certificate, key, beside: certificates.collect() })
    }
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The host.
    pub host: &'a HostName,
    /// What its instances announce.
    pub addresses: Vec<IpAddr>,
    /// When it begins, seconds since 1970.
    pub now_s: u64,
    /// How long it holds.
    pub holds: Duration,
    /// Drawn for this certificate.
    pub serial: [u8; 16],
}

impl Authority {
    /// A fresh one. `now_s` is in seconds since 1970; its key is drawn from the kernel's generator.
    pub fn generate(cluster: &str, now_s: u64) -> Result<Self> {
        let key = Key::generate().map_err(CredentialsError::Key)?;
        let print = key.sha256().map_err(CredentialsError::Key)?;
        // Two authorities of one cluster must not have one name: TLS libraries look for an issuer by it.
        let mut params = params(&format!("redis-servers of {cluster}, {}", &print.to_string()[..16]), now_s, HOLDS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = key.pair().map_err(CredentialsError::Key)?;
        let certificate = params.self_signed(&pair).map_err(CredentialsError::Certificate)?;
        Ok(Self { certificate: certificate.der().to_vec(), key: Some(key), beside: Vec::new() })
    }

    /// One that is believed, and whose key is lost; of its certificate, DER.
    pub fn without_key(certificate: Vec<u8>) -> Self {
        Self { certificate, key: None, beside: Vec::new() }
    }

    /// The same, with another one believed beside it.
    pub fn beside(self, other: &Self) -> Self {
        Self { beside: vec![other.certificate.clone()], ..self }
    }

    /// Whether it can sign.
    pub fn signs(&self) -> bool {
        self.key.is_some()
    }

    /// Its certificate, PEM, and those that are believed beside it.
    pub fn pem(&self) -> String {
        let all: Vec<_> = [&self.certificate].into_iter().chain(&self.beside).cloned().collect();
        pki::to_pem(&all)
    }

    /// sha256 of its certificate (DER).
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.certificate)
    }

    /// A certificate, DER, for the key of a signing request, once that has been proved. Nothing else of the request is
    /// taken over.
    pub fn sign(&self, request: &[u8], subject: &Subject) -> Result<Vec<u8>> {
        let own_key = self.key.as_ref().ok_or(CredentialsError::KeyLost)?;
        pki::read_request(request).map_err(CredentialsError::Request)?;
        let unread = |error: String| CredentialsError::Request(pki::PkiError::Request(error));
        let (_, parsed) = X509CertificationRequest::from_der(request).map_err(|error| unread(error.to_string()))?;
        let key = SubjectPublicKeyInfo::from_der(parsed.certification_request_info.subject_pki.raw);
        let key = key.map_err(|error| unread(error.to_string()))?;
        let mut params = params(subject.host.as_str(), subject.now_s, subject.holds);
        params.serial_number = Some(SerialNumber::from_slice(&subject.serial));
        params.subject_alt_names = subject.addresses.iter().copied().map(SanType::IpAddress).collect();
        if let Some(name) = dns_name(subject.host) {
            params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(CredentialsError::Certificate)?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Each instance is a server to clients and peers, and a client to its master and to peers.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let pair = own_key.pair().map_err(CredentialsError::Key)?;
        let own = CertificateDer::from(self.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&own, pair).map_err(CredentialsError::Certificate)?;
        Ok(params.signed_by(&key, &issuer).map_err(CredentialsError::Certificate)?.der().to_vec())
    }

    /// Its key, for tests that look for it where it must not be.
    #[cfg(test)]
    pub fn key(&self) -> &muster_proto::Secret {
        self.key.as_ref().unwrap().pem()
    }
}

fn params(name: &str, now_s: u64, holds: Duration) -> CertificateParams {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_secs(now_s);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = now - EARLIER;
    params.not_after = now + holds;
    params
}

/// A host's name where it is one of the DNS' too: labels of letters, digits and inner hyphens (RFC 1123, 2.1).
fn dns_name(host: &HostName) -> Option<String> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(letter) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.as_str().split('.').all(label).then(|| host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_dns_become_names_of_a_certificate() {
        let named = |host: &str| dns_name(&host.parse().unwrap()).is_some();
        assert!(named("server1") && named("a.b-c") && named("10"));
        assert!(!named("a_b") && !named("a.") && !named("a..b") && !named("a-.b"));
    }
}
