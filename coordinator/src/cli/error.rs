//! What can go wrong for a command: what it means for the exit code, and what to type.

use std::{error::Error, io, time::Duration};

use muster_proto::{
    failure::{Failure, Reason},
    pki::PkiError,
};
use tonic::{Code, Status};

use super::{
    contexts::ContextsError,
    endpoint::Endpoint,
    target::TargetError,
    tls::{self, Distrust},
};
use crate::{render::count, spec_file::SpecFileError};

/// A finding or refusal that somebody must act on.
pub const ACT: u8 = 1;
/// We failed.
pub const WE_FAILED: u8 = 2;
/// Bad usage, or a bad spec.
pub const USAGE: u8 = 64;
/// What a shell shows for a program that Ctrl-C ended: 128 and the signal's number. None of the other codes fits: the
/// work is neither done, nor refused, nor failed.
pub const INTERRUPTED: u8 = 130;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The runtime of this process could not be made.
    #[error("muster could not start")]
    Runtime(#[source] io::Error),
    /// What was typed cannot be done so.
    #[error("{what}")]
    Usage {
        /// What.
        what: String,
        /// What to type instead.
        hint: String,
    },
    /// The spec.
    #[error(transparent)]
    SpecFile(#[from] SpecFileError),
    /// Which coordinator, and as whom.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The context's own certificate, key or authorities.
    #[error("what the context holds cannot be used")]
    Identity(#[source] PkiError),
    /// Either side does not believe the other.
    #[error("{what}")]
    Distrust {
        /// Who does not believe whom.
        what: Distrust,
        /// What the TLS library says.
        source: Message,
    },
    /// The cluster's credentials have nothing of the kind.
    #[error("{cluster} has no {what} to show")]
    Absent {
        /// Whose.
        cluster: String,
        /// "password".
        what: &'static str,
    },
    /// The name was not typed.
    #[error("the name of {0} was not typed")]
    Unconfirmed(String),
    /// The chain of the audit does not hold.
    #[error("the audit does not hold")]
    Broken(#[source] Message),
    /// Nobody answers there.
    #[error("cannot reach the coordinator at {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The coordinator said no, and why.
    #[error("{doing} was refused")]
    Refused {
        /// What was asked for.
        doing: String,
        /// Its answer.
        source: Failure,
    },
    /// The answer did not come from Muster: a lost connection, a proxy, another program.
    #[error("{doing} failed")]
    Lost {
        /// What was asked for.
        doing: String,
        /// What came instead of an answer.
        source: Box<Status>,
    },
    /// No answer in time. What was asked for may have been done.
    #[error("{doing} failed: no answer within {} s", limit.as_secs())]
    TooSlow {
        /// What was asked for.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It went away and did not come back.
    #[error("the coordinator has been gone for {} s", patience.as_secs())]
    Gone {
        /// How long was waited.
        patience: Duration,
    },
    /// The answer lacks what the protocol promises.
    #[error("{doing} failed: the coordinator's answer has no {missing}")]
    Hollow {
        /// What was asked for.
        doing: String,
        /// What is not there.
        missing: &'static str,
    },
    /// The plan cannot be applied.
    #[error("the plan for {cluster} has {}", count(*fatal, "fatal finding"))]
    Unfit {
        /// Whose.
        cluster: String,
        /// How many.
        fatal: usize,
    },
    /// The question was answered with something else than `yes`.
    #[error("the plan was not accepted")]
    Declined,
    /// The operation waits for a person.
    #[error("operation {id} needs an operator")]
    NeedsOperator {
        /// Which.
        id: String,
        /// What takes it back, where something does.
        way_back: Option<String>,
        /// What it says.
        source: Message,
    },
    /// The operation was called off.
    #[error("operation {id} was cancelled")]
    Cancelled {
        /// Which.
        id: String,
        /// What it says.
        source: Message,
    },
}

/// A sentence of the coordinator's, as the cause of an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Message(pub String);

impl From<ContextsError> for CliError {
    fn from(error: ContextsError) -> Self {
        Self::Target(error.into())
    }
}

impl CliError {
    /// From what a call returned.
    pub fn from_status(doing: &str, status: Status) -> Self {
        let doing = doing.to_owned();
        if let Some(source) = Failure::from_status(&status) {
            return Self::Refused { doing, source };
        }
        // A certificate that is not taken is told after the handshake, to the first request.
        match tls::find(&status) {
            Some(error) => Self::distrust(&error),
            None => Self::Lost { doing, source: Box::new(status) },
        }
    }

    /// From a connection that did not come about.
    pub fn unreachable(endpoint: &Endpoint, source: tonic::transport::Error) -> Self {
        match tls::find(&source) {
            Some(error) => Self::distrust(&error),
            None => Self::Unreachable { endpoint: endpoint.clone(), source },
        }
    }

    fn distrust(error: &rustls::Error) -> Self {
        Self::Distrust { what: Distrust::of(error), source: Message(tls::words(error)) }
    }

    /// Over TLS, without anybody to believe.
    pub fn stranger(endpoint: &Endpoint) -> Self {
        Self::Target(TargetError::Stranger(endpoint.clone()))
    }

    /// Whether it is a matter of the connection, so that the same may work later.
    pub fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooSlow { .. } => true,
            // A stream that breaks arrives as Unknown ("h2 protocol error"), not as Unavailable.
            Self::Lost { source, .. } => source.code() != Code::Unimplemented,
            _ => false,
        }
    }

    /// What it means for the exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::SpecFile(_) => USAGE,
            Self::Refused { source, .. } if source.is(Reason::InvalidArgument) => USAGE,
            Self::Refused { source, .. } if source.is(Reason::StoreFailed) => WE_FAILED,
            Self::Target(TargetError::Contexts(ContextsError::File { .. })) => WE_FAILED,
            Self::Target(_) => USAGE,
            Self::Refused { .. } | Self::Unfit { .. } | Self::Declined | Self::Unconfirmed(_) => ACT,
            Self::Identity(_) | Self::Distrust { .. } | Self::Broken(_) | Self::Absent { .. } => ACT,
            Self::NeedsOperator { .. } | Self::Cancelled { .. } => ACT,
            Self::Runtime(_) | Self::Unreachable { .. } | Self::Lost { .. } => WE_FAILED,
            Self::TooSlow { .. } | Self::Gone { .. } | Self::Hollow { .. } => WE_FAILED,
        }
    }

    /// What to type.
    pub fn hint(&self) -> Option<String> {
        let missing = "is muster-coordinator running? systemctl status muster-coordinator; or pass --endpoint";
        match self {
            Self::Runtime(_) | Self::Declined | Self::Unconfirmed(_) => None,
            Self::Target(error) => Some(target_hint(error)),
            Self::Identity(_) => Some("make it anew: muster context add NAME --endpoint https://HOST:PORT".into()),
            Self::Distrust { what, .. } => Some(what.hint().to_owned()),
            Self::Absent { cluster, .. } => Some(format!("what there is: muster credentials {cluster}")),
            Self::Broken(_) => Some(
                "keep the store as it is; entries up to the one named still hold (muster audit --output json)".into(),
            ),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::SpecFile(error) => Some(error.hint()),
            Self::Unreachable { source, .. } if io_kind(source) == Some(io::ErrorKind::PermissionDenied) => Some(
                "the admin socket is its owner's and root's: run muster with sudo, or be a user: muster context add"
                    .into(),
            ),
            Self::Unreachable { .. } => Some(missing.into()),
            Self::Refused { source, .. } if source.hint.is_none() && source.is(Reason::Unauthenticated) => {
                Some("an admin lets you in (muster user add NAME --role ROLE), then: muster context add NAME".into())
            }
            Self::Refused { source, .. } => source.hint.clone(),
            Self::Lost { source, .. } if source.code() == Code::Unimplemented => {
                Some("the coordinator is older than this muster, or something else listens there: muster hosts".into())
            }
            Self::Lost { .. } | Self::TooSlow { .. } | Self::Gone { .. } => Some(missing.into()),
            Self::Hollow { .. } => {
                Some("compare `muster --version` with the coordinator's (muster hosts --output json)".into())
            }
            Self::Unfit { .. } => Some("apply the cures above and run it again".into()),
            Self::NeedsOperator { id, way_back, .. } => {
                let or = way_back.as_ref().map(|command| format!("; or: {command}")).unwrap_or_default();
                Some(format!("put it right, then: muster op watch {id}{or}"))
            }
            Self::Cancelled { id, .. } => Some(format!("muster op show {id}")),
        }
    }

    /// The causes, outermost first, each said once: some layers repeat the one below them.
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next = self.source();
        while let Some(error) = next {
            let status = error.downcast_ref::<Status>();
            let said = match status.or_else(|| error.downcast_ref::<Box<Status>>().map(Box::as_ref)) {
                Some(status) => status.message().to_owned(),
                None => error.to_string(),
            };
            // tonic wraps what the kernel said into two words that say nothing.
            let empty = said.is_empty() || said == "transport error";
            if !empty && causes.last() != Some(&said) {
                causes.push(said);
            }
            next = error.source();
        }
        causes
    }
}

fn target_hint(error: &TargetError) -> String {
    match error {
        TargetError::Stranger(endpoint) => format!("muster context add NAME --endpoint {endpoint}"),
        TargetError::Unknown { .. } => "muster context list; muster context add NAME --endpoint URL".into(),
        TargetError::Contexts(error) => match error {
            ContextsError::Nowhere => "set MUSTER_CONFIG to a file, or HOME".into(),
            ContextsError::File { .. } => "another file can be named by --config or MUSTER_CONFIG".into(),
            ContextsError::Open { path, .. } => format!("chmod 600 {}", path.display()),
            ContextsError::Malformed { .. } => "put it right, or take it away and add the contexts anew".into(),
        },
    }
}

/// The kernel's verdict, however deep it lies.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}
