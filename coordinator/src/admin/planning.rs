//! Plan: preflight and placement. Changes nothing but the list of plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use muster_proto::{
    HostName, Port, Spec,
    convert::micros,
    failure::{Failure, Reason},
    ports::DEFAULT_BUS_OFFSET,
    wire,
};

use crate::{
    estranged,
    finding::Finding,
    keeper::Shared,
    ledger::unix_ms,
    loss, placement,
    plan::{self, Ingredients},
    preflight::{self, own::Ours},
    safeguard::store_failed,
};

/// Plans a bootstrap.
pub async fn plan(shared: &Arc<Shared>, request: wire::PlanRequest) -> Result<wire::PlanResponse, Failure> {
    let spec = request.spec.ok_or_else(|| Failure::invalid("spec: is missing"))?;
    let spec = Spec::try_from(spec).map_err(|error| Failure::invalid(error.to_string()))?;
    if let Some(existing) = existing(shared, &spec)? {
        return Ok(wire::PlanResponse { plan: None, existing: Some(existing) });
    }
    let sites = shared.inventory().sites();
    let placement = placement::place(&spec, &sites)?;
    let mut findings: Vec<Finding> = placement.findings.clone();
    findings.extend(plan::lint(&spec, &placement));
    findings.extend(plan::doors(&spec));
    let began = Instant::now();
    let answers = shared.preflight(&spec, DEFAULT_BUS_OFFSET, &Ours::new()).await;
    let preflight_micros = micros(began.elapsed());
    let bars = shared.bars().map_err(store_failed)?;
    findings.extend(preflight::judge(&spec, &answers, &offered(shared, &spec), &bars, DEFAULT_BUS_OFFSET));
    let clusters = shared.ledger.clusters().map_err(store_failed)?;
    let clusters = clusters.into_iter().map(|record| record.blueprint.cluster).collect();
    let hosts = &spec.parts().hosts;
    {
        let inventory = shared.inventory();
        let there: Vec<_> = hosts.iter().filter_map(|host| inventory.get(&host.name)).collect();
        estranged::bars(&mut findings, &there, &clusters);
    }
    findings.sort();
    let facts: BTreeMap<_, _> = {
        let inventory = shared.inventory();
        spec.parts().hosts.iter().map(|host| (host.name.clone(), inventory.facts(&host.name))).collect()
    };
    let server = answers.values().find_map(|answer| preflight::server_of(answer.survey.as_ref().ok()?).ok());
    let made = plan::make(&Ingredients {
        spec: &spec,
        placement: &placement,
        findings: &findings,
        server: server.as_ref(),
        facts: &facts,
        advice: loss::advice(&spec, &sites, &loss::losses(&placement)),
        now_ms: unix_ms(),
        preflight_micros,
        rebuild: None,
    });
    shared.ledger.write(|write| write.plan(&made)).map_err(store_failed)?;
    Ok(wire::PlanResponse { plan: Some(made), existing: None })
}

/// The same spec again is answered with what it has made; another spec under the name is refused.
fn existing(shared: &Shared, spec: &Spec) -> Result<Option<wire::ExistingCluster>, Failure> {
    let name = &spec.parts().name;
    let Some(record) = shared.ledger.cluster(name).map_err(store_failed)? else { return Ok(None) };
    let formed = record.formed_ms.is_some();
    let operation = shared.ledger.operation(record.operation).map_err(store_failed)?;
    let cancelling = operation.is_some_and(|operation| operation.state == crate::ledger::OpState::Cancelling);
    if record.spec == *spec && !cancelling {
        let operation_id = record.operation.to_string();
        return Ok(Some(wire::ExistingCluster { name: name.to_string(), formed, operation_id }));
    }
    Err(exists(name.as_str(), formed, &record.operation.to_string()))
}

/// The name is taken.
pub fn exists(name: &str, formed: bool, operation: &str) -> Failure {
    if formed {
        let message = format!("cluster {name} exists, and was made from another spec; nothing was changed");
        return Failure::new(Reason::ClusterExists, message)
            .hint(format!("muster status {name}, or give the new one another name"));
    }
    let message = format!("cluster {name} is being made, or called off, by operation {operation}; nothing was changed");
    Failure::new(Reason::ClusterExists, message)
        .hint(format!("muster op watch {operation}, or muster op cancel {operation}"))
}

pub(super) fn offered(shared: &Shared, spec: &Spec) -> BTreeMap<HostName, BTreeSet<Port>> {
    let inventory = shared.inventory();
    let ports = |name: &HostName| Some((name.clone(), inventory.get(name)?.hello.ports.iter().collect()));
    spec.parts().hosts.iter().filter_map(|host| ports(&host.name)).collect()
}
