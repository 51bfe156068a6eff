//! Hosts: approved, quarantined, revoked, forgotten.

use muster_proto::{
    failure::{Failure, Reason},
    wire,
};

use crate::{
    gate::Visit,
    keeper::Shared,
    ledger::LedgerError,
    rebuild::Remnant,
    safeguard::{store_failed, unknown_host},
    trust::{HostRecord, TrustState},
};

/// With a reason, as it is kept and shown.
fn reason(given: &str, visit: &Visit) -> Result<String, Failure> {
    if given.len() > 200 || given.chars().any(char::is_control) {
        return Err(Failure::invalid("reason: is one line of at most 200 bytes"));
    }
    let caller = &visit.caller;
    Ok(if given.is_empty() { format!("by {caller}") } else { format!("{given} (by {caller})") })
}

fn judge(
    shared: &Shared,
    visit: &Visit,
    action: &str,
    record: &HostRecord,
    to: (TrustState, String),
) -> Result<wire::HostTrust, Failure> {
    let (state, reason) = to;
    shared.audit(visit, action, &format!("{}: {} -> {}, {reason}", record.host, record.state.word(), state.word()))?;
    Ok(shared.judge_host(record, state, &reason)?.wire())
}

/// Lets a pending or quarantined host take part.
pub fn approve(shared: &Shared, visit: &Visit, host: &str) -> Result<wire::ApproveHostResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.enrolled(host)?;
    if record.state == TrustState::Revoked {
        let barred = record.barred().unwrap_or_else(|| Failure::new(Reason::HostRevoked, "revoked"));
        return Err(barred);
    }
    let to = (TrustState::Approved, reason("", visit)?);
    let trust = judge(shared, visit, "Trust/ApproveHost", &record, to)?;
    Ok(wire::ApproveHostResponse { trust: Some(trust) })
}

/// Cuts a host off until it is approved again.
pub fn quarantine(
    shared: &Shared,
    visit: &Visit,
    request: &wire::QuarantineHostRequest,
) -> Result<wire::QuarantineHostResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.enrolled(&request.host)?;
    let why = reason(&request.reason, visit)?;
    // The stronger word stands.
    let state = if record.state == TrustState::Revoked { TrustState::Revoked } else { TrustState::Quarantined };
    let trust = judge(shared, visit, "Trust/QuarantineHost", &record, (state, why))?;
    Ok(wire::QuarantineHostResponse { trust: Some(trust) })
}

/// Refuses a host's key for good.
pub fn revoke(
    shared: &Shared,
    visit: &Visit,
    request: &wire::RevokeHostRequest,
) -> Result<wire::RevokeHostResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.enrolled(&request.host)?;
    let why = reason(&request.reason, visit)?;
    shared.take_two(visit, &format!("revoke host {}", record.host))?;
    let trust = judge(shared, visit, "Trust/RevokeHost", &record, (TrustState::Revoked, why))?;
    Ok(wire::RevokeHostResponse { trust: Some(trust) })
}

/// Forgets a host that has no instances. What was left behind on it holds nothing up any more; should the host come
/// back all the same, it is set aside.
pub fn remove(shared: &Shared, visit: &Visit, name: &str) -> Result<wire::RemoveHostResponse, Failure> {
    let _sole = shared.decide();
    let host = name.parse().map_err(|_| unknown_host(name))?;
    if !shared.knows(&host)? {
        return Err(unknown_host(name));
    }
    let clusters = shared.ledger.clusters().map_err(store_failed)?;
    if let Some(cluster) = clusters.iter().find(|cluster| cluster.uses(&host)) {
        let message = format!("host {host} has instances of cluster {}", cluster.blueprint.cluster);
        return Err(Failure::new(Reason::HostInUse, message)
            .hint(format!("to cut it off without forgetting it: muster host revoke {host}")));
    }
    shared.take_two(visit, &format!("remove host {host}"))?;
    let mut left: Vec<_> = clusters.iter().flat_map(|it| &it.remnants).filter(|it| it.host == host).collect();
    left.sort_by_key(|remnant| (remnant.port, remnant.former.life));
    let left_behind: Vec<_> = left.into_iter().map(Remnant::name).collect();
    let written = shared.ledger.write(|write| {
        write.forget_host(&host)?;
        for record in clusters.iter().filter(|record| record.hosts().contains(&host)) {
            write.remnants(&record.blueprint.cluster, &record.without_awaiting(&host))?;
        }
        let left = left_behind.iter().map(|name| format!("; {name} was left behind there")).collect::<String>();
        write.audit(&visit.caller, &visit.from, "Trust/RemoveHost", &format!("{host}{left}"))?;
        Ok::<_, LedgerError>(())
    });
    written.map_err(store_failed)?;
    shared.cut_host(&host);
    shared.inventory().forget(&host);
    Ok(wire::RemoveHostResponse { left_behind })
}
