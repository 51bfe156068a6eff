//! What every host should be told: a function of the clusters and their goals.

use std::collections::BTreeMap;

use muster_proto::{
    ClusterAssignment, Former, HostAssignment, HostName, InstanceAssignment, Life, OperationId, Port, Spec, Want, wire,
};
use prost::Message as _;

use crate::{
    blueprint::Blueprint,
    credentials::Credentials,
    formation::Goal,
    ledger::ClusterRecord,
    rebuild::{Remnant, Stage},
    rolling::Duties,
};

/// A cluster and how far it should go.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// Who is what.
    pub blueprint: &'a Blueprint,
    /// How far.
    pub goal: Goal,
    /// Proved once.
    pub formed: bool,
    /// What operators want of its instances; of a formed one, or one that was.
    pub duties: &'a Duties,
    /// What the operator wanted; hosts keep it for a coordinator that has lost its store.
    pub spec: Option<&'a Spec>,
    /// What says who may log in and what is spoken; none for one that is open and plain.
    pub access: Option<(&'a Spec, &'a Credentials)>,
    /// How far its rebuild is, if it has one.
    pub stage: Option<Stage>,
    /// Its directories have run before, and are put back.
    pub restores: bool,
    /// What earlier lives may have left in place.
    pub remnants: &'a [Remnant],
    /// The life that an undo is about to put back, and the undo.
    pub back: Option<(&'a Blueprint, OperationId)>,
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
            stage: record.stage(),
            restores: record.restores(),
            remnants: &record.remnants,
            back: record
                .rebuild
                .as_ref()
                .filter(|rebuild| rebuild.undo)
                .and_then(|rebuild| Some((&rebuild.next.as_ref()?.blueprint, rebuild.operation))),
        }
    }
}

impl<'a> Told<'a> {
    /// A cluster without passwords, duties and past, for those who ask only what its goal means.
    pub fn plain(blueprint: &'a Blueprint, goal: Goal, formed: bool, duties: &'a Duties) -> Self {
        Self {
            blueprint,
            goal,
            formed,
            duties,
            spec: None,
            access: None,
            stage: None,
            restores: false,
            remnants: &[],
            back: None,
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
    let mut assignment = told.blueprint.told(host, want(told.goal), told.formed);
    let mut left = left_on(host, told);
    for instance in &mut assignment.instances {
        instance.restore = told.restores;
        instance.formers = left.remove(&instance.port).unwrap_or_default();
        let duty = told.duties.get(&instance.node_id).filter(|_| told.formed || told.restores);
        if let Some(duty) = duty {
            (instance.run, instance.all_stopped) = (duty.run, duty.all_stopped);
        }
        if duty.is_some_and(|duty| duty.stopped) || told.stage == Some(Stage::Fence) {
            instance.want = Want::Stopped;
        }
    }
    assignment.instances.extend(left.into_iter().filter_map(retired));
    assignment.instances.sort_by_key(|instance| instance.port);
    assignment.keeps = told.back.map(|(back, operation)| coming_back(host, back, operation)).unwrap_or_default();
    if assignment.instances.is_empty() && assignment.keeps.is_empty() {
        return None;
    }
    let users = told.access.and_then(|(spec, credentials)| credentials.users(spec));
    let tls = told.access.and_then(|(spec, credentials)| credentials.tls(spec));
    let spec = told.spec.map(|spec| wire::Spec::from(spec).encode_to_vec()).unwrap_or_default();
    Some(ClusterAssignment { users, tls, spec, ..assignment })
}

/// What earlier lives may have left on a host, by port.
fn left_on(host: &HostName, told: &Told) -> BTreeMap<Port, Vec<Former>> {
    let mut ports = BTreeMap::<Port, Vec<Former>>::new();
    for remnant in told.remnants.iter().filter(|remnant| remnant.host == *host) {
        ports.entry(remnant.port).or_default().push(remnant.former.clone());
    }
    ports
}

/// What must stay in the trash of a host until it is put back.
fn coming_back(host: &HostName, back: &Blueprint, operation: OperationId) -> Vec<Former> {
    let (incarnation, life) = (back.incarnation, Life(back.incarnation.0));
    let here = back.members.iter().filter(|member| member.host == *host);
    here.map(|member| Former { operation, incarnation, life, node_id: member.node_id }).collect()
}

/// A port that the cluster has nothing at any more.
fn retired((port, formers): (Port, Vec<Former>)) -> Option<InstanceAssignment> {
    let last = formers.last()?;
    Some(InstanceAssignment {
        port,
        node_id: last.node_id,
        life: last.life,
        want: Want::Retired,
        run: 0,
        all_stopped: false,
        restore: false,
        formers,
    })
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
