//! SetProtection: a cluster may not be rebuilt, or may again. Whoever rebuilds asks [`refuse`] first.

use muster_proto::{
    AccessRole, OperationId,
    access::Rule,
    failure::{Failure, Reason},
    wire,
};

use crate::{
    gate::Visit,
    keeper::Shared,
    ledger::{ClusterRecord, Protection, unix_ms},
    safeguard::store_failed,
};

/// Checks, and changes it. `rebuilding` is the rebuild or undo that a cluster has, which began under what was said
/// before: it is in the way.
pub fn set(
    shared: &Shared,
    visit: &Visit,
    request: &wire::SetProtectionRequest,
    rebuilding: impl Fn(&ClusterRecord) -> Option<OperationId>,
) -> Result<wire::SetProtectionResponse, Failure> {
    let _sole = shared.decide();
    let record = shared.cluster(&request.cluster)?;
    let cluster = &record.blueprint.cluster;
    if !request.protected && !visit.caller.may(Rule::AtLeast(AccessRole::Destroyer)) {
        let message = format!("to let cluster {cluster} be rebuilt again takes the role destroyer");
        return Err(
            Failure::new(Reason::RoleTooLow, message).hint("an admin gives roles: muster user add NAME --role ROLE")
        );
    }
    let before = shared.ledger.protection(cluster).map_err(store_failed)?;
    if before.is_some() == request.protected {
        return Ok(wire::SetProtectionResponse { already: true });
    }
    if let Some(operation) = rebuilding(&record) {
        let message = format!("cluster {cluster} is being rebuilt by operation {operation}; nothing was changed");
        return Err(Failure::new(Reason::OperationBusy, message).hint(format!("muster op watch {operation}")));
    }
    let changed = shared.ledger.write(|write| {
        let (by, since_ms) = (visit.caller.to_string(), unix_ms());
        let detail = if request.protected {
            write.protect(cluster, &Protection { by, since_ms })?;
            format!("cluster {cluster} may not be rebuilt")
        } else {
            write.unprotect(cluster)?;
            let said = before.iter().map(|before| format!("; that it may not, {} had said", before.by));
            format!("cluster {cluster} may be rebuilt again{}", said.collect::<String>())
        };
        write.audit(&visit.caller, &visit.from, "Admin/SetProtection", &detail)
    });
    changed.map_err(store_failed)?;
    // What is shown of the cluster has changed.
    shared.ring();
    Ok(wire::SetProtectionResponse { already: false })
}

/// Refuses a rebuild of a protected cluster. For whoever decides, too: between a plan and its approval it may have
/// been protected.
pub fn refuse(shared: &Shared, record: &ClusterRecord) -> Result<(), Failure> {
    let cluster = &record.blueprint.cluster;
    let Some(protection) = shared.ledger.protection(cluster).map_err(store_failed)? else { return Ok(()) };
    let message = format!("cluster {cluster} is protected: {}; nothing was changed", in_words(&protection));
    Err(Failure::new(Reason::Protected, message)
        .hint(format!("a destroyer may take that back: muster unprotect {cluster}")))
}

/// What is shown of it: "it may not be rebuilt, said user anna, 2026-11-28 22:25 UTC".
pub fn in_words(protection: &Protection) -> String {
    let moment = i64::try_from(protection.since_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let since = moment.map(|moment| format!(", {}", moment.strftime("%Y-%m-%d %H:%M UTC")));
    format!("it may not be rebuilt, said {}{}", protection.by, since.unwrap_or_default())
}

/// The same of a cluster; empty when it may be rebuilt.
pub fn shown(shared: &Shared, record: &ClusterRecord) -> Result<String, Failure> {
    let protection = shared.ledger.protection(&record.blueprint.cluster).map_err(store_failed)?;
    Ok(protection.as_ref().map(in_words).unwrap_or_default())
}

#[cfg(test)]
mod tests;
