//! What a cluster's clients, replicas and agents log in with, and the authority that its redis-servers believe.
//!
//! Drawn when a plan is applied, kept sealed in the store, and told to hosts as hashes, except for what a host itself
//! logs in with. What hosts are told is a function of the spec and of these, and stands in no blueprint. Each secret
//! is a small [`History`], so that a [`Rotation`] never has a moment in which somebody's is not accepted.
//!
//! Nothing here acts: dice are an argument, but for the key of a fresh [`Authority`], which its library draws itself.
//! Clusters that were formed before there were passwords have none of this, and stay as they are.
//!
//! Reading order: [`password`], [`history`], [`rotation`], here, [`authority`], [`step`], [`api`]; [`recovered`] is
//! what a store that was lost leaves with the hosts.

pub mod api;
pub mod authority;
pub mod history;
pub mod password;
pub mod reborn;
pub mod recovered;
pub mod rotation;
pub mod step;

use std::collections::BTreeMap;

use muster_proto::{
    Auth, Incarnation, InstanceTls, OperationId, Secret, Spec, Tls, Users,
    acl::{AclRules, DEFAULT_RULES, Login, RedisUser},
    pki::PkiError,
};
use serde::{Deserialize, Serialize};

pub use authority::Authority;
pub use history::History;
pub use password::Password;
pub use recovered::recovered;
pub use rotation::{Kind, Rotation, Stage};

/// The user that clients are who say none.
pub const DEFAULT: &str = "default";
/// The user that agents are.
pub const ADMIN: &str = "muster-admin";
/// The user that replicas are to their masters.
pub const REPLICA: &str = "muster-replica";

const ADMIN_RULES: &str = "~* &* +@all";
/// All that a replica needs (Redis' documentation on ACLs, "ACL rules for Sentinel and Replicas").
const REPLICA_RULES: &str = "+psync +replconf +ping";

/// Why something cannot be made, or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A key.
    #[error("cannot make or use the key of a cluster's authority")]
    Key(#[source] PkiError),
    /// A certificate.
    #[error("cannot make a certificate for redis-servers")]
    Certificate(#[source] rcgen::Error),
    /// Somebody else's request.
    #[error("the signing request is not taken")]
    Request(#[source] PkiError),
    /// The store that had it was lost.
    #[error("the key of this cluster's authority went with the store that was lost")]
    KeyLost,
}

/// The secrets of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    passwords: Option<Passwords>,
    authority: Option<History<Authority>>,
    /// The rotation that is under way.
    pub rotation: Option<Rotation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Passwords {
    default: History<Password>,
    /// Of the spec's users that have none of their own.
    users: BTreeMap<String, History<Password>>,
    /// Which life of the cluster the two below were drawn for.
    incarnation: Incarnation,
    admin: History<Password>,
    replica: History<Password>,
}

impl Passwords {
    fn map(&self, mut change: impl FnMut(&History<Password>) -> History<Password>) -> Self {
        Self {
            default: change(&self.default),
            users: self.users.iter().map(|(name, password)| (name.clone(), change(password))).collect(),
            incarnation: self.incarnation,
            admin: change(&self.admin),
            replica: change(&self.replica),
        }
    }
}

impl Credentials {
    /// For a new cluster: `authority` where its spec wants certificates issued, passwords from what `random` draws.
    /// None for one that is open and plain.
    pub fn draw<E>(
        spec: &Spec,
        incarnation: Incarnation,
        authority: Option<Authority>,
        mut random: impl FnMut() -> Result<[u8; 32], E>,
    ) -> Result<Option<Self>, E> {
        let mut fresh = || random().map(|drawn| History::new(Password::of(&drawn)));
        let passwords = match &spec.parts().auth {
            Auth::None => None,
            Auth::Passwords(acl) => {
                let drawn = acl.users.iter().filter(|user| user.passwords.is_empty());
                Some(Passwords {
                    default: fresh()?,
                    users: drawn.map(|user| Ok((user.name.to_string(), fresh()?))).collect::<Result<_, E>>()?,
                    incarnation,
                    admin: fresh()?,
                    replica: fresh()?,
                })
            }
        };
        let none = passwords.is_none() && matches!(spec.parts().tls, Tls::Off);
        Ok((!none).then(|| Self { passwords, authority: authority.map(History::new), rotation: None }))
    }

    /// Begins to exchange all passwords; none where there are none.
    pub fn rotate_passwords<E>(
        &self,
        operation: OperationId,
        mut random: impl FnMut() -> Result<[u8; 32], E>,
    ) -> Result<Option<Self>, E> {
        let Some(Passwords { default, users, incarnation, admin, replica }) = &self.passwords else { return Ok(None) };
        let mut add = |password: &History<Password>| random().map(|drawn| password.add(Password::of(&drawn)));
        let passwords = Passwords {
            default: add(default)?,
            users: users.iter().map(|(name, one)| Ok((name.clone(), add(one)?))).collect::<Result<_, E>>()?,
            incarnation: *incarnation,
            admin: add(admin)?,
            replica: add(replica)?,
        };
        let rotation = Some(Rotation { operation, kind: Kind::Passwords, stage: Stage::Add });
        Ok(Some(Self { passwords: Some(passwords), rotation, ..self.clone() }))
    }

    /// Begins to exchange the authority; none where there is none.
    pub fn rotate_authority(&self, operation: OperationId, next: Authority) -> Option<Self> {
        let authority = Some(self.authority.as_ref()?.add(next));
        let rotation = Some(Rotation { operation, kind: Kind::Certificates, stage: Stage::Add });
        Some(Self { authority, rotation, ..self.clone() })
    }

    /// As they are at a stage of the rotation that is under way.
    fn at(&self, rotation: Rotation, stage: Stage) -> Self {
        let rotation = Rotation { stage, ..rotation };
        let mut moved = Self { rotation: Some(rotation), ..self.clone() };
        match rotation.kind {
            Kind::Passwords => {
                moved.passwords = self.passwords.as_ref().map(|passwords| passwords.map(|one| turn(one, stage)));
            }
            Kind::Certificates => moved.authority = self.authority.as_ref().map(|authority| turn(authority, stage)),
        }
        moved
    }

    /// After the rotation.
    fn settled(&self) -> Self {
        Self { rotation: None, ..self.clone() }
    }

    /// Everybody who may log in, complete; none when nobody has to.
    pub fn users(&self, spec: &Spec) -> Option<Users> {
        let (Auth::Passwords(acl), Some(passwords)) = (&spec.parts().auth, &self.passwords) else { return None };
        let user = |name: &str, rules: AclRules, password: &History<Password>| RedisUser {
            name: name.to_owned(),
            rules,
            passwords: password.accepted().into_iter().flat_map(Password::hashes).collect(),
        };
        let default_rules = acl.default_rules.clone().unwrap_or_else(|| AclRules::known(DEFAULT_RULES));
        let mut users = vec![user(DEFAULT, default_rules, &passwords.default)];
        users.extend(acl.users.iter().map(|given| match passwords.users.get(given.name.as_str()) {
            Some(drawn) => user(given.name.as_str(), given.rules.clone(), drawn),
            None => RedisUser {
                name: given.name.to_string(),
                rules: given.rules.clone(),
                passwords: given.passwords.clone(),
            },
        }));
        users.push(user(ADMIN, AclRules::known(ADMIN_RULES), &passwords.admin));
        users.push(user(REPLICA, AclRules::known(REPLICA_RULES), &passwords.replica));
        let login = |user: &str, password: &Password| {
            Some(Login { user: user.to_owned(), password: password.known()?.clone() })
        };
        Some(Users {
            users,
            admin: passwords.admin.accepted().into_iter().filter_map(|password| login(ADMIN, password)).collect(),
            replica: login(REPLICA, passwords.replica.used())?,
        })
    }

    /// What instances speak; none for plain TCP.
    pub fn tls(&self, spec: &Spec) -> Option<InstanceTls> {
        match &spec.parts().tls {
            Tls::Off => None,
            Tls::Files(files) => Some(InstanceTls::Files(files.clone())),
            Tls::Issued => {
                let issuer = self.signing()?.sha256();
                Some(InstanceTls::Issued { ca_pem: self.ca_pem(), issuer })
            }
        }
    }

    /// The authorities to believe, PEM, the newest first; empty without any of ours.
    pub fn ca_pem(&self) -> String {
        self.authority.iter().flat_map(History::accepted).map(Authority::pem).collect()
    }

    /// The authority that signs now.
    pub fn signing(&self) -> Option<&Authority> {
        self.authority.as_ref().map(History::used)
    }

    /// Whether there are passwords.
    pub fn has_passwords(&self) -> bool {
        self.passwords.is_some()
    }

    /// The password that a user should log in with, if Muster has drawn it, and knows it still: the default one, or one
    /// of the spec's.
    pub fn password(&self, user: &str) -> Option<&Secret> {
        self.of(user)?.known()
    }

    /// Whether Muster has drawn a user's password, and knows no more of it than its hash.
    pub fn forgot(&self, user: &str) -> bool {
        self.of(user).is_some_and(|password| password.known().is_none())
    }

    fn of(&self, user: &str) -> Option<&Password> {
        let passwords = self.passwords.as_ref()?;
        let password = if user == DEFAULT { &passwords.default } else { passwords.users.get(user)? };
        Some(password.used())
    }

    /// Older ones are still accepted beside what is shown to clients.
    pub fn overlaps(&self) -> bool {
        let default = self.passwords.as_ref().map(|passwords| &passwords.default);
        matches!(default, Some(History::Overlapping { .. })) || self.authority.as_ref().is_some_and(History::in_motion)
    }
}

/// What entering a stage does to a secret.
fn turn<T: Clone>(secret: &History<T>, stage: Stage) -> History<T> {
    match stage {
        Stage::Add | Stage::Overlap => secret.clone(),
        Stage::Switch => secret.switch(),
        Stage::Retire | Stage::Withdraw => secret.settle(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
