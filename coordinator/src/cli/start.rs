//! `muster start --even-if-empty`: an instance that the empty-restart guard holds is started all the same.

use muster_proto::{ClusterName, wire::StartInstanceRequest};

use super::{Context, Verdict, args::Place, confirm::confirmed, error::CliError};
use crate::render::start::{StartJson, text};

pub async fn run(
    context: &mut Context,
    cluster: &ClusterName,
    instance: &Place,
    confirm: Option<String>,
) -> Result<Verdict, CliError> {
    let meaning = format!(
        "{instance} of {cluster} is started with whatever it has to load. If that is nothing, or an old snapshot, and \
         it is still the master of its slots, its replicas copy that: what only they hold is lost."
    );
    let again = format!("muster start {cluster} --instance {instance} --even-if-empty");
    confirmed(context, &instance.to_string(), confirm, &meaning, &again).await?;
    let mut admin = context.connect().await?;
    let request = StartInstanceRequest {
        cluster: cluster.to_string(),
        host: instance.host.to_string(),
        port: instance.port.into(),
        even_if_empty: true,
    };
    let doing = format!("starting {instance} of {cluster}");
    let answer = context.change(&doing, admin.start_instance(request)).await?;
    let instance = instance.to_string();
    let shown = StartJson { cluster: cluster.to_string(), instance, running: answer.running };
    context.show(|| text(&shown), || &shown);
    Ok(Verdict::Done)
}
