//! What agents say: hello, views, instances, reports.

use std::{net::IpAddr, time::Duration};

use super::{
    FieldError, Result, each, inside, millis, numbers, port, port_set, role, said, sha256, some, wire_role, word, wrong,
};
use crate::{
    Account, Condition, Generation, Incarnation, Life, Port, ServerVersion, Term,
    report::{Ask, Held, Hello, InstanceState, InstanceStatus, NodeView, PortUse, Report, Server},
    wire,
};

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
        Ok(Self { path: said(server.path), version })
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
            term: hello.term.0,
            pid: hello.pid,
            generation: hello.generation.0,
            held: hello.held.iter().map(wire::HeldCluster::from).collect(),
        }
    }
}

impl From<&Held> for wire::HeldCluster {
    fn from(held: &Held) -> Self {
        Self {
            cluster: held.cluster.to_string(),
            cluster_id: held.cluster_id.to_string(),
            incarnation: held.incarnation.0,
        }
    }
}

impl TryFrom<wire::HeldCluster> for Held {
    type Error = FieldError;
    fn try_from(held: wire::HeldCluster) -> Result<Self> {
        Ok(Self {
            cluster: word("cluster", &held.cluster)?,
            cluster_id: word("cluster_id", &held.cluster_id)?,
            incarnation: Incarnation(held.incarnation),
        })
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = FieldError;
    fn try_from(hello: wire::Hello) -> Result<Self> {
        Ok(Self {
            protocol: hello.protocol,
            agent_version: said(hello.agent_version),
            host: word("hello.host", &hello.host)?,
            address: word::<IpAddr>("hello.address", &hello.address)?,
            identity: word("hello.identity", &hello.identity)?,
            boot_id: said(hello.boot_id),
            ports: port_set("hello.ports", hello.ports)?,
            base_dir: said(hello.base_dir),
            rack: some(said(hello.rack)),
            zone: some(said(hello.zone)),
            term: Term(hello.term),
            pid: hello.pid,
            generation: Generation(hello.generation),
            held: each("hello.held", hello.held, Held::try_from)?,
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
            troubles: view.troubles.into_iter().map(said).collect(),
            keys: view.keys,
            config_epoch: view.config_epoch,
        })
    }
}

const STATES: [(InstanceState, wire::InstanceState); 9] = [
    (InstanceState::Absent, wire::InstanceState::Absent),
    (InstanceState::Prepared, wire::InstanceState::Prepared),
    (InstanceState::Starting, wire::InstanceState::Starting),
    (InstanceState::Running, wire::InstanceState::Running),
    (InstanceState::Stopping, wire::InstanceState::Stopping),
    (InstanceState::Stopped, wire::InstanceState::Stopped),
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
            account: Some(wire::Account::from(&status.account)),
            run: status.run,
            asks: status.asks.as_ref().map(wire::Ask::from),
        }
    }
}

impl From<&Ask> for wire::Ask {
    fn from(ask: &Ask) -> Self {
        Self { nonce: ask.nonce.to_string(), node_id: ask.node_id.to_string(), life: ask.life.0 }
    }
}

impl TryFrom<wire::Ask> for Ask {
    type Error = FieldError;
    fn try_from(ask: wire::Ask) -> Result<Self> {
        let (nonce, node_id) = (word("nonce", &ask.nonce)?, word("node_id", &ask.node_id)?);
        Ok(Self { nonce, node_id, life: Life(ask.life) })
    }
}

impl From<&Account> for wire::Account {
    fn from(account: &Account) -> Self {
        Self {
            condition: account.condition.map(Condition::word).unwrap_or_default().to_owned(),
            since_ms: millis(account.since),
            next_try_ms: account.next_try.map(millis),
            standing: account.standing.clone(),
            evidence: account.evidence.clone(),
        }
    }
}

impl From<wire::Account> for Account {
    fn from(account: wire::Account) -> Self {
        Self {
            condition: Condition::from_word(&account.condition),
            since: Duration::from_millis(account.since_ms),
            next_try: account.next_try_ms.map(Duration::from_millis),
            standing: said(account.standing),
            evidence: account.evidence.into_iter().map(said).collect(),
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
            reason: said(status.reason),
            pid: Some(status.pid).filter(|pid| *pid > 0),
            view: status.view.map(NodeView::try_from).transpose().map_err(inside("view"))?,
            view_age: Duration::from_millis(status.view_age_ms),
            starts: status.starts,
            life: Life(status.life),
            node_id: word("node_id", &status.node_id)?,
            account: status.account.map(Account::from).unwrap_or_default(),
            run: status.run,
            asks: status.asks.map(Ask::try_from).transpose().map_err(inside("asks"))?,
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
            server: report.server.as_ref().ok().map(wire::Server::from),
            server_error: report.server.as_ref().err().cloned().unwrap_or_default(),
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
            refusal: some(said(report.refusal)),
            instances: each("report.instances", report.instances, InstanceStatus::try_from)?,
            ports: each("report.ports", report.ports, one)?,
            server: match report.server {
                Some(server) => Ok(server.try_into().map_err(inside("report.server"))?),
                None => Err(some(said(report.server_error)).unwrap_or_else(|| "no server was reported".into())),
            },
        })
    }
}
