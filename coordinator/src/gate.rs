//! The gate: every call passes it. Who calls is found out anew each time, so that a role or a host that was taken away
//! is away at once; what has no rule is refused.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use muster_proto::{
    AccessRole, Sha256,
    access::{Rule, rule},
    failure::{Failure, Reason},
    pki::Name,
};
use tonic::{Status, body::Body, codegen::http};
use tower::{Layer, Service};

use crate::{
    caller::Caller,
    door::{Peer, Proof},
    keeper::Shared,
    ledger::unix_ms,
    safeguard::store_failed,
    trust::TrustState,
};

/// Puts the gate before all services.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

/// A service behind the gate.
#[derive(Clone)]
pub struct Guarded<S> {
    shared: Arc<Shared>,
    inner: S,
}

/// Who calls and where from, for handlers.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Who.
    pub caller: Caller,
    /// Where from: "unix socket", "192.168.1.7:40312".
    pub from: String,
    /// When a certificate that was shown ends, milliseconds since 1970.
    pub certificate_ms: Option<u64>,
}

impl Gate {
    /// Over what is shared.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl<S> Layer<S> for Gate {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { shared: self.0.clone(), inner }
    }
}

type Answering<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        match admit(&self.shared, &request) {
            Ok(visit) => {
                request.extensions_mut().insert(visit);
                Box::pin(async move { inner.call(request).await })
            }
            Err(failure) => Box::pin(async move { Ok(Status::from(failure).into_http()) }),
        }
    }
}

fn admit(shared: &Shared, request: &http::Request<Body>) -> Result<Visit, Failure> {
    let path = request.uri().path();
    // Not through the door: nobody at all.
    let peer = request.extensions().get::<Arc<Peer>>().ok_or_else(|| nobody("the connection is not known"))?;
    let wanted = rule(path);
    let (caller, certificate_ms) = match identify(shared, peer, request.headers()) {
        Ok(found) => found,
        // Who may be anyone may also be somebody whose identity does not hold any more.
        Err(_) if wanted == Some(Rule::Anyone) => (Caller::Nobody, None),
        Err(failure) => {
            shared.note_refusal(&Caller::Nobody, &peer.from, path, &failure);
            return Err(failure);
        }
    };
    if !wanted.is_some_and(|wanted| caller.may(wanted)) {
        let failure = refusal(&caller, wanted, path);
        shared.note_refusal(&caller, &peer.from, path, &failure);
        return Err(failure);
    }
    match &caller {
        Caller::User { name, .. } => peer.vouch(&Name::User(name.clone()).to_string()),
        Caller::Host { name, .. } => peer.vouch(&Name::Host(name.clone()).to_string()),
        Caller::Owner { .. } | Caller::Local | Caller::Nobody => {}
    }
    Ok(Visit { caller, from: peer.from.clone(), certificate_ms })
}

/// Who calls, by what the connection and the request have proved, and by what the store says of that now.
fn identify(shared: &Shared, peer: &Peer, headers: &http::HeaderMap) -> Result<(Caller, Option<u64>), Failure> {
    if let Some(header) = headers.get(http::header::AUTHORIZATION) {
        let words = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")?.split_once(':'));
        let (name, secret) = words.ok_or_else(|| nobody("the authorization header is not \"Bearer NAME:SECRET\""))?;
        return bearer(shared, name, secret).map(|caller| (caller, None));
    }
    match &peer.proof {
        Proof::Unix { uid } if *uid == 0 || *uid == nix::unistd::geteuid().as_raw() => {
            Ok((Caller::Owner { uid: *uid }, None))
        }
        Proof::Unix { .. } | Proof::Nothing => Ok((Caller::Nobody, None)),
        Proof::Loopback => Ok((Caller::Local, None)),
        Proof::Certificate(about) => {
            let until = u64::try_from(about.not_after_s).unwrap_or(0).saturating_mul(1000);
            if until <= unix_ms() {
                return Err(nobody("the certificate of this connection has expired; connect again"));
            }
            let caller = match &about.name {
                Name::Host(host) => {
                    let known = shared.ledger.host_trust(host).map_err(store_failed)?;
                    let known = known.filter(|known| known.key == about.key).ok_or_else(|| {
                        let message = format!("host {host} is not enrolled with this key");
                        Failure::new(Reason::Unauthenticated, message)
                            .hint(format!("on the coordinator: muster host rejoin-token {host}"))
                    })?;
                    if known.state == TrustState::Revoked {
                        return Err(known.barred().unwrap_or_else(|| nobody("revoked")));
                    }
                    Caller::Host { name: host.clone(), key: about.key }
                }
                Name::User(name) => {
                    user(shared, name, |user| user.certified.is_some_and(|certified| certified.key == about.key))?
                }
                Name::Coordinator => return Err(nobody("a coordinator does not call itself")),
            };
            Ok((caller, Some(until)))
        }
    }
}

fn bearer(shared: &Shared, name: &str, secret: &str) -> Result<Caller, Failure> {
    let sha256 = Sha256::of(secret.as_bytes());
    user(shared, name, |user| user.secret == sha256)
}

fn user(shared: &Shared, name: &str, proved: impl Fn(&crate::trust::UserRecord) -> bool) -> Result<Caller, Failure> {
    let known = shared.ledger.user(name).map_err(store_failed)?.filter(|user| proved(user));
    let known = known.ok_or_else(|| nobody("this user is not known, or the secret is not the right one"))?;
    if known.expires_ms <= unix_ms() {
        return Err(nobody(&format!("the access of user {name} has expired")));
    }
    Ok(Caller::User { name: known.name, role: known.role, expires_ms: known.expires_ms })
}

fn nobody(why: &str) -> Failure {
    Failure::new(Reason::Unauthenticated, why)
        .hint("an admin gives access: muster user add NAME --role ROLE, then here: muster context add")
}

fn refusal(caller: &Caller, wanted: Option<Rule>, path: &str) -> Failure {
    let what = path.rsplit('.').next().unwrap_or(path);
    match (caller, wanted) {
        (_, None) => Failure::new(Reason::RoleTooLow, format!("{what} has no rule: nobody may call it")),
        (Caller::Nobody | Caller::Local, Some(_)) => nobody(&format!("{caller} may not call {what}")),
        (_, Some(Rule::AtLeast(least))) => {
            let has = caller.role().map(AccessRole::word).map(|role| format!(" ({role})")).unwrap_or_default();
            Failure::new(Reason::RoleTooLow, format!("{caller}{has} may not call {what}: it takes the role {least}"))
                .hint("an admin gives roles: muster user add NAME --role ROLE")
        }
        (_, Some(Rule::Agent | Rule::Anyone)) => {
            Failure::new(Reason::RoleTooLow, format!("{caller} may not call {what}: it is for agents"))
        }
    }
}

/// Who calls, in a handler.
pub fn visit<T>(request: &tonic::Request<T>) -> Result<Visit, Status> {
    let visit = request.extensions().get::<Visit>().cloned();
    visit.ok_or_else(|| Failure::new(Reason::Unauthenticated, "the call did not pass the gate").into())
}
