//! What a rebuild would do: looked at, judged, said. Changes nothing but the list of plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use muster_proto::{
    BusOffset, HostName, Incarnation, Port, Spec,
    convert::micros,
    failure::{Failure, Reason},
    wire,
};

use super::{free, next_incarnation, target};
use crate::{
    admin::{planning, protection},
    blueprint::Blueprint,
    doomed,
    finding::Finding,
    keeper::Shared,
    ledger::{ClusterRecord, LedgerError, unix_ms},
    loss,
    placement::{self, Placement, Site},
    plan::{self, Ingredients},
    preflight::{self, own},
    rebuild::{self, offset_of},
    safeguard::store_failed,
};

/// The life that would begin.
struct Draft {
    spec: Spec,
    becomes: Incarnation,
    placement: Placement,
    offset: BusOffset,
    /// Who is what; of a life that comes back.
    back: Option<Blueprint>,
}

/// Plans a rebuild, or its undoing.
pub async fn plan(shared: &Arc<Shared>, request: wire::PlanRebuildRequest) -> Result<wire::PlanResponse, Failure> {
    let record = shared.cluster(&request.cluster)?;
    protection::refuse(shared, &record)?;
    let supersedes = free(shared, &record)?;
    let fenced = fenced(shared, &request)?;
    let draft = match request.undo {
        true => undone(shared, &record, &request)?,
        // What is left without the hosts may not do; where they need not be left out, that is the word.
        false => drafted(shared, &record, &request, &fenced)
            .map_err(|refusal| needless(shared, &record, &fenced).unwrap_or(refusal))?,
    };
    let began = Instant::now();
    let heard = shared.inventory().heard(&record.blueprint, &shared.bars().map_err(store_failed)?);
    let mut ours = own::ours(&record.blueprint, &heard.instances);
    own::add_left(&mut ours, &record.remnants);
    let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
    let last = target(&record, &lives).map(|ended| &ended.life.blueprint);
    let (answers, appraised, trash) = tokio::join!(
        shared.preflight(&draft.spec, draft.offset.get(), &ours),
        shared.appraise(&record.blueprint),
        shared.rummage(last.map(Blueprint::hosts).unwrap_or_default(), Some(record.blueprint.cluster_id)),
    );
    let preflight_micros = micros(began.elapsed());
    let server = answers.values().find_map(|answer| preflight::server_of(answer.survey.as_ref().ok()?).ok());
    let mut findings = draft.placement.findings.clone();
    if draft.back.is_none() {
        findings.extend(plan::lint(&draft.spec, &draft.placement));
        findings.extend(plan::doors(&draft.spec));
    }
    let bars = shared.bars().map_err(store_failed)?;
    let offered = planning::offered(shared, &draft.spec);
    findings.extend(preflight::judge(&draft.spec, &answers, &offered, &bars, draft.offset.get()));
    findings.extend(moved(shared, draft.back.as_ref()));
    findings.extend(too_old(shared, &record, &draft));
    let away = away(shared, &record, &fenced, draft.back.as_ref()).map_err(store_failed)?;
    let in_place = in_place(&record, draft.becomes);
    let question = doomed::Question {
        blueprint: &record.blueprint,
        spec: &record.spec,
        next: &draft.spec,
        becomes: draft.becomes,
        fenced: &fenced,
        away: &away,
        even_if_serving: request.even_if_serving,
        undo: draft.back.as_ref().map(|blueprint| doomed::Undo { blueprint, trash: &trash, in_place: &in_place }),
        bus_offset: draft.offset.get(),
        server: server.as_ref().map(|server| server.version),
        supersedes,
        buries: last.filter(|_| draft.back.is_none()).and_then(|last| buried(&record, last, &trash)),
        appraisals: &appraised,
    };
    findings.extend(doomed::findings(&question));
    findings.sort();
    findings.dedup();
    let facts = facts(shared, &draft.spec);
    let sites = shared.inventory().sites();
    let losses = loss::losses(&draft.placement);
    let made = plan::make(&Ingredients {
        spec: &draft.spec,
        placement: &draft.placement,
        findings: &findings,
        server: server.as_ref(),
        facts: &facts,
        advice: loss::advice(&draft.spec, &sites, &losses).filter(|_| draft.back.is_none()),
        now_ms: unix_ms(),
        preflight_micros,
        rebuild: Some(doomed::plan(&question)),
    });
    shared.ledger.write(|write| write.plan(&made)).map_err(store_failed)?;
    Ok(wire::PlanResponse { plan: Some(made), existing: None })
}

fn fenced(shared: &Shared, request: &wire::PlanRebuildRequest) -> Result<BTreeSet<HostName>, Failure> {
    let read = |name: &String| {
        let host = name.parse().map_err(|error| Failure::invalid(format!("fence_missing: {error}")))?;
        if !shared.knows(&host)? {
            return Err(crate::safeguard::unknown_host(name));
        }
        Ok(host)
    };
    request.fence_missing.iter().map(read).collect()
}

/// Says of a fenced host that it is there, if one is.
fn needless(shared: &Shared, record: &ClusterRecord, fenced: &BTreeSet<HostName>) -> Option<Failure> {
    let bars = shared.bars().ok()?;
    let host = fenced.iter().find(|host| shared.inventory().away(host, &bars).is_none())?;
    let finding = doomed::fence_live(host, &record.blueprint.cluster);
    Some(Failure::new(Reason::PreflightFailed, format!("{}; nothing was changed", finding.message)).hint(finding.cure))
}

/// The life that was set aside last, as it was.
fn undone(shared: &Shared, record: &ClusterRecord, request: &wire::PlanRebuildRequest) -> Result<Draft, Failure> {
    if request.spec.is_some() || !request.fence_missing.is_empty() {
        return Err(Failure::invalid("undo: puts back what was there; neither spec nor fence_missing go with it"));
    }
    let name = &record.blueprint.cluster;
    let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
    let Some(ended) = target(record, &lives) else {
        let message = format!("no earlier life of cluster {name} was set aside; nothing was changed");
        return Err(Failure::new(Reason::NothingToUndo, message).hint(format!("muster trash {name}")));
    };
    let back = ended.life.blueprint.clone();
    Ok(Draft {
        spec: ended.life.spec.clone(),
        becomes: back.incarnation,
        placement: doomed::placement(&back).ok_or_else(|| store_failed(damaged(&back)))?,
        offset: offset_of(&back),
        back: Some(back),
    })
}

fn damaged(back: &Blueprint) -> LedgerError {
    LedgerError::Damaged(format!("the blueprint of life {} of {}", back.incarnation, back.cluster))
}

fn drafted(
    shared: &Shared,
    record: &ClusterRecord,
    request: &wire::PlanRebuildRequest,
    fenced: &BTreeSet<HostName>,
) -> Result<Draft, Failure> {
    let name = &record.blueprint.cluster;
    let spec = match &request.spec {
        Some(spec) => Spec::try_from(spec.clone()).map_err(|error| Failure::invalid(error.to_string()))?,
        None => record.spec.clone(),
    };
    if spec.parts().name != *name {
        let message = format!("the spec is of cluster {}, and what is to be rebuilt is {name}", spec.parts().name);
        return Err(Failure::new(Reason::SpecRefused, message).hint("give it the file of this cluster"));
    }
    let spec = doomed::without(&spec, fenced)
        .map_err(|error| Failure::new(Reason::SpecRefused, format!("without the fenced hosts: {error}")))?;
    let sites: BTreeMap<HostName, Site> = shared.inventory().sites();
    let placement = placement::place(&spec, &sites)?;
    let lives = shared.ledger.lives(record.blueprint.cluster_id).map_err(store_failed)?;
    let seats: Vec<_> = placement.seats().map(|seat| (seat.host.clone(), seat.port)).collect();
    let others = shared.ledger.clusters().map_err(store_failed)?;
    let others = others.iter().filter(|other| other.blueprint.cluster != *name);
    // Whoever was forgotten is believed to be gone for good.
    let quarantined = record
        .remnants
        .iter()
        .filter(|remnant| !remnant.forgotten && !record.blueprint.hosts().contains(&remnant.host));
    // Bus ports on which somebody who is not there listens, wherever that is: his peers must not be found there.
    let theirs =
        quarantined.map(|remnant| remnant.bus_port.saturating_sub(remnant.port.get())).collect::<BTreeSet<_>>();
    let taken = others.flat_map(ClusterRecord::listens).collect();
    let present = offset_of(&record.blueprint);
    let offset = rebuild::offset(&seats, present, !fenced.is_empty(), &theirs, &taken).ok_or_else(|| {
        let message = "no bus ports are left that nobody else may be listening on";
        Failure::new(Reason::SpecRefused, message).hint(format!(
            "muster status {name} names the quarantined ones: bring their hosts back, or where one is gone for good: \
                 muster host remove HOST"
        ))
    })?;
    Ok(Draft { spec, becomes: next_incarnation(record, &lives), placement, offset, back: None })
}

/// The life that an undo brings back now, if something is left of it: the present one takes its place when it ends, if
/// it has been a cluster.
fn buried(record: &ClusterRecord, last: &Blueprint, trash: &doomed::Trash) -> Option<Incarnation> {
    let life = last.incarnation;
    let of = |found: &wire::RummageResult| found.directories.iter().any(|it| it.incarnation == life.0);
    let left = trash.values().any(|found| found.as_ref().is_ok_and(of));
    (left && rebuild::has_lived(record)).then_some(life)
}

/// Why hosts are not there, of those that have something of either life.
fn away(
    shared: &Shared,
    record: &ClusterRecord,
    fenced: &BTreeSet<HostName>,
    back: Option<&Blueprint>,
) -> Result<BTreeMap<HostName, String>, LedgerError> {
    let returning = back.map(Blueprint::hosts).unwrap_or_default();
    let hosts: BTreeSet<_> = record.hosts().into_iter().chain(returning).chain(fenced.iter().cloned()).collect();
    let bars = shared.bars()?;
    let inventory = shared.inventory();
    Ok(hosts.into_iter().filter_map(|host| Some((host.clone(), inventory.away(&host, &bars)?))).collect())
}

/// Where directories of a life may still be in place: it was on its way out, and not all of it was set aside.
pub(super) fn in_place(record: &ClusterRecord, life: Incarnation) -> BTreeSet<(HostName, Port)> {
    let left = record.remnants.iter().filter(|remnant| remnant.former.incarnation == life);
    left.map(|remnant| (remnant.host.clone(), remnant.port)).collect()
}

fn facts(shared: &Shared, spec: &Spec) -> BTreeMap<HostName, BTreeMap<String, String>> {
    let inventory = shared.inventory();
    spec.parts().hosts.iter().map(|host| (host.name.clone(), inventory.facts(&host.name))).collect()
}

/// Hosts whose agents are too old, of those that have something of it or will.
fn too_old(shared: &Shared, record: &ClusterRecord, draft: &Draft) -> Vec<Finding> {
    let inventory = shared.inventory();
    let begins = draft.spec.parts().hosts.iter().map(|host| host.name.clone());
    let hosts: BTreeSet<_> = record.hosts().into_iter().chain(begins).collect();
    hosts.iter().filter_map(|host| doomed::too_old(host, &inventory.get(host)?.hello)).collect()
}

/// Nodes that come back know each other by address: one that its host does not have any more leads nowhere.
fn moved(shared: &Shared, back: Option<&Blueprint>) -> Vec<Finding> {
    let inventory = shared.inventory();
    let one = |member: &muster_proto::Member| {
        let now = inventory.get(&member.host)?.hello.address;
        (now != member.address).then(|| {
            let message = format!("what comes back there knows it as {}, and it announces {now} now", member.address);
            Finding::fatal("ADDRESS_CHANGED", member.host.to_string(), message)
                .on(&member.host)
                .cure(format!("set `address` in the agent's config on {} back, or rebuild anew", member.host))
        })
    };
    back.iter().flat_map(|back| back.members.iter().filter_map(one)).collect()
}
