//! Certificates of this host's instances: asked for, kept, renewed.
//!
//! One key and one certificate for each cluster on this host, in `<base_dir>/agent/tls`, which is closed to others. The
//! key is made here and is kept as long as the cluster lives here, so that a new certificate alone can be loaded by a
//! server that takes its settings one by one (before Redis 7.0). The certificate comes from the cluster's own
//! authority, over the coordinator; it is exchanged when another authority signs, and at half its life.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use muster_proto::{
    ClusterId, ClusterName, HostAssignment, HostName, InstanceTls, Secret, Sha256,
    acl::TlsFiles,
    pki::{self, Key},
    wire::{CertifyRequest, enrolment_client::EnrolmentClient},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    config::Endpoint,
    dial::{self, Manner, dial},
    durable,
    enrol::now_s,
    identity::Papers,
    keeper::Event,
};

/// Operators' own files are looked at this often. Whoever exchanges them may do so in any order and by any means, link
/// and mount included; three looks at inodes tell it more surely than events.
const LOOK: Duration = Duration::from_secs(10);

/// What an instance is certified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate, PEM; empty when there is none yet, and for operators' own files.
    pub pem: String,
    /// Its key, PEM.
    pub key: Secret,
    /// What tells it from earlier ones.
    print: String,
    /// The authority that has signed it.
    issuer: Option<Sha256>,
    /// Why it could not be had, or not be renewed.
    trouble: Option<String>,
}

/// By cluster.
pub type Certificates = BTreeMap<ClusterId, Certified>;

impl Certified {
    /// A certificate and its key; one of `authorities` (PEM) has signed it.
    pub fn of(pem: String, key: &Key, authorities: &str) -> Self {
        let print = Sha256::of(pem.as_bytes()).to_string();
        let issuer = issuer_of(&pem, authorities);
        Self { pem, key: key.pem().clone(), print, issuer, trouble: None }
    }

    /// None; why.
    fn missing(why: String) -> Self {
        Self { pem: String::new(), key: Secret::new(""), print: String::new(), issuer: None, trouble: Some(why) }
    }

    /// What tells it from earlier ones.
    pub fn print(&self) -> &str {
        &self.print
    }

    /// Whether that authority has signed it.
    pub fn is_signed_by(&self, issuer: Sha256) -> bool {
        self.issuer == Some(issuer)
    }

    /// Why it is not there, for a sentence: ": no route to host".
    pub fn trouble(&self) -> String {
        self.trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
    }
}

/// Keeps the certificates of what is assigned.
pub struct Certifier {
    /// Where the coordinator is.
    pub endpoint: Endpoint,
    /// Who we are to it.
    pub papers: Papers,
    /// Our name.
    pub host: HostName,
    /// `<base_dir>/agent/tls`.
    pub dir: PathBuf,
    /// What is assigned.
    pub assignment: watch::Receiver<Arc<HostAssignment>>,
    /// Where the certificates are said.
    pub certificates: watch::Sender<Arc<Certificates>>,
    /// Rung when they have changed.
    pub bell: mpsc::Sender<Event>,
}

impl Certifier {
    /// Runs until shut down.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let fresh = || {
            let builder = ExponentialBuilder::default().with_jitter().without_max_times();
            builder.with_min_delay(Duration::from_millis(250)).with_max_delay(Duration::from_secs(30)).build()
        };
        let mut backoff = fresh();
        loop {
            let assignment = self.assignment.borrow_and_update().clone();
            let (certificates, failed) = self.certify(&assignment).await;
            let news = **self.certificates.borrow() != certificates;
            if news {
                self.certificates.send_replace(Arc::new(certificates));
                let _ = self.bell.send(Event::Certified).await;
            }
            let pause = if failed {
                backoff.next().unwrap_or(LOOK)
            } else {
                backoff = fresh();
                LOOK
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.assignment.changed() => if changed.is_err() { return },
                () = sleep(pause) => {}
            }
        }
    }

    /// Every cluster of the assignment; and whether anything could not be had.
    async fn certify(&self, assignment: &HostAssignment) -> (Certificates, bool) {
        let (mut certificates, mut failed) = (Certificates::new(), false);
        for cluster in &assignment.clusters {
            let certified = match &cluster.tls {
                None => continue,
                Some(InstanceTls::Files(files)) => operators(files),
                Some(InstanceTls::Issued { ca_pem, issuer }) => {
                    self.issued(&cluster.cluster, cluster.cluster_id, ca_pem, *issuer).await
                }
            };
            failed |= certified.trouble.is_some();
            certificates.insert(cluster.cluster_id, certified);
        }
        (certificates, failed)
    }

    async fn issued(&self, cluster: &ClusterName, id: ClusterId, ca_pem: &str, issuer: Sha256) -> Certified {
        let kept = self.kept(id).unwrap_or_default();
        let key = match self.key(id) {
            Ok(key) => key,
            Err(why) => return Certified::missing(why),
        };
        let current = is_current(&kept, ca_pem, issuer, &key, now_s());
        if current == Some(true) {
            return Certified::of(kept, &key, ca_pem);
        }
        match self.ask(cluster, id, &key).await {
            Ok(pem) => Certified::of(pem, &key, ca_pem),
            // What is there still holds, or held once: a server that runs with it is not stopped for that.
            Err(why) if current.is_some() => {
                tracing::warn!(%cluster, "cannot renew the certificate of the instances: {why}; trying again");
                Certified { trouble: Some(why), ..Certified::of(kept, &key, ca_pem) }
            }
            Err(why) => Certified::missing(why),
        }
    }

    fn kept(&self, id: ClusterId) -> io::Result<String> {
        fs::read_to_string(self.dir.join(format!("{id}.pem")))
    }

    fn key(&self, id: ClusterId) -> Result<Key, String> {
        let path = self.dir.join(format!("{id}.key"));
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        match fs::read_to_string(&path) {
            Ok(text) => Key::from_pem(Secret::new(text)).map_err(|error| said(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Key::generate().map_err(|error| said(&error))?;
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir);
                made.and_then(|()| durable::write(&path, key.pem().expose().as_bytes(), 0o600))
                    .map_err(|error| said(&error))?;
                Ok(key)
            }
            Err(error) => Err(said(&error)),
        }
    }

    async fn ask(&self, cluster: &ClusterName, id: ClusterId, key: &Key) -> Result<String, String> {
        let csr = key.request(self.host.as_str()).map_err(|error| error.to_string())?;
        let channel = match &self.endpoint {
            Endpoint::Tls(_) => {
                let known = self.papers.load(self.host.as_str()).map_err(|error| error.to_string())?;
                let manner = Manner { believes: &known.believes(), identity: Some(&known.identity) };
                dial(&self.endpoint, Some(manner)).await
            }
            Endpoint::Unix(_) | Endpoint::Loopback(_) => dial(&self.endpoint, None).await,
        };
        let channel = channel.map_err(|error| dial::words(&error))?;
        let request = CertifyRequest { cluster: cluster.to_string(), csr, host: self.host.to_string() };
        let answer = EnrolmentClient::new(channel).certify(request).await;
        let pem = pki::to_pem(&[answer.map_err(|status| status.message().to_owned())?.into_inner().certificate]);
        durable::write(&self.dir.join(format!("{id}.pem")), pem.as_bytes(), 0o600)
            .map_err(|error| error.to_string())?;
        tracing::info!(%cluster, "the instances have a new certificate");
        Ok(pem)
    }
}

/// Whether a certificate is the one to use: of this key, signed by the authority that signs now, not past half its
/// life. None when it cannot be used at all.
fn is_current(pem: &str, ca_pem: &str, issuer: Sha256, key: &Key, now_s: i64) -> Option<bool> {
    let certificate = pki::from_pem(pem).ok()?.into_iter().next()?;
    let signed = issuer_of(pem, ca_pem)?;
    let (_, read) = X509Certificate::from_der(&certificate).ok()?;
    if Some(Sha256::of(read.public_key().raw)) != key.sha256().ok() {
        return None;
    }
    let (from, until) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
    let half = from + (until - from) / 2;
    Some(signed == issuer && now_s < half)
}

/// Which of these authorities has signed a certificate.
fn issuer_of(pem: &str, authorities: &str) -> Option<Sha256> {
    let certificate = pki::from_pem(pem).ok()?.into_iter().next()?;
    let authorities = pki::from_pem(authorities).ok()?;
    let signed = authorities.iter().find(|authority| pki::is_signed_by(&certificate, authority))?;
    Some(Sha256::of(signed))
}

/// Operators' own files are known by their times and inodes.
fn operators(files: &TlsFiles) -> Certified {
    let look = |path: &Path| {
        let meta = fs::metadata(path)?;
        Ok::<_, io::Error>(format!("{}:{}:{};", meta.ino(), meta.mtime(), meta.mtime_nsec()))
    };
    let looked: Result<String, String> = [&files.cert, &files.key, &files.ca]
        .into_iter()
        .map(|path| look(path).map_err(|error| format!("{}: {error}", path.display())))
        .collect();
    let (print, trouble) = match looked {
        Ok(print) => (print, None),
        Err(why) => (String::new(), Some(why)),
    };
    Certified { pem: String::new(), key: Secret::new(""), print, issuer: None, trouble }
}
