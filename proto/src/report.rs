//! What an agent says of its host: who it is, and what its instances are doing.

use std::{net::IpAddr, time::Duration};

use uuid::Uuid;

use crate::{
    Account, ClusterAssignment, ClusterId, ClusterName, Generation, HostName, Incarnation, Life, NodeId, Port, PortSet,
    Role, ServerVersion, Sha256, Term,
};

/// A server binary on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub path: String,
    /// What it is.
    pub version: ServerVersion,
}

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Its protocol.
    pub protocol: u32,
    /// Its version.
    pub agent_version: String,
    /// Its name in specs.
    pub host: HostName,
    /// What its instances announce and listen on.
    pub address: IpAddr,
    /// Drawn once for a base directory.
    pub identity: Uuid,
    /// Of this boot of the kernel.
    pub boot_id: String,
    /// What it offers.
    pub ports: PortSet,
    /// Where its directories are.
    pub base_dir: String,
    /// Failure domains, when said.
    pub rack: Option<String>,
    /// Failure domains, when said.
    pub zone: Option<String>,
    /// The highest term obeyed.
    pub term: Term,
    /// The agent process.
    pub pid: i32,
    /// The generation on its disk; 0 before the first.
    pub generation: Generation,
    /// The clusters in it, by name.
    pub held: Vec<Held>,
}

/// A cluster that a host has instances of, as it was told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Its name.
    pub cluster: ClusterName,
    /// Which of those that had this name.
    pub cluster_id: ClusterId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl From<&ClusterAssignment> for Held {
    fn from(told: &ClusterAssignment) -> Self {
        Self { cluster: told.cluster.clone(), cluster_id: told.cluster_id, incarnation: told.incarnation }
    }
}

/// How an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstanceState {
    /// No directory, no process.
    Absent,
    /// Files written, nothing started.
    Prepared,
    /// There, not answering yet.
    Starting,
    /// Answers.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped, as an operator asked.
    Stopped,
    /// Gone; will be started again when the reason says.
    Down,
    /// Cannot go on by itself; the reason says why.
    Blocked,
    /// May or may not be ours; left alone.
    Unknown,
}

impl InstanceState {
    /// As people and scripts read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Prepared => "prepared",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Down => "down",
            Self::Blocked => "blocked",
            Self::Unknown => "unknown",
        }
    }
}

/// What one instance says of itself and of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its own id.
    pub node_id: NodeId,
    /// What it is.
    pub role: Role,
    /// `cluster_state:ok`.
    pub cluster_ok: bool,
    /// Nodes that it knows, itself included.
    pub known_nodes: u32,
    /// Replicas: in sync and connected to their master.
    pub link_up: bool,
    /// Masters: replicas that are online.
    pub online_replicas: u32,
    /// Of its topology in canonical form.
    pub digest: Sha256,
    /// CLUSTER NODES, only where the digest is not the assigned one, or when asked for.
    pub nodes_text: Option<String>,
    /// Entries that are no healthy member.
    pub troubles: Vec<String>,
    /// Keys in its database.
    pub keys: u64,
    /// Its configEpoch.
    pub config_epoch: u64,
}

/// Asks for the right to set the directory of a former life aside, in which nothing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Drawn by the agent.
    pub nonce: Uuid,
    /// The node that lives in the directory, as its stamp says.
    pub node_id: NodeId,
    /// The directory's life, as its stamp says.
    pub life: Life,
}

/// The live state of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Its host.
    pub host: HostName,
    /// Its address.
    pub address: IpAddr,
    /// Its client port.
    pub port: Port,
    /// Its cluster.
    pub cluster: ClusterName,
    /// How it is doing.
    pub state: InstanceState,
    /// Why it is not what it should be; empty when all is well.
    pub reason: String,
    /// Its process.
    pub pid: Option<i32>,
    /// What it answered last.
    pub view: Option<NodeView>,
    /// How old that is.
    pub view_age: Duration,
    /// How often this agent process has started it.
    pub starts: u32,
    /// The directory's life.
    pub life: Life,
    /// What the directory is stamped with.
    pub node_id: NodeId,
    /// How it came to be so, and what comes next.
    pub account: Account,
    /// The run that its process was started for; 0 when there is none.
    pub run: u64,
    /// What it waits for a permit for.
    pub asks: Option<Ask>,
}

impl NodeView {
    /// Equal but for the text of CLUSTER NODES, whose ping times differ at every look.
    pub fn same_but_text(&self, other: &Self) -> bool {
        Self { nodes_text: other.nodes_text.clone(), ..self.clone() } == *other
    }
}

impl InstanceStatus {
    /// `server1:7000`, as people call it.
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// `: why`, to stand behind a word; nothing when all is well.
    pub fn reason_behind(&self) -> String {
        if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) }
    }

    /// Equal but for ages and ping times: nothing that is worth a new report has changed.
    pub fn same_but_age(&self, other: &Self) -> bool {
        let same_view = match (&self.view, &other.view) {
            (Some(one), Some(two)) => one.same_but_text(two),
            (one, two) => one.is_none() && two.is_none(),
        };
        let (view, account) = (other.view.clone(), other.account.clone());
        same_view
            && self.account.same_but_age(&account)
            && Self { view_age: other.view_age, view, account, ..self.clone() } == *other
    }
}

/// What lies where an instance's directory would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortUse {
    /// Nothing, or an empty directory.
    Free,
    /// Our stamp, for that cluster.
    Stamped(ClusterName),
    /// Something without a stamp. Never touched.
    Foreign,
    /// It cannot be read.
    Unreadable,
}

/// The whole state of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The highest term obeyed.
    pub term: Term,
    /// Reached the agent.
    pub received: Generation,
    /// Was acceptable and is on disk.
    pub accepted: Generation,
    /// Is fully true.
    pub converged: Generation,
    /// Why `received` was not accepted.
    pub refusal: Option<String>,
    /// By port.
    pub instances: Vec<InstanceStatus>,
    /// Offered ports and their use.
    pub ports: Vec<(Port, PortUse)>,
    /// What it would start, or why nothing.
    pub server: Result<Server, String>,
}

impl Report {
    /// Equal but for ages.
    pub fn same_but_age(&self, other: &Self) -> bool {
        let instances = self.instances.len() == other.instances.len()
            && self.instances.iter().zip(&other.instances).all(|(one, two)| one.same_but_age(two));
        instances
            && (self.term, self.received, self.accepted, self.converged, &self.refusal, &self.ports, &self.server)
                == (
                    other.term,
                    other.received,
                    other.accepted,
                    other.converged,
                    &other.refusal,
                    &other.ports,
                    &other.server,
                )
    }
}
