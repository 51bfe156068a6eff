//! Join tokens and access strings: a name, a secret, and the hash of the authority to believe, in one line of text.
//!
//! ```text
//! muster-join-1:<id>:<secret>:<sha256 of the authority's certificate>
//! muster-access-1:<user>:<secret>:<sha256 of the authority's certificate>
//! ```
//!
//! Secret and hash are 32 bytes in base64url. The secret of a join token never travels: [`enrol_mac`] proves it.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

use crate::{HostName, Secret, Sha256};

/// What lets a host enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken(Parts);

/// What lets a person or an automation call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessString(Parts);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    id: String,
    secret: Secret,
    authority: Sha256,
}

/// Not a token. The text itself is not in here: it may be one that was mistyped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no {what}: it should look like {kind}:NAME:SECRET:HASH, on one line")]
pub struct TokenError {
    what: &'static str,
    kind: &'static str,
}

macro_rules! token {
    ($type:ident, $kind:literal, $what:literal) => {
        impl $type {
            /// Of its parts. `secret` is 32 drawn bytes.
            pub fn new(id: impl Into<String>, secret: [u8; 32], authority: Sha256) -> Self {
                Self(Parts { id: id.into(), secret: Secret::new(BASE64URL_NOPAD.encode(&secret)), authority })
            }

            /// What names it, and proves nothing.
            pub fn id(&self) -> &str {
                &self.0.id
            }

            /// What proves it.
            pub fn secret(&self) -> &Secret {
                &self.0.secret
            }

            /// The authority to believe: sha256 of its certificate, DER.
            pub fn authority(&self) -> Sha256 {
                self.0.authority
            }

            /// The whole, to be handed over once.
            pub fn text(&self) -> Secret {
                let Parts { id, secret, authority } = &self.0;
                Secret::new(format!("{}:{id}:{}:{}", $kind, secret.expose(), BASE64URL_NOPAD.encode(&authority.0)))
            }
        }

        impl FromStr for $type {
            type Err = TokenError;
            fn from_str(text: &str) -> Result<Self, TokenError> {
                parts($kind, text.trim()).map(Self).ok_or(TokenError { what: $what, kind: $kind })
            }
        }
    };
}

token!(JoinToken, "muster-join-1", "join token");
token!(AccessString, "muster-access-1", "access string");

fn parts(kind: &str, text: &str) -> Option<Parts> {
    let [found, id, secret, authority] = text.split(':').collect::<Vec<_>>().try_into().ok()?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let bytes = |text: &str| <[u8; 32]>::try_from(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok();
    let fits = found == kind && (1..=63).contains(&id.len()) && id.chars().all(word);
    bytes(secret).filter(|_| fits)?;
    Some(Parts { id: id.to_owned(), secret: Secret::new(secret), authority: Sha256(bytes(authority)?) })
}

/// Proves a join token's secret over what is asked for, so that nobody can ask for something else with it.
pub fn enrol_mac(secret: &Secret, host: &HostName, csr: &[u8]) -> Vec<u8> {
    hmac::sign(&key(secret), &enrol_message(host, csr)).as_ref().to_vec()
}

/// Whether a MAC proves the secret; takes the same time whatever is wrong.
pub fn enrol_mac_holds(secret: &Secret, host: &HostName, csr: &[u8], mac: &[u8]) -> bool {
    hmac::verify(&key(secret), &enrol_message(host, csr), mac).is_ok()
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())
}

/// What the MAC is over: the purpose, then each part behind its length (8 bytes, big endian), so that no two requests
/// make the same bytes.
pub fn enrol_message(host: &HostName, csr: &[u8]) -> Vec<u8> {
    let mut message = b"muster enrol 1".to_vec();
    for part in [host.as_str().as_bytes(), csr] {
        message.extend((part.len() as u64).to_be_bytes());
        message.extend(part);
    }
    message
}

impl fmt::Display for JoinToken {
    /// Its name alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join token {}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_what_it_writes_and_nothing_else() {
        let token = JoinToken::new("abc", [7; 32], Sha256([9; 32]));
        let text = token.text().expose().to_owned();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?} {token}").contains(token.secret().expose()));
        let cut = &text[..text.len() - 1];
        for bad in
            ["", "muster-join-1", cut, &format!("{text}:"), &text.replace("join", "access"), &text.replace("abc", "A")]
        {
            let error = bad.parse::<JoinToken>().unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains("BwcH"), "the error shows the token: {error}");
        }
    }

    #[test]
    fn a_mac_holds_for_what_it_was_made_over() {
        let (secret, host) = (Secret::new("s"), "a".parse().unwrap());
        let mac = enrol_mac(&secret, &host, b"csr");
        assert!(enrol_mac_holds(&secret, &host, b"csr", &mac));
        assert!(!enrol_mac_holds(&Secret::new("t"), &host, b"csr", &mac));
        assert!(!enrol_mac_holds(&secret, &"b".parse().unwrap(), b"csr", &mac));
        assert!(!enrol_mac_holds(&secret, &host, b"cs", &mac));
        assert!(!enrol_mac_holds(&secret, &host, b"csr", &[]));
        assert_ne!(enrol_message(&"a".parse().unwrap(), b"bc"), enrol_message(&"ab".parse().unwrap(), b"c"));
    }
}
