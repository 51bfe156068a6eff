//! The fake's Trust service: one answer for each call, or the same refusal for all.

use std::sync::Arc;

use muster_proto::wire::{trust_server::Trust, *};
use tonic::{Request, Response, Status};

use super::{
    Fake,
    fleet::{Fleet, Peer},
};

/// What it answers with.
#[derive(Default)]
pub struct Answers {
    /// For every call, when there is one.
    pub refusal: Option<Status>,
    pub who_am_i: WhoAmIResponse,
    pub create_token: CreateTokenResponse,
    pub list_tokens: ListTokensResponse,
    /// Of whichever host was decided about.
    pub host: HostTrust,
    pub create_user: CreateUserResponse,
    pub list_users: ListUsersResponse,
    pub second: SecondResponse,
    pub authorities: Vec<Authority>,
    pub credentials: GetCredentialsResponse,
    /// Of rotations, and of what finishes them.
    pub operation_id: String,
    pub audit: Vec<AuditEntry>,
    /// The last one that was made; of those above if there is none.
    pub audit_end: Option<AuditEntry>,
    /// Whose authority signs.
    pub fleet: Option<Arc<Fleet>>,
}

macro_rules! answers {
    ($($method:ident($request:ident) -> $response:ident: $answer:expr;)+) => {
        #[tonic::async_trait]
        impl Trust for Fake {
            $(async fn $method(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                let peer = Peer::of(&request);
                let request = request.into_inner();
                let answers = &self.asked(format!("{peer}{}", said(&request))).trust;
                let answer: fn(&Answers, $request) -> $response = $answer;
                answers.refusal.clone().map_or_else(|| Ok(Response::new(answer(answers, request))), Err)
            })+
        }
    };
}

/// A request as the tests compare it; the bytes of a signing request are new each time.
fn said(request: &impl std::fmt::Debug) -> String {
    let text = format!("{request:?}");
    text.split_once(" { csr").map_or(text.clone(), |(name, _)| name.to_owned())
}

answers! {
    who_am_i(WhoAmIRequest) -> WhoAmIResponse: |answers, _| answers.who_am_i.clone();
    create_token(CreateTokenRequest) -> CreateTokenResponse: |answers, _| answers.create_token.clone();
    list_tokens(ListTokensRequest) -> ListTokensResponse: |answers, _| answers.list_tokens.clone();
    revoke_token(RevokeTokenRequest) -> RevokeTokenResponse: |_, _| RevokeTokenResponse {};
    approve_host(ApproveHostRequest) -> ApproveHostResponse:
        |answers, _| ApproveHostResponse { trust: Some(answers.host.clone()) };
    quarantine_host(QuarantineHostRequest) -> QuarantineHostResponse:
        |answers, _| QuarantineHostResponse { trust: Some(answers.host.clone()) };
    revoke_host(RevokeHostRequest) -> RevokeHostResponse:
        |answers, _| RevokeHostResponse { trust: Some(answers.host.clone()) };
    remove_host(RemoveHostRequest) -> RemoveHostResponse: |_, _| RemoveHostResponse::default();
    create_user(CreateUserRequest) -> CreateUserResponse: |answers, _| answers.create_user.clone();
    list_users(ListUsersRequest) -> ListUsersResponse: |answers, _| answers.list_users.clone();
    remove_user(RemoveUserRequest) -> RemoveUserResponse: |_, _| RemoveUserResponse {};
    certify_user(CertifyUserRequest) -> CertifyUserResponse:
        |answers, request| answers.fleet.as_ref().unwrap().certify("alice", &request.csr);
    second(SecondRequest) -> SecondResponse: |answers, _| answers.second.clone();
    list_authorities(ListAuthoritiesRequest) -> ListAuthoritiesResponse:
        |answers, _| ListAuthoritiesResponse { authorities: answers.authorities.clone() };
    rotate_authority(RotateAuthorityRequest) -> RotateAuthorityResponse:
        |answers, _| RotateAuthorityResponse { authorities: answers.authorities.clone() };
    retire_authority(RetireAuthorityRequest) -> RetireAuthorityResponse:
        |answers, _| RetireAuthorityResponse { authorities: answers.authorities.clone() };
    get_credentials(GetCredentialsRequest) -> GetCredentialsResponse: |answers, _| answers.credentials.clone();
    rotate_credentials(RotateCredentialsRequest) -> RotateCredentialsResponse:
        |answers, _| RotateCredentialsResponse { operation_id: answers.operation_id.clone() };
    finish_rotation(FinishRotationRequest) -> FinishRotationResponse:
        |answers, _| FinishRotationResponse { operation_id: answers.operation_id.clone() };
    list_audit(ListAuditRequest) -> ListAuditResponse: |answers, request| {
        let after = answers.audit.iter().filter(|entry| entry.seq > request.after_seq);
        // Pages of three, whatever is asked for: more than one is needed.
        let end = answers.audit_end.as_ref().or(answers.audit.last()).cloned().unwrap_or_default();
        ListAuditResponse { entries: after.take(3).cloned().collect(), last_seq: end.seq, last_sha256: end.sha256 }
    };
}
