//! `muster agent`: what agents say of their processes.

use muster_proto::wire::{ClusterInstance, GetStatusRequest, ListClustersRequest};

use super::{
    Context, Verdict,
    args::AgentCommand,
    connect::{QUICK, call},
    error::CliError,
};
use crate::render::ps::{ProcessesJson, text};

pub async fn run(context: &mut Context, command: AgentCommand) -> Result<Verdict, CliError> {
    let AgentCommand::Ps { host } = command;
    let mut instances = instances(context).await?;
    instances.retain(|instance| host.as_ref().is_none_or(|host| place(instance).0 == host.as_str()));
    instances.sort_by_key(place);
    context.show(|| text(&instances), || ProcessesJson::from(&*instances));
    Ok(Verdict::Done)
}

/// Of all clusters.
async fn instances(context: &mut Context) -> Result<Vec<ClusterInstance>, CliError> {
    let mut admin = context.connect().await?;
    let clusters = call("listing clusters", QUICK, admin.list_clusters(ListClustersRequest {})).await?.clusters;
    let mut instances = Vec::new();
    for cluster in clusters {
        let doing = format!("looking at {}", cluster.name);
        let request = GetStatusRequest { cluster: cluster.name };
        instances.extend(call(&doing, QUICK, admin.get_status(request)).await?.instances);
    }
    Ok(instances)
}

fn place(instance: &ClusterInstance) -> (String, u32) {
    instance.status.as_ref().map(|status| (status.host.clone(), status.port)).unwrap_or_default()
}
