//! The door: every connection from outside passes it, and it knows what each has proved.
//!
//! TLS 1.3, with a client certificate or without one: who has none can only enrol, renew, or show an access string.
//! A flood must not keep a legitimate agent out, so nobody who is new is turned away for want of room: the oldest who
//! has not proved anything goes instead. A handshake takes milliseconds for those who mean it.
//!
//! Reading order: [`Peer`], [`Door`], [`crowd`], [`accept`].

pub mod accept;
pub mod crowd;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use muster_proto::{
    Sha256,
    pki::{self, About, Key, Name, PkiError},
};
use rustls::{ServerConfig, crypto::ring, pki_types::CertificateDer, server::WebPkiClientVerifier};
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, Span, Subject};

/// How long the coordinator's own certificate holds; it is made anew at half of it.
const OWN_HOURS: u64 = 720;

/// What a connection has proved by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// Over the unix socket; what the kernel says of the other side.
    Unix {
        /// Its user id.
        uid: u32,
    },
    /// Over loopback, without TLS.
    Loopback,
    /// Over TLS, with a certificate that one of our authorities has signed.
    Certificate(About),
    /// Over TLS, without one.
    Nothing,
}

/// The other side of a connection.
#[derive(Debug)]
pub struct Peer {
    id: u64,
    /// What it has proved.
    pub proof: Proof,
    /// Where it comes from: "unix socket", "192.168.1.7:40312".
    pub from: String,
    /// Ends the connection.
    pub kick: CancellationToken,
    /// Who has called over it, once that was proved.
    names: Mutex<BTreeSet<String>>,
    known: CancellationToken,
}

impl Peer {
    /// It has proved to be somebody, or to be on the way to it.
    pub fn vouch(&self, name: &str) {
        let mut names = lock(&self.names);
        if !names.contains(name) {
            names.insert(name.to_owned());
            self.known.cancel();
        }
    }

    /// Whether it has.
    pub fn is_vouched(&self) -> bool {
        self.known.is_cancelled()
    }
}

/// Names and keys behind the listener, and everybody who has come in.
#[derive(Debug)]
pub struct Door {
    names: Vec<String>,
    authorities: RwLock<Arc<Vec<Authority>>>,
    tls: RwLock<Tls>,
    peers: Mutex<BTreeMap<u64, Weak<Peer>>>,
    count: AtomicU64,
}

#[derive(Debug)]
struct Tls {
    config: Arc<ServerConfig>,
    renew_ms: u64,
}

impl Door {
    /// `names` are those that the coordinator's certificate has besides its own; `authorities` has the signing one
    /// first, and is not empty.
    pub fn new(names: Vec<String>, authorities: Vec<Authority>, now_ms: u64) -> Result<Arc<Self>, PkiError> {
        let tls = RwLock::new(tls(&names, &authorities, now_ms)?);
        let authorities = RwLock::new(Arc::new(authorities));
        Ok(Arc::new(Self { names, authorities, tls, peers: Mutex::default(), count: AtomicU64::new(0) }))
    }

    /// The fleet's authorities, the signing one first.
    pub fn authorities(&self) -> Arc<Vec<Authority>> {
        self.authorities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Their certificates, for those who are to believe them.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        self.authorities().iter().map(|authority| authority.certificate.clone()).collect()
    }

    /// Signs as the fleet's authority; the signer's hash comes along.
    pub fn sign(&self, request: &[u8], subject: &Subject, span: Span) -> Result<(Vec<u8>, Sha256), PkiError> {
        let authorities = self.authorities();
        let signing = authorities.first().ok_or(PkiError::Nameless)?;
        Ok((signing.sign(request, subject, span)?, signing.sha256()))
    }

    /// From now on these are believed, and the first signs.
    pub fn believe(&self, authorities: Vec<Authority>, now_ms: u64) -> Result<(), PkiError> {
        let fresh = tls(&self.names, &authorities, now_ms)?;
        *self.authorities.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authorities);
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// What the next connection is offered; with a certificate made anew when the old one is half over.
    fn config(&self, now_ms: u64) -> Arc<ServerConfig> {
        {
            let current = self.tls.read().unwrap_or_else(PoisonError::into_inner);
            if now_ms < current.renew_ms {
                return current.config.clone();
            }
        }
        match tls(&self.names, &self.authorities(), now_ms) {
            Ok(fresh) => {
                let config = fresh.config.clone();
                *self.tls.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                config
            }
            Err(error) => {
                tracing::error!(%error, "cannot make a new certificate for the coordinator; the old one is shown");
                self.tls.read().unwrap_or_else(PoisonError::into_inner).config.clone()
            }
        }
    }

    /// Somebody has come in.
    fn enter(&self, proof: Proof, from: String, kick: CancellationToken) -> Arc<Peer> {
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer { id, proof, from, kick, names: Mutex::default(), known: CancellationToken::new() });
        if let Proof::Certificate(about) = &peer.proof {
            peer.vouch(&about.name.to_string());
        }
        lock(&self.peers).insert(id, Arc::downgrade(&peer));
        peer
    }

    fn leave(&self, peer: &Peer) {
        lock(&self.peers).remove(&peer.id);
    }

    /// Cuts off whoever has called by that name; how many connections that were.
    pub fn cut(&self, name: &Name) -> usize {
        let name = name.to_string();
        let peers: Vec<_> = lock(&self.peers).values().filter_map(Weak::upgrade).collect();
        let mine = peers.iter().filter(|peer| lock(&peer.names).contains(&name));
        mine.inspect(|peer| peer.kick.cancel()).count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls(names: &[String], authorities: &[Authority], now_ms: u64) -> Result<Tls, PkiError> {
    let signing = authorities.first().ok_or(PkiError::Nameless)?;
    let key = Key::generate()?;
    let span = Span::hours(now_ms, OWN_HOURS);
    let leaf = signing.sign(&key.request("muster-coordinator")?, &Subject::Coordinator(names), span)?;
    // The crossed ones lead those who only know an older authority to the signing one; the others are looked for by
    // their hash, by those who know no more than that.
    let known = authorities.iter().flat_map(|one| [one.crossed.as_ref(), Some(&one.certificate)]).flatten();
    let chain = [&leaf].into_iter().chain(known).map(|der| CertificateDer::from(der.clone())).collect();
    let believed: Vec<_> = authorities.iter().map(|authority| authority.certificate.clone()).collect();
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(pki::roots(&believed)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| PkiError::Tls(rustls::Error::General(error.to_string())))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key.der()?)?;
    config.alpn_protocols = vec![pki::ALPN.to_vec()];
    // A ticket would bring back who has been thrown out since.
    config.send_tls13_tickets = 0;
    Ok(Tls { config: Arc::new(config), renew_ms: now_ms + OWN_HOURS / 2 * 3_600_000 })
}

#[cfg(test)]
mod tests;
