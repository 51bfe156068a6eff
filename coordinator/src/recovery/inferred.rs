//! A spec, as far as a blueprint and what hosts were told say it: for clusters that were formed before hosts were told
//! the spec itself.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{
    Auth, ClusterAssignment, HostName, InstanceTls, Port, PortSet, Spec, SpecHost, Tls, Users,
    acl::{Acl, AclUser, DEFAULT_RULES},
    spec::{SpecError, SpecParts},
};

use crate::credentials::{ADMIN, DEFAULT, REPLICA};

/// The simplest one that the same cluster could have been made from.
pub fn spec(told: &ClusterAssignment) -> Result<Spec, SpecError> {
    let mut hosts: BTreeMap<HostName, Vec<Port>> = BTreeMap::new();
    for member in &told.members {
        hosts.entry(member.host.clone()).or_default().push(member.port);
    }
    let masters = told.members.iter().filter(|member| member.role.master().is_none()).count();
    let by_default = told.members.len() / (usize::try_from(told.replicas).unwrap_or(usize::MAX).saturating_add(1));
    let parts = SpecParts {
        name: told.cluster.clone(),
        replicas: told.replicas,
        masters: (masters != by_default).then(|| u32::try_from(masters).unwrap_or(u32::MAX)),
        hosts: hosts
            .into_iter()
            .map(|(name, ports)| SpecHost { name, ports: PortSet::new(ports).unwrap_or_default() })
            .collect(),
        settings: told.settings.clone(),
        allow_shared_host: shares_hosts(told),
        limits: told.limits,
        auth: told.users.as_ref().map_or(Auth::None, auth),
        tls: match &told.tls {
            None => Tls::Off,
            Some(InstanceTls::Issued { .. }) => Tls::Issued,
            Some(InstanceTls::Files(files)) => Tls::Files(files.clone()),
        },
    };
    Spec::new(parts)
}

fn shares_hosts(told: &ClusterAssignment) -> bool {
    let places: BTreeSet<_> = told.members.iter().map(|member| (member.shard, &member.host)).collect();
    places.len() < told.members.len()
}

/// Whether the passwords of the operator's own users were given or drawn is not told: they are taken for given, so that
/// no rotation takes one away that Muster did not draw.
fn auth(users: &Users) -> Auth {
    let default = users.users.iter().find(|user| user.name == DEFAULT).map(|user| user.rules.clone());
    let others = users.users.iter().filter(|user| ![DEFAULT, ADMIN, REPLICA].contains(&user.name.as_str()));
    let user = |user: &muster_proto::acl::RedisUser| {
        let name = user.name.parse().ok()?;
        Some(AclUser { name, rules: user.rules.clone(), passwords: user.passwords.clone() })
    };
    Auth::Passwords(Acl {
        default_rules: default.filter(|rules| rules.as_str() != DEFAULT_RULES),
        users: others.filter_map(user).collect(),
    })
}
