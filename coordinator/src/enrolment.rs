//! The Enrolment service: how a host becomes one of the fleet, and stays one. What is asked proves itself; who asks
//! need not be anybody yet.

use std::sync::Arc;

use muster_proto::{
    HostName, Sha256,
    failure::{Failure, Reason},
    pki::{self, Name},
    wire::{self, enrolment_server},
};
use tonic::{Request, Response, Status};

use crate::{
    authority::{Span, Subject},
    caller::Caller,
    credentials::api,
    gate::{Visit, visit},
    keeper::Shared,
    ledger::unix_ms,
    safeguard::store_failed,
    trust::{Applicant, HostRecord, TrustState, admit},
};

const DAY_MS: u64 = 86_400_000;

/// The service.
pub struct Enrolment(Arc<Shared>);

impl Enrolment {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    fn enrol(&self, visit: &Visit, request: &wire::EnrolRequest) -> Result<wire::EnrolResponse, Failure> {
        let host: HostName = request.host.parse().map_err(|error| Failure::invalid(format!("host: {error}")))?;
        let key = pki::read_request(&request.csr).map_err(|error| Failure::invalid(format!("csr: {error}")))?;
        let shared = &self.0;
        let _sole = shared.decide();
        let token = shared.ledger.token(&request.token_id).map_err(store_failed)?;
        let known = shared.ledger.host_trust(&host).map_err(store_failed)?;
        let applicant = Applicant { host: &host, key, csr: &request.csr, mac: &request.mac };
        let now = unix_ms();
        let admission = admit(&applicant, token.as_ref(), known.as_ref(), now)
            .inspect_err(|failure| shared.note_refusal(&visit.caller, &visit.from, "Enrolment/Enrol", failure))?;
        let (certificate, until, issuer) = self.certify_host(&host, &request.csr, now)?;
        let unchanged = known.as_ref().filter(|known| known.key == key && known.state == admission.state);
        let record = HostRecord {
            host: host.clone(),
            state: admission.state,
            key,
            reason: admission.reason,
            since_ms: unchanged.map_or(now, |known| known.since_ms),
            certificate_ms: until,
            issuer,
            token: request.token_id.clone(),
        };
        let detail = format!("{host} {}, key {key}: {}", record.state.word(), record.reason);
        let written = shared.ledger.write(|write| {
            write.host_trust(&record)?;
            if let Some(token) = token.filter(|_| admission.spends) {
                let uses = token.uses.saturating_sub(1);
                write.token(&crate::trust::TokenRecord { uses, ..token })?;
            }
            write.audit(&visit.caller, &visit.from, "Enrolment/Enrol", &detail)
        });
        written.map_err(store_failed)?;
        // Whoever spoke with another key until now does not any more.
        if known.is_some_and(|known| known.key != key) {
            shared.cut_host(&host);
        }
        let approved = record.state == TrustState::Approved;
        Ok(wire::EnrolResponse { certificate, authorities: shared.door.certificates(), approved })
    }

    fn renew(&self, visit: &Visit, request: &wire::RenewRequest) -> Result<wire::RenewResponse, Failure> {
        let shared = &self.0;
        let now = unix_ms();
        let refused = |why: &str| {
            Failure::new(Reason::CertificateRefused, why.to_owned())
                .hint("on the coordinator: muster host rejoin-token HOST, which prints what to type on the host")
        };
        let key = pki::read_request(&request.csr).map_err(|error| Failure::invalid(format!("csr: {error}")))?;
        let about = pki::read_certificate(&request.certificate).map_err(|error| refused(&error.to_string()))?;
        let Name::Host(host) = about.name else { return Err(refused("the certificate is not a host's")) };
        if about.key != key {
            return Err(refused("the request is for another key than the certificate's"));
        }
        let grace = shared.config.rejoin_grace_days.saturating_mul(DAY_MS);
        let until = u64::try_from(about.not_after_s).unwrap_or(0).saturating_mul(1000);
        if until.saturating_add(grace) <= now {
            let days = shared.config.rejoin_grace_days;
            return Err(refused(&format!("the certificate of {host} has expired more than {days} days ago")));
        }
        let ours = shared
            .door
            .authorities()
            .iter()
            .any(|authority| pki::is_signed_by(&request.certificate, &authority.certificate));
        if !ours {
            return Err(refused("the certificate was not signed by an authority of this fleet"));
        }
        let _sole = shared.decide();
        let known = shared.ledger.host_trust(&host).map_err(store_failed)?;
        let known = known
            .filter(|known| known.key == key)
            .ok_or_else(|| refused(&format!("host {host} is not enrolled with this key")))?;
        if let Some(barred) = known.barred() {
            return Err(barred);
        }
        let (certificate, until, issuer) = self.certify_host(&host, &request.csr, now)?;
        let record = HostRecord { certificate_ms: until, issuer, ..known };
        let written = shared.ledger.write(|write| {
            write.host_trust(&record)?;
            write.audit(&visit.caller, &visit.from, "Enrolment/Renew", &format!("{host}, key {key}"))
        });
        written.map_err(store_failed)?;
        Ok(wire::RenewResponse { certificate, authorities: shared.door.certificates() })
    }

    /// Whose instances a caller may have certificates for: his own host's. An agent on the unix socket says which
    /// that is, unless it is enrolled and should have come with its certificate.
    fn certified(&self, visit: &Visit, said: &str) -> Result<HostName, Failure> {
        match &visit.caller {
            Caller::Host { name, .. } if said.is_empty() || name.as_str() == said => {
                let known = self.0.enrolled(name.as_str())?;
                known.barred().map_or(Ok(name.clone()), Err)
            }
            Caller::Owner { .. } => {
                let host: HostName = said.parse().map_err(|error| Failure::invalid(format!("host: {error}")))?;
                if self.0.ledger.host_trust(&host).map_err(store_failed)?.is_some() {
                    let message = format!("host {host} is enrolled, and must come with its certificate over https://");
                    return Err(Failure::new(Reason::Unauthenticated, message));
                }
                Ok(host)
            }
            caller => {
                let message = format!("{caller} may not have certificates for the instances of another host");
                Err(Failure::new(Reason::Unauthenticated, message).hint(
                    "tls = true takes an enrolled host: muster token create --host NAME, then muster-agent enrol",
                ))
            }
        }
    }

    fn certify_host(&self, host: &HostName, csr: &[u8], now_ms: u64) -> Result<(Vec<u8>, u64, Sha256), Failure> {
        let span = Span::hours(now_ms, self.0.config.certificate_hours);
        let signed = self.0.door.sign(csr, &Subject::Host(host), span);
        let (certificate, issuer) = signed.map_err(|error| Failure::invalid(format!("csr: {error}")))?;
        Ok((certificate, span.until_ms, issuer))
    }
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        let visit = visit(&request)?;
        Ok(Response::new(self.enrol(&visit, &request.into_inner())?))
    }

    async fn renew(&self, request: Request<wire::RenewRequest>) -> Result<Response<wire::RenewResponse>, Status> {
        let visit = visit(&request)?;
        Ok(Response::new(self.renew(&visit, &request.into_inner())?))
    }

    async fn certify(&self, request: Request<wire::CertifyRequest>) -> Result<Response<wire::CertifyResponse>, Status> {
        let visit = visit(&request)?;
        let request = request.into_inner();
        let host = self.certified(&visit, &request.host)?;
        Ok(Response::new(api::certify(&self.0, &host, request)?))
    }
}
