//! Contexts: coordinators by name, each with whom to believe there and who we are, kept in one file of the user's.
//!
//! The file holds secrets. It is made with mode 0600, a wider one is refused, and it is replaced as a whole, so that a
//! crash leaves the old one or the new one. Reading needs no lock; changing takes one on the directory.

mod written;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process,
    str::FromStr,
};

use muster_proto::pki::{Believes, PkiError};
use zeroize::Zeroizing;

use self::written::Written;
use super::{
    connect::{Login, Who},
    endpoint::{Endpoint, EndpointError},
};

/// How a context is called: 1-63 of `[a-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextName(String);

/// Not such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a context: 1-63 of a-z, 0-9, '.', '_' and '-'")]
pub struct ContextNameError(String);

impl FromStr for ContextName {
    type Err = ContextNameError;
    fn from_str(name: &str) -> Result<Self, ContextNameError> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let fits = (1..=63).contains(&name.len()) && name.chars().all(word);
        if fits { Ok(Self(name.to_owned())) } else { Err(ContextNameError(name.to_owned())) }
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    /// The one that is used when none is named.
    pub current: Option<ContextName>,
    /// By name.
    pub kept: BTreeMap<ContextName, Kept>,
}

/// One context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where its coordinator is.
    pub endpoint: Endpoint,
    /// What is needed over TLS; nothing on this host.
    pub access: Option<Access>,
}

/// What we are let in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The user.
    pub user: String,
    /// When it ends, milliseconds since 1970; 0 for never.
    pub expires_unix_ms: u64,
    /// The authorities of the fleet, DER.
    pub authorities: Vec<Vec<u8>>,
    /// How we prove who we are.
    pub who: Who,
}

impl Access {
    /// For a connection.
    pub fn login(&self) -> Login {
        let believes = Believes::Authorities(self.authorities.clone());
        Login { believes, who: self.who.clone() }
    }
}

/// What is wrong with the file, or with what is in it.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// There is no home directory.
    #[error("there is nowhere to keep contexts: neither MUSTER_CONFIG, XDG_CONFIG_HOME nor HOME is set")]
    Nowhere,
    /// The disk.
    #[error("cannot {doing} {path}")]
    File {
        /// "read", "write".
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path} holds secrets and is open to others: its mode is {mode:04o}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not what this program writes. The line itself is not in here: it may be a secret.
    #[error("{path} is not right: {what}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What.
        what: String,
    },
}

/// What is wrong with one context of the file.
#[derive(Debug, thiserror::Error)]
enum KeptError {
    #[error(transparent)]
    Name(#[from] ContextNameError),
    #[error("endpoint: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("authorities, certificate or key: {0}")]
    Pki(#[from] PkiError),
    #[error("it has {0}")]
    Incomplete(&'static str),
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store(PathBuf);

impl Store {
    /// At that path, or where the environment says.
    pub fn find(path: Option<&Path>, var: impl Fn(&str) -> Option<OsString>) -> Result<Self, ContextsError> {
        let var = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = || var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")));
        let path = path.map(Path::to_owned).or_else(|| Some(config()?.join("muster/contexts.toml")));
        path.map(Self).ok_or(ContextsError::Nowhere)
    }

    /// All that is kept; nothing when there is no file.
    pub fn read(&self) -> Result<Contexts, ContextsError> {
        let failed = |source| self.failed("read", source);
        let metadata = match fs::metadata(&self.0) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(failed(error)),
        };
        if metadata.mode() & 0o077 != 0 {
            return Err(ContextsError::Open { path: self.0.clone(), mode: metadata.mode() & 0o7777 });
        }
        let text = fs::read_to_string(&self.0).map(Zeroizing::new).map_err(failed)?;
        let malformed = |what| ContextsError::Malformed { path: self.0.clone(), what };
        let written = Written::parse(&text).map_err(malformed)?;
        Contexts::try_from(written).map_err(malformed)
    }

    /// Changes it: what is there is read, handed over, and written again as a whole.
    pub fn change<T, E: From<ContextsError>>(&self, how: impl FnOnce(&mut Contexts) -> Result<T, E>) -> Result<T, E> {
        let failed = |source| self.failed("write", source);
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = fs::File::open(directory).map_err(failed)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        let mut contexts = self.read()?;
        let changed = how(&mut contexts)?;
        let text = Written::from(&contexts).text().map_err(|error| failed(io::Error::other(error)))?;
        self.replace(&text, directory).and_then(|()| lock.sync_all()).map_err(failed)?;
        Ok(changed)
    }

    fn replace(&self, text: &str, directory: &Path) -> io::Result<()> {
        let new = directory.join(format!(".contexts.{}", process::id()));
        // One that a crash has left; under the lock it is nobody's.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| fs::rename(&new, &self.0));
        if renamed.is_err() {
            let _ = fs::remove_file(&new);
        }
        renamed
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> ContextsError {
        ContextsError::File { doing, path: self.0.clone(), source }
    }
}

#[cfg(test)]
mod tests;
