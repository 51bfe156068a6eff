//! Who calls: what a connection and a request have proved.

use std::fmt;

use muster_proto::{AccessRole, HostName, Sha256, access::Rule};

/// Somebody at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The owner of the admin socket, or root, as the kernel says (SO_PEERCRED, unix(7)).
    Owner {
        /// Its user id.
        uid: u32,
    },
    /// The agent of an enrolled host, by its certificate.
    Host {
        /// Which.
        name: HostName,
        /// sha256 of its public key.
        key: Sha256,
    },
    /// Somebody that an admin has let in, by certificate or access string.
    User {
        /// The name.
        name: String,
        /// What it may.
        role: AccessRole,
        /// Milliseconds since 1970.
        expires_ms: u64,
    },
    /// Somebody on this machine, over loopback without TLS.
    Local,
    /// Nobody that is known.
    Nobody,
}

impl Caller {
    /// What it may; none for agents and strangers.
    pub fn role(&self) -> Option<AccessRole> {
        match self {
            Self::Owner { .. } => Some(AccessRole::Admin),
            Self::User { role, .. } => Some(*role),
            Self::Host { .. } | Self::Local | Self::Nobody => None,
        }
    }

    /// Whether a rule lets it through. Agents of hosts that were never enrolled come over loopback or the socket; which
    /// host they may speak for is the session's to judge.
    pub fn may(&self, rule: Rule) -> bool {
        match rule {
            Rule::Anyone => true,
            Rule::Agent => matches!(self, Self::Host { .. } | Self::Local | Self::Owner { .. }),
            Rule::AtLeast(least) => self.role().is_some_and(|role| role >= least),
        }
    }
}

impl fmt::Display for Caller {
    /// As the audit keeps it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { uid } => write!(f, "the owner of the socket (uid {uid})"),
            Self::Host { name, .. } => write!(f, "host {name}"),
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Local => f.write_str("a process on the coordinator's machine"),
            Self::Nobody => f.write_str("nobody known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_may_what_its_rule_says_and_no_more() {
        let user = |role| Caller::User { name: "alice".into(), role, expires_ms: 0 };
        let host = Caller::Host { name: "a".parse().unwrap(), key: Sha256([0; 32]) };
        let [viewer, operator, destroyer, admin] = AccessRole::ALL.map(user);
        let owner = Caller::Owner { uid: 0 };
        let all = [&Caller::Nobody, &Caller::Local, &host, &viewer, &operator, &destroyer, &admin, &owner];
        let may = |rule| all.map(|caller| u8::from(caller.may(rule)));
        assert_eq!(may(Rule::Anyone), [1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(may(Rule::Agent), [0, 1, 1, 0, 0, 0, 0, 1]);
        assert_eq!(may(Rule::AtLeast(AccessRole::Viewer)), [0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(may(Rule::AtLeast(AccessRole::Operator)), [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(may(Rule::AtLeast(AccessRole::Destroyer)), [0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(may(Rule::AtLeast(AccessRole::Admin)), [0, 0, 0, 0, 0, 0, 1, 1]);
    }
}
