//! The file of contexts as TOML, and the way to and from values that were checked.

use std::collections::BTreeMap;

use muster_proto::{
    Secret,
    pki::{self, Identity, Key},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Access, Contexts, Kept, KeptError};
use crate::cli::connect::Who;

const HEADER: &str = "# Kept by `muster context`. It holds secrets: it is for its owner's eyes alone (mode 0600).\n";

/// As it stands in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, WrittenContext>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenContext {
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_unix_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorities: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(with = "hidden", skip_serializing_if = "Option::is_none")]
    key: Option<Secret>,
    #[serde(with = "hidden", skip_serializing_if = "Option::is_none")]
    secret: Option<Secret>,
}

/// Secrets as the text that they are: this file is the one place where they are meant to be.
mod hidden {
    use muster_proto::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_str(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(Secret::new))
    }
}

impl Written {
    /// From the file's text. What is wrong is said without the text of the line, which may be a secret.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            // The parser quotes values of a wrong type, and this file's values are not for quoting.
            let quotes = error.message().contains("invalid type") || error.message().contains("invalid value");
            format!("{line}{}", if quotes { "a value of another type is needed" } else { error.message() })
        })
    }

    /// The file's text.
    pub(super) fn text(&self) -> Result<Zeroizing<String>, toml::ser::Error> {
        toml::to_string_pretty(self).map(|text| Zeroizing::new(format!("{HEADER}{}", Zeroizing::new(text).as_str())))
    }
}

impl From<&Contexts> for Written {
    fn from(contexts: &Contexts) -> Self {
        let kept = contexts.kept.iter().map(|(name, kept)| (name.to_string(), kept.into()));
        Self { current: contexts.current.as_ref().map(ToString::to_string), contexts: kept.collect() }
    }
}

impl From<&Kept> for WrittenContext {
    fn from(kept: &Kept) -> Self {
        let endpoint = kept.endpoint.to_string();
        let Some(access) = &kept.access else { return Self { endpoint, ..Self::default() } };
        let (certificate, key, secret) = match &access.who {
            Who::Bearer { secret, .. } => (None, None, Some(secret.clone())),
            Who::Certificate(Identity { certificate, key }) => {
                (Some(pki::to_pem(std::slice::from_ref(certificate))), Some(key.pem().clone()), None)
            }
        };
        Self {
            endpoint,
            user: Some(access.user.clone()),
            expires_unix_ms: Some(access.expires_unix_ms),
            authorities: Some(pki::to_pem(&access.authorities)),
            certificate,
            key,
            secret,
        }
    }
}

impl TryFrom<Written> for Contexts {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let one = |(name, context): (String, WrittenContext)| {
            let read = || Ok::<_, KeptError>((name.parse()?, Kept::try_from(context)?));
            read().map_err(|error| format!("context {name:?}: {error}"))
        };
        let kept: BTreeMap<_, _> = written.contexts.into_iter().map(one).collect::<Result<_, _>>()?;
        let current = written.current.map(|name| name.parse()).transpose();
        let current = current.map_err(|error| format!("current: {error}"))?;
        match current {
            Some(name) if !kept.contains_key(&name) => Err(format!("current: there is no context {name}")),
            current => Ok(Self { current, kept }),
        }
    }
}

impl TryFrom<WrittenContext> for Kept {
    type Error = KeptError;
    fn try_from(written: WrittenContext) -> Result<Self, KeptError> {
        let endpoint = written.endpoint.parse()?;
        let Some(user) = written.user else { return Ok(Self { endpoint, access: None }) };
        let authorities = pki::from_pem(&written.authorities.unwrap_or_default())?;
        if authorities.is_empty() {
            return Err(KeptError::Incomplete("a user and no authorities"));
        }
        pki::roots(&authorities)?;
        let who = match (written.secret, written.certificate, written.key) {
            (Some(secret), None, None) if secret.expose().chars().all(|c| c.is_ascii_graphic()) => {
                Who::Bearer { user: user.clone(), secret }
            }
            (None, Some(certificate), Some(key)) => {
                let certificate = pki::from_pem(&certificate)?.into_iter().next();
                let certificate = certificate.ok_or(KeptError::Incomplete("no certificate in `certificate`"))?;
                Who::Certificate(Identity { certificate, key: Key::from_pem(key)? })
            }
            _ => return Err(KeptError::Incomplete("neither a secret, nor a certificate and its key")),
        };
        let expires_unix_ms = written.expires_unix_ms.unwrap_or_default();
        Ok(Self { endpoint, access: Some(Access { user, expires_unix_ms, authorities, who }) })
    }
}
