//! StartInstance: an instance that waits is tried now, and where somebody says so by name, whatever it has to load.

use muster_proto::{
    AccessRole,
    access::Rule,
    failure::{Failure, Reason},
    wire,
};

use super::logs::member;
use crate::{gate::Visit, keeper::Shared};

/// Checks, audits, and has the agent do it.
pub async fn start(
    shared: &Shared,
    visit: &Visit,
    request: &wire::StartInstanceRequest,
) -> Result<wire::StartInstanceResponse, Failure> {
    let record = shared.cluster(&request.cluster)?;
    let cluster = &record.blueprint.cluster;
    let member = member(&record.blueprint, &request.host, request.port)?;
    let named = member.name();
    if record.duties.get(&member.node_id).is_some_and(|duty| duty.stopped) {
        let message = format!("{named} is stopped, as an operator asked: the guard does not hold it");
        return Err(
            Failure::new(Reason::OperationBusy, message).hint(format!("muster start {cluster} --instance {named}"))
        );
    }
    if request.even_if_empty {
        if !visit.caller.may(Rule::AtLeast(AccessRole::Destroyer)) {
            let message = format!("to overrule the guard of {named} takes the role destroyer");
            return Err(Failure::new(Reason::RoleTooLow, message));
        }
        shared.take_two(visit, &format!("start {named} of cluster {cluster} even if that empties its replicas"))?;
    }
    let how = if request.even_if_empty { ", even if that empties its replicas" } else { "" };
    shared.audit(visit, "Admin/StartInstance", &format!("{named} of cluster {cluster}{how}"))?;
    let task =
        wire::Start { cluster: cluster.to_string(), port: member.port.into(), even_if_empty: request.even_if_empty };
    let silent = |why| Failure::new(Reason::HostSilent, format!("{}: {why}", member.host)).hint("muster hosts");
    Ok(wire::StartInstanceResponse { running: shared.start(&member.host, task).await.map_err(silent)? })
}
