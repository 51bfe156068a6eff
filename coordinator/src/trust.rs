//! Who is trusted: what is known of hosts, tokens, users, and what follows from it. Functions of values; the store is
//! [`ledger`](crate::ledger)'s, the services are [`enrolment`](crate::enrolment) and [`guardian`](crate::guardian).

use std::collections::BTreeMap;

use muster_proto::{
    AccessRole, HostName, Secret, Sha256,
    failure::{Failure, Reason},
    token::enrol_mac_holds,
    wire,
};

use crate::finding::Finding;

/// How far a host is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustState {
    /// Enrolled, and waits for approval.
    Pending,
    /// Takes part.
    Approved,
    /// Cut off until it is approved.
    Quarantined,
    /// Its key is refused for good.
    Revoked,
}

impl TrustState {
    const ALL: [(Self, &'static str, wire::TrustState); 4] = [
        (Self::Pending, "pending", wire::TrustState::Pending),
        (Self::Approved, "approved", wire::TrustState::Approved),
        (Self::Quarantined, "quarantined", wire::TrustState::Quarantined),
        (Self::Revoked, "revoked", wire::TrustState::Revoked),
    ];

    /// As the store keeps it and people read it.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(state, ..)| *state == self).map_or("", |(_, word, _)| word)
    }

    /// From the store.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == word).map(|(state, ..)| *state)
    }

    /// On the wire.
    pub fn wire(self) -> wire::TrustState {
        Self::ALL.iter().find(|(state, ..)| *state == self).map_or(wire::TrustState::Unspecified, |(.., wire)| *wire)
    }
}

/// What is known of an enrolled host's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// The host.
    pub host: HostName,
    /// How far it is believed.
    pub state: TrustState,
    /// sha256 of its public key.
    pub key: Sha256,
    /// Why it is so, and by whom.
    pub reason: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
    /// When its newest certificate ends, milliseconds since 1970.
    pub certificate_ms: u64,
    /// The authority that has signed that.
    pub issuer: Sha256,
    /// The token that it came with.
    pub token: String,
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names it.
    pub id: String,
    /// Proves it.
    pub secret: Secret,
    /// The only host that may use it.
    pub host: Option<HostName>,
    /// How many may still use it.
    pub uses: u32,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
    /// An enrolled host may come back with another key.
    pub rejoin: bool,
    /// Whoever uses it is approved.
    pub approve: bool,
}

/// Somebody, or some automation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The name.
    pub name: String,
    /// What it may do.
    pub role: AccessRole,
    /// sha256 of the bearer secret, which is 256 drawn bits: nothing slower is needed to keep it.
    pub secret: Sha256,
    /// Its client certificate, if it has one.
    pub certified: Option<Certified>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
}

/// What is kept of a user's client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certified {
    /// sha256 of its public key.
    pub key: Sha256,
    /// The authority that has signed it.
    pub issuer: Sha256,
}

/// A request for a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondRecord {
    /// Names it.
    pub id: String,
    /// Who wants it.
    pub first: String,
    /// What is to be done.
    pub what: String,
    /// Who has approved it.
    pub second: Option<String>,
    /// Milliseconds since 1970.
    pub expires_ms: u64,
}

impl TokenRecord {
    /// Without the secret.
    pub fn wire(&self) -> wire::Token {
        wire::Token {
            id: self.id.clone(),
            host: self.host.as_ref().map(HostName::to_string).unwrap_or_default(),
            uses_left: self.uses,
            expires_unix_ms: self.expires_ms,
            rejoin: self.rejoin,
            approve: self.approve,
        }
    }
}

impl HostRecord {
    /// In the words of the API.
    pub fn wire(&self) -> wire::HostTrust {
        wire::HostTrust {
            host: self.host.to_string(),
            state: self.state.wire().into(),
            reason: self.reason.clone(),
            since_unix_ms: self.since_ms,
            key_sha256: self.key.to_string(),
            certificate_expires_unix_ms: self.certificate_ms,
        }
    }

    /// Why this host may not take part; nothing when it may.
    pub fn barred(&self) -> Option<Failure> {
        let reason = match self.state {
            TrustState::Approved => return None,
            TrustState::Pending => Reason::HostPending,
            TrustState::Quarantined => Reason::HostQuarantined,
            TrustState::Revoked => Reason::HostRevoked,
        };
        let Bar { what, cure } = self.bar()?;
        Some(Failure::new(reason, format!("host {} {what}", self.host)).hint(format!("on the coordinator: {cure}")))
    }

    /// The same, to be said of it.
    pub fn bar(&self) -> Option<Bar> {
        let host = &self.host;
        let bar = |what: &str, cure: String| Some(Bar { what: what.to_owned(), cure });
        match self.state {
            TrustState::Approved => None,
            TrustState::Pending => bar("is enrolled, and waits for approval", format!("muster host approve {host}")),
            TrustState::Quarantined => bar(
                &format!("is quarantined: {}", self.reason),
                format!(
                    "muster host approve {host}; where somebody else may have its key, a cloned disk, instead: muster \
                     host rejoin-token {host}"
                ),
            ),
            TrustState::Revoked => {
                bar(&format!("was revoked: {}", self.reason), format!("muster host rejoin-token {host}"))
            }
        }
    }
}

/// Hosts that may not take part.
pub type Bars = BTreeMap<HostName, Bar>;

/// Why a host may not take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// Said of the host.
    pub what: String,
    /// What to type.
    pub cure: String,
}

/// An agent that says nothing: because it may not, or for another reason.
pub fn away(host: &HostName, why: &str, bars: &Bars) -> Finding {
    match bars.get(host) {
        Some(Bar { what, cure }) => {
            let message = format!("the host {what}; its redis-servers may well be running");
            Finding::fatal("HOST_BARRED", "agent", message).on(host).cure(cure.as_str())
        }
        None => Finding::fatal("HOST_SILENT", "agent", why)
            .on(host)
            .cure(format!("on {host}: systemctl status muster-agent")),
    }
}

impl UserRecord {
    /// Who has signed its client certificate.
    pub fn issuer(&self) -> Option<Sha256> {
        self.certified.map(|certified| certified.issuer)
    }

    /// Without secrets.
    pub fn wire(&self) -> wire::User {
        wire::User {
            name: self.name.clone(),
            role: self.role.wire().into(),
            expires_unix_ms: self.expires_ms,
            created_unix_ms: self.created_ms,
            certified: self.certified.is_some(),
        }
    }
}

/// Somebody who wants to enrol, as he says.
#[derive(Debug, Clone)]
pub struct Applicant<'a> {
    /// The name that is wanted.
    pub host: &'a HostName,
    /// sha256 of the key, which the request has proved.
    pub key: Sha256,
    /// The request.
    pub csr: &'a [u8],
    /// Over name and request.
    pub mac: &'a [u8],
}

/// What an enrolment brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// How far the host is believed from now on.
    pub state: TrustState,
    /// Why.
    pub reason: String,
    /// The token has been used by one more.
    pub spends: bool,
}

/// Whether somebody may enrol. Everything that is wrong with a token is told in the same words: who guesses learns
/// nothing.
pub fn admit(
    applicant: &Applicant,
    token: Option<&TokenRecord>,
    known: Option<&HostRecord>,
    now_ms: u64,
) -> Result<Admission, Failure> {
    let host = applicant.host;
    let refused = || {
        Failure::new(
            Reason::TokenRefused,
            format!(
                "the token does not let {host} in: it is unknown, for another host, \
             used up or expired"
            ),
        )
        .hint(match known {
            None => format!("make another on the coordinator: muster token create --host {host}"),
            Some(_) => format!("on the coordinator: muster host rejoin-token {host}, which prints what to type here"),
        })
    };
    let token = token.ok_or_else(refused)?;
    let proved = enrol_mac_holds(&token.secret, host, applicant.csr, applicant.mac);
    if !proved || token.host.as_ref().is_some_and(|only| only != host) {
        return Err(refused());
    }
    // A reply that was lost costs nothing, whatever became of the token meanwhile.
    if let Some(known) = known.filter(|known| known.key == applicant.key && known.token == token.id) {
        return match known.state {
            TrustState::Revoked | TrustState::Quarantined => Err(known.barred().unwrap_or_else(refused)),
            state => Ok(Admission { state, reason: known.reason.clone(), spends: false }),
        };
    }
    if token.uses == 0 || token.expires_ms <= now_ms {
        return Err(refused());
    }
    let rejoins = token.rejoin && token.host.is_some();
    match known {
        None if token.rejoin => Err(Failure::new(Reason::TokenRefused, format!("{host} is not enrolled any more"))
            .hint(format!("on the coordinator: muster token create --host {host}"))),
        None => {
            let approved = token.host.is_some() || token.approve;
            let state = if approved { TrustState::Approved } else { TrustState::Pending };
            Ok(Admission { state, reason: format!("enrolled with token {}", token.id), spends: true })
        }
        // A key that somebody else may have is not taken again: the other one would come in with it too.
        Some(known)
            if rejoins
                && known.key == applicant.key
                && matches!(known.state, TrustState::Quarantined | TrustState::Revoked) =>
        {
            let reason = if known.state == TrustState::Revoked { Reason::HostRevoked } else { Reason::HostQuarantined };
            let message = format!("the key of {host} is {}: it comes back with another one", known.state.word());
            Err(Failure::new(reason, message).hint("muster-agent --config FILE enrol --new-key"))
        }
        Some(_) if rejoins => {
            let reason = format!("came back with rejoin token {}", token.id);
            Ok(Admission { state: TrustState::Approved, reason, spends: true })
        }
        Some(known) if known.key == applicant.key => match known.barred() {
            Some(barred) if known.state != TrustState::Pending => Err(barred),
            _ => Ok(Admission { state: known.state, reason: known.reason.clone(), spends: true }),
        },
        Some(_) => Err(Failure::new(Reason::HostEnrolled, format!("a host named {host} is enrolled with another key"))
            .hint(format!("if it was installed anew, on the coordinator: muster host rejoin-token {host}"))),
    }
}

/// What becomes of a request that needs a second person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seconded {
    /// Somebody else has approved it; it goes through, once.
    Go,
    /// Nobody has yet; there may be a request already.
    Wait,
}

/// Whether what somebody wants to do has been approved by somebody else.
pub fn seconded(request: Option<&SecondRecord>, first: &str, now_ms: u64) -> Seconded {
    match request {
        Some(request)
            if request.expires_ms > now_ms
                && request.first == first
                && request.second.as_ref().is_some_and(|second| second != first) =>
        {
            Seconded::Go
        }
        _ => Seconded::Wait,
    }
}

#[cfg(test)]
mod tests;
