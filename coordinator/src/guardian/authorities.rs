//! The fleet's authorities: one signs, older ones are believed until they are retired.

use muster_proto::{
    failure::{Failure, Reason},
    pki, wire,
};

use crate::{
    authority::Authority,
    gate::Visit,
    keeper::Shared,
    ledger::{LedgerError, unix_ms},
    safeguard::store_failed,
    trust::{TrustState, UserRecord},
};

/// What authorities of the fleet are called.
pub const NAME: &str = "Muster fleet";

/// All, the signing one first.
pub fn list(shared: &Shared) -> Result<Vec<wire::Authority>, Failure> {
    let (hosts, users) = (shared.ledger.hosts_trust().map_err(store_failed)?, certified(shared)?);
    let one = |(nth, authority): (usize, &Authority)| wire::Authority {
        sha256: authority.sha256().to_string(),
        signs: nth == 0,
        created_unix_ms: authority.created_ms,
        expires_unix_ms: authority.expires_ms,
        hosts: hosts
            .iter()
            .filter(|host| host.issuer == authority.sha256())
            .map(|host| host.host.to_string())
            .collect(),
        users: users
            .iter()
            .filter(|user| user.issuer() == Some(authority.sha256()))
            .map(|user| user.name.clone())
            .collect(),
        certificate_pem: pki::to_pem(std::slice::from_ref(&authority.certificate)),
    };
    Ok(shared.door.authorities().iter().enumerate().map(one).collect())
}

/// Users with a client certificate that still holds.
fn certified(shared: &Shared) -> Result<Vec<UserRecord>, Failure> {
    let (now, users) = (unix_ms(), shared.ledger.users().map_err(store_failed)?);
    Ok(users.into_iter().filter(|user| user.certified.is_some() && user.expires_ms > now).collect())
}

/// A new one signs from now on. Hosts that speak learn of it in their next session, and get their certificates from it
/// as they renew.
pub fn rotate(shared: &Shared, visit: &Visit) -> Result<Vec<wire::Authority>, Failure> {
    let _sole = shared.decide();
    let (now, before) = (unix_ms(), shared.door.authorities());
    let made = Authority::make(NAME, now, before.first());
    let made = made.map_err(|error| Failure::invalid(error.to_string()))?;
    let written = shared.ledger.write(|write| {
        write.authority(&made)?;
        write.audit(&visit.caller, &visit.from, "Trust/RotateAuthority", &made.sha256().to_string())
    });
    written.map_err(store_failed)?;
    let all = std::iter::once(made).chain(before.iter().cloned()).collect();
    shared.door.believe(all, now).map_err(|error| Failure::invalid(error.to_string()))?;
    shared.spread_authorities();
    list(shared)
}

/// Only the signing one is believed any more.
pub fn retire(shared: &Shared, visit: &Visit, force: bool) -> Result<Vec<wire::Authority>, Failure> {
    let _sole = shared.decide();
    let authorities = shared.door.authorities();
    let signing = authorities.first().ok_or_else(|| Failure::invalid("this coordinator has no authority"))?.clone();
    let hosts = shared.ledger.hosts_trust().map_err(store_failed)?;
    let hosts = hosts.iter().filter(|host| host.state != TrustState::Revoked && host.issuer != signing.sha256());
    let users = certified(shared)?;
    let users = users.iter().filter(|user| user.issuer() != Some(signing.sha256()));
    let locked_out: Vec<_> = hosts
        .map(|host| format!("host {}", host.host))
        .chain(users.map(|user| format!("user {}", user.name)))
        .collect();
    if !locked_out.is_empty() && !force {
        let message = format!("an older authority has signed what these come with: {}", locked_out.join(", "));
        return Err(Failure::new(Reason::AuthorityInUse, message).hint(
            "hosts renew by themselves while they are connected, users the next time they type a muster command; with \
             muster ca retire --force a host then needs muster host rejoin-token, a user muster user remove and add",
        ));
    }
    let written = shared.ledger.write(|write| {
        write.retire_authorities()?;
        let detail = format!("{} is left; locked out: {}", signing.sha256(), locked_out.join(", "));
        write.audit(&visit.caller, &visit.from, "Trust/RetireAuthority", &detail)?;
        Ok::<_, LedgerError>(())
    });
    written.map_err(store_failed)?;
    shared.door.believe(vec![signing], unix_ms()).map_err(|error| Failure::invalid(error.to_string()))?;
    list(shared)
}
