//! The only way between what is on the wire and what we believe.
//!
//! To the wire nothing can fail. From the wire everything can, and the error names the field the way the .proto files
//! do: `assignment.clusters[0].topology[3].port: port 70000 leaves no room for its bus port`.

use std::{fmt::Display, net::IpAddr, str::FromStr, time::Duration};

use prost::Message as _;

use crate::{
    ClusterAssignment, Generation, HostAssignment, Incarnation, InstanceAssignment, Life, Member, NodeId, Port, PortSet,
    Role, ServerVersion, Setting, Sha256, SlotRange, Spec, SpecHost, Term, Want,
    report::{Hello, InstanceState, InstanceStatus, NodeView, PortUse, Report, Server},
    slots::normal,
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
    FieldError { field: field.to_owned(), what: what.to_string() }
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

// --- slots, roles, members --------------------------------------------------------------------------------------------

impl From<SlotRange> for wire::SlotRange {
    fn from(range: SlotRange) -> Self {
        Self { first: range.first().into(), last: range.last().into() }
    }
}

impl TryFrom<wire::SlotRange> for SlotRange {
    type Error = FieldError;
    fn try_from(range: wire::SlotRange) -> Result<Self> {
        let end = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        SlotRange::new(end(range.first), end(range.last)).map_err(|error| wrong("slots", error))
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
        Role::Master { slots } => (wire::Role::Master, slots.iter().map(|range| (*range).into()).collect(), String::new()),
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

// --- spec -------------------------------------------------------------------------------------------------------------

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
        };
        Spec::new(parts).map_err(|error| wrong("spec", error))
    }
}

// --- assignment -------------------------------------------------------------------------------------------------------

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
                })
                .collect(),
            replicas: cluster.replicas,
        }
    }
}

impl TryFrom<wire::HostAssignment> for HostAssignment {
    type Error = FieldError;
    fn try_from(assignment: wire::HostAssignment) -> Result<Self> {
        Ok(Self {
            host: word("host", &assignment.host)?,
            clusters: each("clusters", assignment.clusters, ClusterAssignment::try_from)?,
        })
    }
}

impl TryFrom<wire::ClusterAssignment> for ClusterAssignment {
    type Error = FieldError;
    fn try_from(cluster: wire::ClusterAssignment) -> Result<Self> {
        let members = each("topology", cluster.topology, Member::try_from)?;
        let instance = |instance: wire::InstanceAssignment| {
            let node_id: NodeId = word("node_id", &instance.node_id)?;
            if !members.iter().any(|member| member.node_id == node_id) {
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
                    Ok(wire::Want::Unspecified) | Err(_) => {
                        return Err(wrong("want", format!("{} is not known here", instance.want)));
                    }
                },
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

// --- hello and report -------------------------------------------------------------------------------------------------

impl From<&Server> for wire::Server {
    fn from(server: &Server) -> Self {
        Self {
            path: server.path.clone(),
            flavour: server.version.flavour.as_str().to_owned(),
            version: server.version.number(),
        }
    }
}

impl TryFrom<wire::Server> for Server {
    type Error = FieldError;
    fn try_from(server: wire::Server) -> Result<Self> {
        let version =
            ServerVersion::from_words(&server.flavour, &server.version).map_err(|error| wrong("version", error))?;
        Ok(Self { path: server.path, version })
    }
}

impl From<&Hello> for wire::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            protocol: hello.protocol,
            agent_version: hello.agent_version.clone(),
            host: hello.host.to_string(),
            address: hello.address.to_string(),
            identity: hello.identity.to_string(),
            boot_id: hello.boot_id.clone(),
            ports: numbers(&hello.ports),
            base_dir: hello.base_dir.clone(),
            rack: hello.rack.clone().unwrap_or_default(),
            zone: hello.zone.clone().unwrap_or_default(),
            server: hello.server.as_ref().ok().map(wire::Server::from),
            server_error: hello.server.as_ref().err().cloned().unwrap_or_default(),
            term: hello.term.0,
            pid: hello.pid,
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = FieldError;
    fn try_from(hello: wire::Hello) -> Result<Self> {
        Ok(Self {
            protocol: hello.protocol,
            agent_version: hello.agent_version,
            host: word("hello.host", &hello.host)?,
            address: word::<IpAddr>("hello.address", &hello.address)?,
            identity: word("hello.identity", &hello.identity)?,
            boot_id: hello.boot_id,
            ports: port_set("hello.ports", hello.ports)?,
            base_dir: hello.base_dir,
            rack: some(hello.rack),
            zone: some(hello.zone),
            server: match hello.server {
                Some(server) => Ok(server.try_into().map_err(inside("hello.server"))?),
                None => Err(some(hello.server_error).unwrap_or_else(|| "no server was reported".into())),
            },
            term: Term(hello.term),
            pid: hello.pid,
        })
    }
}

impl From<&NodeView> for wire::NodeView {
    fn from(view: &NodeView) -> Self {
        let (role, slots, master) = wire_role(&view.role);
        Self {
            node_id: view.node_id.to_string(),
            role: role.into(),
            master,
            slots,
            cluster_ok: view.cluster_ok,
            known_nodes: view.known_nodes,
            link_up: view.link_up,
            online_replicas: view.online_replicas,
            topology_digest: view.digest.0.to_vec(),
            nodes_text: view.nodes_text.clone().unwrap_or_default(),
            troubles: view.troubles.clone(),
            keys: view.keys,
            loading: view.loading,
            config_epoch: view.config_epoch,
        }
    }
}

impl TryFrom<wire::NodeView> for NodeView {
    type Error = FieldError;
    fn try_from(view: wire::NodeView) -> Result<Self> {
        Ok(Self {
            node_id: word("node_id", &view.node_id)?,
            role: role(view.role, view.slots, &view.master)?,
            cluster_ok: view.cluster_ok,
            known_nodes: view.known_nodes,
            link_up: view.link_up,
            online_replicas: view.online_replicas,
            digest: sha256("topology_digest", &view.topology_digest)?,
            nodes_text: some(view.nodes_text),
            troubles: view.troubles,
            keys: view.keys,
            loading: view.loading,
            config_epoch: view.config_epoch,
        })
    }
}

const STATES: [(InstanceState, wire::InstanceState); 8] = [
    (InstanceState::Absent, wire::InstanceState::Absent),
    (InstanceState::Prepared, wire::InstanceState::Prepared),
    (InstanceState::Starting, wire::InstanceState::Starting),
    (InstanceState::Running, wire::InstanceState::Running),
    (InstanceState::Stopping, wire::InstanceState::Stopping),
    (InstanceState::Down, wire::InstanceState::Down),
    (InstanceState::Blocked, wire::InstanceState::Blocked),
    (InstanceState::Unknown, wire::InstanceState::Unknown),
];

impl From<&InstanceStatus> for wire::InstanceStatus {
    fn from(status: &InstanceStatus) -> Self {
        let state = STATES.iter().find(|(ours, _)| *ours == status.state);
        Self {
            host: status.host.to_string(),
            address: status.address.to_string(),
            port: status.port.into(),
            cluster: status.cluster.to_string(),
            state: state.map_or(wire::InstanceState::Unspecified, |(_, theirs)| *theirs).into(),
            reason: status.reason.clone(),
            pid: status.pid.unwrap_or(0),
            view: status.view.as_ref().map(wire::NodeView::from),
            view_age_ms: millis(status.view_age),
            starts: status.starts,
            life: status.life.0,
            node_id: status.node_id.to_string(),
        }
    }
}

impl TryFrom<wire::InstanceStatus> for InstanceStatus {
    type Error = FieldError;
    fn try_from(status: wire::InstanceStatus) -> Result<Self> {
        let state = STATES.iter().find(|(_, theirs)| i32::from(*theirs) == status.state);
        Ok(Self {
            host: word("host", &status.host)?,
            address: word("address", &status.address)?,
            port: port("port", status.port)?,
            cluster: word("cluster", &status.cluster)?,
            // A newer agent may know a state that we don't: we do not know what that means.
            state: state.map_or(InstanceState::Unknown, |(ours, _)| *ours),
            reason: status.reason,
            pid: Some(status.pid).filter(|pid| *pid > 0),
            view: status.view.map(NodeView::try_from).transpose().map_err(inside("view"))?,
            view_age: Duration::from_millis(status.view_age_ms),
            starts: status.starts,
            life: Life(status.life),
            node_id: word("node_id", &status.node_id)?,
        })
    }
}

impl From<&Report> for wire::Report {
    fn from(report: &Report) -> Self {
        let port = |(port, usage): &(Port, PortUse)| {
            let (directory, cluster) = match usage {
                PortUse::Free => (wire::Directory::Free, String::new()),
                PortUse::Stamped(cluster) => (wire::Directory::Stamped, cluster.to_string()),
                PortUse::Foreign => (wire::Directory::Foreign, String::new()),
                PortUse::Unreadable => (wire::Directory::Unreadable, String::new()),
            };
            wire::PortStatus { port: (*port).into(), directory: directory.into(), cluster }
        };
        Self {
            received: report.received.0,
            accepted: report.accepted.0,
            converged: report.converged.0,
            refusal: report.refusal.clone().unwrap_or_default(),
            instances: report.instances.iter().map(wire::InstanceStatus::from).collect(),
            ports: report.ports.iter().map(port).collect(),
            term: report.term.0,
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = FieldError;
    fn try_from(report: wire::Report) -> Result<Self> {
        let one = |status: wire::PortStatus| {
            let usage = match wire::Directory::try_from(status.directory) {
                Ok(wire::Directory::Free) => PortUse::Free,
                Ok(wire::Directory::Stamped) => PortUse::Stamped(word("cluster", &status.cluster)?),
                Ok(wire::Directory::Foreign) => PortUse::Foreign,
                Ok(wire::Directory::Unreadable | wire::Directory::Unspecified) | Err(_) => PortUse::Unreadable,
            };
            Ok((port("port", status.port)?, usage))
        };
        Ok(Self {
            term: Term(report.term),
            received: Generation(report.received),
            accepted: Generation(report.accepted),
            converged: Generation(report.converged),
            refusal: some(report.refusal),
            instances: each("report.instances", report.instances, InstanceStatus::try_from)?,
            ports: each("report.ports", report.ports, one)?,
        })
    }
}
