//! How clients of a cluster prove who they are, and what is spoken to them: the spec's part, and what hosts are told.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{Secret, Sha256};

/// What the default user may, unless the spec says otherwise: everything but administration. Before 7.0 whole commands
/// are @admin whose harmless subcommands every client needs; they are given back one by one.
pub const DEFAULT_RULES: &str = "~* &* +@all -@admin +cluster|nodes +cluster|slots +cluster|info +cluster|keyslot \
    +cluster|countkeysinslot +cluster|getkeysinslot +cluster|myid +client|setname +client|getname +client|id \
    +client|reply +client|tracking +client|caching +client|getredir";

/// Names of users that are Muster's own, or Redis'.
const RESERVED: &str = "muster";

/// How clients prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// They need not. It must be asked for.
    None,
    /// By name and password.
    Passwords(Acl),
}

impl Default for Auth {
    fn default() -> Self {
        Self::Passwords(Acl::default())
    }
}

/// Who may what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acl {
    /// Of the default user; none means [`DEFAULT_RULES`].
    pub default_rules: Option<AclRules>,
    /// The operator's own.
    pub users: Vec<AclUser>,
}

/// One of the operator's own users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclUser {
    /// Its name.
    pub name: UserName,
    /// What it may.
    pub rules: AclRules,
    /// Accepted passwords; none means that Muster draws one.
    pub passwords: Vec<Sha256>,
}

/// The name of a user of Redis: 1-63 of `[a-z0-9._-]`, not `default`, not beginning with `muster`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserName(String);

/// Rules as in an ACL file, without passwords and switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclRules(String);

/// What is wrong with the spec's part of this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclError {
    /// Not a name.
    #[error(
        "{0:?} is no user name: 1-63 of a-z, 0-9, '.', '_' and '-', not \"default\", not beginning with \"muster\""
    )]
    Name(String),
    /// Not rules.
    #[error(
        "{rules:?} are no ACL rules: {word:?} is not taken here; use rules like \"~app:* +@read\" (passwords and \
         on/off are Muster's)"
    )]
    Rules {
        /// What stands there.
        rules: String,
        /// The word.
        word: String,
    },
}

impl FromStr for UserName {
    type Err = AclError;
    fn from_str(name: &str) -> Result<Self, AclError> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let fits = (1..=63).contains(&name.len()) && name.chars().all(word);
        if !fits || name == "default" || name.starts_with(RESERVED) {
            return Err(AclError::Name(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl FromStr for AclRules {
    type Err = AclError;
    fn from_str(rules: &str) -> Result<Self, AclError> {
        let words: Vec<&str> = rules.split_ascii_whitespace().collect();
        let wrong = |word: &str| AclError::Rules { rules: rules.to_owned(), word: word.to_owned() };
        if words.is_empty() || rules.chars().any(char::is_control) {
            return Err(wrong(""));
        }
        let begins = |word: &str| {
            word.starts_with(['~', '%', '&', '+', '-', '('])
                || ["allkeys", "resetkeys", "allchannels", "resetchannels", "allcommands", "nocommands"].contains(&word)
        };
        let mut inside = false;
        for word in words {
            if !inside && !begins(word) {
                return Err(wrong(word));
            }
            inside = (inside || word.starts_with('(')) && !word.ends_with(')');
        }
        // A server that reads this does not start.
        if inside {
            return Err(wrong("an open parenthesis"));
        }
        Ok(Self(rules.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

impl UserName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AclRules {
    /// Rules that stand in a program's own text. They are not checked: a test beside them must hold that they parse.
    pub fn known(rules: &'static str) -> Self {
        Self(rules.to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for AclRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What is spoken to clients and peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain TCP.
    #[default]
    Off,
    /// TLS alone, with certificates that Muster issues.
    Issued,
    /// TLS alone, with the operator's own certificates.
    Files(TlsFiles),
}

/// The operator's own certificate, at the same path on every host. Absolute paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whom to believe.
    pub ca: PathBuf,
}

// --- what hosts are told ---------------------------------------------------------------------------------------------

/// Who may log in to the instances of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    /// Everybody, complete.
    pub users: Vec<RedisUser>,
    /// What the agent logs in with, the first that is accepted; at least one.
    pub admin: Vec<Login>,
    /// What a replica logs in to its master with.
    pub replica: Login,
}

/// A line of an ACL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUser {
    /// Its name.
    pub name: String,
    /// Its rules.
    pub rules: AclRules,
    /// The passwords that are accepted.
    pub passwords: Vec<Sha256>,
}

/// A user's name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The TLS of a cluster's instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceTls {
    /// Certificates of the cluster's own authority, asked for by the agent.
    Issued {
        /// Whom instances believe, PEM.
        ca_pem: String,
        /// sha256 of the certificate of the authority that signs now.
        issuer: Sha256,
    },
    /// The operator's own.
    Files(TlsFiles),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_leave_musters_own_alone() {
        for good in ["reporting", "app.1", "0"] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "default", "muster-admin", "muster", "a b", "A", "a:b", &"a".repeat(64)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_carry_no_passwords_and_no_switches() {
        for good in [DEFAULT_RULES, "~app:* +@read", "%R~a +get (+set ~b)", "(+set ~b) ( +get ~c )", "allkeys  +@all"] {
            assert!(good.parse::<AclRules>().is_ok(), "{good}");
        }
        for bad in ["", " ", ">password", "#abc", "on ~* +@all", "nopass", "~a reset", "~a\n+b", "~a (+b) >c", "~a (+b"]
        {
            assert!(bad.parse::<AclRules>().is_err(), "{bad}");
        }
        assert_eq!("  ~a   +b ".parse::<AclRules>().unwrap().as_str(), "~a +b");
    }
}
