//! Who may log in, and with which certificates: the files of an instance, and what a running server is told when they
//! change.
//!
//! A server that runs is never told to read `users.acl` anew: ACL LOAD ends the connections of every user but the
//! default one, replicas' links among them (`ACLLoadFromFile` and `ACLFreeUsersSet`, acl.c, Redis 6.0 to 7.0). ACL
//! SETUSER with `reset` changes a user in one step and ends no connection of his.

use std::{fmt::Write as _, path::PathBuf};

use muster_proto::{
    ClusterAssignment, InstanceTls, Secret, ServerVersion, Sha256, Users,
    acl::{Acl, AclRules, Login, RedisUser},
};

use super::ConfFile;
use crate::certify::Certified;

/// What a running server is told so that it is as its files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adjustment {
    /// These users and no others.
    Users(Vec<RedisUser>),
    /// What it logs in to its master with.
    MasterLogin(Login),
    /// Files to load; the certificate of them is what clients are shown from then on.
    Certificates {
        /// The certificate.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Whom to believe.
        ca: PathBuf,
    },
}

/// All of that, and a name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Of everything below and of what the files hold.
    pub fingerprint: Sha256,
    /// In this order.
    pub adjustments: Vec<Adjustment>,
    /// The version that is told.
    pub version: ServerVersion,
    /// Another authority signs now than has signed its certificate: there will be another one.
    pub outdated: bool,
}

/// Why an instance cannot be made as the assignment wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No ACLs there.
    #[error(
        "{0} knows no users (they came with Redis 6.0); install a newer one, or write auth = \"none\" into the spec"
    )]
    NoUsers(ServerVersion),
    /// Not there yet.
    #[error("waiting for its certificate{0}")]
    NoCertificate(String),
}

/// The files of an instance besides its confs, and what a running server is told of them.
pub fn access(
    version: ServerVersion,
    cluster: &ClusterAssignment,
    dir: &std::path::Path,
    certified: Option<&Certified>,
) -> Result<(Vec<ConfFile>, Option<Live>), AccessError> {
    let (mut files, mut adjustments, mut seen) = (Vec::new(), Vec::new(), String::new());
    let mut outdated = false;
    if let Some(users) = &cluster.users {
        if !knows_users(version) {
            return Err(AccessError::NoUsers(version));
        }
        let text = users_acl(version, users);
        seen.push_str(&text);
        // Only its hash goes into the name, so that no name gives a password away.
        let _ = write!(seen, "{}:{}", users.replica.user, Sha256::of(users.replica.password.expose().as_bytes()));
        files.push(ConfFile::read_only("users.acl", text));
        let known = |user: &RedisUser| RedisUser { rules: rules(version, user), ..user.clone() };
        adjustments.push(Adjustment::Users(users.users.iter().map(known).collect()));
        adjustments.push(Adjustment::MasterLogin(users.replica.clone()));
    }
    match &cluster.tls {
        None => {}
        Some(InstanceTls::Files(operators)) => {
            // The agent says when they are others than before.
            let print = certified.map(|certified| certified.print()).unwrap_or_default();
            let _ = write!(
                seen,
                "{}{}{}{print}",
                operators.cert.display(),
                operators.key.display(),
                operators.ca.display()
            );
            adjustments.push(Adjustment::Certificates {
                cert: operators.cert.clone(),
                key: operators.key.clone(),
                ca: operators.ca.clone(),
            });
        }
        Some(InstanceTls::Issued { ca_pem, issuer }) => {
            let why = certified.map(Certified::trouble).unwrap_or_default();
            let certified = certified.filter(|certified| !certified.pem.is_empty());
            let certified = certified.ok_or(AccessError::NoCertificate(why))?;
            outdated = !certified.is_signed_by(*issuer);
            let _ = write!(seen, "{}{ca_pem}{}", certified.pem, certified.print());
            files.push(ConfFile::read_only("tls.crt", certified.pem.clone()));
            files.push(ConfFile { text: certified.key.clone(), ..ConfFile::read_only("tls.key", "") });
            files.push(ConfFile::read_only("ca.crt", ca_pem.clone()));
            adjustments.push(Adjustment::Certificates {
                cert: dir.join("tls.crt"),
                key: dir.join("tls.key"),
                ca: dir.join("ca.crt"),
            });
        }
    }
    let fingerprint = Sha256::of(seen.as_bytes());
    Ok((files, (!adjustments.is_empty()).then_some(Live { fingerprint, adjustments, version, outdated })))
}

/// ACLs came with 6.0.
fn knows_users(version: ServerVersion) -> bool {
    version.major >= 6
}

/// The rules as this version understands them: channels came with 6.2, and before it every user may all of them.
fn rules(version: ServerVersion, user: &RedisUser) -> muster_proto::acl::AclRules {
    let words = user
        .rules
        .as_str()
        .split(' ')
        .filter(|word| (version.major, version.minor) >= (6, 2) || !word.starts_with('&'));
    words.collect::<Vec<_>>().join(" ").parse().unwrap_or_else(|_| user.rules.clone())
}

/// The whole file: a line a user.
fn users_acl(version: ServerVersion, users: &Users) -> String {
    let mut text = String::new();
    for user in &users.users {
        let _ = write!(text, "user {} on", user.name);
        for password in &user.passwords {
            let _ = write!(text, " #{password}");
        }
        let _ = writeln!(text, " {}", rules(version, user));
    }
    text
}

/// The spec's users, as a server of that version is given them, to be judged by the server itself.
pub fn probed_users(version: ServerVersion, acl: &Acl) -> Vec<RedisUser> {
    let default = acl.default_rules.clone().map(|rules| ("default".to_owned(), rules));
    let own = acl.users.iter().map(|user| (user.name.to_string(), user.rules.clone()));
    let user = |(name, known): (String, AclRules)| {
        let user = RedisUser { name, rules: known, passwords: Vec::new() };
        RedisUser { rules: rules(version, &user), ..user }
    };
    default.into_iter().chain(own).map(user).collect()
}

/// The arguments of ACL SETUSER after the name: everything anew, in one step.
pub fn setuser(user: &RedisUser) -> Vec<String> {
    let passwords = user.passwords.iter().map(|password| format!("#{password}"));
    let rules = user.rules.as_str().split(' ').map(str::to_owned);
    ["reset".to_owned(), "on".to_owned()].into_iter().chain(passwords).chain(rules).collect()
}

/// A password as one argument of a line: base64url needs no quotes, and anything else gets them.
pub fn quoted_secret(secret: &Secret) -> String {
    let text = secret.expose();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        let _ = if plain(byte) { write!(quoted, "{}", char::from(byte)) } else { write!(quoted, "\\x{byte:02x}") };
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, rules: &str, passwords: &[u8]) -> RedisUser {
        let passwords = passwords.iter().map(|nth| Sha256([*nth; 32])).collect();
        RedisUser { name: name.into(), rules: rules.parse().unwrap(), passwords }
    }

    fn version(text: &str) -> ServerVersion {
        text.parse().unwrap()
    }

    #[test]
    fn each_version_gets_the_rules_that_it_knows() {
        let users = Users {
            users: vec![user("default", "~* &* +@all -@admin", &[1, 2]), user("r", "~a +get", &[])],
            admin: Vec::new(),
            replica: Login { user: "muster-replica".into(), password: Secret::new("p") },
        };
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(
            users_acl(version("redis 7.0.15"), &users),
            format!("user default on #{one} #{two} ~* &* +@all -@admin\nuser r on ~a +get\n")
        );
        assert!(
            users_acl(version("redis 6.0.16"), &users).starts_with(&format!("user default on #{one} #{two} ~* +@all"))
        );
        assert_eq!(setuser(&users.users[1]), ["reset", "on", "~a", "+get"]);
    }

    #[test]
    fn a_secret_is_one_argument_whatever_is_in_it() {
        assert_eq!(quoted_secret(&Secret::new("aZ0-_")), "aZ0-_");
        assert_eq!(quoted_secret(&Secret::new("a \"\n")), "\"a\\x20\\x22\\x0a\"");
        assert_eq!(quoted_secret(&Secret::new("")), "\"\"");
    }
}
