//! Who may call what: a role for people and automation, and a rule for every RPC of every service.
//!
//! Deny by default: what has no rule is refused. A test walks the descriptor set and fails on an RPC without one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::wire;

/// What a caller may do; each may all that the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessRole {
    /// Looks.
    Viewer,
    /// Forms clusters, directs operations, reads passwords.
    Operator,
    /// Does what cannot be taken back.
    Destroyer,
    /// Decides who is who.
    Admin,
}

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whoever reaches the port: what is asked proves itself.
    Anyone,
    /// An agent.
    Agent,
    /// Whoever has this role, or a higher one.
    AtLeast(AccessRole),
}

use AccessRole::{Admin, Destroyer, Operator, Viewer};
use Rule::{Agent, Anyone, AtLeast};

/// The rule of every RPC, by its path.
pub const RULES: &[(&str, Rule)] = &[
    ("/grpc.health.v1.Health/Check", Anyone),
    ("/grpc.health.v1.Health/Watch", AtLeast(Viewer)),
    ("/grpc.health.v1.Health/List", AtLeast(Viewer)),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", AtLeast(Viewer)),
    ("/muster.v1.AgentLink/Session", Agent),
    ("/muster.v1.Enrolment/Enrol", Anyone),
    ("/muster.v1.Enrolment/Renew", Anyone),
    ("/muster.v1.Enrolment/Certify", Agent),
    ("/muster.v1.Admin/ListHosts", AtLeast(Viewer)),
    // Binds ports on hosts for some seconds.
    ("/muster.v1.Admin/Plan", AtLeast(Operator)),
    // A rebuild takes a destroyer; the handler looks.
    ("/muster.v1.Admin/Apply", AtLeast(Operator)),
    ("/muster.v1.Admin/ListOperations", AtLeast(Viewer)),
    ("/muster.v1.Admin/GetOperation", AtLeast(Viewer)),
    ("/muster.v1.Admin/WatchOperation", AtLeast(Viewer)),
    ("/muster.v1.Admin/PauseOperation", AtLeast(Operator)),
    ("/muster.v1.Admin/ResumeOperation", AtLeast(Operator)),
    // Only what never formed, and it is set aside; or a rebuild before anything of it is.
    ("/muster.v1.Admin/CancelOperation", AtLeast(Operator)),
    ("/muster.v1.Admin/ListClusters", AtLeast(Viewer)),
    ("/muster.v1.Admin/GetStatus", AtLeast(Viewer)),
    ("/muster.v1.Admin/WatchStatus", AtLeast(Viewer)),
    ("/muster.v1.Admin/Check", AtLeast(Viewer)),
    // Writes keys.
    ("/muster.v1.Admin/SmokeTest", AtLeast(Operator)),
    ("/muster.v1.Admin/ListEvents", AtLeast(Viewer)),
    // A log may say more than a viewer should know: addresses of clients, names of users.
    ("/muster.v1.Admin/FollowLog", AtLeast(Operator)),
    // Overruling the guard takes a destroyer; the handler looks.
    ("/muster.v1.Admin/StartInstance", AtLeast(Operator)),
    // Stopping what keeps nothing on disk takes a destroyer; the handler looks.
    ("/muster.v1.Admin/Roll", AtLeast(Operator)),
    // Binds ports on hosts for some seconds.
    ("/muster.v1.Admin/PlanRebuild", AtLeast(Operator)),
    ("/muster.v1.Admin/ListTrash", AtLeast(Viewer)),
    ("/muster.v1.Admin/PurgeTrash", AtLeast(Destroyer)),
    // Taking protection away takes a destroyer; the handler looks.
    ("/muster.v1.Admin/SetProtection", AtLeast(Operator)),
    ("/muster.v1.Trust/WhoAmI", AtLeast(Viewer)),
    ("/muster.v1.Trust/CreateToken", AtLeast(Admin)),
    ("/muster.v1.Trust/ListTokens", AtLeast(Admin)),
    ("/muster.v1.Trust/RevokeToken", AtLeast(Admin)),
    ("/muster.v1.Trust/ApproveHost", AtLeast(Admin)),
    // The brake: whoever watches may pull it.
    ("/muster.v1.Trust/QuarantineHost", AtLeast(Operator)),
    ("/muster.v1.Trust/RevokeHost", AtLeast(Destroyer)),
    ("/muster.v1.Trust/RemoveHost", AtLeast(Destroyer)),
    ("/muster.v1.Trust/CreateUser", AtLeast(Admin)),
    ("/muster.v1.Trust/ListUsers", AtLeast(Admin)),
    ("/muster.v1.Trust/RemoveUser", AtLeast(Admin)),
    // For the caller himself.
    ("/muster.v1.Trust/CertifyUser", AtLeast(Viewer)),
    ("/muster.v1.Trust/Second", AtLeast(Destroyer)),
    ("/muster.v1.Trust/ListAuthorities", AtLeast(Viewer)),
    ("/muster.v1.Trust/RotateAuthority", AtLeast(Admin)),
    ("/muster.v1.Trust/RetireAuthority", AtLeast(Admin)),
    ("/muster.v1.Trust/GetCredentials", AtLeast(Operator)),
    ("/muster.v1.Trust/RotateCredentials", AtLeast(Operator)),
    ("/muster.v1.Trust/FinishRotation", AtLeast(Operator)),
    ("/muster.v1.Trust/ListAudit", AtLeast(Operator)),
];

/// The rule of an RPC: `/muster.v1.Admin/Plan`. None means that nobody may.
pub fn rule(path: &str) -> Option<Rule> {
    RULES.iter().find(|(known, _)| *known == path).map(|(_, rule)| *rule)
}

impl AccessRole {
    /// All, lowest first.
    pub const ALL: [Self; 4] = [Viewer, Operator, Destroyer, Admin];

    /// As people write it.
    pub fn word(self) -> &'static str {
        match self {
            Viewer => "viewer",
            Operator => "operator",
            Destroyer => "destroyer",
            Admin => "admin",
        }
    }

    /// On the wire.
    pub fn wire(self) -> wire::AccessRole {
        match self {
            Viewer => wire::AccessRole::Viewer,
            Operator => wire::AccessRole::Operator,
            Destroyer => wire::AccessRole::Destroyer,
            Admin => wire::AccessRole::Admin,
        }
    }

    /// From the wire; none for what is not known.
    pub fn from_wire(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| i32::from(role.wire()) == number)
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; there are viewer, operator, destroyer and admin, each with all that the ones before it may")]
pub struct RoleError(String);

impl FromStr for AccessRole {
    type Err = RoleError;
    fn from_str(word: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.word() == word).ok_or_else(|| RoleError(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_rpc_of_ours_has_one_rule_and_no_rule_is_for_nothing() {
        let set = prost_types::FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let mut rpcs = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                let path = |method: &str| format!("/{}.{}/{method}", file.package(), service.name());
                rpcs.extend(service.method.iter().map(|method| path(method.name())));
            }
        }
        for path in &rpcs {
            assert!(rule(path).is_some(), "{path} has no rule: nobody may call it");
        }
        let ruled: BTreeSet<_> = RULES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(ruled.len(), RULES.len(), "an RPC has two rules");
        let ours = |path: &&String| path.starts_with("/muster.");
        assert_eq!(ruled.iter().filter(ours).collect::<Vec<_>>(), rpcs.iter().collect::<Vec<_>>());
        assert_eq!(rule("/muster.v1.Admin/Nonsense"), None);
    }

    #[test]
    fn roles_are_ordered_and_survive_both_ways() {
        assert!(AccessRole::ALL.is_sorted());
        for role in AccessRole::ALL {
            assert_eq!(AccessRole::from_wire(role.wire().into()), Some(role));
            assert_eq!(role.word().parse(), Ok(role));
        }
        assert_eq!(AccessRole::from_wire(0), None);
        assert!("root".parse::<AccessRole>().is_err());
    }
}
