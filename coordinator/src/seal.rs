//! Secrets at rest: what the store keeps of them is sealed under a key that is not in the store.
//!
//! The key is 32 bytes, as 64 hex digits in a file: a systemd credential named `muster-store-key` where there is one,
//! else `key_file` of the config, drawn at the first start. ChaCha20-Poly1305, a fresh random nonce each time, and the
//! place that a value belongs to as associated data, so that sealed values cannot be exchanged for one another.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

/// The name of the systemd credential.
pub const CREDENTIAL: &str = "muster-store-key";

/// Seals and opens.
pub struct Seal(LessSafeKey);

/// Why there is no seal, or it does not open something.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk.
    #[error("cannot read or make the store's key {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are secrets, and nothing that opens them.
    #[error(
        "the store's key {0} is missing, and nothing else opens the secrets in the store (hint: put the file back \
         from a backup; without it move the store away: muster-coordinator recover --from-agents makes another)"
    )]
    Missing(PathBuf),
    /// Others could read it.
    #[error("the store's key {0} is open to others (hint: chmod 600 {0})")]
    Open(PathBuf),
    /// Something else is in the file.
    #[error("{0} does not hold a key: 64 hex digits")]
    Malformed(PathBuf),
    /// Sealed under another key, for another place, or changed since.
    #[error("{0} was sealed with another key, or was changed; is this the key that belongs to this store?")]
    Refused(String),
    /// The kernel's generator.
    #[error("the kernel gives no random bytes")]
    Random,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Under the key of the systemd credential if there is one, else of the file. That is made if it is missing, unless
    /// something has been `sealed` already: a second key would open none of it.
    pub fn open(key_file: &Path, sealed: bool) -> Result<Self, SealError> {
        let credential = env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join(CREDENTIAL));
        // Its rights are systemd's to give: with an ACL for the service's user it looks open to its group.
        if let Some(path) = credential.filter(|path| path.exists()) {
            let text = fs::read_to_string(&path).map_err(|source| SealError::File { path: path.clone(), source })?;
            return Self::parse(&Zeroizing::new(text), path);
        }
        let path = key_file.to_owned();
        let failed = |source| SealError::File { path: path.clone(), source };
        let read = File::open(&path).and_then(|mut file| {
            let mut text = Zeroizing::new(String::new());
            file.read_to_string(&mut text)?;
            Ok((text, file.metadata()?.permissions().mode()))
        });
        let text = match read {
            Ok((_, mode)) if mode & 0o077 != 0 => return Err(SealError::Open(path)),
            Ok((text, _)) => text,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Err(_) if sealed => return Err(SealError::Missing(path)),
            Err(_) => make(&path)?,
        };
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: PathBuf) -> Result<Self, SealError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| SealError::Malformed(path.clone()))?;
        Self::new(&bytes).ok_or(SealError::Malformed(path))
    }

    /// Under these 32 bytes.
    pub fn new(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Under a key that everybody knows.
    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self::new(&[7; 32]).unwrap()
    }

    /// Seals something that belongs at a place: "token abc", "desired server1".
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.as_bytes()), &mut sealed)
            .map_err(|_| SealError::Refused(place.to_owned()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens it again.
    pub fn unseal(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let refused = || SealError::Refused(place.to_owned());
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut rest).map_err(|_| refused())?.len();
        rest.truncate(length);
        Ok(rest)
    }
}

/// Fresh bytes of the kernel's.
pub fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

fn make(path: &Path) -> Result<Zeroizing<String>, SealError> {
    use std::io::Write as _;
    let failed = |source| SealError::File { path: path.to_owned(), source };
    let text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(Zeroizing::new(random::<32>()?).as_slice()) + "\n");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_with_its_key_and_not_otherwise() {
        let seal = Seal::new(&[1; 32]).unwrap();
        let sealed = seal.seal("a", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_ne!(sealed, seal.seal("a", b"hunter2").unwrap(), "a nonce is used once");
        assert_eq!(seal.unseal("a", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(seal.unseal("b", &sealed).is_err());
        assert!(Seal::new(&[2; 32]).unwrap().unseal("a", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(seal.unseal("a", &changed).is_err(), "byte {at}");
            assert!(seal.unseal("a", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_is_drawn_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.key");
        assert!(matches!(Seal::open(&path, true), Err(SealError::Missing(_))));
        assert!(!path.exists(), "no second key is made beside what another one has sealed");
        let sealed = Seal::open(&path, false).unwrap().seal("a", b"x").unwrap();
        assert_eq!(Seal::open(&path, true).unwrap().unseal("a", &sealed).unwrap().as_slice(), b"x");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let said = Seal::open(&path, true).unwrap_err().to_string();
            assert!(said.contains(&format!("chmod 600 {}", path.display())), "{said}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Seal::open(&path, true).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "no key").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Seal::open(&path, true), Err(SealError::Malformed(_))));
    }
}
