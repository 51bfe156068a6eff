//! Errors as they cross the wire: a sentence, a stable machine code, and where there is one the command that fixes it.

use std::{collections::HashMap, fmt};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of our `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "muster";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $code:ident),+ $(,)?) => {
        /// The stable machine codes. Their meanings stand in the .proto files.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name),+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As it stands in ErrorInfo.reason.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text),+
                }
            }

            /// The gRPC code that it travels under.
            pub fn code(self) -> Code {
                match self {
                    $(Self::$name => Code::$code),+
                }
            }
        }
    };
}

reasons! {
    /// A field does not parse.
    InvalidArgument = "INVALID_ARGUMENT" => InvalidArgument,
    /// The spec asks for what cannot be.
    SpecRefused = "SPEC_REFUSED" => InvalidArgument,
    /// No agent has that name.
    UnknownHost = "UNKNOWN_HOST" => FailedPrecondition,
    /// No such cluster.
    UnknownCluster = "UNKNOWN_CLUSTER" => NotFound,
    /// No such plan.
    UnknownPlan = "UNKNOWN_PLAN" => NotFound,
    /// No such operation.
    UnknownOperation = "UNKNOWN_OPERATION" => NotFound,
    /// The name is taken.
    ClusterExists = "CLUSTER_EXISTS" => AlreadyExists,
    /// The plan is too old.
    PlanExpired = "PLAN_EXPIRED" => FailedPrecondition,
    /// What it leans on has changed.
    PlanStale = "PLAN_STALE" => FailedPrecondition,
    /// It has fatal findings.
    PreflightFailed = "PREFLIGHT_FAILED" => FailedPrecondition,
    /// The request id was used for something else.
    RequestReused = "REQUEST_REUSED" => AlreadyExists,
    /// The operation is over.
    OperationEnded = "OPERATION_ENDED" => FailedPrecondition,
    /// Another operation has the cluster.
    OperationBusy = "OPERATION_BUSY" => FailedPrecondition,
    /// Cancelling would destroy data.
    PastNoReturn = "PAST_NO_RETURN" => FailedPrecondition,
    /// A needed agent does not answer.
    HostSilent = "HOST_SILENT" => Unavailable,
    /// Slots would be served by nobody.
    WouldNotServe = "WOULD_NOT_SERVE" => FailedPrecondition,
    /// What was typed is not the cluster's name.
    ConfirmMismatch = "CONFIRM_MISMATCH" => InvalidArgument,
    /// Clients write to what would be set aside, or may: that is not known.
    ClientsWrite = "CLIENTS_WRITE" => FailedPrecondition,
    /// Nothing is there that could be put back.
    NothingToUndo = "NOTHING_TO_UNDO" => FailedPrecondition,
    /// The cluster may not be rebuilt.
    Protected = "PROTECTED" => FailedPrecondition,
    /// The store refused a write.
    StoreFailed = "STORE_FAILED" => Internal,
    /// The store holds what the coordinator did not write.
    StoreDamaged = "STORE_DAMAGED" => DataLoss,
    /// Another live machine uses the name.
    HostNameTaken = "HOST_NAME_TAKEN" => AlreadyExists,
    /// Too old or too new.
    ProtocolMismatch = "PROTOCOL_MISMATCH" => FailedPrecondition,
    /// The same agent has connected again.
    Superseded = "SUPERSEDED" => Aborted,
    /// Another process with this identity still speaks.
    HostBusy = "HOST_BUSY" => Unavailable,
    /// Waits for approval.
    HostPending = "HOST_PENDING" => PermissionDenied,
    /// Cut off until it is approved.
    HostQuarantined = "HOST_QUARANTINED" => PermissionDenied,
    /// Its key is refused for good.
    HostRevoked = "HOST_REVOKED" => PermissionDenied,
    /// The join token is not taken.
    TokenRefused = "TOKEN_REFUSED" => PermissionDenied,
    /// The name has another key.
    HostEnrolled = "HOST_ENROLLED" => AlreadyExists,
    /// The certificate is not taken.
    CertificateRefused = "CERTIFICATE_REFUSED" => PermissionDenied,
    /// Nobody that is known.
    Unauthenticated = "UNAUTHENTICATED" => Unauthenticated,
    /// Known, and may not.
    RoleTooLow = "ROLE_TOO_LOW" => PermissionDenied,
    /// Destroying takes two.
    SecondPersonNeeded = "SECOND_PERSON_NEEDED" => FailedPrecondition,
    /// No such token.
    UnknownToken = "UNKNOWN_TOKEN" => NotFound,
    /// No such user.
    UnknownUser = "UNKNOWN_USER" => NotFound,
    /// No such request for a second person.
    UnknownRequest = "UNKNOWN_REQUEST" => NotFound,
    /// The name is taken.
    UserExists = "USER_EXISTS" => AlreadyExists,
    /// It has instances.
    HostInUse = "HOST_IN_USE" => FailedPrecondition,
    /// Hosts would be locked out.
    AuthorityInUse = "AUTHORITY_IN_USE" => FailedPrecondition,
    /// A rotation is under way.
    RotationBusy = "ROTATION_BUSY" => FailedPrecondition,
    /// The cluster has none.
    NoCredentials = "NO_CREDENTIALS" => FailedPrecondition,
}

/// An error that a caller can act upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Machine code; a newer peer may send one that this build does not know.
    pub reason: String,
    /// What failed and why.
    pub message: String,
    /// What to type, when there is something.
    pub hint: Option<String>,
}

impl Failure {
    /// Without a hint.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.as_str().to_owned(), message: message.into(), hint: None }
    }

    /// What was asked for cannot be meant so.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidArgument, message)
    }

    /// With what to type.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it has that code.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == reason.as_str()
    }

    /// From what a call returned; none when the error did not come from Muster (a proxy, a lost connection).
    pub fn from_status(status: &Status) -> Option<Self> {
        let info = status.get_error_details().error_info()?.clone();
        (info.domain == DOMAIN).then(|| Self {
            reason: info.reason,
            message: status.message().to_owned(),
            hint: info.metadata.get("hint").cloned(),
        })
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let known = Reason::ALL.iter().find(|reason| failure.is(**reason));
        let code = known.map_or(Code::Unknown, |reason| reason.code());
        let metadata: HashMap<_, _> = failure.hint.map(|hint| ("hint".to_owned(), hint)).into_iter().collect();
        let details = ErrorDetails::with_error_info(failure.reason, DOMAIN, metadata);
        Status::with_error_details(code, failure.message, details)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        for reason in Reason::ALL {
            let failure = Failure::new(*reason, "because").hint("muster hosts");
            let status = Status::from(failure.clone());
            assert_eq!(status.code(), reason.code());
            assert_eq!(Failure::from_status(&status), Some(failure));
        }
        assert_eq!(Failure::from_status(&Status::unknown("h2 protocol error")), None);
    }

    #[test]
    fn every_code_is_documented_where_callers_look() {
        let docs = concat!(
            include_str!("../muster/v1/admin.proto"),
            include_str!("../muster/v1/agent_link.proto"),
            include_str!("../muster/v1/enrolment.proto"),
            include_str!("../muster/v1/trust.proto"),
        );
        for reason in Reason::ALL {
            assert!(docs.contains(reason.as_str()), "{} stands in no .proto comment", reason.as_str());
        }
    }
}
