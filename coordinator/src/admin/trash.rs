//! ListTrash and PurgeTrash: what rebuilds have set aside, and what of it goes for good.

use std::{collections::BTreeMap, sync::Arc};

use muster_proto::{
    ClusterId, ClusterName, HostName, Incarnation, OperationId,
    failure::{Failure, Reason},
    wire,
};
use uuid::Uuid;

use super::rebuild::Returnable;
use crate::{
    doomed,
    gate::Visit,
    keeper::Shared,
    safeguard::{store_failed, unknown_host},
};

/// A life, and what of it is not there, as a sentence.
type Lacking = ((ClusterId, Incarnation), String);

/// What is in the trash of all hosts; of one cluster's name, or of all. `lives` are those that an undo would put back
/// now, if all of them is there.
pub async fn list(
    shared: &Arc<Shared>,
    request: &wire::ListTrashRequest,
    lives: &[Returnable],
) -> Result<wire::ListTrashResponse, Failure> {
    let name = Some(request.cluster.as_str()).filter(|name| !name.is_empty());
    let name = name.map(str::parse::<ClusterName>).transpose();
    let name = name.map_err(|error| Failure::invalid(format!("cluster: {error}")))?;
    let hosts = shared.inventory().hosts().keys().cloned().collect();
    let found = shared.rummage(hosts, None).await;
    let (whole, lacking) = whole(lives, &found);
    let (entries, unknown) = entries(found);
    let meant = |entry: &wire::TrashEntry| name.as_ref().is_none_or(|name| entry.cluster == name.as_str());
    let mut entries: Vec<_> = entries.into_iter().filter(meant).collect();
    mark(&mut entries, &whole);
    let is_shown = |(id, life): &(ClusterId, Incarnation)| {
        entries.iter().any(|it| (&*it.cluster_id, it.incarnation) == (&*id.to_string(), life.0))
    };
    let incomplete = lacking.into_iter().filter(|(which, _)| is_shown(which)).map(|(_, why)| why).collect();
    // Where a host's trash is not known, it may be there.
    if let Some(name) = name.filter(|_| entries.is_empty() && unknown.is_empty())
        && shared.ledger.cluster(&name).map_err(store_failed)?.is_none()
    {
        let message = format!("there is no cluster {name}, and none in any trash");
        return Err(Failure::new(Reason::UnknownCluster, message).hint("muster trash"));
    }
    Ok(wire::ListTrashResponse { entries, unknown, incomplete })
}

/// Which of these lives are there in whole; and of the others, what they lack.
fn whole(lives: &[Returnable], trash: &doomed::Trash) -> (Vec<(ClusterId, Incarnation)>, Vec<Lacking>) {
    let (mut whole, mut lacking) = (Vec::new(), Vec::new());
    for Returnable { blueprint, in_place } in lives {
        let which = (blueprint.cluster_id, blueprint.incarnation);
        match doomed::lacking(&doomed::Undo { blueprint, trash, in_place }) {
            None => whole.push(which),
            Some(why) => lacking.push((which, why)),
        }
    }
    (whole, lacking)
}

/// What agents have found as one list, by cluster, incarnation, host and port; and what is not known.
pub fn entries(found: BTreeMap<HostName, Result<wire::RummageResult, String>>) -> (Vec<wire::TrashEntry>, Vec<String>) {
    let (mut entries, mut unknown) = (Vec::new(), Vec::new());
    for (host, result) in found {
        match result {
            Ok(result) => {
                entries.extend(result.directories.into_iter().map(|directory| entry(&host, directory)));
                unknown.extend(result.errors.into_iter().map(|error| format!("{host}: {error}")));
            }
            Err(why) => unknown.push(format!("{host}: {why}")),
        }
    }
    sort(&mut entries);
    (entries, unknown)
}

/// Says which of them an undo would put back.
pub fn mark(entries: &mut [wire::TrashEntry], lives: &[(ClusterId, Incarnation)]) {
    for entry in entries {
        let is =
            |(id, life): &(ClusterId, Incarnation)| id.to_string() == entry.cluster_id && life.0 == entry.incarnation;
        entry.undoable = lives.iter().any(is);
    }
}

fn sort(entries: &mut [wire::TrashEntry]) {
    let key = |entry: &wire::TrashEntry| {
        let whose = (entry.cluster.clone(), entry.cluster_id.clone(), entry.incarnation);
        (whose, entry.host.clone(), entry.port, entry.name.clone())
    };
    entries.sort_by_cached_key(key);
}

fn entry(host: &HostName, directory: wire::Discarded) -> wire::TrashEntry {
    wire::TrashEntry {
        host: host.to_string(),
        cluster: directory.cluster,
        cluster_id: directory.cluster_id,
        incarnation: directory.incarnation,
        life: directory.life,
        node_id: directory.node_id,
        port: directory.port,
        name: directory.name,
        bytes: directory.bytes,
        aside_unix_ms: directory.aside_unix_ms,
        until_unix_ms: directory.until_unix_ms,
        undoable: false,
    }
}

/// Deletes from the trash, for good. `undoing` is the rebuild or undo that needs directories of that cluster and life
/// (or of any life of it) now.
pub async fn purge(
    shared: &Arc<Shared>,
    visit: &Visit,
    request: &wire::PurgeTrashRequest,
    undoing: impl Fn(ClusterId, Option<Incarnation>) -> Result<Option<OperationId>, Failure>,
) -> Result<wire::PurgeTrashResponse, Failure> {
    let id: Uuid = request.cluster_id.parse().map_err(|error| Failure::invalid(format!("cluster_id: {error}")))?;
    let (id, incarnation) = (ClusterId(id), Some(Incarnation(request.incarnation)).filter(|life| life.0 > 0));
    let hosts = hosts(shared, &request.host)?;
    let what = what(id, incarnation, &request.host);
    {
        let _sole = shared.decide();
        if let Some(operation) = undoing(id, incarnation)? {
            let message = format!(
                "operation {operation} sets aside or puts back what is to be deleted, or can be undone with it; \
                 nothing was deleted"
            );
            return Err(Failure::new(Reason::OperationBusy, message).hint(format!(
                "wait for it (muster op watch {operation}), or delete an older life alone: --incarnation N"
            )));
        }
        shared.take_two(visit, &format!("delete {what}"))?;
        // What happens to it is known only when the hosts have answered, and we may be gone by then.
        shared.audit(visit, "Admin/PurgeTrash", &format!("{what}: deleted from now on"))?;
    }
    let task = wire::Purge { cluster_id: id.to_string(), incarnation: request.incarnation };
    let (mut purged, mut errors, mut told) = (Vec::new(), Vec::new(), Vec::new());
    for (host, result) in shared.purge(hosts, task).await {
        match result {
            Ok(result) => {
                told.extend(summary(&host, &result.directories));
                purged.extend(result.directories.into_iter().map(|directory| entry(&host, directory)));
                errors.extend(result.errors.into_iter().map(|error| format!("{host}: {error}")));
            }
            Err(why) => errors.push(format!("{host}: {why}")),
        }
    }
    sort(&mut purged);
    let gone = if told.is_empty() { "nothing was there".to_owned() } else { format!("gone: {}", told.join("; ")) };
    let left: String = errors.iter().map(|error| format!("; {error}")).collect();
    shared.audit(visit, "Admin/PurgeTrash", &format!("{what}: {gone}{left}"))?;
    Ok(wire::PurgeTrashResponse { purged, errors })
}

/// Those that are asked: one, or all that are known. Whoever cannot answer says why.
fn hosts(shared: &Shared, host: &str) -> Result<Vec<HostName>, Failure> {
    if host.is_empty() {
        return Ok(shared.inventory().hosts().keys().cloned().collect());
    }
    let name: HostName = host.parse().map_err(|_| unknown_host(host))?;
    if !shared.knows(&name)? {
        return Err(unknown_host(host));
    }
    Ok(vec![name])
}

/// Exactly what goes.
fn what(id: ClusterId, incarnation: Option<Incarnation>, host: &str) -> String {
    let lives = incarnation.map_or_else(|| "all lives".to_owned(), |life| format!("life {life}"));
    let place = if host.is_empty() { "all hosts".to_owned() } else { format!("host {host}") };
    format!("{lives} of cluster {id} in the trash of {place}")
}

/// What is gone of a host: "server1: 3 directories, 4096 bytes".
fn summary(host: &HostName, directories: &[wire::Discarded]) -> Option<String> {
    let bytes: u64 = directories.iter().map(|directory| directory.bytes).sum();
    let directories = match directories.len() {
        0 => return None,
        1 => "1 directory".to_owned(),
        many => format!("{many} directories"),
    };
    Some(format!("{host}: {directories}, {bytes} bytes"))
}

#[cfg(test)]
mod tests;
