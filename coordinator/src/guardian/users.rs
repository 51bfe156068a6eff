//! Users: let in, certified, sent away; and the second person.

use muster_proto::{
    AccessRole, HostName, Sha256,
    failure::{Failure, Reason},
    pki::{self, Name},
    token::AccessString,
    wire,
};

use super::{no_random, within};
use crate::{
    authority::{Span, Subject},
    caller::Caller,
    gate::Visit,
    keeper::Shared,
    ledger::{LedgerError, unix_ms},
    safeguard::store_failed,
    seal::random,
    trust::{Certified, SecondRecord, UserRecord},
};

/// 90 days.
const TTL_S: u64 = 7_776_000;

/// Lets somebody in; the answer is the only thing that ever shows the secret.
pub fn create(
    shared: &Shared,
    visit: &Visit,
    request: &wire::CreateUserRequest,
) -> Result<wire::CreateUserResponse, Failure> {
    // The same alphabet as that of hosts.
    let name = request
        .name
        .parse::<HostName>()
        .map_err(|_| Failure::invalid(format!("name: {:?} is not 1-63 of a-z, 0-9, '.', '_' and '-'", request.name)))?;
    let name = name.to_string();
    let role =
        AccessRole::from_wire(request.role).ok_or_else(|| Failure::invalid("role: is none that is known here"))?;
    let ttl_s = within("ttl", " s", request.ttl_s, (TTL_S, 60, 31_536_000))?;
    let _sole = shared.decide();
    let now = unix_ms();
    let taken = shared.ledger.user(&name).map_err(store_failed)?.is_some_and(|user| user.expires_ms > now);
    if taken {
        return Err(Failure::new(Reason::UserExists, format!("there is a user {name}"))
            .hint(format!("muster user remove {name}, if the access is to be given anew")));
    }
    let authorities = shared.door.authorities();
    let authority = authorities.first().ok_or_else(|| Failure::invalid("this coordinator has no authority"))?.sha256();
    let access = AccessString::new(&name, random().map_err(no_random)?, authority);
    let user = UserRecord {
        secret: Sha256::of(access.secret().expose().as_bytes()),
        role,
        certified: None,
        created_ms: now,
        expires_ms: now + ttl_s * 1000,
        name,
    };
    let written = shared.ledger.write(|write| {
        write.user(&user)?;
        let detail = format!("{}, {role}, {ttl_s} s", user.name);
        write.audit(&visit.caller, &visit.from, "Trust/CreateUser", &detail)
    });
    written.map_err(store_failed)?;
    Ok(wire::CreateUserResponse { access: access.text().expose().to_owned(), user: Some(user.wire()) })
}

/// Takes somebody's access away, at once.
pub fn remove(shared: &Shared, visit: &Visit, name: &str) -> Result<wire::RemoveUserResponse, Failure> {
    let _sole = shared.decide();
    let found = shared.ledger.write(|write| {
        let found = write.forget_user(name)?;
        write.audit(&visit.caller, &visit.from, "Trust/RemoveUser", name)?;
        Ok::<_, LedgerError>(found)
    });
    if !found.map_err(store_failed)? {
        return Err(Failure::new(Reason::UnknownUser, format!("there is no user {name:?}")).hint("muster user list"));
    }
    shared.door.cut(&Name::User(name.to_owned()));
    Ok(wire::RemoveUserResponse {})
}

/// A client certificate for the caller, which holds as long as his access does.
pub fn certify(shared: &Shared, visit: &Visit, csr: &[u8]) -> Result<wire::CertifyUserResponse, Failure> {
    let Caller::User { name, .. } = &visit.caller else {
        return Err(Failure::invalid(format!("{} needs no certificate", visit.caller)));
    };
    let key = pki::read_request(csr).map_err(|error| Failure::invalid(format!("csr: {error}")))?;
    let _sole = shared.decide();
    let unknown = || Failure::new(Reason::UnknownUser, format!("there is no user {name:?}"));
    let user = shared.ledger.user(name).map_err(store_failed)?.ok_or_else(unknown)?;
    let span = Span { from_ms: unix_ms(), until_ms: user.expires_ms };
    let signed = shared.door.sign(csr, &Subject::User(name), span);
    let (certificate, issuer) = signed.map_err(|error| Failure::invalid(format!("csr: {error}")))?;
    let written = shared.ledger.write(|write| {
        write.user(&UserRecord { certified: Some(Certified { key, issuer }), ..user })?;
        write.audit(&visit.caller, &visit.from, "Trust/CertifyUser", &format!("{name}, key {key}"))
    });
    written.map_err(store_failed)?;
    Ok(wire::CertifyUserResponse { certificate, authorities: shared.door.certificates() })
}

/// Approves what somebody else wants to do.
pub fn second(shared: &Shared, visit: &Visit, id: &str) -> Result<wire::SecondResponse, Failure> {
    let _sole = shared.decide();
    let request = shared.ledger.second(id).map_err(store_failed)?;
    let request = request.filter(|request| request.expires_ms > unix_ms()).ok_or_else(|| {
        Failure::new(Reason::UnknownRequest, format!("there is no request {id:?} for a second person, or it is over"))
            .hint("the first one repeats what he wanted, and is told another id")
    })?;
    let me = visit.caller.to_string();
    if request.first == me {
        let message = format!("{me} wants to {}: the second person must be somebody else", request.what);
        return Err(
            Failure::new(Reason::RoleTooLow, message).hint("have somebody else with the role destroyer type it")
        );
    }
    let detail = format!("{id}: {}, for {}", request.what, request.first);
    let written = shared.ledger.write(|write| {
        write.second(&SecondRecord { second: Some(me), ..request.clone() })?;
        write.audit(&visit.caller, &visit.from, "Trust/Second", &detail)
    });
    written.map_err(store_failed)?;
    Ok(wire::SecondResponse { what: request.what, first: request.first })
}
