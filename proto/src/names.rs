//! Names that people type: of hosts and of clusters.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: what fits into a DNS label.
pub const NAME_MAX: usize = 63;

/// A name that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a {what}: 1-63 of a-z, 0-9 and '-'{extra}, starting with a letter or digit")]
pub struct NameError {
    what: &'static str,
    name: String,
    extra: &'static str,
}

fn check(what: &'static str, name: &str, extra: &'static str) -> Result<(), NameError> {
    let first_ok = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest_ok = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || extra.contains(c));
    if first_ok && rest_ok && name.len() <= NAME_MAX {
        Ok(())
    } else {
        Err(NameError { what, name: name.to_owned(), extra })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check($what, name, $extra)?;
                Ok(Self(name.to_owned()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A host, as its agent calls itself and as specs name it: 1-63 of `[a-z0-9._-]`.
    HostName,
    "host name",
    "._"
);
name!(
    /// A cluster: 1-63 of `[a-z0-9-]`.
    ClusterName,
    "cluster name",
    ""
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["a", "orders", "orders-2", "0x"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/b", "..", "a.b", &"a".repeat(64)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
        assert!("db1.rack-2.example".parse::<HostName>().is_ok());
        assert!("../etc".parse::<HostName>().is_err());
    }
}
