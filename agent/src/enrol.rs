//! Becoming one of the fleet, and staying one: the agent's side of the Enrolment service.
//!
//! The key is made here and never leaves; the token's secret never travels: it proves the request by a MAC. A reply
//! that was lost costs nothing: the same key gets the same answer again.

use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::{
    HostName,
    failure::Failure,
    pki::{Believes, PkiError},
    token::{JoinToken, enrol_mac},
    wire::{EnrolRequest, RenewRequest, enrolment_client::EnrolmentClient},
};

use crate::{
    config::{Config, Endpoint},
    dial::{DialError, Manner, dial},
    identity::{Enrolled, IdentityError, Papers},
};

/// How to enrol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ways {
    /// Also when there is a good certificate already.
    pub again: bool,
    /// With another key, whatever is there.
    pub new_key: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is a good certificate already; nothing was done.
    Already,
    /// It takes part, with a certificate until then, in seconds since 1970.
    Approved(i64),
    /// An operator has to approve it.
    Pending,
}

/// Why it did not come about.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is nothing to enrol for.
    #[error("the coordinator {0} is on this machine and speaks without TLS: there is nothing to enrol for")]
    Plain(Endpoint),
    /// The files.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network.
    #[error("cannot enrol at {0}")]
    Dial(Endpoint, #[source] DialError),
    /// Our own key.
    #[error("cannot make a signing request")]
    Request(#[from] PkiError),
    /// It may have been done all the same.
    #[error("no answer came from the coordinator")]
    Lost(#[source] Box<tonic::Status>),
    /// The coordinator does not want it.
    #[error("{message}")]
    Refused {
        /// In its words.
        message: String,
        /// What to type.
        hint: Option<String>,
    },
}

impl EnrolError {
    /// What to type.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { hint, .. } => hint.clone(),
            Self::Plain(_) => Some(
                "start muster-agent, which needs no enrolment for that; only https://HOST:PORT is for enrolled hosts"
                    .into(),
            ),
            Self::Dial(_, error) if error.is_distrust() => Some(
                "is the token of this coordinator, and made after its authority was exchanged last? on the \
                 coordinator: muster token create"
                    .into(),
            ),
            Self::Dial(..) => Some("is the coordinator up, and `coordinator` in the agent's config right?".into()),
            Self::Lost(_) => {
                Some("type the same again, with the same token: an answer that was lost costs nothing".into())
            }
            Self::Identity(_) | Self::Request(_) => None,
        }
    }

    fn refused(status: &tonic::Status) -> Self {
        match Failure::from_status(status) {
            Some(failure) => Self::Refused { message: failure.message, hint: failure.hint },
            None => Self::Lost(Box::new(status.clone())),
        }
    }
}

/// Now, in seconds since 1970.
pub fn now_s() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_secs()).unwrap_or(i64::MAX)
}

/// Enrols with a token, and keeps what comes of it.
pub async fn enrol(config: &Config, papers: &Papers, token: &JoinToken, ways: Ways) -> Result<Outcome, EnrolError> {
    if !matches!(config.coordinator, Endpoint::Tls(_)) {
        return Err(EnrolError::Plain(config.coordinator.clone()));
    }
    if !ways.again && !ways.new_key && papers.load(config.name.as_str()).is_ok_and(|known| !known.is_over(now_s())) {
        return Ok(Outcome::Already);
    }
    let key = papers.offer(ways.new_key)?;
    let csr = key.request(config.name.as_str())?;
    let mac = enrol_mac(token.secret(), &config.name, &csr);
    let believes = Believes::Pinned(token.authority());
    let manner = Manner { believes: &believes, identity: None };
    let channel = dial(&config.coordinator, Some(manner)).await;
    let channel = channel.map_err(|error| EnrolError::Dial(config.coordinator.clone(), error))?;
    let request = EnrolRequest { token_id: token.id().to_owned(), host: config.name.to_string(), csr, mac };
    let answer = match EnrolmentClient::new(channel).enrol(request).await {
        Ok(answer) => answer.into_inner(),
        // A key that is refused stays beside: an earlier reply, which said yes to it, may have been lost.
        Err(status) => return Err(EnrolError::refused(&status)),
    };
    papers.take(&key)?;
    papers.keep(&answer.certificate, &answer.authorities)?;
    if answer.approved {
        Ok(Outcome::Approved(papers.load(config.name.as_str())?.about.not_after_s))
    } else {
        Ok(Outcome::Pending)
    }
}

/// Gets a new certificate for the same key, and keeps it. The old one may have ended: the request proves the key by its
/// signature, so no certificate is shown in the handshake.
pub async fn renew(
    endpoint: &Endpoint,
    host: &HostName,
    papers: &Papers,
    known: &Enrolled,
) -> Result<Enrolled, EnrolError> {
    let csr = known.identity.key.request(host.as_str())?;
    let believes = known.believes();
    let channel = dial(endpoint, Some(Manner { believes: &believes, identity: None })).await;
    let channel = channel.map_err(|error| EnrolError::Dial(endpoint.clone(), error))?;
    let request = RenewRequest { csr, certificate: known.identity.certificate.clone() };
    let answer = EnrolmentClient::new(channel).renew(request).await.map_err(|status| EnrolError::refused(&status))?;
    let answer = answer.into_inner();
    papers.keep(&answer.certificate, &answer.authorities)?;
    Ok(papers.load(host.as_str())?)
}
