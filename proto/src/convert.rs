//! The only way between what is on the wire and what we believe.
//!
//! To the wire nothing can fail. From the wire everything can, and the error names the field the way the .proto files
//! do: `assignment.clusters[0].topology[3].port: port 70000 leaves no room for its bus port`.

mod acl;
mod limits;
mod report;

use std::{collections::BTreeSet, fmt::Display, str::FromStr, time::Duration};

use prost::Message as _;

use crate::{
    Auth, ClusterAssignment, Former, HostAssignment, Incarnation, InstanceAssignment, InstanceTls, Life, Member,
    NodeId, Port, PortSet, Role, Setting, Sha256, SlotRange, Spec, SpecHost, Users, Want,
    ports::PortError,
    printable,
    slots::{SlotError, normal},
    spec::SpecParts,
    wire,
};

/// A field that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct FieldError {
    /// Its path.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

type Result<T> = std::result::Result<T, FieldError>;

fn wrong(field: &str, what: impl Display) -> FieldError {
    FieldError { field: field.to_owned(), what: printable(&what.to_string()) }
}

fn inside(parent: &str) -> impl Fn(FieldError) -> FieldError + '_ {
    move |error| FieldError { field: format!("{parent}.{}", error.field), what: error.what }
}

fn word<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| wrong(field, error))
}

fn port(field: &str, number: u32) -> Result<Port> {
    Port::try_from(number).map_err(|error| wrong(field, error))
}

fn plain_port(field: &str, number: u32) -> Result<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| wrong(field, format!("{number} is not a port")))
}

fn sha256(field: &str, bytes: &[u8]) -> Result<Sha256> {
    bytes.try_into().map(Sha256).map_err(|_| wrong(field, format!("{} bytes are no sha256", bytes.len())))
}

fn each<W, T>(field: &str, list: Vec<W>, read: impl Fn(W) -> Result<T>) -> Result<Vec<T>> {
    list.into_iter().enumerate().map(|(at, item)| read(item).map_err(inside(&format!("{field}[{at}]")))).collect()
}

fn port_set(field: &str, numbers: Vec<u32>) -> Result<PortSet> {
    let ports = numbers.into_iter().map(|number| port(field, number)).collect::<Result<Vec<_>>>()?;
    PortSet::new(ports).map_err(|error| wrong(field, error))
}

fn numbers(ports: &PortSet) -> Vec<u32> {
    ports.iter().map(u32::from).collect()
}

/// What the other side says in its own words, which people are shown.
fn said(text: String) -> String {
    printable(&text)
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Milliseconds, for the wire.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds, for the wire.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

// --- slots, roles, members
// --------------------------------------------------------------------------------------------

impl From<SlotRange> for wire::SlotRange {
    fn from(range: SlotRange) -> Self {
        Self { first: range.first().into(), last: range.last().into() }
    }
}

impl TryFrom<wire::SlotRange> for SlotRange {
    type Error = FieldError;
    fn try_from(range: wire::SlotRange) -> Result<Self> {
        let end = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        SlotRange::new(end(range.first), end(range.last))
            .map_err(|_| wrong("last", SlotError(format!("{}-{}", range.first, range.last))))
    }
}

fn role(kind: i32, slots: Vec<wire::SlotRange>, master: &str) -> Result<Role> {
    match wire::Role::try_from(kind) {
        Ok(wire::Role::Master) => Ok(Role::Master { slots: normal(each("slots", slots, SlotRange::try_from)?) }),
        Ok(wire::Role::Replica) => Ok(Role::Replica { master: word("master", master)? }),
        Ok(wire::Role::Unspecified) | Err(_) => Err(wrong("role", format!("{kind} is neither master nor replica"))),
    }
}

fn wire_role(role: &Role) -> (wire::Role, Vec<wire::SlotRange>, String) {
    match role {
        Role::Master { slots } => {
            (wire::Role::Master, slots.iter().map(|range| (*range).into()).collect(), String::new())
        }
        Role::Replica { master } => (wire::Role::Replica, Vec::new(), master.to_string()),
    }
}

impl From<&Member> for wire::Member {
    fn from(member: &Member) -> Self {
        let (role, slots, master) = wire_role(&member.role);
        Self {
            node_id: member.node_id.to_string(),
            address: member.address.to_string(),
            port: member.port.into(),
            bus_port: member.bus_port.into(),
            host: member.host.to_string(),
            role: role.into(),
            slots,
            master,
            config_epoch: member.config_epoch,
            shard: member.shard,
            shard_id: member.shard_id.to_string(),
        }
    }
}

impl TryFrom<wire::Member> for Member {
    type Error = FieldError;
    fn try_from(member: wire::Member) -> Result<Self> {
        Ok(Self {
            node_id: word("node_id", &member.node_id)?,
            host: word("host", &member.host)?,
            address: word("address", &member.address)?,
            port: port("port", member.port)?,
            bus_port: plain_port("bus_port", member.bus_port)?,
            role: role(member.role, member.slots, &member.master)?,
            shard: member.shard,
            shard_id: word("shard_id", &member.shard_id)?,
            config_epoch: member.config_epoch,
        })
    }
}

// --- spec
// -------------------------------------------------------------------------------------------------------------

impl From<&Setting> for wire::Setting {
    fn from(setting: &Setting) -> Self {
        Self { key: setting.key.clone(), value: setting.value.clone() }
    }
}

impl From<wire::Setting> for Setting {
    fn from(setting: wire::Setting) -> Self {
        Self { key: setting.key, value: setting.value }
    }
}

impl From<&Spec> for wire::Spec {
    fn from(spec: &Spec) -> Self {
        let spec = spec.parts();
        Self {
            name: spec.name.to_string(),
            replicas: spec.replicas,
            masters: spec.masters.unwrap_or(0),
            hosts: spec
                .hosts
                .iter()
                .map(|host| wire::SpecHost { name: host.name.to_string(), ports: numbers(&host.ports) })
                .collect(),
            settings: spec.settings.iter().map(wire::Setting::from).collect(),
            allow_shared_host: spec.allow_shared_host,
            auth: Some((&spec.auth).into()),
            tls: Some((&spec.tls).into()),
            limits: limits::wire(spec.limits),
        }
    }
}

impl TryFrom<wire::Spec> for Spec {
    type Error = FieldError;
    fn try_from(spec: wire::Spec) -> Result<Self> {
        let host = |host: wire::SpecHost| {
            Ok(SpecHost { name: word("name", &host.name)?, ports: port_set("ports", host.ports)? })
        };
        let parts = SpecParts {
            name: word("name", &spec.name)?,
            replicas: spec.replicas,
            masters: Some(spec.masters).filter(|masters| *masters > 0),
            hosts: each("hosts", spec.hosts, host)?,
            settings: spec.settings.into_iter().map(Setting::from).collect(),
            allow_shared_host: spec.allow_shared_host,
            auth: Auth::try_from(spec.auth.unwrap_or_default()).map_err(inside("auth"))?,
            tls: spec.tls.unwrap_or_default().into(),
            limits: limits::read(spec.limits)?,
        };
        Spec::new(parts).map_err(|error| wrong("spec", error))
    }
}

// --- assignment
// -------------------------------------------------------------------------------------------------------

impl From<&HostAssignment> for wire::HostAssignment {
    fn from(assignment: &HostAssignment) -> Self {
        Self {
            host: assignment.host.to_string(),
            clusters: assignment.clusters.iter().map(wire::ClusterAssignment::from).collect(),
        }
    }
}

impl From<&ClusterAssignment> for wire::ClusterAssignment {
    fn from(cluster: &ClusterAssignment) -> Self {
        let want = |want| match want {
            Want::Prepared => wire::Want::Prepared,
            Want::Running => wire::Want::Running,
            Want::SetAside => wire::Want::SetAside,
            Want::Stopped => wire::Want::Stopped,
            Want::Retired => wire::Want::Retired,
        };
        Self {
            cluster: cluster.cluster.to_string(),
            cluster_id: cluster.cluster_id.to_string(),
            incarnation: cluster.incarnation.0,
            formed: cluster.formed,
            topology: cluster.members.iter().map(wire::Member::from).collect(),
            settings: cluster.settings.iter().map(wire::Setting::from).collect(),
            instances: cluster
                .instances
                .iter()
                .map(|instance| wire::InstanceAssignment {
                    port: instance.port.into(),
                    node_id: instance.node_id.to_string(),
                    life: instance.life.0,
                    want: want(instance.want).into(),
                    run: instance.run,
                    all_stopped: instance.all_stopped,
                    formers: instance.formers.iter().map(wire::Former::from).collect(),
                    restore: instance.restore,
                })
                .collect(),
            replicas: cluster.replicas,
            users: cluster.users.as_ref().map(wire::Users::from),
            tls: cluster.tls.as_ref().map(wire::InstanceTls::from),
            limits: limits::wire(cluster.limits),
            keeps: cluster.keeps.iter().map(wire::Former::from).collect(),
            spec: cluster.spec.clone(),
        }
    }
}

impl TryFrom<wire::HostAssignment> for HostAssignment {
    type Error = FieldError;
    fn try_from(assignment: wire::HostAssignment) -> Result<Self> {
        let clusters = each("clusters", assignment.clusters, ClusterAssignment::try_from)?;
        let mut ports = BTreeSet::new();
        for (nth, cluster) in clusters.iter().enumerate() {
            for (at, instance) in cluster.instances.iter().enumerate() {
                if !ports.insert(instance.port) {
                    let field = format!("clusters[{nth}].instances[{at}].port");
                    return Err(wrong(&field, PortError::Twice(instance.port)));
                }
            }
        }
        Ok(Self { host: word("host", &assignment.host)?, clusters })
    }
}

impl TryFrom<wire::ClusterAssignment> for ClusterAssignment {
    type Error = FieldError;
    fn try_from(cluster: wire::ClusterAssignment) -> Result<Self> {
        let members = each("topology", cluster.topology, Member::try_from)?;
        let known: BTreeSet<_> = members.iter().map(|member| member.node_id).collect();
        let instance = |instance: wire::InstanceAssignment| {
            let node_id: NodeId = word("node_id", &instance.node_id)?;
            let retired = instance.want == i32::from(wire::Want::Retired);
            if !retired && !known.contains(&node_id) {
                return Err(wrong("node_id", format!("{node_id} is not in the topology")));
            }
            Ok(InstanceAssignment {
                port: port("port", instance.port)?,
                node_id,
                life: Life(instance.life),
                want: match wire::Want::try_from(instance.want) {
                    Ok(wire::Want::Prepared) => Want::Prepared,
                    Ok(wire::Want::Running) => Want::Running,
                    Ok(wire::Want::SetAside) => Want::SetAside,
                    Ok(wire::Want::Stopped) => Want::Stopped,
                    Ok(wire::Want::Retired) => Want::Retired,
                    Ok(wire::Want::Unspecified) | Err(_) => {
                        return Err(wrong("want", format!("{} is not known here", instance.want)));
                    }
                },
                run: instance.run,
                all_stopped: instance.all_stopped,
                formers: each("formers", instance.formers, Former::try_from)?,
                restore: instance.restore,
            })
        };
        Ok(Self {
            cluster: word("cluster", &cluster.cluster)?,
            cluster_id: word("cluster_id", &cluster.cluster_id)?,
            incarnation: Incarnation(cluster.incarnation),
            formed: cluster.formed,
            settings: cluster.settings.into_iter().map(Setting::from).collect(),
            instances: each("instances", cluster.instances, instance)?,
            replicas: cluster.replicas,
            members,
            users: cluster.users.map(Users::try_from).transpose().map_err(inside("users"))?,
            tls: cluster.tls.map(InstanceTls::try_from).transpose().map_err(inside("tls"))?,
            limits: limits::read(cluster.limits)?,
            keeps: each("keeps", cluster.keeps, Former::try_from)?,
            spec: cluster.spec,
        })
    }
}

impl From<&Former> for wire::Former {
    fn from(former: &Former) -> Self {
        Self {
            operation: former.operation.to_string(),
            incarnation: former.incarnation.0,
            life: former.life.0,
            node_id: former.node_id.to_string(),
        }
    }
}

impl TryFrom<wire::Former> for Former {
    type Error = FieldError;
    fn try_from(former: wire::Former) -> Result<Self> {
        Ok(Self {
            operation: word("operation", &former.operation)?,
            incarnation: Incarnation(former.incarnation),
            life: Life(former.life),
            node_id: word("node_id", &former.node_id)?,
        })
    }
}

impl HostAssignment {
    /// The document of a `Desired`, and its hash.
    pub fn encode(&self) -> (Vec<u8>, Sha256) {
        let document = wire::HostAssignment::from(self).encode_to_vec();
        let hash = Sha256::of(&document);
        (document, hash)
    }

    /// From the document of a `Desired`.
    pub fn decode(document: &[u8]) -> Result<Self> {
        wire::HostAssignment::decode(document)
            .map_err(|error| wrong("document", error))?
            .try_into()
            .map_err(inside("assignment"))
    }
}

#[cfg(test)]
mod tests;
