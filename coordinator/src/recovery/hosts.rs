//! What becomes of each host, and what its directories say beside what was told.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{ClusterId, Generation, Held, HostName};

use super::{Cluster, Directory, Evidence, Host, Standing, Testimony, Told, list};
use crate::{
    estranged,
    finding::Finding,
    ledger::ClusterRecord,
    reconcile::{self, Told as Wish},
};

/// Judges every host that was heard, or that a cluster names.
pub fn hosts(evidence: &Evidence, clusters: &[Cluster], findings: &mut Vec<Finding>) -> BTreeMap<HostName, Host> {
    let records: Vec<_> = clusters.iter().map(|cluster| cluster.record.clone()).collect();
    let known = estranged::clusters(&records);
    let mut hosts: BTreeMap<_, _> = evidence
        .iter()
        .map(|(name, testimony)| (name.clone(), heard(name, testimony, &records, &known, findings)))
        .collect();
    for cluster in clusters {
        for name in cluster.record.blueprint.hosts() {
            findings.extend(member(&name, evidence.get(&name), cluster));
            let missing = Host { standing: Standing::Missing, generation: Generation(0), directories: 0, running: 0 };
            hosts.entry(name).or_insert(missing);
        }
    }
    hosts
}

fn heard(
    name: &HostName,
    testimony: &Testimony,
    records: &[ClusterRecord],
    known: &BTreeSet<Held>,
    findings: &mut Vec<Finding>,
) -> Host {
    let taken_up = |held: &Held| {
        let same = |own: &Held| (&own.cluster, own.cluster_id) == (&held.cluster, held.cluster_id);
        known.iter().any(|own| same(own) && own.incarnation >= held.incarnation)
    };
    let left: Vec<_> = testimony.told.clusters().iter().map(Held::from).filter(|held| !taken_up(held)).collect();
    let standing = if left.is_empty() {
        standing(name, testimony, records)
    } else {
        let names: Vec<_> = left.iter().map(|held| held.cluster.to_string()).collect();
        let message =
            format!("holds {}, which is not taken up: it is told nothing, and its servers go on", names.join(", "));
        findings.push(Finding::fatal("HOST_LEFT_ALONE", "agent", message).on(name));
        Standing::LeftAlone
    };
    if let Told::Unreadable(why) = &testimony.told {
        findings.push(Finding::warning("LEDGER_LOST", "ledger", format!("cannot be used: {why}")).on(name));
    }
    let running = testimony.directories.iter().filter(|directory| directory.pid.is_some()).count();
    Host { standing, generation: testimony.told.generation(), directories: testimony.directories.len(), running }
}

/// Whether what it will be told is what it has, to the byte.
fn standing(name: &HostName, testimony: &Testimony, records: &[ClusterRecord]) -> Standing {
    let wishes: Vec<_> = records.iter().map(Wish::from).collect();
    let wish = reconcile::assignments([name], &wishes).remove(name);
    let named = wish.as_ref().is_some_and(|wish| !wish.clusters.is_empty());
    match (&testimony.told, wish) {
        (Told::Orders { desired, .. }, Some(wish)) if desired.sha256 == wish.encode().1.0 => Standing::Same,
        (Told::Orders { .. }, _) => Standing::Anew,
        (Told::Nothing | Told::Unreadable(_), _) if named => Standing::Anew,
        (Told::Nothing | Told::Unreadable(_), _) => Standing::Idle,
    }
}

/// A host that a cluster names, and that does not say so itself.
fn member(name: &HostName, testimony: Option<&Testimony>, cluster: &Cluster) -> Option<Finding> {
    let blueprint = &cluster.record.blueprint;
    let by = list(&cluster.by);
    let here = blueprint.members.iter().filter(|member| member.host == *name).count();
    let instances = if here == 1 { "an instance".to_owned() } else { format!("{here} instances") };
    let names = format!("{instances} of {} by the ledgers of {by}", blueprint.cluster);
    let finding = |code, message: String| Some(Finding::warning(code, blueprint.cluster.as_str(), message).on(name));
    let Some(testimony) = testimony else {
        let message = format!(
            "was not heard, and has {names}; it is told so when it calls, unless it holds more; whether an operator \
             has stopped any of them is not known"
        );
        return finding("HOST_MISSING", message);
    };
    let told = testimony.told.clusters().iter().any(|told| told.cluster_id == blueprint.cluster_id);
    let stamped = testimony.directories.iter().any(|one| one.cluster.cluster_id == blueprint.cluster_id);
    match &testimony.told {
        _ if told => None,
        Told::Orders { .. } => {
            let also = if stamped { ", though its directories do" } else { "" };
            finding("HOST_DISAGREES", format!("has {names}, and its own ledger does not name it{also}"))
        }
        Told::Nothing | Told::Unreadable(_) => {
            let also = if stamped { "its directories say so too" } else { "there is no directory of it" };
            finding("LEDGER_LOST", format!("has {names}; its own ledger is lost, and {also}"))
        }
    }
}

/// What directories say that ledgers do not. `claimed` are the clusters that some ledger names.
pub fn stamps(evidence: &Evidence, clusters: &[Cluster], claimed: &BTreeSet<ClusterId>, findings: &mut Vec<Finding>) {
    let mut alone: BTreeMap<&Held, Vec<String>> = BTreeMap::new();
    for (host, testimony) in evidence {
        for directory in &testimony.directories {
            let id = directory.cluster.cluster_id;
            match clusters.iter().find(|cluster| cluster.record.blueprint.cluster_id == id) {
                Some(cluster) => findings.extend(stamp(host, directory, cluster)),
                None if claimed.contains(&id) => {}
                None => alone.entry(&directory.cluster).or_default().push(format!("{host}:{}", directory.port)),
            }
        }
    }
    for (held, places) in alone {
        let message = format!(
            "directories at {} are stamped for it ({}), and no ledger names it: it cannot be rebuilt from stamps \
             alone; its servers go on",
            places.join(", "),
            held.cluster_id
        );
        let cure = "bring in the agents of its other hosts, and try again";
        findings.push(Finding::fatal("STAMPS_ALONE", held.cluster.as_str(), message).cure(cure));
    }
}

fn stamp(host: &HostName, directory: &Directory, cluster: &Cluster) -> Option<Finding> {
    let blueprint = &cluster.record.blueprint;
    let fits = blueprint.members.iter().any(|member| {
        (&member.host, member.port, member.node_id) == (host, directory.port, directory.node_id)
            && directory.cluster.incarnation == blueprint.incarnation
    });
    (!fits).then(|| {
        let message = format!(
            "the directory is stamped for node {} of incarnation {}, and the ledgers of {} say otherwise; it is not \
             touched",
            directory.node_id.short(),
            directory.cluster.incarnation,
            list(&cluster.by)
        );
        Finding::warning("STAMP_DIFFERS", format!("port {}", directory.port), message).on(host)
    })
}
