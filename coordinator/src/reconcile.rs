//! What every host should be told: a function of the clusters and their goals.

use std::collections::BTreeMap;

use muster_proto::{ClusterAssignment, HostAssignment, HostName, Spec, Want, wire};
use prost::Message as _;

use crate::{blueprint::Blueprint, credentials::Credentials, formation::Goal, ledger::ClusterRecord, rolling::Duties};

/// A cluster and how far it should go.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// Who is what.
    pub blueprint: &'a Blueprint,
    /// How far.
    pub goal: Goal,
    /// Proved once.
    pub formed: bool,
    /// What operators want of its instances; of a formed one.
    pub duties: &'a Duties,
    /// What the operator wanted; hosts keep it for a coordinator that has lost its store.
    pub spec: Option<&'a Spec>,
    /// What says who may log in and what is spoken; none for one that is open and plain.
    pub access: Option<(&'a Spec, &'a Credentials)>,
}

impl<'a> From<&'a ClusterRecord> for Told<'a> {
    fn from(record: &'a ClusterRecord) -> Self {
        Self {
            blueprint: &record.blueprint,
            goal: record.goal,
            formed: record.formed_ms.is_some(),
            duties: &record.duties,
            spec: Some(&record.spec),
            access: record.credentials.as_ref().map(|credentials| (&record.spec, credentials)),
        }
    }
}

/// The whole wish for each of these hosts. A host that no cluster names gets an empty one, so that it can forget.
pub fn assignments<'a>(
    hosts: impl IntoIterator<Item = &'a HostName>,
    clusters: &[Told],
) -> BTreeMap<HostName, HostAssignment> {
    let one = |host: &HostName| HostAssignment {
        host: host.clone(),
        clusters: clusters.iter().filter_map(|told| assignment(host, told)).collect(),
    };
    hosts.into_iter().map(|host| (host.clone(), one(host))).collect()
}

fn assignment(host: &HostName, told: &Told) -> Option<ClusterAssignment> {
    let mut assignment = told.blueprint.assignment(host, want(told.goal), told.formed)?;
    for instance in assignment.instances.iter_mut().filter(|_| told.formed) {
        let Some(duty) = told.duties.get(&instance.node_id) else { continue };
        (instance.run, instance.all_stopped) = (duty.run, duty.all_stopped);
        if duty.stopped {
            instance.want = Want::Stopped;
        }
    }
    let users = told.access.and_then(|(spec, credentials)| credentials.users(spec));
    let tls = told.access.and_then(|(spec, credentials)| credentials.tls(spec));
    let spec = told.spec.map(|spec| wire::Spec::from(spec).encode_to_vec()).unwrap_or_default();
    Some(ClusterAssignment { users, tls, spec, ..assignment })
}

fn want(goal: Goal) -> Want {
    match goal {
        Goal::Prepared => Want::Prepared,
        Goal::Running => Want::Running,
        Goal::SetAside => Want::SetAside,
    }
}

#[cfg(test)]
mod tests;
