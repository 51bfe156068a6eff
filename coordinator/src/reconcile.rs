//! What every host should be told: a function of the clusters and their goals.

use std::collections::BTreeMap;

use muster_proto::{HostAssignment, HostName, Want};

use crate::{blueprint::Blueprint, formation::Goal};

/// A cluster and how far it should go.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// Who is what.
    pub blueprint: &'a Blueprint,
    /// How far.
    pub goal: Goal,
    /// Proved once.
    pub formed: bool,
}

/// The whole wish for each of these hosts. A host that no cluster names gets an empty one, so that it can forget.
pub fn assignments<'a>(
    hosts: impl IntoIterator<Item = &'a HostName>,
    clusters: &[Told],
) -> BTreeMap<HostName, HostAssignment> {
    let one = |host: &HostName| HostAssignment {
        host: host.clone(),
        clusters: clusters
            .iter()
            .filter_map(|told| told.blueprint.assignment(host, want(told.goal), told.formed))
            .collect(),
    };
    hosts.into_iter().map(|host| (host.clone(), one(host))).collect()
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
