//! Servers that have been a cluster before: their roles are their own, wherever failovers have put them. They must
//! agree with each other, and serve everything, but need not look like the blueprint.

use std::collections::BTreeMap;

use muster_proto::{HostName, InstanceStatus, Member, NodeView, Port, SLOTS, slots::normal};

use super::{Culprit, Heard, Phase, culprit, unanswering};
use crate::blueprint::Blueprint;

/// Computes the phase of those that are started again.
pub fn resumed(blueprint: &Blueprint, heard: &Heard) -> Phase {
    let members = blueprint.members.iter();
    let unsettled: Vec<_> =
        members.filter_map(|member| culprit(member, heard, &|_, status| unanswering(status))).collect();
    if !unsettled.is_empty() {
        return Phase::Start { unsettled };
    }
    let unsettled = disagreeing(blueprint, heard);
    if unsettled.is_empty() { Phase::Prove } else { Phase::Verify { unsettled } }
}

/// A master as it says itself, and how many replicas say that they copy it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// Where it is.
    pub host: HostName,
    /// Its client port.
    pub port: Port,
    /// How many.
    pub replicas: usize,
}

/// Who serves slots at first, as the blueprint says, each with the replicas that every shard has at least.
pub fn planned(blueprint: &Blueprint) -> Vec<Leader> {
    let replicas = usize::try_from(blueprint.replicas).unwrap_or(usize::MAX);
    let masters = blueprint.members.iter().filter(|member| member.role.master().is_none());
    masters.map(|member| Leader { host: member.host.clone(), port: member.port, replicas }).collect()
}

/// Who serves slots now, as they say themselves.
pub fn leaders(heard: &Heard) -> Vec<Leader> {
    let views: Vec<_> = heard.instances.values().filter_map(|status| Some((status, status.view.as_ref()?))).collect();
    let leads = |(status, view): &(&InstanceStatus, &NodeView)| {
        let copies = |other: &&(&InstanceStatus, &NodeView)| other.1.role.master() == Some(view.node_id);
        let replicas = views.iter().filter(copies).count();
        let leads = !view.role.slots().is_empty();
        leads.then(|| Leader { host: status.host.clone(), port: status.port, replicas })
    };
    views.iter().filter_map(leads).collect()
}

/// Those that do not see what the others see, or do not serve as they should.
pub fn disagreeing(blueprint: &Blueprint, heard: &Heard) -> Vec<Culprit> {
    let mut seen = BTreeMap::<_, usize>::new();
    for view in heard.instances.values().filter_map(|status| status.view.as_ref()) {
        *seen.entry(view.digest.0).or_default() += 1;
    }
    let common = seen.into_iter().max_by_key(|(_, times)| *times).map(|(digest, _)| digest);
    let judge = |member: &Member, status: &InstanceStatus| {
        let view = status.view.as_ref()?;
        Some((missing(blueprint, member, view, Some(view.digest.0) == common, heard)?, false))
    };
    let culprits: Vec<_> = blueprint.members.iter().filter_map(|member| culprit(member, heard, &judge)).collect();
    if culprits.is_empty() { unserved(blueprint, heard).into_iter().collect() } else { culprits }
}

fn missing(blueprint: &Blueprint, member: &Member, view: &NodeView, agrees: bool, heard: &Heard) -> Option<String> {
    if view.node_id != member.node_id {
        return Some(format!("another node answers there: {}", view.node_id));
    }
    if let Some(trouble) = view.troubles.first() {
        return Some(format!("thinks that {trouble}"));
    }
    let nodes = blueprint.members.len();
    if usize::try_from(view.known_nodes).unwrap_or(0) != nodes {
        return Some(format!("knows {} of {nodes} nodes", view.known_nodes));
    }
    if !view.cluster_ok {
        return Some("cluster_state is not ok yet (a master waits 2 s before it serves)".into());
    }
    if !agrees {
        return Some("sees another topology than most of the others".into());
    }
    let copies =
        |status: &&InstanceStatus| status.view.as_ref().is_some_and(|other| other.role.master() == Some(view.node_id));
    let replicas = heard.instances.values().filter(copies).count();
    match view.role.master() {
        Some(_) if !view.link_up => Some("its link to its master is not up".into()),
        None if usize::try_from(view.online_replicas).unwrap_or(0) < replicas => {
            Some(format!("{} of {replicas} replicas are in sync", view.online_replicas))
        }
        Some(_) | None => None,
    }
}

/// Slots that nobody says he serves. Who would is not known, so the cluster is named.
fn unserved(blueprint: &Blueprint, heard: &Heard) -> Option<Culprit> {
    let views = heard.instances.values().filter_map(|status| status.view.as_ref());
    let ranges = normal(views.flat_map(|view| view.role.slots().to_vec()).collect());
    let served: u32 = ranges.iter().map(|range| u32::from(range.len())).sum();
    let name = blueprint.cluster.to_string();
    (served != u32::from(SLOTS)).then(|| {
        let why = format!("{} of {SLOTS} slots are served by nobody", u32::from(SLOTS) - served);
        Culprit { name, why, stuck: false }
    })
}
