//! `muster trash`: what was set aside, and until when; and its deletion, for good.

use muster_proto::{
    ClusterName, HostName,
    wire::{ListHostsRequest, ListTrashRequest, ListTrashResponse, PurgeTrashRequest, TrashEntry},
};

use super::{
    Context, Verdict,
    apply::lay_out,
    args::{Purge, Trash, TrashCommand},
    confirm::confirmed,
    connect::{Admin, QUICK, THOROUGH, call},
    error::CliError,
};
use crate::render::trash::{PurgedJson, TrashJson, directories, meaning, purged, text, unknown};

pub async fn run(context: &mut Context, trash: Trash) -> Result<Verdict, CliError> {
    let usage = || CliError::Usage {
        what: "a cluster and a command were named; one of them is meant".into(),
        hint: "muster trash --help".into(),
    };
    match trash.meant().ok_or_else(usage)? {
        TrashCommand::List { cluster } => list(context, cluster.as_ref()).await,
        TrashCommand::Purge(wanted) => purge(context, wanted).await,
    }
}

async fn list(context: &mut Context, cluster: Option<&ClusterName>) -> Result<Verdict, CliError> {
    let mut admin = context.connect().await?;
    let cluster = cluster.map(ToString::to_string).unwrap_or_default();
    let answer = ask(&mut admin, cluster.clone()).await?;
    context.show(|| text(&answer, &cluster), || TrashJson::from(&answer));
    Ok(Verdict::of(answer.unknown.is_empty()))
}

async fn ask(admin: &mut Admin, cluster: String) -> Result<ListTrashResponse, CliError> {
    call("looking into the trash", THOROUGH, admin.list_trash(ListTrashRequest { cluster })).await
}

/// Shows what would go, has the name typed that it belonged to, and deletes it.
async fn purge(context: &mut Context, wanted: Purge) -> Result<Verdict, CliError> {
    if wanted.confirm.is_none() && !context.console.asks {
        return Err(CliError::Usage {
            what: "there is no terminal to type the cluster's name on".into(),
            hint: format!("look first (muster trash), then: {} --confirm CLUSTER", again(&wanted)),
        });
    }
    let mut admin = context.connect().await?;
    let all = ask(&mut admin, String::new()).await?;
    let doomed: Vec<TrashEntry> = all.entries.iter().filter(|entry| is_meant(entry, &wanted)).cloned().collect();
    if doomed.is_empty()
        && let Some(host) = &wanted.host
    {
        known(&mut admin, host).await?;
    }
    let Some(TrashEntry { cluster: name, incarnation, .. }) = doomed.first().cloned() else {
        let shown = PurgedJson { purged: Vec::new(), errors: all.unknown.clone() };
        context.show(|| format!("There is nothing like that in the trash.\n{}", unknown(&all.unknown)), || &shown);
        context.console.note("nothing was changed");
        return Ok(Verdict::of(all.unknown.is_empty()));
    };
    lay_out(context, &(directories(&doomed) + &unknown(&all.unknown)));
    confirmed(context, &name, wanted.confirm.clone(), &meaning(&doomed), &again(&wanted)).await?;
    // What was shown and nothing that comes into the trash meanwhile, where one number can say that.
    let is_one = doomed.iter().all(|entry| entry.incarnation == incarnation);
    let request = PurgeTrashRequest {
        cluster_id: wanted.cluster_id.to_string(),
        incarnation: if is_one { incarnation } else { 0 },
        host: wanted.host.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let doing = format!("deleting from the trash of {name}");
    let answer = context.change_within(THOROUGH, &doing, admin.purge_trash(request)).await?;
    context.show(|| purged(&answer), || PurgedJson::from(&answer));
    Ok(Verdict::of(answer.errors.is_empty()))
}

/// Nothing in the trash of a host is one thing, and a slip of the pen another.
async fn known(admin: &mut Admin, host: &HostName) -> Result<(), CliError> {
    let answer = call("listing hosts", QUICK, admin.list_hosts(ListHostsRequest { facts: false })).await?;
    if answer.hosts.iter().any(|known| known.name == host.as_str()) {
        return Ok(());
    }
    Err(CliError::Usage { what: format!("there is no host {host}"), hint: "muster hosts".into() })
}

fn is_meant(entry: &TrashEntry, wanted: &Purge) -> bool {
    let host = wanted.host.as_ref().is_none_or(|host| entry.host == host.as_str());
    let incarnation = wanted.incarnation.is_none_or(|incarnation| entry.incarnation == incarnation);
    entry.cluster_id == wanted.cluster_id.to_string() && host && incarnation
}

/// The line that was typed, without the name.
fn again(wanted: &Purge) -> String {
    let incarnation = wanted.incarnation.map(|number| format!(" --incarnation {number}")).unwrap_or_default();
    let host = wanted.host.as_ref().map(|host| format!(" --host {host}")).unwrap_or_default();
    format!("muster trash purge --cluster-id {}{incarnation}{host}", wanted.cluster_id)
}
