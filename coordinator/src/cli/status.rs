//! `muster status`.

use muster_proto::{
    ClusterName,
    wire::{GetStatusRequest, GetStatusResponse, ListClustersRequest, WatchStatusRequest},
};

use super::{
    Context, Verdict,
    args::Format,
    connect::{QUICK, call},
    error::CliError,
    retry::Retry,
};
use crate::render::{
    self,
    status::{ClustersJson, StatusJson, list, text},
};

/// Without a name: the list, or the only one there is.
pub async fn any(context: &mut Context, watching: bool) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let clusters = call("listing clusters", QUICK, admin.list_clusters(ListClustersRequest {})).await?.clusters;
    let single = match &*clusters {
        [single] => single.name.parse::<ClusterName>().ok(),
        _ => None,
    };
    match single {
        Some(single) if watching => watch(context, &single).await,
        _ if watching => Err(CliError::Usage {
            what: format!("there are {} clusters, and one can be watched", clusters.len()),
            hint: "muster status CLUSTER --watch; muster status lists them".into(),
        }),
        Some(single) if context.format == Format::Text => show(context, &single).await,
        _ => {
            context.show(|| list(&clusters), || ClustersJson::from(&*clusters));
            Ok(Verdict::Done)
        }
    }
}

/// Once.
pub async fn show(context: &mut Context, cluster: &ClusterName) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let request = GetStatusRequest { cluster: cluster.to_string() };
    let answer = call(&format!("asking for the status of {cluster}"), QUICK, admin.get_status(request)).await?;
    context.show(|| text(&answer), || StatusJson::from(&answer));
    Ok(Verdict::Done)
}

/// Until it is interrupted, or nobody reads any more.
pub async fn watch(context: &mut Context, cluster: &ClusterName) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let doing = format!("watching {cluster}");
    let mut retry = Retry::new(context.patience);
    loop {
        let request = WatchStatusRequest { cluster: cluster.to_string() };
        let error = match call(&doing, QUICK, admin.watch_status(request)).await {
            Err(error) => Some(error),
            Ok(mut answers) => loop {
                match answers.message().await {
                    Ok(Some(answer)) => {
                        retry.worked();
                        draw(context, &answer);
                    }
                    Ok(None) => break None,
                    Err(status) => break Some(CliError::from_status(&doing, status)),
                }
                if context.console.is_broken() {
                    return Ok(Verdict::Done);
                }
            },
        };
        let first = retry.is_fresh();
        match error {
            Some(error) if !error.passes() => return Err(error),
            Some(_) | None if first => context.console.note("the coordinator does not answer; waiting for it"),
            Some(_) | None => {}
        }
        retry.again().await?;
    }
}

fn draw(context: &mut Context, answer: &GetStatusResponse) {
    match context.format {
        Format::Json => context.console.data(&render::line(&StatusJson::from(answer))),
        Format::Text if context.console.draws => context.console.redraw(&text(answer)),
        Format::Text => context.console.data(&(text(answer) + "\n")),
    }
}
