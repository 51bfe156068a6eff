//! Numbers and ids that must not be mistaken for one another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use uuid::Uuid;

/// Not the hex digits that an id consists of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {digits} lower-case hex digits")]
pub struct HexError {
    text: String,
    digits: usize,
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let wrong = || HexError { text: text.to_owned(), digits: N * 2 };
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return Err(wrong());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = [digit(pair[0]), digit(pair[1])];
        *byte = high.zip(low).map(|(h, l)| h << 4 | l).ok_or_else(wrong)?;
    }
    Ok(bytes)
}

macro_rules! hex {
    ($(#[$doc:meta])* $type:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(pub [u8; $bytes]);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                unhex(text).map(Self)
            }
        }

        impl TryFrom<String> for $type {
            type Error = HexError;
            fn try_from(text: String) -> Result<Self, HexError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }
    };
}

hex!(
    /// Redis' name for a node: 40 hex digits, drawn at random, never derived and never used again.
    NodeId,
    20
);
hex!(
    /// A sha256.
    Sha256,
    32
);

impl Sha256 {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl NodeId {
    /// The first eight digits: enough for a person to tell the nodes of a cluster apart.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl $type {
            /// The one after this.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter!(
    /// How often the coordinator has started. A lower one comes from a stray old coordinator.
    Term
);
counter!(
    /// The version of what one host is told.
    Generation
);
counter!(
    /// One life of a cluster, from 1, ended only by a rebuild.
    Incarnation
);
counter!(
    /// One life of an instance's directory, from 1, ended only by a wipe.
    Life
);

macro_rules! drawn {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Uuid);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $type {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

drawn!(
    /// A cluster, told apart from others that had its name.
    ClusterId
);
drawn!(
    /// An operation. Version 7, so that ids sort by time.
    OperationId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_reads_what_it_writes_and_nothing_else() {
        let text = "2f70e9f2b4a06a846e46d7034a54e0fe6971beea";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.short(), "2f70e9f2");
        for bad in ["", "2f", &text.to_uppercase(), &format!("{text}0"), &text.replace('2', "g")] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
