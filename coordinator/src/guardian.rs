//! The Trust service: who may do what, as operators decide it. Every change is audited with who made it, in the
//! transaction that makes it where that can be.

pub mod authorities;
mod hosts;
mod users;

use std::sync::Arc;

use muster_proto::{
    HostName,
    failure::{Failure, Reason},
    token::JoinToken,
    wire::{self, trust_server},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    caller::Caller,
    credentials::api,
    gate::{Visit, visit},
    keeper::Shared,
    ledger::unix_ms,
    safeguard::store_failed,
    seal::{SealError, random},
    trust::TokenRecord,
};

/// Entries of the audit in one answer, unless the caller says.
const AUDIT: u32 = 1000;
const AUDIT_MOST: u32 = 10_000;

/// The service.
pub struct Guardian(Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

impl Guardian {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn create_token(
        &self,
        visit: &Visit,
        request: &wire::CreateTokenRequest,
    ) -> Result<wire::CreateTokenResponse, Failure> {
        let host = Some(&request.host).filter(|host| !host.is_empty());
        let host = host.map(|host| host.parse::<HostName>()).transpose();
        let host = host.map_err(|error| Failure::invalid(format!("host: {error}")))?;
        let known = match &host {
            Some(host) => self.0.ledger.host_trust(host).map_err(store_failed)?,
            None => None,
        };
        match (&host, request.rejoin, known) {
            (None, true, _) => return Err(Failure::invalid("rejoin: says nothing without a host")),
            (Some(host), false, Some(_)) => {
                let message = format!("host {host} is enrolled already");
                return Err(Failure::new(Reason::HostEnrolled, message)
                    .hint(format!("if it was installed anew: muster host rejoin-token {host}")));
            }
            (Some(host), true, None) => {
                let message = format!("host {host} is not enrolled, so it cannot come back");
                return Err(
                    Failure::new(Reason::UnknownHost, message).hint(format!("muster token create --host {host}"))
                );
            }
            _ => {}
        }
        let ttl_s = within("ttl", " s", request.ttl_s, (1800, 60, 604_800))?;
        let uses = within("uses", "", request.uses.into(), (1, 1, 1000))?;
        let authorities = self.0.door.authorities();
        let authority =
            authorities.first().ok_or_else(|| Failure::invalid("this coordinator has no authority"))?.sha256();
        let id = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let token = JoinToken::new(&id, random().map_err(no_random)?, authority);
        let record = TokenRecord {
            id,
            secret: token.secret().clone(),
            uses: u32::try_from(uses).unwrap_or(1),
            expires_ms: unix_ms() + ttl_s * 1000,
            rejoin: request.rejoin,
            approve: request.approve,
            host,
        };
        let whom = record.host.as_ref().map_or_else(|| "any host".to_owned(), HostName::to_string);
        let detail = format!("{} for {whom}, {uses} uses, {ttl_s} s, rejoin {}", record.id, record.rejoin);
        let written = self.0.ledger.write(|write| {
            write.token(&record)?;
            write.audit(&visit.caller, &visit.from, "Trust/CreateToken", &detail)
        });
        written.map_err(store_failed)?;
        let about = Some(record.wire());
        Ok(wire::CreateTokenResponse { token: token.text().expose().to_owned(), about })
    }

    fn revoke_token(&self, visit: &Visit, id: &str) -> Result<wire::RevokeTokenResponse, Failure> {
        let found = self.0.ledger.write(|write| {
            let found = write.forget_token(id)?;
            write.audit(&visit.caller, &visit.from, "Trust/RevokeToken", id)?;
            Ok::<_, crate::ledger::LedgerError>(found)
        });
        if !found.map_err(store_failed)? {
            return Err(
                Failure::new(Reason::UnknownToken, format!("there is no token {id:?}")).hint("muster token list")
            );
        }
        Ok(wire::RevokeTokenResponse {})
    }
}

fn no_random(error: SealError) -> Failure {
    Failure::new(Reason::StoreFailed, error.to_string())
}

/// A number of a request: 0 stands for the default.
fn within(field: &str, unit: &str, number: u64, (default, low, high): (u64, u64, u64)) -> Result<u64, Failure> {
    match number {
        0 => Ok(default),
        number if (low..=high).contains(&number) => Ok(number),
        number => Err(Failure::invalid(format!("{field}: {number} is not within {low}-{high}{unit}"))),
    }
}

/// One short arm an RPC: who calls, what is asked, the answer.
macro_rules! answer {
    ($request:ident, |$visit:ident, $inner:ident| $answer:expr) => {{
        let $visit = visit(&$request)?;
        let $inner = $request.into_inner();
        Ok(Response::new($answer))
    }};
}

#[tonic::async_trait]
impl trust_server::Trust for Guardian {
    async fn who_am_i(&self, request: Request<wire::WhoAmIRequest>) -> Answer<wire::WhoAmIResponse> {
        answer!(request, |visit, _inner| {
            let expires_unix_ms = match visit.caller {
                Caller::User { expires_ms, .. } => expires_ms,
                _ => visit.certificate_ms.unwrap_or(0),
            };
            let role = visit.caller.role().map_or(wire::AccessRole::Unspecified, |role| role.wire());
            wire::WhoAmIResponse { caller: visit.caller.to_string(), role: role.into(), expires_unix_ms }
        })
    }

    async fn create_token(&self, request: Request<wire::CreateTokenRequest>) -> Answer<wire::CreateTokenResponse> {
        answer!(request, |visit, inner| self.create_token(&visit, &inner)?)
    }

    async fn list_tokens(&self, _: Request<wire::ListTokensRequest>) -> Answer<wire::ListTokensResponse> {
        let (now, tokens) = (unix_ms(), self.0.ledger.tokens().map_err(store_failed)?);
        let usable = tokens.iter().filter(|token| token.uses > 0 && token.expires_ms > now);
        Ok(Response::new(wire::ListTokensResponse { tokens: usable.map(TokenRecord::wire).collect() }))
    }

    async fn revoke_token(&self, request: Request<wire::RevokeTokenRequest>) -> Answer<wire::RevokeTokenResponse> {
        answer!(request, |visit, inner| self.revoke_token(&visit, &inner.id)?)
    }

    async fn approve_host(&self, request: Request<wire::ApproveHostRequest>) -> Answer<wire::ApproveHostResponse> {
        answer!(request, |visit, inner| hosts::approve(&self.0, &visit, &inner.host)?)
    }

    async fn quarantine_host(
        &self,
        request: Request<wire::QuarantineHostRequest>,
    ) -> Answer<wire::QuarantineHostResponse> {
        answer!(request, |visit, inner| hosts::quarantine(&self.0, &visit, &inner)?)
    }

    async fn revoke_host(&self, request: Request<wire::RevokeHostRequest>) -> Answer<wire::RevokeHostResponse> {
        answer!(request, |visit, inner| hosts::revoke(&self.0, &visit, &inner)?)
    }

    async fn remove_host(&self, request: Request<wire::RemoveHostRequest>) -> Answer<wire::RemoveHostResponse> {
        answer!(request, |visit, inner| hosts::remove(&self.0, &visit, &inner.host)?)
    }

    async fn create_user(&self, request: Request<wire::CreateUserRequest>) -> Answer<wire::CreateUserResponse> {
        answer!(request, |visit, inner| users::create(&self.0, &visit, &inner)?)
    }

    async fn list_users(&self, _: Request<wire::ListUsersRequest>) -> Answer<wire::ListUsersResponse> {
        let users = self.0.ledger.users().map_err(store_failed)?;
        let users = users.iter().map(crate::trust::UserRecord::wire).collect();
        Ok(Response::new(wire::ListUsersResponse { users }))
    }

    async fn remove_user(&self, request: Request<wire::RemoveUserRequest>) -> Answer<wire::RemoveUserResponse> {
        answer!(request, |visit, inner| users::remove(&self.0, &visit, &inner.name)?)
    }

    async fn certify_user(&self, request: Request<wire::CertifyUserRequest>) -> Answer<wire::CertifyUserResponse> {
        answer!(request, |visit, inner| users::certify(&self.0, &visit, &inner.csr)?)
    }

    async fn second(&self, request: Request<wire::SecondRequest>) -> Answer<wire::SecondResponse> {
        answer!(request, |visit, inner| users::second(&self.0, &visit, &inner.id)?)
    }

    async fn list_authorities(
        &self,
        _: Request<wire::ListAuthoritiesRequest>,
    ) -> Answer<wire::ListAuthoritiesResponse> {
        Ok(Response::new(wire::ListAuthoritiesResponse { authorities: authorities::list(&self.0)? }))
    }

    async fn rotate_authority(
        &self,
        request: Request<wire::RotateAuthorityRequest>,
    ) -> Answer<wire::RotateAuthorityResponse> {
        answer!(request, |visit, _inner| {
            wire::RotateAuthorityResponse { authorities: authorities::rotate(&self.0, &visit)? }
        })
    }

    async fn retire_authority(
        &self,
        request: Request<wire::RetireAuthorityRequest>,
    ) -> Answer<wire::RetireAuthorityResponse> {
        answer!(request, |visit, inner| {
            wire::RetireAuthorityResponse { authorities: authorities::retire(&self.0, &visit, inner.force)? }
        })
    }

    async fn get_credentials(
        &self,
        request: Request<wire::GetCredentialsRequest>,
    ) -> Answer<wire::GetCredentialsResponse> {
        answer!(request, |visit, inner| api::get(&self.0, &visit.caller, &visit.from, inner)?)
    }

    async fn rotate_credentials(
        &self,
        request: Request<wire::RotateCredentialsRequest>,
    ) -> Answer<wire::RotateCredentialsResponse> {
        answer!(request, |visit, inner| api::rotate(&self.0, &visit.caller, &visit.from, inner)?)
    }

    async fn finish_rotation(
        &self,
        request: Request<wire::FinishRotationRequest>,
    ) -> Answer<wire::FinishRotationResponse> {
        answer!(request, |visit, inner| api::finish(&self.0, &visit.caller, &visit.from, inner)?)
    }

    async fn list_audit(&self, request: Request<wire::ListAuditRequest>) -> Answer<wire::ListAuditResponse> {
        let request = request.into_inner();
        let most = if request.most == 0 { AUDIT } else { request.most.min(AUDIT_MOST) };
        let (entries, end) = self.0.ledger.audit(request.after_seq, most).map_err(store_failed)?;
        let last_sha256 = end.sha256.0.to_vec();
        Ok(Response::new(wire::ListAuditResponse { entries, last_seq: end.seq, last_sha256 }))
    }
}
