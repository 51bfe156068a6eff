//! A password, or what is left of one. It can be written down, so that the store can keep it: only ever sealed.

use data_encoding::BASE64URL_NOPAD;
use muster_proto::{Secret, Sha256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A password that Muster has drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Itself.
    Known(Secret),
    /// Only what is accepted in its place, one hash or several: hosts were told no more, and the store was lost.
    Hashed(Vec<Sha256>),
}

/// As it is kept: a text, or its hashes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Kept {
    Known(String),
    Hashed { sha256: Vec<String> },
}

impl Password {
    /// 32 bytes, drawn, in base64url.
    pub fn of(drawn: &[u8; 32]) -> Self {
        Self::Known(Secret::new(BASE64URL_NOPAD.encode(drawn)))
    }

    /// What is accepted in its place in an ACL file.
    pub fn hashes(&self) -> Vec<Sha256> {
        match self {
            Self::Known(secret) => vec![Sha256::of(secret.expose().as_bytes())],
            Self::Hashed(hashes) => hashes.clone(),
        }
    }

    /// Itself, where it is known.
    pub fn known(&self) -> Option<&Secret> {
        match self {
            Self::Known(secret) => Some(secret),
            Self::Hashed(_) => None,
        }
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(secret) => serializer.serialize_str(secret.expose()),
            Self::Hashed(hashes) => {
                Kept::Hashed { sha256: hashes.iter().map(Sha256::to_string).collect() }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Kept::deserialize(deserializer)? {
            Kept::Known(text) => Ok(Self::Known(Secret::new(text))),
            Kept::Hashed { sha256 } => {
                let hashes = sha256.iter().map(|hash| hash.parse().map_err(serde::de::Error::custom));
                hashes.collect::<Result<_, _>>().map(Self::Hashed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_a_text_and_what_is_left_of_one_as_its_hashes() {
        let known = Password::of(&[1; 32]);
        let left = Password::Hashed([known.hashes(), Password::of(&[2; 32]).hashes()].concat());
        for password in [&known, &left] {
            let text = serde_json::to_string(password).unwrap();
            assert_eq!(&serde_json::from_str::<Password>(&text).unwrap(), password);
        }
        assert!(serde_json::to_string(&known).unwrap().starts_with('"'), "as stores have it since there are passwords");
        assert_eq!((left.hashes().len(), left.known()), (2, None));
    }
}
