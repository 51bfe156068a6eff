//! What must not be seen: passwords, tokens, private keys.
//!
//! A [`Secret`] has no `Display`, its `Debug` says only that it is one, and it is wiped from memory when it is dropped.
//! The wire messages that hold secrets have their `Debug` here too, for the same reason (`build.rs` leaves them out).

use std::fmt;

use zeroize::Zeroizing;

use crate::wire;

/// Something that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// From now on it is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself; each use of this is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

macro_rules! hidden {
    ($($message:ident { $($shown:ident),* }),+ $(,)?) => {
        $(impl fmt::Debug for wire::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))$(.field(stringify!($shown), &self.$shown))*.finish_non_exhaustive()
            }
        })+
    };
}

hidden! {
    Login { user },
    Desired { term, generation },
    Disclosure { term, generation, ledger_error },
    CreateTokenResponse { about },
    CreateUserResponse { user },
    GetCredentialsResponse { user, tls, overlap },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_by_anything_that_holds_it() {
        let password = || "hunter2".to_owned();
        let shown = [
            format!("{:?}", Secret::new("hunter2")),
            format!("{:?}", Some(Secret::new("hunter2"))),
            format!("{:?}", wire::Login { user: "a".into(), password: password() }),
            format!(
                "{:?}",
                wire::Users {
                    replica: Some(wire::Login { password: password(), ..wire::Login::default() }),
                    ..wire::Users::default()
                }
            ),
            format!("{:?}", wire::CreateTokenResponse { token: password(), about: None }),
            format!("{:?}", wire::CreateUserResponse { access: password(), user: None }),
            format!(
                "{:?}",
                wire::GetCredentialsResponse { password: password(), ..wire::GetCredentialsResponse::default() }
            ),
        ];
        for text in shown {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
