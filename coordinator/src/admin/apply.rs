//! Apply: a plan becomes a blueprint and an operation, if everything that it leans on still holds.

use std::sync::Arc;

use muster_proto::{
    ClusterId, HostName, Incarnation, NodeId, OperationId, Sha256, Spec, Tls,
    failure::{Failure, Reason},
    wire,
};
use uuid::Uuid;

use super::{operations, planning::exists};
use crate::{
    blueprint::{Blueprint, Identity},
    credentials::{Authority, Credentials},
    formation::Goal,
    keeper::{Said, Shared},
    ledger::{ClusterRecord, LedgerError, OpState, OperationRecord, unix_ms},
    placement, plan,
    rolling::Duties,
    safeguard::store_failed,
    seal,
};

/// Approves a plan. The same request id again gets the same operation again.
pub fn apply(shared: &Arc<Shared>, request: &wire::ApplyRequest) -> Result<wire::Operation, Failure> {
    if request.request_id.is_empty() || request.request_id.len() > 64 {
        return Err(Failure::invalid("request_id: is not 1-64 characters"));
    }
    let hash: Sha256 = request.plan_hash.parse().map_err(|error| Failure::invalid(format!("plan_hash: {error}")))?;
    let _sole = shared.decide();
    if let Some(operation) = answered(shared, &request.request_id, hash)? {
        return Ok(operation);
    }
    let plan = planned(shared, request)?;
    let (spec, blueprint) = recheck(shared, &plan)?;
    let operation = begin(shared, request, hash, spec, blueprint)?;
    Ok(operation)
}

/// What the same request was answered with before.
pub(super) fn answered(shared: &Shared, id: &str, hash: Sha256) -> Result<Option<wire::Operation>, Failure> {
    let Some((asked, operation)) = shared.ledger.request(id).map_err(store_failed)? else { return Ok(None) };
    if asked != hash {
        return Err(Failure::new(Reason::RequestReused, "request_id: was used to apply another plan")
            .hint("draw a fresh request id for every new request"));
    }
    operations::find(shared, &operation.to_string()).map(|record| Some(operations::wire_operation(&record)))
}

/// The plan that a request names.
pub(super) fn planned(shared: &Shared, request: &wire::ApplyRequest) -> Result<wire::Plan, Failure> {
    if request.request_id.is_empty() || request.request_id.len() > 64 {
        return Err(Failure::invalid("request_id: is not 1-64 characters"));
    }
    let hash: Sha256 = request.plan_hash.parse().map_err(|error| Failure::invalid(format!("plan_hash: {error}")))?;
    shared.ledger.plan(&request.plan_hash).map_err(store_failed)?.ok_or_else(|| {
        Failure::new(Reason::UnknownPlan, format!("there is no plan {hash}")).hint("plan again: muster plan FILE")
    })
}

/// Everything that the plan leans on, looked at again; then the ids are drawn.
fn recheck(shared: &Shared, plan: &wire::Plan) -> Result<(Spec, Blueprint), Failure> {
    let again = "plan again: muster plan FILE";
    if let Some(finding) = plan::refused(plan) {
        let message = format!("the plan has a fatal finding: {}", finding.message);
        return Err(Failure::new(Reason::PreflightFailed, message).hint(finding.cure.clone()));
    }
    if unix_ms() > plan.expires_unix_ms {
        return Err(Failure::new(Reason::PlanExpired, "the plan is older than 15 minutes").hint(again));
    }
    let spec = Spec::try_from(plan.spec.clone().unwrap_or_default());
    let spec = spec.map_err(|error| Failure::invalid(error.to_string()))?;
    let name = &spec.parts().name;
    if let Some(record) = shared.ledger.cluster(name).map_err(store_failed)? {
        return Err(exists(name.as_str(), record.formed_ms.is_some(), &record.operation.to_string()));
    }
    let facts = |host: &str| host.parse::<HostName>().map(|host| shared.inventory().facts(&host)).unwrap_or_default();
    if let Some(change) = plan::stale(plan, facts) {
        return Err(Failure::new(Reason::PlanStale, format!("the plan does not hold any more: {change}")).hint(again));
    }
    // Placement is exact: the same spec and sites give the placement that was approved.
    let sites = shared.inventory().sites();
    let placement = placement::place(&spec, &sites)
        .map_err(|refusal| Failure::new(Reason::PlanStale, refusal.to_string()).hint(again))?;
    let identity =
        Identity { cluster: name.clone(), cluster_id: ClusterId(Uuid::new_v4()), incarnation: Incarnation(1) };
    let blueprint = Blueprint::draw(identity, &placement, &spec, draw);
    if let Some(clash) = clash(shared, &blueprint)? {
        return Err(Failure::new(Reason::PlanStale, clash).hint(again));
    }
    Ok((spec, blueprint))
}

/// Another cluster may have been given one of the ports a moment ago, before any directory shows it; or it may come
/// back to one of them.
pub(super) fn clash(shared: &Shared, blueprint: &Blueprint) -> Result<Option<String>, Failure> {
    let others = shared.ledger.clusters().map_err(store_failed)?;
    let others = others.iter().filter(|other| other.blueprint.cluster != blueprint.cluster);
    let taken = |record: &ClusterRecord| {
        let listens = record.listens();
        let at = |member: &&muster_proto::Member| {
            [member.port.get(), member.bus_port].iter().any(|port| listens.contains(&(member.host.clone(), *port)))
        };
        let member = blueprint.members.iter().find(at)?;
        Some(format!("{} (or its bus port) belongs to cluster {}", member.name(), record.blueprint.cluster))
    };
    Ok(others.into_iter().find_map(taken))
}

/// What clients, replicas and agents will log in with, and believe.
fn draw_credentials(spec: &Spec, blueprint: &Blueprint) -> Result<Option<Credentials>, LedgerError> {
    let issued = matches!(spec.parts().tls, Tls::Issued);
    let made = || Authority::generate(blueprint.cluster.as_str(), unix_ms() / 1000);
    let authority = issued.then(made).transpose().map_err(LedgerError::Credentials)?;
    Credentials::draw(spec, blueprint.incarnation, authority, || seal::random().map_err(LedgerError::Seal))
}

/// Fresh and random: 20 of the 32 bytes of two version 4 UUIDs, of which at least 122 bits are drawn by the kernel.
pub(super) fn draw() -> NodeId {
    let mut bytes = [0; 20];
    let drawn = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
    bytes.copy_from_slice(&drawn[..20]);
    NodeId(bytes)
}

fn begin(
    shared: &Shared,
    request: &wire::ApplyRequest,
    plan_hash: Sha256,
    spec: Spec,
    blueprint: Blueprint,
) -> Result<wire::Operation, Failure> {
    let id = OperationId(Uuid::now_v7());
    let message = format!("approved: {} instances on {} hosts", blueprint.members.len(), blueprint.hosts().len());
    let credentials = draw_credentials(&spec, &blueprint).map_err(store_failed)?;
    let record = ClusterRecord {
        spec,
        blueprint,
        goal: Goal::Prepared,
        formed_ms: None,
        operation: id,
        credentials,
        duties: Duties::new(),
        roll: None,
        rebuild: None,
        remnants: Vec::new(),
    };
    let operation = OperationRecord {
        plan_hash: Some(plan_hash),
        ..OperationRecord::begin(id, "bootstrap", &record.blueprint.cluster, "CONFIGURE", message)
    };
    let count = (0, record.blueprint.members.len());
    let said = Said { operation: id, state: OpState::Running, phase: "CONFIGURE", message: &operation.message, count };
    let begun = shared.commit(&record, Some(record.clone()), &said, |write| {
        write.cluster(&record)?;
        write.operation(&operation)?;
        write.request(&request.request_id, &plan_hash, id)
    });
    let seq = begun.map_err(store_failed)?;
    tracing::info!(operation = %id, cluster = %record.blueprint.cluster, plan = %plan_hash, "bootstrap begins");
    Ok(operations::wire_operation(&OperationRecord { last_seq: seq, ..operation }))
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{config::Config, ledger::Ledger, seal::Seal};

    #[tokio::test]
    async fn a_plan_that_has_expired_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("state_dir = {:?}", dir.path());
        let config = Config::parse(&text, "coordinator.toml".as_ref()).unwrap();
        let ledger = Ledger::open(&dir.path().join("store.db"), Seal::for_tests()).unwrap();
        let shared = Shared::new(config, ledger, CancellationToken::new()).unwrap();
        let apply_at = |expires_unix_ms| {
            let hash = Sha256::of(b"a plan").to_string();
            let plan = wire::Plan { hash: hash.clone(), expires_unix_ms, ..wire::Plan::default() };
            shared.ledger.write(|write| write.plan(&plan)).unwrap();
            apply(&shared, &wire::ApplyRequest { plan_hash: hash, request_id: "once".into(), confirm: String::new() })
                .unwrap_err()
        };
        let expired = apply_at(unix_ms() - 1);
        assert!(expired.is(Reason::PlanExpired), "{expired:?}");
        assert_eq!(expired.hint.as_deref(), Some("plan again: muster plan FILE"));
        // One in time gets further, to its spec, which is empty here.
        let fresh = apply_at(unix_ms() + 60_000);
        assert!(fresh.is(Reason::InvalidArgument), "{fresh:?}");
    }
}
