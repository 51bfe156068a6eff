//! Who this host is to its coordinator: a key that never leaves the host, the certificate for it, and whom to believe.
//!
//! Three files in `<base_dir>/agent`, which is closed to others: `host.key`, `host.pem`, `authorities.pem`. They are
//! read at every dial, so that an agent need not be started anew when it is enrolled. A fourth, `host.key.new`, is
//! there while another key is offered.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use muster_proto::{
    Secret,
    pki::{self, About, Believes, Identity, Key, PkiError},
};

use crate::{
    durable,
    news::{AddWatchFlags, News},
};

const CERTIFICATE: &str = "host.pem";
const KEY: &str = "host.key";
/// A key that the coordinator has not taken yet.
const NEW_KEY: &str = "host.key.new";

/// Where the three files are.
#[derive(Debug, Clone)]
pub struct Papers {
    dir: PathBuf,
}

/// An enrolled host.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Who we are.
    pub identity: Identity,
    /// What the certificate says.
    pub about: About,
    /// Whom we believe, DER, the signing one first.
    pub authorities: Vec<Vec<u8>>,
}

/// Why there is no identity to be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not yet.
    #[error(
        "this host is not enrolled (hint: on the coordinator: muster token create --host {host}; then here: \
         muster-agent --config FILE enrol)"
    )]
    NotEnrolled {
        /// Its name.
        host: String,
    },
    /// The disk.
    #[error("cannot read or write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read the key.
    #[error(
        "{0} is open to others (hint: chmod 600 {0}; if anybody could have read it, on the coordinator: muster host \
         rejoin-token HOST, which prints what to type here)"
    )]
    Open(PathBuf),
    /// Not what it should be.
    #[error(
        "{path} is not what it should be (hint: on the coordinator: muster host rejoin-token HOST, which prints what \
         to type here)"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        source: PkiError,
    },
    /// The certificate is for another key.
    #[error(
        "{0} is for another key than host.key (hint: muster-agent --config FILE enrol --again, with the token that \
         this host used last, or with one of: muster host rejoin-token HOST)"
    )]
    OtherKey(PathBuf),
}

type Result<T> = std::result::Result<T, IdentityError>;

impl Papers {
    /// In the agent's own directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Listens for another certificate from now on.
    pub fn news(&self) -> io::Result<News> {
        News::of(&self.dir, CERTIFICATE, AddWatchFlags::IN_MOVED_TO)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<()> {
        let path = self.path(name);
        let failed = |source| IdentityError::File { path: path.clone(), source };
        durable::write(&path, text.as_bytes(), mode).map_err(failed)
    }

    /// The key; none before the first enrolment.
    pub fn key(&self) -> Result<Option<Key>> {
        self.read_key(KEY)
    }

    fn read_key(&self, name: &str) -> Result<Option<Key>> {
        let path = self.path(name);
        let Some(text) = self.read(name)?.map(Secret::new) else { return Ok(None) };
        let meta = fs::metadata(&path).map_err(|source| IdentityError::File { path: path.clone(), source })?;
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(IdentityError::Open(path));
        }
        Key::from_pem(text).map(Some).map_err(|source| IdentityError::Damaged { path, source })
    }

    /// The key to enrol with: the one that is there, or a first one. With `anew` it is another one, which waits beside
    /// until the coordinator has [taken](Self::take) it: a refusal costs nothing, and after one, or after a reply that
    /// was lost, the same one is offered again.
    pub fn offer(&self, anew: bool) -> Result<Key> {
        if !anew {
            return self.key()?.map_or_else(|| self.draw(KEY), Ok);
        }
        match self.read_key(NEW_KEY) {
            // One that is in its place already is not another one; what does not parse was never offered.
            Ok(Some(offered)) if self.key().ok().flatten().as_ref() != Some(&offered) => Ok(offered),
            _ => self.draw(NEW_KEY),
        }
    }

    fn draw(&self, name: &str) -> Result<Key> {
        let key = Key::generate().map_err(|source| IdentityError::Damaged { path: self.path(name), source })?;
        self.write(name, key.pem().expose(), 0o600)?;
        Ok(key)
    }

    /// The coordinator has taken this key: it is the host's from now on.
    pub fn take(&self, key: &Key) -> Result<()> {
        // One that is open to others, or does not parse, is replaced too.
        if self.key().ok().flatten().as_ref() != Some(key) {
            self.write(KEY, key.pem().expose(), 0o600)?;
        }
        self.drop_offer()
    }

    /// Forgets a key that waits beside.
    fn drop_offer(&self) -> Result<()> {
        let path = self.path(NEW_KEY);
        match durable::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(IdentityError::File { path, source: error }),
            _ => Ok(()),
        }
    }

    /// Keeps what an enrolment or a renewal has brought.
    pub fn keep(&self, certificate: &[u8], authorities: &[Vec<u8>]) -> Result<()> {
        self.believe(authorities)?;
        self.write(CERTIFICATE, &pki::to_pem(&[certificate.to_vec()]), 0o644)
    }

    /// Believes these from now on.
    pub fn believe(&self, authorities: &[Vec<u8>]) -> Result<()> {
        self.write("authorities.pem", &pki::to_pem(authorities), 0o644)
    }

    /// All three. `host` is for the hint when there is nothing.
    pub fn load(&self, host: &str) -> Result<Enrolled> {
        let nothing = || IdentityError::NotEnrolled { host: host.to_owned() };
        let key = self.key()?.ok_or_else(nothing)?;
        let certificate = self.certificates(CERTIFICATE)?.and_then(|found| found.into_iter().next());
        let certificate = certificate.ok_or_else(nothing)?;
        let authorities =
            self.certificates("authorities.pem")?.filter(|found| !found.is_empty()).ok_or_else(nothing)?;
        let path = self.path(CERTIFICATE);
        let damaged = |source| IdentityError::Damaged { path: path.clone(), source };
        let about = pki::read_certificate(&certificate).map_err(damaged)?;
        if key.sha256().map_err(damaged)? != about.key {
            return Err(IdentityError::OtherKey(path));
        }
        Ok(Enrolled { identity: Identity { certificate, key }, about, authorities })
    }

    fn certificates(&self, name: &str) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        let path = self.path(name);
        pki::from_pem(&text).map(Some).map_err(|source| IdentityError::Damaged { path, source })
    }
}

impl Enrolled {
    /// Whom we believe.
    pub fn believes(&self) -> Believes {
        Believes::Authorities(self.authorities.clone())
    }

    /// Believes these from now on; whether that is news. Nobody is no news.
    pub fn learn(&mut self, authorities: &[Vec<u8>]) -> bool {
        let news = !authorities.is_empty() && self.authorities != authorities;
        if news {
            self.authorities = authorities.to_vec();
        }
        news
    }

    /// Whether the certificate has ended, `now` in seconds since 1970.
    pub fn is_over(&self, now_s: i64) -> bool {
        self.about.not_after_s <= now_s
    }

    /// Whether it is signed by the authority that signs now. Otherwise it is exchanged soon: the older authority is
    /// about to be retired.
    pub fn is_current(&self) -> bool {
        self.authorities.first().is_some_and(|signing| pki::is_signed_by(&self.identity.certificate, signing))
    }

    /// How long until it should be renewed: half of its time, up to a tenth of it earlier, so that a fleet that was
    /// enrolled at once does not call at once. `jitter` is 0-1.
    pub fn renew_in(&self, now_s: i64, jitter: f64) -> Duration {
        if !self.is_current() {
            return Duration::ZERO;
        }
        let whole = self.about.not_after_s.saturating_sub(self.about.not_before_s).max(0);
        // Seconds of a lifetime fit a float many times over.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        let early = (whole as f64 * 0.1 * jitter.clamp(0.0, 1.0)) as i64;
        let due = self.about.not_before_s.saturating_add(whole / 2).saturating_sub(early);
        Duration::from_secs(u64::try_from(due.saturating_sub(now_s)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests;
